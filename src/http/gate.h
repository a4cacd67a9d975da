/* SPDX-License-Identifier: MIT */
/*
 * gate - where connections wait, at no thread's cost.
 *
 * One thread accepts, and watches every connection that isn't with a worker (epoll). A connection is
 * handed over when there is work for a worker: over plain HTTP when a whole request can be peeked
 * at (or HTTP_READY_BYTES of a larger one), over TLS when there are bytes to decrypt. Afterwards the
 * worker gives it back, and says what is to become of it.
 *
 *     accept --> WAITING --ready()--> BUSY --gate_give_back--> WAITING | LINGERING | closed
 *                   |                                              |
 *                   +---- too long idle, or too slow --------------+--> closed
 *
 * Every wait has a deadline. Since each kind of wait has one constant length, each kind has a list
 * that is in order by itself, and an event costs the same however many connections there are:
 *
 *     idle      no byte of a request yet            idle_timeout_ms
 *     request   begun; not whole yet                request_timeout_ms, then 408
 *     linger    answered and half-closed; what the
 *               client still sends is thrown away,
 *               so that it can read the answer      2 s
 *
 * Threads    gate_new, _start, _drain, _stop, _free: main. gate_whole, gate_give_back: the worker that
 *            has the connection. ready(): the gate's thread, or a worker in gate_give_back.
 * Ownership  every connection is the gate's. What a struct gate_conn shows belongs to the worker
 *            between ready() and gate_give_back().
 * Limits     at max_connections the one that lingers, else idles, else dawdles longest is closed to
 *            make room; when all are with workers, or descriptors run out, accepting pauses.
 */
#ifndef HTTP_GATE_H
#define HTTP_GATE_H

#include "base/buf.h"
#include "base/err.h"

#include <netinet/in.h>
#include <stdbool.h>

struct gate;

union gate_peer {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct gate_conn {
    int fd; /* non-blocking */
    union gate_peer peer;
    void *tls;        /* the worker's; NULL over plain HTTP, and before the handshake */
    struct buf carry; /* bytes that were read, but belong to a request that isn't served yet */
};

enum gate_fate {
    GATE_CLOSE,  /* the request was read to its end: close (linger when there is more) */
    GATE_LINGER, /* bytes of a refused request may still be coming */
    GATE_DROP,   /* no good-bye: the client is gone, or is not speaking HTTP */
    GATE_PARK,   /* wait for the next request (carry may hold some of it) */
    GATE_MORE,   /* wait for more of the request that has begun, until its deadline */
    GATE_AGAIN,  /* the next request is here: hand it over again, behind those that wait */
};

struct gate_opts {
    bool tls;
    int max_connections;
    size_t max_body_bytes;
    int request_timeout_ms;
    int idle_timeout_ms;
    void (*ready)(void *arg, struct gate_conn *conn);
    void (*free_tls)(void *tls);
    void *arg;
};

int gate_new(struct gate **out, const struct gate_opts *opts, struct err *err) MUST_CHECK;

/* Accept from listen_fd, which is the gate's when this returns 0. */
int gate_start(struct gate *gate, int listen_fd, struct err *err) MUST_CHECK;

/* The request is whole now: its deadline is off. */
void gate_whole(struct gate *gate, struct gate_conn *conn);

void gate_give_back(struct gate *gate, struct gate_conn *conn, enum gate_fate fate);

/* Stop accepting, close what idles, and wait until no connection is left, for up to drain_ms.
 * Returns 0, or ERR_BUSY. */
int gate_drain(struct gate *gate, int drain_ms);

/* Join the thread, if it was started: it calls ready() no more. */
void gate_stop(struct gate *gate);

/* After gate_stop, and after the last worker; NULL is fine. Closes what is left. */
void gate_free(struct gate *gate);

#endif
