-- What a script may reach: an allow list, as data, and the few functions that replace Lua's own.
--
-- Called once for each new state, with the real libraries and the native functions; returns the
-- script's globals. Whatever isn't named here doesn't exist for a script: no io, no os.execute, no
-- debug, no package, no bytecode. The libraries are handed out behind read-only proxies, since a
-- state serves many events and one of them must not change `string` for the next.

local real, native = ...

local allowed = {
   base = {
      "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
      "rawlen", "select", "tonumber", "tostring", "type", "_VERSION",
   },
   string = {
      "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "pack",
      "packsize", "rep", "reverse", "sub", "unpack", "upper",
   },
   table = { "concat", "insert", "move", "pack", "remove", "sort", "unpack" },
   math = {
      "abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge", "log",
      "max", "maxinteger", "min", "mininteger", "modf", "pi", "rad", "random", "randomseed", "sin",
      "sqrt", "tan", "tointeger", "type", "ult",
   },
   utf8 = { "char", "charpattern", "codepoint", "codes", "len", "offset" },
   coroutine = {
      "close", "create", "isyieldable", "resume", "running", "status", "wrap", "yield",
   },
   os = { "clock", "date", "difftime", "time" },
}

local next, rawget, rawset, setmetatable, type = next, rawget, rawset, setmetatable, type
local load, pcall, raise, settle = real.base.load, real.base.pcall, native.raise, native.settle
local framed = native.framed
local protected = setmetatable({}, { __mode = "k" })

-- Functions are made to keep the frame of who calls them, in place: a script may say `return f()`, and an error
-- of f's is to name that line.
local function keep_frames(library)
   for name, value in next, library do
      if type(value) == "function" then
         library[name] = framed(value)
      end
   end
end

local function read_only(name, library)
   keep_frames(library)
   local proxy = setmetatable({}, {
      __index = library,
      __newindex = function(_, key)
         raise(name .. " is read-only: '" .. tostring(key) .. "' can't be set; use a local of your own")
      end,
      __pairs = function()
         local key
         return function()
            local value
            key, value = next(library, key)
            return key, value
         end
      end,
      __metatable = false,
      __name = name, -- "ctx can't be JSON"
   })
   protected[proxy] = name
   return proxy
end

local function pick(library, names)
   local picked = {}
   for _, name in ipairs(names) do
      picked[name] = library[name]
   end
   return picked
end

local globals = pick(real.base, allowed.base)
globals._G = globals

-- ("x"):rep(3) finds its functions through the metatable of strings: the same, allowed ones.
local strings = pick(real.string, allowed.string)
local string_metatable = getmetatable("")
string_metatable.__index = strings
string_metatable.__metatable = false

local library_of = { string = strings }
for _, name in ipairs { "table", "math", "utf8", "coroutine", "os" } do
   library_of[name] = pick(real[name], allowed[name])
end
for name, library in pairs(library_of) do
   globals[name] = read_only(name, library)
end
globals.print = native.print

-- An error of Lua's own functions names the line of who called them, which would be one in here: so what they want
-- is seen to before.
local function check_type(value, wanted, called)
   if type(value) ~= wanted then
      raise(("%s wants a %s, not %s"):format(called, wanted, native.kind(value)))
   end
end

function globals.rawset(t, key, value)
   if protected[t] then
      raise(protected[t] .. " is read-only")
   end
   check_type(t, "table", "rawset")
   settle(t)
   return rawset(t, key, value)
end

-- A finalizer runs when no time limit is watching; so there are none.
function globals.setmetatable(t, metatable)
   if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
      raise("__gc isn't available to scripts: use __close or do the work before the function ends")
   end
   settle(t)
   local ok, problem = pcall(setmetatable, t, metatable) -- pcall has no lines: the problem names none
   if not ok then
      raise(problem)
   end
   return t
end

local texts = { string = true, number = true } -- types; Lua takes a number for its digits

function globals.load(chunk, name, mode, env)
   if mode ~= nil and mode ~= "t" then
      raise("load takes text only: mode must be \"t\"")
   end
   if env == nil then
      env = globals
   end
   if type(chunk) ~= "function" and not texts[type(chunk)] then
      raise("load wants a text, or a function that gives it in parts, not " .. native.kind(chunk))
   elseif name ~= nil and not texts[type(name)] then
      raise("load wants a text as the chunk's name, not " .. native.kind(name))
   end
   return load(chunk, name, "t", env)
end

function globals.collectgarbage(option)
   if option == "count" then
      return real.base.collectgarbage("count")
   elseif option == nil or option == "collect" or option == "step" then
      return 0 -- the collector runs by itself, within the memory limit
   end
   raise("collectgarbage('" .. tostring(option) .. "') isn't available to scripts")
end

-- Lua switches hooks off while a hook's error is on its way: a message handler would run with no time limit. So it
-- is called after the error has arrived.

local pack, unpack = real.table.pack, real.table.unpack

function globals.xpcall(f, handler, ...)
   local results = pack(pcall(f, ...))
   if results[1] then
      return unpack(results, 1, results.n)
   end
   local _, message = pcall(handler, results[2])
   return false, message
end

-- require: modules are files beside the script. Their text is kept, so that a state that must be
-- made anew is made of the same text.
local loaded, loading = {}, {}

function globals.require(name)
   if type(name) ~= "string" then
      raise("require wants the name of a module, not " .. native.kind(name))
   end
   local value = loaded[name]
   if value ~= nil then
      return value
   end
   if loading[name] then
      raise("module '" .. name .. "' requires itself")
   end
   local text, file = native.module(name)
   if not text then
      raise(file)
   end
   local chunk, problem = load(text, "@" .. file, "t", globals)
   if not chunk then
      error(problem, 0)
   end
   loading[name] = true
   local _ <close> = setmetatable({}, { __close = function() loading[name] = nil end })
   value = chunk(name, file)
   if value == nil then
      value = true
   end
   loaded[name] = value
   return value
end

-- Not xpcall: it raises nothing, and each level of it would be one more of those that Lua allows in C.
for _, name in ipairs { "rawset", "setmetatable", "load", "collectgarbage", "require" } do
   globals[name] = framed(globals[name])
end

return { globals = globals, loaded = loaded, read_only = read_only }
