/* SPDX-License-Identifier: MIT */
#include "script/bind_db.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void raise_type(lua_State *L, const struct table *t, const struct column *c, int index)
{
    char shown[80] = "";

    check_dot(L, index);
    if (lua_type(L, index) == LUA_TNUMBER || lua_type(L, index) == LUA_TBOOLEAN) {
        snprintf(shown, sizeof(shown), " (%s)", luaL_tolstring(L, index, NULL));
        lua_pop(L, 1);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        const char *text = lua_tostring(L, index);

        snprintf(shown, sizeof(shown), " (\"%.*s\"%s)",
                 (int)text_utf16_prefix(text, strlen(text), 20), text,
                 strlen(text) > 20 ? " and so on" : "");
    }
    script_raise(L, "%s.%s takes %s%s, not %s%s", t->name, c->name,
                 c->type == SCRIPT_INTEGER ? "an "
                 : c->type == SCRIPT_TEXT  ? ""
                                           : "a ",
                 c->type == SCRIPT_INTEGER ? "integer" : bind_type_names[c->type],
                 kind_of(L, index), shown);
}

const char *text_problem(lua_State *L, int index)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);

    if (memchr(text, '\0', len))
        return "the text has a NUL byte in it, which SQL texts can't hold";
    return text_is_utf8(text, len) ? NULL : "the text isn't valid UTF-8";
}

static void check_text(lua_State *L, const struct table *t, const struct column *c, int index)
{
    const char *problem;

    if (lua_type(L, index) != LUA_TSTRING)
        raise_type(L, t, c, index);
    problem = text_problem(L, index);
    if (problem)
        script_raise(L, "%s.%s: %s", t->name, c->name, problem);
}

void push_stored(lua_State *L, const struct table *t, const struct column *c, int index)
{
    int is_whole;
    lua_Integer integer;
    struct buf *out;
    char label[160];

    if (lua_isnil(L, index) || is_null(L, index)) {
        lua_pushnil(L);
        return;
    }
    switch (c->type) {
    case SCRIPT_TEXT:
        check_text(L, t, c, index);
        lua_pushvalue(L, index);
        break;
    case SCRIPT_INTEGER:
        integer = lua_type(L, index) == LUA_TNUMBER ? lua_tointegerx(L, index, &is_whole)
                                                    : (is_whole = 0);
        if (!is_whole)
            raise_type(L, t, c, index);
        lua_pushinteger(L, integer);
        break;
    case SCRIPT_REAL:
        if (lua_type(L, index) != LUA_TNUMBER)
            raise_type(L, t, c, index);
        if (!isfinite(lua_tonumber(L, index)))
            script_raise(L, "%s.%s takes a finite number", t->name, c->name);
        lua_pushnumber(L, lua_tonumber(L, index));
        break;
    case SCRIPT_BOOLEAN:
        if (!lua_isboolean(L, index))
            raise_type(L, t, c, index);
        lua_pushinteger(L, lua_toboolean(L, index));
        break;
    case SCRIPT_JSON:
        out = push_buffer(L, JSON_VALUE_MAX);
        snprintf(label, sizeof(label), "%s.%s: ", t->name, c->name);
        put_json(L, index, out, label);
        lua_pushlstring(L, buf_text(out), out->len);
        buf_release(out);
        lua_remove(L, -2);
        break;
    }
}

void bind_stored(lua_State *L, struct stmt *stmt, int parameter, int index)
{
    size_t len;
    const char *text;

    switch (lua_type(L, index)) {
    case LUA_TNIL:
        stmt_bind_null(stmt, parameter);
        break;
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        stmt_bind_text(stmt, parameter, text, len);
        break;
    default:
        if (lua_isinteger(L, index))
            stmt_bind_int(stmt, parameter, lua_tointeger(L, index));
        else
            stmt_bind_real(stmt, parameter, lua_tonumber(L, index));
    }
}

void push_column(lua_State *L, struct stmt *stmt, int i, enum script_type type)
{
    struct json *scratch = &script_of(L)->scratch;
    enum stmt_type stored = stmt_column_type(stmt, i);
    size_t len;
    const char *text;

    if (stored == STMT_INT) {
        if (type == SCRIPT_BOOLEAN)
            lua_pushboolean(L, stmt_int(stmt, i) != 0);
        else if (type == SCRIPT_REAL)
            lua_pushnumber(L, (lua_Number)stmt_int(stmt, i));
        else
            lua_pushinteger(L, stmt_int(stmt, i));
    } else if (stored == STMT_REAL) {
        lua_pushnumber(L, stmt_real(stmt, i));
    } else if (stored == STMT_NULL) {
        lua_pushnil(L);
    } else {
        text = stmt_text(stmt, i, &len);
        if (type == SCRIPT_JSON && json_read(scratch, text, len, NULL) == 0)
            push_json(L, scratch, 0, false);
        else
            lua_pushlstring(L, text, len);
    }
}

void push_row(lua_State *L, struct stmt *stmt, const struct table *t)
{
    lua_getiuservalue(L, 1, 1);
    lua_createtable(L, 0, t->count);
    for (int i = 0; i < t->count; i++) {
        lua_rawgeti(L, -2, ANCHOR_NAMES + i + 1);
        push_column(L, stmt, i, t->columns[i].type);
        lua_rawset(L, -3);
    }
    lua_remove(L, -2);
}
