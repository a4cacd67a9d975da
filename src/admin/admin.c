/* SPDX-License-Identifier: MIT */
#include "admin/admin.h"

#include "admin/admin_backfill.h"
#include "admin/admin_guard.h"
#include "admin/answer.h"
#include "admin/certificate_status.h"
#include "admin/dashboard.h"
#include "admin/metrics.h"
#include "admin/ready.h"
#include "base/json.h"
#include "workos/backfill.h"
#include "workos/poller.h"
#include "workos/put_back.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { REPORT_MAX = 65536 };

/* The certificate is read with the script, and the script may be loaded without it. */
static bool is_certificate_refused(struct admin *admin)
{
    struct certificate_load load = {0};

    if (admin->certificate)
        certificate_status_get(admin->certificate, &load);
    return load.refused_ms != 0;
}

static void reload(struct admin *admin, const struct http_request *request,
                   struct http_response *response)
{
    struct buf report = BUF_INIT(REPORT_MAX);
    struct err err;
    int rc = admin->reload(admin->arg, &report, &err);

    (void)request;
    if (rc == ERR_CLOSED) {
        http_response_error(response, 503, "stopping", err.text);
    } else if (rc < 0) {
        http_response_error(response, 422, "script_refused", err.text);
    } else {
        buf_puts(&response->body, "{\"reloaded\":true,\"changes\":");
        buf_put_json_string(&response->body, buf_text(&report), report.len);
        buf_printf(&response->body, ",\"certificate_refused\":%s}",
                   is_certificate_refused(admin) ? "true" : "false");
    }
    buf_release(&report);
}

/* ---------------------------------------------------------------------------------- retry */

static int put_ids_back(struct admin *admin, const char **ids, size_t count,
                        struct http_response *response, struct err *err)
{
    const struct put_back_request request = {.ids = ids, .count = count};
    struct put_back_outcome outcome;
    int rc = put_back(admin->workos, &request, &outcome, err);

    if (rc == 0) {
        size_t len = outcome.problems.len; /* without its last line end */

        buf_printf(&response->body,
                   "{\"put_back\":%" PRId64 ",\"refused\":%zu,\"problems\":", outcome.put_back,
                   outcome.refused);
        buf_put_json_string(&response->body, buf_text(&outcome.problems), len ? len - 1 : 0);
        buf_putc(&response->body, '}');
    }
    buf_release(&outcome.problems);
    return rc;
}

/* A list of strings, one at least. */
static bool is_id_list(const struct json *json, uint32_t list)
{
    const struct json_node *nodes = json->nodes;

    if (!list || nodes[list].type != JSON_ARRAY || nodes[list].count == 0)
        return false;
    for (uint32_t i = list + 1; i < nodes[list].next; i = nodes[i].next)
        if (nodes[i].type != JSON_STRING)
            return false;
    return true;
}

/* The list's strings, decoded one after the other in text (as long as the body). */
static size_t read_ids(const struct json *json, uint32_t list, const char **ids, char *text)
{
    size_t count = 0;

    for (uint32_t i = list + 1; i < json->nodes[list].next; i = json->nodes[i].next) {
        ids[count++] = text;
        text += json_decode(json, i, text);
        *text++ = '\0';
    }
    return count;
}

static int retry_as_asked(struct admin *admin, const struct json *json,
                          const struct http_request *request, struct http_response *response,
                          struct err *err)
{
    uint32_t list = json_member(json, 0, "ids"), all = json_member(json, 0, "all");
    bool has_ids = is_id_list(json, list);
    bool wants_all = all && json->nodes[all].type == JSON_TRUE;
    const char **ids;
    size_t count;
    char *text;
    int rc = 0;

    if (has_ids == wants_all)
        return err_set(err, ERR_INVALID, "the body must be {\"ids\":[…]} or {\"all\":true}");
    if (wants_all)
        return put_ids_back(admin, NULL, 0, response, err);
    ids = calloc(json->nodes[list].count, sizeof(*ids));
    text = malloc(request->body_len + 1);
    if (!ids || !text) {
        rc = err_set(err, ERR_NOMEM, "no memory for the ids");
    } else {
        count = read_ids(json, list, ids, text);
        rc = put_back_drop_repeats(ids, &count, err);
    }
    if (rc == 0)
        rc = put_ids_back(admin, ids, count, response, err);
    free(ids);
    free(text);
    return rc;
}

static void retry(struct admin *admin, const struct http_request *request,
                  struct http_response *response)
{
    struct json json = {0};
    struct err err;
    int rc = json_read(&json, request->body, request->body_len, &err);

    if (rc == 0)
        rc = retry_as_asked(admin, &json, request, response, &err);
    json_release(&json);
    if (rc < 0)
        http_response_error(response, rc == ERR_INVALID ? 400 : 503, "not_put_back", err.text);
}

/* ---------------------------------------------------------------------------------- reconcile */

static void reconcile(struct admin *admin, const struct http_request *request,
                      struct http_response *response)
{
    struct poller *poller = workos_poller(admin->workos);
    struct poller_report report;
    struct err err;
    int rc;

    (void)request;
    if (!poller) {
        http_response_error(
            response, 409, "not_polling",
            "the server doesn't read the Events API: it has no WORKOS_API_KEY in its "
            "environment, or runs with --poll off; mend that, or stop the server and "
            "call this again, with WORKOS_API_KEY set");
        return;
    }
    rc = poller_run_now(poller, &report, &err);
    if (rc == ERR_CLOSED)
        http_response_error(response, 503, "stopping", err.text);
    else if (rc < 0)
        http_response_error(response, 502, "not_reconciled", err.text);
    else
        buf_printf(&response->body,
                   "{\"read\":%" PRId64 ",\"fresh\":%" PRId64 ",\"unusable\":%" PRId64
                   ",\"refused\":%" PRId64 "}",
                   report.read, report.fresh, report.unusable, report.refused);
}

/* ---------------------------------------------------------------------------------- what is shown */

static void show_ready(struct admin *admin, const struct http_request *request,
                       struct http_response *response)
{
    (void)request;
    ready_answer(admin, response);
}

static void show_metrics(struct admin *admin, const struct http_request *request,
                         struct http_response *response)
{
    (void)request;
    metrics_answer(admin, response);
}

static void show_backfill(struct admin *admin, const struct http_request *request,
                          struct http_response *response)
{
    (void)request;
    backfill_put_progress(admin->backfill, &response->body);
}

static void start_backfill(struct admin *admin, const struct http_request *request,
                           struct http_response *response)
{
    admin_backfill_start(admin->backfill, request, response);
}

static void stop_backfill(struct admin *admin, const struct http_request *request,
                          struct http_response *response)
{
    (void)request;
    backfill_stop(admin->backfill);
    response->status = 202;
    buf_puts(&response->body, "{\"stopping\":true}");
}

/* ---------------------------------------------------------------------------------- signing in */

static void sign_in(struct admin *admin, const struct http_request *request,
                    struct http_response *response)
{
    admin_guard_sign_in(admin->guard, request, response);
}

static void sign_out(struct admin *admin, const struct http_request *request,
                     struct http_response *response)
{
    admin_guard_sign_out(admin->guard, request, response);
}

/* ---------------------------------------------------------------------------------- which is which */

typedef void admin_fn(struct admin *admin, const struct http_request *request,
                      struct http_response *response);

static const struct admin_route {
    const char *path;
    admin_fn *show;   /* GET and HEAD */
    admin_fn *change; /* POST, with our header */
    bool is_open;     /* to those who have no token yet */
} admin_routes[] = {
    {"/readyz", show_ready, NULL, false},
    {"/metrics", show_metrics, NULL, false},
    {"/reload", NULL, reload, false},
    {"/retry", NULL, retry, false},
    {"/reconcile", NULL, reconcile, false},
    {"/backfill", show_backfill, start_backfill, false},
    {"/backfill/stop", NULL, stop_backfill, false},
    {"/sign-in", NULL, sign_in, true},
    {"/sign-out", NULL, sign_out, true},
};

static const struct admin_route *find_route(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(admin_routes); i++)
        if (strcmp(path, admin_routes[i].path) == 0)
            return &admin_routes[i];
    return NULL;
}

static admin_fn *choose(const struct admin_route *route, const struct http_request *request,
                        struct http_response *response)
{
    const char *header = http_request_header(request, ADMIN_HEADER);
    bool is_post = strcmp(request->method, "POST") == 0;
    bool is_get = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;

    if (route->show && is_get)
        return route->show;
    if (!route->change || !is_post) {
        http_response_wrong_method(response, !route->change ? "GET, HEAD"
                                             : route->show  ? "GET, HEAD, POST"
                                                            : "POST");
        return NULL;
    }
    if (!header || strcmp(header, "1") != 0) {
        http_response_error(response, 403, "header_missing",
                            "a POST needs the header " ADMIN_HEADER ": 1");
        return NULL;
    }
    return route->change;
}

/*
 * What a browser is to know of any answer: it is nobody's but this listener's own page's, is never
 * framed, and runs nothing but our files, whatever a stranger has written into a name.
 */
static void set_headers(struct http_response *response)
{
    static const struct http_header headers[] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
         "img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
         "require-trusted-types-for 'script'; trusted-types 'none'"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
    };

    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        if (http_response_header(response, headers[i].name, headers[i].value) < 0)
            response->headers.failed = true; /* only for lack of memory: the server answers 500 */
}

static bool is_open(const struct admin_route *route, const char *path)
{
    return route ? route->is_open : dashboard_is_open(path);
}

void admin_handle(void *arg, const struct http_request *request, struct http_response *response)
{
    struct admin *admin = arg;
    const struct admin_route *route = find_route(request->path);
    enum admin_pass pass;
    admin_fn *answer;

    set_headers(response);
    if (answer_health(request, response) || !admin_guard_is_for_us(admin->guard, request, response))
        return;
    pass = admin_guard_ask(admin->guard, request);
    if (pass != ADMIN_PASS_GOOD && (pass != ADMIN_PASS_MISSING || !is_open(route, request->path))) {
        admin_guard_refuse(pass, response);
        return;
    }
    if (!route) {
        if (!dashboard_answer(admin->dashboard, request, pass == ADMIN_PASS_GOOD, response))
            http_response_error(response, 404, "not_found", "there is nothing at this path");
        return;
    }
    answer = choose(route, request, response);
    if (answer)
        answer(admin, request, response);
}
