/* SPDX-License-Identifier: MIT */
/*
 * event_list - received events, as a person asks for them (authkitd events).
 *
 * Reads through a connection of its own, so it works beside a running server and with none.
 *
 * Threads    main.
 * Ownership  a row's texts are borrowed until the callback returns.
 * Errors     those of store/db.h.
 */
#ifndef WORKOS_EVENT_LIST_H
#define WORKOS_EVENT_LIST_H

#include "base/err.h"
#include "store/db.h"

#include <stddef.h>
#include <stdint.h>

struct event_filter {
    const char *status; /* NULL: any */
    const char *type;   /* NULL: any; "user.*" is every type that begins with "user." */
};

struct event_row {
    int64_t seq;
    const char *id, *event;                       /* "" where the file is damaged, as status */
    const char *object_id, *user_id, *created_at; /* NULL where there is none */
    int64_t received_at;
    const char *status;
    int64_t attempts;
    int64_t next_attempt_at; /* 0: none */
    const char *last_error, *payload;
};

typedef void event_list_fn(void *arg, const struct event_row *row);

/* The last max ones that match, in order of arrival. */
int event_list_last(struct db *db, const struct event_filter *filter, int64_t max,
                    event_list_fn *show, void *arg, struct err *err) MUST_CHECK;

/* The number of the last event of all, 0 when there is none. */
int event_list_last_seq(struct db *db, int64_t *out, struct err *err) MUST_CHECK;

/* Those that came behind that number, in order of arrival; out_seq is the last of all at that moment,
 * matching or not. */
int event_list_behind(struct db *db, const struct event_filter *filter, int64_t seq,
                      event_list_fn *show, void *arg, int64_t *out_seq, struct err *err) MUST_CHECK;

/* One event by its number, if it matches. */
int event_list_one(struct db *db, const struct event_filter *filter, int64_t seq,
                   event_list_fn *show, void *arg, struct err *err) MUST_CHECK;

#endif
