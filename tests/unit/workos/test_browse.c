/* SPDX-License-Identifier: MIT */
#include "workos/browse.h"

#include "base/json.h"
#include "unit/store/temp_dir.h"
#include "workos/tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

/* ------------------------------------------------------------------------- a database to look at */

static void run(struct db *db, const char *sql)
{
    struct err err;

    if (db_exec(db, sql, &err) < 0)
        fail_msg("%s", err.text);
}

static struct db *new_db(void)
{
    struct db *db = NULL;
    struct err err;

    if (db_open(&db, "test.db", DB_WRITER, &err) < 0 || tables_migrate(db, &err) < 0)
        fail_msg("%s", err.text);
    return db;
}

static void add_user(struct db *db, const char *id, const char *email, const char *external_id)
{
    char sql[1024];

    snprintf(sql, sizeof(sql),
             "INSERT INTO workos_users (id, email, email_verified, name, external_id, metadata,"
             " _version_us, _event_id) VALUES ('%s', '%s', 1, 'Ada', %s%s%s, '{\"a\":[1]}', 0, '')",
             id, email, external_id ? "'" : "", external_id ? external_id : "NULL",
             external_id ? "'" : "");
    run(db, sql);
}

static void add_event(struct db *db, const char *id, const char *type, const char *status,
                      const char *user_id)
{
    char sql[1024];

    snprintf(sql, sizeof(sql),
             "INSERT INTO workos_events (id, event, object_id, user_id, received_at, status,"
             " attempts, payload, _created_us)"
             " VALUES ('%s', '%s', '%s', '%s', 1, '%s', 1, '{}', 0)",
             id, type, user_id, user_id, status);
    run(db, sql);
}

/* ------------------------------------------------------------------------- what was written */

static struct json json;
static struct buf answer;

static void read_answer(int rc, const struct err *err)
{
    struct err fault;

    if (rc < 0)
        fail_msg("%s", err->text);
    assert_true(buf_ok(&answer));
    if (json_read(&json, buf_text(&answer), answer.len, &fault) < 0)
        fail_msg("%s: %s", fault.text, buf_text(&answer));
}

static void begin_answer(void)
{
    buf_release(&answer);
    answer = BUF_INIT(16 << 20);
}

/* The ids of the list, by spaces; and behind a '|' whether there are more. */
static const char *ids_of(const char *member)
{
    static char text[65536];
    uint32_t list = json_member(&json, 0, member), next = json_member(&json, 0, "next");
    size_t len = 0;

    assert_int_equal(json.nodes[list].type, JSON_ARRAY);
    text[0] = '\0';
    for (uint32_t i = list + 1; i < json.nodes[list].next; i = json.nodes[i].next) {
        if (len > 0)
            text[len++] = ' ';
        len += json_decode(&json, json_string_member(&json, i, "id"), text + len);
        text[len] = '\0';
    }
    if (json.nodes[next].type != JSON_NULL)
        snprintf(text + len, sizeof(text) - len, "|more");
    return text;
}

static const char *users(struct db *db, const char *search, const char *after, int64_t limit)
{
    const struct browse_users ask = {.search = search, .after = after, .limit = limit};
    struct err err;

    begin_answer();
    read_answer(browse_users(db, &ask, &answer, &err), &err);
    return ids_of("users");
}

static const char *events(struct db *db, struct browse_events ask)
{
    struct err err;

    if (!ask.limit)
        ask.limit = 50;
    begin_answer();
    read_answer(browse_events(db, &ask, &answer, &err), &err);
    return ids_of("events");
}

#define EVENTS(db, ...) events(db, (struct browse_events){__VA_ARGS__})

static void end(struct db *db)
{
    json_release(&json);
    json = (struct json){0};
    buf_release(&answer);
    db_close(db);
}

/* ------------------------------------------------------------------------- users */

static void browse__users_are_searched_by_a_beginning(void **state)
{
    struct db *db = new_db();

    (void)state;
    add_user(db, "user_1", "ada@example.com", "ext-7");
    add_user(db, "user_2", "Ada.Lovelace@example.com", NULL);
    add_user(db, "user_21", "grace@example.com", "ada");
    add_user(db, "user_3", "user_2@example.com", NULL);

    assert_string_equal(users(db, NULL, NULL, 50), "user_3 user_21 user_2 user_1");
    assert_string_equal(users(db, "", NULL, 50), "user_3 user_21 user_2 user_1");
    assert_string_equal(users(db, "ADA@", NULL, 50), "user_1");
    assert_string_equal(users(db, "grace@example.com", NULL, 50), "user_21");
    assert_string_equal(users(db, "user_2", NULL, 50), "user_2 user_21");
    assert_string_equal(users(db, "user_2@", NULL, 50), "user_3");
    assert_string_equal(users(db, "ext-7", NULL, 50), "user_1");
    /* Whose external id it is comes first, and once. */
    assert_string_equal(users(db, "ada", NULL, 50), "user_21 user_2 user_1");
    assert_string_equal(users(db, "example", NULL, 50), "");
    assert_string_equal(users(db, "%", NULL, 50), "");
    assert_string_equal(users(db, "_", NULL, 50), "");
    assert_string_equal(users(db, "' OR 1 --", NULL, 50), "");
    assert_string_equal(users(db, "\xF4\x8F\xBF\xBF", NULL, 50), "");
    end(db);
}

/* Symptom: an external id or email that begins like a user id was never found. */
static void browse__users_are_found_by_what_only_looks_like_an_id(void **state)
{
    struct db *db = new_db();

    (void)state;
    add_user(db, "user_1", "ada@example.com", "user_legacy_7");
    add_user(db, "user_2", "user_smith@example.com", NULL);
    add_user(db, "user_31", "grace@example.com", "user_3");
    add_user(db, "user_32", "USER_SMYTHE@example.com", "user_32");

    assert_string_equal(users(db, "user_legacy_7", NULL, 50), "user_1");
    assert_string_equal(users(db, "user_legacy", NULL, 50), "");
    assert_string_equal(users(db, "user_sm", NULL, 50), "user_2 user_32");
    assert_string_equal(users(db, "user_sm", NULL, 1), "user_2|more");
    assert_string_equal(users(db, "user_sm", "user_2", 1), "user_32");
    /* Whose external id it is comes first, and once. */
    assert_string_equal(users(db, "user_3", NULL, 50), "user_31 user_32");
    assert_string_equal(users(db, "user_32", NULL, 50), "user_32");
    end(db);
}

/* Whichever way one searches, every user comes once, also when several have the same email. */
static void browse__pages_of_users_have_everybody_once(void **state)
{
    static const char *const searches[] = {"", "user_", "a"};
    struct db *db = new_db();
    char id[32], email[64];

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "user_%03d", i * 37 % 100);
        snprintf(email, sizeof(email), "%c%d@example.com", i % 2 ? 'A' : 'a', i / 10);
        add_user(db, id, email, NULL);
    }
    for (size_t s = 0; s < ARRAY_LEN(searches); s++) {
        char after[32] = "";
        bool seen[100] = {0};
        int count = 0;

        for (;;) {
            char *page = strdup(users(db, searches[s], after[0] ? after : NULL, 7)), *more;

            assert_non_null(page);
            more = strchr(page, '|');
            if (more)
                *more = '\0';
            for (char *word = strtok(page, " "); word; word = strtok(NULL, " ")) {
                int number = atoi(word + strlen("user_"));

                assert_false(seen[number]);
                seen[number] = true;
                count++;
                snprintf(after, sizeof(after), "%s", word);
            }
            free(page);
            if (!more)
                break;
            assert_true(json_equals(&json, json_member(&json, 0, "next"), after));
        }
        assert_int_equal(count, 100);
    }
    end(db);
}

static void browse__a_page_behind_somebody_who_has_gone(void **state)
{
    const struct browse_users ask = {.search = "ada", .after = "user_9", .limit = 5};
    struct db *db = new_db();
    struct err err;

    (void)state;
    add_user(db, "user_1", "ada@example.com", NULL);
    begin_answer();
    assert_int_equal(browse_users(db, &ask, &answer, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "search again"));
    end(db);
}

static int look_at_user(struct db *db, const char *id)
{
    struct err err;
    int rc;

    begin_answer();
    rc = browse_user(db, id, &answer, &err);
    if (rc == 0)
        read_answer(rc, &err);
    return rc;
}

static void browse__one_user(void **state)
{
    struct db *db = new_db();

    (void)state;
    add_user(db, "user_1", "ada@example.com", NULL);
    run(db, "INSERT INTO workos_organizations (id, name, _version_us, _event_id)"
            " VALUES ('org_1', 'Foo \"Corp\"', 0, '')");
    run(db, "INSERT INTO workos_organization_memberships (id, user_id, organization_id, role,"
            " status, _version_us, _event_id) VALUES ('om_1', 'user_1', 'org_1', 'admin', 'active',"
            " 0, ''), ('om_2', 'user_1', 'org_2', NULL, 'active', 0, '')");
    run(db,
        "INSERT INTO authkitd_tombstones (id, object, deleted_at) VALUES ('user_2', 'user', 77),"
        " ('user_3', 'organization', 77)");
    add_event(db, "event_1", "session.created", "done", "user_4");

    assert_int_equal(look_at_user(db, "user_1"), 0);
    assert_non_null(strstr(buf_text(&answer), "\"metadata\":{\"a\":[1]}"));
    assert_non_null(strstr(buf_text(&answer), "\"email_verified\":true"));
    assert_non_null(strstr(buf_text(&answer), "\"organization_name\":\"Foo \\\"Corp\\\"\""));
    assert_non_null(strstr(buf_text(&answer), "\"organization_name\":null"));
    assert_non_null(strstr(buf_text(&answer), "\"deleted_at\":null"));
    assert_int_equal(look_at_user(db, "user_2"), 0);
    assert_string_equal(buf_text(&answer), "{\"user\":null,\"deleted_at\":77,\"memberships\":[]}");
    assert_int_equal(look_at_user(db, "user_3"), ERR_ABSENT);
    assert_int_equal(look_at_user(db, "user_4"), 0);
    assert_string_equal(buf_text(&answer),
                        "{\"user\":null,\"deleted_at\":null,\"memberships\":[]}");
    assert_int_equal(look_at_user(db, ""), ERR_ABSENT);
    end(db);
}

/* Names are strangers' text: whatever is in them, the answer is JSON. */
static void browse__long_texts_are_cut_between_characters(void **state)
{
    struct db *db = new_db();
    size_t name_len;

    (void)state;
    add_user(db, "user_1", "ada@example.com", NULL);
    run(db,
        "UPDATE workos_users SET name = '\"\\' || char(10) || replace(hex(zeroblob(50000)), '00',"
        " 'ä€😀'), metadata = '{\"a\":\"' || hex(zeroblob(50000)) || '\"}'");
    assert_string_equal(users(db, NULL, NULL, 50), "user_1");
    assert_in_range(answer.len, BROWSE_LINE_MAX, 2 * BROWSE_LINE_MAX + 400);
    assert_int_equal(look_at_user(db, "user_1"), 0);
    name_len = json.nodes[json_member(&json, json_member(&json, 0, "user"), "name")].len;
    assert_in_range(name_len, BROWSE_TEXT_MAX - 10, BROWSE_TEXT_MAX + 10);
    /* What is too long for JSON in JSON is a text. */
    assert_int_equal(json.nodes[json_member(&json, json_member(&json, 0, "user"), "metadata")].type,
                     JSON_STRING);
    end(db);
}

/* ------------------------------------------------------------------------- events */

/* About the user u1: one of its own, or of another object. */
static void add_event_about(struct db *db, const char *id, bool is_own)
{
    char sql[512];

    snprintf(
        sql, sizeof(sql),
        "INSERT INTO workos_events (id, event, object_id, user_id, received_at, status, attempts,"
        " payload, _created_us) VALUES ('%s', 'test', %s, 'u1', 1, 'done', 1, '{}', 0)",
        id, is_own ? "'u1'" : "NULL");
    run(db, sql);
}

/* All that there are about a user, whichever index they are in, in the order in which they came. */
static void browse__events_of_a_user(void **state)
{
    struct db *db = new_db();

    (void)state;
    add_event_about(db, "e1", true);
    add_event_about(db, "e2", false);
    add_event_about(db, "e3", false);
    add_event(db, "other", "user.created", "done", "u2");
    add_event_about(db, "e5", true);
    add_event_about(db, "e6", false);

    assert_string_equal(EVENTS(db, .user_id = "u1"), "e6 e5 e3 e2 e1");
    assert_string_equal(EVENTS(db, .user_id = "u1", .limit = 2), "e6 e5|more");
    assert_string_equal(EVENTS(db, .user_id = "u1", .limit = 2, .after = 5), "e3 e2|more");
    assert_string_equal(EVENTS(db, .user_id = "u1", .limit = 2, .after = 2), "e1");
    run(db, "DELETE FROM workos_events WHERE _seq = 5");
    assert_string_equal(EVENTS(db, .user_id = "u1", .limit = 2, .after = 5), "e3 e2|more");
    assert_string_equal(EVENTS(db, .user_id = "u2"), "other");
    assert_int_equal(look_at_user(db, "u1"), 0);
    run(db, "UPDATE workos_events SET object_id = 'org_1', user_id = NULL WHERE id = 'other'");
    assert_string_equal(EVENTS(db, .user_id = "org_1"), "");
    assert_int_equal(look_at_user(db, "org_1"), ERR_ABSENT);
    end(db);
}

static void browse__events(void **state)
{
    struct db *db = new_db();

    (void)state;
    assert_string_equal(EVENTS(db, 0), "");
    add_event(db, "e1", "user.created", "done", "u1");
    add_event(db, "e2", "user.updated", "failed", "u1");
    add_event(db, "e3", "user.updated", "waiting", "u1");
    add_event(db, "e4", "session.created", "dead", "u2");
    add_event(db, "e5", "user_x.created", "failed", "u2");

    assert_string_equal(EVENTS(db, 0), "e5 e4 e3 e2 e1");
    assert_string_equal(EVENTS(db, .status = "failed"), "e5 e2");
    assert_string_equal(EVENTS(db, .status = "done"), "e1");
    assert_string_equal(EVENTS(db, .status = "nonsense"), "");
    assert_string_equal(EVENTS(db, .type = "user.updated"), "e3 e2");
    assert_string_equal(EVENTS(db, .type = "user.*"), "e3 e2 e1");
    assert_string_equal(EVENTS(db, .type = "*"), "e5 e4 e3 e2 e1");
    assert_string_equal(EVENTS(db, .type = "user"), "");
    assert_string_equal(EVENTS(db, .user_id = "u1"), "e3 e2 e1");
    assert_string_equal(EVENTS(db, .user_id = "u1", .status = "failed"), "e2");
    assert_string_equal(EVENTS(db, .user_id = "u2", .type = "user_x.*", .status = "failed"), "e5");

    assert_string_equal(EVENTS(db, .limit = 2), "e5 e4|more");
    assert_string_equal(EVENTS(db, .limit = 2, .after = 4), "e3 e2|more");
    assert_string_equal(EVENTS(db, .limit = 2, .after = 2), "e1");
    assert_string_equal(EVENTS(db, .limit = 5), "e5 e4 e3 e2 e1");
    assert_string_equal(EVENTS(db, .limit = 1, .status = "failed"), "e5|more");
    /* The page ends where the last look was, not at the last match. */
    assert_string_equal(EVENTS(db, .limit = 1, .type = "session.created"), "e4");
    end(db);
}

static int look_at_event(struct db *db, const char *id)
{
    struct err err;
    int rc;

    begin_answer();
    rc = browse_event(db, id, &answer, &err);
    if (rc == 0)
        read_answer(rc, &err);
    return rc;
}

/* As a damaged file may have it: a column that is never NULL reads as NULL. */
static void browse__events_of_a_damaged_file(void **state)
{
    struct db *db = new_db();

    (void)state;
    add_event(db, "e1", "user.created", "failed", "u1");
    add_event(db, "e2", "user.created", "failed", "u1");
    run(db, "CREATE TABLE loose AS SELECT * FROM workos_events; DROP TABLE workos_events;"
            " ALTER TABLE loose RENAME TO workos_events;"
            " UPDATE workos_events SET event = NULL, status = NULL WHERE id = 'e2'");
    assert_string_equal(EVENTS(db, .type = "user.created"), "e1");
    assert_string_equal(EVENTS(db, .type = "user.*"), "e1");
    assert_string_equal(EVENTS(db, .user_id = "u1", .status = "failed"), "e1");
    assert_string_equal(EVENTS(db, 0), "e2 e1");
    end(db);
}

static void browse__one_event(void **state)
{
    struct db *db = new_db();

    (void)state;
    add_event(db, "backfill:user_1", "user.created", "failed", "user_1");
    run(db, "UPDATE workos_events SET payload = '{\"n\":9007199254740993}', last_error ="
            " 'handlers.lua:1: \"x\"' || char(10) || 'stack traceback:', next_attempt_at = 5");
    assert_int_equal(look_at_event(db, "backfill:user_1"), 0);
    assert_non_null(strstr(buf_text(&answer), "\"payload\":\"{\\\"n\\\":9007199254740993}\""));
    assert_non_null(strstr(buf_text(&answer), "\"payload_bytes\":22}}"));
    assert_non_null(strstr(buf_text(&answer), "\\nstack traceback:\""));
    run(db, "UPDATE workos_events SET payload = hex(zeroblob(1000000)) || 'ä'");
    assert_int_equal(look_at_event(db, "backfill:user_1"), 0);
    assert_non_null(strstr(buf_text(&answer), "\"payload_bytes\":2000002}}"));
    assert_in_range(answer.len, BROWSE_PAYLOAD_MAX, BROWSE_PAYLOAD_MAX + 1000);
    run(db, "UPDATE workos_events SET payload = NULL");
    assert_int_equal(look_at_event(db, "backfill:user_1"), 0);
    assert_non_null(strstr(buf_text(&answer), "\"payload\":null,\"payload_bytes\":null"));
    assert_int_equal(look_at_event(db, "event_2"), ERR_ABSENT);
    end(db);
}

/* ------------------------------------------------------------------------- how much it costs */

enum { ROWS = 60000 };

static int asked;

static bool count_asks(void *arg)
{
    (void)arg;
    asked++;
    return false;
}

/* Thousands of SQLite's instructions since the last call. A scan of ROWS takes some hundreds. */
static int thousands(void)
{
    int count = asked;

    asked = 0;
    return count;
}

static void browse__nothing_is_looked_through(void **state)
{
    static const char filler[] =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        " INSERT INTO workos_users (id, email, external_id, _version_us, _event_id)"
        " SELECT printf('user_%06d', i), printf('same%d@example.com', i % 10),"
        " printf('ext-%06d', i), 0, '' FROM n;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        " INSERT INTO workos_events (id, event, object_id, user_id, received_at, status, attempts,"
        " payload, _created_us) SELECT printf('event_%06d', i), 'user.updated',"
        " printf('user_%06d', i % 5), printf('user_%06d', i % 5), i,"
        " CASE WHEN i % 3 = 0 THEN 'failed' ELSE 'done' END, 1, '{}', 0 FROM n;"
        "UPDATE workos_events SET status = 'dead', event = 'rare' WHERE _seq = 7;";
    struct db *db = new_db();
    struct err err;

    (void)state;
    run(db, "BEGIN");
    run(db, filler);
    run(db, "COMMIT");
    db_set_interrupt(db, count_asks, NULL);

    /* A scan takes that many at least, so that the numbers below mean something. */
    run(db, "SELECT count(*) FROM workos_users WHERE name = 'x'");
    assert_true(thousands() > 100);

    users(db, NULL, NULL, 50);
    users(db, NULL, "user_030000", 50);
    users(db, "user_0", NULL, 50);
    users(db, "user_0", "user_030000", 50);
    users(db, "user_x", NULL, 50);
    users(db, "SAME5", NULL, 50);
    users(db, "ext-030000", NULL, 50);
    users(db, "nobody", NULL, 50);
    assert_int_equal(look_at_user(db, "user_030000"), 0);
    assert_int_equal(look_at_user(db, "user_x"), ERR_ABSENT);
    assert_int_equal(look_at_event(db, "event_030000"), 0);
    EVENTS(db, 0);
    EVENTS(db, .after = 30000);
    EVENTS(db, .status = "failed");
    EVENTS(db, .status = "failed", .after = 30000);
    EVENTS(db, .status = "dead");
    EVENTS(db, .status = "waiting");
    EVENTS(db, .user_id = "nobody");
    assert_true(thousands() < 100);

    /* Of a user's own events the places are read from their index: 12,000 here. */
    EVENTS(db, .user_id = "user_000003");
    EVENTS(db, .user_id = "user_000003", .after = 30000);
    assert_true(thousands() < 300);

    /* Without an index as many as BROWSE_LOOKS, and the next page goes on there. */
    assert_string_equal(EVENTS(db, .type = "rare"), "|more");
    assert_string_equal(buf_text(&answer), "{\"last_seq\":60000,\"events\":[],\"next\":55001}");
    assert_string_equal(EVENTS(db, .type = "rare", .after = 55001), "|more");
    assert_string_equal(EVENTS(db, .type = "rare", .after = 5000), "event_000007");
    assert_true(thousands() < 500);

    begin_answer();
    read_answer(browse_counts(db, &answer, &err), &err);
    assert_string_equal(
        buf_text(&answer),
        "{\"failed\":10000,\"waiting\":0,\"dead\":1,\"expected\":0,\"last_seq\":60000,"
        "\"last_received_at\":60000}");
    assert_true(thousands() < 200);
    end(db);
}

static void browse__counts_of_nothing(void **state)
{
    struct db *db = new_db();
    struct err err;

    (void)state;
    begin_answer();
    read_answer(browse_counts(db, &answer, &err), &err);
    assert_string_equal(buf_text(&answer), "{\"failed\":0,\"waiting\":0,\"dead\":0,\"expected\":0,"
                                           "\"last_seq\":0,\"last_received_at\":0}");
    end(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(browse__users_are_searched_by_a_beginning),
        IN_TEMP_DIR(browse__users_are_found_by_what_only_looks_like_an_id),
        IN_TEMP_DIR(browse__pages_of_users_have_everybody_once),
        IN_TEMP_DIR(browse__a_page_behind_somebody_who_has_gone),
        IN_TEMP_DIR(browse__one_user),
        IN_TEMP_DIR(browse__long_texts_are_cut_between_characters),
        IN_TEMP_DIR(browse__events),
        IN_TEMP_DIR(browse__events_of_a_user),
        IN_TEMP_DIR(browse__events_of_a_damaged_file),
        IN_TEMP_DIR(browse__one_event),
        IN_TEMP_DIR(browse__nothing_is_looked_through),
        IN_TEMP_DIR(browse__counts_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
