-- Keys that are not there: evicted, or expired in a silence that the state outlived. What stood in them
-- is lost; the state must not count it for good.

-- A ticket stands everywhere, or nowhere: its owner asks again when it hears that it is gone.
local function check_line()
  if s.waiting == 0 or redis.call('EXISTS', TICKETS, LINE, FLOWS, ORDER) == 4 then return end
  redis.call('DEL', TICKETS, LINE, FLOWS)
  redis.call('ZREMRANGEBYLEX', ORDER, '-', '(q') -- all but the looks at tenants
  redis.call('ZREMRANGEBYLEX', ORDER, '[r', '+')
  for _, priority in ipairs(s.priorities) do priority[WAITS] = 0 end
  s.classes, s.waiting, s.idle, s.timer, s.recheck = {}, 0, 0, false, false
end

-- Owners that were evicted are looked at again.
local function check_owners()
  if redis.call('ZCARD', OWNERS) >= redis.call('HLEN', NUMBERS) then return end
  for _, name in ipairs(redis.call('HKEYS', NUMBERS)) do
    local _, seen, term = read_owner(name)
    redis.call('ZADD', OWNERS, 'NX', string.format('%.0f', seen + (term > 0 and term or FORGET_US)), name)
  end
end

local function slots_of(buckets)
  local slots = {}
  for _, bucket in ipairs(buckets or {}) do
    if bucket[NUM] == 0 then slots[#slots + 1] = bucket end
  end
  return slots
end

-- Slots are taken by the reservations that are there, and by no others.
local function check_holds()
  if redis.call('HLEN', HOLDS) == s.held then return end
  local all = {slots_of(s.limits)}
  for _, priority in ipairs(s.priorities) do all[#all + 1] = slots_of(priority[SHARES]) end
  for _, tenant in ipairs(#slots_of(s.own) > 0 and redis.call('HKEYS', TENANTS) or {}) do
    own_buckets(tenant).touched = true
    all[#all + 1] = slots_of(own_buckets(tenant))
  end
  for _, slots in ipairs(all) do
    for _, bucket in ipairs(slots) do bucket[LEVEL] = bucket[CAP] * bucket[DEN] end
  end
  s.held = 0
  for _, payload in ipairs(redis.call('HVALS', HOLDS)) do
    local hold = read_hold(payload)
    take_from(slots_of(s.limits), hold.cost)
    if not hold.lent then take_from(slots_of((s.priorities[hold.priority] or {})[SHARES]), hold.cost) end
    if is_limited(hold.tenant) then take_from(slots_of(own_buckets(hold.tenant)), hold.cost) end
    s.held = s.held + 1
  end
end
