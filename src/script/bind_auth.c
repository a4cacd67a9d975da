/* SPDX-License-Identifier: MIT */
/*
 * bind_auth - whose token came with the request: the native half of ctx.auth (lua/authkit.lua is the
 * other). What is asked of the claims is looked up in their JSON, never in the table that the script
 * got of them and may have changed.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

#include <string.h>

static char claims_key; /* its address is where the registry has the claims of the call */

static const struct script_caller *check_caller(lua_State *L)
{
    const struct route_run *run = script_of(L)->run;

    if (!run)
        script_raise(L, "ctx.auth is for routes: nobody has signed in for an event or an action");
    return run->call->caller;
}

/* native.claims() -> a table, the same for the whole call | nil */
static int l_claims(lua_State *L)
{
    const struct script_caller *caller = check_caller(L);

    if (!caller->claims) {
        lua_pushnil(L);
        return 1;
    }
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &claims_key) == LUA_TNIL) {
        push_json(L, caller->claims, 0, false);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &claims_key);
    }
    return 1;
}

void forget_claims(lua_State *L)
{
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &claims_key); /* nil takes away, and needs no memory */
}

/* native.user_id() -> text | nil */
static int l_user_id(lua_State *L)
{
    const struct script_caller *caller = check_caller(L);

    lua_pushstring(L, caller->claims ? caller->user_id : NULL);
    return 1;
}

/* native.check_caller(): ends the function when there is nobody */
static int l_check_caller(lua_State *L)
{
    const struct script_caller *caller = check_caller(L);

    if (!caller->claims)
        raise_refusal(L, caller->status, caller->code, caller->message);
    return 0;
}

/* native.refuse(status, code, message) */
static int l_refuse(lua_State *L)
{
    raise_refusal(L, (int)luaL_checkinteger(L, 1), luaL_checkstring(L, 2), luaL_checkstring(L, 3));
}

/* native.refuse_request(code, message): what a client sent is wrong. Ends the function of a route; does
 * nothing in others, which have no client. */
static int l_refuse_request(lua_State *L)
{
    const char *code = luaL_checkstring(L, 1), *message = luaL_checkstring(L, 2);

    if (script_of(L)->run)
        raise_refusal(L, 400, code, message);
    return 0;
}

/* native.claim(name) -> text | nil */
static int l_claim(lua_State *L)
{
    const struct json *claims = check_caller(L)->claims;
    uint32_t node = claims ? json_string_member(claims, 0, luaL_checkstring(L, 1)) : JSON_ABSENT;

    if (node == JSON_ABSENT) {
        lua_pushnil(L);
        return 1;
    }
    push_json(L, claims, node, false);
    return 1;
}

static bool is_text(const struct json *json, uint32_t node, const char *text)
{
    return json->nodes[node].type == JSON_STRING && json_equals(json, node, text);
}

static bool claim_has(const struct json *claims, const char *name, const char *text)
{
    uint32_t node = json_member(claims, 0, name);

    if (node == JSON_ABSENT || claims->nodes[node].type != JSON_ARRAY)
        return node != JSON_ABSENT && is_text(claims, node, text);
    for (uint32_t i = node + 1; i < claims->nodes[node].next; i = claims->nodes[i].next)
        if (is_text(claims, i, text))
            return true;
    return false;
}

/* native.claim_has(name, text) -> whether that claim is the text, or a list with it */
static int l_claim_has(lua_State *L)
{
    const struct json *claims = check_caller(L)->claims;
    const char *name = luaL_checkstring(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);

    lua_pushboolean(L, claims && strlen(text) == len && claim_has(claims, name, text));
    return 1;
}

void bind_auth_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"claims", l_claims},
        {"user_id", l_user_id},
        {"check_caller", l_check_caller},
        {"refuse", l_refuse},
        {"claim", l_claim},
        {"claim_has", l_claim_has},
        {"refuse_request", l_refuse_request},
        {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
}
