/* SPDX-License-Identifier: MIT */
/*
 * What a script can do with Lua itself to break in, crash or spoil the next call, and that it can't.
 *
 * Each body runs as one event's function; then a well-behaved one runs in the same script and must
 * find everything as it was.
 */
#include "script/script.h"

#include "base/clock.h"
#include "bench.h"

#include <sys/stat.h>
#include <unistd.h>

enum { ANY = 1 }; /* instead of a code: whatever comes of it, but in time */

struct deed {
    const char *body;
    int rc;
    const char *wanted; /* NULL: "" */
};

static int complaints;

static const char probe[] =
    "local function probe(ctx, event)\n"
    "  assert(event.data.id == 'd1' and event.id == 'e1')\n"
    "  assert(('x'):rep(3):upper() == 'XXX' and string.format('%d', 7) == '7')\n"
    "  assert(('key=value'):match('(%w+)=(%w+)') == 'key')\n"
    "  assert(getmetatable('') == false and tostring(12) == '12' and type(print) == 'function')\n"
    "  assert(table.concat({ 1, 2, 3 }, ',') == '1,2,3' and math.max(1, 2) == 2)\n"
    "  assert(#{ 1, 2 } == 2 and select('#', 1, nil) == 2 and next({}) == nil)\n"
    "  assert(pcall(error, 'x') == false and rawequal(ctx.db, ctx.db))\n"
    "  assert(coroutine.wrap(function() return coroutine.yield(1) end)() == 1)\n"
    "  assert(require 'authkit' == authkit and type(authkit.json.encode) == 'function')\n"
    "  assert(authkit.json.encode(authkit.json.decode '{\"a\":[1,2]}') == '{\"a\":[1,2]}')\n"
    "  local id = ctx.db.insert('notes', { name = 'probe', j = { 1, 2 } })\n"
    "  assert(ctx.db.get('notes', id).name == 'probe')\n"
    "  assert(#ctx.db.query('notes'):where('name', 'probe'):all() == 1)\n"
    "  assert(ctx.db.sql('SELECT 1 AS one')[1].one == 1)\n"
    "  ctx.db.delete('notes', id)\n"
    "end\n";

/* All that is wrong is said, not only the first. */
static PRINTF_LIKE(2, 3) void complain(const struct deed *deed, const char *fmt, ...)
{
    char text[4096];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    print_error("%s\n    %s\n", deed->body, text);
    complaints++;
}

/* What ends by itself, or for lack of memory, shall not depend on how busy the machine is. */
static bool may_run_for_ever(const struct deed *deed)
{
    return (deed->rc == ERR_LIMIT || deed->rc == ANY) &&
           !(deed->wanted && strcmp(deed->wanted, "memory") == 0);
}

static void try_deed(struct bench *b, const struct deed *deed)
{
    char text[16384];
    int64_t start;

    alarm(60); /* what can't be ended ends the test */
    b->timeout_ms = may_run_for_ever(deed) ? 300 : 10000;
    snprintf(
        text, sizeof(text),
        "local authkit = require 'authkit'\n"
        "authkit.schema { notes = { columns = { name = 'text?', r = 'real?', j = 'json?' } } }\n"
        "kept = kept or {}\n"
        "%s"
        "local function deed(ctx, event)\n%s\nend\n"
        "authkit.events { t = function(ctx, event)\n"
        "  if event.data.bomb then deed(ctx, event) else probe(ctx, event) end\n"
        "end }\n",
        probe, deed->body);
    bench_load(b, text);
    if (b->rc < 0)
        fail_msg("%s\n%s", deed->body, b->err.text); /* the test is wrong */
    bench_schema(b, true);
    bench_ok(b);
    for (int i = 0; i < 2; i++) {
        start = clock_mono_ms();
        bench_run_with(b, "{\"id\":\"e0\",\"data\":{\"bomb\":true}}");
        if (clock_mono_ms() - start > 10000)
            complain(deed, "ran for %d ms", (int)(clock_mono_ms() - start));
        if (deed->rc == ANY ? b->rc < 0 && b->rc != ERR_SCRIPT && b->rc != ERR_LIMIT
                            : b->rc != deed->rc)
            complain(deed, "ends with %d: %s", b->rc, b->err.text);
        if (deed->wanted && !strstr(b->err.text, deed->wanted))
            complain(deed, "says \"%s\"", b->err.text);
        bench_run_with(b, "{\"id\":\"e1\",\"data\":{\"id\":\"d1\"}}");
        if (b->rc < 0)
            complain(deed, "leaves this behind: %s", b->err.text);
    }
}

static void try_deeds(const struct deed *deeds, size_t count)
{
    struct bench b;

    complaints = 0;
    bench_open(&b);
    for (size_t i = 0; i < count; i++)
        try_deed(&b, &deeds[i]);
    bench_close(&b);
    assert_int_equal(complaints, 0);
}

#define TRY(deeds) try_deeds(deeds, ARRAY_LEN(deeds))

static void hostile__metatables_and_libraries(void **state)
{
    static const struct deed deeds[] = {
        {"getmetatable('').__index = nil", ERR_SCRIPT, "boolean value"},
        {"setmetatable('', {})", ERR_SCRIPT, NULL},
        {"string.rep = nil", ERR_SCRIPT, "string is read-only"},
        {"rawset(string, 'rep', nil)", ERR_SCRIPT, "string is read-only"},
        {"setmetatable(string, { __index = {} })", ERR_SCRIPT, "protected metatable"},
        {"getmetatable(string).__index.rep = nil", ERR_SCRIPT, "boolean value"},
        {"for k, v in pairs(string) do assert(type(k) == 'string') end\n"
         "assert(rawget(string, 'rep') == nil and #string == 0 and next(string) == nil)",
         0, NULL},
        {"table.insert(string, 'x')", ERR_SCRIPT, "read-only"},
        {"table.move({ 1, 2, 3 }, 1, 3, 1, string)", ERR_SCRIPT, "read-only"},
        {"table.sort(string)", 0, NULL},
        {"table.remove(string)", ANY, NULL},
        {"table.concat(setmetatable({}, { __len = function() return 2^53 end }))", ERR_SCRIPT,
         NULL},
        {"authkit.events = nil", ERR_SCRIPT, "authkit is read-only"},
        {"authkit.json.encode = nil", ERR_SCRIPT, "read-only"},
        {"rawset(authkit, 'json', nil)", ERR_SCRIPT, "read-only"},
        {"ctx.db = nil", ERR_SCRIPT, "ctx is read-only"},
        {"rawset(ctx, 'db', nil)", ERR_SCRIPT, "read-only"},
        {"ctx.db.insert = nil", ERR_SCRIPT, "read-only"},
        {"ctx.users.get = nil", ERR_SCRIPT, "read-only"},
        {"ctx.log.info = nil", ERR_SCRIPT, "read-only"},
        {"setmetatable(ctx, {})", ERR_SCRIPT, "protected metatable"},
        {"setmetatable(authkit.null, {})", ERR_SCRIPT, NULL},
        {"authkit.null.x = 1", ERR_SCRIPT, NULL},
        {"getmetatable(authkit.json.array {}).__index = 1", ANY, NULL},
        {"setmetatable({}, { __gc = function() end })", ERR_SCRIPT, "__gc"},
        {"local mt = {} local t = setmetatable({}, mt) mt.__gc = function() kept.x = 1 end\n"
         "t = nil for i = 1, 1e5 do local x = {} end assert(kept.x == nil)",
         0, NULL},
        {"local mt = setmetatable({}, { __index = { __gc = function() kept.x = 1 end } })\n"
         "for i = 1, 1e5 do setmetatable({}, mt) end assert(kept.x == nil)",
         ANY, NULL},
        {"local v <close> = 5", ERR_SCRIPT, "non-closable"},
        {"local v <close> = setmetatable({}, { __close = function() error('closing') end })",
         ERR_SCRIPT, "closing"},
        {"local v <close> = setmetatable({}, { __close = function() error('closing') end })\n"
         "error('first')",
         ERR_SCRIPT, "closing"},
        {"for _ in pairs(setmetatable({}, { __pairs = function() return next, {}, {} end })) do "
         "end",
         ANY, NULL},
        {"local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x", ERR_SCRIPT,
         "loop"},
        {"return setmetatable({}, { __name = 'authkitd.statement' }) .. 'x'", ERR_SCRIPT, NULL},
        {"return ctx.db.insert(setmetatable({}, { __tostring = function() return 'notes' end }), "
         "{})",
         ERR_SCRIPT, NULL},
    };

    (void)state;
    TRY(deeds);
}

/* _G is the script's own: it may spoil it, for itself alone. */
static void hostile__globals(void **state)
{
    static const struct deed deeds[] = {
        {"local assert = assert local _ENV = {} x = 1 assert(x == 1)", 0, NULL},
        {"local _ENV = nil return x", ERR_SCRIPT, NULL},
        {"setmetatable(_G, { __index = function(_, k) error('no ' .. k) end })\n"
         "pcall(function() return undefined end) setmetatable(_G, nil)",
         0, NULL},
        {"setmetatable(_G, { __newindex = error }) setmetatable(_G, nil)", 0, NULL},
        {"local p = print print = nil assert(print == nil) print = p", 0, NULL},
        {"local g, keep, put = _G, {}, pairs for k, v in put(g) do keep[k] = v end\n"
         "for k in put(keep) do g[k] = nil end for k, v in put(keep) do g[k] = v end",
         0, NULL},
        {"return debug.getregistry()", ERR_SCRIPT, "nil value"},
        {"assert(not io and not debug and not package and not dofile and not loadfile)", 0, NULL},
        {"assert(not os.execute and not os.exit and not os.getenv and not os.remove)", 0, NULL},
        {"assert(not os.rename and not os.tmpname and not os.setlocale and not string.dump)", 0,
         NULL},
    };

    (void)state;
    TRY(deeds);
}

static void hostile__load_and_require(void **state)
{
    static const struct deed deeds[] = {
        {"return load('return 1')() + load(function() end)()", ERR_SCRIPT, NULL},
        {"assert(load('return 1 + 1')() == 2 and not load('return return'))", 0, NULL},
        {"assert(load('x = 5') and not pcall(load, 'return 1', 'n', 'b'))", 0, NULL},
        {"assert(not pcall(load, 'return 1', 'n', 'bt'))", 0, NULL},
        {"local f, e = load('\\27LuaS\\0\\x19\\x93\\r\\n') assert(not f and e, e)", 0, NULL},
        {"local parts = { '\\27Lua', 'T' } local i = 0\n"
         "local f, e = load(function() i = i + 1 return parts[i] end) assert(not f and e)",
         0, NULL},
        {"load(function() error('in the reader') end)", ANY, NULL},
        {"load(function() return {} end)", ANY, NULL},
        {"local f = load(function() coroutine.yield() end)", ANY, NULL},
        {"assert(not load(('('):rep(1e5)))", 0, NULL},
        {"assert(not load('return ' .. ('{'):rep(1e5)))", 0, NULL},
        {"assert(not load('local ' .. ('a,'):rep(300) .. 'b = 1'))", 0, NULL},
        {"local n = 0 load(function() n = n + 1 return ' ' end)", ERR_LIMIT, "ran longer"},
        {"load(function() return ('x'):rep(1e6) end)", ERR_LIMIT, NULL},
        {"load('while true do end')()", ERR_LIMIT, "ran longer"},
        {"local f = load('return x', 'n', 't', { x = 4 }) assert(f() == 4)", 0, NULL},
        {"load('return ctx', ('n'):rep(1e5))() error('x')", ERR_SCRIPT, "x"},
        {"load(\"error('here')\", '=authkitd:sandbox.lua')()", ERR_SCRIPT, "here"},
        {"return require '../x'", ERR_SCRIPT, "can't be a module"},
        {"return require '..x'", ERR_SCRIPT, "can't be a module"},
        {"return require '/etc/passwd'", ERR_SCRIPT, "can't be a module"},
        {"return require 'a..b'", ERR_SCRIPT, "can't be a module"},
        {"return require 'a/b'", ERR_SCRIPT, "can't be a module"},
        {"return require ''", ERR_SCRIPT, "can't be a module"},
        {"return require '.'", ERR_SCRIPT, "can't be a module"},
        {"return require('x'):rep(1e3)", ERR_SCRIPT, NULL},
        {"return require(('x'):rep(1e6))", ERR_SCRIPT, "can't be a module"},
        {"return require 'beside\\0'", ERR_SCRIPT, "can't be a module"},
        {"return require 'beside\\0.lua'", ERR_SCRIPT, NULL},
        {"return require {}", ERR_SCRIPT, "wants the name"},
        {"return require(5)", ERR_SCRIPT, NULL},
        {"return require(authkit.null)", ERR_SCRIPT, NULL},
        {"return require 'outside'", ERR_SCRIPT, "not found"},
        {"return require 'folder'", ERR_SCRIPT, NULL},
        {"assert(require 'beside' == 'beside')", 0, NULL},
    };

    (void)state;
    bench_file("beside.lua", "return 'beside'");
    assert_int_equal(symlink("/nonexistent", "outside.lua"), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    TRY(deeds);
}

/* It named a line of authkitd's own Lua. */
static void hostile__misuse_is_placed_where_the_script_did_it(void **state)
{
    static const struct {
        const char *body, *wanted;
    } cases[] = {
        {"local _ = setmetatable('', {})", "table expected, got string"},
        {"local _ = setmetatable({}, 5)", "nil or table expected"},
        {"local _ = setmetatable(ctx, {})", "cannot change a protected metatable"},
        {"local _ = rawset(5, 1, 1)", "rawset wants a table, not a number"},
        {"local _ = load({})", "load wants a text, or a function that gives it in parts"},
        {"local _ = load('x = 1', {})", "load wants a text as the chunk's name, not a table"},
        {"local _ = coroutine.resume(1)", "coroutine.resume wants a thread, not a number"},
        {"local _ = coroutine.wrap(nil)", "coroutine.wrap wants a function, not nil"},
        {"local _ = coroutine.close(1)", "coroutine.close wants a thread, not a number"},
        {"coroutine.yield()", "attempt to yield from outside a coroutine"},
        {"coroutine.wrap(function() table.sort({ 2, 1 }, coroutine.yield) end)()",
         "attempt to yield across a C-call boundary"},
        {"local _ = coroutine.close(coroutine.running())", "cannot close a running coroutine"},
    };
    struct bench b;

    (void)state;
    bench_open(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bench_raises(&b, "", cases[i].body, cases[i].wanted);
        assert_memory_equal(b.err.text, "handlers.lua:4: ", strlen("handlers.lua:4: "));
    }
    bench_passes(&b, "", "assert(select('#', load('return 1')) == 1 and load(5) == nil)");
    bench_close(&b);
}

static void hostile__coroutines(void **state)
{
    static const struct deed deeds[] = {
        {"coroutine.yield()", ERR_SCRIPT, "outside a coroutine"},
        {"coroutine.wrap(function() while true do end end)()", ERR_LIMIT, "ran longer"},
        {"coroutine.wrap(function() local t = {} while true do t[#t + 1] = {} end end)()",
         ERR_LIMIT, "memory"},
        {"local co = coroutine.create(function() while true do coroutine.yield() end end)\n"
         "while true do coroutine.resume(co) end",
         ERR_LIMIT, "ran longer"},
        {"local function nest() return coroutine.wrap(nest)() end nest()", ANY, NULL},
        {"local co co = coroutine.wrap(function() co() end) co()", ERR_SCRIPT, "non-suspended"},
        {"local co co = coroutine.create(function() return coroutine.close(co) end)\n"
         "assert(not coroutine.resume(co))",
         0, NULL},
        {"coroutine.close(coroutine.running())", ERR_SCRIPT, NULL},
        {"local co = coroutine.wrap(function() error({}) end) co()", ERR_SCRIPT, "a table: {}"},
        {"local co = coroutine.create(function()\n"
         "  local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
         "  coroutine.yield() end) coroutine.resume(co) coroutine.close(co)",
         ERR_LIMIT, "ran longer"},
        {"local co = coroutine.wrap(function()\n"
         "  for row in ctx.db.query('notes'):each() do coroutine.yield(row) end end)\n"
         "for i = 1, 3 do ctx.db.insert('notes', { name = 'n' }) end\n"
         "co() ctx.db.sql('SELECT 1') co() ctx.db.insert('notes', {}) co()\n"
         "kept.co = co error('undo')",
         ERR_SCRIPT, "undo"},
        {"local co = coroutine.create(function() ctx.db.insert('notes', { j = setmetatable({},\n"
         "  { __index = function() coroutine.yield() end }) }) end)\n"
         "coroutine.resume(co) coroutine.resume(co) error 'undo'",
         ERR_SCRIPT, "undo"},
        {"local all = {} for i = 1, 1e6 do\n"
         "  all[i] = coroutine.create(function() coroutine.yield() end) coroutine.resume(all[i]) "
         "end",
         ERR_LIMIT, NULL},
        {"local ok, e = coroutine.resume(coroutine.create(error), nil)\n"
         "assert(not ok and e == nil)",
         0, NULL},
        {"table.sort({ 3, 2, 1 }, coroutine.wrap(function() while true do coroutine.yield(true) "
         "end\n"
         "end))",
         ANY, NULL},
        {"coroutine.wrap(function() table.sort({ 3, 2, 1 }, coroutine.yield) end)()", ERR_SCRIPT,
         "yield across"},
        {"coroutine.wrap(function() return ('x'):gsub('x', coroutine.yield) end)()", ERR_SCRIPT,
         "yield across"},
        {"local co = coroutine.wrap(function() pcall(coroutine.yield, 1) error('late') end)\n"
         "co() co()",
         ERR_SCRIPT, "late"},
        {"kept.co = kept.co or coroutine.wrap(function(c) while true do\n"
         "  c.db.insert('notes', { name = 'kept' }) c = coroutine.yield() end end)\n"
         "kept.co(ctx) error('undo')",
         ERR_SCRIPT, "undo"},
    };

    (void)state;
    TRY(deeds);
}

static void hostile__errors(void **state)
{
    static const struct deed deeds[] = {
        {"error()", ERR_SCRIPT, "nil"},
        {"error(nil)", ERR_SCRIPT, "nil"},
        {"error(false)", ERR_SCRIPT, "boolean"},
        {"error(error)", ERR_SCRIPT, "function"},
        {"error(ctx)", ERR_SCRIPT, "table"},
        {"error(coroutine.create(print))", ERR_SCRIPT, "thread"},
        {"error(authkit.null)", ERR_SCRIPT, "userdata"},
        {"error(12)", ERR_SCRIPT, "12"},
        {"error('a\\0b')", ERR_SCRIPT, "a"},
        {"error(('%s%n%d'):rep(100))", ERR_SCRIPT, "%s%n%d"},
        {"error(('x'):rep(1e6))", ERR_SCRIPT, "xxx"},
        {"error('\\xFF\\xFE\\x00')", ERR_SCRIPT, NULL},
        {"error('x', 1e9)", ERR_SCRIPT, NULL},
        {"error('x', -1)", ERR_SCRIPT, NULL},
        {"local t = {} t.t = t error(t)", ERR_SCRIPT, "table"},
        {"error(setmetatable({}, { __tostring = function() error('again') end }))", ERR_SCRIPT,
         NULL},
        {"error(setmetatable({}, { __tostring = function() return nil end }))", ERR_SCRIPT, NULL},
        {"error(setmetatable({}, { __tostring = function(t) error(t) end }))", ERR_SCRIPT, NULL},
        {"error(setmetatable({}, { __tostring = function() while true do end end }))", ERR_LIMIT,
         NULL},
        {"error(setmetatable({}, { __tostring = function() return ('x'):rep(1e9) end }))", ANY,
         NULL},
        {"error(setmetatable({}, { __name = ('n'):rep(1e5) }))", ERR_SCRIPT, NULL},
        {"error(setmetatable({}, { __name = {}, __tostring = 5 }))", ERR_SCRIPT, NULL},
        {"tostring(setmetatable({}, { __tostring = function() return {} end }))", ERR_SCRIPT,
         "must return a string"},
        {"print(setmetatable({}, { __tostring = function() error('in print') end }))", ERR_SCRIPT,
         "in print"},
        {"xpcall(error, function(e) error(e) end, 'x')", 0, NULL},
        {"xpcall(error, xpcall, 'x')", ANY, NULL},
        {"assert(not xpcall())", 0, NULL},
        {"assert(nil, setmetatable({}, { __tostring = function() return 'from assert' end }))",
         ERR_SCRIPT, "from assert"},
        {"assert(false)", ERR_SCRIPT, "assertion failed"},
        {"assert()", ERR_SCRIPT, NULL},
        {"local function f() error(setmetatable({}, { __tostring = function() return f() end })) "
         "end\n"
         "f()",
         ERR_SCRIPT, NULL},
    };

    (void)state;
    TRY(deeds);
}

static void hostile__depth(void **state)
{
    static const struct deed deeds[] = {
        {"local function f() return 1 + f() end f()", ANY, NULL},
        {"local function f() f() f() end f()", ANY, NULL},
        {"local function f() pcall(f) end f()", ANY, NULL},
        {"local function f() return pcall(f) end f()", ANY, NULL},
        {"local function f() xpcall(f, f) end f()", ANY, NULL},
        {"local function f() return ('x'):gsub('x', f) end f()", ERR_SCRIPT, "overflow"},
        {"local function f() table.sort({ 1, 2, 3 }, f) end f()", ERR_SCRIPT, "overflow"},
        {"local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end\n"
         "return t.x",
         ERR_SCRIPT, "overflow"},
        {"local t = setmetatable({}, { __tostring = function(t) return tostring(t) end }) "
         "tostring(t)",
         ERR_SCRIPT, "overflow"},
        {"local t = setmetatable({}, { __eq = function(a, b) return a == b end })\n"
         "return t == setmetatable({}, getmetatable(t))",
         ERR_SCRIPT, "overflow"},
        {"local t = setmetatable({}, { __concat = function(a, b) return a .. b end }) return t .. "
         "1",
         ERR_SCRIPT, "overflow"},
        {"local t = {} for i = 1, 1e5 do t = { t } end authkit.json.encode(t)", ERR_SCRIPT, NULL},
        {"authkit.json.decode(('['):rep(1e5))", ANY, NULL},
        {"local t = {} t[1] = t authkit.json.encode(t)", ERR_SCRIPT, NULL},
        {"local t = {} t.t = t ctx.db.insert('notes', { j = t })", ERR_SCRIPT, NULL},
        {"local t for i = 1, 1e5 do t = setmetatable({}, { __index = t }) end return t.x", ANY,
         NULL},
        {"local f = print for i = 1, 1e5 do f = setmetatable({}, { __call = f }) end f()", ANY,
         NULL},
        {"return select(-1, table.unpack({}, 1, 1e6))", ERR_SCRIPT, "too many"},
        {"local function f(...) return f(1, ...) end f()", ANY, NULL},
        {"table.sort({ 1, 2, 3, 4, 5 }, function() return true end)", ANY, NULL},
        {"table.sort({ 1, 'x', {}, 2 })", ERR_SCRIPT, "compare"},
        {"table.sort({ 3, 2, 1 }, function() error('in sort', 0) end)", ERR_SCRIPT, "in sort"},
        {"local t = {} for i = 1, 1000 do t[i] = i % 7 end\n"
         "table.sort(t, function(a, b) for i = #t, 2, -1 do t[i] = nil end return a < b end)",
         ANY, NULL},
    };

    (void)state;
    TRY(deeds);
}

static void hostile__size(void **state)
{
    static const struct deed deeds[] = {
        {"return ('x'):rep(math.maxinteger)", ERR_SCRIPT, "too large"},
        {"return ('xx'):rep(math.maxinteger // 2 + 1)", ERR_SCRIPT, "too large"},
        {"return ('x'):rep(1 << 62, 'y')", ERR_SCRIPT, "too large"},
        {"return ('x'):rep(-1) .. ('x'):rep(math.mininteger)", 0, NULL},
        {"return ('x'):rep(1e9)", ANY, "memory"},
        {"pcall(string.rep, 'x', 1e9)", 0, NULL},
        {"for i = 1, 100 do pcall(string.rep, 'x', 1e9) end", ANY, NULL},
        {"local t = {} while pcall(function() t[#t + 1] = ('x'):rep(1e6) .. #t end) do end", ANY,
         NULL},
        {"local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e5) .. #t end) end",
         ERR_LIMIT, NULL},
        {"return string.format('%99999d', 1)", ERR_SCRIPT, "invalid conversion"},
        {"return string.format('%.999f', 1)", ERR_SCRIPT, "invalid conversion"},
        {"return string.format('%', 1)", ERR_SCRIPT, "invalid conversion"},
        {"return string.format('%n', 1)", ERR_SCRIPT, "invalid conversion"},
        {"return string.format('%s')", ERR_SCRIPT, "no value"},
        {"assert(#string.format('%99.99f', 1e308) > 300)", 0, NULL},
        {"return string.format('%q', setmetatable({}, {}))", ERR_SCRIPT, "no literal form"},
        {"return string.format('%d', 1.5)", ERR_SCRIPT, "integer"},
        {"return string.format(('%s'):rep(300), table.unpack({}, 1, 300))", 0, NULL},
        {"return string.format('%5s', 'a\\0b')", ERR_SCRIPT, "zeros"},
        {"return table.concat({}, 'x', 1, 1e9)", ERR_SCRIPT, "invalid value"},
        {"return table.concat({}, 'x', math.mininteger, math.maxinteger)", ERR_SCRIPT, NULL},
        {"return table.concat({ 'a' }, 'x', math.maxinteger, math.maxinteger)", ERR_SCRIPT, NULL},
        {"return table.unpack({}, 1, 1e9)", ERR_SCRIPT, "too many"},
        {"return table.unpack({}, math.mininteger, math.maxinteger)", ERR_SCRIPT, "too many"},
        {"return table.unpack({}, math.maxinteger, math.maxinteger)", 0, NULL},
        {"table.move({}, 1, math.maxinteger, 2)", ERR_SCRIPT, NULL},
        {"table.move({}, 1, 1e15, 2)", ERR_SCRIPT, "more than 16777216"},
        {"table.move({}, -1e15, 1e15, 1)", ERR_SCRIPT, "more than 16777216"},
        {"local t = table.move({ 1, 2, 3 }, 2, 3, 1) assert(t[1] == 2 and t[3] == 3)", 0, NULL},
        {"assert(('').rep('', 1e15) == '' and (''):rep(3, ',') == ',,')", 0, NULL},
        {"return (''):rep(1e15, 'x')", ANY, NULL},
        {"table.insert(setmetatable({}, { __len = function() return 1e15 end }), 1, 1)", ERR_SCRIPT,
         "length"},
        {"table.move({}, math.mininteger, -1, 1)", ERR_SCRIPT, "more than"},
        {"table.insert({}, 1e15, 1)", ERR_SCRIPT, "out of bounds"},
        {"table.insert(setmetatable({}, { __len = function() return math.maxinteger end }), 1)",
         ANY, NULL},
        {"table.remove(setmetatable({}, { __len = function() return math.maxinteger end }), 1 << "
         "40)",
         ANY, NULL},
        {"return #string.pack('s8', ('x'):rep(1e6)) + #string.pack('!16 i16', 1)", 0, NULL},
        {"return string.pack('i17', 1)", ERR_SCRIPT, "out of limits"},
        {"return string.unpack('s8', '\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\x7F')", ERR_SCRIPT,
         "too short"},
        {"return string.unpack('z', 'no zero')", ERR_SCRIPT, NULL},
        {"return string.unpack('i4', 'abcd', math.maxinteger)", ERR_SCRIPT, NULL},
        {"return string.packsize('c2147483647c2147483647')", ERR_SCRIPT, NULL},
        {"return utf8.char(0x7FFFFFFF, -1)", ERR_SCRIPT, "out of range"},
        {"return utf8.codepoint('\\xFF')", ERR_SCRIPT, "invalid UTF-8"},
        {"return utf8.codepoint('abc', 1, 1e9)", ERR_SCRIPT, "out of bounds"},
        {"for _ in utf8.codes('a\\xC3') do end", ERR_SCRIPT, "invalid UTF-8"},
        {"assert(utf8.len('\\xFF') == nil and utf8.offset('abc', 9) == nil)", 0, NULL},
        {"return utf8.offset('\\x80', 1, 1)", ERR_SCRIPT, "continuation"},
        {"return utf8.len('abc', math.mininteger)", ERR_SCRIPT, "out of bounds"},
        {"return string.char(256)", ERR_SCRIPT, "out of range"},
        {"return string.byte(('x'):rep(3e6), 1, -1)", ERR_SCRIPT, "too long"},
        {"return ('x'):sub(math.mininteger, math.maxinteger)", 0, NULL},
        {"return math.random(0) + math.random(math.mininteger, math.maxinteger)", 0, NULL},
        {"return math.random(2, 1)", ERR_SCRIPT, "empty"},
        {"return 1 // 0", ERR_SCRIPT, "divide by zero"},
        {"return math.mininteger // -1 + math.mininteger % -1", 0, NULL},
        {"return 1 << 64, 1 >> -1, 1 << math.mininteger", 0, NULL},
        {"for i = math.maxinteger - 1, math.maxinteger do end", 0, NULL},
        {"for i = 1, 10, 0 do end", ERR_SCRIPT, "step"},
        {"local t = {} t[0 / 0] = 1", ERR_SCRIPT, "NaN"},
        {"return tonumber(('1'):rep(1e5)), tonumber('1e' .. ('9'):rep(1e3)), tonumber('z', 36)", 0,
         NULL},
        {"return tonumber('1', 99)", ERR_SCRIPT, "out of range"},
        {"return os.date('%')", ERR_SCRIPT, "invalid conversion"},
        {"return os.date('%Ez')", ERR_SCRIPT, "invalid conversion"},
        {"return os.date('%Q')", ERR_SCRIPT, "invalid conversion"},
        {"return os.date(('%c'):rep(1e4))", 0, NULL},
        {"return os.date('*t', math.maxinteger)", ERR_SCRIPT, NULL},
        {"return os.date('!%Y', math.mininteger)", ERR_SCRIPT, NULL},
        {"return os.date('%Y', -1), os.date('!*t').year", 0, NULL},
        {"return os.time { year = math.maxinteger, month = 1, day = 1 }", ERR_SCRIPT, NULL},
        {"return os.time { year = 2024, month = 'x', day = 1 }", ERR_SCRIPT, NULL},
        {"return os.time { year = 2024, month = 1e9, day = -1e9 }", ANY, NULL},
        {"assert(collectgarbage('count') > 0 and collectgarbage() == 0)", 0, NULL},
        {"collectgarbage('stop')", ERR_SCRIPT, "isn't available"},
        {"collectgarbage('generational')", ERR_SCRIPT, "isn't available"},
        {"collectgarbage('setpause', 1)", ERR_SCRIPT, "isn't available"},
        {"collectgarbage({})", ERR_SCRIPT, "isn't available"},
        {"collectgarbage(setmetatable({}, { __tostring = function() error('odd') end }))",
         ERR_SCRIPT, "odd"},
    };

    (void)state;
    TRY(deeds);
}

/* What one call got, used in the next. */
static void hostile__what_is_kept(void **state)
{
    static const struct deed deeds[] = {
        {"kept.ctx = kept.ctx or ctx kept.ctx.db.insert('notes', {}) error('undo')", ERR_SCRIPT,
         "undo"},
        {"kept.q = kept.q or ctx.db.query('notes'):where('name', 'x') kept.q:all() kept.q:limit(1)",
         0, NULL},
        {"ctx.db.insert('notes', { name = 'a' }) ctx.db.insert('notes', { name = 'b' })\n"
         "if kept.next then pcall(kept.next) pcall(kept.next, kept.s, kept.c) end\n"
         "kept.next, kept.s, kept.c = ctx.db.query('notes'):each() kept.next(kept.s, kept.c)\n"
         "error('undo')",
         ERR_SCRIPT, "undo"},
        {"kept.insert = kept.insert or ctx.db.insert kept.insert('notes', {}) error('undo')",
         ERR_SCRIPT, "undo"},
        {"kept.event = kept.event or event assert(kept.event.data) kept.event.data = 5", 0, NULL},
        {"kept.event = kept.event or event kept.event.data = nil", ANY, NULL},
        {"for row in ctx.db.query('notes'):each() do error('within') end\n"
         "ctx.db.insert('notes', {}) for row in ctx.db.query('notes'):each() do error('within') "
         "end",
         ERR_SCRIPT, "within"},
        {"ctx.db.insert('notes', {}) local each, s, c = ctx.db.query('notes'):each()\n"
         "each(s, c) ctx.db.delete('notes', 1) each(s, c) each(s, c) error('undo')",
         ANY, NULL},
        {"ctx.db.insert('notes', {}) pcall(function()\n"
         "  for row in ctx.db.query('notes'):each() do error('x') end end)\n"
         "ctx.db.sql('DELETE FROM notes') error('undo')",
         ERR_SCRIPT, "undo"},
        {"for i = 1, 3000 do ctx.db.sql('SELECT ' .. i) end", ANY, NULL},
        {"for i = 1, 3000 do pcall(ctx.db.sql, 'SELECT nothing' .. i) end", ANY, NULL},
        {"ctx.db.sql('SELECT ' .. ('1,'):rep(3000) .. '1')", ERR_SCRIPT, NULL},
        {"ctx.db.sql('SELECT ' .. ('('):rep(3000) .. '1' .. (')'):rep(3000))", ERR_SCRIPT, NULL},
        {"ctx.db.sql(('x'):rep(1e6))", ERR_SCRIPT, NULL},
        {"ctx.db.sql('SELECT 1\\0garbage')", ANY, NULL},
        {"ctx.db.sql('SELECT 1; DROP TABLE notes')", ERR_SCRIPT, "one statement"},
        {"ctx.db.sql('ROLLBACK')", ERR_SCRIPT, NULL},
        {"ctx.db.sql('PRAGMA user_version = 5')", ERR_SCRIPT, "PRAGMA"},
        {"ctx.db.sql('ATTACH ? AS other', 'x.db')", ERR_SCRIPT, NULL},
        {"ctx.db.sql(\"SELECT load_extension('x')\")", ERR_SCRIPT, NULL},
        {"ctx.db.sql('SELECT ?', table.unpack({}, 1, 1000))", ERR_SCRIPT, NULL},
        {"ctx.db.sql('WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)\\n"
         "  SELECT max(n) FROM r')",
         ERR_LIMIT, "ran longer"},
        {"while true do pcall(ctx.db.sql, 'WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL\\n"
         "  SELECT n + 1 FROM r) SELECT max(n) FROM r') end",
         ERR_LIMIT, "ran longer"},
        {"ctx.db.sql(\"SELECT printf('%.1000000000f', 1)\")", ANY, NULL},
        {"ctx.db.sql('SELECT replace(hex(zeroblob(3000000)), ?, ?)', '0', ('x'):rep(1000))", ANY,
         NULL},
        {"ctx.db.sql(\"SELECT x LIKE y FROM (SELECT hex(zeroblob(20000)) AS x,\\n"
         "  '%0%0%0%0%0%0%0%0%0%1' AS y)\")",
         ANY, NULL},
        {"ctx.db.insert('notes', setmetatable({}, { __index = { name = 'x' },\n"
         "  __pairs = function() return function() end end })) error('undo')",
         ERR_SCRIPT, NULL},
        {"ctx.db.insert('notes', { [1] = 2 })", ERR_SCRIPT, NULL},
        {"ctx.db.insert('notes', { [{}] = 2 })", ERR_SCRIPT, NULL},
        {"ctx.db.insert('notes', { name = {} })", ERR_SCRIPT, NULL},
        {"ctx.db.insert('notes', { name = '\\xFF\\0' })", ERR_SCRIPT, NULL},
        {"ctx.db.insert('notes', { j = function() end })", ERR_SCRIPT, NULL},
        {"ctx.db.insert('notes', { r = 0 / 0 })", ERR_SCRIPT, "finite"},
        {"ctx.db.get('notes', {})", ERR_SCRIPT, NULL},
        {"ctx.db.get('notes', 1e300)", ANY, NULL},
        {"ctx.db.get()", ERR_SCRIPT, NULL},
        {"ctx.db.query('notes').all()", ERR_SCRIPT, "colon"},
        {"ctx.db.query('notes').all({})", ERR_SCRIPT, "colon"},
        {"ctx.db.query('notes'):limit(math.maxinteger):all()", 0, NULL},
        {"ctx.db.query('notes'):where('name', 'in', { table.unpack({}, 1, 200) }):all()", 0, NULL},
        {"local t = {} for i = 1, 40000 do t[i] = 'x' end\n"
         "ctx.db.query('notes'):where('name', 'in', t):all()",
         ANY, NULL},
        {"local q = ctx.db.query('notes') for i = 1, 5000 do q:where('name', 'x') end q:all()", ANY,
         NULL},
        {"local q = ctx.db.query('notes') for i = 1, 5000 do q:order_by('name') end q:all()", ANY,
         NULL},
        {"ctx.db.query('notes'):after('[[[[[[')", ERR_SCRIPT, "cursor"},
        {"ctx.db.query('notes'):after('{\"a\":1}'):all()", ANY, NULL},
        {"ctx.users.get({})", ERR_SCRIPT, NULL},
        {"ctx.log.info(nil, 5)", ANY, NULL},
        {"ctx.log.error(('x'):rep(1e6), { [('k'):rep(1e5)] = ('v'):rep(1e6) })", ANY, NULL},
        {"print(table.unpack({}, 1, 1000))", 0, NULL},
        {"authkit.events { x = print }", ERR_SCRIPT, "top of the script"},
        {"authkit.schema { x = { columns = {} } }", ERR_SCRIPT, "top of the script"},
    };

    (void)state;
    TRY(deeds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TEMP_DIR(hostile__metatables_and_libraries),
        IN_TEMP_DIR(hostile__globals),
        IN_TEMP_DIR(hostile__load_and_require),
        IN_TEMP_DIR(hostile__misuse_is_placed_where_the_script_did_it),
        IN_TEMP_DIR(hostile__coroutines),
        IN_TEMP_DIR(hostile__errors),
        IN_TEMP_DIR(hostile__depth),
        IN_TEMP_DIR(hostile__size),
        IN_TEMP_DIR(hostile__what_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
