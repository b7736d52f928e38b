--- What is known of a job: a hash, and three keys beside it, all of which end together.
--
-- root .. 'job:JOB'      hash: state (open, closed, cancelled, ended), total, ok, failed, dropped, tokens, and
--                        what the submitter wrote: priority, level, tenant, submitted_us, keep_ms, name
-- root .. 'done:JOB'     string: a bit for each call that has its result, so that none has two
-- root .. 'results:JOB'  list: result lines, in the order in which calls ended

--- Note that calls of a job came to an end; the last one ends the job, and what is kept of it expires.
local function tally(root, job, field, count)
  local key = root .. 'job:' .. job
  if redis.call('EXISTS', key) == 0 then return end
  redis.call('HINCRBY', key, field, count)
  local found = redis.call('HMGET', key, 'state', 'total', 'ok', 'failed', 'dropped', 'keep_ms')
  local left = tonumber(found[2] or 0)
  for i = 3, 5 do left = left - tonumber(found[i] or 0) end
  if left > 0 or found[1] == 'open' or found[1] == 'ended' then return end
  redis.call('HSET', key, 'state', found[1] == 'cancelled' and 'cancelled' or 'ended')
  for _, name in ipairs({'job:', 'done:', 'results:', 'dead:'}) do
    redis.call('PEXPIRE', root .. name .. job, found[6])
  end
end
