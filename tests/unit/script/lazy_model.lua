-- Random operations on an event's table and on authkit.json.decode of the same text, which is never
-- lazy: each must come to the same on both, errors included. test_lazy.c calls model.keep with a
-- text, then model.run with that very text as the event and the seed in model.seed before it.

local authkit = require "authkit"

authkit.schema { things = { columns = { id = "json?", a = "json?", name = "json?" } } }

local random, state = nil, nil

-- xorshift, so that a seed means the same history everywhere.
local function seed(n)
   state = (n * 2654435761 + 88172645463325252) & math.maxinteger
   random = function(low, high)
      state = state ~ (state << 13)
      state = state ~ (state >> 7)
      state = state ~ (state << 17)
      return low + (state & math.maxinteger) % (high - low + 1)
   end
end

local function pick(list)
   return list[random(1, #list)]
end

local names = {
   "id", "a", "b", "name", "late", "data", "", "é", "\u{FFFD}", "a\0", "quote\"", "__index", "__len",
   "__metatable", "__name", "__pairs", "__newindex", "absent", ("long"):rep(20),
}

-- Every table of the one side and what it is on the other.
local partner, back, list

local function pair_up(a, b)
   if partner[a] == nil and back[b] == nil then
      partner[a], back[b] = b, a
      list[#list + 1] = { a, b }
   end
   return partner[a] == b and back[b] == a
end

local function show(value)
   return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function check_same(a, b, what)
   if type(a) == "table" and type(b) == "table" then
      if not pair_up(a, b) then
         error(what .. ": not the table that it was")
      end
   elseif not rawequal(a, b) or math.type(a) ~= math.type(b) then
      error(("%s: %s instead of %s"):format(what, show(a), show(b)))
   end
end

local function plain(text)
   return type(text) == "string" and (text:gsub("0x%x+", "0x")) or text
end

-- Run it on both sides; all that it returns, or raises, must be the same.
local function both(what, operation, a, b, ...)
   local one, other = table.pack(pcall(operation, a, ...)), nil
   local arguments = table.pack(...)
   for i = 1, arguments.n do
      if type(arguments[i]) == "table" and partner[arguments[i]] then
         arguments[i] = partner[arguments[i]]
      end
   end
   other = table.pack(pcall(operation, b, table.unpack(arguments, 1, arguments.n)))
   check_same(one.n, other.n, what .. " (results)")
   check_same(one[1], other[1], what .. " (success): " .. show(one[2]) .. " or " .. show(other[2]))
   for i = 2, one.n do
      check_same(plain(one[i]), plain(other[i]), what)
   end
end

-- As lists that are sorted, so that orders of their own don't matter.
local function members(iterate)
   return function(t)
      local keys, values = {}, {}
      for key, value in iterate(t) do
         assert(values[key] == nil, "a key twice")
         keys[#keys + 1] = key
         values[key] = value
      end
      table.sort(keys, function(x, y)
         return tostring(x) < tostring(y)
      end)
      local flat = {}
      for i, key in ipairs(keys) do
         flat[2 * i - 1], flat[2 * i] = key, values[key]
      end
      return #keys, table.unpack(flat, 1, 2 * #keys)
   end
end

local kept_ctx

-- What a metatable or a key is made of must be the same on both sides.
local function made_of(_, name)
   return "made of " .. tostring(name)
end

local function forty_two()
   return 42
end

local function other_pairs()
   return next, { only = 1 }, nil
end

local function drop() end

-- Where the first of many members is complained of, which one that is depends on their order.
local function result_or_error(operation)
   return function(...)
      local results = table.pack(pcall(operation, ...))
      if not results[1] then
         return "an error"
      end
      return table.unpack(results, 2, results.n)
   end
end

local operations = {
   read = function(t, key)
      return t[key]
   end,
   read_twice = function(t, key)
      return rawequal(t[key], t[key]), t[key]
   end,
   write = function(t, key, value)
      t[key] = value
      return t[key]
   end,
   forget = function(t, key)
      t[key] = nil
      return t[key]
   end,
   read_and_forget = function(t, key)
      local value = t[key]
      t[key] = nil
      return value, t[key]
   end,
   rawget = function(t, key)
      return rawget(t, key)
   end,
   rawset = function(t, key, value)
      return rawequal(rawset(t, key, value), t), rawget(t, key)
   end,
   length = function(t)
      return #t, rawlen(t)
   end,
   pairs = members(pairs),
   pairs_gives = function(t)
      local f, s, k = pairs(t)
      return rawequal(f, next), rawequal(s, t), k
   end,
   next = members(function(t)
      return next, t
   end),
   next_of_nothing = function(t)
      return next(t, "such a key is nowhere")
   end,
   empty = function(t)
      return next(t) == nil
   end,
   clear = function(t)
      for key in pairs(t) do
         t[key] = nil
      end
      return next(t) == nil
   end,
   ipairs = function(t)
      local n = 0
      for _ in ipairs(t) do
         n = n + 1
         if n == 50 then
            break -- a function that __index calls has a value for every place
         end
      end
      return n
   end,
   getmetatable = function(t)
      return getmetatable(t)
   end,
   take_metatable_away = function(t)
      return rawequal(setmetatable(t, nil), t)
   end,
   defaults = function(t, key)
      setmetatable(t, { __index = { [key] = "a default" }, __name = "mine" })
      return t[key], rawget(t, key)
   end,
   index_function = function(t, key)
      setmetatable(t, {
         __index = made_of,
         __len = forty_two,
      })
      return t[key], #t, rawlen(t)
   end,
   own_pairs = function(t)
      setmetatable(t, {
         __pairs = other_pairs,
      })
      local seen
      for key, value in pairs(t) do
         seen = key
      end
      return seen
   end,
   newindex = function(t, key, value)
      setmetatable(t, {
         __newindex = drop,
      })
      t[key] = value
      return t[key], rawget(t, key)
   end,
   as_metatable = function(t, key)
      local made = setmetatable({}, t)
      local shown = getmetatable(made)
      return shown == t and "itself" or shown, made[key], #made
   end,
   behind_another = function(t, key, value)
      local front = setmetatable({}, { __index = t, __newindex = t })
      local before = front[key]
      front[key] = value
      return before, front[key], rawget(front, key)
   end,
   as_environment = function(t, key)
      local f = load("local name = ...; a = 5; id = nil; return a, id, name", "=env", "t", t)
      return f(key)
   end,
   nil_key = function(t)
      t[nil] = 1
   end,
   nan_key = function(t)
      t[0 / 0] = 1
   end,
   nil_key_behind = function(t)
      setmetatable({}, { __newindex = t })[nil] = 1
   end,
   odd_keys = function(t)
      t[1.0], t[drop], t[true] = "one", "f", "yes"
      return t[1], t[drop], t[true], t[2 ^ 53], #t
   end,
   arithmetic = function(t)
      return t + 1
   end,
   concat = function(t)
      return t .. ""
   end,
   compare = function(t)
      return t < t
   end,
   call = function(t)
      return t()
   end,
   close = function(t)
      local closed <close> = t
   end,
   iterate = function(t)
      for _ in t do
      end
   end,
   deep = function(t, key)
      return t[key].x.y
   end,
   method = function(t)
      return t:absent()
   end,
   equal = function(t, key)
      return t == t, t == {}, t[key] == t[key]
   end,
   insert = function(t, key, value)
      table.insert(t, value)
      return #t, t[#t]
   end,
   remove = function(t)
      return table.remove(t)
   end,
   sort = function(t)
      table.sort(t, function(x, y)
         return plain(tostring(x)) < plain(tostring(y))
      end)
      return #t
   end,
   table_concat = function(t)
      return table.concat(t, ",", 1, 2)
   end,
   unpack = function(t)
      return table.unpack(t, 1, 3)
   end,
   move = function(t)
      return rawequal(table.move({ "x", "y" }, 1, 2, 1, t), t), #t
   end,
   gsub = function(t, key)
      return (("id a %s"):format(key):gsub("%w+", t))
   end,
   date = function(t)
      return os.time(t)
   end,
   encode = result_or_error(function(t)
      return authkit.json.encode(t)
   end),
   encode_around = result_or_error(function(t)
      return authkit.json.encode { around = t }
   end),
   array = result_or_error(function(t)
      return rawequal(authkit.json.array(t), t), authkit.json.encode(t)
   end),
   insert_row = result_or_error(function(t)
      for _, name in ipairs(names) do
         if name ~= "id" and name ~= "a" and name ~= "name" then
            t[name] = nil
         end
      end
      local id = kept_ctx.db.insert("things", t)
      return kept_ctx.db.get("things", id).id, id > 0
   end),
   insert_column = result_or_error(function(t)
      local id = kept_ctx.db.insert("things", { id = t })
      return authkit.json.encode(kept_ctx.db.get("things", id).id)
   end),
   query = result_or_error(function(t)
      return kept_ctx.db.query("things"):where(t):count()
   end),
   log = function(t)
      return kept_ctx.log.error("fields", t)
   end,
   print = function(t)
      return print(t)
   end,
   coroutine = function(t, key)
      return coroutine.wrap(function(u)
         coroutine.yield(u[key])
      end)(t)
   end,
   weak = function(t, key)
      local w = setmetatable({}, { __mode = "k" })
      w[t] = key
      return w[t]
   end,
   garbage = function(t, key)
      for i = 1, 200 do
         local _ = { i, tostring(i) .. "garbage" }
      end
      return t[key]
   end,
}

local operation_names = {}
for name in pairs(operations) do
   operation_names[#operation_names + 1] = name
end
table.sort(operation_names)

local reading = { "read", "read", "read", "read_twice", "write", "forget", "read_and_forget" }

-- Tables in tables that they are in themselves would be JSON without an end: in half of the runs there
-- are such, in the others they are encoded.
local sharing
local encoding = { encode = true, encode_around = true, array = true, insert_row = true, insert_column = true }

local function random_value()
   local kind = random(1, 6)
   if kind == 1 then
      return nil
   elseif kind == 2 then
      return random(0, 3)
   elseif kind == 3 then
      return pick(names)
   elseif kind == 4 then
      return random(0, 1) == 1
   elseif kind == 5 and sharing then
      return pick(list)[1]
   end
   local a, b = { "new" }, { "new" }
   pair_up(a, b)
   return a
end

-- Not 1 or 2: how long a list with holes is depends on what else is in the table.
local function random_key()
   return random(1, 12) == 1 and pick { 0, -1, 1.5, true } or pick(names)
end

local function step()
   local a, b = table.unpack(pick(list))
   local name = random(1, 3) > 1 and pick(reading) or pick(operation_names)
   if sharing and encoding[name] then
      name = "read"
   end
   both(name, operations[name], a, b, random_key(), random_value())
end

-- All tables that were seen, and what is in them. What may be lazy is read before it is looked at in
-- any other way.
local function check_all()
   local i = 1
   while i <= #list do
      local a, b = list[i][1], list[i][2]
      local read = getmetatable(b) == nil and operations.read or rawget
      for key, value in next, b do
         check_same(read(a, key), value, "in the end, " .. show(key))
      end
      for key in next, a do
         if rawget(b, key) == nil then
            error("in the end, a key too many: " .. show(key))
         end
      end
      i = i + 1
   end
end

local eager

authkit.events {
   ["model.keep"] = function(_, event)
      eager = authkit.json.decode(event.text)
      seed(event.seed)
      sharing = event.seed % 2 == 0
      partner, back, list = {}, {}, {}
      assert(eager)
   end,

   ["model.run"] = function(ctx, event)
      kept_ctx = ctx
      eager.late = event.late
      pair_up(event, eager)
      for i = 1, random(0, 60) do
         step()
      end
      if random(1, 2) == 1 then
         check_all()
      end
   end,

   -- The tables are still good when their call is over.
   ["model.later"] = function(ctx)
      kept_ctx = ctx
      for i = 1, random(0, 60) do
         step()
      end
      check_all()
   end,
}
