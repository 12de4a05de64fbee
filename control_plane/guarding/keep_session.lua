-- Ends a request's turn in its session with the chunk that is now the last accepted one ('' for none).
--
-- KEYS  1 the session   ARGV  1 lease id  2 the chunk or ''  3 when it was sent, ms  4 seq or ''  5 for how long it is remembered, ms
-- A request that a newer one has overtaken keeps nothing: the newer one's end counts.
local last = redis.call('HGET', KEYS[1], 'last')
if last and last ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'last', ARGV[1], 'settled', '1')
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'chunk', ARGV[2], 'kept_ms', ARGV[3])
else
  redis.call('HDEL', KEYS[1], 'chunk', 'kept_ms')
end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'seq', ARGV[4]) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
