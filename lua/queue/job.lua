--- Begin a job, or change what becomes of it.
--
-- KEYS[1] root   as in put.lua
--
-- ARGV[1] job
-- ARGV[2] what   'open', 'close' (all its calls are in the queue), 'cancel'
-- ARGV[3…]       of 'open': fields of its hash and their values
--
-- Reply: {1} done · {0} there is no such job, or (open) there is one

local root, job, what = KEYS[1], ARGV[1], ARGV[2]
--@include queue/jobs
local key = root .. 'job:' .. job
local state = redis.call('HGET', key, 'state')
if what == 'open' then
  if state then return {0} end
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('HSET', key, 'state', 'open', 'submitted_us', now, unpack(ARGV, 3))
  return {1}
end
if not state then return {0} end
if what == 'cancel' and (state == 'open' or state == 'closed') then
  redis.call('HSET', key, 'state', 'cancelled')
elseif what == 'close' and state == 'open' then
  redis.call('HSET', key, 'state', 'closed')
end
tally(root, job, 'dropped', 0)
redis.call('PUBLISH', root .. 'wake', job)
return {1}
