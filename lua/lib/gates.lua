-- Gates: what keeps calls back beside the levels. A gate is {route, brake, shut, probe_until, probe}.
-- brake: nobody starts before, because the provider said so. shut: the circuit is open; nobody
-- starts before, then one call, the probe; 0: it is closed. The gate of a route is for all calls that
-- take from its quotas, whatever else they take from. s.gates is false where there is none.
--@const GATE_ROUTE 1
--@const BRAKE 2
--@const SHUT 3
--@const PROBE_UNTIL 4
--@const PROBE 5

--@const PROBE_US 60000000 -- a probe of which nothing is heard for so long makes room for another

local none = {}

local function is_for(gate, route)
  for name in string.gmatch(gate[GATE_ROUTE], '[^\n]+') do
    if not string.find('\n' .. route .. '\n', '\n' .. name .. '\n', 1, true) then return false end
  end
  return true
end

-- When the brake lets calls on a route go; `now`: it does not hold.
local function brake_ends(route)
  local latest = now
  for _, gate in ipairs(s.gates or none) do
    if gate[BRAKE] > latest and is_for(gate, route) then latest = gate[BRAKE] end
  end
  return latest
end

-- Until when an open circuit keeps a call out; nil: it does not. Whoever comes first when the time is
-- over becomes the probe.
local function shut_until(route, id)
  for _, gate in ipairs(s.gates or none) do
    if gate[SHUT] > 0 and gate[PROBE] ~= id and is_for(gate, route) then
      local until_us = math.max(gate[SHUT], gate[PROBE_UNTIL])
      if until_us > now then return until_us end
      gate[PROBE_UNTIL], gate[PROBE] = now + PROBE_US, id
    end
  end
  return nil
end

-- A probe that ended, or was never sent, makes room for the next one.
local function release_probe(id)
  for _, gate in ipairs(s.gates or none) do
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
