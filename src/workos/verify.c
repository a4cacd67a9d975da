/* SPDX-License-Identifier: MIT */
#include "workos/verify.h"

#include "workos/tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PROBLEM_MAX = 1024 };

#define IN_LINE "('failed', 'waiting')"
#define TO_RUN "('failed', 'waiting', 'expected')"

/* The problems of one kind. */
struct finding {
    verify_tell_fn *tell;
    void *arg;
    int64_t count;
};

static void tell(struct finding *finding, const char *text)
{
    if (++finding->count <= VERIFY_SHOWN_MAX)
        finding->tell(finding->arg, text);
}

static void tell_rest(struct finding *finding)
{
    char text[PROBLEM_MAX];

    if (finding->count <= VERIFY_SHOWN_MAX)
        return;
    snprintf(text, sizeof(text), "and %" PRId64 " more like these",
             finding->count - VERIFY_SHOWN_MAX);
    finding->tell(finding->arg, text);
}

/* The text of column, "nothing" for NULL. */
static const char *column_text(struct stmt *stmt, int column)
{
    const char *text = stmt_text(stmt, column, NULL);

    return text ? text : "nothing";
}

/* An error of the look itself: damage is what was looked for. */
static int judge(struct finding *finding, int rc, struct err *err)
{
    if (rc != ERR_FATAL)
        return rc;
    tell(finding, err->text);
    return 0;
}

/* ------------------------------------------------------------------------- the file */

/* A row of integrity_check may have several lines; a heading among them says nothing by itself. */
static void tell_lines(struct finding *finding, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        char line[PROBLEM_MAX];

        snprintf(line, sizeof(line), "%.*s", (int)len, text);
        if (len > 0 && strncmp(line, "*** in database", 15) != 0)
            tell(finding, line);
        text += len + (text[len] == '\n');
    }
}

int verify_file(struct db *db, verify_tell_fn *tell_fn, void *arg, int64_t *out_problems,
                struct err *err)
{
    struct finding finding = {.tell = tell_fn, .arg = arg};
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "PRAGMA integrity_check", err);

    while (rc >= 0 && (rc = stmt_step(stmt, err)) == 1)
        if (strcmp(column_text(stmt, 0), "ok") != 0)
            tell_lines(&finding, column_text(stmt, 0));
    stmt_free(stmt);
    rc = judge(&finding, rc, err);
    tell_rest(&finding);
    *out_problems = finding.count;
    return rc;
}

/* ------------------------------------------------------------------------- the rules */

static int check_references(struct db *db, struct finding *finding, struct err *err)
{
    char text[PROBLEM_MAX];
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "PRAGMA foreign_key_check", err);

    while (rc >= 0 && (rc = stmt_step(stmt, err)) == 1) {
        snprintf(text, sizeof(text),
                 "table %s, row %" PRId64 ": refers to a row of %s that isn't there",
                 column_text(stmt, 0), stmt_int(stmt, 1), column_text(stmt, 2));
        tell(finding, text);
    }
    stmt_free(stmt);
    if (rc == ERR_INVALID) { /* the declaration itself is wrong */
        tell(finding, err->text);
        rc = 0;
    }
    tell_rest(finding);
    return judge(finding, rc, err);
}

static const char *const tables[] = {
    "workos_events",        "workos_users",
    "workos_organizations", "workos_organization_memberships",
    "workos_invitations",   "authkitd_tombstones",
    "authkitd_suspects",    "authkitd_state",
};

static int check_tables(struct db *db, struct finding *finding, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", err);

    for (size_t i = 0; rc >= 0 && i < ARRAY_LEN(tables); i++) {
        char text[PROBLEM_MAX];

        stmt_bind_str(stmt, 1, tables[i]);
        rc = stmt_step(stmt, err);
        if (rc == 1 && stmt_int(stmt, 0) == 0) {
            snprintf(text, sizeof(text), "table %s: it isn't there", tables[i]);
            tell(finding, text);
        }
        if (rc == 1)
            stmt_reset(stmt);
    }
    stmt_free(stmt);
    return judge(finding, rc < 0 ? rc : 0, err);
}

#define IS_LEFT_OVER                                     \
    "t.object = 'user' AND e.status IN ('done', 'dead')" \
    " AND (e.payload IS NOT " ERASED_PAYLOAD("e") " OR e.last_error IS NOT NULL)"

/* The first column names the row, the second is shown behind the words. */
static const struct rule {
    const char *what; /* "event" */
    const char *words;
    const char *sql;
} rules[] = {
    {"event", "its status is none that there is:",
     "SELECT id, status FROM workos_events WHERE status <> 'done'"
     " AND status NOT IN ('failed', 'waiting', 'dead', 'expected')"},
    {"event", "nothing will ever run it (authkitd retry does); it is",
     "SELECT id, status FROM workos_events WHERE status = 'failed' AND status <> 'done'"
     " AND next_attempt_at IS NULL"},
    {"event", "it waits behind no other event, and nothing will ever run it; it is",
     "SELECT e.id, e.status FROM workos_events e WHERE e.status = 'waiting' AND e.status <> 'done'"
     " AND e.next_attempt_at IS NULL AND NOT EXISTS (SELECT 1 FROM workos_events f"
     " WHERE f.object_id = e.object_id AND f.status IN " IN_LINE " AND f._seq < e._seq)"},
    {"event", "it is to run, and what it brought is gone; it is",
     "SELECT id, status FROM workos_events WHERE status IN " TO_RUN " AND status <> 'done'"
     " AND payload IS NULL"},
    {"event", "it is to run again, though it is",
     "SELECT id, status FROM workos_events WHERE next_attempt_at IS NOT NULL"
     " AND status NOT IN " TO_RUN},
    {"user", "was deleted, and is still in",
     "SELECT u.id, 'workos_users' FROM authkitd_tombstones t"
     " JOIN workos_users u ON u.id = t.id WHERE t.object = 'user'"},
    {"organization", "was deleted, and is still in",
     "SELECT o.id, 'workos_organizations' FROM authkitd_tombstones t"
     " JOIN workos_organizations o ON o.id = t.id WHERE t.object = 'organization'"},
    {"membership", "was deleted, and is still in",
     "SELECT m.id, 'workos_organization_memberships' FROM authkitd_tombstones t"
     " JOIN workos_organization_memberships m ON m.id = t.id"
     " WHERE t.object = 'organization_membership'"},
    {"event", "its texts should have been erased with its user; it is",
     "SELECT e.id, e.status FROM authkitd_tombstones t JOIN workos_events e"
     " ON object_id = t.id AND " IS_OF_ITSELF " WHERE " IS_LEFT_OVER " UNION ALL "
     "SELECT e.id, e.status FROM authkitd_tombstones t JOIN workos_events e"
     " ON user_id = t.id AND " IS_OF_ANOTHER " WHERE " IS_LEFT_OVER},
};

static int check_rule(struct db *db, const struct rule *rule, struct finding *finding,
                      struct err *err)
{
    char text[PROBLEM_MAX];
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, rule->sql, err);

    while (rc >= 0 && (rc = stmt_step(stmt, err)) == 1) {
        snprintf(text, sizeof(text), "%s %s: %s %s", rule->what, column_text(stmt, 0), rule->words,
                 column_text(stmt, 1));
        tell(finding, text);
    }
    stmt_free(stmt);
    if (rc == ERR_INVALID) { /* a table of ours isn't what it was */
        tell(finding, err->text);
        rc = 0;
    }
    tell_rest(finding);
    return judge(finding, rc, err);
}

int verify_rules(struct db *db, int64_t version, verify_tell_fn *tell_fn, void *arg,
                 int64_t *out_problems, struct err *err)
{
    struct finding finding = {.tell = tell_fn, .arg = arg};
    int64_t problems = 0, missing = 0;
    int rc = check_references(db, &finding, err);

    problems = finding.count;
    finding.count = 0;
    if (rc == 0 && version == tables_version())
        rc = check_tables(db, &finding, err);
    missing = finding.count;
    problems += missing;
    for (size_t i = 0;
         rc == 0 && version == tables_version() && missing == 0 && i < ARRAY_LEN(rules); i++) {
        finding.count = 0;
        rc = check_rule(db, &rules[i], &finding, err);
        problems += finding.count;
    }
    *out_problems = problems;
    return rc;
}

/* ------------------------------------------------------------------------- what is in it */

int verify_count(struct db *db, struct verify_counts *out, struct err *err)
{
    int rc = db_read_int(db, "SELECT count(*) FROM workos_users", &out->users, err);

    return rc < 0 ? rc : db_read_int(db, "SELECT count(*) FROM workos_events", &out->events, err);
}
