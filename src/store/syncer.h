/* SPDX-License-Identifier: MIT */
/*
 * syncer - makes a batch durable, and reports its jobs, while the writer goes on with the next one.
 *
 * An fsync takes as long as the disk takes, and the processor has nothing to do meanwhile. So when jobs
 * wait already, the writer leaves the sync of a batch that it has committed to this thread:
 *
 *     writer   | run 1 | commit | run 2        | commit | run 3 ...
 *     syncer                    | sync, done 1 |        | sync, done 2 | ...
 *
 * One batch at a time: syncer_take waits for the one before. A sync that fails ends everything: its
 * jobs are reported with the error, and so is every batch that comes after it.
 *
 * Threads    syncer_start, _stop: main. syncer_take, _wait: the writer's. report: the syncer's own.
 * Ownership  the jobs are the syncer's from syncer_take until report has them.
 */
#ifndef STORE_SYNCER_H
#define STORE_SYNCER_H

#include "base/err.h"
#include "store/db.h"
#include "store/writer.h"

struct syncer_opts {
    struct db *db;
    /* Every job of the list; failure: NULL, or why none of them may count. */
    void (*report)(struct writer_job *first, const struct err *failure);
    void (*on_failure)(void *arg); /* after that report, once: nothing more will be synced */
    void *arg;
    struct metric_histogram *commits; /* gets how long it took since began_ns, unless that is 0 */
};

struct syncer;

int syncer_start(struct syncer **out, const struct syncer_opts *opts, struct err *err) MUST_CHECK;
void syncer_stop(struct syncer *syncer); /* after its last batch was reported; NULL is fine */

void syncer_take(struct syncer *syncer, struct writer_job *first, int64_t began_ns);

/* Until nothing is under way. ERR_FATAL: a sync has failed, now or before; err says why. */
int syncer_wait(struct syncer *syncer, struct err *err) MUST_CHECK;

#endif
