/* SPDX-License-Identifier: MIT */
#include "app/endpoints.h"

#include "admin/answer.h"
#include "http/server.h"
#include "workos/action.h"
#include "workos/webhook.h"

#include <stdlib.h>
#include <string.h>

static const char signature_header[] = "WorkOS-Signature";

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
static bool check_signed_request(const struct http_request *request, struct http_response *response,
                                 const char **out_signature)
{
    if (strcmp(request->method, "POST") != 0) {
        http_response_wrong_method(response, "POST");
        return false;
    }
    if (http_request_header_count(request, signature_header) > 1) {
        http_response_error(response, 400, "signature_repeated",
                            "there is more than one WorkOS-Signature header");
        return false;
    }
    *out_signature = http_request_header(request, signature_header);
    return true;
}

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
        http_response_unavailable(response, "endpoint_off",
                                  "this endpoint has no secret configured");
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

static void begin_webhook(struct http_later *later)
{
    struct late *late = (struct late *)later;

    webhook_begin(late->webhook, tell_late, late);
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

    if (!check_signed_request(request, response, &signature) || !(late = new_late(response)))
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
        http_response_unavailable(response, "endpoint_off",
                                  "this endpoint has no secret configured");
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

static void begin_action(struct http_later *later)
{
    struct late *late = (struct late *)later;

    action_begin(late->action, tell_late, late);
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

    if (!check_signed_request(request, response, &signature) || !(late = new_late(response)))
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

    if (strcmp(request->path, endpoints->webhook_path) == 0)
        receive_webhook(endpoints->workos, request, response);
    else if (strcmp(request->path, endpoints->action_path) == 0)
        receive_action(endpoints->workos, request, response);
    else if (!answer_health(request, response))
        routes_answer(endpoints->routes, request, response);
}

void endpoints_refusing(void *arg, const struct http_request *request,
                        struct http_response *response)
{
    const struct endpoints *endpoints = arg;

    routes_allow_origin(endpoints->routes, request, response);
}
