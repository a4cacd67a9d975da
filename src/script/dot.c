/* SPDX-License-Identifier: MIT */
/*
 * dot - what is said when a function of ours was called with a colon in place of a dot.
 *
 * ctx.db:insert("notes", row) passes ctx.db itself as the name of the table. The function finds that its
 * first argument won't do, as it would any other wrong one, and asks here before it complains: only who
 * has made the slip pays for the look.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

enum { LEVELS_MAX = 6 }; /* between us and the function there is little more than our own Lua */

/* Push the name and the functions of the library that the value is (read_only in lua/sandbox.lua made it),
 * or nothing. [-0, +(0|2), m] */
static bool push_library(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    lua_pushliteral(L, "__name");
    lua_rawget(L, -2);
    lua_pushliteral(L, "__index");
    lua_rawget(L, -3);
    lua_remove(L, -3);
    if (lua_type(L, -2) == LUA_TSTRING && lua_istable(L, -1))
        return true;
    lua_pop(L, 2);
    return false;
}

/* Was the value at index the first argument of the call? */
static bool is_first_argument(lua_State *L, const lua_Debug *call, int index)
{
    bool is_first;

    if (!lua_getlocal(L, call, -1) && !lua_getlocal(L, call, 1)) /* -1: of a vararg function */
        return false;
    is_first = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    return is_first;
}

/* Push the name under which the function on top is in the table at library, or nothing. [-0, +(0|1), -] */
static bool push_name_in(lua_State *L, int library)
{
    int function = lua_gettop(L);

    for (lua_pushnil(L); lua_next(L, library); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, function)) {
            lua_pop(L, 1);
            return true;
        }
    }
    return false;
}

void check_dot(lua_State *L, int index)
{
    lua_Debug call;
    int library;

    index = lua_absindex(L, index);
    luaL_checkstack(L, LUA_MINSTACK, NULL);
    if (!push_library(L, index))
        return;
    library = lua_gettop(L);
    for (int level = 0; level < LEVELS_MAX && lua_getstack(L, level, &call); level++) {
        lua_getinfo(L, "f", &call);
        if (is_first_argument(L, &call, index) && push_name_in(L, library))
            script_raise(L, "call it with a dot: %s.%s(…)", lua_tostring(L, library - 1),
                         lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
}

/* native.check_dot(value) */
static int l_check_dot(lua_State *L)
{
    luaL_checkany(L, 1);
    check_dot(L, 1);
    return 0;
}

void dot_open(lua_State *L)
{
    lua_pushcfunction(L, l_check_dot);
    lua_setfield(L, -2, "check_dot");
}
