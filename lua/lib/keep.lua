-- Write back the tenants' levels that this run has touched, and forget those that say no more than
-- new ones would.

--@const QUIET_US 60000000 -- a tenant is looked at again after this at the earliest

local function is_full(buckets)
  for _, bucket in ipairs(buckets) do
    if bucket[LEVEL] < bucket[CAP] * bucket[DEN] then return false end
  end
  return true
end

local function look_member(tenant, look_us) return 'q' .. string.format(NUMERAL, look_us) .. tenant end

local function keep(tenant, buckets)
  local known = buckets.look_us > 0
  if is_full(buckets) then
    if not known then return end
    redis.call('HDEL', TENANTS, tenant)
    redis.call('ZREM', ORDER, look_member(tenant, buckets.look_us))
    return
  end
  if not known then
    buckets.look_us = now + math.max(QUIET_US, full_in_us(buckets))
    redis.call('ZADD', ORDER, 0, look_member(tenant, buckets.look_us))
  end
  s.tenants_until = math.max(s.tenants_until, now + full_in_us(buckets))
  local levels = {}
  for i, bucket in ipairs(buckets) do levels[i] = bucket[LEVEL] end
  redis.call('HSET', TENANTS, tenant, cmsgpack.pack({now, buckets.look_us, unpack(levels)}))
end

-- Look at the two tenants whose time came first: more leave than come.
local due = redis.call('ZRANGEBYLEX', ORDER, '[q', '(q' .. string.format(NUMERAL, now), 'LIMIT', 0, 2)
for _, member in ipairs(due) do
  local tenant = string.sub(member, 18)
  local buckets = own_buckets(tenant)
  redis.call('ZREM', ORDER, member)
  redis.call('HDEL', TENANTS, tenant)
  buckets.look_us, buckets.touched = 0, true
end
for tenant, buckets in pairs(own) do
  if buckets.touched then keep(tenant, buckets) end
end
redis.call('PEXPIRE', TENANTS, keep_tenants_ms())
redis.call('PEXPIRE', ORDER, keep_tenants_ms())
