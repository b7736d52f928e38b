--- Keep a call that failed for good, with why, so that it can be tried again.
--
-- root .. 'dead:JOB'  hash: by the call's number, why (a result line), level, tenant and the call, each but the
--                     last before a line feed. It ends with its job

local function bury(root, id, why, level, tenant, call)
  local job, number = string.match(id, '^(.*):(%d+)$')
  if redis.call('GETBIT', root .. 'done:' .. job, number) == 1 then return 0 end
  local kept = table.concat({why, level, tenant, call}, '\n')
  if redis.call('HSET', root .. 'dead:' .. job, number, kept) == 0 then return 0 end
  tally(root, job, 'failed', 1)
  return 1
end
