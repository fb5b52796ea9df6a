-- Take a person out of messages: what waits is stopped, and no record names them or says what they were told any more.
-- needs: base lanes opt_outs states
-- ARGV: number, then messages.
-- Returns {messages that forgot, of those stopped, left: their request may be under way, so a receipt must still find whom it is of}.
-- Idempotent. Records stay without the person for their retention, so that counts add up, and a producer's repeated key sends
-- nothing new.
local number = ARGV[1]
local forgot, stopped, left = 0, 0, 0

local function without_person(to)
  local out = {}
  for person in string.gmatch(to, '[^,]+') do out[#out + 1] = person == number and 'forgotten' or person end
  return table.concat(out, ',')
end

local function forget_extras(id)
  local held = call('GET', P .. 'x:' .. id)
  if not held then return end
  local ok, extras = pcall(cjson.decode, held)
  if not ok or extras.metadata == nil then return end
  extras.metadata = nil
  call('SET', P .. 'x:' .. id, cjson.encode(extras), 'KEEPTTL')
end

local function forget(mid)
  local rec = record(mid)
  if not rec.s or not string.find(',' .. (rec.to or '') .. ',', ',' .. number .. ',', 1, true) then return end
  if WAITING[rec.s] and not rec.gr then
    if rec.s == 'N' then call('ZREM', P .. 'timers', 'n' .. nid_of(mid)) end
    finish_as(mid, rec, 'C', 'forgotten')
    stopped = stopped + 1
  end
  if rec.so then provider.call_off(mid, rec, 'forgotten') end
  if OPEN[rec.s] then
    left = left + 1
    return
  end
  drop_content(mid, rec, 0)
  call('DEL', P .. 'c:' .. mid, P .. 'wt:' .. mid, P .. 'fb:' .. mid)
  call('HSET', mkey(mid), 'to', without_person(rec.to), 'ct', '0') -- '0': of many, it shares no content any more either
  call('HDEL', mkey(mid), 'et', 'z')
  call('ZREM', P .. 'dead', mid)
  if not rec.mn and not rec.gr and not rec.ml then forget_extras(nid_of(mid)) end
  forgot = forgot + 1
end

for i = 2, #ARGV do safely('forget', ARGV[i], forget, ARGV[i]) end
settle_counts()
return { forgot, stopped, left }
