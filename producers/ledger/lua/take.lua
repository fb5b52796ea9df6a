-- Take the most urgent message that may still go, for each slot that is due: the one step that gives leave to send.
-- needs: base lanes buckets feedback opt_outs states rules whatsapp recall legs ahead
-- ARGV: process, token of this call, then triples lane, slot us, builder version.
-- Returns {"lapsed"} or {"ok", now us, gen = number of this call, one list for each slot}:
--   {"missed", why = gone, late, held, capped} | {"empty"} | {"taken", message, token, to, content, job type, group letters, attempt, "1" if it may be out,
--    how late its slot may be used, us[, the time to tell the provider, us]}
-- A message that breaks the script is put aside for a minute, and its slot serves the next one.
-- Idempotent by token: a repeated call gets what the first one took, from held:<process>; its other slots read "missed".
-- Invariants: a slot serves once; a message is taken by one process; nobody who opted out, nothing cancelled or expired, is
-- taken, nor what its job type's rules keep back; what may be out is taken again only with the same builder, within 23 h of its first request, and never if its job
-- type gives up.
local process, token = ARGV[1], ARGV[2]
local alive = P .. 'alive:' .. process
if call('EXISTS', alive) == 0 then return { 'lapsed' } end
prefetch_config('liveness_us', 'ruled')
call('PEXPIRE', alive, math.floor(setting('liveness_us', 10000000) / 1000))
local held = P .. 'held:' .. process

local lanes = {}
local function lane_of(name)
  if not lanes[name] then
    local f = call('HMGET', P .. 'lane:' .. name, 'bk', 'ps', 'ok', 'sh', 'scp', 'pc', 'dr', 'd0', 'd1', 'd2')
    local l = { names = words(f[1]), share = num(f[4], 10), scopes = words(f[5]),
      pops = num(f[6], 0), turns = {}, buckets = {} }
    if f[7] then l.until_turn = { [0] = num(f[8], 0), num(f[9], 0), num(f[10], 0) } end
    for i, b in ipairs(l.names) do l.buckets[i] = bucket(b) end
    l.open = not f[2] and f[3] == '1' and #l.names > 0
    lanes[name] = l
  end
  return lanes[name]
end

-- How late its slot may be used: by the rate that holds now, so that a change of it needs no restart.
local function tolerance_of(name)
  local own = lane_of(name).buckets[1]
  return own and own.tol or 10000
end

local answers, slots = {}, 0
local function describe(mid, rec, message_token)
  return { 'taken', mid, message_token, rec.to, content_of(mid, rec), rec.jt, rec.gm or '', rec.an or '1', rec.mb and '1' or '',
    int(tolerance_of(rec.ln)), rec.so }
end

-- What this call took before, by the number of its slot. Read only when a slot is not granted any more, which is rare: held: is big.
local mine
local function taken_before(n)
  if not mine then
    mine = {}
    for mid, t in pairs(hash(held)) do
      local call_token, i = string.match(t, '^(.*)%.(%d+)$')
      if call_token == token then mine[tonumber(i)] = mid end
    end
  end
  local mid = mine[n]
  if not mid then return { 'missed', 'gone' } end
  local rec = record(mid)
  if rec.s == 'S' and rec.tk == token .. '.' .. n then return describe(mid, rec, rec.tk) end
  return { 'missed', 'passed' }
end

-- Whether the slot may still be used; a late one draws from each shared bucket anew.
local function fresh(l, slot)
  if not l.open then return 'held' end
  local own = l.buckets[1]
  if NOW > slot + own.tol then return 'late' end
  for _, b in ipairs(l.buckets) do
    if b.hold > math.max(NOW, slot) then return 'held' end
    if b.cap and b.used >= b.cap then return 'capped' end
  end
  local anew = {}
  for i = 2, #l.buckets do
    local b = l.buckets[i]
    if b.paced and NOW > slot + math.max(10000, b.t) then
      if b.tat > NOW then return 'late' end
      anew[#anew + 1] = b
    end
  end
  for _, b in ipairs(anew) do charge_pace(b, NOW, 1) end
  return nil
end

-- Charge what a message costs: a cap its messages, a pace the units beyond the one that its slot drew. The lane's next
-- granted slots pay first, for they were granted before the cost was known.
local function charge(lane, l, slot, units, counted)
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
      b.used = call('HINCRBY', b.key, 'used', counted)
    elseif b.paced and owed > 0 then
      charge_pace(b, math.max(b.tat, NOW), owed)
    end
    if b.probes then -- this request asks whether answers are clear again; the next one may in a while
      b.hold = math.max(b.hold, NOW + PROBE)
      call('HSET', b.key, 'probe', int(NOW + PROBE))
    end
  end
end

-- The next message of a class; of a lane that is drained only what was there before.
local function first_of(lane, l, class)
  local q = P .. 'q:' .. lane .. ':' .. class
  if l.until_turn then
    local score = call('ZRANGE', q, 0, 0, 'WITHSCORES')[2]
    if not score or tonumber(score) > l.until_turn[class] then return nil end
  end
  local head = call('ZPOPMIN', q)
  return #head > 0 and head or nil
end

local function pop(lane, l)
  l.pops = l.pops + 1
  local last = 2
  for _, b in ipairs(l.buckets) do
    if b.cap and b.used >= b.bulk_cap then last = 1 end -- the reserve is not for bulk
  end
  local order = { 0, 1, 2 }
  if l.pops % l.share == 0 then order, l.passed_over = { 2, 1, 0 }, true end
  for _, class in ipairs(order) do
    if class <= last then
      local head = first_of(lane, l, class)
      if head then
        l.turns['t' .. class] = head[2]
        return head[1], class
      end
    end
  end
end

local function write_turns(lane, l)
  local fields = { 'pc', int(l.pops) }
  for field, turn in pairs(l.turns) do fields[#fields + 1], fields[#fields + 2] = field, turn end
  call('HSET', P .. 'lane:' .. lane, unpack(fields))
end

-- Why this message must not leave, or nil. It ends what must end.
local function ended(mid, rec, l, builder)
  if rec.lg and of_entry(mid, newest_leg(mid, rec), rec.s) == 'D' then -- the person has another leg of it
    finish_as(mid, rec, 'C', 'other_leg')
    return true
  end
  if NOW >= num(rec.vu, 0) then
    finish_as(mid, rec, 'E', 'validity')
    return true
  end
  if rec.mb and config('give_up:' .. rec.jt) then -- a failover has shown that another may have sent it
    move(mid, rec, 'X', 'give_up', nil)
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
    if must_not_text(mid, rec.to, l.scopes, rec.jt, 'take') then
      finish_as(mid, rec, 'O', 'opted_out')
      return true
    end
    return false
  end
  local letters, i, any, changed = {}, 0, false, false
  for number in string.gmatch(rec.to, '[^,]+') do
    i = i + 1
    letters[i] = string.sub(rec.gm or '', i, i)
    if letters[i] ~= 'O' and must_not_text(mid, number, l.scopes, rec.jt, 'take') then letters[i], changed = 'O', true end
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

-- Until when a group waits for which what is left of the day is not enough, nil if it is: past the others, who may still
-- go, and not until midnight, for a cap may be raised.
local LOOK_AGAIN = 600000000
local function too_many_until(l, class, counted)
  for _, b in ipairs(l.buckets) do
    if b.cap and b.used + counted > (class == '2' and b.bulk_cap or b.cap) then return math.min(b.reset, NOW + LOOK_AGAIN) end
  end
end

-- Give leave for one message, or nil when it ends instead.
local function leave(mid, lane, l, slot, builder, message_token)
  local rec = record(mid)
  if rec.s ~= 'Q' or ended(mid, rec, l, builder) then return nil end
  local more = {}
  if rec.sp and ahead.stays_here(mid, rec, lane, l.buckets[1].t, more) then return nil end
  if not rec.so and rests(mid, rec, NOW) then return nil end
  if rec.wf and is_shut_out(mid, rec) then return nil end
  rec.tk = message_token
  rec.an = tostring(num(rec.an, 0) + 1)
  for _, v in ipairs({ 'tk', rec.tk, 'h', process, 'bv', builder, 'an', rec.an }) do more[#more + 1] = v end
  if not rec.fa then
    more[#more + 1], more[#more + 2] = 'fa', int(NOW)
  end
  local units, counted = num(rec.un, 1), 1
  if rec.gr then
    more[#more + 1], more[#more + 2] = 'gm', rec.gm
    units = #string.gsub(rec.gm, 'O', '')
    counted = units
  end
  local wait_until = rec.gr and too_many_until(l, rec.k, counted)
  if wait_until then
    move(mid, rec, 'W', 'daily_cap', wait_until)
    return nil
  end
  if waits_for_place(mid, rec, more) then return nil end
  local answer = describe(mid, rec, rec.tk)
  move(mid, rec, 'S', nil, NOW + 30000000, more)
  call('HSET', held, mid, rec.tk)
  charge(lane, l, slot, units, counted)
  return answer
end

local function serve(lane, slot, builder, n)
  local l = lane_of(lane)
  local why = fresh(l, slot)
  if why then
    l.passed_over = true
    return { 'missed', why }
  end
  for _ = 1, 50 do
    local mid = pop(lane, l)
    if not mid then break end
    local ok, answer = safely('take', mid, leave, mid, lane, l, slot, builder, token .. '.' .. n)
    if not ok then look_again(mid) end
    if answer then return answer end
  end
  return { 'empty' }
end

for i = 3, #ARGV, 3 do
  slots = slots + 1
  if call('ZREM', P .. 'g:' .. ARGV[i], ARGV[i + 1]) == 0 then
    answers[slots] = taken_before(slots)
  else
    answers[slots] = serve(ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], slots)
  end
end
-- A slot that was missed, or that went to bulk in its share, was counted as the one of something more pressing, and the lane
-- may wait at a shared pace with what remains: the rest has its place still to get.
local function speak_again(lane)
  for class = 0, 1 do
    if call('ZCARD', P .. 'q:' .. lane .. ':' .. class) > 0 then return arm(lane, class) end
  end
end

for lane, l in pairs(lanes) do
  if l.pops > 0 then write_turns(lane, l) end
  if l.passed_over and l.open then safely('arm', lane, speak_again, lane) end
end
settle_buckets()
settle_counts()
return { 'ok', int(NOW), call('INCR', P .. 'gen'), unpack(answers) }
