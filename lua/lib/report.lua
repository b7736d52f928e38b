-- An answer of the provider is reported, for a reservation that is still held or, where its levels
-- were read at the end of the call, for none.

--@const SERVED 1
--@const REFUSED_BY 2 -- a limit of the provider refused the call
--@const SLOW 3
--@const FAILED 4
--@const DENIED 5
--@const REJECTED 6

--@include lib/rows
--@include lib/drift
--@include lib/pace
--@include lib/circuit

--@const DRAINED_US 300000000

-- Without the refusal's arithmetic: at the end of the brake there is just room for the refused call,
-- so that calls come back at the rate, and not all at once. A limit that takes much longer than the
-- wait to be full (a day's) cannot be the one that refused: it would ask for a longer one.
local function drain(bucket, record, row, cost, wait_us)
  if bucket[NUM] == 0 or cost == 0 then return end
  if bucket[CAP] * bucket[DEN] > row[ROW_NUM] * math.max(DRAINED_US, 2 * wait_us) then return end
  local kept = row[ROW_FLAGS] % (2 * UNCOUNTED) < UNCOUNTED and cost or 0
  lower(bucket, record, kept * bucket[DEN] - math.min(DEBT_MAX, bucket[NUM] * wait_us))
end

local function take_row(row, hold, outcome, wait_us, explained, fresh)
  local bucket, record = s.limits[row[ROW_LIMIT]], limit_record(row[ROW_LIMIT])
  local flags, amount = row[ROW_FLAGS], hold and hold[COST][bucket[DIM]] or 0
  local elapsed = now - record.at
  if flags % (2 * TOLD) >= TOLD then
    local mark = hold and hold[MARKS] and hold[GRANTED_AT] >= s.made and hold[MARKS][row[ROW_LIMIT]]
    if flags % (2 * UNCOUNTED) >= UNCOUNTED then row[ROW_USED] = row[ROW_USED] + amount * bucket[DEN] end
    local age_us = hold and flags % (2 * AT_END) < AT_END and now - hold[GRANTED_AT] or 0
    correct(bucket, record, row, mark, age_us, amount)
  end
  if outcome == SERVED then
    count_flow(record, amount)
    grow(bucket, record, row, elapsed, amount)
  elseif outcome == SLOW and fresh and row[ROW_LEAST] >= 0 then
    begin_ramp(bucket, record, row)
  elseif outcome == REFUSED_BY then
    if wait_us >= 0 and not explained then drain(bucket, record, row, amount, wait_us) end
    if flags >= ADAPTIVE and fresh then cut(bucket, record, row) end
  end
  record.at = now
end

local function report(id, entry)
  if entry[7] > 0 and entry[7] <= ran then return DONE end -- the batch whose answer was lost had it
  local outcome, wait_us, route, rows = entry[3], entry[4], entry[5], entry[6]
  local payload = redis.call('HGET', HOLDS, id)
  local hold, record, explained = payload and cmsgpack.unpack(payload), route_record(route), false
  local fresh = not hold or hold[GRANTED_AT] >= record.cut_at -- one cut for all that were under way
  for _, bucket in ipairs(s.limits) do bucket[SHIFT] = bucket[SHIFT] or 0 end
  for _, row in ipairs(rows) do explained = explained or row[ROW_FLAGS] % (2 * EXPLAINS) >= EXPLAINS end
  for _, row in ipairs(rows) do take_row(row, hold, outcome, wait_us, explained, fresh) end
  if fresh and (outcome == SLOW or outcome == REFUSED_BY) then record.cut_at = now end
  if outcome == FAILED or outcome == DENIED then
    count_failure(route, record, outcome)
  else
    close_circuit(route, record)
    if outcome == SERVED then record.budget = math.min(BUDGET_MOST, record.budget + 1) end
  end
  -- A failure among successes is that of one call, or of one of many servers: it holds back nobody else.
  local is_for_all = outcome ~= SERVED and (outcome ~= FAILED or record.fails > 1)
  if wait_us >= 0 and is_for_all then hold_back(route, wait_us) end
  return DONE
end
