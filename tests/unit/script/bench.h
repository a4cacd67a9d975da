/* SPDX-License-Identifier: MIT */
/*
 * bench - a script written to the current directory, a database beside it, and what comes of them.
 *
 * Every call runs in a transaction; it is committed when the call succeeds, else rolled back.
 */
#ifndef TESTS_UNIT_SCRIPT_BENCH_H
#define TESTS_UNIT_SCRIPT_BENCH_H

#include "base/log.h"
#include "script/script.h"
#include "unit/store/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

enum { BENCH_MEMORY = 16 << 20, BENCH_TIMEOUT_MS = 1000 };

struct bench {
    struct db *db;
    struct script *script;
    int timeout_ms;
    size_t memory_bytes;
    int rc;         /* of the last call */
    struct err err; /* of the last call that failed */
    char report[65536];
};

static inline void bench_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");

    if (!file)
        fail_msg("cannot write %s", name);
    fputs(text, file);
    fclose(file);
}

static inline void bench_open(struct bench *b)
{
    *b = (struct bench){.timeout_ms = BENCH_TIMEOUT_MS, .memory_bytes = BENCH_MEMORY};
    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    if (db_open(&b->db, "test.db", DB_WRITER, &b->err) < 0)
        fail_msg("%s", b->err.text);
}

static inline void bench_close(struct bench *b)
{
    script_free(b->script);
    db_close(b->db);
}

/* The text becomes handlers.lua, and the script of the bench if it can be loaded. */
static inline int bench_load(struct bench *b, const char *text)
{
    static const struct script_column columns[] = {
        {"id", SCRIPT_TEXT},       {"email", SCRIPT_TEXT},      {"external_id", SCRIPT_TEXT},
        {"metadata", SCRIPT_JSON}, {"created_at", SCRIPT_TEXT},
    };
    static const struct script_column organization_columns[] = {{"id", SCRIPT_TEXT},
                                                                {"name", SCRIPT_TEXT}};
    static const struct script_table tables[] = {
        {"workos_users", columns, ARRAY_LEN(columns)},
        {"workos_organizations", organization_columns, ARRAY_LEN(organization_columns)}};
    static const char *const taken_paths[] = {"/healthz", "/workos/user"};
    const struct script_opts opts = {
        .path = "handlers.lua",
        .memory_bytes = b->memory_bytes,
        .event_timeout_ms = b->timeout_ms,
        .action_timeout_ms = b->timeout_ms,
        .tables = tables,
        .table_count = ARRAY_LEN(tables),
        .taken_paths = taken_paths,
        .taken_count = ARRAY_LEN(taken_paths),
    };

    script_free(b->script);
    b->script = NULL;
    b->err.text[0] = '\0';
    bench_file("handlers.lua", text);
    b->rc = script_load(&b->script, &opts, &b->err);
    return b->rc;
}

static inline void bench_end(struct bench *b)
{
    if (db_exec(b->db, b->rc == 0 ? "COMMIT" : "ROLLBACK", NULL) < 0)
        fail_msg("the transaction can't be ended");
}

static inline void bench_begin(struct bench *b)
{
    b->err.text[0] = '\0';
    if (db_exec(b->db, "BEGIN IMMEDIATE", &b->err) < 0)
        fail_msg("%s", b->err.text);
}

/* script_plan, or script_migrate when apply is set; what it says is in report. */
static inline int bench_schema(struct bench *b, bool apply)
{
    struct buf report = BUF_INIT(sizeof(b->report) - 1);

    bench_begin(b);
    b->rc = apply ? script_migrate(b->script, b->db, &report, &b->err)
                  : script_plan(b->script, b->db, &report, &b->err);
    bench_end(b);
    snprintf(b->report, sizeof(b->report), "%s", buf_text(&report));
    buf_release(&report);
    return b->rc;
}

/* The function of event "t", with this data object. */
static inline int bench_run_with(struct bench *b, const char *event)
{
    struct json json = {0};

    if (json_read(&json, event, strlen(event), &b->err) < 0)
        fail_msg("%s", b->err.text);
    bench_begin(b);
    b->rc = script_run_event(b->script, b->db, "t", &json, false, &b->err);
    if (db_in_transaction(b->db))
        bench_end(b);
    json_release(&json);
    return b->rc;
}

static inline int bench_run(struct bench *b)
{
    return bench_run_with(b, "{\"id\":\"e1\",\"event\":\"t\",\"data\":{\"id\":\"d1\"}}");
}

static inline void bench_ok(const struct bench *b)
{
    if (b->rc < 0)
        fail_msg("%s", b->err.text);
}

static inline void bench_says(const struct bench *b, int rc, const char *text)
{
    if (b->rc != rc)
        fail_msg("%d instead of %d: %s", b->rc, rc, b->err.text);
    if (!strstr(b->err.text, text))
        fail_msg("no \"%s\" in \"%s\"", text, b->err.text);
}

/* A script of these declarations, with body as the function of event "t". */
static inline void bench_script(struct bench *b, const char *declarations, const char *body)
{
    char text[16384];

    snprintf(text, sizeof(text),
             "local authkit = require 'authkit'\n%s\n"
             "authkit.events { t = function(ctx, event)\n%s\nend }\n",
             declarations, body);
    bench_load(b, text);
    bench_ok(b);
    bench_schema(b, true);
    bench_ok(b);
}

/* body, on line 4 of a script with these declarations, must run through; it asserts by itself. */
static inline void bench_passes(struct bench *b, const char *declarations, const char *body)
{
    bench_script(b, declarations, body);
    bench_run(b);
    bench_ok(b);
}

/* body must raise an error with this text in it. */
static inline void bench_raises(struct bench *b, const char *declarations, const char *body,
                                const char *text)
{
    bench_script(b, declarations, body);
    bench_run(b);
    bench_says(b, ERR_SCRIPT, text);
}

/* One value of the database. */
static inline const char *bench_value(struct bench *b, const char *sql)
{
    static char text[4096];
    struct stmt *stmt = NULL;

    if (stmt_new(&stmt, b->db, sql, &b->err) < 0)
        fail_msg("%s", b->err.text);
    snprintf(text, sizeof(text), "(none)");
    if (stmt_step(stmt, &b->err) == 1) {
        const char *found = stmt_text(stmt, 0, NULL);

        snprintf(text, sizeof(text), "%s", found ? found : "(null)");
    }
    stmt_free(stmt);
    return text;
}

/* The body alone, on a bench of its own. */
static inline void bench_all_pass(const char *declarations, const char *body)
{
    struct bench b;

    bench_open(&b);
    bench_passes(&b, declarations, body);
    bench_close(&b);
}

struct raising {
    const char *body, *wanted;
};

/* Each body raises what is wanted of it, and says where in the script. */
static inline void bench_all_raise(const char *declarations, const struct raising *cases,
                                   size_t count)
{
    struct bench b;

    bench_open(&b);
    for (size_t i = 0; i < count; i++) {
        bench_raises(&b, declarations, cases[i].body, cases[i].wanted);
        if (strncmp(b.err.text, "handlers.lua:", 13) != 0)
            fail_msg("no place in \"%s\"", b.err.text);
    }
    bench_close(&b);
}

#endif
