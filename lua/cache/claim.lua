--- Ask for a stored answer, or for the task of getting it: of all who ask for one, one goes.
--
-- KEYS[1] answer   string: an envelope of limiter/cache/entry.py
-- KEYS[2] flight   hash, while somebody gets the answer, and a lease after each failure:
--                  holder    who does; gone when he failed or gave up
--                  rank      how urgent his call is: one that is more urgent does not wait for him
--                  failures  in a row; after the second nobody waits for anybody
--                  w:CHANNEL whom to wake at the end
--
-- ARGV[1] id        of the one who asks, new for each call
-- ARGV[2] channel   where he is woken; '' if he will not wait
-- ARGV[3] rank      integer
-- ARGV[4] lease_ms  how long a holder is believed to live without a word
-- ARGV[5] most      bytes that an answer may have; a longer one is no answer of ours
-- ARGV[6] seen      the head of the answer that will not do (stale, damaged); '' for none
--
-- Reply: {1, answer, its time to live in ms}   there it is
--        {2}                                   go: you hold the flight
--        {3, ms until the holder's lease ends} wait to be woken, and ask again
--        {4}                                   go, but hold nothing

local answer, flight = KEYS[1], KEYS[2]
local id, rank = ARGV[1], tonumber(ARGV[3])

--@include cache/owned
drop_foreign(answer, 'string')
drop_foreign(flight, 'hash')

local size = redis.call('STRLEN', answer)
if size > 0 and size <= tonumber(ARGV[5]) then
  local found = redis.call('GET', answer)
  if ARGV[6] == '' or string.sub(found, 1, #ARGV[6]) ~= ARGV[6] then
    return {1, found, redis.call('PTTL', answer)}
  end
end

-- Ours end by themselves: one that does not would be waited for without end.
if redis.call('PTTL', flight) == -1 then redis.call('PEXPIRE', flight, ARGV[4]) end

local held = redis.call('HMGET', flight, 'holder', 'rank', 'failures')
local holder, failures = held[1], tonumber(held[3] or 0) or 0
if failures >= 2 then return {4} end
if holder and holder ~= id and (tonumber(held[2]) or 0) >= rank then
  if ARGV[2] ~= '' then redis.call('HSET', flight, 'w:' .. ARGV[2], 1) end
  return {3, redis.call('PTTL', flight)}
end
redis.call('HSET', flight, 'holder', id, 'rank', ARGV[3])
redis.call('PEXPIRE', flight, ARGV[4])
return {2}
