-- What happens to levels: the refill by time, take, give back, charge. Pure arithmetic on a list of
-- buckets: those of the limits, of a priority's share, of a tenant.

--@const CHARGE_MAX (2 ^ 50) -- no more than this is charged at once, in 1/den units
--@const QUEUED_MAX (2 ^ 51) -- nor is more foreseen
--@const NOT_BEFORE_EVENT -1

local function refill(buckets, elapsed)
  for _, bucket in ipairs(buckets) do
    local missing = bucket[CAP] * bucket[DEN] - bucket[LEVEL]
    if bucket[NUM] > 0 and missing > 0 then
      if elapsed >= ceil_div(missing, bucket[NUM]) then
        bucket[LEVEL] = bucket[LEVEL] + missing
      else
        bucket[LEVEL] = bucket[LEVEL] + elapsed * bucket[NUM]
      end
    end
  end
end

-- When the cost fits if nothing happens but time (`now`: it does already), and which bucket it
-- waits for longest. A full bucket is always enough. `floors` stay in the buckets; what is `ahead`,
-- by bucket, is spoken for by others.
local function fit_at(buckets, cost, floors, ahead)
  local longest, last = 0, 1
  for i, bucket in ipairs(buckets) do
    local c = cost[bucket[DIM]] or 0
    if c > 0 then
      local need = math.min(c + (floors and floors[i] or 0), bucket[CAP])
      if ahead then need = need + math.min(ahead[i] or 0, bucket[CAP]) end
      local short = need * bucket[DEN] - bucket[LEVEL]
      if short > 0 then
        if bucket[NUM] == 0 or need > bucket[CAP] then return NOT_BEFORE_EVENT, i end
        local in_us = ceil_div(short, bucket[NUM])
        if in_us > longest then longest, last = in_us, i end
      end
    end
  end
  return now + longest, last
end

local function exceeds(buckets, cost)
  for _, bucket in ipairs(buckets) do
    if (cost[bucket[DIM]] or 0) > bucket[CEILING] then return true end
  end
  return false
end

-- How long the cost waits at most when `queued`, by dimension, goes first. Refunds shorten it,
-- debts lengthen it; slots are not foreseen. What the same `line` waits for it waits for as well.
local function wait_in(buckets, queued, cost, line)
  local longest = 0
  for _, bucket in ipairs(buckets) do
    local c, den = cost[bucket[DIM]] or 0, bucket[DEN]
    if bucket[NUM] > 0 and (c > 0 or (line[bucket[DIM]] or 0) > 0) then
      local before = math.min(queued[bucket[DIM]] or 0, math.floor(QUEUED_MAX / den)) * den
      local short = before + math.min(c, bucket[CAP]) * den - bucket[LEVEL]
      longest = math.max(longest, ceil_div(short, bucket[NUM]))
    end
  end
  return math.min(longest, PRINT_MAX)
end

local function take_from(buckets, cost)
  for _, bucket in ipairs(buckets) do
    bucket[LEVEL] = bucket[LEVEL] - (cost[bucket[DIM]] or 0) * bucket[DEN]
  end
end
