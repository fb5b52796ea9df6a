-- needs: base
-- Which senders a person last heard from, or wrote to, so that they hear from the same number again.
--
-- sy:<generation>:<last four digits>: a hash, field <person>, value the names of senders, newest first, at most 60 bytes, for a
-- longer one would turn the hash into a table. A generation is as long as [storage] sticky; this one and the one before count,
-- so what is used lives on, and whole hashes expire: nothing sweeps. A hash has room for so many people: in a full one somebody
-- else is forgotten, and is told of by their share again. Groups are not remembered.
local PEOPLE, SENDER_BYTES, SENDERS = 500, 60, 4

local function sticky_keys(person)
  local span = setting('sticky_s', 2592000) * 1000000
  local generation = math.floor(NOW / span)
  local digits = string.sub(person, -4)
  local function key(n) return P .. 'sy:' .. string.format('%d', n) .. ':' .. digits end
  return key(generation), key(generation - 1), (generation + 2) * span
end

-- The names, newest first; '' for none. And whether they stand in the present generation.
local function remembered_senders(person)
  local present, before = sticky_keys(person)
  local held = call('HGET', present, person)
  return held or call('HGET', before, person) or '', held and true or false
end

local function remember_sender(person, sender)
  if person == '' or string.find(person, ',', 1, true) then return end
  local held, is_present = remembered_senders(person)
  if is_present and words(held)[1] == sender then return end
  local names, bytes = { sender }, #sender
  for _, name in ipairs(words(held)) do
    if name ~= sender and #names < SENDERS and bytes + 1 + #name <= SENDER_BYTES then
      names[#names + 1], bytes = name, bytes + 1 + #name
    end
  end
  local key, _, ends = sticky_keys(person)
  local people = is_present and 1 or call('HLEN', key)
  if people >= PEOPLE then call('HDEL', key, call('HRANDFIELD', key, 1)[1]) end
  call('HSET', key, person, table.concat(names, ' '))
  if people == 0 then call('PEXPIREAT', key, int(math.floor(ends / 1000))) end
end
