-- Write a notification, once however often it is repeated.
-- needs: base lanes states
-- ARGV: id, client, fingerprint, job type, class 0-2, valid for us, send at us (0: now), messages, group 0|1,
--       content (JSON), extras (JSON or ''), endpoint of its callbacks or '', then one recipient (or comma list of a group) if messages = 1,
--       else packed chunks of recipients.
-- Returns {"created"|"repeated"|"conflict", now us, messages}.
-- A lone message is its own notification record; many get n:<id>, and r:<id> holds the chunks until they are expanded.
local id, client, fp, jt, k = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local valid, send_at, total, group = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
local content, extras, endpoint = ARGV[10], ARGV[11], ARGV[12]
local first = id .. '-0'

local held = call('HGET', P .. 'n:' .. id, 'fp') or call('HGET', mkey(first), 'fp')
if held then return { held == fp and 'repeated' or 'conflict', int(NOW), total } end

local until_us = math.max(NOW, send_at) + valid
local fields = { 'at', int(NOW), 'jt', jt, 'k', k, 'cl', client, 'fp', fp, 'vu', int(until_us) }
if send_at > NOW then
  fields[#fields + 1] = 'sa'
  fields[#fields + 1] = int(send_at)
end
if endpoint ~= '' then
  fields[#fields + 1] = 'cb'
  fields[#fields + 1] = endpoint
end
if total == 1 then
  for _, v in ipairs({ 's', 'N', 'to', ARGV[13], 'tl', 'N0' }) do fields[#fields + 1] = v end
  if group then
    fields[#fields + 1] = 'gr'
    fields[#fields + 1] = '1'
  end
  add_content(fields, first, content)
  call('HSET', mkey(first), unpack(fields))
  watch_validity(first, until_us)
else
  for _, v in ipairs({ 'tot', total, 'cur', '0', 'nch', #ARGV - 12, 'ex', '0', 'op', total, 'c.N', total }) do
    fields[#fields + 1] = v
  end
  call('HSET', P .. 'n:' .. id, unpack(fields))
  call('SET', P .. 'rq:' .. id, content)
  for i = 13, #ARGV do call('RPUSH', P .. 'r:' .. id, ARGV[i]) end
  call('ZADD', P .. 'timers', int(until_us), 'e' .. id)
end
if extras ~= '' then call('SET', P .. 'x:' .. id, extras) end
call('ZADD', P .. 'timers', int(NOW + 10000000), 'n' .. id)
return { 'created', int(NOW), total }
