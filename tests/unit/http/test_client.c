/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include "http/client.h"
#include "http/listen.h"

/* --- a server that says one thing ------------------------------------------------------------- */

struct canned {
    int listen_fd;
    char address[HTTP_ADDRESS_MAX];
    const char *answer; /* NULL: it says nothing until the client goes away */
    size_t step;        /* bytes per write, so that the client sees pieces */
    char request[4096];
    pthread_t thread;
};

static void *canned_main(void *arg)
{
    struct canned *c = arg;
    struct pollfd door = {.fd = c->listen_fd, .events = POLLIN};
    size_t len = 0;
    ssize_t n;
    int fd;

    poll(&door, 1, WIRE_PATIENCE_S * 1000);
    fd = accept(c->listen_fd, NULL, NULL);
    while (!strstr(c->request, "\r\n\r\n") &&
           (n = recv(fd, c->request + len, sizeof(c->request) - 1 - len, 0)) > 0)
        len += (size_t)n;
    while (!c->answer && recv(fd, &(char){0}, 1, 0) > 0)
        ;
    for (size_t at = 0; c->answer && at < strlen(c->answer); at += c->step) {
        size_t left = strlen(c->answer) - at;

        if (!wire_send_bytes(fd, c->answer + at, left < c->step ? left : c->step))
            break;
    }
    close(fd);
    return NULL;
}

static void canned_start(struct canned *c, const char *answer, size_t step)
{
    struct err err;

    *c = (struct canned){.answer = answer, .step = step};
    assert_int_equal(http_listen("127.0.0.1:0", &c->listen_fd, c->address, &err), 0);
    assert_int_equal(pthread_create(&c->thread, NULL, canned_main, c), 0);
}

static void canned_stop(struct canned *c)
{
    pthread_join(c->thread, NULL);
    close(c->listen_fd);
}

static int call(const char *scheme, const char *address, const char *path,
                struct http_client_response *out, struct err *err)
{
    char url[256];
    const struct http_client_request request = {
        .method = "GET",
        .url = url,
        .timeout_ms = 500,
    };

    snprintf(url, sizeof(url), "%s://%s%s", scheme, address, path);
    return http_client_call(&request, out, err);
}

static void expect_body(const char *answer, int status, const char *body)
{
    static const size_t steps[] = {1, 7, 1024 * 1024};

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct http_client_response response = {0};
        struct canned c;
        struct err err = {0};

        canned_start(&c, answer, steps[i]);
        if (call("http", c.address, "/x?y", &response, &err) < 0)
            fail_msg("%s, for\n%s", err.text, answer);
        canned_stop(&c);
        assert_int_equal(response.status, status);
        assert_string_equal(buf_text(&response.body), body);
        http_client_response_release(&response);
    }
}

static void expect_error(const char *answer, const char *text)
{
    struct http_client_response response = {.status = -1};
    struct canned c;
    struct err err = {0};
    char expected[256];

    canned_start(&c, answer, 1024);
    assert_int_equal(call("http", c.address, "/", &response, &err), ERR_IO);
    canned_stop(&c);
    snprintf(expected, sizeof(expected), "cannot read the answer of %s: %s", c.address, text);
    assert_string_equal(err.text, expected);
    assert_int_equal(response.status, -1); /* untouched */
}

/* --- tests ------------------------------------------------------------------------------------ */

static void client__request_is_sent_as_told(void **state)
{
    const struct http_header headers[] = {{"X-One", "1"}, {"Content-Type", "text/plain"}};
    struct http_client_request request = {
        .method = "POST",
        .headers = headers,
        .header_count = 2,
        .body = "hello",
        .body_len = 5,
        .timeout_ms = 5000,
    };
    struct http_client_response response = {0};
    struct wire wire;
    struct err err = {0};
    char url[128];
    char expected[256];

    (void)state;
    wire_start(&wire, wire_opts());
    request.url = url;
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/a?b=%%20#c", wire.port);
    assert_int_equal(http_client_call(&request, &response, &err), 0);
    assert_int_equal(response.status, 200);
    snprintf(expected, sizeof(expected),
             "POST|/a|b=%%20|Host=127.0.0.1:%d;Connection=close;X-One=1;Content-Type=text/plain;"
             "Content-Length=5;|5|127.0.0.1",
             wire.port);
    assert_string_equal(buf_text(&response.body), expected);
    http_client_response_release(&response);

    snprintf(url, sizeof(url), "http://localhost:%d", wire.port);
    request = (struct http_client_request){.method = "GET", .url = url, .timeout_ms = 5000};
    assert_int_equal(http_client_call(&request, &response, &err), 0);
    assert_memory_equal(buf_text(&response.body), "GET|/|-|Host=localhost:", 23);
    http_client_response_release(&response);

    snprintf(url, sizeof(url), "http://127.0.0.1:%d/large", wire.port);
    assert_int_equal(http_client_call(&request, &response, &err), 0);
    assert_int_equal(response.body.len, 102400);
    http_client_response_release(&response);

    request.method = "HEAD";
    assert_int_equal(http_client_call(&request, &response, &err), 0);
    assert_int_equal(response.body.len, 0);
    http_client_response_release(&response);
    wire_stop(&wire);
}

static void client__answers_end_in_any_way(void **state)
{
    (void)state;
    expect_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
    expect_body("HTTP/1.1 503 No\r\ncontent-length:0\r\n\r\n", 503, "");
    expect_body("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end");
    expect_body("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    expect_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n"
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
                401, "no");
    expect_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5\r\nhello\r\n2;x=y\r\n, \r\n5\r\nworld\r\n0\r\n\r\n",
                200, "hello, world");
}

static void client__broken_answers_are_errors(void **state)
{
    (void)state;
    expect_error("", "it was cut off");
    expect_error("HTTP/1.1 200 OK\r\nContent-Le", "it was cut off");
    expect_error("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "it was cut off");
    expect_error("SSH-2.0-OpenSSH_9.2\r\n\r\n", "it is not HTTP");
    expect_error("HTTP/1.1 2x0 OK\r\n\r\n", "it is not HTTP");
    expect_error("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "it is too large");
    expect_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                 "it is encoded in an unknown way");
    expect_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 "it is not well-formed");
    expect_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
                 "it is not well-formed");
    expect_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", "it was cut off");
}

static void client__silence_has_a_deadline(void **state)
{
    int64_t start_ms = clock_mono_ms();

    (void)state;
    expect_error(NULL, "it took too long");
    assert_true(clock_mono_ms() - start_ms >= 500);
    assert_true(clock_mono_ms() - start_ms < 5000);
}

static void client__refused_connection_is_named(void **state)
{
    struct http_client_response response;
    char address[HTTP_ADDRESS_MAX];
    char expected[256];
    struct err err = {0};
    int fd;

    (void)state;
    assert_int_equal(http_listen("127.0.0.1:0", &fd, address, &err), 0);
    close(fd); /* nobody is there now */
    assert_int_equal(call("http", address, "/", &response, &err), ERR_IO);
    snprintf(expected, sizeof(expected), "cannot connect to %s: Connection refused", address);
    assert_string_equal(err.text, expected);
}

static void client__unusable_urls_are_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "127.0.0.1:80",
                                        "ftp://x/",
                                        "http://",
                                        "http:///path",
                                        "http://:80",
                                        "http://x:port/",
                                        "http://x:/",
                                        "http://u:p@x/",
                                        "http://x:99999/",
                                        "http://[::1",
                                        "http://[]/",
                                        "http://x/a b",
                                        "http://x/\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const struct http_client_request request = {
            .method = "GET", .url = wrong[i], .timeout_ms = 100};
        struct http_client_response response;
        struct err err = {0};

        if (http_client_call(&request, &response, &err) != ERR_INVALID)
            fail_msg("'%s' was taken", wrong[i]);
        assert_non_null(strstr(err.text, "expected http://host:port/path"));
    }
}

static void client__tls_to_a_plain_server_fails(void **state)
{
    struct http_client_response response;
    struct wire wire;
    struct err err = {0};

    (void)state;
    wire_start(&wire, wire_opts());
    assert_int_equal(call("https", http_server_address(wire.server), "/", &response, &err), ERR_IO);
    assert_non_null(strstr(err.text, ": the TLS handshake failed"));
    wire_stop(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__request_is_sent_as_told),
        cmocka_unit_test(client__answers_end_in_any_way),
        cmocka_unit_test(client__broken_answers_are_errors),
        cmocka_unit_test(client__silence_has_a_deadline),
        cmocka_unit_test(client__refused_connection_is_named),
        cmocka_unit_test(client__unusable_urls_are_refused),
        cmocka_unit_test(client__tls_to_a_plain_server_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
