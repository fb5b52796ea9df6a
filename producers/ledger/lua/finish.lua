-- Record how requests went. Facts (an id from the provider) count from anyone; verdicts only from the holder of the token.
-- needs: base lanes buckets feedback opt_outs states rules facts recall legs ahead
-- ARGV: process, then a JSON object for each request:
--   {m, k = token, o = outcome, pid, st, raw, to, from, parts, pd = they differ from what we counted, rp = the answer of an earlier request,   accepted: a fact
--    code, title, why, delay = us, count = does it use up a try,
--    hold = us, scope = what rests so long: sender, campaign, brand, profile, account,
--    feedback = we were too fast: a repetition halves the rate;  silence = nothing clear comes back: then probe}
--   outcomes: accepted, rejected, opted_out, retry, slow_down, configuration, not_sent, conflict, uncertain
-- Returns one word for each: "ok", "stale" (the token is void, and this was no fact), "gone" (no such record), "poison" (it broke
--   the script and was put aside; its neighbours went on), or what a fact did; then gen, the number of this call.
-- Idempotent: the second call finds the token spent.
local process = ARGV[1]
local held = P .. 'held:' .. process
local MAX = setting('max_tries', 5)
local words_out, lane_changed, lanes = {}, {}, {}

local function of_lane(rec)
  if not lanes[rec.ln] then
    local f = call('HMGET', P .. 'lane:' .. rec.ln, 'bk', 'scp')
    lanes[rec.ln] = { buckets = words(f[1]), scopes = words(f[2]) }
  end
  return lanes[rec.ln]
end

-- A clear answer came back for this lane.
local function hear_of(lane)
  if not lane.answered then answered(lane.buckets) end
  lane.answered = true
end

-- When the message was taken, from its timeline: to the millisecond.
local function taken_at(rec)
  local ms = string.match(rec.tl or '', '.*S([0-9a-z]+)')
  return ms and num(rec.at, NOW) + tonumber(ms, 36) * 1000 or 0
end

-- Rest what the result says must rest.
local function hold_back(rec, r, why)
  if num(r.hold, 0) <= 0 then return end
  local names = of_lane(rec).buckets
  if #names == 0 then return end
  if r.silence then
    probe(names, NOW + r.hold)
  elseif r.feedback then
    slow_down(names, r.scope, NOW + r.hold, why, taken_at(rec))
  else
    hold(bucket_of(names, r.scope), NOW + r.hold, why)
  end
end

local function again(mid, rec, r, more, front)
  if rec.cx then return finish_as(mid, rec, 'C', rec.cx == 'f' and 'fallback' or 'cancelled', more) end
  -- taken by two, around a failover: this verdict is clear, but not the other one's
  if rec.mb and config('give_up:' .. rec.jt) then return move(mid, rec, 'X', 'give_up', nil, more) end
  -- its validity may have ended while it was away, and then nobody would come to end it in a lane that gives nothing
  if NOW >= num(rec.vu, 0) then return finish_as(mid, rec, 'E', 'validity', more) end
  local delay = num(r.delay, 0)
  if delay > 0 then return move(mid, rec, 'W', r.why, NOW + delay, more) end
  put(rec, mid, front)
  lane_changed[rec.ln] = math.min(lane_changed[rec.ln] or 9, tonumber(rec.k))
  return move(mid, rec, 'Q', r.why, nil, more)
end

local function settle_verdict(mid, rec, r)
  local o = r.o
  local more = {}
  stat('o' .. o, rec, 1, word(r.why))
  if r.code then more = add_error(rec, 's', r.code, r.title) end
  -- The verdict of the only request that was ever made came after its process was given up: so nothing is out.
  if rec.mb and num(rec.an, 0) <= 1 and o ~= 'uncertain' and o ~= 'conflict' then
    rec.mb = nil
    call('HDEL', mkey(mid), 'mb')
  end
  if rec.fq and not rec.mb and o ~= 'uncertain' and o ~= 'conflict' then give_place_back(mid, rec) end
  hold_back(rec, r, r.why or '')
  if o == 'rejected' then
    -- its time suits the provider no more, or its clock is another one: it leaves from here
    if rec.so and r.code == '10015' and not rec.mb and not rec.cx and NOW < num(rec.vu, 0) then
      if not ahead.go_locally(mid, rec, more) then again(mid, rec, r, more) end
      return
    end
    finish_as(mid, rec, 'R', r.why, more)
  elseif o == 'opted_out' then
    local scopes = of_lane(rec).scopes
    local scope = scopes[#scopes] or 'global' -- the narrowest is last: the profile if known, else the sender
    if not rec.gr then set_opt(scope, rec.to, true, NOW, 'answer', mid, false) end
    finish_as(mid, rec, 'O', r.why, more)
  elseif o == 'uncertain' then
    doubt(mid, rec, r.why, more)
  elseif o == 'not_sent' then
    more[#more + 1], more[#more + 2] = 'an', tostring(math.max(0, num(rec.an, 1) - 1))
    if r.count then -- no request can be made of it, and none may ever be
      local tries = num(rec.tr, 0) + 1
      more[#more + 1], more[#more + 2] = 'tr', tostring(tries)
      if tries >= MAX then return finish_as(mid, rec, 'R', 'poison', more) end
    end
    again(mid, rec, r, more, true)
  elseif o == 'conflict' then -- an earlier request with this key is still being worked on: the same bytes later
    if config('give_up:' .. rec.jt) then
      if rec.s == 'S' then doubt(mid, rec, r.why, more) end -- one in doubt already stays so
      return
    end
    rec.mb = '1'
    more[#more + 1], more[#more + 2] = 'mb', '1'
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

local function record_result(r)
  local mid = r.m
  local rec = record(mid)
  local word
  local asked = r.o ~= 'uncertain' and r.o ~= 'not_sent' and r.why ~= 'unsendable' -- else nobody was, or nobody spoke
  if rec.ln and asked then hear_of(of_lane(rec)) end
  if not rec.s then
    word = 'gone'
  elseif r.o == 'accepted' then
    if rec.so and r.rp and num(rec.an, 0) == 2 and rec.mb then -- the first request's answer again: there is no other one
      rec.mb = nil
      call('HDEL', mkey(mid), 'mb')
    end
    word = apply(mid, rec, { pid = r.pid, st = r.st or 'A', raw = r.raw, to = r.to, from = r.from, parts = r.parts, handed_over = true })
    if call('HGET', held, mid) == r.k then -- not when it is said again
      hold_back(rec, r, r.why or 'provider_queue')
      if r.pd then call('HINCRBY', P .. 'counts', 'parts_differ', 1) end
    end
  elseif rec.tk == r.k and (rec.s == 'S' or (rec.s == 'U' and r.o ~= 'uncertain')) then
    settle_verdict(mid, rec, r)
    word = 'ok'
  else
    word = 'stale'
  end
  if call('HGET', held, mid) == r.k then call('HDEL', held, mid) end
  return word
end

for i = 2, #ARGV do
  local ok, word = safely('finish', process, function() return record_result(cjson.decode(ARGV[i])) end)
  words_out[i - 1] = ok and word or 'poison'
end
for lane, class in pairs(lane_changed) do safely('arm', lane, arm, lane, class) end
settle_counts()
words_out[#words_out + 1] = call('INCR', P .. 'gen')
return words_out
