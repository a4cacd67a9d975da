/* SPDX-License-Identifier: MIT */
/* print and ctx.log: what a value looks like in the log. */
#include "script/script.h"

#include "base/clock.h"
#include "bench.h"

#include <unistd.h>

enum { LOG_MAX = 200000 };

static const char some_event[] = "{\"id\":\"e1\",\"event\":\"t\",\"data\":{\"id\":\"d1\",\"name\":"
                                 "\"Ada\",\"tags\":[\"a\",\"b\"],"
                                 "\"none\":[],\"deep\":{\"x\":{\"y\":1},\"a\":1,\"b\":2,\"c\":3},"
                                 "\"f\":1.5,\"t\":true,\"n\":null}}";

/* What the body, as the function of an event, logs. */
static const char *logged_by(struct bench *b, const char *body, enum log_level level)
{
    static char text[LOG_MAX];
    int real_stderr = dup(STDERR_FILENO);
    FILE *log;
    size_t len;

    bench_script(b, "", body);
    assert_non_null(freopen("log", "w", stderr));
    log_setup(level, LOG_FORMAT_TEXT);
    bench_run_with(b, some_event);
    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    fflush(stderr);
    assert_true(dup2(real_stderr, STDERR_FILENO) >= 0);
    close(real_stderr);
    log = fopen("log", "r");
    assert_non_null(log);
    len = fread(text, 1, sizeof(text) - 1, log);
    text[len] = '\0';
    fclose(log);
    return text;
}

static const char *logged(struct bench *b, const char *body)
{
    const char *text = logged_by(b, body, LOG_LEVEL_DEBUG);

    bench_ok(b);
    return text;
}

static void assert_has(const char *text, const char *wanted)
{
    if (!strstr(text, wanted))
        fail_msg("no '%s' in '%.500s'", wanted, text);
}

static void shown__tables_are_json(void **state)
{
    static const struct {
        const char *value, *wanted;
    } cases[] = {
        {"event.data",
         "{\"deep\":{\"a\":1,\"b\":2,\"c\":3,\"x\":{\"y\":1}},\"f\":1.5,\"id\":\"d1\","
         "\"name\":\"Ada\",\"none\":[],\"t\":true,\"tags\":[\"a\",\"b\"]}"},
        {"event.data.deep", "{\"a\":1,\"b\":2,\"c\":3,\"x\":{\"y\":1}}"},
        {"{}", "{}"},
        {"{ 1, 'x', { y = 2 } }", "[1,\"x\",{\"y\":2}]"},
        {"{ 1, nil, 3 }", "[1,null,3]"},
        {"{ 1, 2, a = 3 }", "{\"1\":1,\"2\":2,\"a\":3}"},
        {"{ [5] = 1, [true] = 2 }", "{\"5\":1,\"true\":2}"},
        {"{ a = 'it\\'s \"b\"\\n', c = '\\xff' }",
         "{\"a\":\"it's \\\"b\\\"\\n\",\"c\":\"\uFFFD\"}"},
        {"authkit.json.array {}", "[]"},
        {"{ x = authkit.null }", "{\"x\":null}"},
        {"authkit.null", "INFO  null  "},
        {"{ x = 0/0 ~= 0 and math.huge }", "{\"x\":inf}"},
        {"{ f = print, a = 1 }", "{\"a\":1,\"f\":\"function: "},
        {"{ ctx }", "[\"ctx: 0x"},
        {"ctx.db", "INFO  ctx.db: 0x"},
        {"ctx.db.sql('SELECT 1 AS one')", "[{\"one\":1}]"},
        {"setmetatable({ a = 1 }, { __tostring = function() return 'its own' end })", "its own"},
        {"setmetatable({ a = 1 }, { __index = { b = 2 }, __pairs = error })", "{\"a\":1}"},
        {"setmetatable({}, { __len = error, __eq = error, __name = 'Point' })", "{}"},
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char body[300];

        snprintf(body, sizeof(body), "print(%s)", cases[i].value);
        assert_has(logged(&b, body), cases[i].wanted);
        snprintf(body, sizeof(body), "ctx.log.info(%s)", cases[i].value);
        assert_has(logged(&b, body), cases[i].wanted);
    }
    assert_has(logged(&b, "print('created', event.data.tags, 5, nil)"),
               "created\t[\"a\",\"b\"]\t5\tnil");
    bench_close(&b);
}

static void shown__fields_are_json_too(void **state)
{
    struct bench b;
    const char *text;

    (void)state;
    bench_open(&b);
    text = logged(&b, "ctx.log.info('m', { t = { 1, { a = 'b' } }, n = 5, e = event.data.deep,"
                      " null = authkit.null, s = 's' })");
    assert_has(text, "  t=\"[1,{\\\"a\\\":\\\"b\\\"}]\"");
    assert_has(text, "  e=\"{\\\"a\\\":1,\\\"b\\\":2,\\\"c\\\":3,\\\"x\\\":{\\\"y\\\":1}}\"");
    assert_has(text, "  n=5");
    assert_has(text, "  null=null");
    assert_has(text, "  s=s");
    bench_close(&b);
}

/* Symptom: such a name was in a line twice, and who reads JSON took the script's for ours. */
static void shown__names_of_ours_are_changed(void **state)
{
    struct bench b;
    const char *text;

    (void)state;
    bench_open(&b);
    text = logged(&b, "ctx.log.info('m', { level = 'error', msg = 'other', time = 'never',\n"
                      " source = 'mine', sources = 's' })");
    assert_has(text, "  level_=error");
    assert_has(text, "  msg_=other");
    assert_has(text, "  time_=never");
    assert_has(text, "  source_=mine");
    assert_has(text, "  source=handlers.lua:4");
    assert_has(text, "  sources=s");
    assert_null(strstr(text, "source=mine"));
    bench_close(&b);
}

/* What was shown is a table as any other afterwards. */
static void shown__event_stays_as_it_was(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    logged(&b, "ctx.log.info('all', { event = event })\n"
               "assert(event.data.deep.x.y == 1 and event.data.name == 'Ada')\n"
               "event.data.deep = nil\n"
               "assert(event.data.deep == nil and rawget(event.data, 'id') == 'd1')\n");
    bench_close(&b);
}

static void shown__what_contains_itself_has_an_end(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_has(logged(&b, "local t = { a = 1 } t.t = t print(t)"), "{\"a\":1,\"t\":\"table: 0x");
    assert_has(logged(&b, "local t = { 1 } print({ t, t })"), "[[1],[1]]");
    assert_has(logged(&b, "local t = {} for i = 1, 30 do t = { t } end print(t)"), "[\"table: 0x");
    logged(&b, "local t = {} for i = 1, 60 do t = { t, t } end print(t)");
    bench_close(&b);
}

static void shown__long_ones_are_cut(void **state)
{
    static const char *const values[] = {
        "('x'):rep(100000)",
        "{ ('x'):rep(100000) }",
        "{ [('x'):rep(100000)] = 1 }",
        "(function() local t = {} for i = 1, 100000 do t[i] = i end return t end)()",
        "(function() local t = {} for i = 1, 100000 do t['k' .. i] = i end return t end)()",
    };
    struct bench b;
    char body[300];

    (void)state;
    bench_open(&b);
    b.timeout_ms = 10000;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        const char *text;

        snprintf(body, sizeof(body), "print('a', %s, 'z')", values[i]);
        text = logged(&b, body);
        assert_has(text, "…  source=handlers.lua:4\n");
        assert_in_range(strlen(text), 8192, 8400);
    }
    assert_has(logged(&b, "print(('x'):rep(8192))"), "x  source");
    assert_has(logged(&b, "print(('x'):rep(8191) .. '\u00e4')"), "x…  source");
    assert_has(logged(&b, "print({ ('x'):rep(8189) .. '\u00e4' })"), "x…  source");
    /* The line has them all, and its message. */
    for (size_t i = 1; i < ARRAY_LEN(values); i++) {
        const char *text;

        snprintf(body, sizeof(body),
                 "local v = %s ctx.log.info('m', { a = v, b = v, n = 1, c = v })", values[i]);
        text = logged(&b, body);
        assert_has(text, "INFO  m  ");
        assert_has(text, "…\"");
        assert_has(text, "n=1");
        assert_has(text, "c=");
    }
    bench_close(&b);
}

/* Many looks at a table that is slow to look through are the call's time. */
static void shown__limits_hold(void **state)
{
    struct bench b;
    int64_t start_ms;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 300;
    b.memory_bytes = 64 << 20;
    logged_by(&b,
              "local t = {} for i = 1, 200000 do t['k' .. i] = i end\n"
              "for k in pairs(t) do t[k] = nil end\n"
              "local all = {} for i = 1, 4000 do all[i] = t end\n"
              "while true do print(all) end",
              LOG_LEVEL_INFO);
    bench_says(&b, ERR_LIMIT, "ran longer than 300 ms");
    start_ms = clock_mono_ms();
    logged_by(&b, "local t = {} for i = 1, 1000 do t[i] = event end while true do print(t) end",
              LOG_LEVEL_ERROR);
    assert_true(clock_mono_ms() - start_ms < 3000);
    bench_says(&b, ERR_LIMIT, "ran longer than 300 ms");
    b.memory_bytes = 8 << 20;
    b.timeout_ms = 5000;
    logged(&b, "local t = {} for i = 1, 50000 do t[i] = i end\n"
               "for i = 1, 300 do print(t) ctx.log.debug('m', { t = t }) end");
    bench_close(&b);
}

/* A __tostring that shows tables in turn must not use up the stack, which is an HTTP thread's as well; and a
 * long text is cut before it is copied. */
static void shown__deep_and_long_things_are_bounded(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    logged_by(&b,
              "local mt = {}\n"
              "local function nest()\n"
              "  local t = setmetatable({}, mt) for i = 1, 21 do t = { x = t } end return t\n"
              "end\n"
              "local calls = 0\n"
              "mt.__tostring = function() calls = calls + 1 print(nest()) return 'x' end\n"
              "print(nest())\n"
              "assert(calls == 0)",
              LOG_LEVEL_INFO);
    bench_ok(&b);
    b.memory_bytes = 64 << 20;
    b.timeout_ms = 5000;
    logged_by(&b, "local s = ('x'):rep(24 << 20) print(s) ctx.log.info(s, { s = 1 })",
              LOG_LEVEL_INFO);
    bench_ok(&b);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(shown__tables_are_json),
        IN_TEMP_DIR(shown__fields_are_json_too),
        IN_TEMP_DIR(shown__names_of_ours_are_changed),
        IN_TEMP_DIR(shown__event_stays_as_it_was),
        IN_TEMP_DIR(shown__what_contains_itself_has_an_end),
        IN_TEMP_DIR(shown__long_ones_are_cut),
        IN_TEMP_DIR(shown__limits_hold),
        IN_TEMP_DIR(shown__deep_and_long_things_are_bounded),
    };

    return cmocka_run_group_tests_name("shown", tests, NULL, NULL);
}
