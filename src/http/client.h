/* SPDX-License-Identifier: MIT */
/*
 * client - one HTTP request to a server, and its answer. For our own commands (send, reload).
 *
 * Threads    any; it blocks for at most timeout_ms.
 * Ownership  the response is the caller's: release it with http_client_response_release.
 * Errors     ERR_IO: could not connect, no answer in time, cut off. ERR_INVALID: a URL that can't
 *            be used. Any HTTP status is a success here.
 * Limits     an answer above HTTP_RESPONSE_MAX_BYTES is refused.
 *            Looking up a name (not an address) has the resolver's own time limit. Over https the
 *            process should ignore SIGPIPE.
 * Not here   calls to WorkOS (fetch/).
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "base/err.h"
#include "http/message.h"

struct http_client_request {
    const char *method;
    const char *url; /* http://host:port/path or https://…; IPv6 hosts in brackets */
    const struct http_header *headers;
    size_t header_count;
    const char *body; /* may be NULL */
    size_t body_len;
    int timeout_ms;
    int patience_ms; /* on_waiting is called once when the answer takes longer; 0: never */
    void (*on_waiting)(void *arg, const char *url);
    void *arg;
    bool verify_tls; /* false: accept any certificate (a server of one's own on loopback) */
};

struct http_client_response {
    int status;
    struct buf body;
};

/* ERR_INVALID: http_client_call couldn't use it. */
int http_client_check_url(const char *text, struct err *err) MUST_CHECK;

int http_client_call(const struct http_client_request *request, struct http_client_response *out,
                     struct err *err) MUST_CHECK;
void http_client_response_release(struct http_client_response *response);

#endif
