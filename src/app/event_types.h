/* SPDX-License-Identifier: MIT */
/*
 * event_types - the event types of WorkOS that this version has heard of.
 *
 * Advice, never a rule: WorkOS adds types all the time, and a script may have a function for any
 * name. The list serves completion, and tells a name that is probably misspelt.
 *
 * Threads    any; nothing is kept.
 */
#ifndef APP_EVENT_TYPES_H
#define APP_EVENT_TYPES_H

#include <stdbool.h>
#include <stddef.h>

/* In the order of the alphabet. */
extern const char *const event_types[];
extern const size_t event_type_count;

bool event_type_is_known(const char *type);

/* WorkOS tells of it in its Events API alone, and sends it to no webhook. */
bool event_type_is_polled_only(const char *type);

/* The known type that a typing error may have turned into this one; NULL when none is close. */
const char *event_type_closest(const char *type);

#endif
