/* SPDX-License-Identifier: MIT */
#include "app/server.h"

#include "app/admin.h"
#include "app/handlers.h"
#include "app/routes.h"
#include "base/clock.h"
#include "crypto/tls.h"
#include "http/server.h"
#include "script/script.h"
#include "store/db.h"
#include "store/lock.h"
#include "workos/workos.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    THREADS = 128,
    ADMIN_THREADS = 4,
    MAX_CONNECTIONS = 4096,
    MAX_QUEUE = 1024,
    REQUEST_TIMEOUT_MS = 10000,
    IDLE_TIMEOUT_MS = 75000, /* above the 60 s that proxies like to keep connections for */
    ADMIN_MAX_BODY = 65536,
    BODY_BUDGET = 128 * 1024 * 1024,
};

struct server {
    const struct config *config;
    struct lock *lock;
    struct db *db;
    struct workos *workos;
    struct tls_server *tls;
    struct routes routes;
    struct admin admin;
    struct http_server *admin_http;
    struct http_server *http;
    pthread_mutex_t reload_lock; /* one reload at a time */
    atomic_bool failed;
    char note_path[PATH_MAX]; /* the watchdog's note, beside the database */
};

/* ------------------------------------------------------------------------- the script */

static const char *or_none(const char *names)
{
    return *names ? names : "none";
}

/* A line of the log for each line of the report. */
static void log_report(const struct buf *report)
{
    const char *at = buf_text(report);

    while (*at) {
        size_t len = strcspn(at, "\n");
        const char warning[] = "warning: ";
        bool is_warning = strncmp(at, warning, strlen(warning)) == 0;

        log_write(is_warning ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
                  is_warning ? "schema" : "schema changed",
                  LOG_FIELDS(log_bytes("what", is_warning ? at + strlen(warning) : at,
                                       is_warning ? len - strlen(warning) : len)));
        at += len + (at[len] == '\n');
    }
}

static void log_script(const struct server *server, const char *events, const char *actions,
                       bool has_routes)
{
    log_info("script loaded", log_str("file", server->config->handlers), log_str("events", events),
             log_str("actions", actions));
    if (!server->config->action_secret && strcmp(actions, "none") != 0)
        log_warn("the script has action functions, but the action endpoint is off: set "
                 "WORKOS_ACTION_SECRET");
    if (has_routes)
        log_warn("the script declares routes, which this version doesn't serve yet");
}

/* Load, and make it the running one. */
static int load_script(struct server *server, struct buf *report, int64_t *out_renewed,
                       struct err *err)
{
    struct script *script = NULL;
    char events[4096], actions[256];
    int64_t renewed = 0;
    bool has_routes;
    int rc = handlers_load(&script, server->config, err);

    if (rc < 0)
        return rc;
    /* Copied before it is installed: from then on it is the writer's, and may be freed. */
    snprintf(events, sizeof(events), "%s", or_none(script_event_names(script)));
    snprintf(actions, sizeof(actions), "%s", or_none(script_action_names(script)));
    has_routes = script_has_routes(script);
    rc = workos_install(server->workos, script, report, &renewed, err);
    if (rc < 0) {
        script_free(script);
        return rc;
    }
    log_report(report);
    log_script(server, events, actions, has_routes);
    if (renewed)
        log_info("failed events run again with it", log_int("count", renewed));
    if (out_renewed)
        *out_renewed = renewed;
    return 0;
}

static void reload_certificate(struct server *server)
{
    struct err err;

    if (!server->tls)
        return;
    if (tls_server_reload(server->tls, &err) < 0)
        log_error("certificate refused; the old one goes on", log_str("error", err.text));
    else
        log_info("certificate loaded", log_str("file", server->config->tls_cert));
}

int server_reload(struct server *server, struct buf *report, int64_t *out_renewed, struct err *err)
{
    int rc;

    pthread_mutex_lock(&server->reload_lock);
    reload_certificate(server);
    rc = load_script(server, report, out_renewed, err);
    if (rc < 0)
        log_error("script refused; the old one goes on", log_str("file", server->config->handlers),
                  log_str("error", err->text));
    pthread_mutex_unlock(&server->reload_lock);
    return rc;
}

/* ------------------------------------------------------------------------- start */

struct workos *server_workos(struct server *server)
{
    return server->workos;
}

/* Writer thread: the disk can't be trusted any more. main stops the rest. */
static void on_fatal(void *arg, const struct err *err)
{
    struct server *server = arg;

    log_error("the database failed; stopping", log_str("error", err->text));
    atomic_store(&server->failed, true);
    kill(getpid(), SIGTERM);
}

static int open_service(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct workos_opts opts = {
        .webhook_secret = config->webhook_secret,
        .action_secret = config->action_secret,
        .action_on_error = (enum workos_action_on_error)config->action_on_error,
        .max_queue = MAX_QUEUE,
        .crowd = THREADS * 3 / 4,
        .retention_days = config->retention_days,
        .handler_timeout_ms = (int)config->handler_timeout_ms,
        .action_timeout_ms = (int)config->action_timeout_ms,
        .note_path = server->note_path,
        .on_fatal = on_fatal,
        .arg = server,
    };
    int rc;

    snprintf(server->note_path, sizeof(server->note_path), "%s.watchdog", config->db);
    rc = lock_acquire(&server->lock, config->db, err);
    if (rc == 0)
        rc = db_open(&server->db, config->db, DB_WRITER, err);
    opts.db = server->db;
    if (rc == 0)
        rc = workos_open(&server->workos, &opts, err);
    return rc;
}

static int start_script(struct server *server, struct err *err)
{
    struct buf report = BUF_INIT(65536);
    int rc = load_script(server, &report, NULL, err);

    buf_release(&report);
    return rc;
}

static int start_admin(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct http_server_opts opts = {
        .address = config->admin_listen,
        .threads = ADMIN_THREADS,
        .max_body_bytes = ADMIN_MAX_BODY,
        .body_budget_bytes = BODY_BUDGET,
        .request_timeout_ms = REQUEST_TIMEOUT_MS,
        .idle_timeout_ms = IDLE_TIMEOUT_MS,
        .max_connections = 64,
        .handle = admin_handle,
        .arg = &server->admin,
    };
    int rc;

    if (strcmp(config->admin_listen, "off") == 0)
        return 0;
    server->admin = (struct admin){.server = server};
    rc = http_server_start(&server->admin_http, &opts, err);
    if (rc < 0)
        return err_prefix(err, "--admin-listen: ");
    return lock_describe(server->lock, http_server_address(server->admin_http), err);
}

static int start_http(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct http_server_opts opts = {
        .address = config->listen,
        .threads = THREADS,
        .max_body_bytes = (size_t)config->max_body,
        .body_budget_bytes = BODY_BUDGET,
        .request_timeout_ms = REQUEST_TIMEOUT_MS,
        .idle_timeout_ms = IDLE_TIMEOUT_MS,
        .max_connections = MAX_CONNECTIONS,
        .handle = routes_handle,
        .arg = &server->routes,
    };
    int rc = 0;

    if (config->tls_cert)
        rc = tls_server_new(&server->tls, config->tls_cert, config->tls_key, err);
    if (rc < 0)
        return rc;
    if (server->tls)
        opts.tls_ctx = tls_server_ctx(server->tls);
    server->routes = (struct routes){
        .workos = server->workos,
        .webhook_path = config->webhook_path,
        .action_path = config->action_path,
    };
    rc = http_server_start(&server->http, &opts, err);
    return rc < 0 ? err_prefix(err, "--listen: ") : 0;
}

static void log_endpoint(const char *name, const char *secret, const char *variable,
                         const char *base, const char *path)
{
    char url[512];

    snprintf(url, sizeof(url), "%s%s", base, path);
    if (secret)
        log_info("endpoint", log_str("name", name), log_str("url", url));
    else
        log_warn("endpoint is off", log_str("name", name), log_str("set", variable));
}

static void log_start(const struct server *server)
{
    const struct config *config = server->config;
    char url[256];

    if (server->admin_http) {
        snprintf(url, sizeof(url), "http://%s", http_server_address(server->admin_http));
        log_info("admin listening", log_str("url", url));
    }
    snprintf(url, sizeof(url), "%s://%s", server->tls ? "https" : "http",
             http_server_address(server->http));
    log_endpoint("webhook", config->webhook_secret, "WORKOS_WEBHOOK_SECRET", url,
                 config->webhook_path);
    log_endpoint("action", config->action_secret, "WORKOS_ACTION_SECRET", url, config->action_path);
    log_info("listening", log_str("url", url));
}

int server_start(struct server **out, const struct config *config, struct err *err)
{
    struct server *server = calloc(1, sizeof(*server));
    int rc;

    if (!server)
        return err_set(err, ERR_NOMEM, "no memory for the server");
    server->config = config;
    pthread_mutex_init(&server->reload_lock, NULL);
    log_info("authkitd starting", log_str("version", AUTHKITD_VERSION), log_str("db", config->db),
             log_str("sqlite", db_library_version()), log_int("pid", getpid()));
    rc = open_service(server, err);
    if (rc == 0)
        rc = start_script(server, err);
    if (rc == 0)
        rc = start_admin(server, err);
    if (rc == 0)
        rc = start_http(server, err);
    if (rc < 0) {
        if (server_stop(server) == ERR_BUSY)
            _exit(1);
        return rc;
    }
    log_start(server);
    *out = server;
    return 0;
}

/* ------------------------------------------------------------------------- stop */

static bool has_failed(const struct server *server)
{
    return atomic_load(&server->failed);
}

/* Everything is committed; the checkpoint only spares the next start the work. */
static void close_database(struct server *server)
{
    struct err err;

    if (server->db && !has_failed(server) && db_checkpoint(server->db, &err) < 0)
        log_warn("no checkpoint at the end", log_str("error", err.text));
    db_close(server->db);
}

int server_stop(struct server *server)
{
    int64_t deadline_ms = clock_mono_ms() + SERVER_DRAIN_MS;
    int busy = 0, rc;

    if (server->http)
        busy |= http_server_drain(server->http, SERVER_DRAIN_MS);
    if (server->admin_http) {
        int64_t left_ms = deadline_ms - clock_mono_ms();

        busy |= http_server_drain(server->admin_http, left_ms > 100 ? (int)left_ms : 100);
    }
    if (busy < 0) /* threads still use the service: it can't be taken down under them */
        return ERR_BUSY;
    http_server_free(server->http);
    http_server_free(server->admin_http);
    tls_server_free(server->tls);
    workos_close(server->workos);
    close_database(server);
    lock_release(server->lock);
    pthread_mutex_destroy(&server->reload_lock);
    rc = has_failed(server) ? ERR_FATAL : 0;
    free(server);
    return rc;
}
