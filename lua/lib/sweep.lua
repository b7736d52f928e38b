-- Look at the owners whose time has come, and take back what the lost ones held. A term of 0 marks
-- one that was reaped.

--@const SWEEP 100 -- owners looked at per run

--@include lib/lost_holds

local due = redis.call('ZRANGEBYSCORE', OWNERS, '-inf', string.format('%.0f', now), 'LIMIT', 0, SWEEP)
local lost = {}
for _, name in ipairs(due) do
  local last, seen, term = read_owner(name)
  if not last or term == 0 then
    if not last then lost[name] = now end -- NUMBERS was evicted, so its reservations are lost too
    redis.call('ZREM', OWNERS, name)
    redis.call('HDEL', NUMBERS, name)
  elseif seen + term > now then
    redis.call('ZADD', OWNERS, string.format('%.0f', seen + term), name)
  else
    lost[name] = seen
    write_owner(name, last, seen, 0)
    redis.call('ZADD', OWNERS, string.format('%.0f', now + FORGET_US), name)
  end
end
local first = redis.call('ZRANGE', OWNERS, 0, 0, 'WITHSCORES')
s.lapse = first[2] and tonumber(first[2]) or 2 ^ 52

-- What was granted after the owner's last sign of life was never picked up: all of it goes back.
-- The rest may have been used: slots go back, the estimate stands until a late settle. It looks at
-- every reservation, once for all owners that were found lost together.
local all = next(lost) and s.held > 0 and redis.call('HGETALL', HOLDS) or {}
for i = 1, #all, 2 do
  local id, payload = all[i], all[i + 1]
  local seen = lost[owner_of(id)]
  if seen then
    local hold = cmsgpack.unpack(payload)
    remove_hold(id)
    if s.gates then the_gates().release_probe(id) end
    if hold[GRANTED_AT] > seen then
      end_hold(hold, nothing(hold[COST]))
    else
      end_hold(hold, {})
      redis.call('HSET', LAPSED, id, payload)
      redis.call('PEXPIRE', LAPSED, KEEP_MS)
    end
  end
end
