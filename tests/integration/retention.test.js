// SPDX-License-Identifier: MIT
// What is done is forgotten in time: first what it said, much later that it was there at all.

import assert from 'node:assert/strict';

import { describe, load, patience, test, until } from './lib/harness.js';
import { runCommand, startServer } from './lib/server.js';
import { newEvent, newId } from './lib/workos.js';

const DAY_MS = 24 * 3600 * 1000;

const script = (body) => `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text" } } }
authkit.events { ["test.run"] = function(ctx, event)
  ctx.db.insert("runs", { event_id = event.id })
  ${body}
end }`;

const BROKEN = script('if event.data.bad then error("bad") end');
const FIXED = script('');

const newRun = (fields) => newEvent('test.run', { object: 'test', id: newId('test'), ...fields });

const rowOf = (server, event) =>
    server.rows('SELECT status, payload FROM workos_events WHERE id = ?', event.id)[0];
const isEmptied = (server, event) => rowOf(server, event)?.payload === null;
const runsOf = (server, event) =>
    server.row('SELECT count(*) FROM runs WHERE event_id = ?', event.id);

/** As if it had come so many days ago. The server must rest. */
function age(server, event, days) {
    assert.equal(
        server.change(
            'UPDATE workos_events SET received_at = received_at - ? WHERE id = ?',
            days * DAY_MS,
            event.id,
        ),
        1,
    );
    setLastSweep(server, 0);
}

/** As if the last sweep had been so many days ago; the events may be older than it has seen. The server must rest. */
const setLastSweep = (server, days) =>
    server.change(
        "INSERT OR REPLACE INTO authkitd_state (key, value) VALUES ('retention_clock_ms', ?)",
        Date.now() - days * DAY_MS,
    );

/** Deliver events of these ages (in days), and start again: a start sweeps. */
async function startWithAges(t, ages, options = {}) {
    const server = await startServer(t, { handlers: FIXED, ...options });
    const events = ages.map(() => newRun());
    for (const event of events) await server.deliver(event);
    await server.stop();
    events.forEach((event, i) => age(server, event, ages[i]));
    await server.start();
    return { server, events };
}

describe('payloads of done events', () => {
    for (const [args, days] of [
        [[], 30],
        [['--retention', '7'], 7],
        [['--retention', '99'], 99],
    ])
        test(`older than ${days} days (${args.join(' ') || 'the default'}) are emptied, younger ones kept`, async (t) => {
            const { server, events } = await startWithAges(
                t,
                [days + 0.5, days - 0.5, 0, days + 0.2, 1],
                { args },
            );
            const [old, young, now, , yesterday] = events;
            // What stands behind a young one isn't looked at: events come in order of their times.
            await until('the old one to be emptied', () => isEmptied(server, old));
            for (const event of [young, now, yesterday])
                assert.deepEqual(JSON.parse(rowOf(server, event).payload), event);
            assert.equal(rowOf(server, old).status, 'done');
        });

    test('are emptied when it was failed, waiting or dead at the time of a sweep, and is done since', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const [failed, dead, done] = [newRun({ bad: true }), newRun({ bad: true }), newRun()];
        const waiting = newRun({ id: failed.data.id });
        for (const event of [failed, dead, waiting, done]) await server.deliver(event);
        await server.stop();
        for (const event of [failed, dead, waiting, done]) age(server, event, 40);
        server.change(
            "UPDATE workos_events SET status = 'dead', next_attempt_at = NULL WHERE id = ?",
            dead.id,
        );
        await server.start();
        await until('the done one to be emptied', () => isEmptied(server, done));
        for (const [event, status] of [
            [failed, 'failed'],
            [waiting, 'waiting'],
            [dead, 'dead'],
        ]) {
            assert.equal(rowOf(server, event).status, status);
            assert.deepEqual(JSON.parse(rowOf(server, event).payload), event, `${status} is kept`);
        }

        await server.reload(FIXED);
        const { code, output } = await runCommand(['retry', '--db', server.database, dead.id]);
        assert.equal(code, 0, output);
        const all = [failed, waiting, dead];
        await until('all to be done', () =>
            all.every((event) => rowOf(server, event).status === 'done'),
        );
        await server.restart();
        await until('all to be emptied', () => all.every((event) => isEmptied(server, event)));
    });

    test('with a time from the future, when a clock was wrong, do not keep others from it', async (t) => {
        const { server, events } = await startWithAges(t, [-4000, 40]);
        await until('the one behind it to be emptied', () => isEmptied(server, events[1]));
        assert.deepEqual(JSON.parse(rowOf(server, events[0]).payload), events[0]);
    });
});

describe('ids of events', () => {
    test('stay for 100 days, so that a repetition is still known; then they go', async (t) => {
        const { server, events } = await startWithAges(t, [101, 99, 40, 1]);
        const [ancient, old, middle, young] = events;
        await until('the oldest to go', () => rowOf(server, ancient) === undefined);
        await until('the others to be emptied', () => isEmptied(server, middle));
        assert.ok(isEmptied(server, old));
        for (const event of [old, middle, young]) {
            await server.deliver(event);
            assert.equal(runsOf(server, event), 1, 'a duplicate');
        }
        assert.ok(isEmptied(server, middle), 'and a repetition brings nothing back');
        await server.deliver(ancient);
        assert.equal(runsOf(server, ancient), 2, 'nobody knows it any more');
    });

    test('stay longer when payloads do', async (t) => {
        const { server, events } = await startWithAges(t, [201, 199, 101], {
            args: ['--retention', '200'],
        });
        await until('the oldest to go', () => rowOf(server, events[0]) === undefined);
        for (const event of events.slice(1))
            assert.deepEqual(JSON.parse(rowOf(server, event).payload), event);
    });

    test('stay when the clock is far ahead at a start, and the log tells', async (t) => {
        const server = await startServer(t, { handlers: FIXED });
        const event = newRun();
        await server.deliver(event);
        await server.stop();
        age(server, event, 101); // all that the server knows is as old as if the clock were ahead by so much
        setLastSweep(server, 101);
        await server.start();
        const told = await server.waitForLog('the clock is far ahead');
        assert.equal(told.days_ahead, 101);
        await server.deliver(event);
        assert.equal(runsOf(server, event), 1, 'a duplicate');
        assert.deepEqual(JSON.parse(rowOf(server, event).payload), event);
    });

    test('of failed, waiting and dead events never go, however many, and keep no other there', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const failed = newRun({ bad: true });
        const waiting = newRun({ id: failed.data.id });
        await server.deliver(failed);
        await server.deliver(waiting);
        await server.stop();
        for (const event of [failed, waiting]) age(server, event, 500);
        const insert = (prefix, count, status, days) =>
            server.change(
                `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
                 INSERT INTO workos_events
                   (id, event, object_id, received_at, status, attempts, payload, _created_us)
                 SELECT ? || i, 'test.old', ? || i, ?, ?, 1, '{}', 0 FROM n`,
                count,
                prefix,
                prefix,
                Date.now() - days * DAY_MS,
                status,
            );
        insert('dead_', 2500, 'dead', 400);
        insert('done_', 1500, 'done', 300);
        await server.start();
        const count = (prefix) =>
            server.row(`SELECT count(*) FROM workos_events WHERE id GLOB '${prefix}*'`);
        await until('all that are done to go', () => count('done_') === 0);
        assert.equal(count('dead_'), 2500);
        assert.equal(rowOf(server, failed).status, 'failed');
        assert.equal(rowOf(server, waiting).status, 'waiting');
    });
});

describe('a sweep', () => {
    const MANY = 20_000;

    test(`of ${MANY} events holds up no webhook`, async (t) => {
        const server = await startServer(t, { handlers: FIXED });
        await server.stop();
        server.change(
            `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
             INSERT INTO workos_events
               (id, event, object_id, received_at, status, attempts, payload, _created_us)
             SELECT 'old_' || i, 'test.old', 'o' || i, ?, 'done', 1,
               json_object('id', 'old_' || i, 'filling', hex(zeroblob(300))), 0 FROM n`,
            MANY,
            Date.now() - 40 * DAY_MS,
        );
        server.change(
            'UPDATE workos_events SET received_at = ? WHERE _seq <= 1000',
            Date.now() - 120 * DAY_MS,
        );
        setLastSweep(server, 0);
        await server.start();
        const left = () =>
            server.row(
                "SELECT count(*) FROM workos_events WHERE id GLOB 'old_*' AND payload NOT NULL",
            );
        let sent = 0;
        const client = server.newClient({ connections: 4 });
        await until(
            'all to be emptied',
            async () => {
                for (let i = 0; i < 20; i++, sent++)
                    await server.deliver(newRun(), { client, timeout: patience(10_000) });
                return left() === 0;
            },
            patience(30_000),
        );
        t.diagnostic(`${sent} webhooks answered meanwhile`);
        const told = await server.waitForLog('"info"', 'payloads_emptied');
        assert.equal(Number(told.payloads_emptied), MANY, 'of all pieces of the sweep');
        assert.equal(Number(told.events_removed), 1000);
        assert.equal(
            server.row("SELECT count(*) FROM workos_events WHERE id GLOB 'old_*'"),
            MANY - 1000,
        );
        assert.equal(server.count('runs'), sent);
        assert.equal(server.row('PRAGMA integrity_check'), 'ok');
    });

    test('finds what comes after everything had gone: numbers begin anew', async (t) => {
        const { server, events } = await startWithAges(
            t,
            Array.from({ length: load(50, 10) }, () => 200),
        );
        await until('all to go', () => server.count('workos_events') === 0);
        const fresh = events.map(() => newRun());
        for (const event of fresh) await server.deliver(event);
        await server.stop();
        assert.equal(server.row('SELECT min(_seq) FROM workos_events'), 1, 'as this test supposes');
        for (const event of fresh) age(server, event, 40);
        await server.start();
        await until('all to be emptied', () => fresh.every((event) => isEmptied(server, event)));
    });

    test('finds what comes after the last ones had gone, with older ones left', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const failed = newRun({ bad: true });
        const old = Array.from({ length: 20 }, () => newRun());
        for (const event of [failed, ...old]) await server.deliver(event);
        await server.stop();
        for (const event of [failed, ...old]) age(server, event, 200);
        await server.start();
        await until('the done ones to go', () => server.count('workos_events') === 1);
        const fresh = newRun();
        await server.deliver(fresh);
        await server.stop();
        age(server, fresh, 40);
        await server.start();
        await until('the new one to be emptied', () => isEmptied(server, fresh));
        assert.equal(rowOf(server, failed).status, 'failed');
    });
});

describe('--retention', () => {
    for (const days of ['3', '0', '6', '-7'])
        test(`${days} is refused, with what it may be`, async () => {
            const { code, stdout, stderr } = await runCommand(['serve', '--retention', days]);
            assert.equal(code, 2);
            assert.equal(stdout, '');
            assert.match(stderr, /--retention/);
            assert.match(stderr, /\b7\b/);
        });
});
