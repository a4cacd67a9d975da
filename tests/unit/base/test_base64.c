/* SPDX-License-Identifier: MIT */
#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"

static void reads(const char *text, const char *bytes, size_t len)
{
    unsigned char out[64];

    assert_int_equal(base64url_size(strlen(text)), len);
    assert_true(base64url_decode(text, strlen(text), out));
    assert_memory_equal(out, bytes, len);
}

static void base64__reads(void **state)
{
    (void)state;
    /* RFC 4648 section 10, without the padding. */
    reads("", "", 0);
    reads("Zg", "f", 1);
    reads("Zm8", "fo", 2);
    reads("Zm9v", "foo", 3);
    reads("Zm9vYg", "foob", 4);
    reads("Zm9vYmE", "fooba", 5);
    reads("Zm9vYmFy", "foobar", 6);
    reads("-_-_", "\xfb\xff\xbf", 3);
    reads("AAAA", "\0\0\0", 3);
    reads("_w", "\xff", 1);
    /* RFC 7515 section 3.3 */
    reads("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}",
          30);
}

static void base64__refuses(void **state)
{
    static const char *const wrong[] = {
        "Z",     "Zm9vY",  "Zg==",   "Zm8=", "=",    "Zm9v=", "Zm 9v",      " Zm9v",
        "Zm9v ", "Zm9v\n", "Zm9\tv", "Zm+v", "Zm/v", "Zm.v",  "Zm9vYm\xc3", "Zm9\x80",
        "Zh",    "Zm9",    "Zm9vYh", "_x",   "AB",   "AAB",
    };
    unsigned char out[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (base64url_decode(wrong[i], strlen(wrong[i]), out))
            fail_msg("taken: '%s'", wrong[i]);
    assert_false(base64url_decode("Zm\0v", 4, out));
}

/* Of all texts of three characters, each two bytes have exactly one that is taken. */
static void base64__every_two_bytes_have_one_text(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static bool seen[1 << 16];
    unsigned char out[2];
    size_t count = 0;

    (void)state;
    for (int i = 0; i < 64 * 64 * 64; i++) {
        const char text[] = {alphabet[i >> 12], alphabet[i >> 6 & 63], alphabet[i & 63]};

        if (!base64url_decode(text, 3, out))
            continue;
        assert_false(seen[out[0] << 8 | out[1]]);
        seen[out[0] << 8 | out[1]] = true;
        count++;
    }
    assert_int_equal(count, 1 << 16);
}

static void base64__in_its_own_place(void **state)
{
    char text[] = "Zm9vYmFy";

    (void)state;
    assert_true(base64url_decode(text, 8, text));
    assert_memory_equal(text, "foobar", 6);
}

static void base64__writes_no_byte_more_than_it_says(void **state)
{
    (void)state;
    for (size_t len = 0; len < 40; len++) {
        char *text = malloc(len + 1);
        unsigned char *out = malloc(base64url_size(len) + !base64url_size(len));

        memset(text, 'A', len);
        assert_int_equal(base64url_decode(text, len, out), len % 4 != 1);
        free(text);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64__reads),
        cmocka_unit_test(base64__refuses),
        cmocka_unit_test(base64__every_two_bytes_have_one_text),
        cmocka_unit_test(base64__in_its_own_place),
        cmocka_unit_test(base64__writes_no_byte_more_than_it_says),
    };

    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
