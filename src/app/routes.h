/* SPDX-License-Identifier: MIT */
/*
 * routes - which request is whose, and which status each outcome has (DESIGN section 3).
 *
 * Threads    routes_handle: the HTTP threads, several at once.
 * Ownership  the struct routes must outlive the server.
 */
#ifndef APP_ROUTES_H
#define APP_ROUTES_H

#include "http/message.h"
#include "workos/workos.h"

struct routes {
    struct workos *workos;
    const char *webhook_path;
    const char *action_path;
};

/* An http_handle_fn; arg is a struct routes. */
void routes_handle(void *arg, const struct http_request *request, struct http_response *response);

/* GET and HEAD of /healthz; false when the request isn't for it. */
bool routes_health(const struct http_request *request, struct http_response *response);

/* 405 with the Allow header. */
void routes_refuse_method(struct http_response *response, const char *allowed);

#endif
