/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void buf__grows_and_ends_with_nul(void **state)
{
    struct buf b = BUF_INIT(100000);

    (void)state;
    assert_string_equal(buf_text(&b), "");
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "%d,", i % 10);
    assert_true(buf_ok(&b));
    assert_int_equal(b.len, 20000);
    assert_int_equal(strlen(buf_text(&b)), 20000);
    buf_reset(&b);
    assert_string_equal(buf_text(&b), "");
    buf_release(&b);
    buf_release(&b);
}

static void buf__put_beyond_the_ceiling_puts_nothing(void **state)
{
    struct buf b = BUF_INIT(5);

    (void)state;
    buf_puts(&b, "1234");
    buf_puts(&b, "56");
    assert_false(buf_ok(&b));
    assert_string_equal(buf_text(&b), "1234");
    buf_putc(&b, '5'); /* there would be room, but the text is not whole any more */
    assert_string_equal(buf_text(&b), "1234");
    buf_reset(&b);
    buf_puts(&b, "12345");
    assert_true(buf_ok(&b));
    buf_put(&b, "", 0);
    assert_true(buf_ok(&b));
    buf_putc(&b, 'x');
    assert_false(buf_ok(&b));
    assert_null(buf_reserve(&b, 1));
    buf_release(&b);
}

static void buf__printf_takes_what_room_there_is_or_nothing(void **state)
{
    struct buf b = BUF_INIT(605);

    (void)state;
    buf_printf(&b, "%s", "123");
    buf_printf(&b, "%0600d", 7); /* more than the room that there was */
    assert_true(buf_ok(&b));
    assert_int_equal(b.len, 603);
    assert_int_equal(strlen(buf_text(&b)), 603);
    assert_int_equal(buf_text(&b)[602], '7');
    buf_printf(&b, "%s", "456");
    assert_false(buf_ok(&b));
    assert_int_equal(strlen(buf_text(&b)), 603);
    buf_reset(&b);
    buf_printf(&b, "%d", 8);
    assert_string_equal(buf_text(&b), "8");
    buf_release(&b);
}

static void buf__numbers_are_decimal(void **state)
{
    struct buf b = BUF_INIT(64);

    (void)state;
    buf_put_u64(&b, 0);
    buf_putc(&b, ' ');
    buf_put_u64(&b, 1009);
    buf_putc(&b, ' ');
    buf_put_u64(&b, UINT64_MAX);
    assert_string_equal(buf_text(&b), "0 1009 18446744073709551615");
    buf_release(&b);
}

static void buf__giant_sizes_do_not_overflow(void **state)
{
    struct buf b = BUF_INIT(10);

    (void)state;
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_false(buf_ok(&b));
    buf_release(&b);
}

static void buf__take_hands_over(void **state)
{
    struct buf b = BUF_INIT(10);
    size_t len = 77;
    char *text;

    (void)state;
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    buf_puts(&b, "abc");
    text = buf_take(&b, &len);
    assert_string_equal(text, "abc");
    assert_int_equal(len, 3);
    assert_int_equal(b.max, 10);
    assert_string_equal(buf_text(&b), "");
    free(text);
    buf_release(&b);
}

static void buf__reserve_and_added(void **state)
{
    struct buf b = BUF_INIT(10);
    char *room;

    (void)state;
    room = buf_reserve(&b, 10);
    assert_non_null(room);
    memcpy(room, "abcdefghij", 10);
    buf_added(&b, 10);
    assert_string_equal(buf_text(&b), "abcdefghij");
    buf_release(&b);
}

static void buf__json_string_escapes_no_more_than_it_must(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        const char *wanted;
    } cases[] = {
        {"", 0, "\"\""},
        {"a/b<>&'\x7f", 8, "\"a/b<>&'\x7f\""},
        {"\"\\", 2, "\"\\\"\\\\\""},
        {"\b\t\n\f\r", 5, "\"\\b\\t\\n\\f\\r\""},
        {"\0\x01\x0b\x1f", 4, "\"\\u0000\\u0001\\u000b\\u001f\""},
        {"\u00e9\u2028\U0001F600", 9, "\"\u00e9\u2028\U0001F600\""},
        {"\xff", 1, "\"\uFFFD\""},
        {"a\xc3", 2, "\"a\uFFFD\""},
        {"\xed\xa0\x80", 3, "\"\uFFFD\uFFFD\uFFFD\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = BUF_INIT(100);

        buf_put_json_string(&b, cases[i].text, cases[i].len);
        assert_string_equal(buf_text(&b), cases[i].wanted);
        buf_release(&b);
    }
}

static void buf__plain_json_means_the_same_and_plays_no_tricks(void **state)
{
    static const struct {
        const char *json, *plain;
    } cases[] = {
        {"", ""},
        {"{\r\n\t\"a\" : [1,\n2]\n}", "{   \"a\" : [1, 2] }"},
        {"\"\u00e9 \U0001F600 \\n \\\\ \\u001b\"", "\"\u00e9 \U0001F600 \\n \\\\ \\u001b\""},
        {"\"\xC2\x9B[2J\x7F\"", "\"\\u009b[2J\\u007f\""},
        {"\"\\\\\xC2\x80\u2028\u2029\u202a\u202e\u2066\u2069\"",
         "\"\\\\\\u0080\\u2028\\u2029\\u202a\\u202e\\u2066\\u2069\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = BUF_INIT(1024);

        buf_put_plain_json(&b, cases[i].json);
        assert_string_equal(buf_text(&b), cases[i].plain);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf__grows_and_ends_with_nul),
        cmocka_unit_test(buf__put_beyond_the_ceiling_puts_nothing),
        cmocka_unit_test(buf__numbers_are_decimal),
        cmocka_unit_test(buf__printf_takes_what_room_there_is_or_nothing),
        cmocka_unit_test(buf__giant_sizes_do_not_overflow),
        cmocka_unit_test(buf__take_hands_over),
        cmocka_unit_test(buf__reserve_and_added),
        cmocka_unit_test(buf__json_string_escapes_no_more_than_it_must),
        cmocka_unit_test(buf__plain_json_means_the_same_and_plays_no_tricks),
    };

    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
