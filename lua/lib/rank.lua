-- Who goes first among those that wait: what each priority may do now, and the order of the heads.

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

-- Note what a head that does not fit needs, by limit: its floors as well while they hold.
local function keep_ahead(priority, cost, ahead, promoted)
  local floors = not promoted and priority[FLOORS]
  floors = floors and guarded_until(priority) > now and floors
  for i, bucket in ipairs(s.limits) do
    local c = cost[bucket[DIM]] or 0
    local need = c > 0 and math.min(c + (floors and floors[i] or 0), bucket[CAP]) or 0
    ahead[i] = (ahead[i] or 0) + need
  end
end

-- The heads of all classes, first those that go first: by rank, precedence, arrival.
local function candidates()
  local list = {}
  for c, class in ipairs(s.classes) do
    if class[LINED] > 0 and not class[HEAD] then find_head(c) end
    if class[LINED] > 0 and class[HEAD] then
      local priority, cost = s.priorities[class[PRIORITY]], class[HEAD][6]
      local rank, better_at = rank_of(priority, cost, class[SINCE])
      list[#list + 1] = {c = c, head = class[HEAD], cost = cost, priority = priority, rank = rank,
                         better_at = better_at}
    end
  end
  if #list > 1 then
    table.sort(list, function(a, b)
      if a.rank ~= b.rank then return a.rank < b.rank end
      if a.priority[PRECEDENCE] ~= b.priority[PRECEDENCE] then
        return a.priority[PRECEDENCE] > b.priority[PRECEDENCE]
      end
      return a.head[3] < b.head[3]
    end)
  end
  return list
end

-- A head that is not to be granted at all, whatever the levels: what it is told.
local function refusal_for(candidate)
  local id, tenant = candidate.head[1], candidate.head[HEAD_TENANT]
  if exceeds(s.limits, candidate.cost) then return NEVER end
  if is_limited(tenant) and exceeds(s.own, candidate.cost) then return NEVER end
  return s.gates and the_gates().shut_until(s.classes[candidate.c][ROUTE], id) and OPEN or nil
end
