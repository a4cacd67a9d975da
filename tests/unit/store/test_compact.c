/* SPDX-License-Identifier: MIT */
#include "store/compact.h"

#include "fault_vfs.h"
#include "temp_dir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 400, KEPT = 100 };

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

static int64_t number(struct db *db, const char *sql)
{
    int64_t value = -1;
    struct err err = {0};

    if (db_read_int(db, sql, &value, &err) < 0)
        fail_msg("%s", err.text);
    return value;
}

/* A file three quarters of which are unused. */
static struct db *make_holes(void)
{
    struct db *db = open_db(DB_WRITER);
    char sql[256];

    exec(db, "CREATE TABLE t (i INTEGER PRIMARY KEY, x); CREATE INDEX t_x ON t (substr(x, 1, 20))");
    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " INSERT INTO t SELECT i, i || hex(randomblob(1500)) FROM n",
             ROWS);
    exec(db, sql);
    snprintf(sql, sizeof(sql), "DELETE FROM t WHERE i > %d", KEPT);
    exec(db, sql);
    assert_int_equal(db_checkpoint(db, NULL), 0);
    return db;
}

static void assert_whole(struct db *db)
{
    assert_int_equal(number(db, "SELECT count(*) FROM t"), KEPT);
    assert_int_equal(number(db, "SELECT sum(i) FROM t"), KEPT * (KEPT + 1) / 2);
    assert_int_equal(
        number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
}

/* Whatever ended it: the same rows are there, and the next time all is well. */
static void assert_as_before(void)
{
    struct db *db = open_db(DB_WRITER);
    struct err err = {0};

    assert_whole(db);
    if (compact_database(db, &err) < 0)
        fail_msg("%s", err.text);
    assert_whole(db);
    assert_int_equal(number(db, "PRAGMA freelist_count"), 0);
    db_close(db);
}

static int count_files(void)
{
    DIR *dir = opendir(".");
    int count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;
}

static void compact__file_is_smaller_and_the_wal_empty(void **state)
{
    struct db *db = make_holes();
    long before = file_size("a.db");
    int64_t needed, there;
    struct err err = {0};

    (void)state;
    assert_int_equal(compact_measure(db, &needed, &there, &err), 0);
    assert_true(needed > before / 4 && needed < 2 * before);
    assert_true(there > 0);
    assert_int_equal(compact_database(db, &err), 0);
    assert_true(file_size("a.db") < before / 2);
    assert_int_equal(file_size("a.db-wal"), 0);
    assert_whole(db);
    db_close(db);
    assert_int_equal(count_files(), 1);
}

static void compact__reader_in_the_way_is_told(void **state)
{
    struct db *db = make_holes(), *reader = open_db(DB_READER);
    struct err err = {0};

    (void)state;
    exec(reader, "BEGIN; SELECT count(*) FROM t");
    assert_int_equal(compact_database(db, &err), ERR_BUSY);
    exec(reader, "COMMIT");
    db_close(reader);
    assert_int_equal(db_checkpoint(db, &err), 0);
    assert_whole(db);
    db_close(db);
}

static bool count_down(void *arg)
{
    int *left = arg;

    return (*left)-- <= 0;
}

static void compact__can_be_interrupted_anywhere(void **state)
{
    struct db *db = make_holes();
    int left, rounds = 0, rc;
    struct err err = {0};

    (void)state;
    do {
        left = rounds++;
        db_set_interrupt(db, count_down, &left);
        rc = compact_database(db, &err);
        db_set_interrupt(db, NULL, NULL);
        assert_true(rc == 0 || rc == ERR_LIMIT);
        assert_int_equal(file_size("a.db-wal"), 0);
        assert_whole(db);
    } while (rc < 0);
    db_close(db);
    assert_int_equal(count_files(), 1);
}

static void compact__full_disk_at_any_write_loses_nothing(void **state)
{
    long writes = 0;
    int rc;

    (void)state;
    do {
        struct db *db = make_holes();
        struct err err = {0};

        atomic_store(&fault_writes, writes);
        rc = compact_database(db, &err);
        fault_none();
        assert_true(rc == 0 || rc == ERR_FULL);
        db_close(db);
        assert_as_before();
        unlink("a.db");
        writes++;
    } while (rc < 0);
    assert_in_range(writes, 5, 100); /* of many pages each */
}

/* False when the compaction ended before its operation cut_at. */
static bool survives_power_cut(long cut_at, uint64_t seed)
{
    struct fault_plan plan = {.cut_at = cut_at, .seed = seed};
    struct err err = {0};
    struct db *db;
    bool was_cut;

    db_close(make_holes());
    fault_disk_start(&plan);
    if (db_open(&db, "a.db", DB_WRITER, &err) == 0) {
        assert_true(compact_database(db, &err) <= 0);
        db_close(db);
    }
    was_cut = fault_disk_has_failed();
    fault_disk_reboot(was_cut);
    assert_as_before();
    unlink("a.db");
    return was_cut;
}

static void compact__power_cut_at_any_operation_loses_nothing(void **state)
{
    uint64_t seed = 0;
    long cut_at = 1;

    (void)state;
    while (survives_power_cut(cut_at, ++seed))
        cut_at += seed % 4 == 0; /* what of a write is there is another part each time */
    assert_in_range(cut_at, 10, 100);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(compact__file_is_smaller_and_the_wal_empty),
        IN_TEMP_DIR(compact__reader_in_the_way_is_told),
        IN_TEMP_DIR(compact__can_be_interrupted_anywhere),
        IN_TEMP_DIR(compact__full_disk_at_any_write_loses_nothing),
        IN_TEMP_DIR(compact__power_cut_at_any_operation_loses_nothing),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
