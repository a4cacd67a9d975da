/* SPDX-License-Identifier: MIT */
#include "routes/usage.h"

#include "base/clock.h"

#include <sys/resource.h>

static int64_t in_ms(struct timeval time)
{
    return time.tv_sec * INT64_C(1000) + time.tv_usec / 1000;
}

void usage_read(struct usage *out)
{
    struct rusage all;

    getrusage(RUSAGE_SELF, &all);
    *out = (struct usage){
        .at_ms = clock_mono_ms(),
        .cpu_ms = in_ms(all.ru_utime) + in_ms(all.ru_stime),
        .disk_reads = all.ru_inblock,
    };
}

bool usage_waits_for_disk(const struct usage *from, const struct usage *to, int processors)
{
    int64_t had_ms = to->cpu_ms - from->cpu_ms;
    int64_t there_were_ms = (to->at_ms - from->at_ms) * processors;

    return to->disk_reads != from->disk_reads && had_ms * 100 <= there_were_ms * USAGE_BUSY_PERCENT;
}
