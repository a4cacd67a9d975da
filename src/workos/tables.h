/* SPDX-License-Identifier: MIT */
/*
 * tables - the database's own tables, and which version of them a file has.
 *
 * The version stands in the file's user_version. Steps bring an older file forward, one transaction
 * for all; a file from a newer authkitd is refused.
 *
 * workos_events, one row per event id, in order of arrival (_seq); what status means: event_log.h
 *     id, event, created_at        as WorkOS wrote them
 *     object_id, user_id           data.id; whom it is about
 *     received_at                  ms since 1970
 *     status, attempts, next_attempt_at, last_error
 *     payload                      the body without its secrets; NULL once its user is deleted, or
 *                                  when it is older than the retention
 *     _created_us                  created_at as an instant, 0 when it wasn't one
 * authkitd_tombstones              objects that were deleted (mirror.h)
 * authkitd_suspects                events that took the process down (suspects.h)
 * authkitd_state                   (state_table.h) how far retention has come and when (retention.h,
 *                                  retention_clock.h), whether there is room on the disk again (room.h),
 *                                  the reading of the Events API (poller.h), and a backfill that isn't
 *                                  finished (backfill_mark.h)
 * authkitd_backfill_seen           while a backfill with prune goes on: what it has seen (backfill_mark.h)
 *
 * Threads    main, before the writer starts; tables_version any.
 * Errors     those of store/db.h; ERR_INVALID: the file is a newer authkitd's, or another program's.
 */
#ifndef WORKOS_TABLES_H
#define WORKOS_TABLES_H

#include "base/err.h"
#include "store/db.h"

#include <stdint.h>

/*
 * The events about a user are those of the user itself ("user.updated"), whose object_id it is, and those of
 * others ("session.created"), whose user_id it is: two conditions for two indexes, since an event of the first
 * kind needs no place in both. user_id = ? alone is found by none.
 */
#define IS_OF_ITSELF "user_id IS object_id"
#define IS_OF_ANOTHER "user_id IS NOT object_id"

/*
 * What stays of the payload of an event that is done or dead, when its user has been deleted: nothing. Only of a
 * user.deleted that is dead, whose function has still to clean up, the ids, with which it can run. row: what the
 * statement calls the table.
 */
#define ERASED_PAYLOAD(row)                                                                      \
    "CASE WHEN " row ".status = 'dead' AND " row ".event = 'user.deleted' THEN"                  \
    " json_object('id', " row ".id, 'event', " row ".event, 'data',"                             \
    " json_object('object', 'user', 'id', " row ".object_id), 'created_at', " row ".created_at)" \
    " END"

/* An event that is dead, and nothing is left of it that could run: its user has been deleted. */
#define IS_ERASED                                                                        \
    "(status = 'dead' AND payload IS NULL AND EXISTS (SELECT 1 FROM authkitd_tombstones" \
    " WHERE authkitd_tombstones.id = user_id AND object = 'user'))"

/* The _seq of all of them, in no order; ?1 is the user. */
#define EVENTS_OF_USER                                                      \
    "SELECT _seq FROM workos_events WHERE object_id = ?1 AND " IS_OF_ITSELF \
    " UNION ALL SELECT _seq FROM workos_events WHERE user_id = ?1 AND " IS_OF_ANOTHER

/* The version that this program brings a file to. */
int64_t tables_version(void);

/* Refuse what even the header says isn't ours to touch; 0 for one that doesn't tell. */
int tables_check_header(const struct db_header *header, struct err *err) MUST_CHECK;

/* The file's; 0 when nothing is in it yet. Writes nothing. */
int tables_read_version(struct db *db, int64_t *out, struct err *err) MUST_CHECK;

int tables_migrate(struct db *db, struct err *err) MUST_CHECK;

#endif
