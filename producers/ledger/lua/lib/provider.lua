-- Messages that wait at the provider for their time (schedule = "provider"), and how they are asked back.
--
-- Fields, which no other message has, so that no other pays for them: "sp" the time the app asked for, us; "so" the time that
-- the provider is told, fixed with the first request, for a resend has the same bytes; "wd" why it is to be taken back
-- (cancelled, opted_out, forgotten), with "!" in front once that came too late; "wn" how often it was asked.
-- hp:<person> is the set of their messages that were handed over ahead; wq those to be asked back, the next to leave first.
-- Invariants: what is wanted back is asked for until the provider's answer is known or its time has come; it ends cancelled or
-- opted_out only on the provider's word.

local provider = {} -- one local: a script has room for 200

-- Whether it may lie at the provider, or get there, and its time has not come.
provider.MAY_HOLD = { Q = 1, W = 1, S = 1, U = 1, A = 1, X = 1 }

function provider.is_wanted_back(rec)
  return rec.wd and string.sub(rec.wd, 1, 1) ~= '!' and rec.pid and (rec.s == 'A' or rec.s == 'X')
end

function provider.ask_back(mid, rec)
  if provider.is_wanted_back(rec) then call('ZADD', P .. 'wq', 'NX', rec.so, mid) end
end

-- Take it back; now, or as soon as its id is known. False: it was never handed over ahead, its time has come, or that is
-- under way already.
function provider.call_off(mid, rec, why)
  if not rec.so or rec.wd or not provider.MAY_HOLD[rec.s] or num(rec.so) <= NOW then return false end
  rec.wd = why
  call('HSET', mkey(mid), 'wd', why)
  provider.ask_back(mid, rec)
  return true
end

function provider.held_key(person) return P .. 'hp:' .. person end

-- It is about to be handed over: found by its person from here on, since its answer may get lost.
function provider.remember(mid, rec)
  call('SADD', provider.held_key(rec.to), mid)
  call('EXPIRE', provider.held_key(rec.to), 518400) -- a day longer than a provider holds anything
end

-- A person has said no: what the provider holds for them comes back. `is_out(scopes, number, job type)` decides.
function provider.recall(number, is_out)
  for _, mid in ipairs(call('SMEMBERS', provider.held_key(number))) do
    local rec = record(mid)
    if rec.so and rec.ln and is_out(words(call('HGET', P .. 'lane:' .. rec.ln, 'scp')), number, rec.jt) then
      provider.call_off(mid, rec, 'opted_out')
    end
  end
end
