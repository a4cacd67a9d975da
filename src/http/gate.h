/* SPDX-License-Identifier: MIT */
/*
 * gate - where connections wait, at no thread's cost.
 *
 * Every connection is in epoll. A worker that has nothing to do looks there
 * (gate_look), and so does one now and then that has plenty: nobody is woken to find out that another
 * has to be woken. Whoever looks accepts, too, and over plain HTTP reads what has come, each byte
 * once, into the connection's carry; what it gets are the connections of which a whole request is
 * there. Over TLS it gets them whenever there are bytes to decrypt, and gives them back when they
 * don't make a whole request yet. So workers never wait for a client to send. Afterwards the worker
 * gives the connection back, and says what is to become of it.
 *
 *     accept --> WAITING --gate_look--> BUSY --gate_give_back--> WAITING | LINGERING | closed
 *                   |                                                |
 *                   +---- too long idle, or too slow ----------------+--> closed
 *
 * The gate's own thread keeps the time; and when nobody waits in gate_look, nor has looked for a moment, then
 * all workers are with long calls: it looks itself, and gives what it finds to ready().
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
 * Threads    gate_new, _start, _drain, _stop, _free: main. gate_look, gate_nudge: any. gate_whole,
 *            gate_fill, gate_consume and gate_give_back: the worker that has the connection. ready():
 *            the gate's thread, or a worker in gate_give_back. nudged(): whoever looks. read(), write():
 *            whoever has the connection.
 * Ownership  every connection is the gate's. What a struct gate_conn shows belongs to the worker
 *            between gate_look() or ready() and gate_give_back().
 * Limits     at max_connections the one that lingers, else idles, else dawdles longest is closed to
 *            make room; when all are with workers, or descriptors run out, accepting pauses.
 *            Where announced bodies are more than body_budget_bytes together, those that have waited
 *            longest for their rest make room (408); what doesn't fit even then isn't gathered
 *            (over_budget).
 */
#ifndef HTTP_GATE_H
#define HTTP_GATE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/metric.h"
#include "http/frame.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

struct gate;

struct gate_conn {
    int fd;                      /* non-blocking */
    char peer[INET6_ADDRSTRLEN]; /* the client's address, without its port */
    void *tls;                   /* the worker's; NULL over plain HTTP, and before the handshake */
    bool is_greeted;             /* the worker's: a request has come over TLS */
    struct buf carry;            /* what was read: a request, perhaps with some of the next one */
    struct http_frame frame;     /* of the request in carry */
    bool is_drained;             /* the last read left nothing in the socket */
    size_t reserved;             /* of the budget for bodies */
    bool over_budget;            /* there was none left: the request is to be refused */
    bool is_urgent;              /* for those that it waits with: waiting.h */
    struct gate_conn *next;
};

enum gate_fate {
    GATE_CLOSE,  /* the request was read to its end: close (linger when there is more) */
    GATE_LINGER, /* bytes of a refused request may still be coming */
    GATE_DROP,   /* no good-bye: the client is gone, or is not speaking HTTP */
    GATE_PARK,   /* wait for the next request; carry is empty */
    GATE_MORE,   /* wait for more of the request that has begun, until its deadline */
    GATE_AGAIN,  /* the next request is here: hand it over again, behind those that wait */
};

enum gate_fill { GATE_FILL_READY, GATE_FILL_PARTIAL, GATE_FILL_GONE };

struct gate_opts {
    bool tls;
    int max_connections;
    size_t max_body_bytes;
    size_t body_budget_bytes;
    int request_timeout_ms;
    int idle_timeout_ms;
    void (*ready)(void *arg, struct gate_conn *conn);
    void (*nudged)(void *arg); /* a nudge was taken by a look that didn't wait */
    void (*reminded)(void *arg);
    /* Bytes, 0 when none are there now, or -1 when the connection is over. */
    ssize_t (*read)(struct gate_conn *conn, char *out, size_t len);
    ssize_t (*write)(struct gate_conn *conn, const char *bytes, size_t len); /* the same */
    void (*free_tls)(void *tls);
    void *arg;
    struct metric_statuses *statuses; /* gets the 408s; NULL: nobody counts */
};

int gate_new(struct gate **out, const struct gate_opts *opts, struct err *err) MUST_CHECK;

/* Accept from listen_fd, which is the gate's when this returns 0. */
int gate_start(struct gate *gate, int listen_fd, struct err *err) MUST_CHECK;

/*
 * What has come? Returns the connections that a worker has something to do with, linked by next; they are
 * the caller's. With may_wait it blocks until something comes, or until gate_nudge; NULL then, too, when
 * there is nothing for a worker. *out_more: it wasn't all.
 */
struct gate_conn *gate_look(struct gate *gate, bool may_wait, bool *out_more);

/* One that waits in gate_look returns; if none does, the next that would. One that looks without waiting may
 * see it first, and says so to nudged(). */
void gate_nudge(struct gate *gate);

/* Read what there is into carry, until there is a request to look at. Doesn't block. */
enum gate_fill gate_fill(struct gate *gate, struct gate_conn *conn);

/* The request is whole now: its deadline is off. */
void gate_whole(struct gate *gate, struct gate_conn *conn);

/* The request is served: take it out of carry. */
void gate_consume(struct gate *gate, struct gate_conn *conn);

void gate_give_back(struct gate *gate, struct gate_conn *conn, enum gate_fate fate);

/* Have reminded() called on the gate's thread at that time, once: of several times the last one counts. Any
 * thread. */
void gate_remind(struct gate *gate, int64_t at_ms);

/* How many there are. Any thread. */
int gate_connections(struct gate *gate);

/* Stop accepting, close what idles, and wait until no connection is left, for up to drain_ms.
 * Returns 0, or ERR_BUSY. */
int gate_drain(struct gate *gate, int drain_ms);

/* Join the thread, if it was started: it calls ready() no more. Others may still look. */
void gate_stop(struct gate *gate);

/* After gate_stop, and after the last worker; NULL is fine. Closes what is left. */
void gate_free(struct gate *gate);

#endif
