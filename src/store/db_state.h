/* SPDX-License-Identifier: MIT */
/*
 * db_state - what the files of this room that know SQLite share.
 */
#ifndef STORE_DB_STATE_H
#define STORE_DB_STATE_H

#include "store/db.h"

#include <sqlite3.h>
#include <sys/types.h>

struct db {
    sqlite3 *handle;
    enum db_mode mode;
    bool held;
    bool (*may_write)(const char *table); /* of the guarded statement that is being prepared */
    struct err denied;                    /* what it tried */
    bool undoes;                          /* what was prepared last: it is a ROLLBACK TO */
    uint32_t undone, commits;             /* db_undo_mark */
    struct err trouble;
    struct stmt *statements;
    size_t running; /* statements with running set */
    struct stmt *before_writing;
    bool (*interrupt)(void *arg);
    void *interrupt_arg;
    int64_t wal_pages;
    int64_t wal_due_pages; /* the next db_checkpoint_due waits for so many */
    bool must_scrub;       /* the WAL holds what was erased; not before next_scrub_ms, though */
    int64_t next_scrub_ms;
    ino_t wal, shm; /* which files are in use; 0: none, or not known */
};

/* The error that the call just made gave, in words; kept as the connection's trouble where it is one. */
int db_report(struct db *db, int rc, struct err *err);

#endif
