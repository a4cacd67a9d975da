/* SPDX-License-Identifier: MIT */
/*
 * pair - a state with the whole of Lua: `string` is Lua's own library, `ours` the same with our
 * functions for patterns. both(f, what) calls f with one and the other, sees to it that the same
 * comes of it, and returns that as a text.
 */
#ifndef TESTS_UNIT_SCRIPT_PAIR_H
#define TESTS_UNIT_SCRIPT_PAIR_H

#include "script/script_state.h"

#include <lualib.h>

struct pair {
    struct script script; /* as much of one as bind_pattern.c wants */
    lua_State *L;
};

static const char pair_text[] =
    "ours = setmetatable({}, { __index = string })\n"
    "bind(ours)\n"
    "local function said(...)\n"
    "  local values = table.pack(...)\n"
    "  for i = 1, values.n do values[i] = math.type(values[i]) == 'integer' and values[i]\n"
    "    or type(values[i]) == 'string' and ('%q'):format(values[i]) or tostring(values[i]) end\n"
    "  return table.concat(values, ' ')\n"
    "end\n"
    "local function without_place(message)\n"
    "  message = string.gsub(message, '^[^\\n:]*:%d+: ', '')\n"
    "  return (string.gsub(message, \"^bad argument #(%d) to '[^']*' \", 'bad argument #%1 '))\n"
    "end\n"
    "local function outcome(f, string)\n"
    "  local values = table.pack(pcall(f, string))\n"
    "  if values[1] then return said(table.unpack(values, 2, values.n)) end\n"
    "  return 'error: ' .. without_place(tostring(values[2]))\n"
    "end\n"
    "function both(f, what)\n"
    "  local theirs, our = outcome(f, string), outcome(f, ours)\n"
    "  if theirs ~= our then\n"
    "    error(('%s\\n  gives %s\\n  Lua:  %s'):format(what, our, theirs), 0)\n"
    "  end\n"
    "  return our\n"
    "end\n";

static inline int l_pair_bind(lua_State *L)
{
    bind_pattern_open(L);
    return 0;
}

/* One result, or false and the error. [-0, +1, -] */
static inline bool pair_run(lua_State *L, const char *text)
{
    return luaL_loadstring(L, text) == LUA_OK && lua_pcall(L, 0, 1, 0) == LUA_OK;
}

/* False: no memory. */
static inline bool pair_open(struct pair *pair)
{
    *pair = (struct pair){.L = luaL_newstate()};
    if (!pair->L)
        return false;
    *(struct script **)lua_getextraspace(pair->L) = &pair->script;
    luaL_openlibs(pair->L);
    lua_register(pair->L, "bind", l_pair_bind);
    if (!pair_run(pair->L, pair_text))
        return false;
    lua_settop(pair->L, 0);
    return true;
}

#endif
