/* SPDX-License-Identifier: MIT */
#include "workos/workos_state.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/action.h"
#include "workos/poller.h"
#include "workos/tables.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdlib.h>

enum { MAX_BATCH = 256, MAX_BATCH_MS = 50, LOST_MAX = 16384 };

/* Writer thread. */
static void on_full(void *arg, bool is_full)
{
    struct workos *workos = arg;

    if (is_full)
        log_error("the disk is full: events are turned away until there is room, and come again");
    else
        log_info("there is room on the disk again");
    upkeep_watch_room(workos->upkeep, is_full);
}

/* Writer thread. */
static void on_fatal(void *arg, const struct err *err)
{
    struct workos *workos = arg;

    if (workos->opts.on_fatal)
        workos->opts.on_fatal(workos->opts.arg, err);
}

static int prepare(struct workos *workos, struct err *err)
{
    const struct {
        struct stmt **slot;
        const char *sql;
    } statements[] = {
        {&workos->begin_function, "SAVEPOINT script_function"},
        {&workos->keep_function, "RELEASE script_function"},
        {&workos->undo_function, "ROLLBACK TO script_function"},
    };
    struct db *db = workos->opts.db;
    int rc = mirror_prepare(&workos->mirror, db, err);

    if (rc == 0)
        rc = event_log_open(&workos->events, db, err);
    if (rc == 0)
        rc = suspects_open(&workos->suspects, db, workos->events, workos->opts.note_path, err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(statements); i++)
        rc = stmt_new(statements[i].slot, db, statements[i].sql, err);
    return rc;
}

static int make_keys(struct signing_keys **out, const char *secrets, const char *variable,
                     struct err *err)
{
    if (!secrets)
        return 0;
    if (signing_keys_new(out, secrets, err) < 0)
        return err_prefix(err, "%s: ", variable);
    return 0;
}

/* That may take a while with millions of events, so it is said before. */
static int bring_forward(struct db *db, struct err *err)
{
    int64_t version = 0;
    int rc = tables_read_version(db, &version, err);

    if (rc < 0)
        return rc;
    if (version > 0 && version < tables_version())
        log_info("the database is brought forward", log_int("from_version", version),
                 log_int("to_version", tables_version()));
    return tables_migrate(db, err);
}

/* A route that reads may be the first call of its state, which is made then: that has a time of its own,
 * and to need it is no hang, however short the time of functions is. */
static int reading_limit_ms(int handler_timeout_ms)
{
    const int enough_to_load_ms = 2 * SCRIPT_LOAD_TIMEOUT_MS / WATCHDOG_FACTOR;

    return handler_timeout_ms > enough_to_load_ms ? handler_timeout_ms : enough_to_load_ms;
}

static int start_watchdog(struct workos *workos, struct err *err)
{
    const struct workos_opts *opts = &workos->opts;
    const struct watchdog_opts watchdog_opts = {
        .note_path = opts->note_path,
        .limit_ms = {[WATCHDOG_EVENT] = opts->handler_timeout_ms,
                     [WATCHDOG_ACTION] = opts->action_timeout_ms,
                     [WATCHDOG_ROUTE] = opts->handler_timeout_ms,
                     [WATCHDOG_READING] = reading_limit_ms(opts->handler_timeout_ms)},
        .catch_signals = true,
    };

    return opts->note_path ? watchdog_start(&workos->watchdog, &watchdog_opts, err) : 0;
}

int workos_open(struct workos **out, const struct workos_opts *opts, struct err *err)
{
    struct workos *workos = calloc(1, sizeof(*workos));
    struct writer_opts writer_opts = {
        .db = opts->db,
        .max_queue = opts->max_queue,
        .max_batch = MAX_BATCH,
        .max_batch_ms = opts->max_batch_ms ? opts->max_batch_ms : MAX_BATCH_MS,
        .on_fatal = on_fatal,
        .on_full = on_full,
        .arg = workos,
    };
    int rc;

    if (!workos)
        return err_set(err, ERR_NOMEM, "no memory for the service");
    workos->opts = *opts;
    workos->bodies = bodies_new();
    metric_table_init(&workos->counts.events);
    metric_table_init(&workos->counts.actions);
    repeat_init(&workos->repeats);
    rc = workos->bodies ? 0 : err_set(err, ERR_NOMEM, "no memory for the service");
    if (rc == 0)
        rc = make_keys(&workos->webhook_keys, opts->webhook_secret, "WORKOS_WEBHOOK_SECRET", err);
    if (rc == 0)
        rc = make_keys(&workos->action_keys, opts->action_secret, "WORKOS_ACTION_SECRET", err);
    for (int i = 0; workos->action_keys && i < ACTION_NAMES; i++)
        metric_table_add(&workos->counts.actions, action_names[i]);
    if (rc == 0)
        rc = bring_forward(opts->db, err);
    if (rc == 0)
        rc = prepare(workos, err);
    if (rc == 0)
        rc = start_watchdog(workos, err);
    if (rc == 0)
        rc = writer_start(&workos->writer, &writer_opts, err);
    if (rc == 0)
        rc = upkeep_start(&workos->upkeep, workos, err);
    if (rc < 0) {
        workos_close(workos);
        return rc;
    }
    *out = workos;
    return 0;
}

int workos_start_poller(struct workos *workos, const struct workos_api_opts *api,
                        int64_t interval_ms, struct err *err)
{
    const struct poller_opts opts = {.api = *api, .interval_ms = interval_ms};

    return poller_start(&workos->poller, workos, &opts, err);
}

struct poller *workos_poller(struct workos *workos)
{
    return workos->poller;
}

struct watchdog *workos_watchdog(struct workos *workos)
{
    return workos->watchdog;
}

void workos_close(struct workos *workos)
{
    if (!workos)
        return;
    poller_stop(workos->poller);
    upkeep_stop(workos->upkeep);
    writer_stop(workos->writer); /* from here on everything is this thread's again */
    upkeep_free(workos->upkeep);
    poller_free(workos->poller);
    watchdog_stop(workos->watchdog);
    script_free(workos->script);
    mirror_release(workos->mirror);
    event_log_close(workos->events);
    suspects_close(workos->suspects);
    bodies_free(workos->bodies);
    stmt_free(workos->begin_function);
    stmt_free(workos->keep_function);
    stmt_free(workos->undo_function);
    signing_keys_free(workos->webhook_keys);
    signing_keys_free(workos->action_keys);
    repeat_tell(&workos->repeats, clock_mono_ms(), true);
    repeat_release(&workos->repeats);
    metric_table_release(&workos->counts.events);
    metric_table_release(&workos->counts.actions);
    free(workos);
}

/* ------------------------------------------------------------------------- installing a script */

/*
 * The swap happens in done, after the COMMIT of the migration and before the next batch, and no job
 * runs behind it in its own: no event sees the new script with the old schema or the other way
 * round, or fails in the old script once the failed ones have been made due for the new one.
 */
struct install_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct script *script;
    struct buf *report;
    struct err *err;
    int rc;
    sem_t done;
};

static bool has_function(void *script, const char *type)
{
    return script_handles_event(script, type);
}

static void begin_line(struct buf *report)
{
    if (report->len > 0)
        buf_putc(report, '\n');
}

/* Functions that are in the script that goes and not in the one that comes: perhaps nobody meant to take them
 * away, and their events would be done without them. */
static void report_lost(const struct install_job *install)
{
    struct buf names = BUF_INIT(LOST_MAX);

    if (install->workos->script &&
        script_put_lost(install->script, install->workos->script, &names) > 0) {
        begin_line(install->report);
        buf_printf(install->report, WORKOS_LOST "%s", buf_text(&names));
    }
    buf_release(&names);
}

static int run_install(struct writer_job *job, struct db *db, struct err *err)
{
    struct install_job *install = (struct install_job *)job;
    const struct workos_opts *opts = &install->workos->opts;
    int64_t renewed;
    int rc;

    buf_reset(install->report); /* the writer may run a job again */
    rc = script_migrate(install->script, db, install->report, err);
    if (rc < 0)
        return rc;
    report_lost(install);
    rc = event_log_renew_failed(install->workos->events, clock_wall_ms(), has_function,
                                install->script, &renewed, err);
    if (rc == 0 && renewed) {
        begin_line(install->report);
        buf_printf(install->report, "note: failed events that run again now: %" PRId64, renewed);
    }
    if (rc == 0 && opts->installing)
        opts->installing(opts->arg); /* the COMMIT comes next */
    return rc;
}

static void finish_install(struct writer_job *job, int rc, const struct err *err)
{
    struct install_job *install = (struct install_job *)job;
    const struct workos_opts *opts = &install->workos->opts;

    install->rc = rc;
    if (rc < 0) {
        *install->err = *err;
        script_detach(install->script); /* the connection is this thread's, the rest the caller's */
    } else {
        script_free(install->workos->script);
        install->workos->script = install->script;
        install->workos->script_number++;
        note_script_memory(install->workos);
        upkeep_start_anew(install->workos->upkeep);
    }
    if (opts->installed)
        opts->installed(opts->arg, rc < 0 ? NULL : install->script);
    sem_post(&install->done);
}

int workos_install(struct workos *workos, struct script *script, struct buf *report,
                   struct err *err)
{
    struct install_job install = {
        .job = {.run = run_install, .done = finish_install, .ends_batch = true},
        .workos = workos,
        .script = script,
        .report = report,
        .err = err,
    };
    int rc;

    sem_init(&install.done, 0, 0);
    rc = writer_submit(workos->writer, &install.job, err);
    if (rc == 0) {
        while (sem_wait(&install.done) < 0)
            ; /* interrupted by a signal: the job still runs */
        rc = install.rc;
    }
    sem_destroy(&install.done);
    return rc;
}

/* ------------------------------------------------------------------------- other calls */

struct call_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct workos_call *call;
    int64_t arrived_ms; /* monotonic */
    bool turned_away;   /* and not counted in workos->calls_waiting any more */
};

static bool is_overdue(const struct call_job *own)
{
    return workos_is_crowd(own->workos, &own->workos->calls_waiting) &&
           clock_mono_ms() - own->arrived_ms > WORKOS_CROWDED_PATIENCE_MS;
}

/* Of a crowd only so many go as are too many. */
static int turn_away(struct call_job *own, struct err *err)
{
    if (!own->turned_away)
        atomic_fetch_sub_explicit(&own->workos->calls_waiting, 1, memory_order_relaxed);
    own->turned_away = true;
    return err_set(err, ERR_BUSY, "too many requests wait for the database");
}

static int run_call(struct writer_job *job, struct db *db, struct err *err)
{
    struct call_job *own = (struct call_job *)job;
    struct workos *workos = own->workos;
    int rc;

    if (own->turned_away || is_overdue(own))
        return turn_away(own, err);
    watchdog_enter(workos->watchdog, WATCHDOG_ROUTE, own->call->name, "");
    rc = own->call->run(own->call, workos->script, db, err);
    watchdog_leave(workos->watchdog);
    note_script_memory(workos);
    return rc;
}

int workos_run(struct workos *workos, struct workos_call *call, struct err *err)
{
    struct call_job own = {
        .job = {.run = run_call}, .workos = workos, .call = call, .arrived_ms = clock_mono_ms()};
    int rc;

    atomic_fetch_add_explicit(&workos->calls_waiting, 1, memory_order_relaxed);
    rc = writer_run(workos->writer, &own.job, err);
    if (!own.turned_away)
        atomic_fetch_sub_explicit(&workos->calls_waiting, 1, memory_order_relaxed);
    return rc;
}

/* ------------------------------------------------------------------------- the write-ahead log */

static int run_scrub(struct writer_job *job, struct db *db, struct err *err)
{
    (void)job, (void)err;
    db_scrub_wal(db);
    return 0;
}

static void finish_scrub(struct writer_job *job, int rc, const struct err *err)
{
    (void)rc, (void)err;
    free(job);
}

void workos_empty_wal(struct workos *workos)
{
    struct writer_job *job = calloc(1, sizeof(*job));
    struct err err;

    if (!job)
        return;
    job->run = run_scrub;
    job->done = finish_scrub;
    if (writer_submit(workos->writer, job, &err) < 0)
        free(job);
}
