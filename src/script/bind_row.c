/* SPDX-License-Identifier: MIT */
#include "script/bind_db.h"

#include "base/clock.h"

#include <inttypes.h>
#include <string.h>

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

static void check_writable(lua_State *L, const struct table *t)
{
    check_db(L);
    check_may_write(L);
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
        script_raise(L, "the _id of a row of %s is an integer, not %s", t->name, kind_of(L, index));
    return id;
}

/*
 * Check the fields of the table at index and leave what is to be stored in the slots that were
 * pushed, one a column, from first_slot on; set[i] says which were given. What authkitd sets itself can't be;
 * but where it may (is_row: the table may be a row that was read), it is left in its slot as it is, and not set.
 */
static void take_fields(lua_State *L, const struct table *t, int index, int first_slot, bool is_row,
                        bool *set)
{
    settle(L, index);
    for (lua_pushnil(L); lua_next(L, index);) {
        int i = check_column(L, t, lua_gettop(L) - 1);

        if (t->columns[i].system) {
            if (!is_row)
                script_raise(L, "%s.%s is set by authkitd and can't be given", t->name,
                             t->columns[i].name);
            lua_replace(L, first_slot + i);
            continue;
        }
        push_stored(L, t, &t->columns[i], lua_gettop(L));
        if (lua_isnil(L, -1) && !t->columns[i].nullable)
            script_raise(L, "%s.%s can't be null: its type is %s, without '?'", t->name,
                         t->columns[i].name, bind_type_names[t->columns[i].type]);
        lua_replace(L, first_slot + i);
        set[i] = true;
        lua_pop(L, 1);
    }
}

static void check_row(lua_State *L, const struct table *t, int index, const char *what)
{
    if (!lua_istable(L, index))
        script_raise(L, "%s %s wants a table of columns, not %s", what, t->name, kind_of(L, index));
}

/* Push "INSERT …" with the columns that are set (_creation_time is always the first). alias is what stands
 * behind the table's name. */
static void push_insert_sql(lua_State *L, const struct table *t, const bool *set, const char *alias)
{
    luaL_Buffer sql;

    luaL_buffinit(L, &sql);
    luaL_addstring(&sql, "INSERT INTO \"");
    luaL_addstring(&sql, t->name);
    luaL_addstring(&sql, "\"");
    luaL_addstring(&sql, alias);
    luaL_addstring(&sql, " (\"_creation_time\"");
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
                     bind_type_names[c->type]);
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
    take_fields(L, t, 2, 3, false, set);
    for (int i = 0; i < t->count; i++)
        if (!set[i])
            check_may_miss(L, t, &t->columns[i]);
    stmt = find_kept(L, t, INSERT, set);
    if (!stmt) {
        push_insert_sql(L, t, set, "");
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

/* The row of that _id, ready to be read, or NULL. A statement that isn't kept stays on the stack. [-0, +(0|1), v] */
static struct stmt *find_row(lua_State *L, struct table *t, lua_Integer id)
{
    struct stmt *stmt = find_kept(L, t, GET, NULL);

    if (!stmt) {
        push_select_sql(L, t);
        stmt = keep_statement(L, t, GET, NULL);
    }
    stmt_bind_int(stmt, 1, id);
    return step(L, stmt) ? stmt : NULL;
}

/* db.get(table, _id) -> row | nil  [-2, +1, v] */
static int l_get(lua_State *L)
{
    struct table *t = check_named(L);
    struct stmt *stmt;
    lua_Integer id;

    check_db(L);
    if (find_column(t, "_id", 3) < 0)
        script_raise(L,
                     "rows of %s have no _id; use ctx.db.query(\"%s\"):where(\"id\", …):unique()",
                     t->name, t->name);
    id = check_id(L, t, 2);
    stmt = find_row(L, t, id);
    if (!stmt) {
        lua_pushnil(L);
        return 1;
    }
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

/* What is given of the columns that authkitd sets (in the slots from 4 on) must be what the row has, whose _id is
 * at index 2: so a row that was read can go back whole. */
static void check_unchanged(lua_State *L, struct table *t)
{
    lua_Integer id = lua_tointeger(L, 2);

    for (int i = 0; i < t->count; i++) {
        const struct column *c = &t->columns[i];
        struct stmt *stmt = NULL;
        lua_Integer own = id;

        if (!c->system || lua_isnil(L, 4 + i))
            continue;
        if (strcmp(c->name, "_id") != 0) {
            stmt = find_row(L, t, id);
            if (!stmt)
                return; /* the update says so */
            own = stmt_int(stmt, i);
            end_statement(L, stmt);
        }
        lua_pushinteger(L, own);
        if (!lua_rawequal(L, -1, 4 + i))
            script_raise(L, "%s.%s is set by authkitd and can't be changed", t->name, c->name);
        lua_pop(L, 1);
    }
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
    take_fields(L, t, 3, 4, true, set);
    check_unchanged(L, t);
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
    take_fields(L, t, 3, 4, true, set);
    check_unchanged(L, t);
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

/* Push "INSERT … ON CONFLICT (keys) DO UPDATE SET … RETURNING _id". The alias is for a table that is called
 * excluded: SQLite would take excluded."x" for the row that is there already. No table can be called _row. */
static void push_upsert_sql(lua_State *L, const struct table *t, const bool *set, const bool *key)
{
    luaL_Buffer sql;
    bool first = true;

    push_insert_sql(L, t, set, " AS \"_row\"");
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
    take_fields(L, t, 3, 4, false, set);
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

/* native.row_functions(handles, find) -> { insert, get, patch, replace, upsert, delete } */
int l_row_functions(lua_State *L)
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
