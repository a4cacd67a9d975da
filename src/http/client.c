/* SPDX-License-Identifier: MIT */
#include "http/client.h"

#include "base/clock.h"
#include "base/text.h"
#include "http/civetweb_unit.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    HEAD_MAX_BYTES = 64 * 1024,
    HOST_MAX = 256,
    READ_STEP = 16 * 1024,
    CHUNK_LINE_MAX = 1024,
};

struct url {
    bool tls;
    bool v6;
    char host[HOST_MAX]; /* without brackets */
    char port[8];
    const char *target; /* borrowed from the text; "" stands for "/" */
};

struct exchange {
    const struct http_client_request *request;
    struct url url;
    int fd;
    void *tls;
    int64_t deadline_ms;
    int64_t patient_until_ms; /* INT64_MAX: for ever, or it has run out already */
    struct buf answer;        /* all that came: head, and body as it travels */
    struct err *err;
};

/* --- the URL ---------------------------------------------------------------------------------- */

static bool split_authority(struct url *url, const char *text, size_t len)
{
    const char *end = text + len;
    const char *host = text;
    const char *host_end;
    const char *port;
    uint64_t number;

    if (memchr(text, '@', len))
        return false;
    url->v6 = len > 0 && *text == '[';
    if (url->v6) {
        host++;
        host_end = memchr(text, ']', len);
        port = host_end ? host_end + 1 : NULL;
    } else {
        host_end = memchr(text, ':', len);
        host_end = host_end ? host_end : end;
        port = host_end;
    }
    if (!host_end || host_end == host || host_end - host >= HOST_MAX)
        return false;
    memcpy(url->host, host, (size_t)(host_end - host));
    url->host[host_end - host] = '\0';
    if (port == end) {
        strcpy(url->port, url->tls ? "443" : "80");
        return true;
    }
    if (*port != ':' || !text_to_u64(port + 1, (size_t)(end - port - 1), 65535, &number))
        return false;
    snprintf(url->port, sizeof(url->port), "%d", (int)number);
    return true;
}

static bool parse_url(struct url *url, const char *text)
{
    memset(url, 0, sizeof(*url));
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7F)
            return false;
    url->tls = text_starts_with(text, "https://");
    if (!url->tls && !text_starts_with(text, "http://"))
        return false;
    text += url->tls ? strlen("https://") : strlen("http://");
    url->target = text + strcspn(text, "/?#");
    return split_authority(url, text, (size_t)(url->target - text));
}

/* --- bytes, before the deadline --------------------------------------------------------------- */

static int fail(struct exchange *x, const char *what, const char *why)
{
    return err_set(x->err, ERR_IO, "%s %s%s%s:%s: %s", what, x->url.v6 ? "[" : "", x->url.host,
                   x->url.v6 ? "]" : "", x->url.port, why);
}

/* How long to wait at once. 0: the deadline is over. */
static int64_t next_wait_ms(struct exchange *x)
{
    int64_t now_ms = clock_mono_ms();
    int64_t until_ms = x->deadline_ms;

    if (now_ms >= x->patient_until_ms) {
        x->patient_until_ms = INT64_MAX;
        x->request->on_waiting(x->request->arg, x->request->url);
    }
    if (x->patient_until_ms < until_ms)
        until_ms = x->patient_until_ms;
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

static bool wait_until(struct exchange *x, short events)
{
    struct pollfd pollfd = {.fd = x->fd, .events = events};

    for (;;) {
        int64_t left = next_wait_ms(x);
        int n;

        if (left <= 0)
            return false;
        n = poll(&pollfd, 1, left > 60 * 1000 ? 60 * 1000 : (int)left);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

/* Returns 0 when connected, or an errno. */
static int connect_to(struct exchange *x, const struct addrinfo *address)
{
    int problem = 0;
    socklen_t len = sizeof(problem);

    x->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (x->fd < 0)
        return errno;
    if (connect(x->fd, address->ai_addr, address->ai_addrlen) < 0) {
        problem = errno;
        if (problem == EINPROGRESS) {
            if (!wait_until(x, POLLOUT))
                problem = ETIMEDOUT;
            else if (getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &problem, &len) < 0)
                problem = errno;
        }
    }
    if (problem != 0) {
        close(x->fd);
        x->fd = -1;
    }
    return problem;
}

static int open_connection(struct exchange *x)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    int problem = getaddrinfo(x->url.host, x->url.port, &hints, &addresses);

    if (problem != 0)
        return fail(x, "cannot connect to", gai_strerror(problem));
    for (const struct addrinfo *a = addresses; a; a = a->ai_next) {
        problem = connect_to(x, a);
        if (problem == 0)
            break;
    }
    freeaddrinfo(addresses);
    return problem == 0 ? 0 : fail(x, "cannot connect to", strerror(problem));
}

static int shake_hands(struct exchange *x)
{
    short events;
    int done;

    x->tls = cw_tls_client_new(x->fd, x->url.host, x->request->verify_tls);
    if (!x->tls)
        return err_set(x->err, ERR_NOMEM, "no memory for TLS");
    while ((done = cw_tls_handshake(x->tls, &events)) == 0)
        if (!wait_until(x, events))
            return fail(x, "cannot connect to", "the TLS handshake took too long");
    return done > 0 ? 0 : fail(x, "cannot connect to", cw_tls_client_error(x->tls));
}

static int send_all(struct exchange *x, const char *bytes, size_t len)
{
    while (len > 0) {
        short events;
        ssize_t n = cw_write(x->fd, x->tls, bytes, len, &events);

        if (n < 0)
            return fail(x, "cannot send to", "the connection was closed");
        if (n == 0 && !wait_until(x, events))
            return fail(x, "cannot send to", "it took too long");
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* More of the answer. 1: there was some; 0: it has ended. */
static int receive(struct exchange *x)
{
    for (;;) {
        char *room = buf_reserve(&x->answer, READ_STEP);
        short events;
        ssize_t n;

        if (!room)
            return fail(x, "cannot read the answer of", "it is too large");
        n = cw_read(x->fd, x->tls, room, READ_STEP, &events);
        if (n < 0)
            return 0;
        if (n > 0) {
            buf_added(&x->answer, (size_t)n);
            return 1;
        }
        if (!wait_until(x, events))
            return fail(x, "cannot read the answer of", "it took too long");
    }
}

static int receive_more(struct exchange *x)
{
    int rc = receive(x);

    return rc != 0 ? rc : fail(x, "cannot read the answer of", "it was cut off");
}

/* --- the request ------------------------------------------------------------------------------ */

static int send_request(struct exchange *x)
{
    const struct http_client_request *request = x->request;
    struct buf out = BUF_INIT(HEAD_MAX_BYTES + request->body_len);
    const char *target = x->url.target;
    const char *slash = *target == '/' ? "" : "/";
    int rc;

    buf_printf(&out, "%s %s%.*s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\n",
               request->method, slash, (int)strcspn(target, "#"), target, x->url.v6 ? "[" : "",
               x->url.host, x->url.v6 ? "]" : "", x->url.port);
    for (size_t i = 0; i < request->header_count; i++)
        buf_printf(&out, "%s: %s\r\n", request->headers[i].name, request->headers[i].value);
    if (request->body || strcmp(request->method, "GET") != 0)
        buf_printf(&out, "Content-Length: %zu\r\n", request->body_len);
    buf_puts(&out, "\r\n");
    if (request->body)
        buf_put(&out, request->body, request->body_len);
    rc = buf_ok(&out) ? send_all(x, out.data, out.len)
                      : err_set(x->err, ERR_INVALID, "the request's headers are too large");
    buf_release(&out);
    return rc;
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Where the head that begins at start ends; reads until it is there. */
static int receive_head(struct exchange *x, size_t start, size_t *out_end)
{
    for (;;) {
        const char *from = buf_text(&x->answer) + start;
        const char *end = memmem(from, x->answer.len - start, "\r\n\r\n", 4);
        int rc;

        if (end) {
            *out_end = (size_t)(end - buf_text(&x->answer)) + 4;
            return 0;
        }
        if (x->answer.len - start > HEAD_MAX_BYTES)
            return fail(x, "cannot read the answer of", "its headers are too large");
        rc = receive_more(x);
        if (rc < 0)
            return rc;
    }
}

static bool parse_status(const char *head, size_t len, int *out_status)
{
    uint64_t status;

    if (len < 14 || memcmp(head, "HTTP/1.", 7) != 0 || head[8] != ' ' ||
        !text_to_u64(head + 9, 3, 599, &status) || status < 100)
        return false;
    *out_status = (int)status;
    return true;
}

/* The value of a header, or NULL. */
static const char *find_header(const char *head, size_t len, const char *name, size_t *out_len)
{
    size_t name_len = strlen(name);
    const char *end = head + len;

    for (const char *line = head; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t line_len = newline ? (size_t)(newline - line) : (size_t)(end - line);

        if (line_len > name_len && line[name_len] == ':' &&
            strncasecmp(line, name, name_len) == 0) {
            const char *value = line + name_len + 1;
            const char *value_end = line + line_len;

            while (value < value_end && (*value == ' ' || *value == '\t'))
                value++;
            while (value_end > value && strchr(" \t\r", value_end[-1]))
                value_end--;
            *out_len = (size_t)(value_end - value);
            return value;
        }
        line += line_len + 1;
    }
    return NULL;
}

/* The line at position at, without its CRLF. */
static int receive_line(struct exchange *x, size_t at, size_t *out_len)
{
    for (;;) {
        const char *line = buf_text(&x->answer) + at;
        const char *end = memmem(line, x->answer.len - at, "\r\n", 2);
        int rc;

        if (end) {
            *out_len = (size_t)(end - line);
            return 0;
        }
        if (x->answer.len - at > CHUNK_LINE_MAX)
            return fail(x, "cannot read the answer of", "it is not well-formed");
        rc = receive_more(x);
        if (rc < 0)
            return rc;
    }
}

static int receive_until(struct exchange *x, size_t end)
{
    int rc = 1;

    if (end > x->answer.max)
        return fail(x, "cannot read the answer of", "it is too large");
    while (rc > 0 && x->answer.len < end)
        rc = receive_more(x);
    return rc < 0 ? rc : 0;
}

static int receive_chunks(struct exchange *x, size_t at, struct buf *body)
{
    for (;;) {
        unsigned long long size;
        size_t len = 0;
        char *end;
        int rc = receive_line(x, at, &len);

        if (rc < 0)
            return rc;
        size = strtoull(x->answer.data + at, &end, 16);
        if (end == x->answer.data + at || !strchr("; \t\r", *end) || size > x->answer.max)
            return fail(x, "cannot read the answer of", "it is not well-formed");
        if (size == 0)
            return 0; /* trailers don't interest anybody, and the connection ends here */
        at += len + 2;
        rc = receive_until(x, at + size + 2);
        if (rc < 0)
            return rc;
        buf_put(body, x->answer.data + at, size);
        at += size + 2;
    }
}

static int receive_body(struct exchange *x, const char *head, size_t head_len, size_t at,
                        struct buf *body)
{
    size_t value_len = 0;
    const char *value = find_header(head, head_len, "Transfer-Encoding", &value_len);
    uint64_t length;
    int rc;

    if (value)
        return value_len == 7 && strncasecmp(value, "chunked", 7) == 0
                   ? receive_chunks(x, at, body)
                   : fail(x, "cannot read the answer of", "it is encoded in an unknown way");
    value = find_header(head, head_len, "Content-Length", &value_len);
    if (value) {
        if (!text_to_u64(value, value_len, HTTP_RESPONSE_MAX_BYTES, &length))
            return fail(x, "cannot read the answer of", "it is too large");
        rc = receive_until(x, at + length);
        if (rc == 0)
            buf_put(body, x->answer.data + at, length);
        return rc;
    }
    do {
        rc = receive(x);
    } while (rc > 0);
    if (rc == 0)
        buf_put(body, buf_text(&x->answer) + at, x->answer.len - at);
    return rc;
}

static int receive_answer(struct exchange *x, struct http_client_response *out)
{
    struct buf body = BUF_INIT(HTTP_RESPONSE_MAX_BYTES);
    char *head = NULL;
    size_t start = 0;
    size_t end = 0;
    int status;
    int rc;

    do { /* 100 and the like come before the answer proper */
        start = end;
        rc = receive_head(x, start, &end);
        if (rc < 0)
            goto out;
        if (!parse_status(x->answer.data + start, end - start, &status)) {
            rc = fail(x, "cannot read the answer of", "it is not HTTP");
            goto out;
        }
    } while (status < 200);

    /* Reading on may move the answer, so the headers are read from a copy. */
    head = strndup(x->answer.data + start, end - start);
    if (!head) {
        rc = err_set(x->err, ERR_NOMEM, "no memory for an answer");
        goto out;
    }
    if (strcmp(x->request->method, "HEAD") != 0 && status != 204 && status != 304) {
        rc = receive_body(x, head, strlen(head), end, &body);
        if (rc < 0)
            goto out;
    }
    if (!buf_ok(&body)) {
        rc = fail(x, "cannot read the answer of", "it is too large");
        goto out;
    }
    out->status = status;
    out->body = body;
    body = BUF_INIT(0);
out:
    free(head);
    buf_release(&body);
    return rc;
}

static int read_url(struct url *out, const char *text, struct err *err)
{
    if (parse_url(out, text))
        return 0;
    return err_set(err, ERR_INVALID,
                   "'%s' can't be used: expected http://host:port/path or https://…", text);
}

int http_client_check_url(const char *text, struct err *err)
{
    struct url url;

    return read_url(&url, text, err);
}

int http_client_call(const struct http_client_request *request, struct http_client_response *out,
                     struct err *err)
{
    struct exchange x = {
        .request = request,
        .fd = -1,
        .deadline_ms = clock_mono_ms() + request->timeout_ms,
        .patient_until_ms =
            request->patience_ms ? clock_mono_ms() + request->patience_ms : INT64_MAX,
        .answer = BUF_INIT(2 * HTTP_RESPONSE_MAX_BYTES), /* chunks take more room than their data */
        .err = err,
    };
    int rc = read_url(&x.url, request->url, err);

    if (rc < 0)
        return rc;
    rc = open_connection(&x);
    if (rc == 0 && x.url.tls)
        rc = shake_hands(&x);
    if (rc == 0)
        rc = send_request(&x);
    if (rc == 0)
        rc = receive_answer(&x, out);
    if (x.tls)
        cw_tls_free(x.tls);
    if (x.fd >= 0)
        close(x.fd);
    buf_release(&x.answer);
    return rc;
}

void http_client_response_release(struct http_client_response *response)
{
    buf_release(&response->body);
}
