-- What is needed when a length of answers is told, or asked about. It is defined then, once in a run, as
-- lib/waiting.lua is.

local forecast = nil

local function the_forecast()
  if forecast then return forecast end
--@include lib/outputs
  forecast = ask_outputs
  return forecast
end
