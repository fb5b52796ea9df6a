-- Record how callbacks went, or have dead ones called again.
-- needs: base
-- ARGV: a JSON object each: {e = endpoint, i = item, l = the lease under which it was taken, o = outcome, why,
--   after = do not repeat before, us, wait = the share of the usual wait until the repeat, 0.5 to 1}
--   outcomes: told · skip (nothing to tell any more) · gone (410: never call for this notification again) · failed ·
--   refused (no such call may be made) · again (of a dead one; no lease)
-- Returns a word each: done, again (owed still, or anew), dead, known (it was settled before).
-- Idempotent: by the lease. What became owed anew since it was taken stays owed.
local FAILS, FIRST, KEPT, REST_MOST = 5, 4000000, 86400000000, 300000000
local out = {}

local function look_by(endpoint, at) call('ZADD', P .. 'cb', 'LT', int(at), endpoint) end

local function bury(r, why)
  local key = r.e .. r.i
  call('ZREM', P .. 'cb:' .. r.e, r.i)
  call('HDEL', P .. 'cbt:' .. r.e, r.i)
  call('ZADD', P .. 'cbd', int(NOW), key)
  call('HSET', P .. 'cbw', key, why)
  call('HINCRBY', P .. 'counts', 'callbacks_dead', 1)
  return 'dead'
end

-- One more failure in a row of its endpoint; after some, it rests, ever longer. What was under way when it began to rest says
-- nothing new: from then on, probes count.
local function count_failure(endpoint)
  local breaker = P .. 'cbb:' .. endpoint
  local f = call('HMGET', breaker, 'until', 'probe')
  if num(f[1], 0) > NOW and not f[2] then return end
  local fails = call('HINCRBY', breaker, 'fails', 1)
  call('HDEL', breaker, 'probe')
  call('EXPIRE', breaker, 172800)
  if fails >= FAILS then call('HSET', breaker, 'until', int(NOW + math.min(REST_MOST, 5000000 * 2 ^ (fails - FAILS)))) end
end

local function fail(r, mine)
  local tries, first, last = string.match(call('HGET', P .. 'cbt:' .. r.e, r.i) or '', '^(%d+):(%d+):[^:]*:?(%d*)')
  if last == r.l then return 'again' end -- said before, and the reply was lost: a failure counts once
  count_failure(r.e)
  if not mine then return 'again' end
  tries, first = num(tries, 0) + 1, num(first, NOW)
  if NOW >= first + KEPT then return bury(r, r.why) end
  local wait = math.max(FIRST * 2 ^ (tries - 1) * num(r.wait, 1), num(r.after, 0))
  local due = math.min(NOW + wait, first + KEPT)
  call('HSET', P .. 'cbt:' .. r.e, r.i, int(tries) .. ':' .. int(first) .. ':' .. r.why .. ':' .. r.l)
  call('ZADD', P .. 'cb:' .. r.e, int(due), r.i)
  look_by(r.e, due)
  return 'again'
end

-- A 410: nothing more of this notification is called for.
local function stop_calling(item)
  local nid = string.match(item, '^[mn](%x+)')
  if not nid then return end
  call('HDEL', mkey(nid .. '-0'), 'cb')
  call('HDEL', P .. 'n:' .. nid, 'cb')
end

local function settle(r)
  if r.o == 'again' then
    if call('ZREM', P .. 'cbd', r.e .. r.i) == 0 then return 'known' end
    call('HDEL', P .. 'cbw', r.e .. r.i)
    call('DEL', P .. 'cbb:' .. r.e) -- whoever says so has mended it
    call('ZADD', P .. 'cb:' .. r.e, int(NOW), r.i)
    look_by(r.e, NOW)
    return 'again'
  end
  local due = call('ZSCORE', P .. 'cb:' .. r.e, r.i)
  if not due then return 'known' end
  local mine = int(tonumber(due)) == r.l
  if r.o == 'failed' then return fail(r, mine) end
  if r.o == 'told' or r.o == 'gone' then call('DEL', P .. 'cbb:' .. r.e) end
  if r.o == 'gone' then stop_calling(r.i) end
  if r.o == 'refused' and mine then return bury(r, r.why) end
  call('HDEL', P .. 'cbt:' .. r.e, r.i)
  if not mine and r.o ~= 'gone' then return 'again' end
  call('ZREM', P .. 'cb:' .. r.e, r.i)
  return 'done'
end

for i = 1, #ARGV do
  local ok, answer = safely('settle', 'callback', function() return settle(cjson.decode(ARGV[i])) end)
  out[i] = ok and answer or 'poison'
end
return out
