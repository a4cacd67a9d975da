/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "http/message.h"

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
    http_response_error(&response, 401, "bad", "say \"please\"\n");
    assert_int_equal(response.status, 401);
    assert_null(response.content_type);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message__headers_are_found_whatever_their_case),
        cmocka_unit_test(message__error_replaces_the_body),
        cmocka_unit_test(message__headers_cannot_be_forged),
        cmocka_unit_test(message__headers_have_a_ceiling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
