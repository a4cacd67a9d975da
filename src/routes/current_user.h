/* SPDX-License-Identifier: MIT */
/*
 * current_user - the row of workos_users as JSON, for GET /workos/user.
 *
 * Every column but raw, which holds the same once more: null where there is no value, metadata as the
 * object that it is.
 *
 * Threads    whoever took the reader.
 * Errors     those of store/db.h.
 */
#ifndef ROUTES_CURRENT_USER_H
#define ROUTES_CURRENT_USER_H

#include "base/buf.h"
#include "base/err.h"
#include "routes/readers.h"

/* 1 when the row was put into out, 0 when there is no such user. */
int current_user_put(struct reader *reader, const char *id, struct buf *out, struct err *err)
    MUST_CHECK;

#endif
