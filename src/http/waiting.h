/* SPDX-License-Identifier: MIT */
/*
 * waiting - connections that wait for a worker, each with something to do; urgent ones go first.
 *
 * Of WAITING_SHARE that are taken in a row at least one isn't urgent, if one waits: strangers who
 * flood what is urgent shut nobody else out.
 *
 * Threads    one at a time: the caller has a lock (crew.c).
 * Ownership  a connection belongs to the list between push and take.
 * Limits     none of its own: all connections have room in it.
 */
#ifndef HTTP_WAITING_H
#define HTTP_WAITING_H

#include "http/gate.h"

#include <stdbool.h>
#include <stddef.h>

enum { WAITING_SHARE = 8 };

struct waiting_line {
    struct gate_conn *first, **end;
};

struct waiting {
    struct waiting_line urgent, normal;
    int urgent_in_a_row;
};

void waiting_init(struct waiting *waiting);

void waiting_push(struct waiting *waiting, struct gate_conn *conn); /* conn->is_urgent counts */
struct gate_conn *waiting_take(struct waiting *waiting);            /* NULL when nobody waits */
bool waiting_is_empty(const struct waiting *waiting);

#endif
