-- What a priority may do now among those that wait.

--@const PROMOTED 0 -- it waited for too long: one call of it goes first
--@const ENTITLED 1
--@const BORROWING 2 -- beyond its share: after everybody who is not
--@const BARRED 3 -- beyond its share, and strict

-- A priority's rank for one call, and when it will have a better one (-1: only by an event).
local function rank_of(priority, cost, since)
  local promote = priority[PROMOTE] > 0 and since + priority[PROMOTE] or NOT_BEFORE_EVENT
  local entitled = priority[SHARES] and fit_at(priority[SHARES], cost) or now
  if entitled ~= now and priority[STRICT] == 1 then return BARRED, entitled end
  if promote ~= NOT_BEFORE_EVENT and promote <= now then return PROMOTED, NOT_BEFORE_EVENT end
  if entitled == now then return ENTITLED, promote end
  if promote ~= NOT_BEFORE_EVENT and (entitled == NOT_BEFORE_EVENT or promote < entitled) then
    return BORROWING, promote
  end
  return BORROWING, entitled
end
