/* SPDX-License-Identifier: MIT */
#include "workos/webhook.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "workos/event.h"
#include "workos/workos_state.h"

#include <string.h>

enum { FIRST_RETRY_MS = 10000 };

struct event_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct event event;
    bool duplicate;

    /* Set when the function failed and SQLite undid the whole transaction with it (it does so when
     * a writing statement is interrupted): the job is run again, to record that and not to call. */
    bool has_failed;
    struct err failure;
};

static int log_event(struct workos *workos, const struct event *event, bool handled,
                     bool *out_duplicate, struct err *err)
{
    struct stmt *insert = workos->insert_event;
    int64_t before = db_total_changes(workos->opts.db);
    int rc;

    stmt_bind_str(insert, 1, event->id);
    stmt_bind_str(insert, 2, event->type);
    stmt_bind_text(insert, 3, event->object_id.at, event->object_id.len);
    stmt_bind_text(insert, 4, event->user_id.at, event->user_id.len);
    stmt_bind_text(insert, 5, event->created_at.at, event->created_at.len);
    stmt_bind_int(insert, 6, clock_wall_ms());
    stmt_bind_int(insert, 7, handled);
    stmt_bind_text(insert, 8, event->body, event->body_len);
    stmt_bind_int(insert, 9, event->created_us);
    rc = stmt_run(insert, err);
    *out_duplicate = db_total_changes(workos->opts.db) == before;
    return rc;
}

/* Has a newer event of the same object been taken already? */
static int find_late(struct workos *workos, const struct event *event, bool *out, struct err *err)
{
    struct stmt *is_late = workos->is_late;
    int rc;

    *out = false;
    if (!event->object_id.at)
        return 0;
    stmt_bind_text(is_late, 1, event->object_id.at, event->object_id.len);
    stmt_bind_int(is_late, 2, event->created_us);
    stmt_bind_str(is_late, 3, event->id);
    rc = stmt_step(is_late, err);
    stmt_reset(is_late);
    *out = rc == 1;
    return rc < 0 ? rc : 0;
}

static int mark_failed(struct workos *workos, const struct event *event, struct err *failure,
                       struct err *err)
{
    text_make_utf8(failure->text);
    log_error("event function failed", log_str("event", event->type), log_str("id", event->id),
              log_str("error", failure->text));
    stmt_bind_int(workos->mark_failed, 1, clock_wall_ms() + FIRST_RETRY_MS);
    stmt_bind_str(workos->mark_failed, 2, failure->text);
    stmt_bind_str(workos->mark_failed, 3, event->id);
    return stmt_run(workos->mark_failed, err);
}

/* Else it was the function that ended the transaction: interrupted while it wrote, or by an
 * INSERT OR ROLLBACK of its own. */
static bool is_disk_trouble(int code)
{
    return code == ERR_FULL || code == ERR_FATAL || code == ERR_NOMEM;
}

/* The function in its savepoint. Returns an error only when the transaction is gone. */
static int run_function(struct event_job *job, struct err *err)
{
    struct workos *workos = job->workos;
    struct event *event = &job->event;
    bool late;
    int rc = find_late(workos, event, &late, err);

    if (rc == 0)
        rc = stmt_run(workos->begin_function, err);
    if (rc < 0)
        return rc;
    if (script_run_event(workos->script, workos->opts.db, event->type, &event->json, late,
                         &job->failure) == 0)
        return stmt_run(workos->keep_function, err);
    if (!db_in_transaction(workos->opts.db)) {
        job->has_failed = !is_disk_trouble(db_trouble(workos->opts.db));
        return err_set(err, job->failure.code, "%s", job->failure.text);
    }
    rc = stmt_run(workos->undo_function, err);
    if (rc == 0)
        rc = stmt_run(workos->keep_function, err);
    return rc < 0 ? rc : mark_failed(workos, event, &job->failure, err);
}

/* Of a user who was deleted, before or by this event, the log keeps nothing but ids. Events whose
 * function failed keep their payload until it has run. */
static int erase_deleted(struct workos *workos, const struct event *event, struct err *err)
{
    bool deleted;
    int rc;

    if (!event->user_id.at)
        return 0;
    rc = mirror_is_deleted(workos->mirror, event->user_id, &deleted, err);
    if (rc < 0 || !deleted)
        return rc;
    stmt_bind_text(workos->erase_events, 1, event->user_id.at, event->user_id.len);
    return stmt_run(workos->erase_events, err);
}

static int run_event(struct writer_job *writer_job, struct db *db, struct err *err)
{
    struct event_job *job = (struct event_job *)writer_job;
    struct workos *workos = job->workos;
    bool handled = workos->script && script_handles_event(workos->script, job->event.type);
    int rc = log_event(workos, &job->event, handled, &job->duplicate, err);

    (void)db;
    if (rc < 0 || job->duplicate)
        return rc;
    rc = mirror_apply(workos->mirror, &job->event, err);
    if (rc < 0)
        return rc;
    if (job->has_failed)
        rc = mark_failed(workos, &job->event, &job->failure, err);
    else if (handled)
        rc = run_function(job, err);
    return rc < 0 ? rc : erase_deleted(workos, &job->event, err);
}

static enum webhook_result store_event(struct workos *workos, struct event_job *job,
                                       struct err *err)
{
    int rc = writer_run(workos->writer, &job->job, err);

    if (rc < 0 && job->has_failed)
        rc = writer_run(workos->writer, &job->job, err);
    if (rc < 0) {
        log_error("event not stored", log_str("event", job->event.type),
                  log_str("id", job->event.id), log_str("error", err->text));
        return WEBHOOK_UNAVAILABLE;
    }
    log_debug(job->duplicate ? "event is known already" : "event received",
              log_str("event", job->event.type), log_str("id", job->event.id));
    return job->duplicate ? WEBHOOK_DUPLICATE : WEBHOOK_RECEIVED;
}

enum webhook_result webhook_receive(struct workos *workos, const char *signature_header,
                                    const char *body, size_t body_len,
                                    enum signature_status *out_signature, struct err *err)
{
    struct event_job job = {.job = {.run = run_event}, .workos = workos};
    struct signature_facts facts = {0};
    enum webhook_result result;
    int rc;

    if (!workos->webhook_keys)
        return WEBHOOK_OFF;
    *out_signature = signature_verify(workos->webhook_keys, signature_header, body, body_len,
                                      clock_wall_ms(), SIGNATURE_WEBHOOK_TOLERANCE_MS, &facts);
    if (*out_signature == SIGNATURE_BROKEN) {
        err_set(err, ERR_NOMEM, "no memory to check a signature");
        return WEBHOOK_UNAVAILABLE;
    }
    if (*out_signature != SIGNATURE_OK) {
        signature_log_refusal("webhook", *out_signature, &facts);
        return WEBHOOK_REFUSED;
    }
    rc = event_read(&job.event, body, body_len, err);
    if (rc < 0)
        return rc == ERR_NOMEM ? WEBHOOK_UNAVAILABLE : WEBHOOK_INVALID;
    result = store_event(workos, &job, err);
    event_release(&job.event);
    return result;
}
