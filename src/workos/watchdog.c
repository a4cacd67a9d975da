/* SPDX-License-Identifier: MIT */
#include "workos/watchdog.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NOTE_BYTES = 4096, /* as large as it ever gets: overwriting it needs no room on the disk */
    LOOK_MIN_MS = 20,
    LOOK_MAX_MS = 1000,
    SIGNAL_STACK_BYTES = 65536,
};

static const char *const kind_names[WATCHDOG_KINDS] = {"event", "action", "route", "route"};

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

struct watchdog {
    struct watchdog_opts opts;
    int note_fd; /* -1: none */
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping; /* guarded by lock */

    /* What runs; guarded by lock, but for the signal handler, which reads it as it is. */
    enum watchdog_kind kind;
    char type[WATCHDOG_NAME_MAX], id[WATCHDOG_NAME_MAX];
    uint64_t calls;

    atomic_bool is_running;

    /* The watchdog's own: the call that it saw last, and how long it has watched it. */
    uint64_t watched_call;
    int64_t watched_ms, last_look_ms;

    struct watchdog_watch *watches; /* guarded by lock: what runs beside the writer */

    _Atomic(pthread_t) writer; /* the thread that entered last */
    struct sigaction old_actions[sizeof(fatal_signals) / sizeof(fatal_signals[0])];
};

/* For the signal handler alone. */
static _Atomic(struct watchdog *) signal_watchdog;

/* ---------------------------------------------------------------------------------- the note */

/* Written with nothing but what a signal handler may use. */
struct note_text {
    char bytes[NOTE_BYTES];
    size_t len;
};

static void note_put(struct note_text *note, const char *text)
{
    for (; *text && note->len < sizeof(note->bytes) - 1; text++)
        note->bytes[note->len++] = *text;
}

static void note_put_line(struct note_text *note, const char *key, const char *value)
{
    note_put(note, key);
    note_put(note, "=");
    note_put(note, value);
    note_put(note, "\n");
}

/* id: the event's, or "" when it is none */
static void leave_note(const struct watchdog *watchdog, const char *type, const char *id,
                       const char *reason)
{
    static struct note_text note; /* zeros behind the text; the process writes one note at most */

    if (watchdog->note_fd < 0 || note.len > 0)
        return;
    note_put_line(&note, "id", id);
    note_put_line(&note, "type", type);
    note_put_line(&note, "reason", reason);
    (void)!pwrite(watchdog->note_fd, note.bytes, sizeof(note.bytes), 0);
    fsync(watchdog->note_fd);
}

static const char *event_id(const struct watchdog *watchdog)
{
    return watchdog->kind == WATCHDOG_EVENT ? watchdog->id : "";
}

static int open_note(const char *path, struct err *err)
{
    static const char zeros[NOTE_BYTES];
    /* No link, as for the lock: root would write zeros over what it leads to. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_errno(err, ERR_IO, "cannot open '%s'", path);
    if (pwrite(fd, zeros, sizeof(zeros), 0) != (ssize_t)sizeof(zeros)) {
        err_errno(err, ERR_IO, "cannot write '%s'", path);
        close(fd);
        return ERR_IO;
    }
    return fd;
}

static void take_line(struct watchdog_note *note, const char *key, const char *value)
{
    if (strcmp(key, "id") == 0)
        snprintf(note->id, sizeof(note->id), "%s", value);
    else if (strcmp(key, "type") == 0)
        snprintf(note->type, sizeof(note->type), "%s", value);
    else if (strcmp(key, "reason") == 0)
        snprintf(note->reason, sizeof(note->reason), "%s", value);
}

int watchdog_read_note(const char *path, struct watchdog_note *out, struct err *err)
{
    char text[NOTE_BYTES + 1] = "", *line, *rest = text;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    *out = (struct watchdog_note){0};
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, ERR_IO, "cannot open '%s'", path);
    len = pread(fd, text, NOTE_BYTES, 0);
    close(fd);
    if (len < 0)
        return err_errno(err, ERR_IO, "cannot read '%s'", path);
    while ((line = strsep(&rest, "\n")) && *line) {
        char *value = strchr(line, '=');

        if (!value)
            continue;
        *value = '\0';
        take_line(out, line, value + 1);
    }
    out->found = out->type[0] != '\0';
    return 0;
}

int watchdog_clear_note(const char *path, struct err *err)
{
    int fd = open_note(path, err);

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

/* ---------------------------------------------------------------------------------- signals */

/* By the writer itself; or sent to the process, as by a supervisor that has waited for it for too long. Not by
 * another thread's own abort(). */
static bool concerns_writer(const struct watchdog *watchdog, int signal_number,
                            const siginfo_t *info)
{
    pthread_t writer = atomic_load_explicit(&watchdog->writer, memory_order_relaxed);

    return pthread_equal(pthread_self(), writer) ||
           (signal_number == SIGABRT && info->si_code != SI_TKILL);
}

/*
 * Leave the note, and let happen what would have happened without us: the old action is put back,
 * and the fault comes again. What was sent (si_code: by kill, or by abort) doesn't by itself.
 */
static void on_fatal_signal(int signal_number, siginfo_t *info, void *state)
{
    struct watchdog *watchdog = atomic_load(&signal_watchdog);
    int saved_errno = errno;

    (void)state;
    if (!watchdog)
        return;
    for (size_t i = 0; i < ARRAY_LEN(fatal_signals); i++)
        sigaction(fatal_signals[i], &watchdog->old_actions[i], NULL);
    if (atomic_load(&watchdog->is_running) && concerns_writer(watchdog, signal_number, info))
        leave_note(watchdog, watchdog->type, event_id(watchdog),
                   "the process crashed while its function ran");
    if (info->si_code <= 0)
        raise(signal_number); /* blocked until we return */
    errno = saved_errno;
}

static void catch_signals(struct watchdog *watchdog)
{
    struct sigaction action = {.sa_sigaction = on_fatal_signal,
                               .sa_flags = SA_ONSTACK | SA_SIGINFO};

    sigemptyset(&action.sa_mask);
    atomic_store(&signal_watchdog, watchdog);
    for (size_t i = 0; i < ARRAY_LEN(fatal_signals); i++)
        sigaction(fatal_signals[i], &action, &watchdog->old_actions[i]);
}

static void release_signals(struct watchdog *watchdog)
{
    if (atomic_load(&signal_watchdog) != watchdog)
        return;
    for (size_t i = 0; i < ARRAY_LEN(fatal_signals); i++)
        sigaction(fatal_signals[i], &watchdog->old_actions[i], NULL);
    atomic_store(&signal_watchdog, NULL);
}

static pthread_key_t signal_stack_key;

/* At the end of a thread. */
static void take_signal_stack(void *stack)
{
    const stack_t none = {.ss_flags = SS_DISABLE};

    sigaltstack(&none, NULL);
    free(stack);
}

static void make_signal_stack_key(void)
{
    if (pthread_key_create(&signal_stack_key, take_signal_stack) != 0)
        abort(); /* there are a thousand, and we use a few */
}

/*
 * So that even a stack that ran over leaves a note. A thread that has one keeps it: AddressSanitizer gives one
 * to every thread, and takes it back at its end. Without memory there is none.
 */
static void give_signal_stack(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    stack_t stack = {.ss_size = SIGNAL_STACK_BYTES}, found;

    pthread_once(&once, make_signal_stack_key);
    if (sigaltstack(NULL, &found) < 0 || !(found.ss_flags & SS_DISABLE))
        return;
    stack.ss_sp = malloc(stack.ss_size);
    if (stack.ss_sp && pthread_setspecific(signal_stack_key, stack.ss_sp) == 0)
        sigaltstack(&stack, NULL);
    else
        free(stack.ss_sp);
}

/* The writer's thread may be another one than at the last call. */
static void note_writer(struct watchdog *watchdog)
{
    static _Thread_local bool has_signal_stack;

    atomic_store_explicit(&watchdog->writer, pthread_self(), memory_order_relaxed);
    if (watchdog->opts.catch_signals && !has_signal_stack)
        give_signal_stack();
    has_signal_stack |= watchdog->opts.catch_signals;
}

/* ---------------------------------------------------------------------------------- the thread */

static void bite(struct watchdog *watchdog, enum watchdog_kind kind, const char *type,
                 const char *id, int64_t ran_ms)
{
    char reason[WATCHDOG_REASON_MAX];

    snprintf(reason, sizeof(reason),
             "its function ran for %lld ms and could not be interrupted; the process was aborted",
             (long long)ran_ms);
    log_error("a function hangs where Lua can't interrupt it; aborting, to be started again",
              log_str(kind_names[kind], type), log_str("id", id), log_int("ran_ms", ran_ms));
    leave_note(watchdog, type, kind == WATCHDOG_EVENT ? id : "", reason);
    release_signals(watchdog); /* the note is written */
    abort();
}

static bool is_too_long(const struct watchdog *watchdog, enum watchdog_kind kind, int64_t ran_ms)
{
    return ran_ms > (int64_t)watchdog->opts.limit_ms[kind] * WATCHDOG_FACTOR;
}

static void look_at_writer(struct watchdog *watchdog, int64_t passed_ms)
{
    if (!atomic_load(&watchdog->is_running) || watchdog->watched_call != watchdog->calls) {
        watchdog->watched_call = watchdog->calls;
        watchdog->watched_ms = 0;
        return;
    }
    watchdog->watched_ms += passed_ms;
    if (is_too_long(watchdog, watchdog->kind, watchdog->watched_ms))
        bite(watchdog, watchdog->kind, watchdog->type, watchdog->id, watchdog->watched_ms);
}

/* How long a thread, which is there, has had a processor. */
static int64_t processor_ms(pthread_t thread)
{
    struct timespec time = {0};
    clockid_t clock;

    if (pthread_getcpuclockid(thread, &clock) == 0)
        clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void look_at_watch(struct watchdog *watchdog, struct watchdog_watch *watch,
                          int64_t passed_ms)
{
    int64_t had_ms = processor_ms(watch->thread);

    if (!watch->was_seen) {
        watch->was_seen = true;
        watch->idle_ms = had_ms;
        return;
    }
    watch->watched_ms += passed_ms;
    if (is_too_long(watchdog, WATCHDOG_READING, had_ms - watch->idle_ms) ||
        is_too_long(watchdog, WATCHDOG_READING, watch->watched_ms / WATCHDOG_PATIENCE))
        bite(watchdog, WATCHDOG_READING, watch->type, "", watch->watched_ms);
}

static void look_beside_writer(struct watchdog *watchdog, int64_t passed_ms)
{
    for (struct watchdog_watch *watch = watchdog->watches; watch; watch = watch->next)
        look_at_watch(watchdog, watch, passed_ms);
}

/*
 * Called with the lock held, which who hangs, where he is now, won't miss. Time is counted from look
 * to look and never more than twice what should lie between them: a process that was stopped for a
 * minute (SIGSTOP, a paused machine) must not take that for a minute's work.
 */
static void look(struct watchdog *watchdog, int interval_ms)
{
    int64_t now_ms = clock_mono_ms(), passed_ms = now_ms - watchdog->last_look_ms;

    watchdog->last_look_ms = now_ms;
    if (passed_ms > 2 * interval_ms)
        passed_ms = 2 * interval_ms;
    look_at_writer(watchdog, passed_ms);
    look_beside_writer(watchdog, passed_ms);
}

static int look_interval_ms(const struct watchdog *watchdog)
{
    int interval_ms = LOOK_MAX_MS;

    for (int kind = 0; kind < WATCHDOG_KINDS; kind++)
        if (watchdog->opts.limit_ms[kind] * WATCHDOG_FACTOR / 4 < interval_ms)
            interval_ms = watchdog->opts.limit_ms[kind] * WATCHDOG_FACTOR / 4;
    return interval_ms > LOOK_MIN_MS ? interval_ms : LOOK_MIN_MS;
}

static void *watchdog_main(void *arg)
{
    struct watchdog *watchdog = arg;
    int interval_ms = look_interval_ms(watchdog);

    pthread_mutex_lock(&watchdog->lock);
    while (!watchdog->stopping) {
        struct timespec until = thread_after_ms(interval_ms);

        pthread_cond_clockwait(&watchdog->wake, &watchdog->lock, CLOCK_MONOTONIC, &until);
        look(watchdog, interval_ms);
    }
    pthread_mutex_unlock(&watchdog->lock);
    return NULL;
}

int watchdog_start(struct watchdog **out, const struct watchdog_opts *opts, struct err *err)
{
    struct watchdog *watchdog = calloc(1, sizeof(*watchdog));
    int rc = 0;

    if (!watchdog)
        return err_set(err, ERR_NOMEM, "no memory for the watchdog");
    watchdog->opts = *opts;
    watchdog->note_fd = opts->note_path ? open_note(opts->note_path, err) : -1;
    if (opts->note_path && watchdog->note_fd < 0) {
        free(watchdog);
        return ERR_IO;
    }
    pthread_mutex_init(&watchdog->lock, NULL);
    pthread_cond_init(&watchdog->wake, NULL);
    if (opts->catch_signals)
        catch_signals(watchdog);
    rc = thread_start(&watchdog->thread, "watchdog", watchdog_main, watchdog, err);
    if (rc < 0) {
        watchdog_stop(watchdog);
        return rc;
    }
    watchdog->has_thread = true;
    *out = watchdog;
    return 0;
}

void watchdog_stop(struct watchdog *watchdog)
{
    if (!watchdog)
        return;
    if (watchdog->has_thread) {
        pthread_mutex_lock(&watchdog->lock);
        watchdog->stopping = true;
        pthread_mutex_unlock(&watchdog->lock);
        pthread_cond_signal(&watchdog->wake);
        pthread_join(watchdog->thread, NULL);
    }
    release_signals(watchdog);
    if (watchdog->note_fd >= 0)
        close(watchdog->note_fd);
    pthread_cond_destroy(&watchdog->wake);
    pthread_mutex_destroy(&watchdog->lock);
    free(watchdog);
}

/* ---------------------------------------------------------------------------------- the writer */

void watchdog_enter(struct watchdog *watchdog, enum watchdog_kind kind, const char *type,
                    const char *id)
{
    if (!watchdog)
        return;
    note_writer(watchdog);
    pthread_mutex_lock(&watchdog->lock);
    watchdog->kind = kind;
    snprintf(watchdog->type, sizeof(watchdog->type), "%s", type);
    snprintf(watchdog->id, sizeof(watchdog->id), "%s", id);
    watchdog->calls++;
    atomic_store(&watchdog->is_running, true);
    pthread_mutex_unlock(&watchdog->lock);
}

void watchdog_leave(struct watchdog *watchdog)
{
    if (watchdog)
        atomic_store(&watchdog->is_running, false);
}

/* ---------------------------------------------------------------------------------- beside it */

void watchdog_begin(struct watchdog *watchdog, struct watchdog_watch *watch, const char *type)
{
    if (!watchdog)
        return;
    pthread_mutex_lock(&watchdog->lock);
    *watch = (struct watchdog_watch){
        .type = type,
        .thread = pthread_self(),
        .next = watchdog->watches,
        .link = &watchdog->watches,
    };
    if (watch->next)
        watch->next->link = &watch->next;
    watchdog->watches = watch;
    pthread_mutex_unlock(&watchdog->lock);
}

void watchdog_end(struct watchdog *watchdog, struct watchdog_watch *watch)
{
    if (!watchdog)
        return;
    pthread_mutex_lock(&watchdog->lock);
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    pthread_mutex_unlock(&watchdog->lock);
}
