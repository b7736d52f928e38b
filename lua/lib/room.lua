-- When there is room for a call of a priority: its floor, which keeps headroom for those above.

-- Until when the floor holds: while somebody above waits, and for a time after a call from above.
local function guarded_until(priority)
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
-- it waits for longest. A promoted call may draw below the floor: to fill it up first would keep
-- those above waiting for as long.
local function room_at(priority, cost, ahead, promoted)
  if promoted or not priority[FLOORS] then return fit_at(s.limits, cost, nil, ahead) end
  local until_us = guarded_until(priority)
  if until_us <= now then return fit_at(s.limits, cost, nil, ahead) end
  local guarded, last = fit_at(s.limits, cost, priority[FLOORS], ahead)
  if guarded == now or until_us >= FOREVER then return guarded, last end
  local open = fit_at(s.limits, cost, nil, ahead)
  if open == NOT_BEFORE_EVENT then return open, last end
  local lent = math.max(open, until_us)
  return guarded == NOT_BEFORE_EVENT and lent or math.min(guarded, lent), last
end
