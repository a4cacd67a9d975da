/* SPDX-License-Identifier: MIT */
/*
 * backfill_items - a page of WorkOS's objects (or of stale ones) on its way through the writer.
 *
 * In a survey (backfill_mark.h) a page is only written down as seen.
 *
 * What a page holds goes in one job for many objects, some milliseconds long: into the mirror, by its
 * rule. An object that is new here, and that the script has a function for, is left to a job of its own
 * afterwards: it is an event then, "user.created" with the id "backfill:<object id>", taken, run and
 * healed like any other (intake.h), made when the object was updated last; so a slow or failing function is nobody else's trouble. Should the object have
 * come by a webhook in between, its function isn't run again. What WorkOS no longer has is removed in
 * the same way, as "user.deleted" with the id "prune:<object id>".
 *
 *     page_read --> page_load   [ mirror mirror new mirror new ] + mark?      one job, one commit
 *                   page_run    [ new ] [ new ] ...  several a commit         jobs of their own
 *
 * Threads    the backfill's own; page_load and page_run block until the commit.
 * Ownership  a page belongs to its caller; page_release also when a function failed.
 * Errors     those of the writer. Call the function again, and it goes on with the rest.
 */
#ifndef WORKOS_BACKFILL_ITEMS_H
#define WORKOS_BACKFILL_ITEMS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "store/writer.h"
#include "workos/backfill_mark.h"
#include "workos/intake.h"
#include "workos/retry.h"

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BACKFILL_PAGE = 100, BACKFILL_ITEMS_MAX = 500 };

/* What became of objects. */
struct backfill_counts {
    int64_t listed;    /* all of these */
    int64_t created;   /* new here */
    int64_t changed;   /* had another version here */
    int64_t unchanged; /* this version, or a later one */
    int64_t deleted;   /* skipped: deleted meanwhile, or before; */
    int64_t missing;   /* of these, long before: by mistake, perhaps */
    int64_t unusable;  /* skipped: no object, or without an id */

    int64_t stale;   /* here, and no longer at WorkOS */
    int64_t recent;  /* the same, but heard of shortly before: left alone */
    int64_t removed; /* of those that are stale */

    int64_t ran;    /* functions that went well, */
    int64_t failed; /* that didn't (they run again, like any event's), or wait for their turn */
};

enum backfill_made {
    MADE_NOTHING,
    MADE_NEW,
    MADE_CHANGED,
    MADE_UNCHANGED,
    MADE_DELETED,
    MADE_GONE
};
enum backfill_call { CALL_NONE, CALL_RAN, CALL_FAILED };

struct backfill_item {
    struct writer_job job; /* first: it is cast back */
    struct backfill_page *page;
    struct buf body;      /* of the event that it is, or would be; without its secrets */
    struct intake intake; /* that event */
    bool is_left;         /* for a job of its own */
    bool is_put_off;      /* its job did nothing: those before it took long */
    enum backfill_made made;
    bool is_missing; /* MADE_DELETED long before */
    enum backfill_call call;
    int rc;
    struct err err;
};

struct backfill_page {
    struct workos *workos;
    enum backfill_type type;
    bool is_removal;
    bool with_functions;
    struct backfill_mark *mark; /* the run's; page_load brings it forward */
    char after[EVENT_NAME_MAX + 1];
    bool is_last; /* of its list */
    int64_t unusable;
    size_t count;
    struct backfill_item *items;
    size_t loaded; /* so many of them have been through page_load */
    struct backfill_group {
        sem_t done;
        int64_t began_ms, ended_ms; /* monotonic: the first began, the last ended; writer only */
    } group;
};

/* The answer of a list endpoint. ERR_INVALID: it is no list, or doesn't say whether it goes on. */
int backfill_page_read(struct backfill_page *page, const struct json *json, struct err *err)
    MUST_CHECK;

/* One stale object more, as the mirror has it. */
int backfill_page_add_stale(struct backfill_page *page, const char *id, const char *raw,
                            struct err *err) MUST_CHECK;
void backfill_page_release(struct backfill_page *page);

/* All that wants no function (in a survey nothing), with what is seen; and with the mark if nothing is left
 * to be run. */
int backfill_page_load(struct backfill_page *page, struct backfill_counts *counts, struct err *err)
    MUST_CHECK;

bool backfill_page_has_left(const struct backfill_page *page);

/* Some of what is left, as many as the pace has it, or until they have taken long; out_more is false when nothing is. */
int backfill_page_run(struct backfill_page *page, struct retry_pace *pace,
                      struct backfill_counts *counts, bool *out_more, int64_t *out_pause_ms,
                      struct err *err) MUST_CHECK;

/* The mark behind this page, on disk. */
int backfill_page_mark(struct backfill_page *page, struct err *err) MUST_CHECK;

#endif
