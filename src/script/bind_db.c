/* SPDX-License-Identifier: MIT */
/*
 * bind_db - rows between Lua and the database: the native half of ctx.db (lua/db.lua is the other).
 *
 * A table's handle knows its columns. Values are checked and turned into what SQLite stores on the
 * Lua stack first, where raising is harmless; then they are bound and stepped without raising.
 * Statements are kept per state, by their text.
 */
#include "script/script_state.h"

#include "base/clock.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { COLUMNS_MAX = 200, STATEMENTS_MAX = 500, JSON_VALUE_MAX = 16 * 1024 * 1024 };

struct column {
    const char *name; /* anchored in the handle's user value */
    enum script_type type;
    bool nullable;
    bool has_default;
    bool system; /* _id, _creation_time */
};

/* The statements that insert, get and so on need, by what they do and the columns they set: building
 * their text each time would cost more than running them. */
enum statement_kind { GET, INSERT, UPDATE, DELETE };

struct kept_statement {
    enum statement_kind kind;
    uint64_t columns;
    struct stmt *stmt; /* anchored in the handle's user value; NULL: free */
};

enum { KEPT_MAX = 16, KEPT_COLUMNS_MAX = 64 };

struct table {
    const char *name;
    bool writable;
    int count;
    struct kept_statement kept[KEPT_MAX];
    unsigned next_kept; /* the one to be replaced next */
    struct column columns[];
};

/* What the user value of a handle, a list, keeps alive, and where in it. */
enum { ANCHOR_NAMES = 0, ANCHOR_DEFAULTS = COLUMNS_MAX, ANCHOR_KEPT = 2 * COLUMNS_MAX };

static const char *const type_names[] = {"text", "integer", "real", "boolean", "json"};

/* ------------------------------------------------------------------------- statements */

static int l_statement_gc(lua_State *L)
{
    struct stmt **slot = luaL_checkudata(L, 1, TYPE_STATEMENT);
    struct script *script = script_of(L);

    if (script->active == *slot)
        script->active = NULL;
    stmt_free(*slot);
    *slot = NULL;
    return 0;
}

static int raise_db_error(lua_State *L, const struct err *err)
{
    script_raise(L, "%s", err->text);
}

/* What ctx.db.sql may change: the script's own tables. */
static bool is_script_table(const char *name)
{
    static const char *const kept[] = {"workos_", "authkitd_", "sqlite_", "_"};

    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (strncasecmp(name, kept[i], strlen(kept[i])) == 0)
            return false;
    return true;
}

static void end_left_over(struct script *script)
{
    if (!script->active)
        return;
    stmt_reset(script->active); /* left behind by an error that the script caught */
    script->active = NULL;
}

/* Replaces the SQL text on top by a statement of it. [-1, +1, v] */
static struct stmt *push_statement(lua_State *L, bool guarded)
{
    struct db *db = check_db(L);
    struct stmt **slot = lua_newuserdatauv(L, sizeof(*slot), 0);
    const char *sql = lua_tostring(L, -2);
    struct err err;
    int rc;

    *slot = NULL;
    luaL_setmetatable(L, TYPE_STATEMENT);
    rc = guarded ? stmt_new_guarded(slot, db, sql, is_script_table, &err)
                 : stmt_new(slot, db, sql, &err);
    if (rc < 0)
        raise_db_error(L, &err);
    lua_replace(L, -2);
    return *slot;
}

/*
 * Replaces the SQL text on top by its statement, prepared at first use. Texts of the script itself
 * are guarded, and kept in a table of their own: ours are not guarded. [-1, +1, v]
 */
static struct stmt *check_statement_of(lua_State *L, const char *registry_name, bool guarded)
{
    struct script *script = script_of(L);
    struct stmt **slot, *stmt;

    end_left_over(script);
    lua_getfield(L, LUA_REGISTRYINDEX, registry_name);
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -2) == LUA_TUSERDATA) {
        slot = lua_touserdata(L, -1);
        lua_replace(L, -3);
        lua_pop(L, 1);
        return *slot;
    }
    lua_pop(L, 1);
    if (script->statement_count >= STATEMENTS_MAX) { /* a script that writes ever new texts */
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, registry_name);
        script->statement_count = 0;
    }
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -1);
    stmt = push_statement(L, guarded); /* sql statements sql statement */
    lua_pushvalue(L, -1);
    lua_replace(L, -5); /* statement statements sql statement */
    lua_rawset(L, -3);
    lua_pop(L, 1);
    script->statement_count++;
    return stmt;
}

static struct stmt *check_statement(lua_State *L)
{
    return check_statement_of(L, REGISTRY_STATEMENTS, false);
}

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

/* The statement that was kept for this, or NULL. */
static struct stmt *find_kept(lua_State *L, struct table *t, enum statement_kind kind,
                              const bool *set)
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

/* Prepare the text on top and keep it with the handle at index 1. [-1, +0, v] */
static struct stmt *keep_statement(lua_State *L, struct table *t, enum statement_kind kind,
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

/* Step; an error is raised. The statement counts as active until its end, or end_statement. */
static bool step(lua_State *L, struct stmt *stmt)
{
    struct script *script = script_of(L);
    struct err err;
    int rc;

    script->active = stmt;
    rc = stmt_step(stmt, &err);
    if (rc <= 0)
        script->active = NULL;
    if (rc < 0)
        raise_db_error(L, &err);
    return rc == 1;
}

static void end_statement(lua_State *L, struct stmt *stmt)
{
    script_of(L)->active = NULL;
    stmt_reset(stmt);
}

/* ------------------------------------------------------------------------- values */

static struct table *check_handle(lua_State *L, int index)
{
    return luaL_checkudata(L, index, TYPE_TABLE);
}

/*
 * The handle of the table that argument 1 names, put in its place. Upvalue 1 maps names to handles;
 * upvalue 2 is called for the ones that aren't in it yet, and raises when there is no such table.
 */
static struct table *check_named(lua_State *L)
{
    struct table *t;

    if (lua_gettop(L) == 0)
        lua_pushnil(L);
    lua_pushvalue(L, 1);
    lua_rawget(L, lua_upvalueindex(1));
    t = lua_touserdata(L, -1); /* nobody but us puts anything into that table */
    if (!t) {
        lua_pop(L, 1);
        lua_pushvalue(L, lua_upvalueindex(2));
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        t = check_handle(L, -1);
    }
    lua_replace(L, 1);
    return t;
}

static void raise_type(lua_State *L, const struct table *t, const struct column *c, int index)
{
    char shown[80] = "";

    if (lua_type(L, index) == LUA_TNUMBER || lua_type(L, index) == LUA_TBOOLEAN) {
        snprintf(shown, sizeof(shown), " (%s)", luaL_tolstring(L, index, NULL));
        lua_pop(L, 1);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        const char *text = lua_tostring(L, index);

        snprintf(shown, sizeof(shown), " (\"%.*s\"%s)",
                 (int)text_utf16_prefix(text, strlen(text), 20), text,
                 strlen(text) > 20 ? " and so on" : "");
    }
    script_raise(L, "%s.%s takes %s%s, not a %s%s", t->name, c->name,
                 c->type == SCRIPT_INTEGER ? "an "
                 : c->type == SCRIPT_TEXT  ? ""
                                           : "a ",
                 c->type == SCRIPT_INTEGER ? "integer" : type_names[c->type],
                 luaL_typename(L, index), shown);
}

static void check_text(lua_State *L, const struct table *t, const struct column *c, int index)
{
    size_t len;
    const char *text;

    if (lua_type(L, index) != LUA_TSTRING)
        raise_type(L, t, c, index);
    text = lua_tolstring(L, index, &len);
    if (memchr(text, '\0', len))
        script_raise(L, "%s.%s: the text has a NUL byte in it, which SQL texts can't hold", t->name,
                     c->name);
    if (!text_is_utf8(text, len))
        script_raise(L, "%s.%s: the text isn't valid UTF-8", t->name, c->name);
}

/* Push what SQLite is to store for the value at index: nil, an integer, a float or a string. */
static void push_stored(lua_State *L, const struct table *t, const struct column *c, int index)
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

/* Bind a value that push_stored made. The string must stay on the stack while the statement runs. */
static void bind_stored(lua_State *L, struct stmt *stmt, int parameter, int index)
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

/* Push a column of the current row as the script sees it. */
static void push_column(lua_State *L, struct stmt *stmt, int i, enum script_type type)
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
            push_json(L, scratch, 0);
        else
            lua_pushlstring(L, text, len);
    }
}

/* The handle of the table is at index 1, as with every function here. */
static void push_row(lua_State *L, struct stmt *stmt, const struct table *t)
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

/* ------------------------------------------------------------------------- names */

/* native.unknown(what, name, known, where): raises "no column 'nmae' in t; it has name, user_id" */
static int l_unknown(lua_State *L)
{
    const char *what = luaL_checkstring(L, 1), *where = luaL_checkstring(L, 4);
    lua_Integer count = luaL_len(L, 3);
    const char *name = luaL_tolstring(L, 2, NULL); /* index 5 */
    const char *names[COLUMNS_MAX];
    const char *closest;
    luaL_Buffer list;
    int known = 0;

    luaL_checkstack(L, COLUMNS_MAX + LUA_MINSTACK, NULL);
    for (lua_Integer i = 1; i <= count && known < COLUMNS_MAX; i++) {
        if (lua_rawgeti(L, 3, i) == LUA_TSTRING)
            names[known++] = lua_tostring(L, -1);
        else
            lua_pop(L, 1);
    }
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
static int find_column(const struct table *t, const char *name)
{
    for (int i = 0; i < t->count; i++)
        if (t->columns[i].name == name)
            return i;
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->columns[i].name, name) == 0)
            return i;
    return -1;
}

static int check_column(lua_State *L, const struct table *t, int name_index)
{
    int i =
        lua_type(L, name_index) == LUA_TSTRING ? find_column(t, lua_tostring(L, name_index)) : -1;

    if (i < 0)
        raise_unknown_column(L, t, name_index);
    return i;
}

static enum script_type check_type_name(lua_State *L, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(type_names); i++)
        if (strcmp(type_names[i], name) == 0)
            return (enum script_type)i;
    luaL_error(L, "no type %s", name);
    return SCRIPT_TEXT;
}

/* native.table(name, writable, columns) -> handle  [-3, +1, v] */
static int l_table(lua_State *L)
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
static int l_check(lua_State *L)
{
    struct table *t = check_handle(L, 1);
    int i = check_column(L, t, 2);

    push_stored(L, t, &t->columns[i], 3);
    return 0;
}

/* ------------------------------------------------------------------------- rows */

static void check_writable(lua_State *L, const struct table *t)
{
    check_db(L);
    if (!t->writable)
        script_raise(L,
                     "%s is kept by authkitd and can't be written; keep what is yours in a table "
                     "of your own",
                     t->name);
}

static lua_Integer check_id(lua_State *L, const struct table *t, int index)
{
    int is_whole = 0;
    lua_Integer id = 0;

    if (lua_type(L, index) == LUA_TNUMBER)
        id = lua_tointegerx(L, index, &is_whole);
    if (!is_whole)
        script_raise(L, "the _id of a row of %s is an integer, not a %s", t->name,
                     luaL_typename(L, index));
    return id;
}

/*
 * Check the fields of the table at index and leave what is to be stored in the slots that were
 * pushed, one a column, from first_slot on; set[i] says which were given.
 */
static void take_fields(lua_State *L, const struct table *t, int index, int first_slot, bool *set)
{
    for (lua_pushnil(L); lua_next(L, index);) {
        int i = check_column(L, t, lua_gettop(L) - 1);

        if (t->columns[i].system)
            script_raise(L, "%s.%s is set by authkitd and can't be given", t->name,
                         t->columns[i].name);
        push_stored(L, t, &t->columns[i], lua_gettop(L));
        if (lua_isnil(L, -1) && !t->columns[i].nullable)
            script_raise(L, "%s.%s can't be null: its type is %s, without '?'", t->name,
                         t->columns[i].name, type_names[t->columns[i].type]);
        lua_replace(L, first_slot + i);
        set[i] = true;
        lua_pop(L, 1);
    }
}

static void check_row(lua_State *L, const struct table *t, int index, const char *what)
{
    if (!lua_istable(L, index))
        script_raise(L, "%s %s wants a table of columns, not a %s", what, t->name,
                     luaL_typename(L, index));
}

/* Push "INSERT …" with the columns that are set (_creation_time is always the first). */
static void push_insert_sql(lua_State *L, const struct table *t, const bool *set)
{
    luaL_Buffer sql;

    luaL_buffinit(L, &sql);
    luaL_addstring(&sql, "INSERT INTO \"");
    luaL_addstring(&sql, t->name);
    luaL_addstring(&sql, "\" (\"_creation_time\"");
    for (int i = 0; i < t->count; i++) {
        if (set[i]) {
            luaL_addstring(&sql, ",\"");
            luaL_addstring(&sql, t->columns[i].name);
            luaL_addstring(&sql, "\"");
        }
    }
    luaL_addstring(&sql, ") VALUES (?");
    for (int i = 0; i < t->count; i++)
        if (set[i])
            luaL_addstring(&sql, ",?");
    luaL_addstring(&sql, ")");
    luaL_pushresult(&sql);
}

static void check_may_miss(lua_State *L, const struct table *t, const struct column *c)
{
    if (!c->nullable && !c->has_default && !c->system)
        script_raise(L, "%s.%s is missing: its type is %s, without '?'", t->name, c->name,
                     type_names[c->type]);
}

/* db.insert(table, row) -> _id  [-2, +1, v] */
static int l_insert(lua_State *L)
{
    struct table *t = check_named(L);
    bool set[COLUMNS_MAX] = {false};
    struct stmt *stmt;
    int parameter = 1;

    check_writable(L, t);
    check_row(L, t, 2, "insert into");
    lua_settop(L, 2);
    luaL_checkstack(L, t->count + LUA_MINSTACK, NULL);
    lua_settop(L, 2 + t->count);
    take_fields(L, t, 2, 3, set);
    for (int i = 0; i < t->count; i++)
        if (!set[i])
            check_may_miss(L, t, &t->columns[i]);
    stmt = find_kept(L, t, INSERT, set);
    if (!stmt) {
        push_insert_sql(L, t, set);
        stmt = keep_statement(L, t, INSERT, set);
    }
    stmt_bind_int(stmt, parameter++, clock_wall_ms());
    for (int i = 0; i < t->count; i++)
        if (set[i])
            bind_stored(L, stmt, parameter++, 3 + i);
    step(L, stmt);
    lua_pushinteger(L, db_last_insert_rowid(check_db(L)));
    return 1;
}

static void push_select_sql(lua_State *L, const struct table *t)
{
    luaL_Buffer sql;

    luaL_buffinit(L, &sql);
    for (int i = 0; i < t->count; i++) {
        luaL_addstring(&sql, i ? ", \"" : "SELECT \"");
        luaL_addstring(&sql, t->columns[i].name);
        luaL_addstring(&sql, "\"");
    }
    luaL_addstring(&sql, " FROM \"");
    luaL_addstring(&sql, t->name);
    luaL_addstring(&sql, "\" WHERE \"_id\" = ?");
    luaL_pushresult(&sql);
}

/* db.get(table, _id) -> row | nil  [-2, +1, v] */
static int l_get(lua_State *L)
{
    struct table *t = check_named(L);
    struct stmt *stmt;
    lua_Integer id;

    check_db(L);
    if (find_column(t, "_id") < 0)
        script_raise(L,
                     "rows of %s have no _id; use ctx.db.query(\"%s\"):where(\"id\", …):unique()",
                     t->name, t->name);
    id = check_id(L, t, 2);
    stmt = find_kept(L, t, GET, NULL);
    if (!stmt) {
        push_select_sql(L, t);
        stmt = keep_statement(L, t, GET, NULL);
    }
    stmt_bind_int(stmt, 1, id);
    if (!step(L, stmt))
        return 0;
    push_row(L, stmt, t);
    end_statement(L, stmt);
    return 1;
}

static void push_update_sql(lua_State *L, const struct table *t, const bool *set)
{
    luaL_Buffer sql;
    bool first = true;

    luaL_buffinit(L, &sql);
    luaL_addstring(&sql, "UPDATE \"");
    luaL_addstring(&sql, t->name);
    luaL_addstring(&sql, "\" SET ");
    for (int i = 0; i < t->count; i++) {
        if (set[i]) {
            luaL_addstring(&sql, first ? "\"" : ",\"");
            luaL_addstring(&sql, t->columns[i].name);
            luaL_addstring(&sql, "\"=?");
            first = false;
        }
    }
    luaL_addstring(&sql, first ? "\"_id\"=\"_id\" WHERE \"_id\"=?" : " WHERE \"_id\"=?");
    luaL_pushresult(&sql);
}

/* Update the row whose _id is at index 2 with the values in the slots from 4 on. */
static int update_row(lua_State *L, struct table *t, const bool *set, const char *what)
{
    lua_Integer id = lua_tointeger(L, 2);
    struct db *db = check_db(L);
    struct stmt *stmt;
    int64_t changes;
    int parameter = 1;

    stmt = find_kept(L, t, UPDATE, set);
    if (!stmt) {
        push_update_sql(L, t, set);
        stmt = keep_statement(L, t, UPDATE, set);
    }
    for (int i = 0; i < t->count; i++)
        if (set[i])
            bind_stored(L, stmt, parameter++, 4 + i);
    stmt_bind_int(stmt, parameter, id);
    changes = db_total_changes(db);
    step(L, stmt);
    if (db_total_changes(db) == changes)
        script_raise(L, "%s: there is no row with _id %" PRId64 " in %s", what, (int64_t)id,
                     t->name);
    return 0;
}

/* db.patch(table, _id, fields): other columns keep their values  [-3, +0, v] */
static int l_patch(lua_State *L)
{
    struct table *t = check_named(L);
    bool set[COLUMNS_MAX] = {false};

    check_writable(L, t);
    check_id(L, t, 2);
    check_row(L, t, 3, "patch of");
    lua_settop(L, 3);
    luaL_checkstack(L, t->count + LUA_MINSTACK, NULL);
    lua_settop(L, 3 + t->count);
    take_fields(L, t, 3, 4, set);
    return update_row(L, t, set, "patch");
}

/* Push what a column that isn't given is to hold: its default, or nil. */
static void push_default(lua_State *L, const struct table *t, int i)
{
    lua_getiuservalue(L, 1, 1);
    lua_rawgeti(L, -1, ANCHOR_DEFAULTS + i + 1);
    push_stored(L, t, &t->columns[i], lua_gettop(L));
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* db.replace(table, _id, row): columns that aren't given lose their values  [-3, +0, v] */
static int l_replace(lua_State *L)
{
    struct table *t = check_named(L);
    bool set[COLUMNS_MAX] = {false};

    check_writable(L, t);
    check_id(L, t, 2);
    check_row(L, t, 3, "replace in");
    lua_settop(L, 3);
    luaL_checkstack(L, t->count + LUA_MINSTACK, NULL);
    lua_settop(L, 3 + t->count);
    take_fields(L, t, 3, 4, set);
    for (int i = 0; i < t->count; i++) {
        if (set[i] || t->columns[i].system)
            continue;
        check_may_miss(L, t, &t->columns[i]);
        push_default(L, t, i);
        lua_replace(L, 4 + i);
        set[i] = true;
    }
    return update_row(L, t, set, "replace");
}

/* Push "INSERT … ON CONFLICT (keys) DO UPDATE SET … RETURNING _id". */
static void push_upsert_sql(lua_State *L, const struct table *t, const bool *set, const bool *key)
{
    luaL_Buffer sql;
    bool first = true;

    push_insert_sql(L, t, set);
    luaL_buffinit(L, &sql);
    luaL_addstring(&sql, " ON CONFLICT (");
    for (int i = 0; i < t->count; i++) {
        if (key[i]) {
            luaL_addstring(&sql, first ? "\"" : ",\"");
            luaL_addstring(&sql, t->columns[i].name);
            luaL_addstring(&sql, "\"");
            first = false;
        }
    }
    luaL_addstring(&sql, ") DO UPDATE SET ");
    first = true;
    for (int i = 0; i < t->count; i++) {
        if (set[i]) {
            luaL_addstring(&sql, first ? "\"" : ",\"");
            luaL_addstring(&sql, t->columns[i].name);
            luaL_addstring(&sql, "\"=excluded.\"");
            luaL_addstring(&sql, t->columns[i].name);
            luaL_addstring(&sql, "\"");
            first = false;
        }
    }
    luaL_addstring(&sql, " RETURNING \"_id\"");
    luaL_pushresult(&sql);
    lua_concat(L, 2);
}

/* native.upsert(table, keys, row) -> _id; lua/db.lua has seen that a unique index is on the keys.
 * [-3, +1, v] */
static int l_upsert(lua_State *L)
{
    struct table *t = check_named(L);
    bool set[COLUMNS_MAX] = {false}, key[COLUMNS_MAX] = {false};
    struct stmt *stmt;
    int parameter = 1;

    check_writable(L, t);
    check_row(L, t, 3, "upsert into");
    lua_settop(L, 3);
    luaL_checkstack(L, t->count + LUA_MINSTACK, NULL);
    lua_settop(L, 3 + t->count);
    take_fields(L, t, 3, 4, set);
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++, lua_pop(L, 1)) {
        int column = check_column(L, t, lua_gettop(L));

        if (lua_isnil(L, 4 + column))
            script_raise(L, "upsert into %s: the row has no value for its key '%s'", t->name,
                         t->columns[column].name);
        key[column] = true;
    }
    lua_pop(L, 1);
    for (int i = 0; i < t->count; i++)
        if (!set[i])
            check_may_miss(L, t, &t->columns[i]);
    push_upsert_sql(L, t, set, key);
    stmt = check_statement(L);
    stmt_bind_int(stmt, parameter++, clock_wall_ms());
    for (int i = 0; i < t->count; i++)
        if (set[i])
            bind_stored(L, stmt, parameter++, 4 + i);
    lua_pushinteger(L, step(L, stmt) ? stmt_int(stmt, 0) : 0);
    end_statement(L, stmt);
    return 1;
}

/* db.delete(table, _id) -> was there  [-2, +1, v] */
static int l_delete(lua_State *L)
{
    struct table *t = check_named(L);
    struct db *db;
    struct stmt *stmt;
    int64_t changes;
    lua_Integer id;

    check_writable(L, t);
    id = check_id(L, t, 2);
    stmt = find_kept(L, t, DELETE, NULL);
    if (!stmt) {
        lua_pushfstring(L, "DELETE FROM \"%s\" WHERE \"_id\"=?", t->name);
        stmt = keep_statement(L, t, DELETE, NULL);
    }
    stmt_bind_int(stmt, 1, id);
    db = check_db(L);
    changes = db_total_changes(db);
    step(L, stmt);
    lua_pushboolean(L, db_total_changes(db) != changes);
    return 1;
}

/*
 * Push the statement of the text at index 2 and bind the values of the list at 4, each as the
 * column named in the list at 3 stores it; 5 is how many. What is bound stays on the stack.
 */
static struct stmt *check_query(lua_State *L, const struct table *t, int extra)
{
    lua_Integer count = luaL_checkinteger(L, 5);
    int first = lua_gettop(L) + 1;
    struct stmt *stmt;

    if (count > 30000)
        script_raise(L, "a query of %s with more than 30000 values", t->name);
    luaL_checkstack(L, (int)count + extra + LUA_MINSTACK, "too many values");
    for (lua_Integer i = 1; i <= count; i++) {
        int column;

        lua_rawgeti(L, 3, i);
        column = check_column(L, t, lua_gettop(L));
        lua_rawgeti(L, 4, i);
        push_stored(L, t, &t->columns[column], lua_gettop(L));
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
    lua_pushvalue(L, 2);
    stmt = check_statement(L);
    for (int i = 0; i < (int)count; i++)
        bind_stored(L, stmt, i + 1, first + i);
    return stmt;
}

/* native.select(handle, sql, columns, values, count, limit) -> list of rows  [-6, +1, v] */
static int l_select(lua_State *L)
{
    struct table *t = check_handle(L, 1);
    lua_Integer limit = luaL_checkinteger(L, 6), found = 0;
    struct stmt *stmt = check_query(L, t, 4);

    stmt_bind_int(stmt, (int)lua_tointeger(L, 5) + 1, limit);
    lua_newtable(L);
    luaL_setmetatable(L, REGISTRY_ARRAY);
    while (step(L, stmt)) {
        push_row(L, stmt, t);
        lua_rawseti(L, -2, ++found);
    }
    return 1;
}

/* native.count(handle, sql, columns, values, count) -> integer  [-5, +1, v] */
static int l_count(lua_State *L)
{
    struct stmt *stmt = check_query(L, check_handle(L, 1), 1);

    lua_pushinteger(L, step(L, stmt) ? stmt_int(stmt, 0) : 0);
    end_statement(L, stmt);
    return 1;
}

/* ------------------------------------------------------------------------- ctx.db.sql */

/* A parameter's value, by its Lua type; index is its position among the function's arguments. */
static void push_parameter(lua_State *L, int index)
{
    static const struct column any = {.name = "value", .type = SCRIPT_TEXT};
    static const struct table sql = {.name = "ctx.db.sql"};

    switch (lua_type(L, index)) {
    case LUA_TNIL:
        lua_pushnil(L);
        break;
    case LUA_TBOOLEAN:
        lua_pushinteger(L, lua_toboolean(L, index));
        break;
    case LUA_TNUMBER:
        lua_pushvalue(L, index);
        break;
    case LUA_TSTRING:
        check_text(L, &sql, &any, index);
        lua_pushvalue(L, index);
        break;
    default:
        if (!is_null(L, index))
            script_raise(L,
                         "ctx.db.sql: value %d is a %s; give a text, a number, a boolean or nil "
                         "(authkit.json.encode makes a text of a table)",
                         index - 1, luaL_typename(L, index));
        lua_pushnil(L);
    }
}

static enum script_type declared_type(struct stmt *stmt, int i)
{
    const char *declared = stmt_column_declared(stmt, i);

    if (declared && strcasecmp(declared, "BOOLEAN") == 0)
        return SCRIPT_BOOLEAN;
    if (declared && strcasecmp(declared, "JSON_TEXT") == 0)
        return SCRIPT_JSON;
    if (declared && strcasecmp(declared, "REAL") == 0)
        return SCRIPT_REAL;
    return SCRIPT_TEXT;
}

static void push_free_row(lua_State *L, struct stmt *stmt)
{
    int count = stmt_column_count(stmt);

    lua_createtable(L, 0, count);
    for (int i = 0; i < count; i++) {
        push_column(L, stmt, i, declared_type(stmt, i));
        lua_setfield(L, -2, stmt_column_name(stmt, i));
    }
}

/* native.sql(text, …) -> list of rows, or how many rows changed  [-n, +1, v] */
static int l_sql(lua_State *L)
{
    int given = lua_gettop(L) - 1, first;
    struct db *db = check_db(L);
    struct stmt *stmt;
    int64_t changes;
    lua_Integer found = 0;

    if (lua_type(L, 1) != LUA_TSTRING)
        script_raise(L, "ctx.db.sql wants a text, not a %s", luaL_typename(L, 1));
    luaL_checkstack(L, given + LUA_MINSTACK, "too many values");
    first = lua_gettop(L) + 1;
    for (int i = 0; i < given; i++)
        push_parameter(L, 2 + i);
    lua_pushvalue(L, 1);
    stmt = check_statement_of(L, REGISTRY_SCRIPT_STATEMENTS, true);
    if (stmt_param_count(stmt) != given)
        script_raise(L, "ctx.db.sql: the statement has %d parameter%s, and %d value%s given",
                     stmt_param_count(stmt), stmt_param_count(stmt) == 1 ? "" : "s", given,
                     given == 1 ? " is" : "s are");
    for (int i = 0; i < given; i++)
        bind_stored(L, stmt, i + 1, first + i);
    changes = db_total_changes(db);
    lua_newtable(L);
    luaL_setmetatable(L, REGISTRY_ARRAY);
    while (step(L, stmt)) {
        push_free_row(L, stmt);
        lua_rawseti(L, -2, ++found);
    }
    if (stmt_column_count(stmt) == 0)
        lua_pushinteger(L, db_total_changes(db) - changes);
    return 1;
}

/* ------------------------------------------------------------------------- for schema.lua only */

/* native.rows(sql, value?) -> list of lists; an empty one without a database  [-n, +1, v] */
static int l_rows(lua_State *L)
{
    struct stmt *stmt;
    lua_Integer found = 0;

    lua_settop(L, 2);
    lua_newtable(L);
    if (!script_of(L)->db)
        return 1;
    lua_pushvalue(L, 1);
    stmt = check_statement(L);
    if (!lua_isnil(L, 2))
        bind_stored(L, stmt, 1, 2);
    while (step(L, stmt)) {
        lua_createtable(L, stmt_column_count(stmt), 0);
        for (int i = 0; i < stmt_column_count(stmt); i++) {
            push_column(L, stmt, i, SCRIPT_TEXT);
            lua_rawseti(L, -2, i + 1);
        }
        lua_rawseti(L, 3, ++found);
    }
    lua_settop(L, 3);
    return 1;
}

/* native.execute(sql)  [-1, +0, v] */
static int l_execute(lua_State *L)
{
    const char *sql = luaL_checkstring(L, 1);
    struct err err;

    if (db_exec(check_db(L), sql, &err) < 0)
        raise_db_error(L, &err);
    return 0;
}

/* native.row_functions(handles, find) -> { insert, get, patch, replace, upsert, delete } */
static int l_row_functions(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"insert", l_insert}, {"get", l_get},       {"patch", l_patch}, {"replace", l_replace},
        {"upsert", l_upsert}, {"delete", l_delete}, {NULL, NULL},
    };

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    luaL_newlibtable(L, functions);
    lua_insert(L, 1);
    luaL_setfuncs(L, functions, 2);
    return 1;
}

void bind_db_open(lua_State *L)
{
    static const luaL_Reg statement_meta[] = {{"__gc", l_statement_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"table", l_table},   {"unknown", l_unknown}, {"check", l_check},
        {"select", l_select}, {"count", l_count},     {"row_functions", l_row_functions},
        {"sql", l_sql},       {"rows", l_rows},       {"execute", l_execute},
        {NULL, NULL},
    };

    luaL_newmetatable(L, TYPE_STATEMENT);
    luaL_setfuncs(L, statement_meta, 0);
    luaL_newmetatable(L, TYPE_TABLE);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_STATEMENTS);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_SCRIPT_STATEMENTS);
    lua_pop(L, 2);
    luaL_setfuncs(L, functions, 0);
}
