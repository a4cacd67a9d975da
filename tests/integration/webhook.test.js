// SPDX-License-Identifier: MIT
// POST /workos/webhook: what is accepted, what is refused and how, and what is kept of it.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';

import { describe, inParallel, test } from './lib/harness.js';
import { sharedServer, startServer } from './lib/server.js';
import {
    ACTION_SECRET,
    WEBHOOK_SECRET,
    newEvent,
    newId,
    newUser,
    registrationAction,
    sdk,
    sessionCreated,
    signature,
    userCreated,
} from './lib/workos.js';

const hmac = (secret, bytes) => createHmac('sha256', secret).update(bytes).digest('hex');

/** An error has one form, and says nothing that helps a forger. */
function assertError(answer, status) {
    assert.equal(answer.status, status, answer.text);
    assert.match(answer.headers['content-type'], /^application\/json/);
    const { error, ...rest } = answer.json();
    assert.deepEqual(rest, {});
    assert.match(error.code, /^[a-z_]+$/);
    assert.equal(typeof error.message, 'string');
    assert.ok(!answer.text.includes(WEBHOOK_SECRET));
    assert.doesNotMatch(answer.text, /[0-9a-f]{32}/, 'it shows a digest');
}

const stored = (server, event) =>
    server.row('SELECT count(*) FROM workos_events WHERE id = ?', event.id);

describe('a webhook signed by the SDK', () => {
    const server = sharedServer();

    test('is answered 200 {"received":true}, as JSON', async () => {
        const answer = await server.post(userCreated());
        assert.equal(answer.status, 200);
        assert.equal(answer.text, '{"received":true}');
        assert.match(answer.headers['content-type'], /^application\/json/);
    });

    test("is there when the answer is: event, user and the script's row", async () => {
        const event = userCreated();
        await server.deliver(event);
        assert.equal(server.eventRow(event).status, 'done');
        assert.equal(server.userRow(event.data).email, event.data.email);
        assert.equal(
            server.row('SELECT name FROM todo_lists WHERE user_id = ?', event.data.id),
            "Ada's Todo List",
        );
    });

    test('leaves the columns of workos_events', async () => {
        const event = userCreated();
        await server.deliver(event);
        const row = server.eventRow(event);
        assert.equal(row.event, 'user.created');
        assert.equal(row.object_id, event.data.id);
        assert.equal(row.user_id, event.data.id);
        assert.equal(row.created_at, event.created_at);
        assert.equal(row.last_error, null);
        assert.ok(row.received_at !== null);
        assert.equal(row.attempts, 1);
    });

    test('of another object names the user whom it is about', async () => {
        const event = sessionCreated();
        await server.deliver(event);
        const row = server.eventRow(event);
        assert.equal(row.object_id, event.data.id);
        assert.equal(row.user_id, event.data.user_id);
    });

    test('is answered 200 again when it comes again, and runs nothing', async () => {
        const event = userCreated();
        for (let i = 0; i < 3; i++) await server.deliver(event);
        assert.equal(stored(server, event), 1);
        assert.equal(
            server.row('SELECT count(*) FROM todo_lists WHERE user_id = ?', event.data.id),
            1,
        );
    });

    test('that repeats an id with other content is a duplicate too: the first one stays', async () => {
        const event = userCreated({ first_name: 'First' });
        const other = { ...userCreated({ first_name: 'Second' }), id: event.id };
        await server.deliver(event);
        await server.deliver(other);
        assert.equal(server.userRow(event.data).first_name, 'First');
        assert.equal(server.userRow(other.data), undefined);
    });

    test('of a type that nobody has heard of is accepted and kept', async () => {
        for (const type of [
            'vault.byok_key.deleted',
            'flag.rule_updated',
            'some.day.in_the_future',
            'x',
        ]) {
            const event = newEvent(type, { object: 'thing', id: newId('thing') });
            await server.deliver(event);
            assert.equal(server.eventRow(event).event, type);
            assert.equal(server.eventRow(event).status, 'done');
        }
    });

    test('without a context (the emulator sends none) or with unknown members is accepted', async () => {
        const { context, ...bare } = userCreated();
        await server.deliver(bare);
        await server.deliver({
            object: 'event',
            ...userCreated(),
            environment_id: 'env_1',
            extra: { deep: [1, { a: null }] },
        });
    });

    test('may have a query string on its path', async () => {
        await server.deliver(userCreated(), { path: '/workos/webhook?source=workos&x=%20' });
    });

    test('may have any content type and odd header case', async () => {
        const body = JSON.stringify(userCreated());
        const answer = await server.client.request('POST', '/workos/webhook', {
            body,
            headers: { 'Content-Type': 'text/plain', 'wORKOS-sIGNATURE': await signature(body) },
        });
        assert.equal(answer.status, 200);
    });
});

describe('the signature', () => {
    const server = sharedServer();

    async function send(header, event = userCreated(), body = JSON.stringify(event)) {
        const answer = await server.client.request('POST', '/workos/webhook', {
            body,
            headers: header === undefined ? {} : { 'WorkOS-Signature': header },
        });
        return { answer, event };
    }

    for (const [what, seconds, status] of [
        ['fresh', 0, 200],
        ['175 s old', -175, 200],
        ['185 s old', -185, 401],
        ['an hour old', -3600, 401],
        ['175 s ahead', 175, 200],
        ['190 s ahead', 190, 401],
        ['a day ahead', 86400, 401],
    ]) {
        test(`with a time in milliseconds, ${what}: ${status}`, async () => {
            assert.equal(
                (await server.post(userCreated(), { time: Date.now() + seconds * 1000 })).status,
                status,
            );
        });
        test(`with a time in seconds (as the emulator sends), ${what}: ${status}`, async () => {
            assert.equal(
                (
                    await server.post(userCreated(), {
                        time: Math.floor(Date.now() / 1000) + seconds,
                    })
                ).status,
                status,
            );
        });
    }

    test('outside the tolerance leaves nothing', async () => {
        const event = userCreated();
        assertError(await server.post(event, { time: Date.now() - 200_000 }), 401);
        assert.equal(stored(server, event), 0);
    });

    test('may do without the space behind the comma', async () => {
        const event = userCreated();
        const { answer } = await send(
            (await signature(JSON.stringify(event))).replace(', ', ','),
            event,
        );
        assert.equal(answer.status, 200);
    });

    test('is over the time exactly as it was sent', async () => {
        const event = userCreated();
        const body = JSON.stringify(event);
        const time = Date.now();
        const { answer } = await send(
            `t=0${time}, v1=${hmac(WEBHOOK_SECRET, `${time}.${body}`)}`,
            event,
        );
        assert.equal(answer.status, 401);
    });

    test('that is missing: 401', async () => {
        const { answer, event } = await send(undefined);
        assertError(answer, 401);
        assert.equal(stored(server, event), 0);
    });

    const t = Date.now();
    const digest = 'a'.repeat(64);
    for (const header of [
        '',
        ' ',
        ',',
        '=',
        't',
        'garbage',
        't=,v1=',
        `t=${t}`,
        `t=${t},`,
        `t=${t}, v1=`,
        `v1=${digest}`,
        `t=${t}, v1=${digest}`,
        `t=${t}, v1=${digest.slice(1)}`,
        `t=${t}, v1=${digest}a`,
        `t=${t}, v1=${'g'.repeat(64)}`,
        `t=${t}, v0=${digest}`,
        `t=-${t}, v1=${digest}`,
        `t=+${t}, v1=${digest}`,
        `t=1e12, v1=${digest}`,
        `t=0x18, v1=${digest}`,
        `t=, v1=${digest}`,
        `t=99999999999999999999, v1=${digest}`,
        `t=9223372036854775807, v1=${digest}`,
        `t=9223372036854775808, v1=${digest}`,
        `t=0, v1=${digest}`,
        `t=${t}; v1=${digest}`,
        `t=${t} v1=${digest}`,
        `t=${t}, t=${t}`,
        `,t=${t},v1=${digest}`,
        `t=${t}, v1=${'é'.repeat(32)}`,
        `t=${t}, v1=${digest}, v1=${digest}`,
        'x'.repeat(4000),
        '=,'.repeat(1000),
    ]) {
        test(`that is malformed or wrong, "${header.slice(0, 90)}": 401`, async () => {
            const { answer, event } = await send(Buffer.from(header).toString('latin1'));
            assertError(answer, 401);
            assert.equal(stored(server, event), 0);
        });
    }

    // Times that are no plain digits, but correctly signed: the number must not be guessed.
    for (const time of [`+${t}`, ` ${t}`, `${t}.0`, `${t}x`, `1e12`, `-${t}`]) {
        test(`with a right digest but the time "${time}": 401`, async () => {
            const event = userCreated();
            const { answer } = await send(
                `t=${time}, v1=${hmac(WEBHOOK_SECRET, `${time}.${JSON.stringify(event)}`)}`,
                event,
            );
            assert.equal(answer.status, 401, answer.text);
            assert.equal(stored(server, event), 0);
        });
    }

    test('of another secret, of another body, of an action: 401', async () => {
        const event = userCreated();
        assertError(await server.post(event, { secret: 'whsec_wrong' }), 401);
        assertError(await server.post(event, { secret: WEBHOOK_SECRET + ' ' }), 401);
        assertError(await server.post(event, { secret: ACTION_SECRET }), 401);
        assertError(
            (await send(await signature(JSON.stringify(userCreated())), event)).answer,
            401,
        );
        assert.equal(stored(server, event), 0);
    });

    test('is over the raw bytes: one more space in the body, 401', async () => {
        const event = userCreated();
        const body = JSON.stringify(event);
        const { answer } = await send(await signature(body), event, body + ' ');
        assert.equal(answer.status, 401);
    });

    test('in two headers is refused, whichever is right', async () => {
        const event = userCreated();
        const right = await signature(JSON.stringify(event));
        const wrong = `t=${t}, v1=${digest}`;
        for (const headers of [
            [right, wrong],
            [wrong, right],
            [right, right],
        ]) {
            const { answer } = await send(headers, event);
            assert.ok([400, 401].includes(answer.status), `${answer.status}`);
        }
        assert.equal(stored(server, event), 0);
    });

    test('is checked before anything else is looked at: unsigned nonsense is 401, not 400', async () => {
        assertError((await send(`t=${t}, v1=${digest}`, {}, 'not JSON at all')).answer, 401);
        assertError((await send(undefined, {}, 'not JSON at all')).answer, 401);
    });

    test('in upper-case hex or with its parts swapped never makes it stumble', async () => {
        for (const change of [
            (header) => header.replace(/v1=.*/, (x) => `v1=${x.slice(3).toUpperCase()}`),
            (header) => header.split(', ').reverse().join(', '),
        ]) {
            const event = userCreated();
            const { answer } = await send(change(await signature(JSON.stringify(event))), event);
            assert.ok([200, 401].includes(answer.status), `${answer.status}`);
            assert.equal(stored(server, event), answer.status === 200 ? 1 : 0);
        }
    });

    test('that the SDK verifies is what the SDK computes: the vectors of WorkOS', async () => {
        // workos-node: src/common/crypto/crypto-provider.ts
        assert.equal(
            hmac('test_secret', ''),
            'f7f9bd47fb987337b5796fdc1fdb9ba221d0d5396814bfcaf9521f43fd8927fd',
        );
        const body = JSON.stringify(userCreated());
        assert.equal(
            await sdk.webhooks.computeSignature('1755000000123', body, WEBHOOK_SECRET),
            hmac(WEBHOOK_SECRET, `1755000000123.${body}`),
        );
    });
});

describe('rotating the secret', () => {
    const server = sharedServer({ env: { WORKOS_WEBHOOK_SECRET: 'whsec_old, whsec_new' } });

    test('each secret of a comma-separated list is accepted, nothing else', async () => {
        assert.equal((await server.post(userCreated(), { secret: 'whsec_old' })).status, 200);
        assert.equal((await server.post(userCreated(), { secret: 'whsec_new' })).status, 200);
        for (const secret of [
            'whsec_older',
            'whsec_old,whsec_new',
            'whsec_old, whsec_new',
            ' whsec_new',
            '',
        ])
            assert.equal(
                (await server.post(userCreated(), { secret: secret || ' ' })).status,
                401,
                secret,
            );
    });
});

describe('a signed body that is not an event', () => {
    const server = sharedServer();
    const event = userCreated();
    const without = (name) => {
        const { [name]: _, ...rest } = userCreated();
        return rest;
    };

    for (const [what, body] of [
        ['not JSON', 'hello'],
        ['empty', ''],
        ['half of one', JSON.stringify(event).slice(0, -20)],
        ['one with something behind it', JSON.stringify(event) + '{}'],
        ['one with a comma too many', JSON.stringify(event).replace(/}$/, ',}')],
        ['JSON with comments', '/* hi */' + JSON.stringify(event)],
        ['single quotes', JSON.stringify(event).replaceAll('"', "'")],
        ['NaN in it', JSON.stringify(event).replace('"object":"user"', '"object":NaN')],
        ['a raw line break in a string', JSON.stringify(event).replace('Lovelace', 'Love\nlace')],
        ['a bad escape', JSON.stringify(event).replace('Lovelace', 'Love\\xlace')],
        ['a NUL behind it', JSON.stringify(event) + '\0'],
        ['an array', JSON.stringify([event])],
        ['a string', '"event"'],
        ['a number', '1'],
        ['null', 'null'],
        ['one without id', without('id')],
        ['one without event', without('event')],
        ['one without data', without('data')],
        ['one whose id is a number', { ...userCreated(), id: 5 }],
        ['one whose id is null', { ...userCreated(), id: null }],
        ['one whose id is empty', { ...userCreated(), id: '' }],
        ['one whose id is an object', { ...userCreated(), id: {} }],
        ['one whose event is a number', { ...userCreated(), event: 5 }],
        ['one whose event is null', { ...userCreated(), event: null }],
        ['one whose event is empty', { ...userCreated(), event: '' }],
        ['one whose data is null', { ...userCreated(), data: null }],
        ['one whose data is a string', { ...userCreated(), data: 'user' }],
        ['one whose data is an array', { ...userCreated(), data: [newUser()] }],
        ['one whose data is true', { ...userCreated(), data: true }],
    ]) {
        test(`${what}: 400, and nothing is stored`, async () => {
            const before = server.count('workos_events');
            assertError(await server.post(body), 400);
            assert.equal(server.count('workos_events'), before);
            assert.equal(server.count('workos_users'), 0);
        });
    }

    test('invalid UTF-8: 400', async () => {
        const body = Buffer.from(
            JSON.stringify(userCreated()).replace('Lovelace', 'Love\xfflace'),
            'latin1',
        );
        const time = Date.now();
        const answer = await server.client.request('POST', '/workos/webhook', {
            body,
            headers: {
                'WorkOS-Signature': `t=${time}, v1=${hmac(WEBHOOK_SECRET, Buffer.concat([Buffer.from(`${time}.`), body]))}`,
            },
        });
        assertError(answer, 400);
    });

    test('nested a hundred thousand levels deep: refused, and the server lives', async () => {
        const body = `{"id":"event_deep","event":"x","data":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
        assertError(await server.post(body), 400);
        assertError(
            await server.post(
                `{"id":"event_deep","event":"x","data":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`,
            ),
            400,
        );
        await server.deliver(newEvent('x', { id: 'fine' }));
    });

    test('a user event without an id or with odd types in its data is never a server error', async () => {
        const odd = [
            {},
            { id: null },
            { id: 5 },
            { id: '' },
            { id: newId('user'), email: 5 },
            { id: newId('user'), email: { a: 1 } },
            { ...newUser(), updated_at: 'yesterday' },
            { ...newUser(), updated_at: 5 },
            { ...newUser(), metadata: 'none' },
            { ...newUser(), metadata: null },
            { ...newUser(), email_verified: 'yes' },
            { ...newUser(), email: null },
        ];
        for (const type of ['user.created', 'user.updated', 'user.deleted'])
            for (const data of odd) {
                const answer = await server.post(newEvent(type, data));
                assert.ok(
                    [200, 400].includes(answer.status),
                    `${type} ${JSON.stringify(data)}: ${answer.status} ${answer.text}`,
                );
            }
        await server.deliver(userCreated());
    });
});

describe('content', () => {
    const server = sharedServer({ args: ['--max-body', '200000'] });
    const payload = (event) =>
        Buffer.from(
            server.row(
                'SELECT CAST(payload AS BLOB) FROM workos_events WHERE id = ?',
                event.id ?? event,
            ),
        ).toString();

    for (const name of [
        'Zoë',
        '山田太郎',
        'مريم',
        '👩‍👩‍👧‍👦',
        '𝒜𝒹𝒶',
        'a\u2028b',
        '"quoted" \\ /',
        '\u202Eevil',
        '',
        ' ',
        '\t\n',
        '%s%n',
        "'; DROP TABLE workos_users; --",
    ]) {
        test(`a user named ${JSON.stringify(name)} keeps the name`, async () => {
            const event = userCreated({ first_name: name, name });
            await server.deliver(event);
            assert.equal(
                server.row('SELECT hex(first_name) FROM workos_users WHERE id = ?', event.data.id),
                Buffer.from(name).toString('hex').toUpperCase(),
            );
            assert.equal(payload(event), JSON.stringify(event));
        });
    }

    test('escapes mean what they say: \\u00eb, surrogate pairs, \\/', async () => {
        const event = userCreated({ first_name: 'PLACEHOLDER' });
        const body = JSON.stringify(event).replace('PLACEHOLDER', 'Zo\\u00eb \\ud83d\\ude00 \\/');
        await server.deliver(body);
        assert.equal(
            server.row('SELECT hex(first_name) FROM workos_users WHERE id = ?', event.data.id),
            Buffer.from('Zoë 😀 /').toString('hex').toUpperCase(),
        );
    });

    test("a NUL character, which SQL texts do not like, stops nothing: row, raw and the script's row are there", async () => {
        const event = userCreated({ first_name: 'a\u0000b' });
        await server.deliver(event);
        assert.equal(server.eventRow(event).last_error, null);
        assert.match(
            server.row('SELECT hex(first_name) FROM workos_users WHERE id = ?', event.data.id),
            /^61(00|EFBFBD)62$/,
        );
        assert.equal(JSON.parse(server.userRow(event.data).raw).first_name, 'a\u0000b');
        assert.equal(payload(event), JSON.stringify(event));
        assert.equal(
            server.row('SELECT count(*) FROM todo_lists WHERE user_id = ?', event.data.id),
            1,
        );
    });

    test('a lone surrogate escape, which JSON.parse takes, is taken', async () => {
        const event = userCreated({ first_name: 'PLACEHOLDER' });
        await server.deliver(JSON.stringify(event).replace('PLACEHOLDER', 'x\\ud83dy'));
        assert.match(server.userRow(event.data).first_name, /^x.+y$/u);
    });

    test('numbers of any kind are taken, and kept as they were written', async () => {
        const event = userCreated();
        const body = JSON.stringify(event).replace(
            '"object":"user"',
            '"object":"user","n":[12345678901234567890,1e400,-1e400,1.5,9007199254740993,-0,1E+2,0.1e-7]',
        );
        await server.deliver(body);
        assert.equal(payload(event), body);
        assert.match(
            server.userRow(event.data).raw,
            /\[12345678901234567890,1e400,-1e400,1\.5,9007199254740993,-0,1E\+2,0\.1e-7\]/,
        );
    });

    test('the bytes of the body are kept exactly: white space, escapes, key order, repeated keys', async () => {
        const event = userCreated();
        const body =
            '\r\n \t' +
            JSON.stringify(event, null, '\t')
                .replace('"Ada"', '"\\u0041d\\u0061"')
                .replace('https://', 'https:\\/\\/')
                .replace('"locale"', '"zz": 1,\r\n\r\n"zz": 1.0,  "locale"') +
            ' \n\n';
        await server.deliver(body);
        assert.equal(payload(event), body);
        assert.equal(server.userRow(event.data).first_name, 'Ada');
    });

    test('null names, unknown members and big metadata', async () => {
        const metadata = Object.fromEntries(
            Array.from({ length: 50 }, (_, i) => [`key_${i}`.padEnd(40, 'k'), '値'.repeat(600)]),
        );
        const event = userCreated({
            name: null,
            first_name: null,
            last_name: null,
            profile_picture_url: null,
            last_sign_in_at: null,
            external_id: null,
            locale: null,
            metadata,
            brand_new: { a: [1, 2, { b: null }] },
        });
        await server.deliver(event);
        const row = server.userRow(event.data);
        assert.deepEqual(
            [row.name, row.first_name, row.last_name, row.external_id, row.locale],
            [null, null, null, null, null],
        );
        assert.deepEqual(JSON.parse(row.metadata), metadata);
        assert.deepEqual(JSON.parse(row.raw), event.data);
    });

    test('a body of exactly --max-body is taken, one byte more is 413 and leaves nothing', async () => {
        const sized = (bytes) => {
            const event = userCreated({ padding: '' });
            event.data.padding = 'x'.repeat(bytes - Buffer.byteLength(JSON.stringify(event)));
            return event;
        };
        const fits = sized(200_000);
        await server.deliver(fits);
        assert.equal(stored(server, fits), 1);

        const above = sized(200_001);
        assertError(await server.post(above), 413);
        assert.equal(stored(server, above), 0);
        await server.deliver(userCreated());
    });

    test('a megabyte is within the default limit', async (t) => {
        const roomy = await startServer(t);
        const event = userCreated({ padding: 'x'.repeat(1024 * 1024 - 2000) });
        await roomy.deliver(event);
        assert.equal(
            roomy.row('SELECT length(CAST(payload AS BLOB)) FROM workos_events'),
            Buffer.byteLength(JSON.stringify(event)),
        );
        assertError(await roomy.post(userCreated({ padding: 'x'.repeat(1024 * 1024) })), 413);
    });

    test('ids that WorkOS would never make are texts like others, or refused: nothing stumbles', async () => {
        for (const id of [
            'x',
            '🆔',
            'a b',
            '../../etc/passwd',
            '\'"`;--',
            'é'.repeat(300),
            '%00',
            'a\u0000b',
        ]) {
            const event = userCreated({ id: `user ${id}` }, { id: `event ${id}` });
            const answers = [await server.post(event), await server.post(event)].map(
                (answer) => answer.status,
            );
            assert.ok([200, 400].includes(answers[0]), `${answers[0]}`);
            assert.equal(answers[1], answers[0]);
            assert.equal(
                server.row(
                    'SELECT count(*) FROM workos_events WHERE hex(id) = ?',
                    Buffer.from(event.id).toString('hex').toUpperCase(),
                ),
                answers[0] === 200 ? 1 : 0,
            );
        }
    });
});

describe('paths and methods', () => {
    const server = sharedServer();

    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS']) {
        for (const path of ['/workos/webhook', '/workos/action']) {
            test(`${method} ${path}: 405, Allow: POST`, async () => {
                const answer = await server.client.request(
                    method,
                    path,
                    method === 'GET' || method === 'HEAD' ? {} : { body: '' },
                );
                assert.equal(answer.status, 405);
                assert.equal(answer.headers.allow, 'POST');
                assert.equal(answer.headers['access-control-allow-origin'], undefined);
            });
        }
    }

    for (const path of [
        '/',
        '/nothing',
        '/workos',
        '/workos/',
        '/workos/webhookX',
        '/workos/webhook/',
        '/workos/webhook/x',
        '/WORKOS/webhook',
        '/workos/Webhook',
        '//workos/webhook',
        '/workos//webhook',
        '/./workos/webhook',
        '/workos/./webhook',
        '/x/../workos/webhook',
        '/workos/webhook%00',
        '/workos/webhook%00x',
        '/workos/webhook%20',
        '/workos/webhook;x',
        '/workos/webhoo%6b',
        '/workos%2fwebhook',
        '/workos/webhook.',
        '/workos/webhook\\',
        '/workos/actions',
        '/metrics',
    ]) {
        test(`POST ${path} is not the webhook: 404 or 400, nothing stored`, async () => {
            const event = userCreated();
            const answer = await server.post(event, { path });
            assert.ok([400, 404].includes(answer.status), `${answer.status}`);
            if (answer.status === 404) assertError(answer, 404);
            assert.equal(stored(server, event), 0);
        });
    }

    test('GET on a path that is not there: 404, in JSON', async () => {
        assertError(await server.client.request('GET', '/favicon.ico'), 404);
    });

    test('an action does not pass as a webhook, nor the other way round', async () => {
        assert.equal((await server.post(registrationAction())).status, 400);
        assert.equal((await server.act(userCreated())).status >= 400, true);
    });
});

describe('settings', () => {
    test('--webhook-path and --action-path move the endpoints', async (t) => {
        const server = await startServer(t, {
            args: ['--webhook-path', '/hooks/n0dbga5x', '--action-path', '/decide/7'],
            handlers: `require "authkit".actions {
                user_registration = function(ctx, action, response) return response.allow() end,
            }`,
        });
        await server.deliver(userCreated(), { path: '/hooks/n0dbga5x' });
        assert.equal((await server.post(userCreated())).status, 404);
        assert.equal((await server.act(registrationAction())).status, 404);
        assert.equal((await server.act(registrationAction(), { path: '/decide/7' })).status, 200);
    });

    test('an endpoint whose secret is missing is off: 503, and the log names the variable', async (t) => {
        for (const [missing, off, on] of [
            ['WORKOS_WEBHOOK_SECRET', '/workos/webhook', '/workos/action'],
            ['WORKOS_ACTION_SECRET', '/workos/action', '/workos/webhook'],
        ]) {
            const server = await startServer(t, { env: { [missing]: undefined } });
            assertError(
                await server.post(userCreated(), {
                    path: off,
                    secret: missing === 'WORKOS_ACTION_SECRET' ? ACTION_SECRET : WEBHOOK_SECRET,
                }),
                503,
            );
            await server.waitForLog(missing);
            assert.equal(server.count('workos_events'), 0);
            assert.notEqual((await server.client.request('POST', on, { body: '{}' })).status, 503);
        }
    });

    test('an empty secret is no secret: the endpoint is off', async (t) => {
        const server = await startServer(t, { env: { WORKOS_WEBHOOK_SECRET: '' } });
        assert.equal(
            (
                await server.client.request('POST', '/workos/webhook', {
                    body: '{}',
                    headers: {
                        'WorkOS-Signature': `t=${Date.now()}, v1=${hmac('', `${Date.now()}.{}`)}`,
                    },
                })
            ).status,
            503,
        );
    });

    test('many clients at once get the same care', async (t) => {
        const server = await startServer(t);
        const client = server.newClient({ connections: 32 });
        const events = Array.from({ length: 200 }, (_, i) => ({
            event: userCreated(),
            good: i % 4 !== 0,
        }));
        await inParallel(32, events, async ({ event, good }) => {
            const answer = await server.post(event, {
                client,
                secret: good ? WEBHOOK_SECRET : 'wrong',
            });
            assert.equal(answer.status, good ? 200 : 401);
        });
        assert.equal(server.count('workos_events'), 150);
    });
});
