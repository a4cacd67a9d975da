/* SPDX-License-Identifier: MIT */
/*
 * bind_bounds - functions of Lua that can go round and round without making anything, bounded.
 *
 * table.move takes any range, table.insert and remove believe what __len says, and string.rep
 * repeats nothing as often as it is told: each could run for years inside C, where no limit reaches
 * it. Others take milliseconds for a large argument, and ask for no memory that would be refused
 * when the time is up: they look at the clock before they begin. The real function is an upvalue,
 * and is called in the same frame.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

enum {
    LIST_MAX = 1 << 24, /* no list in 256 MiB is longer; moving so many takes 0.3 s */
    LARGE_LIST = 2000,
    LARGE_TEXT = 32 * 1024,
};

static int call_real(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* table.insert and remove: what a table's own __len says is looked at first. */
static int l_change_list(lua_State *L)
{
    if (lua_rawlen(L, 1) > LARGE_LIST)
        budget_check(L);
    if (lua_istable(L, 1) && luaL_getmetafield(L, 1, "__len") != LUA_TNIL) {
        lua_pop(L, 1);
        if (luaL_len(L, 1) > LIST_MAX)
            script_raise(L, "a list with a length of more than %d", LIST_MAX);
    }
    return call_real(L);
}

/* table.move(from, first, last, to [, into]) */
static int l_move(lua_State *L)
{
    lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);

    if (last > first && (lua_Unsigned)last - (lua_Unsigned)first >= LIST_MAX)
        script_raise(L, "table.move of more than %d elements", LIST_MAX);
    if (last > first && last - first > LARGE_LIST)
        budget_check(L);
    return call_real(L);
}

/* table.sort: some of it can't be helped */
static int l_sort(lua_State *L)
{
    if (lua_rawlen(L, 1) > LARGE_LIST)
        budget_check(L);
    return call_real(L);
}

/* utf8.len, offset and codepoint */
static int l_text(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING && lua_rawlen(L, 1) > LARGE_TEXT)
        budget_check(L);
    return call_real(L);
}

/* string.rep(s, n [, separator]) */
static int l_rep(lua_State *L)
{
    size_t len, separator_len;

    luaL_checklstring(L, 1, &len);
    luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &separator_len);
    if (len == 0 && separator_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    return call_real(L);
}

/* Put function in front of library.name, where library is a field of the table on top. */
static void bound(lua_State *L, const char *library, const char *name, lua_CFunction function)
{
    lua_getfield(L, -1, library);
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void bind_bounds_open(lua_State *L)
{
    bound(L, "table", "insert", l_change_list);
    bound(L, "table", "remove", l_change_list);
    bound(L, "table", "move", l_move);
    bound(L, "table", "sort", l_sort);
    bound(L, "utf8", "len", l_text);
    bound(L, "utf8", "offset", l_text);
    bound(L, "utf8", "codepoint", l_text);
    bound(L, "string", "rep", l_rep);
}
