-- Grant slots to a process: instants at which one message of a lane may leave, looked for over all due lanes.
-- needs: base lanes buckets
-- ARGV: process, hands (slots wanted at most), lo us, hi us (look-ahead), visits (lanes looked at, at most),
--       slots for a lane at most, then pairs lane, slots for that lane at most.
-- Returns {"lapsed"} if the process was taken for dead, else {"ok", now us, next due us or '', lane, slot us, lane, slot us, ...}.
-- Invariants: a lane's own bucket never grants two slots closer than its interval; a shared one at most rate x (t + hi) + 1;
-- a slot is charged to every bucket of its lane or to none; no visit leaves a score that the same call would take again.
-- Not idempotent: a grant whose reply is lost lapses.
local process, hands = ARGV[1], tonumber(ARGV[2])
local LO, HI, visits, quota = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if call('EXISTS', P .. 'alive:' .. process) == 0 then return { 'lapsed' } end
call('PEXPIRE', P .. 'alive:' .. process, math.floor(setting('liveness_us', 10000000) / 1000))

local quotas, later, out = {}, {}, {}
local CLASS = { [0] = '0', '1', '2' }
for i = 7, #ARGV, 2 do quotas[ARGV[i]] = tonumber(ARGV[i + 1]) end

-- Changes of `due` are gathered here (member -> score, or false: out of it) and written before it is read again.
local DUE, moved = P .. 'due', {}

local function write_due()
  local entries, gone = {}, {}
  for member, score in pairs(moved) do
    if score then
      entries[#entries + 1], entries[#entries + 2] = int(score), member
    else
      gone[#gone + 1] = member
    end
  end
  moved = {}
  for i = 1, #entries, 1000 do call('ZADD', DUE, unpack(entries, i, math.min(i + 999, #entries))) end
  for i = 1, #gone, 1000 do call('ZREM', DUE, unpack(gone, i, math.min(i + 999, #gone))) end
end

local function waiters(b)
  if not b.waiters then b.waiters = call('ZCARD', P .. 'w:' .. b.name) end
  return b.waiters
end

-- Where the lane goes from here, with something of `class`; `was` is where it was. One that is served stays in `due`
-- meanwhile, and gets another score.
local function place(lane, at, score, was, class)
  if at ~= was then call('HSET', P .. 'lane:' .. lane, 'at', at) end
  if at == 'due' then
    moved['l:' .. lane] = score
  else
    if was == 'due' then moved['l:' .. lane] = false end
    wait_at(at, lane, class)
    local b = bucket(at)
    b.waiters = call('ZCARD', P .. 'w:' .. at)
    if b.waiters == 1 then moved['b:' .. at] = math.max(free_at(b), NOW + LO + 1) end
  end
end

local function nowhere(lane, was)
  if was == 'due' then moved['l:' .. lane] = false end
  call('HDEL', P .. 'lane:' .. lane, 'at')
end

-- The first of a lane's shared paces, after number `passed`, that others wait for. Nobody queues at a gate or a cap: where
-- they rest, so do all who draw on them, and when they open all may go.
local function first_queue(names, passed)
  for i = passed + 1, #names do
    local b = bucket(names[i])
    if b.paced and waiters(b) > 0 then return names[i] end
  end
end

-- What waits in a class of a lane; if it is drained, of what was there before. Counted when it is asked for, for mostly one
-- class tells enough.
local function backlog(lane, drained)
  local q, counts, last = P .. 'q:' .. lane .. ':', {}, nil
  if drained then last = call('HMGET', P .. 'lane:' .. lane, 'd0', 'd1', 'd2') end
  return function(class)
    local count = counts[class]
    if not count then
      local key = q .. CLASS[class]
      if last then
        count = call('ZCOUNT', key, '-inf', last[class + 1] or 0)
      else
        count = call('ZCARD', key)
      end
      counts[class] = count
    end
    return count
  end
end

-- The class of what a lane sends next, by what waits in each class and what is granted already.
local function next_class(waiting, granted)
  if waiting(0) > granted then return 0 end
  return waiting(0) + waiting(1) > granted and 1 or 2
end

-- Slots that were granted and not yet taken; those that nobody came for in time are over.
local function outstanding(lane, own)
  local g = P .. 'g:' .. lane
  local granted = call('ZCARD', g)
  if granted > 0 then granted = granted - call('ZREMRANGEBYSCORE', g, '-inf', int(NOW - own.tol - 1)) end
  return granted
end

-- Serve one lane with at most `most` slots; `turn` is the shared bucket whose waiters are being served, or nil. Returns how many
-- it got; nil if it goes on waiting at that bucket, behind more pressing ones.
local function serve(lane, most, turn)
  local f = call('HMGET', P .. 'lane:' .. lane, 'bk', 'ps', 'ok', 'dr')
  local was = turn or 'due' -- from a bucket's waiters it has been popped already
  local names, bulk_may_go, reset = words(f[1]), true, nil
  if f[2] or f[3] ~= '1' or #names == 0 then
    nowhere(lane, was)
    return 0
  end
  local own = bucket(names[1])
  for _, name in ipairs(names) do
    local b = bucket(name)
    if b.cap and b.used >= b.bulk_cap then -- what is left of the day is not for bulk
      bulk_may_go, reset = false, math.max(reset or 0, b.reset)
    end
  end
  local g, granted = P .. 'g:' .. lane, outstanding(lane, own)
  local waiting, enough = backlog(lane, f[4]), math.min(most, HI / own.t) + 2
  local have = waiting(1) - granted
  if have <= enough then have = have + waiting(0) end
  if have <= enough and bulk_may_go then have = have + waiting(2) end
  if turn and have > 0 then -- what it waited with may have left meanwhile in a slot that it had
    local class = next_class(waiting, granted)
    if class > math.floor(bucket(turn).served / SPAN) then
      place(lane, turn, nil, was, class)
      return nil
    end
  end
  local given, slot, blocker, queue_at, slots = 0, NOW, 1, nil, {}
  local passed = 1 -- a lane queues at its shared buckets in their order; where it has had its turn it need not queue again
  for i, name in ipairs(names) do
    if name == turn then passed = i end
  end
  while have > 0 do
    slot, blocker = NOW, 1
    for i, name in ipairs(names) do
      local free = free_at(bucket(name))
      if free > slot then slot, blocker = free, i end
    end
    queue_at = first_queue(names, passed)
    if queue_at or slot > NOW + HI or given >= most or hands <= 0 then break end
    for i, name in ipairs(names) do
      local b = bucket(name)
      -- the lane's own bucket is charged at the slot, shared ones in the order of decision
      if b.paced then charge_pace(b, i == 1 and slot or math.max(b.tat, NOW), 1) end
    end
    local text = int(slot)
    slots[#slots + 1] = text -- as score and as member
    slots[#slots + 1] = text
    out[#out + 1] = lane
    out[#out + 1] = text
    given, hands, have, granted = given + 1, hands - 1, have - 1, granted + 1
  end
  if turn and given > 0 then had_turn(lane, bucket(turn).served) end
  for i = 1, #slots, 1000 do call('ZADD', g, unpack(slots, i, math.min(i + 999, #slots))) end
  if have > 0 then
    if queue_at then
      place(lane, queue_at, nil, was, next_class(waiting, granted))
    elseif slot > NOW + HI then
      -- behind the others of its number (its MMS), who wait for the same instant: else the first by name had all
      if blocker == 1 then
        -- where others wait for a shared pace, it joins them in time: that pace is given away HI ahead
        local early = turn and first_queue(names, 1) and HI - LO or 0
        place(lane, 'due', slot + (given > 0 and 1 or 0) - early, was)
      else
        place(lane, names[blocker], nil, was, next_class(waiting, granted))
      end
    elseif turn then -- for its next message it queues from the start
      place(lane, first_queue(names, 1) or turn, nil, was, next_class(waiting, granted))
    else
      later[#later + 1] = lane
      moved['l:' .. lane] = false
    end
  elseif granted <= 0 and not bulk_may_go and waiting(2) > 0 then
    place(lane, 'due', math.max(reset, NOW + LO + 1), was)
  elseif granted > 0 then -- all are spoken for: look again when the last slot has lapsed
    local last = given > 0 and slots[#slots] or call('ZRANGE', g, -1, -1)[1]
    place(lane, 'due', math.max(num(last, 0) + own.tol, NOW + LO + 1), was)
  else
    nowhere(lane, was)
  end
  return given
end

-- A lane that breaks the script waits a minute; the others get their slots.
local function visit(lane, most, turn)
  local ok, given = safely('grant', lane, serve, lane, most, turn)
  if not ok then
    place(lane, 'due', NOW + 60000000, turn or 'due')
    given = 0
  end
  quotas[lane] = (quotas[lane] or quota) - (given or 0)
  return given
end

-- Whose turn it is at a shared pace, and its score: the most pressing class, in order; but every tenth turn is the lowest one's, so that
-- bulk keeps moving while others have urgent messages all the time.
local BULK_TURN = 10
local function next_waiter(b)
  local w = P .. 'w:' .. b.name
  b.turns = (b.turns or 0) + 1
  b.turned = b.turned or num(call('HGET', b.key, 'wt'), 0)
  if (b.turned + b.turns) % BULK_TURN == 0 then
    local last = call('ZRANGE', w, -1, -1, 'WITHSCORES')
    if #last == 0 then return nil end
    local class = math.floor(num(last[2], 0) / SPAN)
    local first = call('ZRANGEBYSCORE', w, int(class * SPAN), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    call('ZREM', w, first[1])
    return string.sub(first[1], 3), first[2]
  end
  local head = call('ZPOPMIN', w)
  return head[1] and string.sub(head[1], 3), head[2]
end

-- A gate or a cap is open: all who waited may ask again, a thousand of them for the price of ten visits.
local AT_ONCE = 1000
local function release(name)
  local heads = call('ZPOPMIN', P .. 'w:' .. name, AT_ONCE)
  visits = visits - math.ceil(#heads / 200)
  for i = 1, #heads, 2 do place(string.sub(heads[i], 3), 'due', NOW, name) end
end

local function serve_bucket(name)
  local b = bucket(name)
  local v = free_at(b)
  if not b.paced and v <= NOW + HI then release(name) end
  local sated = {} -- has what this process may give it: keeps its turn for others, and costs the pace nothing
  while b.paced and v <= NOW + HI and hands > 0 and visits > 0 do
    local lane, score = next_waiter(b)
    if not lane then break end
    visits = visits - 1
    b.waiters = nil
    if (quotas[lane] or quota) <= 0 then
      sated[#sated + 1], sated[#sated + 2] = score, 'l:' .. lane
    else
      b.served = score
      local given = visit(lane, 1, name)
      if given then v = given > 0 and free_at(b) or math.max(free_at(b), v + b.t) end
    end
  end
  if #sated > 0 then
    call('ZADD', P .. 'w:' .. name, unpack(sated))
    v = math.max(v, NOW + LO + 1)
  end
  b.waiters = nil
  moved['b:' .. name] = waiters(b) > 0 and v
end

local function serve_due(member)
  local name = string.sub(member, 3)
  if string.sub(member, 1, 2) == 'b:' then return serve_bucket(name) end
  visits = visits - 1
  visit(name, quotas[name] or quota, nil)
end

local BATCH = 50
while hands > 0 and visits > 0 do
  local members = call('ZRANGEBYSCORE', DUE, '-inf', int(NOW + LO), 'LIMIT', 0, BATCH)
  if #members == 0 then break end
  for _, member in ipairs(members) do
    if hands <= 0 or visits <= 0 then break end
    if moved[member] == nil then serve_due(member) end -- else one before it has moved it meanwhile
  end
  write_due()
end
for _, lane in ipairs(later) do place(lane, 'due', NOW, 'due') end
write_due()
settle_buckets()
local head = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
local reply = { 'ok', int(NOW), #head > 0 and int(tonumber(head[2])) or '' }
for i = 1, #out do reply[i + 3] = out[i] end
return reply
