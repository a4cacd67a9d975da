// SPDX-License-Identifier: MIT
// POST /workos/action: a verdict, signed so that WorkOS believes it, or an error that says why not.

import assert from 'node:assert/strict';

import { describe, inParallel, load, test } from './lib/harness.js';
import { sharedServer, startServer } from './lib/server.js';
import {
    ACTION_SECRET,
    WEBHOOK_SECRET,
    authenticationAction,
    newId,
    registrationAction,
    sdk,
    userCreated,
} from './lib/workos.js';

const registration = (body, top = '') => `
    local authkit = require "authkit"
    ${top}
    authkit.actions { user_registration = function(ctx, action, response) ${body} end }`;

/** Check an answer as WorkOS must: form, order, compactness, and what the SDK would sign. */
async function assertSigned(
    answer,
    verdict,
    { object = 'user_registration_action_response', secret = ACTION_SECRET } = {},
) {
    assert.equal(answer.status, 200, answer.text);
    assert.match(answer.headers['content-type'], /^application\/json/);
    const body = answer.json();
    assert.deepEqual(Object.keys(body), ['object', 'payload', 'signature']);
    assert.equal(
        JSON.stringify(body),
        answer.text,
        'JSON.parse and JSON.stringify give the same bytes',
    );
    assert.equal(body.object, object);
    assert.equal(body.payload.verdict, verdict);
    assert.deepEqual(Object.keys(body.payload), [
        'timestamp',
        'verdict',
        ...('error_message' in body.payload ? ['error_message'] : []),
    ]);
    assert.ok(Number.isInteger(body.payload.timestamp));
    assert.ok(Math.abs(body.payload.timestamp - Date.now()) < 10_000);
    assert.equal(
        body.signature,
        await sdk.actions.computeSignature(body.payload.timestamp, body.payload, secret),
    );
    // The SDK checks what it signs in the same way when it is the receiver.
    await sdk.actions.verifyHeader({
        payload: body.payload,
        sigHeader: `t=${body.payload.timestamp}, v1=${body.signature}`,
        secret,
    });
    return body.payload;
}

describe('a verdict', () => {
    const server = sharedServer({
        handlers: `
            local authkit = require "authkit"
            authkit.actions {
              user_registration = function(ctx, action, response)
                if action.user_data.email:find("@gmail%.com$") then
                  return response.deny("Gmail accounts are not allowed")
                end
                if action.user_data.first_name == "wordless" then return response.deny() end
                return response.allow()
              end,
              authentication = function(ctx, action, response)
                assert(action.object == "authentication_action_context")
                if action.organization == nil and action.user.email_verified then return response.allow() end
                return response.deny("Verify your address first")
              end,
            }`,
    });

    test('allow: no error_message, signed as the SDK signs', async () => {
        const payload = await assertSigned(await server.act(registrationAction()), 'Allow');
        assert.equal('error_message' in payload, false);
    });

    test('deny with a message: gmail', async () => {
        const payload = await assertSigned(
            await server.act(registrationAction({ email: 'eve@gmail.com' })),
            'Deny',
        );
        assert.equal(payload.error_message, 'Gmail accounts are not allowed');
    });

    test('deny without a message has no error_message', async () => {
        const payload = await assertSigned(
            await server.act(registrationAction({ first_name: 'wordless' })),
            'Deny',
        );
        assert.equal('error_message' in payload, false);
    });

    test('of an authentication has the object of an authentication', async () => {
        const object = 'authentication_action_response';
        await assertSigned(await server.act(authenticationAction()), 'Allow', { object });
        const payload = await assertSigned(
            await server.act(authenticationAction({ email_verified: false })),
            'Deny',
            { object },
        );
        assert.equal(payload.error_message, 'Verify your address first');
    });

    test("has the bytes of the SDK's own response, but for the time", async () => {
        const answer = await server.act(registrationAction({ email: 'eve@gmail.com' }));
        const own = await sdk.actions.signResponse(
            {
                type: 'user_registration',
                verdict: 'Deny',
                errorMessage: 'Gmail accounts are not allowed',
            },
            ACTION_SECRET,
        );
        const blank = (text) =>
            text
                .replace(/"timestamp":\d{13}/, '"timestamp":0')
                .replace(/"signature":"[0-9a-f]{64}"/, '"signature":""');
        assert.equal(blank(answer.text), blank(JSON.stringify(own)));
    });

    test('comes for unknown members and missing optional ones, too', async () => {
        await assertSigned(
            await server.act({
                object: 'user_registration_action_context',
                id: newId('a'),
                user_data: { email: 'x@y.z', novel: [1] },
                more: null,
            }),
            'Allow',
        );
    });

    test('many at once, each its own', async () => {
        const client = server.newClient({ connections: 32 });
        const answers = await inParallel(
            32,
            Array.from({ length: load(500, 100) }, (_, i) => i % 2),
            (denied) =>
                server
                    .act(
                        registrationAction({ email: denied ? 'eve@gmail.com' : 'ada@example.com' }),
                        { client },
                    )
                    .then((answer) => ({ answer, denied })),
        );
        for (const { answer, denied } of answers)
            await assertSigned(answer, denied ? 'Deny' : 'Allow');
    });
});

describe("a denial's message", () => {
    const server = sharedServer({
        handlers: registration('return response.deny(action.user_data.name)'),
    });
    const denied = async (name) =>
        (await assertSigned(await server.act(registrationAction({ name })), 'Deny')).error_message;

    for (const message of [
        'plain',
        'it\'s "quoted"',
        'back\\slash and /slash/',
        'tab\tline\nreturn\rback\bfeed\f',
        '\u0001\u001f\u007f\u0080',
        'Zoë 山田 مريم',
        '😀👩‍👩‍👧‍👦',
        '\u2028\u2029\ufeff\ufffd\uffff',
        '</script>',
        '\\u0041',
        '%s%d',
        '{"verdict":"Allow"}',
    ]) {
        test(`${JSON.stringify(message)} arrives as it is`, async () => {
            assert.equal(await denied(message), message);
        });
    }

    test('has at most 500 UTF-16 units, cut between characters', async () => {
        assert.equal(await denied('x'.repeat(500)), 'x'.repeat(500));
        assert.equal(await denied('x'.repeat(501)), 'x'.repeat(500));
        assert.equal(await denied('é'.repeat(10_000)), 'é'.repeat(500));
        assert.equal(await denied('😀'.repeat(250)), '😀'.repeat(250));
        assert.equal(await denied('😀'.repeat(300)), '😀'.repeat(250));
        assert.equal(await denied('x' + '😀'.repeat(300)), 'x' + '😀'.repeat(249));
        assert.equal(await denied('"'.repeat(600)), '"'.repeat(500));
    });
});

describe('a message of bytes that are no UTF-8', () => {
    const cases = {
        'a lone byte': ['a\\xffb'],
        'a cut character': ['a\\xe2\\x82'],
        'an overlong slash': ['\\xc0\\xaf'],
        'a surrogate': ['\\xed\\xa0\\x80x'],
        'beyond Unicode': ['\\xf4\\x90\\x80\\x80x'],
        'continuation bytes only': ['\\x80\\x80\\x80'],
        'five-byte form': ['\\xf8\\x88\\x80\\x80\\x80x'],
    };
    const server = sharedServer({
        handlers: registration(
            'return response.deny(messages[action.user_data.name])',
            `local messages = { ${Object.entries(cases)
                .map(([name, [bytes]]) => `["${name}"] = "${bytes}"`)
                .join(', ')} }`,
        ),
    });

    for (const name of Object.keys(cases)) {
        test(`${name}: made valid, and the signature holds`, async () => {
            const payload = await assertSigned(
                await server.act(registrationAction({ name })),
                'Deny',
            );
            assert.match(payload.error_message, /\ufffd/);
            assert.equal(payload.error_message.isWellFormed(), true);
        });
    }
});

describe('an action that is refused', () => {
    const server = sharedServer({ handlers: registration('return response.allow()') });
    const isError = (answer, status) => {
        assert.equal(answer.status, status, answer.text);
        assert.match(answer.json().error.code, /^[a-z_]+$/);
    };

    test('no function for it: 404', async () => {
        isError(await server.act(authenticationAction()), 404);
    });

    test('a kind that nobody knows: 404 or 400', async () => {
        const answer = await server.act({ object: 'coffee_action_context', id: 'x' });
        assert.ok([400, 404].includes(answer.status), `${answer.status}`);
    });

    for (const [what, body] of [
        ['not JSON', 'hello'],
        ['empty', ''],
        ['an array', '[]'],
        ['null', 'null'],
        ['no object', '{"id":"x"}'],
        ['an object that is a number', '{"object":5}'],
        ['invalid UTF-8 escaped badly', '{"object":"\\uZZZZ"}'],
    ]) {
        test(`signed, but ${what}: 400`, async () => isError(await server.act(body), 400));
    }

    test('a kind with a long name: 400, and that is said', async () => {
        const answer = await server.act({ object: `${'x'.repeat(64)}_action_context`, id: 'x' });
        isError(answer, 400);
        assert.match(answer.json().error.message, /"object" has more than 78 bytes/);
    });

    for (const [what, seconds, status] of [
        ['25 s old', -25, 200],
        ['35 s old', -35, 401],
        ['25 s ahead', 25, 200],
        ['40 s ahead', 40, 401],
        ['175 s old', -175, 401],
    ]) {
        test(`${what}: ${status}`, async () => {
            assert.equal(
                (await server.act(registrationAction(), { time: Date.now() + seconds * 1000 }))
                    .status,
                status,
            );
            assert.equal(
                (
                    await server.act(registrationAction(), {
                        time: Math.floor(Date.now() / 1000) + seconds,
                    })
                ).status,
                status,
            );
        });
    }

    test('signed with another secret, or not at all: 401', async () => {
        isError(await server.act(registrationAction(), { secret: 'wrong' }), 401);
        isError(await server.act(registrationAction(), { secret: WEBHOOK_SECRET }), 401);
        isError(
            await server.client.request('POST', '/workos/action', {
                body: JSON.stringify(registrationAction()),
            }),
            401,
        );
    });
});

describe('the secrets of actions', () => {
    const server = sharedServer({
        handlers: registration('return response.allow()'),
        env: { WORKOS_ACTION_SECRET: 'act_new,act_old' },
    });

    test('each of the list is accepted, and the answer is signed with the one that was used', async () => {
        for (const secret of ['act_new', 'act_old'])
            await assertSigned(await server.act(registrationAction(), { secret }), 'Allow', {
                secret,
            });
        assert.equal((await server.act(registrationAction())).status, 401);
    });
});

// Ways to come to no verdict. Each is tried under every --action-on-error.
const FAILURES = {
    'an error': 'error("out of order")',
    'an error of Lua': 'local x = nil; return x.y',
    'nothing returned': 'response.allow()',
    'nil returned': 'return nil',
    'true returned': 'return true',
    'a text returned': 'return "Allow"',
    'a table of its own returned': 'return { verdict = "Allow" }',
    'the function returned, not its result': 'return response.allow',
    'a timeout': 'while true do end',
};
const failing = {
    handlers: registration(
        'return failures[action.user_data.name](ctx, action, response)',
        `local failures = { ${Object.entries(FAILURES)
            .map(([name, lua]) => `["${name}"] = function(ctx, action, response) ${lua} end`)
            .join(', ')} }`,
    ),
};

for (const [mode, args] of [
    ['by default', []],
    ['with --action-on-error fail', ['--action-on-error', 'fail']],
    ['with --action-on-error deny', ['--action-on-error', 'deny']],
    ['with --action-on-error allow', ['--action-on-error', 'allow']],
]) {
    describe(`a function that comes to no verdict, ${mode}`, () => {
        const server = sharedServer({ ...failing, args: [...args, '--action-timeout', '200'] });

        for (const name of Object.keys(FAILURES)) {
            const verdict = { deny: 'Deny', allow: 'Allow' }[args[1]];
            test(`${name}: ${verdict ? `a signed ${verdict}` : '500'}`, async () => {
                const answer = await server.act(registrationAction({ name }));
                if (verdict) {
                    await assertSigned(answer, verdict);
                } else {
                    assert.equal(answer.status, 500, answer.text);
                    assert.match(answer.json().error.code, /^[a-z_]+$/);
                }
                assert.doesNotMatch(
                    answer.text,
                    /out of order|handlers\.lua/,
                    'shows nothing of the script',
                );
            });
        }

        test('is logged, with file and line', async () => {
            await server.act(registrationAction({ name: 'an error' }));
            const line = await server.waitForLog('out of order');
            assert.match(line.text, /handlers\.lua:\d+/);
            assert.ok(['warn', 'error'].includes(line.level));
        });
    });
}

describe('the database in an action', () => {
    const handlers = registration(
        `
        if action.user_data.name == "reader" then
          local user = ctx.users.get_by_email(action.user_data.email)
          if user then return response.deny("There is " .. user.id .. " already") end
          return response.allow()
        end
        ctx.db.insert("signups", { email = action.user_data.email })
        if action.user_data.name == "fails" then error("after writing") end
        if action.user_data.name == "denied" then return response.deny("no") end
        return response.allow()`,
        'authkit.schema { signups = { columns = { email = "text" }, indexes = { { "email", unique = true } } } }',
    );

    test('an action that only reads sees the users', async (t) => {
        const server = await startServer(t, { handlers });
        const event = userCreated({ email: 'ada@example.com' });
        await assertSigned(
            await server.act(registrationAction({ name: 'reader', email: 'ada@example.com' })),
            'Allow',
        );
        await server.deliver(event);
        const payload = await assertSigned(
            await server.act(registrationAction({ name: 'reader', email: 'ada@example.com' })),
            'Deny',
        );
        assert.equal(payload.error_message, `There is ${event.data.id} already`);
    });

    test('what an action writes is durable when it is answered: kill -9, and it is there', async (t) => {
        const server = await startServer(t, { handlers });
        await assertSigned(
            await server.act(registrationAction({ name: 'writes', email: 'a@example.com' })),
            'Allow',
        );
        await assertSigned(
            await server.act(registrationAction({ name: 'denied', email: 'b@example.com' })),
            'Deny',
        );
        await server.kill();
        await server.start();
        assert.deepEqual(
            server.rows('SELECT email FROM signups ORDER BY email').map((row) => row.email),
            ['a@example.com', 'b@example.com'],
        );
    });

    test('what a failing action wrote is undone', async (t) => {
        const server = await startServer(t, { handlers });
        assert.equal((await server.act(registrationAction({ name: 'fails' }))).status, 500);
        assert.equal(server.count('signups'), 0);
    });

    test('actions run one at a time: no race for a unique row', async (t) => {
        const server = await startServer(t, { handlers });
        const client = server.newClient({ connections: 16 });
        const answers = await inParallel(16, Array.from({ length: 64 }), () =>
            server.act(registrationAction({ name: 'races', email: 'same@example.com' }), {
                client,
            }),
        );
        assert.equal(answers.filter((answer) => answer.status === 200).length, 1);
        assert.equal(server.count('signups'), 1);
    });

    test('an action is not kept waiting by a crowd of events', async (t) => {
        const server = await startServer(t, {
            handlers: `${handlers}\nauthkit.events { ["user.created"] = function(ctx, event) ctx.db.insert("signups", { email = event.id }) end }`,
        });
        const crowd = server.newClient({ connections: 48 });
        const events = inParallel(48, Array.from({ length: load(1500, 300) }), () =>
            server.deliver(userCreated(), { client: crowd }),
        );
        for (let i = 0; i < 20; i++)
            await assertSigned(
                await server.act(registrationAction({ name: 'reader', email: 'x@example.com' })),
                'Allow',
            );
        await events;
    });
});
