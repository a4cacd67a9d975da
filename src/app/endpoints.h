/* SPDX-License-Identifier: MIT */
/*
 * endpoints - which request is whose, and which status each outcome has (DESIGN section 3).
 *
 * WorkOS's own two, and /healthz; everything else is the routes' (routes/routes.h).
 *
 * Threads    endpoints_handle, _refusing: the HTTP threads, several at once.
 * Ownership  the struct endpoints must outlive the server.
 */
#ifndef APP_ENDPOINTS_H
#define APP_ENDPOINTS_H

#include "http/message.h"
#include "routes/routes.h"
#include "workos/workos.h"

struct endpoints {
    struct workos *workos;
    struct routes *routes;
    const char *webhook_path;
    const char *action_path;
};

/* An http_handle_fn; arg is a struct endpoints. */
void endpoints_handle(void *arg, const struct http_request *request,
                      struct http_response *response);

/* The same, for what is refused before it is anybody's: a page shall see a 413, not a mistake in CORS; and
 * a delivery of WorkOS's isn't lost without a trace. */
void endpoints_refusing(void *arg, const struct http_request *request,
                        const struct http_refusal *refusal, struct http_response *response);

#endif
