/* SPDX-License-Identifier: MIT */
#include "script/script_state.h"

#include "base/clock.h"
#include "embedded_lua.h"
#include "store/memory.h"

#include <lualib.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A state is some 300 KiB: collecting when it has grown fourfold, not twofold, costs little memory,
 * and near the limit Lua collects anyway. */
enum { GC_PAUSE_PERCENT = 400 };

enum {
    MIGRATE_TIMEOUT_MS = 600000,
    DENY_MESSAGE_MAX = 65536,
    NAMES_MAX = 65536,
    ERROR_SHOWN_MAX = 1000
};

enum { LOST_NAMES_MAX = 20 }; /* how many are said at once */

/* Our own chunks are named "=authkitd:…": an error's place is looked for above them. */
#define OWN_CHUNK "=authkitd:"

/* ------------------------------------------------------------------------- raising */

bool find_line(lua_State *L, int level, lua_Debug *out)
{
    for (; lua_getstack(L, level, out); level++) {
        bool is_own;

        lua_getinfo(L, "Slt", out);
        is_own = strncmp(out->source, OWN_CHUNK, strlen(OWN_CHUNK)) == 0;
        if (out->currentline > 0 && !is_own)
            return true;
        if (is_own && out->istailcall)
            return false; /* it was the script's own line that went with `return f()` */
    }
    return false;
}

/* "handlers.lua:12: ", where the function on top begins; "" when it is none of a script's. [-1, +1, m] */
static void push_definition(lua_State *L)
{
    lua_Debug ar;

    lua_getinfo(L, ">S", &ar);
    if (ar.linedefined > 0)
        lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.linedefined);
    else
        lua_pushliteral(L, "");
}

/* No line of the script runs: of a route's function then the place where it begins, as far as one is
 * called. [-0, +1, v] */
static void push_route_place(lua_State *L)
{
    const struct route_run *run = script_of(L)->run;

    if (!run) {
        lua_pushliteral(L, "");
        return;
    }
    push_function(L, "routes", run->route->name);
    push_definition(L);
}

int script_raise(lua_State *L, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    lua_Debug line;
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (find_line(L, 0, &line))
        lua_pushfstring(L, "%s:%d: ", line.short_src, line.currentline);
    else
        push_route_place(L);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    lua_error(L);
    abort(); /* lua_error doesn't return */
}

struct db *check_db(lua_State *L)
{
    struct db *db = script_of(L)->db;

    if (!db)
        script_raise(L, "ctx.db and ctx.users work only while a function of the script runs");
    return db;
}

void check_may_write(lua_State *L)
{
    const struct script *script = script_of(L);

    if (script->read_only)
        script_raise(
            L, "a %s route can't write: nothing of it is kept; use POST, PUT, PATCH or DELETE",
            route_method_names[script->run->route->method]);
}

const char *push_visible(lua_State *L, int index, size_t max_bytes)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len), *end;
    luaL_Buffer out;

    if (len > max_bytes)
        for (len = max_bytes; len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80;)
            len--; /* no half of a character */
    end = text + len;
    luaL_buffinit(L, &out);
    while (text < end) {
        size_t part = strnlen(text, (size_t)(end - text));

        luaL_addlstring(&out, text, part);
        text += part;
        if (text < end) {
            luaL_addstring(&out, "\\0");
            text++;
        }
    }
    luaL_pushresult(&out);
    return lua_tostring(L, -1);
}

/* native.raise(text) */
static int l_raise(lua_State *L)
{
    luaL_checkstring(L, 1);
    script_raise(L, "%s", push_visible(L, 1, ERR_TEXT_MAX));
}

/* native.defined_at(function) -> "handlers.lua:12: " | "", when it is none of a script's */
static int l_defined_at(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    push_definition(L);
    return 1;
}

/* native.kind(value) -> "nil", "a number" */
static int l_kind(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushstring(L, kind_of(L, 1));
    return 1;
}

/* native.place() -> file, line of the script that runs, and that line's text, or nothing */
static int l_place(lua_State *L)
{
    struct source_text text;
    const char *at;
    lua_Debug line;
    size_t len;

    if (!find_line(L, 0, &line) || line.source[0] != '@' ||
        !source_find(script_of(L)->origin->source, line.source + 1, &text))
        return 0;
    at = source_line(&text, line.currentline, &len);
    lua_pushstring(L, text.file);
    lua_pushinteger(L, line.currentline);
    lua_pushlstring(L, at, len);
    return 3;
}

static int finish_framed(lua_State *L, int status, lua_KContext argument_count)
{
    (void)status;
    return lua_gettop(L) - (int)argument_count;
}

/* A function of our Lua as scripts get it, upvalue 1: the function. `return f()` replaces the frame of who calls a
 * function of Lua, and an error in that would find the script's line no more; a function of C is called
 * beside it. The arguments stay below those of the call, where check_dot looks for them. */
static int l_framed(lua_State *L)
{
    int count = lua_gettop(L);

    if (count >= LUA_MINSTACK) /* so many places there are in any case */
        luaL_checkstack(L, count + 1, "too many arguments");
    lua_pushvalue(L, lua_upvalueindex(1));
    for (int i = 1; i <= count; i++)
        lua_pushvalue(L, i);
    lua_callk(L, count, LUA_MULTRET, count, finish_framed);
    return finish_framed(L, LUA_OK, count);
}

/* native.framed(function) -> one that keeps the frame of who calls it */
static int l_framed_of(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    if (!lua_iscfunction(L, 1))
        lua_pushcclosure(L, l_framed, 1);
    return 1;
}

/* native.check_budget(): raises when time or memory is used up */
static int l_check_budget(lua_State *L)
{
    budget_check(L);
    return 0;
}

/* native.now() -> ms since 1970 */
static int l_now(lua_State *L)
{
    lua_pushinteger(L, clock_wall_ms());
    return 1;
}

/* native.module(name) -> text, file | nil, what is wrong */
static int l_module(lua_State *L)
{
    struct source_text module;
    struct err err;
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);

    if (strlen(name) != len)
        script_raise(L, "'%s…' can't be a module: a file's name has no byte 0", name);
    if (source_module(script_of(L)->origin->source, name, &module, &err) < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
        return 2;
    }
    lua_pushlstring(L, module.text, module.len);
    lua_pushstring(L, module.file);
    return 2;
}

/* ------------------------------------------------------------------------- making a state */

static void open_libraries(lua_State *L)
{
    static const struct {
        const char *name, *field;
        lua_CFunction open;
    } libraries[] = {
        {LUA_GNAME, "base", luaopen_base},        {LUA_STRLIBNAME, "string", luaopen_string},
        {LUA_TABLIBNAME, "table", luaopen_table}, {LUA_MATHLIBNAME, "math", luaopen_math},
        {LUA_UTF8LIBNAME, "utf8", luaopen_utf8},  {LUA_COLIBNAME, "coroutine", luaopen_coroutine},
        {LUA_OSLIBNAME, "os", luaopen_os},
    };

    lua_createtable(L, 0, (int)ARRAY_LEN(libraries));
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].open, 1);
        lua_setfield(L, -2, libraries[i].field);
    }
    lua_getfield(L, -1, "string");
    bind_pattern_open(L);
    lua_pop(L, 1);
    bind_bounds_open(L);
    bind_coroutine_open(L);
    lazy_open_library(L);
}

static void push_native(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"raise", l_raise},      {"defined_at", l_defined_at},
        {"now", l_now},          {"module", l_module},
        {"print", l_print},      {"check_budget", l_check_budget},
        {"framed", l_framed_of}, {"place", l_place},
        {"kind", l_kind},        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    values_open(L);
    lazy_open(L);
    dot_open(L);
    bind_db_open(L);
    refusal_open(L);
    bind_request_open(L);
    bind_route_open(L);
    bind_auth_open(L);
    push_log(L);
    lua_setfield(L, -2, "log");
}

/* The tables that may be read: name -> list of { name =, type =, nullable = }. */
static void push_mirror_tables(lua_State *L, const struct script_opts *opts)
{
    static const char *const types[] = {"text", "integer", "real", "boolean", "json"};

    lua_newtable(L);
    for (size_t i = 0; i < opts->table_count; i++) {
        lua_newtable(L);
        for (size_t j = 0; j < opts->tables[i].column_count; j++) {
            lua_createtable(L, 0, 3);
            lua_pushstring(L, opts->tables[i].columns[j].name);
            lua_setfield(L, -2, "name");
            lua_pushstring(L, types[opts->tables[i].columns[j].type]);
            lua_setfield(L, -2, "type");
            lua_pushboolean(L, 1);
            lua_setfield(L, -2, "nullable");
            lua_rawseti(L, -2, (lua_Integer)j + 1);
        }
        lua_setfield(L, -2, opts->tables[i].name);
    }
}

/* Push one of the Lua files that are in the binary, as a function. [-0, +1, v] */
static void push_embedded(lua_State *L, const char *file)
{
    char chunk_name[64];

    snprintf(chunk_name, sizeof(chunk_name), OWN_CHUNK "%s", file);
    for (size_t i = 0; i < embedded_lua_count; i++) {
        const struct embedded_lua *embedded = &embedded_lua_files[i];
        const char *slash = strrchr(embedded->name, '/');

        if (strcmp(slash ? slash + 1 : embedded->name, file) != 0)
            continue;
        if (luaL_loadbufferx(L, embedded->text, embedded->len, chunk_name, "t") != LUA_OK)
            lua_error(L);
        return;
    }
    luaL_error(L, "%s isn't in the binary", file);
}

/* Move field of the table at index into the registry. */
static void keep(lua_State *L, int index, const char *field, const char *name)
{
    lua_getfield(L, index, field);
    lua_setfield(L, LUA_REGISTRYINDEX, name);
}

/* Leaves the script's globals on the stack. [-0, +1, v] */
static void open_sandbox(lua_State *L, const struct script_opts *opts)
{
    enum { NATIVE = 1, SANDBOX, DB, AUTHKIT };

    push_native(L);
    push_embedded(L, "sandbox.lua");
    open_libraries(L);
    lua_pushvalue(L, NATIVE);
    lua_call(L, 2, 1);

    push_embedded(L, "db.lua");
    lua_pushvalue(L, NATIVE);
    lua_getfield(L, SANDBOX, "read_only");
    push_mirror_tables(L, opts);
    lua_call(L, 3, 1);

    push_embedded(L, "authkit.lua");
    lua_pushvalue(L, NATIVE);
    lua_getfield(L, SANDBOX, "read_only");
    lua_pushvalue(L, DB);
    lua_call(L, 3, 1);

    push_embedded(L, "undefined.lua");
    lua_pushvalue(L, NATIVE);
    lua_getfield(L, SANDBOX, "globals");
    lua_call(L, 2, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_UNDEFINED);

    push_embedded(L, "schema.lua");
    lua_pushvalue(L, NATIVE);
    lua_pushvalue(L, DB);
    lua_call(L, 2, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_SCHEMA);

    keep(L, AUTHKIT, "registered", REGISTRY_REGISTERED);
    keep(L, AUTHKIT, "decide", REGISTRY_DECIDE);
    keep(L, AUTHKIT, "ctx", REGISTRY_CTX);
    keep(L, AUTHKIT, "finish", REGISTRY_FINISH);

    lua_getfield(L, SANDBOX, "loaded"); /* what require "authkit" finds */
    lua_getfield(L, AUTHKIT, "authkit");
    lua_setfield(L, -2, "authkit");

    lua_getfield(L, SANDBOX, "globals");
}

/* Everything that makes a state, as one protected function. */
static int l_open_state(lua_State *L)
{
    struct script *script = script_of(L);
    struct source_text text = source_main(script->origin->source);
    char chunk_name[300];

    luaL_checkversion(L);
    lua_settop(L, 0);
    open_sandbox(L, &script->opts);
    snprintf(chunk_name, sizeof(chunk_name), "@%s", text.file);
    if (luaL_loadbufferx(L, text.text, text.len, chunk_name, "t") != LUA_OK)
        lua_error(L);
    lua_rotate(L, -2, 1); /* the globals above the chunk: its only upvalue, _ENV */
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_FINISH);
    lua_call(L, 0, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_UNDEFINED);
    lua_call(L, 0, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_UNDEFINED);
    return 0;
}

/* ------------------------------------------------------------------------- calling */

/* Push what an error that is no text is, with the place where it was raised. [-0, +1, v] */
static void push_odd_error(lua_State *L)
{
    int kind = lua_type(L, 1);
    lua_Debug line;

    if (find_line(L, 1, &line))
        lua_pushfstring(L, "%s:%d: the error is a ", line.short_src, line.currentline);
    else
        lua_pushliteral(L, "the error is a ");
    if (kind == LUA_TTABLE) {
        lua_pushliteral(L, "table: ");
        push_shown(L, 1, ERROR_SHOWN_MAX, NULL);
        lua_concat(L, 3);
    } else {
        lua_pushfstring(L, "%s, not a text", lua_typename(L, kind));
        lua_concat(L, 2);
    }
}

/* What other Luas have and a script may look for. */
static const struct {
    const char *library, *name; /* NULL: a global */
} absent[] = {
    {NULL, "io"},       {NULL, "debug"},    {NULL, "package"}, {NULL, "dofile"},
    {NULL, "loadfile"}, {NULL, "warn"},     {"os", "execute"}, {"os", "exit"},
    {"os", "getenv"},   {"os", "remove"},   {"os", "rename"},  {"os", "setlocale"},
    {"os", "tmpname"},  {"string", "dump"},
};

/* Is the name in the line that runs? A field of that name may be anybody's. */
static bool stands_in_line(lua_State *L, const char *name)
{
    struct source_text text;
    lua_Debug line;
    const char *at;
    size_t len;

    if (!find_line(L, 1, &line) || line.source[0] != '@' ||
        !source_find(script_of(L)->origin->source, line.source + 1, &text))
        return false;
    at = source_line(&text, line.currentline, &len);
    return memmem(at, len, name, strlen(name)) != NULL;
}

/* Behind the text on top, when it is Lua's error of a nil that is so on purpose, a word on that. [-1, +1, m] */
static void add_absent(lua_State *L)
{
    const char *text = lua_tostring(L, -1), *end = strstr(text, "nil value (");
    char wanted[64], name[32];

    for (size_t i = 0; end && i < ARRAY_LEN(absent); i++) {
        const char *library = absent[i].library;

        snprintf(wanted, sizeof(wanted), "nil value (%s '%s')", library ? "field" : "global",
                 absent[i].name);
        snprintf(name, sizeof(name), "%s%s%s", library ? library : "", library ? "." : "",
                 absent[i].name);
        if (strcmp(end, wanted) != 0 || (library && !stands_in_line(L, name)))
            continue;
        lua_pushfstring(L,
                        "%s: authkitd's Lua has no %s (see \"What there is of Lua\" in the README)",
                        text, name);
        lua_remove(L, -2);
        return;
    }
}

/* Message handler: the error as a text, with the traceback when it is wanted. */
static void push_error_text(lua_State *L)
{
    luaL_checkstack(L, LUA_MINSTACK, NULL);
    if (!lua_isstring(L, 1) && luaL_getmetafield(L, 1, "__tostring") == LUA_TNIL)
        push_odd_error(L);
    else
        luaL_tolstring(L, 1, NULL);
    push_visible(L, lua_gettop(L),
                 ERR_TEXT_MAX); /* behind a zero byte all would be lost, the traceback, too */
    lua_remove(L, -2);
    add_absent(L);
}

/* Does the text begin with the file and line that it is about? */
static bool has_place(const char *text)
{
    const char *colon = text;

    while ((colon = strchr(colon, ':'))) {
        size_t digits = strspn(++colon, "0123456789");

        if (digits > 0 && colon[digits] == ':')
            return true;
    }
    return false;
}

/* Message handler of what has no traceback. */
static int l_plain_error(lua_State *L)
{
    lua_Debug line;

    push_error_text(L);
    if (!has_place(lua_tostring(L, -1)) && find_line(L, 1, &line)) {
        lua_pushfstring(L, "%s:%d: %s", line.short_src, line.currentline, lua_tostring(L, -1));
        lua_remove(L, -2);
    }
    return 1;
}

/* A line of a traceback that tells of us, not of the script. */
static bool is_own_frame(const char *line, size_t len)
{
    static const char own[] = "\tauthkitd:";
    static const char *const native[] = {"\t[C]: in ?", "\t[C]: in metamethod 'newindex'"};

    if (len >= sizeof(own) - 1 && memcmp(line, own, sizeof(own) - 1) == 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(native); i++)
        if (strlen(native[i]) == len && memcmp(line, native[i], len) == 0)
            return true;
    return false;
}

int l_traced_error(lua_State *L)
{
    luaL_Buffer kept;
    const char *line;
    int frames = -1; /* the first line is a heading */

    push_error_text(L);
    luaL_traceback(L, L, NULL, 1);
    line = lua_tostring(L, -1);
    luaL_buffinit(L, &kept);
    while (*line) {
        size_t len = strcspn(line, "\n");

        if (!is_own_frame(line, len)) {
            luaL_addchar(&kept, '\n');
            luaL_addlstring(&kept, line, len);
            frames++;
        }
        line += len + (line[len] == '\n');
    }
    luaL_pushresult(&kept);
    lua_remove(L, -2); /* the traceback as it was */
    if (frames > 0)
        lua_concat(L, 2);
    else
        lua_pop(L, 1); /* what a function returned is wrong: it isn't running any more */
    return 1;
}

static void close_state(struct script *script)
{
    if (!script->L)
        return;
    lua_close(script->L);
    script->L = NULL;
    script->active = NULL;
    script->statement_count = 0;
    budget_forget(&script->budget);
    malloc_trim(0); /* a state that ran into its limit leaves many megabytes behind */
}

/* A buffer of Lua's that can't grow is an error like others, without a word on the limit: the state is
 * sound, and the script could have caught it. */
static bool is_one_too_large(const struct script *script, const char *text)
{
    static const char lua_says[] = "not enough memory";

    return script->budget.has_refused && strncmp(text, lua_says, sizeof(lua_says) - 1) == 0;
}

/* Push where the function that was called is defined, or nothing. [-0, +(0|1), m] */
static int l_push_called(lua_State *L)
{
    const struct script *script = script_of(L);

    push_function(L, script->called_kind, script->called_name);
    lua_pushcfunction(L, l_defined_at);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    return 1;
}

/* The limit as an error, for which Lua had no memory to say where it was: as near as can be told. */
static int unplaced_error(struct script *script, const char *limit, struct err *err)
{
    lua_State *L = script->L;

    if (script->budget.place[0] || !script->called_name)
        return err_set(err, ERR_LIMIT, "%s%s", script->budget.place, limit);
    lua_settop(L, 0);
    lua_pushcfunction(L, l_push_called);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK || lua_rawlen(L, -1) == 0)
        return err_set(err, ERR_LIMIT, "%s", limit);
    return err_set(err, ERR_LIMIT, "%s%s, somewhere in the function that begins there",
                   lua_tostring(L, -1), limit);
}

/* What a failed call left on the stack, as an error. */
static int call_error(struct script *script, int status, struct err *err)
{
    const char *text = status == LUA_OK ? "" : lua_tostring(script->L, -1);
    char limit[64];

    if (!text)
        text = "an error without a text";
    if (!budget_is_used_up(&script->budget)) {
        script->refused = script->raised && lua_touserdata(script->L, -1) == script->raised;
        if (script->refused)
            return err_set(err, ERR_SCRIPT, "%d %s: %s", script->refusal.status,
                           script->refusal.code, script->refusal.message);
        if (!is_one_too_large(script, text))
            return err_set(err, ERR_SCRIPT, "%s", text);
        budget_describe(&script->budget, limit, sizeof(limit));
        return err_set(err, ERR_SCRIPT, "%s%s: %s", script->budget.place, limit, text);
    }
    budget_describe(&script->budget, limit, sizeof(limit));
    if (status ==
        LUA_ERRMEM) /* "not enough memory": also where it was refused because the time was up */
        return unplaced_error(script, limit, err);
    if (strstr(text, limit))
        return err_set(err, ERR_LIMIT, "%s", text);
    return err_set(err, ERR_LIMIT, "%s%s%s", limit, *text ? ": " : "", text);
}

/*
 * Run a C function of this file in the state, under the budget, with arg as its light userdata.
 * All that can raise happens in there.
 */
static int call_protected(struct script *script, lua_CFunction function, void *arg, int timeout_ms,
                          lua_CFunction on_error, struct err *err)
{
    lua_State *L = script->L;
    int status, rc = 0;

    script->raised = NULL;
    script->refused = false;
    script->called_kind = script->called_name = NULL;
    if (script->read_only)
        budget_start_beside_others(&script->budget, timeout_ms);
    else
        budget_start(&script->budget, timeout_ms); /* everybody waits, or nobody yet */
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, arg);
    status = lua_pcall(L, 1, 0, -3);
    budget_stop(&script->budget);
    if (script->active)
        stmt_reset(script->active);
    script->active = NULL;
    if (status != LUA_OK || budget_is_used_up(&script->budget))
        rc = call_error(script, status, err);
    lua_settop(L, 0);
    return rc;
}

static int open_state(struct script *script, struct err *err)
{
    int rc;

    budget_open(&script->budget, script->opts.memory_bytes);
    script->L = lua_newstate(budget_alloc, &script->budget);
    if (!script->L) {
        budget_forget(&script->budget);
        return err_set(err, ERR_NOMEM, "no memory for a Lua state");
    }
    *(struct script **)lua_getextraspace(script->L) = script;
    lua_gc(script->L, LUA_GCINC, GC_PAUSE_PERCENT, 0, 0);
    budget_watch(script->L);
    rc = call_protected(script, l_open_state, NULL, SCRIPT_LOAD_TIMEOUT_MS, l_plain_error, err);
    if (rc < 0)
        close_state(script);
    return rc;
}

/*
 * Some errors end the transaction that the call belongs to: a statement that wanted more memory
 * than it may have, an INSERT OR ROLLBACK. A function that caught one and returned has failed all
 * the same.
 */
static int check_transaction(struct db *db, int trouble_before, int rc, struct err *err)
{
    int trouble = db_trouble(db);

    if (rc == 0 && trouble && !trouble_before)
        rc = err_set(err, trouble == ERR_CONFLICT || trouble == ERR_INVALID ? ERR_SCRIPT : trouble,
                     "the function went on after an error that had ended its transaction: %s",
                     db_trouble_text(db));
    if (rc == ERR_SCRIPT && memory_was_refused()) {
        rc = ERR_LIMIT;
        if (err)
            err->code = rc;
    }
    return rc;
}

int script_call(struct script *script, struct db *db, size_t sql_bytes, lua_CFunction function,
                void *arg, int timeout_ms, lua_CFunction on_error, struct err *err)
{
    int trouble_before = db ? db_trouble(db) : 0;
    int rc = 0;

    if (!script->L) {
        rc = open_state(script, err);
        if (rc < 0)
            return err_prefix(err, "the script can't be loaded again: ");
    }
    script->db = db;
    if (db)
        db_set_interrupt(db, budget_interrupts, &script->budget);
    memory_limit(sql_bytes);
    rc = call_protected(script, function, arg, timeout_ms, on_error, err);
    if (db) {
        db_set_interrupt(db, NULL, NULL);
        rc = check_transaction(db, trouble_before, rc, err);
    }
    memory_limit(0);
    script->db = NULL;
    if (script->scratch.capacity > SCRATCH_KEPT_NODES)
        json_release(&script->scratch);
    if (budget_is_used_up(&script->budget))
        close_state(script);
    return rc;
}

/* ------------------------------------------------------------------------- what was declared */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void release_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
    free(names->joined);
    *names = (struct names){0};
}

/* The keys of registered[kind], sorted. What was copied when this raises is the script's already. */
static void copy_names(lua_State *L, const char *kind, const char *separator, struct names *names)
{
    struct buf joined = BUF_INIT(NAMES_MAX);
    lua_Integer count = 0;

    lua_getfield(L, 1, kind);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        count++;
    names->items = calloc((size_t)count + 1, sizeof(*names->items));
    if (!names->items)
        luaL_error(L, "no memory for the names of the script's functions");
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        names->items[names->count] = strdup(lua_tostring(L, -2));
        if (!names->items[names->count])
            luaL_error(L, "no memory for the names of the script's functions");
        names->count++;
    }
    lua_pop(L, 1);
    qsort(names->items, names->count, sizeof(*names->items), compare_names);
    for (size_t i = 0; i < names->count; i++)
        buf_printf(&joined, "%s%s", i ? separator : "", names->items[i]);
    names->joined = buf_take(&joined, NULL);
}

/* The routes of those names: each was read once before, when the script declared it. */
static void copy_routes(lua_State *L, const struct names *names, struct routes *routes)
{
    struct err err;

    routes->items = calloc(names->count + 1, sizeof(*routes->items));
    if (!routes->items)
        luaL_error(L, "no memory for the script's routes");
    for (size_t i = 0; i < names->count; i++) {
        if (route_read(&routes->items[i], names->items[i], strlen(names->items[i]), &err) < 0)
            luaL_error(L, "%s", err.text);
        routes->count++;
    }
    routes_sort(routes);
}

static int l_copy_declarations(lua_State *L)
{
    struct origin *origin = script_of(L)->origin;

    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_REGISTERED);
    copy_names(L, "events", " ", &origin->events);
    copy_names(L, "actions", " ", &origin->actions);
    copy_names(L, "routes", ", ", &origin->route_names);
    copy_routes(L, &origin->route_names, &origin->routes);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_UNDEFINED);
    origin->warnings = strdup(luaL_checkstring(L, -1));
    if (!origin->warnings)
        luaL_error(L, "no memory for the script's warnings");
    return 0;
}

static bool has_name(const struct names *names, const char *name)
{
    return names->count > 0 &&
           bsearch(&name, names->items, names->count, sizeof(*names->items), compare_names) != NULL;
}

static const char *joined(const struct names *names)
{
    return names->joined ? names->joined : "";
}

static void let_go_of_origin(struct origin *origin)
{
    if (!origin || atomic_fetch_sub(&origin->twins, 1) > 1)
        return;
    source_free(origin->source);
    release_names(&origin->events);
    release_names(&origin->actions);
    release_names(&origin->route_names);
    routes_release(&origin->routes);
    free(origin->warnings);
    free(origin->path);
    free(origin);
}

static int new_origin(struct origin **out, const char *path, struct err *err)
{
    struct origin *origin = calloc(1, sizeof(*origin));
    int rc;

    if (!origin)
        return err_set(err, ERR_NOMEM, "no memory for a script");
    atomic_init(&origin->twins, 1);
    origin->path = strdup(path);
    rc = origin->path ? source_new(&origin->source, path, err)
                      : err_set(err, ERR_NOMEM, "no memory for a script");
    if (rc < 0)
        let_go_of_origin(origin);
    else
        *out = origin;
    return rc;
}

int script_load(struct script **out, const struct script_opts *opts, struct err *err)
{
    struct script *script = calloc(1, sizeof(*script));
    int rc;

    if (!script)
        return err_set(err, ERR_NOMEM, "no memory for a script");
    script->opts = *opts;
    if (script->opts.route_timeout_ms == 0)
        script->opts.route_timeout_ms = opts->event_timeout_ms;
    rc = new_origin(&script->origin, opts->path, err);
    if (rc == 0) {
        script->opts.path = script->origin->path;
        rc = open_state(script, err);
    }
    if (rc == 0)
        rc = call_protected(script, l_copy_declarations, NULL, SCRIPT_LOAD_TIMEOUT_MS,
                            l_plain_error, err);
    if (script->origin && (rc == ERR_SCRIPT || rc == ERR_LIMIT) && !has_place(err->text))
        rc = err_prefix(err, "%s: ", source_main(script->origin->source).file);
    if (rc < 0) {
        script_free(script);
        return rc;
    }
    *out = script;
    return 0;
}

int script_twin(struct script **out, const struct script *of, struct err *err)
{
    struct script *script = calloc(1, sizeof(*script));

    if (!script)
        return err_set(err, ERR_NOMEM, "no memory for a script");
    script->opts = of->opts;
    script->origin = of->origin;
    atomic_fetch_add(&script->origin->twins, 1);
    *out = script;
    return 0;
}

void script_free(struct script *script)
{
    if (!script)
        return;
    close_state(script);
    json_release(&script->scratch);
    let_go_of_origin(script->origin);
    free(script);
}

void script_detach(struct script *script)
{
    close_state(script); /* its statements are what ties it to the connection */
}

bool script_handles_event(const struct script *script, const char *type)
{
    return has_name(&script->origin->events, type);
}

bool script_handles_action(const struct script *script, const char *name)
{
    return has_name(&script->origin->actions, name);
}

bool script_has_routes(const struct script *script)
{
    return script->origin->routes.count > 0;
}

const char *script_event_names(const struct script *script)
{
    return joined(&script->origin->events);
}

const char *script_action_names(const struct script *script)
{
    return joined(&script->origin->actions);
}

const char *script_route_names(const struct script *script)
{
    return joined(&script->origin->route_names);
}

const char *script_warnings(const struct script *script)
{
    return script->origin->warnings ? script->origin->warnings : "";
}

/* Append the names that the script hasn't, as far as there is room for them: *count goes on, and is how many
 * there are. */
static void put_lost(const struct names *former, const struct names *names, size_t *count,
                     struct buf *out)
{
    for (size_t i = 0; i < former->count; i++) {
        if (has_name(names, former->items[i]))
            continue;
        if (*count < LOST_NAMES_MAX)
            buf_printf(out, "%s%s", *count > 0 ? ", " : "", former->items[i]);
        ++*count;
    }
}

size_t script_put_lost(const struct script *script, const struct script *former, struct buf *out)
{
    const struct origin *one = former->origin, *other = script->origin;
    size_t count = 0;

    put_lost(&one->events, &other->events, &count, out);
    put_lost(&one->actions, &other->actions, &count, out);
    put_lost(&one->route_names, &other->route_names, &count, out);
    if (count > LOST_NAMES_MAX)
        buf_printf(out, " and %zu more", count - LOST_NAMES_MAX);
    return count;
}

/* ------------------------------------------------------------------------- schema */

struct migration {
    bool apply;
    bool refused;
    struct buf *report;
    struct err *err; /* what is wrong, when it is refused */
};

static int l_migrate(lua_State *L)
{
    struct migration *migration = lua_touserdata(L, 1);

    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_SCHEMA);
    lua_pushboolean(L, migration->apply);
    lua_call(L, 1, 2);
    migration->refused = lua_isnil(L, -2);
    if (migration->refused)
        err_set(migration->err, ERR_INVALID, "%s", luaL_checkstring(L, -1));
    else
        buf_puts(migration->report, luaL_checkstring(L, -2));
    return 0;
}

static int bring_schema(struct script *script, struct db *db, bool apply, struct buf *report,
                        struct err *err)
{
    struct migration migration = {.apply = apply, .report = report, .err = err};
    int rc =
        script_call(script, db, 0, l_migrate, &migration, MIGRATE_TIMEOUT_MS, l_traced_error, err);

    return rc == 0 && migration.refused ? ERR_INVALID : rc;
}

int script_migrate(struct script *script, struct db *db, struct buf *report, struct err *err)
{
    return bring_schema(script, db, true, report, err);
}

int script_plan(struct script *script, struct db *db, struct buf *report, struct err *err)
{
    return bring_schema(script, db, false, report, err);
}

/* ------------------------------------------------------------------------- events and actions */

struct function_call {
    const char *name;
    const struct json *json;
    bool late;
    struct script_verdict *verdict;
};

void push_function(lua_State *L, const char *kind, const char *name)
{
    struct script *script = script_of(L);

    script->called_kind = kind;
    script->called_name = name;
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_REGISTERED);
    lua_getfield(L, -1, kind);
    if (lua_getfield(L, -1, name) != LUA_TFUNCTION)
        luaL_error(L, "the script has no function for %s", name);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* The event's table, with a member of ours. [-0, +1, e] */
static void push_event(lua_State *L, const struct json *json, bool late)
{
    push_document(L, json);
    if (json_member(json, 0, "late") != JSON_ABSENT)
        settle(L, -1);
    lua_pushliteral(L, "late");
    lua_pushboolean(L, late);
    lua_rawset(L, -3);
}

static int l_run_event(lua_State *L)
{
    const struct function_call *call = lua_touserdata(L, 1);

    push_function(L, "events", call->name);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_CTX);
    push_event(L, call->json, call->late);
    lua_call(L, 2, 0);
    return 0;
}

int script_run_event(struct script *script, struct db *db, const char *type,
                     const struct json *event, bool late, struct err *err)
{
    struct function_call call = {.name = type, .json = event, .late = late};

    return script_call(script, db, script->opts.memory_bytes, l_run_event, &call,
                       script->opts.event_timeout_ms, l_traced_error, err);
}

size_t script_memory_bytes(const struct script *script)
{
    return script->budget.used_bytes;
}

static int l_run_action(lua_State *L)
{
    const struct function_call *call = lua_touserdata(L, 1);
    struct script_verdict *verdict = call->verdict;
    const char *message;
    size_t len;

    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_DECIDE);
    push_function(L, "actions", call->name);
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_CTX);
    push_document(L, call->json);
    lua_call(L, 3, 2);
    verdict->allow = strcmp(luaL_checkstring(L, -2), "allow") == 0;
    message = lua_tolstring(L, -1, &len);
    verdict->has_message = message != NULL;
    if (message)
        buf_put(&verdict->message, message, len < DENY_MESSAGE_MAX ? len : DENY_MESSAGE_MAX);
    return 0;
}

int script_run_action(struct script *script, struct db *db, const char *name,
                      const struct json *action, struct script_verdict *out, struct err *err)
{
    struct function_call call = {.name = name, .json = action, .verdict = out};

    out->allow = out->has_message = false;
    out->message.max = DENY_MESSAGE_MAX;
    buf_reset(&out->message);
    return script_call(script, db, script->opts.memory_bytes, l_run_action, &call,
                       script->opts.action_timeout_ms, l_traced_error, err);
}
