/* SPDX-License-Identifier: MIT */
#include "routes/readers.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "routes/usage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
    RETRY_MS = 100, /* of one in line */
    STALL_MS = 500,
    CALM_MS = 2000, /* without a stall: one step back */
    DISK_MS = 200, /* after the disk was waited for: places aren't made and given up all the time */
    /* Of two looks at what the process had of the processors, for the second to tell something. */
    LOOKS_APART_MIN_MS = 15,
    LOOKS_APART_MAX_MS = 1000,
};

static size_t within(size_t places)
{
    return places < READERS_MAX ? places : READERS_MAX;
}

/* A script that was installed once, for those who still use it. Its own state is never opened. */
struct edition {
    struct script *script;
    uint64_t number;
    atomic_int users;
};

/* One who waits for a place, on his own stack. */
struct waiter {
    struct waiter *next;
    pthread_cond_t wake;
    int64_t began_ms;
    bool is_woken;        /* to take what is idle, and hasn't looked yet */
    struct reader *given; /* one that was never idle: he has left the line */
};

struct readers {
    char *db_path, *wal_path;
    size_t usual;
    int processors;
    _Atomic int64_t next_look_ms; /* at the log */

    /* Who begins a snapshot counts it, then looks for a pause; who makes a pause says so, then looks at
     * the count: one of the two sees the other. */
    atomic_size_t snapshots;         /* begun, not ended */
    _Atomic int64_t paused_until_ms; /* monotonic */

    pthread_mutex_t lock;
    pthread_cond_t swapped; /* or nothing came of it */
    pthread_cond_t emptied; /* no snapshot is left */

    /* guarded by lock */
    struct edition *edition; /* NULL before the first script */
    uint64_t editions;       /* how many there have been */
    bool installing;
    struct reader *idle; /* the one that was used last comes first: its memory is warm */
    size_t idle_count;
    size_t count;       /* idle, in use, or being made */
    size_t most;        /* that there may be, as was found when somebody last waited for long */
    struct usage usage; /* at that time */
    size_t beside;      /* what it is where functions wait for processors */
    bool is_most_fixed;
    int64_t stalled_since_ms; /* somebody waits, and nothing has come back */
    int64_t changed_ms;       /* beside, for that */
    int64_t disk_until_ms;    /* functions are taken to wait for the disk */
    struct waiter *line;      /* who has waited longest comes first */
    size_t waiting;           /* in line */
    size_t woken;             /* of those */
};

/* ------------------------------------------------------------------------- editions */

void readers_put_edition(struct edition *edition)
{
    if (!edition || atomic_fetch_sub(&edition->users, 1) > 1)
        return;
    script_free(edition->script);
    free(edition);
}

static struct edition *new_edition(const struct script *script)
{
    struct edition *edition = calloc(1, sizeof(*edition));
    struct err err;

    if (edition && script_twin(&edition->script, script, &err) == 0) {
        atomic_init(&edition->users, 1);
        return edition;
    }
    log_error("no memory for the routes of the new script: they are off until the next reload");
    free(edition);
    return NULL;
}

/* With the lock held. */
static struct edition *use_edition(struct readers *readers)
{
    if (readers->edition)
        atomic_fetch_add(&readers->edition->users, 1);
    return readers->edition;
}

struct edition *readers_edition(struct readers *readers, const struct script **out_script)
{
    struct edition *edition;

    pthread_mutex_lock(&readers->lock);
    edition = use_edition(readers);
    pthread_mutex_unlock(&readers->lock);
    *out_script = edition ? edition->script : NULL;
    return edition;
}

void readers_installing(struct readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    readers->installing = true;
    pthread_mutex_unlock(&readers->lock);
}

void readers_installed(struct readers *readers, const struct script *script)
{
    struct edition *fresh = script ? new_edition(script) : NULL;
    struct edition *former = NULL;

    pthread_mutex_lock(&readers->lock);
    if (script) {
        former = readers->edition;
        readers->edition = fresh;
        readers->editions++;
        if (fresh)
            fresh->number = readers->editions;
    }
    readers->installing = false;
    pthread_cond_broadcast(&readers->swapped);
    pthread_mutex_unlock(&readers->lock);
    readers_put_edition(former);
}

bool readers_is_outdated(struct readers *readers, const struct reader *reader)
{
    struct timespec until = thread_after_ms(READERS_WAIT_MS);
    bool is_outdated;
    int rc = 0;

    thread_wait_begin();
    pthread_mutex_lock(&readers->lock);
    while (readers->installing && rc == 0)
        rc = pthread_cond_clockwait(&readers->swapped, &readers->lock, CLOCK_MONOTONIC, &until);
    is_outdated = reader->edition != readers->editions;
    pthread_mutex_unlock(&readers->lock);
    thread_wait_end();
    return is_outdated;
}

/* ------------------------------------------------------------------------- one place */

static void free_reader(struct reader *reader)
{
    if (!reader)
        return;
    script_free(reader->script); /* its statements are on the connection */
    stmt_free(reader->user);
    stmt_free(reader->begin);
    stmt_free(reader->end);
    db_close(reader->db);
    free(reader);
}

static int new_reader(struct reader **out, struct readers *readers, struct err *err)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    int rc;

    if (!reader)
        return err_set(err, ERR_NOMEM, "no memory for a reader");
    reader->readers = readers;
    reader->user_thread = pthread_self();
    rc = db_open(&reader->db, readers->db_path, DB_READER, err);
    if (rc == ERR_ABSENT)
        rc = err->code = ERR_IO; /* absent is the script */
    if (rc == 0)
        db_keep_locks(reader->db);
    if (rc == 0)
        rc = stmt_new(&reader->begin, reader->db, "BEGIN", err);
    if (rc == 0)
        rc = stmt_new(&reader->end, reader->db, "COMMIT", err);
    if (rc < 0) {
        free_reader(reader);
        return rc;
    }
    *out = reader;
    return 0;
}

/* Give it the script that is installed, if it doesn't have it yet. */
static int bring_up_to_date(struct reader *reader, const struct edition *edition, struct err *err)
{
    int rc;

    if (!edition)
        return err_set(err, ERR_ABSENT, "there is no script");
    if (reader->script && reader->edition == edition->number)
        return 0;
    script_free(reader->script);
    reader->script = NULL;
    rc = script_twin(&reader->script, edition->script, err);
    reader->edition = edition->number;
    return rc;
}

/* ------------------------------------------------------------------------- waiting for one */

/* All of these with the lock held, but the last. */

static void push_idle(struct readers *readers, struct reader *reader)
{
    reader->next = readers->idle;
    readers->idle = reader;
    readers->idle_count++;
}

/* The one that the calling thread had last, whose memory is in its processor's cache; or any. */
static struct reader *pop_idle(struct readers *readers)
{
    struct reader **at = &readers->idle, *reader;

    while (*at && !pthread_equal((*at)->user_thread, pthread_self()))
        at = &(*at)->next;
    if (!*at)
        at = &readers->idle;
    reader = *at;
    if (reader) {
        *at = reader->next;
        readers->idle_count--;
        reader->user_thread = pthread_self();
    }
    return reader;
}

/* A place, or NULL: make one, it is counted already. False: all are taken, and there may be no more. */
static bool take_idle(struct readers *readers, size_t limit, struct reader **out)
{
    *out = pop_idle(readers);
    if (*out)
        return true;
    if (readers->count >= limit)
        return false;
    readers->count++;
    return true;
}

/* Of more places each comes back later; beyond twice the least number hardly any are to be added. */
static int64_t stall_ms(size_t places, size_t least)
{
    size_t once = STALL_MS * places / least;

    return (int64_t)(places < 2 * least ? once : once * places / least);
}

/*
 * Where functions wait for processors more places only make all of them slower, and the writer, too. But one that
 * takes long must not be in the way of all others: when nothing has come back for a while there may be some more.
 * That while is longer the more there are: else each step, which makes all slower, would bring the next.
 */
static size_t most_beside_processors(struct readers *readers, int64_t now_ms)
{
    size_t least = within(2 * readers->usual), most = readers->beside;

    if (now_ms - readers->usage.at_ms > LOOKS_APART_MAX_MS || most < least)
        most = least; /* nobody has waited for a while */
    if (now_ms - readers->stalled_since_ms >= stall_ms(most, least)) {
        most = within(most + readers->usual);
        readers->stalled_since_ms = readers->changed_ms = now_ms;
    } else if (most > least && now_ms - readers->changed_ms >= CALM_MS) {
        most = most - readers->usual > least ? most - readers->usual : least;
        readers->changed_ms = now_ms;
    }
    readers->beside = most;
    return most;
}

/*
 * Somebody has waited for long: how many places may there be? Called with the lock held. A look long ago tells
 * nothing of what functions wait for now; it is better to be careful then, until the next.
 */
static size_t most_places(struct readers *readers)
{
    struct usage last = readers->usage, now;
    int64_t passed_ms = clock_mono_ms() - last.at_ms;

    if (readers->is_most_fixed || passed_ms < LOOKS_APART_MIN_MS)
        return readers->most;
    usage_read(&now);
    if (passed_ms <= LOOKS_APART_MAX_MS && usage_waits_for_disk(&last, &now, readers->processors))
        readers->disk_until_ms = now.at_ms + DISK_MS;
    readers->most = now.at_ms < readers->disk_until_ms ? READERS_MAX
                                                       : most_beside_processors(readers, now.at_ms);
    readers->usage = now;
    return readers->most;
}

static void join_line(struct readers *readers, struct waiter *waiter)
{
    struct waiter **at = &readers->line;

    while (*at)
        at = &(*at)->next;
    *at = waiter;
    if (readers->waiting++ == 0)
        readers->stalled_since_ms = waiter->began_ms;
}

static void leave_line(struct readers *readers, struct waiter *waiter)
{
    struct waiter **at = &readers->line;

    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    readers->waiting--;
    readers->woken -= waiter->is_woken;
    waiter->is_woken = false;
}

/* The first one who isn't on his way yet. */
static void wake_one(struct readers *readers)
{
    struct waiter *waiter = readers->line;

    while (waiter && waiter->is_woken)
        waiter = waiter->next;
    if (!waiter)
        return;
    waiter->is_woken = true;
    readers->woken++;
    pthread_cond_signal(&waiter->wake);
}

/*
 * Whoever comes next may take an idle place before the one who was woken for it is there: nothing stands
 * still meanwhile, and no more are woken than there are places. Only who has been overtaken for
 * READERS_FAIR_MS is given his place by hand.
 */
static void return_place(struct readers *readers, struct reader *reader)
{
    struct waiter *first = readers->line;

    if (first && clock_mono_ms() - first->began_ms >= READERS_FAIR_MS) {
        leave_line(readers, first);
        first->given = reader;
        pthread_cond_signal(&first->wake);
        return;
    }
    push_idle(readers, reader);
    if (readers->woken < readers->idle_count)
        wake_one(readers);
}

/* When one who has waited so long looks whether there may be another place by now. */
static int64_t next_try_ms(int64_t waited_ms, int64_t most_ms)
{
    int64_t next_ms = waited_ms < READERS_GROW_MS ? READERS_GROW_MS : waited_ms + RETRY_MS;

    return next_ms < most_ms ? next_ms : most_ms;
}

/* In line; the lock is given up meanwhile. */
static int wait_in_line(struct readers *readers, struct waiter *self, int most_ms,
                        struct reader **out, struct err *err)
{
    int64_t waited_ms = 0;

    for (;;) {
        struct timespec until;

        until = thread_after_ms(next_try_ms(waited_ms, most_ms) - waited_ms);
        pthread_cond_clockwait(&self->wake, &readers->lock, CLOCK_MONOTONIC, &until);
        *out = self->given;
        if (*out) {
            (*out)->user_thread = pthread_self();
            return 0;
        }
        waited_ms = clock_mono_ms() - self->began_ms;
        if (take_idle(readers, waited_ms >= READERS_GROW_MS ? most_places(readers) : readers->usual,
                      out))
            break;
        if (waited_ms >= most_ms) {
            leave_line(readers, self);
            return err_set(err, ERR_BUSY, "all %zu places for reading are taken", readers->count);
        }
        readers->woken -= self->is_woken;
        self->is_woken = false;
    }
    leave_line(readers, self);
    if (readers->count < readers->usual || readers->woken < readers->idle_count)
        wake_one(readers); /* for what is there besides */
    return 0;
}

/* Without the lock. A place, or NULL: make one, it is counted already; or ERR_BUSY. */
static int wait_for_place(struct readers *readers, struct reader **out, struct err *err)
{
    struct waiter self = {.began_ms = clock_mono_ms()};
    int most_ms, rc = 0;

    pthread_cond_init(&self.wake, NULL);
    thread_wait_begin();
    pthread_mutex_lock(&readers->lock);
    most_ms = readers->waiting < READERS_CROWD ? READERS_WAIT_MS : READERS_CROWDED_WAIT_MS;
    if (!take_idle(readers, readers->usual, out)) {
        join_line(readers, &self);
        rc = wait_in_line(readers, &self, most_ms, out, err);
    }
    pthread_mutex_unlock(&readers->lock);
    thread_wait_end();
    pthread_cond_destroy(&self.wake);
    return rc;
}

/* ------------------------------------------------------------------------- the pool */

static void forget_place(struct readers *readers, struct reader *reader)
{
    free_reader(reader);
    pthread_mutex_lock(&readers->lock);
    readers->count--;
    wake_one(readers); /* it may be made anew */
    pthread_mutex_unlock(&readers->lock);
}

/* With the lock held. */
static bool is_up_to_date(const struct readers *readers, const struct reader *reader)
{
    return reader && reader->script && reader->edition == readers->editions;
}

int readers_take(struct readers *readers, struct reader **out, struct err *err)
{
    struct edition *edition = NULL;
    struct reader *reader = NULL;
    bool is_ready = false;
    int rc = 0;

    pthread_mutex_lock(&readers->lock);
    if (!take_idle(readers, readers->usual, &reader)) {
        pthread_mutex_unlock(&readers->lock);
        rc = wait_for_place(readers, &reader, err);
        pthread_mutex_lock(&readers->lock);
    }
    if (rc == 0) {
        is_ready = is_up_to_date(readers, reader);
        edition = is_ready ? NULL : use_edition(readers);
    }
    pthread_mutex_unlock(&readers->lock);
    if (rc < 0)
        return rc;
    if (!reader)
        rc = new_reader(&reader, readers, err);
    if (rc == 0 && !is_ready)
        rc = bring_up_to_date(reader, edition, err);
    readers_put_edition(edition);
    if (rc < 0) {
        forget_place(readers, reader);
        return rc;
    }
    *out = reader;
    return 0;
}

void readers_give_back(struct readers *readers, struct reader *reader)
{
    bool is_broken = db_trouble(reader->db) ||
                     db_in_transaction(reader->db); /* it couldn't be ended: its snapshot must go */
    bool is_kept;

    pthread_mutex_lock(&readers->lock);
    readers->stalled_since_ms = clock_mono_ms();
    is_kept =
        !is_broken && readers->count <= (readers->waiting > 0 ? readers->most : readers->usual);
    if (is_kept)
        return_place(readers, reader);
    pthread_mutex_unlock(&readers->lock);
    if (!is_kept)
        forget_place(readers, reader);
}

/* ------------------------------------------------------------------------- snapshots */

static bool is_paused(struct readers *readers)
{
    int64_t until_ms = atomic_load(&readers->paused_until_ms);

    return until_ms != 0 && until_ms > clock_mono_ms();
}

static void uncount_snapshot(struct readers *readers)
{
    if (atomic_fetch_sub(&readers->snapshots, 1) > 1 || !is_paused(readers))
        return;
    pthread_mutex_lock(&readers->lock); /* or who has just looked would sleep through it */
    pthread_cond_signal(&readers->emptied);
    pthread_mutex_unlock(&readers->lock);
}

static void count_snapshot(struct readers *readers)
{
    const struct timespec moment = {.tv_nsec = 10000000};

    atomic_fetch_add(&readers->snapshots, 1);
    while (is_paused(readers)) {
        uncount_snapshot(readers);
        nanosleep(&moment, NULL); /* rare, and over soon */
        atomic_fetch_add(&readers->snapshots, 1);
    }
}

int readers_begin(struct reader *reader, struct err *err)
{
    int rc;

    count_snapshot(reader->readers);
    rc = stmt_run(reader->begin, err);
    if (rc == 0)
        db_hold_transaction(reader->db, true);
    else
        uncount_snapshot(reader->readers);
    return rc;
}

void readers_end(struct reader *reader)
{
    struct err err;

    db_hold_transaction(reader->db, false);
    db_reset_statements(reader->db);
    if (db_in_transaction(reader->db) && stmt_run(reader->end, &err) < 0)
        log_warn("a reading transaction did not end", log_str("error", err.text));
    uncount_snapshot(reader->readers);
}

/* ------------------------------------------------------------------------- pauses */

bool readers_wal_is_stuck(struct readers *readers)
{
    int64_t now_ms = clock_mono_ms(), due_ms = atomic_load(&readers->next_look_ms);
    struct stat st;

    if (now_ms < due_ms ||
        !atomic_compare_exchange_strong(&readers->next_look_ms, &due_ms, now_ms + READERS_LOOK_MS))
        return false;
    if (stat(readers->wal_path, &st) < 0 || st.st_size <= READERS_WAL_MAX)
        return false;
    atomic_store(&readers->next_look_ms, now_ms + READERS_PAUSES_APART_MS);
    return true;
}

void readers_pause(struct readers *readers)
{
    struct timespec until = thread_after_ms(READERS_PAUSE_MS);
    int rc = 0;

    db_end_kept_locks();
    pthread_mutex_lock(&readers->lock);
    atomic_store(&readers->paused_until_ms, clock_mono_ms() + READERS_PAUSE_MS + READERS_MOMENT_MS);
    while (atomic_load(&readers->snapshots) > 0 && rc == 0)
        rc = pthread_cond_clockwait(&readers->emptied, &readers->lock, CLOCK_MONOTONIC, &until);
    atomic_store(&readers->paused_until_ms, clock_mono_ms() + READERS_MOMENT_MS);
    pthread_mutex_unlock(&readers->lock);
}

/* ------------------------------------------------------------------------- start and end */

int readers_new(struct readers **out, const char *db_path, struct err *err)
{
    struct readers *readers = calloc(1, sizeof(*readers));
    int processors = thread_processors();

    if (!readers || !(readers->db_path = strdup(db_path)) ||
        asprintf(&readers->wal_path, "%s-wal", db_path) < 0) {
        if (readers)
            free(readers->db_path);
        free(readers);
        return err_set(err, ERR_NOMEM, "no memory for the readers");
    }
    readers->processors = processors;
    readers->usual = within(processors < 2 ? 2 : (size_t)processors);
    readers->most = readers->usual;
    pthread_mutex_init(&readers->lock, NULL);
    pthread_cond_init(&readers->swapped, NULL);
    pthread_cond_init(&readers->emptied, NULL);
    *out = readers;
    return 0;
}

void readers_fix_limit(struct readers *readers, size_t most)
{
    readers->most = most;
    readers->is_most_fixed = true;
}

void readers_free(struct readers *readers)
{
    if (!readers)
        return;
    while (readers->idle) {
        struct reader *reader = readers->idle;

        readers->idle = reader->next;
        free_reader(reader);
    }
    readers_put_edition(readers->edition);
    pthread_cond_destroy(&readers->swapped);
    pthread_cond_destroy(&readers->emptied);
    pthread_mutex_destroy(&readers->lock);
    free(readers->wal_path);
    free(readers->db_path);
    free(readers);
}
