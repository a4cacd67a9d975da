// SPDX-License-Identifier: MIT
// What WorkOS sends and doesn't get taken leaves a line in the log, though strangers can't fill it.

import assert from 'node:assert/strict';

import { describe, sleep, test, until } from './lib/harness.js';
import { scrape } from './lib/prometheus.js';
import { sharedServer, startServer } from './lib/server.js';
import { authenticationAction, newId, registrationAction, userCreated } from './lib/workos.js';

const HANDLERS = `
    local authkit = require "authkit"
    authkit.actions { user_registration = function(ctx, action, response) return response.allow() end }
    authkit.routes { ["GET /gone"] = function() return 404, { gone = true } end }`;

const NO_FUNCTION = 'action refused: the script has no function for it';
const NO_ACTION = 'action refused: it is signed, but no action';
const NO_EVENT = 'webhook refused: it is signed, but no event';
const UNREAD = 'refused, before its signature was looked at';
const STRAY = 'refused: a WorkOS-Signature came to a path where there is no endpoint';

describe('signed, and of no use', () => {
    const server = sharedServer({ handlers: HANDLERS });

    // Symptom: an authentication action was set up at WorkOS, the script had none: 404, and no trace.
    test('an action without a function: which, and what to do; and it is counted', async () => {
        assert.equal((await server.act(authenticationAction())).status, 404);
        const line = await server.waitForLog(NO_FUNCTION, '"authentication"');
        assert.equal(line.level, 'warn');
        assert.equal(line.endpoint, 'action');
        assert.equal(line.code, 'no_function');
        assert.match(line.next, /authkit\.actions/);
        const labels = { action: 'authentication', verdict: 'no_function' };
        assert.equal((await scrape(server)).value('authkitd_actions_total', labels), 1);
    });

    test('an action that is none', async () => {
        assert.equal((await server.act({ object: 'user', id: newId('user') })).status, 400);
        const line = await server.waitForLog(NO_ACTION);
        assert.equal(line.code, 'invalid_action');
        assert.match(line.error, /"object" doesn't end in/);
    });

    test('a webhook that is no event', async () => {
        assert.equal((await server.post('{"id":1}')).status, 400);
        const line = await server.waitForLog(NO_EVENT);
        assert.equal(line.code, 'invalid_event');
        assert.equal(line.endpoint, 'webhook');
        assert.match(line.error, /./);
    });
});

describe('refused unread', () => {
    const server = sharedServer({ handlers: HANDLERS, args: ['--max-body', '4096'] });
    const refusals = (endpoint, status) =>
        server.log(UNREAD).filter((l) => l.endpoint === endpoint && l.status === status);
    const expectLine = async (endpoint, status, code) => {
        const [line] = await until('a line', () => {
            const lines = refusals(endpoint, status);
            return lines.length > 0 && lines;
        });
        assert.equal(line.level, 'warn');
        assert.equal(line.code, code);
        assert.match(line.error, /./);
        return line;
    };
    const raw = async (head, body = '') => {
        const connection = await server.openRaw();
        connection.send(`${head}\r\nHost: x\r\n\r\n${body}`);
    };

    for (const endpoint of ['webhook', 'action']) {
        const path = `/workos/${endpoint}`;

        test(`${endpoint}: too large a body`, async () => {
            assert.equal((await server.post('x'.repeat(5000), { path })).status, 413);
            assert.match((await expectLine(endpoint, 413, 'body_too_large')).next, /--max-body/);
        });

        test(`${endpoint}: chunked`, async () => {
            await raw(`POST ${path} HTTP/1.1\r\nTransfer-Encoding: chunked`, '0\r\n\r\n');
            await expectLine(endpoint, 411, 'length_required');
        });

        test(`${endpoint}: too many headers, or too large ones`, async () => {
            await raw(`POST ${path}?x HTTP/1.1${'\r\nX: y'.repeat(70)}\r\nContent-Length: 0`);
            await expectLine(endpoint, 431, 'headers_too_large');
            await sleep(1100);
            await raw(`POST ${path} HTTP/1.1\r\nX: ${'y'.repeat(20_000)}\r\nContent-Length: 0`);
            await until('a second line', () => refusals(endpoint, 431).length === 2);
        });

        test(`${endpoint}: two signatures`, async () => {
            await raw(
                `POST ${path} HTTP/1.1\r\nWorkOS-Signature: a\r\nWorkOS-Signature: b\r\nContent-Length: 0`,
            );
            await expectLine(endpoint, 400, 'signature_repeated');
        });

        test(`${endpoint}: a GET`, async () => {
            assert.equal((await server.client.request('GET', path)).status, 405);
            await expectLine(endpoint, 405, 'method_not_allowed');
        });

        test(`${endpoint}: to a path that is almost right`, async () => {
            const before = server.log(STRAY).length;
            await sleep(1100); // of the other endpoint's line
            assert.equal((await server.post(userCreated(), { path: `${path}/` })).status, 404);
            await until('a line', () => server.log(STRAY).length > before);
            const line = server.log(STRAY).at(-1);
            assert.equal(line.path, `${path}/`);
            assert.equal(line[endpoint], path);
        });
    }

    test('what is nobody’s, and unsigned, is not worth a line; nor what a route answers', async () => {
        const lines = server.lines.length;
        for (const path of ['/workos/webhook/', '/wp-login.php', '/gone'])
            assert.equal((await server.client.request('GET', path)).status, 404);
        await sleep(100);
        assert.equal(server.lines.length, lines);
    });
});

describe('strangers', () => {
    test('can neither flood the log, nor hide what is signed', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS, args: ['--max-body', '4096'] });
        const began = Date.now();

        for (let i = 0; i < 300; i++) {
            await server.client.request('GET', '/workos/action');
            await server.post('{}', { secret: 'wrong' });
            await server.post('{}', { path: '/workos/webhook/' });
            if (i === 150) await server.act(authenticationAction());
            if (i === 150) await server.post('{"id":1}');
        }
        const seconds = Math.ceil((Date.now() - began) / 1000) + 1;
        for (const message of [UNREAD, STRAY])
            assert.ok(server.log(message).length <= seconds, `${server.log(message).length} lines`);
        assert.equal(server.log(NO_FUNCTION).length, 1);
        assert.equal(server.log(NO_EVENT).length, 1);
    });

    test('the signed ones that repeat themselves are counted', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });

        for (let i = 0; i < 40; i++) await server.act(authenticationAction());
        assert.equal((await server.act(registrationAction())).status, 200);
        assert.equal(server.log(NO_FUNCTION).length, 5);
    });
});
