/* SPDX-License-Identifier: MIT */
/*
 * compact - a database file without its holes: written anew, in place (VACUUM).
 *
 * SQLite makes the new file in a temporary one without a name, in the database's own folder, and then
 * writes all of it into the WAL as one transaction, which is moved into the file. Whatever ends it
 * half way, the file is as before. So there must be room twice: once for each.
 *
 * Of what was erased before nothing is in the new file, and the WAL is empty in the end.
 *
 * Threads    main, with the database's lock held: the connection is a DB_WRITER, nobody else writes,
 *            and no other connection of this process is open.
 * Errors     those of db.h. ERR_LIMIT: the interrupt callback ended it. ERR_BUSY: it is done, but a
 *            reader keeps the WAL from being emptied. ERR_CONFLICT: another program does write, and
 *            didn't end in time; nothing is done.
 */
#ifndef STORE_COMPACT_H
#define STORE_COMPACT_H

#include "base/err.h"
#include "store/db.h"

#include <stdint.h>

/* How many bytes it may need, and how many are free where the database is. */
int compact_measure(struct db *db, int64_t *out_needed, int64_t *out_free, struct err *err)
    MUST_CHECK;

int compact_database(struct db *db, struct err *err) MUST_CHECK;

#endif
