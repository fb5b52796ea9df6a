-- Record how requests went. Facts (an id from the provider) count from anyone; verdicts only from the holder of the token.
-- needs: base lanes opt_outs states facts
-- ARGV: process, then a JSON object for each request:
--   {m, k = token, o = outcome, pid, st, raw, to, from, parts,   accepted: a fact
--    code, title, why, delay = us, count = does it use up a try, hold = us, bucket = "own" | "account"}
--   outcomes: accepted, rejected, opted_out, retry, slow_down, configuration, not_sent, conflict, uncertain
-- Returns one word for each: "ok", "stale" (the token is void, and this was no fact), or what a fact did.
-- Idempotent: the second call finds the token spent.
local process = ARGV[1]
local words_out = {}
local held = P .. 'held:' .. process
local MAX = setting('max_tries', 5)
local lane_changed = {}

local function again(mid, rec, r, more, front)
  if rec.cx then return finish_as(mid, rec, 'C', 'cancelled', more) end
  local delay = num(r.delay, 0)
  if delay > 0 then return move(mid, rec, 'W', r.why, NOW + delay, more) end
  put(rec.ln, tonumber(rec.k), flow_of(mid, rec), mid, front)
  lane_changed[rec.ln] = tonumber(rec.k)
  return move(mid, rec, 'Q', r.why, nil, more)
end

local function bucket_of(rec, which)
  local names = words(call('HGET', P .. 'lane:' .. rec.ln, 'bk'))
  return which == 'account' and names[#names] or names[1]
end

local function settle(mid, rec, r)
  local o = r.o
  local more = {}
  if r.code then more = add_error(rec, 's', r.code, r.title) end
  if num(r.hold, 0) > 0 then hold(bucket_of(rec, r.bucket), NOW + r.hold, r.why or '') end
  if o == 'rejected' then
    finish_as(mid, rec, 'R', r.why, more)
  elseif o == 'opted_out' then
    local scopes = words(call('HGET', P .. 'lane:' .. rec.ln, 'scp'))
    local scope = scopes[#scopes] -- the narrowest is last: the profile if known, else the sender
    for number in string.gmatch(rec.gr and '' or rec.to, '[^,]+') do set_opt(scope, number, true, NOW, 'answer', r.code or '', false) end
    finish_as(mid, rec, 'O', r.why, more)
  elseif o == 'uncertain' then
    local grace = setting(rec.k == '0' and 'grace_urgent_us' or 'grace_us', 60000000)
    grace = setting('grace:' .. rec.jt, grace)
    for _, v in ipairs({ 'mb', '1', 'ua', int(NOW) }) do more[#more + 1] = v end
    move(mid, rec, 'U', r.why, NOW + grace, more)
  elseif o == 'not_sent' then
    more[#more + 1], more[#more + 2] = 'an', tostring(math.max(0, num(rec.an, 1) - 1))
    again(mid, rec, r, more, true)
  elseif o == 'conflict' then -- an earlier request with this key is still being worked on: the same bytes later
    for _, v in ipairs({ 'mb', '1' }) do more[#more + 1] = v end
    again(mid, rec, r, more)
  else
    if r.count then
      local tries = num(rec.tr, 0) + 1
      more[#more + 1], more[#more + 2] = 'tr', tostring(tries)
      if tries >= MAX then return finish_as(mid, rec, 'R', 'tries', more) end
    end
    again(mid, rec, r, more, not r.count)
  end
end

for i = 2, #ARGV do
  local r = cjson.decode(ARGV[i])
  local mid = r.m
  local rec = record(mid)
  local word
  if not rec.s then
    word = 'gone'
  elseif r.o == 'accepted' then
    if rec.s == 'S' or rec.s == 'U' or not rec.ho then
      rec.ho = int(NOW)
      call('HSET', mkey(mid), 'ho', rec.ho)
    end
    word = apply(mid, rec, { pid = r.pid, st = r.st or 'A', raw = r.raw, to = r.to, from = r.from, parts = r.parts })
    if num(r.hold, 0) > 0 then hold(bucket_of(rec, 'own'), NOW + r.hold, r.why or 'provider_queue') end
  elseif rec.tk == r.k and (rec.s == 'S' or (rec.s == 'U' and r.o ~= 'uncertain')) then
    settle(mid, rec, r)
    word = 'ok'
  else
    word = 'stale'
  end
  if call('HGET', held, mid) == r.k then call('HDEL', held, mid) end
  words_out[#words_out + 1] = word
end
for lane, class in pairs(lane_changed) do arm(lane, class) end
return words_out
