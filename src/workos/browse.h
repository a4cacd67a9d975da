/* SPDX-License-Identifier: MIT */
/*
 * browse - users and events, as a person looks through them: by the page, or one with all that there is.
 *
 * Everything is found through an index, whatever is asked for, so that nothing is slow with millions of
 * users and events: a search is for a beginning, and where there is no index (an event's type) one page
 * looks through so many events and no more. A page that isn't the last has "next", which is `after` of
 * the page behind it.
 *
 * Written is JSON. A column is called like in its table, but for the events' "type" and "error".
 * Long texts are cut and end with "…".
 *
 * Threads    whoever has the connection.
 * Ownership  texts are borrowed for the call; what is written is appended to out.
 * Errors     ERR_ABSENT: there is no such user or event. ERR_INVALID: an `after` that no page gave. Those
 *            of store/db.h; then out is half written.
 */
#ifndef WORKOS_BROWSE_H
#define WORKOS_BROWSE_H

#include "base/buf.h"
#include "base/err.h"
#include "store/db.h"

#include <stdint.h>

enum {
    BROWSE_LIMIT_MAX = 200,
    BROWSE_LOOKS = 5000, /* events that one page looks through */
    BROWSE_COUNT_MAX = 10000,
    BROWSE_LINE_MAX = 512,      /* of a text in a list, bytes */
    BROWSE_TEXT_MAX = 65536,    /* of a text elsewhere … */
    BROWSE_PAYLOAD_MAX = 262144 /* … and of a payload */
};

/*
 * {"users":[…],"next":…}. search is the beginning of an id ("user_…") or, when no id begins so, of an email,
 * whatever its case; and a user whose external id it is comes first. Without one: all, the newest first.
 */
struct browse_users {
    const char *search; /* NULL or "": none */
    const char *after;  /* NULL: the first page */
    int64_t limit;
};
int browse_users(struct db *db, const struct browse_users *ask, struct buf *out, struct err *err)
    MUST_CHECK;

/* {"user":{…},"deleted_at":…,"memberships":[…]}: user is null when only its tombstone or events are here,
 * deleted_at (ms) when there is no tombstone. */
int browse_user(struct db *db, const char *id, struct buf *out, struct err *err) MUST_CHECK;

/* {"last_seq":…,"events":[…],"next":…}, the newest first. The page is of the events from the one whose seq is
 * `next` (from the first of all, where that is null) up to the one before `after`; without `after`, up to
 * last_seq at least, the newest one's (0: there is none). */
struct browse_events {
    const char *status; /* NULL: any, here and below */
    const char *type;   /* "user.*" is every type that begins with "user." */
    const char *user_id;
    int64_t after; /* 0: the first page */
    int64_t limit;
};
int browse_events(struct db *db, const struct browse_events *ask, struct buf *out, struct err *err)
    MUST_CHECK;

/* {"event":{…}}, with its payload as a text, and "payload_bytes". */
int browse_event(struct db *db, const char *id, struct buf *out, struct err *err) MUST_CHECK;

/* {"failed":…,"waiting":…,"dead":…,"expected":…,"last_seq":…,"last_received_at":…}; a count goes to
 * BROWSE_COUNT_MAX, where it means "so many or more". The last two are 0 when nothing has come yet. */
int browse_counts(struct db *db, struct buf *out, struct err *err) MUST_CHECK;

#endif
