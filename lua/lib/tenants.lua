-- Limits of each tenant's own. A tenant's buckets are kept while they are not full: a hash, tenant ->
-- msgpack {at, look_us, level…}, and a member `q look_us tenant` in ORDER, by which those that are
-- full again are found and forgotten.

local own = {} -- tenant -> its buckets in this run

local function is_limited(tenant) return tenant ~= '' and s.own[1] ~= nil end

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
