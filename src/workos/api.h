/* SPDX-License-Identifier: MIT */
/*
 * api - calls to WorkOS's API, patient where that is right.
 *
 * What may go well the next time (no connection, 408, 429, 5xx) is tried again: after half a second,
 * then longer each time up to API_DELAY_MAX_MS, give or take a half so that many don't come back at
 * the same moment; or when Retry-After says (up to API_RETRY_AFTER_MAX_MS). Anything else is an answer
 * (WORKOS.md section 2; workos/workos-node:src/common/net/http-client.ts does the same).
 *
 * Threads    an api belongs to one thread at a time; it blocks. cancelled is called on that thread.
 * Ownership  opts is copied; an answer is the caller's to release, whatever came of the call.
 * Errors     ERR_IO: WorkOS can't be reached, or answered 5xx to the end. ERR_BUSY: 429 to the end.
 *            ERR_INVALID: it refused (401: the key; 404, 422 …), and out has the status and the body,
 *            read as JSON if it is an object (json.count is 0 otherwise). A 2xx that is no JSON object
 *            is like no answer. ERR_CLOSED: cancelled. The text names the URL, has WorkOS's own message
 *            and its X-Request-ID, never the key.
 * Limits     an answer has at most API_ANSWER_MAX_BYTES.
 */
#ifndef WORKOS_API_H
#define WORKOS_API_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    API_DELAY_FIRST_MS = 500,
    API_DELAY_MAX_MS = 8000,
    API_RETRY_AFTER_MAX_MS = 60000,
    API_ANSWER_MAX_BYTES = 64 * 1024 * 1024,
};

struct api;

struct api_opts {
    const char *hostname; /* "api.workos.com" */
    int port;
    bool https;
    const char *key;
    const char *phase;            /* "poll", "backfill", "setup": stands in the User-Agent */
    int tries;                    /* of one call, at least 1 */
    int timeout_ms;               /* of one try */
    bool (*cancelled)(void *arg); /* may be NULL */
    void *arg;
};

int api_open(struct api **out, const struct api_opts *opts, struct err *err) MUST_CHECK;
void api_close(struct api *api); /* NULL is fine */

struct api_answer {
    int status;             /* of the last try; 0 when there was no answer at all */
    int64_t retry_after_ms; /* what it asked for, API_RETRY_AFTER_MAX_MS at most; -1: nothing */
    struct buf body;
    struct json json; /* of the body; what it says is borrowed from there */
};

/* path with its query, escaped: "/user_management/users?limit=100". body: JSON, NULL for none. 0 for a
 * 2xx with a JSON object; what isn't a GET may also be answered with nothing (json.count is 0 then). */
int api_call(struct api *api, const char *method, const char *path, const struct buf *body,
             struct api_answer *out, struct err *err) MUST_CHECK;

/* Also fine on an answer that was never filled ({0}). */
void api_answer_release(struct api_answer *answer);

#endif
