-- Make the next leg of an entry: a new message with a key of its own, for what has ended, or been silent, without arriving.
-- needs: base lanes opt_outs states rules recall legs
-- ARGV: entry, number of the leg to make, "replay" | "fallback", valid for us,
--   lane ('': that of the leg before), content ('': that of the leg before); and with content: units, time zones of its people
--   ('': the default one), 1 if it is free-form WhatsApp, the template that takes its place outside the window.
-- Returns {"made", id} | {"exists", id} | {"refused", why, state of the entry}; why is
--   "gone" (no such entry) · "passed" (another leg than the next was asked for) · "not_dead" (it is not rejected, failed or
--   unconfirmed) · "partly_delivered" (some of a group have it) · "not_rendered" (it never became what could be sent: give
--   lane and content) · "content_erased" · "no_lane" (its sender is gone) · "opted_out" (of a group: everybody).
-- Idempotent by the number: a repeated call gets the leg that the first one made.
-- Invariants: one leg of an entry at a time may still leave; whoever opted out gets none; a refusal changes nothing.
local entry, number, why, valid = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local id = leg_id(entry, number)
local first = record(entry)
if not first.s then return { 'refused', 'gone', '' } end
local newest = num(first.nl, 1)
if number <= newest then return { 'exists', id } end
local last_id = leg_id(entry, newest)
local last = newest == 1 and first or record(last_id)
local state = of_entry(entry, newest, first.s)
local function refuse(word) return { 'refused', word, state } end
if number > newest + 1 or not last.s then return refuse('passed') end

-- Replay is for what has ended. Fallback also overtakes what is still on its way, but nothing that was called off.
local may = DEAD[state] or (why == 'fallback' and OPEN[state] and state ~= 'N')
if not may then return refuse('not_dead') end
if last.gr and string.find(last.gm or '', 'D', 1, true) then return refuse('partly_delivered') end
local lane, content = ARGV[5], ARGV[6]
if (lane == '' or content == '') and not last.ln then return refuse('not_rendered') end
local units = content == '' and last.un or ARGV[7]
if content == '' then content = content_of(last_id, last) end
if content == '' then return refuse('content_erased') end
if lane == '' then lane = last.ln end
local letters, any = may_get(id, last, lane)
if not letters then return refuse('no_lane') end
if not any then return refuse('opted_out') end

if last.fb then drop_steps(last_id, last) end
local o = { why = why, vu = NOW + valid, lane = lane, content = content, units = units, letters = letters, wf = last.wf }
if ARGV[6] ~= '' then -- rendered just now
  o.z = ARGV[8] ~= '' and ARGV[8] or nil
  o.wf, o.template = ARGV[9] == '1' and '1' or nil, ARGV[10] ~= '' and ARGV[10] or nil
end
local _, rec = make_leg(entry, first, last, number, o)
if rec.ml then count(nid_of(id), state, 'N', 1) else call('PERSIST', P .. 'x:' .. nid_of(id)) end

-- The leg before gets no more tries: what waits ends, what is under way comes to its end by facts or silence alone.
if WAITING[last.s] then
  finish_as(last_id, last, 'C', why)
elseif last.s == 'S' or last.s == 'U' then
  call('HSET', mkey(last_id), 'cx', '1')
end
-- The new leg has its content. Who is sending the old one may have to be told it again, and its end drops it.
if last.s ~= 'S' then drop_content(last_id, last, 0) end

enter_leg(id, rec)
settle_counts()
return { 'made', id }
