-- A class is {priority, route, waiting, weights, virtual time, since, queued, head}: one priority's
-- tickets for one set of quotas. `weights` is the sum over its flows that wait, `since` when it was
-- last granted something or began to wait, `queued` the sum of the waiting costs by dimension.
-- A head is {id, tag, seq, weight, tenant, cost}.
--@const PRIORITY 1
--@const ROUTE 2
--@const LINED 3
--@const WEIGHTS 4
--@const VIRTUAL 5
--@const SINCE 6
--@const QUEUED 7
--@const HEAD 8
--@const HEAD_TENANT 5

local function class_of(priority, route)
  for c, class in ipairs(s.classes) do
    if class[PRIORITY] == priority and class[ROUTE] == route then return c end
  end
  s.classes[#s.classes + 1] = {priority, route, 0, 0, 0, now, {}, false}
  return #s.classes
end

local function count(class, cost, sign)
  local queued, priority = class[QUEUED], s.priorities[class[PRIORITY]]
  for i, amount in ipairs(cost) do queued[i] = (queued[i] or 0) + sign * amount end
  class[LINED], priority[WAITS] = class[LINED] + sign, priority[WAITS] + sign
  s.waiting = s.waiting + sign
end
