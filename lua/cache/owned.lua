--- Delete a key that is not of the type that we write: somebody else's, or damaged.
local function drop_foreign(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
