-- Record what came of asking the provider for messages back, where it did not say that it cancelled them (that is a fact: receipt).
-- needs: base lanes opt_outs states rules facts
-- ARGV: a JSON object each: {m, o = late (it says that it is too late) | held (it refuses, and has not begun to send it) |
--   again (no clear answer), after = us until it is asked again}
-- Returns one word each: done, known (it is not asked back any more), poison.
-- Idempotent: what is late stays late.
local LAST_MINUTE = 60000000 -- in which it gives nothing back any more
local out = {}

local function settle_withdrawal(r)
  local rec = record(r.m)
  if not rec.s or not provider.is_wanted_back(rec) then return 'known' end
  if r.o == 'late' or (r.o == 'held' and num(rec.so) - NOW <= LAST_MINUTE) then
    provider.came_too_late(r.m, rec)
  else
    call('ZADD', P .. 'timers', int(NOW + num(r.after, 0)), r.m)
  end
  return 'done'
end

for i = 1, #ARGV do
  local ok, word = safely('withdraw', '', function() return settle_withdrawal(cjson.decode(ARGV[i])) end)
  out[i] = ok and word or 'poison'
end
settle_counts()
return out
