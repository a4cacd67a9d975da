/* SPDX-License-Identifier: MIT */
/*
 * pattern - Lua 5.4's patterns, matched with an end in sight.
 *
 * A pattern that backtracks can try more ways than anybody has time for, and Lua's own matcher
 * can't be stopped. This one counts its steps and asks, every PATTERN_STEPS of them, whether to go on. It
 * finds the same matches and captures as Lua's, and the same mistakes, at the same moment: what the
 * matcher doesn't come to isn't looked at. '^' at the beginning is the caller's business.
 *
 * Where an item leaves a choice (how often does "a*" repeat?) the other ways are noted and taken up
 * when the rest of the pattern fails. An item is in the list of choices once at most, so the list
 * is short and there is no recursion.
 *
 * Threads    any; one struct pattern belongs to one thread at a time.
 * Ownership  nothing to release. Subject and pattern are borrowed, and the captures point into the
 *            subject. A byte 0 must follow neither.
 * Errors     ERR_INVALID: a mistake in the pattern, worded in problem. ERR_LIMIT: ask said so. There
 *            is no struct err: it would stand on the C stack of calls that Lua nests 200 deep.
 * Limits     32 captures, as Lua; 400 items with a choice left (Lua: 200 items).
 * Not here   lua.h: arguments, results and replacements are bind_pattern.c's.
 */
#ifndef SCRIPT_PATTERN_H
#define SCRIPT_PATTERN_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PATTERN_CAPTURES_MAX = 32,
    PATTERN_CHOICES_MAX = 400,
    PATTERN_STEPS = 10000, /* some 20 µs */
};

/* The length of a capture "()": its start is all there is. */
#define PATTERN_POSITION SIZE_MAX

struct pattern_capture {
    const char *start;
    size_t len; /* or PATTERN_POSITION */
};

struct pattern {
    const char *subject, *subject_end;
    const char *text, *text_end;
    bool (*ask)(void *arg); /* true: stop */
    void *arg;
    int64_t steps_left; /* until the next question */

    /* Of the latest match. */
    struct pattern_capture captures[PATTERN_CAPTURES_MAX];
    int count;       /* captures that were opened */
    uint32_t closed; /* a bit for each that was closed, too */

    int rc; /* what ended it */
    char problem[48];
};

/* ask NULL: never. captures and problem are left as they are: they are long. */
void pattern_init(struct pattern *pattern, const char *subject, size_t subject_len,
                  const char *text, size_t text_len, bool (*ask)(void *arg), void *arg);

/* Match at start, a place in the subject or its end. 1: it matches, up to *out_end; 0: it doesn't;
 * or an error. */
int pattern_match(struct pattern *pattern, const char *start, const char **out_end) MUST_CHECK;

/* The first match at start or behind it. */
int pattern_search(struct pattern *pattern, const char *start, const char **out_start,
                   const char **out_end) MUST_CHECK;

/* Count work that the caller does for a match. 0, or ERR_LIMIT. */
int pattern_spend(struct pattern *pattern, size_t steps) MUST_CHECK;

/* True when no character of the text means anything but itself. */
bool pattern_is_plain(const char *text, size_t len);

/* The first occurrence of a plain text at start or behind it, or NULL. In linear time. */
const char *pattern_find_plain(const char *start, const char *end, const char *text, size_t len);

#endif
