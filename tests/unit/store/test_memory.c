/* SPDX-License-Identifier: MIT */
#include "store/memory.h"

#include "store/writer.h"
#include "temp_dir.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

enum { MIB = 1 << 20 };

/* 400 rows of 4 MB each, sorted. */
static const char giant_sort[] =
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 400)"
    " SELECT length(x) FROM (SELECT hex(zeroblob(2000000)) AS x FROM r ORDER BY hex(zeroblob(9)), "
    "x)";

/* Many small pieces: a table of its own for the rows that were seen. */
static const char giant_union[] =
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION SELECT n + 1 FROM r LIMIT 10000000)"
    " SELECT max(n) FROM r";

static const char giant_text[] = "SELECT length(hex(zeroblob(20000000)) || 'x')";

/* 16 MB for a table that the ones behind it read. */
static const char fill[] =
    "CREATE TABLE big (name TEXT);"
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 8000)"
    " INSERT INTO big SELECT hex(randomblob(1000)) FROM r";

static const char giant_read[] = "SELECT name FROM big ORDER BY hex(zeroblob(20000)) || name";
static const char giant_insert[] =
    "INSERT INTO t (name) SELECT name FROM big ORDER BY hex(zeroblob(20000)) || name";
static const char giant_update[] = "UPDATE big SET name = upper(name) || 'x'";

static struct db *open_db(void)
{
    struct db *db = NULL;
    struct err err;

    if (db_open(&db, "test.db", DB_WRITER, &err) < 0)
        fail_msg("%s", err.text);
    if (db_exec(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)", &err) < 0)
        fail_msg("%s", err.text);
    return db;
}

static long peak_kib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void fails_for_memory(struct db *db, const char *sql)
{
    struct err err = {0};

    assert_int_equal(db_exec(db, sql, &err), ERR_LIMIT);
    if (!strstr(err.text, "used more than 8192 KiB of memory for SQL: \"") ||
        !strstr(err.text, "SELECT"))
        fail_msg("%s", err.text);
}

static void memory__giant_statement_hits_the_limit(void **state)
{
    static const char *const statements[] = {giant_sort, giant_union, giant_text};
    struct db *db = open_db();
    long before = peak_kib();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        memory_limit(8 * MIB);
        fails_for_memory(db, statements[i]);
        assert_true(memory_was_refused());
        assert_int_equal(db_exec(db, "INSERT INTO t (name) VALUES ('a')", NULL), 0);
        memory_limit(0);
        assert_false(memory_was_refused());
    }
    assert_true(peak_kib() - before < 600 * 1024);      /* ASan keeps 256 MiB of what was freed */
    assert_int_equal(db_exec(db, giant_text, NULL), 0); /* without a limit */
    db_close(db);
}

/* What was had before doesn't count. */
static void memory__counts_from_the_start(void **state)
{
    struct db *db = open_db();

    (void)state;
    for (int i = 0; i < 50; i++) {
        memory_limit(8 * MIB);
        assert_int_equal(db_exec(db, "SELECT length(hex(zeroblob(500000)))", NULL), 0);
    }
    memory_limit(0);
    db_close(db);
}

/* What a store keeps serves the next statements, counts as little as if it had been freed, and is
 * nobody's harm when another thread got or frees it. */
static void memory__kept_blocks_are_had_again(void **state)
{
    struct db *db = open_db(); /* its blocks are from before */
    struct memory_store *store = memory_store_new();

    (void)state;
    assert_non_null(store);
    memory_use_store(store);
    for (int i = 0; i < 50; i++) {
        memory_limit(8 * MIB);
        assert_int_equal(db_exec(db,
                                 "BEGIN; SAVEPOINT s; INSERT INTO t (name) VALUES ('a'), ('b');"
                                 " ROLLBACK TO s; RELEASE s; COMMIT",
                                 NULL),
                         0);
        assert_int_equal(db_exec(db, "SELECT length(hex(zeroblob(500000)))", NULL), 0);
        memory_limit(0);
    }
    memory_limit(8 * MIB);
    fails_for_memory(db, giant_union);
    memory_limit(0);
    memory_store_empty(store); /* as an idle writer does */
    assert_int_equal(db_exec(db, "INSERT INTO t (name) VALUES ('a')", NULL), 0);
    memory_use_store(NULL);
    assert_int_equal(db_exec(db, "INSERT INTO t (name) VALUES ('a')", NULL), 0);
    memory_store_free(store);
    db_close(db);
}

/* ------------------------------------------------------------------------- in a batch */

struct sql_job {
    struct writer_job job;
    const char *sql;
    bool is_limited;
    bool goes_on; /* whatever became of it */
    int after_rc;
    int rc;
    char text[ERR_TEXT_MAX];
    sem_t *done;
};

static int run_sql(struct writer_job *job, struct db *db, struct err *err)
{
    struct sql_job *s = (struct sql_job *)job;
    int rc;

    memory_limit(s->is_limited ? 8 * MIB : 0);
    rc = db_exec(db, s->sql, err);
    if (s->goes_on) {
        s->after_rc = db_exec(db, "INSERT INTO t (name) VALUES ('on its own')", NULL);
        rc = 0;
    }
    memory_limit(0);
    return rc;
}

static void finish_sql(struct writer_job *job, int rc, const struct err *err)
{
    struct sql_job *s = (struct sql_job *)job;

    s->rc = rc;
    snprintf(s->text, sizeof(s->text), "%s", err->text);
    sem_post(s->done);
}

static int wait_a_while(struct writer_job *job, struct db *db, struct err *err)
{
    (void)db, (void)err;
    usleep(100000); /* so that what is submitted behind it becomes one batch */
    return ((struct sql_job *)job)->rc;
}

static int count_rows(struct db *db, const char *where)
{
    char sql[200];
    struct stmt *stmt = NULL;
    struct err err;
    int count;

    snprintf(sql, sizeof(sql), "SELECT count(*) FROM t WHERE %s", where);
    if (stmt_new(&stmt, db, sql, &err) < 0 || stmt_step(stmt, &err) != 1)
        fail_msg("%s", err.text);
    count = (int)stmt_int(stmt, 0);
    stmt_free(stmt);
    return count;
}

/* The statement is one job of a batch of five: it fails alone. wanted is what becomes of it. */
static void fails_alone(const char *sql, bool goes_on, int wanted)
{
    struct writer_opts opts = {
        .db = open_db(), .max_queue = 100, .max_batch = 100, .max_batch_ms = 10000};
    struct sql_job jobs[6] = {
        {.job.run = wait_a_while},
        {.sql = "INSERT INTO t (name) VALUES ('a')"},
        {.sql = "INSERT INTO t (name) VALUES ('b')"},
        {.sql = sql, .is_limited = true, .goes_on = goes_on},
        {.sql = "INSERT INTO t (name) VALUES ('c')"},
        {.sql = "INSERT INTO t (name) VALUES ('d')"},
    };
    struct writer *writer = NULL;
    struct err err;
    sem_t done;

    sem_init(&done, 0, 0);
    assert_int_equal(db_exec(opts.db, fill, &err), 0);
    assert_int_equal(writer_start(&writer, &opts, &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        if (!jobs[i].job.run)
            jobs[i].job.run = run_sql;
        jobs[i].job.done = finish_sql;
        jobs[i].done = &done;
        assert_int_equal(writer_submit(writer, &jobs[i].job, &err), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        sem_wait(&done);
    writer_stop(writer);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        if (jobs[i].rc != (i == 3 ? wanted : 0))
            fail_msg("%s\njob %zu: %d: %s", sql, i, jobs[i].rc, jobs[i].text);
    if (wanted)
        assert_non_null(strstr(jobs[3].text, "of memory for SQL"));
    assert_int_equal(jobs[3].after_rc, goes_on ? wanted : 0);
    assert_int_equal(count_rows(opts.db, "name IN ('a', 'b', 'c', 'd')"), 4);
    assert_int_equal(count_rows(opts.db, "1"), wanted ? 4 : 5);
    assert_int_equal(db_exec(opts.db, "PRAGMA integrity_check", &err), 0);
    db_close(opts.db);
    sem_destroy(&done);
    unlink("test.db");
}

static void memory__job_that_hits_it_costs_nobody_else(void **state)
{
    static const char *const statements[] = {giant_sort, giant_union,  giant_text,
                                             giant_read, giant_insert, giant_update};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(statements); i++)
        fails_alone(statements[i], false, ERR_LIMIT);
}

/* Whether the transaction ends with the statement depends on the statement. */
static void memory__job_that_hits_it_and_goes_on_costs_nobody_else(void **state)
{
    (void)state;
    fails_alone(giant_sort, true, 0);
    fails_alone(giant_insert, true, 0);
    fails_alone(giant_read, true, ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(memory__giant_statement_hits_the_limit),
        IN_TEMP_DIR(memory__counts_from_the_start),
        IN_TEMP_DIR(memory__kept_blocks_are_had_again),
        IN_TEMP_DIR(memory__job_that_hits_it_costs_nobody_else),
        IN_TEMP_DIR(memory__job_that_hits_it_and_goes_on_costs_nobody_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
