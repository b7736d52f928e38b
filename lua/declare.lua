--- Replace a unit's definition, if it is still the one that the caller has seen.
--
-- What was used of a limit stays used: a bucket of 500 with 200 left becomes, as one of 800, a
-- bucket with 500 left. Limits are matched by label, priorities by their place; what is new starts
-- full, and so do the tenants' own limits when they change. Where no limit changes, what providers told
-- of them stays as well.
--
-- KEYS[1] state, KEYS[2] quota, KEYS[3] tenants: as in run.lua
--
-- ARGV[1] now_us      0: Redis's clock
-- ARGV[2] seen        the version that the caller has seen; '' for none
-- ARGV[3] definition  JSON, see limiter/core/definition.py
-- ARGV[4] origin      'code' or 'central'
--
-- Reply: {status, version}: 1 replaced, 0 somebody was faster (read again). Version: text.

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

--@include lib/numbers
--@include lib/levels
--@include lib/definition
--@include lib/expiry
--@include lib/carry

local found = redis.call('HMGET', KEYS[2], 'version', 'definition')
local old = found[1] or ''
if old ~= ARGV[2] then return {0, old} end
local version = string.format('%.0f', math.max(now, (tonumber(old) or 0) + 1))
local definition = cjson.decode(ARGV[3])
redis.call('HSET', KEYS[2], 'version', version, 'definition', ARGV[3], 'origin', ARGV[4])
local keep_ms = 0
local blob = redis.call('GET', KEYS[1])
if blob and not found[2] then redis.call('DEL', KEYS[1]) end -- nobody knows what it means
if blob and found[2] then
  local state, earlier = cmsgpack.unpack(blob), cjson.decode(found[2])
  local limits, priorities = full_buckets(definition.limits), read_priorities(definition)
  local elapsed = math.max(0, now - state[2]) -- at the rates that held until now
  refill(state[8], elapsed)
  for _, was in ipairs(state[9]) do refill(was[SHARES] or {}, elapsed) end
  state[2] = state[2] + elapsed
  local place = {}
  for i, limit in ipairs(earlier.limits) do place[limit.label] = i end
  for i, limit in ipairs(definition.limits) do
    local was = state[8][place[limit.label]]
    if was then carry(limits[i], was, earlier.limits[place[limit.label]].num) end
  end
  for p, was in ipairs(state[9]) do
    local priority = priorities[p]
    priority[ASKED], priority[WAITS] = was[ASKED], was[WAITS]
    for i, limit in ipairs(priority[SHARES] and was[SHARES] and definition.limits or {}) do
      local share = was[SHARES][place[limit.label]]
      if share then carry(priority[SHARES][i], share, 0) end
    end
  end
  state[1], state[9], state[15] = version, priorities, 1
  if not are_equal(earlier.limits, definition.limits) then
    state[8] = limits
    state[18] = math.max(state[2], state[18]) + 1 -- marks and reports of before say nothing of these
  end
  if not are_equal(earlier.own, definition.own) then
    redis.call('DEL', KEYS[3])
    state[16] = 0
    if state[13] then state[13][1] = 0 end -- look at every blocked flow
    for _, class in ipairs(state[11]) do class[8] = false end -- heads were found to fit by the old ones
  end
  state[10] = full_buckets(definition.own)
  keep_ms = keep_state_ms(state[8], priorities, state[16] - now, true)
  redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', keep_ms)
end
redis.call('PEXPIRE', KEYS[2], KEEP_QUOTA_MS + keep_ms)
return {1, version}
