// SPDX-License-Identifier: MIT
// authkit.routes as a user writes them and as anybody on the internet calls them: which function runs,
// what it gets, what its answer becomes, what is kept, and what none of it may ever do to the others.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { describe, inParallel, load, patience, sleep, test, until } from './lib/harness.js';
import { sharedServer, startServer } from './lib/server.js';
import { KeyServer, bearer, newKey, seconds, signToken, whoIs } from './lib/tokens.js';
import {
    newEvent,
    newId,
    newMembership,
    newOrganization,
    registrationAction,
    userCreated,
    userDeleted,
} from './lib/workos.js';

/** A script of these routes, with a table to write to. */
const withRoutes = (routes, { top = '', columns = '' } = {}) => `
local authkit = require "authkit"
authkit.schema {
  notes = { columns = { key = "text", value = "text?", ${columns} }, indexes = { { "key" } } },
}
authkit.events {
  ["test.run"] = function(ctx, event) ctx.db.insert("notes", { key = event.id, value = "event" }) end,
}
authkit.actions {
  user_registration = function(ctx, action, response) return response.allow() end,
}
${top}
authkit.routes {
${routes}
}`;

const startRoutes = (t, routes, { top, columns, ...options } = {}) =>
    startServer(t, { handlers: withRoutes(routes, { top, columns }), ...options });

const ask = (server, target, { method = 'GET', ...options } = {}) =>
    server.client.request(method, target, options);
const post = (server, target, body = '{}', options = {}) =>
    ask(server, target, {
        method: 'POST',
        body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
        ...options,
    });
const newRun = () => newEvent('test.run', { object: 'test', id: newId('test') });
const keysOf = (server) => server.rows('SELECT key FROM notes ORDER BY _id').map((row) => row.key);

function assertError(answer, status, code) {
    assert.equal(answer.status, status, `${answer.status} ${answer.text}`);
    assert.equal(answer.headers['content-type'], 'application/json');
    const { error } = answer.json();
    assert.equal(error.code, code);
    assert.match(error.message, /./);
    return error;
}

/** A function failed: a number for the log, and nothing else to see. Returns the log's line. */
async function assertFailed(server, answer, reason) {
    const error = assertError(answer, 500, 'route_failed');
    assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'request_id']);
    assert.match(error.request_id, /^[0-9a-f]{8,}$/);
    assert.equal(answer.headers['x-request-id'], error.request_id);
    for (const word of ['handlers', '.lua', 'secret', 'stack', 'traceback', 'notes'])
        assert.ok(!answer.text.includes(word), answer.text);
    const line = await server.waitForLog(error.request_id);
    assert.equal(line.level, 'error');
    if (reason) assert.match(line.error, reason);
    return line;
}

// ------------------------------------------------------------------------------ which function runs

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
            [[], {}],
            'text',
            7,
            -0.5,
            true,
            { 'ключ 😀': '\u0000\u2028' },
            { big: 9007199254740993n },
        ]) {
            const text =
                typeof value === 'object' && 'big' in value
                    ? '{"big":9007199254740993}'
                    : JSON.stringify(value);
            const answer = await post(server, '/json', text);
            assert.equal(answer.status, 200, answer.text);
            if ('big' in Object(value)) assert.match(answer.text, /9007199254740993/);
            else if (JSON.stringify(value) === '[[],{}]')
                assert.equal(answer.json().value.length, 2);
            else assert.deepEqual(answer.json().value, value);
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
        // The type says nothing: what is JSON is JSON.
        const plain = await post(server, '/json', '{"a":1}', {
            headers: { 'Content-Type': 'text/plain' },
        });
        assert.deepEqual(plain.json().value, { a: 1 });
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
        ['no UTF-8 in JSON', 'return { x = "\\xff" }', undefined],
        ['17 MiB', 'return ("x"):rep(17 * 1024 * 1024)', /longer/],
        ['endless recursion', 'local function f() return 1 + f() end return f()', /overflow/],
        [
            'endless memory',
            'local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end',
            /memory/,
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
        test(`${name}: 500 or not, and nothing shows`, async () => {
            for (const method of ['GET', 'POST']) {
                const answer = await ask(server, `/run/${GOOD.length + i}`, {
                    method,
                    body: method === 'POST' ? '{}' : undefined,
                });
                assert.equal(answer.headers['x-a'], undefined);
                assert.equal(answer.headers['x-secret'], undefined);
                if (reason === undefined) {
                    assert.ok(answer.status === 200 || answer.status === 500, answer.text);
                    continue;
                }
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

// ------------------------------------------------------------------------------ what is kept

const NOTES = `
["POST /notes"] = function(ctx, request)
    local body = request.json()
    return 201, { id = ctx.db.insert("notes", { key = body.key, value = body.value }) }
end,
["GET /notes/:key"] = function(ctx, request)
    local note = ctx.db.query("notes"):where("key", request.params.key):first()
    if not note then return 404, { error = "none" } end
    return note
end,
["GET /count"] = function(ctx, request) return { count = ctx.db.query("notes"):count() } end,
["GET /version"] = function(ctx, request) return "1" end,
["PUT /notes/:key"] = function(ctx, request)
    local note = ctx.db.query("notes"):where("key", request.params.key):unique()
    ctx.db.patch("notes", note._id, { value = request.json().value })
    return ctx.db.get("notes", note._id)
end,
["DELETE /notes/:key"] = function(ctx, request)
    for note in ctx.db.query("notes"):where("key", request.params.key):each() do
        ctx.db.delete("notes", note._id)
    end
    return 204, nil
end,
`;

describe('what a route writes', () => {
    test('is on disk when it is answered: the power may fail then', async (t) => {
        const server = await startRoutes(t, NOTES);
        const answer = await post(server, '/notes', { key: 'last words' });
        assert.equal(answer.status, 201);
        await server.kill();
        await server.start();
        assert.deepEqual(keysOf(server), ['last words']);
        assert.equal((await ask(server, '/notes/last%20words')).status, 200);
    });

    test(`is there once, if it was answered, after ${load(10, 3)} crashes in the middle of everything`, async (t) => {
        const server = await startRoutes(t, NOTES);
        const answered = new Set();
        let sent = 0;

        for (let round = 0; round < load(10, 3); round++) {
            const client = server.newClient({ connections: 16 });
            let running = true;
            const lanes = inParallel(16, Array(16).fill(), async () => {
                while (running) {
                    const key = `key_${sent++}`;
                    const answer = await client
                        .request('POST', '/notes', { body: JSON.stringify({ key }) })
                        .catch(() => undefined);
                    if (!answer) return;
                    assert.equal(answer.status, 201, answer.text);
                    answered.add(key);
                }
            });
            await sleep(100 + Math.random() * 200);
            await server.kill();
            running = false;
            await lanes;
            await server.start();
        }
        const found = keysOf(server);
        assert.equal(new Set(found).size, found.length, 'nothing is there twice');
        const there = new Set(found);
        for (const key of answered) assert.ok(there.has(key), `${key} was answered and is lost`);
        t.diagnostic(`${answered.size} answered, ${found.length} there, of ${sent}`);
    });

    test('is seen by who reads afterwards, on whatever connection', async (t) => {
        const server = await startRoutes(t, NOTES);
        await inParallel(8, Array(load(400, 80)).fill(), async (_, i) => {
            const key = `key_${i}`;
            const readers = server.newClient({ connections: 1 });
            assert.equal((await post(server, '/notes', { key, value: 'a' })).status, 201);
            assert.equal((await readers.request('GET', `/notes/${key}`)).json().value, 'a');
            await ask(server, `/notes/${key}`, { method: 'PUT', body: '{"value":"b"}' });
            assert.equal((await ask(server, `/notes/${key}`)).json().value, 'b');
            assert.equal(
                (await ask(server, `/notes/${key}`, { method: 'DELETE', body: '' })).status,
                204,
            );
            assert.equal((await readers.request('GET', `/notes/${key}`)).status, 404);
            readers.close();
        });
        assert.equal(server.count('notes'), 0);
    });

    test('is undone when the function fails, and only that', async (t) => {
        const server = await startRoutes(
            t,
            `${NOTES}
            ["POST /fail"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                ctx.db.sql("UPDATE notes SET value = 'lost'")
                error("on purpose")
            end,
            ["POST /loop"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                while true do end
            end,
            ["POST /wrong"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                return 204, {}
            end,
            ["POST /refused"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                request.json()
                return "never"
            end,
            ["POST /caught"] = function(ctx, request)
                ctx.db.insert("notes", { key = "kept" })
                local ok = pcall(error, "on purpose")
                return { ok = ok }
            end,
            ["POST /says-no"] = function(ctx, request)
                ctx.db.insert("notes", { key = "kept, whatever the status" })
                return 400, { error = "no" }
            end,`,
            { args: ['--handler-timeout', '300'] },
        );
        await post(server, '/notes', { key: 'before', value: 'before' });
        await assertFailed(server, await post(server, '/fail'), /on purpose/);
        await assertFailed(server, await post(server, '/loop'), /longer than/);
        await assertFailed(server, await post(server, '/wrong'), /204/);
        assertError(await post(server, '/refused', 'no JSON'), 400, 'invalid_json');
        assert.deepEqual(keysOf(server), ['before']);
        assert.equal(server.row('SELECT value FROM notes'), 'before');
        assert.equal((await post(server, '/caught')).status, 200);
        assert.equal((await post(server, '/says-no')).status, 400);
        assert.deepEqual(keysOf(server), ['before', 'kept', 'kept, whatever the status']);

        // In one batch with others, which are kept.
        const count = load(200, 60);
        const answers = await inParallel(16, Array(count).fill(), (_, i) =>
            i % 3 === 0 ? post(server, '/fail') : post(server, '/notes', { key: `key_${i}` }),
        );
        answers.forEach((answer, i) => assert.equal(answer.status, i % 3 === 0 ? 500 : 201));
        const expected = Array.from({ length: count }, (_, i) => i).filter((i) => i % 3).length;
        assert.equal(server.count('notes'), 3 + expected);
        assert.equal(
            server.row("SELECT count(*) FROM notes WHERE key = 'lost' OR value = 'lost'"),
            0,
        );
    });

    test('is nothing when it only reads: a GET that writes fails, and the log says why', async (t) => {
        const ways = {
            insert: 'ctx.db.insert("notes", { key = "written" })',
            patch: 'ctx.db.patch("notes", 1, { value = "written" })',
            replace: 'ctx.db.replace("notes", 1, { key = "written" })',
            upsert: 'ctx.db.upsert("notes", { "key" }, { key = "written" })',
            delete: 'ctx.db.delete("notes", 1)',
            'sql insert': `ctx.db.sql("INSERT INTO notes (key, _creation_time) VALUES ('written', 0)")`,
            'sql update': `ctx.db.sql("UPDATE notes SET value = 'written'")`,
            'sql delete': 'ctx.db.sql("DELETE FROM notes")',
            'sql with': `ctx.db.sql("WITH x AS (SELECT 1) DELETE FROM notes")`,
            'sql returning': `ctx.db.sql("DELETE FROM notes RETURNING _id")`,
        };
        const routes = Object.values(ways)
            .map((body, i) => `["GET /write/${i}"] = function(ctx) ${body} return "done" end,`)
            .join('\n');
        const server = await startRoutes(
            t,
            `${NOTES}${routes}
            ["HEAD /write"] = function(ctx) ${ways.insert} end,
            ["GET /caught"] = function(ctx)
                local ok, message = pcall(ctx.db.insert, "notes", { key = "written" })
                return { ok = ok, message = tostring(message), count = ctx.db.query("notes"):count(),
                         sql = ctx.db.sql("SELECT count(*) AS n FROM notes")[1].n }
            end,`,
        );
        await post(server, '/notes', { key: 'first', value: 'v' });
        for (const [i, name] of Object.keys(ways).entries())
            await assertFailed(server, await ask(server, `/write/${i}`), /GET|read/).catch(
                (error) => {
                    error.message = `${name}: ${error.message}`;
                    throw error;
                },
            );
        assert.equal((await ask(server, '/write', { method: 'HEAD' })).status, 500);
        const caught = (await ask(server, '/caught')).json();
        assert.equal(caught.ok, false);
        assert.match(caught.message, /GET|read/);
        assert.deepEqual([caught.count, caught.sql], [1, 1]);
        assert.deepEqual(server.rows('SELECT key, value FROM notes'), [
            { key: 'first', value: 'v' },
        ]);
        assert.equal((await post(server, '/notes', { key: 'second' })).status, 201);
    });

    test('is seen whole or not at all: a GET reads one moment', async (t) => {
        const server = await startRoutes(
            t,
            `["POST /pair"] = function(ctx)
                ctx.db.insert("notes", { key = "a" })
                for i = 1, 1000 do end
                ctx.db.insert("notes", { key = "b" })
                return "done"
            end,
            ["GET /pair"] = function(ctx)
                local a = ctx.db.query("notes"):where("key", "a"):count()
                for i = 1, 20000 do end
                local b = ctx.db.query("notes"):where("key", "b"):count()
                local all = ctx.db.sql("SELECT count(*) AS n FROM notes")[1].n
                return { a = a, b = b, all = all }
            end,`,
        );
        let running = true;
        const reading = inParallel(4, [1, 2, 3, 4], async () => {
            let last = 0;
            while (running) {
                const { a, b, all } = (await ask(server, '/pair')).json();
                assert.equal(a, b);
                assert.equal(all, a + b);
                assert.ok(a >= last, 'time does not go back');
                last = a;
            }
            return last;
        });
        await inParallel(4, Array(load(400, 60)).fill(), () => post(server, '/pair'));
        running = false;
        assert.ok(Math.max(...(await reading)) > 0);
        assert.equal(server.count('notes'), 2 * load(400, 60));
    });
});

// ------------------------------------------------------------------------------ the others

/** Ask again and again until done() is over; every answer must have that status. Returns the times. */
async function timesOf(request, done, status = 200) {
    const times = [];
    let running = true;

    done.finally(() => (running = false)).catch(() => {});
    while (running) {
        const begun = performance.now();
        const answer = await request();
        assert.equal(answer.status, status, answer.text);
        times.push(performance.now() - begun);
        await sleep(5);
    }
    return times.sort((a, b) => a - b);
}

const show = (times) =>
    `${times.length}, median ${times[times.length >> 1]?.toFixed(1)} ms, longest ${times.at(-1)?.toFixed(0)} ms`;

describe('what a route costs the others', () => {
    const SLOW = `${NOTES}
        ["GET /loop"] = function() while true do end end,
        ["POST /loop"] = function() while true do end end,
        ["GET /caught-loop"] = function() while true do pcall(function() while true do end end) end end,
        ["GET /pattern"] = function() return ("a"):rep(100000):find(("a-"):rep(30) .. "b") and "x" or "y" end,
        ["GET /sql"] = function(ctx)
            return ctx.db.sql("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c")
        end,
        ["GET /memory"] = function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end,`;

    test('an endless loop in a GET delays no GET, no webhook, no action, no POST', async (t) => {
        const server = await startRoutes(t, SLOW, { args: ['--handler-timeout', '1500'] });
        const crowd = server.newClient({ connections: 6 });
        const loops = Promise.all(
            ['/loop', '/loop', '/caught-loop', '/pattern', '/sql', '/loop'].map((target) =>
                crowd.request('GET', target),
            ),
        );
        await sleep(100);
        const results = await Promise.all([
            timesOf(() => ask(server, '/version'), loops),
            timesOf(() => ask(server, '/count'), loops),
            timesOf(() => server.post(newRun()), loops),
            timesOf(() => server.act(registrationAction()), loops),
            timesOf(() => post(server, '/notes', { key: 'x' }), loops, 201),
        ]);
        for (const answer of await loops) await assertFailed(server, answer, /longer than|pattern/);
        for (const [i, what] of ['GET', 'GET of rows', 'webhook', 'action', 'POST'].entries()) {
            t.diagnostic(`${what}: ${show(results[i])}`);
            assert.ok(results[i].length >= 3, `${what}: only ${results[i].length}`);
            assert.ok(results[i].at(-1) < patience(1000), `${what}: ${show(results[i])}`);
        }
    });

    test('more endless loops than there are processors are stopped, one by one, and all goes on', async (t) => {
        const server = await startRoutes(t, SLOW, { args: ['--handler-timeout', '300'] });
        const crowd = server.newClient({ connections: 40 });
        const answers = await inParallel(40, Array(80).fill(), () => crowd.request('GET', '/loop'));
        for (const answer of answers) assert.ok([500, 503].includes(answer.status), answer.text);
        assert.ok(answers.some((answer) => answer.status === 500));
        for (const answer of answers.filter(({ status }) => status === 503))
            assert.match(answer.headers['retry-after'], /^\d+$/);
        assert.equal((await ask(server, '/version')).text, '1');
        await server.deliver(newRun());
    });

    test('an endless loop in a POST delays no GET', async (t) => {
        const server = await startRoutes(t, SLOW, { args: ['--handler-timeout', '1000'] });
        const loop = post(server, '/loop');
        await sleep(50);
        const times = await timesOf(() => ask(server, '/count'), loop);
        await assertFailed(server, await loop, /longer than/);
        t.diagnostic(show(times));
        assert.ok(times.length > 3);
        assert.ok(times.at(-1) < patience(700), show(times));
        await server.deliver(newRun());
    });

    test('giant memory is stopped, and the next request is served', async (t) => {
        const server = await startRoutes(t, SLOW, { args: ['--handler-memory', '8MiB'] });
        for (let i = 0; i < 5; i++) {
            await assertFailed(server, await ask(server, '/memory'), /memory|longer/);
            assert.equal((await ask(server, '/version')).text, '1');
        }
        assert.ok(server.residentBytes() < 1024 ** 3);
    });

    test('many GETs and many webhooks at the same time', async (t) => {
        const server = await startRoutes(t, NOTES);
        const events = load(600, 80);
        const reads = load(3000, 300);
        const begun = Date.now();
        let last = 0;
        const [read] = await Promise.all([
            inParallel(16, Array(reads).fill(), async () => {
                const answer = await ask(server, '/count');
                assert.equal(answer.status, 200, answer.text);
                last = Math.max(last, answer.json().count);
                return answer;
            }),
            inParallel(16, Array(events).fill(), () => server.deliver(newRun())),
        ]);
        t.diagnostic(`${read.length} GETs and ${events} events in ${Date.now() - begun} ms`);
        assert.equal((await ask(server, '/count')).json().count, events);
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'"), 0);
    });

    test('a server that stops answers what it has begun', async (t) => {
        const server = await startRoutes(
            t,
            `${NOTES}
            ["GET /slow"] = function() local x = os.clock() while os.clock() - x < 0.3 do end return "slow" end,
            ["POST /slow"] = function(ctx)
                ctx.db.insert("notes", { key = "slow" })
                local x = os.clock() while os.clock() - x < 0.3 do end
                return "slow"
            end,`,
        );
        const answers = [ask(server, '/slow'), post(server, '/slow')];
        await sleep(100);
        const stopping = server.stop();
        for (const answer of await Promise.all(answers)) assert.equal(answer.text, 'slow');
        await stopping;
        assert.deepEqual(keysOf(server), ['slow']);
    });
});

// ------------------------------------------------------------------------------ reload

describe('a reload', () => {
    const version = (number, { columns = '', read = '' } = {}) =>
        withRoutes(
            `["GET /v"] = function(ctx) ${read} return { version = ${number} } end,
            ["POST /v"] = function(ctx)
                ctx.db.insert("notes", { key = "v", value = "${number}" })
                return { version = ${number} }
            end,
            ["GET /only/${number}"] = function() return "${number}" end,`,
            { columns },
        );

    test('swaps routes: the old ones are gone, the new ones are there, for everybody at once', async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        for (let number = 1; number <= load(30, 8); number++) {
            assert.equal((await ask(server, `/only/${number}`)).status, 404);
            const line = await server.reload(version(number));
            assert.equal(line.outcome, 'loaded', line.text);
            const answers = await inParallel(8, Array(24).fill(), (_, i) =>
                i % 3 ? ask(server, '/v') : post(server, '/v'),
            );
            for (const answer of answers) assert.equal(answer.json().version, number);
            assert.equal((await ask(server, `/only/${number}`)).text, String(number));
            assertError(await ask(server, `/only/${number - 1}`), 404, 'not_found');
        }
    });

    test(`${load(100, 20)} times under load: no request is dropped, and none sees an older script than before`, async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        const client = server.newClient({ connections: 12 });
        let running = true;
        let answered = 0;
        const lanes = inParallel(12, Array(12).fill(), async (_, lane) => {
            let last = 0;
            while (running) {
                const answer =
                    lane % 3 === 0
                        ? await client.request('POST', '/v', { body: '{}' })
                        : await client.request('GET', '/v');
                assert.equal(answer.status, 200, answer.text);
                const seen = answer.json().version;
                assert.ok(seen >= last, `version ${seen} after ${last}`);
                last = seen;
                answered += 1;
            }
        });
        // Each has a column that the one before didn't know, and reads it.
        for (let number = 1; number <= load(100, 20); number++) {
            const count = Math.min(number, 20);
            const line = await server.reload(
                version(number, {
                    columns: Array.from({ length: count }, (_, i) => `c${i} = "text?"`).join(', '),
                    read: `ctx.db.query("notes"):where("c${count - 1}", "x"):all()`,
                }),
            );
            assert.equal(line.outcome, 'loaded', line.text);
        }
        running = false;
        await lanes;
        t.diagnostic(`${answered} answers`);
        const versions = server
            .rows('SELECT value FROM notes ORDER BY _id')
            .map((row) => Number(row.value));
        for (let i = 1; i < versions.length; i++) assert.ok(versions[i] >= versions[i - 1]);
    });

    test('of a broken script keeps the old routes', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        let running = true;
        const lanes = inParallel(4, Array(4).fill(), async () => {
            while (running) assert.equal((await ask(server, '/v')).json().version, 1);
        });
        for (const broken of [
            'this is no Lua',
            `${version(2)}\nerror("on purpose")`,
            version(2).replace('"GET /v"', '"GET v"'),
            version(2).replace('value = "text?"', 'value = "integer?"'),
            'while true do end',
        ]) {
            const line = await server.reload(broken);
            assert.equal(line.outcome, 'refused', line.text);
            assert.equal((await post(server, '/v')).json().version, 1);
        }
        running = false;
        await lanes;
        assert.equal((await server.reload(version(3))).outcome, 'loaded');
        assert.equal((await ask(server, '/v')).json().version, 3);
    });

    test('to a script without routes, and back', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        await server.reload('local authkit = require "authkit"');
        assertError(await ask(server, '/v'), 404, 'not_found');
        assertError(await post(server, '/v'), 404, 'not_found');
        await server.reload(version(2));
        assert.equal((await ask(server, '/v')).json().version, 2);
    });

    test('while functions run: each ends with the script that it began with', async (t) => {
        const slow = (number) =>
            withRoutes(
                `["GET /slow"] = function() local x = os.clock() while os.clock() - x < 0.4 do end return "${number}" end,
             ["GET /v"] = function() return "${number}" end,`,
            );
        const server = await startServer(t, { handlers: slow(1) });
        const begun = ask(server, '/slow');
        await sleep(100);
        await server.reload(slow(2));
        assert.equal((await ask(server, '/v')).text, '2');
        assert.equal((await begun).text, '1');
        assert.equal((await ask(server, '/slow')).text, '2');
    });
});

// ------------------------------------------------------------------------------ who calls

const key = newKey();
const keys = await new KeyServer([key]).listen();
after(() => keys.close());

describe('ctx.auth', () => {
    const server = sharedServer({
        env: keys.env,
        handlers: withRoutes(
            `
            ["GET /who"] = function(ctx)
                local user = ctx.auth.user()
                return { id = user and user.id, email = user and user.email, user_id = ctx.auth.user_id,
                         claims = ctx.auth.claims, metadata = user and user.metadata }
            end,
            ["GET /mine"] = function(ctx) return ctx.auth.require().id end,
            ["POST /mine"] = function(ctx)
                ctx.db.insert("notes", { key = "lost" })
                local user = ctx.auth.require()
                ctx.db.insert("notes", { key = user.id })
                return user.id
            end,
            ["GET /admin"] = function(ctx) return ctx.auth.require_role("admin").id end,
            ["GET /staff"] = function(ctx) return ctx.auth.require_role("admin", "support").id end,
            ["GET /write"] = function(ctx) return ctx.auth.require_permission("todos:write").id end,
            ["GET /both"] = function(ctx) return ctx.auth.require_permission("todos:read", "todos:write").id end,
            ["GET /organization"] = function(ctx)
                ctx.auth.require()
                local organization = ctx.auth.organization()
                return { name = organization and organization.name, id = ctx.auth.claims.org_id }
            end,
            ["GET /forge"] = function(ctx)
                ctx.auth.require()
                ctx.auth.claims.role = "admin"
                ctx.auth.claims.permissions = { "todos:write" }
                pcall(function() ctx.auth.claims = { role = "admin" } end)
                pcall(function() ctx.auth.user = function() return { id = "forged" } end end)
                local admin = pcall(ctx.auth.require_role, "admin")
                local writer = pcall(ctx.auth.require_permission, "todos:write")
                return { admin = admin, writer = writer }
            end,
            ["GET /caught"] = function(ctx)
                local ok, refusal = pcall(ctx.auth.require)
                return { ok = ok, text = not ok and tostring(refusal) or nil }
            end,
            ["GET /raised"] = function(ctx)
                local ok, refusal = pcall(ctx.auth.require)
                if not ok then error(refusal) end
                return "in"
            end,
            ["GET /misuse"] = function(ctx) return ctx.auth.require_role() end,
            ["GET /leak"] = function(ctx)
                local before = leaked and leaked.sub
                leaked = ctx.auth.claims
                return { before = before, now = ctx.auth.claims and ctx.auth.claims.sub }
            end,
            `,
            {
                top: `authkit.events { ["test.auth"] = function(ctx, event)
                    local ok, message = pcall(function() return ctx.auth.user() end)
                    ctx.db.insert("notes", { key = "auth", value = tostring(ok) .. tostring(message) })
                end }`,
            },
        ),
    });
    const tokenOf = (user, claims, options) => signToken(key, { sub: user.id, ...claims }, options);
    const as = (user, target, claims) =>
        ask(server, target, { headers: bearer(tokenOf(user, claims)) });
    const addUser = async (fields) => {
        const event = userCreated(fields);
        await server.deliver(event);
        return event.data;
    };

    test('says who it is, or nobody', async () => {
        const user = await addUser({ metadata: { plan: 'team' } });
        const known = (
            await as(user, '/who', { role: 'admin', deep: { x: [1, { y: true }] } })
        ).json();
        assert.equal(known.id, user.id);
        assert.equal(known.email, user.email);
        assert.equal(known.user_id, user.id);
        assert.equal(known.claims.role, 'admin');
        assert.deepEqual(known.claims.deep, { x: [1, { y: true }] });
        assert.ok(Number.isInteger(known.claims.exp));

        const nobody = [
            {},
            bearer('x'),
            bearer(tokenOf(user, { exp: seconds() - 1000 })),
            bearer(signToken(newKey({ kid: key.kid }), { sub: user.id })),
            { Authorization: 'Basic x' },
        ];
        for (const headers of nobody) {
            const answer = await ask(server, '/who', { headers });
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual(answer.json(), []);
        }
        // A good token of a user who isn't here: there are claims and no row.
        const stranger = { id: newId('user') };
        const answer = (await as(stranger, '/who')).json();
        assert.deepEqual(
            [answer.id, answer.user_id, answer.claims.sub],
            [undefined, stranger.id, stranger.id],
        );
    });

    test('require: 401 that says why', async () => {
        const user = await addUser();
        assert.equal((await as(user, '/mine')).text, user.id);
        for (const [headers, code, challenge] of [
            [{}, 'token_missing', 'Bearer'],
            [{ Authorization: 'Basic x' }, 'token_missing', 'Bearer'],
            [bearer('x'), 'token_invalid', 'Bearer error="invalid_token"'],
            [bearer(tokenOf(user, { exp: 1 })), 'token_expired', 'Bearer error="invalid_token"'],
            [
                bearer(tokenOf(user, { nbf: seconds() + 1000 })),
                'token_not_yet_valid',
                'Bearer error="invalid_token"',
            ],
            [
                bearer(tokenOf({ id: newId('user') })),
                'user_not_found',
                'Bearer error="invalid_token"',
            ],
        ])
            for (const [method, target] of [
                ['GET', '/mine'],
                ['POST', '/mine'],
                ['GET', '/admin'],
                ['GET', '/write'],
                ['GET', '/raised'],
            ]) {
                const answer = await ask(server, target, {
                    method,
                    headers,
                    body: method === 'POST' ? '{}' : undefined,
                });
                assertError(answer, 401, code);
                assert.equal(answer.headers['www-authenticate'], challenge);
                assert.equal(answer.headers['cache-control'], 'no-store');
            }
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'lost'"), 0);
        assert.equal(
            (
                await ask(server, '/mine', {
                    method: 'POST',
                    body: '{}',
                    headers: bearer(tokenOf(user)),
                })
            ).text,
            user.id,
        );
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'lost'"), 1);

        const deleted = await addUser();
        const token = bearer(tokenOf(deleted));
        assert.equal((await ask(server, '/mine', { headers: token })).status, 200);
        await server.deliver(userDeleted(deleted));
        assertError(await ask(server, '/mine', { headers: token }), 401, 'user_not_found');
    });

    test('require_role and require_permission: 403 when it is not enough', async () => {
        const user = await addUser();
        const allowed = async (target, claims) => {
            const answer = await as(user, target, claims);
            if (answer.status === 200) return answer.text === user.id;
            assertError(
                answer,
                403,
                /write|both/.test(target) ? 'permission_required' : 'role_required',
            );
            assert.equal(answer.headers['www-authenticate'], undefined);
            return false;
        };
        assert.ok(await allowed('/admin', { role: 'admin' }));
        assert.ok(await allowed('/admin', { roles: ['member', 'admin'] }));
        assert.ok(await allowed('/admin', { role: 'member', roles: ['admin'] }));
        assert.ok(await allowed('/staff', { role: 'support' }));
        for (const claims of [
            {},
            { role: 'member' },
            { role: 'Admin' },
            { role: 'administrator' },
            { roles: [] },
            { role: null },
            { role: true },
            { role: { admin: true } },
            { permissions: ['admin'] },
            { role: 'admin,member' },
        ])
            assert.ok(!(await allowed('/admin', claims)), JSON.stringify(claims));

        assert.ok(await allowed('/write', { permissions: ['todos:read', 'todos:write'] }));
        assert.ok(await allowed('/both', { permissions: ['todos:write', 'todos:read'] }));
        for (const claims of [
            {},
            { permissions: [] },
            { permissions: ['todos:writer'] },
            { permissions: { 'todos:write': true } },
            { permissions: [['todos:write']] },
            { role: 'todos:write' },
        ])
            assert.ok(!(await allowed('/write', claims)), JSON.stringify(claims));
        assert.ok(!(await allowed('/both', { permissions: ['todos:write'] })));
        await assertFailed(server, await as(user, '/misuse', { role: 'admin' }), /require_role/);
    });

    test('organization: that of the session', async () => {
        const user = await addUser();
        const organization = newOrganization({ name: 'Analytical Engines' });
        await server.deliver(newEvent('organization.created', organization));
        await server.deliver(
            newEvent(
                'organization_membership.created',
                newMembership({ user_id: user.id, organization_id: organization.id }),
            ),
        );
        const answer = await as(user, '/organization', { org_id: organization.id });
        assert.deepEqual(answer.json(), { name: 'Analytical Engines', id: organization.id });
        assert.deepEqual((await as(user, '/organization')).json(), []);
        const unknown = newId('org');
        assert.deepEqual((await as(user, '/organization', { org_id: unknown })).json(), {
            id: unknown,
        });
        assert.equal((await as(user, '/organization', { org_id: 7 })).status, 200);
    });

    test('can neither be forged nor kept by a script', async () => {
        const user = await addUser();
        assert.deepEqual((await as(user, '/forge', { role: 'member' })).json(), {
            admin: false,
            writer: false,
        });
        const caught = (await ask(server, '/caught')).json();
        assert.equal(caught.ok, false);
        assert.match(caught.text, /401 token_missing/);
        const other = await addUser();
        await inParallel(8, Array(load(400, 60)).fill(), async (_, i) => {
            const caller = i % 2 ? user : other;
            assert.equal((await as(caller, '/leak')).json().now, caller.id);
            assert.equal((await ask(server, '/leak')).json().now, undefined);
            assert.equal((await as(caller, '/mine')).text, caller.id);
        });
        const event = newEvent('test.auth', { object: 'test', id: newId('test') });
        await server.deliver(event);
        assert.match(server.row("SELECT value FROM notes WHERE key = 'auth'"), /^false.*routes/);
    });

    test('takes no token while the server knows no client id, and says so', async (t) => {
        const off = await startRoutes(
            t,
            '["GET /mine"] = function(ctx) return ctx.auth.require().id end, ["GET /open"] = function(ctx) return ctx.auth.user() == nil end,',
        );
        const answer = await ask(off, '/mine', { headers: bearer(tokenOf({ id: 'x' })) });
        assertError(answer, 503, 'tokens_off');
        assert.match(answer.headers['retry-after'], /^\d+$/);
        assert.equal((await ask(off, '/open')).text, 'true');
        assert.equal((await whoIs(off, 'x')).status, 503);
    });

    test('lets pages of allowed origins ask for each route what it takes', async (t) => {
        const origin = 'https://app.example.com';
        const open = await startRoutes(t, NOTES, { args: ['--cors-origin', origin] });
        const preflight = (target, headers = {}) =>
            ask(open, target, {
                method: 'OPTIONS',
                headers: {
                    Origin: origin,
                    'Access-Control-Request-Method': 'PUT',
                    'Access-Control-Request-Headers': 'authorization,content-type',
                    ...headers,
                },
            });
        const asked = await preflight('/notes/x');
        assert.equal(asked.status, 204);
        assert.equal(asked.headers['access-control-allow-origin'], origin);
        for (const method of ['GET', 'PUT', 'DELETE'])
            assert.match(
                asked.headers['access-control-allow-methods'],
                new RegExp(`\\b${method}\\b`),
            );
        assert.match(asked.headers['access-control-allow-headers'], /authorization/);
        assert.match(asked.headers['access-control-allow-headers'], /content-type/);
        assert.equal(
            (await preflight('/notes/x', { Origin: 'https://evil.example' })).headers[
                'access-control-allow-origin'
            ],
            undefined,
        );
        const posted = await post(open, '/notes', { key: 'x' }, { headers: { Origin: origin } });
        assert.equal(posted.headers['access-control-allow-origin'], origin);
        const failed = await post(open, '/notes', { key: 7 }, { headers: { Origin: origin } });
        assert.equal(failed.status, 500);
        assert.equal(failed.headers['access-control-allow-origin'], origin);
        assert.match(failed.headers['access-control-expose-headers'], /X-Request-ID/i);
    });
});

// ------------------------------------------------------------------------------ all at once

describe('everything at once', () => {
    test('routes of all kinds, webhooks, actions, reloads and tokens: nothing unexpected', async (t) => {
        const handlers = (number) =>
            withRoutes(
                `${NOTES}
            ["GET /fail"] = function() error("on purpose ${number}") end,
            ["GET /mine"] = function(ctx) return ctx.auth.require().id end,
            ["GET /big"] = function() return ("x"):rep(300000) end,`,
            );
        const server = await startServer(t, { handlers: handlers(0), env: keys.env });
        const { data: user } = userCreated();
        await server.deliver(newEvent('user.created', user));
        const client = server.newClient({ connections: 24 });
        const token = signToken(key, { sub: user.id });
        let posted = 0;
        let delivered = 0;
        const kinds = [
            async () => assert.equal((await client.request('GET', '/count')).status, 200),
            async () => assert.equal((await client.request('GET', '/fail')).status, 500),
            async () => assert.equal((await client.request('GET', '/nowhere')).status, 404),
            async () =>
                assert.equal(
                    (await client.request('GET', '/mine', { headers: bearer(token) })).text,
                    user.id,
                ),
            async () => assert.equal((await client.request('GET', '/mine')).status, 401),
            async () =>
                assert.equal(
                    (await client.request('GET', '/workos/user', { headers: bearer(token) }))
                        .status,
                    200,
                ),
            async () => assert.equal((await client.request('GET', '/big')).text.length, 300_000),
            async () => assert.equal((await client.request('HEAD', '/big')).status, 200),
            async () => {
                assert.equal(
                    (await client.request('POST', '/notes', { body: '{"key":"posted"}' })).status,
                    201,
                );
                posted += 1;
            },
            async () =>
                assert.equal(
                    (await client.request('POST', '/notes', { body: '{"key":7}' })).status,
                    500,
                ),
            async () => {
                await server.deliver(newRun(), { client });
                delivered += 1;
            },
            async () =>
                assert.equal((await server.act(registrationAction(), { client })).status, 200),
        ];
        const work = inParallel(24, Array(load(4000, 500)).fill(), (_, i) =>
            kinds[i % kinds.length](),
        );
        for (let number = 1; number <= load(10, 3); number++) {
            await sleep(50);
            assert.equal((await server.reload(handlers(number))).outcome, 'loaded');
        }
        await work;
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'posted'"), posted);
        assert.equal(server.row("SELECT count(*) FROM notes WHERE value = 'event'"), delivered);
        assert.equal(server.count('notes'), posted + delivered);
    });
});
