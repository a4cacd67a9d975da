/* SPDX-License-Identifier: MIT */
#include "store/gather.h"

#include <stdlib.h>
#include <string.h>

void gather_init(struct gather *gather)
{
    *gather = (struct gather){.bytes = malloc(GATHER_BYTES)};
}

void gather_free(struct gather *gather)
{
    free(gather->bytes);
    *gather = (struct gather){0};
}

static bool fits_behind(const struct gather *g, const sqlite3_file *file, int len, sqlite3_int64 at)
{
    return g->file == file && g->at + g->len == at && len <= GATHER_BYTES - g->len;
}

int gather_write(struct gather *gather, const sqlite3_io_methods *real, sqlite3_file *file,
                 const void *bytes, int len, sqlite3_int64 at)
{
    if (gather->len > 0 && !fits_behind(gather, file, len, at)) {
        int rc = gather_flush(gather);

        if (rc != SQLITE_OK)
            return rc;
    }
    if (!gather->bytes || len > GATHER_BYTES)
        return real->xWrite(file, bytes, len, at);
    if (gather->len == 0) {
        gather->real = real;
        gather->file = file;
        gather->at = at;
    }
    memcpy(gather->bytes + gather->len, bytes, (size_t)len);
    gather->len += len;
    return SQLITE_OK;
}

bool gather_keeps(const struct gather *gather, const sqlite3_file *file, sqlite3_int64 end)
{
    return gather->len > 0 && gather->file == file && gather->at < end;
}

int gather_flush(struct gather *gather)
{
    int rc = SQLITE_OK;

    if (gather->len > 0)
        rc = gather->real->xWrite(gather->file, gather->bytes, gather->len, gather->at);
    if (rc == SQLITE_OK)
        gather->len = 0;
    return rc;
}

/* What can't be written now is of a transaction that has failed, or was rolled back; or of a checkpoint
 * that failed. */
void gather_settle(struct gather *gather)
{
    if (gather_flush(gather) != SQLITE_OK)
        gather->len = 0;
}
