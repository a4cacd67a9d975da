/* SPDX-License-Identifier: MIT */
/*
 * repeat - log lines that say the same again and again: some are written, the others counted.
 *
 * One mistake in a script can fail ten thousand events, each with the same error and traceback. The
 * first lines of a kind are written, at most REPEAT_LINES_MAX a minute; the others are counted, and
 * told of when the minute is over:
 *
 *     if (repeat_may(repeats, clock_mono_ms(), "event function failed", error))
 *         log_error("event function failed", …);
 *     …
 *     repeat_tell(repeats, clock_mono_ms(), false);        now and then
 *
 * A kind is the message and the first line of its text, in which ids, numbers and email addresses all
 * count as the same ("no user user_01K…"), but for the place in the script in front ("handlers.lua:7:").
 * The first of a new kind is written however many there are of others, but for one thing: texts that
 * are all different for some other reason, of which REPEAT_ALL_MAX lines a minute are written.
 *
 * Threads    repeat_init, _release: when nobody uses it. The others: any.
 * Ownership  whoever has the struct.
 * Limits     REPEAT_KINDS_MAX kinds are remembered; a new one takes the place of the one that is told
 *            of soonest.
 */
#ifndef BASE_REPEAT_H
#define BASE_REPEAT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    REPEAT_LINES_MAX = 5,
    REPEAT_ALL_MAX = 100,
    REPEAT_KINDS_MAX = 64,
    REPEAT_MINUTE_MS = 60000,
    REPEAT_SAMPLE_MAX = 160,
};

struct repeat_kind {
    uint64_t hash;
    int64_t since_ms; /* its minute began then; 0: the place is free */
    int64_t written, left_out;
    const char *message;
    char sample[REPEAT_SAMPLE_MAX]; /* the beginning of the text */
};

struct repeats {
    pthread_mutex_t lock;
    struct repeat_kind kinds[REPEAT_KINDS_MAX]; /* guarded by lock, as all that follows */
    int64_t since_ms;
    int64_t written, left_out; /* of all kinds in the minute; left out because of REPEAT_ALL_MAX */
};

void repeat_init(struct repeats *repeats);
void repeat_release(struct repeats *repeats);

/* May it be written? message: static. */
bool repeat_may(struct repeats *repeats, int64_t now_ms, const char *message, const char *text);

/* Log how many were left out of each kind whose minute is over; all: of every kind. Returns whether
 * there are kinds left to tell of. */
bool repeat_tell(struct repeats *repeats, int64_t now_ms, bool all);

#endif
