-- Admits one request, or refuses it and changes nothing. All times are Redis's own, in microseconds unless named otherwise.
--
-- KEYS  1 the customer's counters (hash: drained_at day day_used month month_used spend_run spend_month spend_used)
--       2 the customer's leases (zset: id -> end, ms)  3 the key's own minute (string: drained_at)
-- ARGV  1 lease id  2 lease, ms  3 minute  4 per minute  5 per day  6 per month or ''  7 concurrency  8 the key's per minute or ''
--       9 the most requests of this month that may become billable, or '' without a spend cap
--       10 how many are billable already, as counted elsewhere, or ''  11 the Redis process for which they were counted
--
-- A minute is a bucket (GCRA) that drains at a steady rate: each request adds one interval to `drained_at`, the instant at which the
-- bucket will have drained; a request fits when the bucket then still holds no more than `limit` intervals.
-- A count of spending is good for one month and for the life of one Redis process: one that was killed may have forgotten requests
-- that it had counted. Without a good count nothing is admitted (`uncounted`): the caller counts, and comes again with the number.
-- A new process is counted for only when the others have had the time to bring back what it lacks (usage/replay.py).
-- A lease that is there already is a repetition of a command that had arrived: it is admitted and counts nothing.
local time = redis.call('TIME')
local now_s = tonumber(time[1])
local now = now_s * 1000000 + tonumber(time[2])
local minute = tonumber(ARGV[3])
local day = floor(now_s / 86400)
local month, month_ends_s = month_of(now_s)

local function wait_for(drained_at, limit)  -- how long until one more fits, and the length of one
  local interval = math.ceil(minute / limit)
  return math.max(0, math.max(drained_at, now) + interval - now - interval * limit), interval
end

local row = redis.call('HMGET', KEYS[1], 'drained_at', 'day', 'day_used', 'month', 'month_used')
local drained_at = math.max(tonumber(row[1]) or 0, now)
local day_used = tonumber(row[2]) == day and tonumber(row[3]) or 0
local month_used = tonumber(row[4]) == month and tonumber(row[5]) or 0
local key_limit = tonumber(ARGV[8])
local key_drained_at = key_limit and math.max(tonumber(redis.call('GET', KEYS[3])) or 0, now) or now

local spend_most = tonumber(ARGV[9])
local run, up_us, spend_used = '', 0, nil
if spend_most then
  local server = redis.call('INFO', 'server')
  run, up_us = string.match(server, 'run_id:(%x+)'), tonumber(string.match(server, 'uptime_in_seconds:(%d+)')) * 1000000
  local spend = redis.call('HMGET', KEYS[1], 'spend_run', 'spend_month', 'spend_used')
  if spend[1] == run and tonumber(spend[2]) == month then
    spend_used = tonumber(spend[3])
  elseif ARGV[10] ~= '' and ARGV[11] == run and up_us >= 5000000 then
    spend_used = tonumber(ARGV[10])
    redis.call('HSET', KEYS[1], 'spend_run', run, 'spend_month', month, 'spend_used', spend_used)
    redis.call('PEXPIREAT', KEYS[1], month_ends_s * 1000 + math.ceil(2 * minute / 1000))
  end
end

local function answer(refused_by, wait)
  local reply = {refused_by, wait, now, drained_at, key_drained_at, day, day_used, month, month_used, month_ends_s}
  if spend_most then reply[11], reply[12] = run, spend_used or 0 end
  return reply
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', floor(now / 1000))
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return answer('', 0) end

-- The longest wait is the one that says when a request will be admitted again. A free place has no known time: it counts as none.
local refused_by, wait = '', 0
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then refused_by = 'concurrency' end
local minute_wait, interval = wait_for(drained_at, tonumber(ARGV[4]))
if minute_wait > wait then refused_by, wait = 'minute', minute_wait end
local key_interval = 0
if key_limit then
  local key_wait
  key_wait, key_interval = wait_for(key_drained_at, key_limit)
  if key_wait > wait then refused_by, wait = 'minute', key_wait end
end
local day_wait = (day + 1) * 86400000000 - now
if day_used >= tonumber(ARGV[5]) and day_wait > wait then refused_by, wait = 'day', day_wait end
local month_wait = month_ends_s * 1000000 - now
if ARGV[6] ~= '' and month_used >= tonumber(ARGV[6]) and month_wait > wait then refused_by, wait = 'month', month_wait end
if spend_most and spend_used and spend_used >= spend_most and month_wait > wait then refused_by, wait = 'spend', month_wait end
if refused_by ~= '' then return answer(refused_by, wait) end
if spend_most and not spend_used then return answer('uncounted', math.max(0, 5000000 - up_us)) end

drained_at, day_used, month_used = drained_at + interval, day_used + 1, month_used + 1
redis.call('HSET', KEYS[1], 'drained_at', drained_at, 'day', day, 'day_used', day_used, 'month', month, 'month_used', month_used)
if spend_most then spend_used = redis.call('HINCRBY', KEYS[1], 'spend_used', 1) end
redis.call('PEXPIREAT', KEYS[1], month_ends_s * 1000 + math.ceil(2 * minute / 1000))
if key_limit then
  key_drained_at = key_drained_at + key_interval
  redis.call('SET', KEYS[3], key_drained_at, 'PXAT', math.ceil(key_drained_at / 1000))
end
redis.call('ZADD', KEYS[2], floor(now / 1000) + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIREAT', KEYS[2], redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2])
return answer('', 0)
