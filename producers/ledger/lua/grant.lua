-- Grant slots to a process: instants at which one message of a lane may leave, looked for over all due lanes.
-- needs: base lanes
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
for i = 7, #ARGV, 2 do quotas[ARGV[i]] = tonumber(ARGV[i + 1]) end

local buckets = {}
local function bucket(name)
  local b = buckets[name]
  if not b then
    local f = call('HMGET', P .. 'b:' .. name, 't', 'tat', 'hold', 'cap', 'used', 'reset', 'resets', 'tol', 'reserve')
    b = { t = num(f[1], 0), tat = num(f[2], 0), hold = num(f[3], 0), cap = num(f[4], nil), used = num(f[5], 0),
      reset = num(f[6], 0), tol = num(f[8], 1000000), reserve = num(f[9], 0) }
    if b.cap and NOW >= b.reset then -- the cap's midnights are published ahead, in the brand's own zone
      b.used, b.reset = 0, NOW + 86400000000
      for _, at in ipairs(words(f[7])) do
        if tonumber(at) > NOW then
          b.reset = tonumber(at)
          break
        end
      end
      call('HSET', P .. 'b:' .. name, 'used', 0, 'reset', int(b.reset))
    end
    b.waiters = call('ZCARD', P .. 'w:' .. name)
    buckets[name] = b
  end
  return b
end

local function free_at(b)
  if b.cap then return math.max(b.hold, b.used >= b.cap and b.reset or 0) end
  return math.max(b.tat, b.hold)
end

local function place(lane, at, score)
  call('HSET', P .. 'lane:' .. lane, 'at', at)
  if at == 'due' then
    call('ZADD', P .. 'due', int(score), 'l:' .. lane)
  else
    local tail = call('ZRANGE', P .. 'w:' .. at, -1, -1, 'WITHSCORES')
    call('ZADD', P .. 'w:' .. at, num(tail[2], 0) + 1, 'l:' .. lane)
    local b = bucket(at)
    b.waiters = b.waiters + 1
    if b.waiters == 1 then call('ZADD', P .. 'due', int(math.max(free_at(b), NOW + LO + 1)), 'b:' .. at) end
  end
end

-- Serve one lane with at most `most` slots; `turn` is the shared bucket whose waiters are being served, or nil.
local function serve(lane, most, turn)
  local f = call('HMGET', P .. 'lane:' .. lane, 'bk', 'ps', 'ok')
  call('HDEL', P .. 'lane:' .. lane, 'at')
  if f[2] or f[3] ~= '1' then return 0 end
  local names, own, shared_reserve = words(f[1]), nil, false
  for i, name in ipairs(names) do
    local b = bucket(name)
    if i == 1 then own = b end
    if b.cap and b.used >= b.cap * (1 - b.reserve) and b.used < b.cap then shared_reserve = true end
  end
  local g = P .. 'g:' .. lane
  call('ZREMRANGEBYSCORE', g, '-inf', int(NOW - own.tol - 1))
  local granted = call('ZCARD', g)
  local q = P .. 'q:' .. lane .. ':'
  local have = call('ZCARD', q .. '0') + call('ZCARD', q .. '1') - granted
  local bulk = call('ZCARD', q .. '2')
  local reset = nil
  if shared_reserve then
    if have <= 0 and bulk > 0 then -- only bulk is left, and the rest of the day's cap is not for it
      for _, name in ipairs(names) do
        if bucket(name).cap then reset = math.max(reset or 0, bucket(name).reset) end
      end
    end
  else
    have = have + bulk
  end
  local given, slot, blocker, queue_at = 0, NOW, 1, nil
  while have > 0 do
    slot, blocker, queue_at = NOW, 1, nil
    for i, name in ipairs(names) do
      local b = bucket(name)
      local free = free_at(b)
      if free > slot then slot, blocker = free, i end
      if i > 1 and name ~= turn and b.waiters > 0 then queue_at = queue_at or name end
    end
    if queue_at or slot > NOW + HI or given >= most or hands <= 0 then break end
    for i, name in ipairs(names) do
      local b = bucket(name)
      if b.cap then
        b.used = call('HINCRBY', P .. 'b:' .. name, 'used', 1)
      else -- the lane's own bucket is charged at the slot, shared ones in the order of decision
        b.tat = (i == 1 and slot or math.max(b.tat, NOW)) + b.t
        call('HSET', P .. 'b:' .. name, 'tat', int(b.tat))
      end
    end
    call('ZADD', g, int(slot), int(slot))
    out[#out + 1] = lane
    out[#out + 1] = int(slot)
    given, hands, have, granted = given + 1, hands - 1, have - 1, granted + 1
  end
  if have > 0 then
    if queue_at then
      place(lane, queue_at)
    elseif slot > NOW + HI then
      if blocker == 1 then place(lane, 'due', slot) else place(lane, names[blocker]) end
    elseif turn then
      place(lane, turn)
    else
      later[#later + 1] = lane
    end
  elseif reset then
    place(lane, 'due', reset)
  elseif granted > 0 then -- all are spoken for: look again when the last slot has lapsed
    local last = call('ZRANGE', g, -1, -1, 'WITHSCORES')
    place(lane, 'due', math.max(num(last[2], 0) + own.tol, NOW + LO + 1))
  end
  return given
end

local function serve_bucket(name)
  local b = bucket(name)
  local w = P .. 'w:' .. name
  local v = free_at(b)
  while v <= NOW + HI and hands > 0 and visits > 0 do
    local head = call('ZPOPMIN', w)
    if #head == 0 then break end
    visits = visits - 1
    b.waiters = b.waiters - 1
    local lane = string.sub(head[1], 3)
    local given = serve(lane, math.min(1, quotas[lane] or quota), name)
    if given > 0 and quotas[lane] then quotas[lane] = quotas[lane] - given end
    v = given > 0 and free_at(b) or math.max(free_at(b), v + b.t)
  end
  b.waiters = call('ZCARD', w)
  if b.waiters > 0 then call('ZADD', P .. 'due', int(v), 'b:' .. name) end
end

while hands > 0 and visits > 0 do
  local head = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
  if #head == 0 or tonumber(head[2]) > NOW + LO then break end
  call('ZREM', P .. 'due', head[1])
  local kind, name = string.sub(head[1], 1, 2), string.sub(head[1], 3)
  if kind == 'b:' then
    serve_bucket(name)
  else
    visits = visits - 1
    serve(name, quotas[name] or quota, nil)
  end
end
for _, lane in ipairs(later) do place(lane, 'due', NOW) end
local head = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
local reply = { 'ok', int(NOW), #head > 0 and int(tonumber(head[2])) or '' }
for i = 1, #out do reply[i + 3] = out[i] end
return reply
