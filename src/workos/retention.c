/* SPDX-License-Identifier: MIT */
#include "workos/retention.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/state_table.h"
#include "workos/tables.h"
#include "workos/workos_state.h"

enum { PIECE_ROWS = 1000 }; /* a job looks at so many: some milliseconds */

static const int64_t day_ms = (int64_t)24 * 3600 * 1000;

struct sweep_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct retention_sums sums;
    bool more;
};

/* One walk over what is done or erased, in order of arrival, up to the first that is younger than the cutoff. */
struct walk {
    int64_t after; /* from behind this event on; moves along */
    int64_t cutoff_ms;
    int64_t now_ms;   /* what the wall clock says, right or wrong */
    int64_t again_ms; /* the earliest time of those of the future that were passed by */
    const char *act;  /* SQL that does it to one event, by its _seq */
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
    int64_t before = db_total_changes(db);
    int count = 0, rc;

    stmt_bind_int(rows, 1, walk->after);
    stmt_bind_int(rows, 2, PIECE_ROWS);
    while ((rc = stmt_step(rows, err)) > 0) {
        int64_t seq = stmt_int(rows, 0), received_at = stmt_int(rows, 1);

        /* Received in the future: the clock was wrong then, or is. It must not stop the walk for years. */
        if (received_at >= walk->cutoff_ms && received_at <= walk->now_ms)
            break;
        if (received_at < walk->cutoff_ms) {
            if (act_on(act, seq, err) < 0)
                return err->code;
        } else if (received_at < walk->again_ms) {
            walk->again_ms = received_at;
        }
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

/*
 * How far emptying has come; kept in the file. Events of the future have been passed by. When the first of them is
 * old enough after all, since only the clock was behind, the walk begins anew: at most once in retention_days.
 */
struct mark {
    int64_t seq;      /* up to this event */
    int64_t again_ms; /* the earliest time of those that were passed by; INT64_MAX: none were */
};

static const char seq_name[] = "emptied_seq", again_name[] = "emptied_again_ms";

static int read_mark(struct db *db, struct mark *out, struct err *err)
{
    int rc = state_get_int(db, seq_name, 0, &out->seq, err);

    return rc < 0 ? rc : state_get_int(db, again_name, INT64_MAX, &out->again_ms, err);
}

/* When the last events have gone their numbers are given again, so the mark must not lie above. */
static int write_mark(struct db *db, const struct mark *mark, struct err *err)
{
    int64_t last_seq = 0;
    int rc = db_read_int(db, "SELECT max(_seq) FROM workos_events", &last_seq, err);

    if (rc == 0)
        rc = state_put_int(db, seq_name, mark->seq < last_seq ? mark->seq : last_seq, err);
    return rc < 0 ? rc : state_put_int(db, again_name, mark->again_ms, err);
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
    int64_t emptied_seq;
    int rc = state_get_int(db, seq_name, 0, &emptied_seq, err);

    return rc < 0 || emptied_seq < seq ? rc : state_put_int(db, seq_name, seq - 1, err);
}

/* Empty payloads from the mark on. */
static int walk_payloads(struct walk *walk, struct db *db, struct err *err)
{
    struct mark old, mark;
    int rc = read_mark(db, &old, err);

    if (rc < 0)
        return rc;
    mark = old.again_ms < walk->cutoff_ms ? (struct mark){0, INT64_MAX} : old;
    walk->after = mark.seq;
    walk->again_ms = mark.again_ms;
    rc = walk_log(walk, db, err);
    if (rc < 0)
        return rc;
    mark = (struct mark){walk->after, walk->again_ms};
    if (mark.seq == old.seq && mark.again_ms == old.again_ms)
        return 0;
    return write_mark(db, &mark, err);
}

static int lower_mark(struct db *db, struct err *err)
{
    struct mark mark;
    int rc = read_mark(db, &mark, err);

    return rc < 0 ? rc : write_mark(db, &mark, err);
}

/* What the pieces of one sweep have done, handed over with the last. */
static void add_up(struct sweep_job *sweep, const struct walk *empty, const struct walk *removal)
{
    struct retention_sums *sums = &sweep->workos->retention.sums;

    sums->emptied += empty->acted;
    sums->removed += removal->acted;
    sweep->more = empty->more || (removal->more && removal->acted);
    if (sweep->more)
        return;
    sweep->sums = *sums;
    *sums = (struct retention_sums){0};
}

static int run_sweep(struct writer_job *job, struct db *db, struct err *err)
{
    struct sweep_job *sweep = (struct sweep_job *)job;
    int64_t days = sweep->workos->opts.retention_days;
    int64_t ids_days = days > RETENTION_IDS_DAYS ? days : RETENTION_IDS_DAYS;
    int64_t wall_ms = clock_wall_ms(), now_ms;
    struct walk empty = {
        .now_ms = wall_ms,
        .act = "UPDATE workos_events SET payload = NULL WHERE _seq = ? AND payload IS NOT NULL",
    };
    struct walk removal = {
        .now_ms = wall_ms,
        .act = "DELETE FROM workos_events WHERE _seq = ?",
    };
    int rc = retention_clock_ask(&sweep->workos->retention.clock, db, wall_ms, clock_mono_ms(),
                                 &now_ms, err);

    if (rc < 0)
        return rc;
    empty.cutoff_ms = now_ms - days * day_ms;
    removal.cutoff_ms = now_ms - ids_days * day_ms;
    rc = walk_payloads(&empty, db, err);
    if (rc == 0)
        rc = walk_log(&removal, db, err);
    if (rc == 0 && removal.acted)
        rc = lower_mark(db, err);
    if (rc == 0)
        rc = forget_suspects(db, removal.cutoff_ms, err);
    if (empty.acted || removal.acted)
        db_scrub_wal(db);
    if (rc == 0)
        add_up(sweep, &empty, &removal);
    return rc;
}

int retention_sweep(struct workos *workos, bool *out_more, struct err *err)
{
    struct sweep_job sweep = {.job = {.run = run_sweep}, .workos = workos};
    int rc = writer_run(workos->writer, &sweep.job, err);

    if (rc < 0)
        return rc;
    if (sweep.sums.emptied || sweep.sums.removed)
        log_info("retention", log_int("payloads_emptied", sweep.sums.emptied),
                 log_int("events_removed", sweep.sums.removed));
    *out_more = sweep.more;
    return 0;
}
