/* SPDX-License-Identifier: MIT */
#include "workos/retention.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/tables.h"
#include "workos/workos_state.h"

enum { PIECE_ROWS = 1000 }; /* a job looks at so many: some milliseconds */

static const int64_t day_ms = (int64_t)24 * 3600 * 1000;

struct sweep_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    int64_t emptied, removed; /* rows */
    bool more;
};

/* One walk over what is done or erased, in order of arrival, up to the first that is younger than the cutoff. */
struct walk {
    int64_t after; /* from behind this event on; moves along */
    int64_t cutoff_ms;
    const char *act; /* SQL that does it to one event, by its _seq */
    int64_t acted;
    bool more; /* it stopped because the piece was full */
};

static int act_on(struct stmt *act, int64_t seq, struct err *err)
{
    stmt_bind_int(act, 1, seq);
    return stmt_run(act, err);
}

static int walk_rows(struct walk *walk, struct db *db, struct stmt *rows, struct stmt *act,
                     struct err *err)
{
    int64_t now_ms = clock_wall_ms(), before = db_total_changes(db);
    int count = 0, rc;

    stmt_bind_int(rows, 1, walk->after);
    stmt_bind_int(rows, 2, PIECE_ROWS);
    while ((rc = stmt_step(rows, err)) > 0) {
        int64_t seq = stmt_int(rows, 0), received_at = stmt_int(rows, 1);

        /* Received in the future: the clock was wrong then. It must not stop the walk for years. */
        if (received_at >= walk->cutoff_ms && received_at <= now_ms)
            break;
        if (received_at < walk->cutoff_ms && act_on(act, seq, err) < 0)
            return err->code;
        walk->after = seq;
        count++;
    }
    stmt_reset(rows);
    walk->acted = db_total_changes(db) - before;
    walk->more = count == PIECE_ROWS;
    return rc < 0 ? rc : 0;
}

static int walk_log(struct walk *walk, struct db *db, struct err *err)
{
    struct stmt *rows = NULL, *act = NULL;
    int rc = stmt_new(&rows, db,
                      "SELECT _seq, received_at FROM workos_events"
                      " WHERE _seq > ? AND (status = 'done' OR " IS_ERASED ")"
                      " ORDER BY _seq LIMIT ?",
                      err);

    if (rc == 0)
        rc = stmt_new(&act, db, walk->act, err);
    if (rc == 0)
        rc = walk_rows(walk, db, rows, act, err);
    stmt_free(rows);
    stmt_free(act);
    return rc;
}

/* Up to which event payloads have been emptied; kept in the file. */
static int read_mark(struct db *db, int64_t *out, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "SELECT value FROM authkitd_state WHERE key = 'emptied_seq'", err);

    if (rc == 0)
        rc = stmt_step(stmt, err);
    *out = rc == 1 ? stmt_int(stmt, 0) : 0;
    stmt_free(stmt);
    return rc < 0 ? rc : 0;
}

/* When the last events have gone their numbers are given again, so the mark must not lie above. */
static int write_mark(struct db *db, int64_t mark, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "INSERT OR REPLACE INTO authkitd_state (key, value) VALUES ('emptied_seq',"
                      " min(?, (SELECT coalesce(max(_seq), 0) FROM workos_events)))",
                      err);

    if (rc == 0) {
        stmt_bind_int(stmt, 1, mark);
        rc = stmt_run(stmt, err);
    }
    stmt_free(stmt);
    return rc;
}

/* An event that took the process down and was never delivered again. */
static int forget_suspects(struct db *db, int64_t cutoff_ms, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db, "DELETE FROM authkitd_suspects WHERE noted_at < ?", err);

    if (rc == 0) {
        stmt_bind_int(stmt, 1, cutoff_ms);
        rc = stmt_run(stmt, err);
    }
    stmt_free(stmt);
    return rc;
}

int retention_come_back(struct db *db, int64_t seq, struct err *err)
{
    struct stmt *stmt = NULL;
    int rc = stmt_new(&stmt, db,
                      "UPDATE authkitd_state SET value = ?1 - 1"
                      " WHERE key = 'emptied_seq' AND value >= ?1",
                      err);

    if (rc == 0) {
        stmt_bind_int(stmt, 1, seq);
        rc = stmt_run(stmt, err);
    }
    stmt_free(stmt);
    return rc;
}

static int run_sweep(struct writer_job *job, struct db *db, struct err *err)
{
    struct sweep_job *sweep = (struct sweep_job *)job;
    int64_t now_ms = clock_wall_ms();
    int64_t days = sweep->workos->opts.retention_days;
    int64_t ids_days = days > RETENTION_IDS_DAYS ? days : RETENTION_IDS_DAYS;
    struct walk empty = {
        .cutoff_ms = now_ms - days * day_ms,
        .act = "UPDATE workos_events SET payload = NULL WHERE _seq = ? AND payload IS NOT NULL",
    };
    struct walk removal = {
        .cutoff_ms = now_ms - ids_days * day_ms,
        .act = "DELETE FROM workos_events WHERE _seq = ?",
    };
    int64_t mark;
    int rc = read_mark(db, &mark, err);

    empty.after = mark;
    if (rc == 0)
        rc = walk_log(&empty, db, err);
    if (rc == 0)
        rc = walk_log(&removal, db, err);
    if (rc == 0 && (empty.after != mark || removal.acted))
        rc = write_mark(db, empty.after, err);
    if (rc == 0)
        rc = forget_suspects(db, removal.cutoff_ms, err);
    if (empty.acted || removal.acted)
        db_scrub_wal(db);
    sweep->emptied = empty.acted;
    sweep->removed = removal.acted;
    sweep->more = empty.more || (removal.more && removal.acted);
    return rc;
}

int retention_sweep(struct workos *workos, bool *out_more, struct err *err)
{
    struct sweep_job sweep = {.job = {.run = run_sweep}, .workos = workos};
    int rc = writer_run(workos->writer, &sweep.job, err);

    if (rc < 0)
        return rc;
    if (sweep.emptied || sweep.removed)
        log_debug("retention", log_int("payloads_emptied", sweep.emptied),
                  log_int("events_removed", sweep.removed));
    *out_more = sweep.more;
    return 0;
}
