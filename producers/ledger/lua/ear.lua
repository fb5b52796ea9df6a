-- A web process says that it can hear; once every 2 s. A gap of over 5 s starts the hearing time anew.
-- needs: base
-- ARGV: web id.   Returns {hearing since us, heard until us}.
local ears = P .. 'ears'
local last = num(call('HGET', ears, 'last'), 0)
if NOW - last > 5000000 then call('HSET', ears, 'since', int(NOW)) end
call('HSET', ears, 'last', int(NOW))
call('SET', P .. 'ears:' .. ARGV[1], int(NOW), 'PX', 10000)
return { call('HGET', ears, 'since'), int(NOW) }
