/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/hmac.h"

#include <pthread.h>
#include <string.h>

static void expect_hmac(const void *secret, size_t secret_len, const void *text, size_t len,
                        const char *expected)
{
    const struct crypto_part part = {text, len};
    unsigned char digest[HMAC_SHA256_BYTES];
    char hex[HMAC_SHA256_HEX + 1];
    struct hmac_key *key;
    struct err err;

    assert_int_equal(hmac_key_new(&key, secret, secret_len, &err), 0);
    /* Twice: a use must leave nothing behind in the key. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hmac_sha256(key, &part, 1, digest, &err), 0);
        crypto_hex(digest, sizeof(digest), hex);
        assert_string_equal(hex, expected);
    }
    hmac_key_free(key);
}

static void hmac__known_messages_have_known_digests(void **state)
{
    unsigned char secret[131];

    (void)state;
    expect_hmac("test_secret", 11, "", 0,
                "f7f9bd47fb987337b5796fdc1fdb9ba221d0d5396814bfcaf9521f43fd8927fd");
    expect_hmac("test_secret", 11, "😀", 4,
                "837da296d05c4fe31f61d5d7ead035099d9585a5bcde87de952012a78f0b0c43");
    /* RFC 4231, cases 2 and 6 (a key longer than a block) */
    expect_hmac("Jefe", 4, "what do ya want for nothing?", 28,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(secret, 0xaa, sizeof(secret));
    expect_hmac(secret, sizeof(secret), "Test Using Larger Than Block-Size Key - Hash Key First",
                54, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    expect_hmac("", 0, "", 0, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void hmac__parts_are_one_message(void **state)
{
    const struct crypto_part parts[] = {
        {"1700000000000", 13}, {".", 1}, {NULL, 0}, {"{\"a\":1}", 7}};
    const struct crypto_part whole = {"1700000000000.{\"a\":1}", 21};
    unsigned char a[HMAC_SHA256_BYTES];
    unsigned char b[HMAC_SHA256_BYTES];
    struct hmac_key *key;
    struct err err;

    (void)state;
    assert_int_equal(hmac_key_new(&key, "s", 1, &err), 0);
    assert_int_equal(hmac_sha256(key, parts, 4, a, &err), 0);
    assert_int_equal(hmac_sha256(key, &whole, 1, b, &err), 0);
    assert_memory_equal(a, b, sizeof(a));
    assert_int_equal(hmac_sha256(key, NULL, 0, a, &err), 0);
    hmac_key_free(key);
    hmac_key_free(NULL);
}

enum { THREADS = 4, ROUNDS = 2000 };

static void *sign_often(void *arg)
{
    unsigned char first[HMAC_SHA256_BYTES];
    unsigned char digest[HMAC_SHA256_BYTES];
    const struct crypto_part part = {&arg, sizeof(arg)};
    struct err err;

    if (hmac_sha256(arg, &part, 1, first, &err) < 0)
        return NULL;
    for (int i = 0; i < ROUNDS; i++)
        if (hmac_sha256(arg, &part, 1, digest, &err) < 0 ||
            !crypto_equal(first, digest, sizeof(first)))
            return NULL;
    return arg;
}

static void hmac__key_is_shared_by_threads(void **state)
{
    pthread_t threads[THREADS];
    struct hmac_key *key;
    struct err err;

    (void)state;
    assert_int_equal(hmac_key_new(&key, "shared", 6, &err), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_often, key), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;

        pthread_join(threads[i], &result);
        assert_ptr_equal(result, key);
    }
    hmac_key_free(key);
}

static void crypto__comparison_tells_equal_from_different(void **state)
{
    (void)state;
    assert_true(crypto_equal("abc", "abc", 3));
    assert_false(crypto_equal("abc", "abd", 3));
    assert_true(crypto_equal("abc", "abd", 2));
    assert_true(crypto_equal("", "", 0));
}

static void crypto__random_bytes_differ(void **state)
{
    unsigned char a[16];
    unsigned char b[16];
    struct err err;

    (void)state;
    assert_int_equal(crypto_random(a, sizeof(a), &err), 0);
    assert_int_equal(crypto_random(b, sizeof(b), &err), 0);
    assert_memory_not_equal(a, b, sizeof(a));
}

static void crypto__wipe_leaves_zeros(void **state)
{
    char secret[] = "secret";

    (void)state;
    crypto_wipe(secret, sizeof(secret));
    for (size_t i = 0; i < sizeof(secret); i++)
        assert_int_equal(secret[i], 0);
}

static void crypto__hex_is_lower_case(void **state)
{
    char hex[9];

    (void)state;
    crypto_hex("\x00\xFF\x1a\x9B", 4, hex);
    assert_string_equal(hex, "00ff1a9b");
    crypto_hex("", 0, hex);
    assert_string_equal(hex, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac__known_messages_have_known_digests),
        cmocka_unit_test(hmac__parts_are_one_message),
        cmocka_unit_test(hmac__key_is_shared_by_threads),
        cmocka_unit_test(crypto__comparison_tells_equal_from_different),
        cmocka_unit_test(crypto__random_bytes_differ),
        cmocka_unit_test(crypto__wipe_leaves_zeros),
        cmocka_unit_test(crypto__hex_is_lower_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
