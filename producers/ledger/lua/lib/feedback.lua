-- Feedback: the provider or a carrier says that we are too fast, or gives no clear word at all.
-- Comes after lanes and buckets. What is said of an account, a profile, a brand or a campaign rests that bucket.
local PREFIX = { sender = 's:', campaign = 'c:', brand = 'd:', profile = 'p:', account = 'a:' }
local SLOWEST = 15625 -- a 64th, in millionths: a provider that refuses everything is still asked now and then
local PROBE = 5000000

-- The bucket of a lane that `scope` names; the sender's own where the lane draws on none of that kind.
local function bucket_of(names, scope)
  local prefix = PREFIX[scope]
  for _, name in ipairs(names) do
    if string.sub(name, 1, 2) == prefix then return name end
  end
  return names[1]
end

local function halve(b, why)
  local share = math.max(SLOWEST, speed_of(call('HGET', b, 'sp')) * 1000000 / 2)
  call('HSET', b, 'sp', string.format('%d:%s', share, int(NOW)), 'spw', why)
end

-- Rest what a lane draws on until a time, because of a message that was taken at `taken_at`.
-- What had left before the rest began tells nothing new, and prolongs it at most. What left after it, and meets the same
-- within a minute of its end, halves the rate: of the bucket that was named or, where that has none, of the sender.
local function slow_down(names, scope, until_us, why, taken_at)
  local name = bucket_of(names, scope)
  local b = P .. 'b:' .. name
  local f = call('HMGET', b, 'fs', 'fe', 'cap', 'gate')
  local began, ended = num(f[1], 0), num(f[2], 0)
  if taken_at > began then
    if ended > 0 and NOW - ended <= MINUTE and not f[3] then halve(f[4] and P .. 'b:' .. names[1] or b, why) end
    call('HSET', b, 'fs', int(NOW), 'fe', int(until_us))
  elseif until_us > ended then
    call('HSET', b, 'fe', int(until_us))
  end
  hold(name, until_us, why)
end

-- Nothing clear comes back any more: rest, and then let one request go each five seconds until one gets a clear answer.
local function probe(names, until_us)
  local b = P .. 'b:' .. bucket_of(names, 'account')
  if until_us > num(call('HGET', b, 'probe'), 0) then call('HSET', b, 'probe', int(until_us)) end
end

-- An answer was clear: what was being probed goes on at once.
local function answered(names)
  for _, name in ipairs(names) do
    if string.sub(name, 1, 2) == 'a:' and call('HDEL', P .. 'b:' .. name, 'probe') == 1 then open_bucket(name) end
  end
end
