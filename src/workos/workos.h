/* SPDX-License-Identifier: MIT */
/*
 * workos - what WorkOS asks of us: take an event, decide an action.
 *
 *    webhook_open     --> verify, read (caller's thread) --> writer: log, mirror, function --> 200
 *    action_decide    --> verify, read (caller's thread) --> writer, urgent: function --> signed
 *    workos_run       --> somebody else's call of the script --> writer
 *    poller (thread)  --> the Events API: what no webhook brought --> writer, as webhooks are
 *    upkeep (thread)  --> what is due: failed events again, retention --> writer
 *    watchdog (thread)    looks at who runs functions: one that hangs ends the process
 *
 * This header is the service as a whole: its start, its script, its end. webhook.h and action.h are
 * its two doors, put_back.h and backfill.h are the operator's.
 *
 * Threads    workos_open, _start_poller, _close: main. workos_poller, _watchdog: any. workos_install: any, one at
 *            a time. The doors and workos_run: any thread, several at once.
 * Ownership  workos owns the writer and the script; the database connection is the caller's, to be
 *            closed after workos_close.
 * Errors     ERR_INVALID for secrets and scripts; those of store/ otherwise.
 * Not here   HTTP (app/endpoints.c), configuration (app/config.c).
 */
#ifndef WORKOS_WORKOS_H
#define WORKOS_WORKOS_H

#include "base/buf.h"
#include "base/err.h"
#include "script/script.h"
#include "store/db.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum workos_action_on_error { ACTION_ERROR_FAIL, ACTION_ERROR_DENY, ACTION_ERROR_ALLOW };

/* How WorkOS's API is reached; the texts must outlive the service. */
struct workos_api_opts {
    const char *hostname;
    int port;
    bool https;
    const char *key;
};

struct workos_opts {
    struct db *db;              /* open for writing; the service's until workos_close */
    const char *webhook_secret; /* secrets, separated by commas; NULL: the endpoint is off */
    const char *action_secret;
    enum workos_action_on_error action_on_error;
    size_t max_queue;
    int max_batch_ms; /* a batch is committed after so long, however many wait; 0: 50 */
    size_t crowd; /* so many calls that wait at once leave too few threads for others, and so many
                     events won't have run soon; 0: never */
    int64_t retention_days; /* payloads of done events are kept so long; 0: for ever, the ids too */
    int handler_timeout_ms; /* of event functions, for the watchdog */
    int action_timeout_ms;
    const char *note_path; /* the watchdog's note (watchdog.h); NULL: no watchdog */
    bool ordered;          /* webhooks only wake the poller */
    void (*on_fatal)(void *arg, const struct err *err); /* writer thread: the disk failed */

    /*
     * For who keeps twins of the script (script.h). Writer thread. installing: a new schema is made and
     * about to be committed, perhaps said several times; installed: afterwards, with the script that is
     * the service's now, or NULL when nothing has changed (also when installing was never said). Both
     * may be NULL.
     */
    void (*installing)(void *arg);
    void (*installed)(void *arg, const struct script *script);
    void *arg; /* of all three */
};

struct workos;
struct poller;
struct watchdog;

int workos_open(struct workos **out, const struct workos_opts *opts, struct err *err) MUST_CHECK;

/*
 * Make script the one that events and actions run, in one transaction with its schema; the former
 * one is freed. On failure the former one goes on, and script still is the caller's. report gets
 * what script_migrate reports; then, should the former one have functions that this one hasn't, a line that
 * begins with WORKOS_LOST and has their names. Every failed event is due with it, at once: the report has a
 * line "note: …" about those that have a function.
 */
#define WORKOS_LOST "warning: without a function any more: "
int workos_install(struct workos *workos, struct script *script, struct buf *report,
                   struct err *err) MUST_CHECK;

/*
 * Something of the script that is neither an event nor an action. run is called on the writer with the
 * script that is installed then (NULL: none yet), inside a savepoint: an error of its undoes what it
 * wrote. It may be called again when the batch was lost. Embed the struct as a first member.
 */
struct workos_call {
    const char *name; /* "POST /todos": for the watchdog */
    int (*run)(struct workos_call *call, struct script *script, struct db *db, struct err *err);
};

enum { WORKOS_CROWDED_PATIENCE_MS = 100 };

/* Blocks until what run wrote is on disk. Errors: run's and the writer's; ERR_BUSY also when it has
 * waited WORKOS_CROWDED_PATIENCE_MS among opts.crowd others: then it isn't run. */
int workos_run(struct workos *workos, struct workos_call *call, struct err *err) MUST_CHECK;

/* Have the write-ahead log emptied soon, behind the writer's next batch. Doesn't wait, not even for a
 * writer that is at work for long; without memory or room in the queue nothing happens. Thread: any. */
void workos_empty_wal(struct workos *workos);

/* Begin to read the Events API, every so often. After the first script is installed: its functions say
 * which events to ask for. */
int workos_start_poller(struct workos *workos, const struct workos_api_opts *api,
                        int64_t interval_ms, struct err *err) MUST_CHECK;

/* NULL when it wasn't started. */
struct poller *workos_poller(struct workos *workos);

/* For who runs functions of the script beside the writer, on twins (watchdog.h). NULL: nobody watches. */
struct watchdog *workos_watchdog(struct workos *workos);

/* Finish what was accepted, stop the writer, free everything. No other thread may use it any more.
 * NULL is fine. */
void workos_close(struct workos *workos);

#endif
