-- Say again what this process took lately, to a server that may have forgotten it.
-- needs: base states recall
-- ARGV: process, then a JSON object for each take (see recall).
-- Returns the count of takes and finishes that this server knows of, then one word for each: held, doubled, known, "early" (the
-- message is not expanded yet: it is held as soon as it is), "gone" (there is no such notification), "poison".
-- Where something had been forgotten, all processes are told so on the bell: behind a proxy they may have noticed nothing.
-- Idempotent: what was said already is known. Finishes come after it, as they came first: by token.
local process = ARGV[1]
local out = { num(call('GET', P .. 'gen'), 0) }

-- Of a notification of many, recipients that are not expanded yet; and legs that are not made again yet.
local function is_to_come(mid)
  local entry, leg = string.match(mid, '^(%x+%-%d+)%-(%d+)$')
  if leg then -- a later leg: made again by what made it first, if its entry is here, or comes
    local f = call('HMGET', mkey(entry), 's', 'nl')
    if f[1] then return num(f[2], 1) < tonumber(leg) end
    mid = entry
  end
  local f = call('HMGET', P .. 'n:' .. nid_of(mid), 'ex', 'tot', 'cx')
  local index = tonumber(string.match(mid, '^%x+%-(%d+)$'))
  return f[1] and not f[3] and index and index >= tonumber(f[1]) and index < tonumber(f[2])
end

local function say_again(packed)
  local t = cjson.decode(packed)
  local rec = record(t.m)
  if rec.s == 'N' or (not rec.s and is_to_come(t.m)) then
    keep_lost(t.m, packed)
    return 'early'
  end
  if not rec.s then return 'gone' end
  local word = recall(t.m, rec, t, process)
  if word == 'held' then ring('forgotten') end
  return word
end

for i = 2, #ARGV do
  local ok, word = safely('repost', process, say_again, ARGV[i])
  out[i] = ok and word or 'poison'
end
settle_counts()
return out
