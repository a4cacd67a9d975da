/* SPDX-License-Identifier: MIT */
/*
 * metric - numbers that only grow, counted where things happen, and written as Prometheus reads them.
 *
 * A counter, a histogram or a table of counters is a plain struct in the object that it is about;
 * there is no list of all of them. To count is a few additions, without a lock, an allocation or a
 * look at the clock. Whoever shows them asks the rooms and writes one metric after the other:
 *
 *     metric_put_head(&out, "authkitd_reloads_total", METRIC_COUNTER, "Loads of the script …");
 *     metric_put(&out, "authkitd_reloads_total", METRIC_LABELS({"outcome", "good"}), n);
 *
 * A reading isn't one moment: of two numbers that are counted together it may see one only.
 *
 * Threads    all that counts and reads: any, at once. A struct starts as zeros, but for a table's
 *            lock: metric_table_init and _release, when nobody uses it.
 * Ownership  whoever has the struct. Names and texts of labels are borrowed for the call.
 * Errors     none; a table that is full counts under "other". Output: see buf.h.
 * Limits     METRIC_BOUNDS_MAX bounds, METRIC_ROWS_MAX names of METRIC_NAME_MAX bytes.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "base/buf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    METRIC_BOUNDS_MAX = 16,
    METRIC_ROWS_MAX = 256,
    METRIC_NAME_MAX = 63,
    METRIC_COLUMNS_MAX = 6,
    METRIC_STATUS_MIN = 100,
    METRIC_STATUS_END = 600,
};

/* ---------------------------------------------------------------------------------- counting */

struct metric_counter {
    _Atomic uint64_t value;
};

static inline void metric_count(struct metric_counter *counter)
{
    atomic_fetch_add_explicit(&counter->value, 1, memory_order_relaxed);
}

static inline uint64_t metric_value(const struct metric_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/*
 * How values are spread: bounds in ascending order, and how many of what is counted in (nanoseconds)
 * make one of what is shown (a second). Static.
 */
struct metric_scale {
    uint64_t bounds[METRIC_BOUNDS_MAX];
    size_t count;
    double unit;
};

/* Of times in nanoseconds, shown in seconds: 50 µs to 10 s. */
extern const struct metric_scale metric_scale_seconds;

struct metric_histogram {
    struct metric_counter counts[METRIC_BOUNDS_MAX + 1]; /* the last one: above all bounds */
    _Atomic uint64_t sum;
};

/* Always with the same scale. */
void metric_observe(struct metric_histogram *histogram, const struct metric_scale *scale,
                    uint64_t value);

/* Counters by a name that isn't known before it comes. Names that are empty, too long or too many are
 * counted as "other". */
struct metric_row {
    uint32_t hash;
    bool shows_zeros; /* set by metric_table_add */
    char name[METRIC_NAME_MAX + 1];
    struct metric_counter counters[METRIC_COLUMNS_MAX];
};

struct metric_table {
    struct metric_row rows[METRIC_ROWS_MAX]; /* in order of arrival; never changed once there */
    struct metric_counter others[METRIC_COLUMNS_MAX];
    /* Where a name's row is, by its hash: 1 + its index, 0 when there is none. */
    _Atomic uint16_t places[2 * METRIC_ROWS_MAX];
    atomic_size_t count;  /* of rows */
    pthread_mutex_t lock; /* to add a row */
};

void metric_table_init(struct metric_table *table);
void metric_table_release(struct metric_table *table);

/* A name that is known before it comes, when nobody uses the table yet. All its columns are shown as 0 from
 * the start: whoever watches a counter grow doesn't see the step from nothing to 1. */
void metric_table_add(struct metric_table *table, const char *name);

void metric_table_count(struct metric_table *table, const char *name, size_t column);

/* Answers by HTTP status. */
struct metric_statuses {
    struct metric_counter counters[METRIC_STATUS_END - METRIC_STATUS_MIN];
};

/* A status that is none isn't counted. */
static inline void metric_count_status(struct metric_statuses *statuses, int status)
{
    if (status >= METRIC_STATUS_MIN && status < METRIC_STATUS_END)
        metric_count(&statuses->counters[status - METRIC_STATUS_MIN]);
}

/* ---------------------------------------------------------------------------------- writing */

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_label {
    const char *name; /* NULL ends the list */
    const char *text;
};

#define METRIC_LABELS(...) ((const struct metric_label[]){__VA_ARGS__ __VA_OPT__(, ){.name = NULL}})

/* Once, in front of all lines of the metric. help: one line. */
void metric_put_head(struct buf *out, const char *name, enum metric_kind kind, const char *help);

void metric_put(struct buf *out, const char *name, const struct metric_label *labels,
                uint64_t value);
void metric_put_real(struct buf *out, const char *name, const struct metric_label *labels,
                     double value);

/* One label at most, besides the bounds'. */
void metric_put_histogram(struct buf *out, const char *name, const struct metric_label *label,
                          const struct metric_histogram *histogram,
                          const struct metric_scale *scale);

/* A line for every name and column that has been counted, and for every column of a name that was added. */
void metric_put_table(struct buf *out, const char *name, const char *row_label,
                      const char *column_label, const char *const *columns, size_t column_count,
                      const struct metric_table *table);

/* A line for every status that there was, and for those that alerts watch (500, 503) from the start, as
 * metric_table_add has it; one label at most, in front of "status". */
void metric_put_statuses(struct buf *out, const char *name, const struct metric_label *label,
                         const struct metric_statuses *statuses);

#endif
