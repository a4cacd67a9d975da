/* SPDX-License-Identifier: MIT */
/*
 * upkeep - the thread that does what is due by the clock: events that run again (retry.h), and what
 * is forgotten in time (retention.h). All it writes it writes as jobs of the writer's.
 *
 * Threads    upkeep_start, _stop, _free: main. upkeep_wake: any, until upkeep_free.
 * Ownership  the service must outlive it.
 */
#ifndef WORKOS_UPKEEP_H
#define WORKOS_UPKEEP_H

#include "base/err.h"

#include <stdint.h>

struct upkeep;
struct workos;

int upkeep_start(struct upkeep **out, struct workos *workos, struct err *err) MUST_CHECK;

/* Before the writer stops: nothing more is begun. */
void upkeep_stop(struct upkeep *upkeep); /* NULL is fine, here and below */
void upkeep_free(struct upkeep *upkeep);

/* Something is due at that wall time (ms); in the past: now. */
void upkeep_wake(struct upkeep *upkeep, int64_t due_ms);

/* A new script: what is due runs at once, whatever pause the old one's slow functions have earned. */
void upkeep_start_anew(struct upkeep *upkeep);

#endif
