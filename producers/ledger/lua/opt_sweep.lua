-- Lift, or only count, what two complete lists of the provider no longer show.
-- needs: base states opt_outs
-- ARGV: "count" | "lift", number of the older of the two lists, its start us, start us of the newer one, then bucket names
--   (<scope>:<last four>).
-- Returns {how many, how many are of the provider's list at all}.
-- Invariants: only what a list has shown once, neither list shows, and was said before the older one began; an operator's
--   word, and what we read on our own, stays.
local lift, older, began, newer_began = ARGV[1] == 'lift', tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local gone, listed = 0, 0

local function look_at(scope, number, value)
  local at, list = string.match(value, '^o:(%d+):[wla]:[^:]*:(%d+)$')
  if not at then return end
  listed = listed + 1
  if tonumber(list) >= older or tonumber(at) >= began then return end
  gone = gone + 1
  if lift then set_opt(scope, number, false, newer_began, 'list', 'not listed', false) end
end

for i = 5, #ARGV do
  local scope = string.match(ARGV[i], '^(.*):')
  for number, value in pairs(hash(P .. 'o:' .. ARGV[i])) do
    safely('opt_sweep', masked(number), look_at, scope, number, value)
  end
end
return { gone, listed }
