/* SPDX-License-Identifier: MIT */
#include "workos/tables.h"

#include "workos/mirror.h"

#include <inttypes.h>
#include <stdio.h>

enum { APPLICATION_ID = 0x616B6974 /* "akit" */ };

static int create_events(struct db *db, struct err *err)
{
    return db_exec(db,
                   "CREATE TABLE workos_events ("
                   " _seq INTEGER PRIMARY KEY,"
                   " id TEXT NOT NULL UNIQUE,"
                   " event TEXT NOT NULL,"
                   " object_id TEXT,"
                   " user_id TEXT,"
                   " created_at TEXT,"
                   " received_at INTEGER NOT NULL,"
                   " status TEXT NOT NULL,"
                   " attempts INTEGER NOT NULL,"
                   " next_attempt_at INTEGER,"
                   " last_error TEXT,"
                   " payload TEXT,"
                   " _created_us INTEGER NOT NULL);"
                   "CREATE INDEX workos_events_object_id"
                   " ON workos_events (object_id, _created_us);"
                   "CREATE INDEX workos_events_user_id"
                   " ON workos_events (user_id) WHERE user_id IS NOT NULL;"
                   "CREATE INDEX workos_events_status"
                   " ON workos_events (status, next_attempt_at) WHERE status <> 'done';",
                   err);
}

static int version_1(struct db *db, struct err *err)
{
    int rc = create_events(db, err);

    return rc < 0 ? rc : mirror_create_tables(db, err);
}

/* Lines of an object's events, what is due, and the events that took the process down. */
static int create_lines(struct db *db, struct err *err)
{
    return db_exec(db,
                   "DROP INDEX workos_events_status;"
                   "CREATE INDEX workos_events_status"
                   " ON workos_events (status) WHERE status <> 'done';"
                   "CREATE INDEX workos_events_due"
                   " ON workos_events (next_attempt_at) WHERE next_attempt_at IS NOT NULL;"
                   "CREATE INDEX workos_events_held"
                   " ON workos_events (object_id) WHERE status IN ('failed', 'waiting');"
                   "CREATE TABLE authkitd_suspects ("
                   " id TEXT NOT NULL PRIMARY KEY,"
                   " reason TEXT NOT NULL,"
                   " noted_at INTEGER NOT NULL) WITHOUT ROWID;"
                   "CREATE TABLE authkitd_state ("
                   " key TEXT NOT NULL PRIMARY KEY,"
                   " value) WITHOUT ROWID;",
                   err);
}

static int version_2(struct db *db, struct err *err)
{
    int rc = create_lines(db, err);

    /* Tombstones are by object and id now; there were mirrors of users only before. */
    if (rc == 0)
        rc = db_exec(db, "ALTER TABLE authkitd_tombstones RENAME TO authkitd_tombstones_1", err);
    if (rc == 0)
        rc = mirror_create_tables(db, err);
    if (rc < 0)
        return rc;
    return db_exec(db,
                   "INSERT INTO authkitd_tombstones (id, object, deleted_at)"
                   " SELECT id, 'user', deleted_at FROM authkitd_tombstones_1;"
                   "DROP TABLE authkitd_tombstones_1",
                   err);
}

/* Step i brings a file from version i to i + 1. Never change one that was released: add another. */
static int (*const steps[])(struct db *db, struct err *err) = {version_1, version_2};

static int read_pragma(struct db *db, const char *sql, int64_t *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, sql, err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    if (rc == 1)
        *out = stmt_int(stmt, 0);
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

static int migrate(struct db *db, int64_t version, struct err *err)
{
    char sql[128];
    int rc = 0;

    for (int64_t i = version; rc == 0 && i < (int64_t)ARRAY_LEN(steps); i++)
        rc = steps[i](db, err);
    if (rc < 0)
        return rc;
    snprintf(sql, sizeof(sql), "PRAGMA user_version = %zu; PRAGMA application_id = %d",
             ARRAY_LEN(steps), APPLICATION_ID);
    return db_exec(db, sql, err);
}

int tables_version(void)
{
    return (int)ARRAY_LEN(steps);
}

int tables_migrate(struct db *db, struct err *err)
{
    int64_t version = 0;
    int rc = read_pragma(db, "PRAGMA user_version", &version, err);

    if (rc < 0)
        return rc;
    if (version > (int64_t)ARRAY_LEN(steps))
        return err_set(err, ERR_INVALID,
                       "the database has version %" PRId64 ", made by a newer authkitd; this one "
                       "knows up to version %zu: install the newer one again",
                       version, ARRAY_LEN(steps));
    if (version == (int64_t)ARRAY_LEN(steps))
        return 0;
    rc = db_exec(db, "BEGIN IMMEDIATE", err);
    if (rc < 0)
        return rc;
    rc = migrate(db, version, err);
    if (rc == 0)
        rc = db_exec(db, "COMMIT", err);
    if (rc < 0 && db_in_transaction(db) && db_exec(db, "ROLLBACK", NULL) < 0)
        return ERR_FATAL;
    return rc;
}
