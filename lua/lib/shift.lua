-- Corrections of a level: what is not taken, given back or refilled. SHIFT is the sum of them.

-- Move a level; remember by how much.
local function shift(bucket, amount)
  local before = bucket[LEVEL]
  local after = math.max(-DEBT_MAX, math.min(bucket[CAP] * bucket[DEN], before + amount))
  bucket[LEVEL], bucket[SHIFT] = after, bucket[SHIFT] + after - before
end

-- Move a level by intention: that is nobody's use, so it is not laid to the others' account.
local function set_aside(bucket, record, amount)
  local before = bucket[SHIFT]
  shift(bucket, amount)
  record.base = record.base + bucket[SHIFT] - before
end

local function lower(bucket, record, amount) set_aside(bucket, record, math.min(0, amount)) end
