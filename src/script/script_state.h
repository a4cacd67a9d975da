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
#include "script/route.h"
#include "script/script.h"
#include "script/source.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>

/* What struct script keeps from call to call for reading JSON: some 1.5 MiB. */
enum { SCRATCH_KEPT_NODES = 65536 };

/* Names in the registry. */
#define REGISTRY_REGISTERED "authkitd.registered" /* { events = …, actions = … } */
#define REGISTRY_DECIDE "authkitd.decide"         /* runs an action's function */
#define REGISTRY_CTX "authkitd.ctx"               /* what every ctx has: db, users, log, now */
#define REGISTRY_FINISH "authkitd.finish"         /* called when the script has been loaded */
#define REGISTRY_UNDEFINED \
    "authkitd.undefined"                  /* called then, too; afterwards what it has returned */
#define REGISTRY_SCHEMA "authkitd.schema" /* { plan, apply } */
#define REGISTRY_STATEMENTS "authkitd.statements"               /* SQL text -> statement userdata */
#define REGISTRY_SCRIPT_STATEMENTS "authkitd.script_statements" /* the same, of ctx.db.sql */
#define REGISTRY_ARRAY "authkitd.array" /* metatable of tables that are JSON arrays */

#define TYPE_STATEMENT "authkitd.statement"
#define TYPE_TABLE "authkitd.table"
#define TYPE_BUFFER "authkitd.buffer"
#define TYPE_REFUSAL "authkitd.refusal"
#define TYPE_REQUEST "authkitd.request"

/* Names of functions, sorted. */
struct names {
    char **items;
    size_t count;
    char *joined; /* by spaces or ", "; NULL when there are none */
};

/* What a script and its twins have in common: but for the count, and the source that has a lock of
 * its own, none of it changes once the first of them is loaded. */
struct origin {
    atomic_size_t twins;
    struct source *source;
    char *path;
    struct names events, actions, route_names;
    struct routes routes;
    char *warnings; /* NULL: none */
};

/* An answer that a function was ended with: what ctx.auth.require() raises. */
struct refusal {
    int status;
    char code[64];
    char message[512];
};

/* The call of a route's function that runs now. */
struct route_run {
    struct script_route_call *call;
    const struct route *route;
    const void *request;         /* the address of the table that the function got */
    struct http_response answer; /* what its results have become */
};

struct script {
    lua_State *L; /* NULL after a limit was hit; the next call makes another */
    struct budget budget;
    struct origin *origin;
    struct script_opts opts;

    /* The call that runs now. */
    struct db *db;         /* NULL while none runs: ctx.db raises then */
    struct stmt *active;   /* stepped and not reset yet; reset when the call ends */
    struct route_run *run; /* NULL when it isn't a route's */
    bool read_only;        /* ctx.db raises on what writes */

    /* How it ended: with a refusal or not. raised is the one that its message handler has seen, as an
     * address on the stack of Lua. */
    const void *raised;
    bool refused;

    /* The function that push_function found for it; NULL: none. */
    const char *called_kind, *called_name;
    struct refusal refusal;

    struct json scratch; /* for JSON columns */

    /* lazy.c */
    const void *lazy_metatable; /* its address */
    int lazy_reference;         /* where the registry has it */
    lua_Integer lazy_key;       /* of hidden fields */

    size_t statement_count;
};

/* Works for coroutines too: Lua copies the extra space of the main thread into them. */
static inline struct script *script_of(lua_State *L)
{
    return *(struct script **)lua_getextraspace(L);
}

/* The innermost line of the script itself that runs, from that level on; false when there is none, or it
 * can't be told. Allocates nothing. [-0, +0, -] */
bool find_line(lua_State *L, int level, lua_Debug *out);

/* Raise an error that begins with the script's file and line. [-0, +0, v] */
int script_raise(lua_State *L, const char *fmt, ...) PRINTF_LIKE(2, 3) __attribute__((noreturn));

/* Push the text at index, which is absolute, as a message can have it: NULs, which would end it, are "\0".
 * Of a longer one the first max_bytes. [-0, +1, m] */
const char *push_visible(lua_State *L, int index, size_t max_bytes);

/* The connection of the call that runs; raises when none does. */
struct db *check_db(lua_State *L);

/* Raises when what the call writes would not be kept. [-0, +0, v] */
void check_may_write(lua_State *L);

/* Run a C function in the script's state, on db, with arg as its light userdata: what all calls have
 * in common. sql_bytes is what SQLite may use for it, 0: no limit. on_error is the message handler. */
int script_call(struct script *script, struct db *db, size_t sql_bytes, lua_CFunction function,
                void *arg, int timeout_ms, lua_CFunction on_error, struct err *err);

/* The message handler that makes a text with the traceback of any error. */
int l_traced_error(lua_State *L);

/* Push registered[kind][name]. [-0, +1, v] */
void push_function(lua_State *L, const char *kind, const char *name);

/* values.c: JSON to Lua and back. */

/* Push the value of a node; null is nil (or authkit.null, when it is to be kept), whole numbers are
 * integers, arrays are marked. [-0,+1,e] */
void push_json(lua_State *L, const struct json *json, uint32_t node, bool keep_null);

/* Whether the argument at index, which may be missing, is authkit.null: null is to be kept. Raises for
 * anything else. [-0, +0, v] */
bool check_keeps_null(lua_State *L, int index, const char *called);

/* Append the value at index as JSON, members by name. Raises, with label in front, for what JSON can't say.
 * [-0, +0, v] */
void put_json(lua_State *L, int index, struct buf *out, const char *label);

/* A buffer that is released when the state no longer needs it. [-0, +1, m] */
struct buf *push_buffer(lua_State *L, size_t max_bytes);

bool is_null(lua_State *L, int index);

/* A list is a table marked by authkit.json.array (or decoded from one), or one with a [1]. [-0, +0, m] */
bool is_list(lua_State *L, int index);
bool is_marked_array(lua_State *L, int index);

/* What we hand out as a table that isn't one, ctx and the like. A script's own metatables say nothing
 * here. [-0, +0, m] */
bool is_no_data(lua_State *L, int index);

/* Names of an object's members, put in order by their bytes. */
struct member_name {
    const char *text;
    size_t len;
    int index; /* where it is on the stack */
};
void sort_names(struct member_name *names, size_t count);

int l_json_encode(lua_State *L);
int l_json_decode(lua_State *L);
int l_json_array(lua_State *L);
void values_open(lua_State *L); /* metatables; [-0, +0, m] */

/* lazy.c: tables that are filled as they are read. */

/* Push the whole of it, as push_json does without null. A script can't see that its tables are lazy, but
 * who looks at a script's table raw must settle it first. [-0, +1, e] */
void push_document(lua_State *L, const struct json *json);

/* Make an ordinary table of the value at index, should it be a lazy one. [-0, +0, m] */
void settle(lua_State *L, int index);

/* The same for who is about to look at all that is in it: tables in it that nobody has seen aren't
 * lazy then. [-0, +0, m] */
void settle_whole(lua_State *L, int index);

/* Lua's own next, for these tables as well; also what a __pairs of ours may return. */
int lazy_next(lua_State *L);

void lazy_open(lua_State *L);         /* adds to the native table on top; [-0, +0, m] */
void lazy_open_library(lua_State *L); /* for the table of libraries on top; [-0, +0, m] */

/* dot.c: raises when the value at index is a library of ours, and the first argument of a function of it
 * that runs: ctx.db:insert(…) in place of ctx.db.insert(…). For who has found it to be no good argument.
 * [-0, +0, v] */
void check_dot(lua_State *L, int index);
void dot_open(lua_State *L); /* adds to the native table on top; [-0, +0, m] */

/* bind_query.c: adds the functions for rows and statements to the native table on top. [-0, +0, m] */
void bind_db_open(lua_State *L);

/* bind_pattern.c: find, match, gmatch and gsub, into the string library on top. [-0, +0, m] */
void bind_pattern_open(lua_State *L);

/* bind_bounds.c: for the table of libraries on top. [-0, +0, m] */
void bind_bounds_open(lua_State *L);

/* bind_coroutine.c: for the table of libraries on top. [-0, +0, m] */
void bind_coroutine_open(lua_State *L);

/* refusal.c: an answer as an error, which ends the function unless it is caught. Scripts can't make
 * one. [-0, +0, v] */
int raise_refusal(lua_State *L, int status, const char *code, const char *message)
    __attribute__((noreturn));
int l_route_error(lua_State *L); /* a message handler that lets refusals pass as they are */
void put_refusal(const struct refusal *refusal, struct http_response *response);

/* bind_request.c: the request that a route's function gets. [-0, +1, v] */
void push_request(lua_State *L);

/* answer.c: what a route's function has returned, from index first on, as its answer. Looks at
 * tables raw. [-0, +0, v] */
void check_answer(lua_State *L, int first, struct http_response *out);

/* Each adds what it has to the native table on top. [-0, +0, m] */
void bind_auth_open(lua_State *L);
void bind_request_open(lua_State *L);
void bind_route_open(lua_State *L);
void refusal_open(lua_State *L);

/* bind_auth.c: forget what belongs to the call that has ended. Never raises. [-0, +0, -] */
void forget_claims(lua_State *L);

/* shown.c: what the value is, behind "not": "a number", "nil", or "nothing" where no argument is. */
const char *kind_of(lua_State *L, int index);

/* shown.c: push the value as the log shows it, a table as JSON: "…" is behind the first max_bytes of one
 * that is longer. [-0, +1, v] */
const char *push_shown(lua_State *L, int index, size_t max_bytes, size_t *out_len);

/* bind_log.c */
int l_print(lua_State *L);
void push_log(lua_State *L); /* the ctx.log table [-0, +1, m] */

#endif
