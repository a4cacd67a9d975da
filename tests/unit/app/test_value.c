/* SPDX-License-Identifier: MIT */
#include "app/value.h"

#include "base/compiler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct value_case {
    const char *value, *wanted; /* NULL: fine */
};

static void expect(const char *(*fault_of)(const char *), const struct value_case *cases,
                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *fault = fault_of(cases[i].value);

        if (!fault != !cases[i].wanted || (fault && !strstr(fault, cases[i].wanted)))
            fail_msg("'%s': %s, wanted %s", cases[i].value, fault, cases[i].wanted);
    }
}

static void value__origins(void **state)
{
    static const struct value_case cases[] = {
        {"*", NULL},
        {"https://app.example.com", NULL},
        {"http://localhost:3000", NULL},
        {"http://127.0.0.1:65535", NULL},
        {"http://[::1]:3000", NULL},
        {"https://[2001:db8::1]", NULL},
        {"https://xn--bcher-kva.example", NULL},
        {"capacitor://localhost", NULL},
        {"https://a:80", NULL},
        {"http://a:443", NULL},
        {"", "* or an origin"},
        {"app.example.com", "* or an origin"},
        {"//app.example.com", "* or an origin"},
        {"https://", "* or an origin"},
        {"https:/a", "* or an origin"},
        {"null", "* or an origin"},
        {"**", "* or an origin"},
        {"https://*.example.com", "* or an origin"},
        {"https://a b", "* or an origin"},
        {"https://me@a", "* or an origin"},
        {"https://b\xC3\xBC"
         "cher.example",
         "* or an origin"},
        {"https://a:", "* or an origin"},
        {"https://a:0", "* or an origin"},
        {"https://a:080", "* or an origin"},
        {"https://a:65536", "* or an origin"},
        {"https://a:1:2", "* or an origin"},
        {"https://:80", "* or an origin"},
        {"https://[::1", "* or an origin"},
        {"https://[]", "* or an origin"},
        {"HTTPS://a", "* or an origin"},
        {"https://App.example.com", "lower case"},
        {"https://a/", "leave out the slash"},
        {"https://a//", "leave out the slash"},
        {"https://a/b", "without a path"},
        {"https://a?b", "* or an origin"},
        {"https://a:443", "without the port"},
        {"http://a:80", "without the port"},
    };

    (void)state;
    expect(value_origin_fault, cases, ARRAY_LEN(cases));
}

static void value__issuers(void **state)
{
    static const struct value_case cases[] = {
        {"https://api.workos.com", NULL},
        {"https://api.workos.com/user_management/client_1", NULL},
        {"http://localhost:4100", NULL},
        {"", "as it stands in the tokens"},
        {"api.workos.com", "as it stands in the tokens"},
        {"https://a b", "without spaces"},
    };

    (void)state;
    expect(value_issuer_fault, cases, ARRAY_LEN(cases));
}

static void value__client_ids_and_audiences(void **state)
{
    static const struct value_case ids[] = {
        {"client_01HXYZ", NULL},          {"project_01H-x.y", NULL}, {"", "not empty"},
        {"client 1", "client id"},        {"a/b", "client id"},      {"a,b", "client id"},
        {"sk_test_1", "not the API key"},
    };
    static const struct value_case audiences[] = {
        {"api://mine", NULL},
        {"any text", NULL},
        {"a\nb", "control characters"},
        {"\x7F", "control characters"},
    };

    (void)state;
    expect(value_client_id_fault, ids, ARRAY_LEN(ids));
    expect(value_audience_fault, audiences, ARRAY_LEN(audiences));
}

static void value__admin_tokens(void **state)
{
    static const struct value_case cases[] = {
        {"0123456789abcdef", NULL},
        {"0123456789abcde", "16 to 512"},
        {"", "16 to 512"},
        {"0123456789 abcdef", "without blanks"},
        {"0123456789abcdef\n", "without blanks"},
        {"0123456789abcdef\xC3\xA4", "plain characters"},
    };

    (void)state;
    expect(value_admin_token_fault, cases, ARRAY_LEN(cases));
}

static void value__hosts(void **state)
{
    static const struct value_case cases[] = {
        {"api.workos.com", NULL},
        {"Auth.Example.com", NULL},
        {"localhost", NULL},
        {"my_host", NULL},
        {"127.0.0.1", NULL},
        {"[::1]", NULL},
        {"[2001:DB8::1]", NULL},
        {"b\xC3\xBC"
         "cher.example",
         NULL},
        {"", "not empty"},
        {"https://api.workos.com", "without https:// and without a path"},
        {"http://localhost:4100", "without https:// and without a path"},
        {"//api.workos.com", "without https:// and without a path"},
        {"api.workos.com/", "without https:// and without a path"},
        {"a/b", "without https:// and without a path"},
        {"api.workos.com ", "a host name, such as"},
        {"api.workos.com\n", "a host name, such as"},
        {"me@api.workos.com", "a host name, such as"},
        {"api.workos.com?x", "a host name, such as"},
        {"api.workos.com#x", "a host name, such as"},
        {"localhost:4100", "without a port"},
        {"[::1]:4100", "without a port"},
        {"[::1", "without a port"},
        {"[]", "without a port"},
        {"::1", "[::1] for IPv6"},
    };

    (void)state;
    expect(value_host_fault, cases, ARRAY_LEN(cases));
}

static void value__api_keys(void **state)
{
    static const struct value_case cases[] = {
        {"sk_test_1", NULL},
        {"a-key.of/another+kind=", NULL},
        {"sk_test\n1", "without blanks, line breaks"},
        {"sk_test_1\r", "without blanks, line breaks"},
        {"sk_test\x7F", "without blanks, line breaks"},
        {"sk_test 1", "without blanks, line breaks"},
        {"sk_test\xC2\xA0", "without blanks, line breaks"},
    };

    (void)state;
    expect(value_api_key_fault, cases, ARRAY_LEN(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value__admin_tokens), cmocka_unit_test(value__hosts),
        cmocka_unit_test(value__api_keys),     cmocka_unit_test(value__origins),
        cmocka_unit_test(value__issuers),      cmocka_unit_test(value__client_ids_and_audiences),
    };

    return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}
