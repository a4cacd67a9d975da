/* SPDX-License-Identifier: MIT */
/*
 * event_log - the table workos_events: every event once, and what became of it.
 *
 *                       +-- its function failed --> failed --20 attempts--> dead
 *     arrives --ran---> done                          ^  |                   |
 *        |               ^ ^------- ran --------------|--+                   |
 *        |               |                            +---- authkitd retry --+
 *        +--> waiting ---+ (or failed): in its turn, behind a failed one of the same object
 *
 *     done      its function has run, or there was none for its type
 *     failed    its function raised or hit a limit; runs again at next_attempt_at
 *     waiting   its function has not run yet: an earlier event of the same object is failed or
 *               waiting, or there was no time when it came (webhook.h). The first in that line has a
 *               next_attempt_at once nothing holds it any more.
 *     dead      given up; runs again when somebody asks (event_log_retry). When its user is deleted nothing
 *               is left that could run, and it is nobody's trouble any more (IS_ERASED); but of a user.deleted
 *               the ids are left, and it can run.
 *     expected  only kept: its webhook came, and the Events API is to bring it in its turn (poller.h). It
 *               stands in no line, and nothing has become of it yet, in the mirror neither. When it is
 *               brought it arrives, as above, at the end of the log; and with what was kept of it when it
 *               has a next_attempt_at, since it wasn't brought.
 *
 * What is due is what has a next_attempt_at that has come. An object's line is in order of arrival
 * (_seq), and only its head ever runs. Where a crash leaves the line, there it goes on.
 *
 * Threads    event_log_open: main. All others: writer, inside a transaction.
 * Ownership  the statements belong to the struct event_log; texts that are passed in are borrowed
 *            for the call.
 * Errors     those of store/db.h.
 * Not here   when something is tried again (retry.h), what a function is (handle.h).
 */
#ifndef WORKOS_EVENT_LOG_H
#define WORKOS_EVENT_LOG_H

#include "base/buf.h"
#include "base/err.h"
#include "store/db.h"
#include "workos/event.h"

#include <stdbool.h>
#include <stdint.h>

enum event_status {
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_WAITING,
    EVENT_DEAD,
    EVENT_EXPECTED,
    EVENT_STATUSES
};

/* The words in the table. */
extern const char *const event_status_names[EVENT_STATUSES];

struct event_log;

int event_log_open(struct event_log **out, struct db *db, struct err *err) MUST_CHECK;
void event_log_close(struct event_log *log); /* NULL is fine */

/* What is recorded of an event besides the event itself. */
struct event_record {
    enum event_status status;
    int64_t attempts;
    int64_t next_attempt_at; /* ms since 1970; 0: none */
    const char *error;       /* NULL: none */
};

/* Insert it, unless its id is there already; out_seq is 0 then. Its body is kept as the payload. One that was
 * expected isn't there yet: it goes to the end of the log. */
int event_log_add(struct event_log *log, const struct event *event,
                  const struct event_record *record, int64_t *out_seq, struct err *err) MUST_CHECK;

int event_log_update(struct event_log *log, int64_t seq, const struct event_record *record,
                     struct err *err) MUST_CHECK;

/* Is an event of the object that came before seq (0: any) failed or waiting? */
int event_log_is_held(struct event_log *log, struct event_text object_id, int64_t seq, bool *out,
                      struct err *err) MUST_CHECK;

/* Is there an event "backfill:<object id>"? Then the object's "created" function has run (backfill.h). */
int event_log_is_backfilled(struct event_log *log, struct event_text object_id, bool *out,
                            struct err *err) MUST_CHECK;

/* Has a newer event of the same object been handled already? seq: the event's own number. */
int event_log_is_late(struct event_log *log, const struct event *event, int64_t seq, bool *out,
                      struct err *err) MUST_CHECK;

/* That event holds its object's line no more: the next one, if it waits, is due now. */
int event_log_release(struct event_log *log, int64_t seq, bool *out_released, struct err *err)
    MUST_CHECK;

/* What the log has of that id; seq is 0 when it has nothing. */
struct logged_event {
    int64_t seq;
    enum event_status status;
    int64_t attempts;
    bool has_payload;
};
int event_log_find(struct event_log *log, const char *id, struct logged_event *out, struct err *err)
    MUST_CHECK;

/* Empty payload and last_error of the user's events that are done or dead (ERASED_PAYLOAD). out_erased: some had
 * one. */
int event_log_erase(struct event_log *log, struct event_text user_id, bool *out_erased,
                    struct err *err) MUST_CHECK;

/* The same for one event that is done or dead, if its user has been deleted. */
int event_log_erase_one(struct event_log *log, int64_t seq, struct err *err) MUST_CHECK;

/* An event that is due, by its number: its status, how often it was tried, and its payload, appended to the
 * buffer. out_is_due is false when it isn't any more; then nothing else is set. */
int event_log_load_due(struct event_log *log, int64_t seq, int64_t now_ms, bool *out_is_due,
                       enum event_status *out_status, int64_t *out_attempts, struct buf *payload,
                       struct err *err) MUST_CHECK;

/* No attempt is put off for so long (handle.h: an hour at most). What seems to be was put off while the clock
 * was ahead, and has been set right since: it is due. */
enum { EVENT_AHEAD_MS = 61 * 60 * 1000 };

/* The numbers of events that are due, the longest due first, at most max of them. out_next_ms: when
 * the first of those that aren't due will be, 0 when there is none. */
int event_log_find_due(struct event_log *log, int64_t now_ms, int64_t *out_seqs, size_t max,
                       size_t *out_count, int64_t *out_next_ms, struct err *err) MUST_CHECK;

/* Every failed event is due now, its attempts counted anew. out_count: how many of them are of a type that
 * counts. */
int event_log_renew_failed(struct event_log *log, int64_t now_ms,
                           bool (*counts)(void *arg, const char *type), void *arg,
                           int64_t *out_count, struct err *err) MUST_CHECK;

/* The ids of expected events that aren't due yet, the first max of them. */
int event_log_list_expected(struct event_log *log, char (*out_ids)[EVENT_NAME_MAX + 1], size_t max,
                            size_t *out_count, struct err *err) MUST_CHECK;

/* What was expected before then (or by a clock that was ahead) is due now; out_count: so many. */
int event_log_stop_expecting(struct event_log *log, int64_t before_ms, int64_t now_ms,
                             int64_t *out_count, struct err *err) MUST_CHECK;

enum retry_result {
    RETRY_DUE,     /* it was failed, dead or expected and is due now */
    RETRY_UNKNOWN, /* no event has that id */
    RETRY_DONE,    /* it is done: nothing to do again */
    RETRY_WAITING, /* it waits for an earlier one of its object, which is what to retry */
    RETRY_ERASED,  /* dead, and its payload erased with its user: nothing is left to run */
};
int event_log_retry(struct event_log *log, const char *id, int64_t now_ms, enum retry_result *out,
                    struct err *err) MUST_CHECK;
int event_log_retry_all(struct event_log *log, int64_t now_ms, int64_t *out_count, struct err *err)
    MUST_CHECK;

#endif
