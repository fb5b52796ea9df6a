-- Publish the configuration that scripts and producers read.
-- needs: base lanes
-- ARGV: publication (JSON), then for each daily cap: bucket, "midnights as us, blank separated".
-- Returns "published", "same" or "older" (a later release has published: ours is ignored).
-- The greater release wins; between equals the one that started last.
local body = ARGV[1]
local new = cjson.decode(body)
local cfg = P .. 'cfg'
local held = call('HMGET', cfg, 'release', 'digest')
if held[1] and tonumber(held[1]) > new.release then return 'older' end
local same = held[2] == new.digest

local resets = {}
for i = 2, #ARGV, 2 do resets[ARGV[i]] = ARGV[i + 1] end
for name, b in pairs(new.buckets) do
  local key = P .. 'b:' .. name
  if b.cap then
    call('HSET', key, 'cap', int(b.cap), 'reserve', tostring(b.reserve or 0), 'resets', resets[name] or '')
  else
    local override = call('HGET', P .. 'rates', name)
    local t = override and tonumber(override) or b.t_us
    local was = call('HMGET', key, 't', 'tat')
    if was[1] and was[2] and tonumber(was[1]) ~= t then -- a shorter interval must not wait out the longer one's debt
      local tat = tonumber(was[2])
      if tat > NOW then tat = math.min(tat, NOW + (tat - NOW) * t / tonumber(was[1])) end
      call('HSET', key, 'tat', int(tat))
    end
    call('HSET', key, 't', int(t), 'tol', int(math.min(math.max(10000, t), 1000000)))
  end
end
for _, lane in ipairs(call('SMEMBERS', P .. 'lanes')) do
  if not new.lanes[lane] then call('HDEL', P .. 'lane:' .. lane, 'ok') end -- its sender is gone: held, and shown
end
for lane, l in pairs(new.lanes) do
  local key = P .. 'lane:' .. lane
  call('SADD', P .. 'lanes', lane)
  call('HSET', key, 'ok', '1', 'bk', table.concat(l.buckets, ' '), 'sh', int(l.share), 'scp', table.concat(l.scopes, ' '), 'sd', l.sender)
  for class = 0, 2 do
    if call('ZCARD', P .. 'q:' .. lane .. ':' .. class) > 0 then arm(lane, class) end
  end
end
if same then
  call('HSET', cfg, 'release', int(new.release))
  return 'same'
end
call('DEL', cfg)
local t = new.timing
call('HSET', cfg, 'release', int(new.release), 'digest', new.digest, 'json', body, 'at', int(NOW), 'receipts', new.receipts,
  'retention_s', int(new.storage.retention_s), 'content_kept_s', int(new.storage.content_kept_s), 'events', int(new.storage.events))
for _, name in ipairs({ 'grace_us', 'grace_urgent_us', 'liveness_us', 'poll_after_us', 'silent_after_us', 'max_tries' }) do
  call('HSET', cfg, name, int(t[name]))
end
for jt, us in pairs(t.job_grace_us or {}) do call('HSET', cfg, 'grace:' .. jt, int(us)) end
for _, jt in ipairs(t.give_up or {}) do call('HSET', cfg, 'give_up:' .. jt, '1') end
return 'published'
