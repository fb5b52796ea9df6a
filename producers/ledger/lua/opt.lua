-- Record that a person opted out or in; and, for an inbound message, keep it for the apps.
-- needs: base states opt_outs in_flight whatsapp
-- ARGV: number, "out" | "in" | "" (neither: only keep the inbound message), occurred us (0: now), source, evidence, operator 0|1,
--       inbound (JSON without bodies, '' if this is no inbound message), then the scopes;
--       "wa:<sender>" is none: it says that the person wrote to that WhatsApp sender, which opens its window.
-- Returns the number of scopes that this changed. Idempotent: the newer occurrence wins, an event id is kept once.
local number, at = ARGV[1], tonumber(ARGV[3])
if at == 0 or at > NOW then at = NOW end -- a word from the future would outlast every later one
local changed = 0
for i = 8, #ARGV do
  local sender = string.match(ARGV[i], '^wa:(.+)$')
  if sender then
    open_window(sender, number, at)
  elseif ARGV[2] ~= '' then
    if set_opt(ARGV[i], number, ARGV[2] == 'out', at, ARGV[4], ARGV[5], ARGV[6] == '1') then changed = changed + 1 end
  end
end
if changed > 0 and ARGV[2] == 'out' then note_in_flight(number) end
if ARGV[7] ~= '' and call('SET', P .. 'ie:' .. ARGV[5], '1', 'NX', 'EX', 259200) then
  call('XADD', P .. 'in', 'MAXLEN', '~', 100000, '*', 'd', ARGV[7], 't', int(NOW))
  event('inbound.received', ARGV[5], {}, ARGV[2])
end
return changed
