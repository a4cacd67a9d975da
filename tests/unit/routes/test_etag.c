/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "routes/etag.h"
#include "unit/routes/exchange.h"

/* The answer {"a":1}, asked for with If-None-Match: list (NULL: without). */
static struct exchange answer(const char *method, const char *list)
{
    struct exchange x = exchange_new(method, "/todos");

    if (list)
        exchange_add(&x, "If-None-Match", list);
    buf_puts(&x.response.body, "{\"a\":1}");
    etag_apply(&x.request, &x.response);
    return x;
}

enum { TAG_SIZE = EXCHANGE_VALUE_MAX };

static void make_tag(char out[TAG_SIZE])
{
    struct exchange x = answer("GET", NULL);

    snprintf(out, TAG_SIZE, "%s", exchange_header(&x, "ETag"));
    exchange_release(&x);
}

static void etag__is_the_same_for_the_same_answer_only(void **state)
{
    struct exchange x = exchange_new("GET", "/todos");
    char tag[TAG_SIZE];

    (void)state;
    make_tag(tag);
    assert_int_equal(strlen(tag), 34);
    assert_int_equal(tag[0], '"');
    buf_puts(&x.response.body, "{\"a\":2}");
    etag_apply(&x.request, &x.response);
    assert_string_not_equal(exchange_header(&x, "ETag"), tag);
    exchange_release(&x);
}

static void etag__what_the_client_has_is_not_sent_again(void **state)
{
    static const char *const forms[] = {"%s", "W/%s", "\"x\", %s", "\"x\",W/\"y\" , %s,\"z\"", "*"};
    char tag[TAG_SIZE], list[2 * TAG_SIZE];

    (void)state;
    make_tag(tag);
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct exchange x;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(list, sizeof(list), forms[i], tag);
#pragma GCC diagnostic pop
        x = answer(i % 2 ? "HEAD" : "GET", list);
        assert_int_equal(x.response.status, 304);
        assert_int_equal(x.response.body.len, 0);
        assert_string_equal(exchange_header(&x, "ETag"), tag);
        exchange_release(&x);
    }
}

/* A second line was not looked at. */
static void etag__several_lines_are_one_list(void **state)
{
    char tag[TAG_SIZE];

    (void)state;
    make_tag(tag);
    for (int last = 0; last < 3; last++) {
        struct exchange x = exchange_new("GET", "/todos");

        for (int i = 0; i < 3; i++)
            exchange_add(&x, i == 1 ? "if-none-match" : "If-None-Match", i == last ? tag : "\"a\"");
        exchange_add(&x, "If-Match", "\"b\"");
        buf_puts(&x.response.body, "{\"a\":1}");
        etag_apply(&x.request, &x.response);
        assert_int_equal(x.response.status, 304);
        exchange_release(&x);
    }
}

static void etag__anything_else_is_sent(void **state)
{
    static const char *const lists[] = {"\"x\"", "", "x", "\"", "\"x", "W/", ",,,", "\"x\" y"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct exchange x = answer("GET", lists[i]);

        assert_int_equal(x.response.status, 200);
        assert_string_equal(buf_text(&x.response.body), "{\"a\":1}");
        exchange_release(&x);
    }
}

static void etag__only_answers_to_reading_have_one(void **state)
{
    struct exchange x = answer("POST", "*");

    (void)state;
    assert_int_equal(x.response.status, 200);
    assert_null(exchange_header(&x, "ETag"));
    exchange_release(&x);
    x = exchange_new("GET", "/todos");
    x.response.status = 404;
    etag_apply(&x.request, &x.response);
    assert_null(exchange_header(&x, "ETag"));
    exchange_release(&x);
}

static void etag__the_scripts_own_is_used(void **state)
{
    struct exchange x = exchange_new("GET", "/todos");

    (void)state;
    exchange_add(&x, "If-None-Match", "\"mine\"");
    assert_int_equal(http_response_header(&x.response, "etag", "W/\"mine\""), 0);
    buf_puts(&x.response.body, "text");
    etag_apply(&x.request, &x.response);
    assert_int_equal(x.response.status, 304);
    assert_string_equal(buf_text(&x.response.headers), "etag: W/\"mine\"\r\n");
    exchange_release(&x);
}

/* The same bytes as another type are another answer. */
static void etag__is_of_the_type_as_well(void **state)
{
    struct exchange x = exchange_new("GET", "/todos");
    char tag[TAG_SIZE];

    (void)state;
    make_tag(tag);
    x.response.content_type = "text/plain; charset=utf-8";
    buf_puts(&x.response.body, "{\"a\":1}");
    etag_apply(&x.request, &x.response);
    assert_string_not_equal(exchange_header(&x, "ETag"), tag);
    exchange_release(&x);
}

/* What a script calls a tag and is none, or is longer than what is looked at, fits nothing. */
static void etag__what_is_no_tag_is_not_compared(void **state)
{
    static const char *const tags[] = {"", "W/", "\"", "mine", "W/mine", "\"mine"};
    char long_tag[301] = "\"", other[301] = "\"";

    (void)state;
    memset(long_tag + 1, 'x', 299);
    memset(other + 1, 'x', 299);
    long_tag[299] = other[299] = '"';
    other[298] = 'y';
    for (size_t i = 0; i < ARRAY_LEN(tags) + 1; i++) {
        struct exchange x = exchange_new("GET", "/todos");

        exchange_add(&x, "If-None-Match", i < ARRAY_LEN(tags) ? "\"mine\"" : other);
        assert_int_equal(
            http_response_header(&x.response, "ETag", i < ARRAY_LEN(tags) ? tags[i] : long_tag), 0);
        etag_apply(&x.request, &x.response);
        assert_int_equal(x.response.status, 200);
        exchange_release(&x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(etag__is_the_same_for_the_same_answer_only),
        cmocka_unit_test(etag__what_the_client_has_is_not_sent_again),
        cmocka_unit_test(etag__several_lines_are_one_list),
        cmocka_unit_test(etag__anything_else_is_sent),
        cmocka_unit_test(etag__only_answers_to_reading_have_one),
        cmocka_unit_test(etag__the_scripts_own_is_used),
        cmocka_unit_test(etag__is_of_the_type_as_well),
        cmocka_unit_test(etag__what_is_no_tag_is_not_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
