/* SPDX-License-Identifier: MIT */
#include "crypto/rsa.h"

#include "unit/crypto/rsa_pair.h"

#include <openssl/err.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MESSAGE "a message"

static struct rsa_pair pair, other;

static struct rsa_key *new_key(const struct rsa_pair *of)
{
    struct rsa_key *key = NULL;
    struct err err = {0};

    if (rsa_key_new(&key, of->n, of->n_len, of->e, of->e_len, &err) < 0)
        fail_msg("%s", err.text);
    return key;
}

static bool is_signed(const struct rsa_key *key, const void *message, size_t len,
                      const unsigned char *signature, size_t signature_len)
{
    struct err err = {0};
    bool is_genuine = true;

    if (rsa_verify_rs256(key, message, len, signature, signature_len, &is_genuine, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(ERR_peek_error(), 0);
    return is_genuine;
}

static void refuses(const struct rsa_pair *of, const char *wanted)
{
    struct rsa_key *key = NULL;
    struct err err = {0};

    assert_int_equal(rsa_key_new(&key, of->n, of->n_len, of->e, of->e_len, &err), ERR_INVALID);
    assert_null(key);
    if (!strstr(err.text, wanted))
        fail_msg("no \"%s\" in \"%s\"", wanted, err.text);
    assert_int_equal(ERR_peek_error(), 0);
}

static void rsa__a_signature_is_that_of_its_key_and_message(void **state)
{
    unsigned char signature[RSA_PAIR_BYTES_MAX];
    size_t len = rsa_pair_sign(&pair, "SHA256", RSA_PKCS1_PADDING, MESSAGE, 9, signature);
    struct rsa_key *key = new_key(&pair), *stranger = new_key(&other);

    (void)state;
    assert_true(is_signed(key, MESSAGE, 9, signature, len));
    assert_true(is_signed(key, MESSAGE, 9, signature, len)); /* and again */
    assert_false(is_signed(stranger, MESSAGE, 9, signature, len));
    assert_false(is_signed(key, MESSAGE, 8, signature, len));
    assert_false(is_signed(key, "A message", 9, signature, len));
    assert_false(is_signed(key, MESSAGE, 9, signature, len - 1));
    assert_false(is_signed(key, MESSAGE, 9, signature, 0));
    for (size_t i = 0; i < len; i += 17) {
        signature[i] ^= 4;
        assert_false(is_signed(key, MESSAGE, 9, signature, len));
        signature[i] ^= 4;
    }
    memset(signature, 0, len);
    assert_false(is_signed(key, MESSAGE, 9, signature, len));
    memset(signature, 0xFF, len); /* a number above the modulus */
    assert_false(is_signed(key, MESSAGE, 9, signature, len));
    rsa_key_free(key);
    rsa_key_free(stranger);
    rsa_key_free(NULL);
}

/* The key remembers what was genuine: by both, the message and the signature. */
static void rsa__what_was_genuine_makes_nothing_else_genuine(void **state)
{
    enum { MESSAGES = 6 };
    unsigned char signatures[MESSAGES][RSA_PAIR_BYTES_MAX], text[RSA_PAIR_BYTES_MAX + 1];
    struct rsa_key *key = new_key(&pair), *again = new_key(&pair), *stranger = new_key(&other);
    size_t len = 0;

    (void)state;
    for (int i = 0; i < MESSAGES; i++) {
        text[0] = (unsigned char)i;
        len = rsa_pair_sign(&pair, "SHA256", RSA_PKCS1_PADDING, text, 1, signatures[i]);
        assert_true(is_signed(key, text, 1, signatures[i], len));
    }
    for (int i = 0; i < MESSAGES * MESSAGES; i++) {
        text[0] = (unsigned char)(i / MESSAGES);
        assert_int_equal(is_signed(key, text, 1, signatures[i % MESSAGES], len),
                         i / MESSAGES == i % MESSAGES);
        assert_false(is_signed(stranger, text, 1, signatures[i % MESSAGES], len));
    }
    /* The same bytes, with the boundary elsewhere. */
    text[0] = 0;
    memcpy(text + 1, signatures[0], len);
    assert_false(is_signed(key, text, 0, text, len));
    assert_false(is_signed(key, text, 2, text + 2, len - 1));
    assert_true(is_signed(again, text, 1, text + 1, len)); /* a key of its own knows nothing yet */
    rsa_key_free(key);
    rsa_key_free(again);
    rsa_key_free(stranger);
}

static void rsa__a_signature_with_a_zero_in_front_or_without_it_is_another(void **state)
{
    unsigned char signature[RSA_PAIR_BYTES_MAX + 1] = {0};
    struct rsa_key *key = new_key(&pair);
    size_t len = rsa_pair_sign(&pair, "SHA256", RSA_PKCS1_PADDING, MESSAGE, 9, signature + 1);

    (void)state;
    assert_true(is_signed(key, MESSAGE, 9, signature + 1, len));
    assert_false(is_signed(key, MESSAGE, 9, signature, len + 1));
    rsa_key_free(key);
}

static void rsa__another_digest_or_padding_is_refused(void **state)
{
    static const struct {
        const char *digest;
        int padding;
    } cases[] = {
        {"SHA1", RSA_PKCS1_PADDING},
        {"SHA384", RSA_PKCS1_PADDING},
        {"SHA512", RSA_PKCS1_PADDING},
        {"SHA256", RSA_PKCS1_PSS_PADDING},
    };
    unsigned char signature[RSA_PAIR_BYTES_MAX];
    struct rsa_key *key = new_key(&pair);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = rsa_pair_sign(&pair, cases[i].digest, cases[i].padding, MESSAGE, 9, signature);

        assert_false(is_signed(key, MESSAGE, 9, signature, len));
    }
    rsa_key_free(key);
}

static void rsa__zeros_in_front_of_the_numbers_do_not_count(void **state)
{
    unsigned char n[RSA_PAIR_BYTES_MAX + 3] = {0}, e[19] = {0}, signature[RSA_PAIR_BYTES_MAX];
    size_t len = rsa_pair_sign(&pair, "SHA256", RSA_PKCS1_PADDING, MESSAGE, 9, signature);
    struct rsa_key *plain = new_key(&pair), *key = NULL, *stranger = new_key(&other);
    struct err err;

    (void)state;
    memcpy(n + 3, pair.n, pair.n_len);
    memcpy(e + 3, pair.e, pair.e_len);
    assert_int_equal(rsa_key_new(&key, n, pair.n_len + 3, e, pair.e_len + 3, &err), 0);
    assert_true(is_signed(key, MESSAGE, 9, signature, len));
    assert_true(rsa_key_equal(key, plain));
    assert_false(rsa_key_equal(key, stranger));
    assert_int_equal(ERR_peek_error(), 0);
    rsa_key_free(key);
    rsa_key_free(plain);
    rsa_key_free(stranger);
}

static void rsa__numbers_that_are_no_key_are_refused(void **state)
{
    struct rsa_pair bad = pair;

    (void)state;
    bad.n_len = 0;
    refuses(&bad, "0 bits is too small");
    bad.n_len = 255;
    refuses(&bad, "too small; at least 2048");
    bad = pair;
    memset(bad.n, 0, 1); /* the number is one byte shorter */
    refuses(&bad, "too small");
    bad = pair;
    bad.n[0] = 0x7F;
    refuses(&bad, "2047 bits is too small");
    bad = pair;
    bad.n[bad.n_len - 1] &= 0xFE;
    refuses(&bad, "can't be even");
    bad = pair;
    memset(bad.n, 0xFF, sizeof(bad.n));
    bad.n_len = RSA_BYTES_MAX + 1;
    refuses(&bad, "16392 bits is too large");
    bad.n_len = RSA_BYTES_MAX;
    memset(bad.n, 0, sizeof(bad.n));
    refuses(&bad, "0 bits is too small");
}

static void rsa__a_number_without_end_costs_nothing(void **state)
{
    static const unsigned char longest[300000] = {1};
    struct rsa_key *key = NULL;
    struct err err;

    (void)state;
    assert_int_equal(rsa_key_new(&key, longest, sizeof(longest), pair.e, pair.e_len, &err),
                     ERR_INVALID);
    assert_int_equal(rsa_key_new(&key, pair.n, pair.n_len, longest, sizeof(longest), &err),
                     ERR_INVALID);
}

static void rsa__exponents(void **state)
{
    static const struct {
        unsigned char e[10];
        size_t len;
        bool is_taken;
    } cases[] = {
        {{0}, 0, false},
        {{0}, 1, false},
        {{1}, 1, false}, /* every signature would be its own message */
        {{2}, 1, false},
        {{3}, 1, true},
        {{1, 0, 1}, 3, true},
        {{1, 0, 0}, 3, false},
        {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 8, true},
        {{1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 9, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rsa_pair odd = pair;

        memcpy(odd.e, cases[i].e, sizeof(cases[i].e));
        odd.e_len = cases[i].len;
        if (cases[i].is_taken)
            rsa_key_free(new_key(&odd));
        else
            refuses(&odd, "exponent");
    }
}

/* Errors that others have left are not ours to take away. */
static void rsa__what_was_in_the_error_queue_stays(void **state)
{
    struct rsa_key *key = new_key(&pair);
    unsigned char signature[RSA_PAIR_BYTES_MAX] = {0};
    bool is_genuine;

    (void)state;
    ERR_raise(ERR_LIB_USER, 42);
    assert_int_equal(rsa_verify_rs256(key, MESSAGE, 9, signature, pair.n_len, &is_genuine, NULL),
                     0);
    assert_false(is_genuine);
    assert_int_equal(ERR_GET_REASON(ERR_get_error()), 42);
    assert_int_equal(ERR_get_error(), 0);
    rsa_key_free(key);
}

/* ---------------------------------------------------------------------------------- threads */

enum { THREADS = 4, ROUNDS = 200 };

struct shared {
    const struct rsa_key *key;
    const unsigned char *signature;
    size_t len;
    atomic_int wrong;
};

static void *verify_again_and_again(void *arg)
{
    struct shared *shared = arg;
    unsigned char bad[RSA_PAIR_BYTES_MAX];

    memcpy(bad, shared->signature, shared->len);
    bad[5] ^= 1;
    for (int i = 0; i < ROUNDS; i++) {
        bool good = false, forged = true;

        if (rsa_verify_rs256(shared->key, MESSAGE, 9, shared->signature, shared->len, &good, NULL) <
                0 ||
            rsa_verify_rs256(shared->key, MESSAGE, 9, bad, shared->len, &forged, NULL) < 0 ||
            !good || forged || ERR_peek_error())
            shared->wrong++;
    }
    return NULL;
}

static void rsa__many_threads_use_one_key(void **state)
{
    unsigned char signature[RSA_PAIR_BYTES_MAX];
    struct rsa_key *key = new_key(&pair);
    struct shared shared = {.key = key, .signature = signature};
    pthread_t threads[THREADS];

    (void)state;
    shared.len = rsa_pair_sign(&pair, "SHA256", RSA_PKCS1_PADDING, MESSAGE, 9, signature);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, verify_again_and_again, &shared), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(shared.wrong, 0);
    rsa_key_free(key);
}

static int make_pairs(void **state)
{
    (void)state;
    pair = rsa_pair_new(2048);
    other = rsa_pair_new(2048);
    return 0;
}

static int free_pairs(void **state)
{
    (void)state;
    rsa_pair_free(&pair);
    rsa_pair_free(&other);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rsa__a_signature_is_that_of_its_key_and_message),
        cmocka_unit_test(rsa__what_was_genuine_makes_nothing_else_genuine),
        cmocka_unit_test(rsa__a_signature_with_a_zero_in_front_or_without_it_is_another),
        cmocka_unit_test(rsa__another_digest_or_padding_is_refused),
        cmocka_unit_test(rsa__zeros_in_front_of_the_numbers_do_not_count),
        cmocka_unit_test(rsa__numbers_that_are_no_key_are_refused),
        cmocka_unit_test(rsa__a_number_without_end_costs_nothing),
        cmocka_unit_test(rsa__exponents),
        cmocka_unit_test(rsa__what_was_in_the_error_queue_stays),
        cmocka_unit_test(rsa__many_threads_use_one_key),
    };

    return cmocka_run_group_tests_name("rsa", tests, make_pairs, free_pairs);
}
