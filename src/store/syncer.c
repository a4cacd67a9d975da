/* SPDX-License-Identifier: MIT */
#include "store/syncer.h"

#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>

struct syncer {
    struct syncer_opts opts;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t given, finished;
    /* guarded by lock */
    struct writer_job *batch; /* NULL: none is under way */
    int64_t began_ns;
    struct err failure; /* code 0: there was none */
    bool stopping;
};

static void sync_batch(struct syncer *syncer, struct writer_job *batch, int64_t began_ns)
{
    struct err err = {0};
    bool had_failed;

    pthread_mutex_lock(&syncer->lock);
    had_failed = syncer->failure.code != 0;
    if (had_failed)
        err = syncer->failure;
    pthread_mutex_unlock(&syncer->lock);
    if (!had_failed && db_sync(syncer->opts.db, &err) == 0 && began_ns)
        metric_observe(syncer->opts.commits, &metric_scale_seconds,
                       (uint64_t)(clock_mono_ns() - began_ns));
    syncer->opts.report(batch, err.code ? &err : NULL);
    if (!err.code || had_failed)
        return;
    pthread_mutex_lock(&syncer->lock);
    syncer->failure = err;
    pthread_mutex_unlock(&syncer->lock);
    syncer->opts.on_failure(syncer->opts.arg);
}

static void *run_syncer(void *arg)
{
    struct syncer *syncer = arg;

    pthread_mutex_lock(&syncer->lock);
    for (;;) {
        while (!syncer->batch && !syncer->stopping)
            pthread_cond_wait(&syncer->given, &syncer->lock);
        if (!syncer->batch)
            break;
        pthread_mutex_unlock(&syncer->lock);
        sync_batch(syncer, syncer->batch, syncer->began_ns);
        pthread_mutex_lock(&syncer->lock);
        syncer->batch = NULL;
        pthread_cond_signal(&syncer->finished);
    }
    pthread_mutex_unlock(&syncer->lock);
    return NULL;
}

/* Called and left with the lock held. */
static void wait_until_free(struct syncer *syncer)
{
    while (syncer->batch)
        pthread_cond_wait(&syncer->finished, &syncer->lock);
}

void syncer_take(struct syncer *syncer, struct writer_job *first, int64_t began_ns)
{
    pthread_mutex_lock(&syncer->lock);
    wait_until_free(syncer);
    syncer->batch = first;
    syncer->began_ns = began_ns;
    pthread_cond_signal(&syncer->given);
    pthread_mutex_unlock(&syncer->lock);
}

int syncer_wait(struct syncer *syncer, struct err *err)
{
    int rc;

    pthread_mutex_lock(&syncer->lock);
    wait_until_free(syncer);
    rc = syncer->failure.code;
    if (rc < 0)
        *err = syncer->failure;
    pthread_mutex_unlock(&syncer->lock);
    return rc;
}

int syncer_start(struct syncer **out, const struct syncer_opts *opts, struct err *err)
{
    struct syncer *syncer = calloc(1, sizeof(*syncer));
    int rc;

    if (!syncer)
        return err_set(err, ERR_NOMEM, "no memory for the database's syncer");
    syncer->opts = *opts;
    pthread_mutex_init(&syncer->lock, NULL);
    pthread_cond_init(&syncer->given, NULL);
    pthread_cond_init(&syncer->finished, NULL);
    rc = thread_start(&syncer->thread, "syncer", run_syncer, syncer, err);
    if (rc < 0) {
        free(syncer);
        return rc;
    }
    *out = syncer;
    return 0;
}

void syncer_stop(struct syncer *syncer)
{
    if (!syncer)
        return;
    pthread_mutex_lock(&syncer->lock);
    syncer->stopping = true;
    pthread_cond_signal(&syncer->given);
    pthread_mutex_unlock(&syncer->lock);
    pthread_join(syncer->thread, NULL);
    pthread_cond_destroy(&syncer->given);
    pthread_cond_destroy(&syncer->finished);
    pthread_mutex_destroy(&syncer->lock);
    free(syncer);
}
