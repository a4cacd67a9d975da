/* SPDX-License-Identifier: MIT */
/*
 * upkeep - the thread that does what is due by the clock: events that run again (retry.h), what is
 * forgotten in time (retention.h), whether a full disk has room again (room.h). It also tells the log
 * what was left out of it (base/repeat.h). All it writes it writes as jobs of the writer's.
 *
 * Threads    upkeep_start, _stop, _free: main. The others: any, until upkeep_free.
 * Ownership  the service must outlive it.
 */
#ifndef WORKOS_UPKEEP_H
#define WORKOS_UPKEEP_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct upkeep;
struct workos;

int upkeep_start(struct upkeep **out, struct workos *workos, struct err *err) MUST_CHECK;

/* Before the writer stops: nothing more is begun. */
void upkeep_stop(struct upkeep *upkeep); /* NULL is fine, here and below */
void upkeep_free(struct upkeep *upkeep);

/* Something is due at that wall time (ms); in the past: now. */
void upkeep_wake(struct upkeep *upkeep, int64_t due_ms);

/* While the disk is full it is tried every few seconds whether there is room again. */
void upkeep_watch_room(struct upkeep *upkeep, bool is_full);

/* A new script: what is due runs at once, whatever pause the old one's slow functions have earned. */
void upkeep_start_anew(struct upkeep *upkeep);

#endif
