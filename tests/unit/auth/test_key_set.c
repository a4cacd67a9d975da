/* SPDX-License-Identifier: MIT */
#include "auth/key_set.h"

#include "unit/auth/jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MESSAGE "header.claims"

static struct rsa_pair one, two, small;

static struct key_set *reads(const struct buf *text)
{
    struct key_set *set = NULL;
    struct err err = {0};

    if (key_set_read(&set, buf_text(text), text->len, &err) < 0)
        fail_msg("%s: %s", buf_text(text), err.text);
    return set;
}

static void refuses(const char *text, const char *wanted)
{
    struct key_set *set = NULL;
    struct err err = {0};

    if (key_set_read(&set, text, strlen(text), &err) != ERR_INVALID)
        fail_msg("taken: %s", text);
    assert_null(set);
    if (!strstr(err.text, wanted))
        fail_msg("%.200s: no \"%s\" in \"%s\"", text, wanted, err.text);
}

static bool is_signed_by(const struct key_set *set, const char *key_id, const struct rsa_pair *by)
{
    unsigned char signature[RSA_PAIR_BYTES_MAX];
    size_t len = rsa_pair_sign(by, "SHA256", RSA_PKCS1_PADDING, MESSAGE, 13, signature);
    bool is_genuine = false;

    assert_int_equal(key_set_verify(set, key_id, MESSAGE, 13, signature, len, &is_genuine, NULL),
                     0);
    return is_genuine;
}

static void key_set__as_workos_lists_it(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    struct key_set *set;

    (void)state;
    jwt_put_set(&text, &one, "sso_oidc_key_pair_1");
    set = reads(&text);
    assert_int_equal(key_set_count(set), 1);
    assert_int_equal(key_set_passed_over(set), 0);
    assert_true(key_set_has(set, "sso_oidc_key_pair_1"));
    assert_false(key_set_has(set, "sso_oidc_key_pair"));
    assert_true(is_signed_by(set, "sso_oidc_key_pair_1", &one));
    assert_false(is_signed_by(set, "sso_oidc_key_pair_1", &two));
    assert_false(is_signed_by(set, "absent", &one));
    assert_ptr_equal(key_set_share(set), set);
    key_set_release(set);
    assert_true(is_signed_by(set, "sso_oidc_key_pair_1", &one));
    key_set_release(set);
    key_set_release(NULL);
    buf_release(&text);
}

/* A key remembers what it found genuine; the key that comes in its place, under its id, must not. */
static void key_set__a_key_in_the_place_of_another_knows_nothing_of_it(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    struct key_set *set, *later;

    (void)state;
    jwt_put_set(&text, &one, "key");
    set = reads(&text);
    buf_reset(&text);
    jwt_put_set(&text, &two, "key");
    later = reads(&text);
    assert_true(is_signed_by(set, "key", &one));
    assert_true(is_signed_by(set, "key", &one));
    assert_false(is_signed_by(later, "key", &one));
    assert_true(is_signed_by(later, "key", &two));
    assert_false(is_signed_by(set, "key", &two));
    key_set_release(set);
    assert_false(is_signed_by(later, "key", &one));
    key_set_release(later);
    buf_release(&text);
}

/* What isn't for us must not keep what is from being taken. */
static void key_set__passes_over_what_it_does_not_use(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    struct key_set *set;

    (void)state;
    buf_puts(&text, "{\"more\":{\"keys\":[]},\"keys\":[null,7,\"k\",[],{},"
                    "{\"kty\":\"EC\",\"kid\":\"ec\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"},"
                    "{\"kty\":\"oct\",\"kid\":\"oct\",\"k\":\"c2VjcmV0\"},"
                    "{\"kty\":\"RSA\",\"kid\":\"none\"},"
                    "{\"kty\":\"RSA\",\"kid\":\"bad\",\"n\":\"AQAB==\",\"e\":\"AQAB\"},"
                    "{\"kty\":\"RSA\",\"kid\":\"number\",\"n\":5,\"e\":\"AQAB\"},");
    jwt_put_key(&text, &small, "small", "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "enc", "\"use\":\"enc\",");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "null", "\"use\":null,");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "ps", "\"alg\":\"PS256\",");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "", "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "plain", "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &two, "usual", JWT_USUAL);
    buf_puts(&text, "]}");
    set = reads(&text);
    assert_int_equal(key_set_count(set), 2);
    assert_int_equal(key_set_passed_over(set), 15);
    assert_true(is_signed_by(set, "plain", &one));
    assert_true(is_signed_by(set, "usual", &two));
    assert_false(key_set_has(set, "small"));
    assert_false(key_set_has(set, "enc"));
    assert_false(key_set_has(set, ""));
    key_set_release(set);
    buf_release(&text);
}

static void key_set__two_keys_of_one_id_both_count(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    struct key_set *set;

    (void)state;
    buf_puts(&text, "{\"keys\":[");
    jwt_put_key(&text, &one, "k", "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &two, "k", "");
    buf_puts(&text, "]}");
    set = reads(&text);
    assert_int_equal(key_set_count(set), 2);
    assert_true(is_signed_by(set, "k", &one));
    assert_true(is_signed_by(set, "k", &two));
    key_set_release(set);
    buf_release(&text);
}

static void key_set__ids(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    char longest[KEY_ID_MAX + 2];
    struct key_set *set;

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    buf_puts(&text, "{\"keys\":[");
    jwt_put_key(&text, &one, longest, "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, longest + 1, "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "\\u006b\\\"", "");
    buf_puts(&text, "]}");
    set = reads(&text);
    assert_int_equal(key_set_count(set), 2);
    assert_false(key_set_has(set, longest));
    assert_true(key_set_has(set, longest + 1));
    assert_true(key_set_has(set, "k\""));
    key_set_release(set);
    buf_release(&text);
}

static void key_set__so_many_and_no_more(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    struct key_set *set;
    char id[16];

    (void)state;
    buf_puts(&text, "{\"keys\":[");
    for (int i = 0; i < KEY_SET_MAX + 3; i++) {
        snprintf(id, sizeof(id), "k%d", i);
        buf_puts(&text, i ? "," : "");
        jwt_put_key(&text, &one, id, "");
    }
    buf_puts(&text, "]}");
    set = reads(&text);
    assert_int_equal(key_set_count(set), KEY_SET_MAX);
    assert_int_equal(key_set_passed_over(set), 3);
    assert_true(key_set_has(set, "k0"));
    assert_true(key_set_has(set, "k63"));
    assert_false(key_set_has(set, "k64"));
    key_set_release(set);
    buf_release(&text);
}

static void key_set__what_is_no_key_set(void **state)
{
    (void)state;
    refuses("", "not valid JSON");
    refuses("<html>", "not valid JSON");
    refuses("[]", "it isn't a JWKS");
    refuses("7", "it isn't a JWKS");
    refuses("{}", "it isn't a JWKS");
    refuses("{\"keys\":{}}", "it isn't a JWKS");
    refuses("{\"keys\":null}", "it isn't a JWKS");
    refuses("{\"keys\":[]}", "its list of keys is empty");
    refuses("{\"keys\":[{\"kty\":\"EC\"},7]}",
            "none of its keys can be used; of the first: its \"kty\" isn't \"RSA\"");
    refuses("{\"keys\":[7]}", "of the first: it isn't an object");
    refuses("{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\"}]}", "its \"use\" isn't \"sig\"");
    refuses("{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"HS256\"}]}", "its \"alg\" isn't \"RS256\"");
    refuses("{\"keys\":[{\"kty\":\"RSA\",\"kid\":5}]}", "no \"kid\"");
    refuses("{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k\",\"n\":\"A A\",\"e\":\"AQAB\"}]}",
            "isn't a number in base64url");
    refuses("{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
            "17 bits is too small");
}

static void key_set__a_number_without_end(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);

    (void)state;
    buf_puts(&text, "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k\",\"e\":\"AQAB\",\"n\":\"");
    for (int i = 0; i < 60000; i++)
        buf_putc(&text, 'B');
    buf_puts(&text, "\"}]}");
    refuses(buf_text(&text), "far too large");
    buf_release(&text);
}

static struct key_set *set_of(const struct rsa_pair *pair, const char *key_id)
{
    struct buf text = BUF_INIT(JWT_MAX);
    struct key_set *set;

    jwt_put_set(&text, pair, key_id);
    set = reads(&text);
    buf_release(&text);
    return set;
}

static void key_set__equal_is_the_same_keys_under_the_same_ids(void **state)
{
    struct key_set *a = set_of(&one, "k"), *same = set_of(&one, "k");
    struct key_set *other_id = set_of(&one, "l"), *other_key = set_of(&two, "k");

    (void)state;
    assert_true(key_set_equal(a, a));
    assert_true(key_set_equal(a, same));
    assert_false(key_set_equal(a, other_id));
    assert_false(key_set_equal(a, other_key));
    key_set_release(a);
    key_set_release(same);
    key_set_release(other_id);
    key_set_release(other_key);
}

/* A server that lists its keys in another order each time shall not be news each time. */
static void key_set__the_order_does_not_count(void **state)
{
    struct key_set *sets[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct buf text = BUF_INIT(JWT_MAX);

        buf_puts(&text, "{\"keys\":[");
        jwt_put_key(&text, i == 0 ? &one : &two, "k", "");
        buf_puts(&text, ",");
        jwt_put_key(&text, i == 1 ? &one : &two, "k", "");
        buf_puts(&text, "]}");
        sets[i] = reads(&text);
        buf_release(&text);
    }
    assert_true(key_set_equal(sets[0], sets[1]));
    assert_false(key_set_equal(sets[0], sets[2])); /* two of the same are no replacement */
    assert_false(key_set_equal(sets[2], sets[0]));
    for (int i = 0; i < 3; i++)
        key_set_release(sets[i]);
}

static int make_pairs(void **state)
{
    (void)state;
    one = rsa_pair_new(2048);
    two = rsa_pair_new(2048);
    small = rsa_pair_new(1024);
    return 0;
}

static int free_pairs(void **state)
{
    (void)state;
    rsa_pair_free(&one);
    rsa_pair_free(&two);
    rsa_pair_free(&small);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_set__as_workos_lists_it),
        cmocka_unit_test(key_set__a_key_in_the_place_of_another_knows_nothing_of_it),
        cmocka_unit_test(key_set__passes_over_what_it_does_not_use),
        cmocka_unit_test(key_set__two_keys_of_one_id_both_count),
        cmocka_unit_test(key_set__ids),
        cmocka_unit_test(key_set__so_many_and_no_more),
        cmocka_unit_test(key_set__what_is_no_key_set),
        cmocka_unit_test(key_set__a_number_without_end),
        cmocka_unit_test(key_set__equal_is_the_same_keys_under_the_same_ids),
        cmocka_unit_test(key_set__the_order_does_not_count),
    };

    return cmocka_run_group_tests_name("key_set", tests, make_pairs, free_pairs);
}
