/* SPDX-License-Identifier: MIT */
/*
 * handle - one attempt at the script's function for an event, and what is recorded of it.
 *
 * The function runs in a savepoint of its own: if it fails, what it wrote is undone and nothing else
 * is. Then the event is 'failed' and due again after HANDLE_FIRST_RETRY_MS, doubling up to
 * HANDLE_LAST_RETRY_MS; after HANDLE_ATTEMPTS_MAX attempts it is 'dead'.
 *
 * Threads    writer, inside a job of the writer's.
 * Ownership  everything is the caller's.
 * Errors     an error means that the transaction is in doubt and the job must return it. If
 *            attempt->was_lost is set then, the function is to blame: SQLite ends the transaction of
 *            everybody when, say, a writing statement is interrupted. Run the job once more with the
 *            same attempt: it records the failure and doesn't call the function again, unless
 *            there is a new script meanwhile.
 */
#ifndef WORKOS_HANDLE_H
#define WORKOS_HANDLE_H

#include "base/err.h"
#include "workos/event.h"
#include "workos/event_log.h"
#include "workos/workos.h"

enum {
    HANDLE_FIRST_RETRY_MS = 10000,
    HANDLE_LAST_RETRY_MS = 3600000,
    HANDLE_ATTEMPTS_MAX = 20,
};

struct attempt {
    struct workos *workos;
    struct event *event;
    int64_t seq;         /* its number in the log */
    int64_t made_before; /* attempts */
    bool is_retry;       /* the log has it as failed or waiting, not as done already */
    bool was_lost;
    int64_t took_ns;        /* the function; 0: it didn't run */
    uint64_t script_number; /* of the script that lost it */
    struct err failure;
};

/* Call the function and record the outcome; out_status is done, failed or dead. An event that has
 * just arrived stands in the log as done, with this attempt counted: if it goes well, nothing is
 * left to write. */
int handle_event(struct attempt *attempt, enum event_status *out_status, struct err *err)
    MUST_CHECK;

/* Of a user who was deleted, before or by this event, the log keeps nothing but ids: to be called
 * when an event is done or dead. */
int handle_erasure(struct workos *workos, const struct event *event, struct err *err) MUST_CHECK;

/* Wait before the next attempt, when so many were made. */
int64_t handle_retry_delay_ms(int64_t attempts);

#endif
