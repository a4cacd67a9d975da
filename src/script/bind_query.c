/* SPDX-License-Identifier: MIT */
#include "script/bind_db.h"

#include <math.h>
#include <string.h>
#include <strings.h>

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
int l_select(lua_State *L)
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
int l_count(lua_State *L)
{
    struct stmt *stmt = check_query(L, check_handle(L, 1), 1);

    lua_pushinteger(L, step(L, stmt) ? stmt_int(stmt, 0) : 0);
    end_statement(L, stmt);
    return 1;
}

/* A parameter's value, by its Lua type; index is its position among the function's arguments. */
static void push_parameter(lua_State *L, int index)
{
    const char *problem;

    switch (lua_type(L, index)) {
    case LUA_TNIL:
        lua_pushnil(L);
        break;
    case LUA_TBOOLEAN:
        lua_pushinteger(L, lua_toboolean(L, index));
        break;
    case LUA_TNUMBER: /* of NaN SQLite would make NULL */
        if (!isfinite(lua_tonumber(L, index)))
            script_raise(L, "ctx.db.sql: value %d takes a finite number", index - 1);
        lua_pushvalue(L, index);
        break;
    case LUA_TSTRING:
        problem = text_problem(L, index);
        if (problem)
            script_raise(L, "ctx.db.sql: value %d: %s", index - 1, problem);
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
int l_sql(lua_State *L)
{
    int given = lua_gettop(L) - 1, first;
    struct db *db = check_db(L);
    struct stmt *stmt;
    int64_t changes;
    lua_Integer found = 0;

    if (lua_type(L, 1) != LUA_TSTRING) {
        check_dot(L, 1);
        script_raise(L, "ctx.db.sql wants a text, not %s", kind_of(L, 1));
    }
    if (strlen(lua_tostring(L, 1)) != lua_rawlen(L, 1))
        script_raise(L,
                     "ctx.db.sql: the statement has a NUL byte in it, where SQLite would take it "
                     "to end; take the NUL out");
    luaL_checkstack(L, given + LUA_MINSTACK, "too many values");
    first = lua_gettop(L) + 1;
    for (int i = 0; i < given; i++)
        push_parameter(L, 2 + i);
    lua_pushvalue(L, 1);
    stmt = check_guarded_statement(L);
    if (!stmt_is_readonly(stmt))
        check_may_write(L);
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

/* native.rows(sql, value?) -> list of lists; an empty one without a database  [-n, +1, v] */
int l_rows(lua_State *L)
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
int l_execute(lua_State *L)
{
    const char *sql = luaL_checkstring(L, 1);
    struct err err;

    if (db_exec(check_db(L), sql, &err) < 0)
        raise_db_error(L, &err);
    return 0;
}

void bind_db_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"table", l_table},   {"unknown", l_unknown}, {"check", l_check},
        {"select", l_select}, {"count", l_count},     {"row_functions", l_row_functions},
        {"sql", l_sql},       {"rows", l_rows},       {"execute", l_execute},
        {NULL, NULL},
    };

    bind_statement_open(L);
    luaL_newmetatable(L, TYPE_TABLE);
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
