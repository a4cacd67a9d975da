/* SPDX-License-Identifier: MIT */
#include "workos/browse.h"

#include "base/text.h"
#include "workos/event_log.h"
#include "workos/tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BOUND_MAX = 1024, EXTERNAL_MAX = 5, MEMBERSHIPS_MAX = 100 };

/* Behind every text that begins with what stands before it: the last code point that there is. */
#define LAST_CHARACTER "\xF4\x8F\xBF\xBF"

/* ------------------------------------------------------------------------- rows as JSON */

/* How much of the text is shown, cut on a character boundary. */
static size_t shown_length(const char *text, size_t len, size_t max)
{
    if (len <= max)
        return len;
    while (max > 0 && ((unsigned char)text[max] & 0xC0) == 0x80)
        max--;
    return max;
}

static void put_text(const char *text, size_t len, size_t max, struct buf *out)
{
    size_t shown = shown_length(text, len, max);

    buf_put_json_string(out, text, shown);
    if (shown < len && out->len > 0 && buf_ok(out)) {
        out->len--; /* the closing quote */
        buf_puts(out, "…\"");
    }
}

static void put_value(struct stmt *stmt, int column, size_t max, struct buf *out)
{
    const char *declared = stmt_column_declared(stmt, column);
    size_t len;
    const char *text;

    switch (stmt_column_type(stmt, column)) {
    case STMT_NULL:
        buf_puts(out, "null");
        break;
    case STMT_INT:
        if (declared && strcmp(declared, "BOOLEAN") == 0)
            buf_puts(out, stmt_int(stmt, column) ? "true" : "false");
        else
            buf_printf(out, "%" PRId64, stmt_int(stmt, column));
        break;
    case STMT_REAL:
        buf_printf(out, "%.17g", stmt_real(stmt, column));
        break;
    default:
        text = stmt_text(stmt, column, &len);
        if (declared && strcmp(declared, "JSON_TEXT") == 0 && len <= max)
            buf_put(out, text, len); /* it was checked when it came */
        else
            put_text(text, len, max, out);
        break;
    }
}

static void put_row(struct stmt *stmt, size_t max, struct buf *out)
{
    int count = stmt_column_count(stmt);

    for (int i = 0; i < count; i++) {
        buf_printf(out, "%c\"%s\":", i ? ',' : '{', stmt_column_name(stmt, i));
        put_value(stmt, i, max, out);
    }
    buf_putc(out, '}');
}

/* The rows of a statement, behind a '[' or the rows that are there. */
static int put_rows(struct stmt *stmt, size_t max, struct buf *out, struct err *err)
{
    int rc;

    while ((rc = stmt_step(stmt, err)) > 0) {
        if (out->len > 0 && out->data[out->len - 1] != '[')
            buf_putc(out, ',');
        put_row(stmt, max, out);
    }
    return rc;
}

/* ------------------------------------------------------------------------- users */

#define USER_COLUMNS                                                                   \
    "id, email, email_verified, name, first_name, last_name, external_id, created_at," \
    " updated_at, last_sign_in_at"

/* What is asked for, bound as: ?1 the beginning (by id: or the id of the page before, for of two lower
 * bounds SQLite would go from the first one on), ?2 behind it, ?3 the id of the page before, ?4 how many,
 * ?5 the email there, ?6 its row, ?7 the search. */
static const char by_nothing[] = "SELECT " USER_COLUMNS " FROM workos_users"
                                 " WHERE id < ?3 ORDER BY id DESC LIMIT ?4";
static const char by_id[] = "SELECT " USER_COLUMNS " FROM workos_users"
                            " WHERE id >= ?1 AND id < ?2 AND id <> ?3"
                            " AND external_id IS NOT ?7 ORDER BY id LIMIT ?4";
static const char by_email[] = "SELECT " USER_COLUMNS " FROM workos_users"
                               " WHERE email COLLATE NOCASE >= ?5 AND email COLLATE NOCASE < ?2"
                               " AND (email COLLATE NOCASE > ?5 OR rowid > ?6)"
                               " AND external_id IS NOT ?7"
                               " ORDER BY email COLLATE NOCASE, rowid LIMIT ?4";

/* Does any user's id begin so? behind: what lies behind all that do. */
static int is_any_id(struct db *db, const char *search, const char *behind, bool *out,
                     struct err *err)
{
    struct stmt *stmt = NULL;
    int rc =
        stmt_new(&stmt, db, "SELECT 1 FROM workos_users WHERE id >= ? AND id < ? LIMIT 1", err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, search);
    stmt_bind_str(stmt, 2, behind);
    rc = stmt_step(stmt, err);
    *out = rc == 1;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

/* An email may begin like an id, and it is one when no id does. */
static int choose_users_sql(struct db *db, const char *search, const char *behind, const char **out,
                            struct err *err)
{
    bool is_id;
    int rc;

    *out = *search ? by_email : by_nothing;
    if (!text_starts_with(search, "user_"))
        return 0;
    rc = is_any_id(db, search, behind, &is_id, err);
    if (rc == 0 && is_id)
        *out = by_id;
    return rc;
}

/* The page goes on behind that user, so its place must be known still. */
static int find_place(struct db *db, const char *id, char email[BOUND_MAX], int64_t *out_row,
                      struct err *err)
{
    struct stmt *stmt = NULL;
    const char *text;
    int rc = stmt_new(&stmt, db, "SELECT email, rowid FROM workos_users WHERE id = ?", err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, id);
    rc = stmt_step(stmt, err);
    if (rc == 1 && (text = stmt_text(stmt, 0, NULL)) && strlen(text) < BOUND_MAX) {
        memcpy(email, text, strlen(text) + 1);
        *out_row = stmt_int(stmt, 1);
        rc = 0;
    } else if (rc >= 0) {
        rc = err_set(err, ERR_INVALID,
                     "the user that the last page ended with has gone; search again");
    }
    stmt_free(stmt);
    return rc;
}

/* Those whose external id it is. They are few, and no page behind the first has them. */
static int put_external(struct db *db, const char *search, struct buf *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc =
        stmt_new(&stmt, db,
                 "SELECT " USER_COLUMNS " FROM workos_users WHERE external_id = ?1 LIMIT ?2", err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, search);
    stmt_bind_int(stmt, 2, EXTERNAL_MAX);
    rc = put_rows(stmt, BROWSE_LINE_MAX, out, err);
    stmt_free(stmt);
    return rc;
}

/* One more than the page has: is there another? */
static int put_users(struct stmt *stmt, int64_t limit, struct buf *out, struct err *err)
{
    char last[BOUND_MAX] = "";
    bool has_more = false;
    int rc;

    for (int64_t i = 0; (rc = stmt_step(stmt, err)) > 0; i++) {
        if (i == limit) {
            has_more = true;
            stmt_reset(stmt);
            rc = 0;
            break;
        }
        if (out->len > 0 && out->data[out->len - 1] != '[')
            buf_putc(out, ',');
        put_row(stmt, BROWSE_LINE_MAX, out);
        snprintf(last, sizeof(last), "%s", stmt_str(stmt, 0));
    }
    buf_puts(out, "],\"next\":");
    if (has_more)
        buf_put_json_string(out, last, strlen(last));
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
    return rc;
}

int browse_users(struct db *db, const struct browse_users *ask, struct buf *out, struct err *err)
{
    const char *search = ask->search ? ask->search : "";
    const char *sql = NULL;
    char behind[BOUND_MAX], email[BOUND_MAX];
    struct stmt *stmt = NULL;
    int64_t row = -1;
    int rc = 0;

    if (strlen(search) + sizeof(LAST_CHARACTER) > sizeof(behind))
        return err_set(err, ERR_INVALID, "the text to search for is too long");
    snprintf(behind, sizeof(behind), "%s" LAST_CHARACTER, search);
    snprintf(email, sizeof(email), "%s", search);
    rc = choose_users_sql(db, search, behind, &sql, err);
    if (rc == 0 && sql == by_email && ask->after)
        rc = find_place(db, ask->after, email, &row, err);
    buf_puts(out, "{\"users\":[");
    if (rc == 0 && sql != by_nothing && !ask->after)
        rc = put_external(db, search, out, err);
    if (rc == 0)
        rc = stmt_new(&stmt, db, sql, err);
    if (rc < 0)
        return rc;
    if (sql != by_nothing) {
        bool goes_on = sql == by_id && ask->after && strcmp(ask->after, search) > 0;

        stmt_bind_str(stmt, 1, goes_on ? ask->after : search);
        stmt_bind_str(stmt, 2, behind);
        stmt_bind_str(stmt, 7, search);
    }
    if (sql == by_email) {
        stmt_bind_str(stmt, 5, email);
        stmt_bind_int(stmt, 6, row);
    } else {
        stmt_bind_str(stmt, 3, ask->after ? ask->after : sql == by_nothing ? LAST_CHARACTER : "");
    }
    stmt_bind_int(stmt, 4, ask->limit + 1);
    rc = put_users(stmt, ask->limit, out, err);
    stmt_free(stmt);
    return rc;
}

/* ------------------------------------------------------------------------- one user */

/* The first row of the statement with the id as its parameter, or null. 1 when there was one. */
static int put_one(struct db *db, const char *sql, const char *id, size_t max, struct buf *out,
                   struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, sql, err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, id);
    rc = stmt_step(stmt, err);
    if (rc == 1)
        put_row(stmt, max, out);
    else if (rc == 0)
        buf_puts(out, "null");
    stmt_free(stmt);
    return rc;
}

static int put_memberships(struct db *db, const char *id, struct buf *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "SELECT m.id, m.organization_id, o.name AS organization_name, m.role,"
                      " m.status FROM workos_organization_memberships AS m"
                      " LEFT JOIN workos_organizations AS o ON o.id = m.organization_id"
                      " WHERE m.user_id = ?1 LIMIT ?2",
                      err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, id);
    stmt_bind_int(stmt, 2, MEMBERSHIPS_MAX);
    buf_putc(out, '[');
    rc = put_rows(stmt, BROWSE_LINE_MAX, out, err);
    buf_putc(out, ']');
    stmt_free(stmt);
    return rc;
}

/* The number that the statement gives for the id; 0 when there is none. */
static int find_number(struct db *db, const char *sql, const char *id, int64_t *out,
                       struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, sql, err);

    if (rc < 0)
        return rc;
    stmt_bind_str(stmt, 1, id);
    rc = stmt_step(stmt, err);
    *out = rc == 1 ? stmt_int(stmt, 0) : 0;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

int browse_user(struct db *db, const char *id, struct buf *out, struct err *err)
{
    int64_t deleted_at, events = 0;
    int found, rc;

    buf_puts(out, "{\"user\":");
    found = put_one(db,
                    "SELECT " USER_COLUMNS ", profile_picture_url, locale, metadata"
                    " FROM workos_users WHERE id = ?",
                    id, BROWSE_TEXT_MAX, out, err);
    if (found < 0)
        return found;
    rc = find_number(db,
                     "SELECT deleted_at FROM authkitd_tombstones WHERE id = ? AND object = 'user'",
                     id, &deleted_at, err);
    if (rc == 0 && !found && !deleted_at)
        rc = find_number(db, "SELECT EXISTS (" EVENTS_OF_USER ")", id, &events, err);
    if (rc < 0)
        return rc;
    if (!found && !deleted_at && !events)
        return err_set(err, ERR_ABSENT, "there is no user with this id");
    if (deleted_at)
        buf_printf(out, ",\"deleted_at\":%" PRId64 ",\"memberships\":", deleted_at);
    else
        buf_puts(out, ",\"deleted_at\":null,\"memberships\":");
    rc = put_memberships(db, id, out, err);
    buf_putc(out, '}');
    return rc;
}

/* ------------------------------------------------------------------------- events */

#define EVENT_COLUMNS                                                                      \
    "_seq AS seq, id, event AS type, object_id, user_id, created_at, received_at, status," \
    " attempts, next_attempt_at, last_error AS error, " IS_ERASED " AS is_erased"
enum { SEQ = 0, TYPE = 2, USER = 4, STATUS = 7 };

static bool is_wanted(struct stmt *stmt, const struct browse_events *ask)
{
    const char *type = stmt_str(stmt, TYPE), *status = stmt_str(stmt, STATUS);
    const char *user = stmt_text(stmt, USER, NULL);
    size_t len = ask->type ? strlen(ask->type) : 0;

    if (ask->user_id && (!user || strcmp(user, ask->user_id) != 0))
        return false; /* an event of the object that has this id, and that is no user */
    if (ask->status && strcmp(status, ask->status) != 0)
        return false;
    if (len > 0 && ask->type[len - 1] == '*')
        return strncmp(type, ask->type, len - 1) == 0;
    return len == 0 || strcmp(type, ask->type) == 0;
}

/*
 * ?1 the user or the status, ?2 the _seq of the event before. Of a user, what others' events say comes from
 * its index in this order; of the user's own all places are read from theirs, and only as many events as are
 * shown.
 */
#define OWN_PLACES "SELECT _seq FROM workos_events WHERE object_id = ?1 AND _seq < ?2"
static const char of_user[] =
    "SELECT " EVENT_COLUMNS " FROM workos_events WHERE _seq IN (" OWN_PLACES ")"
    " UNION ALL "
    "SELECT " EVENT_COLUMNS " FROM workos_events"
    " WHERE _seq < ?2 AND user_id = ?1 AND " IS_OF_ANOTHER " ORDER BY seq DESC";
static const char of_status[] = "SELECT " EVENT_COLUMNS " FROM workos_events"
                                " WHERE _seq < ?2 AND status = ?1"
                                " AND status <> 'done'" /* in the words of the index */
                                " ORDER BY _seq DESC";
static const char of_all[] = "SELECT " EVENT_COLUMNS " FROM workos_events"
                             " WHERE _seq < ?2 ORDER BY _seq DESC";

/* The index that leaves least is used, and what it leaves is looked through. */
static const char *events_sql(const struct browse_events *ask)
{
    if (ask->user_id)
        return of_user;
    if (ask->status && strcmp(ask->status, event_status_names[EVENT_DONE]) != 0)
        return of_status;
    return of_all;
}

static int put_events(struct stmt *stmt, const struct browse_events *ask, struct buf *out,
                      struct err *err)
{
    int64_t shown = 0, next = 0, seq = 0;
    int rc;

    for (int64_t looks = 0; (rc = stmt_step(stmt, err)) > 0; looks++) {
        bool is_shown = is_wanted(stmt, ask);

        if (looks == BROWSE_LOOKS || (is_shown && shown == ask->limit)) {
            next = seq;
            stmt_reset(stmt);
            rc = 0;
            break;
        }
        seq = stmt_int(stmt, SEQ);
        if (!is_shown)
            continue;
        buf_puts(out, shown++ ? "," : "");
        put_row(stmt, BROWSE_LINE_MAX, out);
    }
    if (next)
        buf_printf(out, "],\"next\":%" PRId64 "}", next);
    else
        buf_puts(out, "],\"next\":null}");
    return rc;
}

/* The newest event; 0 and 0 when there is none. */
static int read_last(struct db *db, int64_t *out_seq, int64_t *out_received_ms, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(
        &stmt, db, "SELECT _seq, received_at FROM workos_events ORDER BY _seq DESC LIMIT 1", err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    *out_seq = rc > 0 ? stmt_int(stmt, 0) : 0;
    *out_received_ms = rc > 0 ? stmt_int(stmt, 1) : 0;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

int browse_events(struct db *db, const struct browse_events *ask, struct buf *out, struct err *err)
{
    const char *sql = events_sql(ask);
    struct stmt *stmt = NULL;
    int64_t last_seq, last_received_ms;
    int rc = read_last(db, &last_seq, &last_received_ms, err); /* first: the page may know more */

    if (rc == 0)
        rc = stmt_new(&stmt, db, sql, err);
    if (rc < 0)
        return rc;
    if (sql != of_all)
        stmt_bind_str(stmt, 1, sql == of_user ? ask->user_id : ask->status);
    stmt_bind_int(stmt, 2, ask->after ? ask->after : INT64_MAX);
    buf_printf(out, "{\"last_seq\":%" PRId64 ",\"events\":[", last_seq);
    rc = put_events(stmt, ask, out, err);
    stmt_free(stmt);
    return rc;
}

int browse_event(struct db *db, const char *id, struct buf *out, struct err *err)
{
    int rc;

    buf_puts(out, "{\"event\":");
    rc = put_one(db,
                 "SELECT " EVENT_COLUMNS ", payload, length(CAST(payload AS BLOB)) AS payload_bytes"
                 " FROM workos_events WHERE id = ?",
                 id, BROWSE_PAYLOAD_MAX, out, err);
    buf_putc(out, '}');
    if (rc == 0)
        return err_set(err, ERR_ABSENT, "there is no event with this id");
    return rc < 0 ? rc : 0;
}

/* ------------------------------------------------------------------------- counts */

static int put_count(struct stmt *stmt, const char *status, struct buf *out, struct err *err)
{
    int rc;

    stmt_bind_str(stmt, 1, status);
    stmt_bind_int(stmt, 2, BROWSE_COUNT_MAX);
    rc = stmt_step(stmt, err);
    if (rc == 1)
        buf_printf(out, "\"%s\":%" PRId64 ",", status, stmt_int(stmt, 0));
    stmt_reset(stmt);
    return rc < 0 ? rc : 0;
}

static int put_last(struct db *db, struct buf *out, struct err *err)
{
    int64_t seq, received_ms;
    int rc = read_last(db, &seq, &received_ms, err);

    if (rc == 0)
        buf_printf(out, "\"last_seq\":%" PRId64 ",\"last_received_at\":%" PRId64 "}", seq,
                   received_ms);
    return rc;
}

int browse_counts(struct db *db, struct buf *out, struct err *err)
{
    static const enum event_status counted[] = {EVENT_FAILED, EVENT_WAITING, EVENT_DEAD,
                                                EVENT_EXPECTED};
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "SELECT count(*) FROM (SELECT 1 FROM workos_events"
                      " WHERE status = ?1 AND status <> 'done' AND NOT " IS_ERASED " LIMIT ?2)",
                      err);

    buf_putc(out, '{');
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(counted); i++)
        rc = put_count(stmt, event_status_names[counted[i]], out, err);
    stmt_free(stmt);
    return rc < 0 ? rc : put_last(db, out, err);
}
