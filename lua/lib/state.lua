-- The unit's whole state: one msgpack string, read once and written once per run.
-- It expires only when it says no more than a new one would: all full, nobody here.

--@const STATE KEYS[1]
--@const QUOTA KEYS[2]
--@const TICKETS KEYS[3]
--@const LINE KEYS[4]
--@const HOLDS KEYS[5]
--@const OWNERS KEYS[6]
--@const NUMBERS KEYS[7]
--@const LAPSED KEYS[8]
--@const FLOWS KEYS[9]
--@const ORDER KEYS[10]
--@const TENANTS KEYS[11]

--@const KEEP_MS 7200000 -- keys beside the state; longer than any lease
--@const KEEP_STATE_MS 10800000 -- the state outlives them while anybody is here
--@const KEEP_IDLE_MS 60000      -- a full bucket nobody asks for need not be kept
--@const KEEP_QUOTA_MS 604800000
--@const TOUCH_US 600000000 -- how often the terms above are renewed

-- timer is false or {id, at_us}: the ticket whose owner must run next, and when (-1: an event
-- comes first); recheck is false or {at_us, id}: when the first blocked flow is looked at again.
local function unpack_state(blob)
  local a = cmsgpack.unpack(blob)
  s = {version = a[1], at = a[2], seq = a[3], touched = a[4], lapse = a[5], held = a[6],
       waiting = a[7], limits = a[8], priorities = a[9], own = a[10], classes = a[11],
       timer = a[12], recheck = a[13], idle = a[14], bottleneck = a[15]}
end

--@include lib/fresh

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
  local keep = ceil_div(full_in_us(s.limits), 1000)
    + ((s.held + s.waiting > 0) and KEEP_STATE_MS or KEEP_IDLE_MS)
  if now - s.touched > TOUCH_US then
    for i = 3, 11 do redis.call('PEXPIRE', KEYS[i], KEEP_MS) end
    redis.call('PEXPIRE', QUOTA, KEEP_QUOTA_MS)
    s.touched = now
  end
  redis.call('SET', STATE, cmsgpack.pack({s.version, s.at, s.seq, s.touched, s.lapse, s.held,
    s.waiting, s.limits, s.priorities, s.own, s.classes, s.timer, s.recheck, s.idle,
    s.bottleneck}), 'PX', string.format('%.0f', keep))
end
