/* SPDX-License-Identifier: MIT */
#include "workos/put_back.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/tables.h"
#include "workos/workos_state.h"

#include <stdlib.h>
#include <string.h>

enum { PROBLEMS_MAX = 1024 * 1024 };

static const char *const whys[] = {
    [RETRY_UNKNOWN] = "there is no event with this id",
    [RETRY_DONE] = "it is done",
    [RETRY_WAITING] = "it waits for an earlier event of the same object: retry that one",
    [RETRY_ERASED] = "its user was deleted, and what was known of it erased",
};

/* By the ids, those of the same one in the order in which they were given. */
static int compare_places(const void *a, const void *b)
{
    const char *const *first = *(const char *const *const *)a;
    const char *const *second = *(const char *const *const *)b;
    int order = strcmp(*first, *second);

    return order != 0 ? order : (first > second) - (first < second);
}

int put_back_drop_repeats(const char **ids, size_t *count, struct err *err)
{
    const char ***places = calloc(*count + 1, sizeof(*places));
    const char *last = NULL;
    size_t left = 0;

    if (!places)
        return err_set(err, ERR_NOMEM, "no memory for the ids");
    for (size_t i = 0; i < *count; i++)
        places[i] = &ids[i];
    qsort(places, *count, sizeof(*places), compare_places);
    for (size_t i = 0; i < *count; i++) {
        if (last && strcmp(*places[i], last) == 0)
            *places[i] = NULL;
        else
            last = *places[i];
    }
    for (size_t i = 0; i < *count; i++)
        if (ids[i])
            ids[left++] = ids[i];
    *count = left;
    free(places);
    return 0;
}

static int put_one_back(struct event_log *events, const char *id, int64_t now_ms,
                        struct put_back_outcome *out, struct err *err)
{
    enum retry_result result;
    int rc = event_log_retry(events, id, now_ms, &result, err);

    if (rc < 0)
        return rc;
    if (result == RETRY_DUE) {
        out->put_back++;
    } else {
        out->refused++;
        buf_printf(&out->problems, "%s: %s\n", id, whys[result]);
    }
    return 0;
}

static int put_all_back(struct event_log *events, const struct put_back_request *request,
                        struct put_back_outcome *out, struct err *err)
{
    int64_t now_ms = clock_wall_ms();
    int rc = 0;

    out->put_back = 0; /* the writer may run a job again */
    out->refused = 0;
    buf_reset(&out->problems);
    if (request->count == 0)
        return event_log_retry_all(events, now_ms, &out->put_back, err);
    for (size_t i = 0; rc == 0 && i < request->count; i++)
        rc = put_one_back(events, request->ids[i], now_ms, out, err);
    return rc;
}

struct put_back_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    const struct put_back_request *request;
    struct put_back_outcome *out;
};

static int run_put_back(struct writer_job *job, struct db *db, struct err *err)
{
    struct put_back_job *put = (struct put_back_job *)job;

    (void)db;
    return put_all_back(put->workos->events, put->request, put->out, err);
}

int put_back(struct workos *workos, const struct put_back_request *request,
             struct put_back_outcome *out, struct err *err)
{
    struct put_back_job put = {
        .job = {.run = run_put_back}, .workos = workos, .request = request, .out = out};
    int rc;

    *out = (struct put_back_outcome){.problems = BUF_INIT(PROBLEMS_MAX)};
    rc = writer_run(workos->writer, &put.job, err);
    if (rc < 0)
        return rc;
    log_info("events put back to work", log_int("count", out->put_back));
    upkeep_wake(workos->upkeep, clock_wall_ms());
    return 0;
}

int put_back_at_rest(struct db *db, const struct put_back_request *request,
                     struct put_back_outcome *out, struct err *err)
{
    struct event_log *events = NULL;
    int rc = tables_migrate(db, err);

    *out = (struct put_back_outcome){.problems = BUF_INIT(PROBLEMS_MAX)};
    if (rc == 0)
        rc = event_log_open(&events, db, err);
    if (rc == 0)
        rc = db_exec(db, "BEGIN IMMEDIATE", err);
    if (rc == 0)
        rc = put_all_back(events, request, out, err);
    if (rc == 0)
        rc = db_exec(db, "COMMIT", err);
    event_log_close(events);
    return rc; /* what is left of a transaction goes with the connection */
}
