/* SPDX-License-Identifier: MIT */
/* ctx.db.sql and its authorizer, replace, upsert, and pages. */
#include "script/script.h"

#include "bench.h"

static const char schema[] =
    "local null = authkit.null\n"
    "authkit.schema { notes = {\n"
    "  columns = { name = 'text', n = 'integer?', r = 'real?', b = 'boolean?', j = 'json?',\n"
    "    d = { type = 'text', default = 'std' } },\n"
    "  indexes = { { 'name', unique = true }, { 'n' } } },\n"
    "  pairs_of = { columns = { a = 'text', b = 'text', c = 'integer?' },\n"
    "    indexes = { { 'a', 'b', unique = true } } } }\n";

static void passes(const char *body)
{
    bench_all_pass(schema, body);
}

static void raise_all(const struct raising *cases, size_t count)
{
    bench_all_raise(schema, cases, count);
}

static void sql__reads_give_rows_and_writes_give_counts(void **state)
{
    (void)state;
    passes("for i = 1, 3 do ctx.db.insert('notes', { name = 'n' .. i, n = i, b = i == 1,\n"
           "  j = { i }, r = i }) end\n"
           "local rows = ctx.db.sql('SELECT name, b, j, r, n * 2 AS twice FROM notes\\n'\n"
           "  .. ' WHERE n >= ? ORDER BY n', 2)\n"
           "assert(#rows == 2 and rows[1].name == 'n2' and rows[1].b == false)\n"
           "assert(rows[1].j[1] == 2 and rows[1].twice == 4 and math.type(rows[1].r) == 'float')\n"
           "assert(ctx.db.sql('UPDATE notes SET n = n + 10 WHERE n > ?', 1) == 2)\n"
           "assert(ctx.db.sql('DELETE FROM notes WHERE name = ?', 'nobody') == 0)\n"
           "local new = ctx.db.sql('INSERT INTO notes (_creation_time, name) VALUES (?, ?)\\n'\n"
           "  .. ' RETURNING _id, d', 1, 'raw')\n"
           "assert(new[1].d == 'std' and ctx.db.get('notes', new[1]._id).name == 'raw')\n"
           "assert(authkit.json.encode(ctx.db.sql('SELECT 1 FROM notes WHERE 0')) == '[]')\n");
}

static void sql__values_are_bound_by_their_type(void **state)
{
    (void)state;
    passes("local row = ctx.db.sql('SELECT ? AS i, ? AS r, ? AS t, ? AS b, ? AS n, ? AS z,\\n'\n"
           "  .. ' typeof(?) AS kind', math.maxinteger, 0.5, \"it's\", true, nil, null, 1.0)[1]\n"
           "assert(row.i == math.maxinteger and row.r == 0.5 and row.t == \"it's\")\n"
           "assert(row.b == 1 and row.n == nil and row.z == nil and row.kind == 'real')\n");
}

static void sql__own_tables_of_authkitd_can_be_joined(void **state)
{
    (void)state;
    passes("ctx.db.insert('notes', { name = 'x' })\n"
           "assert(#ctx.db.sql('SELECT n.name, m.n AS other FROM notes AS n\\n'\n"
           "  .. ' LEFT JOIN notes AS m ON m.n = n._id, json_each(?) AS e', '[1,2]') == 2)\n"
           "assert(ctx.db.sql('SELECT count(*) AS n FROM sqlite_schema')[1].n > 0)\n");
}

static void sql__what_a_script_may_not_do_is_refused_by_name(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.sql('DELETE FROM authkitd_x')", "no such table: authkitd_x"},
        {"ctx.db.sql('CREATE TABLE t (a)')", "declared with authkit.schema"},
        {"ctx.db.sql('CREATE TEMP TABLE t (a)')", "declared with authkit.schema"},
        {"ctx.db.sql('DROP TABLE notes')", "declared with authkit.schema"},
        {"ctx.db.sql('ALTER TABLE notes ADD COLUMN x')", "declared with authkit.schema"},
        {"ctx.db.sql('CREATE VIEW v AS SELECT 1')", "declared with authkit.schema"},
        {"ctx.db.sql('CREATE TRIGGER t AFTER INSERT ON notes BEGIN SELECT 1; END')",
         "declared with authkit.schema"},
        {"ctx.db.sql('DROP INDEX \"authkitd:notes:n\"')", "declared with authkit.schema"},
        {"ctx.db.sql('REINDEX')", "declared with authkit.schema"},
        {"ctx.db.sql('PRAGMA user_version = 5')", "may not use PRAGMA 'user_version'"},
        {"ctx.db.sql('PRAGMA query_only')", "may not use PRAGMA"},
        {"ctx.db.sql(\"ATTACH 'x' AS y\")", "may not use ATTACH"},
        {"ctx.db.sql('DETACH main')", "may not use ATTACH"},
        {"ctx.db.sql(\"VACUUM INTO 'copy.db'\")", "VACUUM"},
        {"ctx.db.sql('BEGIN')", "transaction isn't the script's"},
        {"ctx.db.sql('COMMIT')", "transaction isn't the script's"},
        {"ctx.db.sql('ROLLBACK')", "transaction isn't the script's"},
        {"ctx.db.sql('SAVEPOINT s')", "transaction isn't the script's"},
        {"ctx.db.sql('RELEASE job')", "transaction isn't the script's"},
        {"ctx.db.sql(\"SELECT load_extension('x')\")", "load_extension"},
        {"ctx.db.sql('UPDATE sqlite_schema SET sql = 1')", "sqlite_master"},
        {"ctx.db.sql('SELECT 1; DELETE FROM notes')", "one statement at a time"},
        {"ctx.db.sql('')", "no statement"},
        {"ctx.db.sql('SELEC 1')", "syntax error"},
        {"ctx.db.sql('SELECT x FROM notes')", "no such column: x"},
        {"ctx.db.sql('SELECT ?')", "1 parameter, and 0 values are given"},
        {"ctx.db.sql('SELECT 1', 2)", "0 parameters, and 1 value is given"},
        {"ctx.db.sql('SELECT ?', {})", "value 1 is a table"},
        {"ctx.db.sql('SELECT ?', print)", "value 1 is a function"},
        {"ctx.db.sql('SELECT ?', 0 / 0)", "ctx.db.sql: value 1 takes a finite number"},
        {"ctx.db.sql('SELECT ?, ?', 1.5, math.huge)", "ctx.db.sql: value 2 takes a finite number"},
        {"ctx.db.sql('SELECT ?, ?', 1, '\\xff')",
         "ctx.db.sql: value 2: the text isn't valid UTF-8"},
        {"ctx.db.sql('SELECT ?', -math.huge)", "ctx.db.sql: value 1 takes a finite number"},
        {"ctx.db.sql('SELECT ?', 'a\\0b')", "NUL"},
        {"ctx.db.sql('SELECT ?', '\\xff')", "UTF-8"},
        {"ctx.db.sql('SELECT 1\\0garbage')", "ctx.db.sql: the statement has a NUL byte in it"},
        {"ctx.db.sql('SELECT 1\\0')", "ctx.db.sql: the statement has a NUL byte in it"},
        {"ctx.db.sql(5)", "wants a text, not a number"},
        {"ctx.db.sql()", "wants a text, not nothing"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

static void sql__refused_statement_leaves_a_clean_state(void **state)
{
    (void)state;
    passes(
        "local id = ctx.db.insert('notes', { name = 'kept' })\n"
        "for _, text in ipairs { 'COMMIT', 'DROP TABLE notes', 'SELEC', 'PRAGMA x = 1' } do\n"
        "  assert(not pcall(ctx.db.sql, text))\n"
        "end\n"
        "assert(not pcall(ctx.db.sql, 'INSERT INTO notes (_creation_time, name) SELECT 1, "
        "name\\n'\n"
        "  .. ' FROM notes'))\n"
        "assert(ctx.db.get('notes', id).name == 'kept' and ctx.db.query('notes'):count() == 1)\n");
}

static void sql__query_that_runs_away_ends_with_the_deadline(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 200;
    bench_script(&b, schema,
                 "ctx.db.sql('WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)\\n'\n"
                 "  .. ' SELECT count(*) FROM c')");
    bench_ok(&b);
    bench_run(&b);
    bench_says(&b, ERR_LIMIT, "ran longer than 200 ms");
    /* and not even pcall helps it */
    bench_script(&b, schema,
                 "while true do pcall(ctx.db.sql,\n"
                 "  'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)\\n'\n"
                 "  .. ' INSERT INTO notes (_creation_time, name, n) SELECT 1, x, x FROM c') end");
    bench_ok(&b);
    bench_run(&b);
    bench_says(&b, ERR_LIMIT, "ran longer than 200 ms");
    bench_close(&b);
}

static void replace__columns_that_are_not_given_lose_their_values(void **state)
{
    (void)state;
    passes("local id = ctx.db.insert('notes', { name = 'a', n = 1, j = { 1 }, d = 'own' })\n"
           "local before = ctx.db.get('notes', id)\n"
           "ctx.db.replace('notes', id, { name = 'b', b = true })\n"
           "local row = ctx.db.get('notes', id)\n"
           "assert(row.name == 'b' and row.b == true and row.n == nil and row.j == nil)\n"
           "assert(row.d == 'std' and row._creation_time == before._creation_time)\n");
}

static void replace__errors_say_what_is_wrong(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.replace('notes', 99, { name = 'a' })", "no row with _id 99 in notes"},
        {"ctx.db.replace('notes', ctx.db.insert('notes', { name = 'a' }), {})",
         "notes.name is missing"},
        {"ctx.db.replace('notes', 1, { nmae = 'a' })", "no column 'nmae' in notes"},
        {"ctx.db.replace('notes', 'x', { name = 'a' })", "the _id of a row of notes is an integer"},
        {"ctx.db.replace('note', 1, {})", "no table 'note' in the schema"},
        {"ctx.db.replace('workos_users', 1, {})", "can't be written"},
        {"ctx.db.replace('notes', 1)", "wants a table of columns, not nothing"},
        {"ctx.db.replace('notes', 1, { name = 'a', _id = 2 })", "notes._id is set by authkitd"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

static void upsert__inserts_or_changes_the_row_of_the_key(void **state)
{
    (void)state;
    passes("local id = ctx.db.upsert('notes', { 'name' }, { name = 'a', n = 1, b = true })\n"
           "assert(ctx.db.upsert('notes', { 'name' }, { name = 'a', n = 2 }) == id)\n"
           "local row = ctx.db.get('notes', id)\n"
           "assert(row.n == 2 and row.b == true and row.d == 'std')\n"
           "assert(ctx.db.upsert('notes', { 'name' }, { name = 'a' }) == id)\n"
           "assert(ctx.db.upsert('notes', { 'name' }, { name = 'b' }) ~= id)\n"
           "local pair = ctx.db.upsert('pairs_of', { 'b', 'a' }, { a = 'x', b = 'y', c = 1 })\n"
           "assert(ctx.db.upsert('pairs_of', { 'a', 'b' }, { a = 'x', b = 'y', c = 2 }) == pair)\n"
           "assert(ctx.db.get('pairs_of', pair).c == 2)\n");
}

static void upsert__errors_say_what_is_wrong(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.upsert('notes', { 'n' }, { n = 1, name = 'a' })",
         "notes has no unique index on (n); it has (name)"},
        {"ctx.db.upsert('pairs_of', { 'a' }, { a = '1', b = '2' })",
         "no unique index on (a); it has (a, b)"},
        {"ctx.db.upsert('notes', { 'nmae' }, { name = 'a' })",
         "no column 'nmae' in notes; it has _creation_time, _id, b, d, j, n, name, r (did you mean "
         "'name'?)"},
        {"ctx.db.upsert('notes', { '_id' }, { name = 'a' })",
         "upsert into notes: '_id' is set by authkitd and can't be a key; change the row that has "
         "an "
         "_id with ctx.db.patch or ctx.db.replace"},
        {"ctx.db.upsert('notes', { 'name', '_creation_time' }, { name = 'a' })",
         "'_creation_time' is set by authkitd and can't be a key"},
        {"ctx.db.upsert('notes', {}, { name = 'a' })", "wants a list of key columns"},
        {"ctx.db.upsert('notes', 'name', { name = 'a' })", "wants a list of key columns"},
        {"ctx.db.upsert('notes', { 'name' }, { n = 1 })", "no value for its key 'name'"},
        {"ctx.db.upsert('notes', { 'name' }, { name = 5 })", "notes.name takes text, not a number"},
        {"ctx.db.upsert('pairs_of', { 'a', 'b' }, { a = '1', b = '2', x = 3 })",
         "no column 'x' in pairs_of"},
        {"ctx.db.upsert('workos_users', { 'id' }, { id = 'u' })", "can't be written"},
        {"ctx.db.upsert('nothing', { 'id' }, {})", "no table 'nothing' in the schema"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

static void pages__go_on_where_the_last_one_ended(void **state)
{
    (void)state;
    passes("for i = 1, 20 do ctx.db.insert('notes', { name = 'k' .. i, n = i % 3 > 0 and i % 3 or "
           "nil,\n"
           "  r = i % 4 / 2 }) end\n"
           "for _, desc in ipairs { 'asc', 'desc' } do\n"
           "  local function query() return ctx.db.query('notes'):order_by('n', "
           "desc):order_by('r') end\n"
           "  local all, got, cursor = query():all(), {}, nil\n"
           "  repeat\n"
           "    local page = query():limit(3):after(cursor):all()\n"
           "    for _, row in ipairs(page) do got[#got + 1] = row._id end\n"
           "    cursor = page.cursor\n"
           "    if #got == 6 then\n"
           "      local seen = ctx.db.get('notes', got[1])\n"
           "      local new = ctx.db.insert('notes', { name = desc, n = seen.n, r = -1 })\n"
           "      ctx.db.delete('notes', new)\n"
           "    end\n"
           "  until not cursor\n"
           "  assert(#got == #all)\n"
           "  for i, row in ipairs(all) do assert(row._id == got[i], i) end\n"
           "end\n");
}

static void pages__rows_that_are_added_shift_nothing(void **state)
{
    (void)state;
    passes(
        "for i = 1, 9 do ctx.db.insert('notes', { name = ('%02d'):format(i * 10) }) end\n"
        "local first = ctx.db.query('notes'):order_by('name'):limit(3):all()\n"
        "ctx.db.insert('notes', { name = '05' }) ctx.db.insert('notes', { name = '35' })\n"
        "ctx.db.delete('notes', first[3]._id)\n"
        "local second = ctx.db.query('notes'):order_by('name'):limit(3):after(first.cursor):all()\n"
        "assert(second[1].name == '35' and second[2].name == '40' and second[3].name == '50')\n"
        "assert(ctx.db.query('notes'):limit(99):all().cursor == nil)\n"
        "assert(ctx.db.query('notes'):all().cursor == nil)\n");
}

/* The values fit, so it was taken, and rows were left out. */
static void pages__cursor_of_another_order_is_refused(void **state)
{
    (void)state;
    passes("for i = 1, 9 do ctx.db.insert('notes', { name = 'x' .. i, d = 't' .. i, n = i }) end\n"
           "local function query(by, way)\n"
           "  return ctx.db.query('notes'):order_by(by, way):limit(3)\n"
           "end\n"
           "local cursor = query('name'):all().cursor\n"
           "assert(cursor == '[\"name,_id\",\"x3\",3]', cursor)\n"
           "for _, other in ipairs { query('d'), query('name', 'desc'), query('n'), query('_id'),\n"
           "    query('name'):order_by('n'), query('name'):order_by('_id', 'desc'),\n"
           "    ctx.db.query('notes') } do\n"
           "  local ok, problem = pcall(other.after, other, cursor)\n"
           "  assert(not ok and problem:find(\"wants a page's cursor\", 1, true), problem)\n"
           "end\n"
           "assert(query('name'):after(cursor):all()[1].name == 'x4')\n"
           "assert(query('name', 'asc'):order_by('_id'):after(cursor):all()[1].name == 'x4')\n");
}

static void pages__errors_say_what_is_wrong(void **state)
{
    static const struct raising cases[] = {
        {"ctx.db.query('notes'):after('garbage')", "wants a page's cursor"},
        {"ctx.db.query('notes'):after(5)", "wants a page's cursor"},
        {"ctx.db.query('notes'):after('[1,2,3]')", "wants a page's cursor"},
        {"ctx.db.query('notes'):order_by('n'):after('[1]')", "wants a page's cursor"},
        {"ctx.db.query('notes'):after('[1]')", "wants a page's cursor"},
        {"ctx.db.query('notes'):after('[\"_id\",\"x\"]')", "notes._id takes an integer"},
        {"ctx.db.query('notes'):after('[\"_id\",null]')", "notes._id can't be null"},
        {"ctx.db.query('notes'):order_by('name'):after('[\"name,_id\",null,1]')",
         "notes.name can't be null"},
        {"ctx.db.query('notes'):after('[\"_id\",1]'):order_by('n')", "order_by comes before after"},
        {"ctx.db.query('notes'):where('j', 'x')", "notes.j is json"},
    };

    (void)state;
    raise_all(cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(sql__reads_give_rows_and_writes_give_counts),
        IN_TEMP_DIR(sql__values_are_bound_by_their_type),
        IN_TEMP_DIR(sql__own_tables_of_authkitd_can_be_joined),
        IN_TEMP_DIR(sql__what_a_script_may_not_do_is_refused_by_name),
        IN_TEMP_DIR(sql__refused_statement_leaves_a_clean_state),
        IN_TEMP_DIR(sql__query_that_runs_away_ends_with_the_deadline),
        IN_TEMP_DIR(replace__columns_that_are_not_given_lose_their_values),
        IN_TEMP_DIR(replace__errors_say_what_is_wrong),
        IN_TEMP_DIR(upsert__inserts_or_changes_the_row_of_the_key),
        IN_TEMP_DIR(upsert__errors_say_what_is_wrong),
        IN_TEMP_DIR(pages__go_on_where_the_last_one_ended),
        IN_TEMP_DIR(pages__rows_that_are_added_shift_nothing),
        IN_TEMP_DIR(pages__cursor_of_another_order_is_refused),
        IN_TEMP_DIR(pages__errors_say_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
