/* SPDX-License-Identifier: MIT */
/*
 * server - everything that runs, in the order in which it starts, reloads and stops.
 *
 *   start   lock -> database -> service -> script -> admin listener -> listener
 *   reload  TLS certificate -> script (loaded beside the old one, installed in a transaction)
 *   stop    listeners drained -> service (what was accepted is committed) -> checkpoint -> lock
 *
 * Threads    server_start, _stop: main. server_reload: main and admin requests; one at a time.
 * Ownership  config must outlive the server.
 * Errors     worded by the rooms; a start that fails undoes what it had started.
 */
#ifndef APP_SERVER_H
#define APP_SERVER_H

#include "app/config.h"
#include "base/buf.h"
#include "base/err.h"

enum { SERVER_DRAIN_MS = 3000 };

struct server;

int server_start(struct server **out, const struct config *config, struct err *err) MUST_CHECK;

/* Load the script (and the certificate) again. On failure the old one goes on; err says why.
 * report gets a line for each change of the schema, out_renewed (may be NULL) how many failed events
 * run again. Both outcomes are logged. */
int server_reload(struct server *server, struct buf *report, int64_t *out_renewed, struct err *err)
    MUST_CHECK;

/* The service, for the admin listener; valid while that runs. */
struct workos *server_workos(struct server *server);

/* Returns ERR_FATAL when the disk failed, before or now; ERR_BUSY when requests were still running after SERVER_DRAIN_MS; the process must end
 * with _exit then. What was acknowledged is on disk in any case. */
int server_stop(struct server *server);

#endif
