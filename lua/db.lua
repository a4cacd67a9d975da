-- ctx.db and ctx.users: what scripts read and write rows with, and the declarations behind it.
--
-- Rows go in and out in C (bind_db.c); here are the names, the query builder and its SQL. No name
-- reaches SQL unless it is a declared table or column, and no value at all: values are bound.

local native, read_only, mirror_tables = ...

local raise = native.raise
local null = native.null

local types = { text = true, integer = true, real = true, boolean = true, json = true }
local reserved = { "workos_", "authkitd_", "sqlite_", "_" }
local table_functions = { json_each = true, json_tree = true } -- SQLite's, besides pragma_…

-- Declarations ------------------------------------------------------------------------------------

local declared = {} -- name -> { name, columns = sorted list, by_name, indexes }

local function sorted_keys(t)
   local keys = {}
   for key in next, t do
      keys[#keys + 1] = key
   end
   table.sort(keys)
   return keys
end

local function check_name(what, name)
   if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") or #name > 60 then
      raise(("authkit.schema: %s '%s' must be letters, digits and '_', at most 60, and not begin with a digit")
         :format(what, tostring(name)))
   end
   for _, prefix in ipairs(reserved) do
      if name:lower():sub(1, #prefix) == prefix then
         raise(("authkit.schema: %s '%s' begins with '%s', which is taken; choose another name")
            :format(what, name, prefix))
      end
   end
end

-- A table would hide SQLite's function of the same name, which stands where a table does.
local function check_table_name(name)
   check_name("table", name)
   if name:lower():find("^pragma_") or table_functions[name:lower()] then
      raise(("authkit.schema: table '%s' has a name that SQLite has taken (pragma_…, json_each and json_tree); choose another one")
         :format(name))
   end
end

local function read_column(table_name, name, spec)
   local where = ("authkit.schema: column %s.%s"):format(table_name, tostring(name))
   check_name("column", name)
   local default
   if type(spec) == "table" then
      default = spec.default
      for key in pairs(spec) do
         if key ~= 1 and key ~= "type" and key ~= "default" then
            raise(("%s: '%s' is not known; there are type and default"):format(where, tostring(key)))
         end
      end
      spec = spec.type or spec[1]
   end
   local kind, optional = tostring(spec):match("^(%l+)(%??)$")
   if type(spec) ~= "string" or not types[kind] then
      raise(("%s: type '%s' is not known; there are text, integer, real, boolean and json, with a '?' behind when it may be nil")
         :format(where, tostring(spec)))
   end
   if default == null then -- what a column with a '?' holds anyway
      if optional == "" then
         raise(("%s: its default is authkit.null, which a required column can't hold: give another default, or make it '%s?'")
            :format(where, kind))
      end
      default = nil
   end
   return { name = name, type = kind, nullable = optional == "?", default = default, where = where }
end

-- A list that stops at a nil, or has names in it, would be taken for a shorter one. what is the text
-- before " must be a list"; named are the names that may be there besides.
local function check_list(list, what, example, named)
   local count, last = 0, 0
   for key in next, list do
      if math.type(key) == "integer" and key > 0 then
         count, last = count + 1, math.max(last, key)
      elseif not (named and named[key]) then
         raise(("%s must be a list, such as %s: '%s' is no position in it"):format(what, example, tostring(key)))
      end
   end
   if count < last then
      local hole = 1
      while rawget(list, hole) ~= nil do
         hole = hole + 1
      end
      raise(("%s must be a list, such as %s: number %d of it is nil, and there are more behind it")
         :format(what, example, hole))
   end
end

local index_options = { unique = true }

local function read_index(t, spec)
   local where = "authkit.schema: an index of " .. t.name
   if type(spec) ~= "table" then
      raise(where .. ' must be a table, such as { "user_id", unique = true }')
   end
   for key in pairs(spec) do
      if type(key) ~= "number" and not index_options[key] then
         raise(("%s: '%s' is not known; besides column names there is unique"):format(where, tostring(key)))
      end
   end
   check_list(spec, where, '{ "user_id", "name" }', index_options)
   if #spec == 0 then
      raise(where .. ' names no column; it looks like { "user_id", unique = true }')
   end
   local columns = {}
   for i, column in ipairs(spec) do
      if type(column) ~= "string" then
         raise(('%s wants names of columns, such as { "user_id" }, not %s'):format(where, native.kind(column)))
      elseif column == "_id" then
         raise(where .. " names '_id', which has an index of its own, and is the end of every other one: leave it out")
      elseif not t.by_name[column] and column ~= "_creation_time" then
         raise(("%s names column '%s', which isn't declared"):format(where, tostring(column)))
      end
      for j = 1, i - 1 do
         if columns[j] == column then
            raise(("%s names column '%s' twice"):format(where, column))
         end
      end
      columns[i] = column
   end
   local unique = spec.unique and true or false
   return {
      columns = columns,
      unique = unique,
      name = ("authkitd:%s:%s%s"):format(t.name, table.concat(columns, ","), unique and ":unique" or ""),
   }
end

-- A default is what an insert could give. The handle is for that alone: its name is in the errors.
local function check_defaults(t)
   local handle = native.table("authkit.schema: wrong default: " .. t.name, true, t.columns)
   for _, column in ipairs(t.columns) do
      native.check(handle, column.name, column.default)
   end
end

local function read_table(name, spec)
   check_table_name(name)
   for other in pairs(declared) do
      if other:lower() == name:lower() then
         raise(("authkit.schema: table '%s' is declared twice%s"):format(name,
            other == name and "" or " (as '" .. other .. "', and SQLite doesn't tell them apart)"))
      end
   end
   if type(spec) ~= "table" or type(spec.columns) ~= "table" then
      raise(('authkit.schema: table %s wants columns, such as %s = { columns = { name = "text" } }')
         :format(name, name))
   end
   for key in pairs(spec) do
      if key ~= "columns" and key ~= "indexes" then
         raise(("authkit.schema: table %s: '%s' is not known; there are columns and indexes")
            :format(name, tostring(key)))
      end
   end
   for column in next, spec.columns do
      check_name("column", column)
   end
   local t = { name = name, columns = {}, by_name = {}, indexes = {} }
   if #sorted_keys(spec.columns) > 190 then
      raise(("authkit.schema: table %s has more than 190 columns; keep some of them in a json column"):format(name))
   end
   local seen = {}
   for i, column in ipairs(sorted_keys(spec.columns)) do
      if seen[column:lower()] then
         raise(("authkit.schema: column %s.%s differs from another one in case only"):format(name, column))
      end
      seen[column:lower()] = true
      t.columns[i] = read_column(name, column, spec.columns[column])
      t.by_name[column] = t.columns[i]
   end
   check_defaults(t)
   if spec.indexes ~= nil and type(spec.indexes) ~= "table" then
      raise(("authkit.schema: indexes of %s must be a list, such as { { \"user_id\" } }"):format(name))
   end
   check_list(spec.indexes or {}, "authkit.schema: indexes of " .. name, '{ { "user_id" } }')
   for _, index in ipairs(spec.indexes or {}) do
      t.indexes[#t.indexes + 1] = read_index(t, index)
   end
   return t
end

local function declare(tables)
   for name in next, tables do
      check_table_name(name)
   end
   for _, name in ipairs(sorted_keys(tables)) do
      declared[name] = read_table(name, tables[name])
   end
end

-- Handles -----------------------------------------------------------------------------------------

-- name -> { native, columns by name, their names in quotes, select = "SELECT … FROM …", order = " ORDER BY …"
-- by the key, statements = what comes of the conditions that were there before }
local handles = {}
local natives = {} -- name -> the same, as the C side knows it

local function quote(name)
   return '"' .. name .. '"'
end

local function make_handle(name, columns, writable)
   local names, by_name, quoted = {}, {}, {}
   for i, column in ipairs(columns) do
      names[i] = quote(column.name)
      by_name[column.name] = column
      quoted[column.name] = names[i]
   end
   return {
      name = name,
      native = native.table(name, writable, columns),
      by_name = by_name,
      quoted = quoted,
      select = ("SELECT %s FROM %s"):format(table.concat(names, ", "), quote(name)),
      key = columns[1].name, -- _id, or the id of WorkOS's objects
      order = " ORDER BY " .. names[1],
      statements = {},
      statement_count = 0,
   }
end

local system_columns = {
   { name = "_id", type = "integer", nullable = false },
   { name = "_creation_time", type = "integer", nullable = false },
}

local mirrored = sorted_keys(mirror_tables)

-- Ours that have no rows as ctx.db gives them.
local for_sql = { workos_events = true, authkitd_state = true, authkitd_suspects = true, authkitd_tombstones = true }

local function handle(name)
   local found = handles[name]
   if found then
      return found
   end
   local t, columns = declared[name], nil
   if t then
      columns = table.move(t.columns, 1, #t.columns, 3, { system_columns[1], system_columns[2] })
   else
      columns = mirror_tables[name]
   end
   if not columns then
      if type(name) ~= "string" then
         native.check_dot(name)
         raise(("the name of a table is a text, not %s%s"):format(native.kind(name), type(name) == "number"
            and "; it comes before the _id: ctx.db.get(table, _id), ctx.db.patch(table, _id, { … }), ctx.db.delete(table, _id)"
            or ""))
      elseif for_sql[name] then
         raise(("no table '%s' in ctx.db but for ctx.db.sql, which can read it: ctx.db.sql(\"SELECT … FROM %s\")")
            :format(name, name))
      end
      local known = sorted_keys(declared)
      native.unknown("table", name, table.move(mirrored, 1, #mirrored, #known + 1, known), "the schema")
   end
   found = make_handle(name, columns, t ~= nil)
   handles[name], natives[name] = found, found.native
   return found
end

-- Queries -----------------------------------------------------------------------------------------

local operators = {
   ["="] = "=", ["=="] = "=", ["~="] = "<>", ["!="] = "<>", ["<"] = "<", ["<="] = "<=",
   [">"] = ">", [">="] = ">=", ["in"] = "in", like = "like",
}

local last_calls = "end it with :all(), :first(), :unique(), :each() or :count()"

-- Without its last call a query would look like an empty list, and a list of who is blocked blocks nobody.
local function refuse_as_rows()
   raise("this is a query, not its rows: " .. last_calls)
end

local Query = setmetatable({}, { -- the methods; scripts never get at the table itself
   __index = function(_, name)
      if type(name) ~= "string" then
         refuse_as_rows()
      end
      raise(("a query has no '%s': it has where, order_by, limit and after; its rows come of :all(), :first(), :unique() or :each(), and their number of :count()")
         :format(name))
   end,
})

local query_metatable = {
   __index = Query, __newindex = refuse_as_rows, __len = refuse_as_rows, __pairs = refuse_as_rows,
   __name = "query", __metatable = false, __instead = ": it isn't its rows, so " .. last_calls,
}

-- What a query has been told: its handle; where, the conditions as SQL, or nil; count, columns and values,
-- what is bound in them; order, a list or nil; limit; after, the values of a cursor.
local queries = setmetatable({}, { __mode = "k" })
local nothing = {} -- the columns and values of a query without any; never written to

local function check_query(query)
   local q = queries[query]
   if not q then
      raise("call it with a colon on a query, such as ctx.db.query(\"todo_lists\"):all()")
   end
   return q
end

local shown = { string = true, number = true, ["nil"] = true } -- types: what the error can show in a name's place

-- called is the method that wants it.
local function check_column(q, column, called)
   if type(column) == "string" and q.handle.quoted[column] then
      return
   end
   if not shown[type(column)] then
      raise(("%s wants the name of a column, a text, not %s"):format(called, native.kind(column)))
   end
   native.unknown("column", column, sorted_keys(q.handle.by_name), q.handle.name)
end

local function check_in(q, column, values)
   if type(values) ~= "table" then
      raise(("where('%s', 'in', …) wants a list of values, not %s"):format(column, native.kind(values)))
   end
   local list, count = {}, 0
   for i, value in ipairs(values) do
      native.check(q.handle.native, column, value)
      list[i] = value
   end
   for _ in next, values do
      count = count + 1
   end
   if count > #list then
      check_list(values, ("what where('%s', 'in', …) gets"):format(column), "{ 1, 2 }")
   end
   return list
end

-- Raises when that is no condition, before anything is added to the query: it stays as it was then.
-- Returns the operator in SQL, and the value.
local function check_where(q, column, op, value)
   check_column(q, column, "where")
   if q.handle.by_name[column].type == "json" and value ~= null then
      raise(("where('%s'): %s.%s is json; compare what is in it with ctx.db.sql and json_extract")
         :format(column, q.handle.name, column))
   end
   local sql_op = operators[op]
   if not sql_op then
      native.unknown("operator", op, { "=", "~=", "<", "<=", ">", ">=", "in", "like" }, "where",
         op == "<>" and "~=" or nil)
   end
   if sql_op == "in" then
      return sql_op, check_in(q, column, value)
   end
   if value == nil then
      raise(("where('%s') compares with nil: to find rows without a value use authkit.null"):format(column))
   end
   if value == null and sql_op ~= "=" and sql_op ~= "<>" then
      raise(("where('%s', '%s', authkit.null): only = and ~= compare with null"):format(column, op))
   end
   native.check(q.handle.native, column, value)
   return sql_op, value
end

local function add_value(q, column, value)
   local count = q.count + 1
   q.count = count
   if count == 1 then
      q.columns, q.values = { column }, { value }
   else
      q.columns[count], q.values[count] = column, value
   end
end

local function add_condition(q, condition)
   q.where = q.where and q.where .. " AND " .. condition or condition
end

local function add_in(q, column, values)
   local name, marks, or_null = q.handle.quoted[column], {}, ""
   for _, value in ipairs(values) do
      if value == null then
         or_null = (" OR %s IS NULL"):format(name)
      else
         add_value(q, column, value)
         marks[#marks + 1] = "?"
      end
   end
   add_condition(q, ("(%s IN (%s)%s)"):format(name, table.concat(marks, ","), or_null))
end

-- What check_where has returned.
local function add_where(q, column, sql_op, value)
   local name = q.handle.quoted[column]
   if sql_op == "in" then
      add_in(q, column, value)
   elseif value == null then
      add_condition(q, name .. (sql_op == "=" and " IS NULL" or " IS NOT NULL"))
   else
      add_value(q, column, value)
      if sql_op == "<>" then
         add_condition(q, name .. " IS NOT ?") -- rows without a value differ from every value
      else
         add_condition(q, name .. " " .. sql_op .. " ?")
      end
   end
end

function Query:where(column, ...)
   local q = check_query(self)
   local n = select("#", ...)
   if type(column) == "table" and n == 0 then
      for name, value in next, column do
         check_where(q, name, "=", value)
      end
      local names = sorted_keys(column)
      if #names == 0 then -- { user_id = x } with x nil would give everybody's rows
         raise("where { } names no column: a value of nil leaves its column out; give authkit.null for rows without a value")
      end
      for _, name in ipairs(names) do
         add_where(q, name, "=", column[name])
      end
   elseif n == 1 then
      add_where(q, column, check_where(q, column, "=", (...)))
   elseif n == 2 then
      add_where(q, column, check_where(q, column, ...))
   else
      raise('where wants (column, value), (column, op, value) or { column = value }')
   end
   return self
end

function Query:order_by(column, direction)
   local q = check_query(self)
   check_column(q, column, "order_by")
   if q.handle.by_name[column].type == "json" then
      raise(("order_by('%s'): %s.%s is json; order by what is in it with ctx.db.sql and json_extract")
         :format(column, q.handle.name, column))
   end
   if direction ~= nil and direction ~= "asc" and direction ~= "desc" then
      local word = type(direction) == "string" and direction:lower()
      if word ~= "asc" and word ~= "desc" then
         raise(("order_by: the direction is \"asc\" or \"desc\", not '%s'"):format(tostring(direction)))
      end
      direction = word
   end
   if q.after then
      raise("order_by comes before after")
   end
   q.order = q.order or {}
   q.order[#q.order + 1] = { column = column, desc = direction == "desc" }
   return self
end

function Query:limit(n)
   local q = check_query(self)
   local whole = math.type(n) == "float" and math.tointeger(n) or n -- 2.0, the outcome of a division
   if math.type(whole) ~= "integer" or whole < 0 then
      raise(("limit wants a whole number that isn't negative, not '%s'"):format(tostring(n)))
   end
   q.limit = whole
   return self
end

-- The order that is asked for, and the key behind it: so every order is total, and a page begins
-- exactly where the last one ended, whatever was added in between.
local function total_order(q)
   local order, asked, key = {}, q.order or {}, q.handle.key
   for i, by in ipairs(asked) do
      order[i] = by
      if by.column == key then
         return order
      end
   end
   order[#order + 1] = { column = key, desc = #asked > 0 and asked[#asked].desc }
   return order
end

-- (a, b, _id) behind the cursor's values, where null comes before every value:
-- (a > ?) OR (a IS ? AND b > ?) OR (a IS ? AND b IS ? AND _id > ?)
local function after_sql(q, order, add)
   local alternatives = {}
   for i, by in ipairs(order) do
      local parts = {}
      for j = 1, i - 1 do
         parts[j] = quote(order[j].column) .. " IS ?"
         add(order[j].column, q.after[j])
      end
      local name, value = quote(by.column), q.after[i]
      if by.desc and value == null then
         parts[i] = "0"
      elseif value == null then
         parts[i] = name .. " IS NOT NULL"
      else
         parts[i] = by.desc and ("(%s < ? OR %s IS NULL)"):format(name, name) or name .. " > ?"
         add(by.column, value)
      end
      alternatives[i] = table.concat(parts, " AND ")
   end
   return "(" .. table.concat(alternatives, " OR ") .. ")"
end

-- " ORDER BY …"
local function order_sql(q, order)
   local by = {}
   for i, o in ipairs(order) do
      by[i] = q.handle.quoted[o.column] .. (o.desc and " DESC" or "")
   end
   return " ORDER BY " .. table.concat(by, ", ")
end

-- The conditions, or nil, and the columns and values to bind. Behind a cursor there are more of them, in
-- lists of their own: the query stays as it is and can be run again.
local function conditions(q)
   local count, columns, values = q.count, q.columns, q.values
   if not q.after then
      return q.where, columns, values, count
   end
   columns, values = table.move(columns, 1, count, 1, {}), table.move(values, 1, count, 1, {})
   local after = after_sql(q, total_order(q), function(column, value)
      count = count + 1
      columns[count], values[count] = column, value
   end)
   return q.where and q.where .. " AND " .. after or after, columns, values, count
end

local function select_sql(q, where, order)
   return q.handle.select .. (where and " WHERE " .. where or "") .. order .. " LIMIT ?"
end

local STATEMENTS_MAX, CONDITIONS_MAX = 100, 200 -- of a table; and bytes

-- The same text for the same conditions, which is also how the statement is found most quickly.
local function kept_sql(q, where)
   local t, conditions_text = q.handle, where or ""
   local sql = t.statements[conditions_text]
   if not sql then
      sql = select_sql(q, where, t.order)
      if #conditions_text <= CONDITIONS_MAX then
         if t.statement_count >= STATEMENTS_MAX then
            t.statements, t.statement_count = {}, 0
         end
         t.statements[conditions_text], t.statement_count = sql, t.statement_count + 1
      end
   end
   return sql
end

local function rows(q, limit)
   local where, columns, values, count = conditions(q)
   local sql = q.order and select_sql(q, where, order_sql(q, total_order(q))) or kept_sql(q, where)
   if q.limit and (not limit or q.limit < limit) then
      limit = q.limit
   end
   return native.select(q.handle.native, sql, columns, values, count, limit or -1)
end

-- "name,-due,_id": without it the values would fit every other order of the same types, and rows be left out.
local function order_text(order)
   local names = {}
   for i, by in ipairs(order) do
      names[i] = by.desc and "-" .. by.column or by.column
   end
   return table.concat(names, ",")
end

-- Where the next page begins: the order and the last row's values of it, as a text.
local function cursor_behind(q, row)
   local order = total_order(q)
   local parts = native.json_array { order_text(order) }
   for i, by in ipairs(order) do
      local value = row[by.column]
      if value == nil then
         value = null
      end
      parts[i + 1] = value
   end
   return native.json_encode(parts)
end

-- A cursor comes back from a client, who may have made it up: a route answers that with a 400.
local function refuse_cursor()
   native.refuse_request("bad_cursor", "the cursor isn't one of these pages'")
end

local function check_cursor(q, order, values)
   for i, by in ipairs(order) do
      if values[i] ~= null then
         native.check(q.handle.native, by.column, values[i])
      elseif not q.handle.by_name[by.column].nullable or by.column == q.handle.key then
         raise(("after: %s.%s can't be null, as it is in this cursor"):format(q.handle.name, by.column))
      end
   end
end

-- :after(cursor) goes on behind the page whose rows.cursor it was; nil is the first page, and so is "", which
-- clients without a cursor send.
function Query:after(cursor)
   local q = check_query(self)
   if cursor == nil or cursor == "" then
      return self
   end
   local order = total_order(q)
   local values = type(cursor) == "string" and native.json_decode(cursor, null)
   if type(values) ~= "table" or #values ~= #order + 1 or values[1] ~= order_text(order) then
      refuse_cursor()
      raise("after wants a page's cursor (rows.cursor), made by a query with the same order_by")
   end
   table.remove(values, 1)
   local fits, problem = pcall(check_cursor, q, order, values)
   if not fits then
      refuse_cursor()
      error(problem, 0)
   end
   q.after = values
   return self
end

function Query:all()
   local q = check_query(self)
   local found = rows(q)
   if q.limit and q.limit > 0 and #found == q.limit then
      found.cursor = cursor_behind(q, found[#found])
   end
   return found
end

function Query:first()
   return rows(check_query(self), 1)[1]
end

function Query:unique()
   local q = check_query(self)
   local found = rows(q, 2)
   if found[2] then
      raise(("unique: more than one row of %s matches; use first() or all(), or a unique index"):format(q.handle.name))
   end
   return found[1]
end

function Query:count()
   local q = check_query(self)
   local where, columns, values, count = conditions(q)
   local n = native.count(q.handle.native,
      ("SELECT count(*) FROM %s%s"):format(quote(q.handle.name), where and " WHERE " .. where or ""),
      columns, values, count)
   return q.limit and math.min(n, q.limit) or n
end

function Query:each()
   local found, i = rows(check_query(self)), 0
   return function()
      i = i + 1
      return found[i]
   end
end

for name, method in next, Query do
   Query[name] = native.framed(method)
end

local function query(name)
   local q = setmetatable({}, query_metatable)
   queries[q] = { handle = handle(name), count = 0, columns = nothing, values = nothing }
   return q
end

-- A list of keys that no unique index is on: perhaps none could be.
local function check_key_columns(name, keys)
   local by_name = handle(name).by_name
   for _, key in ipairs(keys) do
      if not by_name[key] then
         native.unknown("column", key, sorted_keys(by_name), name)
      elseif not declared[name].by_name[key] then
         raise(("upsert into %s: '%s' is set by authkitd and can't be a key; change the row that has an _id with ctx.db.patch or ctx.db.replace")
            :format(name, key))
      end
   end
end

-- Upsert needs a unique index on exactly its keys: it is what "the same row" means.
local function check_keys(name, keys)
   local usable = type(keys) == "table" and rawlen(keys) > 0
   for i = 1, usable and rawlen(keys) or 0 do
      usable = usable and type(rawget(keys, i)) == "string"
   end
   if not usable then
      raise(("upsert into %s wants a list of key columns, such as { \"email\" }"):format(name))
   end
   local t = declared[name]
   if not t then
      return -- a table of ours; writing to it is refused in a moment
   end
   local unique = {}
   for _, index in ipairs(t.indexes) do
      if index.unique then
         unique[#unique + 1] = "(" .. table.concat(index.columns, ", ") .. ")"
         local matches = #index.columns == #keys
         for _, column in ipairs(index.columns) do
            local found = false
            for _, key in ipairs(keys) do
               found = found or key == column
            end
            matches = matches and found
         end
         if matches then
            return
         end
      end
   end
   check_key_columns(name, keys)
   raise(("upsert: %s has no unique index on (%s); it has %s. Declare one: indexes = { { \"%s\", unique = true } }")
      :format(name, table.concat(keys, ", "), #unique > 0 and table.concat(unique, " and ") or "none",
         table.concat(keys, '", "')))
end

-- What scripts get --------------------------------------------------------------------------------

local user_sql = {} -- column -> its statement

local function user_by(column, value, collate)
   local users = handle("workos_users")
   if value == nil then
      return nil
   end
   native.check(users.native, column, value)
   local sql = user_sql[column]
   if not sql then
      sql = ("%s WHERE %s = ?%s ORDER BY created_at DESC LIMIT ?"):format(users.select, quote(column), collate or "")
      user_sql[column] = sql
   end
   return native.select(users.native, sql, { column }, { value }, 1, 1)[1]
end

-- The row of one of the mirror's tables, by WorkOS's id.
local function find(name, id)
   local t = handle(name)
   local sql = t.find
   if not sql then
      sql = t.select .. ' WHERE "id" = ? LIMIT ?'
      t.find = sql
   end
   return native.select(t.native, sql, { "id" }, { id }, 1, 1)[1]
end

local row = native.row_functions(natives, function(name)
   return handle(name).native
end)

local ctx_db = read_only("ctx.db", {
   insert = row.insert,
   get = row.get,
   patch = row.patch,
   replace = row.replace,
   upsert = function(name, keys, fields)
      handle(name)
      check_keys(name, keys)
      return row.upsert(name, keys, fields)
   end,
   delete = row.delete,
   query = query,
   sql = native.sql,
})

-- No tail calls: an error's line is looked for below the frames of our own Lua, and one that was called so counts
-- as called by the script.
local ctx_users = read_only("ctx.users", {
   get = function(id)
      return (user_by("id", id))
   end,
   get_by_external_id = function(external_id)
      return (user_by("external_id", external_id))
   end,
   get_by_email = function(email)
      return (user_by("email", email, " COLLATE NOCASE"))
   end,
})

return { declare = declare, declared = declared, db = ctx_db, users = ctx_users, find = find }
