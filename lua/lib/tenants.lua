-- Limits of each tenant's own. A tenant's buckets are kept while they are not full: a hash, tenant ->
-- msgpack {at, look_us, level…}, and a member `q look_us tenant` in ORDER, by which those that are
-- full again are found and forgotten.

--@const RECHECK_US 5000000 -- a blocked flow is looked at again after this at the latest
--@const QUIET_US 60000000 -- when to look at a tenant whose slots are out

local own = {} -- tenant -> its buckets in this run

local function is_limited(tenant) return tenant ~= '' and #s.own > 0 end

local function own_buckets(tenant)
  if own[tenant] then return own[tenant] end
  local blob = redis.call('HGET', TENANTS, tenant)
  local known = blob and cmsgpack.unpack(blob)
  local buckets = {look_us = known and known[2] or 0}
  for i, bucket in ipairs(s.own) do
    buckets[i] = {unpack(bucket)}
    if known then buckets[i][LEVEL] = known[i + 2] end
  end
  if known then refill(buckets, now - known[1]) end
  own[tenant] = buckets
  return buckets
end

local function is_full(buckets)
  for _, bucket in ipairs(buckets) do
    if bucket[LEVEL] < bucket[CAP] * bucket[DEN] then return false end
  end
  return true
end

local function look_at(tenant, look_us)
  redis.call('ZADD', ORDER, 0, 'q' .. string.format(NUMERAL, look_us) .. tenant)
end

local function save_tenant(tenant, buckets)
  local known = buckets.look_us > 0
  if is_full(buckets) then
    if not known then return end
    redis.call('HDEL', TENANTS, tenant)
    redis.call('ZREM', ORDER, 'q' .. string.format(NUMERAL, buckets.look_us) .. tenant)
    return
  end
  if not known then
    buckets.look_us = now + math.max(QUIET_US, full_in_us(buckets))
    look_at(tenant, buckets.look_us)
  end
  s.tenants_until = math.max(s.tenants_until, now + full_in_us(buckets))
  local levels = {}
  for i, bucket in ipairs(buckets) do levels[i] = bucket[LEVEL] end
  redis.call('HSET', TENANTS, tenant, cmsgpack.pack({now, buckets.look_us, unpack(levels)}))
end

-- Look at the two tenants whose time came first: more leave than come.
local function tidy_tenants()
  local due = redis.call('ZRANGEBYLEX', ORDER, '[q', '(q' .. string.format(NUMERAL, now), 'LIMIT', 0, 2)
  for _, member in ipairs(due) do
    local tenant = string.sub(member, 18)
    local buckets = own_buckets(tenant)
    redis.call('ZREM', ORDER, member)
    redis.call('HDEL', TENANTS, tenant)
    buckets.look_us, buckets.touched = 0, true
  end
end

local function save_tenants()
  if not next(own) then return end
  tidy_tenants()
  for tenant, buckets in pairs(own) do
    if buckets.touched then save_tenant(tenant, buckets) end
  end
  redis.call('PEXPIRE', TENANTS, keep_tenants_ms())
  redis.call('PEXPIRE', ORDER, keep_tenants_ms())
end
