-- Facts: what the provider's answer, a receipt or a poll says. They count from anyone, at any time, in any order.
--
-- A fact: { pid, st = letter, raw = provider's word, to = {{number, letter}, ...} for a group, from, parts,
--           er = {phase, code, title} or nil, rd = read, handed_over = the answer itself,
--           ca = the recipient's carrier, co = its cost in millionths of cu, sm, dm = ms from when the provider had it until the
--           carrier, and the handset, had it }

local function poll_at(rec) -- the next look at a message that was handed over and is silent
  local ends = num(rec.ho, NOW) + setting('silent_after_us', 259200000000)
  local step = setting('poll_after_us', 60000000) * 3 ^ num(rec.pn, 0)
  local from = rec.so and math.max(NOW, num(rec.ho, NOW)) or NOW -- what the provider holds until its time is silent until then
  local at = math.min(ends, from + math.min(step, 43200000000))
  if not rec.fd then return at end
  -- Before anything falls back for want of a word, the provider is asked once.
  local early = num(rec.pn, 0) == 0 and num(rec.fd) - 0.3 * num(rec.fw, 0) or at
  return math.min(at, early, num(rec.fd))
end

-- The state of a group from its members' letters: the lowest while any is open, then failed, unconfirmed, delivered.
local function of_group(letters)
  local low, open, worst = 99, nil, nil
  for i = 1, #letters do
    local l = string.sub(letters, i, i)
    if OPEN[l] and (RANK[l] or 0) < low then low, open = RANK[l] or 0, l end
    if l == 'F' or (l == 'X' and worst ~= 'F') or (l == 'D' and not worst) then worst = l end
  end
  return open or worst
end

-- Raise the members that the fact speaks of; returns the new letters.
local function raise_members(rec, fact)
  local position, letters = {}, {}
  local i = 0
  for number in string.gmatch(rec.to, '[^,]+') do
    i = i + 1
    position[number] = i
    letters[i] = string.sub(rec.gm or '', i, i)
    if letters[i] == '' then letters[i] = 'A' end
  end
  for _, pair in ipairs(fact.to or {}) do
    local p, l = position[pair[1]], pair[2]
    if p and letters[p] ~= 'O' and (RANK[l] or 0) > (RANK[letters[p]] or 0) then letters[p] = l end
  end
  return table.concat(letters)
end

-- Find the message by the provider's id later: small hashes by day and the id's last letters (its first ones hardly vary).
local function index_key(day, pid) return P .. 'p:' .. int(day) .. ':' .. string.sub(pid, -3) end

local function index(pid, mid)
  local key = index_key(math.floor(NOW / 86400000000), pid)
  call('HSET', key, pid, mid)
  call('EXPIRE', key, 950400)
end

-- The message that somebody speaks of by our id, or else by the provider's.
local function find_message(ref, pid)
  if ref and call('EXISTS', mkey(ref)) == 1 then return ref end
  if not pid then return nil end
  local day = math.floor(NOW / 86400000000)
  for back = 0, 10 do
    local mid = call('HGET', index_key(day - back, pid), pid)
    if mid then return mid end
  end
end

-- The last message that reached a person's carrier from one of our numbers, for as long as a reply to it may come: lo:<number
-- less its last two digits>, field <those>:<our number>. Written by receipts, so the way of sending pays nothing for it.
local function reply_key(person) return P .. 'lo:' .. string.sub(person, 1, -3) end
local function reply_field(person, ours) return string.sub(person, -2) .. ':' .. ours end

local function expect_replies(mid, rec)
  local kept_s = setting('replies_s', 259200)
  if kept_s <= 0 or not rec.fr then return end
  for person in string.gmatch(rec.to, '[^,]+') do
    call('HSET', reply_key(person), reply_field(person, rec.fr), mid)
    call('EXPIRE', reply_key(person), kept_s)
  end
end

local function replied_to(person, ours)
  for _, number in ipairs(ours) do
    local mid = call('HGET', reply_key(person), reply_field(person, number))
    if mid then return mid end
  end
end

-- When a message was handed over; of one that is scheduled at the provider, when it is to leave there.
function provider.handed_at(rec) return int(math.max(NOW, num(rec.so, 0))) end

function provider.say_of_opt_out(mid, rec, what)
  local scope, said = opted_out(words(call('HGET', P .. 'lane:' .. rec.ln, 'scp')), rec.to, rec.jt)
  audit(what, rec.to, mid, scope or '', said or '', 'provider')
end

-- It was wanted back, and the provider will send it, or has: its end comes by facts. What was said of it stays known.
function provider.came_too_late(mid, rec)
  local why = rec.wd
  rec.wd = '!' .. why
  local more = add_error(rec, 'c', 'too_late', 'the provider had it already: too late to take it back')
  call('HSET', mkey(mid), 'wd', rec.wd, unpack(more))
  call('ZREM', P .. 'wq', mid)
  if why == 'opted_out' then provider.say_of_opt_out(mid, rec, 'late') end
  if OPEN[rec.s] then call('ZADD', P .. 'timers', int(poll_at(rec)), mid) else call('ZREM', P .. 'timers', mid) end
end

-- The provider says that it cancelled what it held. Where an earlier request may have made another one, nobody knows of that one.
function provider.taken_back(mid, rec, more)
  local why = string.match(rec.wd or '', '^!?(.*)$')
  local may_be_two = rec.mb and num(rec.an, 0) > 1
  if not provider.MAY_HOLD[rec.s] or (rec.s == 'X' and may_be_two) then
    if #more > 0 then call('HSET', mkey(mid), unpack(more)) end
    return 'known'
  end
  call('ZREM', P .. 'wq', mid)
  if rec.fq then give_place_back(mid, rec) end
  if why == 'opted_out' then provider.say_of_opt_out(mid, rec, 'withdrawn') end
  local to = why == 'opted_out' and 'O' or 'C'
  move(mid, rec, may_be_two and 'X' or to, why ~= '' and why or 'at_provider', nil, more)
  return 'applied'
end

-- Apply one fact to a message. Returns a word: "applied", "known" (nothing new), "odd" (the message is in an end that no
-- fact moves), "duplicate" (a second provider id, seen first: the message left twice).
local function apply(mid, rec, fact)
  -- Nothing of it can have left: somebody else's receipt with our reference.
  local never_left = WAITING[rec.s] and not rec.mb and num(rec.an, 0) < 1
  if rec.s == 'N' or (never_left and not fact.handed_over) then return 'odd' end
  local more = {}
  local function set(field, value)
    if value and value ~= '' and rec[field] ~= value then
      rec[field] = value
      more[#more + 1] = field
      more[#more + 1] = value
    end
  end
  local word = 'applied'
  if fact.pid and rec.pid ~= fact.pid then
    if not rec.pid then
      set('pid', fact.pid)
      index(fact.pid, mid)
    else
      local others = rec.p2 or ''
      if not string.find(others, fact.pid, 1, true) and #others < 200 then
        set('p2', others == '' and fact.pid or (others .. ',' .. fact.pid))
        index(fact.pid, mid)
        if not rec.gr then -- the members of a group may have ids of their own
          word = 'duplicate'
          call('HINCRBY', P .. 'counts', 'doubled', 1)
          event('message.duplicate', mid, rec, rec.s)
        end
      end
    end
  end
  if fact.handed_over and (rec.s == 'S' or rec.s == 'U' or not rec.ho) then set('ho', provider.handed_at(rec)) end
  if rec.fb and rec.ho and (fact.handed_over or not rec.fd) then set('fd', int(num(rec.ho) + num(rec.fw, 0))) end
  set('fr', fact.from)
  set('pt', fact.parts and tostring(fact.parts))
  set('ps', fact.raw and string.sub(fact.raw, 1, 40))
  if fact.rd then set('rd', int(NOW)) end
  if fact.ca and OPEN[rec.s] and not rec.ca and not rec.gr then set('ca', fact.ca) end -- later, its end is counted
  if fact.co and num(rec.co, 0) ~= fact.co then
    local by = fact.co - num(rec.co, 0)
    stat(by > 0 and 'c' or 'r', rec, math.abs(by), fact.cu)
    set('co', int(fact.co))
  end
  rec.sent_ms, rec.done_ms = fact.sm, fact.dm
  if rec.so then
    rec.sent_ms, rec.done_ms = nil, nil -- they count from when the provider had it, days ago
    if fact.raw == 'cancelled' then return provider.taken_back(mid, rec, more) end
  end
  local to = RANK[fact.st or ''] and fact.st or nil
  if rec.gr then
    set('gm', raise_members(rec, fact))
    to = of_group(rec.gm)
  end
  local group_fix = rec.gr and rec.s == 'F' and to == 'X'
  local moves = to and to ~= rec.s
    and (RANK[rec.s] and (RANK[to] > RANK[rec.s] or group_fix) or (OPEN[rec.s] and not RANK[rec.s]))
  if fact.er and (moves or OPEN[rec.s]) and not (rec.er and string.find(rec.er, fact.er[1] .. fact.er[2] .. '@', 1, true)) then
    for _, v in ipairs(add_error(rec, fact.er[1], fact.er[2], fact.er[3])) do more[#more + 1] = v end
  end
  if moves then
    if not rec.ho then set('ho', provider.handed_at(rec)) end
    if rec.wd and to ~= 'A' and string.sub(rec.wd, 1, 1) ~= '!' then provider.came_too_late(mid, rec) end
    if (RANK[rec.s] or 0) < 2 and (to == 'T' or to == 'D') then expect_replies(mid, rec) end
    move(mid, rec, to, fact.er and fact.er[2] or '', OPEN[to] and poll_at(rec) or nil, more)
    if rec.wd then provider.ask_back(mid, rec) end
    return word
  end
  if #more > 0 then call('HSET', mkey(mid), unpack(more)) end
  if rec.wd then provider.ask_back(mid, rec) end
  if not OPEN[rec.s] and not RANK[rec.s] then return 'odd' end
  return word == 'duplicate' and word or 'known'
end
