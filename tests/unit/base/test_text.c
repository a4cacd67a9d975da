/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include "base/compiler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Every code point there is, written and read again; and all that is too long or no character. */
static void text__utf8_of_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char out[4];
        size_t size = text_put_utf8(out, c);
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;

        if (size != (c < 0x80      ? 1
                     : c < 0x800   ? 2
                     : c < 0x10000 ? 3
                                   : 4) ||
            text_utf8_size(out, size) != size || (surrogate && memcmp(out, "\uFFFD", 3) != 0))
            fail_msg("U+%04X", c);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(text_utf8_size(out, cut), 0);
    }
}

static void text__utf8_refuses(void **state)
{
    static const char *const wrong[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3(",
        "\xe2\x82(",
        "\xf0\x9f\x98(",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(text_utf8_size(wrong[i], strlen(wrong[i])), 0);
        assert_false(text_is_utf8(wrong[i], strlen(wrong[i])));
    }
    assert_true(text_is_utf8("", 0));
    assert_true(text_is_utf8("a\0\u00e9", 4));
    assert_false(text_is_utf8("a\u00e9\xff", 4));
}

static void text__make_utf8(void **state)
{
    char text[] = "a\xff\u00e9\xe2\x82z\xc3";

    (void)state;
    text_make_utf8(text);
    assert_string_equal(text, "a?\u00e9??z?");
}

static void text__utf16_prefix(void **state)
{
    const char *text = "a\u00e9\U0001F600z";

    (void)state;
    assert_int_equal(text_utf16_prefix(text, 8, 0), 0);
    assert_int_equal(text_utf16_prefix(text, 8, 1), 1);
    assert_int_equal(text_utf16_prefix(text, 8, 2), 3);
    assert_int_equal(text_utf16_prefix(text, 8, 3), 3); /* half a pair isn't taken */
    assert_int_equal(text_utf16_prefix(text, 8, 4), 7);
    assert_int_equal(text_utf16_prefix(text, 8, 100), 8);
    assert_int_equal(text_utf16_prefix("", 0, 5), 0);
}

static void text__to_u64(void **state)
{
    static const char *const wrong[] = {"",   "-1", "+1",  " 1",
                                        "1 ", "1a", "0x1", "18446744073709551616"};
    uint64_t n = 77;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(text_to_u64(wrong[i], strlen(wrong[i]), UINT64_MAX, &n));
    assert_int_equal(n, 77);
    assert_true(text_to_u64("18446744073709551615", 20, UINT64_MAX, &n) && n == UINT64_MAX);
    assert_true(text_to_u64("00012", 5, 12, &n) && n == 12);
    assert_true(text_to_u64("12345", 2, 12, &n) && n == 12);
    assert_false(text_to_u64("13", 2, 12, &n));
    assert_false(text_to_u64("65536", 5, 65535, &n));
}

/* A maximum below a single digit was passed over by an unsigned difference. */
static void text__to_u64_with_a_small_maximum(void **state)
{
    uint64_t n = 77;

    (void)state;
    assert_false(text_to_u64("5", 1, 3, &n));
    assert_false(text_to_u64("1", 1, 0, &n));
    assert_int_equal(n, 77);
    assert_true(text_to_u64("3", 1, 3, &n) && n == 3);
}

static void text__starts_and_ends(void **state)
{
    (void)state;
    assert_true(text_starts_with("user.created", "user."));
    assert_false(text_starts_with("use", "user."));
    assert_true(text_starts_with("a", ""));
    assert_true(text_ends_with("a.lua", ".lua"));
    assert_false(text_ends_with("lua", ".lua"));
}

static void text__closest(void **state)
{
    static const char *const names[] = {"name", "user_id", "email"};
    char longest[200];

    (void)state;
    assert_string_equal(text_closest("nmae", names, 3), "name");
    assert_string_equal(text_closest("user_ids", names, 3), "user_id");
    assert_null(text_closest("phone", names, 3));
    assert_null(text_closest("x", names, 3));
    assert_null(text_closest("", names, 3));
    assert_null(text_closest("name", names, 0));
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_null(text_closest(longest, names, 3));
    longest[63] = '\0';
    assert_null(text_closest(longest, names, 3));
}

static void text__make_plain(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"Ada Lovelace, \xC3\xA4\xE2\x82\xAC", "Ada Lovelace, \xC3\xA4\xE2\x82\xAC"},
        {"a\x1B[2Jb\nc\x7F", "a?[2Jb?c?"},
        {"x\xC2\x9B"
         "31m",
         "x?31m"},
        {"\xE2\x80\xAEgnp\xE2\x81\xA6", "?gnp?"},
        {"a\xE2\x80\xA8z\xE2\x80\xA9\xE2\x80\xA7", "a?z?\xE2\x80\xA7"},
        {"\xC2", "\xC2"},
        {"\xE2\x80", "\xE2\x80"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[64];

        snprintf(text, sizeof(text), "%s", cases[i][0]);
        text_make_plain(text);
        assert_string_equal(text, cases[i][1]);
    }
}

static void text__format_bytes(void **state)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 KiB"},
        {4096, "4 KiB"},
        {999 * 1024, "999 KiB"},
        {1000 * 1024, "1.0 MiB"},
        {(int64_t)5 * 1024 * 1024 / 2, "2.5 MiB"},
        {(int64_t)936 * 1024 * 1024, "936 MiB"},
        {(int64_t)3 << 30, "3.0 GiB"},
        {(int64_t)5000 << 40, "5000 TiB"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[TEXT_BYTES_MAX];

        text_format_bytes(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text__utf8_of_every_code_point),
        cmocka_unit_test(text__utf8_refuses),
        cmocka_unit_test(text__make_utf8),
        cmocka_unit_test(text__utf16_prefix),
        cmocka_unit_test(text__to_u64),
        cmocka_unit_test(text__to_u64_with_a_small_maximum),
        cmocka_unit_test(text__starts_and_ends),
        cmocka_unit_test(text__closest),
        cmocka_unit_test(text__make_plain),
        cmocka_unit_test(text__format_bytes),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
