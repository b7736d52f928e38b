-- The pump: grant heads while they fit, whoever they belong to, and tell their owners.

--@const GRANTED 1
--@const WAITING 2
--@const NEVER 4
--@const GRANTS 1000 -- per run, so that no run blocks the server for long

-- Keep the head's id and cost in the state: most runs then decide without another read. Where a
-- key was evicted the rest is cleared away: a ticket stands in the hash and in the line, or in none.
local function find_head()
  local first = redis.call('ZRANGE', LINE, 0, 0)
  while first[1] do
    local id = string.match(first[1], '(%S+)$')
    local ticket = read_ticket(id)
    if ticket then
      s.head = {id, NOT_BEFORE_EVENT, unpack(ticket.cost)}
      return
    end
    redis.call('ZREM', LINE, first[1])
    first = redis.call('ZRANGE', LINE, 0, 0)
  end
  s.waiting, s.queued = 0, {}
end

local function pump()
  for _ = 1, GRANTS do
    if s.waiting > 0 and not s.head then find_head() end
    if not s.head then return end
    local id, cost = s.head[1], {unpack(s.head, 3)}
    local hopeless = never_fits(cost)
    if not hopeless and not fits(cost) then
      s.head[2] = fit_at(cost)
      return
    end
    s.head = false
    local ticket = read_ticket(id)
    if ticket then
      remove_ticket(id, ticket)
      if hopeless then
        tell(id, NEVER)
      elseif is_alive(owner_of(id)) then
        take(id, cost)
        tell(id, GRANTED)
      end
    end
  end
  if s.waiting > 0 and not s.head then find_head() end
  if s.head then s.head[2] = now end
end
