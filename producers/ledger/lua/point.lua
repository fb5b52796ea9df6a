-- Enqueue the pointers that timers ask for, in Dramatiq's own layout, and ring for their queues; also when the server is full,
-- for these polls and expansions are what ends messages then.
-- needs: base
-- ARGV: for each pointer: queue, id, body.   Returns how many. A repeated call doubles pointers, which is harmless.
for i = 1, #ARGV, 3 do
  local queue = P .. 'd:' .. ARGV[i]
  call('HSET', queue .. '.msgs', ARGV[i + 1], ARGV[i + 2])
  call('RPUSH', queue, ARGV[i + 1])
  ring(ARGV[i])
end
return #ARGV / 3
