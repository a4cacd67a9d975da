/* SPDX-License-Identifier: MIT */
#include "app/advice.h"

#include "app/event_types.h"
#include "app/sample.h"
#include "unit/store/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void give_file(struct config *config, const char *path)
{
    static const char *paths[1];

    paths[0] = path;
    config->env_files = paths;
    config->env_file_count = 1;
}

static void says(struct buf *text, const char *wanted)
{
    if (!strstr(buf_text(text), wanted))
        fail_msg("no \"%s\" in \"%s\"", wanted, buf_text(text));
    buf_release(text);
}

static void advice__without_secrets_the_way_to_them_is_shown(void **state)
{
    struct buf text = BUF_INIT(8192);
    struct config config = {0};
    FILE *file;

    (void)state;
    advice_put_no_secrets(&text, &config, "serve");
    says(&text, "authkitd init writes authkitd.env");

    file = fopen(ADVICE_ENV_FILE, "we");
    assert_non_null(file);
    fclose(file);
    advice_put_no_secrets(&text, &config, "serve");
    says(&text, "authkitd serve --env-file authkitd.env");

    give_file(&config, "prod.env");
    advice_put_no_secrets(&text, &config, "check");
    says(&text, "in prod.env, then call authkitd check again");

    give_file(&config, "/run/credentials/authkitd.service/env");
    advice_put_no_secrets(&text, &config, "serve");
    says(&text, "systemctl restart authkitd");
}

static void advice__names_that_look_misspelt(void **state)
{
    struct buf text = BUF_INIT(8192);
    struct config config = {0};

    (void)state;
    advice_put_event_names(&text, "user.created user.delted vault.dek.read x.y", &config);
    assert_string_equal(
        buf_text(&text),
        "user.delted is no event type that is known here: did you mean user.deleted?\n"
        "vault.dek.read comes from WorkOS's Events API alone, which isn't read: it needs "
        "WORKOS_API_KEY, and no --poll off\n"
        "x.y is no event type that is known here: if WorkOS has it, never mind; else its function "
        "never runs\n");
    buf_reset(&text);
    config.poll_s = 60;
    advice_put_event_names(&text, "vault.dek.read", &config);
    advice_put_event_names(&text, "", &config);
    assert_int_equal(text.len, 0);
    buf_release(&text);
}

static void advice__the_next_commands_can_be_copied(void **state)
{
    struct buf text = BUF_INIT(8192);
    struct config config = {.webhook_secret = (char *)"x", .api_key = (char *)"y"};

    (void)state;
    advice_put_next(&text, &config);
    assert_non_null(strstr(buf_text(&text), "authkitd serve  "));
    says(&text, "authkitd setup https://your-host  ");
    give_file(&config, "Ada's.env");
    advice_put_next(&text, &config);
    assert_non_null(strstr(buf_text(&text), "send user.created --env-file 'Ada'\\''s.env'"));
    says(&text, " --write 'Ada'\\''s.env'");
    config.webhook_secret = NULL;
    advice_put_next(&text, &config);
    says(&text, "send user_registration ");
    give_file(&config, "/etc/authkitd/authkitd.env");
    advice_put_next(&text, &config);
    assert_non_null(strstr(buf_text(&text), "systemctl restart authkitd "));
    assert_null(strstr(buf_text(&text), "authkitd serve"));
    says(&text, "send user_registration ");
}

static void event_types__are_sorted_and_closest_is_found(void **state)
{
    (void)state;
    assert_int_equal(event_type_count, 111);
    for (size_t i = 1; i < event_type_count; i++)
        assert_true(strcmp(event_types[i - 1], event_types[i]) < 0);
    assert_true(event_type_is_known("user.created"));
    assert_false(event_type_is_known("user.create"));
    assert_false(event_type_is_known(""));
    assert_string_equal(event_type_closest("users.created"), "user.created");
    assert_null(event_type_closest("something.else"));
    assert_true(event_type_is_polled_only("vault.kek.created"));
    assert_false(event_type_is_polled_only("user.created"));
}

/* Every type of the list can be sent, and has more to it than the small object of the others. */
static void sample__the_list_tells_what_has_a_sample(void **state)
{
    struct buf text = BUF_INIT(65536);
    size_t types = 0;

    (void)state;
    sample_put_list(&text);
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        struct sample_opts opts = {.type = line + 2};
        struct buf body = BUF_INIT(65536);
        struct err err;

        if (line[0] != ' ')
            continue;
        line[2 + strcspn(line + 2, " ")] = '\0';
        types++;
        if (!sample_is_action(opts.type) && !event_type_is_known(opts.type))
            fail_msg("%s isn't known", opts.type);
        if (sample_write(&opts, &body, &err) < 0)
            fail_msg("%s: %s", opts.type, err.text);
        if (!strstr(buf_text(&body), "\"object\":"))
            fail_msg("%s has no sample of its own", opts.type);
        buf_release(&body);
    }
    assert_int_equal(types, 17);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(advice__without_secrets_the_way_to_them_is_shown,
                                        enter_temp_dir, leave_temp_dir),
        cmocka_unit_test(advice__names_that_look_misspelt),
        cmocka_unit_test(advice__the_next_commands_can_be_copied),
        cmocka_unit_test(event_types__are_sorted_and_closest_is_found),
        cmocka_unit_test(sample__the_list_tells_what_has_a_sample),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
