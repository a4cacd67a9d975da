/* SPDX-License-Identifier: MIT */
/*
 * thread - what every thread of ours has in common.
 *
 * Threads    any.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include "base/err.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* Start a thread that takes no signals: they are for the threads that ask for them. name, at most 15
 * characters, is what ps and top show. ERR_NOMEM. */
int thread_start(pthread_t *out, const char *name, void *(*run)(void *arg), void *arg,
                 struct err *err) MUST_CHECK;

/*
 * A thread that is one of a few that do all the work says when it is going to wait for another thread, so
 * that one more can be put to work meanwhile. Whoever waits calls _begin and _end, knowing nothing of
 * that; whoever owns the thread sets what they do. For waits that may be long: a lock isn't one.
 */
struct thread_wait_hook {
    void (*begin)(void *arg);
    void (*end)(void *arg);
    void *arg;
};

/* Of the calling thread; borrowed, until the thread ends or NULL is set. */
void thread_set_wait_hook(const struct thread_wait_hook *hook);
void thread_wait_begin(void);
void thread_wait_end(void);

/* How many processors this process may use: fewer than the machine has, under taskset or in a
 * container. */
int thread_processors(void);

/* So many ms from now, for pthread_cond_clockwait with CLOCK_MONOTONIC. */
struct timespec thread_after_ms(int64_t ms);

#endif
