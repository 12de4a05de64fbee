-- Takes off a customer's count of the month what never became a request in the log: only what was surplus at the last look too.
--
-- KEYS  1 the customer's counters  2 the surplus seen last time
-- ARGV  1 month  2 surplus seen now  3 how long to remember it, ms
--
-- A difference and not a value, so that what is admitted meanwhile stays counted. Answers how much was taken off.
local last = redis.call('HMGET', KEYS[2], 'month', 'surplus')
local row = redis.call('HMGET', KEYS[1], 'month', 'month_used')
local by = 0
if row[1] == ARGV[1] and last[1] == ARGV[1] then
  by = math.min(tonumber(last[2]), tonumber(ARGV[2]), tonumber(row[2]) or 0)
end
if by > 0 then redis.call('HINCRBY', KEYS[1], 'month_used', -by) end
redis.call('HSET', KEYS[2], 'month', ARGV[1], 'surplus', tonumber(ARGV[2]) - by)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return by
