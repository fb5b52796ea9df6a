-- Which senders these people last heard from, or wrote to; read only.
-- needs: base sticky
-- ARGV: people.   Returns for each the senders' names, newest first, blank separated; '' for nobody known.
local found = {}
for i, person in ipairs(ARGV) do found[i] = (remembered_senders(person)) end
return found
