/* SPDX-License-Identifier: MIT */
#include "store/writer.h"

#include "base/clock.h"
#include "fault_vfs.h"
#include "temp_dir.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/*
 * A job for every occasion. What happened is written down in the bench's diary, "run:a done:a …",
 * by the writer's thread; the test reads it after the last sem_wait on the job's finished.
 */
struct test_job {
    struct writer_job job; /* first, so that the job is the test_job */
    const char *name;
    const char *sql;            /* run; its error is the job's result, unless fails is set */
    const char *sql_after;      /* run too, whatever became of sql */
    int fails;                  /* an ERR_* to return in any case */
    bool interrupts;            /* sql is interrupted as soon as SQLite asks */
    bool leaves_standing;       /* sql is stepped once */
    int spins_ms;               /* time to use up */
    sem_t *entered, *may_go_on; /* posted and waited for in run, when set */
    struct writer_job *submits; /* from done */
    bool scrubs;
    bool measures; /* the WAL, in run */
    struct bench *bench;

    int runs;
    pthread_t ran_on;
    int64_t wal_bytes;
    int rc;
    int after_rc;
    char text[ERR_TEXT_MAX];
    sem_t finished;
};

struct bench {
    struct db *db;
    struct writer *writer;
    char diary[4096];
    int fatals;
    char fatal_text[ERR_TEXT_MAX];
    sem_t fatal;
    char rooms[64]; /* "full room full …" */
};

static void write_down(struct bench *b, const char *what, const char *name)
{
    size_t len = strlen(b->diary);

    if (name)
        snprintf(b->diary + len, sizeof(b->diary) - len, "%s%s:%s", len ? " " : "", what, name);
}

static bool say_yes(void *arg)
{
    (void)arg;
    return true;
}

static int step_once(struct db *db, const char *sql, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, sql, err);

    if (rc == 0)
        rc = stmt_step(stmt, err); /* the statement stays until db_close */
    return rc < 0 ? rc : 0;
}

static int run_test_job(struct writer_job *job, struct db *db, struct err *err)
{
    struct test_job *t = (struct test_job *)job;
    int64_t start = clock_mono_ms();
    int rc = 0;

    write_down(t->bench, "run", t->name);
    t->runs++;
    t->ran_on = pthread_self();
    if (t->entered)
        sem_post(t->entered);
    if (t->may_go_on)
        sem_wait(t->may_go_on);
    while (t->spins_ms && clock_mono_ms() < start + t->spins_ms)
        ;
    if (t->interrupts)
        db_set_interrupt(db, say_yes, NULL);
    if (t->sql)
        rc = t->leaves_standing ? step_once(db, t->sql, err) : db_exec(db, t->sql, err);
    db_set_interrupt(db, NULL, NULL);
    if (t->scrubs)
        db_scrub_wal(db);
    if (t->measures)
        t->wal_bytes = file_size("a.db-wal");
    if (t->sql_after) {
        t->after_rc = db_exec(db, t->sql_after, NULL);
        rc = 0; /* a job that doesn't look at what happened */
    }
    if (t->fails)
        rc = err_set(err, t->fails, "%s failed", t->name);
    return rc;
}

static void finish_test_job(struct writer_job *job, int rc, const struct err *err)
{
    struct test_job *t = (struct test_job *)job;

    write_down(t->bench, "done", t->name);
    t->rc = rc;
    snprintf(t->text, sizeof(t->text), "%s", err->text);
    if (t->submits && writer_submit(t->bench->writer, t->submits, NULL) < 0)
        abort();
    sem_post(&t->finished);
}

static void note_fatal(void *arg, const struct err *err)
{
    struct bench *b = arg;

    write_down(b, "fatal", "!");
    b->fatals++;
    snprintf(b->fatal_text, sizeof(b->fatal_text), "%s", err->text);
    sem_post(&b->fatal);
}

static void note_full(void *arg, bool is_full)
{
    struct bench *b = arg;
    size_t len = strlen(b->rooms);

    snprintf(b->rooms + len, sizeof(b->rooms) - len, "%s%s", len ? " " : "",
             is_full ? "full" : "room");
}

static struct test_job *init_job(struct bench *b, struct test_job *t)
{
    t->job.run = run_test_job;
    t->job.done = finish_test_job;
    t->bench = b;
    sem_init(&t->finished, 0, 0);
    return t;
}

#define JOB(bench, ...) (init_job(bench, &(struct test_job){__VA_ARGS__}))

static void submit(struct test_job *t)
{
    struct err err = {0};

    if (writer_submit(t->bench->writer, &t->job, &err) < 0)
        fail_msg("%s", err.text);
}

static int result(struct test_job *t)
{
    while (sem_wait(&t->finished) < 0)
        ;
    return t->rc;
}

static int do_job(struct test_job *t)
{
    submit(t);
    return result(t);
}

static const struct writer_opts plain = {.max_queue = 100, .max_batch = 100, .max_batch_ms = 60000};

static void start(struct bench *b, struct writer_opts opts)
{
    struct err err = {0};

    fault_none();
    *b = (struct bench){0};
    sem_init(&b->fatal, 0, 0);
    if (db_open(&b->db, "a.db", DB_WRITER, &err) < 0 ||
        db_exec(b->db,
                "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, name TEXT UNIQUE, b BLOB)",
                &err) < 0)
        fail_msg("%s", err.text);
    opts.db = b->db;
    opts.on_fatal = note_fatal;
    opts.on_full = note_full;
    opts.arg = b;
    if (writer_start(&b->writer, &opts, &err) < 0)
        fail_msg("%s", err.text);
}

static void stop(struct bench *b)
{
    writer_stop(b->writer);
    db_close(b->db);
    fault_none();
}

/* As another process would see it. */
static int64_t count(const char *where)
{
    struct db *db = NULL;
    struct stmt *stmt = NULL;
    char sql[200];
    int64_t n;

    snprintf(sql, sizeof(sql), "SELECT count(*) FROM t WHERE %s", where);
    assert_int_equal(db_open(&db, "a.db", DB_READER, NULL), 0);
    assert_int_equal(stmt_new(&stmt, db, sql, NULL), 0);
    assert_int_equal(stmt_step(stmt, NULL), 1);
    n = stmt_int(stmt, 0);
    db_close(db);
    return n;
}

/*
 * Keeps the writer in a job's run, so that what is submitted meanwhile makes one batch. The job
 * itself is a batch of its own, with nothing written (ends_batch).
 */
struct gate {
    struct test_job job;
    sem_t entered, may_go_on;
};

static void close_gate(struct bench *b, struct gate *gate, bool urgent)
{
    *gate = (struct gate){0};
    sem_init(&gate->entered, 0, 0);
    sem_init(&gate->may_go_on, 0, 0);
    gate->job.entered = &gate->entered;
    gate->job.may_go_on = &gate->may_go_on;
    gate->job.job.urgent = urgent;
    gate->job.job.ends_batch = true;
    submit(init_job(b, &gate->job));
    sem_wait(&gate->entered);
}

static void open_gate(struct gate *gate)
{
    sem_post(&gate->may_go_on);
    result(&gate->job);
}

/* Runs the n jobs as one batch of their own. */
static void submit_as_batch(struct bench *b, struct test_job *const *jobs, size_t n)
{
    struct gate gate;

    close_gate(b, &gate, false);
    for (size_t i = 0; i < n; i++)
        submit(jobs[i]);
    open_gate(&gate);
}

/* -------------------------------------------------------------- the promise */

static void writer__zero_means_committed(void **state)
{
    struct bench b;
    struct test_job *job;
    struct err err;

    (void)state;
    start(&b, plain);
    job = JOB(&b, .sql = "INSERT INTO t (name) VALUES ('a')");
    assert_int_equal(writer_run(b.writer, &job->job, &err), 0);
    assert_int_equal(count("name = 'a'"), 1);
    stop(&b);
}

static void writer__run_reports_the_jobs_error(void **state)
{
    struct bench b;
    struct test_job *job;
    struct err err = {0};

    (void)state;
    start(&b, plain);
    job = JOB(&b, .name = "x", .sql = "INSERT INTO t (name) VALUES ('a')", .fails = ERR_SCRIPT);
    assert_int_equal(writer_run(b.writer, &job->job, &err), ERR_SCRIPT);
    assert_int_equal(err.code, ERR_SCRIPT);
    assert_string_equal(err.text, "x failed");
    assert_int_equal(writer_run(b.writer, &job->job, NULL), ERR_SCRIPT);
    assert_int_equal(count("1"), 0);
    stop(&b);
}

static void writer__failed_job_leaves_neighbours_alone(void **state)
{
    struct bench b;
    struct test_job *jobs[3];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b'), ('a')");
    jobs[2] = JOB(&b, .name = "c", .sql = "INSERT INTO t (name) VALUES ('c')");
    submit_as_batch(&b, jobs, 3);
    assert_int_equal(result(jobs[0]), 0);
    assert_int_equal(result(jobs[1]), ERR_CONFLICT);
    assert_string_equal(jobs[1]->text, "UNIQUE constraint failed: t.name");
    assert_int_equal(result(jobs[2]), 0);
    assert_string_equal(jobs[2]->text, "");
    assert_string_equal(b.diary, "run:a run:b run:c done:a done:b done:c");
    assert_int_equal(count("name IN ('a', 'c')"), 2);
    assert_int_equal(count("1"), 2);
    stop(&b);
}

static void writer__broken_reference_fails_its_job_only(void **state)
{
    struct bench b;
    struct test_job *jobs[2];

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "CREATE TABLE r (n REFERENCES t (n) DEFERRABLE "
                                           "INITIALLY DEFERRED)")),
                     0);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO r VALUES (77)");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (n) VALUES (1); INSERT INTO r VALUES (1)");
    submit_as_batch(&b, jobs, 2);
    assert_int_equal(result(jobs[0]), ERR_CONFLICT);
    assert_string_equal(jobs[0]->text, "FOREIGN KEY constraint failed");
    assert_int_equal(result(jobs[1]), 0);
    stop(&b);
}

static void writer__job_without_savepoint_is_undone_alone(void **state)
{
    struct bench b;
    struct test_job *jobs[3];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] =
        JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')", .fails = ERR_CONFLICT);
    jobs[2] = JOB(&b, .name = "c", .sql = "INSERT INTO t (name) VALUES ('c')");
    for (size_t i = 0; i < 3; i++)
        jobs[i]->job.without_savepoint = true;
    submit_as_batch(&b, jobs, 3);
    assert_int_equal(result(jobs[0]), 0);
    assert_int_equal(result(jobs[1]), ERR_CONFLICT);
    assert_string_equal(jobs[1]->text, "b failed");
    assert_int_equal(result(jobs[2]), 0);
    assert_string_equal(b.diary, "run:a run:b done:b run:a run:c done:a done:c");
    assert_int_equal(count("name IN ('a', 'c')"), 2);
    assert_int_equal(count("1"), 2);
    stop(&b);
}

static void writer__job_without_savepoint_that_wrote_nothing_just_fails(void **state)
{
    struct bench b;
    struct test_job *jobs[3];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b'), ('a')");
    jobs[2] = JOB(&b, .name = "c", .sql = "INSERT INTO t (name) VALUES ('c')");
    jobs[1]->job.without_savepoint = true;
    submit_as_batch(&b, jobs, 3);
    assert_int_equal(result(jobs[1]), ERR_CONFLICT);
    assert_int_equal(result(jobs[2]), 0);
    assert_string_equal(b.diary, "run:a run:b run:c done:a done:b done:c");
    assert_int_equal(count("1"), 2);
    stop(&b);
}

static void writer__broken_reference_without_savepoint_fails_its_job_only(void **state)
{
    struct bench b;
    struct test_job *jobs[2];

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "CREATE TABLE r (n REFERENCES t (n) DEFERRABLE "
                                           "INITIALLY DEFERRED)")),
                     0);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO r VALUES (77)");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (n) VALUES (1); INSERT INTO r VALUES (1)");
    jobs[0]->job.without_savepoint = jobs[1]->job.without_savepoint = true;
    submit_as_batch(&b, jobs, 2);
    assert_int_equal(result(jobs[0]), ERR_CONFLICT);
    assert_string_equal(jobs[0]->text, "FOREIGN KEY constraint failed");
    assert_int_equal(result(jobs[1]), 0);
    assert_int_equal(count("1"), 1);
    stop(&b);
}

static void writer__standing_statement_does_no_harm(void **state)
{
    struct bench b;
    struct test_job *jobs[2];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .sql = "INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0) RETURNING n",
                  .leaves_standing = true);
    jobs[1] = JOB(&b, .sql = "SELECT * FROM t", .leaves_standing = true);
    submit_as_batch(&b, jobs, 2);
    assert_int_equal(result(jobs[0]), 0);
    assert_int_equal(result(jobs[1]), 0);
    assert_int_equal(count("1"), 2);
    stop(&b);
}

static void writer__done_may_submit(void **state)
{
    struct bench b;
    struct test_job *first, *second;

    (void)state;
    start(&b, plain);
    second = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')");
    first =
        JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')", .submits = &second->job);
    assert_int_equal(do_job(first), 0);
    assert_int_equal(result(second), 0);
    assert_string_equal(b.diary, "run:a done:a run:b done:b");
    stop(&b);
}

/* ------------------------------------------------------------ order, limits */

static void writer__job_that_ends_its_batch_is_done_before_the_next_runs(void **state)
{
    struct bench b;
    struct test_job *jobs[4];
    struct gate gate;

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')");
    jobs[2] = JOB(&b, .name = "c", .sql = "INSERT INTO t (name) VALUES ('c')");
    jobs[3] = JOB(&b, .name = "d", .sql = "INSERT INTO t (name) VALUES ('d')");
    jobs[1]->job.ends_batch = true;
    close_gate(&b, &gate, false);
    for (int i = 0; i < 4; i++)
        submit(jobs[i]);
    open_gate(&gate);
    for (int i = 0; i < 4; i++)
        assert_int_equal(result(jobs[i]), 0);
    assert_string_equal(b.diary, "run:a run:b done:a done:b run:c run:d done:c done:d");
    assert_int_equal(count("1"), 4);
    stop(&b);
}

static void writer__full_queue_is_busy(void **state)
{
    struct bench b;
    struct test_job *jobs[5];
    struct gate gate;
    struct err err;

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 2, .max_batch = 10, .max_batch_ms = 60000});
    for (int i = 0; i < 5; i++)
        jobs[i] = init_job(&b, test_calloc(1, sizeof(*jobs[i])));
    jobs[3]->job.urgent = true;
    close_gate(&b, &gate, false);
    submit(jobs[0]);
    submit(jobs[1]);
    assert_int_equal(writer_submit(b.writer, &jobs[2]->job, &err), ERR_BUSY);
    assert_int_equal(writer_run(b.writer, &jobs[2]->job, &err), ERR_BUSY);
    submit(jobs[3]); /* urgent jobs have a queue of their own */
    open_gate(&gate);
    assert_int_equal(result(jobs[0]), 0);
    assert_int_equal(result(jobs[1]), 0);
    assert_int_equal(result(jobs[3]), 0);
    assert_int_equal(do_job(jobs[4]), 0);
    assert_int_equal(jobs[2]->runs, 0);
    stop(&b);
    for (int i = 0; i < 5; i++)
        test_free(jobs[i]);
}

static void writer__urgent_goes_first(void **state)
{
    struct bench b;
    struct test_job *jobs[3];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a");
    jobs[1] = JOB(&b, .name = "b");
    jobs[2] = JOB(&b, .name = "u", .job.urgent = true);
    submit_as_batch(&b, jobs, 3);
    result(jobs[0]);
    result(jobs[1]);
    result(jobs[2]);
    assert_string_equal(b.diary, "run:u done:u run:a run:b done:a done:b");
    stop(&b);
}

/* The second of three jobs of a batch waits until urgent ones have come. */
static void writer__urgent_runs_between_the_jobs_of_a_batch(void **state)
{
    struct bench b;
    struct test_job *jobs[3], *reads, *writes, *fails;
    sem_t entered, may_go_on;

    (void)state;
    start(&b, plain);
    sem_init(&entered, 0, 0);
    sem_init(&may_go_on, 0, 0);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .entered = &entered, .may_go_on = &may_go_on);
    jobs[2] = JOB(&b, .name = "c");
    reads = JOB(&b, .name = "reads", .job.urgent = true, .sql = "SELECT * FROM t");
    writes = JOB(&b, .name = "writes", .job.urgent = true, .sql = "UPDATE t SET b = 1");
    fails = JOB(&b, .name = "fails", .job.urgent = true, .sql = "UPDATE t SET b = 2",
                .fails = ERR_SCRIPT);
    submit_as_batch(&b, jobs, 3);
    sem_wait(&entered);
    submit(reads);
    submit(writes);
    submit(fails);
    sem_post(&may_go_on);
    assert_int_equal(result(jobs[2]), 0);
    assert_int_equal(result(reads), 0);
    assert_int_equal(result(writes), 0);
    assert_int_equal(result(fails), ERR_SCRIPT);
    /* What changed nothing, or failed, is reported at once; the rest after the commit. */
    assert_string_equal(b.diary, "run:a run:b run:reads done:reads run:writes run:fails done:fails "
                                 "run:c done:a done:b done:writes done:c");
    assert_int_equal(count("b = 1"), 1);
    result(jobs[0]);
    result(jobs[1]);
    stop(&b);
}

/* A job comes while the one before it runs, for spins_ms; the diary is of these two. */
static void run_with_one_behind(struct bench *b, int spins_ms)
{
    struct test_job *first, *second;
    sem_t entered, may_go_on;

    sem_init(&entered, 0, 0);
    sem_init(&may_go_on, 0, 0);
    first = JOB(b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')", .entered = &entered,
                .may_go_on = &may_go_on, .spins_ms = spins_ms);
    second = JOB(b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')");
    b->diary[0] = '\0';
    submit(first);
    sem_wait(&entered);
    submit(second);
    sem_post(&may_go_on);
    assert_int_equal(result(first), 0);
    assert_int_equal(result(second), 0);
}

/* On a disk where a COMMIT takes long, at least an eighth of this. */
static void writer__batch_takes_in_what_comes_meanwhile(void **state)
{
    struct bench b;

    (void)state;
    start(&b, plain);
    atomic_store(&fault_sync_ms, 2000);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('slow')")), 0);
    atomic_store(&fault_sync_ms, 0);
    run_with_one_behind(&b, 0);
    assert_string_equal(b.diary, "run:a run:b done:a done:b");
    stop(&b);
}

/* On a disk where it takes no time, those who have run don't wait for who comes late. */
static void writer__batch_takes_in_nobody_for_longer_than_a_commit(void **state)
{
    struct bench b;

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('quick')")), 0);
    run_with_one_behind(&b, 500);
    assert_string_equal(b.diary, "run:a done:a run:b done:b");
    stop(&b);
}

static void writer__batch_has_a_size(void **state)
{
    struct bench b;
    struct test_job *jobs[3];

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 10, .max_batch = 2, .max_batch_ms = 60000});
    jobs[0] = JOB(&b, .name = "a");
    jobs[1] = JOB(&b, .name = "b");
    jobs[2] = JOB(&b, .name = "c");
    submit_as_batch(&b, jobs, 3);
    result(jobs[2]);
    assert_string_equal(b.diary, "run:a run:b done:a done:b run:c done:c");
    stop(&b);
}

static void writer__slow_batch_is_committed_early(void **state)
{
    struct bench b;
    struct test_job *jobs[3];

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 10, .max_batch = 10, .max_batch_ms = 20});
    jobs[0] = JOB(&b, .name = "a", .spins_ms = 30);
    jobs[1] = JOB(&b, .name = "b", .spins_ms = 30);
    jobs[2] = JOB(&b, .name = "c", .spins_ms = 30);
    submit_as_batch(&b, jobs, 3);
    result(jobs[2]);
    assert_string_equal(b.diary, "run:a done:a run:b done:b run:c done:c");
    stop(&b);
}

static void *open_gate_on_thread(void *arg)
{
    struct gate *gate = arg;

    sem_post(&gate->may_go_on);
    return NULL;
}

static void writer__stop_runs_what_waits(void **state)
{
    struct bench b;
    struct test_job *jobs[2];
    struct gate gate;
    pthread_t thread;

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 10, .max_batch = 1, .max_batch_ms = 60000});
    close_gate(&b, &gate, false);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')");
    submit(jobs[0]);
    submit(jobs[1]);
    pthread_create(&thread, NULL, open_gate_on_thread, &gate);
    writer_stop(b.writer);
    pthread_join(thread, NULL);
    assert_string_equal(b.diary, "run:a done:a run:b done:b");
    assert_int_equal(count("1"), 2);
    assert_false(db_in_transaction(b.db)); /* ours again */
    assert_int_equal(db_exec(b.db, "DELETE FROM t", NULL), 0);
    db_close(b.db);
    writer_stop(NULL);
}

/* ------------------------------------- one job that takes all down with it */

static const char endless_insert[] =
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) INSERT INTO t (n) "
    "SELECT n + 1000 FROM r";

/* Symptom: SQLite rolls back the whole transaction when an INSERT is interrupted. */
static void writer__interrupted_job_costs_nobody_else(void **state)
{
    struct bench b;
    struct test_job *jobs[4];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[2] = JOB(&b, .name = "x", .sql = endless_insert, .interrupts = true,
                  .sql_after = "INSERT INTO t (name) VALUES ('on its own')");
    jobs[3] = JOB(&b, .name = "c", .sql = "INSERT INTO t (name) VALUES ('c')");
    submit_as_batch(&b, jobs, 4);
    assert_int_equal(result(jobs[0]), 0);
    assert_int_equal(result(jobs[1]), ERR_CONFLICT);
    assert_int_equal(result(jobs[2]), ERR_LIMIT);
    assert_int_equal(jobs[2]->after_rc, ERR_LIMIT);
    assert_int_equal(result(jobs[3]), 0);
    assert_string_equal(b.diary, "run:a run:b run:x done:x run:a run:b run:c done:a done:b done:c");
    assert_int_equal(count("name IN ('a', 'c')"), 2);
    assert_int_equal(count("1"), 2);
    stop(&b);
}

/* Symptom: of a function whose time was up, only the statement that was ended by that was heard. */
static void writer__jobs_own_error_goes_before_the_statements(void **state)
{
    struct bench b;
    struct test_job *job;

    (void)state;
    start(&b, plain);
    job = JOB(&b, .name = "x", .sql = endless_insert, .interrupts = true, .fails = ERR_SCRIPT);
    assert_int_equal(do_job(job), ERR_SCRIPT);
    assert_string_equal(job->text, "x failed");
    assert_int_equal(count("1"), 0);
    stop(&b);
}

static void writer__jobs_own_rollback_costs_nobody_else(void **state)
{
    struct bench b;
    struct test_job *jobs[4];

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "x", .sql = "INSERT OR ROLLBACK INTO t (name) VALUES ('a')");
    jobs[2] = JOB(&b, .name = "y", .sql = "INSERT INTO t (name) VALUES ('y'); COMMIT");
    jobs[3] = JOB(&b, .name = "z", .sql = "RELEASE \"writer job\"");
    submit_as_batch(&b, jobs, 4);
    assert_int_equal(result(jobs[0]), 0);
    assert_int_equal(result(jobs[1]), ERR_CONFLICT);
    assert_int_equal(result(jobs[2]), ERR_INVALID);
    assert_non_null(strstr(jobs[2]->text, "a transaction can't be begun or ended here"));
    assert_int_equal(result(jobs[3]), ERR_INVALID);
    assert_int_equal(count("1"), 1);
    stop(&b);
}

/* --------------------------------------------------- when everything is lost */

static void writer__full_disk_fails_the_batch(void **state)
{
    struct bench b;
    struct test_job *jobs[3];
    struct gate gate;

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .fails = ERR_SCRIPT);
    jobs[2] = JOB(&b, .name = "c", .sql = "INSERT INTO t (name) VALUES ('c')");
    close_gate(&b, &gate, false);
    for (int i = 0; i < 3; i++)
        submit(jobs[i]);
    atomic_store(&fault_writes, 0); /* the COMMIT's */
    open_gate(&gate);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(result(jobs[i]), ERR_FULL);
        assert_non_null(strstr(jobs[i]->text, "database or disk is full"));
    }
    assert_int_equal(count("1"), 0);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('d')")), ERR_FULL);
    fault_none();
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('e')")), 0);
    assert_int_equal(count("name = 'e'"), 1);
    assert_int_equal(count("1"), 1);
    assert_int_equal(b.fatals, 0);
    stop(&b);
}

/* Symptom: a disk quota, or a limit on the size of files, ended the server: "disk I/O error: write failed". */
static void writer__quota_and_file_size_limit_are_a_full_disk(void **state)
{
    static const int reasons[] = {ENOSPC, EDQUOT, EFBIG};
    struct bench b;

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES (x'00')")), 0);
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        atomic_store(&fault_write_rc, SQLITE_IOERR_WRITE);
        atomic_store(&fault_write_errno, reasons[i]);
        atomic_store(&fault_writes,
                     0); /* the COMMIT's, and the checkpoint's that would make room */
        assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES (x'01')")), ERR_FULL);
        assert_int_equal(do_job(JOB(&b, .sql = "SELECT * FROM t")), 0);
        fault_none();
        assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES (x'02')")), 0);
    }
    assert_int_equal(count("1"), 1 + ARRAY_LEN(reasons));
    assert_int_equal(b.fatals, 0);
    stop(&b);
}

static int64_t full_since(struct bench *b)
{
    struct writer_state state;

    writer_get_state(b->writer, &state);
    return state.full_since_ms;
}

/* A job that only reads needs no room, and tells nothing about it. */
static void writer__full_disk_is_told_once_and_so_is_its_end(void **state)
{
    int64_t before_ms = clock_wall_ms(), since_ms;
    struct bench b;

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('a')")), 0);
    assert_int_equal(full_since(&b), 0);
    atomic_store(&fault_writes, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('b')")), ERR_FULL);
    since_ms = full_since(&b);
    assert_true(since_ms >= before_ms && since_ms <= clock_wall_ms());
    assert_int_equal(do_job(JOB(&b, .sql = "SELECT 1")), 0);
    assert_int_equal(full_since(&b), since_ms);
    assert_string_equal(b.rooms, "full");
    fault_none();
    assert_int_equal(do_job(JOB(&b, .fails = ERR_SCRIPT)), ERR_SCRIPT);
    assert_int_equal(full_since(&b), since_ms);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('c')")), 0);
    assert_int_equal(full_since(&b), 0);
    assert_string_equal(b.rooms, "full room");
    stop(&b);
}

static uint64_t observed(const struct metric_histogram *histogram)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < ARRAY_LEN(histogram->counts); i++)
        sum += metric_value(&histogram->counts[i]);
    return sum;
}

static void writer__counts_batches_and_the_commits_of_those_that_wrote(void **state)
{
    struct bench b;
    struct test_job *jobs[3];
    struct gate gate;

    (void)state;
    start(&b, plain);
    close_gate(&b, &gate, false);
    jobs[0] = JOB(&b, .sql = "INSERT INTO t (b) VALUES (x'00')");
    jobs[1] = JOB(&b, .sql = "INSERT INTO t (b) VALUES (x'01')");
    jobs[2] = JOB(&b, .sql = "SELECT 1");
    for (int i = 0; i < 3; i++)
        submit(jobs[i]);
    open_gate(&gate);
    for (int i = 0; i < 3; i++)
        assert_int_equal(result(jobs[i]), 0);
    assert_int_equal(do_job(JOB(&b, .sql = "SELECT 1")), 0);
    assert_int_equal(
        do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES (x'00')", .fails = ERR_SCRIPT)),
        ERR_SCRIPT);
    assert_int_equal(observed(&writer_counts(b.writer)->commits), 1);
    assert_int_equal(observed(&writer_counts(b.writer)->batches), 4); /* the gate's own, too */
    assert_int_equal(writer_counts(b.writer)->batches.sum, 1 + 3 + 1 + 1);
    stop(&b);
}

/* The job is too big for the cache, so that it meets the full disk itself; it hides that. */
static void writer__full_disk_within_a_job_fails_the_batch(void **state)
{
    struct bench b;
    struct test_job *jobs[3];
    struct gate gate;

    (void)state;
    start(&b, plain);
    jobs[0] = JOB(&b, .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .sql = "INSERT INTO t (b) VALUES (zeroblob(30000000))",
                  .sql_after = "INSERT INTO t (name) VALUES ('on its own')");
    jobs[2] = JOB(&b, .sql = "INSERT INTO t (name) VALUES ('c')");
    close_gate(&b, &gate, false);
    for (int i = 0; i < 3; i++)
        submit(jobs[i]);
    atomic_store(&fault_writes, 100);
    open_gate(&gate);
    for (int i = 0; i < 3; i++)
        assert_int_equal(result(jobs[i]), ERR_FULL);
    fault_none();
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('e')")), 0);
    assert_int_equal(count("1"), 1);
    stop(&b);
}

static void spare_urgent_jobs(int write_rc, int code)
{
    static const struct writer_opts one_by_one = {
        .max_queue = 10, .max_batch = 1, .max_batch_ms = 60000};
    struct bench b;
    struct test_job *jobs[5];
    struct gate gate;

    start(&b, one_by_one);
    jobs[0] =
        JOB(&b, .name = "w1", .sql = "INSERT INTO t (name) VALUES ('w1')", .job.urgent = true);
    jobs[1] = JOB(&b, .name = "big", .sql = "INSERT INTO t (b) VALUES (zeroblob(30000000))",
                  .job.urgent = true);
    jobs[2] = JOB(&b, .name = "r", .sql = "SELECT * FROM t", .job.urgent = true);
    jobs[3] =
        JOB(&b, .name = "w2", .sql = "INSERT INTO t (name) VALUES ('w2')", .job.urgent = true);
    jobs[4] = JOB(&b, .name = "n", .sql = "SELECT * FROM t");
    close_gate(&b, &gate, false);
    for (int i = 0; i < 5; i++)
        submit(jobs[i]);
    atomic_store(&fault_write_rc, write_rc);
    atomic_store(&fault_writes, 0);
    open_gate(&gate);
    assert_int_equal(result(jobs[0]), code); /* by its COMMIT */
    assert_int_equal(result(jobs[1]), code); /* while it ran */
    assert_int_equal(result(jobs[2]), 0);
    assert_int_equal(result(jobs[3]), code);
    assert_int_equal(result(jobs[4]), code); /* normal, so it fell with w1 */
    assert_string_equal(b.diary, "run:w1 done:w1 done:n run:big done:big run:r done:r "
                                 "run:w2 done:w2");
    fault_none();
    assert_int_equal(do_job(jobs[3]), 0);
    assert_int_equal(count("1"), 1);
    assert_int_equal(b.fatals, 0);
    stop(&b);
}

/* Symptom: actions were answered with 503 because a webhook's COMMIT met a full disk. */
static void writer__full_disk_spares_urgent_jobs_that_have_not_run(void **state)
{
    (void)state;
    spare_urgent_jobs(SQLITE_FULL, ERR_FULL);
}

static void writer__lack_of_memory_spares_urgent_jobs_that_have_not_run(void **state)
{
    (void)state;
    spare_urgent_jobs(SQLITE_IOERR_NOMEM, ERR_NOMEM);
}

/* With no transaction there is nothing that anybody could wait for. */
static void writer__urgent_jobs_dont_wait_for_a_begin_that_fails(void **state)
{
    struct bench b;
    struct test_job *jobs[3];
    struct gate gate;

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 10, .max_batch = 1, .max_batch_ms = 60000});
    jobs[0] = JOB(&b, .name = "u1", .job.urgent = true);
    jobs[1] = JOB(&b, .name = "u2", .job.urgent = true);
    jobs[2] = JOB(&b, .name = "n");
    close_gate(&b, &gate, false);
    for (int i = 0; i < 3; i++)
        submit(jobs[i]);
    atomic_store(&fault_shm_locks, 0);
    open_gate(&gate);
    for (int i = 0; i < 3; i++)
        assert_int_equal(result(jobs[i]), ERR_FULL);
    fault_none();
    assert_int_equal(do_job(jobs[0]), 0);
    assert_string_equal(b.diary, "done:u1 done:u2 done:n run:u1 done:u1");
    assert_int_equal(b.fatals, 0);
    stop(&b);
}

static void *flood(void *arg)
{
    struct bench *b = arg;
    long wrong = 0;

    for (int i = 0; i < 200; i++) {
        struct test_job job = {.sql = "INSERT INTO t (name) VALUES (hex(randomblob(8)))",
                               .job.run = run_test_job,
                               .bench = b};

        wrong += writer_run(b->writer, &job.job, NULL) != ERR_FULL;
    }
    return (void *)wrong;
}

static void writer__full_disk_answers_urgent_reads_during_a_flood(void **state)
{
    struct bench b;
    pthread_t threads[4];
    void *wrong;

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 100, .max_batch = 2, .max_batch_ms = 60000});
    atomic_store(&fault_writes, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flood, &b), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(do_job(JOB(&b, .sql = "SELECT * FROM t", .job.urgent = true)), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    fault_none();
    stop(&b);
}

/* The disk has no room for what the next job writes until the WAL gives some back. */
static void writer__full_disk_empties_the_wal_under_load(void **state)
{
    struct bench b;

    (void)state;
    start(&b, plain);
    for (int i = 0; i < 20; i++)
        assert_int_equal(
            do_job(JOB(&b, .sql = "INSERT OR REPLACE INTO t (n, name) VALUES (1, 'a')")), 0);
    assert_true(file_size("a.db-wal") > 0);
    atomic_store(&fault_wal_writes, 0);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('b')")), ERR_FULL);
    assert_int_equal(do_job(JOB(&b, .sql = "SELECT 1")), 0); /* behind the checkpoint */
    assert_int_equal(file_size("a.db-wal"), 0);
    fault_none();
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('b')")), 0);
    assert_int_equal(count("1"), 2);
    stop(&b);
}

static void writer__failed_fsync_is_fatal(void **state)
{
    struct bench b;
    struct test_job *jobs[4], *later;
    struct gate gate;
    struct err err;

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 10, .max_batch = 2, .max_batch_ms = 60000});
    jobs[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    jobs[1] = JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')");
    jobs[2] = JOB(&b, .name = "c"); /* waits when it happens */
    jobs[3] = JOB(&b, .name = "d");
    later = JOB(&b, .name = "e");
    close_gate(&b, &gate, false);
    for (int i = 0; i < 4; i++)
        submit(jobs[i]);
    atomic_store(&fault_syncs, 0);
    open_gate(&gate);
    sem_wait(&b.fatal);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(result(jobs[i]), ERR_FATAL);
        assert_non_null(strstr(jobs[i]->text, "a.db': disk I/O error: fsync failed"));
    }
    assert_string_equal(b.diary, "run:a run:b done:a done:b done:c done:d fatal:!");
    assert_string_equal(b.fatal_text, jobs[0]->text);
    assert_int_equal(writer_submit(b.writer, &later->job, &err), ERR_CLOSED);
    assert_int_equal(writer_run(b.writer, &later->job, &err), ERR_CLOSED);
    assert_int_equal(b.fatals, 1);
    stop(&b);
}

/* Symptom: SQLite's automatic checkpoint says nothing when its fsync fails. */
static void writer__failed_checkpoint_is_fatal_but_the_job_is_committed(void **state)
{
    struct bench b;
    struct test_job *job;

    (void)state;
    start(&b, plain);
    /* The COMMIT syncs the WAL, then the checkpoint (20 MB are plenty) syncs the WAL again. */
    atomic_store(&fault_syncs, 1);
    job = JOB(&b, .sql = "INSERT INTO t (b) VALUES (zeroblob(20000000))");
    assert_int_equal(do_job(job), 0);
    writer_stop(b.writer); /* before it is idle, and tidies up */
    assert_int_equal(b.fatals, 1);
    assert_non_null(strstr(b.fatal_text, "fsync failed"));
    assert_int_equal(count("1"), 1);
    db_close(b.db);
}

static void writer__locked_file_is_busy(void **state)
{
    struct bench b;
    struct db *other = NULL;
    struct test_job *job;

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "PRAGMA busy_timeout = 0")), 0);
    assert_int_equal(db_open(&other, "a.db", DB_WRITER, NULL), 0);
    assert_int_equal(db_exec(other, "BEGIN IMMEDIATE", NULL), 0);
    job = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    assert_int_equal(do_job(job), ERR_BUSY);
    assert_int_equal(job->runs, 0);
    assert_int_equal(db_exec(other, "COMMIT", NULL), 0);
    assert_int_equal(do_job(job), 0);
    db_close(other);
    stop(&b);
}

/* ---------------------------------------------------------------- standing in */

static struct test_job *waited_for(struct test_job *t)
{
    t->job.is_waited_for = true;
    return t;
}

static bool ran_here(const struct test_job *t)
{
    return t->runs == 1 && pthread_equal(t->ran_on, pthread_self());
}

/*
 * Jobs one after the other, until the thread sleeps, and whoever comes next with one may run it. (A thread is
 * done with its job before it is done with the writer, and one that was called may be late.)
 */
static void come_alone(struct bench *b)
{
    for (int in_a_row = 0; in_a_row < 3;) {
        struct test_job *job = waited_for(JOB(b, .sql = "SELECT 1"));

        submit(job);
        assert_int_equal(result(job), 0);
        in_a_row = ran_here(job) ? in_a_row + 1 : 0;
        if (in_a_row == 0)
            poll(NULL, 0, 1);
    }
}

/* Nothing is said of how: what is submitted and waited for is on disk, and done, when writer_submit returns. */
static void writer__one_alone_runs_its_job_itself(void **state)
{
    struct bench b;
    struct test_job *job, *other;
    struct err err;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    b.diary[0] = '\0';
    job = waited_for(JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')"));
    submit(job);
    assert_true(ran_here(job));
    assert_string_equal(b.diary, "run:a done:a");
    assert_int_equal(result(job), 0);
    assert_int_equal(count("name = 'a'"), 1);

    job = JOB(&b, .sql = "INSERT INTO t (name) VALUES ('b')");
    assert_int_equal(writer_run(b.writer, &job->job, &err), 0);
    assert_true(ran_here(job));
    assert_int_equal(count("1"), 2);

    other = JOB(&b, .name = "c");
    assert_int_equal(do_job(other), 0);
    assert_false(ran_here(other));
    stop(&b);
}

static void writer__errors_of_ones_own_job_are_as_ever(void **state)
{
    struct bench b;
    struct test_job *job;
    struct err err;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    job = waited_for(
        JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')", .fails = ERR_SCRIPT));
    submit(job);
    assert_true(ran_here(job));
    assert_int_equal(result(job), ERR_SCRIPT);
    assert_string_equal(job->text, "a failed");
    job = waited_for(JOB(&b, .sql = "ROLLBACK"));
    submit(job);
    assert_true(ran_here(job));
    assert_int_equal(result(job), ERR_INVALID);
    job = JOB(&b, .sql = "x");
    assert_int_equal(writer_run(b.writer, &job->job, &err), ERR_INVALID);
    assert_true(ran_here(job));
    assert_int_equal(count("1"), 0);
    stop(&b);
}

static void writer__job_of_ones_own_may_submit(void **state)
{
    struct bench b;
    struct test_job *first, *second;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    b.diary[0] = '\0';
    second = waited_for(JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')"));
    first = waited_for(JOB(&b, .name = "a", .submits = &second->job));
    submit(first);
    assert_true(ran_here(first));
    assert_int_equal(result(second), 0);
    assert_false(ran_here(second)); /* it isn't run within the other's done */
    assert_string_equal(b.diary, "run:a done:a run:b done:b");
    assert_int_equal(count("1"), 1);
    stop(&b);
}

static void *submit_elsewhere(void *job)
{
    submit(job);
    return NULL;
}

/* Whoever comes while one runs its own job waits for the writer as ever; and so does, for a while, who
 * comes next, since the writer would change hands all the time. */
static void writer__others_come_while_one_runs_its_own_job(void **state)
{
    struct bench b;
    struct test_job *own, *others[3], *next;
    sem_t entered, may_go_on;
    pthread_t thread;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    b.diary[0] = '\0';
    sem_init(&entered, 0, 0);
    sem_init(&may_go_on, 0, 0);
    own = waited_for(JOB(&b, .name = "own", .entered = &entered, .may_go_on = &may_go_on,
                         .sql = "INSERT INTO t (name) VALUES ('own')"));
    own->job.ends_batch = true;
    others[0] = JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')");
    others[1] = waited_for(JOB(&b, .name = "b", .sql = "INSERT INTO t (name) VALUES ('b')"));
    others[2] = JOB(&b, .job.urgent = true, .name = "u");
    assert_int_equal(pthread_create(&thread, NULL, submit_elsewhere, own), 0);
    sem_wait(&entered);
    for (int i = 0; i < 3; i++)
        submit(others[i]);
    assert_string_equal(b.diary, "run:own");
    sem_post(&may_go_on);
    for (int i = 0; i < 3; i++)
        assert_int_equal(result(others[i]), 0);
    pthread_join(thread, NULL);
    assert_int_equal(result(own), 0);
    assert_false(ran_here(others[1]));
    assert_string_equal(b.diary, "run:own done:own run:u done:u run:a run:b done:a done:b");
    assert_int_equal(count("1"), 3);

    next = waited_for(JOB(&b, .name = "next"));
    submit(next);
    assert_int_equal(result(next), 0);
    assert_false(ran_here(next));
    stop(&b);
}

static void ends(pthread_t thread)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    assert_int_equal(pthread_timedjoin_np(thread, NULL, &until), 0);
}

/* own, which is reported before its batch ends, while another job waits: it isn't for who had own. */
static void leaves_others_alone(struct test_job *own, int wanted)
{
    struct bench *b = own->bench;
    struct test_job *other;
    sem_t entered, may_go_on, may_end;
    pthread_t thread;

    come_alone(b);
    sem_init(&entered, 0, 0);
    sem_init(&may_go_on, 0, 0);
    sem_init(&may_end, 0, 0);
    own->entered = &entered;
    own->may_go_on = &may_go_on;
    other = JOB(b, .sql = "INSERT INTO t (name) VALUES ('other')", .may_go_on = &may_end);
    assert_int_equal(pthread_create(&thread, NULL, submit_elsewhere, waited_for(own)), 0);
    sem_wait(&entered);
    submit(other);
    sem_post(&may_go_on);
    ends(thread);
    assert_int_equal(result(own), wanted);
    assert_true(pthread_equal(own->ran_on, thread));
    sem_post(&may_end);
    assert_int_equal(result(other), 0);
    assert_false(pthread_equal(other->ran_on, thread));
    assert_int_equal(count("name = 'other'"), 1);
}

/* Symptom: an action that wrote nothing, and came alone, waited for the webhooks behind it. */
static void writer__who_is_done_runs_no_others_jobs(void **state)
{
    struct bench b;

    (void)state;
    start(&b, plain);
    leaves_others_alone(JOB(&b, .job.urgent = true, .sql = "SELECT 1"), 0);
    stop(&b);
}

static void writer__who_ended_the_transaction_runs_no_others_jobs(void **state)
{
    struct bench b;

    (void)state;
    start(&b, plain);
    leaves_others_alone(JOB(&b, .sql = "ROLLBACK"), ERR_INVALID);
    stop(&b);
}

static void writer__full_disk_heals_for_one_alone(void **state)
{
    struct bench b;
    struct test_job *job;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    atomic_store(&fault_wal_writes, 0);
    job = waited_for(JOB(&b, .sql = "INSERT INTO t (b) VALUES (zeroblob(100000))"));
    submit(job);
    assert_true(ran_here(job));
    assert_int_equal(result(job), ERR_FULL);
    assert_string_equal(b.rooms, "full");
    atomic_store(&fault_wal_writes, -1);
    assert_int_equal(do_job(job), 0);
    assert_string_equal(b.rooms, "full room");
    assert_int_equal(count("1"), 1);
    stop(&b);
}

/* The thread ends, and says so, whoever has met the failure. */
static void writer__failed_fsync_of_ones_own_job_is_fatal(void **state)
{
    struct bench b;
    struct test_job *job, *next;
    struct err err;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    atomic_store(&fault_syncs, 0);
    job = waited_for(JOB(&b, .name = "a", .sql = "INSERT INTO t (name) VALUES ('a')"));
    submit(job);
    assert_true(ran_here(job));
    assert_int_equal(result(job), ERR_FATAL);
    sem_wait(&b.fatal);
    assert_int_equal(b.fatals, 1);
    assert_string_equal(b.fatal_text, job->text);
    next = waited_for(JOB(&b, .name = "b"));
    assert_int_equal(writer_submit(b.writer, &next->job, &err), ERR_CLOSED);
    stop(&b);
}

static void expect_empty_wal(void)
{
    int64_t deadline = clock_mono_ms() + 20000;

    while (file_size("a.db-wal") > 0 && clock_mono_ms() < deadline)
        poll(NULL, 0, 20);
    assert_int_equal(file_size("a.db-wal"), 0);
}

/* What one writes itself goes the way of all that is written: the thread looks after it. */
static void writer__wal_of_ones_own_jobs_is_kept_small(void **state)
{
    struct bench b;
    struct test_job *job;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    expect_empty_wal(); /* so that the thread, which sleeps again, wouldn't wake up by itself */
    for (int i = 0; i < 3; i++) {
        come_alone(&b);
        job = waited_for(JOB(&b, .sql = "INSERT INTO t (b) VALUES ('x')"));
        submit(job);
        assert_true(ran_here(job));
    }
    assert_true(file_size("a.db-wal") > 0);
    expect_empty_wal();

    for (int i = 0; i < 40; i++) { /* 80 MB, of which the WAL has some megabytes at a time */
        job = waited_for(JOB(&b, .sql = "INSERT INTO t (b) VALUES (zeroblob(2000000))"));
        submit(job);
        assert_int_equal(result(job), 0);
    }
    assert_true(file_size("a.db-wal") < 40000000);
    stop(&b);
}

static void writer__what_one_erases_leaves_the_wal(void **state)
{
    struct bench b;
    struct test_job *job;
    int64_t deadline = clock_mono_ms() + 20000;

    (void)state;
    start(&b, plain);
    come_alone(&b);
    expect_empty_wal();
    come_alone(&b);
    job = waited_for(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('secret')", .scrubs = true));
    submit(job);
    assert_true(ran_here(job));
    while (file_size("a.db-wal") > 0 &&
           clock_mono_ms() < deadline) { /* others keep it from being idle */
        do_job(JOB(&b, .sql = "SELECT 1"));
        poll(NULL, 0, 20);
    }
    assert_int_equal(file_size("a.db-wal"), 0);
    stop(&b);
}

/*
 * Symptom: what was to leave the WAL, with a reader in the way, was tried again as soon as somebody came, who
 * waited for it.
 */
static void writer__who_wakes_the_thread_goes_first(void **state)
{
    struct bench b;
    struct db *reader = NULL;
    bool was_emptied = true;
    int64_t wal_bytes = 0;

    (void)state;
    start(&b, plain);
    while (was_emptied) { /* as it may be meanwhile, by the thread that wakes up */
        struct test_job *job = JOB(&b, .job.urgent = true, .measures = true);

        assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES ('a')")), 0);
        assert_int_equal(db_open(&reader, "a.db", DB_READER, NULL), 0);
        assert_int_equal(db_exec(reader, "BEGIN; SELECT count(*) FROM t", NULL), 0);
        assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES ('b')", .scrubs = true)),
                         0);
        poll(NULL, 0, 1300); /* it is tried once a second */
        db_close(reader);
        was_emptied = file_size("a.db-wal") == 0;
        assert_int_equal(do_job(job), 0);
        wal_bytes = job->wal_bytes;
    }
    assert_true(wal_bytes > 0);
    expect_empty_wal();
    stop(&b);
}

static atomic_int pages_copied;

static void count_copied_page(void)
{
    atomic_fetch_add(&pages_copied, 1);
}

/* Symptom: behind each job that took longer than a second the WAL was emptied. One that is idle in between, as
 * on a machine that stood still, doesn't count. */
static void writer__slow_jobs_in_a_row_are_not_idleness(void **state)
{
    struct bench b;
    bool is_emptied = true;

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES ('a')")), 0);
    for (int tries = 0; is_emptied && tries < 3; tries++) {
        atomic_store(&pages_copied, 0);
        atomic_store(&fault_before_page, count_copied_page);
        assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (b) VALUES ('b')", .spins_ms = 1100)),
                         0);
        poll(NULL, 0, 100);
        is_emptied = atomic_load(&pages_copied) > 0;
        atomic_store(&fault_before_page, NULL);
    }
    assert_false(is_emptied);
    stop(&b);
}

/* -------------------------------------------------------------------- others */

static void writer__idle_empties_the_wal(void **state)
{
    struct bench b;
    int64_t deadline = clock_mono_ms() + 20000;

    (void)state;
    start(&b, plain);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('a')")), 0);
    assert_true(file_size("a.db-wal") > 0);
    while (file_size("a.db-wal") > 0 && clock_mono_ms() < deadline)
        poll(NULL, 0, 20);
    assert_int_equal(file_size("a.db-wal"), 0);
    assert_int_equal(do_job(JOB(&b, .sql = "INSERT INTO t (name) VALUES ('b')")), 0);
    assert_int_equal(count("1"), 2);
    stop(&b);
}

enum { CROWD = 8, CROWD_JOBS = 150 };

struct crowd {
    struct bench *bench;
    int number;
    int wrong;
};

static void *work_in_crowd(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < CROWD_JOBS; i++) {
        char sql[100];
        struct test_job job = {.job.urgent = i % 5 == 0, .sql = sql};

        /* Every seventh fails; a third of the urgent ones reads only. */
        snprintf(sql, sizeof(sql), "%s INTO t (name) VALUES ('%d/%d'); %s",
                 i % 15 == 0 ? "SELECT 1; --" : "INSERT", c->number, i, i % 7 == 0 ? "x" : "");
        job.job.run = run_test_job;
        job.bench = c->bench;
        c->wrong += writer_run(c->bench->writer, &job.job, NULL) !=
                    (i % 7 == 0 && i % 15 != 0 ? ERR_INVALID : 0);
    }
    return NULL;
}

static void writer__serves_many_threads(void **state)
{
    struct bench b;
    struct crowd crowd[CROWD];
    pthread_t threads[CROWD];
    int expected = 0;

    (void)state;
    start(&b, (struct writer_opts){.max_queue = 100, .max_batch = 5, .max_batch_ms = 1});
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = (struct crowd){.bench = &b, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work_in_crowd, &crowd[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(crowd[i].wrong, 0);
    }
    for (int i = 0; i < CROWD_JOBS; i++)
        expected += i % 15 != 0 && i % 7 != 0;
    assert_int_equal(count("1"), CROWD * expected);
    stop(&b);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(writer__zero_means_committed),
        IN_TEMP_DIR(writer__run_reports_the_jobs_error),
        IN_TEMP_DIR(writer__failed_job_leaves_neighbours_alone),
        IN_TEMP_DIR(writer__broken_reference_fails_its_job_only),
        IN_TEMP_DIR(writer__job_without_savepoint_is_undone_alone),
        IN_TEMP_DIR(writer__job_without_savepoint_that_wrote_nothing_just_fails),
        IN_TEMP_DIR(writer__broken_reference_without_savepoint_fails_its_job_only),
        IN_TEMP_DIR(writer__standing_statement_does_no_harm),
        IN_TEMP_DIR(writer__done_may_submit),
        IN_TEMP_DIR(writer__job_that_ends_its_batch_is_done_before_the_next_runs),
        IN_TEMP_DIR(writer__full_queue_is_busy),
        IN_TEMP_DIR(writer__urgent_goes_first),
        IN_TEMP_DIR(writer__urgent_runs_between_the_jobs_of_a_batch),
        IN_TEMP_DIR(writer__batch_takes_in_what_comes_meanwhile),
        IN_TEMP_DIR(writer__batch_takes_in_nobody_for_longer_than_a_commit),
        IN_TEMP_DIR(writer__batch_has_a_size),
        IN_TEMP_DIR(writer__slow_batch_is_committed_early),
        IN_TEMP_DIR(writer__stop_runs_what_waits),
        IN_TEMP_DIR(writer__interrupted_job_costs_nobody_else),
        IN_TEMP_DIR(writer__jobs_own_error_goes_before_the_statements),
        IN_TEMP_DIR(writer__jobs_own_rollback_costs_nobody_else),
        IN_TEMP_DIR(writer__full_disk_fails_the_batch),
        IN_TEMP_DIR(writer__quota_and_file_size_limit_are_a_full_disk),
        IN_TEMP_DIR(writer__full_disk_within_a_job_fails_the_batch),
        IN_TEMP_DIR(writer__full_disk_is_told_once_and_so_is_its_end),
        IN_TEMP_DIR(writer__counts_batches_and_the_commits_of_those_that_wrote),
        IN_TEMP_DIR(writer__full_disk_spares_urgent_jobs_that_have_not_run),
        IN_TEMP_DIR(writer__lack_of_memory_spares_urgent_jobs_that_have_not_run),
        IN_TEMP_DIR(writer__urgent_jobs_dont_wait_for_a_begin_that_fails),
        IN_TEMP_DIR(writer__full_disk_answers_urgent_reads_during_a_flood),
        IN_TEMP_DIR(writer__full_disk_empties_the_wal_under_load),
        IN_TEMP_DIR(writer__failed_fsync_is_fatal),
        IN_TEMP_DIR(writer__failed_checkpoint_is_fatal_but_the_job_is_committed),
        IN_TEMP_DIR(writer__locked_file_is_busy),
        IN_TEMP_DIR(writer__one_alone_runs_its_job_itself),
        IN_TEMP_DIR(writer__errors_of_ones_own_job_are_as_ever),
        IN_TEMP_DIR(writer__job_of_ones_own_may_submit),
        IN_TEMP_DIR(writer__others_come_while_one_runs_its_own_job),
        IN_TEMP_DIR(writer__who_is_done_runs_no_others_jobs),
        IN_TEMP_DIR(writer__who_ended_the_transaction_runs_no_others_jobs),
        IN_TEMP_DIR(writer__who_wakes_the_thread_goes_first),
        IN_TEMP_DIR(writer__slow_jobs_in_a_row_are_not_idleness),
        IN_TEMP_DIR(writer__full_disk_heals_for_one_alone),
        IN_TEMP_DIR(writer__failed_fsync_of_ones_own_job_is_fatal),
        IN_TEMP_DIR(writer__wal_of_ones_own_jobs_is_kept_small),
        IN_TEMP_DIR(writer__what_one_erases_leaves_the_wal),
        IN_TEMP_DIR(writer__idle_empties_the_wal),
        IN_TEMP_DIR(writer__serves_many_threads),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
