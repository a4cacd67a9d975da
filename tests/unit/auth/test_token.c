/* SPDX-License-Identifier: MIT */
/* A matrix of good and bad tokens. */
#include "auth/token.h"

#include "unit/auth/jwt.h"

#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NOW_S 1768249067 /* 2026-01-12 */
#define NOW_MS ((int64_t)NOW_S * 1000)
#define HEADER "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}"
#define ISSUER "https://api.workos.com"
#define CLIENT "client_123"
#define SUBJECT "\"sub\":\"user_1\""
/* What every token of these tests has; the claims that differ stand in front. */
#define REST "\"iss\":\"" ISSUER "\"," SUBJECT "}"
#define EXP "\"exp\":1768249367,"

static struct rsa_pair one, two, three;
static struct key_set *set; /* k1: one; twin: one and two; k3: three */
static struct token_rules rules;

/* All three steps, as auth.c takes them. The token is the caller's to release. */
static enum token_status run(struct token *token, const char *text, size_t len, int64_t now_ms)
{
    enum token_status status = token_open(token, text, len);

    if (status == TOKEN_OK)
        status = token_verify(token, set);
    if (status == TOKEN_OK)
        status = token_check(token, &rules, now_ms);
    if (status != TOKEN_OK)
        assert_non_null(token->reason);
    return status;
}

static void expect_text(const char *text, size_t len, int64_t now_ms, enum token_status wanted,
                        const char *reason)
{
    struct token token;
    enum token_status status = run(&token, text, len, now_ms);

    if (status != wanted || (reason && !strstr(token.reason, reason)))
        fail_msg("%.300s: status %d (%s), wanted %d (%s)", text, status, token.reason, wanted,
                 reason);
    token_release(&token);
}

static void expect_at(const struct rsa_pair *by, const char *header, const char *claims,
                      int64_t now_ms, enum token_status wanted, const char *reason)
{
    struct buf text = BUF_INIT(JWT_MAX);

    jwt_put(&text, by, header, claims);
    expect_text(buf_text(&text), text.len, now_ms, wanted, reason);
    buf_release(&text);
}

static void expect_header(const char *header, enum token_status wanted, const char *reason)
{
    expect_at(&one, header, "{" EXP REST, NOW_MS, wanted, reason);
}

static void expect_claims(const char *claims, enum token_status wanted, const char *reason)
{
    expect_at(&one, HEADER, claims, NOW_MS, wanted, reason);
}

static void token__a_good_one(void **state)
{
    static const char claims[] =
        "{\"iss\":\"" ISSUER "\",\"sub\":\"user_01H\",\"sid\":\"session_1\","
        "\"jti\":\"x\",\"org_id\":\"org_1\",\"role\":\"admin\","
        "\"permissions\":[\"a\"]," EXP "\"iat\":1768249067}";
    struct buf text = BUF_INIT(JWT_MAX);
    struct token token;

    (void)state;
    jwt_put(&text, &one, HEADER, claims);
    assert_int_equal(run(&token, buf_text(&text), text.len, NOW_MS), TOKEN_OK);
    assert_string_equal(token.subject, "user_01H");
    assert_string_equal(buf_text(&token.claims_text), claims);
    assert_true(json_equals(&token.claims, json_member(&token.claims, 0, "org_id"), "org_1"));
    token_release(&token);
    buf_release(&text);
}

/* ---------------------------------------------------------------------------------- the form */

static void token__forms_that_are_none(void **state)
{
    static const char *const texts[] = {
        "",
        ".",
        "..",
        "...",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "a.b.c.d.e",
        "eyJ9",
        "null",
        "undefined",
        "\xff.\xff.\xff",
        "W10.W10.W10",
        "e30.e30.e30",
        "bnVsbA.e30.e30",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        expect_text(texts[i], strlen(texts[i]), NOW_MS, TOKEN_MALFORMED, NULL);
}

/* The text with something put in at a place. */
static void expect_with(const struct buf *good, size_t at, const char *put_in,
                        enum token_status wanted)
{
    struct buf text = BUF_INIT(JWT_MAX);

    buf_put(&text, good->data, at);
    buf_puts(&text, put_in);
    buf_put(&text, good->data + at, good->len - at);
    expect_text(buf_text(&text), text.len, NOW_MS, wanted, NULL);
    buf_release(&text);
}

static void token__one_text_is_one_token(void **state)
{
    static const char *const odd[] = {"=", "==", " ", "\n", "\t", "+", "/", "%", ",", "\x80"};
    struct buf text = BUF_INIT(JWT_MAX);
    size_t first, second;

    (void)state;
    jwt_put(&text, &one, HEADER, "{" EXP REST);
    first = strcspn(text.data, ".");
    second = first + 1 + strcspn(text.data + first + 1, ".");
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        expect_with(&text, 0, odd[i], TOKEN_MALFORMED);
        expect_with(&text, first, odd[i], TOKEN_MALFORMED);
        expect_with(&text, first + 1, odd[i], TOKEN_FORGED); /* the claims aren't looked at */
        expect_with(&text, second, odd[i], TOKEN_FORGED);
        expect_with(&text, second + 1, odd[i], TOKEN_MALFORMED);
        expect_with(&text, text.len, odd[i], TOKEN_MALFORMED);
    }
    expect_with(&text, text.len, ".", TOKEN_MALFORMED);
    expect_with(&text, first, ".", TOKEN_MALFORMED);
    expect_text(text.data, second, NOW_MS, TOKEN_MALFORMED, "three parts");
    expect_text(text.data, second + 1, NOW_MS, TOKEN_FORGED, NULL); /* an empty signature */
    expect_text(text.data, text.len - 1, NOW_MS, TOKEN_MALFORMED, NULL);
    expect_text(text.data, text.len, NOW_MS, TOKEN_OK, NULL);
    buf_release(&text);
}

/* The last character of a signature holds bits that no byte has: another one there is another text. */
static void token__the_last_characters_spare_bits_are_zero(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);

    (void)state;
    jwt_put(&text, &one, HEADER, "{" EXP REST);
    assert_int_equal(one.n_len % 3, 1); /* so there are four of them */
    text.data[text.len - 1]++;
    expect_text(text.data, text.len, NOW_MS, TOKEN_MALFORMED, "base64url");
    buf_release(&text);
}

static void token__sizes(void **state)
{
    struct buf claims = BUF_INIT(JWT_MAX), text = BUF_INIT(JWT_MAX);

    (void)state;
    buf_puts(&claims, "{" EXP "\"x\":\"");
    while (claims.len < 11600)
        buf_putc(&claims, 'x');
    buf_puts(&claims, "\"," REST);
    jwt_put(&text, &one, HEADER, buf_text(&claims));
    assert_in_range(text.len, 15000, TOKEN_MAX);
    expect_text(text.data, text.len, NOW_MS, TOKEN_OK, NULL);
    buf_reset(&text);
    while (text.len < TOKEN_MAX + 1)
        buf_putc(&text, 'e');
    expect_text(text.data, text.len, NOW_MS, TOKEN_MALFORMED, "too long");
    expect_text(text.data, text.len - 1, NOW_MS, TOKEN_MALFORMED, "three parts");
    text.data[0] = text.data[1] = '.';
    expect_text(text.data, text.len - 1, NOW_MS, TOKEN_MALFORMED, NULL);
    text.data[8000] = text.data[0] = 'e';
    expect_text(text.data, text.len - 1, NOW_MS, TOKEN_MALFORMED, NULL);
    buf_release(&text);
    buf_release(&claims);
}

/* ---------------------------------------------------------------------------------- the header */

static void token__headers(void **state)
{
    static const struct {
        const char *header;
        enum token_status status;
        const char *reason;
    } cases[] = {
        {"{\"alg\":\"RS256\",\"kid\":\"k1\"}", TOKEN_OK, NULL},
        {" {\"kid\":\"k1\",\r\n \"alg\":\"RS256\"} ", TOKEN_OK, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"\\u006b1\"}", TOKEN_OK, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"k1\",\"jku\":\"http://x/\",\"jwk\":{\"kty\":\"RSA\"},"
         "\"x5u\":\"http://x/\",\"typ\":\"at+jwt\",\"cty\":5,\"b64\":false}",
         TOKEN_OK, NULL},
        {"{\"alg\":\"none\",\"alg\":\"RS256\",\"kid\":\"k1\"}", TOKEN_OK,
         NULL}, /* the last counts */
        {"{\"alg\":\"RS256\",\"alg\":\"none\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":null,\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":[\"RS256\"],\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"rs256\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"RS256 \",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"RS256\\u0000\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"none\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"None\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"HS256\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"RS384\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"PS256\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"ES256\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "\"alg\""},
        {"{\"alg\":\"RS256\"}", TOKEN_MALFORMED, "\"kid\""},
        {"{\"alg\":\"RS256\",\"kid\":null}", TOKEN_MALFORMED, "\"kid\""},
        {"{\"alg\":\"RS256\",\"kid\":1}", TOKEN_MALFORMED, "\"kid\""},
        {"{\"alg\":\"RS256\",\"kid\":[\"k1\"]}", TOKEN_MALFORMED, "\"kid\""},
        {"{\"alg\":\"RS256\",\"kid\":\"\"}", TOKEN_MALFORMED, "\"kid\""},
        {"{\"alg\":\"RS256\",\"kid\":\"k2\"}", TOKEN_UNKNOWN_KEY, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"K1\"}", TOKEN_UNKNOWN_KEY, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"k1 \"}", TOKEN_UNKNOWN_KEY, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"k1\\u0000\"}", TOKEN_UNKNOWN_KEY, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"../../etc/passwd\"}", TOKEN_UNKNOWN_KEY, NULL},
        {"{\"alg\":\"RS256\",\"kid\":\"k3\"}", TOKEN_FORGED, NULL}, /* somebody else's key */
        {"{\"alg\":\"RS256\",\"kid\":\"k1\",\"crit\":[\"exp\"]}", TOKEN_MALFORMED, "\"crit\""},
        {"{\"alg\":\"RS256\",\"kid\":\"k1\",\"crit\":[]}", TOKEN_MALFORMED, "\"crit\""},
        {"{\"alg\":\"RS256\",\"kid\":\"k1\",\"crit\":null}", TOKEN_MALFORMED, "\"crit\""},
        {"[\"RS256\",\"k1\"]", TOKEN_MALFORMED, "object"},
        {"\"RS256\"", TOKEN_MALFORMED, "object"},
        {"null", TOKEN_MALFORMED, "object"},
        {"", TOKEN_MALFORMED, "JSON"},
        {"{\"alg\":\"RS256\",\"kid\":\"k1\"", TOKEN_MALFORMED, "JSON"},
        {"{\"alg\":\"RS256\",\"kid\":\"k1\"}{}", TOKEN_MALFORMED, "JSON"},
        {"{\"alg\":\"RS256\",\"kid\":\"\xff\"}", TOKEN_MALFORMED, "JSON"},
        {"\xEF\xBB\xBF{\"alg\":\"RS256\",\"kid\":\"k1\"}", TOKEN_MALFORMED, "JSON"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_header(cases[i].header, cases[i].status, cases[i].reason);
}

static void token__a_very_long_key_id(void **state)
{
    struct buf header = BUF_INIT(JWT_MAX);

    (void)state;
    buf_printf(&header, "{\"alg\":\"RS256\",\"kid\":\"%0*d\"}", KEY_ID_MAX, 0);
    expect_header(buf_text(&header), TOKEN_UNKNOWN_KEY, NULL);
    buf_reset(&header);
    buf_printf(&header, "{\"alg\":\"RS256\",\"kid\":\"%0*d\"}", KEY_ID_MAX + 1, 0);
    expect_header(buf_text(&header), TOKEN_MALFORMED, "\"kid\"");
    buf_release(&header);
}

/* ---------------------------------------------------------------------------------- signatures */

/* "alg" HS256 and, for a secret, the public key that everybody has: as PEM, and as n. */
static void token__the_public_key_is_no_secret(void **state)
{
    static const char *const headers[] = {"{\"alg\":\"HS256\",\"kid\":\"k1\"}", HEADER};
    unsigned char mac[32];
    BIO *pem = BIO_new(BIO_s_mem());
    char *pem_text;
    size_t pem_len;
    unsigned mac_len;

    (void)state;
    assert_int_equal(PEM_write_bio_PUBKEY(pem, one.key), 1);
    pem_len = (size_t)BIO_get_mem_data(pem, &pem_text);
    for (size_t i = 0; i < 2 * ARRAY_LEN(headers); i++) {
        struct buf text = BUF_INIT(JWT_MAX);

        jwt_put_unsigned(&text, headers[i / 2], "{" EXP REST, strlen("{" EXP REST));
        HMAC(EVP_sha256(), i % 2 ? (const void *)one.n : pem_text,
             (int)(i % 2 ? one.n_len : pem_len), (const unsigned char *)text.data, text.len, mac,
             &mac_len);
        buf_putc(&text, '.');
        jwt_put_base64(&text, mac, mac_len);
        expect_text(text.data, text.len, NOW_MS, i < 2 ? TOKEN_MALFORMED : TOKEN_FORGED, NULL);
        buf_release(&text);
    }
    BIO_free(pem);
}

static void token__unsigned(void **state)
{
    static const char *const headers[] = {"{\"alg\":\"none\"}", "{\"alg\":\"none\",\"kid\":\"k1\"}",
                                          "{\"alg\":\"NONE\",\"kid\":\"k1\"}", HEADER};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct buf text = BUF_INIT(JWT_MAX);

        jwt_put_unsigned(&text, headers[i], "{" EXP REST, strlen("{" EXP REST));
        expect_text(text.data, text.len, NOW_MS, TOKEN_MALFORMED, "three parts");
        buf_putc(&text, '.');
        expect_text(text.data, text.len, NOW_MS, i < 3 ? TOKEN_MALFORMED : TOKEN_FORGED, NULL);
        buf_release(&text);
    }
}

/* A key that the token brings along is its own witness. */
static void token__its_own_key_is_not_believed(void **state)
{
    struct buf header = BUF_INIT(JWT_MAX);

    (void)state;
    buf_puts(&header, "{\"alg\":\"RS256\",\"kid\":\"k1\",\"jwk\":");
    jwt_put_key(&header, &two, "k1", "");
    buf_puts(&header, "}");
    expect_at(&two, buf_text(&header), "{" EXP REST, NOW_MS, TOKEN_FORGED, NULL);
    buf_release(&header);
}

static void token__keys_of_one_id_are_all_tried(void **state)
{
    static const char header[] = "{\"alg\":\"RS256\",\"kid\":\"twin\"}";

    (void)state;
    expect_at(&one, header, "{" EXP REST, NOW_MS, TOKEN_OK, NULL);
    expect_at(&two, header, "{" EXP REST, NOW_MS, TOKEN_OK, NULL);
    expect_at(&three, header, "{" EXP REST, NOW_MS, TOKEN_FORGED, NULL);
    expect_at(&two, HEADER, "{" EXP REST, NOW_MS, TOKEN_FORGED, NULL);
}

static void token__a_changed_byte_anywhere(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);

    (void)state;
    jwt_put(&text, &one, HEADER, "{" EXP REST);
    for (size_t i = 0; i < text.len; i++) {
        struct token token;
        char was = text.data[i];

        text.data[i] = was == 'A' ? 'B' : 'A';
        if (run(&token, text.data, text.len, NOW_MS) == TOKEN_OK)
            fail_msg("taken, with byte %zu changed", i);
        token_release(&token);
        text.data[i] = was;
    }
    expect_text(text.data, text.len, NOW_MS, TOKEN_OK, NULL);
    buf_release(&text);
}

/* The signature of one token under the claims of another. */
static void token__a_borrowed_signature(void **state)
{
    struct buf good = BUF_INIT(JWT_MAX), text = BUF_INIT(JWT_MAX);

    (void)state;
    jwt_put(&good, &one, HEADER, "{" EXP REST);
    jwt_put_unsigned(&text, HEADER, "{\"role\":\"admin\"," EXP REST,
                     strlen("{\"role\":\"admin\"," EXP REST));
    buf_puts(&text, strrchr(good.data, '.'));
    expect_text(text.data, text.len, NOW_MS, TOKEN_FORGED, NULL);
    buf_release(&good);
    buf_release(&text);
}

/* Of claims that can't be read nothing is told as long as the signature isn't good. */
static void token__the_signature_comes_before_the_claims(void **state)
{
    (void)state;
    expect_at(&two, HEADER, "{\"exp\":1,", NOW_MS, TOKEN_FORGED, NULL);
    expect_at(&two, HEADER, "{\"exp\":1}", NOW_MS, TOKEN_FORGED, NULL);
    expect_at(&one, HEADER, "{\"exp\":1,", NOW_MS, TOKEN_NOT_OURS, "JSON");
}

/* ---------------------------------------------------------------------------------- dates */

/* Good from -60 s to just before +60 s around its edges. */
static void token__the_leeway_to_the_millisecond(void **state)
{
    static const char exp[] = "{\"exp\":1768249067," REST;
    static const char nbf[] = "{" EXP "\"nbf\":1768249067," REST;
    static const char iat[] = "{" EXP "\"iat\":1768249067," REST;
    static const char half[] = "{\"exp\":1768249067.5," REST;

    (void)state;
    expect_at(&one, HEADER, exp, NOW_MS, TOKEN_OK, NULL);
    expect_at(&one, HEADER, exp, NOW_MS + 59999, TOKEN_OK, NULL);
    expect_at(&one, HEADER, exp, NOW_MS + 60000, TOKEN_EXPIRED, NULL);
    expect_at(&one, HEADER, half, NOW_MS + 60499, TOKEN_OK, NULL);
    expect_at(&one, HEADER, half, NOW_MS + 60500, TOKEN_EXPIRED, NULL);
    expect_at(&one, HEADER, nbf, NOW_MS - 60000, TOKEN_OK, NULL);
    expect_at(&one, HEADER, nbf, NOW_MS - 60001, TOKEN_EARLY, "nbf");
    expect_at(&one, HEADER, iat, NOW_MS - 60000, TOKEN_OK, NULL);
    expect_at(&one, HEADER, iat, NOW_MS - 60001, TOKEN_EARLY, "iat");
}

static void token__dates(void **state)
{
    static const struct {
        const char *claims;
        enum token_status status;
        const char *reason;
    } cases[] = {
        {"{" REST, TOKEN_NOT_OURS, "no \"exp\""},
        {"{\"exp\":null," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":\"1768249367\"," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":true," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":[1768249367]," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":{}," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":0," REST, TOKEN_EXPIRED, NULL},
        {"{\"exp\":-1," REST, TOKEN_EXPIRED, NULL},
        {"{\"exp\":-9007199254740993," REST, TOKEN_EXPIRED, NULL},
        {"{\"exp\":1.768249367e9," REST, TOKEN_OK, NULL},
        {"{\"exp\":1768249367.999999999999999999999," REST, TOKEN_OK, NULL},
        {"{\"exp\":9007199254740992," REST, TOKEN_OK, NULL},
        {"{\"exp\":9007199254740994," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":9223372036854775808," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":-1e300," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":1e300," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":1e999," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":-1e999," REST, TOKEN_NOT_OURS, "date"},
        {"{\"exp\":1," EXP REST, TOKEN_OK, NULL}, /* the last counts */
        {"{" EXP "\"exp\":1," REST, TOKEN_EXPIRED, NULL},
        {"{" EXP "\"nbf\":\"0\"," REST, TOKEN_NOT_OURS, "date"},
        {"{" EXP "\"nbf\":null," REST, TOKEN_NOT_OURS, "date"},
        {"{" EXP "\"nbf\":1e999," REST, TOKEN_NOT_OURS, "date"},
        {"{" EXP "\"nbf\":0," REST, TOKEN_OK, NULL},
        {"{" EXP "\"iat\":\"0\"," REST, TOKEN_NOT_OURS, "date"},
        {"{" EXP "\"iat\":{}," REST, TOKEN_NOT_OURS, "date"},
        {"{" EXP "\"iat\":-5," REST, TOKEN_OK, NULL},
        {"{" EXP "\"auth_time\":\"yesterday\"," REST, TOKEN_OK, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_claims(cases[i].claims, cases[i].status, cases[i].reason);
}

/* ---------------------------------------------------------------------------------- for whom */

static void token__issuers(void **state)
{
    static const struct {
        const char *issuer;
        enum token_status status;
    } cases[] = {
        {"\"https://api.workos.com\"", TOKEN_OK},
        {"\"https://api.workos.com/\"", TOKEN_OK},
        {"\"https:\\/\\/api.workos.com\\/\"", TOKEN_OK},
        {"\"https://api.workos.com/user_management/client_123\"", TOKEN_OK},
        {"\"https://api.workos.com/user_management/client_123/\"", TOKEN_NOT_OURS},
        {"\"https://api.workos.com/user_management/client_1234\"", TOKEN_NOT_OURS},
        {"\"https://api.workos.com//\"", TOKEN_NOT_OURS},
        {"\"http://api.workos.com\"", TOKEN_NOT_OURS},
        {"\"https://API.workos.com\"", TOKEN_NOT_OURS},
        {"\"https://api.workos.com.evil.example\"", TOKEN_NOT_OURS},
        {"\"https://api.workos.co\"", TOKEN_NOT_OURS},
        {"\"https://api.workos.com,https://api.workos.com/\"", TOKEN_NOT_OURS},
        {"\" https://api.workos.com\"", TOKEN_NOT_OURS},
        {"\"https://api.workos.com\\u0000\"", TOKEN_NOT_OURS},
        {"\"\"", TOKEN_NOT_OURS},
        {"null", TOKEN_NOT_OURS},
        {"5", TOKEN_NOT_OURS},
        {"[\"https://api.workos.com\"]", TOKEN_NOT_OURS},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char claims[512];

        snprintf(claims, sizeof(claims), "{" EXP "\"iss\":%s," SUBJECT "}", cases[i].issuer);
        expect_claims(claims, cases[i].status, NULL);
    }
    expect_claims("{" EXP SUBJECT "}", TOKEN_NOT_OURS, "no \"iss\"");
}

static void token__audiences(void **state)
{
    static const struct {
        const char *audience;
        enum token_status status;
    } cases[] = {
        {"\"client_123\"", TOKEN_OK},
        {"\"api://mine\"", TOKEN_OK},
        {"[\"client_123\"]", TOKEN_OK},
        {"[\"other\",\"api://mine\"]", TOKEN_OK},
        {"\"client_12\"", TOKEN_NOT_OURS},
        {"\"client_1234\"", TOKEN_NOT_OURS},
        {"\"client_123,api://mine\"", TOKEN_NOT_OURS},
        {"\"\"", TOKEN_NOT_OURS},
        {"[]", TOKEN_NOT_OURS},
        {"[\"other\"]", TOKEN_NOT_OURS},
        {"[\"client_123\",5]", TOKEN_NOT_OURS},
        {"[[\"client_123\"]]", TOKEN_NOT_OURS},
        {"{\"client_123\":\"client_123\"}", TOKEN_NOT_OURS},
        {"null", TOKEN_NOT_OURS},
        {"5", TOKEN_NOT_OURS},
    };
    struct token_names audiences = rules.audiences;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char claims[512];

        snprintf(claims, sizeof(claims), "{" EXP "\"aud\":%s," REST, cases[i].audience);
        expect_claims(claims, cases[i].status, NULL);
    }
    rules.audiences = (struct token_names){0}; /* none is known: none is right */
    expect_claims("{" EXP "\"aud\":\"client_123\"," REST, TOKEN_NOT_OURS, "audience");
    expect_claims("{" EXP "\"aud\":\"\"," REST, TOKEN_NOT_OURS, "audience");
    expect_claims("{" EXP REST, TOKEN_OK, NULL);
    rules.audiences = audiences;
}

static void token__client_ids(void **state)
{
    (void)state;
    expect_claims("{" EXP "\"client_id\":\"client_123\"," REST, TOKEN_OK, NULL);
    expect_claims("{" EXP "\"client_id\":\"client_124\"," REST, TOKEN_NOT_OURS, "client id");
    expect_claims("{" EXP "\"client_id\":\"\"," REST, TOKEN_NOT_OURS, "client id");
    expect_claims("{" EXP "\"client_id\":null," REST, TOKEN_NOT_OURS, "client_id");
    expect_claims("{" EXP "\"client_id\":[\"client_123\"]," REST, TOKEN_NOT_OURS, "client_id");
    rules.client_id = NULL;
    expect_claims("{" EXP "\"client_id\":\"client_124\"," REST, TOKEN_OK, NULL);
    rules.client_id = CLIENT;
}

static void token__subjects(void **state)
{
    static const struct {
        const char *subject, *decoded; /* NULL: refused */
    } cases[] = {
        {"\"user_1\"", "user_1"},
        {"\"\\u0075ser_1\"", "user_1"},
        {"\"\xC3\xA4\xF0\x9F\x98\x80\"", "\xC3\xA4\xF0\x9F\x98\x80"},
        {"\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80"},
        {"\"\xC2\xA0\"", "\xC2\xA0"},
        {"\"\"", NULL},
        {"null", NULL},
        {"5", NULL},
        {"[\"user_1\"]", NULL},
        {"\"user\\n1\"", NULL},
        {"\"user\\u00001\"", NULL},
        {"\"user\\u001f\"", NULL},
        {"\"user\\u007f\"", NULL},
        {"\"user\\u0085\"", NULL},
        {"\"user\\ud800\"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf text = BUF_INIT(JWT_MAX);
        struct token token;
        enum token_status status;
        char claims[512];

        snprintf(claims, sizeof(claims), "{" EXP "\"iss\":\"" ISSUER "\",\"sub\":%s}",
                 cases[i].subject);
        jwt_put(&text, &one, HEADER, claims);
        status = run(&token, text.data, text.len, NOW_MS);
        if (status != (cases[i].decoded ? TOKEN_OK : TOKEN_NOT_OURS))
            fail_msg("%s: %d", cases[i].subject, status);
        if (cases[i].decoded)
            assert_string_equal(token.subject, cases[i].decoded);
        token_release(&token);
        buf_release(&text);
    }
    expect_claims("{" EXP "\"iss\":\"" ISSUER "\"}", TOKEN_NOT_OURS, "no \"sub\"");
}

static void token__long_subjects(void **state)
{
    static const size_t lengths[] = {TOKEN_SUBJECT_MAX, TOKEN_SUBJECT_MAX + 1, 5000};

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(lengths); i++) {
        struct buf claims = BUF_INIT(JWT_MAX);
        size_t len = lengths[i / 2];

        buf_puts(&claims, "{" EXP "\"iss\":\"" ISSUER "\",\"sub\":\"");
        for (size_t j = 0; j < len && claims.len < 11000; j++)
            buf_puts(&claims, i % 2 ? "\\u0075" : "u");
        buf_puts(&claims, "\"}");
        expect_claims(buf_text(&claims), len <= TOKEN_SUBJECT_MAX ? TOKEN_OK : TOKEN_NOT_OURS,
                      NULL);
        buf_release(&claims);
    }
}

/* ---------------------------------------------------------------------------------- claims */

static void token__claims_that_are_none(void **state)
{
    static const char *const cases[] = {
        "",
        "null",
        "5",
        "\"" ISSUER "\"",
        "[]",
        "{",
        "{\"exp\":1768249367",
        "{}{}",
        "{" EXP "\"x\":\"\xff\"," REST, /* no UTF-8 */
        "{" EXP "\"x\":\"\xed\xa0\x80\"," REST,
        "{" EXP "\"x\":NaN," REST,
        "\xEF\xBB\xBF{" EXP REST,
        "{" EXP "\"x\":\"\x01\"," REST,
        "{'exp':1768249367}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_claims(cases[i], TOKEN_NOT_OURS, NULL);
}

static void token__deep_claims(void **state)
{
    static const int depths[] = {900, 5500};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
        struct buf claims = BUF_INIT(JWT_MAX);

        buf_puts(&claims, "{" EXP "\"x\":");
        for (int d = 0; d < depths[i]; d++)
            buf_putc(&claims, '[');
        for (int d = 0; d < depths[i]; d++)
            buf_putc(&claims, ']');
        buf_puts(&claims, "," REST);
        expect_claims(buf_text(&claims), i == 0 ? TOKEN_OK : TOKEN_NOT_OURS, NULL);
        buf_release(&claims);
    }
}

/* What the operator has to mend is named, with what was found; of what is nobody's fault nothing. */
static void token__what_to_mend(void **state)
{
    static const struct {
        const char *claims, *mend, *found;
    } cases[] = {
        {"{" EXP SUBJECT ",\"iss\":\"https://x\"}", "--issuer", "https://x"},
        {"{" EXP "\"aud\":[\"x\"]," REST, "--audience", "[\"x\"]"},
        {"{" EXP "\"client_id\":\"x\"," REST, "WORKOS_CLIENT_ID", "x"},
        {"{\"exp\":1," REST, NULL, NULL},
        {"{" EXP "\"iss\":\"" ISSUER "\"}", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf text = BUF_INIT(JWT_MAX);
        struct token token;

        jwt_put(&text, &one, HEADER, cases[i].claims);
        assert_int_not_equal(run(&token, text.data, text.len, NOW_MS), TOKEN_OK);
        if (cases[i].mend) {
            assert_string_equal(token.mend, cases[i].mend);
            assert_int_equal(token.found_len, strlen(cases[i].found));
            assert_memory_equal(token.found, cases[i].found, token.found_len);
        } else {
            assert_null(token.mend);
            assert_null(token.found);
        }
        token_release(&token);
        buf_release(&text);
    }
}

static void token__lists_of_names(void **state)
{
    struct token_names names;

    (void)state;
    assert_int_equal(token_names_init(&names, " a , b\t,, ,c d,", NULL), 0);
    assert_int_equal(names.count, 3);
    assert_string_equal(names.items[0], "a");
    assert_string_equal(names.items[1], "b");
    assert_string_equal(names.items[2], "c d");
    token_names_release(&names);
    token_names_release(&names);
    assert_int_equal(token_names_init(&names, NULL, NULL), 0);
    assert_int_equal(names.count, 0);
    token_names_release(&names);
}

static int set_up(void **state)
{
    struct buf text = BUF_INIT(JWT_MAX);
    int rc;

    (void)state;
    one = rsa_pair_new(2048);
    two = rsa_pair_new(2048);
    three = rsa_pair_new(3072);
    buf_puts(&text, "{\"keys\":[");
    jwt_put_key(&text, &one, "k1", JWT_USUAL);
    buf_puts(&text, ",");
    jwt_put_key(&text, &one, "twin", "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &two, "twin", "");
    buf_puts(&text, ",");
    jwt_put_key(&text, &three, "k3", "");
    buf_puts(&text, "]}");
    rc = key_set_read(&set, text.data, text.len, NULL);
    buf_release(&text);
    rules.client_id = CLIENT;
    if (rc == 0)
        rc = token_names_init(&rules.issuers,
                              ISSUER "," ISSUER "/," ISSUER "/user_management/" CLIENT, NULL);
    return rc < 0 ? rc : token_names_init(&rules.audiences, CLIENT ",api://mine", NULL);
}

static int tear_down(void **state)
{
    (void)state;
    rsa_pair_free(&one);
    rsa_pair_free(&two);
    rsa_pair_free(&three);
    key_set_release(set);
    token_names_release(&rules.issuers);
    token_names_release(&rules.audiences);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token__a_good_one),
        cmocka_unit_test(token__forms_that_are_none),
        cmocka_unit_test(token__one_text_is_one_token),
        cmocka_unit_test(token__the_last_characters_spare_bits_are_zero),
        cmocka_unit_test(token__sizes),
        cmocka_unit_test(token__headers),
        cmocka_unit_test(token__a_very_long_key_id),
        cmocka_unit_test(token__the_public_key_is_no_secret),
        cmocka_unit_test(token__unsigned),
        cmocka_unit_test(token__its_own_key_is_not_believed),
        cmocka_unit_test(token__keys_of_one_id_are_all_tried),
        cmocka_unit_test(token__a_changed_byte_anywhere),
        cmocka_unit_test(token__a_borrowed_signature),
        cmocka_unit_test(token__the_signature_comes_before_the_claims),
        cmocka_unit_test(token__the_leeway_to_the_millisecond),
        cmocka_unit_test(token__dates),
        cmocka_unit_test(token__issuers),
        cmocka_unit_test(token__audiences),
        cmocka_unit_test(token__client_ids),
        cmocka_unit_test(token__subjects),
        cmocka_unit_test(token__long_subjects),
        cmocka_unit_test(token__claims_that_are_none),
        cmocka_unit_test(token__deep_claims),
        cmocka_unit_test(token__what_to_mend),
        cmocka_unit_test(token__lists_of_names),
    };

    return cmocka_run_group_tests_name("token", tests, set_up, tear_down);
}
