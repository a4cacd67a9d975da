/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include "base/thread.h"

static struct wire wire;
static struct wire_answer answer; /* large: not on the stack */

static void expect_answer(int fd, int status)
{
    assert_true(wire_receive(fd, &answer));
    assert_int_equal(answer.status, status);
}

/* As many workers as that are with long calls, until wire.release is posted for each. */
static void keep_busy(int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = wire_connect(&wire);
        wire_send(fds[i], "GET /block HTTP/1.1\r\nHost: x\r\n\r\n");
        sem_wait(&wire.entered);
    }
}

static int64_t ms_since(int64_t start_ms)
{
    return clock_mono_ms() - start_ms;
}

/* --- many clients, few workers ---------------------------------------------------------------- */

static void gate__idle_and_trickling_clients_cost_no_worker(void **state)
{
    enum { IDLE = 200, TRICKLING = 100 };
    struct http_server_opts opts = wire_opts();
    int idle[IDLE];
    int trickling[TRICKLING];
    int64_t start_ms;
    int fd;

    (void)state;
    opts.threads = 2;
    opts.max_connections = 1000;
    wire_start(&wire, opts);
    for (int i = 0; i < IDLE; i++)
        idle[i] = wire_connect(&wire);
    for (int i = 0; i < TRICKLING; i++) {
        trickling[i] = wire_connect(&wire);
        wire_send(trickling[i], i % 2 ? "GET / HT"
                                      : "POST / HTTP/1.1\r\nHost: x\r\n"
                                        "Content-Length: 10\r\n\r\nab");
    }
    start_ms = clock_mono_ms();
    fd = wire_connect(&wire);
    for (int round = 0; round < 50; round++) {
        wire_send(trickling[round], round % 2 ? "T" : "c");
        wire_send(fd, WIRE_GET);
        expect_answer(fd, 200);
    }
    assert_true(ms_since(start_ms) < 2000);
    /* Those that finish are served, too. */
    wire_send(trickling[99], "TP/1.1\r\nHost: x\r\n\r\n");
    wire_send(trickling[98], "cdefghij");
    wire_send(idle[0], WIRE_GET);
    expect_answer(trickling[98], 200);
    expect_answer(idle[0], 200);
    close(fd);
    for (int i = 0; i < IDLE; i++)
        close(idle[i]);
    for (int i = 0; i < TRICKLING; i++)
        close(trickling[i]);
    wire_stop(&wire);
}

static void gate__busy_connections_share_the_workers(void **state)
{
    enum { BUSY = 48, ROUNDS = 4000 };
    struct http_server_opts opts = wire_opts();
    struct pollfd fds[BUSY];
    int served[BUSY] = {0};

    (void)state;
    opts.threads = 2;
    wire_start(&wire, opts);
    for (int i = 0; i < BUSY; i++) {
        fds[i] = (struct pollfd){.fd = wire_connect(&wire), .events = POLLIN};
        wire_send(fds[i].fd, WIRE_GET);
    }
    for (int done = 0; done < ROUNDS;) {
        assert_true(poll(fds, BUSY, WIRE_PATIENCE_S * 1000) > 0);
        for (int i = 0; i < BUSY; i++) {
            if (!fds[i].revents)
                continue;
            expect_answer(fds[i].fd, 200);
            wire_send(fds[i].fd, WIRE_GET);
            served[i]++;
            done++;
        }
    }
    for (int i = 0; i < BUSY; i++) {
        assert_true(served[i] >= ROUNDS / BUSY / 8);
        close(fds[i].fd);
    }
    wire_stop(&wire);
}

/* Symptom: while as many as there are processors were with long calls, all others together got one answer
 * in 10 ms, since the worker that was called for them went after each. */
static void gate__long_calls_leave_the_others_their_pace(void **state)
{
    enum { BUSY = 16, ROUNDS = 2000 };
    const int count = thread_processors();
    struct http_server_opts opts = wire_opts();
    int *blocked = calloc((size_t)count, sizeof(*blocked));
    struct pollfd fds[BUSY];
    int64_t start_ms;

    (void)state;
    opts.threads = count + 8;
    wire_start(&wire, opts);
    keep_busy(blocked, count);
    start_ms = clock_mono_ms();
    for (int i = 0; i < BUSY; i++) {
        fds[i] = (struct pollfd){.fd = wire_connect(&wire), .events = POLLIN};
        wire_send(fds[i].fd, WIRE_GET);
    }
    for (int done = 0; done < ROUNDS;) {
        assert_true(poll(fds, BUSY, WIRE_PATIENCE_S * 1000) > 0);
        for (int i = 0; i < BUSY; i++) {
            if (!fds[i].revents)
                continue;
            expect_answer(fds[i].fd, 200);
            wire_send(fds[i].fd, WIRE_GET);
            done++;
        }
    }
    assert_true(ms_since(start_ms) < ROUNDS * 2);
    for (int i = 0; i < count; i++)
        sem_post(&wire.release);
    for (int i = 0; i < count; i++) {
        expect_answer(blocked[i], 200);
        close(blocked[i]);
    }
    for (int i = 0; i < BUSY; i++)
        close(fds[i].fd);
    free(blocked);
    wire_stop(&wire);
}

/* Symptom: eight uploads that stalled after 40 KB kept eight workers from everybody else. */
static void gate__slow_uploads_cost_no_worker(void **state)
{
    enum { SLOW = 8 };
    struct http_server_opts opts = wire_opts();
    char *part = calloc(1, 40000);
    int slow[SLOW];
    int64_t start_ms;
    int fd;

    (void)state;
    opts.threads = 2;
    wire_start(&wire, opts);
    for (int i = 0; i < SLOW; i++) {
        slow[i] = wire_connect(&wire);
        wire_send(slow[i], i % 2 ? "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n\r\n"
                                 : "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 80000\r\n"
                                   "Expect: 100-continue\r\n\r\n");
        if (i % 2 == 0)
            expect_answer(slow[i], 100);
        assert_true(wire_send_bytes(slow[i], part, 40000));
    }
    start_ms = clock_mono_ms();
    fd = wire_connect(&wire);
    for (int i = 0; i < 20; i++) {
        wire_send(fd, WIRE_GET);
        expect_answer(fd, 200);
    }
    assert_true(ms_since(start_ms) < 2000);
    for (int i = 0; i < SLOW; i++) {
        assert_true(wire_send_bytes(slow[i], part, 40000));
        expect_answer(slow[i], 200);
        assert_non_null(strstr(answer.body, "|80000|"));
        close(slow[i]);
    }
    close(fd);
    free(part);
    wire_stop(&wire);
}

/* --- deadlines -------------------------------------------------------------------------------- */

static void start_impatient(void)
{
    struct http_server_opts opts = wire_opts();

    opts.request_timeout_ms = 250;
    opts.idle_timeout_ms = 400;
    wire_start(&wire, opts);
}

static void gate__slow_headers_are_cut(void **state)
{
    int64_t start_ms = clock_mono_ms();
    int fd;

    (void)state;
    start_impatient();
    fd = wire_connect(&wire);
    wire_send(fd, "GET / HTTP/1.1\r\nHo");
    while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 20) == 0)
        wire_send(fd, "o"); /* dribbling doesn't help */
    expect_answer(fd, 408);
    assert_string_equal(wire_header(&answer, "Connection"), "close");
    assert_memory_equal(answer.body, "{\"error\":{\"code\":\"request_timeout\"", 34);
    assert_true(wire_is_closed(fd));
    assert_true(ms_since(start_ms) >= 250 && ms_since(start_ms) < 2000);
    close(fd);
    wire_stop(&wire);
}

static void cut_slow_body(size_t begun)
{
    char *part = calloc(1, begun + 1);
    int64_t start_ms = clock_mono_ms();
    int fd = wire_connect(&wire);

    wire_send(fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    assert_true(wire_send_bytes(fd, part, begun));
    while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 20) == 0)
        (void)!wire_send_bytes(fd, "x", 1);
    expect_answer(fd, 408);
    assert_true(wire_is_closed(fd));
    assert_true(ms_since(start_ms) >= 250 && ms_since(start_ms) < 2000);
    close(fd);
    free(part);
}

static void gate__slow_bodies_are_cut(void **state)
{
    (void)state;
    start_impatient();
    cut_slow_body(100);
    cut_slow_body(40000);
    wire_stop(&wire);
}

static void gate__idle_connections_are_closed(void **state)
{
    int64_t start_ms = clock_mono_ms();
    int fresh;
    int used;

    (void)state;
    start_impatient();
    fresh = wire_connect(&wire);
    used = wire_connect(&wire);
    wire_send(used, WIRE_GET);
    expect_answer(used, 200);
    assert_true(wire_is_closed(fresh));
    assert_true(wire_is_closed(used));
    assert_true(ms_since(start_ms) >= 400 && ms_since(start_ms) < 3000);
    close(fresh);
    close(used);
    wire_stop(&wire);
}

/* Symptom: with all workers busy nobody was there to close what was too slow, or to take anybody in. */
static void gate__time_is_kept_while_all_workers_are_busy(void **state)
{
    struct http_server_opts opts = wire_opts();
    int busy[2], idle, slow;

    (void)state;
    opts.request_timeout_ms = 250;
    opts.idle_timeout_ms = 400;
    opts.threads = 2;
    wire_start(&wire, opts);
    keep_busy(busy, 2);
    idle = wire_connect(&wire);
    slow = wire_connect(&wire);
    wire_send(slow, "GET / HTTP/1.1\r\nHo");
    expect_answer(slow, 408);
    assert_true(wire_is_closed(slow));
    assert_true(wire_is_closed(idle));
    for (int i = 0; i < 2; i++)
        sem_post(&wire.release);
    for (int i = 0; i < 2; i++) {
        expect_answer(busy[i], 200);
        close(busy[i]);
    }
    close(idle);
    close(slow);
    wire_stop(&wire);
}

/* What comes in the meantime, in however many pieces, is seen afterwards. */
static void gate__client_may_speak_while_it_is_served(void **state)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000000};
    int fd, other;

    (void)state;
    wire_start(&wire, wire_opts());
    other = wire_connect(&wire);
    fd = wire_connect(&wire);
    for (int pieces = 0; pieces < 4; pieces++) {
        wire_send(fd, "GET /block HTTP/1.1\r\nHost: x\r\n\r\n");
        sem_wait(&wire.entered);
        for (int i = 0; i < pieces; i++) {
            wire_send(fd, i == 0 ? "GET / HTTP/1.1\r\n" : i == 1 ? "Host: x\r\n" : "\r\n");
            nanosleep(&moment, NULL);
            wire_send(other, WIRE_GET); /* so somebody has looked */
            expect_answer(other, 200);
        }
        sem_post(&wire.release);
        expect_answer(fd, 200);
        wire_send(fd, pieces == 0   ? WIRE_GET
                      : pieces == 1 ? "Host: x\r\n\r\n"
                      : pieces == 2 ? "\r\n"
                                    : "");
        expect_answer(fd, 200);
    }
    close(fd);
    close(other);
    wire_stop(&wire);
}

/* More than is read in one look: who is put off is read in another. */
static void gate__large_bodies_at_once_are_all_read(void **state)
{
    enum { COUNT = 40, BODY = 60 * 1000 };
    static char body[BODY];
    struct http_server_opts opts = wire_opts();
    char head[128];
    int busy[2], fds[COUNT];
    int len;

    (void)state;
    opts.threads = 2;
    opts.max_body_bytes = BODY;
    opts.body_budget_bytes = (size_t)COUNT * BODY;
    wire_start(&wire, opts);
    keep_busy(busy, 2); /* so that all of them wait */
    len = snprintf(head, sizeof(head),
                   "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", BODY);
    for (int i = 0; i < COUNT; i++) {
        memset(body, 'a' + i % 26, sizeof(body));
        fds[i] = wire_connect(&wire);
        assert_true(wire_send_bytes(fds[i], head, (size_t)len));
        assert_true(wire_send_bytes(fds[i], body, sizeof(body)));
    }
    for (int i = 0; i < 2; i++)
        sem_post(&wire.release);
    for (int i = 0; i < COUNT; i++) {
        expect_answer(fds[i], 200);
        assert_int_equal(answer.body_len, BODY);
        memset(body, 'a' + i % 26, sizeof(body));
        assert_memory_equal(answer.body, body, sizeof(body));
        close(fds[i]);
    }
    for (int i = 0; i < 2; i++)
        close(busy[i]);
    wire_stop(&wire);
}

/* --- room ------------------------------------------------------------------------------------- */

static void gate__longest_idle_makes_room(void **state)
{
    struct http_server_opts opts = wire_opts();
    int fds[6];

    (void)state;
    opts.max_connections = 4;
    wire_start(&wire, opts);
    for (int i = 0; i < 5; i++)
        fds[i] = wire_connect(&wire);
    assert_true(wire_is_closed(fds[0]));
    wire_send(fds[1], "GET / HT"); /* doesn't idle any more: the next one does longest */
    wire_send(fds[4], WIRE_GET);
    expect_answer(fds[4], 200);
    fds[5] = wire_connect(&wire);
    assert_true(wire_is_closed(fds[2]));
    wire_send(fds[1], "TP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(fds[1], 200);
    for (int i = 3; i < 6; i++) {
        wire_send(fds[i], WIRE_GET);
        expect_answer(fds[i], 200);
    }
    for (int i = 0; i < 6; i++)
        close(fds[i]);
    wire_stop(&wire);
}

static void gate__served_connections_are_never_closed_for_room(void **state)
{
    struct http_server_opts opts = wire_opts();
    int fds[6];

    (void)state;
    opts.max_connections = 3;
    wire_start(&wire, opts);
    keep_busy(fds, 3);
    for (int i = 3; i < 6; i++) {
        fds[i] = wire_connect(&wire);
        wire_send(fds[i], WIRE_GET);
    }
    for (int i = 0; i < 3; i++)
        sem_post(&wire.release);
    for (int i = 0; i < 6; i++) {
        expect_answer(fds[i], 200);
        close(fds[i]);
    }
    wire_stop(&wire);
}

static void gate__bodies_have_a_budget(void **state)
{
    struct http_server_opts opts = wire_opts();
    int fds[2];

    (void)state;
    opts.body_budget_bytes = 15;
    wire_start(&wire, opts);
    for (int i = 0; i < 2; i++)
        fds[i] = wire_connect(&wire);
    wire_send(fds[0], "POST /block HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    sem_wait(&wire.entered);
    wire_send(fds[1], "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    expect_answer(fds[1], 503);
    assert_string_equal(wire_header(&answer, "Retry-After"), "1");
    sem_post(&wire.release);
    expect_answer(fds[0], 200);
    wire_send(fds[0], "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    expect_answer(fds[0], 200); /* the budget is free again */
    close(fds[0]);
    close(fds[1]);
    wire_stop(&wire);
}

static bool is_answered(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) > 0;
}

/* Symptom: a hundred clients that announced a body, and said nothing more, had everybody else refused. */
static void gate__body_that_does_not_come_makes_room(void **state)
{
    struct http_server_opts opts = wire_opts();
    int silent, other;

    (void)state;
    opts.body_budget_bytes = 15;
    opts.request_timeout_ms = 60000;
    wire_start(&wire, opts);
    do {
        silent = wire_connect(&wire);
        wire_send(silent, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
        do {
            other = wire_connect(&wire);
            wire_send(other, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
            assert_true(wire_receive(other, &answer));
            if (answer.status != 503) /* while somebody reads from it it doesn't wait yet */
                assert_int_equal(answer.status, 200);
            close(other);
        } while (!is_answered(silent));
        assert_true(wire_receive(silent, &answer));
        close(silent);
    } while (answer.status ==
             503); /* the other was read first, and there was no room for this one */
    assert_int_equal(answer.status, 408);
    while (wire_ask(&wire,
                    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n012345678901234",
                    &answer, NULL) == 503)
        ; /* all of it is free again, in a moment */
    assert_int_equal(answer.status, 200);
    wire_stop(&wire);
}

/* --- clients that go -------------------------------------------------------------------------- */

/* Data and the end of all data, in one segment. */
static void send_last(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_MORE), (ssize_t)strlen(text));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
}

/* Symptom: one whose last request came together with its good-bye was kept until it had idled for long
 * enough, while other requests were being served. */
static void gate__who_says_goodbye_is_answered_and_let_go(void **state)
{
    enum { COUNT = 40 };
    int64_t start_ms = clock_mono_ms();
    int busy;

    (void)state;
    wire_start(&wire, wire_opts());
    busy = wire_connect(&wire);
    wire_send(busy, "GET /block HTTP/1.1\r\nHost: x\r\n\r\n");
    sem_wait(&wire.entered);
    for (int i = 0; i < COUNT; i++) {
        int fd = wire_connect(&wire);

        send_last(fd, i % 2 ? WIRE_GET : WIRE_GET WIRE_GET);
        expect_answer(fd, 200);
        if (i % 2 == 0)
            expect_answer(fd, 200);
        assert_true(wire_is_closed(fd));
        close(fd);
    }
    assert_true(ms_since(start_ms) < 5000);
    sem_post(&wire.release);
    expect_answer(busy, 200);
    close(busy);
    wire_stop(&wire);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void *release_soon(void *arg)
{
    (void)arg;
    usleep(100 * 1000);
    sem_post(&wire.release);
    return NULL;
}

static void gate__drain_lets_running_requests_finish(void **state)
{
    int running;
    int idle;
    int64_t start_ms;
    pthread_t thread;

    (void)state;
    wire_start(&wire, wire_opts());
    idle = wire_connect(&wire);
    wire_send(idle, WIRE_GET);
    expect_answer(idle, 200);
    running = wire_connect(&wire);
    wire_send(running, "GET /block HTTP/1.1\r\nHost: x\r\n\r\n");
    sem_wait(&wire.entered);
    assert_int_equal(http_server_drain(wire.server, 50), ERR_BUSY);
    assert_true(wire_is_closed(idle));
    start_ms = clock_mono_ms();
    assert_int_equal(pthread_create(&thread, NULL, release_soon, NULL), 0);
    assert_int_equal(http_server_drain(wire.server, 5000), 0);
    assert_true(ms_since(start_ms) < 1000);
    pthread_join(thread, NULL);
    expect_answer(running, 200);
    assert_string_equal(wire_header(&answer, "Connection"), "close");
    assert_true(wire_is_closed(running));
    start_ms = clock_mono_ms();
    http_server_free(wire.server);
    assert_true(ms_since(start_ms) < 1000);
    close(running);
    close(idle);
}

static void gate__drain_waits_for_nobody_who_dawdles(void **state)
{
    int64_t start_ms;
    int fd;

    (void)state;
    wire_start(&wire, wire_opts());
    fd = wire_connect(&wire);
    wire_send(fd, "GET / HT");
    start_ms = clock_mono_ms();
    wire_stop(&wire);
    assert_true(ms_since(start_ms) < 1500);
    assert_true(wire_is_closed(fd));
    close(fd);
}

static void gate__nobody_connects_after_a_drain(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    wire_start(&wire, wire_opts());
    address.sin_port = htons((uint16_t)wire.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(http_server_drain(wire.server, 1000), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
    assert_int_equal(errno, ECONNREFUSED);
    http_server_free(wire.server);
    close(fd);
}

static const char get_huge[] = "GET /huge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/* One that asks for a large answer and gets its beginning, when there is room again. */
static int begin_huge(void)
{
    for (int tries = 0; tries < 100; tries++) {
        char line[13] = "";
        int fd = wire_connect(&wire);

        wire_send(fd, get_huge);
        assert_int_equal(recv(fd, line, 12, MSG_PEEK | MSG_WAITALL), 12);
        if (strcmp(line, "HTTP/1.1 200") == 0)
            return fd;
        close(fd);
        usleep(50 * 1000);
    }
    fail_msg("there is no room");
    return -1;
}

/* Read on until max_bytes are there, or it has ended; how many were. */
static size_t take(int fd, size_t max_bytes)
{
    static char bytes[64 * 1024];
    size_t len = 0;
    ssize_t n = 1;

    while (len < max_bytes && n > 0) {
        n = recv(fd, bytes, max_bytes - len < sizeof(bytes) ? max_bytes - len : sizeof(bytes), 0);
        len += n > 0 ? (size_t)n : 0;
    }
    return len;
}

/* Read so much a second, for so long; by the clock, however seldom this thread gets to it. How many bytes were read. */
static size_t take_slowly(int fd, int kib_per_s, int64_t ms)
{
    int64_t began_ms = clock_mono_ms(), passed_ms = 0;
    size_t got = 0;

    while (passed_ms < ms) {
        usleep(50 * 1000);
        passed_ms = clock_mono_ms() - began_ms;
        got += take(fd, (size_t)(passed_ms * kib_per_s * 1024 / 1000) - got);
    }
    return got;
}

/* Symptom: 140 clients that asked for 15 MiB each and read nothing took more than a gigabyte. */
static void gate__large_answers_have_a_budget(void **state)
{
    static const char post[] = "POST /huge HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    int fd;

    (void)state;
    wire_start(&wire, wire_opts());
    fd = begin_huge();
    assert_int_equal(wire_ask(&wire, get_huge, &answer, NULL), 503);
    assert_non_null(strstr(answer.body, "\"busy\""));
    assert_string_equal(wire_header(&answer, "Retry-After"), "1");
    assert_int_equal(wire_ask(&wire, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", &answer, NULL), 200);
    close(fd);

    fd = begin_huge();
    assert_int_equal(wire_ask(&wire, post, &answer, NULL), 500);
    assert_non_null(strstr(answer.body, "was carried out"));
    close(fd);
    wire_stop(&wire);
}

/* Once somebody else finds no room. */
static void gate__who_takes_nothing_makes_room_for_large_answers(void **state)
{
    struct http_server_opts opts = wire_opts();
    int idle, fd;

    (void)state;
    opts.request_timeout_ms = 60 * 1000; /* it isn't that */
    wire_start(&wire, opts);
    idle = begin_huge();
    usleep(1600 * 1000);
    assert_int_equal(wire_ask(&wire, get_huge, &answer, NULL), 503);
    usleep(500 * 1000);
    fd = begin_huge();
    assert_true(take(fd, 2 * WIRE_HUGE) > WIRE_HUGE);
    assert_true(take(idle, 2 * WIRE_HUGE) < WIRE_HUGE);
    close(fd);
    close(idle);
    wire_stop(&wire);
}

/* 100 KiB a second is little for the system, which tells of room only when there is more: symptom, it was taken
 * for one that takes nothing. */
static void gate__who_reads_slowly_is_kept_however_crowded(void **state)
{
    struct http_server_opts opts = wire_opts();
    size_t got;
    int slow;

    (void)state;
    opts.request_timeout_ms = 60 * 1000;
    wire_start(&wire, opts);
    slow = begin_huge();
    assert_int_equal(wire_ask(&wire, get_huge, &answer, NULL), 503);
    got = take_slowly(slow, 100, 1250);
    got += take(slow, 2 * WIRE_HUGE);
    assert_true(got > WIRE_HUGE);
    close(slow);
    wire_stop(&wire);
}

static atomic_bool is_flooded;

static void *flood(void *arg)
{
    static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = wire_connect(&wire);
    char bytes[4096];

    (void)arg;
    while (atomic_load(&is_flooded) && send(fd, get, sizeof(get) - 1, MSG_NOSIGNAL) > 0 &&
           recv(fd, bytes, sizeof(bytes), 0) > 0)
        ;
    close(fd);
    return NULL;
}

/* What a client that takes 1 MiB a second got of a large answer, while others ask without end. */
static size_t read_slowly_in_a_flood(int slow)
{
    enum { COUNT = 12 };
    pthread_t threads[COUNT];
    size_t got;

    atomic_store(&is_flooded, true);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flood, NULL), 0);
    got = take_slowly(slow, 1024, 2000);
    atomic_store(&is_flooded, false);
    for (int i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    return got + take(slow, 2 * WIRE_HUGE);
}

/* Symptom: a download was cut off after half a second whenever the server was busy, though most of the workers
 * had nothing to do. */
static void gate__who_reads_slowly_is_kept_while_there_are_workers(void **state)
{
    struct http_server_opts opts = wire_opts();
    int slow;

    (void)state;
    opts.request_timeout_ms = 60 * 1000;
    opts.threads = 8;
    wire_start(&wire, opts);
    slow = begin_huge();
    assert_true(read_slowly_in_a_flood(slow) > WIRE_HUGE);
    close(slow);
    wire_stop(&wire);
}

static void gate__who_reads_slowly_is_cut_off_when_the_others_need_its_worker(void **state)
{
    struct http_server_opts opts = wire_opts();
    int slow;

    (void)state;
    opts.request_timeout_ms = 60 * 1000;
    opts.threads = 2;
    wire_start(&wire, opts);
    slow = begin_huge();
    assert_true(read_slowly_in_a_flood(slow) < WIRE_HUGE);
    close(slow);
    wire_stop(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate__idle_and_trickling_clients_cost_no_worker),
        cmocka_unit_test(gate__busy_connections_share_the_workers),
        cmocka_unit_test(gate__long_calls_leave_the_others_their_pace),
        cmocka_unit_test(gate__slow_uploads_cost_no_worker),
        cmocka_unit_test(gate__slow_headers_are_cut),
        cmocka_unit_test(gate__slow_bodies_are_cut),
        cmocka_unit_test(gate__idle_connections_are_closed),
        cmocka_unit_test(gate__time_is_kept_while_all_workers_are_busy),
        cmocka_unit_test(gate__client_may_speak_while_it_is_served),
        cmocka_unit_test(gate__large_bodies_at_once_are_all_read),
        cmocka_unit_test(gate__longest_idle_makes_room),
        cmocka_unit_test(gate__served_connections_are_never_closed_for_room),
        cmocka_unit_test(gate__bodies_have_a_budget),
        cmocka_unit_test(gate__body_that_does_not_come_makes_room),
        cmocka_unit_test(gate__who_says_goodbye_is_answered_and_let_go),
        cmocka_unit_test(gate__drain_lets_running_requests_finish),
        cmocka_unit_test(gate__drain_waits_for_nobody_who_dawdles),
        cmocka_unit_test(gate__nobody_connects_after_a_drain),
        cmocka_unit_test(gate__large_answers_have_a_budget),
        cmocka_unit_test(gate__who_takes_nothing_makes_room_for_large_answers),
        cmocka_unit_test(gate__who_reads_slowly_is_kept_while_there_are_workers),
        cmocka_unit_test(gate__who_reads_slowly_is_cut_off_when_the_others_need_its_worker),
        cmocka_unit_test(gate__who_reads_slowly_is_kept_however_crowded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
