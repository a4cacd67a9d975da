// SPDX-License-Identifier: MIT
// More clients than threads, and more work than time: who has something to say is answered, who
// says nothing or too little costs nobody anything, and whatever is taken runs once.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import {
    atEnd,
    describe,
    inParallel,
    load,
    patience,
    randomness,
    sanitizer,
    sleep,
    test,
    until,
} from './lib/harness.js';
import { TODO_HANDLERS, binary, newServer, startServer } from './lib/server.js';
import { scrape } from './lib/prometheus.js';
import { RawConnection } from './lib/http.js';
import {
    ACTION_SECRET,
    WEBHOOK_SECRET,
    newEvent,
    newId,
    registrationAction,
    signature,
    userCreated,
} from './lib/workos.js';

const MEBIBYTE = 1024 * 1024;

/** As many connections as wanted, or as the limit on open files leaves to the server and to us. */
function affordable(t, wanted) {
    const [, limit] = /^Max open files +\S+ +(\d+)/m.exec(
        fs.readFileSync('/proc/self/limits', 'utf8'),
    ) ?? [, '1048576'];
    const count = Math.min(wanted, Number(limit) - 500);

    if (count < wanted) t.diagnostic(`${count} connections instead of ${wanted}: ulimit -n is low`);
    return count;
}

const openMany = (server, count) =>
    inParallel(50, Array.from({ length: count }), () =>
        RawConnection.open(server.url, { timeout: patience(120_000) }),
    );

describe('idle and trickling connections', () => {
    const EACH = load(1000, 250);
    const HONEST = 64;
    const ENOUGH = load(2000, 200);
    // A connection may hold 20 KiB of a request that has begun; 24 MiB is what a busy server takes
    // without them, and the rest is what the allocator doesn't give back at once.
    const MEMORY = 128 * MEBIBYTE;
    const HEAD = `POST /workos/webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n`;

    test(`${EACH} of each, and ${HONEST} honest senders: every answer 200, memory bounded, the trickling ones cut off`, async (t) => {
        const each = Math.floor(affordable(t, 2 * EACH + HONEST) / 2) - HONEST / 2;
        const server = await startServer(t);
        const idle = await openMany(server, each);
        const trickling = await openMany(server, each);
        const everyone = [...idle, ...trickling];
        atEnd(t, () => everyone.forEach((connection) => connection.close()));

        let sent = 0;
        const trickle = () => {
            const byte = HEAD[sent++ % HEAD.length];
            for (const connection of trickling) if (!connection.closed) connection.send(byte);
        };
        trickle();
        const timer = setInterval(trickle, 1000);
        atEnd(t, () => clearInterval(timer));

        const client = server.newClient({ connections: HONEST });
        const delivered = [];
        let isOver = false;
        const senders = Array.from({ length: HONEST }, async () => {
            while (!isOver) {
                const event = userCreated();
                await server.deliver(event, { client });
                delivered.push(event);
                // The trickling ones are there for some seconds more, which needn't be so full.
                if (delivered.length > ENOUGH) await sleep(100);
            }
        });
        const broken = Promise.all(senders);
        broken.catch(() => (isOver = true));

        await until(
            'some honest traffic among them',
            () => isOver || delivered.length > ENOUGH,
            patience(20_000),
        );
        const resident = server.residentBytes();
        assert.ok(
            trickling.some(({ closed }) => !closed),
            'the memory was looked at while they were there',
        );
        await until(
            'the trickling ones to be cut off',
            () => isOver || trickling.every(({ closed }) => closed),
            patience(30_000),
        );
        isOver = true;
        await broken;
        clearInterval(timer);
        t.diagnostic(
            `${delivered.length} honest events, ${Math.round(resident / MEBIBYTE)} MiB resident`,
        );
        if (!sanitizer)
            assert.ok(resident < MEMORY, `${Math.round(resident / MEBIBYTE)} MiB are in use`);

        // They were told, if they were told anything, that it took them too long.
        for (const { received } of trickling.slice(0, 50))
            assert.match(received.toString(), /^(HTTP\/1\.1 408 |$)/);
        assert.ok(
            idle.every(({ closed }) => !closed),
            'who says nothing may stay',
        );
        assert.equal(server.count('workos_events'), delivered.length);
        assert.equal(server.count('todo_lists'), delivered.length);

        // An idle one may speak up, and new ones may come.
        for (const connection of [...idle.slice(0, 10), ...(await openMany(server, 10))]) {
            connection.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
            assert.equal((await connection.response(patience(10_000)))?.status, 200);
        }
    });
});

describe('few file descriptors', () => {
    // Symptom: strangers' connections took the last one, and a reload couldn't open its script.
    test('connections from the world leave some to the script, the database and the admin listener', async (t) => {
        const server = newServer(t, {});
        const limited = path.join(server.folder, 'limited');
        fs.writeFileSync(limited, `#!/bin/sh\nulimit -n 200\nexec ${binary} "$@"\n`, { mode: 0o755 });
        server.program = limited;
        await server.start();
        const [warning] = server.lines.filter((line) =>
            line.msg.startsWith('there may be fewer connections than usual'),
        );
        assert.equal(warning.connections, 100);
        await openMany(server, 400);
        for (let i = 0; i < 5; i++) {
            assert.equal((await server.reload(TODO_HANDLERS)).outcome, 'loaded');
            assert.equal((await fetch(`${server.adminUrl}/readyz`)).status, 200);
            await server.deliver(userCreated());
        }
    });
});

describe('more work than time', () => {
    const COUNT = load(3000, 1000);
    const SLOW = 8; // one of so many is slow
    const handlers = `
        local authkit = require "authkit"
        authkit.schema { runs = { columns = { event_id = "text" } } }
        authkit.events {
          ["test.run"] = function(ctx, event)
            ctx.db.insert("runs", { event_id = event.id })
            local stop = ctx.now() + event.data.takes_ms
            while ctx.now() < stop do end
          end,
        }
        authkit.actions { user_registration = function(ctx, action, response) return response.allow() end }`;

    /** A signed request, byte for byte. */
    async function request(path, body, secret) {
        const text = JSON.stringify(body);
        return (
            `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n` +
            `Content-Length: ${Buffer.byteLength(text)}\r\n` +
            `WorkOS-Signature: ${await signature(text, { secret })}\r\n\r\n${text}`
        );
    }

    test(`${COUNT} deliveries at once: each is taken or told to come again, and runs once; an action goes first`, async (t) => {
        const random = randomness(t);
        const server = await startServer(t, { handlers });
        const count = affordable(t, COUNT);
        const events = Array.from({ length: count }, () =>
            newEvent('test.run', {
                object: 'test',
                id: newId('test'),
                takes_ms: random.below(SLOW) === 0 ? 20 : 0,
            }),
        );
        const requests = await Promise.all(
            events.map((event) => request('/workos/webhook', event, WEBHOOK_SECRET)),
        );
        const connections = await openMany(server, count);
        const [actor] = await openMany(server, 1);
        atEnd(t, () => [...connections, actor].forEach((connection) => connection.close()));
        const action = await request('/workos/action', registrationAction(), ACTION_SECRET);
        const decide = async () => {
            actor.send(action);
            const answer = await actor.response(patience(50_000));
            assert.equal(answer?.status, 200, answer?.text);
            assert.equal(JSON.parse(answer.text).payload.verdict, 'Allow');
        };

        let answered = 0;
        const answers = Promise.all(
            connections.map(async (connection, i) => {
                connection.send(requests[i]);
                const answer = await connection.response(patience(50_000));
                answered++;
                return answer;
            }),
        );
        await decide();
        const before = answered;
        let decided = 1;
        for (; answered < count; decided++) await decide();
        const taken = await answers;

        const again = events.filter((_, i) => taken[i]?.status === 503);
        t.diagnostic(
            `${again.length} told to come again; ${decided} actions meanwhile, ` +
                `the first when ${before} events were answered`,
        );
        for (const [i, answer] of taken.entries()) {
            assert.ok([200, 503].includes(answer?.status), `${events[i].id}: ${answer?.text}`);
            if (answer.status === 503) assert.match(answer.headers['retry-after'] ?? '', /^\d+$/);
        }
        assert.ok(before < count / 2, `an action waited behind ${before} events`);

        const client = server.newClient({ connections: 16 });
        for (let left = again; left.length > 0; ) {
            const results = await inParallel(16, left, (event) => server.post(event, { client }));
            left = left.filter((_, i) => results[i].status !== 200);
        }
        await until(
            'all of them to have run',
            () => server.row("SELECT count(*) FROM workos_events WHERE status = 'done'") === count,
            patience(40_000),
        );
        assert.deepEqual(
            server.rows('SELECT event_id FROM runs ORDER BY event_id').map((row) => row.event_id),
            events.map(({ id }) => id).sort(),
        );
    });
});

// A sanitizer's memory is not the program's own: it can't be limited.
if (!sanitizer)
    describe('memory that can’t be had', () => {
        // Symptom: the connection was cut, and nothing said or counted it.
        test('a large body is told to come again, and that is counted; it is taken when there is some', async (t) => {
            const server = await startServer(t, { args: ['--max-body', '64MiB'] });
            const large = newEvent('session.created', { id: newId('session'), x: 'y'.repeat(36 * MEBIBYTE) });
            const limitMemory = (limit) =>
                execFileSync('prlimit', ['--pid', String(server.child.pid), `--as=${limit}:unlimited`]);

            await server.deliver(userCreated());
            limitMemory(server.residentBytes('VmSize') + MEBIBYTE);
            // Who is still sending may find the connection closed before it has read the answer.
            const refused = await server.post(large).catch(() => undefined);
            if (refused) assert.equal(refused.status, 503, refused.text);
            if (refused) assert.match(refused.headers['retry-after'], /^\d+$/);
            const { value } = await scrape(server);
            assert.equal(value('authkitd_http_requests_total', { status: '503' }), 1);
            await server.deliver(userCreated());
            limitMemory('unlimited');
            await server.deliver(large);
            assert.equal(server.eventRow(large).status, 'done');
        });

        // Threads are started when they are first needed; then there may be no memory for their stacks.
        test('a thread that can’t be started is no harm: those that there are answer', async (t) => {
            const server = await startServer(t, {
                handlers: `
local authkit = require "authkit"
authkit.routes { ["GET /slow"] = function()
  local done_at = os.clock() + 0.05
  while os.clock() < done_at do end
  return "done"
end }`,
            });
            const limitMemory = (limit) =>
                execFileSync('prlimit', ['--pid', String(server.child.pid), `--as=${limit}:unlimited`]);
            const askAll = () =>
                Promise.all(
                    Array.from({ length: 40 }, async () => {
                        const response = await fetch(`${server.url}/slow`);
                        await response.arrayBuffer();
                        return response.status;
                    }),
                );

            await fetch(`${server.url}/slow`);
            limitMemory(server.residentBytes('VmSize'));
            for (const status of await askAll()) assert.ok([200, 503].includes(status), String(status));
            await server.waitForLog('cannot start another HTTP thread');
            await server.deliver(userCreated());
            limitMemory('unlimited');
            await server.deliver(userCreated());
            assert.ok((await askAll()).includes(200));
        });
    });
