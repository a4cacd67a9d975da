/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/env_file.h"
#include "app/handlers.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "workos/mirror.h"
#include "workos/setup.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { URL_MAX_BYTES = 2048, TRIES = 4, TIMEOUT_MS = 30000 };

#define SECRET_VARIABLE "WORKOS_WEBHOOK_SECRET"

/* ---------------------------------------------------------------------------------- the URL */

/* Of "host:port" or "[v6]:port". */
static bool is_loopback(const char *host, size_t len)
{
    static const char *const names[] = {"localhost", "[::1]"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (len >= strlen(names[i]) && strncasecmp(host, names[i], strlen(names[i])) == 0)
            return len == strlen(names[i]) || host[strlen(names[i])] == ':';
    /* 127.0.0.1, but not 127.example.com */
    return len > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.:") >= len;
}

/* The endpoint's URL out of what was given: a base gets the webhook path. Behind a path that was given a query may
 * follow, for a proxy in front of the server, which itself looks at the path alone. */
static int write_url(const struct config *config, const char *given, struct buf *out,
                     struct err *err)
{
    bool is_https = strncasecmp(given, "https://", 8) == 0;
    bool is_http = strncasecmp(given, "http://", 7) == 0;
    const char *host = given + (is_https ? 8 : 7), *path, *query;
    bool has_path;

    if (strchr(given, '#'))
        return err_set(
            err, ERR_INVALID,
            "'%s' has a fragment, the part from '#' on, which is never sent: leave it out", given);
    for (const char *c = given; *c; c++)
        if (*c <= ' ' || *c > '~' || strchr("\"<>\\^`{|}", *c))
            return err_set(err, ERR_INVALID, "'%s' is no URL: it has a character that none has",
                           given);
    if (!is_https && !is_http)
        return err_set(err, ERR_INVALID,
                       "'%s' is no URL that WorkOS can call: it begins with https://, as "
                       "https://your-host",
                       given);
    path = host + strcspn(host, "/?");
    if (path == host || *host == ':' || memchr(host, '@', (size_t)(path - host)))
        return err_set(err, ERR_INVALID, "'%s' has no host that WorkOS could call", given);
    if (is_http && !is_loopback(host, (size_t)(path - host)))
        return err_set(err, ERR_INVALID,
                       "'%s' would have your users' data cross the net in the clear: use https://",
                       given);
    query = path + strcspn(path, "?");
    has_path = query - path > 1;
    if (*query && !has_path)
        return err_set(
            err, ERR_INVALID,
            "'%s' has a query, the part from '?' on, and no path: leave the query out, or "
            "write the path in front of it, %s",
            given, config->webhook_path);
    buf_put(out, given, (size_t)((has_path ? query : path) - given));
    buf_puts(out, has_path ? query : config->webhook_path);
    if (!buf_ok(out))
        return err_set(err, ERR_INVALID, "the URL is longer than %d bytes", URL_MAX_BYTES);
    return 0;
}

/* ---------------------------------------------------------------------------------- the env file */

/* Who is going to change the file had better not do so while it isn't what it was meant to be. */
static int read_file(struct env_file **out, const char *path, struct err *err)
{
    int rc = env_file_read(out, path, err);

    if (rc < 0)
        return err_prefix(err, "--write: ");
    if (env_file_faults(*out)) {
        rc = err_set(err, ERR_INVALID, "%s", env_file_faults(*out));
        env_file_free(*out);
        *out = NULL;
    }
    return rc;
}

/* Before anything is changed at WorkOS: can the secret be written there, and will it count? */
static int check_file(const char *path, struct err *err)
{
    struct env_file *file = NULL;
    const char *elsewhere;
    char real[PATH_MAX], folder[PATH_MAX];
    struct stat st;
    int line, rc = 0;

    /* It is written beside the file that a link leads to. */
    snprintf(folder, sizeof(folder), "%s", realpath(path, real) ? real : path);
    if (access(dirname(folder), W_OK) < 0)
        return err_errno(err, ERR_IO, "--write: cannot write '%s'", path);
    if (stat(path, &st) < 0)
        return 0;
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "--write: '%s' is no file", path);
    if (read_file(&file, path, err) < 0)
        return err->code;
    elsewhere = env_file_get(file, SECRET_VARIABLE "_FILE", &line);
    if (elsewhere && *elsewhere)
        rc =
            err_set(err, ERR_INVALID,
                    "%s:%d sets " SECRET_VARIABLE "_FILE: take that line out, or leave out --write "
                    "and put the secret into '%s'",
                    path, line, elsewhere);
    env_file_free(file);
    return rc;
}

/* Is the secret one of the list by commas? */
static bool has_secret(const char *list, const char *secret)
{
    for (size_t len; *list; list += len + (list[len] == ',')) {
        const char *start = list + strspn(list, " \t");
        size_t wanted = strlen(secret);

        len = strcspn(list, ",");
        if (strncmp(start, secret, wanted) == 0 &&
            start[wanted + strspn(start + wanted, " \t")] == list[len])
            return true;
    }
    return false;
}

static int write_secret(const char *path, const char *secret, bool *out_changed, struct err *err)
{
    struct env_file *file = NULL;
    const char *old = NULL;
    int line;

    *out_changed = true;
    if (access(path, F_OK) == 0) {
        if (read_file(&file, path, err) < 0)
            return err->code;
        old = env_file_get(file, SECRET_VARIABLE, &line);
        *out_changed = !old || !has_secret(old, secret);
    }
    env_file_free(file);
    return *out_changed ? env_file_set(path, SECRET_VARIABLE, secret, err) : 0;
}

/* Any that isn't empty: whose it is can't be told. */
static bool holds_secret(const char *path)
{
    struct env_file *file = NULL;
    const char *value;
    struct err err;
    bool holds;
    int line;

    if (env_file_read(&file, path, &err) < 0)
        return false;
    value = env_file_get(file, SECRET_VARIABLE, &line);
    holds = value && *value;
    env_file_free(file);
    return holds;
}

/* ---------------------------------------------------------------------------------- what it says */

static void say(const char *label, const char *text)
{
    if (*text)
        printf("%-9s %s\n", label, text);
}

static void print_report(const struct setup_report *report, const char *url)
{
    static const char *const outcomes[] = {
        [SETUP_CREATED] = "created the webhook endpoint",
        [SETUP_CHANGED] = "changed the webhook endpoint",
        [SETUP_UNCHANGED] = "nothing had to change: the webhook endpoint",
    };

    printf("%s %s%s\n", outcomes[report->outcome], report->id,
           report->outcome == SETUP_UNCHANGED ? " is as it should be" : "");
    say("url", url);
    say("events", buf_text(&report->types));
    if (report->outcome == SETUP_CHANGED) {
        say("added", buf_text(&report->added));
        say("removed", buf_text(&report->removed));
        if (report->enabled_again)
            say("status", "it was disabled, and is enabled now");
    }
    if (report->refused.len > 0)
        printf("%-9s %s: WorkOS doesn't send %s to webhooks (or the name is misspelt)\n",
               "left out", buf_text(&report->refused),
               strchr(buf_text(&report->refused), ',') ? "them" : "it");
}

/* A server that answers elsewhere is what one would look for long. It doesn't look at a query, and nothing stands
 * for another character in a path of its own. */
static void warn_of_path(const struct config *config, const char *url)
{
    const char *path = strstr(url, "://") + 3;
    struct buf text = BUF_INIT(2 * URL_MAX_BYTES);
    size_t len;

    path += strcspn(path, "/");
    len = strcspn(path, "?");
    if (strlen(config->webhook_path) == len && memcmp(path, config->webhook_path, len) == 0)
        return;
    buf_printf(&text, "mind that the server takes webhooks at %s: ", config->webhook_path);
    if (memchr(path, '%', len))
        buf_puts(&text, "have a proxy translate");
    else
        buf_printf(&text, "serve it with --webhook-path %.*s, or have a proxy translate", (int)len,
                   path);
    command_complain(buf_text(&text));
    buf_release(&text);
}

/* The file keeps its mode, which somebody chose for a file without this secret, perhaps. */
static void warn_of_readers(const char *path)
{
    struct stat st;
    char text[PATH_MAX + 128];

    if (stat(path, &st) < 0 || !(st.st_mode & S_IROTH))
        return;
    snprintf(text, sizeof(text),
             "mind that every user of this machine can read %s: chmod o-r takes that away", path);
    command_complain(text);
}

static int hand_over_secret(const struct config *config, const struct setup_report *report)
{
    struct err err;
    bool changed;

    /* That of an endpoint that was there already is the one in the file, most likely. */
    if (!report->secret && report->was_there && config->write && holds_secret(config->write)) {
        printf("%-9s WorkOS didn't say it: the " SECRET_VARIABLE " that stands in %s was left\n",
               "secret", config->write);
        return EXIT_FINE;
    }
    if (!report->secret) {
        command_complain("WorkOS didn't say the endpoint's secret: copy it from its dashboard "
                         "into " SECRET_VARIABLE);
        return config->write ? EXIT_FAILED : EXIT_FINE;
    }
    if (!config->write) {
        printf("%s=%s\n", SECRET_VARIABLE, report->secret);
        return EXIT_FINE;
    }
    if (write_secret(config->write, report->secret, &changed, &err) < 0) {
        command_complain(err.text);
        command_complain(
            "the endpoint is there, but its secret isn't in the file: call this again");
        return EXIT_FAILED;
    }
    printf("%-9s %s %s " SECRET_VARIABLE "\n", "secret", config->write,
           changed ? "now has it in" : "has it already in");
    warn_of_readers(config->write);
    return EXIT_FINE;
}

/* ---------------------------------------------------------------------------------- the command */

/* The types of the script's functions, by spaces, are copied: the script goes. */
static int read_types(const struct config *config, struct buf *out, struct err *err)
{
    struct script *script = NULL;

    if (handlers_load(&script, config, err) < 0)
        return err->code;
    buf_puts(out, script_event_names(script));
    script_free(script);
    return buf_ok(out) ? 0 : err_set(err, ERR_NOMEM, "the script has too many event types");
}

static int call_workos(const struct config *config, const char *url, struct setup_report *out,
                       struct err *err)
{
    const struct api_opts opts = {
        .hostname = config->api_hostname,
        .port = (int)config->api_port,
        .https = config->api_https,
        .key = config->api_key,
        .phase = "setup",
        .tries = TRIES,
        .timeout_ms = TIMEOUT_MS,
    };
    struct setup_request request = {.url = url, .optional = ""};
    struct buf types = BUF_INIT(1024 * 1024);
    struct api *api = NULL;
    int rc = 0;

    if (config->events) {
        request.required = config->events;
    } else {
        rc = read_types(config, &types, err);
        request.required = mirror_event_types();
        request.optional = buf_text(&types);
    }
    if (rc == 0)
        rc = fetch_set_up(err);
    if (rc == 0)
        rc = api_open(&api, &opts, err);
    if (rc == 0)
        rc = setup_webhook(api, &request, out, err);
    api_close(api);
    buf_release(&types);
    return rc;
}

static int set_up(const struct config *config, const char *url)
{
    struct setup_report report = {0};
    struct err err;
    int code = EXIT_FAILED;

    if (!config->api_key) {
        command_complain("set WORKOS_API_KEY to a key of WorkOS's dashboard (sk_…)");
        return EXIT_FAILED;
    }
    log_setup(LOG_LEVEL_WARN, LOG_FORMAT_TEXT); /* the script may print */
    if ((config->write && check_file(config->write, &err) < 0) ||
        call_workos(config, url, &report, &err) < 0) {
        command_complain(err.text);
    } else {
        print_report(&report, url);
        warn_of_path(config, url);
        code = hand_over_secret(config, &report);
    }
    setup_report_release(&report);
    return code;
}

static int setup(const struct config *config)
{
    struct buf url = BUF_INIT(URL_MAX_BYTES);
    struct err err;
    int code = EXIT_USAGE;

    if (config->operand_count == 0)
        command_complain("setup wants the URL under which WorkOS reaches this server, such as "
                         "https://your-host");
    else if (write_url(config, config->operands[0], &url, &err) < 0)
        command_complain(err.text);
    else
        code = set_up(config, buf_text(&url));
    buf_release(&url);
    return code;
}

const struct command cmd_setup = {
    .name = "setup",
    .operand = "https://HOST",
    .summary = "create or update the webhook endpoint at WorkOS (needs WORKOS_API_KEY)",
    .about = "The URL is the one under which WorkOS reaches this server; --webhook-path is added "
             "when it\n"
             "has no path. The endpoint gets the events of the mirrored tables, and those that the "
             "script\n"
             "has functions for; call it again when there are new ones. Its secret is shown, or\n"
             "written to a file with --write.",
    .options = FOR_SETUP,
    .run = setup,
};
