/* SPDX-License-Identifier: MIT */
#include "workos/workos_state.h"

#include "workos/tables.h"

#include <semaphore.h>
#include <stdlib.h>

enum { MAX_BATCH = 256, MAX_BATCH_MS = 50 };

static int prepare(struct workos *workos, struct err *err)
{
    const struct {
        struct stmt **slot;
        const char *sql;
    } statements[] = {
        {&workos->insert_event,
         "INSERT INTO workos_events (id, event, object_id, user_id, created_at, received_at,"
         " status, attempts, payload, _created_us) VALUES (?, ?, ?, ?, ?, ?, 'done', ?, ?, ?)"
         " ON CONFLICT (id) DO NOTHING"},
        {&workos->mark_failed,
         "UPDATE workos_events SET status = 'failed', next_attempt_at = ?, last_error = ?"
         " WHERE id = ?"},
        {&workos->is_late, "SELECT 1 FROM workos_events WHERE object_id = ?"
                           " AND (_created_us, id) > (?, ?) LIMIT 1"},
        {&workos->erase_events, "UPDATE workos_events SET payload = NULL, last_error = NULL"
                                " WHERE user_id = ? AND payload IS NOT NULL AND status = 'done'"},
        {&workos->begin_function, "SAVEPOINT script_function"},
        {&workos->keep_function, "RELEASE script_function"},
        {&workos->undo_function, "ROLLBACK TO script_function"},
    };
    int rc = mirror_prepare(&workos->mirror, workos->opts.db, err);

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(statements); i++)
        rc = stmt_new(statements[i].slot, workos->opts.db, statements[i].sql, err);
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

int workos_open(struct workos **out, const struct workos_opts *opts, struct err *err)
{
    struct workos *workos = calloc(1, sizeof(*workos));
    struct writer_opts writer_opts = {
        .db = opts->db,
        .max_queue = opts->max_queue,
        .max_batch = MAX_BATCH,
        .max_batch_ms = MAX_BATCH_MS,
        .on_fatal = opts->on_fatal,
        .arg = opts->arg,
    };
    int rc;

    if (!workos)
        return err_set(err, ERR_NOMEM, "no memory for the service");
    workos->opts = *opts;
    rc = make_keys(&workos->webhook_keys, opts->webhook_secret, "WORKOS_WEBHOOK_SECRET", err);
    if (rc == 0)
        rc = make_keys(&workos->action_keys, opts->action_secret, "WORKOS_ACTION_SECRET", err);
    if (rc == 0)
        rc = tables_migrate(opts->db, err);
    if (rc == 0)
        rc = prepare(workos, err);
    if (rc == 0)
        rc = writer_start(&workos->writer, &writer_opts, err);
    if (rc < 0) {
        workos_close(workos);
        return rc;
    }
    *out = workos;
    return 0;
}

void workos_close(struct workos *workos)
{
    if (!workos)
        return;
    writer_stop(workos->writer); /* from here on everything is this thread's again */
    script_free(workos->script);
    mirror_release(workos->mirror);
    stmt_free(workos->insert_event);
    stmt_free(workos->mark_failed);
    stmt_free(workos->is_late);
    stmt_free(workos->erase_events);
    stmt_free(workos->begin_function);
    stmt_free(workos->keep_function);
    stmt_free(workos->undo_function);
    signing_keys_free(workos->webhook_keys);
    signing_keys_free(workos->action_keys);
    free(workos);
}

/* ------------------------------------------------------------------------- installing a script */

/*
 * The swap happens in done, after the COMMIT of the migration and before the next batch: no event
 * sees the new script with the old schema or the other way round.
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

static int run_install(struct writer_job *job, struct db *db, struct err *err)
{
    struct install_job *install = (struct install_job *)job;

    buf_reset(install->report); /* the writer may run a job again */
    return script_migrate(install->script, db, install->report, err);
}

static void finish_install(struct writer_job *job, int rc, const struct err *err)
{
    struct install_job *install = (struct install_job *)job;

    install->rc = rc;
    if (rc < 0) {
        *install->err = *err;
        script_detach(install->script); /* the connection is this thread's, the rest the caller's */
    } else {
        script_free(install->workos->script);
        install->workos->script = install->script;
    }
    sem_post(&install->done);
}

int workos_install(struct workos *workos, struct script *script, struct buf *report,
                   struct err *err)
{
    struct install_job install = {
        .job = {.run = run_install, .done = finish_install},
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
