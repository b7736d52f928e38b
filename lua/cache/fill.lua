--- Store an answer and wake those who wait for it; the flight is over, whoever held it.
--
-- KEYS[1] answer, KEYS[2] flight: as in claim.lua
--
-- ARGV[1] answer       the envelope
-- ARGV[2] lifetime_ms  how long it is kept
-- ARGV[3] message      what those who wait are told: the key
--
-- Reply: {1}

--@include cache/owned
--@include cache/wake
drop_foreign(KEYS[2], 'hash')
-- Where the memory is full those who wait are not left to wait for nothing.
local stored = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
wake(KEYS[2], ARGV[3])
redis.call('DEL', KEYS[2])
if stored.err then return stored end
return {1}
