/* SPDX-License-Identifier: MIT */
#include "routes/usage.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool waits(int64_t passed_ms, int64_t cpu_ms, int64_t disk_reads, int processors)
{
    const struct usage from = {.at_ms = 5000, .cpu_ms = 700, .disk_reads = 30};
    const struct usage to = {.at_ms = from.at_ms + passed_ms,
                             .cpu_ms = from.cpu_ms + cpu_ms,
                             .disk_reads = from.disk_reads + disk_reads};

    return usage_waits_for_disk(&from, &to, processors);
}

static void usage__disk_is_waited_for_when_it_is_read_and_processors_are_free(void **state)
{
    (void)state;
    assert_true(waits(100, 10, 8, 2));
    assert_true(waits(100, 120, 8, 2)); /* 60 % of two */
    assert_false(waits(100, 121, 8, 2));
    assert_true(waits(100, 200, 8, 4));
    assert_false(waits(100, 100, 8, 1));
    assert_false(waits(100, 10, 0, 2)); /* others have the processors */
    assert_false(waits(0, 0, 0, 2));
}

static void usage__counts_what_is_worked(void **state)
{
    struct usage from, to;
    int64_t until_ns = clock_thread_cpu_ns() + 30 * INT64_C(1000000);

    (void)state;
    usage_read(&from);
    while (clock_thread_cpu_ns() < until_ns)
        ;
    usage_read(&to);
    assert_true(to.cpu_ms - from.cpu_ms >= 20); /* the kernel's steps may be some milliseconds */
    assert_true(to.at_ms - from.at_ms >= 29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage__disk_is_waited_for_when_it_is_read_and_processors_are_free),
        cmocka_unit_test(usage__counts_what_is_worked),
    };

    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
