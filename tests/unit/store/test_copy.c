/* SPDX-License-Identifier: MIT */
#include "store/copy.h"

#include "fault_vfs.h"
#include "temp_dir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 3000 }; /* some 12 MB: three steps */

static struct db *open_db(const char *path, enum db_mode mode)
{
    struct db *db = NULL;
    struct err err = {0};

    if (db_open(&db, path, mode, &err) < 0)
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

static struct db *make_source(int rows)
{
    struct db *db = open_db("a.db", DB_WRITER);
    char sql[256];

    exec(db, "CREATE TABLE t (i INTEGER PRIMARY KEY, x)");
    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " INSERT INTO t SELECT i, randomblob(3500) FROM n",
             rows);
    exec(db, sql);
    return db;
}

static void make_empty(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static bool go_on(void *arg, int64_t done, int64_t total)
{
    (void)arg;
    assert_true(done <= total);
    return true;
}

static int copy_to(const char *path, copy_tell_fn *tell, void *arg, struct err *err)
{
    struct db *source = open_db("a.db", DB_READER);
    int rc;

    make_empty(path);
    rc = copy_database(source, path, tell, NULL, arg, err);
    assert_false(db_in_transaction(source));
    db_close(source);
    return rc;
}

static void assert_copy(const char *path, int64_t rows)
{
    struct db *copy = open_db(path, DB_READER);

    assert_int_equal(number(copy, "SELECT count(*) FROM t"), rows);
    assert_int_equal(
        number(copy, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"),
        1);
    db_close(copy);
}

/* Writes between any two steps, as the server does. */
struct writing {
    struct db *writer;
    int64_t last_done;
    int steps;
};

static bool write_meanwhile(void *arg, int64_t done, int64_t total)
{
    struct writing *w = arg;

    assert_true(done > w->last_done); /* it never begins anew */
    assert_true(total >= done);
    w->last_done = done;
    w->steps++;
    exec(w->writer, "BEGIN IMMEDIATE; UPDATE t SET x = randomblob(100) WHERE i % 7 = 0;"
                    " INSERT INTO t (x) VALUES (randomblob(9000)); COMMIT");
    assert_int_equal(db_checkpoint_due(w->writer, NULL), 0);
    return true;
}

static void copy__is_of_one_moment_while_another_connection_writes(void **state)
{
    struct writing w = {.writer = make_source(ROWS)};
    struct err err = {0};

    (void)state;
    if (copy_to("b.db", write_meanwhile, &w, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(w.steps > 1);
    assert_copy("b.db", ROWS);
    {
        struct db *copy = open_db("b.db", DB_READER);

        assert_int_equal(number(copy, "SELECT min(length(x)) FROM t"), 3500);
        db_close(copy);
    }
    assert_int_equal(db_checkpoint(w.writer, &err), 0); /* the snapshot was given back */
    db_close(w.writer);
}

static void copy__is_one_file_without_a_wal(void **state)
{
    static const char *const others[] = {"b.db-wal", "b.db-shm", "b.db-journal"};
    struct db *writer = make_source(10);
    unsigned char header[20];
    struct err err = {0};
    int fd;

    (void)state;
    assert_int_equal(copy_to("b.db", go_on, NULL, &err), 0);
    fd = open("b.db", O_RDONLY);
    assert_int_equal(read(fd, header, sizeof(header)), sizeof(header));
    close(fd);
    assert_int_equal(header[18], 1);
    assert_int_equal(header[19], 1);
    assert_copy("b.db", 10);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_int_equal(file_size(others[i]), -1);
    db_close(writer);
    db_close(open_db("b.db", DB_WRITER)); /* and can get one again */
}

static bool stop(void *arg, int64_t done, int64_t total)
{
    int *left = arg;

    (void)done, (void)total;
    return (*left)-- > 0;
}

static void copy__can_be_stopped(void **state)
{
    struct db *writer = make_source(ROWS);
    struct err err = {0};
    int left = 1;

    (void)state;
    assert_int_equal(copy_to("b.db", stop, &left, &err), ERR_CLOSED);
    assert_int_equal(db_checkpoint(writer, &err), 0);
    copy_remove("b.db");
    assert_int_equal(file_size("b.db"), -1);
    assert_int_equal(file_size("b.db-journal"), -1);
    db_close(writer);
}

static void copy__full_disk_is_told_at_every_write(void **state)
{
    struct db *writer = make_source(300);
    struct err err = {0};
    long writes = 0;
    int rc;

    (void)state;
    do {
        copy_remove("b.db");
        atomic_store(&fault_writes, writes);
        rc = copy_to("b.db", go_on, NULL, &err);
        fault_none();
        if (rc < 0) {
            assert_int_equal(rc, ERR_FULL);
            assert_non_null(strstr(err.text, "b.db"));
        }
        writes += writes < 20 ? 1 : 37;
    } while (rc < 0);
    assert_true(writes > 20);
    assert_copy("b.db", 300);
    assert_copy("a.db", 300);
    db_close(writer);
}

static bool file_has(const char *path, const char *text)
{
    static char bytes[64 * 1024 * 1024];
    FILE *file = fopen(path, "rb");
    size_t len;

    if (!file)
        return false;
    len = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    return memmem(bytes, len, text, strlen(text)) != NULL;
}

/* Between the cells of a page that was balanced there may be what was erased, as long as the page is
 * in the WAL: a copy by pages brings it along, unless it goes through our layer. */
static void copy__has_nothing_that_was_erased(void **state)
{
    enum { COUNT = 1500 };
    struct db *writer = open_db("a.db", DB_WRITER);
    struct err err = {0};
    char text[256];
    bool in_wal = false;

    (void)state;
    exec(writer, "CREATE TABLE t (i INTEGER PRIMARY KEY, x); CREATE INDEX t_x ON t (x)");
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof(text),
                 "INSERT INTO t VALUES (%d, 'marker-%04d-' || hex(randomblob(%d)))",
                 (i * 7919) % 10007, i, 20 + (i * 31) % 300);
        exec(writer, text);
    }
    for (int i = 0; i < COUNT; i += 2) {
        snprintf(text, sizeof(text), "DELETE FROM t WHERE i = %d", (i * 7919) % 10007);
        exec(writer, text);
    }
    assert_int_equal(copy_to("b.db", go_on, NULL, &err), 0);
    for (int i = 0; i < COUNT; i += 2) {
        snprintf(text, sizeof(text), "marker-%04d-", i);
        in_wal = in_wal || file_has("a.db-wal", text);
        if (file_has("b.db", text))
            fail_msg("%s is in the copy", text);
        snprintf(text, sizeof(text), "marker-%04d-", i + 1);
        assert_true(file_has("b.db", text));
    }
    assert_true(in_wal);
    db_close(writer);
}

/* Symptom: the restored file was opened with the WAL of the one before, and was a mixture of both. */
static void db__the_wal_of_another_file_is_refused(void **state)
{
    static const enum db_mode modes[] = {DB_READER, DB_WRITER, DB_READER};
    struct db *writer = make_source(10), *db = NULL;
    struct db *reader = open_db("a.db", DB_READER); /* so that closing the writer leaves the WAL */
    struct err err = {0};
    long size;

    (void)state;
    assert_int_equal(copy_to("b.db", go_on, NULL, &err), 0);
    exec(writer, "DELETE FROM t WHERE i > 5; INSERT INTO t (x) VALUES (1)");
    number(reader, "SELECT count(*) FROM t");
    assert_int_equal(link("a.db-wal", "kept-wal"), 0);
    db_close(writer);
    db_close(reader);
    copy_remove("a.db");
    assert_int_equal(rename("b.db", "a.db"), 0);
    assert_int_equal(rename("kept-wal", "a.db-wal"), 0);
    size = file_size("a.db-wal");
    assert_true(size > 0);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        assert_int_equal(db_open(&db, "a.db", modes[i], &err), ERR_INVALID);
        assert_non_null(strstr(err.text, "the '-wal' beside it is of another file"));
        assert_non_null(strstr(err.text, "a.db-shm'"));
        assert_int_equal(file_size("a.db-wal"), size);
    }
    assert_int_equal(unlink("a.db-wal"), 0);
    assert_copy("a.db", 10);
}

static void db__peek_makes_nothing_beside_the_file(void **state)
{
    struct db *writer = make_source(10);
    struct db_header header;
    struct err err = {0};

    (void)state;
    exec(writer, "PRAGMA user_version = 70000; PRAGMA application_id = 305419896");
    assert_int_equal(db_peek("a.db", &header, &err), 0);
    assert_int_equal(header.user_version, 0); /* the WAL says something else, so it tells nothing */
    db_close(writer);
    assert_int_equal(file_size("a.db-wal"), -1);
    assert_int_equal(db_peek("a.db", &header, &err), 0);
    assert_int_equal(header.user_version, 70000);
    assert_int_equal(header.application_id, 305419896);
    assert_int_equal(file_size("a.db-wal"), -1);
    assert_int_equal(file_size("a.db-shm"), -1);
    make_empty("empty.db");
    assert_int_equal(db_peek("empty.db", &header, &err), 0);
    assert_int_equal(header.user_version, 0);
    assert_int_equal(db_peek("none.db", &header, &err), ERR_ABSENT);
    assert_int_equal(db_peek(".", &header, &err), ERR_IO);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(copy__is_of_one_moment_while_another_connection_writes),
        IN_TEMP_DIR(copy__is_one_file_without_a_wal),
        IN_TEMP_DIR(copy__can_be_stopped),
        IN_TEMP_DIR(copy__full_disk_is_told_at_every_write),
        IN_TEMP_DIR(copy__has_nothing_that_was_erased),
        IN_TEMP_DIR(db__the_wal_of_another_file_is_refused),
        IN_TEMP_DIR(db__peek_makes_nothing_beside_the_file),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("copy", tests, NULL, NULL);
}
