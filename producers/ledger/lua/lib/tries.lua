-- Count tries that each have a name of their own: one whose reply was lost and that is said again counts once, else a server
-- that stalls would soon have used up the tries of what is sound. Nobody asks for more than MOST; their names fit a listpack.
local MOST = 8

local function count_try(key, field, name)
  local seen = words(call('HGET', key, field))
  for _, known in ipairs(seen) do
    if known == name then return #seen end
  end
  if #seen < MOST then
    seen[#seen + 1] = name
    call('HSET', key, field, table.concat(seen, ' '))
  end
  return #seen
end
