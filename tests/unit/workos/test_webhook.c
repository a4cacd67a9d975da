/* SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/log.h"
#include "unit/store/temp_dir.h"
#include "unit/workos/receive.h"
#include "workos/mirror.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)
#define SECRET "whsec_test"

struct service {
    struct db *db;
    struct workos *workos;
    struct signing_keys *keys;
};

/* ------------------------------------------------------------------------- a service */

static void start(struct service *s)
{
    struct workos_opts opts = {.webhook_secret = SECRET, .max_queue = 100};
    struct err err;

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT); /* failures are what is tested here */
    assert_int_equal(db_open(&s->db, "test.db", DB_WRITER, &err), 0);
    opts.db = s->db;
    assert_int_equal(workos_open(&s->workos, &opts, &err), 0);
    assert_int_equal(signing_keys_new(&s->keys, SECRET, &err), 0);
}

static void stop(struct service *s)
{
    workos_close(s->workos);
    db_close(s->db);
    signing_keys_free(s->keys);
}

static struct script *load(const char *text, int timeout_ms)
{
    struct script_opts opts = {.path = "handlers.lua",
                               .memory_bytes = 16 << 20,
                               .event_timeout_ms = timeout_ms,
                               .action_timeout_ms = timeout_ms};
    FILE *file = fopen("handlers.lua", "w");
    struct script *script = NULL;
    struct err err = {0};

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    opts.tables = mirror_script_tables(&opts.table_count);
    if (script_load(&script, &opts, &err) < 0)
        fail_msg("the script of the test can't be loaded: %s", err.text);
    return script;
}

static void install(struct service *s, const char *text, int timeout_ms)
{
    struct buf report = BUF_INIT(65536);
    struct err err = {0};

    if (workos_install(s->workos, load(text, timeout_ms), &report, &err) < 0)
        fail_msg("the script of the test can't be installed: %s", err.text);
    buf_release(&report);
}

static enum webhook_result deliver(struct service *s, const char *body, struct err *err)
{
    char header[SIGNATURE_HEADER_MAX];
    enum signature_status status;

    assert_int_equal(
        signature_make_header(s->keys, clock_wall_ms(), body, strlen(body), header, err), 0);
    return receive_webhook(s->workos, header, body, strlen(body), &status, err);
}

static enum webhook_result deliver_user(struct service *s, const char *id, const char *type,
                                        const char *user)
{
    char body[1024];
    struct err err = {0};

    snprintf(body, sizeof(body),
             "{\"id\":\"%s\",\"event\":\"%s\",\"data\":{\"object\":\"user\",\"id\":\"%s\","
             "\"email\":\"%s@example.com\",\"updated_at\":\"2026-01-12T20:17:47.677Z\"},"
             "\"created_at\":\"2026-01-12T20:17:47.677Z\"}",
             id, type, user, user);
    return deliver(s, body, &err);
}

/* One value of a database of its own connection: only what is committed is seen. */
static const char *value_of(const char *sql)
{
    static char text[4096];
    struct db *db = NULL;
    struct stmt *stmt = NULL;
    struct err err = {0};

    if (db_open(&db, "test.db", DB_READER, &err) < 0 || stmt_new(&stmt, db, sql, &err) < 0)
        fail_msg("%s", err.text);
    snprintf(text, sizeof(text), "(none)");
    if (stmt_step(stmt, &err) == 1) {
        const char *found = stmt_text(stmt, 0, NULL);

        snprintf(text, sizeof(text), "%s", found ? found : "(null)");
    }
    stmt_free(stmt);
    db_close(db);
    return text;
}

/* ------------------------------------------------------------------------- results */

static void webhook__event_is_stored_with_what_its_function_wrote(void **state)
{
    struct service s;

    (void)state;
    start(&s);
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.schema { seen = { columns = { user = 'text', late = 'boolean' } } }\n"
            "authkit.events { ['user.created'] = function(ctx, event)\n"
            "  ctx.db.insert('seen', { user = ctx.users.get(event.data.id).email,"
            "    late = event.late })\n"
            "end }\n",
            1000);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT email FROM workos_users"), "user_1@example.com");
    assert_string_equal(value_of("SELECT user || late FROM seen"), "user_1@example.com0");
    assert_string_equal(value_of("SELECT id || status || attempts || user_id FROM workos_events"),
                        "event_1done1user_1");
    stop(&s);
}

static void webhook__payload_is_kept_byte_for_byte(void **state)
{
    const char *body =
        "\n{ \"id\":\"event_1\", \"event\":\"x.y\",\"data\":{\"n\":1.50,\"s\":\"\\u00e9\\/\"}}  ";
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    assert_int_equal(deliver(&s, body, &err), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT payload FROM workos_events"), body);
    assert_string_equal(value_of("SELECT attempts FROM workos_events"), "0");
    stop(&s);
}

static void webhook__duplicate_runs_nothing(void **state)
{
    struct service s;

    (void)state;
    start(&s);
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.schema { seen = { columns = { id = 'text' } } }\n"
            "authkit.events { ['user.created'] = function(ctx, event)\n"
            "  ctx.db.insert('seen', { id = event.id })\n"
            "end }\n",
            1000);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_DUPLICATE);
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "1");
    stop(&s);
}

static void webhook__signed_nonsense_is_invalid(void **state)
{
    static const char *const bodies[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"id\":\"a\"}",
        "{\"id\":\"a\",\"event\":\"b\"}",
        "{\"id\":\"a\",\"event\":\"b\",\"data\":null}",
        "{\"id\":1,\"event\":\"b\",\"data\":{}}",
    };
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        assert_int_equal(deliver(&s, bodies[i], &err), WEBHOOK_INVALID);
    assert_string_equal(value_of("SELECT count(*) FROM workos_events"), "0");
    stop(&s);
}

static void webhook__unsigned_is_refused(void **state)
{
    const char *body = "{\"id\":\"event_1\",\"event\":\"user.created\",\"data\":{\"id\":\"u\"}}";
    char header[SIGNATURE_HEADER_MAX];
    enum signature_status status;
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    assert_int_equal(receive_webhook(s.workos, NULL, body, strlen(body), &status, &err),
                     WEBHOOK_REFUSED);
    assert_int_equal(status, SIGNATURE_MISSING);
    assert_int_equal(
        signature_make_header(s.keys, clock_wall_ms() - 181000, body, strlen(body), header, &err),
        0);
    assert_int_equal(receive_webhook(s.workos, header, body, strlen(body), &status, &err),
                     WEBHOOK_REFUSED);
    assert_int_equal(status, SIGNATURE_STALE);
    assert_int_equal(
        signature_make_header(s.keys, clock_wall_ms(), body, strlen(body), header, &err), 0);
    assert_int_equal(receive_webhook(s.workos, header, body, strlen(body) - 1, &status, &err),
                     WEBHOOK_REFUSED);
    assert_int_equal(status, SIGNATURE_MISMATCH);
    assert_string_equal(value_of("SELECT count(*) FROM workos_events"), "0");
    stop(&s);
}

static void webhook__without_a_secret_is_off(void **state)
{
    struct workos_opts opts = {.max_queue = 10};
    enum signature_status status;
    struct workos *workos;
    struct db *db;
    struct err err;

    (void)state;
    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    opts.db = db;
    assert_int_equal(workos_open(&workos, &opts, &err), 0);
    assert_int_equal(receive_webhook(workos, "t=1, v1=x", "{}", 2, &status, &err), WEBHOOK_OFF);
    workos_close(workos);
    db_close(db);
}

/* ------------------------------------------------------------------------- failures */

static void webhook__failed_function_is_rolled_back_and_recorded(void **state)
{
    struct service s;

    (void)state;
    start(&s);
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.schema { seen = { columns = { id = 'text' } } }\n"
            "authkit.events { ['user.created'] = function(ctx, event)\n"
            "  ctx.db.insert('seen', { id = event.id })\n"
            "  error('oops')\n"
            "end }\n",
            1000);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "0");
    assert_string_equal(value_of("SELECT email FROM workos_users"), "user_1@example.com");
    assert_string_equal(value_of("SELECT status FROM workos_events"), "failed");
    assert_non_null(
        strstr(value_of("SELECT last_error FROM workos_events"), "handlers.lua:5: oops"));
    assert_string_equal(value_of("SELECT next_attempt_at > received_at FROM workos_events"), "1");
    stop(&s);
}

static void webhook__endless_loop_is_recorded(void **state)
{
    struct service s;

    (void)state;
    start(&s);
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.events { ['user.created'] = function(ctx, event) while true do end end }\n",
            30);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT status FROM workos_events"), "failed");
    assert_non_null(strstr(value_of("SELECT last_error FROM workos_events"), "longer than 30 ms"));
    stop(&s);
}

static const char slow_script[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { big = { columns = { n = 'integer', t = 'text' } },\n"
    "                 seen = { columns = { id = 'text' } } }\n"
    "authkit.events {\n"
    "  ['user.created'] = function(ctx, event)\n"
    "    ctx.db.insert('seen', { id = event.id })\n"
    "  end,\n"
    "  ['user.updated'] = function(ctx, event)\n"
    "    ctx.db.insert('seen', { id = event.id })\n"
    "    local first = ctx.db.query('big'):first()\n"
    "    ctx.db.patch('big', first._id, { n = -1 })\n"
    "  end,\n"
    "}\n";

/* A trigger by hand makes the script's UPDATE a long one: SQLite rolls the whole transaction back
 * when a writing statement is interrupted. */
static void make_update_slow(void)
{
    struct db *db = NULL; /* the service's own connection is the writer's */
    struct err err = {0};

    if (db_open(&db, "test.db", DB_WRITER, &err) < 0 ||
        db_exec(db,
                "INSERT INTO big (_creation_time, n, t) VALUES (0, 1, 'x');"
                "CREATE TRIGGER slow AFTER UPDATE ON big BEGIN"
                " UPDATE big SET t = (WITH RECURSIVE c(i) AS"
                "  (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 1000000000) SELECT max(i) FROM c);"
                " END",
                &err) < 0)
        fail_msg("%s", err.text);
    db_close(db);
}

static void webhook__interrupted_update_is_recorded_as_failed(void **state)
{
    struct service s;

    (void)state;
    start(&s);
    install(&s, slow_script, 50);
    make_update_slow();
    assert_int_equal(deliver_user(&s, "event_1", "user.updated", "user_1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT status FROM workos_events"), "failed");
    assert_non_null(strstr(value_of("SELECT last_error FROM workos_events"), "longer than 50 ms"));
    assert_string_equal(value_of("SELECT count(*) FROM workos_users"), "1");
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "0");
    assert_string_equal(value_of("SELECT n FROM big"), "1");
    assert_int_equal(deliver_user(&s, "event_1", "user.updated", "user_1"), WEBHOOK_DUPLICATE);
    stop(&s);
}

struct sender {
    struct service *service;
    pthread_t thread;
    char id[32];
    const char *type;
    enum webhook_result result;
};

static void *send_one(void *arg)
{
    struct sender *sender = arg;

    sender->result = deliver_user(sender->service, sender->id, sender->type, sender->id);
    return NULL;
}

static void webhook__interrupted_update_costs_its_neighbours_nothing(void **state)
{
    struct sender senders[12];
    struct service s;

    (void)state;
    start(&s);
    install(&s, slow_script, 50);
    make_update_slow();
    for (size_t i = 0; i < ARRAY_LEN(senders); i++) {
        senders[i].service = &s;
        senders[i].type = i == 5 ? "user.updated" : "user.created";
        snprintf(senders[i].id, sizeof(senders[i].id), "event_%zu", i);
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_one, &senders[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(senders); i++) {
        pthread_join(senders[i].thread, NULL);
        assert_int_equal(senders[i].result, WEBHOOK_RECEIVED);
    }
    assert_string_equal(value_of("SELECT count(*) FROM workos_events"), "12");
    assert_string_equal(value_of("SELECT count(*) FROM workos_users"), "12");
    assert_string_equal(value_of("SELECT count(*) FROM seen"), "11");
    assert_string_equal(value_of("SELECT id FROM workos_events WHERE status = 'failed'"),
                        "event_5");
    stop(&s);
}

/* Symptom: one ORDER BY took the process to gigabytes. A statement that reads a table and is
 * refused memory ends the transaction of all, also where the function catches the error. */
/* It was answered 503 for ever: the writer refuses a job that leaves a reference broken. */
static void webhook__broken_reference_is_the_functions_failure(void **state)
{
    struct service s;
    struct db *db = NULL;
    struct err err;

    (void)state;
    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    assert_int_equal(db_exec(db,
                             "CREATE TABLE parents (id INTEGER PRIMARY KEY);"
                             "CREATE TABLE children (_id INTEGER PRIMARY KEY,"
                             " _creation_time INTEGER NOT NULL, parent INTEGER"
                             " REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
                             &err),
                     0);
    db_close(db);
    start(&s);
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.schema { children = { columns = { parent = 'integer?' } } }\n"
            "authkit.events { ['user.created'] = function(ctx, event)\n"
            "  ctx.db.insert('children', { parent = 7 }) end }\n",
            1000);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT status FROM workos_events"), "failed");
    assert_non_null(strstr(value_of("SELECT last_error FROM workos_events"), "FOREIGN KEY"));
    assert_string_equal(value_of("SELECT count(*) FROM children"), "0");
    assert_string_equal(value_of("SELECT count(*) FROM workos_users"), "1");
    stop(&s);
}

static void webhook__giant_statement_is_recorded_as_failed(void **state)
{
    static const char *const calls[] = {"sql(ctx.db)", "pcall(sql, ctx.db)"};
    struct service s;

    (void)state;
    start(&s);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        char text[2000], id[2][32], where[100];

        snprintf(text, sizeof(text),
                 "local authkit = require 'authkit'\n"
                 "authkit.schema { seen = { columns = { id = 'text' } } }\n"
                 "local function sql(db) db.sql [[WITH RECURSIVE r (n) AS\n"
                 "  (SELECT count(*) FROM seen UNION ALL SELECT n + 1 FROM r LIMIT 500)\n"
                 "  SELECT n FROM r ORDER BY hex(zeroblob(n + 1000000))]] end\n"
                 "authkit.events {\n"
                 "  ['user.created'] = function(ctx, event)\n"
                 "    ctx.db.insert('seen', { id = event.id })\n"
                 "  end,\n"
                 "  ['user.updated'] = function(ctx, event)\n"
                 "    ctx.db.insert('seen', { id = event.id })\n"
                 "    %s\n"
                 "  end,\n"
                 "}\n",
                 calls[i]);
        install(&s, text, 20000);
        for (int j = 0; j < 2; j++)
            snprintf(id[j], sizeof(id[j]), "event_%zu_%d", i, j);
        snprintf(where, sizeof(where), "SELECT last_error FROM workos_events WHERE id = '%s'",
                 id[0]);
        /* Of a user of its own: it would wait behind the other one, which has failed. */
        assert_int_equal(deliver_user(&s, id[0], "user.updated", id[0]), WEBHOOK_RECEIVED);
        assert_non_null(strstr(value_of(where), "used more than 16384 KiB of memory for SQL"));
        assert_int_equal(deliver_user(&s, id[1], "user.created", id[1]), WEBHOOK_RECEIVED);
    }
    assert_string_equal(value_of("SELECT group_concat(id) FROM seen"), "event_0_1,event_1_1");
    assert_string_equal(value_of("SELECT count(*) FROM workos_events WHERE status = 'failed'"),
                        "2");
    stop(&s);
}

/* ------------------------------------------------------------------------- installing */

static void workos__new_script_takes_over(void **state)
{
    struct service s;

    (void)state;
    start(&s);
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.schema { a = { columns = { x = 'text' } } }\n"
            "authkit.events { ['user.created'] = function(ctx)"
            "  ctx.db.insert('a', { x = 'old' }) end }\n",
            1000);
    deliver_user(&s, "event_1", "user.created", "user_1");
    install(&s,
            "local authkit = require 'authkit'\n"
            "authkit.schema { a = { columns = { x = 'text', y = 'text?' } } }\n"
            "authkit.events { ['user.created'] = function(ctx)"
            "  ctx.db.insert('a', { x = 'new', y = 'y' }) end }\n",
            1000);
    deliver_user(&s, "event_2", "user.created", "user_2");
    assert_string_equal(value_of("SELECT group_concat(x || coalesce(y, '-')) FROM a"), "old-,newy");
    stop(&s);
}

static const char old_script[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { a = { columns = { x = 'text' } } }\n"
    "authkit.events { ['user.created'] = function(ctx) ctx.db.insert('a', { x = 'old' }) end }\n";

static const char refused_script[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { a = { columns = { x = 'integer' } }, b = { columns = { y = 'text' } } }\n";

static void workos__refused_schema_leaves_the_old_script(void **state)
{
    struct buf report = BUF_INIT(65536);
    struct service s;
    struct script *refused;
    struct err err = {0};

    (void)state;
    start(&s);
    install(&s, old_script, 1000);
    assert_int_equal(deliver_user(&s, "event_0", "user.created", "user_0"), WEBHOOK_RECEIVED);
    refused = load(refused_script, 1000);
    assert_int_equal(workos_install(s.workos, refused, &report, &err), ERR_INVALID);
    if (!strstr(err.text, "a.x is declared integer, but the database has it as text"))
        fail_msg("%s", err.text);
    script_free(refused);
    assert_int_equal(deliver_user(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_string_equal(value_of("SELECT group_concat(x) FROM a"), "old,old");
    assert_string_equal(value_of("SELECT count(*) FROM sqlite_schema WHERE name = 'b'"), "0");
    buf_release(&report);
    stop(&s);
}

struct flood {
    struct service *service;
    atomic_bool stop;
    int sent;
};

static void *send_many(void *arg)
{
    struct flood *flood = arg;
    char id[32];

    while (!atomic_load(&flood->stop)) {
        snprintf(id, sizeof(id), "event_%d", ++flood->sent);
        deliver_user(flood->service, id, "user.created", id);
    }
    return NULL;
}

/* What the caller frees after a refusal must not touch the connection that the writer works on.
 * (TSan sees it every time, ASan now and then.) */
static void workos__refused_script_is_freed_while_events_come_in(void **state)
{
    struct buf report = BUF_INIT(65536);
    struct flood flood = {0};
    struct service s;
    pthread_t thread;
    struct err err;

    (void)state;
    start(&s);
    install(&s, old_script, 1000);
    flood.service = &s;
    assert_int_equal(pthread_create(&thread, NULL, send_many, &flood), 0);
    for (int i = 0; i < 50; i++) {
        struct script *refused = load(refused_script, 1000);

        assert_int_equal(workos_install(s.workos, refused, &report, &err), ERR_INVALID);
        script_free(refused);
    }
    atomic_store(&flood.stop, true);
    pthread_join(thread, NULL);
    buf_release(&report);
    stop(&s);
}

static void workos__bad_secrets_name_the_variable(void **state)
{
    struct workos_opts opts = {.max_queue = 10, .webhook_secret = " , "};
    struct workos *workos = NULL;
    struct db *db;
    struct err err = {0};

    (void)state;
    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    opts.db = db;
    assert_int_equal(workos_open(&workos, &opts, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "WORKOS_WEBHOOK_SECRET"));
    assert_null(workos);
    db_close(db);
}

static void workos__file_of_a_newer_version_is_refused(void **state)
{
    struct workos_opts opts = {.max_queue = 10, .webhook_secret = SECRET};
    struct workos *workos = NULL;
    struct db *db;
    struct err err = {0};

    (void)state;
    assert_int_equal(db_open(&db, "test.db", DB_WRITER, &err), 0);
    assert_int_equal(
        db_exec(db, "PRAGMA application_id = 1634429300; PRAGMA user_version = 1000", &err), 0);
    opts.db = db;
    assert_int_equal(workos_open(&workos, &opts, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "newer authkitd"));
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(webhook__event_is_stored_with_what_its_function_wrote),
        IN_TEMP_DIR(webhook__payload_is_kept_byte_for_byte),
        IN_TEMP_DIR(webhook__duplicate_runs_nothing),
        IN_TEMP_DIR(webhook__signed_nonsense_is_invalid),
        IN_TEMP_DIR(webhook__unsigned_is_refused),
        IN_TEMP_DIR(webhook__without_a_secret_is_off),
        IN_TEMP_DIR(webhook__failed_function_is_rolled_back_and_recorded),
        IN_TEMP_DIR(webhook__endless_loop_is_recorded),
        IN_TEMP_DIR(webhook__interrupted_update_is_recorded_as_failed),
        IN_TEMP_DIR(webhook__interrupted_update_costs_its_neighbours_nothing),
        IN_TEMP_DIR(webhook__broken_reference_is_the_functions_failure),
        IN_TEMP_DIR(webhook__giant_statement_is_recorded_as_failed),
        IN_TEMP_DIR(workos__new_script_takes_over),
        IN_TEMP_DIR(workos__refused_schema_leaves_the_old_script),
        IN_TEMP_DIR(workos__refused_script_is_freed_while_events_come_in),
        IN_TEMP_DIR(workos__bad_secrets_name_the_variable),
        IN_TEMP_DIR(workos__file_of_a_newer_version_is_refused),
    };

    return cmocka_run_group_tests_name("webhook", tests, NULL, NULL);
}
