-- Owners and reservations that stood in a key that is gone: the state must not count them for good.

-- Owners that only one of their two keys knows are looked at as well.
if redis.call('ZCARD', OWNERS) < redis.call('HLEN', NUMBERS) then
  for _, name in ipairs(redis.call('HKEYS', NUMBERS)) do
    local _, seen, term = read_owner(name)
    local look_us = seen + (term > 0 and term or FORGET_US)
    redis.call('ZADD', OWNERS, 'NX', string.format('%.0f', look_us), name)
  end
end

local function slots_of(buckets)
  local slots = {}
  for _, bucket in ipairs(buckets or {}) do
    if bucket[NUM] == 0 then slots[#slots + 1] = bucket end
  end
  return slots
end

local function fill(slots)
  for _, bucket in ipairs(slots) do bucket[LEVEL] = bucket[CAP] * bucket[DEN] end
end

-- Slots are taken by the reservations that are there, and by no others.
if redis.call('HLEN', HOLDS) ~= s.held then
  fill(slots_of(s.limits))
  for _, priority in ipairs(s.priorities) do fill(slots_of(priority[SHARES])) end
  for _, tenant in ipairs(#slots_of(s.own) > 0 and redis.call('HKEYS', TENANTS) or {}) do
    own_buckets(tenant).touched = true
    fill(slots_of(own_buckets(tenant)))
  end
  s.held = 0
  for _, payload in ipairs(redis.call('HVALS', HOLDS)) do
    local hold = cmsgpack.unpack(payload)
    local cost, priority = hold[COST], s.priorities[hold[BY_PRIORITY]] or {}
    take_from(slots_of(s.limits), cost)
    if hold[LENT] == 0 then take_from(slots_of(priority[SHARES]), cost) end
    if is_limited(hold[TENANT]) then take_from(slots_of(own_buckets(hold[TENANT])), cost) end
    s.held = s.held + 1
  end
end
