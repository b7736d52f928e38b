-- The brake, and the circuit: it opens where calls fail one after the other, whoever makes them.

--@const DENIALS 5 -- in a row, and nothing else: the circuit opens
--@const FAILURES 10 -- in a row
--@const FAILING_US 10000000 -- and for so long
--@const SHUT_US 10000000 -- the first time, then twice as long each time
--@const SHUT_MAX_US 300000000

local function gate_of(route)
  s.gates = s.gates or {}
  for _, gate in ipairs(s.gates) do
    if gate[GATE_ROUTE] == route then return gate end
  end
  s.gates[#s.gates + 1] = {route, 0, 0, 0, '', 0}
  return s.gates[#s.gates]
end

local function hold_back(route, wait_us)
  local gate = gate_of(route)
  gate[BRAKE] = math.max(gate[BRAKE], now + wait_us)
end

local function close_circuit(route, record)
  record.fails, record.denied, record.shut_us = 0, 0, 0
  for _, gate in ipairs(s.gates or {}) do
    if gate[GATE_ROUTE] == route then gate[SHUT], gate[PROBE_UNTIL], gate[PROBE] = 0, 0, '' end
  end
end

-- Count a failure; the circuit opens when there are too many in a row, or when the probe was one.
local function count_failure(route, record, outcome)
  if record.fails == 0 then record.since = now end
  record.fails = record.fails + 1
  if outcome == DENIED then record.denied = record.denied + 1 end
  local lasting = record.fails >= FAILURES and now - record.since >= FAILING_US
  if not lasting and record.denied < DENIALS then return end
  local gate = gate_of(route)
  if gate[SHUT] > now then return end -- of calls that were under way
  record.shut_us = math.min(SHUT_MAX_US, math.max(SHUT_US, record.shut_us * 2))
  gate[SHUT], gate[PROBE_UNTIL], gate[PROBE] = now + record.shut_us, 0, ''
  gate[GATE_DENIED] = record.denied >= DENIALS and 1 or 0
end
