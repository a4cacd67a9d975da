/* SPDX-License-Identifier: MIT */
#include "script/bind_db.h"

#include "base/text.h"

#include <string.h>

const char *const bind_type_names[] = {"text", "integer", "real", "boolean", "json"};

/* Which columns are set, as bits; false when the table has more columns than there are bits. */
static bool column_bits(const struct table *t, const bool *set, uint64_t *out)
{
    *out = 0;
    if (t->count > KEPT_COLUMNS_MAX)
        return false;
    for (int i = 0; set && i < t->count; i++)
        *out |= (uint64_t)set[i] << i;
    return true;
}

struct stmt *find_kept(lua_State *L, struct table *t, enum statement_kind kind, const bool *set)
{
    uint64_t columns;

    end_left_over(script_of(L));
    if (!column_bits(t, set, &columns))
        return NULL;
    for (int i = 0; i < KEPT_MAX; i++)
        if (t->kept[i].stmt && t->kept[i].kind == kind && t->kept[i].columns == columns)
            return t->kept[i].stmt;
    return NULL;
}

struct stmt *keep_statement(lua_State *L, struct table *t, enum statement_kind kind,
                            const bool *set)
{
    unsigned i = t->next_kept;
    struct stmt *stmt;
    uint64_t columns;

    if (!column_bits(t, set, &columns)) {
        stmt = check_statement(L); /* stays on the stack, and so alive */
        return stmt;
    }
    lua_getiuservalue(L, 1, 1);
    lua_insert(L, -2);
    t->kept[i].stmt = NULL; /* its anchor is about to go */
    stmt = push_statement(L, false);
    lua_rawseti(L, -2, ANCHOR_KEPT + (int)i + 1);
    lua_pop(L, 1);
    t->kept[i] = (struct kept_statement){kind, columns, stmt};
    t->next_kept = (i + 1) % KEPT_MAX;
    return stmt;
}

struct table *check_handle(lua_State *L, int index)
{
    return luaL_checkudata(L, index, TYPE_TABLE);
}

/* native.unknown(what, name, known, where, closest?): raises "no column 'nmae' in t; it has name, user_id".
 * closest is what was meant, where the spelling doesn't tell. */
int l_unknown(lua_State *L)
{
    const char *what = luaL_checkstring(L, 1), *where = luaL_checkstring(L, 4);
    lua_Integer count = luaL_len(L, 3);
    const char *names[COLUMNS_MAX];
    const char *name, *closest = NULL;
    luaL_Buffer list;
    int known = 0;

    lua_settop(L, 5);
    luaL_tolstring(L, 2, NULL);
    name = push_visible(L, lua_gettop(L), ERR_TEXT_MAX);
    luaL_checkstack(L, COLUMNS_MAX + LUA_MINSTACK, NULL);
    for (lua_Integer i = 1; i <= count && known < COLUMNS_MAX; i++) {
        if (lua_rawgeti(L, 3, i) == LUA_TSTRING)
            names[known++] = lua_tostring(L, -1);
        else
            lua_pop(L, 1);
    }
    if (!lua_isnil(L, 5))
        closest = lua_tostring(L, 5);
    else if (lua_type(L, 2) == LUA_TSTRING)
        closest = text_closest(name, names, (size_t)known);
    luaL_buffinit(L, &list);
    for (int i = 0; i < known; i++) {
        luaL_addstring(&list, i ? ", " : "");
        luaL_addstring(&list, names[i]);
    }
    luaL_pushresult(&list);
    script_raise(L, "no %s '%s' in %s; it has %s%s%s%s", what, name, where,
                 known ? lua_tostring(L, -1) : "none", closest ? " (did you mean '" : "",
                 closest ? closest : "", closest ? "'?)" : "");
}

static void raise_unknown_column(lua_State *L, const struct table *t, int name_index)
{
    lua_pushcfunction(L, l_unknown);
    lua_pushliteral(L, "column");
    lua_pushvalue(L, name_index < 0 ? name_index - 2 : name_index);
    lua_createtable(L, t->count, 0);
    for (int i = 0; i < t->count; i++) {
        lua_pushstring(L, t->columns[i].name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushstring(L, t->name);
    lua_call(L, 4, 0);
}

/* Lua keeps short strings once, and our names are its strings: usually the pointer tells. */
int find_column(const struct table *t, const char *name, size_t len)
{
    for (int i = 0; i < t->count; i++)
        if (t->columns[i].name == name)
            return i;
    if (strlen(name) != len) /* none of ours has a NUL in it */
        return -1;
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->columns[i].name, name) == 0)
            return i;
    return -1;
}

int check_column(lua_State *L, const struct table *t, int name_index)
{
    int i = -1;
    size_t len;

    if (lua_type(L, name_index) == LUA_TSTRING) {
        const char *name = lua_tolstring(L, name_index, &len);

        i = find_column(t, name, len);
    }
    if (i < 0)
        raise_unknown_column(L, t, name_index);
    return i;
}

static enum script_type check_type_name(lua_State *L, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(bind_type_names); i++)
        if (strcmp(bind_type_names[i], name) == 0)
            return (enum script_type)i;
    luaL_error(L, "no type %s", name);
    return SCRIPT_TEXT;
}

/* native.table(name, writable, columns) -> handle  [-3, +1, v] */
int l_table(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_Integer count = luaL_len(L, 3);
    struct table *t;

    if (count > COLUMNS_MAX)
        script_raise(L, "table %s has more than %d columns", name, COLUMNS_MAX);
    t = lua_newuserdatauv(L, sizeof(*t) + (size_t)count * sizeof(t->columns[0]), 1);
    luaL_setmetatable(L, TYPE_TABLE);
    t->name = name;
    t->writable = lua_toboolean(L, 2);
    t->count = (int)count;
    memset(t->kept, 0, sizeof(t->kept));
    t->next_kept = 0;
    lua_createtable(L, (int)count, KEPT_MAX);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, ANCHOR_NAMES);
    for (int i = 0; i < t->count; i++) {
        struct column *c = &t->columns[i];

        lua_rawgeti(L, 3, i + 1);
        lua_getfield(L, -1, "type");
        c->type = check_type_name(L, luaL_checkstring(L, -1));
        lua_getfield(L, -2, "nullable");
        c->nullable = lua_toboolean(L, -1);
        lua_getfield(L, -3, "default");
        c->has_default = !lua_isnil(L, -1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -6, ANCHOR_DEFAULTS + i + 1); /* for replace */
        lua_getfield(L, -4, "name");
        c->name = luaL_checkstring(L, -1);
        c->system = c->name[0] == '_';
        lua_rawseti(L, -6, ANCHOR_NAMES + i + 1);
        lua_pop(L, 4);
    }
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* native.check(handle, column, value): raises when the column can't hold it  [-3, +0, v] */
int l_check(lua_State *L)
{
    struct table *t = check_handle(L, 1);
    int i = check_column(L, t, 2);

    push_stored(L, t, &t->columns[i], 3);
    return 0;
}
