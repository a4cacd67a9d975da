/* SPDX-License-Identifier: MIT */
#include "auth/keys.h"

#include "auth/key_source.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REFRESH_MS = 600000,
    PAUSE_MS = 5000,
    WAIT_MS = 3000,
    WAITERS_MAX = 32,
    LATER_MAX_MS = 60000, /* however long the server wants to be left alone */
    LOG_EVERY_MS = 60000,
};

/*
 *   PAUSED --pause over--> IDLE --asked, or refresh due--> READING --finish_reading--> PAUSED
 *
 *   PAUSED    now < may_read_ms
 *   IDLE      otherwise, and !reading
 *   READING   reading; the lock is not held, and set and all others are only read by others
 */
struct keys {
    struct keys_pace pace;
    char *url; /* for the log */
    struct key_source *source;
    pthread_t thread;
    atomic_bool refusing;
    pthread_mutex_t lock;
    pthread_cond_t wake;       /* the thread */
    pthread_cond_t done;       /* who waits for a reading */
    struct key_set *set;       /* guarded by lock; NULL: never read. A share of its own. */
    bool asked;                /* guarded by lock: a token named a key that isn't there */
    bool reading;              /* guarded by lock */
    int64_t may_read_ms;       /* guarded by lock, monotonic: not before that */
    int64_t must_read_ms;      /* guarded by lock, monotonic: then, whoever asks */
    uint64_t readings;         /* guarded by lock: so many have ended */
    int waiters;               /* guarded by lock */
    struct keys_status status; /* guarded by lock, but for has_keys, which set tells */

    /* The thread's own. */
    bool is_failing;
    int64_t log_ms; /* monotonic: a failure that goes on isn't told before */
};

static bool is_refusing(void *arg)
{
    struct keys *keys = arg;

    return atomic_load(&keys->refusing);
}

/* ---------------------------------------------------------------------------------- the thread */

static void log_failure(struct keys *keys, const struct err *err, bool has_keys)
{
    int64_t now_ms = clock_mono_ms();

    if (!keys->is_failing || now_ms >= keys->log_ms) {
        log_warn(has_keys
                     ? "the key set of access tokens can't be read; the keys that are there stay"
                     : "the key set of access tokens can't be read; tokens can't be checked",
                 log_str("error", err->text));
        keys->log_ms = now_ms + LOG_EVERY_MS;
    }
    keys->is_failing = true;
}

static void log_success(struct keys *keys, const struct key_set *set, const struct key_set *before)
{
    if (!before || !key_set_equal(set, before))
        log_info(before ? "the key set of access tokens has changed"
                        : "the key set of access tokens was read",
                 log_int("keys", (int64_t)key_set_count(set)),
                 log_int("passed_over", (int64_t)key_set_passed_over(set)),
                 log_bytes("url", keys->url, strcspn(keys->url, "?")));
    else if (keys->is_failing)
        log_info("the key set of access tokens can be read again",
                 log_int("keys", (int64_t)key_set_count(set)));
    keys->is_failing = false;
}

/* Without the lock: only this thread changes keys->set. */
static void log_outcome(struct keys *keys, int rc, const struct key_set *set, const struct err *err)
{
    if (rc == 0)
        log_success(keys, set, keys->set);
    else if (rc != ERR_CLOSED)
        log_failure(keys, err, keys->set != NULL);
}

/* Takes the set (NULL: it failed), gives back the one that it replaces. */
static struct key_set *finish_reading(struct keys *keys, struct key_set *set, int64_t later_ms,
                                      const struct err *err)
{
    int64_t now_ms = clock_mono_ms();
    int64_t pause_ms = keys->pace.pause_ms;
    struct key_set *before = NULL;

    if (later_ms > LATER_MAX_MS)
        later_ms = LATER_MAX_MS;
    if (!set && later_ms > pause_ms)
        pause_ms = later_ms;
    pthread_mutex_lock(&keys->lock);
    if (set) {
        before = keys->set;
        keys->set = set;
    }
    keys->status.is_failing = !set;
    snprintf(keys->status.problem, sizeof(keys->status.problem), "%s", set ? "" : err->text);
    keys->reading = false;
    keys->readings++;
    keys->may_read_ms = now_ms + pause_ms;
    keys->must_read_ms = now_ms + (set ? keys->pace.refresh_ms : pause_ms);
    pthread_cond_broadcast(&keys->done);
    pthread_mutex_unlock(&keys->lock);
    return before;
}

static void read_keys(struct keys *keys)
{
    struct key_set *set = NULL;
    int64_t later_ms;
    struct err err;
    int rc = key_source_read(keys->source, &set, &later_ms, &err);

    log_outcome(keys, rc, set, &err);
    key_set_release(finish_reading(keys, set, later_ms, &err));
}

/* With the lock held. */
static int64_t next_reading_ms(const struct keys *keys)
{
    return keys->asked ? keys->may_read_ms : keys->must_read_ms;
}

/* Until a reading is due, which it begins; false when the thread is to end. */
static bool wait_for_work(struct keys *keys)
{
    bool go_on;
    int64_t left_ms;

    pthread_mutex_lock(&keys->lock);
    while (!is_refusing(keys) && (left_ms = next_reading_ms(keys) - clock_mono_ms()) > 0) {
        struct timespec until = thread_after_ms(left_ms);

        pthread_cond_clockwait(&keys->wake, &keys->lock, CLOCK_MONOTONIC, &until);
    }
    go_on = !is_refusing(keys);
    keys->reading = go_on;
    keys->asked = false;
    pthread_mutex_unlock(&keys->lock);
    return go_on;
}

static void *keys_main(void *arg)
{
    struct keys *keys = arg;

    while (wait_for_work(keys))
        read_keys(keys);
    return NULL;
}

/* ---------------------------------------------------------------------------------- start, stop */

static void keys_free(struct keys *keys)
{
    key_source_close(keys->source);
    key_set_release(keys->set);
    pthread_cond_destroy(&keys->wake);
    pthread_cond_destroy(&keys->done);
    pthread_mutex_destroy(&keys->lock);
    free(keys->url);
    free(keys);
}

int keys_start(struct keys **out, const struct keys_opts *opts, struct err *err)
{
    struct keys *keys = calloc(1, sizeof(*keys));
    struct key_source_opts source = {
        .url = opts->url,
        .user_agent = opts->user_agent,
        .cancelled = is_refusing,
        .arg = keys,
    };
    int rc;

    if (!keys)
        return err_set(err, ERR_NOMEM, "no memory for the key set");
    keys->pace = (struct keys_pace){
        .refresh_ms = opts->pace.refresh_ms ? opts->pace.refresh_ms : REFRESH_MS,
        .pause_ms = opts->pace.pause_ms ? opts->pace.pause_ms : PAUSE_MS,
        .wait_ms = opts->pace.wait_ms ? opts->pace.wait_ms : WAIT_MS,
    };
    pthread_mutex_init(&keys->lock, NULL);
    pthread_cond_init(&keys->wake, NULL);
    pthread_cond_init(&keys->done, NULL);
    keys->may_read_ms = keys->must_read_ms = clock_mono_ms();
    keys->url = strdup(opts->url);
    rc = keys->url ? key_source_open(&keys->source, &source, err)
                   : err_set(err, ERR_NOMEM, "no memory for the key set");
    if (rc == 0)
        rc = thread_start(&keys->thread, "keys", keys_main, keys, err);
    if (rc < 0) {
        keys_free(keys);
        return rc;
    }
    *out = keys;
    return 0;
}

void keys_refuse(struct keys *keys)
{
    atomic_store(&keys->refusing, true);
    pthread_mutex_lock(&keys->lock); /* or who has just looked would sleep through it */
    pthread_cond_broadcast(&keys->wake);
    pthread_cond_broadcast(&keys->done);
    pthread_mutex_unlock(&keys->lock);
}

void keys_stop(struct keys *keys)
{
    if (!keys)
        return;
    keys_refuse(keys);
    pthread_join(keys->thread, NULL);
    keys_free(keys);
}

/* ---------------------------------------------------------------------------------- the set */

void keys_get_status(struct keys *keys, struct keys_status *out)
{
    pthread_mutex_lock(&keys->lock);
    *out = keys->status;
    out->has_keys = keys->set != NULL;
    pthread_mutex_unlock(&keys->lock);
}

/* With the lock held: is a reading under way, or about to begin? */
static bool is_worth_waiting(const struct keys *keys)
{
    return keys->reading || next_reading_ms(keys) <= clock_mono_ms();
}

/* With the lock held, which is given up while it waits. */
static void wait_for_reading(struct keys *keys)
{
    struct timespec until = thread_after_ms(keys->pace.wait_ms);
    uint64_t before = keys->readings;
    int rc = 0;

    keys->waiters++;
    while (rc == 0 && keys->readings == before && !is_refusing(keys))
        rc = pthread_cond_clockwait(&keys->done, &keys->lock, CLOCK_MONOTONIC, &until);
    keys->waiters--;
}

struct key_set *keys_for(struct keys *keys, const char *key_id)
{
    struct key_set *set = NULL;

    pthread_mutex_lock(&keys->lock);
    if (!keys->set || !key_set_has(keys->set, key_id)) {
        if (!keys->reading && !keys->asked) {
            keys->asked = true;
            pthread_cond_signal(&keys->wake);
        }
        if (keys->waiters < WAITERS_MAX && is_worth_waiting(keys))
            wait_for_reading(keys);
    }
    if (keys->set && (!is_refusing(keys) || key_set_has(keys->set, key_id)))
        set = key_set_share(keys->set);
    pthread_mutex_unlock(&keys->lock);
    return set;
}
