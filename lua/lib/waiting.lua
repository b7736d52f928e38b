-- All that is needed when somebody waits. It is defined then, once in a run, because most runs find
-- nobody: to make these functions takes longer than such a run.

local mail = {} -- owner -> {n, status, level…, …, count = grants}
local line = nil

the_line = function()
  if line then return line end
--@include lib/flows
--@include lib/classes
--@include lib/line
--@include lib/heads
--@include lib/rank
--@include lib/waits
--@include lib/outlook
--@include lib/mail
--@include lib/pump
--@include lib/tickets
  line = {join = join, leave = leave_line, look = look, pump = pump,
          unblock_tenant = unblock_tenant, send_mail = send_mail, wait_behind = wait_behind}
  return line
end
