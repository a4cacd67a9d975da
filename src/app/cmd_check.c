/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/advice.h"
#include "app/database.h"
#include "app/handlers.h"
#include "app/tokens.h"
#include "auth/key_source.h"
#include "crypto/tls.h"
#include "script/script.h"
#include "store/db.h"
#include "store/lock.h"
#include "workos/signature.h"
#include "workos/tables.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REPORT_MAX = 65536, URL_SHOWN_MAX = 1024 };

static void say(const char *label, const char *text)
{
    printf("%-10s %s\n", label, text);
}

/* A line for each line of the text, the label in front of each. */
static void say_lines(const char *label, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        printf("%-10s %.*s\n", label, (int)len, text);
        text += len + (text[len] == '\n');
    }
}

/* A line for each item of the list. */
static void say_items(const char *label, const char *list)
{
    while (*list) {
        size_t len = strcspn(list, ",");

        printf("%-10s %.*s\n", label, (int)len, list);
        list += len + (list[len] == ',');
    }
}

static int problem(const struct err *err)
{
    fflush(stdout);
    command_complain(err->text);
    return 1;
}

/* Lines of advice under the label. */
static void say_advice(const char *label, struct buf *advice)
{
    say_lines(label, buf_text(advice));
    buf_release(advice);
}

/* A secret that can't be used is found before the server is started with it. */
static int check_secret(const struct config *config, const char *name, const char *path,
                        const char *secret, const char *variable)
{
    struct signing_keys *keys = NULL;
    struct err err;
    char text[1024];

    if (!secret) {
        snprintf(text, sizeof(text), "%s is off (WorkOS gets 503): set %s", name, variable);
        say("endpoint", text);
        return 0;
    }
    if (signing_keys_new(&keys, secret, &err) < 0) {
        err_prefix(&err, "%s: ", variable);
        return problem(&err);
    }
    signing_keys_free(keys);
    snprintf(text, sizeof(text), "%s is on: %s at %s", name, path, config->listen);
    say("endpoint", text);
    return 0;
}

static void check_api(const struct config *config)
{
    char text[160];

    snprintf(text, sizeof(text), "WORKOS_API_KEY is set; missed events are read every %d s",
             (int)config->poll_s);
    if (!config->api_key)
        say("api", "off: without WORKOS_API_KEY missed events aren't read, and backfill, reconcile "
                   "and setup can't work");
    else
        say("api", config->poll_s ? text
                                  : "WORKOS_API_KEY is set; --poll is off, so missed events "
                                    "are read by reconcile alone, with the server stopped");
}

/* The functions against the endpoints that would call them. */
static void check_functions(const struct config *config, const struct script *script)
{
    struct buf advice = BUF_INIT(REPORT_MAX);
    const char *events = script_event_names(script), *actions = script_action_names(script);

    say("events", *events ? events : "none: the tables of users are kept, and no function runs");
    say("actions", *actions ? actions : "none");
    advice_put_event_names(&advice, events, config);
    say_advice("warning", &advice);
    if (config->only_values)
        return; /* a secret that isn't there may be a wrong one */
    if (*events && !config->webhook_secret && config->poll_s == 0)
        say("warning", "the script has event functions, but WORKOS_WEBHOOK_SECRET isn't set");
    if (*actions && !config->action_secret)
        say("warning", "the script has action functions, but WORKOS_ACTION_SECRET isn't set");
    if (!*actions && config->action_secret)
        say("warning", "WORKOS_ACTION_SECRET is set, but the script has no action function: "
                       "WorkOS gets 404");
}

static int check_certificate(const struct config *config)
{
    struct tls_server *tls = NULL;
    struct err err;

    if (!config->tls_cert || !config->tls_key) /* one alone has been told */
        return 0;
    if (tls_server_new(&tls, config->tls_cert, config->tls_key, &err) < 0)
        return problem(&err);
    say("https", config->tls_cert);
    if (tls_server_check_dates(tls, &err) < 0) /* serve takes it */
        say("warning", err.text);
    tls_server_free(tls);
    return 0;
}

/* A key set in a file is read, so that what serve would stumble over is found now. One of WorkOS's is
 * serve's to fetch, again and again: whether it can be reached now tells nothing of then. */
static int check_keys(const struct config *config, const struct auth_opts *opts)
{
    const struct key_source_opts source_opts = {
        .url = opts->jwks_url,
        .user_agent = opts->user_agent,
    };
    struct key_source *source = NULL;
    struct key_set *set = NULL;
    struct err err;
    int64_t later_ms;
    int rc;

    if (key_source_is_open_to_others(opts->jwks_url))
        say("warning", "the keys of access tokens come over plain HTTP: whoever can change them on "
                       "their way can sign tokens");
    if (!key_source_is_file(opts->jwks_url))
        return 0;
    rc = key_source_open(&source, &source_opts, &err);
    if (rc == 0)
        rc = key_source_read(source, &set, &later_ms, &err);
    key_set_release(set);
    key_source_close(source);
    if (rc < 0)
        err_prefix(&err, "%s: ", config_origin(config, &config->jwks_url));
    return rc < 0 ? problem(&err) : 0;
}

static int check_tokens(const struct config *config)
{
    struct tokens tokens = {0};
    struct err err;
    char text[URL_SHOWN_MAX];
    int problems;

    if (config->cors_origins)
        say_items("cors", config->cors_origins);
    if (!tokens_are_on(config) && config->only_values)
        return 0;
    if (!tokens_are_on(config)) {
        say("tokens", "are off: set WORKOS_CLIENT_ID");
        if (config->issuers || config->audiences)
            say("warning", "--issuer and --audience are for access tokens, which are off");
        return 0;
    }
    if (tokens_fill(&tokens, config, &err) < 0)
        return problem(&err);
    snprintf(text, sizeof(text), "are on, with the keys of %.*s",
             (int)strcspn(tokens.opts.jwks_url, "?"), tokens.opts.jwks_url);
    say("tokens", text);
    say_items("issuer", tokens.opts.issuers);
    if (tokens.opts.audiences)
        say_items("audience", tokens.opts.audiences);
    problems = check_keys(config, &tokens.opts);
    tokens_release(&tokens);
    return problems;
}

static bool is_in_a_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;
    char *folder;
    bool is_one;

    if (!slash || slash == path)
        return true;
    folder = strndup(path, (size_t)(slash - path));
    is_one = folder && stat(folder, &st) == 0 && S_ISDIR(st.st_mode);
    free(folder);
    return is_one;
}

/* What serve would stumble over before it looks into the database. */
static int check_place(const struct config *config, struct err *err)
{
    int rc = 0;

    if (!is_in_a_folder(config->db))
        rc = err_set(err, ERR_INVALID, "the folder of '%s' isn't there", config->db);
    if (rc == 0)
        rc = lock_check(config->db, err);
    if (rc == 0 && faccessat(AT_FDCWD, config->db, W_OK, AT_EACCESS) < 0 && errno != ENOENT)
        rc = err_errno(err, ERR_IO, "this user (uid %u) can't write to '%s'", (unsigned)geteuid(),
                       config->db);
    return rc < 0 ? err_prefix(err, "%s: ", config_origin(config, &config->db)) : 0;
}

/* script: NULL when it can't be loaded; then the database is looked at alone. */
static int check_schema(const struct config *config, struct script *script)
{
    struct buf report = BUF_INIT(REPORT_MAX);
    struct db *db = NULL;
    struct err err;
    int64_t version = 0;
    int rc = check_place(config, &err);

    if (rc == 0)
        rc = database_check(config->db, &version, &err);
    if (rc == 0)
        rc = db_open(&db, config->db, DB_READER, &err);
    if (rc == 0 && version > 0 && version < tables_version())
        printf("%-10s has version %" PRId64 "; serve brings it forward to %" PRId64 "\n",
               "database", version, tables_version());
    if (rc == ERR_ABSENT)
        say("database", "isn't there yet; serve will create it");
    if (rc == ERR_ABSENT)
        rc = 0;
    if (rc == 0 && script)
        rc = script_plan(script, db, &report, &err);
    if (rc == 0 && script)
        say_lines("schema", report.len ? buf_text(&report) : "nothing to change");
    script_free(script); /* before the connection that its statements are on */
    db_close(db);
    buf_release(&report);
    return rc < 0 ? problem(&err) : 0;
}

static int check_script(const struct config *config)
{
    struct script *script = NULL;
    struct err err;

    if (handlers_load(&script, config, &err) < 0)
        return problem(&err) + check_schema(config, NULL);
    say("script", config->handlers);
    say_lines("warning", script_warnings(script));
    check_functions(config, script);
    say("routes", *script_route_names(script) ? script_route_names(script) : "none");
    return check_schema(config, script);
}

/* The outcome, and what one does now. */
static void conclude(const struct config *config, int problems)
{
    bool has_secret = config->webhook_secret || config->action_secret;
    struct buf advice = BUF_INIT(REPORT_MAX);

    if (problems > 0 || config->only_values) {
        say("result", "not fine: mend what is said above, and check again");
        return;
    }
    say("result", has_secret ? "fine" : "fine, but serve doesn't start before a secret is set");
    if (has_secret)
        advice_put_next(&advice, config);
    else
        advice_put_no_secrets(&advice, config, "check");
    say_advice("next", &advice);
}

/* What would be served, and what would be asked of WorkOS. */
static int check_endpoints(const struct config *config)
{
    int problems = 0;

    problems += check_secret(config, "webhook", config->webhook_path, config->webhook_secret,
                             "WORKOS_WEBHOOK_SECRET");
    problems += check_secret(config, "action", config->action_path, config->action_secret,
                             "WORKOS_ACTION_SECRET");
    if (!config->webhook_secret && !config->action_secret)
        say("warning", "serve refuses to start without any secret");
    check_api(config);
    return problems;
}

/* Of wrong values it isn't known what they should have been: what hangs on them isn't guessed at. */
static int check(const struct config *config)
{
    int problems = 0;

    log_setup(LOG_LEVEL_WARN, (enum log_format)config->log_format); /* the script may print */
    say_lines("warning", buf_text(&config->warnings));
    if (!config->only_values)
        problems += check_endpoints(config);
    problems += check_certificate(config);
    problems += check_tokens(config);
    problems += check_script(config);
    conclude(config, problems);
    return problems > 0 ? EXIT_FAILED : EXIT_FINE;
}

const struct command cmd_check = {
    .name = "check",
    .summary = "load the script and the configuration, report every problem, change nothing",
    .about = "It may be run while the server runs; what a reload would do to the schema is shown.",
    .options = FOR_CHECK,
    .run = check,
    .runs_on_faults = true,
};
