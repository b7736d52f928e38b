--- The lines in which calls wait: one for each level and tenant, taken in turn by tenant.
--
-- root .. 'levels'             sorted set: levels at which calls wait
-- root .. 'ring:LEVEL'         list: tenants with calls at that level, whose turn it is first
-- root .. 'flow:LEVEL:TENANT'  list: calls, the next one first
-- root .. 'waiting'            string: how many wait in all

local function waiting(root)
  return tonumber(redis.call('GET', root .. 'waiting') or 0)
end

--- Put a call at the end of its flow, or (first) at its head.
local function push(root, level, tenant, call, first)
  local flow = root .. 'flow:' .. level .. ':' .. tenant
  if redis.call('EXISTS', flow) == 0 then
    redis.call(first and 'LPUSH' or 'RPUSH', root .. 'ring:' .. level, tenant)
    redis.call('ZADD', root .. 'levels', level, level)
  end
  redis.call(first and 'LPUSH' or 'RPUSH', flow, call)
  redis.call('INCRBY', root .. 'waiting', 1)
end

--- Take the next call of a level; nil: none waits there. Its tenant's next turn comes after the others'.
local function pop(root, level)
  local ring = root .. 'ring:' .. level
  local tenant = redis.call('LPOP', ring)
  if not tenant then
    redis.call('ZREM', root .. 'levels', level)
    return nil
  end
  local flow = root .. 'flow:' .. level .. ':' .. tenant
  local call = redis.call('LPOP', flow)
  if redis.call('EXISTS', flow) == 1 then redis.call('RPUSH', ring, tenant) end
  if call and redis.call('DECR', root .. 'waiting') <= 0 then redis.call('DEL', root .. 'waiting') end
  if not call then return pop(root, level) end
  return call, tenant
end
