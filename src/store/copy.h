/* SPDX-License-Identifier: MIT */
/*
 * copy - a database as it is at one moment, in a new file, while another process may be writing.
 *
 * A snapshot is held and its pages are copied into the new file. Nobody waits for it: who writes goes
 * on writing. But for so long the WAL can't be begun anew, so it grows by what is written meanwhile;
 * therefore the snapshot is held no longer than it takes to read the file once, and given back before
 * the copy is put on disk and looked at.
 *
 * Chosen by trial: 1 GiB, a server that takes some 250 events a second, two busy cores, one run each,
 * with the three ways tried through the same SQLite from a script:
 *
 *     this, a snapshot held, page by page    held 2 s    WAL to 170 MiB    p99 of an event  190 -> 350 ms
 *     VACUUM INTO                            held 6 s    WAL to 210 MiB    260 -> 1140 ms
 *     sqlite3_backup without a snapshot      never done: another process's COMMIT makes it begin anew;
 *                                            after a minute it stood at 6 %
 *
 * The copy has no WAL (journal_mode DELETE): it is one file, and can be looked at on a medium that
 * can't be written. A server that is started on it gives it one. That its header says so is also how
 * db_open knows a file that was put in the place of one that has left its WAL.
 *
 * What was erased before isn't in the copy: not in its pages, which secure_delete has overwritten, nor
 * between them (wipe.h).
 *
 * Threads    the source's, which is a DB_READER outside a transaction.
 * Errors     ERR_FULL: no room for the copy. ERR_CLOSED: tell said to stop. Else those of db.h. The
 *            new file is then left as far as it came: copy_remove clears it away.
 * Not here   names and permissions, and whether what was copied is sound (workos/verify.h).
 */
#ifndef STORE_COPY_H
#define STORE_COPY_H

#include "base/err.h"
#include "store/db.h"

#include <stdbool.h>
#include <stdint.h>

/* How far it is, every few megabytes; false ends it. */
typedef bool copy_tell_fn(void *arg, int64_t done_bytes, int64_t total_bytes);

/* What shall be different in the copy; when all of it is there. */
typedef int copy_change_fn(struct db *target, struct err *err);

/* path: an empty file, which nobody else uses. It is not synced. change may be NULL. */
int copy_database(struct db *source, const char *path, copy_tell_fn *tell, copy_change_fn *change,
                  void *arg, struct err *err) MUST_CHECK;

/* Remove the file, and what SQLite may have left beside it. */
void copy_remove(const char *path);

/* How large a copy would be now. */
int copy_measure(struct db *source, int64_t *out_bytes, struct err *err) MUST_CHECK;

#endif
