-- How long a call waits by the rate alone.

--@const QUEUED_MAX (2 ^ 51) -- no more than this is foreseen, in 1/den units

-- How long the cost waits at most when `queued`, by dimension, goes first. Refunds shorten it,
-- debts lengthen it; slots are not foreseen. What the same `line` waits for it waits for as well. While
-- the brake holds, `held_us` from now, a bucket that is full gets no fuller.
local function wait_in(buckets, queued, cost, line, held_us, floors)
  local longest = 0
  for i, bucket in ipairs(buckets) do
    local c, den = cost[bucket[DIM]] or 0, bucket[DEN]
    if bucket[NUM] > 0 and (c > 0 or (line[bucket[DIM]] or 0) > 0) then
      local before = math.min(queued[bucket[DIM]] or 0, math.floor(QUEUED_MAX / den)) * den
      local need = math.min(c + (floors and floors[i] or 0), bucket[CAP])
      local least = bucket[CAP] * den - math.min(DEBT_MAX, bucket[NUM] * held_us)
      local short = before + need * den - math.min(bucket[LEVEL], least)
      longest = math.max(longest, ceil_div(short, bucket[NUM]))
    end
  end
  return math.min(longest, PRINT_MAX)
end

-- The same in the limits, with the floor of a priority for as long as it is known to hold.
local function wait_for_room(priority, queued, cost, line, held_us)
  local open = wait_in(s.limits, queued, cost, line, held_us)
  local until_us = priority[FLOORS] and guarded_until(priority) or 0
  if until_us <= now then return open end
  local guarded = wait_in(s.limits, queued, cost, line, held_us, priority[FLOORS])
  return until_us >= FOREVER and guarded or math.min(guarded, math.max(open, until_us - now))
end
