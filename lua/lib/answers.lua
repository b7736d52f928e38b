-- What is needed when a provider's answer is reported, or asked about. It is defined then, once in a
-- run, as lib/waiting.lua is.

local answers = nil

the_answers = function()
  if answers then return answers end
--@include lib/feedback
--@include lib/report
--@include lib/tell
  answers = {report = report, may_repeat = may_repeat, tell = tell_answers, save = save_feedback}
  return answers
end
