/* SPDX-License-Identifier: MIT */
#include "app/input_file.h"

#include "base/clock.h"
#include "unit/store/temp_dir.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

static void reads(const char *path, const char *wanted)
{
    struct buf text = BUF_INIT(65536);
    struct err err = {0};

    if (input_file_read(path, &text, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(buf_text(&text), wanted);
    buf_release(&text);
}

static void refuses(const char *path, int code, const char *wanted)
{
    struct buf text = BUF_INIT(65536);
    struct err err = {0};

    assert_int_equal(input_file_read(path, &text, &err), code);
    assert_string_equal(err.text, wanted);
    buf_release(&text);
}

static void input_file__files(void **state)
{
    FILE *stream = fopen("test.txt", "w");

    (void)state;
    fputs("a\nb", stream);
    fclose(stream);
    reads("test.txt", "a\nb");
    reads("/dev/null", "");
    refuses("absent.txt", ERR_IO, "cannot read 'absent.txt': No such file or directory");
    refuses(".", ERR_IO, "cannot read '.': Is a directory");
}

/* Symptom: a start with --env-file /dev/zero never came to an end, and took all memory. */
static void input_file__endless_one_is_too_large(void **state)
{
    (void)state;
    refuses("/dev/zero", ERR_INVALID, "'/dev/zero' is too large: 64 KiB at most");
}

/* Symptom: a start with a pipe's name for a file hung, with no word. */
static void input_file__pipe_without_a_writer_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("fifo", 0600), 0);
    refuses("fifo", ERR_INVALID, "'fifo' is a pipe that nobody writes into");
}

struct writer {
    const char *path;
    const char *first, *second; /* NULL: nothing */
    int before_ms, between_ms;
};

static void *write_slowly(void *arg)
{
    const struct writer *writer = arg;
    int fd;

    usleep((useconds_t)writer->before_ms * 1000);
    fd = open(writer->path, O_WRONLY);
    if (writer->first)
        (void)!write(fd, writer->first, strlen(writer->first));
    usleep((useconds_t)writer->between_ms * 1000);
    if (writer->second)
        (void)!write(fd, writer->second, strlen(writer->second));
    close(fd);
    return NULL;
}

static void input_file__writer_of_a_pipe_is_waited_for(void **state)
{
    static const struct {
        struct writer writer;
        const char *wanted;
    } cases[] = {
        {{"fifo", "a=", "b\n", 0, 0}, "a=b\n"},
        {{"fifo", "a=", "b\n", 0, 300}, "a=b\n"},
        {{"fifo", "a=b\n", NULL, 300, 0}, "a=b\n"},
        {{"fifo", NULL, "a=b\n", 300, 2500}, "a=b\n"}, /* a passphrase was asked for, say */
    };

    (void)state;
    assert_int_equal(mkfifo("fifo", 0600), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct writer writer = cases[i].writer;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, write_slowly, &writer), 0);
        reads("fifo", cases[i].wanted);
        pthread_join(thread, NULL);
    }
}

/* As a shell's <(…) is: its writer may have ended before anybody looks, with or without a word. */
static void input_file__pipe_whose_writer_has_ended(void **state)
{
    static const char *const texts[] = {"a=b\n", ""};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int64_t start_ms = clock_mono_ms();
        char path[64];
        int ends[2];

        assert_int_equal(pipe(ends), 0);
        (void)!write(ends[1], texts[i], strlen(texts[i]));
        close(ends[1]);
        snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
        reads(path, texts[i]);
        assert_true(clock_mono_ms() - start_ms < 1500);
        close(ends[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(input_file__files),
        IN_TEMP_DIR(input_file__endless_one_is_too_large),
        IN_TEMP_DIR(input_file__pipe_without_a_writer_is_refused),
        IN_TEMP_DIR(input_file__writer_of_a_pipe_is_waited_for),
        IN_TEMP_DIR(input_file__pipe_whose_writer_has_ended),
    };

    return cmocka_run_group_tests_name("input_file", tests, NULL, NULL);
}
