-- What gates do, see lib/gates.lua.

local function is_for(gate, route)
  for name in string.gmatch(gate[GATE_ROUTE], '[^\n]+') do
    if not string.find('\n' .. route .. '\n', '\n' .. name .. '\n', 1, true) then return false end
  end
  return true
end

local function brake_ends(route)
  local latest = now
  for _, gate in ipairs(s.gates) do
    if gate[BRAKE] > latest and is_for(gate, route) then latest = gate[BRAKE] end
  end
  return latest
end

-- Until when an open circuit keeps a call out; nil: it does not. Whoever comes first when the time is
-- over becomes the probe.
local function shut_until(route, id)
  for _, gate in ipairs(s.gates) do
    if gate[SHUT] > 0 and gate[PROBE] ~= id and is_for(gate, route) then
      local until_us = math.max(gate[SHUT], gate[PROBE_UNTIL])
      if until_us > now then return until_us, gate[GATE_DENIED] end
      gate[PROBE_UNTIL], gate[PROBE] = now + PROBE_US, id
    end
  end
  return nil
end

-- A probe that ended, or was never sent, makes room for the next one.
local function release_probe(id)
  for _, gate in ipairs(s.gates) do
    if gate[PROBE] == id then gate[PROBE_UNTIL], gate[PROBE] = 0, '' end
  end
end

-- Forget gates that keep nobody back; how long the others must be remembered, in microseconds.
local function tidy_gates()
  local kept, longest = {}, 0
  for _, gate in ipairs(s.gates) do
    if gate[BRAKE] > now or gate[SHUT] > 0 then
      kept[#kept + 1] = gate
      longest = math.max(longest, gate[BRAKE] - now, gate[SHUT] - now + PROBE_US)
    end
  end
  s.gates = #kept > 0 and kept
  return longest
end

-- Whether something other than the levels refuses a call, and for how long.
local function turned_away(id, flags, route)
  if math.floor(flags / REPEATED) % 2 == 1 and not the_answers().may_repeat(route) then return SPENT, 0, 0 end
  if not s.gates then return nil end
  local until_us, denied = shut_until(route, id)
  if until_us then return OPEN, until_us - now, denied end
  return nil
end
