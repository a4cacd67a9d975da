/* SPDX-License-Identifier: MIT */
/*
 * Everything from here to the include is civetweb's own, with its warnings: this file is compiled
 * without ours. Its system headers come first, so that bind and listen are declared in peace.
 */
#include "http/civetweb_unit.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Stack of a worker: Lua and SQLite run on it. */
#define USE_STACK_SIZE (2 * 1024 * 1024)

/*
 * civetweb's stop flag is atomic with this, but for one look at it where it is set, which does no harm:
 * TSan isn't to see that. (To suppress its report instead takes 0.4 s of a processor at the end of every
 * process, in which it reads all debug information before it finds that it has nothing to say.)
 */
#if defined(__SANITIZE_THREAD__)
#define STOP_FLAG_NEEDS_LOCK
typedef ptrdiff_t volatile stop_flag_t;
__attribute__((no_sanitize_thread)) static void STOP_FLAG_ASSIGN(stop_flag_t *f, stop_flag_t v);
#endif

/*
 * civetweb refuses to start without a listening socket, but it isn't to have one: it makes a socket
 * that is bound to nothing, and cw_replace_listener takes that away before any thread has seen it.
 */
#define bind(fd, address, len) (0)
#define listen(fd, backlog) (0)

/*
 * What starts a worker leaves it to cw_start_worker, and says that it is done. civetweb takes a thread's id of 0 for
 * a worker that isn't there.
 */
static void *worker_thread(void *conn);

static int create_thread(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *arg),
                         void *arg)
{
    if (run != worker_thread)
        return pthread_create(out, attr, run, arg);
    *out = 0;
    return 0;
}

#define pthread_create(out, attr, run, arg) create_thread(out, attr, run, arg)

#include "civetweb.c"

#undef pthread_create
#undef bind
#undef listen

/* Without memory for its buffer a worker ends at once. It was promised to who called it: it tries again. */
static void *run_worker(void *conn)
{
    struct mg_context *ctx = ((struct mg_connection *)conn)->phys_ctx;

    worker_thread(conn);
    while (STOP_FLAG_IS_ZERO(&ctx->stop_flag)) {
        mg_sleep(100);
        worker_thread(conn);
    }
    pthread_setspecific(
        sTlsKey, NULL); /* it may have stayed as it was, and is looked at when the thread ends */
    return NULL;
}

int cw_start_worker(struct mg_context *ctx)
{
    unsigned int i = 0;
    pthread_t thread;
    pthread_attr_t attr;
    int rc;

    while (i < ctx->cfg_worker_threads && ctx->worker_threadids[i])
        i++;
    if (i == ctx->cfg_worker_threads)
        return EAGAIN;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, USE_STACK_SIZE);
    rc = pthread_create(&thread, &attr, run_worker, &ctx->worker_connections[i]);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        ctx->worker_threadids[i] = thread;
    return rc;
}

bool cw_has_started(struct mg_context *ctx)
{
    if (ctx->masterthreadid)
        return true;
    close_all_listening_sockets(ctx);
    free_context(ctx);
    return false;
}

void cw_replace_listener(struct mg_context *ctx, int fd)
{
    closesocket(ctx->listening_sockets[0].sock);
    ctx->listening_sockets[0].sock = fd;
}

/* --- the queue -------------------------------------------------------------------------------- */

void cw_queue_place(struct mg_context *ctx)
{
    struct socket so;

    memset(&so, 0, sizeof(so));
    so.sock = INVALID_SOCKET;
    so.lsa.sin.sin_family = AF_INET;
    /* is_ssl stays 0: handshakes are made by cw_tls_handshake, which doesn't block. */
    produce_socket(ctx, &so);
}

void cw_take(struct mg_connection *conn, int fd)
{
    conn->client.sock = fd;
}

void cw_begin(struct mg_connection *conn, const char *bytes, size_t len)
{
    if (len > (size_t)conn->buf_size)
        len = (size_t)conn->buf_size;
    memcpy(conn->buf, bytes, len);
    conn->data_len = (int)len;
}

void cw_begin_nothing(struct mg_connection *conn)
{
    conn->buf[0] = 1; /* no request begins so: it is malformed at once, and nothing is read */
    conn->data_len = 1;
}

void cw_let_go(struct mg_connection *conn)
{
    conn->client.sock = INVALID_SOCKET;
}

/* --- the request ------------------------------------------------------------------------------ */

bool cw_was_asked(const struct mg_connection *conn)
{
    return conn->request_len > 0;
}

/* civetweb looks at the method last of all in the line, and then at no header. */
bool cw_is_method_unknown(const struct mg_connection *conn)
{
    const struct mg_request_info *ri = &conn->request_info;
    const char *version = ri->http_version;

    if (!cw_was_asked(conn) || !version || version - conn->buf < (ptrdiff_t)strlen("HTTP/"))
        return false;
    return memcmp(version - strlen("HTTP/"), "HTTP/", strlen("HTTP/")) == 0 &&
           (strcmp(version, "1.0") == 0 || strcmp(version, "1.1") == 0) &&
           !is_valid_http_method(ri->request_method);
}

bool cw_is_overfull(const struct mg_connection *conn)
{
    return conn->request_len <= 0 && conn->data_len >= conn->buf_size;
}

/*
 * civetweb has written a '\0' over what ended each piece: two stand where a CRLF was. The line that
 * ends the block has kept its CR, unless there are no headers. Behind the version it takes any two
 * blanks for a CRLF, if the first is a CR or an LF.
 */
bool cw_is_strict(const struct mg_connection *conn, const char *bytes)
{
    const struct mg_request_info *ri = &conn->request_info;
    const char *end = conn->buf + conn->request_len;
    const char *p = conn->buf;

    if (conn->request_len < 4)
        return false;
    if (p[0] == '\r' && p[1] == '\n')
        p += 2; /* one empty line in front is to be tolerated (RFC 9112, 2.2) */
    if (ri->request_method != p)
        return false;
    p += strlen(p) + 1;
    if (ri->request_uri != p)
        return false;
    p += strlen(p) + 1;
    if (ri->query_string) {
        if (ri->query_string != p)
            return false;
        p += strlen(p) + 1;
    }
    if (ri->http_version != p + strlen("HTTP/"))
        return false;
    p += strlen(p);
    if (memcmp(bytes + (p - conn->buf), "\r\n", 2) != 0)
        return false;
    p += 2;
    for (int i = 0; i < ri->num_headers; i++) {
        if (p > end - 2 || p[-1] != '\0' || ri->http_headers[i].name != p ||
            strpbrk(p, "\"(),/;<=>?@[\\]{}"))
            return false;
        p += strlen(p) + 1;
        while (p < end && *p == ' ')
            p++;
        if (ri->http_headers[i].value != p)
            return false;
        p += strlen(p) + 2;
    }
    return p == end - 2 && p[-1] == '\0' && p[0] == (ri->num_headers ? '\r' : '\0') && p[1] == '\0';
}

bool cw_may_keep_alive(const struct mg_connection *conn)
{
    return conn->protocol_type == PROTOCOL_TYPE_HTTP1 && should_keep_alive(conn);
}

void cw_must_close(struct mg_connection *conn)
{
    conn->must_close = 1;
}

void cw_body_is_read(struct mg_connection *conn)
{
    conn->consumed_content = conn->content_len;
}

/*
 * When the request is over, civetweb moves what stands behind it to the front of its buffer. The
 * body never was in there: from now on the request is only its headers.
 */
bool cw_continue(struct mg_connection *conn, const char *bytes, size_t len)
{
    if (len > (size_t)(conn->buf_size - conn->request_len))
        return false;
    memcpy(conn->buf + conn->request_len, bytes, len);
    conn->data_len = conn->request_len + (int)len;
    conn->content_len = 0;
    conn->consumed_content = 0;
    return true;
}

/* --- without a client ------------------------------------------------------------------------- */

struct nobody {
    struct mg_connection conn; /* first: a struct mg_connection * is a struct nobody * */
    struct mg_context ctx;
};

struct mg_connection *cw_nobody_new(size_t header_block_max)
{
    struct nobody *nobody = mg_calloc(1, sizeof(*nobody));

    if (!nobody)
        return NULL;
    nobody->ctx.dd.config[AUTHENTICATION_DOMAIN] = "localhost";
    STOP_FLAG_ASSIGN(&nobody->ctx.stop_flag, 1); /* nothing more is read */
    nobody->conn.phys_ctx = &nobody->ctx;
    nobody->conn.dom_ctx = &nobody->ctx.dd;
    nobody->conn.buf_size = (int)header_block_max;
    nobody->conn.buf = mg_calloc(1, header_block_max);
    if (!nobody->conn.buf) {
        mg_free(nobody);
        return NULL;
    }
    return &nobody->conn;
}

void cw_nobody_free(struct mg_connection *conn)
{
    mg_free(conn->buf);
    mg_free(conn);
}

bool cw_parse(struct mg_connection *conn)
{
    char why[100];
    int status;

    return get_request(conn, why, sizeof(why), &status);
}

size_t cw_header_len(const struct mg_connection *conn)
{
    return conn->request_len > 0 ? (size_t)conn->request_len : 0;
}

/* --- bytes ------------------------------------------------------------------------------------ */

static ssize_t tls_result(SSL *ssl, int n, short *out_events)
{
    ssize_t result = -1;

    switch (SSL_get_error(ssl, n)) {
    case SSL_ERROR_NONE:
        result = n;
        break;
    case SSL_ERROR_WANT_READ:
        *out_events = POLLIN;
        result = 0;
        break;
    case SSL_ERROR_WANT_WRITE:
        *out_events = POLLOUT;
        result = 0;
        break;
    }
    ERR_clear_error();
    return result;
}

static ssize_t plain_result(ssize_t n, short events, short *out_events)
{
    if (n > 0)
        return n;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        return -1;
    *out_events = events;
    return 0;
}

ssize_t cw_read(int fd, void *tls, char *out, size_t len, short *out_events)
{
    if (len > INT_MAX)
        len = INT_MAX;
    if (!tls)
        return plain_result(recv(fd, out, len, MSG_DONTWAIT), POLLIN, out_events);
    ERR_clear_error();
    return tls_result(tls, SSL_read(tls, out, (int)len), out_events);
}

ssize_t cw_write(int fd, void *tls, const char *bytes, size_t len, short *out_events)
{
    if (len > INT_MAX)
        len = INT_MAX;
    if (!tls)
        return plain_result(send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL), POLLOUT, out_events);
    ERR_clear_error();
    return tls_result(tls, SSL_write(tls, bytes, (int)len), out_events);
}

void *cw_tls_new(struct mg_context *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx->dd.ssl_ctx);

    if (ssl && SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ssl = NULL;
    }
    if (ssl)
        SSL_set_accept_state(ssl);
    ERR_clear_error();
    return ssl;
}

int cw_tls_handshake(void *tls, short *out_events)
{
    if (SSL_is_init_finished(tls))
        return 1;
    ERR_clear_error();
    return (int)tls_result(tls, SSL_do_handshake(tls), out_events);
}

bool cw_tls_has_part(void *tls)
{
    return SSL_has_pending(tls) == 1;
}

static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

void *cw_tls_client_new(int fd, const char *host, bool verify)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;

    if (!ctx)
        return NULL;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (verify)
        SSL_CTX_set_default_verify_paths(ctx);
    SSL_CTX_set_verify(ctx, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    ssl = SSL_new(ctx);
    SSL_CTX_free(ctx); /* ssl keeps it */
    if (ssl && (SSL_set_fd(ssl, fd) != 1 || !expect_host(ssl, host))) {
        SSL_free(ssl);
        ssl = NULL;
    }
    if (ssl)
        SSL_set_connect_state(ssl);
    ERR_clear_error();
    return ssl;
}

const char *cw_tls_client_error(void *tls)
{
    long result = SSL_get_verify_result(tls);

    return result == X509_V_OK ? "the TLS handshake failed" : X509_verify_cert_error_string(result);
}

void cw_tls_free(void *tls)
{
    ERR_clear_error();
    if (SSL_is_init_finished(tls))
        SSL_shutdown(tls);
    SSL_free(tls);
    ERR_clear_error();
}
