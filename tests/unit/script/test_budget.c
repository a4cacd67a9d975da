/* SPDX-License-Identifier: MIT */
#include "script/budget.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { LIMIT_MS = 200 };

static void sleep_until_ms(int64_t when_ms)
{
    while (clock_mono_ms() < when_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void burn_ms(int64_t ms)
{
    int64_t until_ns = clock_thread_cpu_ns() + ms * 1000000;

    while (clock_thread_cpu_ns() < until_ns)
        ;
}

static void assert_describes(const struct budget *budget, const char *text)
{
    char out[128];

    budget_describe(budget, out, sizeof(out));
    assert_non_null(strstr(out, text));
}

static void budget__of_a_call_alone_is_up_by_the_clock(void **state)
{
    struct budget budget = {.limit_bytes = 1024};

    (void)state;
    budget_start(&budget, LIMIT_MS);
    sleep_until_ms(clock_mono_ms() + LIMIT_MS + 2);
    assert_true(budget_interrupts(&budget));
    assert_describes(&budget, "ran longer than 200 ms");
}

/* Symptom: with many slow routes at once, which had a processor for a fifth of the time, all of them were ended. */
static void budget__beside_others_is_what_a_processor_did(void **state)
{
    struct budget budget = {.limit_bytes = 1024};
    int64_t began_ms = clock_mono_ms();

    (void)state;
    budget_start_beside_others(&budget, LIMIT_MS);
    sleep_until_ms(began_ms + 2 * LIMIT_MS);
    assert_false(budget_interrupts(&budget));
    sleep_until_ms(began_ms + BUDGET_PATIENCE * LIMIT_MS + 2);
    assert_true(budget_interrupts(&budget));
    assert_describes(&budget, "had a processor for only");
    assert_describes(&budget, "of 600 ms, and wasn't done");
}

static void budget__beside_others_is_used_up_by_work(void **state)
{
    struct budget budget = {.limit_bytes = 1024};

    (void)state;
    budget_start_beside_others(&budget, 5 * LIMIT_MS);
    burn_ms(LIMIT_MS);
    assert_false(budget_interrupts(&budget));
    burn_ms(4 * LIMIT_MS);
    assert_true(budget_interrupts(&budget));
    assert_true(budget_is_used_up(&budget));
}

static void budget__that_is_stopped_is_never_up(void **state)
{
    struct budget budget = {.limit_bytes = 1024};

    (void)state;
    budget_start_beside_others(&budget, 1);
    budget_stop(&budget);
    burn_ms(5);
    assert_false(budget_interrupts(&budget));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget__of_a_call_alone_is_up_by_the_clock),
        cmocka_unit_test(budget__beside_others_is_what_a_processor_did),
        cmocka_unit_test(budget__beside_others_is_used_up_by_work),
        cmocka_unit_test(budget__that_is_stopped_is_never_up),
    };

    return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
