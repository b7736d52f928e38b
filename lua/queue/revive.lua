--- Put calls of a job that failed for good into the queue again, where they were.
--
-- KEYS[1] root   as in put.lua
--
-- ARGV[1] job
-- ARGV[2…]       numbers of its calls
--
-- Reply: {n}: how many of them had failed; -1: the job is cancelled, or gone

local root, job = KEYS[1], ARGV[1]
--@include queue/lines
local key, dead = root .. 'job:' .. job, root .. 'dead:' .. job
local state = redis.call('HGET', key, 'state')
if not state or state == 'cancelled' then return {-1} end
local found = 0
for i = 2, #ARGV do
  local kept = redis.call('HGET', dead, ARGV[i])
  local level, tenant, call = string.match(kept or '', '^[^\n]*\n([^\n]*)\n([^\n]*)\n(.*)$')
  if call then
    found = found + 1
    redis.call('HDEL', dead, ARGV[i])
    push(root, level, tenant, call, false)
  end
end
if found > 0 then
  redis.call('HINCRBY', key, 'failed', -found)
  if state == 'ended' then redis.call('HSET', key, 'state', 'closed') end
  for _, name in ipairs({'job:', 'done:', 'results:', 'dead:'}) do
    redis.call('PERSIST', root .. name .. job)
  end
  redis.call('PUBLISH', root .. 'wake', 'calls')
end
return {found}
