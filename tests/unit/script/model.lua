-- Random operations on ctx.db, each also done on a plain Lua table: after every one the two must say
-- the same. test_model.c loads it again and again with more columns, and calls model.run with a seed.

local authkit = require "authkit"

local texts = { "", "a", "b", "Ünïcode", "with 'quotes' and \"more\"", "%_", ("long "):rep(400) }
local numbers = { 0, 1, -1, 7, math.maxinteger, math.mininteger, 9007199254740993 }
local reals = { 0.0, 1.5, -2.25, 1e300, 0.1 }

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

local function same(a, b)
   if type(a) ~= type(b) then
      return false
   elseif type(a) ~= "table" then
      return a == b and math.type(a) == math.type(b)
   end
   for key, value in pairs(a) do
      if not same(value, b[key]) then
         return false
      end
   end
   for key in pairs(b) do
      if a[key] == nil then
         return false
      end
   end
   return true
end

local function show(value)
   return value == nil and "nil" or authkit.json.encode(value)
end

local function random_value(kind)
   if kind == "text" then
      return pick(texts)
   elseif kind == "integer" then
      return random(1, 3) == 1 and pick(numbers) or random(0, 9)
   elseif kind == "real" then
      return pick(reals)
   elseif kind == "boolean" then
      return random(0, 1) == 1
   end
   return pick { { 1, 2, 3 }, authkit.json.array {}, {}, { deep = { a = { true, "x" } } }, "text", 5, false }
end

return function(extra)
   local kinds = { key = "text", n = "integer", r = "real", b = "boolean", j = "json", t = "text" }
   local columns = { key = "text", n = "integer?", r = "real?", b = "boolean?", j = "json?", t = "text?" }
   local optional = { "n", "r", "b", "j", "t" }
   for i, name in ipairs(extra) do
      kinds[name] = "integer"
      columns[name] = i % 2 == 0 and { type = "integer", default = i } or "integer?"
      optional[#optional + 1] = name
   end
   local defaults = {}
   for i, name in ipairs(extra) do
      defaults[name] = i % 2 == 0 and i or nil
   end

   authkit.schema {
      things = {
         columns = columns,
         indexes = { { "key", unique = true }, { "n", "t" }, #extra % 2 == 0 and { "b" } or { "r" } },
      },
      kept = { columns = { model = "json" } },
   }

   local model, changed -- _id -> row without _creation_time

   local function random_fields(may_null)
      local fields = {}
      for _, name in ipairs(optional) do
         local dice = random(1, 4)
         if dice == 1 then
            fields[name] = random_value(kinds[name])
         elseif dice == 2 and may_null and not defaults[name] then
            fields[name] = authkit.null
         end
      end
      return fields
   end

   local function apply(row, fields)
      for name, value in pairs(fields) do
         if value == authkit.null then
            row[name] = nil
         else
            row[name] = value
         end
      end
      return row
   end

   local function new_row(fields)
      local row = {}
      for name, value in pairs(defaults) do
         row[name] = value
      end
      return apply(row, fields)
   end

   local function find_key(key)
      for id, row in pairs(model) do
         if row.key == key then
            return id
         end
      end
   end

   local function any_id()
      local ids = {}
      for id in pairs(model) do
         ids[#ids + 1] = id
      end
      table.sort(ids)
      return #ids > 0 and pick(ids) or nil
   end

   local function check_row(got, id)
      local want = model[id]
      if got then
         assert(got._id == id and math.type(got._creation_time) == "integer")
         got._creation_time = nil
         want = want and apply({ _id = id }, want)
      end
      if not same(got, want) then
         error(("row %d is %s, and the model has %s"):format(id, show(got), show(want)), 2)
      end
   end

   local operations = {}

   function operations.insert(db)
      local fields = random_fields(true)
      fields.key = "k" .. random(1, 60)
      local taken = find_key(fields.key)
      local ok, id = pcall(db.insert, "things", fields)
      assert(ok == not taken, "a unique key was not kept: " .. tostring(id))
      if ok then
         model[id] = new_row(fields)
         check_row(db.get("things", id), id)
      else
         assert(id:find("UNIQUE constraint failed: things.key", 1, true), id)
         check_row(db.get("things", taken), taken)
      end
   end

   function operations.patch(db)
      local id = any_id()
      if id then
         local fields = random_fields(true)
         db.patch("things", id, fields)
         apply(model[id], fields)
         check_row(db.get("things", id), id)
      end
   end

   function operations.replace(db)
      local id = any_id()
      if id then
         local fields = random_fields(true)
         fields.key = model[id].key
         db.replace("things", id, fields)
         model[id] = new_row(fields)
         check_row(db.get("things", id), id)
      end
   end

   function operations.upsert(db)
      local fields = random_fields(true)
      fields.key = "k" .. random(1, 60)
      local known = find_key(fields.key)
      local id = db.upsert("things", { "key" }, fields)
      assert(not known or known == id)
      model[id] = known and apply(model[id], fields) or new_row(fields)
      check_row(db.get("things", id), id)
   end

   function operations.delete(db)
      local id = random(1, 5) == 1 and 1000000 or any_id()
      if id then
         assert(db.delete("things", id) == (model[id] ~= nil))
         model[id] = nil
         check_row(db.get("things", id), id)
      end
   end

   function operations.absent(db)
      local ok, message = pcall(db.patch, "things", 1000000, { n = 1 })
      assert(not ok and message:find("no row with _id 1000000 in things", 1, true), message)
   end

   local compare = {
      ["="] = function(a, b) return a == b end,
      ["~="] = function(a, b) return a ~= b end,
      ["<"] = function(a, b) return a ~= nil and a < b end,
      ["<="] = function(a, b) return a ~= nil and a <= b end,
      [">"] = function(a, b) return a ~= nil and a > b end,
      [">="] = function(a, b) return a ~= nil and a >= b end,
   }

   -- nil before everything, as SQLite has it; equal rows by _id.
   local function before(a, b, order)
      for _, by in ipairs(order) do
         local x, y = a[by[1]], b[by[1]]
         if x ~= y then
            if by[2] == "desc" then
               x, y = y, x
            end
            return x == nil or (y ~= nil and x < y)
         end
      end
      return false
   end

   function operations.query(db)
      local query, wheres, order = db.query("things"), {}, {}
      for _ = 1, random(0, 2) do
         local name = pick { "n", "t" }
         local op = pick { "=", "~=", "<", "<=", ">", ">=" }
         local value = random_value(kinds[name])
         query:where(name, op, value)
         wheres[#wheres + 1] = { name, op, value }
      end
      for _, name in ipairs(pick { {}, { "n" }, { "t", "n" }, { "n", "t" } }) do
         order[#order + 1] = { name, pick { "asc", "desc" } }
         query:order_by(name, order[#order][2])
      end
      order[#order + 1] = { "_id", #order > 0 and order[#order][2] or "asc" }
      local want = {}
      for id, row in pairs(model) do
         local fits = true
         for _, w in ipairs(wheres) do
            fits = fits and compare[w[2]](row[w[1]], w[3])
         end
         if fits then
            want[#want + 1] = apply({ _id = id }, row)
         end
      end
      table.sort(want, function(a, b) return before(a, b, order) end)
      assert(query:count() == #want, "count")
      local got = {}
      if random(1, 2) == 1 then
         got = query:all()
      else
         local cursor, size = nil, random(1, 7)
         query:limit(size)
         repeat
            local page = query:after(cursor):all()
            table.move(page, 1, #page, #got + 1, got)
            cursor = page.cursor
         until not cursor
      end
      assert(#got == #want, ("%d rows, and the model has %d"):format(#got, #want))
      for i, row in ipairs(got) do
         assert(row._id == want[i]._id, "order")
         check_row(row, row._id)
      end
   end

   function operations.sql(db)
      local n = random(0, 9)
      local rows = db.sql("SELECT _id, b, j, r FROM things WHERE n = ? ORDER BY _id", n)
      local i = 0
      local ids = {}
      for id, row in pairs(model) do
         if row.n == n then
            ids[#ids + 1] = id
         end
      end
      table.sort(ids)
      for _, id in ipairs(ids) do
         i = i + 1
         local row = rows[i]
         assert(row and row._id == id and row.b == model[id].b and same(row.j, model[id].j) and row.r == model[id].r, "sql")
      end
      assert(#rows == i)
   end

   function operations.undone(db)
      -- an error in the middle of a pcall leaves what came before it, and a clean state
      local key = "u" .. random(1, 1000000)
      local id
      local ok = pcall(function()
         id = db.insert("things", { key = key })
         model[id] = new_row { key = key }
         db.insert("things", { key = key })
      end)
      assert(not ok)
      check_row(db.get("things", id), id)
      db.delete("things", id)
      model[id] = nil
   end

   local names = {}
   for name in pairs(operations) do
      names[#names + 1] = name
   end
   table.sort(names)

   local function load_model(db)
      model = {}
      local kept = db.query("kept"):unique()
      if not kept then
         return
      end
      for _, row in ipairs(kept.model) do
         model[row._id] = row
         row._id = nil
         row.r = row.r and row.r + 0.0 -- JSON makes an integer of 0.0
         for name, value in pairs(defaults) do
            if row[name] == nil then
               row[name] = value -- the column is new, and has its default in every row
            end
         end
      end
   end

   local function save_model(db)
      local list = authkit.json.array {}
      for id, row in pairs(model) do
         list[#list + 1] = apply({ _id = id }, row)
      end
      local kept = db.query("kept"):unique()
      if kept then
         db.replace("kept", kept._id, { model = list })
      else
         db.insert("kept", { model = list })
      end
   end

   authkit.events {
      ["model.run"] = function(ctx, event)
         seed(event.data.seed)
         load_model(ctx.db)
         for i = 1, event.data.operations do
            local name = pick(names)
            local ok, problem = pcall(operations[name], ctx.db)
            if not ok then
               error(("operation %d (%s): %s"):format(i, name, tostring(problem)), 0)
            end
         end
         for id in pairs(model) do
            check_row(ctx.db.get("things", id), id)
         end
         local count = 0
         for _ in pairs(model) do
            count = count + 1
         end
         assert(ctx.db.query("things"):count() == count, "rows that the model doesn't know")
         save_model(ctx.db)
      end,
   }
end
