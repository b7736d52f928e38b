-- The operations of a batch. Each appends its status to the results; some append more.
--
-- {1, n, flags, patience_us, priority, route, tenant, weight, cost…}  acquire: also "wait_us
--        ahead level*L". flags 1: may wait; 2: asked before, the answer was lost; 4: refuse at
--        once what is expected to wait for longer than patience_us. priority: index from 0.
--        route: names the set of quotas that the cost is for. weight: of the tenant, in hundredths
-- {2, n, actual…}  settle   -1: the estimate stands
-- {3, n}           cancel   a reservation: all back; a ticket: out of the line
-- {4, n}           renew    says what has become of it; every batch renews the owner
-- {5, n}           look     as renew, also "wait_us ahead" of a ticket
-- {6, 0}           survey   also "P waiting*P": the tickets of each priority
--
-- n numbers the owner's calls: the id is "owner:n". An acquire that was asked before finds what
-- the first one left; the other operations find nothing the second time, and change nothing.

--@const REFUSED 3
--@const DONE 5
--@const GONE 6
--@const LATE 7
--@const FULL 8
--@const MAY_WAIT 1
--@const ASKED_BEFORE 2
--@const PUNCTUAL 4

local function renew(id)
  if redis.call('HEXISTS', HOLDS, id) == 1 then return GRANTED end
  if redis.call('HEXISTS', TICKETS, id) == 1 then return WAITING end
  return GONE
end

-- With nobody in the line: whether a call fits, and if it borrows beyond its share.
local function fits_alone(priority, tenant, cost)
  local borrows = priority[SHARES] and fit_at(priority[SHARES], cost) ~= now
  if borrows and priority[STRICT] == 1 or room_at(priority, cost) ~= now then return false end
  return not is_limited(tenant) or fit_at(own_buckets(tenant), cost) == now, borrows
end

-- Ask the pump: the ticket is put into the line, and taken out again if it may not stay. Behind `k`
-- others of its flow it need not ask.
local function stand(id, c, k, tenant, weight, cost, refusal)
  local class = s.classes[c]
  if refusal and (s.waiting == 0 or k > 0) then return refusal end
  local others = s.waiting > 0
  enqueue(id, c, tenant, weight, cost)
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

local function acquire(id, entry)
  local bits, patience_us, p, tenant, weight = entry[3], entry[4], entry[5] + 1, entry[7], entry[8]
  local priority, cost = s.priorities[p], {unpack(entry, 9)}
  priority[ASKED] = now
  if math.floor(bits / ASKED_BEFORE) % 2 == 1 then
    local known = renew(id)
    if known ~= GONE then return known, 0, 0 end
  end
  if exceeds(s.limits, cost) or is_limited(tenant) and exceeds(s.own, cost) then return NEVER, 0, 0 end
  if s.waiting == 0 then
    local fits, borrows = fits_alone(priority, tenant, cost)
    if fits then
      take(id, p, borrows, tenant, cost)
      return GRANTED, 0, 0
    end
  end
  local c = class_of(p, entry[6])
  local class, k = s.classes[c], 0
  if class[LINED] > 0 then k = before_in_flow(flow_name(c, tenant)) end
  local weights = class[LINED] > 0 and class[WEIGHTS] or 0
  local wait_us, ahead = outlook(c, tenant, k, weight, weights + (k == 0 and weight or 0), cost)
  local refusal = nil
  if priority[MOST] >= 0 and priority[WAITS] >= priority[MOST] then refusal = FULL end
  if bits % 2 == 0 or bits >= PUNCTUAL and wait_us > patience_us then refusal = REFUSED end
  local status = stand(id, c, k, tenant, weight, cost, refusal)
  if status == GRANTED then return status, 0, 0 end
  return status, wait_us, ahead
end

local function finish(id, actual)
  local payload = redis.call('HGET', HOLDS, id)
  local late = not payload
  if late then payload = redis.call('HGET', LAPSED, id) end
  if not payload then return GONE end
  if late then redis.call('HDEL', LAPSED, id) else remove_hold(id) end
  local hold = read_hold(payload)
  end_hold(hold, actual or nothing(hold.cost), late)
  return late and LATE or DONE
end

local function cancel(id)
  local ticket = read_ticket(id)
  if not ticket then return finish(id, nil) end
  remove_ticket(id, ticket, 0)
  return DONE
end

local function look(id)
  local status = renew(id)
  if status ~= WAITING then return status, 0, 0 end
  local t = read_ticket(id)
  local k = before_in_flow(flow_name(t.class, t.tenant), t.seq)
  return status, outlook(t.class, t.tenant, k, t.weight, s.classes[t.class][WEIGHTS], t.cost)
end

local function survey(results)
  results[#results + 1], results[#results + 2] = DONE, #s.priorities
  for _, priority in ipairs(s.priorities) do results[#results + 1] = priority[WAITS] end
end

local function apply(entry, results)
  local op, id = entry[1], owner .. ':' .. entry[2]
  if op == 1 or op == 5 then
    local status, wait_us, ahead
    if op == 1 then status, wait_us, ahead = acquire(id, entry) else status, wait_us, ahead = look(id) end
    local at = #results
    results[at + 1], results[at + 2], results[at + 3] = status, wait_us, ahead
    if op == 1 then append_levels(results) end
  elseif op == 2 then
    results[#results + 1] = finish(id, {unpack(entry, 3)})
  elseif op == 3 then
    results[#results + 1] = cancel(id)
  elseif op == 4 then
    results[#results + 1] = renew(id)
  else
    survey(results)
  end
end
