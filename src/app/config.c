/* SPDX-License-Identifier: MIT */
#include "app/config.h"

#include "app/env_file.h"
#include "app/input_file.h"
#include "app/misspelt.h"
#include "app/value.h"
#include "auth/key_source.h"
#include "base/authority.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "http/listen.h"
#include "routes/routes.h"
#include "workos/retention.h"
#include "workos/workos.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRET_MAX_BYTES = 65536, PROBLEMS_MAX = 1024 * 1024 };

enum kind {
    TEXT,
    ADDRESS,
    URL_PATH,
    KEYS_URL,
    CLIENT_ID,
    HOST,
    COUNT,
    SECONDS,
    BYTES,
    CHOICE,
    FLAG,
    SECRET,
    /* Lists: several by commas, or by giving the option several times. */
    ISSUERS,
    AUDIENCES,
    ORIGINS,
};

struct option {
    const char *name;     /* "--listen"; NULL: environment only */
    const char *variable; /* NULL: command line only */
    const char *argument; /* in the help */
    enum kind kind;
    size_t offset; /* in struct config */
    const char *fallback;
    int commands;
    int64_t low, high;          /* COUNT, BYTES */
    const char *const *choices; /* CHOICE; NULL-terminated, in the order of their values */
    const char *help;
};

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const booleans[] = {"false", "true", NULL};
const char *const config_statuses[] = {"any",  "done",     "failed", "waiting",
                                       "dead", "expected", NULL};
static const char *const on_errors[] = {"fail", "deny", "allow", NULL};

#define AT(field) offsetof(struct config, field)
#define SERVER (FOR_SERVE | FOR_CHECK)
#define ADMIN (FOR_RELOAD | FOR_RETRY | FOR_BACKFILL | FOR_RECONCILE) /* asks the running server */
#define API (SERVER | FOR_BACKFILL | FOR_RECONCILE | FOR_SETUP)       /* calls WorkOS */
#define SCRIPT (SERVER | FOR_BACKFILL | FOR_RECONCILE)                /* runs functions */
#define LOADED (SCRIPT | FOR_SETUP)                                   /* loads the script */
#define MIB ((int64_t)1024 * 1024)

static const struct option options[] = {
    {"--handlers", "AUTHKITD_HANDLERS", "FILE", TEXT, AT(handlers), "handlers.lua", LOADED, 0, 0,
     NULL, "the script"},
    {"--db", "AUTHKITD_DB", "FILE", TEXT, AT(db), "authkitd.db",
     SERVER | ADMIN | FOR_EVENTS | FOR_BACKUP | FOR_MAINTAIN, 0, 0, NULL, "the database"},
    {"--listen", "AUTHKITD_LISTEN", "ADDR", ADDRESS, AT(listen), "127.0.0.1:8080",
     SERVER | FOR_SEND, 0, 0, NULL, "where WorkOS's requests come in; [::1]:8080 for IPv6"},
    {"--admin-listen", "AUTHKITD_ADMIN_LISTEN", "ADDR", ADDRESS, AT(admin_listen), "127.0.0.1:9090",
     SERVER | ADMIN, 0, 0, NULL,
     "where authkitd's own commands, metrics and the dashboard are; off for none"},
    {"--tls-cert", "AUTHKITD_TLS_CERT", "FILE", TEXT, AT(tls_cert), NULL, SERVER | FOR_SEND, 0, 0,
     NULL, "certificate chain (PEM): serve HTTPS"},
    {"--tls-key", "AUTHKITD_TLS_KEY", "FILE", TEXT, AT(tls_key), NULL, SERVER, 0, 0, NULL,
     "its private key (PEM)"},
    {"--webhook-path", "AUTHKITD_WEBHOOK_PATH", "PATH", URL_PATH, AT(webhook_path),
     "/workos/webhook", SERVER | FOR_SEND | FOR_SETUP, 0, 0, NULL, "path of the webhook endpoint"},
    {"--action-path", "AUTHKITD_ACTION_PATH", "PATH", URL_PATH, AT(action_path), "/workos/action",
     SERVER | FOR_SEND, 0, 0, NULL, "path of the action endpoint"},
    {"--max-body", "AUTHKITD_MAX_BODY", "BYTES", BYTES, AT(max_body), "1MiB", SERVER, 1024,
     64 * MIB, NULL, "largest request body"},
    {"--handler-timeout", "AUTHKITD_HANDLER_TIMEOUT", "MS", COUNT, AT(handler_timeout_ms), "1000",
     LOADED, 1, 600000, NULL, "time an event's function may take"},
    {"--action-timeout", "AUTHKITD_ACTION_TIMEOUT", "MS", COUNT, AT(action_timeout_ms), "500",
     LOADED, 1, 600000, NULL, "time an action's function may take"},
    {"--handler-memory", "AUTHKITD_HANDLER_MEMORY", "BYTES", BYTES, AT(handler_memory), "64MiB",
     LOADED, MIB, 4096 * MIB, NULL, "memory a script may use"},
    {"--action-on-error", "AUTHKITD_ACTION_ON_ERROR", "fail|deny|allow", CHOICE,
     AT(action_on_error), "fail", SERVER, 0, 0, on_errors,
     "answer of an action whose function failed: a 500, or a signed verdict"},
    {"--retention", "AUTHKITD_RETENTION", "DAYS", COUNT, AT(retention_days), "30", SCRIPT,
     RETENTION_DAYS_MIN, 36500, NULL, "payloads of done events are kept so long"},
    {"--poll", "AUTHKITD_POLL", "SECONDS", SECONDS, AT(poll_s), NULL, SERVER, 1, 86400, NULL,
     "how often the Events API is read for what a webhook missed; off for never [60 with an API "
     "key]"},
    {"--ordered", "AUTHKITD_ORDERED", NULL, FLAG, AT(ordered), NULL, SERVER, 0, 0, NULL,
     "take events from the Events API alone, in WorkOS's own order; webhooks only wake it"},
    {"--jwks-url", "AUTHKITD_JWKS_URL", "URL", KEYS_URL, AT(jwks_url), NULL, SERVER, 0, 0, NULL,
     "where the keys of access tokens are; file:///… for a file [WorkOS, for the client id]"},
    {"--issuer", "AUTHKITD_ISSUERS", "URL", ISSUERS, AT(issuers), NULL, SERVER, 0, 0, NULL,
     "an \"iss\" of access tokens that are taken; several by commas [those of WorkOS]"},
    {"--audience", "AUTHKITD_AUDIENCES", "TEXT", AUDIENCES, AT(audiences), NULL, SERVER, 0, 0, NULL,
     "an \"aud\" that is ours, in tokens that have one; several by commas [the client id]"},
    {"--cors-origin", "AUTHKITD_CORS_ORIGINS", "ORIGIN", ORIGINS, AT(cors_origins), NULL, SERVER, 0,
     0, NULL, "an origin whose pages may call the routes, or * for any; several by commas [none]"},
    {"--log-level", "AUTHKITD_LOG_LEVEL", "LEVEL", CHOICE, AT(log_level), "info", SERVER, 0, 0,
     log_levels, "debug, info, warn or error"},
    {"--log-format", "AUTHKITD_LOG_FORMAT", "text|json", CHOICE, AT(log_format), "text", SERVER, 0,
     0, log_formats, "form of the log lines, on standard error"},
    {"--data", NULL, "FILE", TEXT, AT(data), NULL, FOR_SEND, 0, 0, NULL,
     "send this: a whole event of that TYPE, or its data object; - for standard input"},
    {"--url", NULL, "URL", TEXT, AT(url), NULL, FOR_SEND, 0, 0, NULL,
     "send it there instead of to --listen; the endpoint's path is added when it has none"},
    {"--id", NULL, "ID", TEXT, AT(event_id), NULL, FOR_SEND, 0, 0, NULL,
     "the event's id, or the action's [that of --data, or a new one each time]"},
    {"--object-id", NULL, "ID", TEXT, AT(object_id), NULL, FOR_SEND, 0, 0, NULL,
     "the id of the event's object, such as user_123 [that of --data, or a new one]"},
    {"--insecure", NULL, NULL, FLAG, AT(insecure), NULL, FOR_SEND, 0, 0, NULL,
     "accept any certificate"},
    {"--list", NULL, NULL, FLAG, AT(list), NULL, FOR_SEND, 0, 0, NULL,
     "tell which types have a sample of their own, and send nothing"},
    {"--write", NULL, "FILE", TEXT, AT(write), NULL, FOR_SETUP, 0, 0, NULL,
     "put the secret into this env file instead of showing it"},
    {"--events", NULL, "TYPES", TEXT, AT(events), NULL, FOR_SETUP, 0, 0, NULL,
     "these event types, by commas [those of the mirrored tables and of the script's functions]"},
    {"--status", NULL, "STATUS", CHOICE, AT(status), "any", FOR_EVENTS, 0, 0, config_statuses,
     "any, done, failed, waiting, dead or expected"},
    {"--type", NULL, "TYPE", TEXT, AT(type), NULL, FOR_EVENTS, 0, 0, NULL,
     "events of one type, such as user.created; user.* for all of users"},
    {"--limit", NULL, "N", COUNT, AT(limit), "50", FOR_EVENTS, 0, 1000000000, NULL,
     "the last so many"},
    {"--json", NULL, NULL, FLAG, AT(json), NULL, FOR_EVENTS, 0, 0, NULL,
     "a JSON object a line, with the payload"},
    {"--follow", NULL, NULL, FLAG, AT(follow), NULL, FOR_EVENTS, 0, 0, NULL,
     "go on, and show what comes and what changes"},
    {"--all", NULL, NULL, FLAG, AT(all), NULL, FOR_RETRY, 0, 0, NULL,
     "every event that is failed or dead"},
    {"--no-handlers", NULL, NULL, FLAG, AT(no_handlers), NULL, FOR_BACKFILL, 0, 0, NULL,
     "bring the tables up to date, and run no function"},
    {"--prune", NULL, NULL, FLAG, AT(prune), NULL, FOR_BACKFILL, 0, 0, NULL,
     "also remove what WorkOS no longer has; asks first"},
    {"--prune-most", NULL, NULL, FLAG, AT(prune_most), NULL, FOR_BACKFILL, 0, 0, NULL,
     "the same, also when that is most of what is here"},
    {"--yes", NULL, NULL, FLAG, AT(yes), NULL, FOR_BACKFILL, 0, 0, NULL, "don't ask"},
    {"--rate", NULL, "N", COUNT, AT(pages_per_s), "4", FOR_BACKFILL, 1, 1000, NULL,
     "requests a second to WorkOS, at most; each is a page of 100"},
    {"--give-up", NULL, "SECONDS", COUNT, AT(give_up_s), "600", FOR_BACKFILL, 1, 86400, NULL,
     "end when WorkOS can't be reached for so long"},
    {"--force", NULL, NULL, FLAG, AT(force), NULL, FOR_BACKUP, 0, 0, NULL,
     "replace FILE when it is there already"},
    {"--check", NULL, NULL, FLAG, AT(check), NULL, FOR_MAINTAIN, 0, 0, NULL,
     "only check, and change nothing; also while the server runs"},
    {NULL, "AUTHKITD_ADMIN_TOKEN", "TEXT", SECRET, AT(admin_token), NULL, SERVER | ADMIN, 0, 0,
     NULL, "what who talks to --admin-listen must know; needed when that isn't on loopback"},
    {NULL, "WORKOS_WEBHOOK_SECRET", NULL, SECRET, AT(webhook_secret), NULL, SERVER | FOR_SEND, 0, 0,
     NULL, "secret of the webhook endpoint, or several by commas"},
    {NULL, "WORKOS_ACTION_SECRET", NULL, SECRET, AT(action_secret), NULL, SERVER | FOR_SEND, 0, 0,
     NULL, "secret of the action endpoint, or several by commas"},
    {NULL, "WORKOS_CLIENT_ID", "ID", CLIENT_ID, AT(client_id), NULL, SERVER, 0, 0, NULL,
     "the app's client id at WorkOS (client_…): access tokens"},
    {NULL, "WORKOS_API_KEY", NULL, SECRET, AT(api_key), NULL, API, 0, 0, NULL,
     "key for WorkOS's API (sk_…): missed events, backfill, setup"},
    {NULL, "WORKOS_API_HOSTNAME", "HOST", HOST, AT(api_hostname), "api.workos.com", API, 0, 0, NULL,
     "host of WorkOS's API: a custom authentication domain, or the emulator"},
    {NULL, "WORKOS_API_PORT", "PORT", COUNT, AT(api_port), "443", API, 1, 65535, NULL,
     "port of WorkOS's API"},
    {NULL, "WORKOS_API_HTTPS", "true|false", CHOICE, AT(api_https), "true", API, 0, 0, booleans,
     "ask it by HTTPS; false for plain HTTP, as the emulator has it"},
};

/* ------------------------------------------------------------------------- values */

static char **text_slot(struct config *config, const struct option *option)
{
    return (char **)(void *)((char *)config + option->offset);
}

static int64_t *number_slot(struct config *config, const struct option *option)
{
    return (int64_t *)(void *)((char *)config + option->offset);
}

static bool is_number(enum kind kind)
{
    return kind == COUNT || kind == SECONDS || kind == BYTES || kind == CHOICE || kind == FLAG;
}

static bool is_list(enum kind kind)
{
    return kind == ISSUERS || kind == AUDIENCES || kind == ORIGINS;
}

static int64_t unit_bytes(const char *unit)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } units[] = {
        {"", 1},           {"B", 1},           {"K", 1024},         {"KB", 1024},
        {"KiB", 1024},     {"M", 1024 * 1024}, {"MB", 1024 * 1024}, {"MiB", 1024 * 1024},
        {"G", 1024 * MIB}, {"GB", 1024 * MIB}, {"GiB", 1024 * MIB},
    };

    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcasecmp(unit, units[i].name) == 0)
            return units[i].bytes;
    return 0;
}

/* The problem with the value, in words, or NULL. */
static const char *parse_number(const struct option *option, const char *value, int64_t *out,
                                char *words, size_t size)
{
    const uint64_t number_max = INT64_MAX / (1024 * MIB);
    size_t digits = strspn(value, "0123456789");
    int64_t unit = option->kind == BYTES ? unit_bytes(value + digits) : value[digits] == '\0';
    uint64_t number;

    if (digits == 0 || unit == 0)
        return option->kind == BYTES ? "a number of bytes, such as 1048576 or 1MiB"
                                     : "a whole number";
    if (text_to_u64(value, digits, number_max, &number)) {
        *out = (int64_t)number * unit;
        if (*out >= option->low && *out <= option->high)
            return NULL;
    }
    snprintf(words, size, "from %" PRId64 " to %" PRId64, option->low, option->high);
    return words;
}

static const char *parse_choice(const struct option *option, const char *value, int64_t *out,
                                char *words, size_t size)
{
    size_t len = 0;

    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            *out = i;
            return NULL;
        }
        len += (size_t)snprintf(words + len, size - len, "%s%s", i ? ", " : "one of ",
                                option->choices[i]);
    }
    return words;
}

/* On the command line a flag needs no value; a variable has one. */
static const char *parse_flag(const char *value, int64_t *out)
{
    static const char *const words[] = {"0", "false", "no", "off", "1", "true", "yes", "on"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(value, words[i]) == 0) {
            *out = i >= ARRAY_LEN(words) / 2;
            return NULL;
        }
    }
    return "true or false";
}

#define ADDRESS_FORM "an address with a port, such as 127.0.0.1:8080 or [::1]:8080"

/* host:port or [v6]:port: commands may be told a name. Where a server listens, check_listeners sees. */
static const char *check_address(const char *value)
{
    const char *colon = strrchr(value, ':');
    uint64_t port;

    if (!colon || colon == value || !text_to_u64(colon + 1, strlen(colon + 1), 65535, &port))
        return ADDRESS_FORM;
    if (value[0] == '[')
        return colon[-1] == ']' ? NULL : ADDRESS_FORM;
    return memchr(value, ':', (size_t)(colon - value)) ? ADDRESS_FORM : NULL;
}

static const char *check_path(const char *value)
{
    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~' || strchr("?#%", *c))
            return "a path of letters, digits and other plain characters, such as /workos/webhook";
    return value[0] == '/' ? NULL : "a path that begins with '/'";
}

static const char *item_fault(enum kind kind, const char *item)
{
    switch (kind) {
    case ISSUERS:
        return value_issuer_fault(item);
    case ORIGINS:
        return value_origin_fault(item);
    default:
        return value_audience_fault(item);
    }
}

/* Where a value came from, the origin, is for people: "--max-body", "AUTHKITD_MAX_BODY",
 * "prod.env:3: …". What may be a secret isn't shown. */
static void complain(const struct option *option, const char *value, const char *origin,
                     const char *wanted, struct buf *problems)
{
    bool is_secret = option->kind == SECRET || value_is_api_key(value);

    if (is_secret)
        buf_printf(problems, "%s: this value won't do: it must be %s\n", origin, wanted);
    else
        buf_printf(problems, "%s: '%.200s' won't do: it must be %s\n", origin, value, wanted);
}

/* Blanks around the items don't count, nor does a comma too many. */
static void set_list(struct config *config, const struct option *option, const char *value,
                     const char *origin, struct buf *problems)
{
    struct buf list = BUF_INIT(strlen(value) + 1);
    char *copy = strdup(value), *rest = NULL;
    bool is_wrong = false;

    for (char *item = copy ? strtok_r(copy, ",", &rest) : NULL; item;
         item = strtok_r(NULL, ",", &rest)) {
        const char *wanted;
        size_t len;

        item += strspn(item, " \t");
        len = strlen(item);
        while (len > 0 && strchr(" \t", item[len - 1]))
            item[--len] = '\0';
        if (len == 0)
            continue;
        wanted = item_fault(option->kind, item);
        if (wanted)
            complain(option, item, origin, wanted, problems);
        is_wrong = is_wrong || wanted;
        buf_puts(&list, list.len ? "," : "");
        buf_puts(&list, item);
    }
    if (list.len == 0)
        complain(option, value, origin, "not empty", problems);
    if (list.len > 0 && !is_wrong) {
        free(*text_slot(config, option));
        *text_slot(config, option) = buf_take(&list, NULL);
    }
    buf_release(&list);
    free(copy);
}

static void set_value(struct config *config, const struct option *option, const char *value,
                      const char *origin, struct buf *problems)
{
    char words[160];
    const char *wanted = NULL;
    int64_t number = 0;

    switch (option->kind) {
    case COUNT:
    case BYTES:
        wanted = parse_number(option, value, &number, words, sizeof(words));
        break;
    case SECONDS:
        if (strcmp(value, "off") != 0)
            wanted = parse_number(option, value, &number, words, sizeof(words));
        if (wanted == words)
            snprintf(words + strlen(words), sizeof(words) - strlen(words), ", or off");
        break;
    case CHOICE:
        wanted = parse_choice(option, value, &number, words, sizeof(words));
        break;
    case FLAG:
        wanted = parse_flag(value, &number);
        break;
    case ADDRESS:
        if (option->offset != AT(admin_listen) || strcmp(value, "off") != 0)
            wanted = check_address(value);
        break;
    case URL_PATH:
        wanted = check_path(value);
        break;
    case KEYS_URL:
        wanted = key_source_fault(value);
        break;
    case CLIENT_ID:
        wanted = value_client_id_fault(value);
        break;
    case HOST:
        wanted = value_host_fault(value);
        break;
    case TEXT:
    case SECRET:
        wanted = value[0] == '\0' ? "not empty" : NULL;
        if (!wanted && option->offset == AT(api_key))
            wanted = value_api_key_fault(value);
        if (option->offset == AT(webhook_secret) || option->offset == AT(action_secret))
            wanted = value[strspn(value, ", \t")] == '\0' ? "a secret, or several by commas" : NULL;
        break;
    case ISSUERS:
    case AUDIENCES:
    case ORIGINS:
        set_list(config, option, value, origin, problems);
        return;
    }
    if (wanted) {
        complain(option, value, origin, wanted, problems);
        return;
    }
    if (is_number(option->kind)) {
        *number_slot(config, option) = number;
        return;
    }
    free(*text_slot(config, option));
    *text_slot(config, option) = strdup(value);
}

/* ------------------------------------------------------------------------- the command line */

static const struct option *find_option(const char *name, size_t len, int command)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (options[i].name && (options[i].commands & command) && strlen(options[i].name) == len &&
            memcmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

static void unknown_option(const char *name, size_t len, int command, struct buf *problems)
{
    const char *names[ARRAY_LEN(options) + 2];
    char word[64];
    size_t count = 0;
    const char *closest;

    snprintf(word, sizeof(word), "%.*s", (int)len, name);
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (options[i].name && (options[i].commands & command))
            names[count++] = options[i].name;
    if (config_has_options(command))
        names[count++] = "--env-file";
    names[count++] = "--help";
    closest = text_closest(word, names, count);
    buf_printf(problems, "unknown option %s%s%s%s\n", word, closest ? " (did you mean " : "",
               closest ? closest : "", closest ? "?)" : "");
}

/* Values given on the command line are remembered by option, to be set last: of a list all of them, of
 * anything else the last one. */
struct given {
    const char *values[ARRAY_LEN(options)];
    struct buf lists[ARRAY_LEN(options)]; /* what the values of lists are in */
};

static void give(struct given *given, size_t option, const char *value)
{
    struct buf *list = &given->lists[option];

    if (!is_list(options[option].kind)) {
        given->values[option] = value;
        return;
    }
    list->max = PROBLEMS_MAX;
    buf_puts(list, list->len ? "," : "");
    buf_puts(list, value);
    given->values[option] = buf_text(list);
}

static void given_release(struct given *given)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        buf_release(&given->lists[i]);
}

/* How many words without a dash a command takes. */
static size_t operands_max(int command)
{
    int one = FOR_SEND | FOR_SETUP | FOR_BACKUP | FOR_INIT | FOR_COMPLETION | FOR_HELP;

    return command & FOR_RETRY ? SIZE_MAX : command & one ? 1 : 0;
}

static void read_arguments(struct config *config, int command, int argc, char **argv,
                           struct given *given, struct buf *problems)
{
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i], *equals = strchr(arg, '=');
        size_t len = equals ? (size_t)(equals - arg) : strlen(arg);
        bool is_env_file = config_has_options(command) && len == strlen("--env-file") &&
                           memcmp(arg, "--env-file", len) == 0;
        const struct option *option;
        const char *value;

        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            config->help = true;
            continue;
        }
        if (arg[0] != '-' || arg[1] == '\0') {
            if (config->operand_count < operands_max(command))
                config->operands[config->operand_count++] = arg;
            else
                buf_printf(problems, "'%s' is one word too many\n", arg);
            continue;
        }
        option = is_env_file ? NULL : find_option(arg, len, command);
        if (!option && !is_env_file) {
            unknown_option(arg, len, command, problems);
            continue;
        }
        value = equals ? equals + 1 : option && option->kind == FLAG ? "1" : argv[++i];
        if (i >= argc || !value)
            buf_printf(problems, "%.*s wants a value behind it\n", (int)len, arg);
        else if (is_env_file)
            config->env_files[config->env_file_count++] = value;
        else
            give(given, (size_t)(option - options), value);
    }
}

/* ------------------------------------------------------------------------- secrets in files */

/* Strips the line's end, and the blanks before it. What is wrong with the rest, in words, or NULL. */
static const char *trim_secret(struct buf *text)
{
    if (text->len > 0 && memchr(text->data, '\0', text->len))
        return "isn't text: it has a NUL byte, as UTF-16 has; save it as UTF-8";
    while (text->len > 0 && strchr(" \t\r\n", text->data[text->len - 1]))
        text->data[--text->len] = '\0';
    if (text->len == 0)
        return "is empty";
    return strpbrk(text->data, "\r\n") ? "has several lines: a secret is one line" : NULL;
}

static char *read_secret_file(const char *path, const char *origin, struct buf *problems)
{
    struct buf text = BUF_INIT(SECRET_MAX_BYTES);
    struct err err;
    const char *fault;

    if (input_file_read(path, &text, &err) < 0) {
        buf_printf(problems, "%s: %s\n", origin, err.text);
    } else {
        fault = trim_secret(&text);
        if (!fault)
            return buf_take(&text, NULL);
        buf_printf(problems, "%s: '%s' %s\n", origin, path, fault);
    }
    if (text.data)
        crypto_wipe(text.data, text.cap);
    buf_release(&text);
    return NULL;
}

/* ------------------------------------------------------------------------- variables */

/* In the order of the command line. */
struct files {
    struct env_file **at;
    size_t count;
};

static int files_read(struct files *files, const struct config *config, struct buf *problems)
{
    struct err err;

    files->at = calloc(config->env_file_count + 1, sizeof(struct env_file *));
    if (!files->at)
        return -1;
    for (size_t i = 0; i < config->env_file_count; i++) {
        struct env_file *file = NULL;

        if (env_file_read(&file, config->env_files[i], &err) < 0)
            buf_printf(problems, "--env-file: %s\n", err.text);
        else
            files->at[files->count++] = file;
        if (env_file_faults(file))
            buf_printf(problems, "%s\n", env_file_faults(file));
    }
    return 0;
}

static void files_release(struct files *files)
{
    for (size_t i = 0; i < files->count; i++)
        env_file_free(files->at[i]);
    free(files->at);
}

/* The variable's value: of the environment, or else of the last env file that has it. origin is for error
 * texts. */
static const char *look_up(const struct files *files, const char *variable, char *origin,
                           size_t size)
{
    const char *value = getenv(variable);

    snprintf(origin, size, "%s", variable);
    for (size_t i = files->count; i > 0 && !value; i--) {
        int line;

        value = env_file_get(files->at[i - 1], variable, &line);
        if (value)
            snprintf(origin, size, "%s:%d: %s", env_file_path(files->at[i - 1]), line, variable);
    }
    return value;
}

static void set_secret(struct config *config, const struct option *option,
                       const struct files *files, struct buf *problems)
{
    char variable[64], origin[512], file_origin[512];
    const char *value = look_up(files, option->variable, origin, sizeof(origin));
    const char *path;
    char *secret;

    snprintf(variable, sizeof(variable), "%s_FILE", option->variable);
    path = look_up(files, variable, file_origin, sizeof(file_origin));
    if (value && !*value)
        value = NULL; /* VARIABLE= is how one leaves a variable out in an env file */
    if (path && !*path)
        path = NULL;
    if (value && path) {
        buf_printf(problems, "%s and %s are both set: leave one out\n", origin, file_origin);
    } else if (value) {
        set_value(config, option, value, origin, problems);
    } else if (path) {
        secret = read_secret_file(path, file_origin, problems);
        if (secret) {
            set_value(config, option, secret, file_origin, problems);
            crypto_wipe(secret, strlen(secret));
            free(secret);
        }
    }
}

/* ------------------------------------------------------------------------- who said it */

/* The row of the member at value. */
static size_t row_of(const struct config *config, const void *value)
{
    ptrdiff_t offset = (const char *)value - (const char *)config;
    size_t i = 0;

    while ((ptrdiff_t)options[i].offset != offset) {
        i++;
        assert(i < ARRAY_LEN(options)); /* every member has its row */
    }
    return i;
}

bool config_is_given(const struct config *config, const void *value)
{
    return config->origins && config->origins[row_of(config, value)];
}

const char *config_origin(const struct config *config, const void *value)
{
    const struct option *option = &options[row_of(config, value)];

    if (config_is_given(config, value))
        return config->origins[option - options];
    return option->name ? option->name : option->variable;
}

static void keep_origin(struct config *config, const struct option *option, const char *origin)
{
    char **slot = &config->origins[option - options];

    free(*slot);
    *slot = strdup(origin); /* NULL: it is called by its option */
}

/* ------------------------------------------------------------------------- all together */

static void set_option(struct config *config, const struct option *option, const char *given,
                       const struct files *files, struct buf *problems)
{
    char origin[512];
    const char *value;

    if (option->kind == SECRET) {
        set_secret(config, option, files, problems);
        return;
    }
    if (option->fallback)
        set_value(config, option, option->fallback, option->name, problems);
    value = option->variable ? look_up(files, option->variable, origin, sizeof(origin)) : NULL;
    if (given) {
        value = given;
        snprintf(origin, sizeof(origin), "%s", option->name);
    } else if (value && !*value) {
        value = NULL;
    }
    if (value) {
        keep_origin(config, option, origin);
        set_value(config, option, value, origin, problems);
    }
    if (value && option->offset == AT(admin_listen))
        config->admin_listen_given = true;
}

static void warn_of_misspelt_in_file(struct config *config, const struct env_file *file)
{
    for (size_t i = 0; i < env_file_count(file); i++) {
        char origin[512];
        int line;
        const char *variable = env_file_at(file, i, &line);

        snprintf(origin, sizeof(origin), "%s:%d: ", env_file_path(file), line);
        misspelt_put(&config->warnings, variable, origin);
    }
}

static void warn_of_misspelt(struct config *config, const struct files *files)
{
    extern char **environ;

    for (char **entry = environ; *entry; entry++) {
        char variable[128];

        snprintf(variable, sizeof(variable), "%.*s", (int)strcspn(*entry, "="), *entry);
        misspelt_put(&config->warnings, variable, "");
    }
    for (size_t i = 0; i < files->count; i++)
        warn_of_misspelt_in_file(config, files->at[i]);
}

/* What is served at a path that nobody chooses. */
static const char *const fixed_paths[] = {"/healthz", ROUTES_USER_PATH};

static void check_path_is_free(const struct config *config, char *const *path, struct buf *problems)
{
    for (size_t i = 0; i < ARRAY_LEN(fixed_paths); i++)
        if (*path && strcmp(*path, fixed_paths[i]) == 0)
            buf_printf(problems, "%s: '%s' is taken; choose another path\n",
                       config_origin(config, path), *path);
}

/* One path leads to one place; where two want it, one of them would never be reached. */
static void check_paths(const struct config *config, struct buf *problems)
{
    check_path_is_free(config, &config->webhook_path, problems);
    check_path_is_free(config, &config->action_path, problems);
    if (config->webhook_path && config->action_path &&
        strcmp(config->webhook_path, config->action_path) == 0)
        buf_printf(problems, "%s and %s are both '%.200s': choose two\n",
                   config_origin(config, &config->webhook_path),
                   config_origin(config, &config->action_path), config->webhook_path);
}

/* Those that aren't options of the command are left out. */
static void list_own_paths(struct config *config)
{
    const char *const chosen[] = {config->webhook_path, config->action_path};
    size_t count = 0;

    static_assert(ARRAY_LEN(chosen) + ARRAY_LEN(fixed_paths) <= CONFIG_OWN_PATHS, "no room");
    for (size_t i = 0; i < ARRAY_LEN(fixed_paths); i++)
        config->own_paths[count++] = fixed_paths[i];
    for (size_t i = 0; i < ARRAY_LEN(chosen); i++)
        if (chosen[i])
            config->own_paths[count++] = chosen[i];
}

static void check_listener(const struct config *config, char *const *address, struct buf *problems)
{
    if (!http_can_listen(*address))
        buf_printf(problems, "%s: '%.200s' won't do: it must be %s\n",
                   config_origin(config, address), *address, ADDRESS_FORM);
}

/* Of a server. What isn't even an address has been told, and is NULL. */
static void check_listeners(const struct config *config, struct buf *problems)
{
    const char *world = config->listen, *admin = config->admin_listen;

    if (world)
        check_listener(config, &config->listen, problems);
    if (admin && strcmp(admin, "off") != 0)
        check_listener(config, &config->admin_listen, problems);
    if (world && admin && strcmp(strrchr(world, ':'), ":0") != 0 && strcmp(world, admin) == 0)
        buf_printf(problems, "%s and %s are both %s: give each its own port\n",
                   config_origin(config, &config->listen),
                   config_origin(config, &config->admin_listen), world);
}

/* Of a server: a certificate is nothing without its key. */
static void check_tls(const struct config *config, struct buf *problems)
{
    char *const *given = config->tls_cert ? &config->tls_cert : &config->tls_key;
    char *const *missing = config->tls_cert ? &config->tls_key : &config->tls_cert;

    if (*given && !*missing)
        buf_printf(problems, "%s is given without %s: they go together\n",
                   config_origin(config, given), config_origin(config, missing));
}

static void check_ordered(const struct config *config, struct buf *problems)
{
    if (config->ordered && !config->api_key)
        buf_printf(problems, "%s takes events from the Events API: it needs WORKOS_API_KEY\n",
                   config_origin(config, &config->ordered));
    if (config->ordered && config->poll_s == 0)
        buf_printf(problems, "%s takes events from the Events API: %s can't be off\n",
                   config_origin(config, &config->ordered), config_origin(config, &config->poll_s));
}

static void check_server(const struct config *config, struct buf *problems)
{
    check_tls(config, problems);
    check_listeners(config, problems);
    check_paths(config, problems);
    check_ordered(config, problems);
}

/* Who reaches the admin listener can read everything, and do much. */
static void check_admin(const struct config *config, int command, struct buf *problems)
{
    const char *address = config->admin_listen;
    const char *fault = config->admin_token ? value_admin_token_fault(config->admin_token) : NULL;

    if (fault)
        buf_printf(problems, "AUTHKITD_ADMIN_TOKEN won't do: it must be %s\n", fault);
    if ((command & SERVER) && !config->admin_token && address && strcmp(address, "off") != 0 &&
        !authority_is_loopback(address))
        buf_printf(
            problems,
            "%s: '%.200s' may be reached from other machines, whoever asks: set "
            "AUTHKITD_ADMIN_TOKEN (or AUTHKITD_ADMIN_TOKEN_FILE) to a long random text, such "
            "as openssl rand -hex 32 makes them, or listen on 127.0.0.1\n",
            config_origin(config, &config->admin_listen), address);
}

int config_read(struct config *config, int command, int argc, char **argv, struct err *err)
{
    struct buf problems = BUF_INIT(PROBLEMS_MAX);
    struct given given = {0};
    struct files files = {0};
    bool is_all_read;
    int rc = 0;

    *config = (struct config){.warnings = BUF_INIT(65536), .poll_s = -1};
    config->operands = calloc((size_t)argc + 1, sizeof(*config->operands));
    config->env_files = calloc((size_t)argc + 1, sizeof(*config->env_files));
    config->origins = calloc(ARRAY_LEN(options), sizeof(*config->origins));
    if (!config->operands || !config->env_files || !config->origins)
        return err_set(err, ERR_NOMEM, "no memory for the configuration");
    read_arguments(config, command, argc, argv, &given, &problems);
    if (config->help)
        goto out;
    if (files_read(&files, config, &problems) < 0) {
        rc = err_set(err, ERR_NOMEM, "no memory for the configuration");
        goto out;
    }
    is_all_read = problems.len == 0;
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (options[i].commands & command)
            set_option(config, &options[i], given.values[i], &files, &problems);
    warn_of_misspelt(config, &files);
    if (command & SERVER)
        check_server(config, &problems);
    check_admin(config, command, &problems);
    list_own_paths(config);
    if (config->poll_s < 0)
        config->poll_s = config->api_key ? 60 : 0;
    if (!buf_ok(&problems)) {
        rc = err_set(err, ERR_NOMEM, "the configuration has too many problems to tell them");
    } else if (problems.len > 0) {
        problems.data[problems.len - 1] = '\0';
        config->only_values = is_all_read;
        rc = err_set(err, ERR_INVALID, "%s", problems.data);
    }
out:
    files_release(&files);
    given_release(&given);
    buf_release(&problems);
    return rc;
}

void config_release(struct config *config)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        char **slot = text_slot(config, &options[i]);

        if (is_number(options[i].kind) || !*slot)
            continue;
        if (options[i].kind == SECRET)
            crypto_wipe(*slot, strlen(*slot));
        free(*slot);
        *slot = NULL;
    }
    for (size_t i = 0; config->origins && i < ARRAY_LEN(options); i++)
        free(config->origins[i]);
    free(config->origins);
    free(config->env_files);
    free(config->operands);
    buf_release(&config->warnings);
    config->origins = NULL;
    config->env_files = NULL;
    config->operands = NULL;
    config->env_file_count = 0;
    config->operand_count = 0;
}

void config_put_options(struct buf *out, int command)
{
    enum { COLUMN = 36 };

    if (!config_has_options(command))
        return;
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const struct option *option = &options[i];
        char left[64];

        if (!(option->commands & command))
            continue;
        snprintf(left, sizeof(left), "  %s%s%s", option->name ? option->name : option->variable,
                 option->argument ? " " : "", option->argument ? option->argument : "");
        buf_printf(out, "%-*s %s", COLUMN, left, option->help);
        if (option->kind == SECRET)
            buf_printf(out, " (or %s_FILE)", option->variable);
        if (is_list(option->kind))
            buf_printf(out, " (or repeat %s)", option->name);
        if (option->fallback)
            buf_printf(out, " [%s]", option->fallback);
        if (option->name && option->variable)
            buf_printf(out, "\n%-*s   %s", COLUMN, "", option->variable);
        buf_putc(out, '\n');
    }
    buf_printf(out, "%-*s %s\n", COLUMN, "  --env-file FILE",
               "read KEY=value lines first; the environment wins over them; repeatable");
}

bool config_has_options(int command)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (options[i].commands & command)
            return true;
    return false;
}

bool config_option_at(size_t i, struct config_option *out)
{
    if (i >= ARRAY_LEN(options))
        return false;
    *out = (struct config_option){
        .name = options[i].name,
        .variable = options[i].variable,
        .argument = options[i].argument,
        .fallback = options[i].fallback,
        .help = options[i].help,
        .choices = options[i].choices,
        .is_secret = options[i].kind == SECRET,
        .commands = options[i].commands,
    };
    return true;
}

static void put_number(const struct option *option, int64_t number, struct buf *out)
{
    if (option->kind == CHOICE)
        buf_puts(out, option->choices[number]);
    else if (option->kind == FLAG)
        buf_puts(out, number ? "true" : "false");
    else if (option->kind == SECONDS && number == 0)
        buf_puts(out, "off");
    else
        buf_printf(out, "%" PRId64, number);
}

bool config_put_value(const struct config *config, size_t i, struct buf *out)
{
    const struct option *option = &options[i];
    const void *slot = (const char *)config + option->offset;
    const char *text;

    if (is_number(option->kind)) {
        put_number(option, *(const int64_t *)slot, out);
        return true;
    }
    text = *(char *const *)slot;
    if (!text || option->kind == SECRET)
        return text != NULL;
    if (value_is_api_key(text))
        buf_puts(out, "(hidden)");
    else /* a key may stand behind a URL's '?' */
        buf_put(out, text, option->kind == KEYS_URL ? strcspn(text, "?") : strlen(text));
    return true;
}
