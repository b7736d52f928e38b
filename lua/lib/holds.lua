-- Held reservations: a hash, id -> msgpack {granted_us, priority, lent, tenant, cost, marks}. lent 1: it
-- was granted beyond its priority's share, which therefore knows nothing of it. marks: by limit, see
-- lib/drift.lua; none where no answer was ever reported.
--@const GRANTED_AT 1
--@const BY_PRIORITY 2
--@const LENT 3
--@const TENANT 4
--@const COST 5
--@const MARKS 6

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
  local hold = {now, p, lent and 1 or 0, tenant, cost}
  if s.limits[1][SHIFT] then
    hold[MARKS] = {}
    for i, bucket in ipairs(s.limits) do hold[MARKS][i] = bucket[LEVEL] - bucket[SHIFT] end
  end
  redis.call('HSET', HOLDS, id, cmsgpack.pack(hold))
  if s.held == 0 then redis.call('PEXPIRE', HOLDS, KEEP_MS) end
  s.held = s.held + 1
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

local the_line -- lib/waiting.lua

-- Make the levels know what a reservation really used.
local function end_hold(hold, actual, late)
  local cost, tenant, priority = hold[COST], hold[TENANT], s.priorities[hold[BY_PRIORITY]]
  true_up(s.limits, cost, actual, late)
  if priority and priority[SHARES] and hold[LENT] == 0 then
    true_up(priority[SHARES], cost, actual, late)
  end
  if is_limited(tenant) then
    local buckets = own_buckets(tenant)
    true_up(buckets, cost, actual, late)
    buckets.touched = true
    forget_heads(tenant)
    if s.recheck then the_line().unblock_tenant(tenant) end
  end
end
