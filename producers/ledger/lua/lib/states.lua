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
    'v', tostring(rec.v or 1), 't', int(NOW))
end

local function keep_notification(nid)
  local keep = setting('retention_s', 604800)
  for _, k in ipairs({ 'n:', 'x:', 'r:' }) do call('EXPIRE', P .. k .. nid, keep) end
end

-- A notification of many: its counts, and its end.
local function count(nid, from, to, by)
  local n = P .. 'n:' .. nid
  if from then call('HINCRBY', n, 'c.' .. from, -by) end
  call('HINCRBY', n, 'c.' .. to, by)
  if (not from or OPEN[from]) and not OPEN[to] then
    if call('HINCRBY', n, 'op', -by) == 0 then
      local dead = num(call('HGET', n, 'c.F'), 0) + num(call('HGET', n, 'c.X'), 0) + num(call('HGET', n, 'c.R'), 0)
      call('EXPIRE', P .. 't:' .. nid, math.max(setting('content_kept_s', 0), dead > 0 and 86400 or 0))
      call('ZREM', P .. 'timers', 'n' .. nid, 'e' .. nid)
      keep_notification(nid)
      event('notification.finished', nid, {}, '')
    end
  end
end

local function at_end(mid, rec, to)
  local keep = setting('content_kept_s', 0)
  if RANK[to] and to ~= 'D' or to == 'R' then keep = math.max(keep, 86400) end -- dead letters: a day, for a person to look
  drop_content(mid, rec, keep)
  call('EXPIRE', mkey(mid), setting('retention_s', 604800))
  if not rec.mn then
    keep_notification(nid_of(mid))
    call('ZREM', P .. 'timers', 'n' .. nid_of(mid))
    event('notification.finished', nid_of(mid), {}, '')
  end
end

-- Move message `mid`, whose record `rec` the caller has just read, to state `to`.
-- `why` is a word of [a-z0-9_] for the timeline; `at` the instant to look at it next, nil for none;
-- `more` a flat list of further fields. A move that the table lacks is a bug and raises.
local function move(mid, rec, to, why, at, more)
  local from = rec.s
  if not string.find(MOVES[from] or '', to, 1, true) then
    error('no move from ' .. tostring(from) .. ' to ' .. to .. ' for ' .. mid)
  end
  rec.s = to
  rec.v = num(rec.v, 1) + 1
  rec.tl = (rec.tl or '') .. to .. b36((NOW - rec.at) / 1000) .. (why and why ~= '' and ('.' .. why) or '')
  call('HSET', mkey(mid), 's', to, 'v', rec.v, 'tl', rec.tl, unpack(more or {}))
  if from == 'Q' and to ~= 'S' then call('ZREM', P .. 'q:' .. rec.ln .. ':' .. rec.k, mid) end
  if at then
    call('ZADD', P .. 'timers', int(at), mid)
  else
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

-- Remember an error as <phase><code>@<ms since submit, base 36>; the words of the latest one beside it.
local function add_error(rec, phase, code, title)
  local entry = phase .. code .. '@' .. b36((NOW - rec.at) / 1000)
  rec.er = rec.er and (rec.er .. ';' .. entry) or entry
  return { 'er', rec.er, 'et', string.sub(title or '', 1, 64) }
end
