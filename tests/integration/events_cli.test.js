// SPDX-License-Identifier: MIT
// authkitd events and authkitd retry, beside a running server and without one.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';

import { DatabaseSync } from './lib/database.js';
import { Client } from './lib/http.js';
import { adopt, atEnd, describe, test, until } from './lib/harness.js';
import { binary, cleanEnvironment, newFolder, runCommand, startServer } from './lib/server.js';
import { newEvent, newId, userCreated, userDeleted, userUpdated } from './lib/workos.js';

const script = (body) => `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text" } } }
local function run(ctx, event)
  ctx.db.insert("runs", { event_id = event.id })
  ${body}
end
authkit.events { ["test.one"] = run, ["user.updated"] = run }`;

const BROKEN = script('if event.data.bad then error(event.data.bad) end');
const FIXED = script('');

const newRun = (fields) => newEvent('test.one', { object: 'test', id: newId('test'), ...fields });
const newBad = (bad = 'it is bad') => newRun({ bad });

const events = (server, ...args) => runCommand(['events', '--db', server.database, ...args]);
const retry = (server, ...args) => runCommand(['retry', '--db', server.database, ...args]);

/** What --json prints, line by line. */
async function listed(server, ...args) {
    const { code, stdout, stderr } = await events(server, '--json', ...args);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    return stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line));
}

const ids = (list) => list.map((event) => event.id);
const statusOf = (server, event) => server.eventRow(event).status;

/** A server that rests again, with: done, failed, waiting and dead events of three types. */
async function startWithSome(t) {
    const server = await startServer(t, { handlers: BROKEN });
    const failed = newBad();
    const made = {
        user: userCreated(),
        done: newRun(),
        failed,
        waiting: newRun({ id: failed.data.id }),
        dead: newBad('to be dead'),
        last: newEvent('session.created', { object: 'session', id: newId('session') }),
    };
    for (const event of Object.values(made)) await server.deliver(event);
    server.change(
        "UPDATE workos_events SET status = 'dead', attempts = 20, next_attempt_at = NULL WHERE id = ?",
        made.dead.id,
    );
    return { server, made };
}

describe('authkitd events', () => {
    test('lists them, the newest last, beside a running server and without one', async (t) => {
        const { server, made } = await startWithSome(t);
        for (const running of [true, false]) {
            if (!running) await server.stop();
            const { code, stdout } = await events(server);
            assert.equal(code, 0);
            const [head, ...lines] = stdout.trimEnd().split('\n');
            assert.match(head, /^RECEIVED +STATUS +TRIES +EVENT/);
            const first = lines.filter((line) => !line.startsWith(' '));
            assert.deepEqual(
                first.map((line) => line.split(/ +/)[4]),
                ids(Object.values(made)),
            );
            assert.match(first[0], /^\d{4}-\d\d-\d\dT[\d:.]+Z +done +0 +user\.created +event_/);
            assert.match(first[2], / failed +1 +test\.one +event_\w+ +test_/);
            const at = lines.indexOf(first[2]);
            assert.match(lines[at + 1], /^    \S*handlers\.lua:6: it is bad$/);
            assert.match(lines[at + 2], /^    next attempt: \d{4}-/);
        }
    });

    test('--status and --type choose, also user.*; --limit gives the last ones', async (t) => {
        const { server, made } = await startWithSome(t);
        const { user, done, failed, waiting, dead, last } = made;
        for (const [args, expected] of [
            [['--status', 'any'], Object.values(made)],
            [
                ['--status', 'done'],
                [user, done, last],
            ],
            [['--status', 'failed'], [failed]],
            [['--status', 'waiting'], [waiting]],
            [['--status', 'dead'], [dead]],
            [
                ['--type', 'test.one'],
                [done, failed, waiting, dead],
            ],
            [
                ['--type', 'test.*'],
                [done, failed, waiting, dead],
            ],
            [['--type', 'user.*'], [user]],
            [['--type', 'user'], []],
            [['--type', '*'], Object.values(made)],
            [['--type', 'user_*'], []],
            [['--type', '%'], []],
            [['--type', 'test.*', '--status', 'failed'], [failed]],
            [['--type', 'user.*', '--status', 'failed'], []],
            [
                ['--limit', '2'],
                [dead, last],
            ],
            [
                ['--limit', '2', '--status', 'done'],
                [done, last],
            ],
            [['--limit', '0'], []],
            [['--limit', '1000000000'], Object.values(made)],
        ])
            assert.deepEqual(ids(await listed(server, ...args)), ids(expected), args.join(' '));
    });

    test('--limit is 50 when nothing is said', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const sent = [];
        for (let i = 0; i < 55; i++) {
            sent.push(newRun());
            await server.deliver(sent.at(-1));
        }
        assert.deepEqual(ids(await listed(server)), ids(sent.slice(5)));
    });

    test('--json gives everything there is to know, the payload as the JSON that it is', async (t) => {
        const { server, made } = await startWithSome(t);
        const [user, , failed, waiting] = await listed(server);
        const { received_at, ...rest } = user;
        assert.ok(Math.abs(received_at - Date.now()) < 3600_000);
        assert.deepEqual(rest, {
            id: made.user.id,
            event: 'user.created',
            object_id: made.user.data.id,
            user_id: made.user.data.id,
            created_at: made.user.created_at,
            status: 'done',
            attempts: 0,
            next_attempt_at: null,
            last_error: null,
            payload: made.user,
        });
        assert.equal(failed.status, 'failed');
        assert.ok(failed.next_attempt_at > failed.received_at);
        assert.match(failed.last_error, /it is bad\n(.*\n)*.*traceback/);
        assert.equal(failed.user_id, null);
        assert.equal(waiting.status, 'waiting');
    });

    test('odd payloads stand on one line each and say the same', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const data = {
            id: newId('test'),
            newline: 'a\nb\r\nc',
            separators: 'a\u2028b\u2029c',
            quotes: '"\\"',
            astral: '𝔘\u{1F600}',
            control: '\u0001\u001b\u007f\u009b',
            nothing: '\u0000',
            empty: '',
        };
        const event = newEvent('test.one', data);
        // A lone half of a pair, spaces and line ends of every kind between the tokens, and a number
        // that no double holds.
        const body = JSON.stringify(event, null, '\t \n\r\n')
            .replace('"empty": ""', '"empty":\n"\\ud800"')
            .replace('"data": {', '"data": {\r "big" : 12345678901234567890,');
        await server.deliver(body);
        const { code, stdout } = await events(server, '--json');
        assert.equal(code, 0);
        assert.equal(stdout.match(/\n/g).length, 1);
        assert.ok(!stdout.includes('\r'));
        const { payload } = JSON.parse(stdout);
        assert.deepEqual(payload, JSON.parse(body));
        assert.ok(stdout.includes('"big" : 12345678901234567890'));
    });

    test('an erased payload is null', async (t) => {
        const server = await startServer(t, { handlers: FIXED });
        const created = userCreated();
        await server.deliver(created);
        await server.deliver(userDeleted(created.data));
        for (const row of await listed(server)) assert.equal(row.payload, null);
    });

    test('what strangers name things plays no tricks on the terminal', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const tricks = '\u001b[2Jclear\u009b31mred\u0007\b\b\t\r\nnext\u007f\u0085\u202egnp';
        await server.deliver(newRun({ id: tricks, bad: tricks }));
        await server.deliver(newRun({ id: tricks }));
        const { code, stdout } = await events(server);
        assert.equal(code, 0);
        // eslint-disable-next-line no-control-regex
        assert.doesNotMatch(
            stdout,
            /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/,
        );
        for (const line of stdout.trimEnd().split('\n'))
            assert.match(line, /^(RECEIVED|\d{4}-|    )/, 'no line is forged');
        assert.match(stdout, /clear.*red/, 'the rest can be read');
        // For programs it is all there, in escapes: they, too, print in terminals.
        const [row] = await listed(server);
        assert.equal(row.object_id, tricks);
        assert.equal(row.payload.data.bad, tricks);
        const json = await events(server, '--json');
        assert.doesNotMatch(
            json.stdout,
            // eslint-disable-next-line no-control-regex
            /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/,
        );
        assert.match(json.stdout, /clear\\u009b31mred/);
    });

    test('without a database: exit 1, and the name of what is missing', async () => {
        const folder = newFolder();
        const file = path.join(folder, 'nowhere.db');
        const { code, stdout, stderr } = await runCommand(['events', '--db', file], {
            cwd: folder,
        });
        assert.equal(code, 1);
        assert.equal(stdout, '');
        assert.match(stderr, /^authkitd: .*nowhere\.db.*No such file/);
        const again = await runCommand(['events', '--db', file], { cwd: folder });
        assert.equal(again.code, 1, 'and asking made none');
    });

    for (const column of ['event', 'id', 'status'])
        test(`of a damaged file, where ${column} is nothing: the others are listed`, async (t) => {
            const { server, made } = await startWithSome(t);
            await server.stop();
            const database = new DatabaseSync(server.database);
            database.exec(`PRAGMA writable_schema = ON;
                UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'workos_events'`);
            database.close();
            server.change(
                `UPDATE workos_events SET ${column} = NULL WHERE id = ?`,
                made.dead.id,
            );
            const rows = await listed(server);
            assert.equal(rows.length, 6);
            assert.equal(rows[4][column], '');
            const { code, stdout } = await events(server);
            assert.equal(code, 0);
            assert.match(stdout, new RegExp(`${made.last.id}.*\n$`));
        });

    test('with what is no database: exit 1, and says so', async (t) => {
        const { writeFileSync } = await import('node:fs');
        const folder = newFolder();
        writeFileSync(
            path.join(folder, 'text.db'),
            'a text, longer than a header would be. '.repeat(100),
        );
        const { code, stderr } = await runCommand(['events', '--db', 'text.db'], { cwd: folder });
        assert.equal(code, 1);
        assert.match(stderr, /text\.db.*not a database/);
        const folderAsFile = await runCommand(['events', '--db', '.'], { cwd: folder });
        assert.equal(folderAsFile.code, 1);
        assert.match(folderAsFile.stderr, /directory/);
    });

    for (const args of [
        ['--status', 'broken'],
        ['--status'],
        ['--limit', '-1'],
        ['--limit', 'many'],
        ['--handlers', 'x.lua'],
        ['--nonsense'],
        ['event_1'],
    ])
        test(`wrong usage, ${args.join(' ')}: exit 2`, async () => {
            const { code, stdout, stderr } = await runCommand(['events', ...args]);
            assert.equal(code, 2);
            assert.equal(stdout, '');
            assert.match(stderr, /^authkitd: /);
        });
});

describe('authkitd events --follow', () => {
    function follow(t, server, ...args) {
        const child = adopt(
            spawn(binary, ['events', '--follow', '--db', server.database, ...args], {
                env: cleanEnvironment(),
                stdio: ['ignore', 'pipe', 'pipe'],
            }),
        );
        const follower = { child, text: '', errors: '', ended: once(child, 'close') };

        atEnd(t, () => child.kill('SIGKILL'));
        child.stdout.setEncoding('utf8').on('data', (text) => (follower.text += text));
        child.stderr.setEncoding('utf8').on('data', (text) => (follower.errors += text));
        follower.lines = () => follower.text.split('\n').slice(0, -1);
        follower.waitFor = (...texts) =>
            until(`a line with ${texts.join(' and ')}`, () =>
                follower.lines().find((line) => texts.every((text) => line.includes(text))),
            );
        return follower;
    }

    test('shows what is there, what comes, and what becomes of it', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const [old, failed] = [newRun(), newBad()];
        await server.deliver(old);
        await server.deliver(failed);
        const follower = follow(t, server);
        await follower.waitFor(old.id, 'done');
        await follower.waitFor(failed.id, 'failed');

        const [come, bad] = [newRun(), newBad()];
        const waiting = newRun({ id: bad.data.id });
        for (const event of [come, bad, waiting]) await server.deliver(event);
        await follower.waitFor(come.id, 'done');
        await follower.waitFor(bad.id, 'failed');
        await follower.waitFor(waiting.id, 'waiting');

        await server.reload(FIXED);
        for (const event of [failed, bad, waiting]) await follower.waitFor(event.id, 'done');
        const mentions = (event) => follower.lines().filter((line) => line.includes(event.id));
        assert.equal(mentions(old).length, 1);
        assert.equal(mentions(come).length, 1);

        follower.child.kill('SIGINT');
        const [code, signal] = await follower.ended;
        assert.ok(signal === 'SIGINT' || code === 0 || code === 130, `${code} ${signal}`);
        assert.equal(follower.errors, '');
    });

    test('with --json, --limit 0 and --type: only what comes, of that type, a JSON object a line', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const old = newRun();
        await server.deliver(old);
        const follower = follow(t, server, '--json', '--limit', '0', '--type', 'user.*');
        let last;
        // It has looked at the database for the first time when it shows one.
        await until('it to follow', async () => {
            last = userCreated();
            await server.deliver(last);
            await server.deliver(newRun());
            return follower.lines().length > 0;
        });
        await follower.waitFor(last.id);
        const shown = follower.lines().map((line) => JSON.parse(line));
        for (const row of shown) assert.equal(row.event, 'user.created');
        assert.equal(new Set(ids(shown)).size, shown.length, 'each once');
        assert.ok(!ids(shown).includes(old.id));
    });

    test('goes on over a restart of the server', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const before = newRun();
        await server.deliver(before);
        const follower = follow(t, server);
        await follower.waitFor(before.id);
        await server.restart();
        const after = newRun();
        await server.deliver(after);
        await follower.waitFor(after.id);
    });

    // Symptom: it showed nothing any more, for ever.
    test('goes on with a backup that is put in the place of the database', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const [kept, lost, failed] = [newRun(), newRun(), newBad()];
        await server.deliver(kept);
        const backup = path.join(server.folder, 'backup.db');
        const made = await runCommand(['backup', '--db', server.database, backup]);
        assert.equal(made.code, 0, made.output);
        await server.deliver(lost);
        await server.deliver(failed);
        const follower = follow(t, server);
        await follower.waitFor(failed.id, 'failed');

        await server.stop();
        fs.renameSync(server.database, `${server.database}.old`);
        await until('it to notice', () => /'.*' was deleted, or another file/.test(follower.errors));
        fs.copyFileSync(backup, server.database);
        for (const end of ['-wal', '-shm']) fs.rmSync(server.database + end, { force: true });
        await server.start();
        const come = newRun();
        await server.deliver(come);
        await follower.waitFor(come.id, 'done');
        assert.match(follower.errors, /^authkitd: going on with the new one$/m);
        assert.equal(follower.lines().filter((line) => line.includes(kept.id)).length, 1);
        assert.equal(follower.lines().filter((line) => line.includes(lost.id)).length, 1);
    });

    test('ends when nobody reads it any more, also when nothing happens', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const event = newRun();
        await server.deliver(event);
        const follower = follow(t, server);
        await follower.waitFor(event.id);
        follower.child.stdout.destroy();
        const [code, signal] = await Promise.race([
            follower.ended,
            until(
                'it to end',
                () => follower.child.exitCode !== null || follower.child.signalCode !== null,
            ).then(() => follower.ended),
        ]);
        assert.ok(code !== null || signal === 'SIGPIPE', `${code} ${signal}`);
        assert.equal(follower.errors, '');
    });
});

describe('authkitd retry', () => {
    test('ids, beside a running server: those that are failed or dead run at once', async (t) => {
        const { server, made } = await startWithSome(t);
        const { dead, failed, waiting } = made;
        const { code, output } = await retry(server, dead.id, failed.id);
        assert.equal(code, 0, output);
        assert.match(output, /^2 events put back to work$/m);
        await until('both to have failed again', () =>
            [dead, failed].every(
                (event) =>
                    statusOf(server, event) === 'failed' && server.eventRow(event).attempts === 1,
            ),
        );
        assert.equal(statusOf(server, waiting), 'waiting');
        await server.reload(FIXED);
        await until('all to be done', () =>
            [dead, failed, waiting].every((event) => statusOf(server, event) === 'done'),
        );
    });

    test('--all, beside a running server', async (t) => {
        const { server, made } = await startWithSome(t);
        await server.reload(FIXED);
        await until('the failed one to be done', () => statusOf(server, made.waiting) === 'done');
        assert.equal(statusOf(server, made.dead), 'dead');
        const { code, output } = await retry(server, '--all');
        assert.equal(code, 0, output);
        assert.match(output, /^1 event put back to work$/m);
        await until('it to be done', () => statusOf(server, made.dead) === 'done');
        const none = await retry(server, '--all');
        assert.equal(none.code, 0, none.output);
        assert.match(none.output, /^0 events put back to work$/m);
        assert.equal(server.count('runs'), 4);
    });

    // Symptom: an id that was given three times was told as three events.
    test('an id that is given several times is one event', async (t) => {
        const { server, made } = await startWithSome(t);
        const { id } = made.dead;
        const answer = await fetch(`${server.adminUrl}/retry`, {
            method: 'POST',
            headers: { 'Authkitd-Admin': '1', 'Content-Type': 'application/json' },
            body: JSON.stringify({ ids: [id, id] }),
        });
        assert.equal((await answer.json()).put_back, 1);
        await until('it to have failed again', () => server.eventRow(made.dead).attempts === 1);
        for (const running of [true, false]) {
            if (!running) await server.stop();
            const { stdout, stderr } = await retry(server, id, 'nobody', id, 'nobody', id);
            assert.match(stdout, /^1 event put back to work/);
            assert.equal(stderr, 'nobody: there is no event with this id\n');
        }
    });

    test('more ids than fit into one request, beside a running server', async (t) => {
        const { server, made } = await startWithSome(t);
        const unknown = Array.from({ length: 3000 }, () => newId('event'));
        const { code, stdout, stderr } = await retry(server, ...unknown, made.dead.id);
        assert.equal(code, 1);
        assert.match(stdout, /^1 event put back to work$/m);
        assert.ok(stderr.includes(unknown[0]), stderr.slice(0, 1000));
        await until('it to have run', () => server.eventRow(made.dead).attempts === 1);
    });

    for (const operands of ['ids', '--all'])
        test(`${operands}, without a server: they run when it is started`, async (t) => {
            const { server, made } = await startWithSome(t);
            await server.stop();
            const { code, output } = await retry(
                server,
                ...(operands === 'ids' ? [made.dead.id, made.failed.id] : ['--all']),
            );
            assert.equal(code, 0, output);
            assert.match(
                output,
                /^2 events put back to work: they run when the server is started$/m,
            );
            for (const event of [made.dead, made.failed]) {
                assert.equal(statusOf(server, event), 'failed');
                assert.equal(server.eventRow(event).attempts, 0);
            }
            const { writeFileSync } = await import('node:fs');
            writeFileSync(server.handlersFile, FIXED);
            await server.start();
            await until('all to be done', () =>
                [made.dead, made.failed, made.waiting].every(
                    (event) => statusOf(server, event) === 'done',
                ),
            );
        });

    test('names each id that cannot be, and why, and puts the others back: exit 1', async (t) => {
        const { server, made } = await startWithSome(t);
        const erased = userUpdated(made.user.data, { bad: 'x' });
        await server.deliver(erased);
        assert.equal(statusOf(server, erased), 'failed');
        server.change(
            "UPDATE workos_events SET status = 'dead', next_attempt_at = NULL WHERE id = ?",
            erased.id,
        );
        await server.deliver(userDeleted(made.user.data));
        for (const running of [true, false]) {
            if (!running) await server.stop();
            const { code, stdout, stderr } = await retry(
                server,
                'event_of_nobody',
                made.done.id,
                made.waiting.id,
                erased.id,
                made.failed.id,
            );
            assert.equal(code, 1);
            assert.match(stdout, /^1 event put back/);
            const lines = stderr.trimEnd().split('\n');
            assert.equal(lines.length, 4, stderr);
            assert.match(lines[0], /event_of_nobody: there is no event/);
            assert.match(lines[1], new RegExp(`${made.done.id}: it is done`));
            assert.match(lines[2], new RegExp(`${made.waiting.id}: it waits`));
            assert.match(lines[3], new RegExp(`${erased.id}: .*erased`));
        }
        assert.equal(server.eventRow(made.failed).attempts, 0);
    });

    test('with the admin listener off: exit 1, and says what to do', async (t) => {
        const { server, made } = await startWithSome(t);
        await server.stop();
        const child = adopt(
            spawn(
                binary,
                [
                    'serve',
                    '--handlers',
                    server.handlersFile,
                    '--db',
                    server.database,
                    '--listen',
                    '127.0.0.1:0',
                    '--admin-listen',
                    'off',
                ],
                { env: cleanEnvironment(server.env), stdio: ['ignore', 'ignore', 'pipe'] },
            ),
        );
        let log = '';
        child.stderr.setEncoding('utf8').on('data', (text) => (log += text));
        const ended = once(child, 'close');
        await until('it to listen', () => / listening /.test(log));
        for (const args of [[], ['--admin-listen', 'off']]) {
            const { code, output } = await retry(server, made.dead.id, ...args);
            assert.equal(code, 1);
            assert.match(output, /admin listener/);
            assert.match(output, /stop the server/);
        }
        assert.equal(statusOf(server, made.dead), 'dead');
        child.kill('SIGTERM');
        assert.deepEqual(await ended, [0, null]);
    });

    test('without a database: exit 1, and makes none', async () => {
        const cwd = newFolder();
        for (let i = 0; i < 2; i++) {
            const { code, output } = await runCommand(['retry', '--all'], { cwd });
            assert.equal(code, 1);
            assert.match(output, /authkitd\.db/);
        }
        const { existsSync } = await import('node:fs');
        assert.equal(existsSync(path.join(cwd, 'authkitd.db')), false);
    });

    for (const args of [[], ['--all', 'event_1'], ['--json', 'event_1'], ['--all', '--nonsense']])
        test(`wrong usage, retry ${args.join(' ')}: exit 2`, async () => {
            const { code, stderr } = await runCommand(['retry', ...args]);
            assert.equal(code, 2);
            assert.match(stderr, /^authkitd: /);
        });
});

describe('POST /retry of the admin listener', () => {
    async function startWithAdmin(t) {
        const { server, made } = await startWithSome(t);
        const admin = new Client(server.adminUrl);
        atEnd(t, () => admin.close());
        const post = (body, headers = { 'Authkitd-Admin': '1' }) =>
            admin.request('POST', '/retry', { body, headers });
        return { server, made, admin, post };
    }

    test('needs its header, as a page that somebody happens to visit cannot send it', async (t) => {
        const { server, made, admin, post } = await startWithAdmin(t);
        const body = JSON.stringify({ all: true });
        assert.equal((await post(body, {})).status, 403);
        assert.equal((await post(body, { 'Authkitd-Admin': '0' })).status, 403);
        const get = await admin.request('GET', '/retry', { headers: { 'Authkitd-Admin': '1' } });
        assert.equal(get.status, 405);
        assert.equal(statusOf(server, made.dead), 'dead');
        // Nor is it there for the public.
        const outside = await server.client.request('POST', '/retry', {
            body,
            headers: { 'Authkitd-Admin': '1' },
        });
        assert.equal(outside.status, 404);
    });

    test('anything but {"ids":["…"]} or {"all":true} is a 400, and puts nothing back', async (t) => {
        const { server, made, post } = await startWithAdmin(t);
        for (const body of [
            '',
            'all',
            '{',
            '[]',
            'null',
            '"all"',
            '{}',
            '{"all":false}',
            '{"all":"true"}',
            '{"all":1}',
            '{"ids":[]}',
            '{"ids":"event_1"}',
            '{"ids":{"a":1}}',
            '{"ids":[1]}',
            '{"ids":[null]}',
            '{"ids":[["event_1"]]}',
            '{"ids":["event_1",2]}',
            '{"ids":["event_1"],"all":true}',
            '{"all":true} ,',
        ]) {
            const answer = await post(body);
            assert.equal(answer.status, 400, `${body}: ${answer.text}`);
            assert.ok(answer.json().error.message);
        }
        assert.equal(statusOf(server, made.dead), 'dead', 'nothing is put back');
    });

    test('says how many were put back, and what is wrong with the others', async (t) => {
        const { server, made, post } = await startWithAdmin(t);
        const answer = await post(
            JSON.stringify({ ids: [made.dead.id, 'x"\n\u001b', made.done.id] }),
        );
        assert.equal(answer.status, 200);
        const { put_back, refused, problems } = answer.json();
        assert.equal(put_back, 1);
        assert.equal(refused, 2);
        assert.match(problems, /there is no event/);
        assert.match(problems, new RegExp(made.done.id));
        await until('it to have failed again', () => statusOf(server, made.dead) === 'failed');
    });
});
