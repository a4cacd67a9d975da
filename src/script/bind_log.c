/* SPDX-License-Identifier: MIT */
/* print and ctx.log: lines of the script in the server's log, with the script's file and line. */
#include "script/script_state.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* What tables may take of a line, so that the whole of it, with all that is escaped, is no more than a
 * line may have: TABLES_MAX is for those of all fields together. */
enum { FIELDS_MAX = 16, MESSAGE_MAX = 8192, TABLES_MAX = 6144, PLACE_MAX = LUA_IDSIZE + 16 };

/* What is looked at of a text: more than a line has room for. */
enum { TEXT_MAX = MESSAGE_MAX + 64 };

#define CUT "…"

/* "handlers.lua:7" of the function that called. */
static void write_place(lua_State *L, char out[PLACE_MAX])
{
    lua_Debug ar;

    snprintf(out, PLACE_MAX, "script");
    if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
        snprintf(out, PLACE_MAX, "%s:%d", ar.short_src, ar.currentline);
}

/* Append the text as far as there is room, and "…" where it is cut. Returns whether it was. */
static bool put_cut(struct buf *line, const char *text, size_t len)
{
    size_t part = MESSAGE_MAX - line->len;

    if (len <= part) {
        buf_put(line, text, len);
        return false;
    }
    while (part > 0 && ((unsigned char)text[part] & 0xC0) == 0x80)
        part--; /* no half of a character */
    buf_put(line, text, part);
    buf_puts(line, CUT);
    return true;
}

/* print(…) -> a line at level info  [-n, +0, v] */
int l_print(lua_State *L)
{
    bool is_on = log_is_on(LOG_LEVEL_INFO), is_cut = false;
    int count = lua_gettop(L);
    struct buf *line = push_buffer(L, MESSAGE_MAX + sizeof(CUT));
    char place[PLACE_MAX];

    for (int i = 1; i <= count; i++) {
        size_t len, room = is_cut ? 0 : MESSAGE_MAX - line->len;
        const char *text;

        if (!is_on) {
            luaL_tolstring(L, i, NULL); /* whatever a __tostring does, it does */
            lua_pop(L, 1);
            continue;
        }
        push_shown(L, i, room, NULL);
        text = push_visible(L, lua_gettop(L), TEXT_MAX); /* a log line is a C string */
        len = strlen(text);
        if (i > 1 && !is_cut)
            is_cut = put_cut(line, "\t", 1);
        if (!is_cut)
            is_cut = put_cut(line, text, len);
        lua_pop(L, 2);
    }
    write_place(L, place);
    log_write(LOG_LEVEL_INFO, buf_text(line), LOG_FIELDS(log_str("source", place)));
    buf_release(line);
    return 0;
}

/* Push the name on the line of a field whose key is below the top: one of ours would be there twice, and
 * who reads JSON takes the last. [-0, +1, m] */
static const char *push_field_name(lua_State *L)
{
    static const char *const ours[] = {"time", "level", "msg", "source"};
    const char *name = push_visible(L, lua_gettop(L) - 1, TEXT_MAX);

    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (strcmp(name, ours[i]) == 0) {
            lua_pop(L, 1);
            return lua_pushfstring(L, "%s_", ours[i]);
        }
    }
    return name;
}

/* Leaves the key and the text under the live key, so that both stay until the line is written,
 * whatever a __tostring does to the table. */
static struct log_field read_field(lua_State *L, size_t *room)
{
    const char *key = push_field_name(L), *text;
    bool is_table;
    size_t len;

    lua_insert(L, -3);
    if (lua_isinteger(L, -1))
        return log_int(key, lua_tointeger(L, -1));
    is_table = lua_istable(L, -1);
    text = push_shown(L, -1, *room, &len); /* stays on the stack until the line is written */
    if (is_table)
        *room -= len < *room ? len : *room;
    lua_insert(L, -3);
    return log_bytes(key, text, len);
}

/* ctx.log.level(message, fields?)  upvalue 1: the level  [-n, +0, v] */
static int l_log(lua_State *L)
{
    enum log_level level = (enum log_level)lua_tointeger(L, lua_upvalueindex(1));
    struct log_field fields[FIELDS_MAX + 2];
    size_t count = 0, room = TABLES_MAX;
    char place[PLACE_MAX];
    const char *message;

    if (!log_is_on(level))
        return 0;
    lua_settop(L, 2);
    push_shown(L, 1, MESSAGE_MAX, NULL);
    message = push_visible(L, lua_gettop(L), TEXT_MAX);
    luaL_checkstack(L, FIELDS_MAX * 3 + 8, "too many fields");
    if (!lua_isnoneornil(L, 2)) {
        if (!lua_istable(L, 2)) {
            check_dot(L, 1);
            script_raise(L, "ctx.log takes a message and a table of fields, not %s", kind_of(L, 2));
        }
        settle(L, 2);
        for (lua_pushnil(L); count < FIELDS_MAX && lua_next(L, 2);) {
            if (lua_type(L, -2) == LUA_TSTRING)
                fields[count++] = read_field(L, &room);
            lua_pop(L, 1); /* the value; its text, if any, lies below the key now */
        }
    }
    write_place(L, place);
    fields[count++] = log_str("source", place);
    fields[count] = (struct log_field){.key = NULL};
    log_write(level, message, fields);
    return 0;
}

void push_log(lua_State *L)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    lua_createtable(L, 0, 4);
    for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++) {
        lua_pushinteger(L, level);
        lua_pushcclosure(L, l_log, 1);
        lua_setfield(L, -2, names[level]);
    }
}
