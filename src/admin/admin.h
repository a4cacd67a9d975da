/* SPDX-License-Identifier: MIT */
/*
 * admin - the listener that our own commands and the operator talk to.
 *
 *     GET  /healthz    200 while the process serves: for anybody, whatever admin_guard.h says
 *     GET  /readyz     200, or 503 and what is wrong (ready.h)
 *     GET  /metrics    for Prometheus (metrics.h)
 *     POST /reload     load the script again: 200 with what changed, 422 with what is wrong,
 *                     503 when the server stops meanwhile
 *     POST /reconcile  read the Events API now: 200 with what came, 502 with what is wrong,
 *                      409 when the server doesn't poll, 503 when it stops meanwhile
 *     GET  /backfill   how far the backfill is, or how the last one ended (backfill.h)
 *     POST /backfill   begin one: 202; 409 when one is running, or there is no API key. The body is
 *                      {"functions":true,"prune":"keep|report|ask|remove","pages_per_s":4,
 *                      "give_up_s":600}; each may be missing
 *     POST /backfill/stop   end it: 202 at once
 *     POST /retry      {"ids":["event_…"]} or {"all":true}: failed and dead events back to work
 *     POST /sign-in    {"token":"…"}: the admin token for a cookie, which a browser is let in with
 *     POST /sign-out   ends that
 *
 * and the dashboard (dashboard.h). Who may ask: admin_guard.h. A POST must besides carry the header
 * "Authkitd-Admin: 1", which a page of another origin can't make a browser send.
 *
 * Threads    admin_handle: the admin listener's threads.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "base/buf.h"
#include "base/err.h"
#include "http/message.h"

#include <stdatomic.h>
#include <stdint.h>

#define ADMIN_HEADER "Authkitd-Admin"

struct admin_guard;
struct auth;
struct backfill;
struct certificate_status;
struct dashboard;
struct http_server;
struct routes;
struct script_status;
struct tally;
struct workos;

/* What is shown, and what is done when somebody asks. All is borrowed, and there while the listener runs. */
struct admin {
    struct admin_guard *guard;
    struct dashboard *dashboard;
    struct workos *workos;
    struct backfill *backfill;
    struct routes *routes;
    struct auth *auth; /* NULL: no tokens are taken */
    struct tally *tally;
    struct script_status *script;
    struct certificate_status *certificate; /* NULL: plain HTTP */
    struct http_server *_Atomic http;       /* the world's; NULL: it hasn't started yet */
    const char *db_path;
    int64_t started_ms; /* wall time */
    int64_t poll_s;     /* how often the Events API is read; 0: not at all */

    /* Load the script again, and wait for the outcome. report gets a line for each change of the schema;
     * err says why not. ERR_CLOSED: the server is stopping. */
    int (*reload)(void *arg, struct buf *report, struct err *err);
    void *arg;
};

/* An http_handle_fn; arg is a struct admin. */
void admin_handle(void *arg, const struct http_request *request, struct http_response *response);

#endif
