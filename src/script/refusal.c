/* SPDX-License-Identifier: MIT */
/*
 * refusal - an answer that ends a route's function: 401 by ctx.auth.require(), and the like.
 *
 * It travels as an error whose value is userdata of ours: a script can catch it and raise it again,
 * and read what it is with tostring, but make none and change none. In the end the message handler
 * sees it, lets it pass, and notes what is in it.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

#include <stdio.h>
#include <string.h>

int raise_refusal(lua_State *L, int status, const char *code, const char *message)
{
    struct refusal *refusal = lua_newuserdatauv(L, sizeof(*refusal), 0);

    refusal->status = status;
    snprintf(refusal->code, sizeof(refusal->code), "%s", code);
    snprintf(refusal->message, sizeof(refusal->message), "%s", message);
    luaL_setmetatable(L, TYPE_REFUSAL);
    lua_error(L);
    __builtin_unreachable(); /* lua_error doesn't return */
}

/* tostring(refusal) -> "401 token_missing: …" */
static int l_refusal_tostring(lua_State *L)
{
    const struct refusal *refusal = luaL_checkudata(L, 1, TYPE_REFUSAL);

    lua_pushfstring(L, "%d %s: %s", refusal->status, refusal->code, refusal->message);
    return 1;
}

int l_route_error(lua_State *L)
{
    const struct refusal *refusal = luaL_testudata(L, 1, TYPE_REFUSAL);
    struct script *script = script_of(L);

    script->raised = refusal;
    if (!refusal)
        return l_traced_error(L);
    script->refusal = *refusal;
    lua_settop(L, 1);
    return 1;
}

static void set_header(struct http_response *response, const char *name, const char *value)
{
    if (http_response_header(response, name, value) < 0)
        response->headers.failed = true; /* only for lack of memory: the server answers 500 */
}

void put_refusal(const struct refusal *refusal, struct http_response *response)
{
    http_response_error(response, refusal->status, refusal->code, refusal->message);
    if (refusal->status == 401)
        set_header(response, "WWW-Authenticate",
                   strcmp(refusal->code, "token_missing") == 0 ? "Bearer"
                                                               : "Bearer error=\"invalid_token\"");
    if (refusal->status == 503)
        set_header(response, "Retry-After", "1");
}

void script_refuse_caller(const struct script_caller *caller, struct http_response *response)
{
    struct refusal refusal = {.status = caller->status};

    snprintf(refusal.code, sizeof(refusal.code), "%s", caller->code);
    snprintf(refusal.message, sizeof(refusal.message), "%s", caller->message);
    put_refusal(&refusal, response);
}

void refusal_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__tostring", l_refusal_tostring}, {NULL, NULL}};

    luaL_newmetatable(L, TYPE_REFUSAL);
    luaL_setfuncs(L, meta, 0);
    lua_pushliteral(L, "refusal");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
