-- Replace an estimate by what was used: give back, or charge. Pure arithmetic on a list of buckets.

local function give(bucket, amount)
  bucket[LEVEL] = math.min(bucket[CAP] * bucket[DEN], bucket[LEVEL] + amount * bucket[DEN])
end

local function charge(bucket, amount)
  local scaled = math.min(amount, math.floor(CHARGE_MAX / bucket[DEN])) * bucket[DEN]
  bucket[LEVEL] = math.max(-DEBT_MAX, bucket[LEVEL] - scaled)
end

-- Where `actual` is silent or negative, the estimate stands. Slots come back whole, unless their
-- owner was lost: then they have come back already.
local function true_up(buckets, cost, actual, late)
  for _, bucket in ipairs(buckets) do
    local estimated, used = cost[bucket[DIM]] or 0, actual[bucket[DIM]] or -1
    if bucket[NUM] == 0 then
      if not late then give(bucket, estimated) end
    elseif used >= 0 and used < estimated then
      give(bucket, estimated - used)
    elseif used > estimated then
      charge(bucket, used - estimated)
    end
  end
end
