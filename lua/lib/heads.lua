-- The head of a class: the first ticket of the flow with the lowest start tag. It is kept in the
-- state, so that most runs decide without another read. A flow that its tenant's own limits block
-- steps aside, and comes back when they allow it.

--@const RECHECK_US 5000000 -- a blocked flow is looked at again after this at the latest

--@const BLOCKS 100 -- flows that step aside in one run; the next one goes on, at once

local blocks = 0

local function block(flow, record, id, at)
  blocks = blocks + 1
  local until_us = now + RECHECK_US
  if at ~= NOT_BEFORE_EVENT then until_us = math.min(until_us, at) end
  move_flow(flow, record, blocked(until_us, tag_of(record)))
  if not s.recheck or until_us < s.recheck[1] then s.recheck = {until_us, id} end
end

unblock = function(flow, record)
  local class = s.classes[tonumber(string.sub(flow, 1, 4))]
  local seq = first_of(flow)
  local tag = math.max(class[VIRTUAL], tag_of(record))
  move_flow(flow, record, seq and waits(tag, seq) or nil)
  class[HEAD] = false
end

-- A tenant got something back: its flows are looked at again.
local function unblock_tenant(tenant)
  for c in ipairs(s.classes) do
    local flow = flow_name(c, tenant)
    local record = redis.call('HGET', FLOWS, flow)
    if record and string.sub(record, 1, 1) == 'b' then unblock(flow, record) end
  end
end

-- Let the flows back in whose time has come, or all when their limits have changed; a hundred per run.
local function unblock_due()
  if not s.recheck or s.recheck[1] > now then return end
  local to = s.recheck[1] == 0 and '(c' or '(b' .. string.format(NUMERAL, now + 1)
  local due = redis.call('ZRANGEBYLEX', ORDER, '[b', to, 'LIMIT', 0, 100)
  for _, member in ipairs(due) do
    local tag = string.sub(member, 22, 37)
    unblock(string.sub(member, 18, 21) .. string.sub(member, 38), 'b' .. string.sub(member, 2, 17) .. tag)
  end
  s.recheck = false
  local first = redis.call('ZRANGEBYLEX', ORDER, '[b', '(c', 'LIMIT', 0, 1)[1]
  if first then
    local _, id = first_of(string.sub(first, 18, 21) .. string.sub(first, 38))
    s.recheck = {tonumber(string.sub(first, 2, 17)), id}
  end
end

-- Where a key was evicted the rest is cleared away: a ticket stands everywhere, or nowhere.
local function find_head(c)
  local class, name = s.classes[c], string.format('%04d', c)
  local after = string.format('(w%04d', c + 1)
  while blocks < BLOCKS do
    local member = redis.call('ZRANGEBYLEX', ORDER, '[w' .. name, after, 'LIMIT', 0, 1)[1]
    if not member then return end
    local record, tenant = 'w' .. string.sub(member, 6, 37), string.sub(member, 38)
    local flow = name .. tenant
    local seq, id = first_of(flow)
    local ticket = id and read_ticket(id)
    if ticket then
      local at = is_limited(tenant) and fit_at(own_buckets(tenant), ticket.cost) or now
      if at == now then
        class[HEAD] = {id, tag_of(record), seq, ticket.weight, tenant, ticket.cost}
        return
      end
      block(flow, record, id, at)
    elseif id then
      redis.call('ZREM', LINE, line_member(flow, seq, id))
    else
      move_flow(flow, record, nil)
    end
  end
end
