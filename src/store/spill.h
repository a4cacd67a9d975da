/* SPDX-License-Identifier: MIT */
/*
 * spill - what SQLite sorts, or writes anew, in files beside the database instead of in memory.
 *
 * The writer has its temporary tables in memory, where a sort grows with what is sorted: an index of millions
 * of rows would take hundreds of megabytes. Between begin and end SQLite uses files without a name; in the
 * database's own folder, since another might be on a smaller disk, or on one that isn't the operator's to
 * have personal data on.
 *
 * Threads    main, while no other connection of this process works: SQLite's folder for such files is one
 *            for all.
 * Errors     those of db.h; after an error nothing has begun.
 */
#ifndef STORE_SPILL_H
#define STORE_SPILL_H

#include "base/err.h"
#include "store/db.h"

/* Not inside a transaction. Temporary tables are lost. */
int spill_begin(struct db *db, struct err *err) MUST_CHECK;
void spill_end(struct db *db);

#endif
