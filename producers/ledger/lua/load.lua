-- What expand needs of a notification: its record, the request's content and the next chunk of recipients.
-- needs: base
-- ARGV: id, cursor ('' means whatever is next).
-- Returns {} when nothing is to be done (gone, expanded, or another job is past this cursor), else
--   {"one", late, record as a flat list, content} or {"many", late, record, content, cursor, chunk}.
-- late is "1" where the chunk should have been expanded long ago, so that an earlier job may have come to nothing over it.
local id, cursor = ARGV[1], ARGV[2]
local function late(since) return NOW - num(since, NOW) > 9000000 and '1' or '' end
local key = P .. 'n:' .. id
if call('EXISTS', key) == 1 then
  local f = call('HMGET', key, 'cur', 'cx', 'la', 'at')
  local cur = f[1]
  if cursor ~= '' and cursor ~= cur then return {} end
  local chunk = call('LINDEX', P .. 'r:' .. id, 0)
  if not chunk or f[2] then return {} end
  return { 'many', late(f[3] or f[4]), call('HGETALL', key), call('GET', P .. 'rq:' .. id) or '', cur, chunk }
end
local rec = record(id .. '-0')
if rec.s ~= 'N' then return {} end
return { 'one', late(rec.at), call('HGETALL', mkey(id .. '-0')), content_of(id .. '-0', rec) }
