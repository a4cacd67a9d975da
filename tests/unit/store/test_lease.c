/* SPDX-License-Identifier: MIT */
/*
 * Readers keep their lock on the WAL, and nobody can tell but by the locks that are counted. A connection on
 * SQLite's own layer stands for another program.
 */
#include "store/lease.h"

#include "fault_vfs.h"
#include "store/db.h"
#include "temp_dir.h"

#include <pthread.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MANY_LOCKS = 1000000, WAL_MAX = 1 << 20 };

struct reader {
    struct db *db;
    struct stmt *count;
};

struct bench {
    struct db *writer;
    struct reader readers[2];
    sqlite3 *other;
};

static void exec(struct db *db, const char *sql)
{
    struct err err;

    if (db_exec(db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
}

static void open_reader(struct reader *r)
{
    struct err err;

    if (db_open(&r->db, "a.db", DB_READER, &err) < 0 ||
        stmt_new(&r->count, r->db, "SELECT count(*) FROM t", &err) < 0)
        fail_msg("%s", err.text);
    db_keep_locks(r->db);
}

/* -1 when it couldn't be read: err says why. */
static int64_t count_rows(struct reader *r, struct err *err)
{
    int64_t count = -1;

    if (stmt_step(r->count, err) == 1)
        count = stmt_int(r->count, 0);
    stmt_reset(r->count);
    return count;
}

static void reads(struct reader *r, int64_t count)
{
    struct err err = {0};
    int64_t found = count_rows(r, &err);

    if (found != count)
        fail_msg("%lld rows instead of %lld: %s", (long long)found, (long long)count, err.text);
}

static void start(struct bench *b)
{
    struct err err;

    fault_none();
    if (db_open(&b->writer, "a.db", DB_WRITER, &err) < 0)
        fail_msg("%s", err.text);
    exec(b->writer, "CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB); INSERT INTO t (b) VALUES (1)");
    for (int i = 0; i < 2; i++)
        open_reader(&b->readers[i]);
    assert_int_equal(sqlite3_open("a.db", &b->other), SQLITE_OK);
    sqlite3_wal_autocheckpoint(b->other, 0);
    /* Else it wouldn't know of the log yet. */
    assert_int_equal(sqlite3_exec(b->other, "SELECT count(*) FROM t", NULL, NULL, NULL), SQLITE_OK);
}

static void stop(struct bench *b)
{
    sqlite3_close(b->other);
    for (int i = 0; i < 2; i++)
        db_close(b->readers[i].db);
    db_close(b->writer);
}

/* Does another program get the whole log for itself? */
static bool other_empties_log(struct bench *b)
{
    return sqlite3_wal_checkpoint_v2(b->other, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) ==
           SQLITE_OK;
}

static void count_locks(void)
{
    atomic_store(&fault_shm_locks, MANY_LOCKS);
}

static long locks_taken(void)
{
    return MANY_LOCKS - atomic_load(&fault_shm_locks);
}

static long wal_size(void)
{
    struct stat st;

    return stat("a.db-wal", &st) == 0 ? (long)st.st_size : -1;
}

static void lease__who_reads_again_takes_no_lock(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    reads(&b.readers[0], 1);
    count_locks();
    for (int i = 0; i < 10; i++)
        reads(&b.readers[0], 1);
    assert_int_equal(locks_taken(), 0);
    db_end_kept_locks();
    reads(&b.readers[0], 1);
    assert_int_equal(locks_taken(), 1);
    stop(&b);
}

static void lease__commit_is_seen_at_once(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    for (int i = 1; i < 50; i++) {
        reads(&b.readers[0], i);
        if (i % 3 == 0)
            reads(&b.readers[1], i);
        exec(b.writer, "INSERT INTO t (b) VALUES (1)");
        reads(&b.readers[0], i + 1);
    }
    assert_int_equal(sqlite3_exec(b.other, "INSERT INTO t (b) VALUES (1)", NULL, NULL, NULL),
                     SQLITE_OK);
    reads(&b.readers[0], 51);
    stop(&b);
}

/* Neither one that was kept since the last commit, nor one from before. */
static void lease__kept_lock_is_not_in_the_writers_way(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    reads(&b.readers[0], 1);
    exec(b.writer, "INSERT INTO t (b) VALUES (1)");
    reads(&b.readers[1], 2);
    exec(b.writer, "INSERT INTO t (b) VALUES (1)");
    assert_int_equal(db_checkpoint(b.writer, NULL), 0);
    assert_int_equal(wal_size(), 0);
    reads(&b.readers[0], 3);
    assert_int_equal(db_checkpoint(b.writer, NULL), 0);
    stop(&b);
}

/* Whichever of the locks it is. */
static void lease__locks_of_several_moments_end_together(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(b.readers[0].db, "BEGIN");
    reads(&b.readers[0], 1);
    exec(b.writer, "INSERT INTO t (b) VALUES (1)");
    reads(&b.readers[1], 2);
    exec(b.readers[0].db, "COMMIT");
    assert_int_equal(db_checkpoint(b.writer, NULL), 0);
    stop(&b);
}

static void lease__log_is_begun_anew_while_readers_come(void **state)
{
    struct bench b;
    long size = 0;

    (void)state;
    start(&b);
    for (int i = 1; i < 400; i++) {
        reads(&b.readers[i % 2], i);
        exec(b.writer, "INSERT INTO t (b) VALUES (zeroblob(4000))");
        reads(&b.readers[0], i + 1);
        if (i % 10 == 0) /* what a program does that looks after the log: PASSIVE */
            sqlite3_wal_checkpoint_v2(b.other, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        size = wal_size() > size ? wal_size() : size;
    }
    assert_in_range(size, 1, WAL_MAX);
    stop(&b);
}

static void lease__other_programs_get_the_log_when_it_ends(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    reads(&b.readers[0], 1);
    exec(b.writer, "INSERT INTO t (b) VALUES (1)");
    reads(&b.readers[1], 2);
    assert_false(other_empties_log(&b));
    db_end_kept_locks();
    assert_true(other_empties_log(&b));
    reads(&b.readers[0], 2);
    stop(&b);
}

/* Who reads when all of the log is in the file already has the first lock, and keeps the file as it is. */
static void lease__first_lock_ends_too(void **state)
{
    struct bench b;
    int pages = 0, moved = 0;

    (void)state;
    start(&b);
    assert_int_equal(db_checkpoint(b.writer, NULL), 0);
    reads(&b.readers[0], 1);
    exec(b.writer, "INSERT INTO t (b) VALUES (1)");
    sqlite3_wal_checkpoint_v2(b.other, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved);
    assert_int_equal(moved, 0);
    db_end_kept_locks();
    sqlite3_wal_checkpoint_v2(b.other, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved);
    assert_true(pages > 0);
    assert_int_equal(moved, pages);
    stop(&b);
}

static void lease__lock_in_use_does_not_end(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(b.readers[0].db, "BEGIN");
    reads(&b.readers[0], 1);
    exec(b.writer, "INSERT INTO t (b) VALUES (1)");
    db_end_kept_locks();
    assert_int_equal(db_checkpoint(b.writer, NULL), ERR_BUSY);
    assert_false(other_empties_log(&b));
    reads(&b.readers[0], 1);
    exec(b.readers[0].db, "COMMIT");
    assert_int_equal(db_checkpoint(b.writer, NULL), 0);
    reads(&b.readers[0], 2);
    stop(&b);
}

static void lease__closed_reader_leaves_nothing(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    reads(&b.readers[0], 1);
    db_close(b.readers[0].db);
    assert_true(other_empties_log(&b));
    open_reader(&b.readers[0]);
    reads(&b.readers[0], 1);
    stop(&b);
}

static void lease__only_readers_that_ask_for_it_keep_theirs(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    db_close(b.readers[0].db);
    open_reader(&b.readers[0]);
    exec(b.writer, "SELECT count(*) FROM t");
    assert_true(other_empties_log(&b));
    stop(&b);
}

static void lease__lock_that_fails_is_tried_again(void **state)
{
    struct bench b;
    struct err err;

    (void)state;
    start(&b);
    atomic_store(&fault_shm_locks, 0);
    assert_int_equal(count_rows(&b.readers[0], &err), -1);
    assert_int_equal(err.code, ERR_FULL);
    fault_none();
    reads(&b.readers[0], 1);
    stop(&b);
}

/* ------------------------------------------------------------------------- many threads */

enum { COMMITS = 300 };

struct crowd {
    struct bench bench;
    atomic_int committed; /* rows */
    atomic_bool done;
    atomic_int wrong;
};

struct member {
    struct crowd *crowd;
    struct reader *reader;
};

/* What was committed before a look is seen in it. */
static void *read_on(void *arg)
{
    struct member *m = arg;
    struct err err;

    while (!atomic_load(&m->crowd->done)) {
        int committed = atomic_load(&m->crowd->committed);

        if (count_rows(m->reader, &err) < committed)
            atomic_fetch_add(&m->crowd->wrong, 1);
    }
    return NULL;
}

static void *end_on(void *arg)
{
    struct crowd *crowd = arg;

    while (!atomic_load(&crowd->done))
        db_end_kept_locks();
    return NULL;
}

static void lease__threads_read_while_one_writes(void **state)
{
    struct crowd crowd = {0};
    struct member members[2];
    pthread_t threads[3];
    struct err err;

    (void)state;
    start(&crowd.bench);
    for (int i = 0; i < 2; i++) {
        members[i] = (struct member){&crowd, &crowd.bench.readers[i]};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &members[i]), 0);
    }
    assert_int_equal(pthread_create(&threads[2], NULL, end_on, &crowd), 0);
    for (int i = 0; i < COMMITS; i++) {
        exec(crowd.bench.writer, "INSERT INTO t (b) VALUES (zeroblob(100))");
        atomic_store(&crowd.committed, i + 2);
        if (i % 10 == 0 && db_checkpoint(crowd.bench.writer, &err) < 0)
            assert_int_equal(err.code, ERR_BUSY); /* one reads right now */
    }
    atomic_store(&crowd.done, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    reads(&crowd.bench.readers[0], COMMITS + 1);
    assert_int_equal(db_checkpoint(crowd.bench.writer, NULL), 0);
    stop(&crowd.bench);
}

/* ------------------------------------------------------------------------- the locks themselves */

/* A real layer that has nothing but locks, each held once exclusively, or by as many as share it. */
enum { EXCLUSIVELY = -1, KEEPERS = 3, ROUNDS = 2000, FIRST_READ_LOCK = 3 };

static struct fake {
    pthread_mutex_t lock;
    int holders[SQLITE_SHM_NLOCK];
    bool keeps_all; /* nothing can be given back */
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct fake_file {
    sqlite3_file file;
    bool has[SQLITE_SHM_NLOCK];
};

static void fake_unlock(struct fake_file *f, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        if (f->has[i])
            fake.holders[i] = fake.holders[i] == EXCLUSIVELY ? 0 : fake.holders[i] - 1;
        f->has[i] = false;
    }
}

static int fake_lock(struct fake_file *f, int first, int count, bool exclusively)
{
    for (int i = first; i < first + count; i++)
        if (fake.holders[i] == EXCLUSIVELY || (exclusively && fake.holders[i] > 0))
            return SQLITE_BUSY;
    for (int i = first; i < first + count; i++) {
        fake.holders[i] = exclusively ? EXCLUSIVELY : fake.holders[i] + !f->has[i];
        f->has[i] = true;
    }
    return SQLITE_OK;
}

static int fake_shm_lock(sqlite3_file *file, int first, int count, int flags)
{
    struct fake_file *f = (struct fake_file *)file;
    int rc = SQLITE_OK;

    if (flags & SQLITE_SHM_UNLOCK)
        usleep(10); /* somebody may come meanwhile */
    pthread_mutex_lock(&fake.lock);
    if (flags & SQLITE_SHM_LOCK)
        rc = fake_lock(f, first, count, flags & SQLITE_SHM_EXCLUSIVE);
    else if (fake.keeps_all)
        rc = SQLITE_IOERR_UNLOCK;
    else
        fake_unlock(f, first, count);
    pthread_mutex_unlock(&fake.lock);
    return rc;
}

static const sqlite3_io_methods fake_methods = {.iVersion = 3, .xShmLock = fake_shm_lock};

struct keeper {
    struct fake_file file;
    struct lease lease;
    uint64_t random;
    atomic_bool *done;
    int wrong;
};

static void keeper_init(struct keeper *k)
{
    *k = (struct keeper){.file.file.pMethods = &fake_methods};
    lease_init(&k->lease, &fake_methods, &k->file.file);
}

static int keeper_lock(struct keeper *k, int first, int count, int how)
{
    return lease_lock(&k->lease, first, count, SQLITE_SHM_LOCK | how);
}

static void keeper_unlock(struct keeper *k, int first, int count, int how)
{
    assert_int_equal(lease_lock(&k->lease, first, count, SQLITE_SHM_UNLOCK | how), SQLITE_OK);
}

static int holders_of(int lock)
{
    int holders;

    pthread_mutex_lock(&fake.lock);
    holders = fake.holders[lock];
    pthread_mutex_unlock(&fake.lock);
    return holders;
}

/* Takes locks at random; what it is told that it has, it must have. */
static void *take_at_random(void *arg)
{
    struct keeper *k = arg;

    for (int i = 0; i < ROUNDS; i++) {
        bool exclusively = fault_random(&k->random) % 8 == 0;
        int how = exclusively ? SQLITE_SHM_EXCLUSIVE : SQLITE_SHM_SHARED;
        int lock = FIRST_READ_LOCK +
                   (int)(fault_random(&k->random) % (SQLITE_SHM_NLOCK - FIRST_READ_LOCK));

        if (keeper_lock(k, lock, 1, how) == SQLITE_OK) {
            k->wrong += exclusively ? holders_of(lock) != EXCLUSIVELY : holders_of(lock) <= 0;
            keeper_unlock(k, lock, 1, how);
        }
        if (fault_random(&k->random) % 100 == 0) {
            lease_leave(&k->lease);
            lease_keep(&k->lease);
        }
    }
    return NULL;
}

/* As a writer that begins the log anew. */
static void *take_several(void *arg)
{
    enum { FIRST = FIRST_READ_LOCK + 1, COUNT = SQLITE_SHM_NLOCK - FIRST };
    struct keeper *k = arg;

    while (!atomic_load(k->done)) {
        if (keeper_lock(k, FIRST, COUNT, SQLITE_SHM_EXCLUSIVE) != SQLITE_OK)
            continue;
        for (int i = FIRST; i < SQLITE_SHM_NLOCK; i++)
            k->wrong += holders_of(i) != EXCLUSIVELY;
        keeper_unlock(k, FIRST, COUNT, SQLITE_SHM_EXCLUSIVE);
    }
    return NULL;
}

static void *end_all(void *arg)
{
    struct keeper *k = arg;

    while (!atomic_load(k->done))
        lease_end_all();
    return NULL;
}

static void lease__no_lock_is_lost_or_left(void **state)
{
    struct keeper keepers[KEEPERS], writer;
    pthread_t threads[KEEPERS], writing, ending;
    atomic_bool done = false;
    int wrong = 0;

    (void)state;
    keeper_init(&writer);
    writer.done = &done;
    for (int i = 0; i < KEEPERS; i++) {
        keeper_init(&keepers[i]);
        keepers[i].random = (uint64_t)i + 1;
        lease_keep(&keepers[i].lease);
        assert_int_equal(pthread_create(&threads[i], NULL, take_at_random, &keepers[i]), 0);
    }
    assert_int_equal(pthread_create(&writing, NULL, take_several, &writer), 0);
    assert_int_equal(pthread_create(&ending, NULL, end_all, &writer), 0);
    for (int i = 0; i < KEEPERS; i++) {
        pthread_join(threads[i], NULL);
        wrong += keepers[i].wrong;
    }
    atomic_store(&done, true);
    pthread_join(writing, NULL);
    pthread_join(ending, NULL);
    assert_int_equal(wrong + writer.wrong, 0);
    lease_end_all();
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++)
        assert_int_equal(fake.holders[i], 0);
    for (int i = 0; i < KEEPERS; i++)
        lease_leave(&keepers[i].lease);
}

static void lease__lock_that_cannot_be_given_back_is_still_held(void **state)
{
    struct keeper keeper, other;

    (void)state;
    keeper_init(&keeper);
    keeper_init(&other);
    lease_keep(&keeper.lease);
    assert_int_equal(keeper_lock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED), SQLITE_OK);
    keeper_unlock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED);
    fake.keeps_all = true;
    assert_int_equal(keeper_lock(&other, FIRST_READ_LOCK, 1, SQLITE_SHM_EXCLUSIVE), SQLITE_BUSY);
    fake.keeps_all = false;
    assert_int_equal(keeper_lock(&other, FIRST_READ_LOCK, 1, SQLITE_SHM_EXCLUSIVE), SQLITE_OK);
    assert_int_equal(keeper_lock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED), SQLITE_BUSY);
    keeper_unlock(&other, FIRST_READ_LOCK, 1, SQLITE_SHM_EXCLUSIVE);

    assert_int_equal(keeper_lock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED), SQLITE_OK);
    keeper_unlock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED);
    fake.keeps_all = true;
    lease_leave(&keeper.lease);
    fake.keeps_all = false;
    fake_unlock(&keeper.file, FIRST_READ_LOCK, 1); /* with its file */
    lease_keep(&keeper.lease);
    assert_int_equal(keeper_lock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED), SQLITE_OK);
    assert_int_equal(holders_of(FIRST_READ_LOCK), 1);
    keeper_unlock(&keeper, FIRST_READ_LOCK, 1, SQLITE_SHM_SHARED);
    lease_leave(&keeper.lease);
}

/* A writer's, and others': only what is known to be a reader's is kept. */
static void lease__other_locks_are_given_back_at_once(void **state)
{
    struct keeper keeper;

    (void)state;
    keeper_init(&keeper);
    lease_keep(&keeper.lease);
    for (int lock = 0; lock < FIRST_READ_LOCK; lock++) {
        assert_int_equal(keeper_lock(&keeper, lock, 1, SQLITE_SHM_SHARED), SQLITE_OK);
        keeper_unlock(&keeper, lock, 1, SQLITE_SHM_SHARED);
        assert_int_equal(holders_of(lock), 0);
    }
    lease_leave(&keeper.lease);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(lease__who_reads_again_takes_no_lock),
        IN_TEMP_DIR(lease__commit_is_seen_at_once),
        IN_TEMP_DIR(lease__kept_lock_is_not_in_the_writers_way),
        IN_TEMP_DIR(lease__locks_of_several_moments_end_together),
        IN_TEMP_DIR(lease__log_is_begun_anew_while_readers_come),
        IN_TEMP_DIR(lease__other_programs_get_the_log_when_it_ends),
        IN_TEMP_DIR(lease__first_lock_ends_too),
        IN_TEMP_DIR(lease__lock_in_use_does_not_end),
        IN_TEMP_DIR(lease__closed_reader_leaves_nothing),
        IN_TEMP_DIR(lease__only_readers_that_ask_for_it_keep_theirs),
        IN_TEMP_DIR(lease__lock_that_fails_is_tried_again),
        IN_TEMP_DIR(lease__threads_read_while_one_writes),
        cmocka_unit_test(lease__no_lock_is_lost_or_left),
        cmocka_unit_test(lease__lock_that_cannot_be_given_back_is_still_held),
        cmocka_unit_test(lease__other_locks_are_given_back_at_once),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
