/* SPDX-License-Identifier: MIT */
/*
 * bench_db - what ctx.db costs beside SQLite itself.
 *
 * A handler that inserts, reads, patches and deletes ROWS rows, against the same statements, prepared
 * and bound by hand. Both run inside a transaction that the timing leaves out, in turn, ROUNDS
 * rounds of CALLS calls; printed are the medians in µs a call and their ratio.
 */
#include "store/db.h"
#include "base/clock.h"
#include "script/script.h"
#include "workos/mirror.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 10, CALLS = 200, ROUNDS = 101 };

static const char script_text[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { todos = { columns = { title = 'text', user_id = 'text', done = 'boolean' },\n"
    "                           indexes = { { 'user_id' } } } }\n"
    "authkit.events { ['bench.rows'] = function(ctx, event)\n"
    "   local db = ctx.db\n"
    "   for i = 1, 10 do\n"
    "      local id = db.insert('todos', { title = 'write it', user_id = 'user_1', done = false "
    "})\n"
    "      local row = db.get('todos', id)\n"
    "      db.patch('todos', row._id, { done = true })\n"
    "      db.delete('todos', row._id)\n"
    "   end\n"
    "end }\n";

static void must(int rc, const struct err *err)
{
    if (rc < 0) {
        fprintf(stderr, "bench_db: %s\n", err->text);
        exit(1);
    }
}

static double time_script(struct script *script, struct db *db, const struct json *event)
{
    struct err err;
    int64_t start = clock_mono_ns();

    for (int i = 0; i < CALLS; i++)
        must(script_run_event(script, db, "bench.rows", event, false, &err), &err);
    return (double)(clock_mono_ns() - start) / 1000.0 / CALLS;
}

struct bare {
    struct stmt *insert, *get, *patch, *remove;
};

static void prepare_bare(struct bare *bare, struct db *db)
{
    struct err err;

    must(stmt_new(&bare->insert, db,
                  "INSERT INTO todos (_creation_time, done, title, user_id) VALUES (?, ?, ?, ?)",
                  &err),
         &err);
    must(stmt_new(&bare->get, db,
                  "SELECT _id, _creation_time, done, title, user_id FROM todos WHERE _id = ?",
                  &err),
         &err);
    must(stmt_new(&bare->patch, db, "UPDATE todos SET done = ? WHERE _id = ?", &err), &err);
    must(stmt_new(&bare->remove, db, "DELETE FROM todos WHERE _id = ?", &err), &err);
}

static size_t read_row(struct stmt *get)
{
    size_t len, sum = 0;

    sum += (size_t)stmt_int(get, 0) + (size_t)stmt_int(get, 1) + (size_t)stmt_int(get, 2);
    sum += stmt_text(get, 3, &len) ? len : 0;
    sum += stmt_text(get, 4, &len) ? len : 0;
    return sum;
}

static void run_bare(struct bare *bare, struct db *db)
{
    struct err err;
    static volatile size_t sink;

    for (int i = 0; i < ROWS; i++) {
        int64_t id;

        stmt_bind_int(bare->insert, 1, clock_wall_ms());
        stmt_bind_int(bare->insert, 2, 0);
        stmt_bind_str(bare->insert, 3, "write it");
        stmt_bind_str(bare->insert, 4, "user_1");
        must(stmt_run(bare->insert, &err), &err);
        id = db_last_insert_rowid(db);
        stmt_bind_int(bare->get, 1, id);
        must(stmt_step(bare->get, &err), &err);
        sink += read_row(bare->get);
        stmt_reset(bare->get);
        stmt_bind_int(bare->patch, 1, 1);
        stmt_bind_int(bare->patch, 2, id);
        must(stmt_run(bare->patch, &err), &err);
        stmt_bind_int(bare->remove, 1, id);
        must(stmt_run(bare->remove, &err), &err);
    }
}

static double time_bare(struct bare *bare, struct db *db)
{
    int64_t start = clock_mono_ns();

    for (int i = 0; i < CALLS; i++)
        run_bare(bare, db);
    return (double)(clock_mono_ns() - start) / 1000.0 / CALLS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

static void measure(struct script *script, struct db *db)
{
    double scripted[ROUNDS], bared[ROUNDS], ratios[ROUNDS];
    struct json event = {0};
    struct bare bare = {0};
    struct err err;
    const char text[] = "{\"id\":\"e\",\"event\":\"bench.rows\",\"data\":{}}";

    must(json_read(&event, text, strlen(text), &err), &err);
    prepare_bare(&bare, db);
    for (int i = 0; i < ROUNDS; i++) {
        must(db_exec(db, "BEGIN IMMEDIATE", &err), &err);
        scripted[i] = time_script(script, db, &event);
        bared[i] = time_bare(&bare, db);
        ratios[i] = scripted[i] / bared[i];
        must(db_exec(db, "COMMIT", &err), &err);
    }
    printf("%-44s %8.1f µs\n", "handler: 10 rows in, read, patched, out", median(scripted, ROUNDS));
    printf("%-44s %8.1f µs\n", "the same statements in bare SQLite", median(bared, ROUNDS));
    printf("%-44s %8.2f ×  (below 2 is the aim)\n", "ratio, median of the rounds",
           median(ratios, ROUNDS));
    json_release(&event);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    char folder[1024], path[1088], db_path[1088], cleanup[1088];
    struct script_opts opts = {.path = path, .memory_bytes = 64 << 20, .event_timeout_ms = 60000};
    struct script *script = NULL;
    struct buf report = BUF_INIT(65536);
    struct db *db = NULL;
    struct err err;
    FILE *file;

    snprintf(folder, sizeof(folder), "%s/authkitd-bench-db-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof(path), "%s/handlers.lua", folder);
    snprintf(db_path, sizeof(db_path), "%s/bench.db", folder);
    file = fopen(path, "w");
    if (!file || fputs(script_text, file) < 0 || fclose(file) != 0)
        return 1;
    opts.tables = mirror_script_tables(&opts.table_count);
    must(db_open(&db, db_path, DB_WRITER, &err), &err);
    must(script_load(&script, &opts, &err), &err);
    must(script_migrate(script, db, &report, &err), &err);
    measure(script, db);
    script_free(script);
    db_close(db);
    buf_release(&report);
    snprintf(cleanup, sizeof(cleanup), "rm -rf '%s'", folder);
    return system(cleanup) == 0 ? 0 : 1;
}
