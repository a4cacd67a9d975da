/* SPDX-License-Identifier: MIT */
#include "workos/suspects.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/watchdog.h"

#include <stdlib.h>

struct suspects {
    struct stmt *find, *forget;
    bool are_any; /* so that one look per event is spared almost always */
};

static int remember(struct db *db, const struct watchdog_note *note, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "INSERT OR REPLACE INTO authkitd_suspects (id, reason, noted_at)"
                      " VALUES (?, ?, ?)",
                      err);

    if (rc == 0) {
        stmt_bind_str(stmt, 1, note->id);
        stmt_bind_str(stmt, 2, note->reason);
        stmt_bind_int(stmt, 3, clock_wall_ms());
        rc = stmt_run(stmt, err);
    }
    stmt_free(stmt);
    return rc;
}

/* In the log already: dead from now on, and nothing holds those that waited behind it. If it is kept
 * only because it was to run, for a user who was deleted, it goes as well. */
static int bury(struct event_log *events, const struct logged_event *event, const char *reason,
                struct err *err)
{
    struct event_record record = {
        .status = EVENT_DEAD, .attempts = event->attempts + 1, .error = reason};
    bool released;
    int rc = event_log_update(events, event->seq, &record, err);

    if (rc == 0)
        rc = event_log_erase_one(events, event->seq, err);
    return rc < 0 ? rc : event_log_release(events, event->seq, &released, err);
}

static int judge(struct db *db, struct event_log *events, const struct watchdog_note *note,
                 struct err *err)
{
    struct logged_event event;
    int rc = event_log_find(events, note->id, &event, err);

    if (rc < 0)
        return rc;
    if (event.seq == 0 || event.status == EVENT_EXPECTED) /* it is still to arrive */
        return remember(db, note, err);
    if (event.status == EVENT_FAILED || event.status == EVENT_WAITING)
        return bury(events, &event, note->reason, err);
    return 0;
}

static int record(struct db *db, struct event_log *events, const struct watchdog_note *note,
                  struct err *err)
{
    int rc = db_exec(db, "BEGIN IMMEDIATE", err);

    if (rc < 0)
        return rc;
    rc = judge(db, events, note, err);
    if (rc == 0)
        rc = db_exec(db, "COMMIT", err);
    if (rc < 0 && db_in_transaction(db) && db_exec(db, "ROLLBACK", NULL) < 0)
        return ERR_FATAL;
    return rc;
}

static int act_on_note(struct db *db, struct event_log *events, const char *path, struct err *err)
{
    struct watchdog_note note;
    int rc = watchdog_read_note(path, &note, err);

    if (rc < 0 || !note.found)
        return rc;
    if (note.id[0]) {
        log_warn("an event took the last process down; it is dead until authkitd retry",
                 log_str("event", note.type), log_str("id", note.id),
                 log_str("reason", note.reason));
        rc = record(db, events, &note, err);
    } else {
        log_warn("a function took the last process down", log_str("function", note.type),
                 log_str("reason", note.reason));
    }
    return rc < 0 ? rc : watchdog_clear_note(path, err);
}

/* Is there any? */
static int count(struct suspects *suspects, struct db *db, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "SELECT 1 FROM authkitd_suspects LIMIT 1", err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    suspects->are_any = rc == 1;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

int suspects_open(struct suspects **out, struct db *db, struct event_log *events,
                  const char *note_path, struct err *err)
{
    struct suspects *suspects = calloc(1, sizeof(*suspects));
    int rc;

    if (!suspects)
        return err_set(err, ERR_NOMEM, "no memory for the suspects");
    rc = note_path ? act_on_note(db, events, note_path, err) : 0;
    if (rc == 0)
        rc = count(suspects, db, err);
    if (rc == 0)
        rc =
            stmt_new(&suspects->find, db, "SELECT reason FROM authkitd_suspects WHERE id = ?", err);
    if (rc == 0)
        rc = stmt_new(&suspects->forget, db, "DELETE FROM authkitd_suspects WHERE id = ?", err);
    if (rc < 0) {
        suspects_close(suspects);
        return rc;
    }
    *out = suspects;
    return 0;
}

void suspects_close(struct suspects *suspects)
{
    if (!suspects)
        return;
    stmt_free(suspects->find);
    stmt_free(suspects->forget);
    free(suspects);
}

int suspects_take(struct suspects *suspects, const char *id, bool *out, struct buf *reason,
                  struct err *err)
{
    int rc;

    *out = false;
    if (!suspects->are_any)
        return 0;
    stmt_bind_str(suspects->find, 1, id);
    rc = stmt_step(suspects->find, err);
    if (rc <= 0)
        return rc;
    buf_puts(reason, stmt_str(suspects->find, 0));
    stmt_reset(suspects->find);
    *out = true;
    stmt_bind_str(suspects->forget, 1, id);
    return stmt_run(suspects->forget, err);
}
