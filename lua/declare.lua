--- Replace a quota's definition, if it is still the one that the caller has seen.
--
-- What was used of a limit stays used: a bucket of 500 with 200 left becomes, as one of 800, a
-- bucket with 500 left. Limits are matched by label; a new one starts full.
--
-- KEYS[1] state, KEYS[2] quota: as in run.lua
--
-- ARGV[1] now_us      0: Redis's clock
-- ARGV[2] seen        the version that the caller has seen; '' for none
-- ARGV[3] definition  JSON: {"limits": [{label, dim, num, den, capacity, ceiling, …}], …}
-- ARGV[4] origin      'code' or 'central'
--
-- Reply: {status, version}: 1 replaced, 0 somebody was faster (read again). Version: text.

--@include lib/numbers

--@const STATE KEYS[1]
--@const QUOTA KEYS[2]
--@const KEEP_QUOTA_MS 604800000
--@const KEEP_STATE_MS 10800000

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local found = redis.call('HMGET', QUOTA, 'version', 'definition')
local old = found[1] or ''
if old ~= ARGV[2] then return {0, old} end
local version = string.format('%.0f', math.max(now, (tonumber(old) or 0) + 1))
local definition = cjson.decode(ARGV[3])
redis.call('HSET', QUOTA, 'version', version, 'definition', ARGV[3], 'origin', ARGV[4])
redis.call('PEXPIRE', QUOTA, KEEP_QUOTA_MS)

local blob = redis.call('GET', STATE)
if blob and found[2] then
  local state = cmsgpack.unpack(blob)
  local before = {}
  for i, limit in ipairs(cjson.decode(found[2]).limits) do before[limit.label] = state[9][i] end
  local limits = {}
  for i, new in ipairs(definition.limits) do
    local level = new.capacity * new.den
    local was = before[new.label]
    if was then
      -- Used so far, rounded up to a whole unit: what is not sure stays used.
      local used = was[CAP] - units(was[LEVEL], was[DEN])
      level = math.max(-DEBT_MAX, (new.capacity - used) * new.den)
    end
    limits[i] = {new.dim, new.num, new.den, new.capacity, new.ceiling, level}
  end
  state[1], state[9] = version, limits
  redis.call('SET', STATE, cmsgpack.pack(state), 'PX', KEEP_STATE_MS)
end
return {1, version}
