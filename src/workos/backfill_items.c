/* SPDX-License-Identifier: MIT */
#include "workos/backfill_items.h"

#include "base/clock.h"
#include "base/log.h"
#include "workos/workos_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BODY_MAX = 64 * 1024 * 1024,
    GROUP_MS = 50,
    PIECE_MAX_BYTES = 512 * 1024, /* of what one job puts into the mirror: some milliseconds */
};

/* ---------------------------------------------------------------------------------- reading */

static void put_raw(struct buf *out, const struct json *json, uint32_t node)
{
    size_t len;
    const char *raw;

    if (node == JSON_ABSENT) {
        buf_puts(out, "null");
        return;
    }
    raw = json_raw(json, node, &len);
    buf_put(out, raw, len);
}

/* Read the body as the event that it is, and leave its secrets out for good. */
static int read_event(struct backfill_page *page, struct backfill_item *item, struct err *err)
{
    int rc;

    if (!buf_ok(&item->body))
        return err_set(err, ERR_NOMEM, "no memory for an object");
    rc = intake_read(&item->intake, page->workos, item->body.data, item->body.len, err);
    if (rc == 0 && item->intake.kept != &item->intake.event) {
        buf_release(&item->body);
        item->body = item->intake.clean_body;
        item->intake.clean_body = BUF_INIT(0);
        intake_release(&item->intake);
        rc = intake_read(&item->intake, page->workos, item->body.data, item->body.len, err);
    }
    if (rc < 0)
        return rc;
    item->page = page;
    item->intake.arrived_ms = INT64_MAX; /* nobody waits for an answer */
    return 0;
}

/* Is it an object of the page's type, with an id? */
static bool is_usable(const struct backfill_page *page, const struct json *json, uint32_t node)
{
    uint32_t id = json_string_member(json, node, "id");
    uint32_t object = json_string_member(json, node, "object");

    return id && json->nodes[id].len > 0 &&
           (!object || json_equals(json, object, backfill_kinds[page->type].one));
}

/* When the object became what it is. An event of something older that comes afterwards is late (event_log.h). */
static uint32_t find_instant(const struct json *json, uint32_t node)
{
    uint32_t updated_at = json_string_member(json, node, "updated_at");

    return updated_at ? updated_at : json_member(json, node, "created_at");
}

static int read_object(struct backfill_page *page, const struct json *json, uint32_t node,
                       struct err *err)
{
    struct backfill_item *item = &page->items[page->count];
    const struct backfill_kind *kind = &backfill_kinds[page->type];
    size_t len;
    const char *id;

    if (!is_usable(page, json, node))
        return err_set(err, ERR_INVALID, "it is no %s, or has no id", kind->one);
    id = json_raw(json, json_string_member(json, node, "id"), &len);
    item->body = BUF_INIT(BODY_MAX);
    buf_puts(&item->body, "{\"id\":\"backfill:");
    buf_put(&item->body, id + 1, len - 1); /* its closing quote is ours */
    buf_printf(&item->body, ",\"event\":\"%screated\",\"data\":", kind->prefix);
    put_raw(&item->body, json, node);
    buf_puts(&item->body, ",\"created_at\":");
    put_raw(&item->body, json, find_instant(json, node));
    buf_putc(&item->body, '}');
    return read_event(page, item, err);
}

static int read_objects(struct backfill_page *page, const struct json *json, uint32_t list,
                        struct err *err)
{
    for (uint32_t i = list + 1; i < json->nodes[list].next; i = json->nodes[i].next) {
        int rc = read_object(page, json, i, err);

        if (rc < 0)
            buf_release(&page->items[page->count].body);
        if (rc == ERR_INVALID) {
            log_warn("backfill: an object can't be used",
                     log_str("type", backfill_kinds[page->type].one), log_str("error", err->text));
            page->unusable++;
        } else if (rc < 0) {
            return rc;
        } else {
            page->count++;
        }
    }
    return 0;
}

/* The cursor of the next page; null at the end of the list. A list that doesn't say where it goes on isn't
 * taken for its end: all behind it would seem to be gone. */
static int read_after(struct backfill_page *page, const struct json *json, struct err *err)
{
    uint32_t metadata = json_member(json, 0, "list_metadata");
    uint32_t after = metadata ? json_member(json, metadata, "after") : JSON_ABSENT;
    bool is_text = after && json->nodes[after].type == JSON_STRING;

    if (!after)
        return err_set(err, ERR_INVALID, "the list has no %s",
                       metadata ? "list_metadata.after" : "list_metadata");
    if (!is_text && json->nodes[after].type != JSON_NULL)
        return err_set(err, ERR_INVALID, "the list's list_metadata.after is neither text nor null");
    if (json->nodes[after].len > EVENT_NAME_MAX)
        return err_set(err, ERR_INVALID, "the list's cursor is too long");
    page->after[is_text ? json_decode(json, after, page->after) : 0] = '\0';
    page->is_last = page->after[0] == '\0';
    return 0;
}

static int make_items(struct backfill_page *page, size_t count, struct err *err)
{
    page->items = calloc(count ? count : 1, sizeof(*page->items));
    return page->items ? 0 : err_set(err, ERR_NOMEM, "no memory for a page of objects");
}

int backfill_page_read(struct backfill_page *page, const struct json *json, struct err *err)
{
    uint32_t list = json->count > 0 ? json_member(json, 0, "data") : JSON_ABSENT;
    int rc;

    if (!list || json->nodes[list].type != JSON_ARRAY)
        return err_set(err, ERR_INVALID, "it has no data that is a list");
    rc = read_after(page, json, err);
    if (rc == 0)
        rc = make_items(page, json->nodes[list].count, err);
    return rc < 0 ? rc : read_objects(page, json, list, err);
}

int backfill_page_add_stale(struct backfill_page *page, const char *id, const char *raw,
                            struct err *err)
{
    const struct backfill_kind *kind = &backfill_kinds[page->type];
    struct buf id_json = BUF_INIT(BODY_MAX);
    char now[CLOCK_TEXT_MAX];
    struct backfill_item *item;
    int rc;

    if (!page->items && (rc = make_items(page, BACKFILL_ITEMS_MAX, err)) < 0)
        return rc;
    buf_put_json_string(&id_json, id, strlen(id));
    if (!buf_ok(&id_json)) {
        buf_release(&id_json);
        return err_set(err, ERR_NOMEM, "no memory for an object");
    }
    item = &page->items[page->count];
    item->body = BUF_INIT(BODY_MAX);
    clock_format_ms(clock_wall_ms(), now);
    buf_printf(&item->body,
               "{\"id\":\"prune:%s,\"event\":\"%sdeleted\",\"data\":", buf_text(&id_json) + 1,
               kind->prefix);
    if (raw)
        buf_puts(&item->body, raw);
    else
        buf_printf(&item->body, "{\"object\":\"%s\",\"id\":%s}", kind->one, buf_text(&id_json));
    buf_printf(&item->body, ",\"created_at\":\"%s\"}", now);
    buf_release(&id_json);
    rc = read_event(page, item, err);
    if (rc < 0)
        buf_release(&item->body);
    if (rc == ERR_INVALID) /* too long an id: it stays */
        return 0;
    item->is_left = true;
    page->count += rc == 0;
    return rc;
}

void backfill_page_release(struct backfill_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        intake_release(&page->items[i].intake);
        buf_release(&page->items[i].body);
    }
    free(page->items);
    page->items = NULL;
    page->count = page->loaded = 0;
    page->unusable = 0;
}

/* ---------------------------------------------------------------------------------- counting */

static void count_item(const struct backfill_item *item, struct backfill_counts *counts)
{
    counts->created += item->made == MADE_NEW;
    counts->changed += item->made == MADE_CHANGED;
    counts->unchanged += item->made == MADE_UNCHANGED;
    counts->deleted += item->made == MADE_DELETED;
    counts->missing += item->made == MADE_DELETED && item->is_missing;
    counts->removed += item->made == MADE_GONE;
    counts->ran += item->call == CALL_RAN;
    counts->failed += item->call == CALL_FAILED;
}

/* ---------------------------------------------------------------------------------- the mirror */

/* Into the mirror, or out of it, by its rule. */
static int mirror_item(struct backfill_item *item, enum mirror_found found, struct err *err)
{
    struct workos *workos = item->page->workos;
    int64_t before = db_total_changes(workos->opts.db);
    int rc = mirror_apply(workos->mirror, &item->intake.event, NULL, err);
    bool changed = db_total_changes(workos->opts.db) > before;

    if (item->page->is_removal)
        item->made = MADE_GONE;
    else if (found == MIRROR_DELETED)
        item->made = MADE_DELETED;
    else if (found == MIRROR_ABSENT)
        item->made = MADE_NEW;
    else
        item->made = changed ? MADE_CHANGED : MADE_UNCHANGED;
    return rc < 0 ? rc : handle_erasure(workos, &item->intake.event, err);
}

static bool has_function(const struct backfill_item *item)
{
    const struct workos *workos = item->page->workos;

    return item->page->with_functions && workos->script &&
           script_handles_event(workos->script, item->intake.event.type);
}

struct load_job {
    struct writer_job job; /* first: it is cast back */
    struct backfill_page *page;
    size_t first, end;
    bool is_whole; /* nothing before these is left for a job of its own */
    struct backfill_mark next;
};

/* Written down as seen. What had been here before the run speaks for this being the same environment of
 * WorkOS's; only a survey can tell, for afterwards the run's own are here as well. */
static int note_seen(struct load_job *load, struct backfill_item *item, enum mirror_found found,
                     struct err *err)
{
    enum backfill_type type = load->page->type;
    bool added;
    int rc;

    load->next.found |= 1 << type;
    if (!load->next.is_pruning)
        return 0;
    rc = backfill_seen_add(load->page->workos->opts.db, type, item->intake.event.object_id, &added,
                           err);
    if (rc == 0 && added && load->next.is_survey)
        load->next.known[type] += found == MIRROR_PRESENT;
    return rc;
}

static int load_item(struct load_job *load, struct backfill_item *item, struct err *err)
{
    enum mirror_found found;
    int rc = mirror_find(load->page->workos->mirror, &item->intake.event, &found, err);

    if (rc == 0)
        rc = note_seen(load, item, found, err);
    if (rc < 0 || load->next.is_survey)
        return rc;
    if (found == MIRROR_DELETED)
        rc = backfill_was_deleted(load->page->workos->opts.db, load->page->mark, load->page->type,
                                  item->intake.event.object_id, &item->is_missing, err);
    if (rc < 0)
        return rc;
    item->is_left = found == MIRROR_ABSENT && has_function(item);
    return item->is_left ? 0 : mirror_item(item, found, err);
}

static int move_mark(const struct backfill_page *page, struct db *db, struct backfill_mark *mark,
                     struct err *err)
{
    mark->listed += (int64_t)page->count + page->unusable;
    if (page->unusable > 0) /* nobody knows which of those that are here they were */
        mark->incomplete |= 1 << page->type;
    if (page->is_last)
        return backfill_mark_advance(db, mark, err);
    snprintf(mark->after, sizeof(mark->after), "%s", page->after);
    return 0;
}

static int run_load(struct writer_job *job, struct db *db, struct err *err)
{
    struct load_job *load = (struct load_job *)job;
    struct backfill_page *page = load->page;
    bool is_whole = load->is_whole && load->end == page->count;
    int rc = 0;

    load->next = *page->mark; /* the writer may run a job again */
    for (size_t i = load->first; rc == 0 && i < load->end; i++) {
        rc = load_item(load, &page->items[i], err);
        is_whole = is_whole && !page->items[i].is_left;
    }
    if (rc == 0 && is_whole)
        rc = move_mark(page, db, &load->next, err);
    return rc < 0 ? rc : backfill_mark_write(db, &load->next, err);
}

static size_t end_of_piece(const struct backfill_page *page)
{
    size_t i = page->loaded, bytes = 0;

    while (i < page->count && bytes < PIECE_MAX_BYTES)
        bytes += page->items[i++].body.len;
    return i;
}

int backfill_page_load(struct backfill_page *page, struct backfill_counts *counts, struct err *err)
{
    bool is_survey = page->mark->is_survey;

    do {
        struct load_job load = {.job = {.run = run_load},
                                .page = page,
                                .first = page->loaded,
                                .end = end_of_piece(page),
                                .is_whole = true};
        int rc;

        for (size_t i = 0; i < page->loaded; i++)
            load.is_whole = load.is_whole && !page->items[i].is_left;
        rc = writer_run(page->workos->writer, &load.job, err);
        if (rc < 0)
            return rc;
        *page->mark = load.next;
        for (size_t i = load.first; i < load.end; i++)
            count_item(&page->items[i], counts);
        counts->listed += is_survey ? 0 : (int64_t)(load.end - load.first);
        page->loaded = load.end;
    } while (page->loaded < page->count);
    if (is_survey) /* they are counted when they are taken */
        return 0;
    counts->listed += page->unusable;
    counts->unusable += page->unusable;
    return 0;
}

/* ---------------------------------------------------------------------------------- functions */

/* It is an event from here on. */
static int take_event(struct backfill_item *item, struct db *db, enum mirror_found found,
                      struct err *err)
{
    struct logged_event logged;
    int rc = intake_take(&item->intake, db, err);

    if (rc == 0 && item->intake.duplicate) /* its function has run, whatever became of the row */
        return mirror_item(item, found, err);
    if (rc == 0)
        rc = event_log_find(item->page->workos->events, item->intake.event.id, &logged, err);
    if (rc < 0)
        return rc;
    item->made = item->page->is_removal ? MADE_GONE : MADE_NEW;
    item->call = logged.status == EVENT_DONE ? CALL_RAN : CALL_FAILED;
    return 0;
}

/* Whoever came behind the group with a webhook waits for all of it: slow ones among quick ones end it. */
static bool is_groups_time_over(struct backfill_item *item)
{
    struct backfill_group *group = &item->page->group;
    int64_t now_ms = clock_mono_ms();

    if (group->began_ms == 0)
        group->began_ms = now_ms;
    return now_ms - group->began_ms > GROUP_MS && !item->intake.attempt.was_lost;
}

/* Much may have happened since the page was loaded: the object came by a webhook, was deleted, the
 * script is another one. */
static int run_item_now(struct backfill_item *item, struct db *db, struct err *err)
{
    struct backfill_page *page = item->page;
    enum mirror_found found;
    bool is_stale = false;
    int rc = mirror_find(page->workos->mirror, &item->intake.event, &found, err);

    if (rc == 0 && page->is_removal)
        rc = backfill_is_stale(db, page->mark, page->type, item->intake.event.object_id, &is_stale,
                               err);
    if (rc < 0 || (page->is_removal && !is_stale))
        return rc;
    if (has_function(item) && (page->is_removal || found == MIRROR_ABSENT))
        return take_event(item, db, found, err);
    return mirror_item(item, found, err);
}

static int run_item(struct writer_job *job, struct db *db, struct err *err)
{
    struct backfill_item *item = (struct backfill_item *)job;
    int rc;

    item->made = MADE_NOTHING; /* the writer may run a job again */
    item->call = CALL_NONE;
    item->is_put_off = is_groups_time_over(item);
    if (item->is_put_off)
        return 0;
    rc = run_item_now(item, db, err);
    item->page->group.ended_ms = clock_mono_ms();
    return rc;
}

static void finish_item(struct writer_job *job, int rc, const struct err *err)
{
    struct backfill_item *item = (struct backfill_item *)job;

    item->rc = rc;
    if (rc < 0)
        item->err = *err;
    sem_post(&item->page->group.done);
}

static void await(sem_t *done)
{
    while (sem_wait(done) < 0 && errno == EINTR)
        ;
}

/* Wait for the items, and see what became of them. */
static int finish_items(struct backfill_page *page, struct backfill_item **items, size_t count,
                        struct backfill_counts *counts, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < count; i++)
        await(&page->group.done);
    for (size_t i = 0; i < count; i++) {
        struct backfill_item *item = items[i];

        if (item->rc < 0 && item->intake.attempt.was_lost)
            item->rc = writer_run(page->workos->writer, &item->job, &item->err);
        if (item->rc == ERR_CONFLICT) { /* its function left a reference broken: it would again */
            log_error("backfill: an object is left out",
                      log_str("type", backfill_kinds[page->type].one),
                      log_str("id", item->intake.event.id), log_str("error", item->err.text));
            counts->unusable++;
            item->is_left = false;
            continue;
        }
        if (item->rc < 0) {
            rc = rc < 0 ? rc : err_set(err, item->rc, "%s", item->err.text);
            continue;
        }
        count_item(item, counts);
        item->is_left = item->is_put_off;
    }
    return rc;
}

bool backfill_page_has_left(const struct backfill_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        if (page->items[i].is_left)
            return true;
    return false;
}

int backfill_page_run(struct backfill_page *page, struct retry_pace *pace,
                      struct backfill_counts *counts, bool *out_more, int64_t *out_pause_ms,
                      struct err *err)
{
    struct backfill_item *items[BACKFILL_PAGE];
    size_t submitted = 0;
    struct err submit_err;
    int submit_rc = 0, rc;

    if (pace->at_a_time == 0)
        pace->at_a_time = 1;
    page->group = (struct backfill_group){0};
    sem_init(&page->group.done, 0, 0);
    for (size_t i = 0; i < page->count; i++) {
        struct backfill_item *item = &page->items[i];

        if (!item->is_left || submit_rc < 0 || submitted == pace->at_a_time ||
            submitted == BACKFILL_PAGE)
            continue;
        item->job = (struct writer_job){.run = run_item, .done = finish_item};
        submit_rc = writer_submit(page->workos->writer, &item->job, &submit_err);
        if (submit_rc == 0)
            items[submitted++] = item;
    }
    rc = finish_items(page, items, submitted, counts, err);
    sem_destroy(&page->group.done);
    if (rc == 0 && submit_rc < 0)
        rc = err_set(err, submit_rc, "%s", submit_err.text);
    *out_more = backfill_page_has_left(page);
    *out_pause_ms = 0;
    if (submitted > 0)
        retry_set_pace(pace, page->group.ended_ms - page->group.began_ms, out_pause_ms);
    return rc;
}

/* ---------------------------------------------------------------------------------- the mark */

struct mark_job {
    struct writer_job job; /* first: it is cast back */
    struct backfill_page *page;
    struct backfill_mark next;
};

static int run_mark(struct writer_job *job, struct db *db, struct err *err)
{
    struct mark_job *mark = (struct mark_job *)job;
    int rc;

    mark->next = *mark->page->mark;
    rc = move_mark(mark->page, db, &mark->next, err);
    return rc < 0 ? rc : backfill_mark_write(db, &mark->next, err);
}

int backfill_page_mark(struct backfill_page *page, struct err *err)
{
    struct mark_job mark = {.job = {.run = run_mark}, .page = page};
    int rc = writer_run(page->workos->writer, &mark.job, err);

    if (rc == 0)
        *page->mark = mark.next;
    return rc;
}
