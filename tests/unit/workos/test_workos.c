/* SPDX-License-Identifier: MIT */
#include "unit/workos/service.h"

#include "base/thread.h"

#include <pthread.h>
#include <semaphore.h>

/* A call that keeps the writer until the test lets go of it, or one that does nothing. */
struct caller {
    struct workos_call call; /* first: it is cast back */
    struct workos *workos;
    sem_t *held, *go;
    pthread_t thread;
    int runs, rc;
    struct err err;
};

static int run_call(struct workos_call *call, struct script *script, struct db *db, struct err *err)
{
    struct caller *caller = (struct caller *)call;

    (void)script, (void)db, (void)err;
    caller->runs++;
    if (caller->held) {
        sem_post(caller->held);
        sem_wait(caller->go);
    }
    return 0;
}

static void *call_main(void *arg)
{
    struct caller *caller = arg;

    caller->rc = workos_run(caller->workos, &caller->call, &caller->err);
    return NULL;
}

static void start_call(struct caller *caller, struct service *s)
{
    struct err err;

    caller->call = (struct workos_call){.name = "POST /", .run = run_call};
    caller->workos = s->workos;
    assert_int_equal(thread_start(&caller->thread, "caller", call_main, caller, &err), 0);
}

/* So many calls behind one that takes 200 ms, all of them on threads of the server. */
static void call_together(struct service *s, struct caller *callers, size_t count)
{
    const struct timespec pause = {.tv_nsec = 200000000};
    sem_t held, go;

    sem_init(&held, 0, 0);
    sem_init(&go, 0, 0);
    callers[0] = (struct caller){.held = &held, .go = &go};
    start_call(&callers[0], s);
    sem_wait(&held);
    for (size_t i = 1; i < count; i++) {
        callers[i] = (struct caller){0};
        start_call(&callers[i], s);
    }
    nanosleep(&pause, NULL);
    sem_post(&go);
    for (size_t i = 0; i < count; i++)
        pthread_join(callers[i].thread, NULL);
    sem_destroy(&held);
    sem_destroy(&go);
}

static void workos__few_calls_wait_for_their_turn(void **state)
{
    struct caller callers[4];
    struct service s;

    (void)state;
    start_service_with(&s, (struct workos_opts){.crowd = 5});
    call_together(&s, callers, ARRAY_LEN(callers));
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        assert_int_equal(callers[i].rc, 0);
        assert_int_equal(callers[i].runs, 1);
    }
    stop_service(&s);
}

/* A crowd of strangers behind slow functions must leave threads for webhooks and actions. */
static void workos__crowd_of_calls_is_turned_away(void **state)
{
    struct caller callers[8];
    size_t busy = 0;
    struct service s;

    (void)state;
    start_service_with(&s, (struct workos_opts){.crowd = 5});
    call_together(&s, callers, ARRAY_LEN(callers));
    assert_int_equal(callers[0].rc, 0);
    for (size_t i = 1; i < ARRAY_LEN(callers); i++) {
        assert_int_equal(callers[i].runs, callers[i].rc == 0);
        assert_true(callers[i].rc == 0 || callers[i].rc == ERR_BUSY);
        busy += callers[i].rc == ERR_BUSY;
    }
    assert_true(busy == 3 ||
                busy == 4); /* until those that are left are none; the first may be gone */
    stop_service(&s);
}

/* One script after the other, and what is said of the second one. */
static void reports(struct service *s, const char *first, const char *second, const char *wanted)
{
    struct buf report = {0};

    install_script(s, first, 1000);
    install_reporting(s, second, 1000, &report);
    assert_string_equal(buf_text(&report), wanted);
    buf_release(&report);
}

/* Their events were done without them, and nothing was said. */
static void workos__functions_that_are_gone_are_named(void **state)
{
    static const char all[] = "local authkit = require 'authkit'\nlocal function f() end\n"
                              "authkit.events { a = f, b = f, c = f }\n"
                              "authkit.actions { authentication = f }\n"
                              "authkit.routes { ['GET /x'] = f, ['GET /x/:y'] = f }\n";
    struct service s;

    (void)state;
    start_service(&s);
    reports(&s, "", all, "");
    reports(&s, all, all, "");
    reports(&s, all,
            "local authkit = require 'authkit'\nlocal function f() end\n"
            "authkit.events { a = f, c = f, d = f }\n"
            "authkit.actions { user_registration = f }\nauthkit.routes { ['GET /x/:y'] = f }\n",
            "warning: without a function any more: b, authentication, GET /x");
    reports(&s,
            "local t = {} for i = 10, 40 do t['e' .. i] = function() end end\n"
            "require 'authkit'.events(t)",
            "",
            "warning: without a function any more: e10, e11, e12, e13, e14, e15, e16, e17, e18, "
            "e19, e20, e21, e22, e23, e24, e25, e26, e27, e28, e29 and 11 more");
    stop_service(&s);
}

/* Those without a function don't run again: they are dead at once. */
static void workos__failed_events_without_a_function_are_not_counted(void **state)
{
    static const char fails[] = "local function f() error 'x' end\n"
                                "require 'authkit'.events { a = f, b = f }";
    struct buf report = {0};
    struct service s;

    (void)state;
    start_service(&s);
    install_script(&s, fails, 1000);
    deliver_event(&s, "event_1", "a", "o1");
    deliver_event(&s, "event_2", "b", "o2");
    deliver_event(&s, "event_3", "b", "o3");
    install_reporting(&s, "require 'authkit'.events { a = function() end }", 1000, &report);
    assert_string_equal(buf_text(&report), "warning: without a function any more: b\n"
                                           "note: failed events that run again now: 1");
    buf_release(&report);
    await_value("SELECT group_concat(id || status, ' ') FROM workos_events",
                "event_1done event_2dead event_3dead");
    install_reporting(&s, "", 1000, &report);
    assert_string_equal(buf_text(&report), "warning: without a function any more: a");
    buf_release(&report);
    stop_service(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(workos__few_calls_wait_for_their_turn),
        IN_TEMP_DIR(workos__crowd_of_calls_is_turned_away),
        IN_TEMP_DIR(workos__functions_that_are_gone_are_named),
        IN_TEMP_DIR(workos__failed_events_without_a_function_are_not_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
