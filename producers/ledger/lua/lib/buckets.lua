-- Buckets: what a lane draws on, of three kinds.
--   a pace: GCRA, one unit every t us, tat = when the next is free; charged when a slot is granted;
--   a daily cap (d:...): counts what is taken, so slots that lapse cost nothing of the day;
--   a gate: an account or profile without a limit of its own, which only rests when it is held.
-- Lanes take turns at a pace; a cap or gate that opens lets all go at once.
-- One that was never published counts as one unit a second: slow and seen, never unlimited.
-- Field "sp" is "<millionths of its rate>:<since us>" after the provider slowed it down: it grows back by a tenth a minute.
-- Field "probe" is there while nothing clear comes back: when the next single request may ask.
local buckets = {}
local MINUTE = 60000000

-- The share of its rate that a bucket may use now, 1 when nothing slows it.
local function speed_of(sp)
  if not sp then return 1 end
  local share, since = string.match(sp, '^(%d+):(%d+)$')
  return math.min(1, share / 1000000 + 0.1 * math.max(0, math.floor((NOW - since) / MINUTE)))
end

local function read_cap(b)
  local f = call('HMGET', b.key, 'cap', 'used', 'reset', 'resets', 'reserve', 'hold')
  b.cap = num(f[1], nil)
  if not b.cap then return end
  b.used, b.reset, b.hold = num(f[2], 0), num(f[3], 0), num(f[6], 0)
  b.bulk_cap = b.cap * (1 - num(f[5], 0))
  if NOW >= b.reset then -- the midnights are published ahead, for scripts know no time zones
    b.used, b.reset = 0, NOW + 86400000000
    for _, at in ipairs(words(f[4])) do
      if tonumber(at) > NOW then
        b.reset = tonumber(at)
        break
      end
    end
    call('HSET', b.key, 'used', 0, 'reset', int(b.reset))
  end
end

local function bucket(name)
  local b = buckets[name]
  if b then return b end
  b = { name = name, key = P .. 'b:' .. name, t = 1000000, tat = 0, tol = 1000000, hold = 0 }
  buckets[name] = b
  if string.sub(name, 1, 2) == 'd:' then read_cap(b) end
  if b.cap then return b end
  local f = call('HMGET', b.key, 't', 'tat', 'hold', 'tol', 'gate', 'sp', 'probe')
  b.gate = f[5] == '1'
  b.paced = not b.gate
  b.t, b.tat = math.max(1, num(f[1], 1000000)), num(f[2], 0)
  b.probes = f[7] and true or false
  b.hold, b.tol = math.max(num(f[3], 0), num(f[7], 0)), num(f[4], 1000000)
  if f[6] then
    local speed = speed_of(f[6])
    b.t = math.ceil(b.t / speed)
    if speed >= 1 then call('HDEL', b.key, 'sp', 'spw') end
  end
  return b
end

-- When the next unit of this bucket is free.
local function free_at(b)
  if b.cap then return math.max(b.hold, b.used >= b.cap and b.reset or 0) end
  if b.gate then return b.hold end
  return math.max(b.tat, b.hold)
end

local function charge_pace(b, from, units)
  b.tat, b.changed = from + units * b.t, true
end

-- What was charged is written once a call, however many slots it took. A script that charges says this last.
local function settle_buckets()
  for _, b in pairs(buckets) do
    if b.changed then call('HSET', b.key, 'tat', int(b.tat)) end
    if b.turns then call('HINCRBY', b.key, 'wt', b.turns) end
  end
end
