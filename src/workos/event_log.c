/* SPDX-License-Identifier: MIT */
#include "workos/event_log.h"

#include "base/clock.h"
#include "base/text.h"
#include "workos/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const event_status_names[EVENT_STATUSES] = {"done", "failed", "waiting", "dead",
                                                        "expected"};

/* An object's line, as the index workos_events_held has it. */
#define IN_LINE "status IN ('failed', 'waiting')"

/*
 * Is any event failed or waiting at all? Mostly none is, and then no event needs to be asked whether
 * its object is held:
 *
 *   LINES_UNKNOWN  at the start, after a rollback (db_undo_mark), when one has left its line
 *   LINES_SOME     one has come into a line
 *   LINES_NONE     a look has found none (are_lines_empty)
 */
enum lines { LINES_UNKNOWN, LINES_SOME, LINES_NONE };

/* A number for each of the last ids that were added, where the id's hash says: of one that has it a look
 * is worth while before anything is inserted. */
enum { RECENT = 4096 };

struct event_log {
    struct db *db;
    uint32_t recent[RECENT];
    enum lines lines;
    uint64_t lines_mark; /* db_undo_mark, when that was found */
    struct stmt *add, *is_known, *update, *any_in_line, *is_held, *any_later, *is_late, *release,
        *erase, *erase_one;
    struct stmt *load_due, *find_due, *find_ahead, *find_next, *renew_failed, *count_failed;
    struct stmt *find, *retry, *retry_all, *is_backfilled;
    struct stmt *arrive, *list_expected, *stop_expecting;
    /* So that a look per event is spared where backfill, or opts.ordered, was never used. */
    bool any_backfilled, any_expected;
};

#define BACKFILL_PREFIX "backfill:"

static int find_any(struct event_log *log, const char *sql, bool *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, log->db, sql, err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    *out = rc == 1;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

/* Ids from "backfill:" up to the next character's. */
static const char any_backfilled_sql[] =
    "SELECT 1 FROM workos_events WHERE id >= 'backfill:' AND id < 'backfill;' LIMIT 1";

/* In the words of the index. */
#define EXPECTED "status = 'expected' AND status <> 'done'"

static const char any_expected_sql[] = "SELECT 1 FROM workos_events WHERE " EXPECTED " LIMIT 1";

int event_log_open(struct event_log **out, struct db *db, struct err *err)
{
    struct event_log *log = calloc(1, sizeof(*log));
    int rc = 0;

    if (!log)
        return err_set(err, ERR_NOMEM, "no memory for the event log");
    const struct {
        struct stmt **slot;
        const char *sql;
    } statements[] = {
        {&log->add,
         "INSERT INTO workos_events (id, event, object_id, user_id, created_at, received_at,"
         " status, attempts, next_attempt_at, last_error, payload, _created_us)"
         " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"},
        {&log->is_known, "SELECT 1 FROM workos_events WHERE id = ?"},
        {&log->update, "UPDATE workos_events SET status = ?, attempts = ?, next_attempt_at = ?,"
                       " last_error = ? WHERE _seq = ?"},
        {&log->any_in_line, "SELECT 1 FROM workos_events WHERE " IN_LINE " LIMIT 1"},
        {&log->is_held,
         "SELECT 1 FROM workos_events WHERE object_id = ? AND " IN_LINE " AND _seq < ? LIMIT 1"},
        /* The index alone answers this; seldom is there anything to be asked of the rows. */
        {&log->any_later, "SELECT 1 FROM workos_events WHERE object_id = ?1 AND _created_us >= ?2"
                          " AND _seq <> ?3 LIMIT 1"},
        /* (_created_us, id) > (?2, ?3), said so that the event's own row is ruled out by the index */
        {&log->is_late, "SELECT 1 FROM workos_events WHERE object_id = ?1 AND _created_us >= ?2"
                        " AND _seq <> ?4 AND (_created_us > ?2 OR id > ?3)"
                        " AND status = 'done' LIMIT 1"},
        {&log->release,
         "UPDATE workos_events SET next_attempt_at = ?1 WHERE status = 'waiting'"
         " AND next_attempt_at IS NULL AND _seq = (SELECT min(_seq) FROM workos_events"
         " WHERE " IN_LINE " AND object_id ="
         " (SELECT object_id FROM workos_events WHERE _seq = ?2))"},
        {&log->erase,
         "UPDATE workos_events SET payload = " ERASED_PAYLOAD(
             "workos_events") ", last_error = NULL WHERE _seq IN (" EVENTS_OF_USER ")"
                              " AND status IN ('done', 'dead') AND (last_error IS NOT NULL"
                              " OR payload IS NOT " ERASED_PAYLOAD("workos_events") ")"},
        {&log->erase_one,
         "UPDATE workos_events SET payload = " ERASED_PAYLOAD(
             "workos_events") ", last_error = NULL WHERE _seq = ? AND user_id IN"
                              " (SELECT id FROM authkitd_tombstones WHERE object = 'user')"},
        {&log->load_due, "SELECT status, attempts, payload FROM workos_events"
                         " WHERE _seq = ?1 AND (" IN_LINE " OR status = 'expected')"
                         " AND (next_attempt_at <= ?2 OR next_attempt_at > ?3)"},
        {&log->find_due, "SELECT _seq FROM workos_events WHERE next_attempt_at <= ?"
                         " ORDER BY next_attempt_at, _seq LIMIT ?"},
        {&log->find_ahead, "SELECT _seq FROM workos_events WHERE next_attempt_at > ?"
                           " ORDER BY next_attempt_at, _seq LIMIT ?"},
        {&log->find_next, "SELECT min(next_attempt_at) FROM workos_events"
                          " WHERE next_attempt_at > ?1 AND next_attempt_at <= ?2"},
        {&log->renew_failed, "UPDATE workos_events SET attempts = 0, next_attempt_at = ?"
                             " WHERE status = 'failed' AND status <> 'done'"},
        {&log->count_failed, "SELECT event, count(*) FROM workos_events"
                             " WHERE status = 'failed' AND status <> 'done' GROUP BY event"},
        {&log->is_backfilled, "SELECT 1 FROM workos_events WHERE id = '" BACKFILL_PREFIX "' || ?"},
        {&log->find, "SELECT _seq, status, attempts, payload IS NOT NULL FROM workos_events"
                     " WHERE id = ?"},
        {&log->retry, "UPDATE workos_events SET status = 'failed', attempts = 0,"
                      " next_attempt_at = ? WHERE _seq = ?"},
        {&log->retry_all, "UPDATE workos_events SET status = 'failed', attempts = 0,"
                          " next_attempt_at = ? WHERE status IN ('failed', 'dead')"
                          " AND status <> 'done' AND payload IS NOT NULL"},
        {&log->arrive, "UPDATE workos_events SET _seq = (SELECT max(_seq) + 1 FROM workos_events),"
                       " status = ?2, attempts = ?3, next_attempt_at = ?4, last_error = ?5"
                       " WHERE id = ?1 AND status = 'expected'"},
        {&log->list_expected,
         "SELECT id FROM workos_events WHERE " EXPECTED " AND next_attempt_at IS NULL LIMIT ?"},
        {&log->stop_expecting, "UPDATE workos_events SET next_attempt_at = ?2 WHERE " EXPECTED
                               " AND next_attempt_at IS NULL"
                               " AND (received_at <= ?1 OR received_at > ?3)"},
    };

    log->db = db;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(statements); i++)
        rc = stmt_new(statements[i].slot, db, statements[i].sql, err);
    if (rc == 0)
        rc = find_any(log, any_backfilled_sql, &log->any_backfilled, err);
    if (rc == 0)
        rc = find_any(log, any_expected_sql, &log->any_expected, err);
    if (rc < 0) {
        event_log_close(log);
        return rc;
    }
    *out = log;
    return 0;
}

void event_log_close(struct event_log *log)
{
    if (!log)
        return;
    stmt_free(log->add);
    stmt_free(log->is_known);
    stmt_free(log->update);
    stmt_free(log->any_in_line);
    stmt_free(log->is_held);
    stmt_free(log->any_later);
    stmt_free(log->is_late);
    stmt_free(log->release);
    stmt_free(log->erase);
    stmt_free(log->erase_one);
    stmt_free(log->load_due);
    stmt_free(log->find_due);
    stmt_free(log->find_next);
    stmt_free(log->find_ahead);
    stmt_free(log->renew_failed);
    stmt_free(log->count_failed);
    stmt_free(log->find);
    stmt_free(log->retry);
    stmt_free(log->retry_all);
    stmt_free(log->is_backfilled);
    stmt_free(log->arrive);
    stmt_free(log->list_expected);
    stmt_free(log->stop_expecting);
    free(log);
}

static void bind_event_text(struct stmt *stmt, int parameter, struct event_text text)
{
    stmt_bind_text(stmt, parameter, text.at, text.len);
}

/* Four parameters, from first on. */
static void bind_record(struct stmt *stmt, int first, const struct event_record *record)
{
    stmt_bind_str(stmt, first, event_status_names[record->status]);
    stmt_bind_int(stmt, first + 1, record->attempts);
    if (record->next_attempt_at)
        stmt_bind_int(stmt, first + 2, record->next_attempt_at);
    else
        stmt_bind_null(stmt, first + 2);
    stmt_bind_str(stmt, first + 3, record->error);
}

/* Is there a row? */
static int has_row(struct stmt *stmt, bool *out, struct err *err)
{
    int rc = stmt_step(stmt, err);

    if (rc < 0)
        return rc;
    *out = rc == 1;
    stmt_reset(stmt);
    return 0;
}

/* Run a statement that writes; how many rows it changed. */
static int count_changes(struct event_log *log, struct stmt *stmt, int64_t *out, struct err *err)
{
    int64_t before = db_total_changes(log->db);
    int rc = stmt_run(stmt, err);

    *out = db_total_changes(log->db) - before;
    return rc;
}

static void set_lines(struct event_log *log, enum lines lines)
{
    log->lines = lines;
    log->lines_mark = db_undo_mark(log->db);
}

/* An event is to have that status. */
static void note_status(struct event_log *log, enum event_status status)
{
    if (status == EVENT_FAILED || status == EVENT_WAITING)
        set_lines(log, LINES_SOME);
    else if (log->lines == LINES_SOME)
        set_lines(log, LINES_UNKNOWN);
}

static int are_lines_empty(struct event_log *log, bool *out, struct err *err)
{
    bool any = log->lines == LINES_SOME;
    int rc = 0;

    if (log->lines == LINES_UNKNOWN || log->lines_mark != db_undo_mark(log->db)) {
        rc = has_row(log->any_in_line, &any, err);
        if (rc == 0)
            set_lines(log, any ? LINES_SOME : LINES_NONE);
    }
    *out = !any;
    return rc;
}

static uint64_t hash_id(const char *id)
{
    uint64_t hash = 14695981039346656037u;

    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 1099511628211u; /* FNV-1a */
    return hash;
}

/* Is it an event that came a moment ago? Whether the table has it is still to be seen: what was added may
 * have been undone, and two ids may have the same number. From now on it is one. */
static bool note_recent(struct event_log *log, const char *id)
{
    uint64_t hash = hash_id(id);
    uint32_t *place = &log->recent[hash % RECENT], number = (uint32_t)(hash >> 32) | 1;
    bool was_there = *place == number;

    *place = number;
    return was_there;
}

static int is_known(struct event_log *log, const char *id, bool *out, struct err *err)
{
    stmt_bind_str(log->is_known, 1, id);
    return has_row(log->is_known, out, err);
}

static int insert(struct event_log *log, const struct event *event,
                  const struct event_record *record, int64_t *out_seq, struct err *err)
{
    struct stmt *add = log->add;
    int64_t added;
    int rc;

    stmt_bind_str(add, 1, event->id);
    stmt_bind_str(add, 2, event->type);
    bind_event_text(add, 3, event->object_id);
    bind_event_text(add, 4, event->user_id);
    bind_event_text(add, 5, event->created_at);
    stmt_bind_int(add, 6, clock_wall_ms());
    bind_record(add, 7, record);
    stmt_bind_text(add, 11, event->body, event->body_len);
    stmt_bind_int(add, 12, event->created_us);
    if (record->status != EVENT_DONE) /* what is new leaves no line */
        note_status(log, record->status);
    rc = count_changes(log, add, &added, err);
    *out_seq = added ? db_last_insert_rowid(log->db) : 0;
    log->any_backfilled = log->any_backfilled || text_starts_with(event->id, BACKFILL_PREFIX);
    log->any_expected = log->any_expected || record->status == EVENT_EXPECTED;
    return rc;
}

/* An event that is there already arrives all the same if it was only expected. */
static int arrive(struct event_log *log, const char *id, const struct event_record *record,
                  int64_t *out_seq, struct err *err)
{
    struct logged_event event = {0};
    int64_t arrived;
    int rc;

    stmt_bind_str(log->arrive, 1, id);
    bind_record(log->arrive, 2, record);
    rc = count_changes(log, log->arrive, &arrived, err);
    if (rc < 0 || !arrived)
        return rc;
    note_status(log, record->status);
    rc = event_log_find(log, id, &event, err);
    *out_seq = event.seq;
    return rc;
}

int event_log_add(struct event_log *log, const struct event *event,
                  const struct event_record *record, int64_t *out_seq, struct err *err)
{
    bool known = false;
    int rc = note_recent(log, event->id) ? is_known(log, event->id, &known, err) : 0;

    *out_seq = 0;
    if (rc == 0 && !known)
        rc = insert(log, event, record, out_seq, err);
    if (rc < 0 || *out_seq || !log->any_expected || record->status == EVENT_EXPECTED)
        return rc;
    return arrive(log, event->id, record, out_seq, err);
}

int event_log_update(struct event_log *log, int64_t seq, const struct event_record *record,
                     struct err *err)
{
    note_status(log, record->status);
    bind_record(log->update, 1, record);
    stmt_bind_int(log->update, 5, seq);
    return stmt_run(log->update, err);
}

int event_log_is_held(struct event_log *log, struct event_text object_id, int64_t seq, bool *out,
                      struct err *err)
{
    bool none;
    int rc;

    *out = false;
    if (!object_id.at)
        return 0;
    rc = are_lines_empty(log, &none, err);
    if (rc < 0 || none)
        return rc;
    bind_event_text(log->is_held, 1, object_id);
    stmt_bind_int(log->is_held, 2, seq ? seq : INT64_MAX);
    return has_row(log->is_held, out, err);
}

int event_log_is_backfilled(struct event_log *log, struct event_text object_id, bool *out,
                            struct err *err)
{
    *out = false;
    if (!object_id.at || !log->any_backfilled)
        return 0;
    bind_event_text(log->is_backfilled, 1, object_id);
    return has_row(log->is_backfilled, out, err);
}

int event_log_is_late(struct event_log *log, const struct event *event, int64_t seq, bool *out,
                      struct err *err)
{
    bool any;
    int rc;

    *out = false;
    if (!event->object_id.at)
        return 0;
    bind_event_text(log->any_later, 1, event->object_id);
    stmt_bind_int(log->any_later, 2, event->created_us);
    stmt_bind_int(log->any_later, 3, seq);
    rc = has_row(log->any_later, &any, err);
    if (rc < 0 || !any)
        return rc;
    bind_event_text(log->is_late, 1, event->object_id);
    stmt_bind_int(log->is_late, 2, event->created_us);
    stmt_bind_str(log->is_late, 3, event->id);
    stmt_bind_int(log->is_late, 4, seq);
    return has_row(log->is_late, out, err);
}

int event_log_release(struct event_log *log, int64_t seq, bool *out_released, struct err *err)
{
    int64_t released;
    int rc;

    stmt_bind_int(log->release, 1, clock_wall_ms());
    stmt_bind_int(log->release, 2, seq);
    rc = count_changes(log, log->release, &released, err);
    *out_released = released > 0;
    return rc;
}

int event_log_erase(struct event_log *log, struct event_text user_id, bool *out_erased,
                    struct err *err)
{
    int64_t erased;
    int rc;

    bind_event_text(log->erase, 1, user_id);
    rc = count_changes(log, log->erase, &erased, err);
    *out_erased = erased > 0;
    return rc;
}

int event_log_erase_one(struct event_log *log, int64_t seq, struct err *err)
{
    stmt_bind_int(log->erase_one, 1, seq);
    return stmt_run(log->erase_one, err);
}

static enum event_status read_status(struct stmt *stmt, int column)
{
    const char *text = stmt_text(stmt, column, NULL);

    for (int i = 0; text && i < EVENT_STATUSES; i++)
        if (strcmp(text, event_status_names[i]) == 0)
            return (enum event_status)i;
    return EVENT_DONE; /* what somebody wrote by hand doesn't run */
}

int event_log_find(struct event_log *log, const char *id, struct logged_event *out, struct err *err)
{
    int rc;

    *out = (struct logged_event){0};
    stmt_bind_str(log->find, 1, id);
    rc = stmt_step(log->find, err);
    if (rc <= 0)
        return rc;
    out->seq = stmt_int(log->find, 0);
    out->status = read_status(log->find, 1);
    out->attempts = stmt_int(log->find, 2);
    out->has_payload = stmt_int(log->find, 3);
    stmt_reset(log->find);
    return 0;
}

int event_log_load_due(struct event_log *log, int64_t seq, int64_t now_ms, bool *out_is_due,
                       enum event_status *out_status, int64_t *out_attempts, struct buf *payload,
                       struct err *err)
{
    struct stmt *load = log->load_due;
    const char *text;
    size_t len;
    int rc;

    *out_is_due = false;
    stmt_bind_int(load, 1, seq);
    stmt_bind_int(load, 2, now_ms);
    stmt_bind_int(load, 3, now_ms + EVENT_AHEAD_MS);
    rc = stmt_step(load, err);
    if (rc <= 0)
        return rc;
    *out_status = read_status(load, 0);
    *out_attempts = stmt_int(load, 1);
    text = stmt_text(load, 2, &len);
    buf_put(payload, text ? text : "", text ? len : 0);
    stmt_reset(load);
    *out_is_due = true;
    return buf_ok(payload) ? 0 : err_set(err, ERR_NOMEM, "no memory for an event's payload");
}

/* More of them, up to max. */
static int add_found(struct stmt *find, int64_t time_ms, int64_t *out_seqs, size_t max,
                     size_t *count, struct err *err)
{
    int rc;

    stmt_bind_int(find, 1, time_ms);
    stmt_bind_int(find, 2, (int64_t)(max - *count));
    while ((rc = stmt_step(find, err)) > 0)
        out_seqs[(*count)++] = stmt_int(find, 0);
    return rc;
}

int event_log_find_due(struct event_log *log, int64_t now_ms, int64_t *out_seqs, size_t max,
                       size_t *out_count, int64_t *out_next_ms, struct err *err)
{
    int rc;

    *out_count = 0;
    *out_next_ms = 0;
    rc = add_found(log->find_due, now_ms, out_seqs, max, out_count, err);
    if (rc == 0)
        rc = add_found(log->find_ahead, now_ms + EVENT_AHEAD_MS, out_seqs, max, out_count, err);
    if (rc < 0)
        return rc;
    stmt_bind_int(log->find_next, 1, now_ms);
    stmt_bind_int(log->find_next, 2, now_ms + EVENT_AHEAD_MS);
    rc = stmt_step(log->find_next, err);
    if (rc <= 0)
        return rc;
    *out_next_ms = stmt_int(log->find_next, 0); /* 0 for NULL */
    stmt_reset(log->find_next);
    return 0;
}

int event_log_renew_failed(struct event_log *log, int64_t now_ms,
                           bool (*counts)(void *arg, const char *type), void *arg,
                           int64_t *out_count, struct err *err)
{
    int64_t count = 0;
    int rc;

    while ((rc = stmt_step(log->count_failed, err)) == 1)
        if (counts(arg, stmt_text(log->count_failed, 0, NULL)))
            count += stmt_int(log->count_failed, 1);
    if (rc < 0)
        return rc;
    stmt_bind_int(log->renew_failed, 1, now_ms);
    rc = stmt_run(log->renew_failed, err);
    *out_count = count;
    return rc;
}

int event_log_list_expected(struct event_log *log, char (*out_ids)[EVENT_NAME_MAX + 1], size_t max,
                            size_t *out_count, struct err *err)
{
    int rc;

    *out_count = 0;
    stmt_bind_int(log->list_expected, 1, (int64_t)max);
    while ((rc = stmt_step(log->list_expected, err)) > 0)
        snprintf(out_ids[(*out_count)++], EVENT_NAME_MAX + 1, "%s",
                 stmt_str(log->list_expected, 0));
    return rc;
}

int event_log_stop_expecting(struct event_log *log, int64_t before_ms, int64_t now_ms,
                             int64_t *out_count, struct err *err)
{
    *out_count = 0;
    if (!log->any_expected)
        return 0;
    stmt_bind_int(log->stop_expecting, 1, before_ms);
    stmt_bind_int(log->stop_expecting, 2, now_ms);
    stmt_bind_int(log->stop_expecting, 3, now_ms + EVENT_AHEAD_MS);
    return count_changes(log, log->stop_expecting, out_count, err);
}

static enum retry_result judge_retry(const struct logged_event *event)
{
    if (event->seq == 0)
        return RETRY_UNKNOWN;
    switch (event->status) {
    case EVENT_DONE:
        return RETRY_DONE;
    case EVENT_WAITING:
        return RETRY_WAITING;
    default:
        return event->has_payload ? RETRY_DUE : RETRY_ERASED;
    }
}

int event_log_retry(struct event_log *log, const char *id, int64_t now_ms, enum retry_result *out,
                    struct err *err)
{
    struct logged_event event;
    int rc = event_log_find(log, id, &event, err);

    if (rc < 0)
        return rc;
    *out = judge_retry(&event);
    if (*out != RETRY_DUE)
        return 0;
    if (event.status == EVENT_EXPECTED) /* not failed: it has still to arrive */
        return event_log_update(
            log, event.seq,
            &(struct event_record){.status = EVENT_EXPECTED, .next_attempt_at = now_ms}, err);
    note_status(log, EVENT_FAILED);
    stmt_bind_int(log->retry, 1, now_ms);
    stmt_bind_int(log->retry, 2, event.seq);
    return stmt_run(log->retry, err);
}

int event_log_retry_all(struct event_log *log, int64_t now_ms, int64_t *out_count, struct err *err)
{
    note_status(log, EVENT_FAILED);
    stmt_bind_int(log->retry_all, 1, now_ms);
    return count_changes(log, log->retry_all, out_count, err);
}
