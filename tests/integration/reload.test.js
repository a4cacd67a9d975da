// SPDX-License-Identifier: MIT
// A reload swaps the script whole or not at all, with no request dropped.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, existsSync, statSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';

import { atEnd, describe, describeLogic, load, patience, sleep, test } from './lib/harness.js';
import { newFolder, newServer, runCommand, startServer, writeFile } from './lib/server.js';
import { newEvent, newId, registrationAction, userCreated } from './lib/workos.js';

/** A script that marks every event with its version. */
const version = (number, { schema = '', more = '' } = {}) => `
local authkit = require "authkit"
local VERSION = ${number}
authkit.schema {
  marks = { columns = { event_id = "text", version = "integer", half = "integer?" } },
  ${schema}
}
authkit.events {
  ["test.run"] = function(ctx, event)
    ctx.db.insert("marks", { event_id = event.id, version = VERSION })
    ${more}
  end,
}
authkit.actions {
  user_registration = function(ctx, action, response) return response.deny("version " .. VERSION) end,
}`;

const newRun = () => newEvent('test.run', { object: 'test', id: newId('test') });

/** Keep `lanes` connections busy with events and actions until stop(); every answer must be 200. */
function keepBusy(server, lanes) {
    const client = server.newClient({ connections: lanes });
    const sent = [];
    const bad = [];
    let stopped = false;

    async function lane(number) {
        while (!stopped) {
            const event = newRun();
            try {
                const answer =
                    number % 8 === 0
                        ? await server.act(registrationAction(), { client })
                        : await server.post(event, { client });
                if (answer.status !== 200) bad.push(`${answer.status} ${answer.text}`);
                else if (number % 8 !== 0) sent.push(event);
            } catch (error) {
                bad.push(String(error));
            }
        }
    }
    const running = Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
    return {
        sent,
        async stop() {
            stopped = true;
            await running;
            assert.deepEqual(bad.slice(0, 5), [], `${bad.length} answers were not 200`);
            return sent;
        },
    };
}

describe('reloading under load', () => {
    test(`${load(200, 40)} times: no answer but 200, and no version runs after a later one`, async (t) => {
        const reloads = load(200, 40);
        const server = await startServer(t, { handlers: version(0) });
        const traffic = keepBusy(server, 16);

        for (let number = 1; number <= reloads; number++) {
            const line = await server.reload(version(number));
            assert.equal(line.outcome, 'loaded', line.text);
        }
        // What is sent after a reload was told of runs on the new script.
        const after = newRun();
        await server.deliver(after);
        assert.equal(server.row('SELECT version FROM marks WHERE event_id = ?', after.id), reloads);
        const sent = await traffic.stop();

        const versions = server
            .rows('SELECT version FROM marks ORDER BY _id')
            .map((row) => row.version);
        assert.equal(versions.length, sent.length + 1);
        for (let i = 1; i < versions.length; i++)
            assert.ok(
                versions[i] >= versions[i - 1],
                `version ${versions[i]} ran after ${versions[i - 1]}`,
            );
        t.diagnostic(`${sent.length} events, ${new Set(versions).size} versions seen`);
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'"), 0);
    });

    test('signals that come faster than it can load end with the last script', async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        const traffic = keepBusy(server, 4);
        for (let number = 1; number <= 100; number++) {
            writeFile(server.handlersFile, version(number));
            server.signal('SIGHUP');
            if (number % 10 === 0) await sleep(5);
        }
        const deadline = Date.now() + patience(10_000);
        for (;;) {
            const event = newRun();
            await server.deliver(event);
            if (server.row('SELECT version FROM marks WHERE event_id = ?', event.id) === 100) break;
            assert.ok(Date.now() < deadline, 'the last script never ran');
            await sleep(20);
        }
        await traffic.stop();
    });

    test('good and broken scripts by turns: every answer 200, each event by a good one', async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        const traffic = keepBusy(server, 8);
        for (let number = 1; number <= load(40, 10); number++) {
            const broken = number % 2 === 1;
            const line = await server.reload(
                broken ? version(number) + '\nerror("broken on purpose")' : version(number),
            );
            assert.equal(line.outcome, broken ? 'refused' : 'loaded', line.text);
        }
        await traffic.stop();
        assert.equal(server.row('SELECT count(*) FROM marks WHERE version % 2 = 1'), 0);
    });

    test('schema changes while events come: tables and columns appear, no answer but 200', async (t) => {
        const server = await startServer(t, { handlers: version(0) });
        const traffic = keepBusy(server, 8);
        for (let number = 1; number <= load(20, 6); number++) {
            const schema = Array.from(
                { length: number },
                (_, i) =>
                    `extra_${i + 1} = { columns = { ${Array.from({ length: number - i }, (_, c) => `c${c} = "text?"`).join(', ')} }, indexes = { { "c0" } } },`,
            ).join('\n');
            const line = await server.reload(
                version(number, {
                    schema,
                    more: `ctx.db.insert("extra_${number}", { c0 = event.id })`,
                }),
            );
            assert.equal(line.outcome, 'loaded', line.text);
            await server.deliver(newRun());
            assert.ok(server.count(`extra_${number}`) >= 1);
        }
        await traffic.stop();
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'"), 0);
    });
});

describe('a broken script', () => {
    for (const [what, script, where] of [
        ['a syntax error', `${version(2)}\n\nthis is no Lua`, /handlers\.lua:\d+/],
        [
            'an error while loading',
            'local authkit = require "authkit"\nauthkit.events {}\nerror("not ready yet")',
            /handlers\.lua:3.*not ready yet/,
        ],
        [
            'a call of nothing',
            'local authkit = require "authkit"\n\n\nauthkit.evnets { }',
            /handlers\.lua:4/,
        ],
        ['a module that is not there', 'require "absent.module"', /absent.module/],
        ['an empty file', '', null],
        ['bytecode', '\x1bLua\x54\x00', /./],
    ]) {
        test(`(${what}) leaves the old one running`, async (t) => {
            const server = await startServer(t, { handlers: version(1) });
            const line = await server.reload(script);
            if (where) {
                assert.equal(line.outcome, 'refused');
                assert.match(line.text, where);
                assert.ok(['warn', 'error'].includes(line.level));
                const event = newRun();
                await server.deliver(event);
                assert.equal(
                    server.row('SELECT version FROM marks WHERE event_id = ?', event.id),
                    1,
                );
            }
            // Whatever came of it, a good script helps.
            assert.equal((await server.reload(version(3))).outcome, 'loaded');
            const event = newRun();
            await server.deliver(event);
            assert.equal(server.row('SELECT version FROM marks WHERE event_id = ?', event.id), 3);
        });
    }

    test('that is deleted leaves the old one running', async (t) => {
        const { unlinkSync } = await import('node:fs');
        const server = await startServer(t, { handlers: version(1) });
        unlinkSync(server.handlersFile);
        const line = await server.reload();
        assert.equal(line.outcome, 'refused');
        assert.match(line.text, /handlers\.lua/);
        await server.deliver(newRun());
    });

    test('in a module counts as well, and the module is read again', async (t) => {
        const handlers = `
            local authkit = require "authkit"
            local marker = require "marker"
            authkit.schema { marks = { columns = { event_id = "text", version = "integer" } } }
            authkit.events { ["test.run"] = function(ctx, event) ctx.db.insert("marks", { event_id = event.id, version = marker.version }) end }`;
        const server = await startServer(t, {
            handlers,
            modules: { 'marker.lua': 'return { version = 1 }' },
        });
        const file = `${server.folder}/marker.lua`;
        const runs = async () => {
            const event = newRun();
            await server.deliver(event);
            return server.row('SELECT version FROM marks WHERE event_id = ?', event.id);
        };
        assert.equal(await runs(), 1);
        writeFile(file, 'return { version = = }');
        const line = await server.reload();
        assert.equal(line.outcome, 'refused');
        assert.match(line.text, /marker\.lua:1/);
        assert.equal(await runs(), 1);
        writeFile(file, 'return { version = 2 }');
        assert.equal((await server.reload()).outcome, 'loaded');
        assert.equal(await runs(), 2);
    });

    test('a file that changes without a reload changes nothing, not even after an accident of the script', async (t) => {
        const accident = 'if event.data.which == "loop" then while true do end end';
        const server = await startServer(t, {
            handlers: version(1, { more: accident }),
            args: ['--handler-timeout', '200'],
        });
        writeFile(server.handlersFile, version(2));
        const bad = newEvent('test.run', { id: newId('test'), which: 'loop' });
        await server.deliver(bad);
        assert.equal(server.eventRow(bad).status, 'failed');
        const event = newRun();
        await server.deliver(event);
        assert.equal(server.row('SELECT version FROM marks WHERE event_id = ?', event.id), 1);
    });
});

describe('authkitd reload', () => {
    const reload = (server) => runCommand(['reload', '--db', server.database], { env: {} });

    test('waits, and says that it is done: exit 0, and the new script runs', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        writeFile(server.handlersFile, version(2));
        const { code, output } = await reload(server);
        assert.equal(code, 0, output);
        const event = newRun();
        await server.deliver(event);
        assert.equal(server.row('SELECT version FROM marks WHERE event_id = ?', event.id), 2);
    });

    test('of a broken script: exit 1 and the error with file and line; the old one runs on', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        writeFile(server.handlersFile, 'local x =\n= 5');
        const { code, output } = await reload(server);
        assert.equal(code, 1, output);
        assert.match(output, /handlers\.lua:2/);
        const event = newRun();
        await server.deliver(event);
        assert.equal(server.row('SELECT version FROM marks WHERE event_id = ?', event.id), 1);
    });

    test('many at once: each gets its answer', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        const results = await Promise.all(Array.from({ length: load(8, 4) }, () => reload(server)));
        for (const { code, output } of results) assert.equal(code, 0, output);
    });

    test('with the server stopped meanwhile: exit 1, and says that none runs', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        await server.stop();
        const { code, output } = await reload(server);
        assert.equal(code, 1);
        assert.match(output, /no (running )?server|not running/i);
    });

    test('cannot be done from the public side', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        for (const path of ['/reload', '/admin/reload', '/-/reload'])
            assert.equal((await server.client.request('POST', path, { body: '' })).status, 404);
        await server.deliver(userCreated());
        assert.equal(
            server.lines.filter((line) => line.msg.startsWith('script refused')).length,
            0,
        );
    });
});

describeLogic('authkitd reload asks at an address where', () => {
    /** Somebody else's server. answer: what it does with a response; NULL: it never answers. */
    async function startStranger(t, answer) {
        const asked = [];
        const stranger = http.createServer((request, response) => {
            asked.push(request);
            answer?.(response);
        });
        atEnd(t, () => {
            stranger.closeAllConnections();
            stranger.close();
        });
        stranger.listen(0, '127.0.0.1');
        await once(stranger, 'listening');
        return { asked, address: `127.0.0.1:${stranger.address().port}` };
    }
    const reloadAt = (address, options) =>
        runCommand(['reload', '--admin-listen', address], options);
    const json = (status, body) => (response) =>
        response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));

    for (const [what, answer] of [
        ['a page', (response) => response.end('<!doctype html><p>Hello')],
        ['other JSON', json(200, { ok: true })],
        ['an error of its own', json(404, { error: 'not found' })],
        ['a redirection', (response) => response.writeHead(302, { Location: '/' }).end()],
    ])
        test(`somebody else answers with ${what}: exit 1, and says so`, async (t) => {
            const { address } = await startStranger(t, answer);
            const { code, stdout, stderr } = await reloadAt(address);
            assert.equal(code, 1, stdout);
            assert.equal(stdout, '');
            assert.match(stderr, /what answers at .*\/reload isn't authkitd's admin listener/);
        });

    test('the public side listens: exit 1, and says so', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        const { code, stderr } = await reloadAt(server.url.slice('http://'.length));
        assert.equal(code, 1);
        assert.match(stderr, /isn't authkitd's admin listener \(it answered 404\)/);
    });

    test('nobody answers: says after some seconds that it waits', async (t) => {
        const { address } = await startStranger(t, null);
        await assert.rejects(
            reloadAt(address, { timeout: 8_000 }),
            /still running after[^]*\/reload hasn't answered yet \(a new script/,
        );
    });

    test('an error plays tricks on the terminal: they are shown as ?', async (t) => {
        const message = 'bad\n\tline \u001b[31m \u009b1m \u202e';
        const { address } = await startStranger(t, json(422, { error: { code: 'x', message } }));
        const { code, stderr } = await reloadAt(address);
        assert.equal(code, 1);
        assert.ok(stderr.endsWith('bad\n\tline ?[31m ?1m ?\n'), JSON.stringify(stderr));
    });

    test("another database's server is: refused, and that one's script isn't loaded", async (t) => {
        const [other, own] = [
            await startServer(t, { handlers: version(1) }),
            await startServer(t, { handlers: version(1) }),
        ];
        const address = other.adminUrl.slice('http://'.length);
        writeFile(other.handlersFile, version(2));
        for (const command of [['reload'], ['retry', '--all'], ['reconcile'], ['backfill', '--yes']]) {
            const { code, stderr } = await runCommand([...command, '--db', own.database], {
                env: { AUTHKITD_ADMIN_LISTEN: address, WORKOS_API_KEY: 'sk_test_x' },
            });
            assert.equal(code, 1, stderr);
            assert.ok(
                stderr.includes(`AUTHKITD_ADMIN_LISTEN is ${address}, but the server that runs with`),
                stderr,
            );
        }
        const event = newRun();
        await other.deliver(event);
        assert.equal(other.row('SELECT version FROM marks WHERE event_id = ?', event.id), 1);
    });

    test('a stranger listens, and the server has no admin listener: it gets no token', async (t) => {
        const server = newServer(t, { handlers: version(1) });
        server.args = ['--admin-listen', 'off'];
        await server.start();
        const { asked, address } = await startStranger(t, json(200, { reloaded: true }));
        const { code, stderr } = await runCommand(['reload', '--db', server.database], {
            env: { AUTHKITD_ADMIN_LISTEN: address, AUTHKITD_ADMIN_TOKEN: 'x'.repeat(32) },
        });
        assert.equal(code, 1);
        assert.match(stderr, /has no admin listener/);
        assert.equal(asked.length, 0);
    });

    test('only --admin-listen is said, and a database that rests happens to be here: it is asked', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        const cwd = newFolder();
        copyFileSync(server.database, path.join(cwd, 'authkitd.db'));
        const address = server.adminUrl.slice('http://'.length);
        const { code, output } = await reloadAt(address, { cwd });
        assert.equal(code, 0, output);
        const env = { AUTHKITD_ADMIN_LISTEN: address };
        const other = await runCommand(['reload'], { cwd, env });
        assert.equal(other.code, 1);
        assert.match(other.stderr, /none has authkitd\.db, so whoever listens at/);
    });

    test('a stranger listens while the server is down: it gets no token', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        await server.stop();
        const { asked, address } = await startStranger(t, json(200, { reloaded: true }));
        const { code, stderr } = await runCommand(['reload', '--db', server.database], {
            env: { AUTHKITD_ADMIN_LISTEN: address, AUTHKITD_ADMIN_TOKEN: 'x'.repeat(32) },
        });
        assert.equal(code, 1);
        assert.match(stderr, /no running server found/);
        assert.equal(asked.length, 0);
    });
});

describe('SIGTERM during a reload', () => {
    const LOOP = 'print("in the loop") while true do end';

    /** The server must be gone well before its script's five seconds of loading are over. */
    async function endsSoon(server) {
        const started = Date.now();
        await server.stop(); // asserts the exit code, too
        const took = Date.now() - started;
        assert.ok(took < patience(2500), `it took ${took} ms to end`);
    }

    test('of a script that loops at its loading: it ends at once, the database in order', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        const event = newRun();
        await server.deliver(event);
        writeFile(server.handlersFile, LOOP);
        server.signal('SIGHUP');
        await server.waitForLog('in the loop');
        await server.deliver(newRun()); // by the old script, meanwhile
        await endsSoon(server);
        await server.waitForLog('stopped while a script was loading');
        assert.equal(server.log('script refused; the old one goes on').length, 0);
        assert.equal(
            existsSync(`${server.database}-wal`) && statSync(`${server.database}-wal`).size,
            false,
            'the log is checkpointed into the file',
        );
        writeFile(server.handlersFile, version(2));
        await server.start();
        assert.equal(server.count('marks'), 2);
    });

    // Symptom: it ended when the load was given up, with 1 and "cannot start".
    test('while the first script loads: it ends at once, with 0, and starts the next time', async (t) => {
        const server = newServer(t, { handlers: LOOP });
        const start = assert.rejects(server.start(), /the server ended at its start/);
        await server.waitForLog('in the loop');
        server.signal('SIGHUP'); // asks for a load that never comes
        await endsSoon(server);
        await start;
        assert.equal(server.log('stopping')[0].signal, 'SIGTERM');
        assert.equal(server.log('stopped').length, 1);
        assert.equal(server.log('cannot start').length, 0);
        writeFile(server.handlersFile, version(1));
        await server.start();
        await server.deliver(newRun());
        assert.equal(server.count('marks'), 1);
    });

    test('that a command asked for: the command is told', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        writeFile(server.handlersFile, LOOP);
        const command = runCommand(['reload', '--db', server.database], { env: {} });
        await server.waitForLog('in the loop');
        await endsSoon(server);
        const { code, output } = await command;
        assert.equal(code, 1, output);
        assert.match(output, /not loaded:\n.*stopping/);
    });

    test('that changes a large table: it ends in time, and the change is whole or not there', async (t) => {
        const rows = load(300_000, 30_000);
        const script = (indexes, more = '') => `
            local authkit = require "authkit"
            authkit.schema { big = { columns = { name = "text" }, indexes = { ${indexes} } } }
            authkit.events { ["test.run"] = function(ctx) ${more} end }`;
        const server = await startServer(t, {
            handlers: script(
                '',
                `ctx.db.sql([[INSERT INTO big (_creation_time, name)
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
                    SELECT 0, hex(randomblob(32)) FROM n]])`,
            ),
            args: ['--log-level', 'debug', '--handler-timeout', String(patience(20_000))],
        });
        const event = newRun();
        await server.deliver(event, { timeout: patience(20_000) });
        assert.equal(server.eventRow(event).status, 'done');
        writeFile(server.handlersFile, script('{ "name", unique = true }'));
        server.signal('SIGHUP');
        await server.waitForLog('script read; installing it');
        await server.stop(); // in time, and with 0
        await server.start();
        assert.equal(server.count('big'), rows);
        assert.equal(
            server.row("SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'big'"),
            1,
        );
        assert.equal(server.row('PRAGMA integrity_check'), 'ok');
    });
});

describe('reloads that are asked for during a reload', () => {
    test('are one more, which reads what is there then', async (t) => {
        const server = await startServer(t, { handlers: version(1) });
        const wait = (ms) => `local stop = os.clock() + ${ms / 1000} while os.clock() < stop do end`;
        writeFile(server.handlersFile, `print("the first") ${wait(1000)} ${version(2)}`);
        server.signal('SIGHUP');
        await server.waitForLog('the first');
        writeFile(server.handlersFile, `print("the second") ${version(3)}`);
        const commands = Array.from({ length: 4 }, () =>
            runCommand(['reload', '--db', server.database], { env: {} }),
        );
        for (let i = 0; i < 20; i++) server.signal('SIGHUP');
        for (const { code, output } of await Promise.all(commands)) assert.equal(code, 0, output);
        const event = newRun();
        await server.deliver(event);
        assert.equal(server.row('SELECT version FROM marks WHERE event_id = ?', event.id), 3);
        const loads = server.log('the second').length;
        assert.ok(loads >= 1 && loads <= 3, `${loads} loads for 24 wishes`);
    });
});

// Symptom: check alone said it; the function never ran, and nothing was in the log.
describeLogic('a misspelt event type', () => {
    const script = (type) =>
        `require("authkit").events { ["${type}"] = function() end, ["user.deleted"] = function() end }`;
    const said = (type) => `${type} is no event type that is known here: did you mean user.created?`;
    const warned = (server) => server.log('event type').map(({ level, what }) => [level, what]);

    test('is warned of at the start, at a reload, and in its answer', async (t) => {
        const server = await startServer(t, { handlers: script('user.craeted') });
        assert.deepEqual(warned(server), [['warn', said('user.craeted')]]);

        writeFile(server.handlersFile, script('user_created'));
        const wrong = await runCommand(['reload', '--db', server.database], { env: {} });
        assert.equal(wrong.code, 0, wrong.output);
        assert.ok(wrong.stdout.split('\n').includes(`warning: ${said('user_created')}`), wrong.stdout);
        assert.deepEqual(warned(server).slice(1), [['warn', said('user_created')]]);

        writeFile(server.handlersFile, script('user.created'));
        const right = await runCommand(['reload', '--db', server.database], { env: {} });
        assert.equal(right.stdout, 'script loaded\nwarning: without a function any more: user_created\n');
        assert.equal(warned(server).length, 2);
    });

    test('a hundred of them: some are named', async (t) => {
        const server = await startServer(t, {
            handlers: `local events = {} for i = 100, 199 do events["odd." .. i] = print end
                require("authkit").events(events)`,
        });
        const told = warned(server);
        assert.equal(told.length, 21);
        assert.equal(told[20][1], 'there are more of them: authkitd check names all');
    });
});
