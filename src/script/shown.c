/* SPDX-License-Identifier: MIT */
/*
 * shown - a value as a line of the log has it: a table as JSON, anything else by tostring.
 *
 * Not the encoder of values.c: whoever logs wants to see what is there, whether it can be JSON or not. So a
 * function in a table is shown by its tostring, as a string; so are a table that contains itself and one that
 * isn't data (ctx and the like). Names that are no texts become texts, and what is too long is cut.
 *
 * However large a table is, no more of it is looked at than there is room for: an entry takes ENTRY_LEAST
 * bytes, so a table with more entries than that is cut in any case.
 *
 * Threads    the one that runs the script.
 */
#include "script/script_state.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    LEVELS_MAX = 20,
    ENTRY_LEAST = 2, /* "1," */
    NAMES_FEW = 32,  /* put in order on the stack */
};

#define CUT "…"

const char *kind_of(lua_State *L, int index)
{
    static const char *const kinds[LUA_NUMTYPES] = {
        "nil",     "a boolean",  "a userdata", "a number", "a string",
        "a table", "a function", "a userdata", "a thread",
    };
    int type = lua_type(L, index);

    return type == LUA_TNONE ? "nothing" : kinds[type];
}

struct shown {
    struct buf *out;
    size_t end; /* where out is full */
    bool cut;
};

/* The tables around the one that is shown. */
struct around {
    const struct around *outer;
    const void *table;
    int level;
};

static void show(lua_State *L, int index, struct shown *s, const struct around *around);

static size_t room(const struct shown *s)
{
    return s->end - s->out->len;
}

static void put(struct shown *s, const char *text, size_t len)
{
    size_t part = len < room(s) ? len : room(s);

    if (s->cut)
        return;
    s->cut = part < len;
    while (part > 0 && part < len && ((unsigned char)text[part] & 0xC0) == 0x80)
        part--; /* no half of a character */
    buf_put(s->out, text, part);
}

/* A text so much longer than there is room for needn't be read to its end. */
static void put_string(struct shown *s, const char *text, size_t len)
{
    struct buf string = BUF_INIT(SIZE_MAX / 2);
    size_t enough = room(s) + 4;

    if (s->cut)
        return;
    buf_put_json_string(&string, text, len < enough ? len : enough);
    put(s, buf_text(&string), string.len);
    buf_release(&string);
}

/* What can't be JSON, as tostring has it. But no __tostring is called: it could show tables in turn, and the
 * stack of C that is in use by then isn't what Lua counts. */
static void show_by_name(lua_State *L, int index, struct shown *s)
{
    int kind = luaL_getmetafield(L, index, "__name");
    const char *name = kind == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, index);
    const char *text = lua_pushfstring(L, "%s: %p", name, lua_topointer(L, index));

    put_string(s, text, strlen(text));
    lua_pop(L, kind == LUA_TNIL ? 1 : 2);
}

static void show_string(lua_State *L, int index, struct shown *s)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);

    put_string(s, text, len);
}

static void show_number(lua_State *L, int index, struct shown *s)
{
    char text[40];

    if (lua_isinteger(L, index))
        snprintf(text, sizeof(text), "%" PRId64, (int64_t)lua_tointeger(L, index));
    else
        snprintf(text, sizeof(text), "%.14g", lua_tonumber(L, index));
    put(s, text, strlen(text));
}

/* Whether there is nothing in it but places 1 to its length: what a list that is marked as one has besides, the
 * cursor of a page, is passed over in JSON, too. */
static bool is_shown_as_list(lua_State *L, int index, const struct shown *s)
{
    size_t left = room(s) / ENTRY_LEAST + 1;
    lua_Integer last;

    if (!is_list(L, index))
        return false;
    if (is_marked_array(L, index))
        return true;
    last = (lua_Integer)lua_rawlen(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        bool is_place =
            lua_isinteger(L, -2) && lua_tointeger(L, -2) > 0 && lua_tointeger(L, -2) <= last;

        if (!is_place || left-- == 0) {
            lua_pop(L, 2);
            return is_place;
        }
    }
    return true;
}

static void show_list(lua_State *L, int index, struct shown *s, const struct around *around)
{
    lua_Integer count = (lua_Integer)lua_rawlen(L, index);

    put(s, "[", 1);
    for (lua_Integer i = 1; i <= count && !s->cut; i++) {
        if (i > 1)
            put(s, ",", 1);
        lua_rawgeti(L, index, i);
        show(L, lua_gettop(L), s, around);
        lua_pop(L, 1);
    }
    put(s, "]", 1);
}

/* Push the key on top as a text. No __tostring is called: the table is being looked through. [-0, +1, m] */
static void push_key_text(lua_State *L)
{
    if (lua_type(L, -1) == LUA_TSTRING || lua_type(L, -1) == LUA_TNUMBER) {
        lua_pushvalue(L, -1);
        lua_tostring(L, -1);
    } else if (lua_isboolean(L, -1)) {
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
    } else {
        lua_pushfstring(L, "%s: %p", luaL_typename(L, -1), lua_topointer(L, -1));
    }
}

/* Push keys and their texts, in turn, as many as there is room for. Returns how many. [-0, +2n, v] */
static size_t push_keys(lua_State *L, int index, const struct shown *s)
{
    size_t most = room(s) / ENTRY_LEAST + 1, count = 0;

    for (lua_pushnil(L); lua_next(L, index);) {
        lua_pop(L, 1);
        if (count == most) {
            lua_pop(L, 1);
            break;
        }
        luaL_checkstack(L, LUA_MINSTACK, "a table with too many names");
        lua_pushvalue(L, -1);
        push_key_text(L);
        lua_rotate(L, -3, 2);
        count++;
    }
    return count;
}

static void show_members(lua_State *L, int index, struct shown *s, const struct around *around)
{
    int top = lua_gettop(L);
    size_t count = push_keys(L, index, s);
    struct member_name few[NAMES_FEW];
    struct member_name *names =
        count <= NAMES_FEW ? few : lua_newuserdatauv(L, count * sizeof(*names), 0);

    for (size_t i = 0; i < count; i++) {
        names[i].index = top + 1 + 2 * (int)i;
        names[i].text = lua_tolstring(L, names[i].index + 1, &names[i].len);
    }
    sort_names(names, count);
    put(s, "{", 1);
    for (size_t i = 0; i < count && !s->cut; i++) {
        if (i > 0)
            put(s, ",", 1);
        put_string(s, names[i].text, names[i].len);
        put(s, ":", 1);
        lua_pushvalue(L, names[i].index);
        lua_rawget(L, index);
        show(L, lua_gettop(L), s, around);
        lua_pop(L, 1);
    }
    put(s, "}", 1);
    lua_settop(L, top);
}

static bool is_around(const struct around *around, const void *table)
{
    for (; around; around = around->outer)
        if (around->table == table)
            return true;
    return false;
}

static void show_table(lua_State *L, int index, struct shown *s, const struct around *outer)
{
    const struct around here = {outer, lua_topointer(L, index), outer ? outer->level + 1 : 0};

    budget_check(L); /* an empty one may have been large, and is as slow as that to look through */
    settle_whole(L, index);
    if (here.level > LEVELS_MAX || is_around(outer, here.table) || is_no_data(L, index))
        show_by_name(L, index, s);
    else if (is_shown_as_list(L, index, s))
        show_list(L, index, s, &here);
    else
        show_members(L, index, s, &here);
}

static void show(lua_State *L, int index, struct shown *s, const struct around *around)
{
    luaL_checkstack(L, LUA_MINSTACK, "a table with too many levels");
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        put(s, "null", 4);
        break;
    case LUA_TBOOLEAN:
        lua_toboolean(L, index) ? put(s, "true", 4) : put(s, "false", 5);
        break;
    case LUA_TNUMBER:
        show_number(L, index, s);
        break;
    case LUA_TSTRING:
        show_string(L, index, s);
        break;
    case LUA_TTABLE:
        show_table(L, index, s, around);
        break;
    default:
        if (is_null(L, index))
            put(s, "null", 4);
        else
            show_by_name(L, index, s);
    }
}

/* As print does it without us. */
static bool has_text_of_its_own(lua_State *L, int index)
{
    if (!lua_istable(L, index))
        return !is_null(L, index);
    settle_whole(L, index);
    if (is_no_data(L, index))
        return true;
    if (luaL_getmetafield(L, index, "__tostring") == LUA_TNIL)
        return false;
    lua_pop(L, 1);
    return true;
}

const char *push_shown(lua_State *L, int index, size_t max_bytes, size_t *out_len)
{
    struct shown s = {.end = max_bytes};

    index = lua_absindex(L, index);
    if (has_text_of_its_own(L, index))
        return luaL_tolstring(L, index, out_len);
    s.out = push_buffer(L, max_bytes + strlen(CUT));
    show(L, index, &s, NULL);
    if (s.cut)
        buf_puts(s.out, CUT);
    lua_pushlstring(L, buf_text(s.out), s.out->len);
    buf_release(s.out);
    lua_remove(L, -2);
    return lua_tolstring(L, -1, out_len);
}
