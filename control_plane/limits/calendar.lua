-- The UTC month of a Unix time, and when it ends. Returns year * 12 + (month - 1), and the first second of the next month.
-- Days are counted from 1 March of year 0, so that the leap day is the last of its year (H. Hinnant, "chrono-Compatible
-- Low-Level Date Algorithms"). admit.lua is appended to this file; a test runs it alone against Python's calendar.
local floor = math.floor

local function first_day(month)  -- of a month counted as year * 12 + (month - 1); in days since 1970-01-01
  local shifted = month - 2
  local year = floor(shifted / 12)
  local era = floor(year / 400)
  local year_of_era = year - era * 400
  local day_of_year = floor((153 * (shifted - year * 12) + 2) / 5)
  return era * 146097 + year_of_era * 365 + floor(year_of_era / 4) - floor(year_of_era / 100) + day_of_year - 719468
end

local function month_of(time_s)
  local days = floor(time_s / 86400) + 719468
  local era = floor(days / 146097)
  local day_of_era = days - era * 146097
  local year_of_era = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524) - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + floor(year_of_era / 4) - floor(year_of_era / 100))
  local month = (era * 400 + year_of_era) * 12 + floor((5 * day_of_year + 2) / 153) + 2
  return month, first_day(month + 1) * 86400
end

