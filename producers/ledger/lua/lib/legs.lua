-- needs: base lanes opt_outs states rules whatsapp recall
-- The next leg of an entry: a new message with a key of its own, by replay (leg.lua) or as a fallback.
--
-- What may follow a message was rendered when the message was, and waits in fb:<entry>, or in tf:<notification> where
-- recipients share it: a list of {l = lane, a = us after the hand-over, c = content, u = units,
-- f = free-form WhatsApp, t = the template in its place}. So the next leg is made in the
-- very step that finds out that it is needed, and no receipt can come between. Of the newest leg field "fb" is the place of
-- the next one in the list ("s" in front: in the shared one), "fw" its `a`, "fd" when nothing delivered by then calls for it.

-- A leg's record, in state N; its content is given. The caller counts, and has it enter a lane.
local function make_leg(entry, first, last, number, o)
  local id, rec = leg_id(entry, number), nil
  rec = { s = 'N', at = int(NOW), jt = last.jt, k = last.k, vu = int(o.vu), to = last.to, ln = o.lane, tl = 'N0.' .. word(o.why),
    lg = int(number), ml = (first.mn or last.ml) and '1' or nil, cb = first.cb, z = o.z or last.z, fb = o.fb, fw = o.fw }
  if last.gr then rec.gr, rec.gm = '1', o.letters end
  -- What falls back is one message to the person, in whatever number of legs; a replay is one more.
  if o.why ~= 'replay' and last.fq then rec.fq = string.match(last.fq, '^%d+:') end
  -- Handed over ahead, it may have failed before its time: what follows must not come before that. Where it may be scheduled
  -- all the same, what follows gives it the time to arrive.
  local due = num(last.so or last.sp, 0)
  if due > NOW then rec.sa = int(due + (last.mb and num(last.fw, 0) or 0)) end
  if num(o.units, 1) > 1 then rec.un = int(tonumber(o.units)) end
  local fields = {}
  for field, value in pairs(rec) do fields[#fields + 1], fields[#fields + 2] = field, value end
  if o.wf then remember_window(id, rec, { a = o.template }, fields) end
  add_content(fields, id, o.content)
  call('HSET', mkey(id), unpack(fields))
  call('HSET', mkey(entry), 'nl', rec.lg)
  first.nl = rec.lg
  for older = 1, number - 1 do call('PERSIST', mkey(leg_id(entry, older))) end
  call('ZREM', P .. 'dead', leg_id(entry, number - 1))
  return id, rec
end

-- Who of a message's people may get a leg by this lane: as letters, and whether anybody; nil where the lane is gone.
local function may_get(id, last, lane)
  local l = call('HMGET', P .. 'lane:' .. lane, 'ok', 'scp')
  if l[1] ~= '1' then return nil end
  local letters, any = '', false
  for person in string.gmatch(last.to, '[^,]+') do
    local out = must_not_text(id, person, words(l[2]), last.jt, 'leg')
    letters = letters .. (out and 'O' or 'A')
    any = any or not out
  end
  return letters, any
end

function enter_leg(id, rec)
  watch_validity(id, tonumber(rec.vu))
  local lost = lost_take(id)
  if lost then -- it had been made and sent before this server forgot so
    move(id, rec, 'Q', nil, nil)
    return recall(id, rec, lost, lost.h)
  end
  local release = num(rec.sa, 0)
  if rests(id, rec, math.max(NOW, release)) then return end
  if release > NOW then return move(id, rec, 'W', 'send_at', release) end
  move(id, rec, 'Q', nil, nil)
  put(rec, id)
  arm(rec.ln, tonumber(rec.k))
end

-- The first of the steps that can be taken, made; nil where there is none, and then none will follow. Never for what was
-- called off, has arrived with anybody, or is no longer valid.
function next_leg(mid, rec)
  local entry = entry_of(mid)
  local first = mid == entry and rec or record(entry)
  local number = num(first.nl, 1) + 1
  local shared, at = string.match(rec.fb, '^(s?)(%d+)$')
  local called_off = rec.cx or rec.wd or NOW >= num(rec.vu, 0) or not first.s or number > num(rec.lg, 1) + 1
    or (rec.gr and string.find(rec.gm or '', 'D', 1, true)) or of_entry(entry, number - 1, first.s) == 'D'
  local steps = called_off and {} or call('LRANGE', shared == 's' and P .. 'tf:' .. nid_of(mid) or P .. 'fb:' .. entry, at - 1, -1)
  for i, packed in ipairs(steps) do
    local step = cjson.decode(packed)
    local letters, any = may_get(leg_id(entry, number), rec, step.l)
    if step.f and not is_open(step.l, rec.to) then step.f, step.c = nil, step.t end
    if any and step.c then
      local more = steps[i + 1] and cjson.decode(steps[i + 1])
      local o = { why = 'fallback', vu = tonumber(rec.vu), lane = step.l, content = step.c, units = step.u, letters = letters,
        wf = step.f and '1', template = step.t, fb = more and shared .. int(at + i), fw = more and more.a }
      if more then
        call('HDEL', mkey(mid), 'fb', 'fw', 'fd')
        rec.fb, rec.fd = nil, nil
      else
        drop_steps(mid, rec)
      end
      return make_leg(entry, first, rec, number, o)
    end
  end
  drop_steps(mid, rec)
end
