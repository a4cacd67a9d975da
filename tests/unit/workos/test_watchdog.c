/* SPDX-License-Identifier: MIT */
#include "workos/watchdog.h"

#include "base/clock.h"
#include "base/log.h"
#include "unit/store/temp_dir.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)
#define NOTE "test.db.watchdog"

/* TSan keeps a stack of its own beside the thread's, and that runs over first. */
#if defined(__SANITIZE_THREAD__)
enum { HAS_SHADOW_STACK = 1 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { HAS_SHADOW_STACK = 1 };
#else
enum { HAS_SHADOW_STACK = 0 };
#endif
#else
enum { HAS_SHADOW_STACK = 0 };
#endif

enum { LIMIT_MS = 20, PATIENCE_MS = 30000 };

static const struct watchdog_opts opts = {
    .note_path = NOTE,
    .limit_ms = {[WATCHDOG_EVENT] = LIMIT_MS, [WATCHDOG_ACTION] = LIMIT_MS},
    .catch_signals = true,
};

static const struct watchdog_opts patient = {
    .note_path = NOTE,
    .limit_ms = {[WATCHDOG_EVENT] = PATIENCE_MS, [WATCHDOG_ACTION] = PATIENCE_MS},
    .catch_signals = true,
};

static void write_file(const char *bytes, size_t len)
{
    FILE *file = fopen(NOTE, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

static struct watchdog_note read_note(void)
{
    struct watchdog_note note;
    struct err err = {0};

    if (watchdog_read_note(NOTE, &note, &err) < 0)
        fail_msg("%s", err.text);
    return note;
}

/* ------------------------------------------------------------------------- the note */

static void note__absent_is_none(void **state)
{
    (void)state;
    assert_false(read_note().found);
}

static void note__is_read_line_by_line(void **state)
{
    const char text[] = "id=event_1\ntype=user.created\nreason=it = hung\nnew=member\n\nid=later\n";
    struct watchdog_note note;

    (void)state;
    write_file(text, sizeof(text));
    note = read_note();
    assert_true(note.found);
    assert_string_equal(note.id, "event_1");
    assert_string_equal(note.type, "user.created");
    assert_string_equal(note.reason, "it = hung");
}

/* Root may run a command beside the database of a user who isn't root. */
static void note__link_is_not_followed(void **state)
{
    struct watchdog *watchdog = NULL;
    struct stat st;
    struct err err;

    (void)state;
    write_file("x", 1);
    assert_int_equal(rename(NOTE, "precious"), 0);
    assert_int_equal(symlink("precious", NOTE), 0);
    assert_int_equal(watchdog_start(&watchdog, &opts, &err), ERR_IO);
    assert_non_null(strstr(err.text, NOTE));
    assert_int_equal(stat("precious", &st), 0);
    assert_int_equal(st.st_size, 1);
}

static void note__nonsense_is_none(void **state)
{
    static const char *const texts[] = {"", "\n", "=", "id=event_1\n", "type=\n", "type", "x=y\nz"};
    char zeros[4096] = {0}, noise[10000];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        write_file(texts[i], strlen(texts[i]));
        assert_false(read_note().found);
    }
    write_file(zeros, sizeof(zeros));
    assert_false(read_note().found);
    memset(noise, 'x', sizeof(noise));
    write_file(noise, sizeof(noise));
    assert_false(read_note().found);
}

static void note__long_values_are_cut(void **state)
{
    char text[4000] = "type=";
    struct watchdog_note note;

    (void)state;
    memset(text + 5, 'y', 1000);
    strcpy(text + 1005, "\nid=1\n");
    write_file(text, strlen(text));
    note = read_note();
    assert_int_equal(strlen(note.type), WATCHDOG_NAME_MAX - 1);
    assert_string_equal(note.id, "1");
}

static void note__that_is_no_file_is_an_error(void **state)
{
    struct watchdog *watchdog = NULL;
    struct watchdog_note note;
    struct err err = {0};

    (void)state;
    assert_int_equal(mkdir(NOTE, 0700), 0);
    assert_int_equal(watchdog_read_note(NOTE, &note, &err), ERR_IO);
    assert_non_null(strstr(err.text, NOTE));
    assert_int_equal(watchdog_clear_note(NOTE, &err), ERR_IO);
    assert_int_equal(watchdog_start(&watchdog, &opts, &err), ERR_IO);
    assert_non_null(strstr(err.text, NOTE));
    assert_null(watchdog);
}

/* It has its size from the start, so that it can be written when the disk is full. */
static void note__is_made_at_the_start_for_its_owner_alone(void **state)
{
    struct watchdog *watchdog = NULL;
    struct stat st;
    struct err err;

    (void)state;
    write_file("type=old\n", 9);
    assert_int_equal(chmod(NOTE, 0600), 0);
    assert_int_equal(watchdog_clear_note(NOTE, &err), 0);
    assert_false(read_note().found);
    assert_int_equal(remove(NOTE), 0);
    assert_int_equal(watchdog_start(&watchdog, &opts, &err), 0);
    assert_int_equal(stat(NOTE, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 4096);
    watchdog_stop(watchdog);
    assert_false(read_note().found);
}

/* ------------------------------------------------------------------------- a process that ends */

typedef void child_fn(struct watchdog *watchdog);

/* Run it in a process of its own; how that ended. */
static int run_child(const struct watchdog_opts *child_opts, child_fn *run)
{
    const struct rlimit no_core = {0, 0};
    struct watchdog *watchdog = NULL;
    struct err err;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int quiet = open("/dev/null", O_WRONLY);

        dup2(quiet, STDERR_FILENO);
        signal(SIGSEGV, SIG_DFL); /* cmocka and the sanitizers have actions of their own for them */
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        if (watchdog_start(&watchdog, child_opts, &err) < 0)
            _exit(1);
        run(watchdog);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_ended_by(int status, int signal_number)
{
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal_number);
}

/* Nothing comes of it any more: until the process ends. */
static void hang(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

    while (clock_mono_ms() < deadline_ms)
        nanosleep(&pause, NULL);
}

static void hang_in_event(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    watchdog_leave(watchdog);
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.updated", "event_2");
    hang();
}

static void hang_in_action(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_ACTION, "user_registration", "not noted");
    hang();
}

static void watchdog__hang_in_an_event_aborts_and_names_it(void **state)
{
    struct watchdog_note note;

    (void)state;
    assert_ended_by(run_child(&opts, hang_in_event), SIGABRT);
    note = read_note();
    assert_true(note.found);
    assert_string_equal(note.id, "event_2");
    assert_string_equal(note.type, "user.updated");
    assert_non_null(strstr(note.reason, "could not be interrupted"));
}

static void watchdog__hang_in_an_action_aborts_and_accuses_no_event(void **state)
{
    struct watchdog_note note;

    (void)state;
    assert_ended_by(run_child(&opts, hang_in_action), SIGABRT);
    note = read_note();
    assert_true(note.found);
    assert_string_equal(note.id, "");
    assert_string_equal(note.type, "user_registration");
}

/* The writer is in an event meanwhile, which has nothing to do with it. */
static void hang_in_reading(struct watchdog *watchdog)
{
    struct watchdog_watch watches[3];

    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    watchdog_begin(watchdog, &watches[0], "GET /quick");
    watchdog_begin(watchdog, &watches[1], "GET /hangs");
    watchdog_begin(watchdog, &watches[2], "GET /last");
    watchdog_end(watchdog, &watches[0]);
    watchdog_end(watchdog, &watches[2]);
    hang();
}

static void watchdog__hang_in_reading_aborts_and_accuses_no_event(void **state)
{
    struct watchdog_opts reading = patient;
    struct watchdog_note note;

    (void)state;
    reading.limit_ms[WATCHDOG_READING] = LIMIT_MS;
    assert_ended_by(run_child(&reading, hang_in_reading), SIGABRT);
    note = read_note();
    assert_true(note.found);
    assert_string_equal(note.id, "");
    assert_string_equal(note.type, "GET /hangs");
    assert_non_null(strstr(note.reason, "could not be interrupted"));
}

static void watchdog__without_a_note_aborts_all_the_same(void **state)
{
    struct watchdog_opts without = opts;

    (void)state;
    without.note_path = NULL;
    assert_ended_by(run_child(&without, hang_in_action), SIGABRT);
    assert_int_equal(access(NOTE, F_OK), -1);
}

/* A fault of the machine, which no sanitizer sees coming. */
static void fault(void)
{
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *page = 1;
}

static void crash_in_event(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    fault();
}

static void watchdog__crash_in_a_function_leaves_a_note(void **state)
{
    (void)state;
    assert_ended_by(run_child(&patient, crash_in_event), SIGSEGV);
    assert_string_equal(read_note().id, "event_1");
    assert_non_null(strstr(read_note().reason, "crashed"));
}

static char *volatile deep_end;

static void overflow(size_t depth)
{
    char frame[4096];

    memset(frame, (int)depth, sizeof(frame));
    deep_end = frame;
    if (depth < SIZE_MAX)
        overflow(depth + 1);
    deep_end = frame; /* no tail call */
}

static void *overflow_in_event(void *arg)
{
    watchdog_enter(arg, WATCHDOG_EVENT, "user.created", "event_1");
    overflow(0);
    return NULL;
}

static void *enter_event(void *arg)
{
    watchdog_enter(arg, WATCHDOG_EVENT, "user.created", "event_1");
    return NULL;
}

static void overflow_on_a_thread(struct watchdog *watchdog)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, overflow_in_event, watchdog) == 0)
        pthread_join(thread, NULL);
}

static void watchdog__stack_that_ran_over_leaves_a_note(void **state)
{
    (void)state;
    if (HAS_SHADOW_STACK)
        skip();
    assert_ended_by(run_child(&patient, overflow_on_a_thread), SIGSEGV);
    assert_string_equal(read_note().id, "event_1");
}

static void *run_quick_event(void *arg)
{
    watchdog_enter(arg, WATCHDOG_EVENT, "user.created", "event_0");
    watchdog_leave(arg);
    return NULL;
}

static void overflow_on_the_second_thread(struct watchdog *watchdog)
{
    pthread_t thread;

    run_quick_event(watchdog);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, run_quick_event, watchdog) == 0)
            pthread_join(thread, NULL);
    overflow_on_a_thread(watchdog);
}

/* Any thread may be the writer's, one after the other. */
static void watchdog__stack_of_another_writer_that_ran_over_leaves_a_note(void **state)
{
    (void)state;
    if (HAS_SHADOW_STACK)
        skip();
    assert_ended_by(run_child(&patient, overflow_on_the_second_thread), SIGSEGV);
    assert_string_equal(read_note().id, "event_1");
}

static void abort_in_event(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    abort();
}

static void *crash_elsewhere(void *arg)
{
    (void)arg;
    fault();
    return NULL;
}

static void *abort_elsewhere(void *arg)
{
    (void)arg;
    abort();
}

static void run_beside_event(struct watchdog *watchdog, void *(*run)(void *arg))
{
    pthread_t thread;

    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    if (pthread_create(&thread, NULL, run, NULL) == 0)
        pthread_join(thread, NULL);
}

/* One that was the writer's thread before, and isn't now. */
static void crash_of_a_former_writer(struct watchdog *watchdog)
{
    pthread_t thread;

    run_quick_event(watchdog);
    if (pthread_create(&thread, NULL, enter_event, watchdog) == 0)
        pthread_join(thread, NULL);
    fault();
}

static void crash_of_another_thread(struct watchdog *watchdog)
{
    run_beside_event(watchdog, crash_elsewhere);
}

static void abort_of_another_thread(struct watchdog *watchdog)
{
    run_beside_event(watchdog, abort_elsewhere);
}

static void abort_behind_event(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    watchdog_leave(watchdog);
    abort();
}

static void send_abort_in_event(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    kill(getpid(), SIGABRT);
    hang();
}

static void send_kill_in_event(struct watchdog *watchdog)
{
    watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
    kill(getpid(), SIGKILL);
    hang();
}

static void watchdog__abort_in_a_function_leaves_a_note(void **state)
{
    (void)state;
    assert_ended_by(run_child(&patient, abort_in_event), SIGABRT);
    assert_string_equal(read_note().id, "event_1");
}

static void watchdog__abort_that_is_sent_ends_the_process(void **state)
{
    (void)state;
    assert_ended_by(run_child(&patient, send_abort_in_event), SIGABRT);
    assert_string_equal(read_note().id, "event_1");
}

static void watchdog__what_is_no_functions_fault_accuses_none(void **state)
{
    (void)state;
    assert_ended_by(run_child(&patient, crash_of_another_thread), SIGSEGV);
    assert_false(read_note().found);
    assert_ended_by(run_child(&patient, crash_of_a_former_writer), SIGSEGV);
    assert_false(read_note().found);
    assert_ended_by(run_child(&patient, abort_of_another_thread), SIGABRT);
    assert_false(read_note().found);
    assert_ended_by(run_child(&patient, abort_behind_event), SIGABRT);
    assert_false(read_note().found);
    assert_ended_by(run_child(&patient, send_kill_in_event), SIGKILL);
    assert_false(read_note().found);
}

/* ------------------------------------------------------------------------- a process that lives */

static void watchdog__quick_functions_are_left_alone(void **state)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct watchdog_opts watched = opts;
    struct watchdog *watchdog = NULL;
    int64_t until_ms = clock_mono_ms() + 500; /* some looks */
    struct err err;

    (void)state;
    watched.limit_ms[WATCHDOG_EVENT] = 200; /* a machine that is busy elsewhere is no hang */
    assert_int_equal(watchdog_start(&watchdog, &watched, &err), 0);
    while (clock_mono_ms() < until_ms) {
        watchdog_enter(watchdog, WATCHDOG_EVENT, "user.created", "event_1");
        nanosleep(&pause, NULL);
        watchdog_leave(watchdog);
    }
    watchdog_stop(watchdog);
    assert_false(read_note().found);
}

static void watchdog__quick_readings_are_left_alone(void **state)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct watchdog_opts watched = opts;
    struct watchdog *watchdog = NULL;
    struct watchdog_watch watches[2];
    int64_t until_ms = clock_mono_ms() + 1500; /* more than one could take */
    struct err err;

    (void)state;
    watched.limit_ms[WATCHDOG_READING] = 100;
    assert_int_equal(watchdog_start(&watchdog, &watched, &err), 0);
    watchdog_begin(watchdog, &watches[0], "GET /");
    for (int i = 1; clock_mono_ms() < until_ms; i++) { /* there is always one */
        watchdog_begin(watchdog, &watches[i % 2], "GET /");
        nanosleep(&pause, NULL);
        watchdog_end(watchdog, &watches[(i + 1) % 2]);
    }
    watchdog_stop(watchdog);
    assert_false(read_note().found);
}

static void watchdog__gives_the_signals_back(void **state)
{
    struct watchdog *watchdog = NULL;
    struct sigaction before, after;
    struct err err;

    (void)state;
    sigaction(SIGABRT, NULL, &before);
    assert_int_equal(watchdog_start(&watchdog, &opts, &err), 0);
    sigaction(SIGABRT, NULL, &after);
    assert_ptr_not_equal(before.sa_handler, after.sa_handler);
    watchdog_stop(watchdog);
    sigaction(SIGABRT, NULL, &after);
    assert_ptr_equal(before.sa_handler, after.sa_handler);
}

static void watchdog__none_is_fine(void **state)
{
    struct watchdog_watch watch;

    (void)state;
    watchdog_enter(NULL, WATCHDOG_EVENT, "x", "y");
    watchdog_leave(NULL);
    watchdog_begin(NULL, &watch, "x");
    watchdog_end(NULL, &watch);
    watchdog_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(note__absent_is_none),
        IN_TEMP_DIR(note__is_read_line_by_line),
        IN_TEMP_DIR(note__link_is_not_followed),
        IN_TEMP_DIR(note__nonsense_is_none),
        IN_TEMP_DIR(note__long_values_are_cut),
        IN_TEMP_DIR(note__that_is_no_file_is_an_error),
        IN_TEMP_DIR(note__is_made_at_the_start_for_its_owner_alone),
        IN_TEMP_DIR(watchdog__hang_in_an_event_aborts_and_names_it),
        IN_TEMP_DIR(watchdog__hang_in_an_action_aborts_and_accuses_no_event),
        IN_TEMP_DIR(watchdog__hang_in_reading_aborts_and_accuses_no_event),
        IN_TEMP_DIR(watchdog__without_a_note_aborts_all_the_same),
        IN_TEMP_DIR(watchdog__crash_in_a_function_leaves_a_note),
        IN_TEMP_DIR(watchdog__stack_that_ran_over_leaves_a_note),
        IN_TEMP_DIR(watchdog__stack_of_another_writer_that_ran_over_leaves_a_note),
        IN_TEMP_DIR(watchdog__abort_in_a_function_leaves_a_note),
        IN_TEMP_DIR(watchdog__abort_that_is_sent_ends_the_process),
        IN_TEMP_DIR(watchdog__what_is_no_functions_fault_accuses_none),
        IN_TEMP_DIR(watchdog__quick_functions_are_left_alone),
        IN_TEMP_DIR(watchdog__quick_readings_are_left_alone),
        IN_TEMP_DIR(watchdog__gives_the_signals_back),
        cmocka_unit_test(watchdog__none_is_fine),
    };

    return cmocka_run_group_tests_name("watchdog", tests, NULL, NULL);
}
