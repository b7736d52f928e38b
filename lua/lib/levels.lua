-- What happens to levels: the refill by time, take, give back, charge. Pure arithmetic on s.limits.

--@const CHARGE_MAX (2 ^ 50) -- no more than this is charged at once, in 1/den units

--@const NOT_BEFORE_EVENT -1

local function refill()
  local elapsed = now - s.at
  for _, limit in ipairs(s.limits) do
    local missing = limit[CAP] * limit[DEN] - limit[LEVEL]
    if limit[NUM] > 0 and missing > 0 then
      if elapsed >= ceil_div(missing, limit[NUM]) then
        limit[LEVEL] = limit[LEVEL] + missing
      else
        limit[LEVEL] = limit[LEVEL] + elapsed * limit[NUM]
      end
    end
  end
  s.at = now
end

local function fits(cost)
  for _, limit in ipairs(s.limits) do
    local c = cost[limit[DIM]] or 0
    if c > 0 and limit[LEVEL] < math.min(c, limit[CAP]) * limit[DEN] then return false end
  end
  return true
end

-- When the cost will fit if nothing happens but time.
local function fit_at(cost)
  local longest = 0
  for _, limit in ipairs(s.limits) do
    local c = cost[limit[DIM]] or 0
    local short = math.min(c, limit[CAP]) * limit[DEN] - limit[LEVEL]
    if c > 0 and short > 0 then
      if limit[NUM] == 0 then return NOT_BEFORE_EVENT end
      longest = math.max(longest, ceil_div(short, limit[NUM]))
    end
  end
  return now + longest
end

local function never_fits(cost)
  for _, limit in ipairs(s.limits) do
    if (cost[limit[DIM]] or 0) > limit[CEILING] then return true end
  end
  return false
end

local function give(limit, amount)
  limit[LEVEL] = math.min(limit[CAP] * limit[DEN], limit[LEVEL] + amount * limit[DEN])
end

local function charge(limit, amount)
  local scaled = math.min(amount, math.floor(CHARGE_MAX / limit[DEN])) * limit[DEN]
  limit[LEVEL] = math.max(-DEBT_MAX, limit[LEVEL] - scaled)
end

-- Replace the estimate by the actual cost; where `actual` is silent or negative, the estimate
-- stands. Slots come back whole, unless their owner was lost: then they have come back already.
local function true_up(cost, actual, late)
  for _, limit in ipairs(s.limits) do
    local estimated, used = cost[limit[DIM]] or 0, actual[limit[DIM]] or -1
    if limit[NUM] == 0 then
      if not late then give(limit, estimated) end
    elseif used >= 0 and used < estimated then
      give(limit, estimated - used)
    elseif used > estimated then
      charge(limit, used - estimated)
    end
  end
end

local function append_levels(list)
  for _, limit in ipairs(s.limits) do list[#list + 1] = units(limit[LEVEL], limit[DEN]) end
end
