/* SPDX-License-Identifier: MIT */
#include "script/bind_db.h"

#include <string.h>
#include <strings.h>

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

int raise_db_error(lua_State *L, const struct err *err)
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

void end_left_over(struct script *script)
{
    if (!script->active)
        return;
    stmt_reset(script->active); /* left behind by an error that the script caught */
    script->active = NULL;
}

struct stmt *push_statement(lua_State *L, bool guarded)
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

struct stmt *check_statement(lua_State *L)
{
    return check_statement_of(L, REGISTRY_STATEMENTS, false);
}

struct stmt *check_guarded_statement(lua_State *L)
{
    return check_statement_of(L, REGISTRY_SCRIPT_STATEMENTS, true);
}

bool step(lua_State *L, struct stmt *stmt)
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

void end_statement(lua_State *L, struct stmt *stmt)
{
    script_of(L)->active = NULL;
    stmt_reset(stmt);
}

void bind_statement_open(lua_State *L)
{
    static const luaL_Reg statement_meta[] = {{"__gc", l_statement_gc}, {NULL, NULL}};

    luaL_newmetatable(L, TYPE_STATEMENT);
    luaL_setfuncs(L, statement_meta, 0);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_STATEMENTS);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_SCRIPT_STATEMENTS);
    lua_pop(L, 1);
}
