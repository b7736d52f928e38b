-- The line: tickets that wait, first come first served within a flow. A flow is one (priority,
-- tenant) pair; today there is one, the empty name, and the layout has room for all of them.

-- Sorted by bytes: the flow, then the order of arrival.
local function line_member(flow, seq, id)
  return string.format('%s %014.0f %s', flow, seq, id)
end

local function add_queued(cost, sign)
  for i, amount in ipairs(cost) do s.queued[i] = (s.queued[i] or 0) + sign * amount end
end

-- How long a ticket at the end of the line waits at most, by what is known now. Refunds
-- shorten it, debts lengthen it; slots are not foreseen.
local function wait_for(cost)
  local longest = 0
  for _, limit in ipairs(s.limits) do
    local c = cost[limit[DIM]] or 0
    if limit[NUM] > 0 and c > 0 then
      local ahead = (s.queued[limit[DIM]] or 0) * limit[DEN]
      local short = ahead + math.min(c, limit[CAP]) * limit[DEN] - limit[LEVEL]
      longest = math.max(longest, ceil_div(short, limit[NUM]))
    end
  end
  return math.min(longest, PRINT_MAX)
end

local function enqueue(id, flow, cost)
  s.seq = s.seq + 1
  redis.call('HSET', TICKETS, id, cmsgpack.pack({s.seq, now, flow, unpack(cost)}))
  redis.call('ZADD', LINE, 0, line_member(flow, s.seq, id))
  if s.waiting == 0 then
    redis.call('PEXPIRE', TICKETS, KEEP_MS)
    redis.call('PEXPIRE', LINE, KEEP_MS)
  end
  s.waiting = s.waiting + 1
  add_queued(cost, 1)
end

local function read_ticket(id)
  local blob = redis.call('HGET', TICKETS, id)
  if not blob then return nil end
  local cost = cmsgpack.unpack(blob)
  local seq, _, flow = table.remove(cost, 1), table.remove(cost, 1), table.remove(cost, 1)
  return {seq = seq, flow = flow, cost = cost}
end

local function remove_ticket(id, ticket)
  redis.call('HDEL', TICKETS, id)
  redis.call('ZREM', LINE, line_member(ticket.flow, ticket.seq, id))
  s.waiting = math.max(0, s.waiting - 1)
  add_queued(ticket.cost, -1)
  if s.head and s.head[1] == id then s.head = false end
end
