-- Corrections of a level: what is not taken, given back or refilled. SHIFT is the sum of them.

-- Move a level, up to the capacity. Whole is what is remembered: it was about a moment that has passed,
-- and calls of before it knew nothing of it.
local function shift(bucket, amount)
  local after = math.min(bucket[CAP] * bucket[DEN], bucket[LEVEL] + amount)
  bucket[LEVEL], bucket[SHIFT] = math.max(-DEBT_MAX, after), bucket[SHIFT] + amount
end

-- Move a level by intention: that is nobody's use, so it is not laid to the others' account.
local function set_aside(bucket, record, amount)
  local before = bucket[SHIFT]
  shift(bucket, amount)
  record.base = record.base + bucket[SHIFT] - before
end

-- Lower a level because the provider refused: what was let in before says nothing against that.
local function lower(bucket, record, amount)
  if amount >= 0 then return end
  shift(bucket, amount)
  record.from, record.lowered_at = -1, now
end

-- Keep back so much for others, a quarter of the bucket at most.
local function guard_by(bucket, record, amount)
  local guard = math.min(math.floor(amount), math.floor(bucket[CAP] * bucket[DEN] / 4))
  set_aside(bucket, record, record.guard - guard)
  record.guard = guard
end
