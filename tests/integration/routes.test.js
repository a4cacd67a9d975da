// SPDX-License-Identifier: MIT
// authkit.routes while they run: what they write is kept or undone, what they cost the others, and how
// a reload swaps them.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after } from 'node:test';

import { DatabaseSync } from './lib/database.js';
import {
    describe,
    inParallel,
    load,
    patience,
    sanitizer,
    sleep,
    test,
    testInRelease,
    testLogic,
    until,
} from './lib/harness.js';
import { RawConnection } from './lib/http.js';
import {
    NOTES,
    ask,
    assertError,
    assertFailed,
    keysOf,
    newRun,
    post,
    startRoutes,
    withRoutes,
} from './lib/routes.js';
import { startServer } from './lib/server.js';
import { KeyServer, bearer, newKey, signToken } from './lib/tokens.js';
import { registrationAction, userCreated } from './lib/workos.js';

const key = newKey();
const keys = await new KeyServer([key]).listen();
after(() => keys.close());

// https://www.sqlite.org/walformat.html, 2.3: which bytes are locked. The last one says that the log is in use.
const FIRST_LOCK = 120;
const OPEN_LOCK = 8;

/** The locks that a server's process has on its log now, by their numbers. */
function locksOnLog(server) {
    const { ino } = fs.statSync(`${server.database}-shm`);
    const locks = fs.readFileSync('/proc/locks', 'utf8').split('\n').map((line) => line.split(/\s+/));

    return locks
        .filter(([, , , , pid, file]) => Number(pid) === server.child.pid && file.endsWith(`:${ino}`))
        .flatMap(([, , , , , , from, to]) =>
            Array.from({ length: to - from + 1 }, (_, i) => Number(from) + i - FIRST_LOCK),
        );
}

/** Nobody reads, so nobody shall be in the way of other programs. */
const logIsFree = (server) =>
    until('the log without a lock', () => {
        const locks = locksOnLog(server);
        assert.ok(locks.includes(OPEN_LOCK), 'no lock at all is seen'); // it is always there
        return locks.every((lock) => lock === OPEN_LOCK);
    });

/** The writer empties the log a second after its last commit, and ends what locks there are: it won't any more. */
const writerRests = (server) =>
    until('an empty log', () => fs.statSync(`${server.database}-wal`).size === 0);

async function addUser(server) {
    const event = userCreated();
    await server.deliver(event);
    return event;
}

describe('what a route writes', () => {
    test('is on disk when it is answered: the power may fail then', async (t) => {
        const server = await startRoutes(t, NOTES);
        const answer = await post(server, '/notes', { key: 'last words' });
        assert.equal(answer.status, 201);
        await server.kill();
        await server.start();
        assert.deepEqual(keysOf(server), ['last words']);
        assert.equal((await ask(server, '/notes/last%20words')).status, 200);
    });

    test(`is there once, if it was answered, after ${load(10, 3)} crashes in the middle of everything`, async (t) => {
        const server = await startRoutes(t, NOTES);
        const answered = new Set();
        let sent = 0;

        for (let round = 0; round < load(10, 3); round++) {
            const client = server.newClient({ connections: 16 });
            let running = true;
            const lanes = inParallel(16, Array(16).fill(), async () => {
                while (running) {
                    const key = `key_${sent++}`;
                    const answer = await client
                        .request('POST', '/notes', { body: JSON.stringify({ key }) })
                        .catch(() => undefined);
                    if (!answer) return;
                    assert.equal(answer.status, 201, answer.text);
                    answered.add(key);
                }
            });
            await sleep(100 + Math.random() * 200);
            await server.kill();
            running = false;
            await lanes;
            await server.start();
        }
        const found = keysOf(server);
        assert.equal(new Set(found).size, found.length, 'nothing is there twice');
        const there = new Set(found);
        for (const key of answered) assert.ok(there.has(key), `${key} was answered and is lost`);
        t.diagnostic(`${answered.size} answered, ${found.length} there, of ${sent}`);
    });

    test('is seen by who reads afterwards, on whatever connection', async (t) => {
        const server = await startRoutes(t, NOTES);
        await inParallel(8, Array(load(400, 80)).fill(), async (_, i) => {
            const key = `key_${i}`;
            const readers = server.newClient({ connections: 1 });
            assert.equal((await post(server, '/notes', { key, value: 'a' })).status, 201);
            assert.equal((await readers.request('GET', `/notes/${key}`)).json().value, 'a');
            await ask(server, `/notes/${key}`, { method: 'PUT', body: '{"value":"b"}' });
            assert.equal((await ask(server, `/notes/${key}`)).json().value, 'b');
            assert.equal(
                (await ask(server, `/notes/${key}`, { method: 'DELETE', body: '' })).status,
                204,
            );
            assert.equal((await readers.request('GET', `/notes/${key}`)).status, 404);
            readers.close();
        });
        assert.equal(server.count('notes'), 0);
    });

    test('is undone when the function fails, and only that', async (t) => {
        const server = await startRoutes(
            t,
            `${NOTES}
            ["POST /fail"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                ctx.db.sql("UPDATE notes SET value = 'lost'")
                error("on purpose")
            end,
            ["POST /loop"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                while true do end
            end,
            ["POST /wrong"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                return 204, {}
            end,
            ["POST /refused"] = function(ctx, request)
                ctx.db.insert("notes", { key = "lost" })
                request.json()
                return "never"
            end,
            ["POST /caught"] = function(ctx, request)
                ctx.db.insert("notes", { key = "kept" })
                local ok = pcall(error, "on purpose")
                return { ok = ok }
            end,
            ["POST /says-no"] = function(ctx, request)
                ctx.db.insert("notes", { key = "kept, whatever the status" })
                return 400, { error = "no" }
            end,`,
            { args: ['--handler-timeout', '300'] },
        );
        await post(server, '/notes', { key: 'before', value: 'before' });
        await assertFailed(server, await post(server, '/fail'), /on purpose/);
        await assertFailed(server, await post(server, '/loop'), /longer than/);
        await assertFailed(server, await post(server, '/wrong'), /204/);
        assertError(await post(server, '/refused', 'no JSON'), 400, 'invalid_json');
        assert.deepEqual(keysOf(server), ['before']);
        assert.equal(server.row('SELECT value FROM notes'), 'before');
        assert.equal((await post(server, '/caught')).status, 200);
        assert.equal((await post(server, '/says-no')).status, 400);
        assert.deepEqual(keysOf(server), ['before', 'kept', 'kept, whatever the status']);

        // In one batch with others, which are kept.
        const count = load(200, 60);
        const answers = await inParallel(16, Array(count).fill(), (_, i) =>
            i % 3 === 0 ? post(server, '/fail') : post(server, '/notes', { key: `key_${i}` }),
        );
        answers.forEach((answer, i) => assert.equal(answer.status, i % 3 === 0 ? 500 : 201));
        const expected = Array.from({ length: count }, (_, i) => i).filter((i) => i % 3).length;
        assert.equal(server.count('notes'), 3 + expected);
        assert.equal(
            server.row("SELECT count(*) FROM notes WHERE key = 'lost' OR value = 'lost'"),
            0,
        );
    });

    test('is nothing when it only reads: a GET that writes fails, and the log says why', async (t) => {
        const ways = {
            insert: 'ctx.db.insert("notes", { key = "written" })',
            patch: 'ctx.db.patch("notes", 1, { value = "written" })',
            replace: 'ctx.db.replace("notes", 1, { key = "written" })',
            upsert: 'ctx.db.upsert("singles", { "key" }, { key = "written" })',
            delete: 'ctx.db.delete("notes", 1)',
            'sql insert': `ctx.db.sql("INSERT INTO notes (key, _creation_time) VALUES ('written', 0)")`,
            'sql update': `ctx.db.sql("UPDATE notes SET value = 'written'")`,
            'sql delete': 'ctx.db.sql("DELETE FROM notes")',
            'sql with': `ctx.db.sql("WITH x AS (SELECT 1) DELETE FROM notes")`,
            'sql returning': `ctx.db.sql("DELETE FROM notes RETURNING _id")`,
        };
        const routes = Object.values(ways)
            .map((body, i) => `["GET /write/${i}"] = function(ctx) ${body} return "done" end,`)
            .join('\n');
        const server = await startRoutes(
            t,
            `${NOTES}${routes}
            ["HEAD /write"] = function(ctx) ${ways.insert} end,
            ["GET /caught"] = function(ctx)
                local ok, message = pcall(ctx.db.insert, "notes", { key = "written" })
                return { ok = ok, message = tostring(message), count = ctx.db.query("notes"):count(),
                         sql = ctx.db.sql("SELECT count(*) AS n FROM notes")[1].n }
            end,`,
        );
        await post(server, '/notes', { key: 'first', value: 'v' });
        for (const [i, name] of Object.keys(ways).entries())
            await assertFailed(server, await ask(server, `/write/${i}`), /GET|read/).catch(
                (error) => {
                    error.message = `${name}: ${error.message}`;
                    throw error;
                },
            );
        assert.equal((await ask(server, '/write', { method: 'HEAD' })).status, 500);
        const caught = (await ask(server, '/caught')).json();
        assert.equal(caught.ok, false);
        assert.match(caught.message, /GET|read/);
        assert.deepEqual([caught.count, caught.sql], [1, 1]);
        assert.deepEqual(server.rows('SELECT key, value FROM notes'), [
            { key: 'first', value: 'v' },
        ]);
        assert.equal((await post(server, '/notes', { key: 'second' })).status, 201);
    });

    test('is seen whole or not at all: a GET reads one moment', async (t) => {
        const server = await startRoutes(
            t,
            `["POST /pair"] = function(ctx)
                ctx.db.insert("notes", { key = "a" })
                for i = 1, 1000 do end
                ctx.db.insert("notes", { key = "b" })
                return "done"
            end,
            ["GET /pair"] = function(ctx)
                local a = ctx.db.query("notes"):where("key", "a"):count()
                for i = 1, 20000 do end
                local b = ctx.db.query("notes"):where("key", "b"):count()
                local all = ctx.db.sql("SELECT count(*) AS n FROM notes")[1].n
                return { a = a, b = b, all = all }
            end,`,
        );
        let running = true;
        const reading = inParallel(4, [1, 2, 3, 4], async () => {
            let last = 0;
            while (running) {
                const { a, b, all } = (await ask(server, '/pair')).json();
                assert.equal(a, b);
                assert.equal(all, a + b);
                assert.ok(a >= last, 'time does not go back');
                last = a;
            }
            return last;
        });
        await inParallel(4, Array(load(400, 60)).fill(), () => post(server, '/pair'));
        running = false;
        assert.ok(Math.max(...(await reading)) > 0);
        assert.equal(server.count('notes'), 2 * load(400, 60));
    });
});

// ------------------------------------------------------------------------------ the others

/** Ask again and again until done() is over; every answer must have that status. Returns the times. */
async function timesOf(request, done, status = 200) {
    const times = [];
    let running = true;

    done.finally(() => (running = false)).catch(() => {});
    while (running) {
        const begun = performance.now();
        const answer = await request();
        assert.equal(answer.status, status, answer.text);
        times.push(performance.now() - begun);
        await sleep(5);
    }
    return times.sort((a, b) => a - b);
}

const show = (times) =>
    `${times.length}, median ${times[times.length >> 1]?.toFixed(1)} ms, longest ${times.at(-1)?.toFixed(0)} ms`;

describe('what a route costs the others', () => {
    /** How long a loop may have a processor, of which there are fewer than loops, so that it lasts longer. */
    const LOOP_MS = 2500;
    /** Less than that: who waits for the end of a loop that is alone waits for longer. */
    const SOON_MS = 2000;
    const SLOW = `${NOTES}
        ["GET /loop"] = function() while true do end end,
        ["POST /loop"] = function() while true do end end,
        ["GET /caught-loop"] = function() while true do pcall(function() while true do end end) end end,
        ["GET /pattern"] = function() return ("a"):rep(100000):find(("a-"):rep(30) .. "b") and "x" or "y" end,
        ["GET /sql"] = function(ctx)
            return ctx.db.sql("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c")
        end,
        ["GET /memory"] = function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end,`;

    testInRelease('an endless loop in a GET delays no GET, no webhook, no action, no POST', async (t) => {
        const server = await startRoutes(t, SLOW, {
            args: ['--handler-timeout', String(LOOP_MS)],
            env: keys.env,
        });
        const { data: user } = await addUser(server);
        const token = bearer(signToken(key, { sub: user.id }));
        const crowd = server.newClient({ connections: 6 });
        const begun = performance.now();
        const loops = Promise.all(
            ['/loop', '/loop', '/caught-loop', '/pattern', '/sql', '/loop'].map((target) =>
                crowd.request('GET', target),
            ),
        );
        await sleep(100);
        const results = await Promise.all([
            timesOf(() => ask(server, '/version'), loops),
            timesOf(() => ask(server, '/count'), loops),
            timesOf(() => ask(server, '/workos/user', { headers: token }), loops),
            timesOf(() => server.post(newRun()), loops),
            timesOf(() => server.act(registrationAction()), loops),
            timesOf(() => post(server, '/notes', { key: 'x' }), loops, 201),
        ]);
        for (const answer of await loops) await assertFailed(server, answer, /longer than|pattern|had a processor/);
        // Who had to wait for a loop's end waited for most of this; the machine's pace is in both.
        const soon = (performance.now() - begun) / 4;
        for (const [i, what] of [
            'GET',
            'GET of rows',
            'GET of the user',
            'webhook',
            'action',
            'POST',
        ].entries()) {
            t.diagnostic(`${what}: ${show(results[i])}`);
            assert.ok(results[i].length >= 3, `${what}: only ${results[i].length}`);
            assert.ok(results[i].at(-1) < soon, `${what}: ${show(results[i])}, of ${soon.toFixed(0)}`);
        }
    });

    test('more endless loops than there are processors are stopped, one by one, and all goes on', async (t) => {
        const server = await startRoutes(t, SLOW, { args: ['--handler-timeout', '300'] });
        const crowd = server.newClient({ connections: 40 });
        const answers = await inParallel(40, Array(80).fill(), () => crowd.request('GET', '/loop'));
        for (const answer of answers) assert.ok([500, 503].includes(answer.status), answer.text);
        assert.ok(answers.some((answer) => answer.status === 500));
        for (const answer of answers.filter(({ status }) => status === 503))
            assert.match(answer.headers['retry-after'], /^\d+$/);
        assert.equal((await ask(server, '/version')).text, '1');
        await server.deliver(newRun());
    });

    testInRelease('an endless loop in a POST delays no GET', async (t) => {
        const server = await startRoutes(t, SLOW, {
            args: ['--handler-timeout', String(LOOP_MS)],
        });
        const loop = post(server, '/loop');
        await sleep(50);
        const times = await timesOf(() => ask(server, '/count'), loop);
        await assertFailed(server, await loop, /longer than/);
        t.diagnostic(show(times));
        assert.ok(times.length > 3);
        assert.ok(times.at(-1) < SOON_MS, show(times));
        await server.deliver(newRun());
    });

    test('giant memory is stopped, and the next request is served', async (t) => {
        const server = await startRoutes(t, SLOW, { args: ['--handler-memory', '8MiB'] });
        for (let i = 0; i < 5; i++) {
            await assertFailed(server, await ask(server, '/memory'), /memory|longer/);
            assert.equal((await ask(server, '/version')).text, '1');
        }
        assert.ok(server.residentBytes() < 1024 ** 3);
    });

    /** Comparing equal long strings, inside one C function that never comes back to the interpreter: 20,000 take
     * some seconds, 200,000 a minute or more. */
    const hang = (strings) => `
        local s = ("a"):rep(1000000)
        local t = {}
        for i = 1, ${strings} do t[i] = s end
        print("hanging")
        table.sort(t)`;

    test('a GET that hangs where Lua can’t interrupt it delays nobody, no reload and no end', async (t) => {
        const server = await startRoutes(t, `${NOTES}["GET /hang"] = function() ${hang(20_000)} end,`);
        const hanging = ask(server, '/hang').catch(() => undefined);
        await server.waitForLog('hanging');
        for (let i = 0; i < 10; i++) {
            const begun = Date.now();
            assert.equal((await ask(server, '/count')).status, 200);
            assert.equal((await post(server, '/notes', { key: 'x' })).status, 201);
            assert.ok(Date.now() - begun < patience(1000));
        }
        assert.equal((await server.reload(withRoutes(NOTES))).outcome, 'loaded');
        assertError(await ask(server, '/hang'), 404, 'not_found');
        assert.equal((await ask(server, '/count')).json().count, 10);
        // TSan calls it a leak that the thread is left behind, which it has to be.
        if (sanitizer === 'tsan') await server.kill();
        else await server.stop();
        assert.equal(await hanging, undefined);
    });

    testLogic('a POST that hangs there ends the process, and the next one is as if it had never been', async (t) => {
        const server = await startRoutes(
            t,
            `${NOTES}["POST /hang"] = function(ctx)
                ctx.db.insert("notes", { key = "lost" })
                ${hang(200_000)}
            end,`,
            { args: ['--handler-timeout', String(patience(400))] },
        );
        await post(server, '/notes', { key: 'kept' });
        // Where the machine has too much to do it may be stopped before it hangs: then it is asked once more.
        const hanging = (async () => {
            let answer;
            do answer = await post(server, '/hang').catch(() => undefined);
            while (answer?.status === 500);
            return answer;
        })();
        await server.waitForLog('hanging');
        assert.equal((await ask(server, '/count')).json().count, 1);
        await until('the process to end', () => !server.isRunning, patience(30_000));
        assert.equal((await server.ended).signal, 'SIGABRT');
        assert.equal(await hanging, undefined);
        await server.waitForLog("can't interrupt it", 'POST /hang');

        await server.start();
        assert.deepEqual(keysOf(server), ['kept']);
        assert.equal((await post(server, '/notes', { key: 'again' })).status, 201);
        await server.deliver(newRun());
    });

    test('many GETs and many webhooks at the same time', async (t) => {
        const server = await startRoutes(t, NOTES);
        const events = load(600, 80);
        const reads = load(3000, 300);
        const begun = Date.now();
        let last = 0;
        const [read] = await Promise.all([
            inParallel(16, Array(reads).fill(), async () => {
                const answer = await ask(server, '/count');
                assert.equal(answer.status, 200, answer.text);
                last = Math.max(last, answer.json().count);
                return answer;
            }),
            inParallel(16, Array(events).fill(), () => server.deliver(newRun())),
        ]);
        t.diagnostic(`${read.length} GETs and ${events} events in ${Date.now() - begun} ms`);
        assert.equal((await ask(server, '/count')).json().count, events);
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'"), 0);
    });

    test('who has answered leaves no lock on the log, in the way of other programs', async (t) => {
        const server = await startRoutes(t, NOTES);
        const other = new DatabaseSync(server.database, { timeout: 5000 });
        other.exec('PRAGMA wal_autocheckpoint = 0');
        try {
            for (let round = 0; round < 3; round++) {
                await writerRests(server);
                await inParallel(8, Array(100).fill(), () => ask(server, '/count'));
                await logIsFree(server);
                // Readers of a log that isn't empty take another lock. What others write concerns no writer.
                other.exec("INSERT INTO notes (_creation_time, key) VALUES (1, 'b')");
                await inParallel(8, Array(100).fill(), () => ask(server, '/count'));
                await logIsFree(server);
                assert.equal((await ask(server, '/count')).json().count, 2 * round + 1);
                assert.equal((await post(server, '/notes', { key: 'a' })).status, 201);
            }
        } finally {
            other.close();
        }
    });

    // Symptom: what a worker had kept for its next request stayed while it waited for something else.
    test('who waits for a client that doesn’t read, or for the disk, leaves none either', async (t) => {
        const server = await startRoutes(
            t,
            `${NOTES}
            ["GET /big"] = function(ctx)
                return string.rep("x", 12 * 1024 * 1024 + ctx.db.query("notes"):count())
            end,`,
        );
        await writerRests(server);
        const slow = await RawConnection.open(server.url);
        const beginning = new Promise((resolve) => slow.socket.once('data', resolve));
        slow.send('GET /big HTTP/1.1\r\nHost: a\r\n\r\n');
        await beginning;
        slow.socket.pause();
        await logIsFree(server);
        slow.socket.destroy();

        const other = new DatabaseSync(server.database, { timeout: 5000 });
        other.exec('PRAGMA wal_autocheckpoint = 0; BEGIN IMMEDIATE');
        try {
            const client = await RawConnection.open(server.url);
            client.send(
                'GET /count HTTP/1.1\r\nHost: a\r\n\r\n',
                'POST /notes HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n{"key":"a"}',
            );
            assert.equal((await client.response()).status, 200);
            await logIsFree(server);
            other.exec('ROLLBACK');
            assert.equal((await client.response()).status, 201);
        } finally {
            other.close();
        }
    });

    test('a server that stops answers what it has begun', async (t) => {
        const server = await startRoutes(
            t,
            `${NOTES}
            ["GET /slow"] = function(ctx) local x = ctx.now() while ctx.now() - x < 300 do end return "slow" end,
            ["POST /slow"] = function(ctx)
                ctx.db.insert("notes", { key = "slow" })
                local x = ctx.now() while ctx.now() - x < 300 do end
                return "slow"
            end,`,
        );
        const answers = [ask(server, '/slow'), post(server, '/slow')];
        await sleep(100);
        const stopping = server.stop();
        for (const answer of await Promise.all(answers)) assert.equal(answer.text, 'slow');
        await stopping;
        assert.deepEqual(keysOf(server), ['slow']);
    });
});

// ------------------------------------------------------------------------------ reload

describe('a reload', () => {
    const version = (number, { columns = '', read = '' } = {}) =>
        withRoutes(
            `["GET /v"] = function(ctx) ${read} return { version = ${number} } end,
            ["POST /v"] = function(ctx)
                ctx.db.insert("notes", { key = "v", value = "${number}" })
                return { version = ${number} }
            end,
            ["GET /only/${number}"] = function() return "${number}" end,`,
            { columns },
        );

    test('swaps routes: the old ones are gone, the new ones are there, for everybody at once', async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        for (let number = 1; number <= load(30, 8); number++) {
            assert.equal((await ask(server, `/only/${number}`)).status, 404);
            const line = await server.reload(version(number));
            assert.equal(line.outcome, 'loaded', line.text);
            const answers = await inParallel(8, Array(24).fill(), (_, i) =>
                i % 3 ? ask(server, '/v') : post(server, '/v'),
            );
            for (const answer of answers) assert.equal(answer.json().version, number);
            assert.equal((await ask(server, `/only/${number}`)).text, String(number));
            assertError(await ask(server, `/only/${number - 1}`), 404, 'not_found');
        }
    });

    test(`${load(100, 20)} times under load: no request is dropped, and none sees an older script than before`, async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        const client = server.newClient({ connections: 12 });
        let running = true;
        let answered = 0;
        const lanes = inParallel(12, Array(12).fill(), async (_, lane) => {
            let last = 0;
            while (running) {
                const answer =
                    lane % 3 === 0
                        ? await client.request('POST', '/v', { body: '{}' })
                        : await client.request('GET', '/v');
                assert.equal(answer.status, 200, answer.text);
                const seen = answer.json().version;
                assert.ok(seen >= last, `version ${seen} after ${last}`);
                last = seen;
                answered += 1;
            }
        });
        // Each has a column that the one before didn't know, and reads it.
        for (let number = 1; number <= load(100, 20); number++) {
            const count = Math.min(number, 20);
            const line = await server.reload(
                version(number, {
                    columns: Array.from({ length: count }, (_, i) => `c${i} = "text?"`).join(', '),
                    read: `ctx.db.query("notes"):where("c${count - 1}", "x"):all()`,
                }),
            );
            assert.equal(line.outcome, 'loaded', line.text);
        }
        running = false;
        await lanes;
        t.diagnostic(`${answered} answers`);
        const versions = server
            .rows('SELECT value FROM notes ORDER BY _id')
            .map((row) => Number(row.value));
        for (let i = 1; i < versions.length; i++) assert.ok(versions[i] >= versions[i - 1]);
    });

    test('of a broken script keeps the old routes', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        let running = true;
        const lanes = inParallel(4, Array(4).fill(), async () => {
            while (running) {
                assert.equal((await ask(server, '/v')).json().version, 1);
                await sleep(5); // one of the scripts takes its time
            }
        });
        for (const broken of [
            'this is no Lua',
            `${version(2)}\nerror("on purpose")`,
            version(2).replace('"GET /v"', '"GET v"'),
            version(2).replace('value = "text?"', 'value = "integer?"'),
            // It takes five seconds of a processor.
            ...(sanitizer ? [] : ['while true do end']),
        ]) {
            const line = await server.reload(broken);
            assert.equal(line.outcome, 'refused', line.text);
            assert.equal((await post(server, '/v')).json().version, 1);
        }
        running = false;
        await lanes;
        assert.equal((await server.reload(version(3))).outcome, 'loaded');
        assert.equal((await ask(server, '/v')).json().version, 3);
    });

    test('to a script without routes, and back', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        await server.reload('local authkit = require "authkit"');
        assertError(await ask(server, '/v'), 404, 'not_found');
        assertError(await post(server, '/v'), 404, 'not_found');
        await server.reload(version(2));
        assert.equal((await ask(server, '/v')).json().version, 2);
    });

    test('while functions run: each ends with the script that it began with', async (t) => {
        const slow = (number) =>
            withRoutes(
                `["GET /slow"] = function(ctx) print("at it") local x = ctx.now() while ctx.now() - x < 400 do end return "${number}" end,
             ["GET /v"] = function() return "${number}" end,`,
            );
        const server = await startServer(t, {
            handlers: slow(1),
            args: ['--handler-timeout', '10000'],
        });
        const begun = ask(server, '/slow');
        await server.waitForLog('at it');
        await server.reload(slow(2));
        assert.equal((await ask(server, '/v')).text, '2');
        assert.equal((await begun).text, '1');
        assert.equal((await ask(server, '/slow')).text, '2');
    });
});

// ------------------------------------------------------------------------------ all at once

describe('everything at once', () => {
    test('routes of all kinds, webhooks, actions, reloads and tokens: nothing unexpected', async (t) => {
        const handlers = (number) =>
            withRoutes(
                `${NOTES}
            ["GET /fail"] = function() error("on purpose ${number}") end,
            ["GET /mine"] = function(ctx) return ctx.auth.require().id end,
            ["GET /big"] = function() return ("x"):rep(300000) end,`,
            );
        const server = await startServer(t, { handlers: handlers(0), env: keys.env });
        const { data: user } = await addUser(server);
        const client = server.newClient({ connections: 24 });
        const token = signToken(key, { sub: user.id });
        let posted = 0;
        let delivered = 0;
        const kinds = [
            async () => assert.equal((await client.request('GET', '/count')).status, 200),
            async () => assert.equal((await client.request('GET', '/fail')).status, 500),
            async () => assert.equal((await client.request('GET', '/nowhere')).status, 404),
            async () =>
                assert.equal(
                    (await client.request('GET', '/mine', { headers: bearer(token) })).text,
                    user.id,
                ),
            async () => assert.equal((await client.request('GET', '/mine')).status, 401),
            async () =>
                assert.equal(
                    (await client.request('GET', '/workos/user', { headers: bearer(token) }))
                        .status,
                    200,
                ),
            async () => assert.equal((await client.request('GET', '/big')).text.length, 300_000),
            async () => assert.equal((await client.request('HEAD', '/big')).status, 200),
            async () => {
                assert.equal(
                    (await client.request('POST', '/notes', { body: '{"key":"posted"}' })).status,
                    201,
                );
                posted += 1;
            },
            async () =>
                assert.equal(
                    (await client.request('POST', '/notes', { body: '{"key":7}' })).status,
                    500,
                ),
            async () => {
                await server.deliver(newRun(), { client });
                delivered += 1;
            },
            async () =>
                assert.equal((await server.act(registrationAction(), { client })).status, 200),
        ];
        const work = inParallel(24, Array(load(4000, 500)).fill(), (_, i) =>
            kinds[i % kinds.length](),
        );
        for (let number = 1; number <= load(10, 3); number++) {
            await sleep(50);
            assert.equal((await server.reload(handlers(number))).outcome, 'loaded');
        }
        await work;
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'posted'"), posted);
        assert.equal(server.row("SELECT count(*) FROM notes WHERE value = 'event'"), delivered);
        assert.equal(server.count('notes'), posted + delivered);
    });
});
