/* SPDX-License-Identifier: MIT */
#include "workos/counts.h"

#include "workos/workos_state.h"

_Static_assert((int)OUTCOME_DONE == EVENT_DONE && (int)OUTCOME_FAILED == EVENT_FAILED &&
                   (int)OUTCOME_WAITING == EVENT_WAITING && (int)OUTCOME_DEAD == EVENT_DEAD &&
                   (int)OUTCOME_EXPECTED == EVENT_EXPECTED,
               "an event's status is its outcome");

const char *const workos_outcome_names[OUTCOMES] = {"done", "failed",   "waiting",
                                                    "dead", "expected", "duplicate"};
const char *const workos_verdict_names[VERDICTS] = {"allow", "deny", "error", "no_function"};

const struct workos_counts *workos_counts(const struct workos *workos)
{
    return &workos->counts;
}

const struct writer_counts *workos_writer_counts(const struct workos *workos)
{
    return writer_counts(workos->writer);
}

void workos_get_state(struct workos *workos, struct writer_state *out)
{
    writer_get_state(workos->writer, out);
}
