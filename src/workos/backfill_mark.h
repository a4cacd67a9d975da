/* SPDX-License-Identifier: MIT */
/*
 * backfill_mark - how far a backfill has come, and what it has seen, kept in the database.
 *
 * The mark stands in authkitd_state, under backfill.…; it is written together with, or after, what it
 * says is done. A run that ended well leaves none. A copy of the database has none, either: whoever
 * starts from one wants to know what WorkOS has now, not what it had when the copy was made.
 *
 * A run that is to find what WorkOS no longer has (prune) also writes down every id that WorkOS listed,
 * in authkitd_backfill_seen: a table that is there only meanwhile. It lists everything twice, and first
 * only looks: how many of those were here is asked while the listing itself has put nothing there. Stale is
 * a row of the mirror that wasn't listed, though it should have been: its version is older than the run by a
 * margin, and no event of it came since then. What arrived while the listing went on can't be expected in it, and WorkOS's
 * lists are a little behind its webhooks; nor are its clock and ours the same. What changed within the
 * margin before the run is told apart, as recent. Stale is also a user who never had a row, of whom the log
 * of events has something (a session), when neither WorkOS nor a tombstone knows of him.
 *
 * Threads    writer, inside a transaction.
 * Errors     those of store/db.h.
 * Limits     an id has at most EVENT_NAME_MAX bytes.
 */
#ifndef WORKOS_BACKFILL_MARK_H
#define WORKOS_BACKFILL_MARK_H

#include "base/err.h"
#include "store/db.h"
#include "workos/event.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum backfill_type {
    BACKFILL_USERS,
    BACKFILL_ORGANIZATIONS,
    BACKFILL_MEMBERSHIPS, /* after the organizations: it goes by them */
    BACKFILL_INVITATIONS,
    BACKFILL_TYPES
};

extern const struct backfill_kind {
    const char *name;   /* "users" */
    const char *one;    /* "user" */
    const char *prefix; /* of its events */
    const char *path;   /* of its list */
    const char *table;
} backfill_kinds[BACKFILL_TYPES];

/* The bytes of its name for so many: "users", or "user". */
int backfill_name_len(enum backfill_type type, int64_t count);

enum { BACKFILL_MARGIN_MS = 10 * 60 * 1000 };

struct backfill_mark {
    int64_t started_ms;             /* 0: there is no unfinished run */
    int64_t complete_ms;            /* when all types were listed */
    int stage;                      /* the type that is being listed; BACKFILL_TYPES: all are */
    int64_t listed;                 /* objects of that type */
    bool is_pruning;                /* what is seen has been written down from the beginning */
    bool is_survey;                 /* is_pruning, and it only looks: nothing is stored yet */
    char after[EVENT_NAME_MAX + 1]; /* the API's cursor; "" is the beginning */
    char organization[EVENT_NAME_MAX + 1]; /* the one whose memberships are being listed */
    char api[EVENT_NAME_MAX + 1];          /* whose lists they are: a hash of host and key */

    int64_t known[BACKFILL_TYPES]; /* so many were listed that had been here before the run */

    /* Bits, by type. */
    int64_t found;      /* something was listed */
    int64_t incomplete; /* not everything could be listed */
};

int backfill_mark_read(struct db *db, struct backfill_mark *out, struct err *err) MUST_CHECK;
int backfill_mark_write(struct db *db, const struct backfill_mark *mark, struct err *err)
    MUST_CHECK;
int backfill_mark_clear(struct db *db, struct err *err) MUST_CHECK;

/* The mark and all that was seen, at once: of a copy that nobody uses yet. */
int backfill_leave_out(struct db *copy, struct err *err) MUST_CHECK;

/* From the survey to the beginning of the listing proper, with all that was learnt. */
void backfill_mark_end_survey(struct backfill_mark *mark);

/* To the next list: of the next organization's memberships, or of the next type. */
int backfill_mark_advance(struct db *db, struct backfill_mark *mark, struct err *err) MUST_CHECK;

/* Organizations to go by, and how many of them lie behind the mark. */
int backfill_mark_count(struct db *db, const struct backfill_mark *mark, int64_t *out_total,
                        int64_t *out_done, struct err *err) MUST_CHECK;

/* ---------------------------------------------------------------------------------- seen */

int backfill_seen_create(struct db *db, struct err *err) MUST_CHECK;

/* Forget some thousand ids; out_more is false when the table is gone. */
int backfill_seen_forget(struct db *db, bool *out_more, struct err *err) MUST_CHECK;

int backfill_seen_add(struct db *db, enum backfill_type type, struct event_text id, bool *out_added,
                      struct err *err) MUST_CHECK;

/* Was it deleted here so long before the run that WorkOS's list can't just be behind? */
int backfill_was_deleted(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                         struct event_text id, bool *out, struct err *err) MUST_CHECK;

int backfill_is_stale(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                      struct event_text id, bool *out, struct err *err) MUST_CHECK;

/* How far a look has come; {0} at first. */
struct backfill_cursor {
    bool is_over;
    int64_t row;
    bool in_log; /* behind this user, when the rows are through */
    size_t user_len;
    char user[EVENT_NAME_MAX];
};

/* Look at some more: each that is stale is told, with its object (NULL when there is none), and each that
 * is too recent to be. */
typedef int backfill_stale_fn(void *arg, const char *id, const char *raw, bool is_recent,
                              struct err *err);
int backfill_find_stale(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                        struct backfill_cursor *cursor, backfill_stale_fn *tell, void *arg,
                        struct err *err) MUST_CHECK;

#endif
