-- Do what timers are due for, looking at `limit` messages at most. Any worker may call it, each second; the bell is rung for lanes.
-- needs: base lanes opt_outs states rules facts recall legs
-- ARGV: limit.
-- Returns a flat list of pointers to enqueue: "expand", id, class ... "reconcile", batch, '' ... "poll", "poll_group" or "withdraw", message, provider id ... "inbound", entry of `in`, '' ...,
-- "call" (with two blanks) when apps are owed calls,
-- then "again" (with two blanks) when more is due.
-- A timer that breaks the script is put off for a minute: else it would be met first by every later call, and stop all others.
-- Idempotent: every timer looks at the record, and an id that needs nothing means nothing to do.
local budget = tonumber(ARGV[1]) -- messages and pointers that this call may still look at
local timers = P .. 'timers'
local out, armed = {}, {}
local function emit(kind, a, b)
  out[#out + 1] = kind
  out[#out + 1] = a
  out[#out + 1] = b or ''
end

-- Point again at what has made no progress since a time: after 10 s, then ever less often, for each pointer costs memory
-- where nobody picks them up.
local function point_again(member, since, kind, id, more)
  local wait = math.min(math.max(10000000, (NOW - since) / 2), 3600000000)
  call('ZADD', timers, int(NOW + wait), member)
  emit(kind, id, more)
end

local function queue(mid, rec, why)
  put(rec, mid)
  armed[rec.ln] = math.min(armed[rec.ln] or 9, tonumber(rec.k))
  move(mid, rec, 'Q', why, nil)
end

local function expire(mid)
  local rec = record(mid)
  if WAITING[rec.s] and NOW >= num(rec.vu, 0) then finish_as(mid, rec, 'E', 'validity') end
end

local function expire_safely(mid)
  budget = budget - 1
  if not safely('validity', mid, expire, mid) then look_again(mid) end
end

-- How far a message in doubt has come: nil when on_uncertain may decide, else when to look again.
local function still_listening(rec, grace)
  local ua = num(rec.ua, NOW)
  if config('receipts') == 'poll' then
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

-- What was held by the same dead processes comes back at the same time, and the one that ends them would end the same
-- others again, until all had lost too many holders. So those that lost two come back apart, each at an instant of its own.
local function apart(mid, rec)
  local mixed = num(rec.dk, 0)
  for i = 1, #mid do mixed = (mixed * 48271 + string.byte(mid, i)) % 2147483647 end
  mixed = mixed * 48271 % 2147483647 * 48271 % 2147483647 -- so that neighbours' ids are no neighbours
  local wait = 1 + mixed / 2147483647 * 5000000 * 2 ^ num(rec.dk, 0)
  return move(mid, rec, 'W', 'apart', NOW + wait)
end

local function decide(mid, rec)
  local later = still_listening(rec, grace_of(rec))
  if later then return call('ZADD', timers, int(math.min(later, num(rec.fd, later))), mid) end
  if rec.cx then return move(mid, rec, 'X', rec.cx == 'f' and 'fallback' or 'cancelled', nil) end
  if config('give_up:' .. rec.jt) then return move(mid, rec, 'X', 'give_up', nil) end
  if NOW >= num(rec.vu, 0) then return move(mid, rec, 'X', 'validity', nil) end
  if NOW - num(rec.fa, NOW) > 82800000000 then return move(mid, rec, 'X', 'key_too_old', nil) end
  if num(rec.dk, 0) > 1 then return apart(mid, rec) end
  return queue(mid, rec, 'grace')
end

-- Nothing of it was delivered in time: the next leg is made, and the one before gets no more tries. True if so.
local function falls_back(mid, rec)
  if NOW < num(rec.fd, NOW + 1) then return false end
  local leg, leg_rec = next_leg(mid, rec)
  if not leg then return false end
  if rec.mn or rec.ml then count(nid_of(mid), rec.s, 'N', 1) end
  if WAITING[rec.s] then
    finish_as(mid, rec, 'C', 'fallback')
  elseif rec.s == 'S' or rec.s == 'U' then
    rec.cx = 'f'
    call('HSET', mkey(mid), 'cx', 'f')
  end
  enter_leg(leg, leg_rec)
  return true
end

-- Asked for, and no answer is known: once more. Until its time: then it has left, or a poll will tell that it was cancelled.
local function wanted_back(mid, rec)
  if not provider.is_wanted_back(rec) then return false end
  if num(rec.so) <= NOW then
    provider.came_too_late(mid, rec)
  else
    provider.ask_back(mid, rec)
    call('ZADD', timers, int(math.min(NOW + 60000000, num(rec.so))), mid)
  end
  return true
end

local function look(mid)
  local rec = record(mid)
  if WAITING[rec.s] and NOW >= num(rec.vu, 0) then return finish_as(mid, rec, 'E', 'validity') end
  if rec.fb and OPEN[rec.s] and falls_back(mid, rec) then
    if not OPEN[rec.s] then return end
    if rec.s == 'A' or rec.s == 'T' then return call('ZADD', timers, int(poll_at(rec)), mid) end
  end
  if rec.wd and wanted_back(mid, rec) then return end
  if rec.s == 'W' then
    if not rec.sp and rests(mid, rec, NOW) then return end
    return queue(mid, rec)
  elseif rec.s == 'Q' then -- it broke a script and was put aside: back into its lane, if it is not there
    local tries = num(rec.tr, 0) + 1
    if tries >= setting('max_tries', 5) then return finish_as(mid, rec, 'R', 'poison', { 'tr', int(tries) }) end
    call('HSET', mkey(mid), 'tr', int(tries))
    if not call('ZSCORE', P .. 'q:' .. rec.ln .. ':' .. rec.k, mid) then put(rec, mid) end
    armed[rec.ln] = math.min(armed[rec.ln] or 9, tonumber(rec.k))
    return call('ZREM', timers, mid)
  elseif rec.s == 'S' then
    return lose_holder(mid, rec, call('EXISTS', P .. 'alive:' .. (rec.h or '')) == 1 and 'stalled' or 'died')
  elseif rec.s == 'U' then
    return decide(mid, rec)
  elseif rec.s == 'A' or rec.s == 'T' then
    if NOW >= num(rec.ho, 0) + setting('silent_after_us', 259200000000) then return move(mid, rec, 'X', 'silent', nil) end
    call('ZADD', P .. 'pq', 'NX', int(num(rec.ho, NOW)), mid)
    call('ZADD', timers, int(math.min(num(rec.ho, NOW) + setting('silent_after_us', 259200000000), NOW + 3600000000)), mid)
    return
  end
  return call('ZREM', timers, mid)
end

-- The shared validity of a notification of many: what is not expanded yet ends at once, the others are walked by number.
local function walk(id)
  local n = P .. 'n:' .. id
  local f = call('HMGET', n, 'vc', 'ex', 'tot', 'cx')
  if not f[2] then return call('ZREM', timers, 'e' .. id) end
  local from, ex, total = num(f[1], 0), tonumber(f[2]), tonumber(f[3])
  if not f[4] and ex < total then
    call('HSET', n, 'cx', 'E', 'cxa', int(NOW))
    call('ZREM', timers, 'n' .. id)
    count(id, 'N', 'E', total - ex)
  end
  local to = math.min(from + math.max(budget, 1), ex)
  for i = from, to - 1 do expire_safely(id .. '-' .. string.format('%d', i)) end
  call('HSET', n, 'vc', to)
  if to >= ex then call('ZREM', timers, 'e' .. id) end
end

local function bucket_of_validity(sec)
  local list = P .. 'vb:' .. sec
  while budget > 0 do
    local mid = call('LPOP', list)
    if not mid then return call('ZREM', timers, 'v' .. sec) end
    expire_safely(mid)
  end
end

local function expansion(id)
  local f = call('HMGET', P .. 'n:' .. id, 'k', 'tot', 'la', 'at', 'cx')
  if not f[1] then f = call('HMGET', mkey(id .. '-0'), 'k', 'none', 'none', 'at') end
  if not f[1] or f[5] then return call('ZREM', timers, 'n' .. id) end
  point_again('n' .. id, num(f[3] or f[4], NOW), 'expand', id, (f[1] == '0' and num(f[2], 1) <= 10) and '0' or '1')
end

local function batch(id)
  if call('EXISTS', P .. 'rx:' .. id) == 1 then
    return point_again('r' .. id, num(call('ZSCORE', P .. 'rx', id), NOW), 'reconcile', id)
  end
  call('ZREM', timers, 'r' .. id)
  call('ZREM', P .. 'rx', id)
end

-- An inbound message that an actor of the user's is to get: until it is said to have it.
local function inbound(id)
  if #call('XRANGE', P .. 'in', id, id) == 0 then return call('ZREM', timers, 'i' .. id) end
  point_again('i' .. id, tonumber(string.match(id, '^%d+')) * 1000, 'inbound', id)
end

local function ring_for(member)
  local kind, id = string.sub(member, 1, 1), string.sub(member, 2)
  if kind == 'v' then return bucket_of_validity(id) end
  if kind == 'e' and #member == 33 then return walk(id) end
  budget = budget - 1
  if kind == 'n' then
    expansion(id)
  elseif kind == 'r' then
    batch(id)
  elseif kind == 'i' then
    inbound(id)
  else
    look(member)
  end
end

-- Have the provider asked about those that wait for it in pq, what was handed over first before the others: so many in a
-- second over all processes, for polls are what is left when receipts got lost, and must never be in the way of sending.
local POLL_EVERY, POLLS_AT_ONCE = 200000, 5
local function ask_about(mid)
  local rec = record(mid)
  if (rec.s ~= 'A' and rec.s ~= 'T') or not rec.pid then return false end
  rec.pn = tostring(num(rec.pn, 0) + 1)
  call('HSET', mkey(mid), 'pn', rec.pn)
  call('ZADD', timers, int(poll_at(rec)), mid)
  emit(rec.gr and 'poll_group' or 'poll', mid, rec.pid)
  return true
end

-- Hand out what waits in `queue`, the first first: one `every` us over all processes, `at_once` at most. `ask_for` says whether it did.
local function hand_out(queue, every, at_once, what, ask_for)
  local waiting = call('ZCARD', P .. queue)
  if waiting == 0 then return end
  local next_at = math.max(num(call('GET', P .. queue .. 't'), 0), NOW - every * (at_once - 1))
  if next_at > NOW + every * at_once then next_at = NOW end -- the clock went back
  for _ = 1, math.min(waiting, 100) do
    if next_at > NOW then break end
    local mid = call('ZPOPMIN', P .. queue)[1]
    local ok, asked = safely(what, mid, ask_for, mid)
    if not ok then look_again(mid) end
    if asked then next_at = next_at + every end
  end
  call('SET', P .. queue .. 't', int(next_at), 'EX', 60)
end

-- Have the provider asked for what it holds and must not send: again after a while, ever longer, as long as nothing is known.
local WITHDRAW = { every = 50000, at_once = 20, again = 10000000, again_most = 300000000 }
local function ask_for_it_back(mid)
  local rec = record(mid)
  if not provider.is_wanted_back(rec) then return false end
  local times = num(rec.wn, 0)
  call('HSET', mkey(mid), 'wn', int(times + 1))
  local again = NOW + math.min(WITHDRAW.again * 2 ^ times, WITHDRAW.again_most)
  call('ZADD', timers, int(math.min(again, math.max(num(rec.so), NOW + WITHDRAW.again))), mid)
  emit('withdraw', mid, rec.pid)
  return true
end

local due = call('ZRANGEBYSCORE', timers, '-inf', int(NOW), 'LIMIT', 0, budget)
local more = #due >= budget
for _, member in ipairs(due) do
  if budget <= 0 then
    more = true
    break
  end
  if not safely('timer', member, ring_for, member) then call('ZADD', timers, int(NOW + 60000000), member) end
end
for lane, class in pairs(armed) do safely('arm', lane, arm, lane, class) end
safely('polls', '', hand_out, 'pq', POLL_EVERY, POLLS_AT_ONCE, 'poll', ask_about)
safely('withdrawals', '', hand_out, 'wq', WITHDRAW.every, WITHDRAW.at_once, 'withdraw', ask_for_it_back)
settle_counts()
-- dead letters are listed for as long as they keep their content, and no more of them than a person could look through
call('ZREMRANGEBYSCORE', P .. 'dead', '-inf', int(NOW - math.max(setting('content_kept_s', 0), DEAD_KEPT_S) * 1000000))
call('ZREMRANGEBYRANK', P .. 'dead', 0, -100001)
-- apps are owed a call: a few pointers a second, and no more than somebody follows
if #call('ZRANGEBYSCORE', P .. 'cb', '-inf', int(NOW), 'LIMIT', 0, 1) > 0 and call('LLEN', P .. 'd:chores') < 1000
  and call('SET', P .. 'cbp', '1', 'NX', 'PX', 400) then
  emit('call', '')
end
-- what people wrote, and what nobody understood, goes with the records
if call('SET', P .. 'trimmed', '1', 'NX', 'EX', 600) then
  local oldest = int((NOW - setting('retention_s', 604800) * 1000000) / 1000)
  for _, stream in ipairs({ 'in', 'odd' }) do call('XTRIM', P .. stream, 'MINID', oldest) end
end
if more or budget <= 0 then emit('again', '') end
return out
