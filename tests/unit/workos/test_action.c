/* SPDX-License-Identifier: MIT */
#include "workos/action.h"

#include "base/json.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RESPONSE_MAX = 65536 };

/* The answer to a denial with this message, or to what else is asked for. */
static const char *respond(bool allow, const char *message, size_t len)
{
    static char text[RESPONSE_MAX];
    struct script_verdict verdict = {.allow = allow, .has_message = message != NULL};
    struct buf response = BUF_INIT(RESPONSE_MAX - 1);
    struct signing_keys *keys = NULL;
    struct err err = {0};

    verdict.message = BUF_INIT(RESPONSE_MAX);
    if (message)
        buf_put(&verdict.message, message, len);
    assert_int_equal(signing_keys_new(&keys, "secret", &err), 0);
    if (action_write_response(keys, 0, "authentication", &verdict, 1768249067677, &response, &err) <
        0)
        fail_msg("%s", err.text);
    snprintf(text, sizeof(text), "%s", buf_text(&response));
    assert_int_equal(strlen(text), response.len);
    buf_release(&response);
    buf_release(&verdict.message);
    signing_keys_free(keys);
    return text;
}

static const char *payload_of(const char *response)
{
    static char payload[RESPONSE_MAX];
    struct json json = {0};
    struct err err = {0};
    const char *raw;
    size_t len;

    if (json_read(&json, response, strlen(response), &err) < 0)
        fail_msg("%s", err.text);
    raw = json_raw(&json, json_member(&json, 0, "payload"), &len);
    snprintf(payload, sizeof(payload), "%.*s", (int)len, raw);
    json_release(&json);
    return payload;
}

static const char *payload_of_denial(const char *message, size_t len)
{
    return payload_of(respond(false, message, len));
}

static void action__form_and_order_of_the_response(void **state)
{
    char wanted[1024], hex[65];
    struct signing_keys *keys = NULL;
    const char *payload =
        "{\"timestamp\":1768249067677,\"verdict\":\"Deny\",\"error_message\":\"no\"}";
    struct err err;

    (void)state;
    assert_int_equal(signing_keys_new(&keys, "secret", &err), 0);
    assert_int_equal(signature_make(keys, 0, 1768249067677, payload, strlen(payload), hex, &err),
                     0);
    snprintf(wanted, sizeof(wanted),
             "{\"object\":\"authentication_action_response\",\"payload\":%s,\"signature\":\"%s\"}",
             payload, hex);
    assert_string_equal(respond(false, "no", 2), wanted);
    signing_keys_free(keys);
}

static void action__message_only_with_a_denial_that_has_one(void **state)
{
    (void)state;
    assert_string_equal(payload_of(respond(true, NULL, 0)),
                        "{\"timestamp\":1768249067677,\"verdict\":\"Allow\"}");
    assert_string_equal(payload_of(respond(true, "ignored", 7)),
                        "{\"timestamp\":1768249067677,\"verdict\":\"Allow\"}");
    assert_string_equal(payload_of(respond(false, NULL, 0)),
                        "{\"timestamp\":1768249067677,\"verdict\":\"Deny\"}");
    assert_string_equal(
        payload_of(respond(false, "", 0)),
        "{\"timestamp\":1768249067677,\"verdict\":\"Deny\",\"error_message\":\"\"}");
}

#define DENIAL(message) \
    "{\"timestamp\":1768249067677,\"verdict\":\"Deny\",\"error_message\":\"" message "\"}"

/* The bytes are what JSON.parse and JSON.stringify give back (WORKOS.md section 4). */
static void action__payload_is_a_fixed_point(void **state)
{
    (void)state;
    assert_string_equal(payload_of_denial("a/b", 3), DENIAL("a/b"));
    assert_string_equal(payload_of_denial("\"\\", 2), DENIAL("\\\"\\\\"));
    assert_string_equal(payload_of_denial("\b\t\n\f\r", 5), DENIAL("\\b\\t\\n\\f\\r"));
    assert_string_equal(payload_of_denial("\x1f\x0b\0", 3), DENIAL("\\u001f\\u000b\\u0000"));
    assert_string_equal(payload_of_denial("\x7f\u00e9\u2028\U0001F600", 10),
                        DENIAL("\x7f\u00e9\u2028\U0001F600"));
    assert_string_equal(payload_of_denial("a\xff"
                                          "b\xc3",
                                          4),
                        DENIAL("a\uFFFD"
                               "b\uFFFD"));
}

/* UTF-16 units of the message in a denial's payload. */
static size_t units_of_message(const char *message, size_t len)
{
    struct json json = {0};
    const char *payload = payload_of_denial(message, len);
    char *decoded = malloc(RESPONSE_MAX);
    size_t size, units = 0;

    assert_int_equal(json_read(&json, payload, strlen(payload), NULL), 0);
    size = json_decode(&json, json_member(&json, 0, "error_message"), decoded);
    assert_true(text_is_utf8(decoded, size));
    for (size_t at = 0; at < size;) {
        size_t n = text_utf8_size(decoded + at, size - at);

        units += n == 4 ? 2 : 1;
        at += n;
    }
    json_release(&json);
    free(decoded);
    return units;
}

static void fill(char *out, size_t count, const char *character)
{
    size_t len = strlen(character);

    for (size_t i = 0; i < count; i++)
        memcpy(out + i * len, character, len);
}

static void action__message_is_cut_on_a_character_boundary(void **state)
{
    static char message[8000];

    (void)state;
    fill(message, 500, "x");
    assert_int_equal(units_of_message(message, 500), 500);
    fill(message, 501, "x");
    assert_int_equal(units_of_message(message, 501), 500);
    fill(message, 600, "\u00e9");
    assert_int_equal(units_of_message(message, 1200), 500);
    fill(message, 600, "\u20ac");
    assert_int_equal(units_of_message(message, 1800), 500);
    fill(message, 600, "\U0001F600");
    assert_int_equal(units_of_message(message, 2400), 500);
    message[0] = 'x'; /* the pair at 500 would be cut in two */
    fill(message + 1, 600, "\U0001F600");
    assert_int_equal(units_of_message(message, 2401), 499);
    fill(message, 600, "\xff");
    assert_int_equal(units_of_message(message, 600), 500);
    fill(message, 600, "\x01");
    assert_int_equal(units_of_message(message, 600), 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(action__form_and_order_of_the_response),
        cmocka_unit_test(action__message_only_with_a_denial_that_has_one),
        cmocka_unit_test(action__payload_is_a_fixed_point),
        cmocka_unit_test(action__message_is_cut_on_a_character_boundary),
    };

    return cmocka_run_group_tests_name("action", tests, NULL, NULL);
}
