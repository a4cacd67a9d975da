/* SPDX-License-Identifier: MIT */
/*
 * gather - what SQLite writes to the WAL, bit by bit, put together to fewer and larger writes.
 *
 * For every page of a transaction SQLite writes 24 bytes, and then the page behind them: two system
 * calls, which touch three pages of the system's cache. Here bytes that follow one another are kept,
 * and written together:
 *
 *     frame frame frame ...  --> one write, when GATHER_BYTES are full; before anything else is
 *                                done with the file, a sync above all; and before the connection
 *                                lets go of a lock
 *
 * So nothing is ever kept but what a transaction wrote that still holds its lock and isn't committed:
 * a COMMIT syncs (synchronous=FULL), and while the lock is held no other connection reads these
 * frames, or writes its own in their place.
 *
 * Threads    those of the connection.
 * Ownership  the room is the file's; gather_file fills it, closing the file empties it.
 * Errors     those of the real layer, for whichever call meets them. What couldn't be written is
 *            kept, and tried again until the lock is given back: no COMMIT can succeed in between.
 */
#ifndef STORE_GATHER_H
#define STORE_GATHER_H

#include <sqlite3.h>
#include <stddef.h>

enum { GATHER_BYTES = 128 * 1024 };

struct gather {
    const sqlite3_io_methods *real;
    sqlite3_io_methods own;
    unsigned char *bytes; /* NULL: none are kept */
    int len;
    sqlite3_int64 at; /* where in the file they belong */
    sqlite3_file **slot;
};

/* Once, before any other: the struct gather stands so many bytes behind each file. */
void gather_set_up(size_t offset);

/* From now on. slot, which must last longer than the file, holds it while it is open. Where there is
 * no memory for it nothing changes. */
void gather_file(sqlite3_file *file, sqlite3_file **slot);

/* A lock is about to be given back. file: what the slot holds, or NULL. */
void gather_settle(sqlite3_file *file);

#endif
