/* SPDX-License-Identifier: MIT */
/*
 * wire - a server under test, and bytes sent to it by hand.
 *
 * For the tests of this folder, each of which includes it once. Everything is on 127.0.0.1 and a
 * port of its own. A read that gets nothing for WIRE_PATIENCE_S fails the test.
 */
#ifndef TESTS_HTTP_WIRE_H
#define TESTS_HTTP_WIRE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WIRE_PATIENCE_S = 10, WIRE_HUGE = 15 * 1024 * 1024 };

#define WIRE_GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

/* What the handler of all tests does, by path: see wire_handle. */
struct wire {
    struct http_server *server;
    int port;
    sem_t entered; /* posted when /block has begun, and for each answer to /later */
    sem_t release; /* /block ends when this is posted */

    /* /later: those whose answer isn't there yet, the last one first */
    bool is_prompt; /* nobody's, they are made in begin */
    pthread_mutex_t lock;
    struct wire_late *late;
};

/* Its answer echoes the body, which must be there still. */
struct wire_late {
    struct http_later later; /* first: it is cast back */
    struct wire *wire;
    const char *body;
    size_t body_len;
    struct wire_late *next;
};

struct wire_answer {
    int status;
    char head[8192];
    char body[128 * 1024];
    size_t body_len;
};

static inline void wire_describe(const struct http_request *request, struct buf *out)
{
    buf_printf(out, "%s|%s|%s|", request->method, request->path,
               request->query ? request->query : "-");
    for (size_t i = 0; i < request->header_count; i++)
        buf_printf(out, "%s=%s;", request->headers[i].name, request->headers[i].value);
    buf_printf(out, "|%zu|%s", request->body_len, request->remote_addr);
}

static inline void wire_begin_late(struct http_later *later, bool is_waited_for)
{
    struct wire_late *late = (struct wire_late *)later;
    struct wire *w = late->wire;

    (void)is_waited_for;
    if (w->is_prompt) {
        http_answer(later);
        return;
    }
    pthread_mutex_lock(&w->lock);
    late->next = w->late;
    w->late = late;
    pthread_mutex_unlock(&w->lock);
    sem_post(&w->entered); /* late may be gone from here on */
}

static inline void wire_finish_late(struct http_later *later, struct http_response *response)
{
    struct wire_late *late = (struct wire_late *)later;

    response->content_type = "application/octet-stream";
    buf_put(&response->body, late->body, late->body_len);
    assert_int_equal(late->body[late->body_len], '\0');
    free(late);
}

static inline void wire_be_late(struct wire *w, const struct http_request *request,
                                struct http_response *response)
{
    struct wire_late *late = calloc(1, sizeof(*late));

    late->later.begin = wire_begin_late;
    late->later.finish = wire_finish_late;
    late->wire = w;
    late->body = request->body;
    late->body_len = request->body_len;
    response->later = &late->later;
}

/* Answer all that wait for it; how many they were. */
static inline int wire_answer_late(struct wire *w)
{
    struct wire_late *late;
    int count = 0;

    pthread_mutex_lock(&w->lock);
    late = w->late;
    w->late = NULL;
    pthread_mutex_unlock(&w->lock);
    for (struct wire_late *next; late; late = next, count++) {
        next = late->next;
        http_answer(&late->later);
    }
    return count;
}

static inline void wire_handle(void *arg, const struct http_request *request,
                               struct http_response *response)
{
    struct wire *w = arg;

    if (strcmp(request->path, "/echo") == 0) {
        response->content_type = "application/octet-stream";
        buf_put(&response->body, request->body, request->body_len);
    } else if (strcmp(request->path, "/block") == 0) {
        sem_post(&w->entered);
        sem_wait(&w->release);
        buf_puts(&response->body, "released");
    } else if (strcmp(request->path, "/later") == 0) {
        wire_be_late(w, request, response);
    } else if (strcmp(request->path, "/empty") == 0) {
        response->status = 204;
    } else if (strcmp(request->path, "/large") == 0) {
        char *room = buf_reserve(&response->body, 100 * 1024);

        memset(room, 'x', 100 * 1024);
        buf_added(&response->body, 100 * 1024);
    } else if (strcmp(request->path, "/huge") == 0) { /* no socket takes all of it */
        char *room = buf_reserve(&response->body, WIRE_HUGE);

        memset(room, 'x', WIRE_HUGE);
        buf_added(&response->body, WIRE_HUGE);
    } else if (strcmp(request->path, "/typed") == 0) {
        assert_int_equal(http_response_set_type(response, "text/x-own"), 0);
        assert_int_equal(http_response_header(response, "cache-control", "max-age=5"), 0);
        response->status = request->query ? atoi(request->query) : 200;
        buf_puts(&response->body, "typed");
    } else if (strcmp(request->path, "/nothing") == 0) {
        response->content_type = "";
    } else if (strcmp(request->path, "/header") == 0) {
        assert_int_equal(http_response_header(response, "X-One", "1"), 0);
    } else {
        wire_describe(request, &response->body);
    }
}

static inline struct http_server_opts wire_opts(void)
{
    return (struct http_server_opts){
        .address = "127.0.0.1:0",
        .threads = 4,
        .max_body_bytes = 1024 * 1024,
        .body_budget_bytes = 4 * 1024 * 1024,
        .answer_budget_bytes = 16 * 1024 * 1024,
        .request_timeout_ms = 5000,
        .idle_timeout_ms = 30000,
        .max_connections = 256,
    };
}

static inline void wire_start(struct wire *w, struct http_server_opts opts)
{
    struct err err = {0};

    sem_init(&w->entered, 0, 0);
    sem_init(&w->release, 0, 0);
    pthread_mutex_init(&w->lock, NULL);
    w->late = NULL;
    w->is_prompt = false;
    opts.handle = wire_handle;
    opts.arg = w;
    if (http_server_start(&w->server, &opts, &err) < 0)
        fail_msg("%s", err.text);
    w->port = atoi(strrchr(http_server_address(w->server), ':') + 1);
}

static inline void wire_stop(struct wire *w)
{
    assert_int_equal(http_server_drain(w->server, 5000), 0);
    http_server_free(w->server);
    sem_destroy(&w->entered);
    sem_destroy(&w->release);
    pthread_mutex_destroy(&w->lock);
}

static inline int wire_connect(const struct wire *w)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w->port)};
    struct timeval patience = {.tv_sec = WIRE_PATIENCE_S};
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* Returns false when the server closed the connection meanwhile. */
static inline bool wire_send_bytes(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static inline void wire_send(int fd, const char *text)
{
    assert_true(wire_send_bytes(fd, text, strlen(text)));
}

static inline const char *wire_header(const struct wire_answer *answer, const char *name)
{
    static char value[256];
    const char *line;
    char start[64];

    snprintf(start, sizeof(start), "\n%s: ", name);
    line = strcasestr(answer->head, start);
    if (!line)
        return NULL;
    line += strlen(start);
    snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r"), line);
    return value;
}

/* Read one answer, and not a byte more. Returns false when the connection ended instead. */
static inline bool wire_receive_for(int fd, const char *method, struct wire_answer *answer)
{
    size_t len = 0;
    const char *length;

    memset(answer, 0, sizeof(*answer));
    while (len < 4 || memcmp(answer->head + len - 4, "\r\n\r\n", 4) != 0) {
        ssize_t n;

        assert_true(len < sizeof(answer->head) - 1);
        n = recv(fd, answer->head + len, 1, 0);
        if (n < 0 && errno == EAGAIN)
            fail_msg("no answer in time");
        if (n <= 0)
            return false;
        len++;
    }
    assert_int_equal(sscanf(answer->head, "HTTP/1.1 %d ", &answer->status), 1);
    length = wire_header(answer, "Content-Length");
    if (!length || strcmp(method, "HEAD") == 0)
        return true;
    answer->body_len = (size_t)atoi(length);
    assert_true(answer->body_len < sizeof(answer->body));
    for (len = 0; len < answer->body_len;) {
        ssize_t n = recv(fd, answer->body + len, answer->body_len - len, 0);

        assert_true(n > 0);
        len += (size_t)n;
    }
    return true;
}

static inline bool wire_receive(int fd, struct wire_answer *answer)
{
    return wire_receive_for(fd, "GET", answer);
}

/* True when the server ends the connection, one way or the other, without another byte. */
static inline bool wire_is_closed(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Send text on a connection of its own, and return the status of the answer (0: none). */
static inline int wire_ask(const struct wire *w, const char *text, struct wire_answer *answer,
                           bool *out_closed)
{
    int fd = wire_connect(w);
    bool answered;

    wire_send(fd, text);
    answered = wire_receive(fd, answer);
    if (out_closed) {
        struct timeval soon = {.tv_usec = 300 * 1000};

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
        *out_closed = !answered || wire_is_closed(fd);
    }
    close(fd);
    return answered ? answer->status : 0;
}

#endif
