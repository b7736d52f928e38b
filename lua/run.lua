--- Run one batch of operations on one unit (a quota, or a group of them), then grant whoever fits.
--
-- The only script that takes, gives back, queues and grants. One run is atomic: it reads the state
-- once, applies the entries in their order, pumps the line, writes the state once.
--
-- KEYS[1] state     string   levels and counters (see README.md for each key)
-- KEYS[2] quota     hash     the definition, read only when the state is gone
-- KEYS[3] tickets   hash     id -> ticket
-- KEYS[4] line      zset     the tickets of each flow in their order
-- KEYS[5] holds     hash     id -> held reservation
-- KEYS[6] owners    zset     owner -> when to look whether it is alive
-- KEYS[7] numbers   hash     owner -> its last batch, when it was seen, its lease
-- KEYS[8] lapsed    hash     reservations whose owner was lost, for a late settle
-- KEYS[9] flows     hash     flow -> its place between the flows
-- KEYS[10] order    zset     the flows of each class in their order
-- KEYS[11] tenants  hash     tenant -> levels of its own limits
-- KEYS[12] feedback string   what the provider answered
-- KEYS[13] outputs  hash     what calls have in common -> how long their answers became
--
-- ARGV[1] now_us    0: Redis's clock; anything else is for tests and simulations
-- ARGV[2] owner     who sends; made of letters, digits, '-' and '_'
-- ARGV[3] number    grows with each batch of this owner; a batch runs at most once
-- ARGV[4] lease_us  how long the owner may stay silent; 0: an observer, not enrolled
-- ARGV[5] version   the definition that the entries were written for
-- ARGV[6] wake      prefix of the wake-up channels, under the unit's hash tag
-- ARGV[7] publish   PUBLISH, or SPUBLISH in a cluster
-- ARGV[8] entries   msgpack: array of entries, each [op, n, …] (see lib/entries.lua)
--
-- Reply: one ASCII string of integers, so that any client reads it, whatever it decodes.
--   "1" fenced: a batch with this number or a higher one has run; nothing was done
--   "2" stale: the definition is another; "3" undeclared: there is none; nothing was done either
--   "0 next_us mine waiting held L level*L" then, for each entry, its status and what lib/entries.lua
--   says, then "G" and, for each grant to this owner, "n status level*L". next_us: until somebody must
--   run; -1: nobody waits, or only an event can help. mine: 1 if that is this owner.

local now, owner, number, lease = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local s = nil -- the state, see lib/state.lua

--@include lib/numbers
--@include lib/levels
--@include lib/settling
--@include lib/expiry
--@include lib/gates
--@include lib/state
--@include lib/owners
--@include lib/tenants
--@include lib/holds
--@include lib/room
--@include lib/answers
--@include lib/waiting
--@include lib/entries

if not load_state() then return '3' end
if s.version ~= ARGV[5] then return '2' end
if lease > 0 and not enrol() then return '1' end
if s.waiting > 0 then
--@include lib/lost_line
end
if now >= s.lapse then
--@include lib/sweep
end
refill_all(now - s.at)

local before = s.timer
local results = {}
for _, entry in ipairs(cmsgpack.unpack(ARGV[8])) do apply(entry, results) end
if line or before or s.waiting > 0 or s.idle > 0 then the_line().pump() end
if next(own) then
--@include lib/keep
end
if answers then answers.save() end
save_state()
if line then line.send_mail(before) end

local mine = s.timer and owner_of(s.timer[1]) == owner
local reply = {0, due_in(s.timer), mine and 1 or 0, s.waiting, s.held, #s.limits}
append_levels(reply)
local letter = mail[owner] or {}
return table.concat(reply, ' ') .. (#results > 0 and ' ' or '') .. table.concat(results, ' ')
  .. ' ' .. (letter.count or 0) .. (letter.count and ' ' or '') .. table.concat(letter, ' ')
