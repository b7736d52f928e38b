-- The state is made from the quota's definition, with all buckets full.
local function new_state()
  local found = redis.call('HMGET', QUOTA, 'version', 'definition')
  if not found[1] then return false end
--@include lib/definition
  -- Of a state that was evicted: nobody can trust them.
  redis.call('DEL', TICKETS, LINE, HOLDS, FLOWS, ORDER, TENANTS)
  local definition = cjson.decode(found[2])
  s = {version = found[1], at = now, seq = 0, touched = 0, lapse = 0, held = 0, waiting = 0,
       limits = full_buckets(definition.limits), priorities = read_priorities(definition),
       own = full_buckets(definition.own or {}), classes = {}, timer = false, recheck = false,
       idle = 0, bottleneck = 1, tenants_until = 0, gates = false, made = now}
  return true
end
