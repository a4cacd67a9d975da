/* SPDX-License-Identifier: MIT */
#include "workos/retention_clock.h"

#include "base/log.h"
#include "unit/store/temp_dir.h"
#include "workos/tables.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

static const int64_t hour = 3600000;
static const int64_t day = 24 * 3600000;
static const int64_t today = 1800000000000; /* in 2027 */

static struct db *open_db(void)
{
    struct db *db = NULL;
    struct err err = {0};

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    assert_int_equal(tables_migrate(db, &err), 0);
    return db;
}

static void add_event(struct db *db, const char *id, int64_t received_at)
{
    char sql[512];
    struct err err = {0};

    snprintf(sql, sizeof(sql),
             "INSERT INTO workos_events (id, event, received_at, status, attempts, _created_us)"
             " VALUES ('%s', 'test.a', %" PRId64 ", 'done', 1, 0)",
             id, received_at);
    if (db_exec(db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
}

static int64_t ask(struct retention_clock *clock, struct db *db, int64_t wall_ms, int64_t mono_ms)
{
    int64_t now_ms = -1;
    struct err err = {0};

    if (retention_clock_ask(clock, db, wall_ms, mono_ms, &now_ms, &err) < 0)
        fail_msg("%s", err.text);
    return now_ms;
}

/* The first sweep of a process. */
static int64_t ask_at_start(struct db *db, int64_t wall_ms)
{
    struct retention_clock clock = {0};

    return ask(&clock, db, wall_ms, 5000);
}

/* How many days later, or earlier, the time is after so many hours of a process, with the wall clock so many days off. */
static int64_t days_after(struct db *db, int64_t days_off, int hours)
{
    struct retention_clock clock = {0};
    int64_t now_ms = 0;

    for (int i = 0; i <= hours; i++)
        now_ms = ask(&clock, db, today + days_off * day, 5000 + i * hour);
    return (now_ms - today) / day;
}

static void retention_clock__believes_some_days(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(ask_at_start(db, today), today);
    assert_int_equal(ask_at_start(db, today + 6 * day), today + 6 * day);
    assert_int_equal(ask_at_start(db, today), today);
    db_close(db);
}

/* Symptom: one start with the clock 101 days ahead forgot the ids of all events that were done. */
static void retention_clock__doubts_a_leap_however_often(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(ask_at_start(db, today), today);
    for (int i = 0; i < 50; i++)
        assert_int_equal(ask_at_start(db, today + 101 * day), today);
    assert_int_equal(ask_at_start(db, today + hour), today + hour);
    db_close(db);
}

static void retention_clock__is_pulled_by_a_day_an_hour(void **state)
{
    struct db *db = open_db();
    struct retention_clock clock = {0};

    (void)state;
    assert_int_equal(ask_at_start(db, today), today);
    assert_int_equal(days_after(db, 200, 5), 5);
    assert_int_equal(days_after(db, 200, 5), 10); /* another process goes on from there */
    assert_int_equal(ask(&clock, db, today + 200 * day, 5000), today + 10 * day);
    assert_int_equal(ask(&clock, db, today + 200 * day, 5020), today + 10 * day + 20 * 24);
    assert_in_range(ask(&clock, db, today + 200 * day, 5000 + 100 * hour), today,
                    today + 11 * day + hour); /* whatever has held up the process */
    db_close(db);
}

static void retention_clock__catches_up_after_a_long_rest(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(ask_at_start(db, today), today);
    assert_int_equal(days_after(db, 200, 200), 200);
    assert_int_equal(ask_at_start(db, today + 201 * day), today + 201 * day);
    db_close(db);
}

/* A day of 1970 isn't to be followed by decades of waiting. */
static void retention_clock__keeps_its_time_when_the_clock_is_behind(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(ask_at_start(db, today), today);
    assert_int_equal(days_after(db, -today / day, 24), -today / day);
    assert_int_equal(ask_at_start(db, today + hour), today + hour);
    assert_int_equal(days_after(db, -100, 24), -100);
    assert_int_equal(days_after(db, 0, 20), 0);
    assert_int_equal(ask_at_start(db, today + hour), today + hour);
    db_close(db);
}

/* A file that was made with the clock ahead. */
static void retention_clock__comes_back_from_the_future(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(ask_at_start(db, today + 200 * day), today + 200 * day);
    assert_int_equal(days_after(db, 0, 200), 0);
    assert_int_equal(ask_at_start(db, today + 200 * day), today);
    db_close(db);
}

static void retention_clock__begins_with_the_last_event(void **state)
{
    struct db *db = open_db();

    (void)state;
    add_event(db, "e1", today);
    add_event(db, "e2", today + hour);
    assert_int_equal(ask_at_start(db, today + 101 * day), today + hour);
    assert_int_equal(ask_at_start(db, today + 2 * hour), today + 2 * hour);
    db_close(db);
}

/* Made at a first start before the clock was set. */
static void retention_clock__does_not_begin_in_1970(void **state)
{
    struct db *db = open_db();

    (void)state;
    assert_int_equal(ask_at_start(db, hour), hour);
    assert_int_equal(ask_at_start(db, today), today);
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(retention_clock__believes_some_days),
        IN_TEMP_DIR(retention_clock__doubts_a_leap_however_often),
        IN_TEMP_DIR(retention_clock__is_pulled_by_a_day_an_hour),
        IN_TEMP_DIR(retention_clock__catches_up_after_a_long_rest),
        IN_TEMP_DIR(retention_clock__keeps_its_time_when_the_clock_is_behind),
        IN_TEMP_DIR(retention_clock__comes_back_from_the_future),
        IN_TEMP_DIR(retention_clock__begins_with_the_last_event),
        IN_TEMP_DIR(retention_clock__does_not_begin_in_1970),
    };

    return cmocka_run_group_tests_name("retention_clock", tests, NULL, NULL);
}
