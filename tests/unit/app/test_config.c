/* SPDX-License-Identifier: MIT */
#include "app/config.h"

#include "unit/store/temp_dir.h"
#include "workos/workos.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int enter(void **state)
{
    clearenv();
    setenv("HOME", "/", 1); /* clearenv leaves no list at all, which no program is started with */
    return enter_temp_dir(state);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter, leave_temp_dir)

/* The words of the command line, separated by spaces. */
static int read_words(struct config *config, int command, const char *words, struct err *err)
{
    static char text[8192];
    char *argv[64];
    int argc = 0;

    snprintf(text, sizeof(text), "%s", words);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    err->text[0] = '\0';
    return config_read(config, command, argc, argv, err);
}

static void reads(struct config *config, int command, const char *words)
{
    struct err err;

    if (read_words(config, command, words, &err) < 0)
        fail_msg("%s: %s", words, err.text);
}

static void refuses(int command, const char *words, const char *wanted)
{
    struct config config;
    struct err err;

    if (read_words(&config, command, words, &err) != ERR_INVALID)
        fail_msg("taken: %.200s", words);
    if (!strstr(err.text, wanted))
        fail_msg("no \"%s\" in \"%s\"", wanted, err.text);
    config_release(&config);
}

static void write_bytes(const char *name, const char *bytes, size_t len)
{
    FILE *file = fopen(name, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

static void write_file(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static void config__defaults(void **state)
{
    struct config c;

    (void)state;
    reads(&c, FOR_SERVE, "");
    assert_string_equal(c.handlers, "handlers.lua");
    assert_string_equal(c.db, "authkitd.db");
    assert_string_equal(c.listen, "127.0.0.1:8080");
    assert_string_equal(c.admin_listen, "127.0.0.1:9090");
    assert_false(c.admin_listen_given);
    assert_null(c.tls_cert);
    assert_string_equal(c.webhook_path, "/workos/webhook");
    assert_string_equal(c.action_path, "/workos/action");
    assert_int_equal(c.max_body, 1 << 20);
    assert_int_equal(c.handler_timeout_ms, 1000);
    assert_int_equal(c.action_timeout_ms, 500);
    assert_int_equal(c.handler_memory, 64 << 20);
    assert_int_equal(c.action_on_error, ACTION_ERROR_FAIL);
    assert_int_equal(c.log_level, LOG_LEVEL_INFO);
    assert_int_equal(c.log_format, LOG_FORMAT_TEXT);
    assert_null(c.webhook_secret);
    assert_false(c.help);
    assert_int_equal(c.warnings.len, 0);
    config_release(&c);
    config_release(&c);
}

static void config__forms_of_options(void **state)
{
    struct config c;

    (void)state;
    reads(&c, FOR_SERVE, "--db a.db --max-body=2KiB --log-level debug --action-on-error allow");
    assert_string_equal(c.db, "a.db");
    assert_int_equal(c.max_body, 2048);
    assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(c.action_on_error, ACTION_ERROR_ALLOW);
    config_release(&c);
    reads(&c, FOR_SERVE, "--db a.db --db=b=c.db");
    assert_string_equal(c.db, "b=c.db");
    config_release(&c);
    reads(&c, FOR_SERVE, "--admin-listen off");
    assert_string_equal(c.admin_listen, "off");
    assert_true(c.admin_listen_given);
    config_release(&c);
    reads(&c, FOR_SEND, "user.created --insecure --id e1 --data -");
    assert_string_equal(c.operands[0], "user.created");
    assert_string_equal(c.event_id, "e1");
    assert_string_equal(c.data, "-");
    assert_int_equal(c.insecure, 1);
    config_release(&c);
    reads(&c, FOR_SEND, "user.created --insecure=no");
    assert_int_equal(c.insecure, 0);
    config_release(&c);
    reads(&c, FOR_SERVE, "--nonsense --help");
    assert_true(c.help);
    config_release(&c);
}

static void config__command_line_before_environment_before_file(void **state)
{
    struct config c;

    (void)state;
    write_file("test.env", "AUTHKITD_DB=file.db\nAUTHKITD_HANDLERS=file.lua\nAUTHKITD_LISTEN=\n"
                           "AUTHKITD_WEBHOOK_PATH=/file\n");
    setenv("AUTHKITD_DB", "env.db", 1);
    setenv("AUTHKITD_HANDLERS", "env.lua", 1);
    setenv("AUTHKITD_ACTION_PATH", "", 1);
    reads(&c, FOR_SERVE, "--env-file test.env --db line.db");
    assert_string_equal(c.db, "line.db");
    assert_string_equal(c.handlers, "env.lua");
    assert_string_equal(c.webhook_path, "/file");
    assert_string_equal(c.listen, "127.0.0.1:8080"); /* empty means: not set */
    assert_string_equal(c.action_path, "/workos/action");
    config_release(&c);
}

static void config__sizes(void **state)
{
    static const struct {
        const char *words;
        int64_t bytes;
    } cases[] = {
        {"--max-body 1024", 1024},  {"--max-body 4k", 4096},           {"--max-body 4KB", 4096},
        {"--max-body 4KiB", 4096},  {"--max-body 1m", 1 << 20},        {"--max-body 1MiB", 1 << 20},
        {"--max-body 2000B", 2000}, {"--max-body 67108864", 64 << 20},
    };
    struct config c;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        reads(&c, FOR_SERVE, cases[i].words);
        assert_int_equal(c.max_body, cases[i].bytes);
        config_release(&c);
    }
    reads(&c, FOR_SERVE, "--handler-memory 4GiB");
    assert_true(c.handler_memory == (int64_t)4 << 30);
    config_release(&c);
}

static void config__wrong_values_name_the_option(void **state)
{
    static const struct {
        const char *words, *wanted;
    } cases[] = {
        {"--max-body 1023", "--max-body: '1023' won't do: it must be from 1024 to 67108864"},
        {"--max-body 65MiB", "from 1024 to 67108864"},
        {"--max-body -1", "a number of bytes, such as 1048576 or 1MiB"},
        {"--max-body 1.5MiB", "a number of bytes"},
        {"--max-body 99999999999999999999", "from 1024 to 67108864"},
        {"--max-body 99999999999999999999GiB", "from 1024 to 67108864"},
        {"--max-body 99999999999999999999x", "a number of bytes"},
        {"--retention 99999999999999999999", "from 7 to 36500"}, /* "a whole number" it is */
        {"--retention 8589934592", "from 7 to 36500"},
        {"--retention -8", "a whole number"},
        {"--poll 99999999999999999999", "from 1 to 86400, or off"},
        {"--max-body MiB", "a number of bytes"},
        {"--handler-timeout 0", "from 1 to 600000"},
        {"--handler-timeout 1s", "a whole number"},
        {"--log-level loud", "it must be one of debug, info, warn, error"},
        {"--listen 8080", "an address with a port"},
        {"--listen :8080", "an address with a port"},
        {"--listen localhost:", "an address with a port"},
        {"--listen localhost:65536", "an address with a port"},
        {"--listen ::1:8080", "an address with a port"},
        {"--listen [::1]", "an address with a port"},
        {"--listen [::1]8080", "an address with a port"},
        {"--listen off", "an address with a port"},
        {"--listen *:8080", "an address with a port"},
        {"--listen 256.1.1.1:80", "an address with a port"},
        {"--listen example.com:80", "an address with a port"},
        {"--listen [fe80::1%lo]:80", "an address with a port"},
        {"--listen 127.0.0.1:9090", "--listen and --admin-listen are both 127.0.0.1:9090"},
        {"--webhook-path hook", "a path that begins with '/'"},
        {"--webhook-path /a?b", "a path of letters"},
        {"--webhook-path /%61", "a path of letters"},
        {"--db=", "--db: '' won't do: it must be not empty"},
        {"--db", "--db wants a value behind it"},
        {"--env-file", "--env-file wants a value behind it"},
        {"--env-file absent.env", "--env-file: cannot read 'absent.env'"},
        {"--lisen x:1", "unknown option --lisen (did you mean --listen?)"},
        {"--lisen=x:1", "unknown option --lisen (did you mean --listen?)"},
        {"--url http://x", "unknown option --url"},
        {"-x", "unknown option -x"},
        {"word", "'word' is one word too many"},
        {"--tls-cert a.pem", "--tls-cert is given without --tls-key: they go together"},
        {"--tls-key a.pem", "--tls-key is given without --tls-cert: they go together"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refuses(FOR_SERVE, cases[i].words, cases[i].wanted);
    refuses(FOR_SEND, "a.b c.d", "'c.d' is one word too many");
    refuses(FOR_BACKUP, "a.db b.db", "'b.db' is one word too many");
    refuses(FOR_MAINTAIN, "a.db", "'a.db' is one word too many");
    refuses(FOR_SEND, "a.b --insecure=perhaps", "--insecure: 'perhaps'");
    refuses(FOR_SERVE, "--webhook-path /x --action-path /x", "both '/x'");
    refuses(FOR_SERVE, "--action-path /healthz", "--action-path: '/healthz' is taken");
}

/* A server has an address; where it is, a command may know by a name. */
static void config__commands_take_names_for_listeners(void **state)
{
    struct config config;

    (void)state;
    reads(&config, FOR_RELOAD, "--admin-listen app.internal:9090");
    assert_string_equal(config.admin_listen, "app.internal:9090");
    config_release(&config);
    reads(&config, FOR_SEND, "user.created --listen app.internal:8080");
    config_release(&config);
}

static void config__all_problems_at_once(void **state)
{
    (void)state;
    setenv("AUTHKITD_MAX_BODY", "x", 1);
    write_file("test.env", "\nAUTHKITD_LOG_LEVEL=loud\n");
    refuses(FOR_SERVE, "--env-file test.env --nonsense --listen x", "unknown option --nonsense");
    refuses(FOR_SERVE, "--env-file test.env --nonsense --listen x", "AUTHKITD_MAX_BODY: 'x'");
    refuses(FOR_SERVE, "--env-file test.env --nonsense --listen x",
            "test.env:2: AUTHKITD_LOG_LEVEL: 'loud'");
    refuses(FOR_SERVE, "--env-file test.env --nonsense --listen x", "--listen: 'x'");
}

/* What is wrong only beside something else is told by the name under which it was said, too. */
static void config__who_said_it_is_named(void **state)
{
    static const struct {
        const char *variable, *value, *words, *wanted;
    } cases[] = {
        {"AUTHKITD_LISTEN", "256.1.1.1:80", "", "AUTHKITD_LISTEN: '256.1.1.1:80' won't do"},
        {"AUTHKITD_LISTEN", "127.0.0.1:9090", "",
         "AUTHKITD_LISTEN and --admin-listen are both 127.0.0.1:9090"},
        {"AUTHKITD_ADMIN_LISTEN", "0.0.0.0:90", "",
         "AUTHKITD_ADMIN_LISTEN: '0.0.0.0:90' may be reached"},
        {"AUTHKITD_TLS_KEY", "a.pem", "", "AUTHKITD_TLS_KEY is given without --tls-cert"},
        {"AUTHKITD_WEBHOOK_PATH", "/healthz", "", "AUTHKITD_WEBHOOK_PATH: '/healthz' is taken"},
        {"AUTHKITD_WEBHOOK_PATH", "/x", "--action-path /x",
         "AUTHKITD_WEBHOOK_PATH and --action-path are both '/x'"},
        {"AUTHKITD_ORDERED", "true", "",
         "AUTHKITD_ORDERED takes events from the Events API: it needs"},
        {"AUTHKITD_POLL", "off", "--ordered", "AUTHKITD_POLL can't be off"},
        {"AUTHKITD_WEBHOOK_PATH", "/healthz", "--webhook-path /healthz",
         "--webhook-path: '/healthz' is"},
        {"WORKOS_WEBHOOK_SECRET", " , ", "",
         "WORKOS_WEBHOOK_SECRET: this value won't do: it must be a secret, or several by commas"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        setenv(cases[i].variable, cases[i].value, 1);
        refuses(FOR_SERVE, cases[i].words, cases[i].wanted);
        unsetenv(cases[i].variable);
    }
    write_file("prod.env", "\nAUTHKITD_ACTION_PATH=/healthz\n");
    refuses(FOR_SERVE, "--env-file prod.env",
            "prod.env:2: AUTHKITD_ACTION_PATH: '/healthz' is taken");
}

/* However long the problems: they must not get lost, with the default in the place of the value. */
static void config__very_long_wrong_value_is_refused(void **state)
{
    char words[4096];

    (void)state;
    snprintf(words, sizeof(words), "--max-body %03000d", 0);
    refuses(FOR_SERVE, words, "--max-body");
    snprintf(words, sizeof(words), "--log-level %03000d", 0);
    refuses(FOR_SERVE, words, "--log-level");
}

static void config__secrets(void **state)
{
    struct config c;

    (void)state;
    setenv("WORKOS_WEBHOOK_SECRET", "one,two", 1);
    write_file("action.txt", " kept \n\r\n");
    setenv("WORKOS_ACTION_SECRET_FILE", "action.txt", 1);
    reads(&c, FOR_SERVE, "");
    assert_string_equal(c.webhook_secret, "one,two");
    assert_string_equal(c.action_secret, " kept");
    config_release(&c);
    setenv("WORKOS_WEBHOOK_SECRET", "", 1);
    reads(&c, FOR_SERVE, "");
    assert_null(c.webhook_secret);
    config_release(&c);
}

static void config__wrong_secret_files(void **state)
{
    static char longest[70001];

    (void)state;
    setenv("WORKOS_WEBHOOK_SECRET_FILE", "absent.txt", 1);
    refuses(FOR_SERVE, "", "WORKOS_WEBHOOK_SECRET_FILE: cannot read 'absent.txt'");
    setenv("WORKOS_WEBHOOK_SECRET_FILE", ".", 1);
    refuses(FOR_SERVE, "", "WORKOS_WEBHOOK_SECRET_FILE: cannot read '.'");
    write_file("empty.txt", "\n");
    setenv("WORKOS_WEBHOOK_SECRET_FILE", "empty.txt", 1);
    refuses(FOR_SERVE, "", "'empty.txt' is empty");
    memset(longest, 'x', sizeof(longest) - 1);
    write_file("long.txt", longest);
    setenv("WORKOS_WEBHOOK_SECRET_FILE", "long.txt", 1);
    refuses(FOR_SERVE, "", "'long.txt' is too large: 64 KiB at most");
    setenv("WORKOS_WEBHOOK_SECRET", "hidden", 1);
    refuses(FOR_SERVE, "", "WORKOS_WEBHOOK_SECRET and WORKOS_WEBHOOK_SECRET_FILE are both set");
}

/* Not cut at the NUL, where the rest would be taken for the secret. */
static void config__a_secret_file_is_one_line_of_text(void **state)
{
    static const char utf16[] = "w\0h\0s\0e\0c\0_\0x\0\n\0";
    static const char *const lines[] = {"whsec_hidden\nwhsec_y\n", "whsec_hidden\rwhsec_y",
                                        "\nwhsec_hidden"};
    struct config c;
    struct err err;

    (void)state;
    setenv("WORKOS_WEBHOOK_SECRET_FILE", "x.txt", 1);
    write_bytes("x.txt", utf16, sizeof(utf16) - 1);
    refuses(FOR_SERVE, "", "WORKOS_WEBHOOK_SECRET_FILE: 'x.txt' isn't text");
    refuses(FOR_SERVE, "", "UTF-16");
    write_bytes("x.txt", "whsec_x\0\n", 9);
    refuses(FOR_SERVE, "", "'x.txt' isn't text");
    write_bytes("x.txt", "whsec_x\0", 8);
    refuses(FOR_SERVE, "", "'x.txt' isn't text");
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        write_file("x.txt", lines[i]);
        assert_int_equal(read_words(&c, FOR_SERVE, "", &err), ERR_INVALID);
        assert_non_null(strstr(err.text, "WORKOS_WEBHOOK_SECRET_FILE: 'x.txt' has several lines: "
                                         "a secret is one line"));
        assert_null(strstr(err.text, "hidden"));
        config_release(&c);
    }
    write_file("x.txt", "whsec_x\r\n");
    reads(&c, FOR_SERVE, "");
    assert_string_equal(c.webhook_secret, "whsec_x");
    config_release(&c);
}

static void config__how_workos_is_called(void **state)
{
    struct config c;
    struct err err;

    (void)state;
    setenv("WORKOS_API_HOSTNAME", "https://api.workos.com", 1);
    refuses(
        FOR_CHECK, "",
        "WORKOS_API_HOSTNAME: 'https://api.workos.com' won't do: it must be a host name without "
        "https:// and without a path");
    setenv("WORKOS_API_HOSTNAME", "auth.example.com", 1);
    setenv("WORKOS_API_KEY", "sk_hidden\nX-Other: 1", 1);
    assert_int_equal(read_words(&c, FOR_CHECK, "", &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "WORKOS_API_KEY: this value won't do: it must be a key"));
    assert_null(strstr(err.text, "hidden"));
    config_release(&c);
    setenv("WORKOS_API_KEY", "", 1);
    write_file("key.txt", "sk_hid\tden\n");
    setenv("WORKOS_API_KEY_FILE", "key.txt", 1);
    refuses(FOR_CHECK, "", "WORKOS_API_KEY_FILE: this value won't do");
    write_file("key.txt", "sk_1\n");
    reads(&c, FOR_CHECK, "");
    assert_string_equal(c.api_hostname, "auth.example.com");
    assert_string_equal(c.api_key, "sk_1");
    config_release(&c);
}

static void config__lists(void **state)
{
    struct config c;

    (void)state;
    reads(&c, FOR_SERVE, "");
    assert_null(c.client_id);
    assert_null(c.jwks_url);
    assert_null(c.issuers);
    assert_null(c.audiences);
    assert_null(c.cors_origins);
    config_release(&c);
    reads(&c, FOR_SERVE,
          "--issuer https://a --cors-origin https://x --issuer=https://b/,https://c --audience y");
    assert_string_equal(c.issuers, "https://a,https://b/,https://c");
    assert_string_equal(c.audiences, "y");
    assert_string_equal(c.cors_origins, "https://x");
    config_release(&c);
    /* What is given replaces what the environment has. */
    setenv("AUTHKITD_ISSUERS", "https://a, https://b\t,, ", 1);
    setenv("AUTHKITD_AUDIENCES", "one two,three", 1);
    write_file("test.env", "AUTHKITD_CORS_ORIGINS=*,https://x\nAUTHKITD_ISSUERS=https://file\n"
                           "WORKOS_CLIENT_ID=client_1\n"
                           "AUTHKITD_JWKS_URL=file:///etc/keys.json\n");
    reads(&c, FOR_CHECK, "--env-file test.env");
    assert_string_equal(c.issuers, "https://a,https://b");
    assert_string_equal(c.audiences, "one two,three");
    assert_string_equal(c.cors_origins, "*,https://x");
    assert_string_equal(c.client_id, "client_1");
    assert_string_equal(c.jwks_url, "file:///etc/keys.json");
    config_release(&c);
    reads(&c, FOR_CHECK, "--issuer https://d --env-file test.env --issuer https://e");
    assert_string_equal(c.issuers, "https://d,https://e");
    config_release(&c);
    setenv("AUTHKITD_ISSUERS", "", 1); /* not set; nor is the file asked then */
    reads(&c, FOR_CHECK, "--env-file test.env");
    assert_null(c.issuers);
    config_release(&c);
}

static void config__wrong_lists(void **state)
{
    (void)state;
    refuses(FOR_SERVE, "--issuer=", "--issuer: '' won't do: it must be not empty");
    refuses(FOR_SERVE, "--issuer ,", "--issuer: ',' won't do: it must be not empty");
    refuses(FOR_SERVE, "--issuer https://a,b", "--issuer: 'b' won't do: it must be a URL");
    refuses(FOR_SERVE, "--issuer https://a --issuer b", "--issuer: 'b' won't do");
    refuses(FOR_SERVE, "--issuer", "--issuer wants a value behind it");
    refuses(FOR_SERVE, "--jwks-url keys.json", "begins with https://, http:// or file:");
    refuses(FOR_SERVE, "--jwks-url file:keys.json", "whole path");
    refuses(FOR_SEND, "user.created --issuer https://a", "unknown option --issuer");
    refuses(FOR_SERVE, "--issuers https://a", "did you mean --issuer?");
    refuses(FOR_SERVE, "--cors-origin https://a/,https://B",
            "'https://a/' won't do: it must be an "
            "origin without a path: leave out");
    refuses(FOR_SERVE, "--cors-origin https://a/,https://B",
            "'https://B' won't do: it must be an "
            "origin in lower case");
    setenv("AUTHKITD_AUDIENCES", "a\001b", 1);
    refuses(FOR_SERVE, "", "AUTHKITD_AUDIENCES: 'a\001b' won't do");
}

/* Both are in the same file: who takes one for the other shall not see it in a log. */
static void config__an_api_key_is_no_client_id(void **state)
{
    struct config c;
    struct err err;

    (void)state;
    setenv("WORKOS_CLIENT_ID", "sk_test_hidden", 1);
    assert_int_equal(read_words(&c, FOR_SERVE, "", &err), ERR_INVALID);
    assert_non_null(
        strstr(err.text, "WORKOS_CLIENT_ID: this value won't do: it must be the client id"));
    assert_null(strstr(err.text, "hidden"));
    config_release(&c);
    setenv("WORKOS_CLIENT_ID", "client 1", 1);
    refuses(FOR_SERVE, "", "WORKOS_CLIENT_ID: 'client 1' won't do");
    setenv("WORKOS_CLIENT_ID", "", 1);
    reads(&c, FOR_SERVE, "");
    assert_null(c.client_id);
    config_release(&c);
}

static void config__secret_is_never_shown(void **state)
{
    struct config c;
    struct err err;

    (void)state;
    setenv("WORKOS_WEBHOOK_SECRET", "hidden", 1);
    write_file("x.txt", "x");
    setenv("WORKOS_WEBHOOK_SECRET_FILE", "x.txt", 1);
    assert_int_equal(read_words(&c, FOR_SERVE, "--nonsense", &err), ERR_INVALID);
    assert_null(strstr(err.text, "hidden"));
    config_release(&c);
}

/* Symptom: of two env files the first was left out, with no word. */
static void config__several_env_files(void **state)
{
    struct config c;

    (void)state;
    write_file("one.env", "AUTHKITD_DB=one.db\nAUTHKITD_HANDLERS=one.lua\nWORKOS_API_KEY=sk_1\n");
    write_file("two.env", "\nAUTHKITD_DB=two.db\nAUTHKITD_RETENTION=x\n");
    write_file("three.env", "AUTHKITD_RETENTION=8\nWORKOS_API_KEY=\nnonsense\n");
    refuses(FOR_SERVE, "--env-file one.env --env-file two.env", "two.env:3: AUTHKITD_RETENTION: ");
    refuses(FOR_SERVE, "--env-file three.env --env-file one.env", "three.env:3: this isn't");
    refuses(FOR_SERVE, "--env-file absent.env --env-file one.env", "cannot read 'absent.env'");
    write_file("three.env", "AUTHKITD_RETENTION=8\nWORKOS_API_KEY=\n");
    reads(&c, FOR_SERVE, "--env-file one.env --env-file=two.env --env-file three.env");
    assert_string_equal(c.db, "two.db");
    assert_string_equal(c.handlers, "one.lua");
    assert_int_equal(c.retention_days, 8);
    assert_null(c.api_key);
    config_release(&c);
}

static void config__misspelt_variable_is_a_warning(void **state)
{
    struct config c;

    (void)state;
    setenv("AUTHKITD_LISTN", "x", 1);
    setenv("AUTHKITD", "x", 1);
    setenv("AUTHKITD_AUDIENCE", "x", 1);
    write_file("test.env", "AUTHKITD_ZZZZZZ=1\nOTHER=2\n");
    reads(&c, FOR_SERVE, "--env-file test.env");
    assert_string_equal(
        buf_text(&c.warnings),
        "AUTHKITD_LISTN isn't a variable of authkitd (did you mean "
        "AUTHKITD_LISTEN?)\nAUTHKITD_AUDIENCE isn't a variable of authkitd (did "
        "you mean AUTHKITD_AUDIENCES?)\ntest.env:1: AUTHKITD_ZZZZZZ isn't a variable of "
        "authkitd\n");
    config_release(&c);
}

static void warns(const char *text, const char *wanted)
{
    struct config c;

    write_file("test.env", text);
    reads(&c, FOR_SERVE, "--env-file test.env");
    assert_string_equal(buf_text(&c.warnings), wanted);
    config_release(&c);
}

/* Symptom: the server ran without the API key, or for ever kept what --retention should have emptied, and check
 * found nothing to say. */
static void config__slips_in_an_env_file_are_warnings(void **state)
{
    (void)state;
    warns(
        "WORKOS_API_KYE=sk_x\n",
        "test.env:1: WORKOS_API_KYE isn't a variable of authkitd (did you mean WORKOS_API_KEY?)\n");
    warns("\nauthkitd_retention=7\n",
          "test.env:2: authkitd_retention isn't a variable of authkitd (did you mean "
          "AUTHKITD_RETENTION?)\n");
    warns("exportAUTHKITD_DB=x\n",
          "test.env:1: exportAUTHKITD_DB isn't a variable of authkitd (did "
          "you mean export AUTHKITD_DB?)\n");
    warns("AUTKITD_DB=x\n", "test.env:1: AUTKITD_DB isn't a variable of authkitd (did you mean "
                            "AUTHKITD_DB?)\n");
    warns("WORKOS_NOTHING_OF_OURS=x\n",
          "test.env:1: WORKOS_NOTHING_OF_OURS isn't a variable of authkitd\n");
    warns("WORKOS_API_KEY_FIL=x\n",
          "test.env:1: WORKOS_API_KEY_FIL isn't a variable of authkitd (did "
          "you mean WORKOS_API_KEY_FILE?)\n");
    warns("WORKOS_COOKIE_PASSWORD=x\nWORKOS_REDIRECT_URI=x\nexport DATABASE_URL=x\nexported=x\n",
          "");
}

/* Symptom: what was said of a file for the token was that there is no such variable. */
static void config__files_of_secrets_are_no_slips(void **state)
{
    static const char *const variables[] = {"AUTHKITD_ADMIN_TOKEN_FILE", "WORKOS_API_KEY_FILE",
                                            "WORKOS_WEBHOOK_SECRET_FILE",
                                            "WORKOS_ACTION_SECRET_FILE"};
    struct config c;

    (void)state;
    write_file("secret.txt", "0123456789abcdef\n");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        setenv(variables[i], "secret.txt", 1);
    reads(&c, FOR_SERVE, "");
    assert_string_equal(buf_text(&c.warnings), "");
    assert_string_equal(c.admin_token, "0123456789abcdef");
    config_release(&c);
}

/* It is everybody's. */
static void config__slips_in_the_environment_are_warnings(void **state)
{
    struct config c;

    (void)state;
    setenv("WORKOS_API_KYE", "x", 1);
    setenv("WORKOS_COOKIE_PASSWORD", "x", 1);
    setenv("WORKOS_NOTHING_OF_OURS", "x", 1);
    setenv("authkitd_retention", "x", 1);
    reads(&c, FOR_SERVE, "");
    assert_string_equal(
        buf_text(&c.warnings),
        "WORKOS_API_KYE isn't a variable of authkitd (did you mean WORKOS_API_KEY?)\n");
    config_release(&c);
}

static void config__help_lists_the_options_of_the_command(void **state)
{
    struct buf serve = BUF_INIT(65536), reload = BUF_INIT(65536);

    (void)state;
    config_put_options(&serve, FOR_SERVE);
    config_put_options(&reload, FOR_RELOAD);
    assert_non_null(strstr(buf_text(&serve), "--listen ADDR"));
    assert_non_null(strstr(buf_text(&serve), "WORKOS_WEBHOOK_SECRET"));
    assert_null(strstr(buf_text(&serve), "--url"));
    assert_non_null(strstr(buf_text(&reload), "--db FILE"));
    assert_null(strstr(buf_text(&reload), "--listen ADDR"));
    buf_release(&serve);
    buf_release(&reload);
}

/* Whoever reaches it rules: not from afar without a token. */
static void config__the_admin_listener_is_for_loopback_or_with_a_token(void **state)
{
    static const char *const loopback[] = {"127.0.0.1:9090", "127.1.2.3:1", "localhost:9090",
                                           "[::1]:9090", "off"};
    static const char *const anywhere[] = {"0.0.0.0:9090", "[::]:9090", "10.0.0.5:9090",
                                           "[2001:db8::1]:9090", "128.0.0.1:9090"};
    struct config c;
    char words[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(loopback); i++) {
        snprintf(words, sizeof(words), "--admin-listen %s", loopback[i]);
        reads(&c, FOR_SERVE, words);
        assert_null(c.admin_token);
        config_release(&c);
    }
    for (size_t i = 0; i < ARRAY_LEN(anywhere); i++) {
        snprintf(words, sizeof(words), "--admin-listen %s", anywhere[i]);
        refuses(FOR_SERVE, words, "set AUTHKITD_ADMIN_TOKEN");
        refuses(FOR_CHECK, words, "may be reached from other machines");
        reads(&c, FOR_RELOAD, words);
        config_release(&c);
    }
    setenv("AUTHKITD_ADMIN_TOKEN", "correct-horse-battery", 1);
    reads(&c, FOR_SERVE, "--admin-listen 0.0.0.0:9090");
    assert_string_equal(c.admin_token, "correct-horse-battery");
    config_release(&c);
    reads(&c, FOR_RETRY, "--all");
    assert_string_equal(c.admin_token, "correct-horse-battery");
    config_release(&c);
    setenv("AUTHKITD_ADMIN_TOKEN", "short", 1);
    refuses(FOR_SERVE, "", "16 to 512 characters");
    refuses(FOR_RELOAD, "", "16 to 512 characters");
    setenv("AUTHKITD_ADMIN_TOKEN", "correct horse\r\nbattery: staple", 1);
    refuses(FOR_RELOAD, "", "without blanks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(config__the_admin_listener_is_for_loopback_or_with_a_token),
        IN_TEMP_DIR(config__defaults),
        IN_TEMP_DIR(config__forms_of_options),
        IN_TEMP_DIR(config__command_line_before_environment_before_file),
        IN_TEMP_DIR(config__sizes),
        IN_TEMP_DIR(config__wrong_values_name_the_option),
        IN_TEMP_DIR(config__commands_take_names_for_listeners),
        IN_TEMP_DIR(config__all_problems_at_once),
        IN_TEMP_DIR(config__who_said_it_is_named),
        IN_TEMP_DIR(config__very_long_wrong_value_is_refused),
        IN_TEMP_DIR(config__secrets),
        IN_TEMP_DIR(config__wrong_secret_files),
        IN_TEMP_DIR(config__a_secret_file_is_one_line_of_text),
        IN_TEMP_DIR(config__how_workos_is_called),
        IN_TEMP_DIR(config__lists),
        IN_TEMP_DIR(config__wrong_lists),
        IN_TEMP_DIR(config__an_api_key_is_no_client_id),
        IN_TEMP_DIR(config__secret_is_never_shown),
        IN_TEMP_DIR(config__several_env_files),
        IN_TEMP_DIR(config__misspelt_variable_is_a_warning),
        IN_TEMP_DIR(config__slips_in_an_env_file_are_warnings),
        IN_TEMP_DIR(config__files_of_secrets_are_no_slips),
        IN_TEMP_DIR(config__slips_in_the_environment_are_warnings),
        IN_TEMP_DIR(config__help_lists_the_options_of_the_command),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
