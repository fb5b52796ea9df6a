-- The state of reading the provider's list of opt-outs: one process at a time holds it, and only the holder writes it.
-- needs: base
-- ARGV: token, "take" | "keep" | "leave" | "look", lease ms, then pairs of a field and its value ('' removes it).
-- Returns {} where another holds it, else {now us, flat list of the state's fields}.
-- Invariant: who was paused for longer than the lease changes nothing: its place in the list may be one of an older list.
local token, what, lease = ARGV[1], ARGV[2], P .. 'os:lease'
if what == 'take' then call('SET', lease, token, 'NX', 'PX', ARGV[3]) end
if what ~= 'look' then
  if call('GET', lease) ~= token then return {} end
  call('PEXPIRE', lease, ARGV[3])
  for i = 4, #ARGV, 2 do
    if ARGV[i + 1] == '' then call('HDEL', P .. 'os', ARGV[i]) else call('HSET', P .. 'os', ARGV[i], ARGV[i + 1]) end
  end
end
if what == 'leave' then call('DEL', lease) end
return { int(NOW), call('HGETALL', P .. 'os') }
