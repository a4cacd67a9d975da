/* SPDX-License-Identifier: MIT */
/* Answers that come from elsewhere, while no worker waits for them. */
#include "wire.h"

static struct wire wire;
static struct wire_answer answer; /* large: not on the stack */

static int start(void **state)
{
    struct http_server_opts opts = wire_opts();

    (void)state;
    opts.threads = 2;
    wire_start(&wire, opts);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    wire_stop(&wire);
    return 0;
}

static void wait_until_begun(int count)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WIRE_PATIENCE_S;
    for (int i = 0; i < count; i++)
        if (sem_timedwait(&wire.entered, &until) < 0)
            fail_msg("only %d of %d requests have begun", i, count);
}

static int ask_later(const char *body, const char *version, const char *headers)
{
    int fd = wire_connect(&wire);
    char text[512];

    snprintf(text, sizeof(text),
             "POST /later HTTP/%s\r\nHost: x\r\nContent-Length: %zu\r\n%s\r\n%s", version,
             strlen(body), headers, body);
    wire_send(fd, text);
    return fd;
}

static void expect_body(int fd, const char *body)
{
    assert_true(wire_receive(fd, &answer));
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, body);
}

static void later__one_alone_is_answered(void **state)
{
    int fd;

    (void)state;
    for (int i = 0; i < 3; i++) {
        fd = ask_later("alone", "1.1", "");
        wait_until_begun(1);
        assert_int_equal(wire_answer_late(&wire), 1);
        expect_body(fd, "alone");
        close(fd);
    }
}

/* One client after the other, and one that sends its requests on one connection: the worker has nothing else to
 * do, and makes the answer itself. */
static void later__answer_may_be_made_where_it_is_begun(void **state)
{
    int fd;

    (void)state;
    wire.is_prompt = true;
    for (int i = 0; i < 3; i++) {
        fd = ask_later("its own", "1.1", "");
        expect_body(fd, "its own");
        for (int j = 0; j < 20; j++) {
            wire_send(fd, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nagain");
            expect_body(fd, "again");
        }
        close(fd);
    }
}

/* Two threads: if each of these had one to itself, the third wouldn't begin. */
static void later__requests_that_wait_take_no_worker(void **state)
{
    enum { COUNT = 40 };
    int fds[COUNT];
    char body[32];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        snprintf(body, sizeof(body), "body %d", i);
        fds[i] = ask_later(body, "1.1", "");
    }
    wait_until_begun(COUNT);
    assert_int_equal(wire_ask(&wire, WIRE_GET, &answer, NULL), 200); /* others are served */
    assert_int_equal(wire_answer_late(&wire), COUNT);
    for (int i = 0; i < COUNT; i++) {
        snprintf(body, sizeof(body), "body %d", i);
        expect_body(fds[i], body);
        wire_send(fds[i], WIRE_GET); /* each goes on */
        assert_true(wire_receive(fds[i], &answer));
        assert_int_equal(answer.status, 200);
        close(fds[i]);
    }
}

static void later__next_request_stands_behind_untouched(void **state)
{
    int fds[3];

    (void)state;
    for (int i = 0; i < 3; i++) /* the first one may have a worker to itself: see all ways */
        fds[i] = ask_later("one", "1.1", "");
    for (int i = 0; i < 3; i++)
        wire_send(fds[i],
                  "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ntwo"
                  "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nthree" WIRE_GET);
    wait_until_begun(3);
    assert_int_equal(wire_answer_late(&wire), 3);
    wait_until_begun(3);
    for (int i = 0; i < 3; i++) {
        expect_body(fds[i], "one");
        expect_body(fds[i], "two");
    }
    assert_int_equal(wire_answer_late(&wire), 3);
    for (int i = 0; i < 3; i++) {
        expect_body(fds[i], "three");
        assert_true(wire_receive(fds[i], &answer));
        assert_memory_equal(answer.body, "GET|/|", 6);
        close(fds[i]);
    }
}

/* Symptom: the worker took the next connection for a part of one that was to be closed. */
static void later__connections_that_end_take_no_other_with_them(void **state)
{
    enum { COUNT = 30 };
    int fds[COUNT], others[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        fds[i] = i % 2 ? ask_later("last", "1.1", "Connection: close\r\n")
                       : ask_later("last", "1.0", "");
        others[i] = wire_connect(&wire);
        wire_send(others[i], WIRE_GET);
    }
    wait_until_begun(COUNT);
    assert_int_equal(wire_answer_late(&wire), COUNT);
    for (int i = 0; i < COUNT; i++) {
        expect_body(fds[i], "last");
        assert_string_equal(wire_header(&answer, "Connection"), "close");
        assert_true(wire_is_closed(fds[i]));
        assert_true(wire_receive(others[i], &answer));
        assert_int_equal(answer.status, 200);
        close(fds[i]);
        close(others[i]);
    }
}

static void later__clients_that_are_gone_harm_nobody(void **state)
{
    enum { COUNT = 20 };

    (void)state;
    for (int i = 0; i < COUNT; i++)
        close(ask_later("gone", "1.1", ""));
    wait_until_begun(COUNT);
    assert_int_equal(wire_answer_late(&wire), COUNT);
    assert_int_equal(wire_ask(&wire, WIRE_GET, &answer, NULL), 200);
}

static void *answer_soon(void *arg)
{
    struct timespec moment = {.tv_nsec = 100 * 1000000};

    nanosleep(&moment, NULL);
    wire_answer_late(arg);
    return NULL;
}

static void later__drain_waits_for_the_answer(void **state)
{
    pthread_t thread;
    int fds[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        fds[i] = ask_later("drained", "1.1", "");
    wait_until_begun(4);
    assert_int_equal(pthread_create(&thread, NULL, answer_soon, &wire), 0);
    assert_int_equal(http_server_drain(wire.server, 5000), 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 4; i++) {
        expect_body(fds[i], "drained");
        assert_string_equal(wire_header(&answer, "Connection"), "close");
        close(fds[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(later__one_alone_is_answered, start, stop),
        cmocka_unit_test_setup_teardown(later__answer_may_be_made_where_it_is_begun, start, stop),
        cmocka_unit_test_setup_teardown(later__requests_that_wait_take_no_worker, start, stop),
        cmocka_unit_test_setup_teardown(later__next_request_stands_behind_untouched, start, stop),
        cmocka_unit_test_setup_teardown(later__connections_that_end_take_no_other_with_them, start,
                                        stop),
        cmocka_unit_test_setup_teardown(later__clients_that_are_gone_harm_nobody, start, stop),
        cmocka_unit_test_setup_teardown(later__drain_waits_for_the_answer, start, stop),
    };

    return cmocka_run_group_tests_name("later", tests, NULL, NULL);
}
