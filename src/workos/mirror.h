/* SPDX-License-Identifier: MIT */
/*
 * mirror - tables that hold WorkOS's objects as they are now, whatever the order of the deliveries.
 *
 * One descriptor row (mirror.c) per object type: the prefix of its events, its table, its columns.
 * Another object type is one more row.
 *
 * The rule: of two versions of an object the later updated_at wins (compared as instants), and of
 * equal ones the later event id. A deletion always wins and leaves a tombstone, so that nothing
 * that arrives late brings the object back. So every order and repetition of the same deliveries
 * ends in the same rows.
 *
 * Threads    mirror_prepare: main, before the writer starts. mirror_apply, _find, _is_deleted: writer.
 * Ownership  the statements belong to the struct mirror.
 * Errors     those of store/db.h. Data that doesn't fit (a number for a name) is NULL, no error.
 */
#ifndef WORKOS_MIRROR_H
#define WORKOS_MIRROR_H

#include "base/err.h"
#include "script/script.h"
#include "store/db.h"
#include "workos/event.h"

struct mirror;

/* CREATE TABLE and CREATE INDEX, if they aren't there; inside a transaction. */
int mirror_create_tables(struct db *db, struct err *err) MUST_CHECK;

int mirror_prepare(struct mirror **out, struct db *db, struct err *err) MUST_CHECK;
void mirror_release(struct mirror *mirror); /* NULL is fine */

/* What the mirror has of an event's object. */
enum mirror_found {
    MIRROR_FOREIGN, /* nothing, and never will: no mirror is kept of it */
    MIRROR_ABSENT,
    MIRROR_PRESENT,
    MIRROR_DELETED, /* a tombstone */
};

/* Bring the table of the event's object up to date; nothing for events without a mirror. out, which
 * may be NULL: what it has of the object now. */
int mirror_apply(struct mirror *mirror, struct event *event, enum mirror_found *out,
                 struct err *err) MUST_CHECK;

int mirror_find(struct mirror *mirror, struct event *event, enum mirror_found *out, struct err *err)
    MUST_CHECK;

/* Has the object ("user") of this id been deleted? */
int mirror_is_deleted(struct mirror *mirror, const char *object, struct event_text id, bool *out,
                      struct err *err) MUST_CHECK;

/* The types of events that change a mirror, by commas. Static. */
const char *mirror_event_types(void);

/* The tables, as scripts read them. Static. */
const struct script_table *mirror_script_tables(size_t *out_count);

#endif
