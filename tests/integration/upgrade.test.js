// SPDX-License-Identifier: MIT
// A database of another version, or of somebody else: brought forward, or refused in words and not
// touched.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';

import { DatabaseSync, readRows } from './lib/database.js';
import { adopt, describe, test } from './lib/harness.js';
import { SECRETS, cleanEnvironment, newFolder, newServer, runCommand } from './lib/server.js';
import { newUser, userCreated, userDeleted, userUpdated } from './lib/workos.js';

const HANDLERS = `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text" } } }
local function run(ctx, event) ctx.db.insert("runs", { event_id = event.id }) end
authkit.events { ["user.created"] = run, ["user.updated"] = run }`;

/** What the first version made, word by word. */
const VERSION_1 = `
CREATE TABLE workos_events ( _seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL,
 object_id TEXT, user_id TEXT, created_at TEXT, received_at INTEGER NOT NULL, status TEXT NOT NULL,
 attempts INTEGER NOT NULL, next_attempt_at INTEGER, last_error TEXT, payload TEXT,
 _created_us INTEGER NOT NULL);
CREATE INDEX workos_events_object_id ON workos_events (object_id, _created_us);
CREATE INDEX workos_events_user_id ON workos_events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX workos_events_status ON workos_events (status, next_attempt_at) WHERE status <> 'done';
CREATE TABLE authkitd_tombstones (id TEXT NOT NULL PRIMARY KEY, deleted_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE workos_users (id TEXT NOT NULL PRIMARY KEY, email TEXT, email_verified BOOLEAN, name TEXT,
 first_name TEXT, last_name TEXT, profile_picture_url TEXT, last_sign_in_at TEXT, external_id TEXT,
 locale TEXT, metadata JSON_TEXT, created_at TEXT, updated_at TEXT, raw JSON_TEXT,
 _version_us INTEGER NOT NULL, _event_id TEXT NOT NULL);
CREATE INDEX workos_users_external_id ON workos_users (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX workos_users_email ON workos_users (email COLLATE NOCASE);
PRAGMA application_id = 0x616B6974;
PRAGMA user_version = 1;`;

const make = (file, sql) => {
    const database = new DatabaseSync(file);
    database.exec(`PRAGMA journal_mode = WAL; ${sql}`);
    database.close();
};

/** A file of version 1 with a user, an event that is done, one that failed, and a deleted user. */
function makeVersion1(file) {
    const user = newUser({ first_name: 'Ada' });
    const gone = newUser();
    const done = userCreated(user);
    const failed = userUpdated(user, { first_name: 'Grace' });

    make(file, VERSION_1);
    const database = new DatabaseSync(file);
    const add = database.prepare(
        `INSERT INTO workos_events (id, event, object_id, user_id, created_at, received_at, status, attempts,
         last_error, payload, _created_us) VALUES (?, ?, ?, ?, ?, 1, ?, 1, ?, ?, ?)`,
    );
    for (const [event, status] of [
        [done, 'done'],
        [failed, 'failed'],
    ])
        add.run(
            event.id,
            event.event,
            user.id,
            user.id,
            event.created_at,
            status,
            status === 'failed' ? 'handlers.lua:1: not yet' : null,
            JSON.stringify(event),
            Date.parse(event.created_at) * 1000,
        );
    database
        .prepare(
            'INSERT INTO workos_users (id, email, first_name, metadata, updated_at, raw, _version_us, _event_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        )
        .run(
            user.id,
            user.email,
            'Grace',
            '{}',
            failed.data.updated_at,
            JSON.stringify(failed.data),
            Date.parse(failed.data.updated_at) * 1000,
            failed.id,
        );
    database.prepare('INSERT INTO authkitd_tombstones VALUES (?, 1)').run(gone.id);
    database.close();
    return { user, gone, done, failed };
}

/** A folder with the database, and what a command needs beside it. */
function newPlace(database = 'authkitd.db') {
    const folder = newFolder();
    const handlers = path.join(newFolder(), 'handlers.lua');
    fs.writeFileSync(handlers, HANDLERS);
    return { folder, handlers, database: path.join(folder, database) };
}

const COMMANDS = {
    serve: [
        'serve',
        '--listen',
        '127.0.0.1:0',
        '--admin-listen',
        '127.0.0.1:0',
        '--log-format',
        'text',
    ],
    check: ['check'],
    events: ['events'],
    retry: ['retry', '--all'],
    backfill: ['backfill'],
    reconcile: ['reconcile'],
    backup: ['backup', 'copy.db'],
    maintain: ['maintain'],
    'maintain --check': ['maintain', '--check'],
};
const WITH_SCRIPT = ['serve', 'check', 'backfill', 'reconcile'];

function run(place, command) {
    const args = [...COMMANDS[command], '--db', place.database];
    if (WITH_SCRIPT.includes(command)) args.push('--handlers', place.handlers);
    return runCommand(args, {
        env: {
            ...SECRETS,
            WORKOS_API_KEY: 'sk_test',
            WORKOS_API_HOSTNAME: '127.0.0.1',
            WORKOS_API_PORT: '1',
            WORKOS_API_HTTPS: 'false',
        },
    });
}

/** Names and bytes of what is in the folder; the lock file may come, it says nothing of the database. */
const picture = (folder) =>
    fs
        .readdirSync(folder)
        .filter((name) => !name.endsWith('.lock'))
        .map((name) => {
            const file = path.join(folder, name);
            return [
                name,
                fs.statSync(file).isDirectory() ? 'directory' : fs.readFileSync(file, 'hex'),
            ];
        });

describe('a file of version 1', () => {
    test('is brought forward by serve: users, events, deletions; what failed runs', async (t) => {
        const server = newServer(t, { handlers: HANDLERS });
        const { user, gone, done, failed } = makeVersion1(server.database);
        await server.start();
        const [told] = server.log('the database is brought forward');
        assert.equal(told.from_version, 1);
        assert.equal(told.to_version, 3);
        assert.equal(server.row('PRAGMA user_version'), 3);
        assert.equal(server.userRow(user).first_name, 'Grace');
        await server.deliver(done);
        await server.deliver(failed);
        assert.equal(server.count('workos_events'), 2, 'they are known');
        await server.deliver(userUpdated(gone));
        assert.equal(server.userRow(gone), undefined, 'nobody comes back');
        await server.deliver(userDeleted(user));
        await server.stop();
        const { code, output } = await runCommand(['maintain', '--check', '--db', server.database]);
        assert.equal(code, 0, output);
    });

    test('is the same file to maintain and backup; the copy can be brought forward as well', async (t) => {
        const place = newPlace();
        const { user } = makeVersion1(place.database);
        const copy = path.join(newFolder(), 'copy.db');
        const { code, output } = await runCommand(['backup', copy, '--db', place.database]);
        assert.equal(code, 0, output);
        assert.match(output, /1 user, 2 events$/m);
        assert.equal(readRows(copy, 'PRAGMA user_version')[0].user_version, 1);
        for (const command of ['maintain --check', 'maintain']) {
            const done = await run(place, command);
            assert.equal(done.code, 0, done.output);
        }
        assert.equal(readRows(place.database, 'PRAGMA user_version')[0].user_version, 1);
        const server = newServer(t, { handlers: HANDLERS });
        fs.copyFileSync(copy, server.database);
        await server.start();
        assert.equal(server.userRow(user).first_name, 'Grace');
    });

    test('events says that serve must come first, and check that it will', async () => {
        const place = newPlace();
        makeVersion1(place.database);
        const before = fs.readFileSync(place.database);
        const events = await run(place, 'events');
        assert.equal(events.code, 1);
        assert.match(
            events.stderr,
            /the database has version 1, of an older authkitd, and this one reads version 3\n  start authkitd serve with it/,
        );
        const check = await run(place, 'check');
        assert.equal(check.code, 0, check.output);
        assert.match(check.stdout, /^database   has version 1; serve brings it forward to 3$/m);
        assert.match(check.stdout, /^schema     create table runs$/m);
        assert.ok(fs.readFileSync(place.database).equals(before));
    });

    test('retry brings it forward itself', async () => {
        const place = newPlace();
        const { failed } = makeVersion1(place.database);
        const { code, stdout } = await run(place, 'retry');
        assert.equal(code, 0);
        assert.match(stdout, /^1 event put back to work/);
        assert.equal(readRows(place.database, 'PRAGMA user_version')[0].user_version, 3);
        assert.ok(
            readRows(
                place.database,
                'SELECT next_attempt_at AS at FROM workos_events WHERE id = ?',
                [failed.id],
            )[0].at > 0,
        );
    });
});

test('a file with tables that somebody made before is taken as it is', async (t) => {
    const server = newServer(t, { handlers: HANDLERS });
    make(server.database, "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')");
    await server.start();
    await server.deliver(userCreated());
    assert.equal(server.rows('SELECT text FROM notes')[0].text, 'mine');
    assert.equal(server.rows('SELECT count(*) AS n FROM workos_users')[0].n, 1);
});

describe('what can only be refused', () => {
    const newer =
        /the database has version 99, of a newer authkitd; this one \(\d+\.\d+\.\d+\) knows up to version 3(\n  |\\n|\n)install the newer one again, or put a backup from before/;
    const foreign =
        /the database is another program's, not authkitd's(\n  |\\n|\n)name another file with --db/;
    const cases = {
        'a newer version': [
            (file) => make(file, VERSION_1.replace('user_version = 1', 'user_version = 99')),
            newer,
        ],
        "another program's": [
            (file) =>
                make(
                    file,
                    'CREATE TABLE notes (text); PRAGMA application_id = 7; PRAGMA user_version = 2',
                ),
            foreign,
        ],
        "another program's, without a WAL": [
            (file) =>
                make(
                    file,
                    'PRAGMA journal_mode = DELETE; CREATE TABLE notes (text); PRAGMA application_id = 7',
                ),
            foreign,
        ],
        'a nameless one with a version of its own': [
            (file) =>
                make(
                    file,
                    'PRAGMA journal_mode = DELETE; CREATE TABLE notes (text); PRAGMA user_version = 2',
                ),
            foreign,
        ],
        'no database': [
            (file) => fs.writeFileSync(file, 'Dear diary, '.repeat(1000)),
            /authkitd\.db'.*(file is not a database|not a database)/,
        ],
        'half a page': [
            (file) => fs.writeFileSync(file, 'SQLite format 3\0'),
            /authkitd\.db'.*not a database/,
        ],
        'a directory': [(file) => fs.mkdirSync(file), /authkitd\.db': it is a directory/],
    };

    for (const [what, [prepare, pattern]] of Object.entries(cases))
        for (const command of Object.keys(COMMANDS))
            test(`${what}: ${command} says why, and touches nothing`, async () => {
                const place = newPlace();
                prepare(place.database);
                const before = picture(place.folder);
                const { code, output } = await run(place, command);
                assert.equal(code, 1, output);
                assert.match(output, pattern);
                assert.deepEqual(picture(place.folder), before);
            });

    test('a newer version whose WAL says so: also then, and the WAL stays', async (t) => {
        const server = newServer(t, { handlers: HANDLERS });
        await server.start();
        await server.deliver(userCreated());
        const writer = new DatabaseSync(server.database);
        writer.exec('PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 99');
        writer.close();
        await server.kill();
        const wal = fs.readFileSync(`${server.database}-wal`);
        assert.ok(wal.length > 0);
        const file = fs.readFileSync(server.database);
        assert.notEqual(file.readUInt32BE(60), 99);
        for (const command of Object.keys(COMMANDS)) {
            const { code, output } = await run(
                { database: server.database, handlers: server.handlersFile },
                command,
            );
            assert.equal(code, 1, command);
            assert.match(output, newer, command);
            assert.ok(fs.readFileSync(server.database).equals(file), command);
            assert.ok(fs.readFileSync(`${server.database}-wal`).equals(wal), command);
        }
    });

    for (const command of Object.keys(COMMANDS))
        test(`one without permission: ${command}`, async (t) => {
            if (process.getuid() !== 0) return t.skip('this takes root, to be somebody else');
            const server = newServer(t, { handlers: HANDLERS, uid: 65534 });
            await server.start();
            await server.stop();
            for (const name of fs.readdirSync(server.folder))
                if (name.startsWith('authkitd.db'))
                    fs.chownSync(path.join(server.folder, name), 0, 0);
            const args = [...COMMANDS[command], '--db', server.database];
            if (WITH_SCRIPT.includes(command)) args.push('--handlers', server.handlersFile);
            const child = adopt(
                spawn(server.program, args, {
                    cwd: server.folder,
                    uid: 65534,
                    gid: 65534,
                    stdio: ['ignore', 'pipe', 'pipe'],
                    env: cleanEnvironment({ ...SECRETS, WORKOS_API_KEY: 'sk_test' }),
                }),
            );
            let text = '';
            child.stdout.on('data', (part) => (text += part));
            child.stderr.on('data', (part) => (text += part));
            const [code] = await once(child, 'close');
            assert.equal(code, 1, text);
            assert.match(text, /authkitd\.db.*(Permission denied|can't be written)/);
        });

    test('an empty file: serve makes a database of it, those that look say that nothing is in it', async (t) => {
        const place = newPlace();
        fs.writeFileSync(place.database, '');
        for (const command of ['events', 'backup', 'maintain', 'maintain --check']) {
            const { code, stderr } = await run(place, command);
            assert.equal(code, 1);
            assert.match(
                stderr,
                /authkitd\.db: there is nothing in it yet\n  say where the database is with --db/,
            );
        }
        assert.equal((await run(place, 'check')).code, 0);
        assert.equal(fs.statSync(place.database).size, 0);
        const server = newServer(t, { handlers: HANDLERS });
        fs.writeFileSync(server.database, '');
        await server.start();
        await server.deliver(userCreated());
    });
});
