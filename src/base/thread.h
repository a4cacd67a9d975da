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

/* So many ms from now, for pthread_cond_clockwait with CLOCK_MONOTONIC. */
struct timespec thread_after_ms(int64_t ms);

#endif
