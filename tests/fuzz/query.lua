-- Programs of ctx.db calls, written down as bytes (fuzz_query.c hands them over). Whatever they do,
-- an error is an ordinary one and leaves everything as it was; and what calls return and change is
-- what a plain reading of all rows says.

local authkit = require "authkit"

authkit.schema {
   things = {
      columns = {
         k = "text", n = "integer?", r = "real?", b = "boolean?", j = "json?", t = "text?",
         d = { type = "integer", default = 7 },
      },
      indexes = { { "k", unique = true }, { "n", "b", unique = true }, { "t", "r" }, { "r" } },
   },
   order = { columns = { select = "text?", group = "integer?" }, indexes = { { "select", unique = true } } },
}

local kinds = {
   things = {
      _id = "integer", _creation_time = "integer", k = "text", n = "integer", r = "real", b = "boolean",
      j = "json", t = "text", d = "integer",
   },
   order = { _id = "integer", _creation_time = "integer", select = "text", group = "integer" },
   workos_users = {
      id = "text", email = "text", email_verified = "boolean", name = "text", metadata = "json",
      updated_at = "text", raw = "json",
   },
}
local required = { things = { k = true, d = true }, order = {} }
local defaults = { things = { d = 7 }, order = {} }
local unique = { things = { { "k" }, { "n", "b" } }, order = { { "select" } } }

-- The program --------------------------------------------------------------------------------------

local bytes, at, db
local wild -- ctx.db.sql has written what no other function could: values are not looked at any more

local function take(n)
   at = at + 1
   return (bytes[at] or 0) % n
end

local function pick(list)
   return list[take(list.n or #list) + 1]
end

local function has_more()
   return at < #bytes
end

local evil = setmetatable({}, {
   __tostring = function()
      db.query("things"):where("n", 1):all()
      return "evil"
   end,
   __index = function(_, key)
      return key == 1 and 1 or nil
   end,
   __len = function()
      return 3
   end,
   __eq = function()
      return true
   end,
})
local nameless = setmetatable({}, {
   __tostring = function()
      return 5
   end,
})
local circle = {}
circle.circle = circle
local deep = {}
for _ = 1, 150 do
   deep = { deep }
end

local values = table.pack(
   authkit.null, 0, 1, 2, -1, 7, 1.0, 1.5, -0.0, 0.1, 2 ^ 53, 2 ^ 63, -2 ^ 63, 1e300, math.maxinteger, math.mininteger,
   9007199254740993, math.huge, -math.huge, 0 / 0, true, false, "", "a", "A", "b", "ab", "a%", "%", "_", "%a%", "é", "É",
   "日本", "\u{1F642}", "\xff", "\xed\xa0\x80", "a\0b", "1", "null", ("long "):rep(300), "x' OR '1'='1", {}, { 1, 2, 3 },
   authkit.json.array {}, { a = { true, "x", 1.5 } }, { 1, a = 1 }, { [1.5] = 1 }, { [3] = 1 }, circle, deep, evil, nameless,
   print, coroutine.running(), nil)
local names = table.pack(
   "k", "n", "r", "b", "j", "t", "d", "_id", "_creation_time", "select", "group", "id", "email", "email_verified", "metadata",
   "K", "nope", "", "rowid", "k\" --", "\xff", "a\0b", ("x"):rep(300), 1, true, evil, nameless, {}, nil)
local tables = table.pack(
   "things", "things", "things", "order", "workos_users", "Things", "nope", "", "sqlite_master", "authkitd_tombstones",
   "workos_events", "things\0", "\xff", 1, evil, nameless, nil)
local operators = table.pack(
   "=", "==", "~=", "!=", "<", "<=", ">", ">=", "in", "like", "LIKE", "<>", "", "= 1 OR 1 =", evil, nameless, 1, nil)

local function pick_some(list, max)
   local some = {}
   for i = 1, take(max + 1) do
      some[i] = pick(list)
   end
   return some
end

-- What is checked ----------------------------------------------------------------------------------

local show

function show(value)
   local ok, text = pcall(authkit.json.encode, value)
   if ok or type(value) ~= "table" or value == circle or value == deep then
      return ok and text or ("<%s>"):format(type(value) == "table" and "table" or tostring(value))
   end
   local parts = {}
   for key, part in next, value do
      parts[#parts + 1] = tostring(key) .. " = " .. show(part)
   end
   return "{ " .. table.concat(parts, ", ") .. " }"
end

local function violated(what, ...)
   local shown = { what }
   for i = 1, select("#", ...) do
      shown[#shown + 1] = show((select(i, ...)))
   end
   error("VIOLATED: " .. table.concat(shown, " | "), 0)
end

local function expect(condition, ...)
   if not condition then
      violated(...)
   end
end

-- Run it; an error is a text that says something. Now and then it isn't caught, and goes through C.
local function attempt(fn, ...)
   local results = table.pack(pcall(fn, ...))
   if not results[1] then
      expect(type(results[2]) == "string" and #results[2] > 10, "an odd error", results[2])
      if take(128) == 127 then
         error(results[2], 0)
      end
   end
   return table.unpack(results, 1, results.n)
end

local function same(a, b)
   if type(a) ~= "table" or type(b) ~= "table" then
      return a == b
   end
   for key, value in next, a do
      if not same(value, b[key]) then
         return false
      end
   end
   for key in next, b do
      if a[key] == nil then
         return false
      end
   end
   return true
end

local function copy(t)
   local new = {}
   for key, value in next, t do
      new[key] = value
   end
   return new
end

-- Every row of a table by _id, not through the query builder.
local function snapshot(name)
   local rows = {}
   for _, row in ipairs(db.sql(('SELECT * FROM "%s"'):format(name))) do
      rows[row._id or row.id] = row
   end
   return rows
end

local function is_text(value)
   return type(value) == "string" and not value:find("\0", 1, true) and utf8.len(value) ~= nil
end

local function is_whole(value)
   return type(value) == "number" and math.tointeger(value) ~= nil
end

local fits = {
   text = is_text,
   integer = is_whole,
   boolean = function(value)
      return type(value) == "boolean"
   end,
   real = function(value)
      return type(value) == "number" and value == value and math.abs(value) ~= math.huge
   end,
   json = function(value)
      return (pcall(authkit.json.encode, value))
   end,
}

-- The value as a row will have it.
local function stored(kind, value)
   if value == authkit.null and rawequal(value, authkit.null) then
      return nil
   elseif kind == "integer" then
      return math.tointeger(value)
   elseif kind == "real" then
      return value + 0.0
   elseif kind == "json" then
      local decoded = authkit.json.decode(authkit.json.encode(value))
      return decoded
   end
   return value
end

-- Writes -------------------------------------------------------------------------------------------

local function pick_fields()
   if take(16) == 15 then
      return pick(values)
   end
   local fields = {}
   for _ = 1, take(6) do
      local name, value = pick(names), pick(values)
      if name ~= nil then
         fields[name] = value
      end
   end
   if take(4) > 0 then
      fields.k = pick { "a", "b", "c", "d", "e", "f", "g" }
   end
   return fields
end

-- Are these fields of a row of that table, as far as they go?
local function are_fields(name, fields)
   if type(fields) ~= "table" then
      return false
   end
   for column, value in next, fields do
      local kind = kinds[name][column]
      if not kind or column:sub(1, 1) == "_" then
         return false
      elseif rawequal(value, authkit.null) then
         if required[name][column] then
            return false
         end
      elseif not fits[kind](value) then
         return false
      end
   end
   return true
end

local function is_whole_row(name, fields)
   for column in next, required[name] do
      if fields[column] == nil and defaults[name][column] == nil then
         return false
      end
   end
   return true
end

local function with(name, row, fields)
   local new = copy(row)
   for column, value in next, fields do
      new[column] = stored(kinds[name][column], value)
   end
   return new
end

local function key_of(row, columns)
   local key = {}
   for i, column in ipairs(columns) do
      if row[column] == nil then
         return nil
      end
      key[i] = tostring(row[column])
   end
   return table.concat(key, "\0")
end

-- The _id of another row with the same unique key, if there is one.
local function conflict(name, rows, row, id)
   for _, columns in ipairs(unique[name]) do
      local key = key_of(row, columns)
      for other, it in next, rows do
         if key and other ~= id and key_of(it, columns) == key then
            return other
         end
      end
   end
end

local function is_table(name)
   return type(name) == "string" and required[name] ~= nil
end

local function expect_rows(what, name, rows, ...)
   if not wild then
      local now = snapshot(name)
      expect(same(rows, now), what, name, rows, now, ...)
   end
end

local function base_row(name)
   return copy(defaults[name])
end

local writes = {}

function writes.insert(name, before, fields)
   local good = is_table(name) and are_fields(name, fields) and is_whole_row(name, fields)
   local row = good and with(name, base_row(name), fields)
   good = good and not conflict(name, before, row)
   local ok, id = attempt(db.insert, name, fields)
   expect(ok == good or wild, "insert", name, fields, good, id)
   if ok and not wild then
      expect(before[id] == nil, "an _id twice", id)
      row._id, row._creation_time = id, db.get(name, id)._creation_time
      before[id] = row
   end
end

local function pick_id(before)
   local ids = {}
   for id in next, before do
      ids[#ids + 1] = id
   end
   table.sort(ids, function(a, b)
      return tostring(a) < tostring(b)
   end)
   if #ids == 0 or take(8) == 7 then
      return pick(values)
   end
   return pick(ids)
end

local function find(before, id)
   return is_whole(id) and before[math.tointeger(id)] or nil
end

function writes.patch(name, before, fields)
   local id = pick_id(before)
   local row = find(before, id)
   local new = row and is_table(name) and are_fields(name, fields) and with(name, row, fields)
   local good = new and not conflict(name, before, new, row._id) or false
   local ok, problem = attempt(db.patch, name, id, fields)
   expect(ok == good or wild, "patch", name, id, fields, good, problem)
   if ok and not wild then
      before[row._id] = new
   end
end

function writes.replace(name, before, fields)
   local id = pick_id(before)
   local row = find(before, id)
   local new = row and is_table(name) and are_fields(name, fields) and is_whole_row(name, fields) and
      with(name, base_row(name), fields)
   local good = new and not conflict(name, before, new, row._id) or false
   local ok, problem = attempt(db.replace, name, id, fields)
   expect(ok == good or wild, "replace", name, id, fields, good, problem)
   if ok and not wild then
      new._id, new._creation_time = row._id, row._creation_time
      before[row._id] = new
   end
end

local function is_key(name, keys)
   if type(keys) ~= "table" or getmetatable(keys) then
      return false
   end
   for _, columns in ipairs(unique[name]) do
      local left = copy(columns)
      for _, key in ipairs(keys) do
         for i, column in next, left do
            if column == key then
               left[i] = nil
            end
         end
      end
      if next(left) == nil and #keys == #columns then
         return columns
      end
   end
end

function writes.upsert(name, before, fields)
   local keys = take(4) == 3 and pick_some(names, 3) or pick { { "k" }, { "n", "b" }, { "b", "n" }, { "select" }, {}, evil }
   local columns = is_table(name) and is_key(name, keys)
   local given = columns and are_fields(name, fields) and is_whole_row(name, fields) and with(name, {}, fields)
   local key = given and key_of(given, columns)
   local known
   for id, row in next, key and before or {} do
      if key_of(row, columns) == key then
         known = id
      end
   end
   local new = key and with(name, known and before[known] or base_row(name), fields)
   local good = new and not conflict(name, before, new, known) or false
   local ok, id = attempt(db.upsert, name, keys, fields)
   expect(ok == good or wild, "upsert", name, keys, fields, good, id)
   if ok and not wild then
      expect(known == nil or known == id, "upsert of another row", known, id)
      expect(known or before[id] == nil, "an _id twice", id)
      new._id, new._creation_time = id, db.get(name, id)._creation_time
      before[id] = new
   end
end

function writes.delete(name, before)
   local id = pick_id(before)
   local good = is_table(name) and is_whole(id)
   local row = good and find(before, id)
   local ok, was_there = attempt(db.delete, name, id)
   expect(ok == good or wild, "delete", name, id, good, was_there)
   expect(not ok or wild or was_there == (row ~= nil), "delete says", was_there)
   if ok and row then
      before[row._id] = nil
   end
end

function writes.get(name, before)
   local id = pick_id(before)
   local good = is_table(name) and is_whole(id)
   local ok, row = attempt(db.get, name, id)
   expect(ok == good or wild, "get", name, id, good, row)
   expect(not ok or wild or same(row, find(before, id)), "got", id, row)
end

local write_names = { "insert", "patch", "replace", "upsert", "delete", "get" }

local function write()
   local what, name = pick(write_names), pick(tables)
   local before = is_table(name) and snapshot(name) or {}
   writes[what](name, before, pick_fields())
   if is_table(name) then
      expect_rows(what, name, before)
   end
end

-- Queries ------------------------------------------------------------------------------------------

-- "%" any characters, "_" one; upper and lower case of ASCII are the same.
local function is_like(text, pattern)
   local t, p = {}, {}
   for _, c in utf8.codes(text:lower()) do
      t[#t + 1] = c
   end
   for _, c in utf8.codes(pattern:lower()) do
      p[#p + 1] = c
   end
   local function match(i, j)
      if j > #p then
         return i > #t
      elseif p[j] == 37 then
         for k = i, #t + 1 do
            if match(k, j + 1) then
               return true
            end
         end
         return false
      end
      return i <= #t and (p[j] == 95 or p[j] == t[i]) and match(i + 1, j + 1)
   end
   return match(1, 1)
end

-- Values as they compare: booleans are 0 and 1.
local function rank(value)
   if type(value) == "boolean" then
      return value and 1 or 0
   end
   return value
end

local compare = {
   ["="] = function(a, b) return a ~= nil and a == b end,
   ["~="] = function(a, b) return a ~= b end,
   ["<"] = function(a, b) return a ~= nil and a < b end,
   ["<="] = function(a, b) return a ~= nil and a <= b end,
   [">"] = function(a, b) return a ~= nil and a > b end,
   [">="] = function(a, b) return a ~= nil and a >= b end,
   like = function(a, b) return a ~= nil and is_like(a, b) end,
}
compare["=="], compare["!="] = compare["="], compare["~="]

-- The condition as a function of a row; nil when it has to be refused, false when it isn't predicted.
local function condition(q, column, op, value)
   local kind = type(column) == "string" and kinds[q.name][column]
   if not kind then
      return q.name == "workos_users" and false or nil
   end
   if op == "in" then
      if type(value) ~= "table" then
         return nil
      elseif kind == "json" or rawequal(value, evil) then
         return false
      end
      local list, has_null, entries, places = {}, false, 0, 0
      for _ in next, value do
         entries = entries + 1
      end
      for _ in ipairs(value) do
         places = places + 1
      end
      if entries ~= places then -- a nil in it, or names
         return nil
      end
      for i, v in ipairs(value) do
         if rawequal(v, authkit.null) then
            has_null = true
         elseif not fits[kind](v) then
            return nil
         else
            list[i] = rank(stored(kind, v))
         end
      end
      return function(row)
         local a = rank(row[column])
         for _, v in next, list do
            if a == v then
               return true
            end
         end
         return a == nil and has_null
      end
   end
   local fn = type(op) == "string" and compare[op]
   if not fn or value == nil then
      return nil
   end
   if rawequal(value, authkit.null) then
      if fn == compare["="] or fn == compare["~="] then
         return function(row)
            return (row[column] == nil) == (fn == compare["="])
         end
      end
      return nil
   elseif kind == "json" or not fits[kind](value) then
      return nil
   elseif op == "like" and kind ~= "text" then
      return false
   end
   value = rank(stored(kind, value))
   return function(row)
      return fn(rank(row[column]), value)
   end
end

-- nil comes before every value. Less than, equal, greater: -1, 0, 1.
local function compare_by(order, a, b)
   for _, by in ipairs(order) do
      local x, y = rank(a[by.column]), rank(b[by.column])
      if x ~= y then
         local less = x == nil or (y ~= nil and x < y)
         return less ~= by.desc and -1 or 1
      end
   end
   return 0
end

local function total_order(q)
   local key = q.name == "workos_users" and "id" or "_id"
   local order, last = {}, nil
   for i, by in ipairs(q.order) do
      order[i], last = by, by
      if by.column == key then
         return order
      end
   end
   order[#order + 1] = { column = key, desc = last and last.desc or false }
   return order
end

local function expected(q)
   local order, want = total_order(q), {}
   for _, row in next, snapshot(q.name) do
      local good = not q.behind or compare_by(order, row, q.behind) > 0
      for _, fn in ipairs(q.where) do
         good = good and fn(row)
      end
      if good then
         want[#want + 1] = row
      end
   end
   table.sort(want, function(a, b)
      return compare_by(order, a, b) < 0
   end)
   return want
end

local builders = {}

-- Call the method; what has to be refused is, and then the query is as it was.
local function build(q, good, method, ...)
   local ok, result = attempt(q.query[method], q.query, ...)
   q.calls[#q.calls + 1] = { ok and method or method .. " (refused)", ... }
   if good ~= nil then
      expect(ok == good, method, q.name, good, result, ...)
   end
   expect(not ok or rawequal(result, q.query), "a method returns another query", method)
   return ok
end

function builders.where(q)
   local column, op, value = pick(names), pick(operators), pick(values)
   if op == "in" and take(4) > 0 then
      value = pick_some(values, 4)
   end
   local fn = condition(q, column, op, value)
   local ok
   if op == "=" and take(2) == 1 then
      ok = build(q, type(column) ~= "table" and fn ~= false and fn ~= nil or nil, "where", column, value)
   else
      local good
      if fn ~= false then
         good = fn ~= nil
      end
      ok = build(q, good, "where", column, op, value)
   end
   if ok and not fn then
      q.open = true
   elseif ok then
      q.where[#q.where + 1] = fn
   end
end

function builders.where_all(q)
   local fields, fns, good = {}, {}, true
   for _ = 1, take(4) do
      local column = pick(names)
      if column ~= nil and not rawequal(column, evil) and not rawequal(column, nameless) then
         fields[column] = pick(values)
      end
   end
   for column, value in next, fields do
      local fn = condition(q, column, "=", value)
      if fn then
         fns[#fns + 1] = fn
      elseif fn == nil then
         good = false
      else
         q.open = true
      end
   end
   good = good and next(fields) ~= nil
   if build(q, not q.open and good or nil, "where", fields) then
      expect(good or q.open, "where took", fields)
      table.move(fns, 1, #fns, #q.where + 1, q.where)
   end
end

function builders.order_by(q)
   local column, direction = pick(names), pick { "asc", "desc", n = 3 }
   if take(8) == 7 then
      direction = pick(values)
   end
   local word = type(direction) == "string" and direction:lower() or direction
   local good = not q.behind and (word == nil or word == "asc" or word == "desc")
   local kind = type(column) == "string" and kinds[q.name][column]
   if not kind and q.name == "workos_users" then
      good = nil -- it may have columns that we don't know
   elseif not kind or kind == "json" then
      good = false
   end
   if build(q, good, "order_by", column, direction) then
      q.order[#q.order + 1] = { column = column, desc = word == "desc" }
      q.open = q.open or not kind
   end
end

function builders.limit(q)
   local n = take(4) > 0 and take(6) or pick(values)
   local whole = math.type(n) and math.tointeger(n)
   if build(q, whole and whole >= 0 or false, "limit", n) then
      q.limit = whole
   end
end

local function order_text(q)
   local text = ""
   for i, by in ipairs(total_order(q)) do
      text = text .. (i > 1 and "," or "") .. (by.desc and "-" or "") .. by.column
   end
   return text
end

-- A cursor of another query, one that somebody made up, or none at all.
function builders.after(q)
   local values = table.pack(
      "", "1", "null", "3", "1,2", '"a",2', "1.5,3", "true,1", "null,3", "1,null", "[1],2", '{"a":1}', "1,2,3,4,5,6,7", "1e400",
      '"\\u0000"', '"a"', "1.5", "null,null")
   local others = table.pack(q.cursor, nil, "", "[]", "[1]", "[null]", '["_id"]', '["-_id",3]', '["n,_id",1,2]', "{}", "null",
      '[["_id"],1]', 7, evil)
   local choice, cursor = take(values.n + others.n) + 1, nil
   if choice <= values.n then
      cursor = ('["%s",%s]'):format(order_text(q), values[choice])
   else
      cursor = others[choice - values.n]
   end
   if build(q, nil, "after", cursor) and cursor ~= nil and cursor ~= "" then
      local found = authkit.json.decode(cursor, authkit.null)
      expect(found[1] == order_text(q), "a cursor of another order", cursor, order_text(q))
      q.behind = {}
      for i, by in ipairs(total_order(q)) do
         local value, key = found[i + 1], q.name:find("^workos_") and "id" or "_id"
         if value == authkit.null then
            expect(by.column ~= key and not (required[q.name] or {})[by.column], "null in a cursor", cursor)
            value = nil
         end
         q.behind[by.column] = value
      end
   end
end

local function ids(rows)
   local list = authkit.json.array {}
   for i, row in ipairs(rows) do
      list[i] = row._id or row.id
   end
   return list
end

local function has_column_twice(q)
   local seen = {}
   for _, by in ipairs(total_order(q)) do
      if seen[by.column] then
         return true
      end
      seen[by.column] = true
   end
   return false
end

local function is_predicted(q)
   return not wild and not q.open and not (q.behind and has_column_twice(q))
end

local function check_rows(q, what, got, limit)
   if not is_predicted(q) then
      return
   end
   local want = expected(q)
   if limit then
      want = table.move(want, 1, math.min(#want, limit), 1, {})
   end
   expect(#got == #want, what, ids(got), ids(want), q.name, q.calls)
   expect(same(ids(got), ids(want)), what, ids(got), ids(want), q.name, q.calls)
   local all = snapshot(q.name)
   for _, row in ipairs(got) do
      if q.name ~= "workos_users" then
         expect(same(row, all[row._id]), what, row)
      end
   end
end

local runs = {}

function runs.all(q)
   local ok, rows = attempt(q.query.all, q.query)
   expect(ok or wild or q.open, "all", rows)
   if ok then
      check_rows(q, "all", rows, q.limit)
      q.cursor = rows.cursor
      expect(not rows.cursor or (q.limit or 0) > 0 and #rows == q.limit, "a cursor", q.limit)
   end
end

function runs.each(q)
   local rows = {}
   local ok, problem = attempt(function()
      for row in q.query:each() do
         rows[#rows + 1] = row
      end
   end)
   expect(ok or wild or q.open, "each", problem)
   if ok then
      check_rows(q, "each", rows, q.limit)
   end
end

function runs.first(q)
   local ok, row = attempt(q.query.first, q.query)
   expect(ok or wild or q.open, "first", row)
   if ok then
      check_rows(q, "first", { row }, math.min(q.limit or 1, 1))
   end
end

function runs.unique(q)
   local ok, row = attempt(q.query.unique, q.query)
   if is_predicted(q) then
      local count = math.min(#expected(q), q.limit or 2)
      expect(ok == (count < 2), "unique", count, row, q.name, q.calls)
      if ok then
         check_rows(q, "unique", { row }, q.limit)
      end
   end
end

function runs.count(q)
   local ok, n = attempt(q.query.count, q.query)
   expect(ok or wild or q.open, "count", n)
   if ok and is_predicted(q) then
      expect(n == math.min(#expected(q), q.limit or math.huge), "count", n, #expected(q), q.name, q.calls)
   end
end

-- All pages together are all rows.
function runs.pages(q)
   local size, limit = 1 + take(3), q.limit
   if q.behind or wild or q.open then
      return
   end
   local whole = q.query:limit(1000):all()
   local cursor, pages = nil, authkit.json.array {}
   q.query:limit(size)
   repeat
      local ok, page = attempt(function()
         return q.query:after(cursor):all()
      end)
      expect(ok, "a page", page)
      table.move(page, 1, #page, #pages + 1, pages)
      cursor = page.cursor
   until not cursor or #pages > 1000
   expect(same(ids(pages), ids(whole)), "pages", ids(pages), ids(whole), size, q.name, q.calls)
   q.done = true -- it begins behind its last page now
   q.limit = limit
end

local builder_names = { "where", "where", "where_all", "order_by", "order_by", "limit", "after" }
local run_names = { "all", "count", "first", "unique", "each", "pages" }

local function query()
   local name = pick(tables)
   local ok, it = attempt(db.query, name)
   expect(ok == (type(name) == "string" and kinds[name] ~= nil), "query", name, it)
   if not ok then
      return
   end
   local q = { query = it, name = name, where = {}, order = {}, calls = {} }
   for _ = 1, 1 + take(3) do
      for _ = 1, take(4) do
         builders[pick(builder_names)](q)
      end
      runs[pick(run_names)](q)
      if q.done then
         return
      end
   end
end

-- SQL ----------------------------------------------------------------------------------------------

local refused = {
   "DROP TABLE things", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT x", "RELEASE x", "PRAGMA journal_mode = DELETE",
   "PRAGMA user_version", "ATTACH ':memory:' AS x", "VACUUM", "REINDEX", "ANALYZE", "CREATE TABLE x (y)", "CREATE TEMP TABLE x (y)",
   "CREATE INDEX x ON things (n)", "ALTER TABLE things ADD x", "CREATE TRIGGER x AFTER INSERT ON things BEGIN SELECT 1; END",
   "INSERT INTO workos_users (id) VALUES ('x')", "DELETE FROM authkitd_tombstones", "UPDATE workos_events SET id = id",
   "DELETE FROM sqlite_master", "SELECT 1; SELECT 2", "SELECT load_extension('x')", "", ";", "-- nothing", "SELECT ?", "SELECT",
   "WITH x AS (SELECT 1) DELETE FROM workos_users", "REPLACE INTO workos_users (id) VALUES ('user_1')",
}

local tokens = {
   "SELECT", "*", "FROM", "things", "workos_users", "\"order\"", "WHERE", "n", "k", "j", "t", "r", "b", "_id", "=", "<", "?", "(", ")", ",",
   "INSERT INTO", "INSERT OR ROLLBACK INTO", "INSERT OR REPLACE INTO", "VALUES", "UPDATE", "SET", "DELETE FROM", "1", "'x'", "NULL",
   "9e999", "x'ff00'", "CAST(x'ff' AS TEXT)", "char(0)", "zeroblob(9)", "json_extract(", "'$.a'", "json_group_array(", "count(*)", "group_concat(",
   "UNION ALL", "ORDER BY", "LIMIT", "GROUP BY", "RETURNING", "ON CONFLICT", "DO NOTHING", "DO UPDATE SET", "AS", "AND", "NOT", "IN",
   "LIKE", "d", "9223372036854775807", "-", "||", "json_each(", "EXISTS", "WITH c AS", "c", "_creation_time", "DEFAULT VALUES", "''", "\"",
}

local sqls = {}

function sqls.refused()
   local ok, result = attempt(db.sql, pick(refused))
   expect(not ok, "sql took", result)
end

function sqls.text()
   local words = {}
   for i = 1, 1 + take(24) do
      words[i] = pick(tokens)
   end
   local text = table.concat(words, " ")
   local given = select(2, text:gsub("%?", ""))
   local list = {}
   for i = 1, given do
      list[i] = pick(values)
   end
   wild = wild or not text:find("^SELECT")
   local ok, result = attempt(db.sql, text, table.unpack(list, 1, given))
   expect(not ok or type(result) == "table" or math.type(result) == "integer", "sql returns", result)
end

function sqls.select()
   local op, value = pick { "=", "IS", "<", ">=", "IS NOT" }, pick(values)
   local rows = snapshot("things")
   local ok, found = attempt(db.sql, ("SELECT * FROM things WHERE n %s ? ORDER BY _id"):format(op), value)
   if ok and not wild then
      for i, row in ipairs(found) do
         expect(same(row, rows[row._id]) and (i == 1 or found[i - 1]._id < row._id), "sql", row)
      end
   end
end

function sqls.change()
   local rows, n = snapshot("things"), 0
   local value, bound = pick { 0, 1, 2, 7, 1.0, "1" }, pick { true, false, authkit.null }
   local ok, changed = attempt(db.sql, "UPDATE things SET b = ? WHERE n IS ?", bound, value)
   if ok and not wild then
      for _, row in next, rows do
         if row.n ~= nil and row.n == tonumber(value) then -- n is an INTEGER, and so '1' is 1 to it
            n, row.b = n + 1, stored("boolean", bound)
         end
      end
      expect(changed == n, "changed", changed, n)
   end
   expect_rows("sql", "things", rows)
end

function sqls.odd()
   attempt(db.sql, pick(values), pick(values), pick(values))
end

local sql_names = { "refused", "refused", "select", "select", "change", "change", "odd", "text" }

local function sql()
   sqls[pick(sql_names)]()
end

-- Events -------------------------------------------------------------------------------------------

local function fill()
   local texts = { "a", "A", "b", "", "é", "日本" }
   for i = 1, 6 do
      db.insert("things", {
         k = texts[i] .. i, t = i ~= 3 and texts[i] or nil, n = i ~= 4 and i // 2 or nil, b = i % 2 == 0,
         r = i > 2 and i * 0.5 or nil, j = i > 4 and { i = i, list = { i, "x" }, more = true } or nil, d = i > 3 and i or nil,
      })
   end
   db.insert("order", { select = "a", group = 1 })
   db.insert("order", { group = 2 })
end

authkit.events {
   ["query.fill"] = function(ctx)
      db = ctx.db
      fill()
   end,
   ["query.run"] = function(ctx, event)
      bytes, at, db, wild = event.data.bytes, 0, ctx.db, false
      while has_more() do
         pick { write, query, query, sql }()
      end
   end,
}
