/* SPDX-License-Identifier: MIT */
/*
 * answer - what a route's function has returned, as an HTTP answer.
 *
 *     return                        204
 *     return value                  200: a string is text, anything else JSON
 *     return status, body, headers  body nil: nothing; a string: text, or what content-type says
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char text_type[] = "text/plain; charset=utf-8";

/* What the server writes by itself: the framing of the answer must be right. */
static const char *const own_headers[] = {"content-length", "transfer-encoding", "connection",
                                          "keep-alive",     "upgrade",           "trailer"};

static void put_text(lua_State *L, int index, struct http_response *out)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);

    out->content_type = text_type;
    buf_put(&out->body, text, len);
    if (!buf_ok(&out->body))
        script_raise(L, "the answer would be longer than %zu bytes", out->body.max);
}

/* An empty table that nobody has marked is a list here: most answers that are empty are. */
static void put_value(lua_State *L, int index, struct http_response *out)
{
    struct buf *body = &out->body;

    if (lua_type(L, index) == LUA_TSTRING) {
        put_text(L, index, out);
        return;
    }
    put_json(L, index, body, "the answer: ");
    if (lua_istable(L, index) && body->len == 2 && body->data[0] == '{') {
        buf_reset(body);
        buf_puts(body, "[]");
    }
}

static int check_status(lua_State *L, int index)
{
    lua_Integer status = 0;
    int is_whole = 0;

    if (lua_type(L, index) != LUA_TNUMBER)
        script_raise(L,
                     "a route returns a value alone, or status, body, headers: its status is an "
                     "integer from 200 to 599, not %s",
                     kind_of(L, index));
    status = lua_tointegerx(L, index, &is_whole);
    if (!is_whole || status < 200 || status > 599)
        script_raise(L, "a route's status is an integer from 200 to 599, not %s",
                     luaL_tolstring(L, index, NULL));
    return (int)status;
}

static void check_header_name(lua_State *L, int index)
{
    size_t len;
    const char *name;

    if (lua_type(L, index) != LUA_TSTRING)
        script_raise(L, "a route's headers are a table of names and values: a %s is no name",
                     luaL_typename(L, index));
    name = lua_tolstring(L, index, &len);
    if (strlen(name) != len || !http_is_token(name))
        script_raise(L, "'%s' can't be the name of a header", name);
    for (size_t i = 0; i < ARRAY_LEN(own_headers); i++)
        if (strcasecmp(name, own_headers[i]) == 0)
            script_raise(L, "header '%s': the server writes that one itself", name);
}

static void put_type(lua_State *L, const char *name, const char *value, struct http_response *out)
{
    int rc;

    if (out->own_type[0])
        script_raise(L, "header '%s' is given twice", name);
    rc = http_response_set_type(out, value);
    if (rc == ERR_LIMIT)
        script_raise(L, "header '%s' is longer than %d bytes", name, HTTP_TYPE_MAX - 1);
    if (rc < 0)
        script_raise(L, "header '%s' is empty, or has a control character in it", name);
}

/* One line, of the value at index. */
static void put_line(lua_State *L, const char *name, int index, struct http_response *out)
{
    size_t len;
    const char *value;
    int rc;

    if (lua_type(L, index) != LUA_TSTRING && lua_type(L, index) != LUA_TNUMBER)
        script_raise(L, "header '%s' is a string, a number or a list of strings, not %s", name,
                     kind_of(L, index));
    lua_pushvalue(L, index); /* a number would become a text where it is */
    value = lua_tolstring(L, -1, &len);
    if (strlen(value) != len)
        script_raise(L, "header '%s' has a control character in it", name);
    if (strcasecmp(name, "content-type") == 0) {
        put_type(L, name, value, out);
    } else {
        rc = http_response_header(out, name, value);
        if (rc == ERR_LIMIT)
            script_raise(L, "the headers are longer than %zu bytes", out->headers.max);
        if (rc < 0)
            script_raise(L, "header '%s' has a control character in it", name);
    }
    lua_pop(L, 1);
}

static void put_list(lua_State *L, const char *name, int index, struct http_response *out)
{
    lua_Unsigned count = lua_rawlen(L, index);

    settle(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        if (!lua_isinteger(L, -2))
            script_raise(L, "header '%s' is a string, a number or a list of strings", name);
    for (lua_Unsigned i = 1; i <= count; i++) {
        lua_rawgeti(L, index, (lua_Integer)i);
        put_line(L, name, lua_gettop(L), out);
        lua_pop(L, 1);
    }
}

static void put_headers(lua_State *L, int index, struct http_response *out)
{
    if (lua_isnil(L, index))
        return;
    if (!lua_istable(L, index))
        script_raise(L, "a route's headers are a table of names and values, not %s",
                     kind_of(L, index));
    settle(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        int value = lua_gettop(L);

        check_header_name(L, value - 1);
        if (lua_istable(L, value))
            put_list(L, lua_tostring(L, value - 1), value, out);
        else
            put_line(L, lua_tostring(L, value - 1), value, out);
    }
}

/* A 205 is framed as one with a body, which must be empty (RFC 9110, section 15.3.6). */
static bool may_have_content(int status)
{
    return status != 205 && http_status_has_body(status);
}

void check_answer(lua_State *L, int first, struct http_response *out)
{
    int count = lua_gettop(L) - first + 1;

    luaL_checkstack(L, LUA_MINSTACK, "too many results");
    if (count > 3)
        script_raise(L, "a route returns status, body, headers and no more, not %d values", count);
    out->status = count == 0 ? 204 : 200;
    if (count == 0)
        out->content_type = "";
    if (count == 1)
        put_value(L, first, out);
    if (count < 2)
        return;
    lua_settop(L, first + 2);
    out->status = check_status(L, first);
    put_headers(L, first + 2, out);
    if (lua_isnil(L, first + 1))
        out->content_type = "";
    else if (!may_have_content(out->status))
        script_raise(L, "a status of %d has no body: return nil in its place", out->status);
    else
        put_value(L, first + 1, out);
}
