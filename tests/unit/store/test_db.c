/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "base/clock.h"
#include "temp_dir.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct db *open_db(enum db_mode mode)
{
    struct db *db = NULL;
    struct err err = {0};

    if (db_open(&db, "a.db", mode, &err) < 0)
        fail_msg("%s", err.text);
    return db;
}

static void exec(struct db *db, const char *sql)
{
    struct err err = {0};

    if (db_exec(db, sql, &err) < 0)
        fail_msg("%s", err.text);
}

static struct stmt *prepare(struct db *db, const char *sql)
{
    struct stmt *stmt = NULL;
    struct err err = {0};

    if (stmt_new(&stmt, db, sql, &err) < 0)
        fail_msg("%s", err.text);
    return stmt;
}

/* The first column of the first row. */
static int64_t number(struct db *db, const char *sql)
{
    struct stmt *stmt = prepare(db, sql);
    int64_t value;

    assert_int_equal(stmt_step(stmt, NULL), 1);
    value = stmt_int(stmt, 0);
    stmt_free(stmt);
    return value;
}

static void write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void assert_open_fails(const char *path, enum db_mode mode, int code, const char *words)
{
    struct db *db = NULL;
    struct err err = {0};

    assert_int_equal(db_open(&db, path, mode, &err), code);
    assert_null(db);
    assert_int_equal(err.code, code);
    if (!strstr(err.text, path) || !strstr(err.text, words))
        fail_msg("'%s' should name '%s' and say '%s'", err.text, path, words);
}

/* ------------------------------------------------------------------ opening */

static void db__new_file_is_private(void **state)
{
    static const char *const files[] = {"a.db", "a.db-wal", "a.db-shm"};
    mode_t old = umask(0);
    struct db *db = open_db(DB_WRITER);
    struct stat st;

    (void)state;
    exec(db, "CREATE TABLE t (n)");
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        assert_int_equal(stat(files[i], &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    db_close(db);
    umask(old);
}

static void db__writer_is_durable_and_strict(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = prepare(db, "PRAGMA journal_mode");

    (void)state;
    assert_int_equal(stmt_step(stmt, NULL), 1);
    assert_string_equal(stmt_text(stmt, 0, NULL), "wal");
    stmt_reset(stmt);
    assert_int_equal(number(db, "PRAGMA synchronous"), 2);
    assert_int_equal(number(db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(number(db, "PRAGMA trusted_schema"), 0);
    assert_int_equal(number(db, "PRAGMA secure_delete"), 1);
    assert_int_equal(number(db, "PRAGMA page_size"), 4096);
    assert_int_equal(number(db, "PRAGMA busy_timeout"), 5000);
    assert_true(db_exec(db, "SELECT load_extension('x')", NULL) < 0);
    db_close(db);
}

static void db__absent_file_is_absent_for_reader(void **state)
{
    (void)state;
    assert_open_fails("a.db", DB_READER, ERR_ABSENT, "No such file");
    assert_int_equal(file_size("a.db"), -1);
}

static void db__directory_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d.db", 0700), 0);
    assert_open_fails("d.db", DB_WRITER, ERR_IO, "is a directory");
    assert_open_fails("d.db", DB_READER, ERR_IO, "is a directory");
    assert_open_fails("/dev/null", DB_WRITER, ERR_IO, "is not a file");
    assert_open_fails("nowhere/a.db", DB_WRITER, ERR_IO, "No such file");
}

static void db__special_names_are_refused(void **state)
{
    (void)state;
    assert_open_fails("", DB_WRITER, ERR_INVALID, "not a file name");
    assert_open_fails(":memory:", DB_WRITER, ERR_INVALID, "not a file name");
    assert_int_equal(file_size(":memory:"), -1);
}

static void db__other_files_are_refused(void **state)
{
    char text[8192];

    (void)state;
    memset(text, 'x', sizeof(text));
    write_file("letter.db", text, sizeof(text));
    assert_open_fails("letter.db", DB_WRITER, ERR_FATAL, "file is not a database");
    assert_open_fails("letter.db", DB_READER, ERR_FATAL, "file is not a database");
    assert_open_fails("letter.db", DB_READER, ERR_FATAL, "is it the right file?");
    assert_int_equal(file_size("letter.db"), sizeof(text)); /* and left as they are */
}

static void db__corrupt_schema_is_refused(void **state)
{
    struct db *db = open_db(DB_WRITER);
    char junk[3000];
    int fd;

    (void)state;
    exec(db, "CREATE TABLE t (n)");
    db_close(db);
    memset(junk, 0xEE, sizeof(junk));
    fd = open("a.db", O_WRONLY);
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 100), sizeof(junk)); /* behind the header */
    close(fd);
    assert_open_fails("a.db", DB_WRITER, ERR_FATAL, "malformed");
    assert_open_fails("a.db", DB_READER, ERR_FATAL, "malformed");
    assert_open_fails("a.db", DB_READER, ERR_FATAL, "put a backup in its place");
}

/* Such a table hid the function, and the database couldn't be opened any more. */
static void db__table_called_as_a_function_hides_nothing(void **state)
{
    struct db *db = NULL;

    (void)state;
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, NULL), 0);
    exec(db, "CREATE TABLE json_each (x); CREATE TABLE json_tree (x)");
    db_close(db);
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, NULL), 0);
    db_close(db);
}

static void db__unwritable_places_are_refused(void **state)
{
    uid_t user = geteuid();
    struct db *db = open_db(DB_WRITER);

    (void)state;
    db_close(db);
    assert_int_equal(chmod(".", 0555), 0);
    assert_int_equal(chmod("a.db", 0444), 0);
    if (user == 0)
        assert_int_equal(seteuid(65534), 0); /* root may write everywhere */
    assert_open_fails("new.db", DB_WRITER, ERR_IO, "Permission denied");
    assert_open_fails("a.db", DB_WRITER, ERR_IO, "can't be written");
    if (user == 0) {
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(chmod("a.db", 0666), 0);
        assert_int_equal(seteuid(65534), 0);
        /* The file could be written, but there is no place for a WAL. */
        assert_open_fails("a.db", DB_WRITER, ERR_IO,
                          "this user (uid 65534) can't make files in the folder '");
        /* Nor for what a reader needs. */
        assert_open_fails("a.db", DB_READER, ERR_IO, "can't make files in the folder '");
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(chmod(".", 0755), 0);
    prctl(PR_SET_DUMPABLE, 1); /* seteuid clears it, and the leak checker needs it */
}

/* Symptom: "No such file or directory", and "authkitd serve makes it", which it didn't. */
static void db__link_to_nowhere_is_no_absent_file(void **state)
{
    (void)state;
    assert_int_equal(symlink("nowhere/b.db", "a.db"), 0);
    assert_open_fails("a.db", DB_READER, ERR_IO, "'a.db' is a link to 'nowhere/b.db'");
    assert_open_fails("a.db", DB_WRITER, ERR_IO, "'a.db' is a link to 'nowhere/b.db'");
}

static void db__name_is_no_uri(void **state)
{
    struct db *db = NULL;

    (void)state;
    assert_int_equal(db_open(&db, "file:a.db?mode=memory", DB_WRITER, NULL), 0);
    assert_true(file_size("file:a.db?mode=memory") >= 0);
    db_close(db);
}

static void db__close_takes_everything_along(void **state)
{
    struct db *db = open_db(DB_WRITER);

    (void)state;
    exec(db, "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    assert_int_equal(stmt_step(prepare(db, "SELECT n FROM t"), NULL), 1); /* left standing */
    stmt_free(prepare(db, "SELECT 1"));
    prepare(db, "SELECT 2");
    exec(db, "BEGIN IMMEDIATE; INSERT INTO t VALUES (2)");
    db_close(db);
    db_close(NULL);
    db = open_db(DB_WRITER);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1); /* rolled back */
    db_close(db);
}

/* ------------------------------------------------------------------ readers */

static void db__reader_sees_what_is_committed(void **state)
{
    struct db *writer = open_db(DB_WRITER), *reader;

    (void)state;
    exec(writer, "CREATE TABLE t (n)");
    reader = open_db(DB_READER);
    exec(writer, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1)");
    assert_int_equal(number(reader, "SELECT count(*) FROM t"), 0);
    exec(writer, "COMMIT");
    assert_int_equal(number(reader, "SELECT count(*) FROM t"), 1);
    db_close(reader);
    db_close(writer);
}

static void db__reader_cannot_write(void **state)
{
    struct db *writer = open_db(DB_WRITER), *reader;
    struct err err;

    (void)state;
    exec(writer, "CREATE TABLE t (n)");
    reader = open_db(DB_READER);
    assert_int_equal(db_exec(reader, "INSERT INTO t VALUES (1)", &err), ERR_INVALID);
    assert_int_equal(db_trouble(reader), 0);
    assert_true(db_checkpoint(reader, &err) < 0);
    db_close(reader);
    db_close(writer);
}

static void db__reader_never_checkpoints(void **state)
{
    struct db *writer = open_db(DB_WRITER), *reader;
    long before;

    (void)state;
    exec(writer, "CREATE TABLE t (n)");
    before = file_size("a.db-wal");
    assert_true(before > 0);
    reader = open_db(DB_READER);
    assert_int_equal(number(reader, "SELECT count(*) FROM t"), 0);
    db_close(reader);
    assert_int_equal(file_size("a.db-wal"), before);
    assert_int_equal(file_size("a.db"), 4096); /* the table isn't in it yet */
    db_close(writer);
    assert_int_equal(file_size("a.db-wal"), -1); /* the writer cleans up */
}

static void db__reader_leaves_what_a_crash_left(void **state)
{
    struct db *db;
    long left;
    int status;
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        struct db *crashing = NULL;

        if (db_open(&crashing, "a.db", DB_WRITER, NULL) < 0 ||
            db_exec(crashing, "CREATE TABLE t (n); INSERT INTO t VALUES (1)", NULL) < 0)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    left = file_size("a.db-wal");
    assert_true(left > 0);
    db = open_db(DB_READER);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    db_close(db);
    assert_int_equal(file_size("a.db-wal"), left);
    db = open_db(DB_WRITER);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 1);
    db_close(db);
}

/* --------------------------------------------------------------- statements */

static void stmt__values_come_back_as_they_were(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = prepare(db, "SELECT ?1 AS a, ?2, ?3, ?4, ?5, ?6, x'0102'");
    size_t len = 99;

    (void)state;
    assert_int_equal(stmt_param_count(stmt), 6);
    assert_int_equal(stmt_column_count(stmt), 7);
    assert_string_equal(stmt_column_name(stmt, 0), "a");
    assert_true(stmt_is_readonly(stmt));
    stmt_bind_null(stmt, 1);
    stmt_bind_int(stmt, 2, INT64_MIN);
    stmt_bind_real(stmt, 3, 0.1);
    stmt_bind_text(stmt, 4, "a\0b", 3);
    stmt_bind_str(stmt, 5, "");
    stmt_bind_str(stmt, 6, NULL);
    assert_int_equal(stmt_step(stmt, NULL), 1);
    assert_int_equal(stmt_column_type(stmt, 0), STMT_NULL);
    assert_null(stmt_text(stmt, 0, &len));
    assert_int_equal(len, 0);
    assert_int_equal(stmt_column_type(stmt, 1), STMT_INT);
    assert_true(stmt_int(stmt, 1) == INT64_MIN);
    assert_int_equal(stmt_column_type(stmt, 2), STMT_REAL);
    assert_true(stmt_real(stmt, 2) == 0.1);
    assert_int_equal(stmt_column_type(stmt, 3), STMT_TEXT);
    assert_memory_equal(stmt_text(stmt, 3, &len), "a\0b", 4);
    assert_int_equal(len, 3);
    assert_int_equal(stmt_column_type(stmt, 4), STMT_TEXT);
    assert_string_equal(stmt_text(stmt, 4, &len), "");
    assert_int_equal(len, 0);
    assert_null(stmt_text(stmt, 5, NULL));
    assert_int_equal(stmt_column_type(stmt, 6), STMT_BLOB);
    assert_memory_equal(stmt_text(stmt, 6, &len), "\1\2", 2);
    assert_int_equal(len, 2);
    assert_int_equal(stmt_step(stmt, NULL), 0);
    stmt_free(stmt);
    db_close(db);
}

static void stmt__is_reset_at_the_end(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = prepare(db, "SELECT ?1");

    (void)state;
    stmt_bind_int(stmt, 1, 7);
    assert_int_equal(stmt_run(stmt, NULL), 0);
    assert_int_equal(stmt_step(stmt, NULL), 1); /* starts anew, without the value */
    assert_int_equal(stmt_column_type(stmt, 0), STMT_NULL);
    stmt_reset(stmt);
    stmt_bind_int(stmt, 1, 8);
    assert_int_equal(stmt_step(stmt, NULL), 1);
    assert_int_equal(stmt_int(stmt, 0), 8);
    db_close(db);
}

static void stmt__one_statement_only(void **state)
{
    static const char *const good[] = {
        "SELECT 1",          "SELECT 1;",           "SELECT 1 ; ; \n\t",
        "SELECT 1 -- thus",  "SELECT 1; -- a\n--b", "SELECT 1; /* a */ /* b",
        "/* a */ SELECT 1;",
    };
    static const char *const bad[] = {
        "SELECT 1; SELECT 2",
        "SELECT 1; x",
        "SELECT 1; /* */ DROP TABLE t",
        "SELECT 1; -- a\nb",
        "",
        " ; ",
        "-- nothing",
        "SELECT",
    };
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = NULL;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        stmt_free(prepare(db, good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err.text[0] = '\0';
        assert_int_equal(stmt_new(&stmt, db, bad[i], i == 0 ? &err : NULL), ERR_INVALID);
        assert_null(stmt);
    }
    assert_int_equal(stmt_new(&stmt, db, bad[0], &err), ERR_INVALID);
    assert_string_equal(err.text, "one statement at a time: \"SELECT 2\" is too much");
    assert_int_equal(stmt_new(&stmt, db, "SELECT 1 FRM x", &err), ERR_INVALID);
    assert_string_equal(err.text, "near \"x\": syntax error, in \"SELECT 1 FRM x\"");
    db_close(db);
}

static void stmt__bind_errors_wait_for_the_step(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = prepare(db, "SELECT ?1");
    struct err err;

    (void)state;
    stmt_bind_int(stmt, 2, 1);
    stmt_bind_int(stmt, 1, 1);
    assert_int_equal(stmt_step(stmt, &err), ERR_INVALID);
    assert_string_equal(err.text, "no parameter 2 in \"SELECT ?1\"");
    stmt_bind_int(stmt, 1, 5);
    assert_int_equal(stmt_step(stmt, &err), 1);
    stmt_bind_int(stmt, 1, 6); /* while it runs */
    assert_int_equal(stmt_step(stmt, &err), ERR_INVALID);
    assert_int_equal(stmt_step(stmt, &err), 1);
    assert_int_equal(db_trouble(db), 0);
    db_close(db);
}

static void stmt__constraints_are_conflicts(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt;
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE t (c TEXT NOT NULL UNIQUE CHECK (c <> 'no'));"
             "CREATE TABLE u (c TEXT REFERENCES t (c)); INSERT INTO t VALUES ('x')");
    stmt = prepare(db, "INSERT INTO t VALUES (?1)");
    assert_false(stmt_is_readonly(stmt));
    stmt_bind_str(stmt, 1, "x");
    assert_int_equal(stmt_run(stmt, &err), ERR_CONFLICT);
    assert_string_equal(err.text, "UNIQUE constraint failed: t.c");
    assert_int_equal(stmt_run(stmt, &err), ERR_CONFLICT); /* NULL again */
    stmt_bind_str(stmt, 1, "no");
    assert_int_equal(stmt_run(stmt, &err), ERR_CONFLICT);
    assert_int_equal(db_exec(db, "INSERT INTO u VALUES ('y')", &err), ERR_CONFLICT);
    assert_string_equal(err.text, "FOREIGN KEY constraint failed");
    assert_int_equal(db_trouble(db), 0);
    stmt_bind_str(stmt, 1, "y");
    assert_int_equal(stmt_run(stmt, &err), 0);
    assert_int_equal(db_last_insert_rowid(db), 2);
    db_close(db);
}

static void stmt__double_quotes_are_names(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = NULL;
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE t (\"a b\")");
    assert_int_equal(stmt_new(&stmt, db, "SELECT \"a\" FROM t", &err), ERR_INVALID);
    stmt_free(prepare(db, "SELECT \"a b\" FROM t"));
    db_close(db);
}

static void stmt__values_have_a_limit(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct err err;

    (void)state;
    assert_int_equal(db_exec(db, "SELECT length(zeroblob(67108865))", &err), ERR_INVALID);
    assert_int_equal(db_trouble(db), 0);
    db_close(db);
}

/* ------------------------------------------------------- what can go wrong */

static void db__changes_are_counted(void **state)
{
    struct db *db = open_db(DB_WRITER);
    int64_t before;

    (void)state;
    exec(db, "CREATE TABLE t (n)");
    before = db_total_changes(db);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
    assert_true(db_total_changes(db) == before);
    exec(db, "INSERT INTO t VALUES (1), (2)");
    assert_true(db_total_changes(db) == before + 2);
    db_close(db);
}

/* Did the mark move since it was asked last? */
static bool is_mark_moved(struct db *db)
{
    static uint64_t mark;
    uint64_t before = mark;

    mark = db_undo_mark(db);
    return mark != before;
}

static void db__undo_mark_stays_while_all_is_our_own_doing(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *undo;

    (void)state;
    exec(db, "CREATE TABLE t (n PRIMARY KEY)");
    is_mark_moved(db);
    exec(db, "INSERT INTO t VALUES (1)");
    exec(db, "BEGIN IMMEDIATE; COMMIT");
    exec(db, "BEGIN IMMEDIATE; INSERT INTO t VALUES (2)");
    exec(db, "SAVEPOINT s; INSERT INTO t VALUES (3); RELEASE s");
    assert_false(is_mark_moved(db));
    exec(db, "COMMIT");
    assert_int_equal(db_exec(db, "INSERT INTO t VALUES (4), (1)", NULL), ERR_CONFLICT);
    assert_int_equal(db_checkpoint(db, NULL), 0);
    exec(db, "INSERT INTO t VALUES (4); DELETE FROM t WHERE n = 4");
    is_mark_moved(db); /* an INSERT that failed on its own was rolled back */
    exec(db, "INSERT INTO t VALUES (4); DELETE FROM t WHERE n = 4");
    assert_int_equal(db_checkpoint(db, NULL), 0);
    exec(db, "INSERT INTO t VALUES (4); DELETE FROM t WHERE n = 4");
    assert_false(is_mark_moved(db));

    exec(db, "BEGIN IMMEDIATE; INSERT INTO t VALUES (5); ROLLBACK");
    assert_true(is_mark_moved(db));
    exec(db, "BEGIN IMMEDIATE; SAVEPOINT s; INSERT INTO t VALUES (5)");
    undo = prepare(db, "ROLLBACK TO s");
    assert_false(is_mark_moved(db));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stmt_run(undo, NULL), 0);
        assert_true(is_mark_moved(db));
    }
    exec(db, "INSERT INTO t VALUES (5); ROLLBACK TO s");
    assert_true(is_mark_moved(db));
    exec(db, "INSERT INTO t VALUES (5)");
    assert_int_equal(db_exec(db, "INSERT OR ROLLBACK INTO t VALUES (5)", NULL), ERR_CONFLICT);
    assert_false(db_in_transaction(db));
    assert_true(is_mark_moved(db));
    db_close(db);
}

static void db__undo_mark_moves_with_somebody_elses_commit(void **state)
{
    struct db *db = open_db(DB_WRITER), *other = open_db(DB_WRITER);

    (void)state;
    exec(db, "CREATE TABLE t (n)");
    for (int i = 0; i < 3; i++) {
        exec(db, "INSERT INTO t VALUES (1)");
        exec(db, "BEGIN IMMEDIATE");
        is_mark_moved(db);
        exec(db, "COMMIT");
        exec(other, "UPDATE t SET n = n + 1");
        exec(db, "BEGIN IMMEDIATE");
        assert_true(is_mark_moved(db));
        exec(db, "COMMIT; INSERT INTO t VALUES (1)");
        assert_false(is_mark_moved(db));
    }
    db_close(other);
    db_close(db);
}

static void db__runs_something_before_what_writes(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *first, *look, *insert, *wrong;

    (void)state;
    exec(db, "CREATE TABLE t (n); CREATE TABLE seen (n)");
    first = prepare(db, "INSERT INTO seen SELECT count(*) FROM t");
    look = prepare(db, "SELECT n FROM t");
    insert = prepare(db, "INSERT INTO t VALUES (1) RETURNING n");
    wrong = prepare(db, "ROLLBACK TO nowhere");
    assert_false(db_before_writing(db, first));
    assert_int_equal(stmt_run(look, NULL), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM seen"), 0);
    assert_true(db_before_writing(db, first));
    assert_int_equal(stmt_run(insert, NULL), 0);
    assert_int_equal(stmt_run(insert, NULL), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM seen"), 1);
    assert_int_equal(number(db, "SELECT n FROM seen"), 0);
    assert_false(db_before_writing(db, first));
    exec(db, "INSERT INTO t VALUES (3)");
    assert_int_equal(number(db, "SELECT group_concat(n) = '0,2' FROM seen"), 1);

    assert_false(db_before_writing(db, wrong)); /* then nothing is written either */
    assert_true(stmt_run(insert, NULL) < 0);
    assert_true(db_exec(db, "INSERT INTO t VALUES (3)", NULL) < 0);
    assert_true(db_before_writing(db, NULL));
    assert_int_equal(stmt_run(insert, NULL), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 4);
    db_close(db);
}

static void db__somebody_else_is_busy(void **state)
{
    struct db *a = open_db(DB_WRITER), *b = open_db(DB_WRITER);
    struct err err;

    (void)state;
    exec(b, "PRAGMA busy_timeout = 0");
    exec(a, "BEGIN IMMEDIATE");
    assert_true(db_in_transaction(a));
    assert_int_equal(db_exec(b, "BEGIN IMMEDIATE", &err), ERR_BUSY);
    assert_int_equal(db_trouble(b), 0);
    exec(a, "COMMIT");
    assert_false(db_in_transaction(a));
    exec(b, "BEGIN IMMEDIATE; COMMIT");
    db_close(b);
    db_close(a);
}

static void db__full_is_kept_as_trouble(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE t (b); PRAGMA max_page_count = 10");
    assert_int_equal(db_exec(db, "INSERT INTO t VALUES (zeroblob(100000))", &err), ERR_FULL);
    assert_non_null(strstr(err.text, "a.db': database or disk is full"));
    assert_int_equal(db_trouble(db), ERR_FULL);
    assert_string_equal(db_trouble_text(db), err.text);
    db_clear_trouble(db);
    assert_int_equal(db_trouble(db), 0);
    assert_string_equal(db_trouble_text(db), "");
    exec(db, "INSERT INTO t VALUES (1)");
    db_close(db);
}

static void db__corruption_is_fatal_trouble(void **state)
{
    struct db *db = open_db(DB_WRITER);
    char junk[4096];
    struct err err;
    int fd;

    (void)state;
    exec(db, "CREATE TABLE t (b)");
    for (int i = 0; i < 100; i++)
        exec(db, "INSERT INTO t VALUES (zeroblob(1000))");
    assert_int_equal(db_checkpoint(db, &err), 0);
    db_close(db);
    memset(junk, 0xEE, sizeof(junk));
    fd = open("a.db", O_WRONLY);
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 4096), sizeof(junk)); /* the table's root */
    close(fd);
    db = open_db(DB_WRITER); /* the schema is sound */
    assert_int_equal(db_exec(db, "SELECT count(b) FROM t", &err), ERR_FATAL);
    assert_non_null(strstr(err.text, "a.db': database disk image is malformed"));
    assert_non_null(
        strstr(err.text, "the file is damaged: keep it, and put a backup in its place"));
    assert_int_equal(db_trouble(db), ERR_FATAL);
    assert_int_equal(db_exec(db, "SELECT x", &err), ERR_INVALID);
    assert_int_equal(db_trouble(db), ERR_FATAL); /* the first one stays */
    db_close(db);
}

static bool say_yes(void *arg)
{
    ++*(int *)arg;
    return true;
}

static const char endless[] =
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r";
static const char endless_insert[] =
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
    "INSERT INTO t SELECT n FROM r";

static void db__interrupt_ends_a_statement(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *stmt = prepare(db, endless);
    int asked = 0;
    struct err err;

    (void)state;
    exec(db, "BEGIN IMMEDIATE; CREATE TABLE t (n)");
    db_set_interrupt(db, say_yes, &asked);
    assert_int_equal(stmt_run(stmt, &err), ERR_LIMIT);
    assert_int_equal(asked, 1);
    assert_non_null(strstr(err.text, "interrupted"));
    assert_true(db_in_transaction(db)); /* it only read */
    assert_int_equal(db_trouble(db), 0);
    db_set_interrupt(db, NULL, NULL);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
    exec(db, "COMMIT");
    db_close(db);
}

/* Symptom: SQLite rolls back a transaction whose INSERT was interrupted, and what the job did next
 * was committed on its own. */
static void db__lost_transaction_stops_what_follows(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *insert;
    int asked = 0;
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE t (n)");
    insert = prepare(db, "INSERT INTO t VALUES (1)");
    exec(db, "BEGIN IMMEDIATE");
    db_hold_transaction(db, true);
    assert_int_equal(stmt_run(insert, &err), 0);
    db_set_interrupt(db, say_yes, &asked);
    assert_int_equal(db_exec(db, endless_insert, &err), ERR_LIMIT);
    db_set_interrupt(db, NULL, NULL);
    assert_false(db_in_transaction(db));
    assert_int_equal(db_trouble(db), ERR_LIMIT);
    assert_int_equal(stmt_run(insert, &err), ERR_LIMIT);
    assert_int_equal(db_exec(db, "INSERT INTO t VALUES (2)", &err), ERR_LIMIT);
    db_hold_transaction(db, false);
    db_clear_trouble(db);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 0);
    assert_int_equal(stmt_run(insert, &err), 0);
    db_close(db);
}

static void db__held_transaction_cannot_be_ended(void **state)
{
    static const char *const sql[] = {"COMMIT", "END", "ROLLBACK", "BEGIN", "ATTACH 'b.db' AS b"};
    struct db *db = open_db(DB_WRITER);
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE t (n); BEGIN IMMEDIATE");
    db_hold_transaction(db, true);
    for (size_t i = 0; i < ARRAY_LEN(sql); i++)
        assert_int_equal(db_exec(db, sql[i], &err), ERR_INVALID);
    exec(db, "SAVEPOINT a; INSERT INTO t VALUES (1); ROLLBACK TO a; RELEASE a");
    assert_int_equal(db_trouble(db), 0);
    db_hold_transaction(db, false);
    exec(db, "COMMIT");
    assert_int_equal(file_size("b.db"), -1);
    db_close(db);
}

static void db__broken_references_are_seen_before_commit(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE a (id INTEGER PRIMARY KEY);"
             "CREATE TABLE b (a REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED);"
             "BEGIN IMMEDIATE; SAVEPOINT s; INSERT INTO b VALUES (1)");
    assert_true(db_has_broken_references(db));
    assert_int_equal(db_exec(db, "COMMIT", &err), ERR_CONFLICT);
    exec(db, "ROLLBACK TO s");
    assert_false(db_has_broken_references(db));
    exec(db, "INSERT INTO b VALUES (1); INSERT INTO a VALUES (1)");
    assert_false(db_has_broken_references(db));
    exec(db, "COMMIT");
    db_close(db);
}

static void db__standing_statements_are_reset(void **state)
{
    struct db *db = open_db(DB_WRITER);
    struct stmt *a, *b;
    struct err err;

    (void)state;
    exec(db, "CREATE TABLE t (n)");
    a = prepare(db, "INSERT INTO t VALUES (1), (2) RETURNING n");
    b = prepare(db, "SELECT n FROM t");
    exec(db, "BEGIN IMMEDIATE");
    assert_int_equal(stmt_step(a, &err), 1);
    assert_int_equal(stmt_step(b, &err), 1);
    assert_int_equal(stmt_step(b, &err), 1);
    assert_true(db_exec(db, "COMMIT", &err) < 0);
    db_reset_statements(db);
    db_reset_statements(db);
    exec(db, "COMMIT");
    db_close(db);
}

/* -------------------------------------------------------------- checkpoints */

static void db__checkpoint_empties_the_wal(void **state)
{
    struct db *db = open_db(DB_WRITER), *reader;
    struct stmt *stmt;
    struct err err;

    (void)state;
    assert_true(db_wal_pages(db) > 0); /* it might be left from a crash */
    exec(db, "CREATE TABLE t (n); INSERT INTO t VALUES (1)");
    reader = open_db(DB_READER);
    stmt = prepare(reader, "SELECT n FROM t");
    assert_int_equal(stmt_step(stmt, &err), 1);
    exec(db, "INSERT INTO t VALUES (2)");
    assert_int_equal(db_checkpoint(db, &err), ERR_BUSY);
    assert_int_equal(db_trouble(db), 0);
    assert_true(db_wal_pages(db) > 0);
    stmt_free(stmt);
    assert_int_equal(db_checkpoint(db, &err), 0);
    assert_int_equal(db_wal_pages(db), 0);
    assert_int_equal(file_size("a.db-wal"), 0);
    db_shrink(db);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 2);
    db_close(reader);
    db_close(db);
}

/* In 8 MB steps: how the WAL grows while db_checkpoint_due is called after every commit. */
static void write_megabytes(struct db *db, int steps)
{
    struct err err;

    for (int i = 0; i < steps; i++) {
        exec(db, "UPDATE t SET b = randomblob(8000000)");
        if (db_checkpoint_due(db, &err) < 0)
            fail_msg("%s", err.text);
    }
}

static void db__wal_stays_small(void **state)
{
    struct db *db = open_db(DB_WRITER);

    (void)state;
    exec(db, "PRAGMA synchronous = OFF; CREATE TABLE t (b); INSERT INTO t VALUES (1)");
    exec(db, "UPDATE t SET b = randomblob(2000000)");
    assert_int_equal(db_checkpoint_due(db, NULL), 0);
    assert_true(file_size("a.db") < 1000000); /* not due yet */
    write_megabytes(db, 8);
    assert_true(file_size("a.db") > 8000000);
    assert_true(file_size("a.db-wal") < 40000000);
    db_close(db);
}

/* Reads for 10 ms at a time, on and on. Two of them leave no moment without a reader. */
static void *read_on_and_on(void *arg)
{
    atomic_bool *stop = arg;
    struct db *db = NULL;
    struct stmt *stmt = NULL;

    if (db_open(&db, "a.db", DB_READER, NULL) < 0 ||
        stmt_new(&stmt, db, "SELECT length(b) FROM t", NULL) < 0)
        abort();
    while (!atomic_load(stop)) {
        if (stmt_step(stmt, NULL) < 0)
            abort();
        poll(NULL, 0, 10);
        stmt_reset(stmt);
    }
    db_close(db);
    return NULL;
}

/* Symptom: with readers that overlap, a passive checkpoint never lets the WAL begin anew. */
static void db__wal_stays_small_with_readers(void **state)
{
    struct db *db = open_db(DB_WRITER);
    atomic_bool stop = false;
    pthread_t threads[2];

    (void)state;
    exec(db, "PRAGMA synchronous = OFF; CREATE TABLE t (b); INSERT INTO t VALUES (1)");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on_and_on, &stop), 0);
    write_megabytes(db, 20);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(file_size("a.db-wal") < 120000000); /* of 160 */
    db_close(db);
}

/* ------------------------------------------------------------------ erasing */

static bool file_contains(const char *path, const char *marker)
{
    long len = file_size(path);
    char *bytes = malloc((size_t)(len > 0 ? len : 1));
    int fd = open(path, O_RDONLY);
    bool found = false;

    if (fd >= 0 && len > 0) {
        assert_int_equal(read(fd, bytes, (size_t)len), len);
        found = memmem(bytes, (size_t)len, marker, strlen(marker)) != NULL;
    }
    if (fd >= 0)
        close(fd);
    free(bytes);
    return found;
}

static bool is_on_disk(const char *marker)
{
    return file_contains("a.db", marker) || file_contains("a.db-wal", marker);
}

static void write_marker(struct db *db, const char *marker)
{
    char sql[200];

    snprintf(sql, sizeof(sql), "INSERT INTO t (name) VALUES ('%s'), (hex(randomblob(900)))",
             marker);
    exec(db, sql);
    assert_true(is_on_disk(marker));
}

static void erase_all(struct db *db)
{
    exec(db, "BEGIN IMMEDIATE; UPDATE t SET name = NULL");
    db_scrub_wal(db);
    exec(db, "COMMIT");
}

static void work_on(struct db *db)
{
    struct err err = {0};

    exec(db, "INSERT INTO t (name) VALUES (hex(randomblob(900)))");
    if (db_checkpoint_due(db, &err) < 0)
        fail_msg("%s", err.text);
}

/* How long it takes until the marker has gone, while others write and ask for checkpoints. */
static int64_t ms_until_gone(struct db *db, const char *marker)
{
    int64_t start = clock_mono_ms();

    do
        work_on(db);
    while (is_on_disk(marker) && clock_mono_ms() < start + 20000);
    return clock_mono_ms() - start;
}

/* Symptom: under load nobody emptied the WAL, and what was erased stayed in its old frames. */
static void db__erased_bytes_leave_the_wal_under_load(void **state)
{
    struct db *db = open_db(DB_WRITER);

    (void)state;
    exec(db, "CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT)");
    write_marker(db, "MARKER1");
    exec(db, "UPDATE t SET name = NULL");
    work_on(db);
    assert_true(is_on_disk("MARKER1")); /* nobody has asked */

    write_marker(db, "MARKER2");
    erase_all(db);
    work_on(db);
    assert_false(is_on_disk("MARKER1"));
    assert_false(is_on_disk("MARKER2"));

    write_marker(db, "MARKER3");
    erase_all(db);
    work_on(db);
    assert_true(is_on_disk("MARKER3")); /* so soon again would cost too much */
    assert_true(ms_until_gone(db, "MARKER3") < 10000);
    db_close(db);
}

static void db__erased_bytes_leave_the_wal_when_the_reader_has_gone(void **state)
{
    struct db *db = open_db(DB_WRITER), *reader;
    struct stmt *stmt;

    (void)state;
    exec(db, "CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT)");
    write_marker(db, "MARKER1");
    reader = open_db(DB_READER);
    stmt = prepare(reader, "SELECT name FROM t");
    assert_int_equal(stmt_step(stmt, NULL), 1);
    erase_all(db);
    for (int i = 0; i < 5; i++)
        work_on(db);
    assert_true(is_on_disk("MARKER1")); /* the reader may need it */
    stmt_reset(stmt);
    assert_true(ms_until_gone(db, "MARKER1") < 10000);
    db_close(reader);
    db_close(db);
}

/* The one that erased is gone before it could empty the WAL. */
static void db__erased_bytes_leave_the_wal_that_a_crash_left(void **state)
{
    struct db *db;
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        struct db *crashing = NULL;

        if (db_open(&crashing, "a.db", DB_WRITER, NULL) < 0 ||
            db_exec(crashing,
                    "CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT);"
                    "INSERT INTO t (name) VALUES ('MARKER1'); UPDATE t SET name = NULL",
                    NULL) < 0)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    db = open_db(DB_WRITER);
    assert_true(is_on_disk("MARKER1"));
    work_on(db);
    assert_false(is_on_disk("MARKER1"));
    db_close(db);
}

/* ------------------------------------------------------------------- others */

static void db__library_version_is_known(void **state)
{
    (void)state;
    assert_int_equal(strncmp(db_library_version(), "3.", 2), 0);
}

/* Symptom: all was well with a server whose file had been deleted, until it stopped. */
static void db__file_that_is_gone_is_told(void **state)
{
    struct db *db = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, &err), 0);
    assert_int_equal(db_exec(db, "CREATE TABLE t (n)", &err), 0);
    assert_int_equal(rename("a.db", "b.db"), 0);
    assert_int_equal(db_checkpoint(db, &err), ERR_FATAL);
    assert_non_null(strstr(err.text, "/a.db' was deleted, or another file put in its place"));
    assert_int_equal(db_trouble(db), ERR_FATAL);
    db_clear_trouble(db);
    assert_int_equal(rename("b.db", "a.db"), 0);
    assert_int_equal(db_checkpoint(db, &err), 0);
    db_close(db);
}

/* Symptom: the same of the two beside it, whose loss is that of all that isn't in the file yet. */
static void db__file_beside_it_that_is_gone_is_told(void **state)
{
    static const struct {
        const char *name, *told;
    } files[] = {
        {"a.db-wal", "/a.db-wal' was deleted, or another file put in its place"},
        {"a.db-shm", "/a.db-shm' was deleted, or another file put in its place"},
    };
    struct db *db = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(db_open(&db, "a.db", DB_WRITER, &err), 0);
    assert_int_equal(db_exec(db, "CREATE TABLE t (n)", &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        assert_int_equal(rename(files[i].name, "kept"), 0);
        assert_int_equal(db_checkpoint(db, &err), ERR_FATAL);
        assert_non_null(strstr(err.text, files[i].told));
        assert_int_equal(db_trouble(db), ERR_FATAL);
        db_clear_trouble(db);
        assert_int_equal(rename("kept", files[i].name), 0);
        assert_int_equal(db_checkpoint(db, &err), 0);
    }
    db_close(db);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(db__name_is_no_uri), /* first: SQLite must not have been used before */
        IN_TEMP_DIR(db__new_file_is_private),
        IN_TEMP_DIR(db__writer_is_durable_and_strict),
        IN_TEMP_DIR(db__absent_file_is_absent_for_reader),
        IN_TEMP_DIR(db__directory_is_refused),
        IN_TEMP_DIR(db__special_names_are_refused),
        IN_TEMP_DIR(db__other_files_are_refused),
        IN_TEMP_DIR(db__corrupt_schema_is_refused),
        IN_TEMP_DIR(db__table_called_as_a_function_hides_nothing),
        IN_TEMP_DIR(db__unwritable_places_are_refused),
        IN_TEMP_DIR(db__link_to_nowhere_is_no_absent_file),
        IN_TEMP_DIR(db__close_takes_everything_along),
        IN_TEMP_DIR(db__reader_sees_what_is_committed),
        IN_TEMP_DIR(db__reader_cannot_write),
        IN_TEMP_DIR(db__reader_never_checkpoints),
        IN_TEMP_DIR(db__reader_leaves_what_a_crash_left),
        IN_TEMP_DIR(stmt__values_come_back_as_they_were),
        IN_TEMP_DIR(stmt__is_reset_at_the_end),
        IN_TEMP_DIR(stmt__one_statement_only),
        IN_TEMP_DIR(stmt__bind_errors_wait_for_the_step),
        IN_TEMP_DIR(stmt__constraints_are_conflicts),
        IN_TEMP_DIR(stmt__double_quotes_are_names),
        IN_TEMP_DIR(stmt__values_have_a_limit),
        IN_TEMP_DIR(db__changes_are_counted),
        IN_TEMP_DIR(db__undo_mark_stays_while_all_is_our_own_doing),
        IN_TEMP_DIR(db__undo_mark_moves_with_somebody_elses_commit),
        IN_TEMP_DIR(db__runs_something_before_what_writes),
        IN_TEMP_DIR(db__somebody_else_is_busy),
        IN_TEMP_DIR(db__full_is_kept_as_trouble),
        IN_TEMP_DIR(db__corruption_is_fatal_trouble),
        IN_TEMP_DIR(db__interrupt_ends_a_statement),
        IN_TEMP_DIR(db__lost_transaction_stops_what_follows),
        IN_TEMP_DIR(db__held_transaction_cannot_be_ended),
        IN_TEMP_DIR(db__broken_references_are_seen_before_commit),
        IN_TEMP_DIR(db__standing_statements_are_reset),
        IN_TEMP_DIR(db__checkpoint_empties_the_wal),
        IN_TEMP_DIR(db__file_that_is_gone_is_told),
        IN_TEMP_DIR(db__file_beside_it_that_is_gone_is_told),
        IN_TEMP_DIR(db__wal_stays_small),
        IN_TEMP_DIR(db__wal_stays_small_with_readers),
        IN_TEMP_DIR(db__erased_bytes_leave_the_wal_under_load),
        IN_TEMP_DIR(db__erased_bytes_leave_the_wal_when_the_reader_has_gone),
        IN_TEMP_DIR(db__erased_bytes_leave_the_wal_that_a_crash_left),
        IN_TEMP_DIR(db__library_version_is_known),
    };

    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
