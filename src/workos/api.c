/* SPDX-License-Identifier: MIT */
#include "workos/api.h"

#include "base/clock.h"
#include "base/text.h"
#include "fetch/fetch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CONNECT_TIMEOUT_MS = 10000,
    STALL_MS = 15000,
    URL_MAX = 16384,
    SLICE_MS = 50,
    SHOWN_MAX = 300
};

struct api {
    struct api_opts opts;
    char *hostname, *key;
    struct fetch *fetch;
    unsigned seed; /* of the jitter */
};

int api_open(struct api **out, const struct api_opts *opts, struct err *err)
{
    struct api *api = calloc(1, sizeof(*api));
    char user_agent[128];
    struct fetch_opts fetch_opts = {
        .user_agent = user_agent,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .stall_ms = STALL_MS,
        .timeout_ms = opts->timeout_ms,
        .max_bytes = API_ANSWER_MAX_BYTES,
        .cancelled = opts->cancelled,
        .arg = opts->arg,
    };
    int rc;

    if (!api)
        return err_set(err, ERR_NOMEM, "no memory for the API client");
    snprintf(user_agent, sizeof(user_agent), "authkitd/" AUTHKITD_VERSION " (%s)", opts->phase);
    api->opts = *opts;
    api->hostname = strdup(opts->hostname);
    api->key = strdup(opts->key);
    api->seed = (unsigned)clock_mono_ns();
    rc = api->hostname && api->key ? fetch_new(&api->fetch, &fetch_opts, err)
                                   : err_set(err, ERR_NOMEM, "no memory for the API client");
    if (rc < 0) {
        api_close(api);
        return rc;
    }
    *out = api;
    return 0;
}

void api_close(struct api *api)
{
    if (!api)
        return;
    fetch_free(api->fetch);
    if (api->key)
        explicit_bzero(api->key, strlen(api->key));
    free(api->key);
    free(api->hostname);
    free(api);
}

void api_answer_release(struct api_answer *answer)
{
    json_release(&answer->json);
    buf_release(&answer->body);
}

/* ---------------------------------------------------------------------------------- trying again */

static bool is_cancelled(const struct api *api)
{
    return api->opts.cancelled && api->opts.cancelled(api->opts.arg);
}

static bool may_go_well_later(int status)
{
    return status == 408 || status == 429 || status >= 500;
}

/* From half to one and a half of the delay that belongs to the try. */
static int64_t delay_ms(struct api *api, int try, int64_t retry_after_ms)
{
    int64_t delay = API_DELAY_FIRST_MS;

    if (retry_after_ms >= 0)
        return retry_after_ms;
    for (int i = 1; i < try && delay < API_DELAY_MAX_MS; i++)
        delay = delay * 3 / 2;
    if (delay > API_DELAY_MAX_MS)
        delay = API_DELAY_MAX_MS;
    return delay / 2 + rand_r(&api->seed) % (delay + 1);
}

/* False when it was cancelled meanwhile. */
static bool pause(struct api *api, int64_t ms)
{
    int64_t until_ms = clock_mono_ms() + ms, left_ms;

    while (!is_cancelled(api)) {
        struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};

        left_ms = until_ms - clock_mono_ms();
        if (left_ms <= 0)
            return true;
        if (left_ms < SLICE_MS)
            slice.tv_nsec = (long)left_ms * 1000000;
        nanosleep(&slice, NULL);
    }
    return false;
}

/* ---------------------------------------------------------------------------------- answers */

/* The first of these members that is a string; the document itself when it is one. */
static uint32_t find_message(const struct json *json)
{
    static const char *const names[] = {"message", "error_description", "error"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        uint32_t found = json_string_member(json, 0, names[i]);

        if (found)
            return found;
    }
    return JSON_ABSENT; /* which is the document, too */
}

static void put_shown(struct buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len && i < SHOWN_MAX; i++)
        buf_putc(out, (unsigned char)text[i] < ' ' ? ' ' : text[i]);
}

/* WorkOS's own words: {"message"}, with "errors" that say more, {"error","error_description"}, a
 * bare string; or whatever came. */
static void put_reason(struct buf *out, const struct fetch_response *response)
{
    struct json json = {0};
    const char *raw = buf_text(&response->body);
    size_t len = response->body.len;
    uint32_t message = JSON_ABSENT, errors = JSON_ABSENT;

    if (json_read(&json, raw, len, NULL) == 0) {
        message = find_message(&json);
        errors = json_member(&json, 0, "errors");
    }
    if (message)
        raw = json_raw(&json, message, &len);
    put_shown(out, raw, len);
    if (message && errors) {
        raw = json_raw(&json, errors, &len);
        buf_putc(out, ' ');
        put_shown(out, raw, len);
    }
    json_release(&json);
}

/* Whoever echoes a request back shall not bring its key into our log: not a part of it, either, so this
 * comes before anything is cut. */
static void hide_key(struct buf *body, const char *key)
{
    size_t len = strlen(key);
    char *at = body->data, *end = at ? at + body->len : NULL;

    while (len > 0 && at && (at = memmem(at, (size_t)(end - at), key, len)) != NULL) {
        memset(at, '*', len);
        at += len;
    }
}

static int refuse(const struct api *api, struct fetch_response *response, const char *url,
                  struct err *err)
{
    struct buf reason = BUF_INIT(3 * SHOWN_MAX);
    char wait[64] = "";
    int code = response->status == 429               ? ERR_BUSY
               : may_go_well_later(response->status) ? ERR_IO
                                                     : ERR_INVALID;

    hide_key(&response->body, api->key);
    put_reason(&reason, response);
    if (code != ERR_INVALID && response->retry_after_ms >= 1000)
        snprintf(wait, sizeof(wait), "; it asks to wait %" PRId64 " s",
                 response->retry_after_ms / 1000);
    err_set(err, code, "%.*s: WorkOS answered %d%s%s%s%s%s%s%s", (int)strcspn(url, "?"), url,
            response->status, reason.len ? ": " : "", buf_text(&reason), wait,
            response->status == 401 ? "; is WORKOS_API_KEY right?" : "",
            response->request_id[0] ? " (request " : "", response->request_id,
            response->request_id[0] ? ")" : "");
    text_make_utf8(err->text);
    buf_release(&reason);
    return code;
}

/* The response's body becomes the answer's. Only what is no GET may be answered with nothing. */
static int take_answer(struct fetch_response *response, const struct fetch_request *request,
                       struct api_answer *out, struct err *err)
{
    int rc;

    out->body = response->body;
    response->body = BUF_INIT(0);
    if (out->body.len == 0 && strcmp(request->method, "GET") != 0)
        return 0;
    rc = json_read(&out->json, buf_text(&out->body), out->body.len, err);
    if (rc == 0 && out->json.nodes[0].type == JSON_OBJECT)
        return 0;
    json_release(&out->json);
    if (rc == ERR_NOMEM)
        return rc;
    if (rc == 0)
        return err_set(err, ERR_IO, "%.*s: the answer isn't a JSON object",
                       (int)strcspn(request->url, "?"), request->url);
    err_prefix(err, "%.*s: the answer is ", (int)strcspn(request->url, "?"), request->url);
    return err->code = ERR_IO;
}

static int call_once(struct api *api, const struct fetch_request *request, struct api_answer *out,
                     struct err *err)
{
    struct fetch_response response = {0};
    struct err no_object;
    int rc = fetch_call(api->fetch, request, &response, err);

    *out = (struct api_answer){.retry_after_ms = -1};
    if (rc < 0)
        return rc;
    out->status = response.status;
    out->retry_after_ms = response.retry_after_ms < API_RETRY_AFTER_MAX_MS ? response.retry_after_ms
                                                                           : API_RETRY_AFTER_MAX_MS;
    if (response.status >= 200 && response.status < 300) {
        rc = take_answer(&response, request, out, err);
    } else {
        rc = refuse(api, &response, request->url, err);
        if (rc == ERR_INVALID)
            (void)!take_answer(&response, request, out, &no_object); /* or the body as it came */
    }
    fetch_response_release(&response);
    return rc;
}

int api_call(struct api *api, const char *method, const char *path, const struct buf *body,
             struct api_answer *out, struct err *err)
{
    struct buf url = BUF_INIT(URL_MAX);
    struct fetch_request request = {
        .method = method,
        .bearer = api->key,
        .json = body ? buf_text(body) : NULL,
        .json_len = body ? body->len : 0,
    };
    int rc = 0;

    *out = (struct api_answer){.retry_after_ms = -1};
    buf_printf(&url, "%s://%s:%d%s", api->opts.https ? "https" : "http", api->hostname,
               api->opts.port, path);
    if (!buf_ok(&url))
        rc = err_set(err, ERR_INVALID, "the URL of %s would be too long", path);
    request.url = buf_text(&url);
    for (int try = 1; rc == 0; try++) {
        rc = call_once(api, &request, out, err);
        if (rc == 0)
            break;
        if ((rc != ERR_IO && rc != ERR_BUSY) || try >= api->opts.tries)
            break;
        api_answer_release(out);
        *out = (struct api_answer){.status = out->status, .retry_after_ms = out->retry_after_ms};
        rc = pause(api, delay_ms(api, try, out->retry_after_ms))
                 ? 0
                 : err_set(err, ERR_CLOSED, "%s was cancelled", request.url);
    }
    buf_release(&url);
    return rc;
}
