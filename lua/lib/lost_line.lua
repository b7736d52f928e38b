-- A ticket stands everywhere, or nowhere: where a key of the line is missing (evicted, or expired in a
-- silence that the state outlived), the line is cleared. Its owners ask again when they hear of it.

if redis.call('EXISTS', TICKETS, LINE, FLOWS, ORDER) < 4 then
  redis.call('DEL', TICKETS, LINE, FLOWS)
  redis.call('ZREMRANGEBYLEX', ORDER, '-', '(q') -- all but the looks at tenants
  redis.call('ZREMRANGEBYLEX', ORDER, '[r', '+')
  for _, priority in ipairs(s.priorities) do priority[WAITS] = 0 end
  s.classes, s.waiting, s.idle, s.timer, s.recheck = {}, 0, 0, false, false
end
