/* SPDX-License-Identifier: MIT */
#include "workos/retention_clock.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/state_table.h"

static const int64_t hour_ms = 3600000;
static const int64_t day_ms = 24 * hour_ms;

/* 2026-01-01: before this program was. A clock that is further back (1970, mostly) says nothing at all. */
static const int64_t earliest_ms = 1767225600000;

static const char last_name[] = "retention_clock_ms";

static int read_last(struct db *db, int64_t wall_ms, int64_t *out, struct err *err)
{
    int64_t received_ms = 0;
    int rc = db_read_int(db, "SELECT received_at FROM workos_events ORDER BY _seq DESC LIMIT 1",
                         &received_ms, err);

    return rc < 0 ? rc
                  : state_get_int(db, last_name, received_ms ? received_ms : wall_ms, out, err);
}

/* By how much the wall clock is ahead of the last sweep (behind it: negative), when that is too much; else 0. */
static int64_t doubtful_ms(int64_t last_ms, int64_t wall_ms)
{
    int64_t ahead_ms = wall_ms - last_ms, trust_ms = RETENTION_TRUST_DAYS * day_ms;

    return ahead_ms > trust_ms || ahead_ms < -trust_ms ? ahead_ms : 0;
}

/* It pulls both ways: a time that is wrong itself comes right again. */
static int64_t move(int64_t last_ms, int64_t wall_ms, int64_t ran_ms)
{
    int64_t ahead_ms = doubtful_ms(last_ms, wall_ms);
    int64_t pull_ms = RETENTION_PULL * (ran_ms < hour_ms ? ran_ms : hour_ms);

    if (ahead_ms == 0)
        return wall_ms;
    return ahead_ms > 0 ? last_ms + pull_ms : last_ms - pull_ms;
}

static void tell(struct retention_clock *clock, int64_t last_ms, int64_t wall_ms)
{
    int64_t ahead_ms = doubtful_ms(last_ms, wall_ms);
    bool was_doubted = clock->is_doubted;
    char last[CLOCK_TEXT_MAX];

    clock->is_doubted = ahead_ms != 0;
    if (ahead_ms == 0 || was_doubted)
        return;
    clock_format_ms(last_ms, last);
    if (ahead_ms > 0)
        log_warn("the clock is far ahead of the last sweep of retention; set it, if it is wrong, "
                 "otherwise retention catches up by a day an hour",
                 log_int("days_ahead", ahead_ms / day_ms), log_str("last_sweep", last));
    else
        log_warn("the clock is far behind the last sweep of retention; set it, if it is wrong",
                 log_int("days_behind", -ahead_ms / day_ms), log_str("last_sweep", last));
}

int retention_clock_ask(struct retention_clock *clock, struct db *db, int64_t wall_ms,
                        int64_t mono_ms, int64_t *out_ms, struct err *err)
{
    int64_t ran_ms = clock->asked_mono_ms ? mono_ms - clock->asked_mono_ms : 0;
    int64_t last_ms = 0, new_ms;
    int rc = read_last(db, wall_ms, &last_ms, err);

    if (rc < 0)
        return rc;
    if (last_ms < earliest_ms)
        last_ms = earliest_ms;
    tell(clock, last_ms, wall_ms);
    new_ms = move(last_ms, wall_ms, ran_ms);
    if (wall_ms >= earliest_ms)
        rc = state_put_int(db, last_name, new_ms, err);
    if (rc < 0)
        return rc;
    clock->asked_mono_ms = mono_ms;
    *out_ms = new_ms < wall_ms ? new_ms : wall_ms;
    return 0;
}
