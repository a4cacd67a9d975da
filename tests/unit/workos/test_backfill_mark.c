/* SPDX-License-Identifier: MIT */
#include "workos/backfill_mark.h"

#include "unit/store/temp_dir.h"
#include "workos/tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

static struct db *open_db(void)
{
    struct db *db = NULL;
    struct err err = {0};

    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    assert_int_equal(tables_migrate(db, &err), 0);
    return db;
}

static void run_sql(struct db *db, const char *sql)
{
    struct err err = {0};

    if (db_exec(db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
}

static void add_organization(struct db *db, const char *id)
{
    char sql[1024];

    snprintf(sql, sizeof(sql),
             "INSERT INTO workos_organizations (id, _version_us, _event_id) VALUES ('%s', 1, 'e')",
             id);
    run_sql(db, sql);
}

static void add_user(struct db *db, const char *id, int64_t version_us)
{
    char sql[1024];

    snprintf(sql, sizeof(sql),
             "INSERT INTO workos_users (id, raw, _version_us, _event_id)"
             " VALUES ('%s', '{\"id\":\"%s\"}', %lld, 'e')",
             id, id, (long long)version_us);
    run_sql(db, sql);
}

static void see(struct db *db, enum backfill_type type, const char *id)
{
    struct err err = {0};
    bool added;

    assert_int_equal(backfill_seen_add(db, type, (struct event_text){id, strlen(id)}, &added, &err),
                     0);
}

static void advance(struct db *db, struct backfill_mark *mark, int stage, const char *organization)
{
    struct err err = {0};

    assert_int_equal(backfill_mark_advance(db, mark, &err), 0);
    assert_int_equal(mark->stage, stage);
    assert_string_equal(mark->organization, organization);
    assert_string_equal(mark->after, "");
    assert_int_equal(mark->complete_ms != 0, stage == BACKFILL_TYPES);
}

static void mark__comes_back_as_it_was_written(void **state)
{
    struct db *db = open_db();
    struct backfill_mark mark = {.started_ms = 1764000000000,
                                 .complete_ms = 1764000000001,
                                 .stage = BACKFILL_MEMBERSHIPS,
                                 .listed = 7,
                                 .is_pruning = true,
                                 .after = "om_7",
                                 .organization = "org_3",
                                 .api = "00ff",
                                 .found = 3,
                                 .is_survey = true,
                                 .known = {1, 0, 7, 2},
                                 .incomplete = 4},
                         read;
    struct err err = {0};

    (void)state;
    assert_int_equal(backfill_mark_read(db, &read, &err), 0);
    assert_int_equal(read.started_ms, 0);
    assert_int_equal(backfill_mark_write(db, &mark, &err), 0);
    assert_int_equal(backfill_mark_read(db, &read, &err), 0);
    assert_int_equal(read.started_ms, mark.started_ms);
    assert_int_equal(read.complete_ms, mark.complete_ms);
    assert_int_equal(read.stage, mark.stage);
    assert_int_equal(read.listed, mark.listed);
    assert_true(read.is_pruning);
    assert_string_equal(read.after, mark.after);
    assert_string_equal(read.organization, mark.organization);
    assert_string_equal(read.api, mark.api);
    assert_int_equal(read.found, mark.found);
    assert_true(read.is_survey);
    assert_memory_equal(read.known, mark.known, sizeof(mark.known));
    assert_int_equal(read.incomplete, mark.incomplete);
    assert_int_equal(backfill_mark_clear(db, &err), 0);
    assert_int_equal(backfill_mark_read(db, &read, &err), 0);
    assert_int_equal(read.started_ms, 0);
    db_close(db);
}

static void mark__a_stage_that_is_none_is_no_mark(void **state)
{
    struct db *db = open_db();
    struct backfill_mark read;
    struct err err = {0};

    (void)state;
    run_sql(db, "INSERT INTO authkitd_state VALUES ('backfill.started_ms', 5),"
                " ('backfill.stage', 17), ('backfill.', NULL), ('backfillx', 1)");
    assert_int_equal(backfill_mark_read(db, &read, &err), 0);
    assert_int_equal(read.started_ms, 0);
    db_close(db);
}

static void mark__goes_by_organizations(void **state)
{
    struct db *db = open_db();
    struct backfill_mark mark = {.stage = BACKFILL_USERS, .after = "user_1"};
    char huge[600];
    struct err err = {0};
    int64_t total, done;

    (void)state;
    memset(huge, 'z', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    add_organization(db, "org_b");
    add_organization(db, "org_a");
    add_organization(db, huge); /* no mark can hold it */
    advance(db, &mark, BACKFILL_ORGANIZATIONS, "");
    advance(db, &mark, BACKFILL_MEMBERSHIPS, "org_a");
    mark.listed = 5;
    advance(db, &mark, BACKFILL_MEMBERSHIPS, "org_b");
    assert_int_equal(mark.listed, 5);
    assert_int_equal(backfill_mark_count(db, &mark, &total, &done, &err), 0);
    assert_int_equal(total, 3);
    assert_int_equal(done, 1);
    advance(db, &mark, BACKFILL_INVITATIONS, "");
    assert_int_equal(mark.listed, 0);
    advance(db, &mark, BACKFILL_TYPES, "");
    db_close(db);
}

static void mark__without_organizations_there_are_no_memberships(void **state)
{
    struct db *db = open_db();
    struct backfill_mark mark = {.stage = BACKFILL_ORGANIZATIONS};

    (void)state;
    advance(db, &mark, BACKFILL_INVITATIONS, "");
    db_close(db);
}

/* One that was listed is asked for also when it has no row, for its function broke a reference. */
static void mark__asks_for_the_organizations_that_were_listed(void **state)
{
    struct db *db = open_db();
    struct backfill_mark mark = {.stage = BACKFILL_ORGANIZATIONS, .is_pruning = true};
    struct err err = {0};
    int64_t total, done;
    bool added;

    (void)state;
    add_organization(db, "org_a");
    add_organization(db, "org_b");
    assert_int_equal(backfill_seen_create(db, &err), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(backfill_seen_add(db, BACKFILL_ORGANIZATIONS,
                                           (struct event_text){"org_b", 5}, &added, &err),
                         0);
        assert_int_equal(added, i == 0);
    }
    see(db, BACKFILL_ORGANIZATIONS, "org_c");
    see(db, BACKFILL_USERS, "org_d");
    advance(db, &mark, BACKFILL_MEMBERSHIPS, "org_b");
    advance(db, &mark, BACKFILL_MEMBERSHIPS, "org_c");
    assert_int_equal(backfill_mark_count(db, &mark, &total, &done, &err), 0);
    assert_int_equal(total, 2);
    assert_int_equal(done, 1);
    advance(db, &mark, BACKFILL_INVITATIONS, "");

    mark = (struct backfill_mark){.stage = BACKFILL_ORGANIZATIONS,
                                  .is_pruning = true,
                                  .incomplete = 1 << BACKFILL_ORGANIZATIONS};
    advance(db, &mark, BACKFILL_MEMBERSHIPS, "org_a");
    advance(db, &mark, BACKFILL_MEMBERSHIPS, "org_b");
    advance(db, &mark, BACKFILL_INVITATIONS, "");
    db_close(db);
}

struct found {
    char ids[256];
    int count;
};

/* The recent ones with a ? behind them. */
static int take_stale(void *arg, const char *id, const char *raw, bool is_recent, struct err *err)
{
    struct found *found = arg;

    (void)err;
    (void)raw;
    if (found->count++ < 8)
        snprintf(found->ids + strlen(found->ids), sizeof(found->ids) - strlen(found->ids), "%s%s ",
                 id, is_recent ? "?" : "");
    return 0;
}

enum { START_MS = 2000000, MARGIN_AT_MS = START_MS - BACKFILL_MARGIN_MS };

static void add_event(struct db *db, const char *id, const char *object, const char *user,
                      int64_t received_at)
{
    char sql[1024];

    snprintf(sql, sizeof(sql),
             "INSERT INTO workos_events"
             " (id, event, object_id, user_id, received_at, status, attempts, payload, _created_us)"
             " VALUES ('%s', 'a.b', '%s', '%s', %lld, 'done', 1, '{}', 0)",
             id, object, user, (long long)received_at);
    run_sql(db, sql);
}

static void assert_stale(struct db *db, enum backfill_type type, const char *expected)
{
    struct backfill_mark mark = {.started_ms = START_MS, .is_pruning = true};
    struct found found = {{0}, 0};
    struct err err = {0};
    struct backfill_cursor cursor = {0};

    while (!cursor.is_over)
        assert_int_equal(backfill_find_stale(db, &mark, type, &cursor, take_stale, &found, &err),
                         0);
    assert_string_equal(found.ids, expected);
}

static bool is_stale(struct db *db, const char *id)
{
    struct backfill_mark mark = {.started_ms = START_MS, .is_pruning = true};
    struct err err = {0};
    bool stale;

    assert_int_equal(backfill_is_stale(db, &mark, BACKFILL_USERS,
                                       (struct event_text){id, strlen(id)}, &stale, &err),
                     0);
    return stale;
}

/* Seen, heard of since, or newer than the run: none of these is stale; nor what is hardly older. */
static void stale__is_what_was_not_seen_nor_heard_of(void **state)
{
    struct db *db = open_db();
    struct err err = {0};

    (void)state;
    assert_int_equal(backfill_seen_create(db, &err), 0);
    add_user(db, "gone", MARGIN_AT_MS * 1000LL - 1);
    add_user(db, "seen", 1);
    add_user(db, "newer", START_MS * 1000LL);
    add_user(db, "hardly_older", MARGIN_AT_MS * 1000LL);
    add_user(db, "heard_of", 1);
    add_user(db, "just_heard_of", 1);
    add_user(db, "heard_of_before", 1);
    add_user(db, "was_listed", 1);
    add_user(db, "signed_in", 1);
    add_event(db, "event_1", "heard_of", "heard_of", START_MS);
    add_event(db, "event_2", "just_heard_of", "just_heard_of", MARGIN_AT_MS);
    add_event(db, "event_3", "heard_of_before", "heard_of_before", MARGIN_AT_MS - 1);
    add_event(db, "backfill:was_listed", "was_listed", "was_listed", MARGIN_AT_MS);
    add_event(db, "backfill:om_1", "om_1", "was_listed", MARGIN_AT_MS);
    add_event(db, "prune:om_2", "om_2", "was_listed", MARGIN_AT_MS);
    add_event(db, "event_4", "session_1", "signed_in", MARGIN_AT_MS);
    see(db, BACKFILL_USERS, "seen");
    see(db, BACKFILL_INVITATIONS, "gone");
    assert_stale(db, BACKFILL_USERS,
                 "gone hardly_older? just_heard_of? heard_of_before was_listed signed_in? ");
    assert_true(is_stale(db, "gone"));
    assert_false(is_stale(db, "seen"));
    assert_false(is_stale(db, "just_heard_of"));
    assert_false(is_stale(db, "signed_in"));
    db_close(db);
}

/* An organization that isn't listed, and stays for now, wasn't asked for its members. */
static void stale__is_no_member_of_an_organization_that_stays(void **state)
{
    struct db *db = open_db();
    struct err err = {0};

    (void)state;
    assert_int_equal(backfill_seen_create(db, &err), 0);
    add_organization(db, "org_listed");
    add_organization(db, "org_gone");
    add_organization(db, "org_recent");
    add_event(db, "event_1", "org_recent", "", MARGIN_AT_MS);
    see(db, BACKFILL_ORGANIZATIONS, "org_listed");
    run_sql(db, "INSERT INTO workos_organization_memberships"
                " (id, organization_id, raw, _version_us, _event_id) VALUES"
                " ('om_1', 'org_listed', '{}', 1, 'e'), ('om_2', 'org_gone', '{}', 1, 'e'),"
                " ('om_3', 'org_recent', '{}', 1, 'e'), ('om_4', 'org_none', '{}', 1, 'e')");
    run_sql(db, "UPDATE workos_organizations SET raw = '{}'");
    assert_stale(db, BACKFILL_ORGANIZATIONS, "org_gone org_recent? ");
    assert_stale(db, BACKFILL_MEMBERSHIPS, "om_1 om_2 om_3? om_4 ");
    db_close(db);
}

/* Users of whom there is nothing but what the log has. */
static void stale__is_a_user_whom_only_the_log_knows(void **state)
{
    struct db *db = open_db();
    struct err err = {0};
    char huge[400];

    (void)state;
    memset(huge, 'x', sizeof(huge) - 1);
    memcpy(huge, "user_", strlen("user_"));
    huge[sizeof(huge) - 1] = '\0';
    assert_int_equal(backfill_seen_create(db, &err), 0);
    add_user(db, "user_row", 1);
    add_event(db, "event_1", "session_1", "user_gone", 1);
    add_event(db, "event_2", "session_2", "user_gone", 2);
    add_event(db, "event_3", "session_3", "user_seen", 1);
    add_event(db, "event_4", "session_4", "user_buried", 1);
    add_event(db, "event_5", "session_5", "user_recent", 1);
    add_event(db, "event_6", "session_6", "user_recent", MARGIN_AT_MS);
    add_event(db, "event_7", "session_7", "user_row", 1);
    add_event(db, "event_8", "session_8", "someone_else", 1);
    add_event(db, "event_9", "session_9", huge, 1);
    add_event(db, "event_10", "session_10", "user_member", 1);
    add_event(db, "backfill:om_1", "om_1", "user_member", MARGIN_AT_MS);
    add_event(db, "event_11", "session_11", "user_past", 1);
    add_event(db, "prune:om_2", "om_2", "user_past", MARGIN_AT_MS);
    run_sql(db, "INSERT INTO authkitd_tombstones VALUES ('user_buried', 'user', 1)");
    see(db, BACKFILL_USERS, "user_seen");
    see(db, BACKFILL_USERS, "user_row");
    assert_stale(db, BACKFILL_USERS, "user_gone user_past ");
    assert_stale(db, BACKFILL_INVITATIONS, "");
    assert_true(is_stale(db, "user_gone"));
    assert_false(is_stale(db, "user_recent"));
    assert_false(is_stale(db, "user_member"));
    assert_false(is_stale(db, "user_nobody"));
    db_close(db);
}

static void stale__many_come_in_pieces(void **state)
{
    struct db *db = open_db();
    struct backfill_mark mark = {.started_ms = START_MS, .is_pruning = true};
    struct found found = {{0}, 0};
    struct err err = {0};
    struct backfill_cursor cursor = {0};
    int pieces = 0;

    (void)state;
    assert_int_equal(backfill_seen_create(db, &err), 0);
    run_sql(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
                " INSERT INTO workos_users (id, raw, _version_us, _event_id)"
                " SELECT 'user_' || i, '{}', 1, 'e' FROM n");
    run_sql(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2400)"
                " INSERT INTO workos_events"
                " (id, event, object_id, user_id, received_at, status, attempts, _created_us)"
                " SELECT 'event_' || i, 'session.created', 'session_' || i, 'user_log' || (i / 2),"
                " 1, 'done', 1, 0 FROM n WHERE i > 1");
    do {
        assert_int_equal(
            backfill_find_stale(db, &mark, BACKFILL_USERS, &cursor, take_stale, &found, &err), 0);
        pieces++;
    } while (!cursor.is_over);
    assert_int_equal(found.count, 2400);
    assert_int_equal(pieces, 6); /* three of the rows, three of the log */
    db_close(db);
}

static void seen__is_forgotten_in_pieces_and_gone_at_the_end(void **state)
{
    struct db *db = open_db();
    struct err err = {0};
    bool more = true;
    int pieces = 0;

    (void)state;
    assert_int_equal(backfill_seen_create(db, &err), 0);
    run_sql(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)"
                " INSERT INTO authkitd_backfill_seen SELECT 0, 'user_' || i FROM n");
    for (; more; pieces++)
        assert_int_equal(backfill_seen_forget(db, &more, &err), 0);
    assert_int_equal(pieces, 3);
    assert_true(db_exec(db, "SELECT * FROM authkitd_backfill_seen", &err) < 0);
    assert_int_equal(backfill_seen_forget(db, &more, &err), 0); /* nothing to forget */
    assert_false(more);
    db_close(db);
}

static void leave_out__takes_mark_and_seen_out_of_a_copy(void **state)
{
    struct db *db = open_db();
    struct backfill_mark mark = {.started_ms = 1}, read;
    struct err err = {0};
    int64_t left;

    (void)state;
    assert_int_equal(backfill_leave_out(db, &err), 0); /* nothing to leave out */
    assert_int_equal(backfill_mark_write(db, &mark, &err), 0);
    assert_int_equal(backfill_seen_create(db, &err), 0);
    run_sql(db, "INSERT INTO authkitd_state VALUES ('another', 1)");
    assert_int_equal(backfill_leave_out(db, &err), 0);
    assert_int_equal(backfill_mark_read(db, &read, &err), 0);
    assert_int_equal(read.started_ms, 0);
    assert_true(db_exec(db, "SELECT * FROM authkitd_backfill_seen", &err) < 0);
    assert_int_equal(
        db_read_int(db, "SELECT count(*) FROM authkitd_state WHERE key = 'another'", &left, &err),
        0);
    assert_int_equal(left, 1);
    run_sql(db, "DROP TABLE authkitd_state"); /* as in a file of the first version */
    assert_int_equal(backfill_leave_out(db, &err), 0);
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(mark__comes_back_as_it_was_written),
        IN_TEMP_DIR(mark__a_stage_that_is_none_is_no_mark),
        IN_TEMP_DIR(mark__goes_by_organizations),
        IN_TEMP_DIR(mark__without_organizations_there_are_no_memberships),
        IN_TEMP_DIR(mark__asks_for_the_organizations_that_were_listed),
        IN_TEMP_DIR(stale__is_what_was_not_seen_nor_heard_of),
        IN_TEMP_DIR(stale__is_no_member_of_an_organization_that_stays),
        IN_TEMP_DIR(stale__is_a_user_whom_only_the_log_knows),
        IN_TEMP_DIR(stale__many_come_in_pieces),
        IN_TEMP_DIR(leave_out__takes_mark_and_seen_out_of_a_copy),
        IN_TEMP_DIR(seen__is_forgotten_in_pieces_and_gone_at_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
