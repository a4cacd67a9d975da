/* SPDX-License-Identifier: MIT */
#include "workos/event.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

struct event_text event_string(struct event *event, uint32_t node)
{
    const struct json_node *n = &event->json.nodes[node];
    char *to;

    if (node == JSON_ABSENT || n->type != JSON_STRING)
        return (struct event_text){NULL, 0};
    if (!n->escaped)
        return (struct event_text){event->json.text + n->start, n->len};
    if (!event->decoded)
        event->decoded = malloc(event->body_len);
    if (!event->decoded)
        return (struct event_text){NULL, 0};
    /* A decoded string is never longer than its escaped form: each has its own place where that
     * stands in the body, and may be asked for as often as one likes. */
    to = event->decoded + n->start;
    return (struct event_text){to, json_decode(&event->json, node, to)};
}

/* A required name: a string of 1 to EVENT_NAME_MAX printable ASCII characters. */
static int read_name(struct event *event, const char *member, char out[EVENT_NAME_MAX + 1],
                     struct err *err)
{
    uint32_t node = json_member(&event->json, 0, member);
    struct event_text text;

    if (node == JSON_ABSENT || event->json.nodes[node].type != JSON_STRING)
        return err_set(err, ERR_INVALID, "not an event: \"%s\" is %s", member,
                       node == JSON_ABSENT ? "missing" : "not a string");
    text = event_string(event, node);
    if (text.len == 0 || text.len > EVENT_NAME_MAX)
        return err_set(err, ERR_INVALID, "not an event: \"%s\" is empty or longer than %d bytes",
                       member, EVENT_NAME_MAX);
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] <= ' ' || text.at[i] > '~')
            return err_set(err, ERR_INVALID, "not an event: \"%s\" has an odd character in it",
                           member);
    memcpy(out, text.at, text.len);
    out[text.len] = '\0';
    return 0;
}

static int read_data(struct event *event, struct err *err)
{
    event->data = json_member(&event->json, 0, "data");
    if (event->data == JSON_ABSENT || event->json.nodes[event->data].type != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "not an event: \"data\" is %s",
                       event->data == JSON_ABSENT ? "missing" : "not an object");
    event->object_id = event_string(event, json_string_member(&event->json, event->data, "id"));
    if (text_starts_with(event->type, "user."))
        event->user_id = event->object_id;
    else
        event->user_id =
            event_string(event, json_string_member(&event->json, event->data, "user_id"));
    return 0;
}

int event_read(struct event *event, const char *body, size_t body_len, struct err *err)
{
    int rc;

    *event = (struct event){.body = body, .body_len = body_len};
    rc = json_read(&event->json, body, body_len, err);
    if (rc < 0)
        goto out;
    if (event->json.nodes[0].type != JSON_OBJECT) {
        rc = err_set(err, ERR_INVALID, "not an event: the body isn't a JSON object");
        goto out;
    }
    rc = read_name(event, "id", event->id, err);
    if (rc == 0)
        rc = read_name(event, "event", event->type, err);
    if (rc == 0)
        rc = read_data(event, err);
    if (rc < 0)
        goto out;
    event->created_at = event_string(event, json_string_member(&event->json, 0, "created_at"));
    if (event->created_at.at)
        clock_parse_us(event->created_at.at, event->created_at.len, &event->created_us);
out:
    if (rc < 0)
        event_release(event);
    return rc;
}

void event_release(struct event *event)
{
    json_release(&event->json);
    free(event->decoded);
    event->decoded = NULL;
}
