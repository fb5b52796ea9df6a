-- Lanes: the paced backlog of one sender and message kind.
--
-- A lane is in exactly one place: field "at" is "due" (in zset `due`), a bucket's name (in w:<bucket>), or absent.
-- q:<lane>:<class> is ordered by fair turn: each notification is a flow, flows take turns, singles of a job type share one.

-- Bring a lane that has something to send to where a grant will find it.
local function arm(lane, class)
  local lk = P .. 'lane:' .. lane
  local f = call('HMGET', lk, 'at', 'ps', 'ok', 'bk')
  local at = f[1]
  if f[2] or f[3] ~= '1' or not f[4] or f[4] == '' then return end
  if at and at ~= '' and at ~= 'due' then
    if class == 0 then -- urgent: to the front of those that wait for this bucket
      local w = P .. 'w:' .. at
      local head = call('ZRANGE', w, 0, 0, 'WITHSCORES')
      call('ZADD', w, int(num(head[2], 1) - 1), 'l:' .. lane)
    end
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

-- Put messages of one flow into their lane; `front` gives them the next turn of their class (they had a slot and could not use it).
local function put_all(lane, class, flow, mids, front)
  local tag = num(call('HGET', P .. 'lane:' .. lane, 't' .. class), 0)
  if not front then
    local flows, turn = P .. 'f:' .. lane .. ':' .. class, tag
    tag = math.max(turn, num(call('ZSCORE', flows, flow), 0))
    call('ZADD', flows, int(tag + #mids), flow)
    call('ZREMRANGEBYSCORE', flows, '-inf', int(turn))
  end
  local entries = {}
  for i, mid in ipairs(mids) do
    entries[2 * i - 1] = int(front and tag or tag + i)
    entries[2 * i] = mid
  end
  call('ZADD', P .. 'q:' .. lane .. ':' .. class, unpack(entries))
end

local function put(lane, class, flow, mid, front) put_all(lane, class, flow, { mid }, front) end

local function flow_of(mid, rec) return rec.mn and nid_of(mid) or rec.jt end

-- Hold a bucket until a time (never shortening a longer hold), with the reason for people.
local function hold(bucket, until_us, why)
  local b = P .. 'b:' .. bucket
  if until_us > num(call('HGET', b, 'hold'), 0) then call('HSET', b, 'hold', int(until_us), 'why', why) end
end
