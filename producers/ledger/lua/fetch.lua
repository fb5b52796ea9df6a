-- Fetch pointers from one of Dramatiq's queues, in its own layout: ids move from the list to what the process has not acknowledged.
-- needs: base
-- ARGV: queue, process, how many at most.
-- Returns their bodies, oldest first; nil for an id whose body is gone.
-- Not Dramatiq's own script, which begins with a write that a full server refuses: then nothing that was queued is ever done.
-- Not idempotent: the ids of a lost reply stay with the process, and its consumer gives them back.
local queue, process = P .. 'd:' .. ARGV[1], ARGV[2]
local ids = {}
for i = 1, tonumber(ARGV[3]) do
  local id = call('LPOP', queue)
  if not id then break end
  ids[i] = id
end
if #ids == 0 then return {} end
call('SADD', P .. 'd:__acks__.' .. process .. '.' .. ARGV[1], unpack(ids))
call('ZADD', P .. 'd:__heartbeats__', int(math.floor(NOW / 1000)), process) -- in Dramatiq's unit: the list of who ever fetched
return call('HMGET', queue .. '.msgs', unpack(ids))
