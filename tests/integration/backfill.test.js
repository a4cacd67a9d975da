// SPDX-License-Identifier: MIT
// authkitd backfill: what was at WorkOS before authkitd was here, whatever happens meanwhile.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

import { WorkOS } from '@workos-inc/node';

import { startEmulator } from './lib/emulator.js';
import { faults, startFakeApi } from './lib/fake_api.js';
import {
    adopt,
    describe,
    inParallel,
    load,
    patience,
    randomness,
    sleep,
    test,
    until,
} from './lib/harness.js';
import { binary, cleanEnvironment, newServer, runCommand, startServer } from './lib/server.js';
import { isoTime, newUser, userCreated, userDeleted, userUpdated } from './lib/workos.js';

/** Counts every call, so that a second one of the same object is seen. */
const COUNTING = `
local authkit = require "authkit"

authkit.schema {
  calls = {
    columns = { event = "text", object = "text", id = "text", email = "text?", late = "boolean" },
    indexes = { { "object" } },
  },
}

local function count(ctx, event)
  ctx.db.insert("calls", {
    event = event.event, object = event.data.id, id = event.id, email = event.data.email,
    late = event.late,
  })
end

authkit.events {
  ["user.created"] = count,
  ["user.updated"] = count,
  ["user.deleted"] = count,
  ["organization.created"] = count,
  ["organization_membership.created"] = count,
  ["organization_membership.deleted"] = count,
  ["invitation.created"] = function(ctx, event)
    assert(event.data.token == nil and event.data.accept_invitation_url == nil)
    count(ctx, event)
  end,
}
`;

/** Users, organizations with members of every status, invitations. */
function fill(api, { users = 0, organizations = 0, invitations = 0 } = {}) {
    const old = '2025-01-01T00:00:00.000Z';
    const all = api.users.addExisting(users, (i) => ({
        email: `user${i}@example.com`,
        created_at: isoTime(Date.parse(old) + i * 1000),
    }));
    for (let i = 0; i < organizations; i++) {
        const organization = api.organizations.add(
            { name: `Acme ${i}`, created_at: old },
            { silent: true },
        ).data;
        api.memberships.addExisting(3, (j) => ({
            user_id: all[(i + j) % all.length].id,
            organization_id: organization.id,
            status: ['active', 'inactive', 'pending'][j],
            created_at: old,
        }));
    }
    api.invitations.addExisting(invitations, () => ({ created_at: old }));
    return all;
}

/** The poller stays out of it. */
const envOf = (api) => ({ ...api.env, AUTHKITD_POLL: 'off' });

const options = (server, args) => [
    'backfill',
    '--db',
    server.database,
    '--handlers',
    server.handlersFile,
    '--rate',
    '1000',
    ...args,
];

/** With a running server the environment is the server's. */
const backfill = (server, args = [], env = {}) =>
    runCommand(options(server, args), { env, timeout: patience(50_000) });

async function backfillWell(server, args, env) {
    const result = await backfill(server, args, env);
    assert.equal(result.code, 0, result.output + server.logTail());
    return result;
}

/** What the server says of its backfill: { run, state, … }. */
const progress = async (server) => (await fetch(`${server.adminUrl}/backfill`)).json();

/** The same as a command, not waited for: { child, output(), ended }. */
function startBackfill(server, args = [], env = {}) {
    const child = adopt(
        spawn(binary, options(server, args), {
            cwd: server.folder,
            env: cleanEnvironment(env),
            stdio: ['ignore', 'pipe', 'pipe'],
        }),
    );
    let output = '';
    for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => {
            output += text;
        });
    const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, output }));
    return { child, output: () => output, ended };
}

const TABLES = {
    users: 'workos_users',
    organizations: 'workos_organizations',
    memberships: 'workos_organization_memberships',
    invitations: 'workos_invitations',
};

function assertMirrorIsApi(server, api) {
    for (const [name, table] of Object.entries(TABLES)) {
        const rows = server.rows(`SELECT id, updated_at, raw FROM ${table} ORDER BY id`);
        const objects = [...api[name].values()].sort((a, b) => (a.id < b.id ? -1 : 1));
        assert.deepEqual(
            rows.map((row) => [row.id, row.updated_at]),
            objects.map((object) => [object.id, object.updated_at]),
            name,
        );
        for (const [i, row] of rows.entries()) {
            const expected = { ...objects[i] };
            for (const secret of ['token', 'accept_invitation_url'])
                if (expected[secret]) expected[secret] = null;
            assert.deepEqual(JSON.parse(row.raw), expected, name);
        }
    }
}

/** Of every object with a row, its creation's function ran once, and every event is done. */
function assertEachOnce(server, event, ids) {
    const calls = server.rows(
        'SELECT object, count(*) AS n FROM calls WHERE event = ? GROUP BY object',
        event,
    );
    assert.deepEqual(
        calls.filter((row) => row.n !== 1),
        [],
        `${event} twice`,
    );
    assert.deepEqual(calls.map((row) => row.object).sort(), [...ids].sort(), event);
}

function assertNothingLeft(server) {
    assert.deepEqual(server.rows("SELECT * FROM authkitd_state WHERE key GLOB 'backfill*'"), []);
    assert.deepEqual(
        server.rows("SELECT name FROM sqlite_schema WHERE name GLOB '*backfill*'"),
        [],
    );
}

const counts = (stdout) =>
    Object.fromEntries(
        [...stdout.matchAll(/^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$/gm)].map(
            ([, name, ...numbers]) => [name, numbers.map(Number)],
        ),
    );

describe('a backfill', () => {
    for (const place of ['in the running server', 'with no server running'])
        test(`brings all that WorkOS has, each function once: ${place}`, async (t) => {
            const api = await startFakeApi(t);
            const users = fill(api, { users: 250, organizations: 5, invitations: 120 });
            const isServed = place === 'in the running server';
            const server = newServer(t, { handlers: COUNTING, env: envOf(api) });

            if (isServed) await server.start();
            const first = await backfillWell(server, [], isServed ? {} : api.env);
            assert.deepEqual(counts(first.stdout), {
                users: [250, 0, 0, 0, 250, 0],
                organizations: [5, 0, 0, 0, 5, 0],
                memberships: [15, 0, 0, 0, 15, 0],
                invitations: [120, 0, 0, 0, 120, 0],
            });
            assertMirrorIsApi(server, api);
            assertEachOnce(server, 'user.created', api.users.keys());
            assertEachOnce(server, 'organization.created', api.organizations.keys());
            assertEachOnce(server, 'organization_membership.created', api.memberships.keys());
            assertEachOnce(server, 'invitation.created', api.invitations.keys());
            assertNothingLeft(server);
            const event = server.row(
                'SELECT id, status, created_at, payload FROM workos_events WHERE object_id = ?',
                users[7].id,
            );
            assert.equal(event.id, `backfill:${users[7].id}`);
            assert.equal(event.status, 'done');
            assert.equal(event.created_at, users[7].created_at);
            assert.deepEqual(JSON.parse(event.payload).data, users[7]);

            // Pages, oldest first, by cursor; memberships of every status, by organization.
            const pages = api.requestsTo('/user_management/users');
            assert.deepEqual(
                pages.map(({ query }) => query.toString()),
                [
                    'limit=100&order=asc',
                    `limit=100&order=asc&after=${users[99].id}`,
                    `limit=100&order=asc&after=${users[199].id}`,
                ],
            );
            const lists = api.requestsTo('/user_management/organization_memberships');
            assert.equal(lists.length, 5);
            for (const { query } of lists)
                assert.equal(query.get('statuses'), 'active,inactive,pending');
            assert.match(pages[0].userAgent, /^authkitd\/\S+ \(backfill\)$/);

            // Again: what has changed, and nothing else.
            api.users.update(users[0].id, { first_name: 'Grace' }, { silent: true });
            const second = await backfillWell(server, [], isServed ? {} : api.env);
            assert.deepEqual(counts(second.stdout).users, [0, 1, 249, 0, 0, 0]);
            assertMirrorIsApi(server, api);
            assert.equal(server.count('calls'), 250 + 5 + 15 + 120);
        });

    test('with --no-handlers the tables alone are filled', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 120, organizations: 2 });
        const server = await startServer(t, { handlers: COUNTING, env: envOf(api) });

        await backfillWell(server, ['--no-handlers']);
        assertMirrorIsApi(server, api);
        assert.equal(server.count('calls'), 0);
        assert.equal(server.count('workos_events'), 0);
        // They are not new any more.
        await backfillWell(server);
        assert.equal(server.count('calls'), 0);
    });

    test('a type that the script has no function for leaves no events', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 120, organizations: 2, invitations: 2 });
        const server = await startServer(t, { env: envOf(api) });

        await backfillWell(server);
        assertMirrorIsApi(server, api);
        assert.equal(server.count('todo_lists'), 120);
        assert.equal(server.count('workos_events'), 120);
    });

    test('a function that fails: its event heals with the next script', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 30 });
        const server = await startServer(t, {
            handlers: COUNTING.replace(
                'local function count(ctx, event)',
                `local function count(ctx, event)
                 if event.data.email:find("user1") then error("oops") end`,
            ),
            env: envOf(api),
        });

        const result = await backfillWell(server);
        assert.deepEqual(counts(result.stdout).users, [30, 0, 0, 0, 19, 11]);
        assert.match(result.stdout, /11 functions failed and run again by themselves/);
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status = 'failed'"), 11);
        await server.reload(COUNTING);
        await until('all events to be done', () => server.count('calls') === 30);
        assertEachOnce(server, 'user.created', api.users.keys());
    });
});

/** What comes meanwhile: in front of the answer to the second page of users. */
const beforeSecondPage = (api, action) =>
    api.before((request) => request.query.get('after') && request.path.endsWith('/users'), action);

describe('a backfill beside webhooks', () => {
    const start = async (t, users) => {
        const api = await startFakeApi(t);
        const all = fill(api, { users });
        const server = await startServer(t, { handlers: COUNTING, env: envOf(api) });
        return { api, all, server };
    };

    test("the creation's webhook came first", async (t) => {
        const { api, all, server } = await start(t, 10);

        await server.deliver(userCreated(all[3], { created_at: all[3].created_at }));
        const { stdout } = await backfillWell(server);
        assert.deepEqual(counts(stdout).users, [9, 0, 1, 0, 9, 0]);
        assertEachOnce(server, 'user.created', api.users.keys());
        assertMirrorIsApi(server, api);
    });

    test("the creation's webhook comes later: its function isn't run again", async (t) => {
        const { api, all, server } = await start(t, 10);

        await backfillWell(server);
        const late = userCreated(all[3]);
        await server.deliver(late);
        assert.equal(server.eventRow(late).status, 'done');
        assertEachOnce(server, 'user.created', api.users.keys());
    });

    test('changed, created and deleted while it goes on', async (t) => {
        const { api, all, server } = await start(t, 250);
        const created = [];

        beforeSecondPage(api, async () => {
            // Of the first page, which is here; of the second, which isn't; and of the third.
            for (const i of [5, 105, 205])
                await server.deliver(api.users.update(all[i].id, { first_name: 'Grace' }));
            for (const i of [6, 106, 206]) await server.deliver(api.users.remove(all[i].id));
            created.push(api.users.add({ email: 'new@example.com' }));
            await server.deliver(created[0]);
        });
        await backfillWell(server);
        assertMirrorIsApi(server, api);
        assertNothingLeft(server);
        // Those that a webhook of a later version brought were not new to the backfill any more.
        const ids = [...api.users.keys(), all[6].id].filter(
            (id) => id !== all[105].id && id !== all[205].id,
        );
        assertEachOnce(server, 'user.created', ids);
        assertEachOnce(server, 'user.updated', [5, 105, 205].map((i) => all[i].id));
        assertEachOnce(server, 'user.deleted', [6, 106, 206].map((i) => all[i].id));
    });

    test('the list is behind: neither the deleted nor an older version come back', async (t) => {
        const { api, all, server } = await start(t, 150);
        const newer = userUpdated(all[120], { first_name: 'Grace' });

        beforeSecondPage(api, async () => {
            // WorkOS's list still has them as they were.
            for (const i of [10, 110]) await server.deliver(userDeleted(all[i]));
            await server.deliver(newer);
        });
        const { stdout } = await backfillWell(server);
        assert.equal(counts(stdout).users[3], 1);
        for (const i of [10, 110]) assert.equal(server.userRow(all[i]), undefined);
        assert.equal(server.userRow(all[120]).first_name, 'Grace');
        await backfillWell(server);
        for (const i of [10, 110]) assert.equal(server.userRow(all[i]), undefined);
        assert.equal(server.userRow(all[120]).first_name, 'Grace');
    });

    test('the Events API tells of the same users at the same time', async (t) => {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 300 });
        for (const user of users.slice(0, 250))
            api.emit('user.created', user, { created_at: user.created_at });
        const server = await startServer(t, {
            handlers: COUNTING,
            env: { ...api.env, AUTHKITD_POLL: '1' },
        });
        const running = startBackfill(server);

        for (let i = 0; i < 20; i++) {
            api.users.add({ email: `new${i}@example.com` });
            await sleep(20);
        }
        assert.equal((await running.ended).code, 0);
        await until('everybody', () => server.count('workos_users') === 320);
        const last = api.users.add({ email: 'last@example.com' });
        await until('the last', () => server.userRow(last.data));
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.created', api.users.keys());
    });

    test('a new script meanwhile', async (t) => {
        const { api, server } = await start(t, 400);

        beforeSecondPage(api, async () => {
            const { outcome } = await server.reload(
                COUNTING.replace('local function count', '-- again\nlocal function count'),
            );
            assert.equal(outcome, 'loaded');
        });
        await backfillWell(server);
        assertEachOnce(server, 'user.created', api.users.keys());
    });

    test('webhooks are answered soon while slow functions run', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 20 });
        const server = await startServer(t, {
            handlers: COUNTING.replace(
                'local function count(ctx, event)',
                `local function count(ctx, event)
                 local stop = os.clock() + 0.06
                 while event.id:find("^backfill:") and os.clock() < stop do end`,
            ),
            env: envOf(api),
        });
        const running = startBackfill(server);
        let slowest = 0;

        await until('functions to run', () => server.count('calls') > 2);
        for (let i = 0; i < 10; i++) {
            const started = Date.now();
            await server.deliver(userCreated());
            slowest = Math.max(slowest, Date.now() - started);
            await sleep(50);
        }
        t.diagnostic(`slowest answer: ${slowest} ms`);
        assert.ok(slowest < patience(1500), `${slowest} ms`);
        assert.equal((await running.ended).code, 0);
        assert.equal(server.count('calls'), 30);
    });
});

describe('an interrupted backfill', () => {
    const misbehaviour = (random) =>
        [
            faults.status(500),
            faults.status(503),
            faults.rateLimited(0),
            faults.cut(),
            faults.reset(),
            faults.invalidJson(),
            faults.html(),
            faults.slow(1),
            faults.pageSize(7),
            faults.delay(100),
        ][random.below(10)];

    for (const victim of ['server', 'command', 'command without a server'])
        test(`goes on after kill -9 of the ${victim}, with WorkOS failing`, async (t) => {
            const random = randomness(t);
            const api = await startFakeApi(t);
            fill(api, { users: 600, organizations: 6, invitations: 50 });
            api.maxPageSize = 20;
            const server = newServer(t, {
                handlers: COUNTING,
                env: envOf(api),
            });
            const isAlone = victim === 'command without a server';
            const env = isAlone ? api.env : {};
            let kills = 0;

            if (!isAlone) await server.start();
            for (let round = 0; round < load(12, 5); round++) {
                for (let i = 0; i < 3; i++)
                    api.fail(() => random.below(8) === 0, misbehaviour(random));
                const last = isAlone ? 0 : (await progress(server)).run;
                const running = startBackfill(server, [], env);

                // A command that found no server would do the work itself, and own the database.
                if (victim === 'server')
                    await until('it to begin', async () => (await progress(server)).run > last);
                await sleep(random.below(load(500, 2500)));
                if (victim === 'server') {
                    await server.kill();
                    await server.start();
                } else {
                    running.child.kill('SIGKILL');
                }
                const { code, signal, output } = await running.ended;
                if (victim === 'server' && code !== 0)
                    assert.match(output, /authkitd backfill goes on where this one has come to/);
                kills += signal === 'SIGKILL' || (victim === 'server' && code === 1);
                if (victim === 'command')
                    await fetch(`${server.adminUrl}/backfill/stop`, {
                        method: 'POST',
                        headers: { 'Authkitd-Admin': '1' },
                    });
                if (!isAlone)
                    await until(
                        'the backfill to have ended',
                        async () => (await progress(server)).state !== 'running',
                    );
            }
            t.diagnostic(`${kills} kills`);
            api.heal();
            await backfillWell(server, [], env);
            assertMirrorIsApi(server, api);
            for (const [type, name] of [
                ['user', 'users'],
                ['organization', 'organizations'],
                ['organization_membership', 'memberships'],
                ['invitation', 'invitations'],
            ])
                assertEachOnce(server, `${type}.created`, api[name].keys());
            assert.deepEqual(server.rows("SELECT id FROM workos_events WHERE status <> 'done'"), []);
            assertNothingLeft(server);
        });

    test('that was cut off at its start tells that it may have begun, and goes on', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, { handlers: COUNTING, env: envOf(api) });
        const deaf = net.createServer((socket) => socket.once('data', () => socket.destroy()));

        deaf.listen(0, '127.0.0.1');
        await once(deaf, 'listening');
        t.after(() => deaf.close());
        const { code, output } = await backfill(server, [
            '--admin-listen',
            `127.0.0.1:${deaf.address().port}`,
        ]);
        assert.equal(code, 1, output);
        assert.match(output, /no answer from the server/);
        assert.match(output, /authkitd backfill goes on where this one has come to/);
    });

    test('goes on from its last page, not from the beginning', async (t) => {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 400, organizations: 2 });
        const server = newServer(t, { handlers: COUNTING });

        api.fail((request) => request.query.get('after') === users[199].id, faults.status(401));
        const first = await backfill(server, [], api.env);
        assert.equal(first.code, 1);
        assert.match(first.output, /is WORKOS_API_KEY right\?/);
        assert.match(first.output, /authkitd backfill goes on where this one has come to/);
        assert.equal(server.count('workos_users'), 200);
        api.requests.length = 0;
        const second = await backfillWell(server, [], api.env);
        assert.equal(api.requests[0].query.get('after'), users[199].id);
        assert.match(second.stdout, /since it was resumed/);
        assertMirrorIsApi(server, api);
    });

    test("begins its list anew when WorkOS doesn't know the cursor any more", async (t) => {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 400 });
        const server = newServer(t, { handlers: COUNTING });

        api.deletedCursor = 422;
        api.fail((request) => request.query.get('after') === users[199].id, faults.status(401));
        assert.equal((await backfill(server, [], api.env)).code, 1);
        api.users.remove(users[199].id);
        await backfillWell(server, [], api.env);
        assert.equal(server.count('workos_users'), 400); // the deletion's webhook hasn't come
        assertEachOnce(server, 'user.created', users.map((user) => user.id));
    });

    test('Ctrl-C stops it, also in the server, and says that it can be resumed', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        api.maxPageSize = 5;
        const server = await startServer(t, {
            handlers: COUNTING,
            env: envOf(api),
        });
        const running = startBackfill(server, ['--rate', '20']);

        await until('some users', () => server.count('workos_users') > 10);
        running.child.kill('SIGINT');
        const { code, output } = await running.ended;
        assert.equal(code, 1);
        assert.match(output, /stopped/);
        assert.match(output, /goes on where this one has come to/);
        const count = server.count('workos_users');
        await sleep(200);
        assert.equal(server.count('workos_users'), count);
        assert.ok(count < 300);
        await backfillWell(server);
        assertEachOnce(server, 'user.created', api.users.keys());
    });

    test('a server that stops ends it at once', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = await startServer(t, { env: envOf(api) });

        api.fail((request) => request.query.get('after'), faults.silent(), 100);
        const running = startBackfill(server);
        await until('the first page', () => server.count('workos_users') === 100);
        await server.stop(); // asserts that it took no longer than 5 s
        const { code, output } = await running.ended;
        assert.equal(code, 1);
        assert.match(output, /goes on where this one has come to/);
    });

    test('WorkOS is away: it keeps trying, says so, and gives up in the end', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = newServer(t, { handlers: COUNTING });
        const { env } = api;

        api.before(
            (request) => request.query.get('after'),
            () => setImmediate(() => api.close()),
        );
        const away = await backfill(server, ['--give-up', '6'], env);
        assert.equal(away.code, 1);
        assert.match(away.output, /waiting, \d+ s: /);
        assert.match(away.output, /given up after 6 s/);
        assert.match(away.output, /goes on where this one has come to/);

        const again = await startFakeApi(t);
        for (const [id, user] of api.users) again.users.set(id, user);
        await backfillWell(server, [], again.env);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.created', api.users.keys());
    });

    test('it goes on by itself when WorkOS is back', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = newServer(t, { handlers: COUNTING });

        api.fail((request) => request.query.get('after'), faults.status(503), 4);
        await backfillWell(server, [], api.env);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.created', api.users.keys());
    });
});

describe('what a backfill refuses', () => {
    test('a second one at the same time', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = await startServer(t, { env: envOf(api) });

        api.fail((request) => request.query.get('after'), faults.delay(1500));
        const running = startBackfill(server);
        await until('the first page', () => server.count('workos_users') === 100);
        const second = await backfill(server);
        assert.equal(second.code, 1);
        assert.match(second.stderr, /a backfill is running already/);
        assert.equal((await running.ended).code, 0);
        assert.equal(server.count('todo_lists'), 300);
    });

    test('no API key, here or in the server', async (t) => {
        const server = await startServer(t);
        const served = await backfill(server, [], { WORKOS_API_KEY: 'sk_of_the_command' });
        assert.equal(served.code, 1);
        assert.match(served.stderr, /the server has no WORKOS_API_KEY in its environment/);
        await server.stop();
        const alone = await backfill(server);
        assert.equal(alone.code, 1);
        assert.match(alone.stderr, /WORKOS_API_KEY isn't set/);
    });

    test('a wrong API key', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 3 });
        const server = newServer(t, { handlers: COUNTING });
        const result = await backfill(server, [], { ...api.env, WORKOS_API_KEY: 'sk_wrong' });
        assert.equal(result.code, 1);
        assert.match(result.stderr, /is WORKOS_API_KEY right\?/);
        assert.doesNotMatch(result.output, /sk_wrong/);
        assert.equal(api.requests.length, 1);
    });

    test('objects that are none: skipped, counted and logged', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, {
            handlers: COUNTING,
            env: envOf(api),
        });
        const good = [newUser(), newUser({ id: 'user_"quoted"' }), newUser({ id: 'user_\\' })];

        api.routes.set('GET /user_management/users', () => ({
            body: {
                object: 'list',
                data: [
                    null,
                    7,
                    'user',
                    [],
                    {},
                    good[0],
                    { ...newUser(), id: null },
                    { ...newUser(), id: 12 },
                    good[1],
                    { ...newUser(), id: '' },
                    { ...newUser(), id: `user_${'x'.repeat(300)}` },
                    { ...newUser(), object: 'organization' },
                    good[2],
                ],
                list_metadata: { after: null },
            },
        }));
        const { stdout } = await backfillWell(server);
        assert.match(stdout, /10 objects could not be used and were left out/);
        assert.deepEqual(counts(stdout).users, [3, 0, 0, 0, 3, 0]);
        assertEachOnce(server, 'user.created', good.map((user) => user.id));
        await until(
            'all of them in the log',
            () => server.log("backfill: an object can't be used").length === 10,
        );
    });

    test("a list that doesn't get on", async (t) => {
        const api = await startFakeApi(t);
        const user = newUser();
        const server = newServer(t, { handlers: COUNTING });

        api.routes.set('GET /user_management/users', () => ({
            body: { object: 'list', data: [user], list_metadata: { after: user.id } },
        }));
        const result = await backfill(server, [], api.env);
        assert.equal(result.code, 1);
        assert.match(result.stderr, /WorkOS's list doesn't get on/);
    });
});

describe('backfill --prune', () => {
    /** Everything is here; then some of it goes at WorkOS, and no webhook tells. */
    async function startStale(t, { handlers = COUNTING } = {}) {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 220, organizations: 3, invitations: 4 });
        const server = await startServer(t, {
            handlers,
            env: envOf(api),
        });
        await backfillWell(server);
        const gone = [users[0], users[101], users[219]];
        for (const user of gone) api.users.remove(user.id);
        const membership = [...api.memberships.values()][1];
        api.memberships.remove(membership.id);
        return { api, server, users, gone, membership };
    }

    const payloads = (server, user) =>
        server
            .rows('SELECT DISTINCT payload FROM workos_events WHERE user_id = ?', user.id)
            .map((row) => row.payload);

    test('without --yes and without a terminal: reported, and nothing is removed', async (t) => {
        const { server } = await startStale(t);

        const { stdout } = await backfillWell(server, ['--prune']);
        assert.match(stdout, /not at WorkOS any more: 3 users, 1 membership; authkitd backfill/);
        assert.equal(server.count('workos_users'), 220);
        assert.equal(server.count('authkitd_tombstones'), 0);
        assertNothingLeft(server);
    });

    test('with --yes: removed as by user.deleted, for good', async (t) => {
        const { api, server, gone, membership } = await startStale(t);

        const { stdout } = await backfillWell(server, ['--prune', '--yes']);
        assert.match(stdout, /removed, since WorkOS no longer has them: 4/);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
        assertEachOnce(server, 'organization_membership.deleted', [membership.id]);
        for (const user of gone) {
            const call = server.row(
                "SELECT * FROM calls WHERE event = 'user.deleted' AND object = ?",
                user.id,
            );
            assert.equal(call.id, `prune:${user.id}`);
            assert.equal(call.email, user.email);
            assert.deepEqual(payloads(server, user), [null]);
            await server.deliver(userCreated(user));
            await server.deliver(userDeleted(user)); // the one that was missed
            assert.equal(server.userRow(user), undefined);
        }
        assertNothingLeft(server);
        await backfillWell(server, ['--prune', '--yes']);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
    });

    test('with --no-handlers no function runs', async (t) => {
        const { api, server, gone } = await startStale(t);

        await backfillWell(server, ['--prune', '--yes', '--no-handlers']);
        assertMirrorIsApi(server, api);
        assert.equal(server.rows("SELECT * FROM calls WHERE event = 'user.deleted'").length, 0);
        assert.deepEqual(payloads(server, gone[0]), [null]);
    });

    for (const answer of ['y', 'n'])
        test(`on a terminal it asks: ${answer}`, async (t) => {
            if (spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0)
                return t.skip('no terminal can be made here (a chroot without /dev/pts)');
            const { api, server } = await startStale(t);
            const words = [binary, ...options(server, ['--prune'])].map((word) => `'${word}'`);
            const child = adopt(
                spawn('script', ['-qec', words.join(' '), '/dev/null'], {
                    cwd: server.folder,
                    env: cleanEnvironment(),
                    stdio: ['pipe', 'pipe', 'pipe'],
                }),
            );
            let output = '';
            child.stdout.setEncoding('utf8').on('data', (text) => {
                output += text;
            });
            const ended = once(child, 'close');
            await until('the question', () =>
                /not at WorkOS any more: 3 users, 1 membership\. Remove.*\[y\/N\]/.test(output),
            );
            assert.equal(server.count('workos_users'), 220);
            child.stdin.write(`${answer}\n`);
            const [code] = await ended;
            assert.equal(code, 0, output);
            if (answer === 'y') assertMirrorIsApi(server, api);
            else assert.match(output, /nothing was removed/);
            assert.equal(server.count('workos_users'), answer === 'y' ? 217 : 220);
            assertNothingLeft(server);
        });

    test('what came meanwhile stays, though it was not in the list', async (t) => {
        const { api, server, gone } = await startStale(t);
        const fresh = userCreated();

        // WorkOS's list doesn't show it yet; and one of the gone is heard of.
        beforeSecondPage(api, async () => {
            await server.deliver(fresh);
            await server.deliver(userUpdated(gone[0]));
        });
        await backfillWell(server, ['--prune', '--yes']);
        assert.ok(server.userRow(fresh.data));
        assert.ok(server.userRow(gone[0]));
        assert.equal(server.userRow(gone[1]), undefined);
    });

    test('survives kill -9 at any moment', async (t) => {
        const random = randomness(t);
        const { api, server, gone } = await startStale(t);

        api.maxPageSize = 20;
        for (let round = 0; round < load(8, 4); round++) {
            const running = startBackfill(server, ['--prune', '--yes']);
            await sleep(random.below(load(400, 2000)));
            await server.kill();
            await server.start();
            await running.ended;
        }
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
        assertNothingLeft(server);
    });

    test('after an interrupted run without --prune it lists all anew', async (t) => {
        const { api, server, gone } = await startStale(t);

        api.fail((request) => request.query.get('after'), faults.status(401));
        assert.equal((await backfill(server)).code, 1);
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
    });

    test('refused: the list is empty, or of others altogether', async (t) => {
        const { api, server } = await startStale(t);
        const kept = [...api.users];

        api.users.clear();
        api.users.sorted(); // the fake's own copy
        for (const [id] of kept) api.users.delete(id);
        const empty = await backfill(server, ['--prune', '--yes']);
        assert.equal(empty.code, 1);
        assert.match(empty.stderr, /220 users would be removed, but WorkOS listed none at all/);
        assert.equal(server.count('workos_users'), 220);

        fill(api, { users: 10 });
        const others = await backfill(server, ['--prune', '--yes']);
        assert.equal(others.code, 1);
        assert.match(others.stderr, /220 users would be removed, but WorkOS listed none of those/);
        assert.match(others.stderr, /WORKOS_API_KEY of the right environment/);
        assert.equal(server.count('workos_users'), 230);
        assertNothingLeft(server);
    });
});

describe('many users', () => {
    test('a long list: bounded memory, and a steady pace', async (t) => {
        const api = await startFakeApi(t);
        const count = load(20_000, 2000);
        fill(api, { users: count });
        const server = await startServer(t, {
            handlers: COUNTING,
            env: envOf(api),
        });

        await server.deliver(userCreated());
        const before = server.residentBytes('VmHWM');
        const started = Date.now();
        await backfillWell(server);
        const ms = Date.now() - started;
        const grown = () => server.residentBytes('VmHWM') - before;
        t.diagnostic(`${count} users in ${ms} ms, ${Math.round(grown() / 2 ** 20)} MiB more`);
        assert.equal(server.count('workos_users'), count + 1);
        assert.equal(server.count('calls'), count + 1);
        await backfillWell(server, ['--prune']); // those ids are in the database
        if (load(true, false)) assert.ok(grown() < 48 * 2 ** 20, `${grown()} bytes`);
    });

    test('--rate is kept', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 600 });
        const server = newServer(t, { handlers: COUNTING });
        await backfillWell(server, ['--rate', '10'], api.env);
        const times = api.requests.map((request) => request.at);
        assert.ok(times.at(-1) - times[0] >= 90 * (times.length - 1), `${times}`);
    });
});

describe("a backfill from WorkOS's emulator", () => {
    test('users, organizations, members and invitations made through the SDK', async (t) => {
        const server = newServer(t, { handlers: COUNTING });
        const emulator = await startEmulator(t);
        const workos = new WorkOS(emulator.apiKey, {
            apiHostname: 'localhost',
            port: emulator.port,
            https: false,
        });
        const env = {
            WORKOS_API_KEY: emulator.apiKey,
            WORKOS_API_HOSTNAME: 'localhost',
            WORKOS_API_PORT: String(emulator.port),
            WORKOS_API_HTTPS: 'false',
        };
        const users = await inParallel(
            8,
            Array.from({ length: 130 }, (_, i) => `user${i}@example.com`),
            (email) => workos.userManagement.createUser({ email }),
        );
        const acme = await workos.organizations.createOrganization({ name: 'Acme' });
        const membership = await workos.userManagement.createOrganizationMembership({
            organizationId: acme.id,
            userId: users[0].id,
        });
        const invitation = await workos.userManagement.sendInvitation({ email: 'i@example.com' });
        const listed = async () => {
            const list = await workos.userManagement.listUsers();
            return new Map((await list.autoPagination()).map((user) => [user.id, user.updatedAt]));
        };
        const mirrored = () =>
            new Map(
                server
                    .rows('SELECT id, updated_at FROM workos_users')
                    .map((row) => [row.id, row.updated_at]),
            );
        const assertSame = async () => {
            const expected = await listed();
            assert.deepEqual([...mirrored()].sort(), [...expected].sort());
        };

        await backfillWell(server, [], env);
        await assertSame();
        for (const [table, object] of [
            ['workos_organizations', acme],
            ['workos_organization_memberships', membership],
            ['workos_invitations', invitation],
        ])
            assert.equal(server.rows(`SELECT id FROM ${table} WHERE id = ?`, object.id).length, 1);
        assert.doesNotMatch(server.row('SELECT raw FROM workos_invitations'), /"token":"/);
        assertEachOnce(server, 'user.created', [...mirrored().keys()]);

        await workos.userManagement.updateUser({ userId: users[1].id, firstName: 'Grace' });
        await workos.userManagement.deleteUser(users[2].id);
        await backfillWell(server, ['--prune', '--yes'], env);
        await assertSame();
        assertEachOnce(server, 'user.deleted', [users[2].id]);
    });
});
