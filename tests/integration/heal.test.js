// SPDX-License-Identifier: MIT
// What failed runs again: at once with a new script, else by the clock; each event once, and the
// events of an object in their order.

import assert from 'node:assert/strict';

import { describe, describeLogic, inParallel, load, patience, test, until } from './lib/harness.js';
import { runCommand, startServer, writeFile } from './lib/server.js';
import {
    isoTime,
    newEvent,
    newId,
    newUser,
    userCreated,
    userDeleted,
    userUpdated,
} from './lib/workos.js';

/** A script whose functions write down that they ran; `body` is Lua that may make them fail. */
const script = (body = '', types = ['test.one', 'test.two', 'user.created', 'user.updated']) => `
local authkit = require "authkit"
authkit.schema {
  runs = { columns = { event_id = "text", object_id = "text?", late = "boolean" } },
}
local function run(ctx, event)
  ctx.db.insert("runs", { event_id = event.id, object_id = event.data.id, late = event.late })
  ${body}
end
authkit.events {
${types.map((type) => `  ["${type}"] = run,`).join('\n')}
}`;

const BROKEN = script('if event.data.bad then error("bad is " .. tostring(event.data.bad)) end');
const FIXED = script();

const newObject = () => newId('test');
const newRun = (object, { type = 'test.one', ...fields } = {}) =>
    newEvent(type, { object: 'test', id: object ?? newObject(), ...fields });
const newBad = (object, fields) => newRun(object, { bad: true, ...fields });

const statusOf = (server, event) => server.eventRow(event).status;
const runsOf = (server, event) =>
    server.row('SELECT count(*) FROM runs WHERE event_id = ?', event.id);
/** The ids of the events whose function has run, in that order. */
const runsOfObject = (server, object) =>
    server
        .rows('SELECT event_id FROM runs WHERE object_id = ? ORDER BY _id', object)
        .map((row) => row.event_id);
const untilDone = (server, event, ms) =>
    until(`${event.id} to be done`, () => statusOf(server, event) === 'done', ms);
const untilNoneIs = (server, status, ms) =>
    until(
        `no event to be ${status}`,
        () => server.row('SELECT count(*) FROM workos_events WHERE status = ?', status) === 0,
        ms,
    );
const ids = (events) => events.map((event) => event.id);

const retry = (server, ...operands) =>
    runCommand(['retry', '--db', server.database, ...operands], { env: {} });

describe('an event whose function raises', () => {
    test('is failed, with the error, its line and the traceback; nothing it wrote is there', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const event = newBad();
        await server.deliver(event);
        const row = server.eventRow(event);
        const line = BROKEN.split('\n').findIndex((text) => text.includes('error(')) + 1;
        assert.equal(row.status, 'failed');
        assert.equal(row.attempts, 1);
        assert.ok(row.next_attempt_at > row.received_at);
        assert.match(row.last_error, new RegExp(`^[^\\n]*handlers\\.lua:${line}: bad is true\\n`));
        assert.match(row.last_error, /\nstack traceback:\n(.*\n)*.*handlers\.lua:\d+: in /);
        assert.deepEqual(JSON.parse(row.payload), event);
        assert.equal(server.count('runs'), 0);
        const logged = await server.waitForLog('event function failed');
        assert.equal(logged.id, event.id);
        assert.equal(logged.level, 'error');
        assert.match(logged.error, /bad is true/);
    });

    for (const [how, reload] of [
        ['SIGHUP', (server, text) => server.reload(text)],
        [
            'authkitd reload',
            async (server, text) => {
                writeFile(server.handlersFile, text);
                const { code, output } = await runCommand(['reload', '--db', server.database]);
                assert.equal(code, 0, output);
                assert.match(output, /failed events that run again now: 1$/m);
            },
        ],
    ]) {
        test(`runs at once, and once, with a fixed script (${how})`, async (t) => {
            const server = await startServer(t, { handlers: BROKEN });
            const event = newBad();
            await server.deliver(event);
            await reload(server, FIXED);
            await untilDone(server, event);
            const row = server.eventRow(event);
            assert.equal(row.next_attempt_at, null);
            assert.equal(row.last_error, null);
            assert.ok(row.attempts >= 1);

            // Neither a delivery nor another reload runs it again. That a second one heals says that
            // the upkeep has been at work since.
            const second = newBad();
            await server.deliver(event);
            await server.reload(BROKEN);
            await server.deliver(second);
            await server.reload(FIXED);
            await untilDone(server, second);
            assert.equal(runsOf(server, event), 1);
            assert.equal(runsOf(server, second), 1);
        });
    }

    test('stays failed with a script that is refused, and with one that is no better', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const event = newBad();
        await server.deliver(event);
        assert.equal((await server.reload('this is no Lua')).outcome, 'refused');
        assert.equal(server.eventRow(event).attempts, 1);
        await server.waitForLog('event function failed');
        const failures = () => server.log('event function failed').length;
        const before = failures();
        await server.reload(BROKEN + '\n-- no better');
        await until('it to fail again', () => failures() > before);
        // A new script counts anew.
        await until('the failure to be kept', () => server.eventRow(event).attempts === 1);
        assert.equal(statusOf(server, event), 'failed');
        assert.equal(server.count('runs'), 0);
    });

    test('runs after a restart, which loads the script, too', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const event = newBad();
        await server.deliver(event);
        await server.stop();
        writeFile(server.handlersFile, FIXED);
        await server.start();
        await untilDone(server, event);
        assert.equal(runsOf(server, event), 1);
    });

    test('that fails only sometimes is done in the end, once', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const events = Array.from({ length: 30 }, () => newBad());
        for (const event of events) await server.deliver(event);
        const sometimes = script('if math.random(2) == 1 then error("not today") end');
        await until(
            'all of them to be lucky',
            async () => {
                await server.reload(sometimes);
                return (
                    server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'") === 0
                );
            },
            patience(20_000),
        );
        for (const event of events) assert.equal(runsOf(server, event), 1);
    });
});

describe('the events of one object', () => {
    test('wait behind a failed one, of whatever type; those of others go through', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const object = newObject();
        const line = [
            newBad(object),
            newRun(object),
            newRun(object, { type: 'test.two' }),
            newRun(object),
        ];
        const other = newRun();
        const nameless = newEvent('test.one', { object: 'test' });
        const without = newRun(object, { type: 'test.nobody_cares' });
        for (const event of [...line, other, nameless, without]) await server.deliver(event);
        assert.deepEqual(
            line.map((event) => statusOf(server, event)),
            ['failed', 'waiting', 'waiting', 'waiting'],
        );
        for (const event of [other, nameless, without])
            assert.equal(statusOf(server, event), 'done', `${event.event} holds nobody up`);
        assert.equal(server.eventRow(line[1]).attempts, 0);
        assert.deepEqual(runsOfObject(server, object), []);
        assert.equal(runsOf(server, other), 1);

        await server.reload(FIXED);
        await untilDone(server, line.at(-1));
        assert.deepEqual(runsOfObject(server, object), ids(line));
        for (const event of line) assert.equal(statusOf(server, event), 'done');
    });

    test('keep their order when more arrive while the line moves', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const object = newObject();
        const line = [newBad(object)];
        await server.deliver(line[0]);
        for (let i = 0; i < load(150, 30); i++) {
            const event = newRun(object, { type: i % 2 ? 'test.one' : 'test.two' });
            await server.deliver(event);
            line.push(event);
        }
        const reloaded = server.reload(FIXED);
        for (let i = 0; i < load(150, 30); i++) {
            const event = newRun(object);
            await server.deliver(event);
            line.push(event);
        }
        await reloaded;
        await untilNoneIs(server, 'waiting', patience(20_000));
        await untilNoneIs(server, 'failed');
        assert.deepEqual(runsOfObject(server, object), ids(line));
    });

    test('the mirror does not wait', async (t) => {
        const server = await startServer(t, {
            handlers: script('if event.event == "user.created" then error("no") end'),
        });
        const created = userCreated();
        const updated = userUpdated(created.data, { email: 'newer@example.com' });
        await server.deliver(created);
        await server.deliver(updated);
        assert.equal(statusOf(server, created), 'failed');
        assert.equal(statusOf(server, updated), 'waiting');
        assert.equal(server.userRow(created.data).email, 'newer@example.com');
        await server.reload(FIXED);
        await untilDone(server, updated);
        assert.deepEqual(runsOfObject(server, created.data.id), [created.id, updated.id]);
    });

    test('a chain of failures in the middle of the line: it goes on from each as that is fixed', async (t) => {
        const fails = (...whats) =>
            script(
                `for _, what in ipairs { ${whats.map((what) => `"${what}"`).join(', ')} } do
                   if event.data.bad == what then error("bad " .. what) end
                 end`,
            );
        const server = await startServer(t, { handlers: fails('a', 'b', 'c') });
        const object = newObject();
        const line = [
            newRun(object),
            newRun(object, { bad: 'a' }),
            newRun(object),
            newRun(object, { bad: 'b' }),
            newRun(object, { bad: 'b' }),
            newRun(object, { bad: 'c' }),
            newRun(object),
        ];
        const statuses = () => line.map((event) => statusOf(server, event)).join(' ');
        for (const event of line) await server.deliver(event);
        assert.equal(statuses(), 'done failed waiting waiting waiting waiting waiting');
        await server.reload(fails('b', 'c'));
        await until(
            'the line to stand at the first b',
            () => statuses() === 'done done done failed waiting waiting waiting',
        );
        await server.reload(fails('c'));
        await until(
            'the line to stand at c',
            () => statuses() === 'done done done done done failed waiting',
        );
        assert.deepEqual(runsOfObject(server, object), ids(line.slice(0, 5)));
        await server.reload(fails('d'));
        await untilDone(server, line.at(-1));
        assert.deepEqual(runsOfObject(server, object), ids(line));
    });

    test('a server that is killed while lines wait goes on where it was', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const lines = Array.from({ length: load(40, 10) }, () => {
            const object = newObject();
            return [newBad(object), newRun(object), newRun(object), newRun(object)];
        });
        const client = server.newClient({ connections: 16 });
        await inParallel(16, lines, async (line) => {
            for (const event of line) await server.deliver(event, { client });
        });
        // The first of a line takes its time, so that the kill comes in the middle of it all.
        writeFile(
            server.handlersFile,
            script('local stop = ctx.now() + 2 while ctx.now() < stop do end'),
        );
        for (let kills = 0; kills < load(4, 2); kills++) {
            server.signal('SIGHUP');
            await until('some more to have run', () => server.count('runs') > 3 * kills);
            await server.kill();
            await server.start();
        }
        await untilNoneIs(server, 'waiting', patience(20_000));
        await untilNoneIs(server, 'failed');
        for (const line of lines)
            assert.deepEqual(runsOfObject(server, line[0].data.id), ids(line));
        assert.equal(server.row('PRAGMA integrity_check'), 'ok');
    });
});

describe('many failed events', () => {
    test('heal on one reload while new ones keep coming, all answered 200', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const objects = Array.from({ length: load(400, 60) }, newObject);
        const lines = objects.map((object) => [newBad(object), newRun(object)]);
        const client = server.newClient({ connections: 16 });
        await inParallel(16, lines, async (line) => {
            for (const event of line) await server.deliver(event, { client });
        });
        assert.equal(server.count('runs'), 0);

        let healed = false;
        const late = [];
        const busy = inParallel(8, Array.from({ length: 8 }), async () => {
            while (!healed) {
                const event = newRun(objects[late.length % objects.length]);
                late.push(event);
                await server.deliver(event, { client, timeout: patience(10_000) });
            }
        });
        await server.reload(FIXED);
        await until(
            'all that had failed to have run',
            () =>
                server.row("SELECT count(*) FROM workos_events WHERE status = 'failed'") === 0 &&
                lines.every((line) => statusOf(server, line[1]) === 'done'),
            patience(30_000),
        );
        healed = true;
        await busy;
        await untilNoneIs(server, 'waiting', patience(20_000));
        t.diagnostic(`${late.length} new events meanwhile`);
        assert.equal(server.count('runs'), 2 * objects.length + late.length);
        assert.equal(
            server.row('SELECT count(DISTINCT event_id) FROM runs'),
            2 * objects.length + late.length,
        );
        for (const line of lines)
            assert.deepEqual(runsOfObject(server, line[0].data.id).slice(0, 2), ids(line));
    });

    test('endless loops among them cost no webhook its answer', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const quick = Array.from({ length: 150 }, () => newBad());
        const endless = Array.from({ length: 30 }, () => newBad(undefined, { bad: 'loop' }));
        const client = server.newClient({ connections: 16 });
        for (const group of [quick, endless])
            await inParallel(16, group, (event) => server.deliver(event, { client }));

        await server.reload(script('if event.data.bad == "loop" then while true do end end'));
        const looped = () =>
            server.log('event function failed').filter((line) => /longer than/.test(line.error));
        let sent = 0;
        // Each of them waits for one loop at most, never for all the loops there are.
        while (looped().length < 2) {
            await server.deliver(newRun(), { timeout: patience(10_000) });
            sent++;
        }
        for (let i = 0; i < 20; i++, sent++)
            await server.deliver(newRun(), { timeout: patience(10_000) });
        for (const event of quick) await untilDone(server, event);
        assert.equal(server.count('runs'), quick.length + sent);
        // stop() wants it to end soon, loops or not.
        await server.stop();
    });
});

describeLogic('an event that fails 20 times', () => {
    /** It has failed 19 times, and its time has come: what a running server meets after hours. */
    async function makeFailOnceMore(server, event) {
        const changed = server.change(
            "UPDATE workos_events SET attempts = 19, next_attempt_at = 1 WHERE id = ? AND status = 'failed'",
            event.id,
        );
        assert.equal(changed, 1);
        // Another one that is put back to work makes the server look.
        const other = newBad();
        await server.deliver(other);
        const { code, output } = await retry(server, other.id);
        assert.equal(code, 0, output);
        await until(`${event.id} to be dead`, () => statusOf(server, event) === 'dead');
    }

    test('is dead, keeps its error, and holds its line no longer', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const object = newObject();
        const line = [newBad(object), newRun(object), newRun(object, { type: 'test.two' })];
        for (const event of line) await server.deliver(event);
        await makeFailOnceMore(server, line[0]);
        await untilDone(server, line[2]);
        const row = server.eventRow(line[0]);
        assert.equal(row.attempts, 20);
        assert.equal(row.next_attempt_at, null);
        assert.match(row.last_error, /bad is true/);
        assert.deepEqual(JSON.parse(row.payload), line[0]);
        assert.deepEqual(runsOfObject(server, object), ids(line.slice(1)));
        await until('the log to say so', () =>
            server.lines.some(
                (entry) =>
                    entry.level === 'error' && entry.id === line[0].id && /dead/.test(entry.msg),
            ),
        );
        // One that comes now runs at once.
        const next = newRun(object);
        await server.deliver(next);
        assert.equal(statusOf(server, next), 'done');
    });

    test('is left alone by a new script, and runs when it is retried: late', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const object = newObject();
        const first = newBad(object, {});
        const second = newRun(object);
        second.created_at = isoTime(Date.parse(first.created_at) + 1000);
        await server.deliver(first);
        await server.deliver(second);
        await makeFailOnceMore(server, first);
        await untilDone(server, second);
        const witness = newBad();
        await server.deliver(witness);
        await server.reload(FIXED);
        await untilDone(server, witness);
        assert.equal(statusOf(server, first), 'dead');

        const { code, output } = await retry(server, first.id);
        assert.equal(code, 0, output);
        await untilDone(server, first);
        assert.deepEqual(
            server.rows('SELECT event_id, late FROM runs WHERE object_id = ? ORDER BY _id', object),
            [
                { event_id: second.id, late: 0 },
                { event_id: first.id, late: 1 },
            ],
        );
    });
});

describeLogic('a failed event whose function the new script does not have any more', () => {
    test('is dead and says so; nothing is lost, and it runs when the function is back', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const object = newObject();
        const line = [newBad(object), newRun(object), newRun(object, { type: 'test.two' })];
        for (const event of line) await server.deliver(event);

        await server.reload(script('', ['test.two']));
        await untilDone(server, line[2]);
        for (const event of line.slice(0, 2)) {
            const row = server.eventRow(event);
            assert.equal(row.status, 'dead');
            assert.match(row.last_error, /no function for test\.one/);
            assert.deepEqual(JSON.parse(row.payload), event);
        }

        await server.reload(FIXED);
        const { code, output } = await retry(server, line[0].id, line[1].id);
        assert.equal(code, 0, output);
        await untilDone(server, line[0]);
        await untilDone(server, line[1]);
        assert.deepEqual(runsOfObject(server, object), ids([line[2], line[0], line[1]]));
    });
});

describeLogic("a deleted user's events", () => {
    const noUpdates = script(
        'if event.event ~= "user.created" then error("no: " .. event.data.email) end',
    );
    const kept = (server, event) => {
        const { payload, last_error } = server.eventRow(event);
        return { payload, last_error };
    };
    const NOTHING = { payload: null, last_error: null };

    test('that are failed or waiting are kept until they are done', async (t) => {
        const server = await startServer(t, { handlers: noUpdates });
        const user = newUser();
        const created = newEvent('user.created', user);
        const failed = userUpdated(user);
        const waiting = userUpdated(user, { updated_at: isoTime(Date.now() + 5000) });
        const deleted = userDeleted(user);
        for (const event of [created, failed, waiting, deleted]) await server.deliver(event);
        assert.deepEqual(kept(server, created), NOTHING);
        assert.deepEqual(kept(server, deleted), NOTHING);
        assert.deepEqual(JSON.parse(kept(server, failed).payload), failed);
        assert.deepEqual(JSON.parse(kept(server, waiting).payload), waiting);
        await server.reload(FIXED);
        await untilDone(server, waiting);
        assert.deepEqual(kept(server, failed), NOTHING);
        assert.deepEqual(kept(server, waiting), NOTHING);
        assert.deepEqual(runsOfObject(server, user.id), ids([created, failed, waiting]));
    });

    test('or dead', async (t) => {
        const server = await startServer(t, { handlers: noUpdates });
        const user = newUser();
        const events = [newEvent('user.created', user), userUpdated(user), userDeleted(user)];
        for (const event of events) await server.deliver(event);
        await server.reload(script('', ['user.created']));
        await until('it to be dead', () => statusOf(server, events[1]) === 'dead');
        for (const event of events) assert.deepEqual(kept(server, event), NOTHING);
        const { code, output } = await retry(server, events[1].id);
        assert.equal(code, 1);
        assert.match(output, /erased/);
    });
});
