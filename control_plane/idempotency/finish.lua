-- Keeps the answer of the attempt that holds the claim; another attempt's is left alone.
--
-- KEYS  as claim.lua
-- ARGV  1 attempt  2 the answer, or '' when it is not kept  3 how long it is kept  4 how long the key is remembered
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'answered_ms', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return 1
