-- The pump: grant heads while they fit, whoever they belong to, and tell their owners.

--@const GRANTS 250 -- each time, so that no run blocks the server for long
--@const HEADS 2000 -- nor are more heads looked at

-- Take a head out of the line, for good or because it never fits; a lost owner's is passed over. True:
-- there is another to look at.
local function leave(candidate, status)
  local class, head = s.classes[candidate.c], candidate.head
  local id, tenant = head[1], head[HEAD_TENANT]
  local served = status == GRANTED and is_alive(owner_of(id))
  local charge = 0
  if served then
    charge = charge_us(candidate.cost, head[4])
    class[VIRTUAL], class[SINCE] = head[2], now
  end
  remove_ticket(id, {class = candidate.c, tenant = tenant, seq = head[3], weight = head[4],
                     cost = candidate.cost}, charge)
  if served then
    take(id, class[PRIORITY], candidate.rank == BORROWING, tenant, candidate.cost)
    local passed = string.format('%04d' .. NUMERAL, candidate.c, class[VIRTUAL])
    if s.idle > 0 then forget_flows('[i' .. string.sub(passed, 1, 4), '(i' .. passed .. '\255', 3) end
  elseif s.gates then
    the_gates().release_probe(id)
  end
  if served or status == NEVER or status == OPEN then tell(id, status) end
  return true
end

-- Grant one head, or say when the next one will fit. A head that does not fit keeps what it needs
-- from those behind it: only what it has no use for goes to them; all of it, while the brake holds it.
local function step()
  local ahead, id, at_us = nil, nil, NOT_BEFORE_EVENT
  local list = candidates()
  local function note(candidate, at)
    id = id or candidate.head[1]
    if at >= 0 and (at_us < 0 or at < at_us) then id, at_us = candidate.head[1], at end
  end
  for _, candidate in ipairs(list) do
    local at, last = candidate.better_at, nil
    local refusal = refusal_for(candidate)
    if refusal then return leave(candidate, refusal) end
    local promoted = candidate.rank == PROMOTED
    if candidate.rank ~= BARRED then
      at, last = room_at(candidate.priority, candidate.cost, ahead, promoted)
      local free = free_at(s.classes[candidate.c][ROUTE])
      if at ~= NOT_BEFORE_EVENT then at = math.max(at, free) end
      if at == now then return leave(candidate, GRANTED) end
      if free == now then
        if not ahead then s.bottleneck, ahead = last, {} end
        keep_ahead(candidate.priority, candidate.cost, ahead, promoted)
      end
      if #list > 1 then note(candidate, candidate.better_at) end
    end
    note(candidate, at)
  end
  if s.recheck then note({head = {s.recheck[2]}}, blocks < BLOCKS and s.recheck[1] or now) end
  s.timer = id and {id, at_us} or false
  return false
end

local function pump()
  unblock_due()
  for _ = 1, math.min(GRANTS, math.ceil(HEADS / math.max(1, #s.classes))) do
    if s.waiting == 0 then
      s.timer = false
      if s.idle > 0 and forget_flows('[i', '(j', 100) == 0 then
        redis.call('DEL', FLOWS) -- ORDER was evicted
        s.idle = 0
      end
      if s.idle == 0 then s.classes = {} end -- they say no more than new ones would
      return
    end
    if not step() then return end
  end
  local first = candidates()[1]
  s.timer = first and {first.head[1], now} or false
end
