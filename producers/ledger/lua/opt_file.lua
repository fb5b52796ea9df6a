-- Record what the rows of a file say, those of one bucket together: a few commands for all of them, where opt_rows takes three
-- for each. Without events, for a million of them would push out everything else.
-- needs: base states opt_outs
-- ARGV: source, operator 0|1, then pairs of a bucket (<scope>:<last four>) and its rows, at most some hundreds, each
--   "<number> <o|i><occurred us, '' for now> <evidence>\n".
-- Returns {scopes changed, buckets that broke the script}. Idempotent: the newer occurrence wins, a tie means out.
-- Invariant: o:any is never too low, whatever breaks: it is raised before, and lowered after, what it counts.
local source, by_operator = ARGV[1], ARGV[2] == '1'
local mark, changed, broken = by_operator and '*' or '', 0, 0

-- A file's rows mostly have one time and one evidence, so what comes of these is told once.
local last_at, last_us, last_evidence, last_tail
local function told(at, evidence)
  if at ~= last_at then
    last_at, last_us = at, tonumber(at) or NOW
    if last_us > NOW then last_us = NOW end
    last_evidence = nil
  end
  if evidence ~= last_evidence then
    last_evidence = evidence
    last_tail = int(last_us) .. ':' .. SOURCES[source] .. ':' .. string.sub(string.gsub(evidence, ':', '.'), 1, 36)
  end
  return last_us, last_tail
end

local function is_newer(held, at, out)
  if not held then return true end
  local was, when = string.match(held, '^(.):(%d+)')
  when = tonumber(when)
  return when < at or (when == at and was ~= 'o' and out)
end

-- In how many scopes each is out; and what each side said here: the other side only where it can matter, for who is out
-- nowhere is not out here.
local function held_of(key, any, numbers)
  local counts, fields, own, other = call('HMGET', any, unpack(numbers)), {}, {}, {}
  for i, number in ipairs(numbers) do fields[i] = number .. mark end
  own = call('HMGET', key, unpack(fields))
  for i, number in ipairs(numbers) do
    if counts[i] then other[i] = call('HGET', key, by_operator and number or number .. '*') end
  end
  return counts, own, other
end

local function record(bucket, packed)
  local scope, last = string.match(bucket, '^(.*):(.*)$')
  local numbers, outs, times, tails, again, seen = {}, {}, {}, {}, {}, {}
  for number, way, at, evidence in string.gmatch(packed, '(%S+) ([oi])(%d*) ([^\n]*)\n') do
    local at_us, tail = told(at, evidence)
    if seen[number] then
      again[#again + 1] = { number, way == 'o', at_us, evidence } -- told after what stands there already
    else
      local i = #numbers + 1
      seen[number], numbers[i], outs[i], times[i], tails[i] = true, number, way == 'o', at_us, tail
    end
  end
  local key, any = P .. 'o:' .. bucket, P .. 'o:any:' .. last
  local counts, own, other = held_of(key, any, numbers)
  local sets, more, fewer = {}, {}, {}
  for i, number in ipairs(numbers) do
    local out = outs[i]
    if is_newer(own[i], times[i], out) then
      local stands = is_out(other[i])
      local before, after = stands or is_out(own[i]), stands or out
      sets[#sets + 1] = number .. mark
      sets[#sets + 1] = (out and 'o:' or 'i:') .. tails[i]
      if after and not before then
        more[#more + 1] = number
        more[#more + 1] = counts[i] and int(counts[i] + 1) or '1'
      elseif before and not after then
        fewer[#fewer + 1] = number
      end
    end
  end
  if #more > 0 then call('HSET', any, unpack(more)) end
  if #sets > 0 then call('HSET', key, unpack(sets)) end
  changed = changed + #sets / 2
  for _, number in ipairs(fewer) do
    if call('HINCRBY', any, number, -1) <= 0 then call('HDEL', any, number) end
  end
  for _, row in ipairs(again) do
    if set_opt(scope, row[1], row[2], row[3], source, row[4], by_operator, true) then changed = changed + 1 end
  end
end

for i = 3, #ARGV, 2 do
  if not safely('opt_file', ARGV[i], record, ARGV[i], ARGV[i + 1]) then broken = broken + 1 end
end
return { changed, broken }
