-- Gates: what keeps calls back beside the levels. A gate is {route, brake, shut, probe_until, probe,
-- denied}.
-- brake: nobody starts before, because the provider said so. shut: the circuit is open; nobody
-- starts before, then one call, the probe; 0: it is closed. denied 1: calls were denied (key,
-- billing), 0: they failed. The gate of a route is for all calls that
-- take from its quotas, whatever else they take from. s.gates is false where there is none.
--@const GATE_ROUTE 1
--@const BRAKE 2
--@const SHUT 3
--@const PROBE_UNTIL 4
--@const PROBE 5
--@const GATE_DENIED 6

--@const PROBE_US 60000000 -- a probe of which nothing is heard for so long makes room for another
-- The functions are made when there is one, once in a run, as those of lib/waiting.lua.

local gates = nil
local the_answers -- lib/answers.lua

local function the_gates()
  if gates then return gates end
--@include lib/holding
  gates = {brake_ends = brake_ends, shut_until = shut_until, release_probe = release_probe,
           tidy = tidy_gates, turned_away = turned_away}
  return gates
end

-- When the brake lets calls on a route go; `now`: it does not hold.
local function free_at(route) return s.gates and the_gates().brake_ends(route) or now end
