/* SPDX-License-Identifier: MIT */
#include "workos/handle.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "workos/upkeep.h"
#include "workos/watchdog.h"
#include "workos/workos_state.h"

#include <assert.h>

static_assert((int)EVENT_AHEAD_MS > (int)HANDLE_LAST_RETRY_MS,
              "some retries would be taken for a wrong clock's");

int64_t handle_retry_delay_ms(int64_t attempts)
{
    int64_t delay_ms = HANDLE_FIRST_RETRY_MS;

    for (int64_t i = 1; i < attempts && delay_ms < HANDLE_LAST_RETRY_MS; i++)
        delay_ms *= 2;
    return delay_ms < HANDLE_LAST_RETRY_MS ? delay_ms : HANDLE_LAST_RETRY_MS;
}

/* Else it was the function that ended the transaction: interrupted while it wrote, or by an
 * INSERT OR ROLLBACK of its own. */
static bool is_disk_trouble(int code)
{
    return code == ERR_FULL || code == ERR_FATAL || code == ERR_NOMEM;
}

static int run_watched(struct attempt *attempt, bool late)
{
    struct workos *workos = attempt->workos;
    struct event *event = attempt->event;
    int64_t began_ns = clock_mono_ns();
    int rc;

    watchdog_enter(workos->watchdog, WATCHDOG_EVENT, event->type, event->id);
    rc = script_run_event(workos->script, workos->opts.db, event->type, &event->json, late,
                          &attempt->failure);
    watchdog_leave(workos->watchdog);
    attempt->took_ns = clock_mono_ns() - began_ns;
    note_function(workos, &workos->counts.event_functions, attempt->took_ns);
    return rc;
}

/* The transaction has gone, and the function may not even have noticed (a pcall swallows it). */
static int lose_transaction(struct attempt *attempt, bool failed, struct err *err)
{
    const struct db *db = attempt->workos->opts.db;

    if (!failed)
        err_set(&attempt->failure, ERR_SCRIPT, "the transaction was ended by an error: %s",
                db_trouble_text(db));
    attempt->was_lost = !is_disk_trouble(db_trouble(db));
    attempt->script_number = attempt->workos->script_number;
    return err_set(err, attempt->failure.code, "%s", attempt->failure.text);
}

/* What the function wrote, if it wrote anything. */
static int undo_function(struct workos *workos, bool has_written, struct err *err)
{
    int rc;

    if (!has_written)
        return 0;
    rc = stmt_run(workos->undo_function, err);
    return rc < 0 ? rc : stmt_run(workos->keep_function, err);
}

/* The function in its savepoint, which is made when it first writes. out_failed: it failed, and what it
 * wrote is undone. */
static int call_function(struct attempt *attempt, bool *out_failed, struct err *err)
{
    struct workos *workos = attempt->workos;
    struct db *db = workos->opts.db;
    bool late, has_written;
    int rc = event_log_is_late(workos->events, attempt->event, attempt->seq, &late, err);

    if (rc < 0)
        return rc;
    db_before_writing(db, workos->begin_function);
    *out_failed = run_watched(attempt, late) < 0;
    has_written = !db_before_writing(db, NULL);
    if (!db_in_transaction(db))
        return lose_transaction(attempt, *out_failed, err);
    if (!*out_failed && db_has_broken_references(db)) {
        *out_failed = true; /* else the writer would refuse the whole event (writer.h) */
        err_set(&attempt->failure, ERR_CONFLICT,
                "FOREIGN KEY constraint failed: a row refers to one that isn't there");
    }
    if (*out_failed)
        return undo_function(workos, has_written, err);
    return has_written ? stmt_run(workos->keep_function, err) : 0;
}

/* Once is enough of what fails a thousand times in the same way; each event has its error in the log of
 * events, too. */
static bool may_log(struct attempt *attempt, const char *message, const char *error)
{
    return repeat_may(&attempt->workos->repeats, clock_mono_ms(), message, error);
}

static void log_death(struct attempt *attempt, int64_t attempts)
{
    static const char message[] =
        "event function failed too often; the event is dead until authkitd retry";

    if (may_log(attempt, message, attempt->failure.text))
        log_error(message, log_str("event", attempt->event->type),
                  log_str("id", attempt->event->id), log_int("attempts", attempts),
                  log_str("error", attempt->failure.text));
}

static void log_failure(struct attempt *attempt, int64_t attempts, int64_t delay_ms)
{
    static const char message[] = "event function failed";

    if (may_log(attempt, message, attempt->failure.text))
        log_error(message, log_str("event", attempt->event->type),
                  log_str("id", attempt->event->id), log_int("attempts", attempts),
                  log_int("retry_in_s", delay_ms / 1000), log_str("error", attempt->failure.text));
}

static int record_failure(struct attempt *attempt, enum event_status *out_status, struct err *err)
{
    int64_t attempts = attempt->made_before + 1;
    int64_t delay_ms = handle_retry_delay_ms(attempts);
    struct event_record record = {
        .status = EVENT_FAILED,
        .attempts = attempts,
        .next_attempt_at = clock_wall_ms() + delay_ms,
        .error = attempt->failure.text,
    };

    text_make_utf8(attempt->failure.text);
    if (attempts >= HANDLE_ATTEMPTS_MAX) {
        record.status = EVENT_DEAD;
        record.next_attempt_at = 0;
        log_death(attempt, attempts);
    } else {
        log_failure(attempt, attempts, delay_ms);
        upkeep_wake(attempt->workos->upkeep, record.next_attempt_at);
    }
    *out_status = record.status;
    return event_log_update(attempt->workos->events, attempt->seq, &record, err);
}

static int record_success(struct attempt *attempt, enum event_status *out_status, struct err *err)
{
    static const char message[] = "event function ran";
    struct event_record record = {.status = EVENT_DONE, .attempts = attempt->made_before + 1};

    *out_status = EVENT_DONE;
    if (attempt->made_before == 0 && !attempt->is_retry)
        return 0;
    if (may_log(attempt, message, ""))
        log_info(message, log_str("event", attempt->event->type), log_str("id", attempt->event->id),
                 log_int("attempts", record.attempts));
    return event_log_update(attempt->workos->events, attempt->seq, &record, err);
}

int handle_event(struct attempt *attempt, enum event_status *out_status, struct err *err)
{
    bool failed = attempt->was_lost && attempt->script_number == attempt->workos->script_number;
    int rc = failed ? 0 : call_function(attempt, &failed, err);

    if (rc < 0)
        return rc;
    return failed ? record_failure(attempt, out_status, err)
                  : record_success(attempt, out_status, err);
}

int handle_erasure(struct workos *workos, const struct event *event, struct err *err)
{
    bool deleted, erased;
    int rc;

    if (!event->user_id.at)
        return 0;
    rc = mirror_is_deleted(workos->mirror, "user", event->user_id, &deleted, err);
    if (rc < 0 || !deleted)
        return rc;
    rc = event_log_erase(workos->events, event->user_id, &erased, err);
    if (erased) /* the event that deletes is itself among what is erased */
        db_scrub_wal(workos->opts.db);
    return rc;
}
