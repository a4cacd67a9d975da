/* SPDX-License-Identifier: MIT */
/*
 * bind_request - the request that a route's function gets.
 *
 * A table of its own for each call, empty at first: its fields are made when they are looked at, and
 * stay in it. So a function that wants nothing but a parameter costs nothing else, and one that puts
 * something into its request disturbs nobody. What is made out of the request itself is asked for
 * only while the call runs; of a request that was kept there is left what was looked at.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The request of the call that runs, if the table at index is the one that the function got. */
static const struct http_request *check_current(lua_State *L, int index, const char *field)
{
    const struct route_run *run = script_of(L)->run;

    if (!run || run->request != lua_topointer(L, index))
        script_raise(L,
                     "request.%s: that request has been answered; keep what you need of it in a "
                     "local",
                     field);
    return run->call->request;
}

/* Text that can't be decoded. A path with %00 doesn't come as far as this (http/rules.c). */
static const char *what_is_wrong(const char *text, size_t len, bool is_query)
{
    if (!is_query)
        return "the path isn't percent-encoded UTF-8";
    return memmem(text, len, "%00", 3) ? "the query must not contain %00"
                                       : "the query isn't percent-encoded UTF-8";
}

/* Push text decoded. What can't be is answered with 400 and that code. */
static void push_decoded(lua_State *L, const char *text, size_t len, const char *code)
{
    bool is_query = strcmp(code, "bad_query") == 0;
    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(L, &buffer, len);

    if (!route_decode(text, len, is_query, out, &len))
        raise_refusal(L, 400, code, what_is_wrong(text, len, is_query));
    luaL_pushresultsize(&buffer, len);
}

static void push_method(lua_State *L, const struct http_request *request)
{
    lua_pushstring(L, request->method);
}

static void push_path(lua_State *L, const struct http_request *request)
{
    push_decoded(L, request->path, strlen(request->path), "bad_path");
}

static void push_params(lua_State *L, const struct http_request *request)
{
    const struct route *route = script_of(L)->run->route;

    lua_createtable(L, 0, route->count);
    for (int i = 0; i < route->count; i++) {
        size_t len;
        const char *part = route_part(request->path, i, &len);

        if (!route->segments[i].is_parameter)
            continue;
        lua_pushlstring(L, route->segments[i].text, route->segments[i].len);
        push_decoded(L, part, len, "bad_path");
        lua_rawset(L, -3);
    }
}

/* name=value into the table on top, unless it has the name already. */
static void add_pair(lua_State *L, const char *pair, size_t len)
{
    const char *equals = memchr(pair, '=', len);
    size_t name_len = equals ? (size_t)(equals - pair) : len;

    push_decoded(L, pair, name_len, "bad_query");
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL) {
        lua_pop(L, 2);
        return;
    }
    lua_pop(L, 1);
    if (equals)
        push_decoded(L, equals + 1, len - name_len - 1, "bad_query");
    else
        lua_pushliteral(L, "");
    lua_rawset(L, -3);
}

static void push_query(lua_State *L, const struct http_request *request)
{
    const char *at = request->query ? request->query : "";

    lua_newtable(L);
    while (*at) {
        size_t len = strcspn(at, "&");

        if (len > 0)
            add_pair(L, at, len);
        at += len + (at[len] == '&');
    }
}

static void push_query_string(lua_State *L, const struct http_request *request)
{
    lua_pushstring(L, request->query ? request->query : "");
}

static void push_lower(lua_State *L, const char *name)
{
    size_t len = strlen(name);
    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(L, &buffer, len);

    for (size_t i = 0; i < len; i++)
        out[i] = (char)tolower((unsigned char)name[i]);
    luaL_pushresultsize(&buffer, len);
}

static void push_headers(lua_State *L, const struct http_request *request)
{
    lua_createtable(L, 0, (int)request->header_count);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];

        push_lower(L, header->name);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushstring(L, header->value);
        } else {
            lua_pushstring(L, strcasecmp(header->name, "cookie") == 0 ? "; " : ", ");
            lua_pushstring(L, header->value);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

static void push_body(lua_State *L, const struct http_request *request)
{
    lua_pushlstring(L, request->body, request->body_len);
}

static void push_remote_addr(lua_State *L, const struct http_request *request)
{
    lua_pushstring(L, request->remote_addr);
}

/* request.json(authkit.null?), also with a colon -> what the body says. Upvalues: the request, and
 * what was read of it before, with null as nil and with null kept. */
static int l_request_json(lua_State *L)
{
    const struct http_request *request = check_current(L, lua_upvalueindex(1), "json");
    bool keep_null = check_keeps_null(L, lua_istable(L, 1) ? 2 : 1, "request.json");
    int known = lua_upvalueindex(keep_null ? 3 : 2);
    struct json *scratch = &script_of(L)->scratch;
    char message[200];
    struct err err;
    int rc;

    if (lua_isnil(L, known)) {
        rc = json_read(scratch, request->body, request->body_len, &err);
        if (rc == ERR_INVALID) {
            snprintf(message, sizeof(message), "the body is %.150s", err.text);
            raise_refusal(L, 400, "invalid_json", request->body_len ? message : "there is no body");
        }
        if (rc < 0)
            script_raise(L, "request.json: %s", err.text);
        push_json(L, scratch, 0, keep_null);
        lua_replace(L, known);
    }
    lua_pushvalue(L, known);
    return 1;
}

static void push_json_function(lua_State *L, const struct http_request *request)
{
    (void)request;
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushcclosure(L, l_request_json, 3);
}

static const struct field {
    const char *name;
    void (*push)(lua_State *L, const struct http_request *request);
} fields[] = {
    {"params", push_params}, {"json", push_json_function},        {"body", push_body},
    {"query", push_query},   {"headers", push_headers},           {"method", push_method},
    {"path", push_path},     {"query_string", push_query_string}, {"remote_addr", push_remote_addr},
};

/* Make the field and leave it in the request, which is at index 1. [-0, +1, v] */
static void push_field(lua_State *L, const struct field *field)
{
    const struct http_request *request = check_current(L, 1, field->name);

    lua_pushstring(L, field->name);
    field->push(L, request);
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    lua_rawset(L, 1);
}

/* __index: a field that isn't there yet, or nil */
static int l_request_index(lua_State *L)
{
    size_t len = 0;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &len) : "";

    lua_settop(L, 2);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (strcmp(fields[i].name, name) == 0 && strlen(name) == len) {
            push_field(L, &fields[i]);
            return 1;
        }
    }
    return 0;
}

/* __pairs: all fields, which looking at them makes, and what the function has put there */
static int l_request_pairs(lua_State *L)
{
    lua_settop(L, 1);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        lua_getfield(L, 1, fields[i].name);
        lua_pop(L, 1);
    }
    lua_pushcfunction(L, lazy_next);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

void push_request(lua_State *L)
{
    lua_createtable(L, 0, 4);
    luaL_setmetatable(L, TYPE_REQUEST);
    script_of(L)->run->request = lua_topointer(L, -1);
}

void bind_request_open(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__index", l_request_index}, {"__pairs", l_request_pairs}, {NULL, NULL}};

    luaL_newmetatable(L, TYPE_REQUEST);
    luaL_setfuncs(L, meta, 0);
    lua_pushliteral(L, "request");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
