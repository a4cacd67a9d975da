/* SPDX-License-Identifier: MIT */
/*
 * gather - what SQLite writes bit by bit, put together to fewer and larger writes.
 *
 * For every page of a transaction SQLite writes 24 bytes to the WAL, and then the page behind them; and a
 * checkpoint writes page after page to the database's file, most of them one behind the other. Each is a
 * system call, and the file system does its work for each by itself. Here bytes that follow one another in
 * a file are kept, and written together:
 *
 *     write write write ...  --> one write, when GATHER_BYTES are full, when the next belongs elsewhere,
 *                                and before anybody can tell: gather_flush, gather_settle
 *
 * Whoever has one flushes it before anything else is done with one of the files, a sync above all, and
 * settles it before the connection lets go of a lock. So nothing is ever kept but
 *
 *     of the WAL                   what a transaction wrote that isn't committed: a COMMIT syncs, and while
 *                                  the lock is held no other connection reads these frames, or writes its
 *                                  own in their place
 *     of the database's file       what a checkpoint has copied and doesn't count as copied yet: until then
 *                                  everybody reads these pages from the WAL. Only of one that truncates the
 *                                  file, and syncs it, before it counts them: one that copies all (layer.c)
 *
 * It wants synchronous=FULL: without a COMMIT's sync frames would be told of that aren't in the file yet. And
 * not locking_mode=EXCLUSIVE: then SQLite gives back none of the WAL's locks.
 *
 * Threads    those of the connection.
 * Ownership  gather_init to gather_free; the files must last as long.
 * Errors     those of the real layer, for whichever call meets them. What couldn't be written is
 *            kept, and tried again until the lock is given back: neither a COMMIT nor such a checkpoint
 *            can succeed in between.
 */
#ifndef STORE_GATHER_H
#define STORE_GATHER_H

#include <sqlite3.h>
#include <stdbool.h>

/* SQLite's layer for Unix writes less than 128 KiB at a time, and takes the rest for a full disk. */
enum { GATHER_BYTES = 128 * 1024 - 1 };

struct gather {
    unsigned char *bytes; /* NULL: none are kept */
    int len;
    sqlite3_int64 at; /* where in the file they belong */
    const sqlite3_io_methods *real;
    sqlite3_file *file;
};

/* Where there is no memory every write is made as it comes. */
void gather_init(struct gather *gather);
void gather_free(struct gather *gather);

/* sqlite3_io_methods.xWrite of a file whose methods are real. */
int gather_write(struct gather *gather, const sqlite3_io_methods *real, sqlite3_file *file,
                 const void *bytes, int len, sqlite3_int64 at);

/* Does what is kept belong to this file, before its byte end? */
bool gather_keeps(const struct gather *gather, const sqlite3_file *file, sqlite3_int64 end);

/* Something else is about to happen to a file. */
int gather_flush(struct gather *gather);

/* A lock is about to be given back. */
void gather_settle(struct gather *gather);

#endif
