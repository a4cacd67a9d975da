/* SPDX-License-Identifier: MIT */
#include "app/server.h"

#include "admin/admin.h"
#include "admin/admin_guard.h"
#include "admin/certificate_status.h"
#include "admin/dashboard.h"
#include "admin/script_status.h"
#include "app/config_json.h"
#include "app/endpoints.h"
#include "app/reloader.h"
#include "app/service.h"
#include "app/tokens.h"
#include "auth/auth.h"
#include "base/clock.h"
#include "crypto/tls.h"
#include "fetch/fetch.h"
#include "http/server.h"
#include "routes/routes.h"
#include "store/db.h"
#include "store/lock.h"
#include "workos/backfill.h"
#include "workos/poller.h"
#include "workos/tables.h"
#include "workos/tally.h"
#include "workos/workos.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    THREADS = 128,
    ADMIN_THREADS = 4,
    MAX_CONNECTIONS = 4096,
    MAX_ADMIN_CONNECTIONS = 64,
    FILES_KEPT =
        192, /* for everything that isn't a connection from the world, if there are so many */
    REQUEST_TIMEOUT_MS = 10000,
    IDLE_TIMEOUT_MS = 75000, /* above the 60 s that proxies like to keep connections for */
    ADMIN_MAX_BODY = 65536,
    BODY_BUDGET = 128 * 1024 * 1024,
    ANSWER_BUDGET = 128 * 1024 * 1024,
    DRAIN_LEAST_MS = 100, /* for each part of the stop, however long those before it took */
};

struct server {
    const struct config *config;
    struct notify *notify;
    struct lock *lock;
    struct db *db;
    struct workos *workos;
    struct tls_server *tls;                        /* NULL: plain HTTP */
    struct certificate_status *certificate_status; /* with tls */
    struct script_status *script_status;
    struct reloader *reloader;
    struct backfill *backfill;
    struct auth *auth; /* NULL: no tokens are taken */
    struct routes *routes;
    struct endpoints endpoints;
    struct admin admin;
    struct http_server *admin_http;
    struct http_server *http;
    struct tally *tally;
    int64_t started_ms;
    atomic_bool failed;
    char note_path[SERVICE_PATH_MAX]; /* the watchdog's note, beside the database */
};

/* ------------------------------------------------------------------------- reload */

void server_ask_reload(struct server *server)
{
    if (server->reloader) /* none: it is stopped while it starts */
        reloader_ask(server->reloader);
}

/* Admin listener: an admin's reload. */
static int reload(void *arg, struct buf *report, struct err *err)
{
    struct server *server = arg;

    return reloader_run(server->reloader, report, err);
}

/* ------------------------------------------------------------------------- start */

/* HTTP worker. Routes' readers keep their locks on the log while one request comes after the other, and no
 * longer: other programs wait for them. */
static void on_waits(void *arg)
{
    (void)arg;
    db_end_kept_locks();
}

/* Writer thread: the disk can't be trusted any more. main stops the rest. */
static void on_fatal(void *arg, const struct err *err)
{
    struct server *server = arg;

    log_error("the database failed; stopping", log_str("error", err->text));
    atomic_store(&server->failed, true);
    kill(getpid(), SIGTERM);
}

/* Writer thread, as the next. */
static void on_installing(void *arg)
{
    struct server *server = arg;

    routes_installing(server->routes);
}

static void on_installed(void *arg, const struct script *script)
{
    struct server *server = arg;

    routes_installed(server->routes, script);
}

static struct log_field users_field(int64_t users)
{
    if (users > TALLY_GLANCE_USERS)
        return log_str("users", "more than 10000");
    return users >= 0 ? log_int("users", users) : log_str("users", NULL);
}

/* What is in it, before anything changes it. */
static void tell_database(struct server *server)
{
    const char *file = server->config->db;
    char *full_path = realpath(file, NULL);
    struct tally_counts counts;
    struct stat st = {0};

    tally_glance(server->tally, &counts); /* nobody waits for millions to be counted */
    stat(file, &st);
    log_info("database", log_str("file", full_path ? full_path : file),
             log_int("bytes", st.st_size), log_int("version", tables_version()),
             users_field(counts.users), log_int("failed", counts.events[EVENT_FAILED]),
             log_int("waiting", counts.events[EVENT_WAITING]),
             log_int("dead", counts.events[EVENT_DEAD]));
    free(full_path);
}

static int open_service(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct workos_opts opts;
    int rc = lock_acquire(&server->lock, config->db, err);

    if (rc == 0)
        rc = db_open(&server->db, config->db, DB_WRITER, err);
    if (rc == 0)
        rc = lock_database(server->lock, config->db, err);
    service_fill(&opts, config, server->db, server->note_path);
    opts.webhook_secret = config->webhook_secret;
    opts.action_secret = config->action_secret;
    opts.crowd = THREADS * 3 / 4;
    opts.ordered = config->ordered;
    opts.on_fatal = on_fatal;
    opts.installing = on_installing;
    opts.installed = on_installed;
    opts.arg = server;
    if (rc == 0)
        rc = workos_open(&server->workos, &opts, err);
    if (rc == 0)
        rc = tally_open(&server->tally, config->db, err);
    if (rc == 0)
        tell_database(server);
    return rc;
}

/* Before the first script is installed, since that is told to them. */
static int open_routes(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct tokens tokens;
    struct routes_opts opts = {
        .workos = server->workos,
        .db_path = config->db,
        .cors_origins = config->cors_origins,
    };
    int rc = 0;

    if (tokens_are_on(config)) {
        rc = tokens_fill(&tokens, config, err);
        if (rc == 0)
            rc = auth_start(&server->auth, &tokens.opts, err);
        tokens_release(&tokens);
    }
    opts.auth = server->auth;
    return rc < 0 ? rc : routes_new(&server->routes, &opts, err);
}

static int open_certificate(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct err dates;
    int64_t from_ms, to_ms;
    int rc;

    if (!config->tls_cert)
        return 0;
    rc = tls_server_new(&server->tls, config->tls_cert, config->tls_key, err);
    if (rc == 0)
        rc = certificate_status_new(&server->certificate_status, err);
    if (rc < 0)
        return rc;
    tls_server_get_dates(server->tls, &from_ms, &to_ms);
    certificate_status_loaded(server->certificate_status, from_ms, to_ms);
    if (tls_server_check_dates(server->tls, &dates) < 0)
        log_warn("certificate", log_str("what", dates.text));
    return 0;
}

static bool stop_is_asked_for(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

static int start_script(struct server *server, struct err *err)
{
    struct reloader_opts opts = {
        .config = server->config,
        .workos = server->workos,
        .tls = server->tls,
        .certificate = server->certificate_status,
        .notify = server->notify,
    };
    int rc = script_status_new(&server->script_status, server->config->handlers, err);

    opts.status = server->script_status;
    return rc < 0 ? rc : reloader_start(&server->reloader, &opts, stop_is_asked_for, err);
}

static int start_poller(struct server *server, struct err *err)
{
    struct workos_api_opts api;
    int rc = server->config->ordered ? 0 : poller_expect_nothing(server->workos, err);

    if (rc < 0 || !service_api(server->config, &api) || server->config->poll_s == 0)
        return rc;
    return workos_start_poller(server->workos, &api, server->config->poll_s * 1000, err);
}

static int make_backfill(struct server *server, struct err *err)
{
    struct workos_api_opts api;

    (void)service_api(server->config, &api); /* without a key none can be started */
    return backfill_new(&server->backfill, server->workos, &api, err);
}

/*
 * Each connection is a file, and who opens many must not take those of the script, the database and the
 * admin listener.
 */
static int connections_allowed(void)
{
    struct rlimit files;
    rlim_t kept;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= MAX_CONNECTIONS + FILES_KEPT)
        return MAX_CONNECTIONS;
    kept = files.rlim_cur / 2 < FILES_KEPT ? files.rlim_cur / 2 : FILES_KEPT;
    log_warn("there may be fewer connections than usual, for want of file descriptors: raise the "
             "hard limit (ulimit -n, LimitNOFILE=)",
             log_int("descriptors", (int64_t)files.rlim_cur),
             log_int("connections", (int64_t)(files.rlim_cur - kept)),
             log_int("usual", MAX_CONNECTIONS));
    return (int)(files.rlim_cur - kept);
}

static int start_admin(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct http_server_opts opts = {
        .address = config->admin_listen,
        .threads = ADMIN_THREADS,
        .max_body_bytes = ADMIN_MAX_BODY,
        .body_budget_bytes = BODY_BUDGET,
        .answer_budget_bytes = ANSWER_BUDGET,
        .request_timeout_ms = REQUEST_TIMEOUT_MS,
        .idle_timeout_ms = IDLE_TIMEOUT_MS,
        .max_connections = MAX_ADMIN_CONNECTIONS,
        .handle = admin_handle,
        .arg = &server->admin,
    };
    const struct admin_guard_opts guard = {
        .address = config->admin_listen,
        .token = config->admin_token,
    };
    const struct dashboard_opts dashboard = {
        .db_path = config->db,
        .script = server->script_status,
        .started_ms = server->started_ms,
        .has_webhook = config->webhook_secret != NULL,
        .has_action = config->action_secret != NULL,
        .has_api = config->api_key != NULL,
        .has_tokens = tokens_are_on(config),
        .has_admin_token = config->admin_token != NULL,
        .put_options = config_json_put,
        .arg = config,
    };
    int rc;

    if (strcmp(config->admin_listen, "off") == 0)
        return 0;
    server->admin = (struct admin){
        .workos = server->workos,
        .backfill = server->backfill,
        .routes = server->routes,
        .auth = server->auth,
        .tally = server->tally,
        .script = server->script_status,
        .certificate = server->certificate_status,
        .db_path = config->db,
        .started_ms = server->started_ms,
        .poll_s = config->poll_s,
        .reload = reload,
        .arg = server,
    };
    rc = admin_guard_new(&server->admin.guard, &guard, err);
    if (rc == 0)
        rc = dashboard_new(&server->admin.dashboard, &dashboard, err);
    if (rc < 0)
        return rc;
    rc = http_server_start(&server->admin_http, &opts, err);
    if (rc < 0)
        return err_prefix(err, "%s: ", config_origin(config, &config->admin_listen));
    return lock_describe(server->lock, http_server_address(server->admin_http), err);
}

static int start_http(struct server *server, struct err *err)
{
    const struct config *config = server->config;
    struct http_server *http = NULL;
    struct http_server_opts opts = {
        .address = config->listen,
        .threads = THREADS,
        .max_body_bytes = (size_t)config->max_body,
        .body_budget_bytes = BODY_BUDGET,
        .answer_budget_bytes = ANSWER_BUDGET,
        .request_timeout_ms = REQUEST_TIMEOUT_MS,
        .idle_timeout_ms = IDLE_TIMEOUT_MS,
        .max_connections = connections_allowed(),
        .urgent_path = config->action_path,
        .handle = endpoints_handle,
        .refusing = endpoints_refusing,
        .waits = on_waits,
        .arg = &server->endpoints,
    };
    int rc;

    if (server->tls)
        opts.tls_ctx = tls_server_ctx(server->tls);
    server->endpoints = (struct endpoints){
        .workos = server->workos,
        .routes = server->routes,
        .webhook_path = config->webhook_path,
        .action_path = config->action_path,
    };
    rc = http_server_start(&http, &opts, err);
    if (rc < 0)
        return err_prefix(err, "%s: ", config_origin(config, &config->listen));
    server->http = http;
    atomic_store(&server->admin.http, http);
    return 0;
}

static void log_endpoint(const char *name, const char *secret, const char *variable,
                         const char *base, const char *path)
{
    char url[512];

    snprintf(url, sizeof(url), "%s%s", base, path);
    if (secret)
        log_info("endpoint", log_str("name", name), log_str("url", url));
    else
        log_warn("endpoint is off", log_str("name", name), log_str("why", "it has no secret"),
                 log_str("set", variable));
}

/* Not a warning where it is off: many have no pages that call. */
static void log_user_endpoint(const struct server *server, const char *base)
{
    char url[512];

    snprintf(url, sizeof(url), "%s%s", base, ROUTES_USER_PATH);
    if (server->auth)
        log_info("endpoint", log_str("name", "user"), log_str("url", url));
    else
        log_info("endpoint is off", log_str("name", "user"),
                 log_str("why", "no access tokens are taken"), log_str("set", "WORKOS_CLIENT_ID"));
}

/* Whether what no webhook brings is fetched, and why not. */
static void log_poll(const struct server *server)
{
    const struct config *config = server->config;

    if (workos_poller(server->workos))
        log_info("the Events API is read", log_int("every_s", config->poll_s),
                 log_str("ordered", config->ordered ? "yes" : "no"));
    else if (config->api_key)
        log_info("the Events API is not read", log_str("why", "--poll is off"));
    else
        log_info("the Events API is not read", log_str("why", "there is no API key"),
                 log_str("set", "WORKOS_API_KEY"));
}

static void tell_start(const struct server *server)
{
    const struct config *config = server->config;
    char url[256], status[NOTIFY_STATUS_MAX];

    if (server->admin_http) {
        snprintf(url, sizeof(url), "http://%s", http_server_address(server->admin_http));
        log_info("admin listening", log_str("url", url));
    }
    snprintf(url, sizeof(url), "%s://%s", server->tls ? "https" : "http",
             http_server_address(server->http));
    log_endpoint("webhook", config->webhook_secret, "WORKOS_WEBHOOK_SECRET", url,
                 config->webhook_path);
    log_endpoint("action", config->action_secret, "WORKOS_ACTION_SECRET", url, config->action_path);
    log_user_endpoint(server, url);
    log_poll(server);
    log_info("listening", log_str("url", url));
    snprintf(status, sizeof(status), "serving %s", url);
    notify_ready(server->notify, status);
}

static int set_up_fetch(struct server *server, struct err *err)
{
    (void)server;
    return fetch_set_up(err);
}

/* After each step: has somebody asked us to end? Then the rest needn't be. */
static int run_steps(struct server *server, struct err *err)
{
    static int (*const steps[])(struct server * server, struct err * err) = {
        set_up_fetch, open_service,  open_routes, open_certificate, start_script,
        start_poller, make_backfill, start_admin, start_http,
    };

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        int rc = steps[i](server, err);

        if (rc < 0)
            return rc;
        if (stop_is_asked_for())
            return err_set(err, ERR_CLOSED, "the server is asked to stop");
    }
    return 0;
}

int server_start(struct server **out, const struct config *config, struct notify *notify,
                 struct err *err)
{
    struct server *server = calloc(1, sizeof(*server));
    bool left;
    int rc;

    if (!server)
        return err_set(err, ERR_NOMEM, "no memory for the server");
    server->config = config;
    server->notify = notify;
    server->started_ms = clock_wall_ms();
    log_info("authkitd starting", log_str("version", AUTHKITD_VERSION),
             log_str("sqlite", db_library_version()), log_int("pid", getpid()));
    rc = run_steps(server, err);
    if (rc < 0 && !(rc == ERR_CLOSED && stop_is_asked_for())) {
        (void)server_stop(server, &left);
        if (left)
            _exit(1);
        return rc;
    }
    *out = server;
    if (rc == 0)
        tell_start(server);
    return rc;
}

/* ------------------------------------------------------------------------- stop */

bool server_has_failed(const struct server *server)
{
    return atomic_load(&server->failed);
}

/* Everything is committed; the checkpoint only spares the next start the work. Unless there is no file to start
 * with any more, or none that can be trusted. */
static void close_database(struct server *server)
{
    struct err err;
    int rc = server->db && !server_has_failed(server) ? db_checkpoint(server->db, &err) : 0;

    if (rc == ERR_FATAL) {
        log_error("the database failed at the end", log_str("error", err.text));
        atomic_store(&server->failed, true);
    } else if (rc < 0) {
        log_warn("no checkpoint at the end", log_str("error", err.text));
    }
    db_close(server->db);
}

static int ms_until(int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - clock_mono_ms();

    return left_ms > DRAIN_LEAST_MS ? (int)left_ms : DRAIN_LEAST_MS;
}

/* False when some are still running. */
static bool drain_requests(struct server *server, int64_t deadline_ms)
{
    int rc = 0;

    if (server->http)
        rc |= http_server_drain(server->http, ms_until(deadline_ms));
    if (server->admin_http)
        rc |= http_server_drain(server->admin_http, ms_until(deadline_ms));
    if (rc < 0)
        log_warn("stopped with requests still running; none of them was acknowledged");
    return rc == 0;
}

/* Everything that a script that is loading doesn't need. */
static void take_down(struct server *server)
{
    http_server_free(server->http);
    http_server_free(server->admin_http);
    admin_guard_free(server->admin.guard);
    dashboard_free(server->admin.dashboard); /* its connection, before the last one checkpoints */
    tls_server_free(server->tls);
    backfill_free(server->backfill);
    workos_close(server->workos);
    routes_free(server->routes); /* its connections, before the last one checkpoints */
    auth_stop(server->auth);
    tally_close(server->tally);
    close_database(server);
    lock_release(server->lock);
}

int server_stop(struct server *server, bool *out_left)
{
    int64_t deadline_ms = clock_mono_ms() + SERVER_DRAIN_MS;
    enum reloader_end end;
    int rc;

    *out_left = true;
    reloader_refuse(server->reloader); /* first, since requests may wait for it, or for a reading */
    if (server->workos)
        poller_refuse(workos_poller(server->workos));
    backfill_refuse(server->backfill);
    auth_refuse(server->auth);
    if (!drain_requests(server, deadline_ms))
        return server_has_failed(server) ? ERR_FATAL : 0;
    end = reloader_stop(server->reloader, ms_until(deadline_ms));
    if (end == RELOADER_LEFT_INSTALLING) {
        log_warn("stopped while a new schema was being made; what of it isn't committed is undone");
        return server_has_failed(server) ? ERR_FATAL : 0;
    }
    take_down(server);
    rc = server_has_failed(server) ? ERR_FATAL : 0;
    if (end == RELOADER_LEFT_LOADING) {
        log_warn("stopped while a script was loading");
        return rc; /* its thread reads the server's configuration */
    }
    script_status_free(server->script_status);
    certificate_status_free(server->certificate_status);
    free(server);
    *out_left = false;
    return rc;
}
