/* SPDX-License-Identifier: MIT */
#include "workos/tables.h"

#include "store/spill.h"
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

/* A user's own events are found by object_id. */
static int version_3(struct db *db, struct err *err)
{
    return db_exec(db,
                   "DROP INDEX workos_events_user_id;"
                   "CREATE INDEX workos_events_user_id ON workos_events (user_id)"
                   " WHERE user_id IS NOT NULL AND " IS_OF_ANOTHER,
                   err);
}

/* Step i brings a file from version i to i + 1. Never change one that was released: add another. */
static int (*const steps[])(struct db *db, struct err *err) = {version_1, version_2, version_3};

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

int64_t tables_version(void)
{
    return (int64_t)ARRAY_LEN(steps);
}

static int refuse_newer(int64_t version, struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "the database has version %" PRId64
                   ", of a newer authkitd; this one (" AUTHKITD_VERSION
                   ") knows up to version %" PRId64
                   "\ninstall the newer one again, or put a backup from before in the file's place",
                   version, tables_version());
}

static int refuse_foreign(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "the database is another program's, not authkitd's\n"
                   "name another file with --db; authkitd serve makes it");
}

int tables_check_header(const struct db_header *header, struct err *err)
{
    if (header->application_id != 0 && header->application_id != APPLICATION_ID)
        return refuse_foreign(err);
    if (header->application_id == APPLICATION_ID && header->user_version > tables_version())
        return refuse_newer(header->user_version, err);
    return 0;
}

int tables_read_version(struct db *db, int64_t *out, struct err *err)
{
    struct db_header header = {0};
    int rc = db_read_int(db, "PRAGMA user_version", &header.user_version, err);

    if (rc == 0)
        rc = db_read_int(db, "PRAGMA application_id", &header.application_id, err);
    if (rc == 0)
        rc = tables_check_header(&header, err);
    if (rc < 0)
        return rc;
    /* Tables that somebody has made before us are no harm; a version that isn't ours would be. */
    if (header.application_id == 0 && header.user_version)
        return refuse_foreign(err);
    *out = header.user_version;
    return 0;
}

static int migrate_at_once(struct db *db, int64_t version, struct err *err)
{
    int rc = db_exec(db, "BEGIN IMMEDIATE", err);

    if (rc < 0)
        return rc;
    rc = migrate(db, version, err);
    if (rc == 0)
        rc = db_exec(db, "COMMIT", err);
    if (rc < 0 && db_in_transaction(db) && db_exec(db, "ROLLBACK", NULL) < 0)
        return ERR_FATAL;
    return rc;
}

int tables_migrate(struct db *db, struct err *err)
{
    int64_t version = 0;
    int rc = tables_read_version(db, &version, err);

    if (rc < 0 || version == tables_version())
        return rc;
    if (version == 0) /* there is nothing yet that could be large */
        return migrate_at_once(db, version, err);
    rc = spill_begin(db, err);
    if (rc < 0)
        return rc;
    rc = migrate_at_once(db, version, err);
    spill_end(db);
    return rc;
}
