-- Put what expand rendered into lanes or timers, once: a repeated or overtaken call changes nothing.
-- needs: base lanes opt_outs states
-- ARGV: id, cursor ('' for a lone message), content shared by all of the chunk ('' for none), then a JSON object for each
--   recipient: {to, lane, c = content unless shared, w = "release us" or nil, r = reason for a rejection, e = its title}
-- Returns {"passed"} | {"done", n queued, n ended} | {"more", n queued, n ended, next cursor}.
-- Invariants: the cursor moves by one with each chunk; an opted-out recipient never enters a lane; a late one expires;
--   shared content never changes once a message of the notification has it.
local id, cursor, shared = ARGV[1], ARGV[2], ARGV[3]
local queued, ended = 0, 0
local armed = {}
local scopes_of = {}

local function scopes(lane)
  if not scopes_of[lane] then scopes_of[lane] = words(call('HGET', P .. 'lane:' .. lane, 'scp')) end
  return scopes_of[lane]
end

-- The members of a group that have opted out, as letters; nil when nobody may be texted.
local function members(rec, lane)
  local letters, any = '', false
  for number in string.gmatch(rec.to, '[^,]+') do
    local out = opted_out(scopes(lane), number)
    letters = letters .. (out and 'O' or 'A')
    any = any or not out
  end
  return any and letters or nil
end

local function place(mid, rec, item)
  if item.r then
    ended = ended + 1
    return finish_as(mid, rec, 'R', string.lower(item.r), add_error(rec, 'x', item.r, item.e))
  end
  if NOW > num(rec.vu, 0) then
    ended = ended + 1
    return finish_as(mid, rec, 'E', 'validity')
  end
  rec.ln = item.lane
  local more = { 'ln', item.lane }
  if rec.gr then
    rec.gm = members(rec, item.lane)
    more[3], more[4] = 'gm', rec.gm or string.rep('O', select(2, string.gsub(rec.to, '[^,]+', '')))
  end
  if (rec.gr and not rec.gm) or (not rec.gr and opted_out(scopes(item.lane), rec.to)) then
    ended = ended + 1
    return finish_as(mid, rec, 'O', 'opted_out', more)
  end
  queued = queued + 1
  local release = item.w and tonumber(item.w) or num(rec.sa, 0)
  if release > NOW then return move(mid, rec, 'W', 'send_at', release, more) end
  put(item.lane, tonumber(rec.k), flow_of(mid, rec), mid)
  armed[item.lane] = tonumber(rec.k)
  return move(mid, rec, 'Q', nil, nil, more)
end

local function arm_all()
  for lane, class in pairs(armed) do arm(lane, class) end
end

if cursor == '' then
  local mid = id .. '-0'
  local rec = record(mid)
  if rec.s ~= 'N' then return { 'passed' } end
  local item = cjson.decode(ARGV[4])
  if item.c then
    local fields = {}
    drop_content(mid, rec, 0)
    add_content(fields, mid, item.c)
    for i = 1, #fields, 2 do rec[fields[i]] = fields[i + 1] end
    call('HSET', mkey(mid), unpack(fields))
  end
  place(mid, rec, item)
  arm_all()
  call('ZREM', P .. 'timers', 'n' .. id)
  return { 'done', queued, ended }
end

local key = P .. 'n:' .. id
local n = hash(key)
if n.cur ~= cursor or n.cx then return { 'passed' } end
local items = {}
for i = 4, #ARGV do items[i] = cjson.decode(ARGV[i]) end -- before the first write: an item that cannot be read moves nothing
if shared ~= '' and not n.sh then -- the first one stays, also when a chunk meets another release: a resend needs its bytes
  call('SET', P .. 't:' .. id, shared)
  call('HSET', key, 'sh', '1')
end
local index = tonumber(n.ex)
call('LPOP', P .. 'r:' .. id)
call('HSET', key, 'cur', tonumber(cursor) + 1, 'ex', index + #ARGV - 3)
for i = 4, #ARGV do
  local item = items[i]
  local mid = id .. '-' .. string.format('%d', index + i - 4)
  local rec = { s = 'N', at = n.at, jt = n.jt, k = n.k, vu = n.vu, sa = n.sa, to = item.to, mn = '1', tl = 'N0' }
  local fields = { 'k', n.k, 'to', item.to, 'mn', '1' }
  if item.c then
    add_content(fields, mid, item.c)
    for j = 7, #fields, 2 do rec[fields[j]] = fields[j + 1] end
  end
  call('HSET', mkey(mid), unpack(fields))
  place(mid, rec, item)
end
arm_all()
if tonumber(cursor) + 1 >= tonumber(n.nch) then
  call('ZREM', P .. 'timers', 'n' .. id)
  call('DEL', P .. 'rq:' .. id, P .. 'r:' .. id)
  return { 'done', queued, ended }
end
call('ZADD', P .. 'timers', 'XX', NOW + 10000000, 'n' .. id)
return { 'more', queued, ended, tostring(tonumber(cursor) + 1) }
