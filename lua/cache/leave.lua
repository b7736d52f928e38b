--- Give a flight up without an answer, so that the next one tries; or say that it goes on.
--
-- KEYS[1] flight: as in claim.lua
--
-- ARGV[1] id        of the holder; of another one it changes nothing
-- ARGV[2] how       'failed', 'left' (for a reason of the caller's own), or 'alive'
-- ARGV[3] lease_ms  how long a holder, or a failure, is remembered from now on
-- ARGV[4] message   what those who wait are told: the key
--
-- Reply: {1} done · {0} somebody else holds it

--@include cache/owned
--@include cache/wake
local flight = KEYS[1]
drop_foreign(flight, 'hash')
if redis.call('HGET', flight, 'holder') ~= ARGV[1] then return {0} end
if ARGV[2] ~= 'alive' then
  local failures = tonumber(redis.call('HGET', flight, 'failures') or 0) or 0
  redis.call('HDEL', flight, 'holder', 'rank')
  -- Full memory refuses a script's first write only, so that this one is not.
  if ARGV[2] == 'failed' then redis.call('HSET', flight, 'failures', failures + 1) end
  wake(flight, ARGV[4])
end
redis.call('PEXPIRE', flight, ARGV[3])
return {1}
