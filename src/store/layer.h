/* SPDX-License-Identifier: MIT */
/*
 * layer - what lies between SQLite and its files, on top of SQLite's own layer for them (its "VFS").
 *
 *     the database's pages   wipe.h     nothing is left in them of what was deleted
 *     both files' writes     gather.h   those that follow one another are made as one
 *     the WAL's locks        lease.h    readers' are kept from one transaction to the next
 *
 * Everything else is the real layer's, whose files they remain: ours have room behind their bytes.
 *
 * Threads    layer_register: once, before any other. The rest: those of the connection.
 */
#ifndef STORE_LAYER_H
#define STORE_LAYER_H

#include <sqlite3.h>
#include <stdbool.h>

/* On top of SQLite's default layer. False when memory ran out. */
bool layer_register(void);

/* The name to open a database with. */
const char *layer_name(void);

/* A connection that was opened with it, and only reads, keeps its locks (lease.h). */
void layer_keep_locks(sqlite3 *connection);

#endif
