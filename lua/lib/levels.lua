-- What happens to levels: the refill by time, what fits and when, take. Pure arithmetic on a list of
-- buckets: those of the limits, of a priority's share, of a tenant.

--@const NOT_BEFORE_EVENT -1

local function refill(buckets, elapsed)
  for _, bucket in ipairs(buckets) do
    -- A gain of 2^53 or more may be rounded, and is more than is missing all the same.
    local missing, gain = bucket[CAP] * bucket[DEN] - bucket[LEVEL], elapsed * bucket[NUM]
    if missing > 0 then bucket[LEVEL] = bucket[LEVEL] + (gain < missing and gain or missing) end
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
      local need = floors and c + floors[i] or c
      if need > bucket[CAP] then need = bucket[CAP] end
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

local function take_from(buckets, cost)
  for _, bucket in ipairs(buckets) do
    bucket[LEVEL] = bucket[LEVEL] - (cost[bucket[DIM]] or 0) * bucket[DEN]
  end
end

local function append_levels(list)
  local n = #list
  for i, limit in ipairs(s.limits) do list[n + i] = units(limit[LEVEL], limit[DEN]) end
end

local function refill_all(elapsed)
  refill(s.limits, elapsed)
  for _, priority in ipairs(s.priorities) do
    if priority[SHARES] then refill(priority[SHARES], elapsed) end
  end
  s.at = now
end
