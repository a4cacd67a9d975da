/* SPDX-License-Identifier: MIT */
#include "workos/upkeep.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "workos/event_log.h"
#include "workos/retention.h"
#include "workos/retry.h"
#include "workos/room.h"
#include "workos/workos_state.h"

#include <stdlib.h>

enum {
    SLEEP_MAX_MS = 60000, /* the wall clock may be set meanwhile */
    AFTER_ERROR_MS = 1000,
    SWEEP_FIRST_MS = 1000, /* a start has better things to do */
    SWEEP_EVERY_MS = 3600000,
    SWEEP_PAUSE_MS = 20, /* between two pieces of a sweep */
    ROOM_EVERY_MS = 3000,
    TELL_EVERY_MS = 30000,
};

struct upkeep {
    struct workos *workos;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;         /* guarded by lock */
    int64_t due_ms;        /* wall time of the next retry, 0: none; guarded by lock */
    int64_t not_before_ms; /* monotonic: retries pause until then; guarded by lock */
    uint64_t scripts;      /* how many there were; guarded by lock */
    int64_t room_ms;       /* monotonic: look for room then; INT64_MAX: there is; guarded by lock */

    /* The thread's own. */
    struct retry_pace pace;
    int64_t sweep_ms; /* monotonic: the next piece of a sweep */
    int64_t tell_ms;  /* monotonic: look again at what was left out of the log */
};

void upkeep_wake(struct upkeep *upkeep, int64_t due_ms)
{
    if (!upkeep)
        return;
    pthread_mutex_lock(&upkeep->lock);
    if (upkeep->due_ms == 0 || due_ms < upkeep->due_ms) {
        upkeep->due_ms = due_ms > 0 ? due_ms : 1;
        pthread_cond_signal(&upkeep->wake);
    }
    pthread_mutex_unlock(&upkeep->lock);
}

void upkeep_watch_room(struct upkeep *upkeep, bool is_full)
{
    if (!upkeep)
        return;
    pthread_mutex_lock(&upkeep->lock);
    upkeep->room_ms = is_full ? clock_mono_ms() + ROOM_EVERY_MS : INT64_MAX;
    pthread_cond_signal(&upkeep->wake);
    pthread_mutex_unlock(&upkeep->lock);
}

void upkeep_start_anew(struct upkeep *upkeep)
{
    if (!upkeep)
        return;
    pthread_mutex_lock(&upkeep->lock);
    upkeep->due_ms = 1;
    upkeep->not_before_ms = 0;
    upkeep->scripts++;
    pthread_cond_signal(&upkeep->wake);
    pthread_mutex_unlock(&upkeep->lock);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* How long until the next retry. One that seems too far away to be true was due by a clock that has been set
 * back since. With the lock held. */
static int64_t retry_in_ms(const struct upkeep *upkeep)
{
    int64_t left_ms = upkeep->due_ms - clock_wall_ms();

    return left_ms > EVENT_AHEAD_MS ? 0 : left_ms;
}

/* How long until something is to be done, in ms; at most SLEEP_MAX_MS. With the lock held. */
static int64_t time_left_ms(const struct upkeep *upkeep)
{
    int64_t now_ms = clock_mono_ms(), left_ms = SLEEP_MAX_MS, until_ms;

    if (upkeep->due_ms) {
        left_ms = retry_in_ms(upkeep);
        until_ms = upkeep->not_before_ms - now_ms;
        left_ms = left_ms > until_ms ? left_ms : until_ms;
    }
    left_ms = sooner(left_ms, upkeep->sweep_ms - now_ms);
    left_ms = sooner(left_ms, upkeep->room_ms - now_ms);
    left_ms = sooner(left_ms, upkeep->tell_ms - now_ms);
    return sooner(left_ms, SLEEP_MAX_MS);
}

/* False when the thread is to end. */
static bool wait_for_work(struct upkeep *upkeep)
{
    bool go_on;
    int64_t left_ms;

    pthread_mutex_lock(&upkeep->lock);
    while (!upkeep->stopping && (left_ms = time_left_ms(upkeep)) > 0) {
        struct timespec until = thread_after_ms(left_ms);

        pthread_cond_clockwait(&upkeep->wake, &upkeep->lock, CLOCK_MONOTONIC, &until);
    }
    go_on = !upkeep->stopping;
    pthread_mutex_unlock(&upkeep->lock);
    return go_on;
}

/* Take the due time away, before anything is looked up: what becomes due later sets it again. */
static bool take_due(struct upkeep *upkeep)
{
    bool is_due;

    pthread_mutex_lock(&upkeep->lock);
    is_due = upkeep->due_ms && retry_in_ms(upkeep) <= 0 && upkeep->not_before_ms <= clock_mono_ms();
    if (is_due)
        upkeep->due_ms = 0;
    pthread_mutex_unlock(&upkeep->lock);
    return is_due;
}

static uint64_t count_scripts(struct upkeep *upkeep)
{
    uint64_t scripts;

    pthread_mutex_lock(&upkeep->lock);
    scripts = upkeep->scripts;
    pthread_mutex_unlock(&upkeep->lock);
    return scripts;
}

/* Unless there is another script now than the one that has earned it. */
static void pause_retries(struct upkeep *upkeep, int64_t pause_ms, uint64_t script)
{
    pthread_mutex_lock(&upkeep->lock);
    if (upkeep->scripts == script)
        upkeep->not_before_ms = clock_mono_ms() + pause_ms;
    pthread_mutex_unlock(&upkeep->lock);
}

static void run_due(struct upkeep *upkeep)
{
    int64_t next_ms = clock_wall_ms(), pause_ms = 0;
    static const char message[] = "events that are due can't run now";
    uint64_t script = count_scripts(upkeep);
    struct err err;
    int rc = retry_due(upkeep->workos, &upkeep->pace, &next_ms, &pause_ms, &err);

    if (rc < 0 && rc != ERR_CLOSED &&
        repeat_may(&upkeep->workos->repeats, clock_mono_ms(), message, err.text))
        log_warn(message, log_str("error", err.text));
    if (rc < 0 && pause_ms < AFTER_ERROR_MS)
        pause_ms = AFTER_ERROR_MS;
    pause_retries(upkeep, pause_ms, script);
    if (next_ms)
        upkeep_wake(upkeep, next_ms);
}

static void sweep(struct upkeep *upkeep)
{
    bool more = false;
    struct err err;
    int rc = retention_sweep(upkeep->workos, &more, &err);

    if (rc < 0 && rc != ERR_CLOSED)
        log_warn("retention can't run now", log_str("error", err.text));
    upkeep->sweep_ms = clock_mono_ms() + (more ? SWEEP_PAUSE_MS : SWEEP_EVERY_MS);
}

/* Put off the next look, if one is due now. */
static bool take_room_due(struct upkeep *upkeep)
{
    int64_t now_ms = clock_mono_ms();
    bool is_due;

    pthread_mutex_lock(&upkeep->lock);
    is_due = upkeep->room_ms <= now_ms;
    if (is_due)
        upkeep->room_ms = now_ms + ROOM_EVERY_MS;
    pthread_mutex_unlock(&upkeep->lock);
    return is_due;
}

/* What comes of it the writer tells (upkeep_watch_room). */
static void look_for_room(struct upkeep *upkeep)
{
    struct err err;

    if (room_try(upkeep->workos, &err) < 0)
        log_debug("no room on the disk yet", log_str("error", err.text));
}

static void tell_left_out(struct upkeep *upkeep)
{
    int64_t now_ms = clock_mono_ms();

    repeat_tell(&upkeep->workos->repeats, now_ms, false);
    upkeep->tell_ms = now_ms + TELL_EVERY_MS;
}

static void *upkeep_main(void *arg)
{
    struct upkeep *upkeep = arg;

    while (wait_for_work(upkeep)) {
        if (take_due(upkeep))
            run_due(upkeep);
        if (upkeep->sweep_ms <= clock_mono_ms())
            sweep(upkeep);
        if (take_room_due(upkeep))
            look_for_room(upkeep);
        if (upkeep->tell_ms <= clock_mono_ms())
            tell_left_out(upkeep);
    }
    return NULL;
}

int upkeep_start(struct upkeep **out, struct workos *workos, struct err *err)
{
    struct upkeep *upkeep = calloc(1, sizeof(*upkeep));
    int rc;

    if (!upkeep)
        return err_set(err, ERR_NOMEM, "no memory for the upkeep");
    upkeep->workos = workos;
    upkeep->sweep_ms = workos->opts.retention_days ? clock_mono_ms() + SWEEP_FIRST_MS : INT64_MAX;
    upkeep->room_ms = INT64_MAX;
    upkeep->tell_ms = clock_mono_ms() + TELL_EVERY_MS;
    pthread_mutex_init(&upkeep->lock, NULL);
    pthread_cond_init(&upkeep->wake, NULL);
    *out = upkeep; /* before the thread starts: what it does may wake it */
    rc = thread_start(&upkeep->thread, "upkeep", upkeep_main, upkeep, err);
    if (rc < 0) {
        *out = NULL;
        free(upkeep);
    }
    return rc;
}

void upkeep_stop(struct upkeep *upkeep)
{
    if (!upkeep)
        return;
    pthread_mutex_lock(&upkeep->lock);
    upkeep->stopping = true;
    pthread_mutex_unlock(&upkeep->lock);
    pthread_cond_signal(&upkeep->wake);
    pthread_join(upkeep->thread, NULL);
}

void upkeep_free(struct upkeep *upkeep)
{
    if (!upkeep)
        return;
    pthread_mutex_destroy(&upkeep->lock);
    pthread_cond_destroy(&upkeep->wake);
    free(upkeep);
}
