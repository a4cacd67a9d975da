/* SPDX-License-Identifier: MIT */
/* The life of a key set, with a pace that tests have the time for. */
#include "auth/keys.h"

#include "unit/auth/jwt.h"
#include "unit/fetch/peer.h"
#include "unit/store/temp_dir.h"

#include "fetch/fetch.h"

#include <limits.h>
#include <signal.h>
#include <time.h>

/* How much longer than it should a slow build on a busy machine may take. */
enum { PATIENCE_MS = 10000, SOON_MS = 1000, NEVER_MS = 600000, TICK_MS = 20 };

static struct rsa_pair a, b;
static char set_a[JWT_MAX], set_b[JWT_MAX]; /* answers, with the keys "a" and "b" */
static struct peer peer;                    /* large: not on the stack */

#define NO_KEYS "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}"
#define OUTAGE "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"

static struct keys *start_url(const char *url, struct keys_pace pace)
{
    const struct keys_opts opts = {.url = url, .user_agent = "test/1", .pace = pace};
    struct keys *keys = NULL;
    struct err err = {0};

    if (keys_start(&keys, &opts, &err) < 0)
        fail_msg("%s", err.text);
    return keys;
}

static struct keys *start(const struct peer_step *steps, size_t count, struct keys_pace pace)
{
    peer_start(&peer, steps, count);
    return start_url(peer.url, pace);
}

static void stop(struct keys *keys)
{
    keys_stop(keys);
    peer_stop(&peer);
}

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* Is there a set, and has it the key? */
static bool has(struct keys *keys, const char *key_id)
{
    struct key_set *set = keys_for(keys, key_id);
    bool has_it = set && key_set_has(set, key_id);

    key_set_release(set);
    return has_it;
}

static bool has_set(struct keys *keys)
{
    struct key_set *set = keys_for(keys, "absent");

    key_set_release(set);
    return set != NULL;
}

/* Asks again and again, as tokens come in, until it is so. */
static void becomes(struct keys *keys, const char *key_id, bool wanted)
{
    int64_t end_ms = clock_mono_ms() + PATIENCE_MS;

    while (has(keys, key_id) != wanted) {
        if (clock_mono_ms() > end_ms)
            fail_msg("key %s: never %d", key_id, wanted);
        sleep_ms(10);
    }
}

static void keys__who_comes_first_waits_for_the_first_reading(void **state)
{
    static struct peer_step step;
    struct keys *keys;

    (void)state;
    step = (struct peer_step){.answer = set_a};
    keys = start(&step, 1, (struct keys_pace){0});
    assert_true(has(keys, "a"));
    assert_true(has(keys, "a"));
    assert_int_equal(peer.count, 1);
    stop(keys);
}

static void keys__an_unknown_key_brings_the_new_set(void **state)
{
    static struct peer_step steps[2];
    struct keys *keys;

    (void)state;
    steps[0] = (struct peer_step){.answer = set_a};
    steps[1] = (struct peer_step){.answer = set_b};
    keys = start(steps, 2, (struct keys_pace){.pause_ms = 50});
    assert_true(has(keys, "a"));
    sleep_ms(50 + TICK_MS);
    assert_true(has(keys, "b")); /* the very first token with it is good */
    assert_false(has(keys, "a"));
    stop(keys);
}

/* Within the pause nobody waits, but the next reading comes when it is over. */
static void keys__an_unknown_key_within_the_pause(void **state)
{
    static struct peer_step steps[2];
    int64_t start_ms;
    struct keys *keys;

    (void)state;
    steps[0] = (struct peer_step){.answer = set_a};
    steps[1] = (struct peer_step){.answer = set_b};
    keys = start(steps, 2, (struct keys_pace){.pause_ms = 1500, .wait_ms = 60000});
    assert_true(has(keys, "a"));
    start_ms = clock_mono_ms();
    assert_false(has(keys, "b"));
    assert_in_range(clock_mono_ms() - start_ms, 0, SOON_MS);
    while (peer.count < 2 && clock_mono_ms() - start_ms < PATIENCE_MS)
        sleep_ms(10);
    assert_in_range(clock_mono_ms() - start_ms, 1500 - SOON_MS, PATIENCE_MS);
    becomes(keys, "b", true);
    stop(keys);
}

/* ---------------------------------------------------------------------------------- floods */

struct flood {
    struct keys *keys;
    int64_t end_ms;
    atomic_int asked;
};

static void *ask_for_unknown_keys(void *arg)
{
    struct flood *flood = arg;

    while (clock_mono_ms() < flood->end_ms) {
        key_set_release(keys_for(flood->keys, "nobody's"));
        flood->asked++;
    }
    return NULL;
}

static void keys__a_flood_of_unknown_keys_is_a_reading_every_pause(void **state)
{
    enum { THREADS = 8, FLOOD_MS = 1000, PAUSE_MS = 250 };
    static struct peer_step step;
    pthread_t threads[THREADS];
    struct flood flood = {0};
    int64_t start_ms;

    (void)state;
    step = (struct peer_step){.answer = set_a};
    start_ms = clock_mono_ms();
    flood.keys = start(&step, 1, (struct keys_pace){.pause_ms = PAUSE_MS});
    flood.end_ms = start_ms + FLOOD_MS;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_for_unknown_keys, &flood), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(has(flood.keys, "a"));
    assert_in_range(peer.count, 2, (clock_mono_ms() - start_ms) / PAUSE_MS + 1);
    assert_true(flood.asked > 100);
    stop(flood.keys);
}

static void *ask_for_known_keys(void *arg)
{
    struct flood *flood = arg;
    unsigned char signature[256] = {0};

    while (clock_mono_ms() < flood->end_ms) {
        struct key_set *set = keys_for(flood->keys, flood->asked % 2 ? "a" : "b");
        bool is_genuine = true;

        if (set &&
            key_set_verify(set, "a", "x", 1, signature, sizeof(signature), &is_genuine, NULL) ==
                0 &&
            is_genuine && key_set_has(set, "a"))
            abort();
        key_set_release(set);
        flood->asked++;
    }
    return NULL;
}

/* Sets come and go while others verify with them. */
static void keys__rotation_while_many_verify(void **state)
{
    enum { THREADS = 4 };
    static struct peer_step steps[PEER_REQUESTS_MAX];
    pthread_t threads[THREADS];
    struct flood flood = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        steps[i] = (struct peer_step){.answer = i % 2 ? set_b : set_a};
    flood.keys = start(steps, ARRAY_LEN(steps), (struct keys_pace){.pause_ms = 1, .refresh_ms = 5});
    flood.end_ms = clock_mono_ms() + 500;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_for_known_keys, &flood), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(peer.count > 4);
    stop(flood.keys);
}

/* ---------------------------------------------------------------------------------- refresh, outages */

static void keys__a_withdrawn_key_goes_by_itself(void **state)
{
    static struct peer_step steps[2];
    struct keys *keys;

    (void)state;
    steps[0] = (struct peer_step){.answer = set_a};
    steps[1] = (struct peer_step){.answer = set_b};
    keys = start(steps, 2, (struct keys_pace){.refresh_ms = 50, .pause_ms = 10});
    becomes(keys, "a", false);
    becomes(keys, "b", true);
    stop(keys);
}

static void keys__an_outage_keeps_the_keys(void **state)
{
    static const char *const answers[] = {
        OUTAGE,
        NO_KEYS,
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
        "", /* the connection ends */
    };
    static struct peer_step steps[7];
    struct keys *keys;

    (void)state;
    steps[0] = (struct peer_step){.answer = set_a};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        steps[1 + i] = (struct peer_step){.answer = answers[i], .then = PEER_CLOSE};
    steps[6] = (struct peer_step){.answer = set_b};
    keys = start(steps, ARRAY_LEN(steps), (struct keys_pace){.refresh_ms = 20, .pause_ms = 20});
    while (peer.count < 6) {
        struct key_set *set = keys_for(keys, "a");

        assert_non_null(set); /* from the first to the last of them */
        assert_true(key_set_has(set, "a") || peer.count >= 6);
        key_set_release(set);
        sleep_ms(5);
    }
    becomes(keys, "b", true);
    stop(keys);
}

static void keys__without_any_set_there_is_none(void **state)
{
    static const struct peer_step steps[] = {{OUTAGE, PEER_KEEP, 0}, {NO_KEYS, PEER_KEEP, 0}};
    int64_t start_ms;
    struct keys *keys;

    (void)state;
    keys = start(steps, 2, (struct keys_pace){.pause_ms = 20});
    for (size_t i = 0; i < 100 && peer.count < 4; i++)
        assert_false(has_set(keys));
    stop(keys);
    /* Within the pause the answer comes at once. */
    keys = start(steps, 1, (struct keys_pace){.pause_ms = NEVER_MS, .wait_ms = NEVER_MS});
    assert_false(has_set(keys));
    start_ms = clock_mono_ms();
    for (int i = 0; i < 100; i++)
        assert_false(has_set(keys));
    assert_in_range(clock_mono_ms() - start_ms, 0, PATIENCE_MS);
    assert_int_equal(peer.count, 1);
    stop(keys);
}

static void keys__the_server_comes_up_later(void **state)
{
    static struct peer_step steps[3];
    struct keys *keys;

    (void)state;
    steps[0] = steps[1] = (struct peer_step){.answer = OUTAGE};
    steps[2] = (struct peer_step){.answer = set_a};
    keys = start(steps, 3, (struct keys_pace){.pause_ms = 20});
    becomes(keys, "a", true);
    stop(keys);
}

static void keys__asks_again_when_the_server_wants_it(void **state)
{
    static struct peer_step steps[2];
    int64_t start_ms;
    struct keys *keys;

    (void)state;
    steps[0] = (struct peer_step){
        .answer = "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"};
    steps[1] = (struct peer_step){.answer = set_a};
    start_ms = clock_mono_ms();
    keys = start(steps, 2, (struct keys_pace){.pause_ms = 10});
    becomes(keys, "a", true);
    assert_in_range(clock_mono_ms() - start_ms, 1000 - TICK_MS, PATIENCE_MS);
    stop(keys);
}

static void keys__a_file_that_is_edited(void **state)
{
    char dir[PATH_MAX], url[PATH_MAX + 64];
    struct keys *keys;
    FILE *file;

    (void)state;
    assert_non_null(getcwd(dir, sizeof(dir)));
    snprintf(url, sizeof(url), "file://%s/keys.json", dir);
    keys = start_url(url, (struct keys_pace){.pause_ms = 20});
    assert_false(has_set(keys));
    for (int i = 0; i < 2; i++) {
        file = fopen("new.json", "w");
        assert_non_null(file);
        fputs(strstr(i ? set_b : set_a, "\r\n\r\n"), file);
        fclose(file);
        assert_int_equal(rename("new.json", "keys.json"), 0);
        becomes(keys, i ? "b" : "a", true);
    }
    assert_false(has(keys, "a"));
    assert_int_equal(unlink("keys.json"), 0);
    assert_false(has(keys, "a"));
    assert_true(has(keys, "b"));
    keys_stop(keys);
}

/* ---------------------------------------------------------------------------------- hanging servers */

struct waiter {
    struct keys *keys;
    atomic_bool has_begun, is_done, has_set;
};

static void *wait_for_a_set(void *arg)
{
    struct waiter *waiter = arg;
    struct key_set *set;

    waiter->has_begun = true;
    set = keys_for(waiter->keys, "b");
    waiter->has_set = set != NULL;
    waiter->is_done = true;
    key_set_release(set);
    return NULL;
}

/* A known key never waits, an unknown one so long and no longer. */
static void keys__a_server_that_hangs(void **state)
{
    static struct peer_step steps[2];
    int64_t start_ms;
    struct keys *keys;

    (void)state;
    steps[0] = (struct peer_step){.answer = set_a};
    steps[1] = (struct peer_step){.answer = "", .then = PEER_HANG};
    keys = start(steps, 2, (struct keys_pace){.pause_ms = 10, .wait_ms = 300});
    assert_true(has(keys, "a"));
    sleep_ms(10 + TICK_MS);
    start_ms = clock_mono_ms();
    assert_false(has(keys, "b"));
    assert_in_range(clock_mono_ms() - start_ms, 300 - TICK_MS, PATIENCE_MS);
    start_ms = clock_mono_ms();
    for (int i = 0; i < 100; i++)
        assert_true(has(keys, "a"));
    assert_in_range(clock_mono_ms() - start_ms, 0, 300 * 100 / 10);
    start_ms = clock_mono_ms();
    keys_stop(keys);
    assert_in_range(clock_mono_ms() - start_ms, 0, SOON_MS);
    peer_stop(&peer);
}

static void keys__a_stop_while_the_first_reading_hangs(void **state)
{
    static const struct peer_step step = {.answer = "", .then = PEER_HANG};
    struct waiter waiter = {0};
    pthread_t thread;
    int64_t start_ms;

    (void)state;
    waiter.keys = start(&step, 1, (struct keys_pace){.wait_ms = NEVER_MS});
    assert_int_equal(pthread_create(&thread, NULL, wait_for_a_set, &waiter), 0);
    while (!waiter.has_begun || peer.count < 1)
        sleep_ms(5);
    sleep_ms(50);
    assert_false(waiter.is_done);
    start_ms = clock_mono_ms();
    keys_refuse(waiter.keys);
    pthread_join(thread, NULL);
    assert_false(waiter.has_set);
    assert_false(has_set(waiter.keys)); /* at once */
    keys_stop(waiter.keys);
    assert_in_range(clock_mono_ms() - start_ms, 0, SOON_MS);
    peer_stop(&peer);
}

static void keys__a_server_that_stops_still_knows_its_keys(void **state)
{
    static struct peer_step step;
    struct keys *keys;

    (void)state;
    step = (struct peer_step){.answer = set_a};
    keys = start(&step, 1, (struct keys_pace){.wait_ms = NEVER_MS});
    assert_true(has(keys, "a"));
    keys_refuse(keys);
    keys_refuse(keys);
    assert_true(has(keys, "a"));
    assert_false(has_set(keys)); /* it can't be told any more whose key that is */
    stop(keys);
}

static void keys__so_many_wait_and_no_more(void **state)
{
    enum { WAITERS = 32 };
    static const struct peer_step step = {.answer = "", .then = PEER_HANG};
    static struct waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    int64_t start_ms;
    struct keys *keys;

    (void)state;
    keys = start(&step, 1, (struct keys_pace){.wait_ms = 4000});
    for (int i = 0; i < WAITERS; i++) {
        waiters[i] = (struct waiter){.keys = keys};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_a_set, &waiters[i]), 0);
    }
    for (int i = 0; i < WAITERS; i++)
        while (!waiters[i].has_begun)
            sleep_ms(1);
    sleep_ms(200);
    start_ms = clock_mono_ms();
    assert_false(has_set(keys));
    assert_in_range(clock_mono_ms() - start_ms, 0, SOON_MS);
    assert_false(waiters[0].is_done);
    keys_refuse(keys);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(threads[i], NULL);
    stop(keys);
}

static void keys__nothing_to_stop(void **state)
{
    const struct keys_opts opts = {.url = "nonsense", .user_agent = "test/1"};
    struct keys *keys = NULL;
    struct err err;

    (void)state;
    keys_stop(NULL);
    assert_int_equal(keys_start(&keys, &opts, &err), ERR_INVALID);
    assert_null(keys);
}

/* Nobody listens: the address is known, and nobody is there. */
static void keys__nobody_there(void **state)
{
    struct keys *keys = start_url("http://127.0.0.1:1/jwks", (struct keys_pace){0});
    int64_t start_ms = clock_mono_ms();

    (void)state;
    assert_false(has_set(keys));
    keys_stop(keys);
    assert_in_range(clock_mono_ms() - start_ms, 0, PATIENCE_MS);
}

static void put_answer(char *out, const struct rsa_pair *pair, const char *key_id)
{
    struct buf text = BUF_INIT(JWT_MAX / 2);

    jwt_put_set(&text, pair, key_id);
    snprintf(out, JWT_MAX, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", text.len, text.data);
    buf_release(&text);
}

static int set_up(void **state)
{
    struct err err;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    a = rsa_pair_new(2048);
    b = rsa_pair_new(2048);
    put_answer(set_a, &a, "a");
    put_answer(set_b, &b, "b");
    return fetch_set_up(&err);
}

static int tear_down(void **state)
{
    (void)state;
    rsa_pair_free(&a);
    rsa_pair_free(&b);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys__who_comes_first_waits_for_the_first_reading),
        cmocka_unit_test(keys__an_unknown_key_brings_the_new_set),
        cmocka_unit_test(keys__an_unknown_key_within_the_pause),
        cmocka_unit_test(keys__a_flood_of_unknown_keys_is_a_reading_every_pause),
        cmocka_unit_test(keys__rotation_while_many_verify),
        cmocka_unit_test(keys__a_withdrawn_key_goes_by_itself),
        cmocka_unit_test(keys__an_outage_keeps_the_keys),
        cmocka_unit_test(keys__without_any_set_there_is_none),
        cmocka_unit_test(keys__the_server_comes_up_later),
        cmocka_unit_test(keys__asks_again_when_the_server_wants_it),
        cmocka_unit_test_setup_teardown(keys__a_file_that_is_edited, enter_temp_dir,
                                        leave_temp_dir),
        cmocka_unit_test(keys__a_server_that_hangs),
        cmocka_unit_test(keys__a_stop_while_the_first_reading_hangs),
        cmocka_unit_test(keys__a_server_that_stops_still_knows_its_keys),
        cmocka_unit_test(keys__so_many_wait_and_no_more),
        cmocka_unit_test(keys__nothing_to_stop),
        cmocka_unit_test(keys__nobody_there),
    };

    return cmocka_run_group_tests_name("keys", tests, set_up, tear_down);
}
