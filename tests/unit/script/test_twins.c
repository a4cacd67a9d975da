/* SPDX-License-Identifier: MIT */
/* Twins of a script: several states of one text, each on a thread of its own. */
#include "asking.h"

#include <pthread.h>
#include <sys/resource.h>

#define TEXT "200 text/plain; charset=utf-8||"

enum { THREADS = 4, CALLS = 60, SMALL_STACK = 1024 * 1024 };

static void must(int rc, const struct err *err)
{
    if (rc < 0)
        fail_msg("%s", err->text);
}

/* What the HTTP threads of the server have. The sanitizers' frames are larger than ours. */
static void on_small_stack(void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;
    size_t size = SMALL_STACK;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    size *= 4;
#endif
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, size);
    assert_int_equal(pthread_create(&thread, &attr, run, arg), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
}

/* ------------------------------------------------------------------------- one after the other */

static void twin__is_a_script_of_its_own(void **state)
{
    struct asking a;
    struct script *twin = NULL, *second = NULL;

    (void)state;
    asking_open(&a);
    asking_load(&a, "n = 0\nauthkit.routes { ['GET /'] = function()\n"
                    "  n = n + 1 return tostring(n) end }\n"
                    "authkit.events { t = function() n = n + 100 end }");
    must(script_twin(&twin, a.b.script, &a.b.err), &a.b.err);
    must(script_twin(&second, twin, &a.b.err), &a.b.err);
    assert_string_equal(asking_for(&a, "GET /"), TEXT "1");
    bench_run(&a.b);
    bench_ok(&a.b);
    assert_string_equal(asking_for(&a, "GET /"), TEXT "102");
    assert_string_equal(asking_on(&a, twin, a.b.db, "GET /"), TEXT "1");
    assert_string_equal(script_route_names(twin), "GET /");
    assert_true(script_handles_event(second, "t"));
    script_free(a.b.script);
    a.b.script = NULL;
    assert_string_equal(asking_on(&a, twin, a.b.db, "GET /"), TEXT "2");
    script_free(twin);
    assert_string_equal(asking_on(&a, second, a.b.db, "GET /"), TEXT "1");
    script_detach(second);
    assert_string_equal(asking_on(&a, second, a.b.db, "GET /"), TEXT "1");
    script_free(second);
    asking_close(&a);
}

/* A twin is made of the texts that the first one was made of, whatever is in the files by now. */
static void twin__is_of_the_same_text(void **state)
{
    struct asking a;
    struct script *twin = NULL;

    (void)state;
    asking_open(&a);
    bench_file("m.lua", "return 'old'");
    bench_file("later.lua", "return 'first'");
    asking_load(&a, "local m = require 'm'\n"
                    "authkit.routes { ['GET /'] = function() return m end,\n"
                    "  ['GET /later'] = function() return require 'later' end }");
    must(script_twin(&twin, a.b.script, &a.b.err), &a.b.err);
    bench_file("m.lua", "return 'new'");
    bench_file("handlers.lua", "error('edited')");
    assert_string_equal(asking_on(&a, twin, a.b.db, "GET /"), TEXT "old");
    assert_string_equal(asking_on(&a, twin, a.b.db, "GET /later"), TEXT "first");
    bench_file("later.lua", "return 'second'"); /* read already: the same for all */
    assert_string_equal(asking_for(&a, "GET /later"), TEXT "first");
    script_free(twin);
    asking_close(&a);
}

static void twin__limit_closes_its_own_state_only(void **state)
{
    struct asking a;
    struct script *twin = NULL;

    (void)state;
    asking_open(&a);
    a.b.timeout_ms = 200;
    asking_load(&a, "n = 0\nauthkit.routes { ['GET /'] = function(ctx, request)\n"
                    "  n = n + 1\n  while request.query.loop do end\n  return tostring(n) end }");
    must(script_twin(&twin, a.b.script, &a.b.err), &a.b.err);
    assert_string_equal(asking_for(&a, "GET /"), TEXT "1");
    assert_string_equal(asking_on(&a, twin, a.b.db, "GET /"), TEXT "1");
    asking_on(&a, twin, a.b.db, "GET /?loop");
    bench_says(&a.b, ERR_LIMIT, "ran longer than 200 ms");
    assert_string_equal(asking_on(&a, twin, a.b.db, "GET /"), TEXT "1");
    assert_string_equal(asking_for(&a, "GET /"), TEXT "2");
    script_free(twin);
    asking_close(&a);
}

/* ------------------------------------------------------------------------- at the same time */

struct reader {
    pthread_t thread;
    const struct script *of;
    pthread_barrier_t *begin;
    char problem[4096];
};

static void complain(struct reader *r, const char *what, const struct err *err)
{
    snprintf(r->problem, sizeof(r->problem), "%s: %s", what, err->text);
}

static void read_once(struct reader *r, struct script *twin, struct db *db, int i)
{
    char path[32];
    struct http_request request = {
        .method = i % 2 ? "GET" : "HEAD", .path = path, .body = "", .remote_addr = ""};
    struct script_caller caller = {.status = 401, .code = "token_missing", .message = "none"};
    struct script_route_call call = {.request = &request, .caller = &caller, .read_only = true};
    struct http_response response = {.body = BUF_INIT(1 << 20), .headers = BUF_INIT(16384)};
    struct buf methods = BUF_INIT(100);
    struct err err = {0};
    const char *wanted = "{\"id\":\"user_1\"}";

    snprintf(path, sizeof(path), i % 5 ? "/user/user_%%31" : "/grow");
    if (script_find_route(r->of, request.method, path) != SCRIPT_ROUTE_FOUND)
        complain(r, "not found", &err);
    script_put_route_methods(r->of, path, &methods);
    if (script_run_route(twin, db, &call, &response, &err) < 0) {
        if (i % 5 || err.code != ERR_LIMIT)
            complain(r, path, &err);
    } else if (strcmp(buf_text(&response.body), wanted) != 0) {
        complain(r, buf_text(&response.body), &err);
    }
    buf_release(&methods);
    buf_release(&response.body);
    buf_release(&response.headers);
}

static void *read_often(void *arg)
{
    struct reader *r = arg;
    struct script *twin = NULL;
    struct db *db = NULL;
    struct err err = {0};

    pthread_barrier_wait(r->begin);
    if (db_open(&db, "test.db", DB_READER, &err) < 0 || script_twin(&twin, r->of, &err) < 0)
        complain(r, "set up", &err);
    for (int i = 0; i < CALLS && !r->problem[0]; i++)
        read_once(r, twin, db, i);
    script_free(twin);
    db_close(db);
    return NULL;
}

/* The writer's script runs events and its own routes meanwhile. For ThreadSanitizer. */
static void twins__run_at_the_same_time(void **state)
{
    struct reader readers[THREADS] = {0};
    pthread_barrier_t begin;
    struct asking a;

    (void)state;
    asking_open(&a);
    a.b.timeout_ms = 60000;
    a.b.memory_bytes = 1 << 20; /* so that states are closed and made anew, too */
    bench_file("m.lua", "return { id = 'user_1' }");
    asking_load(&a,
                "authkit.schema { notes = { columns = { text = 'text' } } }\n"
                "authkit.routes {\n"
                "  ['GET /user/:id'] = function(ctx, request)\n"
                "    local user = ctx.users.get(request.params.id)\n"
                "    assert(not ctx.auth.claims and not pcall(ctx.auth.require))\n"
                "    return { id = user.id == require('m').id and user.id or nil }\n"
                "  end,\n"
                "  ['GET /grow'] = function() local t = {} while true do t[#t + 1] = {} end end,\n"
                "  ['POST /'] = function(ctx) ctx.db.insert('notes', { text = 'x' }) end }\n"
                "authkit.events { t = function(ctx) ctx.db.insert('notes', { text = 'y' }) end }");
    pthread_barrier_init(&begin, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        readers[i].of = a.b.script;
        readers[i].begin = &begin;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_often, &readers[i]), 0);
    }
    pthread_barrier_wait(&begin);
    for (int i = 0; i < CALLS; i++) {
        asking_for(&a, "POST /");
        bench_run(&a.b);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(readers[i].thread, NULL);
        if (readers[i].problem[0])
            fail_msg("%s", readers[i].problem);
    }
    pthread_barrier_destroy(&begin);
    asking_close(&a);
}

/* ------------------------------------------------------------------------- on a small stack */

static struct asking *small;

/* Each goes as deep as it can: an error is fine, a crash is not. */
static void *go_deep(void *arg)
{
    static const char *const what[] = {"GET /gsub",    "GET /pcall", "GET /meta", "GET /sql",
                                       "GET /pattern", "GET /load",  "GET /sort", "GET /encode"};
    struct script *twin = arg;

    for (size_t i = 0; i < ARRAY_LEN(what); i++) {
        asking_on(small, twin, small->b.db, what[i]);
        if (small->b.rc < 0 && small->b.rc != ERR_SCRIPT && small->b.rc != ERR_LIMIT)
            fail_msg("%s: %s", what[i], small->b.err.text);
    }
    for (int kind = 0; kind < 2; kind++) {
        char *body = calloc(1, 20000);

        for (int i = 0; i < 990; i++)
            strcat(body, kind ? "[" : "{\"\\u0061\":");
        strcat(body, "1");
        for (int i = 0; i < 990; i++)
            strcat(body, kind ? "]" : "}");
        small->body = body;
        asking_on(small, twin, small->b.db, "GET /json");
        if (small->b.rc < 0)
            fail_msg("%s", small->b.err.text);
        small->body = "";
        free(body);
    }
    return NULL;
}

static void twin__deep_functions_fit_the_stack_of_a_server_thread(void **state)
{
    struct script *twin = NULL;
    struct asking a;

    (void)state;
    asking_open(&a);
    small = &a;
    asking_load(
        &a, "local function nest(f) return function() f(f) end end\n"
            "authkit.routes {\n"
            "  ['GET /gsub'] = nest(function(f) ('x'):gsub('x', function() f(f) end) end),\n"
            "  ['GET /pcall'] = nest(function(f) assert(pcall(f, f)) end),\n"
            "  ['GET /meta'] = function()\n"
            "    local t = setmetatable({}, {}) local m = getmetatable(t)\n"
            "    m.__index = function(_, k) return t[k + 1] end return t[1] end,\n"
            "  ['GET /sql'] = function(ctx)\n"
            "    pcall(ctx.db.sql, 'SELECT ' .. ('1+'):rep(990) .. '1 AS x')\n"
            "    pcall(ctx.db.sql, 'SELECT ' .. ('('):rep(90) .. '1' .. (')'):rep(90) .. ' AS x')\n"
            "    pcall(ctx.db.sql, ('SELECT * FROM ('):rep(400) .. 'SELECT 1' .. (')'):rep(400))\n"
            "    pcall(ctx.db.sql, 'SELECT 1' .. (' UNION ALL SELECT 1'):rep(490))\n"
            "  end,\n"
            "  ['GET /pattern'] = function()\n"
            "    local s = ('x'):rep(1e5)\n"
            "    pcall(string.find, s, '.-b') pcall(string.find, s, ('x?'):rep(500) .. 'b') end,\n"
            "  ['GET /load'] = function()\n"
            "    load('return ' .. ('('):rep(190) .. '1' .. (')'):rep(190))\n"
            "    load('return ' .. ('{'):rep(250) .. ('}'):rep(250)) end,\n"
            "  ['GET /sort'] = function()\n"
            "    local function f() table.sort({ 3, 2, 1 }, function() f() end) end f() end,\n"
            "  ['GET /encode'] = function()\n"
            "    local t = {} for _ = 1, 95 do t = { t } end return t end,\n"
            "  ['GET /json'] = function(ctx, request)\n"
            "    local t, n = request.json(), 0\n"
            "    while type(t) == 'table' do t = t.a or t[1] n = n + 1 end\n"
            "    return n end }");
    must(script_twin(&twin, a.b.script, &a.b.err), &a.b.err);
    on_small_stack(go_deep, twin);
    assert_string_equal(buf_text(&a.response.body), "990");
    script_free(twin);
    asking_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(twin__is_a_script_of_its_own),
        IN_TEMP_DIR(twin__is_of_the_same_text),
        IN_TEMP_DIR(twin__limit_closes_its_own_state_only),
        IN_TEMP_DIR(twins__run_at_the_same_time),
        IN_TEMP_DIR(twin__deep_functions_fit_the_stack_of_a_server_thread),
    };

    return cmocka_run_group_tests_name("twins", tests, NULL, NULL);
}
