/* SPDX-License-Identifier: MIT */
#include "app/endpoints.h"

#include "admin/answer.h"
#include "base/log.h"
#include "http/server.h"
#include "workos/action.h"
#include "workos/webhook.h"

#include <stdlib.h>
#include <string.h>

enum { STATUS_MIN = 400, STATUS_END = 600, PATH_SHOWN_MAX = 200 };

static const char signature_header[] = "WorkOS-Signature";

/* ---------------------------------------------------------------------------- what is refused */

/* Whose a request is, or would be. */
enum endpoint { ENDPOINT_WEBHOOK, ENDPOINT_ACTION, ENDPOINT_NONE, ENDPOINTS };

static enum endpoint endpoint_of(const struct endpoints *endpoints, const char *path)
{
    if (strcmp(path, endpoints->webhook_path) == 0)
        return ENDPOINT_WEBHOOK;
    return strcmp(path, endpoints->action_path) == 0 ? ENDPOINT_ACTION : ENDPOINT_NONE;
}

/* What whoever runs this may do about it; NULL when the message says enough. */
static const char *next_step(int status)
{
    switch (status) {
    case 405:
        return "WorkOS sends POST; a redirect on the way (of http to https, say) makes a GET of it";
    case 411:
        return "have the proxy in front pass bodies on with a Content-Length";
    case 413:
        return "--max-body says how large one may be";
    case 431:
        return "have the proxy in front add fewer headers";
    default:
        return NULL;
    }
}

/*
 * A delivery may be genuine, and is refused before its signature is looked at: nobody else would tell.
 * Strangers can cause all of it, so there is a line a second at most of each endpoint and status. What
 * is refused because of its signature, or in spite of it, is logged in workos/.
 */
static void log_refusal(enum endpoint endpoint, const struct http_refusal *refusal)
{
    static const char *const names[ENDPOINTS] = {"webhook", "action", NULL};
    static struct log_limit limits[ENDPOINTS][STATUS_END - STATUS_MIN];

    if (log_may(&limits[endpoint][refusal->status - STATUS_MIN]))
        log_warn("refused, before its signature was looked at",
                 log_str("endpoint", names[endpoint]), log_int("status", refusal->status),
                 log_str("code", refusal->code), log_str("error", refusal->message),
                 log_str("next", next_step(refusal->status)));
}

static void refuse(enum endpoint endpoint, const struct http_refusal *refusal,
                   struct http_response *response)
{
    if (refusal->status == 405)
        http_response_wrong_method(response, "POST");
    else if (refusal->status == 503)
        http_response_unavailable(response, refusal->code, refusal->message);
    else
        http_response_error(response, refusal->status, refusal->code, refusal->message);
    log_refusal(endpoint, refusal);
}

/* There is nothing at the path. Who sends a signature there takes it for one of the endpoints. */
static void log_stray(const struct endpoints *endpoints, const struct http_request *request)
{
    static struct log_limit limit;

    if (http_request_header(request, signature_header) && log_may(&limit))
        log_warn("refused: a WorkOS-Signature came to a path where there is no endpoint",
                 log_bytes("path", request->path, strnlen(request->path, PATH_SHOWN_MAX)),
                 log_int("status", 404), log_str("webhook", endpoints->webhook_path),
                 log_str("action", endpoints->action_path),
                 log_str("next", "mend the URL at WorkOS, or in the proxy in front"));
}

/* --------------------------------------------------------------------------------- signatures */

/* Nothing here tells a forger more than what WorkOS's documentation says already. */
static void refuse_signature(struct http_response *response, enum signature_status status)
{
    switch (status) {
    case SIGNATURE_MISSING:
        http_response_error(response, 401, "signature_missing",
                            "the WorkOS-Signature header is missing");
        break;
    case SIGNATURE_MALFORMED:
        http_response_error(response, 401, "signature_malformed",
                            "the WorkOS-Signature header isn't t=…, v1=…");
        break;
    case SIGNATURE_STALE:
        http_response_error(response, 401, "timestamp_outside_tolerance",
                            "the signature's timestamp is too far from this server's clock");
        break;
    default:
        http_response_error(response, 401, "signature_mismatch",
                            "the signature doesn't fit the body");
    }
}

/* POST, and at most one signature header; the header's value or NULL in *out_signature. */
static bool check_signed_request(enum endpoint endpoint, const struct http_request *request,
                                 struct http_response *response, const char **out_signature)
{
    static const struct http_refusal wrong_method = {405, "method_not_allowed",
                                                     "only POST is taken here"};
    static const struct http_refusal repeated = {400, "signature_repeated",
                                                 "there is more than one WorkOS-Signature header"};

    if (strcmp(request->method, "POST") != 0) {
        refuse(endpoint, &wrong_method, response);
        return false;
    }
    if (http_request_header_count(request, signature_header) > 1) {
        refuse(endpoint, &repeated, response);
        return false;
    }
    *out_signature = http_request_header(request, signature_header);
    return true;
}

static const struct http_refusal endpoint_off = {503, "endpoint_off",
                                                 "this endpoint has no secret configured"};

/* A webhook or an action while the writer has it. */
struct late {
    struct http_later later; /* first: it is cast back */
    struct webhook *webhook;
    struct action *action;
};

static void tell_late(void *arg)
{
    struct late *late = arg;

    http_answer(&late->later);
}

static struct late *new_late(struct http_response *response)
{
    struct late *late = calloc(1, sizeof(*late));

    if (late)
        response->later = &late->later;
    else
        http_response_unavailable(response, "unavailable",
                                  "the server is out of memory; try again");
    return late;
}

/* ---------------------------------------------------------------------------------- webhooks */

static void answer_webhook(enum webhook_result result, enum signature_status signature_status,
                           const struct err *err, struct http_response *response)
{
    switch (result) {
    case WEBHOOK_RECEIVED:
    case WEBHOOK_DUPLICATE:
        buf_puts(&response->body, "{\"received\":true}");
        break;
    case WEBHOOK_PENDING:
        break;
    case WEBHOOK_OFF:
        refuse(ENDPOINT_WEBHOOK, &endpoint_off, response);
        break;
    case WEBHOOK_REFUSED:
        refuse_signature(response, signature_status);
        break;
    case WEBHOOK_INVALID:
        http_response_error(response, 400, "invalid_event", err->text);
        break;
    case WEBHOOK_UNAVAILABLE:
        http_response_unavailable(response, err->code == ERR_FULL ? "disk_full" : "not_stored",
                                  "the event could not be stored; deliver it again");
        break;
    }
}

static void begin_webhook(struct http_later *later, bool is_waited_for)
{
    struct late *late = (struct late *)later;

    webhook_begin(late->webhook, is_waited_for, tell_late, late);
}

static void finish_webhook(struct http_later *later, struct http_response *response)
{
    struct late *late = (struct late *)later;
    struct err err = {0};

    answer_webhook(webhook_close(late->webhook, &err), SIGNATURE_OK, &err, response);
    free(late);
}

static void receive_webhook(struct workos *workos, const struct http_request *request,
                            struct http_response *response)
{
    enum signature_status signature_status = SIGNATURE_OK;
    enum webhook_result result;
    struct late *late;
    const char *signature;
    struct err err = {0};

    if (!check_signed_request(ENDPOINT_WEBHOOK, request, response, &signature) ||
        !(late = new_late(response)))
        return;
    late->later.begin = begin_webhook;
    late->later.finish = finish_webhook;
    result = webhook_open(&late->webhook, workos, signature, request->body, request->body_len,
                          &signature_status, &err);
    if (result == WEBHOOK_PENDING)
        return;
    response->later = NULL;
    free(late);
    answer_webhook(result, signature_status, &err, response);
}

/* ----------------------------------------------------------------------------------- actions */

static void answer_action(enum action_result result, enum signature_status signature_status,
                          const struct err *err, struct http_response *response)
{
    switch (result) {
    case ACTION_DECIDED:
    case ACTION_PENDING:
        break;
    case ACTION_OFF:
        refuse(ENDPOINT_ACTION, &endpoint_off, response);
        break;
    case ACTION_REFUSED:
        refuse_signature(response, signature_status);
        break;
    case ACTION_INVALID:
        http_response_error(response, 400, "invalid_action", err->text);
        break;
    case ACTION_NO_FUNCTION:
        http_response_error(response, 404, "no_function",
                            "the script has no function for this action");
        break;
    case ACTION_FAILED:
        http_response_error(response, 500, "action_failed",
                            "the function for this action failed; the log says why");
        break;
    case ACTION_UNAVAILABLE:
        http_response_unavailable(response, "unavailable",
                                  "the action could not be decided; try again");
        break;
    }
}

static void begin_action(struct http_later *later, bool is_waited_for)
{
    struct late *late = (struct late *)later;

    action_begin(late->action, is_waited_for, tell_late, late);
}

static void finish_action(struct http_later *later, struct http_response *response)
{
    struct late *late = (struct late *)later;
    struct err err = {0};

    answer_action(action_close(late->action, &response->body, &err), SIGNATURE_OK, &err, response);
    free(late);
}

static void receive_action(struct workos *workos, const struct http_request *request,
                           struct http_response *response)
{
    enum signature_status signature_status = SIGNATURE_OK;
    enum action_result result;
    struct late *late;
    const char *signature;
    struct err err = {0};

    if (!check_signed_request(ENDPOINT_ACTION, request, response, &signature) ||
        !(late = new_late(response)))
        return;
    late->later.begin = begin_action;
    late->later.finish = finish_action;
    result = action_open(&late->action, workos, signature, request->body, request->body_len,
                         &signature_status, &err);
    if (result == ACTION_PENDING)
        return;
    response->later = NULL;
    free(late);
    answer_action(result, signature_status, &err, response);
}

/* --------------------------------------------------------------------------------------- all */

void endpoints_handle(void *arg, const struct http_request *request, struct http_response *response)
{
    const struct endpoints *endpoints = arg;

    switch (endpoint_of(endpoints, request->path)) {
    case ENDPOINT_WEBHOOK:
        receive_webhook(endpoints->workos, request, response);
        break;
    case ENDPOINT_ACTION:
        receive_action(endpoints->workos, request, response);
        break;
    default:
        if (!answer_health(request, response))
            routes_answer(endpoints->routes, request, response);
        if (response->status == 404)
            log_stray(endpoints, request);
    }
}

void endpoints_refusing(void *arg, const struct http_request *request,
                        const struct http_refusal *refusal, struct http_response *response)
{
    const struct endpoints *endpoints = arg;
    enum endpoint endpoint = endpoint_of(endpoints, request->path);

    routes_allow_origin(endpoints->routes, request, response);
    if (endpoint != ENDPOINT_NONE)
        log_refusal(endpoint, refusal);
}
