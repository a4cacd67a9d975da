/* SPDX-License-Identifier: MIT */
/*
 * backfill - the users that were at WorkOS before authkitd was here, and all else that was missed.
 *
 * A run lists users, organizations, their memberships, and invitations, oldest first, and brings the
 * mirror to what WorkOS says, page by page. The mirror's rule makes that safe beside webhooks: of two
 * versions the later one stays, and what was deleted stays deleted.
 *
 * An object that is new here runs the script's "….created" function, once: it is an event with the id
 * "backfill:<object id>" (backfill_items.h). When the real event of its creation comes afterwards, by a
 * webhook or from the Events API, intake.h keeps it without running the function again.
 *
 *     list users --> list organizations --> memberships of each --> list invitations --+
 *       |  ^                                                                           |
 *       +--+ page: mirror, functions, mark                                             |
 *     done <-- stale rows removed <-- (again, with prune REMOVE) <-- stale rows counted <--+
 *
 * With prune all of that is listed before, too, in a survey that stores nothing and runs no function: the
 * key of another environment is to bring nothing here, neither rows nor the look of having been here.
 *
 * Where it has come to is on disk behind every page (backfill_mark.h). However a run ends - stopped, a
 * lost connection, a kill -9 - the next one goes on there: within a day, and with the same API key.
 *
 * With prune, what is here and no longer at WorkOS is counted, and removed if that is asked for, as
 * "….deleted" with the id "prune:<object id>"; the real event runs no function afterwards, either. It
 * is refused when the listing isn't to be trusted: of a type when its list is incomplete or empty; and
 * as a whole, by the end of the survey, when it is of others altogether (the key of another environment),
 * or when it has less than half of a type's rows (unless they are BACKFILL_FEW, or prune_most is given).
 * What was heard of in the last minutes is left alone, for the list may be behind (backfill_mark.h).
 *
 * Threads    backfill_new, _free: main. All others: any. A run has a thread of its own; all that it
 *            writes are jobs of the writer's.
 * Ownership  the service and the texts in api must outlive it.
 * Errors     backfill_start: ERR_BUSY: a run is going on; ERR_ABSENT: there is no API key; ERR_CLOSED.
 *            What a run fails with is in its progress.
 * Limits     one run at a time; memory for one page. At most pages_per_s requests a second.
 */
#ifndef WORKOS_BACKFILL_H
#define WORKOS_BACKFILL_H

#include "base/buf.h"
#include "base/err.h"
#include "workos/workos.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    BACKFILL_PAGES_PER_S = 4,
    BACKFILL_GIVE_UP_S = 600,
    BACKFILL_FEW = 5, /* so many of a type may be missing in its list, though they are most */
};

enum backfill_prune {
    BACKFILL_KEEP,   /* don't look for what is stale */
    BACKFILL_REPORT, /* count it */
    BACKFILL_ASK,    /* count it, and leave the mark there, if there is any: the next run goes on */
    BACKFILL_REMOVE,
};

struct backfill_request {
    bool with_functions;
    enum backfill_prune prune;
    bool prune_most;     /* also when most of what is here goes */
    int64_t pages_per_s; /* 0: BACKFILL_PAGES_PER_S */
    int64_t give_up_s;   /* after so long without WorkOS or without a disk; 0: BACKFILL_GIVE_UP_S */
};

struct backfill;

/* api->key may be NULL: then no run can be started. */
int backfill_new(struct backfill **out, struct workos *workos, const struct workos_api_opts *api,
                 struct err *err) MUST_CHECK;

int backfill_start(struct backfill *backfill, const struct backfill_request *request,
                   struct err *err) MUST_CHECK;

/* The run ends soon, with what it has. */
void backfill_stop(struct backfill *backfill);

/* The same, and no other begins. NULL is fine, here and below. */
void backfill_refuse(struct backfill *backfill);

/* Waits for the run's end. Before workos_close. */
void backfill_free(struct backfill *backfill);

/*
 * How far it is, or how it ended, as JSON:
 *     run             a number of its own; 0 when there was none yet
 *     state           "idle", "running", "done", "asks", "stopped", "failed"
 *     resumed         it goes on where another had come to,
 *     since_ms, since_stage, since_listed    whose listing began then, and stood there
 *     stage           "users", "organizations", "memberships", "invitations", "stale", "removal"; in the
 *                     survey "check of users" …
 *     stage_listed    objects of the stage, those of earlier runs too
 *     done, total     organizations whose memberships are listed, or stale rows dealt with; total 0:
 *                     unknown
 *     trouble, trouble_s   why it doesn't get on at the moment, and for how long
 *     error           why it failed
 *     refused         why stale rows aren't removed; lines
 *     types           {"users":{"listed":…}…}, the members as in struct backfill_counts
 */
void backfill_put_progress(struct backfill *backfill, struct buf *out);

#endif
