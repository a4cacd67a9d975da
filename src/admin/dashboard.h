/* SPDX-License-Identifier: MIT */
/*
 * dashboard - the page of the admin listener, and what it is made of.
 *
 *     GET /                  the page, or the one to sign in with
 *     GET /dashboard/FILE    its files, src/admin/dashboard/ (embedded in the binary)
 *     GET /api/overview      version, when it was started, counts of events, endpoints
 *     GET /api/users         ?search=&after=&limit=
 *     GET /api/users/ID
 *     GET /api/events        ?status=&type=&user=&after=&limit=   the newest first
 *     GET /api/events/ID     with payload, error and traceback
 *     GET /api/config        without secrets: of them only whether they are set
 *     GET /api/script        which functions there are, and how the last load went
 *
 * What they answer with: workos/browse.h, script_status.h. Nothing here changes anything: for that the
 * page uses /retry and /reload (admin.h).
 *
 * It reads through a connection of its own, one request at a time, each for a second at most.
 *
 * Threads    dashboard_new, _free: main. The rest: the admin listener's.
 * Ownership  what opts points to must outlive it.
 * Errors     those of store/; a request that asks for nonsense is answered with 400.
 */
#ifndef ADMIN_DASHBOARD_H
#define ADMIN_DASHBOARD_H

#include "admin/script_status.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/message.h"

#include <stdint.h>

struct dashboard_opts {
    const char *db_path;
    struct script_status *script;
    int64_t started_ms; /* wall time */

    /* What is set up: the two doors of WorkOS, its API, access tokens, and whether an admin token is
     * needed. */
    bool has_webhook, has_action, has_api, has_tokens, has_admin_token;

    /* Append the options as JSON objects with commas between them:
     * {"name":…,"variable":…,"help":…,"default":…,"secret":…,"set":…,"value":…}, a secret's without value. */
    void (*put_options)(const void *arg, struct buf *out);
    const void *arg;
};

struct dashboard;

int dashboard_new(struct dashboard **out, const struct dashboard_opts *opts, struct err *err)
    MUST_CHECK;
void dashboard_free(struct dashboard *dashboard); /* NULL is fine */

/* Is it for somebody who isn't signed in, too? "/" is, with the page to sign in with. */
bool dashboard_is_open(const char *path);

/* False when the path is none of the dashboard's. */
bool dashboard_answer(struct dashboard *dashboard, const struct http_request *request,
                      bool is_signed_in, struct http_response *response);

#endif
