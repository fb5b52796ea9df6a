-- Lanes: the paced backlog of one sender and message kind.
--
-- A lane is in exactly one place: field "at" is "due" (in zset `due`), a bucket's name (in w:<bucket>), or absent.
-- w:<bucket> is ordered by the class of what each lane would send next, then by turn (`wait_at`): score = class x SPAN + turn.
-- q:<lane>:<class> is ordered by fair turn: each notification is a flow, flows take turns, singles of a job type share one.

local SPAN = 1000000000000

-- Those who wait at a bucket with something of one class take turns in rounds: turn 2n for round n, and 2n - 1, ahead of it,
-- for a lane that had none in the round before, since its own pace kept it: who asks for less than an equal share gets all
-- of it. A lane that had its turn in round n is next in round n + 1 ("wt"), but never behind all others.
local function wait_at(name, lane, class)
  local w, low, high = P .. 'w:' .. name, int(class * SPAN), int((class + 1) * SPAN - 1)
  local turn = math.max(2, num(call('HGET', P .. 'lane:' .. lane, 'wt'), 2))
  local first = call('ZRANGEBYSCORE', w, low, high, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if first then
    local round = math.ceil((first - class * SPAN) / 2)
    if turn < 2 * round then
      turn = 2 * round - 1
    else
      local last = call('ZREVRANGEBYSCORE', w, high, low, 'WITHSCORES', 'LIMIT', 0, 1)[2]
      turn = math.min(turn, 2 * math.ceil((last - class * SPAN) / 2) + 2)
    end
  end
  call('ZADD', w, int(class * SPAN + turn), 'l:' .. lane)
end

-- A lane had its turn, with this score.
local function had_turn(lane, score)
  call('HSET', P .. 'lane:' .. lane, 'wt', int(2 * math.ceil(score % SPAN / 2) + 2))
end

-- A bucket that rested is free: whoever waits for it is served with the next grant.
local function open_bucket(name)
  if call('EXISTS', P .. 'w:' .. name) == 1 then call('ZADD', P .. 'due', int(NOW), 'b:' .. name) end
  ring('send')
end

-- Bring a lane that has something to send to where a grant will find it.
local function arm(lane, class)
  local lk = P .. 'lane:' .. lane
  local f = call('HMGET', lk, 'at', 'ps', 'ok', 'bk')
  local at = f[1]
  if f[2] or f[3] ~= '1' or not f[4] or f[4] == '' then return end
  if at and at ~= '' and at ~= 'due' then -- it has something more pressing now: past those who have not
    local score = num(call('ZSCORE', P .. 'w:' .. at, 'l:' .. lane), 0)
    if score >= (class + 1) * SPAN then wait_at(at, lane, class) end
    return
  end
  local own = words(f[4])[1]
  local tat = num(call('HGET', P .. 'b:' .. own, 'tat'), 0)
  local when = math.max(NOW, tat)
  if at == 'due' then
    local score = num(call('ZSCORE', P .. 'due', 'l:' .. lane), nil)
    if score and score <= when then return end
  else
    call('HSET', lk, 'at', 'due')
  end
  call('ZADD', P .. 'due', int(when), 'l:' .. lane)
  ring('send')
end

-- A lane that is drained lets go what was submitted until then ("dr"); later ones get turns beyond "d<class>", which nobody
-- takes until it is resumed. Returns the turn that these messages get at least or, for old ones, the turn they all get.
local function turn_while_draining(f, submitted)
  if not f[2] then return 0, nil end
  local last = num(f[3], 0)
  if submitted <= tonumber(f[2]) then return 0, last end
  return last, nil
end

-- Put messages of one flow, submitted at a time, into their lane; `front` gives them the next turn of their class (they
-- had a slot and could not use it).
local function put_all(lane, class, flow, mids, submitted, front)
  local f = call('HMGET', P .. 'lane:' .. lane, 't' .. class, 'dr', 'd' .. class)
  local tag = num(f[1], 0)
  local at_least, all_at = turn_while_draining(f, submitted)
  if not front and not all_at then
    local flows, turn = P .. 'f:' .. lane .. ':' .. class, tag
    tag = math.max(turn, at_least, num(call('ZSCORE', flows, flow), 0))
    call('ZADD', flows, int(tag + #mids), flow)
    call('ZREMRANGEBYSCORE', flows, '-inf', int(turn))
  end
  local entries = {}
  for i, mid in ipairs(mids) do
    entries[2 * i - 1] = int(front and tag or all_at or tag + i)
    entries[2 * i] = mid
  end
  call('ZADD', P .. 'q:' .. lane .. ':' .. class, unpack(entries))
end

local function put(rec, mid, front)
  put_all(rec.ln, tonumber(rec.k), rec.mn and nid_of(mid) or rec.jt, { mid }, tonumber(rec.at), front)
end

-- Hold a bucket until a time (never shortening a longer hold), with the reason for people.
local function hold(bucket, until_us, why)
  local b = P .. 'b:' .. bucket
  if until_us > num(call('HGET', b, 'hold'), 0) then call('HSET', b, 'hold', int(until_us), 'why', why) end
end
