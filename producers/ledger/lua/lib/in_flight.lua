-- Requests under way to somebody who has just said no: they cannot be called back, so they are put on record. Looked up
-- here, at the rare word, and not at every message that ends.
local LOOKED_AT_MOST = 4000

local function is_among(number, to) return string.find(',' .. (to or '') .. ',', ',' .. number .. ',', 1, true) ~= nil end

local function note_in_flight(number)
  local looked_at = 0
  for _, process in ipairs(call('SMEMBERS', P .. 'procs')) do
    for _, mid in ipairs(call('HKEYS', P .. 'held:' .. process)) do
      looked_at = looked_at + 1
      if looked_at > LOOKED_AT_MOST then return audit('late', number, '', '', '', 'more_in_flight_than_looked_at') end
      local f = call('HMGET', mkey(mid), 's', 'to', 'ln')
      if f[1] == 'S' and is_among(number, f[2]) then
        local scope, said = opted_out(words(call('HGET', P .. 'lane:' .. f[3], 'scp')), number)
        if scope then audit('late', number, mid, scope, said, 'in_flight') end
      end
    end
  end
end
