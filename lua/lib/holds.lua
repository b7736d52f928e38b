-- Held reservations: a hash, id -> msgpack {granted_us, priority, lent, tenant, cost…}. lent 1: it was
-- granted beyond its priority's share, which therefore knows nothing of it.

-- Whoever is at the head for a tenant was found to fit by levels that have changed.
local function forget_heads(tenant)
  for _, class in ipairs(s.classes) do
    if class[HEAD] and class[HEAD][HEAD_TENANT] == tenant then class[HEAD] = false end
  end
end

local function take(id, p, lent, tenant, cost)
  take_from(s.limits, cost)
  local shares = s.priorities[p][SHARES]
  if shares and not lent then take_from(shares, cost) end
  if is_limited(tenant) then
    local buckets = own_buckets(tenant)
    take_from(buckets, cost)
    buckets.touched = true
    forget_heads(tenant)
  end
  redis.call('HSET', HOLDS, id, cmsgpack.pack({now, p, lent and 1 or 0, tenant, unpack(cost)}))
  if s.held == 0 then redis.call('PEXPIRE', HOLDS, KEEP_MS) end
  s.held = s.held + 1
end

local function read_hold(payload)
  local a = cmsgpack.unpack(payload)
  return {granted = a[1], priority = a[2], lent = a[3] == 1, tenant = a[4], cost = {unpack(a, 5)}}
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

-- Make the levels know what a reservation really used.
local function end_hold(hold, actual, late)
  true_up(s.limits, hold.cost, actual, late)
  local priority = s.priorities[hold.priority]
  if priority and priority[SHARES] and not hold.lent then
    true_up(priority[SHARES], hold.cost, actual, late)
  end
  if is_limited(hold.tenant) then
    local buckets = own_buckets(hold.tenant)
    true_up(buckets, hold.cost, actual, late)
    buckets.touched = true
    forget_heads(hold.tenant)
    if s.recheck then unblock_tenant(hold.tenant) end
  end
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
      local hold = read_hold(payload)
      if hold.granted > seen then
        end_hold(hold, nothing(hold.cost))
      else
        end_hold(hold, {})
        redis.call('HSET', LAPSED, id, payload)
        redis.call('PEXPIRE', LAPSED, KEEP_MS)
      end
      remove_hold(id)
    end
  end
end
