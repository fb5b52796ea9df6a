-- Read the figures of a window at one instant (see lib/stats.lua), so that a minute that is being rolled up counts once.
-- needs: base
-- ARGV: "all" | "minutes" | "days", how many of them (the running one included).
-- Returns {now us, flat list, flat list …}, to be added up.
local what, many = ARGV[1], tonumber(ARGV[2])
local minute, out = math.floor(NOW / 60000000), { int(NOW) }
local function take(name) out[#out + 1] = call('HGETALL', P .. 'st:' .. name) end
if what == 'minutes' then
  for m = minute - many + 1, minute do take(int(m)) end
  return out
end
local today = math.floor(minute / 1440)
if what == 'all' then take('all') end
for day = today - many + 1, today do
  if what == 'days' then take('d' .. int(day)) end
end
for _, open in ipairs(call('ZRANGE', P .. 'st:open', 0, -1)) do
  if what == 'all' or math.floor(tonumber(open) / 1440) > today - many then take(open) end
end
return out
