/* SPDX-License-Identifier: MIT */
/*
 * script_state - what the files of this room share: the script behind a lua_State.
 *
 * Functions by name: l_x is a lua_CFunction; check_x, push_x and script_raise may raise (longjmp)
 * and are called under a protected call only; script_x never raises. Nothing that needs freeing is
 * held across a call that may raise, but in userdata with a finalizer or in struct script.
 *
 * Threads    the thread that runs the script.
 */
#ifndef SCRIPT_SCRIPT_STATE_H
#define SCRIPT_SCRIPT_STATE_H

#include "base/buf.h"
#include "base/json.h"
#include "script/budget.h"
#include "script/script.h"
#include "script/source.h"

#include <lauxlib.h>
#include <lua.h>

/* Names in the registry. */
#define REGISTRY_REGISTERED "authkitd.registered" /* { events = …, actions = … } */
#define REGISTRY_DECIDE "authkitd.decide"         /* runs an action's function */
#define REGISTRY_CTX "authkitd.ctx"               /* what every ctx has: db, users, log, now */
#define REGISTRY_FINISH "authkitd.finish"         /* called when the script has been loaded */
#define REGISTRY_SCHEMA "authkitd.schema"         /* { plan, apply } */
#define REGISTRY_STATEMENTS "authkitd.statements" /* SQL text -> statement userdata */
#define REGISTRY_SCRIPT_STATEMENTS "authkitd.script_statements" /* the same, of ctx.db.sql */
#define REGISTRY_ARRAY "authkitd.array" /* metatable of tables that are JSON arrays */

#define TYPE_STATEMENT "authkitd.statement"
#define TYPE_TABLE "authkitd.table"
#define TYPE_BUFFER "authkitd.buffer"

/* Names of functions, sorted. */
struct names {
    char **items;
    size_t count;
    char *joined; /* by spaces; NULL when there are none */
};

struct script {
    lua_State *L; /* NULL after a limit was hit; the next call makes another */
    struct budget budget;
    struct source *source;
    struct script_opts opts;
    char *path;

    /* Found when it was loaded; the same for every state made of the same text. */
    struct names events, actions, routes;

    /* The call that runs now. */
    struct db *db;       /* NULL while none runs: ctx.db raises then */
    struct stmt *active; /* stepped and not reset yet; reset when the call ends */
    struct json scratch; /* for JSON columns */
    size_t statement_count;
};

/* Works for coroutines too: Lua copies the extra space of the main thread into them. */
static inline struct script *script_of(lua_State *L)
{
    return *(struct script **)lua_getextraspace(L);
}

/* Raise an error that begins with the script's file and line. [-0, +0, v] */
int script_raise(lua_State *L, const char *fmt, ...) PRINTF_LIKE(2, 3) __attribute__((noreturn));

/* The connection of the call that runs; raises when none does. */
struct db *check_db(lua_State *L);

/* values.c: JSON to Lua and back. */

/* Push the value of a node; null is nil, whole numbers are integers, arrays are marked. [-0,+1,e] */
void push_json(lua_State *L, const struct json *json, uint32_t node);

/* Append the value at index as JSON. Raises, with label in front, for what JSON can't say.
 * [-0, +0, v] */
void put_json(lua_State *L, int index, struct buf *out, const char *label);

/* A buffer that is released when the state no longer needs it. [-0, +1, m] */
struct buf *push_buffer(lua_State *L, size_t max_bytes);

bool is_null(lua_State *L, int index);

int l_json_encode(lua_State *L);
int l_json_decode(lua_State *L);
int l_json_array(lua_State *L);
void values_open(lua_State *L); /* metatables; [-0, +0, m] */

/* bind_query.c: adds the functions for rows and statements to the native table on top. [-0, +0, m] */
void bind_db_open(lua_State *L);

/* bind_pattern.c: find, match, gmatch and gsub, into the string library on top. [-0, +0, m] */
void bind_pattern_open(lua_State *L);

/* bind_bounds.c: for the table of libraries on top. [-0, +0, m] */
void bind_bounds_open(lua_State *L);

/* bind_log.c */
int l_print(lua_State *L);
void push_log(lua_State *L); /* the ctx.log table [-0, +1, m] */

#endif
