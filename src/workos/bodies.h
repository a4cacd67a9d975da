/* SPDX-License-Identifier: MIT */
/*
 * bodies - what came with an event and is never stored, for as long as its function has still to run.
 *
 * The log keeps an event without its secrets (secrets.h). A function that fails, or has to wait, runs later,
 * and needs the event as it came: a code to be sent, the link of an invitation. So the whole body of such
 * an event is kept here, in memory: a restart loses it, and so does a flood, the oldest first. Then the
 * function sees what is stored, in which those members are null.
 *
 * Threads    writer, but for bodies_new and _free: main, while there is no writer.
 * Ownership  the bodies are copies. What bodies_find returns is valid until the next call.
 * Errors     none: where there is no memory nothing is kept.
 * Limits     BODIES_MAX_BYTES in all.
 */
#ifndef WORKOS_BODIES_H
#define WORKOS_BODIES_H

#include "base/compiler.h"
#include "workos/event.h"

#include <stddef.h>

enum { BODIES_MAX_BYTES = 4 * 1024 * 1024 };

struct bodies;

struct bodies *bodies_new(void);         /* NULL: no memory */
void bodies_free(struct bodies *bodies); /* NULL is fine */

/* In place of what there was of an event of that id. */
void bodies_keep(struct bodies *bodies, const struct event *event);

/* As it came, or NULL. */
const char *bodies_find(const struct bodies *bodies, const char *id, size_t *out_len);

/* Its function has run, or it is dead: authkitd retry gives it what is stored. */
void bodies_drop(struct bodies *bodies, const char *id);

#endif
