-- Ends the turn of a request that got no verdict: the session is as if it had not come, and its `seq` may be sent again.
--
-- KEYS  1 the session   ARGV  1 lease id
if redis.call('HGET', KEYS[1], 'last') ~= ARGV[1] then return 0 end
local before = redis.call('HMGET', KEYS[1], 'before_settled', 'before_seq')
redis.call('HSET', KEYS[1], 'settled', before[1])
if before[2] == '' then redis.call('HDEL', KEYS[1], 'seq') else redis.call('HSET', KEYS[1], 'seq', before[2]) end
return 1
