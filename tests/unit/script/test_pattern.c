/* SPDX-License-Identifier: MIT */
/* Our find, match, gmatch and gsub beside Lua's own, and what ends them. */
#include "script/pattern.h"

#include "bench.h"

#include "pair.h"

/* ------------------------------------------------------------------------- beside Lua's own */

static void run(lua_State *L, const char *text)
{
    if (!pair_run(L, text))
        fail_msg("%s", lua_tostring(L, -1));
}

static void pattern__cases(void **state)
{
    static const struct {
        const char *expression, *wanted; /* of `string`; "" as wanted: whatever Lua says */
    } cases[] = {
        {"string.find('hello', 'l')", "3 3"},
        {"string.find('hello', 'l+')", "3 4"},
        {"string.find('hello', 'xyz')", "nil"},
        {"string.find('', '')", "1 0"},
        {"string.find('abc', '', 10)", "nil"},
        {"string.find('abc', '', 4)", "4 3"},
        {"string.find('abc', 'b', -2)", "2 2"},
        {"string.find('abc', 'b', -9)", "2 2"},
        {"string.find('abc', 'a', 0)", "1 1"},
        {"string.find('abc', 'b', math.mininteger)", "2 2"},
        {"string.find('abc', 'b', math.maxinteger)", "nil"},
        {"string.find('a.b', '.', 2, true)", "2 2"},
        {"string.find('a+b', '+', 1, true)", "2 2"},
        {"string.find('a)b]', ')')", "2 2"},
        {"string.find('a\\0b', '\\0')", "2 2"},
        {"string.find('a\\0b', '%z')", "2 2"},
        {"string.find('aa\\0bb', '%a\\0%a')", "2 4"},
        {"string.find(1234, 23)", "2 3"},
        {"string.match('key = value', '^(%w+)%s*=%s*(%w+)$')", "\"key\" \"value\""},
        {"string.match('  x  ', '^%s*(.-)%s*$')", "\"x\""},
        {"string.match('abc', '()b()')", "2 3"},
        {"string.match('2024-01-31', '(%d+)-(%d+)-(%d+)')", "\"2024\" \"01\" \"31\""},
        {"string.match('f(a(b)c)d', '%b()')", "\"(a(b)c)\""},
        {"string.match('THE (quick) fox', '%f[%a]%a+%f[%A]')", "\"THE\""},
        {"string.match('THE (quick) fox', '%f[%l]%l+')", "\"quick\""},
        {"string.match('say \"hi\" now', '([\"\\'])(.-)%1')", "\"\\\"\" \"hi\""},
        {"string.match('a-b', '[a%-]+')", "\"a-\""},
        {"string.match('a]b', '[]]')", "\"]\""},
        {"string.match('a]b', '[^]]+')", "\"a\""},
        {"string.match('a-z', '[a-]+')", "\"a-\""},
        {"string.match('^x', '[x^]+')", "\"^x\""},
        {"string.match('x^', 'x^')", "\"x^\""},
        {"string.match('a$b', 'a$b')", "\"a$b\""},
        {"string.match('abc', '((a)(b)(c))')", "\"abc\" \"a\" \"b\" \"c\""},
        {"string.match('aaa', 'a-')", "\"\""},
        {"string.match('aaab', 'a-b')", "\"aaab\""},
        {"string.match('aaa', '^a?a?a?a?$')", "\"aaa\""},
        {"string.match('abab', '(ab)%1')", "\"ab\""},
        {"string.match('abc', '()%1')", "nil"},
        {"string.match('\\xE9t\\xE9', '%W+')", "\"\xE9\""},
        {"string.gsub('hello world', 'o', '0')", "\"hell0 w0rld\" 2"},
        {"string.gsub('hello', '', '-')", "\"-h-e-l-l-o-\" 6"},
        {"string.gsub('hello', 'x*', '-')", "\"-h-e-l-l-o-\" 6"},
        {"string.gsub('abc d', '%w*', '-')", "\"- -\" 2"},
        {"string.gsub('abc', '(%w)', '%1%1')", "\"aabbcc\" 3"},
        {"string.gsub('abc', '%w', '%0%%')", "\"a%b%c%\" 3"},
        {"string.gsub('abc', '%w', '%1', 2)", "\"abc\" 2"},
        {"string.gsub('abc', 'b', '()')", "\"a()c\" 1"},
        {"string.gsub('abc', '()', '%1')", "\"1a2b3c4\" 4"},
        {"string.gsub('abc', '%w', { a = 1, b = false })", "\"1bc\" 3"},
        {"string.gsub('abc', '(%w)(%w)', function(a, b) return b .. a end)", "\"bac\" 1"},
        {"string.gsub('abc', '%w', function() end)", "\"abc\" 3"},
        {"string.gsub('abc', '%w', function() return 7 end, 1)", "\"7bc\" 1"},
        {"string.gsub('abc', '^a', 'x')", "\"xbc\" 1"},
        {"string.gsub('aaa', '^a', 'x')", "\"xaa\" 1"},
        {"string.gsub('aaa', 'a', 'x', 0)", "\"aaa\" 0"},
        {"string.gsub('aaa', 'a', 'x', -1)", "\"aaa\" 0"},
        {"string.gsub('a\\0b', '\\0', '%0%0')", "\"a\\0\\0b\" 1"},
        {"string.gsub('abc', 'b', 5)", "\"a5c\" 1"},
        {"string.gsub('x', 'x', setmetatable({}, { __index = function(_, k) return k .. k end }))",
         "\"xx\" 1"},
        {"(function() local t = {} for k, v in string.gmatch('a=1, b=2', '(%w+)=(%w+)') do\n"
         "t[#t + 1] = k .. v end return table.concat(t, ' ') end)()",
         "\"a1 b2\""},
        {"(function() local n = 0 for _ in string.gmatch('abc', '') do n = n + 1 end return n "
         "end)()",
         "4"},
        {"(function() local n = 0 for _ in string.gmatch('abc', '.', -2) do n = n + 1 end\n"
         "return n end)()",
         "2"},
        {"(function() local n = 0 for _ in string.gmatch('^a^a', '^a') do n = n + 1 end\n"
         "return n end)()",
         "2"},
        {"string.gmatch('abc', 'x', 9)()", ""},
        {"(function() local f = string.gmatch('a', '.') return f(), f(), f() end)()", "\"a\" nil"},
        {"string.find(string.rep('a', 160), string.rep('a?', 150) .. 'a+$')", "1 160"},
        {"string.match(string.rep('x', 32), string.rep('(x)', 32)) ", ""},
        /* what raises, and how */
        {"string.find('a', '[a')", "error: malformed pattern (missing ']')"},
        {"string.find('a', '[]')", "error: malformed pattern (missing ']')"},
        {"string.find('a', '[^]')", "error: malformed pattern (missing ']')"},
        {"string.find('a', '[a%')", "error: malformed pattern (missing ']')"},
        {"string.find('a', '[a%]')", "error: malformed pattern (missing ']')"},
        {"string.find('a', '[')", "error: malformed pattern (missing ']')"},
        {"string.find('a', '%')", "error: malformed pattern (ends with '%')"},
        {"string.find('a', 'b%')", "nil"},
        {"string.find('a', 'a%')", "error: malformed pattern (ends with '%')"},
        {"string.find('a', '%bx')", "error: malformed pattern (missing arguments to '%b')"},
        {"string.find('a', '%b')", "error: malformed pattern (missing arguments to '%b')"},
        {"string.find('a', '%f')", "error: missing '[' after '%f' in pattern"},
        {"string.find('a', '%fa')", "error: missing '[' after '%f' in pattern"},
        {"string.find('a', '(a')", "error: unfinished capture"},
        {"string.match('a', ')')", "error: invalid pattern capture"},
        {"string.match('a', 'a)')", "error: invalid pattern capture"},
        {"string.match('a', '%0')", ""},
        {"string.match('a', '%1')", ""},
        {"string.match('a', '(%1)')", ""},
        {"string.match('a', '(a)%2')", ""},
        {"string.find('a', string.rep('()', 33))", "error: too many captures"},
        {"string.gsub('a', 'a', '%2')", ""},
        {"string.gsub('a', 'a', '%')", "error: invalid use of '%' in replacement string"},
        {"string.gsub('a', 'a', '%x')", "error: invalid use of '%' in replacement string"},
        {"string.gsub('a', 'b', '%x')", "\"a\" 0"},
        {"string.gsub('a', 'a', function() return {} end)",
         "error: invalid replacement value (a table)"},
        {"string.gsub('a', 'a', { a = true })", "error: invalid replacement value (a boolean)"},
        {"string.gsub('a', 'a', function() error('mine', 0) end)", "error: mine"},
        {"string.gsub('a', 'a')", ""},
        {"string.gsub('a', 'a', true)", ""},
        {"string.gsub('a', 'a', 'b', 'x')", ""},
        {"string.find()", ""},
        {"string.find('a')", ""},
        {"string.find({}, 'a')", ""},
        {"string.find('a', 'a', 1.5)", ""},
        {"string.match('a', nil)", ""},
        {"string.gmatch('a')", ""},
    };
    struct pair pair;

    (void)state;
    assert_true(pair_open(&pair));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[1024];

        snprintf(text, sizeof(text), "return both(function(string) return %s end, [==[%s]==])",
                 cases[i].expression, cases[i].expression);
        run(pair.L, text);
        if (cases[i].wanted[0] && strcmp(lua_tostring(pair.L, -1), cases[i].wanted) != 0)
            fail_msg("%s gives %s", cases[i].expression, lua_tostring(pair.L, -1));
        lua_settop(pair.L, 0);
    }
    lua_close(pair.L);
}

/* Patterns and subjects of few characters, so that they meet often. */
static void pattern__random_ones_do_as_lua_does(void **state)
{
    static const char text[] =
        "local seed = 20240229\n"
        "local function random(n)\n"
        "  seed = (seed * 6364136223846793005 + 1442695040888963407)\n"
        "  return (seed >> 33) % n + 1\n"
        "end\n"
        "local function pick(list) return list[random(#list)] end\n"
        "local letters = { 'a', 'b', 'c', 'A', '1', ' ', '-', ']', '^', '\\0', '(', ')', '\\xE9' "
        "}\n"
        "local sets = { '[ab]', '[^ab]', '[a-c]', '[^%a]', '[%w_]', '[]a]', '[^]]', '[a-]', "
        "'[%]]',\n"
        "  '[a%-c]', '[%a-z]', '[\\0-b]', '[c-a]', '[^^a]', '[%d%s]', '[a' }\n"
        "local classes = { '%a', '%A', '%d', '%D', '%l', '%u', '%s', '%S', '%w', '%W', '%p', "
        "'%x',\n"
        "  '%c', '%g', '%%', '%.', '%-', '%]', '%z', '%Z', '%y', '.', '.' }\n"
        "local odd = { '%b()', '%bab', '%baa', '%b1', '%f[%a]', '%f[^a]', '%f[\\0]', '%fa', '%1', "
        "'%2',\n"
        "  '%0', '()', '(', ')', '$', '^', '%', '[', '((', '))' }\n"
        "local repeats = { '', '', '', '*', '+', '-', '?' }\n"
        "local function item(depth)\n"
        "  local r = random(20)\n"
        "  if r <= 8 then return pick(letters) .. pick(repeats)\n"
        "  elseif r <= 12 then return pick(classes) .. pick(repeats)\n"
        "  elseif r <= 15 then return pick(sets) .. pick(repeats)\n"
        "  elseif r <= 17 or depth > 2 then return pick(odd) end\n"
        "  local parts = {}\n"
        "  for i = 1, random(3) do parts[i] = item(depth + 1) end\n"
        "  return '(' .. table.concat(parts) .. ')' .. (random(6) == 1 and '%1' or '')\n"
        "end\n"
        "local function pattern()\n"
        "  local parts = {}\n"
        "  for i = 1, random(6) do parts[i] = item(0) end\n"
        "  return (random(5) == 1 and '^' or '') .. table.concat(parts)\n"
        "    .. (random(5) == 1 and '$' or '')\n"
        "end\n"
        "local function subject()\n"
        "  local parts = {}\n"
        "  for i = 1, random(14) - 1 do parts[i] = letters[random(random(#letters))] end\n"
        "  return table.concat(parts)\n"
        "end\n"
        "local templates = { '<%0>', '%1', '[%2%1]', '%%', '', 'x', '%9', '%' }\n"
        "local raised = 0\n"
        "for i = 1, 20000 do\n"
        "  local s, p, init, n = subject(), pattern(), random(24) - 12, random(4) - 1\n"
        "  if random(2) == 1 then init = nil end\n"
        "  if random(2) == 1 then n = nil end\n"
        "  local template = pick(templates)\n"
        "  local what = ('%q in %q from %s'):format(p, s, init)\n"
        "  local found = both(function(string) return string.find(s, p, init) end, 'find ' .. "
        "what)\n"
        "  if found:sub(1, 6) == 'error:' then raised = raised + 1 end\n"
        "  both(function(string) return string.match(s, p, init) end, 'match ' .. what)\n"
        "  both(function(string)\n"
        "    local all = {}\n"
        "    for a, b, c in string.gmatch(s, p, init) do\n"
        "      all[#all + 1] = ('%s|%s|%s'):format(a, b, c)\n"
        "    end\n"
        "    return table.unpack(all)\n"
        "  end, 'gmatch ' .. what)\n"
        "  both(function(string) return string.gsub(s, p, template, n) end,\n"
        "    ('gsub %s by %q, %s times'):format(what, template, n))\n"
        "  both(function(string) return string.gsub(s, p, function(a, b)\n"
        "    return a ~= 'b' and (tostring(a) .. tostring(b)) end, n) end, 'gsub ' .. what)\n"
        "  both(function(string) return string.gsub(s, p, { a = 'b', b = 1, ab = false, [1] = 'p' "
        "}) end,\n"
        "    'gsub ' .. what)\n"
        "end\n"
        "assert(raised > 2000 and raised < 13000, raised)\n";
    struct pair pair;

    (void)state;
    assert_true(pair_open(&pair));
    run(pair.L, text);
    lua_close(pair.L);
}

/* ------------------------------------------------------------------------- pattern.h alone */

static bool count_questions(void *arg)
{
    return --*(int *)arg <= 0;
}

static int match_text(const char *s, const char *p, int questions, struct pattern *m)
{
    const char *start, *end;

    pattern_init(m, s, strlen(s), p, strlen(p), count_questions, &questions);
    return pattern_search(m, s, &start, &end);
}

static void pattern__stops_when_it_is_told_to(void **state)
{
    static const char *const endless[] = {
        "a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
        ".-.-.-.-.-.-.-.-b",
        "a*a*a*a*a*a*a*a*b",
        "(a*)(a*)(a*)(a*)(a*)(a*)%1%2%3%4b",
        "[^b]+[^b]+[^b]+[^b]+[^b]+[^b]+[^b]+b",
    };
    char subject[201];
    struct pattern m;

    (void)state;
    memset(subject, 'a', sizeof(subject) - 1);
    subject[sizeof(subject) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(endless); i++)
        assert_int_equal(match_text(subject, endless[i], 20, &m), ERR_LIMIT);
    assert_int_equal(match_text(subject, "a+b", 20, &m), 0);
    assert_int_equal(match_text("aab", "a+b", 1, &m), 1);
}

static void pattern__choices_are_bounded(void **state)
{
    char subject[1001], p[2001] = "";
    struct pattern m;

    (void)state;
    memset(subject, 'a', sizeof(subject) - 1);
    subject[sizeof(subject) - 1] = '\0';
    for (int i = 0; i < PATTERN_CHOICES_MAX; i++)
        strcat(p, "a?");
    assert_int_equal(match_text(subject, p, 1000, &m), 1);
    strcat(p, "a-");
    assert_int_equal(match_text(subject, p, 1000, &m), ERR_INVALID);
    assert_string_equal(m.problem, "pattern too complex");
}

/* ------------------------------------------------------------------------- in a script */

static void hits_time_limit(const char *body)
{
    struct bench b;

    bench_open(&b);
    b.timeout_ms = 200;
    bench_script(&b, "local n = 0\n", body);
    bench_run(&b);
    bench_says(&b, ERR_LIMIT, "ran longer than 200 ms");
    bench_script(&b, "", "assert(('a'):rep(20):find('a+') == 1)");
    bench_run(&b);
    bench_ok(&b);
    bench_close(&b);
}

static void limits__time_ends_patterns(void **state)
{
    static const char *const bodies[] = {
        "return ('a'):rep(32):find(('a?'):rep(32) .. ('a'):rep(32) .. 'b')",
        "return ('a'):rep(600):match('.-.-.-.-b')",
        "return string.gsub(('a'):rep(600), '.-.-.-.-b', '')",
        "for x in ('a'):rep(600):gmatch('.-.-.-.-b') do end",
        "while true do pcall(string.find, ('a'):rep(600), '.-.-.-.-b') end",
        "return pcall(pcall, string.find, ('a'):rep(600), '.-.-.-.-b')",
        "local co = coroutine.wrap(function() return ('a'):rep(600):find('.-.-.-.-b') end)\n"
        "return pcall(co)",
        "local x <close> = setmetatable({}, { __close = function()\n"
        "  return ('a'):rep(600):find('.-.-.-.-b') end })\nerror 'x'",
        "return ('('):rep(2e5):find('%b()')",
        "return ('a'):rep(1e6):find('[' .. ('b'):rep(1e5) .. 'a]*x')",
        "return ('a'):rep(1e6):find('(a*)%1b')",
        "return ('a'):rep(2e5):gsub('', ('%1'):rep(1e5))",
        "return ('a'):rep(1e5):gsub('()', setmetatable({}, { __index = function(_, k)\n"
        "  return ('a'):rep(600):find('.-.-.-.-b') end }))",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        hits_time_limit(bodies[i]);
}

/* Lua's own takes the product of both lengths. */
static void pattern__plain_find_is_linear(void **state)
{
    (void)state;
    bench_all_pass("", "local hay = ('a'):rep(1000000)\n"
                       "local needle = ('a'):rep(500000) .. 'b'\n"
                       "for _ = 1, 5 do assert(not hay:find(needle, 1, true)) end\n"
                       "assert(not hay:find(needle))\n");
}

static void pattern__errors_name_file_and_line(void **state)
{
    static const struct raising cases[] = {
        {"return ('a'):find('[')", "handlers.lua:4: malformed pattern (missing ']')"},
        {"select(2, pcall(string.find, 'a', '['))\n"
         "error(select(2, pcall(string.find, 'a', '[')), 0)",
         "handlers.lua:5: malformed pattern"},
        {"return ('a'):gsub('a', '%2')", "handlers.lua:4: invalid capture index %2"},
        {"return ('a'):gsub('a', true)", "handlers.lua:4: bad argument #2 to 'gsub'"},
        {"for _ in ('a'):gmatch('(') do end", "handlers.lua:4: unfinished capture"},
    };

    (void)state;
    bench_all_raise("", cases, ARRAY_LEN(cases));
}

/* Nothing is lost when a callback raises, yields or goes deep. */
static void pattern__callbacks(void **state)
{
    (void)state;
    bench_all_pass(
        "", "local long = ('x'):rep(20000)\n"
            "for i = 1, 300 do\n"
            "  local ok, e = pcall(string.gsub, long, 'x', function() if i > 0 then error(i, 0) "
            "end end)\n"
            "  assert(not ok and e == i)\n"
            "end\n"
            "assert(not coroutine.resume(coroutine.create(function()\n"
            "  return long:gsub('x', coroutine.yield) end)))\n"
            "local function deep(n)\n"
            "  return (('x'):gsub('x', function() return n > 0 and deep(n - 1) or 'end' end))\n"
            "end\n"
            "assert(deep(50) == 'end')\n"
            "local ok, e = pcall(deep, 5000)\n"
            "assert(not ok and e:find('C stack overflow'), e)\n"
            "local f = ('a b c'):gmatch('%a')\n"
            "assert(coroutine.wrap(f)() == 'a' and f() == 'b')\n"
            "collectgarbage()\n"
            "assert(f() == 'c' and f() == nil and f() == nil)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pattern__cases),
        cmocka_unit_test(pattern__random_ones_do_as_lua_does),
        cmocka_unit_test(pattern__stops_when_it_is_told_to),
        cmocka_unit_test(pattern__choices_are_bounded),
        IN_TEMP_DIR(limits__time_ends_patterns),
        IN_TEMP_DIR(pattern__plain_find_is_linear),
        IN_TEMP_DIR(pattern__errors_name_file_and_line),
        IN_TEMP_DIR(pattern__callbacks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
