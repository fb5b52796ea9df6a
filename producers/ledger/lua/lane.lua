-- Pause, drain, resume or re-rate a lane at run time. Kept apart from the configuration, and outlives deploys.
-- Drained: what was submitted until now leaves, what comes later waits until it is resumed.
-- needs: base lanes buckets
-- ARGV: lane, "pause" | "drain" | "resume" | "rate", reason, or for resume "shared" or '', or us a unit ("configured": what
--   the configuration says).   Returns 1, or 0 if there is no such lane.
local lane, what, value = ARGV[1], ARGV[2], ARGV[3]
local lk = P .. 'lane:' .. lane

-- A pace from now on, in us a unit; what slowed it down is over. A slowed one may have been a minute ahead.
local function set_interval(own, new)
  local f = call('HMGET', own, 't', 'tat', 'sp')
  local was = num(f[1], new) / speed_of(f[3])
  call('HDEL', own, 'sp', 'spw')
  call('HSET', own, 't', int(new), 'tol', int(math.min(math.max(10000, new), 1000000)), 'tat', int(rescaled(num(f[2], 0), was, new)))
end

if call('HGET', lk, 'bk') == false then return 0 end
if what == 'pause' then
  call('HSET', lk, 'ps', value ~= '' and value or 'operator')
elseif what == 'drain' then
  if call('HEXISTS', lk, 'dr') == 0 then -- a repeated call lets nobody else in
    local fields = { 'dr', int(NOW), 'drw', value ~= '' and value or 'operator' }
    for class = 0, 2 do
      local last = call('ZRANGE', P .. 'q:' .. lane .. ':' .. class, -1, -1, 'WITHSCORES')[2]
      fields[#fields + 1] = 'd' .. class
      fields[#fields + 1] = int(math.max(num(last, 0), num(call('HGET', lk, 't' .. class), 0)))
    end
    call('HSET', lk, unpack(fields))
  end
elseif what == 'resume' then
  call('HDEL', lk, 'ps', 'dr', 'drw', 'd0', 'd1', 'd2')
  -- By default only its own rest: what holds the profile or the account back protects other senders too, and ends by itself.
  for i, name in ipairs(words(call('HGET', lk, 'bk'))) do
    if i == 1 or value == 'shared' then
      local b = P .. 'b:' .. name
      local ended = call('HDEL', b, 'hold', 'why', 'fs', 'fe', 'probe') > 0
      local t = call('HGET', b, 't')
      if t then set_interval(b, tonumber(t)) end
      if ended and i > 1 then open_bucket(name) end
    end
  end
  for class = 0, 2 do
    if call('ZCARD', P .. 'q:' .. lane .. ':' .. class) > 0 then arm(lane, class) end
  end
else
  local name = words(call('HGET', lk, 'bk'))[1]
  local own = P .. 'b:' .. name
  local new
  if value == 'configured' then
    new = num(call('HGET', own, 'tc'), num(call('HGET', own, 't'), 1000000))
    call('HDEL', P .. 'rates', name)
  else
    new = math.max(1, tonumber(value))
    call('HSET', P .. 'rates', name, int(new))
  end
  set_interval(own, new)
  local at = call('HGET', lk, 'at')
  if at == 'due' then call('ZADD', P .. 'due', int(NOW), 'l:' .. lane) end
end
ring('send')
return 1
