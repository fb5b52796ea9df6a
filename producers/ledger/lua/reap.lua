-- Make uncertain what dead processes were sending: it may be out. Any worker may call it, each second.
-- needs: base lanes buckets opt_outs states rules recall legs
-- ARGV: the caller's process, at most how many messages.
-- Returns {ids of processes that are gone for good, number of messages that they held}.
-- Nobody reaped for 3 s (the server or everyone stalled): wait one liveness limit first, else the living are robbed.
local limit = tonumber(ARGV[2])
local reaper = P .. 'reaper'
local last = num(call('HGET', reaper, 'last'), 0)

-- The server's clock went back (a machine that is behind has taken over): what was granted, charged or due by the old clock
-- would stop every lane for as long. So slots lapse, no pace is further than one interval ahead, and every lane is looked at
-- anew; what has to wait longer says so again. Holds and timers keep their instants.
local function set_back()
  for _, lane in ipairs(call('SMEMBERS', P .. 'lanes')) do
    call('DEL', P .. 'g:' .. lane)
    for _, name in ipairs(words(call('HGET', P .. 'lane:' .. lane, 'bk'))) do
      local b = bucket(name)
      if b.paced and b.tat > NOW + b.t then b.tat, b.changed = NOW + b.t, true end
    end
  end
  settle_buckets()
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'due', '(' .. int(NOW), '+inf')) do
    call('ZADD', P .. 'due', int(NOW), member)
  end
  ring('send')
end

if last - NOW > 100000 then
  safely('clock', reaper, set_back)
  call('HSET', reaper, 'from', int(NOW + setting('liveness_us', 10000000)))
end
if NOW - last > 3000000 then call('HSET', reaper, 'from', int(NOW + setting('liveness_us', 10000000))) end
call('HSET', reaper, 'last', int(NOW))
if NOW < num(call('HGET', reaper, 'from'), 0) then return { {}, 0 } end

local function bury(mid, token)
  local rec = record(mid)
  if rec.s ~= 'S' or rec.tk ~= token then return false end
  lose_holder(mid, rec, 'died')
  return true
end

local gone, made = {}, 0
for _, process in ipairs(call('SMEMBERS', P .. 'procs')) do
  if call('EXISTS', P .. 'alive:' .. process) == 0 then
    local held = P .. 'held:' .. process
    local left = false
    for mid, token in pairs(hash(held)) do
      if made >= limit then
        left = true
        break
      end
      local ok, moved = safely('reap', mid, bury, mid, token)
      if moved then made = made + 1 end
      if not ok then look_again(mid) end
      call('HDEL', held, mid)
    end
    if not left then
      call('SREM', P .. 'procs', process)
      gone[#gone + 1] = process
    end
  end
end
settle_counts()
return { gone, made }
