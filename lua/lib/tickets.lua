-- The operations on those who wait: an acquire that may have to, a cancel, a look.

local function refusal_of(priority, bits, patience_us, wait_us)
  if bits % 2 == 0 or math.floor(bits / PUNCTUAL) % 2 == 1 and wait_us > patience_us then return REFUSED end
  if priority[MOST] >= 0 and priority[WAITS] >= priority[MOST] then return FULL end
  return nil
end

-- Put a ticket into the line and ask the pump, if it may be the next one; one that may not stay is
-- taken out again. Behind `k` others of its flow it need not ask.
local function stand(id, c, tenant, weight, cost, k, refusal)
  local class = s.classes[c]
  if refusal and (s.waiting == 0 or k > 0) then return refusal end
  local others = s.waiting > 0
  enqueue(id, c, tenant, weight, cost, k)
  if others and (not class[HEAD] or class[LINED] == 1) then
    asking, answered = id, false
    pump()
    asking = nil
    if answered then return answered end
  end
  if not refusal then return WAITING end
  remove_ticket(id, read_ticket(id), 0)
  return refusal
end

local function join(id, entry, p, cost)
  local tenant, weight = entry[7], entry[8]
  local c = class_of(p, entry[6])
  local class, k, weights = s.classes[c], 0, 0
  if class[LINED] > 0 then
    k, weights = before_in_flow(flow_name(c, tenant)), class[WEIGHTS]
  end
  local wait_us, ahead = outlook(c, tenant, k, weight, weights + (k == 0 and weight or 0), cost)
  local refusal = refusal_of(s.priorities[p], entry[3], entry[4], wait_us)
  local status = stand(id, c, tenant, weight, cost, k, refusal)
  if status == GRANTED then return status, 0, 0 end
  return status, wait_us, ahead
end

local function leave_line(id)
  local ticket = read_ticket(id)
  if ticket then remove_ticket(id, ticket, 0) end
  return ticket ~= nil
end

local function look(id)
  local t = read_ticket(id)
  local k = before_in_flow(flow_name(t.class, t.tenant), t.seq)
  return outlook(t.class, t.tenant, k, t.weight, s.classes[t.class][WEIGHTS], t.cost)
end
