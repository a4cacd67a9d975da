/* SPDX-License-Identifier: MIT */
/*
 * civetweb_unit - civetweb, and the few of its inner parts that we have to reach.
 *
 * civetweb.c is compiled as part of civetweb_unit.c, so that the functions below can stand behind it.
 * They make civetweb a pool of workers that parses requests, while the connections stay ours: we
 * listen, accept, read and write, we give a connection to a worker when there is something to do,
 * and we take it away again before civetweb closes it. civetweb itself never touches a socket.
 *
 * Threads    cw_replace_listener: init_context callback. cw_has_started: main. cw_start_worker, cw_queue_place: any, one at a time.
 *            The rest: the worker that has the connection.
 * Ownership  a descriptor given to cw_take stays the caller's, as long as cw_let_go is called in the
 *            connection_close callback.
 * Limits     this is civetweb 1.15; look through civetweb_unit.c with any other.
 */
#ifndef HTTP_CIVETWEB_UNIT_H
#define HTTP_CIVETWEB_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct mg_context;
struct mg_connection;

/* civetweb's master thread polls fd, which it owns then, instead of a listening socket. */
void cw_replace_listener(struct mg_context *ctx, int fd);

/*
 * civetweb would start all of num_threads workers at once, and most of them would never do anything: of ours
 * there are none until this starts them, one each time, at most that many. Not at the same time as mg_stop, nor
 * afterwards. Returns 0, or the error of pthread_create.
 */
int cw_start_worker(struct mg_context *ctx);

/* Right after mg_start2, which doesn't mind when its master thread can't be started; mg_stop would then stop
 * nothing. False: so it was, and ctx is freed. */
bool cw_has_started(struct mg_context *ctx);

/* Queue a place for the workers; who stands in it is said when one takes it. The queue must have
 * room: civetweb would wait for it. */
void cw_queue_place(struct mg_context *ctx);

/* In init_connection, or before cw_continue: this is the worker's connection. */
void cw_take(struct mg_connection *conn, int fd);

/* In init_connection: the header block, which civetweb then doesn't read from the socket. No more of
 * it is taken than fits. */
void cw_begin(struct mg_connection *conn, const char *bytes, size_t len);

/* In init_connection: there is nothing to do yet. civetweb comes to http_error, and closes. */
void cw_begin_nothing(struct mg_connection *conn);

/* In connection_close: the descriptor isn't civetweb's to close. */
void cw_let_go(struct mg_connection *conn);

/* A request was parsed, whatever came of it then. */
bool cw_was_asked(const struct mg_connection *conn);

/* In http_error: the line is that of a request of HTTP/1, but for a method that civetweb doesn't know. */
bool cw_is_method_unknown(const struct mg_connection *conn);

/* The headers fill the buffer, and there is no end to them. */
bool cw_is_overfull(const struct mg_connection *conn);

/*
 * Was every byte of the header block what civetweb took it for? It skips leading empty lines, reads
 * past surplus blanks and bare LFs, and stops at a folded line without a word: all of these can make
 * a proxy see another request than we do. Checks that its pieces lie side by side as they must, and,
 * in bytes, which are what cw_begin or cw_continue was given, what civetweb has written over.
 */
bool cw_is_strict(const struct mg_connection *conn, const char *bytes);

bool cw_may_keep_alive(const struct mg_connection *conn);
void cw_must_close(struct mg_connection *conn);

/* The body has been read, all of it, though not by civetweb. */
void cw_body_is_read(struct mg_connection *conn);

/* In end_request: the header block of the next request. Returns false when it doesn't fit behind
 * that of the current one, which civetweb still needs. */
bool cw_continue(struct mg_connection *conn, const char *bytes, size_t len);

/*
 * For tests: a connection to nobody, with a buffer of that size. After cw_begin, cw_parse says whether
 * civetweb sees a request there, as it does when nothing more comes. new returns NULL without memory.
 */
struct mg_connection *cw_nobody_new(size_t header_block_max);
void cw_nobody_free(struct mg_connection *conn);
bool cw_parse(struct mg_connection *conn);

/* Bytes of the header block that was parsed. */
size_t cw_header_len(const struct mg_connection *conn);

/*
 * One attempt that doesn't block: the number of bytes, 0 when it has to wait for *out_events (POLLIN
 * or POLLOUT), or -1 when the connection is over. tls may be NULL.
 */
ssize_t cw_read(int fd, void *tls, char *out, size_t len, short *out_events);
ssize_t cw_write(int fd, void *tls, const char *bytes, size_t len, short *out_events);

void *cw_tls_new(struct mg_context *ctx, int fd);

/* 1: done; 0: wait for *out_events; -1: failed. */
int cw_tls_handshake(void *tls, short *out_events);

/* Something was read from the socket that cw_read hasn't given out: part of a record. */
bool cw_tls_has_part(void *tls);

/*
 * The other end: a client's. With verify the certificate must be signed by one of the system's
 * authorities, and be host's (a name, or an address without brackets). NULL: no memory.
 */
void *cw_tls_client_new(int fd, const char *host, bool verify);

/* Why a handshake failed, in words. Right after it. */
const char *cw_tls_client_error(void *tls);

/* Says good-bye, if there ever was a hello. Doesn't block. */
void cw_tls_free(void *tls);

#endif
