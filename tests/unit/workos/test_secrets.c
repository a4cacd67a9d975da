/* SPDX-License-Identifier: MIT */
#include "workos/secrets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What is kept of an event of this type with these data; NULL when it is as it came. */
static const char *kept(const char *type, const char *data)
{
    static char text[4096];
    char body[4096];
    struct buf out = BUF_INIT(sizeof(text));
    struct event event;
    struct err err = {0};
    bool found = false;

    snprintf(body, sizeof(body),
             " {\"id\":\"e1\",\"event\":\"%s\", \"data\":%s ,\"token\":\"out\"} ", type, data);
    if (event_read(&event, body, strlen(body), &err) < 0 ||
        secrets_remove(&event, &out, &found, &err) < 0)
        fail_msg("%s: %s", body, err.text);
    event_release(&event);
    if (found) {
        const char *start = strstr(buf_text(&out), "\"data\":");
        const char *end = strstr(buf_text(&out), " ,\"token\":\"out\"} ");

        assert_int_equal(strlen(buf_text(&out)), out.len);
        assert_non_null(start);
        assert_non_null(end); /* what isn't in data is nobody's business */
        start += strlen("\"data\":");
        snprintf(text, sizeof(text), "%.*s", (int)(end - start), start);
    } else {
        assert_int_equal(out.len, 0);
    }
    buf_release(&out);
    return found ? text : NULL;
}

/* What an update changed, as it was before: in front of data or behind it. */
static void secrets__of_before_an_update_are_null(void **state)
{
    static const char *const bodies[][2] = {
        {"{\"context\":{\"x\":{\"token\":\"kept\"},\"previous_attributes\":{\"token\":\"OLD\","
         "\"a\":1}},"
         "\"id\":\"e\",\"event\":\"invitation.resent\",\"data\":{\"token\":\"NEW\"}}",
         "{\"context\":{\"x\":{\"token\":\"kept\"},\"previous_attributes\":{\"token\":null,\"a\":1}"
         "},"
         "\"id\":\"e\",\"event\":\"invitation.resent\",\"data\":{\"token\":null}}"},
        {"{\"id\":\"e\",\"event\":\"organization.updated\",\"data\":{\"id\":\"o\"},\"context\":"
         "{\"previous_attributes\":{\"domains\":[{\"verification_token\":\"OLD\"}]}}}",
         "{\"id\":\"e\",\"event\":\"organization.updated\",\"data\":{\"id\":\"o\"},\"context\":"
         "{\"previous_attributes\":{\"domains\":[{\"verification_token\":null}]}}}"},
        {"{\"id\":\"e\",\"event\":\"organization.updated\",\"data\":{\"name\":\"o\"},\"context\":"
         "{\"actor\":{\"id\":\"user_1\",\"name\":\"Ada\"},\"name\":\"kept\"}}",
         "{\"id\":\"e\",\"event\":\"organization.updated\",\"data\":{\"name\":\"o\"},\"context\":"
         "{\"actor\":{\"id\":\"user_1\",\"name\":null},\"name\":\"kept\"}}"},
        {"{\"id\":\"e\",\"event\":\"organization.updated\",\"data\":{},\"context\":"
         "{\"actor\":{\"id\":\"user_1\",\"name\":null}}}",
         NULL},
        {"{\"id\":\"e\",\"event\":\"invitation.resent\",\"data\":{},\"context\":{\"previous_"
         "attributes\":7}}",
         NULL},
        {"{\"id\":\"e\",\"event\":\"invitation.resent\",\"data\":{},\"context\":[]}", NULL},
        {"{\"id\":\"e\",\"event\":\"organization_domain.verification_failed\",\"data\":{\"reason\":"
         "\"r\","
         "\"organization_domain\":{\"id\":\"d\",\"verification_token\":\"T\"}}}",
         "{\"id\":\"e\",\"event\":\"organization_domain.verification_failed\",\"data\":{\"reason\":"
         "\"r\","
         "\"organization_domain\":{\"id\":\"d\",\"verification_token\":null}}}"},
        {"{\"id\":\"e\",\"event\":\"flag.rule_updated\",\"data\":{\"email\":\"x\"},\"context\":"
         "{\"actor\":{\"email\":\"a\"},\"configured_targets\":{\"organizations\":[],\"users\":"
         "[{\"id\":\"u\",\"email\":\"A\"},7,{\"email\":\"B\"}]},\"previous_attributes\":"
         "{\"data\":1,\"context\":{\"configured_targets\":{\"users\":[{\"email\":\"C\"}]},"
         "\"previous_attributes\":{\"secret\":\"far\"}}}}}",
         "{\"id\":\"e\",\"event\":\"flag.rule_updated\",\"data\":{\"email\":\"x\"},\"context\":"
         "{\"actor\":{\"email\":\"a\"},\"configured_targets\":{\"organizations\":[],\"users\":"
         "[{\"id\":\"u\",\"email\":null},7,{\"email\":null}]},\"previous_attributes\":"
         "{\"data\":1,\"context\":{\"configured_targets\":{\"users\":[{\"email\":null}]},"
         "\"previous_attributes\":{\"secret\":\"far\"}}}}}"},
        {"{\"id\":\"e\",\"event\":\"user.updated\",\"data\":{},\"context\":{\"configured_targets\":"
         "{\"users\":[{\"email\":\"A\"}]}}}",
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct buf out = BUF_INIT(4096);
        struct event event = {0};
        struct err err = {0};
        bool found = false;

        if (event_read(&event, bodies[i][0], strlen(bodies[i][0]), &err) < 0 ||
            secrets_remove(&event, &out, &found, &err) < 0)
            fail_msg("%s: %s", bodies[i][0], err.text);
        assert_int_equal(found, bodies[i][1] != NULL);
        if (found)
            assert_string_equal(buf_text(&out), bodies[i][1]);
        event_release(&event);
        buf_release(&out);
    }
}

static void secrets__of_each_type_are_null(void **state)
{
    static const struct {
        const char *type, *data, *kept;
    } cases[] = {
        {"invitation.created",
         "{\"id\":\"i\",\"token\":\"T\",\"accept_invitation_url\":\"https://"
         "x?t=T\",\"state\":\"p\"}",
         "{\"id\":\"i\",\"token\":null,\"accept_invitation_url\":null,\"state\":\"p\"}"},
        {"magic_auth.created", "{\"code\":\"123456\"}", "{\"code\":null}"},
        {"email_verification.created", "{\"code\":\"1\"}", "{\"code\":null}"},
        {"password_reset.created", "{\"password_reset_token\":\"T\",\"password_reset_url\":\"U\"}",
         "{\"password_reset_token\":null,\"password_reset_url\":null}"},
        {"organization_domain.verified", "{\"verification_token\":\"T\"}",
         "{\"verification_token\":null}"},
        {"organization.updated",
         "{\"domains\":[{\"id\":1,\"verification_token\":\"A\"},null,7,[],{\"verification_token\":"
         "\"B\"},{}],\"verification_token\":\"not here\"}",
         "{\"domains\":[{\"id\":1,\"verification_token\":null},null,7,[],{\"verification_token\":"
         "null},{}],\"verification_token\":\"not here\"}"},
        {"organization.updated", "{\"domains\":{\"verification_token\":\"A\"}}",
         "{\"domains\":{\"verification_token\":null}}"},
        {"api_key.created", "{\"value\":\"sk_1\"}", "{\"value\":null}"},
        {"anything.at_all",
         "{\"secret\":1,\"client_secret\":2,\"access_token\":3,\"refresh_token\":4,\"password\":5}",
         "{\"secret\":null,\"client_secret\":null,\"access_token\":null,\"refresh_token\":null,"
         "\"password\":null}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *found = kept(cases[i].type, cases[i].data);

        assert_non_null(found);
        assert_string_equal(found, cases[i].kept);
    }
}

static void secrets__of_any_form_are_null(void **state)
{
    (void)state;
    assert_string_equal(kept("invitation.x", "{\"token\" :\n {\"a\":[1,\"T\"]} , \"b\":2}"),
                        "{\"token\" :\n null , \"b\":2}");
    assert_string_equal(kept("invitation.x", "{\"token\":0}"), "{\"token\":null}");
    assert_string_equal(kept("invitation.x", "{\"token\":\"\"}"), "{\"token\":null}");
    assert_string_equal(kept("invitation.x", "{\"token\":true,\"token\":[\"T\"],\"token\":{}}"),
                        "{\"token\":null,\"token\":null,\"token\":null}");
    assert_string_equal(kept("invitation.x", "{\"\\u0074oken\":\"T\",\"\\u0074\\u006fken\":\"U\"}"),
                        "{\"\\u0074oken\":null,\"\\u0074\\u006fken\":null}");
}

static void secrets__what_is_none_is_left_as_it_came(void **state)
{
    (void)state;
    assert_null(kept("user.created", "{\"id\":\"u\",\"token\":\"a name\",\"code\":1}"));
    assert_null(kept("invitation.created", "{\"token\":null,\"accept_invitation_url\":null}"));
    assert_null(kept("invitation.created", "{}"));
    assert_null(kept("invitation.created", "{\"more\":{\"token\":\"deeper\"},\"tokens\":\"x\"}"));
    assert_null(kept("invitations.created", "{\"token\":\"another type\"}"));
    assert_null(kept("organization.updated", "{\"domains\":\"none\"}"));
    assert_null(kept("organization.updated", "{\"domains\":[]}"));
}

/* The copy's ceiling is four times the body: a "0" that becomes "null" is the most it can grow. */
static void secrets__copy_is_never_longer_than_its_ceiling(void **state)
{
    char body[8192] = "{\"id\":\"e\",\"event\":\"invitation.x\",\"data\":{";
    struct buf out = {0};
    struct event event;
    struct err err = {0};
    bool found;

    (void)state;
    for (int i = 0; i < 400; i++)
        strcat(body, i ? ",\"token\":0" : "\"token\":0");
    strcat(body, "}}");
    out.max = strlen(body) * 4;
    assert_int_equal(event_read(&event, body, strlen(body), &err), 0);
    assert_int_equal(secrets_remove(&event, &out, &found, &err), 0);
    assert_true(found);
    assert_int_equal(out.len, strlen(body) + (size_t)400 * 3);
    event_release(&event);
    assert_int_equal(event_read(&event, buf_text(&out), out.len, &err), 0);
    event_release(&event);
    buf_release(&out);
}

static void secrets__no_room_for_the_copy_is_no_memory(void **state)
{
    const char *body = "{\"id\":\"e\",\"event\":\"invitation.x\",\"data\":{\"token\":\"T\"}}";
    struct buf out = BUF_INIT(8);
    struct event event;
    struct err err = {0};
    bool found;

    (void)state;
    assert_int_equal(event_read(&event, body, strlen(body), &err), 0);
    assert_int_equal(secrets_remove(&event, &out, &found, &err), ERR_NOMEM);
    event_release(&event);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets__of_each_type_are_null),
        cmocka_unit_test(secrets__of_before_an_update_are_null),
        cmocka_unit_test(secrets__of_any_form_are_null),
        cmocka_unit_test(secrets__what_is_none_is_left_as_it_came),
        cmocka_unit_test(secrets__copy_is_never_longer_than_its_ceiling),
        cmocka_unit_test(secrets__no_room_for_the_copy_is_no_memory),
    };

    return cmocka_run_group_tests_name("secrets", tests, NULL, NULL);
}
