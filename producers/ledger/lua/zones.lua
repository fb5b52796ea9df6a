-- Tell what rules need of time zones: when each is how far from UTC, for some years.
-- needs: base
-- ARGV: pairs zone, "offset s;from s:offset s;..."; or "~<digest>", "=zone,zone" for a set of zones.
-- Returns 1. Idempotent.
if #ARGV > 0 then call('HSET', P .. 'tz', unpack(ARGV)) end
return 1
