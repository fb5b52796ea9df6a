-- WhatsApp's window: a free-form message reaches only who wrote to us within 24 hours; else Meta takes templates alone.
--
-- wa:<sender>:<person> stands while the window is open, and says when they wrote last. A waiting message that is free-form has
-- the field "wf"; what it becomes once the window is closed, if its job type says so, is kept in wt:<message>.
local WINDOW = 86400000000

local function window_key(sender, person) return P .. 'wa:' .. sender .. ':' .. person end

-- They wrote to this sender at a time; the newest counts.
local function open_window(sender, person, at)
  local key = window_key(sender, person)
  local left = math.floor((at + WINDOW - NOW) / 1000)
  if left > 0 and at > num(call('GET', key), 0) then call('SET', key, int(at), 'PX', left) end
end

local function is_open(sender, person) return call('EXISTS', window_key(sender, person)) == 1 end

local NOT_OPEN = 'nobody wrote within 24 hours: only a template may go'

-- What becomes of an item { f = free-form, a = the template in its place, q = its request } before its record is written:
-- outside the window it turns into the template or into a rejection.
local function settle_window(item, person)
  if not item.f or item.r or is_open(item.lane, person) then return end
  if item.fw and not item.a then return end -- its take shuts it out, and there its fallback follows
  item.f = nil
  if item.a then
    item.c = item.a
  else
    item.c, item.r, item.e = item.q, 'whatsapp_window', NOT_OPEN
  end
  item.a = nil
end

-- The fields of a message that is free-form, and inside the window for now.
local function remember_window(mid, rec, item, fields)
  rec.wf = '1'
  fields[#fields + 1], fields[#fields + 2] = 'wf', '1'
  if item.a then call('SET', P .. 'wt:' .. mid, item.a, 'PX', math.max(1, math.floor((num(rec.vu, 0) - NOW) / 1000)) + 86400000) end
end

-- The window has closed while it waited: the template takes its place, or it ends, and then this is true. What may be out
-- keeps its bytes.
local function is_shut_out(mid, rec)
  if rec.mb or is_open(rec.ln, rec.to) then return false end
  local template = call('GET', P .. 'wt:' .. mid)
  if not template then
    finish_as(mid, rec, 'R', 'whatsapp_window', add_error(rec, 'x', 'whatsapp_window', NOT_OPEN))
    return true
  end
  drop_content(mid, rec, 0)
  local fields = {}
  add_content(fields, mid, template)
  for i = 1, #fields, 2 do rec[fields[i]] = fields[i + 1] end
  call('HSET', mkey(mid), unpack(fields))
  call('HDEL', mkey(mid), 'wf')
  call('DEL', P .. 'wt:' .. mid)
  rec.wf = nil
  return false
end
