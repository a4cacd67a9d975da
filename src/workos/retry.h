/* SPDX-License-Identifier: MIT */
/*
 * retry - events that are due run again; those that were expected in vain arrive (intake.h).
 *
 * Several at a time, each as a job of its own on the writer, between the jobs of those who wait for
 * an answer. How many at a time, and with how much of a pause, follows from how long they take: quick
 * ones come in dozens, so that a thousand are done within a second or two of a reload; slow ones one
 * by one, and then half of the writer's time is left to others. Slow ones that stand in the middle of
 * dozens of quick ones end that group: the rest stays due.
 *
 * Threads    retry_due: the upkeep thread; it blocks. retry_set_pace: any.
 * Errors     ERR_BUSY, ERR_FULL and so on: nothing is lost, try again later.
 */
#ifndef WORKOS_RETRY_H
#define WORKOS_RETRY_H

#include "base/err.h"
#include "workos/event_log.h"
#include "workos/workos.h"

#include <stddef.h>
#include <stdint.h>

struct retry_pace {
    size_t at_a_time; /* starts as 0 */
};

/* So many took so long: how many the next time, and how long to leave the writer to others. */
void retry_set_pace(struct retry_pace *pace, int64_t took_ms, int64_t *out_pause_ms);

/*
 * Run some of what is due. out_next_ms: when (wall time) to call it again: now when there may be
 * more, 0 when nothing waits for its time. out_pause_ms: wait so long in any case. Both are set when
 * it fails, too, but for out_next_ms when nothing could be looked up.
 */
int retry_due(struct workos *workos, struct retry_pace *pace, int64_t *out_next_ms,
              int64_t *out_pause_ms, struct err *err) MUST_CHECK;

#endif
