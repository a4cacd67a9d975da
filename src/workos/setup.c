/* SPDX-License-Identifier: MIT */
#include "workos/setup.h"

#include "base/text.h"
#include "crypto/hmac.h"
#include "fetch/fetch.h"
#include "workos/event.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    PAGE_MAX = 100,
    PAGES_MAX = 1000,
    LIST_MAX_BYTES = 256 * 1024,
    TYPES_MAX = 1000,
    SECRET_MAX = 1024
};

struct type {
    char name[EVENT_NAME_MAX + 1];
    bool required;
    bool refused;
    bool there; /* the endpoint has it */
};

struct setting {
    struct api *api;
    const struct setup_request *request;
    struct setup_report *report;
    struct type *types;
    size_t count;
    bool is_found;
    bool is_enabled;
    bool has_others; /* the endpoint has types that aren't wanted */
};

/* ---------------------------------------------------------------------------------- types */

static struct type *find_type(const struct setting *setting, const char *name, size_t len)
{
    for (size_t i = 0; i < setting->count; i++)
        if (strlen(setting->types[i].name) == len && memcmp(setting->types[i].name, name, len) == 0)
            return &setting->types[i];
    return NULL;
}

static int add_types(struct setting *setting, const char *list, bool required, struct err *err)
{
    for (; *list; list += strspn(list, ", ")) {
        size_t len = strcspn(list, ", ");

        if (len > EVENT_NAME_MAX || setting->count == TYPES_MAX)
            return err_set(err, ERR_INVALID, "too many event types, or one that is too long");
        if (len > 0 && !find_type(setting, list, len)) {
            struct type *type = &setting->types[setting->count++];

            memcpy(type->name, list, len);
            type->required = required;
        }
        list += len;
    }
    return 0;
}

static void put_name(struct buf *out, const char *name, size_t len)
{
    if (out->len > 0)
        buf_puts(out, ", ");
    buf_put(out, name, len);
}

/* ---------------------------------------------------------------------------------- the endpoint */

/* Scheme and host in lower case, the scheme's own port left out: two URLs of one endpoint are equal. */
static void normalize(const char *url, struct buf *out)
{
    const char *host = strstr(url, "://");
    size_t head = host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : strlen(url);

    for (size_t i = 0; i < head; i++)
        buf_putc(out, (char)tolower((unsigned char)url[i]));
    if (buf_ok(out) &&
        ((text_starts_with(buf_text(out), "https://") && text_ends_with(buf_text(out), ":443")) ||
         (text_starts_with(buf_text(out), "http://") && text_ends_with(buf_text(out), ":80"))))
        out->len = (size_t)(strrchr(out->data, ':') - out->data);
    buf_puts(out, url + head);
}

static bool is_same_url(const struct json *json, uint32_t url, const char *wanted)
{
    struct buf a = BUF_INIT(LIST_MAX_BYTES), b = BUF_INIT(LIST_MAX_BYTES);
    char *text = url ? malloc(json->nodes[url].len + 1) : NULL;
    bool same;

    if (text) {
        text[json_decode(json, url, text)] = '\0';
        normalize(text, &a);
    }
    normalize(wanted, &b);
    same = text && buf_ok(&a) && buf_ok(&b) && strcmp(buf_text(&a), buf_text(&b)) == 0;
    free(text);
    buf_release(&a);
    buf_release(&b);
    return same;
}

/* Not "whsec_12****", as the emulator shows it, nor what a list by commas can't hold. */
static bool is_secret(const char *text)
{
    if (*text == '\0')
        return false;
    for (; *text; text++)
        if (*text <= ' ' || *text > '~' || *text == ',' || *text == '*')
            return false;
    return true;
}

static void take_secret(struct setup_report *report, const struct json *json, uint32_t endpoint)
{
    uint32_t node = json_string_member(json, endpoint, "secret");
    char secret[SECRET_MAX + 1];

    if (!node || json->nodes[node].len > SECRET_MAX)
        return;
    secret[json_decode(json, node, secret)] = '\0';
    if (is_secret(secret)) {
        if (report->secret)
            crypto_wipe(report->secret, strlen(report->secret));
        free(report->secret);
        report->secret = strdup(secret);
    }
    crypto_wipe(secret, sizeof(secret));
}

static void take_events(struct setting *setting, const struct json *json, uint32_t events)
{
    buf_reset(&setting->report->removed);
    for (size_t i = 0; i < setting->count; i++)
        setting->types[i].there = false;
    setting->has_others = false;
    if (!events || json->nodes[events].type != JSON_ARRAY)
        return;
    for (uint32_t node = events + 1; node < json->nodes[events].next;
         node = json->nodes[node].next) {
        const char *name = json->text + json->nodes[node].start;
        size_t len = json->nodes[node].len;
        struct type *type = find_type(setting, name, len);

        if (type) {
            type->there = true;
        } else {
            setting->has_others = true;
            put_name(&setting->report->removed, name, len);
        }
    }
}

static int take_endpoint(struct setting *setting, const struct json *json, uint32_t endpoint,
                         struct err *err)
{
    uint32_t id = json_string_member(json, endpoint, "id");
    uint32_t status = json_string_member(json, endpoint, "status");
    uint32_t enabled = json_member(json, endpoint, "enabled");

    if (!id || json->nodes[id].len >= sizeof(setting->report->id))
        return err_set(err, ERR_IO, "WorkOS's answer has a webhook endpoint without an id");
    setting->report->id[json_decode(json, id, setting->report->id)] = '\0';
    setting->is_found = true;
    /* The emulator says enabled instead of status. */
    setting->is_enabled = status    ? json_equals(json, status, "enabled")
                          : enabled ? json->nodes[enabled].type == JSON_TRUE
                                    : true;
    take_secret(setting->report, json, endpoint);
    take_events(setting, json, json_member(json, endpoint, "events"));
    return 0;
}

/* One page of the list; out_after is where the next one begins, "" at the end. */
static int read_page(struct setting *setting, char *after, size_t size, struct err *err)
{
    struct buf path = BUF_INIT(4096);
    struct api_answer answer = {0};
    const struct json *json = &answer.json;
    uint32_t data, metadata, next;
    int rc;

    buf_printf(&path, "/webhook_endpoints?limit=%d&order=asc", PAGE_MAX);
    if (*after) {
        buf_puts(&path, "&after=");
        fetch_put_escaped(&path, after);
    }
    *after = '\0';
    rc = api_call(setting->api, "GET", buf_text(&path), NULL, &answer, err);
    if (rc < 0)
        goto out;
    data = json_member(json, 0, "data");
    if (!data || json->nodes[data].type != JSON_ARRAY) {
        rc = err_set(err, ERR_IO, "WorkOS's answer has no list of webhook endpoints");
        goto out;
    }
    for (uint32_t node = data + 1; rc == 0 && node < json->nodes[data].next;
         node = json->nodes[node].next) {
        if (is_same_url(json, json_string_member(json, node, "endpoint_url"),
                        setting->request->url)) {
            rc = take_endpoint(setting, json, node, err);
            goto out;
        }
    }
    metadata = json_member(json, 0, "list_metadata");
    next = metadata ? json_string_member(json, metadata, "after") : JSON_ABSENT;
    if (next && json->nodes[next].len < size)
        after[json_decode(json, next, after)] = '\0';
out:
    api_answer_release(&answer);
    buf_release(&path);
    return rc;
}

static int find_endpoint(struct setting *setting, struct err *err)
{
    char after[256] = "";

    for (int page = 0; page < PAGES_MAX; page++) {
        int rc = read_page(setting, after, sizeof(after), err);

        if (rc < 0 || setting->is_found || !*after)
            return rc;
    }
    return err_set(err, ERR_IO, "WorkOS's list of webhook endpoints has no end");
}

/* ---------------------------------------------------------------------------------- changes */

static bool is_right(const struct setting *setting)
{
    if (!setting->is_found || !setting->is_enabled || setting->has_others)
        return false;
    for (size_t i = 0; i < setting->count; i++)
        if (setting->types[i].there == setting->types[i].refused)
            return false;
    return true;
}

static void put_body(const struct setting *setting, struct buf *out)
{
    const char *comma = "";

    buf_putc(out, '{');
    if (!setting->is_found) {
        buf_puts(out, "\"endpoint_url\":");
        buf_put_json_string(out, setting->request->url, strlen(setting->request->url));
        buf_putc(out, ',');
    } else if (!setting->is_enabled) {
        buf_puts(out, "\"status\":\"enabled\",");
    }
    buf_puts(out, "\"events\":[");
    for (size_t i = 0; i < setting->count; i++) {
        if (setting->types[i].refused)
            continue;
        buf_puts(out, comma);
        buf_put_json_string(out, setting->types[i].name, strlen(setting->types[i].name));
        comma = ",";
    }
    buf_puts(out, "]}");
}

static void note_changes(struct setting *setting)
{
    struct setup_report *report = setting->report;

    if (!setting->is_found) {
        report->outcome = SETUP_CREATED;
        return;
    }
    if (report->outcome == SETUP_UNCHANGED)
        report->outcome = SETUP_CHANGED;
    report->enabled_again = report->enabled_again || !setting->is_enabled;
    for (size_t i = 0; i < setting->count; i++)
        if (!setting->types[i].there && !setting->types[i].refused)
            put_name(&report->added, setting->types[i].name, strlen(setting->types[i].name));
}

/* WorkOS takes PATCH, as its SDK sends it; its emulator doesn't know that, and takes PUT. */
static int call_to_change(struct setting *setting, const char *path, const struct buf *body,
                          struct api_answer *answer, struct err *err)
{
    struct api_answer other;
    struct err other_err;
    int rc = api_call(setting->api, "PATCH", path, body, answer, err);

    if (rc != ERR_INVALID || answer->status != 404)
        return rc;
    if (api_call(setting->api, "PUT", path, body, &other, &other_err) < 0) {
        api_answer_release(&other);
        return rc;
    }
    api_answer_release(answer);
    *answer = other;
    return 0;
}

/* Create it, or change it. After an error that WorkOS answered, answer has its words. */
static int put_endpoint(struct setting *setting, struct api_answer *answer, struct err *err)
{
    struct buf path = BUF_INIT(1024), body = BUF_INIT(LIST_MAX_BYTES);
    struct buf removed;
    int rc;

    *answer = (struct api_answer){0};
    buf_puts(&path, "/webhook_endpoints");
    if (setting->is_found) {
        buf_putc(&path, '/');
        fetch_put_escaped(&path, setting->report->id);
    }
    put_body(setting, &body);
    if (!buf_ok(&path) || !buf_ok(&body)) {
        rc = err_set(err, ERR_INVALID, "too many event types for one webhook endpoint");
        goto out;
    }
    rc = setting->is_found ? call_to_change(setting, buf_text(&path), &body, answer, err)
                           : api_call(setting->api, "POST", buf_text(&path), &body, answer, err);
    if (rc < 0)
        goto out;
    note_changes(setting);
    /* The answer has only what is there now: what was removed is to be told all the same. */
    removed = setting->report->removed;
    setting->report->removed = BUF_INIT(LIST_MAX_BYTES);
    rc = take_endpoint(setting, &answer->json, 0, err);
    buf_release(&setting->report->removed);
    setting->report->removed = removed;
out:
    buf_release(&path);
    buf_release(&body);
    return rc;
}

/* ---------------------------------------------------------------------------------- refusals */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Does the text name the type, not just one that begins or ends like it? */
static bool mentions(const char *text, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = text; (at = strstr(at, name)) != NULL; at++) {
        bool goes_on = is_word(at[len]) || (at[len] == '.' && is_word(at[len + 1]));

        if (!goes_on && (at == text || (!is_word(at[-1]) && at[-1] != '.')))
            return true;
    }
    return false;
}

/* "events.3", "events[3]", "events/3": the place of one in the list that was sent. */
static struct type *type_at(const struct setting *setting, size_t place)
{
    for (size_t i = 0; i < setting->count; i++)
        if (!setting->types[i].refused && place-- == 0)
            return &setting->types[i];
    return NULL;
}

static size_t mark_by_place(struct setting *setting, const char *text)
{
    struct type *found[TYPES_MAX];
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, "events")) != NULL;) {
        size_t digits;

        at += strlen("events");
        digits = *at == '.' || *at == '[' || *at == '/' ? strspn(at + 1, "0123456789") : 0;
        if (digits > 0 && digits < 5 && count < TYPES_MAX) {
            struct type *type = type_at(setting, strtoul(at + 1, NULL, 10));

            if (type && !type->required)
                found[count++] = type;
        }
    }
    for (size_t i = 0; i < count; i++) /* only now: the places are those of the list as it was */
        found[i]->refused = true;
    return count;
}

/* Mark the optional types that WorkOS's 422 is about; returns how many. An answer that names a
 * required one lists what it takes; then it is the others. */
static size_t mark_refused(struct setting *setting, const char *text)
{
    bool lists_allowed = false;
    size_t count = 0;

    for (size_t i = 0; i < setting->count; i++)
        if (setting->types[i].required && mentions(text, setting->types[i].name))
            lists_allowed = true;
    for (size_t i = 0; i < setting->count; i++) {
        struct type *type = &setting->types[i];

        if (!type->required && !type->refused && mentions(text, type->name) != lists_allowed) {
            type->refused = true;
            count++;
        }
    }
    return count > 0 ? count : mark_by_place(setting, text);
}

/* The answer doesn't say which type it is: each one alone, beginning with none that isn't there. */
static int try_one_by_one(struct setting *setting, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < setting->count; i++)
        setting->types[i].refused = !setting->types[i].required && !setting->types[i].there;
    for (size_t i = 0; rc == 0 && i <= setting->count; i++) {
        struct type *type = i > 0 ? &setting->types[i - 1] : NULL;
        struct api_answer answer = {0};

        if (type && !type->refused)
            continue;
        if (type)
            type->refused = false;
        if (!is_right(setting))
            rc = put_endpoint(setting, &answer, err);
        if (rc == ERR_INVALID && answer.status == 422 && type) {
            type->refused = true;
            rc = 0;
        }
        api_answer_release(&answer);
    }
    return rc;
}

static bool has_optional(const struct setting *setting)
{
    for (size_t i = 0; i < setting->count; i++)
        if (!setting->types[i].required && !setting->types[i].refused)
            return true;
    return false;
}

static int make_right(struct setting *setting, struct err *err)
{
    bool looked_again = false;

    while (!is_right(setting)) {
        struct api_answer answer;
        int rc = put_endpoint(setting, &answer, err);
        bool is_known = rc == ERR_INVALID && answer.status == 409 && !setting->is_found;
        bool is_refused = rc == ERR_INVALID && answer.status == 422 && has_optional(setting);
        bool says_which = is_refused && mark_refused(setting, buf_text(&answer.body)) > 0;

        api_answer_release(&answer);
        if (is_known && !looked_again) {
            looked_again = true; /* an answer to us was lost, or somebody else was as quick */
            rc = find_endpoint(setting, err);
            if (rc < 0)
                return rc;
        } else if (is_refused && !says_which) {
            return try_one_by_one(setting, err);
        } else if (!is_refused) {
            return rc;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------------------------- all together */

static void write_report(struct setting *setting)
{
    struct setup_report *report = setting->report;

    for (size_t i = 0; i < setting->count; i++) {
        const struct type *type = &setting->types[i];

        put_name(type->refused ? &report->refused : &report->types, type->name, strlen(type->name));
    }
    if (report->outcome != SETUP_CHANGED)
        buf_reset(&report->removed);
}

int setup_webhook(struct api *api, const struct setup_request *request, struct setup_report *out,
                  struct err *err)
{
    struct setting setting = {.api = api, .request = request, .report = out};
    int rc;

    *out = (struct setup_report){
        .outcome = SETUP_UNCHANGED,
        .types = BUF_INIT(LIST_MAX_BYTES),
        .added = BUF_INIT(LIST_MAX_BYTES),
        .removed = BUF_INIT(LIST_MAX_BYTES),
        .refused = BUF_INIT(LIST_MAX_BYTES),
    };
    setting.types = calloc(TYPES_MAX, sizeof(*setting.types));
    if (!setting.types)
        return err_set(err, ERR_NOMEM, "no memory for the event types");
    rc = add_types(&setting, request->required, true, err);
    if (rc == 0)
        rc = add_types(&setting, request->optional, false, err);
    if (rc == 0 && setting.count == 0)
        rc = err_set(err, ERR_INVALID, "a webhook endpoint needs at least one event type");
    if (rc == 0)
        rc = find_endpoint(&setting, err);
    out->was_there = setting.is_found;
    if (rc == 0)
        rc = make_right(&setting, err);
    if (rc == 0)
        write_report(&setting);
    free(setting.types);
    return rc;
}

void setup_report_release(struct setup_report *report)
{
    buf_release(&report->types);
    buf_release(&report->added);
    buf_release(&report->removed);
    buf_release(&report->refused);
    if (report->secret)
        crypto_wipe(report->secret, strlen(report->secret));
    free(report->secret);
    report->secret = NULL;
}
