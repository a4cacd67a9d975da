/* SPDX-License-Identifier: MIT */
#include "workos/retry.h"

#include "unit/store/fault_vfs.h"
#include "unit/workos/service.h"
#include "workos/handle.h"
#include "workos/put_back.h"

#define SEEN "authkit.schema { seen = { columns = { id = 'text' } } }\n"

static const char broken[] =
    "local authkit = require 'authkit'\n" SEEN "local function run(ctx, event)\n"
    "  ctx.db.insert('seen', { id = event.id })\n"
    "  if event.data.id:find('^bad') then error('it is bad') end\n"
    "end\n"
    "authkit.events { ['test.a'] = run, ['test.b'] = run }\n";

static const char fixed[] =
    "local authkit = require 'authkit'\n" SEEN "local function run(ctx, event)\n"
    "  ctx.db.insert('seen', { id = event.id })\n"
    "end\n"
    "authkit.events { ['test.a'] = run, ['test.b'] = run }\n";

static const char all_seen[] =
    "SELECT group_concat(id, ' ') FROM (SELECT id FROM seen ORDER BY _id)";
static const char all_statuses[] =
    "SELECT group_concat(status, ' ') FROM (SELECT status FROM workos_events ORDER BY _seq)";

/* ------------------------------------------------------------------------- by the clock */

static void handle__delay_doubles_from_ten_seconds_to_an_hour(void **state)
{
    static const int64_t seconds[] = {10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seconds); i++)
        assert_int_equal(handle_retry_delay_ms((int64_t)i + 1), seconds[i] * 1000);
    assert_int_equal(handle_retry_delay_ms(20), 3600 * 1000);
    assert_int_equal(handle_retry_delay_ms(INT64_MAX), 3600 * 1000);
    assert_int_equal(handle_retry_delay_ms(0), 10 * 1000);
}

/* Each round the time has come, as if hours had gone by. */
static void retry__twentieth_failure_is_the_last(void **state)
{
    struct service s;
    char expected[32];

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    for (int attempts = 2; attempts <= HANDLE_ATTEMPTS_MAX; attempts++) {
        exec_sql("UPDATE workos_events SET next_attempt_at = 1");
        upkeep_wake(s.workos->upkeep, 1);
        snprintf(expected, sizeof(expected), "%d", attempts);
        await_value("SELECT attempts FROM workos_events", expected);
        if (attempts < HANDLE_ATTEMPTS_MAX) {
            snprintf(expected, sizeof(expected), "%d",
                     (int)(handle_retry_delay_ms(attempts) / 1000));
            /* to the second, but for the moments that have passed since */
            assert_string_equal(value_of("SELECT status FROM workos_events"), "failed");
            assert_true(atoi(value_of("SELECT (next_attempt_at - received_at) / 1000"
                                      " FROM workos_events")) >= atoi(expected));
        }
    }
    assert_string_equal(value_of("SELECT status || coalesce(next_attempt_at, '-')"
                                 " FROM workos_events"),
                        "dead-");
    assert_non_null(strstr(value_of("SELECT last_error FROM workos_events"), "it is bad"));
    stop_service(&s);
}

static void retry__runs_what_is_due_and_nothing_else(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.a", "bad_2");
    deliver_event(&s, "e3", "test.a", "bad_2");
    exec_sql("UPDATE workos_events SET next_attempt_at = 1 WHERE id = 'e1'");
    upkeep_wake(s.workos->upkeep, 1);
    await_value("SELECT attempts FROM workos_events WHERE id = 'e1'", "2");
    assert_string_equal(value_of("SELECT attempts FROM workos_events WHERE id = 'e2'"), "1");
    assert_string_equal(value_of("SELECT attempts FROM workos_events WHERE id = 'e3'"), "0");
    assert_string_equal(value_of(all_statuses), "failed failed waiting");
    stop_service(&s);
}

/* ------------------------------------------------------------------------- with a new script */

static void retry__new_script_runs_lines_in_order(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.b", "bad_2");
    deliver_event(&s, "e3", "test.b", "bad_1");
    deliver_event(&s, "e4", "test.a", "bad_1");
    deliver_event(&s, "e5", "test.a", "good");
    assert_string_equal(value_of(all_statuses), "failed failed waiting waiting done");
    install_script(&s, fixed, 1000);
    await_value(all_statuses, "done done done done done");
    assert_string_equal(value_of("SELECT group_concat(id, ' ') FROM (SELECT id FROM seen"
                                 " WHERE id IN ('e1', 'e3', 'e4') ORDER BY _id)"),
                        "e1 e3 e4");
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "5");
    stop_service(&s);
}

static void retry__without_its_function_is_dead(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.a", "bad_1");
    install_script(&s, "local authkit = require 'authkit'\n", 1000);
    await_value(all_statuses, "dead dead");
    assert_string_equal(value_of("SELECT last_error FROM workos_events"),
                        "the script has no function for test.a any more");
    assert_string_equal(value_of("SELECT count(payload) FROM workos_events"), "2");
    stop_service(&s);
}

/* Somebody edited the file: it is given up, and holds nobody up. */
static void retry__of_a_payload_that_is_no_event_is_dead(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.a", "bad_1");
    deliver_event(&s, "e3", "test.a", "bad_3");
    exec_sql("UPDATE workos_events SET payload = '{' WHERE id = 'e1'");
    exec_sql("UPDATE workos_events SET payload = NULL WHERE id = 'e3'");
    install_script(&s, fixed, 1000);
    await_value(all_statuses, "dead done dead");
    assert_string_equal(value_of(all_seen), "e2");
    stop_service(&s);
}

/* An event that was dead stands before the present head of its line again. */
static void retry__dead_one_of_before_goes_first(void **state)
{
    const char *ids[] = {"e1"};
    struct put_back_outcome outcome;
    struct service s;
    struct err err;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    exec_sql("UPDATE workos_events SET status = 'dead', next_attempt_at = NULL");
    deliver_event(&s, "e2", "test.a", "bad_1");
    deliver_event(&s, "e3", "test.a", "bad_1");
    assert_string_equal(value_of(all_statuses), "dead failed waiting");

    /* It fails again: what was the head waits behind it, when its time comes. */
    assert_int_equal(
        put_back(s.workos, &(struct put_back_request){.ids = ids, .count = 1}, &outcome, &err), 0);
    buf_release(&outcome.problems);
    await_value(all_statuses, "failed failed waiting");
    await_value("SELECT attempts FROM workos_events WHERE id = 'e1'", "1");
    exec_sql("UPDATE workos_events SET next_attempt_at = 1 WHERE id = 'e2'");
    upkeep_wake(s.workos->upkeep, 1);
    await_value(all_statuses, "failed waiting waiting");
    assert_string_equal(value_of("SELECT count(next_attempt_at) FROM workos_events"), "1");

    install_script(&s, fixed, 1000);
    await_value(all_statuses, "done done done");
    assert_string_equal(value_of(all_seen), "e1 e2 e3");
    stop_service(&s);
}

/* ------------------------------------------------------------------------- lost transactions */

static const char slow[] = "local authkit = require 'authkit'\n"
                           "authkit.schema { big = { columns = { n = 'integer', t = 'text' } },\n"
                           "                 seen = { columns = { id = 'text' } } }\n"
                           "authkit.events { ['test.a'] = function(ctx, event)\n"
                           "  ctx.db.insert('seen', { id = event.id })\n"
                           "  if event.data.id:find('^bad') then\n"
                           "    ctx.db.patch('big', ctx.db.query('big'):first()._id, { n = -1 })\n"
                           "  end\n"
                           "end }\n";

/* SQLite rolls back the whole transaction when a writing statement is interrupted; this trigger
 * makes one last for ever. It comes before the row: the events may be running. */
static void make_update_slow(void)
{
    exec_sql("CREATE TRIGGER slow AFTER UPDATE ON big BEGIN"
             " UPDATE big SET t = (WITH RECURSIVE c(i) AS"
             "  (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 1000000000) SELECT max(i) FROM c);"
             " END;"
             "INSERT INTO big (_creation_time, n, t) VALUES (0, 1, 'x')");
}

static void retry__interrupted_write_is_one_more_failure(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.a", "bad_1");
    deliver_event(&s, "e3", "test.a", "bad_2");
    install_script(&s, slow, 1000); /* fails at the empty table */
    make_update_slow();
    /* Often the first one still runs under the script of before: that failure must not hold it up. */
    install_script(&s, slow, 50);
    await_value("SELECT count(*) FROM workos_events WHERE attempts = 1"
                " AND last_error LIKE '%longer than 50 ms%'",
                "2");
    assert_string_equal(value_of(all_statuses), "failed waiting failed");
    assert_string_equal(value_of("SELECT n FROM big"), "1");
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "0");

    exec_sql("DROP TRIGGER slow");
    install_script(&s, slow, 1000);
    await_value(all_statuses, "done done done");
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "3");
    stop_service(&s);
}

/* What the function can't know, and swallows: its transaction has gone, with all that it wrote. */
static const char swallowing[] =
    "local authkit = require 'authkit'\n" SEEN
    "authkit.events { ['test.a'] = function(ctx, event)\n"
    "  ctx.db.insert('seen', { id = event.id })\n"
    "  pcall(ctx.db.sql, 'INSERT OR ROLLBACK INTO seen (_id, _creation_time, id)'\n"
    "    .. ' SELECT _id, 0, id FROM seen')\n"
    "end }\n";

static void webhook__swallowed_loss_of_the_transaction_is_a_failure(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, swallowing, 1000);
    assert_int_equal(deliver_event(&s, "e1", "test.a", "o1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of(all_statuses), "failed");
    assert_non_null(strstr(value_of("SELECT last_error FROM workos_events"), "UNIQUE"));
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "0");
    stop_service(&s);
}

static void retry__swallowed_loss_of_the_transaction_is_a_failure(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    install_script(&s, swallowing, 1000);
    await_value("SELECT last_error LIKE '%UNIQUE%' FROM workos_events", "1");
    assert_string_equal(value_of("SELECT status || attempts FROM workos_events"), "failed1");
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "0");
    stop_service(&s);
}

static void retry__full_disk_loses_nothing(void **state)
{
    struct service s;
    char before[64];

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.a", "bad_1");
    exec_sql("UPDATE workos_events SET attempts = 3, next_attempt_at = 1 WHERE id = 'e1'");
    snprintf(before, sizeof(before), "%s", value_of(all_statuses));
    atomic_store(&fault_writes, 0);
    upkeep_wake(s.workos->upkeep, 1);
    assert_int_equal(deliver_event(&s, "e3", "test.a", "o3"), WEBHOOK_UNAVAILABLE);
    assert_string_equal(value_of(all_statuses), before);
    fault_none();
    await_value("SELECT attempts FROM workos_events WHERE id = 'e1'", "4");
    assert_string_equal(value_of(all_statuses), "failed waiting");
    install_script(&s, fixed, 1000);
    await_value(all_statuses, "done done");
    assert_string_equal(value_of(all_seen), "e1 e2");
    stop_service(&s);
}

/* It was put off while the clock was a day ahead, and all that is known of its time is wrong. */
static void retry__clock_that_was_set_back_puts_nothing_off(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    exec_sql("UPDATE workos_events SET next_attempt_at = (unixepoch() + 86400) * 1000");
    upkeep_wake(s.workos->upkeep, 1);
    await_value("SELECT attempts FROM workos_events WHERE id = 'e1'", "2");
    stop_service(&s);
}

/* The upkeep was told a time by a clock that was a day ahead, and there is nothing that is due before. */
static void retry__time_by_a_wrong_clock_is_not_waited_for(void **state)
{
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "good");
    exec_sql("UPDATE workos_events SET status = 'failed', next_attempt_at = 1");
    upkeep_wake(s.workos->upkeep, clock_wall_ms() + 86400 * INT64_C(1000));
    await_value("SELECT status FROM workos_events", "done");
    stop_service(&s);
}

/* ------------------------------------------------------------------------- put_back */

static void put_back__names_what_cannot_be(void **state)
{
    const char *ids[] = {"nobody", "done", "waiting", "erased", "failed", "dead"};
    struct put_back_outcome outcome;
    struct service s;
    struct err err;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "done", "test.a", "good");
    deliver_event(&s, "failed", "test.a", "bad_1");
    deliver_event(&s, "waiting", "test.a", "bad_1");
    deliver_event(&s, "dead", "test.a", "bad_2");
    deliver_event(&s, "erased", "test.a", "bad_3");
    exec_sql("UPDATE workos_events SET status = 'dead', next_attempt_at = NULL, attempts = 20"
             " WHERE id IN ('dead', 'erased');"
             "UPDATE workos_events SET payload = NULL WHERE id = 'erased'");
    assert_int_equal(put_back(s.workos,
                              &(struct put_back_request){.ids = ids, .count = ARRAY_LEN(ids)},
                              &outcome, &err),
                     0);
    assert_int_equal(outcome.put_back, 2);
    assert_int_equal(outcome.refused, 4);
    assert_string_equal(
        buf_text(&outcome.problems),
        "nobody: there is no event with this id\n"
        "done: it is done\n"
        "waiting: it waits for an earlier event of the same object: retry that one\n"
        "erased: its user was deleted, and what was known of it erased\n");
    buf_release(&outcome.problems);
    await_value("SELECT status || attempts FROM workos_events WHERE id = 'dead'", "failed1");
    stop_service(&s);
}

/* Symptom: the same id three times was told as three events. */
static void put_back__drops_repeats_and_keeps_the_order(void **state)
{
    const char *ids[] = {"b", "a", "b", "c", "a", "b"};
    size_t count = ARRAY_LEN(ids);
    struct err err;

    (void)state;
    assert_int_equal(put_back_drop_repeats(ids, &count, &err), 0);
    assert_int_equal(count, 3);
    assert_string_equal(ids[0], "b");
    assert_string_equal(ids[1], "a");
    assert_string_equal(ids[2], "c");
    count = 0;
    assert_int_equal(put_back_drop_repeats(ids, &count, &err), 0);
    assert_int_equal(count, 0);
}

static void put_back__at_rest_waits_for_the_start(void **state)
{
    struct put_back_outcome outcome;
    struct service s;
    struct db *db = NULL;
    struct err err;

    (void)state;
    start_service(&s);
    install_script(&s, broken, 1000);
    deliver_event(&s, "e1", "test.a", "bad_1");
    deliver_event(&s, "e2", "test.a", "bad_2");
    exec_sql("UPDATE workos_events SET status = 'dead', next_attempt_at = NULL, attempts = 20"
             " WHERE id = 'e1'");
    stop_service(&s);

    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    assert_int_equal(put_back_at_rest(db, &(struct put_back_request){0}, &outcome, &err), 0);
    db_close(db);
    assert_int_equal(outcome.put_back, 2);
    buf_release(&outcome.problems);
    assert_string_equal(value_of("SELECT group_concat(status || attempts) FROM workos_events"),
                        "failed0,failed0");

    start_service(&s);
    install_script(&s, fixed, 1000);
    await_value(all_statuses, "done done");
    stop_service(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handle__delay_doubles_from_ten_seconds_to_an_hour),
        IN_TEMP_DIR(retry__twentieth_failure_is_the_last),
        IN_TEMP_DIR(retry__runs_what_is_due_and_nothing_else),
        IN_TEMP_DIR(retry__new_script_runs_lines_in_order),
        IN_TEMP_DIR(retry__without_its_function_is_dead),
        IN_TEMP_DIR(retry__of_a_payload_that_is_no_event_is_dead),
        IN_TEMP_DIR(retry__dead_one_of_before_goes_first),
        IN_TEMP_DIR(retry__interrupted_write_is_one_more_failure),
        IN_TEMP_DIR(webhook__swallowed_loss_of_the_transaction_is_a_failure),
        IN_TEMP_DIR(retry__swallowed_loss_of_the_transaction_is_a_failure),
        IN_TEMP_DIR(retry__full_disk_loses_nothing),
        IN_TEMP_DIR(retry__clock_that_was_set_back_puts_nothing_off),
        IN_TEMP_DIR(retry__time_by_a_wrong_clock_is_not_waited_for),
        IN_TEMP_DIR(put_back__names_what_cannot_be),
        IN_TEMP_DIR(put_back__drops_repeats_and_keeps_the_order),
        IN_TEMP_DIR(put_back__at_rest_waits_for_the_start),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
