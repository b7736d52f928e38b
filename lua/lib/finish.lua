-- The ends of a call: what it used is settled, or it is taken back.

local function finish(id, actual)
  local payload = redis.call('HGET', HOLDS, id)
  local late = not payload
  if late then payload = redis.call('HGET', LAPSED, id) end
  if not payload then return GONE end
  if late then redis.call('HDEL', LAPSED, id) else remove_hold(id) end
  if s.gates then the_gates().release_probe(id) end
  local hold = cmsgpack.unpack(payload)
  end_hold(hold, actual or nothing(hold[COST]), late)
  return late and LATE or DONE
end

local function cancel(id)
  if s.gates then the_gates().release_probe(id) end
  if s.waiting > 0 and the_line().leave(id) then return DONE end
  return finish(id, nil)
end
