/* SPDX-License-Identifier: MIT */
#include "app/database.h"

#include "workos/tables.h"

#include <inttypes.h>

/* By the header first: what is refused then has nothing new beside it. */
static int open_and_look(struct db **out, const char *path, int64_t *out_version, struct err *err)
{
    struct db_header header;
    struct db *db = NULL;
    int rc = db_peek(path, &header, err);

    if (rc < 0)
        return rc;
    rc = tables_check_header(&header, err);
    if (rc < 0)
        return err_prefix(err, "%s: ", path);
    rc = db_open(&db, path, DB_READER, err);
    if (rc < 0)
        return rc;
    rc = tables_read_version(db, out_version, err);
    if (rc < 0) {
        db_close(db);
        return err_prefix(err, "%s: ", path);
    }
    *out = db;
    return 0;
}

int database_check(const char *path, int64_t *out_version, struct err *err)
{
    struct db *db = NULL;
    int rc = open_and_look(&db, path, out_version, err);

    db_close(db);
    return rc;
}

int database_open_writer(struct db **out, const char *path, struct err *err)
{
    int64_t version;
    int rc = database_check(path, &version, err);

    return rc < 0 && rc != ERR_ABSENT ? rc : db_open(out, path, DB_WRITER, err);
}

static int explain_absence(struct err *err)
{
    struct err cause = *err;

    return err_set(err, ERR_ABSENT, "%s\nsay where it is with --db; authkitd serve makes it",
                   cause.text);
}

static int check_reading(const char *path, int64_t version, const int64_t *out_version,
                         struct err *err)
{
    if (version == 0)
        return err_set(
            err, ERR_INVALID,
            "%s: there is nothing in it yet\nsay where the database is with --db; authkitd "
            "serve makes it",
            path);
    if (version < tables_version() && !out_version)
        return err_set(
            err, ERR_INVALID,
            "%s: the database has version %" PRId64 ", of an older authkitd, and this one "
            "reads version %" PRId64 "\nstart authkitd serve with it, which brings it forward",
            path, version, tables_version());
    return 0;
}

int database_open_reader(struct db **out, const char *path, int64_t *out_version, struct err *err)
{
    struct db *db = NULL;
    int64_t version = 0;
    int rc = open_and_look(&db, path, &version, err);

    if (rc == ERR_ABSENT)
        return explain_absence(err);
    if (rc == 0)
        rc = check_reading(path, version, out_version, err);
    if (rc < 0) {
        db_close(db);
        return rc;
    }
    if (out_version)
        *out_version = version;
    *out = db;
    return 0;
}
