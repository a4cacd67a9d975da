/* SPDX-License-Identifier: MIT */
/*
 * counts - what the service counts (base/metric.h) and what it is like now, for /metrics and /readyz.
 *
 * Only what is on disk is counted: after the COMMIT.
 *
 * Threads    workos_counts, workos_get_state: any, while the service runs.
 * Ownership  the counts are the service's.
 */
#ifndef WORKOS_COUNTS_H
#define WORKOS_COUNTS_H

#include "base/metric.h"
#include "store/writer.h"
#include "workos/workos.h"

#include <stddef.h>

/* What became of an event: of a webhook, of one that the Events API brought, and of every later
 * attempt. The first ones are enum event_status. What the Events API only shows again isn't counted. */
enum {
    OUTCOME_DONE,
    OUTCOME_FAILED,
    OUTCOME_WAITING,
    OUTCOME_DEAD,
    OUTCOME_EXPECTED,
    OUTCOME_DUPLICATE,
    OUTCOMES
};
extern const char *const workos_outcome_names[OUTCOMES];

/* What an action was answered; an error may have been made a verdict (--action-on-error). Of those that
 * have no function none is made up. */
enum { VERDICT_ALLOW, VERDICT_DENY, VERDICT_ERROR, VERDICT_NO_FUNCTION, VERDICTS };
extern const char *const workos_verdict_names[VERDICTS];

struct workos_counts {
    struct metric_table events; /* by type; the columns are OUTCOME_ */
    struct metric_table
        actions; /* by name, WorkOS's own from the start; the columns are VERDICT_ */
    struct metric_histogram event_functions, action_functions; /* metric_scale_seconds */
    atomic_size_t script_bytes; /* that the script's Lua state had after its last call */
};

const struct workos_counts *workos_counts(const struct workos *workos);
const struct writer_counts *workos_writer_counts(const struct workos *workos);
void workos_get_state(struct workos *workos, struct writer_state *out);

#endif
