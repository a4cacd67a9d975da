/* SPDX-License-Identifier: MIT */
/*
 * event - a WorkOS event as it was delivered, read and checked.
 *
 * The envelope is {"id":…,"event":…,"data":{…},"created_at":…,"context":{…}} (WORKOS.md section
 * 1.4). Only id, event and data must be there; anything else may be missing, null or new.
 *
 * Threads    an event belongs to one thread at a time.
 * Ownership  the body is borrowed and must outlive the event; texts are borrowed from the event.
 * Errors     ERR_INVALID names the member at fault.
 * Limits     id and event have at most EVENT_NAME_MAX bytes.
 */
#ifndef WORKOS_EVENT_H
#define WORKOS_EVENT_H

#include "base/err.h"
#include "base/json.h"

#include <stdint.h>

enum { EVENT_NAME_MAX = 255 };

/* A text inside the event, not NUL-terminated; at is NULL when there is none. */
struct event_text {
    const char *at;
    size_t len;
};

struct event {
    struct json json;
    const char *body;
    size_t body_len;
    char *decoded; /* where strings with escapes are written to; NULL until one is asked for */

    char id[EVENT_NAME_MAX + 1];
    char type[EVENT_NAME_MAX + 1]; /* "user.created" */
    uint32_t data;                 /* the node of the data object */
    struct event_text object_id;   /* data.id */
    struct event_text user_id;     /* whom it is about: data.id of user events, else data.user_id */
    struct event_text created_at;  /* as it was written */
    int64_t created_us;            /* the instant; 0 when created_at is missing or no time */
};

int event_read(struct event *event, const char *body, size_t body_len, struct err *err) MUST_CHECK;
void event_release(struct event *event);

/* The characters of a string node; at is NULL for any other node. */
struct event_text event_string(struct event *event, uint32_t node);

#endif
