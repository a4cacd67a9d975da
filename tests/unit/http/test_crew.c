/* SPDX-License-Identifier: MIT */
#include "http/crew.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { USUAL = 2, MOST = 5, STALL_MS = 5, NEVER_MS = 3600 * 1000 };

static struct crew crew;
static atomic_int calls;
static atomic_int waits_told;
static sem_t places; /* of workers that were called, and haven't come */
static struct gate_conn conns[8];

static void count_call(void *arg)
{
    (void)arg;
    atomic_fetch_add(&calls, 1);
    sem_post(&places);
}

/* Does anything wait for a worker? */
static bool has_waiting(void)
{
    bool has;

    pthread_mutex_lock(&crew.lock);
    has = crew.answers || !waiting_is_empty(&crew.requests);
    pthread_mutex_unlock(&crew.lock);
    return has;
}

static void count_waits(void *arg)
{
    (void)arg;
    crew_is_quiet(&crew); /* it may be asked: the lock isn't held */
    atomic_fetch_add(&waits_told, 1);
}

static int start_with(int stall_ms)
{
    const struct crew_opts opts = {.usual = USUAL,
                                   .most = MOST,
                                   .stall_ms = stall_ms,
                                   .call = count_call,
                                   .waits = count_waits};
    struct err err;

    memset(&crew, 0, sizeof(crew));
    atomic_store(&calls, 0);
    atomic_store(&waits_told, 0);
    return crew_start(&crew, &opts, &err);
}

/* Closed: nobody is parked, who finds nothing goes. */
static int start(void **state)
{
    int rc = start_with(NEVER_MS);

    (void)state;
    crew_close(&crew);
    return rc;
}

/* What the world brings, and those that look for it. */
static struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct gate_conn *news;
    int nudged;  /* and nobody has returned for it yet */
    int nudges;  /* in all */
    int waiting; /* that look and wait */
    int glances; /* that looked and didn't wait */
    bool more;   /* than anybody can see in a look */
    bool steals; /* the next nudge is taken by one that doesn't wait */
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct gate_conn *look_at_world(void *arg, bool may_wait, bool *out_more)
{
    struct gate_conn *news;

    (void)arg;
    pthread_mutex_lock(&world.lock);
    world.glances += !may_wait;
    world.waiting += may_wait;
    while (may_wait && !world.news && world.nudged == 0)
        pthread_cond_wait(&world.changed, &world.lock);
    world.waiting -= may_wait;
    news = world.news;
    world.news = NULL;
    if (may_wait && !news)
        world.nudged--;
    *out_more = world.more;
    pthread_mutex_unlock(&world.lock);
    return news;
}

static void nudge_world(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&world.lock);
    world.nudges++;
    world.nudged = !world.steals;
    world.steals = false;
    pthread_cond_signal(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

/* These come from outside, at once. */
static void bring(struct gate_conn *conn, int count)
{
    pthread_mutex_lock(&world.lock);
    assert_null(world.news);
    for (int i = 0; i < count; i++)
        conn[i].next = i + 1 < count ? &conn[i + 1] : NULL;
    world.news = conn;
    pthread_cond_signal(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

static int start_looking_with(int stall_ms)
{
    const struct crew_opts opts = {
        .usual = USUAL,
        .most = MOST,
        .stall_ms = stall_ms,
        .call = count_call,
        .look = look_at_world,
        .nudge = nudge_world,
        .waits = count_waits,
    };
    struct err err;

    memset(&crew, 0, sizeof(crew));
    memset(conns, 0, sizeof(conns));
    sem_init(&places, 0, 0);
    world.news = NULL;
    world.nudged = world.nudges = world.waiting = world.glances = 0;
    world.more = world.steals = false;
    atomic_store(&calls, 0);
    atomic_store(&waits_told, 0);
    return crew_start(&crew, &opts, &err);
}

static int start_looking(void **state)
{
    (void)state;
    return start_looking_with(NEVER_MS);
}

static int start_looking_impatient(void **state)
{
    (void)state;
    return start_looking_with(STALL_MS);
}

static int start_open(void **state)
{
    (void)state;
    return start_with(NEVER_MS);
}

static int start_impatient(void **state)
{
    int rc = start_with(STALL_MS);

    (void)state;
    crew_close(&crew);
    return rc;
}

static int stop(void **state)
{
    (void)state;
    crew_stop(&crew);
    return 0;
}

static void add(int count)
{
    for (int i = 0; i < count; i++)
        crew_add_request(&crew, &conns[i]);
}

static void wait_for_count(atomic_int *counter, int count)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    int64_t limit_ms = clock_mono_ms() + 10000;

    while (atomic_load(counter) < count && clock_mono_ms() < limit_ms)
        nanosleep(&moment, NULL);
    assert_true(atomic_load(counter) >= count);
}

/* What the pacer does takes its time. */
static void wait_for_calls(int count)
{
    wait_for_count(&calls, count);
}

static void crew__calls_no_more_than_the_usual_number(void **state)
{
    struct crew_work work;

    (void)state;
    add(1);
    assert_int_equal(atomic_load(&calls), 1);
    assert_true(crew_come(&crew, &work));
    assert_ptr_equal(work.conn, &conns[0]);
    assert_null(work.answer);
    assert_true(crew_is_quiet(&crew));
    add(1);
    assert_int_equal(atomic_load(&calls), 2);
    assert_false(crew_is_quiet(&crew));
    assert_true(has_waiting());
    assert_true(crew_next(&crew, &work)); /* the first worker is faster than the one on its way */
    assert_false(has_waiting());
    assert_false(crew_come(&crew, &work));
    assert_false(crew_next(&crew, &work));
}

static void crew__answers_go_first_and_in_order(void **state)
{
    struct http_later answers[2] = {0};
    struct crew_work work;

    (void)state;
    crew_expect_answer(&crew);
    crew_expect_answer(&crew);
    add(1);
    crew_add_answer(&crew, &answers[0]);
    crew_add_answer(&crew, &answers[1]);
    assert_true(crew_come(&crew, &work));
    assert_ptr_equal(work.answer, &answers[0]);
    assert_true(crew_next(&crew, &work));
    assert_ptr_equal(work.answer, &answers[1]);
    assert_true(crew_next(&crew, &work));
    assert_ptr_equal(work.conn, &conns[0]);
    crew_go(&crew);
}

static void crew__answer_under_way_is_no_quiet(void **state)
{
    struct crew_work work;

    (void)state;
    add(1);
    assert_true(crew_come(&crew, &work));
    crew_expect_answer(&crew);
    assert_false(crew_is_quiet(&crew));
    crew_forget_answer(&crew);
    assert_true(crew_is_quiet(&crew));
    crew_go(&crew);
}

static void crew__one_that_waits_makes_room_for_another(void **state)
{
    struct crew_work work;

    (void)state;
    add(3);
    assert_int_equal(atomic_load(&calls), USUAL);
    assert_true(crew_come(&crew, &work));
    assert_true(crew_come(&crew, &work));
    crew_wait_begin(&crew);
    assert_int_equal(atomic_load(&calls), USUAL + 1);
    assert_true(crew_come(&crew, &work));
    crew_wait_end(&crew); /* three run now: the next that is done goes, though something waits */
    add(1);
    assert_false(crew_next(&crew, &work));
    assert_true(crew_next(&crew, &work));
    assert_false(crew_next(&crew, &work));
    crew_go(&crew);
}

/* Whoever waits for a client that is slow may go on with it, until too few are left for the others. */
static void crew__is_short_when_few_are_left(void **state)
{
    struct crew_work work;

    (void)state;
    add(1);
    assert_true(crew_come(&crew, &work));
    assert_false(crew_is_short(&crew)); /* nobody waits */
    for (int waiting = 0; waiting < MOST - USUAL; waiting++) {
        add(1);
        assert_false(crew_is_short(&crew));
        crew_wait_begin(&crew);
        assert_true(crew_come(&crew, &work));
    }
    assert_false(crew_is_short(&crew));
    add(1);
    assert_true(crew_is_short(&crew));
    for (int waiting = 0; waiting < MOST - USUAL; waiting++)
        crew_wait_end(&crew);
    assert_false(crew_is_short(&crew));
    for (int inside = MOST - USUAL + 1; inside > 0; inside--)
        crew_go(&crew);
}

/* All that run are with long calls: one more after another, as many as there may be. */
static void crew__stall_brings_more(void **state)
{
    struct crew_work work;

    (void)state;
    add(8);
    for (int i = 0; i < MOST; i++) {
        wait_for_calls(i + 1);
        assert_true(crew_come(&crew, &work));
    }
    for (int i = 0; i < 10; i++) /* and no more */
        nanosleep(&(struct timespec){.tv_nsec = STALL_MS * 1000000}, NULL);
    assert_int_equal(atomic_load(&calls), MOST);
    for (int i = 0; i < MOST; i++)
        crew_go(&crew);
}

static sem_t have_come;

struct stuck {
    sem_t go_on;
    bool goes_on;
};

static void *be_long(void *arg)
{
    struct stuck *stuck = arg;
    struct crew_work work;

    assert_true(crew_come(&crew, &work));
    sem_post(&have_come);
    sem_wait(&stuck->go_on);
    stuck->goes_on = crew_next(&crew, &work);
    return NULL;
}

/* However slow the machine is. While one that was called hasn't come, no stall is noted. */
static void stall_no_more(void)
{
    pthread_mutex_lock(&crew.lock);
    crew.opts.stall_ms = NEVER_MS;
    pthread_mutex_unlock(&crew.lock);
    nanosleep(&(struct timespec){.tv_nsec = 200 * 1000000}, NULL); /* the pacer's last short wait */
}

/* Symptom: whoever was called for a stall went after one request, and the next one waited for another stall. */
static void crew__others_run_while_some_are_stuck(void **state)
{
    pthread_t threads[USUAL];
    struct stuck stuck[USUAL];
    struct crew_work work;

    (void)state;
    sem_init(&have_come, 0, 0);
    add(USUAL);
    for (int i = 0; i < USUAL; i++) {
        sem_init(&stuck[i].go_on, 0, 0);
        assert_int_equal(pthread_create(&threads[i], NULL, be_long, &stuck[i]), 0);
    }
    for (int i = 0; i < USUAL; i++)
        sem_wait(&have_come);
    add(6);
    wait_for_calls(USUAL + 1);
    stall_no_more();
    assert_true(crew_come(&crew, &work));
    for (int i = 0; i < 3; i++) /* it runs on as if it were alone */
        assert_true(crew_next(&crew, &work));
    for (int i = 0; i < USUAL; i++) { /* and with the last that is back, there is one too many */
        sem_post(&stuck[i].go_on);
        pthread_join(threads[i], NULL);
        sem_destroy(&stuck[i].go_on);
    }
    assert_true(stuck[0].goes_on);
    assert_false(stuck[1].goes_on);
    assert_true(crew_next(&crew, &work));
    crew_go(&crew);
    sem_destroy(&have_come);
}

static pthread_barrier_t all_have_come;

/* As a worker does: what it is called for, then one after the other, until it is sent away. */
static void *work(void *arg)
{
    atomic_int *done = arg;
    struct crew_work work;
    bool found = crew_come(&crew, &work);

    pthread_barrier_wait(&all_have_come);
    for (; found; found = crew_next(&crew, &work)) {
        assert_non_null(work.conn);
        atomic_fetch_add(done, 1);
    }
    return NULL;
}

/* None of the workers that have come runs any more. */
static void wait_until_idle(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    int64_t limit_ms = clock_mono_ms() + 10000;
    bool is_idle = false;

    while (!is_idle && clock_mono_ms() < limit_ms) {
        pthread_mutex_lock(&crew.lock);
        is_idle = crew.running == 0 && crew.called == 0;
        pthread_mutex_unlock(&crew.lock);
        nanosleep(&moment, NULL);
    }
    assert_true(is_idle);
}

static void crew__idle_workers_are_parked_and_woken(void **state)
{
    pthread_t threads[USUAL];
    atomic_int done = 0;

    (void)state;
    pthread_barrier_init(&all_have_come, NULL, USUAL);
    add(USUAL);
    for (int i = 0; i < USUAL; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &done), 0);
    wait_until_idle();
    for (int round = 1; round <= 100; round++) {
        add(4);
        wait_until_idle();
        assert_int_equal(atomic_load(&done), USUAL + 4 * round);
    }
    assert_int_equal(atomic_load(&calls), USUAL); /* nobody else was needed */
    crew_close(&crew);
    for (int i = 0; i < USUAL; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all_have_come);
}

static sem_t may_go_on;
static atomic_int went_on, left;

/* Come for one thing that has to be waited for. */
static void *wait_and_stay(void *arg)
{
    struct crew_work work;

    (void)arg;
    assert_true(crew_come(&crew, &work));
    crew_wait_begin(&crew);
    sem_post(&have_come);
    sem_wait(&may_go_on);
    crew_wait_end(&crew);
    atomic_fetch_add(&went_on, 1);
    while (crew_next(&crew, &work))
        ;
    atomic_fetch_add(&left, 1);
    return NULL;
}

/* Symptom: of workers that had waited all but the usual number went, and whoever came in their place the next
 * time was another thread, until all had touched their stacks. */
static void crew__whoever_has_come_stays_at_hand(void **state)
{
    pthread_t threads[MOST];

    (void)state;
    sem_init(&have_come, 0, 0);
    sem_init(&may_go_on, 0, 0);
    for (int i = 0; i < MOST; i++) {
        add(1);
        assert_int_equal(atomic_load(&calls), i + 1);
        assert_int_equal(pthread_create(&threads[i], NULL, wait_and_stay, NULL), 0);
        sem_wait(&have_come);
    }
    for (int i = 0; i < MOST; i++)
        sem_post(&may_go_on);
    while (atomic_load(&went_on) < MOST)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    wait_until_idle();
    add(8);
    wait_until_idle();
    assert_false(has_waiting());
    assert_int_equal(atomic_load(&left), 0);
    assert_int_equal(atomic_load(&calls), MOST);
    crew_close(&crew);
    for (int i = 0; i < MOST; i++)
        pthread_join(threads[i], NULL);
    sem_destroy(&may_go_on);
    sem_destroy(&have_come);
}

static int start_two(void **state)
{
    const struct crew_opts opts = {.usual = 2, .most = 2, .stall_ms = NEVER_MS, .call = count_call};
    struct err err;

    (void)state;
    memset(&crew, 0, sizeof(crew));
    atomic_store(&calls, 0);
    return crew_start(&crew, &opts, &err);
}

static int started, startable; /* workers; guarded by the crew's lock */

static bool start_one(void *arg)
{
    bool is_startable = started < startable;

    (void)arg;
    started += is_startable;
    return is_startable;
}

static int start_without_workers(void **state)
{
    const struct crew_opts opts = {
        .usual = USUAL,
        .most = MOST,
        .stall_ms = NEVER_MS,
        .call = count_call,
        .start = start_one,
    };
    struct err err;

    (void)state;
    memset(&crew, 0, sizeof(crew));
    atomic_store(&calls, 0);
    started = 0;
    startable = MOST;
    return crew_start(&crew, &opts, &err);
}

static void crew__workers_are_started_when_all_have_something_to_do(void **state)
{
    struct crew_work work;

    (void)state;
    for (int i = 0; i < 3; i++) {
        add(1);
        assert_int_equal(started, 1);
        assert_true(crew_come(&crew, &work));
        crew_go(&crew);
    }
    for (int i = 1; i <= MOST; i++) {
        add(1);
        assert_int_equal(started, i);
        assert_true(crew_come(&crew, &work));
        crew_wait_begin(&crew);
    }
    add(1);
    assert_int_equal(started, MOST);
}

static void crew__what_has_no_worker_is_done_by_those_there_are(void **state)
{
    struct crew_work work;

    (void)state;
    startable = 1;
    add(1);
    assert_true(crew_come(&crew, &work));
    crew_wait_begin(&crew);
    assert_false(crew_is_short(&crew));
    add(1);
    assert_int_equal(crew.started, 1);
    crew_wait_end(&crew);
    assert_true(crew_is_short(
        &crew)); /* it is the only one: who doesn't read what it sends is to be cut off */
    assert_true(crew_next(&crew, &work));
    /* There is nothing, but one was called that isn't outside. */
    assert_false(crew_next(&crew, &work));
    crew_close(&crew);
    while (crew.called > 0)
        assert_false(crew_come(&crew, &work));
}

static void crew__without_any_worker_it_does_not_open(void **state)
{
    struct err err;

    (void)state;
    startable = 0;
    crew.opts.look = look_at_world;
    assert_int_equal(crew_open(&crew, &err), ERR_NOMEM);
}

/* Come, and wait. */
static void *come_and_wait(void *arg)
{
    struct crew_work work;

    (void)arg;
    assert_true(crew_come(&crew, &work));
    crew_wait_begin(&crew);
    sem_post(&have_come);
    sem_wait(&may_go_on);
    crew_wait_end(&crew);
    crew_go(&crew);
    return NULL;
}

/* Take two, and then there is nothing. */
static void *take_both(void *arg)
{
    struct crew_work work;

    (void)arg;
    assert_true(crew_come(&crew, &work));
    assert_true(crew_next(&crew, &work));
    assert_false(crew_next(&crew, &work));
    return NULL;
}

/* Symptom: all workers were parked, others were still on their way for whom there was no worker left, and
 * so nobody was woken any more. */
static void crew__nobody_parks_who_is_the_only_one_to_come(void **state)
{
    pthread_t waits, takes;
    struct timespec until;

    (void)state;
    sem_init(&have_come, 0, 0);
    sem_init(&may_go_on, 0, 0);
    add(3);
    assert_int_equal(atomic_load(&calls), 2);
    assert_int_equal(pthread_create(&waits, NULL, come_and_wait, NULL), 0);
    sem_wait(
        &have_come); /* somebody else was called in its place: there is one worker left for two calls */
    assert_int_equal(atomic_load(&calls), 3);
    assert_int_equal(pthread_create(&takes, NULL, take_both, NULL), 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    assert_int_equal(pthread_timedjoin_np(takes, NULL, &until), 0);
    sem_post(&may_go_on);
    pthread_join(waits, NULL);
    sem_destroy(&may_go_on);
    sem_destroy(&have_come);
}

/* --- those that look -------------------------------------------------------------------------- */

static int count_waiting(void)
{
    int count;

    pthread_mutex_lock(&world.lock);
    count = world.waiting;
    pthread_mutex_unlock(&world.lock);
    return count;
}

static void wait_for_lookers(int count)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    int64_t limit_ms = clock_mono_ms() + 10000;

    while (count_waiting() != count && clock_mono_ms() < limit_ms)
        nanosleep(&moment, NULL);
    assert_int_equal(count_waiting(), count);
}

/* A worker of which each step is told, and seen. Sent away, it comes again when one is called. */
struct puppet {
    pthread_t thread;
    sem_t may_go_on, has_work;
    struct crew_work work;
    bool waits, goes; /* the next step: it waits for something; it goes */
};

static atomic_bool is_over;

static void take_step(struct puppet *puppet)
{
    sem_post(&puppet->has_work);
    sem_wait(&puppet->may_go_on);
    if (puppet->waits) {
        crew_wait_begin(&crew);
        sem_post(&puppet->has_work);
        sem_wait(&puppet->may_go_on);
        crew_wait_end(&crew);
        puppet->waits = false;
    }
}

static void *be_led(void *arg)
{
    struct puppet *puppet = arg;

    while (sem_wait(&places) == 0 && !atomic_load(&is_over)) {
        bool found = crew_come(&crew, &puppet->work);

        while (found) {
            take_step(puppet);
            found = !puppet->goes && crew_next(&crew, &puppet->work);
        }
        if (puppet->goes)
            crew_go(&crew);
        puppet->goes = false;
    }
    return NULL;
}

static void puppet_start(struct puppet *puppet)
{
    *puppet = (struct puppet){.waits = false};
    sem_init(&puppet->may_go_on, 0, 0);
    sem_init(&puppet->has_work, 0, 0);
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&puppet->thread, NULL, be_led, puppet), 0);
}

/* Whichever of them has something now. */
static struct puppet *wait_for_one(struct puppet *puppets, int count)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    int64_t limit_ms = clock_mono_ms() + 10000;

    while (clock_mono_ms() < limit_ms) {
        for (int i = 0; i < count; i++)
            if (sem_trywait(&puppets[i].has_work) == 0)
                return &puppets[i];
        nanosleep(&moment, NULL);
    }
    fail_msg("nobody has got anything");
    return NULL;
}

static void puppets_end(struct puppet *puppets, int count)
{
    atomic_store(&is_over, true);
    crew_close(&crew);
    for (int i = 0; i < count; i++)
        sem_post(&places);
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_join(puppets[i].thread, NULL), 0);
        sem_destroy(&puppets[i].may_go_on);
        sem_destroy(&puppets[i].has_work);
    }
}

static void start_lookers(struct puppet *puppets)
{
    struct err err;

    assert_int_equal(crew_open(&crew, &err), 0);
    assert_int_equal(atomic_load(&calls), USUAL);
    for (int i = 0; i < USUAL; i++)
        puppet_start(&puppets[i]);
    wait_for_lookers(USUAL);
}

static void crew__what_comes_alone_wakes_nobody_else(void **state)
{
    struct puppet puppets[USUAL], *busy;

    (void)state;
    start_lookers(puppets);
    for (int round = 0; round < 20; round++) {
        bring(&conns[0], 1);
        busy = wait_for_one(puppets, USUAL);
        assert_ptr_equal(busy->work.conn, &conns[0]);
        assert_int_equal(count_waiting(), USUAL - 1);
        assert_true(crew_is_quiet(&crew));
        sem_post(&busy->may_go_on);
        wait_for_lookers(USUAL);
    }
    assert_int_equal(world.nudges, 0);
    assert_int_equal(atomic_load(&calls), USUAL);
    puppets_end(puppets, USUAL);
}

/* Before it looks, before it is parked or waits for something else, and when it goes. */
static void crew__who_is_about_to_wait_says_so(void **state)
{
    struct puppet puppets[USUAL + 1], *busy, *other;

    (void)state;
    start_lookers(puppets);
    puppet_start(&puppets[USUAL]);
    assert_int_equal(atomic_load(&waits_told), USUAL);
    bring(&conns[0], 1);
    busy = wait_for_one(puppets, USUAL + 1);
    assert_int_equal(atomic_load(&waits_told), USUAL);
    sem_post(&busy->may_go_on);
    wait_for_lookers(USUAL);
    assert_int_equal(atomic_load(&waits_told), USUAL + 1);

    bring(&conns[1], 2);
    busy = wait_for_one(puppets, USUAL + 1);
    other = wait_for_one(puppets, USUAL + 1);
    busy->waits = true;
    sem_post(&busy->may_go_on); /* and a third comes in its place, to look */
    assert_ptr_equal(wait_for_one(puppets, USUAL + 1), busy);
    wait_for_lookers(1);
    assert_int_equal(atomic_load(&waits_told), USUAL + 3);
    sem_post(&other->may_go_on);
    wait_for_lookers(USUAL);
    assert_int_equal(atomic_load(&waits_told), USUAL + 4);
    sem_post(&busy->may_go_on); /* it is one too many now */
    wait_for_count(&waits_told, USUAL + 5);
    assert_int_equal(count_waiting(), USUAL);

    bring(&conns[3], 1);
    busy = wait_for_one(puppets, USUAL + 1);
    busy->goes = true;
    sem_post(&busy->may_go_on);
    wait_for_count(&waits_told, USUAL + 7); /* it goes, and the one that was parked looks */
    wait_for_lookers(USUAL);
    puppets_end(puppets, USUAL + 1);
    assert_int_equal(atomic_load(&waits_told), USUAL + 9); /* those that were sent away */
}

static void crew__what_is_more_than_one_can_do_is_shared(void **state)
{
    struct puppet puppets[USUAL], *first, *second;

    (void)state;
    start_lookers(puppets);
    bring(conns, 3);
    first = wait_for_one(puppets, USUAL);
    second = wait_for_one(puppets, USUAL);
    assert_ptr_not_equal(first, second);
    assert_true(first->work.conn != &conns[2] && second->work.conn != &conns[2]);
    assert_true(has_waiting()); /* both run: nobody is there for the third */
    sem_post(&second->may_go_on);
    assert_ptr_equal(wait_for_one(puppets, USUAL), second);
    assert_ptr_equal(second->work.conn, &conns[2]);
    sem_post(&first->may_go_on);
    sem_post(&second->may_go_on);
    wait_for_lookers(USUAL);
    assert_int_equal(atomic_load(&calls), USUAL);
    puppets_end(puppets, USUAL);
}

static void crew__answer_is_told_to_one_that_looks(void **state)
{
    struct puppet puppets[USUAL], *busy;
    struct http_later answers[2] = {0};

    (void)state;
    start_lookers(puppets);
    for (int i = 0; i < 2; i++)
        crew_expect_answer(&crew);
    for (int i = 0; i < 2; i++)
        crew_add_answer(&crew, &answers[i]);
    for (int i = 0; i < 2; i++) {
        busy = wait_for_one(puppets, USUAL);
        assert_true(busy->work.answer == &answers[0] || busy->work.answer == &answers[1]);
    }
    assert_false(has_waiting());
    for (int i = 0; i < USUAL; i++)
        sem_post(&puppets[i].may_go_on);
    wait_for_lookers(USUAL);
    assert_int_equal(atomic_load(&calls), USUAL);
    puppets_end(puppets, USUAL);
}

/* While all that may run do, one of them looks: what is urgent, or has come to stay, isn't seen otherwise. */
static void crew__one_that_is_busy_looks_now_and_then(void **state)
{
    struct gate_conn many[40] = {0}, urgent = {.is_urgent = true};
    struct puppet puppets[1], *busy = puppets;
    int taken = 0;

    (void)state;
    for (int i = 0; i < 40; i++)
        crew_add_request(&crew, &many[i]);
    puppet_start(busy); /* the other one that was called doesn't come */
    wait_for_one(puppets, 1);
    bring(&urgent, 1);
    while (busy->work.conn != &urgent && taken++ < 39) {
        sem_post(&busy->may_go_on);
        wait_for_one(puppets, 1);
    }
    assert_ptr_equal(busy->work.conn, &urgent);
    assert_true(taken <= 10);
    busy->goes = true;
    atomic_store(&is_over, true);
    sem_post(&busy->may_go_on);
    puppets_end(puppets, 1);
}

/* Whoever waits, or goes, leaves somebody behind who looks. */
static void crew__somebody_always_looks(void **state)
{
    struct puppet puppets[USUAL + 1], *first, *second;

    (void)state;
    start_lookers(puppets);
    bring(&conns[0], 1);
    first = wait_for_one(puppets, USUAL);
    bring(&conns[1], 1);
    second = wait_for_one(puppets, USUAL);
    assert_int_equal(count_waiting(), 0); /* as many run as should: nobody else is to look */
    assert_int_equal(atomic_load(&calls), USUAL);
    first->waits = true;
    sem_post(&first->may_go_on);
    assert_ptr_equal(wait_for_one(puppets, USUAL), first);
    assert_int_equal(atomic_load(&calls), USUAL + 1);
    puppet_start(&puppets[USUAL]);
    wait_for_lookers(1);
    second->goes = true;
    sem_post(&second->may_go_on);
    wait_for_lookers(USUAL);
    assert_int_equal(atomic_load(&calls), USUAL + 2);
    sem_post(&first->may_go_on);
    puppets_end(puppets, USUAL + 1);
}

/* Symptom: one that had waited for something looked, and was one too many then; what it had found waited for
 * the end of the others' long calls. */
static void crew__what_is_seen_by_one_too_many_is_not_forgotten(void **state)
{
    struct puppet puppets[USUAL + 1], *first;

    (void)state;
    start_lookers(puppets);
    bring(&conns[0], 1);
    first = wait_for_one(puppets, USUAL);
    first->waits = true;
    sem_post(&first->may_go_on);
    wait_for_one(puppets, USUAL);
    world.more = true;
    bring(&conns[1], 1);
    wait_for_one(puppets, USUAL); /* the other one, with a long call */
    puppet_start(&puppets[USUAL]);
    crew_add_request(&crew, &conns[2]);
    wait_for_one(&puppets[USUAL], 1); /* and another one */
    bring(&conns[3], 1);
    sem_post(&first->may_go_on);
    first = wait_for_one(puppets, USUAL + 1);
    assert_ptr_equal(first->work.conn, &conns[3]);
    atomic_store(&is_over, true);
    crew_close(&crew);
    for (int i = 0; i < USUAL + 1; i++)
        sem_post(&puppets[i].may_go_on);
    puppets_end(puppets, USUAL + 1);
}

/* Symptom: who looked without waiting took the nudge that ends the waiting of another, and kept it. */
static void crew__nudge_at_the_end_is_given_on(void **state)
{
    struct puppet puppets[USUAL];

    (void)state;
    start_lookers(puppets);
    atomic_store(&is_over, true);
    world.steals = true;
    crew_close(&crew);
    assert_int_equal(count_waiting(), USUAL);
    crew_nudge_again(&crew);
    wait_for_lookers(0);
    puppets_end(puppets, USUAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(crew__calls_no_more_than_the_usual_number, start, stop),
        cmocka_unit_test_setup_teardown(crew__answers_go_first_and_in_order, start, stop),
        cmocka_unit_test_setup_teardown(crew__answer_under_way_is_no_quiet, start, stop),
        cmocka_unit_test_setup_teardown(crew__one_that_waits_makes_room_for_another, start, stop),
        cmocka_unit_test_setup_teardown(crew__is_short_when_few_are_left, start, stop),
        cmocka_unit_test_setup_teardown(crew__whoever_has_come_stays_at_hand, start_open, stop),
        cmocka_unit_test_setup_teardown(crew__idle_workers_are_parked_and_woken, start_open, stop),
        cmocka_unit_test_setup_teardown(crew__nobody_parks_who_is_the_only_one_to_come, start_two,
                                        stop),
        cmocka_unit_test_setup_teardown(crew__what_comes_alone_wakes_nobody_else, start_looking,
                                        stop),
        cmocka_unit_test_setup_teardown(crew__who_is_about_to_wait_says_so, start_looking, stop),
        cmocka_unit_test_setup_teardown(crew__what_is_more_than_one_can_do_is_shared, start_looking,
                                        stop),
        cmocka_unit_test_setup_teardown(crew__answer_is_told_to_one_that_looks, start_looking,
                                        stop),
        cmocka_unit_test_setup_teardown(crew__one_that_is_busy_looks_now_and_then, start_looking,
                                        stop),
        cmocka_unit_test_setup_teardown(crew__somebody_always_looks, start_looking, stop),
        cmocka_unit_test_setup_teardown(crew__what_is_seen_by_one_too_many_is_not_forgotten,
                                        start_looking_impatient, stop),
        cmocka_unit_test_setup_teardown(crew__nudge_at_the_end_is_given_on, start_looking, stop),
        cmocka_unit_test_setup_teardown(crew__workers_are_started_when_all_have_something_to_do,
                                        start_without_workers, stop),
        cmocka_unit_test_setup_teardown(crew__what_has_no_worker_is_done_by_those_there_are,
                                        start_without_workers, stop),
        cmocka_unit_test_setup_teardown(crew__without_any_worker_it_does_not_open,
                                        start_without_workers, stop),
        cmocka_unit_test_setup_teardown(crew__stall_brings_more, start_impatient, stop),
        cmocka_unit_test_setup_teardown(crew__others_run_while_some_are_stuck, start_impatient,
                                        stop),
    };

    return cmocka_run_group_tests_name("crew", tests, NULL, NULL);
}
