-- How long answers became: a hash, key -> msgpack {at, total, bucket, count, bucket, count, …}, a sketch.
-- A key says what calls have in common whose answers are alike (limiter/providers/alike.py); a bucket
-- is a range of numbers of tokens (limiter/core/sketch.py), here it is only counted. Buckets ascend.
--@const SKETCH_AT 1 -- of its last answer
--@const SKETCH_TOTAL 2
--@const SKETCH_FIRST 3
--@const SKETCHES 64 -- by unit
--@const SKETCH_LEAST 20 -- of fewer answers no quantile is told
--@const SKETCH_FULL 1000 -- then all counts are halved
--@const DAY_US 86400000000

local function add(sketch, bucket)
  local i = SKETCH_FIRST
  while sketch[i] and sketch[i] < bucket do i = i + 2 end
  if sketch[i] ~= bucket then
    table.insert(sketch, i, 0)
    table.insert(sketch, i, bucket)
  end
  sketch[i + 1], sketch[SKETCH_TOTAL] = sketch[i + 1] + 1, sketch[SKETCH_TOTAL] + 1
  sketch[SKETCH_AT] = now
end

-- The sum up to each bucket is halved, and so the total: no quantile moves by more than one answer.
local function halved(sketch)
  local kept, sum = {sketch[SKETCH_AT], math.floor(sketch[SKETCH_TOTAL] / 2)}, 0
  for i = SKETCH_FIRST, #sketch, 2 do
    local before = math.floor(sum / 2)
    sum = sum + sketch[i + 1]
    local left = math.floor(sum / 2) - before
    if left > 0 then kept[#kept + 1], kept[#kept + 2] = sketch[i], left end
  end
  return kept
end

-- The bucket that so many of a thousand answers are not above; 0: too few were seen.
local function quantile_of(sketch, permille)
  if sketch[SKETCH_TOTAL] < SKETCH_LEAST then return 0 end
  local rank, i = ceil_div(sketch[SKETCH_TOTAL] * permille, 1000), SKETCH_FIRST
  while rank > sketch[i + 1] do rank, i = rank - sketch[i + 1], i + 2 end
  return sketch[i]
end

-- By bytes: how Lua itself compares text depends on where the server was started.
local function is_before(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- Take out the sketch of the fewest answers, halved for each day since the last one.
local function make_room()
  local all, least, place = redis.call('HGETALL', OUTPUTS), nil, nil
  for i = 1, #all, 2 do
    local sketch = cmsgpack.unpack(all[i + 1])
    local days = math.floor(math.max(0, now - sketch[SKETCH_AT]) / DAY_US)
    local weight = math.floor(sketch[SKETCH_TOTAL] / 2 ^ days)
    if not least or weight < least or weight == least and is_before(all[i], place) then
      least, place = weight, all[i]
    end
  end
  redis.call('HDEL', OUTPUTS, place)
end

local function ask_outputs(id, key, bucket, permille)
  local blob, status = redis.call('HGET', OUTPUTS, key), DONE
  local sketch = blob and cmsgpack.unpack(blob) or {now, 0}
  if bucket > 0 and redis.call('HEXISTS', HOLDS, id) == 0 then
    status = GONE -- a replay, behind the settling: it was counted
  elseif bucket > 0 then
    local known = blob and 0 or redis.call('HLEN', OUTPUTS)
    if known >= SKETCHES then make_room() end
    add(sketch, bucket)
    if sketch[SKETCH_TOTAL] >= SKETCH_FULL then sketch = halved(sketch) end
    redis.call('HSET', OUTPUTS, key, cmsgpack.pack(sketch))
    if not blob and known == 0 then redis.call('PEXPIRE', OUTPUTS, KEEP_QUOTA_MS) end
  end
  return status, sketch[SKETCH_TOTAL], quantile_of(sketch, permille)
end
