--- Ask whether calls that a broker delivered are still to be made; or note that they go back unmade.
--
-- KEYS[1] root    as in put.lua
--
-- ARGV[1] how     'claim' or 'release'
-- ARGV[2…] ids    of calls
--
-- Reply: {n, …}: of 'claim', how often each was claimed before and neither finished nor released, which is how
--   many workers were lost that had it; -1: it has ended, or its job has, and the broker may forget it.
--   Of 'release', what is left of the count
--
-- root .. 'lost'  as in take.lua; of a call that a broker carries, the worker that has it is counted, too

local root, how = KEYS[1], ARGV[1]
--@include queue/jobs

--- Say whether a call is still to be made; that it is not any more is counted once, however often it comes.
local function is_wanted(id)
  local job, number = string.match(id, '^(.*):(%d+)$')
  if redis.call('GETBIT', root .. 'done:' .. job, number) == 1 then return false end
  if redis.call('HEXISTS', root .. 'dead:' .. job, number) == 1 then return false end
  local state = redis.call('HGET', root .. 'job:' .. job, 'state')
  if state == 'cancelled' then
    redis.call('SETBIT', root .. 'done:' .. job, number, 1)
    tally(root, job, 'dropped', 1)
  end
  return state == 'open' or state == 'closed'
end

local reply = {}
for i = 2, #ARGV do
  local id, count = ARGV[i], -1
  if how == 'release' then
    count = redis.call('HINCRBY', root .. 'lost', id, -1)
  elseif is_wanted(id) then
    count = redis.call('HINCRBY', root .. 'lost', id, 1) - 1
  end
  if count < 0 or (how == 'release' and count == 0) then redis.call('HDEL', root .. 'lost', id) end
  reply[i - 1] = count
end
return reply
