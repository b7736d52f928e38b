--- Put calls of one flow into the queue, as far as there is room.
--
-- KEYS[1] root    'limiter:queue:1:{NAME}:'; the other keys of the queue are made of it (see lua/README.md)
--
-- ARGV[1] most    calls that may wait in the queue; 0: any number
-- ARGV[2] level   of their priority
-- ARGV[3] tenant  '' for nobody's
-- ARGV[4] job     whose calls
-- ARGV[5…]        the calls: 'JOB:NUMBER', a line feed, and what a worker needs
--
-- Reply: {put, waiting}: how many were put, of the first ones; how many wait in all now.
--   -1 for put: the job is cancelled, or gone

local root = KEYS[1]
--@include queue/lines
local job = root .. 'job:' .. ARGV[4]
if redis.call('HGET', job, 'state') ~= 'open' then return {-1, waiting(root)} end
local most, room = tonumber(ARGV[1]), #ARGV - 4
if most > 0 then room = math.max(0, math.min(room, most - waiting(root))) end
for i = 1, room do push(root, ARGV[2], ARGV[3], ARGV[4 + i], false) end
redis.call('HINCRBY', job, 'total', room)
if room > 0 then redis.call('PUBLISH', root .. 'wake', 'calls') end
return {room, waiting(root)}
