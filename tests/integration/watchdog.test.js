// SPDX-License-Identifier: MIT
// A function that hangs where Lua can't interrupt it, or crashes the process: the process ends, and
// when it is started again the event is dead instead of ending it once more.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { startFakeApi } from './lib/fake_api.js';
import { describe, load, patience, sanitizer, test, until } from './lib/harness.js';
import { newServer, runCommand, startServer, writeFile } from './lib/server.js';
import {
    newEvent,
    newId,
    newUser,
    registrationAction,
    userDeleted,
    userUpdated,
} from './lib/workos.js';

/** Comparing equal long strings, inside one C function that never comes back to the interpreter. They are made
 * when the script is loaded, so that the function is at it before its limit. */
const STRINGS = `
local long = ("a"):rep(1000000)
local strings = {}
for i = 1, 100000 do strings[i] = long end`;
const HANG = `
print("hanging")
table.sort(strings)`;

const SLOW = 'print("in the middle") local stop = ctx.now() + 700 while ctx.now() < stop do end';

const script = (body) => `
local authkit = require "authkit"
${STRINGS}
authkit.schema { runs = { columns = { event_id = "text", object_id = "text" } } }
local function run(ctx, event)
  ctx.db.insert("runs", { event_id = event.id, object_id = event.data.id })
  ${body}
end
authkit.events { ["test.run"] = run, ["user.updated"] = run }
authkit.actions {
  user_registration = function(ctx, action, response)
    if action.user_data.first_name == "Hang" then ${HANG} end
    return response.allow()
  end,
}`;

const HANGING = script(`if event.data.what == "hang" then ${HANG} end
  if event.data.what == "slow" then ${SLOW} end
  if event.data.what == "fail" then error("it fails") end`);
const FIXED = script('');

// The process ends after ten times that; what a sanitizer slows down must still get through.
const LIMIT_MS = String(load(100, 200));
const ARGS = ['--handler-timeout', LIMIT_MS, '--action-timeout', LIMIT_MS];

const newRun = (what, id = newId('test')) => newEvent('test.run', { object: 'test', id, what });
const note = (server) => `${server.database}.watchdog`;
const statusOf = (server, event) => server.eventRow(event).status;
const runsOf = (server, event) =>
    server.row('SELECT count(*) FROM runs WHERE event_id = ?', event.id);

/** The signal that ends the process, without our sending another one. */
async function endedBy(server) {
    await until('the process to end', () => !server.isRunning, patience(30_000));
    server.closeClients();
    return (await server.ended).signal;
}

/** The process must end by itself, with an abort. */
async function untilAborted(server) {
    assert.equal(await endedBy(server), 'SIGABRT');
}

/** Send what ends the process; the request must not be answered. */
async function sendToTheEnd(server, request) {
    const answer = await request.catch(() => undefined);
    assert.equal(answer, undefined, `it was answered ${answer?.status}: ${answer?.text}`);
    await untilAborted(server);
}

describe('a function that hangs', () => {
    test('on delivery: abort; delivered again it is taken, and dead; the others live on', async (t) => {
        const server = await startServer(t, { handlers: HANGING, args: ARGS });
        const [before, hangs, behind, after] = [newRun(), newRun('hang'), newRun(), newRun()];
        await server.deliver(before);
        const request = server.post(hangs);
        await server.waitForLog('hanging');
        const inFlight = server.post(behind).catch(() => undefined);
        await sendToTheEnd(server, request);
        assert.equal(await inFlight, undefined, 'what was not committed was not acknowledged');

        const bite = server.lines.find((line) =>
            /hangs where Lua can't interrupt it/.test(line.msg),
        );
        assert.equal(bite.level, 'error');
        assert.equal(bite.event, 'test.run');
        assert.equal(bite.id, hangs.id);

        await server.start();
        const warning = server.lines.find((line) => /took the last process down/.test(line.msg));
        assert.equal(warning.level, 'warn');
        assert.equal(warning.id, hangs.id);
        for (const event of [behind, hangs, hangs, after]) await server.deliver(event);
        const row = server.eventRow(hangs);
        assert.equal(row.status, 'dead');
        assert.match(row.last_error, /could not be interrupted/);
        assert.deepEqual(JSON.parse(row.payload), hangs);
        assert.equal(runsOf(server, hangs), 0);
        for (const event of [before, behind, after]) {
            assert.equal(statusOf(server, event), 'done');
            assert.equal(runsOf(server, event), 1);
        }

        // Nothing of it is left for the next start.
        const warnings = () => server.lines.filter((line) => /took the last/.test(line.msg)).length;
        await server.restart();
        assert.equal(warnings(), 1);
        // With a script that is right it can run.
        await server.reload(FIXED);
        const { code, output } = await runCommand(['retry', '--db', server.database, hangs.id]);
        assert.equal(code, 0, output);
        await until('it to be done', () => statusOf(server, hangs) === 'done');
        assert.equal(runsOf(server, hangs), 1);
    });

    // Then it is the thread that has read the event which hangs, and not the writer's own.
    test('on delivery, after many that came alone: the same', async (t) => {
        const server = await startServer(t, { handlers: HANGING, args: ARGS });
        const hangs = newRun('hang');
        for (let i = 0; i < 20; i++) await server.deliver(newRun());
        await sendToTheEnd(server, server.post(hangs));
        await server.start();
        const warning = server.lines.find((line) => /took the last process down/.test(line.msg));
        assert.equal(warning.id, hangs.id);
        await server.deliver(hangs);
        assert.equal(statusOf(server, hangs), 'dead');
        assert.equal(server.count('runs'), 20);
    });

    test('is remembered when the event comes again only after another restart', async (t) => {
        const server = await startServer(t, { handlers: HANGING, args: ARGS });
        const hangs = newRun('hang');
        await sendToTheEnd(server, server.post(hangs));
        await server.start();
        await server.restart();
        await server.deliver(hangs);
        assert.equal(statusOf(server, hangs), 'dead');
    });

    test('on a retry: dead from the start, and those that waited behind it run', async (t) => {
        const server = await startServer(t, { handlers: HANGING, args: ARGS });
        const first = newRun('fail');
        const line = [first, newRun('', first.data.id), newRun('', first.data.id)];
        for (const event of line) await server.deliver(event);
        writeFile(server.handlersFile, script(`if event.data.what == "fail" then ${HANG} end`));
        server.signal('SIGHUP');
        await untilAborted(server);

        await server.start();
        assert.equal(statusOf(server, first), 'dead');
        assert.match(server.eventRow(first).last_error, /could not be interrupted/);
        await until('the line to move', () => statusOf(server, line[2]) === 'done');
        assert.deepEqual(
            server.rows('SELECT event_id FROM runs ORDER BY _id').map((row) => row.event_id),
            [line[1].id, line[2].id],
        );
    });

    test('on its arrival from the Events API, expected with --ordered: dead when that shows it again', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, {
            handlers: HANGING,
            args: [...ARGS, '--ordered'],
            env: api.env,
        });
        await until('the types to be known', () => api.requests.some(({ status }) => status === 200));
        const hangs = api.emit('test.run', { object: 'test', id: 'test_1', what: 'hang' });
        await server.deliver(hangs);
        await untilAborted(server);
        await server.start();
        await until('it to come again', () => statusOf(server, hangs) === 'dead', patience(20_000));
        assert.equal(runsOf(server, hangs), 0);
    });

    test("on a retry of a deleted user's event: nothing of that user is kept", async (t) => {
        const server = await startServer(t, { handlers: HANGING, args: ARGS });
        const user = newUser();
        const event = userUpdated(user, { what: 'fail' });
        await server.deliver(event);
        await server.deliver(userDeleted(user));
        assert.equal(statusOf(server, event), 'failed');
        writeFile(server.handlersFile, script(`if event.data.what == "fail" then ${HANG} end`));
        server.signal('SIGHUP');
        await untilAborted(server);
        await server.start();
        const { status, payload, last_error } = server.eventRow(event);
        assert.deepEqual(
            { status, payload, last_error },
            { status: 'dead', payload: null, last_error: null },
        );
    });

    test('in an action: abort; started again it works', async (t) => {
        const server = await startServer(t, { handlers: HANGING, args: ARGS });
        await sendToTheEnd(server, server.act(registrationAction({ first_name: 'Hang' })));
        const bite = server.lines.find((line) =>
            /hangs where Lua can't interrupt it/.test(line.msg),
        );
        assert.equal(bite.action, 'user_registration');
        await server.start();
        const warning = server.lines.find((line) => /took the last process down/.test(line.msg));
        assert.equal(warning.function, 'user_registration');
        assert.equal((await server.act(registrationAction())).status, 200);
        await server.deliver(newRun());
    });

    test('in a route that reads: abort, and no event that runs meanwhile is accused', async (t) => {
        const server = await startServer(t, {
            handlers: `${HANGING}\nauthkit.routes { ["GET /hang"] = function() ${HANG} end,
                ["GET /fine"] = function() return "fine" end }`,
            args: ARGS,
        });
        const hanging = server.client.request('GET', '/hang');
        await server.waitForLog('hanging');
        assert.equal((await server.client.request('GET', '/fine')).status, 200, 'nobody waits');
        await server.deliver(newRun());
        await sendToTheEnd(server, hanging);
        const bite = server.lines.find((line) =>
            /hangs where Lua can't interrupt it/.test(line.msg),
        );
        assert.equal(bite.route, 'GET /hang');
        await server.start();
        await server.waitForLog('took the last process down', 'GET /hang');
        assert.equal((await server.client.request('GET', '/fine')).text, 'fine');
        await server.deliver(newRun());
    });

    test('is not one that only takes too long: that one fails, and the process lives', async (t) => {
        const server = await startServer(t, {
            handlers: script('if event.data.what == "loop" then while true do end end'),
            args: ARGS,
        });
        const loop = newRun('loop');
        await server.deliver(loop);
        assert.equal(statusOf(server, loop), 'failed');
        await server.deliver(newRun());
        // Nobody takes twenty limits of waiting for a hang either.
        await server.waitForLog('"msg":"event function failed"', loop.id);
        assert.ok(server.isRunning);
    });
});

describe('a process that is ended while a function runs', () => {
    const started = async (t) => {
        const server = await startServer(t, {
            handlers: HANGING,
            args: ['--handler-timeout', '60000'],
        });
        const event = newRun('slow');
        const request = server.post(event).catch(() => undefined);
        await server.waitForLog('in the middle');
        return { server, event, request };
    };

    test('by kill -9 accuses nobody: the event comes again and runs', async (t) => {
        const { server, event, request } = await started(t);
        await server.kill();
        assert.equal(await request, undefined);
        await server.start();
        await server.deliver(event);
        assert.equal(statusOf(server, event), 'done');
        assert.equal(runsOf(server, event), 1);
        assert.equal(server.lines.filter((line) => /took the last/.test(line.msg)).length, 0);
    });

    test('by SIGABRT, as a supervisor whose own watchdog has lost patience does: the event is dead on its return', async (t) => {
        const { server, event, request } = await started(t);
        server.signal('SIGABRT');
        assert.equal(await endedBy(server), 'SIGABRT', 'it ends the process, at once');
        assert.equal(await request, undefined);
        await server.start();
        await server.deliver(event);
        const row = server.eventRow(event);
        assert.equal(row.status, 'dead');
        assert.match(row.last_error, /crashed/);
        const { code, output } = await runCommand(['retry', '--db', server.database, event.id]);
        assert.equal(code, 0, output);
        await until('it to be done', () => statusOf(server, event) === 'done');
        assert.equal(runsOf(server, event), 1);
    });

    test('by a SIGSEGV of another thread accuses nobody, and does end it', async (t) => {
        if (sanitizer) return t.skip('the sanitizer has a handler of its own for SIGSEGV');
        const { server, event, request } = await started(t);
        server.signal('SIGSEGV');
        assert.equal(await endedBy(server), 'SIGSEGV');
        assert.equal(await request, undefined);
        await server.start();
        await server.deliver(event);
        assert.equal(statusOf(server, event), 'done');
    });

    test('with no function running, by SIGABRT: nobody is accused', async (t) => {
        const server = await startServer(t, { handlers: HANGING });
        const event = newRun();
        await server.deliver(event);
        server.signal('SIGABRT');
        assert.equal(await endedBy(server), 'SIGABRT');
        await server.start();
        assert.equal(server.lines.filter((line) => /took the last/.test(line.msg)).length, 0);
        assert.equal(statusOf(server, event), 'done');
    });
});

describe('the note', () => {
    test('is for its owner alone to read', async (t) => {
        const server = await startServer(t, { handlers: HANGING });
        assert.equal(fs.statSync(note(server)).mode & 0o777, 0o600);
    });

    for (const [what, bytes] of [
        ['nothing', ''],
        ['random bytes', Buffer.from(Array.from({ length: 10_000 }, (_, i) => (i * 7919) % 256))],
        ['zeros', Buffer.alloc(4096)],
        ['lines without sense', 'x\n=\n==\nid\ntype\nreason=\n\nid=event_1\n'],
        ['one endless line', 'id='.padEnd(100_000, 'x')],
        [
            'an id that is too long',
            `id=${'x'.repeat(1000)}\ntype=test.run\nreason=${'y'.repeat(2000)}\n`,
        ],
        ['control characters', 'id=\u001b[2J\u0001\xff\ntype=\u0007\nreason=\u0000\n'],
    ])
        test(`with ${what} in it: the server starts, and works`, async (t) => {
            const server = newServer(t, { handlers: HANGING });
            fs.writeFileSync(note(server), bytes);
            await server.start();
            const event = newRun();
            await server.deliver(event);
            assert.equal(statusOf(server, event), 'done');
            await server.restart();
        });

    test('that cannot be read: the server says so, and does not start', async (t) => {
        const server = newServer(t, { handlers: HANGING });
        fs.mkdirSync(note(server));
        await assert.rejects(server.start(), (error) => {
            assert.match(error.message, /ended at its start/);
            assert.match(error.message, /authkitd\.db\.watchdog/);
            return true;
        });
        fs.rmdirSync(note(server));
        server.stray = [];
        await server.start();
    });

    test('about an event that is done already harms nothing', async (t) => {
        const server = await startServer(t, { handlers: HANGING });
        const event = newRun();
        await server.deliver(event);
        await server.stop();
        fs.writeFileSync(note(server), `id=${event.id}\ntype=test.run\nreason=x\n`);
        await server.start();
        await server.deliver(event);
        assert.equal(statusOf(server, event), 'done');
        assert.equal(runsOf(server, event), 1);
    });
});
