/* SPDX-License-Identifier: MIT */
#include "base/metric.h"

#include "base/text.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char other[] = "other";

/* ---------------------------------------------------------------------------------- counting */

#define MS ((uint64_t)1000000)

const struct metric_scale metric_scale_seconds = {
    .bounds = {MS / 20, MS / 10, MS / 4, MS / 2, MS, 5 * MS / 2, 5 * MS, 10 * MS, 25 * MS, 50 * MS,
               100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 10000 * MS},
    .count = 16,
    .unit = 1e9,
};

void metric_observe(struct metric_histogram *histogram, const struct metric_scale *scale,
                    uint64_t value)
{
    size_t i = 0;

    while (i < scale->count && value > scale->bounds[i])
        i++;
    metric_count(&histogram->counts[i]);
    atomic_fetch_add_explicit(&histogram->sum, value, memory_order_relaxed);
}

/* FNV-1a. out_len: how long the name is, METRIC_NAME_MAX + 1 when it is longer. */
static uint32_t hash_name(const char *name, size_t *out_len)
{
    uint32_t hash = 2166136261u;
    size_t len = 0;

    while (name[len] && len <= METRIC_NAME_MAX)
        hash = (hash ^ (unsigned char)name[len++]) * 16777619u;
    *out_len = len;
    return hash;
}

/* The row of the name, or NULL and the place where it would be entered. */
static struct metric_row *find_row(struct metric_table *table, const char *name, uint32_t hash,
                                   size_t *out_place)
{
    size_t place = hash % ARRAY_LEN(table->places);
    uint16_t entry;

    while ((entry = atomic_load_explicit(&table->places[place], memory_order_acquire)) != 0) {
        struct metric_row *row = &table->rows[entry - 1];

        if (row->hash == hash && strcmp(row->name, name) == 0)
            return row;
        place = (place + 1) % ARRAY_LEN(table->places); /* half of them are free at least */
    }
    *out_place = place;
    return NULL;
}

/* NULL when the table is full. */
static struct metric_row *add_row(struct metric_table *table, const char *name, uint32_t hash)
{
    struct metric_row *row;
    size_t place, count;

    pthread_mutex_lock(&table->lock);
    row = find_row(table, name, hash, &place); /* somebody else may have been faster */
    count = atomic_load_explicit(&table->count, memory_order_relaxed);
    if (!row && count < METRIC_ROWS_MAX) {
        row = &table->rows[count];
        row->hash = hash;
        snprintf(row->name, sizeof(row->name), "%s", name);
        atomic_store_explicit(&table->places[place], (uint16_t)(count + 1), memory_order_release);
        atomic_store_explicit(&table->count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&table->lock);
    return row;
}

static bool is_full(const struct metric_table *table)
{
    return atomic_load_explicit(&table->count, memory_order_relaxed) == METRIC_ROWS_MAX;
}

void metric_table_init(struct metric_table *table)
{
    pthread_mutex_init(&table->lock, NULL);
}

void metric_table_release(struct metric_table *table)
{
    pthread_mutex_destroy(&table->lock);
}

void metric_table_add(struct metric_table *table, const char *name)
{
    size_t len;
    uint32_t hash = hash_name(name, &len);
    struct metric_row *row;

    assert(len > 0 && len <= METRIC_NAME_MAX);
    row = add_row(table, name, hash);
    if (row)
        row->shows_zeros = true;
}

void metric_table_count(struct metric_table *table, const char *name, size_t column)
{
    size_t len, place;
    uint32_t hash = hash_name(name, &len);
    struct metric_row *row = NULL;

    assert(column < METRIC_COLUMNS_MAX);
    if (len > 0 && len <= METRIC_NAME_MAX && strcmp(name, other) != 0) {
        row = find_row(table, name, hash, &place);
        if (!row && !is_full(table))
            row = add_row(table, name, hash);
    }
    metric_count(row ? &row->counters[column] : &table->others[column]);
}

/* ---------------------------------------------------------------------------------- writing */

void metric_put_head(struct buf *out, const char *name, enum metric_kind kind, const char *help)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

/* What a label may hold: any UTF-8, three characters of it escaped. */
static void put_label_text(struct buf *out, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        size_t size = text_utf8_size(text, len);

        if (size == 0)
            buf_puts(out, TEXT_REPLACEMENT);
        else if (*text == '\n')
            buf_puts(out, "\\n");
        else if (*text == '"' || *text == '\\')
            buf_printf(out, "\\%c", *text);
        else
            buf_put(out, text, size);
        size += size == 0;
        text += size;
        len -= size;
    }
}

static void put_name(struct buf *out, const char *name, const struct metric_label *labels)
{
    buf_puts(out, name);
    for (const struct metric_label *label = labels; label->name; label++) {
        buf_printf(out, "%c%s=\"", label == labels ? '{' : ',', label->name);
        put_label_text(out, label->text);
        buf_putc(out, '"');
    }
    if (labels->name)
        buf_putc(out, '}');
    buf_putc(out, ' ');
}

void metric_put(struct buf *out, const char *name, const struct metric_label *labels,
                uint64_t value)
{
    put_name(out, name, labels);
    buf_printf(out, "%" PRIu64 "\n", value);
}

void metric_put_real(struct buf *out, const char *name, const struct metric_label *labels,
                     double value)
{
    put_name(out, name, labels);
    buf_printf(out, "%.12g\n", value);
}

void metric_put_histogram(struct buf *out, const char *name, const struct metric_label *label,
                          const struct metric_histogram *histogram,
                          const struct metric_scale *scale)
{
    uint64_t sum = atomic_load_explicit(&histogram->sum, memory_order_relaxed), below = 0;
    char full_name[128], bound[32];

    snprintf(full_name, sizeof(full_name), "%s_bucket", name);
    for (size_t i = 0; i <= scale->count; i++) {
        const struct metric_label le = {"le", bound};

        below += metric_value(&histogram->counts[i]);
        if (i < scale->count)
            snprintf(bound, sizeof(bound), "%g", (double)scale->bounds[i] / scale->unit);
        else
            snprintf(bound, sizeof(bound), "+Inf");
        metric_put(out, full_name, label->name ? METRIC_LABELS(*label, le) : METRIC_LABELS(le),
                   below);
    }
    snprintf(full_name, sizeof(full_name), "%s_sum", name);
    metric_put_real(out, full_name, label, (double)sum / scale->unit);
    snprintf(full_name, sizeof(full_name), "%s_count", name);
    metric_put(out, full_name, label, below);
}

static void put_columns(struct buf *out, const char *name, const struct metric_label *row,
                        const char *column_label, const char *const *columns, size_t column_count,
                        const struct metric_counter *counters, bool with_zeros)
{
    for (size_t i = 0; i < column_count; i++) {
        uint64_t value = metric_value(&counters[i]);

        if (value || with_zeros)
            metric_put(out, name, METRIC_LABELS(*row, {column_label, columns[i]}), value);
    }
}

void metric_put_table(struct buf *out, const char *name, const char *row_label,
                      const char *column_label, const char *const *columns, size_t column_count,
                      const struct metric_table *table)
{
    size_t count = atomic_load_explicit(&table->count, memory_order_acquire);

    for (size_t i = 0; i < count; i++) {
        const struct metric_label row = {row_label, table->rows[i].name};

        put_columns(out, name, &row, column_label, columns, column_count, table->rows[i].counters,
                    table->rows[i].shows_zeros);
    }
    put_columns(out, name, &(const struct metric_label){row_label, other}, column_label, columns,
                column_count, table->others, false);
}

static bool is_watched(int status)
{
    return status == 500 || status == 503;
}

void metric_put_statuses(struct buf *out, const char *name, const struct metric_label *label,
                         const struct metric_statuses *statuses)
{
    for (int i = 0; i < METRIC_STATUS_END - METRIC_STATUS_MIN; i++) {
        uint64_t value = metric_value(&statuses->counters[i]);
        char text[16];
        const struct metric_label status = {"status", text};

        if (value == 0 && !is_watched(METRIC_STATUS_MIN + i))
            continue;
        snprintf(text, sizeof(text), "%d", METRIC_STATUS_MIN + i);
        metric_put(out, name, label->name ? METRIC_LABELS(*label, status) : METRIC_LABELS(status),
                   value);
    }
}
