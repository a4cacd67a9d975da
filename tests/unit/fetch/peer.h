/* SPDX-License-Identifier: MIT */
/*
 * peer - an HTTP server that says what it is told to, and notes what it was asked.
 *
 * One thread, one connection at a time, on 127.0.0.1 and a port of its own. Each request gets the next
 * step, the last one again and again. What a request was is read after peer_stop, or once the client
 * has its answer.
 */
#ifndef TESTS_FETCH_PEER_H
#define TESTS_FETCH_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/compiler.h"

#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEER_REQUESTS_MAX = 16, PEER_REQUEST_MAX = 65536, PEER_DRIP_MS = 50 };

enum peer_then {
    PEER_KEEP, /* the connection is kept for the next request */
    PEER_CLOSE,
    PEER_HANG, /* nothing more is said until the client goes away */
    PEER_DRIP, /* the answer goes out a byte every PEER_DRIP_MS, then as PEER_CLOSE */
};

struct peer_step {
    const char *answer;
    enum peer_then then;
    size_t len; /* 0: answer is a text */
};

struct peer_request {
    char text[PEER_REQUEST_MAX];
    const char *body;
    int connection; /* 1, 2, … */
};

struct peer {
    int listen_fd;
    int stop_fd;
    int port;
    char url[64]; /* "http://127.0.0.1:port" */
    const struct peer_step *steps;
    size_t step_count;
    SSL_CTX *tls; /* NULL: plain */
    pthread_t thread;
    atomic_int connections;
    atomic_size_t count; /* of requests */
    struct peer_request requests[PEER_REQUESTS_MAX];
};

struct peer_line {
    int fd;
    SSL *tls;
};

/* False when the peer is to stop. */
static inline bool peer_wait(struct peer *p, int fd, int ms)
{
    struct pollfd fds[] = {{.fd = p->stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    poll(fds, fd < 0 ? 1 : 2, ms);
    return !fds[0].revents;
}

static inline ssize_t peer_read(struct peer *p, struct peer_line *line, char *out, size_t len)
{
    if ((!line->tls || !SSL_pending(line->tls)) && !peer_wait(p, line->fd, -1))
        return -1;
    return line->tls ? SSL_read(line->tls, out, (int)len) : recv(line->fd, out, len, 0);
}

static inline bool peer_write(struct peer_line *line, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = line->tls ? SSL_write(line->tls, bytes, (int)len)
                              : send(line->fd, bytes, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* The value of a header, or NULL; borrowed until the next call. */
static inline const char *peer_header(const struct peer_request *request, const char *name)
{
    static _Thread_local char value[8192];
    const char *line = request->text;
    size_t len = strlen(name);

    while ((line = strstr(line, "\r\n")) != NULL && line + 2 < request->body - 2) {
        line += 2;
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        line += len + 1;
        line += strspn(line, " ");
        snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r"), line);
        return value;
    }
    return NULL;
}

static inline bool peer_read_request(struct peer *p, struct peer_line *line,
                                     struct peer_request *out)
{
    size_t len = 0, wanted = SIZE_MAX;

    memset(out->text, 0, sizeof(out->text));
    while (len < wanted) {
        ssize_t n = peer_read(p, line, out->text + len, sizeof(out->text) - 1 - len);
        char *end;

        if (n <= 0)
            return false;
        len += (size_t)n;
        end = strstr(out->text, "\r\n\r\n");
        if (end) {
            const char *length;

            out->body = end + 4;
            length = peer_header(out, "Content-Length");
            wanted = (size_t)(out->body - out->text) + (length ? (size_t)atoi(length) : 0);
        }
    }
    return true;
}

static inline bool peer_drip(struct peer *p, struct peer_line *line, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!peer_write(line, bytes + i, 1) || !peer_wait(p, -1, PEER_DRIP_MS))
            return false;
    return true;
}

/* Answers one request; false when the connection has ended. */
static inline bool peer_serve(struct peer *p, struct peer_line *line)
{
    size_t i = p->count;
    const struct peer_step *step = &p->steps[i < p->step_count ? i : p->step_count - 1];
    struct peer_request *request = &p->requests[i < PEER_REQUESTS_MAX ? i : PEER_REQUESTS_MAX - 1];
    size_t len;
    char byte;

    if (!peer_read_request(p, line, request))
        return false;
    request->connection = p->connections;
    p->count++;
    len = step->len || !step->answer ? step->len : strlen(step->answer);
    if (step->then == PEER_DRIP)
        return peer_drip(p, line, step->answer, len) && false;
    if (!peer_write(line, step->answer, len))
        return false;
    while (step->then == PEER_HANG && peer_read(p, line, &byte, 1) > 0)
        ;
    return step->then == PEER_KEEP;
}

static inline void *peer_main(void *arg)
{
    struct peer *p = arg;

    while (peer_wait(p, p->listen_fd, -1)) {
        struct peer_line line = {.fd = accept(p->listen_fd, NULL, NULL)};
        struct timeval patience = {.tv_sec = 5};

        setsockopt(line.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        p->connections++;
        if (p->tls) {
            line.tls = SSL_new(p->tls);
            SSL_set_fd(line.tls, line.fd);
        }
        if (!line.tls || SSL_accept(line.tls) == 1)
            while (peer_serve(p, &line))
                ;
        if (line.tls)
            SSL_shutdown(line.tls);
        SSL_free(line.tls);
        close(line.fd);
    }
    return NULL;
}

static inline void peer_start_tls(struct peer *p, const struct peer_step *steps, size_t count,
                                  SSL_CTX *tls)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);

    memset(p, 0, sizeof(*p));
    p->steps = steps;
    p->step_count = count;
    p->tls = tls;
    p->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    p->stop_fd = eventfd(0, EFD_CLOEXEC);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(p->listen_fd, 16), 0);
    assert_int_equal(getsockname(p->listen_fd, (struct sockaddr *)&address, &size), 0);
    p->port = ntohs(address.sin_port);
    snprintf(p->url, sizeof(p->url), "http%s://127.0.0.1:%d", tls ? "s" : "", p->port);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

static inline void peer_start(struct peer *p, const struct peer_step *steps, size_t count)
{
    peer_start_tls(p, steps, count, NULL);
}

static inline void peer_stop(struct peer *p)
{
    assert_int_equal(eventfd_write(p->stop_fd, 1), 0);
    pthread_join(p->thread, NULL);
    close(p->listen_fd);
    close(p->stop_fd);
}

#endif
