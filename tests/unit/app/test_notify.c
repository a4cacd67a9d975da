/* SPDX-License-Identifier: MIT */
#include "app/notify.h"

#include "unit/store/temp_dir.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

/* ------------------------------------------------------------------------- a supervisor */

struct supervisor {
    int fd;
    char name[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* as in NOTIFY_SOCKET */
};

static struct supervisor supervise(bool is_abstract)
{
    struct supervisor s = {.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len;

    assert_true(s.fd >= 0);
    if (is_abstract) {
        snprintf(s.name, sizeof(s.name), "@authkitd-test-%ld", (long)getpid());
    } else {
        assert_non_null(getcwd(s.name, sizeof(s.name) - 8));
        strcat(s.name, "/notify");
    }
    memcpy(address.sun_path, s.name, strlen(s.name) + 1);
    if (is_abstract)
        address.sun_path[0] = '\0';
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(s.name));
    assert_int_equal(bind(s.fd, (struct sockaddr *)&address, len), 0);
    setenv("NOTIFY_SOCKET", s.name, 1);
    return s;
}

/* The next message, or "" when there is none. */
static const char *hear(const struct supervisor *s)
{
    static char text[8192];
    ssize_t len = recv(s->fd, text, sizeof(text) - 1, 0);

    if (len < 0)
        assert_int_equal(errno, EAGAIN);
    text[len < 0 ? 0 : len] = '\0';
    return text;
}

static int clear_environment(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

static void hears_a_life(bool is_abstract)
{
    struct supervisor s = supervise(is_abstract);
    struct notify notify;
    int64_t usec;
    char rest[64];

    notify_open(&notify);
    notify_ready(&notify, "listening");
    assert_string_equal(hear(&s), "READY=1\nSTATUS=listening");
    notify_reloading(&notify);
    assert_int_equal(
        sscanf(hear(&s), "RELOADING=1\nMONOTONIC_USEC=%" SCNd64 "\nSTATUS=%63[^\n]", &usec, rest),
        2);
    assert_true(usec > 0);
    assert_string_equal(rest, "loading the script again");
    notify_reloaded(&notify, "script loaded");
    assert_string_equal(hear(&s), "READY=1\nSTATUS=script loaded");
    notify_stopping(&notify, "stopping");
    assert_string_equal(hear(&s), "STOPPING=1\nSTATUS=stopping");
    assert_string_equal(hear(&s), "");
    notify_close(&notify);
    close(s.fd);
}

static void notify__a_life_over_a_path(void **state)
{
    (void)state;
    hears_a_life(false);
}

static void notify__a_life_over_an_abstract_socket(void **state)
{
    (void)state;
    hears_a_life(true);
}

/* ------------------------------------------------------------------------- order */

static void notify__a_reload_makes_nobody_ready(void **state)
{
    struct supervisor s = supervise(false);
    struct notify notify;

    (void)state;
    notify_open(&notify);
    notify_reloading(&notify); /* a reload while the server is still starting */
    notify_reloaded(&notify, "script loaded");
    assert_string_equal(hear(&s), "");
    notify_ready(&notify, "listening");
    assert_string_equal(hear(&s), "READY=1\nSTATUS=listening");
    notify_reloading(&notify);
    hear(&s);
    notify_stopping(&notify, "stopping");
    hear(&s);
    notify_reloaded(&notify, "script loaded"); /* a reload that ends while it stops */
    notify_reloading(&notify);
    assert_string_equal(hear(&s), "");
    notify_close(&notify);
    close(s.fd);
}

static void notify__status_is_one_line_of_utf8(void **state)
{
    struct supervisor s = supervise(false);
    struct notify notify;
    char status[2 * NOTIFY_STATUS_MAX];
    const char *heard;

    (void)state;
    notify_open(&notify);
    notify_ready(&notify, "a\nREADY=0\r\x01\xff\xc3\xa9");
    assert_string_equal(hear(&s), "READY=1\nSTATUS=a READY=0  ?\xc3\xa9");
    memset(status, 'x', sizeof(status) - 1);
    status[sizeof(status) - 1] = '\0';
    notify_ready(&notify, status);
    heard = hear(&s);
    assert_int_equal(strlen(heard), strlen("READY=1\nSTATUS=") + NOTIFY_STATUS_MAX - 1);
    notify_close(&notify);
    close(s.fd);
}

/* ------------------------------------------------------------------------- the watchdog */

static void notify__alive_only_when_somebody_waits_for_it(void **state)
{
    struct supervisor s = supervise(false);
    struct notify notify;

    (void)state;
    notify_open(&notify);
    notify_alive(&notify);
    assert_string_equal(hear(&s), "");
    notify_close(&notify);
    close(s.fd);
}

static void notify__alive_at_half_of_the_time(void **state)
{
    static const struct {
        const char *usec;
        int within_ms;
    } cases[] = {{"3000000", 1500}, {"60000000", 10000}, {"1000", 1}, {"1", 1}};
    struct supervisor s = supervise(false);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct notify notify;

        setenv("NOTIFY_SOCKET", s.name, 1);
        setenv("WATCHDOG_USEC", cases[i].usec, 1);
        notify_open(&notify);
        assert_int_equal(notify_alive_within_ms(&notify), cases[i].within_ms);
        notify_alive(&notify);
        assert_string_equal(hear(&s), "WATCHDOG=1");
        notify_close(&notify);
    }
    close(s.fd);
}

static void notify__watchdog_of_another_process(void **state)
{
    struct supervisor s = supervise(false);
    struct notify notify;
    char pid[32];

    (void)state;
    for (int mine = 0; mine <= 1; mine++) {
        snprintf(pid, sizeof(pid), "%ld", (long)getpid() + !mine);
        setenv("NOTIFY_SOCKET", s.name, 1);
        setenv("WATCHDOG_USEC", "1000000", 1);
        setenv("WATCHDOG_PID", pid, 1);
        notify_open(&notify);
        notify_alive(&notify);
        assert_string_equal(hear(&s), mine ? "WATCHDOG=1" : "");
        notify_close(&notify);
    }
    close(s.fd);
}

static void notify__environment_is_taken(void **state)
{
    struct supervisor s = supervise(true);
    struct notify notify;

    (void)state;
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    notify_open(&notify);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    notify_close(&notify);
    close(s.fd);
}

/* ------------------------------------------------------------------------- nobody, or deaf */

static void notify__nobody_there_is_nothing(void **state)
{
    static const char *const names[] = {NULL,
                                        "",
                                        "@",
                                        "notify",
                                        "vsock:2:1234",
                                        "/a-path-that-is-longer-than-any-socket-may-have/"
                                        "a-path-that-is-longer-than-any-socket-may-have/"
                                        "a-path-that-is-longer-than-any-socket-may-have"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct notify notify;

        if (names[i])
            setenv("NOTIFY_SOCKET", names[i], 1);
        setenv("WATCHDOG_USEC", "1000000", 1);
        notify_open(&notify);
        notify_ready(&notify, "listening");
        notify_reloading(&notify);
        notify_reloaded(&notify, "script loaded");
        notify_alive(&notify);
        assert_int_equal(notify_alive_within_ms(&notify), -1);
        notify_stopping(&notify, "stopping");
        notify_close(&notify);
    }
}

static void notify__what_was_not_heard_is_said_again(void **state)
{
    struct supervisor s = supervise(false);
    struct notify notify;

    (void)state;
    assert_int_equal(rename("notify", "away"), 0);
    notify_open(&notify);
    notify_ready(&notify, "listening");
    assert_int_equal(notify_alive_within_ms(&notify), 1000);
    notify_reloading(&notify);
    notify_reloaded(&notify, "script loaded"); /* the latest counts */
    notify_alive(&notify);
    assert_int_equal(rename("away", "notify"), 0);
    notify_alive(&notify);
    assert_string_equal(hear(&s), "READY=1\nSTATUS=script loaded");
    notify_alive(&notify);
    assert_string_equal(hear(&s), "");
    assert_int_equal(notify_alive_within_ms(&notify), 10000);
    notify_close(&notify);
    close(s.fd);
}

static void notify__full_socket_does_not_block(void **state)
{
    struct supervisor s = supervise(false);
    struct notify notify;
    int waiting = 0;

    (void)state;
    setenv("WATCHDOG_USEC", "1000000", 1);
    notify_open(&notify);
    for (int i = 0; i < 10000; i++)
        notify_alive(&notify);
    notify_stopping(&notify, "stopping");
    while (*hear(&s))
        waiting++;
    assert_in_range(waiting, 1, 9999);
    notify_alive(&notify);
    assert_string_equal(hear(&s), "STOPPING=1\nSTATUS=stopping");
    notify_close(&notify);
    close(s.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(notify__a_life_over_a_path),
        IN_TEMP_DIR(notify__a_life_over_an_abstract_socket),
        IN_TEMP_DIR(notify__a_reload_makes_nobody_ready),
        IN_TEMP_DIR(notify__status_is_one_line_of_utf8),
        IN_TEMP_DIR(notify__alive_only_when_somebody_waits_for_it),
        IN_TEMP_DIR(notify__alive_at_half_of_the_time),
        IN_TEMP_DIR(notify__watchdog_of_another_process),
        IN_TEMP_DIR(notify__environment_is_taken),
        IN_TEMP_DIR(notify__nobody_there_is_nothing),
        IN_TEMP_DIR(notify__what_was_not_heard_is_said_again),
        IN_TEMP_DIR(notify__full_socket_does_not_block),
    };

    return cmocka_run_group_tests_name("notify", tests, clear_environment, clear_environment);
}
