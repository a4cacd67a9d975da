/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include "http/civetweb_unit.h"
#include "http/client.h"
#include "unit/crypto/cert.h"

#include <fcntl.h>
#include <openssl/ssl.h>

static struct wire wire;
static struct wire_answer answer; /* large: not on the stack */
static SSL_CTX *ctx;

static void start(struct http_server_opts opts)
{
    opts.tls_ctx = ctx;
    wire_start(&wire, opts);
}

/* --- a client by hand ------------------------------------------------------------------------- */

struct peer {
    int fd;
    void *tls;
};

static bool peer_wait(const struct peer *p, short events)
{
    return poll(&(struct pollfd){.fd = p->fd, .events = events}, 1, WIRE_PATIENCE_S * 1000) > 0;
}

static struct peer peer_connect(void)
{
    struct peer p = {.fd = wire_connect(&wire)};
    short events;
    int done;

    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    p.tls = cw_tls_client_new(p.fd, "one.example", false);
    while ((done = cw_tls_handshake(p.tls, &events)) == 0)
        assert_true(peer_wait(&p, events));
    assert_int_equal(done, 1);
    return p;
}

static void peer_close(struct peer *p)
{
    cw_tls_free(p->tls);
    close(p->fd);
}

static void peer_send_bytes(struct peer *p, const char *bytes, size_t len)
{
    while (len > 0) {
        short events;
        ssize_t n = cw_write(p->fd, p->tls, bytes, len, &events);

        assert_true(n >= 0);
        if (n == 0)
            assert_true(peer_wait(p, events));
        bytes += n;
        len -= (size_t)n;
    }
}

static void peer_send(struct peer *p, const char *text)
{
    peer_send_bytes(p, text, strlen(text));
}

/* Returns false when the connection ended instead. */
static bool peer_receive(struct peer *p, char *out, size_t len)
{
    while (len > 0) {
        short events;
        ssize_t n = cw_read(p->fd, p->tls, out, len, &events);

        if (n < 0)
            return false;
        if (n == 0)
            assert_true(peer_wait(p, events));
        out += n;
        len -= (size_t)n;
    }
    return true;
}

static bool peer_answer(struct peer *p)
{
    size_t len = 0;

    memset(&answer, 0, sizeof(answer));
    while (len < 4 || memcmp(answer.head + len - 4, "\r\n\r\n", 4) != 0)
        if (!peer_receive(p, answer.head + len++, 1))
            return false;
    assert_int_equal(sscanf(answer.head, "HTTP/1.1 %d ", &answer.status), 1);
    answer.body_len = (size_t)atoi(wire_header(&answer, "Content-Length"));
    return peer_receive(p, answer.body, answer.body_len);
}

static void expect(struct peer *p, const char *request, int status)
{
    peer_send(p, request);
    assert_true(peer_answer(p));
    assert_int_equal(answer.status, status);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void tls__connection_is_used_again(void **state)
{
    struct peer p;

    (void)state;
    start(wire_opts());
    p = peer_connect();
    for (int i = 0; i < 50; i++) {
        expect(&p, i % 2 ? WIRE_GET : "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
               200);
        assert_string_equal(wire_header(&answer, "Keep-Alive"), "timeout=30");
    }
    expect(&p, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200);
    assert_false(peer_receive(&p, answer.head, 1));
    peer_close(&p);
    wire_stop(&wire);
}

/* Whoever sends such an answer has the connection's TLS from another thread. */
static void tls__answer_may_come_later(void **state)
{
    enum { PEERS = 6 };
    static const char later[] = "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    struct peer peers[PEERS];

    (void)state;
    start(wire_opts());
    for (int i = 0; i < PEERS; i++)
        peers[i] = peer_connect();
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < PEERS; i++)
            peer_send_bytes(&peers[i], later, sizeof(later) - 1);
        for (int i = 0; i < PEERS; i++)
            sem_wait(&wire.entered);
        assert_int_equal(wire_answer_late(&wire), PEERS);
        for (int i = 0; i < PEERS; i++) {
            assert_true(peer_answer(&peers[i]));
            assert_string_equal(answer.body, "hi");
        }
    }
    for (int i = 0; i < PEERS; i++)
        peer_close(&peers[i]);
    wire_stop(&wire);
}

static void tls__bodies_of_all_sizes_come_back(void **state)
{
    static const size_t sizes[] = {1, 16384, 32768, 33000, 120000};
    char *body = malloc(120000);
    struct peer p;

    (void)state;
    for (size_t i = 0; i < 120000; i++)
        body[i] = (char)(i * 31 % 251);
    start(wire_opts());
    p = peer_connect();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char head[128];

        snprintf(head, sizeof(head),
                 "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", sizes[i]);
        peer_send(&p, head);
        peer_send_bytes(&p, body, sizes[i]);
        /* the next request stands right behind the body */
        peer_send(&p, WIRE_GET);
        assert_true(peer_answer(&p));
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body_len, sizes[i]);
        assert_memory_equal(answer.body, body, sizes[i]);
        assert_true(peer_answer(&p));
        assert_int_equal(answer.status, 200);
    }
    peer_close(&p);
    free(body);
    wire_stop(&wire);
}

static void tls__requests_in_pieces_and_in_heaps_are_served(void **state)
{
    static const char text[] = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    struct peer p;

    (void)state;
    start(wire_opts());
    p = peer_connect();
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        peer_send_bytes(&p, text + i, 1);
    assert_true(peer_answer(&p));
    assert_string_equal(answer.body, "hello");
    peer_send(&p, WIRE_GET WIRE_GET WIRE_GET "GET / HT");
    for (int i = 0; i < 3; i++) {
        assert_true(peer_answer(&p));
        assert_int_equal(answer.status, 200);
    }
    expect(&p, "TP/1.1\r\nHost: x\r\n\r\n", 200);
    peer_close(&p);
    wire_stop(&wire);
}

static void tls__dawdlers_cost_no_worker(void **state)
{
    enum { DAWDLERS = 20 };
    struct http_server_opts opts = wire_opts();
    struct peer half[DAWDLERS];
    int silent[DAWDLERS];
    int64_t start_ms;
    struct peer p;

    (void)state;
    opts.threads = 2;
    start(opts);
    for (int i = 0; i < DAWDLERS; i++) {
        silent[i] = wire_connect(&wire);
        assert_true(wire_send_bytes(silent[i], "\x16\x03\x01\x02", 4)); /* begins a ClientHello */
        half[i] = peer_connect();
        peer_send(&half[i], i % 2 ? "GET / HT"
                                  : "POST / HTTP/1.1\r\nHost: x\r\n"
                                    "Content-Length: 10\r\n\r\nab");
    }
    start_ms = clock_mono_ms();
    for (int i = 0; i < 5; i++) {
        p = peer_connect();
        expect(&p, WIRE_GET, 200);
        peer_close(&p);
    }
    assert_true(clock_mono_ms() - start_ms < 2000);
    expect(&half[1], "TP/1.1\r\nHost: x\r\n\r\n", 200);
    expect(&half[0], "cdefghij", 200);
    for (int i = 0; i < DAWDLERS; i++) {
        peer_close(&half[i]);
        close(silent[i]);
    }
    wire_stop(&wire);
}

static void tls__deadlines_hold(void **state)
{
    struct http_server_opts opts = wire_opts();
    struct peer p;
    int fd;

    (void)state;
    opts.request_timeout_ms = 250;
    opts.idle_timeout_ms = 500;
    start(opts);
    fd = wire_connect(&wire);
    assert_true(wire_send_bytes(fd, "\x16\x03\x01\x02", 4));
    p = peer_connect();
    expect(&p, WIRE_GET, 200);
    peer_send(&p, "GET / HT");
    assert_true(peer_answer(&p)); /* the request takes too long */
    assert_int_equal(answer.status, 408);
    assert_false(peer_receive(&p, answer.head, 1));
    assert_true(wire_is_closed(fd)); /* and so does the handshake */
    peer_close(&p);
    p = peer_connect();
    peer_send(&p, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    for (int i = 0; i < 5; i++) { /* the deadline may be while it is read */
        peer_send(&p, "a");
        usleep(40 * 1000);
    }
    assert_true(peer_answer(&p));
    assert_int_equal(answer.status, 408);
    peer_close(&p);
    p = peer_connect();
    expect(&p, WIRE_GET, 200);
    assert_false(peer_receive(&p, answer.head, 1)); /* idles */
    peer_close(&p);
    close(fd);
    wire_stop(&wire);
}

/* Symptom: a connection that idled and had brought a record without data was closed when a request would
 * have been too slow. */
static void tls__record_without_data_begins_no_request(void **state)
{
    struct http_server_opts opts = wire_opts();
    struct peer p;

    (void)state;
    opts.request_timeout_ms = 250;
    start(opts);
    p = peer_connect();
    expect(&p, WIRE_GET, 200);
    assert_int_equal(SSL_key_update(p.tls, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(p.tls), 1);
    usleep(700 * 1000);
    expect(&p, WIRE_GET, 200);
    peer_close(&p);
    wire_stop(&wire);
}

static void tls__plain_bytes_are_no_handshake(void **state)
{
    int fd;

    (void)state;
    start(wire_opts());
    fd = wire_connect(&wire);
    wire_send(fd, WIRE_GET);
    while (recv(fd, answer.head, sizeof(answer.head), 0) > 0)
        ; /* an alert */
    close(fd);
    wire_stop(&wire);
}

static void tls__refusals_arrive(void **state)
{
    struct peer p;

    (void)state;
    start(wire_opts());
    p = peer_connect();
    expect(&p, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", 413);
    assert_false(peer_receive(&p, answer.head, 1));
    peer_close(&p);
    p = peer_connect();
    expect(&p, "GET / HTTP/1.1\r\nHost: x\r\nX: \x01", 400);
    assert_false(peer_receive(&p, answer.head, 1));
    peer_close(&p);
    wire_stop(&wire);
}

static void tls__our_client_gets_answers(void **state)
{
    char url[64];
    struct http_client_request request = {.method = "GET", .url = url, .timeout_ms = 5000};
    struct http_client_response response = {0};
    struct err err = {0};

    (void)state;
    start(wire_opts());
    snprintf(url, sizeof(url), "https://%s/large", http_server_address(wire.server));
    assert_int_equal(http_client_call(&request, &response, &err), 0);
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body.len, 102400);
    http_client_response_release(&response);
    request.verify_tls = true;
    assert_int_equal(http_client_call(&request, &response, &err), ERR_IO);
    assert_non_null(strstr(err.text, "self-signed certificate"));
    wire_stop(&wire);
}

/* With the certificate among the trusted ones (SSL_CERT_FILE), it is the host that decides. */
static void tls__our_client_checks_the_host(void **state)
{
    char path[] = "/tmp/test_server_tls.XXXXXX";
    char url[64];
    struct http_client_request request = {
        .method = "GET", .url = url, .timeout_ms = 5000, .verify_tls = true};
    struct http_client_response response = {0};
    struct err err = {0};
    FILE *file = fdopen(mkstemp(path), "w");

    (void)state;
    PEM_write_X509(file, SSL_CTX_get0_certificate(ctx));
    fclose(file);
    setenv("SSL_CERT_FILE", path, 1);
    start(wire_opts());
    snprintf(url, sizeof(url), "https://127.0.0.1:%d/", wire.port);
    if (http_client_call(&request, &response, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(response.status, 200);
    http_client_response_release(&response);
    snprintf(url, sizeof(url), "https://localhost:%d/", wire.port); /* not in the certificate */
    assert_int_equal(http_client_call(&request, &response, &err), ERR_IO);
    assert_non_null(strstr(err.text, "hostname mismatch"));
    unsetenv("SSL_CERT_FILE");
    unlink(path);
    wire_stop(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls__connection_is_used_again),
        cmocka_unit_test(tls__answer_may_come_later),
        cmocka_unit_test(tls__bodies_of_all_sizes_come_back),
        cmocka_unit_test(tls__requests_in_pieces_and_in_heaps_are_served),
        cmocka_unit_test(tls__dawdlers_cost_no_worker),
        cmocka_unit_test(tls__deadlines_hold),
        cmocka_unit_test(tls__record_without_data_begins_no_request),
        cmocka_unit_test(tls__plain_bytes_are_no_handshake),
        cmocka_unit_test(tls__refusals_arrive),
        cmocka_unit_test(tls__our_client_gets_answers),
        cmocka_unit_test(tls__our_client_checks_the_host),
    };
    struct cert one = cert_new("one.example");
    int failed;

    ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(ctx, one.x509);
    SSL_CTX_use_PrivateKey(ctx, one.key);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(ctx);
    cert_free(&one);
    return failed;
}
