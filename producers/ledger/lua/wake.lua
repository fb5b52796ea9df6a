-- Do what timers are due for, at most `limit` of them. Any worker may call it, each second; the bell is rung for lanes.
-- needs: base lanes states facts
-- ARGV: limit.
-- Returns a flat list of pointers to enqueue: "expand", id, class ... "reconcile", batch, '' ... "poll", message, provider id ...,
-- then "again" (with two blanks) when more is due.
-- Idempotent: every timer looks at the record, and an id that needs nothing means nothing to do.
local limit = tonumber(ARGV[1])
local timers = P .. 'timers'
local out, armed = {}, {}
local function emit(kind, a, b)
  out[#out + 1] = kind
  out[#out + 1] = a
  out[#out + 1] = b or ''
end

local function queue(mid, rec, why)
  put(rec.ln, tonumber(rec.k), flow_of(mid, rec), mid)
  armed[rec.ln] = math.min(armed[rec.ln] or 9, tonumber(rec.k))
  move(mid, rec, 'Q', why, nil)
end

local function expire(mid)
  local rec = record(mid)
  if WAITING[rec.s] and NOW >= num(rec.vu, 0) then finish_as(mid, rec, 'E', 'validity') end
end

-- How far a message in doubt has come: nil when on_uncertain may decide, else when to look again.
local function still_listening(rec, grace)
  local ua = num(rec.ua, NOW)
  if call('HGET', P .. 'cfg', 'receipts') == 'poll' then
    if NOW - ua >= grace then return nil end
    return ua + grace
  end
  local ears = call('HMGET', P .. 'ears', 'since', 'last')
  local since, heard = num(ears[1], NOW), num(ears[2], 0)
  local deaf = NOW - heard > 5000000
  local oldest = call('ZRANGE', P .. 'rx', 0, 0, 'WITHSCORES')
  if #oldest > 0 then heard = math.min(heard, tonumber(oldest[2])) end
  local start = math.max(ua, since)
  if heard - start >= grace then return nil end
  if NOW - ua >= 600000000 + grace then -- ten deaf minutes
    call('HINCRBY', P .. 'counts', 'decided_deaf', 1)
    return nil
  end
  if deaf then return NOW + 1000000 end
  return math.max(start + grace, NOW + 500000)
end

local function decide(mid, rec)
  local grace = setting('grace:' .. rec.jt, setting(rec.k == '0' and 'grace_urgent_us' or 'grace_us', 60000000))
  local later = still_listening(rec, grace)
  if later then return call('ZADD', timers, later, mid) end
  if rec.cx then return move(mid, rec, 'X', 'cancelled', nil) end
  if call('HGET', P .. 'cfg', 'give_up:' .. rec.jt) then return move(mid, rec, 'X', 'give_up', nil) end
  if NOW > num(rec.vu, 0) then return move(mid, rec, 'X', 'validity', nil) end
  if NOW - num(rec.fa, NOW) > 82800000000 then return move(mid, rec, 'X', 'key_too_old', nil) end
  return queue(mid, rec, 'grace')
end

local function look(mid)
  local rec = record(mid)
  if rec.s == 'W' then
    if NOW > num(rec.vu, 0) then return finish_as(mid, rec, 'E', 'validity') end
    return queue(mid, rec)
  elseif rec.s == 'S' then
    local grace = setting('grace:' .. rec.jt, setting(rec.k == '0' and 'grace_urgent_us' or 'grace_us', 60000000))
    return move(mid, rec, 'U', 'stalled', NOW + grace, { 'mb', '1', 'ua', int(NOW) })
  elseif rec.s == 'U' then
    return decide(mid, rec)
  elseif rec.s == 'A' or rec.s == 'T' then
    if NOW >= num(rec.ho, 0) + setting('silent_after_us', 259200000000) then return move(mid, rec, 'X', 'silent', nil) end
    rec.pn = tostring(num(rec.pn, 0) + 1)
    call('HSET', mkey(mid), 'pn', rec.pn)
    call('ZADD', timers, poll_at(rec), mid)
    return emit('poll', mid, rec.pid)
  end
  return call('ZREM', timers, mid)
end

-- The shared validity of a notification of many: walk its messages by number.
local function walk(id)
  local n = P .. 'n:' .. id
  local f = call('HMGET', n, 'vc', 'ex', 'tot')
  if not f[2] then return call('ZREM', timers, 'e' .. id) end
  local from, ex, total = num(f[1], 0), tonumber(f[2]), tonumber(f[3])
  local to = math.min(from + 100, ex)
  for i = from, to - 1 do expire(id .. '-' .. string.format('%d', i)) end
  call('HSET', n, 'vc', to)
  if to >= total then return call('ZREM', timers, 'e' .. id) end
  if to >= ex then return call('ZADD', timers, NOW + 1000000, 'e' .. id) end -- expansion is behind; admit itself expires the rest
end

local function bucket_of_validity(sec)
  local list = P .. 'vb:' .. sec
  for _ = 1, 100 do
    local mid = call('LPOP', list)
    if not mid then return call('ZREM', timers, 'v' .. sec) end
    expire(mid)
  end
end

local due = call('ZRANGEBYSCORE', timers, '-inf', int(NOW), 'LIMIT', 0, limit)
for _, member in ipairs(due) do
  local kind, id = string.sub(member, 1, 1), string.sub(member, 2)
  if kind == 'n' then
    local f = call('HMGET', P .. 'n:' .. id, 'k', 'tot')
    local k = f[1] or call('HGET', mkey(id .. '-0'), 'k')
    if k then
      call('ZADD', timers, NOW + 10000000, member)
      emit('expand', id, (k == '0' and num(f[2], 1) <= 10) and '0' or '1')
    else
      call('ZREM', timers, member)
    end
  elseif kind == 'v' then
    bucket_of_validity(id)
  elseif kind == 'r' then
    if call('EXISTS', P .. 'rx:' .. id) == 1 then
      call('ZADD', timers, NOW + 10000000, member)
      emit('reconcile', id)
    else
      call('ZREM', timers, member)
      call('ZREM', P .. 'rx', id)
    end
  elseif kind == 'e' and #member == 33 then
    walk(id)
  else
    look(member)
  end
end
for lane, class in pairs(armed) do arm(lane, class) end
if #due >= limit then emit('again', '') end
return out
