-- Note that a late batch of receipts is read once more, or which of its events is about to be: whoever does it may die of it.
-- needs: base
-- ARGV: batch; how long that is kept, s; the position of the event, or '' for the whole batch.
-- Returns how often the batch was read late, this time included, or 0.
-- Runs where memory is full: a receipt that waits for room would keep a text in doubt until it is sent again.
local notes, done = P .. 'rxt', 0
if ARGV[3] == '' then done = call('HINCRBY', notes, ARGV[1], 1) else call('HSET', notes, ARGV[1] .. '@', ARGV[3]) end
call('EXPIRE', notes, ARGV[2])
return done
