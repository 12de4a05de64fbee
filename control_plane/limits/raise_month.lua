-- Raises a customer's count of the month to what the log proves, never lowers it. Counting goes on beside it: one step.
--
-- KEYS  1 the customer's counters
-- ARGV  1 month (year * 12 + month - 1)  2 at least  3 when the key may go, Unix ms
--
-- Answers the count before and after; both empty when the counters speak of a later month.
local row = redis.call('HMGET', KEYS[1], 'month', 'month_used')
local month, used = tonumber(row[1]), tonumber(row[2]) or 0
if month and month > tonumber(ARGV[1]) then return {} end
if month ~= tonumber(ARGV[1]) then used = 0 end
if used >= tonumber(ARGV[2]) then return {used, used} end
redis.call('HSET', KEYS[1], 'month', ARGV[1], 'month_used', ARGV[2])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end
return {used, tonumber(ARGV[2])}
