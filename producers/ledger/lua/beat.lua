-- A worker process says that it lives.
-- needs: base
-- ARGV: process, "first" | "again" | "last".   Returns "ok", or "lapsed" when it was taken for dead: go on under a new id.
local alive = P .. 'alive:' .. ARGV[1]
local limit = math.floor(setting('liveness_us', 10000000) / 1000)
if ARGV[2] == 'last' then
  call('DEL', alive)
  if call('HLEN', P .. 'held:' .. ARGV[1]) == 0 then call('SREM', P .. 'procs', ARGV[1]) end
  return 'ok'
end
if ARGV[2] == 'again' and call('EXISTS', alive) == 0 then return 'lapsed' end
call('SADD', P .. 'procs', ARGV[1])
call('SET', alive, int(NOW), 'PX', limit)
return 'ok'
