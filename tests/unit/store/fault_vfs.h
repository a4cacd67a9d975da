/* SPDX-License-Identifier: MIT */
/*
 * fault_vfs - SQLite's own file layer, on a disk that may fail, be full, or lose its power.
 *
 * fault_vfs_install makes it the default before the first db_open. Then there are two ways to have
 * it fail. The counters say how many more calls succeed before one doesn't; -1 is always. Or a plan,
 * from fault_disk_start to fault_disk_reboot: in between every write, truncation and directory entry
 * that no sync has yet made durable is kept in mind, and a power cut leaves of those what a real
 * disk might: any of the sectors, in any order, possibly torn. The -shm file never survives one.
 *
 *    fault_disk_start -> open, work, close -> fault_disk_reboot -> open, look
 *
 * A sync of a new journal or WAL makes the directory durable too, since SQLite's own layer syncs it
 * then; a file that was merely created or deleted may still be gone or be there again.
 *
 * Threads    start and reboot: with no database open. The rest: any.
 * Limits     a handful of files, all in the current directory; files that a plan is to cover must
 *            be opened after its start.
 */
#ifndef TESTS_UNIT_STORE_FAULT_VFS_H
#define TESTS_UNIT_STORE_FAULT_VFS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern atomic_long fault_writes;     /* then fault_write_rc, until it is set again */
extern atomic_int fault_write_rc;    /* SQLITE_FULL, unless it is set */
extern atomic_int fault_write_errno; /* what such a call leaves in errno: EIO, unless it is set */
extern atomic_long fault_wal_writes; /* the same, of the WAL alone */
extern atomic_long fault_one_write;  /* then one that fails like that, and the next don't */
extern atomic_long fault_shm_locks;  /* then SQLITE_FULL, of the locks that a transaction takes */
extern atomic_long fault_syncs;      /* then SQLITE_IOERR_FSYNC, once */
extern atomic_int fault_sync_ms;     /* every sync takes so long; 0, unless it is set */

/* Calls are counted from 1; 0 is never. Operations are writes, truncations, syncs, deletions. */
struct fault_plan {
    long full_at_write; /* SQLITE_FULL for full_writes writes from this one on */
    long full_writes;
    long fail_at_write; /* SQLITE_IOERR_WRITE, once */
    bool tears;         /* after some sectors of a write that fails have been written */
    long fail_at_sync;  /* SQLITE_IOERR_FSYNC, once; what it should have kept may be lost */
    long cut_at;        /* the power ends at this operation: it and all later calls fail */
    uint64_t seed;      /* decides what survives */
};

/* Called before each write to any file but a WAL, until it is set to NULL. */
typedef void fault_hook(void);
extern fault_hook *_Atomic fault_before_page;

void fault_vfs_install(void);
void fault_none(void); /* resets the counters, and fault_before_page */

void fault_disk_start(const struct fault_plan *plan);
bool fault_disk_has_failed(void);           /* something of the plan has happened */
void fault_disk_reboot(bool power_was_cut); /* else only the process ended: all writes are there */

/* Random numbers that come again with the same seed. */
uint64_t fault_random(uint64_t *state);

#endif
