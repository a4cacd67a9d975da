/* SPDX-License-Identifier: MIT */
/* Tables that are filled as they are read: no script can tell them from others. */
#include "script/script.h"

#include "asking.h"
#include "base/buf.h"

#include <stdlib.h>

enum { MODEL_SEEDS = 1500, MODEL_TEXT_MAX = 12000, MODEL_TIMEOUT_MS = 60000 };

static char here[512]; /* where the test was started: the project's directory */

/* ------------------------------------------------------------------------- random documents */

static uint64_t random_state;

static unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 11) % n);
}

static void put_random_name(struct buf *out)
{
    static const char *const names[] = {
        "id",
        "a",
        "b",
        "name",
        "late",
        "data",
        "",
        "\xC3\xA9",
        "\\u00e9",
        "\\u0061",
        "i\\u0064",
        "\\u0000",
        "quote\\\"",
        "__index",
        "__metatable",
        "__name",
        "__pairs",
        "__newindex",
        "__len",
        "a\\u0000",
        "longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong"};

    buf_printf(out, "\"%s\"", names[random_below(ARRAY_LEN(names))]);
}

static void put_random_object(struct buf *out, int depth);

static void put_random_value(struct buf *out, int depth)
{
    static const char *const scalars[] = {
        "null",
        "true",
        "false",
        "0",
        "-7",
        "1.0",
        "1.5",
        "1e300",
        "9007199254740993",
        "\"\"",
        "\"text\"",
        "null",
        "\"\\u00e9\\n\"",
        "\"a text that is longer than Lua's short strings may be\""};
    unsigned kind = depth > 5 ? 0 : random_below(8);

    if (kind < 5) {
        buf_puts(out, scalars[random_below(ARRAY_LEN(scalars))]);
    } else if (kind == 5) {
        buf_putc(out, '[');
        for (unsigned i = 0, count = random_below(4); i < count; i++) {
            if (i > 0)
                buf_putc(out, ',');
            put_random_value(out, depth + 1);
        }
        buf_putc(out, ']');
    } else {
        put_random_object(out, depth + 1);
    }
}

static void put_random_object(struct buf *out, int depth)
{
    buf_puts(out, random_below(2) ? "{" : "{ ");
    for (unsigned i = 0, count = random_below(depth == 0 ? 16 : 8); i < count; i++) {
        if (i > 0)
            buf_puts(out, ",");
        put_random_name(out);
        buf_puts(out, random_below(2) ? ":" : " :\n");
        put_random_value(out, depth);
    }
    buf_putc(out, '}');
}

/* ------------------------------------------------------------------------- the model */

static void run_model(struct bench *b, const char *type, const char *event, unsigned seed)
{
    struct json json = {0};

    if (json_read(&json, event, strlen(event), &b->err) < 0)
        fail_msg("seed %u: %s", seed, b->err.text);
    bench_begin(b);
    b->rc = script_run_event(b->script, b->db, type, &json, seed % 2 == 0, &b->err);
    if (b->rc < 0)
        fail_msg("seed %u, %s: %s", seed, type, b->err.text);
    bench_end(b);
    json_release(&json);
}

static void run_seed(struct bench *b, unsigned seed)
{
    struct buf text = BUF_INIT(1 << 20), keep = BUF_INIT(1 << 20);

    random_state = seed * 0x9E3779B97F4A7C15u + 1;
    for (int i = 0; i < 4; i++)
        random_below(1);
    do {
        buf_reset(&text);
        buf_puts(&text, seed % 16 == 0 ? " \n" : "");
        put_random_object(&text, 0);
    } while (text.len > MODEL_TEXT_MAX);
    buf_printf(&keep, "{\"seed\":%u,\"text\":", seed);
    buf_put_json_string(&keep, buf_text(&text), text.len);
    buf_putc(&keep, '}');
    run_model(b, "model.keep", buf_text(&keep), seed);
    run_model(b, "model.run", buf_text(&text), seed);
    run_model(b, "model.later", "{}", seed);
    buf_release(&text);
    buf_release(&keep);
}

static void open_model(struct bench *b)
{
    char command[700];

    bench_open(b);
    b->timeout_ms = MODEL_TIMEOUT_MS;
    snprintf(command, sizeof(command), "cp '%s/tests/unit/script/lazy_model.lua' model.lua", here);
    assert_int_equal(system(command), 0);
    bench_load(b, "require 'model'");
    bench_ok(b);
    assert_int_equal(bench_schema(b, true), 0);
}

static void lazy__tables_and_model_agree(void **state)
{
    struct bench b;

    (void)state;
    open_model(&b);
    for (unsigned seed = 1; seed <= MODEL_SEEDS; seed++)
        run_seed(&b, seed);
    bench_close(&b);
}

/* ------------------------------------------------------------------------- by hand */

#define MANY_MEMBERS "{\"b\":\"2\",\"a\":\"1\",\"c\":{\"x\":1,\"y\":2,\"z\":[3]},\"d\":null}"

static void lazy__tables_kept_for_routes_are_whole(void **state)
{
    static const char text[] =
        "authkit.events { t = function(ctx, event) kept = event end }\n"
        "authkit.routes {\n"
        "  ['GET /body'] = function() return kept.body end,\n"
        "  ['GET /headers'] = function() return 200, 'x', kept.headers end,\n"
        "  ['GET /list'] = function() return 200, 'x', { ['x-list'] = kept.list } end,\n"
        "  ['GET /next'] = function(ctx, request)\n"
        "    local names, f = {}, pairs(request)\n"
        "    for name in f, kept.next do names[#names + 1] = name end\n"
        "    table.sort(names)\n"
        "    return table.concat(names, ' ')\n"
        "  end,\n"
        "}";
    struct asking a;

    (void)state;
    asking_open(&a);
    asking_load(&a, text);
    bench_run_with(&a.b, "{\"body\":" MANY_MEMBERS ",\"next\":" MANY_MEMBERS
                         ",\"list\":" MANY_MEMBERS ",\"headers\":{\"x-a\":\"1\",\"x-b\":\"2\","
                         "\"x-c\":\"3\"}}");
    bench_ok(&a.b);
    assert_non_null(strstr(asking_for(&a, "GET /headers"), "x-a: 1\r\n"));
    assert_non_null(strstr(a.told, "x-b: 2\r\n"));
    assert_string_equal(
        asking_for(&a, "GET /body"),
        "200 application/json||{\"a\":\"1\",\"b\":\"2\",\"c\":{\"x\":1,\"y\":2,\"z\":[3]}}");
    assert_string_equal(asking_for(&a, "GET /next"), "200 text/plain; charset=utf-8||a b c");
    asking_for(&a, "GET /list");
    bench_says(&a.b, ERR_SCRIPT, "header 'x-list' is a string, a number or a list of strings");
    asking_close(&a);
}

static void lazy__key_that_is_none_is_told_as_of_any_table(void **state)
{
    static const char *const keys[][2] = {{"nil", "nil"}, {"0/0", "NaN"}, {"-(0/0)", "NaN"}};
    char text[512], wanted[256];
    struct bench b;

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        snprintf(text, sizeof(text),
                 "require 'authkit'.events { t = function(ctx, event)\n  event[%s] = 1\nend }",
                 keys[i][0]);
        snprintf(wanted, sizeof(wanted),
                 "handlers.lua:2: table index is %s\nstack traceback:\n"
                 "\thandlers.lua:2: in function <handlers.lua:1>",
                 keys[i][1]);
        bench_load(&b, text);
        bench_ok(&b);
        bench_run(&b);
        assert_int_equal(b.rc, ERR_SCRIPT);
        assert_string_equal(b.err.text, wanted);
    }
    bench_close(&b);
}

static void lazy__event_can_be_a_row(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b,
               "local authkit = require 'authkit'\n"
               "authkit.schema { things = { columns = { a = 'text', b = 'text', c = 'json', d = "
               "'text?' } } }\n"
               "authkit.events { t = function(ctx, event)\n"
               "  local id = ctx.db.insert('things', event.new)\n"
               "  ctx.db.patch('things', id, event.changed)\n"
               "  ctx.db.insert('things', { a = '', b = '', c = event.json })\n"
               "end }");
    bench_ok(&b);
    assert_int_equal(bench_schema(&b, true), 0);
    bench_run_with(&b,
                   "{\"new\":" MANY_MEMBERS ",\"changed\":{\"a\":\"A\",\"b\":\"B\",\"d\":\"D\"},"
                   "\"json\":" MANY_MEMBERS "}");
    bench_ok(&b);
    assert_string_equal(bench_value(&b, "SELECT group_concat(a || b || ifnull(d, '-') || c, ' ')"
                                        " FROM things"),
                        "ABD{\"x\":1,\"y\":2,\"z\":[3]} "
                        "-{\"a\":\"1\",\"b\":\"2\",\"c\":{\"x\":1,\"y\":2,\"z\":[3]}}");
    bench_close(&b);
}

static void lazy__event_can_be_the_fields_of_a_line(void **state)
{
    int real_stderr = dup(STDERR_FILENO);
    char line[4096] = "";
    struct bench b;
    FILE *log;

    (void)state;
    bench_open(&b);
    bench_load(&b, "require 'authkit'.events { t = function(ctx, event)\n"
                   "  ctx.log.error('its data', event.data)\nend }");
    bench_ok(&b);
    log = freopen("log", "w", stderr);
    assert_non_null(log);
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    bench_run_with(&b, "{\"data\":" MANY_MEMBERS "}");
    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    fflush(stderr);
    assert_true(dup2(real_stderr, STDERR_FILENO) >= 0);
    close(real_stderr);
    bench_ok(&b);
    log = fopen("log", "r");
    assert_non_null(log);
    assert_true(fread(line, 1, sizeof(line) - 1, log) > 0);
    fclose(log);
    for (size_t i = 0; i < 3; i++)
        if (!strstr(line, (const char *const[]){"a=1", "b=2", "its data"}[i]))
            fail_msg("not in the log: %s", line);
    bench_close(&b);
}

/* On both sides of the size from which on an event isn't lazy. */
static void lazy__events_of_any_size(void **state)
{
    static char event[80000], filler[70000];
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b,
               "require 'authkit'.events { t = function(ctx, event)\n"
               "  assert(event.data.long == ('x'):rep(event.data.size) and event.late == false)\n"
               "  event.data.long = nil\n"
               "  local names = {}\n"
               "  for name in pairs(event.data) do names[#names + 1] = name end\n"
               "  table.sort(names)\n"
               "  assert(table.concat(names, ' ') == 'first last size')\n"
               "end }");
    memset(filler, 'x', sizeof(filler));
    for (int size = 0; size < (int)sizeof(filler); size += size / 8 + 1) {
        snprintf(event, sizeof(event),
                 "{\"data\":{\"first\":1,\"long\":\"%.*s\",\"size\":%d,\"last\":[]}}", size, filler,
                 size);
        bench_run_with(&b, event);
        bench_ok(&b);
    }
    bench_close(&b);
}

static void lazy__memory_may_run_out_anywhere(void **state)
{
    static const char text[] =
        "require 'authkit'.events { t = function(ctx, event)\n"
        "  local seen = event.data.c.x\n"
        "  for _, value in pairs(event.data) do\n"
        "    if type(value) == 'table' then for name in next, value do seen = name end end\n"
        "  end\n"
        "  event.data.more, event.more = event.absent, event.data\n"
        "end }";
    bool ran = false;
    size_t needed;
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, text);
    bench_ok(&b);
    needed = script_memory_bytes(b.script);
    for (size_t limit = needed - needed / 8; !ran; limit += 61) {
        assert_true(limit < needed * 2);
        b.memory_bytes = limit;
        if (bench_load(&b, text) < 0)
            continue;
        ran = bench_run_with(&b, "{\"data\":" MANY_MEMBERS ",\"e\":" MANY_MEMBERS "}") == 0;
        assert_true(ran || b.rc == ERR_LIMIT);
    }
    bench_close(&b);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(lazy__tables_and_model_agree),
        IN_TEMP_DIR(lazy__tables_kept_for_routes_are_whole),
        IN_TEMP_DIR(lazy__key_that_is_none_is_told_as_of_any_table),
        IN_TEMP_DIR(lazy__event_can_be_a_row),
        IN_TEMP_DIR(lazy__event_can_be_the_fields_of_a_line),
        IN_TEMP_DIR(lazy__events_of_any_size),
        IN_TEMP_DIR(lazy__memory_may_run_out_anywhere),
    };

    (void)argc, (void)argv;
    if (!getcwd(here, sizeof(here)))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
