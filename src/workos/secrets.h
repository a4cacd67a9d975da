/* SPDX-License-Identifier: MIT */
/*
 * secrets - what must not be kept of an event.
 *
 * Some objects carry what lets its holder in: the token of an invitation, a code for signing in. The
 * script's function may see them, from what came or from memory (bodies.h); the database never does. Which members
 * they are stands in one table (secrets.c); whatever stands there is null in what is kept, and all
 * other bytes are as they came. So are the emails of those whom a flag's rule is for, and the name of who did
 * what the event tells (context.actor): no erasure would find them in an event that is not of that user.
 *
 * Threads    any; nothing is kept.
 * Errors     ERR_NOMEM.
 */
#ifndef WORKOS_SECRETS_H
#define WORKOS_SECRETS_H

#include "base/buf.h"
#include "base/err.h"
#include "workos/event.h"

#include <stdbool.h>

/* Has the event any of them? Only then is out written: the body without them. */
int secrets_remove(const struct event *event, struct buf *out, bool *out_found, struct err *err)
    MUST_CHECK;

#endif
