// SPDX-License-Identifier: MIT
// authkitd backfill: what was at WorkOS before authkitd was here, whatever happens meanwhile.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';

import { faults, startFakeApi } from './lib/fake_api.js';
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
import { binary, cleanEnvironment, newServer, runCommand, startServer } from './lib/server.js';
import { isoTime, newUser, userCreated, userDeleted, userUpdated } from './lib/workos.js';

/** Counts every call, so that a second one of the same object is seen. */
const COUNTING = `
local authkit = require "authkit"

authkit.schema {
  calls = {
    columns = { event = "text", object = "text", id = "text", email = "text?", late = "boolean" },
    indexes = { { "object" } },
  },
}

local function count(ctx, event)
  ctx.db.insert("calls", {
    event = event.event, object = event.data.id, id = event.id, email = event.data.email,
    late = event.late,
  })
end

authkit.events {
  ["user.created"] = count,
  ["user.updated"] = count,
  ["user.deleted"] = count,
  ["organization.created"] = count,
  ["organization_membership.created"] = count,
  ["organization_membership.deleted"] = count,
  ["invitation.created"] = function(ctx, event)
    assert(event.data.token == nil and event.data.accept_invitation_url == nil)
    count(ctx, event)
  end,
}
`;

/** Users, organizations with members of every status, invitations. */
function fill(api, { users = 0, organizations = 0, invitations = 0 } = {}) {
    const old = '2025-01-01T00:00:00.000Z';
    const all = api.users.addExisting(users, (i) => ({
        email: `user${i}@example.com`,
        created_at: isoTime(Date.parse(old) + i * 1000),
    }));
    for (let i = 0; i < organizations; i++) {
        const organization = api.organizations.add(
            { name: `Acme ${i}`, created_at: old },
            { silent: true },
        ).data;
        api.memberships.addExisting(3, (j) => ({
            user_id: all[(i + j) % all.length].id,
            organization_id: organization.id,
            status: ['active', 'inactive', 'pending'][j],
            created_at: old,
        }));
    }
    api.invitations.addExisting(invitations, () => ({ created_at: old }));
    return all;
}

const options = (server, args) => [
    'backfill',
    '--db',
    server.database,
    '--handlers',
    server.handlersFile,
    '--rate',
    '1000',
    ...args,
];

/** With a running server the environment is the server's. */
const backfill = (server, args = [], env = {}) =>
    runCommand(options(server, args), { env, timeout: patience(50_000) });

async function backfillWell(server, args, env) {
    const result = await backfill(server, args, env);
    assert.equal(result.code, 0, result.output + server.logTail());
    return result;
}

/** The same, not waited for: { child, output(), ended }. */
function startBackfill(server, args = [], env = {}) {
    const child = adopt(
        spawn(binary, options(server, args), {
            cwd: server.folder,
            env: cleanEnvironment(env),
            stdio: ['ignore', 'pipe', 'pipe'],
        }),
    );
    let output = '';
    for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => {
            output += text;
        });
    const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, output }));
    return { child, output: () => output, ended };
}

const TABLES = {
    users: 'workos_users',
    organizations: 'workos_organizations',
    memberships: 'workos_organization_memberships',
    invitations: 'workos_invitations',
};

function assertMirrorIsApi(server, api) {
    for (const [name, table] of Object.entries(TABLES)) {
        const rows = server.rows(`SELECT id, updated_at, raw FROM ${table} ORDER BY id`);
        const objects = [...api[name].values()].sort((a, b) => (a.id < b.id ? -1 : 1));
        assert.deepEqual(
            rows.map((row) => [row.id, row.updated_at]),
            objects.map((object) => [object.id, object.updated_at]),
            name,
        );
        for (const [i, row] of rows.entries()) {
            const expected = { ...objects[i] };
            for (const secret of ['token', 'accept_invitation_url'])
                if (expected[secret]) expected[secret] = null;
            assert.deepEqual(JSON.parse(row.raw), expected, name);
        }
    }
}

/** Of every object with a row, its creation's function ran once, and every event is done. */
function assertEachOnce(server, event, ids) {
    const calls = server.rows(
        'SELECT object, count(*) AS n FROM calls WHERE event = ? GROUP BY object',
        event,
    );
    assert.deepEqual(
        calls.filter((row) => row.n !== 1),
        [],
        `${event} twice`,
    );
    assert.deepEqual(calls.map((row) => row.object).sort(), [...ids].sort(), event);
}

function assertNothingLeft(server) {
    assert.deepEqual(server.rows("SELECT * FROM authkitd_state WHERE key GLOB 'backfill*'"), []);
    assert.deepEqual(server.rows("SELECT name FROM sqlite_schema WHERE name GLOB '*backfill*'"), []);
}

const counts = (stdout) =>
    Object.fromEntries(
        [...stdout.matchAll(/^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$/gm)].map(
            ([, name, ...numbers]) => [name, numbers.map(Number)],
        ),
    );

describe('a backfill', () => {
    for (const place of ['in the running server', 'with no server running'])
        test(`brings all that WorkOS has, each function once: ${place}`, async (t) => {
            const api = await startFakeApi(t);
            const users = fill(api, { users: 250, organizations: 5, invitations: 120 });
            const isServed = place === 'in the running server';
            const server = newServer(t, { handlers: COUNTING, env: { ...api.env, AUTHKITD_POLL: 'off' } });

            if (isServed) await server.start();
            const first = await backfillWell(server, [], isServed ? {} : api.env);
            assert.deepEqual(counts(first.stdout), {
                users: [250, 0, 0, 0, 250, 0],
                organizations: [5, 0, 0, 0, 5, 0],
                memberships: [15, 0, 0, 0, 15, 0],
                invitations: [120, 0, 0, 0, 120, 0],
            });
            assertMirrorIsApi(server, api);
            assertEachOnce(server, 'user.created', api.users.keys());
            assertEachOnce(server, 'organization.created', api.organizations.keys());
            assertEachOnce(server, 'organization_membership.created', api.memberships.keys());
            assertEachOnce(server, 'invitation.created', api.invitations.keys());
            assertNothingLeft(server);
            const event = server.row(
                'SELECT id, event, object_id, status, created_at, payload FROM workos_events WHERE object_id = ?',
                users[7].id,
            );
            assert.equal(event.id, `backfill:${users[7].id}`);
            assert.equal(event.status, 'done');
            assert.equal(event.created_at, users[7].created_at);
            assert.deepEqual(JSON.parse(event.payload).data, users[7]);

            // Pages, oldest first, by cursor; memberships of every status, by organization.
            const pages = api.requestsTo('/user_management/users');
            assert.deepEqual(
                pages.map(({ query }) => [query.get('after'), query.get('order'), query.get('limit')]),
                [
                    [null, 'asc', '100'],
                    [users[99].id, 'asc', '100'],
                    [users[199].id, 'asc', '100'],
                ],
            );
            const lists = api.requestsTo('/user_management/organization_memberships');
            assert.equal(lists.length, 5);
            for (const { query } of lists) assert.equal(query.get('statuses'), 'active,inactive,pending');
            assert.match(pages[0].userAgent, /^authkitd\/\S+ \(backfill\)$/);

            // Again: what has changed, and nothing else.
            api.users.update(users[0].id, { first_name: 'Grace' }, { silent: true });
            const second = await backfillWell(server, [], isServed ? {} : api.env);
            assert.deepEqual(counts(second.stdout).users, [0, 1, 249, 0, 0, 0]);
            assertMirrorIsApi(server, api);
            assert.equal(server.count('calls'), 250 + 5 + 15 + 120);
        });

    test('without --no-handlers' + ' functions run; with it the tables alone are filled', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 120, organizations: 2 });
        const server = await startServer(t, { handlers: COUNTING, env: { ...api.env, AUTHKITD_POLL: 'off' } });

        await backfillWell(server, ['--no-handlers']);
        assertMirrorIsApi(server, api);
        assert.equal(server.count('calls'), 0);
        assert.equal(server.count('workos_events'), 0);
        // They are not new any more.
        await backfillWell(server);
        assert.equal(server.count('calls'), 0);
    });

    test('a type that the script has no function for leaves no events', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 120, organizations: 2, invitations: 2 });
        const server = await startServer(t, { env: { ...api.env, AUTHKITD_POLL: 'off' } });

        await backfillWell(server);
        assertMirrorIsApi(server, api);
        assert.equal(server.count('todo_lists'), 120);
        assert.equal(server.count('workos_events'), 120);
    });

    test('a function that fails is an event that failed, and heals with the next script', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 30 });
        const server = await startServer(t, {
            handlers: COUNTING.replace(
                'local function count(ctx, event)',
                'local function count(ctx, event)\n if event.data.email:find("user1") then error("oops") end',
            ),
            env: { ...api.env, AUTHKITD_POLL: 'off' },
        });

        const result = await backfillWell(server);
        assert.deepEqual(counts(result.stdout).users, [30, 0, 0, 0, 19, 11]);
        assert.match(result.stdout, /11 functions failed and run again by themselves/);
        assert.equal(server.row("SELECT count(*) FROM workos_events WHERE status = 'failed'"), 11);
        await server.reload(COUNTING);
        await until('all events to be done', () => server.count('calls') === 30);
        assertEachOnce(server, 'user.created', api.users.keys());
    });
});
