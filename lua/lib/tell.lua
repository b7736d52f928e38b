-- What is known of the provider, for people: see lib/entries.lua.

local function tell_answers(route, results)
  local record, shut_us, brake_us = look_at_route(route), 0, free_at(route) - now
  for _, gate in ipairs(s.gates or {}) do
    if gate[GATE_ROUTE] == route then shut_us = math.max(0, gate[SHUT] - now) end
  end
  local row = {DONE, brake_us, shut_us, record.fails, record.denied, record.budget}
  for i, bucket in ipairs(s.limits) do
    local limit, den = look_at_limit(i), bucket[DEN]
    row[#row + 1] = limit.seen_at >= 0 and now - limit.seen_at or -1
    row[#row + 1] = units(bucket[CAP] * den - limit.seen, den)
    row[#row + 1] = units(limit.drift, den)
    row[#row + 1] = units(limit.guard, den)
    row[#row + 1] = math.min(PRINT_MAX, bucket[NUM])
    row[#row + 1] = math.min(PRINT_MAX, bucket[CAP])
  end
  for _, number in ipairs(row) do results[#results + 1] = number end
end
