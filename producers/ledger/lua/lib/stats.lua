-- Figures of what became of messages: added up over a call, written once at its end (`settle_counts` does it), so that a
-- message that moves costs its script a part of two commands. Since they are written inside the transition they are exact.
--
-- st:<minute>  what happened in it; `@` says whether it is rolled up. Kept STAT_MINUTES_S after that.
-- st:d<day>    the sum of the minutes of a day (UTC), as long as records are kept · st:all  of all days, for ever
-- st:open      the minutes that are not yet in their day: at most the running one and its predecessor
--
-- A field is <kind>|<job type>|<lane>|<carrier>|<more>. Kinds:
--   p<i>, P · s<i>, S · d<i>, D   latencies: bucket i of STAT_BOUNDS_MS, and the sum in ms: enqueue (or release) to the provider,
--                                 provider to carrier, provider to handset
--   e<state>       it ended so for the first time; <more> is the reason
--   x<from><to>    a correction of such an end; <more> is <reason of the one>><reason of the other>. So net counts are exact
--   g · c · r      segments of what ended · cost in millionths, and what was taken back of it; <more> is the currency
--   o<outcome>     a request that was not accepted; <more> is the reason
--   k              clicks on a link
-- Bounded: beyond STAT_FIELDS fields in one hash, labels that it does not know are "other".
local STAT_BOUNDS_MS = { 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000, 21600000 }
local STAT_FIELDS, STAT_FIELDS_ALL, STAT_MINUTES_S = 1000, 5000, 10800
local STATS = {}

local function stat(kind, rec, by, more)
  local field = kind .. '|' .. (rec.jt or '') .. '|' .. (rec.ln or '') .. '|' .. (rec.ca or '') .. '|' .. (more or '')
  STATS[field] = (STATS[field] or 0) + by
end

local function stat_latency(kind, sum, rec, ms)
  ms = math.max(0, math.floor(ms))
  local i = 1
  while STAT_BOUNDS_MS[i] and ms > STAT_BOUNDS_MS[i] do i = i + 1 end
  stat(kind .. i, rec, 1)
  stat(sum, rec, ms)
end

-- What a field is counted under in a hash that is full of others.
local function stat_overflow(field)
  local kind, more = string.match(field, '^([^|]*)|[^|]*|[^|]*|[^|]*|(.*)$')
  local keeps = kind == 'c' or kind == 'r' -- a sum of two currencies would be no amount
  return kind .. '|other|other|other|' .. ((keeps or more == '') and more or 'other')
end

-- Add a table of fields to a hash in two commands, however many they are; returns what "@" held before.
local function stat_add(key, figures, most, mark)
  local fields, write, mark_before = {}, {}, nil
  for field in pairs(figures) do fields[#fields + 1] = field end
  table.sort(fields)
  for from = 1, #fields, 400 do
    local part, new = { '@' }, false
    for i = from, math.min(from + 399, #fields) do part[#part + 1] = fields[i] end
    local held = call('HMGET', key, unpack(part))
    if from == 1 then mark_before = held[1] end
    for i = 2, #part do new = new or not held[i] end
    local room = new and most - call('HLEN', key) or 0
    local spilt = {}
    write = { '@', held[1] or mark }
    for i = 2, #part do
      local by = figures[part[i]]
      if not held[i] and room <= 0 then
        local other = stat_overflow(part[i])
        spilt[other] = (spilt[other] or 0) + by
      else
        if not held[i] then room = room - 1 end
        write[#write + 1] = part[i]
        write[#write + 1] = int(num(held[i], 0) + by)
      end
    end
    call('HSET', key, unpack(write))
    for other, by in pairs(spilt) do call('HINCRBY', key, other, int(by)) end
  end
  return mark_before
end

local function stat_add_to_days(minute, figures)
  local day = P .. 'st:d' .. int(math.floor(minute / 1440))
  stat_add(day, figures, STAT_FIELDS_ALL, 'd')
  call('EXPIRE', day, setting('retention_s', 604800) + 86400)
  stat_add(P .. 'st:all', figures, STAT_FIELDS_ALL, 'd')
end

-- Add the minutes that are over to their days, each once.
local function roll_up(current)
  for _, minute in ipairs(call('ZRANGEBYSCORE', P .. 'st:open', '-inf', '(' .. int(current))) do
    local key, figures = P .. 'st:' .. minute, {}
    for field, value in pairs(hash(key)) do
      if field ~= '@' then figures[field] = tonumber(value) end
    end
    call('ZREM', P .. 'st:open', minute)
    if next(figures) then stat_add_to_days(tonumber(minute), figures) end
    call('HSET', key, '@', 'r')
    call('EXPIRE', key, STAT_MINUTES_S)
  end
end

local function settle_stats()
  if not next(STATS) then return end
  local figures, minute = STATS, math.floor(NOW / 60000000)
  STATS = {}
  local mark = stat_add(P .. 'st:' .. int(minute), figures, STAT_FIELDS, 'o')
  if mark == 'r' then -- the clock went back into a minute that is rolled up
    stat_add_to_days(minute, figures)
  elseif not mark then
    call('ZADD', P .. 'st:open', int(minute), int(minute))
    roll_up(minute)
  end
end

-- A word of a timeline, from wherever it comes.
local function word(text) return string.sub(string.gsub(string.lower(text or ''), '[^a-z0-9_]', '_'), 1, 40) end

-- A message has moved: what its move says. Each rank is passed once, so each latency is counted once; a message that was
-- held on purpose (send_at, quiet hours) counts from its release. A fact may bring the provider's own times, in ms since it
-- had the message: `sent_ms`, `done_ms`.
local function stat_ranks(rec, to, was, is)
  if was == 0 and rec.pid then -- without an id nobody has it: its grace is over
    local since = rec.at
    if string.byte(rec.tl, 3) == 87 then -- N0W…
      since = since + tonumber(string.match(rec.tl, 'Q([0-9a-z]+)') or '0', 36) * 1000
    end
    stat_latency('p', 'P', rec, (NOW - since) / 1000)
  end
  if was < 2 and is > 1 and (rec.sent_ms or to == 'T') then
    stat_latency('s', 'S', rec, rec.sent_ms or (NOW - num(rec.ho, NOW)) / 1000)
  end
  if to == 'D' then stat_latency('d', 'D', rec, rec.done_ms or (NOW - num(rec.ho, NOW)) / 1000) end
end

local function stat_end(rec, from, to, why, corrects)
  if corrects then
    local before = string.match(rec.tl, '.*' .. from .. '[0-9a-z]+%.?([0-9a-z_]*)') or ''
    return stat('x' .. from .. to, rec, 1, before .. '>' .. word(why))
  end
  stat('e' .. to, rec, 1, word(why))
  if to == 'D' or to == 'F' or to == 'X' then stat('g', rec, num(rec.pt, 1)) end
end
