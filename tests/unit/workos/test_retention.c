/* SPDX-License-Identifier: MIT */
#include "workos/retention.h"

#include "unit/workos/service.h"

/* Rows e<first>… of that status, so many days old. The service's own sweep comes after a second;
 * those of the tests may find their work done, and end in the same state. */
static void add_rows(const char *status, int first, int count, int days)
{
    char sql[1024];

    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " INSERT INTO workos_events"
             " (id, event, object_id, received_at, status, attempts, payload, _created_us)"
             " SELECT 'e' || i, 'test.a', 'o' || i, %lld, '%s', 1, '{}', 0 FROM n",
             first, first + count - 1,
             (long long)(clock_wall_ms() - (int64_t)days * 24 * 3600 * 1000), status);
    exec_sql(sql);
}

static void set_last_sweep(int days)
{
    char sql[256];

    snprintf(
        sql, sizeof(sql),
        "INSERT OR REPLACE INTO authkitd_state (key, value) VALUES ('retention_clock_ms', %lld)",
        (long long)(clock_wall_ms() - (int64_t)days * 24 * 3600 * 1000));
    exec_sql(sql);
}

/* A service whose clock has been right. */
static void start_here(struct service *s)
{
    start_service(s);
    set_last_sweep(0);
}

static int sweep(struct service *s)
{
    int pieces = 0;
    bool more = true;
    struct err err;

    for (; more && pieces < 1000; pieces++)
        if (retention_sweep(s->workos, &more, &err) < 0)
            fail_msg("%s", err.text);
    return pieces;
}

/* The events, each with its payload, or "-". */
static const char *what_is_left(void)
{
    return value_of("SELECT group_concat(id || coalesce(payload, '-')) FROM workos_events");
}

static void retention__has_two_ages(void **state)
{
    struct service s;

    (void)state;
    start_here(&s);
    add_rows("done", 1, 1, 101);
    add_rows("done", 2, 1, 99);
    add_rows("dead", 3, 1, 101);
    add_rows("failed", 4, 1, 101);
    add_rows("waiting", 5, 1, 101);
    add_rows("done", 6, 1, 31);
    add_rows("done", 7, 1, 29);
    sweep(&s);
    assert_string_equal(what_is_left(), "e2-,e3{},e4{},e5{},e6-,e7{}");
    stop_service(&s);
}

/* Symptom: an event that was dead when its user was deleted stayed for ever, though nobody can retry it. */
static void retention__takes_what_is_erased(void **state)
{
    struct service s;

    (void)state;
    start_here(&s);
    add_rows("dead", 1, 2, 101);
    add_rows("dead", 3, 1, 99);
    exec_sql("UPDATE workos_events SET payload = NULL, user_id = 'u1' WHERE id IN ('e1', 'e3')");
    exec_sql("INSERT INTO authkitd_tombstones VALUES ('u1', 'user', 0)");
    sweep(&s);
    assert_string_equal(value_of("SELECT group_concat(id) FROM workos_events"), "e2,e3");
    stop_service(&s);
}

static void retention__goes_on_piece_by_piece(void **state)
{
    struct service s;

    (void)state;
    start_here(&s);
    add_rows("dead", 1, 1500, 200);
    add_rows("done", 1501, 2500, 200);
    add_rows("done", 4001, 2500, 40);
    assert_true(sweep(&s) < 1000);
    assert_string_equal(value_of("SELECT count(*) FROM workos_events"), "4000");
    assert_string_equal(value_of("SELECT count(payload) FROM workos_events"), "1500");
    assert_string_equal(value_of("SELECT value FROM authkitd_state WHERE key = 'emptied_seq'"),
                        "6500");
    assert_int_equal(sweep(&s), 1); /* nothing is left to do */
    stop_service(&s);
}

static void retention__comes_back_for_what_is_done_later(void **state)
{
    struct service s;
    struct err err;

    (void)state;
    start_here(&s);
    add_rows("failed", 1, 1, 40);
    add_rows("done", 2, 5, 40);
    sweep(&s);
    exec_sql("UPDATE workos_events SET status = 'done' WHERE id = 'e1'");
    sweep(&s);
    assert_string_equal(value_of("SELECT count(payload) FROM workos_events"), "1");
    take_connection(&s);
    assert_int_equal(retention_come_back(s.db, 1, &err), 0);
    assert_int_equal(retention_come_back(s.db, 3, &err), 0); /* never forwards */
    stop_service(&s);
    start_here(&s);
    sweep(&s);
    assert_string_equal(value_of("SELECT count(payload) FROM workos_events"), "0");
    stop_service(&s);
}

/* The last rows are gone, and their numbers are given again. */
static void retention__mark_never_lies_above_the_last_row(void **state)
{
    struct service s;

    (void)state;
    start_here(&s);
    add_rows("failed", 1, 1, 200);
    add_rows("done", 2, 10, 200);
    sweep(&s);
    assert_string_equal(value_of("SELECT count(*) FROM workos_events"), "1");
    add_rows("done", 20, 3, 40);
    assert_string_equal(value_of("SELECT max(_seq) FROM workos_events"), "4");
    sweep(&s);
    assert_string_equal(value_of("SELECT count(payload) FROM workos_events"), "1");
    stop_service(&s);
}

static void retention__wrong_clock_of_the_past_stops_nothing(void **state)
{
    struct service s;

    (void)state;
    start_here(&s);
    add_rows("done", 1, 1, -1000);
    add_rows("done", 2, 1, 200);
    add_rows("done", 3, 1, 40);
    sweep(&s);
    assert_string_equal(what_is_left(), "e1{},e3-");
    stop_service(&s);
}

/* Symptom: one start with the clock 101 days ahead forgot all events that were done, and they ran again. */
static void retention__clock_far_ahead_forgets_nothing(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    set_last_sweep(101);
    add_rows("done", 1, 1, 132);
    add_rows("done", 2, 1, 101);
    sweep(&s);
    assert_string_equal(what_is_left(), "e1-,e2{}");
    stop_service(&s);
}

/* Symptom: what was received after the time that a clock behind showed was never emptied. */
static void retention__clock_behind_skips_nothing_for_good(void **state)
{
    struct service s;

    (void)state;
    start_here(&s);
    add_rows("done", 1, 1, -1);
    add_rows("done", 2, 1, -2);
    add_rows("done", 3, 1, 40);
    sweep(&s);
    assert_string_equal(what_is_left(), "e1{},e2{},e3-");
    assert_int_equal(sweep(&s), 1);
    /* 40 days go by, the clock being right. */
    exec_sql("UPDATE workos_events SET received_at = received_at - 40 * 86400000;"
             "UPDATE authkitd_state SET value = value - 40 * 86400000"
             " WHERE key = 'emptied_again_ms'");
    sweep(&s);
    assert_string_equal(value_of("SELECT count(payload) FROM workos_events"), "0");
    assert_string_equal(value_of("SELECT value FROM authkitd_state WHERE key = 'emptied_seq'"),
                        "3");
    stop_service(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(retention__has_two_ages),
        IN_TEMP_DIR(retention__takes_what_is_erased),
        IN_TEMP_DIR(retention__goes_on_piece_by_piece),
        IN_TEMP_DIR(retention__comes_back_for_what_is_done_later),
        IN_TEMP_DIR(retention__mark_never_lies_above_the_last_row),
        IN_TEMP_DIR(retention__wrong_clock_of_the_past_stops_nothing),
        IN_TEMP_DIR(retention__clock_far_ahead_forgets_nothing),
        IN_TEMP_DIR(retention__clock_behind_skips_nothing_for_good),
    };

    return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
