/* SPDX-License-Identifier: MIT */
/* authkit.routes: what may be declared, what a function gets, and what its results become. */
#include "asking.h"
#include "embedded_lua.h"
#include "script/script_state.h"

#define TEXT "200 text/plain; charset=utf-8||"
#define JSON "200 application/json||"

static struct asking a;

static int open_asking(void **state)
{
    int rc = enter_temp_dir(state);

    if (rc == 0)
        asking_open(&a);
    return rc;
}

static int close_asking(void **state)
{
    asking_close(&a);
    return leave_temp_dir(state);
}

#define WITH_ASKING(test) cmocka_unit_test_setup_teardown(test, open_asking, close_asking)

/* ------------------------------------------------------------------------- declaring */

static void routes__wrong_ones_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"authkit.routes { ['OPTIONS /x'] = print }",
         "'OPTIONS /x': OPTIONS is answered by itself"},
        {"authkit.routes { ['LINK /x'] = print }", "there are the methods GET, HEAD, POST"},
        {"authkit.routes { ['GET /a//b'] = print }", "authkit.routes: 'GET /a//b'"},
        {"authkit.routes { ['GET /a\\0b'] = print }", "no spaces and control characters"},
        {"authkit.routes { ['GET /:a'] = 5 }", "route 'GET /:a' wants a function, not a number"},
        {"authkit.routes { ['GET /a'] = print } authkit.routes { ['GET /a'] = print }",
         "'GET /a' is registered twice"},
        {"authkit.routes { ['GET /t/:id'] = print } authkit.routes { ['GET /t/:list'] = print }",
         "'GET /t/:id' and 'GET /t/:list' take the same requests"},
        {"authkit.routes { ['GET /workos/user'] = print }",
         "'GET /workos/user': authkitd serves /workos/user itself"},
        {"authkit.routes { ['POST /healthz'] = print }", "authkitd serves /healthz itself"},
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "local authkit = require 'authkit'\n\n%s\n", cases[i].text);
        bench_load(&a.b, text);
        bench_says(&a.b, ERR_SCRIPT, cases[i].wanted);
        bench_says(&a.b, ERR_SCRIPT, "handlers.lua:3: authkit.routes: ");
    }
    asking_load(&a, "authkit.routes { ['GET /healthz/'] = print, ['GET /:a/user'] = print,\n"
                    "  ['GET /t/:id'] = print, ['PUT /t/:id'] = print, ['GET /t/x'] = print }");
}

static void routes__known_ones(void **state)
{
    struct buf methods = BUF_INIT(100);
    const struct script *script;

    (void)state;
    asking_load(&a, "");
    assert_string_equal(script_route_names(a.b.script), "");
    assert_int_equal(script_find_route(a.b.script, "GET", "/"), SCRIPT_ROUTE_NO_PATH);
    asking_load(&a, "authkit.routes { ['GET /a'] = print, ['POST /a'] = print,\n"
                    "  ['DELETE /:x'] = print, ['PUT /b/:x'] = print }");
    script = a.b.script;
    assert_string_equal(script_route_names(script), "DELETE /:x, GET /a, POST /a, PUT /b/:x");
    assert_int_equal(script_find_route(script, "GET", "/a"), SCRIPT_ROUTE_FOUND);
    assert_int_equal(script_find_route(script, "HEAD", "/a"), SCRIPT_ROUTE_FOUND);
    assert_int_equal(script_find_route(script, "DELETE", "/a"), SCRIPT_ROUTE_FOUND);
    assert_int_equal(script_find_route(script, "PUT", "/a"), SCRIPT_ROUTE_NO_METHOD);
    assert_int_equal(script_find_route(script, "OPTIONS", "/a"), SCRIPT_ROUTE_NO_METHOD);
    assert_int_equal(script_find_route(script, "HEAD", "/b"), SCRIPT_ROUTE_NO_METHOD);
    assert_int_equal(script_find_route(script, "GET", "/a/"), SCRIPT_ROUTE_NO_PATH);
    assert_int_equal(script_find_route(script, "PUT", "/b/%zz"), SCRIPT_ROUTE_FOUND);
    script_put_route_methods(script, "/a", &methods);
    assert_string_equal(methods.data, "GET, HEAD, POST, DELETE, OPTIONS");
    buf_reset(&methods);
    script_put_route_methods(script, "/b/1", &methods);
    assert_string_equal(methods.data, "PUT, OPTIONS");
    buf_reset(&methods);
    script_put_route_methods(script, "/", &methods);
    assert_int_equal(methods.len, 0);
    buf_release(&methods);
}

static void routes__what_was_not_declared_is_absent(void **state)
{
    (void)state;
    asking_route(&a, "GET /a", "return 1");
    asking_for(&a, "GET /b");
    bench_says(&a.b, ERR_ABSENT, "no route fits GET /b");
    asking_for(&a, "POST /a");
    bench_says(&a.b, ERR_ABSENT, "no route fits POST /a");
    assert_string_equal(asking_for(&a, "HEAD /a"), JSON "1");
}

/* ------------------------------------------------------------------------- request */

static void request__fields(void **state)
{
    (void)state;
    a.headers[0] = (struct http_header){"Host", "x"};
    a.headers[1] = (struct http_header){"X-One", "1"};
    a.headers[2] = (struct http_header){"Cookie", "a=1"};
    a.headers[3] = (struct http_header){"x-one", "2"};
    a.headers[4] = (struct http_header){"cookie", "b=2"};
    a.headers[5] = (struct http_header){"X-ONE", "3"};
    a.header_count = 6;
    a.body = "a\0b";
    a.body_len = 3;
    asking_route(&a, "POST /l\xC3\xA4nder/:land/:id",
                 "assert(request.method == 'POST')\n"
                 "assert(request.path == '/l\xC3\xA4nder/a/b+c d/1', request.path)\n"
                 "assert(request.params.land == 'a/b+c d' and request.params.id == '1')\n"
                 "assert(request.query_string == 'a=1&b=x+y%2B%26&a=2&c&=d&&%C3%A4=%C3%B6&e=')\n"
                 "local q = request.query\n"
                 "assert(q.a == '1' and q.b == 'x y+&' and q.c == '' and q[''] == 'd')\n"
                 "assert(q['\xC3\xA4'] == '\xC3\xB6' and q.e == '' and q.f == nil)\n"
                 "assert(request.headers.host == 'x' and request.headers['x-one'] == '1, 2, 3')\n"
                 "assert(request.headers.cookie == 'a=1; b=2' and not request.headers.Host)\n"
                 "assert(request.body == 'a\\0b' and request.remote_addr == '192.0.2.1')\n"
                 "assert(request.query == q and request.nothing == nil and request[1] == nil)\n"
                 "assert(request['path\\0x'] == nil)\n");
    assert_string_equal(asking_for(&a, "POST /l%C3%A4nder/a%2Fb+c%20d/1?"
                                       "a=1&b=x+y%2B%26&a=2&c&=d&&%C3%A4=%C3%B6&e="),
                        "204 -||");
}

static void request__without_anything(void **state)
{
    (void)state;
    assert_string_equal(asking_once(&a,
                                    "assert(next(request.params) == nil)\n"
                                    "assert(next(request.query) == nil)\n"
                                    "assert(next(request.headers) == nil)\n"
                                    "assert(request.body == '' and request.query_string == '')\n"
                                    "return 'ok'"),
                        TEXT "ok");
}

static void request__is_a_table_of_its_own(void **state)
{
    (void)state;
    a.body = "{\"a\":1}";
    assert_string_equal(
        asking_once(&a, "assert(not request.mine and not request.query.mine)\n"
                        "request.mine, request.query.mine, request.method = 1, 2, 'X'\n"
                        "assert(request.mine == 1 and request.method == 'X')\n"
                        "assert(request:json() == request.json() and request.json().a == 1)\n"
                        "local found = {}\n"
                        "for key, value in pairs(request) do found[#found + 1] = key end\n"
                        "table.sort(found)\n"
                        "assert(not pcall(setmetatable, request, {}))\n"
                        "assert(getmetatable(request) == false)\n"
                        "return table.concat(found, ' ')"),
        TEXT "body headers json method mine params path query query_string remote_addr");
    assert_string_equal(asking_for(&a, "GET /"), TEXT
                        "body headers json method mine params path query query_string remote_addr");
}

/* What pairs gives away is a function that a script may call with anything. */
static void request__its_iterator_takes_tables_only(void **state)
{
    (void)state;
    assert_string_equal(asking_once(&a, "local step = pairs(request)\n"
                                        "for _, value in ipairs { 5, 'x', print, true } do\n"
                                        "  assert(not pcall(step, value))\n"
                                        "end\n"
                                        "assert(not pcall(step) and step({ 'a' }) == 1)\n"
                                        "return 'ok'"),
                        TEXT "ok");
}

/* So a client can clear a value, and leave another one alone. */
static void request__null_differs_from_nothing_when_asked_for(void **state)
{
    (void)state;
    a.body = "{\"a\":null,\"c\":1}";
    assert_string_equal(asking_once(&a,
                                    "local body = request.json(authkit.null)\n"
                                    "assert(body.a == authkit.null and body.b == nil)\n"
                                    "assert(body == request:json(authkit.null))\n"
                                    "assert(request.json().a == nil and request:json().c == 1)\n"
                                    "assert(not pcall(request.json, 'null'))\n"
                                    "return body"),
                        JSON "{\"a\":null,\"c\":1}");
}

static void request__bad_encoding_is_answered(void **state)
{
    static const char *const paths[] = {"GET /%", "GET /%zz", "GET /a%FF", "GET /a%00b",
                                        "GET /%C3"};
    static const char *const queries[] = {"GET /a?%", "GET /a?a=%f", "GET /a?a=1&%FF",
                                          "GET /a?a=1&a=%zz"};

    (void)state;
    asking_route(&a, "GET /:x", "return request.query.a");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_string_equal(asking_for(&a, paths[i]),
                            "refused 400 application/json||{\"error\":{\"code\":\"bad_path\","
                            "\"message\":\"the path isn't percent-encoded UTF-8\"}}");
    for (size_t i = 0; i + 1 < ARRAY_LEN(queries); i++)
        assert_string_equal(asking_for(&a, queries[i]),
                            "refused 400 application/json||{\"error\":{\"code\":\"bad_query\","
                            "\"message\":\"the query isn't percent-encoded UTF-8\"}}");
    bench_says(&a.b, ERR_SCRIPT, "400 bad_query: the query isn't");
    assert_string_equal(asking_for(&a, "GET /a?a=%00"),
                        "refused 400 application/json||{\"error\":{\"code\":\"bad_query\","
                        "\"message\":\"the query must not contain %00\"}}");
    asking_route(&a, "GET /:x",
                 "return request.query_string"); /* who doesn't look isn't bothered */
    assert_string_equal(asking_for(&a, "GET /a?%"), TEXT "%");
}

/* One with too few values was taken for one with nulls: a page from somewhere. */
static void request__cursor_of_another_order_is_answered(void **state)
{
    static const char *const cursors[] = {
        "[]",
        "{}",
        "[null]",
        "[\"email,id\"]",
        "[\"email,id\",\"Ada\"]",
        "[\"email,id\",null,\"u\",1]",
        "[\"email,id\",\"Ada\",\"u\",null]",
        "[\"email,id\",\"Ada\",null]",
        "[\"Ada\",\"user_1\"]", /* as they once were */
        "[null,\"Ada\",\"user_1\"]",
        "[\"-email,-id\",\"Ada\",\"user_1\"]",
        "[\"email,-id\",\"Ada\",\"user_1\"]",
        "[\"external_id,id\",\"Ada\",\"user_1\"]",
        "[\"id\",\"Ada\",\"user_1\"]",
        "{\"a\":1,\"b\":2}",
    };
    static const char *const good[] = {"[\"email,id\",\"Ada\",\"user_1\"]",
                                       "[\"email,id\",null,\"user_1\"]"};

    (void)state;
    asking_route(
        &a, "POST /",
        "return ctx.db.query('workos_users'):order_by('email'):after(request.body):count()");
    for (size_t i = 0; i < ARRAY_LEN(cursors); i++) {
        a.body = cursors[i];
        assert_non_null(
            strstr(asking_for(&a, "POST /"),
                   "refused 400 application/json||{\"error\":{\"code\":\"bad_cursor\""));
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        a.body = good[i];
        assert_non_null(strstr(asking_for(&a, "POST /"), JSON));
    }
}

/* It was a 500 with a traceback: strangers could fill the log. */
static void request__cursor_that_is_none_is_answered(void **state)
{
    static const char *const cursors[] = {" ",   "x",    "5",          "[1,2,3]",
                                          "[5]", "true", "[\"id\",5]", "[\"id\",null]"};

    (void)state;
    asking_route(&a, "POST /", "return ctx.db.query('workos_users'):after(request.body):all()");
    for (size_t i = 0; i < ARRAY_LEN(cursors); i++) {
        a.body = cursors[i];
        assert_non_null(
            strstr(asking_for(&a, "POST /"),
                   "refused 400 application/json||{\"error\":{\"code\":\"bad_cursor\""));
    }
    a.body = "[\"id\",\"user_1\"]";
    assert_string_equal(asking_for(&a, "POST /"), JSON "[]");
}

/* It was a 400: a client that has no cursor yet sends ?after= for its first page. */
static void request__empty_cursor_is_the_first_page(void **state)
{
    (void)state;
    asking_route(&a, "GET /",
                 "return ctx.db.query('workos_users'):after(request.query.after):all()");
    assert_non_null(strstr(asking_for(&a, "GET /?after="), JSON "[{"));
    assert_non_null(strstr(asking_for(&a, "GET /"), JSON "[{"));
    assert_string_equal(asking_for(&a, "GET /?after=[\"id\",\"user_9\"]"), JSON "[]");
}

static void request__body_that_is_not_json_is_answered(void **state)
{
    (void)state;
    asking_route(&a, "POST /", "return request:json().a");
    a.body = "{\"a\":[1,{\"b\":null}]}";
    assert_string_equal(asking_for(&a, "POST /"), JSON "[1,{}]");
    a.body = "{\"a\":\n 1,}";
    assert_string_equal(
        asking_for(&a, "POST /"),
        "refused 400 application/json||{\"error\":{\"code\":\"invalid_json\",\"message\":"
        "\"the body is not valid JSON: a member without a name at line 2, column 4\"}}");
    a.body = "";
    assert_non_null(strstr(asking_for(&a, "POST /"), "\"invalid_json\",\"message\":\"there is no "
                                                     "body\""));
    a.body = "null";
    asking_for(&a, "POST /");
    bench_says(&a.b, ERR_SCRIPT, "handlers.lua:3: attempt to index a nil value");
    asking_route(&a, "POST /",
                 "local ok, problem = pcall(request.json)\n"
                 "return ok and request.json() or tostring(problem)");
    a.body = "\"x\"";
    assert_string_equal(asking_for(&a, "POST /"), TEXT "x");
    a.body = "x";
    assert_non_null(
        strstr(asking_for(&a, "POST /"), TEXT "400 invalid_json: the body is not valid JSON"));
}

/* The memory behind a request is the server's: of one that was kept there is left what was looked at,
 * and its json() doesn't read another one's body. */
/* What it took to read one large body isn't kept for all small ones that follow. */
static void request__large_body_leaves_no_memory_behind(void **state)
{
    enum { ZEROS = 400000 };
    char *body = malloc(2 * ZEROS + 2);

    (void)state;
    assert_non_null(body);
    for (size_t i = 0; i < ZEROS; i++)
        memcpy(body + 1 + 2 * i, "0,", 2);
    body[0] = '[';
    memcpy(body + 2 * ZEROS, "]", 2);
    asking_route(&a, "POST /", "return #request.json()");
    a.body = body;
    assert_string_equal(asking_for(&a, "POST /"), JSON "400000");
    assert_true(a.b.script->scratch.capacity <= SCRATCH_KEPT_NODES);
    free(body);
}

static void request__kept_one_reads_nothing_any_more(void **state)
{
    char *body = strdup("{\"a\":1}");

    (void)state;
    asking_load(
        &a, "authkit.routes {\n"
            "  ['POST /keep'] = function(ctx, request)\n"
            "    kept, json = request, request.json\n"
            "    return request.params\n"
            "  end,\n"
            "  ['POST /use'] = function(ctx, request)\n"
            "    assert(next(kept.params) == nil)\n"
            "    for _, name in ipairs { 'body', 'headers', 'query', 'path', 'method' } do\n"
            "      local ok, problem = pcall(function() return kept[name] end)\n"
            "      assert(not ok and problem:find(name .. ': that request has been'), problem)\n"
            "    end\n"
            "    assert(not pcall(json) and not pcall(pairs, kept))\n"
            "    assert(kept.other == nil)\n"
            "    return request.json()\n"
            "  end }\n"
            "authkit.events { t = function(ctx, event)\n"
            "  assert(not pcall(json) and not pcall(function() return kept.body end)) end }");
    a.body = body;
    assert_string_equal(asking_for(&a, "POST /keep"), JSON "[]");
    free(body);
    a.body = "5";
    assert_string_equal(asking_for(&a, "POST /use"), JSON "5");
    bench_run(&a.b);
    bench_ok(&a.b);
}

/* ------------------------------------------------------------------------- answers */

static void answer__value_alone(void **state)
{
    static const struct {
        const char *body, *wanted;
    } cases[] = {
        {"return 'h\xC3\xA4'", TEXT "h\xC3\xA4"},
        {"return ''", TEXT},
        {"return '\\xFF'", TEXT "\xFF"},
        {"return 5", JSON "5"},
        {"return 404", JSON "404"},
        {"return 1.5", JSON "1.5"},
        {"return true", JSON "true"},
        {"return false", JSON "false"},
        {"return nil", JSON "null"},
        {"return authkit.null", JSON "null"},
        {"return {}", JSON "[]"},
        {"return authkit.json.array()", JSON "[]"},
        {"return ctx.db.query('workos_users'):where('id', 'x'):all()", JSON "[]"},
        {"return { a = {} }", JSON "{\"a\":{}}"},
        {"return { {} }", JSON "[{}]"},
        {"return { a = 1 }", JSON "{\"a\":1}"},
        {"return { 1, 2 }", JSON "[1,2]"},
        {"return setmetatable({ a = 1 }, { __index = { b = 2 } })", JSON "{\"a\":1}"},
        {"return ctx.db.query('workos_organizations'):all()",
         JSON "[{\"name\":\"Analytical Engines\",\"id\":\"org_1\"}]"},
        {"return", "204 -||"},
        {"", "204 -||"},
        {"return print('x')", "204 -||"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *told = asking_once(&a, cases[i].body);

        if (strstr(cases[i].wanted, "Analytical")) /* members have no order */
            assert_non_null(strstr(told, "\"id\":\"org_1\""));
        else
            assert_string_equal(told, cases[i].wanted);
    }
}

static void answer__row_that_is_absent_is_null(void **state)
{
    (void)state;
    asking_load(&a, "authkit.schema { q = { columns = { n = 'integer' } } }\n"
                    "authkit.routes { ['GET /x'] = function(ctx)\n"
                    "return ctx.db.get('q', 999)\nend }");
    assert_string_equal(asking_for(&a, "GET /x"), JSON "null");
}

static void answer__status_body_and_headers(void **state)
{
    static const struct {
        const char *body, *wanted;
    } cases[] = {
        {"return 201, { a = 1 }", "201 application/json||{\"a\":1}"},
        {"return 201, {}", "201 application/json||[]"},
        {"return 200.0, 'x'", "200 text/plain; charset=utf-8||x"},
        {"return 404, 'no'", "404 text/plain; charset=utf-8||no"},
        {"return 404, nil", "404 -||"},
        {"return 204, nil", "204 -||"},
        {"return 304, nil, nil", "304 -||"},
        {"return 205, nil", "205 -||"},
        {"return 599, false", "599 application/json||false"},
        {"return 200, authkit.null", "200 application/json||null"},
        {"return 200, nil, {}", "200 -||"},
        {"return 302, nil, { Location = '/x' }", "302 -|Location: /x\r\n|"},
        {"return 200, 'x', { ['X-N'] = 5 }", "200 text/plain; charset=utf-8|X-N: 5\r\n|x"},
        {"return 200, 'x', { ['X-N'] = 1.5 }", "200 text/plain; charset=utf-8|X-N: 1.5\r\n|x"},
        {"return 200, '<p>', { ['CONTENT-type'] = 'text/html' }", "200 text/html||<p>"},
        {"return 200, { 1 }, { ['content-type'] = 'application/x+json' }",
         "200 application/x+json||[1]"},
        {"return 200, nil, { ['content-type'] = 'text/html' }", "200 text/html||"},
        {"return 200, nil, { ['content-type'] = { 'text/html' } }", "200 text/html||"},
        {"return 200, nil, { ['set-cookie'] = { 'a=1', 'b=2' } }",
         "200 -|set-cookie: a=1\r\nset-cookie: b=2\r\n|"},
        {"return 200, nil, { ['x-none'] = {} }", "200 -||"},
        {"return 200, nil, { ['x-a'] = '' }", "200 -|x-a: \r\n|"},
        {"return 200, nil, setmetatable({}, { __index = { a = 'b' }, __pairs = error })",
         "200 -||"},
        {"return 204, nil, { ['x-a'] = 'b' }", "204 -|x-a: b\r\n|"},
        {"return 200, nil, { Date = 'Sun, 06 Nov 1994 08:49:37 GMT' }",
         "200 -|Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n|"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *told = asking_once(&a, cases[i].body);

        if (strcmp(told, cases[i].wanted) != 0)
            fail_msg("%s: %s (%s)", cases[i].body, told, a.b.err.text);
    }
}

static void answer__what_is_none_is_an_error(void **state)
{
    static const struct raising cases[] = {
        {"return 1, 2, 3, 4", "status, body, headers and no more, not 4 values"},
        {"return table.unpack({}, 1, 200)", "not 200 values"},
        {"return nil, 'not found'", "its status is an integer from 200 to 599, not nil"},
        {"return ('x'):gsub('x', 'y')", "a value alone, or status, body, headers"},
        {"return '200', 'x'", "not a string"},
        {"return 199, 'x'", "from 200 to 599, not 199"},
        {"return 600, 'x'", "not 600"},
        {"return 200.5, 'x'", "not 200.5"},
        {"return 0/0, 'x'", "nan"},
        {"return math.maxinteger, 'x'", "not 9223372036854775807"},
        {"return 204, 'x'", "a status of 204 has no body"},
        {"return 304, {}", "a status of 304 has no body"},
        {"return 205, 'x'", "a status of 205 has no body"},
        {"return 205, authkit.null", "a status of 205 has no body"},
        {"return 204, authkit.null", "a status of 204 has no body"},
        {"return print", "the answer: a function can't be JSON"},
        {"return { a = print }", "the answer: a: a function can't be JSON"},
        {"return { items = { { price = 1 }, { price = 0/0 } } }",
         "the answer: items[2].price: JSON has no number for nan"},
        {"return { { 1 }, { 1, { x = {}, ['a b'] = { print } } } }",
         "the answer: [2][2][\"a b\"][1]: a function can't be JSON"},
        {"return { ok = { 1, { 2 }, {} }, z = { a = 1, [1] = 2 } }",
         "the answer: z: a table with both a list and names ('a') can't be JSON"},
        {"return { [('x'):rep(500)] = { [''] = { ['\\27'] = print } } }",
         "xxx\"][\"\"][\"?\"]: a function can't be JSON"},
        {"local t = {} for i = 1, 90 do t = { deep = t } end t.deep.deep.deep.x = 0/0\n"
         "local u = t for i = 1, 80 do u = u.deep end u.x = print return t",
         "deep…: a function"},
        {"local t = {} t.me = t return t", "does it contain itself?"},
        {"return coroutine.create(print)", "a thread can't be JSON"},
        {"return 200, function() end", "a function can't be JSON"},
        {"return '\\xFF', nil", "not a string"},
        {"return { '\\xFF' }", "isn't valid UTF-8"},
        {"return { a = 0/0 }", "JSON has no number for"},
        {"local t = {} t.t = t return t", "does it contain itself?"},
        {"return 200, 'x', 5", "headers are a table of names and values, not a number"},
        {"return 200, 'x', 'x'", "not a string"},
        {"return 200, 'x', { 'a: b' }", "a number is no name"},
        {"return 200, 'x', { [true] = 'b' }", "a boolean is no name"},
        {"return 200, 'x', { ['a b'] = 'c' }", "'a b' can't be the name of a header"},
        {"return 200, 'x', { [''] = 'c' }", "'' can't be the name of a header"},
        {"return 200, 'x', { ['a\\0'] = 'c' }", "can't be the name of a header"},
        {"return 200, 'x', { ['a\\r\\nb'] = 'c' }", "can't be the name of a header"},
        {"return 200, 'x', { ['x-a'] = 'b\\r\\nset-cookie: c' }",
         "header 'x-a' has a control character"},
        {"return 200, 'x', { ['x-a'] = 'b\\0c' }", "header 'x-a' has a control character"},
        {"return 200, 'x', { ['x-a'] = { 'b', 'c\\n' } }", "header 'x-a' has a control character"},
        {"return 200, 'x', { ['x-a'] = true }", "a list of strings, not a boolean"},
        {"return 200, 'x', { ['x-a'] = { { 'b' } } }", "a list of strings, not a table"},
        {"return 200, 'x', { ['x-a'] = { b = 'c' } }", "a list of strings"},
        {"return 200, 'x', { ['x-a'] = authkit.null }", "a list of strings, not a userdata"},
        {"return 200, 'x', { ['Content-Length'] = 5 }",
         "header 'Content-Length': the server writes that one itself"},
        {"return 200, 'x', { ['transfer-encoding'] = 'chunked' }", "the server writes that one"},
        {"return 200, 'x', { connection = 'close' }", "the server writes that one"},
        {"return 200, 'x', { ['Keep-Alive'] = 'x' }", "the server writes that one"},
        {"return 200, 'x', { Upgrade = 'x' }", "the server writes that one"},
        {"return 200, 'x', { Trailer = 'x' }", "the server writes that one"},
        {"return 200, 'x', { ['content-type'] = '' }", "header 'content-type' is empty"},
        {"return 200, 'x', { ['content-type'] = 'a\\nb' }", "control character"},
        {"return 200, 'x', { ['content-type'] = { 'a', 'b' } }", "'content-type' is given twice"},
        {"return 200, 'x', { ['content-type'] = ('x'):rep(128) }", "longer than 127 bytes"},
        {"return 200, 'x', { ['x-a'] = ('x'):rep(9000) }",
         "the headers are longer than 8192 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        asking_raises(&a, cases[i].body, cases[i].wanted);
        /* the function isn't running any more: there is nothing to trace, and its place is where it begins */
        assert_null(strstr(a.b.err.text, "stack traceback:"));
        assert_int_equal(strncmp(a.b.err.text, "handlers.lua:2: ", 16), 0);
    }
}

static void answer__has_a_bound(void **state)
{
    (void)state;
    a.b.memory_bytes = 128 << 20;
    asking_raises(&a, "return ('x'):rep(16 * 1024 * 1024 + 1)",
                  "the answer would be longer than 16777216 bytes");
    asking_raises(&a, "return { ('x'):rep(16 * 1024 * 1024) }",
                  "the answer: the JSON text would be longer than 16777216 bytes");
    asking_once(&a, "return ('x'):rep(16 * 1024 * 1024)");
    bench_ok(&a.b);
    assert_int_equal(a.response.body.len, 16 * 1024 * 1024);
}

static void answer__error_has_the_place_and_the_traceback(void **state)
{
    (void)state;
    asking_raises(&a, "local function deep() error('oops ' .. request.path) end\ndeep()",
                  "handlers.lua:3: oops /\nstack traceback:");
    assert_non_null(strstr(a.b.err.text, "in upvalue 'deep'") ?: strstr(a.b.err.text, "'deep'"));
    assert_null(strstr(a.b.err.text, "authkitd:"));
    asking_raises(&a, "error(nil)", "the error is a nil, not a text");
    asking_raises(&a, "error({})", "handlers.lua:3: the error is a table: {}");
    asking_raises(&a, "coroutine.yield(1)", "yield from outside a coroutine");
}

/* ------------------------------------------------------------------------- limits, hostile ones */

static void routes__limits_end_a_function(void **state)
{
    (void)state;
    a.b.timeout_ms = 200;
    asking_load(&a, "authkit.routes {\n"
                    "  ['GET /loop'] = function() changed = true\n"
                    "    while true do pcall(function() while true do end end) end end,\n"
                    "  ['GET /memory'] = function() changed = true\n"
                    "    local t = {} for i = 1, 1e9 do t[i] = {} end end,\n"
                    "  ['GET /auth'] = function(ctx)\n"
                    "    while true do pcall(ctx.auth.require) end end,\n"
                    "  ['GET /json'] = function(ctx, request)\n"
                    "    while true do pcall(request.json) end end,\n"
                    "  ['GET /'] = function() return tostring(changed) end }");
    asking_for(&a, "GET /loop");
    bench_says(&a.b, ERR_LIMIT, "ran longer than 200 ms");
    assert_string_equal(asking_for(&a, "GET /"), TEXT "nil"); /* a fresh state */
    asking_for(&a, "GET /auth");
    bench_says(&a.b, ERR_LIMIT, "ran longer than 200 ms");
    asking_for(&a, "GET /json");
    bench_says(&a.b, ERR_LIMIT, "ran longer than 200 ms");
    a.b.timeout_ms = 5000;
    a.b.memory_bytes = 4 << 20;
    asking_route(&a, "GET /", "local t = {} for i = 1, 1e9 do t[i] = {} end");
    asking_for(&a, "GET /");
    bench_says(&a.b, ERR_LIMIT, "used more than 4096 KiB of memory");
}

/* A refusal that comes too late is none. */
static void routes__limit_goes_before_a_refusal(void **state)
{
    (void)state;
    a.b.timeout_ms = 200;
    asking_once(&a, "local _ <close> = setmetatable({}, { __close = function()\n"
                    "  while true do end end })\nctx.auth.require()");
    bench_says(&a.b, ERR_LIMIT, "ran longer than 200 ms");
}

static void routes__our_own_tables_are_no_answer(void **state)
{
    static const struct raising cases[] = {
        {"return ctx", "ctx can't be JSON"},
        {"return ctx.auth", "ctx.auth can't be JSON"},
        {"return { a = ctx.db }", "ctx.db can't be JSON"},
        {"return request", "request can't be JSON"},
        {"return ctx.db.query('workos_users')", "query can't be JSON: it isn't its rows, so end it "
                                                "with :all(), :first(), :unique(), :each() "
                                                "or :count()"},
        {"return { rows = ctx.db.query('workos_users') }",
         "the answer: rows: query can't be JSON: it isn't its rows"},
        {"return string", "string can't be JSON"},
        {"ctx.x = 1", "ctx is read-only"},
        {"ctx.auth.user = print", "ctx.auth is read-only"},
        {"rawset(ctx.auth, 'user', print)", "ctx.auth is read-only"},
        {"getmetatable(ctx.auth).__index = nil", "boolean value"},
        {"authkit.routes { ['GET /x'] = print }", "belongs to the top of the script"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        asking_raises(&a, cases[i].body, cases[i].wanted);
    assert_string_equal(asking_once(&a, "return setmetatable({}, { __name = 'mine' })"), JSON "[]");
}

/* ------------------------------------------------------------------------- reading only */

static const char writing[] =
    "authkit.schema { notes = { columns = { text = 'text' },\n"
    "  indexes = { { 'text', unique = true } } } }\n"
    "local function route(ctx, request)\n"
    "  local write = ({\n"
    "    insert = function() ctx.db.insert('notes', { text = 'x' }) end,\n"
    "    patch = function() ctx.db.patch('notes', 1, { text = 'x' }) end,\n"
    "    replace = function() ctx.db.replace('notes', 1, { text = 'x' }) end,\n"
    "    upsert = function() ctx.db.upsert('notes', { 'text' }, { text = 'x' }) end,\n"
    "    delete = function() ctx.db.delete('notes', 1) end,\n"
    "    sql = function() ctx.db.sql('DELETE FROM notes') end,\n"
    "    returning = function() ctx.db.sql(\"INSERT INTO notes (text) VALUES ('x') RETURNING "
    "_id\")\n"
    "    end,\n"
    "    none = function() end,\n"
    "  })[request.query.what]\n"
    "  write()\n"
    "  return ctx.db.sql('SELECT count(*) AS n FROM notes')[1].n + ctx.db.query('notes'):count()\n"
    "end\n"
    "authkit.routes { ['GET /'] = route, ['POST /'] = route }";

static void read_only__what_writes_raises(void **state)
{
    static const char *const all[] = {"insert", "patch", "replace",  "upsert",
                                      "delete", "sql",   "returning"};
    char what[64];

    (void)state;
    asking_load(&a, writing);
    a.read_only = true;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        snprintf(what, sizeof(what), "GET /?what=%s", all[i]);
        asking_for(&a, what);
        bench_says(&a.b, ERR_SCRIPT, "a GET route can't write: nothing of it is kept; use POST");
        bench_says(&a.b, ERR_SCRIPT, "handlers.lua:");
    }
    assert_string_equal(asking_for(&a, "HEAD /?what=none"), JSON "0");
    a.read_only = false;
    assert_string_equal(asking_for(&a, "POST /?what=insert"), JSON "2");
    assert_string_equal(bench_value(&a.b, "SELECT count(*) FROM notes"), "1");
}

static void read_only__reader_is_enough(void **state)
{
    struct db *reader = NULL;
    struct script *twin = NULL;

    (void)state;
    asking_load(&a, writing);
    asking_for(&a, "POST /?what=insert");
    bench_ok(&a.b);
    assert_int_equal(db_open(&reader, "test.db", DB_READER, &a.b.err), 0);
    assert_int_equal(script_twin(&twin, a.b.script, &a.b.err), 0);
    a.read_only = true;
    assert_string_equal(asking_on(&a, twin, reader, "GET /?what=none"), JSON "2");
    asking_for(&a, "POST /?what=none");
    bench_ok(&a.b);
    assert_string_equal(asking_on(&a, twin, reader, "GET /?what=none"), JSON "2");
    asking_on(&a, twin, reader, "GET /?what=returning");
    bench_says(&a.b, ERR_SCRIPT, "a GET route can't write");
    script_free(twin);
    db_close(reader);
}

/* ------------------------------------------------------------------------- the example */

static const char two_users[] =
    "INSERT INTO workos_users VALUES ('user_2', 'bob@x.com', NULL, '{}', '2026')";

static const char *todo(const char *what, const char *body, const char *user)
{
    char claims[64];

    snprintf(claims, sizeof(claims), "{\"sub\":\"%s\"}", user ? user : "");
    asking_as(&a, user ? claims : NULL);
    a.body = body;
    a.read_only = strncmp(what, "GET", 3) == 0;
    return asking_for(&a, what);
}

static void tells(const char *told, const char *start, const char *part)
{
    if (strncmp(told, start, strlen(start)) != 0 || !strstr(told, part))
        fail_msg("%s (%s)", told, a.b.err.text);
}

static void example__everybody_has_todos_of_their_own(void **state)
{
    static const char deleted[] = "{\"event\":\"user.deleted\",\"data\":{\"id\":\"user_1\"}}";
    struct json event = {0};

    (void)state;
    bench_load(&a.b, (const char *)embedded_lua_example.text);
    bench_ok(&a.b);
    bench_schema(&a.b, true);
    bench_ok(&a.b);
    assert_int_equal(db_exec(a.b.db, two_users, NULL), 0);
    tells(todo("GET /todos", "", NULL), "refused 401", "token_missing");
    tells(todo("POST /todos", "{\"text\":\"x\"}", "user_3"), "refused 401", "user_not_found");
    assert_string_equal(todo("GET /todos", "", "user_1"), JSON "[]");
    tells(todo("POST /todos", "{\"text\":\"milk\"}", "user_1"),
          "201 application/json|location: /todos/1\r\n|", "\"text\":\"milk\"");
    tells(a.told, "201", "\"done\":false");
    tells(todo("POST /todos", "{\"text\":\"b\"}", "user_2"), "201", "\"user_id\":\"user_2\"");
    tells(todo("PATCH /todos/1", "{\"done\":true}", "user_1"), "200", "\"done\":true");
    tells(a.told, "200", "\"text\":\"milk\"");
    for (int i = 0; i < 2; i++) {
        tells(todo("PATCH /todos/2", "{\"done\":true}", "user_1"), "404", "not_found");
        tells(todo("DELETE /todos/2", "", "user_1"), "404", "not_found");
        tells(todo("DELETE /todos/x", "", "user_1"), "404", "not_found");
        tells(todo("DELETE /todos/1.5", "", "user_1"), "404", "not_found");
        tells(todo("POST /todos", i ? "5" : "{}", "user_1"), "400", "invalid_todo");
        tells(todo("PATCH /todos/1", i ? "{\"text\":5}" : "{\"done\":1}", "user_1"), "400",
              "invalid_todo");
    }
    tells(todo("GET /todos", "", "user_1"), "200 application/json||[{", "milk");
    assert_string_equal(bench_value(&a.b, "SELECT count(*) FROM todos"), "2");
    assert_int_equal(json_read(&event, deleted, strlen(deleted), NULL), 0);
    assert_int_equal(script_run_event(a.b.script, a.b.db, "user.deleted", &event, false, &a.b.err),
                     0);
    json_release(&event);
    assert_string_equal(bench_value(&a.b, "SELECT group_concat(user_id) FROM todos"), "user_2");
    assert_string_equal(todo("DELETE /todos/2", "", "user_2"), "204 -||");
    assert_string_equal(todo("GET /todos", "", "user_2"), JSON "[]");
}

/* ------------------------------------------------------------------------- memory that runs out */

static void routes__every_memory_limit_fails_cleanly(void **state)
{
    static const char text[] =
        "local authkit = require 'authkit'\n"
        "authkit.schema { notes = { columns = { text = 'text' } } }\n"
        "authkit.routes { ['POST /:a/x'] = function(ctx, request)\n"
        "  for key, value in pairs(request) do local _ = tostring(key) .. tostring(value) end\n"
        "  local claims = ctx.auth.claims\n"
        "  ctx.db.insert('notes', { text = request.json().text .. request.params.a })\n"
        "  if request.query.refuse then ctx.auth.require_role('none') end\n"
        "  return 201, { claims, ctx.auth.require_role('admin'), ctx.auth.organization(),\n"
        "    request.headers }, { ['x-a'] = { 'b', 'c' }, ['content-type'] = 'a/b' }\n"
        "end }\n";
    bool migrated = false, refused = false;
    char runs_text[20];
    int runs = 0; /* a limit may be enough for the first call, and not for the second */

    (void)state;
    a.headers[0] = (struct http_header){"X-One", "1"};
    a.headers[1] = (struct http_header){"X-One", "1"};
    a.header_count = 2;
    a.body = "{\"text\":\"a\\nb\"}";
    asking_as(&a, "{\"sub\":\"user_1\",\"org_id\":\"org_1\",\"role\":\"admin\"}");
    for (size_t limit = 1000; limit < 400000 && !(runs > 0 && refused); limit += limit / 150) {
        a.b.memory_bytes = limit;
        if (bench_load(&a.b, text) < 0 || bench_schema(&a.b, true) < 0) {
            assert_true(a.b.rc == ERR_LIMIT || a.b.rc == ERR_NOMEM || a.b.rc == ERR_SCRIPT);
            continue;
        }
        migrated = true;
        asking_for(&a, "POST /%C3%A4/x?a=b%20c&d");
        runs += a.b.rc == 0;
        asking_for(&a, "POST /%C3%A4/x?refuse");
        refused = strstr(a.told, "refused 403") != NULL;
        assert_true(a.b.rc == ERR_LIMIT || a.b.rc == ERR_SCRIPT);
    }
    assert_true(migrated && runs > 0 && refused);
    snprintf(runs_text, sizeof(runs_text), "%d", runs);
    assert_string_equal(bench_value(&a.b, "SELECT count(*) FROM notes"), runs_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ASKING(routes__wrong_ones_are_refused_with_their_place),
        WITH_ASKING(routes__known_ones),
        WITH_ASKING(routes__what_was_not_declared_is_absent),
        WITH_ASKING(request__fields),
        WITH_ASKING(request__without_anything),
        WITH_ASKING(request__is_a_table_of_its_own),
        WITH_ASKING(request__its_iterator_takes_tables_only),
        WITH_ASKING(request__null_differs_from_nothing_when_asked_for),
        WITH_ASKING(request__bad_encoding_is_answered),
        WITH_ASKING(request__cursor_of_another_order_is_answered),
        WITH_ASKING(request__cursor_that_is_none_is_answered),
        WITH_ASKING(request__empty_cursor_is_the_first_page),
        WITH_ASKING(request__body_that_is_not_json_is_answered),
        WITH_ASKING(request__large_body_leaves_no_memory_behind),
        WITH_ASKING(request__kept_one_reads_nothing_any_more),
        WITH_ASKING(answer__value_alone),
        WITH_ASKING(answer__row_that_is_absent_is_null),
        WITH_ASKING(answer__status_body_and_headers),
        WITH_ASKING(answer__what_is_none_is_an_error),
        WITH_ASKING(answer__has_a_bound),
        WITH_ASKING(answer__error_has_the_place_and_the_traceback),
        WITH_ASKING(routes__limits_end_a_function),
        WITH_ASKING(routes__limit_goes_before_a_refusal),
        WITH_ASKING(routes__our_own_tables_are_no_answer),
        WITH_ASKING(read_only__what_writes_raises),
        WITH_ASKING(read_only__reader_is_enough),
        WITH_ASKING(example__everybody_has_todos_of_their_own),
        WITH_ASKING(routes__every_memory_limit_fails_cleanly),
    };

    return cmocka_run_group_tests_name("routes", tests, NULL, NULL);
}
