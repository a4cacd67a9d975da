/* SPDX-License-Identifier: MIT */
#include "workos/tally.h"

#include "base/clock.h"
#include "store/db.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    EVENTS_EVERY_MS = 5000,
    USERS_EVERY_MS = 60000,
    EVENTS_TIME_MS = 1000, /* counting ends then, in vain */
    USERS_TIME_MS = 200,
    PAUSE_FACTOR = 50,
};

struct tally {
    pthread_mutex_t lock;
    struct db *db; /* guarded by lock, as all that follows */
    struct stmt *events, *erased, *users;
    struct tally_counts counts;
    int64_t next_events_ms, next_users_ms; /* monotonic: not before that */
    int64_t deadline_ms;                   /* monotonic: of what is being counted */
};

static bool is_too_late(void *arg)
{
    const struct tally *tally = arg;

    return clock_mono_ms() >= tally->deadline_ms;
}

/* The only number that the statement gives, or instead. With the lock held. */
static int64_t count(struct stmt *stmt, int64_t instead)
{
    struct err err;
    int64_t number = instead;

    if (stmt_step(stmt, &err) == 1)
        number = stmt_int(stmt, 0);
    stmt_reset(stmt);
    return number;
}

/* When to count again what has just been counted. */
static int64_t next_time(int64_t began_ms, int64_t every_ms)
{
    int64_t now_ms = clock_mono_ms(), pause_ms = (now_ms - began_ms) * PAUSE_FACTOR;

    return now_ms + (pause_ms > every_ms ? pause_ms : every_ms);
}

/* With the lock held, as the next. */
static int64_t count_status(struct tally *tally, enum event_status status, int64_t instead)
{
    int64_t number;

    stmt_bind_str(tally->events, 1, event_status_names[status]);
    number = count(tally->events, -1);
    if (number < 0)
        return instead;
    if (status == EVENT_DEAD && number > 0 && number <= TALLY_ERASED_MAX)
        number -= count(tally->erased, 0);
    return number;
}

static void count_events(struct tally *tally, int64_t now_ms)
{
    tally->deadline_ms = now_ms + EVENTS_TIME_MS;
    for (int status = EVENT_DONE + 1; status < EVENT_STATUSES; status++)
        tally->counts.events[status] =
            count_status(tally, (enum event_status)status, tally->counts.events[status]);
    tally->next_events_ms = next_time(now_ms, EVENTS_EVERY_MS);
}

static int64_t count_users_up_to(struct tally *tally, int64_t most)
{
    stmt_bind_int(tally->users, 1, most);
    return count(tally->users, -1);
}

static void count_users(struct tally *tally, int64_t now_ms)
{
    const int64_t all = -1;

    tally->deadline_ms = now_ms + USERS_TIME_MS;
    tally->counts.users = count_users_up_to(tally, all);
    tally->next_users_ms = next_time(now_ms, USERS_EVERY_MS);
}

void tally_get(struct tally *tally, struct tally_counts *out)
{
    int64_t now_ms;

    pthread_mutex_lock(&tally->lock);
    now_ms = clock_mono_ms();
    if (now_ms >= tally->next_events_ms)
        count_events(tally, now_ms);
    if (now_ms >= tally->next_users_ms)
        count_users(tally, clock_mono_ms());
    *out = tally->counts;
    pthread_mutex_unlock(&tally->lock);
}

void tally_glance(struct tally *tally, struct tally_counts *out)
{
    int64_t now_ms;

    pthread_mutex_lock(&tally->lock);
    now_ms = clock_mono_ms();
    count_events(tally, now_ms);
    *out = tally->counts;
    tally->deadline_ms = now_ms + EVENTS_TIME_MS;
    out->users = count_users_up_to(tally, TALLY_GLANCE_USERS + 1);
    pthread_mutex_unlock(&tally->lock);
}

/* The users: a bare count(*) would be one step of SQLite's, which nothing interrupts, and on a cold disk takes
 * seconds for millions. */
static int prepare(struct tally *tally, struct err *err)
{
    int rc = stmt_new(&tally->events, tally->db, TALLY_EVENTS_SQL, err);

    if (rc == 0)
        rc =
            stmt_new(&tally->erased, tally->db,
                     "SELECT count(*) FROM workos_events WHERE status = 'dead' AND status <> 'done'"
                     " AND " IS_ERASED,
                     err);
    if (rc == 0)
        rc = stmt_new(&tally->users, tally->db,
                      "SELECT count(*) FROM (SELECT 1 FROM workos_users LIMIT ?)", err);
    return rc;
}

int tally_open(struct tally **out, const char *db_path, struct err *err)
{
    struct tally *tally = calloc(1, sizeof(*tally));
    int rc;

    if (!tally)
        return err_set(err, ERR_NOMEM, "no memory to count with");
    pthread_mutex_init(&tally->lock, NULL);
    for (int status = 0; status < EVENT_STATUSES; status++)
        tally->counts.events[status] = -1;
    tally->counts.users = -1;
    rc = db_open(&tally->db, db_path, DB_READER, err);
    if (rc == 0)
        rc = prepare(tally, err);
    if (rc < 0) {
        tally_close(tally);
        return rc;
    }
    db_set_interrupt(tally->db, is_too_late, tally);
    *out = tally;
    return 0;
}

void tally_close(struct tally *tally)
{
    if (!tally)
        return;
    stmt_free(tally->events);
    stmt_free(tally->erased);
    stmt_free(tally->users);
    db_close(tally->db);
    pthread_mutex_destroy(&tally->lock);
    free(tally);
}
