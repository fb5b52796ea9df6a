-- needs: provider rules
-- Takes that this server has forgotten: it is the replica that lagged, or it lost its last second in a crash.
--
-- A take: { m, k = token, h = process, a = attempt, b = builder, x = it may have left, s = the time that the provider was told }
-- A message as it was before its take would be sent once more. So whoever took it says so again, and it is being sent as before.

local function lost_takes() return P .. 'lost' end

-- A day's cap counts what is taken, and was forgotten with the take. (A pace needs no such thing: everyone rests meanwhile.)
local function count_again(rec)
  local people = rec.gr and select(2, string.gsub(rec.gm or '', '[^O]', '')) or 1
  for _, name in ipairs(words(call('HGET', P .. 'lane:' .. rec.ln, 'bk'))) do
    if string.sub(name, 1, 2) == 'd:' then call('HINCRBY', P .. 'b:' .. name, 'used', people) end
  end
end

local function hold_again(mid, rec, t, process)
  local holder = call('EXISTS', P .. 'alive:' .. t.h) == 1 and t.h or process
  local more = { 'tk', t.k, 'h', holder, 'bv', t.b, 'an', tostring(t.a) }
  if not rec.fa then
    more[#more + 1], more[#more + 2] = 'fa', int(NOW)
  end
  if t.s then -- a resend has the same bytes
    rec.so = t.s
    more[#more + 1], more[#more + 2] = 'so', t.s
    provider.remember(mid, rec)
  end
  hold_place_again(rec, more)
  if rec.s == 'S' then
    call('HSET', mkey(mid), unpack(more)) -- an earlier take has been recalled before this one
  else
    if rec.s == 'W' then move(mid, rec, 'Q', 'recalled', nil) end
    call('ZREM', P .. 'q:' .. rec.ln .. ':' .. rec.k, mid)
    move(mid, rec, 'S', 'recalled', NOW + 30000000, more)
  end
  call('HSET', P .. 'held:' .. holder, mid, t.k)
  count_again(rec)
end

-- Returns "held" (it was forgotten, and is being sent again), "doubled" (another took it since: it may leave twice), or
-- "known" (nothing was forgotten, or the message has gone on).
local function recall(mid, rec, t, process)
  if rec.tk == t.k or rec.pid then return 'known' end
  local attempt = num(rec.an, 0)
  if attempt < t.a and (rec.s == 'Q' or rec.s == 'W' or rec.s == 'S') then
    hold_again(mid, rec, t, process)
    return 'held'
  end
  local goes_on = rec.s == 'S' or rec.s == 'U' or rec.s == 'Q' or rec.s == 'W'
  if attempt == t.a and goes_on and t.x then -- whatever came of the other take says nothing of this one
    call('HSET', mkey(mid), 'mb', '1', 'an', tostring(attempt + 1)) -- two requests have the number of one
    call('HINCRBY', P .. 'counts', 'doubled_takes', 1)
    count_again(rec)
    return 'doubled'
  end
  return 'known'
end

-- Keep a take of a message that does not exist yet, for a day: its expansion was forgotten too, and will run again.
local function keep_lost(mid, packed)
  call('HSET', lost_takes(), mid, packed)
  call('EXPIRE', lost_takes(), 86400)
end

-- The take of a message that is being made, or nil. Almost always there is none at all, so this is asked first.
local any_lost
local function lost_take(mid)
  if any_lost == nil then any_lost = call('EXISTS', lost_takes()) == 1 end
  local packed = any_lost and call('HGET', lost_takes(), mid)
  if not packed then return nil end
  call('HDEL', lost_takes(), mid)
  return cjson.decode(packed)
end
