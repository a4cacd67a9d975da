/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "http/message.h"

#include <string.h>

static const struct http_header headers[] = {
    {"Host", "x"}, {"X-One", "1"}, {"x-one", "2"}, {"X-One-More", "3"}};
static const struct http_request request = {.headers = headers, .header_count = 4};

static struct http_response response_new(void)
{
    return (struct http_response){.status = 200, .body = BUF_INIT(1024), .headers = BUF_INIT(64)};
}

static void response_release(struct http_response *response)
{
    buf_release(&response->body);
    buf_release(&response->headers);
}

static void message__headers_are_found_whatever_their_case(void **state)
{
    (void)state;
    assert_string_equal(http_request_header(&request, "hOST"), "x");
    assert_string_equal(http_request_header(&request, "X-ONE"), "1");
    assert_null(http_request_header(&request, "X"));
    assert_int_equal(http_request_header_count(&request, "x-One"), 2);
    assert_int_equal(http_request_header_count(&request, "Y"), 0);
}

static void message__error_replaces_the_body(void **state)
{
    struct http_response response = response_new();

    (void)state;
    buf_puts(&response.body, "half an answ");
    response.content_type = "text/plain";
    assert_int_equal(http_response_set_type(&response, "text/html"), 0);
    http_response_error(&response, 401, "bad", "say \"please\"\n");
    assert_int_equal(response.status, 401);
    assert_string_equal(http_response_type(&response), "application/json");
    assert_string_equal(response.body.data,
                        "{\"error\":{\"code\":\"bad\",\"message\":\"say \\\"please\\\"\\n\"}}");
    response_release(&response);
}

static void message__headers_cannot_be_forged(void **state)
{
    struct http_response response = response_new();

    (void)state;
    assert_int_equal(http_response_header(&response, "X-A", "b c\td"), 0);
    assert_int_equal(http_response_header(&response, "X-A", "b\r\nSet-Cookie: c"), ERR_INVALID);
    assert_int_equal(http_response_header(&response, "X-A", "b\x7F"), ERR_INVALID);
    assert_int_equal(http_response_header(&response, "X A", "b"), ERR_INVALID);
    assert_int_equal(http_response_header(&response, "X-A:", "b"), ERR_INVALID);
    assert_int_equal(http_response_header(&response, "", "b"), ERR_INVALID);
    assert_string_equal(response.headers.data, "X-A: b c\td\r\n");
    response_release(&response);
}

static void message__headers_have_a_ceiling(void **state)
{
    struct http_response response = response_new();

    (void)state;
    assert_int_equal(http_response_header(&response, "X-A",
                                          "0123456789012345678901234567890123456789"
                                          "0123456789012345678901234567890123456789"),
                     ERR_LIMIT);
    response_release(&response);
}

/* It had no room and is there in part: no line, and nothing behind it. */
static void message__half_a_header_is_none(void **state)
{
    struct http_response response = response_new();
    char long_value[80] = "";

    (void)state;
    memset(long_value, 'x', sizeof(long_value) - 1);
    assert_int_equal(http_response_header(&response, "X-A", "1"), 0);
    assert_int_equal(http_response_header(&response, "X-B", long_value), ERR_LIMIT);
    assert_true(http_response_has_header(&response, "X-A"));
    assert_false(http_response_has_header(&response, "X-B"));
    assert_false(http_response_has_header(&response, "X-C"));
    response_release(&response);
}

static void message__added_headers_are_found(void **state)
{
    struct http_response response = response_new();

    (void)state;
    assert_false(http_response_has_header(&response, "X-A"));
    assert_int_equal(http_response_header(&response, "X-Ab", "X-A: y"), 0);
    assert_false(http_response_has_header(&response, "X-A"));
    assert_false(http_response_has_header(&response, "X-Abc"));
    assert_int_equal(http_response_header(&response, "x-a", ""), 0);
    assert_true(http_response_has_header(&response, "X-A"));
    assert_true(http_response_has_header(&response, "x-AB"));
    response_release(&response);
}

static void message__type_of_a_response(void **state)
{
    struct http_response response = response_new();
    char long_type[HTTP_TYPE_MAX + 1] = "";

    (void)state;
    memset(long_type, 'x', HTTP_TYPE_MAX);
    assert_string_equal(http_response_type(&response), "application/json");
    response.content_type = "text/plain";
    assert_string_equal(http_response_type(&response), "text/plain");
    response.content_type = "";
    assert_null(http_response_type(&response));
    assert_int_equal(http_response_set_type(&response, ""), ERR_INVALID);
    assert_int_equal(http_response_set_type(&response, "a\r\nb"), ERR_INVALID);
    assert_int_equal(http_response_set_type(&response, long_type), ERR_LIMIT);
    assert_null(http_response_type(&response));
    assert_int_equal(http_response_set_type(&response, long_type + 1), 0);
    assert_string_equal(http_response_type(&response), long_type + 1);
    response_release(&response);
}

static void message__statuses_without_a_body(void **state)
{
    (void)state;
    assert_true(http_status_has_body(200));
    assert_true(http_status_has_body(404));
    assert_false(http_status_has_body(204));
    assert_false(http_status_has_body(304));
    assert_false(http_status_has_body(100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message__headers_are_found_whatever_their_case),
        cmocka_unit_test(message__error_replaces_the_body),
        cmocka_unit_test(message__headers_cannot_be_forged),
        cmocka_unit_test(message__headers_have_a_ceiling),
        cmocka_unit_test(message__half_a_header_is_none),
        cmocka_unit_test(message__added_headers_are_found),
        cmocka_unit_test(message__type_of_a_response),
        cmocka_unit_test(message__statuses_without_a_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
