/* SPDX-License-Identifier: MIT */
/* Where in the script an error is said to be. */
#include "bench.h"

#define NOTES                                                                  \
    "authkit.schema { notes = { columns = { name = 'text?', n = 'integer?' }," \
    " indexes = { { 'n', unique = true } } } }"

/* Symptom: `return ctx.db.upsert(…)` named no line, or that of whoever called the function. */
static void place__of_a_call_that_is_returned(void **state)
{
    static const struct raising cases[] = {
        {"return ctx.db.upsert('notes', { 'name' }, {})", "handlers.lua:4: upsert: notes has no"},
        {"return ctx.db.query('nope')", "handlers.lua:4: no table 'nope' in the schema"},
        {"ctx.db.insert('notes', {}) ctx.db.insert('notes', {})\n"
         "return ctx.db.query('notes'):unique()",
         "handlers.lua:5: unique: more than one row"},
        {"return ctx.db.query('notes'):where('name', nil)", "handlers.lua:4: where('name')"},
        {"return ctx.db.query('notes'):order_by('x')", "handlers.lua:4: no column 'x' in notes"},
        {"return ctx.db.query('notes'):limit(-1)", "handlers.lua:4: limit wants a whole number"},
        {"return ctx.db.query('notes'):after('x')", "handlers.lua:4: after wants a page's cursor"},
        {"return ctx.db.query('notes').all()", "handlers.lua:4: call it with a colon"},
        {"return ctx.db:query('notes')", "handlers.lua:4: call it with a dot: ctx.db.query(…)"},
        {"return ctx.users.get(5)", "handlers.lua:4: workos_users.id takes text"},
        {"return ctx.users.get_by_email(5)", "handlers.lua:4: workos_users.email takes text"},
        {"return ctx.users:get('a')", "handlers.lua:4: call it with a dot: ctx.users.get(…)"},
        {"return require 'nope'", "handlers.lua:4: "},
        {"return authkit.events { x = print }", "handlers.lua:4: authkit.events belongs to"},
        {"return setmetatable({}, { __gc = print })", "handlers.lua:4: __gc isn't available"},
        {"return rawset(ctx, 1, 1)", "handlers.lua:4: ctx is read-only"},
        {"return collectgarbage('stop')", "handlers.lua:4: collectgarbage('stop')"},
        {"return load(5 == 5)", "handlers.lua:4: load wants a text"},
        {"return coroutine.wrap(5)", "handlers.lua:4: coroutine.wrap wants a function"},
        {"return coroutine.resume(5)", "handlers.lua:4: coroutine.resume wants a thread"},
        {"return coroutine.close(coroutine.running())",
         "handlers.lua:4: cannot close a running coroutine"},
        {"local function find(...)\n  return ctx.db.query(...):unique()\nend\n"
         "local found = find('nope')",
         "handlers.lua:5: no table 'nope' in the schema"},
    };

    (void)state;
    bench_all_raise(NOTES, cases, ARRAY_LEN(cases));
}

/* A place that can't be told is left out: a wrong one sends people looking in the wrong place. */
static void place__of_a_returned_call_in_a_module_is_in_there(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_file("lists.lua", "local lists = {}\n"
                            "function lists.find(ctx)\n"
                            "  return ctx.db.query('nope')\n"
                            "end\n"
                            "return lists\n");
    bench_raises(&b, "local lists = require 'lists'", "return lists.find(ctx)",
                 "lists.lua:3: no table 'nope' in the schema");
    assert_memory_equal(b.err.text, "lists.lua:3:", 12);
    bench_file("more.lua", "\nreturn require('authkit').events { [5] = print }\n");
    bench_load(&b, "local more = require 'more'\n");
    bench_says(&b, ERR_SCRIPT, "more.lua:2: authkit.events: '5' isn't an event type");
    bench_close(&b);
}

static void place__of_a_verdict_that_is_returned(void **state)
{
    struct script_verdict verdict = {0};
    struct json json = {0};
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, "require 'authkit'.actions { authentication = function(ctx, action, response)\n"
                   "  return response.deny(5)\nend }");
    bench_ok(&b);
    assert_int_equal(json_read(&json, "{}", 2, NULL), 0);
    b.rc = script_run_action(b.script, b.db, "authentication", &json, &verdict, &b.err);
    bench_says(&b, ERR_SCRIPT, "handlers.lua:2: response.deny wants a text");
    buf_release(&verdict.message);
    json_release(&json);
    bench_close(&b);
}

/* What is handed out keeps the caller's frame, but is a function like any other in the rest. */
static void place__is_kept_without_a_trace(void **state)
{
    (void)state;
    bench_all_pass(NOTES, "local function pass(...) return select('#', ...), ... end\n"
                          "assert(pass(ctx.db.query('notes'):first()) == 1)\n"
                          "assert(pass(ctx.db.query('notes'):count()) == 1)\n"
                          "local t = setmetatable({}, { __index = { a = 1 } }) assert(t.a == 1)\n"
                          "assert(rawset(t, 'b', 2) == t and t.b == 2)\n"
                          "local chunk, problem = load('return 1 +')\n"
                          "assert(chunk == nil and problem:find('unexpected', 1, true))\n"
                          "assert(load('return ...')(7) == 7)\n"
                          "for row in ctx.db.query('notes'):each() do error('no rows') end\n");
}

/* A module, and a function called by what is handed out, may yield. */
static void place__is_kept_by_coroutines(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_file("slow.lua", "return coroutine.yield('loading')\n");
    bench_passes(&b, "",
                 "local co = coroutine.create(function() return require 'slow' end)\n"
                 "local ok, said = coroutine.resume(co)\n"
                 "assert(ok and said == 'loading', said)\n"
                 "ok, said = coroutine.resume(co, 'loaded')\n"
                 "assert(ok and said == 'loaded' and require 'slow' == 'loaded')\n");
    bench_close(&b);
}

static void coroutine__wrap_passes_what_it_is_given(void **state)
{
    (void)state;
    bench_all_pass("",
                   "local gen = coroutine.wrap(function(a, b)\n"
                   "  assert(a == 1 and b == nil)\n"
                   "  assert(select('#', coroutine.yield()) == 0)\n"
                   "  assert(coroutine.yield(nil, 2, nil) == 'x')\n"
                   "  return 'end', nil\nend)\n"
                   "assert(select('#', gen(1, nil)) == 0)\n"
                   "assert(select('#', gen()) == 3)\n"
                   "assert(select('#', gen('x', 'y')) == 2)\n"
                   "local ok, problem = pcall(gen)\n"
                   "assert(not ok and problem == 'cannot resume dead coroutine', problem)\n"
                   "local closed = 0\n"
                   "ok, problem = pcall(coroutine.wrap(function()\n"
                   "  local x <close> = setmetatable({}, { __close = function() closed = 1 end })\n"
                   "  error({ 5 })\nend))\n"
                   "assert(not ok and problem[1] == 5 and closed == 1)\n"
                   "local depth = 0\n"
                   "local function nest() depth = depth + 1 coroutine.wrap(nest)() end\n"
                   "assert(not pcall(nest) and depth > 80, depth)\n");
}

static void limit__is_in_the_line_of(struct bench *b, const char *body, const char *wanted)
{
    bench_script(b, NOTES, body);
    bench_run(b);
    bench_says(b, ERR_LIMIT, wanted);
    if (strncmp(b->err.text, "handlers.lua:", 13) != 0)
        fail_msg("no place in \"%s\"", b->err.text);
}

/* Symptom: "authkitd:db.lua:343: ran longer than 1000 ms". */
static void limit__of_time_is_in_the_scripts_line(void **state)
{
    static const char *const large_strings[] = {
        "local s = string.format('%s', pad)",
        "local s = pad:rep(3)",
        "local s = table.concat({ pad, pad, pad })",
        "local s = pad:gsub('x', 'y')",
        "local s = pad .. pad",
        "local s = pad:upper()",
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 30;
    limit__is_in_the_line_of(&b,
                             "while true do\n"
                             "  ctx.db.query('notes'):where('n', 1):first()\nend",
                             "handlers.lua:5: ran longer than 30 ms");
    assert_null(strstr(b.err.text, "authkitd:"));
    limit__is_in_the_line_of(&b, "while true do\n  xpcall(ipairs, print)\nend", "ran longer than");
    limit__is_in_the_line_of(&b, "coroutine.wrap(function() while true do end end)()",
                             "handlers.lua:4: ran longer than 30 ms");
    /* Symptom: "ran longer than 1000 ms", and no more, of a loop that made large strings. */
    for (size_t i = 0; i < ARRAY_LEN(large_strings); i++) {
        char body[256];

        snprintf(body, sizeof(body), "local pad = ('x'):rep(50000)\nwhile true do\n  %s\nend",
                 large_strings[i]);
        limit__is_in_the_line_of(&b, body, "ran longer than 30 ms\nstack traceback:");
    }
    bench_close(&b);
}

/* Symptom: "used more than 65536 KiB of memory: not enough memory", and not a word of where. */
static void limit__of_memory_is_in_the_scripts_line(void **state)
{
    static const char text[] = "used more than 16384 KiB of memory";
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 30000;
    limit__is_in_the_line_of(&b, "local t = {}\nwhile true do t[#t + 1] = {} end",
                             "handlers.lua:5: used more than 16384 KiB of memory\nstack traceback");
    limit__is_in_the_line_of(&b,
                             "local function visit(n)\n local c = { visit(n) }\n return c end\n"
                             "visit(1)",
                             text);
    limit__is_in_the_line_of(&b, "local s = 'x'\n\nwhile true do s = s .. s end",
                             "handlers.lua:6: used more than 16384 KiB of memory");
    limit__is_in_the_line_of(&b, "local t = {}\nfor i = 1, 1e9 do t[i] = i end",
                             "handlers.lua:3: used more than 16384 KiB of memory, somewhere in");
    limit__is_in_the_line_of(&b,
                             "local t = {}\nlocal names = 0\nwhile true do names = names + 1\n"
                             "  t[names] = event.data.id .. names .. ('x'):rep(100)\nend",
                             text);
    limit__is_in_the_line_of(
        &b, "local t = {}\nwhile true do\n  t[#t + 1] = ('x'):rep(1000000 + #t)\nend",
        "handlers.lua:6: used more than 16384 KiB of memory");
    limit__is_in_the_line_of(&b,
                             "local t, n = {}, 0\nwhile true do pcall(function()\n"
                             "  while true do n = n + 1 t[n] = {} end end) end",
                             text);
    limit__is_in_the_line_of(&b,
                             "coroutine.wrap(function() local t = {}\n"
                             "  while true do t[#t + 1] = {} end end)()",
                             text);
    bench_close(&b);
}

static void error__table_is_shown(void **state)
{
    static const struct raising cases[] = {
        {"error({ code = 'E42', detail = 'no list' })",
         "handlers.lua:4: the error is a table: {\"code\":\"E42\",\"detail\":\"no list\"}\nstack"},
        {"\nassert(nil, { a = 1 })", "handlers.lua:5: the error is a table: {\"a\":1}"},
        {"local t = {} t.t = t error(t)",
         "handlers.lua:4: the error is a table: {\"t\":\"table: 0x"},
        {"error({ s = ('x'):rep(1e6) })", "xxx…\nstack traceback"},
        {"error({ event = event })", "\"id\":\"e1\""},
        {"error(print)", "handlers.lua:4: the error is a function, not a text"},
        {"error(nil)", "handlers.lua:4: the error is a nil, not a text"},
    };
    struct bench b;

    (void)state;
    bench_all_raise("", cases, ARRAY_LEN(cases));
    bench_open(&b);
    bench_load(&b, "\nerror { a = 'x:5: y' }");
    bench_says(&b, ERR_SCRIPT, "handlers.lua:2: the error is a table: {\"a\":\"x:5: y\"}");
    b.timeout_ms = 50;
    bench_script(&b, "",
                 "local t = { 1 } for _ = 1, 60 do t = { t, t } end\n"
                 "while true do pcall(error, t) error(t) end");
    bench_run(&b);
    bench_says(&b, ERR_SCRIPT, "the error is a table: [[[");
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(place__of_a_call_that_is_returned),
        IN_TEMP_DIR(place__of_a_returned_call_in_a_module_is_in_there),
        IN_TEMP_DIR(place__of_a_verdict_that_is_returned),
        IN_TEMP_DIR(place__is_kept_without_a_trace),
        IN_TEMP_DIR(place__is_kept_by_coroutines),
        IN_TEMP_DIR(coroutine__wrap_passes_what_it_is_given),
        IN_TEMP_DIR(limit__of_time_is_in_the_scripts_line),
        IN_TEMP_DIR(limit__of_memory_is_in_the_scripts_line),
        IN_TEMP_DIR(error__table_is_shown),
    };

    return cmocka_run_group_tests_name("places", tests, NULL, NULL);
}
