/* SPDX-License-Identifier: MIT */
#include "store/layer.h"

#include "store/gather.h"
#include "store/lease.h"
#include "store/wipe.h"

#include <errno.h>
#include <stddef.h>

/* Behind the bytes of a database's file, and of a writer's WAL. */
struct layered {
    const sqlite3_io_methods *sqlites;
    sqlite3_io_methods real; /* those, but that a full disk is told as one: tell_full */
    sqlite3_io_methods own;
    struct gather *gather; /* one for both; NULL: there is no WAL, or nothing is written to it */

    struct layered *database; /* the WAL's alone */

    bool is_writers; /* the database's alone, from here on */
    struct gather gathered;
    unsigned held, refused; /* of the WAL's locks, asked for exclusively: bit i is lock i */
    struct lease lease;
};

/* https://www.sqlite.org/walformat.html, 2.3 */
enum {
    WRITE_LOCK = 1 << 0,
    CHECKPOINT_LOCK = 1 << 1,
    READERS_LOCKS = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7
};

static sqlite3_vfs layer;
static sqlite3_vfs *real_vfs;
static size_t real_size;

static struct layered *layered_of(sqlite3_file *file)
{
    return (struct layered *)((char *)file + real_size);
}

/* ------------------------------------------------------------------ both files */

/*
 * To SQLite only ENOSPC is a full disk. A used-up quota, or a limit on a file's size, leaves the file as sound;
 * but once the statement has failed nobody can tell: its rollback and its locks have set errno anew.
 */
static int tell_full(int rc)
{
    bool was_refused = rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_SHMSIZE;
    bool lacks_room = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;

    return was_refused && lacks_room ? SQLITE_FULL : rc;
}

static int real_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    return tell_full(layered_of(file)->sqlites->xWrite(file, bytes, len, at));
}

static int real_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return tell_full(layered_of(file)->sqlites->xShmMap(file, page, size, extend, out));
}

static int flush(struct layered *l)
{
    return l->gather ? gather_flush(l->gather) : SQLITE_OK;
}

static int layer_read(sqlite3_file *file, void *out, int len, sqlite3_int64 at)
{
    struct layered *l = layered_of(file);
    int rc = SQLITE_OK;

    if (l->gather && gather_keeps(l->gather, file, at + len))
        rc = gather_flush(l->gather);
    return rc == SQLITE_OK ? l->real.xRead(file, out, len, at) : rc;
}

static int layer_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct layered *l = layered_of(file);
    int rc = flush(l);

    return rc == SQLITE_OK ? l->real.xTruncate(file, size) : rc;
}

static int layer_sync(sqlite3_file *file, int flags)
{
    struct layered *l = layered_of(file);
    int rc = flush(l);

    return rc == SQLITE_OK ? l->real.xSync(file, flags) : rc;
}

static int layer_size(sqlite3_file *file, sqlite3_int64 *out)
{
    struct layered *l = layered_of(file);
    int rc = flush(l);

    return rc == SQLITE_OK ? l->real.xFileSize(file, out) : rc;
}

static struct layered *wrap(sqlite3_file *file)
{
    struct layered *l = layered_of(file);

    *l = (struct layered){.sqlites = file->pMethods, .real = *file->pMethods};
    l->real.xWrite = real_write;
    l->real.xShmMap = real_shm_map;
    l->own = l->real;
    l->own.xRead = layer_read;
    l->own.xTruncate = layer_truncate;
    l->own.xSync = layer_sync;
    l->own.xFileSize = layer_size;
    file->pMethods = &l->own;
    return l;
}

/* ---------------------------------------------------------------- the database */

/*
 * Will this checkpoint copy all that there is? It does when it keeps the writers out, and no reader of something
 * older was in its way, for which SQLite asks each of their locks before. Then it truncates the file and syncs
 * it, and only then counts the pages as copied. One that copies a part counts it at once, with no other call
 * in which a write that was put off could fail.
 */
static bool copies_all(const struct layered *l)
{
    return (l->held & WRITE_LOCK) && !(l->refused & READERS_LOCKS);
}

static int write_page(sqlite3_file *file, const void *page, int len, sqlite3_int64 at)
{
    struct layered *l = layered_of(file);
    unsigned char room[WIPE_PAGE_BYTES];
    int rc = wipe_page(file, page, len, at, room, &page);

    if (rc == SQLITE_OK && l->gather && copies_all(l))
        return gather_write(l->gather, &l->real, file, page, len, at);
    return rc == SQLITE_OK ? l->real.xWrite(file, page, len, at) : rc;
}

static void note_lock(struct layered *l, unsigned locks, int flags, int rc)
{
    if (!(flags & SQLITE_SHM_EXCLUSIVE))
        return;
    if (flags & SQLITE_SHM_UNLOCK) {
        l->held &= ~locks;
    } else if (rc != SQLITE_OK) {
        l->refused |= locks;
    } else {
        l->held |= locks;
        l->refused &= ~locks;
        if (locks & CHECKPOINT_LOCK) /* it begins; what was refused before is of no account */
            l->refused = 0;
    }
}

static int layer_shm_lock(sqlite3_file *file, int first, int count, int flags)
{
    struct layered *l = layered_of(file);
    int rc;

    if (l->gather && (flags & SQLITE_SHM_UNLOCK))
        gather_settle(l->gather);
    rc = lease_lock(&l->lease, first, count, flags);
    note_lock(l, ((1u << count) - 1) << first, flags, rc);
    return rc;
}

static int layer_shm_unmap(sqlite3_file *file, int delete_it)
{
    struct layered *l = layered_of(file);

    lease_leave(&l->lease);
    return l->real.xShmUnmap(file, delete_it);
}

static int layer_close(sqlite3_file *file)
{
    struct layered *l = layered_of(file);

    lease_leave(&l->lease);
    return l->real.xClose(file);
}

static void wrap_database(sqlite3_file *file, bool is_writers)
{
    struct layered *l = wrap(file);

    l->is_writers = is_writers;
    lease_init(&l->lease, &l->real, file);
    l->own.xWrite = write_page;
    l->own.xShmLock = layer_shm_lock;
    l->own.xShmUnmap = layer_shm_unmap;
    l->own.xClose = layer_close;
}

/* --------------------------------------------------------------------- the WAL */

static int write_frame(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    struct layered *l = layered_of(file);

    return gather_write(l->gather, &l->real, file, bytes, len, at);
}

/* Nothing is kept but what is of no use: of a transaction that was rolled back. */
static int close_wal(sqlite3_file *file)
{
    struct layered *l = layered_of(file);
    struct layered *database = l->database;

    gather_free(l->gather);
    database->gather = NULL;
    return l->real.xClose(file);
}

static void wrap_wal(sqlite3_file *file, const char *name)
{
    struct layered *database = layered_of(sqlite3_database_file_object(name)), *l;

    if (!database->is_writers)
        return;
    l = wrap(file);
    l->own.xWrite = write_frame;
    l->own.xClose = close_wal;
    l->database = database;
    gather_init(&database->gathered);
    l->gather = database->gather = &database->gathered;
}

/* ----------------------------------------------------------------- the layer */

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
    real_vfs = sqlite3_vfs_find(NULL);
    if (!real_vfs)
        return false;
    real_size = ((size_t)real_vfs->szOsFile + 15) / 16 * 16;
    layer = *real_vfs;
    layer.pNext = NULL;
    layer.zName = "authkitd";
    layer.szOsFile = (int)(real_size + sizeof(struct layered));
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
