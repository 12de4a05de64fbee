-- Ends an attempt without an answer: the key is free again, or, when the attempt may have been billed, free for the same request id.
--
-- KEYS  1 as claim.lua
-- ARGV  1 attempt  2 '1' to keep the request id
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then return redis.call('HSET', KEYS[1], 'until_ms', 0) end
return redis.call('DEL', KEYS[1])
