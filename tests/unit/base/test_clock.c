/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void clock__reads_what_workos_writes(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } cases[] = {
        {"2026-01-12T20:17:47.677Z", 1768249067677000},
        {"2023-04-28 20:05:31.093", 1682712331093000},
        {"2026-01-12T20:17:47Z", 1768249067000000},
        {"2026-01-12T20:17:47", 1768249067000000},
        {"2026-01-12T20:17Z", 1768249020000000},
        {"2026-01-12t20:17:47.677z", 1768249067677000},
        {"2026-01-12T22:17:47.677+02:00", 1768249067677000},
        {"2026-01-12T22:17:47.677+0200", 1768249067677000},
        {"2026-01-12T22:17:47.677+02", 1768249067677000},
        {"2026-01-12T14:47:47.677-05:30", 1768249067677000},
        {"2026-01-12T20:17:47.677-00:00", 1768249067677000},
        {"2026-01-12T20:17:47.6Z", 1768249067600000},
        {"2026-01-12T20:17:47.677123Z", 1768249067677123},
        {"2026-01-12T20:17:47.677123999Z", 1768249067677123},
        {"1970-01-01T00:00:00Z", 0},
        {"1969-12-31T23:59:59.999999Z", -1},
        {"2024-02-29T00:00:00Z", 1709164800000000},
        {"2016-12-31T23:59:60Z", 1483228800000000},
        {"0000-01-01T00:00:00Z", -62167219200000000},
        {"9999-12-31T23:59:59Z", 253402300799000000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t us = 77;

        if (!clock_parse_us(cases[i].text, strlen(cases[i].text), &us) || us != cases[i].us)
            fail_msg("%s is %lld", cases[i].text, (long long)us);
    }
}

static void clock__refuses(void **state)
{
    static const char *const texts[] = {
        "",
        "soon",
        "2026",
        "2026-01-12",
        "2026-01-12T",
        "2026-01-12T20",
        "2026-01-12T20:",
        "2026-1-12T20:17:47Z",
        "26-01-12T20:17:47Z",
        "2026-13-12T20:17:47Z",
        "2026-00-12T20:17:47Z",
        "2026-01-32T20:17:47Z",
        "2026-01-00T20:17:47Z",
        "2026-01-12T24:17:47Z",
        "2026-01-12T20:60:47Z",
        "2026-01-12T20:17:61Z",
        "2026-01-12T20:17:47.Z",
        "2026-01-12T20:17:47.1234567890Z",
        "2026-01-12T20:17:47,677Z",
        "2026-01-12T20:17:47ZZ",
        "2026-01-12T20:17:47Z ",
        " 2026-01-12T20:17:47Z",
        "2026-01-12_20:17:47Z",
        "2026-01-12T20:17:47+24:00",
        "2026-01-12T20:17:47+02:60",
        "2026-01-12T20:17:47+2",
        "2026-01-12T20:17:47+",
        "2026-01-12T20:17:47 UTC",
        "-026-01-12T20:17:47Z",
        "2026-01-12T20:17:-1Z",
        "1768249067677",
    };
    int64_t us = 77;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (clock_parse_us(texts[i], strlen(texts[i]), &us))
            fail_msg("%s", texts[i]);
    assert_int_equal(us, 77);
}

static void clock__reads_no_further_than_the_text(void **state)
{
    const char *text = "2026-01-12T20:17:47.677Z";
    int64_t us, shorter = -1;

    (void)state;
    assert_true(clock_parse_us(text, 22, &shorter)); /* "…47.67" */
    assert_true(clock_parse_us(text, strlen(text), &us));
    assert_int_equal(us - shorter, 7000);
}

static void clock__formats(void **state)
{
    static const int64_t times[] = {0, 1768249067677, -1, -62167219200000, 253402300799999};
    char text[CLOCK_TEXT_MAX];
    int64_t us;

    (void)state;
    clock_format_ms(1768249067677, text);
    assert_string_equal(text, "2026-01-12T20:17:47.677Z");
    clock_format_ms(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    for (size_t i = 1; i < sizeof(times) / sizeof(times[0]); i++) {
        clock_format_ms(times[i], text);
        if (times[i] > -62000000000000) /* glibc writes the year 0 as "0" */
            assert_true(clock_parse_us(text, strlen(text), &us) && us == times[i] * 1000);
    }
}

/* The example of RFC 9110, and a day of each month and of each kind. */
static void clock__formats_for_http(void **state)
{
    char text[CLOCK_HTTP_MAX];
    int64_t ms;

    (void)state;
    clock_format_http(784111777000, text);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    clock_format_http(-1, text);
    assert_string_equal(text, "Wed, 31 Dec 1969 23:59:59 GMT");
    for (int day = 0; day < 800; day++) {
        char expected[CLOCK_HTTP_MAX];
        time_t seconds = 1767225600 + (time_t)day * (86400 + 61);
        struct tm tm;

        ms = (int64_t)seconds * 1000 + 999;
        clock_format_http(ms, text);
        gmtime_r(&seconds, &tm);
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm); /* locale "C" */
        assert_string_equal(text, expected);
    }
}

static void clock__goes_forward(void **state)
{
    int64_t before = clock_mono_ns();

    (void)state;
    assert_true(clock_mono_ns() >= before);
    assert_true(clock_mono_ms() >= before / 1000000);
    assert_true(clock_boot_ms() >= before / 1000000);
    assert_true(clock_wall_ms() > 1768249067677);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock__reads_what_workos_writes),
        cmocka_unit_test(clock__refuses),
        cmocka_unit_test(clock__reads_no_further_than_the_text),
        cmocka_unit_test(clock__formats),
        cmocka_unit_test(clock__formats_for_http),
        cmocka_unit_test(clock__goes_forward),
    };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
