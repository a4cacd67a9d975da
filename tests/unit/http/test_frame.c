/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "http/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BODY = 1000 * 1000 };

static const struct {
    const char *bytes;
    bool ready;
    size_t size; /* of the request; 0: not known */
} cases[] = {
    {"", false, 0},
    {"G", false, 0},
    {"GET / HTTP/1.1\r\nHost: x\r\n", false, 0},
    {"GET / HTTP/1.1\r\nHost: x\r\n\r", false, 0},
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, 27},
    {"GET / HTTP/1.1\nHost: x\n\n", true, 24},
    {"\r\nGET / HTTP/1.1\r\n", false, 0},
    {"\r\n\r\n", true, 4},
    {"GET \x01", true, 0},
    {"GET\t", true, 0},
    {"\x16\x03\x01", true, 0},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", false, 43},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell", false, 43},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", true, 43},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello, and more", true, 43},
    {"POST / HTTP/1.1\r\ncontent-LENGTH:5 \r\n\r\n", false, 43},
    {"POST / HTTP/1.1\nContent-Length: 5\n\n", false, 40},
    {"POST / HTTP/1.1\r\nX-Content-Length: 5\r\n\r\n", true, 40},
    {"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", true, 38},
    {"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", false, 100043},
    {"POST / HTTP/1.1\r\nContent-Length: 1000001\r\n\r\n", true, 44},
    {"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", true, 57},
    {"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", true, 39},
    {"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", true, 36},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", true, 57},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", true, 65},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", true, 66},
};

static void frame__whole_requests_are_ready(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_frame frame = {0};
        size_t len = strlen(cases[i].bytes);
        char *exact = malloc(len ? len : 1); /* so that a byte too far is seen by ASan */
        bool ready;

        memcpy(exact, cases[i].bytes, len);
        ready = http_frame_is_ready(&frame, exact, len, MAX_BODY);
        free(exact);
        if (ready != cases[i].ready || http_frame_size(&frame) != cases[i].size)
            fail_msg("%s, size %zu, for\n%s", ready ? "ready" : "not ready",
                     http_frame_size(&frame), cases[i].bytes);
    }
}

/* Byte by byte the result is the same as all at once. */
static void frame__pieces_are_put_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_frame frame = {0};
        size_t len = strlen(cases[i].bytes);
        bool ready = false;

        for (size_t n = 1; n <= len && !ready; n++)
            ready = http_frame_is_ready(&frame, cases[i].bytes, n, MAX_BODY);
        if (ready != cases[i].ready || http_frame_size(&frame) != cases[i].size)
            fail_msg("%s, size %zu, for\n%s", ready ? "ready" : "not ready",
                     http_frame_size(&frame), cases[i].bytes);
    }
}

static void frame__expectation_is_met_once(void **state)
{
    static const char text[] =
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
    struct http_frame frame = {0};

    (void)state;
    assert_true(http_frame_is_ready(&frame, text, sizeof(text) - 6, MAX_BODY));
    frame.continued = true;
    assert_false(http_frame_is_ready(&frame, text, sizeof(text) - 6, MAX_BODY));
    assert_false(http_frame_is_ready(&frame, text, sizeof(text) - 2, MAX_BODY));
    assert_true(http_frame_is_ready(&frame, text, sizeof(text) - 1, MAX_BODY));
}

/* Symptom: "Content-Length: 3 " was no length, "Expect: 100-continue " nothing that can be expected. */
static void frame__blanks_behind_a_value_go_in_front_of_it(void **state)
{
    static const char *const blocks[][2] = {
        {"GET / HTTP/1.1\r\nHost: x \r\n\r\n", "GET / HTTP/1.1\r\nHost:  x\r\n\r\n"},
        {"GET / HTTP/1.1\r\nA:b c  \r\nD: e\r\nF:   \r\nG: \r\n\r\n",
         "GET / HTTP/1.1\r\nA:  b c\r\nD: e\r\nF:   \r\nG: \r\n\r\n"},
        {"\r\nGET / HTTP/1.1\r\nA: b:c \r\n\r\n", "\r\nGET / HTTP/1.1\r\nA:  b:c\r\n\r\n"},
        /* What is no header, or doesn't end as one, is left as it is. */
        {"GET a:b HTTP/1.1 \r\nA: b \n\n", "GET a:b HTTP/1.1 \r\nA: b \n\n"},
        {"\r\nGET a:b HTTP/1.1 \r\nA \r\n\r\n", "\r\nGET a:b HTTP/1.1 \r\nA \r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        struct http_frame frame = {0};
        size_t len = strlen(blocks[i][0]);
        char *bytes = malloc(len);

        memcpy(bytes, blocks[i][0], len);
        assert_true(http_frame_is_ready(&frame, bytes, len, MAX_BODY));
        http_frame_move_tails(&frame, bytes);
        assert_memory_equal(bytes, blocks[i][1], len);
        free(bytes);
    }
}

static void frame__endless_headers_are_ready(void **state)
{
    struct http_frame frame = {0};
    char *bytes = malloc(HTTP_HEADER_BLOCK_MAX);

    (void)state;
    memset(bytes, 'x', HTTP_HEADER_BLOCK_MAX);
    assert_false(http_frame_is_ready(&frame, bytes, HTTP_HEADER_BLOCK_MAX - 1, MAX_BODY));
    assert_true(http_frame_is_ready(&frame, bytes, HTTP_HEADER_BLOCK_MAX, MAX_BODY));
    free(bytes);
}

/* An end that came with the bytes behind the limit was taken for one, when they came at once. */
static void frame__headers_end_before_the_limit(void **state)
{
    enum { SIZE = HTTP_HEADER_BLOCK_MAX + 1 };
    struct http_frame all = {0}, fits = {0};
    char *bytes = malloc(SIZE);

    (void)state;
    memset(bytes, 'x', SIZE);
    memcpy(bytes + SIZE - 4, "\r\n\r\n", 4);
    assert_true(http_frame_is_ready(&all, bytes, SIZE, MAX_BODY));
    assert_true(all.is_odd);
    assert_true(http_frame_is_ready(&fits, bytes + 1, SIZE - 1, MAX_BODY));
    assert_false(fits.is_odd);
    assert_int_equal(fits.header_len, HTTP_HEADER_BLOCK_MAX);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame__whole_requests_are_ready),
        cmocka_unit_test(frame__pieces_are_put_together),
        cmocka_unit_test(frame__expectation_is_met_once),
        cmocka_unit_test(frame__blanks_behind_a_value_go_in_front_of_it),
        cmocka_unit_test(frame__endless_headers_are_ready),
        cmocka_unit_test(frame__headers_end_before_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
