/* SPDX-License-Identifier: MIT */
#include "workos/secrets.h"

#include "base/text.h"

#include <string.h>

/* Members of data (and of context.previous_attributes, which has what an update changed as it was before), by
 * the prefix of the event's type; "" is every event. Of a path of two the first is a list (or an object), and
 * the second a member of what is in it. */
static const struct secret {
    const char *prefix;
    const char *path[2];
} secrets[] = {
    /* What WorkOS's own sync engine strips (WORKOS.md section 6), and what signs somebody in. */
    {"invitation.", {"token"}},
    {"invitation.", {"accept_invitation_url"}},
    {"organization_domain.", {"verification_token"}},
    {"organization_domain.",
     {"organization_domain", "verification_token"}}, /* .verification_failed */
    {"organization.", {"domains", "verification_token"}},
    {"magic_auth.", {"code"}},
    {"email_verification.", {"code"}},
    {"password_reset.", {"token"}},
    {"password_reset.", {"password_reset_token"}},
    {"password_reset.", {"password_reset_url"}},
    {"api_key.", {"value"}},
    {"", {"secret"}},
    {"", {"client_secret"}},
    {"", {"access_token"}},
    {"", {"refresh_token"}},
    {"", {"password"}},
};

/* The body is copied up to each secret as it is found; they come in the order of the text. */
struct removal {
    const struct event *event;
    struct {
        const struct secret *secret;
        size_t name_len;          /* of the path's first step: almost no member has that length */
    } wanted[ARRAY_LEN(secrets)]; /* those of the event's type */
    size_t wanted_count;
    struct buf *out;
    size_t copied; /* bytes of the body that are in out, or were left out */
    bool found;
    bool is_flag; /* an event of a flag's rules */
};

static void remove_value(struct removal *r, uint32_t value)
{
    size_t len;
    const char *raw = json_raw(&r->event->json, value, &len);
    size_t start = (size_t)(raw - r->event->body);

    if (r->event->json.nodes[value].type == JSON_NULL)
        return;
    buf_put(r->out, r->event->body + r->copied, start - r->copied);
    buf_puts(r->out, "null");
    r->copied = start + len;
    r->found = true;
}

static void remove_members(struct removal *r, uint32_t object, const char *name)
{
    const struct json_node *nodes = r->event->json.nodes;

    for (uint32_t key = object + 1; key < nodes[object].next; key = nodes[key + 1].next)
        if (json_equals(&r->event->json, key, name))
            remove_value(r, key + 1);
}

/* The second step of a path, in an object or in each object of a list. */
static void remove_inside(struct removal *r, uint32_t value, const char *name)
{
    const struct json_node *nodes = r->event->json.nodes;

    if (nodes[value].type == JSON_OBJECT) {
        remove_members(r, value, name);
    } else if (nodes[value].type == JSON_ARRAY) {
        for (uint32_t item = value + 1; item < nodes[value].next; item = nodes[item].next)
            if (nodes[item].type == JSON_OBJECT)
                remove_members(r, item, name);
    }
}

static void find_wanted(struct removal *r)
{
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (!text_starts_with(r->event->type, secrets[i].prefix))
            continue;
        r->wanted[r->wanted_count].secret = &secrets[i];
        r->wanted[r->wanted_count++].name_len = strlen(secrets[i].path[0]);
    }
}

static void look_at_member(struct removal *r, uint32_t key)
{
    const struct json_node *node = &r->event->json.nodes[key];

    for (size_t i = 0; i < r->wanted_count; i++) {
        const char *const *path = r->wanted[i].secret->path;

        if ((!node->escaped && node->len != r->wanted[i].name_len) ||
            !json_equals(&r->event->json, key, path[0]))
            continue;
        if (path[1])
            remove_inside(r, key + 1, path[1]);
        else
            remove_value(r, key + 1);
        return;
    }
}

static void look_into(struct removal *r, uint32_t object)
{
    const struct json_node *nodes = r->event->json.nodes;

    for (uint32_t key = object + 1; key < nodes[object].next; key = nodes[key + 1].next)
        look_at_member(r, key);
}

static void look_into_context(struct removal *r, uint32_t context, bool was_before);

/* What data was, and of a flag what the context was. */
static void look_into_previous(struct removal *r, uint32_t previous)
{
    const struct json *json = &r->event->json;
    const struct json_node *nodes = json->nodes;

    for (uint32_t key = previous + 1; key < nodes[previous].next; key = nodes[key + 1].next)
        if (r->is_flag && nodes[key + 1].type == JSON_OBJECT && json_equals(json, key, "context"))
            look_into_context(r, key + 1, true);
        else
            look_at_member(r, key);
}

/* Whom a rule of a flag is for: a list of users, who may be deleted, in an event that is none of theirs. */
static void look_into_targets(struct removal *r, uint32_t targets)
{
    const struct json_node *nodes = r->event->json.nodes;

    for (uint32_t key = targets + 1; key < nodes[targets].next; key = nodes[key + 1].next)
        if (json_equals(&r->event->json, key, "users"))
            remove_inside(r, key + 1, "email");
}

/* was_before: it is the context in previous_attributes, which has what an update changed. */
static void look_into_context(struct removal *r, uint32_t context, bool was_before)
{
    const struct json *json = &r->event->json;
    const struct json_node *nodes = json->nodes;

    for (uint32_t key = context + 1; key < nodes[context].next; key = nodes[key + 1].next) {
        if (nodes[key + 1].type != JSON_OBJECT)
            continue;
        if (!was_before && json_equals(json, key, "previous_attributes"))
            look_into_previous(r, key + 1);
        else if (!was_before && json_equals(json, key, "actor")) /* who did it: a user, perhaps */
            remove_members(r, key + 1, "name");
        else if (r->is_flag && json_equals(json, key, "configured_targets"))
            look_into_targets(r, key + 1);
    }
}

int secrets_remove(const struct event *event, struct buf *out, bool *out_found, struct err *err)
{
    const struct json_node *nodes = event->json.nodes;
    struct removal r = {
        .event = event, .out = out, .is_flag = text_starts_with(event->type, "flag.")};

    find_wanted(&r);
    for (uint32_t key = 1; key < nodes[0].next; key = nodes[key + 1].next) {
        if (key + 1 == event->data)
            look_into(&r, event->data);
        else if (nodes[key + 1].type == JSON_OBJECT && json_equals(&event->json, key, "context"))
            look_into_context(&r, key + 1, false);
    }
    if (r.found)
        buf_put(out, event->body + r.copied, event->body_len - r.copied);
    if (!buf_ok(out))
        return err_set(err, ERR_NOMEM, "no memory for the event without its secrets");
    *out_found = r.found;
    return 0;
}
