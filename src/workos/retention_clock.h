/* SPDX-License-Identifier: MIT */
/*
 * retention_clock - which time it is for retention.
 *
 * What is forgotten can't be called back, and an event whose id is forgotten runs again when it is delivered or
 * read again. So one start with a wrong clock must not make things old. authkitd_state remembers the time of the
 * last sweep. The wall clock is believed as long as it is within RETENTION_TRUST_DAYS of that, as after a
 * weekend without a server; further away it only pulls, by RETENTION_PULL hours for each hour that this process
 * runs. After months without a server retention has caught up in some days; a wrong clock that is noticed in
 * the same hours has done nothing.
 *
 *     the ids of events are kept for           100 days   (retention.h)
 *     the Events API goes back                  90 days
 *     so an id may go too early by              10 days   > RETENTION_TRUST_DAYS
 *
 * A file that has no such time takes that of the event that came last; one without events, the wall clock's.
 *
 * Threads    writer, inside a transaction.
 * Errors     those of store/db.h.
 * Limits     a process that ends within an hour of its start doesn't pull: it has seen one sweep.
 */
#ifndef WORKOS_RETENTION_CLOCK_H
#define WORKOS_RETENTION_CLOCK_H

#include "base/err.h"
#include "store/db.h"

#include <stdbool.h>
#include <stdint.h>

enum { RETENTION_TRUST_DAYS = 7, RETENTION_PULL = 24 };

/* Zeros at the start of the process. */
struct retention_clock {
    int64_t asked_mono_ms; /* when it was asked for the time; 0: never */
    bool is_doubted;       /* the wall clock is; the log has been told */
};

/* The time for this sweep, never later than wall_ms, by what the two clocks say. */
int retention_clock_ask(struct retention_clock *clock, struct db *db, int64_t wall_ms,
                        int64_t mono_ms, int64_t *out_ms, struct err *err) MUST_CHECK;

#endif
