/* SPDX-License-Identifier: MIT */
#include "workos/tally.h"

#include "unit/workos/service.h"

static void open_tally(struct tally **out)
{
    struct err err;

    if (tally_open(out, "test.db", &err) < 0)
        fail_msg("%s", err.text);
}

/* So many rows; insert is an INSERT … SELECT that has n.i, counted from 1. */
static void add_rows(int count, const char *insert)
{
    char sql[512];

    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) %s",
             count, insert);
    exec_sql(sql);
}

static void add_events(const char *status, int count)
{
    char insert[256];

    snprintf(insert, sizeof(insert),
             "INSERT INTO workos_events (id, event, received_at, status, attempts, _created_us)"
             " SELECT '%s' || i, 'user.created', 1, '%s', 1, 1 FROM n",
             status, status);
    add_rows(count, insert);
}

static void tally__counts_what_is_not_done(void **state)
{
    struct service s;
    struct tally *tally = NULL;
    struct tally_counts counts;

    (void)state;
    start_service(&s);
    add_events("done", 50);
    add_events("failed", 3);
    add_events("dead", 2);
    assert_int_equal(deliver_event(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    open_tally(&tally);
    tally_get(tally, &counts);
    assert_int_equal(counts.events[EVENT_FAILED], 3);
    assert_int_equal(counts.events[EVENT_WAITING], 0);
    assert_int_equal(counts.events[EVENT_DEAD], 2);
    assert_int_equal(counts.events[EVENT_DONE], -1);
    assert_int_equal(counts.users, 1);
    tally_close(tally);
    stop_service(&s);
}

static void tally__gives_the_same_again_for_a_while(void **state)
{
    struct service s;
    struct tally *tally = NULL;
    struct tally_counts counts;

    (void)state;
    start_service(&s);
    open_tally(&tally);
    tally_get(tally, &counts);
    add_events("dead", 2);
    tally_get(tally, &counts);
    assert_int_equal(counts.events[EVENT_DEAD], 0);
    tally_close(tally);
    stop_service(&s);
}

static void add_users(int count)
{
    add_rows(count, "INSERT INTO workos_users (id, _version_us, _event_id)"
                    " SELECT 'user_x' || i, 1, 'event_0' FROM n");
}

/* Symptom: with two million users the server was half a second late, and five on a cold disk. */
static void tally__glance_ends_however_many_users_there_are(void **state)
{
    struct service s;
    struct tally *tally = NULL;
    struct tally_counts counts;

    (void)state;
    start_service(&s);
    open_tally(&tally);
    add_users(TALLY_GLANCE_USERS);
    add_events("dead", 1);
    tally_glance(tally, &counts);
    assert_int_equal(counts.users, TALLY_GLANCE_USERS);
    assert_int_equal(counts.events[EVENT_DEAD], 1);
    assert_int_equal(deliver_event(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_int_equal(deliver_event(&s, "event_2", "user.created", "user_2"), WEBHOOK_RECEIVED);
    tally_glance(tally, &counts);
    assert_int_equal(counts.users, TALLY_GLANCE_USERS + 1);
    tally_get(tally, &counts);
    assert_int_equal(counts.users, TALLY_GLANCE_USERS + 2);
    tally_close(tally);
    stop_service(&s);
}

/* With ten million events that are done a look at each would take seconds. */
static void tally__is_quick_beside_many_events_that_are_done(void **state)
{
    struct service s;
    struct tally *tally = NULL;
    struct tally_counts counts;
    struct stmt *plan = NULL;
    struct err err;

    (void)state;
    start_service(&s);
    add_events("done", 1000);
    add_events("dead", 1);
    open_tally(&tally);
    tally_get(tally, &counts);
    assert_int_equal(counts.events[EVENT_DEAD], 1);
    take_connection(&s);
    assert_int_equal(stmt_new(&plan, s.db, "EXPLAIN QUERY PLAN " TALLY_EVENTS_SQL, &err), 0);
    while (stmt_step(plan, &err) == 1)
        assert_true(!strstr(stmt_text(plan, 3, NULL), "workos_events") ||
                    strstr(stmt_text(plan, 3, NULL), "COVERING INDEX"));
    stmt_free(plan);
    tally_close(tally);
    stop_service(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(tally__counts_what_is_not_done),
        IN_TEMP_DIR(tally__glance_ends_however_many_users_there_are),
        IN_TEMP_DIR(tally__gives_the_same_again_for_a_while),
        IN_TEMP_DIR(tally__is_quick_beside_many_events_that_are_done),
    };

    return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
