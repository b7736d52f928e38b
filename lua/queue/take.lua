--- Take calls to be made: of the highest levels first, within a level of each tenant in turn.
--
-- KEYS[1] root       as in put.lua
--
-- ARGV[1] lease_ms   how long they are believed to be made without a word of the worker's
-- ARGV[2] tries      a call that was lost so often is dead
-- ARGV[3] most       how many in all
-- ARGV[4] each       how many of a level that is not named below
-- ARGV[5] above      only of levels above this one; '-inf': of all
-- ARGV[6…]           level, most: of that level
--
-- Reply: {due_ms, id, level, tenant, lost, call, …}: due_ms until the next call comes back that is put off or
--   whose worker is silent, -1 for none; then five values for each call
--
-- root .. 'leases'   sorted set: calls that are being made, by the ms when their lease ends
-- root .. 'later'    sorted set: calls that are put off, by the ms when they come back
-- root .. 'taken'    hash: of both, level, tenant and call, each but the last before a line feed
-- root .. 'lost'     hash: how often a call's worker was lost

local root, lease_ms, most_lost = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
--@include queue/lines
--@include queue/jobs
--@include queue/dead
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

--@include queue/returns
come_back(root, 'leases', now, most_lost)
come_back(root, 'later', now, nil)

local taken, allowed = {-1}, {}
local passed = 1000 -- calls of cancelled jobs that are dropped in one run: others have to come in between
for i = 6, #ARGV, 2 do allowed[ARGV[i]] = tonumber(ARGV[i + 1]) end
local function take(level, count)
  while count > 0 and passed > 0 do
    local call, tenant = pop(root, level)
    if not call then return count end
    local id = string.match(call, '^[^\n]*')
    local job, number = string.match(id, '^(.*):(%d+)$')
    local state = redis.call('HGET', root .. 'job:' .. job, 'state')
    if redis.call('GETBIT', root .. 'done:' .. job, number) == 1 then
      redis.call('HDEL', root .. 'lost', id) -- its result came after its lease
    elseif state == 'open' or state == 'closed' then
      redis.call('ZADD', root .. 'leases', now + lease_ms, id)
      redis.call('HSET', root .. 'taken', id, level .. '\n' .. tenant .. '\n' .. call)
      local lost = tonumber(redis.call('HGET', root .. 'lost', id) or 0)
      for _, value in ipairs({id, level, tenant, lost, call}) do taken[#taken + 1] = value end
      count = count - 1
    else
      tally(root, job, 'dropped', 1)
      passed = passed - 1
    end
  end
  return count
end
local most = tonumber(ARGV[3])
for _, level in ipairs(redis.call('ZREVRANGEBYSCORE', root .. 'levels', '+inf', '(' .. ARGV[5])) do
  local room = math.min(most, allowed[level] or tonumber(ARGV[4]))
  if room > 0 then most = most - (room - take(level, room)) end
end
for _, set in ipairs({'leases', 'later'}) do
  local first = redis.call('ZRANGE', root .. set, 0, 0, 'WITHSCORES')[2]
  if first then
    local due = math.max(0, tonumber(first) - now)
    if taken[1] < 0 or due < taken[1] then taken[1] = due end
  end
end
if passed == 0 then taken[1] = 0 end -- there is more
return taken
