// SPDX-License-Identifier: MIT
// Nothing personal is left of a deleted user but the id, not a byte of it in any file; and secrets
// that pass through never reach one.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { describe, inParallel, load, randomness, test, until } from './lib/harness.js';
import { runCommand, startServer, writeFile } from './lib/server.js';
import { isoTime, newEvent, newId, newUser, userDeleted, userUpdated } from './lib/workos.js';

const script = (body = '') => `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text", found = "text?" } } }
local function run(ctx, event)
  ${body}
  ctx.db.insert("runs", { event_id = event.id })
end
authkit.events { ["user.created"] = run, ["user.updated"] = run, ["session.created"] = run }`;

const BROKEN = script(
    'if event.data.metadata and event.data.metadata.bad then error("failed for " .. event.data.email) end',
);
const FIXED = script();

/** Which of the texts stand anywhere in the server's files. */
function found(server, texts) {
    const files = fs
        .readdirSync(server.folder)
        .filter((name) => name.startsWith(path.basename(server.database)))
        .map((name) => [name, fs.readFileSync(path.join(server.folder, name))]);
    return texts.flatMap((text) =>
        files.filter(([, bytes]) => bytes.includes(text)).map(([name]) => `${text} in ${name}`),
    );
}

/** About a second after the last write the WAL is emptied; from then on nothing may be found. */
const untilGone = (server, texts) =>
    until('the files to be without it', () => {
        const places = found(server, texts);
        if (places.length > 0) throw new Error(places.slice(0, 5).join('\n'));
        return true;
    });

let number = 0;

/** A user all of whose texts can be recognized, and the list of them. */
function markedUser(fields = {}) {
    const mark = (what) => `mark-${what}-${++number}-${Math.random().toString(36).slice(2)}`;
    const marks = {
        email: mark('email'),
        first: mark('first'),
        last: mark('last'),
        name: mark('name'),
        external: mark('external'),
        picture: mark('picture'),
        value: mark('value'),
        key: mark('key'),
        odd: mark('odd'),
    };
    const user = newUser({
        email: `${marks.email}@example.com`,
        first_name: marks.first,
        last_name: marks.last,
        name: marks.name,
        external_id: marks.external,
        profile_picture_url: `https://example.com/${marks.picture}.png`,
        metadata: { [marks.key]: marks.value },
        something_new: [marks.odd],
        ...fields,
    });
    return { user, marks: Object.values(marks) };
}

const bad = (user) => ({ ...user, metadata: { ...user.metadata, bad: 'yes' } });
const statusOf = (server, event) => server.eventRow(event).status;

describe('after user.deleted', () => {
    test('no byte of the user is in any file; others are as they were', async (t) => {
        const server = await startServer(t, { handlers: FIXED });
        const { user, marks } = markedUser();
        const other = markedUser();
        await server.deliver(newEvent('user.created', other.user));
        await server.deliver(newEvent('user.created', user));
        await server.deliver(userUpdated(user, { locale: marks[0] }));
        await server.deliver(
            newEvent('session.created', {
                object: 'session',
                id: newId('session'),
                user_id: user.id,
                user_agent: marks[1],
                ip_address: marks[2],
            }),
        );
        assert.notDeepEqual(found(server, marks), [], 'the search finds what is there');
        await server.deliver(userDeleted(user));
        await untilGone(server, marks);
        assert.equal(
            new Set(found(server, other.marks).map((at) => at.split(' ')[0])).size,
            other.marks.length,
        );
        assert.equal(server.userRow(other.user).email, other.user.email);
        await server.stop();
        assert.deepEqual(found(server, marks), []);
    });

    test('nor of what arrives later', async (t) => {
        const server = await startServer(t, { handlers: FIXED });
        const { user, marks } = markedUser();
        await server.deliver(userDeleted({ object: 'user', id: user.id }));
        await server.deliver(newEvent('user.created', user));
        await server.deliver(userUpdated(user));
        await server.deliver(userDeleted(user));
        await server.deliver(
            newEvent('session.created', {
                object: 'session',
                id: newId('session'),
                user_id: user.id,
                user_agent: marks[1],
            }),
        );
        assert.equal(server.count('runs'), 3, 'their functions have seen it');
        await untilGone(server, marks);
    });

    test('only its ids are left of a user.deleted that is dead, and with them it can still run', async (t) => {
        const cleaning = (line) => `
local authkit = require "authkit"
authkit.schema { cleaned = { columns = { user_id = "text", email = "text?" } } }
authkit.events { ["user.deleted"] = function(ctx, event)
  ${line}
  ctx.db.insert("cleaned", { user_id = event.data.id, email = event.data.email })
end }`;
        const server = await startServer(t, {
            handlers: cleaning('error("not yet for " .. event.data.email)'),
        });
        const { user, marks } = markedUser();
        const deleted = userDeleted(user);
        await server.deliver(newEvent('user.created', user));
        await server.deliver(deleted);
        assert.equal(statusOf(server, deleted), 'failed');
        await server.reload('local authkit = require "authkit"');
        await until('it to be dead', () => statusOf(server, deleted) === 'dead');
        const { payload, last_error } = server.eventRow(deleted);
        assert.deepEqual(JSON.parse(payload), {
            id: deleted.id,
            event: 'user.deleted',
            data: { object: 'user', id: user.id },
            created_at: deleted.created_at,
        });
        assert.equal(last_error, null);
        await untilGone(server, marks);
        const check = await runCommand(['maintain', '--check', '--db', server.database], { env: {} });
        assert.equal(check.code, 0, check.output);

        await server.reload(cleaning(''));
        assert.equal(statusOf(server, deleted), 'dead');
        const outcome = await runCommand(['retry', '--db', server.database, deleted.id], { env: {} });
        assert.equal(outcome.code, 0, outcome.output);
        await until('it to be done', () => statusOf(server, deleted) === 'done');
        assert.deepEqual({ ...server.row('SELECT user_id, email FROM cleaned') }, {
            user_id: user.id,
            email: null,
        });
        assert.equal(server.eventRow(deleted).payload, null);
    });

    test('what is failed and waiting goes, with its error texts, once it is done', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const { user, marks } = markedUser();
        const failed = newEvent('user.created', bad(user));
        const waiting = userUpdated(user);
        const late = userUpdated(user, { updated_at: isoTime(Date.now() + 9000) });
        await server.deliver(failed);
        await server.deliver(waiting);
        await server.deliver(userDeleted(user));
        await server.deliver(late);
        assert.match(server.eventRow(failed).last_error, new RegExp(marks[0]));
        assert.equal(statusOf(server, late), 'waiting');
        await server.reload(FIXED);
        await until('the line to be done', () => statusOf(server, late) === 'done');
        assert.equal(server.count('runs'), 3);
        await untilGone(server, marks);
    });

    test('or dead', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const { user, marks } = markedUser();
        const failed = newEvent('user.created', bad(user));
        await server.deliver(failed);
        await server.deliver(userUpdated(user));
        await server.deliver(userDeleted(user));
        await server.reload('local authkit = require "authkit"');
        await until(
            'none to be in line',
            () =>
                server.row(
                    "SELECT count(*) FROM workos_events WHERE status IN ('failed', 'waiting')",
                ) === 0,
        );
        assert.equal(statusOf(server, failed), 'dead');
        await untilGone(server, marks);
    });

    test('what was dead before goes with the deletion', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const { user, marks } = markedUser();
        const failed = newEvent('user.created', bad(user));
        await server.deliver(failed);
        await server.reload('local authkit = require "authkit"');
        await until('it to be dead', () => statusOf(server, failed) === 'dead');
        await server.deliver(userDeleted(user));
        await untilGone(server, marks);
        const { code, output } = await runCommand(['retry', '--db', server.database, failed.id]);
        assert.equal(code, 1, output);
        assert.match(output, /its user was deleted/);
    });

    // Symptom: the warning that it was dead stayed for good, and advised a retry that was always refused.
    test('what was dead before is nobody’s trouble after it', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const { user } = markedUser();
        const failed = newEvent('user.created', bad(user));
        await server.deliver(failed);
        await server.reload('local authkit = require "authkit"');
        await until('it to be dead', () => statusOf(server, failed) === 'dead');
        await server.deliver(userDeleted(user));
        assert.equal(statusOf(server, failed), 'dead');
        const ready = await fetch(`${server.adminUrl}/readyz`);
        assert.deepEqual((await ready.json()).warnings, []);
    });

    test(`of ${load(200, 60)} users among as many others, with bodies of all sizes, nothing is left between the pages`, async (t) => {
        const random = randomness(t);
        const server = await startServer(t, { handlers: FIXED });
        const client = server.newClient({ connections: 16 });
        const users = Array.from({ length: load(400, 120) }, () =>
            markedUser({ filling: 'x'.repeat(random.below(random.below(4) ? 400 : 9000)) }),
        );
        const send = (event) => server.deliver(event, { client });
        await inParallel(16, users, ({ user }) => send(newEvent('user.created', user)));
        await inParallel(16, random.shuffle(users), ({ user }) =>
            send(userUpdated(user, { filling: 'y'.repeat(random.below(2000)) })),
        );
        const shuffled = random.shuffle(users);
        const deleted = shuffled.slice(0, users.length / 2);
        const kept = shuffled.slice(users.length / 2);
        await inParallel(16, deleted, ({ user }) => send(userDeleted(user)));
        await untilGone(
            server,
            deleted.flatMap(({ marks }) => marks),
        );
        for (const { user } of kept) assert.equal(server.userRow(user).email, user.email);
        assert.equal(server.count('workos_users'), kept.length);
    });
});

describe('an invitation', () => {
    const HANDLERS = `
local authkit = require "authkit"
authkit.schema { runs = { columns = { event_id = "text", found = "text?" } } }
authkit.events { ["invitation.created"] = function(ctx, event)
  local data = event.data
  if data.bad then error("not yet") end
  local found = tostring(data.token):reverse() .. " " .. tostring(data.accept_invitation_url):reverse()
  ctx.db.insert("runs", { event_id = event.id, found = found })
end }`;
    const backwards = (text) => [...text].reverse().join('');

    function newInvitation(fields = {}) {
        const token = `secret-token-${Math.random().toString(36).slice(2)}`;
        const data = {
            object: 'invitation',
            id: newId('invitation'),
            email: 'grace@example.com',
            state: 'pending',
            token,
            accept_invitation_url: `https://app.example.com/accept?t=${token}`,
            organization_id: newId('org'),
            inviter_user_id: null,
            expires_at: isoTime(Date.now() + 86400_000),
            created_at: isoTime(),
            updated_at: isoTime(),
            ...fields,
        };
        return { event: newEvent('invitation.created', data), token };
    }

    test('shows its token and link to the function, and to no file, not even to the WAL', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const { event, token } = newInvitation();
        await server.deliver(event);
        // At once, before any checkpoint.
        assert.deepEqual(found(server, [token]), []);
        assert.notDeepEqual(found(server, [event.data.id]), [], 'the search finds what is there');
        assert.equal(
            server.row('SELECT found FROM runs'),
            `${backwards(token)} ${backwards(event.data.accept_invitation_url)}`,
        );
        const {
            token: kept,
            accept_invitation_url: link,
            ...rest
        } = JSON.parse(server.eventRow(event).payload).data;
        const { token: _, accept_invitation_url: __, ...expected } = event.data;
        assert.deepEqual({ kept, link, rest }, { kept: null, link: null, rest: expected });
        const mirrored = server.row('SELECT email, state, raw FROM workos_invitations');
        assert.equal(mirrored.email, 'grace@example.com');
        assert.equal(JSON.parse(mirrored.raw).token, null);
        await server.stop();
        assert.deepEqual(found(server, [token]), []);
        assert.ok(!server.lines.some((line) => line.text.includes(token)), 'nor to the log');
    });

    test('written with escapes, twice, or as anything but a text: nor then', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const { event, token } = newInvitation();
        const body = JSON.stringify(event)
            .replace('"token":', `"token":["${token}"],"\\u0074oken":{"x":"${token}"},"token" : \n`)
            .replace('"accept_invitation_url":', '"accept_invitation\\u005furl":');
        await server.deliver(body);
        assert.deepEqual(found(server, [token]), []);
        assert.equal(statusOf(server, event), 'done');
    });

    // Symptom: they were null from the second attempt on, and the function could never do its work.
    test('that fails runs again with them; they are in memory alone', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const { event, token } = newInvitation({ bad: true });
        await server.deliver(event);
        assert.equal(statusOf(server, event), 'failed');
        assert.deepEqual(found(server, [token]), []);
        await server.reload(HANDLERS.replace('if data.bad', 'if false'));
        await until('it to be done', () => statusOf(server, event) === 'done');
        assert.equal(
            server.row('SELECT found FROM runs'),
            `${backwards(token)} ${backwards(event.data.accept_invitation_url)}`,
        );
        await server.stop();
        assert.deepEqual(found(server, [token]), []);
    });

    test('that waits behind one that failed has them when its turn comes', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const { event: first } = newInvitation({ bad: true });
        const { event: second, token } = newInvitation({ id: first.data.id });
        await server.deliver(first);
        await server.deliver(second);
        assert.equal(statusOf(server, second), 'waiting');
        await server.reload(HANDLERS.replace('if data.bad', 'if false'));
        await until('it to be done', () => statusOf(server, second) === 'done');
        assert.equal(
            server.row('SELECT found FROM runs WHERE event_id = ?', second.id).split(' ')[0],
            backwards(token),
        );
    });

    test('that fails runs again without them when the server was started anew', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });
        const { event, token } = newInvitation({ bad: true });
        await server.deliver(event);
        await server.kill();
        writeFile(server.handlersFile, HANDLERS.replace('if data.bad', 'if false'));
        await server.start();
        await until('it to be done', () => statusOf(server, event) === 'done');
        assert.equal(server.row('SELECT found FROM runs'), 'lin lin');
        await server.stop();
        assert.deepEqual(found(server, [token]), []);
    });
});
