-- Which globals a script reads before they are there, while it is loaded: a function's name that is misspelt, or
-- stands further down, is nil in a table of functions, and nobody sees that it isn't in there.
--
-- Called with the script's globals before it runs. Returns what ends the watching: then the globals are as they
-- were, and reading them costs no more than ever; it returns the warnings, a line each.

local native, globals = ...

local SHOWN_MAX = 5

-- What other Luas have: scripts that run there, too, look whether it is here.
local elsewhere = {}
for _, name in ipairs { "arg", "bit", "bit32", "debug", "dofile", "getfenv", "io", "jit", "loadfile", "loadstring",
   "module", "newproxy", "ngx", "package", "setfenv", "unpack", "warn" } do
   elsewhere[name] = true
end

local before = { ["if"] = true, ["elseif"] = true, ["while"] = true, ["until"] = true, ["not"] = true }
local behind = { ["or"] = true, ["and"] = true, ["then"] = true, ["do"] = true }

-- Does the line ask whether there is one? x or {}, if not x, x == nil, type(x), _G.x
local function is_asked_for(name, line)
   if line:find("_G", 1, true) or line:find("_ENV", 1, true) then
      return true
   end
   local from = 1
   while true do
      local first, last = line:find("%f[%w_]" .. name .. "%f[^%w_]", from)
      if not first then
         return false
      end
      local left, right = line:sub(1, first - 1), line:sub(last + 1)
      if before[left:match("%f[%w_](%l+)[%s(]*$")] or left:find("[=~]=%s*$") or left:find("%f[%w_]type%s*%(%s*$")
         or behind[right:match("^%s*(%l+)")] or right:find("^%s*[=~]=") then
         return true
      end
      from = last + 1
   end
end

local notes, noted = {}, {} -- in their order; and by name

local function note(_, name)
   if type(name) ~= "string" or noted[name] or elsewhere[name] or not name:find("^[%a_][%w_]*$") then
      return nil
   end
   local file, line, text = native.place()
   if file and not is_asked_for(name, text) then
      noted[name] = true
      notes[#notes + 1] = { name = name, place = ("%s:%d"):format(file, line) }
   end
   return nil
end

-- A script may use this very table, or put another one in its place: what it has made of it stays.
local watching = { __index = note }
setmetatable(globals, watching)

return function()
   if rawequal(watching.__index, note) then
      watching.__index = nil
   end
   if rawequal(getmetatable(globals), watching) and next(watching) == nil then
      setmetatable(globals, nil)
   end
   local lines = {}
   for i, found in ipairs(notes) do
      if i > SHOWN_MAX then
         lines[i] = ("globals that are nil where the script reads them: there are %d more"):format(#notes - SHOWN_MAX)
         break
      end
      lines[i] = ("%s: the global '%s' is nil here: %s"):format(found.place, found.name,
         rawget(globals, found.name) == nil and "is it misspelt, or defined further down?"
            or "it gets its value further down")
   end
   return table.concat(lines, "\n")
end
