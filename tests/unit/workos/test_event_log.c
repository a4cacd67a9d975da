/* SPDX-License-Identifier: MIT */
#include "workos/event_log.h"

#include "base/clock.h"
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
#define TEXT(literal) ((struct event_text){(literal), sizeof(literal) - 1})

struct bench {
    struct db *db;
    struct event_log *log;
    struct err err;
};

static void start(struct bench *b)
{
    *b = (struct bench){0};
    if (db_open(&b->db, "test.db", DB_WRITER, &b->err) < 0 || tables_migrate(b->db, &b->err) < 0 ||
        event_log_open(&b->log, b->db, &b->err) < 0)
        fail_msg("%s", b->err.text);
}

static void stop(struct bench *b)
{
    event_log_close(b->log);
    db_close(b->db);
}

static void ok(struct bench *b, int rc)
{
    if (rc < 0)
        fail_msg("%s", b->err.text);
}

static int64_t add_typed(struct bench *b, int n, const char *type, const char *object,
                         enum event_status status, int64_t next_attempt_at)
{
    const struct event_record record = {
        .status = status, .attempts = 1, .next_attempt_at = next_attempt_at, .error = "oops"};
    char body[512];
    struct event event;
    int64_t seq;

    snprintf(body, sizeof(body),
             "{\"id\":\"e%d\",\"event\":\"%s\",\"data\":{\"id\":%s,\"user_id\":\"u1\"},"
             "\"created_at\":\"2026-01-01T00:00:%02dZ\"}",
             n, type, object, n);
    ok(b, event_read(&event, body, strlen(body), &b->err));
    ok(b, event_log_add(b->log, &event, &record, &seq, &b->err));
    event_release(&event);
    return seq;
}

/* An event "e<n>" of the object, a second later than e<n-1>; its number, 0 for a duplicate. */
static int64_t add(struct bench *b, int n, const char *object, enum event_status status,
                   int64_t next_attempt_at)
{
    return add_typed(b, n, "test.a", object, status, next_attempt_at);
}

/* One of the user "u1" itself. */
static void add_of_user(struct bench *b, int n, enum event_status status)
{
    assert_true(add_typed(b, n, "user.updated", "\"u1\"", status, 0) > 0);
}

static const char *value(struct bench *b, const char *sql)
{
    static char text[1024];
    struct stmt *stmt = NULL;

    ok(b, stmt_new(&stmt, b->db, sql, &b->err));
    snprintf(text, sizeof(text), "(none)");
    if (stmt_step(stmt, &b->err) == 1) {
        const char *found = stmt_text(stmt, 0, NULL);

        snprintf(text, sizeof(text), "%s", found ? found : "(null)");
    }
    stmt_free(stmt);
    return text;
}

static bool is_held(struct bench *b, struct event_text object, int64_t seq)
{
    bool held = false;

    ok(b, event_log_is_held(b->log, object, seq, &held, &b->err));
    return held;
}

static bool release(struct bench *b, int64_t seq)
{
    bool released = false;

    ok(b, event_log_release(b->log, seq, &released, &b->err));
    return released;
}

static void set(struct bench *b, int64_t seq, enum event_status status, int64_t next_attempt_at)
{
    const struct event_record record = {
        .status = status, .attempts = 2, .next_attempt_at = next_attempt_at};

    ok(b, event_log_update(b->log, seq, &record, &b->err));
}

/* ------------------------------------------------------------------------- rows */

static void exec(struct bench *b, const char *sql)
{
    ok(b, db_exec(b->db, sql, &b->err));
}

/* The log remembers ids that it has seen a moment ago; what counts is the table. */
static void event_log__id_is_added_again_when_it_was_undone(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    exec(&b, "BEGIN IMMEDIATE");
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 1);
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 0);
    exec(&b, "ROLLBACK");
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 1);
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 0);
    exec(&b, "DELETE FROM workos_events");
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 1);
    stop(&b);
    start(&b);
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 0); /* nothing is remembered */
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 0);
    stop(&b);
}

static void event_log__each_id_is_added_once(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_FAILED, 77), 1);
    assert_int_equal(add(&b, 1, "\"o2\"", EVENT_DONE, 0), 0);
    assert_int_equal(add(&b, 2, "null", EVENT_DONE, 0), 2);
    assert_string_equal(value(&b, "SELECT id || event || object_id || user_id || created_at ||"
                                  " status || attempts || next_attempt_at || last_error ||"
                                  " _created_us FROM workos_events"),
                        "e1test.ao1u12026-01-01T00:00:01Zfailed177oops1767225601000000");
    assert_string_equal(value(&b, "SELECT coalesce(object_id, '-') || coalesce(next_attempt_at,"
                                  " '-') FROM workos_events WHERE id = 'e2'"),
                        "--");
    stop(&b);
}

static void event_log__finds_what_it_knows(void **state)
{
    struct logged_event found;
    struct bench b;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_WAITING, 0);
    ok(&b, event_log_find(b.log, "e1", &found, &b.err));
    assert_int_equal(found.seq, 1);
    assert_int_equal(found.status, EVENT_WAITING);
    assert_int_equal(found.attempts, 1);
    assert_true(found.has_payload);
    ok(&b, event_log_find(b.log, "e2", &found, &b.err));
    assert_int_equal(found.seq, 0);
    stop(&b);
}

/* ------------------------------------------------------------------------- lines */

static void event_log__failed_and_waiting_hold_their_object(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    add(&b, 1, "\"done\"", EVENT_DONE, 0);
    add(&b, 2, "\"dead\"", EVENT_DEAD, 0);
    add(&b, 3, "\"failed\"", EVENT_FAILED, 5);
    add(&b, 4, "\"waiting\"", EVENT_WAITING, 0);
    add(&b, 5, "null", EVENT_FAILED, 5);
    assert_false(is_held(&b, TEXT("done"), 0));
    assert_false(is_held(&b, TEXT("dead"), 0));
    assert_true(is_held(&b, TEXT("failed"), 0));
    assert_true(is_held(&b, TEXT("waiting"), 0));
    assert_false(is_held(&b, TEXT("nobody"), 0));
    assert_false(is_held(&b, TEXT("fail"), 0));
    assert_false(is_held(&b, (struct event_text){NULL, 0}, 0)); /* no id, no line */
    assert_false(is_held(&b, TEXT("failed"), 3));               /* not by itself */
    assert_true(is_held(&b, TEXT("failed"), 4));
    stop(&b);
}

/* That no line had anybody is remembered, but not when what was seen is undone. */
static void event_log__lines_are_as_before_what_was_undone(void **state)
{
    enum retry_result result;
    struct bench b;

    (void)state;
    start(&b);
    assert_false(is_held(&b, TEXT("o1"), 0));
    add(&b, 1, "\"o1\"", EVENT_FAILED, 5);
    assert_true(is_held(&b, TEXT("o1"), 0));

    exec(&b, "BEGIN IMMEDIATE");
    set(&b, 1, EVENT_DONE, 0);
    assert_false(is_held(&b, TEXT("o1"), 0));
    exec(&b, "ROLLBACK");
    assert_true(is_held(&b, TEXT("o1"), 0));

    exec(&b, "BEGIN IMMEDIATE; SAVEPOINT s");
    set(&b, 1, EVENT_DEAD, 0);
    assert_false(is_held(&b, TEXT("o1"), 0));
    add(&b, 2, "\"o1\"", EVENT_DONE, 0);
    assert_false(is_held(&b, TEXT("o1"), 0));
    exec(&b, "ROLLBACK TO s");
    assert_true(is_held(&b, TEXT("o1"), 0));
    set(&b, 1, EVENT_DEAD, 0);
    exec(&b, "COMMIT");
    assert_false(is_held(&b, TEXT("o1"), 0));

    ok(&b, event_log_retry(b.log, "e1", 7, &result, &b.err));
    assert_true(is_held(&b, TEXT("o1"), 0));
    set(&b, 1, EVENT_DONE, 0);
    assert_false(is_held(&b, TEXT("o1"), 0));
    add(&b, 3, "\"o2\"", EVENT_WAITING, 0);
    assert_true(is_held(&b, TEXT("o2"), 0));
    set(&b, 2, EVENT_DONE, 0); /* o2's: e2's row was undone */
    assert_false(is_held(&b, TEXT("o2"), 0));
    set(&b, 2, EVENT_WAITING, 0);
    assert_true(is_held(&b, TEXT("o2"), 0));
    set(&b, 2, EVENT_DEAD, 0);
    assert_false(is_held(&b, TEXT("o2"), 0));
    stop(&b);
    start(&b);
    assert_false(is_held(&b, TEXT("o2"), 0));
    stop(&b);
}

/* Nor when somebody else has put an event back by hand. */
static void event_log__line_of_somebody_elses_making_holds(void **state)
{
    struct db *other = NULL;
    struct bench b;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_DONE, 0);
    assert_false(is_held(&b, TEXT("o1"), 0));
    ok(&b, db_open(&other, "test.db", DB_WRITER, &b.err));
    ok(&b,
       db_exec(other, "UPDATE workos_events SET status = 'failed', next_attempt_at = 1", &b.err));
    exec(&b, "BEGIN IMMEDIATE");
    assert_true(is_held(&b, TEXT("o1"), 0));
    exec(&b, "COMMIT");
    db_close(other);
    stop(&b);
}

static void event_log__release_gives_the_next_its_turn(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_FAILED, 5);
    add(&b, 2, "\"o1\"", EVENT_WAITING, 0);
    add(&b, 3, "\"o1\"", EVENT_WAITING, 0);
    add(&b, 4, "\"o2\"", EVENT_WAITING, 0);
    add(&b, 5, "null", EVENT_FAILED, 5);
    add(&b, 6, "null", EVENT_WAITING, 0);

    assert_false(release(&b, 1)); /* it holds the line still */
    set(&b, 1, EVENT_DONE, 0);
    assert_true(release(&b, 1));
    assert_string_equal(value(&b, "SELECT group_concat(_seq) FROM (SELECT _seq FROM workos_events"
                                  " WHERE next_attempt_at IS NOT NULL ORDER BY _seq)"),
                        "2,5");
    assert_false(release(&b, 1)); /* once */
    set(&b, 2, EVENT_DEAD, 0);
    assert_true(release(&b, 2));
    set(&b, 3, EVENT_DONE, 0);
    assert_false(release(&b, 3)); /* nobody is left */
    assert_false(release(&b, 5));
    stop(&b);
}

/* e1 was dead, its line went on, and then somebody puts it back to work. */
static void event_log__retried_one_stands_before_the_present_head(void **state)
{
    enum retry_result result;
    struct bench b;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_DEAD, 0);
    add(&b, 2, "\"o1\"", EVENT_FAILED, 1000);
    add(&b, 3, "\"o1\"", EVENT_WAITING, 0);
    ok(&b, event_log_retry(b.log, "e1", 7, &result, &b.err));
    assert_int_equal(result, RETRY_DUE);
    assert_false(is_held(&b, TEXT("o1"), 1));
    assert_true(is_held(&b, TEXT("o1"), 2));
    set(&b, 1, EVENT_DONE, 0);
    assert_false(release(&b, 1)); /* the head is failed: it has a time of its own */
    assert_string_equal(value(&b, "SELECT next_attempt_at FROM workos_events WHERE _seq = 2"),
                        "1000");

    /* The same, but the head's time had come while e1 was failed: it stood back. */
    ok(&b, db_exec(b.db, "UPDATE workos_events SET status = 'failed' WHERE _seq = 1", &b.err));
    set(&b, 2, EVENT_WAITING, 0);
    set(&b, 1, EVENT_DEAD, 0);
    assert_true(release(&b, 1));
    assert_string_equal(value(&b, "SELECT group_concat(_seq) FROM workos_events"
                                  " WHERE next_attempt_at IS NOT NULL"),
                        "2");
    stop(&b);
}

static void event_log__late_is_behind_a_newer_one_that_is_done(void **state)
{
    const char *body = "{\"id\":\"e5\",\"event\":\"test.a\",\"data\":{\"id\":\"o1\"},"
                       "\"created_at\":\"2026-01-01T00:00:05Z\"}";
    struct event event;
    struct bench b;
    bool late;

    (void)state;
    start(&b);
    ok(&b, event_read(&event, body, strlen(body), &b.err));
    add(&b, 5, "\"o1\"", EVENT_DONE, 0); /* itself, as number 1 */
    add(&b, 4, "\"o1\"", EVENT_DONE, 0);
    add(&b, 6, "\"o2\"", EVENT_DONE, 0);
    add(&b, 7, "\"o1\"", EVENT_FAILED, 5);
    add(&b, 8, "\"o1\"", EVENT_DEAD, 0);
    ok(&b, event_log_is_late(b.log, &event, 1, &late, &b.err));
    assert_false(late);
    add(&b, 9, "\"o1\"", EVENT_DONE, 0);
    ok(&b, event_log_is_late(b.log, &event, 1, &late, &b.err));
    assert_true(late);
    event_release(&event);
    stop(&b);
}

/* ------------------------------------------------------------------------- what is due */

static void event_log__due_is_in_order_of_time_then_of_arrival(void **state)
{
    int64_t seqs[10], next_ms;
    size_t count;
    struct bench b;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_FAILED, 300);
    add(&b, 2, "\"o2\"", EVENT_FAILED, 100);
    add(&b, 3, "\"o3\"", EVENT_FAILED, 200);
    add(&b, 4, "\"o4\"", EVENT_WAITING, 100);
    add(&b, 5, "\"o5\"", EVENT_WAITING, 0);
    add(&b, 6, "\"o6\"", EVENT_FAILED, 900);
    ok(&b, event_log_find_due(b.log, 300, seqs, 10, &count, &next_ms, &b.err));
    assert_int_equal(count, 4);
    assert_int_equal(seqs[0], 2);
    assert_int_equal(seqs[1], 4);
    assert_int_equal(seqs[2], 3);
    assert_int_equal(seqs[3], 1);
    assert_int_equal(next_ms, 900);
    ok(&b, event_log_find_due(b.log, 300, seqs, 2, &count, &next_ms, &b.err));
    assert_int_equal(count, 2);
    assert_int_equal(seqs[1], 4);
    ok(&b, event_log_find_due(b.log, 99, seqs, 10, &count, &next_ms, &b.err));
    assert_int_equal(count, 0);
    assert_int_equal(next_ms, 100);
    ok(&b, event_log_find_due(b.log, 900, seqs, 10, &count, &next_ms, &b.err));
    assert_int_equal(next_ms, 0);
    stop(&b);
}

/* Symptom: what had failed while the clock was a day ahead ran a day later. */
static void event_log__what_is_too_far_ahead_is_due(void **state)
{
    struct buf payload = BUF_INIT(4096);
    int64_t seqs[10], next_ms, attempts;
    enum event_status status;
    struct bench b;
    size_t count;
    bool is_due;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_FAILED, 100 + EVENT_AHEAD_MS);
    add(&b, 2, "\"o2\"", EVENT_FAILED, 101 + EVENT_AHEAD_MS);
    add(&b, 3, "\"o3\"", EVENT_WAITING, 0);
    ok(&b, event_log_find_due(b.log, 100, seqs, 10, &count, &next_ms, &b.err));
    assert_int_equal(count, 1);
    assert_int_equal(seqs[0], 2);
    assert_int_equal(next_ms, 100 + EVENT_AHEAD_MS);
    ok(&b, event_log_load_due(b.log, 1, 100, &is_due, &status, &attempts, &payload, &b.err));
    assert_false(is_due);
    ok(&b, event_log_load_due(b.log, 2, 100, &is_due, &status, &attempts, &payload, &b.err));
    assert_true(is_due);
    ok(&b, event_log_load_due(b.log, 3, 100, &is_due, &status, &attempts, &payload, &b.err));
    assert_false(is_due);
    buf_release(&payload);
    stop(&b);
}

static void event_log__only_what_is_due_is_loaded(void **state)
{
    struct buf payload = BUF_INIT(4096);
    int64_t attempts = -1;
    enum event_status status;
    struct bench b;
    bool is_due;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_FAILED, 100);
    ok(&b, event_log_load_due(b.log, 1, 99, &is_due, &status, &attempts, &payload, &b.err));
    assert_false(is_due);
    assert_int_equal(attempts, -1);
    ok(&b, event_log_load_due(b.log, 1, 100, &is_due, &status, &attempts, &payload, &b.err));
    assert_true(is_due);
    assert_int_equal(attempts, 1);
    assert_non_null(strstr(buf_text(&payload), "\"id\":\"e1\""));
    set(&b, 1, EVENT_DONE, 100); /* whatever its time */
    ok(&b, event_log_load_due(b.log, 1, 100, &is_due, &status, &attempts, &payload, &b.err));
    assert_false(is_due);
    ok(&b, event_log_load_due(b.log, 2, 100, &is_due, &status, &attempts, &payload, &b.err));
    assert_false(is_due);
    buf_release(&payload);
    stop(&b);
}

static void event_log__expected_one_arrives_once_at_the_end(void **state)
{
    struct logged_event found;
    struct bench b;

    (void)state;
    start(&b);
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_EXPECTED, 0), 1);
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_EXPECTED, 0), 0);
    assert_int_equal(add(&b, 2, "\"o1\"", EVENT_DONE, 0), 2);
    assert_false(is_held(&b, TEXT("o1"), 0));
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_FAILED, 100), 3);
    assert_true(is_held(&b, TEXT("o1"), 0));
    assert_int_equal(add(&b, 1, "\"o1\"", EVENT_DONE, 0), 0);
    ok(&b, event_log_find(b.log, "e1", &found, &b.err));
    assert_int_equal(found.seq, 3);
    assert_int_equal(found.status, EVENT_FAILED);
    assert_true(found.has_payload);
    assert_string_equal(value(&b, "SELECT count(*) FROM workos_events"), "2");
    stop(&b);
}

static void event_log__expecting_ends_in_time(void **state)
{
    char ids[2][EVENT_NAME_MAX + 1];
    int64_t now_ms = clock_wall_ms(), count;
    struct bench b;
    size_t listed;

    (void)state;
    start(&b);
    for (int n = 1; n <= 4; n++)
        add(&b, n, "\"o1\"", EVENT_EXPECTED, 0);
    ok(&b, db_exec(b.db,
                   "UPDATE workos_events SET received_at = received_at - 60000 WHERE id = 'e1';"
                   "UPDATE workos_events SET received_at = received_at + 86400000 WHERE id = 'e2'",
                   &b.err));
    ok(&b, event_log_list_expected(b.log, ids, 2, &listed, &b.err));
    assert_int_equal(listed, 2);
    ok(&b, event_log_stop_expecting(b.log, now_ms - 30000, now_ms, &count, &b.err));
    assert_int_equal(count, 2);
    assert_string_equal(value(&b, "SELECT group_concat(id) FROM workos_events"
                                  " WHERE next_attempt_at IS NOT NULL"),
                        "e1,e2");
    ok(&b, event_log_list_expected(b.log, ids, 2, &listed, &b.err));
    assert_int_equal(listed, 2);
    assert_string_equal(ids[0], "e3");
    ok(&b, event_log_stop_expecting(b.log, now_ms - 30000, now_ms, &count, &b.err));
    assert_int_equal(count, 0);
    stop(&b);
}

/* arg: the one type that counts. */
static bool is_type(void *arg, const char *type)
{
    return strcmp(type, arg) == 0;
}

static void event_log__new_script_renews_the_failed_only(void **state)
{
    char type[] = "test.a", other[] = "test.b";
    struct bench b;
    int64_t count;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_DONE, 0);
    add(&b, 2, "\"o2\"", EVENT_FAILED, 900);
    add(&b, 3, "\"o2\"", EVENT_WAITING, 0);
    add(&b, 4, "\"o4\"", EVENT_DEAD, 0);
    ok(&b, event_log_renew_failed(b.log, 400, is_type, other, &count, &b.err));
    assert_int_equal(count, 0);
    ok(&b, event_log_renew_failed(b.log, 500, is_type, type, &count, &b.err));
    assert_int_equal(count, 1);
    assert_string_equal(value(&b, "SELECT group_concat(status || attempts ||"
                                  " coalesce(next_attempt_at, '-')) FROM workos_events"),
                        "done1-,failed0500,waiting1-,dead1-");
    stop(&b);
}

static void event_log__retry_says_what_it_cannot(void **state)
{
    static const struct {
        const char *id;
        enum retry_result result;
    } cases[] = {
        {"e1", RETRY_DONE}, {"e2", RETRY_DUE},    {"e3", RETRY_WAITING},
        {"e4", RETRY_DUE},  {"e5", RETRY_ERASED}, {"e6", RETRY_UNKNOWN},
    };
    enum retry_result result;
    struct bench b;
    int64_t count;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_DONE, 0);
    add(&b, 2, "\"o2\"", EVENT_FAILED, 900);
    add(&b, 3, "\"o2\"", EVENT_WAITING, 0);
    add(&b, 4, "\"o4\"", EVENT_DEAD, 0);
    add(&b, 5, "\"o5\"", EVENT_DEAD, 0);
    ok(&b, db_exec(b.db, "UPDATE workos_events SET payload = NULL WHERE _seq = 5", &b.err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ok(&b, event_log_retry(b.log, cases[i].id, 500, &result, &b.err));
        assert_int_equal(result, cases[i].result);
    }
    assert_string_equal(value(&b, "SELECT group_concat(status || attempts ||"
                                  " coalesce(next_attempt_at, '-')) FROM workos_events"),
                        "done1-,failed0500,waiting1-,failed0500,dead1-");
    set(&b, 4, EVENT_DEAD, 0);
    ok(&b, event_log_retry_all(b.log, 600, &count, &b.err));
    assert_int_equal(count, 2); /* not the erased one */
    assert_string_equal(value(&b, "SELECT group_concat(_seq) FROM workos_events"
                                  " WHERE next_attempt_at = 600"),
                        "2,4");
    stop(&b);
}

/* ------------------------------------------------------------------------- erasing */

static void event_log__erases_what_will_not_run(void **state)
{
    struct bench b;
    bool erased;

    (void)state;
    start(&b);
    add(&b, 1, "\"o1\"", EVENT_DONE, 0);
    add(&b, 2, "\"o2\"", EVENT_FAILED, 900);
    add(&b, 3, "\"o2\"", EVENT_WAITING, 0);
    add(&b, 4, "\"o4\"", EVENT_DEAD, 0);
    add_of_user(&b, 5, EVENT_DONE);
    add_of_user(&b, 6, EVENT_FAILED);
    ok(&b, event_log_erase(b.log, TEXT("u2"), &erased, &b.err));
    assert_false(erased);
    ok(&b, event_log_erase(b.log, TEXT("u1"), &erased, &b.err));
    assert_true(erased);
    assert_string_equal(value(&b, "SELECT group_concat(_seq) FROM workos_events"
                                  " WHERE payload IS NULL AND last_error IS NULL"),
                        "1,4,5");
    ok(&b, event_log_erase(b.log, TEXT("u1"), &erased, &b.err));
    assert_false(erased);

    ok(&b, event_log_erase_one(b.log, 2, &b.err)); /* u1 isn't deleted */
    assert_string_equal(value(&b, "SELECT count(payload) FROM workos_events WHERE _seq = 2"), "1");
    ok(&b, db_exec(b.db, "INSERT INTO authkitd_tombstones VALUES ('u1', 'user', 0)", &b.err));
    ok(&b, event_log_erase_one(b.log, 2, &b.err));
    assert_string_equal(value(&b, "SELECT group_concat(_seq) FROM workos_events"
                                  " WHERE payload IS NULL AND last_error IS NULL"),
                        "1,2,4,5");
    stop(&b);
}

/* ------------------------------------------------------------------------- older files */

/* As version 1 made it. */
static const char version_1_file[] =
    "CREATE TABLE workos_events (_seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " event TEXT NOT NULL, object_id TEXT, user_id TEXT, created_at TEXT,"
    " received_at INTEGER NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL,"
    " next_attempt_at INTEGER, last_error TEXT, payload TEXT, _created_us INTEGER NOT NULL);"
    "CREATE INDEX workos_events_object_id ON workos_events (object_id, _created_us);"
    "CREATE INDEX workos_events_user_id ON workos_events (user_id) WHERE user_id IS NOT NULL;"
    "CREATE INDEX workos_events_status ON workos_events (status, next_attempt_at)"
    " WHERE status <> 'done';"
    "CREATE TABLE authkitd_tombstones (id TEXT NOT NULL PRIMARY KEY, deleted_at INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE workos_users (id TEXT NOT NULL PRIMARY KEY, email TEXT, email_verified BOOLEAN,"
    " name TEXT, first_name TEXT, last_name TEXT, profile_picture_url TEXT, last_sign_in_at TEXT,"
    " external_id TEXT, locale TEXT, metadata JSON_TEXT, created_at TEXT, updated_at TEXT,"
    " raw JSON_TEXT, _version_us INTEGER NOT NULL, _event_id TEXT NOT NULL);"
    "CREATE INDEX workos_users_external_id ON workos_users (external_id);"
    "INSERT INTO workos_users (id, email, _version_us, _event_id) VALUES ('u1', 'a@b.c', 1, 'e1');"
    "INSERT INTO authkitd_tombstones VALUES ('u2', 1);"
    "INSERT INTO workos_events VALUES"
    " (1, 'e1', 'user.created', 'u1', 'u1', NULL, 1, 'done', 1, NULL, NULL, '{}', 0),"
    " (2, 'e2', 'user.updated', 'u1', 'u1', NULL, 2, 'failed', 1, 50, 'oops', '{}', 0);"
    "PRAGMA user_version = 1; PRAGMA application_id = 0x616B6974";

static void tables__file_of_version_1_comes_along(void **state)
{
    int64_t seqs[4], next_ms;
    struct bench b = {0};
    size_t count;

    (void)state;
    ok(&b, db_open(&b.db, "test.db", DB_WRITER, &b.err));
    ok(&b, db_exec(b.db, version_1_file, &b.err));
    db_close(b.db);

    start(&b);
    assert_string_equal(value(&b, "PRAGMA user_version"), "3");
    assert_string_equal(value(&b, "PRAGMA temp_store"), "2"); /* in memory, again */
    assert_string_equal(value(&b, "SELECT email FROM workos_users"), "a@b.c");
    assert_string_equal(value(&b, "SELECT id FROM authkitd_tombstones"), "u2");
    ok(&b, event_log_find_due(b.log, 100, seqs, 4, &count, &next_ms, &b.err));
    assert_int_equal(count, 1);
    assert_int_equal(seqs[0], 2);
    assert_true(is_held(&b, TEXT("u1"), 0));
    assert_int_equal(add(&b, 3, "\"u1\"", EVENT_WAITING, 0), 3);
    assert_string_equal(value(&b, "PRAGMA integrity_check"), "ok");
    stop(&b);
    start(&b); /* once more changes nothing */
    assert_string_equal(value(&b, "SELECT count(*) FROM workos_events"), "3");
    stop(&b);
}

/* A line of a query plan that only says how two SELECTs are put together. */
static bool is_compound(const char *line)
{
    static const char *const lines[] = {"COMPOUND QUERY", "LEFT-MOST SUBQUERY", "UNION ALL"};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (strcmp(line, lines[i]) == 0)
            return true;
    return false;
}

/* Whatever was asked of a line is answered by an index: the table may have millions of rows. */
static void event_log__looks_at_few_rows(void **state)
{
    static const char *const queries[] = {
        "SELECT 1 FROM workos_events WHERE object_id = 'x' AND status IN ('failed', 'waiting')"
        " AND _seq < 5",
        "SELECT 1 FROM workos_events WHERE status IN ('failed', 'waiting') LIMIT 1",
        "SELECT max(id) FROM authkitd_tombstones",
        "SELECT 1 FROM workos_events WHERE object_id = 'x' AND _created_us >= 1 AND _seq <> 5"
        " LIMIT 1",
        "SELECT 1 FROM workos_events WHERE object_id = 'x' AND (_created_us, id) > (1, 'a')"
        " AND status = 'done'",
        "SELECT _seq FROM workos_events WHERE next_attempt_at <= 1 ORDER BY next_attempt_at, _seq",
        "SELECT 1 FROM workos_events WHERE status = 'failed' AND status <> 'done'",
        EVENTS_OF_USER,
    };
    struct bench b;
    char sql[512];

    (void)state;
    start(&b);
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        struct stmt *stmt = NULL;

        snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", queries[i]);
        ok(&b, stmt_new(&stmt, b.db, sql, &b.err));
        while (stmt_step(stmt, &b.err) > 0)
            if (!strstr(stmt_text(stmt, 3, NULL), "USING") &&
                !is_compound(stmt_text(stmt, 3, NULL)))
                fail_msg("%s: %s", queries[i], stmt_text(stmt, 3, NULL));
        stmt_free(stmt);
    }
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(event_log__each_id_is_added_once),
        IN_TEMP_DIR(event_log__id_is_added_again_when_it_was_undone),
        IN_TEMP_DIR(event_log__finds_what_it_knows),
        IN_TEMP_DIR(event_log__failed_and_waiting_hold_their_object),
        IN_TEMP_DIR(event_log__lines_are_as_before_what_was_undone),
        IN_TEMP_DIR(event_log__line_of_somebody_elses_making_holds),
        IN_TEMP_DIR(event_log__release_gives_the_next_its_turn),
        IN_TEMP_DIR(event_log__retried_one_stands_before_the_present_head),
        IN_TEMP_DIR(event_log__late_is_behind_a_newer_one_that_is_done),
        IN_TEMP_DIR(event_log__due_is_in_order_of_time_then_of_arrival),
        IN_TEMP_DIR(event_log__what_is_too_far_ahead_is_due),
        IN_TEMP_DIR(event_log__only_what_is_due_is_loaded),
        IN_TEMP_DIR(event_log__expected_one_arrives_once_at_the_end),
        IN_TEMP_DIR(event_log__expecting_ends_in_time),
        IN_TEMP_DIR(event_log__new_script_renews_the_failed_only),
        IN_TEMP_DIR(event_log__retry_says_what_it_cannot),
        IN_TEMP_DIR(event_log__erases_what_will_not_run),
        IN_TEMP_DIR(event_log__looks_at_few_rows),
        IN_TEMP_DIR(tables__file_of_version_1_comes_along),
    };

    return cmocka_run_group_tests_name("event_log", tests, NULL, NULL);
}
