-- Somebody followed a link in a message: count it, and tell apps.
-- needs: base states facts
-- ARGV: id of the event, provider's id of the message, url.
-- Returns "counted", "known" (a copy), or "lost" (matches no message: kept aside).
if not call('SET', P .. 'ie:' .. ARGV[1], '1', 'NX', 'EX', 259200) then return 'known' end
local mid = find_message(nil, ARGV[2] ~= '' and ARGV[2] or nil)
local rec = mid and record(mid) or {}
if not rec.s then
  call('XADD', P .. 'odd', 'MAXLEN', '~', 10000, '*', 'why', 'link_click', 'pid', ARGV[2])
  call('HINCRBY', P .. 'counts', 'clicks_lost', 1)
  return 'lost'
end
call('HINCRBY', mkey(mid), 'kc', 1)
stat('k', rec, 1)
happened('link.clicked', mid, rec, rec.s, { 'u', string.sub(ARGV[3], 1, 500) })
settle_counts()
return 'counted'
