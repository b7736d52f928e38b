--- Count calls of a job that wait at a broker; the calls themselves are there.
--
-- KEYS[1] root   as in put.lua
--
-- ARGV[1] level  of their priority
-- ARGV[2] job    whose calls
-- ARGV[3] count  how many more; 0 before the first, so that workers know the level by then
--
-- Reply: {0, level, …}: each level at which calls were put at a broker, the highest first.
--   {-1}: the job is cancelled, or gone
--
-- root .. 'carried'   sorted set: these levels

local root, job = KEYS[1], KEYS[1] .. 'job:' .. ARGV[2]
if redis.call('HGET', job, 'state') ~= 'open' then return {-1} end
redis.call('ZADD', root .. 'carried', ARGV[1], ARGV[1])
redis.call('HINCRBY', job, 'total', ARGV[3])
if tonumber(ARGV[3]) > 0 then redis.call('PUBLISH', root .. 'wake', 'calls') end
local reply = {0}
for _, level in ipairs(redis.call('ZREVRANGE', root .. 'carried', 0, -1)) do
  reply[#reply + 1] = tonumber(level)
end
return reply
