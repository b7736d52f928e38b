-- From a definition (JSON, written by limiter/core/definition.py) to what a state holds of it.

-- A priority is {precedence, strict, max_waiting, promote_us, lend_us, floors, shares, asked_us,
-- waiting}: its policy, when a call of it was last asked for, and how many of its tickets wait.
-- floors: units by limit, or false; shares: a bucket by limit, or false.
--@const PRECEDENCE 1
--@const STRICT 2
--@const MOST 3
--@const PROMOTE 4
--@const LEND 5
--@const FLOORS 6
--@const SHARES 7
--@const ASKED 8
--@const WAITS 9

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
                     p.shares and full_shares(p.shares, definition.limits), 0, 0}
  end
  return priorities
end
