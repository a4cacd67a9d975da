// SPDX-License-Identifier: MIT
// What the tests of authkitd backfill share: what is at WorkOS, the command, and what must have come of it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { changeRows } from './database.js';
import { adopt, patience } from './harness.js';
import { binary, cleanEnvironment, runCommand } from './server.js';
import { isoTime } from './workos.js';

/** Counts every call, so that a second one of the same object is seen. */
export const COUNTING = `
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
export function fill(api, { users = 0, organizations = 0, invitations = 0 } = {}) {
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

/** The poller stays out of it. */
export const envOf = (api) => ({ ...api.env, AUTHKITD_POLL: 'off' });

/** The command's words. */
export const commandLine = (server, args) => [
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
export const backfill = (server, args = [], env = {}) =>
    runCommand(commandLine(server, args), { env, timeout: patience(50_000) });

export async function backfillWell(server, args, env) {
    const result = await backfill(server, args, env);
    assert.equal(result.code, 0, result.output + server.logTail());
    return result;
}

/** What the server says of its backfill: { run, state, … }. */
export const progress = async (server) => (await fetch(`${server.adminUrl}/backfill`)).json();

/** The same as a command, not waited for: { child, output(), ended }. */
export function startBackfill(server, args = [], env = {}) {
    const child = adopt(
        spawn(binary, commandLine(server, args), {
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

/** All that is here happened so much earlier. Of a server that is stopped. */
export function letTimePass(server, ms) {
    changeRows(server.database, 'UPDATE workos_events SET received_at = received_at - ?', [ms]);
    for (const table of Object.values(TABLES))
        changeRows(server.database, `UPDATE ${table} SET _version_us = _version_us - ?`, [ms * 1000]);
}

const TABLES = {
    users: 'workos_users',
    organizations: 'workos_organizations',
    memberships: 'workos_organization_memberships',
    invitations: 'workos_invitations',
};

export function assertMirrorIsApi(server, api) {
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
export function assertEachOnce(server, event, ids) {
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

export function assertNothingLeft(server) {
    assert.deepEqual(server.rows("SELECT * FROM authkitd_state WHERE key GLOB 'backfill*'"), []);
    assert.deepEqual(
        server.rows("SELECT name FROM sqlite_schema WHERE name GLOB '*backfill*'"),
        [],
    );
}

export const counts = (stdout) =>
    Object.fromEntries(
        [...stdout.matchAll(/^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$/gm)].map(
            ([, name, ...numbers]) => [name, numbers.map(Number)],
        ),
    );

/** What comes meanwhile: in front of the answer to the second page of users. */
export const beforeSecondPage = (api, action) =>
    api.before((request) => request.query.get('after') && request.path.endsWith('/users'), action);
