/* SPDX-License-Identifier: MIT */
/*
 * watchdog - ends the process when a function hangs where Lua can't interrupt it.
 *
 * The writer says when it enters a function of the script and when it is back. Most functions that
 * take too long are stopped by their budget (script/budget.h). One that isn't back after
 * WATCHDOG_FACTOR times its limit never will be, as far as anybody can tell, and everybody waits for
 * it: the watchdog logs what runs, leaves a note in a file, and aborts. The supervisor starts the
 * process again, nothing that was acknowledged is lost, and the note says which event must not run
 * again (suspects.h).
 *
 * Routes that read run beside the writer, several at once, and say so with a watch of their own. Nobody
 * waits for one of them, but it keeps its place, and a snapshot that the WAL must not be emptied behind:
 * it ends the process, too. As they share the processors, what counts is the time that its thread had one, or
 * WATCHDOG_PATIENCE times as much by the clock.
 *
 * A crash inside a function (SIGSEGV and the like on the writer's thread, SIGABRT there or from another
 * process) leaves the same note. A kill -9 or a power cut leaves none: they say nothing about the event that
 * happened to run.
 *
 *     enter --> [ function ] --> leave
 *        |           |
 *        |           +-- not back in time, or a fatal signal --> note, abort
 *        +-- looked at every quarter of the time, at least every second
 *
 * Threads    watchdog_start, _stop: main. _enter, _leave: writer. _begin, _end: any. It has a thread of
 *            its own.
 * Ownership  opts is copied; the path need not outlive the call. A watch and its type are borrowed from
 *            watchdog_begin to watchdog_end.
 * Errors     ERR_IO: the note's file can't be made. It is made at the start, so that it can be
 *            written when the disk is full.
 * Limits     one watchdog in a process catches signals (opts.catch_signals).
 */
#ifndef WORKOS_WATCHDOG_H
#define WORKOS_WATCHDOG_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    WATCHDOG_FACTOR = 10,
    WATCHDOG_PATIENCE = 3,
    WATCHDOG_NAME_MAX = 256,
    WATCHDOG_REASON_MAX = 256
};

enum watchdog_kind {
    WATCHDOG_EVENT,
    WATCHDOG_ACTION,
    WATCHDOG_ROUTE,
    WATCHDOG_READING, /* a route beside the writer */
    WATCHDOG_KINDS,
};

struct watchdog_opts {
    const char *note_path;        /* NULL: no note */
    int limit_ms[WATCHDOG_KINDS]; /* of a function */
    bool catch_signals;
};

struct watchdog;

int watchdog_start(struct watchdog **out, const struct watchdog_opts *opts, struct err *err)
    MUST_CHECK;
void watchdog_stop(struct watchdog *watchdog); /* NULL is fine, here and below */

/* type: "user.created", "authentication", "POST /todos"; id: the event's, or "" */
void watchdog_enter(struct watchdog *watchdog, enum watchdog_kind kind, const char *type,
                    const char *id);
void watchdog_leave(struct watchdog *watchdog);

/* A function that runs beside the writer, on the thread that begins the watch. */
struct watchdog_watch {
    struct watchdog_watch *next, **link;
    const char *type;
    pthread_t thread;
    bool was_seen;
    int64_t watched_ms;
    int64_t idle_ms; /* what the thread had had of a processor when it was first seen */
};

void watchdog_begin(struct watchdog *watchdog, struct watchdog_watch *watch, const char *type);
void watchdog_end(struct watchdog *watchdog, struct watchdog_watch *watch);

/* What the last process left behind. found is false when there is no note. */
struct watchdog_note {
    bool found;
    char id[WATCHDOG_NAME_MAX]; /* "" for what is no event */
    char type[WATCHDOG_NAME_MAX];
    char reason[WATCHDOG_REASON_MAX];
};

int watchdog_read_note(const char *path, struct watchdog_note *out, struct err *err) MUST_CHECK;
int watchdog_clear_note(const char *path, struct err *err) MUST_CHECK;

#endif
