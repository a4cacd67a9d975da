/* SPDX-License-Identifier: MIT */
/*
 * circle - does a list of WorkOS's go round?
 *
 * Each page names the cursor of the next. A list whose cursors come again would be read for ever. One cursor is
 * remembered, and another one twice as many pages later (Brent's way): so a circle of any size is found.
 *
 * Threads    belongs to its owner's.
 * Ownership  plain data; {0} is the beginning of a list.
 */
#ifndef WORKOS_CIRCLE_H
#define WORKOS_CIRCLE_H

#include "workos/event.h"

#include <stdbool.h>
#include <stdint.h>

struct circle {
    char seen[EVENT_NAME_MAX + 1];
    uint64_t pages, next; /* how many there were; at which one seen is another */
};

/* Called with the cursor of each page: true when it was here before, at the latest in the third round. */
bool circle_closes(struct circle *circle, const char *cursor);

#endif
