/* SPDX-License-Identifier: MIT */
/*
 * circle - does a list of WorkOS's go round, or on for ever?
 *
 * Each page names the cursor of the next. A list whose cursors come again would be read for ever. One cursor is
 * remembered, and another one twice as many pages later (Brent's way): so a circle of any size is found. An
 * empty page may name another one too, but not any number of them.
 *
 * Threads    belongs to its owner's.
 * Ownership  plain data; {0} is the beginning of a list.
 */
#ifndef WORKOS_CIRCLE_H
#define WORKOS_CIRCLE_H

#include "workos/event.h"

#include <stdbool.h>
#include <stdint.h>

enum { CIRCLE_EMPTY_MAX = 100 };

struct circle {
    char seen[EVENT_NAME_MAX + 1];
    uint64_t pages, next; /* how many there were; at which one seen is another */
    int empty;            /* those since the last that wasn't */
};

/* Called with the cursor of each page: true when it was here before, at the latest in the third round. */
bool circle_closes(struct circle *circle, const char *cursor);

/* Called for each page: true when more than CIRCLE_EMPTY_MAX in a row were empty. */
bool circle_stays_empty(struct circle *circle, bool is_empty);

#endif
