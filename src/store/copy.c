/* SPDX-License-Identifier: MIT */
#include "store/copy.h"

#include "store/db_state.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STEP_PAGES = 1000 };

int copy_measure(struct db *source, int64_t *out_bytes, struct err *err)
{
    int64_t pages = 0, size = 0;
    int rc = db_read_int(source, "PRAGMA page_count", &pages, err);

    if (rc == 0)
        rc = db_read_int(source, "PRAGMA page_size", &size, err);
    if (rc == 0)
        *out_bytes = pages * size;
    return rc;
}

/* A write that failed is the copy's trouble; all else, such as a read, is the source's. */
static int report(struct db *source, struct db *target, int rc, struct err *err)
{
    bool is_read = rc == SQLITE_IOERR_READ || rc == SQLITE_IOERR_SHORT_READ ||
                   (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;

    if (is_read)
        return err_set(err, ERR_FATAL, "'%s': %s", sqlite3_db_filename(source->handle, "main"),
                       sqlite3_errstr(rc));
    return db_report(target, rc, err);
}

static int copy_pages(struct db *source, struct db *target, copy_tell_fn *tell, void *arg,
                      int64_t page_bytes, struct err *err)
{
    sqlite3_backup *backup = sqlite3_backup_init(target->handle, "main", source->handle, "main");
    int rc, finished;

    if (!backup)
        return db_report(target, sqlite3_extended_errcode(target->handle), err);
    while ((rc = sqlite3_backup_step(backup, STEP_PAGES)) == SQLITE_OK) {
        int64_t total = sqlite3_backup_pagecount(backup);
        int64_t left = sqlite3_backup_remaining(backup);

        if (!tell(arg, (total - left) * page_bytes, total * page_bytes)) {
            sqlite3_backup_finish(backup);
            return err_set(err, ERR_CLOSED, "the copy was stopped");
        }
    }
    finished = sqlite3_backup_finish(backup);
    if (rc == SQLITE_DONE && finished == SQLITE_OK)
        return 0;
    return report(source, target, finished != SQLITE_OK ? finished : rc, err);
}

/* While a transaction is open all steps are of one snapshot; it begins with the first read. */
static int copy_snapshot(struct db *source, struct db *target, copy_tell_fn *tell, void *arg,
                         struct err *err)
{
    int64_t page_bytes = 0;
    int rc = db_exec(source, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1", err);

    if (rc == 0)
        rc = db_read_int(source, "PRAGMA page_size", &page_bytes, err);
    if (rc == 0)
        rc = copy_pages(source, target, tell, arg, page_bytes, err);
    if (db_in_transaction(source) && db_exec(source, "ROLLBACK", NULL) < 0 && rc == 0)
        rc = err_set(err, ERR_FATAL, "the snapshot could not be given back");
    return rc;
}

/* The pages have brought the header of a file with a WAL. Reading opens one; then it can be left. */
static int leave_wal(struct db *target, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = db_exec(target, "SELECT 1 FROM sqlite_schema LIMIT 1", err);

    if (rc == 0)
        rc = stmt_new(&stmt, target, "PRAGMA journal_mode = DELETE", err);
    if (rc == 0)
        rc = stmt_step(stmt, err);
    if (rc == 1 && strcmp(stmt_str(stmt, 0), "delete") != 0)
        rc = err_set(err, ERR_IO, "the copy can't do without a write-ahead log");
    else if (rc == 1)
        rc = stmt_run(stmt, err);
    stmt_free(stmt);
    return rc;
}

int copy_database(struct db *source, const char *path, copy_tell_fn *tell, copy_change_fn *change,
                  void *arg, struct err *err)
{
    struct db *target = NULL;
    int rc = db_open(&target, path, DB_TARGET, err);

    if (rc == 0)
        rc = copy_snapshot(source, target, tell, arg, err);
    if (rc == 0)
        rc = leave_wal(target, err);
    if (rc == 0 && change)
        rc = change(target, err);
    db_close(target);
    return rc;
}

void copy_remove(const char *path)
{
    static const char *const ends[] = {"", "-journal", "-wal", "-shm"};
    char name[PATH_MAX + 16];

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        unlink(name);
    }
}
