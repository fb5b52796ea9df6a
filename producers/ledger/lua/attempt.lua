-- Count that a late chunk is about to be expanded once more: whoever does it may die of it, and then nobody else would know.
-- needs: base tries
-- ARGV: id, cursor ('' for a lone message), name of this try.
-- Returns how many times this chunk has been begun late, this one included, or 0 where there is nothing to expand.
-- Idempotent by the try's name. Invariants: only what waits to be expanded is counted; `admit` forgets the count.
local id, cursor = ARGV[1], ARGV[2]
local key = cursor == '' and mkey(id .. '-0') or P .. 'n:' .. id
local f = call('HMGET', key, 's', 'cur', 'cx')
if cursor == '' and f[1] ~= 'N' then return 0 end
if cursor ~= '' and (f[2] ~= cursor or f[3]) then return 0 end
return count_try(key, 'xt', ARGV[3])
