/* SPDX-License-Identifier: MIT */
/*
 * config - what the user asked for: command line, environment, env files, in that order of weight.
 *
 * One table (config.c) holds every option with its variable, its default and the commands that take
 * it; the help texts are made of it. This is the only place that reads the environment, but for what
 * the supervisor puts there (notify.h).
 *
 * Threads    main, before others start; read by anybody afterwards.
 * Ownership  a config owns its strings; config_release wipes the secrets.
 * Errors     ERR_INVALID: the text has a line for every problem, each naming the option, the
 *            variable or the file and line at fault.
 */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which commands take an option. */
enum {
    FOR_SERVE = 1,
    FOR_CHECK = 2,
    FOR_SEND = 4,
    FOR_RELOAD = 8,
    FOR_EVENTS = 16,
    FOR_RETRY = 32,
    FOR_BACKFILL = 64,
    FOR_RECONCILE = 128,
    FOR_SETUP = 256,
    FOR_BACKUP = 512,
    FOR_MAINTAIN = 1024,
    FOR_INIT = 1 << 20, /* these three take a word and no option */
    FOR_COMPLETION = 1 << 21,
    FOR_HELP = 1 << 22,
};

enum { CONFIG_OWN_PATHS = 4 };

struct config {
    /* serve and check */
    char *handlers;
    char *db;
    char *listen;
    char *admin_listen; /* "off" for none */
    char *admin_token; /* NULL when not set; never logged. Of the commands that ask a server, too */
    char *tls_cert;    /* NULL: plain HTTP */
    char *tls_key;
    char *webhook_path;
    char *action_path;
    int64_t max_body;
    int64_t handler_timeout_ms;
    int64_t action_timeout_ms;
    int64_t handler_memory;
    int64_t action_on_error; /* enum workos_action_on_error */
    int64_t retention_days;
    int64_t log_level;
    int64_t log_format;
    char *webhook_secret; /* NULL when not set; never logged */
    char *action_secret;

    /* WorkOS's API */
    char *api_key; /* NULL when not set; never logged */
    char *api_hostname;
    int64_t api_port;
    int64_t api_https;
    int64_t poll_s; /* 0: off; -1: not said, which is 60 with an API key */
    int64_t ordered;

    /* access tokens and routes; lists are joined by commas, without blanks. NULL: not given. What is
     * used then, tokens.h knows. */
    char *client_id;
    char *jwks_url;
    char *issuers;
    char *audiences;
    char *cors_origins; /* "*", or scheme://host[:port] */

    /* send */
    char *data;
    char *url;
    char *event_id;
    char *object_id;
    int64_t insecure;
    int64_t list;

    /* setup */
    char *write;  /* an env file; NULL: none */
    char *events; /* event types by commas; NULL: those that are needed */

    /* events, retry */
    int64_t status; /* index in config_statuses; 0: any */
    char *type;     /* NULL: any */
    int64_t limit;
    int64_t json;
    int64_t follow;
    int64_t all;

    /* backfill */
    int64_t no_handlers;
    int64_t prune;
    int64_t prune_most; /* implies prune */
    int64_t yes;
    int64_t pages_per_s;
    int64_t give_up_s;

    /* backup, maintain */
    int64_t force;
    int64_t check;

    /* Where something of ours is served: no route of a script can be there. Borrowed from above. */
    const char *own_paths[CONFIG_OWN_PATHS];

    /* what was given, with default or not */
    bool admin_listen_given;
    const char **env_files; /* the last one wins; borrowed from argv, as the operands are */
    size_t env_file_count;
    const char **operands; /* send's TYPE, retry's IDs, backup's FILE */
    size_t operand_count;
    bool help;
    bool only_values; /* config_read failed, and for nothing but values: those count as not given */
    char **origins;   /* config.c's: config_origin */

    struct buf warnings; /* a line each: a variable that is probably misspelt */
};

/* "any", "done", "failed", "waiting", "dead", "expected"; NULL-terminated. */
extern const char *const config_statuses[];

/* argv without the program and the command. */
int config_read(struct config *config, int command, int argc, char **argv, struct err *err)
    MUST_CHECK;
void config_release(struct config *config);

/*
 * Who said what a member is, for an error text about it: "--listen", "AUTHKITD_LISTEN" or "prod.env:3:
 * AUTHKITD_LISTEN". The option's name for what nobody said. value is the member's address, &config->listen.
 */
const char *config_origin(const struct config *config, const void *value);

/* Has anybody said it? */
bool config_is_given(const struct config *config, const void *value);

/* The options that the command takes, as the help shows them. */
void config_put_options(struct buf *out, int command);
bool config_has_options(int command);

/* A row of the table, for what is made of it besides the help. */
struct config_option {
    const char *name;     /* "--listen"; NULL: environment only */
    const char *variable; /* NULL: command line only */
    const char *argument; /* "FILE"; NULL: a flag */
    const char *fallback; /* NULL: none */
    const char *help;
    const char *const *choices; /* NULL-terminated; NULL: any value */
    bool is_secret;
    int commands; /* FOR_… */
};

/* The row number i; false when there is none. All texts are static. */
bool config_option_at(size_t i, struct config_option *out);

/* Append what that row's value is, as one would write it; of a secret nothing, and nothing of what may be
 * one. False: it isn't set. */
bool config_put_value(const struct config *config, size_t i, struct buf *out);

#endif
