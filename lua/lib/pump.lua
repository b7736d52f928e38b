-- The pump: grant heads while they fit, whoever they belong to, and tell their owners.

local GRANTED, WAITING, NEVER = 1, 2, 4
local GRANTS = 1000 -- per run, so that no run blocks the server for long
local NOT_BEFORE_EVENT = -1

local mail = {} -- owner -> {n, status, level…, …, count = grants}

local function tell(id, status)
  local name, n = string.match(id, '^([^:]*):(%d+)$')
  local letter = mail[name] or {count = 0}
  letter.count = letter.count + 1
  letter[#letter + 1] = tonumber(n)
  letter[#letter + 1] = status
  append_levels(letter)
  mail[name] = letter
end

-- Keep the head's id and cost in the state: most runs then decide without another read. Where a
-- key was evicted the rest is cleared away: a ticket stands in the hash and in the line, or in none.
local function find_head()
  local first = redis.call('ZRANGE', LINE, 0, 0)
  while first[1] do
    local id = string.match(first[1], '(%S+)$')
    local ticket = read_ticket(id)
    if ticket then
      s.head = {id, NOT_BEFORE_EVENT, unpack(ticket.cost)}
      return
    end
    redis.call('ZREM', LINE, first[1])
    first = redis.call('ZRANGE', LINE, 0, 0)
  end
  s.waiting, s.queued = 0, {}
end

-- When the cost will fit if nothing happens but time.
local function fit_at(cost)
  local longest = 0
  for _, limit in ipairs(s.limits) do
    local c = cost[limit[DIM]] or 0
    local short = math.min(c, limit[CAP]) * limit[DEN] - limit[LEVEL]
    if c > 0 and short > 0 then
      if limit[NUM] == 0 then return NOT_BEFORE_EVENT end
      longest = math.max(longest, ceil_div(short, limit[NUM]))
    end
  end
  return now + longest
end

local function pump()
  for _ = 1, GRANTS do
    if s.waiting > 0 and not s.head then find_head() end
    if not s.head then return end
    local id, cost = s.head[1], {unpack(s.head, 3)}
    local hopeless = never_fits(cost)
    if not hopeless and not fits(cost) then
      s.head[2] = fit_at(cost)
      return
    end
    s.head = false
    local ticket = read_ticket(id)
    if ticket then
      remove_ticket(id, ticket)
      if hopeless then
        tell(id, NEVER)
      elseif is_alive(owner_of(id)) then
        take(id, cost)
        tell(id, GRANTED)
      end
    end
  end
  if s.head then s.head[2] = now end
end

-- One message per owner that was granted something, and one to the owner of the head, when it is
-- a new head or fits earlier than it was told: the head's owner runs the timer, nobody else.
local function send_mail(head_before, fit_before)
  local head_owner = s.head and owner_of(s.head[1])
  local news = s.head and (s.head[1] ~= head_before or fit_before < 0 and s.head[2] >= 0
    or s.head[2] >= 0 and s.head[2] < fit_before - 1000)
  if news and head_owner ~= owner and not mail[head_owner] then mail[head_owner] = {count = 0} end
  for name, letter in pairs(mail) do
    if name ~= owner then
      local next_us = -1
      if name == head_owner and s.head[2] >= 0 then next_us = math.max(0, s.head[2] - now) end
      redis.call(ARGV[7], ARGV[6] .. name,
        table.concat({next_us, #s.limits, letter.count, table.concat(letter, ' ')}, ' '))
    end
  end
end
