-- From an earlier bucket of a limit to the one that a new definition makes of it.

-- Used so far, rounded up to a whole unit: what is not sure stays used. `num`: of its definition, below
-- which it may have been slowed down.
local function carry(bucket, was, num)
  if was[NUM] < num then bucket[NUM] = math.max(1, math.floor(bucket[NUM] * was[NUM] / num)) end
  local used = was[CAP] - units(was[LEVEL], was[DEN])
  if bucket[NUM] == 0 and bucket[CAP] < bucket[CEILING] then -- adaptive: so many slots were found out
    bucket[CAP] = math.min(was[CAP], bucket[CEILING])
  end
  bucket[LEVEL] = math.max(-DEBT_MAX, (bucket[CAP] - used) * bucket[DEN])
end
