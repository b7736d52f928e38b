--- Put calls back to the heads of their lines whose time has come, of those that are being made or put off.
--
-- set        'leases': their workers were lost; with the last one that a call may lose it is dead
--            'later': they were put off
-- most_lost  nil: nobody was lost

local function come_back(root, set, now, most_lost)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', root .. set, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', root .. set, id)
    local kept = redis.call('HGET', root .. 'taken', id)
    redis.call('HDEL', root .. 'taken', id)
    local level, tenant, call = string.match(kept or '', '^([^\n]*)\n([^\n]*)\n(.*)$')
    if call and most_lost and redis.call('HINCRBY', root .. 'lost', id, 1) >= most_lost then
      bury(root, id, cjson.encode({custom_id = cjson.null, response = cjson.null,
        error = {code = 'worker_lost', message = 'Its worker was lost ' .. most_lost .. ' times.'}}),
        level, tenant, call)
      redis.call('HDEL', root .. 'lost', id)
    elseif call then
      push(root, level, tenant, call, true)
    end
  end
end
