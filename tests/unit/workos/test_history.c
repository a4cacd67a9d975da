/* SPDX-License-Identifier: MIT */
/*
 * Random histories against a model that fits one screen: whatever the order, repetition and loss of
 * the deliveries, the rows are those of the versions that won, and each function ran once, in order.
 *
 * AUTHKITD_SEED repeats what a failure names; AUTHKITD_HISTORIES runs more of them than usual.
 */
#include "workos/mirror.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "unit/store/temp_dir.h"
#include "unit/workos/receive.h"
#include "workos/tables.h"

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

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)
#define SECRET "whsec_test"

enum {
    SEED = 20260112,
    MIRROR_HISTORIES = 4000,
    DOOR_HISTORIES = 60,

    OBJECTS_MAX = 6,
    LIFE_MAX = 7, /* events of one object */
    TOLD_MAX = OBJECTS_MAX * LIFE_MAX,
    DELIVERIES_MAX = TOLD_MAX * 3,
    BODY_MAX = 640,
    MARK_MAX = 16,

    SENDERS = 4,
    PARTS = 4, /* a new script comes behind each part of a history, and a last one in the end */
    LAST_VERSION = PARTS + 1,
    PATIENCE_MS = 20000,
};

/* ------------------------------------------------------------------------- chance */

struct chance {
    uint64_t state;
};

/* splitmix64 */
static uint64_t draw(struct chance *chance)
{
    uint64_t x = chance->state += 0x9E3779B97F4A7C15;

    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

static unsigned below(struct chance *chance, unsigned n)
{
    return (unsigned)(draw(chance) % n);
}

static bool happens(struct chance *chance, unsigned percent)
{
    return below(chance, 100) < percent;
}

static uint64_t number_from_environment(const char *name, uint64_t instead)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : instead;
}

/* ------------------------------------------------------------------------- what happens at WorkOS */

struct kind {
    const char *prefix, *object, *table;
    const char *mark; /* the member and column that tells versions apart */
    const char *changes[4];
    bool is_deletable;
};

static const struct kind kinds[] = {
    {"user", "user", "workos_users", "first_name", {"updated"}, true},
    {"organization", "organization", "workos_organizations", "name", {"updated"}, true},
    {"organization_membership",
     "organization_membership",
     "workos_organization_memberships",
     "role",
     {"updated"},
     true},
    {"invitation",
     "invitation",
     "workos_invitations",
     "state",
     {"resent", "accepted", "revoked"},
     false},
};

struct object {
    const struct kind *kind;
    char id[40];
};

/* An event. Its body is what is delivered, once or more often or never. */
struct told {
    const struct object *object;
    char id[40];
    char mark[MARK_MAX];
    int64_t created_ms, updated_ms;
    bool is_deletion;
    int heals_at; /* its function fails under older scripts */
    bool was_delivered;
    char body[BODY_MAX];
};

struct history {
    uint64_t seed;
    struct chance chance;
    struct object objects[OBJECTS_MAX];
    size_t object_count;
    struct told told[TOLD_MAX];
    size_t told_count;
    struct told *deliveries[DELIVERIES_MAX];
    size_t delivery_count;
};

/* The instant as WorkOS writes it, or as somebody in Paris would. */
static void write_time(struct history *h, int64_t ms, char *out, size_t size)
{
    char text[CLOCK_TEXT_MAX];

    clock_format_ms(ms, text);
    if (happens(&h->chance, 70)) {
        snprintf(out, size, "%s", text);
        return;
    }
    clock_format_ms(ms + 2 * 3600 * 1000, text);
    snprintf(out, size, "%.23s+02:00", text);
}

/* Whose membership it is: of the history's first object, if that is a user. */
static const char *owner(const struct history *h)
{
    return h->objects[0].kind == &kinds[0] ? h->objects[0].id : "user_elsewhere";
}

static void write_body(struct history *h, struct told *told, const char *what, bool trimmed)
{
    const struct kind *kind = told->object->kind;
    bool is_membership = strcmp(kind->mark, "role") == 0;
    char created_at[40], updated_at[40], members[320] = "";

    write_time(h, told->created_ms, created_at, sizeof(created_at));
    write_time(h, told->updated_ms, updated_at, sizeof(updated_at));
    if (!trimmed && is_membership)
        snprintf(members, sizeof(members),
                 ",\"object\":\"%s\",\"user_id\":\"%s\",\"role\":{\"slug\":\"%s\"},"
                 "\"updated_at\":\"%s\"",
                 kind->object, owner(h), told->mark, updated_at);
    else if (!trimmed)
        snprintf(members, sizeof(members), ",\"object\":\"%s\",\"%s\":\"%s\",\"updated_at\":\"%s\"",
                 kind->object, kind->mark, told->mark, updated_at);
    snprintf(told->body, sizeof(told->body),
             "{\"id\":\"%s\",\"event\":\"%s.%s\",\"created_at\":\"%s\","
             "\"data\":{\"id\":\"%s\",\"heals_at\":%d%s}}",
             told->id, kind->prefix, what, created_at, told->object->id, told->heals_at, members);
}

static const char *next_change(struct history *h, const struct kind *kind)
{
    unsigned count = 0;

    while (count < ARRAY_LEN(kind->changes) && kind->changes[count])
        count++;
    return kind->changes[below(&h->chance, count)];
}

/* Ids don't rise with time: of two versions of the same updated_at either may be the later one. */
static struct told *tell(struct history *h, const struct object *object, int64_t ms, int version)
{
    struct told *told = &h->told[h->told_count];

    *told = (struct told){.object = object, .created_ms = ms, .updated_ms = ms};
    snprintf(told->id, sizeof(told->id), "event_%08x%zu_%llu", (unsigned)draw(&h->chance),
             h->told_count, (unsigned long long)h->seed);
    snprintf(told->mark, sizeof(told->mark), "v%d", version);
    if (happens(&h->chance, 30))
        told->heals_at = 1 + (int)below(&h->chance, LAST_VERSION);
    h->told_count++;
    return told;
}

/* Created, changed some times, maybe deleted. */
static void live(struct history *h, const struct kind *kind)
{
    struct object *object = &h->objects[h->object_count];
    int64_t ms = 1768249067000 + below(&h->chance, 1000);
    int versions = 1 + (int)below(&h->chance, LIFE_MAX - 1);

    object->kind = kind;
    snprintf(object->id, sizeof(object->id), "%s_%zu_%llu", kind->prefix, h->object_count,
             (unsigned long long)h->seed);
    h->object_count++;
    for (int version = 0; version < versions; version++) {
        struct told *told = tell(h, object, ms, version);

        write_body(h, told, version == 0 ? "created" : next_change(h, kind), false);
        ms += below(&h->chance, 3); /* 0: the same moment again */
    }
    if (kind->is_deletable && happens(&h->chance, 35)) {
        struct told *told = tell(h, object, ms, versions);

        told->is_deletion = true;
        write_body(h, told, "deleted", happens(&h->chance, 50));
    }
}

/* Every event one to three times, or, in half of the histories, some not at all; in any order. */
static void plan_deliveries(struct history *h)
{
    bool some_get_lost = happens(&h->chance, 50);

    for (size_t i = 0; i < h->told_count; i++) {
        unsigned times = 1 + below(&h->chance, 3);

        if (some_get_lost && happens(&h->chance, 30))
            continue;
        h->told[i].was_delivered = true;
        for (; times > 0; times--)
            h->deliveries[h->delivery_count++] = &h->told[i];
    }
    for (size_t i = h->delivery_count; i > 1; i--) {
        size_t j = below(&h->chance, (unsigned)i);
        struct told *swap = h->deliveries[i - 1];

        h->deliveries[i - 1] = h->deliveries[j];
        h->deliveries[j] = swap;
    }
}

static void make_history(struct history *h, uint64_t seed)
{
    unsigned objects;

    *h = (struct history){.seed = seed, .chance = {.state = seed}};
    objects = 1 + below(&h->chance, OBJECTS_MAX);
    for (unsigned i = 0; i < objects; i++)
        live(h, &kinds[below(&h->chance, ARRAY_LEN(kinds))]);
    plan_deliveries(h);
}

/* ------------------------------------------------------------------------- what must come of it */

/* Of two versions the later updated_at wins, of equal ones the later event id. */
static bool is_later(const struct told *a, const struct told *b)
{
    if (a->updated_ms != b->updated_ms)
        return a->updated_ms > b->updated_ms;
    return strcmp(a->id, b->id) > 0;
}

/* The version that must stand in the table, or NULL. */
static const struct told *winner(const struct history *h, const struct object *object)
{
    const struct told *best = NULL;

    for (size_t i = 0; i < h->told_count; i++) {
        const struct told *told = &h->told[i];

        if (told->object != object || !told->was_delivered)
            continue;
        if (told->is_deletion) /* always, and for good */
            return NULL;
        if (!best || is_later(told, best))
            best = told;
    }
    return best;
}

static void fail_history(const struct history *h, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

static void fail_history(const struct history *h, const char *format, ...)
{
    va_list args;
    char text[1024];

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    print_error("deliveries, in order:\n");
    for (size_t i = 0; i < h->delivery_count; i++)
        print_error("  %s\n", h->deliveries[i]->body);
    fail_msg("AUTHKITD_SEED=%llu: %s", (unsigned long long)h->seed, text);
    abort(); /* not reached */
}

/* What stands in the table of the object: "id of its event, mark", or "nothing". */
struct tables {
    struct db *db;
    struct stmt *versions[ARRAY_LEN(kinds)];
};

static void open_tables(struct tables *tables, struct db *db)
{
    struct err err = {0};
    char sql[256];

    tables->db = db;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        snprintf(sql, sizeof(sql),
                 "SELECT _event_id || ' ' || %s || ' ' || (raw LIKE '%%\"' || %s || '\"%%')"
                 " FROM %s WHERE id = ?",
                 kinds[i].mark, kinds[i].mark, kinds[i].table);
        if (stmt_new(&tables->versions[i], db, sql, &err) < 0)
            fail_msg("%s", err.text);
    }
}

static void close_tables(struct tables *tables)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        stmt_free(tables->versions[i]);
}

static void check_objects(const struct history *h, struct tables *tables)
{
    for (size_t i = 0; i < h->object_count; i++) {
        const struct object *object = &h->objects[i];
        struct stmt *stmt = tables->versions[object->kind - kinds];
        const struct told *wanted = winner(h, object);
        char found[128] = "nothing", expected[128] = "nothing";
        struct err err = {0};

        stmt_bind_str(stmt, 1, object->id);
        if (stmt_step(stmt, &err) == 1)
            snprintf(found, sizeof(found), "%s", stmt_text(stmt, 0, NULL));
        stmt_reset(stmt);
        if (wanted) /* 1: raw is of the same version */
            snprintf(expected, sizeof(expected), "%s %s 1", wanted->id, wanted->mark);
        if (strcmp(found, expected) != 0)
            fail_history(h, "of %s the mirror has %s, not %s", object->id, found, expected);
    }
}

/* ------------------------------------------------------------------------- the mirror alone */

static void apply(const struct history *h, struct mirror *mirror, const struct told *told)
{
    struct event event;
    struct err err = {0};

    if (event_read(&event, told->body, strlen(told->body), &err) < 0 ||
        mirror_apply(mirror, &event, NULL, &err) < 0)
        fail_history(h, "%s: %s", told->body, err.text);
    event_release(&event);
}

static void must_exec(struct db *db, const char *sql)
{
    struct err err = {0};

    if (db_exec(db, sql, &err) < 0)
        fail_msg("%s: %s", sql, err.text);
}

static void history__mirror_has_the_versions_that_win(void **state)
{
    static struct history h;
    uint64_t seed = number_from_environment("AUTHKITD_SEED", SEED);
    uint64_t count = number_from_environment("AUTHKITD_HISTORIES", MIRROR_HISTORIES);
    struct tables tables;
    struct mirror *mirror = NULL;
    struct db *db = NULL;
    struct err err = {0};

    (void)state;
    if (db_open(&db, "test.db", DB_WRITER, &err) < 0 || tables_migrate(db, &err) < 0 ||
        mirror_prepare(&mirror, db, &err) < 0)
        fail_msg("%s", err.text);
    open_tables(&tables, db);
    for (uint64_t i = 0; i < count; i++) {
        make_history(&h, seed + i);
        must_exec(db, "BEGIN"); /* never on disk: there are thousands */
        for (size_t d = 0; d < h.delivery_count; d++)
            apply(&h, mirror, h.deliveries[d]);
        check_objects(&h, &tables);
        must_exec(db, "ROLLBACK");
    }
    close_tables(&tables);
    mirror_release(mirror);
    db_close(db);
}

/* ------------------------------------------------------------------------- through the door */

/* What the functions write: which event ran, in which order, and whether it was told to be late. */
static const char handlers[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { runs = { columns = { event_id = 'text', late = 'boolean' } } }\n"
    "local function run(ctx, event)\n"
    "  ctx.db.insert('runs', { event_id = event.id, late = event.late })\n"
    "  if event.data.heals_at > VERSION then error('not yet') end\n"
    "end\n"
    "local functions = {}\n"
    "for object, changes in pairs {\n"
    "  user = { 'created', 'updated', 'deleted' },\n"
    "  organization = { 'created', 'updated', 'deleted' },\n"
    "  organization_membership = { 'created', 'updated', 'deleted' },\n"
    "  invitation = { 'created', 'resent', 'accepted', 'revoked' },\n"
    "} do\n"
    "  for _, change in ipairs(changes) do functions[object .. '.' .. change] = run end\n"
    "end\n"
    "authkit.events(functions)\n";

struct service {
    struct db *db;
    struct workos *workos;
    struct signing_keys *keys;
    struct db *reader;
    struct tables tables;
};

static void start(struct service *s)
{
    struct workos_opts opts = {.webhook_secret = SECRET, .max_queue = 100};
    struct err err = {0};

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT); /* failures are what is tested here */
    if (db_open(&s->db, "test.db", DB_WRITER, &err) < 0)
        fail_msg("%s", err.text);
    opts.db = s->db;
    if (workos_open(&s->workos, &opts, &err) < 0 || signing_keys_new(&s->keys, SECRET, &err) < 0 ||
        db_open(&s->reader, "test.db", DB_READER, &err) < 0)
        fail_msg("%s", err.text);
    open_tables(&s->tables, s->reader);
}

static void stop(struct service *s)
{
    close_tables(&s->tables);
    db_close(s->reader);
    workos_close(s->workos);
    db_close(s->db);
    signing_keys_free(s->keys);
}

static void install(struct service *s, int version)
{
    struct script_opts opts = {.path = "handlers.lua",
                               .memory_bytes = 16 << 20,
                               .event_timeout_ms = PATIENCE_MS,
                               .action_timeout_ms = PATIENCE_MS};
    struct buf report = BUF_INIT(65536);
    struct script *script = NULL;
    FILE *file = fopen("handlers.lua", "w");
    struct err err = {0};

    assert_non_null(file);
    fprintf(file, "local VERSION = %d\n%s", version, handlers);
    assert_int_equal(fclose(file), 0);
    opts.tables = mirror_script_tables(&opts.table_count);
    if (script_load(&script, &opts, &err) < 0 ||
        workos_install(s->workos, script, &report, &err) < 0)
        fail_msg("version %d: %s", version, err.text);
    buf_release(&report);
}

/* Several senders take what is next until the part of the history is over. */
struct part {
    const struct service *service;
    struct history *history;
    size_t end;
    atomic_size_t next;
    atomic_int refused;
};

static void *send_part(void *arg)
{
    struct part *part = arg;
    size_t i;

    while ((i = atomic_fetch_add(&part->next, 1)) < part->end) {
        const char *body = part->history->deliveries[i]->body;
        char header[SIGNATURE_HEADER_MAX];
        enum signature_status status;
        enum webhook_result result = WEBHOOK_REFUSED;
        struct err err = {0};

        if (signature_make_header(part->service->keys, clock_wall_ms(), body, strlen(body), header,
                                  &err) == 0)
            result =
                receive_webhook(part->service->workos, header, body, strlen(body), &status, &err);
        if (result != WEBHOOK_RECEIVED && result != WEBHOOK_DUPLICATE)
            atomic_fetch_add(&part->refused, 1);
    }
    return NULL;
}

static void deliver_part(struct service *s, struct history *h, size_t from, size_t end)
{
    struct part part = {.service = s, .history = h, .end = end};
    pthread_t senders[SENDERS];

    atomic_store(&part.next, from);
    for (size_t i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&senders[i], NULL, send_part, &part), 0);
    for (size_t i = 0; i < SENDERS; i++)
        pthread_join(senders[i], NULL);
    if (atomic_load(&part.refused))
        fail_history(h, "%d deliveries were not taken", atomic_load(&part.refused));
}

static int64_t count_rows(struct service *s, const char *sql)
{
    struct stmt *stmt = NULL;
    struct err err = {0};
    int64_t count;

    if (stmt_new(&stmt, s->reader, sql, &err) < 0 || stmt_step(stmt, &err) != 1)
        fail_msg("%s: %s", sql, err.text);
    count = stmt_int(stmt, 0);
    stmt_free(stmt);
    return count;
}

static void wait_until_all_is_done(struct service *s, const struct history *h)
{
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

    while (count_rows(s, "SELECT count(*) FROM workos_events WHERE status <> 'done'") > 0) {
        if (clock_mono_ms() > deadline_ms)
            fail_history(h, "not all is done: %lld failed, %lld waiting, %lld dead",
                         (long long)count_rows(s, "SELECT count(*) FROM workos_events"
                                                  " WHERE status = 'failed'"),
                         (long long)count_rows(s, "SELECT count(*) FROM workos_events"
                                                  " WHERE status = 'waiting'"),
                         (long long)count_rows(s, "SELECT count(*) FROM workos_events"
                                                  " WHERE status = 'dead'"));
        usleep(500);
    }
}

static const struct told *find_told(const struct history *h, const char *id)
{
    for (size_t i = 0; i < h->told_count; i++)
        if (strcmp(h->told[i].id, id) == 0)
            return &h->told[i];
    return NULL;
}

/* Was one of the object's events that is newer, by the time that it was made, among those? */
static bool newer_ran(const struct told *const *ran, size_t count, const struct told *told)
{
    for (size_t i = 0; i < count; i++)
        if (ran[i]->object == told->object &&
            (ran[i]->created_ms > told->created_ms ||
             (ran[i]->created_ms == told->created_ms && strcmp(ran[i]->id, told->id) > 0)))
            return true;
    return false;
}

/* Each event of this history ran once; each object's in the order of arrival. */
static void check_runs(struct service *s, const struct history *h, int64_t first_run)
{
    const struct told *ran[TOLD_MAX];
    int64_t arrivals[TOLD_MAX];
    size_t count = 0, delivered = 0;
    struct stmt *stmt = NULL;
    struct err err = {0};

    for (size_t i = 0; i < h->told_count; i++)
        delivered += h->told[i].was_delivered;
    if (stmt_new(&stmt, s->reader,
                 "SELECT event_id, late, _seq FROM runs LEFT JOIN workos_events"
                 " ON workos_events.id = event_id WHERE runs._id > ? ORDER BY runs._id",
                 &err) < 0)
        fail_msg("%s", err.text);
    stmt_bind_int(stmt, 1, first_run);
    while (stmt_step(stmt, &err) == 1) {
        const char *id = stmt_text(stmt, 0, NULL);
        const struct told *told = find_told(h, id);

        if (!told || count == delivered)
            fail_history(h, "%s ran, and was not delivered or ran before", id);
        for (size_t i = 0; i < count; i++) {
            if (ran[i] == told)
                fail_history(h, "%s ran twice", id);
            if (ran[i]->object == told->object && arrivals[i] > stmt_int(stmt, 2))
                fail_history(h, "%s ran behind %s, which had come later", id, ran[i]->id);
        }
        if (stmt_int(stmt, 1) != newer_ran(ran, count, told))
            fail_history(h, "%s was told late = %d", id, (int)stmt_int(stmt, 1));
        ran[count] = told;
        arrivals[count++] = stmt_int(stmt, 2);
    }
    stmt_free(stmt);
    if (count != delivered)
        fail_history(h, "%zu events ran, of %zu that were delivered", count, delivered);
}

/* What is kept of those who were deleted is ids. */
static void check_erasure(struct service *s, const struct history *h)
{
    int64_t kept = count_rows(s, "SELECT count(*) FROM workos_events JOIN authkitd_tombstones"
                                 " ON authkitd_tombstones.id = user_id"
                                 " WHERE payload IS NOT NULL OR last_error IS NOT NULL");

    if (kept)
        fail_history(h, "%lld payloads of deleted users are still there", (long long)kept);
}

static void run_history(struct service *s, struct history *h)
{
    int64_t first_run = count_rows(s, "SELECT coalesce(max(_id), 0) FROM runs");

    for (int part = 0; part < PARTS; part++) {
        size_t from = h->delivery_count * (size_t)part / PARTS;

        deliver_part(s, h, from, h->delivery_count * ((size_t)part + 1) / PARTS);
        install(s, part + 1);
    }
    install(s, LAST_VERSION);
    wait_until_all_is_done(s, h);
    check_runs(s, h, first_run);
    check_objects(h, &s->tables);
    check_erasure(s, h);
}

static void history__functions_run_once_and_in_order(void **state)
{
    static struct history h;
    uint64_t seed = number_from_environment("AUTHKITD_SEED", SEED);
    uint64_t count = number_from_environment("AUTHKITD_HISTORIES", DOOR_HISTORIES);
    struct service s = {0};

    (void)state;
    start(&s);
    for (uint64_t i = 0; i < count; i++) {
        install(&s, 0);
        make_history(&h, seed + i);
        run_history(&s, &h);
    }
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(history__mirror_has_the_versions_that_win),
        IN_TEMP_DIR(history__functions_run_once_and_in_order),
    };

    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
