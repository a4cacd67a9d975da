/* SPDX-License-Identifier: MIT */
#include "base/authority.h"

#include "base/compiler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void authority__host(void **state)
{
    static const struct {
        const char *authority;
        size_t length;
    } cases[] = {
        {"a", 1},     {"a:1", 1},     {"", 0},   {":1", 0},
        {"[::1]", 5}, {"[::1]:9", 5}, {"[a", 2}, {"[:", 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(authority_host_length(cases[i].authority), cases[i].length);
}

static void authority__loopback(void **state)
{
    static const char *const loopback[] = {"localhost",    "LOCALHOST:1",   "127.0.0.1",
                                           "127.0.0.1:80", "127.255.0.9:0", "[::1]",
                                           "[::1]:9090"};
    static const char *const others[] = {"",
                                         ":80",
                                         "0.0.0.0:80",
                                         "[::]:80",
                                         "[::2]",
                                         "127.1",
                                         "128.0.0.1",
                                         "localhost.",
                                         "::1",
                                         "[::1",
                                         "[]",
                                         "[127.0.0.1]",
                                         "127.0.0.1.example",
                                         "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(loopback); i++)
        if (!authority_is_loopback(loopback[i]))
            fail_msg("not loopback: '%s'", loopback[i]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (authority_is_loopback(others[i]))
            fail_msg("loopback: '%s'", others[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(authority__host),
        cmocka_unit_test(authority__loopback),
    };

    return cmocka_run_group_tests_name("authority", tests, NULL, NULL);
}
