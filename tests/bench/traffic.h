/* SPDX-License-Identifier: MIT */
/*
 * traffic - what WorkOS sends, made up: bodies of the size and form that it has, in any number.
 *
 * User n of a seed always has the same ids, so one run can create users and the next can update them
 * or deliver their creation once more. Ids grow with n, as WorkOS's do with time.
 *
 * Threads    any.
 * Limits     a body has at most TRAFFIC_BODY_MAX bytes; a seed has TRAFFIC_SEED_CHARS of [0-9A-Z].
 */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include <stddef.h>
#include <stdint.h>

enum { TRAFFIC_BODY_MAX = 2048, TRAFFIC_SEED_CHARS = 6, TRAFFIC_ID_MAX = 64 };

#define TRAFFIC_WEBHOOK_SECRET "whsec_0FWAiVGkEfGBqqsJH4aNAGBJ4"
#define TRAFFIC_ACTION_SECRET "actsec_9fTq2LmVbXcRzYhKsWnDpEgUj"

/* The user of this number. */
void traffic_user_id(const char *seed, uint64_t user, char out[TRAFFIC_ID_MAX]);

/* Each writes a body and returns its length. */
size_t traffic_created(const char *seed, uint64_t user, int64_t now_ms, char out[TRAFFIC_BODY_MAX]);
size_t traffic_updated(const char *seed, uint64_t user, uint64_t event, int64_t now_ms,
                       char out[TRAFFIC_BODY_MAX]);
size_t traffic_action(const char *seed, uint64_t number, char out[TRAFFIC_BODY_MAX]);

/* A number below count for each n: all of them in turn, in an order that jumps about. */
uint64_t traffic_scatter(uint64_t n, uint64_t count);

#endif
