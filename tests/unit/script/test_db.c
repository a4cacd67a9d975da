/* SPDX-License-Identifier: MIT */
/* ctx.db and ctx.users: lua/db.lua and bind_db.c. */
#include "script/script.h"

#include "bench.h"

static const char schema[] =
    "local null = authkit.null\n"
    "authkit.schema { notes = {\n"
    "  columns = { name = 'text', n = 'integer?', r = 'real?', b = 'boolean?', j = 'json?' },\n"
    "  indexes = { { 'name', unique = true } } },\n"
    "  others = { columns = { x = 'text?', s = { 'text', default = 'std' } } } }\n";

static void passes(const char *body)
{
    bench_all_pass(schema, body);
}

static void raise_all(const struct raising *cases, size_t count)
{
    bench_all_raise(schema, cases, count);
}

static void db__row_comes_back_as_it_went_in(void **state)
{
    (void)state;
    passes(
        "local id = ctx.db.insert('notes', { name = 'a', n = math.mininteger, r = 1.5, b = false,\n"
        "  j = { list = { 1, { x = 'y' } }, none = authkit.json.array() } })\n"
        "assert(math.type(id) == 'integer')\n"
        "local row = ctx.db.get('notes', id)\n"
        "assert(row._id == id and row.name == 'a' and row.n == math.mininteger and row.r == 1.5)\n"
        "assert(math.abs(row._creation_time - ctx.now()) < 60000)\n"
        "assert(row.b == false and row.j.list[2].x == 'y')\n"
        "assert(authkit.json.encode(row.j.none) == '[]')\n"
        "ctx.db.patch('notes', id, { n = 9007199254740993, r = 2, b = true, j = null })\n"
        "row = ctx.db.get('notes', id)\n"
        "assert(row.n == 9007199254740993 and row.name == 'a' and row.b == true)\n"
        "assert(math.type(row.r) == 'float' and row.r == 2 and row.j == nil)\n"
        "ctx.db.patch('notes', id, {})\n"
        "assert(ctx.db.delete('notes', id) == true and ctx.db.delete('notes', id) == false)\n"
        "assert(ctx.db.get('notes', id) == nil)\n");
}

/* One nil, not nothing: that would be an error in tostring, and a 204 from a route. */
static void db__row_that_is_absent_is_one_nil(void **state)
{
    (void)state;
    passes("assert(select('#', ctx.db.get('notes', 999)) == 1)\n"
           "assert(tostring(ctx.db.get('notes', 999)) == 'nil')\n"
           "local q = ctx.db.query('notes')\n"
           "assert(select('#', q:first()) == 1 and select('#', q:unique()) == 1)\n"
           "assert(select('#', q:each()()) == 1)\n"
           "for _, get in pairs(ctx.users) do\n"
           "  assert(select('#', get(nil)) == 1)\n"
           "end\n");
}

static void db__json_columns_keep_their_form(void **state)
{
    (void)state;
    passes("local function same(value, text)\n"
           "  local id = ctx.db.insert('notes', { name = tostring(ctx.db.query('notes'):count()),\n"
           "    j = value })\n"
           "  local found = authkit.json.encode(ctx.db.get('notes', id).j)\n"
           "  assert(found == text, found)\n"
           "end\n"
           "same({}, '{}') same(authkit.json.array(), '[]') same({ 1, 2 }, '[1,2]')\n"
           "same('text', '\"text\"') same(5, '5') same(1.5, '1.5') same(true, 'true')\n"
           "same(false, 'false') same({ a = { b = { c = 1 } } }, '{\"a\":{\"b\":{\"c\":1}}}')\n"
           "same('a\\0b', '\"a\uFFFDb\"') same(math.maxinteger, '9223372036854775807')\n");
}

static void db__default_fills_in(void **state)
{
    (void)state;
    passes("assert(ctx.db.get('others', ctx.db.insert('others', {})).s == 'std')\n"
           "assert(ctx.db.get('others', ctx.db.insert('others', { s = 'own' })).s == 'own')\n");
}

/* SQLite took excluded."x" for the row that was there: nothing was updated, and nothing said so. */
static void db__upsert_updates_a_table_called_excluded(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_passes(&b,
                 "authkit.schema { excluded = { columns = { k = 'text', excluded = 'text' },"
                 " indexes = { { 'k', unique = true } } } }",
                 "local id = ctx.db.upsert('excluded', { 'k' }, { k = 'a', excluded = 'old' })\n"
                 "assert(ctx.db.upsert('excluded', { 'k' }, { k = 'a', excluded = 'new' }) == id)\n"
                 "assert(ctx.db.get('excluded', id).excluded == 'new')\n");
    bench_close(&b);
}

static void db__every_operator(void **state)
{
    (void)state;
    passes(
        "for i, name in ipairs { 'ada', 'bob', 'cyd', 'dan' } do\n"
        "  ctx.db.insert('notes', { name = name, n = i < 4 and i or nil, b = i == 1,\n"
        "    r = i / 2 })\n"
        "end\n"
        "local function found(...)\n"
        "  local names = {}\n"
        "  for row in ctx.db.query('notes'):where(...):order_by('name'):each() do\n"
        "    names[#names + 1] = row.name:sub(1, 1)\n"
        "  end\n"
        "  return table.concat(names)\n"
        "end\n"
        "local function is(text, wanted) assert(text == wanted, text) end\n"
        "is(found('name', 'bob'), 'b') is(found('name', '=', 'bob'), 'b')\n"
        "is(found('name', '==', 'bob'), 'b') is(found('n', '~=', 2), 'acd')\n"
        "is(found('n', '!=', 2), 'acd') is(found('n', '<', 2), 'a') is(found('n', '<=', 2), 'ab')\n"
        "is(found('n', '>', 2), 'c') is(found('n', '>=', 2), 'bc') is(found('n', null), 'd')\n"
        "is(found('n', '~=', null), 'abc') is(found('name', 'in', { 'ada', 'dan', 'x' }), 'ad')\n"
        "is(found('n', 'in', { 3, null }), 'cd') is(found('n', 'in', { null }), 'd')\n"
        "is(found('name', 'in', {}), '') is(found('name', 'like', '%A%'), 'ad')\n"
        "is(found { n = 2, name = 'bob' }, 'b') is(found { n = null }, 'd')\n"
        "is(found('b', true), 'a') is(found('r', 1), 'b') is(found('n', 2.0), 'b')\n"
        "is(found('_id', '>', 0), 'abcd')\n"
        "local function q() return ctx.db.query('notes'):order_by('n', 'desc'):order_by('name') "
        "end\n"
        "is(q():first().name, 'cyd') is(#q():all(), 4) is(#q():limit(2):all(), 2)\n"
        "is(#q():limit(0):all(), 0) is(q():limit(0):first(), nil) is(q():count(), 4)\n"
        "is(q():limit(3):count(), 3) is(q():limit(1):unique().name, 'cyd')\n"
        "is(#q():limit(4 / 2):all(), 2) is(q():limit(3.0):count(), 3)\n"
        "is(ctx.db.query('notes'):order_by('name', 'DESC'):first().name, 'dan')\n"
        "is(ctx.db.query('notes'):order_by('name', 'Asc'):first().name, 'ada')\n"
        "is(found('name', 'in', authkit.json.array { 'ada' }), 'a')\n"
        "is(ctx.db.query('notes'):where('name', 'x'):unique(), nil)\n"
        "is(authkit.json.encode(ctx.db.query('notes'):where('name', 'x'):all()), '[]')\n");
}

/* It was there by half: a later run bound values to the wrong places, or filtered by a part of it. */
static void db__refused_condition_leaves_the_query_as_it_was(void **state)
{
    (void)state;
    passes("for i = 1, 3 do ctx.db.insert('notes', { name = 'n' .. i, n = i }) end\n"
           "local q = ctx.db.query('notes')\n"
           "assert(not pcall(q.where, q, 'n', 'in', { 1, 'x' }))\n"
           "assert(not pcall(q.where, q, { n = 1, name = 5 }))\n"
           "assert(not pcall(q.where, q, 'n', '<', null))\n"
           "assert(q:count() == 3 and #q:all() == 3)\n"
           "q:where('n', 2)\n"
           "assert(q:count() == 1 and q:unique().name == 'n2')\n");
}

static void db__rows_may_change_while_they_are_gone_through(void **state)
{
    (void)state;
    passes("for i = 1, 10 do ctx.db.insert('notes', { name = 'n' .. i }) end\n"
           "for row in ctx.db.query('notes'):each() do\n"
           "  ctx.db.delete('notes', row._id)\n"
           "  ctx.db.insert('others', { x = row.name })\n"
           "end\n"
           "assert(ctx.db.query('notes'):count() == 0 and ctx.db.query('others'):count() == 10)\n");
}

static void db__many_different_queries(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 20000; /* a sanitizer takes its time */
    bench_passes(&b, schema,
                 "local kept = ctx.db.query('notes')\n"
                 "local list = {}\n"
                 "for i = 1, 700 do\n"
                 "  list[(i - 1) % 80 + 1] = i\n"
                 "  local q = ctx.db.query('notes'):where('n', 'in', list)\n"
                 "  for j = 1, i % 9 do q:where('name', j % 2 == 0 and '>' or '<', 'x') end\n"
                 "  assert(q:count() == 0)\n"
                 "end\n"
                 "assert(#kept:all() == 0)\n");
    bench_close(&b);
}

/* Texts of statements are kept by their conditions, the values never with them. */
static void db__a_query_may_run_and_go_on(void **state)
{
    (void)state;
    passes("for i = 1, 5 do ctx.db.insert('notes', { name = 'n' .. i, n = i }) end\n"
           "local q = ctx.db.query('notes')\n"
           "assert(#q:all() == 5 and q:count() == 5 and #q:all() == 5)\n"
           "q:where('n', '>', 1)\n"
           "assert(#q:all() == 4 and #q:all() == 4)\n"
           "local other = ctx.db.query('notes'):where('n', '>', 3)\n"
           "assert(#other:all() == 2 and #q:all() == 4 and #ctx.db.query('notes'):all() == 5)\n"
           "q:where('n', '<', 5):where('name', '~=', 'n3')\n"
           "assert(q:count() == 2 and q:all()[2].name == 'n4')\n"
           "q:order_by('n', 'desc')\n"
           "assert(q:first().name == 'n4' and q:all()[2].name == 'n2')\n"
           "q:limit(1)\n"
           "local page = q:all()\n"
           "assert(#page == 1 and q:count() == 1)\n"
           "q:after(page.cursor)\n"
           "assert(q:all()[1].name == 'n2' and q:all()[1].name == 'n2')\n"
           "for round = 1, 2 do\n"
           "  for count = 1, 120 do\n"
           "    local list = {}\n"
           "    for i = 1, count do list[i] = i + 3 end\n"
           "    assert(#ctx.db.query('notes'):where('n', 'in', list):all() == math.min(count, 2))\n"
           "  end\n"
           "end\n");
}

static void db__names_are_checked(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.insert('note', {})", "no table 'note' in the schema; it has notes, others, "
                                      "workos_organizations, workos_users (did "
                                      "you mean 'notes'?)"},
        {"ctx.db.query('workos_user')", "(did you mean 'workos_users'?)"},
        {"ctx.db.query('sqlite_schema')", "no table 'sqlite_schema'"},
        {"ctx.db.query('workos_events')",
         "no table 'workos_events' in ctx.db but for ctx.db.sql, which can read it: "
         "ctx.db.sql(\"SELECT … FROM workos_events\")"},
        {"ctx.db.query('notes\" --')", "no table 'notes\" --'"},
        {"ctx.db.query()", "the name of a table is a text, not nil"},
        {"ctx.db.query({})", "the name of a table is a text, not a table"},
        {"ctx.db.get(5)", "the name of a table is a text, not a number; it comes before the _id: "
                          "ctx.db.get(table, _id), ctx.db.patch(table, _id, { … }), "
                          "ctx.db.delete(table, _id)"},
        {"ctx.db.patch(5, { name = 'x' })", "not a number; it comes before the _id"},
        {"ctx.db.delete(5)", "not a number; it comes before the _id"},
        {"ctx.db.upsert(true, { 'name' }, {})", "the name of a table is a text, not a boolean"},
        {"ctx.db.insert('notes', { nmae = 'x' })",
         "no column 'nmae' in notes; it has _id, _creation_time, b, j, n, name, r (did you mean "
         "'name'?)"},
        {"ctx.db.insert('notes', { 'x' })", "no column '1' in notes"},
        {"ctx.db.insert('notes', { [{}] = 1 })", "no column 'table: "},
        {"ctx.db.patch('notes', 1, { x = 1 })", "no column 'x' in notes"},
        {"ctx.db.query('notes'):where('x', 1)", "no column 'x' in notes"},
        {"ctx.db.query('notes'):where(nil, 1)",
         "no column 'nil' in notes; it has _creation_time, _id, b, j, n, name, r"},
        {"ctx.db.query('notes'):order_by('x')", "no column 'x' in notes"},
        {"ctx.db.insert('notes', { ['name\\0x'] = 'a' })",
         "no column 'name\\0x' in notes; it has _id, _creation_time, b, j, n, name, r"},
        {"ctx.db.patch('notes', 1, { ['n\\0'] = 1 })", "no column 'n\\0'"},
        {"ctx.db.replace('notes', 1, { name = 'a', ['n\\0x'] = 1 })", "no column 'n\\0x'"},
        {"ctx.db.upsert('notes', { 'name' }, { name = 'a', ['n\\0x'] = 1 })", "no column 'n\\0x'"},
        {"ctx.db.upsert('notes', { 'name\\0x' }, { name = 'a' })", "no column 'name\\0x'"},
        {"ctx.db.query('notes'):where('n\\0x', 1)", "no column 'n\\0x'"},
        {"ctx.db.query('notes'):where { ['n\\0x'] = 1 }", "no column 'n\\0x'"},
        {"ctx.db.query('notes'):where('n', '=\\0', 1)", "no operator '=\\0'"},
        {"ctx.db.query('notes'):order_by('n\\0x')", "no column 'n\\0x'"},
        {"ctx.db.insert('notes\\0x', { name = 'a' })", "no table 'notes\\0x'"},
        {"ctx.db.get('notes\\0x', 1)", "no table 'notes\\0x'"},
        {"ctx.db.query('notes\\0x')", "no table 'notes\\0x'"},
        {"ctx.db.query('notes'):where('n', '<>', 1)",
         "no operator '<>' in where; it has =, ~=, <, <=, >, >=, in, like (did you mean '~='?)"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

static void db__values_are_checked(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.insert('notes', { name = 5 })", "notes.name takes text, not a number (5)"},
        {"ctx.db.insert('notes', { name = true })", "notes.name takes text, not a boolean (true)"},
        {"ctx.db.insert('notes', { name = {} })", "notes.name takes text, not a table"},
        {"ctx.db.insert('notes', { name = 'a\\0b' })", "notes.name: the text has a NUL byte"},
        {"ctx.db.insert('notes', { name = '\\xff' })", "notes.name: the text isn't valid UTF-8"},
        {"ctx.db.insert('notes', { name = 'a', n = '5' })",
         "notes.n takes an integer, not a string (\"5\")"},
        {"ctx.db.insert('notes', { name = 'a', n = ('5'):rep(30) })", "and so on"},
        {"ctx.db.insert('notes', { name = 'a', n = 1.5 })",
         "notes.n takes an integer, not a number (1.5)"},
        {"ctx.db.insert('notes', { name = 'a', n = 1e300 })", "notes.n takes an integer"},
        {"ctx.db.insert('notes', { name = 'a', r = authkit.json.decode('1e400') })",
         "notes.r takes a finite number"},
        {"ctx.db.insert('notes', { name = 'a', r = 'x' })", "notes.r takes a real, not a string"},
        {"ctx.db.insert('notes', { name = 'a', b = 1 })",
         "notes.b takes a boolean, not a number (1)"},
        {"ctx.db.insert('notes', { name = 'a', j = print })", "a function can't be JSON"},
        {"ctx.db.insert('notes', { name = 'a', j = { x = 0/0 } })",
         "notes.j: x: JSON has no number for nan"},
        {"ctx.db.insert('notes', {})", "notes.name is missing: its type is text, without '?'"},
        {"ctx.db.insert('notes', { name = null })",
         "notes.name can't be null: its type is text, without '?'"},
        {"ctx.db.insert('notes', { name = 'a', _id = 5 })",
         "notes._id is set by authkitd and can't be given"},
        {"ctx.db.insert('notes', { name = 'a', _creation_time = 5 })",
         "notes._creation_time is set by authkitd"},
        {"ctx.db.insert('notes')", "insert into notes wants a table of columns, not nothing"},
        {"ctx.db.insert('notes', 'x')", "insert into notes wants a table of columns, not a string"},
        {"ctx.db.patch('notes', 1, 5)", "patch of notes wants a table of columns, not a number"},
        {"ctx.db.patch('notes', 77, { n = 1 })", "patch: there is no row with _id 77 in notes"},
        {"ctx.db.patch('notes', 'x', {})", "the _id of a row of notes is an integer, not a string"},
        {"ctx.db.get('notes', nil)", "the _id of a row of notes is an integer, not nil"},
        {"ctx.db.delete('notes', 1.5)", "the _id of a row of notes is an integer"},
        {"ctx.db.query('notes'):where('n', 'x')", "notes.n takes an integer"},
        {"ctx.db.query('notes'):where('n', nil)",
         "where('n') compares with nil: to find rows without a value use authkit.null"},
        {"ctx.db.query('notes'):where('n', '<', null)", "only = and ~= compare with null"},
        {"ctx.db.query('workos_users'):order_by('metadata')", "metadata is json"},
        {"ctx.db.query('notes'):where('n', 'in', 5)", "wants a list of values, not a number"},
        {"ctx.db.query('notes'):where('n', 'in', { 1, 'x' })", "notes.n takes an integer"},
        {"ctx.db.query('notes'):where('n', 'in', { a = 1 })",
         "what where('n', 'in', …) gets must be a list, such as { 1, 2 }: 'a' is no position"},
        {"ctx.db.query('notes'):where('n', 'in', { 1, 2, a = 3 })", "'a' is no position in it"},
        {"ctx.db.query('notes'):where('n', 'in', { nil, 2 })",
         "number 1 of it is nil, and there are more behind it"},
        {"ctx.db.query('notes'):where('n', 'in', event)", "is no position in it"},
        {"ctx.db.query('notes'):where()", "where wants (column, value)"},
        {"ctx.db.query('notes'):where {}",
         "where { } names no column: a value of nil leaves its column out; give authkit.null for "
         "rows without a value"},
        {"local x ctx.db.query('notes'):where { n = x }:all()", "where { } names no column"},
        {"ctx.db.query('notes'):where(event.nothing or {})", "where { } names no column"},
        {"ctx.db.query('notes'):where('n', '=', 1, 2)", "where wants (column, value)"},
        {"ctx.db.query('notes').where('n', 1)", "call it with a colon on a query"},
        {"ctx.db.query('notes').all({})", "call it with a colon on a query"},
        {"ctx.db.query('notes'):order_by('n', 'down')",
         "the direction is \"asc\" or \"desc\", not 'down'"},
        {"ctx.db.query('notes'):limit(-1)",
         "limit wants a whole number that isn't negative, not '-1'"},
        {"ctx.db.query('notes'):order_by { 'n', 'desc' }",
         "order_by wants the name of a column, a text, not a table"},
        {"ctx.db.query('notes'):where(print, 5)",
         "where wants the name of a column, a text, not a function"},
        {"ctx.db.query('notes'):order_by('n', true)", "\"asc\" or \"desc\", not 'true'"},
        {"ctx.db.query('notes'):limit(1.5)", "limit wants a whole number"},
        {"ctx.db.query('notes'):limit(-2.0)", "isn't negative, not '-2.0'"},
        {"ctx.db.query('notes'):limit(1e300)", "limit wants a whole number"},
        {"ctx.db.query('notes'):limit('1')", "limit wants a whole number"},
        {"ctx.db.query('notes'):limit()", "limit wants a whole number"},
        {"ctx.db.insert('notes', { name = 'a' }) ctx.db.insert('notes', { name = 'b' })\n"
         "ctx.db.query('notes'):unique()",
         "unique: more than one row of notes matches"},
        {"ctx.db.insert('notes', { name = 'a' }) ctx.db.insert('notes', { name = 'a' })",
         "UNIQUE constraint failed: notes.name"},
        {"ctx.db.x = 1", "ctx.db is read-only"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

/* A query without its last call looked like an empty list: a block list never denied. */
static void db__query_is_not_its_rows(void **state)
{
    static const char told[] = "this is a query, not its rows: end it with :all(), :first(), "
                               ":unique(), :each() or :count()";
    static const struct raising cases[] = {
        {"return #ctx.db.query('notes'):where('n', 1) > 0", told},
        {"for _, row in ipairs(ctx.db.query('notes')) do error('x') end", told},
        {"for _, row in pairs(ctx.db.query('notes')) do error('x') end", told},
        {"local row = ctx.db.query('notes')[1]", told},
        {"local row = ctx.db.query('notes')[true]", told},
        {"if next(ctx.db.query('notes')) then error('x') end", told},
        {"ctx.db.query('notes').x = 1", told},
        {"ctx.db.query('notes')[1] = { name = 'a' }", told},
        {"local names = table.concat(ctx.db.query('notes'))", told},
        {"local row = table.unpack(ctx.db.query('notes'))", told},
        {"ctx.db.query('notes'):where('n', 'in', ctx.db.query('notes'))", told},
        {"local name = ctx.db.query('notes'):where('n', 1).name",
         "a query has no 'name': it has where, order_by, limit and after; its rows come of :all(), "
         ":first(), :unique() or :each(), and their number of :count()"},
        {"ctx.db.query('notes'):offset(5)", "a query has no 'offset': it has where, order_by"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
    passes("local q = ctx.db.query('notes')\n"
           "assert(getmetatable(q) == false and not pcall(setmetatable, q, {}))\n"
           "assert(q:limit(3) == q and rawequal(q.where, ctx.db.query('notes').where))\n"
           "assert(tostring(q):find('^query') and #q:all() == 0)\n"
           "assert(next({}) == nil and next(ctx.db.query('notes'):all()) == nil)\n");
}

static void db__row_that_was_read_can_go_back_whole(void **state)
{
    static const struct raising cases[] = {
        {"local id = ctx.db.insert('notes', { name = 'a1' })\n"
         "ctx.db.patch('notes', id, { _id = id + 1 })",
         "notes._id is set by authkitd and can't be changed"},
        {"local id = ctx.db.insert('notes', { name = 'a2' })\n"
         "ctx.db.replace('notes', id, { _id = tostring(id), name = 'b' })",
         "notes._id is set by authkitd and can't be changed"},
        {"local id = ctx.db.insert('notes', { name = 'a3' })\n"
         "ctx.db.patch('notes', id, { _id = null })",
         "notes._id is set by authkitd and can't be changed"},
        {"local id = ctx.db.insert('notes', { name = 'a4' })\n"
         "ctx.db.replace('notes', id, { name = 'b', _creation_time = 5 })",
         "notes._creation_time is set by authkitd and can't be changed"},
        {"local row = ctx.db.get('notes', ctx.db.insert('notes', { name = 'a5' }))\n"
         "ctx.db.delete('notes', row._id)\n"
         "ctx.db.replace('notes', row._id, row)",
         "replace: there is no row with _id"},
        {"local row = ctx.db.get('notes', ctx.db.insert('notes', { name = 'a6' }))\n"
         "row.name = 'b'\n"
         "ctx.db.insert('notes', row)",
         "is set by authkitd and can't be given"},
    };

    (void)state;
    passes("local id = ctx.db.insert('notes', { name = 'a', n = 1, j = { 1 } })\n"
           "local row = ctx.db.get('notes', id)\n"
           "row.n = 9\n"
           "ctx.db.replace('notes', row._id, row)\n"
           "local after = ctx.db.get('notes', id)\n"
           "assert(after.n == 9 and after.name == 'a' and after.j[1] == 1)\n"
           "assert(after._id == id and after._creation_time == row._creation_time)\n"
           "after.b = true\n"
           "ctx.db.patch('notes', id, after)\n"
           "assert(ctx.db.get('notes', id).b == true)\n"
           "ctx.db.patch('notes', id, { _id = id, _creation_time = row._creation_time })\n"
           "ctx.db.patch('notes', id, { _id = id + 0.0 })\n");
    raise_all(cases, ARRAY_LEN(cases));
}

/* A colon passes what stands before it as the first argument. */
static void db__colon_in_place_of_a_dot_is_told(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db:insert('notes', {})", "call it with a dot: ctx.db.insert(…)"},
        {"ctx.db:get('notes', 1)", "call it with a dot: ctx.db.get(…)"},
        {"return ctx.db:get('notes', 1)", "call it with a dot: ctx.db.get(…)"},
        {"ctx.db:patch('notes', 1, {})", "call it with a dot: ctx.db.patch(…)"},
        {"ctx.db:replace('notes', 1, {})", "call it with a dot: ctx.db.replace(…)"},
        {"ctx.db:delete('notes', 1)", "call it with a dot: ctx.db.delete(…)"},
        {"return ctx.db:upsert('notes', { 'name' }, {})", "a dot: ctx.db.upsert(…)"},
        {"return ctx.db:query('notes')", "call it with a dot: ctx.db.query(…)"},
        {"ctx.db:sql('SELECT 1')", "call it with a dot: ctx.db.sql(…)"},
        {"return ctx.users:get('x')", "call it with a dot: ctx.users.get(…)"},
        {"return ctx.users:get_by_email('x')", "call it with a dot: ctx.users.get_by_email(…)"},
        {"ctx.users:get_by_external_id('x')", "a dot: ctx.users.get_by_external_id(…)"},
        {"ctx.log:error('x')", "call it with a dot: ctx.log.error(…)"},
        {"local db = ctx.db; db:insert('notes', {})", "call it with a dot: ctx.db.insert(…)"},
        {"authkit.json:encode({})", "call it with a dot: authkit.json.encode(…)"},
        {"return authkit.json:decode('{}')", "call it with a dot: authkit.json.decode(…)"},
        {"authkit.json:array()", "call it with a dot: authkit.json.array(…)"},
        {"ctx.db.insert('notes', { name = ctx.db })", "notes.name takes text, not a table"},
        {"ctx.users.get(ctx.db)", "workos_users.id takes text, not a table"},
        {"ctx.db.insert(ctx.users, {})", "the name of a table is a text, not a table"},
        {"authkit.json.encode({ ctx.db })", "ctx.db can't be JSON"},
        {"ctx.db.get(setmetatable({}, { __name = 'x', __index = {} }), 1)",
         "the name of a table is a text, not a table"},
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        bench_raises(&b, schema, cases[i].body, cases[i].wanted);
    bench_close(&b);
}

/* Names and list places together: whoever reads the error must learn where it was. */
static void db__where_with_a_list_among_the_names_is_placed(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.query('notes'):where { 'n', name = 'x' }", "no column '1' in notes"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

static void db__mirror_is_read_and_never_written(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.insert('workos_users', { id = 'x' })",
         "workos_users is kept by authkitd and can't be written"},
        {"ctx.db.patch('workos_users', 1, {})", "workos_users is kept by authkitd"},
        {"ctx.db.delete('workos_users', 1)", "workos_users is kept by authkitd"},
        {"ctx.db.get('workos_users', 'x')", "rows of workos_users have no _id; use ctx.db.query"},
        {"ctx.users.get(5)", "workos_users.id takes text"},
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_int_equal(db_exec(b.db,
                             "CREATE TABLE workos_users (id TEXT, email TEXT, external_id TEXT,"
                             " metadata TEXT, created_at TEXT);"
                             "INSERT INTO workos_users VALUES ('u1', 'Ada@x.com', 'e1',"
                             " '{\"k\":[]}', '2026');",
                             &b.err),
                     0);
    bench_passes(&b, schema,
                 "assert(ctx.users.get('u1').email == 'Ada@x.com')\n"
                 "assert(ctx.users.get('u2') == nil and ctx.users.get(nil) == nil)\n"
                 "assert(ctx.users.get_by_email('ada@X.COM').id == 'u1')\n"
                 "assert(ctx.users.get_by_external_id('e1').id == 'u1')\n"
                 "assert(authkit.json.encode(ctx.users.get('u1').metadata) == '{\"k\":[]}')\n"
                 "assert(ctx.db.query('workos_users'):where('email', 'Ada@x.com'):count() == 1)\n");
    bench_close(&b);
    raise_all(cases, ARRAY_LEN(cases));
}

static void db__caught_error_leaves_the_state_clean(void **state)
{
    (void)state;
    passes("ctx.db.insert('notes', { name = 'a' })\n"
           "for i = 1, 20 do\n"
           "  local ok, problem = pcall(ctx.db.insert, 'notes', { name = 'a' })\n"
           "  assert(not ok and problem:find('UNIQUE'))\n"
           "  assert(not pcall(ctx.db.insert, 'notes', { name = 5 }))\n"
           "  assert(not pcall(ctx.db.insert, 'notes', {}))\n"
           "  assert(not pcall(ctx.db.patch, 'notes', 99, { n = 1 }))\n"
           "  ctx.db.insert('notes', { name = 'b' .. i })\n"
           "end\n"
           "assert(ctx.db.query('notes'):count() == 21)\n");
}

static void db__works_only_while_a_function_runs(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, schema, "stolen = ctx");
    bench_load(&b, "local authkit = require 'authkit'\n"
                   "local kept\n"
                   "authkit.events { t = function(ctx) if kept then kept:count() end\n"
                   "  kept = ctx.db.query('workos_users') end }\n");
    bench_ok(&b);
    bench_close(&b);
}

/* Declarations belong to loading: later ones would never reach the database. */
static void db__declaring_is_over_when_a_function_runs(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, schema, "authkit.schema { later = { columns = { x = 'text' } } }");
    bench_run(&b);
    assert_int_equal(b.rc, ERR_SCRIPT);
    bench_close(&b);
}

static void db__interrupted_select_ends_with_the_limit(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 60;
    bench_script(&b, schema,
                 "if event.data.fill then\n"
                 "  for i = 1, 600 do ctx.db.insert('others', { x = ('a'):rep(2000) .. i }) end\n"
                 "  return\nend\n"
                 "while true do\n"
                 "  pcall(function() ctx.db.query('others'):where('x', 'like',\n"
                 "    ('%a'):rep(20) .. 'b'):count() end)\nend");
    b.rc = 0;
    for (int i = 0; i < 2; i++) {
        bench_run(&b);
        bench_says(&b, ERR_LIMIT, "ran longer than 60 ms");
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(db__row_comes_back_as_it_went_in),
        IN_TEMP_DIR(db__row_that_is_absent_is_one_nil),
        IN_TEMP_DIR(db__json_columns_keep_their_form),
        IN_TEMP_DIR(db__default_fills_in),
        IN_TEMP_DIR(db__upsert_updates_a_table_called_excluded),
        IN_TEMP_DIR(db__every_operator),
        IN_TEMP_DIR(db__refused_condition_leaves_the_query_as_it_was),
        IN_TEMP_DIR(db__rows_may_change_while_they_are_gone_through),
        IN_TEMP_DIR(db__many_different_queries),
        IN_TEMP_DIR(db__a_query_may_run_and_go_on),
        IN_TEMP_DIR(db__names_are_checked),
        IN_TEMP_DIR(db__values_are_checked),
        IN_TEMP_DIR(db__query_is_not_its_rows),
        IN_TEMP_DIR(db__row_that_was_read_can_go_back_whole),
        IN_TEMP_DIR(db__colon_in_place_of_a_dot_is_told),
        IN_TEMP_DIR(db__where_with_a_list_among_the_names_is_placed),
        IN_TEMP_DIR(db__mirror_is_read_and_never_written),
        IN_TEMP_DIR(db__caught_error_leaves_the_state_clean),
        IN_TEMP_DIR(db__works_only_while_a_function_runs),
        IN_TEMP_DIR(db__declaring_is_over_when_a_function_runs),
        IN_TEMP_DIR(db__interrupted_select_ends_with_the_limit),
    };

    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
