-- Apply the facts of one batch of receipts (or of polls: batch '') and forget the batch.
-- needs: base lanes opt_outs states facts
-- ARGV: batch id or '', then a JSON fact each: {ref, pid, st, raw, to, from, parts, er, rd, odd = stripped event}
-- Returns one word each: applied, known, odd, duplicate, lost (matches nothing: kept aside in `odd`).
-- Harmless in any order and number: facts have a rank.
local out = {}

local function find(fact)
  if fact.ref and call('EXISTS', mkey(fact.ref)) == 1 then return fact.ref end
  if not fact.pid then return nil end
  local day = math.floor(NOW / 86400000000)
  for back = 0, 10 do
    local mid = call('HGET', P .. 'p:' .. int(day - back) .. ':' .. string.sub(fact.pid, 1, 4), fact.pid)
    if mid then return mid end
  end
end

for i = 2, #ARGV do
  local fact = cjson.decode(ARGV[i])
  local mid = find(fact)
  local word = 'lost'
  if mid then
    local rec = record(mid)
    word = rec.s and apply(mid, rec, fact) or 'lost'
  end
  if word == 'lost' or word == 'odd' then
    call('XADD', P .. 'odd', 'MAXLEN', '~', 10000, '*', 'why', word, 'pid', fact.pid or '', 'ref', fact.ref or '', 'raw', fact.raw or '')
    call('HINCRBY', P .. 'counts', 'receipts_' .. word, 1)
  end
  out[#out + 1] = word
end
if ARGV[1] ~= '' then
  call('DEL', P .. 'rx:' .. ARGV[1])
  call('ZREM', P .. 'rx', ARGV[1])
  call('ZREM', P .. 'timers', 'r' .. ARGV[1])
end
return out
