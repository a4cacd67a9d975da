// SPDX-License-Identifier: MIT
// authkitd maintain: what is wrong with a database, in words; and the same database in a smaller file,
// whatever happens on the way.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';

import { DatabaseSync, changeRows, fillDatabase, readRows } from './lib/database.js';
import {
    adopt,
    atEnd,
    describe,
    load,
    patience,
    randomness,
    sleep,
    test,
    until,
} from './lib/harness.js';
import { binary, cleanEnvironment, newFolder, runCommand, startServer } from './lib/server.js';
import { newEvent, newUser, userCreated, userDeleted, userUpdated } from './lib/workos.js';

const HANDLERS = `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text" } } }
local function run(ctx, event)
  if event.data.bad then error("it is bad") end
  ctx.db.insert("runs", { event_id = event.id })
end
authkit.events { ["user.created"] = run, ["test.one"] = run }`;

const maintain = (server, ...args) =>
    runCommand(['maintain', '--db', server.database, ...args], { timeout: patience(60_000) });

const files = (server) =>
    ['', '-wal', '-shm'].map((end) => {
        try {
            return fs.readFileSync(server.database + end);
        } catch {
            return Buffer.alloc(0);
        }
    });

const content = (server) =>
    ['workos_events', 'workos_users', 'runs', 'authkitd_state', 'authkitd_tombstones'].map(
        (table) => server.rows(`SELECT * FROM ${table}`),
    );

/** A server that has had some events, and rests. */
async function startAndStop(t, count = 3) {
    const server = await startServer(t, { handlers: HANDLERS });
    for (let i = 0; i < count; i++) await server.deliver(userCreated());
    await server.stop();
    return server;
}

/** As it is after years: larger than what is in it. */
async function withHoles(t, mebibytes) {
    const server = await startAndStop(t);
    fillDatabase(server.database, mebibytes);
    changeRows(
        server.database,
        "DELETE FROM workos_events WHERE id LIKE 'event_filling_%' AND _seq % 4 > 0",
    );
    const wal = new DatabaseSync(server.database);
    wal.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    wal.close();
    return server;
}

describe('authkitd maintain', () => {
    test('gives back what is unused, says how much, and changes nothing else', async (t) => {
        const server = await withHoles(t, 8);
        const before = content(server);
        const size = fs.statSync(server.database).size;
        const { code, stdout, stderr } = await maintain(server);
        assert.equal(code, 0, stderr);
        assert.equal(stderr, '');
        assert.match(
            stdout,
            /^checked    sound: 3 users, \d+ events\ncompacted  [\d.]+ MiB, was [\d.]+ MiB: [\d.]+ MiB gained\n$/,
        );
        assert.ok(fs.statSync(server.database).size < size / 2);
        assert.deepEqual(content(server), before);
        assert.match(
            (await maintain(server)).stdout,
            /compacted  [\d.]+ MiB: there was nothing to gain/,
        );
        await server.start();
        await server.deliver(userCreated());
        assert.deepEqual(server.row('PRAGMA auto_vacuum'), 0);
        assert.deepEqual(server.row('PRAGMA journal_mode'), 'wal');
    });

    test('while a server runs: what to do is told, and --check checks', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        await server.deliver(userCreated());
        const refused = await maintain(server);
        assert.equal(refused.code, 1);
        assert.match(
            refused.stderr,
            new RegExp(
                `in use by another authkitd \\(pid ${server.child.pid}\\)\n  stop it first.*--check only`,
            ),
        );
        const { code, stdout } = await maintain(server, '--check');
        assert.equal(code, 0);
        assert.equal(stdout, 'checked    sound: 1 user, 1 event\n');
        await server.deliver(userCreated());
        await server.stop();
        assert.match(
            (await maintain(server, '--check')).stdout,
            /^checked    sound: 2 users, 2 events\n$/,
        );
    });

    test('--check under constant writes finds nothing', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const client = server.newClient({ connections: 6 });
        let over = false;
        const senders = Promise.all(
            Array.from({ length: 6 }, async (_, i) => {
                while (!over) {
                    const user = newUser();
                    await server.deliver(
                        newEvent('user.created', i % 2 ? { ...user, bad: true } : user),
                        { client },
                    );
                    await server.deliver(userUpdated(user), { client });
                    if (i % 3 === 0) await server.deliver(userDeleted(user), { client });
                }
            }),
        );
        senders.catch(() => (over = true));
        for (let i = 0; i < load(10, 3); i++) {
            const { code, output } = await maintain(server, '--check');
            assert.equal(code, 0, output);
        }
        over = true;
        await senders;
    });

    test('of deleted users no byte is left: not in the file, nor in the WAL', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const users = Array.from({ length: load(200, 60) }, (_, i) =>
            newUser({
                first_name: `mark-${i}-${Math.random().toString(36).slice(2)}`,
                filling: 'x'.repeat((i * 37) % 3000),
            }),
        );
        for (const user of users) await server.deliver(newEvent('user.created', user));
        for (const user of users.slice(1)) await server.deliver(userDeleted(user));
        await server.kill(); // the WAL has them all
        const has = (bytes) =>
            users.slice(1).filter((user) => bytes.includes(user.first_name)).length;
        assert.ok(has(Buffer.concat(files(server))) > 0, 'the search finds what is there');
        const { code, output } = await maintain(server);
        assert.equal(code, 0, output);
        const left = files(server);
        assert.deepEqual(left.map(has), [0, 0, 0]);
        assert.equal(left[1].length, 0);
        assert.ok(left[0].includes(users[0].first_name));
    });

    test('another program that writes: it says that nothing was done', async (t) => {
        const server = await withHoles(t, 4);
        const size = fs.statSync(server.database).size;
        const writer = new DatabaseSync(server.database);
        writer.exec('PRAGMA wal_autocheckpoint = 0; BEGIN IMMEDIATE');
        const { code, stderr } = await maintain(server);
        writer.close();
        assert.equal(code, 1);
        assert.match(stderr, /isn't compacted, and is as it was: .*another program writes to it/);
        assert.doesNotMatch(stderr, /is compacted, but/);
        assert.equal(fs.statSync(server.database).size, size);
        assert.equal((await maintain(server)).code, 0);
    });

    test('a reader in the way: it says what it is about, and the next time all is well', async (t) => {
        const server = await withHoles(t, 4);
        const reader = new DatabaseSync(server.database, { readOnly: true });
        reader.exec('BEGIN; SELECT count(*) FROM workos_events');
        const { code, stderr } = await maintain(server);
        assert.equal(code, 1);
        assert.match(stderr, /is compacted, but somebody reads it.*\n.*call this again/);
        reader.exec('COMMIT');
        reader.close();
        const again = await maintain(server);
        assert.equal(again.code, 0, again.output);
        assert.ok(fs.statSync(server.database).size < 3_000_000);
    });

    test('no room for it: how much is needed and free, and nothing happens', async (t) => {
        const folder = newFolder();
        try {
            execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', folder], {
                stdio: 'pipe',
            });
        } catch {
            return t.skip('no file system can be mounted');
        }
        atEnd(t, () => execFileSync('umount', [folder]));
        const full = await startAndStop(t);
        fillDatabase(full.database, 7);
        const server = { database: path.join(folder, 'authkitd.db') };
        execFileSync('sqlite3', [full.database, `VACUUM INTO '${server.database}'`]);
        const before = fs.readFileSync(server.database);
        const { code, stdout, stderr } = await maintain(server);
        assert.equal(code, 1);
        assert.match(stdout, /^checked    sound/);
        assert.match(
            stderr,
            /no room to compact the database: up to \d+\.\d MiB are needed .* \d+\.\d MiB\s+are free/,
        );
        const rows = readRows(server.database, 'SELECT count(*) AS n FROM workos_events');
        assert.ok(rows[0].n > 100);
        assert.ok(Math.abs(fs.statSync(server.database).size - before.length) < 4096);
    });

    test('no database there, or nothing in it', async (t) => {
        const database = path.join(newFolder(), 'none.db');
        for (const args of [[], ['--check']]) {
            const { code, stderr } = await maintain({ database }, ...args);
            assert.equal(code, 1);
            assert.match(
                stderr,
                /none\.db': No such file or directory\n  say where it is with --db/,
            );
        }
        assert.deepEqual(fs.readdirSync(path.dirname(database)), []);
        fs.writeFileSync(database, '');
        const { code, stderr } = await maintain({ database });
        assert.equal(code, 1);
        assert.match(stderr, /there is nothing in it yet/);
        assert.equal(fs.statSync(database).size, 0);
        t.diagnostic(stderr.trim());
    });
});

describe('what is wrong is told, each thing in words', () => {
    const failed = "UPDATE workos_events SET status = 'failed'";
    const cases = [
        [
            'a status that is none',
            "UPDATE workos_events SET status = 'lost' WHERE _seq = 1",
            /event event_\w+: its status is none that there is: lost/,
        ],
        [
            'a failed event that has no time',
            `${failed} WHERE _seq = 1`,
            /event event_\w+: nothing will ever run it \(authkitd retry does\); it is failed/,
        ],
        [
            'one that waits behind none',
            "UPDATE workos_events SET status = 'waiting' WHERE _seq = 2",
            /event event_\w+: it waits behind no other event/,
        ],
        [
            'one without a payload',
            `${failed}, next_attempt_at = 1, payload = NULL WHERE _seq = 1`,
            /event event_\w+: it is to run, and what it brought is gone; it is failed/,
        ],
        [
            'a done one with a time',
            'UPDATE workos_events SET next_attempt_at = 1 WHERE _seq = 1',
            /event event_\w+: it is to run again, though it is done/,
        ],
        [
            'a deleted user who is there',
            "INSERT INTO authkitd_tombstones (id, object, deleted_at) SELECT id, 'user', 1 FROM workos_users LIMIT 1",
            /user user_\w+: was deleted, and is still in workos_users\n(.*\n)*.*its texts should have been erased/,
        ],
        [
            'a table that is missing',
            'DROP TABLE authkitd_suspects',
            /table authkitd_suspects: it isn't there/,
        ],
        [
            'an index that is not what it says',
            null,
            /(row \d+ missing from index workos_users_email|wrong # of entries in index)/,
        ],
    ];

    for (const [what, sql, pattern] of cases)
        test(what, async (t) => {
            const server = await startAndStop(t);
            if (sql) {
                changeRows(server.database, sql);
            } else {
                const database = new DatabaseSync(server.database);
                database.exec(`PRAGMA writable_schema = ON;
                    UPDATE sqlite_schema SET sql = 'CREATE INDEX workos_users_email ON workos_users (email COLLATE NOCASE) WHERE id IS NULL' WHERE name = 'workos_users_email';
                    PRAGMA writable_schema = RESET;
                    INSERT INTO workos_users (id, email, _version_us, _event_id) VALUES ('u', 'e', 0, 'e');
                    PRAGMA writable_schema = ON;
                    UPDATE sqlite_schema SET sql = 'CREATE INDEX workos_users_email ON workos_users (email COLLATE NOCASE)' WHERE name = 'workos_users_email';`);
                database.close();
            }
            for (const args of [['--check'], []]) {
                const { code, stderr, stdout } = await maintain(server, ...args);
                assert.equal(code, 1, stderr);
                assert.match(stderr, pattern);
                assert.doesNotMatch(stdout, /checked/);
                assert.equal(/compacted/.test(stdout), args.length === 0 && sql !== null);
            }
        });

    test('many of a kind: some are told, and how many more there are', async (t) => {
        const server = await startAndStop(t, 25);
        changeRows(server.database, "UPDATE workos_events SET status = 'x' || char(27) || '[2J'");
        const { code, stderr } = await maintain(server, '--check');
        assert.equal(code, 1);
        assert.equal(stderr.match(/its status is none that there is: x\?\[2J/g).length, 10);
        assert.match(stderr, /^authkitd: and 15 more like these$/m);
        assert.match(stderr, /authkitd: 25 problems\n$/);
    });

    test('a damaged file is left as it is', async (t) => {
        const random = randomness(t);
        const server = await startAndStop(t);
        fillDatabase(server.database, 2);
        const database = new DatabaseSync(server.database);
        database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
        const { rootpage } = database
            .prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'workos_events'")
            .get();
        database.close();
        const good = fs.readFileSync(server.database);
        const PAGE = 4096;
        const ways = {
            emptied: (file, page) => file.fill(0, page * PAGE, (page + 1) * PAGE),
            // of a page of rows: how many there are
            miscounted(file, page) {
                file.writeUInt16BE(random.below(65536), page * PAGE + 3);
                return file;
            },
            scratched(file, page) {
                for (let i = 0; i < 100; i++)
                    file[page * PAGE + random.below(PAGE)] = random.below(256);
                return file;
            },
            cut: (file, page) => file.subarray(0, page * PAGE),
        };

        const maintainDamaged = async (way, page) => {
            const damaged = ways[way](Buffer.from(good), page);
            for (const end of ['-wal', '-shm']) fs.rmSync(server.database + end, { force: true });
            fs.writeFileSync(server.database, damaged);
            const { code, stdout, stderr } = await maintain(server);
            if (code !== 0) {
                assert.equal(code, 1);
                assert.match(stderr, /^authkitd: \S/);
                assert.doesNotMatch(stdout, /compacted|checked/);
                assert.ok(fs.readFileSync(server.database).equals(damaged));
            }
            return code !== 0;
        };

        for (const way of ['emptied', 'cut'])
            assert.ok(await maintainDamaged(way, rootpage - 1), `${way} at the events' root`);
        // In the middle of a payload nobody can tell.
        const names = Object.keys(ways);
        for (let round = 0; round < load(40, 10); round++)
            await maintainDamaged(
                names[random.below(names.length)],
                1 + random.below(good.length / PAGE - 1),
            );
    });
});

describe('interrupted while it is made smaller', () => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'])
        test(`by ${signal}, at any moment: nothing is lost`, async (t) => {
            const server = await withHoles(t, load(64, 24));
            const before = content(server);
            const original = fs.readFileSync(server.database);
            let stopped = 0;
            for (let round = 0; round < load(6, 4); round++) {
                for (const end of ['-wal', '-shm'])
                    fs.rmSync(server.database + end, { force: true });
                fs.writeFileSync(server.database, original);
                const child = adopt(
                    spawn(binary, ['maintain', '--db', server.database], {
                        env: cleanEnvironment(),
                        stdio: ['ignore', 'pipe', 'pipe'],
                    }),
                );
                let stdout = '';
                let stderr = '';
                let ended = false;
                child.stdout.on('data', (text) => (stdout += text));
                child.stderr.on('data', (text) => (stderr += text));
                const closed = once(child, 'close');
                closed.then(() => (ended = true));
                // The first time while it checks, then ever later.
                const lock = `${server.database}.lock`;
                await until('it to be at work', () =>
                    round === 0
                        ? fs.readFileSync(lock, 'utf8') === `pid=${child.pid}\n`
                        : ended || stdout.includes('checked'),
                );
                if (round > 0) await sleep((round - 1) * 10);
                child.kill(signal);
                const [code, by] = await closed;
                if (signal === 'SIGKILL' ? by === 'SIGKILL' : code !== 0) stopped++;
                if (signal !== 'SIGKILL' && code !== 0) {
                    assert.equal(code, 1, stderr);
                    assert.match(stderr, /^authkitd: stopped; the database is as it was$/m);
                    assert.equal(files(server)[1].length, 0, 'nothing of it is in the WAL');
                }
                assert.deepEqual(
                    fs
                        .readdirSync(server.folder)
                        .filter((name) => !/^(authkitd\.db|handlers\.lua)/.test(name)),
                    [],
                );
                assert.equal(server.row('PRAGMA integrity_check'), 'ok');
                assert.deepEqual(content(server), before);
            }
            assert.ok(stopped > 0, 'all of them were faster than the signal');
            t.diagnostic(`${stopped} stopped`);
            const { code, output } = await maintain(server);
            assert.equal(code, 0, output);
            assert.deepEqual(content(server), before);
            await server.start();
            await server.deliver(userCreated());
        });
});
