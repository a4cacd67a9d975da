/* SPDX-License-Identifier: MIT */
/*
 * The input as a program of ctx.db calls, which query.lua runs in a real script and compares with what
 * plain Lua makes of all rows. Here: what no script may bring about.
 *
 * libFuzzer: -max_len=400 -len_control=0 -detect_leaks=0
 */
#include "base/log.h"
#include "script/script.h"
#include "workos/mirror.h"
#include "workos/tables.h"

#include <assert.h>
#include <string.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PROGRAM_MAX = 400 };

static const char users[] =
    "INSERT INTO workos_users (id, email, email_verified, metadata, updated_at, raw, _version_us,"
    " _event_id) VALUES ('user_1', 'a@b.c', 1, '{ \"b\": 1, \"a\": 1.50 }', '2026', '{}', 1, "
    "'event_1'),"
    " ('user_2', 'A@b.c', 0, '{ \"b\": 1, \"a\": 1.5 }', '2026', '{}', 1, 'event_2'),"
    " ('user_3', NULL, NULL, '{}', NULL, '{}', 1, 'event_3')";

static struct db *db;
static struct script *script;

static int run(const char *type, const uint8_t *data, size_t size, struct err *err)
{
    struct buf text = BUF_INIT(65536);
    struct json event = {0};
    int rc;

    buf_puts(&text, "{\"data\":{\"bytes\":[");
    for (size_t i = 0; i < size; i++)
        buf_printf(&text, "%s%d", i ? "," : "", data[i]);
    buf_puts(&text, "]}}");
    rc = json_read(&event, buf_text(&text), text.len, err);
    if (rc == 0)
        rc = script_run_event(script, db, type, &event, false, err);
    json_release(&event);
    buf_release(&text);
    return rc;
}

static int64_t number(const char *sql)
{
    struct stmt *stmt = NULL;
    struct err err = {0};
    int64_t result;

    if (stmt_new(&stmt, db, sql, &err) < 0 || stmt_step(stmt, &err) != 1)
        scratch_fail(sql, &err);
    result = stmt_int(stmt, 0);
    stmt_free(stmt);
    return result;
}

static void set_up(void)
{
    struct script_opts opts = {.path = "tests/fuzz/query.lua",
                               .memory_bytes = 64 << 20,
                               .event_timeout_ms = 5000,
                               .action_timeout_ms = 5000};
    struct buf report = BUF_INIT(65536);
    struct err err = {0};

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    db = scratch_db();
    opts.tables = mirror_script_tables(&opts.table_count);
    if (tables_migrate(db, &err) < 0 || script_load(&script, &opts, &err) < 0)
        scratch_fail("set up", &err);
    scratch_exec(db, "BEGIN IMMEDIATE");
    if (script_migrate(script, db, &report, &err) < 0 || run("query.fill", NULL, 0, &err) < 0)
        scratch_fail("fill", &err);
    scratch_exec(db, users);
    scratch_exec(db, "COMMIT");
    buf_release(&report);
}

/* What is authkitd's is untouched, and the transaction is still the caller's. */
static void check_untouched(void)
{
    static int64_t schema_version;

    if (!schema_version)
        schema_version = number("PRAGMA schema_version");
    assert(number("PRAGMA schema_version") == schema_version);
    assert(number("SELECT count(*) FROM workos_users") == 3);
    assert(number("SELECT count(*) FROM workos_events") == 0);
    assert(number("PRAGMA quick_check") == 0); /* "ok" as a number */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    int rc;

    if (!db)
        set_up();
    if (size > PROGRAM_MAX)
        size = PROGRAM_MAX;
    scratch_exec(db, "BEGIN IMMEDIATE");
    db_hold_transaction(db, true);
    rc = run("query.run", data, size, &err);
    db_hold_transaction(db, false);
    if (rc < 0) {
        assert(err.text[0]);
        if (rc != ERR_SCRIPT && rc != ERR_LIMIT && !db_trouble(db))
            scratch_fail("an error of another kind", &err);
        if (strstr(err.text, "VIOLATED"))
            scratch_fail("a check of query.lua", &err);
    }
    if (db_in_transaction(db)) {
        if (!db_trouble(db))
            check_untouched();
        scratch_exec(db, "ROLLBACK");
    }
    db_clear_trouble(db);
    return 0;
}
