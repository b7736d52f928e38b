-- What is known of a wait: how many go first, and how long that takes by the rate alone.

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
  local held_us = free_at(class[ROUTE]) - now
  local wait_us = held_us
  if priority[SHARES] and priority[STRICT] == 1 then
    wait_us = math.max(wait_us, wait_in(priority[SHARES], line, cost, line, held_us))
  end
  for other, each in ipairs(s.classes) do
    if other ~= c and s.priorities[each[PRIORITY]][PRECEDENCE] >= priority[PRECEDENCE] then
      ahead = ahead + each[LINED]
      add_part(queued, each[QUEUED], 1, 1)
    end
  end
  wait_us = math.max(wait_us, wait_for_room(priority, queued, cost, line, held_us))
  if is_limited(tenant) then
    wait_us = math.max(wait_us, wait_in(own_buckets(tenant), flow, cost, flow, held_us))
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
  return wait_for_room(priority, queued, least, queued, 0)
end

-- How many of a flow's tickets stand before one of them; of all, where seq is nil.
local function before_in_flow(flow, seq)
  local to = seq and string.format('(%s\n' .. NUMERAL, flow, seq) or '(' .. flow .. '\11'
  return redis.call('ZLEXCOUNT', LINE, '[' .. flow .. '\n', to)
end
