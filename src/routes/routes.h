/* SPDX-License-Identifier: MIT */
/*
 * routes - what a script serves itself, and who calls: authkit.routes and GET /workos/user.
 *
 *     request --> which route?  whose token?          (the HTTP thread)
 *                   GET, HEAD --> a reader: a snapshot of the database, in parallel (readers.h)
 *                   others    --> the writer: a transaction, answered after the COMMIT
 *             --> ETag, CORS --> answer
 *
 * A function that fails is answered with a 500 that shows nothing of it: its request_id is in the log,
 * with the error and where it came from (of the same error, the first few times a minute).
 *
 * Threads    routes_new, _free: main. routes_installing, _installed: writer. routes_answer, _allow_origin:
 *            any, several at once; it may block for as long as the function runs.
 * Ownership  opts is copied; what it points to must outlive the routes.
 * Errors     become answers.
 */
#ifndef ROUTES_ROUTES_H
#define ROUTES_ROUTES_H

#include "auth/auth.h"
#include "base/err.h"
#include "base/metric.h"
#include "http/message.h"
#include "workos/workos.h"

#define ROUTES_USER_PATH "/workos/user"

struct routes_opts {
    struct workos *workos;
    struct auth *auth; /* NULL: no tokens are taken */
    const char *db_path;
    const char *cors_origins; /* separated by commas; NULL: none */
};

struct routes;

/* Answers of the script's routes and of GET /workos/user, by method, and how long functions ran. */
enum { ROUTES_METHODS = 8 };
extern const char *const routes_method_names[ROUTES_METHODS]; /* the last one: "other" */
struct routes_counts {
    struct metric_statuses methods[ROUTES_METHODS];
    struct metric_histogram functions; /* metric_scale_seconds */
};

int routes_new(struct routes **out, const struct routes_opts *opts, struct err *err) MUST_CHECK;
void routes_free(struct routes *routes); /* no request is running; NULL is fine */

/* workos_opts.installing and .installed */
void routes_installing(struct routes *routes);
void routes_installed(struct routes *routes, const struct script *script);

/* Any thread. */
const struct routes_counts *routes_counts(const struct routes *routes);

/* Also a 404 for what is nobody's. */
void routes_answer(struct routes *routes, const struct http_request *request,
                   struct http_response *response);

/* Let pages of the allowed origins see an answer that isn't made here. */
void routes_allow_origin(struct routes *routes, const struct http_request *request,
                         struct http_response *response);

#endif
