/* SPDX-License-Identifier: MIT */
/*
 * Events to the mirror's rows. The input is one body or several, with a NUL between them.
 *
 * Whatever the order and repetition of the events, the rows are those of the versions that the rule
 * (mirror.h) names, and what stands in them is what SQLite's own JSON functions find in the object.
 * The tables are those that the mirror says it has.
 *
 * libFuzzer: -dict=tests/fuzz/event.dict -detect_leaks=0
 */
#include "workos/mirror.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "workos/tables.h"

#include <assert.h>
#include <string.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EVENTS_MAX = 16, DUMP_MAX = 8 * 1024 * 1024, SQL_MAX = 16 * 1024, TABLES_MAX = 16 };

static struct db *db;
static struct mirror *mirror;
static const struct script_table *tables;
static size_t table_count;
static struct stmt *dumps[TABLES_MAX + 1]; /* the tombstones' last */
static struct stmt *checks[TABLES_MAX];
static struct stmt *versions[TABLES_MAX];

/* --- what must hold of every row ----------------------------------------------------------------- */

/*
 * An expression that is true when the column holds what raw says. A text column takes nothing but a
 * text, or a part of an object (the slug of a role).
 */
static void write_check(struct buf *sql, const struct script_column *column)
{
    const char *name = column->name;

    if (strcmp(name, "raw") == 0)
        buf_puts(sql, "json_valid(raw)");
    else if (column->type == SCRIPT_JSON)
        buf_printf(sql,
                   "CASE coalesce(json_type(raw, '$.%s'), 'null') WHEN 'null'"
                   " THEN \"%s\" IS NULL OR json_valid(\"%s\")"
                   " ELSE json(\"%s\") IS raw -> '$.%s' END",
                   name, name, name, name, name);
    else if (column->type == SCRIPT_BOOLEAN)
        buf_printf(sql,
                   "\"%s\" IS CASE json_type(raw, '$.%s')"
                   " WHEN 'true' THEN 1 WHEN 'false' THEN 0 END",
                   name, name);
    else
        buf_printf(sql,
                   "CASE json_type(raw, '$.%s') WHEN 'text'"
                   " THEN \"%s\" IS json_extract(raw, '$.%s') WHEN 'object' THEN 1"
                   " ELSE \"%s\" IS NULL END",
                   name, name, name, name);
}

/*
 * One row for each of the table's: an expression for each column, and behind them raw, if SQLite can
 * be asked about it: it takes the first of two members of one name where we and everybody else take
 * the last, knows no escapes in names, and has its own idea of lone surrogates and NULs.
 */
static void write_checks(struct buf *sql, const struct script_table *table)
{
    buf_puts(sql, "SELECT ");
    for (size_t i = 0; i < table->column_count; i++) {
        write_check(sql, &table->columns[i]);
        buf_puts(sql, ", ");
    }
    buf_printf(sql,
               "raw NOT LIKE '%%\\u%%' AND (SELECT count(*) = count(DISTINCT key)"
               " FROM json_each(raw)) FROM %s",
               table->name);
}

static void check_rows(const struct script_table *table, struct stmt *stmt)
{
    struct err err = {0};
    int rc;

    while ((rc = stmt_step(stmt, &err)) == 1) {
        bool comparable = stmt_int(stmt, (int)table->column_count);

        for (size_t i = 0; i < table->column_count; i++)
            if ((comparable || strcmp(table->columns[i].name, "raw") == 0) &&
                !stmt_int(stmt, (int)i)) {
                fprintf(stderr, "%s.%s is not what raw says\n", table->name,
                        table->columns[i].name);
                abort();
            }
    }
    if (rc < 0)
        scratch_fail(table->name, &err);
}

/* --- all rows as a text -------------------------------------------------------------------------- */

static void dump(struct stmt *stmt, struct buf *out)
{
    struct err err = {0};
    int rc;

    while ((rc = stmt_step(stmt, &err)) == 1) {
        for (int i = 0; i < stmt_column_count(stmt); i++) {
            size_t len = 0;
            const char *text = stmt_text(stmt, i, &len);

            if (stmt_column_type(stmt, i) == STMT_TEXT)
                assert(text_is_utf8(text, len) && !memchr(text, '\0', len));
            buf_printf(out, "%d %zu ", stmt_column_type(stmt, i), len);
            buf_put(out, text ? text : "", len);
        }
        buf_puts(out, "\n");
    }
    if (rc < 0)
        scratch_fail("dump", &err);
}

static void dump_all(struct buf *out)
{
    buf_reset(out);
    for (size_t i = 0; i <= table_count; i++)
        dump(dumps[i], out);
    assert(buf_ok(out));
}

/* --- events -------------------------------------------------------------------------------------- */

struct events {
    struct event list[EVENTS_MAX];
    size_t count;
};

/* An event id comes to the mirror once: the webhook sees to it. */
static bool is_known(const struct events *events, const char *id)
{
    for (size_t i = 0; i < events->count; i++)
        if (strcmp(events->list[i].id, id) == 0)
            return true;
    return false;
}

static void read_events(struct events *events, const char *bytes, size_t len)
{
    const char *end = bytes + len;
    struct err err;

    events->count = 0;
    while (bytes < end && events->count < EVENTS_MAX) {
        const char *nul = memchr(bytes, '\0', (size_t)(end - bytes));
        const char *body_end = nul ? nul : end;
        struct event *event = &events->list[events->count];

        if (event_read(event, bytes, (size_t)(body_end - bytes), &err) == 0) {
            if (is_known(events, event->id))
                event_release(event);
            else
                events->count++;
        }
        bytes = body_end + 1;
    }
}

/* --- the rule ------------------------------------------------------------------------------------- */

/* "workos_users" holds what "user." events tell of a "user". */
static bool concerns(struct event *event, const struct script_table *table)
{
    const char *singular = table->name + strlen("workos_");
    size_t len = strlen(singular) - 1;
    struct event_text object =
        event_string(event, json_string_member(&event->json, event->data, "object"));

    return event->object_id.len > 0 && strncmp(event->type, singular, len) == 0 &&
           event->type[len] == '.' &&
           (!object.at || (object.len == len && memcmp(object.at, singular, len) == 0));
}

static bool is_of(const struct event *event, struct event_text id)
{
    return event->object_id.len == id.len && memcmp(event->object_id.at, id.at, id.len) == 0;
}

static int64_t version(struct event *event)
{
    struct event_text at =
        event_string(event, json_string_member(&event->json, event->data, "updated_at"));
    int64_t us;

    return at.at && clock_parse_us(at.at, at.len, &us) ? us : event->created_us;
}

static bool is_later(struct event *a, struct event *b)
{
    return version(a) != version(b) ? version(a) > version(b) : strcmp(a->id, b->id) > 0;
}

/* The event that the object's row must be of; NULL when there must be none. */
static struct event *winner(struct events *events, const struct script_table *table,
                            struct event_text id)
{
    struct event *best = NULL;

    for (size_t i = 0; i < events->count; i++) {
        struct event *event = &events->list[i];

        if (!concerns(event, table) || !is_of(event, id))
            continue;
        if (strcmp(strchr(event->type, '.'), ".deleted") == 0)
            return NULL;
        if (!best || is_later(event, best))
            best = event;
    }
    return best;
}

static void check_versions(struct events *events, const struct script_table *table,
                           struct stmt *stmt)
{
    struct err err = {0};
    size_t rows = 0, winners = 0;
    int rc;

    for (size_t i = 0; i < events->count; i++)
        if (events->list[i].object_id.at &&
            winner(events, table, events->list[i].object_id) == &events->list[i])
            winners++;
    while ((rc = stmt_step(stmt, &err)) == 1) {
        struct event_text id;
        struct event *event;

        id.at = stmt_text(stmt, 0, &id.len);
        event = winner(events, table, id);
        assert(event && strcmp(event->id, stmt_text(stmt, 1, NULL)) == 0);
        rows++;
    }
    if (rc < 0)
        scratch_fail(table->name, &err);
    assert(rows == winners);
}

/* --- in every order ------------------------------------------------------------------------------- */

static void apply(struct event *event)
{
    struct err err = {0};

    if (mirror_apply(mirror, event, NULL, &err) < 0)
        scratch_fail("mirror_apply", &err);
}

static void apply_all(struct events *events)
{
    for (size_t i = 0; i < events->count; i++)
        apply(&events->list[i]);
}

static void apply_all_reversed(struct events *events)
{
    for (size_t i = events->count; i-- > 0;)
        apply(&events->list[i]);
}

static void expect_same(const struct buf *rows, const struct buf *others, const char *when)
{
    if (rows->len == others->len && memcmp(buf_text(rows), buf_text(others), rows->len) == 0)
        return;
    fprintf(stderr, "other rows when %s:\n%s\ninstead of\n%s\n", when, buf_text(others),
            buf_text(rows));
    abort();
}

/* --- set up and go ------------------------------------------------------------------------------- */

static struct stmt *prepare(const struct buf *sql)
{
    struct stmt *stmt = NULL;
    struct err err = {0};

    if (!buf_ok(sql) || stmt_new(&stmt, db, buf_text(sql), &err) < 0)
        scratch_fail(buf_text(sql), &err);
    return stmt;
}

static void prepare_all(void)
{
    struct buf sql = BUF_INIT(SQL_MAX);

    for (size_t i = 0; i < table_count; i++) {
        buf_reset(&sql);
        buf_printf(&sql, "SELECT * FROM %s ORDER BY id", tables[i].name);
        dumps[i] = prepare(&sql);
        buf_reset(&sql);
        write_checks(&sql, &tables[i]);
        checks[i] = prepare(&sql);
        buf_reset(&sql);
        buf_printf(&sql, "SELECT id, _event_id FROM %s", tables[i].name);
        versions[i] = prepare(&sql);
    }
    buf_reset(&sql);
    buf_puts(&sql, "SELECT id, object FROM authkitd_tombstones ORDER BY id, object");
    dumps[table_count] = prepare(&sql);
    buf_release(&sql);
}

static void set_up(void)
{
    struct err err = {0};

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    db = scratch_db();
    if (tables_migrate(db, &err) < 0 || mirror_prepare(&mirror, db, &err) < 0)
        scratch_fail("set up", &err);
    tables = mirror_script_tables(&table_count);
    assert(table_count <= TABLES_MAX);
    prepare_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct events events;
    struct buf rows = BUF_INIT(DUMP_MAX), others = BUF_INIT(DUMP_MAX);

    if (!db)
        set_up();
    read_events(&events, (const char *)data, size);
    scratch_exec(db, "BEGIN IMMEDIATE");
    apply_all(&events);
    dump_all(&rows);
    for (size_t i = 0; i < table_count; i++) {
        check_rows(&tables[i], checks[i]);
        check_versions(&events, &tables[i], versions[i]);
    }
    scratch_exec(db, "ROLLBACK; BEGIN IMMEDIATE");
    apply_all_reversed(&events);
    dump_all(&others);
    expect_same(&rows, &others, "reversed");
    apply_all(&events);
    dump_all(&others);
    expect_same(&rows, &others, "repeated");
    scratch_exec(db, "ROLLBACK");
    for (size_t i = 0; i < events.count; i++)
        event_release(&events.list[i]);
    buf_release(&rows);
    buf_release(&others);
    return 0;
}
