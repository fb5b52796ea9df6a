-- Pause, drain, resume or re-rate a lane at run time. Kept apart from the configuration, and outlives deploys.
-- Drained: what was submitted until now leaves, what comes later waits until it is resumed.
-- needs: base lanes
-- ARGV: lane, "pause" | "drain" | "resume" | "rate", reason or us a unit ("configured": what the configuration says).   Returns 1, or 0 if there is no such lane.
local lane, what, value = ARGV[1], ARGV[2], ARGV[3]
local lk = P .. 'lane:' .. lane
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
  -- only its own rest: what holds the profile or the account back protects other senders too, and ends by itself
  call('HDEL', P .. 'b:' .. (words(call('HGET', lk, 'bk'))[1] or ''), 'hold', 'why', 'sp', 'spw', 'fs', 'fe')
  for class = 0, 2 do
    if call('ZCARD', P .. 'q:' .. lane .. ':' .. class) > 0 then arm(lane, class) end
  end
else
  local name = words(call('HGET', lk, 'bk'))[1]
  local own = P .. 'b:' .. name
  local t, tat = num(call('HGET', own, 't'), 0), num(call('HGET', own, 'tat'), 0)
  local new
  if value == 'configured' then
    new = num(call('HGET', own, 'tc'), t)
    call('HDEL', P .. 'rates', name)
  else
    new = math.max(1, tonumber(value))
    call('HSET', P .. 'rates', name, int(new))
  end
  call('HDEL', own, 'sp', 'spw') -- whoever sets a rate means that rate
  call('HSET', own, 't', int(new), 'tol', int(math.min(math.max(10000, new), 1000000)),
    'tat', int(math.min(tat, NOW + math.max(0, tat - NOW) * new / math.max(t, 1))))
  local at = call('HGET', lk, 'at')
  if at == 'due' then call('ZADD', P .. 'due', int(NOW), 'l:' .. lane) end
end
ring('send')
return 1
