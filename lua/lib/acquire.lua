-- The way of an acquire: asked before, never to fit, with nobody in the line, and through the line.

local function renew(id)
  if redis.call('HEXISTS', HOLDS, id) == 1 then return GRANTED end
  if redis.call('HEXISTS', TICKETS, id) == 1 then return WAITING end
  return GONE
end

-- With nobody in the line: whether a call fits, and if it borrows beyond its share.
local function fits_alone(priority, tenant, cost)
  local borrows = false
  if priority[SHARES] then
    borrows = fit_at(priority[SHARES], cost) ~= now
    if borrows and priority[STRICT] == 1 then return false end
  end
  if room_at(priority, cost) ~= now then return false end
  return not is_limited(tenant) or fit_at(own_buckets(tenant), cost) == now, borrows
end

local function acquire(id, entry)
  local p, route, tenant, cost = entry[5] + 1, entry[6], entry[7], entry[9]
  local priority = s.priorities[p]
  priority[ASKED] = now
  if math.floor(entry[3] / ASKED_BEFORE) % 2 == 1 then
    local known = renew(id)
    if known ~= GONE then return known, 0, 0 end
  end
  if exceeds(s.limits, cost) or is_limited(tenant) and exceeds(s.own, cost) then return NEVER, 0, 0 end
  if s.gates or entry[3] >= REPEATED then
    local refusal, wait_us, denied = the_gates().turned_away(id, entry[3], route)
    if refusal then return refusal, wait_us, denied end
  end
  if s.waiting == 0 and free_at(route) == now then
    local fits, borrows = fits_alone(priority, tenant, cost)
    if fits then
      take(id, p, borrows, tenant, cost)
      return GRANTED, 0, 0
    end
  end
  return the_line().join(id, entry, p, cost)
end
