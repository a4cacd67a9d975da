/* SPDX-License-Identifier: MIT */
#include "http/waiting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void waiting__each_line_is_in_order(void **state)
{
    struct gate_conn conns[6] = {0};
    struct waiting waiting;

    (void)state;
    waiting_init(&waiting);
    assert_true(waiting_is_empty(&waiting));
    assert_null(waiting_take(&waiting));
    for (int again = 0; again < 2; again++) {
        for (int i = 0; i < 6; i++) {
            conns[i].is_urgent = i % 2;
            waiting_push(&waiting, &conns[i]);
        }
        assert_false(waiting_is_empty(&waiting));
        for (int i = 1; i < 6; i += 2) /* the urgent ones */
            assert_ptr_equal(waiting_take(&waiting), &conns[i]);
        for (int i = 0; i < 6; i += 2)
            assert_ptr_equal(waiting_take(&waiting), &conns[i]);
        assert_null(waiting_take(&waiting));
    }
}

static void waiting__urgent_ones_leave_the_others_a_share(void **state)
{
    struct gate_conn urgent[40] = {0}, normal[3] = {0};
    struct waiting waiting;
    int others = 0;

    (void)state;
    waiting_init(&waiting);
    for (int i = 0; i < 40; i++) {
        urgent[i].is_urgent = true;
        waiting_push(&waiting, &urgent[i]);
    }
    for (int i = 0; i < 3; i++)
        waiting_push(&waiting, &normal[i]);
    for (int taken = 1; taken <= 43; taken++) {
        struct gate_conn *conn = waiting_take(&waiting);

        assert_non_null(conn);
        others += conn >= normal && conn < normal + 3;
        if (taken <= 3 * WAITING_SHARE)
            assert_int_equal(others, taken / WAITING_SHARE);
    }
    assert_int_equal(others, 3);
    assert_null(waiting_take(&waiting));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting__each_line_is_in_order),
        cmocka_unit_test(waiting__urgent_ones_leave_the_others_a_share),
    };

    return cmocka_run_group_tests_name("waiting", tests, NULL, NULL);
}
