// SPDX-License-Identifier: MIT
// The admin listener for people: who may ask, what the dashboard's page is told, and that it never
// gets to know a secret.

import assert from 'node:assert/strict';

import { atEnd, describe, test, until } from './lib/harness.js';
import { Client } from './lib/http.js';
import { runCommand, sharedServer, startServer, writeFile } from './lib/server.js';
import {
    ACTION_SECRET,
    WEBHOOK_SECRET,
    newEvent,
    newMembership,
    newOrganization,
    sessionCreated,
    userCreated,
    userDeleted,
    userUpdated,
} from './lib/workos.js';

const TOKEN = 'a-token-that-nobody-can-guess-4f2c9';
const HANDLERS = `
local authkit = require "authkit"
authkit.events {
  ["user.created"] = function(ctx, event)
    if event.data.email:find("^fail") then error("no luck with " .. event.data.email) end
  end,
  ["user.updated"] = function() end,
  ["session.created"] = function() end,
}
authkit.actions { user_registration = function(ctx, action, response) return response.allow() end }
authkit.routes {
  ["GET /todos"] = function() return {} end,
  ["POST /todos/:id"] = function() return {} end,
}
`;

const MENDED = HANDLERS.replace(/if .* end\n/, '');
const POST = { 'Authkitd-Admin': '1' };

const READ = [
    '/api/overview',
    '/api/users',
    '/api/users/user_1',
    '/api/events',
    '/api/events/event_1',
    '/api/config',
    '/api/script',
];
const FILES = [
    'main.js',
    'dom.js',
    'api.js',
    'metrics.js',
    'chart.js',
    'overview.js',
    'users.js',
    'events.js',
    'script.js',
    'configuration.js',
];
const OPEN_FILES = ['sign_in.html', 'sign_in.js', 'style.css', 'icon.svg'];

/** Ask the admin listener, as a program would. */
function asker(t, server) {
    const client = new Client(server.adminUrl);
    if (t) atEnd(t, () => client.close());
    const ask = (path, headers, method = 'GET', body) =>
        client.request(method, path, { headers, body });
    return Object.assign(ask, {
        json: async (path) => {
            const answer = await ask(path);
            assert.equal(answer.status, 200, `${path}: ${answer.text}`);
            return answer.json();
        },
        post: (path, body, headers = {}) =>
            ask(path, { ...POST, ...headers }, 'POST', JSON.stringify(body)),
        close: () => client.close(),
    });
}

const ids = (list) => list.map(({ id }) => id);

describe('the dashboard is told', () => {
    const server = sharedServer({ handlers: HANDLERS });

    test('of users: by the page, by a beginning, one with all that is known', async (t) => {
        const ask = asker(t, server);
        const made = [];
        for (let i = 0; i < 25; i++) {
            const event = userCreated({ email: `Page${String(i).padStart(2, '0')}@Example.com` });
            made.push(event.data);
            await server.deliver(event);
        }

        const all = await ask.json('/api/users?limit=200');
        assert.deepEqual(ids(all.users), ids(made).reverse(), 'the newest first');
        assert.equal(all.next, null);

        const seen = [];
        for (let after = ''; after !== null;) {
            const page = await ask.json(`/api/users?limit=10&search=PAGE&after=${after}`);
            seen.push(...page.users);
            after = page.next;
        }
        assert.deepEqual(ids(seen), ids(made), 'in the order of their emails');
        assert.deepEqual(ids((await ask.json('/api/users?search=page07%40example.com')).users), [
            made[7].id,
        ]);
        assert.deepEqual(ids((await ask.json(`/api/users?search=${made[3].id}`)).users), [
            made[3].id,
        ]);
        assert.deepEqual(ids((await ask.json(`/api/users?search=${made[3].external_id}`)).users), [
            made[3].id,
        ]);
        assert.deepEqual(ids((await ask.json('/api/users?search=nobody')).users), []);

        const organization = newOrganization();
        await server.deliver(newEvent('organization.created', organization));
        await server.deliver(
            newEvent(
                'organization_membership.created',
                newMembership({ user_id: made[0].id, organization_id: organization.id }),
            ),
        );
        const { user, memberships, deleted_at } = await ask.json(`/api/users/${made[0].id}`);
        assert.equal(user.email, 'Page00@Example.com');
        assert.equal(user.email_verified, true);
        assert.deepEqual(user.metadata, { plan: 'team', seats: '12' });
        assert.equal(user.raw, undefined);
        assert.equal(deleted_at, null);
        assert.deepEqual(
            memberships.map((one) => [one.organization_name, one.role, one.status]),
            [['Foo Corp', 'admin', 'active']],
        );

        await server.deliver(userDeleted(made[1]));
        const gone = await ask.json(`/api/users/${made[1].id}`);
        assert.equal(gone.user, null);
        assert.ok(gone.deleted_at > 0);
        assert.equal((await ask('/api/users/user_nobody')).status, 404);
    });

    test('of events: by the page, by status, type and user, one with its payload and traceback', async (t) => {
        const ask = asker(t, server);
        const good = userCreated({ email: 'good@example.com' });
        const failing = userCreated({ email: 'fail@example.com' });
        const behind = userUpdated(failing.data);
        const sessions = Array.from({ length: 7 }, () => sessionCreated({ user_id: good.data.id }));
        for (const event of [good, failing, behind, ...sessions]) await server.deliver(event);

        const first = await ask.json('/api/events?limit=3');
        assert.deepEqual(ids(first.events), ids(sessions).slice(-3).reverse());
        const second = await ask.json(`/api/events?limit=3&after=${first.next}`);
        assert.deepEqual(ids(second.events), ids(sessions).slice(1, 4).reverse());

        const of = async (query) => ids((await ask.json(`/api/events?${query}`)).events);
        assert.deepEqual(await of('status=failed'), [failing.id]);
        assert.deepEqual(await of('status=waiting'), [behind.id]);
        assert.deepEqual(await of('status=dead'), []);
        assert.deepEqual(await of(`user=${good.data.id}&type=user.*`), [good.id]);
        assert.deepEqual(
            await of(`user=${good.data.id}&type=session.created&status=done&limit=2`),
            ids(sessions).slice(-2).reverse(),
        );
        assert.deepEqual(await of(`user=${failing.data.id}`), [behind.id, failing.id]);

        const { event } = await ask.json(`/api/events/${failing.id}`);
        assert.equal(event.type, 'user.created');
        assert.equal(event.status, 'failed');
        assert.match(
            event.error,
            /^handlers\.lua:5: no luck with fail@example\.com\nstack traceback:\n/,
        );
        assert.equal(event.payload, JSON.stringify(failing));
        assert.equal(event.payload_bytes, Buffer.byteLength(event.payload));
        assert.ok(event.next_attempt_at > Date.now() - 60_000);
        assert.equal((await ask('/api/events/event_nobody')).status, 404);

        const { events } = await ask.json('/api/overview');
        assert.equal(events.failed, 1);
        assert.equal(events.waiting, 1);
        assert.equal(events.last_seq, server.count('workos_events'));
    });

    test('and what was mended is retried', async (t) => {
        const ask = asker(t, server);
        const event = userCreated({ email: 'fail-again@example.com' });
        await server.deliver(event);
        assert.equal((await ask.post('/retry', { ids: [event.id] })).json().put_back, 1);
        await until(
            'the second attempt',
            () =>
                server.eventRow(event).attempts === 1 && server.eventRow(event).status === 'failed',
        );
        writeFile(server.handlersFile, MENDED);
        assert.equal((await ask.json('/api/script')).changed_on_disk, true);
        assert.equal((await ask.post('/reload')).status, 200);
        assert.equal((await ask.json('/api/script')).changed_on_disk, false);
        await until('it to be done', () => server.eventRow(event).status === 'done');
        assert.deepEqual((await ask.json('/api/events?status=failed')).events, []);
    });

    test('of the script: its functions, and how the last load went', async (t) => {
        const ask = asker(t, server);
        const begun = Date.now();
        assert.equal((await server.reload(HANDLERS)).outcome, 'loaded');
        const script = await until('the load', async () => {
            const now = await ask.json('/api/script');
            return now.loaded_at >= begun && now;
        });
        assert.equal(script.file, server.handlersFile);
        assert.deepEqual(script.events, ['session.created', 'user.created', 'user.updated']);
        assert.deepEqual(script.actions, ['user_registration']);
        assert.deepEqual(script.routes, ['GET /todos', 'POST /todos/:id']);
        assert.equal(script.last_load.outcome, 'loaded');

        assert.equal((await server.reload('this is not Lua')).outcome, 'refused');
        const after = await until('the refusal', async () => {
            const now = await ask.json('/api/script');
            return now.last_load.outcome === 'refused' && now;
        });
        assert.match(after.last_load.text, /handlers\.lua:1:/);
        assert.equal(after.loaded_at, script.loaded_at);
        assert.deepEqual(after.events, script.events, 'the old one goes on');
        assert.equal((await server.reload(HANDLERS)).outcome, 'loaded');
    });

    test('of a script with very many functions: all of them', async (t) => {
        const ask = asker(t, server);
        const many = `local authkit = require "authkit"
            local events, routes = {}, {}
            for i = 100, 399 do
              events["event." .. i .. ("x"):rep(80)] = function() end
              routes["GET /" .. i .. ("x"):rep(80)] = function() return {} end
            end
            authkit.events(events)
            authkit.routes(routes)`;
        assert.equal((await server.reload(many)).outcome, 'loaded');
        const script = await ask.json('/api/script');
        for (const names of [script.events, script.routes])
            assert.deepEqual(
                names.map((name) => /(\d+)x{80}$/.exec(name)?.[1]),
                Array.from({ length: 300 }, (_, i) => String(i + 100)),
            );
        assert.equal((await server.reload(HANDLERS)).outcome, 'loaded');
    });

    test('of the configuration: everything but the secrets', async (t) => {
        const ask = asker(t, server);
        const { options } = await ask.json('/api/config');
        const of = (name) => options.find((option) => option.name === name);
        assert.equal(of('--db').value, server.database);
        assert.equal(of('--log-format').value, 'json');
        assert.equal(of('--max-body').value, '1048576');
        assert.equal(of('--poll').value, 'off');
        for (const [name, isSet] of [
            ['WORKOS_WEBHOOK_SECRET', true],
            ['WORKOS_ACTION_SECRET', true],
            ['WORKOS_API_KEY', false],
            ['AUTHKITD_ADMIN_TOKEN', false],
        ])
            assert.deepEqual(
                [of(name).secret, of(name).set, of(name).value],
                [true, isSet, null],
                name,
            );
        assert.ok(
            options.every(
                ({ secret, name }) =>
                    secret === /SECRET|TOKEN|KEY$/.test(name) || name === '--tls-key',
            ),
        );
    });

    test('whatever strangers are called', async (t) => {
        const ask = asker(t, server);
        const names = [
            '<img src=x onerror=alert(1)>',
            '"; alert(1); //',
            "' OR 1=1 --",
            '\u202Egnp.exe',
            'שלום',
            '\u0000\u0001\u001f\u007f\u2028\u2029',
            '😀'.repeat(3000),
            'x'.repeat(10_240),
            '\ud800 lonely',
            '</script><script>alert(1)</script>',
            '__proto__',
        ];
        for (const name of names) {
            const event = userCreated({
                name,
                first_name: name,
                last_name: name,
                email: `${Buffer.from(name).toString('hex').slice(0, 40)}"<b>@example.com`,
                metadata: { [name.slice(0, 30)]: name },
            });
            await server.deliver(event);
            const kept = name.replace(/\0/g, '\ufffd').replace(/\ud800/g, '\ufffd');
            const { user } = await ask.json(`/api/users/${event.data.id}`);
            assert.equal(user.name, kept);
            const [listed] = (
                await ask.json(
                    `/api/users?search=${encodeURIComponent(event.data.email.toUpperCase())}`,
                )
            ).users;
            assert.equal(listed.id, event.data.id);
            assert.ok(kept.startsWith(listed.name.replace(/…$/, '')));
            assert.ok(Buffer.byteLength(listed.name) <= 515);
            assert.equal(
                (await ask.json(`/api/events/${event.id}`)).event.payload,
                JSON.stringify(event),
            );
        }
    });

    test('nothing that it can’t be asked', async (t) => {
        const ask = asker(t, server);
        for (const path of [
            '/api/users?limit=0',
            '/api/users?limit=201',
            '/api/users?limit=x',
            '/api/users?limit=-1',
            '/api/users?search=%zz',
            '/api/users?search=%ff',
            `/api/users?search=${'x'.repeat(1023)}`,
            `/api/users?search=${'x'.repeat(5000)}`,
            '/api/users?search=mail&after=user_nobody',
            '/api/events?limit=99999999999999999999',
            '/api/events?after=0',
            '/api/events?after=x',
            '/api/events?status=lost',
            '/api/events/%',
            '/api/events/%ff',
            `/api/events/${'x'.repeat(2000)}`,
        ]) {
            const answer = await ask(path);
            assert.equal(answer.status, 400, `${path}: ${answer.text}`);
            assert.equal(answer.json().error.code, 'bad_request');
        }
        for (const path of [
            '/api',
            '/api/',
            '/api/users/',
            '/api/secrets',
            '/dashboard/',
            '/dashboard/../style.css',
            '/dashboard/none.js',
            '/index.html',
            '//',
        ])
            assert.equal((await ask(path)).status, 404, path);
        for (const path of [
            '/api/users?',
            '/api/users?&&',
            '/api/users?x=y&search=',
            '/api/events?status=any',
            '/api/events?type=&user=',
        ])
            assert.equal((await ask(path)).status, 200, path);
    });

    test('in answers that no other page can use', async (t) => {
        const ask = asker(t, server);
        const policy =
            /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'$/;
        for (const path of [
            '/',
            '/healthz',
            '/metrics',
            '/nothing',
            ...READ,
            ...[...FILES, ...OPEN_FILES].map((file) => `/dashboard/${file}`),
        ]) {
            const { headers } = await ask(path);
            assert.match(headers['content-security-policy'], policy, path);
            assert.equal(headers['x-frame-options'], 'DENY');
            assert.equal(headers['referrer-policy'], 'no-referrer');
            assert.equal(headers['x-content-type-options'], 'nosniff');
            assert.equal(headers['cross-origin-resource-policy'], 'same-origin');
            assert.equal(headers['cache-control'], 'no-store');
            assert.equal(headers['access-control-allow-origin'], undefined);
        }
        const types = {
            html: 'text/html; charset=utf-8',
            css: 'text/css; charset=utf-8',
            js: 'text/javascript; charset=utf-8',
            svg: 'image/svg+xml',
        };
        for (const file of [...FILES, ...OPEN_FILES, 'index.html']) {
            const answer = await ask(`/dashboard/${file}`);
            assert.equal(answer.status, 200, file);
            assert.equal(answer.headers['content-type'], types[file.split('.').pop()]);
            assert.doesNotMatch(
                answer.text
                    .replaceAll('http://www.w3.org/2000/svg', '')
                    .replaceAll('https://your.host', ''),
                /https?:\/\//,
                `${file} calls nobody`,
            );
            if (file.endsWith('.js'))
                assert.doesNotMatch(
                    answer.text,
                    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/,
                    file,
                );
            if (file.endsWith('.html'))
                assert.doesNotMatch(
                    answer.text,
                    /<script>|\son\w+=|style=|<style/,
                    `${file} has nothing inline`,
                );
        }
        assert.match((await ask('/')).text, /<title>authkitd<\/title>/);
    });

    test('each with the methods that it has', async (t) => {
        const ask = asker(t, server);
        const reading = [
            '/',
            '/dashboard/style.css',
            '/readyz',
            '/metrics',
            ...READ.filter((path) => !path.endsWith('_1')),
        ];
        for (const path of reading) {
            assert.equal((await ask(path)).status, 200, path);
            const head = await ask(path, {}, 'HEAD');
            assert.equal(head.status, 200, path);
            assert.equal(head.text, '');
            for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
                const answer = await ask(
                    path,
                    POST,
                    method,
                    method === 'OPTIONS' ? undefined : '{}',
                );
                assert.equal(answer.status, 405, `${method} ${path}`);
                assert.equal(answer.headers.allow, 'GET, HEAD');
            }
        }
        for (const path of [
            '/reload',
            '/retry',
            '/reconcile',
            '/backfill/stop',
            '/sign-in',
            '/sign-out',
        ]) {
            for (const method of ['GET', 'HEAD', 'PUT', 'DELETE']) {
                const answer = await ask(path, POST, method, method === 'PUT' ? '{}' : undefined);
                assert.equal(answer.status, 405, `${method} ${path}`);
                assert.equal(answer.headers.allow, 'POST');
            }
            assert.equal(
                (await ask(path, {}, 'POST', '{}')).status,
                403,
                `${path} without our header`,
            );
        }
    });
});

describe('the admin listener is asked', () => {
    test('by pages of its own only', async (t) => {
        const server = await startServer(t);
        const ask = asker(t, server);
        const { host, port } = new URL(server.adminUrl);
        const statuses = {};
        for (const [name, headers] of Object.entries({
            own: { Host: host, Origin: `http://${host}` },
            localhost: { Host: `localhost:${port}`, Origin: `http://localhost:${port}` },
            tunnel: { Host: 'localhost:8000', Origin: 'http://localhost:8000' },
            v6: { Host: `[::1]:${port}` },
            'no origin': { Host: host },
            rebound: { Host: `evil.example:${port}` },
            'rebound, with its origin': {
                Host: `evil.example:${port}`,
                Origin: `http://evil.example:${port}`,
            },
            'another address': { Host: `10.0.0.5:${port}` },
            'a page elsewhere': { Host: host, Origin: 'http://evil.example' },
            'a page on another port': { Host: host, Origin: 'http://127.0.0.1:3000' },
            'a sandboxed page': { Host: host, Origin: 'null' },
            'a script tag elsewhere': {
                Host: host,
                'Sec-Fetch-Site': 'cross-site',
                'Sec-Fetch-Mode': 'no-cors',
                'Sec-Fetch-Dest': 'script',
            },
            'an app on another port': {
                Host: host,
                'Sec-Fetch-Site': 'same-site',
                'Sec-Fetch-Mode': 'no-cors',
                'Sec-Fetch-Dest': 'image',
            },
        })) {
            const all = [];
            for (const [method, path] of [
                ['GET', '/'],
                ['GET', '/metrics'],
                ['GET', '/api/users'],
                ['POST', '/reload'],
                ['GET', '/nothing'],
            ])
                all.push((await ask(path, { ...headers, ...POST }, method)).status);
            statuses[name] = all.join(' ');
            assert.equal((await ask('/healthz', headers)).status, 200, 'for anybody');
        }
        const good = '200 200 200 200 404';
        const bad = '403 403 403 403 403';
        assert.deepEqual(statuses, {
            own: good,
            localhost: good,
            tunnel: good,
            v6: good,
            'no origin': good,
            rebound: bad,
            'rebound, with its origin': bad,
            'another address': bad,
            'a page elsewhere': bad,
            'a page on another port': bad,
            'a sandboxed page': bad,
            'a script tag elsewhere': bad,
            'an app on another port': bad,
        });
        const link = {
            Host: host,
            'Sec-Fetch-Site': 'cross-site',
            'Sec-Fetch-Mode': 'navigate',
            'Sec-Fetch-Dest': 'document',
        };
        assert.equal((await ask('/', link)).status, 200, 'a link may lead here');
        assert.match(
            (await ask('/metrics', { Host: 'evil.example' })).json().error.message,
            /ssh -L/,
        );
    });

    test('with the token, when there is one', async (t) => {
        const server = await startServer(t, { env: { AUTHKITD_ADMIN_TOKEN: TOKEN } });
        const ask = asker(t, server);
        const bearer = { Authorization: `Bearer ${TOKEN}` };
        const places = [
            ...[
                '/metrics',
                '/readyz',
                '/backfill',
                '/nothing',
                '/dashboard/main.js',
                '/dashboard/index.html',
                '/dashboard/none',
                '/api/secrets',
                ...READ,
            ].map((path) => ['GET', path]),
            ...['/reload', '/retry', '/reconcile', '/backfill', '/backfill/stop'].map((path) => [
                'POST',
                path,
            ]),
        ];
        for (const [method, path] of places) {
            const without = await ask(path, POST, method, method === 'POST' ? '{}' : undefined);
            assert.equal(without.status, 401, `${method} ${path}`);
            assert.equal(without.headers['www-authenticate'], 'Bearer realm="authkitd"');
            assert.match(without.json().error.message, /AUTHKITD_ADMIN_TOKEN/);
            const given = await ask(
                path,
                { ...POST, ...bearer },
                method,
                method === 'POST' ? '{}' : undefined,
            );
            assert.notEqual(given.status, 401, `${method} ${path}`);
        }
        assert.equal((await ask('/healthz')).status, 200);
        const page = await ask('/');
        assert.equal(page.status, 401);
        assert.match(page.text, /Admin token/);
        assert.match((await ask('/', bearer)).text, /<nav/);
        for (const file of OPEN_FILES)
            assert.equal((await ask(`/dashboard/${file}`)).status, 200, file);
        assert.equal(
            (await ask('/metrics', { ...bearer, Host: 'evil.example' })).status,
            403,
            'the token isn’t all',
        );
        assert.equal(
            (await ask('/metrics', { ...bearer, Origin: 'http://evil.example' })).status,
            403,
        );
    });

    test('with a cookie, by who has signed in', async (t) => {
        const server = await startServer(t, { env: { AUTHKITD_ADMIN_TOKEN: TOKEN } });
        const ask = asker(t, server);
        const { host, port } = new URL(server.adminUrl);

        assert.equal((await ask.post('/sign-in', { token: 'not it' })).status, 401);
        assert.equal((await ask.post('/sign-in', {})).status, 400);
        assert.equal(
            (await ask('/sign-in', {}, 'POST', JSON.stringify({ token: TOKEN }))).status,
            403,
            'our header',
        );
        assert.equal(
            (await ask.post('/sign-in', { token: TOKEN }, { Origin: 'http://evil.example' }))
                .status,
            403,
        );
        const answer = await ask.post('/sign-in', { token: TOKEN }, { Origin: `http://${host}` });
        assert.equal(answer.status, 204);
        const [set] = answer.headers['set-cookie'];
        assert.match(
            set,
            new RegExp(
                `^authkitd_${port}=[0-9a-f]{64}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200$`,
            ),
        );
        const cookie = { Cookie: set.split(';')[0] };

        assert.match((await ask('/', cookie)).text, /<nav/);
        assert.equal((await ask('/api/users', cookie)).status, 200);
        assert.equal((await ask('/reload', { ...cookie, ...POST }, 'POST')).status, 200);
        assert.equal((await ask('/reload', cookie, 'POST')).status, 403, 'our header');
        assert.equal(
            (await ask('/reload', { ...cookie, ...POST, Origin: 'http://evil.example' }, 'POST'))
                .status,
            403,
        );
        assert.equal(
            (await ask('/api/users', { ...cookie, Host: `localhost:${port}` })).status,
            200,
        );
        assert.equal(
            (await ask('/api/users', { ...cookie, Host: 'localhost:8000' })).status,
            401,
            'another port’s',
        );

        const out = await ask('/sign-out', { ...cookie, ...POST }, 'POST');
        assert.equal(out.status, 204);
        assert.match(out.headers['set-cookie'][0], /=; .*Max-Age=0$/);
        assert.equal((await ask('/api/users', cookie)).status, 401, 'it has ended here, too');

        const again = await ask.post('/sign-in', { token: TOKEN });
        const kept = { Cookie: again.headers['set-cookie'][0].split(';')[0] };
        await server.restart();
        const later = asker(t, server);
        assert.equal(
            (await later('/api/users', { ...kept, Host: host })).status,
            401,
            'a restart ends all',
        );
    });

    test('but not by who guesses', async (t) => {
        const server = await startServer(t, { env: { AUTHKITD_ADMIN_TOKEN: TOKEN } });
        const ask = asker(t, server);
        const cookie = {
            Cookie: (await ask.post('/sign-in', { token: TOKEN })).headers['set-cookie'][0].split(
                ';',
            )[0],
        };
        const statuses = [];
        for (let i = 0; i < 6; i++) {
            statuses.push((await ask('/metrics', { Authorization: `Bearer guess-${i}` })).status);
            statuses.push((await ask.post('/sign-in', { token: `guess-${i}` })).status);
        }
        assert.deepEqual(statuses, [...Array(10).fill(401), 429, 429]);
        const right = await ask('/metrics', { Authorization: `Bearer ${TOKEN}` });
        assert.equal(right.status, 429);
        assert.equal(right.headers['retry-after'], '60');
        assert.equal((await ask('/metrics', cookie)).status, 200, 'who is in stays in');
        await server.waitForLog('too many wrong admin tokens');
    });

    test('by authkitd’s own commands, which have the token from their environment', async (t) => {
        const server = await startServer(t, { env: { AUTHKITD_ADMIN_TOKEN: TOKEN } });
        const env = { AUTHKITD_DB: server.database };
        const good = await runCommand(['reload'], { env: { ...env, AUTHKITD_ADMIN_TOKEN: TOKEN } });
        assert.equal(good.code, 0, good.output);
        writeFile(`${server.folder}/token`, `${TOKEN}\n`);
        const filed = await runCommand(['retry', '--all'], {
            env: { ...env, AUTHKITD_ADMIN_TOKEN_FILE: `${server.folder}/token` },
        });
        assert.equal(filed.code, 0, filed.output);
        for (const args of [['reload'], ['retry', '--all'], ['reconcile'], ['backfill', '--yes']]) {
            const without = await runCommand(args, { env: { ...env, WORKOS_API_KEY: 'sk_x' } });
            assert.equal(without.code, 1, without.output);
            assert.match(without.output, /set AUTHKITD_ADMIN_TOKEN/, args[0]);
            const wrong = await runCommand(args, {
                env: { ...env, WORKOS_API_KEY: 'sk_x', AUTHKITD_ADMIN_TOKEN: `${TOKEN}x` },
            });
            assert.equal(wrong.code, 1, wrong.output);
            assert.match(wrong.output, /the admin token is wrong/, args[0]);
            assert.doesNotMatch(wrong.output, /nobody-can-guess/);
        }
    });

    test('on loopback alone, unless it has a token', async (t) => {
        const { WORKOS_WEBHOOK_SECRET } = { WORKOS_WEBHOOK_SECRET: WEBHOOK_SECRET };
        for (const command of ['serve', 'check']) {
            const refused = await runCommand(
                [command, '--admin-listen', '0.0.0.0:0', '--listen', '127.0.0.1:0'],
                { env: { WORKOS_WEBHOOK_SECRET } },
            );
            assert.equal(refused.code, 2, refused.output);
            assert.match(
                refused.output,
                /--admin-listen: '0\.0\.0\.0:0' may be reached from other machines.*set AUTHKITD_ADMIN_TOKEN/,
            );
        }
        const weak = await runCommand(['serve'], {
            env: { WORKOS_WEBHOOK_SECRET, AUTHKITD_ADMIN_TOKEN: 'hunter2' },
        });
        assert.equal(weak.code, 2);
        assert.match(weak.output, /AUTHKITD_ADMIN_TOKEN won't do/);
        assert.doesNotMatch(weak.output, /hunter2/);

        const server = await startServer(t, {
            args: ['--admin-listen', '0.0.0.0:0'],
            env: { AUTHKITD_ADMIN_TOKEN: TOKEN },
        });
        const port = Number(new URL(server.adminUrl).port);
        server.adminUrl = `http://127.0.0.1:${port}`;
        const ask = asker(t, server);
        const bearer = { Authorization: `Bearer ${TOKEN}` };
        assert.equal(
            (await ask('/metrics', { ...bearer, Host: `203.0.113.7:${port}` })).status,
            200,
        );
        assert.equal(
            (await ask('/metrics', { ...bearer, Host: `evil.example:${port}` })).status,
            403,
        );
        assert.equal((await ask('/metrics', { Host: `203.0.113.7:${port}` })).status, 401);
        const reloaded = await runCommand(['reload'], {
            env: { AUTHKITD_DB: server.database, AUTHKITD_ADMIN_TOKEN: TOKEN },
        });
        assert.equal(reloaded.code, 0, reloaded.output);
    });
});

test('no answer has a secret in it, nor has the log', async (t) => {
    const secrets = {
        WORKOS_WEBHOOK_SECRET: WEBHOOK_SECRET,
        WORKOS_ACTION_SECRET: ACTION_SECRET,
        WORKOS_API_KEY: 'sk_test_a_key_that_stays_here',
        AUTHKITD_ADMIN_TOKEN: TOKEN,
    };
    const server = await startServer(t, {
        handlers: HANDLERS,
        args: ['--poll', 'off', '--log-level', 'debug'],
        env: {
            ...secrets,
            WORKOS_CLIENT_ID: 'client_x',
            AUTHKITD_JWKS_URL: 'http://127.0.0.1:1/jwks?key=behind-the-question-mark',
        },
    });
    const ask = asker(t, server);
    const event = userCreated({ email: 'fail@example.com' });
    await server.deliver(event);
    const bearer = { Authorization: `Bearer ${TOKEN}` };
    const cookie = (await ask.post('/sign-in', { token: TOKEN })).headers['set-cookie'][0].split(
        ';',
    )[0];
    const paths = [
        '/',
        '/metrics',
        '/readyz',
        '/healthz',
        '/backfill',
        `/api/users/${event.data.id}`,
        `/api/events/${event.id}`,
        ...READ,
        ...[...FILES, ...OPEN_FILES, 'index.html'].map((file) => `/dashboard/${file}`),
    ];
    let all = '';
    for (const path of paths)
        for (const headers of [{}, bearer, { Cookie: cookie }]) {
            const answer = await ask(path, headers);
            all += answer.text + JSON.stringify(answer.headers);
        }
    for (const path of ['/reload', '/retry', '/reconcile', '/sign-in', '/sign-out'])
        for (const headers of [{}, bearer]) {
            const answer = await ask(
                path,
                { ...POST, ...headers },
                'POST',
                JSON.stringify({ all: true }),
            );
            all += answer.text;
        }
    all += server.lines.map(({ text }) => text).join('\n');
    for (const secret of [
        ...Object.values(secrets),
        'behind-the-question-mark',
        cookie.split('=')[1],
    ])
        assert.ok(!all.includes(secret), secret);
    assert.ok(all.includes('WORKOS_API_KEY'));
});

test('many who look at the same time, while events come', async (t) => {
    const server = await startServer(t, { handlers: HANDLERS });
    const ask = asker(t, server);
    let isOver = false;
    const looking = Array.from({ length: 6 }, async (_, i) => {
        for (let n = 0; !isOver; n++) {
            const path = [
                '/api/overview',
                '/api/events',
                '/api/users',
                '/api/script',
                '/metrics',
                '/api/events?status=failed',
            ][(i + n) % 6];
            assert.equal((await ask(path)).status, 200);
        }
    });
    for (let i = 0; i < 100; i++) await server.deliver(userCreated());
    for (let i = 0; i < 3; i++) assert.equal((await server.reload(HANDLERS)).outcome, 'loaded');
    isOver = true;
    await Promise.all(looking);
    assert.equal((await ask.json('/api/overview')).events.last_seq, 100);
    assert.equal((await ask.json('/api/users?limit=200')).users.length, 100);
});
