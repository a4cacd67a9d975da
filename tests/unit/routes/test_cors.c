/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "routes/cors.h"
#include "unit/routes/exchange.h"

static const char app[] = "https://app.example.com";

/* The answer to a request of the origin (NULL: no browser) when origins may. */
static struct exchange answer(const char *origins, const char *method, const char *origin,
                              const char *asks_for)
{
    struct exchange x = exchange_new(method, "/todos");
    struct cors *cors = NULL;
    struct err err;

    assert_int_equal(cors_new(&cors, origins, &err), 0);
    if (origin)
        exchange_add(&x, "Origin", origin);
    if (asks_for) {
        exchange_add(&x, "Access-Control-Request-Method", "PATCH");
        exchange_add(&x, "Access-Control-Request-Headers", asks_for);
    }
    cors_allow(cors, &x.request, &x.response);
    if (cors_is_preflight(&x.request))
        cors_allow_request(cors, &x.request, "GET, PATCH", &x.response);
    cors_free(cors);
    return x;
}

static void cors__nobody_may_unless_it_is_said(void **state)
{
    struct exchange x = answer(NULL, "GET", app, NULL);

    (void)state;
    assert_int_equal(x.response.headers.len, 0);
    exchange_release(&x);
}

static void cors__an_allowed_origin_may_read_the_answer(void **state)
{
    struct exchange x = answer("http://localhost:3000,https://app.example.com", "GET", app, NULL);

    (void)state;
    assert_string_equal(exchange_header(&x, "Access-Control-Allow-Origin"), app);
    assert_string_equal(exchange_header(&x, "Vary"), "Origin");
    assert_non_null(strstr(exchange_header(&x, "Access-Control-Expose-Headers"), "ETag"));
    assert_null(exchange_header(&x, "Access-Control-Allow-Methods"));
    exchange_release(&x);
}

static void cors__others_may_not_and_caches_know_it(void **state)
{
    static const char *const others[] = {"https://app.example.com.evil.com",
                                         "https://app.example.co",
                                         "http://app.example.com",
                                         "https://APP.example.com",
                                         "null",
                                         ""};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct exchange x = answer(app, "GET", others[i], NULL);

        assert_null(exchange_header(&x, "Access-Control-Allow-Origin"));
        assert_string_equal(exchange_header(&x, "Vary"), "Origin");
        exchange_release(&x);
    }
}

static void cors__a_star_is_for_everybody(void **state)
{
    struct exchange x = answer("*", "GET", "https://anybody.example", NULL);

    (void)state;
    assert_string_equal(exchange_header(&x, "Access-Control-Allow-Origin"), "*");
    assert_null(exchange_header(&x, "Vary"));
    exchange_release(&x);
}

static void cors__a_preflight_says_what_may_be_sent(void **state)
{
    struct exchange x = answer(app, "OPTIONS", app, "authorization,content-type");

    (void)state;
    assert_string_equal(exchange_header(&x, "Access-Control-Allow-Methods"), "GET, PATCH");
    assert_string_equal(exchange_header(&x, "Access-Control-Allow-Headers"),
                        "authorization,content-type");
    assert_string_equal(exchange_header(&x, "Access-Control-Max-Age"), "600");
    exchange_release(&x);
    x = answer(app, "OPTIONS", "https://evil.example", "authorization");
    assert_null(exchange_header(&x, "Access-Control-Allow-Methods"));
    assert_null(exchange_header(&x, "Access-Control-Allow-Headers"));
    exchange_release(&x);
}

static void cors__nothing_is_echoed_that_would_be_a_header_of_its_own(void **state)
{
    struct exchange x = answer(app, "OPTIONS", app, "x\x01y");

    (void)state;
    assert_null(exchange_header(&x, "Access-Control-Allow-Headers"));
    assert_true(buf_ok(&x.response.headers));
    exchange_release(&x);
}

static void cors__what_the_script_has_said_stands(void **state)
{
    struct exchange x = exchange_new("GET", "/todos");
    struct cors *cors = NULL;
    struct err err;

    (void)state;
    assert_int_equal(cors_new(&cors, app, &err), 0);
    exchange_add(&x, "Origin", app);
    assert_int_equal(http_response_header(&x.response, "access-control-allow-origin", "*"), 0);
    cors_allow(cors, &x.request, &x.response);
    assert_string_equal(buf_text(&x.response.headers), "access-control-allow-origin: *\r\n");
    cors_free(cors);
    exchange_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cors__nobody_may_unless_it_is_said),
        cmocka_unit_test(cors__an_allowed_origin_may_read_the_answer),
        cmocka_unit_test(cors__others_may_not_and_caches_know_it),
        cmocka_unit_test(cors__a_star_is_for_everybody),
        cmocka_unit_test(cors__a_preflight_says_what_may_be_sent),
        cmocka_unit_test(cors__nothing_is_echoed_that_would_be_a_header_of_its_own),
        cmocka_unit_test(cors__what_the_script_has_said_stands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
