/* SPDX-License-Identifier: MIT */
/*
 * retention - what is done is forgotten, in two steps.
 *
 * Payloads of done events are emptied after some days; the rows, with the ids by which a repetition
 * is known, go after RETENTION_IDS_DAYS, since the Events API goes back 90 days. What is failed,
 * waiting or dead stays.
 *
 * Which time it is for that, retention_clock.h says: a wrong clock must make nothing forgotten.
 *
 * A sweep is many small jobs, each in some milliseconds done, so that nobody waits for it. Payloads
 * are emptied in order of arrival; authkitd_state remembers how far that is. An event that was
 * passed by then, since it was failed, and is done later, takes that back to before itself. One that was
 * passed by since it seemed to be of the future makes the walk begin anew when it is old enough.
 *
 * Threads    retention_sweep: the upkeep thread; it blocks. retention_come_back: writer, inside a
 *            transaction.
 * Errors     those of the writer: nothing is lost, try again later.
 */
#ifndef WORKOS_RETENTION_H
#define WORKOS_RETENTION_H

#include "base/err.h"
#include "store/db.h"
#include "workos/retention_clock.h"
#include "workos/workos.h"

#include <stdbool.h>
#include <stdint.h>

enum { RETENTION_DAYS_MIN = 7, RETENTION_DAYS_DEFAULT = 30, RETENTION_IDS_DAYS = 100 };

/* What the service remembers of it. */
struct retention {
    struct retention_clock clock;
    struct retention_sums {
        int64_t emptied, removed; /* rows */
    } sums;                       /* of the sweep that goes on */
};

/* One small piece of a sweep; out_more: there is more to do. */
int retention_sweep(struct workos *workos, bool *out_more, struct err *err) MUST_CHECK;

/* The event of that number is done only now: the next sweep looks at it again. */
int retention_come_back(struct db *db, int64_t seq, struct err *err) MUST_CHECK;

#endif
