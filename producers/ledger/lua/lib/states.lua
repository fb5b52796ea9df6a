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
  A = 'TDFX',
  T = 'DFX',
  X = 'FD',
  F = 'DX', -- X only for a group, when the member that had failed turns out delivered
  D = '', R = '', E = '', C = '', O = '',
}

local function event(kind, mid, rec, state)
  call('XADD', P .. 'ev', 'MAXLEN', '~', setting('events', 100000), '*', 'y', kind, 'm', mid, 's', state,
    'v', rec.v or '1', 't', int(NOW))
end

-- A notification of many: its counts, added up over the call and written by `settle_counts`, which every script that
-- moves messages says last.
local COUNTS = {}
local function count(nid, from, to, by)
  local c = COUNTS[nid] or { op = 0 }
  COUNTS[nid] = c
  c['c.' .. from] = (c['c.' .. from] or 0) - by
  c['c.' .. to] = (c['c.' .. to] or 0) + by
  if OPEN[from] and not OPEN[to] then c.op = c.op - by end
end

local function settle(nid, changes)
  local n = P .. 'n:' .. nid
  if call('EXISTS', n) == 0 then return end -- its retention is over, and a late fact must not bring a part of it back
  local open = changes.op ~= 0 and call('HINCRBY', n, 'op', changes.op)
  changes.op = nil
  for field, by in pairs(changes) do
    if by ~= 0 then call('HINCRBY', n, field, by) end
  end
  if open ~= 0 then return end
  local c = call('HMGET', n, 'c.F', 'c.X', 'c.R')
  local dead = num(c[1], 0) + num(c[2], 0) + num(c[3], 0)
  call('EXPIRE', P .. 't:' .. nid, math.max(setting('content_kept_s', 0), dead > 0 and 86400 or 0))
  call('ZREM', P .. 'timers', 'n' .. nid, 'e' .. nid)
  call('DEL', P .. 'rq:' .. nid)
  for _, k in ipairs({ 'n:', 'x:', 'r:' }) do call('EXPIRE', P .. k .. nid, setting('retention_s', 604800)) end
  event('notification.finished', nid, {}, '')
end

local function settle_counts()
  for nid, changes in pairs(COUNTS) do safely('counts', nid, settle, nid, changes) end
  COUNTS = {}
end

local function at_end(mid, rec, to)
  local keep = setting('content_kept_s', 0)
  if RANK[to] and to ~= 'D' or to == 'R' then keep = math.max(keep, 86400) end -- dead letters: a day, for a person to look
  drop_content(mid, rec, keep)
  call('EXPIRE', mkey(mid), setting('retention_s', 604800))
  if not rec.mn then
    call('EXPIRE', P .. 'x:' .. nid_of(mid), setting('retention_s', 604800))
    call('ZREM', P .. 'timers', 'n' .. nid_of(mid))
    event('notification.finished', nid_of(mid), {}, '')
  end
end

-- A word of a timeline, from wherever it comes.
local function word(text) return string.sub(string.gsub(string.lower(text or ''), '[^a-z0-9_]', '_'), 1, 40) end

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

-- Move message `mid`, whose record `rec` the caller has just read, to state `to`.
-- `why` is a word of [a-z0-9_] for the timeline; `at` the instant to look at it next, nil for none;
-- `more` a flat list of further fields. A move that the table lacks is a bug and raises.
local function move(mid, rec, to, why, at, more)
  local from = rec.s
  if not string.find(MOVES[from] or '', to, 1, true) then
    error('no move from ' .. tostring(from) .. ' to ' .. to .. ' for ' .. mid)
  end
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
  if rec.mn then count(nid_of(mid), from, to, 1) end
  if not OPEN[to] then
    if OPEN[from] then
      at_end(mid, rec, to)
      event('message.final', mid, rec, to)
    else
      event('message.corrected', mid, rec, to)
    end
  end
end

-- One rule for every end before acceptance: what may be out, and gets no more tries, is unconfirmed.
local function finish_as(mid, rec, to, why, more)
  if rec.mb then to = 'X' end
  move(mid, rec, to, why, nil, more)
end

-- May be out from now on: wait for a word of it, as long as its job type says.
local function grace_of(rec)
  return setting('grace:' .. rec.jt, setting(rec.k == '0' and 'grace_urgent_us' or 'grace_us', 60000000))
end

local function doubt(mid, rec, why, more)
  more = more or {}
  for _, v in ipairs({ 'mb', '1', 'ua', int(NOW) }) do more[#more + 1] = v end
  move(mid, rec, 'U', why, NOW + grace_of(rec), more)
end

-- Remember an error as <phase><code>@<ms since submit, base 36>; the words of the latest one beside it. Old ones go.
local function add_error(rec, phase, code, title)
  local er = phase .. string.sub(string.gsub(code, '[^%w_%-]', ''), 1, 40) .. '@' .. b36((NOW - rec.at) / 1000)
  if rec.er then er = rec.er .. ';' .. er end
  if #er > 600 then er = string.sub(er, string.find(er, ';', #er - 400, true) + 1) end
  rec.er = er
  return { 'er', er, 'et', string.sub(title or '', 1, 64) }
end
