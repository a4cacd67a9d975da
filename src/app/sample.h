/* SPDX-License-Identifier: MIT */
/*
 * sample - events and actions to try a server with, as WorkOS would send them.
 *
 * Ids are new each time, in WorkOS's form (a prefix and a ULID). The members are those of
 * workos/openapi-spec; a type that has no sample here gets a small object that fits its name.
 *
 * Threads    main.
 * Errors     ERR_INVALID: the type isn't one. ERR_NOMEM.
 */
#ifndef APP_SAMPLE_H
#define APP_SAMPLE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct sample_opts {
    const char *type;      /* "user.created", or "user_registration", "authentication" */
    const char *event_id;  /* NULL: a new one */
    const char *object_id; /* NULL: a new one */
    const char *data;      /* JSON of the data object; NULL: the sample */
    size_t data_len;
};

bool sample_is_action(const char *type);

/* The types that have a sample of their own, in groups, with a word on each. */
void sample_put_list(struct buf *out);

/* ERR_INVALID: it is the type of nothing that could be written. */
int sample_check_type(const char *type, struct err *err) MUST_CHECK;

int sample_write(const struct sample_opts *opts, struct buf *out, struct err *err) MUST_CHECK;

#endif
