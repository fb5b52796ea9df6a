-- Opt-outs: o:<scope>:<number less its last two digits>, a small hash. Field <number> holds what the person said
-- (STOP, START, the provider's list, a 40300), field <number>* what an operator or app set; START never lifts the latter.
-- A value is <o|i>:<occurred, us>:<source>:<evidence>. o:any counts the scopes a person is out of,
-- for a sender whose profile is unknown is blocked by any of them.
local function opt_key(scope, number) return P .. 'o:' .. scope .. ':' .. string.sub(number, 1, -3) end

local function blocked_in(scope, number)
  local f = call('HMGET', opt_key(scope, number), number, number .. '*')
  return string.sub(f[1] or '', 1, 1) == 'o' or string.sub(f[2] or '', 1, 1) == 'o'
end

-- Whether a lane with these scopes must not text `number`.
local function opted_out(scopes, number)
  local known = false
  for _, scope in ipairs(scopes) do
    if string.sub(scope, 1, 8) == 'profile:' then known = true end
    if blocked_in(scope, number) then return true end
  end
  return not known and num(call('HGET', opt_key('any', number), number), 0) > 0
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
  local before = blocked_in(scope, number)
  call('HSET', key, field, (out and 'o:' or 'i:') .. int(at) .. ':' .. source .. ':' .. string.sub(evidence, 1, 36))
  local after = blocked_in(scope, number)
  if before ~= after then
    if call('HINCRBY', opt_key('any', number), number, after and 1 or -1) <= 0 then
      call('HDEL', opt_key('any', number), number)
    end
    call('XADD', P .. 'ev', 'MAXLEN', '~', setting('events', 100000), '*', 'y', 'opt_out.changed', 'm', number,
      's', after and 'out' or 'in', 'v', '1', 't', int(NOW))
  end
  return true
end
