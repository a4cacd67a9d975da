/* SPDX-License-Identifier: MIT */
#include "app/privileges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void privileges__low_ports(void **state)
{
    (void)state;
    assert_true(privileges_is_low_port("0.0.0.0:443"));
    assert_true(privileges_is_low_port("[::]:1"));
    assert_true(privileges_is_low_port("127.0.0.1:1023"));
    assert_false(privileges_is_low_port("127.0.0.1:1024"));
    assert_false(privileges_is_low_port("[::1]:8080"));
    assert_false(privileges_is_low_port("127.0.0.1:0")); /* any free one: never a low one */
    assert_false(privileges_is_low_port("off"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(privileges__low_ports),
    };

    return cmocka_run_group_tests_name("privileges", tests, NULL, NULL);
}
