/* SPDX-License-Identifier: MIT */
#include "routes/routes.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/repeat.h"
#include "crypto/hmac.h"
#include "routes/cors.h"
#include "routes/current_user.h"
#include "routes/etag.h"
#include "routes/readers.h"
#include "workos/watchdog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_ID_BYTES = 8, NAME_MAX_BYTES = 256, PATH_SHOWN_MAX = 200 };

struct routes {
    struct routes_opts opts;
    struct readers *readers;
    struct cors *cors;
    struct routes_counts counts;
    struct repeats repeats;
};

const char *const routes_method_names[ROUTES_METHODS] = {"GET",   "HEAD",   "POST",    "PUT",
                                                         "PATCH", "DELETE", "OPTIONS", "other"};

/* ------------------------------------------------------------------------- answers */

/* As much of it as leaves room in the log's line for what goes wrong. */
static struct log_field path_field(const struct http_request *request)
{
    return log_bytes("path", request->path, strnlen(request->path, PATH_SHOWN_MAX));
}

/* The log has what happened, under the same id: a line for each, but not always with the traceback. */
static void failed(struct routes *routes, const struct http_request *request,
                   struct http_response *response, const struct err *why)
{
    bool is_news =
        repeat_may(&routes->repeats, clock_mono_ms(), "traceback of a route's function", why->text);
    size_t shown = is_news ? strlen(why->text) : strcspn(why->text, "\n");
    unsigned char random[REQUEST_ID_BYTES] = {0};
    char id[2 * REQUEST_ID_BYTES + 1];
    struct err err;

    if (crypto_random(random, sizeof(random), &err) < 0)
        log_error("no request id", log_str("error", err.text));
    crypto_hex(random, sizeof(random), id);
    log_error("route failed", log_str("method", request->method), path_field(request),
              log_str("request_id", id), log_bytes("error", why->text, shown));
    response->status = 500;
    buf_reset(&response->body);
    buf_printf(&response->body,
               "{\"error\":{\"code\":\"route_failed\",\"message\":\"the function for this route "
               "failed; the log says why, under this request_id\",\"request_id\":\"%s\"}}",
               id);
    http_response_put_header(response, "X-Request-ID", id);
}

static void cannot_answer(struct routes *routes, const struct http_request *request,
                          struct http_response *response, const struct err *why)
{
    switch (why->code) {
    case ERR_SCRIPT:
    case ERR_LIMIT:
    case ERR_CONFLICT: /* these two: of a transaction that the function has lost or broken */
    case ERR_INVALID:
        failed(routes, request, response, why);
        return;
    case ERR_FULL:
        http_response_unavailable(response, "disk_full", "there is no room on the server's disk");
        break;
    case ERR_BUSY:
        http_response_unavailable(response, "busy", "too much is going on; try again in a moment");
        break;
    default:
        http_response_unavailable(response, "unavailable",
                                  "the request could not be served; try again");
    }
    static struct log_limit limit;
    if (log_may(&limit))
        log_warn("route not served", log_str("method", request->method), path_field(request),
                 log_str("error", why->text));
}

static void not_found(struct http_response *response)
{
    http_response_error(response, 404, "not_found", "there is nothing at this path");
}

static bool is_reading(const struct http_request *request)
{
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

/* ------------------------------------------------------------------------- who calls */

/* Two of them, and nobody knows which one the proxy in front has looked at. */
static void check_caller(struct routes *routes, const struct http_request *request,
                         struct auth_session *session)
{
    const char *authorization = http_request_header(request, "Authorization");

    if (!routes->opts.auth)
        *session = (struct auth_session){
            .status = AUTH_UNAVAILABLE,
            .code = "tokens_off",
            .message = "this server takes no tokens: WORKOS_CLIENT_ID isn't set",
        };
    else if (http_request_header_count(request, "Authorization") > 1)
        *session = (struct auth_session){
            .status = AUTH_REFUSED,
            .code = "token_invalid",
            .message = "there is more than one Authorization header",
        };
    else
        auth_check(routes->opts.auth, authorization, session);
}

static struct script_caller caller_of(const struct auth_session *session)
{
    return (struct script_caller){
        .claims = session->status == AUTH_OK ? &session->claims : NULL,
        .user_id = session->user_id,
        .status = session->status == AUTH_UNAVAILABLE ? 503 : 401,
        .code = session->code,
        .message = session->message,
    };
}

/* ------------------------------------------------------------------------- GET /workos/user */

static int read_user(struct routes *routes, const char *id, struct buf *out, struct err *err)
{
    struct reader *reader = NULL;
    int rc = readers_take(routes->readers, &reader, err);

    if (rc < 0)
        return rc;
    rc = current_user_put(reader, id, out, err);
    readers_give_back(routes->readers, reader);
    return rc;
}

static void answer_user(struct routes *routes, const struct http_request *request,
                        struct http_response *response)
{
    struct auth_session session;
    struct script_caller caller;
    struct err err;
    int rc;

    if (strcmp(request->method, "OPTIONS") == 0) {
        response->status = 204;
        http_response_put_header(response, "Allow", "GET, HEAD, OPTIONS");
        return;
    }
    if (!is_reading(request)) {
        http_response_wrong_method(response, "GET, HEAD, OPTIONS");
        return;
    }
    check_caller(routes, request, &session);
    caller = caller_of(&session);
    if (!caller.claims) {
        script_refuse_caller(&caller, response);
    } else {
        rc = read_user(routes, session.user_id, &response->body, &err);
        if (rc == 0)
            http_response_error(response, 404, "user_not_found",
                                "the token is good, but its user isn't here");
        else if (rc < 0)
            cannot_answer(routes, request, response, &err);
    }
    auth_session_release(&session);
}

/* ------------------------------------------------------------------------- authkit.routes */

/* "GET /todos": what the watchdog calls a function. */
static void put_name(const struct http_request *request, char out[NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, "%s %s", request->method, request->path);
}

static void reset_response(struct http_response *response)
{
    buf_reset(&response->body);
    buf_reset(&response->headers);
    response->status = 200;
    response->content_type = NULL;
    response->own_type[0] = '\0';
}

static int run_function(struct routes *routes, struct script *script, struct db *db,
                        struct script_route_call *call, struct http_response *response,
                        struct err *err)
{
    int64_t began_ns = clock_mono_ns();
    int rc = script_run_route(script, db, call, response, err);

    metric_observe(&routes->counts.functions, &metric_scale_seconds,
                   (uint64_t)(clock_mono_ns() - began_ns));
    return rc;
}

/* It may hang where no time limit ends it, as any function; the watchdog sees that. */
static int run_on_reader(struct routes *routes, struct reader *reader,
                         struct script_route_call *call, struct http_response *response,
                         struct err *err)
{
    struct watchdog *watchdog = workos_watchdog(routes->opts.workos);
    struct watchdog_watch watch;
    char name[NAME_MAX_BYTES];
    int rc;

    put_name(call->request, name);
    watchdog_begin(watchdog, &watch, name);
    rc = run_function(routes, reader->script, reader->db, call, response, err);
    watchdog_end(watchdog, &watch);
    return rc;
}

static int read_once(struct routes *routes, struct script_route_call *call,
                     struct http_response *response, bool *out_outdated, struct err *err)
{
    struct reader *reader = NULL;
    int rc = readers_take(routes->readers, &reader, err);

    *out_outdated = false;
    if (rc < 0)
        return rc;
    rc = readers_begin(reader, err);
    if (rc == 0) {
        rc = run_on_reader(routes, reader, call, response, err);
        readers_end(reader);
    }
    if (rc < 0 && !call->refused)
        *out_outdated = readers_is_outdated(routes->readers, reader);
    readers_give_back(routes->readers, reader);
    return rc;
}

/* An error may come of a script and a schema that don't belong together any more (readers.h). */
static int run_reading(struct routes *routes, struct script_route_call *call,
                       struct http_response *response, struct err *err)
{
    bool is_outdated;
    int rc = read_once(routes, call, response, &is_outdated, err);

    if (!is_outdated)
        return rc;
    reset_response(response);
    return read_once(routes, call, response, &is_outdated, err);
}

struct writing {
    struct workos_call call; /* first: it is cast back */
    struct routes *routes;
    struct script_route_call *route_call;
    struct http_response *response;
};

static int run_on_writer(struct workos_call *call, struct script *script, struct db *db,
                         struct err *err)
{
    struct writing *writing = (struct writing *)call;

    reset_response(writing->response); /* it may have run before, in a batch that was lost */
    writing->route_call->refused = false;
    if (!script)
        return err_set(err, ERR_ABSENT, "there is no script");
    return run_function(writing->routes, script, db, writing->route_call, writing->response, err);
}

static int run_writing(struct routes *routes, struct script_route_call *call,
                       struct http_response *response, struct err *err)
{
    char name[NAME_MAX_BYTES];
    struct writing writing = {
        .call = {.name = name, .run = run_on_writer},
        .routes = routes,
        .route_call = call,
        .response = response,
    };

    put_name(call->request, name);
    return workos_run(routes->opts.workos, &writing.call, err);
}

static void run_route(struct routes *routes, const struct http_request *request,
                      struct http_response *response)
{
    struct auth_session session;
    struct script_caller caller;
    struct script_route_call call = {
        .request = request, .caller = &caller, .read_only = is_reading(request)};
    struct err err;
    int rc;

    check_caller(routes, request, &session);
    caller = caller_of(&session);
    if (call.read_only)
        rc = run_reading(routes, &call, response, &err);
    else
        rc = run_writing(routes, &call, response, &err);
    auth_session_release(&session);
    if (call.read_only && readers_wal_is_stuck(routes->readers)) {
        readers_pause(routes->readers);
        workos_empty_wal(routes->opts.workos);
    }
    if (rc == 0 || (call.refused && rc == ERR_SCRIPT))
        return;
    reset_response(response);
    if (rc == ERR_ABSENT)
        not_found(response); /* it was there a moment ago */
    else
        cannot_answer(routes, request, response, &err);
}

/* The script's answer to OPTIONS is made here: what there is at the path. */
static void answer_options(const char *methods, struct http_response *response)
{
    response->status = 204;
    http_response_put_header(response, "Allow", methods);
}

/* False: there is none at the path. */
static bool answer_route(struct routes *routes, const struct http_request *request,
                         struct http_response *response)
{
    const struct script *script;
    struct edition *edition = readers_edition(routes->readers, &script);
    enum script_route_match match =
        script ? script_find_route(script, request->method, request->path) : SCRIPT_ROUTE_NO_PATH;
    struct buf methods = BUF_INIT(NAME_MAX_BYTES);

    if (match == SCRIPT_ROUTE_NO_METHOD)
        script_put_route_methods(script, request->path, &methods);
    readers_put_edition(edition);
    if (match == SCRIPT_ROUTE_NO_PATH)
        not_found(response);
    else if (match == SCRIPT_ROUTE_FOUND)
        run_route(routes, request, response);
    else if (strcmp(request->method, "OPTIONS") == 0)
        answer_options(buf_text(&methods), response);
    else
        http_response_wrong_method(response, buf_text(&methods));
    buf_release(&methods);
    return match != SCRIPT_ROUTE_NO_PATH;
}

/* ------------------------------------------------------------------------- all */

/* The methods are those that the answer to OPTIONS names. */
static void allow_origins(const struct cors *cors, const struct http_request *request,
                          struct http_response *response)
{
    char methods[NAME_MAX_BYTES];

    cors_allow(cors, request, response);
    if (cors_is_preflight(request) && response->status == 204 &&
        http_response_find_header(response, "Allow", methods, sizeof(methods)))
        cors_allow_request(cors, request, methods, response);
}

static void count_answer(struct routes_counts *counts, const char *method, int status)
{
    size_t i = 0;

    while (i < ROUTES_METHODS - 1 && strcmp(method, routes_method_names[i]) != 0)
        i++;
    metric_count_status(&counts->methods[i], status);
}

void routes_answer(struct routes *routes, const struct http_request *request,
                   struct http_response *response)
{
    bool is_ours = true;

    if (strcmp(request->path, ROUTES_USER_PATH) == 0)
        answer_user(routes, request, response);
    else
        is_ours = answer_route(routes, request, response);
    etag_apply(request, response);
    if (is_reading(request) && (response->status == 200 || response->status == 304) &&
        !http_response_has_header(response, "Cache-Control"))
        http_response_put_header(response, "Cache-Control",
                                 "private, no-cache"); /* ask again, with the tag */
    allow_origins(routes->cors, request, response);
    if (is_ours)
        count_answer(&routes->counts, request->method, response->status);
}

const struct routes_counts *routes_counts(const struct routes *routes)
{
    return &routes->counts;
}

void routes_allow_origin(struct routes *routes, const struct http_request *request,
                         struct http_response *response)
{
    cors_allow(routes->cors, request, response);
}

void routes_installing(struct routes *routes)
{
    readers_installing(routes->readers);
}

void routes_installed(struct routes *routes, const struct script *script)
{
    readers_installed(routes->readers, script);
}

int routes_new(struct routes **out, const struct routes_opts *opts, struct err *err)
{
    struct routes *routes = calloc(1, sizeof(*routes));
    int rc;

    if (!routes)
        return err_set(err, ERR_NOMEM, "no memory for the routes");
    routes->opts = *opts;
    repeat_init(&routes->repeats);
    rc = readers_new(&routes->readers, opts->db_path, err);
    if (rc == 0)
        rc = cors_new(&routes->cors, opts->cors_origins, err);
    if (rc < 0) {
        routes_free(routes);
        return rc;
    }
    *out = routes;
    return 0;
}

void routes_free(struct routes *routes)
{
    if (!routes)
        return;
    readers_free(routes->readers);
    cors_free(routes->cors);
    repeat_tell(&routes->repeats, clock_mono_ms(), true);
    repeat_release(&routes->repeats);
    free(routes);
}
