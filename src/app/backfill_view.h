/* SPDX-License-Identifier: MIT */
/*
 * backfill_view - a backfill's progress, for people.
 *
 * On a terminal one line that is written over and over; in a log a plain line every few seconds. A
 * view is read from the JSON of backfill_put_progress, so that it makes no difference in which
 * process the backfill runs.
 *
 * Threads    main.
 */
#ifndef APP_BACKFILL_VIEW_H
#define APP_BACKFILL_VIEW_H

#include "base/buf.h"
#include "base/err.h"
#include "workos/backfill_items.h"

#include <stdbool.h>
#include <stdint.h>

enum { BACKFILL_TEXT_MAX = 8192 };

struct backfill_view {
    int64_t run;
    char state[16], stage[32];
    bool resumed; /* what began then, and stood there */
    int64_t since_ms, since_listed;
    char since_stage[32];
    int64_t stage_listed, done, total, trouble_s;
    char trouble[BACKFILL_TEXT_MAX], error[BACKFILL_TEXT_MAX], refused[BACKFILL_TEXT_MAX];
    struct backfill_counts counts[BACKFILL_TYPES];
};

int backfill_view_read(struct backfill_view *out, const struct buf *json, struct err *err)
    MUST_CHECK;

/* On standard error, of one that is resumed: from when, and from where. */
void backfill_view_tell_resumed(const struct backfill_view *view);

/* What the line needs to remember; starts as {0} but for is_terminal. */
struct backfill_line {
    bool is_terminal;
    char stage[32];
    int64_t since_ms;     /* monotonic: when the stage was first seen */
    int64_t listed, done; /* as it was then */
    int64_t told_ms;      /* when a plain line was last written */
};

/* On standard error. */
void backfill_line_show(struct backfill_line *line, const struct backfill_view *view);
void backfill_line_clear(const struct backfill_line *line);

/* On standard output: what became of everything. */
void backfill_view_sum_up(const struct backfill_view *view);

/* The same: who may only not be listed yet. */
void backfill_view_tell_recent(const struct backfill_view *view);

/* "3 users, 1 membership" that are stale, into out (size bytes); false when there is none. */
bool backfill_view_name_stale(const struct backfill_view *view, char *out, size_t size);

/* The same of what WorkOS has, and was deleted here long before. */
bool backfill_view_name_missing(const struct backfill_view *view, char *out, size_t size);

#endif
