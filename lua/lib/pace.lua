-- Pace: where the limit is not known, or not the amount but its growth is what is refused, the rate (NUM)
-- or the number of slots (CAP) is found out: cut when calls are refused, grown while calls wait.
--
-- A ramp (after `slow_down`) grows by half per quarter of an hour, as OpenAI asks; an adaptive rate by
-- its whole amount per two minutes; adaptive slots by one per success until the first cut, then by one
-- per as many successes as there are slots (but twenty, as each try too many is refused).

--@const RAMP_US 900000000
--@const REGROW_US 120000000
--@const CREDIT_US 1000000 -- of the time between two answers, unless the call takes longer at the pace
--@const ROUND 20
--@const MINUTE_US 60000000
--@const FLOW_LEAST_US 10000000

-- What calls took of a limit in the last minute, in units: of this one so far, or of the last one.
local function flow_of(record)
  local span = math.max(FLOW_LEAST_US, now - record.flow_at)
  return math.max(record.flow_was, math.floor(record.flow * MINUTE_US / span))
end

local function count_flow(record, amount)
  if now - record.flow_at >= MINUTE_US then
    record.flow_was = math.floor(record.flow * MINUTE_US / (now - record.flow_at))
    record.flow, record.flow_at = 0, now
  end
  record.flow = record.flow + amount
end

-- Slow down to two thirds of what was used of late, though not below what needs no ramp. Where nobody
-- knows what was used (the key is new, or calls were settled before they were reported): of the pace.
local function begin_ramp(bucket, record, row)
  local flow = flow_of(record)
  local used = flow > 0 and flow * 2 / 3 * bucket[DEN] / MINUTE_US or bucket[NUM] * 2 / 3
  lower(bucket, record, 0)
  if bucket[NUM] <= row[ROW_LEAST] then return end
  bucket[NUM] = math.min(bucket[NUM], math.max(1, math.floor(used), row[ROW_LEAST]))
  record.base_num, record.paced = bucket[NUM], 0
end

local function cut(bucket, record, row)
  if row[ROW_NUM] > 0 then
    bucket[NUM] = math.max(1, math.floor(row[ROW_NUM] / 100), math.floor(bucket[NUM] / 2))
    record.base_num = 0
    lower(bucket, record, 0)
    return
  end
  local busy = bucket[CAP] - math.floor(bucket[LEVEL] / bucket[DEN])
  local slots = math.max(1, math.floor(math.min(bucket[CAP], busy) * 8 / 10))
  bucket[LEVEL] = bucket[LEVEL] - (bucket[CAP] - slots) * bucket[DEN]
  bucket[CAP], record.paced, record.base_num = slots, 0, 1
end

local function grow_slots(bucket, record)
  record.paced = record.paced + 1
  local round = record.base_num > 0 and math.max(ROUND, bucket[CAP]) or 0
  if bucket[CAP] >= bucket[CEILING] or record.paced < round then return end
  bucket[CAP], bucket[LEVEL], record.paced = bucket[CAP] + 1, bucket[LEVEL] + bucket[DEN], 0
end

local function grow_rate(bucket, record, row, elapsed, amount)
  local took_us = math.min(MINUTE_US, math.floor(amount * bucket[DEN] / bucket[NUM]))
  record.paced = record.paced + math.min(elapsed, math.max(CREDIT_US, took_us))
  if record.base_num > 0 then
    bucket[NUM] = math.floor(record.base_num * (1 + math.min(record.paced, RAMP_US) / (2 * RAMP_US)))
    if record.paced >= RAMP_US then record.base_num, record.paced = bucket[NUM], 0 end
  else
    local step = math.floor(row[ROW_NUM] * record.paced / REGROW_US)
    if step > 0 then bucket[NUM], record.paced = bucket[NUM] + step, 0 end
  end
  bucket[NUM] = math.min(bucket[NUM], row[ROW_NUM])
end

-- A call was served: more may be asked for, if calls wait for it. For slots: not for something else.
local function grow(bucket, record, row, elapsed, amount)
  local slots = row[ROW_NUM] == 0
  if slots and row[ROW_FLAGS] < ADAPTIVE or not slots and bucket[NUM] >= row[ROW_NUM] then return end
  local wanted = s.waiting > 0 and (not slots or s.limits[s.bottleneck] == bucket)
  if not wanted and bucket[LEVEL] >= bucket[DEN] then return end
  if slots then grow_slots(bucket, record) else grow_rate(bucket, record, row, elapsed, amount) end
end
