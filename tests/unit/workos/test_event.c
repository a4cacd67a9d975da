/* SPDX-License-Identifier: MIT */
#include "workos/event.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void is_text(struct event_text text, const char *wanted)
{
    assert_non_null(text.at);
    assert_int_equal(text.len, strlen(wanted));
    assert_memory_equal(text.at, wanted, text.len);
}

static void event__envelope(void **state)
{
    static const char body[] =
        "{\"id\":\"event_01\",\"data\":{\"object\":\"user\",\"id\":\"user_01\"},"
        "\"event\":\"user.created\",\"context\":{\"client_id\":\"c\"},\"new\":[1],"
        "\"created_at\":\"2026-01-12T20:17:47.677Z\"}";
    struct event event;
    struct err err;

    (void)state;
    assert_int_equal(event_read(&event, body, strlen(body), &err), 0);
    assert_string_equal(event.id, "event_01");
    assert_string_equal(event.type, "user.created");
    is_text(event.object_id, "user_01");
    is_text(event.user_id, "user_01");
    is_text(event.created_at, "2026-01-12T20:17:47.677Z");
    assert_true(event.created_us == 1768249067677000);
    event_release(&event);
    event_release(&event);
}

static void event__only_id_event_and_data_must_be_there(void **state)
{
    static const char *const bodies[] = {
        "{\"id\":\"e\",\"event\":\"x\",\"data\":{}}",
        "{\"id\":\"e\",\"event\":\"x\",\"data\":{\"id\":5},\"created_at\":null,\"context\":null}",
        "{\"id\":\"e\",\"event\":\"x\",\"data\":{\"id\":null},\"created_at\":\"soon\"}",
    };
    struct event event;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        assert_int_equal(event_read(&event, bodies[i], strlen(bodies[i]), &err), 0);
        assert_null(event.object_id.at);
        assert_true(event.created_us == 0);
        event_release(&event);
    }
}

static void event__user_is_whom_it_is_about(void **state)
{
    static const char body[] = "{\"id\":\"e\",\"event\":\"session.created\","
                               "\"data\":{\"id\":\"session_1\",\"user_id\":\"user_1\"}}";
    struct event event;

    (void)state;
    assert_int_equal(event_read(&event, body, strlen(body), NULL), 0);
    is_text(event.object_id, "session_1");
    is_text(event.user_id, "user_1");
    event_release(&event);
}

static void event__errors_name_the_member(void **state)
{
    static const struct {
        const char *body, *wanted;
    } cases[] = {
        {"", "not valid JSON"},
        {"[]", "the body isn't a JSON object"},
        {"\"x\"", "the body isn't a JSON object"},
        {"{}", "\"id\" is missing"},
        {"{\"id\":5}", "\"id\" is not a string"},
        {"{\"id\":\"\"}", "\"id\" is empty"},
        {"{\"id\":\"a b\"}", "\"id\" has an odd character"},
        {"{\"id\":\"a\\u0000\"}", "\"id\" has an odd character"},
        {"{\"id\":\"a\\n\"}", "\"id\" has an odd character"},
        {"{\"id\":\"\u00e9\"}", "\"id\" has an odd character"},
        {"{\"id\":\"a\\u007f\"}", "\"id\" has an odd character"},
        {"{\"id\":\"a\"}", "\"event\" is missing"},
        {"{\"id\":\"a\",\"event\":null}", "\"event\" is not a string"},
        {"{\"id\":\"a\",\"event\":\"b\"}", "\"data\" is missing"},
        {"{\"id\":\"a\",\"event\":\"b\",\"data\":[]}", "\"data\" is not an object"},
        {"{\"id\":\"a\",\"event\":\"b\",\"data\":{},\"data\":null}", "\"data\" is not an object"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct event event;
        struct err err;

        assert_int_equal(event_read(&event, cases[i].body, strlen(cases[i].body), &err),
                         ERR_INVALID);
        if (!strstr(err.text, cases[i].wanted))
            fail_msg("no %s in %s", cases[i].wanted, err.text);
    }
}

static void event__names_have_a_limit(void **state)
{
    char body[1024];
    struct event event;

    (void)state;
    snprintf(body, sizeof(body), "{\"id\":\"%0255d\",\"event\":\"x\",\"data\":{}}", 0);
    assert_int_equal(event_read(&event, body, strlen(body), NULL), 0);
    assert_int_equal(strlen(event.id), EVENT_NAME_MAX);
    event_release(&event);
    snprintf(body, sizeof(body), "{\"id\":\"%0256d\",\"event\":\"x\",\"data\":{}}", 0);
    assert_int_equal(event_read(&event, body, strlen(body), NULL), ERR_INVALID);
}

static void event__strings_are_decoded(void **state)
{
    static const char body[] = "{\"\\u0069d\":\"\\u0065vent_1\",\"event\":\"user\\u002ecreated\","
                               "\"data\":{\"id\":\"\\u00e9\\u0000x\\ud800\"},"
                               "\"created_at\":\"1970-01-01\\u002000:00:01\"}";
    struct event event;

    (void)state;
    assert_int_equal(event_read(&event, body, strlen(body), NULL), 0);
    assert_string_equal(event.id, "event_1");
    assert_string_equal(event.type, "user.created");
    is_text(event.object_id, "\u00e9\uFFFDx\uFFFD");
    assert_true(event.created_us == 1000000);
    event_release(&event);
}

/* The texts must fit however much of the body is escapes, and however often they are asked for. */
static void event__strings_can_be_asked_for_again_and_again(void **state)
{
    static const char body[] =
        "{\"id\":\"e\",\"event\":\"x\",\"data\":{\"a\":\"\\u0000\\u0000\\u0000\\u0000\\u0000"
        "\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\"}}";
    struct event event;
    uint32_t node;

    (void)state;
    assert_int_equal(event_read(&event, body, strlen(body), NULL), 0);
    node = json_member(&event.json, event.data, "a");
    for (int i = 0; i < 100; i++) {
        struct event_text text = event_string(&event, node);

        assert_non_null(text.at);
        assert_int_equal(text.len, 16 * strlen(TEXT_REPLACEMENT));
    }
    event_release(&event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(event__envelope),
        cmocka_unit_test(event__only_id_event_and_data_must_be_there),
        cmocka_unit_test(event__user_is_whom_it_is_about),
        cmocka_unit_test(event__errors_name_the_member),
        cmocka_unit_test(event__names_have_a_limit),
        cmocka_unit_test(event__strings_are_decoded),
        cmocka_unit_test(event__strings_can_be_asked_for_again_and_again),
    };

    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
