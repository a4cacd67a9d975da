/* SPDX-License-Identifier: MIT */
#include "workos/backfill_mark.h"

#include "base/buf.h"
#include "base/clock.h"
#include "workos/tables.h"

#include <stdio.h>
#include <string.h>

enum { SQL_MAX = 4096, ROWS_AT_A_TIME = 500, FORGET_AT_A_TIME = 5000 };

const struct backfill_kind backfill_kinds[BACKFILL_TYPES] = {
    {"users", "user", "user.", "/user_management/users", "workos_users"},
    {"organizations", "organization", "organization.", "/organizations", "workos_organizations"},
    {"memberships", "organization_membership", "organization_membership.",
     "/user_management/organization_memberships", "workos_organization_memberships"},
    {"invitations", "invitation", "invitation.", "/user_management/invitations",
     "workos_invitations"},
};

int backfill_name_len(enum backfill_type type, int64_t count)
{
    return (int)strlen(backfill_kinds[type].name) - (count == 1);
}

/* ---------------------------------------------------------------------------------- the mark */

static void read_text(struct stmt *stmt, char out[EVENT_NAME_MAX + 1])
{
    snprintf(out, EVENT_NAME_MAX + 1, "%s", stmt_str(stmt, 1));
}

static void read_row(struct stmt *stmt, struct backfill_mark *mark)
{
    const struct {
        const char *key;
        int64_t *number;
        char *text;
    } rows[] = {
        {"backfill.started_ms", &mark->started_ms, NULL},
        {"backfill.complete_ms", &mark->complete_ms, NULL},
        {"backfill.listed", &mark->listed, NULL},
        {"backfill.found", &mark->found, NULL},
        {"backfill.known_users", &mark->known[BACKFILL_USERS], NULL},
        {"backfill.known_organizations", &mark->known[BACKFILL_ORGANIZATIONS], NULL},
        {"backfill.known_memberships", &mark->known[BACKFILL_MEMBERSHIPS], NULL},
        {"backfill.known_invitations", &mark->known[BACKFILL_INVITATIONS], NULL},
        {"backfill.incomplete", &mark->incomplete, NULL},
        {"backfill.after", NULL, mark->after},
        {"backfill.organization", NULL, mark->organization},
        {"backfill.api", NULL, mark->api},
    };
    const char *key = stmt_str(stmt, 0);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(key, rows[i].key) != 0)
            continue;
        if (rows[i].number)
            *rows[i].number = stmt_int(stmt, 1);
        else
            read_text(stmt, rows[i].text);
    }
    if (strcmp(key, "backfill.stage") == 0)
        mark->stage = (int)stmt_int(stmt, 1);
    if (strcmp(key, "backfill.is_pruning") == 0)
        mark->is_pruning = stmt_int(stmt, 1) != 0;
    if (strcmp(key, "backfill.is_survey") == 0)
        mark->is_survey = stmt_int(stmt, 1) != 0;
}

int backfill_mark_read(struct db *db, struct backfill_mark *out, struct err *err)
{
    struct backfill_mark mark = {0};
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "SELECT key, value FROM authkitd_state"
                      " WHERE key >= 'backfill.' AND key < 'backfill/'",
                      err);

    while (rc == 0 && (rc = stmt_step(stmt, err)) == 1) {
        read_row(stmt, &mark);
        rc = 0;
    }
    stmt_free(stmt);
    if (rc < 0)
        return rc;
    if (mark.stage < 0 || mark.stage > BACKFILL_TYPES) /* somebody changed the file */
        mark = (struct backfill_mark){0};
    *out = mark;
    return 0;
}

int backfill_mark_write(struct db *db, const struct backfill_mark *mark, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "INSERT OR REPLACE INTO authkitd_state (key, value) VALUES"
                      " ('backfill.started_ms', ?), ('backfill.stage', ?), ('backfill.listed', ?),"
                      " ('backfill.is_pruning', ?), ('backfill.after', ?),"
                      " ('backfill.organization', ?), ('backfill.found', ?),"
                      " ('backfill.incomplete', ?), ('backfill.api', ?),"
                      " ('backfill.complete_ms', ?), ('backfill.is_survey', ?),"
                      " ('backfill.known_users', ?), ('backfill.known_organizations', ?),"
                      " ('backfill.known_memberships', ?), ('backfill.known_invitations', ?)",
                      err);

    if (rc < 0)
        return rc;
    stmt_bind_int(stmt, 1, mark->started_ms);
    stmt_bind_int(stmt, 2, mark->stage);
    stmt_bind_int(stmt, 3, mark->listed);
    stmt_bind_int(stmt, 4, mark->is_pruning);
    stmt_bind_str(stmt, 5, mark->after);
    stmt_bind_str(stmt, 6, mark->organization);
    stmt_bind_int(stmt, 7, mark->found);
    stmt_bind_int(stmt, 8, mark->incomplete);
    stmt_bind_str(stmt, 9, mark->api);
    stmt_bind_int(stmt, 10, mark->complete_ms);
    stmt_bind_int(stmt, 11, mark->is_survey);
    for (int i = 0; i < BACKFILL_TYPES; i++)
        stmt_bind_int(stmt, 12 + i, mark->known[i]);
    rc = stmt_run(stmt, err);
    stmt_free(stmt);
    return rc;
}

int backfill_mark_clear(struct db *db, struct err *err)
{
    return db_exec(db, "DELETE FROM authkitd_state WHERE key >= 'backfill.' AND key < 'backfill/'",
                   err);
}

int backfill_leave_out(struct db *copy, struct err *err)
{
    int64_t has_state = 0; /* a file of the first version has none */
    int rc = db_read_int(copy, "SELECT count(*) FROM sqlite_schema WHERE name = 'authkitd_state'",
                         &has_state, err);

    if (rc == 0 && has_state)
        rc = backfill_mark_clear(copy, err);
    return rc < 0 ? rc : db_exec(copy, "DROP TABLE IF EXISTS authkitd_backfill_seen", err);
}

/* ---------------------------------------------------------------------------------- advancing */

/* Those whose memberships are asked for: all that were listed, whether they have a row here or not, and of
 * those that WorkOS no longer has none. When not all could be listed, those that are here. */
static const char *organizations(const struct backfill_mark *mark)
{
    bool all_listed = !(mark->incomplete & (1 << BACKFILL_ORGANIZATIONS));

    return mark->is_pruning && all_listed ? "authkitd_backfill_seen AS o WHERE o.type = 1"
                                          : "workos_organizations AS o WHERE 1";
}
_Static_assert(BACKFILL_ORGANIZATIONS == 1, "as the SQL says");

static int next_organization(struct db *db, struct backfill_mark *mark, bool *out_found,
                             struct err *err)
{
    char sql[SQL_MAX], after[EVENT_NAME_MAX + 1];
    struct stmt *stmt = NULL;
    int rc;

    snprintf(after, sizeof(after), "%s", mark->organization);
    snprintf(sql, sizeof(sql),
             "SELECT o.id FROM %s AND o.id > ? AND length(CAST(o.id AS BLOB)) < %zu"
             " ORDER BY o.id LIMIT 1",
             organizations(mark), sizeof(mark->organization));
    rc = stmt_new(&stmt, db, sql, err);
    if (rc == 0) {
        stmt_bind_str(stmt, 1, after);
        rc = stmt_step(stmt, err);
    }
    if (rc == 1)
        snprintf(mark->organization, sizeof(mark->organization), "%s", stmt_str(stmt, 0));
    stmt_free(stmt);
    if (rc < 0)
        return rc;
    *out_found = rc == 1;
    return 0;
}

static void next_stage(struct backfill_mark *mark)
{
    mark->stage++;
    mark->listed = 0;
    mark->organization[0] = '\0';
    if (mark->stage == BACKFILL_TYPES)
        mark->complete_ms = clock_wall_ms();
}

void backfill_mark_end_survey(struct backfill_mark *mark)
{
    mark->is_survey = false;
    mark->complete_ms = 0;
    mark->stage = BACKFILL_USERS;
    mark->listed = 0;
    mark->after[0] = mark->organization[0] = '\0';
}

int backfill_mark_advance(struct db *db, struct backfill_mark *mark, struct err *err)
{
    bool found = false;
    int rc = 0;

    mark->after[0] = '\0';
    if (mark->stage != BACKFILL_MEMBERSHIPS)
        next_stage(mark);
    if (mark->stage == BACKFILL_MEMBERSHIPS)
        rc = next_organization(db, mark, &found, err);
    if (rc == 0 && mark->stage == BACKFILL_MEMBERSHIPS && !found)
        next_stage(mark);
    return rc;
}

int backfill_mark_count(struct db *db, const struct backfill_mark *mark, int64_t *out_total,
                        int64_t *out_done, struct err *err)
{
    char sql[SQL_MAX];
    struct stmt *stmt = NULL;
    int rc;

    snprintf(sql, sizeof(sql), "SELECT count(*), coalesce(sum(o.id < ?), 0) FROM %s",
             organizations(mark));
    rc = stmt_new(&stmt, db, sql, err);
    if (rc == 0) {
        stmt_bind_str(stmt, 1, mark->organization);
        rc = stmt_step(stmt, err);
    }
    if (rc == 1) {
        *out_total = stmt_int(stmt, 0);
        *out_done = stmt_int(stmt, 1);
    }
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

/* ---------------------------------------------------------------------------------- seen */

int backfill_seen_create(struct db *db, struct err *err)
{
    return db_exec(db,
                   "CREATE TABLE IF NOT EXISTS authkitd_backfill_seen"
                   " (type INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (type, id))"
                   " WITHOUT ROWID",
                   err);
}

int backfill_seen_forget(struct db *db, bool *out_more, struct err *err)
{
    int64_t before = db_total_changes(db);
    struct stmt *stmt = NULL;
    int rc = backfill_seen_create(db, err);

    if (rc == 0)
        rc = stmt_new(&stmt, db,
                      "DELETE FROM authkitd_backfill_seen WHERE (type, id) IN"
                      " (SELECT type, id FROM authkitd_backfill_seen LIMIT ?)",
                      err);
    if (rc == 0) {
        stmt_bind_int(stmt, 1, FORGET_AT_A_TIME);
        rc = stmt_run(stmt, err);
    }
    stmt_free(stmt);
    *out_more = db_total_changes(db) - before == FORGET_AT_A_TIME;
    if (rc == 0 && !*out_more)
        rc = db_exec(db, "DROP TABLE authkitd_backfill_seen", err);
    return rc;
}

int backfill_seen_add(struct db *db, enum backfill_type type, struct event_text id, bool *out_added,
                      struct err *err)
{
    int64_t before = db_total_changes(db);
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "INSERT OR IGNORE INTO authkitd_backfill_seen (type, id) VALUES (?, ?)", err);

    if (rc == 0) {
        stmt_bind_int(stmt, 1, type);
        stmt_bind_text(stmt, 2, id.at, id.len);
        rc = stmt_run(stmt, err);
    }
    stmt_free(stmt);
    *out_added = db_total_changes(db) > before;
    return rc;
}

int backfill_was_deleted(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                         struct event_text id, bool *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "SELECT 1 FROM authkitd_tombstones WHERE id = ? AND object = ?"
                      " AND deleted_at < ?",
                      err);

    if (rc == 0) {
        stmt_bind_text(stmt, 1, id.at, id.len);
        stmt_bind_str(stmt, 2, backfill_kinds[type].one);
        stmt_bind_int(stmt, 3, mark->started_ms - BACKFILL_MARGIN_MS);
        rc = stmt_step(stmt, err);
    }
    *out = rc == 1;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

#define UNSEEN(row, type)                                                        \
    "NOT EXISTS (SELECT 1 FROM authkitd_backfill_seen AS s WHERE s.type = " type \
    " AND s.id = " row ".id)"

#define IS_PRUNED "(e.id >= 'prune:' AND e.id < 'prune;')"

/* Of an event e: it has come since then (in ms), and by itself. What a backfill has made of a list says nothing
 * against the list. */
#define CAME_SINCE(since)                                                             \
    "e.received_at >= " since " AND NOT (e.id >= 'backfill:' AND e.id < 'backfill;')" \
    " AND NOT " IS_PRUNED

/* Nothing of the row's object has. */
#define QUIET(row, since)                                                                      \
    "(" row "._version_us < " since " * 1000 AND NOT EXISTS (SELECT 1 FROM workos_events AS e" \
    " WHERE e.object_id = " row ".id AND " CAME_SINCE(since) "))"

/* Of a row t of the mirror. Parameters: ?1 the type, ?2 the run's beginning, ?3 the margin's. CASE, since AND
 * looks at both sides: whoever is listed, nearly everybody, may have thousands of events. */
#define IF_UNSEEN(condition) "(CASE WHEN " UNSEEN("t", "?1") " THEN " condition " ELSE 0 END)"
#define IS_MISSING IF_UNSEEN(QUIET("t", "?2"))
#define IS_STALE IF_UNSEEN("(" QUIET("t", "?3") "%s)")

/* What else must be quiet. A user has sessions; and whoever belongs to an organization that isn't listed, and
 * stays, wasn't asked for. */
static const char *const also_quiet[BACKFILL_TYPES] = {
    [BACKFILL_USERS] = " AND NOT EXISTS (SELECT 1 FROM workos_events AS e WHERE e.user_id = t.id"
                       " AND " IS_OF_ANOTHER " AND " CAME_SINCE("?3") ")",
    [BACKFILL_ORGANIZATIONS] = "",
    [BACKFILL_MEMBERSHIPS] =
        " AND NOT EXISTS (SELECT 1 FROM workos_organizations AS o WHERE o.id = t.organization_id"
        " AND " UNSEEN("o", "1") " AND NOT " QUIET("o", "?3") ")",
    [BACKFILL_INVITATIONS] = "",
};

/* Of a t.id that stands in the log of events. With less faith in the list than above: a membership that the
 * list has brought may be of a user who came when the list of users was through. */
#define IS_UNKNOWN                                                                            \
    "(CASE WHEN NOT " UNSEEN(                                                                 \
        "t", "0") " THEN 0"                                                                   \
                  " WHEN EXISTS (SELECT 1 FROM workos_users AS w WHERE w.id = t.id) THEN 0"   \
                  " WHEN EXISTS (SELECT 1 FROM authkitd_tombstones AS d"                      \
                  " WHERE d.id = t.id AND d.object = 'user') THEN 0"                          \
                  " ELSE NOT EXISTS (SELECT 1 FROM workos_events AS e WHERE e.user_id = t.id" \
                  " AND " IS_OF_ANOTHER " AND e.received_at >= ?3 AND NOT " IS_PRUNED ")"     \
                  " AND EXISTS (SELECT 1 FROM workos_events AS e WHERE e.user_id = t.id"      \
                  " AND " IS_OF_ANOTHER ") END)"
_Static_assert(BACKFILL_USERS == 0, "as the SQL says");

/* The next user in the log, by a step in the index; only what is an id of WorkOS's users. */
#define NEXT_USER(after)                                               \
    "(SELECT min(user_id) FROM workos_events WHERE user_id > " after   \
    " AND user_id >= 'user_' AND user_id < 'user`' AND " IS_OF_ANOTHER \
    " AND length(CAST(user_id AS BLOB)) <= ?6)"

static int new_stale(struct stmt **out, struct db *db, const struct backfill_mark *mark,
                     enum backfill_type type, const char *sql, struct err *err)
{
    int rc = stmt_new(out, db, sql, err);

    if (rc < 0)
        return rc;
    stmt_bind_int(*out, 1, type);
    stmt_bind_int(*out, 2, mark->started_ms);
    stmt_bind_int(*out, 3, mark->started_ms - BACKFILL_MARGIN_MS);
    return 0;
}

/* Is there a row for the statement's ?4? */
static int find_id(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                   const char *sql, struct event_text id, bool *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = new_stale(&stmt, db, mark, type, sql, err);

    if (rc == 0) {
        stmt_bind_text(stmt, 4, id.at, id.len);
        rc = stmt_step(stmt, err);
    }
    *out = rc == 1;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

int backfill_is_stale(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                      struct event_text id, bool *out, struct err *err)
{
    char sql[SQL_MAX];
    int rc;

    snprintf(sql, sizeof(sql), "SELECT 1 FROM %s AS t WHERE t.id = ?4 AND " IS_STALE,
             backfill_kinds[type].table, also_quiet[type]);
    rc = find_id(db, mark, type, sql, id, out, err);
    if (rc < 0 || *out || type != BACKFILL_USERS)
        return rc;
    return find_id(db, mark, type, "SELECT 1 FROM (SELECT ?4 AS id) AS t WHERE " IS_UNKNOWN, id,
                   out, err);
}

static int find_in_rows(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                        struct backfill_cursor *cursor, backfill_stale_fn *tell, void *arg,
                        struct err *err)
{
    char sql[SQL_MAX];
    struct stmt *stmt = NULL;
    int64_t rows = 0;
    int rc;

    snprintf(sql, sizeof(sql),
             "SELECT t.rowid, t.id, t.raw, " IS_MISSING ", " IS_STALE
             " FROM %s AS t WHERE t.rowid > ?4 ORDER BY t.rowid LIMIT ?5",
             also_quiet[type], backfill_kinds[type].table);
    rc = new_stale(&stmt, db, mark, type, sql, err);
    if (rc == 0) {
        stmt_bind_int(stmt, 4, cursor->row);
        stmt_bind_int(stmt, 5, ROWS_AT_A_TIME);
    }
    while (rc == 0 && (rc = stmt_step(stmt, err)) == 1) {
        const char *id = stmt_text(stmt, 1, NULL); /* NULL in a damaged file: whose is it? */

        rows++;
        cursor->row = stmt_int(stmt, 0);
        rc = id && stmt_int(stmt, 3)
                 ? tell(arg, id, stmt_text(stmt, 2, NULL), !stmt_int(stmt, 4), err)
                 : 0;
    }
    stmt_free(stmt);
    cursor->in_log = rows < ROWS_AT_A_TIME && type == BACKFILL_USERS;
    cursor->is_over = rows < ROWS_AT_A_TIME && type != BACKFILL_USERS;
    return rc;
}

static int find_in_log(struct db *db, const struct backfill_mark *mark,
                       struct backfill_cursor *cursor, backfill_stale_fn *tell, void *arg,
                       struct err *err)
{
    struct stmt *stmt = NULL;
    int64_t users = 0;
    int rc =
        new_stale(&stmt, db, mark, BACKFILL_USERS,
                  "WITH RECURSIVE t(id) AS (SELECT " NEXT_USER(
                      "?4") " UNION ALL"
                            " SELECT " NEXT_USER("t.id") " FROM t WHERE t.id IS NOT NULL LIMIT ?5)"
                                                         " SELECT t.id, " IS_UNKNOWN
                                                         " FROM t WHERE t.id IS NOT NULL",
                  err);

    if (rc == 0) {
        stmt_bind_text(stmt, 4, cursor->user, cursor->user_len);
        stmt_bind_int(stmt, 5, ROWS_AT_A_TIME);
        stmt_bind_int(stmt, 6, sizeof(cursor->user));
    }
    while (rc == 0 && (rc = stmt_step(stmt, err)) == 1) {
        const char *id = stmt_text(stmt, 0, &cursor->user_len);

        users++;
        memcpy(cursor->user, id, cursor->user_len);
        rc = stmt_int(stmt, 1) ? tell(arg, id, NULL, false, err) : 0;
    }
    stmt_free(stmt);
    cursor->is_over = users < ROWS_AT_A_TIME;
    return rc;
}

int backfill_find_stale(struct db *db, const struct backfill_mark *mark, enum backfill_type type,
                        struct backfill_cursor *cursor, backfill_stale_fn *tell, void *arg,
                        struct err *err)
{
    return cursor->in_log ? find_in_log(db, mark, cursor, tell, arg, err)
                          : find_in_rows(db, mark, type, cursor, tell, arg, err);
}
