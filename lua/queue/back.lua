--- Give calls back that were not made, to the head of their lines; or put them off; or say that they go on.
--
-- KEYS[1] root   as in put.lua
--
-- ARGV[1] how    'back', 'later', or 'alive'
-- ARGV[2] ms     of 'later': how long; of 'alive': of the new lease
-- ARGV[3…] ids   in the order in which they were taken
--
-- Reply: {n}: how many of them the worker had

local root, how = KEYS[1], ARGV[1]
--@include queue/lines
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local found = 0
for i = #ARGV, 3, -1 do
  local id = ARGV[i]
  if redis.call('ZSCORE', root .. 'leases', id) then
    found = found + 1
    if how == 'alive' then
      redis.call('ZADD', root .. 'leases', until_ms, id)
    else
      redis.call('ZREM', root .. 'leases', id)
      if how == 'later' then
        redis.call('ZADD', root .. 'later', until_ms, id)
      else
        local kept = redis.call('HGET', root .. 'taken', id)
        redis.call('HDEL', root .. 'taken', id)
        local level, tenant, call = string.match(kept, '^([^\n]*)\n([^\n]*)\n(.*)$')
        push(root, level, tenant, call, true)
      end
    end
  end
end
if how == 'back' and found > 0 then redis.call('PUBLISH', root .. 'wake', 'calls') end
return {found}
