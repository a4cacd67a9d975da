/* SPDX-License-Identifier: MIT */
/*
 * Lua text as the tables of authkit.schema, brought to a database that has some tables already.
 * What was brought must be what is declared: a second plan finds nothing left to change.
 */
#include "base/log.h"
#include "script/script.h"

#include <assert.h>
#include <string.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 4096 };

static const char before[] = "require 'authkit'.schema { ", after[] = " }";

static struct db *make_db(void)
{
    struct db *db = scratch_db();

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    scratch_exec(db, "CREATE TABLE a (\"_id\" INTEGER PRIMARY KEY,"
                     " \"_creation_time\" INTEGER NOT NULL, t TEXT, n INTEGER NOT NULL,"
                     " b BOOLEAN NOT NULL DEFAULT 1, old REAL NOT NULL);"
                     "CREATE INDEX \"authkitd:a:n\" ON a (n);"
                     "INSERT INTO a VALUES (1, 0, 'x', 1, 0, 1.5), (2, 0, NULL, 1, 1, 2.5);"
                     "CREATE TABLE e (\"_id\" INTEGER PRIMARY KEY,"
                     " \"_creation_time\" INTEGER NOT NULL, t TEXT);"
                     "CREATE TABLE strange (x)");
    return db;
}

/* True when the report speaks of a change, not only of warnings. */
static bool has_change(const struct buf *report)
{
    for (const char *line = buf_text(report); line && *line;) {
        if (strncmp(line, "warning: ", 9) != 0)
            return true;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return false;
}

static void bring(struct script *script, struct db *db)
{
    struct buf plan = BUF_INIT(1 << 20), report = BUF_INIT(1 << 20);
    struct err err = {0};
    int planned;

    scratch_exec(db, "BEGIN IMMEDIATE");
    planned = script_plan(script, db, &plan, &err);
    if (script_migrate(script, db, &report, &err) == 0) {
        assert(planned == 0 && strcmp(buf_text(&plan), buf_text(&report)) == 0);
        buf_reset(&plan);
        planned = script_plan(script, db, &plan, &err);
        if (planned < 0 || has_change(&plan))
            scratch_fail(buf_text(&plan), &err);
    }
    scratch_exec(db, "ROLLBACK");
    buf_release(&plan);
    buf_release(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct db *db;
    static int fd;
    struct script_opts opts = {
        .memory_bytes = 4 << 20, .event_timeout_ms = 100, .action_timeout_ms = 100};
    uint8_t text[TEXT_MAX + sizeof(before) + sizeof(after)];
    char path[SCRATCH_PATH_MAX];
    struct script *script;
    struct err err;

    if (size > TEXT_MAX)
        return 0;
    if (!db)
        db = make_db();
    memcpy(text, before, sizeof(before) - 1);
    memcpy(text + sizeof(before) - 1, data, size);
    memcpy(text + sizeof(before) - 1 + size, after, sizeof(after) - 1);
    scratch_file(&fd, text, sizeof(before) - 1 + size + sizeof(after) - 1, path);
    opts.path = path;
    if (script_load(&script, &opts, &err) < 0)
        return 0;
    bring(script, db);
    script_free(script);
    return 0;
}
