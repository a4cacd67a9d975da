/* SPDX-License-Identifier: MIT */
/*
 * The WAL's writes are gathered, and a checkpoint's, and nobody can tell. Our connection has a cache of a few
 * pages, so that transactions write to the WAL long before they end; another one, on SQLite's own layer,
 * looks and writes in between.
 */
#include "store/gather.h"

#include "fault_vfs.h"
#include "store/db.h"
#include "store/layer.h"
#include "temp_dir.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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

static void run(sqlite3 *connection, const char *sql)
{
    if (sqlite3_exec(connection, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(connection));
}

static void exec_other(struct bench *b, const char *sql)
{
    run(b->other, sql);
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

/* The sum of all lengths, as our own connection sees it. */
static int64_t own_sum(struct bench *b)
{
    struct stmt *stmt = NULL;
    struct err err;
    int64_t sum;

    assert_int_equal(stmt_new(&stmt, b->db, "SELECT sum(length(b)) FROM t", &err), 0);
    assert_int_equal(stmt_step(stmt, &err), 1);
    sum = stmt_int(stmt, 0);
    stmt_free(stmt);
    return sum;
}

static void open_both(struct bench *b)
{
    struct err err;

    fault_none();
    if (db_open(&b->db, "a.db", DB_WRITER, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(sqlite3_open("a.db", &b->other), SQLITE_OK);
    sqlite3_wal_autocheckpoint(b->other, 0);
}

static void start(struct bench *b)
{
    open_both(b);
    exec(b, "CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB); PRAGMA cache_size = 5");
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
    struct bench b;

    (void)state;
    start(&b);
    exec(&b, "BEGIN;" MANY("1") "; UPDATE t SET b = zeroblob(6000) WHERE n % 2 = 0");
    assert_int_equal(own_sum(&b), 100 * 7000 + 100 * 6000);
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

/* What the database's file holds without its WAL: a copy of it is read. */
static const char *ask_the_file_alone(const char *sql)
{
    struct bench copy = {0};
    const char *answer;

    if (system("rm -f c.db* && cp a.db c.db") != 0)
        fail_msg("the file can't be copied");
    assert_int_equal(sqlite3_open("c.db", &copy.other), SQLITE_OK);
    answer = ask(&copy, sql);
    sqlite3_close(copy.other);
    return answer;
}

static int pages_written;

static void count_page(void)
{
    pages_written++;
}

/* How often it writes to the database's file. */
static int writes_of_checkpoint(struct bench *b, int (*checkpoint)(struct db *db, struct err *err),
                                int expected)
{
    struct err err = {0};
    int rc;

    pages_written = 0;
    fault_before_page = count_page;
    rc = checkpoint(b->db, &err);
    fault_before_page = NULL;
    if (rc != expected)
        fail_msg("%d instead of %d: %s", rc, expected, err.text);
    return pages_written;
}

/* More than can be gathered at a time, all of them new, so that they follow one another. */
static void gather__pages_of_a_checkpoint_are_few_writes(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    assert_int_equal(db_checkpoint(b.db, NULL), 0);
    exec(&b, "PRAGMA cache_size = 1000;" MANY("1"));
    assert_true(db_wal_pages(b.db) > 400);
    assert_in_range(writes_of_checkpoint(&b, db_checkpoint, 0), 10, 20);
    exec(&b, MANY("1000") ";" MANY("2000") ";" MANY("3000"));
    assert_true(db_wal_pages(b.db) > 1200);
    assert_in_range(writes_of_checkpoint(&b, db_checkpoint_due, 0), 30, 60);
    assert_string_equal(ask_the_file_alone("SELECT count(*) || ' ' || sum(length(b)) FROM t"),
                        "800 5600000");
    stop(&b);
}

/* Of one that may copy only a part each page is written at once: it is counted without another word. */
static void gather__pages_of_a_part_are_written_at_once(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(&b, MANY("1"));
    exec_other(&b, "BEGIN IMMEDIATE"); /* could go on writing meanwhile */
    assert_in_range(writes_of_checkpoint(&b, db_checkpoint, ERR_BUSY), 350, 500);
    exec_other(&b, "COMMIT");
    exec(&b, MANY("1000"));
    exec_other(&b, "BEGIN");
    assert_string_equal(ask(&b, "SELECT count(*) FROM t"), "400");
    exec(&b, MANY("2000"));
    assert_in_range(writes_of_checkpoint(&b, db_checkpoint, ERR_BUSY), 350, 500);
    exec_other(&b, "COMMIT");
    assert_in_range(writes_of_checkpoint(&b, db_checkpoint, 0), 10, 20);
    stop(&b);
}

/* However far the checkpoint has come: nothing counts as copied, and the next one copies it all. False when
 * it hasn't come so far. */
static bool checkpoint_fails(int code, atomic_long *fault, int calls)
{
    struct bench b;
    struct err err;
    int rc;

    start(&b);
    exec(&b, MANY("1"));
    assert_int_equal(db_checkpoint(b.db, NULL), 0);
    exec(&b, "UPDATE t SET b = zeroblob(6000);" MANY("1000") "; DELETE FROM t WHERE n % 3 = 0");
    atomic_store(fault, calls);
    rc = db_checkpoint(b.db, &err);
    fault_none();
    if (rc != 0 && rc != code)
        fail_msg("after %d calls: %d instead of %d: %s", calls, rc, code, err.text);
    assert_string_equal(ask(&b, "SELECT count(*) || ' ' || sum(length(b)) FROM t"), "268 1742000");
    exec(&b, "INSERT INTO t VALUES (0, 'later')");
    assert_int_equal(db_checkpoint(b.db, NULL), 0);
    assert_string_equal(ask_the_file_alone("PRAGMA integrity_check"), "ok");
    assert_string_equal(ask_the_file_alone("SELECT count(*) || ' ' || min(n) FROM t"), "269 0");
    stop(&b);
    assert_int_equal(remove("a.db"), 0);
    return rc != 0;
}

static void gather__full_disk_fails_the_checkpoint(void **state)
{
    int writes = 0;

    (void)state;
    while (checkpoint_fails(ERR_FULL, &fault_writes, writes))
        writes++;
    assert_in_range(writes, 10, 60);
}

/* The WAL's, then the file's. */
static void gather__failed_sync_fails_the_checkpoint(void **state)
{
    int syncs = 0;

    (void)state;
    while (checkpoint_fails(ERR_FATAL, &fault_syncs, syncs))
        syncs++;
    assert_int_equal(syncs, 2);
}

/*
 * A reader of something older lets it copy only a part, which counts as copied at once: nothing may be left to
 * be written then. Symptom (never landed): it was, failed, and the rows were gone.
 */
static void gather__full_disk_fails_a_checkpoint_of_a_part(void **state)
{
    (void)state;
    for (int writes = 0; writes < 40; writes++) {
        struct bench b;
        struct err err;

        start(&b);
        exec(&b, MANY("1"));
        assert_int_equal(db_checkpoint(b.db, NULL), 0);
        exec(&b, "UPDATE t SET b = zeroblob(6000);" MANY("1000"));
        exec_other(&b, "BEGIN");
        assert_string_equal(ask(&b, "SELECT count(*) FROM t"), "400");
        exec(&b, "INSERT INTO t VALUES (5000, 'later')");
        atomic_store(&fault_writes, writes);
        assert_int_equal(db_checkpoint(b.db, &err), ERR_FULL);
        fault_none();
        exec_other(&b, "END");
        sqlite3_db_release_memory(b.other);
        assert_string_equal(ask(&b, "SELECT count(*) || ' ' || sum(length(b)) FROM t"),
                            "401 2600005");
        assert_int_equal(db_checkpoint(b.db, NULL), 0);
        assert_string_equal(ask_the_file_alone("PRAGMA integrity_check"), "ok");
        stop(&b);
        assert_int_equal(remove("a.db"), 0);
    }
}

/* With a connection of its own, which knows nothing yet. */
static void look(void)
{
    struct bench fresh = {0};

    assert_int_equal(sqlite3_open("a.db", &fresh.other), SQLITE_OK);
    assert_string_equal(ask(&fresh, "SELECT count(*) || ' ' || sum(length(b)) FROM t"),
                        "401 2600005");
    sqlite3_close(fresh.other);
}

static void look_now_and_then(void)
{
    if (pages_written++ % 7 == 0)
        look();
}

/* Whether the checkpoint may copy all or only a part. */
static void gather__who_comes_during_a_checkpoint_sees_what_was_committed(void **state)
{
    (void)state;
    for (int part = 0; part < 2; part++) {
        struct bench b;

        pages_written = 0;
        start(&b);
        exec(&b, MANY("1"));
        assert_int_equal(db_checkpoint(b.db, NULL), 0);
        exec(&b, "UPDATE t SET b = zeroblob(6000);" MANY("1000"));
        exec_other(&b, "BEGIN");
        assert_string_equal(ask(&b, "SELECT count(*) FROM t"), "400");
        exec(&b, "INSERT INTO t VALUES (5000, 'later')");
        if (!part)
            exec_other(&b, "END");
        fault_before_page = look_now_and_then;
        assert_int_equal(db_checkpoint(b.db, NULL), part ? ERR_BUSY : 0);
        fault_before_page = NULL;
        assert_in_range(pages_written, part ? 400 : 10, 2000);
        if (part)
            exec_other(&b, "END");
        look();
        stop(&b);
        assert_int_equal(remove("a.db"), 0);
    }
}

/* Then SQLite leaves the WAL where it is, and whoever opens it next finds all in there. */
static void gather__full_disk_at_the_close_loses_nothing(void **state)
{
    (void)state;
    for (int writes = 0; writes < 6; writes++) {
        struct bench b;

        start(&b);
        exec(&b, MANY("1"));
        sqlite3_close(b.other);
        atomic_store(&fault_writes, writes);
        db_close(b.db);
        open_both(&b);
        assert_string_equal(ask(&b, "SELECT count(*) || ' ' || sum(length(b)) FROM t"),
                            "200 1400000");
        stop(&b);
        assert_int_equal(remove("a.db"), 0);
    }
}

/* It copies no more than that reader has seen, whose pages stay as they are. */
static void gather__who_has_read_before_a_checkpoint_sees_the_same_behind_it(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(&b, MANY("1"));
    exec_other(&b, "BEGIN");
    assert_string_equal(ask(&b, "SELECT sum(length(b)) FROM t"), "1400000");
    exec(&b, "UPDATE t SET b = zeroblob(6000);" MANY("1000"));
    assert_int_equal(db_checkpoint(b.db, NULL), ERR_BUSY); /* copies what that reader has seen */
    assert_string_equal(ask(&b, "SELECT sum(length(b)) FROM t"), "1400000");
    assert_int_equal(own_sum(&b), 2600000);
    exec_other(&b, "END");
    assert_int_equal(db_checkpoint(b.db, NULL), 0);
    assert_string_equal(ask_the_file_alone("SELECT sum(length(b)) FROM t"), "2600000");
    stop(&b);
}

/* ----------------------------------------------------------------- by their files */

struct files {
    sqlite3 *connection;
    sqlite3_file *wal;
};

/* In WAL mode, with nothing else to write. */
static void open_files(struct files *f)
{
    assert_true(layer_register());
    assert_int_equal(sqlite3_open_v2("a.db", &f->connection,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, layer_name()),
                     SQLITE_OK);
    run(f->connection,
        "PRAGMA journal_mode = WAL; CREATE TABLE t (n); PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_file_control(f->connection, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f->wal);
}

static void put(sqlite3_file *file, const char *text, sqlite3_int64 at)
{
    assert_int_equal(file->pMethods->xWrite(file, text, (int)strlen(text), at), SQLITE_OK);
}

static void has(sqlite3_file *file, const char *text, sqlite3_int64 at)
{
    char found[100] = {0};

    assert_int_equal(file->pMethods->xRead(file, found, (int)strlen(text), at), SQLITE_OK);
    assert_string_equal(found, text);
}

static void is_long(sqlite3_file *file, sqlite3_int64 size)
{
    sqlite3_int64 found = -1;

    assert_int_equal(file->pMethods->xFileSize(file, &found), SQLITE_OK);
    assert_int_equal(found, size);
}

/* What is done with a file after a write finds it written. */
static void gather__file_is_as_it_was_written(void **state)
{
    struct files f = {0};

    (void)state;
    open_files(&f);
    put(f.wal, "one", 0);
    put(f.wal, "two", 3);
    is_long(f.wal, 6);
    put(f.wal, "three", 6);
    has(f.wal, "twothree", 3);
    put(f.wal, "four", 11);
    assert_int_equal(f.wal->pMethods->xTruncate(f.wal, 9), SQLITE_OK);
    is_long(f.wal, 9);
    has(f.wal, "onetwothr", 0);
    assert_int_equal(f.wal->pMethods->xTruncate(f.wal, 0), SQLITE_OK);
    sqlite3_close(f.connection);
}

/* ------------------------------------------------------------------- by itself */

struct fake {
    sqlite3_file base;
    char name;
};

static char fake_log[200];
static int fake_rc;

static int fake_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    size_t used = strlen(fake_log);

    snprintf(fake_log + used, sizeof(fake_log) - used, "%c%d:%.*s ", ((struct fake *)file)->name,
             (int)at, len, (const char *)bytes);
    return fake_rc;
}

static const sqlite3_io_methods fake_methods = {.xWrite = fake_write};

static int add(struct gather *g, struct fake *file, const char *text, sqlite3_int64 at)
{
    return gather_write(g, &fake_methods, &file->base, text, (int)strlen(text), at);
}

static void wrote(const char *log)
{
    assert_string_equal(fake_log, log);
    fake_log[0] = '\0';
}

static void gather__what_follows_in_the_same_file_is_one_write(void **state)
{
    struct fake a = {.name = 'a'}, b = {.name = 'b'};
    struct gather g;

    (void)state;
    gather_init(&g);
    add(&g, &a, "one", 0);
    add(&g, &a, "two", 3);
    wrote("");
    assert_true(gather_keeps(&g, &a.base, 1));
    assert_false(gather_keeps(&g, &a.base, 0));
    assert_false(gather_keeps(&g, &b.base, 1));
    add(&g, &b, "three", 6);
    wrote("a0:onetwo ");
    add(&g, &b, "four", 12);
    wrote("b6:three ");
    add(&g, &b, "five", 11);
    wrote("b12:four ");
    assert_int_equal(gather_flush(&g), SQLITE_OK);
    wrote("b11:five ");
    assert_int_equal(gather_flush(&g), SQLITE_OK);
    wrote("");
    gather_free(&g);
}

static void gather__failed_write_is_tried_until_it_is_settled(void **state)
{
    struct fake a = {.name = 'a'};
    struct gather g;

    (void)state;
    gather_init(&g);
    add(&g, &a, "one", 0);
    fake_rc = SQLITE_FULL;
    assert_int_equal(add(&g, &a, "two", 10), SQLITE_FULL);
    assert_int_equal(gather_flush(&g), SQLITE_FULL);
    fake_rc = SQLITE_OK;
    assert_int_equal(gather_flush(&g), SQLITE_OK);
    wrote("a0:one a0:one a0:one ");
    add(&g, &a, "three", 3);
    fake_rc = SQLITE_FULL;
    gather_settle(&g);
    fake_rc = SQLITE_OK;
    assert_int_equal(gather_flush(&g), SQLITE_OK);
    wrote("a3:three ");
    gather_free(&g);
}

static void gather__without_memory_writes_at_once(void **state)
{
    struct fake a = {.name = 'a'};
    struct gather g = {0};

    (void)state;
    assert_int_equal(add(&g, &a, "one", 0), SQLITE_OK);
    wrote("a0:one ");
    fake_rc = SQLITE_FULL;
    assert_int_equal(add(&g, &a, "two", 3), SQLITE_FULL);
    fake_rc = SQLITE_OK;
    wrote("a3:two ");
    assert_int_equal(gather_flush(&g), SQLITE_OK);
    wrote("");
    gather_free(&g);
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
        IN_TEMP_DIR(gather__pages_of_a_checkpoint_are_few_writes),
        IN_TEMP_DIR(gather__pages_of_a_part_are_written_at_once),
        IN_TEMP_DIR(gather__full_disk_fails_the_checkpoint),
        IN_TEMP_DIR(gather__failed_sync_fails_the_checkpoint),
        IN_TEMP_DIR(gather__full_disk_fails_a_checkpoint_of_a_part),
        IN_TEMP_DIR(gather__who_has_read_before_a_checkpoint_sees_the_same_behind_it),
        IN_TEMP_DIR(gather__who_comes_during_a_checkpoint_sees_what_was_committed),
        IN_TEMP_DIR(gather__full_disk_at_the_close_loses_nothing),
        IN_TEMP_DIR(gather__file_is_as_it_was_written),
        cmocka_unit_test(gather__what_follows_in_the_same_file_is_one_write),
        cmocka_unit_test(gather__failed_write_is_tried_until_it_is_settled),
        cmocka_unit_test(gather__without_memory_writes_at_once),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("gather", tests, NULL, NULL);
}
