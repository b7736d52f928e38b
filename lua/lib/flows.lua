-- Flows: a tenant's tickets within a class, first come first served. Between the flows of a class:
-- start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). Each flow has a start tag; the lowest
-- goes next and moves on by its charge / weight; virtual time is the start tag last served.

-- A flow is named by its class (4 digits) and tenant. It has a record in FLOWS and a member in
-- ORDER, both 16 digits a number, sorted by bytes:
--   w tag seq     it waits, its head arrived as number seq   -> w class tag seq tenant
--   i tag         idle; forgotten when virtual time gets there -> i class tag tenant
--   b until tag   its tenant's own limits block it until then  -> b until class tag tenant
--@const NUMERAL '%016.0f'
--@const TAG_MAX 9000000000000000 -- 285 years of the bottleneck's time
--@const CHARGE_US_MAX (2 ^ 40)
--@const SLOT_US 1000000 -- what a slot counts where slots are the bottleneck

local function flow_name(c, tenant) return string.format('%04d%s', c, tenant) end

local function member_of(flow, record)
  local class, tenant = string.sub(flow, 1, 4), string.sub(flow, 5)
  local letter, rest = string.sub(record, 1, 1), string.sub(record, 2)
  if letter == 'b' then return 'b' .. string.sub(rest, 1, 16) .. class .. string.sub(rest, 17) .. tenant end
  return letter .. class .. rest .. tenant
end

local function tag_of(record)
  local at = string.sub(record, 1, 1) == 'b' and 18 or 2
  return tonumber(string.sub(record, at, at + 15))
end

local function waits(tag, seq) return 'w' .. string.format(NUMERAL .. NUMERAL, tag, seq) end
local function idles(tag) return 'i' .. string.format(NUMERAL, tag) end
local function blocked(at, tag) return 'b' .. string.format(NUMERAL .. NUMERAL, at, tag) end

-- Replace a flow's record, false for none before and nil for none after. The new one comes first: a key
-- that is empty in between is a new one, and does not expire.
local function move_flow(flow, old, new)
  if new then
    redis.call('ZADD', ORDER, 0, member_of(flow, new))
    redis.call('HSET', FLOWS, flow, new)
    if string.sub(new, 1, 1) == 'i' then s.idle = s.idle + 1 end
  else
    redis.call('HDEL', FLOWS, flow)
  end
  if old and old ~= new then redis.call('ZREM', ORDER, member_of(flow, old)) end
  if old and string.sub(old, 1, 1) == 'i' then s.idle = s.idle - 1 end
end

-- What a call takes of the bottleneck limit, as its time at the limit's rate, by its weight.
local function charge_us(cost, weight)
  local limit = s.limits[s.bottleneck] or s.limits[1]
  local c = math.min(cost[limit[DIM]] or 0, limit[CEILING])
  local us = limit[NUM] > 0 and ceil_div(c * limit[DEN], limit[NUM]) or c * SLOT_US
  return ceil_div(math.max(1, math.min(us, CHARGE_US_MAX)) * 100, weight)
end

-- Forget idle flows, the lowest tags first: those of a class that virtual time has passed, or,
-- when nobody waits, all of them, a hundred per run.
local function forget_flows(from, to, most)
  local found = redis.call('ZRANGEBYLEX', ORDER, from, to, 'LIMIT', 0, most)
  for _, member in ipairs(found) do
    local flow = string.sub(member, 2, 5) .. string.sub(member, 22)
    move_flow(flow, 'i' .. string.sub(member, 6, 21), nil)
  end
  return #found
end
