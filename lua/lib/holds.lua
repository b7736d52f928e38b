-- Held reservations: a hash, id -> msgpack {granted_us, cost…}.

local function take(id, cost)
  for _, limit in ipairs(s.limits) do
    limit[LEVEL] = limit[LEVEL] - (cost[limit[DIM]] or 0) * limit[DEN]
  end
  redis.call('HSET', HOLDS, id, cmsgpack.pack({now, unpack(cost)}))
  if s.held == 0 then redis.call('PEXPIRE', HOLDS, KEEP_MS) end
  s.held = s.held + 1
end

local function read_hold(payload)
  local cost = cmsgpack.unpack(payload)
  return table.remove(cost, 1), cost
end

local function remove_hold(id)
  redis.call('HDEL', HOLDS, id)
  s.held = math.max(0, s.held - 1)
end

local function nothing(cost)
  local zeros = {}
  for i = 1, #cost do zeros[i] = 0 end
  return zeros
end

-- What was granted after the owner's last sign of life was never picked up: all of it goes back.
-- The rest may have been used: slots go back, the estimate stands until a late settle. It looks at
-- every reservation, once for all owners that were found lost together; `lost`: owner -> last seen.
reap_holds = function(lost)
  local all = redis.call('HGETALL', HOLDS)
  for i = 1, #all, 2 do
    local id, payload = all[i], all[i + 1]
    local seen = lost[owner_of(id)]
    if seen then
      local granted, cost = read_hold(payload)
      if granted > seen then
        true_up(cost, nothing(cost))
      else
        true_up(cost, {})
        redis.call('HSET', LAPSED, id, payload)
        redis.call('PEXPIRE', LAPSED, KEEP_MS)
      end
      remove_hold(id)
    end
  end
end
