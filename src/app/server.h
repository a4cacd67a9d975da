/* SPDX-License-Identifier: MIT */
/*
 * server - everything that runs, in the order in which it starts, reloads and stops.
 *
 *   start   lock -> database -> service -> tokens, routes -> certificate -> script -> poller ->
 *           backfill -> admin listener -> listener
 *   reload  certificate -> script (loaded beside the old one, installed in a transaction)
 *   stop    no reloads and readings any more, backfill ends -> listeners drained -> reloader -> backfill ->
 *           service (what was accepted is committed) -> routes, tokens -> checkpoint -> lock
 *
 * Threads    server_start, _stop: main. server_ask_reload, _has_failed: any.
 * Ownership  config and notify must outlive the server.
 * Errors     worded by the rooms; a start that fails undoes what it had started. One that is stopped is
 *            left to server_stop.
 */
#ifndef APP_SERVER_H
#define APP_SERVER_H

#include "app/config.h"
#include "app/notify.h"
#include "base/err.h"

#include <stdbool.h>

enum { SERVER_DRAIN_MS = 3000 };

struct server;

/* Signals are blocked: SIGTERM and SIGINT are looked for between the steps, and while the script is loading.
 * Then the error is ERR_CLOSED, and *out what has been started so far, to be stopped. */
int server_start(struct server **out, const struct config *config, struct notify *notify,
                 struct err *err) MUST_CHECK;

/* Have the script (and the certificate) loaded again, soon; several at once become one. On failure
 * the old one goes on. Every outcome is logged. */
void server_ask_reload(struct server *server);

/* The database failed: the server has sent its process a SIGTERM. */
bool server_has_failed(const struct server *server);

/*
 * Returns 0, or ERR_FATAL when the disk failed, before or now. What was acknowledged is on disk in
 * any case. out_left: threads were still at work after SERVER_DRAIN_MS (requests, a new schema), or
 * with a script that doesn't end its loading. They were left behind, with the log told, and the
 * process must end with _exit.
 */
int server_stop(struct server *server, bool *out_left);

#endif
