// SPDX-License-Identifier: MIT
// authkitd backup: a copy of one moment, sound, whatever the server does meanwhile; and starting from
// one again, with what came since.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';

import { assertMirrorIsApi, backfill, backfillWell, envOf, fill } from './lib/backfill.js';
import { fillDatabase, readRows } from './lib/database.js';
import { faults, startFakeApi } from './lib/fake_api.js';
import { adopt, atEnd, describe, load, patience, sleep, test, until } from './lib/harness.js';
import {
    binary,
    cleanEnvironment,
    newFolder,
    newServer,
    runCommand,
    startServer,
} from './lib/server.js';
import { isoTime, newUser, userCreated, userDeleted, userUpdated } from './lib/workos.js';

const HANDLERS = `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text", user_id = "text" } } }
local function run(ctx, event)
  ctx.db.insert("runs", { event_id = event.id, user_id = event.data.id })
end
authkit.events { ["user.created"] = run, ["user.updated"] = run, ["user.deleted"] = run }`;

const backup = (server, file, ...args) =>
    runCommand(['backup', file, '--db', server.database, ...args], { timeout: patience(60_000) });

/** A file in a folder of its own, for the copy. */
const newFile = () => path.join(newFolder(), 'backup.db');

const rows = (file, sql, ...parameters) => readRows(file, sql, parameters);
const value = (file, sql) => Object.values(rows(file, sql)[0])[0];

async function makeBackup(server, file = newFile(), ...args) {
    const { code, output, stdout } = await backup(server, file, ...args);
    assert.equal(code, 0, output);
    return { file, stdout };
}

function assertSound(file) {
    assert.deepEqual(rows(file, 'PRAGMA integrity_check'), [{ integrity_check: 'ok' }]);
    assert.deepEqual(fs.readdirSync(path.dirname(file)), [path.basename(file)], 'one file it is');
}

/** Every event has run once, and made its user, its row and its run together. */
function assertWhole(file) {
    assert.equal(
        value(file, 'SELECT count(*) FROM workos_events'),
        value(file, 'SELECT count(DISTINCT event_id) FROM runs'),
    );
    assert.equal(
        value(file, 'SELECT count(*) FROM runs'),
        value(file, 'SELECT count(*) FROM workos_events'),
    );
}

describe('a backup', () => {
    for (const running of [true, false])
        test(`${running ? 'of a running server' : 'with no server'} has everything, is one private file, and says what it is`, async (t) => {
            const server = await startServer(t, { handlers: HANDLERS });
            const events = [userCreated(), userCreated()];
            for (const event of events) await server.deliver(event);
            await server.deliver(userUpdated(events[0].data, { first_name: 'Grace' }));
            // The server writes it soon after its start, and nothing after it for an hour.
            await until('the first sweep', () => server.rows('SELECT * FROM authkitd_state').length);
            if (!running) await server.stop();
            const { file, stdout } = await makeBackup(server);
            assert.match(stdout, /^\S+backup\.db: \d+ KiB in \d+\.\d s, 2 users, 3 events\n$/);
            assertSound(file);
            assert.equal(fs.statSync(file).mode & 0o777, 0o600);
            assert.equal(value(file, 'PRAGMA journal_mode'), 'delete');
            for (const table of ['workos_events', 'workos_users', 'runs', 'authkitd_state'])
                assert.deepEqual(
                    rows(file, `SELECT * FROM ${table}`),
                    server.rows(`SELECT * FROM ${table}`),
                );
            for (const secret of Object.values(server.env))
                assert.ok(!fs.readFileSync(file).includes(secret));
        });

    test('starts a server, at once', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const event = userCreated();
        await server.deliver(event);
        const { file } = await makeBackup(server);
        await server.stop();
        const other = newServer(t, { handlers: HANDLERS });
        fs.copyFileSync(file, other.database);
        await other.start();
        await other.deliver(event);
        await other.deliver(userCreated());
        assert.equal(other.count('runs'), 2);
        assert.equal(other.count('workos_users'), 2);
    });

    test(`under constant writes, ${load(12, 4)} times in a row: none fails, and each is of one moment`, async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const client = server.newClient({ connections: 8 });
        const taken = [];
        let over = false;

        const senders = Promise.all(
            Array.from({ length: 8 }, async () => {
                while (!over) {
                    const event = userCreated({ padding: 'x'.repeat(2000) });
                    await server.deliver(event, { client });
                    taken.push(event.id);
                }
            }),
        );
        senders.catch(() => (over = true));
        for (let i = 0; i < load(12, 4); i++) {
            const before = [...taken];
            const { file } = await makeBackup(server);
            const there = new Set(rows(file, 'SELECT id FROM workos_events').map(({ id }) => id));
            assert.deepEqual(
                before.filter((id) => !there.has(id)),
                [],
                'what was acknowledged before',
            );
            assertSound(file);
            assertWhole(file);
            assert.equal(
                value(file, 'SELECT count(*) FROM workos_users'),
                value(file, 'SELECT count(*) FROM workos_events'),
            );
        }
        over = true;
        await senders;
        t.diagnostic(`${taken.length} events taken meanwhile`);
        await until('the WAL to be small again', () => {
            const { size } = fs.statSync(`${server.database}-wal`);
            return size === 0;
        });
    });

    test('has what only the WAL has, after kill -9; and leaves the database as it is', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const events = Array.from({ length: 20 }, () => userCreated());
        for (const event of events) await server.deliver(event);
        await server.kill();
        const before = fs.readFileSync(server.database);
        const wal = fs.readFileSync(`${server.database}-wal`);
        assert.ok(wal.length > 0);
        const { file } = await makeBackup(server);
        assertSound(file);
        assert.equal(value(file, 'SELECT count(*) FROM workos_users'), 20);
        assert.ok(fs.readFileSync(server.database).equals(before));
        assert.ok(fs.readFileSync(`${server.database}-wal`).equals(wal));
        await server.start();
        assert.equal(server.count('workos_users'), 20);
    });

    test('has nothing of a user who was deleted, though the WAL still has', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const users = Array.from({ length: load(200, 60) }, (_, i) =>
            newUser({
                first_name: `mark-${i}-${Math.random().toString(36).slice(2)}`,
                filling: 'x'.repeat((i * 37) % 3000),
            }),
        );
        for (const user of users) await server.deliver({ ...userCreated(), data: user });
        for (const user of users)
            await server.deliver(userUpdated(user, { last_name: `new-${user.first_name}` }));
        for (const user of users.slice(1)) await server.deliver(userDeleted(user));
        await server.kill();
        const live = Buffer.concat(
            ['', '-wal'].map((end) => fs.readFileSync(server.database + end)),
        );
        const has = (bytes) => users.slice(1).filter((user) => bytes.includes(user.first_name));
        assert.notEqual(has(live).length, 0, 'the search finds what is there');
        const { file } = await makeBackup(server);
        const bytes = fs.readFileSync(file);
        assert.deepEqual(
            has(bytes).map((user) => user.first_name),
            [],
        );
        assert.ok(bytes.includes(users[0].first_name));
        assertSound(file);
    });
});

describe('where it goes', () => {
    test('what is there already is only replaced with --force, and as a whole', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const file = newFile();
        fs.writeFileSync(file, 'precious');
        const refused = await backup(server, file);
        assert.equal(refused.code, 1);
        assert.match(refused.stderr, /backup\.db' is there already: --force replaces it/);
        assert.equal(fs.readFileSync(file, 'utf8'), 'precious');
        await server.deliver(userCreated());
        await makeBackup(server, file, '--force');
        assertSound(file);
        assert.equal(value(file, 'SELECT count(*) FROM workos_users'), 1);
        assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    });

    test('never over the database, its files, another that is in use, or beside what one has left', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const other = await startServer(t, { handlers: HANDLERS });
        await server.deliver(userCreated());
        const folder = newFolder();
        const link = path.join(folder, 'link.db');
        const left = path.join(folder, 'left.db');
        fs.symlinkSync(server.database, link);
        fs.writeFileSync(`${left}-wal`, 'something');
        execFileSync('mkfifo', [path.join(folder, 'pipe')]);
        for (const [file, pattern] of [
            [server.database, /is the database itself, or a file of its own/],
            [path.relative(newFolder(), server.database), /is the database itself|No such file/],
            [`${server.database}-wal`, /is the database itself, or a file of its own/],
            [`${server.database}-shm`, /is the database itself, or a file of its own/],
            [`${server.database}.lock`, /is the database itself, or a file of its own/],
            [`${server.database}-journal`, /is the database itself, or a file of its own/],
            [link, /is the database itself, or a file of its own/],
            [
                other.database,
                new RegExp(`is the database of an authkitd that runs \\(pid ${other.child.pid}\\)`),
            ],
            [left, /left\.db-wal' is there: it belongs to a database called '\S+left\.db'/],
            [path.join(folder, 'pipe'), /pipe' is no file/],
            [folder, /is a directory: name a file in it/],
            [
                path.join(folder, 'not', 'there.db'),
                /cannot write in '\S+not': No such file or directory/,
            ],
            [path.join(left, 'x'), /No such file or directory|Not a directory/],
            [path.join(folder, 'x'.repeat(300)), /File name too long/],
        ]) {
            const { code, stderr, stdout } = await backup(server, file, '--force');
            assert.equal(code, 1, file);
            assert.match(stderr, pattern, file);
            assert.equal(stdout, '');
        }
        assert.equal(server.count('workos_users'), 1);
        await server.deliver(userCreated());
        await other.deliver(userCreated());
        assert.deepEqual(fs.readdirSync(folder).sort(), ['left.db-wal', 'link.db', 'pipe']);
    });

    // The WAL, the lock: a backup over one of them let a second process write to the database.
    test('never over the files of a database that has several names, however they are written', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const folder = newFolder();
        const linked = path.join(folder, 'linked.db');
        fs.symlinkSync(server.database, linked);
        fs.symlinkSync(server.folder, path.join(folder, 'there'));
        await server.deliver(userCreated());
        const near = (name) => path.join(server.folder, name);
        for (const [database, file] of [
            ...['-wal', '-shm', '-journal', '.lock', '.watchdog'].map((end) => [
                linked,
                server.database + end,
            ]),
            [linked, `${linked}.watchdog`],
            [server.database, `${folder}/there/authkitd.db-journal`],
            [server.database, `${server.folder}/./authkitd.db-journal`],
            [path.relative(server.folder, server.database), near('authkitd.db-journal')],
        ]) {
            const { code, stderr } = await runCommand(
                ['backup', file, '--db', database, '--force'],
                { cwd: server.folder },
            );
            assert.equal(code, 1, file);
            assert.match(stderr, /is the database itself, or a file of its own/, file);
        }
        assert.deepEqual(fs.readdirSync(folder).sort(), ['linked.db', 'there']);
        const refused = await runCommand(['maintain', '--db', server.database]);
        assert.match(refused.stderr, /is in use by another authkitd/);
        await server.deliver(userCreated());
        assert.equal(server.count('workos_users'), 2);
        await makeBackup(server, path.join(server.folder, 'authkitd.db-copy'));
    });

    test('- is refused, with a hint; and no name at all, or two', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const dash = await backup(server, '-');
        assert.equal(dash.code, 2);
        assert.equal(dash.stdout, '');
        assert.match(
            dash.stderr,
            /can't be written to standard output, since it is checked.*\n.*name a file/,
        );
        for (const args of [[], [''], ['a', 'b']]) {
            const { code, stderr } = await runCommand(['backup', ...args, '--db', server.database]);
            assert.equal(code, 2);
            assert.match(stderr, /wants the name of the file|one word too many/);
        }
    });

    async function backupAsNobody(server, ...args) {
        const child = adopt(
            spawn(server.program, ['backup', ...args, '--db', server.database], {
                cwd: server.folder,
                env: cleanEnvironment(),
                uid: 65534,
                gid: 65534,
                stdio: ['ignore', 'ignore', 'pipe'],
            }),
        );
        let stderr = '';
        child.stderr.on('data', (text) => (stderr += text));
        const [code] = await once(child, 'close');
        return { code, stderr };
    }

    // It said that it had failed, with the copy there, and the old one replaced.
    test('into a folder that one may write in and not look into', async (t) => {
        if (process.getuid() !== 0) return t.skip('this takes root, to be somebody else');
        const server = newServer(t, { handlers: HANDLERS, uid: 65534 });
        await server.start();
        const file = newFile();
        fs.chmodSync(path.dirname(file), 0o300);
        fs.chownSync(path.dirname(file), 65534, 65534);
        for (const args of [[file], [file, '--force']]) {
            const { code, stderr } = await backupAsNobody(server, ...args);
            assert.equal(code, 0, stderr);
            assertSound(file);
        }
    });

    test('into a folder that may not be written: it says so', async (t) => {
        if (process.getuid() !== 0) return t.skip('this takes root, to be somebody else');
        const server = newServer(t, { handlers: HANDLERS, uid: 65534 });
        await server.start();
        const folder = newFolder();
        fs.chmodSync(folder, 0o755);
        const { code, stderr } = await backupAsNobody(server, path.join(folder, 'b.db'));
        assert.equal(code, 1);
        assert.match(stderr, /cannot make '\S+b\.db\.partial-\w+': Permission denied/);
    });
});

test("what root runs beside a database of another user is in nobody's way", async (t) => {
    if (process.getuid() !== 0) return t.skip('this takes root, to be somebody else');
    const server = newServer(t, { handlers: HANDLERS, uid: 65534 });
    await server.start();
    await server.deliver(userCreated());
    const { file } = await makeBackup(server);
    await server.stop();
    for (const args of [
        ['backup', newFile()],
        ['maintain', '--check'],
        ['events'],
        ['maintain'],
        ['retry', '--all'],
    ]) {
        fs.rmSync(`${server.database}.lock`, { force: true });
        const { code, output } = await runCommand([...args, '--db', server.database]);
        assert.equal(code, 0, output);
        for (const name of fs
            .readdirSync(server.folder)
            .filter((name) => name.startsWith('authkitd.db')))
            assert.equal(
                fs.statSync(path.join(server.folder, name)).uid,
                65534,
                `${name} after ${args[0]}`,
            );
    }
    await server.start();
    await server.deliver(userCreated());
    await server.stop();
    fs.copyFileSync(file, server.database);
    await assert.rejects(server.start(), /Permission denied/);
    await server.ended;
    fs.chownSync(server.database, 65534, 65534); // as README has it
    await server.start();
    assert.equal(server.count('workos_users'), 1);
});

describe('a backup that comes to nothing', () => {
    /** A server that rests, with a database of some size. */
    async function withLargeDatabase(t, mebibytes) {
        const server = await startServer(t, { handlers: HANDLERS });
        await server.deliver(userCreated());
        await server.stop();
        fillDatabase(server.database, mebibytes);
        return server;
    }

    const start = (server, file, ...args) =>
        adopt(
            spawn(binary, ['backup', file, '--db', server.database, ...args], {
                env: cleanEnvironment(),
                stdio: ['ignore', 'pipe', 'pipe'],
            }),
        );

    const partials = (file) =>
        fs.readdirSync(path.dirname(file)).filter((name) => name.includes('.partial-'));

    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL'])
        test(`${signal} while it is copied, or checked: ${signal === 'SIGKILL' ? 'FILE is as it was' : 'nothing is left'}`, async (t) => {
            const server = await withLargeDatabase(t, load(48, 24));
            const file = newFile();
            fs.writeFileSync(file, 'the one before');
            let stopped = 0;
            for (let round = 0; round < load(5, 3); round++) {
                const child = start(server, file, '--force');
                let stderr = '';
                child.stderr.on('data', (text) => (stderr += text));
                const closed = once(child, 'close');
                let ended = false;
                closed.then(() => (ended = true));
                await until('the copy to have begun', () => ended || partials(file).length > 0);
                await sleep(round * 30);
                child.kill(signal);
                const [code, by] = await closed;
                if (code === 0) continue; // it was faster
                stopped++;
                if (signal === 'SIGKILL') {
                    assert.equal(by, 'SIGKILL');
                    for (const name of fs.readdirSync(path.dirname(file)))
                        if (name.includes('.partial-'))
                            fs.rmSync(path.join(path.dirname(file), name));
                } else {
                    assert.equal(code, 1, stderr);
                    assert.match(stderr, /^authkitd: stopped; no backup was made$/m);
                }
                assert.deepEqual(fs.readdirSync(path.dirname(file)), ['backup.db']);
                if (fs.statSync(file).size < 100)
                    assert.equal(fs.readFileSync(file, 'utf8'), 'the one before');
            }
            assert.ok(stopped > 0, 'all of them were faster than the signal');
            await makeBackup(server, file, '--force');
            assertSound(file);
        });

    test('no room: how much is needed and free is told before a byte is written', async (t) => {
        const server = await withLargeDatabase(t, 8);
        const folder = newFolder();
        try {
            execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder], {
                stdio: 'pipe',
            });
        } catch {
            return t.skip('no file system can be mounted');
        }
        atEnd(t, () => execFileSync('umount', [folder]));
        const { code, stderr } = await backup(server, path.join(folder, 'b.db'));
        assert.equal(code, 1);
        assert.match(stderr, /no room in '\S+': \d+\.\d MiB are needed, and 4\.0 MiB are free/);
        assert.deepEqual(fs.readdirSync(folder), []);
    });

    test('the room ends on the way: it says so, and nothing is left', async (t) => {
        const server = await withLargeDatabase(t, 8);
        const file = newFile();
        // A limit on the size of files is as good as a disk that fills up meanwhile.
        const child = adopt(
            spawn(
                'sh',
                [
                    '-c',
                    'ulimit -f 6000; exec "$@"',
                    'sh',
                    binary,
                    'backup',
                    file,
                    '--db',
                    server.database,
                ],
                {
                    env: cleanEnvironment(),
                    stdio: ['ignore', 'ignore', 'pipe'],
                },
            ),
        );
        let stderr = '';
        child.stderr.on('data', (text) => (stderr += text));
        const [code] = await once(child, 'close');
        assert.equal(code, 1, stderr);
        assert.match(stderr, /backup\.db\.partial-\w+'.*(full|File too large)/);
        assert.deepEqual(fs.readdirSync(path.dirname(file)), []);
    });

    test('the database is damaged: the copy would be, too, and is not made', async (t) => {
        const server = await withLargeDatabase(t, 4);
        const handle = fs.openSync(server.database, 'r+');
        const root = value(
            server.database,
            "SELECT rootpage FROM sqlite_schema WHERE name = 'workos_events_object_id'",
        );
        for (const name of ['-wal', '-shm']) fs.rmSync(server.database + name, { force: true });
        fs.writeSync(handle, Buffer.alloc(2000, 0xff), 0, 2000, (root - 1) * 4096);
        fs.closeSync(handle);
        const file = newFile();
        const { code, stderr } = await backup(server, file);
        assert.equal(code, 1);
        assert.match(
            stderr,
            /the copy isn't sound, and was removed: .*\n.*authkitd maintain --check/,
        );
        assert.deepEqual(fs.readdirSync(path.dirname(file)), []);
    });
});

test('on a terminal a large one shows how far it is', async (t) => {
    try {
        execFileSync('script', ['-qec', 'true', '/dev/null'], { stdio: 'pipe' });
    } catch {
        return t.skip('no terminal can be made here');
    }
    const server = await startServer(t, { handlers: HANDLERS });
    await server.deliver(userCreated());
    await server.stop();
    fillDatabase(server.database, 400);
    const file = newFile();
    const child = adopt(
        spawn('script', ['-qec', `${binary} backup ${file} --db ${server.database}`, '/dev/null'], {
            env: cleanEnvironment(),
            stdio: ['ignore', 'pipe', 'pipe'],
        }),
    );
    let text = '';
    child.stdout.on('data', (part) => (text += part));
    const [code] = await once(child, 'close');
    assert.equal(code, 0, text);
    assert.match(text, /(\rcopying +\d+ %  [\d.]+ MiB of [\d.]+ MiB|\rchecking the copy)\x1b\[K/);
    assert.match(text, /\r\x1b\[K\S*backup\.db: [\d.]+ MiB in [\d.]+ s, 1 user, \d+ events\r\n$/);
});

describe('restoring one', () => {
    /** As README says: stopped, the file in its place, and nothing left of the other. */
    function restore(server, file) {
        fs.copyFileSync(file, server.database);
        for (const end of ['-wal', '-shm']) fs.rmSync(server.database + end, { force: true });
    }

    /** A server with a key, and senders that never rest: { server, api, stop, taken }. */
    async function underLoad(t) {
        const api = await startFakeApi(t);
        const server = await startServer(t, { handlers: HANDLERS, env: api.env });
        await until('the first reading', () =>
            api.requests.some((request) => request.path === '/events'),
        );
        const client = server.newClient({ connections: 6 });
        const taken = [];
        let over = false;

        const senders = Array.from({ length: 6 }, async () => {
            while (!over) {
                const event = api.users.add();
                const answer = await server.post(event, { client }).catch(() => null);
                if (answer?.status === 200) taken.push(event);
            }
        });
        return { api, server, taken, stop: () => ((over = true), Promise.all(senders)) };
    }

    const reconcile = (server) =>
        fetch(`${server.adminUrl}/reconcile`, {
            method: 'POST',
            headers: { 'Authkitd-Admin': '1' },
        }).then((answer) => answer.json());

    test('after kill -9 under load: all that was acknowledged is there or comes again, and runs once', async (t) => {
        const { api, server, taken, stop } = await underLoad(t);
        await until('some events', () => taken.length > load(200, 40));
        const before = [...taken];
        const { file } = await makeBackup(server);
        await until('more events', () => taken.length > before.length + load(200, 40));
        await server.kill();
        await stop();
        const missed = api.users.add(); // while it is down
        const gone = api.users.remove(before[0].data.id);

        restore(server, file);
        assertWhole(file);
        const ids = new Set(rows(file, 'SELECT id FROM workos_events').map(({ id }) => id));
        assert.deepEqual(
            before.filter((event) => !ids.has(event.id)),
            [],
        );
        assert.ok(
            taken.some((event) => !ids.has(event.id)),
            'some came behind it',
        );

        await server.start();
        await reconcile(server);
        const all = [...api.events];
        assert.deepEqual(
            server.rows('SELECT event_id FROM runs GROUP BY event_id HAVING count(*) <> 1'),
            [],
        );
        assert.deepEqual(
            new Set(server.rows('SELECT event_id FROM runs').map((row) => row.event_id)),
            new Set(all.map((event) => event.id)),
        );
        assert.equal(server.userRow(gone.data.id), undefined);
        assert.equal(server.count('workos_users'), api.users.size);
        // What is delivered again is known, whether from the backup or from the reading.
        for (const event of [before[1], taken.at(-1), missed]) await server.deliver(event);
        assert.equal(server.count('runs'), all.length);
    });

    test('without an API key: what is delivered again runs exactly when the backup has not got it', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const [known, lost, never] = [userCreated(), userCreated(), userCreated()];
        await server.deliver(known);
        const { file } = await makeBackup(server);
        await server.deliver(lost);
        await server.deliver(never);
        await server.kill();
        restore(server, file);
        await server.start();
        assert.equal(server.count('workos_users'), 1);
        await server.deliver(known);
        await server.deliver(lost);
        await server.deliver(lost);
        assert.deepEqual(
            server.rows('SELECT event_id FROM runs ORDER BY _id').map((row) => row.event_id),
            [known.id, lost.id],
        );
        assert.equal(server.userRow(never.data.id), undefined);
    });

    test('without an API key until now: one that is set then brings what came since, too', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, { handlers: HANDLERS });
        await server.deliver(api.users.add({}, { created_at: isoTime() }));
        const { file } = await makeBackup(server);
        const lost = api.users.add();
        await server.deliver(lost);
        await server.kill();
        restore(server, file);
        server.env = { ...server.env, ...api.env };
        const { code, output } = await runCommand(
            ['backfill', '--db', server.database, '--handlers', server.handlersFile],
            { env: server.env },
        );
        assert.equal(code, 0, output);
        await server.start();
        assert.equal(server.count('workos_users'), 2);
        await server.deliver(lost);
        assert.equal(
            server.row('SELECT count(*) FROM runs WHERE user_id = ?', lost.data.id),
            1,
            'its created function ran once',
        );
    });

    test('with the -wal of the other still there: refused by all, and nothing is lost by it', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        await server.deliver(userCreated());
        const { file } = await makeBackup(server);
        for (let i = 0; i < 10; i++) await server.deliver(userCreated());
        await server.kill();
        assert.ok(fs.statSync(`${server.database}-wal`).size > 0);
        fs.copyFileSync(file, server.database);
        const says =
            /the '-wal' beside it is of another file.*(\n|\\n).*remove .*authkitd\.db-wal' and '.*authkitd\.db-shm'/;
        await assert.rejects(server.start(), says);
        for (const args of [
            ['events'],
            ['check'],
            ['backup', newFile()],
            ['maintain'],
            ['maintain', '--check'],
            ['retry', '--all'],
        ]) {
            const { code, output } = await runCommand(
                [
                    ...args,
                    '--db',
                    server.database,
                    ...(args[0] === 'check' ? ['--handlers', server.handlersFile] : []),
                ],
                { env: server.env },
            );
            assert.equal(code, 1, args.join(' '));
            assert.match(output, says, args.join(' '));
        }
        assert.ok(fs.readFileSync(server.database).equals(fs.readFileSync(file)));
        restore(server, file);
        await server.start();
        assert.equal(server.count('workos_users'), 1);
        assert.equal(server.row('PRAGMA integrity_check'), 'ok');
    });

    // Symptom: backfill went on where another had come to before the backup, found nothing to do, and said
    // that all was well.
    test('a backup from the middle of a backfill knows nothing of it', async (t) => {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 120, organizations: 1 });
        const server = newServer(t, { handlers: HANDLERS, env: envOf(api) });

        await backfillWell(server, [], api.env);
        api.fail('/organizations', faults.status(401));
        assert.equal((await backfill(server, ['--prune', '--yes'], api.env)).code, 1);
        assert.equal(server.count('authkitd_backfill_seen'), 120);
        const { file } = await makeBackup(server);
        assertSound(file);
        assert.equal(
            value(file, "SELECT count(*) FROM sqlite_schema WHERE name GLOB '*backfill*'"),
            0,
        );
        assert.deepEqual(rows(file, "SELECT * FROM authkitd_state WHERE key GLOB 'backfill*'"), []);
        assert.doesNotMatch(fs.readFileSync(file, 'latin1'), /sk_test_fake_api/);

        for (const user of users.slice(0, 5)) api.users.remove(user.id);
        api.users.add({ email: 'new@example.com' });
        restore(server, file);
        await backfillWell(server, ['--prune', '--yes'], api.env);
        assertMirrorIsApi(server, api);
    });
});
