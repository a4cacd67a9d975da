/* SPDX-License-Identifier: MIT */
#include "script/script_state.h"

#include "base/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENCODE_DEPTH_MAX = 100,
    ENCODE_MAX_BYTES = 16 * 1024 * 1024,
    SHORT_STRING = 512,
    NAME_SHOWN_MAX = 40,
    PATH_SHOWN_MAX = 200,
    REASON_MAX = 400,
    NAMES_FEW = 32, /* members of an object that are put in order on the stack */
};

/* authkit.null: a light userdata, since that can be compared and can't be changed. */
static char null_mark;

bool is_null(lua_State *L, int index)
{
    return lua_touserdata(L, index) == &null_mark;
}

static int l_buffer_gc(lua_State *L)
{
    buf_release(luaL_checkudata(L, 1, TYPE_BUFFER));
    return 0;
}

struct buf *push_buffer(lua_State *L, size_t max_bytes)
{
    struct buf *buf = lua_newuserdatauv(L, sizeof(*buf), 0);

    *buf = BUF_INIT(max_bytes);
    luaL_setmetatable(L, TYPE_BUFFER);
    return buf;
}

/* Not to be inlined: push_json calls itself up to JSON_DEPTH_MAX times, and the threads of the server
 * have small stacks. */
static __attribute__((noinline)) void push_string(lua_State *L, const struct json *json,
                                                  uint32_t node)
{
    const struct json_node *n = &json->nodes[node];
    luaL_Buffer buffer;
    char small[SHORT_STRING];

    if (!n->escaped) {
        lua_pushlstring(L, json->text + n->start, n->len);
    } else if (n->len <= sizeof(small)) {
        lua_pushlstring(L, small, json_decode(json, node, small));
    } else {
        char *out = luaL_buffinitsize(L, &buffer, n->len);

        luaL_pushresultsize(&buffer, json_decode(json, node, out));
    }
}

static void push_number(lua_State *L, const struct json *json, uint32_t node)
{
    int64_t integer;

    if (json_to_int(json, node, &integer))
        lua_pushinteger(L, integer);
    else
        lua_pushnumber(L, json_to_real(json, node));
}

static void push_array(lua_State *L, const struct json *json, uint32_t node, bool keep_null)
{
    uint32_t end = json->nodes[node].next;
    lua_Integer index = 0;

    lua_createtable(L, (int)json->nodes[node].count, 0);
    for (uint32_t value = node + 1; value < end; value = json->nodes[value].next) {
        push_json(L, json, value, keep_null);
        lua_rawseti(L, -2, ++index);
    }
    luaL_setmetatable(L, REGISTRY_ARRAY);
}

static void push_object(lua_State *L, const struct json *json, uint32_t node, bool keep_null)
{
    uint32_t end = json->nodes[node].next;

    lua_createtable(L, 0, (int)json->nodes[node].count);
    for (uint32_t key = node + 1; key < end; key = json->nodes[key + 1].next) {
        push_string(L, json, key);
        push_json(L, json, key + 1, keep_null);
        lua_rawset(L, -3);
    }
}

void push_json(lua_State *L, const struct json *json, uint32_t node, bool keep_null)
{
    luaL_checkstack(L, 4, "a JSON text with too many levels");
    switch (json->nodes[node].type) {
    case JSON_FALSE:
    case JSON_TRUE:
        lua_pushboolean(L, json->nodes[node].type == JSON_TRUE);
        break;
    case JSON_NUMBER:
        push_number(L, json, node);
        break;
    case JSON_STRING:
        push_string(L, json, node);
        break;
    case JSON_ARRAY:
        push_array(L, json, node, keep_null);
        break;
    case JSON_OBJECT:
        push_object(L, json, node, keep_null);
        break;
    default:
        if (keep_null)
            lua_pushlightuserdata(L, &null_mark);
        else
            lua_pushnil(L);
    }
}

/* A table that is being written, and which of its members is. */
struct place {
    const struct place *outer;
    int name; /* where on the stack its name is; 0: the table is a list */
    lua_Integer position;
};

/* Where the text goes, and what it is for: "things.extra: " in front of what is wrong, or "". */
struct encoder {
    struct buf *out;
    const char *label;
    const struct place *at; /* the innermost; NULL: the value itself */
};

static void put_value(lua_State *L, int index, struct encoder *e, int depth);

static bool is_plain_name(const char *name, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char both[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    return len > 0 && len <= NAME_SHOWN_MAX && strspn(name, letters) > 0 &&
           strspn(name, both) == len;
}

/* One step of a path: "[2]", ".price" or "["a b"]". */
static void format_step(lua_State *L, const struct place *place, bool is_first, char *out,
                        size_t size)
{
    size_t len;
    const char *name;

    if (!place->name) {
        snprintf(out, size, "[%" PRId64 "]", (int64_t)place->position);
        return;
    }
    name = lua_tolstring(L, place->name, &len);
    if (is_plain_name(name, len))
        snprintf(out, size, "%s%s", is_first ? "" : ".", name);
    else
        snprintf(out, size, "[\"%.*s\"]", NAME_SHOWN_MAX, name);
    text_make_utf8(out);
    text_make_plain(out);
}

/* "items[2].price: ", or "" for the value itself. */
static void format_path(lua_State *L, const struct encoder *e, char out[PATH_SHOWN_MAX])
{
    const struct place *places[ENCODE_DEPTH_MAX + 2];
    char step[NAME_SHOWN_MAX + 8];
    size_t count = 0, len = 0;
    bool is_cut = false;

    for (const struct place *place = e->at; place; place = place->outer)
        places[count++] = place;
    out[0] = '\0';
    for (size_t i = count; i-- > 0 && !is_cut;) {
        format_step(L, places[i], i == count - 1, step, sizeof(step));
        is_cut = len + strlen(step) + sizeof("…: ") > PATH_SHOWN_MAX;
        len += (size_t)snprintf(out + len, PATH_SHOWN_MAX - len, "%s", is_cut ? "…" : step);
    }
    if (count > 0)
        snprintf(out + len, PATH_SHOWN_MAX - len, ": ");
}

/* Not to be inlined: put_value calls itself up to ENCODE_DEPTH_MAX times. */
static __attribute__((noinline, noreturn))
PRINTF_LIKE(3, 4) void refuse(lua_State *L, const struct encoder *e, const char *fmt, ...)
{
    char path[PATH_SHOWN_MAX], text[REASON_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    format_path(L, e, path);
    script_raise(L, "%s%s%s", e->label, path, text);
}

static void put_number(lua_State *L, int index, const struct encoder *e)
{
    double real;
    char text[40];

    if (lua_isinteger(L, index)) {
        buf_printf(e->out, "%" PRId64, (int64_t)lua_tointeger(L, index));
        return;
    }
    real = lua_tonumber(L, index);
    if (!isfinite(real))
        refuse(L, e, "JSON has no number for %s", isnan(real) ? "nan" : "inf");
    snprintf(text, sizeof(text), "%.15g", real);
    if (strtod(text, NULL) != real)
        snprintf(text, sizeof(text), "%.17g", real);
    buf_puts(e->out, text);
}

static void put_string(lua_State *L, int index, const struct encoder *e)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);

    if (!text_is_utf8(text, len))
        refuse(L, e, "JSON can't hold a string that isn't valid UTF-8");
    buf_put_json_string(e->out, text, len);
}

bool is_marked_array(lua_State *L, int index)
{
    bool marked = false;

    if (lua_getmetatable(L, index)) {
        luaL_getmetatable(L, REGISTRY_ARRAY);
        marked = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    return marked;
}

/* Push its name, or nothing. */
static bool push_no_data_name(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return false;
    lua_pushliteral(L, "__metatable");
    lua_rawget(L, -2);
    lua_pushliteral(L, "__name");
    lua_rawget(L, -3);
    if (lua_isboolean(L, -2) && lua_type(L, -1) == LUA_TSTRING) {
        lua_replace(L, -3);
        lua_pop(L, 1);
        return true;
    }
    lua_pop(L, 3);
    return false;
}

bool is_no_data(lua_State *L, int index)
{
    if (!push_no_data_name(L, index))
        return false;
    lua_pop(L, 1);
    return true;
}

/* It would look empty, and is refused by its name. */
static void check_is_data(lua_State *L, int index, const struct encoder *e)
{
    int top = lua_gettop(L) + 1;

    if (!push_no_data_name(L, index))
        return;
    check_dot(L, index);
    if (luaL_getmetafield(L, index, "__instead") != LUA_TSTRING)
        lua_pushliteral(L, "");
    refuse(L, e, "%s can't be JSON%s", lua_tostring(L, top), lua_tostring(L, -1));
}

/*
 * How long the list is: up to its last element, with null where there is none. What would be lost
 * without a word is refused: names (but the cursor of a page), odd keys, and more holes than values.
 */
static lua_Integer list_length(lua_State *L, int index, const struct encoder *e)
{
    lua_Integer last = 0, values = 0;

    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_isinteger(L, -2) && lua_tointeger(L, -2) > 0) {
            values++;
            if (lua_tointeger(L, -2) > last)
                last = lua_tointeger(L, -2);
        } else if (lua_type(L, -2) != LUA_TSTRING) {
            refuse(L, e, "a list with a key that is no position can't be JSON");
        } else if (lua_rawlen(L, -2) != strlen("cursor") ||
                   strcmp(lua_tostring(L, -2), "cursor") != 0 || !is_marked_array(L, index)) {
            refuse(L, e, "a table with both a list and names ('%s') can't be JSON",
                   push_visible(L, lua_gettop(L) - 1, ERR_TEXT_MAX));
        }
    }
    if (last > 2 * values + 16)
        refuse(L, e, "a list with more holes than values can't be JSON");
    return last;
}

static void put_list(lua_State *L, int index, struct encoder *e, int depth)
{
    lua_Integer count = list_length(L, index, e);
    struct place here = {.outer = e->at};

    e->at = &here;
    buf_putc(e->out, '[');
    for (lua_Integer i = 1; i <= count; i++) {
        here.position = i;
        if (i > 1)
            buf_putc(e->out, ',');
        lua_rawgeti(L, index, i);
        put_value(L, lua_gettop(L), e, depth);
        lua_pop(L, 1);
    }
    buf_putc(e->out, ']');
    e->at = here.outer;
}

static int compare_names(const void *a, const void *b)
{
    const struct member_name *one = a, *other = b;
    size_t len = one->len < other->len ? one->len : other->len;
    int order = memcmp(one->text, other->text, len);

    return order != 0 ? order : (one->len > other->len) - (one->len < other->len);
}

/* Most objects have few names, and a call for each comparison would be what takes longest. */
void sort_names(struct member_name *names, size_t count)
{
    if (count > NAMES_FEW) {
        qsort(names, count, sizeof(*names), compare_names);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        struct member_name name = names[i];
        size_t at = i;

        for (; at > 0 && compare_names(&name, &names[at - 1]) < 0; at--)
            names[at] = names[at - 1];
        names[at] = name;
    }
}

/* Push the names in the table: a weak one may lose them while it is written. Returns how many.
 * [-0, +n, v] */
static size_t push_names(lua_State *L, int index, const struct encoder *e)
{
    size_t count = 0;

    for (lua_pushnil(L); lua_next(L, index); count++) {
        if (lua_type(L, -2) != LUA_TSTRING)
            refuse(L, e, "a table with both a list and names, or with a %s as a key, can't be JSON",
                   luaL_typename(L, -2));
        lua_pop(L, 1);
        luaL_checkstack(L, LUA_MINSTACK, "a table with too many names");
        lua_pushvalue(L, -1);
    }
    return count;
}

/* By name: each Lua state keeps a table in an order of its own, but the same table must be the same
 * text, or an ETag would say that it has changed. */
static void put_members(lua_State *L, int index, struct encoder *e, int depth)
{
    int top = lua_gettop(L);
    size_t count = push_names(L, index, e);
    struct member_name few[NAMES_FEW];
    struct member_name *names =
        count <= NAMES_FEW ? few : lua_newuserdatauv(L, count * sizeof(*names), 0);
    struct place here = {.outer = e->at};

    for (size_t i = 0; i < count; i++) {
        names[i].index = top + 1 + (int)i;
        names[i].text = lua_tolstring(L, names[i].index, &names[i].len);
    }
    sort_names(names, count);
    e->at = &here;
    buf_putc(e->out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_putc(e->out, ',');
        here.name = names[i].index;
        put_string(L, names[i].index, e);
        buf_putc(e->out, ':');
        lua_pushvalue(L, names[i].index);
        lua_rawget(L, index);
        put_value(L, lua_gettop(L), e, depth);
        lua_pop(L, 1);
    }
    buf_putc(e->out, '}');
    e->at = here.outer;
    lua_settop(L, top);
}

/* A table that is in itself many times over, at many levels, has no end to speak of: once the text is
 * too long, or the time is up, no further one is begun. */
static void check_may_go_on(lua_State *L, const struct encoder *e)
{
    if (!buf_ok(e->out))
        script_raise(L, "%sthe JSON text would be longer than %zu bytes", e->label, e->out->max);
    budget_check(L);
}

bool is_list(lua_State *L, int index)
{
    return is_marked_array(L, index) || lua_rawlen(L, index) > 0;
}

static void put_value(lua_State *L, int index, struct encoder *e, int depth)
{
    luaL_checkstack(L, 6, "a table with too many levels");
    if (depth > ENCODE_DEPTH_MAX)
        refuse(L, e, "a table with more than %d levels can't be JSON; does it contain itself?",
               ENCODE_DEPTH_MAX);
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        buf_puts(e->out, "null");
        break;
    case LUA_TBOOLEAN:
        buf_puts(e->out, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        put_number(L, index, e);
        break;
    case LUA_TSTRING:
        put_string(L, index, e);
        break;
    case LUA_TTABLE:
        check_may_go_on(L, e);
        settle_whole(L, index);
        check_is_data(L, index, e);
        if (is_list(L, index))
            put_list(L, index, e, depth + 1);
        else
            put_members(L, index, e, depth + 1);
        break;
    default:
        if (!is_null(L, index))
            refuse(L, e, "a %s can't be JSON", luaL_typename(L, index));
        buf_puts(e->out, "null");
    }
}

void put_json(lua_State *L, int index, struct buf *out, const char *label)
{
    struct encoder encoder = {.out = out, .label = label};

    put_value(L, lua_absindex(L, index), &encoder, 0);
    if (!buf_ok(out))
        script_raise(L, "%sthe JSON text would be longer than %zu bytes", label, out->max);
}

/* authkit.json.encode(value) -> text  [-1, +1, v] */
int l_json_encode(lua_State *L)
{
    struct buf *out;

    luaL_checkany(L, 1);
    out = push_buffer(L, ENCODE_MAX_BYTES);
    put_json(L, 1, out, "");
    lua_pushlstring(L, buf_text(out), out->len);
    buf_release(out);
    return 1;
}

bool check_keeps_null(lua_State *L, int index, const char *called)
{
    if (lua_isnoneornil(L, index))
        return false;
    if (!is_null(L, index)) {
        check_dot(L, 1);
        script_raise(L, "%s wants nothing, or authkit.null to have null kept as that, not %s",
                     called, kind_of(L, index));
    }
    return true;
}

/* authkit.json.decode(text, authkit.null?) -> value, or nil and what is wrong  [-1 or 2, +1 or 2, v] */
int l_json_decode(lua_State *L)
{
    struct json *scratch = &script_of(L)->scratch;
    bool keep_null = check_keeps_null(L, 2, "authkit.json.decode behind its text");
    struct err err;
    size_t len;
    const char *text;

    if (lua_type(L, 1) != LUA_TSTRING) {
        lua_settop(L, 1);
        check_dot(L, 1);
        script_raise(L, "authkit.json.decode wants a text, not %s", kind_of(L, 1));
    }
    text = lua_tolstring(L, 1, &len);
    if (json_read(scratch, text, len, &err) < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
        return 2;
    }
    push_json(L, scratch, 0, keep_null);
    return 1;
}

/* authkit.json.array(list?) -> the list, marked as a JSON array even when empty  [-1, +1, v] */
int l_json_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    } else if (!lua_istable(L, 1)) {
        script_raise(L, "authkit.json.array wants a list, not %s", kind_of(L, 1));
    }
    lua_settop(L, 1);
    settle(L, 1);
    if (is_marked_array(L, 1))
        return 1;
    if (lua_getmetatable(L, 1)) {
        check_dot(L, 1);
        script_raise(L, "authkit.json.array: the table has a metatable already");
    }
    luaL_setmetatable(L, REGISTRY_ARRAY);
    return 1;
}

void values_open(lua_State *L)
{
    static const luaL_Reg buffer_meta[] = {{"__gc", l_buffer_gc}, {NULL, NULL}};

    luaL_newmetatable(L, TYPE_BUFFER);
    luaL_setfuncs(L, buffer_meta, 0);
    luaL_newmetatable(L, REGISTRY_ARRAY);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);

    /* On top is the table of native functions. */
    lua_pushlightuserdata(L, &null_mark);
    lua_setfield(L, -2, "null");
    lua_pushcfunction(L, l_json_encode);
    lua_setfield(L, -2, "json_encode");
    lua_pushcfunction(L, l_json_decode);
    lua_setfield(L, -2, "json_decode");
    lua_pushcfunction(L, l_json_array);
    lua_setfield(L, -2, "json_array");
}
