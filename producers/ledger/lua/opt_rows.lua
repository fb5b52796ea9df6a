-- Record many opt-outs and opt-ins at once: a page of the provider's list, or rows of a file.
-- needs: base states opt_outs in_flight
-- ARGV: source, operator 0|1, number of the list ('' for none), quiet 0|1, then for each row: number, "out" | "in",
--   occurred us (0: now), evidence, scopes separated by blanks. A scope that starts with "?" is not written, only marked as shown
--   by the list where an opt-out stands there already.
-- Returns {scopes changed, rows that broke the script}. Idempotent: the newer occurrence wins.
-- Invariant: what a list shows is out, unless the person said otherwise later; showing it lifts nothing.
local source, by_operator, list, quiet = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4] == '1'
local changed, broken = 0, 0

-- The list shows this one. Who said so first, and the evidence of it, stay; of the times, the later one, for a START of before
-- is older than both. What we read on our own is not marked: the provider need not know of it, and its list cannot lift it.
local function show(scope, number, at, evidence, only_mark)
  local key = opt_key(scope, number)
  local held = call('HGET', key, number) or ''
  local when, from, why = string.match(held, '^o:(%d+):([wla]):([^:]*)')
  if when then
    local shown = 'o:' .. int(math.max(tonumber(when), at)) .. ':' .. from .. ':' .. why .. ':' .. list
    if shown ~= held then call('HSET', key, number, shown) end
    return false
  end
  if only_mark or not set_opt(scope, number, true, at, source, evidence, false, quiet) then return false end
  call('HSET', key, number, call('HGET', key, number) .. ':' .. list)
  return true
end

local function record_row(i)
  local number, out, at = ARGV[i], ARGV[i + 1] == 'out', tonumber(ARGV[i + 2])
  if at == 0 or at > NOW then at = NOW end
  local any = false
  for _, scope in ipairs(words(ARGV[i + 4])) do
    local only_mark = string.sub(scope, 1, 1) == '?'
    local did
    if list ~= '' then
      did = show(only_mark and string.sub(scope, 2) or scope, number, at, ARGV[i + 3], only_mark)
    else
      did = set_opt(scope, number, out, at, source, ARGV[i + 3], by_operator, quiet)
    end
    if did then changed, any = changed + 1, true end
  end
  if any and out and not quiet then note_in_flight(number) end
end

for i = 5, #ARGV, 5 do
  if not safely('opt_row', masked(ARGV[i]), record_row, i) then broken = broken + 1 end
end
return { changed, broken }
