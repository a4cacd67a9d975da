/* SPDX-License-Identifier: MIT */
#include "workos/mirror.h"

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

struct bench {
    struct db *db;
    struct mirror *mirror;
};

static void start(struct bench *b)
{
    struct err err = {0};

    if (db_open(&b->db, "test.db", DB_WRITER, &err) < 0 || tables_migrate(b->db, &err) < 0 ||
        mirror_prepare(&b->mirror, b->db, &err) < 0)
        fail_msg("%s", err.text);
}

static void stop(struct bench *b)
{
    mirror_release(b->mirror);
    db_close(b->db);
}

static void apply(struct bench *b, const char *body)
{
    struct event event;
    struct err err = {0};

    if (event_read(&event, body, strlen(body), &err) < 0 ||
        mirror_apply(b->mirror, &event, NULL, &err) < 0)
        fail_msg("%s: %s", body, err.text);
    event_release(&event);
}

/* An event of user u1 with this data behind its id. */
static void apply_user(struct bench *b, const char *id, const char *what, const char *members)
{
    char body[2048];

    snprintf(body, sizeof(body),
             "{\"id\":\"%s\",\"event\":\"user.%s\",\"data\":{\"object\":\"user\",\"id\":\"u1\"%s},"
             "\"created_at\":\"2026-01-01T00:00:00Z\"}",
             id, what, members);
    apply(b, body);
}

static const char *value(struct bench *b, const char *sql)
{
    static char text[4096];
    struct stmt *stmt = NULL;
    struct err err = {0};

    if (stmt_new(&stmt, b->db, sql, &err) < 0)
        fail_msg("%s", err.text);
    snprintf(text, sizeof(text), "(none)");
    if (stmt_step(stmt, &err) == 1) {
        const char *found = stmt_text(stmt, 0, NULL);

        snprintf(text, sizeof(text), "%s", found ? found : "(null)");
    }
    stmt_free(stmt);
    return text;
}

static void exec(struct bench *b, const char *sql)
{
    struct err err = {0};

    if (db_exec(b->db, sql, &err) < 0)
        fail_msg("%s", err.text);
}

static void mirror__all_columns(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    apply(&b,
          "{\"id\":\"e1\",\"event\":\"user.created\",\"data\":{\"object\":\"user\",\"id\":\"u1\","
          "\"email\":\"a@x.com\",\"email_verified\":true,\"name\":\"A B\",\"first_name\":\"A\","
          "\"last_name\":\"B\",\"profile_picture_url\":\"http://x\",\"last_sign_in_at\":\"l\","
          "\"external_id\":\"x1\",\"locale\":\"en\",\"metadata\":{ \"k\" : \"v\" },"
          "\"created_at\":\"c\",\"updated_at\":\"2026-01-01T00:00:00Z\",\"new\":1.50}}");
    assert_string_equal(
        value(&b, "SELECT id || email || email_verified || name || first_name || last_name ||"
                  " profile_picture_url || last_sign_in_at || external_id || locale || metadata ||"
                  " created_at || updated_at FROM workos_users"),
        "u1a@x.com1A BABhttp://xlx1en{ \"k\" : \"v\" }c2026-01-01T00:00:00Z");
    assert_non_null(strstr(value(&b, "SELECT raw FROM workos_users"), "\"new\":1.50}"));
    stop(&b);
}

static void mirror__missing_and_odd_members_are_null(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    apply_user(&b, "e1", "created", "");
    assert_string_equal(value(&b, "SELECT coalesce(email, name, created_at, 'nothing') || metadata"
                                  " FROM workos_users"),
                        "nothing{}");
    apply_user(&b, "e2", "updated",
               ",\"email\":5,\"email_verified\":\"yes\",\"name\":{},\"first_name\":[\"a\"],"
               "\"last_name\":true,\"metadata\":null,\"updated_at\":\"2026-01-02T00:00:00Z\"");
    assert_string_equal(value(&b, "SELECT coalesce(email, email_verified, name, first_name,"
                                  " last_name, 'nothing') || metadata FROM workos_users"),
                        "nothing{}");
    apply_user(
        &b, "e3", "updated",
        ",\"metadata\":[1],\"email_verified\":false,\"updated_at\":\"2026-01-03T00:00:00Z\"");
    assert_string_equal(value(&b, "SELECT metadata || email_verified FROM workos_users"), "[1]0");
    apply_user(&b, "e4", "updated",
               ",\"email\":\"a\",\"email\":\"b\",\"updated_at\":\"2026-01-04T00:00:00Z\"");
    assert_string_equal(value(&b, "SELECT email FROM workos_users"), "b");
    stop(&b);
}

static void mirror__nul_in_a_name_is_replaced(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    apply_user(&b, "e1", "created",
               ",\"first_name\":\"a\\u0000b\\u00e9\",\"last_name\":\"\\u0000\"");
    assert_string_equal(value(&b, "SELECT first_name || last_name FROM workos_users"),
                        "a\uFFFD"
                        "b\u00e9\uFFFD");
    stop(&b);
}

struct step {
    const char *id, *what, *members;
};

/* Every order of the steps, each with one of them repeated at each later place. */
static void permute(struct bench *b, const struct step *steps, size_t count, const char *sql,
                    const char *wanted)
{
    size_t order[5];

    for (size_t n = 0; n < 5 * 5 * 5 * 5 * 5; n++) {
        size_t rest = n;
        unsigned seen = 0;

        for (size_t i = 0; i < 5; i++) { /* five deliveries: all of the steps, some twice */
            order[i] = rest % count;
            seen |= 1u << order[i];
            rest /= 5;
        }
        if (seen != (1u << count) - 1)
            continue;
        exec(b, "BEGIN"); /* never on disk: there are hundreds of orders */
        for (size_t i = 0; i < 5; i++)
            apply_user(b, steps[order[i]].id, steps[order[i]].what, steps[order[i]].members);
        if (strcmp(value(b, sql), wanted) != 0)
            fail_msg("%zu %zu %zu %zu %zu: %s", order[0], order[1], order[2], order[3], order[4],
                     value(b, sql));
        exec(b, "ROLLBACK");
    }
}

static void mirror__order_and_repetition_do_not_matter(void **state)
{
    static const struct step steps[] = {
        {"e1", "created", ",\"email\":\"1\",\"updated_at\":\"2026-01-01T00:00:00.000Z\""},
        {"e2", "updated", ",\"email\":\"2\",\"updated_at\":\"2026-01-01T00:00:00.001Z\""},
        {"e3", "updated", ",\"email\":\"3\",\"updated_at\":\"2026-01-01T00:00:00.002Z\""},
        {"e4", "deleted", ",\"email\":\"4\",\"updated_at\":\"2026-01-01T00:00:00.001Z\""},
    };
    struct bench b;

    (void)state;
    start(&b);
    permute(&b, steps, 3, "SELECT email || _event_id FROM workos_users", "3e3");
    permute(&b, steps, 4, "SELECT count(*) FROM workos_users", "0");
    stop(&b);
}

static void mirror__equal_times_go_by_event_id(void **state)
{
    static const struct step steps[] = {
        {"e1", "created", ",\"email\":\"1\",\"updated_at\":\"2026-01-01T00:00:00.000Z\""},
        {"e3", "updated", ",\"email\":\"3\",\"updated_at\":\"2026-01-01T00:00:00.000Z\""},
        {"e2", "updated", ",\"email\":\"2\",\"updated_at\":\"2026-01-01T00:00:00.000Z\""},
    };
    struct bench b;

    (void)state;
    start(&b);
    permute(&b, steps, 3, "SELECT email FROM workos_users", "3");
    stop(&b);
}

static void mirror__times_are_compared_as_instants(void **state)
{
    static const struct step steps[] = {
        {"e3", "created",
         ",\"email\":\"1\",\"updated_at\":\"2026-01-01T10:00:00+05:00\""}, /* 05:00 */
        {"e2", "updated", ",\"email\":\"2\",\"updated_at\":\"2026-01-01 05:00:00.001\""},
        {"e1", "updated", ",\"email\":\"3\",\"updated_at\":\"2026-01-01T04:00:00.0011-01:00\""},
    };
    struct bench b;

    (void)state;
    start(&b);
    permute(&b, steps, 3, "SELECT email FROM workos_users", "3");
    stop(&b);
}

static void mirror__without_updated_at_the_event_time_counts(void **state)
{
    struct bench b;

    (void)state;
    start(&b); /* apply_user's events are of 2026-01-01T00:00:00Z */
    apply_user(&b, "e1", "created", ",\"email\":\"1\",\"updated_at\":\"2025-12-31T23:59:59Z\"");
    apply_user(&b, "e2", "updated", ",\"email\":\"2\"");
    assert_string_equal(value(&b, "SELECT email FROM workos_users"), "2");
    apply_user(&b, "e3", "updated", ",\"email\":\"3\",\"updated_at\":\"no time\"");
    assert_string_equal(value(&b, "SELECT email FROM workos_users"), "3");
    apply_user(&b, "e4", "updated", ",\"email\":\"4\",\"updated_at\":\"2025-12-31T23:59:59Z\"");
    assert_string_equal(value(&b, "SELECT email FROM workos_users"), "3");
    stop(&b);
}

/* What is found by an index is found by the latest version, whether that touched the index or not. */
static void mirror__updates_keep_the_indexes(void **state)
{
    static const char by_email[] = "SELECT first_name FROM workos_users INDEXED BY"
                                   " workos_users_email WHERE email = 'B@x' COLLATE NOCASE";
    static const char by_external_id[] =
        "SELECT count(*) FROM workos_users INDEXED BY workos_users_external_id"
        " WHERE external_id = 'x1'";
    struct bench b;

    (void)state;
    start(&b);
    apply_user(&b, "e1", "created",
               ",\"email\":\"a@x\",\"external_id\":\"x1\",\"first_name\":\"A\""
               ",\"updated_at\":\"2026-01-01T00:00:01Z\"");
    apply_user(&b, "e2", "updated",
               ",\"email\":\"b@x\",\"external_id\":\"x1\",\"first_name\":\"B\""
               ",\"updated_at\":\"2026-01-01T00:00:02Z\"");
    assert_string_equal(value(&b, by_email), "B");
    apply_user(&b, "e3", "updated",
               ",\"email\":\"b@x\",\"external_id\":\"x1\",\"first_name\":\"C\""
               ",\"updated_at\":\"2026-01-01T00:00:03Z\"");
    assert_string_equal(value(&b, by_email), "C");
    assert_string_equal(value(&b, by_external_id), "1");
    apply_user(&b, "e0", "updated",
               ",\"email\":\"b@x\",\"external_id\":\"x1\",\"first_name\":\"D\""
               ",\"updated_at\":\"2026-01-01T00:00:02Z\"");
    assert_string_equal(value(&b, by_email), "C");
    apply_user(&b, "e4", "updated",
               ",\"email\":\"b@x\",\"first_name\":\"E\""
               ",\"updated_at\":\"2026-01-01T00:00:04Z\"");
    assert_string_equal(value(&b, by_email), "E");
    assert_string_equal(value(&b, by_external_id), "0");
    apply_user(&b, "e5", "updated",
               ",\"email\":\"b@x\",\"first_name\":\"F\""
               ",\"updated_at\":\"2026-01-01T00:00:05Z\"");
    assert_string_equal(value(&b, by_email), "F");
    assert_string_equal(value(&b, "PRAGMA integrity_check"), "ok");
    stop(&b);
}

static void mirror__tells_what_it_has(void **state)
{
    static const struct {
        const char *body;
        enum mirror_found found;
    } cases[] = {
        {"{\"id\":\"e1\",\"event\":\"session.created\",\"data\":{\"id\":\"s1\"}}", MIRROR_FOREIGN},
        {"{\"id\":\"e2\",\"event\":\"user.created\",\"data\":{\"id\":\"u1\"}}", MIRROR_PRESENT},
        {"{\"id\":\"e3\",\"event\":\"user.updated\",\"data\":{\"id\":\"u1\"}}", MIRROR_PRESENT},
        {"{\"id\":\"e4\",\"event\":\"user.deleted\",\"data\":{\"id\":\"u1\"}}", MIRROR_DELETED},
        {"{\"id\":\"e5\",\"event\":\"user.updated\",\"data\":{\"id\":\"u1\"}}", MIRROR_DELETED},
    };
    struct bench b;

    (void)state;
    start(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum mirror_found found;
        struct event event;
        struct err err = {0};

        assert_int_equal(event_read(&event, cases[i].body, strlen(cases[i].body), &err), 0);
        assert_int_equal(mirror_apply(b.mirror, &event, &found, &err), 0);
        assert_int_equal(found, cases[i].found);
        event_release(&event);
    }
    stop(&b);
}

static bool is_deleted(struct bench *b, const char *id)
{
    bool deleted;
    struct err err = {0};

    if (mirror_is_deleted(b->mirror, "user", (struct event_text){id, strlen(id)}, &deleted, &err) <
        0)
        fail_msg("%s", err.text);
    return deleted;
}

static void delete_user(struct bench *b, const char *id)
{
    char body[512];

    snprintf(body, sizeof(body),
             "{\"id\":\"d\",\"event\":\"user.deleted\",\"data\":{\"id\":\"%s\"}}", id);
    apply(b, body);
}

/* Which tombstone is the last one is remembered, but not when it may be another. */
static void mirror__tombstones_are_found_wherever_they_stand(void **state)
{
    static const char long_id[] =
        "u4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct db *other = NULL;
    struct err err = {0};
    struct bench b;

    (void)state;
    start(&b);
    assert_false(is_deleted(&b, "u2"));
    delete_user(&b, "u2");
    assert_true(is_deleted(&b, "u2"));
    assert_false(is_deleted(&b, "u"));
    assert_false(is_deleted(&b, "u1"));
    assert_false(is_deleted(&b, "u22"));
    assert_false(is_deleted(&b, "u3"));
    exec(&b, "BEGIN IMMEDIATE");
    delete_user(&b, "u22");
    assert_true(is_deleted(&b, "u22"));
    exec(&b, "SAVEPOINT s");
    delete_user(&b, "u3");
    assert_true(is_deleted(&b, "u3"));
    exec(&b, "ROLLBACK TO s");
    assert_false(is_deleted(&b, "u3"));
    assert_true(is_deleted(&b, "u22"));
    exec(&b, "ROLLBACK");
    assert_false(is_deleted(&b, "u22"));
    assert_true(is_deleted(&b, "u2"));

    if (db_open(&other, "test.db", DB_WRITER, &err) < 0 ||
        db_exec(other, "INSERT INTO authkitd_tombstones VALUES ('u3', 'user', 1)", &err) < 0)
        fail_msg("%s", err.text);
    db_close(other);
    exec(&b, "BEGIN IMMEDIATE");
    assert_true(is_deleted(&b, "u3"));
    exec(&b, "COMMIT");
    delete_user(&b, "u1");
    assert_true(is_deleted(&b, "u1"));
    assert_true(is_deleted(&b, "u3"));
    delete_user(&b, long_id);
    assert_true(is_deleted(&b, long_id));
    assert_true(is_deleted(&b, "u3"));
    assert_false(is_deleted(&b, "u5"));
    delete_user(&b, "u6");
    assert_true(is_deleted(&b, long_id));
    assert_true(is_deleted(&b, "u6"));
    assert_false(is_deleted(&b, "u7"));
    stop(&b);
}

static void mirror__trimmed_delete(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    apply_user(&b, "e1", "created", ",\"email\":\"1\"");
    apply(&b, "{\"id\":\"e2\",\"event\":\"user.deleted\",\"data\":{\"id\":\"u1\"}}");
    assert_string_equal(value(&b, "SELECT count(*) FROM workos_users"), "0");
    apply_user(&b, "e3", "updated", ",\"email\":\"1\",\"updated_at\":\"2099-01-01T00:00:00Z\"");
    assert_string_equal(value(&b, "SELECT count(*) FROM workos_users"), "0");
    assert_string_equal(value(&b, "SELECT id FROM authkitd_tombstones"), "u1");
    stop(&b);
}

static void mirror__what_is_no_user_changes_nothing(void **state)
{
    static const char *const bodies[] = {
        "{\"id\":\"e\",\"event\":\"user.created\",\"data\":{}}",
        "{\"id\":\"e\",\"event\":\"user.created\",\"data\":{\"id\":\"\"}}",
        "{\"id\":\"e\",\"event\":\"user.created\",\"data\":{\"id\":5}}",
        "{\"id\":\"e\",\"event\":\"user.x\",\"data\":{\"object\":\"other\",\"id\":\"u1\"}}",
        "{\"id\":\"e\",\"event\":\"users.created\",\"data\":{\"id\":\"u1\"}}",
        "{\"id\":\"e\",\"event\":\"session.created\",\"data\":{\"id\":\"s1\",\"user_id\":\"u1\"}}",
    };
    struct bench b;

    (void)state;
    start(&b);
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        apply(&b, bodies[i]);
    assert_string_equal(value(&b, "SELECT count(*) FROM workos_users"), "0");
    stop(&b);
}

/* What an object says that it is may stand anywhere among its members, or be nothing to go by. */
static void mirror__object_says_what_it_is(void **state)
{
    struct bench b;

    (void)state;
    start(&b);
    apply_user(&b, "e1", "created", ",\"email\":\"a\",\"object\":\"profile\"");
    assert_string_equal(value(&b, "SELECT count(*) FROM workos_users"), "0");
    apply_user(&b, "e2", "deleted", ",\"object\":\"profile\"");
    assert_string_equal(value(&b, "SELECT count(*) FROM authkitd_tombstones"), "0");
    apply_user(&b, "e3", "created", ",\"object\":\"profile\",\"email\":\"b\",\"object\":null");
    assert_string_equal(value(&b, "SELECT email FROM workos_users"), "b");
    apply(&b, "{\"id\":\"e4\",\"event\":\"user.created\",\"data\":{\"raw\":1,\"id\":\"u2\","
              "\"email\":\"c\",\"object\":\"user\"},\"created_at\":\"2026-01-01T00:00:00Z\"}");
    assert_string_equal(value(&b, "SELECT email FROM workos_users WHERE id = 'u2'"), "c");
    stop(&b);
}

/*
 * The writer runs a job again when another one of its batch had to be undone. The texts of an event
 * must be there then too: the email came out as NULL, and with a long id nothing could be stored.
 */
static void mirror__event_may_be_applied_again(void **state)
{
    static const char body[] =
        "{\"id\":\"e1\",\"event\":\"user.created\",\"data\":{\"id\":\"u1\",\"email\":\""
        "\\u0061bcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz"
        "-abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz\"}}";
    struct event event;
    struct bench b;
    struct err err = {0};

    (void)state;
    start(&b);
    assert_int_equal(event_read(&event, body, strlen(body), &err), 0);
    for (int i = 0; i < 10; i++) {
        exec(&b, "DELETE FROM workos_users");
        if (mirror_apply(b.mirror, &event, NULL, &err) < 0)
            fail_msg("time %d: %s", i + 1, err.text);
        assert_string_equal(value(&b, "SELECT length(email) FROM workos_users"), "161");
    }
    event_release(&event);
    stop(&b);
}

static void mirror__tables_are_told_to_scripts(void **state)
{
    size_t count = 0;
    const struct script_table *tables = mirror_script_tables(&count);

    (void)state;
    assert_true(count >= 1);
    assert_string_equal(tables[0].name, "workos_users");
    assert_string_equal(tables[0].columns[0].name, "id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(mirror__all_columns),
        IN_TEMP_DIR(mirror__missing_and_odd_members_are_null),
        IN_TEMP_DIR(mirror__nul_in_a_name_is_replaced),
        IN_TEMP_DIR(mirror__order_and_repetition_do_not_matter),
        IN_TEMP_DIR(mirror__equal_times_go_by_event_id),
        IN_TEMP_DIR(mirror__times_are_compared_as_instants),
        IN_TEMP_DIR(mirror__without_updated_at_the_event_time_counts),
        IN_TEMP_DIR(mirror__updates_keep_the_indexes),
        IN_TEMP_DIR(mirror__tells_what_it_has),
        IN_TEMP_DIR(mirror__tombstones_are_found_wherever_they_stand),
        IN_TEMP_DIR(mirror__trimmed_delete),
        IN_TEMP_DIR(mirror__what_is_no_user_changes_nothing),
        IN_TEMP_DIR(mirror__object_says_what_it_is),
        IN_TEMP_DIR(mirror__event_may_be_applied_again),
        IN_TEMP_DIR(mirror__tables_are_told_to_scripts),
    };

    return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
