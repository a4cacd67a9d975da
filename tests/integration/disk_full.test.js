// SPDX-License-Identifier: MIT
// A full disk: webhooks are put off with 503, everything that needs no room is answered, and when
// there is room again all goes on by itself. The disk is a small tmpfs; where none may be mounted
// (that takes root) these tests are skipped. Those of a limit on the size of files take nothing.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import { atEnd, describe, load, patience, sleep, test, until } from './lib/harness.js';
import { scrape } from './lib/prometheus.js';
import { SECRETS, binary, cleanEnvironment, newFolder, newServer } from './lib/server.js';
import { registrationAction, userCreated } from './lib/workos.js';

const HANDLERS = `
local authkit = require "authkit"
authkit.schema { visits = { columns = { event_id = "text" } } }
authkit.events {
  ["user.created"] = function(ctx, event)
    ctx.db.insert("visits", { event_id = event.id })
  end,
}
authkit.actions {
  user_registration = function(ctx, action, response)
    if action.user_data.email:find("@gmail%.com$") then
      return response.deny("Gmail accounts are not allowed")
    end
    return response.allow()
  end,
}
authkit.routes {
  ["GET /visits"] = function(ctx) return { count = ctx.db.query("visits"):count() } end,
  ["POST /visits"] = function(ctx, request)
    ctx.db.insert("visits", { event_id = ("x"):rep(100000) })
    return 201, { done = true }
  end,
}`;

const PAGE = Buffer.alloc(4096);

class SmallDisk {
    constructor(folder) {
        this.folder = folder;
        this.filler = path.join(folder, 'filler');
    }

    /** Write until not a page more goes onto it. */
    fill() {
        const file = fs.openSync(this.filler, 'a');
        try {
            for (;;) fs.writeSync(file, PAGE);
        } catch (error) {
            assert.equal(error.code, 'ENOSPC');
        } finally {
            fs.closeSync(file);
        }
    }

    free() {
        fs.rmSync(this.filler);
    }
}

/** null, and the test is skipped, when it can't be mounted. */
function mountSmallDisk(t) {
    const folder = newFolder();
    const options = ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', folder];

    try {
        execFileSync('mount', options, { stdio: ['ignore', 'ignore', 'pipe'] });
    } catch (error) {
        t.skip(`no file system can be mounted: ${String(error.stderr ?? error).trim()}`);
        return null;
    }
    atEnd(t, () => execFileSync('umount', [folder]));
    return new SmallDisk(folder);
}

/** A server that runs on a small disk, with two users already. */
async function startOnSmallDisk(t) {
    const disk = mountSmallDisk(t);
    if (!disk) return {};
    const server = newServer(t, { handlers: HANDLERS });

    server.database = path.join(disk.folder, 'authkitd.db');
    await server.start();
    for (let i = 0; i < 2; i++) await server.deliver(userCreated());
    return { disk, server };
}

/**
 * Fill the disk until an event is refused, and return that one. What the server has room for
 * within its own files, or makes by emptying its WAL, is used up on the way.
 */
async function fillUp(disk, server) {
    for (let tries = 0; tries < 100; tries++) {
        const event = userCreated();
        disk.fill();
        const answer = await server.post(event);
        if (answer.status === 200) continue;
        assertRefused(answer);
        return event;
    }
    assert.fail('the disk is full, and events are taken all the same');
}

function assertRefused(answer) {
    assert.equal(answer.status, 503, answer.text);
    assert.equal(answer.json().error.code, 'disk_full');
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
}

function assertDecided(answer, verdict) {
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.json().payload.verdict, verdict);
    assert.match(answer.json().signature, /^[0-9a-f]{64}$/);
}

const GMAIL = { email: 'someone@gmail.com' };

async function assertAnswersWithoutRoom(server) {
    assertDecided(await server.act(registrationAction()), 'Allow');
    assertDecided(await server.act(registrationAction(GMAIL)), 'Deny');
    assert.equal((await server.client.request('GET', '/healthz')).status, 200);
}

/** All of these are there, once, with what their function wrote. */
function assertStoredOnce(server, events) {
    const counts = (sql) => new Map(server.rows(sql).map(({ id, n }) => [id, n]));
    const stored = counts('SELECT id, count(*) AS n FROM workos_events GROUP BY id');
    const visits = counts('SELECT event_id AS id, count(*) AS n FROM visits GROUP BY event_id');

    for (const event of events) {
        assert.equal(stored.get(event.id), 1, `${event.id} is there`);
        assert.equal(visits.get(event.id), 1, `${event.id} has run once`);
    }
    assert.equal(server.count('visits'), server.count('workos_events'));
    assert.equal(server.count('workos_users'), server.count('workos_events'));
    assert.equal(server.row('PRAGMA integrity_check'), 'ok');
}

describe('a full disk', () => {
    test('puts webhooks off, and nothing else; room is noticed without a restart', async (t) => {
        const { disk, server } = await startOnSmallDisk(t);
        if (!disk) return;
        const { pid } = server.child;
        const refused = await fillUp(disk, server);

        await assertAnswersWithoutRoom(server);
        const before = server.count('workos_events');
        for (let i = 0; i < 5; i++) {
            disk.fill();
            assertRefused(await server.post(refused));
        }
        assert.equal(server.count('workos_events'), before, 'it can be read, too');
        assert.equal(server.row('PRAGMA integrity_check'), 'ok');

        disk.free();
        await server.deliver(refused);
        await server.deliver(refused);
        assertStoredOnce(server, [refused]);
        assert.equal(server.child.pid, pid);
    });

    test('puts routes that write off, and those that read are served', async (t) => {
        const { disk, server } = await startOnSmallDisk(t);
        if (!disk) return;
        const visit = () => server.client.request('POST', '/visits', { body: '{}' });
        await fillUp(disk, server);
        const before = server.count('visits');

        for (let i = 0; i < 5; i++) {
            disk.fill();
            assertRefused(await visit());
            const answer = await server.client.request('GET', '/visits');
            assert.equal(answer.status, 200, answer.text);
            assert.equal(answer.json().count, before);
        }
        disk.free();
        assert.equal((await visit()).status, 201);
        assert.equal((await server.client.request('GET', '/visits')).json().count, before + 1);
        assert.equal(server.row('PRAGMA integrity_check'), 'ok');
    });

    test('answers every action during a flood of webhooks', async (t) => {
        const { disk, server } = await startOnSmallDisk(t);
        if (!disk) return;
        await fillUp(disk, server);
        const client = server.newClient({ connections: 24 });
        const events = [];
        const taken = [];
        let refusals = 0;
        let over = false;

        async function flood() {
            while (!over) {
                const event = userCreated();
                events.push(event);
                const answer = await server.post(event, { client });
                if (answer.status === 200) {
                    taken.push(event); // the server has emptied its WAL
                } else {
                    assertRefused(answer);
                    refusals++;
                }
            }
        }
        const floods = Array.from({ length: 16 }, flood);
        const failed = Promise.all(floods);
        failed.catch(() => (over = true));
        for (let i = 0; i < load(200, 40) && !over; i++) {
            await assertAnswersWithoutRoom(server);
            if (i % 20 === 0) disk.fill();
        }
        over = true;
        await failed;
        t.diagnostic(`${refusals} refused, ${taken.length} taken`);
        assert.ok(refusals > load(200, 20));

        disk.free();
        for (const event of events.slice(-10)) await server.deliver(event);
        assertStoredOnce(server, [...taken, ...events.slice(-10)]);
    });

    // Symptom: nothing told that a disk was full no longer, and whoever relied on /readyz to send traffic
    // again would have waited for ever, since only traffic showed that there was room.
    test('is told by /readyz, /metrics and the log, and so is its end, though nobody comes', async (t) => {
        const { disk, server } = await startOnSmallDisk(t);
        if (!disk) return;
        const ready = async () => {
            const answer = await fetch(`${server.adminUrl}/readyz`);
            return { http: answer.status, ...(await answer.json()) };
        };
        const isFull = async () => (await scrape(server)).value('authkitd_disk_full');

        assert.equal((await ready()).http, 200);
        await fillUp(disk, server);
        disk.fill();
        const full = await ready();
        assert.equal(full.http, 503);
        assert.equal(full.status, 'trouble');
        assert.equal(full.error.code, 'disk_full');
        assert.match(full.problems[0], /^the disk has been full since 20\S+Z: nothing can be stored/);
        assert.equal(await isFull(), 1);
        const told = server.lines.filter(({ msg }) => msg.startsWith('the disk is full'));
        assert.equal(told.length, 1);
        assert.equal(told[0].level, 'error');
        assert.deepEqual(server.log('there is room on the disk again'), []);

        disk.free();
        await server.waitForLog('there is room on the disk again');
        assert.equal((await ready()).http, 200);
        assert.equal(await isFull(), 0);
        await until(
            'what was tried to be gone',
            () => server.row("SELECT count(*) FROM authkitd_state WHERE key = 'room'") === 0,
        );
        await server.deliver(userCreated());
    });

    test('and kill -9, and a start on the full disk: nothing is lost, nothing is there twice', async (t) => {
        const { disk, server } = await startOnSmallDisk(t);
        if (!disk) return;
        const taken = [];

        for (let round = 0; round < load(5, 3); round++) {
            const refused = [await fillUp(disk, server)];
            const client = server.newClient({ connections: 8 });
            const senders = Array.from({ length: 8 }, async () => {
                for (;;) {
                    const event = userCreated();
                    const answer = await server.post(event, { client }).catch(() => null);
                    if (answer?.status === 200) taken.push(event);
                    else refused.push(event);
                    if (!answer) return;
                }
            });
            await sleep(patience(100));
            await server.kill();
            await Promise.all(senders);
            // A power cut would take the WAL's shared memory along, and leave no room for another.
            if (round % 2 === 1) fs.rmSync(`${server.database}-shm`);
            disk.fill();
            const failure = await server.start().then(
                () => null,
                (error) => error,
            );
            assert.equal(failure !== null, round % 2 === 1, failure?.message);
            if (failure) {
                assert.match(failure.message, /authkitd\.db/);
                assert.match(failure.message, /No space left on device|disk is full/);
                await server.ended;
                disk.free();
                await server.start();
            } else {
                await assertAnswersWithoutRoom(server);
                disk.free();
            }
            for (const event of refused.slice(-5)) await server.deliver(event);
            taken.push(...refused.slice(-5));
            assertStoredOnce(server, taken);
        }
    });

    test('that is full from the start is named, with the file', async (t) => {
        const disk = mountSmallDisk(t);
        if (!disk) return;
        const server = newServer(t, { handlers: HANDLERS });

        server.database = path.join(disk.folder, 'authkitd.db');
        disk.fill();
        await assert.rejects(server.start(), (error) => {
            assert.match(error.message, /authkitd\.db/);
            assert.match(error.message, /No space left on device|disk is full/);
            return true;
        });
        disk.free();
        await server.start();
        await server.deliver(userCreated());
    });
});

// Symptom: a write beyond the limit ended the server, by SIGXFSZ without a word, and else with an "I/O error".
describe('a limit on the size of files (ulimit -f)', () => {
    const limit = (server, size) =>
        execFileSync('prlimit', ['--pid', String(server.child.pid), `--fsize=${size}:`]);

    test('is a full disk: webhooks are put off, and go on when it is lifted', async (t) => {
        const server = newServer(t, { handlers: HANDLERS });
        await server.start();
        await server.deliver(userCreated());
        limit(server, fs.statSync(server.database).size);
        let answer, event;
        for (let tries = 0; tries < 1000 && answer?.status !== 503; tries++) {
            event = userCreated();
            answer = await server.post(event);
        }
        assertRefused(answer);
        await assertAnswersWithoutRoom(server);
        // A checkpoint that comes between makes room for some more: who is told 200 is stored.
        const taken = [];
        for (let i = 0; i < 5; i++) {
            const other = userCreated();
            const next = await server.post(other);
            if (next.status === 200) taken.push(other);
            else assertRefused(next);
        }

        limit(server, 'unlimited');
        await server.waitForLog('there is room on the disk again');
        await server.deliver(event);
        assertStoredOnce(server, [event, ...taken]);
    });

    test('from the start is named, with the file', () => {
        const folder = newFolder();
        const handlers = path.join(folder, 'handlers.lua');

        fs.writeFileSync(handlers, HANDLERS);
        const limited = ['-c', 'ulimit -f 16 && exec "$@"', 'sh', binary];
        const { status, signal, stderr } = spawnSync(
            'sh',
            [...limited, 'serve', '--handlers', handlers, '--listen', '127.0.0.1:0'],
            { cwd: folder, env: cleanEnvironment(SECRETS), encoding: 'utf8', timeout: 20_000 },
        );
        assert.deepEqual({ status, signal }, { status: 1, signal: null }, stderr);
        assert.match(stderr, /authkitd\.db': database or disk is full/);
    });
});
