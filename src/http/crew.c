/* SPDX-License-Identifier: MIT */
#include "http/crew.h"

#include "base/thread.h"

#include <assert.h>
#include <semaphore.h>

/* A worker that has nothing to do, and stays at hand. */
struct crew_parked {
    sem_t wake;
    struct crew_parked *next;
    unsigned long stalls; /* when it was woken */
};

/* How many stalls there had been when the calling worker began with what it is at. If there was one since,
 * it is stuck, and counted so. */
static _Thread_local unsigned long stalls_seen;

/* ------------------------------------------------------------------ the lock is held, from here on */

static bool has_work(const struct crew *crew)
{
    return crew->answers || !waiting_is_empty(&crew->requests);
}

static int count_unstuck(const struct crew *crew)
{
    return crew->running - crew->stuck;
}

/* The calling worker is done with what it was at. */
static void get_unstuck(struct crew *crew)
{
    if (stalls_seen != crew->stalls)
        crew->stuck--;
    stalls_seen = crew->stalls;
}

static void begin_running(struct crew *crew)
{
    crew->running++;
    stalls_seen = crew->stalls;
}

static void end_running(struct crew *crew)
{
    get_unstuck(crew);
    crew->running--;
}

/* The one that was parked last has its memory still in the caches; others never touch theirs. */
static void wake_parked(struct crew *crew)
{
    struct crew_parked *parked = crew->parked;

    crew->parked = parked->next;
    crew->running++; /* from here on, so that nobody else is called for the same */
    parked->stalls = crew->stalls;
    sem_post(&parked->wake);
}

static void call_one(struct crew *crew)
{
    if (crew->parked) {
        wake_parked(crew);
    } else {
        crew->called++;
        crew->opts.call(crew->opts.arg);
    }
}

/* Something waits: is there to be one more worker for it? */
static void call_if_few(struct crew *crew)
{
    if (count_unstuck(crew) + crew->called < crew->opts.usual &&
        crew->running + crew->called < crew->opts.most) {
        call_one(crew);
    } else if (crew->pacer_sleeps) {
        crew->pacer_sleeps = false;
        pthread_cond_signal(&crew->stalled);
    }
}

static void note_waiting(struct crew *crew)
{
    atomic_fetch_add_explicit(&crew->waiting, 1, memory_order_relaxed);
    call_if_few(crew);
}

static struct http_later *take_answer(struct crew *crew)
{
    struct http_later *later = crew->answers;

    if (!later)
        return NULL;
    crew->answers = later->next;
    if (!crew->answers)
        crew->answers_end = &crew->answers;
    return later;
}

static bool take(struct crew *crew, struct crew_work *out)
{
    *out = (struct crew_work){.answer = take_answer(crew)};
    if (!out->answer)
        out->conn = waiting_take(&crew->requests);
    if (!out->answer && !out->conn)
        return false;
    atomic_fetch_sub_explicit(&crew->waiting, 1, memory_order_relaxed);
    crew->taken++;
    return true;
}

/* ------------------------------------------------------------------------------------- any thread */

void crew_add_request(struct crew *crew, struct gate_conn *conn, bool is_urgent)
{
    pthread_mutex_lock(&crew->lock);
    waiting_push(&crew->requests, conn, is_urgent);
    note_waiting(crew);
    pthread_mutex_unlock(&crew->lock);
}

void crew_add_answer(struct crew *crew, struct http_later *later)
{
    later->next = NULL;
    pthread_mutex_lock(&crew->lock);
    *crew->answers_end = later;
    crew->answers_end = &later->next;
    crew->pending--;
    note_waiting(crew);
    pthread_mutex_unlock(&crew->lock);
}

bool crew_has_waiting(const struct crew *crew)
{
    return atomic_load_explicit(&crew->waiting, memory_order_relaxed) > 0;
}

/* -------------------------------------------------------------------------------------- a worker */

/* Called and left with the lock held. */
static void park(struct crew *crew)
{
    struct crew_parked self = {.next = crew->parked};

    sem_init(&self.wake, 0, 0);
    crew->parked = &self;
    end_running(crew);
    pthread_mutex_unlock(&crew->lock);
    while (sem_wait(&self.wake) < 0)
        ; /* a signal */
    pthread_mutex_lock(&crew->lock);
    stalls_seen = self.stalls;
    get_unstuck(crew);
    sem_destroy(&self.wake);
}

/* Called and left with the lock held, by one that is counted as running and has found nothing, or is one
 * too many. One that is woken takes what there is, though there be enough: they may be those that stall.
 * While one is on its way nobody parks: there may be no worker but this one to come. */
static bool park_until_found(struct crew *crew, struct crew_work *out)
{
    while (!crew->closed && crew->called == 0) {
        park(crew);
        if (take(crew, out))
            return true;
    }
    end_running(crew);
    return false;
}

bool crew_come(struct crew *crew, struct crew_work *out)
{
    bool found;

    pthread_mutex_lock(&crew->lock);
    crew->called--;
    begin_running(crew);
    found = take(crew, out) || park_until_found(crew, out);
    pthread_mutex_unlock(&crew->lock);
    return found;
}

bool crew_next(struct crew *crew, struct crew_work *out)
{
    bool found;

    pthread_mutex_lock(&crew->lock);
    get_unstuck(crew);
    found =
        (count_unstuck(crew) <= crew->opts.usual && take(crew, out)) || park_until_found(crew, out);
    pthread_mutex_unlock(&crew->lock);
    return found;
}

void crew_go(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    end_running(crew);
    if (has_work(crew))
        call_if_few(crew);
    pthread_mutex_unlock(&crew->lock);
}

void crew_wait_begin(struct crew *crew)
{
    crew_go(crew);
}

void crew_wait_end(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    begin_running(crew);
    pthread_mutex_unlock(&crew->lock);
}

bool crew_is_quiet(struct crew *crew)
{
    bool is_quiet;

    pthread_mutex_lock(&crew->lock);
    is_quiet = crew->running == 1 && crew->called == 0 && crew->pending == 0 && !has_work(crew);
    pthread_mutex_unlock(&crew->lock);
    return is_quiet;
}

void crew_expect_answer(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->pending++;
    pthread_mutex_unlock(&crew->lock);
}

void crew_forget_answer(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->pending--;
    pthread_mutex_unlock(&crew->lock);
}

/* ------------------------------------------------------------------------------------- the pacer */

/* With the lock held. All that run have been with the same for too long. */
static void note_stall(struct crew *crew)
{
    crew->stalls++;
    crew->stuck = crew->running;
    call_one(crew);
}

/* Called and left with the lock held. While something waits: look again and again whether it is taken. */
static void pace(struct crew *crew)
{
    while (has_work(crew) && !crew->stopping) {
        struct timespec until = thread_after_ms(crew->opts.stall_ms);
        unsigned long taken = crew->taken;

        while (!crew->stopping &&
               pthread_cond_clockwait(&crew->stalled, &crew->lock, CLOCK_MONOTONIC, &until) == 0)
            ; /* woken before the time: nobody means that, while pacer_sleeps is false */
        if (crew->taken == taken && has_work(crew) && crew->called == 0 &&
            crew->running < crew->opts.most)
            note_stall(crew);
    }
}

static void *run_pacer(void *arg)
{
    struct crew *crew = arg;

    pthread_mutex_lock(&crew->lock);
    while (!crew->stopping) {
        pace(crew);
        crew->pacer_sleeps = true;
        while (crew->pacer_sleeps && !crew->stopping)
            pthread_cond_wait(&crew->stalled, &crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* ------------------------------------------------------------------------------- start and stop */

int crew_start(struct crew *crew, const struct crew_opts *opts, struct err *err)
{
    int rc;

    assert(opts->usual > 0 && opts->most >= opts->usual);
    crew->opts = *opts;
    crew->answers_end = &crew->answers;
    waiting_init(&crew->requests);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->stalled, NULL);
    rc = thread_start(&crew->pacer, "http pacer", run_pacer, crew, err);
    crew->pacer_runs = rc == 0;
    return rc;
}

void crew_close(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->closed = true;
    while (crew->parked)
        wake_parked(crew);
    pthread_mutex_unlock(&crew->lock);
}

void crew_stop(struct crew *crew)
{
    if (crew->pacer_runs) {
        pthread_mutex_lock(&crew->lock);
        crew->stopping = true;
        pthread_cond_signal(&crew->stalled);
        pthread_mutex_unlock(&crew->lock);
        pthread_join(crew->pacer, NULL);
    }
    pthread_cond_destroy(&crew->stalled);
    pthread_mutex_destroy(&crew->lock);
}
