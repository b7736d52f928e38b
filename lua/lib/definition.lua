-- From a definition (JSON, written by limiter/core/definition.py) to what a state holds of it.

local function full_buckets(limits)
  local buckets = {}
  for i, limit in ipairs(limits) do
    buckets[i] = {limit.dim, limit.num, limit.den, limit.capacity, limit.ceiling,
                  limit.capacity * limit.den}
  end
  return buckets
end

-- A share is a bucket like its limit's, with a part of the rate and of the capacity.
local function full_shares(shares, limits)
  local buckets = {}
  for i, share in ipairs(shares) do
    buckets[i] = {limits[i].dim, share.num, share.den, share.capacity, share.capacity,
                  share.capacity * share.den}
  end
  return buckets
end

local function read_priorities(definition)
  local priorities = {}
  for i, p in ipairs(definition.priorities) do
    priorities[i] = {p.level, p.strict, p.max_waiting, p.promote_us, p.lend_us, p.floors,
                     p.shares and full_shares(p.shares, definition.limits), -FOREVER, 0}
  end
  return priorities
end
