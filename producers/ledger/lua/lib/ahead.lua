-- needs: provider
-- Hand a message to the provider ahead of its time: when, and with which time.
--
-- The provider takes what is five minutes to five days ahead. At their time it lets all go at once, and what is above the sender's
-- rate would wait there, where nothing urgent overtakes. So each minute of a lane gets at most what half the sender's rate
-- allows, the rest the minutes after it: the other half is for what leaves from here meanwhile.
-- sm:<lane>:<span>:<day> counts the units of each span (a minute, or longer where a sender is slower), field "j<span>" says which
-- later one had room last.
local ahead = {} -- one local: a script has room for 200
ahead.NEAR = 330000000 -- half a minute more than the provider asks for: its clock is not ours, and a request takes time
ahead.FAR = 431700000000 -- five minutes less than its five days
ahead.MINUTE, ahead.DAY, ahead.SPANS_LOOKED_AT = 60000000, 86400000000, 3000

function ahead.span_key(lane, span, number)
  return P .. 'sm:' .. lane .. ':' .. int(span / 1000000) .. ':' .. int(math.floor(number * span / ahead.DAY))
end

-- The first span from `wanted` on that has room; its number, its length, and what it holds already.
function ahead.span_with_room(lane, interval, wanted, units)
  local each = 2 * interval
  local span = math.max(1, math.ceil(each / ahead.MINUTE)) * ahead.MINUTE
  local room = math.floor(span / each)
  local first = math.floor(wanted / span)
  local number, used = first, 0
  for _ = 1, ahead.SPANS_LOOKED_AT do
    local f = call('HMGET', ahead.span_key(lane, span, number), int(number), 'j' .. int(number))
    used = num(f[1], 0)
    if used == 0 or used + units <= room then break end
    number = num(f[2], number + 1)
  end
  if number ~= first then call('HSET', ahead.span_key(lane, span, first), 'j' .. int(first), int(number)) end
  return number, span, used
end

-- The time to tell the provider, nil where validity or quiet hours leave none: not before the app's, outside quiet hours.
function ahead.time_ahead(rec, lane, interval)
  local units, wanted = num(rec.un, 1), tonumber(rec.sp)
  for _ = 1, 10 do
    local opens = opens_at(rec.jt, rec.z, wanted)
    if not opens or opens >= num(rec.vu, 0) then return nil, 'quiet_hours' end
    local number, span, used = ahead.span_with_room(lane, interval, opens, units)
    local at = math.ceil(math.max(opens, number * span + used * 2 * interval) / 1000000) * 1000000
    if at >= num(rec.vu, 0) then return nil, 'validity' end
    if opens_at(rec.jt, rec.z, at) == at then
      local key = ahead.span_key(lane, span, number)
      call('HINCRBY', key, int(number), units)
      call('EXPIRE', key, 864000)
      return at
    end
    wanted = at
  end
  return nil, 'quiet_hours'
end

-- It goes from here after all, at the app's time. False: that is now.
function ahead.go_locally(mid, rec, more)
  local at = tonumber(rec.sp)
  call('HDEL', mkey(mid), 'sp', 'so', 'wd')
  rec.sp, rec.so, rec.wd = nil, nil, nil
  if at <= NOW then return false end
  move(mid, rec, 'W', 'send_at', at, more)
  return true
end

-- Where an admitted message that may be handed over ahead waits first; nil: it goes from here, "queue": it goes to its lane.
function ahead.await_window(mid, rec, release, fields)
  if release - NOW < ahead.NEAR then return nil end
  rec.sp = int(release)
  fields[#fields + 1], fields[#fields + 2] = 'sp', rec.sp
  if release - NOW <= ahead.FAR then return 'queue' end
  move(mid, rec, 'W', 'provider_window', release - ahead.FAR, fields)
  return 'waits'
end

-- A message that may be handed over ahead has its slot: true where it is not handed over with it. `more` gets its fields.
function ahead.stays_here(mid, rec, lane, interval, more)
  if not rec.so then
    if tonumber(rec.sp) - NOW < ahead.NEAR then return ahead.go_locally(mid, rec) end
    local at, why = ahead.time_ahead(rec, lane, interval)
    if not at then
      finish_as(mid, rec, 'E', why)
      return true
    end
    rec.so = int(at)
    more[#more + 1], more[#more + 2] = 'so', rec.so
  end
  local left = tonumber(rec.so) - NOW
  if left < ahead.NEAR then
    if not rec.mb then return ahead.go_locally(mid, rec) end
    move(mid, rec, 'X', 'window_closed', nil) -- the same bytes would be refused, and other ones would be a second text
    return true
  end
  if left > ahead.FAR then
    move(mid, rec, 'W', 'provider_window', tonumber(rec.so) - ahead.FAR, more)
    return true
  end
  provider.remember(mid, rec)
  return false
end
