--- Wake all who wait for a flight; each asks again. Their names go: who goes on waiting says so.
local function wake(flight, message)
  local fields = redis.call('HKEYS', flight)
  for _, field in ipairs(fields) do
    if string.sub(field, 1, 2) == 'w:' then
      redis.call('PUBLISH', string.sub(field, 3), message)
      redis.call('HDEL', flight, field)
    end
  end
end
