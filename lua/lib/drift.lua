-- Drift: the provider's level minus ours for the same moment. A reservation remembers, for each limit,
-- its `mark`: the level right after its grant less the sum of all corrections until then (SHIFT). So
-- for whoever answers first or last, ours at that moment, as it would be with today's corrections,
-- is mark + SHIFT, and what one answer has corrected the others do not correct again.
--
-- Used up by others: corrected at once, if it is more than calls which overtook each other on their
-- way explain: as much as others of late seemed to use less (the noise). Used less than we count: the
-- least of all answers within a second is believed, half of it at a time.
--
-- The guard is kept back for what others use until we hear of it: at first twice what was a surprise,
-- then what they take in a second and a quarter more than answers take to come. It is a reserve of
-- the level, and costs none of the rate.

--@const WINDOW_US 1000000
--@const SMOOTH 4 -- windows over which the use by others is averaged, and more where answers are slow
--@const STALE_MAX_US 60000000

-- Move a level; remember by how much.
local function shift(bucket, amount)
  local before = bucket[LEVEL]
  local after = math.max(-DEBT_MAX, math.min(bucket[CAP] * bucket[DEN], before + amount))
  bucket[LEVEL], bucket[SHIFT] = after, bucket[SHIFT] + after - before
end

-- Keep back so much for others, a quarter of the bucket at most.
local function guard_by(bucket, record, amount)
  local guard = math.min(math.floor(amount), math.floor(bucket[CAP] * bucket[DEN] / 4))
  shift(bucket, record.guard - guard)
  record.guard = guard
end

local function end_window(bucket, record, slack)
  if record.least > slack then shift(bucket, record.least - math.floor(record.least / 2)) end
  local taken = math.floor((record.base - bucket[SHIFT]) / (now - record.from) * WINDOW_US)
  local windows = SMOOTH + record.stale / WINDOW_US
  record.others = record.others + math.floor((taken - record.others) / windows)
  local wanted = record.others * (1 + record.stale * 5 / 4 / WINDOW_US)
  guard_by(bucket, record, math.max(wanted, record.guard * (1 - 1 / windows)))
  record.noise = math.floor(record.noise * 3 / 4)
  record.from, record.base, record.least, record.stale = now, bucket[SHIFT], FOREVER, 0
end

-- How much less was used than we count: by the mark, by the level as it is now, or, where it is not
-- known when the provider read its own, by the one that says less.
local function drift_of(bucket, record, row, mark)
  local full, flags = bucket[CAP] * bucket[DEN], row[ROW_FLAGS]
  local used = row[ROW_USED] + record.guard
  local by_level = full - bucket[LEVEL] - used
  if not mark or flags % (2 * AT_END) >= AT_END then return by_level end
  local by_mark = full - mark - bucket[SHIFT] - used
  if flags % (2 * AT_START) >= AT_START then return by_mark end
  if by_mark * by_level <= 0 then return 0 end
  return math.abs(by_mark) < math.abs(by_level) and by_mark or by_level
end

-- Take what an answer tells of one limit. `mark` is nil where the reservation has none.
local function correct(bucket, record, row, mark, granted_us)
  local slack, raises = row[ROW_SLACK], row[ROW_FLAGS] % (2 * MAY_RAISE) >= MAY_RAISE
  local drift = drift_of(bucket, record, row, mark)
  record.seen, record.seen_at, record.drift = row[ROW_USED], now, drift
  local noise = row[ROW_FLAGS] % (2 * UNCOUNTED) >= UNCOUNTED and 0 or record.noise
  if drift < -slack - noise then
    shift(bucket, drift)
    if -2 * drift > record.guard then guard_by(bucket, record, -2 * drift) end
    drift = 0
  end
  record.noise = math.max(record.noise, drift)
  if not raises or not mark and row[ROW_FLAGS] % (2 * AT_END) < AT_END then return end
  if record.from < 0 then
    record.from, record.base, record.least = now, bucket[SHIFT], FOREVER
  end
  record.least = math.min(record.least, drift)
  record.stale = math.max(record.stale, math.min(STALE_MAX_US, now - granted_us))
  if now - record.from >= WINDOW_US then end_window(bucket, record, slack) end
end
