/* SPDX-License-Identifier: MIT */
#include "app/command.h"

#include "app/database.h"
#include "base/clock.h"
#include "base/text.h"
#include "store/db.h"
#include "store/lock.h"
#include "workos/event_list.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    JSON_MAX_BYTES = 64 * 1024 * 1024 + 65536,
    LINE_MAX_BYTES = 6 * JSON_MAX_BYTES, /* when each of its bytes is escaped */
    FOLLOW_PAUSE_MS = 500,
    FOLLOWED_MAX = 10000,
    FAILURES_UNTOLD = 20
};

/* An event that was shown and may still change. */
struct followed {
    int64_t seq;
    int64_t attempts;
    char status[16];
};

struct listing {
    const struct config *config;
    struct db *db;     /* NULL: replaced, and the new one isn't open yet */
    int failures;      /* to open the new one */
    int64_t looked_ms; /* when it last looked for what is new */
    struct event_filter filter;
    struct buf json; /* as it is in the database */
    struct buf line; /* as it is printed */
    int64_t last_seq;

    struct followed *followed; /* FOLLOWED_MAX of them; NULL without --follow */
    size_t followed_count;
};

/* ------------------------------------------------------------------------- one event */

static void put_member(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, ",\"%s\":", name);
    if (value)
        buf_put_json_string(out, value, strlen(value));
    else
        buf_puts(out, "null");
}

static void put_json(struct buf *out, const struct event_row *row)
{
    buf_puts(out, "{\"id\":");
    buf_put_json_string(out, row->id, strlen(row->id));
    put_member(out, "event", row->event);
    put_member(out, "object_id", row->object_id);
    put_member(out, "user_id", row->user_id);
    put_member(out, "created_at", row->created_at);
    buf_printf(out, ",\"received_at\":%" PRId64, row->received_at);
    put_member(out, "status", row->status);
    buf_printf(out, ",\"attempts\":%" PRId64 ",\"next_attempt_at\":", row->attempts);
    if (row->next_attempt_at)
        buf_printf(out, "%" PRId64, row->next_attempt_at);
    else
        buf_puts(out, "null");
    put_member(out, "last_error", row->last_error);
    buf_puts(out, ",\"payload\":");
    buf_puts(out, row->payload ? row->payload : "null");
    buf_putc(out, '}');
}

/* The first line of a text, with a "?" for each trick. */
static void put_plain(struct buf *out, const char *text)
{
    while (*text && *text != '\n') {
        size_t len = text_trick_size(text);

        buf_putc(out, len ? '?' : *text);
        text += len ? len : 1;
    }
}

static void put_text(struct buf *out, const struct event_row *row)
{
    char time[CLOCK_TEXT_MAX];

    clock_format_ms(row->received_at, time);
    buf_printf(out, "%s  %-8s  %5" PRId64 "  ", time, row->status, row->attempts);
    put_plain(out, row->event);
    buf_puts(out, "  ");
    put_plain(out, row->id);
    if (row->object_id) {
        buf_puts(out, "  ");
        put_plain(out, row->object_id);
    }
    buf_putc(out, '\n');
    if (row->last_error) {
        buf_puts(out, "    ");
        put_plain(out, row->last_error);
        buf_putc(out, '\n');
    }
    if (row->next_attempt_at) {
        clock_format_ms(row->next_attempt_at, time);
        buf_printf(out, "    next attempt: %s\n", time);
    }
}

static void show_row(struct listing *listing, const struct event_row *row)
{
    buf_reset(&listing->line);
    if (listing->config->json) {
        buf_reset(&listing->json);
        put_json(&listing->json, row);
        buf_put_plain_json(&listing->line, buf_text(&listing->json));
        buf_putc(&listing->line, '\n');
    } else {
        put_text(&listing->line, row);
    }
    fwrite(buf_text(&listing->line), 1, listing->line.len, stdout);
}

/* ------------------------------------------------------------------------- following */

static void note(struct followed *followed, const struct event_row *row)
{
    followed->seq = row->seq;
    followed->attempts = row->attempts;
    snprintf(followed->status, sizeof(followed->status), "%s", row->status);
}

static void show(void *arg, const struct event_row *row)
{
    struct listing *listing = arg;

    show_row(listing, row);
    if (row->seq > listing->last_seq)
        listing->last_seq = row->seq;
    if (listing->followed && strcmp(row->status, "done") != 0 &&
        listing->followed_count < FOLLOWED_MAX)
        note(&listing->followed[listing->followed_count++], row);
}

struct change {
    struct listing *listing;
    struct followed *followed;
    bool is_over;
};

static void show_change(void *arg, const struct event_row *row)
{
    struct change *change = arg;

    change->is_over = strcmp(row->status, "done") == 0;
    if (row->attempts == change->followed->attempts &&
        strcmp(row->status, change->followed->status) == 0)
        return;
    note(change->followed, row);
    show_row(change->listing, row);
}

static int show_changes(struct listing *listing, struct err *err)
{
    const struct event_filter any = {0}; /* a failed one is done some day: that is news, too */
    size_t kept = 0;
    int rc = 0;

    for (size_t i = 0; i < listing->followed_count; i++) {
        struct change change = {listing, &listing->followed[i], true};

        if (rc == 0)
            rc = event_list_one(listing->db, &any, listing->followed[i].seq, show_change, &change,
                                err);
        if (!change.is_over || rc < 0)
            listing->followed[kept++] = listing->followed[i];
    }
    listing->followed_count = kept;
    return rc;
}

/* A pause; false when nobody reads our output any more (a pipe or terminal that was closed). */
static bool is_still_read(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO};

    return fflush(stdout) == 0 && poll(&output, 1, FOLLOW_PAUSE_MS) <= 0;
}

static void find_first_new(void *arg, const struct event_row *row)
{
    struct listing *listing = arg;

    if (listing->last_seq < 0 && row->received_at >= listing->looked_ms)
        listing->last_seq = row->seq - 1;
}

/* A restored backup knows fewer events, and those that come take the numbers of those that are missing:
 * what is new is told by when it came. */
static int find_place(struct listing *listing, struct err *err)
{
    const struct event_filter any = {0};
    int64_t last_seq;
    size_t kept = 0;
    int rc = event_list_last_seq(listing->db, &last_seq, err);

    listing->last_seq = -1;
    if (rc == 0)
        rc = event_list_last(listing->db, &any, FOLLOWED_MAX, find_first_new, listing, err);
    if (rc < 0)
        return rc;
    if (listing->last_seq < 0)
        listing->last_seq = last_seq;
    for (size_t i = 0; i < listing->followed_count; i++)
        if (listing->followed[i].seq <= listing->last_seq)
            listing->followed[kept++] = listing->followed[i];
    listing->followed_count = kept;
    return 0;
}

/*
 * The database was deleted or replaced, by a backup most likely. Nothing comes before a server runs with
 * the new one: until then it may be half a file, or have an owner who is yet to be changed, and to open it
 * could leave files of that owner's beside it.
 */
static void open_again(struct listing *listing)
{
    const char *path = listing->config->db;
    struct lock_holder holder;
    struct err err;
    int rc;

    if (lock_peek(path, &holder, NULL) == ERR_ABSENT)
        return;
    rc = database_open_reader(&listing->db, path, NULL, &err);
    if (rc == 0)
        rc = find_place(listing, &err);
    if (rc == 0) {
        command_complain("going on with the new one");
        return;
    }
    db_close(listing->db);
    listing->db = NULL;
    if (++listing->failures == FAILURES_UNTOLD) {
        err_prefix(&err, "the new one can't be read so far: ");
        command_complain(err.text);
    }
}

static bool leave_replaced(struct listing *listing)
{
    struct err err;

    if (db_check_place(listing->db, &err) == 0)
        return false;
    fflush(stdout);
    command_complain(err.text);
    db_close(listing->db);
    listing->db = NULL;
    listing->failures = 0;
    return true;
}

static int look(struct listing *listing, struct err *err)
{
    int rc;

    listing->looked_ms = clock_wall_ms();
    rc = show_changes(listing, err);
    if (rc == 0)
        rc = event_list_behind(listing->db, &listing->filter, listing->last_seq, show, listing,
                               &listing->last_seq, err);
    return leave_replaced(listing) || rc == ERR_BUSY ? 0 : rc;
}

static int follow(struct listing *listing, struct err *err)
{
    int rc = 0;

    while (rc == 0 && is_still_read()) {
        if (!listing->db)
            open_again(listing);
        if (listing->db)
            rc = look(listing, err);
    }
    return rc;
}

/* ------------------------------------------------------------------------- the command */

static int list(struct listing *listing, struct err *err)
{
    const struct config *config = listing->config;
    int rc = database_open_reader(&listing->db, config->db, NULL, err);

    if (rc < 0)
        return rc;
    if (config->follow) /* what is there already is behind this number, whatever the filter shows */
        rc = event_list_last_seq(listing->db, &listing->last_seq, err);
    if (rc == 0 && !config->json)
        printf("%-24s  %-8s  %5s  %s\n", "RECEIVED", "STATUS", "TRIES", "EVENT  ID  OBJECT");
    if (rc == 0)
        rc = event_list_last(listing->db, &listing->filter, config->limit, show, listing, err);
    if (rc == 0 && config->follow)
        rc = follow(listing, err);
    return rc < 0 ? err_prefix(err, "%s: ", config->db) : 0;
}

static int events(const struct config *config)
{
    struct listing listing = {
        .config = config,
        .filter = {.status = config->status ? config_statuses[config->status] : NULL,
                   .type = config->type},
        .json = BUF_INIT(JSON_MAX_BYTES),
        .line = BUF_INIT(LINE_MAX_BYTES),
    };
    struct err err;
    int rc;

    if (config->follow)
        listing.followed = calloc(FOLLOWED_MAX, sizeof(*listing.followed));
    rc = list(&listing, &err);
    if (rc < 0)
        command_complain(err.text);
    free(listing.followed);
    buf_release(&listing.json);
    buf_release(&listing.line);
    db_close(listing.db);
    return rc < 0 ? EXIT_FAILED : EXIT_FINE;
}

const struct command cmd_events = {
    .name = "events",
    .summary =
        "list received events, the newest last: what is done, failed, waiting, dead, expected",
    .about = "It reads the database itself: a server may be running with it, or none.",
    .options = FOR_EVENTS,
    .run = events,
};
