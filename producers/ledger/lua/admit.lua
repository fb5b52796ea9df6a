-- Put what expand rendered into lanes or timers, once: a repeated or overtaken call changes nothing.
-- needs: base lanes opt_outs states rules whatsapp recall sticky ahead
-- ARGV: id, cursor ('' for a lone message), content shared by all of the chunk ('' for none), fallback steps shared likewise
--   (JSON list of packed steps, see lib/legs.lua; '' for none), then a JSON object for each
--   recipient: {to, lane, c = content unless shared, w = "release us" or nil, z = time zones where its job type has rules,
--   r = reason for a rejection, e = its title, f = free-form WhatsApp, a = the template in its place, q = its request,
--   p = the provider may hold it until its time, fw = the time of the first step that may follow, fs = packed steps of its own,
--   y = the sender that they are to hear from again}
-- Returns {"passed"} | {"done", n queued, n ended} | {"more", n queued, n ended, next cursor}.
-- Invariants: the cursor moves by one with each chunk; an opted-out recipient never enters a lane; a late one expires;
--   shared content never changes once a message of the notification has it; what had been taken before a failover, and was
--   forgotten, is not queued again.
-- An item that breaks the script is rejected ("unreadable"), and its neighbours go on.
local id, cursor, shared, shared_steps = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local queued, ended = 0, 0
local waiting, scopes_of = {}, {} -- lane -> messages to put, in order; lane -> scopes

local function scopes(lane)
  if not scopes_of[lane] then scopes_of[lane] = words(call('HGET', P .. 'lane:' .. lane, 'scp')) end
  return scopes_of[lane]
end

-- The members of a group that have opted out, as letters; and whether anybody may be texted.
local function members(mid, rec, lane)
  local letters, any = '', false
  for number in string.gmatch(rec.to, '[^,]+') do
    local out = must_not_text(mid, number, scopes(lane), rec.jt, 'admit')
    letters = letters .. (out and 'O' or 'A')
    any = any or not out
  end
  return letters, any
end

-- Where one message goes; `fields` are those of its record that are not written yet.
local function place(mid, rec, item, fields)
  local function also(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if item.r then
    for _, v in ipairs(add_error(rec, 'x', item.r, item.e)) do fields[#fields + 1] = v end
    return finish_as(mid, rec, 'R', item.r, fields)
  end
  rec.ln = item.lane
  also('ln', item.lane)
  if item.z then -- in the record as in the list of fields: what looks at one must not wait for the other
    rec.z = item.z
    also('z', item.z)
  end
  if item.f then remember_window(mid, rec, item, fields) end
  if item.fw then -- what may follow it
    rec.fb, rec.fw = item.fs and '1' or 's1', item.fw
    if item.fs then
      call('DEL', P .. 'fb:' .. mid)
      call('RPUSH', P .. 'fb:' .. mid, unpack(item.fs))
    end
    also('fb', rec.fb)
    also('fw', rec.fw)
  end
  if item.u then also('un', int(item.u)) end -- the units that it draws, where the sender counts segments
  local any
  if rec.gr then
    rec.gm, any = members(mid, rec, item.lane)
    also('gm', rec.gm)
  end
  local lost = lost_take(mid)
  if lost then -- it has been sent before this server forgot so: nothing to queue, nor to end
    move(mid, rec, 'Q', nil, nil, fields)
    return recall(mid, rec, lost, lost.h)
  end
  if NOW >= num(rec.vu, 0) then return finish_as(mid, rec, 'E', 'validity', fields) end
  if rec.gr and not any or not rec.gr and must_not_text(mid, rec.to, scopes(item.lane), rec.jt, 'admit') then
    return finish_as(mid, rec, 'O', 'opted_out', fields)
  end
  if item.y then safely('sticky', mid, remember_sender, rec.to, item.y) end
  local release = item.w and tonumber(item.w) or num(rec.sa, 0)
  local way = item.p and ahead.await_window(mid, rec, release, fields)
  if way == 'waits' then return end
  if not way and rests(mid, rec, math.max(NOW, release), fields) then return end
  if not way and release > NOW then return move(mid, rec, 'W', 'send_at', release, fields) end
  move(mid, rec, 'Q', nil, nil, fields)
  waiting[item.lane] = waiting[item.lane] or {}
  table.insert(waiting[item.lane], mid)
end

local function place_safely(mid, rec, item, fields)
  if not safely('admit', mid, place, mid, rec, item, fields) and rec.s == 'N' then
    safely('admit', mid, finish_as, mid, rec, 'R', 'unreadable', { 'k', rec.k, 'to', rec.to, rec.mn and 'mn' or 'k', rec.mn or rec.k })
  end
  if OPEN[rec.s] then queued = queued + 1 else ended = ended + 1 end
end

-- What enters a lane together has one flow, and costs each lane a few commands.
local function put_waiting(class, flow, submitted)
  for lane, mids in pairs(waiting) do
    put_all(lane, class, flow, mids, submitted)
    arm(lane, class)
  end
end

if cursor == '' then
  local mid = id .. '-0'
  local rec = record(mid)
  if rec.s ~= 'N' then return { 'passed' } end
  local item, fields = cjson.decode(ARGV[5]), {}
  settle_window(item, rec.to)
  if rec.xt then call('HDEL', mkey(mid), 'xt') end
  if item.c and not item.r then
    drop_content(mid, rec, 0)
    add_content(fields, mid, item.c)
    for i = 1, #fields, 2 do rec[fields[i]] = fields[i + 1] end
  end
  place_safely(mid, rec, item, fields)
  put_waiting(tonumber(rec.k), rec.jt, tonumber(rec.at))
  call('ZREM', P .. 'timers', 'n' .. id)
  return { 'done', queued, ended }
end

local key = P .. 'n:' .. id
local n = hash(key)
if n.cur ~= cursor or n.cx then return { 'passed' } end
local items, numbers = {}, {}
for i = 5, #ARGV do -- before the first write: an item that cannot be read moves nothing
  items[i] = cjson.decode(ARGV[i])
  numbers[i - 4] = items[i].to
end
prefetch_opt_outs(numbers)
if shared ~= '' and not n.sh then -- the first one stays, also when a chunk meets another release: a resend needs its bytes
  call('SET', P .. 't:' .. id, shared)
  call('HSET', key, 'sh', '1')
end
if shared_steps ~= '' and not n.sf then
  call('RPUSH', P .. 'tf:' .. id, unpack(cjson.decode(shared_steps)))
  call('HSET', key, 'sf', '1')
end
local index = tonumber(n.ex)
local following = string.format('%d', tonumber(cursor) + 1)
call('LPOP', P .. 'r:' .. id)
call('HSET', key, 'cur', following, 'ex', index + #ARGV - 4, 'la', int(NOW))
if n.xt then call('HDEL', key, 'xt') end
for i = 5, #ARGV do
  local item = items[i]
  settle_window(item, item.to)
  local mid = id .. '-' .. string.format('%d', index + i - 5)
  local rec = { s = 'N', at = n.at, jt = n.jt, k = n.k, vu = n.vu, sa = n.sa, to = item.to, mn = '1', tl = 'N0' }
  local fields = { 'k', n.k, 'to', item.to, 'mn', '1' }
  if item.c then
    add_content(fields, mid, item.c)
    for j = 7, #fields, 2 do rec[fields[j]] = fields[j + 1] end
  end
  place_safely(mid, rec, item, fields)
end
put_waiting(tonumber(n.k), id, tonumber(n.at))
settle_counts()
if tonumber(following) >= tonumber(n.nch) then
  call('ZREM', P .. 'timers', 'n' .. id)
  call('DEL', P .. 'rq:' .. id, P .. 'r:' .. id)
  return { 'done', queued, ended }
end
call('ZADD', P .. 'timers', 'XX', int(NOW + 10000000), 'n' .. id)
return { 'more', queued, ended, following }
