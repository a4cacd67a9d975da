/* SPDX-License-Identifier: MIT */
/*
 * A pattern and a subject, and that the same comes of them as with Lua's own functions. The input:
 * the pattern, a newline, the replacement of gsub, a newline, the subject.
 *
 * Lua's own can't be stopped, so it gets only what ours has finished within some steps, wherever in
 * the subject it began.
 */
#include "script/pattern.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/script/pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    TEXT_MAX = 120, /* Lua allows 200 items */
    SUBJECT_MAX = 500,
    QUESTIONS = 20,
};

static const char compare[] =
    "local text, subject, replacement = ...\n"
    "both(function(string) return string.find(subject, text) end, 'find')\n"
    "both(function(string) return string.find(subject, text, 1, true) end, 'find plain')\n"
    "both(function(string) return string.match(subject, text, -5) end, 'match')\n"
    "both(function(string)\n"
    "  local all = {}\n"
    "  for a, b, c in string.gmatch(subject, text) do\n"
    "    all[#all + 1] = ('%s|%s|%s'):format(a, b, c)\n"
    "  end\n"
    "  return table.concat(all, ' ')\n"
    "end, 'gmatch')\n"
    "both(function(string) return string.gsub(subject, text, replacement) end, 'gsub')\n"
    "both(function(string) return string.gsub(subject, text, string.len, 3) end, 'gsub 3')\n";

static lua_State *open_pair(void)
{
    static struct pair pair;

    if (!pair.L) {
        if (!pair_open(&pair) || luaL_loadstring(pair.L, compare) != LUA_OK)
            abort();
    }
    return pair.L;
}

static bool count_questions(void *arg)
{
    return --*(int *)arg <= 0;
}

/* The captures lie in the subject; false when it takes long. */
static bool is_quick(const char *text, size_t text_len, const char *subject, size_t len)
{
    int questions = QUESTIONS;
    struct pattern m;

    pattern_init(&m, subject, len, text, text_len, count_questions, &questions);
    for (size_t i = 0; i <= len; i++) {
        const char *end;
        int rc = pattern_match(&m, subject + i, &end);

        if (rc == ERR_LIMIT)
            return false;
        if (rc <= 0)
            continue;
        assert(end >= subject + i && end <= subject + len);
        for (int j = 0; j < m.count; j++) {
            const struct pattern_capture *capture = &m.captures[j];

            assert(capture->start >= subject + i && capture->start <= end);
            if ((m.closed >> j & 1) && capture->len != PATTERN_POSITION)
                assert(capture->len <= (size_t)(end - capture->start));
        }
    }
    return true;
}

static const char *find_line_end(const char *data, const char *end)
{
    const char *found = memchr(data, '\n', (size_t)(end - data));

    return found ? found : end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *end = text + size;
    const char *text_end = find_line_end(text, end);
    const char *replacement = text_end < end ? text_end + 1 : end;
    const char *replacement_end = find_line_end(replacement, end);
    const char *subject = replacement_end < end ? replacement_end + 1 : end;
    lua_State *L = open_pair();

    if (text_end - text > TEXT_MAX || end - subject > SUBJECT_MAX)
        return 0;
    if (!is_quick(text, (size_t)(text_end - text), subject, (size_t)(end - subject)))
        return 0;
    lua_pushvalue(L, 1);
    lua_pushlstring(L, text, (size_t)(text_end - text));
    lua_pushlstring(L, subject, (size_t)(end - subject));
    lua_pushlstring(L, replacement, (size_t)(replacement_end - replacement));
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    return 0;
}
