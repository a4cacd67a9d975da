// SPDX-License-Identifier: MIT
// authkit.routes as anybody on the internet calls them: which function runs, what it gets, and what
// becomes of its answer.

import assert from 'node:assert/strict';

import { describe, load, patience, test, until } from './lib/harness.js';
import { ask, assertError, assertFailed, post, startRoutes, withRoutes } from './lib/routes.js';
import { sharedServer } from './lib/server.js';

describe('which function runs', () => {
    const server = sharedServer({
        handlers: withRoutes(
            [
                'GET /',
                'GET /todos',
                'POST /todos',
                'PUT /todos/:id',
                'PATCH /todos/:id',
                'DELETE /todos/:id',
                'GET /todos/:id',
                'GET /todos/new',
                'GET /todos/:id/tags/:tag',
                'GET /todos/:id/tags',
                'GET /:any/:id/tags',
                'GET /slash/',
                'GET /head',
                'HEAD /head',
                'HEAD /only-head',
                'POST /only-post',
                'GET /café/:name',
                'GET /.well-known/x.json',
            ]
                .map(
                    (name) => `["${name}"] = function(ctx, request)
                        return 200, { route = "${name}", params = next(request.params) and request.params or nil },
                               { ["X-Route"] = "${name}" }
                    end,`,
                )
                .join('\n'),
        ),
    });

    const CASES = [
        ['GET', '/', 'GET /'],
        ['GET', '/?x=1', 'GET /'],
        ['GET', '/todos', 'GET /todos'],
        ['POST', '/todos', 'POST /todos'],
        ['PUT', '/todos/7', 'PUT /todos/:id', { id: '7' }],
        ['PATCH', '/todos/7', 'PATCH /todos/:id', { id: '7' }],
        ['DELETE', '/todos/7', 'DELETE /todos/:id', { id: '7' }],
        ['PUT', '/todos/new', 'PUT /todos/:id', { id: 'new' }],
        ['GET', '/todos/7', 'GET /todos/:id', { id: '7' }],
        ['GET', '/todos/new', 'GET /todos/new'],
        ['GET', '/todos/n%65w', 'GET /todos/new'],
        ['GET', '/todos/New', 'GET /todos/:id', { id: 'New' }],
        ['GET', '/todos/new/tags', 'GET /todos/:id/tags', { id: 'new' }],
        ['GET', '/lists/7/tags', 'GET /:any/:id/tags', { any: 'lists', id: '7' }],
        ['GET', '/todos/7/tags/a', 'GET /todos/:id/tags/:tag', { id: '7', tag: 'a' }],
        ['GET', '/todos/a%2Fb', 'GET /todos/:id', { id: 'a/b' }],
        [
            'GET',
            '/todos/a%2fb/tags/%3F%23%26',
            'GET /todos/:id/tags/:tag',
            { id: 'a/b', tag: '?#&' },
        ],
        ['GET', '/todos/a+b', 'GET /todos/:id', { id: 'a+b' }],
        ['GET', '/todos/a%20b', 'GET /todos/:id', { id: 'a b' }],
        ['GET', '/todos/%C3%A9%F0%9F%98%80', 'GET /todos/:id', { id: 'é😀' }],
        ['GET', '/todos/%2e%2E', 'GET /todos/:id', { id: '..' }],
        ['GET', '/todos/%25', 'GET /todos/:id', { id: '%' }],
        ['GET', '/todos/7?id=8', 'GET /todos/:id', { id: '7' }],
        ['GET', '/slash/', 'GET /slash/'],
        ['GET', '/caf%C3%A9/x', 'GET /café/:name', { name: 'x' }],
        ['GET', '/.well-known/x.json', 'GET /.well-known/x.json'],
        ['GET', '/.well-known/x%2Ejson', 'GET /.well-known/x.json'],
    ];

    for (const [method, target, route, params] of CASES)
        test(`${method} ${target}: ${route}`, async () => {
            const answer = await ask(server, target, {
                method,
                body: method === 'GET' ? undefined : '{}',
            });
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual(answer.json(), { route, ...(params && { params }) });
        });

    test('none: 404', async () => {
        for (const target of [
            '/todo',
            '/todos/',
            '/todos/7/',
            '/todos/7/8',
            '/todos//tags',
            '//todos',
            '/Todos',
            '/slash',
            '/slash//',
            '/todos/7/tags/a/b',
            '/todos%2F7',
            '/caf%C3%A9',
            '/healthz/',
            '/workos/webhook/',
        ])
            assertError(await ask(server, target), 404, 'not_found');
        assertError(await post(server, '/nowhere'), 404, 'not_found');
        assertError(await ask(server, '/nowhere', { method: 'OPTIONS' }), 404, 'not_found');
    });

    test('none of this method: 405, and Allow says which there are', async () => {
        for (const [method, target, allow] of [
            ['DELETE', '/todos', 'GET, HEAD, POST, OPTIONS'],
            ['POST', '/todos/7', 'GET, HEAD, PUT, PATCH, DELETE, OPTIONS'],
            ['GET', '/only-post', 'POST, OPTIONS'],
            ['HEAD', '/only-post', 'POST, OPTIONS'],
            ['GET', '/only-head', 'HEAD, OPTIONS'],
            ['POST', '/', 'GET, HEAD, OPTIONS'],
        ]) {
            const answer = await ask(server, target, {
                method,
                body: /^(GET|HEAD)$/.test(method) ? undefined : '{}',
            });
            assert.equal(answer.status, 405, `${method} ${target}`);
            assert.equal(answer.headers.allow, allow);
            if (method !== 'HEAD') assertError(answer, 405, 'method_not_allowed');
        }
    });

    test('OPTIONS says which methods there are', async () => {
        for (const [target, allow] of [
            ['/todos', 'GET, HEAD, POST, OPTIONS'],
            ['/todos/7', 'GET, HEAD, PUT, PATCH, DELETE, OPTIONS'],
            ['/only-post', 'POST, OPTIONS'],
        ]) {
            const answer = await ask(server, target, { method: 'OPTIONS' });
            assert.equal(answer.status, 204);
            assert.equal(answer.text, '');
            assert.equal(answer.headers.allow, allow);
        }
    });

    test('HEAD is GET without the body, unless there is a function for it', async () => {
        const get = await ask(server, '/todos/7');
        const head = await ask(server, '/todos/7', { method: 'HEAD' });
        assert.equal(head.status, 200);
        assert.equal(head.text, '');
        for (const name of ['content-type', 'content-length', 'etag', 'x-route'])
            assert.equal(head.headers[name], get.headers[name], name);
        assert.ok(Number(head.headers['content-length']) > 0);
        const own = await ask(server, '/head', { method: 'HEAD' });
        assert.equal(own.headers['x-route'], 'HEAD /head');
        assert.equal((await ask(server, '/head')).headers['x-route'], 'GET /head');
        // The connection is still in step.
        const raw = await server.openRaw();
        const lines = '/todos HTTP/1.1\r\nHost: x\r\n\r\n';
        raw.send(`HEAD ${lines}OPTIONS ${lines}GET ${lines}`);
        await until('three answers', () => raw.received.toString().includes('"GET /todos"'));
        assert.equal(raw.received.toString().match(/^HTTP\/1\.1 /gm).length, 3);
        raw.close();
    });

    test('methods that there are not never reach a function', async () => {
        for (const line of [
            'get /todos HTTP/1.1',
            'FETCH /todos HTTP/1.1',
            'TRACE /todos HTTP/1.1',
            'CONNECT /todos HTTP/1.1',
            'PROPFIND /todos HTTP/1.1',
            'OPTIONS * HTTP/1.1',
            'GET todos HTTP/1.1',
            'GET http://evil.example/todos HTTP/1.1',
            'GET /todos%00 HTTP/1.1',
            'GET /todos/%00 HTTP/1.1',
            'GET /todos HTTP/3.0',
        ]) {
            const raw = await server.openRaw();
            raw.send(`${line}\r\nHost: x\r\nConnection: close\r\n\r\n`);
            const answer = await raw.response();
            if (answer) assert.ok(answer.status >= 400, `${line}: ${answer.status}`);
            assert.ok(!raw.received.toString().includes('"route"'));
            raw.close();
        }
        assert.equal((await ask(server, '/todos')).status, 200);
    });

    test('is decided at load: what is no route, twice there, or not free is refused', async (t) => {
        const strict = await startRoutes(t, '["GET /old"] = function() return "old" end');
        const route = (name, more = '') => `["${name}"] = function() return "new" end, ${more}`;
        for (const [routes, reason] of [
            [route('GET todos'), /GET todos/],
            [route('get /todos'), /get \/todos/],
            [route('FETCH /todos'), /FETCH/],
            [route('OPTIONS /todos'), /--cors-origin/],
            [route('GET /todos?x'), /request\.query/],
            [route('GET /a/:x', route('GET /a/:y')), /take the same requests/],
            [route('GET /a/:x/b/:x'), /:x/],
            [route('GET /workos/user'), /\/workos\/user/],
            [route('POST /workos/webhook'), /\/workos\/webhook/],
            [route('POST /workos/action'), /\/workos\/action/],
            [route('GET /healthz'), /\/healthz/],
            ['["GET /x"] = 7', /wants a function/],
        ]) {
            const line = await strict.reload(withRoutes(routes));
            assert.equal(line.outcome, 'refused', `${routes}: ${line.text}`);
            assert.match(line.text, reason);
            assert.equal((await ask(strict, '/old')).text, 'old');
        }
    });
});

// ------------------------------------------------------------------------------ what it gets

describe('the request', () => {
    const echo = `function(ctx, request)
        return {
          method = request.method, path = request.path, params = request.params, query = request.query,
          query_string = request.query_string, headers = request.headers, remote_addr = request.remote_addr,
          length = #request.body,
        }
    end`;
    const server = sharedServer({
        args: ['--max-body', '200000'],
        handlers: withRoutes(`
            ["GET /echo"] = ${echo}, ["GET /echo/:a/:b"] = ${echo}, ["POST /echo"] = ${echo},
            ["POST /body"] = function(ctx, request)
                return 200, request.body, { ["Content-Type"] = "application/octet-stream" }
            end,
            ["POST /json"] = function(ctx, request)
                assert(request.json() == request.json(), "read once")
                return { value = request.json(), method_too = request:json() == request.json() }
            end,
            ["GET /json"] = function(ctx, request) return { value = request.json() } end,
            ["GET /untouched/:x"] = function(ctx, request) return "fine" end,
            ["GET /types"] = function(ctx, request)
                local types = {}
                for name, value in pairs(request) do types[name] = type(value) end
                return types
            end,
            ["GET /other"] = function(ctx, request)
                return { nothing = tostring(request.nothing), params = type(request.params), body = request.body }
            end,
            ["GET /keep"] = function(ctx, request)
                kept = kept or request
                local ok, path = pcall(function() return kept.path end)
                local also, body = pcall(function() return kept.json() end)
                return { first = kept == request, ok = ok, also = also, path = tostring(path), body = tostring(body) }
            end,
        `),
    });
    const get = async (target, options) => (await ask(server, target, options)).json();

    test('has all that came', async () => {
        const answer = await get('/echo/x%20y/%C3%A9?a=1&b=two%20words&c=%2B+%26', {
            headers: { 'X-Some-Header': 'Some Value', 'User-Agent': 'tests' },
        });
        assert.equal(answer.method, 'GET');
        assert.equal(answer.path, '/echo/x y/é');
        assert.deepEqual(answer.params, { a: 'x y', b: 'é' });
        assert.deepEqual(answer.query, { a: '1', b: 'two words', c: '+ &' });
        assert.equal(answer.query_string, 'a=1&b=two%20words&c=%2B+%26');
        assert.equal(answer.headers['x-some-header'], 'Some Value');
        assert.equal(answer.headers['user-agent'], 'tests');
        assert.equal(answer.headers['X-Some-Header'], undefined);
        assert.equal(answer.remote_addr, '127.0.0.1');
        assert.equal(answer.length, 0);
        const posted = (await post(server, '/echo', 'four')).json();
        assert.deepEqual([posted.method, posted.length], ['POST', 4]);
        const other = await get('/other');
        assert.deepEqual(other, { nothing: 'nil', params: 'table', body: '' });
        const types = await get('/types');
        assert.deepEqual(
            [types.method, types.query, types.headers, types.body],
            ['string', 'table', 'table', 'string'],
        );
    });

    test('a query in every form', async () => {
        for (const [query, expected] of [
            ['', {}],
            ['?', {}],
            ['?a', { a: '' }],
            ['?a=', { a: '' }],
            ['?=b', { '': 'b' }],
            ['?a=b=c', { a: 'b=c' }],
            ['?a=1&a=2', { a: '1' }],
            ['?&&a=1&&', { a: '1' }],
            ['?a+b=c+d', { 'a b': 'c d' }],
            ['?%61=%62', { a: 'b' }],
            ['?a=%26%3D%25', { a: '&=%' }],
            ['?a=%F0%9F%98%80', { a: '😀' }],
            ['?a[]=1&a[]=2', { 'a[]': '1' }],
            ['?__proto__=1&constructor=2', JSON.parse('{"__proto__":"1","constructor":"2"}')],
            ['?a=/?:@', { a: '/?:@' }],
            ['?a=1;b=2', { a: '1;b=2' }],
        ]) {
            const answer = await get(`/echo${query}`);
            const found = Array.isArray(answer.query) ? {} : answer.query; // an empty table
            assert.deepEqual(Object.entries(found).sort(), Object.entries(expected).sort(), query);
        }
        const many = Array.from({ length: 100 }, (_, i) => `name${i}=value%20${i}`).join('&');
        const answer = await get(`/echo?${many}`);
        assert.equal(Object.keys(answer.query).length, 100);
        assert.equal(answer.query.name99, 'value 99');
        const long = await get(`/echo?a=${'x'.repeat(12_000)}`);
        assert.equal(long.query.a.length, 12_000);
        assert.equal(Object.keys((await get(`/echo?${'a&'.repeat(6000)}`)).query).length, 1);
    });

    test('what is badly encoded is the caller’s fault, and is said so', async () => {
        for (const bad of ['%', '%2', '%zz', '%2G', '%FF', '%C3', '%ED%A0%80', '%C0%AF', '%+1']) {
            assertError(await ask(server, `/echo/x/${bad}`), 400, 'bad_path');
            assertError(await ask(server, `/untouched/${bad}`), 400, 'bad_path');
            assertError(await ask(server, `/echo?a=${bad}`), 400, 'bad_query');
            assertError(await ask(server, `/echo?${bad}=a`), 400, 'bad_query');
            // Who doesn't look at the query needn't care.
            assert.equal((await ask(server, `/untouched/x?${bad}`)).status, 200);
        }
        // Bytes as they are, which no well-behaved client sends.
        for (const [target, status] of [
            ['/untouched/\xff', 400],
            ['/untouched/caf\xc3\xa9', 200],
            ['/nowhere/\xff', 404],
        ]) {
            const raw = await server.openRaw();
            raw.send(Buffer.from(`GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`, 'latin1'));
            const answer = await raw.response();
            assert.ok(
                answer.status === status || answer.status === 400,
                `${target}: ${answer.status}`,
            );
            raw.close();
        }
    });

    test('headers that come twice are one', async () => {
        const raw = await server.openRaw();
        raw.send(
            'GET /echo HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\nX-A:3\r\nCookie: a=1\r\ncookie: b=2\r\n' +
                'X-Empty:\r\nX-Bytes: caf\xc3\xa9\r\n\r\n',
        );
        const { headers } = JSON.parse((await raw.response()).text);
        assert.equal(headers['x-a'], '1, 2, 3');
        assert.equal(headers.cookie, 'a=1; b=2');
        assert.equal(headers['x-empty'], '');
        raw.close();
    });

    test('a body is the bytes that came', async () => {
        for (const body of [
            Buffer.alloc(0),
            Buffer.from([0, 1, 2, 255, 254, 0]),
            Buffer.from('häßlich 😀'),
            Buffer.from('\r\n\r\nGET / HTTP/1.1\r\n\r\n'),
            Buffer.alloc(200_000, 0xfe),
        ]) {
            const raw = await server.openRaw();
            raw.send(
                `POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`,
                body,
            );
            await until(
                'the answer',
                () =>
                    raw.received.includes('\r\n\r\n') &&
                    raw.received.length - raw.received.indexOf('\r\n\r\n') - 4 >= body.length,
            );
            const got = raw.received.subarray(raw.received.indexOf('\r\n\r\n') + 4);
            assert.ok(got.equals(body), `${body.length} bytes`);
            raw.close();
        }
        assert.equal((await post(server, '/body', 'x'.repeat(200_001))).status, 413);
    });

    test('json() is what the body says', async () => {
        for (const value of [
            { a: [1, 2.5, 'x', true, false] },
            [],
            [[], [1]],
            'text',
            7,
            -0.5,
            true,
            { 'ключ 😀': '\u2028\u001f' },
        ]) {
            const answer = await post(server, '/json', JSON.stringify(value));
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual(answer.json().value, value);
            assert.equal(answer.json().method_too, true);
        }
        for (const text of [
            '',
            ' ',
            '{',
            '{"a":1} x',
            "{'a':1}",
            'undefined',
            '{"a":1,}',
            '\xff',
            '[1',
            'nul',
            '"\\x"',
            `${'['.repeat(100_000)}`,
        ])
            assertError(
                await post(server, '/json', Buffer.from(text, 'latin1')),
                400,
                'invalid_json',
            );
        assertError(await ask(server, '/json'), 400, 'invalid_json');
        const big = await post(server, '/json', '{"a":9007199254740993}');
        assert.match(big.text, /"a":9007199254740993\b/);
        // The type says nothing: what is JSON is JSON.
        const plain = await post(server, '/json', '{"a":1}', {
            headers: { 'Content-Type': 'text/plain' },
        });
        assert.deepEqual(plain.json().value, { a: 1 });
    });

    test('says from where it came, by IPv6 as well', async (t) => {
        const six = await startRoutes(
            t,
            '["GET /from"] = function(c, r) return r.remote_addr end,',
            {
                listen: '[::1]:0',
            },
        );
        assert.equal((await ask(six, '/from')).text, '::1');
    });

    test('does not last longer than its call', async () => {
        await ask(server, '/keep');
        // Another state may answer; in the end the first one does again.
        await until('the first state', async () => {
            const answer = await get('/keep');
            if (answer.first) return false;
            assert.equal(answer.also, false);
            assert.match(answer.body, /has been answered/);
            return true;
        });
    });
});

// ------------------------------------------------------------------------------ what it answers

describe('the answer', () => {
    /** [name, Lua that returns, status, type, body, headers] */
    const GOOD = [
        [
            'a table',
            'return { a = 1, b = { true, "x" } }',
            200,
            'application/json',
            { a: 1, b: [true, 'x'] },
        ],
        ['a list', 'return { 1, 2, 3 }', 200, 'application/json', [1, 2, 3]],
        ['an empty list', 'return {}', 200, 'application/json', []],
        [
            'an empty list of the database',
            'return ctx.db.query("notes"):where("key", "none"):all()',
            200,
            'application/json',
            [],
        ],
        [
            'a marked empty list',
            'return { list = authkit.json.array {} }',
            200,
            'application/json',
            { list: [] },
        ],
        ['a text', 'return "häßlich <b>"', 200, 'text/plain; charset=utf-8', 'häßlich <b>'],
        ['an empty text', 'return ""', 200, 'text/plain; charset=utf-8', ''],
        ['a number', 'return 7.5', 200, 'application/json', 7.5],
        ['a boolean', 'return false', 200, 'application/json', false],
        ['null', 'return authkit.null', 200, 'application/json', null],
        ['nothing', 'return', 204, undefined, ''],
        ['no return', 'local x = 1', 204, undefined, ''],
        ['a status and a table', 'return 201, { id = 7 }', 201, 'application/json', { id: 7 }],
        ['a status and an empty list', 'return 200, {}', 200, 'application/json', []],
        ['a status and a text', 'return 404, "nobody"', 404, 'text/plain; charset=utf-8', 'nobody'],
        ['a status alone', 'return 202, nil', 202, undefined, ''],
        ['204', 'return 204, nil', 204, undefined, ''],
        [
            'a status that is unusual',
            'return 418, { tea = true }',
            418,
            'application/json',
            { tea: true },
        ],
        ['a status as a float', 'return 201.0, {}', 201, 'application/json', []],
        [
            'a 500 of its own',
            'return 500, { mine = true }',
            500,
            'application/json',
            { mine: true },
        ],
        [
            'a 401 of its own',
            'return 401, { mine = true }',
            401,
            'application/json',
            { mine: true },
        ],
        [
            'headers',
            'return 200, { 1 }, { ["X-One"] = "1", ["X-Number"] = 7, ["Set-Cookie"] = { "a=1", "b=2" } }',
            200,
            'application/json',
            [1],
            { 'x-one': '1', 'x-number': '7', 'set-cookie': ['a=1', 'b=2'] },
        ],
        [
            'a redirect',
            'return 303, nil, { Location = "/elsewhere" }',
            303,
            undefined,
            '',
            { location: '/elsewhere' },
        ],
        [
            'another type',
            'return 200, "<h1>Hi</h1>", { ["content-type"] = "text/html; charset=utf-8" }',
            200,
            'text/html; charset=utf-8',
            '<h1>Hi</h1>',
        ],
        [
            'JSON of another type',
            'return 200, { a = 1 }, { ["Content-Type"] = "application/problem+json" }',
            200,
            'application/problem+json',
            { a: 1 },
        ],
        [
            'caching of its own',
            'return 200, "x", { ["Cache-Control"] = "public, max-age=60", ETag = \'"mine"\' }',
            200,
            'text/plain; charset=utf-8',
            'x',
            { 'cache-control': 'public, max-age=60', etag: '"mine"' },
        ],
        [
            '5 MB',
            'return ("x"):rep(5000000)',
            200,
            'text/plain; charset=utf-8',
            'x'.repeat(5_000_000),
        ],
        [
            'a deep table',
            'local t = {} for i = 1, 50 do t = { t } end return t',
            200,
            'application/json',
            undefined,
        ],
    ];

    /** [name, Lua, what the log says] */
    const BAD = [
        ['an error', 'error("the secret of the script")', /the secret of the script/],
        ['an error without a place', 'error("the secret", 0)', /the secret/],
        ['an error that is a table', 'error({ secret = 1 })', /./],
        ['an error that is nil', 'error()', /./],
        ['a nil that is called', 'local secret; secret()', /secret/],
        ['a failed assert', 'assert(false, "the secret")', /the secret/],
        ['a wrong table', 'ctx.db.query("secret_table"):all()', /secret_table/],
        ['a status below', 'return 99, {}', /status/],
        ['a status of its own making', 'return 100, {}', /status/],
        ['a status above', 'return 600, {}', /status/],
        ['a status with a fraction', 'return 200.5, {}', /status/],
        ['a status that is a text', 'return "200", {}', /status/],
        ['a table as the status', 'return {}, {}', /status/],
        ['a body where there is none', 'return 204, {}', /204/],
        ['a body of a 304', 'return 304, "x"', /304/],
        ['four values', 'return 200, {}, {}, {}', /4/],
        ['headers that are a text', 'return 200, {}, "X: 1"', /headers/],
        ['a header with a line end', 'return 200, {}, { ["X-A"] = "1\\r\\nX-Secret: 2" }', /X-A/],
        ['a header with a newline', 'return 200, {}, { ["X-A"] = "1\\n2" }', /X-A/],
        ['a header with a NUL', 'return 200, {}, { ["X-A"] = "1\\0" }', /X-A/],
        [
            'a header whose name has a line end',
            'return 200, {}, { ["X-A\\r\\nX-B"] = "1" }',
            /header/,
        ],
        ['a header whose name has a colon', 'return 200, {}, { ["X-A: 1"] = "1" }', /header/],
        ['a header without a name', 'return 200, {}, { [""] = "1" }', /header/],
        ['a header in a list', 'return 200, {}, { "X-A: 1" }', /header/],
        ['a header that is true', 'return 200, {}, { ["X-A"] = true }', /X-A/],
        ['a length of its own', 'return 200, "x", { ["Content-Length"] = "5" }', /Content-Length/],
        [
            'a transfer encoding',
            'return 200, "x", { ["transfer-encoding"] = "chunked" }',
            /transfer-encoding/,
        ],
        ['a connection', 'return 200, "x", { Connection = "close" }', /Connection/],
        [
            'a type with a line end',
            'return 200, "x", { ["Content-Type"] = "a/b\\r\\nX-Secret: 1" }',
            /Content-Type/,
        ],
        ['headers of 100 kB', 'return 200, "x", { ["X-A"] = ("x"):rep(100000) }', /header/],
        ['a function', 'return function() end', /function/],
        ['a function in a table', 'return { secret = print }', /function/],
        ['ctx', 'return ctx', /ctx/],
        ['a circle', 'local t = {} t.t = t return t', /./],
        ['mixed keys', 'return { 1, 2, secret = 3 }', /./],
        ['no number', 'return 0/0', /./],
        ['infinity', 'return { x = math.huge }', /./],
        ['no UTF-8 in JSON', 'return { x = "\\xff" }', /valid/],
        ['17 MiB', 'return ("x"):rep(17 * 1024 * 1024)', /longer/],
        [
            'endless recursion',
            'local function f() return 1 + f() end return f()',
            /overflow|memory/,
        ],
        [
            'endless memory',
            'local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end',
            /memory|longer/,
        ],
    ];
    const bodies = [...GOOD, ...BAD].map(([, body]) => body);
    const server = sharedServer({
        handlers: withRoutes(
            bodies
                .flatMap((body, i) =>
                    ['GET', 'POST'].map(
                        (method) =>
                            `["${method} /run/${i}"] = function(ctx, request) ${body}\nend,`,
                    ),
                )
                .join('\n'),
        ),
        // The limit of time isn't the one that endless recursion shall meet first.
        args: ['--handler-timeout', String(patience(1000))],
    });

    for (const [i, [name, , status, type, body, headers = {}]] of GOOD.entries())
        test(`${name}: ${status}`, async () => {
            for (const method of ['GET', 'POST']) {
                const answer = await ask(server, `/run/${i}`, {
                    method,
                    body: method === 'POST' ? '{}' : undefined,
                });
                assert.equal(answer.status, status, answer.text.slice(0, 500));
                assert.equal(answer.headers['content-type'], type);
                if (typeof body === 'string')
                    assert.ok(answer.text === body, answer.text.slice(0, 100));
                else if (body !== undefined) assert.deepEqual(answer.json(), body);
                else answer.json();
                assert.equal(
                    answer.headers['content-length'],
                    status === 204 ? undefined : String(Buffer.byteLength(answer.text)),
                );
                for (const [header, value] of Object.entries(headers))
                    assert.deepEqual(answer.headers[header], value);
                assert.equal(answer.headers['x-content-type-options'], 'nosniff');
                if (method === 'POST' && !headers['cache-control'])
                    assert.equal(answer.headers['cache-control'], 'no-store');
            }
        });

    for (const [i, [name, , reason]] of BAD.entries())
        test(`${name}: 500, and nothing of it shows`, async () => {
            for (const method of ['GET', 'POST']) {
                const answer = await ask(server, `/run/${GOOD.length + i}`, {
                    method,
                    body: method === 'POST' ? '{}' : undefined,
                });
                assert.equal(answer.headers['x-a'], undefined);
                assert.equal(answer.headers['x-secret'], undefined);
                const line = await assertFailed(server, answer, reason);
                assert.equal(line.method, method);
                assert.equal(line.path, `/run/${GOOD.length + i}`);
            }
        });

    test('of a function that failed: the log has the line and the traceback, and no two ids are the same', async () => {
        const target = `/run/${GOOD.length}`;
        const ids = new Set();
        for (let n = 0; n < 20; n++) ids.add((await ask(server, target)).json().error.request_id);
        assert.equal(ids.size, 20);
        const line = await server.waitForLog([...ids][0]);
        assert.match(line.error, /handlers\.lua:\d+: the secret of the script/);
        assert.match(line.error, /traceback/);
    });

    test('says when nothing has changed', async () => {
        const first = await ask(server, '/run/0');
        assert.match(first.headers.etag, /^"[0-9a-f]+"$/);
        assert.match(first.headers['cache-control'], /no-cache/);
        const same = await ask(server, '/run/0', {
            headers: { 'If-None-Match': first.headers.etag },
        });
        assert.equal(same.status, 304);
        assert.equal(same.text, '');
        assert.equal(same.headers.etag, first.headers.etag);
        assert.notEqual((await ask(server, '/run/1')).headers.etag, first.headers.etag);
        // A tag of the script's own counts as well; what isn't 200, and what writes, has none.
        const mine = GOOD.findIndex(([name]) => name === 'caching of its own');
        assert.equal(
            (await ask(server, `/run/${mine}`, { headers: { 'If-None-Match': '"mine"' } })).status,
            304,
        );
        const posted = await post(server, '/run/0', '{}', {
            headers: { 'If-None-Match': first.headers.etag },
        });
        assert.equal(posted.status, 200);
        assert.equal(posted.headers.etag, undefined);
        const created = GOOD.findIndex(([name]) => name === 'a status and a table');
        assert.equal((await ask(server, `/run/${created}`)).headers.etag, undefined);
    });
});
