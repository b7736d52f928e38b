-- Drift: the provider's level minus ours for the same moment. A reservation remembers, for each limit,
-- its `mark`: the level right after its grant less the sum of all corrections until then (SHIFT). So
-- for whoever answers first or last, ours at that moment, as it would be with today's corrections,
-- is mark + SHIFT, and what one answer has corrected the others do not correct again.
--
-- Used up by others: corrected at once. Used less than we thought: calls overtake each other on
-- their way, so the least of all answers within a window is believed. What others were seen to use in
-- a window is kept back (the guard): so much later we hear of it. A window is as long as answers take
-- and three seconds more: others come in lumps, and in a shorter one is a lump too many or none.

--@const WINDOW_US 3000000
--@const STALE_MAX_US 60000000

-- Move a level, up to the capacity. Whole is what is remembered: it was about a moment that has passed,
-- and calls of before it knew nothing of it.
local function shift(bucket, amount)
  local after = math.min(bucket[CAP] * bucket[DEN], bucket[LEVEL] + amount)
  bucket[LEVEL], bucket[SHIFT] = math.max(-DEBT_MAX, after), bucket[SHIFT] + amount
end

-- Move a level to this or below, for a reason of our own: it is not used by others.
local function lower(bucket, record, level)
  local before = bucket[SHIFT]
  shift(bucket, math.min(0, level - bucket[LEVEL]))
  record.base = record.base + bucket[SHIFT] - before
end

local function end_window(bucket, record, slack)
  if record.least > slack then shift(bucket, record.least) end
  local span, others = now - record.from, math.max(0, record.base - bucket[SHIFT])
  local guard = math.min(math.floor(others / span * (WINDOW_US + record.stale)),
                         math.floor(bucket[CAP] * bucket[DEN] / 4))
  guard = math.max(guard, math.floor(record.guard * 3 / 4))
  shift(bucket, record.guard - guard)
  record.guard = guard
  record.from, record.base, record.least, record.stale = now, bucket[SHIFT], FOREVER, 0
end

-- How much less was used than we count: by the mark, by the level as it is now, or, where it is not
-- known when the provider read its own, by the one that says less. Without a mark (no answer was
-- reported before the call) as much may have been refilled since.
local function drift_of(bucket, record, row, mark, age_us)
  local full, flags = bucket[CAP] * bucket[DEN], row[ROW_FLAGS]
  local used = row[ROW_USED] + record.guard
  local by_level = full - bucket[LEVEL] - used
  if flags % (2 * AT_END) >= AT_END then return by_level end
  if not mark then return by_level + math.min(DEBT_MAX, bucket[NUM] * age_us) end
  local by_mark = full - mark - bucket[SHIFT] - used
  if flags % (2 * AT_START) >= AT_START then return by_mark end
  if by_mark * by_level <= 0 then return 0 end
  return math.abs(by_mark) < math.abs(by_level) and by_mark or by_level
end

-- Take it back, and count it as used by others; but not what was kept back for them, and was in the
-- bucket again, `before` the call, once that was full again.
local function take_back(bucket, record, drift, before)
  local guard = math.min(record.guard, before - bucket[CAP] * bucket[DEN] + record.guard)
  record.base = record.base - math.max(0, math.min(guard, -drift))
  shift(bucket, drift)
end

-- Take what an answer tells of one limit. `mark` is nil where the reservation, of so much, has none;
-- age_us: how long ago the provider may have read its level.
local function correct(bucket, record, row, mark, age_us, cost)
  local slack, at_end = row[ROW_SLACK], row[ROW_FLAGS] % (2 * AT_END) >= AT_END
  local drift = drift_of(bucket, record, row, mark, age_us)
  record.seen, record.seen_at, record.drift = row[ROW_USED], now, drift
  if drift < -slack then
    local before = mark and not at_end and mark + bucket[SHIFT] + cost * bucket[DEN] or bucket[LEVEL]
    take_back(bucket, record, drift, before)
    drift = 0
  end
  if row[ROW_FLAGS] % (2 * MAY_RAISE) < MAY_RAISE or not mark and not at_end then return end
  if record.from < 0 then
    record.from, record.base, record.least = now, bucket[SHIFT], FOREVER
  end
  record.least = math.min(record.least, drift)
  record.stale = math.max(record.stale, math.min(STALE_MAX_US, age_us))
  if now - record.from >= WINDOW_US + record.stale then end_window(bucket, record, slack) end
end
