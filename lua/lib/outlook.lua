-- What is known of a wait: how many go first, and how long that takes by the rate alone.

--@const QUEUED_MAX (2 ^ 51) -- no more than this is foreseen, in 1/den units

-- How long the cost waits at most when `queued`, by dimension, goes first. Refunds shorten it,
-- debts lengthen it; slots are not foreseen. What the same `line` waits for it waits for as well.
local function wait_in(buckets, queued, cost, line, floors)
  local longest = 0
  for i, bucket in ipairs(buckets) do
    local c, den = cost[bucket[DIM]] or 0, bucket[DEN]
    if bucket[NUM] > 0 and (c > 0 or (line[bucket[DIM]] or 0) > 0) then
      local before = math.min(queued[bucket[DIM]] or 0, math.floor(QUEUED_MAX / den)) * den
      local need = math.min(c + (floors and floors[i] or 0), bucket[CAP])
      local short = before + need * den - bucket[LEVEL]
      longest = math.max(longest, ceil_div(short, bucket[NUM]))
    end
  end
  return math.min(longest, PRINT_MAX)
end

-- The same in the limits, with the floor of a priority for as long as it is known to hold.
local function wait_for_room(priority, queued, cost, line)
  local open = wait_in(s.limits, queued, cost, line)
  local until_us = priority[FLOORS] and guarded_until(priority) or 0
  if until_us <= now then return open end
  local guarded = wait_in(s.limits, queued, cost, line, priority[FLOORS])
  return until_us >= FOREVER and guarded or math.min(guarded, math.max(open, until_us - now))
end

local function add_part(sum, queued, part, of)
  for i, amount in ipairs(queued) do
    sum[i] = (sum[i] or 0) + (part == of and amount or math.floor(amount * part / of))
  end
end

-- For a ticket with `k` of its flow before it: tickets ahead of it, and its wait at most. Flows of a
-- class move in step, so that (k + 1) calls of its flow are those of all flows by their weights.
local function outlook(c, tenant, k, weight, weights, cost)
  local class = s.classes[c]
  local priority = s.priorities[class[PRIORITY]]
  local lined = class[LINED]
  local mine = math.min(lined, ceil_div((k + 1) * math.max(weights, weight), weight) - 1)
  local ahead, queued, line, flow = mine, {}, {}, {}
  if lined > 0 then
    add_part(queued, class[QUEUED], mine, lined)
    add_part(line, class[QUEUED], mine, lined)
    add_part(flow, class[QUEUED], k, lined)
  end
  local wait_us = 0
  if priority[SHARES] and priority[STRICT] == 1 then
    wait_us = wait_in(priority[SHARES], line, cost, line)
  end
  for other, each in ipairs(s.classes) do
    if other ~= c and s.priorities[each[PRIORITY]][PRECEDENCE] >= priority[PRECEDENCE] then
      ahead = ahead + each[LINED]
      add_part(queued, each[QUEUED], 1, 1)
    end
  end
  wait_us = math.max(wait_us, wait_for_room(priority, queued, cost, line))
  if is_limited(tenant) then
    wait_us = math.max(wait_us, wait_in(own_buckets(tenant), flow, cost, flow))
  end
  return wait_us, ahead
end

-- How long the smallest call waits behind all that wait in this priority and above it.
local function wait_behind(priority)
  local queued, least = {}, {}
  for _, class in ipairs(s.classes) do
    if s.priorities[class[PRIORITY]][PRECEDENCE] >= priority[PRECEDENCE] then
      add_part(queued, class[QUEUED], 1, 1)
    end
  end
  for i, amount in ipairs(queued) do least[i] = amount > 0 and 1 or 0 end
  return wait_for_room(priority, queued, least, queued)
end

-- How many of a flow's tickets stand before one of them; of all, where seq is nil.
local function before_in_flow(flow, seq)
  local to = seq and string.format('(%s\n' .. NUMERAL, flow, seq) or '(' .. flow .. '\11'
  return redis.call('ZLEXCOUNT', LINE, '[' .. flow .. '\n', to)
end
