/* SPDX-License-Identifier: MIT */
#include "workos/circle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* How many pages are read of a list that has some pages, and then others that come round. */
static int pages_until_closed(int straight, int round)
{
    struct circle circle = {0};
    char cursor[32];

    for (int i = 0; i < 100000; i++) {
        snprintf(cursor, sizeof(cursor), "event_%d",
                 i < straight ? i : straight + (i - straight) % round);
        if (circle_closes(&circle, cursor))
            return i + 1;
    }
    return -1;
}

static void circle__any_is_found_soon(void **state)
{
    (void)state;
    for (int straight = 0; straight < 40; straight++)
        for (int round = 1; round < 40; round++)
            assert_in_range(pages_until_closed(straight, round), round + 1,
                            2 * straight + 3 * round + 1);
}

static void circle__a_long_list_is_none(void **state)
{
    (void)state;
    assert_int_equal(pages_until_closed(100000, 1), -1);
}

static void circle__empty_pages_end_when_there_are_many(void **state)
{
    struct circle circle = {0};

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CIRCLE_EMPTY_MAX; i++)
            assert_false(circle_stays_empty(&circle, true));
        assert_false(circle_stays_empty(&circle, false));
    }
    for (int i = 0; i < CIRCLE_EMPTY_MAX; i++)
        assert_false(circle_stays_empty(&circle, true));
    assert_true(circle_stays_empty(&circle, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(circle__any_is_found_soon),
        cmocka_unit_test(circle__a_long_list_is_none),
        cmocka_unit_test(circle__empty_pages_end_when_there_are_many),
    };

    return cmocka_run_group_tests_name("circle", tests, NULL, NULL);
}
