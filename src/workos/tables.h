/* SPDX-License-Identifier: MIT */
/*
 * tables - the database's own tables, and which version of them a file has.
 *
 * The version stands in the file's user_version. Steps bring an older file forward, one transaction
 * for all; a file from a newer authkitd is refused.
 *
 * workos_events, one row per event id, in order of arrival (_seq):
 *     id, event, created_at        as WorkOS wrote them
 *     object_id, user_id           data.id; whom it is about
 *     received_at                  ms since 1970
 *     status                       done, failed (its function raised or hit a limit)
 *     attempts, next_attempt_at, last_error
 *     payload                      the body, byte for byte; NULL once its user is deleted
 *     _created_us                  created_at as an instant, 0 when it wasn't one
 *
 * Threads    main, before the writer starts.
 */
#ifndef WORKOS_TABLES_H
#define WORKOS_TABLES_H

#include "base/err.h"
#include "store/db.h"

int tables_migrate(struct db *db, struct err *err) MUST_CHECK;

#endif
