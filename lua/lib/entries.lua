-- The operations of a batch. Each appends its status to the results; some append more.
--
-- {1, n, flags, patience_us, priority, route, tenant, weight, cost}  acquire: also "wait_us
--        ahead level*L" (where the circuit is open: ahead 1 if calls were denied). flags 1: may
--        wait; 2: asked before, the answer was lost; 4: refuse at once what is expected to wait for
--        longer than patience_us; 8: it repeats a call that failed. priority: index from 0. route:
--        names the set of quotas that the cost is for. weight: of the tenant, in hundredths
-- {2, n, actual}   settle   -1: the estimate stands
-- {3, n}           cancel   a reservation: all back; a ticket: out of the line
-- {4, n}           renew    says what has become of it; every batch renews the owner
-- {5, n}           look     as renew, also "wait_us ahead" of a ticket
-- {6, 0}           survey   also "P (waiting wait_us)*P": the tickets of each priority, and how long
--        the smallest call waits that comes after them
-- {7, n, outcome, wait_us, route, rows}  report  what the provider answered; wait_us -1: it names none.
--        See lib/report.lua
-- {9, 0, route}    tell     also "brake_us shut_us fails denied budget (age_us level drift guard num cap)*L":
--        the brake, the circuit, failures in a row, repeats that are left (in fifths); by limit what
--        the provider told (age -1: nothing yet), and at what rate, with how many slots it is used
--
-- n numbers the owner's calls: the id is "owner:n". An acquire that was asked before finds what
-- the first one left; the other operations find nothing the second time, and change nothing.
-- A cost, as what was used, is an array by dimension.

--@const GRANTED 1
--@const WAITING 2
--@const REFUSED 3 -- it would have to wait
--@const NEVER 4 -- it can never fit
--@const DONE 5
--@const GONE 6 -- nothing is known by this id
--@const LATE 7 -- done, but the owner was lost in between
--@const FULL 8 -- as many wait as may
--@const OPEN 9 -- calls on it fail, so none is sent
--@const SPENT 10 -- too many calls are repeats
--@const ASKED_BEFORE 2
--@const PUNCTUAL 4
--@const REPEATED 8

--@include lib/acquire
--@include lib/finish

local function look(id)
  local status = renew(id)
  if status ~= WAITING then return status, 0, 0 end
  return status, the_line().look(id)
end

local function apply(entry, results)
  local op, id, at = entry[1], owner .. ':' .. entry[2], #results
  if op == 1 then
    results[at + 1], results[at + 2], results[at + 3] = acquire(id, entry)
    append_levels(results)
  elseif op == 2 then
    results[at + 1] = finish(id, entry[3])
  elseif op == 3 then
    results[at + 1] = cancel(id)
  elseif op == 4 then
    results[at + 1] = renew(id)
  elseif op == 5 then
    results[at + 1], results[at + 2], results[at + 3] = look(id)
  elseif op == 7 then
    results[at + 1] = the_answers().report(id, entry)
  elseif op == 9 then
    the_answers().tell(entry[3], results)
  else
    results[at + 1], results[at + 2] = DONE, #s.priorities
    for _, priority in ipairs(s.priorities) do
      results[#results + 1] = priority[WAITS]
      results[#results + 1] = priority[WAITS] > 0 and the_line().wait_behind(priority) or 0
    end
  end
end
