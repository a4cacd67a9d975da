// SPDX-License-Identifier: MIT
// authkitd setup: the webhook endpoint at WorkOS, created, changed, or left as it is.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { startEmulator } from './lib/emulator.js';
import { faults, startFakeApi } from './lib/fake_api.js';
import { describe, test, until } from './lib/harness.js';
import { newFolder, runCommand, startServer, writeFile } from './lib/server.js';
import { userCreated } from './lib/workos.js';

const HOST = 'https://auth.example.com';
const URL_OF_HOST = `${HOST}/workos/webhook`;

const MIRRORED = [
    ...['user.created', 'user.updated', 'user.deleted'],
    ...['organization.created', 'organization.updated', 'organization.deleted'],
    ...['created', 'updated', 'deleted'].map((what) => `organization_membership.${what}`),
    ...['created', 'accepted', 'resent', 'revoked'].map((what) => `invitation.${what}`),
];

const handlersOf = (...types) => `
local authkit = require "authkit"
authkit.events {
${types.map((type) => `  ["${type}"] = function(ctx, event) end,`).join('\n')}
}
`;

/** A folder with a script, a fake API, and authkitd setup run in there. */
async function setUp(t, { handlers = handlersOf('user.created', 'session.created') } = {}) {
    const api = await startFakeApi(t);
    const folder = newFolder();

    if (handlers !== null) writeFile(path.join(folder, 'handlers.lua'), handlers);
    const setup = (args = [HOST], env = {}) =>
        runCommand(['setup', ...args], { cwd: folder, env: { ...api.env, ...env } });
    const endpoint = () => {
        assert.equal(api.endpoints.size, 1);
        return [...api.endpoints.values()][0];
    };
    const calls = () =>
        api.requests.splice(0).map(({ method, path: at, status }) => `${method} ${at} ${status}`);
    return { api, folder, setup, endpoint, calls };
}

const assertFine = ({ code, output }) => assert.equal(code, 0, output);

describe('authkitd setup', () => {
    test('creates the endpoint, shows its secret, and changes nothing the second time', async (t) => {
        const { api, setup, endpoint, calls } = await setUp(t);

        const first = await setup();
        assertFine(first);
        assert.equal(first.stderr, '');
        assert.equal(endpoint().endpoint_url, URL_OF_HOST);
        assert.deepEqual([...endpoint().events].sort(), [...MIRRORED, 'session.created'].sort());
        assert.match(first.stdout, /^created the webhook endpoint we_\w+\n/);
        assert.ok(first.stdout.endsWith(`\nWORKOS_WEBHOOK_SECRET=${endpoint().secret}\n`));
        assert.equal(first.output.split(endpoint().secret).length, 2, 'the secret, once');
        assert.ok(!first.output.includes(api.key));
        assert.match(api.requests[0].userAgent, /^authkitd\/\S+ \(setup\)$/);
        assert.deepEqual(calls(), ['GET /webhook_endpoints 200', 'POST /webhook_endpoints 201']);

        const second = await setup([`${HOST}/`]);
        assertFine(second);
        assert.match(second.stdout, /^nothing had to change: .* is as it should be\n/);
        assert.deepEqual(calls(), ['GET /webhook_endpoints 200']);
    });

    test('gives it the types and the status that it has to have', async (t) => {
        const { api, setup, endpoint, calls } = await setUp(t);
        const made = api.addEndpoint({
            endpoint_url: 'https://AUTH.example.com:443/workos/webhook',
            events: ['user.created', 'user.updated', 'connection.activated'],
            status: 'disabled',
        });

        const changed = await setup();
        assertFine(changed);
        assert.match(changed.stdout, new RegExp(`^changed the webhook endpoint ${made.id}\n`));
        assert.match(changed.stdout, /^added {5}user\.deleted, .*session\.created$/m);
        assert.match(changed.stdout, /^removed {3}connection\.activated$/m);
        assert.match(changed.stdout, /^status .* enabled now$/m);
        assert.equal(endpoint().status, 'enabled');
        assert.deepEqual([...endpoint().events].sort(), [...MIRRORED, 'session.created'].sort());
        assert.deepEqual(calls(), [
            'GET /webhook_endpoints 200',
            `PATCH /webhook_endpoints/${made.id} 200`,
        ]);
        assert.match((await setup()).stdout, /^nothing had to change/);

        const other = await setup([HOST, '--events', 'user.created, user.deleted']);
        assertFine(other);
        assert.deepEqual(endpoint().events, ['user.created', 'user.deleted']);
        assert.match(other.stdout, /^removed .*session\.created/m);
    });

    test('finds the endpoint on a later page of the list', async (t) => {
        const { api, setup } = await setUp(t);
        api.maxPageSize = 3;
        for (let i = 0; i < 7; i++)
            api.addEndpoint({ endpoint_url: `${HOST}/${i}`, events: ['user.created'] });
        api.addEndpoint({ endpoint_url: URL_OF_HOST });

        assertFine(await setup());
        assert.equal(api.endpoints.size, 8);
        assert.equal(api.requestsTo('/webhook_endpoints', 'GET').length, 3);
        assert.equal(api.requestsTo('/webhook_endpoints', 'POST').length, 0);
    });

    const list = (refused) => refused.map(({ type }) => type).join(', ');
    for (const [how, unknownTypes] of Object.entries({
        'by name': undefined,
        'in a sentence': (refused) => ({ message: `Unknown event types: ${list(refused)}.` }),
        'by place': (refused) => ({
            message: 'Validation failed',
            errors: refused.map(({ index }) => ({ field: `events[${index}]`, code: 'invalid' })),
        }),
        'by what it allows': (refused, api) => ({
            message: [
                `each value in events must be one of the following values: `,
                [...api.webhookTypes].join(', '),
            ],
            error: 'Unprocessable Entity',
        }),
        'without saying which': () => ({ message: 'Validation failed' }),
    }))
        test(`leaves out what WorkOS refuses ${how}`, async (t) => {
            const { api, setup, endpoint } = await setUp(t, {
                handlers: handlersOf(
                    ...['vault.data.read', 'session.created', 'user.craeted', 'dsync.activated'],
                ),
            });
            if (unknownTypes) api.unknownTypes = (refused) => unknownTypes(refused, api);
            const wanted = [...MIRRORED, 'session.created', 'dsync.activated'].sort();

            const first = await setup();
            assertFine(first);
            assert.match(first.stdout, /^created the webhook endpoint/);
            assert.deepEqual([...endpoint().events].sort(), wanted);
            const left = /^left out {2}(.*): WorkOS doesn't send them/m.exec(first.stdout)[1];
            assert.deepEqual(left.split(', ').sort(), ['user.craeted', 'vault.data.read']);

            const before = endpoint().updated_at;
            const second = await setup();
            assertFine(second);
            assert.match(second.stdout, /^nothing had to change/);
            assert.match(second.stdout, /^left out {2}/m);
            assert.equal(endpoint().updated_at, before);

            endpoint().events = ['user.created', 'dsync.activated'];
            const third = await setup();
            assertFine(third);
            assert.match(third.stdout, /^changed the webhook endpoint/);
            assert.deepEqual([...endpoint().events].sort(), wanted);
        });

    test("fails with WorkOS's words when it refuses what was asked for", async (t) => {
        const { api, setup } = await setUp(t);

        const refused = await setup([HOST, '--events', 'user.created,vault.data.read']);
        assert.equal(refused.code, 1);
        assert.match(refused.stderr, /answered 422: "Validation failed" .*'vault\.data\.read'/);
        assert.equal(api.endpoints.size, 0);
        const wrongKey = await setup([HOST], { WORKOS_API_KEY: 'sk_wrong_key' });
        assert.equal(wrongKey.code, 1);
        assert.match(wrongKey.stderr, /answered 401: .*is WORKOS_API_KEY right\? \(request req_/);
        assert.ok(!wrongKey.output.includes('sk_wrong_key'));
        await api.close();
        const nobody = await setup();
        assert.equal(nobody.code, 1);
        assert.match(nobody.stderr, /^authkitd: http:\/\/127\.0\.0\.1:\d+\/webhook_endpoints/);
    });

    test('is patient with WorkOS, and not taken in by an answer that was lost', async (t) => {
        const { api, setup, endpoint, calls } = await setUp(t);

        api.fail('/webhook_endpoints', faults.rateLimited(0));
        api.fail('/webhook_endpoints', faults.html(503));
        api.fail(/^POST/, faults.cut());
        const run = await setup();
        assertFine(run);
        assert.equal(endpoint().endpoint_url, URL_OF_HOST);
        assert.ok(run.stdout.includes(endpoint().secret));
        assert.deepEqual(calls(), [
            'GET /webhook_endpoints 429',
            'GET /webhook_endpoints 503',
            'GET /webhook_endpoints 200',
            'POST /webhook_endpoints 201', // cut
            'POST /webhook_endpoints 409',
            'GET /webhook_endpoints 200',
        ]);
    });

    test('asks for what it needs', async (t) => {
        const { api, setup, folder } = await setUp(t);
        const run = async (args, code, text, env) => {
            const outcome = await setup(args, env);
            assert.equal(outcome.code, code, outcome.output);
            assert.match(outcome.stderr, text);
            assert.equal(outcome.stdout, '');
        };

        await run([HOST], 1, /^authkitd: set WORKOS_API_KEY/, { WORKOS_API_KEY: '' });
        await run([], 2, /^authkitd: setup wants the URL/);
        await run(['http://auth.example.com'], 2, /in the clear: use https:\/\//);
        await run(['http://127.evil.example'], 2, /in the clear: use https:\/\//);
        await run(['http://localhost.evil.example'], 2, /in the clear: use https:\/\//);
        await run(['auth.example.com'], 2, /is no URL .* https:\/\//);
        await run(['ftp://auth.example.com'], 2, /is no URL/);
        await run(['https://'], 2, /has no host/);
        await run(['https://:443/x'], 2, /has no host/);
        await run(['https://localhost@evil.example'], 2, /has no host/);
        await run(['https://auth.example.com/a#b'], 2, /has a fragment, .* leave it out/);
        // Symptom: an endpoint of https://auth.example.com/workos/webhook?x.
        for (const url of ['https://auth.example.com?x', 'https://auth.example.com/?x'])
            await run([url], 2, /has a query, .* no path: leave the query out/);
        await run(['https://auth.example.com/a b'], 2, /a character that none has/);
        await run([HOST, HOST], 2, /one word too many/);
        fs.rmSync(path.join(folder, 'handlers.lua'));
        await run([HOST], 1, /there is no script 'handlers.lua'/);
        writeFile(path.join(folder, 'handlers.lua'), 'nonsense');
        await run([HOST], 1, /handlers\.lua:1:/);
        assert.deepEqual(api.requests, []);
        assertFine(await setup([HOST, '--events', 'user.created']));
    });

    test('a path of its own, other hosts of this machine', async (t) => {
        const { api, setup } = await setUp(t);
        const urls = () => [...api.endpoints.values()].map((endpoint) => endpoint.endpoint_url);

        const own = await setup([`${HOST}:8443/hooks/n0dbga5x?from=workos`]);
        assertFine(own);
        // Symptom: it was to be served with a --webhook-path that has a query, which none can have.
        assert.match(
            own.stderr,
            /takes webhooks at \/workos\/webhook: serve it with --webhook-path \/hooks\/n0dbga5x, or/,
        );
        const escaped = await setup([`${HOST}/h%C3%B6k`]);
        assert.match(escaped.stderr, /takes webhooks at \/workos\/webhook: have a proxy translate$/m);
        assertFine(await setup([HOST, '--webhook-path', '/secret/path']));
        const query = await setup([`${HOST}/workos/webhook?from=workos`]);
        assertFine(query);
        assert.equal(query.stderr, '');
        assertFine(await setup(['http://localhost:8080']));
        assertFine(await setup(['http://127.0.0.1']));
        assertFine(await setup(['http://[::1]:80/']));
        assert.deepEqual(urls(), [
            `${HOST}:8443/hooks/n0dbga5x?from=workos`,
            `${HOST}/h%C3%B6k`,
            `${HOST}/secret/path`,
            `${HOST}/workos/webhook?from=workos`,
            'http://localhost:8080/workos/webhook',
            'http://127.0.0.1/workos/webhook',
            'http://[::1]:80/workos/webhook',
        ]);
    });
});

describe('authkitd setup --write', () => {
    test('puts the secret into an env file, and serve takes it from there', async (t) => {
        const { setup, endpoint, folder } = await setUp(t);
        const file = path.join(folder, 'prod.env');
        const rest = '# my settings\nexport AUTHKITD_LOG_LEVEL="info"\n';
        fs.writeFileSync(file, `${rest}WORKOS_WEBHOOK_SECRET=\n# the end`);
        fs.chmodSync(file, 0o640); // so that a service's group can read it

        const first = await setup([HOST, '--write', 'prod.env']);
        assertFine(first);
        const { secret } = endpoint();
        assert.ok(!first.output.includes(secret), 'it is never shown');
        assert.match(first.stdout, /^secret {4}prod\.env now has it in WORKOS_WEBHOOK_SECRET$/m);
        assert.equal(
            fs.readFileSync(file, 'utf8'),
            `${rest}WORKOS_WEBHOOK_SECRET=${secret}\n# the end`,
        );
        assert.equal(first.stderr, '');
        assert.equal(fs.statSync(file).mode & 0o777, 0o640);
        assert.deepEqual(fs.readdirSync(folder).sort(), ['handlers.lua', 'prod.env']);

        const { ino } = fs.statSync(file);
        const second = await setup([HOST, '--write', 'prod.env', '--env-file', 'prod.env']);
        assertFine(second);
        assert.match(second.stdout, /^nothing had to change/);
        assert.match(second.stdout, /^secret {4}prod\.env has it already/m);
        assert.equal(fs.statSync(file).ino, ino);

        const server = await startServer(t, {
            args: ['--env-file', file],
            env: { WORKOS_WEBHOOK_SECRET: undefined },
        });
        await server.deliver(userCreated(), { secret });
    });

    test('says when every user of the machine can read the file, and leaves that as it is', async (t) => {
        const { setup, folder } = await setUp(t);
        const file = path.join(folder, 'open.env');
        fs.writeFileSync(file, '');
        fs.chmodSync(file, 0o644);

        const run = await setup([HOST, '--write', 'open.env']);
        assertFine(run);
        assert.match(run.stderr, /^authkitd: mind that every user .* can read open\.env: chmod o-r /);
        assert.equal(fs.statSync(file).mode & 0o777, 0o644);
    });

    test('makes the file; leaves a secret alone that is one of several', async (t) => {
        const { setup, endpoint, folder } = await setUp(t);
        const file = path.join(folder, 'new.env');

        assertFine(await setup([HOST, '--write', file]));
        assert.equal(fs.statSync(file).mode & 0o777, 0o600);
        assert.equal(
            fs.readFileSync(file, 'utf8'),
            `WORKOS_WEBHOOK_SECRET=${endpoint().secret}\n`,
        );
        const several = `WORKOS_WEBHOOK_SECRET="whsec_other, ${endpoint().secret} "\n`;
        fs.writeFileSync(file, several);
        assertFine(await setup([HOST, '--write', file]));
        assert.equal(fs.readFileSync(file, 'utf8'), several);
        fs.writeFileSync(file, `WORKOS_WEBHOOK_SECRET=${endpoint().secret}x\n`);
        assertFine(await setup([HOST, '--write', file]));
        assert.equal(
            fs.readFileSync(file, 'utf8'),
            `WORKOS_WEBHOOK_SECRET=${endpoint().secret}\n`,
        );
    });

    test('changes nothing at WorkOS when the file is no good', async (t) => {
        const { api, setup, folder } = await setUp(t);
        const refused = async (text, reason) => {
            fs.writeFileSync(path.join(folder, 'bad.env'), text);
            const run = await setup([HOST, '--write', 'bad.env']);
            assert.equal(run.code, 1);
            assert.match(run.stderr, reason);
            assert.equal(fs.readFileSync(path.join(folder, 'bad.env'), 'utf8'), text);
        };

        await refused('A=b\nthis is no line\n', /bad\.env:2: this isn't KEY=value/);
        await refused(
            'WORKOS_WEBHOOK_SECRET_FILE=/run/secret\n',
            /bad\.env:1 sets WORKOS_WEBHOOK_SECRET_FILE: .*'\/run\/secret'/,
        );
        // Symptom: it named --env-file, which wasn't given.
        const noFile = await setup([HOST, '--write', '.']);
        assert.equal(noFile.code, 1);
        assert.match(noFile.stderr, /^authkitd: --write: '\.' is no file$/m);
        // Symptom: the endpoint was made, and then there was no place for its secret.
        const device = await setup([HOST, '--write', '/dev/null']);
        assert.equal(device.code, 1);
        assert.match(device.stderr, /^authkitd: --write: '\/dev\/null' is no file$/m);
        const nowhere = await setup([HOST, '--write', 'no/such/folder/x.env']);
        assert.equal(nowhere.code, 1);
        assert.match(nowhere.stderr, /no\/such\/folder/);
        assert.deepEqual(api.requests, []);
    });

    test('says when WorkOS keeps the secret to itself', async (t) => {
        const { api, setup, folder } = await setUp(t);
        api.addEndpoint({ endpoint_url: URL_OF_HOST });
        api.hidesSecrets = true;

        const shown = await setup();
        assertFine(shown);
        assert.match(shown.stderr, /^authkitd: WorkOS didn't say the endpoint's secret/);
        assert.ok(!shown.stdout.includes('****'));
        const written = await setup([HOST, '--write', 'x.env']);
        assert.equal(written.code, 1);
        assert.ok(!fs.existsSync(path.join(folder, 'x.env')));
        for (const text of ['WORKOS_WEBHOOK_SECRET=\n', 'WORKOS_API_KEY=sk_1\n']) {
            writeFile(path.join(folder, 'y.env'), text);
            const none = await setup([HOST, '--write', 'y.env']);
            assert.equal(none.code, 1);
            assert.match(none.stderr, /^authkitd: WorkOS didn't say the endpoint's secret/);
            assert.equal(fs.readFileSync(path.join(folder, 'y.env'), 'utf8'), text);
        }
    });

    test('leaves the secret that the file has when WorkOS keeps it to itself', async (t) => {
        const { api, setup, endpoint, folder } = await setUp(t);
        const file = path.join(folder, 'x.env');
        const again = async (outcome) => {
            const run = await setup([HOST, '--write', 'x.env']);
            assertFine(run);
            assert.equal(run.stderr, '');
            assert.match(run.stdout, outcome);
            assert.match(
                run.stdout,
                /^secret {4}WorkOS didn't say it: the WORKOS_WEBHOOK_SECRET that stands in x\.env was left$/m,
            );
            assert.ok(!run.output.includes('whsec_'));
            assert.equal(
                fs.readFileSync(file, 'utf8'),
                `WORKOS_WEBHOOK_SECRET=${endpoint().secret}\n`,
            );
        };

        api.hidesSecrets = true;
        assertFine(await setup([HOST, '--write', 'x.env']));
        await again(/^nothing had to change/);
        endpoint().events = ['user.created'];
        await again(/^changed the webhook endpoint/);
    });

    test("doesn't take the secret of an old endpoint for that of one it has just made", async (t) => {
        const { api, setup, folder } = await setUp(t);
        const file = path.join(folder, 'x.env');

        writeFile(file, 'WORKOS_WEBHOOK_SECRET=whsec_of_another\n');
        api.hidesSecrets = true;
        api.fail(/^POST/, faults.cut());
        const run = await setup([HOST, '--write', 'x.env']);
        assert.equal(run.code, 1, run.output);
        assert.match(run.stderr, /^authkitd: WorkOS didn't say the endpoint's secret/);
        assert.equal(fs.readFileSync(file, 'utf8'), 'WORKOS_WEBHOOK_SECRET=whsec_of_another\n');
    });
});

describe("authkitd setup and WorkOS's emulator", () => {
    test('an endpoint made by it brings the events of the emulator', async (t) => {
        const emulator = await startEmulator(t);
        const folder = newFolder();
        const env = {
            WORKOS_API_KEY: emulator.apiKey,
            WORKOS_API_HOSTNAME: 'localhost',
            WORKOS_API_PORT: String(emulator.port),
            WORKOS_API_HTTPS: 'false',
        };
        const file = path.join(folder, '.env');
        // The server's address is known when it runs, its secret after setup: so it starts twice.
        const server = await startServer(t);
        const args = ['setup', server.url, '--handlers', server.handlersFile];
        const made = await runCommand([...args, '--write', file], { env });
        assertFine(made);
        assert.match(made.stdout, /^created the webhook endpoint/);
        for (const more of [[], ['--write', file]]) {
            const again = await runCommand([...args, ...more], { env });
            assertFine(again);
            assert.match(again.stdout, /^nothing had to change/);
        }

        // The emulator takes PUT for what WorkOS, and its SDK, call PATCH.
        fs.appendFileSync(
            server.handlersFile,
            '\nrequire("authkit").events { ["password_reset.created"] = function() end }\n',
        );
        const changed = await runCommand(args, { env });
        assertFine(changed);
        assert.match(changed.stdout, /password_reset\.created/);

        await server.stop();
        server.listen = new URL(server.url).host;
        server.env = { WORKOS_WEBHOOK_SECRET: undefined };
        server.args = ['--env-file', file];
        await server.start();
        const answer = await fetch(`${emulator.url}/user_management/users`, {
            method: 'POST',
            headers: {
                Authorization: `Bearer ${emulator.apiKey}`,
                'Content-Type': 'application/json',
            },
            body: JSON.stringify({ email: 'ada@example.com' }),
        });
        const user = await answer.json();
        const row = await until("the user's row", () => server.userRow(user));
        assert.equal(row.email, 'ada@example.com');
    });
});
