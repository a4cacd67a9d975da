/* SPDX-License-Identifier: MIT */
#include "workos/poller.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/thread.h"
#include "fetch/fetch.h"
#include "workos/api.h"
#include "workos/circle.h"
#include "workos/event_log.h"
#include "workos/intake.h"
#include "workos/state_table.h"
#include "workos/upkeep.h"
#include "workos/workos_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_MAX = 100,
    TRIES = 3,
    TIMEOUT_MS = 30000,
    TYPES_MAX = 8192,
    EXPECTED_MAX = 256,
    EXPECT_FIRST_MS = 1000, /* until it is looked for again; doubling */
    EXPECT_LAST_MS = 30000,
    EXPECT_GIVE_UP_MS =
        POLLER_PATIENCE_MS + 60000, /* so that a reading finds that it hasn't come */
    /* At the first start: a clock that is ahead by more lets no webhook in. */
    FIRST_BACK_MS = SIGNATURE_WEBHOOK_TOLERANCE_MS,
    STEP_BACK_MS = 600000, /* when the place is lost */
    GAP_MS = 200,          /* between two readings, whoever asks */
    UNSEEN_GAP_MS = 2000,  /* between two looks for what they should have brought */
    UNSEEN_TOLD_MS = 3600000,
};

static const int64_t day_ms = (int64_t)24 * 3600 * 1000;
static const int64_t feed_ms = 90 * day_ms;   /* WorkOS has nothing older */
static const int64_t window_ms = 29 * day_ms; /* it answers with 30 days of events at most */

/* An event that a webhook told of; of the first EXPECTED_MAX only. The others come with a later reading. */
struct expected {
    char id[EVENT_NAME_MAX + 1];
    int64_t since_ms; /* monotonic */
};

/* Behind which event to read on; or, when there was none yet, from which time on. */
struct place {
    char cursor[EVENT_NAME_MAX + 1];
    int64_t at_ms; /* wall time: of the cursor's event, or the time itself */
};

/*
 * Which types are asked for. WorkOS refuses the whole list for one type that it doesn't know (a misspelt one,
 * say); then those that it has answered for before are read without the others, and if it refuses these, too,
 * the mirrors' alone.
 */
enum list { LIST_WHOLE, LIST_KNOWN, LIST_MIRRORS, LISTS };

/* How far a list that isn't the whole has come. The place on disk stays then, so that the types that aren't asked
 * for come from there as soon as WorkOS takes them. */
struct narrow {
    struct place place;
    char *types; /* the list, by commas; NULL: it has not come anywhere. The place is of no other */
};

struct poller {
    struct workos *workos;
    struct poller_opts opts;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* any of the following did */
    bool stopping;          /* guarded by lock, as all that follows */
    bool woken;
    uint64_t asked, answered; /* poller_run_now: tickets */
    struct poller_report report;
    int rc;
    struct err err; /* of the last reading; its outcome is for those who asked */
    struct poller_status status;
    char *types;     /* that WorkOS has answered for, by commas, as on disk; NULL: none yet */
    int64_t past_ms; /* wall time: what was made before then and isn't known is behind the place */
    struct narrow narrow[LISTS];
    struct expected *expected; /* EXPECTED_MAX of them */
    size_t expected_count;
    int64_t expect_delay_ms;
    int64_t unseen_next_ms; /* the reading thread's: when to look again (monotonic) */
    int64_t unseen_last_ms; /* when something was last found (monotonic) */
};

/* ---------------------------------------------------------------------------------- the place */

static const char cursor_name[] = "poll.cursor", at_name[] = "poll.at_ms",
                  types_name[] = "poll.types";

struct place_job {
    struct writer_job job; /* first: it is cast back */
    struct place *place;
    bool write;
    struct workos *workos;
    struct buf *types; /* gets the types that the script has functions for; NULL: not wanted */
};

static int read_place(struct db *db, struct place *out, struct err *err)
{
    struct buf cursor = BUF_INIT(2 * sizeof(out->cursor));
    int rc = state_get_text(db, cursor_name, &cursor, err);

    *out = (struct place){0};
    if (rc == 0 && !buf_ok(&cursor))
        rc = err_set(err, ERR_NOMEM, "no memory for the place in the Events API");
    snprintf(out->cursor, sizeof(out->cursor), "%s", buf_text(&cursor));
    buf_release(&cursor);
    return rc < 0 ? rc : state_get_int(db, at_name, 0, &out->at_ms, err);
}

static int write_place(struct db *db, const struct place *place, struct err *err)
{
    int rc = state_put_text(db, cursor_name, place->cursor, err);

    return rc < 0 ? rc : state_put_int(db, at_name, place->at_ms, err);
}

static int run_place(struct writer_job *job, struct db *db, struct err *err)
{
    struct place_job *place = (struct place_job *)job;

    if (place->types) {
        buf_reset(place->types);
        buf_puts(place->types, script_event_names(place->workos->script));
    }
    return place->write ? write_place(db, place->place, err) : read_place(db, place->place, err);
}

static int save_place(struct workos *workos, struct place *place, struct err *err)
{
    struct place_job job = {
        .job = {.run = run_place}, .workos = workos, .place = place, .write = true};

    return writer_run(workos->writer, &job.job, err);
}

struct types_job {
    struct writer_job job; /* first: it is cast back */
    struct buf *types;
};

static int run_read_types(struct writer_job *job, struct db *db, struct err *err)
{
    struct buf *types = ((struct types_job *)job)->types;

    buf_reset(types);
    return state_get_text(db, types_name, types, err);
}

static int run_write_types(struct writer_job *job, struct db *db, struct err *err)
{
    return state_put_text(db, types_name, buf_text(((struct types_job *)job)->types), err);
}

static int save_types(struct workos *workos, struct buf *types, struct err *err)
{
    struct types_job job = {.job = {.run = run_write_types}, .types = types};

    return writer_run(workos->writer, &job.job, err);
}

/* Those that WorkOS answered the last process for; NULL when there was none. */
static int find_types(struct workos *workos, char **out, struct err *err)
{
    struct buf types = BUF_INIT(TYPES_MAX);
    struct types_job job = {.job = {.run = run_read_types}, .types = &types};
    int rc = writer_run(workos->writer, &job.job, err);

    if (rc == 0 && types.len > 0)
        *out = buf_take(&types, &(size_t){0}); /* for want of memory: none */
    buf_release(&types);
    return rc;
}

/* At the first start it is "now", less what our clock may be ahead, and on disk; also when the clock was far ahead
 * then. types: see place_job. */
static int find_place(struct workos *workos, struct place *out, struct buf *types, struct err *err)
{
    struct place_job job = {
        .job = {.run = run_place}, .workos = workos, .place = out, .types = types};
    int64_t now_ms;
    int rc = writer_run(workos->writer, &job.job, err);

    now_ms = clock_wall_ms();
    if (rc < 0 || (out->at_ms > 0 && (out->cursor[0] || out->at_ms <= now_ms)))
        return rc;
    *out = (struct place){.at_ms = now_ms - FIRST_BACK_MS};
    return save_place(workos, out, err);
}

/* What was made before, and isn't known, no reading from there on will bring. Events may stand a little
 * out of place. */
static int64_t past_ms(const struct place *place)
{
    return place->cursor[0] ? place->at_ms - POLLER_OVERLAP_MS : place->at_ms;
}

/* ---------------------------------------------------------------------------------- a reading */

struct reading {
    struct poller *poller; /* NULL in poller_once */
    struct workos *workos;
    struct api *api;
    struct place place;      /* as it is on disk */
    struct place reached;    /* how far this reading has come */
    struct circle circle;    /* of the cursors since it went there */
    struct buf script_types; /* by spaces */
    struct buf known_types;  /* by commas: that WorkOS had answered for when the reading began */
    enum list list;
    bool has_stepped_back;  /* WorkOS may not know the place any more */
    char why[ERR_TEXT_MAX]; /* of that, until it has helped; "": there is nothing to tell */
    struct poller_report report;
};

/* Is the type in the list by commas? */
static bool is_listed(const char *list, const char *type)
{
    size_t len = strlen(type);

    while (list) {
        if (strncmp(list, type, len) == 0 && (list[len] == ',' || list[len] == '\0'))
            return true;
        list = strchr(list, ',');
        list = list ? list + 1 : NULL;
    }
    return false;
}

/* The next type that has a function and no mirror; false behind the last. */
static bool next_own_type(const char **at, char out[EVENT_NAME_MAX + 1])
{
    while (**at) {
        size_t len = strcspn(*at, " ");

        snprintf(out, EVENT_NAME_MAX + 1, "%.*s", (int)len, *at);
        *at += len + ((*at)[len] == ' ');
        if (!is_listed(mirror_event_types(), out))
            return true;
    }
    return false;
}

static bool is_in_list(const struct reading *reading, enum list list, const char *own_type)
{
    return list == LIST_WHOLE ||
           (list == LIST_KNOWN && is_listed(buf_text(&reading->known_types), own_type));
}

/* The types to ask for, by commas: those with a mirror, and those with a function. */
static void put_types(const struct reading *reading, struct buf *out)
{
    const char *at = buf_text(&reading->script_types);
    char type[EVENT_NAME_MAX + 1];

    buf_puts(out, mirror_event_types());
    while (next_own_type(&at, type))
        if (is_in_list(reading, reading->list, type))
            buf_printf(out, ",%s", type);
}

/* What the list leaves out of the script's own types, by commas; how many. */
static int64_t put_left_out(const struct reading *reading, enum list list, struct buf *out)
{
    const char *at = buf_text(&reading->script_types);
    char type[EVENT_NAME_MAX + 1];
    int64_t count = 0;

    while (next_own_type(&at, type))
        if (!is_in_list(reading, list, type))
            buf_printf(out, "%s%s", count++ ? "," : "", type);
    return count;
}

/*
 * WorkOS has answered for these types: it will again. They are kept on disk, so that the next process, too,
 * leaves to the poller what WorkOS tells in order, before it has read anything. LIST_KNOWN is of what is
 * remembered already.
 */
static int remember_types(const struct reading *reading, struct err *err)
{
    struct poller *poller = reading->poller;
    struct buf types = BUF_INIT(TYPES_MAX);
    bool is_new;
    int rc = 0;

    if (!poller || reading->list == LIST_KNOWN)
        return 0;
    put_types(reading, &types);
    pthread_mutex_lock(&poller->lock);
    is_new = !poller->types || strcmp(poller->types, buf_text(&types)) != 0;
    pthread_mutex_unlock(&poller->lock);
    if (is_new)
        rc = save_types(reading->workos, &types, err);
    if (is_new && rc == 0) {
        pthread_mutex_lock(&poller->lock);
        free(poller->types);
        poller->types = buf_take(&types, &(size_t){0}); /* for want of memory: none */
        pthread_mutex_unlock(&poller->lock);
    }
    buf_release(&types);
    return rc;
}

static int put_path(const struct reading *reading, struct buf *out, struct err *err)
{
    struct buf types = BUF_INIT(TYPES_MAX);
    char start[CLOCK_TEXT_MAX];

    put_types(reading, &types);
    buf_printf(out, "/events?events=%s", buf_text(&types));
    if (!buf_ok(&types))
        out->failed = true;
    buf_release(&types);
    buf_printf(out, "&limit=%d&order=asc", PAGE_MAX);
    if (reading->reached.cursor[0]) {
        buf_puts(out, "&after=");
        fetch_put_escaped(out, reading->reached.cursor);
    } else {
        clock_format_ms(reading->reached.at_ms, start);
        buf_puts(out, "&range_start=");
        fetch_put_escaped(out, start);
    }
    return buf_ok(out) ? 0 : err_set(err, ERR_INVALID, "the script has too many event types");
}

static void forget_expected(struct poller *poller, const char *id)
{
    if (!poller)
        return;
    pthread_mutex_lock(&poller->lock);
    for (size_t i = 0; i < poller->expected_count; i++) {
        if (strcmp(poller->expected[i].id, id) == 0) {
            poller->expected[i] = poller->expected[--poller->expected_count];
            poller->status.unseen = 0; /* it does bring what webhooks tell */
            break;
        }
    }
    pthread_mutex_unlock(&poller->lock);
}

/* Its id is all that is shown: the rest may be somebody's, or a secret. */
static void log_unusable(const struct json *json, uint32_t node, const struct err *err)
{
    static struct log_limit
        limit; /* a page has a hundred, and comes again until the place is behind it */
    uint32_t id = json_string_member(json, node, "id");
    size_t len = 0;
    const char *raw = id ? json_raw(json, id, &len) : NULL;

    if (log_may(&limit))
        log_warn("the Events API has something that can't be read; it is left out",
                 log_str("error", err->text), log_bytes("id", raw, len < 200 ? len : 200));
}

/* One event of a page: read, or logged and left out. Returns false for that. */
static bool read_event(struct reading *reading, const struct json *json, uint32_t node,
                       struct intake *out, struct err *err)
{
    size_t len;
    const char *raw = json_raw(json, node, &len);
    int rc = intake_read(out, reading->workos, raw, len, err);

    if (rc == 0)
        return true;
    if (rc == ERR_INVALID) {
        log_unusable(json, node, err);
        reading->report.unusable++;
    }
    return false;
}

/*
 * Oldest first is what everything rests on: from a list the other way round the place would jump. Some
 * events may stand a little out of place, since WorkOS has more than one clock.
 */
static int check_order(const struct intake *intakes, size_t count, struct err *err)
{
    int64_t fall_us = 0, before_us = 0;
    size_t steps_down = 0, dated = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t at_us = intakes[i].event.created_us;

        if (at_us == 0) /* it doesn't say when it was made */
            continue;
        if (dated++ > 0) {
            fall_us += before_us - at_us;
            steps_down += at_us < before_us;
        }
        before_us = at_us;
    }
    if (steps_down * 2 < dated || fall_us / 1000 < POLLER_OVERLAP_MS)
        return 0;
    return err_set(err, ERR_INVALID,
                   "the Events API isn't oldest first: %s stands behind newer ones",
                   intakes[count - 1].event.id);
}

static void forget_narrow(struct poller *poller, enum list list)
{
    free(poller->narrow[list].types);
    poller->narrow[list] = (struct narrow){0};
}

/* With the lock held. */
static void note_place(struct poller *poller, const struct reading *reading,
                       const struct place *place)
{
    struct buf types = BUF_INIT(TYPES_MAX);

    poller->past_ms = past_ms(place);
    for (enum list list = 0; list < LISTS; list++)
        if (reading->list == LIST_WHOLE || reading->list == list)
            forget_narrow(poller, list);
    if (reading->list == LIST_WHOLE)
        return;
    put_types(reading, &types);
    poller->narrow[reading->list].place = *place;
    poller->narrow[reading->list].types = buf_take(&types, &(size_t){0}); /* no memory: no place */
    buf_release(&types);
}

/* All before it has been read; of a list that isn't the whole that is nothing to be kept on disk. */
static int move_place(struct reading *reading, struct place *place, struct err *err)
{
    struct poller *poller = reading->poller;

    if (poller) {
        pthread_mutex_lock(&poller->lock);
        note_place(poller, reading, place);
        pthread_mutex_unlock(&poller->lock);
    }
    return reading->list == LIST_WHOLE ? save_place(reading->workos, place, err) : 0;
}

/* Everything of the page is on disk. */
static int go_on_behind(struct reading *reading, const struct intake *intakes, size_t count,
                        struct err *err)
{
    int64_t passed_ms = clock_wall_ms() - POLLER_OVERLAP_MS;
    struct place place = reading->place;

    for (size_t i = 0; i < count; i++) {
        const struct event *event = &intakes[i].event;
        int64_t at_ms = event->created_us ? event->created_us / 1000 : reading->reached.at_ms;

        snprintf(reading->reached.cursor, sizeof(reading->reached.cursor), "%s", event->id);
        reading->reached.at_ms = at_ms;
        if (at_ms <= passed_ms)
            place = reading->reached;
        reading->report.fresh += !intakes[i].duplicate;
        forget_expected(reading->poller, event->id);
    }
    if (strcmp(place.cursor, reading->place.cursor) == 0)
        return 0;
    reading->place = place;
    return move_place(reading, &place, err);
}

static int take_events(struct reading *reading, const struct json *json, uint32_t data,
                       struct intake *intakes, size_t *out_count, struct err *err)
{
    size_t count = 0;
    int rc = 0;

    for (uint32_t node = data + 1; rc == 0 && node < json->nodes[data].next;
         node = json->nodes[node].next) {
        reading->report.read++;
        if (read_event(reading, json, node, &intakes[count], err))
            count++;
        else if (err->code == ERR_NOMEM)
            rc = ERR_NOMEM;
    }
    *out_count = count;
    if (rc == 0)
        rc = check_order(intakes, count, err);
    if (rc == 0)
        rc = intake_run_all(intakes, count, err);
    return rc < 0 ? rc : go_on_behind(reading, intakes, count, err);
}

static int64_t oldest_ms(void)
{
    return clock_wall_ms() - feed_ms;
}

/*
 * Behind the last page of a list: WorkOS gives no more than 30 days of events, counted from where the
 * list begins, so what happened later may only be in another one. True when there is one to ask for.
 */
static bool look_further(struct reading *reading, bool is_empty)
{
    struct place *reached = &reading->reached;

    if (clock_wall_ms() - reached->at_ms < window_ms)
        return false;
    if (!is_empty) /* from behind its last event */
        return true;
    reached->cursor[0] = '\0';
    reached->at_ms += window_ms;
    if (reached->at_ms < oldest_ms())
        reached->at_ms = oldest_ms();
    return true;
}

/*
 * The page has brought the reading on, or WorkOS's own cursor does: when nothing on it could be read.
 * Else the next page would be the same one, or one from before, and so on for ever.
 */
static int check_progress(struct reading *reading, const char *before, const struct json *json,
                          uint32_t data, uint32_t after, struct err *err)
{
    char *cursor = reading->reached.cursor;

    if (strcmp(before, cursor) == 0 && json->nodes[after].len <= EVENT_NAME_MAX)
        cursor[json_decode(json, after, cursor)] = '\0';
    if (strcmp(before, cursor) == 0)
        return err_set(err, ERR_IO, "the Events API doesn't get on: its cursor stays at %s",
                       before);
    if (circle_closes(&reading->circle, cursor))
        return err_set(err, ERR_IO, "the Events API doesn't get on: its cursor is %s again",
                       cursor);
    if (circle_stays_empty(&reading->circle, json->nodes[data].count == 0))
        return err_set(err, ERR_IO,
                       "the Events API doesn't get on: %d empty pages, one after the other",
                       CIRCLE_EMPTY_MAX + 1);
    return 0;
}

/* An empty page may be followed by others, too. But one that names no other cursor is the end. */
static bool names_another(const struct json *json, uint32_t data, uint32_t after,
                          const char *before)
{
    return after && (json->nodes[data].count > 0 || !json_equals(json, after, before));
}

/* out_more: there is another page. */
static int take_page(struct reading *reading, const struct api_answer *answer, bool *out_more,
                     struct err *err)
{
    const struct json *json = &answer->json;
    uint32_t data = json->count ? json_member(json, 0, "data") : JSON_ABSENT;
    char before[EVENT_NAME_MAX + 1];
    uint32_t metadata, after;
    struct intake *intakes;
    size_t count = 0;
    int rc;

    if (!data || json->nodes[data].type != JSON_ARRAY)
        return err_set(err, ERR_IO, "the Events API's answer has no list of events");
    intakes = calloc((size_t)json->nodes[data].count + 1, sizeof(*intakes));
    if (!intakes)
        return err_set(err, ERR_NOMEM, "no memory for a page of events");
    metadata = json_member(json, 0, "list_metadata");
    after = metadata ? json_string_member(json, metadata, "after") : JSON_ABSENT;
    snprintf(before, sizeof(before), "%s", reading->reached.cursor);
    rc = take_events(reading, json, data, intakes, &count, err);
    *out_more = names_another(json, data, after, before);
    if (rc == 0 && *out_more)
        rc = check_progress(reading, before, json, data, after, err);
    else if (rc == 0)
        *out_more = look_further(reading, count == 0);
    for (size_t i = 0; i < count; i++)
        intake_release(&intakes[i]);
    free(intakes);
    return rc;
}

static void go_to_place(struct reading *reading)
{
    reading->circle = (struct circle){0};
    reading->reached = reading->place;
    if (!reading->reached.cursor[0] && reading->reached.at_ms < oldest_ms())
        reading->reached.at_ms = oldest_ms();
}

/* The list goes on from where it has come, if it has; else from where the wider one stands. */
static void find_narrow_place(struct reading *reading)
{
    struct poller *poller = reading->poller;
    struct buf types = BUF_INIT(TYPES_MAX);
    const struct narrow *narrow;

    if (poller) {
        put_types(reading, &types);
        pthread_mutex_lock(&poller->lock);
        narrow = &poller->narrow[reading->list];
        if (narrow->types && strcmp(narrow->types, buf_text(&types)) == 0)
            reading->place = narrow->place;
        pthread_mutex_unlock(&poller->lock);
        buf_release(&types);
    }
    go_to_place(reading);
    reading->has_stepped_back = false;
    reading->why[0] = '\0';
}

/* Ask for fewer types. False when there are no fewer. */
static bool narrow_list(struct reading *reading, const struct err *why)
{
    struct buf own = BUF_INIT(TYPES_MAX), fresh = BUF_INIT(TYPES_MAX);
    int64_t count = put_left_out(reading, LIST_MIRRORS, &own);
    int64_t fresh_count = put_left_out(reading, LIST_KNOWN, &fresh);
    bool only_fresh = reading->list == LIST_WHOLE && fresh_count > 0 && fresh_count < count;
    bool is_narrower = reading->list != LIST_MIRRORS && count > 0;

    if (is_narrower) {
        reading->list = only_fresh ? LIST_KNOWN : LIST_MIRRORS;
        reading->report.refused = only_fresh ? fresh_count : count;
        find_narrow_place(reading);
        log_error(
            "WorkOS refuses the list of event types: one that handlers.lua has a function for "
            "may be misspelt; reading on without them, until WorkOS takes the list",
            log_str("types", buf_text(only_fresh ? &fresh : &own)), log_str("error", why->text));
    }
    buf_release(&own);
    buf_release(&fresh);
    return is_narrower;
}

/* From a time before the place, in case that WorkOS doesn't know the place itself any more. */
static void step_back(struct reading *reading, const struct err *why)
{
    reading->has_stepped_back = true; /* once: else it could go round in circles */
    reading->reached.at_ms -= STEP_BACK_MS;
    if (reading->reached.at_ms < oldest_ms())
        reading->reached.at_ms = oldest_ms();
    reading->reached.cursor[0] = '\0';
    reading->circle = (struct circle){0};
    snprintf(reading->why, sizeof(reading->why), "%s", why->text);
}

/*
 * WorkOS answers again: if that is since we have stepped back, it was the place that it refused. A time takes the
 * cursor's place: where nothing new happens there would be no other cursor for long, and each reading would be
 * refused again.
 */
static int leave_lost_place(struct reading *reading, struct err *err)
{
    if (!reading->why[0])
        return 0;
    log_warn("WorkOS doesn't know the place in its events any more; reading on from before it",
             log_str("error", reading->why));
    reading->why[0] = '\0';
    if (!reading->place.cursor[0]) /* it was one further on */
        return 0;
    reading->place.cursor[0] = '\0';
    reading->place.at_ms -= STEP_BACK_MS;
    if (reading->place.at_ms < 1)
        reading->place.at_ms = 1; /* 0: there is none */
    return move_place(reading, &reading->place, err);
}

/*
 * What to do when WorkOS refuses: it may not know the place any more, or not one of the types. True
 * when there is something else to try.
 */
static bool find_a_way(struct reading *reading, int status, const struct err *why)
{
    if (status == 401 || status == 403 || status == 0)
        return false;
    if (reading->reached.cursor[0] && !reading->has_stepped_back) {
        step_back(reading, why);
        return true;
    }
    return (status == 422 || status == 400) && narrow_list(reading, why);
}

static int read_page(struct reading *reading, bool *out_more, struct err *err)
{
    struct buf path = BUF_INIT(2 * TYPES_MAX);
    struct api_answer answer = {0};
    int rc = put_path(reading, &path, err);

    if (rc == 0)
        rc = api_call(reading->api, "GET", buf_text(&path), NULL, &answer, err);
    if (rc == 0) {
        rc = leave_lost_place(reading, err);
        if (rc == 0)
            rc = remember_types(reading, err);
        if (rc == 0)
            rc = take_page(reading, &answer, out_more, err);
    } else if (rc == ERR_INVALID && find_a_way(reading, answer.status, err)) {
        *out_more = true;
        rc = 0;
    }
    api_answer_release(&answer);
    buf_release(&path);
    return rc;
}

static int read_all(struct reading *reading, struct err *err)
{
    bool more = true;
    int rc = find_place(reading->workos, &reading->place, &reading->script_types, err);

    if (rc == 0)
        go_to_place(reading);
    while (rc == 0 && more)
        rc = read_page(reading, &more, err);
    return rc;
}

static bool is_stopping(void *arg)
{
    struct poller *poller = arg;
    bool stopping;

    pthread_mutex_lock(&poller->lock);
    stopping = poller->stopping;
    pthread_mutex_unlock(&poller->lock);
    return stopping;
}

static int open_api(struct api **out, const struct workos_api_opts *opts, struct poller *poller,
                    struct err *err)
{
    const struct api_opts api_opts = {
        .hostname = opts->hostname,
        .port = opts->port,
        .https = opts->https,
        .key = opts->key,
        .phase = "poll",
        .tries = TRIES,
        .timeout_ms = TIMEOUT_MS,
        .cancelled = poller ? is_stopping : NULL,
        .arg = poller,
    };

    return api_open(out, &api_opts, err);
}

static int read_events(struct workos *workos, struct poller *poller, struct api *api,
                       struct poller_report *out, struct err *err)
{
    struct reading reading = {
        .poller = poller,
        .workos = workos,
        .api = api,
        .script_types = BUF_INIT(TYPES_MAX),
        .known_types = BUF_INIT(TYPES_MAX),
    };
    int rc;

    if (poller) {
        pthread_mutex_lock(&poller->lock);
        buf_puts(&reading.known_types, poller->types ? poller->types : "");
        pthread_mutex_unlock(&poller->lock);
    }
    rc = read_all(&reading, err);
    *out = reading.report;
    buf_release(&reading.script_types);
    buf_release(&reading.known_types);
    return rc;
}

int poller_once(struct workos *workos, const struct poller_opts *opts, struct poller_report *out,
                struct err *err)
{
    struct api *api = NULL;
    int rc = open_api(&api, &opts->api, NULL, err);

    if (rc == 0)
        rc = read_events(workos, NULL, api, out, err);
    api_close(api);
    return rc;
}

/* ---------------------------------------------------------------------------------- what is expected */

struct unseen_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    int64_t before_ms;
    int64_t count;
};

static int run_unseen(struct writer_job *job, struct db *db, struct err *err)
{
    struct unseen_job *unseen = (struct unseen_job *)job;

    (void)db;
    return event_log_stop_expecting(unseen->workos->events, unseen->before_ms, clock_wall_ms(),
                                    &unseen->count, err);
}

static int stop_expecting(struct workos *workos, int64_t before_ms, int64_t *out_count,
                          struct err *err)
{
    struct unseen_job unseen = {
        .job = {.run = run_unseen}, .workos = workos, .before_ms = before_ms};
    int rc = writer_run(workos->writer, &unseen.job, err);

    *out_count = unseen.count;
    if (rc == 0 && unseen.count > 0)
        upkeep_wake(workos->upkeep, clock_wall_ms());
    return rc;
}

/* With the lock held. One event that didn't come, such as a sample of "authkitd send", is no trouble for ever. */
static void note_unseen(struct poller *poller, int64_t count)
{
    int64_t now_ms = clock_mono_ms();

    if (count > 0)
        poller->unseen_last_ms = now_ms;
    else if (now_ms - poller->unseen_last_ms > UNSEEN_TOLD_MS)
        poller->status.unseen = 0;
    poller->status.unseen += count;
}

/* A reading that began then (wall time) went well: what it should have brought, had it ever to bring it, is due
 * as it came. */
static int take_unseen(struct poller *poller, int64_t began_ms, struct err *err)
{
    int64_t count;
    int rc;

    if (!poller->workos->opts.ordered || clock_mono_ms() < poller->unseen_next_ms)
        return 0;
    poller->unseen_next_ms = clock_mono_ms() + UNSEEN_GAP_MS;
    rc = stop_expecting(poller->workos, began_ms - POLLER_PATIENCE_MS, &count, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&poller->lock);
    note_unseen(poller, count);
    pthread_mutex_unlock(&poller->lock);
    if (count == 0)
        return 0;
    log_warn("the Events API doesn't show events that webhooks brought; they are taken from the "
             "webhooks, out of its order: is the API key of the same environment?",
             log_int("count", count), log_int("after_s", POLLER_PATIENCE_MS / 1000));
    return 0;
}

int poller_expect_nothing(struct workos *workos, struct err *err)
{
    int64_t count;
    int rc = stop_expecting(workos, INT64_MAX, &count, err);

    if (rc == 0 && count > 0)
        log_info("events that the Events API was to bring are taken as their webhooks brought them",
                 log_int("count", count));
    return rc;
}

/* With the lock held. */
static void look_for(struct poller *poller, const char *id)
{
    if (poller->expected_count < EXPECTED_MAX) {
        struct expected *expected = &poller->expected[poller->expected_count++];

        snprintf(expected->id, sizeof(expected->id), "%s", id);
        expected->since_ms = clock_mono_ms();
    }
    poller->expect_delay_ms = 0;
    poller->woken = true;
    pthread_cond_broadcast(&poller->changed);
}

enum poller_answer poller_expect(struct poller *poller, const struct event *event,
                                 bool has_function)
{
    bool is_wanted = has_function || is_listed(mirror_event_types(), event->type);
    bool is_asked_for, will_come;

    if (!poller)
        return POLLER_LEAVES;
    if (!is_wanted) /* it may have been asked for until now, for a function that is gone */
        return POLLER_UNWANTED;
    pthread_mutex_lock(&poller->lock);
    is_asked_for = is_listed(poller->types ? poller->types : mirror_event_types(), event->type);
    will_come =
        is_asked_for && (event->created_us == 0 || event->created_us / 1000 >= poller->past_ms);
    if (will_come)
        look_for(poller, event->id);
    pthread_mutex_unlock(&poller->lock);
    return will_come ? POLLER_EXPECTS : POLLER_LEAVES;
}

/* With the lock held. How long until it is looked for again; -1: nothing is expected. */
static int64_t expect_again_ms(struct poller *poller)
{
    int64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < poller->expected_count;)
        if (now_ms - poller->expected[i].since_ms < EXPECT_GIVE_UP_MS)
            i++;
        else
            poller->expected[i] = poller->expected[--poller->expected_count];
    if (poller->expected_count == 0)
        return -1;
    poller->expect_delay_ms =
        poller->expect_delay_ms ? poller->expect_delay_ms * 2 : EXPECT_FIRST_MS;
    if (poller->expect_delay_ms > EXPECT_LAST_MS)
        poller->expect_delay_ms = EXPECT_LAST_MS;
    return poller->expect_delay_ms;
}

/* ---------------------------------------------------------------------------------- the thread */

/* Where webhooks only wake us all events are new, and that is no news. */
static void log_fresh(bool is_ordered, int64_t fresh)
{
    if (fresh == 0)
        return;
    if (is_ordered)
        log_debug("events read in WorkOS's order", log_int("count", fresh));
    else
        log_info("events that no webhook had brought", log_int("count", fresh));
}

/* With the lock held. Failures are logged when they begin and when they end. */
static void note_outcome(struct poller *poller, int rc, const struct err *err)
{
    struct poller_status *status = &poller->status;

    if (rc == 0) {
        status->since_ms = clock_boot_ms();
        if (status->is_failing)
            log_info("the Events API can be read again");
        log_fresh(poller->workos->opts.ordered, poller->report.fresh);
    } else if (rc != ERR_CLOSED) {
        if (!status->is_failing)
            log_error("the Events API can't be read; trying again at every --poll",
                      log_str("error", err->text));
        snprintf(status->problem, sizeof(status->problem), "%s", err->text);
    }
    status->is_failing = rc < 0;
}

/* With the lock held. */
static void wait_until(struct poller *poller, int64_t until_ms, bool may_be_woken)
{
    while (!poller->stopping &&
           !(may_be_woken && (poller->woken || poller->asked != poller->answered))) {
        int64_t left_ms = until_ms - clock_mono_ms();
        struct timespec until = thread_after_ms(left_ms);

        if (left_ms <= 0)
            return;
        pthread_cond_clockwait(&poller->changed, &poller->lock, CLOCK_MONOTONIC, &until);
    }
}

/* With the lock held, but not while it reads. Returns when to read again. */
static int64_t read_once(struct poller *poller, struct api *api)
{
    uint64_t ticket = poller->asked;
    struct poller_report report = {0};
    struct err err = {0};
    int64_t began_ms = clock_wall_ms(), again_ms;
    int rc;

    poller->woken = false;
    pthread_mutex_unlock(&poller->lock);
    rc = read_events(poller->workos, poller, api, &report, &err);
    if (rc == 0)
        rc = take_unseen(poller, began_ms, &err);
    pthread_mutex_lock(&poller->lock);
    poller->report = report;
    poller->rc = rc;
    poller->err = err;
    poller->answered = ticket;
    note_outcome(poller, rc, &err);
    pthread_cond_broadcast(&poller->changed);
    again_ms = expect_again_ms(poller);
    if (again_ms < 0 || again_ms > poller->opts.interval_ms)
        again_ms = poller->opts.interval_ms;
    return clock_mono_ms() + again_ms;
}

static void *poller_main(void *arg)
{
    struct poller *poller = arg;
    struct api *api = NULL;
    struct err err;

    if (open_api(&api, &poller->opts.api, poller, &err) < 0)
        log_error("events can't be polled", log_str("error", err.text));
    pthread_mutex_lock(&poller->lock);
    if (!api) {
        poller->status.is_failing = true;
        snprintf(poller->status.problem, sizeof(poller->status.problem), "%s", err.text);
    }
    while (!poller->stopping && api) {
        int64_t next_ms = read_once(poller, api);

        wait_until(poller, clock_mono_ms() + GAP_MS, false);
        wait_until(poller, next_ms, true);
    }
    poller->stopping = true; /* nobody waits for another reading */
    pthread_cond_broadcast(&poller->changed);
    pthread_mutex_unlock(&poller->lock);
    api_close(api);
    return NULL;
}

int poller_run_now(struct poller *poller, struct poller_report *out, struct err *err)
{
    uint64_t ticket;
    int rc;

    pthread_mutex_lock(&poller->lock);
    ticket = ++poller->asked;
    pthread_cond_broadcast(&poller->changed);
    while (poller->answered < ticket && !poller->stopping)
        pthread_cond_wait(&poller->changed, &poller->lock);
    if (poller->answered >= ticket) {
        *out = poller->report;
        rc = poller->rc;
        if (rc < 0)
            *err = poller->err;
    } else {
        rc = err_set(err, ERR_CLOSED, "the server is stopping");
    }
    pthread_mutex_unlock(&poller->lock);
    return rc;
}

void poller_get_status(struct poller *poller, struct poller_status *out)
{
    pthread_mutex_lock(&poller->lock);
    *out = poller->status;
    pthread_mutex_unlock(&poller->lock);
}

int64_t poller_age_s(const struct poller_status *status)
{
    return (clock_boot_ms() - status->since_ms) / 1000;
}

struct expected_job {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    char (*ids)[EVENT_NAME_MAX + 1];
    size_t count;
};

static int run_find_expected(struct writer_job *job, struct db *db, struct err *err)
{
    struct expected_job *expected = (struct expected_job *)job;

    (void)db;
    return event_log_list_expected(expected->workos->events, expected->ids, EXPECTED_MAX,
                                   &expected->count, err);
}

/* What the last process expected this one does. */
static int find_expected(struct poller *poller, struct err *err)
{
    struct expected_job expected = {.job = {.run = run_find_expected}, .workos = poller->workos};
    int rc;

    if (!poller->workos->opts.ordered)
        return 0;
    expected.ids = calloc(EXPECTED_MAX, sizeof(*expected.ids));
    rc = expected.ids ? writer_run(poller->workos->writer, &expected.job, err)
                      : err_set(err, ERR_NOMEM, "no memory for what is expected");
    for (size_t i = 0; rc == 0 && i < expected.count; i++)
        look_for(poller, expected.ids[i]);
    free(expected.ids);
    return rc;
}

int poller_start(struct poller **out, struct workos *workos, const struct poller_opts *opts,
                 struct err *err)
{
    struct poller *poller = calloc(1, sizeof(*poller));
    struct place place = {0};
    int rc;

    if (poller)
        poller->expected = calloc(EXPECTED_MAX, sizeof(*poller->expected));
    if (!poller || !poller->expected) {
        free(poller);
        return err_set(err, ERR_NOMEM, "no memory for the poller");
    }
    poller->workos = workos;
    poller->opts = *opts;
    poller->status.since_ms = clock_boot_ms();
    pthread_mutex_init(&poller->lock, NULL);
    pthread_cond_init(&poller->changed, NULL);
    rc = find_place(workos, &place, NULL, err); /* before anybody relies on it */
    if (rc == 0)
        rc = find_expected(poller, err);
    poller->past_ms = past_ms(&place);
    if (rc == 0)
        rc = find_types(workos, &poller->types, err);
    if (rc == 0)
        rc = thread_start(&poller->thread, "poller", poller_main, poller, err);
    if (rc < 0) {
        poller_free(poller);
        return rc;
    }
    *out = poller;
    return 0;
}

void poller_refuse(struct poller *poller)
{
    if (!poller)
        return;
    pthread_mutex_lock(&poller->lock);
    poller->stopping = true;
    pthread_cond_broadcast(&poller->changed);
    pthread_mutex_unlock(&poller->lock);
}

void poller_stop(struct poller *poller)
{
    if (!poller)
        return;
    poller_refuse(poller);
    pthread_join(poller->thread, NULL);
}

void poller_free(struct poller *poller)
{
    if (!poller)
        return;
    pthread_mutex_destroy(&poller->lock);
    pthread_cond_destroy(&poller->changed);
    for (enum list list = 0; list < LISTS; list++)
        forget_narrow(poller, list);
    free(poller->expected);
    free(poller->types);
    free(poller);
}
