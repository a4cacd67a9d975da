/* SPDX-License-Identifier: MIT */
/*
 * fault_vfs - SQLite's own file layer, but the disk may fail.
 *
 * fault_vfs_install makes it the default before the first db_open. The counters say how many more
 * writes and syncs (of any file of the database) succeed before one fails; -1 is always.
 */
#ifndef TESTS_UNIT_STORE_FAULT_VFS_H
#define TESTS_UNIT_STORE_FAULT_VFS_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static atomic_long fault_writes = -1;     /* then SQLITE_FULL, until it is set again */
static atomic_long fault_wal_writes = -1; /* the same, of the WAL alone */
static atomic_long fault_syncs = -1;      /* then SQLITE_IOERR_FSYNC, once */

static sqlite3_vfs fault_vfs;
static sqlite3_vfs *fault_real_vfs;

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* in the bytes behind this */
    bool is_wal;
};

#define FAULT_REAL(file) (((struct fault_file *)(file))->real)
#define FAULT_CALL(file, method, ...) \
    (FAULT_REAL(file)->pMethods->method(FAULT_REAL(file), __VA_ARGS__))

static int fault_close(sqlite3_file *f)
{
    return FAULT_REAL(f)->pMethods->xClose(FAULT_REAL(f));
}

static int fault_read(sqlite3_file *f, void *bytes, int len, sqlite3_int64 at)
{
    return FAULT_CALL(f, xRead, bytes, len, at);
}

static bool fault_may_write(atomic_long *counter)
{
    long left = atomic_load(counter);

    if (left > 0)
        atomic_store(counter, left - 1);
    return left != 0;
}

static int fault_write(sqlite3_file *f, const void *bytes, int len, sqlite3_int64 at)
{
    if (!fault_may_write(&fault_writes))
        return SQLITE_FULL;
    if (((struct fault_file *)f)->is_wal && !fault_may_write(&fault_wal_writes))
        return SQLITE_FULL;
    return FAULT_CALL(f, xWrite, bytes, len, at);
}

static int fault_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return FAULT_CALL(f, xTruncate, size);
}

static int fault_sync(sqlite3_file *f, int flags)
{
    long left = atomic_load(&fault_syncs);

    if (left >= 0)
        atomic_store(&fault_syncs, left - 1);
    if (left == 0)
        return SQLITE_IOERR_FSYNC;
    return FAULT_CALL(f, xSync, flags);
}

static int fault_file_size(sqlite3_file *f, sqlite3_int64 *out)
{
    return FAULT_CALL(f, xFileSize, out);
}

static int fault_lock(sqlite3_file *f, int level)
{
    return FAULT_CALL(f, xLock, level);
}

static int fault_unlock(sqlite3_file *f, int level)
{
    return FAULT_CALL(f, xUnlock, level);
}

static int fault_check_lock(sqlite3_file *f, int *out)
{
    return FAULT_CALL(f, xCheckReservedLock, out);
}

static int fault_control(sqlite3_file *f, int op, void *arg)
{
    return FAULT_CALL(f, xFileControl, op, arg);
}

static int fault_sector_size(sqlite3_file *f)
{
    return FAULT_REAL(f)->pMethods->xSectorSize(FAULT_REAL(f));
}

static int fault_features(sqlite3_file *f)
{
    return FAULT_REAL(f)->pMethods->xDeviceCharacteristics(FAULT_REAL(f));
}

static int fault_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return FAULT_CALL(f, xShmMap, page, size, extend, out);
}

static int fault_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return FAULT_CALL(f, xShmLock, offset, n, flags);
}

static void fault_shm_barrier(sqlite3_file *f)
{
    FAULT_REAL(f)->pMethods->xShmBarrier(FAULT_REAL(f));
}

static int fault_shm_unmap(sqlite3_file *f, int remove)
{
    return FAULT_CALL(f, xShmUnmap, remove);
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 2,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_file_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_check_lock,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector_size,
    .xDeviceCharacteristics = fault_features,
    .xShmMap = fault_shm_map,
    .xShmLock = fault_shm_lock,
    .xShmBarrier = fault_shm_barrier,
    .xShmUnmap = fault_shm_unmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    struct fault_file *f = (struct fault_file *)file;
    int rc;

    (void)vfs;
    f->base.pMethods = NULL;
    f->real = (sqlite3_file *)(f + 1);
    f->is_wal = flags & SQLITE_OPEN_WAL;
    memset(f->real, 0, (size_t)fault_real_vfs->szOsFile);
    rc = fault_real_vfs->xOpen(fault_real_vfs, name, f->real, flags, out);
    if (f->real->pMethods)
        f->base.pMethods = &fault_methods;
    return rc;
}

static inline void fault_vfs_install(void)
{
    fault_real_vfs = sqlite3_vfs_find(NULL);
    fault_vfs = *fault_real_vfs;
    fault_vfs.pNext = NULL;
    fault_vfs.zName = "fault";
    fault_vfs.szOsFile = (int)sizeof(struct fault_file) + fault_real_vfs->szOsFile;
    fault_vfs.xOpen = fault_open; /* the rest doesn't look at a file */
    sqlite3_vfs_register(&fault_vfs, 1);
}

static inline void fault_none(void)
{
    atomic_store(&fault_writes, -1);
    atomic_store(&fault_wal_writes, -1);
    atomic_store(&fault_syncs, -1);
}

#endif
