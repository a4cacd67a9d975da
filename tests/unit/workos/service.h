/* SPDX-License-Identifier: MIT */
/*
 * service - a whole service on test.db in the current directory, with scripts of the test's own.
 *
 * Failures are what is tested, so nothing is logged. value_of looks through a connection of its
 * own: it sees only what is committed.
 */
#ifndef TESTS_UNIT_WORKOS_SERVICE_H
#define TESTS_UNIT_WORKOS_SERVICE_H

#include "base/clock.h"
#include "base/log.h"
#include "unit/store/temp_dir.h"
#include "unit/workos/receive.h"
#include "workos/mirror.h"
#include "workos/workos_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)
#define SERVICE_SECRET "whsec_test"

enum { SERVICE_PATIENCE_MS = 20000 };

struct service {
    struct db *db;
    struct workos *workos;
    struct signing_keys *keys;
};

/* opts may say more than what every service needs. */
static inline void start_service_with(struct service *s, struct workos_opts opts)
{
    struct err err;

    opts.webhook_secret = SERVICE_SECRET;
    opts.max_queue = 100;
    opts.retention_days = 30;
    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    if (db_open(&s->db, "test.db", DB_WRITER, &err) < 0)
        fail_msg("%s", err.text);
    opts.db = s->db;
    if (workos_open(&s->workos, &opts, &err) < 0 ||
        signing_keys_new(&s->keys, SERVICE_SECRET, &err) < 0)
        fail_msg("%s", err.text);
}

static inline void start_service(struct service *s)
{
    start_service_with(s, (struct workos_opts){0});
}

/* From here on s->db is the caller's: until then it is the writer thread's alone. */
static inline void take_connection(struct service *s)
{
    workos_close(s->workos);
    s->workos = NULL;
}

static inline void stop_service(struct service *s)
{
    workos_close(s->workos);
    db_close(s->db);
    signing_keys_free(s->keys);
}

/* out_report, the caller's to release, becomes what workos_install says; it may be NULL. */
static inline void install_reporting(struct service *s, const char *text, int timeout_ms,
                                     struct buf *out_report)
{
    struct script_opts opts = {.path = "handlers.lua",
                               .memory_bytes = 16 << 20,
                               .event_timeout_ms = timeout_ms,
                               .action_timeout_ms = timeout_ms};
    struct buf report = BUF_INIT(65536);
    FILE *file = fopen("handlers.lua", "w");
    struct script *script = NULL;
    struct err err = {0};

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    opts.tables = mirror_script_tables(&opts.table_count);
    if (script_load(&script, &opts, &err) < 0 ||
        workos_install(s->workos, script, &report, &err) < 0)
        fail_msg("the script of the test: %s", err.text);
    if (out_report)
        *out_report = report;
    else
        buf_release(&report);
}

static inline void install_script(struct service *s, const char *text, int timeout_ms)
{
    install_reporting(s, text, timeout_ms, NULL);
}

/* An event of this id and type, about this object. */
static inline enum webhook_result deliver_event(struct service *s, const char *id, const char *type,
                                                const char *object)
{
    char body[1024], header[SIGNATURE_HEADER_MAX];
    enum signature_status status;
    struct err err = {0};

    snprintf(body, sizeof(body),
             "{\"id\":\"%s\",\"event\":\"%s\",\"data\":{\"id\":\"%s\"},"
             "\"created_at\":\"2026-01-12T20:17:47.677Z\"}",
             id, type, object);
    assert_int_equal(
        signature_make_header(s->keys, clock_wall_ms(), body, strlen(body), header, &err), 0);
    return receive_webhook(s->workos, header, body, strlen(body), &status, &err);
}

/* Change the file behind the service's back. This connection never checkpoints. */
static inline void exec_sql(const char *sql)
{
    struct db *db = NULL;
    struct err err = {0};

    if (db_open(&db, "test.db", DB_WRITER, &err) < 0 ||
        db_exec(db, "PRAGMA wal_autocheckpoint = 0", &err) < 0 || db_exec(db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
    db_close(db);
}

static inline const char *value_of(const char *sql)
{
    static char text[4096];
    struct db *db = NULL;
    struct stmt *stmt = NULL;
    struct err err = {0};

    if (db_open(&db, "test.db", DB_READER, &err) < 0 || stmt_new(&stmt, db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
    snprintf(text, sizeof(text), "(none)");
    if (stmt_step(stmt, &err) == 1) {
        const char *found = stmt_text(stmt, 0, NULL);

        snprintf(text, sizeof(text), "%s", found ? found : "(null)");
    }
    stmt_free(stmt);
    db_close(db);
    return text;
}

/* Wait for the service's own threads. */
static inline void await_value(const char *sql, const char *expected)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int64_t deadline_ms = clock_mono_ms() + SERVICE_PATIENCE_MS;

    while (strcmp(value_of(sql), expected) != 0) {
        if (clock_mono_ms() > deadline_ms)
            fail_msg("%s: still %s, not %s", sql, value_of(sql), expected);
        nanosleep(&pause, NULL);
    }
}

#endif
