-- Opt-outs: o:<scope>:<number less its last two digits>, a small hash. Field <number> holds what the person said
-- (STOP, START, the provider's list, a 40300), field <number>* what an operator or app set; START never lifts the latter.
-- A value is <o|i>:<occurred, us>:<source>:<evidence>. o:any counts the scopes a person is out of,
-- for a sender whose profile is unknown is blocked by any of them.
local function opt_key(scope, number) return P .. 'o:' .. scope .. ':' .. string.sub(number, 1, -3) end

local function blocked_in(scope, number)
  local f = call('HMGET', opt_key(scope, number), number, number .. '*')
  return string.sub(f[1] or '', 1, 1) == 'o' or string.sub(f[2] or '', 1, 1) == 'o'
end

-- In how many scopes a person is out; almost always none, so this is asked first.
local OUT_OF = {}
local function out_of(number)
  if not OUT_OF[number] then OUT_OF[number] = num(call('HGET', opt_key('any', number), number), 0) end
  return OUT_OF[number]
end

-- Read that for many at once: one command for those who share a hash.
local function prefetch_opt_outs(numbers)
  local shared = {}
  for _, number in ipairs(numbers) do
    local key = opt_key('any', number)
    shared[key] = shared[key] or {}
    table.insert(shared[key], number)
  end
  for key, members in pairs(shared) do
    local found = call('HMGET', key, unpack(members))
    for i, number in ipairs(members) do OUT_OF[number] = num(found[i], 0) end
  end
end

-- Whether a lane with these scopes must not text `number`.
local function opted_out(scopes, number)
  if out_of(number) <= 0 then return false end
  local known = false
  for _, scope in ipairs(scopes) do
    if string.sub(scope, 1, 8) == 'profile:' then known = true end
    if blocked_in(scope, number) then return true end
  end
  return not known
end

-- Record one opt-out or opt-in; the newer occurrence wins, a tie means out. Returns true if that changed anything.
local function set_opt(scope, number, out, at, source, evidence, by_operator)
  local key, field = opt_key(scope, number), by_operator and (number .. '*') or number
  local held = call('HGET', key, field)
  if held then
    local was, when = string.match(held, '^(.):(%d+)')
    when = tonumber(when)
    if when > at or (when == at and (was == 'o' or not out)) then return false end
  end
  local before, any = blocked_in(scope, number), opt_key('any', number)
  OUT_OF[number] = nil
  if out and not before then call('HINCRBY', any, number, 1) end -- first, so that no fault leaves it too low
  call('HSET', key, field, (out and 'o:' or 'i:') .. int(at) .. ':' .. source .. ':' .. string.sub(evidence, 1, 36))
  local after = blocked_in(scope, number)
  if before and not after and call('HINCRBY', any, number, -1) <= 0 then call('HDEL', any, number) end
  if before ~= after then
    call('XADD', P .. 'ev', 'MAXLEN', '~', setting('events', 100000), '*', 'y', 'opt_out.changed', 'm', number,
      's', after and 'out' or 'in', 'v', '1', 't', int(NOW))
  end
  return true
end
