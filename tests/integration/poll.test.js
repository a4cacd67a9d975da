// SPDX-License-Identifier: MIT
// The Events API: what no webhook brought is fetched, once, in order, whatever the API does; and
// --ordered, where webhooks only wake the poller.

import assert from 'node:assert/strict';

import { changeRows } from './lib/database.js';
import { faults, startFakeApi } from './lib/fake_api.js';
import {
    describe,
    describeLogic,
    load,
    patience,
    randomness,
    sleep,
    test,
    testLogic,
    until,
} from './lib/harness.js';
import { runCommand, startServer } from './lib/server.js';
import { newEvent, newUser, userCreated, userUpdated } from './lib/workos.js';


const HANDLERS = `
local authkit = require "authkit"
authkit.schema { seen = { columns = { event_id = "text", user_id = "text?", kind = "text" } } }
local function note(ctx, event)
  ctx.db.insert("seen", { event_id = event.id, user_id = event.data.id, kind = event.event })
end
authkit.events {
  ["user.created"] = note, ["user.updated"] = note, ["user.deleted"] = note, ["session.created"] = note,
}`;

const statuses = (server) =>
    server.rows('SELECT status FROM workos_events ORDER BY _seq').map(({ status }) => status);
const seen = (server) => server.rows('SELECT event_id, user_id, kind FROM seen ORDER BY _id');

/** One reading that began after now. */
async function reconcile(server) {
    const answer = await fetch(`${server.adminUrl}/reconcile`, {
        method: 'POST',
        headers: { 'Authkitd-Admin': '1' },
    });
    return { status: answer.status, ...(await answer.json()) };
}

const started = async (t, api, options = {}) =>
    startServer(t, { handlers: HANDLERS, ...options, env: { ...api.env, ...options.env } });

/** A server whose place is set: what comes from now on is its to fetch. */
async function placed(t, api, options) {
    const server = await started(t, api, options);
    await until('the first reading', () => api.requests.some(({ path }) => path === '/events'));
    await reconcile(server);
    return server;
}

describe('what no webhook brought', () => {
    // Symptom: the server's refusal told of --poll off, and README and check that reconcile reads nevertheless.
    test('with --poll off a server reads nothing, and says so; reconcile does it when it is stopped', async (t) => {
        const api = await startFakeApi(t);
        const server = await started(t, api, { args: ['--poll', 'off'] });
        const reconcileNow = () =>
            runCommand(['reconcile', '--db', server.database, '--handlers', server.handlersFile], {
                env: api.env,
            });
        const refused = await reconcileNow();
        assert.equal(refused.code, 1, refused.output);
        assert.match(refused.stderr, /runs with --poll off; mend that, or stop the server/);
        await server.stop();
        const done = await reconcileNow();
        assert.equal(done.code, 0, done.output);
        assert.match(done.stdout, /^read 0 events from the Events API/);
    });

    test('is fetched, in order, once; what a webhook brought before vanishes', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const first = api.users.add({ first_name: 'Ada' });
        const second = api.users.update(first.data.id, { first_name: 'Grace' });
        const other = api.users.add();

        await server.deliver(other);
        const report = await reconcile(server);
        assert.equal(report.status, 200);
        assert.equal(report.fresh, 2);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [other.id, first.id, second.id],
        );
        assert.equal(
            server.row('SELECT first_name FROM workos_users WHERE id = ?', first.data.id),
            'Grace',
        );
        assert.equal((await reconcile(server)).fresh, 0);
        await server.deliver(first);
        assert.equal(seen(server).length, 3);
    });

    test('by itself, at every --poll', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args: ['--poll', '1'] });
        const event = api.users.add();

        await until('the event', () => seen(server).length === 1);
        assert.equal(seen(server)[0].event_id, event.id);
    });

    test(`while the server was down: ${load(1000, 150)} users changed, one reading at its start`, async (t) => {
        const api = await startFakeApi(t);
        const users = api.users.addExisting(load(1000, 150));
        const server = await placed(t, api);

        await server.stop();
        for (const user of users) api.users.update(user.id, { first_name: `New ${user.id}` });
        const gone = users.slice(0, 20);
        for (const user of gone) api.users.remove(user.id);
        await server.start();
        await until(
            'all of them',
            () => seen(server).length === users.length + gone.length,
            patience(20_000),
        );
        assert.equal(server.count('workos_users'), users.length - gone.length);
        assert.equal(
            server.row('SELECT count(*) FROM workos_users WHERE first_name = ? || id', 'New '),
            users.length - gone.length,
        );
    });

    test('also of types without a mirror, when the script has a function for them', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const session = api.emit('session.created', { object: 'session', id: 'session_1' });

        api.emit('session.revoked', { object: 'session', id: 'session_1' });
        await reconcile(server);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [session.id],
        );
        assert.equal(server.count('workos_events'), 1);
    });

    test('long before its first start is not fetched: its place is "now"', async (t) => {
        const api = await startFakeApi(t);

        api.users.add({}, { created_at: new Date(Date.now() - 3_600_000).toISOString() });
        const server = await placed(t, api);
        assert.equal(server.count('workos_events'), 0);
    });

    // Symptom: with a clock that was ahead at the first start, what webhooks lost in that time never came.
    test('just before its first start is: our clock may be ahead of WorkOS’s', async (t) => {
        const api = await startFakeApi(t);
        const event = api.users.add({}, { created_at: new Date(Date.now() - 120_000).toISOString() });
        const server = await placed(t, api);

        assert.equal(server.eventRow(event).status, 'done');
    });

    for (const [what, cursor] of [
        ['a first start that is', false],
        ['an event that is', true],
    ])
        test(`behind ${what} 80 days ago, with nothing for weeks: WorkOS answers 30 days at a time`, async (t) => {
            const api = await startFakeApi(t);
            const server = await placed(t, api);
            const ago = (days) => ({ created_at: new Date(Date.now() - days * 86_400_000).toISOString() });
            const old = api.users.add({}, ago(80));

            api.daysPerRequest = 30;
            await server.stop();
            changeRows(
                server.database,
                `UPDATE authkitd_state SET value = ${Date.parse(ago(cursor ? 80 : 79).created_at)} WHERE key = 'poll.at_ms'`,
            );
            if (cursor)
                changeRows(
                    server.database,
                    `UPDATE authkitd_state SET value = '${old.id}' WHERE key = 'poll.cursor'`,
                );
            // Of no interest, and in the way: from here on WorkOS counts its 30 days.
            api.emit('dsync.group.created', { object: 'group', id: 'group_1' }, ago(75));
            const late = api.users.add({}, ago(5));
            await server.start();
            await reconcile(server);
            assert.equal(server.count('workos_events'), 1);
            assert.equal(server.eventRow(late).status, 'done');
        });

    test('is told by /readyz and /metrics', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const ready = await (await fetch(`${server.adminUrl}/readyz`)).json();
        const metrics = await (await fetch(`${server.adminUrl}/metrics`)).text();

        assert.equal(ready.status, 'ready');
        assert.equal(ready.poll.failing, false);
        assert.match(metrics, /^authkitd_poll_age_seconds \d+$/m);
        assert.match(metrics, /^authkitd_poll_failing 0$/m);
    });
});

describe('a feed that shows its newest seconds late', () => {
    test('loses nothing, though an older event appears behind a newer one', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const newer = api.users.add();

        await reconcile(server);
        const older = api.users.add({}, { before: newer.id });
        await reconcile(server);
        assert.deepEqual(
            seen(server).map((row) => row.event_id).sort(),
            [newer.id, older.id].sort(),
        );
    });

    test('an empty page is no end: what is held back comes with a later reading', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args: ['--poll', '1'] });

        api.holdBackMs = 1500;
        const event = api.users.add();
        assert.equal((await reconcile(server)).fresh, 0);
        await until('the event', () => seen(server).length === 1);
        assert.equal(seen(server)[0].event_id, event.id);
    });
});

describe('an API that misbehaves', () => {
    for (const [what, fault, times] of [
        ['429 with Retry-After', faults.rateLimited(0), 2],
        ['429 with a bare string', faults.bareString(), 1],
        ['500', faults.status(500), 2],
        ['502 with HTML', faults.html(), 1],
        ['a cut connection', faults.cut(), 2],
        ['no answer at all', faults.reset(), 2],
        ['cut JSON', faults.invalidJson(), 1],
        ['a body that is too short for its length', faults.wrongLength(10), 1],
    ]) {
        testLogic(`${what}, ${times} times: the reading goes well in the end`, async (t) => {
            const api = await startFakeApi(t);
            const server = await placed(t, api);

            api.users.add();
            api.fail('/events', fault, times);
            const report = await reconcile(server);
            assert.equal(report.status, 200, JSON.stringify(report));
            assert.equal(report.fresh, 1);
        });
    }

    test('a wrong key: one line in the log, told by /readyz and reconcile; it recovers', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args: ['--poll', '1'] });

        api.fail('/events', faults.status(401, { message: 'Unauthorized' }), 3);
        await server.waitForLog("the Events API can't be read; trying again at every --poll");
        const ready = await (await fetch(`${server.adminUrl}/readyz`)).json();
        assert.match(ready.poll.problem ?? '', /401|^$/);
        await server.waitForLog('the Events API can be read again');
        assert.equal(
            server.lines.filter(({ msg }) => msg.startsWith("the Events API can't be read")).length,
            1,
        );
        assert.ok(!server.lines.some(({ text }) => text.includes(api.key)), 'the key is not logged');
    });

    testLogic('an event that cannot be read is logged and left out', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        const good = api.users.add();
        api.emit('user.updated', null);
        const alsoGood = api.users.add();
        const report = await reconcile(server);
        assert.equal(report.status, 200, JSON.stringify(report));
        assert.equal(report.unusable, 1);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [good.id, alsoGood.id],
        );
    });

    testLogic('a failing function is no reason to wait: the others run', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, {
            handlers: HANDLERS.replace(
                'local function note(ctx, event)',
                'local function note(ctx, event) if event.data.first_name == "bad" then error("bad") end',
            ),
        });
        const bad = api.users.add({ first_name: 'bad' });
        const good = api.users.add();
        assert.equal((await reconcile(server)).fresh, 2);
        assert.equal(server.eventRow(bad).status, 'failed');
        assert.equal(server.eventRow(good).status, 'done');
    });

    testLogic('a place that it does not know any more: it goes on from before, and says so', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const old = { created_at: new Date(Date.now() - 300_000).toISOString() };

        // The place must be a while ago, so that an event can lie behind it.
        await server.stop();
        changeRows(server.database, "UPDATE authkitd_state SET value = value - 3600000 WHERE key = 'poll.at_ms'");
        await server.start();
        const first = api.users.add({}, old);
        await reconcile(server); // it is behind that one now
        const second = api.users.add();
        api.events.splice(
            api.events.findIndex(({ id }) => id === first.id),
            1,
        );
        api.fail(/after=/, faults.status(404, { message: 'Event not found' }), 1);
        const report = await reconcile(server);
        assert.equal(report.status, 200, JSON.stringify(report));
        assert.equal(server.eventRow(second).status, 'done');
        await server.waitForLog("doesn't know the place");
    });

    // Symptom: in an environment where nothing happened each reading said so again.
    for (const [what, ago] of [
        ['a while', 0],
        ['a hundred days', 100 * 86_400_000],
    ])
        testLogic(`a place of ${what} ago that it does not know any more, and nothing new: told once`, async (t) => {
            const api = await startFakeApi(t);
            const server = await placed(t, api);
            const told = () => server.lines.filter(({ msg }) => msg?.includes("doesn't know the place"));

            await server.stop();
            changeRows(server.database, "UPDATE authkitd_state SET value = 'event_gone' WHERE key = 'poll.cursor'");
            changeRows(
                server.database,
                `UPDATE authkitd_state SET value = value - ${ago} WHERE key = 'poll.at_ms'`,
            );
            await server.start();
            for (let i = 0; i < 3; i++) await reconcile(server);
            assert.equal(told().length, 1);
            const starts = api.requests.map(({ query }) => Date.parse(query.get('range_start') ?? ''));
            assert.ok(!starts.some((start) => start < Date.now() - 91 * 86_400_000), 'as WorkOS keeps them');
            const late = api.users.add({}, { created_at: new Date(Date.now() - 600_000).toISOString() });
            await reconcile(server);
            assert.equal(server.eventRow(late).status, 'done', 'it lies behind where the place was');
        });

    testLogic('a type that it does not know: the others are read all the same', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, {
            handlers: HANDLERS.replace('["session.created"] = note', '["user.creatd"] = note'),
        });
        const event = api.users.add();

        api.fail(/user\.creatd/, faults.status(422, { message: 'Validation failed' }), 99);
        const report = await reconcile(server);
        assert.equal(report.status, 200, JSON.stringify(report));
        assert.equal(report.refused, 1);
        assert.equal(server.eventRow(event).status, 'done');
        await server.waitForLog('may be misspelt');
        const outcome = await runCommand(['reconcile', '--db', server.database]);
        assert.equal(outcome.code, 0, outcome.output);
        assert.match(outcome.stdout, /refused the types.*may be misspelt/);
    });

    // Symptom: each reading said that WorkOS didn't know the place any more, which it did.
    testLogic('a type that it does not know: what it has answered for before is read, and the place not blamed', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const first = api.emit('session.created', { object: 'session', id: 'session_1' });

        await reconcile(server);
        await server.stop();
        // Older than the overlap, so that there is a cursor.
        changeRows(
            server.database,
            `UPDATE authkitd_state SET value = '${first.id}' WHERE key = 'poll.cursor'`,
        );
        await server.start();
        api.fail(/sesion\.revoked/, faults.status(422, { message: 'Validation failed' }), 1000);
        await server.reload(
            HANDLERS.replace(
                '["session.created"] = note',
                '["session.created"] = note, ["sesion.revoked"] = note',
            ),
        );
        const second = api.emit('session.created', { object: 'session', id: 'session_2' });
        const user = api.users.add();
        const report = await reconcile(server);
        assert.equal(report.refused, 1);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [first.id, second.id, user.id],
        );
        await server.waitForLog('may be misspelt');
        const told = server.lines.find(({ msg }) => msg.includes('may be misspelt'));
        assert.equal(told.types, 'sesion.revoked');
        assert.ok(!server.lines.some(({ msg }) => msg.includes("doesn't know the place")));
    });

    // Symptom: the place moved on without the types that weren't asked for, and their events were lost.
    for (const { refused, status, times } of [
        { refused: 'a list of types that it refuses until the script is mended', status: 422, times: 1000 },
        { refused: 'a single 400, by whatever is in between', status: 400, times: 1 },
        { refused: 'two 400s, one of them for the place', status: 400, times: 2 },
        { refused: 'two 404s', status: 404, times: 2 },
    ])
        testLogic(`${refused}: loses nothing`, async (t) => {
            const ago = (minutes) => ({ created_at: new Date(Date.now() - minutes * 60_000).toISOString() });
            const api = await startFakeApi(t);
            const server = await placed(t, api);
            const before = api.users.add({}, ago(50));

            await server.stop();
            changeRows(server.database, "UPDATE authkitd_state SET value = value - 3600000 WHERE key = 'poll.at_ms'");
            await server.start();
            await until('what was before', () => server.count('workos_events') === 1);
            await reconcile(server);
            const session = api.emit('session.created', { object: 'session', id: 'session_1' }, ago(40));
            const user = api.users.add({}, ago(30));
            api.fail(/session\.created/, faults.status(status, { message: 'refused' }), times);
            for (let i = 0; i < 3; i++) await reconcile(server);
            assert.equal(server.eventRow(user).status, 'done', 'the mirror goes on');
            await server.stop();
            await server.start();
            await reconcile(server);
            api.heal();
            await reconcile(server);
            assert.deepEqual(
                seen(server)
                    .map((row) => row.event_id)
                    .toSorted(),
                [before.id, session.id, user.id].toSorted(),
            );
        });

    testLogic('a cursor of its own that it refuses: an error, and no going round in circles', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const before = api.requests.length;

        for (let i = 0; i < 150; i++) api.users.add();
        api.fail(/after=/, faults.status(400, { message: 'Invalid cursor' }), 1000);
        const report = await reconcile(server);
        assert.equal(report.status, 502, JSON.stringify(report));
        assert.ok(api.requests.length - before < 10, `${api.requests.length - before} requests`);
        api.heal();
        assert.equal((await reconcile(server)).status, 200);
        assert.equal(server.count('workos_events'), 150);
    });

    testLogic('the same page again and again: an error, soon', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const event = { object: 'event', ...api.users.add({}, { silent: true }) };

        api.routes.set('GET /events', () => ({
            body: { object: 'list', data: [event], list_metadata: { after: event.id } },
        }));
        const report = await reconcile(server);
        assert.equal(report.status, 502);
        assert.match(report.error.message, /doesn't get on/);
    });

    testLogic('empty pages that name another one are followed', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const event = { object: 'event', ...api.users.add({}, { silent: true }) };

        api.routes.set('GET /events', ({ query }) => {
            const page = Number(query.get('after')?.match(/^page_(\d)$/)?.[1] ?? 0);
            const data = page === 3 ? [event] : [];
            return {
                body: {
                    object: 'list',
                    data,
                    list_metadata: { after: page < 3 ? `page_${page + 1}` : null },
                },
            };
        });
        assert.equal((await reconcile(server)).fresh, 1);
        assert.equal(seen(server)[0].event_id, event.id);
    });

    testLogic('an empty page that names itself is the end', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        api.routes.set('GET /events', ({ query }) => ({
            body: { object: 'list', data: [], list_metadata: { after: query.get('after') } },
        }));
        assert.equal((await reconcile(server)).status, 200);
    });

    testLogic('empty pages without an end: an error, soon', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        let page = 0;

        api.routes.set('GET /events', () => ({
            body: { object: 'list', data: [], list_metadata: { after: `page_${++page}` } },
        }));
        const report = await reconcile(server);
        assert.equal(report.status, 502);
        assert.match(report.error.message, /doesn't get on: 101 empty pages/);
    });

    testLogic('pages that come round in a circle: an error, soon', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const pages = [1, 2, 3].map(() => ({ object: 'event', ...api.users.add({}, { silent: true }) }));
        const before = api.requests.length;

        api.routes.set('GET /events', ({ query }) => {
            const event = pages[(pages.findIndex(({ id }) => id === query.get('after')) + 1) % 3];
            return { body: { object: 'list', data: [event], list_metadata: { after: event.id } } };
        });
        const report = await reconcile(server);
        assert.equal(report.status, 502);
        assert.match(report.error.message, /doesn't get on: its cursor is event_\w+ again/);
        assert.ok(api.requests.length - before < 24, `${api.requests.length - before} requests`);
        assert.equal(server.count('workos_events'), 3);
    });

    testLogic('a page of which nothing can be read is passed over', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        for (let i = 0; i < 100; i++) api.emit('user.updated', null);
        const good = api.users.add();
        const report = await reconcile(server);
        assert.equal(report.status, 200, JSON.stringify(report));
        assert.equal(report.unusable, 100);
        assert.equal(server.eventRow(good).status, 'done');
        const told = server.lines.filter(({ msg }) => msg.includes("can't be read; it is left out"));
        assert.ok(told.length > 0 && told.length < 10, `${told.length} lines`);
        assert.match(told[0].id, /event_/);
        assert.ok(!told[0].text.includes('user.updated'), told[0].text);
    });

    testLogic('newest first: an error, and the place stays', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const page = (events) => ({
            body: {
                object: 'list',
                data: events.map((event) => ({ object: 'event', ...event })),
                list_metadata: { after: null },
            },
        });
        const [a, b] = [api.users.add({}, { silent: true }), api.users.add({}, { silent: true })];
        a.created_at = '2026-01-01T00:05:00.000Z';
        b.created_at = '2026-01-01T00:00:00.000Z';
        api.routes.set('GET /events', () => page([a, b]));
        const report = await reconcile(server);
        assert.equal(report.status, 502);
        assert.match(report.error.message, /oldest first/);
    });

    // Symptom: the whole reading failed, as not being oldest first.
    testLogic('an event that does not say when it was made stands where it stands', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const [a, b] = [api.users.add({}, { silent: true }), api.users.add({}, { silent: true })];

        b.created_at = 'some time ago';
        api.routes.set('GET /events', () => ({
            body: {
                object: 'list',
                data: [a, b].map((event) => ({ object: 'event', ...event })),
                list_metadata: { after: null },
            },
        }));
        const report = await reconcile(server);
        assert.equal(report.status, 200, JSON.stringify(report));
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [a.id, b.id],
        );
    });

    test('that never answers does not hold up the end of the server', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args: ['--poll', '1'] });

        api.fail('/events', faults.silent(), 99);
        await until(
            'a request that hangs',
            () => api.requests.some(({ path, status }) => path === '/events' && !status),
        );
        await server.stop();
    });

    test('that never answers does not hold up the end for who waits for a reading, either', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        api.fail('/events', faults.silent(), 99);
        const answer = reconcile(server);
        await until(
            'a request that hangs',
            () => api.requests.some(({ path, status }) => path === '/events' && !status),
        );
        await server.stop();
        assert.equal((await answer).status, 503);
        assert.ok(!server.lines.some(({ msg }) => msg.startsWith('stopped with requests')), server.logTail());
    });

    test(`at random, ${load(6, 3)} rounds: nothing missed, nothing twice`, async (t) => {
        const random = randomness(t);
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args: ['--poll', '1'] });
        const all = [
            faults.rateLimited(0),
            faults.status(500),
            faults.cut(),
            faults.reset(),
            faults.invalidJson(),
            faults.pageSize(3),
            faults.html(503),
        ];
        const events = [];

        for (let round = 0; round < load(6, 3); round++) {
            for (let i = 0; i < 5; i++)
                api.fail('/events', all[random.below(all.length)], 1 + random.below(2));
            for (let i = 0; i < 40; i++) {
                const event =
                    events.length && random.below(3) === 0 && api.users.size
                        ? api.users.update([...api.users.keys()][random.below(api.users.size)])
                        : api.users.add();
                events.push(event);
                if (random.below(3) === 0) await server.deliver(event);
            }
            if (random.below(2) === 0) {
                if (random.below(2) === 0) await server.kill();
                else await server.stop();
                await server.start();
            }
        }
        await until(
            'all of them',
            () => server.count('workos_events') === events.length,
            patience(30_000),
        );
        const rows = seen(server);
        assert.equal(new Set(rows.map((row) => row.event_id)).size, rows.length, 'nothing twice');
        assert.equal(rows.length, events.length);
        for (const user of api.users.values())
            assert.equal(
                server.row('SELECT updated_at FROM workos_users WHERE id = ?', user.id),
                user.updated_at,
            );
    });
});

describe('--ordered', () => {
    const args = ['--ordered', '--poll', '60'];

    test('a webhook wakes the poller; the functions see the order of the API', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const created = api.users.add();
        const updated = api.users.update(created.data.id);

        await server.deliver(updated); // first
        await server.deliver(created);
        await until('both', () => seen(server).length === 2);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [created.id, updated.id],
        );
    });

    test('an event that is held back is read again until it comes', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });

        api.holdBackMs = 2500;
        const event = api.users.add();
        await server.deliver(event);
        assert.equal(server.eventRow(event).status, 'expected');
        assert.equal(server.count('workos_users'), 0);
        await until('the event', () => seen(server).length === 1);
        assert.equal(server.eventRow(event).status, 'done');
        await server.deliver(event); // again: it is known, and asks for nothing
        assert.equal(server.count('workos_events'), 1);
    });

    testLogic('a webhook of a type that nobody wants asks for nothing', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const before = api.requests.length;

        await server.deliver(newEvent('dsync.group.created', { id: 'group_1' }));
        await server.deliver(userCreated()); // one that it will look for in vain
        await until('the poller to look for the second', () => api.requests.length > before);
        assert.deepEqual(statuses(server), ['expected']);
    });

    // Symptom: it was looked for again and again, and missed in the log after ten minutes.
    test('nor does one whose function is gone since the last reading', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });

        await server.reload(HANDLERS.replace('["session.created"] = note', '["session.revoked"] = note'));
        const before = api.requests.length;
        await server.deliver(newEvent('session.created', { object: 'session', id: 'session_1' }));
        await sleep(1000);
        assert.equal(api.requests.length, before);
        assert.equal(server.count('workos_events'), 0);
    });

    testLogic('an event from before the first start, which the poller will not fetch, is taken in', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const created_at = new Date(Date.now() - 600_000).toISOString();
        const event = api.users.add({}, { created_at }); // its webhook is tried again, and gets through

        assert.equal((await server.deliver(event)).status, 200);
        assert.equal(server.eventRow(event).status, 'done');
        assert.equal(seen(server).length, 1);
    });

    testLogic('an event of a type that WorkOS refuses to be asked for is taken in', async (t) => {
        const api = await startFakeApi(t);

        api.fail(/session\.created/, faults.status(422, { message: 'Validation failed' }), 1000);
        const server = await placed(t, api, { args });
        const event = newEvent('session.created', { object: 'session', id: 'session_1' });
        assert.equal((await server.deliver(event)).status, 200);
        assert.equal(server.eventRow(event).status, 'done');
    });

    // Symptom: all types that only functions want came from their webhooks, as these came.
    test('a misspelt type ends the order of no other', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const misspelt = HANDLERS.replace(
            '["session.created"] = note',
            '["session.created"] = note, ["sesion.revoked"] = note',
        );

        api.fail(/sesion\.revoked/, faults.status(422, { message: 'Validation failed' }), 1000);
        await server.reload(misspelt);
        await reconcile(server);
        for (const again of [false, true]) {
            const user = api.users.add();
            const session = api.emit('session.created', { object: 'session', id: `session_${again}` });
            const before = seen(server).length;
            await server.deliver(session);
            await server.deliver(user);
            await until('both', () => seen(server).length === before + 2);
            assert.deepEqual(
                seen(server)
                    .slice(before)
                    .map((row) => row.event_id),
                [user.id, session.id],
            );
            await server.restart();
        }
        // The type that it has never answered for is the webhook's.
        const odd = newEvent('sesion.revoked', { object: 'session', id: 'session_3' });
        await server.deliver(odd);
        assert.equal(server.eventRow(odd).status, 'done');
    });

    // Symptom: until the first reading after each start the types of functions alone ran from their webhooks.
    testLogic('after a start, with WorkOS away, the order is WorkOS’s all the same', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });

        await server.stop();
        api.fail('/events', faults.status(500), 1000);
        await server.start();
        const user = api.users.add();
        const session = api.emit('session.created', { object: 'session', id: 'session_1' });
        assert.equal((await server.deliver(session)).status, 200);
        assert.equal((await server.deliver(user)).status, 200);
        assert.deepEqual(statuses(server), ['expected', 'expected']);
        api.heal();
        await reconcile(server);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [user.id, session.id],
        );
    });

    test('its place is on disk before the first webhook is answered', async (t) => {
        const api = await startFakeApi(t);

        api.fail('/events', faults.reset(), 1000);
        const server = await started(t, api, { args });
        const event = api.users.add();
        assert.equal((await server.deliver(event)).status, 200);
        await server.kill();
        api.heal();
        await server.start();
        await until('the event', () => seen(server).length === 1);
    });

    /** As if what is expected had been so for ten minutes. Ends with the server at rest. */
    async function letTimePass(server) {
        await server.stop();
        changeRows(
            server.database,
            "UPDATE workos_events SET received_at = received_at - 600000 WHERE status = 'expected'",
        );
    }
    const warnings = async (server) =>
        (await (await fetch(`${server.adminUrl}/readyz`)).json()).warnings.join();

    // Symptom: it was answered 200 and never seen again, as with a key of another environment.
    test('what the Events API never shows is on disk, and taken in after some minutes', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const user = newUser();
        const created = userCreated(user);
        const updated = userUpdated(user, { first_name: 'New' });

        for (const event of [created, updated])
            assert.equal((await server.deliver(event)).status, 200);
        await server.kill();
        await server.start();
        await reconcile(server);
        assert.deepEqual(statuses(server), ['expected', 'expected']);
        assert.equal(await warnings(server), '');
        await letTimePass(server);
        await server.start();
        await until('both', () => seen(server).length === 2);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [created.id, updated.id],
        );
        assert.deepEqual(statuses(server), ['done', 'done']);
        assert.equal(server.row('SELECT first_name FROM workos_users'), 'New');
        await server.waitForLog("the Events API doesn't show events that webhooks brought");
        assert.match(await warnings(server), /has not shown 2 events that webhooks brought/);

        const shown = api.users.add();
        await server.deliver(shown);
        await until('what it does show', () => seen(server).length === 3);
        await until('no warning', async () => (await warnings(server)) === '');
    });

    testLogic('while it can’t be read, what is expected waits, for longer, too', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const first = api.users.add();
        const second = api.users.update(first.data.id);

        api.fail('/events', faults.status(500), 1000);
        await server.deliver(second);
        await letTimePass(server);
        await server.start();
        await server.deliver(first);
        await reconcile(server);
        assert.deepEqual(statuses(server), ['expected', 'expected']);
        api.heal();
        await reconcile(server);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [first.id, second.id],
        );
    });

    // Symptom: it was answered 200 and lost, since nothing behind the place is read.
    testLogic('one behind the place, for a function that has just come, is taken in', async (t) => {
        const ago = (seconds) => ({ created_at: new Date(Date.now() - seconds * 1000).toISOString() });
        const api = await startFakeApi(t);
        const handlers = HANDLERS.replace('["session.created"] = note,', '');
        const server = await placed(t, api, { args, handlers });

        await server.stop();
        changeRows(server.database, "UPDATE authkitd_state SET value = value - 600000 WHERE key = 'poll.at_ms'");
        const session = api.emit('session.created', { object: 'session', id: 'session_1' }, ago(300));
        api.users.add({}, ago(299));
        await server.start();
        await until('the user', () => seen(server).length === 1);
        await server.reload(HANDLERS);
        await reconcile(server);
        assert.equal((await server.deliver(session)).status, 200);
        await letTimePass(server);
        await server.start();
        await until('the session', () => seen(server).length === 2);
    });

    testLogic('what is expected has no secrets, and goes with its user', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const user = newUser();
        const created = userCreated(user);
        const deleted = newEvent('user.deleted', { object: 'user', id: user.id });
        const invitation = newEvent('invitation.created', {
            object: 'invitation',
            id: 'invitation_1',
            token: 'let me in',
        });

        for (const event of [created, deleted, invitation]) await server.deliver(event);
        assert.ok(!server.eventRow(invitation).payload.includes('let me in'));
        await letTimePass(server);
        await server.start();
        await until('all of them', () => statuses(server).join() === 'done,done,done');
        assert.equal(server.eventRow(created).payload, null);
        assert.equal(server.eventRow(deleted).payload, null);
        assert.equal(server.count('workos_users'), 0);
    });

    testLogic('authkitd retry takes one in that is expected', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const [retried, other] = [userCreated({ secret: 'passed on' }), userCreated()];

        await server.reload(HANDLERS.replace('kind = event.event', 'kind = event.data.secret'));
        for (const event of [retried, other]) await server.deliver(event);
        const outcome = await runCommand(['retry', '--db', server.database, retried.id]);
        assert.equal(outcome.code, 0, outcome.output);
        await until('the event', () => seen(server).length === 1);
        assert.equal(server.eventRow(retried).status, 'done');
        assert.equal(seen(server)[0].kind, 'passed on', 'what is never stored, from memory');
        assert.equal(JSON.parse(server.eventRow(retried).payload).data.secret, null);
        assert.equal(server.eventRow(other).status, 'expected');
    });

    testLogic('without --ordered from now on: what was expected is taken in at the start', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });
        const event = userCreated();

        await server.deliver(event);
        await server.stop();
        server.args = [];
        await server.start();
        await until('the event', () => seen(server).length === 1);
        assert.equal(server.eventRow(event).status, 'done');
    });

    testLogic('a clock that was ahead at the first start hides nothing from then on', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api, { args });

        await server.stop();
        changeRows(server.database, "UPDATE authkitd_state SET value = value + 86400000 WHERE key = 'poll.at_ms'");
        await server.start();
        const event = api.users.add();
        await server.deliver(event);
        await until('the event', () => seen(server).length === 1);
    });

    testLogic('needs a key: wrong usage', async () => {
        const outcome = await runCommand(['serve', '--ordered'], {
            env: { WORKOS_WEBHOOK_SECRET: 'x' },
        });
        assert.equal(outcome.code, 2);
        assert.match(outcome.stderr, /WORKOS_API_KEY/);
    });
});

describeLogic('authkitd reconcile', () => {
    test('asks the running server', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        api.users.add();
        const outcome = await runCommand(['reconcile', '--db', server.database]);
        assert.equal(outcome.code, 0, outcome.output);
        assert.match(outcome.stdout, /read 1 event from the Events API; 1 of them was new/);
    });

    test('waits for an API that is slow: says so, and for what', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        api.fail('/events', faults.delay(6000), 1);
        const outcome = await runCommand(['reconcile', '--db', server.database]);
        assert.equal(outcome.code, 0, outcome.output);
        assert.match(outcome.stderr, /\/reconcile hasn't answered yet \(it waits for WorkOS/);
    });

    test('while another command has the database: says so', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);
        const command = ['reconcile', '--db', server.database, '--handlers', server.handlersFile];

        await server.stop();
        api.fail('/events', faults.delay(patience(1000)), 1);
        const before = api.requests.length;
        const first = runCommand(command, { env: api.env });
        await until('the first one to ask', () => api.requests.length > before);
        const second = await runCommand(command, { env: api.env });
        assert.equal(second.code, 1);
        assert.match(second.stderr, /another authkitd command, wait for its end/);
        assert.equal((await first).code, 0);
    });

    test('does it itself with no server running', async (t) => {
        const api = await startFakeApi(t);
        const server = await placed(t, api);

        await server.stop();
        const event = api.users.add();
        const outcome = await runCommand(
            ['reconcile', '--db', server.database, '--handlers', server.handlersFile],
            { env: api.env },
        );
        assert.equal(outcome.code, 0, outcome.output);
        assert.deepEqual(
            seen(server).map((row) => row.event_id),
            [event.id],
        );
    });

    test('without a key says which variable to set', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const running = await runCommand(['reconcile', '--db', server.database]);

        assert.equal(running.code, 1);
        assert.match(running.stderr, /WORKOS_API_KEY/);
        await server.stop();
        const resting = await runCommand([
            'reconcile',
            '--db',
            server.database,
            '--handlers',
            server.handlersFile,
        ]);
        assert.equal(resting.code, 1);
        assert.match(resting.stderr, /WORKOS_API_KEY/);
    });
});
