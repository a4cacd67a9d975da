/* SPDX-License-Identifier: MIT */
/* ctx.db against a plain Lua model (model.lua), across reloads that add columns. */
#include "script/script.h"
#include "store/db.h"
#include "workos/mirror.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { RELOADS = 8, RUNS = 4, OPERATIONS = 150 };

static void must(int rc, const struct err *err, unsigned seed)
{
    if (rc < 0)
        fail_msg("seed %u: %s", seed, err->text);
}

static void write_script(const char *folder, int extra)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/handlers.lua", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "require 'model' {");
    for (int i = 1; i <= extra; i++)
        fprintf(file, " 'extra%d',", i);
    fprintf(file, " }\n");
    assert_int_equal(fclose(file), 0);
}

static void run(struct script *script, struct db *db, unsigned seed)
{
    struct json event = {0};
    struct err err;
    char text[128];

    snprintf(text, sizeof(text),
             "{\"id\":\"e\",\"event\":\"model.run\",\"data\":{\"seed\":%u,\"operations\":%d}}",
             seed, OPERATIONS);
    must(json_read(&event, text, strlen(text), &err), &err, seed);
    must(db_exec(db, "BEGIN IMMEDIATE", &err), &err, seed);
    must(script_run_event(script, db, "model.run", &event, false, &err), &err, seed);
    must(db_exec(db, "COMMIT", &err), &err, seed);
    json_release(&event);
}

static void load_and_run(const char *folder, struct db *db, int extra, unsigned seed)
{
    struct script_opts opts = {.memory_bytes = 64 << 20, .event_timeout_ms = 60000};
    struct buf report = BUF_INIT(65536);
    struct script *script = NULL;
    char path[128];
    struct err err;

    write_script(folder, extra);
    snprintf(path, sizeof(path), "%s/handlers.lua", folder);
    opts.path = path;
    opts.tables = mirror_script_tables(&opts.table_count);
    must(script_load(&script, &opts, &err), &err, seed);
    must(db_exec(db, "BEGIN IMMEDIATE", &err), &err, seed);
    must(script_migrate(script, db, &report, &err), &err, seed);
    must(db_exec(db, "COMMIT", &err), &err, seed);
    for (unsigned i = 0; i < RUNS; i++)
        run(script, db, seed * 100 + i);
    script_free(script);
    buf_release(&report);
}

static void model__tables_and_model_agree_across_reloads(void **state)
{
    char folder[] = "/tmp/authkitd-model-XXXXXX", here[512], command[700], path[128];
    struct db *db = NULL;
    struct err err;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_non_null(getcwd(here, sizeof(here)));
    snprintf(command, sizeof(command), "cp '%s/tests/unit/script/model.lua' '%s/'", here, folder);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof(path), "%s/model.db", folder);
    must(db_open(&db, path, DB_WRITER, &err), &err, 0);
    for (int reload = 0; reload < RELOADS; reload++)
        load_and_run(folder, db, reload, (unsigned)reload + 1);
    db_close(db);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model__tables_and_model_agree_across_reloads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
