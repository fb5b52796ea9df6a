-- Stop what has not left yet. Waiting messages end cancelled; what is being sent or in doubt gets no further try.
-- needs: base states
-- ARGV: id, index to start at, how many to look at.
-- Returns {} if there is no such notification, else {stopped, next index or -1 when done, asked back from the provider}.
-- Idempotent: what is cancelled stays so and is not counted again.
local id, from, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = P .. 'n:' .. id
local stopped, asked_back = 0, 0

local function stop(mid)
  local rec = record(mid)
  if not rec.s then return end
  if rec.fb then drop_steps(mid, rec) end
  for number = 2, num(rec.nl, 1) do stop(leg_id(mid, number)) end
  if rec.so then
    provider.call_off(mid, rec, 'cancelled')
    if rec.wd and string.sub(rec.wd, 1, 1) ~= '!' and OPEN[rec.s] and not WAITING[rec.s] then asked_back = asked_back + 1 end
  end
  if WAITING[rec.s] then
    if not rec.mb then stopped = stopped + 1 end
    finish_as(mid, rec, 'C', 'cancelled')
  elseif rec.s == 'S' or rec.s == 'U' then
    call('HSET', mkey(mid), 'cx', '1')
  end
end

if call('EXISTS', key) == 0 then
  if call('EXISTS', mkey(id .. '-0')) == 0 then return {} end
  stop(id .. '-0')
  return { stopped, -1, asked_back }
end

local f = call('HMGET', key, 'ex', 'tot', 'cx')
local ex, total = tonumber(f[1]), tonumber(f[2])
if not f[3] then -- at once for all that is not expanded yet
  call('HSET', key, 'cx', '1', 'cxa', int(NOW))
  call('ZREM', P .. 'timers', 'n' .. id)
  if total > ex then
    stopped = stopped + total - ex
    count(id, 'N', 'C', total - ex)
  end
end
local to = math.min(from + most, ex)
for i = from, to - 1 do
  local mid = id .. '-' .. string.format('%d', i)
  safely('cancel', mid, stop, mid)
end
settle_counts()
return { stopped, to >= ex and -1 or to, asked_back }
