-- What providers answered, beside the levels: read when an answer is reported or a call is repeated.
-- One msgpack string, {made, routes, limits}: made is when the limits were (s.made), routes by name,
-- limits by index:
--
--   route  {fails, denied, since, shut_us, cut_at, budget, budget_at}: failures in a row, and when the
--          first one was; how long the circuit was open last; when the pace was cut last; the budget
--          of repeats in fifths of one
--   limit  {at, seen, seen_at, drift, guard, from, base, least, stale, noise, others, paced, base_num, flow,
--          flow_at, flow_was}: when it was last reported on; see lib/drift.lua and lib/pace.lua

--@const BUDGET_START 50 -- a repeat takes 5, so that a fifth of the calls may be repeats (Finagle's default)
--@const BUDGET_MOST 500
--@const BUDGET_US 200000 -- and one repeat a second besides, for fleets that make few calls

local told = nil
local changed = false

local function feedback()
  if told then return told end
  local blob = redis.call('GET', FEEDBACK)
  told = blob and cmsgpack.unpack(blob) or {made = s.made, routes = {}, limits = {}}
  if told.made ~= s.made then told.made, told.limits = s.made, {} end
  return told
end

-- Names are prefixed, and indexes are text, so that no table is empty or looks like an array.
local function look_at_route(route)
  local record = feedback().routes['r' .. route]
    or {fails = 0, denied = 0, since = 0, shut_us = 0, cut_at = 0, budget = BUDGET_START, budget_at = now}
  local grown = math.floor((now - record.budget_at) / BUDGET_US)
  record.budget = math.min(BUDGET_MOST, record.budget + grown)
  record.budget_at = record.budget_at + grown * BUDGET_US
  return record
end

local function look_at_limit(i)
  return feedback().limits['l' .. i]
    or {at = now, seen = 0, seen_at = -1, drift = 0, guard = 0, from = -1, base = 0, least = FOREVER,
        stale = 0, noise = 0, others = 0, paced = 0, base_num = 0, flow = 0, flow_at = now, flow_was = 0}
end

-- The same, to be changed and kept.
local function route_record(route)
  changed = true
  local record = look_at_route(route)
  told.routes['r' .. route] = record
  return record
end

local function limit_record(i)
  local record = look_at_limit(i)
  told.limits['l' .. i] = record
  return record
end

-- Whether a call may be repeated; if so it is counted.
local function may_repeat(route)
  local record = route_record(route)
  if record.budget < 5 then return false end
  record.budget = record.budget - 5
  return true
end

local function save_feedback()
  if not changed then return end
  redis.call('SET', FEEDBACK, cmsgpack.pack(told), 'PX', KEEP_STATE_MS)
end
