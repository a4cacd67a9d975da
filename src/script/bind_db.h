/* SPDX-License-Identifier: MIT */
/*
 * bind_db - rows between Lua and the database: the native half of ctx.db (lua/db.lua is the other).
 *
 *   bind_statement.c   statements, kept by their text
 *   bind_table.c       handles: a table's columns, and the statements that go with them
 *   bind_value.c       one value: Lua -> what SQLite stores -> Lua
 *   bind_row.c         insert, get, patch, replace, upsert, delete
 *   bind_query.c       queries, ctx.db.sql, and what lua/schema.lua needs
 *
 * Values are checked and turned into what SQLite stores on the Lua stack first, where raising is
 * harmless; then they are bound and stepped without raising.
 *
 * Threads    the one that runs the script.
 * Ownership  statements belong to userdata of the state.
 * Errors     everything here but find_kept and bind_stored may raise.
 */
#ifndef SCRIPT_BIND_DB_H
#define SCRIPT_BIND_DB_H

#include "script/script_state.h"

#include <stdint.h>

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

/* Names of the types, in the order of enum script_type. */
extern const char *const bind_type_names[5];

/* bind_statement.c */

int raise_db_error(lua_State *L, const struct err *err) __attribute__((noreturn));

/* Replaces the SQL text on top by a statement of it. A guarded one may change the script's own
 * tables only. [-1, +1, v] */
struct stmt *push_statement(lua_State *L, bool guarded);

/* The same, prepared at first use and kept by its text. [-1, +1, v] */
struct stmt *check_statement(lua_State *L);
struct stmt *check_guarded_statement(lua_State *L);

/* Reset what an error that the script caught has left behind. */
void end_left_over(struct script *script);

/* Step; an error is raised. The statement counts as active until its end, or end_statement. */
bool step(lua_State *L, struct stmt *stmt);
void end_statement(lua_State *L, struct stmt *stmt);

void bind_statement_open(lua_State *L);

/* bind_table.c */

struct table *check_handle(lua_State *L, int index);

/* The index of the column that the value names; raises, with what is known, when there is none. */
int check_column(lua_State *L, const struct table *t, int name_index);
int find_column(const struct table *t, const char *name, size_t len); /* -1: none */

/* The statement that was kept for this, or NULL. set may be NULL: no columns. */
struct stmt *find_kept(lua_State *L, struct table *t, enum statement_kind kind, const bool *set);

/* Prepare the text on top and keep it with the handle at index 1. [-1, +0, v] */
struct stmt *keep_statement(lua_State *L, struct table *t, enum statement_kind kind,
                            const bool *set);

int l_unknown(lua_State *L);
int l_table(lua_State *L);
int l_check(lua_State *L);

/* bind_value.c */

/* Push what SQLite is to store for the value at index: nil, an integer, a float or a string. */
void push_stored(lua_State *L, const struct table *t, const struct column *c, int index);

/* Bind a value that push_stored made. The string must stay on the stack while the statement runs. */
void bind_stored(lua_State *L, struct stmt *stmt, int parameter, int index);

/* Push a column of the current row as the script sees it. */
void push_column(lua_State *L, struct stmt *stmt, int i, enum script_type type);

/* Push the current row as a table. The handle of its table is at index 1. */
void push_row(lua_State *L, struct stmt *stmt, const struct table *t);

/* What keeps the string at index from being an SQL text, or NULL. */
const char *text_problem(lua_State *L, int index);

/* bind_row.c, bind_query.c */

int l_row_functions(lua_State *L);
int l_select(lua_State *L);
int l_count(lua_State *L);
int l_sql(lua_State *L);
int l_rows(lua_State *L);
int l_execute(lua_State *L);

#endif
