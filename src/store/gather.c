/* SPDX-License-Identifier: MIT */
#include "store/gather.h"

#include <stdlib.h>
#include <string.h>

static size_t gather_offset;

static struct gather *gather_of(sqlite3_file *file)
{
    return (struct gather *)((char *)file + gather_offset);
}

static int write_kept(sqlite3_file *file)
{
    struct gather *g = gather_of(file);
    int rc = SQLITE_OK;

    if (g->len > 0)
        rc = g->real->xWrite(file, g->bytes, g->len, g->at);
    if (rc == SQLITE_OK)
        g->len = 0;
    return rc;
}

static int gather_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    struct gather *g = gather_of(file);

    if (g->len > 0 && (at != g->at + g->len || len > GATHER_BYTES - g->len)) {
        int rc = write_kept(file);

        if (rc != SQLITE_OK)
            return rc;
    }
    if (len > GATHER_BYTES)
        return g->real->xWrite(file, bytes, len, at);
    if (g->len == 0)
        g->at = at;
    memcpy(g->bytes + g->len, bytes, (size_t)len);
    g->len += len;
    return SQLITE_OK;
}

static int gather_read(sqlite3_file *file, void *out, int len, sqlite3_int64 at)
{
    int rc = write_kept(file);

    return rc == SQLITE_OK ? gather_of(file)->real->xRead(file, out, len, at) : rc;
}

static int gather_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int rc = write_kept(file);

    return rc == SQLITE_OK ? gather_of(file)->real->xTruncate(file, size) : rc;
}

static int gather_sync(sqlite3_file *file, int flags)
{
    int rc = write_kept(file);

    return rc == SQLITE_OK ? gather_of(file)->real->xSync(file, flags) : rc;
}

static int gather_size(sqlite3_file *file, sqlite3_int64 *out)
{
    int rc = write_kept(file);

    return rc == SQLITE_OK ? gather_of(file)->real->xFileSize(file, out) : rc;
}

/* No lock is held any more, so nothing is kept. */
static int gather_close(sqlite3_file *file)
{
    struct gather *g = gather_of(file);

    *g->slot = NULL;
    free(g->bytes);
    return g->real->xClose(file);
}

void gather_set_up(size_t offset)
{
    gather_offset = offset;
}

void gather_file(sqlite3_file *file, sqlite3_file **slot)
{
    struct gather *g = gather_of(file);

    *g = (struct gather){.real = file->pMethods, .own = *file->pMethods, .slot = slot};
    g->bytes = malloc(GATHER_BYTES);
    if (!g->bytes)
        return;
    g->own.xWrite = gather_write;
    g->own.xRead = gather_read;
    g->own.xTruncate = gather_truncate;
    g->own.xSync = gather_sync;
    g->own.xFileSize = gather_size;
    g->own.xClose = gather_close;
    file->pMethods = &g->own;
    *slot = file;
}

/* What can't be written now is of a transaction that has failed, or was rolled back. */
void gather_settle(sqlite3_file *file)
{
    if (file && write_kept(file) != SQLITE_OK)
        gather_of(file)->len = 0;
}
