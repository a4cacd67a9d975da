// SPDX-License-Identifier: MIT
// authkitd backfill: what was at WorkOS before authkitd was here, whatever happens meanwhile.

import assert from 'node:assert/strict';

import { WorkOS } from '@workos-inc/node';

import {
    COUNTING,
    assertEachOnce,
    assertMirrorIsApi,
    assertNothingLeft,
    backfill,
    backfillWell,
    beforeSecondPage,
    counts,
    envOf,
    fill,
    letTimePass,
    startBackfill,
} from './lib/backfill.js';
import { startEmulator } from './lib/emulator.js';
import { faults, startFakeApi } from './lib/fake_api.js';
import {
    describe,
    describeLogic,
    inParallel,
    load,
    patience,
    sleep,
    test,
    until,
} from './lib/harness.js';
import { newServer, startServer } from './lib/server.js';
import { newUser, userCreated, userDeleted, userUpdated } from './lib/workos.js';

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
            assert.equal(event.created_at, users[7].updated_at, 'when it became what it is');
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

    // Symptom: a function that leaves out what is late put older data over what the backfill had brought.
    test('an update from before it, which comes afterwards, is late', async (t) => {
        // With a clock of its own: at the real one the updates could be of one millisecond, and of one age.
        const api = await startFakeApi(t, { start: '2026-01-12T20:17:47.000Z' });
        const [user] = fill(api, { users: 1 });
        const handlers = `
local authkit = require "authkit"
authkit.schema { names = { columns = { user_id = "text", name = "text?" }, indexes = { { "user_id", unique = true } } } }
local function write(ctx, event)
  if event.late then return end
  ctx.db.upsert("names", { "user_id" }, { user_id = event.data.id, name = event.data.first_name })
end
authkit.events { ["user.created"] = write, ["user.updated"] = write }`;
        const server = await startServer(t, { handlers, env: envOf(api) });
        const second = api.users.update(user.id, { first_name: 'second' });
        const third = api.users.update(user.id, { first_name: 'third' });
        const name = () => server.row('SELECT name FROM names');

        await backfillWell(server);
        assert.equal(name(), 'third');
        await server.deliver(second);
        assert.equal(name(), 'third');
        await server.deliver(third);
        const fourth = api.users.update(user.id, { first_name: 'fourth' });
        await server.deliver(fourth);
        assert.equal(name(), 'fourth');
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

describeLogic('what a backfill refuses', () => {
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

    test('a list that goes on with empty pages, for ever', async (t) => {
        const api = await startFakeApi(t);
        const server = newServer(t, { handlers: COUNTING });
        let page = 0;

        api.routes.set('GET /user_management/users', () => ({
            body: { object: 'list', data: [], list_metadata: { after: `user_${++page}` } },
        }));
        const result = await backfill(server, ['--rate', '100'], api.env);
        assert.equal(result.code, 1);
        assert.match(result.stderr, /WorkOS's list doesn't get on: 101 empty pages/);
    });

    test('a list that goes round in a circle', async (t) => {
        const api = await startFakeApi(t);
        const users = [newUser(), newUser(), newUser()];
        const server = newServer(t, { handlers: COUNTING });

        api.routes.set('GET /user_management/users', ({ query }) => {
            const user = users[(users.findIndex(({ id }) => id === query.get('after')) + 1) % 3];
            return { body: { object: 'list', data: [user], list_metadata: { after: user.id } } };
        });
        const result = await backfill(server, ['--rate', '20'], api.env);
        assert.equal(result.code, 1);
        assert.match(result.stderr, /WorkOS's list doesn't get on: its cursor is user_\w+ again/);
        assert.ok(api.requests.length < 12, `${api.requests.length} requests`);
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

describeLogic("a backfill from WorkOS's emulator", () => {
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
        letTimePass(server, 10 * 60 * 1000);
        await backfillWell(server, ['--prune', '--yes'], env);
        await assertSame();
        assertEachOnce(server, 'user.deleted', [users[2].id]);
    });
});
