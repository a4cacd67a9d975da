/* SPDX-License-Identifier: MIT */
#include "http/crew.h"

#include "base/thread.h"

#include <assert.h>
#include <semaphore.h>

/* How many are taken before one that runs looks what else has come. */
enum { TAKES_PER_GLANCE = 8 };

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

/* Is there no worker but those inside for one that was called? Then one of them has to go, and come. */
static bool is_missed_outside(const struct crew *crew)
{
    return crew->called > crew->started - crew->inside;
}

static void start_one(struct crew *crew)
{
    bool is_started = crew->opts.start(crew->opts.arg);

    crew->started += is_started;
    crew->limit = is_started ? crew->opts.most : crew->started;
}

static void bring_one(struct crew *crew)
{
    if (crew->parked) {
        wake_parked(crew);
        return;
    }
    crew->called++;
    if (is_missed_outside(crew) && crew->started < crew->opts.most && !crew->closed)
        start_one(crew);
    crew->opts.call(crew->opts.arg);
}

static void call_one(struct crew *crew)
{
    if (crew->looking > 0 && !crew->nudged) {
        crew->nudged = true;
        crew->opts.nudge(crew->opts.arg);
    } else {
        bring_one(crew);
    }
}

/* Something waits: is there to be one more worker for it? One that was nudged sees by itself whether there is
 * to be yet another. */
static void call_if_few(struct crew *crew)
{
    if (crew->nudged)
        return;
    if (count_unstuck(crew) + crew->called < crew->opts.usual &&
        crew->running + crew->called < crew->opts.most) {
        call_one(crew);
    } else if (crew->pacer_sleeps) {
        crew->pacer_sleeps = false;
        pthread_cond_signal(&crew->stalled);
    }
}

/* Is there room for one more to look? */
static bool may_look(const struct crew *crew)
{
    return crew->opts.look && !crew->closed &&
           count_unstuck(crew) + crew->looking + crew->called < crew->opts.usual;
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
    crew->taken++;
    return true;
}

/* ------------------------------------------------------------------------------------- any thread */

void crew_add_request(struct crew *crew, struct gate_conn *conn)
{
    pthread_mutex_lock(&crew->lock);
    waiting_push(&crew->requests, conn);
    call_if_few(crew);
    pthread_mutex_unlock(&crew->lock);
}

void crew_add_answer(struct crew *crew, struct http_later *later)
{
    later->next = NULL;
    pthread_mutex_lock(&crew->lock);
    *crew->answers_end = later;
    crew->answers_end = &later->next;
    crew->pending--;
    call_if_few(crew);
    pthread_mutex_unlock(&crew->lock);
}

void crew_nudge_again(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    if (crew->nudged || (crew->closed && crew->looking > 0))
        crew->opts.nudge(crew->opts.arg);
    pthread_mutex_unlock(&crew->lock);
}

/* -------------------------------------------------------------------------------------- a worker */

bool crew_is_short(struct crew *crew)
{
    bool is_short;

    pthread_mutex_lock(&crew->lock);
    is_short = has_work(crew) && crew->limit - crew->away - 1 - crew->stuck < crew->opts.usual;
    pthread_mutex_unlock(&crew->lock);
    return is_short;
}

/* Without the lock. */
static void tell_waits(struct crew *crew)
{
    if (crew->opts.waits)
        crew->opts.waits(crew->opts.arg);
}

/* Called and left with the lock held, by one that doesn't count as running any more, and does afterwards. */
static void park(struct crew *crew)
{
    struct crew_parked self = {.next = crew->parked};

    sem_init(&self.wake, 0, 0);
    crew->parked = &self;
    pthread_mutex_unlock(&crew->lock);
    tell_waits(crew);
    while (sem_wait(&self.wake) < 0)
        ; /* a signal */
    pthread_mutex_lock(&crew->lock);
    stalls_seen = self.stalls;
    get_unstuck(crew);
    sem_destroy(&self.wake);
}

/* What a look has found waits from here on. */
static void note_found(struct crew *crew, struct gate_conn *conn, bool more)
{
    struct gate_conn *next;

    crew->more = more;
    crew->looked = crew->taken;
    for (; conn; conn = next) {
        next = conn->next;
        waiting_push(&crew->requests, conn);
    }
}

/* Called and left with the lock held, by one that doesn't count as running any more, and does afterwards. */
static void look(struct crew *crew)
{
    struct gate_conn *found;
    bool more;

    crew->looking++;
    pthread_mutex_unlock(&crew->lock);
    tell_waits(crew);
    found = crew->opts.look(crew->opts.arg, true, &more);
    pthread_mutex_lock(&crew->lock);
    crew->looking--;
    crew->nudged = false; /* if it was another one: that one is told again, if need be */
    begin_running(crew);
    note_found(crew, found, more);
    if (crew->closed && crew->looking > 0)
        crew->opts.nudge(crew->opts.arg);
}

/* Is one that runs to look, too? */
static bool glance_is_due(const struct crew *crew)
{
    return crew->opts.look && !crew->closed && crew->looking == 0 && !crew->glances &&
           (crew->more || crew->taken - crew->looked >= TAKES_PER_GLANCE);
}

/* Called and left with the lock held. */
static void glance(struct crew *crew)
{
    struct gate_conn *found;
    bool more;

    crew->glances = true;
    pthread_mutex_unlock(&crew->lock);
    found = crew->opts.look(crew->opts.arg, false, &more);
    pthread_mutex_lock(&crew->lock);
    crew->glances = false;
    get_unstuck(crew); /* it hasn't begun with anything yet */
    note_found(crew, found, more);
}

static bool take_and_tell(struct crew *crew, struct crew_work *out)
{
    if (!take(crew, out))
        return false;
    if (crew->opts.look && has_work(crew))
        call_if_few(crew);
    return true;
}

/* One that runs doesn't any more, for now. */
static void rest(struct crew *crew)
{
    end_running(crew);
    if (has_work(crew))
        call_if_few(crew);
}

/*
 * Called and left with the lock held, by one that runs and has found nothing, or is one too many; what it
 * may have seen in a glance is for the others then. One that is woken takes what there is, though there be
 * enough: they may be those that stall.
 */
static bool stay_until_found(struct crew *crew, struct crew_work *out)
{
    while (!crew->closed && !is_missed_outside(crew)) {
        rest(crew);
        if (may_look(crew))
            look(crew);
        else
            park(crew);
        if (take_and_tell(crew, out))
            return true;
    }
    end_running(crew);
    crew->inside--;
    return false;
}

bool crew_come(struct crew *crew, struct crew_work *out)
{
    bool found;

    pthread_mutex_lock(&crew->lock);
    crew->called--;
    crew->inside++;
    begin_running(crew);
    found = take_and_tell(crew, out) || stay_until_found(crew, out);
    pthread_mutex_unlock(&crew->lock);
    if (!found)
        tell_waits(crew);
    return found;
}

bool crew_next(struct crew *crew, struct crew_work *out)
{
    bool found;

    pthread_mutex_lock(&crew->lock);
    get_unstuck(crew);
    if (glance_is_due(crew))
        glance(crew);
    found = (count_unstuck(crew) <= crew->opts.usual && take_and_tell(crew, out)) ||
            stay_until_found(crew, out);
    pthread_mutex_unlock(&crew->lock);
    if (!found)
        tell_waits(crew);
    return found;
}

void crew_go(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->inside--;
    rest(crew);
    if (!has_work(crew) && may_look(crew))
        bring_one(crew);
    pthread_mutex_unlock(&crew->lock);
    tell_waits(crew);
}

void crew_wait_begin(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->away++;
    rest(crew);
    /* It will be back soon: while one looks, no other is woken in its place. */
    if (!has_work(crew) && crew->looking == 0 && may_look(crew))
        bring_one(crew);
    pthread_mutex_unlock(&crew->lock);
    tell_waits(crew);
}

void crew_wait_end(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->away--;
    begin_running(crew);
    pthread_mutex_unlock(&crew->lock);
}

bool crew_goes_on(struct crew *crew)
{
    bool goes_on;

    pthread_mutex_lock(&crew->lock);
    get_unstuck(crew);
    goes_on = !has_work(crew) && !glance_is_due(crew) && count_unstuck(crew) <= crew->opts.usual;
    crew->taken += goes_on;
    pthread_mutex_unlock(&crew->lock);
    return goes_on;
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
    crew->started = opts->start ? 0 : opts->most;
    crew->limit = opts->most;
    crew->answers_end = &crew->answers;
    waiting_init(&crew->requests);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->stalled, NULL);
    rc = thread_start(&crew->pacer, "http pacer", run_pacer, crew, err);
    crew->pacer_runs = rc == 0;
    return rc;
}

int crew_open(struct crew *crew, struct err *err)
{
    bool any;

    pthread_mutex_lock(&crew->lock);
    while (may_look(crew))
        bring_one(crew);
    any = crew->started > 0;
    pthread_mutex_unlock(&crew->lock);
    return any ? 0 : err_set(err, ERR_NOMEM, "cannot start any worker thread");
}

void crew_close(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->closed = true;
    while (crew->parked)
        wake_parked(crew);
    if (crew->looking > 0) /* the first that returns tells the next */
        crew->opts.nudge(crew->opts.arg);
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
