/* SPDX-License-Identifier: MIT */
/*
 * usage - what this process has had of the processors and the disk, and so what its threads wait for.
 *
 * Threads    any.
 */
#ifndef ROUTES_USAGE_H
#define ROUTES_USAGE_H

#include <stdbool.h>
#include <stdint.h>

enum { USAGE_BUSY_PERCENT = 60 };

struct usage {
    int64_t at_ms;      /* monotonic */
    int64_t cpu_ms;     /* of all processors together */
    int64_t disk_reads; /* what a cache had isn't one: getrusage(2), ru_inblock */
};

void usage_read(struct usage *out);

/*
 * Between the two, did threads wait for the disk rather than for a processor? Then more of them at once get more
 * done; else each would only take longer. No reading at all is an answer: then there was nothing but
 * processors to wait for, be it other processes that had them. So are processors that we had for more than
 * USAGE_BUSY_PERCENT of the time.
 */
bool usage_waits_for_disk(const struct usage *from, const struct usage *to, int processors);

#endif
