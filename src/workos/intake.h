/* SPDX-License-Identifier: MIT */
/*
 * intake - an event's way to the disk, whoever brought it: a webhook or the Events API.
 *
 * Read on the caller's thread; then, on the writer's, inside one savepoint:
 *   1. into workos_events; an id that is there already ends it (duplicate: nothing runs)
 *   2. the mirror is brought up to date
 *   3. the script's function for the type runs in a savepoint of its own; if it fails, that alone
 *      is undone and the event is kept as 'failed' with the error
 * An outcome of 0 is reported after the COMMIT: the event is on disk, together with everything that
 * its function wrote.
 *
 * Step 3 is put off when an earlier event of the same object is still failed or waiting; and when the
 * writer had so much to do that this event has waited for INTAKE_PATIENCE_MS already, since a sender
 * gives up some time (WorkOS's emulator: after 5 s). Then it is 'waiting' on disk, and the outcome is
 * the same: the event is ours, and its function runs as soon as there is time. Until then, and while it is
 * failed, the event is remembered as it came, with what is never stored of it (bodies.h).
 *
 * With opts.ordered most webhooks are only kept ('expected'): no step but the first, until the Events API
 * brings the event in its turn, or doesn't (poller.h).
 *
 * Step 3 is left out for the "….created" of an object that backfill has brought before, and for the
 * "….deleted" of one that it has pruned (backfill.h): its function has run for it then.
 *
 * Threads    any, several at once; intake_run_all blocks until the commit, intake_begin only as far as
 *            is_waited_for lets it.
 * Ownership  an intake is the caller's; it borrows the body until intake_release.
 * Errors     intake_read: ERR_INVALID: it is no event, err says why; ERR_NOMEM. intake_outcome: those
 *            of the writer; it isn't stored then.
 */
#ifndef WORKOS_INTAKE_H
#define WORKOS_INTAKE_H

#include "base/buf.h"
#include "base/err.h"
#include "store/writer.h"
#include "workos/event.h"
#include "workos/handle.h"
#include "workos/workos.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    INTAKE_PATIENCE_MS = 4500,
    INTAKE_CROWDED_PATIENCE_MS = 1000, /* while at least opts.crowd wait like it: it will be long */
};

struct intake {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct event event; /* as it came: what the function sees */

    /* What is kept: the same, or, when there are secrets in it, one without them. */
    struct event *kept;
    struct event clean;
    struct buf clean_body;

    int64_t arrived_ms; /* monotonic */
    struct buf reason;  /* why it is dead on arrival */
    struct attempt attempt;
    bool is_expected; /* it is only kept: another arrival of it is to come */
    bool is_put_off;  /* its function is to run afterwards, whatever time there is */

    bool duplicate;           /* the outcome: it was known already */
    enum event_status status; /* the outcome, else */
    bool has_function;        /* of intake_look: the script has one for its type */
    int rc;                   /* the outcome, all in all */
    struct err err;
    bool is_second_run; /* the first was lost with everybody's transaction */
    void (*done)(void *arg);
    void *arg;
};

/* On an intake that need not be set up. When it fails there is nothing to release. */
int intake_read(struct intake *intake, struct workos *workos, const char *body, size_t body_len,
                struct err *err) MUST_CHECK;
void intake_release(struct intake *intake);

/* On its way. done is called once: on the writer's thread after the commit, or before this returns
 * when the writer doesn't take it. It may release the intake. is_waited_for: the caller has nothing else to do
 * until then, and may be that thread. */
void intake_begin(struct intake *intake, bool is_waited_for, void (*done)(void *arg), void *arg);

/* After done: how it went, which is logged and counted here. */
int intake_outcome(const struct intake *intake, struct err *err) MUST_CHECK;

/* The same inside a job of the caller's. Thread: writer. */
int intake_take(struct intake *intake, struct db *db, struct err *err) MUST_CHECK;

/* Only look whether the log has it already (duplicate); nothing is taken in, and may be afterwards. */
int intake_look(struct intake *intake, struct err *err) MUST_CHECK;

/* All at once, so that one commit serves many, and in order. Each has its outcome in rc; returns the
 * first error. */
int intake_run_all(struct intake *intakes, size_t count, struct err *err) MUST_CHECK;

#endif
