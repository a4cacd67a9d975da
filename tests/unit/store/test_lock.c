/* SPDX-License-Identifier: MIT */
#include "store/lock.h"

#include "temp_dir.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct lock *acquire(const char *db_path)
{
    struct lock *lock = NULL;
    struct err err = {0};

    if (lock_acquire(&lock, db_path, &err) < 0)
        fail_msg("%s", err.text);
    return lock;
}

static void lock__second_is_refused_with_pid(void **state)
{
    struct lock *lock = acquire("a.db"), *second = NULL;
    char expected[200];
    struct err err;

    (void)state;
    snprintf(expected, sizeof(expected), "a.db is in use by another authkitd (pid %ld)",
             (long)getpid());
    assert_int_equal(lock_acquire(&second, "a.db", &err), ERR_BUSY);
    assert_string_equal(err.text, expected);
    assert_null(second);
    lock_release(lock);
}

static void lock__released_can_be_taken_again(void **state)
{
    (void)state;
    lock_release(acquire("a.db"));
    lock_release(acquire("a.db"));
    lock_release(NULL);
}

static void lock__databases_have_locks_of_their_own(void **state)
{
    struct lock *a = acquire("a.db"), *b = acquire("b.db");

    (void)state;
    lock_release(a);
    lock_release(b);
}

static void lock__file_is_private(void **state)
{
    struct lock *lock = acquire("a.db");
    struct stat st;

    (void)state;
    assert_int_equal(stat("a.db.lock", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    lock_release(lock);
    assert_int_equal(stat("a.db.lock", &st), 0); /* it stays */
}

static void lock__two_names_of_one_file_are_one_lock(void **state)
{
    struct lock *lock = NULL, *second = NULL;
    struct err err;
    int fd = open("a.db", O_CREAT | O_WRONLY, 0600);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(symlink("a.db", "link.db"), 0);
    lock = acquire("a.db");
    assert_int_equal(lock_acquire(&second, "link.db", &err), ERR_BUSY);
    lock_release(lock);
}

/* Whoever tidies up the folder of a running server must not make room for a second one. */
static void lock__removed_file_and_second_name_make_no_room(void **state)
{
    struct lock *lock = NULL, *second = NULL;
    struct err err;
    int fd;

    (void)state;
    lock = acquire("a.db");
    fd = open("a.db", O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(lock_database(lock, "a.db", &err), 0);
    assert_int_equal(unlink("a.db.lock"), 0);
    assert_int_equal(lock_acquire(&second, "a.db", &err), ERR_BUSY);
    assert_non_null(strstr(err.text, "a.db.lock' was removed"));
    assert_int_equal(link("a.db", "b.db"), 0);
    assert_int_equal(lock_acquire(&second, "b.db", &err), ERR_BUSY);
    assert_non_null(
        strstr(err.text, "b.db is in use by another authkitd, which has it under another name"));
    lock_release(lock);
    lock_release(acquire("b.db"));
}

/* Root may run a command beside the database of a user who isn't root. A link under the lock's name would
 * have been written to, and given to that user, whatever it led to. */
static void lock__link_is_not_followed(void **state)
{
    struct lock *lock = NULL;
    struct stat st;
    struct err err;
    int fd = open("precious", O_CREAT | O_WRONLY, 0600);

    (void)state;
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    assert_int_equal(symlink("precious", "a.db.lock"), 0);
    assert_int_equal(lock_acquire(&lock, "a.db", &err), ERR_IO);
    assert_non_null(strstr(err.text, "a.db.lock"));
    assert_int_equal(stat("precious", &st), 0);
    assert_int_equal(st.st_size, 1);
}

/* The same by a second name of the file. */
static void lock__file_of_two_names_is_not_given_away(void **state)
{
    int fd = open("a.db", O_CREAT | O_WRONLY, 0600);
    struct stat st;

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(fchown(fd, 65534, 65534), 0);
    close(fd);
    fd = open("precious", O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(link("precious", "a.db.lock"), 0);
    lock_release(acquire("a.db"));
    assert_int_equal(stat("precious", &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(unlink("a.db.lock"), 0);
    lock_release(acquire("a.db"));
    assert_int_equal(stat("a.db.lock", &st), 0);
    assert_int_equal(st.st_uid, 65534);
}

static void lock__missing_directory_is_named(void **state)
{
    struct lock *lock = NULL;
    struct err err;

    (void)state;
    assert_int_equal(lock_acquire(&lock, "nowhere/a.db", &err), ERR_IO);
    assert_non_null(strstr(err.text, "nowhere/a.db.lock"));
    assert_non_null(strstr(err.text, "its folder isn't there"));
}

/* Symptom: a lock was left beside the link, and the server couldn't start: "No such file or directory". */
static void lock__link_to_nowhere_is_refused(void **state)
{
    struct lock *lock = NULL;
    struct err err;

    (void)state;
    assert_int_equal(symlink("nowhere/b.db", "a.db"), 0);
    assert_int_equal(lock_acquire(&lock, "a.db", &err), ERR_IO);
    assert_non_null(strstr(err.text, "'a.db' is a link to 'nowhere/b.db', which isn't there"));
    assert_int_not_equal(access("a.db.lock", F_OK), 0);
}

static void run_as_nobody(void (*run)(void))
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
            _exit(2);
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void expect_refused_folder(void)
{
    struct lock *lock = NULL;
    struct err err = {0}, checked = {0};

    if (lock_acquire(&lock, "shut/a.db", &err) != ERR_IO ||
        lock_check("shut/a.db", &checked) != ERR_IO ||
        !strstr(err.text, "can't make files in the folder 'shut': Permission denied") ||
        strcmp(err.text, checked.text) != 0) {
        fprintf(stderr, "%s\n%s\n", err.text, checked.text);
        _exit(1);
    }
}

static void expect_refused_file(void)
{
    struct lock *lock = NULL;
    struct err err = {0}, checked = {0};

    if (lock_acquire(&lock, "a.db", &err) != ERR_IO || lock_check("a.db", &checked) != ERR_IO ||
        !strstr(err.text, ") can't open the lock file 'a.db.lock': Permission denied") ||
        strcmp(err.text, checked.text) != 0) {
        fprintf(stderr, "%s\n%s\n", err.text, checked.text);
        _exit(1);
    }
}

/* Symptom: "cannot open the lock file", where it was the folder that this user couldn't write in. */
static void lock__what_this_user_cannot_write_is_named(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(chmod(".", 0777), 0);
    assert_int_equal(mkdir("shut", 0555), 0);
    run_as_nobody(expect_refused_folder);
    assert_int_equal(lock_check("a.db", &err), 0);
    lock_release(acquire("a.db"));
    assert_int_equal(lock_check("a.db", &err), 0);
    assert_int_equal(chmod("a.db.lock", 0), 0);
    run_as_nobody(expect_refused_file);
}

static void lock__peek_finds_nobody(void **state)
{
    struct lock_holder holder;
    struct err err;

    (void)state;
    assert_int_equal(lock_peek("a.db", &holder, &err), ERR_ABSENT);
    lock_release(acquire("a.db"));
    assert_int_equal(lock_peek("a.db", &holder, &err), ERR_ABSENT);
    assert_int_equal(lock_peek("nowhere/a.db", &holder, &err), ERR_ABSENT);
}

static void lock__peek_finds_holder(void **state)
{
    struct lock *lock = acquire("a.db");
    struct lock_holder holder;
    struct err err;

    (void)state;
    assert_int_equal(lock_peek("a.db", &holder, &err), 0);
    assert_int_equal(holder.pid, getpid());
    assert_string_equal(holder.admin, "");
    assert_int_equal(lock_describe(lock, "longer.example.com:9090", &err), 0);
    assert_int_equal(lock_describe(lock, "127.0.0.1:9090", &err), 0);
    assert_int_equal(lock_peek("a.db", &holder, &err), 0);
    assert_int_equal(holder.pid, getpid());
    assert_string_equal(holder.admin, "127.0.0.1:9090");
    lock_release(lock);
}

static void lock__strange_text_is_nobody_known(void **state)
{
    static const char junk[] = "pid=12x\nadmin=\nwhat\n\npid=99999999999999999999\nadmin=no end";
    struct lock *lock = acquire("a.db"), *second = NULL;
    int fd = open("a.db.lock", O_WRONLY | O_TRUNC);
    struct lock_holder holder;
    struct err err;

    (void)state;
    assert_int_equal(write(fd, junk, strlen(junk)), strlen(junk));
    close(fd);
    assert_int_equal(lock_peek("a.db", &holder, &err), 0);
    assert_int_equal(holder.pid, 0);
    assert_string_equal(holder.admin, "");
    assert_int_equal(lock_acquire(&second, "a.db", &err), ERR_BUSY);
    assert_string_equal(err.text, "a.db is in use by another authkitd");
    lock_release(lock);
}

static void lock__address_that_does_not_fit_is_refused(void **state)
{
    struct lock *lock = acquire("a.db");
    char address[LOCK_ADMIN_MAX + 1];
    struct lock_holder holder;
    struct err err;

    (void)state;
    memset(address, 'a', LOCK_ADMIN_MAX);
    address[LOCK_ADMIN_MAX] = '\0';
    assert_int_equal(lock_describe(lock, address, &err), ERR_INVALID);
    assert_int_equal(lock_describe(lock, "a\npid=1", &err), ERR_INVALID);
    address[LOCK_ADMIN_MAX - 1] = '\0';
    assert_int_equal(lock_describe(lock, address, &err), 0);
    assert_int_equal(lock_peek("a.db", &holder, &err), 0);
    assert_string_equal(holder.admin, address);
    lock_release(lock);
}

/* A server that was killed leaves nothing that has to be cleaned up. */
static void lock__goes_with_its_process(void **state)
{
    struct lock *lock = NULL;
    struct lock_holder holder;
    struct err err;
    int ready[2];
    pid_t child;
    char byte;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        struct lock *held;

        if (lock_acquire(&held, "a.db", NULL) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(lock_acquire(&lock, "a.db", &err), ERR_BUSY);
    assert_int_equal(lock_peek("a.db", &holder, &err), 0);
    assert_int_equal(holder.pid, child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(lock_peek("a.db", &holder, &err), ERR_ABSENT);
    lock_release(acquire("a.db"));
    close(ready[0]);
    close(ready[1]);
}

static void *peek_on_and_on(void *arg)
{
    atomic_bool *stop = arg;
    struct lock_holder holder;

    while (!atomic_load(stop))
        (void)!lock_peek("a.db", &holder, NULL);
    return NULL;
}

static void lock__peek_turns_no_server_away(void **state)
{
    atomic_bool stop = false;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, peek_on_and_on, &stop), 0);
    for (int i = 0; i < 100; i++)
        lock_release(acquire("a.db"));
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

#define IN_TEMP_DIR(test) cmocka_unit_test_setup_teardown(test, enter_temp_dir, leave_temp_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(lock__second_is_refused_with_pid),
        IN_TEMP_DIR(lock__released_can_be_taken_again),
        IN_TEMP_DIR(lock__databases_have_locks_of_their_own),
        IN_TEMP_DIR(lock__file_is_private),
        IN_TEMP_DIR(lock__two_names_of_one_file_are_one_lock),
        IN_TEMP_DIR(lock__removed_file_and_second_name_make_no_room),
        IN_TEMP_DIR(lock__link_is_not_followed),
        IN_TEMP_DIR(lock__file_of_two_names_is_not_given_away),
        IN_TEMP_DIR(lock__missing_directory_is_named),
        IN_TEMP_DIR(lock__link_to_nowhere_is_refused),
        IN_TEMP_DIR(lock__what_this_user_cannot_write_is_named),
        IN_TEMP_DIR(lock__peek_finds_nobody),
        IN_TEMP_DIR(lock__peek_finds_holder),
        IN_TEMP_DIR(lock__strange_text_is_nobody_known),
        IN_TEMP_DIR(lock__address_that_does_not_fit_is_refused),
        IN_TEMP_DIR(lock__goes_with_its_process),
        IN_TEMP_DIR(lock__peek_turns_no_server_away),
    };

    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
