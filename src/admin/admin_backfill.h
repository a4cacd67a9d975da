/* SPDX-License-Identifier: MIT */
/*
 * admin_backfill - what a command asks of a backfill, as JSON (admin.h says which members).
 *
 * Threads    admin_backfill_start: the admin listener's. admin_backfill_write: any.
 */
#ifndef ADMIN_ADMIN_BACKFILL_H
#define ADMIN_ADMIN_BACKFILL_H

#include "base/buf.h"
#include "http/message.h"
#include "workos/backfill.h"

void admin_backfill_start(struct backfill *backfill, const struct http_request *request,
                          struct http_response *response);

/* The body of a request for it. */
void admin_backfill_write(struct buf *out, const struct backfill_request *request);

#endif
