/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include "base/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void err__set_returns_its_code(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(err_set(&err, ERR_BUSY, "full: %d", 5), ERR_BUSY);
    assert_int_equal(err.code, ERR_BUSY);
    assert_string_equal(err.text, "full: 5");
    assert_int_equal(err_set(NULL, ERR_BUSY, "nobody asks"), ERR_BUSY);
}

static void err__errno_words_the_reason(void **state)
{
    struct err err;

    (void)state;
    errno = ENOENT;
    assert_int_equal(err_errno(&err, ERR_IO, "cannot open '%s'", "x"), ERR_IO);
    assert_string_equal(err.text, "cannot open 'x': No such file or directory");
    assert_int_equal(err_errno(NULL, ERR_IO, "x"), ERR_IO);
}

static void err__prefix_keeps_code_and_text(void **state)
{
    struct err err;

    (void)state;
    err_set(&err, ERR_INVALID, "100%% wrong");
    assert_int_equal(err_prefix(&err, "file %d: ", 7), ERR_INVALID);
    assert_string_equal(err.text, "file 7: 100% wrong");
}

static void err__cut_text_is_still_utf8(void **state)
{
    char longer[2 * ERR_TEXT_MAX];
    struct err err;

    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        memset(longer, 'x', shift);
        longer[shift] = '\0';
        for (size_t at = shift; at + 5 < sizeof(longer); at += 4)
            strcpy(longer + at, "\U0001F600");
        err_set(&err, ERR_IO, "%s", longer);
        assert_true(strlen(err.text) >= ERR_TEXT_MAX - 4);
        assert_true(text_is_utf8(err.text, strlen(err.text)));
        err_prefix(&err, "more: ");
        assert_true(text_is_utf8(err.text, strlen(err.text)));
        errno = ENOENT;
        err_errno(&err, ERR_IO, "%s", longer);
        assert_true(text_is_utf8(err.text, strlen(err.text)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err__set_returns_its_code),
        cmocka_unit_test(err__errno_words_the_reason),
        cmocka_unit_test(err__prefix_keeps_code_and_text),
        cmocka_unit_test(err__cut_text_is_still_utf8),
    };

    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
