-- Say when messages of a job type could leave. Writes nothing.
-- needs: base lanes opt_outs states rules
-- ARGV: job type, from us, tables of zones as in zones.lua (a JSON object), then pairs: person, zones.
-- Returns for each person: when quiet hours are over ('' never, in the months looked at), and when a place is free.
local jt, from = ARGV[1], math.max(NOW, tonumber(ARGV[2]))
local sets = {}
for zone, text in pairs(cjson.decode(ARGV[3])) do
  if string.sub(text, 1, 1) == '=' then sets[zone] = string.sub(text, 2) else ZONES[zone] = read_zone(text) end
end
local rule = rule_of(jt)
local out = {}
for i = 4, #ARGV, 2 do
  local opens = opens_at(jt, sets[ARGV[i + 1]] or ARGV[i + 1], from)
  local free = rule and rule.f and place_at(rule, { ARGV[i] })
  out[#out + 1] = opens and int(opens) or ''
  out[#out + 1] = int(free and math.max(free, from) or from)
end
return out
