-- Mail: what each owner must hear of this run. Our own goes into the reply, the rest out by publish.

local asking, answered = nil, false -- the acquire under way hears of itself by its status

local function tell(id, status)
  if id == asking then
    answered = status
    return
  end
  local name, n = string.match(id, '^([^:]*):(%d+)$')
  local letter = mail[name] or {count = 0}
  letter.count = letter.count + 1
  letter[#letter + 1] = tonumber(n)
  letter[#letter + 1] = status
  append_levels(letter)
  mail[name] = letter
end

-- One message per owner that was granted something, and one to whoever must run next, when that is
-- somebody else than before or earlier than it was told: it runs the timer, nobody else.
local function send_mail(before)
  local timer = s.timer
  local keeper = timer and owner_of(timer[1])
  local news = timer and (not before or timer[1] ~= before[1] or before[2] < 0 and timer[2] >= 0
    or timer[2] >= 0 and timer[2] < before[2] - 1000)
  if news and keeper ~= owner and not mail[keeper] then mail[keeper] = {count = 0} end
  for name, letter in pairs(mail) do
    if name ~= owner then
      local next_us = name == keeper and due_in(timer) or -1
      redis.call(ARGV[7], ARGV[6] .. name,
        table.concat({next_us, #s.limits, letter.count, table.concat(letter, ' ')}, ' '))
    end
  end
end

-- A grant to an owner that is lost would be heard by nobody.
local function is_alive(name)
  if name == owner then return true end
  local _, seen, term = read_owner(name)
  return seen ~= nil and seen + term > now
end
