-- Buckets: what a lane draws on. A pace (GCRA: one unit every t us, tat = when the next is free) or a daily cap.
-- A slot is charged to every pace when it is granted. A cap counts what is taken, so slots that lapse cost nothing of the day.
-- One that was never published counts as one unit a second: slow and seen, never unlimited.
local buckets = {}

local function bucket(name)
  local b = buckets[name]
  if b then return b end
  local key = P .. 'b:' .. name
  local f = call('HMGET', key, 't', 'tat', 'hold', 'tol', 'cap', 'used', 'reset', 'resets', 'reserve')
  b = { name = name, key = key, t = math.max(1, num(f[1], 1000000)), tat = num(f[2], 0), hold = num(f[3], 0), tol = num(f[4], 1000000),
    cap = num(f[5], nil), used = num(f[6], 0), reset = num(f[7], 0) }
  if b.cap then
    b.bulk_cap = b.cap * (1 - num(f[9], 0))
    if NOW >= b.reset then -- the midnights are published ahead, for scripts know no time zones
      b.used, b.reset = 0, NOW + 86400000000
      for _, at in ipairs(words(f[8])) do
        if tonumber(at) > NOW then
          b.reset = tonumber(at)
          break
        end
      end
      call('HSET', key, 'used', 0, 'reset', int(b.reset))
    end
  end
  buckets[name] = b
  return b
end

-- When the next unit of this bucket is free.
local function free_at(b)
  if b.cap then return math.max(b.hold, b.used >= b.cap and b.reset or 0) end
  return math.max(b.tat, b.hold)
end

local function charge_pace(b, from, units)
  b.tat, b.charged = from + units * b.t, true
end

-- What was charged is written once a call, however many slots it took. A script that charges says this last.
local function settle_buckets()
  for _, b in pairs(buckets) do
    if b.charged then call('HSET', b.key, 'tat', int(b.tat)) end
  end
end
