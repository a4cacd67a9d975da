/* SPDX-License-Identifier: MIT */
/*
 * bind_coroutine - coroutines within the limits.
 *
 * A coroutine begins with a hook count of its own: many short ones would never reach it, so the clock is looked
 * at whenever one is resumed. And Lua switches hooks off while a hook's error is on its way: the __close
 * functions of a coroutine that died of it would run with no time limit. So nothing of a coroutine is
 * closed once a limit was hit. Lua's own functions are upvalues, and are called in the same frame.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

/* Of all closures here. */
enum { REAL_RESUME = 1, REAL_CLOSE, COROUTINE };

static void check_kind(lua_State *L, int kind, const char *called)
{
    if (lua_type(L, 1) != kind)
        script_raise(L, "%s wants a %s, not %s", called, lua_typename(L, kind), kind_of(L, 1));
}

static int call_real(lua_State *L, int upvalue)
{
    return lua_tocfunction(L, lua_upvalueindex(upvalue))(L);
}

/* coroutine.resume(co, …) */
static int l_resume(lua_State *L)
{
    check_kind(L, LUA_TTHREAD, "coroutine.resume");
    budget_check(L);
    return call_real(L, REAL_RESUME);
}

/* coroutine.close(co) */
static int l_close(lua_State *L)
{
    check_kind(L, LUA_TTHREAD, "coroutine.close");
    budget_check(L);
    return call_real(L, REAL_CLOSE);
}

/* What coroutine.wrap has returned. */
static int l_wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(COROUTINE));
    int count;

    budget_check(L);
    lua_pushvalue(L, lua_upvalueindex(COROUTINE));
    lua_insert(L, 1);
    count = call_real(L, REAL_RESUME); /* true, … | false, what is wrong */
    if (lua_toboolean(L, -count))
        return count - 1;
    if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) { /* it died of it */
        budget_check(L);
        lua_pushvalue(L, lua_upvalueindex(REAL_CLOSE));
        lua_pushvalue(L, lua_upvalueindex(COROUTINE));
        lua_call(L, 1, 0);
    }
    return lua_error(L);
}

/* coroutine.yield(…): Lua's own says no line */
static int l_yield(lua_State *L)
{
    if (!lua_isyieldable(L)) {
        bool is_main = lua_pushthread(L);

        script_raise(L, "attempt to yield %s",
                     is_main ? "from outside a coroutine" : "across a C-call boundary");
    }
    return lua_yield(L, lua_gettop(L));
}

/* coroutine.wrap(f) */
static int l_wrap(lua_State *L)
{
    lua_State *co;

    check_kind(L, LUA_TFUNCTION, "coroutine.wrap");
    lua_pushvalue(L, lua_upvalueindex(REAL_RESUME));
    lua_pushvalue(L, lua_upvalueindex(REAL_CLOSE));
    co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, l_wrapped, COROUTINE);
    return 1;
}

void bind_coroutine_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"resume", l_resume},
                                         {"close", l_close},
                                         {"wrap", l_wrap},
                                         {"yield", l_yield},
                                         {NULL, NULL}};

    lua_getfield(L, -1, "coroutine");
    lua_getfield(L, -1, "resume");
    lua_getfield(L, -2, "close");
    luaL_setfuncs(L, functions, 2);
    lua_pop(L, 1);
}
