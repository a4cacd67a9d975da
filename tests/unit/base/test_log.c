/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include "base/json.h"
#include "base/text.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error goes into a pipe between listen_to_log and what_was_logged. */
static int real_stderr, ear;
static char heard[200000];

static void listen_to_log(enum log_level level, enum log_format format)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 18); /* nobody reads while a test writes */
    real_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    ear = ends[0];
    log_setup(level, format);
}

static const char *what_was_logged(void)
{
    size_t len = 0;
    ssize_t n;

    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    while ((n = read(ear, heard + len, sizeof(heard) - 1 - len)) > 0)
        len += (size_t)n;
    close(ear);
    heard[len] = '\0';
    assert_int_equal(strlen(heard), len);
    return heard;
}

static bool is_readable(int fd)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};

    return poll(&in, 1, 0) > 0;
}

static size_t count_lines(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += *text == '\n';
    return count;
}

/* The line behind its time, which differs. */
static const char *without_time(const char *line)
{
    assert_int_equal(line[24], ' ');
    assert_int_equal(line[23], 'Z');
    return line + 25;
}

static void log__text_line(void **state)
{
    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("event failed", log_str("id", "event_01"), log_str("error", "a: b"),
             log_str("absent", NULL), log_int("n", INT64_MIN), log_str("empty", ""));
    assert_string_equal(without_time(what_was_logged()),
                        "INFO  event failed  id=event_01  error=\"a: b\""
                        "  n=-9223372036854775808  empty=\"\"\n");
}

static void log__levels(void **state)
{
    (void)state;
    listen_to_log(LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    log_debug("no");
    log_info("no");
    log_warn("yes");
    log_error("yes");
    assert_false(log_is_on(LOG_LEVEL_INFO));
    assert_true(log_is_on(LOG_LEVEL_ERROR));
    assert_int_equal(count_lines(what_was_logged()), 2);
    assert_null(strstr(heard, "no"));
}

/* Whatever strangers put into names and emails: it stays in its line, and in its field. */
static void log__nobody_forges_a_line(void **state)
{
    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("a\nb\rc\x1b[31m\x7f", log_str("x", "1\n2\r\x1b[31m\""), log_str("y", "a=b"),
             log_bytes("z", "a\0b\xff", 4));
    assert_int_equal(count_lines(what_was_logged()), 1);
    assert_string_equal(without_time(heard),
                        "INFO  a\\nb\\x0dc\\x1b[31m\\x7f  x=\"1\\n2\\r\\u001b[31m\\\"\"  y=\"a=b\""
                        "  z=\"a\\u0000b\uFFFD\"\n");
}

#define TRICKS      \
    "\x7f|\xC2\x9B" \
    "31m|\xC2\x85|\u2028|\u2029|\u202e|\u2066"
#define SHOWN "|\\u009b31m|\\u0085|\\u2028|\\u2029|\\u202e|\\u2066"

/* Symptom: a name with U+009B in it coloured the terminal of whoever read the log. */
static void log__nobody_plays_tricks_on_a_terminal(void **state)
{
    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info(TRICKS, log_str(TRICKS, TRICKS),
             log_str("fine", "Zo\u00eb \u00a0\u2027\u202f\u2065\u2070"));
    assert_string_equal(without_time(what_was_logged()),
                        "INFO  \\x7f" SHOWN "  \\x7f" SHOWN "=\"\\u007f" SHOWN "\""
                        "  fine=\"Zo\u00eb \u00a0\u2027\u202f\u2065\u2070\"\n");

    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info(TRICKS, log_str(TRICKS, TRICKS), log_str("fine", "Zo\u00eb"));
    assert_non_null(strstr(what_was_logged(), "\"msg\":\"\\u007f" SHOWN "\",\"\\u007f" SHOWN
                                              "\":\"\\u007f" SHOWN "\",\"fine\":\"Zo\u00eb\"}\n"));
}

/* A key may be a stranger's too: ctx.log.info("x", event.data.metadata). */
static void log__nobody_forges_a_line_by_a_key(void **state)
{
    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("a", log_str("k\n2026-01-12T20:17:47.677Z ERROR forged", "x"), log_int("\x1b[31m", 1));
    assert_int_equal(count_lines(what_was_logged()), 1);
    assert_null(strchr(heard, '\x1b'));
}

static void log__line_stays_utf8(void **state)
{
    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("bad \xff byte");
    what_was_logged();
    assert_true(text_is_utf8(heard, strlen(heard)));
}

static void log__json_line_is_json(void **state)
{
    struct json json = {0};
    struct err err;

    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_warn("a\n\"b\" \xff", log_str("k\n\"", "1\n\x1b"), log_int("n", INT64_MAX),
             log_str("absent", NULL), log_bytes("z", "\0", 1));
    what_was_logged();
    assert_int_equal(count_lines(heard), 1);
    if (json_read(&json, heard, strlen(heard), &err) < 0)
        fail_msg("%s: %s", err.text, heard);
    assert_true(json_equals(&json, json_member(&json, 0, "level"), "warn"));
    assert_true(json_equals(&json, json_member(&json, 0, "msg"), "a\n\"b\" \uFFFD"));
    assert_true(json_equals(&json, json_member(&json, 0, "k\n\""), "1\n\x1b"));
    assert_int_equal(json_member(&json, 0, "absent"), JSON_ABSENT);
    json_release(&json);
}

static void is_whole_json(const char *line)
{
    struct json json = {0};
    struct err err;

    if (json_read(&json, line, strlen(line), &err) < 0)
        fail_msg("%s: %.60s", err.text, line);
    json_release(&json);
}

static void log__long_fields_are_left_out(void **state)
{
    static char longest[40000];

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("short", log_str("long", longest));
    what_was_logged();
    assert_int_equal(count_lines(heard), 1);
    is_whole_json(heard);
    assert_non_null(strstr(heard, "short"));
}

/* A script may log any message: half a line without its end would swallow the next one. */
static void log__long_message_is_cut_to_a_whole_line(void **state)
{
    static const size_t lengths[] = {16000, 16330, 16340, 16350, 16360, 16384, 17000, 39999};
    static char longest[40000];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
            memset(longest, 'x', lengths[i]);
            longest[lengths[i]] = '\0';
            listen_to_log(LOG_LEVEL_INFO, (enum log_format)format);
            log_info(longest, log_str("k", "v"));
            what_was_logged();
            assert_true(strlen(heard) <= LOG_LINE_MAX + 1);
            assert_int_equal(count_lines(heard), 1);
            if (format == LOG_FORMAT_JSON)
                is_whole_json(heard);
        }
    }
}

static void log__control_characters_that_grow_are_cut_too(void **state)
{
    static char longest[8192];

    (void)state;
    memset(longest, '\x01', sizeof(longest) - 1);
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info(longest);
    what_was_logged();
    assert_int_equal(count_lines(heard), 1);
    is_whole_json(heard);
}

/* Symptom: a server whose log nobody read hung, and heard no SIGTERM. */
static void log__nobody_waits_for_a_reader_that_does_not_read(void **state)
{
    static char filler[4096];

    (void)state;
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
    memset(filler, '-', sizeof(filler));
    while (write(STDERR_FILENO, filler, sizeof(filler)) > 0)
        ;
    fcntl(STDERR_FILENO, F_SETFL, 0);
    for (int i = 0; i < 5000; i++) /* of which only the first may wait */
        log_info("lost");
    while (read(ear, filler, sizeof(filler)) == sizeof(filler) &&
           filler[sizeof(filler) - 1] == '-' && is_readable(ear))
        ;
    log_info("heard");
    log_info("heard, too");
    what_was_logged();
    assert_non_null(
        strstr(heard, "lines of this log were lost, since nobody took them  lines=5000\n"));
    assert_int_equal(count_lines(heard), 3);
    assert_non_null(strstr(heard, "INFO  heard, too\n"));
}

static char long_text[12000];

static void *log_long_lines(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++)
        log_info("long", log_bytes("text", long_text, sizeof(long_text)));
    return NULL;
}

/* There is room in the pipe, but not for all of them: who sees it last finds none. */
static void log__threads_do_not_wait_for_it_either(void **state)
{
    pthread_t threads[8];

    (void)state;
    memset(long_text, 'x', sizeof(long_text));
    listen_to_log(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_long_lines, NULL), 0);
    for (int i = 0; i < 8; i++) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 30;
        assert_int_equal(pthread_timedjoin_np(threads[i], NULL, &until), 0);
    }
    what_was_logged();
    assert_true(count_lines(heard) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log__text_line),
        cmocka_unit_test(log__levels),
        cmocka_unit_test(log__nobody_forges_a_line),
        cmocka_unit_test(log__nobody_plays_tricks_on_a_terminal),
        cmocka_unit_test(log__nobody_forges_a_line_by_a_key),
        cmocka_unit_test(log__line_stays_utf8),
        cmocka_unit_test(log__json_line_is_json),
        cmocka_unit_test(log__long_fields_are_left_out),
        cmocka_unit_test(log__long_message_is_cut_to_a_whole_line),
        cmocka_unit_test(log__control_characters_that_grow_are_cut_too),
        cmocka_unit_test(log__nobody_waits_for_a_reader_that_does_not_read),
        cmocka_unit_test(log__threads_do_not_wait_for_it_either),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
