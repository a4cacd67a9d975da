/* SPDX-License-Identifier: MIT */
#include "workos/state_table.h"

/* 1 when there is such a name: stmt, the caller's to free in any case, has its value then. */
static int find(struct stmt **stmt, struct db *db, const char *name, struct err *err)
{
    int rc = stmt_new(stmt, db, "SELECT value FROM authkitd_state WHERE key = ?", err);

    if (rc < 0)
        return rc;
    stmt_bind_str(*stmt, 1, name);
    return stmt_step(*stmt, err);
}

int state_get_int(struct db *db, const char *name, int64_t instead, int64_t *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = find(&stmt, db, name, err);

    if (rc >= 0)
        *out = rc == 1 ? stmt_int(stmt, 0) : instead;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

int state_get_text(struct db *db, const char *name, struct buf *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = find(&stmt, db, name, err);

    if (rc == 1)
        buf_puts(out, stmt_str(stmt, 0));
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

/* text, or number when there is none. */
static int put(struct db *db, const char *name, const char *text, int64_t number, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "INSERT OR REPLACE INTO authkitd_state (key, value) VALUES (?, ?)",
                      err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, name);
    if (text)
        stmt_bind_str(stmt, 2, text);
    else
        stmt_bind_int(stmt, 2, number);
    rc = stmt_run(stmt, err);
    stmt_free(stmt);
    return rc;
}

int state_put_int(struct db *db, const char *name, int64_t value, struct err *err)
{
    return put(db, name, NULL, value, err);
}

int state_put_text(struct db *db, const char *name, const char *value, struct err *err)
{
    return put(db, name, value, 0, err);
}
