-- When a job type's messages may leave: quiet hours, days and dates in the recipient's own time zones, and how many one
-- person gets in a time. Published as "rules:<job type>", and "ruled" names those that have any, so a message of another job
-- type costs nothing here. Read when a message would leave, so a change holds for what already waits.
--
-- A rule: { w = quiet windows {start, end} in minutes of the day, over midnight if the end is before the start;
--   d = quiet weekdays, 0 is Sunday; h = quiet dates, "2026-12-25" or, each year, "12-25";
--   f = frequencies {group, limit, per s, stamps kept, kept s} }
-- A message's field "z" names its zones, none: the default one. Hash tz knows a zone as "offset s;from s:offset s;..." and
-- a set of zones too long for a record as "=zone,zone". Zones are looked at in whole seconds; a message leaves if none is quiet.
local DAY_S = 86400
local RULES, RULED, ZONES, OPENINGS = {}, nil, {}, {}

local function rule_of(jt)
  if not RULED then
    RULED = {}
    for _, name in ipairs(words(config('ruled') or '')) do RULED[name] = true end
  end
  if not RULED[jt] then return nil end
  if not RULES[jt] then RULES[jt] = cjson.decode(config('rules:' .. jt) or '{}') end
  return RULES[jt]
end

local function read_zone(text)
  local zone = { tonumber(string.match(text, '^[^;]+')) }
  for from, offset in string.gmatch(text, ';(%d+):(-?%d+)') do zone[#zone + 1] = { tonumber(from), tonumber(offset) } end
  return zone
end

local function zone_table(name)
  if not ZONES[name] then ZONES[name] = read_zone(call('HGET', P .. 'tz', name) or error('no time zone ' .. name)) end
  return ZONES[name]
end

-- A zone's offset at a time, and when that ends.
local function offset_at(zone, at_s)
  local offset = zone[1]
  for i = 2, #zone do
    if zone[i][1] > at_s then return offset, zone[i][1] end
    offset = zone[i][2]
  end
  return offset, math.huge
end

local function zones_of(z)
  local names = z and z ~= '' and z or config('timezone') or 'UTC'
  if string.sub(names, 1, 1) == '~' then names = string.sub(call('HGET', P .. 'tz', names) or '=' .. (config('timezone') or 'UTC'), 2) end
  local out = {}
  for name in string.gmatch(names, '[^,]+') do out[#out + 1] = zone_table(name) end
  return out
end

-- The date of a day since 1970, as "2026-12-25" (Howard Hinnant, "chrono-compatible low-level date algorithms").
local function date_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

local function is_quiet_day(rule, day)
  for _, weekday in ipairs(rule.d or {}) do
    if (day + 4) % 7 == weekday then return true end -- the first of January 1970 was a Thursday
  end
  local date = rule.h and #rule.h > 0 and date_of(day)
  for _, quiet in ipairs(date and rule.h or {}) do
    if quiet == date or quiet == string.sub(date, 6) then return true end
  end
  return false
end

-- Until when a zone is quiet at `at_s`, nil if it is not; at the latest until its clocks change, where it is asked anew.
local function quiet_until(rule, zone, at_s)
  local offset, changes = offset_at(zone, at_s)
  local day = math.floor((at_s + offset) / DAY_S)
  local second = at_s + offset - day * DAY_S
  local ends = is_quiet_day(rule, day) and (day + 1) * DAY_S or nil
  for _, window in ipairs(rule.w or {}) do
    local from, to = window[1] * 60, window[2] * 60
    local over
    if from < to then
      over = second >= from and second < to and day * DAY_S + to
    elseif second >= from then
      over = (day + 1) * DAY_S + to
    else
      over = second < to and day * DAY_S + to
    end
    if over then ends = math.max(ends or 0, over) end
  end
  return ends and math.min(ends - offset, changes)
end

-- The first instant from `from` on, in us, at which none of the zones is quiet; nil if there is none for 400 steps (months).
local function opens_at(jt, z, from)
  local rule = rule_of(jt)
  if not rule or not (rule.w or rule.d or rule.h) then return from end
  local key = jt .. ' ' .. (z or '') .. ' ' .. int(from)
  if OPENINGS[key] == nil then
    local zones, at_s, found = zones_of(z), math.floor(from / 1000000), false
    for _ = 1, 400 do
      local moved
      for _, zone in ipairs(zones) do
        local ends = quiet_until(rule, zone, at_s)
        if ends then at_s, moved = ends, true end
      end
      if not moved then
        found = math.max(from, at_s * 1000000)
        break
      end
    end
    OPENINGS[key] = found
  end
  return OPENINGS[key] or nil
end

-- A message that must not leave at `from` waits for the next opening, or ends where that comes too late. True if so.
local function rests(mid, rec, from, more)
  local opens = opens_at(rec.jt, rec.z, from)
  if opens and opens <= from then return false end
  if opens and opens < num(rec.vu, 0) then
    move(mid, rec, 'W', 'quiet_hours', opens, more)
  else
    finish_as(mid, rec, 'E', 'quiet_hours', more)
  end
  return true
end

-- Frequency: fq:<group>:<person> lists when the person's last messages left, the newest first, no more of them than the
-- greatest limit of the group and no longer than its longest time. Field "fq" of a message that holds a place is
-- "<its stamp>:<group>,<group>"; of a fallback leg "<stamp>:", for its entry holds the place.
local function places(group, person) return P .. 'fq:' .. group .. ':' .. person end

-- Those a message goes to: members of a group who opted out get nothing.
local function people(rec)
  local out, i = {}, 0
  for person in string.gmatch(rec.to, '[^,]+') do
    i = i + 1
    if not (rec.gr and string.sub(rec.gm or '', i, i) == 'O') then out[#out + 1] = person end
  end
  return out
end

-- When a place is free for everybody the message goes to: nil if now.
local function place_at(rule, persons)
  local at
  for _, f in ipairs(rule.f) do
    for _, person in ipairs(persons) do
      local stamp = num(call('LINDEX', places(f[1], person), f[2] - 1), nil)
      if stamp and stamp + f[3] * 1000000 > NOW then at = math.max(at or 0, stamp + f[3] * 1000000) end
    end
  end
  return at
end

-- It has its place already: what is sent again, and a fallback, are one message to the person. Not for ever: a place lapses.
local function has_place(rec, rule)
  local stamp = num(string.match(rec.fq or '', '^(%d+)'), 0)
  for _, f in ipairs(rule.f) do
    if stamp + f[3] * 1000000 <= NOW then return false end
  end
  return true
end

local function take_place(rec, rule, persons, more)
  local groups = {}
  for i, f in ipairs(rule.f) do
    groups[i] = f[1]
    for _, person in ipairs(persons) do
      call('LPUSH', places(f[1], person), int(NOW))
      call('LTRIM', places(f[1], person), 0, f[4] - 1)
      call('EXPIRE', places(f[1], person), f[5])
    end
  end
  rec.fq = int(NOW) .. ':' .. table.concat(groups, ',')
  more[#more + 1], more[#more + 2] = 'fq', rec.fq
end

-- A take that a failover made the server forget: its place was forgotten with it, and the message may have left.
local function hold_place_again(rec, more)
  local rule = rule_of(rec.jt)
  if rule and rule.f and not has_place(rec, rule) then take_place(rec, rule, people(rec), more) end
end

-- Take a place for a message that is about to leave; or let it wait for one, and return true. Its validity may end it first.
local function waits_for_place(mid, rec, more)
  local rule = rule_of(rec.jt)
  if not rule or not rule.f or has_place(rec, rule) then return false end
  local persons = people(rec)
  local at = place_at(rule, persons)
  if at then
    move(mid, rec, 'W', 'frequency', math.min(at, math.max(num(rec.vu, 0), NOW + 1000000)))
    return true
  end
  take_place(rec, rule, persons, more)
  return false
end

-- Nothing of it left after all: the place is free again.
local function give_place_back(mid, rec)
  local stamp, groups = string.match(rec.fq or '', '^(%d+):(.+)$')
  if not stamp then return end
  for group in string.gmatch(groups, '[^,]+') do
    for _, person in ipairs(people(rec)) do call('LREM', places(group, person), 1, stamp) end
  end
  rec.fq = nil
  call('HDEL', mkey(mid), 'fq')
end
