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
--@const FEEDBACK KEYS[12]
--@const OUTPUTS KEYS[13]

--@const TOUCH_US 600000000 -- how often the terms are renewed

-- timer is false or {id, at_us}: the ticket whose owner must run next, and when (-1: an event
-- comes first); recheck is false or {at_us, id}: when the first blocked flow is looked at again;
-- tenants_until is when the limits of all tenants are full; made is when the limits were.
local function unpack_state(blob)
  local a = cmsgpack.unpack(blob)
  s = {version = a[1], at = a[2], seq = a[3], touched = a[4], lapse = a[5], held = a[6],
       waiting = a[7], limits = a[8], priorities = a[9], own = a[10], classes = a[11],
       timer = a[12], recheck = a[13], idle = a[14], bottleneck = a[15],
       tenants_until = a[16], gates = a[17], made = a[18]}
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

local function keep_tenants_ms() return math.max(KEEP_MS, ceil_div(s.tenants_until - now, 1000)) end

local function save_state()
  local gated = s.gates and the_gates().tidy() or 0
  local keep = keep_state_ms(s.limits, s.priorities, math.max(s.tenants_until - now, gated),
                             s.held + s.waiting > 0 or s.limits[1][SHIFT])
  if now - s.touched > TOUCH_US then
    for i = 3, 9 do redis.call('PEXPIRE', KEYS[i], KEEP_MS) end
    for i = 10, 11 do redis.call('PEXPIRE', KEYS[i], keep_tenants_ms()) end
    for _, key in ipairs({QUOTA, OUTPUTS}) do redis.call('PEXPIRE', key, KEEP_QUOTA_MS + keep) end
    s.touched = now
  end
  redis.call('SET', STATE, cmsgpack.pack({s.version, s.at, s.seq, s.touched, s.lapse, s.held,
    s.waiting, s.limits, s.priorities, s.own, s.classes, s.timer, s.recheck, s.idle,
    s.bottleneck, s.tenants_until, s.gates, s.made}), 'PX', keep)
end
