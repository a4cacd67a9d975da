// SPDX-License-Identifier: MIT
// Every event id runs its function exactly once, however often and from however many sides it comes.

import assert from 'node:assert/strict';

import { describe, inParallel, load, randomness, test } from './lib/harness.js';
import { sharedServer } from './lib/server.js';
import { newEvent, newId, userCreated } from './lib/workos.js';

const COUNT = load(5_000, 1_000);
const CONNECTIONS = 64;

describe(`${COUNT} events over ${CONNECTIONS} connections`, () => {
    const server = sharedServer();
    const events = Array.from({ length: COUNT }, () => userCreated());
    let client;

    const assertExactly = (count) => {
        for (const table of ['workos_events', 'workos_users', 'todo_lists'])
            assert.equal(server.count(table), count, table);
        assert.equal(server.row('SELECT count(DISTINCT user_id) FROM todo_lists'), count);
        assert.equal(
            server.row(
                'SELECT count(*) FROM workos_users u JOIN todo_lists t ON t.user_id = u.id JOIN workos_events e ON e.object_id = u.id',
            ),
            count,
        );
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'"), 0);
    };

    test('are all answered 200 and leave exactly as many events, users and rows', async (t) => {
        client = server.newClient({ connections: CONNECTIONS });
        const started = Date.now();
        await inParallel(CONNECTIONS, events, (event) => server.deliver(event, { client }));
        t.diagnostic(
            `${Math.round((COUNT / (Date.now() - started)) * 1000)} requests a second, this client included`,
        );
        assertExactly(COUNT);
    });

    test('delivered twice more, in random order, change nothing', async (t) => {
        const again = randomness(t).shuffle([...events, ...events]);
        await inParallel(CONNECTIONS, again, (event) => server.deliver(event, { client }));
        assertExactly(COUNT);
    });

    test('are still exactly there after a restart, and still known', async (t) => {
        await server.restart();
        assertExactly(COUNT);
        const some = randomness(t)
            .shuffle(events)
            .slice(0, COUNT / 10);
        client = server.newClient({ connections: CONNECTIONS });
        await inParallel(CONNECTIONS, some, (event) => server.deliver(event, { client }));
        assertExactly(COUNT);
    });
});

describe('one event id from many sides at once', () => {
    const server = sharedServer({
        handlers: `
            local authkit = require "authkit"
            authkit.schema { runs = { columns = { event_id = "text" } } }
            authkit.events { ["test.run"] = function(ctx, event) ctx.db.insert("runs", { event_id = event.id }) end }`,
    });

    test('runs once, over 16 connections, again and again', async () => {
        const client = server.newClient({ connections: 16 });
        for (let i = 0; i < load(50, 10); i++) {
            const event = newEvent('test.run', { id: newId('test') });
            await Promise.all(Array.from({ length: 16 }, () => server.deliver(event, { client })));
            assert.equal(server.row('SELECT count(*) FROM runs WHERE event_id = ?', event.id), 1);
        }
    });

    test('in a mix of a few ids, everything at once', async (t) => {
        const client = server.newClient({ connections: CONNECTIONS });
        const events = Array.from({ length: 20 }, () =>
            newEvent('test.run', { id: newId('test') }),
        );
        const deliveries = randomness(t).shuffle(
            Array.from({ length: load(50, 10) }, () => events).flat(),
        );
        await inParallel(CONNECTIONS, deliveries, (event) => server.deliver(event, { client }));
        for (const event of events)
            assert.equal(server.row('SELECT count(*) FROM runs WHERE event_id = ?', event.id), 1);
    });
});
