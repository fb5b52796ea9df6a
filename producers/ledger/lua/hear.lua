-- Keep a batch of receipts before the provider is answered. Applied later by `receipt`; until then it holds back `heard`.
-- needs: base
-- ARGV: batch id, body (JSON list).   Returns now us. Idempotent by batch id.
local batch = ARGV[1]
if call('SET', P .. 'rx:' .. batch, ARGV[2], 'NX') then
  call('ZADD', P .. 'rx', int(NOW), batch)
  call('ZADD', P .. 'timers', int(NOW + 10000000), 'r' .. batch)
end
return int(NOW)
