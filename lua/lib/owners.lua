-- Owners: each process (each Limiter in it) that sends batches. An owner that is silent for its
-- lease is lost: its slots come back, its tickets are dropped when they reach the head.

--@const FORGET_US 600000000 -- a lost owner's number is kept this long against replays

local function owner_of(id) return string.match(id, '^[^:]*') end

-- How long until a ticket's owner must run; -1: nobody waits, or only an event can help.
local function due_in(timer)
  if not timer or timer[2] < 0 then return -1 end
  return math.max(0, math.min(timer[2] - now, PRINT_MAX))
end

local function read_owner(name)
  local text = redis.call('HGET', NUMBERS, name)
  if not text then return nil end
  local last, seen, term = string.match(text, '^(%d+) (%d+) (%d+)$')
  return tonumber(last), tonumber(seen), tonumber(term)
end

local function write_owner(name, last, seen, term)
  redis.call('HSET', NUMBERS, name, string.format('%.0f %.0f %.0f', last, seen, term))
end

local ran = 0 -- the number of the owner's last batch before this one

-- Accept this batch unless one with its number or a higher one has run already.
local function enrol()
  local last, _, term = read_owner(owner)
  if last and number <= last then return false end
  ran = last or 0
  write_owner(owner, number, now, lease)
  if not last or term == 0 then
    redis.call('ZADD', OWNERS, string.format('%.0f', now + lease), owner)
    s.lapse = math.min(s.lapse, now + lease)
    redis.call('PEXPIRE', OWNERS, KEEP_MS)
    redis.call('PEXPIRE', NUMBERS, KEEP_MS)
  end
  return true
end
