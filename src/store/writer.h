/* SPDX-License-Identifier: MIT */
/*
 * writer - where all that writes goes through, one after the other.
 *
 * Every change to the database is a job given to the writer's thread. It takes what is queued, runs the jobs in
 * one transaction, each in a savepoint of its own (unless it does without), commits once, and then reports
 * each job's result. A result of 0 therefore means: on disk. While a commit waits for the disk the next
 * batch gathers by itself. What is queued while a batch runs still joins it, at most max_batch jobs in all,
 * until those that have run have waited for about as long as a commit takes.
 *
 *    writer_submit()  --> [ urgent | normal ] -->  BEGIN IMMEDIATE  job*  COMMIT  --> done each
 *    any thread             bounded queues            writer thread
 *
 * Urgent jobs go first, also between the jobs of a batch that has begun. One that changed nothing
 * is reported at once, without waiting for the disk; what it read may then be of the batch that is
 * still open. A batch that has run for max_batch_ms is committed early, so that one slow job
 * doesn't hold up the answers of many.
 *
 * The writer also keeps the WAL small: it checkpoints after a batch, once the answers are out, when
 * some megabytes have gathered, and empties the WAL when nothing was written for a second.
 *
 * Where jobs come one at a time, a thread that comes with one and waits for it (job->is_waited_for,
 * writer_run) may be the writer's for one batch: it runs the job itself, and nobody is woken. For the job there
 * is no difference. So "the writer's thread", here and elsewhere, is whichever holds the writer just then:
 * one at a time, and each sees what the one before it has done. What is of a thread (a lock that is
 * held, _Thread_local) doesn't outlast a job.
 *
 * Threads    writer_submit: any, also from job->done. writer_run: any but the writer's.
 *            writer_start, _stop: main, with nobody in writer_submit or _run any more.
 *            writer_counts, _get_state: any. job->run, job->done, on_full: the writer's thread only;
 *            on_fatal: its own.
 * Ownership  writer_submit borrows the job until job->done is called, exactly once for each job
 *            that was accepted (writer_submit returned 0). done may free the job.
 * Errors     What a job wrote whose run fails is undone, alone; its neighbours still commit. So is
 *            that of one that leaves a reference broken (ERR_CONFLICT).
 *            If the transaction itself is lost (disk full, I/O error, COMMIT failed), every job of
 *            the batch that was not yet reported gets that error and nothing of the batch remains.
 *            Where disk or memory had no room (ERR_FULL, ERR_NOMEM) urgent jobs that had not run
 *            yet are spared: they run in the next batch, so that one that writes nothing is
 *            answered however full the disk is. Every lost batch still reports one job at least, so
 *            that nobody waits for ever.
 *            Some errors of one job end the transaction of all (an UPDATE that was interrupted):
 *            that job is reported with its error, and the others of the batch are run again.
 *            After ERR_FATAL the writer takes no more jobs (ERR_CLOSED), reports those that wait
 *            with ERR_FATAL, and then calls opts.on_fatal once.
 * Limits     A full queue answers ERR_BUSY at once; submitting blocks for a job that is waited
 *            for only. There are two queues:
 *            a flood of normal jobs turns no urgent one away.
 * Not here   SQL and schema, events: a job is a function and its argument.
 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include "base/err.h"
#include "base/metric.h"
#include "store/db.h"

#include <stdbool.h>
#include <stddef.h>

struct writer_job {
    /* Called inside the transaction, which it may not end; statements that it leaves standing are
     * reset. 0 keeps what it wrote, an ERR_* undoes it. It may be called again, when all that the
     * batch wrote was undone because of another job: keep nothing from the first time. */
    int (*run)(struct writer_job *job, struct db *db, struct err *err);

    /* Called after the COMMIT, or after all is lost: rc is run's result, or the batch's error. err
     * is never NULL. Be quick: everybody waits. */
    void (*done)(struct writer_job *job, int rc, const struct err *err);

    bool urgent;

    /* Whoever submits it has nothing else to do until done is called: it may run there and then, and done be
     * called before writer_submit returns (which isn't over when done is). */
    bool is_waited_for;

    /* No savepoint is made for it, which spares a copy of every page that it changes. For jobs that
     * hardly ever fail once they have written: one that does has all that the batch wrote undone,
     * and the others are run again. */
    bool without_savepoint;

    /* Nothing runs behind it in its batch: whatever comes next sees what done has done. */
    bool ends_batch;

    /* The writer's own, between submit and done. */
    struct writer_job *next;
    int rc;
    struct err *err;
    struct writer_call *call;
};

struct writer_opts {
    struct db *db; /* open for writing; the writer's from start to stop, then the caller's again */
    size_t max_queue; /* jobs that may wait, of each kind */
    size_t max_batch;
    int max_batch_ms;
    void (*on_fatal)(void *arg, const struct err *err); /* writer thread; may be NULL */
    /* The first batch was lost to a full disk, or the first one since then was written. Writer thread,
     * before the jobs of the batch are reported; may be NULL. */
    void (*on_full)(void *arg, bool is_full);
    void *arg;
};

/* What was committed: metric.h. */
struct writer_counts {
    struct metric_histogram commits; /* how long the COMMIT took, of batches that wrote something */
    struct metric_histogram
        batches; /* how many jobs they had, of all batches; writer_batch_scale */
};
extern const struct metric_scale writer_batch_scale;

struct writer_state {
    size_t urgent, normal; /* jobs that wait to be taken */
    int64_t full_since_ms; /* wall time: since then the disk has been full; 0: it isn't */
};

struct writer;

int writer_start(struct writer **out, const struct writer_opts *opts, struct err *err) MUST_CHECK;
int writer_submit(struct writer *writer, struct writer_job *job, struct err *err) MUST_CHECK;

/* Submit and wait for done's result; job->done is the writer's here and need not be set. */
int writer_run(struct writer *writer, struct writer_job *job, struct err *err) MUST_CHECK;

const struct writer_counts *writer_counts(const struct writer *writer);
void writer_get_state(struct writer *writer, struct writer_state *out);

/* Refuse new jobs, run those that wait, commit, join the thread, free. NULL is fine. */
void writer_stop(struct writer *writer);

#endif
