/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>

/* All but those that a fault of the thread's own raises: blocked, they would kill without a word. */
static void fill_mask(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

    sigfillset(set);
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        sigdelset(set, faults[i]);
}

int thread_start(pthread_t *out, const char *name, void *(*run)(void *arg), void *arg,
                 struct err *err)
{
    sigset_t all, old;
    pthread_t thread;
    int rc;

    fill_mask(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        errno = rc;
        return err_errno(err, ERR_NOMEM, "cannot start the thread '%s'", name);
    }
    pthread_setname_np(thread, name);
    *out = thread;
    return 0;
}

static _Thread_local const struct thread_wait_hook *wait_hook;

void thread_set_wait_hook(const struct thread_wait_hook *hook)
{
    wait_hook = hook;
}

void thread_wait_begin(void)
{
    if (wait_hook)
        wait_hook->begin(wait_hook->arg);
}

void thread_wait_end(void)
{
    if (wait_hook)
        wait_hook->end(wait_hook->arg);
}

int thread_processors(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

struct timespec thread_after_ms(int64_t ms)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += (time_t)(ms / 1000);
    ts.tv_nsec += (long)(ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_nsec -= 1000000000;
        ts.tv_sec++;
    }
    return ts;
}
