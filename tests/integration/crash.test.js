// SPDX-License-Identifier: MIT
// kill -9 under load: what was acknowledged is there, once, with all its rows; what was not is
// there wholly or not at all.

import assert from 'node:assert/strict';

import { describe, load, patience, randomness, sleep, test } from './lib/harness.js';
import { startServer } from './lib/server.js';
import { userCreated, userUpdated } from './lib/workos.js';

const HANDLERS = `
local authkit = require "authkit"
authkit.schema {
  todo_lists = { columns = { name = "text", user_id = "text" }, indexes = { { "user_id" } } },
  visits = { columns = { user_id = "text", event_id = "text" } },
}
authkit.events {
  ["user.created"] = function(ctx, event)
    ctx.db.insert("todo_lists", { name = "first", user_id = event.data.id })
    ctx.db.insert("visits", { user_id = event.data.id, event_id = event.id })
    ctx.db.insert("todo_lists", { name = "second", user_id = event.data.id })
  end,
  ["user.updated"] = function(ctx, event)
    ctx.db.insert("visits", { user_id = event.data.id, event_id = event.id })
  end,
}`;

describe('kill -9', () => {
    test(`under load, ${load(8, 4)} times, at random moments`, async (t) => {
        const random = randomness(t);
        const server = await startServer(t, { handlers: HANDLERS });
        const acknowledged = [];
        const unanswered = [];
        let killed = false;

        async function sender(client) {
            let previous;
            while (!killed) {
                // Mostly new users, some changes to the one before.
                const event =
                    previous && random.below(4) === 0 ? userUpdated(previous) : userCreated();
                try {
                    const answer = await server.post(event, { client, timeout: patience(10_000) });
                    assert.equal(answer.status, 200, answer.text);
                    acknowledged.push(event);
                    previous = event.data;
                } catch (error) {
                    if (error instanceof assert.AssertionError) throw error;
                    assert.ok(
                        killed || !server.isRunning,
                        `a request broke while the server ran: ${error}`,
                    );
                    unanswered.push(event);
                    return;
                }
            }
        }

        for (let round = 0; round < load(8, 4); round++) {
            killed = false;
            const client = server.newClient({ connections: 32 });
            const senders = Array.from({ length: 32 }, () => sender(client));
            await sleep(patience(50) + random.below(400));
            server.signal('SIGKILL');
            killed = true;
            await server.ended;
            await Promise.all(senders);
            server.closeClients();
            await server.start();

            assert.equal(server.row('PRAGMA integrity_check'), 'ok');
        }
        t.diagnostic(`${acknowledged.length} acknowledged, ${unanswered.length} unanswered`);
        assert.ok(acknowledged.length > load(500, 50));

        const counted = (sql) => new Map(server.rows(sql).map(({ id, n }) => [id, n]));
        const events = counted('SELECT id, count(*) AS n FROM workos_events GROUP BY id');
        const visits = counted(
            'SELECT event_id AS id, count(*) AS n FROM visits GROUP BY event_id',
        );
        const lists = counted(
            'SELECT user_id AS id, count(*) AS n FROM todo_lists GROUP BY user_id',
        );
        const users = counted('SELECT id, count(*) AS n FROM workos_users GROUP BY id');

        for (const event of acknowledged) {
            assert.equal(events.get(event.id), 1, `the acknowledged ${event.id} is there`);
            assert.equal(visits.get(event.id), 1, `${event.id} has run once`);
            assert.equal(users.get(event.data.id), 1);
            assert.equal(lists.get(event.data.id), 2);
        }
        for (const event of unanswered) {
            const there = events.get(event.id) ?? 0;
            assert.equal(
                visits.get(event.id) ?? 0,
                there,
                `the unanswered ${event.id} is there wholly or not at all`,
            );
            if (event.event === 'user.created') {
                assert.equal(users.get(event.data.id) ?? 0, there);
                assert.equal(lists.get(event.data.id) ?? 0, 2 * there);
            }
        }
        assert.equal(events.size, visits.size, 'nothing else is there');

        // WorkOS delivers what was not acknowledged again.
        for (const event of unanswered) await server.deliver(event);
        for (const event of unanswered)
            assert.equal(server.row('SELECT count(*) FROM visits WHERE event_id = ?', event.id), 1);
    });

    test('in the middle of a function leaves nothing of it, and the event may come again', async (t) => {
        const server = await startServer(t, {
            handlers: `
                local authkit = require "authkit"
                authkit.schema { marks = { columns = { mark = "text" } } }
                authkit.events { ["user.created"] = function(ctx, event)
                  ctx.db.insert("marks", { mark = event.id })
                  if event.data.first_name == "slow" then
                    print("in the middle")
                    local stop = ctx.now() + 700
                    while ctx.now() < stop do end
                  end
                end }`,
        });
        const event = userCreated({ first_name: 'slow' });
        const request = server.post(event).catch(() => 'broken');
        await server.waitForLog('in the middle');
        await server.kill();
        assert.equal(await request, 'broken');
        await server.start();
        assert.equal(server.count('workos_events'), 0);
        assert.equal(server.count('marks'), 0);
        await server.deliver(event);
        assert.equal(server.count('workos_events'), 1);
    });
});
