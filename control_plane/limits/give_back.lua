-- Undoes one admission whose work failed by our fault: once, while its lease is still there, and only where it was counted.
--
-- KEYS  as admit.lua
-- ARGV  1 lease id  2 drained_at after the admission  3 interval  4 the key's drained_at or ''  5 the key's interval  6 day  7 month  8 Redis process of the admission, or '' without a spend cap
--
-- The bucket drains in the order in which it was filled, so this request's interval drains during the one that ends at its own
-- drained_at. What has drained by now is gone (it made room for others already); what has not is taken out.
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function not_drained(drained_at, interval)
  return math.max(0, math.min(tonumber(drained_at) - now, tonumber(interval)))
end

local row = redis.call('HMGET', KEYS[1], 'drained_at', 'day', 'day_used', 'month', 'month_used', 'spend_month', 'spend_used')
if row[1] then
  redis.call('HSET', KEYS[1], 'drained_at', tonumber(row[1]) - not_drained(ARGV[2], ARGV[3]))
  if row[2] == ARGV[6] and tonumber(row[3]) > 0 then redis.call('HINCRBY', KEYS[1], 'day_used', -1) end
  if row[4] == ARGV[7] and tonumber(row[5]) > 0 then redis.call('HINCRBY', KEYS[1], 'month_used', -1) end
  if (ARGV[8] or '') ~= '' and row[6] == ARGV[7] and tonumber(row[7]) > 0 then redis.call('HINCRBY', KEYS[1], 'spend_used', -1) end
end
local key_drained_at = ARGV[4] ~= '' and redis.call('GET', KEYS[3])
if key_drained_at then
  redis.call('SET', KEYS[3], tonumber(key_drained_at) - not_drained(ARGV[4], ARGV[5]), 'KEEPTTL')
end
return 1
