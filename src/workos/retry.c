/* SPDX-License-Identifier: MIT */
#include "workos/retry.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/handle.h"
#include "workos/intake.h"
#include "workos/retention.h"
#include "workos/upkeep.h"
#include "workos/workos_state.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_AT_A_TIME = 64,
    QUICK_MS = 50,
    PAUSE_MAX_MS = 5000,
    PAYLOAD_MAX = 64 * 1024 * 1024, /* more than a body can have */
};

/* ---------------------------------------------------------------------------------- one event */

/* Events that were given to the writer together. */
struct retry_group {
    sem_t done;
    int64_t began_ms, ended_ms; /* monotonic: the first began, the last ended; writer only */
};

struct retry_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct retry_group *group;
    int64_t seq;
    struct buf payload;
    struct event event;
    struct attempt attempt;
    bool has_outcome;         /* it was due */
    enum event_status status; /* the outcome */
    int rc;
    struct err err;
};

/* It can't run. It is kept, with why. */
static int give_up(struct retry_job *retry, int64_t attempts, const char *why, struct err *err)
{
    static const char message[] = "an event can't run; it is dead until authkitd retry";
    struct event_record record = {.status = EVENT_DEAD, .attempts = attempts, .error = why};

    if (repeat_may(&retry->workos->repeats, clock_mono_ms(), message, why))
        log_error(message, log_str("event", retry->event.type), log_str("id", retry->event.id),
                  log_str("error", why));
    return event_log_update(retry->workos->events, retry->seq, &record, err);
}

/* Something that came before it is in the object's line again: it waits for its turn. */
static int stand_in_line(struct retry_job *retry, int64_t attempts, struct err *err)
{
    struct event_record record = {.status = EVENT_WAITING, .attempts = attempts};

    return event_log_update(retry->workos->events, retry->seq, &record, err);
}

static int run_function(struct retry_job *retry, int64_t attempts, enum event_status *out_status,
                        struct err *err)
{
    char why[EVENT_NAME_MAX + 64];

    *out_status = EVENT_DEAD;
    if (!script_handles_event(retry->workos->script, retry->event.type)) {
        snprintf(why, sizeof(why), "the script has no function for %s any more", retry->event.type);
        return give_up(retry, attempts, why, err);
    }
    retry->attempt.workos = retry->workos;
    retry->attempt.event = &retry->event;
    retry->attempt.seq = retry->seq;
    retry->attempt.made_before = attempts;
    retry->attempt.is_retry = true;
    return handle_event(&retry->attempt, out_status, err);
}

/* The event as it came, where that is still known; else as it was stored. */
static int read_event(struct retry_job *retry, struct err *err)
{
    int rc = event_read(&retry->event, buf_text(&retry->payload), retry->payload.len, err);
    const char *body;
    size_t len;

    if (rc < 0 || !(body = bodies_find(retry->workos->bodies, retry->event.id, &len)))
        return rc;
    event_release(&retry->event);
    buf_reset(&retry->payload);
    buf_put(&retry->payload, body, len);
    if (!buf_ok(&retry->payload))
        return err_set(err, ERR_NOMEM, "no memory for an event's body");
    return event_read(&retry->event, buf_text(&retry->payload), len, err);
}

/* Read the event, and if its turn has come run its function. */
static int take_turn(struct retry_job *retry, int64_t attempts, enum event_status *out_status,
                     struct err *err)
{
    struct workos *workos = retry->workos;
    bool held;
    int rc = read_event(retry, err);

    *out_status = EVENT_DEAD;
    if (rc == ERR_INVALID) /* it was an event when it came: somebody changed the file */
        return give_up(retry, attempts, err->text, err);
    if (rc == 0)
        rc = event_log_is_held(workos->events, retry->event.object_id, retry->seq, &held, err);
    if (rc < 0)
        return rc;
    if (!held)
        return run_function(retry, attempts, out_status, err);
    *out_status = EVENT_WAITING;
    return stand_in_line(retry, attempts, err);
}

/* Done or dead: its user's texts may have to go, and the next event of the object has its turn. */
static int settle(struct retry_job *retry, enum event_status status, struct err *err)
{
    struct workos *workos = retry->workos;
    bool released;
    int rc = handle_erasure(workos, &retry->event, err);

    if (rc == 0 && status == EVENT_DONE)
        rc = retention_come_back(workos->opts.db, retry->seq, err);
    if (rc == 0)
        rc = event_log_release(workos->events, retry->seq, &released, err);
    if (rc == 0 && released)
        upkeep_wake(workos->upkeep, clock_wall_ms());
    return rc;
}

/*
 * It was expected, and nothing has brought it: it arrives now, with what is known of it. Its function has its
 * turn afterwards, as a job of its own.
 */
static int let_arrive(struct retry_job *retry, struct db *db, struct err *err)
{
    struct intake intake;
    int rc = read_event(retry, err);

    if (rc == 0)
        rc =
            intake_read(&intake, retry->workos, buf_text(&retry->payload), retry->payload.len, err);
    retry->status = EVENT_DEAD;
    if (rc == ERR_INVALID)
        return give_up(retry, 0, err->text, err);
    if (rc < 0)
        return rc;
    intake.is_put_off = true;
    rc = intake_take(&intake, db, err);
    retry->status = intake.status;
    intake_release(&intake);
    return rc;
}

static int run_if_due(struct retry_job *retry, struct db *db, struct err *err)
{
    enum event_status status;
    int64_t attempts;
    int rc;

    event_release(&retry->event); /* the writer may run a job again */
    buf_reset(&retry->payload);
    rc = event_log_load_due(retry->workos->events, retry->seq, clock_wall_ms(), &retry->has_outcome,
                            &status, &attempts, &retry->payload, err);
    if (rc < 0 || !retry->has_outcome)
        return rc;
    if (status == EVENT_EXPECTED)
        return let_arrive(retry, db, err);
    rc = take_turn(retry, attempts, &retry->status, err);
    if (rc < 0 || retry->status == EVENT_FAILED || retry->status == EVENT_WAITING)
        return rc;
    return settle(retry, retry->status, err);
}

/*
 * Once the group has taken long, what is left of it stays due: whoever came behind the group with a
 * webhook waits for one slow function, not for all of them.
 */
static bool is_groups_time_over(struct retry_job *retry)
{
    int64_t now_ms = clock_mono_ms();

    if (retry->group->began_ms == 0)
        retry->group->began_ms = now_ms;
    return now_ms - retry->group->began_ms > QUICK_MS && !retry->attempt.was_lost;
}

static int run_retry(struct writer_job *job, struct db *db, struct err *err)
{
    struct retry_job *retry = (struct retry_job *)job;
    int rc;

    if (is_groups_time_over(retry))
        return 0;
    rc = run_if_due(retry, db, err);
    retry->group->ended_ms = clock_mono_ms();
    return rc;
}

static void finish_retry(struct writer_job *job, int rc, const struct err *err)
{
    struct retry_job *retry = (struct retry_job *)job;

    retry->rc = rc;
    if (rc < 0)
        retry->err = *err;
    else if (retry->has_outcome && (retry->status == EVENT_DONE || retry->status == EVENT_DEAD))
        bodies_drop(retry->workos->bodies, retry->event.id);
    sem_post(&retry->group->done);
}

static void release_jobs(struct retry_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        event_release(&jobs[i].event);
        buf_release(&jobs[i].payload);
    }
    free(jobs);
}

/* ---------------------------------------------------------------------------------- what is due */

struct find_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    size_t max;
    int64_t seqs[MAX_AT_A_TIME];
    size_t count;
    int64_t next_ms;
};

static int run_find(struct writer_job *job, struct db *db, struct err *err)
{
    struct find_job *find = (struct find_job *)job;

    (void)db;
    find->count = 0;
    find->next_ms = 0;
    if (!find->workos->script) /* not there yet; installing it will wake us */
        return 0;
    return event_log_find_due(find->workos->events, clock_wall_ms(), find->seqs, find->max,
                              &find->count, &find->next_ms, err);
}

static void tell_outcome(const struct retry_job *retry)
{
    metric_table_count(&retry->workos->counts.events, retry->event.type, (size_t)retry->status);
    log_debug("event tried again", log_str("event", retry->event.type),
              log_str("id", retry->event.id),
              log_str("outcome", workos_outcome_names[retry->status]),
              log_int("function_us", retry->attempt.took_ns / 1000));
}

/* Give all of them to the writer, so that one commit serves many, and wait. */
static int run_together(struct workos *workos, struct retry_job *jobs, const struct find_job *find,
                        struct retry_group *group, struct err *err)
{
    size_t submitted = 0;
    int rc = 0;

    sem_init(&group->done, 0, 0);
    for (size_t i = 0; rc == 0 && i < find->count; i++) {
        jobs[i].job.run = run_retry;
        jobs[i].job.done = finish_retry;
        jobs[i].workos = workos;
        jobs[i].seq = find->seqs[i];
        jobs[i].payload.max = PAYLOAD_MAX;
        jobs[i].group = group;
        rc = writer_submit(workos->writer, &jobs[i].job, err);
        submitted += rc == 0;
    }
    for (size_t i = 0; i < submitted; i++)
        while (sem_wait(&group->done) < 0 && errno == EINTR)
            ;
    sem_destroy(&group->done);
    for (size_t i = 0; i < submitted; i++) {
        if (jobs[i].rc < 0 && jobs[i].attempt.was_lost)
            jobs[i].rc = writer_run(workos->writer, &jobs[i].job, &jobs[i].err);
        if (jobs[i].rc == 0 && jobs[i].has_outcome)
            tell_outcome(&jobs[i]);
        if (jobs[i].rc < 0 && rc == 0)
            rc = err_set(err, jobs[i].rc, "%s", jobs[i].err.text);
    }
    return rc;
}

/* out_took_ms: of the writer's time. */
static int run_found(struct workos *workos, const struct find_job *find, int64_t *out_took_ms,
                     struct err *err)
{
    struct retry_job *jobs = calloc(find->count, sizeof(*jobs));
    struct retry_group group = {0};
    int rc = jobs ? run_together(workos, jobs, find, &group, err)
                  : err_set(err, ERR_NOMEM, "no memory to run events again");

    release_jobs(jobs, jobs ? find->count : 0);
    *out_took_ms = group.ended_ms - group.began_ms;
    return rc;
}

void retry_set_pace(struct retry_pace *pace, int64_t took_ms, int64_t *out_pause_ms)
{
    *out_pause_ms = 0;
    if (took_ms <= QUICK_MS) {
        pace->at_a_time = pace->at_a_time < MAX_AT_A_TIME / 2 ? pace->at_a_time * 2 : MAX_AT_A_TIME;
        return;
    }
    pace->at_a_time = 1;
    *out_pause_ms = took_ms < PAUSE_MAX_MS ? took_ms : PAUSE_MAX_MS;
}

int retry_due(struct workos *workos, struct retry_pace *pace, int64_t *out_next_ms,
              int64_t *out_pause_ms, struct err *err)
{
    struct find_job find = {.job = {.run = run_find}, .workos = workos};
    int64_t took_ms;
    int rc;

    if (pace->at_a_time == 0)
        pace->at_a_time = 1;
    find.max = pace->at_a_time;
    *out_pause_ms = 0;
    rc = writer_run(workos->writer, &find.job, err);
    if (rc < 0)
        return rc;
    *out_next_ms = find.next_ms;
    if (find.count == 0)
        return 0;
    *out_next_ms = clock_wall_ms(); /* there may be more */
    rc = run_found(workos, &find, &took_ms, err);
    retry_set_pace(pace, took_ms, out_pause_ms);
    return rc;
}
