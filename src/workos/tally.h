/* SPDX-License-Identifier: MIT */
/*
 * tally - how many events and users the database has, for who asks often.
 *
 * Counted on a connection of its own, beside the writer: events that aren't done by their index, which
 * holds nothing else; users only while that is quick, since it means to look at each. Of dead events the rows
 * say which are erased, and are nobody's trouble: they are left out unless there are very many. What was counted
 * a moment ago is given again: events for five seconds, users for a minute, both for fifty times as long as it
 * took to count them.
 *
 * Threads    tally_open, _close: main. tally_get, _glance: any; tally_get may take some hundred milliseconds.
 * Errors     those of store/db.h. What can't be counted is unknown, or stays as it was.
 * Limits     TALLY_EVENTS_MAX events of each status: more are shown as so many. Of more than
 *            TALLY_ERASED_MAX dead ones those that are erased are counted, too.
 */
#ifndef WORKOS_TALLY_H
#define WORKOS_TALLY_H

#include "base/err.h"
#include "workos/event_log.h"
#include "workos/tables.h"

#include <stdint.h>

enum { TALLY_EVENTS_MAX = 1000000, TALLY_ERASED_MAX = 20000 };

/* How many events have a status; the condition on 'done' is in the words of the index. */
#define TALLY_EVENTS_SQL                                \
    "SELECT count(*) FROM (SELECT 1 FROM workos_events" \
    " WHERE status = ? AND status <> 'done' LIMIT 1000000)"

struct tally;

struct tally_counts {
    int64_t events[EVENT_STATUSES]; /* -1: unknown, as those that are done always are */
    int64_t users;                  /* -1: unknown */
};

/* The database is there, with its tables. */
int tally_open(struct tally **out, const char *db_path, struct err *err) MUST_CHECK;
void tally_close(struct tally *tally); /* NULL is fine */

void tally_get(struct tally *tally, struct tally_counts *out);

/* The same at once, whatever the size: of more than TALLY_GLANCE_USERS users so many and one are told. */
enum { TALLY_GLANCE_USERS = 10000 };
void tally_glance(struct tally *tally, struct tally_counts *out);

#endif
