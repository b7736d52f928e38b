-- For how long keys are kept: a key that has expired says no more than one that never was.

--@const KEEP_MS 7200000 -- keys beside the state; longer than any lease
--@const KEEP_STATE_MS 10800000 -- the state outlives them while anybody is here
--@const KEEP_IDLE_MS 60000 -- a full bucket nobody asks for need not be kept
--@const KEEP_QUOTA_MS 604800000 -- a definition, after the state that it explains

local function full_in_us(buckets)
  local longest = 0
  for _, bucket in ipairs(buckets) do
    if bucket[NUM] > 0 then
      local missing = bucket[CAP] * bucket[DEN] - bucket[LEVEL]
      longest = math.max(longest, ceil_div(missing, bucket[NUM]))
    end
  end
  return longest
end

-- Until limits, shares and tenants' limits are full and every floor is lent.
local function keep_state_ms(limits, priorities, tenants_us, busy)
  local us = math.max(tenants_us, full_in_us(limits))
  for _, priority in ipairs(priorities) do
    if priority[SHARES] then us = math.max(us, full_in_us(priority[SHARES])) end
    if priority[FLOORS] then us = math.max(us, priority[LEND]) end
  end
  return ceil_div(us, 1000) + (busy and KEEP_STATE_MS or KEEP_IDLE_MS)
end
