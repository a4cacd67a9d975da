-- Brings the database to what the script declares: what is missing is added, what would lose data
-- is refused with the reason and the way out. Nothing that isn't declared any more is dropped, but
-- indexes of ours, which hold no data of their own.
--
-- It works on whatever connection the C side has attached, inside its transaction; planning only
-- reads.

local native, db = ...

-- Unlike in db.lua, where names are declared ones: what is in the database already may have a quote in it.
local function quote(name)
   return '"' .. name:gsub('"', '""') .. '"'
end

-- The column types as SQLite spells them. The words decide SQLite's affinity: BOOLEAN stores 0 and
-- 1 as integers, JSON_TEXT stores text.
local spelled = { text = "TEXT", integer = "INTEGER", real = "REAL", boolean = "BOOLEAN", json = "JSON_TEXT" }
local type_of = { TEXT = "text", INTEGER = "integer", REAL = "real", BOOLEAN = "boolean", JSON_TEXT = "json" }

local function literal(value)
   if type(value) == "string" then
      return "'" .. value:gsub("'", "''") .. "'"
   elseif type(value) == "boolean" then
      return value and "1" or "0"
   elseif math.type(value) == "float" then
      return ("%.17g"):format(value)
   end
   return tostring(value)
end

-- The default as SQL, or nil. It fits its column: declaring it has seen to that.
local function default_literal(column)
   local value = column.default
   if value == nil then
      return nil
   elseif column.type == "json" then
      return literal(native.json_encode(value))
   elseif column.type == "real" then
      return literal(value + 0.0)
   elseif column.type == "integer" then
      return literal(math.tointeger(value))
   end
   return literal(value)
end

local function column_sql(column)
   local default = default_literal(column)
   return ("%s %s%s%s"):format(quote(column.name), spelled[column.type],
      column.nullable and "" or " NOT NULL", default and " DEFAULT " .. default or "")
end

local function index_sql(t, index)
   local names = {}
   for i, name in ipairs(index.columns) do
      names[i] = quote(name)
   end
   return ("CREATE %sINDEX %s ON %s (%s)"):format(index.unique and "UNIQUE " or "", quote(index.name),
      quote(t.name), table.concat(names, ", "))
end

local Plan = {}
Plan.__index = Plan

-- what says it to people; the further steps of one change have none.
function Plan:add(sql, what)
   self.steps[#self.steps + 1] = { sql = sql, what = what }
end

function Plan:refuse(...)
   self.problems[#self.problems + 1] = string.format(...)
end

function Plan:warn(...)
   self.warnings[#self.warnings + 1] = string.format(...)
end

-- AUTOINCREMENT: a deleted row's _id is never given out again, so what an app still holds of that row can't
-- mean another one. It ends at the highest _id that ever was, hence the CHECK: 2^53 is far from SQLite's end,
-- and as far as JavaScript's integers go.
local id_sql = '"_id" INTEGER PRIMARY KEY AUTOINCREMENT CHECK (_id < 9007199254740992)'

local function own_columns()
   return { id_sql, '"_creation_time" INTEGER NOT NULL' }
end

local MANY_ROWS = 100000

-- The writer does nothing else meanwhile: whoever reads the plan must know what a reload costs. "" for a few.
local function row_note(t)
   local rows = native.rows(("SELECT count(*) FROM %s"):format(quote(t.name)))[1][1]
   return rows >= MANY_ROWS and (" (%d rows: writes and actions wait meanwhile)"):format(rows) or ""
end

local function create_table(plan, t)
   local columns = own_columns()
   for _, column in ipairs(t.columns) do
      columns[#columns + 1] = column_sql(column)
   end
   plan:add(("CREATE TABLE %s (%s)"):format(quote(t.name), table.concat(columns, ", ")),
      "create table " .. t.name)
end

local function count(sql)
   return native.rows(sql)[1][1]
end

local function add_column(plan, t, column)
   if not column.nullable and column.default == nil then
      if plan.has_rows then
         return plan:refuse(
            "%s is required, but the table has rows that would have no value: make it '%s?' or give a default, %s = { type = \"%s\", default = … }",
            column.where, column.type, column.name, column.type)
      end
      -- SQLite adds no NOT NULL column without a default, not even to an empty table; so an empty
      -- table is made anew.
      plan.anew[t.name] = true
      return
   end
   plan:add(("ALTER TABLE %s ADD COLUMN %s"):format(quote(t.name), column_sql(column)),
      ("add column %s.%s"):format(t.name, column.name))
end

-- What is given as advice works as it stands there: a required column without a default couldn't be added beside rows.
local function refuse_type(plan, t, column, found)
   local found_type, old = type_of[found.type], quote(column.name .. "_old")
   local keep = found_type and ("Declare it '%s%s', or"):format(found_type, found.required and "" or "?") or "To convert it,"
   local for_now = ""
   if not column.nullable and column.default == nil then
      for_now = (" declare it '%s?' for now,"):format(column.type)
   end
   plan:refuse(
      "%s is declared %s, but the database has it as %s, and the table has rows: changing it could lose data. %s%s stop the server and run ALTER TABLE %s RENAME COLUMN %s TO %s; then start it and copy what you need in a function, such as ctx.db.sql('UPDATE %s SET %s = CAST(%s AS %s)')%s",
      column.where, column.type, found_type or found.type, keep, for_now,
      quote(t.name), quote(column.name), old, quote(t.name), quote(column.name), old, spelled[column.type],
      for_now ~= "" and "; without the '?' again once all rows have a value" or "")
end

local function compare_column(plan, t, column, found)
   if type_of[found.type] ~= column.type then
      if plan.has_rows then
         return refuse_type(plan, t, column, found)
      end
      plan.anew[t.name] = true -- nothing to lose
      return
   end
   if default_literal(column) ~= found.default then
      plan.anew[t.name] = true -- SQLite has no way to change a default
   end
   if column.nullable == not found.required then
      return
   end
   -- NOT NULL can't be altered in SQLite; the table is copied instead, in the same transaction.
   if not column.nullable then
      local nulls = count(("SELECT count(*) FROM %s WHERE %s IS NULL"):format(quote(t.name), quote(column.name)))
      if nulls > 0 then
         return plan:refuse(
            "%s is declared required, but %s no value: declare it '%s?', or first run UPDATE %s SET %s = … WHERE %s IS NULL, in a function or with the server stopped",
            column.where, nulls == 1 and "1 row has" or nulls .. " rows have", column.type,
            quote(t.name), quote(column.name), quote(column.name))
      end
   end
   plan.anew[t.name] = true
end

local function table_columns(name)
   local found, order = {}, {}
   for _, row in ipairs(native.rows("SELECT name, upper(type), \"notnull\", dflt_value FROM temp.pragma_table_info(?)", name)) do
      found[row[1]] = { name = row[1], type = row[2], required = row[3] == 1, default = row[4] }
      order[#order + 1] = row[1]
   end
   return found, order
end

-- SQL without what is in quotes, names or texts, and without comments. A quote within a comment is none, nor are two
-- dashes within a text.
local function without_texts(sql)
   local ends = { ["'"] = "'", ['"'] = '"', ["`"] = "`", ["["] = "]", ["--"] = "\n", ["/*"] = "*/" }
   local rest, from = {}, 1
   while true do
      local at = sql:find("['\"`%[%-/]", from)
      if not at then
         break
      end
      local mark = ends[sql:sub(at, at + 1)] and sql:sub(at, at + 1) or sql:sub(at, at)
      rest[#rest + 1] = sql:sub(from, at - 1)
      if ends[mark] then
         local _, last = sql:find(ends[mark], at + #mark, true)
         from = (last or #sql) + 1
         rest[#rest + 1] = #mark == 2 and " " or ""
      else
         from = at + 1
         rest[#rest + 1] = mark
      end
   end
   return table.concat(rest) .. sql:sub(from)
end

-- The constraint of a column that was added by hand, as SQL's word for it, or nil: authkitd itself writes none but
-- the CHECK of _id.
local function constraint_made_by_hand(t)
   local sql = native.rows("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", t.name)[1][1]
   sql = without_texts(sql):gsub("CHECK %(_id < %d+%)", "", 1):upper()
   for _, word in ipairs { "COLLATE", "CHECK", "REFERENCES", "UNIQUE", "CONFLICT" } do
      if sql:find("%f[%w_]" .. word .. "%f[^%w_]") then
         return word
      end
   end
end

-- What keeps a table from being made anew, each as what is so and what to do. The old table is dropped on the
-- way: rows that refer to it would be deleted with it, and views would lose it.
local function obstacles(t)
   local found = {}
   for _, row in ipairs(native.rows([[SELECT s.name FROM sqlite_schema AS s, temp.pragma_foreign_key_list(s.name) AS f
      WHERE s.type = 'table' AND lower(f."table") = lower(?)]], t.name)) do
      found[#found + 1] = ("table %s refers to it (FOREIGN KEY): with the server stopped, drop that reference first")
         :format(row[1])
   end
   local word = "%f[%w_]" .. t.name:lower():gsub("[^%w_]", "%%%0") .. "%f[^%w_]"
   for _, row in ipairs(native.rows([[SELECT type, name, sql FROM sqlite_schema WHERE type IN ('view', 'trigger')
      AND tbl_name <> ?]], t.name)) do
      if row[3]:lower():find(word) then
         found[#found + 1] = ("the %s %s mentions it: with the server stopped, DROP %s %s first and make it again afterwards")
            :format(row[1], row[2], row[1]:upper(), quote(row[2]))
      end
   end
   for _, row in ipairs(native.rows("SELECT name FROM temp.pragma_table_xinfo(?) WHERE hidden <> 0", t.name)) do
      found[#found + 1] = ("its column %s is computed, and would be lost: with the server stopped, drop that column first and add it again afterwards")
         :format(row[1])
   end
   local constraint = constraint_made_by_hand(t)
   if constraint then
      found[#found + 1] = ("a column that was added by hand has a %s, which would be lost: with the server stopped, drop that column first and add it again afterwards")
         :format(constraint)
   end
   local highest = native.rows(('SELECT max("_id") FROM %s'):format(quote(t.name)))[1][1]
   if highest and highest >= 1 << 53 then
      found[#found + 1] = ('it has a row with _id %d, and 2^53 is the end of them: give it another one, with UPDATE %s SET "_id" = …')
         :format(highest, quote(t.name))
   end
   return found
end

-- An older authkitd made it, which had no AUTOINCREMENT.
local function gives_ids_again(t)
   return native.rows([[SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?
      AND sql LIKE '%("_id" INTEGER PRIMARY KEY, "_creation_time" INTEGER NOT NULL%']], t.name)[1] ~= nil
end

-- What speaks against making it anew when only its _id asks for that, besides: nobody has asked, so nothing that
-- somebody made by hand may be lost, no start may fail, and none take minutes.
local MADE_UNASKED_MOST = 2000000
local function doubts(t)
   for _, row in ipairs(native.rows("SELECT name FROM sqlite_schema WHERE type = 'view'")) do
      local ok, problem = pcall(native.rows, ("SELECT 1 FROM %s LIMIT 0"):format(quote(row[1])))
      if not ok then
         return ("the view %s can't be read (%s): with the server stopped, DROP VIEW %s or mend it"):format(row[1],
            problem, quote(row[1]))
      end
   end
   local rows = native.rows(('SELECT count(*) FROM (SELECT 1 FROM %s LIMIT ?)'):format(quote(t.name)), MADE_UNASKED_MOST + 1)[1][1]
   if rows > MADE_UNASKED_MOST then
      return ("it has more than %d rows, and that would take minutes: the next change that makes it anew will do"):format(
         MADE_UNASKED_MOST)
   end
end

-- A default that somebody wrote, as it can be written again: SQLite takes a lone name for a text, but not in
-- parentheses, and an expression only in them.
local function default_as_found(default)
   local is_name = default:find("^[%a_\128-\255][%w_$\128-\255]*$") or default:gsub('""', ""):find('^"[^"]*"$')
      or default:find("^%[[^%]]*%]$") or default:find("^`[^`]*`$")
   return is_name and default or "(" .. default .. ")"
end

-- A required one without a default can get no value from an insert any more.
local function undeclared_column_sql(found)
   local kind = (type_of[found.type] or found.type == "") and found.type or quote(found.type) -- it may be no plain word
   return ("%s %s%s%s"):format(quote(found.name), kind, found.required and found.default and " NOT NULL" or "",
      found.default and " DEFAULT " .. default_as_found(found.default) or "")
end

-- Make the table anew with the declared columns (and those that are no longer declared), and move
-- the rows. Indexes go with the old table and are created again by compare_indexes.
local function rebuild(plan, t, found, order)
   for _, obstacle in ipairs(obstacles(t)) do
      plan:refuse("authkit.schema: table %s must be made anew for this change, but %s", t.name, obstacle)
   end
   local definitions = own_columns()
   local moved = { '"_id"', '"_creation_time"' }
   for _, name in ipairs(order) do
      local column = t.by_name[name]
      if column then
         definitions[#definitions + 1] = column_sql(column)
         moved[#moved + 1] = quote(name)
      elseif name ~= "_id" and name ~= "_creation_time" then
         definitions[#definitions + 1] = undeclared_column_sql(found[name])
         moved[#moved + 1] = quote(name)
      end
   end
   for _, column in ipairs(t.columns) do
      if not found[column.name] then
         definitions[#definitions + 1] = column_sql(column)
      end
   end
   local new, list = "authkitd_new_" .. t.name, table.concat(moved, ", ")
   plan:add(("CREATE TABLE %s (%s)"):format(quote(new), table.concat(definitions, ", ")),
      ("rebuild table %s%s"):format(t.name, row_note(t)))
   plan:add(("INSERT INTO sqlite_sequence (name, seq) SELECT %s, seq FROM sqlite_sequence WHERE name = %s")
      :format(literal(new), literal(t.name))) -- the highest _id that ever was, of a row that is gone, too
   plan:add(("INSERT INTO %s (%s) SELECT %s FROM %s"):format(quote(new), list, list, quote(t.name)))
   plan:add(("DROP TABLE %s"):format(quote(t.name)))
   plan:add(("ALTER TABLE %s RENAME TO %s"):format(quote(new), quote(t.name)))
   -- Indexes and triggers that somebody made by hand went with the old table.
   for _, row in ipairs(native.rows([[SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL
      AND type IN ('index', 'trigger') AND name NOT LIKE 'authkitd:%' ORDER BY type, name]], t.name)) do
      plan:add(row[1])
   end
end

local function check_duplicates(plan, t, index)
   -- A column that is new holds its default in every row, or null, which is no duplicate.
   local names = {}
   for _, name in ipairs(index.columns) do
      local column = t.by_name[name]
      if plan.found[name] then
         names[#names + 1] = quote(name)
      elseif not column or column.default == nil then
         return
      end
   end
   if #names == 0 then
      local rows = count(("SELECT count(*) FROM %s"):format(quote(t.name)))
      if rows > 1 then
         plan:refuse("authkit.schema: the unique index on %s (%s) can't be made: the new column would have its default in all %d rows",
            t.name, table.concat(index.columns, ", "), rows)
      end
      return
   end
   local list = table.concat(names, ", ")
   local twice = native.rows(("SELECT %s, count(*) FROM %s WHERE %s IS NOT NULL GROUP BY %s HAVING count(*) > 1 LIMIT 1")
      :format(list, quote(t.name), table.concat(names, " IS NOT NULL AND "), list))[1]
   if twice then
      local values = {}
      for i, name in ipairs(names) do
         values[i] = ("%s = %s"):format(name:sub(2, -2), literal(twice[i]))
      end
      plan:refuse(
         "authkit.schema: the unique index on %s (%s) can't be made: %d rows have %s. See them with SELECT * FROM %s WHERE %s; and remove all but one, in a function or with the server stopped",
         t.name, table.concat(index.columns, ", "), twice[#names + 1], table.concat(values, ", "),
         quote(t.name), table.concat(values, " AND "))
   end
end

-- Our indexes on a table, and those that have the names of such: an index keeps its name when its
-- table or a column of it gets another one.
local function found_indexes(t)
   local found = {}
   for _, row in ipairs(native.rows([[SELECT s.name, s.tbl_name, l."unique", l.partial
      FROM sqlite_schema AS s, temp.pragma_index_list(s.tbl_name) AS l ON l.name = s.name
      WHERE s.type = 'index' AND s.name LIKE 'authkitd:%'
      AND (s.tbl_name = ?1 OR substr(s.name, 1, length(?1) + 10) = 'authkitd:' || ?1 || ':') ORDER BY s.name]], t.name)) do
      local index = { name = row[1], table_name = row[2], unique = row[3] == 1, partial = row[4] == 1, columns = {} }
      for i, column in ipairs(native.rows("SELECT name FROM temp.pragma_index_info(?) ORDER BY seqno", index.name)) do
         index.columns[i] = column[1] or "an expression"
      end
      index.list = table.concat(index.columns, ", ")
      found[#found + 1] = index
   end
   return found
end

local function is_same_index(t, index, found)
   return found.table_name == t.name and found.unique == index.unique and not found.partial
      and found.list == table.concat(index.columns, ", ")
end

-- An earlier step of the plan may have dropped it, alone or with its table.
local function drop_index(plan, index)
   if not plan.dropped[index.name] then
      plan.dropped[index.name] = true
      plan:add("DROP INDEX IF EXISTS " .. quote(index.name), ("drop index on %s (%s)"):format(index.table_name, index.list))
   end
end

local function compare_indexes(plan, t, is_new)
   local existing, wanted = {}, {}
   local found = found_indexes(t)
   for _, index in ipairs(found) do
      existing[index.name] = index
   end
   for _, index in ipairs(t.indexes) do
      if not wanted[index.name] then
         wanted[index.name] = true
         local other = existing[index.name]
         local is_there = other and is_same_index(t, index, other)
         if not is_there or plan.anew[t.name] then
            if index.unique and not is_new then
               check_duplicates(plan, t, index)
            end
            -- A rebuilt table has lost its own indexes.
            if other and (other.table_name ~= t.name or not plan.anew[t.name]) then
               drop_index(plan, other)
            end
            -- The indexes of a rebuilt table are part of that.
            plan:add(index_sql(t, index), ("create index on %s (%s)%s"):format(t.name, table.concat(index.columns, ", "),
               (is_new or plan.anew[t.name]) and "" or row_note(t)))
         end
      end
   end
   for _, index in ipairs(found) do
      if index.table_name == t.name and not wanted[index.name] and not plan.anew[t.name] then
         drop_index(plan, index)
      end
   end
end

local function compare_table(plan, t)
   local found, order = table_columns(t.name)
   plan.found = found
   if not found._id or not found._creation_time then
      return plan:refuse(
         "authkit.schema: table %s is in the database already, but wasn't made by authkitd (it has no _id and _creation_time): rename one of the two",
         t.name)
   end
   plan.has_rows = native.rows(("SELECT 1 FROM %s LIMIT 1"):format(quote(t.name)))[1] ~= nil
   local by_lower = {}
   for _, name in ipairs(order) do
      by_lower[name:lower()] = name
   end
   for _, column in ipairs(t.columns) do
      local other = by_lower[column.name:lower()]
      if found[column.name] then
         compare_column(plan, t, column, found[column.name])
      elseif other then
         plan:refuse("%s is called '%s' in the database; SQLite doesn't tell them apart, so declare it that way",
            column.where, other)
      else
         add_column(plan, t, column)
      end
   end
   local undeclared = {}
   for _, name in ipairs(order) do
      if not t.by_name[name] and name ~= "_id" and name ~= "_creation_time" then
         undeclared[#undeclared + 1] = name
         if found[name].required and not found[name].default then
            plan.anew[t.name] = true -- an insert couldn't give it a value any more
         end
      end
   end
   if #undeclared > 0 then
      plan:warn("table %s has columns that aren't declared any more; they are kept: %s", t.name,
         table.concat(undeclared, ", "))
   end
   if not plan.anew[t.name] and gives_ids_again(t) then
      local obstacle = obstacles(t)[1] or doubts(t)
      plan.anew[t.name] = not obstacle
      if obstacle then
         plan:warn("table %s can give a deleted row's _id to a new one; that ends once it is made anew, but %s", t.name,
            obstacle)
      end
   end
   if plan.anew[t.name] then
      -- rebuild() makes all columns as declared, so single additions are not needed any more
      for i = #plan.steps, plan.mark + 1, -1 do
         plan.steps[i] = nil
      end
      rebuild(plan, t, found, order)
   end
end

-- Tables, views and indexes share their names: two lists, by the name in lower case, of the tables' names and of
-- what the others are.
local function names_taken()
   local existing, others = {}, {}
   for _, row in ipairs(native.rows("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view', 'index')")) do
      if row[2] == "table" then
         existing[row[1]:lower()] = row[1]
      else
         others[row[1]:lower()] = row[2]
      end
   end
   return existing, others
end

local function plan_all()
   local plan = setmetatable({ steps = {}, problems = {}, warnings = {}, anew = {}, dropped = {} }, Plan)
   local existing, others = names_taken()
   local names = {}
   for name in pairs(db.declared) do
      names[#names + 1] = name
   end
   table.sort(names)
   for _, name in ipairs(names) do
      local t = db.declared[name]
      local is_new = not existing[name:lower()]
      plan.mark = #plan.steps
      if not is_new and existing[name:lower()] ~= name then
         plan:refuse("authkit.schema: table %s is called '%s' in the database; SQLite doesn't tell them apart, so declare it that way",
            name, existing[name:lower()])
      elseif is_new and others[name:lower()] then
         local kind = others[name:lower()]
         plan:refuse('authkit.schema: table %s can\'t be made, since the database has %s %s of that name: declare the table under another one, or stop the server and DROP %s "%s"',
            name, kind == "index" and "an" or "a", kind, kind:upper(), name)
      else
         if is_new then
            plan.found = {}
            create_table(plan, t)
         else
            compare_table(plan, t)
         end
         compare_indexes(plan, t, is_new)
      end
      existing[name:lower()] = nil
   end
   for _, name in pairs(existing) do
      if not name:find("^workos_") and not name:find("^authkitd_") and not name:find("^sqlite_") then
         plan:warn("table %s isn't declared any more; it is kept", name)
      end
   end
   return plan
end

-- What takes the lines has room for so many of them; of a text that is too long it would keep nothing. more says how
-- many are left out.
local LINES_MAX_BYTES = 24 << 10

local function shortened(lines, more)
   local bytes = 0
   for i, line in ipairs(lines) do
      bytes = bytes + #line + 1
      if bytes > LINES_MAX_BYTES then
         local kept = table.move(lines, 1, i - 1, 1, {})
         kept[i] = more:format(#lines - i + 1)
         return kept
      end
   end
   return lines
end

-- Plan, and when `apply` do it. Returns the changes and warnings as lines; or nil and the problems.
local function bring(apply)
   local plan = plan_all()
   if #plan.problems > 0 then
      return nil, table.concat(plan.problems, "\n")
   end
   local changes, warnings = {}, {}
   for _, step in ipairs(plan.steps) do
      if apply then
         native.execute(step.sql)
      end
      changes[#changes + 1] = step.what
   end
   for i, warning in ipairs(plan.warnings) do
      warnings[i] = "warning: " .. warning
   end
   local lines = shortened(changes, "… and %d more")
   for _, warning in ipairs(shortened(warnings, "warning: … and %d more")) do
      lines[#lines + 1] = warning
   end
   return table.concat(lines, "\n")
end

return bring
