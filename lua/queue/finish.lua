--- Store the result of a call, once, and let the call go.
--
-- KEYS[1] root    as in put.lua
--
-- ARGV[1] id      'JOB:NUMBER'
-- ARGV[2] how     'ok' or 'failed'
-- ARGV[3] result  the line; of a failure it says why
-- ARGV[4] tokens  that it took
-- ARGV[5] level, ARGV[6] tenant, ARGV[7] call   of a failure: what is kept to try it again
--
-- Reply: {1} stored · {0} it has a result already, or its job is gone

local root, id = KEYS[1], ARGV[1]
--@include queue/jobs
--@include queue/dead
local job, number = string.match(id, '^(.*):(%d+)$')
redis.call('ZREM', root .. 'leases', id)
redis.call('HDEL', root .. 'taken', id)
redis.call('HDEL', root .. 'lost', id)
if redis.call('EXISTS', root .. 'job:' .. job) == 0 then return {0} end
local stored = 1
if ARGV[2] == 'failed' then
  stored = bury(root, id, (string.gsub(ARGV[3], '\n', '')), ARGV[5], ARGV[6], ARGV[7])
elseif redis.call('SETBIT', root .. 'done:' .. job, number, 1) == 1 then
  stored = 0
else
  redis.call('RPUSH', root .. 'results:' .. job, ARGV[3])
  redis.call('HINCRBY', root .. 'job:' .. job, 'tokens', ARGV[4])
  tally(root, job, 'ok', 1)
end
redis.call('PUBLISH', root .. 'wake', job)
return {stored}
