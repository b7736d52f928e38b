-- Drift: the provider's level minus ours for the same moment. A reservation remembers, for each limit,
-- its `mark`: the level right after its grant less the sum of all corrections until then (SHIFT). So
-- for whoever answers first or last, ours at that moment, as it would be with today's corrections,
-- is mark + SHIFT, and what one answer has corrected the others do not correct again.
--
-- Used up by others: corrected at once, if it is more than calls which overtook each other on their
-- way explain: by as much as answers of late differed within a window (the noise). Used less than we
-- count: the least of all answers within a second is believed, half of it at a time.
--
-- The guard is kept back for what others use until we hear of it: at first twice what was a surprise
-- (what is told first is none: nothing was known before), then what they take in a second and in twice
-- the time that answers take. It is a reserve of the level, and costs none of the rate.

--@const WINDOW_US 1000000
--@const SMOOTH 4 -- windows over which the use by others is averaged, and more where answers are slow
--@const STALE_MAX_US 60000000

local function end_window(bucket, record, slack)
  if record.least > slack then shift(bucket, record.least - math.floor(record.least / 2)) end
  local taken = math.floor((record.base - bucket[SHIFT]) / (now - record.from) * WINDOW_US)
  local windows = SMOOTH + record.stale / WINDOW_US
  record.others = math.max(0, record.others + math.floor((taken - record.others) / windows))
  local wanted = record.others * (1 + 2 * record.stale / WINDOW_US)
  guard_by(bucket, record, math.max(wanted, record.guard * (1 - 1 / windows)))
  record.noise = math.floor(record.noise * 3 / 4)
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

-- Keep back again what a bucket that was full had in it of the guard, `before` the call; the rest of a
-- drift was used by others.
local function take_guard(bucket, record, drift, before)
  local inside = math.min(record.guard, before - bucket[CAP] * bucket[DEN] + record.guard)
  local back = math.max(0, math.min(inside, -drift))
  set_aside(bucket, record, -back)
  return drift + back
end

-- Take what an answer tells of one limit. `mark` is nil where the reservation, of so much, has none;
-- age_us: how long ago the provider may have read its level.
local function correct(bucket, record, row, mark, age_us, cost)
  local slack, at_end = row[ROW_SLACK], row[ROW_FLAGS] % (2 * AT_END) >= AT_END
  local drift, first = drift_of(bucket, record, row, mark, age_us), record.seen_at < 0
  record.seen, record.seen_at, record.drift = row[ROW_USED], now, drift
  local before = mark and not at_end and mark + bucket[SHIFT] + cost * bucket[DEN] or bucket[LEVEL]
  if drift < 0 and record.guard > 0 then drift = take_guard(bucket, record, drift, before) end
  local raises = row[ROW_FLAGS] % (2 * MAY_RAISE) >= MAY_RAISE
  local refused = row[ROW_FLAGS] % (2 * EXPLAINS) >= UNCOUNTED -- either of the two
  local noise, surprises = refused and 0 or record.noise, not first and (raises or refused)
  if drift < -slack - noise then
    shift(bucket, drift)
    if surprises and -2 * drift > record.guard then guard_by(bucket, record, -2 * drift) end
    drift = 0
  end
  if not raises or now - age_us <= record.lowered_at or not mark and not at_end then return end
  if record.from < 0 then
    record.from, record.base, record.least = now, bucket[SHIFT], FOREVER
  end
  record.least = math.min(record.least, drift)
  record.noise = math.max(record.noise, drift - record.least)
  record.stale = math.max(record.stale, math.min(STALE_MAX_US, age_us))
  if now - record.from >= WINDOW_US then end_window(bucket, record, slack) end
end
