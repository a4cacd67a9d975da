/* SPDX-License-Identifier: MIT */
/*
 * bind_pattern - string.find, match, gmatch and gsub, which a time limit can end.
 *
 * They do what Lua's own do (the manual's section 6.4), but that a mistake in a pattern is said with
 * the script's file and line also where pcall called them.
 *
 * Threads    the one that runs the script.
 */
#include "script/pattern.h"
#include "script/script_state.h"

#include <string.h>

enum { PLAIN_LARGE = 32 * 1024 }; /* a plain search isn't interrupted: look at the clock before */

static void init_pattern(lua_State *L, struct pattern *m, const char *s, size_t s_len,
                         const char *p, size_t p_len)
{
    pattern_init(m, s, s_len, p, p_len, budget_interrupts, &script_of(L)->budget);
}

/* Take the '^' off. */
static bool take_anchor(struct pattern *m)
{
    if (m->text == m->text_end || *m->text != '^')
        return false;
    m->text++;
    return true;
}

static void raise_problem(lua_State *L, const struct pattern *m)
{
    if (m->rc == ERR_LIMIT)
        budget_check(L);
    script_raise(L, "%s", m->problem);
}

/* The first match at *start or behind it; true when there is one. Raises. */
static bool check_search(lua_State *L, struct pattern *m, bool anchored, const char **start,
                         const char **out_end)
{
    int rc =
        anchored ? pattern_match(m, *start, out_end) : pattern_search(m, *start, start, out_end);

    if (rc < 0)
        raise_problem(L, m);
    return rc > 0;
}

/* Capture i of the match start..end; without captures the match is capture 0. [-0, +1, v] */
static void push_capture(lua_State *L, const struct pattern *m, int i, const char *start,
                         const char *end)
{
    const struct pattern_capture *capture = &m->captures[i];

    if (i == 0 && m->count == 0)
        lua_pushlstring(L, start, (size_t)(end - start));
    else if (i >= m->count)
        script_raise(L, "invalid capture index %%%d", i + 1);
    else if (!(m->closed & (UINT32_C(1) << i)))
        script_raise(L, "unfinished capture");
    else if (capture->len == PATTERN_POSITION)
        lua_pushinteger(L, capture->start - m->subject + 1);
    else
        lua_pushlstring(L, capture->start, capture->len);
}

static int push_captures(lua_State *L, const struct pattern *m, const char *start, const char *end)
{
    int count = m->count == 0 && start ? 1 : m->count;

    luaL_checkstack(L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(L, m, i, start, end);
    return count;
}

/* Where the optional argument says to begin: 1 is the first character, -1 the last. SIZE_MAX:
 * behind the end. */
static size_t check_init(lua_State *L, int arg, size_t len)
{
    lua_Integer init = luaL_optinteger(L, arg, 1);

    if (init < 0)
        init = init < -(lua_Integer)len ? 1 : (lua_Integer)len + init + 1;
    if (init > (lua_Integer)len + 1)
        return SIZE_MAX;
    return init > 0 ? (size_t)init - 1 : 0;
}

static int find_plain(lua_State *L, const char *s, size_t s_len, size_t init, const char *p,
                      size_t p_len)
{
    const char *found = pattern_find_plain(s + init, s + s_len, p, p_len);

    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, found - s + 1);
    lua_pushinteger(L, found - s + (lua_Integer)p_len);
    return 2;
}

static int find(lua_State *L, bool wants_place)
{
    size_t s_len, p_len, init;
    const char *s = luaL_checklstring(L, 1, &s_len), *p = luaL_checklstring(L, 2, &p_len);
    struct pattern m;
    const char *start, *end;
    bool anchored;

    init = check_init(L, 3, s_len);
    if (init == SIZE_MAX) {
        lua_pushnil(L);
        return 1;
    }
    if (s_len > PLAIN_LARGE)
        budget_check(L);
    if (wants_place && (lua_toboolean(L, 4) || pattern_is_plain(p, p_len)))
        return find_plain(L, s, s_len, init, p, p_len);
    init_pattern(L, &m, s, s_len, p, p_len);
    anchored = take_anchor(&m);
    start = s + init;
    if (!check_search(L, &m, anchored, &start, &end)) {
        lua_pushnil(L);
        return 1;
    }
    if (!wants_place)
        return push_captures(L, &m, start, end);
    lua_pushinteger(L, start - s + 1);
    lua_pushinteger(L, end - s);
    return push_captures(L, &m, NULL, NULL) + 2;
}

/* string.find(s, pattern [, init [, plain]]) -> first, last, captures… | nil */
static int l_find(lua_State *L)
{
    return find(L, true);
}

/* string.match(s, pattern [, init]) -> captures… | the match | nil */
static int l_match(lua_State *L)
{
    return find(L, false);
}

/* ------------------------------------------------------------------------- gmatch */

/* An iteration, in a userdata; subject and pattern are kept by the closure. */
struct iteration {
    struct pattern m;
    const char *next; /* NULL: at its end */
    const char *last; /* where the latest match ended: no empty match may follow there */
};

static int l_next_match(lua_State *L)
{
    struct iteration *it = lua_touserdata(L, lua_upvalueindex(3));
    const char *start = it->next, *end;

    while (start && start <= it->m.subject_end && check_search(L, &it->m, false, &start, &end)) {
        if (end != it->last) {
            it->next = it->last = end;
            return push_captures(L, &it->m, start, end);
        }
        start++;
    }
    it->next = NULL;
    return 0;
}

/* string.gmatch(s, pattern [, init]) -> a function that returns the next match's captures */
static int l_gmatch(lua_State *L)
{
    size_t s_len, p_len, init;
    const char *s = luaL_checklstring(L, 1, &s_len), *p = luaL_checklstring(L, 2, &p_len);
    struct iteration *it;

    init = check_init(L, 3, s_len);
    lua_settop(L, 2);
    it = lua_newuserdatauv(L, sizeof(*it), 0);
    init_pattern(L, &it->m, s, s_len, p, p_len);
    it->next = init == SIZE_MAX ? NULL : s + init;
    it->last = NULL;
    lua_pushcclosure(L, l_next_match, 3);
    return 1;
}

/* ------------------------------------------------------------------------- gsub */

enum { SUBJECT = 1, PATTERN, REPLACEMENT, MAX_COUNT };

/* The replacement text, with %0 to %9 replaced by captures and %% by %. */
static void add_text(lua_State *L, struct pattern *m, luaL_Buffer *out, const char *start,
                     const char *end)
{
    size_t len;
    const char *text = lua_tolstring(L, REPLACEMENT, &len), *text_end = text + len;

    for (;;) {
        const char *percent = memchr(text, '%', (size_t)(text_end - text));
        char what;

        luaL_addlstring(out, text, (size_t)((percent ? percent : text_end) - text));
        if (!percent)
            return;
        what = percent + 1 < text_end ? percent[1] : '\0';
        text = percent + 2;
        if (what == '%') {
            luaL_addchar(out, '%');
        } else if (what == '0') {
            luaL_addlstring(out, start, (size_t)(end - start));
        } else if (what >= '1' && what <= '9') {
            push_capture(L, m, what - '1', start, end);
            luaL_addvalue(out);
        } else {
            script_raise(L, "invalid use of '%%' in replacement string");
        }
        if (pattern_spend(m, 1) < 0)
            raise_problem(L, m);
    }
}

/* What is to stand for the match start..end. False: the match itself. */
static bool add_value(lua_State *L, struct pattern *m, luaL_Buffer *out, const char *start,
                      const char *end)
{
    switch (lua_type(L, REPLACEMENT)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, REPLACEMENT);
        lua_call(L, push_captures(L, m, start, end), 1);
        break;
    case LUA_TTABLE:
        push_capture(L, m, 0, start, end);
        lua_gettable(L, REPLACEMENT);
        break;
    default:
        add_text(L, m, out, start, end);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, start, (size_t)(end - start));
        return false;
    }
    if (!lua_isstring(L, -1))
        script_raise(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(out);
    return true;
}

/* string.gsub(s, pattern, replacement [, max_count]) -> s with replacements, how many matches */
static int l_gsub(lua_State *L)
{
    size_t s_len, p_len;
    const char *s = luaL_checklstring(L, SUBJECT, &s_len);
    const char *p = luaL_checklstring(L, PATTERN, &p_len);
    int type = lua_type(L, REPLACEMENT);
    lua_Integer max_count = luaL_optinteger(L, MAX_COUNT, (lua_Integer)s_len + 1), count = 0;
    const char *at = s, *last = NULL, *start, *end;
    bool anchored, changed = false;
    struct pattern m;
    luaL_Buffer out;

    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TTABLE ||
                         type == LUA_TFUNCTION,
                     REPLACEMENT, "string/function/table");
    luaL_buffinit(L, &out);
    init_pattern(L, &m, s, s_len, p, p_len);
    anchored = take_anchor(&m);
    while (count < max_count) {
        start = at;
        if (!check_search(L, &m, anchored, &start, &end))
            break;
        luaL_addlstring(&out, at, (size_t)(start - at));
        at = start;
        if (end != last) {
            count++;
            changed |= add_value(L, &m, &out, start, end);
            at = last = end;
        } else if (at < m.subject_end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchored)
            break;
    }
    if (changed) {
        luaL_addlstring(&out, at, (size_t)(m.subject_end - at));
        luaL_pushresult(&out);
    } else {
        lua_pushvalue(L, SUBJECT);
    }
    lua_pushinteger(L, count);
    return 2;
}

void bind_pattern_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
}
