/* SPDX-License-Identifier: MIT */
#include "workos/event_list.h"

#include "base/buf.h"

#include <string.h>

enum { SQL_MAX = 2048 };

#define COLUMNS                                                                       \
    "_seq, id, event, object_id, user_id, created_at, received_at, status, attempts," \
    " next_attempt_at, last_error, payload"

static void read_row(struct stmt *stmt, struct event_row *out)
{
    *out = (struct event_row){
        .seq = stmt_int(stmt, 0),
        .id = stmt_str(stmt, 1),
        .event = stmt_str(stmt, 2),
        .object_id = stmt_text(stmt, 3, NULL),
        .user_id = stmt_text(stmt, 4, NULL),
        .created_at = stmt_text(stmt, 5, NULL),
        .received_at = stmt_int(stmt, 6),
        .status = stmt_str(stmt, 7),
        .attempts = stmt_int(stmt, 8),
        .next_attempt_at = stmt_int(stmt, 9),
        .last_error = stmt_text(stmt, 10, NULL),
        .payload = stmt_text(stmt, 11, NULL),
    };
}

/* Parameters: ?1 the status, ?2 the type; ?3 is the caller's. */
static void put_filter(struct buf *sql, const struct event_filter *filter)
{
    size_t len = filter->type ? strlen(filter->type) : 0;

    if (filter->status)
        buf_puts(sql, " AND status = ?1");
    if (filter->status && strcmp(filter->status, "done") != 0)
        buf_puts(sql, " AND status <> 'done'"); /* in the words of the index */
    if (len > 0 && filter->type[len - 1] == '*')
        buf_puts(sql, " AND substr(event, 1, length(?2) - 1) = substr(?2, 1, length(?2) - 1)");
    else if (len > 0)
        buf_puts(sql, " AND event = ?2");
}

/* sql is all but the values; third is ?3. */
static int run_list(struct db *db, const struct buf *sql, const struct event_filter *filter,
                    int64_t third, event_list_fn *show, void *arg, struct err *err)
{
    struct stmt *stmt = NULL;
    struct event_row row;
    int rc = stmt_new(&stmt, db, buf_text(sql), err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, filter->status);
    stmt_bind_str(stmt, 2, filter->type);
    stmt_bind_int(stmt, 3, third);
    while ((rc = stmt_step(stmt, err)) > 0) {
        read_row(stmt, &row);
        show(arg, &row);
    }
    stmt_free(stmt);
    return rc;
}

int event_list_last(struct db *db, const struct event_filter *filter, int64_t max,
                    event_list_fn *show, void *arg, struct err *err)
{
    struct buf sql = BUF_INIT(SQL_MAX);
    int rc;

    buf_puts(&sql, "SELECT " COLUMNS " FROM (SELECT * FROM workos_events WHERE true");
    put_filter(&sql, filter);
    buf_puts(&sql, " ORDER BY _seq DESC LIMIT ?3) ORDER BY _seq");
    rc = run_list(db, &sql, filter, max, show, arg, err);
    buf_release(&sql);
    return rc;
}

int event_list_last_seq(struct db *db, int64_t *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "SELECT max(_seq) FROM workos_events", err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    if (rc == 1)
        *out = stmt_int(stmt, 0);
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

int event_list_behind(struct db *db, const struct event_filter *filter, int64_t seq,
                      event_list_fn *show, void *arg, int64_t *out_seq, struct err *err)
{
    struct buf sql = BUF_INIT(SQL_MAX);
    int rc = db_exec(db, "BEGIN", err); /* both looks at the same moment */

    if (rc < 0)
        return rc;
    buf_puts(&sql, "SELECT " COLUMNS " FROM workos_events WHERE _seq > ?3");
    put_filter(&sql, filter);
    buf_puts(&sql, " ORDER BY _seq");
    rc = run_list(db, &sql, filter, seq, show, arg, err);
    if (rc == 0)
        rc = event_list_last_seq(db, out_seq, err);
    buf_release(&sql);
    if (db_exec(db, "COMMIT", rc == 0 ? err : NULL) < 0 && rc == 0)
        rc = err->code;
    return rc;
}

int event_list_one(struct db *db, const struct event_filter *filter, int64_t seq,
                   event_list_fn *show, void *arg, struct err *err)
{
    struct buf sql = BUF_INIT(SQL_MAX);
    int rc;

    buf_puts(&sql, "SELECT " COLUMNS " FROM workos_events WHERE _seq = ?3");
    put_filter(&sql, filter);
    rc = run_list(db, &sql, filter, seq, show, arg, err);
    buf_release(&sql);
    return rc;
}
