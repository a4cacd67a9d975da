/* SPDX-License-Identifier: MIT */
/*
 * memory - what SQLite allocates, counted by thread, and a bound for it.
 *
 * One statement can ask SQLite for gigabytes (a sort of large blobs, a recursion). While a bound is
 * set, the thread is refused what goes beyond it; SQLite takes that for memory that ran out and
 * ends the statement. To end it, and to undo it, takes some memory too: after the first refusal
 * there is a reserve of MEMORY_RESERVE_BYTES.
 *
 * Who runs many statements can have some of the blocks that SQLite gives back kept in a store, and take them
 * from there, which is cheaper than malloc and free.
 *
 * SQLite's own count (MEMSTATUS) would take a lock that all connections share; this takes none.
 *
 * Threads    memory_install: before SQLite is used. A store: one thread at a time, whoever uses it (_empty)
 *            or nobody does (_free). The others: the thread that runs the statement.
 *            A block may be freed by another thread than the one that got it: only what happens
 *            between memory_limit and its end counts, so that does no harm.
 * Ownership  a store is the caller's, and what is kept there the store's.
 * Errors     memory_store_new returns NULL without memory. Else none: SQLite says SQLITE_NOMEM, and
 *            memory_was_refused tells whose doing it was.
 */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

enum { MEMORY_RESERVE_BYTES = 4 * 1024 * 1024 };

/* Give SQLite our allocator. Does nothing when somebody has used SQLite before us. */
void memory_install(void);

/* Of blocks: sixteen of each size up to 1 KiB. */
struct memory_store;

struct memory_store *memory_store_new(void);
void memory_store_empty(struct memory_store *store);
void memory_store_free(struct memory_store *store); /* nobody uses it any more; NULL is fine */

/* The one that the calling thread uses from now on; NULL: none, as at first. */
void memory_use_store(struct memory_store *store);

/* From now on this thread may have so many bytes more than it has now; 0: as many as there are. */
void memory_limit(size_t bytes);

/* Whether something was refused since memory_limit. */
bool memory_was_refused(void);

/* The limit that is set, 0: none. */
size_t memory_limit_bytes(void);

#endif
