/* SPDX-License-Identifier: MIT */
/*
 * lazy - the tables of an event or an action, filled as they are read.
 *
 * Most functions read two or three fields of some thirty, and to make strings and tables of all the
 * others would be most of what a call costs. So a table of a document is empty at first, and its
 * __index makes the member that is asked for.
 *
 *   lazy     has our metatable; what isn't in it may still be in the document
 *   settled  has all its members and no metatable: a table as any other, for ever
 *
 * No script can tell the one from the other. Whatever would see more than a read of a field settles
 * the table first: an assignment to a name that isn't there (__newindex); next, pairs, rawget and
 * getmetatable, which are replaced here; rawset and setmetatable, in lua/sandbox.lua; and all of our
 * own that looks at a script's table raw (settle). A member that was taken is marked in the document:
 * it doesn't come back when the script sets it to nil.
 *
 * The document is a copy, in a userdata: a script may keep a table for longer than its call. Two
 * hidden fields of a lazy table lead to it, under whole numbers that were drawn by lot: nobody can
 * guess them, and Lua finds them sooner than the addresses that C code usually has as keys.
 *
 * Threads    the one that runs the script.
 * Limits     what is larger than DOCUMENT_MAX_BYTES becomes tables at once: one small table that is
 *            kept would keep all of it in memory.
 */
#include "crypto/hmac.h"
#include "script/script_state.h"

#include <string.h>

enum {
    DOCUMENT_MAX_BYTES = 16 * 1024,
    FEW_NODES = 5,    /* so small an object is made sooner than it is put off */
    FIELDS_FIRST = 6, /* room for so many, before Lua makes the table larger */
    HIDDEN_FIELDS = 2,
};

/* The nodes are ours: one that is a member's name becomes TAKEN when the table has got the member, or
 * has been told what to have in its place. */
enum { TAKEN = JSON_NULL };

/* Keys so large are in no list: a table's length doesn't see them. */
#define LAZY_KEY_LEAST ((lua_Integer)1 << 61)

struct document {
    struct json json; /* its text stands behind the nodes */
    struct json_node nodes[];
};

/* The keys of the hidden fields: these and the script's number. */
enum { HIDDEN_DOCUMENT, HIDDEN_OBJECT };

/* [-0, +1, m] */
static struct document *push_copy(lua_State *L, const struct json *json, size_t text_len)
{
    size_t nodes_bytes = json->count * sizeof(json->nodes[0]);
    struct document *document = lua_newuserdatauv(L, sizeof(*document) + nodes_bytes + text_len, 0);
    char *text = (char *)document->nodes + nodes_bytes;

    memcpy(document->nodes, json->nodes, nodes_bytes);
    memcpy(text, json->text, text_len);
    document->json = (struct json){.text = text, .nodes = document->nodes, .count = json->count};
    return document;
}

/* A lazy table of the object; the document is at index, which is absolute. [-0, +1, m] */
static void push_object(lua_State *L, const struct document *document, int index, uint32_t object)
{
    const struct script *script = script_of(L);
    uint32_t count = document->nodes[object].count;

    lua_createtable(L, 0, HIDDEN_FIELDS + (int)(count < FIELDS_FIRST ? count : FIELDS_FIRST));
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, script->lazy_key + HIDDEN_DOCUMENT);
    lua_pushinteger(L, (lua_Integer)object);
    lua_rawseti(L, -2, script->lazy_key + HIDDEN_OBJECT);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->lazy_reference);
    lua_setmetatable(L, -2);
}

/* [-0, +1, m] */
static void push_value(lua_State *L, const struct document *document, int index, uint32_t value)
{
    const struct json_node *node = &document->nodes[value];

    if (node->type == JSON_OBJECT && node->next - value > FEW_NODES)
        push_object(L, document, index, value);
    else
        push_json(L, &document->json, value, false);
}

void push_document(lua_State *L, const struct json *json)
{
    const struct json_node *root = &json->nodes[0];
    size_t text_len = (size_t)root->start + root->len;
    const struct document *document;

    if (root->type != JSON_OBJECT || text_len + json->count * sizeof(*root) > DOCUMENT_MAX_BYTES) {
        push_json(L, json, 0, false);
        return;
    }
    document = push_copy(L, json, text_len);
    push_object(L, document, lua_gettop(L), 0);
    lua_remove(L, -2);
}

/* Push the document of the lazy table at index. [-0, +1, -] */
static struct document *push_source(lua_State *L, int index, uint32_t *out_object)
{
    const struct script *script = script_of(L);

    lua_rawgeti(L, index, script->lazy_key + HIDDEN_OBJECT);
    *out_object = (uint32_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    lua_rawgeti(L, index, script->lazy_key + HIDDEN_DOCUMENT);
    return lua_touserdata(L, -1);
}

/* Whether the member's name is this one, and hasn't been taken. */
static bool is_name(const struct document *document, uint32_t key, const char *name, size_t len)
{
    const struct json_node *node = &document->nodes[key];

    if (node->type == TAKEN)
        return false;
    if (!node->escaped)
        return node->len == len && memcmp(document->json.text + node->start, name, len) == 0;
    return strlen(name) == len && json_equals(&document->json, key, name);
}

static uint32_t next_member(const struct document *document, uint32_t key)
{
    return document->nodes[key + 1].next;
}

struct found {
    uint32_t value; /* of several members of that name the last one; JSON_ABSENT: none is left */
    uint32_t members;
};

static struct found find_members(const struct document *document, uint32_t object, const char *name,
                                 size_t len)
{
    uint32_t end = document->nodes[object].next;
    struct found found = {JSON_ABSENT, 0};

    for (uint32_t key = object + 1; key < end; key = next_member(document, key)) {
        if (is_name(document, key, name, len)) {
            found.value = key + 1;
            found.members++;
        }
    }
    return found;
}

static void mark_taken(struct document *document, uint32_t object, struct found found,
                       const char *name, size_t len)
{
    uint32_t last = found.value - 1;

    for (uint32_t key = object + 1; found.members > 1 && key < last;
         key = next_member(document, key))
        if (is_name(document, key, name, len))
            document->nodes[key].type = TAKEN;
    document->nodes[last].type = TAKEN;
}

/* __index(table, name) */
static int l_index(lua_State *L)
{
    enum { TABLE = 1, NAME, DOCUMENT };
    struct document *document;
    struct found found;
    uint32_t object;
    const char *name;
    size_t len;

    if (lua_type(L, NAME) != LUA_TSTRING)
        return 0;
    name = lua_tolstring(L, NAME, &len);
    document = push_source(L, TABLE, &object);
    found = find_members(document, object, name, len);
    if (found.value == JSON_ABSENT)
        return 0;
    push_value(L, document, DOCUMENT, found.value);
    lua_pushvalue(L, NAME);
    lua_pushvalue(L, -2);
    lua_rawset(L, TABLE);
    mark_taken(document, object, found, name, len);
    return 1;
}

/* Once more what Lua itself says of a key that can't be one: it would say it without the place. */
static void check_key(lua_State *L, int index)
{
    if (lua_isnil(L, index))
        luaL_error(L, "table index is nil");
    if (lua_type(L, index) == LUA_TNUMBER && lua_tonumber(L, index) != lua_tonumber(L, index))
        luaL_error(L, "table index is NaN");
}

/* __newindex(table, key, value) */
static int l_newindex(lua_State *L)
{
    check_key(L, 2);
    settle(L, 1);
    lua_rawset(L, 1);
    return 0;
}

/* The table at index, which is absolute, gets what it hasn't got yet: tables that are lazy themselves,
 * unless whole is set. An error leaves it lazy. */
static void fill(lua_State *L, int index, bool whole)
{
    lua_Integer hidden = script_of(L)->lazy_key;
    struct document *document;
    uint32_t object, end;
    int source;

    luaL_checkstack(L, LUA_MINSTACK, "a table with too many levels");
    document = push_source(L, index, &object);
    source = lua_gettop(L);
    end = document->nodes[object].next;
    for (uint32_t key = object + 1; key < end; key = next_member(document, key)) {
        if (document->nodes[key].type == TAKEN)
            continue;
        push_json(L, &document->json, key, false);
        if (whole)
            push_json(L, &document->json, key + 1, false);
        else
            push_value(L, document, source, key + 1);
        lua_rawset(L, index);
    }
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawseti(L, index, hidden + HIDDEN_DOCUMENT);
    lua_pushnil(L);
    lua_rawseti(L, index, hidden + HIDDEN_OBJECT);
    lua_pushnil(L);
    lua_setmetatable(L, index);
}

static bool is_lazy(lua_State *L, int index)
{
    bool lazy;

    if (!lua_getmetatable(L, index))
        return false;
    lazy = lua_topointer(L, -1) == script_of(L)->lazy_metatable;
    lua_pop(L, 1);
    return lazy;
}

void settle(lua_State *L, int index)
{
    if (is_lazy(L, index))
        fill(L, lua_absindex(L, index), false);
}

void settle_whole(lua_State *L, int index)
{
    if (is_lazy(L, index))
        fill(L, lua_absindex(L, index), true);
}

/* ------------------------------------------------------------------------- Lua's own functions */

int lazy_next(lua_State *L)
{
    bool is_first;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    settle(L, 1);
    is_first = lua_isnil(L, 2);
    if (lua_next(L, 1))
        return 2;
    if (is_first && is_no_data(L, 1))
        luaL_callmeta(L, 1, "__len"); /* a query isn't empty: its own raises */
    lua_pushnil(L);
    return 1;
}

/* What __pairs has returned; it may have yielded. */
static int return_three(lua_State *L, int status, lua_KContext context)
{
    (void)L, (void)status, (void)context;
    return 3;
}

static int l_pairs(lua_State *L)
{
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_callk(L, 1, 3, 0, return_three);
    } else {
        lua_pushcfunction(L, lazy_next);
        lua_pushvalue(L, 1);
        lua_pushnil(L);
    }
    return 3;
}

static int l_rawget(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    settle(L, 1);
    lua_rawget(L, 1);
    return 1;
}

static int l_getmetatable(lua_State *L)
{
    luaL_checkany(L, 1);
    settle(L, 1);
    if (!lua_getmetatable(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    luaL_getmetafield(L, 1, "__metatable"); /* above the metatable, or nothing */
    return 1;
}

/* native.settle(value): makes a table of it that may be looked at raw; any other value stays as it is */
static int l_settle(lua_State *L)
{
    lua_settop(L, 1);
    settle(L, 1);
    return 0;
}

void lazy_open_library(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"next", lazy_next},  {"pairs", l_pairs},
        {"rawget", l_rawget}, {"getmetatable", l_getmetatable},
        {NULL, NULL},
    };

    lua_getfield(L, -1, "base");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}

void lazy_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__index", l_index}, {"__newindex", l_newindex}, {NULL, NULL}};

    struct script *script = script_of(L);
    uint64_t lot;
    struct err err;

    if (crypto_random(&lot, sizeof(lot), &err) < 0)
        luaL_error(L, "%s", err.text);
    script->lazy_key = LAZY_KEY_LEAST + (lua_Integer)(lot % LAZY_KEY_LEAST);
    lua_pushcfunction(L, l_settle);
    lua_setfield(L, -2, "settle");
    luaL_newlib(L, meta);
    script->lazy_metatable = lua_topointer(L, -1);
    script->lazy_reference = luaL_ref(L, LUA_REGISTRYINDEX);
}
