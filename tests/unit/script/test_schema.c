/* SPDX-License-Identifier: MIT */
/* authkit.schema and what it does to a database: lua/db.lua, lua/schema.lua. */
#include "script/script.h"

#include "bench.h"

#include <unistd.h>

/* Load these tables and bring the database to them. */
static void bring(struct bench *b, const char *tables)
{
    char text[8192];

    snprintf(text, sizeof(text), "require 'authkit'.schema { %s }", tables);
    if (bench_load(b, text) == 0)
        bench_schema(b, true);
}

static void brings(struct bench *b, const char *tables, const char *report)
{
    char text[8192], planned[sizeof(b->report)];

    snprintf(text, sizeof(text), "require 'authkit'.schema { %s }", tables);
    bench_load(b, text);
    bench_ok(b);
    bench_schema(b, false);
    bench_ok(b);
    snprintf(planned, sizeof(planned), "%s", b->report);
    bench_schema(b, true);
    bench_ok(b);
    assert_string_equal(b->report, report);
    assert_string_equal(planned, report);
}

static void refuses(struct bench *b, const char *tables, const char *wanted)
{
    bring(b, tables);
    bench_says(b, ERR_INVALID, wanted);
}

static void exec(struct bench *b, const char *sql)
{
    if (db_exec(b->db, sql, &b->err) < 0)
        fail_msg("%s", b->err.text);
}

static void declaration_fails(const char *tables, const char *wanted)
{
    struct bench b;

    bench_open(&b);
    bring(&b, tables);
    bench_says(&b, ERR_SCRIPT, wanted);
    bench_says(&b, ERR_SCRIPT, "handlers.lua:1:");
    bench_close(&b);
}

/* ------------------------------------------------------------------------- declarations */

static void schema__wrong_declarations_are_refused(void **state)
{
    static const struct {
        const char *tables, *wanted;
    } cases[] = {
        {"a = 5", "table a wants columns"},
        {"a = {}", "table a wants columns"},
        {"a = { columns = 5 }", "table a wants columns"},
        {"a = { columns = {}, index = {} }", "'index' is not known; there are columns and indexes"},
        {"5", "table '1' must be letters"},
        {"['a b'] = { columns = {} }", "table 'a b' must be letters"},
        {"['1a'] = { columns = {} }", "must be letters"},
        {"[('a'):rep(61)] = { columns = {} }", "at most 60"},
        {"['a\"'] = { columns = {} }", "must be letters"},
        {"workos_x = { columns = {} }", "begins with 'workos_', which is taken"},
        {"WorkOS_x = { columns = {} }", "begins with 'workos_', which is taken"},
        {"authkitd_x = { columns = {} }", "begins with 'authkitd_'"},
        {"sqlite_x = { columns = {} }", "begins with 'sqlite_'"},
        {"_x = { columns = {} }", "begins with '_'"},
        {"json_each = { columns = {} }", "table 'json_each' has a name that SQLite has taken"},
        {"JSON_Tree = { columns = {} }", "table 'JSON_Tree' has a name that SQLite has taken"},
        {"Pragma_table_info = { columns = {} }",
         "table 'Pragma_table_info' has a name that SQLite has taken"},
        {"a = { columns = { _id = 'text' } }", "column '_id' begins with '_'"},
        {"a = { columns = { 'text' } }", "column '1' must be letters"},
        {"a = { columns = { x = 'varchar' } }", "column a.x: type 'varchar' is not known"},
        {"a = { columns = { x = 'text?\?' } }", "type 'text?\?' is not known"},
        {"a = { columns = { x = 5 } }", "type '5' is not known"},
        {"a = { columns = { x = {} } }", "type 'nil' is not known"},
        {"a = { columns = { x = { 'text', unique = true } } }",
         "'unique' is not known; there are type and default"},
        {"a = { columns = { x = 'text', X = 'text' } }", "differs from another one in case only"},
        {"a = { columns = {} }, A = { columns = {} }", "is declared twice (as 'A'"},
        {"a = { columns = { x = 'text' }, indexes = 5 }", "indexes of a must be a list"},
        {"a = { columns = { x = 'text' }, indexes = { 'x' } }", "an index of a must be a table"},
        {"a = { columns = { x = 'text' }, indexes = { {} } }", "names no column"},
        {"a = { columns = { x = 'text' }, indexes = { { 'y' } } }",
         "names column 'y', which isn't declared"},
        {"a = { columns = { x = 'text' }, indexes = { { '_id', unique = true } } }",
         "an index of a names '_id', which has an index of its own, and is the end of every other "
         "one: leave it out"},
        {"a = { columns = { x = 'text' }, indexes = { { { 'x' } } } }",
         "an index of a wants names of columns, such as { \"user_id\" }, not a table"},
        {"a = { columns = { x = 'text', y = 'text' }, indexes = { { 'x', 'y', 'x' } } }",
         "an index of a names column 'x' twice"},
        {"a = { columns = { x = 'text' }, indexes = { { 'x', uniq = true } } }",
         "'uniq' is not known"},
        {"a = { columns = { x = 'text' }, indexes = { by_x = { 'x', unique = true } } }",
         "indexes of a must be a list, such as { { \"user_id\" } }: 'by_x' is no position in it"},
        {"a = { columns = { x = 'text' }, indexes = { { 'x' }, [1.5] = { 'x' } } }",
         "indexes of a must be a list, such as { { \"user_id\" } }: '1.5' is no position in it"},
        {"a = { columns = { x = 'text' }, indexes = { { 'x' }, [0] = { 'x' } } }",
         "'0' is no position in it"},
        {"a = { columns = { x = 'text', y = 'text' }, indexes = { { 'x' }, nil, { 'y' } } }",
         "indexes of a must be a list, such as { { \"user_id\" } }: number 2 of it is nil, "
         "and there are more behind it"},
        {"a = { columns = { x = 'text', y = 'text' }, indexes = { { 'x', nil, 'y' } } }",
         "an index of a must be a list"},
        {"a = { columns = { x = 'text' }, indexes = { { nil, 'x' } } }",
         "an index of a must be a list"},
        {"a = { columns = { x = 'text' }, indexes = { { 'x', [-1] = 'x' } } }",
         "'-1' is no position in it"},
        {"a = { columns = { x = 'text\\0?' } }", "column a.x: type 'text\\0?' is not known"},
        {"['a\\0b'] = { columns = {} }", "table 'a\\0b' must be letters"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        declaration_fails(cases[i].tables, cases[i].wanted);
}

static void schema__table_twice_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, "local authkit = require 'authkit'\n"
                   "authkit.schema { a = { columns = {} } }\n"
                   "authkit.schema { a = { columns = {} } }\n");
    bench_says(&b, ERR_SCRIPT, "handlers.lua:3: authkit.schema: table 'a' is declared twice");
    bench_close(&b);
}

static void schema__default_must_fit(void **state)
{
    static const char *const columns[] = {
        "{ 'integer', default = 'x' }", "{ 'integer', default = 1.5 }", "{ 'text', default = 5 }",
        "{ 'boolean', default = 1 }",   "{ 'real', default = 'x' }",
    };
    char tables[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        snprintf(tables, sizeof(tables), "a = { columns = { x = %s } }", columns[i]);
        declaration_fails(tables, "authkit.schema: wrong default: a.x takes ");
        assert_int_equal(unlink("test.db"), 0);
    }
    declaration_fails("a = { columns = { x = { 'text', default = 5 } } }",
                      "wrong default: a.x takes text, not a number (5)");
}

/* The error named neither table nor column nor line. */
static void schema__json_default_must_be_json(void **state)
{
    (void)state;
    declaration_fails("a = { columns = { x = { 'json', default = print } } }",
                      "authkit.schema: wrong default: a.x: a function can't be JSON");
    assert_int_equal(unlink("test.db"), 0);
    declaration_fails("a = { columns = { x = { 'json', default = { y = 0/0 } } } }",
                      "authkit.schema: wrong default: a.x: y: JSON has no number for nan");
}

/* As it is for an insert. */
static void schema__whole_float_is_an_integer_default(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    brings(&b, "a = { columns = { x = { 'integer', default = 2.0 } } }", "create table a");
    exec(&b, "INSERT INTO a (_creation_time) VALUES (1)");
    assert_string_equal(bench_value(&b, "SELECT x || typeof(x) FROM a"), "2integer");
    bench_close(&b);
}

/* ------------------------------------------------------------------------- bringing */

static void schema__new_table(void **state)
{
    static const char tables[] =
        "b = { columns = { x = 'text', y = 'integer?', z = { 'boolean?', default = true } },"
        " indexes = { { 'x', unique = true }, { 'y', '_creation_time' } } },"
        "a = { columns = {} }";
    struct bench b;

    (void)state;
    bench_open(&b);
    brings(&b, tables,
           "create table a\ncreate table b\ncreate index on b (x)\ncreate index on b (y, "
           "_creation_time)");
    brings(&b, tables, "");
    assert_string_equal(
        bench_value(&b, "SELECT sql FROM sqlite_schema WHERE name = 'b'"),
        "CREATE TABLE \"b\" (\"_id\" INTEGER PRIMARY KEY AUTOINCREMENT CHECK (_id < "
        "9007199254740992), \"_creation_time\" INTEGER NOT NULL, \"x\" TEXT NOT NULL, \"y\" "
        "INTEGER, \"z\" BOOLEAN DEFAULT 1)");
    bench_close(&b);
}

static void schema__plan_without_a_database(void **state)
{
    struct buf report = BUF_INIT(1000);
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, "require 'authkit'.schema { a = { columns = { x = 'text' } } }");
    bench_ok(&b);
    assert_int_equal(script_plan(b.script, NULL, &report, &b.err), 0);
    assert_string_equal(buf_text(&report), "create table a");
    buf_release(&report);
    bench_close(&b);
}

static void schema__new_columns(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    exec(&b, "INSERT INTO a (_creation_time, x) VALUES (1, 'x')");
    brings(&b, "a = { columns = { x = 'text', y = 'text?' } }", "add column a.y");
    brings(&b,
           "a = { columns = { x = 'text', y = 'text?', z = { 'text', default = \"it's\" } },"
           " indexes = { { 'z' } } }",
           "add column a.z\ncreate index on a (z)");
    assert_string_equal(bench_value(&b, "SELECT x || coalesce(y, '-') || z FROM a"), "x-it's");
    refuses(&b, "a = { columns = { x = 'text', y = 'text?', w = 'integer' } }",
            "a.w is required, but the table has rows that would have no value: make it 'integer?'");
    bench_close(&b);
}

static void schema__required_column_of_an_empty_table(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' }, indexes = { { 'x' } } }");
    brings(&b, "a = { columns = { x = 'text', y = 'text', z = 'text?' }, indexes = { { 'x' } } }",
           "rebuild table a\ncreate index on a (x)");
    assert_string_equal(
        bench_value(&b, "SELECT group_concat(name || \"notnull\") FROM pragma_table_info('a')"),
        "_id0,_creation_time1,x1,y1,z0");
    brings(&b, "a = { columns = { x = 'text', y = 'text', z = 'text?' }, indexes = { { 'x' } } }",
           "");
    bench_close(&b);
}

static void schema__required_and_not(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text?', j = 'json?' }, indexes = { { 'x' } } }");
    exec(&b,
         "INSERT INTO a (_id, _creation_time, x, j) VALUES (7, 1, 'x', '[]'), (9, 2, NULL, '{}')");
    refuses(&b, "a = { columns = { x = 'text', j = 'json?' } }",
            "a.x is declared required, but 1 row has no value: declare it 'text?', or first run "
            "UPDATE \"a\" SET \"x\" = … WHERE \"x\" IS NULL, in a function or with the server "
            "stopped");
    exec(&b, "INSERT INTO a (_creation_time) VALUES (3)");
    refuses(&b, "a = { columns = { x = 'text', j = 'json?' } }", "but 2 rows have no value");
    exec(&b, "DELETE FROM a WHERE _creation_time = 3");
    exec(&b, "UPDATE a SET x = 'y' WHERE x IS NULL");
    brings(&b,
           "a = { columns = { x = 'text', j = 'json?' }, indexes = { { 'x', unique = true } } }",
           "rebuild table a\ncreate index on a (x)");
    assert_string_equal(
        bench_value(&b, "SELECT group_concat(_id || _creation_time || x || j) FROM a"),
        "71x[],92y{}");
    brings(&b,
           "a = { columns = { x = 'text?', j = 'json?' }, indexes = { { 'x', unique = true } } }",
           "rebuild table a\ncreate index on a (x)");
    exec(&b, "INSERT INTO a (_creation_time) VALUES (3)");
    assert_string_equal(bench_value(&b, "SELECT max(_id) FROM a"), "11"); /* one had 10 */
    bench_close(&b);
}

static void schema__other_type_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text', y = 'integer?' } }");
    exec(&b, "ALTER TABLE a ADD COLUMN z VARCHAR(20);"
             "INSERT INTO a (_creation_time, x) VALUES (1, 'x')");
    refuses(&b, "a = { columns = { x = 'integer', y = 'boolean?', z = 'text?' } }",
            "a.x is declared integer, but the database has it as text");
    assert_non_null(
        strstr(b.err.text, "Declare it 'text', or declare it 'integer?' for now, stop"));
    assert_non_null(
        strstr(b.err.text, "a.y is declared boolean, but the database has it as integer"));
    assert_non_null(strstr(b.err.text, "Declare it 'integer?', or stop"));
    assert_non_null(strstr(b.err.text, "as VARCHAR(20), and the table has rows: changing it could "
                                       "lose data. To convert it, stop"));
    bench_close(&b);
}

/* Done exactly so, it ended in the next refusal: the new column was required, and the table has rows. */
static void schema__advice_for_another_type_works(void **state)
{
    static const char for_now[] = "authkit.schema { a = { columns = { n = 'integer?' },"
                                  " indexes = { { 'n', unique = true } } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { n = 'text' }, indexes = { { 'n', unique = true } } }");
    exec(&b, "INSERT INTO a (_creation_time, n) VALUES (1, '12'), (1, '7')");
    refuses(
        &b, "a = { columns = { n = 'integer' } }",
        "Declare it 'text', or declare it 'integer?' for now, stop the server and run ALTER "
        "TABLE \"a\" RENAME COLUMN \"n\" TO \"n_old\"; then start it and copy what you need in "
        "a function, such as ctx.db.sql('UPDATE \"a\" SET \"n\" = CAST(\"n_old\" AS INTEGER)'); "
        "without the '?' again once all rows have a value");
    exec(&b, "ALTER TABLE \"a\" RENAME COLUMN \"n\" TO \"n_old\"");
    bench_passes(&b, for_now,
                 "assert(ctx.db.sql('UPDATE \"a\" SET \"n\" = CAST(\"n_old\" AS INTEGER)') == 2)\n"
                 "assert(ctx.db.query('a'):where('n', 12):first()._id == 1)");
    bring(&b, "a = { columns = { n = 'integer' }, indexes = { { 'n', unique = true } } }");
    bench_ok(&b);
    assert_string_equal(bench_value(&b, "SELECT group_concat(n || typeof(n) || n_old) FROM a"),
                        "12integer12,7integer7");
    bench_passes(&b, "authkit.schema { a = { columns = { n = 'integer' } } }",
                 "ctx.db.insert('a', { n = 3 })");
    bench_close(&b);
}

static void schema__other_type_of_an_empty_table(void **state)
{
    static const char tables[] = "a = { columns = { x = { 'integer', default = 5 }, y = 'boolean' "
                                 "}, indexes = { { 'x' } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text', y = 'integer?' }, indexes = { { 'x' } } }");
    exec(&b, "INSERT INTO a (_creation_time, x) VALUES (1, 'x'), (1, 'y'); DELETE FROM a");
    brings(&b, tables, "rebuild table a\ncreate index on a (x)");
    assert_string_equal(bench_value(&b, "SELECT group_concat(type) FROM pragma_table_info('a')"),
                        "INTEGER,INTEGER,INTEGER,BOOLEAN");
    brings(&b, tables, "");
    exec(&b, "INSERT INTO a (_creation_time, y) VALUES (1, 1)");
    assert_string_equal(bench_value(&b, "SELECT _id || ' ' || x FROM a"), "3 5");
    bench_close(&b);
}

static void schema__unique_over_duplicates_is_refused(void **state)
{
    static const char unique[] = "a = { columns = { x = 'text?', n = 'integer?' }, indexes = { { "
                                 "'x', 'n', unique = true } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text?', n = 'integer?' } }");
    exec(&b, "INSERT INTO a (_creation_time, x, n) VALUES (1, 'it''s', 1), (1, 'it''s', 1),"
             " (1, NULL, 1), (1, NULL, 1)");
    refuses(&b, unique,
            "the unique index on a (x, n) can't be made: 2 rows have x = 'it''s', n = 1");
    exec(&b, "DELETE FROM a WHERE _id = 1");
    brings(&b, unique, "create index on a (x, n)");
    bench_close(&b);
}

static void schema__index_goes_with_its_declaration(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' }, indexes = { { 'x' } } }");
    exec(&b, "CREATE INDEX by_hand ON a (x)");
    bring(&b, "a = { columns = { x = 'text' } }");
    bench_ok(&b);
    assert_non_null(strstr(b.report, "drop index on a (x)"));
    assert_string_equal(bench_value(&b, "SELECT group_concat(name) FROM sqlite_schema"
                                        " WHERE type = 'index'"),
                        "by_hand");
    bench_close(&b);
}

/* An index follows its column when that gets another name, and keeps its own. */
static void schema__index_on_a_renamed_column_is_made_anew(void **state)
{
    static const char tables[] = "a = { columns = { x = 'integer?', y = 'text?' },"
                                 " indexes = { { 'x', unique = true }, { 'y', 'x' } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text?', y = 'text?' },"
              " indexes = { { 'x', unique = true }, { 'y', 'x' } } }");
    exec(&b, "ALTER TABLE a RENAME COLUMN x TO x_old");
    brings(&b, tables,
           "add column a.x\n"
           "drop index on a (x_old)\ncreate index on a (x)\n"
           "drop index on a (y, x_old)\ncreate index on a (y, x)\n"
           "warning: table a has columns that aren't declared any more; they are kept: x_old");
    assert_string_equal(
        bench_value(&b, "SELECT group_concat(sql, ';') FROM sqlite_schema WHERE type = 'index'"),
        "CREATE UNIQUE INDEX \"authkitd:a:x:unique\" ON \"a\" (\"x\");"
        "CREATE INDEX \"authkitd:a:y,x\" ON \"a\" (\"y\", \"x\")");
    brings(&b, tables,
           "warning: table a has columns that aren't declared any more; they are kept: x_old");
    bench_close(&b);
}

static void schema__index_that_lost_its_uniqueness_is_made_anew(void **state)
{
    static const char tables[] =
        "a = { columns = { x = 'text?' }, indexes = { { 'x', unique = true } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, tables);
    exec(&b, "DROP INDEX \"authkitd:a:x:unique\";"
             "CREATE INDEX \"authkitd:a:x:unique\" ON a (x);"
             "INSERT INTO a (_creation_time, x) VALUES (1, 'x'), (2, 'x')");
    refuses(&b, tables, "the unique index on a (x) can't be made: 2 rows have x = 'x'");
    exec(&b, "DELETE FROM a WHERE _id = 1");
    brings(&b, tables, "drop index on a (x)\ncreate index on a (x)");
    brings(&b, tables, "");
    bench_close(&b);
}

/* Its indexes go with a table that gets another name, and keep theirs, which can't be there twice. */
static void schema__index_of_a_renamed_table_is_made_anew(void **state)
{
    static const char columns[] = "{ columns = { x = 'text?' }, indexes = { { 'x' } } }";
    static const char *const names[] = {"a_old",
                                        "z_old"}; /* before it in the plan, and behind it */
    struct bench b;
    char tables[200], sql[80];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        bench_open(&b);
        snprintf(tables, sizeof(tables), "todo = %s", columns);
        bring(&b, tables);
        snprintf(sql, sizeof(sql), "ALTER TABLE todo RENAME TO %s", names[i]);
        exec(&b, sql);
        snprintf(tables, sizeof(tables), "todo = %s, %s = %s", columns, names[i], columns);
        bring(&b, tables);
        bench_ok(&b);
        brings(&b, tables, "");
        assert_string_equal(
            bench_value(&b, "SELECT count(*) FROM sqlite_schema WHERE type = 'index'"), "2");
        exec(&b, "DROP TABLE todo");
        snprintf(sql, sizeof(sql), "DROP TABLE %s", names[i]);
        exec(&b, sql);
        bench_close(&b);
    }
}

static void schema__undeclared_is_kept(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text', y = 'text?', z = 'integer' } }, b = { columns = {} }");
    exec(&b, "INSERT INTO a (_creation_time, x, y, z) VALUES (1, 'x', 'y', 5)");
    bring(&b, "a = { columns = { x = 'text' } }");
    bench_ok(&b);
    assert_non_null(strstr(b.report, "warning: table a has columns that aren't declared any more; "
                                     "they are kept: y, z"));
    assert_non_null(strstr(b.report, "warning: table b isn't declared any more; it is kept"));
    exec(&b, "INSERT INTO a (_creation_time, x) VALUES (2, 'new')"); /* z asks for no value now */
    assert_string_equal(bench_value(&b, "SELECT x || y || z FROM a"), "xy5");
    bring(&b, "a = { columns = { x = 'text' } }");
    assert_null(strstr(b.report, "rebuild"));
    bench_close(&b);
}

/* The README's way. */
static void schema__column_gets_another_name(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { name = 'text', n = 'integer?' }, indexes = { { 'name' } } }");
    exec(&b, "INSERT INTO a (_creation_time, name) VALUES (1, 'x'), (1, 'y')");
    bench_passes(&b,
                 "authkit.schema { a = { columns = { title = 'text?', n = 'integer?' },"
                 " indexes = { { 'title' } } } }",
                 "ctx.db.insert('a', { title = 'z' })\n"
                 "assert(ctx.db.sql('UPDATE a SET title = name WHERE title IS NULL') == 2)");
    bring(&b, "a = { columns = { title = 'text', n = 'integer?' }, indexes = { { 'title' } } }");
    bench_ok(&b);
    assert_string_equal(bench_value(&b, "SELECT group_concat(title || coalesce(name, '-')) FROM a"),
                        "xx,yy,z-");
    exec(&b, "ALTER TABLE a DROP COLUMN name");
    brings(&b, "a = { columns = { title = 'text', n = 'integer?' }, indexes = { { 'title' } } }",
           "");
    bench_close(&b);
}

static void schema__foreign_table_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    exec(&b, "CREATE TABLE a (x TEXT)");
    refuses(&b, "a = { columns = { x = 'text' } }", "wasn't made by authkitd");
    refuses(&b, "A = { columns = { x = 'text' } }", "table A is called 'a' in the database");
    bench_close(&b);
}

/* The plan said "create table", and SQLite's words came when it was done. */
static void schema__name_of_a_view_or_an_index_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    exec(&b, "CREATE VIEW Seen AS SELECT x FROM a; CREATE INDEX by_x ON a (x)");
    bench_load(&b, "require 'authkit'.schema { seen = { columns = {} }, by_x = { columns = {} } }");
    bench_ok(&b);
    bench_schema(&b, false);
    bench_says(&b, ERR_INVALID,
               "table seen can't be made, since the database has a view of that name: declare the "
               "table under another one, or stop the server and DROP VIEW \"seen\"");
    bench_says(&b, ERR_INVALID, "table by_x can't be made, since the database has an index of");
    bench_close(&b);
}

/* From then on check and reload failed: no such column, or not a function. */
static void schema__tables_called_as_functions_hide_nothing(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' }, indexes = { { 'x' } } }");
    exec(&b, "CREATE TABLE pragma_table_info (x); CREATE TABLE pragma_table_xinfo (x);"
             "CREATE TABLE pragma_index_list (x); CREATE TABLE pragma_index_info (x);"
             "CREATE TABLE pragma_foreign_key_list (x)");
    bring(&b, "a = { columns = { x = 'text?' }, indexes = { { 'x' } } }");
    bench_ok(&b);
    assert_non_null(strstr(b.report, "rebuild table a"));
    bench_close(&b);
}

static void schema__table_in_another_case_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "todo = { columns = { x = 'text' } }");
    refuses(&b, "Todo = { columns = { x = 'text' }, indexes = { { 'x', unique = true } } }",
            "table Todo is called 'todo' in the database");
    assert_null(strchr(b.err.text, '\n')); /* nothing else is wrong */
    bench_close(&b);
}

/* SQLite doesn't tell x from X: the refusal must come in our words, from the plan already. */
static void schema__column_in_another_case_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    bench_load(&b, "require 'authkit'.schema { a = { columns = { X = 'text?' } } }");
    bench_ok(&b);
    bench_schema(&b, false);
    bench_says(&b, ERR_INVALID, "X");
    bench_close(&b);
}

static void schema__sql_words_are_names_like_others(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    brings(&b,
           "['select'] = { columns = { order = 'text', ['table'] = 'text?' },"
           " indexes = { { 'order', 'table' } } }",
           "create table select\ncreate index on select (order, table)");
    bench_close(&b);
}

static void schema__defaults_of_every_type(void **state)
{
    static const char tables[] =
        "a = { columns = { i = { 'integer', default = math.mininteger },"
        " r = { 'real', default = 0.1 }, w = { 'real', default = 2 },"
        " b = { 'boolean', default = false }, t = { 'text', default = \"a'b\\\"c\" },"
        " j = { 'json', default = { 1, {} } } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    brings(&b, tables, "create table a");
    exec(&b, "INSERT INTO a (_creation_time) VALUES (1)");
    assert_string_equal(bench_value(&b, "SELECT i || ' ' || typeof(i) || ' ' || (r = 0.1) || ' ' ||"
                                        " typeof(w) || ' ' || b || ' ' || t || ' ' || j FROM a"),
                        "-9223372036854775808 integer 1 real 0 a'b\"c [1,{}]");
    brings(&b, tables, "");
    bench_close(&b);
}

/* A json column stored the text "null" for it, which is a value: queries for null missed it. */
static void schema__default_null_is_no_default(void **state)
{
    static const char schema[] =
        "local null = authkit.null\n"
        "authkit.schema { a = { columns = { k = 'text', j = { 'json?', default = null },"
        " t = { 'text?', default = null }, i = { type = 'integer?', default = null } },"
        " indexes = { { 'k', unique = true } } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_passes(&b, schema,
                 "local id = ctx.db.insert('a', { k = 'x' })\n"
                 "local row = ctx.db.get('a', id)\n"
                 "assert(row.j == nil and row.t == nil and row.i == nil)\n"
                 "assert(ctx.db.query('a'):where('j', null):count() == 1)\n"
                 "ctx.db.replace('a', id, { k = 'y' })\n"
                 "ctx.db.upsert('a', { 'k' }, { k = 'z' })\n"
                 "assert(ctx.db.query('a'):where { j = null, t = null, i = null }:count() == 2)\n");
    brings(&b,
           "a = { columns = { k = 'text', j = 'json?', t = 'text?', i = 'integer?' },"
           " indexes = { { 'k', unique = true } } }",
           "");
    bench_close(&b);
}

static void schema__default_null_of_a_required_column_is_refused(void **state)
{
    static const char *const types[] = {"text", "integer", "real", "boolean", "json"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char tables[120], wanted[200];

        snprintf(tables, sizeof(tables),
                 "a = { columns = { x = { '%s', default = require 'authkit'.null } } }", types[i]);
        snprintf(
            wanted, sizeof(wanted),
            "column a.x: its default is authkit.null, which a required column can't hold: give "
            "another default, or make it '%s?'",
            types[i]);
        declaration_fails(tables, wanted);
    }
}

/* What can't stand in SQL is refused by the plan, not by a puzzled SQLite afterwards. */
static void schema__default_that_sql_can_not_say_is_refused(void **state)
{
    static const char *const columns[] = {
        "{ 'real', default = math.huge }",
        "{ 'real', default = 0/0 }",
        "{ 'text', default = 'a\\0b' }",
        "{ 'text', default = '\\xff' }",
    };
    struct bench b;
    char text[160];

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        snprintf(text, sizeof(text), "require 'authkit'.schema { a = { columns = { x = %s } } }",
                 columns[i]);
        bench_load(&b, text);
        if (b.rc == 0 && bench_schema(&b, false) == 0)
            fail_msg("planned: %s", columns[i]);
    }
    bench_close(&b);
}

/* A reload held up all writes for a minute, and nothing had said so. */
static void schema__many_rows_are_told(void **state)
{
    static const char fill[] =
        "INSERT INTO a (_creation_time, x) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
        " SELECT i + 1 FROM n WHERE i < 99999) SELECT 0, i FROM n";
    struct bench b;

    (void)state;
    bench_open(&b);
    brings(&b, "a = { columns = { x = 'text' } }", "create table a");
    exec(&b, fill);
    brings(&b, "a = { columns = { x = 'text' }, indexes = { { 'x' } } }", "create index on a (x)");
    brings(&b, "a = { columns = { x = 'text?' } }", "rebuild table a");
    exec(&b, "INSERT INTO a (_creation_time, x) VALUES (0, 'y')");
    brings(&b, "a = { columns = { x = 'text?' }, indexes = { { 'x' } } }",
           "create index on a (x) (100000 rows: writes and actions wait meanwhile)");
    brings(&b, "a = { columns = { x = { 'text?', default = 'd' } }, indexes = { { 'x' } } }",
           "rebuild table a (100000 rows: writes and actions wait meanwhile)\n"
           "create index on a (x)");
    brings(&b, "a = { columns = { x = { 'text?', default = 'd' }, y = 'text?' } }",
           "add column a.y\ndrop index on a (x)");
    bench_close(&b);
}

/* A default that was declared later: an insert without the column fails with a constraint. */
static void schema__changed_default_takes_effect(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text', y = { 'text', default = 'old' } } }");
    bench_passes(&b,
                 "authkit.schema { a = { columns = { x = { 'text', default = 'std' },"
                 " y = { 'text', default = 'new' } } } }",
                 "local row = ctx.db.get('a', ctx.db.insert('a', {}))\n"
                 "assert(row.x == 'std', row.x)\n"
                 "assert(row.y == 'new', row.y)\n");
    bench_close(&b);
}

/* What somebody made by hand must outlive a rebuild. */
static void schema__rebuild_keeps_what_was_made_by_hand(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    exec(&b, "ALTER TABLE a ADD COLUMN made TEXT DEFAULT (lower('X'));"
             "CREATE INDEX by_hand ON a (x);"
             "INSERT INTO a (_creation_time, x) VALUES (1, 'x')");
    bring(&b, "a = { columns = { x = 'text?' } }");
    bench_ok(&b);
    assert_string_equal(bench_value(&b, "SELECT x || made FROM a"), "xx");
    assert_string_equal(
        bench_value(&b, "SELECT count(*) FROM sqlite_schema WHERE name = 'by_hand'"), "1");
    bench_close(&b);
}

/* It failed with "unrecognized token". */
static void schema__rebuild_keeps_names_and_types_with_quotes(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    exec(&b,
         "ALTER TABLE a ADD COLUMN \"odd \"\"name\" REAL;"
         "ALTER TABLE a ADD COLUMN [it's] \"my \"\"type\" DEFAULT \"o\"\"k\";"
         "ALTER TABLE a ADD COLUMN \"select\" VARCHAR(20);"
         "CREATE INDEX \"by \"\"hand\" ON a (\"odd \"\"name\");"
         "CREATE VIEW \"v \"\"iew\" AS SELECT 1;"
         "INSERT INTO a (_creation_time, x, \"odd \"\"name\", \"select\") VALUES (1, 'x', 2, 'y')");
    brings(&b, "a = { columns = { x = 'text?' } }",
           "rebuild table a\n"
           "warning: table a has columns that aren't declared any more; they are kept: "
           "odd \"name, it's, select");
    assert_string_equal(
        bench_value(&b, "SELECT x || \"odd \"\"name\" || [it's] || \"select\" FROM a"),
        "x2.0o\"ky");
    assert_string_equal(
        bench_value(&b, "SELECT group_concat(type, '|') FROM pragma_table_info('a')"),
        "INTEGER|INTEGER|TEXT|REAL|MY \"TYPE|VARCHAR(20)");
    bench_close(&b);
}

/* A lone name is a text as a default, but in parentheses it is a column, and the rebuild failed. */
static void schema__rebuild_keeps_defaults_made_by_hand(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    exec(&b,
         "ALTER TABLE a ADD COLUMN d TEXT DEFAULT \"q\"\"\"; ALTER TABLE a ADD COLUMN e TEXT "
         "NOT NULL DEFAULT w; ALTER TABLE a ADD COLUMN f DEFAULT [b c]; ALTER TABLE a ADD "
         "COLUMN g DEFAULT `t`; ALTER TABLE a ADD COLUMN h DEFAULT (1 + 2); ALTER TABLE a ADD "
         "COLUMN i INTEGER DEFAULT -3; ALTER TABLE a ADD COLUMN j DEFAULT 'it''s'; ALTER TABLE "
         "a ADD COLUMN k DEFAULT true; ALTER TABLE a ADD COLUMN l TEXT NOT NULL DEFAULT \xc3\xa9$");
    bring(&b, "a = { columns = { x = 'text?' } }");
    bench_ok(&b);
    exec(&b, "INSERT INTO a (_creation_time) VALUES (1)");
    assert_string_equal(bench_value(&b, "SELECT d || e || f || g || h || i || j || k || l FROM a"),
                        "q\"wb ct3-3it's1\xc3\xa9$");
    assert_string_equal(bench_value(&b, "SELECT group_concat(name) FROM pragma_table_info('a') "
                                        "WHERE \"notnull\""),
                        "_creation_time,e,l");
    bench_close(&b);
}

/* The rebuild left it out without a word. */
static void schema__rebuild_that_would_lose_a_constraint_is_refused(void **state)
{
    static const struct {
        const char *column, *wanted;
    } cases[] = {
        {"y TEXT COLLATE NOCASE", "a column that was added by hand has a COLLATE"},
        {"y TEXT check(y <> '')", "a column that was added by hand has a CHECK"},
        {"y INTEGER REFERENCES b (_id)", "a column that was added by hand has a REFERENCES"},
        {"y TEXT /* don't */ COLLATE NOCASE DEFAULT 'it''s'", "added by hand has a COLLATE"},
        {"y TEXT DEFAULT '--' COLLATE NOCASE", "added by hand has a COLLATE"},
        {"y TEXT NOT NULL ON CONFLICT REPLACE DEFAULT 'x'", "added by hand has a CONFLICT"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench b;
        char sql[128];

        bench_open(&b);
        bring(&b, "a = { columns = { x = 'text' } }, b = { columns = {} }");
        snprintf(sql, sizeof(sql), "ALTER TABLE a ADD COLUMN %s", cases[i].column);
        exec(&b, sql);
        refuses(&b, "a = { columns = { x = 'text?' } }, b = { columns = {} }", cases[i].wanted);
        bench_close(&b);
        assert_int_equal(unlink("test.db"), 0);
    }
}

static void schema__rebuild_takes_no_name_or_text_for_a_constraint(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b,
          "a = { columns = { check = 'text', unique = { 'text', default = \"it's \\\" COLLATE\" }"
          " } }");
    exec(&b, "ALTER TABLE a ADD COLUMN [references] TEXT DEFAULT 'a CHECK'");
    bring(&b,
          "a = { columns = { check = 'text?', unique = { 'text', default = \"it's \\\" COLLATE\" }"
          " } }");
    bench_ok(&b);
    assert_non_null(strstr(b.report, "rebuild table a"));
    bench_close(&b);
}

/* A row's _id is never another row's: not after the last one was deleted, and a rebuild knows it, too. */
static void schema__id_of_a_deleted_row_is_not_given_out_again(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }, b = { columns = { x = 'text' } }");
    exec(&b, "INSERT INTO a (_creation_time, x) VALUES (1, 'a'), (1, 'b');"
             "INSERT INTO b (_creation_time, x) VALUES (1, 'a'), (1, 'b');"
             "DELETE FROM a WHERE _id = 2; DELETE FROM b");
    brings(&b, "a = { columns = { x = 'text?' } }, b = { columns = { x = 'text?' } }",
           "rebuild table a\nrebuild table b");
    exec(&b, "INSERT INTO a (_creation_time, x) VALUES (1, 'c');"
             "INSERT INTO b (_creation_time, x) VALUES (1, 'c')");
    assert_string_equal(bench_value(&b, "SELECT group_concat(_id || x) FROM a"), "1a,3c");
    assert_string_equal(bench_value(&b, "SELECT group_concat(_id || x) FROM b"), "3c");
    assert_string_equal(bench_value(&b, "SELECT group_concat(name || seq) FROM "
                                        "(SELECT * FROM sqlite_sequence ORDER BY name)"),
                        "a3,b3");
    bench_close(&b);
}

/* SQLite says of a table without any _id left that the disk is full. */
static void schema__id_has_an_end_that_is_told(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    bench_raises(&b, "authkit.schema { a = { columns = { x = 'text' } } }",
                 "ctx.db.sql('INSERT INTO a (_id, _creation_time, x) VALUES (9223372036854775807, "
                 "1, ?)', 'x')",
                 "CHECK constraint failed: _id < 9007199254740992");
    bench_passes(&b, "authkit.schema { a = { columns = { x = 'text' } } }",
                 "assert(ctx.db.insert('a', { x = 'y' }) == 1)");
    bench_close(&b);
}

static const char made_before[] =
    "CREATE TABLE \"a\" (\"_id\" INTEGER PRIMARY KEY, \"_creation_time\" INTEGER NOT NULL, "
    "\"x\" TEXT NOT NULL); CREATE INDEX \"authkitd:a:x\" ON \"a\" (\"x\");"
    "INSERT INTO a VALUES (4, 1, 'a'), (7, 2, 'b')";

static void schema__table_of_an_older_authkitd_is_made_anew(void **state)
{
    static const char declared[] = "a = { columns = { x = 'text' }, indexes = { { 'x' } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    exec(&b, made_before);
    brings(&b, declared, "rebuild table a\ncreate index on a (x)");
    exec(&b, "DELETE FROM a WHERE _id = 7; INSERT INTO a (_creation_time, x) VALUES (3, 'c')");
    assert_string_equal(bench_value(&b, "SELECT group_concat(_id || x) FROM a"), "4a,8c");
    brings(&b, declared, "");
    bench_close(&b);
}

static void schema__table_of_an_older_authkitd_is_kept_where_something_depends_on_it(void **state)
{
    static const char declared[] = "a = { columns = { x = 'text' }, indexes = { { 'x' } } }";
    struct bench b;

    (void)state;
    bench_open(&b);
    exec(&b, made_before);
    exec(&b, "CREATE VIEW v AS SELECT x FROM a");
    brings(&b, declared,
           "warning: table a can give a deleted row's _id to a new one; that ends once it is made "
           "anew, "
           "but the view v mentions it: with the server stopped, DROP VIEW \"v\" first and make it "
           "again "
           "afterwards");
    exec(&b, "DROP VIEW v; UPDATE a SET _id = 9007199254740992 WHERE _id = 7");
    brings(&b, declared,
           "warning: table a can give a deleted row's _id to a new one; that ends once it is made "
           "anew, "
           "but it has a row with _id 9007199254740992, and 2^53 is the end of them: give it "
           "another one, "
           "with UPDATE \"a\" SET \"_id\" = …");
    bench_close(&b);
}

/* Nobody has asked for it to be made anew: no start may fail for it, and nothing be lost. */
static void schema__table_of_an_older_authkitd_is_kept_when_in_doubt(void **state)
{
    static const struct {
        const char *made_by_hand, *wanted;
    } cases[] = {
        {"CREATE VIEW broken AS SELECT gone FROM nowhere", "the view broken can't be read ("},
        {"ALTER TABLE a ADD COLUMN y TEXT AS (upper(x))",
         "its column y is computed, and would be lost"},
        {"ALTER TABLE a ADD COLUMN y TEXT COLLATE NOCASE", "has a COLLATE, which would be lost"},
        {"ALTER TABLE a ADD COLUMN y TEXT CHECK (y <> '')", "has a CHECK, which would be lost"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench b;

        bench_open(&b);
        exec(&b, made_before);
        exec(&b, cases[i].made_by_hand);
        bring(&b, "a = { columns = { x = 'text' }, indexes = { { 'x' } } }");
        bench_ok(&b);
        assert_non_null(strstr(b.report, "warning: table a can give a deleted row's _id"));
        if (!strstr(b.report, cases[i].wanted))
            fail_msg("no \"%s\" in \"%s\"", cases[i].wanted, b.report);
        assert_null(strstr(b.report, "rebuild"));
        bench_close(&b);
        assert_int_equal(unlink("test.db"), 0);
    }
}

/* It was made anew without the column, and without a word. */
static void schema__rebuild_that_would_lose_a_computed_column_is_refused(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "a = { columns = { x = 'text' } }");
    exec(&b, "ALTER TABLE a ADD COLUMN y TEXT AS (upper(x)); INSERT INTO a (_creation_time, x) "
             "VALUES (1, 'x')");
    refuses(&b, "a = { columns = { x = 'text?' } }",
            "table a must be made anew for this change, but its column y is computed, and would be "
            "lost");
    assert_string_equal(bench_value(&b, "SELECT y FROM a"), "X");
    bench_close(&b);
}

/* A script of 30 tables, each with 10 columns of long names and 10 indexes; behind comes last. */
static void many_tables(char *out, size_t size, const char *behind)
{
    snprintf(out, size,
             "local tables = {}\n"
             "for t = 1, 30 do\n"
             "  local columns, indexes, names = {}, {}, {}\n"
             "  for c = 1, 10 do\n"
             "    names[c] = ('c'):rep(50) .. c\n"
             "    columns[names[c]], indexes[c] = 'text?', table.move(names, 1, c, 1, {})\n"
             "  end\n"
             "  tables['t' .. t] = { columns = columns, indexes = indexes }\n"
             "end\n"
             "%s",
             behind);
}

/* It was too long for what takes it: check said that nothing changes. */
static void schema__long_plan_is_cut_at_a_line(void **state)
{
    struct bench b;
    char text[2048];
    const char *end;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 10000;
    bring(&b, "undeclared = { columns = {} }");
    many_tables(text, sizeof(text), "require 'authkit'.schema(tables)");
    bench_load(&b, text);
    bench_ok(&b);
    bench_schema(&b, false);
    bench_ok(&b);
    assert_memory_equal(b.report, "create table t1\ncreate index on t1 (", 36);
    end = strstr(b.report, "\n… and ");
    assert_non_null(end);
    assert_int_equal(end[-1], ')');
    assert_string_equal(strchr(end + 1, '\n'),
                        "\nwarning: table undeclared isn't declared any more; it is kept");
    bench_schema(&b, true);
    bench_ok(&b);
    assert_string_equal(bench_value(&b, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 't%'"),
                        "30");
    bench_close(&b);
}

/* The error had no text at all. */
static void schema__many_problems_are_told_as_far_as_they_fit(void **state)
{
    struct bench b;
    char text[2048];

    (void)state;
    bench_open(&b);
    b.timeout_ms = 10000;
    many_tables(text, sizeof(text), "require 'authkit'.schema(tables)");
    bench_load(&b, text);
    bench_ok(&b);
    bench_schema(&b, true);
    bench_ok(&b);
    for (int i = 1; i <= 30; i++) {
        char sql[80];

        snprintf(sql, sizeof(sql), "INSERT INTO t%d (_creation_time) VALUES (1)", i);
        exec(&b, sql);
    }
    many_tables(text, sizeof(text),
                "for _, t in pairs(tables) do\n"
                "  for c in pairs(t.columns) do t.columns[c] = 'real?' end\nend\n"
                "require 'authkit'.schema(tables)");
    bench_load(&b, text);
    bench_ok(&b);
    bench_schema(&b, false);
    bench_says(&b, ERR_INVALID, "is declared real, but the database has it as text");
    bench_close(&b);
}

static void schema__failed_one_changes_nothing(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bring(&b, "b = { columns = { x = 'text' } }");
    exec(&b, "INSERT INTO b (_creation_time, x) VALUES (1, 'x')");
    refuses(&b, "a = { columns = {} }, b = { columns = { x = 'real' } }", "b.x is declared real");
    assert_string_equal(bench_value(&b, "SELECT count(*) FROM sqlite_schema WHERE name = 'a'"),
                        "0");
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(schema__wrong_declarations_are_refused),
        IN_TEMP_DIR(schema__table_twice_is_refused),
        IN_TEMP_DIR(schema__default_must_fit),
        IN_TEMP_DIR(schema__json_default_must_be_json),
        IN_TEMP_DIR(schema__whole_float_is_an_integer_default),
        IN_TEMP_DIR(schema__new_table),
        IN_TEMP_DIR(schema__plan_without_a_database),
        IN_TEMP_DIR(schema__new_columns),
        IN_TEMP_DIR(schema__required_column_of_an_empty_table),
        IN_TEMP_DIR(schema__required_and_not),
        IN_TEMP_DIR(schema__other_type_is_refused),
        IN_TEMP_DIR(schema__advice_for_another_type_works),
        IN_TEMP_DIR(schema__other_type_of_an_empty_table),
        IN_TEMP_DIR(schema__unique_over_duplicates_is_refused),
        IN_TEMP_DIR(schema__index_goes_with_its_declaration),
        IN_TEMP_DIR(schema__index_on_a_renamed_column_is_made_anew),
        IN_TEMP_DIR(schema__index_that_lost_its_uniqueness_is_made_anew),
        IN_TEMP_DIR(schema__index_of_a_renamed_table_is_made_anew),
        IN_TEMP_DIR(schema__undeclared_is_kept),
        IN_TEMP_DIR(schema__column_gets_another_name),
        IN_TEMP_DIR(schema__foreign_table_is_refused),
        IN_TEMP_DIR(schema__name_of_a_view_or_an_index_is_refused),
        IN_TEMP_DIR(schema__tables_called_as_functions_hide_nothing),
        IN_TEMP_DIR(schema__table_in_another_case_is_refused),
        IN_TEMP_DIR(schema__column_in_another_case_is_refused),
        IN_TEMP_DIR(schema__sql_words_are_names_like_others),
        IN_TEMP_DIR(schema__defaults_of_every_type),
        IN_TEMP_DIR(schema__default_null_is_no_default),
        IN_TEMP_DIR(schema__default_null_of_a_required_column_is_refused),
        IN_TEMP_DIR(schema__default_that_sql_can_not_say_is_refused),
        IN_TEMP_DIR(schema__many_rows_are_told),
        IN_TEMP_DIR(schema__changed_default_takes_effect),
        IN_TEMP_DIR(schema__rebuild_keeps_what_was_made_by_hand),
        IN_TEMP_DIR(schema__rebuild_keeps_names_and_types_with_quotes),
        IN_TEMP_DIR(schema__rebuild_keeps_defaults_made_by_hand),
        IN_TEMP_DIR(schema__rebuild_that_would_lose_a_constraint_is_refused),
        IN_TEMP_DIR(schema__rebuild_takes_no_name_or_text_for_a_constraint),
        IN_TEMP_DIR(schema__id_of_a_deleted_row_is_not_given_out_again),
        IN_TEMP_DIR(schema__id_has_an_end_that_is_told),
        IN_TEMP_DIR(schema__table_of_an_older_authkitd_is_made_anew),
        IN_TEMP_DIR(schema__table_of_an_older_authkitd_is_kept_where_something_depends_on_it),
        IN_TEMP_DIR(schema__table_of_an_older_authkitd_is_kept_when_in_doubt),
        IN_TEMP_DIR(schema__rebuild_that_would_lose_a_computed_column_is_refused),
        IN_TEMP_DIR(schema__long_plan_is_cut_at_a_line),
        IN_TEMP_DIR(schema__many_problems_are_told_as_far_as_they_fit),
        IN_TEMP_DIR(schema__failed_one_changes_nothing),
    };

    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
