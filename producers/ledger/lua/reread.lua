-- Note that a late batch of receipts is read once more, or which of its events is about to be: whoever does it may die of it.
-- needs: base tries
-- ARGV: batch; how long that is kept, s; the position of the event, or '' for the whole batch; then the name of this try.
-- Returns how often the batch was read late, this time included, or 0. Idempotent, the whole batch by the try's name.
-- Runs where memory is full: a receipt that waits for room would keep a text in doubt until it is sent again.
local notes, done = P .. 'rxt', 0
if ARGV[3] == '' then done = count_try(notes, ARGV[1], ARGV[4]) else call('HSET', notes, ARGV[1] .. '@', ARGV[3]) end
call('EXPIRE', notes, ARGV[2])
return done
