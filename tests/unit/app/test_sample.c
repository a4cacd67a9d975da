/* SPDX-License-Identifier: MIT */
#include "app/sample.h"

#include "base/json.h"
#include "workos/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void write_sample(struct buf *out, const struct sample_opts *opts)
{
    struct err err = {0};

    *out = BUF_INIT(65536);
    if (sample_write(opts, out, &err) < 0)
        fail_msg("%s: %s", opts->type, err.text);
}

static void sample__every_type_is_a_valid_event(void **state)
{
    static const struct {
        const char *type, *id_prefix;
    } types[] = {
        {"user.created", "user_"},
        {"user.deleted", "user_"},
        {"session.created", "session_"},
        {"organization.updated", "org_"},
        {"organization_membership.created", "om_"},
        {"invitation.created", "invitation_"},
        {"dsync.group.user_added", "sample_"},
        {"x.y", "sample_"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const struct sample_opts opts = {.type = types[i].type};
        struct event event;
        struct err err = {0};
        struct buf out;

        write_sample(&out, &opts);
        if (event_read(&event, buf_text(&out), out.len, &err) < 0)
            fail_msg("%s: %s", types[i].type, err.text);
        assert_string_equal(event.type, types[i].type);
        assert_int_equal(strlen(event.id), strlen("event_") + 26);
        assert_memory_equal(event.object_id.at, types[i].id_prefix, strlen(types[i].id_prefix));
        assert_int_equal(event.object_id.len, strlen(types[i].id_prefix) + 26);
        assert_true(event.created_us > 1768249067677000);
        event_release(&event);
        buf_release(&out);
    }
}

static void sample__actions(void **state)
{
    static const char *const names[] = {"user_registration", "authentication"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct sample_opts opts = {.type = names[i]};
        struct json json = {0};
        char object[64];
        struct buf out;

        assert_true(sample_is_action(names[i]));
        write_sample(&out, &opts);
        assert_int_equal(json_read(&json, buf_text(&out), out.len, NULL), 0);
        snprintf(object, sizeof(object), "%s_action_context", names[i]);
        assert_true(json_equals(&json, json_member(&json, 0, "object"), object));
        json_release(&json);
        buf_release(&out);
    }
    assert_false(sample_is_action("user.created"));
}

static void sample__ids_and_data_can_be_given(void **state)
{
    const struct sample_opts opts = {
        .type = "user.created", .event_id = "event_1", .object_id = "user_1"};
    const struct sample_opts with_data = {
        .type = "user.created", .event_id = "event_1", .data = "{ \"id\": 7 }xx", .data_len = 11};
    struct buf out;

    (void)state;
    write_sample(&out, &opts);
    assert_non_null(strstr(buf_text(&out),
                           "{\"id\":\"event_1\",\"data\":{\"object\":\"user\",\"id\":\"user_1\""));
    assert_null(strstr(buf_text(&out), "$("));
    buf_release(&out);
    write_sample(&out, &with_data);
    assert_non_null(strstr(buf_text(&out), "\"data\":{ \"id\": 7 },\"event\":\"user.created\""));
    buf_release(&out);
}

/* Whatever id is asked for: what is sent must be JSON with that id in it. */
static void sample__odd_ids_are_written_whole(void **state)
{
    static char longest[301];
    static const char *const ids[] = {"a\"b", "a\\b", "a%sb", longest};

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        const struct sample_opts opts = {.type = "user.created", .object_id = ids[i]};
        struct json json = {0};
        struct buf out;

        write_sample(&out, &opts);
        if (json_read(&json, buf_text(&out), out.len, NULL) < 0)
            fail_msg("not JSON with the id %s", ids[i]);
        assert_true(
            json_equals(&json, json_member(&json, json_member(&json, 0, "data"), "id"), ids[i]));
        json_release(&json);
        buf_release(&out);
    }
}

static void sample__ids_are_new_each_time(void **state)
{
    const struct sample_opts opts = {.type = "user.created"};
    struct buf a, b;

    (void)state;
    write_sample(&a, &opts);
    write_sample(&b, &opts);
    assert_string_not_equal(buf_text(&a), buf_text(&b));
    buf_release(&a);
    buf_release(&b);
}

static void sample__other_words_are_refused(void **state)
{
    static const char *const types[] = {
        "", "user", ".", "user.", ".created", "User.created", "user.created\"", "login", "a b.c"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const struct sample_opts opts = {.type = types[i]};
        struct buf out = BUF_INIT(65536);
        struct err err;

        if (sample_write(&opts, &out, &err) != ERR_INVALID)
            fail_msg("%s", types[i]);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample__every_type_is_a_valid_event),
        cmocka_unit_test(sample__actions),
        cmocka_unit_test(sample__ids_and_data_can_be_given),
        cmocka_unit_test(sample__odd_ids_are_written_whole),
        cmocka_unit_test(sample__ids_are_new_each_time),
        cmocka_unit_test(sample__other_words_are_refused),
    };

    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
