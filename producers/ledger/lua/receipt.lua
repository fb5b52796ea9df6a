-- Apply the facts of one batch of receipts (or of polls: batch '') and forget the batch.
-- needs: base lanes buckets feedback opt_outs states rules facts recall legs
-- ARGV: batch id or '', then a JSON fact each: {ref, pid, st, raw, to, from, parts, er, rd, odd = stripped event,
--   hold = {us, scope, reason, feedback 0|1}: what its error says must rest, stop: its error says that the person sent STOP}
-- Returns one word each: applied, known, odd, duplicate, lost (matches nothing: kept aside in `odd`).
-- Harmless in any order and number: facts have a rank. A fact that breaks the script costs the others nothing: they are applied,
-- then the call fails and keeps the batch, so that the caller can find the poisonous one and put its event aside.
local out, poison = {}, nil

-- A carrier's limit: rest what it counts by. Only once for each message, since every receipt of it says the same again.
local function rest(rec, fact)
  local us, scope, why, feedback = unpack(fact.hold)
  local names = words(call('HGET', P .. 'lane:' .. rec.ln, 'bk'))
  if #names == 0 then return end
  if feedback == 1 then
    slow_down(names, scope, NOW + us, why, num(rec.ho, 0))
  else
    hold(bucket_of(names, scope), NOW + us, why)
  end
end

-- They had said it before we handed the message over, so a START since then is the newer word. Before anything else is made of
-- the fact: a fallback would go to the same person.
local function opt_out(mid, rec)
  if rec.gr or not rec.ln or not rec.ho then return end
  local scopes = words(call('HGET', P .. 'lane:' .. rec.ln, 'scp'))
  set_opt(scopes[#scopes] or 'global', rec.to, true, tonumber(rec.ho), 'receipt', mid, false)
end

local function take_in(fact)
  local mid = find_message(fact.ref, fact.pid)
  local word = 'lost'
  if mid then
    local rec = record(mid)
    if fact.stop and rec.s then opt_out(mid, rec) end
    word = rec.s and apply(mid, rec, fact) or 'lost'
    if word == 'applied' and fact.hold and rec.ln then rest(rec, fact) end
  end
  if word == 'lost' or word == 'odd' then
    call('XADD', P .. 'odd', 'MAXLEN', '~', 10000, '*', 'why', word, 'pid', fact.pid or '', 'ref', fact.ref or '', 'raw', fact.raw or '')
    call('HINCRBY', P .. 'counts', 'receipts_' .. word, 1)
  end
  return word
end

for i = 2, #ARGV do
  local ok, word = pcall(function() return take_in(cjson.decode(ARGV[i])) end)
  if not ok then poison = type(word) == 'table' and word.err or tostring(word) end
  out[i - 1] = word
end
settle_counts()
if poison then error('a fact of this batch breaks the script: ' .. poison) end
if ARGV[1] ~= '' then
  call('DEL', P .. 'rx:' .. ARGV[1])
  call('ZREM', P .. 'rx', ARGV[1])
  call('ZREM', P .. 'timers', 'r' .. ARGV[1])
end
return out
