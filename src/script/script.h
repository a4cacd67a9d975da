/* SPDX-License-Identifier: MIT */
/*
 * script - a loaded handlers.lua, and its functions as things to call.
 *
 * Loading runs the script once in a fresh, sandboxed Lua state and keeps what it declared. A call
 * runs one of its functions with a budget of time and memory, on a database connection and inside
 * a transaction that are the caller's; the caller also undoes what a failed call wrote. A state
 * that hit a limit is closed; the next call makes a new one of the same text.
 *
 *    script_load --> script_migrate (in a transaction) --> script_run_event, script_run_action …
 *         \--> script_twin, for another thread --> script_run_route
 *
 * Threads    one at a time, and after the first call always the same connection. Loading may happen
 *            on another thread than the calls. What asks for names and routes: any, also while a
 *            call runs. Twins are scripts of their own: each may run on another thread, at the same
 *            time.
 * Ownership  opts is copied but for the tables and taken_paths, which must be static or outlive all
 *            twins. Free a script before the connection that it was called with is closed. Twins are
 *            freed in any order.
 * Errors     never raises. ERR_SCRIPT: the script's own error, "handlers.lua:7: …", for calls with
 *            the traceback behind it. ERR_LIMIT: out of time or memory, SQLite's for the call
 *            included (as much again as the state may use). ERR_ABSENT, ERR_IO: the file cannot be
 *            read.
 * Not here   what an event is, where rows are kept (workos/); SIGHUP (app/); how a route's answer
 *            travels, and whose token it is.
 */
#ifndef SCRIPT_SCRIPT_H
#define SCRIPT_SCRIPT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "http/message.h"
#include "store/db.h"

#include <stdbool.h>
#include <stddef.h>

enum { SCRIPT_LOAD_TIMEOUT_MS = 5000 };

enum script_type {
    SCRIPT_TEXT,
    SCRIPT_INTEGER,
    SCRIPT_REAL,
    SCRIPT_BOOLEAN,
    SCRIPT_JSON,
};

/* A table that scripts may read and not write. */
struct script_table {
    const char *name;
    const struct script_column {
        const char *name;
        enum script_type type;
    } * columns;
    size_t column_count;
};

struct script_opts {
    const char *path;
    size_t memory_bytes;
    int event_timeout_ms;
    int action_timeout_ms;
    int route_timeout_ms; /* 0: event_timeout_ms */
    const struct script_table *tables;
    size_t table_count;
    const char *const *taken_paths; /* what the server serves itself: no route can have these */
    size_t taken_count;
};

struct script;

int script_load(struct script **out, const struct script_opts *opts, struct err *err) MUST_CHECK;
void script_free(struct script *script); /* NULL is fine */

/* Another script of the same text, for another thread; its state is made at the first call. Any
 * thread, while `of` lives. ERR_NOMEM. */
int script_twin(struct script **out, const struct script *of, struct err *err) MUST_CHECK;

/* Let go of the connection that it was called with, so that another thread may free the script. */
void script_detach(struct script *script);

bool script_handles_event(const struct script *script, const char *type);
bool script_handles_action(const struct script *script, const char *name);
bool script_has_routes(const struct script *script);

/* The names of what it handles, for the log, joined by spaces (those of routes by ", "); "" when
 * there are none. */
const char *script_event_names(const struct script *script);
const char *script_action_names(const struct script *script);
const char *script_route_names(const struct script *script);

/* What looks like a slip in it, a line each: globals that were nil when the script's top read them, the first
 * few. "" when there are none. */
const char *script_warnings(const struct script *script);

/* Append the names of the functions that the former script has and this one hasn't, the first few, joined by
 * ", ". Returns how many there are. Thread: any, as for names. */
size_t script_put_lost(const struct script *script, const struct script *former, struct buf *out);

/* Whether a route fits (route.h says how). path is as it was sent. A HEAD is a GET where there is no
 * route for it. */
enum script_route_match { SCRIPT_ROUTE_FOUND, SCRIPT_ROUTE_NO_PATH, SCRIPT_ROUTE_NO_METHOD };
enum script_route_match script_find_route(const struct script *script, const char *method,
                                          const char *path);

/* Append "GET, HEAD, POST, OPTIONS", the methods of the routes that the path fits; nothing when
 * there are none. */
void script_put_route_methods(const struct script *script, const char *path, struct buf *out);

/* How much memory its Lua state has now. Thread: the calls'. */
size_t script_memory_bytes(const struct script *script);

/*
 * Bring the database to the declared schema. Inside a transaction: an error leaves it to the caller
 * to undo. report gets a line for every change ("create table todo_lists") and warning, and when there
 * are many of them, for those that fit into 48 KiB, and how many more there are.
 * ERR_INVALID: refused, since data would be lost; the text says all that is wrong, a line each.
 */
int script_migrate(struct script *script, struct db *db, struct buf *report, struct err *err)
    MUST_CHECK;

/* Say what script_migrate would do, and do nothing. db NULL: against an empty database. */
int script_plan(struct script *script, struct db *db, struct buf *report, struct err *err)
    MUST_CHECK;

/*
 * Run the function for an event. event is the whole envelope as it was decoded; the function sees
 * it as a table, null as nil, with `late` added. 0 when it returned (whatever it returned).
 */
int script_run_event(struct script *script, struct db *db, const char *type,
                     const struct json *event, bool late, struct err *err) MUST_CHECK;

struct script_verdict {
    bool allow;
    bool has_message;
    struct buf message; /* starts as {0}; the caller's to release; any bytes */
};

/* Run the function for an action. out is filled when it returned a verdict; else ERR_SCRIPT. */
int script_run_action(struct script *script, struct db *db, const char *name,
                      const struct json *action, struct script_verdict *out, struct err *err)
    MUST_CHECK;

/* Whose token came with a request. */
struct script_caller {
    const struct json *claims; /* NULL: nobody's */
    const char *user_id;       /* NULL: nobody's */
    int status;                /* without claims: what ctx.auth.require() answers, 401 or 503 … */
    const char *code;          /* … and with which error */
    const char *message;
};

/* The answer to somebody without claims, as ctx.auth.require() makes it. */
void script_refuse_caller(const struct script_caller *caller, struct http_response *response);

struct script_route_call {
    const struct http_request *request;
    const struct script_caller *caller;
    bool read_only; /* ctx.db raises on what writes: what is written now is not kept */
    bool refused; /* out: the answer is what ctx.auth.require() and the like made: it goes out, but
                       what was written must be undone */
};

/*
 * Run the function of the route that fits. 0: response is filled. ERR_SCRIPT with call->refused: it
 * is filled, too, with 400, 401, 403 or 503, and err says the same. With any other error it is
 * untouched. ERR_ABSENT: no route fits (when a script was installed in between).
 */
int script_run_route(struct script *script, struct db *db, struct script_route_call *call,
                     struct http_response *response, struct err *err) MUST_CHECK;

#endif
