-- The quota's whole state: one msgpack string, read once and written once per run.
-- It expires only when it says no more than a new one would: all full, nobody here.

--@const STATE KEYS[1]
--@const QUOTA KEYS[2]
--@const TICKETS KEYS[3]
--@const LINE KEYS[4]
--@const HOLDS KEYS[5]
--@const OWNERS KEYS[6]
--@const NUMBERS KEYS[7]
--@const LAPSED KEYS[8]
local now, owner = tonumber(ARGV[1]), ARGV[2]
local number, lease = tonumber(ARGV[3]), tonumber(ARGV[4])

--@const KEEP_MS 7200000 -- keys beside the state; longer than any lease
--@const KEEP_STATE_MS 10800000 -- the state outlives them while anybody is here
--@const KEEP_IDLE_MS 60000      -- a full bucket nobody asks for need not be kept
--@const KEEP_QUOTA_MS 604800000
--@const TOUCH_US 600000000 -- how often the terms above are renewed

local s = nil

-- {version, at, seq, touched, lapse, held, waiting, queued, limits, head}; head is false or
-- {id, fit_us, cost…}; queued is the sum of the waiting costs, by dimension.
local function unpack_state(blob)
  local a = cmsgpack.unpack(blob)
  s = {version = a[1], at = a[2], seq = a[3], touched = a[4], lapse = a[5], held = a[6],
       waiting = a[7], queued = a[8], limits = a[9], head = a[10]}
end

-- A definition lives in the quota's hash; the state is made from it with all buckets full.
local function new_state()
  local found = redis.call('HMGET', QUOTA, 'version', 'definition')
  if not found[1] then return false end
  redis.call('DEL', TICKETS, LINE, HOLDS) -- of a state that was evicted: nobody can trust them
  local limits = {}
  for i, limit in ipairs(cjson.decode(found[2]).limits) do
    limits[i] = {limit.dim, limit.num, limit.den, limit.capacity, limit.ceiling,
                 limit.capacity * limit.den}
  end
  s = {version = found[1], at = now, seq = 0, touched = 0, lapse = 0, held = 0,
       waiting = 0, queued = {}, limits = limits, head = false}
  return true
end

local function load_state()
  if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
  end
  local blob = redis.call('GET', STATE)
  if not blob then return new_state() end
  unpack_state(blob)
  now = math.max(now, s.at) -- a clock that steps back stands still for us
  return true
end

local function save_state()
  local full_us = 0
  for _, limit in ipairs(s.limits) do
    if limit[NUM] > 0 then
      full_us = math.max(full_us, ceil_div(limit[CAP] * limit[DEN] - limit[LEVEL], limit[NUM]))
    end
  end
  local keep = ceil_div(full_us, 1000) + ((s.held + s.waiting > 0) and KEEP_STATE_MS or KEEP_IDLE_MS)
  if now - s.touched > TOUCH_US then
    for i = 3, 8 do redis.call('PEXPIRE', KEYS[i], KEEP_MS) end
    redis.call('PEXPIRE', QUOTA, KEEP_QUOTA_MS)
    s.touched = now
  end
  redis.call('SET', STATE, cmsgpack.pack({s.version, s.at, s.seq, s.touched, s.lapse, s.held,
    s.waiting, s.queued, s.limits, s.head}), 'PX', string.format('%.0f', keep))
end
