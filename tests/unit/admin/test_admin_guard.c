/* SPDX-License-Identifier: MIT */
#include "admin/admin_guard.h"

#include "base/compiler.h"
#include "unit/routes/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TOKEN "correct-horse-battery-staple"

static struct admin_guard *new_guard(const struct admin_guard_opts *opts)
{
    struct admin_guard *guard = NULL;
    struct err err;

    if (admin_guard_new(&guard, opts, &err) < 0)
        fail_msg("%s", err.text);
    return guard;
}

static struct admin_guard *guard_at(const char *address, const char *token)
{
    const struct admin_guard_opts opts = {.address = address, .token = token};

    return new_guard(&opts);
}

/* ------------------------------------------------------------------------- host and origin */

static bool takes_host(const char *address, const char *host)
{
    struct admin_guard *guard = guard_at(address, NULL);
    struct exchange x = exchange_new("GET", "/metrics");
    bool is_taken;

    if (host)
        exchange_add(&x, "Host", host);
    is_taken = admin_guard_is_for_us(guard, &x.request, &x.response);
    assert_int_equal(x.response.status, is_taken ? 200 : 403);
    assert_true(is_taken || strstr(buf_text(&x.response.body), "host_refused"));
    exchange_release(&x);
    admin_guard_free(guard);
    return is_taken;
}

static void guard__hosts(void **state)
{
    static const char *const ours[] = {
        "localhost",   "localhost:9090",  "LocalHost:80", "127.0.0.1",
        "127.0.0.1:1", "127.8.9.10:9090", "[::1]",        "[::1]:9090",
    };
    static const char *const strangers[] = {
        "",
        "evil.example",
        "evil.example:9090",
        "localhost.evil.example",
        "127.0.0.1.evil.example:9090",
        "127.0.0.1@evil.example",
        "localhost:9090@evil.example",
        "localhost:x",
        "localhost:",
        "localhost:99999",
        "localhost ",
        "localhost.",
        "127.1",
        "0x7f000001",
        "2130706433",
        "128.0.0.1",
        "10.0.0.5:9090",
        "0.0.0.0:9090",
        "[::]",
        "[::1",
        "[::1]evil.example",
        "::1",
        "[::2]:9090",
        "[]",
        "[",
        ":9090",
    };
    char long_host[1000];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (!takes_host("127.0.0.1:9090", ours[i]))
            fail_msg("refused: '%s'", ours[i]);
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
        if (takes_host("127.0.0.1:9090", strangers[i]))
            fail_msg("taken: '%s'", strangers[i]);
    memset(long_host, 'a', sizeof(long_host));
    long_host[sizeof(long_host) - 1] = '\0';
    assert_false(takes_host("127.0.0.1:9090", long_host));
    assert_false(takes_host("127.0.0.1:9090", NULL));
}

static void guard__its_own_address_is_a_host(void **state)
{
    (void)state;
    assert_true(takes_host("10.0.0.5:9090", "10.0.0.5:9090"));
    assert_true(takes_host("10.0.0.5:9090", "localhost:9090"));
    assert_false(takes_host("10.0.0.5:9090", "10.0.0.6:9090"));
    assert_true(takes_host("[2001:db8::1]:9090", "[2001:DB8::1]:9090"));
    /* Listening everywhere: any address, since an address can't be made to lead elsewhere. */
    assert_true(takes_host("0.0.0.0:9090", "203.0.113.7:9090"));
    assert_true(takes_host("[::]:9090", "[2001:db8::2]"));
    assert_true(takes_host("[::]:9090", "203.0.113.7"));
    assert_false(takes_host("0.0.0.0:9090", "evil.example:9090"));
    assert_false(takes_host("[::]:9090", "[evil]:9090"));
}

static int status_with(const char *method, const char *const *headers)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", NULL);
    struct exchange x = exchange_new(method, "/reload");
    int status;

    exchange_add(&x, "Host", "localhost:9090");
    for (; *headers; headers += 2)
        exchange_add(&x, headers[0], headers[1]);
    if (!admin_guard_is_for_us(guard, &x.request, &x.response))
        assert_non_null(strstr(buf_text(&x.response.body), "origin_refused"));
    status = x.response.status;
    exchange_release(&x);
    admin_guard_free(guard);
    return status;
}

#define STATUS(method, ...) status_with(method, (const char *const[]){__VA_ARGS__, NULL})

static void guard__origins(void **state)
{
    static const char *const strangers[] = {
        "null",
        "",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:9090",
        "http://evil.example",
        "http://localhost:9090.evil.example",
        "http://localhost:9090/",
        "ftp://localhost:9090",
        "://localhost:9090",
        "localhost:9090",
        "httpx://localhost:9090",
    };

    (void)state;
    assert_int_equal(STATUS("POST", "Origin", "http://localhost:9090"), 200);
    assert_int_equal(STATUS("POST", "Origin", "https://localhost:9090"), 200);
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
        if (STATUS("POST", "Origin", strangers[i]) != 403)
            fail_msg("taken: '%s'", strangers[i]);
    assert_int_equal(
        STATUS("POST", "Origin", "http://localhost:9090", "Origin", "http://evil.example"), 403);
}

static void guard__what_the_browser_says_of_the_page(void **state)
{
    (void)state;
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "same-origin"), 200);
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "none"), 200);
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "cross-site"), 403);
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "same-site"), 403);
    /* A link, but neither a frame nor a form. */
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate",
                            "Sec-Fetch-Dest", "document"),
                     200);
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate",
                            "Sec-Fetch-Dest", "iframe"),
                     403);
    assert_int_equal(STATUS("POST", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate",
                            "Sec-Fetch-Dest", "document"),
                     403);
    assert_int_equal(STATUS("GET", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors",
                            "Sec-Fetch-Dest", "script"),
                     403);
}

/* ------------------------------------------------------------------------- the token */

static enum admin_pass ask_from(struct admin_guard *guard, const char *address, const char *name,
                                const char *value)
{
    struct exchange x = exchange_new("GET", "/metrics");
    enum admin_pass pass;

    x.request.remote_addr = address;
    exchange_add(&x, "Host", "localhost:9090");
    if (name)
        exchange_add(&x, name, value);
    pass = admin_guard_ask(guard, &x.request);
    exchange_release(&x);
    return pass;
}

static enum admin_pass ask_with(struct admin_guard *guard, const char *authorization)
{
    return ask_from(guard, "127.0.0.1", authorization ? "Authorization" : NULL, authorization);
}

static void guard__without_a_token_everybody_may(void **state)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", NULL);

    (void)state;
    assert_int_equal(ask_with(guard, NULL), ADMIN_PASS_GOOD);
    assert_int_equal(ask_with(guard, "Bearer nonsense"), ADMIN_PASS_GOOD);
    admin_guard_free(guard);
}

static void guard__the_token_in_a_header(void **state)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", TOKEN);

    (void)state;
    assert_int_equal(ask_with(guard, "Bearer " TOKEN), ADMIN_PASS_GOOD);
    assert_int_equal(ask_with(guard, "bearer  " TOKEN), ADMIN_PASS_GOOD);
    assert_int_equal(ask_with(guard, NULL), ADMIN_PASS_MISSING);
    assert_int_equal(ask_with(guard, "Basic " TOKEN), ADMIN_PASS_MISSING);
    assert_int_equal(ask_with(guard, TOKEN), ADMIN_PASS_MISSING);
    assert_int_equal(ask_with(guard, "Bearer "), ADMIN_PASS_WRONG);
    assert_int_equal(ask_with(guard, "Bearer " TOKEN "x"), ADMIN_PASS_WRONG);
    assert_int_equal(ask_with(guard, "Bearer correct-horse-battery-stapl"), ADMIN_PASS_WRONG);
    assert_int_equal(ask_with(guard, "Bearer CORRECT-horse-battery-staple"), ADMIN_PASS_WRONG);
    admin_guard_free(guard);
}

static void guard__who_is_wrong_too_often_waits(void **state)
{
    const struct admin_guard_opts opts = {
        .address = "127.0.0.1:9090", .token = TOKEN, .tries_ms = 200};
    struct admin_guard *guard = new_guard(&opts);

    (void)state;
    for (int i = 0; i < ADMIN_GUARD_TRIES; i++)
        assert_int_equal(ask_with(guard, "Bearer wrong"), ADMIN_PASS_WRONG);
    assert_int_equal(ask_with(guard, "Bearer wrong"), ADMIN_PASS_TOO_MANY);
    assert_int_equal(ask_with(guard, "Bearer " TOKEN), ADMIN_PASS_TOO_MANY);
    assert_int_equal(ask_from(guard, "10.0.0.6", "Authorization", "Bearer " TOKEN),
                     ADMIN_PASS_GOOD);
    usleep(250000);
    assert_int_equal(ask_with(guard, "Bearer " TOKEN), ADMIN_PASS_GOOD);
    admin_guard_free(guard);
}

static void guard__many_addresses_are_no_trouble(void **state)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", TOKEN);
    char address[32];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(address, sizeof(address), "10.0.%d.%d", i / 250, i % 250);
        assert_int_equal(ask_from(guard, address, "Authorization", "Bearer wrong"),
                         ADMIN_PASS_WRONG);
    }
    assert_int_equal(ask_with(guard, "Bearer " TOKEN), ADMIN_PASS_GOOD);
    admin_guard_free(guard);
}

/* ------------------------------------------------------------------------- signing in */

/* The answer's status; out_cookie gets "name=value" when there is one. */
static int sign_in_at(struct admin_guard *guard, const char *host, const char *body,
                      char out_cookie[256])
{
    struct exchange x = exchange_new("POST", "/sign-in");
    const char *set;
    int status;

    exchange_add(&x, "Host", host);
    x.request.body = body;
    x.request.body_len = strlen(body);
    admin_guard_sign_in(guard, &x.request, &x.response);
    status = x.response.status;
    set = exchange_header(&x, "Set-Cookie");
    out_cookie[0] = '\0';
    if (set) {
        assert_non_null(strstr(set, "; Path=/; HttpOnly; SameSite=Strict; Max-Age="));
        snprintf(out_cookie, 256, "%.*s", (int)strcspn(set, ";"), set);
    }
    exchange_release(&x);
    return status;
}

static int sign_in(struct admin_guard *guard, const char *body, char out_cookie[256])
{
    return sign_in_at(guard, "localhost:9090", body, out_cookie);
}

static enum admin_pass ask_cookie(struct admin_guard *guard, const char *cookie)
{
    return ask_from(guard, "127.0.0.1", "Cookie", cookie);
}

static void guard__a_cookie_for_the_token(void **state)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", TOKEN);
    char cookie[256], other[256], text[600];
    struct exchange x;

    (void)state;
    assert_int_equal(sign_in(guard, "{\"token\":\"" TOKEN "\"}", cookie), 204);
    assert_int_equal(strncmp(cookie, "authkitd_9090=", 14), 0);
    assert_int_equal(strlen(cookie), 14 + 64);
    assert_null(strstr(cookie, TOKEN));
    assert_int_equal(ask_cookie(guard, cookie), ADMIN_PASS_GOOD);
    snprintf(text, sizeof(text), "a=b;  %s; authkitd_9090=0;c=d", cookie);
    assert_int_equal(ask_cookie(guard, text), ADMIN_PASS_GOOD);
    snprintf(text, sizeof(text), "authkitd_9090=0; %s", cookie);
    assert_int_equal(ask_cookie(guard, text), ADMIN_PASS_GOOD);
    snprintf(text, sizeof(text), "x%s", cookie);
    assert_int_equal(ask_cookie(guard, text), ADMIN_PASS_MISSING);
    snprintf(text, sizeof(text), "%sf", cookie);
    assert_int_equal(ask_cookie(guard, text), ADMIN_PASS_MISSING);
    text[14 + 63] = '\0';
    assert_int_equal(ask_cookie(guard, text), ADMIN_PASS_MISSING);

    /* The browser knows the port of its end of a tunnel, and two tunnels keep their cookies apart. */
    assert_int_equal(sign_in_at(guard, "localhost", "{\"token\":\"" TOKEN "\"}", other), 204);
    assert_int_equal(strncmp(other, "authkitd_80=", 12), 0);
    assert_int_equal(ask_cookie(guard, other), ADMIN_PASS_MISSING);

    x = exchange_new("POST", "/sign-out");
    exchange_add(&x, "Host", "localhost:9090");
    exchange_add(&x, "Cookie", cookie);
    admin_guard_sign_out(guard, &x.request, &x.response);
    assert_int_equal(x.response.status, 204);
    assert_non_null(strstr(exchange_header(&x, "Set-Cookie"), "Max-Age=0"));
    exchange_release(&x);
    assert_int_equal(ask_cookie(guard, cookie), ADMIN_PASS_MISSING);
    admin_guard_free(guard);
}

static void guard__no_cookie_is_good_that_was_not_given(void **state)
{
    static const char *const cookies[] = {
        "",
        ";",
        "=",
        "; ;",
        "authkitd_9090",
        "authkitd_9090=",
        "authkitd_9090=" TOKEN,
        "authkitd_9090=0000000000000000000000000000000000000000000000000000000000000000",
        "authkitd_9090=FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
        "authkitd_9090=zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    };
    struct admin_guard *guard = guard_at("127.0.0.1:9090", TOKEN);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cookies); i++)
        assert_int_equal(ask_cookie(guard, cookies[i]), ADMIN_PASS_MISSING);
    admin_guard_free(guard);
}

static void guard__sign_in_with_anything_else(void **state)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", TOKEN);
    struct admin_guard *open = guard_at("127.0.0.1:9090", NULL);
    char cookie[256];

    (void)state;
    assert_int_equal(sign_in(guard, "", cookie), 400);
    assert_int_equal(sign_in(guard, "[]", cookie), 400);
    assert_int_equal(sign_in(guard, "{\"token\":7}", cookie), 400);
    assert_int_equal(sign_in(guard, "{\"token\":\"\"}", cookie), 401);
    assert_int_equal(sign_in(guard, "{\"token\":\"wrong\"}", cookie), 401);
    assert_string_equal(cookie, "");
    for (int i = 2; i < ADMIN_GUARD_TRIES; i++)
        assert_int_equal(sign_in(guard, "{\"token\":\"wrong\"}", cookie), 401);
    assert_int_equal(sign_in(guard, "{\"token\":\"" TOKEN "\"}", cookie), 429);
    assert_int_equal(sign_in(open, "{\"token\":\"" TOKEN "\"}", cookie), 404);
    admin_guard_free(guard);
    admin_guard_free(open);
}

static void guard__sessions_end(void **state)
{
    const struct admin_guard_opts opts = {
        .address = "127.0.0.1:9090", .token = TOKEN, .session_ms = 100};
    struct admin_guard *guard = new_guard(&opts);
    char cookie[256];

    (void)state;
    assert_int_equal(sign_in(guard, "{\"token\":\"" TOKEN "\"}", cookie), 204);
    assert_int_equal(ask_cookie(guard, cookie), ADMIN_PASS_GOOD);
    usleep(150000);
    assert_int_equal(ask_cookie(guard, cookie), ADMIN_PASS_MISSING);
    admin_guard_free(guard);
}

static void guard__one_session_too_many_ends_the_oldest(void **state)
{
    struct admin_guard *guard = guard_at("127.0.0.1:9090", TOKEN);
    char cookies[ADMIN_GUARD_SESSIONS + 1][256];

    (void)state;
    for (size_t i = 0; i <= ADMIN_GUARD_SESSIONS; i++) {
        assert_int_equal(sign_in(guard, "{\"token\":\"" TOKEN "\"}", cookies[i]), 204);
        if (i == 0)
            usleep(2000); /* they end in order */
    }
    assert_int_equal(ask_cookie(guard, cookies[0]), ADMIN_PASS_MISSING);
    for (size_t i = 1; i <= ADMIN_GUARD_SESSIONS; i++)
        assert_int_equal(ask_cookie(guard, cookies[i]), ADMIN_PASS_GOOD);
    admin_guard_free(guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard__hosts),
        cmocka_unit_test(guard__its_own_address_is_a_host),
        cmocka_unit_test(guard__origins),
        cmocka_unit_test(guard__what_the_browser_says_of_the_page),
        cmocka_unit_test(guard__without_a_token_everybody_may),
        cmocka_unit_test(guard__the_token_in_a_header),
        cmocka_unit_test(guard__who_is_wrong_too_often_waits),
        cmocka_unit_test(guard__many_addresses_are_no_trouble),
        cmocka_unit_test(guard__a_cookie_for_the_token),
        cmocka_unit_test(guard__no_cookie_is_good_that_was_not_given),
        cmocka_unit_test(guard__sign_in_with_anything_else),
        cmocka_unit_test(guard__sessions_end),
        cmocka_unit_test(guard__one_session_too_many_ends_the_oldest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
