-- Owners: each process (each Limiter in it) that sends batches. An owner that is silent for its
-- lease is lost: its slots come back, its tickets are dropped when they reach the head.

--@const FORGET_US 600000000 -- a lost owner's number is kept this long against replays
--@const SWEEP 100 -- owners looked at per run

local function owner_of(id) return string.match(id, '^[^:]*') end

local function read_owner(name)
  local text = redis.call('HGET', NUMBERS, name)
  if not text then return nil end
  local last, seen, term = string.match(text, '^(%d+) (%d+) (%d+)$')
  return tonumber(last), tonumber(seen), tonumber(term)
end

local function write_owner(name, last, seen, term)
  redis.call('HSET', NUMBERS, name, string.format('%.0f %.0f %.0f', last, seen, term))
end

local function look_again(name, at)
  redis.call('ZADD', OWNERS, string.format('%.0f', at), name)
  s.lapse = math.min(s.lapse, at)
end

local function is_alive(name)
  if name == owner then return true end
  local _, seen, term = read_owner(name)
  return seen ~= nil and seen + term > now
end

-- Accept this batch unless one with its number or a higher one has run already.
local function enrol()
  local last, _, term = read_owner(owner)
  if last and number <= last then return false end
  write_owner(owner, number, now, lease)
  if not last or term == 0 then
    look_again(owner, now + lease)
    redis.call('PEXPIRE', OWNERS, KEEP_MS)
    redis.call('PEXPIRE', NUMBERS, KEEP_MS)
  end
  return true
end

local reap_holds -- lib/holds.lua

-- Look at the owners whose time has come. A term of 0 marks one that was reaped.
local function sweep()
  local due = redis.call('ZRANGEBYSCORE', OWNERS, '-inf', string.format('%.0f', now),
    'LIMIT', 0, SWEEP)
  local lost = {}
  for _, name in ipairs(due) do
    local last, seen, term = read_owner(name)
    if not last or term == 0 then
      if not last then lost[name] = now end -- NUMBERS was evicted, so its reservations are lost too
      redis.call('ZREM', OWNERS, name)
      redis.call('HDEL', NUMBERS, name)
    elseif seen + term > now then
      redis.call('ZADD', OWNERS, string.format('%.0f', seen + term), name)
    else
      lost[name] = seen
      write_owner(name, last, seen, 0)
      redis.call('ZADD', OWNERS, string.format('%.0f', now + FORGET_US), name)
    end
  end
  if next(lost) and s.held > 0 then reap_holds(lost) end
  local first = redis.call('ZRANGE', OWNERS, 0, 0, 'WITHSCORES')
  s.lapse = first[2] and tonumber(first[2]) or 2 ^ 52
end
