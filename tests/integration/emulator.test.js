// SPDX-License-Identifier: MIT
// WorkOS's own emulator in front, its official SDK on the other side: users are made, changed and
// deleted there, and the rows here follow.

import assert from 'node:assert/strict';

import {
    addWebhookEndpoint,
    emulatorEnv,
    emulatorSdk,
    signIn,
    startEmulator,
} from './lib/emulator.js';
import { describe, inParallel, load, test, until } from './lib/harness.js';
import { startServer } from './lib/server.js';

async function setUp(t) {
    const emulator = await startEmulator(t);
    const server = await startServer(t, { env: emulatorEnv(emulator) });
    await addWebhookEndpoint(emulator, server);
    const workos = emulatorSdk(emulator);
    return { server, workos, users: workos.userManagement };
}

describe("WorkOS's emulator and its SDK", () => {
    test('a user is created, changed and deleted through the SDK, and the rows follow', async (t) => {
        const { server, users } = await setUp(t);

        const created = await users.createUser({
            email: 'ada@example.com',
            firstName: 'Ada',
            lastName: 'Lovelace',
            emailVerified: true,
            externalId: 'ext_1',
            metadata: { plan: 'team' },
        });
        const row = await until("the user's row", () => server.userRow(created));
        assert.equal(row.email, 'ada@example.com');
        assert.equal(row.first_name, 'Ada');
        assert.equal(row.external_id, 'ext_1');
        assert.equal(row.email_verified, 1);
        assert.deepEqual(JSON.parse(row.metadata), { plan: 'team' });
        assert.equal(row.created_at, created.createdAt);
        assert.equal(
            server.row('SELECT name FROM todo_lists WHERE user_id = ?', created.id),
            "Ada's Todo List",
        );

        const updated = await users.updateUser({
            userId: created.id,
            firstName: 'Augusta Ada',
            metadata: { plan: 'solo' },
        });
        await until('the new name', () => server.userRow(created)?.first_name === 'Augusta Ada');
        assert.equal(server.userRow(created).updated_at, updated.updatedAt);
        assert.deepEqual(JSON.parse(server.userRow(created).metadata), { plan: 'solo' });

        await users.deleteUser(created.id);
        await until('the row to be gone', () => server.userRow(created) === undefined);
        assert.deepEqual(
            server
                .rows(
                    'SELECT event FROM workos_events WHERE object_id = ? ORDER BY event',
                    created.id,
                )
                .map((event) => event.event),
            ['user.created', 'user.deleted', 'user.updated'],
        );
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'"), 0);
    });

    test("many users at once: the mirror ends as WorkOS's own list", async (t) => {
        const { server, users } = await setUp(t);
        const count = load(100, 40);

        await inParallel(
            10,
            Array.from({ length: count }, (_, i) => i),
            async (i) => {
                const user = await users.createUser({
                    email: `user${i}@example.com`,
                    firstName: i % 3 ? `Name ${i}` : undefined,
                });
                if (i % 2) await users.updateUser({ userId: user.id, lastName: `Changed ${i}` });
                if (i % 5 === 0) await users.deleteUser(user.id);
            },
        );
        const expected = (await users.listUsers({ limit: 100 })).data;
        const deliveries = count + Math.floor(count / 2) + Math.ceil(count / 5);
        await until('every delivery', () => server.count('workos_events') === deliveries);

        const mirrored = new Map(
            server.rows('SELECT * FROM workos_users').map((row) => [row.id, row]),
        );
        assert.equal(mirrored.size, expected.length);
        for (const user of expected) {
            const row = mirrored.get(user.id);
            assert.ok(row, `${user.email} is there`);
            assert.deepEqual(
                [row.email, row.first_name, row.last_name, row.updated_at],
                [user.email, user.firstName, user.lastName, user.updatedAt],
            );
        }
        assert.equal(server.count('todo_lists'), count);
    });

    test("other objects' events are taken as well", async (t) => {
        const { server, workos } = await setUp(t);
        const organization = await workos.organizations.createOrganization({ name: 'Acme' });
        await until(
            "the organization's event",
            () =>
                server.rows(
                    "SELECT status FROM workos_events WHERE event = 'organization.created' AND object_id = ?",
                    organization.id,
                )[0]?.status === 'done',
        );
    });

    test('a token of the emulator is a user of ours, and nothing but its address is configured', async (t) => {
        const { server, workos, users } = await setUp(t);
        const ada = await users.createUser({ email: 'ada@example.com', firstName: 'Ada' });
        const grace = await users.createUser({ email: 'grace@example.com', firstName: 'Grace' });
        await until('the rows', () => server.count('workos_users') === 2);
        const whoIs = (token) =>
            server.client.request('GET', '/workos/user', {
                headers: { Authorization: `Bearer ${token}` },
            });

        for (const user of [ada, grace]) {
            const { accessToken, refreshToken } = await signIn(workos, user.email);
            const answer = await whoIs(accessToken);
            assert.equal(answer.status, 200, answer.text);
            assert.equal(answer.json().id, user.id);
            assert.equal(answer.json().email, user.email);
            assert.equal(answer.json().first_name, user.firstName);

            const again = await users.authenticateWithRefreshToken({ refreshToken });
            assert.notEqual(again.refreshToken, refreshToken);
            assert.equal((await whoIs(again.accessToken)).json().id, user.id);
        }

        const { accessToken } = await signIn(workos, ada.email);
        await users.deleteUser(ada.id);
        await until('the row to be gone', () => server.userRow(ada) === undefined);
        assert.equal((await whoIs(accessToken)).status, 404);
    });
});
