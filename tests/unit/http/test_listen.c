/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include "http/listen.h"

#include <netinet/in.h>

static void expect_error(const char *address, const char *text)
{
    char out[HTTP_ADDRESS_MAX];
    struct err err = {0};
    int fd = -1;

    assert_int_equal(http_listen(address, &fd, out, &err), ERR_IO);
    assert_int_equal(fd, -1);
    assert_string_equal(err.text, text);
}

static void listen__wrong_addresses_are_explained(void **state)
{
    static const char *const wrong[] = {
        "",           "8080",           ":8080",         "127.0.0.1",
        "127.0.0.1:", "1.2.3:80",       "127.0.0.1:80x", "127.0.0.1:65536",
        "::1:80",     "[::1]",          "[::1]80",       "[127.0.0.1]:80",
        "[]:80",      "example.org:80", "127.0.0.1:-1",  "[::1:80"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char text[256];

        snprintf(text, sizeof(text),
                 "cannot listen on '%s': expected address:port, such as 127.0.0.1:8080 or "
                 "[::1]:8080",
                 wrong[i]);
        expect_error(wrong[i], text);
    }
}

static void listen__free_port_is_found(void **state)
{
    char address[HTTP_ADDRESS_MAX];
    struct err err;
    int fd;
    int port;

    (void)state;
    assert_int_equal(http_listen("localhost:0", &fd, address, &err), 0);
    assert_int_equal(sscanf(address, "127.0.0.1:%d", &port), 1);
    assert_true(port > 0);
    close(fd);
}

static void listen__taken_port_is_named(void **state)
{
    char address[HTTP_ADDRESS_MAX];
    char text[256];
    struct err err;
    int fd;

    (void)state;
    assert_int_equal(http_listen("127.0.0.1:0", &fd, address, &err), 0);
    snprintf(text, sizeof(text), "cannot listen on %s: Address already in use", address);
    expect_error(address, text);
    close(fd);
}

static void server__taken_port_is_an_error_of_start(void **state)
{
    struct http_server_opts opts = wire_opts();
    struct http_server *second = NULL;
    struct wire wire;
    struct err err = {0};

    (void)state;
    wire_start(&wire, opts);
    opts.address = http_server_address(wire.server);
    assert_int_equal(http_server_start(&second, &opts, &err), ERR_IO);
    assert_null(second);
    assert_non_null(strstr(err.text, "cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(err.text, ": Address already in use"));
    wire_stop(&wire);
    http_server_free(NULL);
}

/* Several servers in one process: the main and the admin listener. */
static void server__two_of_them_know_their_own_connections(void **state)
{
    struct wire one;
    struct wire two;
    struct wire_answer *answer = malloc(sizeof(*answer));

    (void)state;
    wire_start(&one, wire_opts());
    wire_start(&two, wire_opts());
    assert_int_not_equal(one.port, two.port);
    assert_int_equal(wire_ask(&one, WIRE_GET, answer, NULL), 200);
    wire_stop(&one);
    assert_int_equal(wire_ask(&two, WIRE_GET, answer, NULL), 200);
    wire_stop(&two);
    free(answer);
}

static int connect_v6(int port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);

    address.sin6_addr = in6addr_loopback;
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static bool has_v6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool ok;

    address.sin6_addr = in6addr_loopback;
    ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static void expect_peer(int fd, const char *peer, struct wire_answer *answer)
{
    wire_send(fd, WIRE_GET);
    assert_true(wire_receive(fd, answer));
    assert_int_equal(answer->status, 200);
    assert_string_equal(strrchr(answer->body, '|') + 1, peer);
    close(fd);
}

static void server__v6_is_spoken(void **state)
{
    struct http_server_opts opts = wire_opts();
    struct wire_answer *answer;
    struct wire wire;

    (void)state;
    if (!has_v6())
        skip();
    answer = malloc(sizeof(*answer));
    opts.address = "[::1]:0";
    wire_start(&wire, opts);
    assert_memory_equal(http_server_address(wire.server), "[::1]:", 6);
    expect_peer(connect_v6(wire.port), "::1", answer);
    wire_stop(&wire);
    /* "[::]" takes both, and each client is shown by the address that it has itself. */
    opts.address = "[::]:0";
    wire_start(&wire, opts);
    expect_peer(connect_v6(wire.port), "::1", answer);
    expect_peer(wire_connect(&wire), "127.0.0.1", answer);
    wire_stop(&wire);
    free(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listen__wrong_addresses_are_explained),
        cmocka_unit_test(listen__free_port_is_found),
        cmocka_unit_test(listen__taken_port_is_named),
        cmocka_unit_test(server__taken_port_is_an_error_of_start),
        cmocka_unit_test(server__two_of_them_know_their_own_connections),
        cmocka_unit_test(server__v6_is_spoken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
