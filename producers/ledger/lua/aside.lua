-- Keep an event that we could not use, for a person to look at, also where memory is full.
-- needs: base
-- ARGV: how many are kept, at most (about); why; the event.
-- Returns 1. Repeated, it is kept twice, which a person sees and nothing else does.
call('XADD', P .. 'odd', 'MAXLEN', '~', ARGV[1], '*', 'why', ARGV[2], 'event', ARGV[3])
return 1
