/* SPDX-License-Identifier: MIT */
#include "workos/poller.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static time_t wall_step_s;

/* In libc's place: the machine's clocks, and somebody who sets the one on the wall. */
int clock_gettime(clockid_t id, struct timespec *out)
{
    int rc = (int)syscall(SYS_clock_gettime, id, out);

    if (id == CLOCK_REALTIME)
        out->tv_sec += wall_step_s;
    return rc;
}

/* Symptom: with the clock set back by an hour, /readyz said nothing of an API that failed for as long. */
static void poller__age_is_of_no_clock_that_is_set(void **state)
{
    const struct poller_status status = {.since_ms = clock_boot_ms() - 5000};
    int64_t before_ms = clock_wall_ms();

    (void)state;
    wall_step_s = -3600;
    assert_true(clock_wall_ms() < before_ms); /* it is set */
    assert_in_range(poller_age_s(&status), 5, 60);
    wall_step_s = 3600;
    assert_in_range(poller_age_s(&status), 5, 60);
    wall_step_s = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poller__age_is_of_no_clock_that_is_set),
    };

    return cmocka_run_group_tests_name("poller", tests, NULL, NULL);
}
