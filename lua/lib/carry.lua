-- From an earlier bucket of a limit to the one that a new definition makes of it.

-- Not by their text, which has 14 digits of a number.
local function are_equal(a, b)
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  for key, value in pairs(a) do
    if not are_equal(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

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
