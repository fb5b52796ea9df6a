-- Take the most urgent message that may still go, for each slot that is due: the one step that gives leave to send.
-- needs: base lanes buckets opt_outs states
-- ARGV: process, token of this call, then triples lane, slot us, builder version.
-- Returns {"lapsed"} or {"ok", now us, one list for each slot}:
--   {"missed", why = gone, late, held, capped} | {"empty"} | {"taken", message, token, to, content, job type, group letters, attempt, "1" if it may be out}
-- Idempotent by token: a repeated call gets what the first one took, from held:<process>; its other slots read "missed".
-- Invariants: a slot serves once; a message is taken by one process; nobody who opted out, nothing cancelled or expired, is
-- taken; what may be out is taken again only with the same builder, within 23 h of its first request.
local process, token = ARGV[1], ARGV[2]
local alive = P .. 'alive:' .. process
if call('EXISTS', alive) == 0 then return { 'lapsed' } end
call('PEXPIRE', alive, math.floor(setting('liveness_us', 10000000) / 1000))
local held = P .. 'held:' .. process

local answers, slots = {}, 0
local function describe(mid, rec, message_token)
  return { 'taken', mid, message_token, rec.to, content_of(mid, rec), rec.jt, rec.gm or '', rec.an or '1', rec.mb and '1' or '' }
end

local before = hash(held)
local mine = {}
for mid, t in pairs(before) do
  local call_token, i = string.match(t, '^(.*)%.(%d+)$')
  if call_token == token then mine[tonumber(i)] = mid end
end

local lanes = {}
local function lane_of(name)
  if not lanes[name] then
    local f = call('HMGET', P .. 'lane:' .. name, 'bk', 'ps', 'ok', 'sh', 'scp', 'pc')
    local l = { names = words(f[1]), open = not f[2] and f[3] == '1', share = num(f[4], 10), scopes = words(f[5]),
      pops = num(f[6], 0), buckets = {} }
    for i, b in ipairs(l.names) do l.buckets[i] = bucket(b) end
    lanes[name] = l
  end
  return lanes[name]
end

-- Whether the slot may still be used; a late one draws from each shared bucket anew.
local function fresh(l, slot)
  if not l.open then return 'held' end
  local own = l.buckets[1]
  if NOW > slot + own.tol then return 'late' end
  for _, b in ipairs(l.buckets) do
    if b.hold > NOW then return 'held' end
    if b.cap and b.used >= b.cap then return 'capped' end
  end
  for i = 2, #l.buckets do
    local b = l.buckets[i]
    if not b.cap and NOW > slot + math.max(10000, b.t) then
      if b.tat > NOW then return 'late' end
      charge_pace(b, NOW, 1)
    end
  end
  return nil
end

-- Charge what a message costs: a cap all of it, a pace what goes beyond the unit that its slot drew. The lane's next
-- granted slots pay first, for they were granted before the cost was known.
local function charge(lane, l, slot, units)
  local owed = units - 1
  if owed > 0 then
    local ahead = call('ZRANGEBYSCORE', P .. 'g:' .. lane, '(' .. int(slot), int(slot + owed * l.buckets[1].t))
    if #ahead > 0 then
      call('ZREM', P .. 'g:' .. lane, unpack(ahead))
      owed = owed - #ahead
    end
  end
  for _, b in ipairs(l.buckets) do
    if b.cap then
      b.used = call('HINCRBY', b.key, 'used', units)
    elseif owed > 0 then
      charge_pace(b, math.max(b.tat, NOW), owed)
    end
  end
end

local function pop(lane, l)
  l.pops = l.pops + 1
  call('HSET', P .. 'lane:' .. lane, 'pc', l.pops)
  local last = 2
  for _, b in ipairs(l.buckets) do
    if b.cap and b.used >= b.bulk_cap then last = 1 end -- the reserve is not for bulk
  end
  local order = { 0, 1, 2 }
  if l.pops % l.share == 0 then order = { 2, 1, 0 } end
  for _, class in ipairs(order) do
    if class <= last then
      local head = call('ZPOPMIN', P .. 'q:' .. lane .. ':' .. class)
      if #head > 0 then
        call('HSET', P .. 'lane:' .. lane, 't' .. class, head[2])
        return head[1], class
      end
    end
  end
end

-- Why this message must not leave, or nil. It ends what must end.
local function ended(mid, rec, l, builder)
  if NOW > num(rec.vu, 0) then
    finish_as(mid, rec, 'E', 'validity')
    return true
  end
  if rec.mb and rec.bv ~= builder then
    move(mid, rec, 'X', 'builder_changed', nil)
    return true
  end
  if rec.mb and NOW - num(rec.fa, NOW) > 82800000000 then
    move(mid, rec, 'X', 'key_too_old', nil)
    return true
  end
  if not rec.gr then
    if opted_out(l.scopes, rec.to) then
      finish_as(mid, rec, 'O', 'opted_out')
      return true
    end
    return false
  end
  local letters, i, any, changed = {}, 0, false, false
  for number in string.gmatch(rec.to, '[^,]+') do
    i = i + 1
    letters[i] = string.sub(rec.gm or '', i, i)
    if letters[i] ~= 'O' and opted_out(l.scopes, number) then letters[i], changed = 'O', true end
    if letters[i] ~= 'O' then any = true end
  end
  if rec.mb and changed then -- the same bytes would reach somebody who has said no
    move(mid, rec, 'X', 'opted_out', nil)
    return true
  end
  rec.gm = table.concat(letters)
  if not any then
    finish_as(mid, rec, 'O', 'opted_out', { 'gm', rec.gm })
    return true
  end
  return false
end

for i = 3, #ARGV, 3 do
  slots = slots + 1
  local lane, slot, builder = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local answer
  if mine[slots] then
    local mid = mine[slots]
    local rec = record(mid)
    if rec.s == 'S' and rec.tk == token .. '.' .. slots then answer = describe(mid, rec, rec.tk) end
    answer = answer or { 'missed', 'passed' }
  elseif call('ZREM', P .. 'g:' .. lane, ARGV[i + 1]) == 0 then
    answer = { 'missed', 'gone' }
  else
    local l = lane_of(lane)
    local why = fresh(l, slot)
    if why then
      answer = { 'missed', why }
    else
      for _ = 1, 50 do
        local mid, class = pop(lane, l)
        if not mid then break end
        local rec = record(mid)
        if rec.s == 'Q' and not ended(mid, rec, l, builder) then
          rec.tk = token .. '.' .. slots
          rec.an = tostring(num(rec.an, 0) + 1)
          local more = { 'tk', rec.tk, 'h', process, 'bv', builder, 'an', rec.an }
          if not rec.fa then
            more[#more + 1], more[#more + 2] = 'fa', int(NOW)
          end
          if rec.gr then
            more[#more + 1], more[#more + 2] = 'gm', rec.gm
          end
          charge(lane, l, slot, rec.gr and #string.gsub(rec.gm, 'O', '') or 1)
          move(mid, rec, 'S', nil, NOW + 30000000, more)
          call('HSET', held, mid, rec.tk)
          answer = describe(mid, rec, rec.tk)
          break
        end
      end
      answer = answer or { 'empty' }
    end
  end
  answers[slots] = answer
end
return { 'ok', int(NOW), unpack(answers) }
