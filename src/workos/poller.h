/* SPDX-License-Identifier: MIT */
/*
 * poller - reads the Events API for what no webhook brought.
 *
 * WorkOS keeps every event for 90 days and gives them oldest first. Every so often the poller asks for
 * those behind its place, for every type that has a mirror or a function, and takes them in as webhooks
 * are (intake.h): what is known already is a duplicate, and vanishes. So a server that was down, or a
 * webhook that got lost, costs nothing but time.
 *
 *     place (on disk) --> GET /events?after=…  --page--> intake --on disk--> place moves --> next page
 *
 * The place is the poller's alone: no webhook moves it (one could move it past an older event that
 * hasn't come). It lies POLLER_OVERLAP_MS behind, so that the newest events are read more than once:
 * WorkOS shows an event some seconds after it was made. At the first start the place is "now", less what our
 * clock may be ahead.
 *
 * When WorkOS refuses the list of types (one of the script's is misspelt, say), those that it has answered for
 * before are read without the others, and if it refuses them, too, the mirrors' alone; from a place of their own
 * in memory, and each reading tries the whole list first. What was refused comes from the place on disk as
 * soon as WorkOS takes it.
 *
 * When WorkOS doesn't know the place any more (the server was down for too long), that is logged, and
 * reading goes on from ten minutes before the last event that was read, or from 90 days ago. That time is the
 * place then. An event that can't be read is logged and left out; it stops nothing. WorkOS answers with 30 days
 * of events at most, so where they end the reading looks further, until now.
 *
 * With opts.ordered webhooks only wake the poller (poller_expect). It reads at once, and again until
 * it has seen the event, since WorkOS may hold it back for some seconds. What it will never see (from
 * before the first start, say) it leaves to the webhook. For which types WorkOS answers is on disk, so that
 * this holds from the start on.
 *
 * A webhook's event is kept meanwhile ('expected', event_log.h). What no good reading has brought for
 * POLLER_PATIENCE_MS is told, and taken in from there: it may be behind the place (its type wasn't asked for
 * when that moved), or the key may be another environment's, whose events are others. While no reading goes
 * well nothing is: the order is worth more than the time.
 *
 * Threads    poller_start, _expect_nothing, _refuse, _stop, _free: main. poller_expect: any. poller_run_now: any but
 *            the writer's; blocks. poller_once: any with no poller running. It has a thread of its own.
 * Ownership  opts is copied, its texts must outlive the poller.
 * Errors     those of api.h and of the writer. The thread logs them, when they begin and when they
 *            end, and tries again at the next time.
 */
#ifndef WORKOS_POLLER_H
#define WORKOS_POLLER_H

#include "base/err.h"
#include "workos/event.h"
#include "workos/workos.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    POLLER_OVERLAP_MS = 60000,
    POLLER_PATIENCE_MS = 300000, /* WorkOS shows what happened after some seconds */
};

struct poller;

struct poller_opts {
    struct workos_api_opts api;
    int64_t interval_ms;
};

/* What one reading brought. */
struct poller_report {
    int64_t read;     /* events */
    int64_t fresh;    /* of them, not known before */
    int64_t unusable; /* of them, no events at all */
    int64_t refused;  /* types of the script's: WorkOS refuses to be asked for them */
};

struct poller_status {
    /* clock_boot_ms of the end of the last good reading, or of the start: what there is to miss is younger */
    int64_t since_ms;
    bool is_failing; /* the last one failed */
    int64_t unseen;  /* events that it was to bring and didn't, since it last brought one;
                        an hour after the last of them 0 */
    char problem[ERR_TEXT_MAX];
};

/* With its place on disk: what is expected from here on comes, whatever happens to the process. */
int poller_start(struct poller **out, struct workos *workos, const struct poller_opts *opts,
                 struct err *err) MUST_CHECK;

/* The reading that is going on ends soon, none begins, and who waits for one gets ERR_CLOSED. NULL is
 * fine, here and below. */
void poller_refuse(struct poller *poller);
void poller_stop(
    struct poller *poller); /* the same, and the thread has ended; before the writer stops */
void poller_free(struct poller *poller);

/*
 * A webhook brought this event, which isn't known. POLLER_EXPECTS: it is read until it comes; the caller keeps
 * the event. POLLER_LEAVES: it isn't sure to come, since it is behind the place, or WorkOS hasn't answered for
 * its type (it refuses the list for one that is misspelt); it is the caller's to take in. POLLER_UNWANTED:
 * there is nothing to come for, no mirror and no function.
 */
enum poller_answer { POLLER_EXPECTS, POLLER_LEAVES, POLLER_UNWANTED };
enum poller_answer poller_expect(struct poller *poller, const struct event *event,
                                 bool has_function) MUST_CHECK;

/* Without opts.ordered nothing is expected any more: what still is arrives now, as its webhook brought it. With a
 * script there, which may have functions for it. */
int poller_expect_nothing(struct workos *workos, struct err *err) MUST_CHECK;

/* Read now, and wait for the outcome of a reading that began after the call. */
int poller_run_now(struct poller *poller, struct poller_report *out, struct err *err) MUST_CHECK;

/* One reading, on this thread, without a poller. */
int poller_once(struct workos *workos, const struct poller_opts *opts, struct poller_report *out,
                struct err *err) MUST_CHECK;

void poller_get_status(struct poller *poller, struct poller_status *out);

/* For how long nothing was read: what there is to miss is younger than that. */
int64_t poller_age_s(const struct poller_status *status);

#endif
