-- The fields of a limit, and integer arithmetic that stays exact in doubles.

-- A bucket is {dimension index, num, den, capacity, ceiling, level}. Capacity, ceiling and costs
-- are whole units; the level is in 1/den units and grows by num each microsecond (num 0: slots,
-- which only come back). ceiling * den <= 2^50 was proved when the limit was made.
--@const DIM 1
--@const NUM 2
--@const DEN 3
--@const CAP 4
--@const CEILING 5
--@const LEVEL 6

--@const DEBT_MAX (2 ^ 52) -- a debt beyond this is not counted
--@const FOREVER (2 ^ 52) -- a time that does not come
--@const PRINT_MAX 99999999999999 -- table.concat prints 14 digits exactly

-- math.fmod is exact where the `%` of Lua 5.1 is not; a quotient may be, too.
local function ceil_div(a, b)
  if a <= 0 then return 0 end
  local rest = math.fmod(a, b)
  return (a - rest) / b + (rest > 0 and 1 or 0)
end

local function units(level, den)
  local rest = math.fmod(level, den)
  local whole = (level - rest) / den - (rest < 0 and 1 or 0)
  return math.max(-PRINT_MAX, math.min(PRINT_MAX, whole))
end
