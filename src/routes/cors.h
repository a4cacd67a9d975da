/* SPDX-License-Identifier: MIT */
/*
 * cors - which pages of other origins may call from a browser (https://fetch.spec.whatwg.org, CORS).
 *
 * A page of an origin that isn't allowed gets its answer like anybody, but its browser keeps it from
 * the page, as nothing in it says otherwise. Cookies don't matter here: tokens come in a header, so
 * credentials are never allowed.
 *
 * Threads    cors_new, _free: main. The others: any.
 * Ownership  cors_new keeps what it needs of the text.
 * Errors     ERR_NOMEM.
 */
#ifndef ROUTES_CORS_H
#define ROUTES_CORS_H

#include "base/err.h"
#include "http/message.h"

#include <stdbool.h>

enum { CORS_MAX_AGE_S = 600 };

struct cors;

/* origins: "https://app.example.com,http://localhost:3000", or "*"; NULL: none. */
int cors_new(struct cors **out, const char *origins, struct err *err) MUST_CHECK;
void cors_free(struct cors *cors); /* NULL is fine */

bool cors_is_preflight(const struct http_request *request);

/* To an answer, once it is made: what lets the page read it. */
void cors_allow(const struct cors *cors, const struct http_request *request,
                struct http_response *response);

/* To the answer of a preflight, besides: what the page may send. methods: "GET, POST". */
void cors_allow_request(const struct cors *cors, const struct http_request *request,
                        const char *methods, struct http_response *response);

#endif
