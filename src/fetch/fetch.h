/* SPDX-License-Identifier: MIT */
/*
 * fetch - HTTP requests to the world, and their answers. The only room that knows libcurl.
 *
 * One struct fetch is one caller's line to the world: requests go one after the other, and connections
 * are kept open between them. TLS certificates are always verified, against the system's roots. No
 * redirect is followed, no proxy but the environment's (https_proxy, no_proxy) is used, and nothing is
 * tried again: that is the caller's to decide, who knows what a request means.
 *
 * Threads    fetch_set_up: main, before other threads. A struct fetch belongs to one thread at a time;
 *            cancelled is called on that thread, several times a second.
 * Ownership  opts is copied, user_agent too. A response is the caller's: fetch_response_release.
 * Errors     any HTTP status is a success. ERR_IO: no connection, no answer in time, cut off, a
 *            certificate that isn't right; the text says which, and names the host. ERR_LIMIT: the answer
 *            is larger than max_bytes. ERR_CLOSED: cancelled. ERR_INVALID: the URL, or a key with
 *            characters that no key has. ERR_NOMEM.
 * Limits     timeout_ms is for the whole request, connect_timeout_ms for getting through to the server;
 *            one from which nothing comes for stall_ms is given up as well.
 */
#ifndef FETCH_FETCH_H
#define FETCH_FETCH_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fetch;

struct fetch_opts {
    const char *user_agent;
    int connect_timeout_ms;
    int stall_ms;
    int timeout_ms;
    size_t max_bytes;             /* of an answer */
    bool (*cancelled)(void *arg); /* true ends the request; may be NULL */
    void *arg;
};

struct fetch_request {
    const char *method; /* "GET", "POST", "PATCH", … */
    const char *url;
    const char *bearer; /* goes into the Authorization header; NULL: none. Never logged. */
    const char *json;   /* the body; NULL: none */
    size_t json_len;
};

struct fetch_response {
    int status;
    struct buf body;
    int64_t retry_after_ms; /* of the Retry-After header, in seconds or as a date; -1: none */
    char request_id[128];   /* X-Request-ID, for WorkOS's support; "" */
};

/* Once in a process. */
int fetch_set_up(struct err *err) MUST_CHECK;

int fetch_new(struct fetch **out, const struct fetch_opts *opts, struct err *err) MUST_CHECK;
void fetch_free(struct fetch *fetch); /* NULL is fine */

/* The URL's text with what isn't a letter, digit or one of "-._~" as %XX; appended. */
void fetch_put_escaped(struct buf *out, const char *text);

int fetch_call(struct fetch *fetch, const struct fetch_request *request, struct fetch_response *out,
               struct err *err) MUST_CHECK;
void fetch_response_release(struct fetch_response *response);

/* The library and its TLS, for the log. */
const char *fetch_library_version(void);

#endif
