/* SPDX-License-Identifier: MIT */
#include "routes/cors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cors {
    char *origins; /* separated by '\0', one more at the end */
    bool any;
};

int cors_new(struct cors **out, const char *origins, struct err *err)
{
    struct cors *cors = calloc(1, sizeof(*cors));
    size_t len = origins ? strlen(origins) : 0;

    if (!cors || !(cors->origins = calloc(1, len + 2))) {
        free(cors);
        return err_set(err, ERR_NOMEM, "no memory for the origins");
    }
    for (size_t i = 0; i < len; i++)
        cors->origins[i] = origins[i] == ',' ? '\0' : origins[i];
    for (const char *at = cors->origins; *at; at += strlen(at) + 1)
        cors->any = cors->any || strcmp(at, "*") == 0;
    *out = cors;
    return 0;
}

void cors_free(struct cors *cors)
{
    if (!cors)
        return;
    free(cors->origins);
    free(cors);
}

static bool is_allowed(const struct cors *cors, const char *origin)
{
    for (const char *at = cors->origins; *at; at += strlen(at) + 1)
        if (strcmp(at, origin) == 0)
            return true;
    return cors->any;
}

static void set_header(struct http_response *response, const char *name, const char *value)
{
    /* One that came with the request and is no good in an answer is left out. */
    if (http_response_header(response, name, value) == ERR_LIMIT)
        response->headers.failed = true;
}

/* The request's origin, if it may; NULL otherwise. */
static const char *allowed_origin(const struct cors *cors, const struct http_request *request)
{
    const char *origin = http_request_header(request, "Origin");

    return origin && is_allowed(cors, origin) ? origin : NULL;
}

bool cors_is_preflight(const struct http_request *request)
{
    return strcmp(request->method, "OPTIONS") == 0 && http_request_header(request, "Origin") &&
           http_request_header(request, "Access-Control-Request-Method");
}

void cors_allow(const struct cors *cors, const struct http_request *request,
                struct http_response *response)
{
    const char *origin = allowed_origin(cors, request);

    if (!*cors->origins || http_response_has_header(response, "Access-Control-Allow-Origin"))
        return;
    if (!cors->any)
        set_header(response, "Vary", "Origin"); /* also for who isn't allowed: caches must know */
    if (!origin)
        return;
    set_header(response, "Access-Control-Allow-Origin", cors->any ? "*" : origin);
    set_header(response, "Access-Control-Expose-Headers",
               "ETag, Location, Retry-After, WWW-Authenticate, X-Request-ID");
}

void cors_allow_request(const struct cors *cors, const struct http_request *request,
                        const char *methods, struct http_response *response)
{
    const char *headers = http_request_header(request, "Access-Control-Request-Headers");
    char max_age[16];

    if (!allowed_origin(cors, request))
        return;
    snprintf(max_age, sizeof(max_age), "%d", CORS_MAX_AGE_S);
    set_header(response, "Access-Control-Allow-Methods", methods);
    if (headers && *headers)
        set_header(response, "Access-Control-Allow-Headers", headers);
    set_header(response, "Access-Control-Max-Age", max_age);
}
