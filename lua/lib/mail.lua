-- Mail: what each owner must hear of this run. Our own goes into the reply, the rest out by publish.

local mail = {} -- owner -> {n, status, level…, …, count = grants}

local function tell(id, status)
  local name, n = string.match(id, '^([^:]*):(%d+)$')
  local letter = mail[name] or {count = 0}
  letter.count = letter.count + 1
  letter[#letter + 1] = tonumber(n)
  letter[#letter + 1] = status
  append_levels(letter)
  mail[name] = letter
end

-- One message per owner that was granted something, and one to the owner of the head, when it is
-- a new head or fits earlier than it was told: the head's owner runs the timer, nobody else.
local function send_mail(head_before, fit_before)
  local head_owner = s.head and owner_of(s.head[1])
  local news = s.head and (s.head[1] ~= head_before or fit_before < 0 and s.head[2] >= 0
    or s.head[2] >= 0 and s.head[2] < fit_before - 1000)
  if news and head_owner ~= owner and not mail[head_owner] then mail[head_owner] = {count = 0} end
  for name, letter in pairs(mail) do
    if name ~= owner then
      local next_us = -1
      if name == head_owner and s.head[2] >= 0 then next_us = math.max(0, s.head[2] - now) end
      redis.call(ARGV[7], ARGV[6] .. name,
        table.concat({next_us, #s.limits, letter.count, table.concat(letter, ' ')}, ' '))
    end
  end
end
