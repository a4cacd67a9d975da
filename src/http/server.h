/* SPDX-License-Identifier: MIT */
/*
 * server - an HTTP/1.1 listener that calls one function per request.
 *
 * civetweb parses, on a pool of workers; we guard its door, since it is lax where a signature check
 * behind a proxy must not be. Every connection first waits in the gate (gate.h), where waiting costs
 * no thread, until a request is there whole, body included. Then it waits for a worker (crew.h): about as
 * many run at once as there are processors. A worker that is done takes the next by itself; while
 * there is none it stays with its connection for a moment. So idle and trickling clients starve
 * nobody, however many there are, over TLS as over plain HTTP.
 *
 *     accept --> gate (epoll) --request is there--> crew --> worker --> handle() --> answer
 *                  ^                                 ^          |                      |
 *                  |                                 |          +--> later             |
 *                  |                                 +-- http_answer <-- whoever       |
 *                  +----------------- keep-alive --------------------------------------+
 *
 * A request whose answer has to wait for something need not keep a worker (response->later, message.h).
 *
 * What the framing must be: exactly one Content-Length of digits for a POST or PUT, at most one for
 * others (they mostly have no body, and browsers send none then), within
 * max_body_bytes; no Transfer-Encoding; CRLF line ends and no folded lines; fewer than
 * HTTP_HEADERS_MAX headers in 16 KiB; exactly one Host (HTTP/1.0: at most one); a target that is a
 * path, without "%00"; no expectation but 100-continue. A request that isn't like that is answered
 * (400, 411, 413, 417, 431, 501, 505) and the connection is closed.
 *
 * Threads    http_server_start, _drain, _free: main; _address, _statuses, _connections: any. The
 *            callbacks: any of the workers, several at once, and the first of them before
 *            http_server_start has returned. They may block; no lock is held: who
 *            does so for long says it (base/thread.h), else others may wait some milliseconds longer than they
 *            need to. Their stacks have 2 MiB.
 * Ownership  opts is copied; tls_ctx, urgent_path and arg must outlive the server, address need
 *            not.
 * Errors     a port that is taken or a bad address is ERR_IO and names the address.
 * Limits     a request must be complete request_timeout_ms after its first byte (else: 408); an idle
 *            connection is closed after idle_timeout_ms; above max_connections the connection
 *            that has been idle longest makes room; body_budget_bytes bounds the bodies that are in
 *            memory or announced (above it those that have waited longest for their rest make room,
 *            408, or else it is a 503), and each connection may hold 20 KiB of
 *            headers besides. A client that doesn't read its answer keeps a worker for
 *            request_timeout_ms, but for half a second only while others wait and few workers are left. When all
 *            workers are busy, whole requests for urgent_path go first (plain HTTP only: over TLS
 *            it takes a worker to see what a request is for).
 *            Answers above 256 KiB that are being sent have answer_budget_bytes together (those that
 *            come later aren't counted: message.h). Where another one doesn't fit, an error goes in its
 *            place: 503 for GET and HEAD, 500 for others, which may have changed something; and for a second
 *            a client that has taken nothing for a second and a half is cut off. When many have been sent, what
 *            malloc keeps of them goes back to the system.
 * Not here   which path does what (app/endpoints.c).
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "base/err.h"
#include "base/metric.h"
#include "http/message.h"

#include <stdint.h>

typedef void http_handle_fn(void *arg, const struct http_request *request,
                            struct http_response *response);

/* Of a request that handle never sees, or whose answer there is no room for. The response is there already; headers may be added. Of a request
 * that couldn't be read only the path is known, or "", cut at HTTP_PEEKED_PATH_MAX - 1 bytes. */
enum { HTTP_PEEKED_PATH_MAX = 256 };
typedef void http_refusing_fn(void *arg, const struct http_request *request,
                              const struct http_refusal *refusal, struct http_response *response);

struct http_server_opts {
    const char *address; /* "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:443"; port 0: any free one */
    int threads;
    size_t max_body_bytes;
    size_t body_budget_bytes;
    size_t answer_budget_bytes;
    int request_timeout_ms;
    int idle_timeout_ms;
    int max_connections;
    void *tls_ctx;           /* an SSL_CTX to serve TLS with (crypto/tls.h); NULL for plain HTTP */
    const char *urgent_path; /* requests for it don't queue behind others; NULL: there is none */
    http_handle_fn *handle;
    http_refusing_fn *refusing; /* called like handle; NULL: there is none */
    /* A worker is about to wait, for requests or within handle (base/thread.h): called often, and to be
     * quick; NULL: there is none. */
    void (*waits)(void *arg);
    void *arg; /* of these */
};

struct http_server;

int http_server_start(struct http_server **out, const struct http_server_opts *opts,
                      struct err *err) MUST_CHECK;

/* The address in use, with the real port: "127.0.0.1:41235". Borrowed from the server. */
const char *http_server_address(const struct http_server *server);

/* The answers so far, also those to what was no request; borrowed. */
const struct metric_statuses *http_server_statuses(const struct http_server *server);
int http_server_connections(struct http_server *server);

/* What later was waiting for is there: its finish is called soon. Any thread; doesn't block. */
void http_answer(struct http_later *later);

/* Stop accepting, close what is idle, let running requests finish for up to drain_ms. Returns 0, or
 * ERR_BUSY when some were still running then (the caller should end the process with _exit). */
int http_server_drain(struct http_server *server, int drain_ms);

/* Join the threads and free everything; NULL is fine. Only after a drain that returned 0. */
void http_server_free(struct http_server *server);

#endif
