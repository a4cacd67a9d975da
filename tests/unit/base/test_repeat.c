/* SPDX-License-Identifier: MIT */
#include "base/repeat.h"

#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char failed[] = "function failed";
static char heard[65536];

static int set_up(void **state)
{
    struct repeats *repeats = calloc(1, sizeof(*repeats));

    if (!repeats)
        return -1;
    repeat_init(repeats);
    *state = repeats;
    return 0;
}

static int tear_down(void **state)
{
    repeat_release(*state);
    free(*state);
    return 0;
}

static int count_may(struct repeats *repeats, int64_t now_ms, const char *text, int times)
{
    int count = 0;

    for (int i = 0; i < times; i++)
        count += repeat_may(repeats, now_ms, failed, text);
    return count;
}

/* What repeat_tell says. */
static const char *hear(struct repeats *repeats, int64_t now_ms, bool all, bool *out_more)
{
    int ends[2], real_stderr = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    *out_more = repeat_tell(repeats, now_ms, all);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    n = read(ends[0], heard, sizeof(heard) - 1);
    close(ends[0]);
    heard[n > 0 ? n : 0] = '\0';
    return heard;
}

static void repeat__a_flood_becomes_some_lines_and_a_count(void **state)
{
    struct repeats *repeats = *state;
    bool more;

    assert_int_equal(count_may(repeats, 1000, "handlers.lua:7: oops\nstack traceback:", 10000),
                     REPEAT_LINES_MAX);
    assert_string_equal(hear(repeats, 2000, false, &more), "");
    assert_true(more);
    assert_non_null(strstr(hear(repeats, 61000, false, &more), "more of the same, left out"));
    assert_non_null(strstr(heard, "what=\"function failed\""));
    assert_non_null(strstr(heard, "error=\"handlers.lua:7: oops\"  count=9995\n"));
    assert_false(more);
    assert_string_equal(hear(repeats, 130000, true, &more), "");
}

static void repeat__the_next_minute_has_its_lines_again(void **state)
{
    struct repeats *repeats = *state;

    assert_int_equal(count_may(repeats, 1000, "oops", 5), 5);
    assert_int_equal(count_may(repeats, 60999, "oops", 5), 0);
    assert_int_equal(count_may(repeats, 61000, "oops", 10), 5);
}

static void repeat__ids_numbers_and_addresses_are_no_kinds(void **state)
{
    struct repeats *repeats = *state;
    char text[128];
    int count = 0;

    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "handlers.lua:7: user_01K%d of ada%d@example.com: %d", i, i,
                 i * 3);
        count += repeat_may(repeats, 1000, failed, text);
    }
    assert_int_equal(count, REPEAT_LINES_MAX);
}

static void repeat__places_messages_and_words_are_kinds(void **state)
{
    struct repeats *repeats = *state;

    assert_int_equal(count_may(repeats, 1000, "handlers.lua:7: oops", 9), REPEAT_LINES_MAX);
    assert_int_equal(count_may(repeats, 1000, "handlers.lua:8: oops", 9), REPEAT_LINES_MAX);
    assert_int_equal(count_may(repeats, 1000, "lib/a.lua:7: oops", 9), REPEAT_LINES_MAX);
    assert_int_equal(count_may(repeats, 1000, "handlers.lua:7: ouch", 9), REPEAT_LINES_MAX);
    assert_int_equal(count_may(repeats, 1000, "", 9), REPEAT_LINES_MAX);
    assert_true(repeat_may(repeats, 1000, "another message", "handlers.lua:7: oops"));
    assert_false(repeat_may(repeats, 1000, failed, "handlers.lua:7: oops\nanother traceback"));
}

/* Texts that differ in a name, say: the log doesn't drown in them either. */
static void repeat__all_kinds_together_have_a_limit(void **state)
{
    struct repeats *repeats = *state;
    char text[] = "no user called aaaa";
    char *name = text + strlen(text) - 4;
    int count = 0;
    bool more;

    for (int i = 0; i < 10000; i++) {
        for (int k = 0, n = i; k < 4; k++, n /= 26)
            name[k] = (char)('a' + n % 26);
        count += repeat_may(repeats, 1000, failed, text);
    }
    assert_int_equal(count, REPEAT_ALL_MAX);
    assert_non_null(strstr(hear(repeats, 1000, true, &more), "count=9900\n"));
    assert_non_null(strstr(heard, "errors of many kinds"));
    assert_true(repeat_may(repeats, 62000, failed, text));
}

static void repeat__a_cut_character_is_not_shown(void **state)
{
    struct repeats *repeats = *state;
    char text[REPEAT_SAMPLE_MAX + 2];
    bool more;

    memset(text, 'x', sizeof(text));
    memcpy(text + REPEAT_SAMPLE_MAX - 2, "\xC3\xA9", 3);
    count_may(repeats, 1000, text, 6);
    assert_non_null(strstr(hear(repeats, 1000, true, &more), "x?"));
}

#define repeat_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        repeat_test(repeat__a_flood_becomes_some_lines_and_a_count),
        repeat_test(repeat__the_next_minute_has_its_lines_again),
        repeat_test(repeat__ids_numbers_and_addresses_are_no_kinds),
        repeat_test(repeat__places_messages_and_words_are_kinds),
        repeat_test(repeat__all_kinds_together_have_a_limit),
        repeat_test(repeat__a_cut_character_is_not_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
