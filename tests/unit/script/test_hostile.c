/* SPDX-License-Identifier: MIT */
/* What a script can do to break in, crash or lose data without a word, and that it can't. */
#include "script/script.h"

#include "bench.h"

static const char schema[] =
    "authkit.schema { notes = { columns = { name = 'text?', r = 'real?', j = 'json?' } } }\n";

static void passes(const char *body)
{
    struct bench b;

    bench_open(&b);
    bench_passes(&b, schema, body);
    bench_close(&b);
}

static void raises(const char *body, const char *wanted)
{
    struct bench b;

    bench_open(&b);
    bench_raises(&b, schema, body, wanted);
    bench_close(&b);
}

static void load_fails(const char *text, const char *wanted)
{
    struct bench b;

    bench_open(&b);
    bench_load(&b, text);
    bench_says(&b, ERR_SCRIPT, wanted);
    bench_close(&b);
}

static void hostile__metatable_of_queries_is_out_of_reach(void **state)
{
    (void)state;
    raises("ctx.db.query('notes').__index.__gc = function() while true do end end",
           "a query has no '__index'");
    raises("ctx.db.query('notes').where = nil", "this is a query, not its rows");
    raises("getmetatable(ctx.db.query('notes')).x = 1", "boolean value");
    passes("local methods = ctx.db.query('notes')\n"
           "assert(not pcall(function() rawset(methods.all, 'x', 1) end))\n"
           "assert(#ctx.db.query('notes'):all() == 0)\n");
}

static void hostile__pairs_of_its_own_can_not_crash_the_load(void **state)
{
    (void)state;
    load_fails("local authkit = require 'authkit'\n"
               "local n = 0\n"
               "authkit.events(setmetatable({ [true] = print }, { __pairs = function()\n"
               "  n = n + 1\n"
               "  return function(_, k)\n"
               "    if k == nil then return n == 1 and 'user.created' or true, print end\n"
               "  end\n"
               "end }))\n",
               "isn't an event type of WorkOS");
    load_fails("require('authkit').events { [1] = print }", "isn't an event type of WorkOS");
    load_fails("require('authkit').actions { [1] = print }", "there is no action '1'");
    load_fails("require('authkit').routes { [1] = print }", "isn't a route");
}

static void hostile__log_fields_outlive_what_a_tostring_does(void **state)
{
    (void)state;
    passes("local fields = {}\n"
           "for i = 1, 8 do\n"
           "  fields[('key number %d, long enough to be no short string of Lua'):format(i)] =\n"
           "    setmetatable({}, { __tostring = function()\n"
           "      for k in pairs(fields) do fields[k] = nil end\n"
           "      for _ = 1, 2e5 do local x = {} end\n"
           "      return 'x'\n"
           "    end })\n"
           "end\n"
           "pcall(ctx.log.error, 'fields', fields)\n");
}

static void hostile__page_can_be_encoded(void **state)
{
    (void)state;
    passes("for i = 1, 3 do ctx.db.insert('notes', { name = 'n' .. i }) end\n"
           "local page = ctx.db.query('notes'):limit(2):all()\n"
           "assert(page.cursor and #authkit.json.decode(authkit.json.encode(page)) == 2)\n"
           "ctx.db.insert('notes', { j = page })\n");
}

static void hostile__lists_lose_nothing_without_a_word(void **state)
{
    (void)state;
    passes("assert(authkit.json.encode { 1, 2, [4] = 3 } == '[1,2,null,3]')\n"
           "assert(authkit.json.encode(authkit.json.decode '[1,null,3]') == '[1,null,3]')\n");
    raises("authkit.json.encode { 1, 2, [1000] = 3 }", "more holes than values");
    raises("authkit.json.encode { 1, 2, [true] = 3 }", "a key that is no position");
    raises("authkit.json.encode { 1, 2, [1.5] = 3 }", "a key that is no position");
    raises("authkit.json.encode { 1, 2, cursor = 3 }", "both a list and names");
    raises("local list = authkit.json.array { 1 }\nlist['cursor\\0x'] = 3\n"
           "authkit.json.encode(list)",
           "names ('cursor\\0x')");
}

/* Every state has an order of its own for the names of a table, and so has every way of filling it. */
static void json__members_come_by_name(void **state)
{
    (void)state;
    passes(
        "assert(authkit.json.encode { b = 1, a = 2, ab = { z = 1, ['é'] = 2, [''] = 3, B = 4 } } "
        "==\n"
        "  '{\"a\":2,\"ab\":{\"\":3,\"B\":4,\"z\":1,\"é\":2},\"b\":1}')\n"
        "for n = 1, 100 do\n"
        "  local up, down, names = {}, {}, {}\n"
        "  for i = 1, n do up['n' .. i] = i; names[i] = 'n' .. i end\n"
        "  for i = n, 1, -1 do down['n' .. i] = i end\n"
        "  table.sort(names)\n"
        "  for i, name in ipairs(names) do names[i] = ('\"%s\":%s'):format(name, name:sub(2)) end\n"
        "  assert(authkit.json.encode(up) == '{' .. table.concat(names, ',') .. '}')\n"
        "  assert(authkit.json.encode(down) == authkit.json.encode(up))\n"
        "end\n");
}

static void json__weak_table_may_lose_members_meanwhile(void **state)
{
    (void)state;
    passes("for _ = 1, 20 do\n"
           "  local weak = setmetatable({}, { __mode = 'v' })\n"
           "  for i = 1, 300 do\n"
           "    local inner = {}\n"
           "    for k = 1, 40 do inner['inner name number ' .. k .. ', long enough to be no short "
           "one'] = k end\n"
           "    weak['a name of a member, long enough to be no short string ' .. i] = inner\n"
           "  end\n"
           "  authkit.json.encode(weak)\n"
           "end\n");
}

static void json__null_is_kept_when_it_is_wanted(void **state)
{
    (void)state;
    passes("local text = '{\"a\":null,\"b\":[1,null],\"c\":{\"d\":null}}'\n"
           "local value = authkit.json.decode(text, authkit.null)\n"
           "assert(value.a == authkit.null and value.b[2] == authkit.null and value.c.d == "
           "authkit.null)\n"
           "assert(value.x == nil and authkit.json.encode(value) == text)\n"
           "assert(authkit.json.decode(text, nil).a == nil)\n"
           "assert(authkit.json.decode('null', authkit.null) == authkit.null)\n");
    raises("authkit.json.decode('1', true)", "behind its text wants nothing, or authkit.null");
}

static void hostile__reals_are_finite(void **state)
{
    (void)state;
    raises("ctx.db.insert('notes', { r = 1 / 0 })", "notes.r takes a finite number");
    raises("ctx.db.insert('notes', { r = 0 / 0 })", "notes.r takes a finite number");
}

static void hostile__keys_of_upsert_are_names(void **state)
{
    (void)state;
    raises("ctx.db.upsert('notes', setmetatable({}, { __len = function() return 1 end }), {})",
           "wants a list of key columns");
    raises("ctx.db.upsert('notes', { {} }, {})", "wants a list of key columns");
}

static void hostile__too_many_columns_are_refused_when_declared(void **state)
{
    (void)state;
    load_fails("local columns = {}\n"
               "for i = 1, 205 do columns['c' .. i] = 'text?' end\n"
               "require('authkit').schema { big = { columns = columns } }\n",
               "more than 190 columns");
}

/* A rebuild drops the old table: what refers to it must not go with it. */
static void schema__rebuild_under_a_reference_or_a_view_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, "authkit.schema { t = { columns = { a = 'text' } } }",
                 "ctx.db.insert('t', { a = 'x' })");
    bench_run(&b);
    bench_ok(&b);
    assert_int_equal(db_exec(b.db,
                             "CREATE TABLE child (t INTEGER REFERENCES t (_id) ON DELETE CASCADE);"
                             "INSERT INTO child VALUES (1)",
                             &b.err),
                     0);
    bench_load(&b, "require('authkit').schema { t = { columns = { a = 'text?' } } }");
    bench_ok(&b);
    bench_schema(&b, true);
    bench_says(&b, ERR_INVALID, "table child refers to it");
    assert_string_equal(bench_value(&b, "SELECT count(*) FROM child"), "1");
    assert_int_equal(db_exec(b.db, "DROP TABLE child; CREATE VIEW v AS SELECT a FROM t", &b.err),
                     0);
    bench_schema(&b, true);
    bench_says(&b, ERR_INVALID, "the view v mentions it");
    bench_close(&b);
}

static void schema__unique_index_over_a_new_default_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, "authkit.schema { t = { columns = { a = 'text' } } }",
                 "ctx.db.insert('t', { a = 'x' }) ctx.db.insert('t', { a = 'y' })");
    bench_run(&b);
    bench_ok(&b);
    bench_load(&b, "require('authkit').schema { t = { columns = { a = 'text',\n"
                   "  b = { 'text', default = 'd' } }, indexes = { { 'b', unique = true } } } }");
    bench_ok(&b);
    bench_schema(&b, false);
    bench_says(&b, ERR_INVALID, "would have its default in all 2 rows");
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(hostile__metatable_of_queries_is_out_of_reach),
        IN_TEMP_DIR(hostile__pairs_of_its_own_can_not_crash_the_load),
        IN_TEMP_DIR(hostile__log_fields_outlive_what_a_tostring_does),
        IN_TEMP_DIR(hostile__page_can_be_encoded),
        IN_TEMP_DIR(hostile__lists_lose_nothing_without_a_word),
        IN_TEMP_DIR(json__members_come_by_name),
        IN_TEMP_DIR(json__weak_table_may_lose_members_meanwhile),
        IN_TEMP_DIR(json__null_is_kept_when_it_is_wanted),
        IN_TEMP_DIR(hostile__reals_are_finite),
        IN_TEMP_DIR(hostile__keys_of_upsert_are_names),
        IN_TEMP_DIR(hostile__too_many_columns_are_refused_when_declared),
        IN_TEMP_DIR(schema__rebuild_under_a_reference_or_a_view_is_refused),
        IN_TEMP_DIR(schema__unique_index_over_a_new_default_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
