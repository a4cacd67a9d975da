/* SPDX-License-Identifier: MIT */
/*
 * admin_client - a command's request to the running server, over its admin listener (admin.h).
 *
 * Threads    main.
 * Ownership  the answer's body is the caller's to release.
 * Errors     ERR_ABSENT: no server runs with this database, or it has no admin listener. ERR_IO: no
 *            answer. ERR_INVALID: what answered isn't authkitd. The text says what to do.
 * Limits     What is printed of an answer plays no tricks on a terminal.
 */
#ifndef APP_ADMIN_CLIENT_H
#define APP_ADMIN_CLIENT_H

#include "app/config.h"
#include "base/err.h"
#include "http/client.h"

#include <stdbool.h>
#include <stdio.h>

struct admin_call {
    const char *path;
    const struct buf *body; /* NULL: none */
    const char *instead;    /* what to do without an admin listener */
    const char *proof;      /* a member of authkitd's answer, when it is no refusal */
    const char *slow;       /* what may take its time, for who waits; NULL: nothing should */
};

int admin_client_post(const struct config *config, const struct admin_call *call,
                      struct http_client_response *out, struct err *err) MUST_CHECK;

/* For an answer that is there at once. */
int admin_client_get(const struct config *config, const struct admin_call *call,
                     struct http_client_response *out, struct err *err) MUST_CHECK;

/* A string member of the answer, printed with a line end; nothing when it is "". inside: of the object
 * that this member is, NULL: of the answer itself. */
void admin_client_print(FILE *stream, const struct http_client_response *response,
                        const char *inside, const char *member);

/* What the server says is wrong, as an error: ERR_INVALID. */
int admin_client_error(const struct http_client_response *response, struct err *err) MUST_CHECK;

/* A member of the answer is true. */
bool admin_client_is_true(const struct http_client_response *response, const char *member);

/* A number of the answer; 0 when there is none. */
int64_t admin_client_number(const struct http_client_response *response, const char *member);

#endif
