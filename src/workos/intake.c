/* SPDX-License-Identifier: MIT */
#include "workos/intake.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "workos/secrets.h"
#include "workos/workos_state.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- the writer's part */

/* Has the sender been kept waiting for long? */
static bool is_overdue(const struct intake *intake)
{
    bool is_crowd = workos_is_crowd(intake->workos, &intake->workos->events_waiting);

    return intake->arrived_ms != INT64_MAX &&
           clock_mono_ms() - intake->arrived_ms >
               (is_crowd ? INTAKE_CROWDED_PATIENCE_MS : INTAKE_PATIENCE_MS);
}

/* Is there an event of that id? */
static int is_logged(const struct intake *intake, const char *id, bool *out, struct err *err)
{
    struct logged_event logged;
    int rc = event_log_find(intake->workos->events, id, &logged, err);

    *out = rc == 0 && logged.seq != 0;
    return rc;
}

/* Is it the creation of an object, or its deletion, that backfill has run the function for already? */
static int is_backfilled(const struct intake *intake, bool *out, struct err *err)
{
    struct event_text id = intake->event.object_id;
    char prune_id[EVENT_NAME_MAX + 1];

    *out = false;
    if (text_ends_with(intake->event.type, ".created"))
        return event_log_is_backfilled(intake->workos->events, id, out, err);
    if (!text_ends_with(intake->event.type, ".deleted") || !id.at ||
        id.len >= sizeof(prune_id) - strlen("prune:"))
        return 0;
    snprintf(prune_id, sizeof(prune_id), "prune:%.*s", (int)id.len, id.at);
    return is_logged(intake, prune_id, out, err);
}

/*
 * What is to become of an event that has just come, before anything is written. Its row says so from
 * the start: done, when its function will run now or there is none; if the function fails after all,
 * that is written then.
 */
static int choose_fate(struct intake *intake, bool handled, struct event_record *out,
                       struct err *err)
{
    struct workos *workos = intake->workos;
    bool is_suspect, held = false;
    int rc;

    buf_reset(&intake->reason); /* the writer may run a job again */
    rc = suspects_take(workos->suspects, intake->event.id, &is_suspect, &intake->reason, err);
    if (rc == 0 && handled && !is_suspect)
        rc = event_log_is_held(workos->events, intake->event.object_id, 0, &held, err);
    if (rc < 0)
        return rc;
    *out = (struct event_record){.status = EVENT_DONE, .attempts = handled};
    if (is_suspect)
        *out = (struct event_record){
            .status = EVENT_DEAD, .attempts = 1, .error = buf_text(&intake->reason)};
    else if (held)
        *out = (struct event_record){.status = EVENT_WAITING};
    else if (handled && (intake->is_put_off || is_overdue(intake)))
        *out = (struct event_record){.status = EVENT_WAITING, .next_attempt_at = clock_wall_ms()};
    return 0;
}

/* Whom the mirror has just been told of is nobody to be erased. */
static bool is_user_there(const struct event *event, enum mirror_found found)
{
    return found == MIRROR_PRESENT && text_starts_with(event->type, "user.");
}

/* Its function has still to run, and what is stored of it is less than what came. */
static void remember(const struct intake *intake)
{
    if (intake->kept != &intake->event && intake->status != EVENT_DONE &&
        intake->status != EVENT_DEAD)
        bodies_keep(intake->workos->bodies, &intake->event);
}

/* Of one that was expected, and has come. */
static void forget(const struct intake *intake)
{
    if (!intake->duplicate && (intake->status == EVENT_DONE || intake->status == EVENT_DEAD))
        bodies_drop(intake->workos->bodies, intake->event.id);
}

static int take_in(struct intake *intake, struct err *err)
{
    struct workos *workos = intake->workos;
    bool handled = workos->script && script_handles_event(workos->script, intake->event.type);
    enum mirror_found found;
    struct event_record record;
    bool backfilled;
    int rc = is_backfilled(intake, &backfilled, err);

    handled = handled && !backfilled;
    if (rc == 0)
        rc = choose_fate(intake, handled, &record, err);
    if (rc == 0)
        rc = event_log_add(workos->events, intake->kept, &record, &intake->attempt.seq, err);
    intake->duplicate = intake->attempt.seq == 0;
    if (rc < 0 || intake->duplicate)
        return rc;
    if (record.next_attempt_at)
        upkeep_wake(workos->upkeep, record.next_attempt_at);
    rc = mirror_apply(workos->mirror, intake->kept, &found, err);
    if (rc == 0 && handled && record.status == EVENT_DONE)
        rc = handle_event(&intake->attempt, &record.status, err);
    intake->status = record.status;
    remember(intake);
    if (rc < 0 || is_user_there(intake->kept, found))
        return rc;
    return handle_erasure(workos, intake->kept, err);
}

/* On disk, and no more: what becomes of it is decided when it arrives in its turn. */
static int keep(struct intake *intake, struct err *err)
{
    const struct event_record record = {.status = EVENT_EXPECTED};
    int rc =
        event_log_add(intake->workos->events, intake->kept, &record, &intake->attempt.seq, err);

    intake->duplicate = intake->attempt.seq == 0;
    intake->status = record.status;
    if (rc == 0 && !intake->duplicate)
        remember(intake);
    return rc;
}

static int run_event(struct writer_job *job, struct db *db, struct err *err)
{
    struct intake *intake = (struct intake *)job;

    (void)db;
    return intake->is_expected ? keep(intake, err) : take_in(intake, err);
}

int intake_take(struct intake *intake, struct db *db, struct err *err)
{
    return run_event(&intake->job, db, err);
}

/* ---------------------------------------------------------------------------------- the caller's part */

/* Set what is kept. A body without its secrets is a valid event as well. */
static int leave_out_secrets(struct intake *intake, struct err *err)
{
    bool found;
    int rc;

    intake->kept = &intake->event;
    intake->clean_body.max = intake->event.body_len * 4; /* 0 has become null everywhere */
    rc = secrets_remove(&intake->event, &intake->clean_body, &found, err);
    if (rc < 0 || !found)
        return rc;
    intake->kept = &intake->clean;
    return event_read(&intake->clean, buf_text(&intake->clean_body), intake->clean_body.len, err);
}

int intake_read(struct intake *intake, struct workos *workos, const char *body, size_t body_len,
                struct err *err)
{
    int rc;

    *intake = (struct intake){
        .job = {.run = run_event, .without_savepoint = true}, /* its function has one of its own */
        .workos = workos,
        .reason = BUF_INIT(ERR_TEXT_MAX)};
    rc = event_read(&intake->event, body, body_len, err);
    if (rc < 0)
        return rc;
    intake->attempt.workos = workos;
    intake->attempt.event = &intake->event;
    rc = leave_out_secrets(intake, err);
    if (rc < 0)
        intake_release(intake);
    return rc;
}

void intake_release(struct intake *intake)
{
    event_release(&intake->event);
    event_release(&intake->clean);
    buf_release(&intake->clean_body);
    buf_release(&intake->reason);
}

/* A line for each event, for who looks for one. */
static void log_outcome(const struct intake *intake, size_t outcome)
{
    bool has_waited = intake->arrived_ms != INT64_MAX, has_run = intake->attempt.took_ns > 0;
    struct log_field none = log_str("", NULL);

    log_debug(intake->duplicate ? "event is known already" : "event received",
              log_str("event", intake->event.type), log_str("id", intake->event.id),
              log_str("outcome", workos_outcome_names[outcome]),
              has_waited ? log_int("ms", clock_mono_ms() - intake->arrived_ms) : none,
              has_run ? log_int("function_us", intake->attempt.took_ns / 1000) : none);
}

/* is_again: it may be an event that was only shown once more. */
static void tell_outcome(const struct intake *intake, bool is_again, int rc, const struct err *err)
{
    static struct log_limit limit; /* a full disk refuses thousands a second */
    size_t outcome = intake->duplicate ? OUTCOME_DUPLICATE : (size_t)intake->status;

    if (rc < 0) {
        if (log_may(&limit))
            log_error("event not stored", log_str("event", intake->event.type),
                      log_str("id", intake->event.id), log_str("error", err->text));
        return;
    }
    if (!intake->duplicate || !is_again)
        metric_table_count(&intake->workos->counts.events, intake->event.type, outcome);
    if (log_is_on(LOG_LEVEL_DEBUG))
        log_outcome(intake, outcome);
}

static void submit(struct intake *intake);

static void note_end(struct intake *intake, int rc, const struct err *err)
{
    intake->rc = rc;
    if (rc < 0)
        intake->err = *err;
    intake->done(intake->arg); /* the intake may be gone from here on */
}

/* Where the function has ended everybody's transaction it is run once more, to record that (handle.h). */
static void finish_run(struct writer_job *job, int rc, const struct err *err)
{
    struct intake *intake = (struct intake *)job;

    if (rc < 0 && intake->attempt.was_lost && !intake->is_second_run) {
        intake->is_second_run = true;
        submit(intake);
    } else {
        if (rc == 0)
            forget(intake);
        note_end(intake, rc, err);
    }
}

static void submit(struct intake *intake)
{
    struct err err;
    int rc;

    intake->job.done = finish_run;
    rc = writer_submit(intake->workos->writer, &intake->job, &err);
    if (rc < 0) /* else the outcome is the writer's to set, and may be there already */
        note_end(intake, rc, &err);
}

static void start(struct intake *intake, int64_t arrived_ms, void (*done)(void *arg), void *arg)
{
    intake->arrived_ms = arrived_ms;
    intake->done = done;
    intake->arg = arg;
    submit(intake);
}

void intake_begin(struct intake *intake, bool is_waited_for, void (*done)(void *arg), void *arg)
{
    intake->job.is_waited_for = is_waited_for;
    atomic_fetch_add_explicit(&intake->workos->events_waiting, 1, memory_order_relaxed);
    start(intake, clock_mono_ms(), done, arg);
}

int intake_outcome(const struct intake *intake, struct err *err)
{
    atomic_fetch_sub_explicit(&intake->workos->events_waiting, 1, memory_order_relaxed);
    tell_outcome(intake, false, intake->rc, &intake->err);
    return intake->rc < 0 ? err_set(err, intake->rc, "%s", intake->err.text) : 0;
}

static int run_look(struct writer_job *job, struct db *db, struct err *err)
{
    struct intake *intake = (struct intake *)job;
    struct logged_event known;
    int rc = event_log_find(intake->workos->events, intake->event.id, &known, err);

    (void)db;
    intake->duplicate = rc == 0 && known.seq != 0;
    intake->has_function =
        intake->workos->script && script_handles_event(intake->workos->script, intake->event.type);
    return rc;
}

int intake_look(struct intake *intake, struct err *err)
{
    int rc;

    intake->job.run = run_look;
    intake->arrived_ms = clock_mono_ms();
    rc = writer_run(intake->workos->writer, &intake->job, err);
    intake->job.run = run_event; /* it may be taken in all the same */
    if (rc < 0 || intake->duplicate)
        tell_outcome(intake, false, rc, err);
    return rc;
}

static void post(void *arg)
{
    sem_post(arg);
}

int intake_run_all(struct intake *intakes, size_t count, struct err *err)
{
    const int64_t nobody_waits = INT64_MAX;
    sem_t done;
    int rc = 0;

    sem_init(&done, 0, 0);
    for (size_t i = 0; i < count; i++)
        start(&intakes[i], nobody_waits, post, &done);
    for (size_t i = 0; i < count; i++)
        while (sem_wait(&done) < 0 && errno == EINTR)
            ;
    sem_destroy(&done);
    for (size_t i = 0; i < count; i++) {
        tell_outcome(&intakes[i], true, intakes[i].rc, &intakes[i].err);
        if (intakes[i].rc < 0 && rc == 0)
            rc = err_set(err, intakes[i].rc, "%s", intakes[i].err.text);
    }
    return rc;
}
