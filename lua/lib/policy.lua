-- What a priority may do now: its rank among those that wait, and when there is room for a call.

--@const PROMOTED 0 -- it waited for too long: one call of it goes first
--@const ENTITLED 1
--@const BORROWING 2 -- beyond its share: after everybody who is not
--@const BARRED 3 -- beyond its share, and strict

-- Until when the floor holds: while somebody above waits, and for a time after a call from above.
local function guarded_until(priority)
  if not priority[FLOORS] then return 0 end
  if priority[STRICT] == 1 then return FOREVER end
  local latest = 0
  for _, other in ipairs(s.priorities) do
    if other[PRECEDENCE] > priority[PRECEDENCE] then
      if other[WAITS] > 0 then return FOREVER end
      latest = math.max(latest, other[ASKED] + priority[LEND])
    end
  end
  return latest
end

-- When the limits have room for a call (`now`: they do, -1: an event comes first), and which limit
-- it waits for longest.
local function room_at(priority, cost, ahead)
  local until_us = guarded_until(priority)
  if until_us <= now then return fit_at(s.limits, cost, nil, ahead) end
  local guarded, last = fit_at(s.limits, cost, priority[FLOORS], ahead)
  if guarded == now or until_us >= FOREVER then return guarded, last end
  local open = fit_at(s.limits, cost, nil, ahead)
  if open == NOT_BEFORE_EVENT then return open, last end
  local lent = math.max(open, until_us)
  return guarded == NOT_BEFORE_EVENT and lent or math.min(guarded, lent), last
end

-- Note what a head that does not fit needs, by limit: its floors as well while they hold.
local function keep_ahead(priority, cost, ahead)
  local floors = guarded_until(priority) > now and priority[FLOORS]
  for i, bucket in ipairs(s.limits) do
    local c = cost[bucket[DIM]] or 0
    local need = c > 0 and math.min(c + (floors and floors[i] or 0), bucket[CAP]) or 0
    ahead[i] = (ahead[i] or 0) + need
  end
end

-- A priority's rank for one call, and when it will have a better one (-1: only by an event).
local function rank_of(priority, cost, since)
  local promote = priority[PROMOTE] > 0 and since + priority[PROMOTE] or NOT_BEFORE_EVENT
  local entitled = priority[SHARES] and fit_at(priority[SHARES], cost) or now
  if entitled ~= now and priority[STRICT] == 1 then return BARRED, entitled end
  if promote ~= NOT_BEFORE_EVENT and promote <= now then return PROMOTED, NOT_BEFORE_EVENT end
  if entitled == now then return ENTITLED, promote end
  if promote ~= NOT_BEFORE_EVENT and (entitled == NOT_BEFORE_EVENT or promote < entitled) then
    return BORROWING, promote
  end
  return BORROWING, entitled
end
