-- Publish the configuration that scripts and producers read.
-- needs: base lanes buckets
-- ARGV: publication (JSON), then for each daily cap: bucket, "midnights as us, blank separated"; for the default time zone:
--   "tz:<zone>", its table as in zones.lua.
-- Returns "published", "same" or "older" (a later release has published: ours is ignored).
-- The greater release wins; between equals the one that started last.
-- Everything is read and checked before the first write: half a configuration would stop the service.
local body = ARGV[1]
local new = cjson.decode(body)
local cfg = P .. 'cfg'
local held = call('HMGET', cfg, 'release', 'digest')
if held[1] and tonumber(held[1]) > new.release then return 'older' end
local same = held[2] == new.digest
local t = new.timing
local fields = { 'release', int(new.release), 'digest', new.digest, 'json', body, 'at', int(NOW), 'receipts', new.receipts,
  'retention_s', int(new.storage.retention_s), 'content_kept_s', int(new.storage.content_kept_s), 'events', int(new.storage.events) }
if new.storage.sticky_s then fields[#fields + 1], fields[#fields + 2] = 'sticky_s', int(new.storage.sticky_s) end
if (new.opt_outs_endpoint or '') ~= '' then fields[#fields + 1], fields[#fields + 2] = 'opt_outs_cb', new.opt_outs_endpoint end
if new.inbound then
  fields[#fields + 1], fields[#fields + 2] = 'replies_s', int(new.inbound.replies_s)
  if new.inbound.actor then fields[#fields + 1], fields[#fields + 2] = 'inbound', new.inbound.actor end
end
for _, name in ipairs({ 'grace_us', 'grace_urgent_us', 'liveness_us', 'poll_after_us', 'silent_after_us', 'max_tries' }) do
  fields[#fields + 1], fields[#fields + 2] = name, int(t[name])
end
if new.storage.every_event then fields[#fields + 1], fields[#fields + 2] = 'every', '1' end
for jt, us in pairs(t.job_grace_us or {}) do fields[#fields + 1], fields[#fields + 2] = 'grace:' .. jt, int(us) end
for _, jt in ipairs(new.transactional or {}) do fields[#fields + 1], fields[#fields + 2] = 'transactional:' .. jt, '1' end
for _, jt in ipairs(t.give_up or {}) do fields[#fields + 1], fields[#fields + 2] = 'give_up:' .. jt, '1' end
local ruled = {}
for jt, rule in pairs(new.rules or {}) do
  ruled[#ruled + 1] = jt
  fields[#fields + 1], fields[#fields + 2] = 'rules:' .. jt, rule
end
fields[#fields + 1], fields[#fields + 2] = 'ruled', table.concat(ruled, ' ')
if new.timezone then fields[#fields + 1], fields[#fields + 2] = 'timezone', new.timezone end
local rows = {} -- lane -> the fields of its hash
for name, l in pairs(new.lanes) do
  rows[name] = { 'ok', '1', 'bk', table.concat(l.buckets, ' '), 'sh', int(l.share), 'scp', table.concat(l.scopes, ' '), 'sd', l.sender,
    'ch', l.channel or '' }
end

local resets = {}
for i = 2, #ARGV, 2 do
  local zone = string.match(ARGV[i], '^tz:(.+)$')
  if zone then call('HSET', P .. 'tz', zone, ARGV[i + 1]) else resets[ARGV[i]] = ARGV[i + 1] end
end

local function set_pace(name, b)
  local key = P .. 'b:' .. name
  local interval = math.max(1, num(call('HGET', P .. 'rates', name), b.t_us))
  local was = call('HMGET', key, 't', 'tat', 'sp')
  if was[1] and was[2] and tonumber(was[1]) ~= interval then
    local speed = speed_of(was[3])
    call('HSET', key, 'tat', int(rescaled(tonumber(was[2]), was[1] / speed, interval / speed)))
  end
  call('HDEL', key, 'gate')
  call('HSET', key, 't', int(interval), 'tc', int(b.t_us), 'tol', int(math.min(math.max(10000, interval), 1000000)))
  -- who waits here was told to come back at the old pace
  if string.sub(name, 1, 2) ~= 's:' and call('EXISTS', P .. 'w:' .. name) == 1 then call('ZADD', P .. 'due', int(NOW), 'b:' .. name) end
end

-- Who waits for a cap may go on when it is raised. A reset that is none of its midnights (the brand has moved to another
-- zone) gives way to the next of them, else one day would have two caps.
local function set_cap(name, b)
  local key = P .. 'b:' .. name
  local was = call('HMGET', key, 'cap', 'reset')
  local reset, known, coming = num(was[2], 0), false, nil
  for _, at in ipairs(words(resets[name])) do
    known = known or tonumber(at) == reset
    if not coming and tonumber(at) > NOW then coming = at end
  end
  call('HSET', key, 'cap', int(b.cap), 'reserve', tostring(b.reserve or 0), 'resets', resets[name] or '')
  if coming and not known and reset > NOW then call('HSET', key, 'reset', coming) end
  if b.cap > num(was[1], b.cap) then open_bucket(name) end
end

-- A lane that waits at a bucket it no longer draws on would be served at a foreign pace, or never.
local function leave_foreign(name, draws)
  local at = call('HGET', P .. 'lane:' .. name, 'at')
  if not at or at == 'due' or at == '' then return at end
  for _, bucket in ipairs(draws) do
    if bucket == at then return at end
  end
  call('ZREM', P .. 'w:' .. at, 'l:' .. name)
  call('HDEL', P .. 'lane:' .. name, 'at')
end

for name, b in pairs(new.buckets) do
  if b.gate then
    call('HDEL', P .. 'b:' .. name, 't', 'tc', 'tat', 'tol', 'sp', 'spw')
    call('HSET', P .. 'b:' .. name, 'gate', '1')
  elseif b.cap then
    set_cap(name, b)
  elseif not same then
    set_pace(name, b)
  end
end
if not same then
  for _, lane in ipairs(call('SMEMBERS', P .. 'lanes')) do
    if not new.lanes[lane] then call('HDEL', P .. 'lane:' .. lane, 'ok') end -- its sender is gone: held, and shown
  end
end
for lane, l in pairs(new.lanes) do
  if not same then
    call('SADD', P .. 'lanes', lane)
    call('HSET', P .. 'lane:' .. lane, unpack(rows[lane]))
  end
  if not leave_foreign(lane, l.buckets) or not same then
    for class = 0, 2 do
      if call('ZCARD', P .. 'q:' .. lane .. ':' .. class) > 0 then arm(lane, class) end
    end
  end
end
if same then
  call('HSET', cfg, 'release', int(new.release))
  return 'same'
end
call('DEL', cfg)
for i = 1, #fields, 1000 do call('HSET', cfg, unpack(fields, i, math.min(i + 999, #fields))) end
return 'published'
