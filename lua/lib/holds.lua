-- Held reservations: one sorted set, all scores 0, each member "id msgpack{granted_us, cost…}".
-- In the order of bytes an id is found by its beginning, and so are all ids of one owner.

local function take(id, cost)
  for _, limit in ipairs(s.limits) do
    limit[LEVEL] = limit[LEVEL] - (cost[limit[DIM]] or 0) * limit[DEN]
  end
  redis.call('ZADD', HOLDS, 0, id .. ' ' .. cmsgpack.pack({now, unpack(cost)}))
  if s.held == 0 then redis.call('PEXPIRE', HOLDS, KEEP_MS) end
  s.held = s.held + 1
end

local function read_hold(payload)
  local cost = cmsgpack.unpack(payload)
  return table.remove(cost, 1), cost
end

local function find_hold(id)
  local found = redis.call('ZRANGEBYLEX', HOLDS, '[' .. id .. ' ', '(' .. id .. '!', 'LIMIT', 0, 1)
  return found[1]
end

local function remove_hold(member)
  redis.call('ZREM', HOLDS, member)
  s.held = math.max(0, s.held - 1)
end

local function nothing(cost)
  local zeros = {}
  for i = 1, #cost do zeros[i] = 0 end
  return zeros
end

-- What was granted after the owner's last sign of life was never picked up: all of it goes back.
-- The rest may have been used: slots go back, the estimate stands until a late settle.
reap_holds = function(name, seen)
  local members = redis.call('ZRANGEBYLEX', HOLDS, '[' .. name .. ':', '(' .. name .. ';')
  for _, member in ipairs(members) do
    local id, payload = string.match(member, '^(%S+) (.*)$')
    local granted, cost = read_hold(payload)
    if granted > seen then
      true_up(cost, nothing(cost))
    else
      true_up(cost, {})
      redis.call('HSET', LAPSED, id, payload)
      redis.call('PEXPIRE', LAPSED, KEEP_MS)
    end
    remove_hold(member)
  end
end
