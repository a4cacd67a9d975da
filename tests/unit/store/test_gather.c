/* SPDX-License-Identifier: MIT */
/*
 * The WAL's writes are gathered, and nobody can tell. Our connection has a cache of a few pages, so
 * that transactions write to the WAL long before they end; another one, on SQLite's own layer, looks and
 * writes in between.
 */
#include "store/gather.h"

#include "fault_vfs.h"
#include "store/db.h"
#include "temp_dir.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct bench {
    struct db *db;
    sqlite3 *other;
};

static void exec(struct bench *b, const char *sql)
{
    struct err err;

    if (db_exec(b->db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
}

static void exec_other(struct bench *b, const char *sql)
{
    if (sqlite3_exec(b->other, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(b->other));
}

/* The first value of the first row, as the other connection sees it. */
static const char *ask(struct bench *b, const char *sql)
{
    static char text[200];
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(b->other, sql, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        fail_msg("%s: %s", sql, sqlite3_errmsg(b->other));
    snprintf(text, sizeof(text), "%s", (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    return text;
}

static void start(struct bench *b)
{
    struct err err;

    fault_none();
    if (db_open(&b->db, "a.db", DB_WRITER, &err) < 0)
        fail_msg("%s", err.text);
    exec(b, "CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB); PRAGMA cache_size = 5");
    assert_int_equal(sqlite3_open("a.db", &b->other), SQLITE_OK);
    sqlite3_wal_autocheckpoint(b->other, 0);
}

static void stop(struct bench *b)
{
    fault_none();
    assert_string_equal(ask(b, "PRAGMA integrity_check"), "ok");
    sqlite3_close(b->other);
    db_close(b->db);
}

/* Rows of two pages each, 200 of them: more than what is gathered. */
#define MANY(from)                                                                                 \
    "INSERT INTO t SELECT value, zeroblob(7000) FROM"                                              \
    " (WITH RECURSIVE c(value) AS (VALUES (" from ") UNION ALL SELECT value + 1 FROM c LIMIT 200)" \
    " SELECT value FROM c)"

static void gather__pages_of_a_commit_are_one_write(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(&b, "PRAGMA cache_size = 100; BEGIN;"
             "INSERT INTO t VALUES (1, zeroblob(50000)), (2, zeroblob(40000))");
    atomic_store(&fault_wal_writes, 1);
    exec(&b, "COMMIT");
    assert_string_equal(ask(&b, "SELECT sum(length(b)) FROM t"), "90000");
    stop(&b);
}

static void gather__transaction_reads_what_it_wrote(void **state)
{
    struct stmt *stmt = NULL;
    struct bench b;
    struct err err;

    (void)state;
    start(&b);
    exec(&b, "BEGIN;" MANY("1") "; UPDATE t SET b = zeroblob(6000) WHERE n % 2 = 0");
    assert_int_equal(stmt_new(&stmt, b.db, "SELECT sum(length(b)) FROM t", &err), 0);
    assert_int_equal(stmt_step(stmt, &err), 1);
    assert_int_equal(stmt_int(stmt, 0), 100 * 7000 + 100 * 6000);
    stmt_free(stmt);
    assert_string_equal(ask(&b, "SELECT count(*) FROM t"), "0");
    exec(&b, "COMMIT");
    assert_string_equal(ask(&b, "SELECT sum(length(b)) FROM t"), "1300000");
    stop(&b);
}

static void gather__what_a_savepoint_undid_is_gone(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(&b, "BEGIN;" MANY("1") "; SAVEPOINT s; UPDATE t SET b = zeroblob(3000);" MANY("1000"));
    exec(&b, "ROLLBACK TO s; UPDATE t SET b = zeroblob(5000) WHERE n <= 10; COMMIT");
    assert_string_equal(ask(&b, "SELECT count(*) FROM t"), "200");
    assert_string_equal(ask(&b, "SELECT sum(length(b)) FROM t"), "1380000");
    stop(&b);
}

/* Where the frames of the one that was rolled back would have been, somebody else's are now. */
static void gather__what_was_rolled_back_overwrites_nobody(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    for (int i = 0; i < 5; i++) {
        exec(&b, "BEGIN; INSERT INTO t VALUES (1000, zeroblob(60000)); ROLLBACK");
        exec_other(&b, "INSERT INTO t (b) VALUES (zeroblob(100000))");
        exec(&b, "INSERT INTO t (b) VALUES (zeroblob(10))");
        assert_int_equal(db_checkpoint(b.db, NULL), 0);
    }
    assert_string_equal(ask(&b, "SELECT count(*) || ' ' || sum(length(b)) FROM t"), "10 500050");
    stop(&b);
}

/* However far the transaction has come. */
static void gather__full_disk_undoes_the_transaction(void **state)
{
    struct bench b;
    struct err err;

    (void)state;
    for (int writes = 0; writes < 12; writes++) {
        start(&b);
        exec(&b, "DELETE FROM t; INSERT INTO t VALUES (1, 'kept'); BEGIN");
        atomic_store(&fault_wal_writes, writes);
        if (db_exec(b.db, MANY("10"), &err) == 0)
            assert_int_equal(db_exec(b.db, "COMMIT", &err), ERR_FULL);
        else
            assert_int_equal(err.code, ERR_FULL);
        if (db_in_transaction(b.db))
            exec(&b, "ROLLBACK");
        assert_string_equal(ask(&b, "SELECT count(*) || ' ' || max(b) FROM t"), "1 kept");
        assert_int_equal(db_checkpoint(b.db, &err), 0); /* of what is in it: no room is needed */
        fault_none();
        exec(&b, MANY("10"));
        assert_string_equal(ask(&b, "SELECT count(*) FROM t"), "201");
        stop(&b);
        assert_int_equal(remove("a.db"), 0);
    }
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(gather__pages_of_a_commit_are_one_write),
        IN_TEMP_DIR(gather__transaction_reads_what_it_wrote),
        IN_TEMP_DIR(gather__what_a_savepoint_undid_is_gone),
        IN_TEMP_DIR(gather__what_was_rolled_back_overwrites_nobody),
        IN_TEMP_DIR(gather__full_disk_undoes_the_transaction),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("gather", tests, NULL, NULL);
}
