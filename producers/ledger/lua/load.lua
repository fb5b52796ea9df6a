-- What expand needs of a notification: its record, the request's content and the next chunk of recipients.
-- needs: base
-- ARGV: id, cursor ('' means whatever is next).
-- Returns {} when nothing is to be done (gone, expanded, or another job is past this cursor), else
--   {"one", record as a flat list, content} or {"many", record, content, cursor, chunk}.
local id, cursor = ARGV[1], ARGV[2]
local key = P .. 'n:' .. id
if call('EXISTS', key) == 1 then
  local cur = call('HGET', key, 'cur')
  if cursor ~= '' and cursor ~= cur then return {} end
  local chunk = call('LINDEX', P .. 'r:' .. id, 0)
  if not chunk or call('HGET', key, 'cx') then return {} end
  return { 'many', call('HGETALL', key), call('GET', P .. 'rq:' .. id) or '', cur, chunk }
end
local rec = record(id .. '-0')
if rec.s ~= 'N' then return {} end
return { 'one', call('HGETALL', mkey(id .. '-0')), content_of(id .. '-0', rec) }
