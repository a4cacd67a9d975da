/* SPDX-License-Identifier: MIT */
/*
 * lease - the lock that a reader takes on the WAL, kept from one transaction to the next.
 *
 * SQLite takes a shared lock for every reading transaction, and gives it back: two system calls, under
 * a mutex that all connections of the process share. For readers that come again and again that mutex
 * was most of what they waited for. Here a lock that is given back is kept, and is there the next time,
 * unless somebody has come meanwhile who wants it for himself:
 *
 *            lock                unlock
 *     free --------> in use  <------------->  kept --+-- an exclusive lock is asked for, on any connection
 *       ^                          lock              +-- lease_end_all
 *       |                                            +-- the connection asks for another, or leaves
 *       +--------------------------------------------+
 *
 * What SQLite sees is what it would see without: a transaction still begins with a look at what was committed
 * last, and in this process a kept lock ends before it is in anybody's way. For other processes it is: to them
 * it looks like a reader, and while they wait for it they may hold the lock that our writer waits for. So it
 * is kept only from one request to the next: lease_end_all, whenever somebody is about to wait for anything.
 *
 * Only the locks of readers are kept, WAL_READ_LOCK(0) to (4): https://www.sqlite.org/walformat.html, 2.3.
 *
 * Threads    lease_end_all: any. The others: those of the connection. A lock that is kept is given back
 *            by whoever ends it.
 * Ownership  the room is the file's, which must outlive it: lease_leave, before it is closed.
 * Errors     those of the real layer. A lock that couldn't be given back is kept on, until its file goes.
 */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>

struct lease {
    const sqlite3_io_methods *real;
    sqlite3_file *file;
    bool keeps;
    atomic_int locks[SQLITE_SHM_NLOCK];
    struct lease *next; /* of all that keep */
};

void lease_init(struct lease *lease, const sqlite3_io_methods *real, sqlite3_file *file);

/* From now on, until it leaves. Before that nothing is kept, but others' locks end. */
void lease_keep(struct lease *lease);
void lease_leave(struct lease *lease);

/* sqlite3_io_methods.xShmLock */
int lease_lock(struct lease *lease, int first, int count, int flags);

/* No lock is kept any more, on any connection of this process. Cheap when none is. */
void lease_end_all(void);

#endif
