/* SPDX-License-Identifier: MIT */
#include "app/backfill_view.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COLUMNS_MAX = 400, BAR = 20, PLAIN_EVERY_MS = 5000, RATE_AFTER_MS = 2000 };

/* ---------------------------------------------------------------------------------- reading */

static int64_t read_number(const struct json *json, uint32_t object, const char *name)
{
    uint32_t value = json_member(json, object, name);
    int64_t number;

    if (!value || json->nodes[value].type != JSON_NUMBER || !json_to_int(json, value, &number))
        return 0;
    return number;
}

static void read_text(const struct json *json, const char *name, char *out, size_t size)
{
    uint32_t value = json_string_member(json, 0, name);

    out[0] = '\0';
    if (value && json->nodes[value].len < size)
        out[json_decode(json, value, out)] = '\0';
}

static void read_counts(const struct json *json, uint32_t object, struct backfill_counts *out)
{
    out->listed = read_number(json, object, "listed");
    out->created = read_number(json, object, "created");
    out->changed = read_number(json, object, "changed");
    out->unchanged = read_number(json, object, "unchanged");
    out->deleted = read_number(json, object, "deleted");
    out->unusable = read_number(json, object, "unusable");
    out->missing = read_number(json, object, "missing");
    out->stale = read_number(json, object, "stale");
    out->recent = read_number(json, object, "recent");
    out->removed = read_number(json, object, "removed");
    out->ran = read_number(json, object, "ran");
    out->failed = read_number(json, object, "failed");
}

int backfill_view_read(struct backfill_view *out, const struct buf *text, struct err *err)
{
    struct json json = {0};
    uint32_t types, resumed;
    int rc = json_read(&json, buf_text(text), text->len, err);

    if (rc < 0)
        return rc;
    *out = (struct backfill_view){.run = read_number(&json, 0, "run")};
    resumed = json_member(&json, 0, "resumed");
    out->resumed = resumed && json.nodes[resumed].type == JSON_TRUE;
    out->since_ms = read_number(&json, 0, "since_ms");
    out->since_listed = read_number(&json, 0, "since_listed");
    read_text(&json, "since_stage", out->since_stage, sizeof(out->since_stage));
    out->stage_listed = read_number(&json, 0, "stage_listed");
    out->done = read_number(&json, 0, "done");
    out->total = read_number(&json, 0, "total");
    out->trouble_s = read_number(&json, 0, "trouble_s");
    read_text(&json, "state", out->state, sizeof(out->state));
    read_text(&json, "stage", out->stage, sizeof(out->stage));
    read_text(&json, "trouble", out->trouble, sizeof(out->trouble));
    read_text(&json, "error", out->error, sizeof(out->error));
    read_text(&json, "refused", out->refused, sizeof(out->refused));
    types = json_member(&json, 0, "types");
    for (int i = 0; types && i < BACKFILL_TYPES; i++)
        read_counts(&json, json_member(&json, types, backfill_kinds[i].name), &out->counts[i]);
    json_release(&json);
    return 0;
}

/* ---------------------------------------------------------------------------------- the beginning */

void backfill_view_tell_resumed(const struct backfill_view *view)
{
    char since[CLOCK_TEXT_MAX];
    int64_t age_min = (clock_wall_ms() - view->since_ms) / 60000;

    clock_format_ms(view->since_ms, since);
    fprintf(stderr, "goes on with the listing that began at %s, %" PRId64 " min ago: ", since,
            age_min);
    if (strcmp(view->since_stage, "stale") == 0)
        fprintf(stderr, "all was listed\n");
    else
        fprintf(stderr, "%s, %" PRId64 " were listed\n", view->since_stage, view->since_listed);
}

/* ---------------------------------------------------------------------------------- the line */

static size_t terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
        return 80;
    return size.ws_col < COLUMNS_MAX ? size.ws_col : COLUMNS_MAX;
}

static void put_bar(struct buf *out, int64_t done, int64_t total)
{
    int full = (int)(done * BAR / total);

    buf_puts(out, "  [");
    for (int i = 0; i < BAR; i++)
        buf_putc(out, i < full ? '#' : '.');
    buf_putc(out, ']');
}

static void put_time_left(struct buf *out, int64_t ms)
{
    int64_t s = ms / 1000 + 1;

    if (s < 90)
        buf_printf(out, ", about %" PRId64 " s left", s);
    else
        buf_printf(out, ", about %" PRId64 " min left", (s + 59) / 60);
}

static bool is_stage(const struct backfill_view *view, const char *stage)
{
    return strcmp(view->stage, stage) == 0;
}

/* "http://…: WorkOS answered 503": the room of a line is for the second half. */
static const char *without_url(const char *trouble)
{
    const char *rest = text_starts_with(trouble, "http") ? strstr(trouble, ": ") : NULL;

    return rest ? rest + 2 : trouble;
}

/* "users: 12300, 395/s" or "memberships: 90 in 40/100 organizations, 9/s  [###...], about 6 s left". */
static void put_line(struct buf *out, const struct backfill_line *line,
                     const struct backfill_view *view)
{
    int64_t ms = clock_mono_ms() - line->since_ms, done = view->done - line->done;
    int64_t listed = view->stage_listed - line->listed;

    if (is_stage(view, "stale"))
        buf_puts(out, "looking for what WorkOS no longer has");
    else if (is_stage(view, "removal"))
        buf_printf(out, "removed: %" PRId64 " of %" PRId64, view->done, view->total);
    else
        buf_printf(out, "%s: %" PRId64, view->stage, view->stage_listed);
    if (view->total > 0 &&
        (is_stage(view, "memberships") || is_stage(view, "check of memberships")))
        buf_printf(out, " in %" PRId64 "/%" PRId64 " organizations", view->done, view->total);
    if (ms > RATE_AFTER_MS && listed > 0)
        buf_printf(out, ", %" PRId64 "/s", listed * 1000 / ms);
    if (view->total > 0 && line->is_terminal)
        put_bar(out, view->done, view->total);
    if (ms > RATE_AFTER_MS && view->total > view->done && done > 0)
        put_time_left(out, (view->total - view->done) * ms / done);
    if (view->trouble[0])
        buf_printf(out, "  - waiting, %" PRId64 " s: %s", view->trouble_s,
                   line->is_terminal ? without_url(view->trouble) : view->trouble);
}

static void follow_stage(struct backfill_line *line, const struct backfill_view *view)
{
    if (strcmp(line->stage, view->stage) == 0)
        return;
    snprintf(line->stage, sizeof(line->stage), "%s", view->stage);
    line->since_ms = clock_mono_ms();
    line->listed = view->stage_listed;
    line->done = view->done;
}

void backfill_line_show(struct backfill_line *line, const struct backfill_view *view)
{
    struct buf text = BUF_INIT(2 * BACKFILL_TEXT_MAX);
    int64_t now_ms = clock_mono_ms();
    size_t len;

    follow_stage(line, view);
    if (line->told_ms == 0)
        line->told_ms = now_ms;
    put_line(&text, line, view);
    if (line->is_terminal) {
        len = text_utf16_prefix(buf_text(&text), text.len, terminal_width() - 1);
        fprintf(stderr, "\r%.*s\033[K", (int)len, buf_text(&text));
        fflush(stderr);
    } else if (now_ms - line->told_ms >= PLAIN_EVERY_MS) {
        line->told_ms = now_ms;
        fprintf(stderr, "%s\n", buf_text(&text));
    }
    buf_release(&text);
}

void backfill_line_clear(const struct backfill_line *line)
{
    if (line->is_terminal)
        fputs("\r\033[K", stderr);
}

/* ---------------------------------------------------------------------------------- the end */

static struct backfill_counts add_up(const struct backfill_view *view)
{
    struct backfill_counts sum = {0};

    for (int i = 0; i < BACKFILL_TYPES; i++) {
        const struct backfill_counts *counts = &view->counts[i];

        sum.unusable += counts->unusable;
        sum.removed += counts->removed;
        sum.ran += counts->ran;
        sum.failed += counts->failed;
    }
    return sum;
}

void backfill_view_sum_up(const struct backfill_view *view)
{
    struct backfill_counts sum = add_up(view);

    printf("%-14s%10s%10s%10s%10s%10s%10s\n", "", "new", "changed", "unchanged", "deleted", "ran",
           "failed");
    for (int i = 0; i < BACKFILL_TYPES; i++) {
        const struct backfill_counts *counts = &view->counts[i];

        printf("%-14s%10" PRId64 "%10" PRId64 "%10" PRId64 "%10" PRId64 "%10" PRId64 "%10" PRId64
               "\n",
               backfill_kinds[i].name, counts->created, counts->changed, counts->unchanged,
               counts->deleted, counts->ran, counts->failed);
    }
    if (view->resumed)
        printf("these are the counts since it was resumed\n");
    if (sum.unusable)
        printf("%" PRId64 " object%s could not be used and %s left out: the log says why\n",
               sum.unusable, sum.unusable == 1 ? "" : "s", sum.unusable == 1 ? "was" : "were");
    if (sum.failed)
        printf("%" PRId64 " function%s failed and %s again by %s: authkitd events --status failed "
               "says why\n",
               sum.failed, sum.failed == 1 ? "" : "s", sum.failed == 1 ? "runs" : "run",
               sum.failed == 1 ? "itself" : "themselves");
    if (sum.removed)
        printf("removed, since WorkOS no longer has them: %" PRId64 "\n", sum.removed);
}

/* "3 users, 1 membership"; numbers: by type. */
static bool name_all(const int64_t numbers[BACKFILL_TYPES], char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (int i = 0; i < BACKFILL_TYPES && len < size; i++)
        if (numbers[i])
            len += (size_t)snprintf(
                out + len, size - len, "%s%" PRId64 " %.*s", len ? ", " : "", numbers[i],
                backfill_name_len((enum backfill_type)i, numbers[i]), backfill_kinds[i].name);
    return out[0] != '\0';
}

bool backfill_view_name_stale(const struct backfill_view *view, char *out, size_t size)
{
    int64_t numbers[BACKFILL_TYPES];

    for (int i = 0; i < BACKFILL_TYPES; i++)
        numbers[i] = view->counts[i].stale;
    return name_all(numbers, out, size);
}

bool backfill_view_name_missing(const struct backfill_view *view, char *out, size_t size)
{
    int64_t numbers[BACKFILL_TYPES];

    for (int i = 0; i < BACKFILL_TYPES; i++)
        numbers[i] = view->counts[i].missing;
    return name_all(numbers, out, size);
}

void backfill_view_tell_recent(const struct backfill_view *view)
{
    int64_t numbers[BACKFILL_TYPES];
    char recent[256];

    for (int i = 0; i < BACKFILL_TYPES; i++)
        numbers[i] = view->counts[i].recent;
    if (name_all(numbers, recent, sizeof(recent)))
        printf("not in WorkOS's list, but heard of in the last %d minutes before, so left alone: "
               "%s; run it again later\n",
               BACKFILL_MARGIN_MS / 60000, recent);
}
