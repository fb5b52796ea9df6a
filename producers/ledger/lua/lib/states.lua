-- needs: stats provider
-- The one transition table, and `move`: the only place that changes a message's state.
--
--   N new · W scheduled · Q queued · S sending · U uncertain · A accepted · T sent
--   D delivered · F failed · X unconfirmed · R rejected · E expired · C cancelled · O opted_out
local OPEN = { N = 1, W = 1, Q = 1, S = 1, U = 1, A = 1, T = 1 }
local WAITING = { N = 1, W = 1, Q = 1 }
-- Facts have a rank, and a message only moves up.
local RANK = { A = 1, T = 2, X = 3, F = 4, D = 5 }
local MOVES = {
  N = 'WQRECO',
  W = 'QWRECOATDFX',
  Q = 'SWRECOATDFX',
  S = 'UQWRECOATDFX',
  U = 'QWRECOATDFX',
  A = 'TDFXCO', -- C and O of what was scheduled at the provider, on its word
  T = 'DFX',
  X = 'FDCO',
  F = 'DX', -- X only for a group, when the member that had failed turns out delivered
  D = '', R = '', E = '', C = '', O = '',
}

-- What apps are owed by a call. Its endpoint stands in the record ("cb", a hash of scheme, host and port), so a message
-- without one costs nothing. cb:<endpoint> holds what is owed by the time it is due, cb the endpoints by when to look next.
-- Owed is an entry ("m<id>"), a notification ("n<id>") or one event ("e<cursor>"); the state that is told is read when it is told.
local OWED = {}
local function owe(endpoint, item)
  call('ZADD', P .. 'cb:' .. endpoint, int(NOW), item)
  if not OWED[endpoint] then call('ZADD', P .. 'cb', 'LT', int(NOW), endpoint) end
  OWED[endpoint] = true
end

-- Tell apps on the stream; `more` is a flat list of further fields. Returns the event's place in the stream.
local function event(kind, mid, rec, state, more)
  return call('XADD', P .. 'ev', 'MAXLEN', '~', setting('events', 100000), '*', 'y', kind, 'm', mid, 's', state,
    'v', rec.v or '1', 't', int(NOW), unpack(more or {}))
end

-- The same of something that happened to a message and is no state of it, such as a click: its app is called too.
local function happened(kind, mid, rec, state, more)
  local at = event(kind, mid, rec, state, more)
  if rec.cb then owe(rec.cb, 'e' .. at) end
end

-- Dead letters: what ended without arriving, and that a person may want to send again.
local DEAD = { R = 1, F = 1, X = 1 }
local DEAD_KEPT_S = 86400

-- A notification of many: its counts, added up over the call and written by `settle_counts`, which every script that
-- moves messages says last. They count entries, whatever number of legs each has.
local COUNTS = {}
local function count(nid, from, to, by)
  local c = COUNTS[nid] or { op = 0 }
  COUNTS[nid] = c
  c['c.' .. from] = (c['c.' .. from] or 0) - by
  c['c.' .. to] = (c['c.' .. to] or 0) + by
  if OPEN[from] and not OPEN[to] then c.op = c.op - by end
  if OPEN[to] and not OPEN[from] then c.op = c.op + by end
end

-- What stands beside the messages of a notification, and lives as long as they do.
local HEADS = { 'n:', 'x:', 'r:' }

local function settle(nid, changes)
  local n = P .. 'n:' .. nid
  if call('EXISTS', n) == 0 then return end -- its retention is over, and a late fact must not bring a part of it back
  local by_open = changes.op
  local open = by_open ~= 0 and call('HINCRBY', n, 'op', by_open)
  changes.op = nil
  for field, by in pairs(changes) do
    if by ~= 0 then call('HINCRBY', n, field, by) end
  end
  if by_open > 0 then -- it was finished, and an entry has a new leg
    for _, k in ipairs(HEADS) do call('PERSIST', P .. k .. nid) end
  end
  if open ~= 0 then return end
  local c, dead, ends = call('HMGET', n, 'c.D', 'c.F', 'c.X', 'c.R', 'c.E', 'c.C', 'c.O', 'cb', 'sf'), 0, {}
  for i, letter in ipairs({ 'D', 'F', 'X', 'R', 'E', 'C', 'O' }) do
    if num(c[i], 0) > 0 then ends[#ends + 1] = letter .. int(num(c[i])) end
    if DEAD[letter] then dead = dead + num(c[i], 0) end
  end
  call('EXPIRE', P .. 't:' .. nid, math.max(setting('content_kept_s', 0), dead > 0 and 86400 or 0))
  call('ZREM', P .. 'timers', 'n' .. nid, 'e' .. nid)
  call('DEL', P .. 'rq:' .. nid)
  for _, k in ipairs(HEADS) do call('EXPIRE', P .. k .. nid, setting('retention_s', 604800)) end
  call('HSET', n, 'fna', int(NOW))
  event('notification.finished', nid, { v = int(call('HINCRBY', n, 'fin', 1)) }, '', { 'c', table.concat(ends, ' ') })
  if c[8] then owe(c[8], 'n' .. nid) end
  if c[9] then call('DEL', P .. 'tf:' .. nid) end
end

local function settle_counts()
  for nid, changes in pairs(COUNTS) do safely('counts', nid, settle, nid, changes) end
  COUNTS = {}
  safely('stats', '', settle_stats)
end

-- Legs. The first leg of an entry is <notification>-<index>, its id the entry's; a later one is <entry>-<number>, a message
-- of its own. Field "nl" of the first is the newest's number; "lg" of a later one its own, and "ml" says that its
-- notification is one of many. A message with one leg has none of the three.
local function entry_of(mid) return string.match(mid, '^(%x+%-%d+)') end

local function leg_id(entry, number)
  return number == 1 and entry or entry .. '-' .. string.format('%d', number)
end

local function newest_leg(mid, rec)
  return num(rec.nl or call('HGET', mkey(entry_of(mid)), 'nl'), num(rec.lg, 1))
end

-- The state of an entry whose leg `mid` is in state `mine`: delivered if any leg is, else its newest leg's.
local function of_entry(mid, newest, mine)
  local entry, state = entry_of(mid), nil
  for number = 1, newest do
    local id = leg_id(entry, number)
    local s = id == mid and mine or call('HGET', mkey(id), 's')
    if s == 'D' then return 'D' end
    if number == newest then state = s end
  end
  return state or mine
end

-- By the id of the newest leg.
local function note_dead(mid, newest, from, to)
  if from == to or not (DEAD[from] or DEAD[to]) then return end
  local id = newest and leg_id(entry_of(mid), newest) or mid
  if DEAD[to] then
    call('ZADD', P .. 'dead', int(NOW), id)
  else
    call('ZREM', P .. 'dead', id)
  end
end

-- All legs of an entry leave together, once the last of them has ended.
local function expire_legs(mid, newest)
  for number = 1, newest do
    local key = mkey(leg_id(entry_of(mid), number))
    local s = call('HGET', key, 's')
    if s and not OPEN[s] then call('EXPIRE', key, setting('retention_s', 604800)) end
  end
end

local function at_end(mid, rec, after, newest)
  local keep = setting('content_kept_s', 0)
  if DEAD[after] then keep = math.max(keep, DEAD_KEPT_S) end -- a day, for a person to look
  drop_content(mid, rec, keep)
  if rec.wf then call('DEL', P .. 'wt:' .. mid) end
  if OPEN[after] then return end -- another leg is under way, and all of them leave together
  call('EXPIRE', mkey(mid), setting('retention_s', 604800))
  if newest then expire_legs(mid, newest) end
end

-- A lone message is its notification; one of many is counted there. It finishes once for each leg that may follow.
local function finished_alone(mid, rec, newest, after)
  local nid = nid_of(mid)
  call('EXPIRE', P .. 'x:' .. nid, setting('retention_s', 604800))
  call('ZREM', P .. 'timers', 'n' .. nid)
  event('notification.finished', nid, { v = int(newest or 1) }, '', { 'c', after .. '1' })
  if rec.cb then owe(rec.cb, 'n' .. nid) end
end

-- Tell apps that an entry has ended, or otherwise than they were told: by the id of its first leg, whatever leg moved, and the
-- versions of all its legs together. Any other move of a leg is told by the leg's own id, to those who want all.
local function tell(mid, rec, newest, before, after)
  if OPEN[after] or before == after then
    if every_change() then event('message.changed', mid, rec, rec.s) end
    return
  end
  local entry, version = mid, num(rec.v, 1)
  if newest then
    entry, version = entry_of(mid), 0
    for number = 1, newest do version = version + num(call('HGET', mkey(leg_id(entry, number)), 'v'), 1) end
  end
  local final = OPEN[before]
  event(final and 'message.final' or 'message.corrected', entry, { v = int(version) }, after)
  if rec.cb then
    call('HSET', mkey(entry), 'ck', (final and 'f' or 'c') .. int(version))
    owe(rec.cb, 'm' .. entry)
  end
end

-- A timeline with one more step. One that has grown long (a message refused for days) loses its middle:
-- "~<n>" stands for the n requests that are not shown.
local function with_step(rec, to, why)
  local tl = (rec.tl or '') .. to .. b36((NOW - rec.at) / 1000)
  if why and why ~= '' then tl = tl .. '.' .. word(why) end
  if #tl < 1200 then return tl end
  local steps, cut = {}, 0
  for step in string.gmatch(tl, '%u[^%u]*') do steps[#steps + 1] = step end
  for i = 8, #steps - 16 do
    if i > 8 and string.sub(steps[i], 1, 1) == 'S' then cut = cut + 1 end
    cut = cut + num(string.match(steps[i], '~(%d+)'), 0)
  end
  steps[8] = string.gsub(steps[8], '~%d+', '') .. '~' .. string.format('%d', cut)
  return table.concat(steps, '', 1, 8) .. table.concat(steps, '', #steps - 15)
end

-- What was to follow it does not any more.
local function drop_steps(mid, rec)
  if string.sub(rec.fb, 1, 1) ~= 's' then call('DEL', P .. 'fb:' .. entry_of(mid)) end
  call('HDEL', mkey(mid), 'fb', 'fw', 'fd')
  rec.fb, rec.fd = nil, nil
end

local stop_other_legs, next_leg, enter_leg -- the latter two are those of scripts that need legs

-- The leg that follows a message which ends so, made; nil where none does. A verdict of no calls for one at once, as does an end
-- that nobody will say more of; not what was called off, or ran out of time.
local CALLED_OFF = { cancelled = 1, validity = 1, opted_out = 1, other_leg = 1, fallback = 1, replay = 1, quiet_hours = 1, ['40300'] = 1 }
local function following(mid, rec, from, to, why)
  if next_leg and (to == 'F' or to == 'X' or (to == 'R' and from ~= 'N')) and not CALLED_OFF[why or ''] then return next_leg(mid, rec) end
  drop_steps(mid, rec)
end

-- Move message `mid`, whose record `rec` the caller has just read, to state `to`.
-- `why` is a word of [a-z0-9_] for the timeline; `at` the instant to look at it next, nil for none;
-- `more` a flat list of further fields. A move that the table lacks is a bug and raises.
local function move(mid, rec, to, why, at, more)
  local from = rec.s
  if not string.find(MOVES[from] or '', to, 1, true) then
    error('no move from ' .. tostring(from) .. ' to ' .. to .. ' for ' .. mid)
  end
  local newest = (rec.nl or rec.lg) and newest_leg(mid, rec) -- nil: the entry is this message alone
  local before, after = from, to
  if newest then before, after = of_entry(mid, newest, from), of_entry(mid, newest, to) end
  local leg, leg_rec
  if rec.fb and not OPEN[to] then leg, leg_rec = following(mid, rec, from, to, why) end
  if leg then newest, after = tonumber(leg_rec.lg), 'N' end
  if rec.fd and to == 'Q' then at = at or tonumber(rec.fd) end
  rec.tl = with_step(rec, to, why)
  rec.s = to
  rec.v = int(num(rec.v, 1) + 1) -- as text: a number given to a command is printed with 17 digits, which costs more than the command
  call('HSET', mkey(mid), 's', to, 'v', rec.v, 'tl', rec.tl, unpack(more or {}))
  if from == 'Q' and to ~= 'S' then call('ZREM', P .. 'q:' .. rec.ln .. ':' .. rec.k, mid) end
  if at then
    call('ZADD', P .. 'timers', int(at), mid)
  elseif from ~= 'N' then -- a new one has no timer: its notification's pointer and validity have
    call('ZREM', P .. 'timers', mid)
  end
  if rec.mn or rec.ml then count(nid_of(mid), before, after, 1) end
  note_dead(mid, newest, before, after)
  if RANK[to] then stat_ranks(rec, to, RANK[from] or 0, RANK[to]) end
  if not OPEN[to] then stat_end(rec, from, to, why, not OPEN[from]) end
  if not OPEN[to] then
    if OPEN[from] then at_end(mid, rec, after, newest) end
  end
  tell(mid, rec, newest, before, after)
  if OPEN[before] and not OPEN[after] and not rec.mn and not rec.ml then finished_alone(mid, rec, newest, after) end
  if newest and to == 'D' then stop_other_legs(mid, newest) end
  if leg then enter_leg(leg, leg_rec) end
end

-- One rule for every end before acceptance: what may be out, and gets no more tries, is unconfirmed.
local function finish_as(mid, rec, to, why, more)
  if rec.mb then to = 'X' end
  move(mid, rec, to, why, nil, more)
end

-- The person has it: what waits of the entry ends, and what is under way gets no more tries.
function stop_other_legs(mid, newest)
  for number = 1, newest do
    local id = leg_id(entry_of(mid), number)
    local rec = id ~= mid and record(id) or {}
    if rec.fb then drop_steps(id, rec) end
    if WAITING[rec.s or ''] then
      finish_as(id, rec, 'C', 'other_leg')
    elseif rec.s == 'S' or rec.s == 'U' then
      call('HSET', mkey(id), 'cx', '1')
    end
  end
end

-- May be out from now on: wait for a word of it, as long as its job type says.
local function grace_of(rec)
  return setting('grace:' .. rec.jt, setting(rec.k == '0' and 'grace_urgent_us' or 'grace_us', 60000000))
end

local function doubt(mid, rec, why, more)
  more = more or {}
  for _, v in ipairs({ 'mb', '1', 'ua', int(NOW) }) do more[#more + 1] = v end
  local at = NOW + grace_of(rec)
  if rec.fb then -- it may have been handed over now
    if not rec.fd then
      rec.fd = int(math.max(NOW, num(rec.so, 0)) + num(rec.fw, 0))
      more[#more + 1], more[#more + 2] = 'fd', rec.fd
    end
    at = math.min(at, tonumber(rec.fd))
  end
  move(mid, rec, 'U', why, at, more)
end

-- Remember an error as <phase><code>@<ms since submit, base 36>; the words of the latest one beside it. Old ones go.
local function add_error(rec, phase, code, title)
  local er = phase .. string.sub(string.gsub(code, '[^%w_%-]', ''), 1, 40) .. '@' .. b36((NOW - rec.at) / 1000)
  if rec.er then er = rec.er .. ';' .. er end
  if #er > 600 then er = string.sub(er, string.find(er, ';', #er - 400, true) + 1) end
  rec.er = er
  return { 'er', er, 'et', string.sub(title or '', 1, 64) }
end

-- What held it is dead, or has said nothing for too long: it may be out. Some messages end whoever takes them up, and what
-- that one holds besides; one that has lost its holder too often ends here, before it ends the next.
local function lose_holder(mid, rec, why)
  local lost = num(rec.dk, 0) + 1
  local more = { 'dk', int(lost) }
  if lost < math.max(3, setting('max_tries', 5)) then return doubt(mid, rec, why, more) end
  for _, v in ipairs(add_error(rec, 's', 'poison', 'every worker that took it up was lost')) do more[#more + 1] = v end
  more[#more + 1], more[#more + 2] = 'mb', '1'
  return move(mid, rec, 'X', why == 'died' and 'killed_its_worker' or 'stalled_its_worker', nil, more)
end
