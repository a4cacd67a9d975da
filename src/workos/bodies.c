/* SPDX-License-Identifier: MIT */
#include "workos/bodies.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct body {
    TAILQ_ENTRY(body) by_age;
    size_t bytes; /* all in all */
    size_t len;
    const char *id, *text; /* both in what follows */
    char room[];
};

struct bodies {
    TAILQ_HEAD(, body) by_age; /* the oldest first */
    void *by_id;               /* tsearch's root */
    size_t bytes;
};

static int compare_ids(const void *a, const void *b)
{
    return strcmp(((const struct body *)a)->id, ((const struct body *)b)->id);
}

static struct body *find(const struct bodies *bodies, const char *id)
{
    const struct body wanted = {.id = id};
    struct body *const *found = tfind(&wanted, &bodies->by_id, compare_ids);

    return found ? *found : NULL;
}

static void drop(struct bodies *bodies, struct body *body)
{
    tdelete(body, &bodies->by_id, compare_ids);
    TAILQ_REMOVE(&bodies->by_age, body, by_age);
    bodies->bytes -= body->bytes;
    free(body);
}

static struct body *new_body(const struct event *event)
{
    size_t id_size = strlen(event->id) + 1;
    size_t bytes = sizeof(struct body) + id_size + event->body_len;
    struct body *body = bytes <= BODIES_MAX_BYTES ? malloc(bytes) : NULL;

    if (!body)
        return NULL;
    *body = (struct body){.bytes = bytes, .len = event->body_len};
    body->id = memcpy(body->room, event->id, id_size);
    body->text = memcpy(body->room + id_size, event->body, event->body_len);
    return body;
}

struct bodies *bodies_new(void)
{
    struct bodies *bodies = calloc(1, sizeof(*bodies));

    if (bodies)
        TAILQ_INIT(&bodies->by_age);
    return bodies;
}

void bodies_free(struct bodies *bodies)
{
    struct body *body;

    if (!bodies)
        return;
    while ((body = TAILQ_FIRST(&bodies->by_age)))
        drop(bodies, body);
    free(bodies);
}

void bodies_keep(struct bodies *bodies, const struct event *event)
{
    struct body *body;

    bodies_drop(bodies, event->id);
    body = new_body(event);
    if (!body)
        return;
    if (!tsearch(body, &bodies->by_id, compare_ids)) {
        free(body);
        return;
    }
    TAILQ_INSERT_TAIL(&bodies->by_age, body, by_age);
    bodies->bytes += body->bytes;
    while (bodies->bytes > BODIES_MAX_BYTES)
        drop(bodies, TAILQ_FIRST(&bodies->by_age));
}

const char *bodies_find(const struct bodies *bodies, const char *id, size_t *out_len)
{
    const struct body *body = find(bodies, id);

    if (!body)
        return NULL;
    *out_len = body->len;
    return body->text;
}

void bodies_drop(struct bodies *bodies, const char *id)
{
    struct body *body = find(bodies, id);

    if (body)
        drop(bodies, body);
}
