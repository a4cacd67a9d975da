/* SPDX-License-Identifier: MIT */
/*
 * What a batch goes through, whoever holds the writer:
 *
 *   STOPPED --start--> IDLE --take--> RUNNING --jobs done--> COMMITTING --+
 *                       ^ ^             |  ^ |                 |          |
 *                       | |             +--+ |                 |          |
 *                       | |            again +----- lost ------+          |
 *                       | +------- report ----------+                     |
 *                       +---------- report -------------------------------+
 *
 *   STOPPED    -> IDLE         writer_start
 *   IDLE       -> RUNNING      wait_for_jobs or stand_in, begin
 *   RUNNING    -> RUNNING      drop_culprit: one job ended the transaction, or can't be undone
 *                              alone; the others begin again
 *   RUNNING    -> COMMITTING   run_batch
 *   COMMITTING -> IDLE         report_batch
 *   RUNNING, COMMITTING -> IDLE   lose_batch: disk full, no memory, somebody holds the file;
 *                              urgent jobs that haven't run may stay in rush
 *   any        -> FAILED       fail_writer: every job that waits is answered, the thread ends
 *   IDLE, FAILED -> STOPPED    writer_stop
 *
 * In RUNNING and COMMITTING: a transaction is open; w->lock is NOT held, except to take urgent
 * jobs; no job in the batch is reachable from the queues. In IDLE: no transaction is open, ran is
 * empty, and rush and todo hold only what a batch that was cut short or lost left over.
 *
 * A job is in exactly one list: urgent or normal (waiting), rush or todo (taken), ran (run, not
 * reported), or none while it runs.
 *
 * One thread at a time holds the writer, and with it all that is the holder's:
 *
 *                  submit, or too long quiet               stand_in
 *     HELD_BY_THREAD <-------------------- HELD_BY_NOBODY ----------> HELD_BY_GUEST
 *           |  ^                             ^       ^                   |    |
 *           |  |                             |       +-- stop_standing_in     |
 *           |  |                             |                                |
 *           +--|---- sleep_until_called -----+                                |
 *              +---------- stop_standing_in: something is left to do ---------+
 *
 * While a guest holds it the thread sleeps. What comes meanwhile joins the guest's batch, or is left to the
 * thread; so are checkpoints, and the end after ERR_FATAL.
 */
#include "store/writer.h"

#include "base/clock.h"
#include "base/thread.h"
#include "store/memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    IDLE_MS = 1000, /* that long without jobs, and the WAL is emptied */
    ALONE_MIN = 8,  /* so many jobs in a row that were alone, and whoever has the next may run it */
};

const struct metric_scale writer_batch_scale = {
    .bounds = {1, 2, 4, 8, 16, 32, 64, 128, 256}, .count = 9, .unit = 1};

/* A token for clang: what is marked with it is called by the writer's thread only, its own or a guest. */
struct THREAD_ROLE("writer thread") writer_role {
    char unused;
};
extern struct writer_role writer_thread;

enum holder {
    HELD_BY_NOBODY, /* the thread sleeps */
    HELD_BY_THREAD, /* or it has been called */
    HELD_BY_GUEST,  /* by one that submits; the thread sleeps */
};

struct job_list {
    struct writer_job *first, **end;
    size_t count;
};

struct writer {
    struct writer_opts opts;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job_list urgent, normal; /* guarded by lock */
    enum holder holder;             /* guarded by lock */
    bool has_alarm;                 /* guarded by lock: the thread that sleeps wakes up by itself */
    bool stopping;                  /* guarded by lock */
    bool failed;                    /* guarded by lock */
    atomic_bool has_urgent;         /* urgent isn't empty; a hint that is read without the lock */
    atomic_bool has_normal;         /* the same of normal */
    _Atomic int64_t full_since_ms;  /* writer_state's; set by the writer thread */
    struct writer_counts counts;

    /* The holder's own, from here on; with the lock and no holder, anybody's to read. */
    struct db *db;
    struct memory_store *store; /* of SQLite's blocks */
    struct stmt *begin, *commit, *rollback, *savepoint, *release, *undo;
    struct job_list rush, todo, ran;
    size_t runs;        /* jobs run in the open transaction */
    bool is_batch_over; /* a job that ends its batch is among them */
    bool has_written;   /* one of them has */
    int64_t batch_began_ns;
    int64_t commit_ns;      /* how long a COMMIT that wrote takes, of late */
    int64_t next_room_ms;   /* make_room does nothing before */
    int64_t quiet_since_ms; /* when something was last written, or the WAL was to be emptied */
    unsigned alone;         /* so many batches in a row had one job, and nothing waited behind it */
    const struct writer_job *guest_job; /* the guest's own, until it is reported */
    bool is_guest_done;                 /* it is: the guest is to be let go */
    int guest_rc;   /* of the last guest's batch: the thread is to look after it */
    struct err err; /* of the job or statement at hand */
};

/* What writer_run waits with. */
struct writer_call {
    sem_t done;
    int rc;
    struct err *err; /* the caller's; may be NULL */
};

/* The writer that the calling thread holds. */
static _Thread_local const struct writer *held;

/* ------------------------------------------------------------------- lists */

static void list_init(struct job_list *list)
{
    list->first = NULL;
    list->end = &list->first;
    list->count = 0;
}

static void list_push(struct job_list *list, struct writer_job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
    list->count++;
}

static struct writer_job *list_pop(struct job_list *list)
{
    struct writer_job *job = list->first;

    if (!job)
        return NULL;
    list->first = job->next;
    if (!list->first)
        list->end = &list->first;
    list->count--;
    job->next = NULL;
    return job;
}

/* All of from goes to the end of to. */
static void list_append(struct job_list *to, struct job_list *from)
{
    if (!from->first)
        return;
    *to->end = from->first;
    to->end = from->end;
    to->count += from->count;
    list_init(from);
}

static void list_prepend(struct job_list *to, struct job_list *from)
{
    list_append(from, to);
    list_append(to, from);
}

/* -------------------------------------------------------------- submitting */

static int check_open(const struct writer *w, struct err *err)
{
    if (w->failed)
        return err_set(err, ERR_CLOSED, "the database was given up after an error");
    if (w->stopping)
        return err_set(err, ERR_CLOSED, "the database is closing");
    return 0;
}

/* The lock is held, by one that holds the writer; or nobody does. */
static bool has_jobs(const struct writer *w)
{
    return w->urgent.first || w->normal.first || w->rush.first || w->todo.first;
}

/*
 * To stand in saves two changes of threads, which cost one who comes alone more than all the rest but the
 * disk. But where others come meanwhile the writer changes hands all the time, and that costs more: then it
 * is better for the thread to go on. The lock is held.
 */
static bool may_stand_in(const struct writer *w)
{
    return w->holder == HELD_BY_NOBODY && w->alone >= ALONE_MIN && !has_jobs(w);
}

/* The lock is held. True: the thread is to be woken. */
static bool enqueue(struct writer *w, struct writer_job *job)
{
    list_push(job->urgent ? &w->urgent : &w->normal, job);
    atomic_store_explicit(job->urgent ? &w->has_urgent : &w->has_normal, true,
                          memory_order_relaxed);
    if (w->holder != HELD_BY_NOBODY)
        return false;
    w->holder = HELD_BY_THREAD; /* one wake-up is enough */
    return true;
}

static void stand_in(struct writer *w, struct writer_job *job);

int writer_submit(struct writer *writer, struct writer_job *job, struct err *err)
{
    const struct job_list *queue = job->urgent ? &writer->urgent : &writer->normal;
    bool stands_in = false, wake = false;
    int rc;

    job->rc = 0;
    job->err = NULL;
    pthread_mutex_lock(&writer->lock);
    rc = check_open(writer, err);
    if (rc == 0 && queue->count >= writer->opts.max_queue)
        rc = err_set(err, ERR_BUSY, "the database has too many jobs waiting (%zu)", queue->count);
    if (rc == 0) {
        stands_in = job->is_waited_for && may_stand_in(writer);
        if (stands_in)
            writer->holder = HELD_BY_GUEST;
        else
            wake = enqueue(writer, job);
    }
    pthread_mutex_unlock(&writer->lock);
    if (wake)
        pthread_cond_signal(&writer->wake);
    if (stands_in)
        stand_in(writer, job);
    return rc;
}

static void finish_call(struct writer_job *job, int rc, const struct err *err)
{
    struct writer_call *call = job->call;

    call->rc = rc < 0 ? err_set(call->err, rc, "%s", err->text) : 0;
    sem_post(&call->done); /* job and call are gone from here on */
}

int writer_run(struct writer *writer, struct writer_job *job, struct err *err)
{
    struct writer_call call = {.err = err};
    int rc;

    assert(held != writer);
    sem_init(&call.done, 0, 0);
    job->call = &call;
    job->done = finish_call;
    job->is_waited_for = true;
    thread_wait_begin();
    rc = writer_submit(writer, job, err);
    if (rc == 0) {
        while (sem_wait(&call.done) < 0 && errno == EINTR)
            ;
        rc = call.rc;
    }
    thread_wait_end();
    sem_destroy(&call.done);
    return rc;
}

/* --------------------------------------------------------------- reporting */

static void report(struct writer *w, struct writer_job *job, int rc, const struct err *err)
    ON_THREAD(writer_thread)
{
    free(job->err);
    job->err = NULL;
    if (job == w->guest_job) {
        w->guest_job = NULL;
        w->is_guest_done = true;
    }
    job->done(job, rc, err);
}

/* With its own result. */
static void report_result(struct writer *w, struct writer_job *job) ON_THREAD(writer_thread)
{
    static const struct err none = {0};
    struct err *own = job->err;
    int rc = job->rc;
    struct err unknown;

    job->err = NULL;
    if (rc < 0 && !own)
        err_set(&unknown, rc, "the job failed, and there was no memory to say how");
    report(w, job, rc, rc == 0 ? &none : own ? own : &unknown);
    free(own);
}

static void report_all(struct writer *w, struct job_list *list, const struct err *err)
    ON_THREAD(writer_thread)
{
    struct writer_job *job;

    while ((job = list_pop(list)))
        report(w, job, err->code, err);
}

static void report_batch(struct writer *w) ON_THREAD(writer_thread)
{
    struct writer_job *job;

    while ((job = list_pop(&w->ran)))
        report_result(w, job);
}

/* ----------------------------------------------------------------- a batch */

static void take_urgent(struct writer *w) ON_THREAD(writer_thread)
{
    if (!atomic_load_explicit(&w->has_urgent, memory_order_relaxed))
        return;
    pthread_mutex_lock(&w->lock);
    list_append(&w->rush, &w->urgent);
    atomic_store_explicit(&w->has_urgent, false, memory_order_relaxed);
    pthread_mutex_unlock(&w->lock);
}

/* No more than a batch's worth: the rest shall be counted as waiting. */
static void take_normal(struct writer *w) ON_THREAD(writer_thread)
{
    if (!atomic_load_explicit(&w->has_normal, memory_order_relaxed))
        return;
    pthread_mutex_lock(&w->lock);
    while (w->normal.first && w->todo.count < w->opts.max_batch)
        list_push(&w->todo, list_pop(&w->normal));
    atomic_store_explicit(&w->has_normal, w->normal.first != NULL, memory_order_relaxed);
    pthread_mutex_unlock(&w->lock);
}

static int begin(struct writer *w) ON_THREAD(writer_thread)
{
    db_clear_trouble(w->db);
    w->runs = 0;
    w->is_batch_over = false;
    w->has_written = false;
    return stmt_run(w->begin, &w->err);
}

/* Let go of what is left of the transaction. Where even that fails nothing can be trusted. */
static int rollback(struct writer *w, struct err *err) ON_THREAD(writer_thread)
{
    if (!db_in_transaction(w->db))
        return 0;
    db_reset_statements(w->db);
    if (stmt_run(w->rollback, err) == 0)
        return 0;
    err->code = ERR_FATAL;
    return ERR_FATAL;
}

static bool is_full(const struct writer *w)
{
    return atomic_load_explicit(&w->full_since_ms, memory_order_relaxed) != 0;
}

/* Before anybody is told of the batch: who is turned away can ask why. */
static void note_full(struct writer *w, bool full) ON_THREAD(writer_thread)
{
    if (is_full(w) == full)
        return;
    atomic_store_explicit(&w->full_since_ms, full ? clock_wall_ms() : 0, memory_order_relaxed);
    if (w->opts.on_full)
        w->opts.on_full(w->opts.arg, full);
}

/*
 * Nothing of the batch remains: what has run gets why, and so do the normal jobs that haven't. But
 * an urgent one that hasn't may need no room at all, and gets its turn in the next batch. That ends:
 * a batch in which nothing ran (its BEGIN failed) keeps nobody, any other has one job less.
 */
static int lose_batch(struct writer *w, struct err *why) ON_THREAD(writer_thread)
{
    rollback(w, why);
    if (why->code == ERR_FULL)
        note_full(w, true);
    report_all(w, &w->ran, why);
    if (w->runs == 0 || (why->code != ERR_FULL && why->code != ERR_NOMEM))
        report_all(w, &w->rush, why);
    report_all(w, &w->todo, why);
    return why->code;
}

static bool is_everybodys(int code)
{
    return code == ERR_FULL || code == ERR_FATAL || code == ERR_NOMEM;
}

/*
 * The transaction was lost while job ran, or has to be given up for it; rc is what it returned. Disk and
 * memory are nobody's fault and everybody's loss. Else it was the job's own doing: it is reported, with
 * the error that it has itself, which says more than the statement that was ended; and the others begin
 * again.
 */
static int drop_culprit(struct writer *w, struct writer_job *job, int rc) ON_THREAD(writer_thread)
{
    struct err why = w->err;
    int code = db_trouble(w->db);

    if (code && (rc >= 0 || !why.code || is_everybodys(code)))
        err_set(&why, code, "%s", db_trouble_text(w->db));
    else if (!why.code)
        err_set(&why, ERR_INVALID, "the job ended the transaction that it ran in");
    if (is_everybodys(code)) {
        list_push(&w->ran, job);
        return lose_batch(w, &why);
    }
    if (rollback(w, &why) < 0) {
        list_push(&w->ran, job);
        return lose_batch(w, &why);
    }
    report(w, job, why.code, &why);
    for (struct writer_job *other = w->ran.first; other; other = other->next) {
        free(other->err);
        other->err = NULL;
    }
    list_prepend(&w->todo, &w->ran);
    if (begin(w) < 0) {
        why = w->err;
        return lose_batch(w, &why);
    }
    return 0;
}

static void keep_result(struct writer *w, struct writer_job *job, int rc, bool changed)
    ON_THREAD(writer_thread)
{
    job->rc = rc;
    w->has_written |= changed && rc == 0;
    if (rc < 0) {
        job->err = malloc(sizeof(*job->err));
        if (job->err)
            err_set(job->err, rc, "%s", w->err.text);
    }
    if (job->urgent && (rc < 0 || !changed))
        report_result(w, job);
    else
        list_push(&w->ran, job);
}

/* Undo what the job wrote, rc being its error. False when that can't be done for it alone. */
static bool undo_job(struct writer *w, struct writer_job *job, int rc, bool changed)
    ON_THREAD(writer_thread)
{
    struct err undo_err;

    if (job->without_savepoint) {
        if (changed && !w->err.code)
            err_set(&w->err, rc, "the job failed");
        return !changed;
    }
    if (stmt_run(w->undo, &undo_err) == 0)
        return true;
    w->err = undo_err;
    return false;
}

/* Returns 0, whatever the job's own result; or an error when the batch was lost. */
static int run_job(struct writer *w, struct writer_job *job) ON_THREAD(writer_thread)
{
    int64_t changes = db_total_changes(w->db);
    bool has_savepoint = !job->without_savepoint, changed;
    int rc;

    w->runs++;
    w->is_batch_over = job->ends_batch;
    w->err.code = 0;
    w->err.text[0] = '\0';
    if (has_savepoint && stmt_run(w->savepoint, &w->err) < 0)
        return drop_culprit(w, job, 0);
    db_hold_transaction(w->db, true);
    rc = job->run(job, w->db, &w->err);
    db_reset_statements(w->db);
    db_hold_transaction(w->db, false);
    if (db_trouble(w->db) || !db_in_transaction(w->db))
        return drop_culprit(w, job, rc);
    if (rc >= 0 && db_has_broken_references(w->db))
        rc = err_set(&w->err, ERR_CONFLICT, "FOREIGN KEY constraint failed");
    changed = db_total_changes(w->db) != changes;
    if (rc < 0 && !undo_job(w, job, rc, changed))
        return drop_culprit(w, job, 0);
    if (has_savepoint && stmt_run(w->release, rc < 0 ? NULL : &w->err) < 0)
        return drop_culprit(w, job, 0);
    keep_result(w, job, rc < 0 ? rc : 0, changed);
    return 0;
}

/*
 * Always room for one job, so that every batch gets on. But a guest whose own job is reported (it has changed
 * nothing) runs no other's: somebody waits for what it has to do next.
 */
static bool has_room(const struct writer *w) ON_THREAD(writer_thread)
{
    if (w->is_batch_over || w->is_guest_done)
        return false;
    return w->runs == 0 ||
           (w->runs < w->opts.max_batch &&
            clock_mono_ns() - w->batch_began_ns < w->opts.max_batch_ms * INT64_C(1000000));
}

/*
 * What comes while a batch runs is taken in: one COMMIT for all costs less than two. But those who have
 * run wait for it, so only for as long as a COMMIT takes. From then on it is better to let them go: while
 * the disk works, and the next batch runs, they come back with what they have next. Were everybody in one
 * batch, the writer and they would only ever wait for each other.
 */
static bool takes_more(const struct writer *w) ON_THREAD(writer_thread)
{
    return !w->ran.first || clock_mono_ns() - w->batch_began_ns < w->commit_ns;
}

/* After each round of urgent jobs a normal one has its turn, if it was taken. */
static int run_jobs(struct writer *w) ON_THREAD(writer_thread)
{
    int rc = 0;

    while (rc == 0 && has_room(w)) {
        take_urgent(w);
        if (!w->todo.first && takes_more(w))
            take_normal(w);
        if (!w->rush.first && !w->todo.first)
            break;
        while (rc == 0 && w->rush.first && has_room(w))
            rc = run_job(w, list_pop(&w->rush));
        if (rc == 0 && w->todo.first && has_room(w))
            rc = run_job(w, list_pop(&w->todo));
    }
    return rc;
}

/* A single one, held up for once by what else the disk has to do, counts for an eighth. */
static void note_commit_time(struct writer *w, int64_t ns) ON_THREAD(writer_thread)
{
    w->commit_ns += (ns - w->commit_ns) / 8;
    metric_observe(&w->counts.commits, &metric_scale_seconds, (uint64_t)ns);
}

/* How long it took is the disk's time, when there was something to write. */
static int commit(struct writer *w, struct err *err) ON_THREAD(writer_thread)
{
    int64_t began_ns = w->has_written ? clock_mono_ns() : 0;
    int rc = stmt_run(w->commit, err);

    if (rc < 0)
        return rc;
    metric_observe(&w->counts.batches, &writer_batch_scale, w->runs);
    if (w->has_written) {
        int64_t now_ns = clock_mono_ns();

        note_commit_time(w, now_ns - began_ns);
        w->quiet_since_ms = now_ns / 1000000;
        note_full(w, false);
    }
    return 0;
}

/* As far as one can see without the lock. */
static bool has_waiting(const struct writer *w)
{
    return atomic_load_explicit(&w->has_urgent, memory_order_relaxed) ||
           atomic_load_explicit(&w->has_normal, memory_order_relaxed);
}

/* Returns 0 when the batch was committed; else it has been lost. */
static int run_batch(struct writer *w) ON_THREAD(writer_thread)
{
    struct err why;
    int rc;

    w->batch_began_ns = clock_mono_ns();
    rc = begin(w);
    if (rc < 0) {
        why = w->err;
        return lose_batch(w, &why);
    }
    rc = run_jobs(w);
    if (rc < 0)
        return rc;
    rc = commit(w, &why);
    if (rc < 0)
        return lose_batch(w, &why);
    w->alone = w->runs == 1 && !has_waiting(w) ? w->alone + 1 : 0;
    report_batch(w);
    return 0;
}

/* -------------------------------------------------------------- the thread */

/* From here on the calling thread is the writer's. */
static void hold(struct writer *w) ENTERS_THREAD(writer_thread)
{
    held = w;
    memory_use_store(w->store);
}

static void let_go(void)
{
    memory_use_store(NULL);
    held = NULL;
}

/* Until nothing was written for long enough; 0: that is so. */
static int64_t quiet_in_ms(const struct writer *w)
{
    int64_t left_ms = w->quiet_since_ms + IDLE_MS - clock_mono_ms();

    return left_ms > 0 ? left_ms : 0;
}

/*
 * Called and left with the lock held, by the thread. False: it was called. True: it has woken up by itself, since
 * nothing was written for a while, and there is something in the WAL.
 */
static bool sleep_until_called(struct writer *w) ON_THREAD(writer_thread)
{
    bool is_quiet = false;

    w->holder = HELD_BY_NOBODY;
    while (w->holder != HELD_BY_THREAD) {
        w->has_alarm = w->holder == HELD_BY_NOBODY && db_wal_pages(w->db) > 0;
        if (w->has_alarm) {
            struct timespec until = thread_after_ms(quiet_in_ms(w));

            pthread_cond_clockwait(&w->wake, &w->lock, CLOCK_MONOTONIC, &until);
            is_quiet = w->holder == HELD_BY_NOBODY && quiet_in_ms(w) == 0;
        } else {
            pthread_cond_wait(&w->wake, &w->lock); /* a guest sees that there is no alarm */
        }
        if (is_quiet)
            w->holder = HELD_BY_THREAD;
    }
    return is_quiet;
}

/*
 * Nothing was written for a while: empty the WAL, which may hold what was erased from the file, and give
 * memory back. A reader in the way, or a full disk: again a while later.
 */
static int tidy_up(struct writer *w) ON_THREAD(writer_thread)
{
    int rc = db_checkpoint(w->db, &w->err);

    w->quiet_since_ms = clock_mono_ms();
    if (rc == 0) {
        memory_store_empty(w->store);
        db_shrink(w->db);
    }
    return rc == ERR_FATAL ? rc : 0;
}

/*
 * After a batch that a full disk has lost: emptying the WAL may be all the room that is needed, and
 * under load nobody would be idle to do it. When that fails there is none, and the next try waits.
 */
static int make_room(struct writer *w) ON_THREAD(writer_thread)
{
    int64_t now_ms = clock_mono_ms();
    int rc;

    if (now_ms < w->next_room_ms || db_wal_pages(w->db) == 0)
        return 0;
    w->next_room_ms = now_ms + IDLE_MS;
    rc = db_checkpoint(w->db, &w->err);
    return rc == ERR_FATAL ? rc : 0;
}

/* What there is to do behind a batch, its answers being out. */
static int look_after(struct writer *w, int rc) ON_THREAD(writer_thread)
{
    if (rc == 0)
        return db_checkpoint_due(w->db, &w->err);
    if (rc == ERR_FULL)
        return make_room(w);
    return rc;
}

/* Returns 1 with jobs in rush and todo, 0 when there will be none, or ERR_FATAL. */
static int wait_for_jobs(struct writer *w) ON_THREAD(writer_thread)
{
    int rc = 0;

    pthread_mutex_lock(&w->lock);
    while (rc != ERR_FATAL && !has_jobs(w) && !w->stopping) {
        bool is_quiet = sleep_until_called(w);

        if (has_jobs(w) && w->guest_rc == 0)
            break; /* whatever else there is to do is done behind them */
        pthread_mutex_unlock(&w->lock);
        rc = is_quiet ? tidy_up(w) : look_after(w, w->guest_rc);
        w->guest_rc = 0;
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    if (rc == ERR_FATAL)
        return rc;
    take_normal(w);
    take_urgent(w);
    return w->todo.first || w->rush.first;
}

/* Is there anything for the thread to do? The lock is held. */
static bool has_left_something(const struct writer *w)
{
    bool has_alarm = w->has_alarm || db_wal_pages(w->db) == 0;

    return w->guest_rc != 0 || has_jobs(w) || w->stopping || db_wants_checkpoint(w->db) ||
           !has_alarm;
}

static void stop_standing_in(struct writer *w, int rc)
{
    bool call;

    let_go();
    pthread_mutex_lock(&w->lock);
    w->guest_rc = rc;
    call = has_left_something(w);
    w->holder = call ? HELD_BY_THREAD : HELD_BY_NOBODY;
    pthread_mutex_unlock(&w->lock);
    if (call)
        pthread_cond_signal(&w->wake);
}

/* The calling thread holds the writer, and runs a batch that begins with the job. */
static void stand_in(struct writer *w, struct writer_job *job)
{
    int rc;

    hold(w);
    w->guest_job = job;
    list_push(job->urgent ? &w->rush : &w->todo, job);
    rc = run_batch(w); /* the job is its owner's again, or left to the thread */
    w->guest_job = NULL;
    w->is_guest_done = false;
    stop_standing_in(w, rc);
}

static void fail_writer(struct writer *w) ON_THREAD(writer_thread)
{
    struct err why;

    err_set(&why, ERR_FATAL, "%s", db_trouble(w->db) ? db_trouble_text(w->db) : w->err.text);
    pthread_mutex_lock(&w->lock);
    w->failed = true;
    list_append(&w->rush, &w->urgent);
    list_append(&w->todo, &w->normal);
    pthread_mutex_unlock(&w->lock);
    report_all(w, &w->rush, &why);
    report_all(w, &w->todo, &why);
    if (w->opts.on_fatal)
        w->opts.on_fatal(w->opts.arg, &why);
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    int rc;

    hold(w);
    while ((rc = wait_for_jobs(w)) > 0) {
        rc = look_after(w, run_batch(w));
        if (rc == ERR_FATAL)
            break;
    }
    if (rc == ERR_FATAL)
        fail_writer(w);
    let_go();
    return NULL;
}

/* ----------------------------------------------------------------- watching */

const struct writer_counts *writer_counts(const struct writer *writer)
{
    return &writer->counts;
}

void writer_get_state(struct writer *writer, struct writer_state *out)
{
    pthread_mutex_lock(&writer->lock);
    out->urgent = writer->urgent.count;
    out->normal = writer->normal.count;
    pthread_mutex_unlock(&writer->lock);
    out->full_since_ms = atomic_load_explicit(&writer->full_since_ms, memory_order_relaxed);
}

/* ----------------------------------------------------------- start and stop */

static int prepare(struct writer *w, struct err *err)
{
    const struct {
        struct stmt **stmt;
        const char *sql;
    } all[] = {
        {&w->begin, "BEGIN IMMEDIATE"},
        {&w->commit, "COMMIT"},
        {&w->rollback, "ROLLBACK"},
        {&w->savepoint, "SAVEPOINT \"writer job\""},
        {&w->release, "RELEASE \"writer job\""},
        {&w->undo, "ROLLBACK TO \"writer job\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int rc = stmt_new(all[i].stmt, w->db, all[i].sql, err);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static void free_writer(struct writer *w)
{
    stmt_free(w->begin);
    stmt_free(w->commit);
    stmt_free(w->rollback);
    stmt_free(w->savepoint);
    stmt_free(w->release);
    stmt_free(w->undo);
    memory_store_free(w->store);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

int writer_start(struct writer **out, const struct writer_opts *opts, struct err *err)
{
    struct writer *w = calloc(1, sizeof(*w));
    int rc;

    assert(opts->max_queue > 0 && opts->max_batch > 0);
    if (w)
        w->store = memory_store_new();
    if (!w || !w->store) {
        free(w);
        return err_set(err, ERR_NOMEM, "cannot start the database's writer: out of memory");
    }
    w->opts = *opts;
    w->db = opts->db;
    list_init(&w->urgent);
    list_init(&w->normal);
    list_init(&w->rush);
    list_init(&w->todo);
    list_init(&w->ran);
    w->holder = HELD_BY_THREAD; /* until it sleeps */
    w->quiet_since_ms = clock_mono_ms();
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    rc = prepare(w, err);
    if (rc == 0)
        rc = thread_start(&w->thread, "writer", writer_main, w, err);
    if (rc < 0) {
        free_writer(w);
        return rc;
    }
    *out = w;
    return 0;
}

void writer_stop(struct writer *writer)
{
    if (!writer)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    writer->holder = HELD_BY_THREAD;
    pthread_mutex_unlock(&writer->lock);
    pthread_cond_signal(&writer->wake);
    pthread_join(writer->thread, NULL);
    free_writer(writer);
}
