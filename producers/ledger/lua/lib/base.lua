-- What every script starts with: the prefix, the clock and the codecs of the record.
--
-- KEYS[1] is the prefix "{namespace}:". Every key is built from it, so all share one Cluster slot.
-- Times are integer microseconds of the server's own clock. No time passes through cjson, `..` or tostring:
-- those keep 14 digits, a time has 16. int() keeps all of them.
local P = KEYS[1]
local call = redis.call
local NOW
do
  local t = call('TIME')
  NOW = t[1] * 1000000 + t[2]
end
local RUNG = {}

local format, floor = string.format, math.floor
local function int(x) return format('%d', floor(x + 0.5)) end

local function num(x, default) return tonumber(x) or default end

local DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz'
local function b36(n)
  n = math.max(0, math.floor(n))
  local out = ''
  repeat
    local d = n % 36
    out = string.sub(DIGITS, d + 1, d + 1) .. out
    n = (n - d) / 36
  until n < 1
  return out
end

local function hash(key)
  local flat, out = call('HGETALL', key), {}
  for i = 1, #flat, 2 do out[flat[i]] = flat[i + 1] end
  return out
end

local function words(text)
  local out = {}
  for word in string.gmatch(text or '', '%S+') do out[#out + 1] = word end
  return out
end

-- What is published, read once a call. Whether apps want every change comes along with the first value that is asked for.
local CONFIG, EVERY = {}, nil
local function config(name)
  if CONFIG[name] == nil then
    if EVERY == nil then
      local f = call('HMGET', P .. 'cfg', name, 'every')
      CONFIG[name], EVERY = f[1] or false, f[2] == '1'
    else
      CONFIG[name] = call('HGET', P .. 'cfg', name) or false
    end
  end
  return CONFIG[name]
end

-- Read these in one command, those that are not there included.
local function prefetch_config(...)
  local names = { 'every', ... }
  for i, value in ipairs(call('HMGET', P .. 'cfg', unpack(names))) do CONFIG[names[i]] = value end
  EVERY = CONFIG.every == '1'
end

local function every_change()
  if EVERY == nil then EVERY = call('HGET', P .. 'cfg', 'every') == '1' end
  return EVERY
end

local function setting(name, default) return num(config(name), default) end

-- Run f for one item of many. An error in Lua rolls nothing back, so one poisonous item must not cost its neighbours
-- their turn: it is counted and put aside in `odd`. Returns true and f's value, or false.
local function safely(what, id, f, ...)
  local ok, result = pcall(f, ...)
  if ok then return true, result end
  local text = type(result) == 'table' and result.err or tostring(result)
  call('XADD', P .. 'odd', 'MAXLEN', '~', 10000, '*', 'why', what, 'id', id, 'error', string.sub(text, 1, 200))
  call('HINCRBY', P .. 'counts', 'poisoned', 1)
  return false
end

-- Look at a message again in a minute, unless it has a timer: nothing that was put aside is forgotten.
local function look_again(mid) call('ZADD', P .. 'timers', 'NX', int(NOW + 60000000), mid) end

-- Wake whoever waits on `what` ("send" or a queue's name): once a call, and lost without harm, for all poll.
local function ring(what)
  if not RUNG[what] then
    RUNG[what] = true
    call('PUBLISH', P .. 'bell', what)
  end
end

local function mkey(mid) return P .. 'm:' .. mid end
local function nid_of(mid) return string.sub(mid, 1, 32) end

-- A message's record; what all messages of a notification share (its times, its job type) stands once, in n:<notification>.
local function record(mid)
  local rec = hash(mkey(mid))
  if rec.mn then
    local f = call('HMGET', P .. 'n:' .. nid_of(mid), 'at', 'vu', 'jt', 'cb')
    rec.at, rec.vu, rec.jt, rec.cb = f[1] or int(NOW), f[2] or '0', f[3] or '', f[4] or nil
  end
  return rec
end

-- Content lives in pieces of at most 64 bytes inside the record, so that the hash stays a listpack (one longer
-- value would quadruple it); what needs more than 20 pieces gets a key of its own. Field "ct" says where:
-- a number of pieces, or "c" (c:<message>); a message of many without the field shares t:<notification>.
local PIECE, PIECES = 64, 20
local function add_content(fields, mid, content)
  local n = math.ceil(#content / PIECE)
  if n > PIECES then
    call('SET', P .. 'c:' .. mid, content)
    n = 'c'
  else
    for i = 1, n do
      fields[#fields + 1] = tostring(i)
      fields[#fields + 1] = string.sub(content, (i - 1) * PIECE + 1, i * PIECE)
    end
  end
  fields[#fields + 1] = 'ct'
  fields[#fields + 1] = tostring(n)
end

local function content_of(mid, rec)
  if rec.mn and not rec.ct then return call('GET', P .. 't:' .. nid_of(mid)) or '' end
  if rec.ct == 'c' then return call('GET', P .. 'c:' .. mid) or '' end
  local out = {}
  for i = 1, num(rec.ct, 0) do out[i] = rec[tostring(i)] end
  return table.concat(out)
end

-- Take the pieces out of the record; with keep_s > 0 they live on for that long in a key of their own.
local function drop_content(mid, rec, keep_s)
  local own = rec.ct == 'c'
  local pieces = num(rec.ct, 0)
  if pieces > 0 and keep_s > 0 then call('SET', P .. 'c:' .. mid, content_of(mid, rec), 'EX', keep_s) end
  if own and keep_s > 0 then call('EXPIRE', P .. 'c:' .. mid, keep_s) end
  if own and keep_s <= 0 then call('DEL', P .. 'c:' .. mid) end
  if pieces > 0 then
    local gone = {}
    for i = 1, pieces do gone[i] = tostring(i) end
    call('HDEL', mkey(mid), unpack(gone))
    call('HSET', mkey(mid), 'ct', keep_s > 0 and 'c' or '0')
  end
end

-- The validity of waiting messages: ids in a list for each second (minute, if over an hour away), one timer a list.
-- 36 bytes a message where a zset entry takes 124; an id that needs nothing any more costs one look.
local function watch_validity(mid, until_us)
  local grain = (until_us - NOW) > 3600000000 and 60 or 1
  local sec = int(math.ceil(until_us / (grain * 1000000)) * grain)
  if call('RPUSH', P .. 'vb:' .. sec, mid) == 1 then call('ZADD', P .. 'timers', int(sec * 1000000), 'v' .. sec) end
end
