/* SPDX-License-Identifier: MIT */
#include "store/compact.h"

#include "base/clock.h"
#include "store/db_state.h"
#include "store/spill.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <time.h>

enum {
    WAL_FRAME_HEADER = 24,
    MARGIN_BYTES = 1024 * 1024,
    READERS_WAIT_MS = 5000,
    READERS_PAUSE_MS = 50,
};

int compact_measure(struct db *db, int64_t *out_needed, int64_t *out_free, struct err *err)
{
    int64_t pages = 0, unused = 0, page_bytes = 0;
    char path[PATH_MAX];
    const char *folder;
    struct statvfs disk;
    int rc = db_read_int(db, "PRAGMA page_count", &pages, err);

    if (rc == 0)
        rc = db_read_int(db, "PRAGMA freelist_count", &unused, err);
    if (rc == 0)
        rc = db_read_int(db, "PRAGMA page_size", &page_bytes, err);
    if (rc < 0)
        return rc;
    snprintf(path, sizeof(path), "%s", sqlite3_db_filename(db->handle, "main"));
    folder = dirname(path);
    if (statvfs(folder, &disk) < 0)
        return err_errno(err, ERR_IO, "cannot see how much room there is in '%s'", folder);
    *out_needed = (pages - unused) * (2 * page_bytes + WAL_FRAME_HEADER) + MARGIN_BYTES;
    *out_free = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    return 0;
}

/* Somebody who looks into the database may be in the way for a moment. */
static int empty_wal(struct db *db, struct err *err)
{
    const struct timespec pause = {.tv_nsec = READERS_PAUSE_MS * 1000000L};
    int64_t deadline_ms = clock_mono_ms() + READERS_WAIT_MS;
    int rc;

    while ((rc = db_checkpoint(db, err)) == ERR_BUSY && clock_mono_ms() < deadline_ms)
        nanosleep(&pause, NULL);
    return rc;
}

static int rewrite(struct db *db, struct err *err)
{
    int rc = spill_begin(db, err);

    if (rc < 0)
        return rc;
    rc = db_exec(db, "VACUUM", err);
    spill_end(db);
    return rc;
}

/* ERR_BUSY means that it is done. */
static int refuse_writer(struct db *db, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "'%s': another program writes to it",
                   sqlite3_db_filename(db->handle, "main"));
}

int compact_database(struct db *db, struct err *err)
{
    int emptied;
    int rc = empty_wal(db, err);

    if (rc < 0 && rc != ERR_BUSY)
        return rc;
    rc = rewrite(db, err);
    if (rc == ERR_BUSY)
        return refuse_writer(db, err);
    emptied =
        empty_wal(db, rc < 0 ? NULL : err); /* also of what a VACUUM that failed has put there */
    return rc < 0 ? rc : emptied;
}
