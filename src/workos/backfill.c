/* SPDX-License-Identifier: MIT */
#include "workos/backfill.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/thread.h"
#include "crypto/digest.h"
#include "fetch/fetch.h"
#include "workos/api.h"
#include "workos/backfill_items.h"
#include "workos/circle.h"
#include "workos/workos_state.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNTOLD_FAILURES = 2, /* of WorkOS's, one after the other; a third is trouble that is told */
    TIMEOUT_MS = 60000,
    DELAY_FIRST_MS = 500,
    DELAY_MAX_MS = 30000,
    SLOW_CALL_MS = 5000,
    SLICE_MS = 50,
    LOG_EVERY_MS = 10000,
    LOST_CURSORS_MAX = 5,
    MARK_MAX_MS = 24 * 3600000, /* a listing that began longer ago is begun anew */
    MARK_FRESH_MS = 3600000,    /* so long a listing that is complete tells what is stale */
    PATH_MAX_BYTES = 4096,
    REFUSED_MAX = 4096,
    API_HASH_BYTES = 16,
};

enum state { IDLE, RUNNING, DONE, ASKS, STOPPED, FAILED };

static const char *const state_names[] = {"idle", "running", "done", "asks", "stopped", "failed"};

/* What others may see of a run. */
struct progress {
    int64_t run; /* its number: when it began */
    enum state state;
    bool resumed;
    int64_t since_ms; /* when what is resumed began; it stood at: */
    const char *since_stage;
    int64_t since_listed;
    const char *stage;
    int64_t stage_listed, done, total;
    int64_t trouble_since_ms; /* monotonic; 0: none */
    int64_t call_since_ms;    /* monotonic; 0: no call is going on */
    char trouble[ERR_TEXT_MAX], error[ERR_TEXT_MAX];
    char refused[REFUSED_MAX];
    struct backfill_counts counts[BACKFILL_TYPES];
};

struct backfill {
    struct workos *workos;
    struct workos_api_opts api;
    pthread_t thread;
    atomic_bool stopping;

    pthread_mutex_t lock;
    bool has_thread; /* guarded by lock, as all that follows */
    bool refusing;
    struct backfill_request request;
    struct progress progress;
};

/* Why what is stale isn't removed. */
enum doubt { NO_DOUBT, OF_OTHERS, INCOMPLETE, EMPTY, AS_ORGANIZATIONS, AS_USERS, MOST };

static const char *const doubt_texts[] = {
    [NO_DOUBT] = "",
    [OF_OTHERS] = ("WorkOS listed none of those that were here: is WORKOS_API_KEY of the right "
                   "environment?"),
    [INCOMPLETE] = "not all of them could be listed",
    [EMPTY] = "WorkOS listed none at all",
    [AS_ORGANIZATIONS] =
        "they are listed by organization, and the list of organizations can't be right",
    [AS_USERS] = "the list of users can't be right, so this one may be wrong as well",
    [MOST] = "is WORKOS_API_KEY of the right environment? If it is, --prune-most removes them",
};

/* A run, its thread's own. */
struct run {
    struct backfill *backfill;
    struct workos *workos;
    struct backfill_request request;
    struct api *api;
    struct backfill_mark mark, next;
    bool resumed;
    struct retry_pace pace;
    int64_t next_call_ms, next_log_ms; /* monotonic */
    int64_t trouble_since_ms, delay_ms;
    int failures; /* since trouble_since_ms */
    bool trouble_is_told;
    int64_t call_began_ms;  /* monotonic: the last one */
    int64_t failed_call_ms; /* the same, if it failed; 0: it went well */
    int64_t asked_ms;       /* to wait before the next call, by WorkOS; -1: nothing */
    int lost_cursors;
    struct circle circle; /* of the list's cursors */
    int64_t done, total;
    bool more; /* a step's answer */
    struct backfill_counts counts[BACKFILL_TYPES];
    enum doubt doubts[BACKFILL_TYPES];
    struct buf refused;
};

/* ------------------------------------------------------------------------- telling */

static const char *stage_name(const struct run *run)
{
    static const char *const checks[BACKFILL_TYPES] = {
        [BACKFILL_USERS] = "check of users",
        [BACKFILL_ORGANIZATIONS] = "check of organizations",
        [BACKFILL_MEMBERSHIPS] = "check of memberships",
        [BACKFILL_INVITATIONS] = "check of invitations",
    };

    if (run->mark.is_survey && run->mark.stage < BACKFILL_TYPES)
        return checks[run->mark.stage];
    return run->mark.stage < BACKFILL_TYPES ? backfill_kinds[run->mark.stage].name : "stale";
}

static void log_progress(struct run *run, const char *message)
{
    struct backfill_counts sum = {0};

    for (int i = 0; i < BACKFILL_TYPES; i++) {
        sum.listed += run->counts[i].listed;
        sum.created += run->counts[i].created;
        sum.changed += run->counts[i].changed;
        sum.removed += run->counts[i].removed;
        sum.failed += run->counts[i].failed;
    }
    log_info(message, log_str("stage", stage_name(run)), log_int("listed", sum.listed),
             log_int("new", sum.created), log_int("changed", sum.changed),
             log_int("removed", sum.removed), log_int("functions_failed", sum.failed));
}

static void tell_stage(struct run *run, const char *stage)
{
    struct backfill *backfill = run->backfill;

    pthread_mutex_lock(&backfill->lock);
    backfill->progress.stage = stage;
    backfill->progress.resumed = run->resumed;
    backfill->progress.stage_listed = run->mark.listed;
    backfill->progress.done = run->done;
    backfill->progress.total = run->total;
    memcpy(backfill->progress.counts, run->counts, sizeof(run->counts));
    pthread_mutex_unlock(&backfill->lock);
    if (clock_mono_ms() >= run->next_log_ms) {
        log_progress(run, "backfill");
        run->next_log_ms = clock_mono_ms() + LOG_EVERY_MS;
    }
}

static void tell(struct run *run)
{
    tell_stage(run, stage_name(run));
}

static void tell_call(struct run *run, int64_t since_ms)
{
    pthread_mutex_lock(&run->backfill->lock);
    run->backfill->progress.call_since_ms = since_ms;
    pthread_mutex_unlock(&run->backfill->lock);
}

/* ------------------------------------------------------------------------- patience */

static bool is_stopping(void *arg)
{
    struct run *run = arg;

    return atomic_load(&run->backfill->stopping);
}

/* False when it is to stop. */
static bool pause_until(struct run *run, int64_t until_ms)
{
    int64_t left_ms;

    while (!is_stopping(run) && (left_ms = until_ms - clock_mono_ms()) > 0) {
        struct timespec slice = {.tv_nsec =
                                     (long)(left_ms < SLICE_MS ? left_ms : SLICE_MS) * 1000000L};

        nanosleep(&slice, NULL);
    }
    return !is_stopping(run);
}

static void all_is_well(struct run *run)
{
    if (run->trouble_since_ms == 0)
        return;
    run->trouble_since_ms = 0;
    if (!run->trouble_is_told)
        return;
    log_info("backfill goes on");
    pthread_mutex_lock(&run->backfill->lock);
    run->backfill->progress.trouble_since_ms = 0;
    pthread_mutex_unlock(&run->backfill->lock);
}

static void note_trouble(struct run *run)
{
    if (run->trouble_since_ms == 0) {
        run->trouble_since_ms = run->failed_call_ms ? run->failed_call_ms : clock_mono_ms();
        run->delay_ms = DELAY_FIRST_MS;
        run->failures = 0;
        run->trouble_is_told = false;
    }
    run->failures++;
}

/* What is over in a moment is no news: now and then WorkOS refuses somebody who asks often. */
static bool is_worth_telling(const struct run *run)
{
    bool is_ours = run->failed_call_ms == 0; /* the disk, say */

    return is_ours || run->failures > UNTOLD_FAILURES || run->asked_ms >= SLOW_CALL_MS;
}

static void tell_trouble(struct run *run, const struct err *err)
{
    struct progress *progress = &run->backfill->progress;

    if (!run->trouble_is_told)
        log_warn("backfill can't go on at the moment", log_str("error", err->text));
    run->trouble_is_told = true;
    pthread_mutex_lock(&run->backfill->lock);
    progress->trouble_since_ms = run->trouble_since_ms;
    snprintf(progress->trouble, sizeof(progress->trouble), "%s", err->text);
    pthread_mutex_unlock(&run->backfill->lock);
}

/* When to try again: after a longer pause each time, and not before WorkOS says (API_RETRY_AFTER_MAX_MS at most). */
static int64_t next_try_ms(struct run *run)
{
    int64_t delay_ms = run->delay_ms;

    run->delay_ms = delay_ms < DELAY_MAX_MS / 2 ? delay_ms * 2 : DELAY_MAX_MS;
    return clock_mono_ms() + (run->asked_ms > delay_ms ? run->asked_ms : delay_ms);
}

/* Shall what failed be tried again? If so, it has waited: as long as it may at most, for a last try. */
static bool try_again(struct run *run, int rc, struct err *err)
{
    int64_t give_up_ms, next_ms;

    if (rc != ERR_IO && rc != ERR_BUSY && rc != ERR_FULL && rc != ERR_NOMEM)
        return false;
    note_trouble(run);
    if (is_worth_telling(run))
        tell_trouble(run, err);
    give_up_ms = run->trouble_since_ms + run->request.give_up_s * 1000;
    if (clock_mono_ms() >= give_up_ms) {
        err_prefix(err, "given up after %" PRId64 " s: ", run->request.give_up_s);
        return false;
    }
    next_ms = next_try_ms(run);
    if (!pause_until(run, next_ms < give_up_ms ? next_ms : give_up_ms)) {
        err_set(err, ERR_CLOSED, "stopped");
        return false;
    }
    return true;
}

/* ------------------------------------------------------------------------- small jobs */

typedef int step_fn(struct run *run, struct db *db, struct err *err);

struct step_job {
    struct writer_job job; /* first: it is cast back */
    struct run *run;
    step_fn *step;
};

static int run_step(struct writer_job *job, struct db *db, struct err *err)
{
    struct step_job *step = (struct step_job *)job;

    return step->step(step->run, db, err);
}

static int do_step(struct run *run, step_fn *fn, struct err *err)
{
    int rc;

    do {
        struct step_job step = {.job = {.run = run_step}, .run = run, .step = fn};

        rc = writer_run(run->workos->writer, &step.job, err);
    } while (rc < 0 && try_again(run, rc, err));
    if (rc == 0)
        all_is_well(run);
    return rc;
}

/* ------------------------------------------------------------------------- begin and end */

static int read_mark(struct run *run, struct db *db, struct err *err)
{
    return backfill_mark_read(db, &run->mark, err);
}

static int write_mark(struct run *run, struct db *db, struct err *err)
{
    int rc = run->mark.is_pruning ? backfill_seen_create(db, err) : 0;

    return rc < 0 ? rc : backfill_mark_write(db, &run->mark, err);
}

static int clear_mark(struct run *run, struct db *db, struct err *err)
{
    (void)run;
    return backfill_mark_clear(db, err);
}

static int forget_some(struct run *run, struct db *db, struct err *err)
{
    return backfill_seen_forget(db, &run->more, err);
}

/* The mark first: without it, nothing ever takes what is left there for seen. What is left when it is
 * to stop, the next run forgets. */
static int forget_all(struct run *run, struct err *err)
{
    int rc = do_step(run, clear_mark, err);

    run->more = true;
    while (rc == 0 && run->more && !is_stopping(run))
        rc = do_step(run, forget_some, err);
    return rc;
}

/* Which environment's lists these are. A hash, for the file is no place for a key. */
static int name_api(const struct workos_api_opts *api, char out[EVENT_NAME_MAX + 1],
                    struct err *err)
{
    const struct crypto_part parts[] = {
        {api->hostname, strlen(api->hostname) + 1},
        {&api->port, sizeof(api->port)},
        {api->key, strlen(api->key)},
    };
    unsigned char hash[SHA256_BYTES];
    int rc = crypto_sha256_parts(parts, ARRAY_LEN(parts), hash, err);

    for (size_t i = 0; rc == 0 && i < API_HASH_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    return rc;
}

/* Why the run can't go on where the mark says, or NULL. */
static const char *why_anew(const struct run *run, const char *api)
{
    const struct backfill_mark *mark = &run->mark;
    int64_t now_ms = clock_wall_ms(), age_ms = now_ms - mark->started_ms;
    bool prune = run->request.prune != BACKFILL_KEEP;

    if (mark->started_ms == 0)
        return "there is none";
    if (strcmp(mark->api, api) != 0)
        return "it was made with another API key";
    if (age_ms < 0 || age_ms >= MARK_MAX_MS)
        return "it is too old";
    if (prune && !mark->is_pruning)
        return "it didn't write down what is there, as --prune must";
    if (!prune && mark->is_survey)
        return "it only looked, as --prune does first";
    if (mark->stage == BACKFILL_TYPES && (!prune || now_ms - mark->complete_ms >= MARK_FRESH_MS))
        return "it is complete";
    return NULL;
}

/* So that nobody takes the end of an old listing for a new one. */
static void tell_resumed(struct run *run)
{
    struct progress *progress = &run->backfill->progress;

    pthread_mutex_lock(&run->backfill->lock);
    progress->resumed = true;
    progress->since_ms = run->mark.started_ms;
    progress->since_stage = stage_name(run);
    progress->since_listed = run->mark.listed;
    pthread_mutex_unlock(&run->backfill->lock);
}

static void log_begin(const struct run *run)
{
    char since[CLOCK_TEXT_MAX];

    clock_format_ms(run->mark.started_ms, since);
    log_info("backfill begins", log_str("stage", stage_name(run)),
             log_str("resumed", run->resumed ? "yes" : "no"), log_str("since", since));
}

/* From the beginning, with nothing left of the run before. */
static int begin_anew(struct run *run, const char *why, const char *api, struct err *err)
{
    bool prune = run->request.prune != BACKFILL_KEEP;

    if (run->mark.started_ms != 0)
        log_info("backfill: what an earlier one had listed is left", log_str("why", why));
    run->mark = (struct backfill_mark){
        .started_ms = clock_wall_ms(), .is_pruning = prune, .is_survey = prune};
    snprintf(run->mark.api, sizeof(run->mark.api), "%s", api);
    return forget_all(run, err);
}

/* One that doesn't prune has no use for what is seen, and won't write it down any more. */
static int leave_seen(struct run *run, struct err *err)
{
    run->mark.is_pruning = false;
    return forget_all(run, err);
}

static int begin(struct run *run, struct err *err)
{
    char api[EVENT_NAME_MAX + 1] = "";
    const char *why;
    int rc = name_api(&run->backfill->api, api, err);

    if (rc == 0)
        rc = do_step(run, read_mark, err);
    if (rc < 0)
        return rc;
    why = why_anew(run, api);
    run->resumed = !why;
    if (run->resumed)
        tell_resumed(run);
    if (why)
        rc = begin_anew(run, why, api, err);
    else if (run->mark.is_pruning && run->request.prune == BACKFILL_KEEP)
        rc = leave_seen(run, err);
    if (rc == 0 && is_stopping(run)) /* with seen ids of another run still there, perhaps */
        rc = err_set(err, ERR_CLOSED, "stopped");
    if (rc == 0)
        rc = do_step(run, write_mark, err);
    log_begin(run);
    return rc;
}

/* ------------------------------------------------------------------------- one page */

static void put_path(struct buf *out, const struct backfill_mark *mark)
{
    buf_printf(out, "%s?limit=%d&order=asc", backfill_kinds[mark->stage].path, BACKFILL_PAGE);
    if (mark->stage == BACKFILL_MEMBERSHIPS) {
        /* WorkOS wants to know whose, and lists active ones only unless it is told. */
        buf_puts(out, "&statuses=active%2Cinactive%2Cpending&organization_id=");
        fetch_put_escaped(out, mark->organization);
    }
    if (mark->after[0]) {
        buf_puts(out, "&after=");
        fetch_put_escaped(out, mark->after);
    }
}

/* At the pace that was asked for. */
static int get(struct run *run, const char *path, struct api_answer *out, struct err *err)
{
    int64_t now_ms;
    int rc;

    if (!pause_until(run, run->next_call_ms))
        return err_set(err, ERR_CLOSED, "stopped");
    now_ms = clock_mono_ms();
    run->next_call_ms = now_ms + 1000 / run->request.pages_per_s;
    tell_call(run, now_ms);
    run->call_began_ms = now_ms;
    rc = api_call(run->api, "GET", path, NULL, out, err);
    if (rc == ERR_IO || rc == ERR_BUSY) {
        run->failed_call_ms = now_ms;
        run->asked_ms = out->retry_after_ms;
    } else {
        run->failed_call_ms = 0;
        run->asked_ms = -1;
    }
    tell_call(run, 0);
    return rc;
}

static int get_page(struct run *run, struct api_answer *out, struct err *err)
{
    struct buf path = BUF_INIT(PATH_MAX_BYTES);
    int rc;

    put_path(&path, &run->mark);
    rc = get(run, buf_text(&path), out, err);
    buf_release(&path);
    return rc;
}

/* Where the list stood is gone, or WorkOS never knew it. */
static bool is_lost_cursor(struct run *run, int rc, int status)
{
    return rc == ERR_INVALID && (status == 400 || status == 404 || status == 422) &&
           run->mark.after[0] && run->lost_cursors < LOST_CURSORS_MAX;
}

/* The organization has gone since it was listed, or can't be asked for. */
static bool is_lost_organization(const struct run *run, int rc, int status)
{
    return rc == ERR_INVALID && (status == 404 || status == 422) && !run->mark.after[0] &&
           run->mark.stage == BACKFILL_MEMBERSHIPS;
}

/* The next page's cursor must be a new one: else the list would be read for ever. */
static int check_progress(struct run *run, const struct backfill_page *page, struct err *err)
{
    const char *path = backfill_kinds[page->type].path;

    if (!run->mark.after[0]) /* a list begins */
        run->circle = (struct circle){0};
    if (page->is_last)
        return 0;
    if (strcmp(page->after, run->mark.after) == 0)
        return err_set(err, ERR_INVALID, "%s: WorkOS's list doesn't get on: its cursor stays at %s",
                       path, page->after);
    if (circle_closes(&run->circle, page->after))
        return err_set(err, ERR_INVALID, "%s: WorkOS's list doesn't get on: its cursor is %s again",
                       path, page->after);
    if (circle_stays_empty(&run->circle, page->count == 0 && page->unusable == 0))
        return err_set(err, ERR_INVALID,
                       "%s: WorkOS's list doesn't get on: %d empty pages, one after the other",
                       path, CIRCLE_EMPTY_MAX + 1);
    return 0;
}

static int read_page(struct run *run, const struct json *json, struct backfill_page *page,
                     struct err *err)
{
    int rc = backfill_page_read(page, json, err);

    if (rc == ERR_INVALID) { /* some proxy's page, most likely: it may be better the next time */
        err_prefix(err, "%s: WorkOS's answer can't be used: ", backfill_kinds[page->type].path);
        run->failed_call_ms = run->call_began_ms;
        return err->code = ERR_IO;
    }
    return rc < 0 ? rc : check_progress(run, page, err);
}

static int skip_organization(struct run *run, struct db *db, struct err *err)
{
    int rc;

    run->next = run->mark; /* the writer may run a job again */
    rc = backfill_mark_advance(db, &run->next, err);
    return rc < 0 ? rc : backfill_mark_write(db, &run->next, err);
}

/* Are these WorkOS's own words for an object that isn't there? A proxy, which says 404 of what it can't find
 * itself, has others. */
static bool is_absence(int rc, const struct api_answer *answer)
{
    const struct json *json = &answer->json;
    uint32_t code = rc == ERR_INVALID && answer->status == 404 && json->count > 0
                        ? json_string_member(json, 0, "code")
                        : JSON_ABSENT;
    size_t len;
    const char *raw;

    if (!code || !json_string_member(json, 0, "message"))
        return false;
    raw = json_raw(json, code, &len);
    return len > strlen("not_found\"") &&
           memcmp(raw + len - strlen("not_found\""), "not_found\"", strlen("not_found\"")) == 0;
}

/* Asked for itself, too: a list that can't be had says nothing of what would be in it. */
static int is_organization_gone(struct run *run, bool *out, struct err *err)
{
    struct buf path = BUF_INIT(PATH_MAX_BYTES);
    struct api_answer answer = {0};
    int rc;

    buf_printf(&path, "%s/", backfill_kinds[BACKFILL_ORGANIZATIONS].path);
    fetch_put_escaped(&path, run->mark.organization);
    rc = get(run, buf_text(&path), &answer, err);
    *out = is_absence(rc, &answer);
    api_answer_release(&answer);
    buf_release(&path);
    return rc == ERR_INVALID ? 0 : rc;
}

/* why: what its list was answered with. */
static int lose_organization(struct run *run, int status, const struct err *why, struct err *err)
{
    bool gone = false;
    int rc = status == 404 ? is_organization_gone(run, &gone, err) : 0;

    if (rc < 0)
        return rc;
    if (gone) {
        log_info("backfill: an organization has gone since it was listed",
                 log_str("organization", run->mark.organization));
    } else {
        log_warn("backfill: an organization's memberships can't be listed",
                 log_str("organization", run->mark.organization), log_str("error", why->text));
        run->mark.incomplete |= 1 << BACKFILL_MEMBERSHIPS;
    }
    rc = do_step(run, skip_organization, err);
    if (rc == 0)
        run->mark = run->next;
    return rc;
}

/* out_again: nothing came of it, and the mark says from where to try anew. */
static int fetch_page(struct run *run, struct backfill_page *page, bool *out_again, struct err *err)
{
    struct api_answer answer = {0};
    int rc = get_page(run, &answer, err);

    *out_again = true;
    if (is_lost_cursor(run, rc, answer.status)) {
        log_warn("backfill: the list begins anew, its cursor isn't known any more",
                 log_str("type", stage_name(run)), log_str("error", err->text));
        run->lost_cursors++;
        run->mark.after[0] = '\0';
        rc = 0;
    } else if (is_lost_organization(run, rc, answer.status)) {
        struct err why = *err;

        rc = lose_organization(run, answer.status, &why, err);
    } else if (rc == 0) {
        *out_again = false;
        rc = read_page(run, &answer.json, page, err);
    }
    api_answer_release(&answer);
    return rc;
}

static void count_removed(struct run *run)
{
    run->done = 0;
    for (int i = 0; i < BACKFILL_TYPES; i++)
        run->done += run->counts[i].removed;
}

/* All that wants a job of its own, a few at a time. */
static int run_left(struct run *run, struct backfill_page *page, const char *stage, struct err *err)
{
    bool more = true;
    int64_t pause_ms;
    int rc = 0;

    while (rc == 0 && more) {
        do
            rc = backfill_page_run(page, &run->pace, &run->counts[page->type], &more, &pause_ms,
                                   err);
        while (rc < 0 && try_again(run, rc, err));
        if (rc == 0)
            all_is_well(run);
        if (page->is_removal)
            count_removed(run);
        tell_stage(run, stage);
        if (rc == 0 && !pause_until(run, clock_mono_ms() + pause_ms) && more)
            rc = err_set(err, ERR_CLOSED, "stopped");
    }
    return rc;
}

static int store_page(struct run *run, struct backfill_page *page, struct err *err)
{
    int rc;

    do
        rc = backfill_page_load(page, &run->counts[page->type], err);
    while (rc < 0 && try_again(run, rc, err));
    if (rc < 0 || !backfill_page_has_left(page))
        return rc;
    rc = run_left(run, page, stage_name(run), err);
    if (rc < 0)
        return rc;
    do
        rc = backfill_page_mark(page, err);
    while (rc < 0 && try_again(run, rc, err));
    return rc;
}

static int take_page(struct run *run, struct err *err)
{
    struct backfill_page page = {
        .workos = run->workos,
        .type = (enum backfill_type)run->mark.stage,
        .with_functions = run->request.with_functions,
        .mark = &run->mark,
    };
    bool again;
    int rc;

    do {
        backfill_page_release(&page);
        rc = fetch_page(run, &page, &again, err);
    } while (rc < 0 && try_again(run, rc, err));
    if (rc == 0)
        all_is_well(run); /* with WorkOS: what the disk does is another matter */
    if (rc == 0 && !again)
        rc = store_page(run, &page, err);
    if (rc == 0)
        all_is_well(run);
    backfill_page_release(&page);
    return rc;
}

static int count_organizations(struct run *run, struct db *db, struct err *err)
{
    return backfill_mark_count(db, &run->mark, &run->total, &run->done, err);
}

static int list_all(struct run *run, struct err *err)
{
    int rc = 0;

    while (rc == 0 && run->mark.stage < BACKFILL_TYPES) {
        if (is_stopping(run))
            return err_set(err, ERR_CLOSED, "stopped");
        run->done = run->total = 0;
        if (run->mark.stage == BACKFILL_MEMBERSHIPS)
            rc = do_step(run, count_organizations, err);
        tell(run);
        if (rc == 0)
            rc = take_page(run, err);
    }
    return rc;
}

/* ------------------------------------------------------------------------- what is stale */

struct stale_job {
    struct writer_job job; /* first: it is cast back */
    struct run *run;
    enum backfill_type type;
    struct backfill_page *page; /* NULL: only count */
    struct backfill_cursor after, next;
    int64_t count, recent;
};

static int tell_stale(void *arg, const char *id, const char *raw, bool is_recent, struct err *err)
{
    struct stale_job *stale = arg;

    if (is_recent) {
        stale->recent++;
        return 0;
    }
    stale->count++;
    return stale->page ? backfill_page_add_stale(stale->page, id, raw, err) : 0;
}

static int run_stale(struct writer_job *job, struct db *db, struct err *err)
{
    struct stale_job *stale = (struct stale_job *)job;

    stale->count = stale->recent = 0; /* the writer may run a job again */
    stale->next = stale->after;
    if (stale->page)
        backfill_page_release(stale->page);
    return backfill_find_stale(db, &stale->run->mark, stale->type, &stale->next, tell_stale, stale,
                               err);
}

/* Look at some more of the type's rows. */
static int find_stale(struct stale_job *stale, struct err *err)
{
    struct run *run = stale->run;
    int rc;

    do
        rc = writer_run(run->workos->writer, &stale->job, err);
    while (rc < 0 && try_again(run, rc, err));
    if (rc == 0)
        all_is_well(run);
    if (rc == 0 && is_stopping(run))
        rc = err_set(err, ERR_CLOSED, "stopped");
    stale->after = stale->next;
    return rc;
}

static int count_stale(struct run *run, enum backfill_type type, struct err *err)
{
    struct stale_job stale = {.job = {.run = run_stale}, .run = run, .type = type};
    int rc;

    do {
        rc = find_stale(&stale, err);
        if (rc < 0)
            break;
        run->counts[type].stale += stale.count;
        run->counts[type].recent += stale.recent;
    } while (rc == 0 && !stale.after.is_over);
    tell(run);
    return rc;
}

/* Nothing says that the list is of the same environment of WorkOS's. */
static bool is_of_others(const struct run *run, enum backfill_type type)
{
    const struct backfill_mark *mark = &run->mark;
    int64_t known = 0;

    for (int i = 0; i < BACKFILL_TYPES; i++)
        known += mark->known[i];
    return (mark->found & (1 << type)) && !mark->known[type] &&
           (type == BACKFILL_USERS || known == 0);
}

/* What is too recent to be removed speaks against the list all the same. */
static bool is_most(const struct run *run, enum backfill_type type)
{
    int64_t unlisted = run->counts[type].stale + run->counts[type].recent;

    return !run->request.prune_most && unlisted > BACKFILL_FEW && unlisted > run->mark.known[type];
}

/* Of the type's list. */
static enum doubt doubt_list(const struct run *run, enum backfill_type type)
{
    const struct backfill_mark *mark = &run->mark;

    if (is_of_others(run, type))
        return OF_OTHERS;
    if (mark->incomplete & (1 << type))
        return INCOMPLETE;
    return mark->found & (1 << type) ? NO_DOUBT : EMPTY;
}

/* That the type's stale rows are stale; that of the users is known already. */
static enum doubt doubt(const struct run *run, enum backfill_type type)
{
    enum doubt why = doubt_list(run, type);

    if (run->counts[type].stale == 0)
        return NO_DOUBT;
    if (why != NO_DOUBT)
        return why;
    if (type == BACKFILL_MEMBERSHIPS && doubt_list(run, BACKFILL_ORGANIZATIONS) != NO_DOUBT)
        return AS_ORGANIZATIONS;
    if (type != BACKFILL_USERS && run->doubts[BACKFILL_USERS] != NO_DOUBT)
        return AS_USERS;
    return is_most(run, type) ? MOST : NO_DOUBT;
}

/* out_whole: nothing of the listing is to be believed, nor to be taken. */
static void look_for_doubts(struct run *run, bool *out_whole)
{
    *out_whole = false;
    for (int i = 0; i < BACKFILL_TYPES; i++) {
        run->doubts[i] = doubt(run, (enum backfill_type)i);
        *out_whole = *out_whole || run->doubts[i] == OF_OTHERS || run->doubts[i] == MOST;
    }
}

static void tell_doubt(struct run *run, enum backfill_type type)
{
    const char *why = doubt_texts[run->doubts[type]];
    int64_t stale = run->counts[type].stale;

    buf_printf(&run->refused, "%s%" PRId64 " %.*s would be removed, but ",
               run->refused.len ? "\n" : "", stale, backfill_name_len(type, stale),
               backfill_kinds[type].name);
    if (run->doubts[type] == MOST)
        buf_printf(&run->refused, "WorkOS listed only %" PRId64 " of those that were here: ",
                   run->mark.known[type]);
    buf_puts(&run->refused, why);
    log_warn("backfill: not pruned", log_str("type", backfill_kinds[type].name),
             log_int("stale", stale), log_int("known", run->mark.known[type]), log_str("why", why));
}

static void tell_doubts(struct run *run, bool nothing_is_taken)
{
    struct progress *progress = &run->backfill->progress;

    for (int i = 0; i < BACKFILL_TYPES; i++) {
        if (run->doubts[i] != NO_DOUBT)
            tell_doubt(run, (enum backfill_type)i);
        if (run->doubts[i] != NO_DOUBT || nothing_is_taken)
            run->counts[i].stale = 0; /* as far as anybody can tell */
    }
    if (nothing_is_taken)
        buf_puts(&run->refused, "\nso nothing was brought in, and nothing was removed");
    pthread_mutex_lock(&run->backfill->lock);
    snprintf(progress->refused, sizeof(progress->refused), "%s", buf_text(&run->refused));
    pthread_mutex_unlock(&run->backfill->lock);
}

static int count_all_stale(struct run *run, struct err *err)
{
    int rc = 0;

    run->done = run->total = 0;
    tell(run);
    for (int i = 0; rc == 0 && i < BACKFILL_TYPES; i++) {
        run->counts[i].stale = run->counts[i].recent = 0;
        rc = count_stale(run, (enum backfill_type)i, err);
    }
    return rc;
}

/*
 * List all without taking anything: what is here afterwards would look as if it had been here before, in
 * this run and in those that follow. The run goes on with the listing proper, unless out_refused.
 */
static int survey(struct run *run, bool *out_refused, struct err *err)
{
    int rc = list_all(run, err);

    if (rc == 0)
        rc = count_all_stale(run, err);
    if (rc < 0)
        return rc;
    look_for_doubts(run, out_refused);
    if (*out_refused) {
        tell_doubts(run, true);
        return 0;
    }
    for (int i = 0; i < BACKFILL_TYPES; i++) /* they are counted again, and told then */
        run->counts[i].stale = run->counts[i].recent = 0;
    backfill_mark_end_survey(&run->mark);
    return do_step(run, write_mark, err);
}

static int remove_stale(struct run *run, enum backfill_type type, struct err *err)
{
    struct backfill_page page = {
        .workos = run->workos,
        .type = type,
        .is_removal = true,
        .with_functions = run->request.with_functions,
        .mark = &run->mark,
    };
    struct stale_job stale = {.job = {.run = run_stale}, .run = run, .type = type, .page = &page};
    int rc;

    do {
        rc = find_stale(&stale, err);
        if (rc == 0)
            rc = run_left(run, &page, "removal", err);
        backfill_page_release(&page);
    } while (rc == 0 && !stale.after.is_over);
    return rc;
}

/* Members before what they belong to. */
static int remove_all(struct run *run, struct err *err)
{
    static const enum backfill_type order[] = {BACKFILL_MEMBERSHIPS, BACKFILL_INVITATIONS,
                                               BACKFILL_ORGANIZATIONS, BACKFILL_USERS};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(order); i++)
        if (run->counts[order[i]].stale)
            rc = remove_stale(run, order[i], err);
    return rc;
}

/* out_asks: there is something to remove, if somebody says so. */
static int prune(struct run *run, bool *out_asks, struct err *err)
{
    bool whole;
    int rc = count_all_stale(run, err);

    if (rc < 0)
        return rc;
    look_for_doubts(run, &whole);
    tell_doubts(run, false);
    for (int i = 0; i < BACKFILL_TYPES; i++)
        run->total += run->counts[i].stale;
    *out_asks = run->request.prune == BACKFILL_ASK && run->total > 0;
    return run->request.prune == BACKFILL_REMOVE ? remove_all(run, err) : 0;
}

/* ------------------------------------------------------------------------- a run */

static int open_api(struct run *run, struct err *err)
{
    const struct workos_api_opts *api = &run->backfill->api;
    const struct api_opts opts = {
        .hostname = api->hostname,
        .port = api->port,
        .https = api->https,
        .key = api->key,
        .phase = "backfill",
        .tries = 1, /* try_again tells of what goes wrong, and knows when to give up */
        .timeout_ms = TIMEOUT_MS,
        .cancelled = is_stopping,
        .arg = run,
    };

    return api_open(&run->api, &opts, err);
}

static int run_all(struct run *run, bool *out_asks, struct err *err)
{
    bool refused = false;
    int rc = open_api(run, err);

    if (rc == 0)
        rc = begin(run, err);
    if (rc == 0 && run->mark.is_survey)
        rc = survey(run, &refused, err);
    if (rc == 0 && !refused)
        rc = list_all(run, err);
    if (rc == 0 && !refused && run->request.prune != BACKFILL_KEEP)
        rc = prune(run, out_asks, err);
    if (rc == 0 && !*out_asks)
        rc = forget_all(run, err);
    api_close(run->api);
    tell(run);
    return rc;
}

static void end(struct run *run, int rc, bool asks, struct err *err)
{
    struct backfill *backfill = run->backfill;
    enum state state = rc == 0 ? (asks ? ASKS : DONE) : FAILED;

    if (rc == ERR_CLOSED && is_stopping(run))
        state = STOPPED;
    log_progress(run, state == DONE || state == ASKS ? "backfill is done" : "backfill has ended");
    if (state == FAILED) {
        text_make_utf8(err->text);
        log_error("backfill failed; started again, it goes on from here",
                  log_str("error", err->text));
    }
    pthread_mutex_lock(&backfill->lock);
    if (state == FAILED)
        snprintf(backfill->progress.error, sizeof(backfill->progress.error), "%s", err->text);
    backfill->progress.trouble_since_ms = 0;
    backfill->progress.state = state;
    pthread_mutex_unlock(&backfill->lock);
}

static void *backfill_main(void *arg)
{
    struct backfill *backfill = arg;
    struct run run = {
        .backfill = backfill,
        .workos = backfill->workos,
        .refused = BUF_INIT(REFUSED_MAX),
        .next_log_ms = clock_mono_ms() + LOG_EVERY_MS,
        .asked_ms = -1,
    };
    struct err err = {0};
    bool asks = false;
    int rc;

    pthread_mutex_lock(&backfill->lock);
    run.request = backfill->request;
    pthread_mutex_unlock(&backfill->lock);
    rc = run_all(&run, &asks, &err);
    end(&run, rc, asks, &err);
    buf_release(&run.refused);
    return NULL;
}

/* ------------------------------------------------------------------------- from outside */

int backfill_new(struct backfill **out, struct workos *workos, const struct workos_api_opts *api,
                 struct err *err)
{
    struct backfill *backfill = calloc(1, sizeof(*backfill));

    if (!backfill)
        return err_set(err, ERR_NOMEM, "no memory for the backfill");
    backfill->workos = workos;
    backfill->api = *api;
    backfill->progress.stage = backfill_kinds[BACKFILL_USERS].name;
    backfill->progress.since_stage = "";
    pthread_mutex_init(&backfill->lock, NULL);
    *out = backfill;
    return 0;
}

/* With the lock held, and nothing running. */
static int start_thread(struct backfill *backfill, const struct backfill_request *request,
                        struct err *err)
{
    int64_t former = backfill->progress.run, now_ms = clock_wall_ms();

    if (backfill->has_thread)
        pthread_join(backfill->thread, NULL); /* all it had left to do was to return */
    backfill->has_thread = false;
    backfill->request = *request;
    if (request->pages_per_s <= 0)
        backfill->request.pages_per_s = BACKFILL_PAGES_PER_S;
    if (request->give_up_s <= 0)
        backfill->request.give_up_s = BACKFILL_GIVE_UP_S;
    backfill->progress = (struct progress){
        .run = now_ms > former ? now_ms : former + 1,
        .state = RUNNING,
        .since_stage = "",
        .stage = backfill_kinds[BACKFILL_USERS].name,
    };
    atomic_store(&backfill->stopping, false);
    if (thread_start(&backfill->thread, "backfill", backfill_main, backfill, err) < 0) {
        backfill->progress.state = IDLE;
        return err->code;
    }
    backfill->has_thread = true;
    return 0;
}

int backfill_start(struct backfill *backfill, const struct backfill_request *request,
                   struct err *err)
{
    int rc;

    pthread_mutex_lock(&backfill->lock);
    if (!backfill->api.key)
        rc = err_set(err, ERR_ABSENT, "there is no WORKOS_API_KEY");
    else if (backfill->refusing)
        rc = err_set(err, ERR_CLOSED, "the server is stopping");
    else if (backfill->progress.state == RUNNING)
        rc = err_set(err, ERR_BUSY, "a backfill is running already");
    else
        rc = start_thread(backfill, request, err);
    pthread_mutex_unlock(&backfill->lock);
    return rc;
}

void backfill_stop(struct backfill *backfill)
{
    atomic_store(&backfill->stopping, true);
}

void backfill_refuse(struct backfill *backfill)
{
    if (!backfill)
        return;
    pthread_mutex_lock(&backfill->lock);
    backfill->refusing = true;
    pthread_mutex_unlock(&backfill->lock);
    backfill_stop(backfill);
}

void backfill_free(struct backfill *backfill)
{
    if (!backfill)
        return;
    backfill_refuse(backfill);
    if (backfill->has_thread)
        pthread_join(backfill->thread, NULL);
    pthread_mutex_destroy(&backfill->lock);
    free(backfill);
}

static void put_counts(struct buf *out, const struct backfill_counts *counts)
{
    buf_printf(out,
               "{\"listed\":%" PRId64 ",\"created\":%" PRId64 ",\"changed\":%" PRId64
               ",\"unchanged\":%" PRId64 ",\"deleted\":%" PRId64 ",\"unusable\":%" PRId64
               ",\"missing\":%" PRId64 ",\"stale\":%" PRId64 ",\"recent\":%" PRId64
               ",\"removed\":%" PRId64 ",\"ran\":%" PRId64 ",\"failed\":%" PRId64 "}",
               counts->listed, counts->created, counts->changed, counts->unchanged, counts->deleted,
               counts->unusable, counts->missing, counts->stale, counts->recent, counts->removed,
               counts->ran, counts->failed);
}

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    buf_put_json_string(out, text, strlen(text));
}

/* What stands in its way: an error, or an answer that doesn't come. */
static void put_trouble(struct buf *out, const struct progress *progress)
{
    int64_t now_ms = clock_mono_ms(), since_ms = progress->trouble_since_ms;
    const char *trouble = since_ms ? progress->trouble : "";

    if (!since_ms && progress->call_since_ms && now_ms - progress->call_since_ms > SLOW_CALL_MS) {
        since_ms = progress->call_since_ms;
        trouble = "WorkOS takes its time to answer";
    }
    put_text(out, "trouble", trouble);
    buf_printf(out, ",\"trouble_s\":%" PRId64, since_ms ? (now_ms - since_ms) / 1000 : 0);
}

void backfill_put_progress(struct backfill *backfill, struct buf *out)
{
    const struct progress *progress = &backfill->progress;

    pthread_mutex_lock(&backfill->lock);
    buf_printf(out, "{\"run\":%" PRId64 ",\"state\":\"%s\",\"resumed\":%s", progress->run,
               state_names[progress->state], progress->resumed ? "true" : "false");
    buf_printf(out, ",\"since_ms\":%" PRId64 ",\"since_listed\":%" PRId64, progress->since_ms,
               progress->since_listed);
    put_text(out, "since_stage", progress->since_stage);
    put_text(out, "stage", progress->stage);
    buf_printf(out, ",\"stage_listed\":%" PRId64 ",\"done\":%" PRId64 ",\"total\":%" PRId64,
               progress->stage_listed, progress->done, progress->total);
    put_trouble(out, progress);
    put_text(out, "error", progress->error);
    put_text(out, "refused", progress->refused);
    buf_puts(out, ",\"types\":{");
    for (int i = 0; i < BACKFILL_TYPES; i++) {
        buf_printf(out, "%s\"%s\":", i ? "," : "", backfill_kinds[i].name);
        put_counts(out, &progress->counts[i]);
    }
    buf_puts(out, "}}");
    pthread_mutex_unlock(&backfill->lock);
}
