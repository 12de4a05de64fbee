-- Raises a customer's counts of the day and of the month to what the log proves, never lowers them. Counting goes on beside it.
--
-- KEYS  1 the customer's counters
-- ARGV  1 month (year * 12 + month - 1)  2 at least in it  3 day (since 1970-01-01)  4 at least in it  5 when the key may go, Unix ms
--
-- Counters that speak of a later day or month are left alone. Answers 1 when something was raised.
local row = redis.call('HMGET', KEYS[1], 'month', 'month_used', 'day', 'day_used')
local is_changed = 0

local function raise(name, period, used, to_period, at_least)
  period, used = tonumber(period) or -1, tonumber(used) or 0
  if period > to_period then return end
  if period < to_period then used = 0 end
  if used >= at_least then return end
  redis.call('HSET', KEYS[1], name, to_period, name .. '_used', at_least)
  is_changed = 1
end

raise('month', row[1], row[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
raise('day', row[3], row[4], tonumber(ARGV[3]), tonumber(ARGV[4]))
if is_changed == 1 and redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIREAT', KEYS[1], ARGV[5]) end
return is_changed
