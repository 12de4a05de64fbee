-- Takes the place of the first request under a key, or says what became of it. Redis's own time, in milliseconds.
--
-- KEYS  1 the claim (hash: fingerprint id attempt until_ms answered_ms)  2 the answer (string, ends by itself)
-- ARGV  1 fingerprint  2 request id  3 attempt  4 how long an attempt may take  5 how long the key is remembered
--       6 '1' when an attempt that never ended may be made again (under its own request id)
-- Answers {what, request id, the answer or how long, ms}; what: new, again, other, running, answered, gone, unknown
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local row = redis.call('HMGET', KEYS[1], 'fingerprint', 'id', 'attempt', 'until_ms', 'answered_ms')
if row[1] and row[1] ~= ARGV[1] then return {'other', row[2], 0} end
if row[5] then
  local answer = redis.call('GET', KEYS[2])
  if answer then return {'answered', row[2], answer} end
  return {'gone', row[2], now - tonumber(row[5])}
end
local is_again = row[1] and row[3] ~= ARGV[3]  -- the same attempt: this command had arrived already
if is_again then
  if now < tonumber(row[4]) then return {'running', row[2], tonumber(row[4]) - now} end
  if ARGV[6] ~= '1' then return {'unknown', row[2], 0} end
end
local id = row[2] or ARGV[2]
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'id', id, 'attempt', ARGV[3], 'until_ms', now + tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {is_again and 'again' or 'new', id, 0}
