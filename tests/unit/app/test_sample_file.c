/* SPDX-License-Identifier: MIT */
#include "app/sample_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int write_file(struct buf *out, const struct sample_opts *opts, const char *text,
                      struct err *err)
{
    const struct sample_file file = {.path = "f.json", .text = text, .len = strlen(text)};

    *out = BUF_INIT(65536);
    return sample_file_write(opts, &file, out, err);
}

static void expect(const struct sample_opts *opts, const char *text, const char *wanted)
{
    struct err err = {0};
    struct buf out;

    if (write_file(&out, opts, text, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(buf_text(&out), wanted);
    buf_release(&out);
}

static void expect_refusal(const struct sample_opts *opts, const char *text, int code,
                           const char *part)
{
    struct err err = {0};
    struct buf out;

    assert_int_equal(write_file(&out, opts, text, &err), code);
    if (!strstr(err.text, part))
        fail_msg("'%s' doesn't say '%s'", err.text, part);
    assert_int_equal(out.len, 0);
    buf_release(&out);
}

/* Symptom: --id and --object-id were left out without a word. */
static void sample_file__given_ids_take_the_place_of_those_in_an_event(void **state)
{
    const struct sample_opts both = {.type = "a.b", .event_id = "event_\"1", .object_id = "user_1"};
    const struct sample_opts event = {.type = "a.b", .event_id = "event_1"};

    (void)state;
    expect(&both, "{ \"data\": {\"x\":[1], \"id\": 7 },\"event\":\"a.b\",\n\"id\" : null}\n",
           "{ \"data\": {\"x\":[1], \"id\": \"user_1\" },\"event\":\"a.b\",\n\"id\" : "
           "\"event_\\\"1\"}\n");
    expect(&both, "{\"event\":\"a.b\",\"data\":{ }}",
           "{\"id\":\"event_\\\"1\",\"event\":\"a.b\",\"data\":{\"id\":\"user_1\" }}");
    /* of a repeated member the last one counts */
    expect(&event, "{\"id\":1,\"event\":\"a.b\",\"data\":{},\"id\":2}",
           "{\"id\":1,\"event\":\"a.b\",\"data\":{},\"id\":\"event_1\"}");
}

static void sample_file__given_ids_of_data_and_of_actions(void **state)
{
    const struct sample_opts data = {
        .type = "user.created", .event_id = "event_1", .object_id = "user_1"};
    const struct sample_opts action = {.type = "authentication", .object_id = "act_1"};
    struct err err = {0};
    struct buf out;

    (void)state;
    assert_int_equal(write_file(&out, &data, "{\"email\":\"a\"}", &err), 0);
    assert_non_null(strstr(buf_text(&out), "{\"id\":\"event_1\",\"data\":{\"id\":\"user_1\","
                                           "\"email\":\"a\"},\"event\":\"user.created\""));
    buf_release(&out);
    expect(&action, "{\"object\":\"authentication_action_context\",\"id\":\"x\"}",
           "{\"object\":\"authentication_action_context\",\"id\":\"act_1\"}");
    expect_refusal(&data, "[1]", ERR_INVALID, "no place for an id");
    expect_refusal(&data, "{\"event\":\"user.created\",\"data\":[]}", ERR_INVALID,
                   "no place for an id");
}

static void sample_file__without_ids_every_byte_stays(void **state)
{
    static const char *const events[] = {
        " {\"event\":\"user.created\",\"data\":{ \"id\" : 1 }}\n",
        "{\"event\":7,\"data\":null}", /* the server's to refuse */
    };
    const struct sample_opts event = {.type = "user.created"};
    const struct sample_opts action = {.type = "authentication"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        expect(&event, events[i], events[i]);
    expect(&action, "{ \"object\":\"authentication_action_context\" }",
           "{ \"object\":\"authentication_action_context\" }");
    expect(&action, "{ }", "{ }");
}

/* Symptom: the file's event or action was sent, whatever type was asked for; an action's file to the webhook
 * endpoint, and the other way round. */
static void sample_file__another_type_is_refused_and_both_are_named(void **state)
{
    static const struct {
        const char *asked, *text, *found;
    } cases[] = {
        {"user.created", "{\"event\":\"user.updated\",\"data\":{}}", "type user.updated"},
        {"authentication", "{\"event\":\"user.updated\",\"data\":{}}", "type user.updated"},
        {"authentication", "{\"object\":\"user_registration_action_context\"}",
         "action user_registration"},
        {"user.created", "{\"object\":\"authentication_action_context\"}", "action authentication"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct sample_opts opts = {.type = cases[i].asked};

        expect_refusal(&opts, cases[i].text, ERR_CONFLICT, cases[i].found);
        expect_refusal(&opts, cases[i].text, ERR_CONFLICT, cases[i].asked);
    }
}

static void sample_file__what_is_no_json_is_refused(void **state)
{
    const struct sample_opts opts = {.type = "user.created"};

    (void)state;
    expect_refusal(&opts, "{", ERR_INVALID, "--data: 'f.json' is ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample_file__given_ids_take_the_place_of_those_in_an_event),
        cmocka_unit_test(sample_file__given_ids_of_data_and_of_actions),
        cmocka_unit_test(sample_file__without_ids_every_byte_stays),
        cmocka_unit_test(sample_file__another_type_is_refused_and_both_are_named),
        cmocka_unit_test(sample_file__what_is_no_json_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
