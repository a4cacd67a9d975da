/* SPDX-License-Identifier: MIT */
#include "script/script.h"

#include "bench.h"

#include <sys/stat.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------------- loading */

static void load_fails(int rc, const char *text, const char *wanted)
{
    struct bench b;

    bench_open(&b);
    bench_load(&b, text);
    bench_says(&b, rc, wanted);
    assert_null(b.script);
    bench_close(&b);
}

static void script__error_of_loading_names_file_and_line(void **state)
{
    static const char *const colons[] = {"events", "actions", "routes", "schema"};

    (void)state;
    load_fails(ERR_SCRIPT, "local a = 1\nlocal b = = 2\n", "handlers.lua:2:");
    load_fails(ERR_SCRIPT, "#!/usr/bin/lua\n\nerror 'oops'\n", "handlers.lua:3: oops");
    load_fails(ERR_SCRIPT, "\xEF\xBB\xBF#!/usr/bin/lua\nerror 'oops'\n", "handlers.lua:2: oops");
    load_fails(ERR_SCRIPT,
               "\xEF\xBB\xBF"
               "error 'oops'\n",
               "handlers.lua:1: oops");
    load_fails(ERR_SCRIPT, "\nerror {}", "handlers.lua:2: the error is a table: {}");
    load_fails(ERR_SCRIPT, "error(5)", "handlers.lua:1: 5");
    load_fails(ERR_SCRIPT, "error('bare', 0)", "handlers.lua:1: bare");
    load_fails(ERR_SCRIPT, "error()", "handlers.lua:1: the error is a nil, not a text");
    load_fails(ERR_SCRIPT, "error(setmetatable({}, { __tostring = function() return 'odd' end }))",
               "handlers.lua:1: odd");
    for (size_t i = 0; i < ARRAY_LEN(colons); i++) {
        char text[100], wanted[100];

        snprintf(text, sizeof(text), "require 'authkit':%s {}", colons[i]);
        snprintf(wanted, sizeof(wanted), "handlers.lua:1: call it with a dot: authkit.%s(…)",
                 colons[i]);
        load_fails(ERR_SCRIPT, text, wanted);
    }
    load_fails(ERR_SCRIPT, "\x1BLuaS", "handlers.lua is compiled Lua: give its source");
    load_fails(ERR_SCRIPT, "local x = ('x'):rep(1e9)", "handlers.lua:1: used more than");
    load_fails(ERR_SCRIPT, "local authkit = require 'authkit'\n\nauthkit.events { x = 5 }",
               "handlers.lua:3: authkit.events: event 'x' wants a function, not a number");
}

static void script__absent_file_is_absent(void **state)
{
    const struct script_opts opts = {.path = "nowhere.lua", .memory_bytes = 1 << 20};
    const struct script_opts folder = {.path = ".", .memory_bytes = 1 << 20};
    struct script *script = NULL;
    struct err err;

    (void)state;
    assert_int_equal(script_load(&script, &opts, &err), ERR_ABSENT);
    assert_non_null(strstr(err.text, "nowhere.lua"));
    assert_int_equal(script_load(&script, &folder, &err), ERR_IO);
    script_free(NULL);
}

/* A function that is nil at load was left out without a word. */
static void script__undefined_globals_are_told(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"local authkit = require 'authkit'\nauthkit.events {\n  t = on_t,\n  u = on_t,\n"
         "  v = on_v }\nlocal function on_t() end\nfunction on_v() end",
         "handlers.lua:3: the global 'on_t' is nil here: is it misspelt, or defined further down?\n"
         "handlers.lua:5: the global 'on_v' is nil here: it gets its value further down"},
        {"require 'authkit'.schema { a = { columns = { x = text } } }",
         "handlers.lua:1: the global 'text' is nil here: is it misspelt, or defined further down?"},
        {"local a, b, c, d, e, f, g = a1, a2, a3, a4, a5, a6, a7",
         "handlers.lua:1: the global 'a1' is nil here: is it misspelt, or defined further down?\n"
         "handlers.lua:1: the global 'a2' is nil here: is it misspelt, or defined further down?\n"
         "handlers.lua:1: the global 'a3' is nil here: is it misspelt, or defined further down?\n"
         "handlers.lua:1: the global 'a4' is nil here: is it misspelt, or defined further down?\n"
         "handlers.lua:1: the global 'a5' is nil here: is it misspelt, or defined further down?\n"
         "globals that are nil where the script reads them: there are 2 more"},
        {"require 'm'", "m.lua:2: the global 'one' is nil here: is it misspelt, or defined further "
                        "down?"},
        {"x = x or {}\ncache = cache or {}\n_G.y = _G.y or 1\nlocal z = _G.z", ""},
        {"if DEBUG then print(1) end\nif not READY then READY = 1 end\n"
         "local a = LIMIT == nil and 5 or 6\nlocal b = type(C) == 'table'\n"
         "local d = nil ~= D\nwhile AGAIN do end\nlocal e = E and E.x\n"
         "local f = table.unpack or unpack\nlocal g = unpack or table.unpack\n"
         "local io, debug, jit = io, debug, jit\nassert(rawget(_G, 'h') == nil)",
         ""},
        {"require 'authkit'.events { t = function() return later end }", ""},
        {"setmetatable(_G, { __index = function(_, name) return name end })\n"
         "assert(on_t == 'on_t')\n",
         ""},
    };
    struct bench b;

    (void)state;
    bench_file("m.lua", "local M = {}\nM.f = one\nreturn M\n");
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bench_load(&b, cases[i].text);
        bench_ok(&b);
        assert_string_equal(script_warnings(b.script), cases[i].wanted);
    }
    bench_load(&b, "local mt = getmetatable(_G) or {}\nmt.__index = function() error 'strict' end\n"
                   "setmetatable(_G, mt)\n"
                   "require 'authkit'.events { t = function() return nothing end }");
    bench_ok(&b);
    bench_run(&b);
    bench_says(&b, ERR_SCRIPT, "strict");
    bench_load(&b, "require 'authkit'.events { t = function()\n"
                   "assert(getmetatable(_G) == nil and nothing == nil) end }");
    bench_ok(&b);
    bench_run(&b);
    bench_ok(&b);
    bench_close(&b);
}

static void script__empty_script_is_fine(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_int_equal(bench_load(&b, ""), 0);
    assert_string_equal(script_event_names(b.script), "");
    assert_string_equal(script_action_names(b.script), "");
    assert_false(script_has_routes(b.script));
    assert_false(script_handles_event(b.script, "user.created"));
    bench_close(&b);
}

static void script__registrations_are_known(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, "local authkit = require 'authkit'\n"
                   "local function f() end\n"
                   "authkit.events { ['user.updated'] = f, ['user.created'] = f }\n"
                   "authkit.events { ['dsync.group.user_added'] = f }\n"
                   "authkit.actions { authentication = f }\n"
                   "authkit.routes { ['GET /todos'] = f }\n");
    bench_ok(&b);
    assert_string_equal(script_event_names(b.script),
                        "dsync.group.user_added user.created user.updated");
    assert_string_equal(script_action_names(b.script), "authentication");
    assert_true(script_has_routes(b.script));
    assert_true(script_handles_event(b.script, "user.created"));
    assert_false(script_handles_event(b.script, "user.create"));
    assert_true(script_handles_action(b.script, "authentication"));
    assert_false(script_handles_action(b.script, "user_registration"));
    bench_close(&b);
}

static void script__what_other_luas_have_is_told(void **state)
{
    static const struct raising cases[] = {
        {"io.open('/etc/passwd')", "attempt to index a nil value (global 'io'): authkitd's Lua has "
                                   "no io (see \"What there is of Lua\" in the README)\n"},
        {"debug.traceback()", "authkitd's Lua has no debug"},
        {"package.path = ''", "authkitd's Lua has no package"},
        {"dofile('x.lua')", "attempt to call a nil value (global 'dofile'): authkitd's Lua has no"},
        {"loadfile('x.lua')", "authkitd's Lua has no loadfile"},
        {"os.execute('ls')", "authkitd's Lua has no os.execute"},
        {"local home = os.getenv('HOME')", "authkitd's Lua has no os.getenv"},
        {"string.dump(print)", "authkitd's Lua has no string.dump"},
    };
    static const struct raising others[] = {
        {"local o = {} o.remove(1)", "(field 'remove')\n"},
        {"local io io.open()", "(local 'io')\n"},
        {"error('x (global \\'io\\')')", "handlers.lua:4: x (global 'io')\n"},
        {"nope.open()", "(global 'nope')\n"},
    };

    (void)state;
    bench_all_raise("", cases, ARRAY_LEN(cases));
    bench_all_raise("", others, ARRAY_LEN(others));
    bench_all_pass("", "assert(io == nil and os.getenv == nil and not pcall(load('io.open()')))");
}

static void script__wrong_registrations_are_refused(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"authkit.events { [1] = print }", "'1' isn't an event type"},
        {"authkit.events { ['User.Created'] = print }", "isn't an event type"},
        {"authkit.events(5)", "authkit.events wants a table"},
        {"authkit.events()", "authkit.events wants a table"},
        {"authkit.events { t = print } authkit.events { t = print }", "'t' is registered twice"},
        {"authkit.actions { login = print }", "there is no action 'login'"},
        {"authkit.actions { authentication = {} }", "wants a function, not a table"},
        {"authkit.routes { ['todos'] = print }", "'todos' isn't a route"},
        {"authkit.routes { print }", "'1' isn't a route"},
        {"authkit.schema(nil)", "authkit.schema wants a table"},
        {"authkit.shema {}", "attempt to call a nil value (field 'shema')"},
        {"authkit.x = 1", "authkit is read-only"},
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "local authkit = require 'authkit'\n%s\n", cases[i].text);
        load_fails(ERR_SCRIPT, text, cases[i].wanted);
        load_fails(ERR_SCRIPT, text, "handlers.lua:2:");
    }
}

/* ------------------------------------------------------------------------- sandbox */

static void loads(const char *text)
{
    struct bench b;

    bench_open(&b);
    bench_load(&b, text);
    bench_ok(&b);
    bench_close(&b);
}

static void sandbox__dangerous_names_are_absent(void **state)
{
    (void)state;
    loads("for _, name in ipairs { 'io', 'debug', 'package', 'dofile', 'loadfile', 'warn' } do\n"
          "  assert(_G[name] == nil, name)\n"
          "end\n"
          "for _, name in ipairs { 'execute', 'exit', 'getenv', 'remove', 'rename', 'tmpname',\n"
          "    'setlocale' } do\n"
          "  assert(os[name] == nil, name)\n"
          "end\n"
          "assert(string.dump == nil and ('').dump == nil)\n"
          "assert(not pcall(require, 'io') and not pcall(require, 'debug'))\n");
}

static void sandbox__libraries_are_read_only(void **state)
{
    (void)state;
    loads(
        "for _, name in ipairs { 'string', 'table', 'math', 'utf8', 'coroutine', 'os' } do\n"
        "  local lib = _G[name]\n"
        "  local ok, problem = pcall(function() lib.x = 1 end)\n"
        "  assert(not ok and problem:find(name .. ' is read%-only'), problem)\n"
        "  assert(not pcall(rawset, lib, 'x', 1))\n"
        "  assert(not pcall(setmetatable, lib, {}))\n"
        "  assert(not pcall(table.insert, lib, 1))\n"
        "  assert(getmetatable(lib) == false)\n"
        "  assert(rawget(lib, 'x') == nil and next(lib) == nil)\n"
        "  local n = 0\n"
        "  for key, value in pairs(lib) do n = n + 1 assert(lib[key] == value) end\n"
        "  assert(n > 0)\n"
        "end\n"
        "assert(getmetatable('') == false)\n"
        "local authkit = require 'authkit'\n"
        "assert(not pcall(rawset, authkit, 'x', 1) and not pcall(rawset, authkit.json, 'x', 1))\n");
}

static void sandbox__finalizers_are_refused(void **state)
{
    (void)state;
    loads("local ok, problem = pcall(setmetatable, {}, { __gc = function() end })\n"
          "assert(not ok and problem:find('__gc'))\n"
          "local mt = {}\n"
          "setmetatable({}, mt)\n"
          "mt.__gc = function() error('never called') end\n"
          "local closed = false\n"
          "do local x <close> = setmetatable({}, { __close = function() closed = true end }) end\n"
          "assert(closed)\n");
}

static void sandbox__bytecode_is_refused(void **state)
{
    (void)state;
    loads("assert(load('return 1 + 1')() == 2)\n"
          "assert(not load('\\27LuaT'))\n"
          "assert(not load(function() return '\\27LuaT' end))\n"
          "assert(not pcall(load, 'return 1', 'x', 'b'))\n"
          "assert(not pcall(load, 'return 1', 'x', 'bt'))\n"
          "x = 5\n"
          "assert(load('return x')() == 5)\n"
          "assert(load('return x', 'x', 't', { x = 6 })() == 6)\n");
}

static void sandbox__require_finds_files_beside_the_script(void **state)
{
    (void)state;
    assert_int_equal(mkdir("lib", 0700), 0);
    assert_int_equal(mkdir("lib/deep", 0700), 0);
    bench_file("one.lua", "loads = (loads or 0) + 1\nreturn { name = ... }");
    bench_file("lib/two.lua", "return 'two'");
    bench_file("lib/deep/init.lua", "return 'deep'");
    bench_file("nothing.lua", "");
    bench_file("broken.lua", "\nlocal = 1");
    bench_file("raises.lua", "\n\nerror 'oops'");
    bench_file("loop_a.lua", "return require 'loop_b'");
    bench_file("loop_b.lua", "return require 'loop_a'");
    loads("assert(require 'one' == require 'one' and loads == 1)\n"
          "assert(require 'one'.name == 'one')\n"
          "assert(require 'lib.two' == 'two' and require 'lib.deep' == 'deep')\n"
          "assert(require 'nothing' == true)\n"
          "local function fails(name, wanted)\n"
          "  local ok, problem = pcall(require, name)\n"
          "  assert(not ok and tostring(problem):find(wanted, 1, true), tostring(problem))\n"
          "end\n"
          "fails('broken', 'broken.lua:2:')\n"
          "fails('raises', 'raises.lua:3: oops')\n"
          "fails('raises', 'raises.lua:3: oops')\n"
          "fails('loop_a', \"'loop_a' requires itself\")\n"
          "fails('absent', 'there is no absent.lua')\n"
          "fails('a.b', 'there is no a/b.lua')\n"
          "fails({}, 'not a table')\n"
          "for _, name in ipairs { '', '.', '..', 'a..b', '.a', 'a.', '../x', '/etc/passwd',\n"
          "    'lib/two', 'a b', 'a\\n', ('x'):rep(300) } do\n"
          "  fails(name, \"can't be a module\")\n"
          "end\n");
}

static void sandbox__module_that_is_no_file_does_not_hang(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("pipe.lua", 0600), 0);
    assert_int_equal(mkdir("folder.lua", 0700), 0);
    loads("local ok, problem = pcall(require, 'pipe')\n"
          "assert(not ok and problem:find(\"isn't a file\"), problem)\n"
          "ok, problem = pcall(require, 'folder')\n"
          "assert(not ok and problem:find(\"isn't a file\"), problem)\n");
}

static void sandbox__state_is_made_anew_of_the_same_texts(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_file("m.lua", "return 'old'");
    b.timeout_ms = 30;
    bench_load(&b, "local authkit = require 'authkit'\nlocal m = require 'm'\n"
                   "authkit.events { t = function(ctx, event)\n"
                   "  if event.data.loop then while true do end end\n"
                   "  assert(m == 'old', m)\nend }\n");
    bench_ok(&b);
    bench_file("m.lua", "return 'new'");
    bench_file("handlers.lua", "error('edited')");
    bench_run_with(&b, "{\"data\":{\"loop\":true}}");
    bench_says(&b, ERR_LIMIT, "ran longer than 30 ms");
    bench_run(&b);
    bench_ok(&b);
    bench_close(&b);
}

/* ------------------------------------------------------------------------- limits */

/* In words what went wrong, or NULL: body must be ended by a limit, and the script must work
 * afterwards, with fresh globals. */
static const char *try_limit(const char *body, const char *wanted)
{
    static char problem[8192];
    char text[4096];
    struct bench b;

    bench_open(&b);
    b.timeout_ms = 50;
    b.memory_bytes = 8 << 20;
    snprintf(text, sizeof(text),
             "local authkit = require 'authkit'\n"
             "authkit.events { t = function(ctx, event)\n"
             "  if not event.data.bomb then assert(not changed) return end\n"
             "  changed = true\n%s\nend }\n",
             body);
    bench_load(&b, text);
    for (int i = 0; i < 2 && b.rc == 0; i++) {
        bench_run_with(&b, "{\"data\":{\"bomb\":true}}");
        if (b.rc != ERR_LIMIT || !strstr(b.err.text, wanted)) {
            snprintf(problem, sizeof(problem), "ended with %d: %s", b.rc, b.err.text);
            return problem;
        }
        bench_run_with(&b, "{\"data\":{}}");
    }
    snprintf(problem, sizeof(problem), "afterwards: %s", b.err.text);
    bench_close(&b);
    return b.rc == 0 ? NULL : problem;
}

/* In a process of its own, so that what can't be ended is a failure and not a hanging test. */
static void hits_limit(const char *body, const char *wanted)
{
    char problem[8192] = "";
    int out[2], status;
    size_t len = 0;
    ssize_t n;
    pid_t child;

    assert_int_equal(pipe(out), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const char *found;

        alarm(3);
        found = try_limit(body, wanted);
        if (found && write(out[1], found, strlen(found)) < 0)
            _exit(2);
        _exit(0);
    }
    close(out[1]);
    while ((n = read(out[0], problem + len, sizeof(problem) - 1 - len)) > 0)
        len += (size_t)n;
    close(out[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        snprintf(problem, sizeof(problem), "killed by signal %d", WTERMSIG(status));
    if (problem[0] || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s\n%s", body, problem);
}

static void limits__time_ends_whatever_tries_to_go_on(void **state)
{
    static const char *const bodies[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "while true do xpcall(error, function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end)\n"
        "while true do co() end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do coroutine.close(coroutine.create(function() while true do end end)) end",
        "local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
        "while true do end",
        "local function again()\n"
        "  local x <close> = setmetatable({}, { __close = again })\n  error()\nend\n"
        "while true do pcall(function()\n"
        "  local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
        "  while true do end\nend) end",
        "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })\n"
        "while true do pcall(function() return t[1] end) end",
        "table.sort({3, 1, 2, 5, 4, 6}, function() while true do end end)",
        "string.gsub('x', 'x', function() while true do end end)",
        "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "load(function() while true do end end)",
        "while true do load('local x = 1') end",
        "goto a ::a:: goto a",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        hits_limit(bodies[i], "ran longer than 50 ms");
}

/* A hook that raises has the hooks turned off until the error is caught: the message handler too
 * runs without a clock then. */
static void limits__time_ends_message_handlers(void **state)
{
    (void)state;
    hits_limit("xpcall(function() while true do end end, function() while true do end end)",
               "ran longer than 50 ms");
}

/* The same, for what is closed with a coroutine that was ended by the hook. */
static void limits__time_ends_closing_of_coroutines(void **state)
{
    (void)state;
    hits_limit(
        "coroutine.wrap(function()\n"
        "  local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
        "  while true do end\nend)()",
        "ran longer than 50 ms");
    hits_limit(
        "local co = coroutine.create(function()\n"
        "  local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
        "  while true do end\nend)\ncoroutine.resume(co) coroutine.close(co)",
        "ran longer than 50 ms");
}

/* Each coroutine begins with a count of its own, so many short ones must not escape the clock. */
static void limits__time_ends_coroutines_within_coroutines(void **state)
{
    (void)state;
    hits_limit("local function nest(depth)\n"
               "  if depth == 0 then return end\n"
               "  for i = 1, 40 do coroutine.resume(coroutine.create(nest), depth - 1) end\n"
               "end\n"
               "nest(5)\n",
               "ran longer than 50 ms");
    hits_limit("local function nest(depth)\n"
               "  if depth == 0 then return end\n"
               "  for i = 1, 60 do coroutine.wrap(nest)(depth - 1) end\n"
               "end\n"
               "nest(4)\n",
               "ran longer than 50 ms");
}

/* A few hundred calls that take long each: too few instructions for the hook to notice. */
static void limits__time_ends_work_on_large_strings(void **state)
{
    static const char *const bodies[] = {
        "local s = ('x'):rep(2e6) for i = 1, 300 do local t = s:upper() end",
        "for i = 1, 300 do local t = ('x'):rep(2e6) end",
        "for i = 1, 300 do pcall(string.rep, 'x', 2e6) end",
        "local s = ('x'):rep(2e6) for i = 1, 300 do pcall(string.reverse, s) end",
        "local t = {} for i = 1, 30000 do t[i] = 'some text' end\n"
        "for i = 1, 300 do local s = table.concat(t, ', ') end",
        "local t = {} for i = 1, 30000 do t[i] = 'some text' end\n"
        "local co = coroutine.wrap(function()\n"
        "  for i = 1, 300 do local s = table.concat(t, ', ') end end)\n"
        "co()",
        "local s = ('x'):rep(2e6) for i = 1, 300 do local t = s:gsub('x*', string.upper) end",
        "local s = ('x'):rep(2e6) for i = 1, 300 do utf8.len(s) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end\n"
        "for i = 1, 300 do table.remove(t, 1) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end\n"
        "for i = 1, 300 do table.move(t, 1, #t, 2) end",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        hits_limit(bodies[i], "ran longer than 50 ms");
}

static void limits__memory_ends_whatever_tries_to_go_on(void **state)
{
    static const char *const bodies[] = {
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "local t, s = {}, 'x' while true do\n"
        "  pcall(function() while true do s = s .. s end end)\n"
        "  pcall(function() while true do t[#t + 1] = s .. #t end end)\nend",
        "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(100) .. i end",
        "local function f() return f() + 1 end\n"
        "local t = {} while true do pcall(f) t[#t + 1] = {} end",
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000000 + #t) end",
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1000000 + #t) end) end",
        "local t, s = {}, ('x'):rep(1000000)\n"
        "for i = 1, 100 do pcall(function() t[i] = table.concat({ i, s, s }) end) end",
        "for i = 1, 100 do t = { t, (('x'):rep(1000 + i):gsub('x', ('y'):rep(1000))) } end",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        hits_limit(bodies[i], "");
}

/* One request that could never be met is an error like any other, and leaves the script whole. */
static void limits__one_giant_string_is_an_error(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, "", "return ('x'):rep(1e9)");
    bench_run(&b);
    bench_says(&b, ERR_SCRIPT,
               "handlers.lua:4: used more than 16384 KiB of memory: not enough memory");
    bench_script(&b, "", "error('not enough memory', 0)");
    bench_run(&b);
    assert_memory_equal(b.err.text, "not enough memory", 17);
    bench_passes(&b, "",
                 "for i = 1, 3 do\n"
                 "  local ok, problem = pcall(string.rep, 'x', 1e9)\n"
                 "  assert(not ok and problem:find('memory'))\n"
                 "end");
    bench_close(&b);
}

/* Garbage isn't use: large strings that nobody holds any more must not add up to the limit. */
static void limits__large_garbage_is_collected_in_time(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b); /* 16 MiB */
    b.timeout_ms = 30000;
    bench_passes(&b, "", "for i = 1, 50 do local s = ('x'):rep(3 << 20) .. i end");
    bench_close(&b);
}

/* Symptom: beside a cache of 43 of 64 MiB every function that made a large string failed, until others had run. */
static void limits__garbage_beside_a_large_cache_is_collected_in_time(void **state)
{
    static const char *const bodies[] = {
        "local s = ('x'):rep(1000000 + i)",
        "local s = table.concat({ ('y'):rep(300000), ('z'):rep(300000 + i) })",
        "local s = ('x'):rep(1000 + i):gsub('x', ('y'):rep(500))",
        "coroutine.wrap(function() local s = ('x'):rep(1000000 + i) end)()",
    };
    struct bench b;
    char cache[128], text[256];

    (void)state;
    bench_open(&b); /* 16 MiB */
    b.timeout_ms = 30000;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        snprintf(text, sizeof(text), "for i = 1, 20 do %s end", bodies[i]);
        for (int tenths = 85; tenths < 120; tenths += 5) {
            snprintf(cache, sizeof(cache),
                     "cache = {} for i = 1, %d do cache[i] = ('c'):rep(100000 + i) end", tenths);
            bench_script(&b, cache, text);
            for (int call = 0; call < 3; call++) {
                bench_run(&b);
                bench_ok(&b);
            }
        }
    }
    bench_close(&b);
}

/* Symptom: a string buffer that couldn't grow was an error that a function could catch, in a state that went on. */
static void limits__state_in_which_no_large_string_fits_is_closed(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 30000;
    bench_script(&b, "keep = {}",
                 "assert(event.data.id == 'd1' or #keep == 0, 'the state went on')\n"
                 "if event.data.id ~= 'd1' then return end\n"
                 "for i = 1, 148 do keep[i] = ('x'):rep(100000 + i) end\n"
                 "for i = 1, 100 do assert(not pcall(string.rep, 'x', 2000000 + i)) end");
    bench_run(&b);
    bench_says(&b, ERR_LIMIT,
               "handlers.lua:7: used more than 16384 KiB of memory\nstack traceback");
    bench_run_with(&b, "{\"id\":\"e2\",\"event\":\"t\",\"data\":{\"id\":\"d2\"}}");
    bench_ok(&b);
    bench_close(&b);
}

/* What SQLite uses counts by itself, and only for the call. */
static void limits__memory_of_sql(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b); /* 16 MiB */
    b.timeout_ms = 20000;
    bench_script(&b, "",
                 "return ctx.db.sql [[WITH RECURSIVE r (n) AS\n"
                 "  (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 300)\n"
                 "  SELECT n FROM r ORDER BY hex(zeroblob(5e6))]]");
    for (int i = 0; i < 2; i++) {
        bench_run(&b);
        bench_says(&b, ERR_LIMIT, "handlers.lua:4: used more than 16384 KiB of memory for SQL");
    }
    bench_passes(&b, "",
                 "local text = 'SELECT length(hex(zeroblob(?))) AS n'\n"
                 "assert(not pcall(ctx.db.sql, text, 1 << 24))\n"
                 "for i = 1, 20 do assert(ctx.db.sql(text, 1 << 21)[1].n == 1 << 22) end\n");
    bench_close(&b);
}

static void limits__loading_has_them_too(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    b.memory_bytes = 4 << 20;
    bench_load(&b, "local t = {} while true do t[#t + 1] = {} end");
    bench_says(&b, ERR_LIMIT, "used more than 4096 KiB of memory");
    bench_close(&b);
}

static void limits__error_without_a_limit_keeps_the_state(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, "local authkit = require 'authkit'\nn = 0\n"
                   "authkit.events { t = function() n = n + 1 error('n is ' .. n) end }");
    bench_ok(&b);
    bench_run(&b);
    bench_says(&b, ERR_SCRIPT, "handlers.lua:3: n is 1");
    bench_run(&b);
    bench_says(&b, ERR_SCRIPT, "handlers.lua:3: n is 2");
    assert_non_null(strstr(b.err.text, "stack traceback:"));
    bench_close(&b);
}

/* Symptom: what stood behind a NUL was missing, and the traceback with it. */
static void script__error_with_a_zero_byte_is_whole(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_load(&b, "local authkit = require 'authkit'\n"
                   "authkit.events { t = function() error('a\\0b\\0') end }");
    bench_ok(&b);
    bench_run(&b);
    bench_says(&b, ERR_SCRIPT, "handlers.lua:2: a\\0b\\0\nstack traceback:");
    bench_load(&b, "error('c\\0d')");
    bench_says(&b, ERR_SCRIPT, "handlers.lua:1: c\\0d");
    bench_close(&b);
}

/* A table of 2^60 tables is made in no time. To encode it ran for years, with no limit that would end
 * it. */
static void limits__encoding_ends(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    b.timeout_ms = 20000;
    bench_raises(&b, "",
                 "local t = { 'x' } for _ = 1, 60 do t = { t, t } end\n"
                 "require 'authkit'.json.encode(t)",
                 "handlers.lua:5: the JSON text would be longer than 16777216 bytes");
    bench_close(&b);
    hits_limit("local t = { ('x'):rep(9) } for _ = 1, 60 do t = { t, t } end\n"
               "while true do pcall(require('authkit').json.encode, t) end",
               "ran longer than 50 ms");
}

static void limits__deep_recursion_is_an_error(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, "", "local function f() return 1 + f() end f()");
    bench_run(&b); /* Lua's own limit of the stack, or that of memory, whichever comes first */
    assert_true(b.rc == ERR_LIMIT || b.rc == ERR_SCRIPT);
    bench_raises(&b, "",
                 "local t = {} for i = 1, 200 do t = { t } end require 'authkit'.json.encode(t)",
                 "levels");
    bench_raises(&b, "", "local s = 'x' string.rep('(', 300):gsub(string.rep('(', 300), '')", "");
    bench_close(&b);
}

/*
 * Memory that runs out at every place there is: never a crash, never a leak, always a clean error,
 * and the next call works when there is enough.
 */
static void limits__every_memory_limit_fails_cleanly(void **state)
{
    static const char text[] =
        "local authkit = require 'authkit'\n"
        "authkit.schema { notes = { columns = { text = 'text', tags = 'json?' },\n"
        "  indexes = { { 'text' } } } }\n"
        "authkit.actions { authentication = function(ctx, action, response)\n"
        "  return response.deny('no') end }\n"
        "authkit.events { t = function(ctx, event)\n"
        "  local id = ctx.db.insert('notes', { text = 'a', tags = { 'x', { y = event.data.id } } "
        "})\n"
        "  ctx.db.patch('notes', id, { text = 'b' .. id })\n"
        "  assert(ctx.db.query('notes'):where('text', 'b' .. id):unique().tags[2].y == 'd1')\n"
        "  for note in ctx.db.query('notes'):order_by('_id'):each() do\n"
        "    authkit.json.decode(authkit.json.encode(note))\n"
        "  end\n"
        "  pcall(ctx.db.insert, 'notes', { txt = 'a' })\n"
        "  ctx.db.delete('notes', id)\n"
        "end }\n";
    bool migrated = false, ran = false;
    struct bench b;

    (void)state;
    bench_open(&b);
    for (size_t limit = 1000; limit < 400000 && !ran; limit += limit / 150) {
        b.memory_bytes = limit;
        if (bench_load(&b, text) < 0) {
            assert_true(b.rc == ERR_LIMIT || b.rc == ERR_NOMEM || b.rc == ERR_SCRIPT);
            assert_true(b.err.text[0] != '\0');
            assert_null(b.script);
            continue;
        }
        if (bench_schema(&b, true) < 0) {
            assert_true(b.rc == ERR_LIMIT || b.rc == ERR_SCRIPT);
            continue;
        }
        migrated = true;
        ran = bench_run(&b) == 0;
        if (!ran)
            assert_true(b.rc == ERR_LIMIT || b.rc == ERR_SCRIPT);
    }
    assert_true(migrated && ran);
    bench_close(&b);
}

/* ------------------------------------------------------------------------- values */

static void values__json_becomes_lua(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_script(&b, "",
                 "local d = event.data\n"
                 "assert(event.late == false and event.context == nil)\n"
                 "assert(math.type(d.i) == 'integer' and d.i == 9007199254740993)\n"
                 "assert(math.type(d.whole) == 'integer' and d.whole == 1000)\n"
                 "assert(math.type(d.r) == 'float' and d.r == 1.5)\n"
                 "assert(d.min == math.mininteger and d.max == math.maxinteger)\n"
                 "assert(math.type(d.big) == 'float' and d.huge == math.huge)\n"
                 "assert(d.t == true and d.f == false and d.n == nil)\n"
                 "assert(#d.a == 2 and d.a[2].b == 'c' and #d.empty == 0)\n"
                 "assert(d.s == 'a\uFFFD\u00e9\U0001F600\\n')\n"
                 "assert(d.twice == 2)\n");
    bench_run_with(&b, "{\"context\":null,\"data\":{\"i\":9007199254740993,\"whole\":1e3,\"r\":1.5,"
                       "\"min\":-9223372036854775808,\"max\":9223372036854775807,"
                       "\"big\":12345678901234567890,\"huge\":1e400,\"t\":true,\"f\":false,"
                       "\"n\":null,\"a\":[1,{\"b\":\"c\"}],\"empty\":[],"
                       "\"s\":\"a\\u0000\\u00e9\\ud83d\\ude00\\n\",\"twice\":1,\"twice\":2}}");
    bench_ok(&b);
    bench_close(&b);
}

static void values__encode_and_decode(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_passes(&b, "",
                 "local json, null = require 'authkit'.json, require 'authkit'.null\n"
                 "local function is(value, text)\n"
                 "  local found = json.encode(value)\n"
                 "  assert(found == text, found)\n"
                 "end\n"
                 "is(nil, 'null') is(null, 'null') is(true, 'true') is(1, '1') is(1.5, '1.5')\n"
                 "is(math.mininteger, '-9223372036854775808') is(1e300, '1e+300') is(0.1, '0.1')\n"
                 "is({}, '{}') is({ 1, 2 }, '[1,2]') is({ a = { null } }, '{\"a\":[null]}')\n"
                 "is(json.array(), '[]') is(json.array { 1 }, '[1]') is(json.decode '[]', '[]')\n"
                 "is(json.decode '{}', '{}') is(json.decode '[[],{}]', '[[],{}]')\n"
                 "is('\\n\"/\\1\u00e9', '\"' .. [[\\n\\\"/\\u0001\u00e9]] .. '\"')\n"
                 "local value, problem = json.decode '{'\n"
                 "assert(value == nil and problem:find('line 1, column 2'))\n"
                 "assert(json.decode 'null' == nil)");
    bench_close(&b);
}

static void values__what_json_cannot_say_raises(void **state)
{
    static const struct {
        const char *body, *wanted;
    } cases[] = {
        {"encode(0/0)", "JSON has no number for"},
        {"encode(math.huge)", "JSON has no number for inf"},
        {"encode(print)", "a function can't be JSON"},
        {"encode(coroutine.create(print))", "a thread can't be JSON"},
        {"encode('\\xff')", "isn't valid UTF-8"},
        {"encode({ a = 1, [2.5] = 1 })", "with a number as a key"},
        {"encode({ [true] = 1 })", "with a boolean as a key"},
        {"local t = {} t.t = t encode(t)", "contain itself"},
        {"encode()", "bad argument"},
        {"decode(5)", "wants a text, not a number"},
        {"array(5)", "wants a list, not a number"},
        {"array(setmetatable({}, {}))", "has a metatable already"},
    };
    char body[512];
    struct bench b;

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(body, sizeof(body),
                 "local json = require 'authkit'.json\n"
                 "local encode, decode, array = json.encode, json.decode, json.array\n%s",
                 cases[i].body);
        bench_raises(&b, "", body, cases[i].wanted);
    }
    bench_close(&b);
}

/* A list with names too would lose the names in silence. */
static void values__list_with_names_raises(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    bench_raises(&b, "", "require 'authkit'.json.encode({ 1, 2, a = 3 })", "both a list and names");
    bench_close(&b);
}

/* ------------------------------------------------------------------------- actions */

static const char *decide(struct bench *b, const char *body)
{
    static char answer[256];
    struct script_verdict verdict = {0};
    struct json json = {0};
    const char *action = "{\"object\":\"x\"}";
    char text[1024];

    snprintf(text, sizeof(text),
             "require 'authkit'.actions { authentication = function(ctx, action, response)\n"
             "%s\nend }",
             body);
    bench_load(b, text);
    bench_ok(b);
    assert_int_equal(json_read(&json, action, strlen(action), NULL), 0);
    b->rc = script_run_action(b->script, b->db, "authentication", &json, &verdict, &b->err);
    if (b->rc < 0)
        snprintf(answer, sizeof(answer), "error");
    else
        snprintf(answer, sizeof(answer), "%s %s", verdict.allow ? "allow" : "deny",
                 verdict.has_message ? buf_text(&verdict.message) : "-");
    buf_release(&verdict.message);
    json_release(&json);
    return answer;
}

static void actions__verdicts(void **state)
{
    static const char *const wrong[] = {
        "",
        "return {}",
        "return response",
        "return nil, 1",
        "return response.deny(5)",
        "response.allow().x = 1",
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_string_equal(decide(&b, "return response.allow()"), "allow -");
    assert_string_equal(decide(&b, "return response.deny()"), "deny -");
    assert_string_equal(decide(&b, "return response.deny('no')"), "deny no");
    assert_string_equal(decide(&b, "return response.deny('')"), "deny ");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_string_equal(decide(&b, wrong[i]), "error");
        assert_int_equal(b.rc, ERR_SCRIPT);
    }
    decide(&b, "return");
    bench_says(&b, ERR_SCRIPT, "returned nothing: it must return response.allow()");
    bench_says(&b, ERR_SCRIPT, "handlers.lua:1: the action's function");
    assert_string_equal(decide(&b, "return response:allow()"), "allow -");
    decide(&b, "return response:deny('no')");
    bench_says(&b, ERR_SCRIPT, "call it with a dot: response.deny(…)");
    bench_close(&b);
}

/* What is no verdict is a mistake to tell of, and not a denial. */
static void actions__other_values_are_no_denial(void **state)
{
    static const char *const wrong[] = {
        "return true", "return false", "return 'allow'", "return 1", "return response.allow",
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_string_equal(decide(&b, wrong[i]), "error");
    bench_close(&b);
}

static void actions__verdict_can_not_be_imitated(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    assert_string_equal(
        decide(&b, "return setmetatable({}, { __eq = function() return true end })"), "error");
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(script__error_of_loading_names_file_and_line),
        IN_TEMP_DIR(script__absent_file_is_absent),
        IN_TEMP_DIR(script__undefined_globals_are_told),
        IN_TEMP_DIR(script__empty_script_is_fine),
        IN_TEMP_DIR(script__registrations_are_known),
        IN_TEMP_DIR(script__what_other_luas_have_is_told),
        IN_TEMP_DIR(script__wrong_registrations_are_refused),
        IN_TEMP_DIR(sandbox__dangerous_names_are_absent),
        IN_TEMP_DIR(sandbox__libraries_are_read_only),
        IN_TEMP_DIR(sandbox__finalizers_are_refused),
        IN_TEMP_DIR(sandbox__bytecode_is_refused),
        IN_TEMP_DIR(sandbox__require_finds_files_beside_the_script),
        IN_TEMP_DIR(sandbox__module_that_is_no_file_does_not_hang),
        IN_TEMP_DIR(sandbox__state_is_made_anew_of_the_same_texts),
        IN_TEMP_DIR(limits__time_ends_whatever_tries_to_go_on),
        IN_TEMP_DIR(limits__time_ends_message_handlers),
        IN_TEMP_DIR(limits__time_ends_closing_of_coroutines),
        IN_TEMP_DIR(limits__time_ends_coroutines_within_coroutines),
        IN_TEMP_DIR(limits__time_ends_work_on_large_strings),
        IN_TEMP_DIR(limits__memory_ends_whatever_tries_to_go_on),
        IN_TEMP_DIR(limits__one_giant_string_is_an_error),
        IN_TEMP_DIR(limits__large_garbage_is_collected_in_time),
        IN_TEMP_DIR(limits__garbage_beside_a_large_cache_is_collected_in_time),
        IN_TEMP_DIR(limits__state_in_which_no_large_string_fits_is_closed),
        IN_TEMP_DIR(limits__memory_of_sql),
        IN_TEMP_DIR(limits__loading_has_them_too),
        IN_TEMP_DIR(limits__error_without_a_limit_keeps_the_state),
        IN_TEMP_DIR(script__error_with_a_zero_byte_is_whole),
        IN_TEMP_DIR(limits__encoding_ends),
        IN_TEMP_DIR(limits__deep_recursion_is_an_error),
        IN_TEMP_DIR(limits__every_memory_limit_fails_cleanly),
        IN_TEMP_DIR(values__json_becomes_lua),
        IN_TEMP_DIR(values__encode_and_decode),
        IN_TEMP_DIR(values__what_json_cannot_say_raises),
        IN_TEMP_DIR(values__list_with_names_raises),
        IN_TEMP_DIR(actions__verdicts),
        IN_TEMP_DIR(actions__other_values_are_no_denial),
        IN_TEMP_DIR(actions__verdict_can_not_be_imitated),
    };

    return cmocka_run_group_tests_name("script", tests, NULL, NULL);
}
