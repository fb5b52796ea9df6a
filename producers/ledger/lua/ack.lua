-- Say what became of pointers that were fetched from one of Dramatiq's queues, in its own layout.
-- needs: base
-- ARGV: queue, how many put aside are kept, then for each pointer: the process that fetched it, id, "done" | "back" | "aside".
-- Returns how many are put aside now.
-- Idempotent: only who removes an id from what is not acknowledged gives it back or puts it aside. Runs when memory is full, else
-- a consumer that must give something back stands still until there is room, and there is no room until it goes on.
local name, kept = ARGV[1], tonumber(ARGV[2])
local queue = P .. 'd:' .. name
local bodies, aside = queue .. '.msgs', queue .. '.XQ'

for i = 3, #ARGV, 3 do
  local acks, id, what = P .. 'd:__acks__.' .. ARGV[i] .. '.' .. name, ARGV[i + 1], ARGV[i + 2]
  local ours = call('SREM', acks, id) == 1
  if what == 'done' then
    call('HDEL', bodies, id)
  elseif ours then
    local body = call('HGET', bodies, id)
    if body and what == 'back' then
      call('RPUSH', queue, id)
    elseif body then
      call('ZADD', aside, int(math.floor(NOW / 1000)), id) -- in Dramatiq's unit, for its own tools
      call('HSET', aside .. '.msgs', id, body)
      call('HDEL', bodies, id)
    end
  end
end
local held = call('ZCARD', aside)
if held <= kept then return held end
local oldest = call('ZRANGE', aside, 0, math.min(held - kept, 1000) - 1)
call('ZREM', aside, unpack(oldest))
call('HDEL', aside .. '.msgs', unpack(oldest))
return held - #oldest
