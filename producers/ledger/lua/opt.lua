-- Record that a person opted out or in; and, for an inbound message, keep it for the apps.
-- needs: base states facts opt_outs in_flight whatsapp sticky
-- ARGV: number, "out" | "in" | "" (neither: only keep the inbound message), occurred us (0: now), source, evidence, operator 0|1,
--       inbound (JSON as calls.Inbound has it, '' if this is no inbound message), then the scopes;
--       "wa:<sender>" is none: it says that the person wrote to that WhatsApp sender, which opens its window; nor is "sy:<sender>":
--       it is the sender that they wrote to, and will hear from again.
-- Returns the number of scopes that this changed. Idempotent: the newer occurrence wins, an event id is kept once.
local number, at = ARGV[1], tonumber(ARGV[3])
if at == 0 or at > NOW then at = NOW end -- a word from the future would outlast every later one
local changed = 0
for i = 8, #ARGV do
  local what, sender = string.match(ARGV[i], '^(%l%l):(.+)$')
  if what == 'wa' then
    open_window(sender, number, at)
  elseif what == 'sy' then
    safely('sticky', '', remember_sender, number, sender)
  elseif ARGV[2] ~= '' then
    if set_opt(ARGV[i], number, ARGV[2] == 'out', at, ARGV[4], ARGV[5], ARGV[6] == '1') then changed = changed + 1 end
  end
end
if changed > 0 and ARGV[2] == 'out' then note_in_flight(number) end

-- Keep it, say so to apps (to the one that is answered, by its callback too), and have it handed to an actor if there is one.
local function keep_inbound(packed, id)
  local said = cjson.decode(packed)
  local mid = replied_to(number, said.to or {})
  local kept_s = setting('retention_s', 604800)
  local at_entry = call('XADD', P .. 'in', 'MAXLEN', '~', 100000, '*', 'i', id, 'd', packed, 'r', mid or '', 't', int(NOW))
  call('XTRIM', P .. 'in', 'MINID', int(math.floor(NOW / 1000) - kept_s * 1000))
  call('EXPIRE', P .. 'in', kept_s)
  if config('inbound') then call('ZADD', P .. 'timers', int(NOW), 'i' .. at_entry) end
  local app = mid and record(mid).cb or nil
  happened('inbound.received', id, { cb = app }, ARGV[2], { 'in', at_entry, 'r', mid or '' })
end

if ARGV[7] ~= '' and call('SET', P .. 'ie:' .. ARGV[5], '1', 'NX', 'EX', 259200) then keep_inbound(ARGV[7], ARGV[5]) end
return changed
