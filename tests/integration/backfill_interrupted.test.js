// SPDX-License-Identifier: MIT
// authkitd backfill that is interrupted, by whomever, and goes on; and --prune, which removes what it didn't find.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';

import {
    COUNTING,
    assertEachOnce,
    assertMirrorIsApi,
    assertNothingLeft,
    backfill,
    backfillWell,
    beforeSecondPage,
    commandLine,
    envOf,
    fill,
    letTimePass,
    progress,
    startBackfill,
} from './lib/backfill.js';
import { changeRows } from './lib/database.js';
import { faults, startFakeApi } from './lib/fake_api.js';
import {
    adopt,
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
import { binary, cleanEnvironment, newServer, startServer } from './lib/server.js';
import { newEvent, userCreated, userDeleted, userUpdated } from './lib/workos.js';

describe('an interrupted backfill', () => {
    const misbehaviour = (random) =>
        [
            faults.status(500),
            faults.status(503),
            faults.rateLimited(0),
            faults.cut(),
            faults.reset(),
            faults.invalidJson(),
            faults.html(),
            faults.slow(1),
            faults.pageSize(7),
            faults.delay(100),
        ][random.below(10)];

    for (const victim of ['server', 'command', 'command without a server'])
        test(`goes on after kill -9 of the ${victim}, with WorkOS failing`, async (t) => {
            const random = randomness(t);
            const api = await startFakeApi(t);
            fill(api, { users: 600, organizations: 6, invitations: 50 });
            api.maxPageSize = 20;
            const server = newServer(t, {
                handlers: COUNTING,
                env: envOf(api),
            });
            const isAlone = victim === 'command without a server';
            const env = isAlone ? api.env : {};
            let kills = 0;

            if (!isAlone) await server.start();
            for (let round = 0; round < load(12, 5); round++) {
                for (let i = 0; i < 3; i++)
                    api.fail(() => random.below(8) === 0, misbehaviour(random));
                const last = isAlone ? 0 : (await progress(server)).run;
                const running = startBackfill(server, [], env);

                // A command that found no server would do the work itself, and own the database.
                if (victim === 'server')
                    await until('it to begin', async () => (await progress(server)).run > last);
                await sleep(random.below(load(500, 2500)));
                if (victim === 'server') {
                    await server.kill();
                    await server.start();
                } else {
                    running.child.kill('SIGKILL');
                }
                const { code, signal, output } = await running.ended;
                if (victim === 'server' && code !== 0)
                    assert.match(output, /authkitd backfill goes on where this one has come to/);
                kills += signal === 'SIGKILL' || (victim === 'server' && code === 1);
                if (victim === 'command')
                    await fetch(`${server.adminUrl}/backfill/stop`, {
                        method: 'POST',
                        headers: { 'Authkitd-Admin': '1' },
                    });
                if (!isAlone)
                    await until(
                        'the backfill to have ended',
                        async () => (await progress(server)).state !== 'running',
                    );
            }
            t.diagnostic(`${kills} kills`);
            api.heal();
            await backfillWell(server, [], env);
            assertMirrorIsApi(server, api);
            for (const [type, name] of [
                ['user', 'users'],
                ['organization', 'organizations'],
                ['organization_membership', 'memberships'],
                ['invitation', 'invitations'],
            ])
                assertEachOnce(server, `${type}.created`, api[name].keys());
            assert.deepEqual(server.rows("SELECT id FROM workos_events WHERE status <> 'done'"), []);
            assertNothingLeft(server);
        });

    testLogic('that was cut off at its start tells that it may have begun, and goes on', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, { handlers: COUNTING, env: envOf(api) });
        const deaf = net.createServer((socket) => socket.once('data', () => socket.destroy()));

        deaf.listen(0, '127.0.0.1');
        await once(deaf, 'listening');
        t.after(() => deaf.close());
        // A command finds the server by what its lock says.
        const address = `127.0.0.1:${deaf.address().port}`;
        writeFileSync(`${server.database}.lock`, `pid=${server.child.pid}\nadmin=${address}\n`);
        const { code, output } = await backfill(server);
        assert.equal(code, 1, output);
        assert.match(output, /no answer from the server/);
        assert.match(output, /authkitd backfill goes on where this one has come to/);
    });

    testLogic('goes on from its last page, not from the beginning', async (t) => {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 400, organizations: 2 });
        const server = newServer(t, { handlers: COUNTING });

        api.fail((request) => request.query.get('after') === users[199].id, faults.status(401));
        const first = await backfill(server, [], api.env);
        assert.equal(first.code, 1);
        assert.match(first.output, /is WORKOS_API_KEY right\?/);
        assert.match(first.output, /authkitd backfill goes on where this one has come to/);
        assert.equal(server.count('workos_users'), 200);
        api.requests.length = 0;
        const second = await backfillWell(server, [], api.env);
        assert.equal(api.requests[0].query.get('after'), users[199].id);
        assert.match(second.stdout, /since it was resumed/);
        assert.match(
            second.stderr,
            /^goes on with the listing that began at 20\S+Z, 0 min ago: users, 200 were listed$/m,
        );
        assertMirrorIsApi(server, api);
    });

    // Symptom: an old one was gone on with, whoever had been deleted meanwhile; and another environment's.
    for (const [what, change] of [
        [
            'a day ago',
            (server) =>
                changeRows(
                    server.database,
                    "UPDATE authkitd_state SET value = value - 86400000 WHERE key = 'backfill.started_ms'",
                ),
        ],
        [
            'after now, for the clock was ahead',
            (server) =>
                changeRows(
                    server.database,
                    "UPDATE authkitd_state SET value = value + 60000 WHERE key = 'backfill.started_ms'",
                ),
        ],
        [
            'with another API key',
            (server, api) => {
                api.key = 'sk_test_another';
            },
        ],
    ])
        testLogic(`is begun anew when it began ${what}`, async (t) => {
            const api = await startFakeApi(t);
            const users = fill(api, { users: 220, organizations: 2 });
            const server = newServer(t, { handlers: COUNTING });

            await backfillWell(server, [], api.env);
            api.fail('/organizations', faults.status(401));
            assert.equal((await backfill(server, ['--prune', '--yes'], api.env)).code, 1);
            const mark = server.rows("SELECT value FROM authkitd_state WHERE key = 'backfill.api'");
            assert.match(mark[0].value, /^[0-9a-f]{32}$/);
            for (const user of users.slice(0, 3)) api.users.remove(user.id);
            change(server, api);
            api.requests.length = 0;
            const { stdout, stderr } = await backfillWell(server, ['--prune', '--yes'], api.env);
            assert.equal(api.requests[0].path, '/user_management/users');
            assert.doesNotMatch(stderr, /goes on with the listing/);
            assert.match(stdout, /removed, since WorkOS no longer has them: 3/);
            assertMirrorIsApi(server, api);
            assertNothingLeft(server);
        });

    testLogic("begins its list anew when WorkOS doesn't know the cursor any more", async (t) => {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 400 });
        const server = newServer(t, { handlers: COUNTING });

        api.deletedCursor = 422;
        api.fail((request) => request.query.get('after') === users[199].id, faults.status(401));
        assert.equal((await backfill(server, [], api.env)).code, 1);
        api.users.remove(users[199].id);
        await backfillWell(server, [], api.env);
        assert.equal(server.count('workos_users'), 400); // the deletion's webhook hasn't come
        assertEachOnce(server, 'user.created', users.map((user) => user.id));
    });

    // SIGHUP is a connection that is lost, with the terminal.
    for (const signal of ['SIGINT', 'SIGHUP'])
        test(`${signal} stops it, also in the server, and says that it can be resumed`, async (t) => {
            const api = await startFakeApi(t);
            fill(api, { users: 300 });
            api.maxPageSize = 5;
            const server = await startServer(t, {
                handlers: COUNTING,
                env: envOf(api),
            });
            const running = startBackfill(server, ['--rate', '20']);

            await until('some users', () => server.count('workos_users') > 10);
            running.child.kill(signal);
            const { code, output } = await running.ended;
            assert.equal(code, 1);
            assert.match(output, /stopped/);
            assert.match(output, /goes on where this one has come to/);
            const count = server.count('workos_users');
            await sleep(200);
            assert.equal(server.count('workos_users'), count);
            assert.ok(count < 300);
            await backfillWell(server);
            assertEachOnce(server, 'user.created', api.users.keys());
        });

    test('a server that stops ends it at once', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = await startServer(t, { env: envOf(api) });

        api.fail((request) => request.query.get('after'), faults.silent(), 100);
        const running = startBackfill(server);
        await until('the first page', () => server.count('workos_users') === 100);
        await server.stop(); // asserts that it took no longer than 5 s
        const { code, output } = await running.ended;
        assert.equal(code, 1);
        assert.match(output, /goes on where this one has come to/);
    });

    testLogic('WorkOS is away: it keeps trying, says so, and gives up in the end', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = newServer(t, { handlers: COUNTING });
        const { env } = api;

        api.before(
            (request) => request.query.get('after'),
            () => setImmediate(() => api.close()),
        );
        const away = await backfill(server, ['--give-up', '6'], env);
        assert.equal(away.code, 1);
        assert.match(away.output, /waiting, \d+ s: /);
        assert.match(away.output, /given up after 6 s/);
        assert.match(away.output, /goes on where this one has come to/);

        const again = await startFakeApi(t);
        for (const [id, user] of api.users) again.users.set(id, user);
        await backfillWell(server, [], again.env);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.created', api.users.keys());
    });

    testLogic('WorkOS asks to wait for longer than it may: it says so, and gives up in time', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = newServer(t, { handlers: COUNTING });
        const after = (request) => request.query.get('after');

        api.fail(after, faults.rateLimited(60), 100);
        const began = Date.now();
        const away = await backfill(server, ['--give-up', '6'], api.env);
        assert.equal(away.code, 1);
        assert.ok(Date.now() - began < patience(15_000), `${Date.now() - began} ms`);
        assert.match(away.output, /waiting, \d+ s: .*answered 429.*it asks to wait 60 s/);
        assert.match(away.output, /given up after 6 s: .*answered 429/);
        assert.ok(api.requests.filter(after).length <= 2, 'nor does it ask much meanwhile');
    });

    testLogic('WorkOS asks to wait a moment: it does, and that is no news', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = newServer(t, { handlers: COUNTING });
        const after = (request) => request.query.get('after');

        api.fail(after, faults.rateLimited(1), 2);
        const { output } = await backfillWell(server, [], api.env);
        assert.doesNotMatch(output, /can't go on|waiting/);
        const at = api.requests.filter(after).map((request) => request.at);
        for (const i of [1, 2]) assert.ok(at[i] - at[i - 1] >= 950, `${at[i] - at[i - 1]} ms`);
        assertMirrorIsApi(server, api);
    });

    test('it goes on by itself when WorkOS is back', async (t) => {
        const api = await startFakeApi(t);
        fill(api, { users: 300 });
        const server = newServer(t, { handlers: COUNTING });

        api.fail((request) => request.query.get('after'), faults.status(503), 4);
        await backfillWell(server, [], api.env);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.created', api.users.keys());
    });
});

describeLogic('backfill --prune', () => {
    /** Everything is here; then some of it goes at WorkOS, and no webhook tells. */
    async function startStale(t, { handlers = COUNTING } = {}) {
        const api = await startFakeApi(t);
        const users = fill(api, { users: 220, organizations: 3, invitations: 4 });
        const server = await startServer(t, {
            handlers,
            env: envOf(api),
        });
        await backfillWell(server);
        const gone = [users[0], users[101], users[219]];
        for (const user of gone) api.users.remove(user.id);
        const membership = [...api.memberships.values()][1];
        api.memberships.remove(membership.id);
        return { api, server, users, gone, membership };
    }

    const payloads = (server, user) =>
        server
            .rows('SELECT DISTINCT payload FROM workos_events WHERE user_id = ?', user.id)
            .map((row) => row.payload);

    test('without --yes and without a terminal: reported, and nothing is removed', async (t) => {
        const { server } = await startStale(t);

        const { stdout } = await backfillWell(server, ['--prune']);
        assert.match(stdout, /not at WorkOS any more: 3 users, 1 membership; authkitd backfill/);
        assert.equal(server.count('workos_users'), 220);
        assert.equal(server.count('authkitd_tombstones'), 0);
        assertNothingLeft(server);
    });

    test('with --yes: removed as by user.deleted, for good', async (t) => {
        const { api, server, gone, membership } = await startStale(t);

        const { stdout } = await backfillWell(server, ['--prune', '--yes']);
        assert.match(stdout, /removed, since WorkOS no longer has them: 4/);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
        assertEachOnce(server, 'organization_membership.deleted', [membership.id]);
        for (const user of gone) {
            const call = server.row(
                "SELECT * FROM calls WHERE event = 'user.deleted' AND object = ?",
                user.id,
            );
            assert.equal(call.id, `prune:${user.id}`);
            assert.equal(call.email, user.email);
            assert.deepEqual(payloads(server, user), [null]);
            await server.deliver(userCreated(user));
            await server.deliver(userDeleted(user)); // the one that was missed
            assert.equal(server.userRow(user), undefined);
        }
        assertNothingLeft(server);
        await backfillWell(server, ['--prune', '--yes']);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
    });

    test('with --no-handlers no function runs', async (t) => {
        const { api, server, gone } = await startStale(t);

        await backfillWell(server, ['--prune', '--yes', '--no-handlers']);
        assertMirrorIsApi(server, api);
        assert.equal(server.rows("SELECT * FROM calls WHERE event = 'user.deleted'").length, 0);
        assert.deepEqual(payloads(server, gone[0]), [null]);
    });

    for (const answer of ['y', 'n'])
        test(`on a terminal it asks: ${answer}`, async (t) => {
            if (spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0)
                return t.skip('no terminal can be made here (a chroot without /dev/pts)');
            const { api, server } = await startStale(t);
            const words = [binary, ...commandLine(server, ['--prune'])].map((word) => `'${word}'`);
            const child = adopt(
                spawn('script', ['-qec', words.join(' '), '/dev/null'], {
                    cwd: server.folder,
                    env: cleanEnvironment(),
                    stdio: ['pipe', 'pipe', 'pipe'],
                }),
            );
            let output = '';
            child.stdout.setEncoding('utf8').on('data', (text) => {
                output += text;
            });
            const ended = once(child, 'close');
            await until('the question', () =>
                /not at WorkOS any more: 3 users, 1 membership\. Remove.*\[y\/N\]/.test(output),
            );
            assert.equal(server.count('workos_users'), 220);
            child.stdin.write(`${answer}\n`);
            const [code] = await ended;
            assert.equal(code, 0, output);
            assert.doesNotMatch(output, /goes on with the listing/);
            if (answer === 'y') assertMirrorIsApi(server, api);
            else assert.match(output, /nothing was removed/);
            assert.equal(server.count('workos_users'), answer === 'y' ? 217 : 220);
            assertNothingLeft(server);
        });

    test('what came meanwhile stays, though it was not in the list', async (t) => {
        const { api, server, gone } = await startStale(t);
        const fresh = userCreated();

        // WorkOS's list doesn't show it yet; and one of the gone is heard of.
        beforeSecondPage(api, async () => {
            await server.deliver(fresh);
            await server.deliver(userUpdated(gone[0]));
        });
        await backfillWell(server, ['--prune', '--yes']);
        assert.ok(server.userRow(fresh.data));
        assert.ok(server.userRow(gone[0]));
        assert.equal(server.userRow(gone[1]), undefined);
    });

    // Symptom: the list didn't have a new user yet, whose webhook had just come: removed, for good.
    test('who was heard of shortly before stays, until it is run again later', async (t) => {
        const { api, server, gone, membership } = await startStale(t);
        const fresh = userCreated();

        await server.deliver(fresh); // WorkOS's list doesn't show it yet
        await server.deliver(userUpdated(gone[0])); // received now, whatever it says
        const { stdout } = await backfillWell(server, ['--prune', '--yes']);
        assert.match(
            stdout,
            /not in WorkOS's list, but heard of in the last 10 minutes before, so left alone: 2 users; run/,
        );
        assert.match(stdout, /removed, since WorkOS no longer has them: 3/);
        assert.ok(server.userRow(fresh.data));
        assert.ok(server.userRow(gone[0]));
        assertEachOnce(server, 'organization_membership.deleted', [membership.id]);

        await server.stop();
        letTimePass(server, 10 * 60 * 1000);
        api.users.set(fresh.data.id, fresh.data);
        const later = await backfillWell(server, ['--prune', '--yes'], api.env);
        assert.doesNotMatch(later.stdout, /left alone/);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
    });

    // Symptom: his creation and his deletion were both missed, and a session's event kept its payload.
    test('who never had a row is forgotten as well, when only the log of events knows him', async (t) => {
        const { api, server, users } = await startStale(t);
        const session = (id) =>
            newEvent('session.created', {
                object: 'session',
                id: `session_of_${id}`,
                user_id: id,
                ip_address: '192.0.2.7',
            });
        const stranger = session('user_01STRANGER');
        const known = session(users[3].id);
        const payload = (event) =>
            server.row('SELECT payload FROM workos_events WHERE id = ?', event.id);

        await server.deliver(stranger);
        await server.deliver(known);
        await backfillWell(server, ['--prune', '--yes']);
        assert.notEqual(payload(stranger), null); // it has just come
        await server.stop();
        letTimePass(server, 10 * 60 * 1000);
        const { stdout } = await backfillWell(server, ['--prune', '--yes'], api.env);
        assert.match(stdout, /removed, since WorkOS no longer has them: 1$/m);
        assert.equal(payload(stranger), null);
        assert.notEqual(payload(known), null);
        assert.equal(
            server.row("SELECT id FROM authkitd_tombstones WHERE id LIKE '%STRANGER'"),
            'user_01STRANGER',
        );
        const again = await backfillWell(server, ['--prune', '--yes'], api.env);
        assert.doesNotMatch(again.stdout, /removed/);
        assertMirrorIsApi(server, api);
    });

    test('survives kill -9 at any moment', async (t) => {
        const random = randomness(t);
        const { api, server, gone } = await startStale(t);

        api.maxPageSize = 20;
        for (let round = 0; round < load(8, 4); round++) {
            const running = startBackfill(server, ['--prune', '--yes']);
            await sleep(random.below(load(400, 2000)));
            await server.kill();
            await server.start();
            await running.ended;
        }
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
        assertNothingLeft(server);
    });

    test('after an interrupted run without --prune it lists all anew', async (t) => {
        const { api, server, gone } = await startStale(t);

        api.fail((request) => request.query.get('after'), faults.status(401));
        assert.equal((await backfill(server)).code, 1);
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));
    });

    test('refused: the list is empty, or of others altogether', async (t) => {
        const { api, server, gone } = await startStale(t);
        const kept = [...api.users];

        api.users.clear();
        api.users.sorted(); // the fake's own copy
        for (const [id] of kept) api.users.delete(id);
        const empty = await backfill(server, ['--prune', '--yes']);
        assert.equal(empty.code, 1);
        assert.match(empty.stderr, /220 users would be removed, but WorkOS listed none at all/);
        assert.equal(server.count('workos_users'), 220);

        // Symptom: the second time, those that the first had brought in spoke for the list: all were removed.
        fill(api, { users: 10 });
        for (let round = 0; round < 2; round++) {
            const { code, stderr } = await backfill(server, ['--prune', '--yes']);
            assert.equal(code, 1);
            assert.match(stderr, /220 users would be removed, but WorkOS listed none of those/);
            assert.match(stderr, /WORKOS_API_KEY of the right environment/);
            assert.match(stderr, /so nothing was brought in, and nothing was removed/);
            assert.equal(server.count('workos_users'), 220);
            assertNothingLeft(server);
        }
        assertEachOnce(server, 'user.created', kept.map(([id]) => id).concat(gone.map(({ id }) => id)));
    });

    /** So many users here; then WorkOS has other ones. */
    async function startOthers(t, { users, others }) {
        const api = await startFakeApi(t);
        const all = fill(api, { users });
        const server = await startServer(t, { handlers: COUNTING, env: envOf(api) });
        await backfillWell(server);
        for (const { id } of all) api.users.remove(id);
        return { api, server, all, foreign: fill(api, { users: others }) };
    }

    // Symptom: a webhook of another environment had brought one of its users, which spoke for its list.
    test('refused: most would go; --prune-most removes them', async (t) => {
        const { api, server, all, foreign } = await startOthers(t, { users: 20, others: 5 });

        await server.deliver(userCreated(foreign[0]));
        for (let round = 0; round < 2; round++) {
            const { code, stderr } = await backfill(server, ['--prune', '--yes']);
            assert.equal(code, 1);
            assert.match(
                stderr,
                /20 users would be removed, but WorkOS listed only 1 of those that were here: is WORKOS_API_KEY of the right environment\? If it is, --prune-most/,
            );
            assert.equal(server.count('workos_users'), 21);
            assertNothingLeft(server);
        }
        const report = await backfillWell(server, ['--prune-most']);
        assert.match(report.stdout, /20 users; authkitd backfill --prune-most --yes removes them/);
        await backfillWell(server, ['--prune-most', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', all.map((user) => user.id));
    });

    test('few may be most of what is here, but not all of it', async (t) => {
        const { api, server, all } = await startOthers(t, { users: 6, others: 2 });

        const { code, stderr } = await backfill(server, ['--prune-most', '--yes']);
        assert.equal(code, 1);
        assert.match(stderr, /6 users would be removed, but WorkOS listed none of those/);
        assert.equal(server.count('workos_users'), 6);
        api.users.set(all[0].id, all[0]);
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', all.slice(1).map((user) => user.id));
    });

    test('refused: most of the memberships would go, so nothing of the list is taken', async (t) => {
        const { api, server } = await startStale(t);

        api.users.add({ email: 'new@example.com' }, { silent: true });
        for (const id of [...api.memberships.keys()].slice(2)) api.memberships.remove(id);
        const { code, stderr } = await backfill(server, ['--prune', '--yes']);
        assert.equal(code, 1);
        assert.match(stderr, /7 memberships would be removed, but WorkOS listed only 2 of those that were here/);
        assert.equal(server.count('workos_users'), 220);
        await backfillWell(server, ['--prune-most', '--yes']);
        assertMirrorIsApi(server, api);
    });

    // Symptom: exit code 0, and a number in the column of what is deleted.
    test('what was removed by mistake, and WorkOS has, is told of', async (t) => {
        const { api, server, gone } = await startStale(t);

        await backfillWell(server, ['--prune', '--yes']);
        for (const user of gone.slice(1)) api.users.set(user.id, user);
        await backfillWell(server); // WorkOS's list may be behind
        await server.stop();
        changeRows(server.database, 'UPDATE authkitd_tombstones SET deleted_at = deleted_at - 601000');
        const { code, stderr } = await backfill(server, [], api.env);
        assert.equal(code, 1);
        assert.match(stderr, /deleted here, and so left out, though WorkOS has them: 2 users; if/);
    });

    test('interrupted while it only looks, and later: it goes on there', async (t) => {
        const { api, server, gone } = await startStale(t);
        const added = api.users.add({ email: 'new@example.com' }, { silent: true }).data;
        const second = (request) => request.query.get('after') && request.path.endsWith('/users');
        const interrupt = async (args) => {
            api.fail(second, faults.status(401));
            const { code, stderr } = await backfill(server, args);
            assert.equal(code, 1);
            assert.match(stderr, /is WORKOS_API_KEY right\?/);
            api.requests.length = 0;
            return stderr;
        };

        await interrupt(['--prune', '--yes']);
        // A page is still to be looked at; then all is listed again, and taken.
        api.before('/user_management/invitations', () => api.fail(second, faults.status(401)));
        const looked = await backfill(server, ['--prune', '--yes']);
        assert.equal(looked.code, 1);
        assert.match(looked.stderr, /^goes on with .*: check of users, 100 were listed$/m);
        assert.equal(server.userRow(added), undefined);
        api.requests.length = 0;
        const { stderr } = await backfillWell(server, ['--prune', '--yes']);
        assert.match(stderr, /^goes on with .*: users, 100 were listed$/m);
        assert.equal(api.requestsTo('/user_management/invitations').length, 1);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'user.deleted', gone.map((user) => user.id));

        // One that doesn't prune has no use for what was only looked at.
        const last = api.users.add({ email: 'last@example.com' }, { silent: true }).data;
        await interrupt(['--prune', '--yes']);
        await backfillWell(server);
        assert.equal(api.requests[0].query.get('after'), null);
        assert.ok(server.userRow(last));
        assertNothingLeft(server);
    });

    // Symptom: a user that WorkOS listed, in a form that couldn't be used, was removed.
    test('refused: one of the list can’t be used, so it may be any of those that are here', async (t) => {
        const { api, server } = await startStale(t);
        const [listed] = api.users.values();

        api.users.set(listed.id, { ...listed, object: 'something else' });
        const { code, stderr } = await backfill(server, ['--prune', '--yes']);
        assert.equal(code, 1);
        assert.match(stderr, /users would be removed, but not all of them could be listed/);
        assert.equal(server.count('workos_users'), 220);
        api.users.set(listed.id, listed);
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
    });

    // Symptom: the memberships of an organization that WorkOS listed in a form that couldn't be used were
    // never asked for, and removed.
    test('refused: memberships, when not all organizations could be listed', async (t) => {
        const { api, server, users, membership } = await startStale(t);
        const [listed] = api.organizations.values();
        const rows = server.count('workos_organization_memberships');

        api.organizations.set(listed.id, { ...listed, object: 'something else' });
        const { code, stderr } = await backfill(server, ['--prune', '--yes']);
        assert.equal(code, 1);
        assert.match(stderr, /1 organization would be removed, but not all of them could be listed/);
        assert.match(stderr, /1 membership would be removed, but they are listed by organization/);
        assert.equal(server.count('workos_organization_memberships'), rows);
        assert.equal(server.count('workos_users'), users.length - 3); // their list was fine
        api.organizations.set(listed.id, listed);
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
        assertEachOnce(server, 'organization_membership.deleted', [membership.id]);
    });

    const ofOrganization = (id) => (request) => request.query.get('organization_id') === id;

    // Symptom: they were removed.
    test("refused: memberships, when an organization's can't be listed", async (t) => {
        const { api, server } = await startStale(t);
        const [listed] = api.organizations.values();
        const rows = server.count('workos_organization_memberships');

        for (const fault of [faults.html(404), faults.status(404)]) {
            api.fail(ofOrganization(listed.id), fault);
            const { code, stderr } = await backfill(server, ['--prune', '--yes']);
            assert.equal(code, 1);
            assert.match(stderr, /memberships? would be removed, but not all of them could be/);
            assert.equal(server.count('workos_organization_memberships'), rows);
        }
        // A proxy that finds neither.
        api.fail(ofOrganization(listed.id), faults.html(404));
        api.fail(`/organizations/${listed.id}`, faults.status(404, { message: 'no route' }));
        assert.equal((await backfill(server, ['--prune', '--yes'])).code, 1);
        assert.equal(server.count('workos_organization_memberships'), rows);
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
    });

    test('an organization that goes while its run goes on is no reason to refuse', async (t) => {
        const { api, server, membership } = await startStale(t);
        const [listed] = api.organizations.values();

        api.before(ofOrganization(listed.id), () => api.organizations.delete(listed.id));
        api.fail(ofOrganization(listed.id), faults.status(404), 2); // before it is taken, and then
        await backfillWell(server, ['--prune', '--yes']);
        assert.deepEqual(
            server.rows(
                'SELECT id FROM workos_organization_memberships WHERE id = ? OR organization_id = ?',
                membership.id,
                listed.id,
            ),
            [],
        );
    });

    // Symptom: it was taken for the end of the list, and who stood on the second page was removed.
    test('a list that doesn’t say whether it goes on is no list', async (t) => {
        const { api, server } = await startStale(t);
        const [first, ...rest] = api.users.sorted();
        const answers = [
            [undefined, /has no list_metadata$/m],
            [{ before: null }, /has no list_metadata\.after/],
            [{ after: 7 }, /list_metadata\.after is neither text nor null/],
        ];

        assert.ok(rest.length > 100);
        for (const [list_metadata, words] of answers) {
            api.routes.set('GET /user_management/users', () => ({
                body: { object: 'list', data: [first], list_metadata },
            }));
            const { code, stderr } = await backfill(server, [
                '--prune',
                '--yes',
                '--give-up',
                '1',
            ]);
            assert.equal(code, 1);
            assert.match(stderr, /users: WorkOS's answer can't be used: the list/);
            assert.match(stderr, words);
            assert.equal(server.count('workos_users'), 220);
        }
        api.routes.delete('GET /user_management/users');
        await backfillWell(server, ['--prune', '--yes']);
        assertMirrorIsApi(server, api);
    });
});
