-- needs: provider states
-- Opt-outs: o:<scope>:<last four of the number>, a hash of about a hundred for each million. Not by the number's beginning:
-- a million people live in nearly as many hundreds, and each key costs more than what it holds. Field <number> holds what
-- the person said (STOP, START, the provider's list, a 40300), field <number>* what an operator or app set; START never lifts
-- the latter. A value is <o|i>:<occurred, us>:<source>:<evidence>[:<list>], at most 64 bytes, for one longer value would turn
-- the hash into a table; the list is the number of the provider's list that last showed it. o:any counts the scopes a person
-- is out of, for a sender whose profile is unknown is blocked by any of them.
local SOURCES = { webhook = 'w', keyword = 'k', list = 'l', answer = 'a', receipt = 'r', api = 'p', cli = 'c', import = 'i' }

local function opt_key(scope, number) return P .. 'o:' .. scope .. ':' .. string.sub(number, -4) end

local function is_out(value) return string.sub(value or '', 1, 1) == 'o' end

-- What blocks a person in a scope, and whether an operator said so; nil if nothing does.
local function blocked_in(scope, number)
  local f = call('HMGET', opt_key(scope, number), number, number .. '*')
  if is_out(f[2]) then return f[2], true end
  if is_out(f[1]) then return f[1], false end
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

-- As producers.masking has it: the audit outlives records, and is read by more people.
local function masked(number)
  if #number >= 12 then return string.sub(number, 1, 5) .. '***' .. string.sub(number, -4) end
  if #number >= 8 then return string.sub(number, 1, 3) .. '***' .. string.sub(number, -2) end
  return '***'
end

-- Who was not texted, and on whose word. `what`: suppressed, spared, late, withdrawn, out, in; `said`: a value as above, or ''.
local function audit(what, number, mid, scope, said, where)
  local at, source, evidence = string.match(said or '', '^.:(%d+):(%a):([^:]*)')
  call('XADD', P .. 'audit', 'MAXLEN', '~', setting('audit', 100000), '*', 'y', what, 'p', masked(number), 'm', mid,
    's', scope, 'w', where, 'f', source or '', 'o', at or '', 'e', evidence or '', 't', int(NOW))
end

-- In which scope a lane with these scopes must not text `number` ("any": one that is none of them), and what was said
-- there; nil if it may. A transactional job type passes what the person said to a profile or sender, never what is global or
-- an operator's; and then the second value is what it passed.
local function opted_out(scopes, number, job_type)
  if out_of(number) <= 0 then return nil end
  local known, passed = false, nil
  local passes = job_type and config('transactional:' .. job_type)
  for _, scope in ipairs(scopes) do
    if string.sub(scope, 1, 8) == 'profile:' then known = true end
    local said, by_operator = blocked_in(scope, number)
    if said and (not passes or by_operator or scope == 'global') then return scope, said end
    passed = passed or said
  end
  if not known then return 'any', '' end
  return nil, passed
end

-- Whether message `mid` must not go to `number` over a lane with these scopes. Each refusal is on record.
local function must_not_text(mid, number, scopes, job_type, where)
  local scope, said = opted_out(scopes, number, job_type)
  if scope then
    audit('suppressed', number, mid, scope, said, where)
  elseif said then
    audit('spared', number, mid, '', said, where)
  end
  return scope ~= nil
end

-- Tell apps, by a callback too where the configuration names who wants one. The version is the instant: the later word counts.
local function tell_of_opt(scope, number, out, at, source)
  local place = event('opt_out.changed', number, { v = int(NOW) }, out and 'out' or 'in', { 'sc', scope, 'sr', source, 'oc', int(at) })
  local app = config('opt_outs_cb')
  if app then owe(app, 'e' .. place) end
end

-- Record one opt-out or opt-in; the newer occurrence wins, a tie means out. Returns true if that changed anything.
-- `quiet`: one of so many at once that the streams would lose what else is in them.
local function set_opt(scope, number, out, at, source, evidence, by_operator, quiet)
  local key, field = opt_key(scope, number), by_operator and (number .. '*') or number
  local f = call('HMGET', key, number, number .. '*')
  local held = by_operator and f[2] or not by_operator and f[1]
  if held then
    local was, when = string.match(held, '^(.):(%d+)')
    when = tonumber(when)
    if when > at or (when == at and (was == 'o' or not out)) then return false end
  end
  local before, any = is_out(f[1]) or is_out(f[2]), opt_key('any', number)
  OUT_OF[number] = nil
  if out and not before then call('HINCRBY', any, number, 1) end -- first, so that no fault leaves it too low
  local said = (out and 'o:' or 'i:') .. int(at) .. ':' .. (SOURCES[source] or 'p') .. ':' .. string.sub(string.gsub(evidence, ':', '.'), 1, 36)
  call('HSET', key, field, said)
  local others = f[2]
  if by_operator then others = f[1] end
  local after = out or is_out(others) -- what the other side said stands
  if before and not after and call('HINCRBY', any, number, -1) <= 0 then call('HDEL', any, number) end
  if before ~= after and not quiet then
    audit(after and 'out' or 'in', number, '', scope, said, by_operator and 'operator' or 'person')
    tell_of_opt(scope, number, after, at, source)
  end
  if out then provider.recall(number, opted_out) end
  return true
end
