-- The operations of a batch. Each appends its status to the results; an acquire also
-- "wait_us level*L".
--
-- {1, n, flags, flow, cost…}  acquire  flags 1: may wait; 2: asked before, the answer was lost
-- {2, n, actual…}             settle   -1: the estimate stands
-- {3, n}                      cancel   a reservation: all back; a ticket: out of the line
-- {4, n}                      renew    says what has become of it; every batch renews the owner
--
-- n numbers the owner's calls: the id is "owner:n". An acquire that was asked before finds what
-- the first one left; the other operations find nothing the second time, and change nothing.

--@const REFUSED 3
--@const DONE 5
--@const GONE 6
--@const LATE 7

local function acquire(id, flags, flow, cost)
  local may_wait, asked_before = flags % 2 == 1, flags >= 2
  if asked_before and redis.call('HEXISTS', HOLDS, id) == 1 then return GRANTED, 0 end
  if asked_before and redis.call('HEXISTS', TICKETS, id) == 1 then return WAITING, 0 end
  if never_fits(cost) then return NEVER, 0 end
  if s.waiting == 0 and fits(cost) then
    take(id, cost)
    return GRANTED, 0
  end
  local wait_us = wait_for(cost)
  if not may_wait then return REFUSED, wait_us end
  enqueue(id, flow, cost)
  return WAITING, wait_us
end

local function finish(id, actual)
  local payload = redis.call('HGET', HOLDS, id)
  local late = not payload
  if late then payload = redis.call('HGET', LAPSED, id) end
  if not payload then return GONE end
  if late then redis.call('HDEL', LAPSED, id) else remove_hold(id) end
  local _, cost = read_hold(payload)
  true_up(cost, actual or nothing(cost), late)
  return late and LATE or DONE
end

local function cancel(id)
  local ticket = read_ticket(id)
  if not ticket then return finish(id, nil) end
  remove_ticket(id, ticket)
  return DONE
end

local function renew(id)
  if redis.call('HEXISTS', HOLDS, id) == 1 then return GRANTED end
  if redis.call('HEXISTS', TICKETS, id) == 1 then return WAITING end
  return GONE
end

local function apply(entry, results)
  local op, id = entry[1], owner .. ':' .. entry[2]
  if op == 1 then
    local status, wait_us = acquire(id, entry[3], entry[4], {unpack(entry, 5)})
    results[#results + 1] = status
    results[#results + 1] = wait_us
    append_levels(results)
  elseif op == 2 then
    results[#results + 1] = finish(id, {unpack(entry, 3)})
  elseif op == 3 then
    results[#results + 1] = cancel(id)
  else
    results[#results + 1] = renew(id)
  end
end
