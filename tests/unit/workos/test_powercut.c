/* SPDX-License-Identifier: MIT */
/*
 * What an acknowledgement is worth: the service runs on a disk that fails or loses its power, again
 * and again. After every round the database is whole, what was acknowledged is there once, with all
 * that its function wrote, and what was not is there wholly or not at all.
 *
 * The seed is told when something is wrong; AUTHKITD_SEED repeats a run, as far as the threads of
 * the random rounds let it (the others have one thread only).
 */

#include "base/clock.h"
#include "base/log.h"
#include "unit/store/fault_vfs.h"
#include "unit/store/temp_dir.h"
#include "unit/workos/receive.h"
#include "workos/mirror.h"

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECRET "whsec_test"

enum { EVENTS_MAX = 4000, SENDERS = 4, PADDING_MAX = 6000, BODY_MAX = PADDING_MAX + 1024 };

/* Every fifth event deletes the user whom the one four before it created. */
enum { DELETION = 4, CYCLE = 5 };

static const char handlers[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { parts = { columns = { event_id = 'text', text = 'text' },\n"
    "                           indexes = { { 'event_id' } } } }\n"
    "local function note(ctx, event)\n"
    "  ctx.db.insert('parts', { event_id = event.id, text = 'first' })\n"
    "  ctx.db.insert('parts', { event_id = event.id, text = ('x'):rep(#event.data.id * 100) })\n"
    "  ctx.db.insert('parts', { event_id = event.id, text = 'third' })\n"
    "end\n"
    "authkit.events { ['user.created'] = note, ['user.deleted'] = note }\n";

enum { PARTS = 3 };

enum fate { UNSENT, UNSURE, ACKNOWLEDGED };

/* A database's life, over many rounds. */
struct world {
    uint64_t random;
    int event_count;
    atomic_int fates[EVENTS_MAX];
    char story[300]; /* for the one who has to find out why */

    /* of the round that runs */
    struct db *db;
    struct workos *workos;
    struct signing_keys *keys;
    int queue[EVENTS_MAX];
    int queue_len;
    atomic_int next;
    atomic_bool is_fatal;
    atomic_int wrong_answers;
};

static struct world world;

#define CHECK(w, condition)                                       \
    do {                                                          \
        if (!(condition))                                         \
            fail_msg("%s: %s is not so", (w)->story, #condition); \
    } while (0)

static uint64_t seed(void)
{
    const char *given = getenv("AUTHKITD_SEED");

    return given ? strtoull(given, NULL, 10) : (uint64_t)clock_wall_ms();
}

static long below(struct world *w, long n)
{
    return (long)(fault_random(&w->random) % (uint64_t)n);
}

/* ------------------------------------------------------------------- one round's life */

static void note_fatal(void *arg, const struct err *err)
{
    struct world *w = arg;

    (void)err;
    atomic_store(&w->is_fatal, true);
}

static int install(struct world *w, struct err *err)
{
    struct script_opts opts = {.path = "handlers.lua",
                               .memory_bytes = 16 << 20,
                               .event_timeout_ms = 10000,
                               .action_timeout_ms = 10000};
    struct buf report = BUF_INIT(65536);
    struct script *script = NULL;
    int rc;

    opts.tables = mirror_script_tables(&opts.table_count);
    rc = script_load(&script, &opts, err);
    if (rc == 0)
        rc = workos_install(w->workos, script, &report, err);
    if (rc < 0)
        script_free(script);
    buf_release(&report);
    return rc;
}

static void shut_down(struct world *w)
{
    workos_close(w->workos);
    db_close(w->db);
    w->workos = NULL;
    w->db = NULL;
}

static int boot(struct world *w, struct err *err)
{
    struct workos_opts opts = {
        .webhook_secret = SECRET, .max_queue = 100, .on_fatal = note_fatal, .arg = w};
    int rc = db_open(&w->db, "test.db", DB_WRITER, err);

    opts.db = w->db;
    if (rc == 0)
        rc = workos_open(&w->workos, &opts, err);
    if (rc == 0)
        rc = install(w, err);
    if (rc < 0)
        shut_down(w);
    return rc;
}

static void write_body(char body[BODY_MAX], int number)
{
    bool deletes = number % CYCLE == DELETION;
    size_t padding = (size_t)number * 7919 % PADDING_MAX;

    if (number % 3)
        padding /= 20; /* most are small */
    snprintf(body, BODY_MAX,
             "{\"id\":\"event_%d\",\"event\":\"user.%s\",\"data\":{\"object\":\"user\","
             "\"id\":\"user_%d\",\"email\":\"u%d@example.com\",\"name\":\"%0*d\","
             "\"updated_at\":\"2026-01-12T20:17:47.677Z\"},"
             "\"created_at\":\"2026-01-12T20:17:47.677Z\"}",
             number, deletes ? "deleted" : "created", deletes ? number - DELETION : number, number,
             (int)padding + 1, number);
}

static void deliver(struct world *w, int number)
{
    bool was_fatal = atomic_load(&w->is_fatal);
    enum signature_status status;
    char header[SIGNATURE_HEADER_MAX];
    char body[BODY_MAX];
    struct err err = {0};

    write_body(body, number);
    if (signature_make_header(w->keys, clock_wall_ms(), body, strlen(body), header, &err) < 0)
        abort();
    switch (receive_webhook(w->workos, header, body, strlen(body), &status, &err)) {
    case WEBHOOK_RECEIVED:
    case WEBHOOK_DUPLICATE:
        atomic_store(&w->fates[number], ACKNOWLEDGED);
        if (was_fatal)
            atomic_fetch_add(&w->wrong_answers, 1);
        break;
    case WEBHOOK_UNAVAILABLE:
        atomic_store(&w->fates[number], UNSURE);
        break;
    default:
        atomic_fetch_add(&w->wrong_answers, 1);
    }
}

static void *send_queue(void *arg)
{
    struct world *w = arg;
    int i;

    while ((i = atomic_fetch_add(&w->next, 1)) < w->queue_len)
        deliver(w, w->queue[i]);
    return NULL;
}

/* New events, behind those that WorkOS delivers again. */
static void fill_queue(struct world *w, int new_events)
{
    w->queue_len = 0;
    atomic_store(&w->next, 0);
    for (int i = 0; i < w->event_count; i++)
        if (atomic_load(&w->fates[i]) != ACKNOWLEDGED)
            w->queue[w->queue_len++] = i;
    for (int i = 0; i < new_events && w->event_count < EVENTS_MAX; i++)
        w->queue[w->queue_len++] = w->event_count++;
}

static void send_all(struct world *w, int senders)
{
    pthread_t threads[SENDERS];

    for (int i = 1; i < senders; i++)
        if (pthread_create(&threads[i], NULL, send_queue, w) != 0)
            abort();
    send_queue(w);
    for (int i = 1; i < senders; i++)
        pthread_join(threads[i], NULL);
}

/* ------------------------------------------------------------------------ looking at it */

/* counts[n] = the value that the SELECT has for "…_n". False when there is no such table yet. */
static bool count_by_number(struct world *w, struct db *db, const char *sql, int *counts)
{
    struct stmt *stmt = NULL;
    struct err err = {0};
    int rc;

    memset(counts, 0, EVENTS_MAX * sizeof(*counts));
    rc = stmt_new(&stmt, db, sql, &err);
    if (rc == ERR_INVALID && strstr(err.text, "no such table"))
        return false;
    while (rc >= 0 && (rc = stmt_step(stmt, &err)) == 1) {
        int number = atoi(strchr(stmt_text(stmt, 0, NULL), '_') + 1);

        CHECK(w, number >= 0 && number < w->event_count);
        counts[number] += (int)stmt_int(stmt, 1);
    }
    stmt_free(stmt);
    if (rc < 0)
        fail_msg("%s: %s", w->story, err.text);
    return true;
}

static void check_integrity(struct world *w, struct db *db)
{
    struct stmt *stmt = NULL;
    struct err err = {0};
    int rc = stmt_new(&stmt, db, "PRAGMA integrity_check", &err);

    if (rc == 0)
        rc = stmt_step(stmt, &err);
    if (rc < 0)
        fail_msg("%s: %s", w->story, err.text);
    if (strcmp(stmt_text(stmt, 0, NULL), "ok") != 0)
        fail_msg("%s: %s", w->story, stmt_text(stmt, 0, NULL));
    stmt_free(stmt);
}

static void check_events(struct world *w, struct db *db)
{
    static int events[EVENTS_MAX], parts[EVENTS_MAX], users[EVENTS_MAX], payloads[EVENTS_MAX];
    static int tombstones[EVENTS_MAX];
    bool is_made = count_by_number(w, db, "SELECT id, 1 FROM workos_events", events);

    count_by_number(w, db, "SELECT event_id, 1 FROM parts", parts);
    count_by_number(w, db,
                    "SELECT id, email = 'u' || substr(id, 6) || '@example.com'"
                    " FROM workos_users",
                    users);
    count_by_number(w, db, "SELECT id, 1 FROM authkitd_tombstones", tombstones);
    count_by_number(w, db, "SELECT id, payload IS NOT NULL FROM workos_events", payloads);
    for (int i = 0; i < w->event_count; i++) {
        bool deletes = i % CYCLE == DELETION;
        bool is_deleted =
            deletes ? events[i]
                    : i % CYCLE == 0 && i + DELETION < w->event_count && events[i + DELETION];

        if (events[i] > 1 || (atomic_load(&w->fates[i]) == ACKNOWLEDGED && events[i] != 1))
            fail_msg("%s: event_%d is there %d times%s", w->story, i, events[i],
                     is_made ? "" : ", nor is its table");
        if (parts[i] != PARTS * events[i])
            fail_msg("%s: event_%d has %d parts", w->story, i, parts[i]);
        if (users[i] != (!deletes && events[i] && !is_deleted))
            fail_msg("%s: user_%d is there %d times", w->story, i, users[i]);
        if (payloads[i] != (events[i] && !is_deleted))
            fail_msg("%s: event_%d has %d payloads", w->story, i, payloads[i]);
        if (tombstones[i] != (!deletes && is_deleted))
            fail_msg("%s: user_%d has %d tombstones", w->story, i, tombstones[i]);
    }
}

/* On a disk that works. */
static void look(struct world *w)
{
    struct db *db = NULL;
    struct err err = {0};

    fault_disk_start(&(struct fault_plan){0});
    if (db_open(&db, "test.db", DB_WRITER, &err) < 0)
        fail_msg("%s: %s", w->story, err.text);
    check_integrity(w, db);
    check_events(w, db);
    db_close(db);
    fault_disk_reboot(false);
}

/* ------------------------------------------------------------------------------- rounds */

/* Returns whether something of the plan happened. */
static bool do_round(struct world *w, const struct fault_plan *plan, int new_events, int senders,
                     bool cut)
{
    bool must_end = plan->fail_at_sync || plan->fail_at_write; /* whatever has failed is fatal */
    bool failed_while_up = false, failed;
    struct err err = {0};
    int rc;

    atomic_store(&w->is_fatal, false);
    atomic_store(&w->wrong_answers, 0);
    fill_queue(w, new_events);
    fault_disk_start(plan);
    rc = boot(w, &err);
    if (rc == 0) {
        send_all(w, senders);
        failed_while_up = fault_disk_has_failed();
        shut_down(w); /* its checkpoint may fail, too */
    }
    failed = fault_disk_has_failed();
    if (rc < 0 && !failed)
        fail_msg("%s: %s", w->story, err.text);
    CHECK(w, atomic_load(&w->wrong_answers) == 0);
    CHECK(w, !(rc == 0 && failed_while_up && must_end) || atomic_load(&w->is_fatal));
    CHECK(w, !atomic_load(&w->is_fatal) || failed);
    fault_disk_reboot(cut || plan->cut_at);
    look(w);
    return failed;
}

static void begin_world(struct world *w, uint64_t number)
{
    FILE *file = fopen("handlers.lua", "w");
    struct err err;

    *w = (struct world){.random = number};
    assert_non_null(file);
    fputs(handlers, file);
    fclose(file);
    assert_int_equal(signing_keys_new(&w->keys, SECRET, &err), 0);
    unlink("test.db");
    unlink("test.db-wal");
    unlink("test.db-shm");
    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
}

/* In the end WorkOS has delivered everything again, also what it need not. */
static void end_world(struct world *w)
{
    for (int i = 0; i < w->event_count; i++)
        atomic_store(&w->fates[i], UNSURE);
    do_round(w, &(struct fault_plan){0}, 0, 1, false);
    for (int i = 0; i < w->event_count; i++)
        CHECK(w, atomic_load(&w->fates[i]) == ACKNOWLEDGED);
    signing_keys_free(w->keys);
}

static void powercut__at_random_moments_loses_nothing_acknowledged(void **state)
{
    enum { WORLDS = 8, ROUNDS = 25 };
    uint64_t first = seed();
    long met = 0;

    (void)state;
    for (uint64_t i = 0; i < WORLDS; i++) {
        begin_world(&world, first + i);
        for (int round = 0; round < ROUNDS; round++) {
            struct fault_plan plan = {.seed = fault_random(&world.random)};

            plan.cut_at = 1 + below(&world, round == 0 ? 60 : 120);
            snprintf(world.story, sizeof(world.story),
                     "AUTHKITD_SEED=%" PRIu64 ", world %" PRIu64
                     ", round %d, power cut at operation %ld",
                     first, i, round, plan.cut_at);
            met += do_round(&world, &plan, 1 + (int)below(&world, 12), 1 + (int)below(&world, 4),
                            true);
        }
        end_world(&world);
    }
    if (getenv("AUTHKITD_SEED"))
        print_message("%ld of %d rounds were cut short\n", met, WORLDS * ROUNDS);
    assert_true(met > WORLDS * ROUNDS / 4);
}

/* What fails, at the n-th call of its kind. */
static const struct failure {
    const char *name;
    struct fault_plan plan; /* a 1 stands for n */
    bool cuts;              /* whoever was at it isn't trusted with what it left in memory */
    int stride;
} failures[] = {
    {"write", {.fail_at_write = 1}, false, 6},
    {"torn write", {.fail_at_write = 1, .tears = true}, true, 6},
    {"full disk", {.full_at_write = 1, .full_writes = 20}, false, 6},
    {"torn write on a full disk", {.full_at_write = 1, .full_writes = 5, .tears = true}, true, 8},
    {"sync", {.fail_at_sync = 1}, true, 1},
    {"operation before a power cut", {.cut_at = 1}, true, 4},
};

static struct fault_plan plan_for(const struct failure *failure, long n, uint64_t seed_)
{
    struct fault_plan plan = failure->plan;

    plan.fail_at_write *= n;
    plan.full_at_write *= n;
    plan.fail_at_sync *= n;
    plan.cut_at *= n;
    plan.seed = seed_;
    return plan;
}

/* For n = 1, 2, 3 … until a round passes without meeting it. Some calls are left out, other ones
 * in every run. */
static void try_each(bool anew)
{
    uint64_t first = seed();

    for (size_t kind = 0; kind < ARRAY_LEN(failures); kind++) {
        const struct failure *failure = &failures[kind];
        bool met = true;

        begin_world(&world, first + kind);
        for (long n = 1; met; n += 1 + below(&world, failure->stride)) {
            struct fault_plan plan = plan_for(failure, n, fault_random(&world.random));

            if (anew) {
                signing_keys_free(world.keys);
                begin_world(&world, first + kind + (uint64_t)n);
            }
            snprintf(world.story, sizeof(world.story), "AUTHKITD_SEED=%" PRIu64 ", %s %ld%s", first,
                     failure->name, n, anew ? " of a new database" : "");
            met = do_round(&world, &plan, 3, 1, failure->cuts);
            if (getenv("AUTHKITD_SEED") && !met)
                print_message("%s: %ld\n", failure->name, n);
        }
        end_world(&world);
    }
}

static void powercut__any_failure_at_any_moment_loses_nothing_acknowledged(void **state)
{
    (void)state;
    try_each(false);
}

static void powercut__any_failure_while_the_database_is_made_is_survived(void **state)
{
    (void)state;
    try_each(true);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(powercut__at_random_moments_loses_nothing_acknowledged),
        IN_TEMP_DIR(powercut__any_failure_at_any_moment_loses_nothing_acknowledged),
        IN_TEMP_DIR(powercut__any_failure_while_the_database_is_made_is_survived),
    };

    fault_vfs_install();
    return cmocka_run_group_tests_name("powercut", tests, NULL, NULL);
}
