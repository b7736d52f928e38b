--@const CHARGE_MAX (2 ^ 50) -- no more than this is charged at once, in 1/den units

-- Replace an estimate by what was used. Where `actual` is silent or negative, the estimate stands.
-- Slots come back whole, unless their owner was lost: then they have come back already.
local function true_up(buckets, cost, actual, late)
  for _, bucket in ipairs(buckets) do
    local estimated, used = cost[bucket[DIM]] or 0, actual[bucket[DIM]] or -1
    if bucket[NUM] == 0 then used = late and -1 or 0 end
    if used >= 0 and used < estimated then
      local full, level = bucket[CAP] * bucket[DEN], bucket[LEVEL] + (estimated - used) * bucket[DEN]
      bucket[LEVEL] = level < full and level or full
    elseif used > estimated then
      local scaled = math.min(used - estimated, math.floor(CHARGE_MAX / bucket[DEN])) * bucket[DEN]
      bucket[LEVEL] = math.max(-DEBT_MAX, bucket[LEVEL] - scaled)
    end
  end
end
