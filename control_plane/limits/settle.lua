-- Ends the admission of a customer with a spend cap: frees its place and keeps the count of what may become billable honest.
--
-- KEYS  1, 2 as admit.lua
-- ARGV  1 lease id  2 month of the admission  3 Redis process of the admission  4 '1' when it is billed
--
-- An admission is in the count from its first moment. Not billed: it is taken out, once, while its lease is there. Billed, but by a
-- Redis process that has been replaced by one which never heard of its lease: the new count may lack it, so it is added.
local had_lease = redis.call('ZREM', KEYS[2], ARGV[1]) == 1
local row = redis.call('HMGET', KEYS[1], 'spend_month', 'spend_run', 'spend_used')
if row[1] ~= ARGV[2] or not row[2] then return 0 end
if ARGV[4] == '0' then
  if had_lease and tonumber(row[3]) > 0 then return redis.call('HINCRBY', KEYS[1], 'spend_used', -1) end
elseif not had_lease and row[2] ~= ARGV[3] then
  return redis.call('HINCRBY', KEYS[1], 'spend_used', 1)
end
return 0
