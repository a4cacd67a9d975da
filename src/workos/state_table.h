/* SPDX-License-Identifier: MIT */
/*
 * state_table - what the service remembers of itself in the file, by name: authkitd_state.
 *
 * A name belongs to the module that writes it, and says so where it can: "poll.cursor". tables.h lists who does.
 * An unfinished backfill, which has many names, is read and written by backfill_mark.c as a whole.
 *
 * Threads    writer, inside a transaction.
 * Errors     those of store/db.h.
 */
#ifndef WORKOS_STATE_TABLE_H
#define WORKOS_STATE_TABLE_H

#include "base/buf.h"
#include "base/err.h"
#include "store/db.h"

#include <stdint.h>

int state_get_int(struct db *db, const char *name, int64_t instead, int64_t *out, struct err *err)
    MUST_CHECK;
int state_put_int(struct db *db, const char *name, int64_t value, struct err *err) MUST_CHECK;

/* Appended to out; nothing when it isn't there. */
int state_get_text(struct db *db, const char *name, struct buf *out, struct err *err) MUST_CHECK;
int state_put_text(struct db *db, const char *name, const char *value, struct err *err) MUST_CHECK;

#endif
