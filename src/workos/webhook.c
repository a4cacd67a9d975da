/* SPDX-License-Identifier: MIT */
#include "workos/webhook.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/event.h"
#include "workos/handle.h"
#include "workos/secrets.h"
#include "workos/workos_state.h"

struct event_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct event event; /* as it came: what the function sees */

    /* What is kept: the same, or, when there are secrets in it, one without them. */
    struct event *kept;
    struct event clean;
    struct buf clean_body;

    int64_t arrived_ms; /* monotonic */
    struct buf reason;  /* why it is dead on arrival */
    struct attempt attempt;
    bool duplicate;
};

/* Has the sender been kept waiting for long? */
static bool is_overdue(const struct event_job *job)
{
    const struct workos *workos = job->workos;
    size_t waiting = atomic_load_explicit(&workos->waiting, memory_order_relaxed);
    bool is_crowded = workos->opts.crowd && waiting >= workos->opts.crowd;

    return clock_mono_ms() - job->arrived_ms >
           (is_crowded ? WEBHOOK_CROWDED_PATIENCE_MS : WEBHOOK_PATIENCE_MS);
}

/*
 * What is to become of an event that has just come, before anything is written. Its row says so from
 * the start: done, when its function will run now or there is none; if the function fails after all,
 * that is written then.
 */
static int choose_fate(struct event_job *job, bool handled, struct event_record *out,
                       struct err *err)
{
    struct workos *workos = job->workos;
    bool is_suspect, held = false;
    int rc;

    buf_reset(&job->reason); /* the writer may run a job again */
    rc = suspects_take(workos->suspects, job->event.id, &is_suspect, &job->reason, err);
    if (rc == 0 && handled && !is_suspect)
        rc = event_log_is_held(workos->events, job->event.object_id, 0, &held, err);
    if (rc < 0)
        return rc;
    *out = (struct event_record){.status = EVENT_DONE, .attempts = handled};
    if (is_suspect)
        *out = (struct event_record){
            .status = EVENT_DEAD, .attempts = 1, .error = buf_text(&job->reason)};
    else if (held)
        *out = (struct event_record){.status = EVENT_WAITING};
    else if (handled && is_overdue(job))
        *out = (struct event_record){.status = EVENT_WAITING, .next_attempt_at = clock_wall_ms()};
    return 0;
}

static int run_event(struct writer_job *writer_job, struct db *db, struct err *err)
{
    struct event_job *job = (struct event_job *)writer_job;
    struct workos *workos = job->workos;
    bool handled = workos->script && script_handles_event(workos->script, job->event.type);
    struct event_record record;
    int rc = choose_fate(job, handled, &record, err);

    (void)db;
    if (rc == 0)
        rc = event_log_add(workos->events, job->kept, &record, &job->attempt.seq, err);
    job->duplicate = job->attempt.seq == 0;
    if (rc < 0 || job->duplicate)
        return rc;
    if (record.next_attempt_at)
        upkeep_wake(workos->upkeep, record.next_attempt_at);
    rc = mirror_apply(workos->mirror, job->kept, err);
    if (rc == 0 && handled && record.status == EVENT_DONE)
        rc = handle_event(&job->attempt, &record.status, err);
    return rc < 0 ? rc : handle_erasure(workos, job->kept, err);
}

static enum webhook_result store_event(struct workos *workos, struct event_job *job,
                                       struct err *err)
{
    int rc;

    job->arrived_ms = clock_mono_ms();
    atomic_fetch_add_explicit(&workos->waiting, 1, memory_order_relaxed);
    rc = writer_run(workos->writer, &job->job, err);
    if (rc < 0 && job->attempt.was_lost)
        rc = writer_run(workos->writer, &job->job, err);
    atomic_fetch_sub_explicit(&workos->waiting, 1, memory_order_relaxed);
    if (rc < 0) {
        log_error("event not stored", log_str("event", job->event.type),
                  log_str("id", job->event.id), log_str("error", err->text));
        return WEBHOOK_UNAVAILABLE;
    }
    log_debug(job->duplicate ? "event is known already" : "event received",
              log_str("event", job->event.type), log_str("id", job->event.id));
    return job->duplicate ? WEBHOOK_DUPLICATE : WEBHOOK_RECEIVED;
}

/* Set what is kept. A body without its secrets is a valid event as well. */
static int leave_out_secrets(struct event_job *job, struct err *err)
{
    bool found;
    int rc;

    job->kept = &job->event;
    job->clean_body.max = job->event.body_len * 4; /* 0 has become null everywhere */
    rc = secrets_remove(&job->event, &job->clean_body, &found, err);
    if (rc < 0 || !found)
        return rc;
    job->kept = &job->clean;
    return event_read(&job->clean, buf_text(&job->clean_body), job->clean_body.len, err);
}

static enum webhook_result receive_event(struct workos *workos, const char *body, size_t body_len,
                                         struct err *err)
{
    struct event_job job = {
        .job = {.run = run_event},
        .workos = workos,
        .reason = BUF_INIT(ERR_TEXT_MAX),
    };
    enum webhook_result result;
    int rc = event_read(&job.event, body, body_len, err);

    if (rc < 0)
        return rc == ERR_NOMEM ? WEBHOOK_UNAVAILABLE : WEBHOOK_INVALID;
    job.attempt.workos = workos;
    job.attempt.event = &job.event;
    rc = leave_out_secrets(&job, err);
    result = rc < 0 ? WEBHOOK_UNAVAILABLE : store_event(workos, &job, err);
    event_release(&job.event);
    event_release(&job.clean);
    buf_release(&job.clean_body);
    buf_release(&job.reason);
    return result;
}

enum webhook_result webhook_receive(struct workos *workos, const char *signature_header,
                                    const char *body, size_t body_len,
                                    enum signature_status *out_signature, struct err *err)
{
    struct signature_facts facts = {0};

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
    return receive_event(workos, body, body_len, err);
}
