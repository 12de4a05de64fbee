-- Takes the turn of one admitted request in its session: hands out what is remembered, refuses a `seq` that is not new.
--
-- KEYS  1 the session (hash: last settled seq chunk kept_ms before_settled before_seq)  2 the customer's leases
-- ARGV  1 lease id  2 seq or ''  3 for how long a chunk is remembered, ms  4 for how long the request may be in flight, ms
-- Answers {what became of it, the chunk or '', now in microseconds}; what: 'refused' (not admitted), 'replayed', 'open'.
--
-- `last` is the request admitted last, `settled` whether its end is known. While it is not, nobody can say which chunk was accepted
-- last, so none is handed out. Run in the same round trip after admit.lua; a repetition by the same lease finds its own turn.
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now_us / 1000)
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'refused', '', now_us} end

local row = redis.call('HMGET', KEYS[1], 'last', 'settled', 'seq', 'chunk', 'kept_ms', 'before_settled')
local is_settled, is_again = row[2] or '1', row[1] == ARGV[1]
if is_again then
  is_settled = row[6]
else
  if ARGV[2] ~= '' and row[3] and tonumber(ARGV[2]) <= tonumber(row[3]) then return {'replayed', '', now_us} end
  redis.call('HSET', KEYS[1], 'last', ARGV[1], 'settled', '0', 'before_settled', is_settled, 'before_seq', row[3] or '')
  if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'seq', ARGV[2]) end
  redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), tonumber(ARGV[4])))
end

local age_ms = row[5] and now_ms - tonumber(row[5])
local is_known = is_settled == '1' and row[4] and age_ms >= 0 and age_ms <= tonumber(ARGV[3])
return {'open', is_known and row[4] or '', now_us}
