-- The line: tickets that wait, sorted by flow and arrival.

local function line_member(flow, seq, id) return string.format('%s\n' .. NUMERAL .. ' %s', flow, seq, id) end

-- The first ticket of a flow: seq, id.
local function first_of(flow)
  local found = redis.call('ZRANGEBYLEX', LINE, '[' .. flow .. '\n', '(' .. flow .. '\11', 'LIMIT', 0, 1)
  if not found[1] then return nil end
  local at = #flow + 2
  return tonumber(string.sub(found[1], at, at + 15)), string.sub(found[1], at + 17)
end

-- Put a ticket at the end of its flow, behind `k` others; the first one makes the flow wait.
local function enqueue(id, c, tenant, weight, cost, k)
  local class, flow = s.classes[c], flow_name(c, tenant)
  s.seq = s.seq + 1
  redis.call('HSET', TICKETS, id, cmsgpack.pack({s.seq, now, c, tenant, weight, cost}))
  redis.call('ZADD', LINE, 0, line_member(flow, s.seq, id))
  if class[LINED] == 0 then class[SINCE], class[WEIGHTS] = now, 0 end
  local record = k == 0 and redis.call('HGET', FLOWS, flow)
  if k == 0 and (not record or string.sub(record, 1, 1) == 'i') then
    local tag = math.max(class[VIRTUAL], record and tag_of(record) or 0)
    move_flow(flow, record, waits(tag, s.seq))
    class[WEIGHTS] = class[WEIGHTS] + weight
    if class[HEAD] and tag < class[HEAD][2] then class[HEAD] = false end
  end
  if s.waiting == 0 then
    for _, key in ipairs({TICKETS, LINE, FLOWS}) do redis.call('PEXPIRE', key, KEEP_MS) end
    redis.call('PEXPIRE', ORDER, keep_tenants_ms())
  end
  count(class, cost, 1)
end

local function read_ticket(id)
  local blob = redis.call('HGET', TICKETS, id)
  if not blob then return nil end
  local a = cmsgpack.unpack(blob)
  return {seq = a[1], at = a[2], class = a[3], tenant = a[4], weight = a[5], cost = a[6]}
end

local unblock -- lib/heads.lua

-- Take a ticket out; `moved_us` is what its flow is charged for it (0: it was not served).
local function remove_ticket(id, ticket, moved_us)
  local class, flow = s.classes[ticket.class], flow_name(ticket.class, ticket.tenant)
  redis.call('HDEL', TICKETS, id)
  redis.call('ZREM', LINE, line_member(flow, ticket.seq, id))
  count(class, ticket.cost, -1)
  if class[HEAD] and class[HEAD][1] == id then class[HEAD] = false end
  local record = redis.call('HGET', FLOWS, flow)
  if not record then return end
  local tag, seq = math.min(TAG_MAX, tag_of(record) + moved_us), first_of(flow)
  if not seq then
    class[WEIGHTS] = math.max(0, class[WEIGHTS] - ticket.weight)
    move_flow(flow, record, tag > class[VIRTUAL] and idles(tag) or nil)
  elseif string.sub(record, 1, 1) == 'b' then
    if seq > ticket.seq then unblock(flow, record) end -- the one that did not fit has gone
  elseif record ~= waits(tag, seq) then
    move_flow(flow, record, waits(tag, seq))
  end
end
