-- Take callbacks that are due, for a process that has room for some. Any process may, at any time: what it takes is its own
-- until the lease ends, and due again then.
-- needs: base
-- ARGV: room, most in flight to one endpoint, lease us, then pairs: endpoint, how many of it are in flight here.
-- Returns a flat list: endpoint, item, lease until us, tries before ...
-- Invariants: an item is taken by one process at a time; of an endpoint that fails (FAILS in a row) one item goes, as a probe,
-- once its rest is over; what was owed for KEPT to an endpoint that failed all the while is given up.
local FAILS, KEPT, DEAD_MOST = 5, 86400000000, 100000
local room, each, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), NOW + tonumber(ARGV[3])
local here, out = {}, {}
for i = 4, #ARGV, 2 do here[ARGV[i]] = tonumber(ARGV[i + 1]) end

local function give_up_the_old(endpoint)
  local owed = P .. 'cb:' .. endpoint
  for _, item in ipairs(call('ZRANGEBYSCORE', owed, '-inf', int(NOW - KEPT), 'LIMIT', 0, 100)) do
    call('ZREM', owed, item)
    call('HDEL', P .. 'cbt:' .. endpoint, item)
    call('ZADD', P .. 'cbd', int(NOW), endpoint .. item)
    call('HSET', P .. 'cbw', endpoint .. item, 'endpoint_failing')
  end
end

local function claim(endpoint)
  local owed, breaker = P .. 'cb:' .. endpoint, P .. 'cbb:' .. endpoint
  local f = call('HMGET', breaker, 'until', 'fails')
  if num(f[1], 0) > NOW then return call('ZADD', P .. 'cb', f[1], endpoint) end
  local most = math.min(room, each - (here[endpoint] or 0))
  if most <= 0 then return end
  if num(f[2], 0) >= FAILS then
    give_up_the_old(endpoint)
    most = 1
    call('HSET', breaker, 'until', int(lease), 'probe', '1')
  end
  for _, item in ipairs(call('ZRANGEBYSCORE', owed, '-inf', int(NOW), 'LIMIT', 0, most)) do
    local tries = string.match(call('HGET', P .. 'cbt:' .. endpoint, item) or '0', '^%d+')
    call('ZADD', owed, int(lease), item)
    for _, v in ipairs({ endpoint, item, int(lease), tries }) do out[#out + 1] = v end
    room = room - 1
  end
  local next = call('ZRANGE', owed, 0, 0, 'WITHSCORES')
  if #next == 0 then return call('ZREM', P .. 'cb', endpoint) end
  call('ZADD', P .. 'cb', int(tonumber(next[2])), endpoint)
end

for _, endpoint in ipairs(call('ZRANGEBYSCORE', P .. 'cb', '-inf', int(NOW), 'LIMIT', 0, 100)) do
  if room <= 0 then break end
  if not safely('callback', endpoint, claim, endpoint) then call('ZADD', P .. 'cb', int(NOW + 60000000), endpoint) end
end
-- dead ones are listed as long as the records that they tell of
local old = call('ZRANGEBYSCORE', P .. 'cbd', '-inf', int(NOW - setting('retention_s', 604800) * 1000000), 'LIMIT', 0, 100)
local over = call('ZCARD', P .. 'cbd') - DEAD_MOST
if over > 0 then
  for _, key in ipairs(call('ZRANGE', P .. 'cbd', 0, math.min(over, 100) - 1)) do old[#old + 1] = key end
end
for _, key in ipairs(old) do
  call('ZREM', P .. 'cbd', key)
  call('HDEL', P .. 'cbw', key)
end
return out
