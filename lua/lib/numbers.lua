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
--@const SHIFT 7 -- the sum of all corrections; not there until an answer is reported (lib/drift.lua)

-- A priority is {precedence, strict, max_waiting, promote_us, lend_us, floors, shares, asked_us,
-- waiting}: its policy, when a call of it was last asked for, and how many of its tickets wait.
-- floors: units by limit, or false; shares: a bucket by limit, or false.
--@const PRECEDENCE 1
--@const STRICT 2
--@const MOST 3
--@const PROMOTE 4
--@const LEND 5
--@const FLOORS 6
--@const SHARES 7
--@const ASKED 8
--@const WAITS 9

--@const DEBT_MAX (2 ^ 52) -- a debt beyond this is not counted
--@const FOREVER (2 ^ 52) -- a time that does not come
--@const PRINT_MAX 99999999999999 -- table.concat prints 14 digits exactly

-- For whole a and b with |a| < 2^53 the rounded quotient never crosses a whole number that the
-- true one has not reached: they differ by at least 1/b, and half a unit in the last place is less.
local function ceil_div(a, b)
  if a <= 0 then return 0 end
  return math.ceil(a / b)
end

local function units(level, den)
  local whole = math.floor(level / den)
  if whole > PRINT_MAX then return PRINT_MAX end
  return whole < -PRINT_MAX and -PRINT_MAX or whole
end
