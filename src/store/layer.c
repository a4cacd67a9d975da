/* SPDX-License-Identifier: MIT */
#include "store/layer.h"

#include "store/gather.h"
#include "store/lease.h"
#include "store/wipe.h"

#include <stddef.h>

/* Behind the bytes of a database's file; a WAL's has a struct gather there. */
struct layered {
    const sqlite3_io_methods *real;
    sqlite3_io_methods own;
    bool writes;
    sqlite3_file *wal; /* that of a writer; NULL while there is none */
    struct lease lease;
};

static sqlite3_vfs layer;
static sqlite3_vfs *real_vfs;
static size_t real_size;

static struct layered *layered_of(sqlite3_file *file)
{
    return (struct layered *)((char *)file + real_size);
}

static int layer_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    return wipe_write(layered_of(file)->real, file, bytes, len, at);
}

static int layer_shm_lock(sqlite3_file *file, int first, int count, int flags)
{
    struct layered *l = layered_of(file);

    if (flags & SQLITE_SHM_UNLOCK)
        gather_settle(l->wal);
    return lease_lock(&l->lease, first, count, flags);
}

static int layer_shm_unmap(sqlite3_file *file, int delete_it)
{
    struct layered *l = layered_of(file);

    lease_leave(&l->lease);
    return l->real->xShmUnmap(file, delete_it);
}

static int layer_close(sqlite3_file *file)
{
    struct layered *l = layered_of(file);

    lease_leave(&l->lease);
    return l->real->xClose(file);
}

static void wrap_database(sqlite3_file *file, bool writes)
{
    struct layered *l = layered_of(file);

    *l = (struct layered){.real = file->pMethods, .own = *file->pMethods, .writes = writes};
    lease_init(&l->lease, l->real, file);
    l->own.xWrite = layer_write;
    l->own.xShmLock = layer_shm_lock;
    l->own.xShmUnmap = layer_shm_unmap;
    l->own.xClose = layer_close;
    file->pMethods = &l->own;
}

static void wrap_wal(sqlite3_file *file, const char *name)
{
    struct layered *l = layered_of(sqlite3_database_file_object(name));

    if (l->writes)
        gather_file(file, &l->wal);
}

static int layer_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                      int *out_flags)
{
    int rc = real_vfs->xOpen(real_vfs, name, file, flags, out_flags);

    (void)vfs;
    if (rc != SQLITE_OK)
        return rc;
    if (flags & SQLITE_OPEN_MAIN_DB)
        wrap_database(file, flags & SQLITE_OPEN_READWRITE);
    if (flags & SQLITE_OPEN_WAL)
        wrap_wal(file, name);
    return SQLITE_OK;
}

bool layer_register(void)
{
    size_t room = sizeof(struct layered) > sizeof(struct gather) ? sizeof(struct layered)
                                                                 : sizeof(struct gather);

    real_vfs = sqlite3_vfs_find(NULL);
    if (!real_vfs)
        return false;
    real_size = ((size_t)real_vfs->szOsFile + 15) / 16 * 16;
    gather_set_up(real_size);
    layer = *real_vfs;
    layer.pNext = NULL;
    layer.zName = "authkitd";
    layer.szOsFile = (int)(real_size + room);
    layer.xOpen = layer_open;
    return sqlite3_vfs_register(&layer, 0) == SQLITE_OK;
}

const char *layer_name(void)
{
    return layer.zName;
}

void layer_keep_locks(sqlite3 *connection)
{
    sqlite3_file *file = NULL;

    if (sqlite3_file_control(connection, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK &&
        file && file->pMethods)
        lease_keep(&layered_of(file)->lease);
}
