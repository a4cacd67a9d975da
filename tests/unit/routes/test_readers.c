/* SPDX-License-Identifier: MIT */
#include "unit/routes/site.h"

#include "base/thread.h"
#include "routes/current_user.h"
#include "routes/readers.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static const char script_text[] = "require('authkit').routes { ['GET /'] = function() end }\n";

/* A pool beside the site's own, so that its inside can be seen. */
static struct readers *pool;

static void installed(void *arg, const struct script *script)
{
    (void)arg;
    readers_installed(pool, script);
}

static void start(struct service *s)
{
    struct err err;

    assert_int_equal(readers_new(&pool, "test.db", &err), 0);
    readers_fix_limit(pool, READERS_MAX);
    start_service_with(s, (struct workos_opts){.installed = installed});
    install_script(s, script_text, 1000);
}

static void stop(struct service *s)
{
    readers_free(pool);
    stop_service(s);
}

static struct reader *take(void)
{
    struct reader *reader = NULL;
    struct err err;

    if (readers_take(pool, &reader, &err) < 0)
        fail_msg("%s", err.text);
    return reader;
}

static void readers__without_a_script_there_is_none(void **state)
{
    struct reader *reader;
    struct service s;
    struct err err;

    (void)state;
    assert_int_equal(readers_new(&pool, "test.db", &err), 0);
    start_service(&s);
    assert_int_equal(readers_take(pool, &reader, &err), ERR_ABSENT);
    stop(&s);
}

/* Absent is a script: what asks for a path that isn't there gets a 404, and this is none. */
static void readers__without_a_database_there_is_none(void **state)
{
    struct reader *reader;
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    assert_int_equal(rename("test.db", "moved.db"), 0);
    assert_int_equal(readers_take(pool, &reader, &err), ERR_IO);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(rename("moved.db", "test.db"), 0);
    readers_give_back(pool, take());
    stop(&s);
}

static void readers__the_last_one_is_used_again(void **state)
{
    struct service s;
    struct reader *a, *b;

    (void)state;
    start(&s);
    a = take();
    b = take();
    assert_ptr_not_equal(a, b);
    readers_give_back(pool, a);
    readers_give_back(pool, b);
    assert_ptr_equal(take(), b);
    readers_give_back(pool, b);
    stop(&s);
}

struct turn {
    pthread_barrier_t *both_have_one;
    struct reader *first, *second;
};

/* Beside another one; and once more, when both are idle. */
static void *take_twice(void *arg)
{
    struct turn *turn = arg;

    turn->first = take();
    pthread_barrier_wait(turn->both_have_one);
    readers_give_back(pool, turn->first);
    pthread_barrier_wait(turn->both_have_one);
    turn->second = take();
    pthread_barrier_wait(turn->both_have_one);
    readers_give_back(pool, turn->second);
    return NULL;
}

static void readers__thread_gets_the_one_it_had(void **state)
{
    pthread_barrier_t both;
    struct turn turns[2];
    pthread_t threads[2];
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 2; k++) {
            turns[k] = (struct turn){.both_have_one = &both};
            assert_int_equal(thread_start(&threads[k], "taker", take_twice, &turns[k], &err), 0);
        }
        for (int k = 0; k < 2; k++)
            pthread_join(threads[k], NULL);
        assert_ptr_not_equal(turns[0].first, turns[1].first);
        assert_ptr_equal(turns[0].second, turns[0].first);
        assert_ptr_equal(turns[1].second, turns[1].first);
    }
    pthread_barrier_destroy(&both);
    stop(&s);
}

static void readers__more_are_made_for_who_has_waited(void **state)
{
    struct reader *taken[READERS_MAX], *reader;
    struct service s;
    struct err err;
    int64_t began_ms;

    (void)state;
    start(&s);
    for (int i = 0; i < READERS_MAX; i++)
        taken[i] = take();
    began_ms = clock_mono_ms();
    assert_int_equal(readers_take(pool, &reader, &err), ERR_BUSY);
    assert_true(clock_mono_ms() - began_ms >= READERS_WAIT_MS);
    for (int i = 0; i < READERS_MAX; i++)
        readers_give_back(pool, taken[i]);
    reader = take();
    readers_give_back(pool, reader);
    stop(&s);
}

static void *give_back_soon(void *arg)
{
    const struct timespec pause = {.tv_nsec = 50000000};

    nanosleep(&pause, NULL);
    readers_give_back(pool, arg);
    return NULL;
}

static void readers__who_waits_gets_what_comes_back(void **state)
{
    struct reader *taken[READERS_MAX], *reader;
    struct service s;
    pthread_t thread;
    struct err err;

    (void)state;
    start(&s);
    for (int i = 0; i < READERS_MAX; i++)
        taken[i] = take();
    assert_int_equal(thread_start(&thread, "giver", give_back_soon, taken[0], &err), 0);
    reader = take();
    assert_ptr_equal(reader, taken[0]);
    pthread_join(thread, NULL);
    for (int i = 0; i < READERS_MAX; i++)
        readers_give_back(pool, taken[i]);
    stop(&s);
}

static void *take_and_tell(void *arg)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    struct reader *reader = take();

    *(struct reader **)arg = reader;
    nanosleep(&moment, NULL);
    readers_give_back(pool, reader);
    return NULL;
}

static void readers__who_has_waited_is_not_overtaken(void **state)
{
    const struct timespec pause = {.tv_nsec = 20 * READERS_FAIR_MS * 1000000L};
    struct reader *taken[READERS_MAX], *his = NULL;
    struct service s;
    pthread_t thread;
    struct err err;

    (void)state;
    start(&s);
    for (int i = 0; i < READERS_MAX; i++)
        taken[i] = take();
    assert_int_equal(thread_start(&thread, "waiter", take_and_tell, &his, &err), 0);
    nanosleep(&pause, NULL);
    readers_give_back(pool, taken[0]);
    taken[0] = take(); /* at once, and yet behind him */
    assert_ptr_equal(his, taken[0]);
    pthread_join(thread, NULL);
    for (int i = 0; i < READERS_MAX; i++)
        readers_give_back(pool, taken[i]);
    stop(&s);
}

enum { TAKERS = 24, TAKES = 200 };

static void *take_often(void *arg)
{
    for (int i = 0; i < TAKES; i++) {
        struct reader *reader = NULL;
        struct err err;

        if (readers_take(pool, &reader, &err) < 0) {
            atomic_fetch_add((atomic_int *)arg, 1);
            continue;
        }
        sched_yield();
        readers_give_back(pool, reader);
    }
    return NULL;
}

static void readers__many_who_want_few_places_all_get_one(void **state)
{
    pthread_t threads[TAKERS];
    atomic_int left_out = 0;
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    for (int i = 0; i < TAKERS; i++)
        assert_int_equal(thread_start(&threads[i], "taker", take_often, &left_out, &err), 0);
    for (int i = 0; i < TAKERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(left_out, 0);
    stop(&s);
}

static void readers__a_new_script_reaches_them(void **state)
{
    struct service s;
    struct reader *reader;

    (void)state;
    start(&s);
    reader = take();
    assert_false(readers_is_outdated(pool, reader));
    install_script(&s, "require('authkit').routes { ['GET /new'] = function() end }\n", 1000);
    assert_true(readers_is_outdated(pool, reader));
    assert_string_equal(script_route_names(reader->script), "GET /");
    readers_give_back(pool, reader);
    reader = take();
    assert_string_equal(script_route_names(reader->script), "GET /new");
    assert_false(readers_is_outdated(pool, reader));
    readers_give_back(pool, reader);
    stop(&s);
}

static void *install_soon(void *arg)
{
    const struct timespec pause = {.tv_nsec = 50000000};

    (void)arg;
    nanosleep(&pause, NULL);
    readers_installed(pool, NULL);
    return NULL;
}

static void readers__a_swap_that_comes_to_nothing_changes_nothing(void **state)
{
    struct service s;
    struct reader *reader;
    pthread_t thread;
    struct err err;

    (void)state;
    start(&s);
    reader = take();
    readers_installing(pool);
    assert_int_equal(thread_start(&thread, "installer", install_soon, NULL, &err), 0);
    assert_false(readers_is_outdated(pool, reader)); /* waits for the outcome */
    pthread_join(thread, NULL);
    readers_give_back(pool, reader);
    stop(&s);
}

/* A disk that hangs in the COMMIT holds up nobody who only reads. */
static void readers__nobody_waits_for_ever_for_a_swap(void **state)
{
    int64_t began_ms = clock_mono_ms();
    struct service s;
    struct reader *reader;

    (void)state;
    start(&s);
    reader = take();
    readers_installing(pool);
    assert_false(readers_is_outdated(pool, reader));
    assert_true(clock_mono_ms() - began_ms < 10 * READERS_WAIT_MS);
    readers_give_back(pool, reader);
    readers_installed(pool, NULL);
    stop(&s);
}

static void *wait_for_swap(void *arg)
{
    (void)readers_is_outdated(pool, arg);
    return NULL;
}

/* What comes back is for who wants it, not for who waits for something else. */
static void readers__who_waits_for_a_swap_takes_no_place(void **state)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    struct reader *taken[READERS_MAX], *reader;
    pthread_t waiters[4], giver;
    struct service s;
    struct err err;
    int64_t began_ms;

    (void)state;
    start(&s);
    for (int i = 0; i < READERS_MAX; i++)
        taken[i] = take();
    readers_installing(pool);
    for (int i = 0; i < 4; i++)
        assert_int_equal(thread_start(&waiters[i], "waiter", wait_for_swap, taken[1 + i], &err), 0);
    nanosleep(&pause, NULL);
    assert_int_equal(thread_start(&giver, "giver", give_back_soon, taken[0], &err), 0);
    began_ms = clock_mono_ms();
    reader = take();
    assert_true(clock_mono_ms() - began_ms < READERS_WAIT_MS / 2);
    readers_installed(pool, NULL);
    pthread_join(giver, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(waiters[i], NULL);
    taken[0] = reader;
    for (int i = 0; i < READERS_MAX; i++)
        readers_give_back(pool, taken[i]);
    stop(&s);
}

static int installings;

static void count_installing(void *arg)
{
    (void)arg;
    installings++;
}

/* A new schema may be long in the making, and those whose function fails would wait for it. */
static void readers__a_swap_begins_when_the_schema_is_made(void **state)
{
    static const char *const texts[] = {
        "require('authkit').schema { t = { columns = { a = 'text' } } }\n",
        "require('authkit').schema { t = { columns = { a = 'integer' } } }\n", /* refused: t has rows */
    };
    struct script_opts opts = {.path = "handlers.lua", .memory_bytes = 16 << 20};
    struct buf report = BUF_INIT(65536);
    struct script *script = NULL;
    struct service s;
    struct err err;
    FILE *file;

    (void)state;
    installings = 0;
    start_service_with(&s, (struct workos_opts){.installing = count_installing});
    install_script(&s, texts[0], 1000);
    assert_int_equal(installings, 1);
    exec_sql("INSERT INTO t (_creation_time, a) VALUES (0, 'x')");
    file = fopen("handlers.lua", "w");
    fputs(texts[1], file);
    fclose(file);
    assert_int_equal(script_load(&script, &opts, &err), 0);
    assert_int_equal(workos_install(s.workos, script, &report, &err), ERR_INVALID);
    assert_int_equal(installings, 1);
    script_free(script);
    buf_release(&report);
    stop_service(&s);
}

/* A crowd that wants slow functions must leave threads for what is more urgent. */
static void *take_busy(void *arg)
{
    int64_t began_ms = clock_mono_ms(), *out_ms = arg;
    struct reader *reader;
    struct err err;

    if (readers_take(pool, &reader, &err) == 0)
        readers_give_back(pool, reader);
    *out_ms = clock_mono_ms() - began_ms;
    return NULL;
}

static void readers__a_crowd_does_not_wait_for_long(void **state)
{
    enum { CROWD = READERS_CROWD + 8 };
    struct reader *taken[READERS_MAX];
    pthread_t threads[CROWD];
    int64_t waited_ms[CROWD];
    int patient = 0;
    struct service s;
    struct err err;

    (void)state;
    start(&s);
    for (int i = 0; i < READERS_MAX; i++)
        taken[i] = take();
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(thread_start(&threads[i], "crowd", take_busy, &waited_ms[i], &err), 0);
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
        patient += waited_ms[i] >= READERS_WAIT_MS;
    }
    assert_true(patient > 0 && patient <= READERS_CROWD);
    for (int i = 0; i < READERS_MAX; i++)
        readers_give_back(pool, taken[i]);
    stop(&s);
}

static int64_t count_events(struct reader *reader)
{
    struct stmt *stmt = NULL;
    struct err err;
    int64_t count;

    assert_int_equal(stmt_new(&stmt, reader->db, "SELECT count(*) FROM workos_events", &err), 0);
    assert_int_equal(stmt_step(stmt, &err), 1);
    count = stmt_int(stmt, 0);
    stmt_free(stmt);
    return count;
}

static void readers__what_is_read_is_of_one_moment(void **state)
{
    struct service s;
    struct reader *reader;
    struct err err;

    (void)state;
    start(&s);
    reader = take();
    assert_int_equal(readers_begin(reader, &err), 0);
    assert_int_equal(count_events(reader), 0);
    assert_int_equal(deliver_event(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    assert_int_equal(count_events(reader), 0);
    readers_end(reader);
    assert_int_equal(count_events(reader), 1);
    readers_give_back(pool, reader);
    stop(&s);
}

static void readers__a_user_is_shown_with_every_column_but_raw(void **state)
{
    struct buf out = BUF_INIT(65536);
    struct service s;
    struct reader *reader;
    struct err err;

    (void)state;
    start(&s);
    assert_int_equal(deliver_event(&s, "event_1", "user.created", "user_1"), WEBHOOK_RECEIVED);
    exec_sql("UPDATE workos_users SET first_name = 'Ada \"x\"', email_verified = 1,"
             " metadata = '{\"a\":\"b\"}'");
    reader = take();
    for (int i = 0; i < 2; i++) {
        buf_reset(&out);
        assert_int_equal(current_user_put(reader, "user_1", &out, &err), 1);
        assert_string_equal(buf_text(&out),
                            "{\"id\":\"user_1\",\"email\":null,\"email_verified\":true,"
                            "\"name\":null,\"first_name\":\"Ada \\\"x\\\"\",\"last_name\":null,"
                            "\"profile_picture_url\":null,\"last_sign_in_at\":null,"
                            "\"external_id\":null,\"locale\":null,\"metadata\":{\"a\":\"b\"},"
                            "\"created_at\":null,\"updated_at\":null}");
    }
    buf_reset(&out);
    assert_int_equal(current_user_put(reader, "user_2", &out, &err), 0);
    assert_int_equal(out.len, 0);
    readers_give_back(pool, reader);
    buf_release(&out);
    stop(&s);
}

/* It was ended by whoever began it, behind two calls of the writer: a long migration, which fills the
 * log itself, delayed every GET by seconds, and the one that had begun it by minutes. */
static void *pause_and_tell(void *arg)
{
    int64_t began_ms = clock_mono_ms();

    readers_pause(pool);
    *(int64_t *)arg = clock_mono_ms() - began_ms;
    return NULL;
}

static void readers__a_pause_is_as_long_as_the_snapshot_that_runs(void **state)
{
    const struct timespec a_while = {.tv_nsec = 200000000};
    struct reader *reader;
    struct service s;
    pthread_t thread;
    struct err err;
    int64_t paused_ms;

    (void)state;
    start(&s);
    reader = take();
    assert_int_equal(readers_begin(reader, &err), 0);
    assert_int_equal(thread_start(&thread, "pauser", pause_and_tell, &paused_ms, &err), 0);
    nanosleep(&a_while, NULL);
    readers_end(reader);
    pthread_join(thread, NULL);
    assert_true(paused_ms >= 50 && paused_ms < READERS_PAUSE_MS);
    readers_give_back(pool, reader);
    stop(&s);
}

static void readers__a_pause_ends_by_itself(void **state)
{
    struct service s;
    struct reader *reader;
    struct err err;
    int64_t began_ms;

    (void)state;
    start(&s);
    reader = take();
    began_ms = clock_mono_ms();
    readers_pause(pool); /* nobody reads: at once */
    assert_int_equal(readers_begin(reader, &err), 0);
    assert_true(clock_mono_ms() - began_ms >= READERS_MOMENT_MS);
    assert_true(clock_mono_ms() - began_ms < READERS_WAIT_MS);
    readers_end(reader);
    readers_give_back(pool, reader);
    stop(&s);
}

/* Who takes a place, works for a moment, and gives it back, until there is an end. */
struct worker {
    atomic_bool *ended;
    atomic_int *taken, *most_taken;
};

static void *work(void *arg)
{
    struct worker *worker = arg;

    while (!atomic_load(worker->ended)) {
        struct reader *reader = take();
        int64_t until_ns = clock_thread_cpu_ns() + 5 * INT64_C(1000000);
        int taken = atomic_fetch_add(worker->taken, 1) + 1;
        int most = atomic_load(worker->most_taken);

        while (most < taken && !atomic_compare_exchange_weak(worker->most_taken, &most, taken))
            ;
        while (clock_thread_cpu_ns() < until_ns)
            ;
        atomic_fetch_sub(worker->taken, 1);
        readers_give_back(pool, reader);
    }
    return NULL;
}

/* Symptom: as long as anybody waited there were two more twice a second, and after a while all ran at once. */
static void readers__quick_functions_get_no_more_places_than_help(void **state)
{
    enum { THREADS_MAX = 48 };
    int usual = thread_processors() < 2 ? 2 : thread_processors(), count = 4 * usual;
    pthread_t threads[THREADS_MAX];
    atomic_bool ended = false;
    atomic_int taken = 0, most_taken = 0;
    struct worker worker = {&ended, &taken, &most_taken};
    struct service s;
    struct err err;

    (void)state;
    if (count > THREADS_MAX)
        skip();
    assert_int_equal(readers_new(&pool, "test.db", &err), 0);
    start_service_with(&s, (struct workos_opts){.installed = installed});
    install_script(&s, script_text, 1000);
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &worker), 0);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 700 * 1000000}, NULL);
    atomic_store(&ended, true);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(atomic_load(&most_taken), 2, 2 * usual);
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(readers__without_a_script_there_is_none),
        IN_TEMP_DIR(readers__without_a_database_there_is_none),
        IN_TEMP_DIR(readers__the_last_one_is_used_again),
        IN_TEMP_DIR(readers__thread_gets_the_one_it_had),
        IN_TEMP_DIR(readers__more_are_made_for_who_has_waited),
        IN_TEMP_DIR(readers__who_waits_gets_what_comes_back),
        IN_TEMP_DIR(readers__who_has_waited_is_not_overtaken),
        IN_TEMP_DIR(readers__many_who_want_few_places_all_get_one),
        IN_TEMP_DIR(readers__a_new_script_reaches_them),
        IN_TEMP_DIR(readers__a_swap_that_comes_to_nothing_changes_nothing),
        IN_TEMP_DIR(readers__nobody_waits_for_ever_for_a_swap),
        IN_TEMP_DIR(readers__who_waits_for_a_swap_takes_no_place),
        IN_TEMP_DIR(readers__a_swap_begins_when_the_schema_is_made),
        IN_TEMP_DIR(readers__a_crowd_does_not_wait_for_long),
        IN_TEMP_DIR(readers__what_is_read_is_of_one_moment),
        IN_TEMP_DIR(readers__a_user_is_shown_with_every_column_but_raw),
        IN_TEMP_DIR(readers__a_pause_is_as_long_as_the_snapshot_that_runs),
        IN_TEMP_DIR(readers__a_pause_ends_by_itself),
        IN_TEMP_DIR(readers__quick_functions_get_no_more_places_than_help),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
