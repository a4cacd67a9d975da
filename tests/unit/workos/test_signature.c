/* SPDX-License-Identifier: MIT */
#include "workos/signature.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { NOW_S = 1768249067 };
static const int64_t now_ms = (int64_t)NOW_S * 1000 + 677;

static struct signing_keys *keys_of(const char *secrets)
{
    struct signing_keys *keys = NULL;
    struct err err = {0};

    if (signing_keys_new(&keys, secrets, &err) < 0)
        fail_msg("%s", err.text);
    return keys;
}

static enum signature_status verify(const char *secrets, const char *header, const char *body,
                                    int64_t now, int64_t *out_skew)
{
    struct signing_keys *keys = keys_of(secrets);
    struct signature_facts facts = {0};
    enum signature_status status = signature_verify(keys, header, body, strlen(body), now,
                                                    SIGNATURE_WEBHOOK_TOLERANCE_MS, &facts);

    if (out_skew)
        *out_skew = facts.skew_ms;
    signing_keys_free(keys);
    return status;
}

/* OpenSSL's own word: printf %s '1768249067677.{"id":1}' | openssl dgst -sha256 -hmac whsec_test */
static void signature__known_value(void **state)
{
    struct signing_keys *keys = keys_of("whsec_test");
    char hex[65], header[SIGNATURE_HEADER_MAX];
    struct err err;

    (void)state;
    assert_int_equal(signature_make(keys, 0, now_ms, "{\"id\":1}", 8, hex, &err), 0);
    assert_string_equal(hex, "4850c33d6cffe123cef239d6414cd3f625b989b0cccbadccc996c408bb25ebd1");
    assert_int_equal(signature_make_header(keys, now_ms, "{\"id\":1}", 8, header, &err), 0);
    assert_string_equal(
        header,
        "t=1768249067677, v1=4850c33d6cffe123cef239d6414cd3f625b989b0cccbadccc996c408bb25ebd1");
    signing_keys_free(keys);
}

#define HEX "4850c33d6cffe123cef239d6414cd3f625b989b0cccbadccc996c408bb25ebd1"
#define BODY "{\"id\":1}"

static void signature__header_forms(void **state)
{
    static const struct {
        const char *header;
        enum signature_status status;
    } cases[] = {
        {"t=1768249067677, v1=" HEX, SIGNATURE_OK},
        {"t=1768249067677,v1=" HEX, SIGNATURE_OK},
        {" \tt=1768249067677 ,\tv1=" HEX " ", SIGNATURE_OK},
        {"v1=" HEX ", t=1768249067677", SIGNATURE_OK},
        {"t=1768249067677, v0=abc, v1=" HEX ", x, ,", SIGNATURE_OK},
        {NULL, SIGNATURE_MISSING},
        {"", SIGNATURE_MISSING},
        {"  ", SIGNATURE_MISSING},
        {"t=1768249067677", SIGNATURE_MALFORMED},
        {"v1=" HEX, SIGNATURE_MALFORMED},
        {"t=, v1=" HEX, SIGNATURE_MALFORMED},
        {"t=-1768249067677, v1=" HEX, SIGNATURE_MALFORMED},
        {"t=+1768249067677, v1=" HEX, SIGNATURE_MALFORMED},
        {"t= 1768249067677, v1=" HEX, SIGNATURE_MALFORMED},
        {"t=1768249067677.0, v1=" HEX, SIGNATURE_MALFORMED},
        {"t=12345678901234567, v1=" HEX, SIGNATURE_MALFORMED},
        {"t=1768249067677, v1=abc", SIGNATURE_MALFORMED},
        {"t=1768249067677, v1=" HEX "0", SIGNATURE_MALFORMED},
        {"t=1768249067677, v1=x" HEX, SIGNATURE_MALFORMED},
        {"t=1768249067677, t=1768249067677, v1=" HEX, SIGNATURE_MALFORMED},
        {"t=1768249067677, v1=" HEX ", v1=" HEX, SIGNATURE_MALFORMED},
        {"T=1768249067677, V1=" HEX, SIGNATURE_MALFORMED},
        {"t=1768249067678, v1=" HEX, SIGNATURE_MISMATCH},
        {"t=01768249067677, v1=" HEX, SIGNATURE_MISMATCH}, /* signed is t as it was sent */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (verify("whsec_test", cases[i].header, BODY, now_ms, NULL) != cases[i].status)
            fail_msg("%s", cases[i].header);
}

static void signature__long_header_is_malformed(void **state)
{
    char header[2000];

    (void)state;
    snprintf(header, sizeof(header), "t=1768249067677, v1=" HEX ",%01500d", 0);
    assert_int_equal(verify("whsec_test", header, BODY, now_ms, NULL), SIGNATURE_MALFORMED);
}

static void signature__other_bodies_do_not_fit(void **state)
{
    static const char header[] = "t=1768249067677, v1=" HEX;

    (void)state;
    assert_int_equal(verify("whsec_test", header, "{\"id\":2}", now_ms, NULL), SIGNATURE_MISMATCH);
    assert_int_equal(verify("whsec_test", header, "", now_ms, NULL), SIGNATURE_MISMATCH);
    assert_int_equal(verify("whsec_test", header, BODY "\n", now_ms, NULL), SIGNATURE_MISMATCH);
    assert_int_equal(verify("test", header, BODY, now_ms, NULL), SIGNATURE_MISMATCH);
}

static void signature__every_changed_digit_is_seen(void **state)
{
    char header[] = "t=1768249067677, v1=" HEX;
    char *hex = strstr(header, "v1=") + 3;

    (void)state;
    for (size_t i = 0; i < 64; i++) {
        char was = hex[i];

        hex[i] = was == '0' ? '1' : '0';
        assert_int_equal(verify("whsec_test", header, BODY, now_ms, NULL), SIGNATURE_MISMATCH);
        hex[i] = was;
    }
}

static void signature__tolerance_on_both_sides(void **state)
{
    static const char header[] = "t=1768249067677, v1=" HEX;
    int64_t skew;

    (void)state;
    assert_int_equal(verify("whsec_test", header, BODY, now_ms + 180000, &skew), SIGNATURE_OK);
    assert_int_equal(skew, 180000);
    assert_int_equal(verify("whsec_test", header, BODY, now_ms + 180001, &skew), SIGNATURE_STALE);
    assert_int_equal(skew, 180001);
    assert_int_equal(verify("whsec_test", header, BODY, now_ms - 180000, &skew), SIGNATURE_OK);
    assert_int_equal(verify("whsec_test", header, BODY, now_ms - 180001, &skew), SIGNATURE_STALE);
    assert_true(skew == -180001);
    /* A forgery is one whatever its time. */
    assert_int_equal(verify("other", header, BODY, now_ms + 180001, &skew), SIGNATURE_MISMATCH);
}

static void signature__seconds_are_seconds(void **state)
{
    struct signing_keys *keys = keys_of("s");
    char header[SIGNATURE_HEADER_MAX];
    struct err err;
    int64_t skew;

    (void)state;
    assert_int_equal(signature_make_header(keys, NOW_S, BODY, strlen(BODY), header, &err), 0);
    assert_int_equal(verify("s", header, BODY, now_ms, &skew), SIGNATURE_OK);
    assert_int_equal(skew, 677);
    assert_int_equal(verify("s", header, BODY, now_ms + 180000, &skew), SIGNATURE_STALE);
    assert_int_equal(signature_make_header(keys, 0, BODY, strlen(BODY), header, &err), 0);
    assert_int_equal(verify("s", header, BODY, now_ms, &skew), SIGNATURE_STALE);
    assert_int_equal(
        signature_make_header(keys, 9999999999999999, BODY, strlen(BODY), header, &err), 0);
    assert_int_equal(verify("s", header, BODY, now_ms, &skew), SIGNATURE_STALE);
    signing_keys_free(keys);
}

static void signature__several_secrets(void **state)
{
    static const char header[] = "t=1768249067677, v1=" HEX;

    (void)state;
    assert_int_equal(verify("old, whsec_test", header, BODY, now_ms, NULL), SIGNATURE_OK);
    assert_int_equal(verify("whsec_test,new", header, BODY, now_ms, NULL), SIGNATURE_OK);
    assert_int_equal(verify(",, whsec_test ,", header, BODY, now_ms, NULL), SIGNATURE_OK);
    assert_int_equal(verify("a,b,c,d,e,f,g,whsec_test", header, BODY, now_ms, NULL), SIGNATURE_OK);
    assert_int_equal(verify("old,new", header, BODY, now_ms, NULL), SIGNATURE_MISMATCH);
}

/* An answer is signed with the secret that the question was signed with. */
static void signature__tells_which_secret_fitted(void **state)
{
    struct signing_keys *both = keys_of("one,whsec_test"), *second = keys_of("whsec_test");
    struct signature_facts facts = {.key = 77};
    char a[65], b[65], c[65];
    struct err err;

    (void)state;
    assert_int_equal(signature_verify(both, "t=1768249067677, v1=" HEX, BODY, strlen(BODY), now_ms,
                                      SIGNATURE_ACTION_TOLERANCE_MS, &facts),
                     SIGNATURE_OK);
    assert_int_equal(facts.key, 1);
    assert_int_equal(facts.skew_ms, 0);
    assert_int_equal(signature_make(both, facts.key, 1, "x", 1, a, &err), 0);
    assert_int_equal(signature_make(second, 0, 1, "x", 1, b, &err), 0);
    assert_int_equal(signature_make(both, 0, 1, "x", 1, c, &err), 0);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    signing_keys_free(both);
    signing_keys_free(second);
}

static void signature__no_secret_or_too_many(void **state)
{
    struct signing_keys *keys = NULL;
    struct err err;

    (void)state;
    assert_int_equal(signing_keys_new(&keys, "", &err), ERR_INVALID);
    assert_int_equal(signing_keys_new(&keys, " , ,", &err), ERR_INVALID);
    assert_int_equal(signing_keys_new(&keys, "a,b,c,d,e,f,g,h,i", &err), ERR_INVALID);
    assert_null(strstr(err.text, "a,b"));
    assert_null(keys);
    signing_keys_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signature__known_value),
        cmocka_unit_test(signature__header_forms),
        cmocka_unit_test(signature__long_header_is_malformed),
        cmocka_unit_test(signature__other_bodies_do_not_fit),
        cmocka_unit_test(signature__every_changed_digit_is_seen),
        cmocka_unit_test(signature__tolerance_on_both_sides),
        cmocka_unit_test(signature__seconds_are_seconds),
        cmocka_unit_test(signature__several_secrets),
        cmocka_unit_test(signature__tells_which_secret_fitted),
        cmocka_unit_test(signature__no_secret_or_too_many),
    };

    return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
