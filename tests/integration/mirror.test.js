// SPDX-License-Identifier: MIT
// workos_users is right after any order, repetition and loss of deliveries.

import assert from 'node:assert/strict';

import { describe, inParallel, load, permutations, randomness, test } from './lib/harness.js';
import { sharedServer } from './lib/server.js';
import {
    isoTime,
    newEvent,
    newId,
    newUser,
    userCreated,
    userDeleted,
    userUpdated,
} from './lib/workos.js';

const NO_HANDLERS = 'local authkit = require "authkit"';

describe('a user row', () => {
    const server = sharedServer({ handlers: NO_HANDLERS });

    test("has the API's columns and values", async () => {
        const user = newUser();
        await server.deliver(newEvent('user.created', user));
        const { raw, metadata, email_verified, ...rest } = server.userRow(user);
        // Columns of the mirror's own bookkeeping begin with "_".
        const row = Object.fromEntries(
            Object.entries(rest).filter(([column]) => !column.startsWith('_')),
        );
        assert.deepEqual(row, {
            id: user.id,
            email: user.email,
            name: user.name,
            first_name: user.first_name,
            last_name: user.last_name,
            profile_picture_url: user.profile_picture_url,
            last_sign_in_at: user.last_sign_in_at,
            external_id: user.external_id,
            locale: user.locale,
            created_at: user.created_at,
            updated_at: user.updated_at,
        });
        assert.equal(email_verified, 1);
        assert.deepEqual(JSON.parse(metadata), user.metadata);
        assert.deepEqual(JSON.parse(raw), user);
    });

    test('is found by id and by external id through an index', () => {
        const plans = ['id', 'external_id'].map(
            (column) =>
                server.rows(
                    `EXPLAIN QUERY PLAN SELECT * FROM workos_users WHERE ${column} = ?`,
                    'x',
                )[0].detail,
        );
        for (const plan of plans) assert.match(plan, /^SEARCH .*INDEX/);
    });

    test('email_verified false is 0', async () => {
        const event = userCreated({ email_verified: false });
        await server.deliver(event);
        assert.equal(server.userRow(event.data).email_verified, 0);
    });

    test('null is NULL, and so is what is missing; missing metadata is {}', async () => {
        const user = { object: 'user', id: newId('user'), email: 'bare@example.com', name: null };
        await server.deliver(newEvent('user.created', user));
        const row = server.userRow(user);
        assert.equal(row.email, 'bare@example.com');
        assert.equal(row.metadata, '{}');
        for (const column of [
            'name',
            'first_name',
            'last_name',
            'profile_picture_url',
            'last_sign_in_at',
            'external_id',
            'locale',
            'created_at',
            'updated_at',
            'email_verified',
        ])
            assert.equal(row[column], null, column);
    });

    test('null metadata is {} too', async () => {
        const event = userCreated({ metadata: null });
        await server.deliver(event);
        assert.equal(server.userRow(event.data).metadata, '{}');
    });

    test('raw is the object as it came, unknown properties included', async () => {
        const user = newUser({ nickname: 'Ada', teams: [{ id: 1 }, []], big: 1 });
        const data = JSON.stringify(user).replace('"big":1', '"big" : 12345678901234567890');
        await server.deliver(
            JSON.stringify(newEvent('user.created', 'DATA')).replace('"DATA"', () => data),
        );
        assert.equal(server.userRow(user).raw, data);
    });

    test('an update changes every column, also back to NULL', async () => {
        const user = newUser();
        const changed = {
            email: 'new@example.com',
            email_verified: false,
            name: null,
            first_name: null,
            last_name: 'King',
            profile_picture_url: null,
            last_sign_in_at: isoTime(),
            external_id: null,
            locale: 'fr',
            metadata: {},
        };
        await server.deliver(newEvent('user.created', user));
        const update = userUpdated(user, changed);
        await server.deliver(update);
        const row = server.userRow(user);
        for (const [column, value] of Object.entries(changed))
            assert.deepEqual(
                row[column],
                column === 'metadata' ? '{}' : typeof value === 'boolean' ? Number(value) : value,
                column,
            );
        assert.equal(row.updated_at, update.data.updated_at);
        assert.deepEqual(JSON.parse(row.raw), update.data);
    });

    test('two users may have the same email or external id: the mirror has no opinion', async () => {
        const shared = { email: 'shared@example.com', external_id: 'shared' };
        await server.deliver(userCreated(shared));
        await server.deliver(userCreated(shared));
        assert.equal(
            server.row('SELECT count(*) FROM workos_users WHERE email = ?', shared.email),
            2,
        );
    });

    test('an update of an unknown user inserts it', async () => {
        const event = userUpdated(newUser());
        await server.deliver(event);
        assert.equal(server.userRow(event.data).updated_at, event.data.updated_at);
    });

    test('other events about a user do not touch it', async () => {
        const event = userCreated();
        await server.deliver(event);
        const before = server.userRow(event.data);
        await server.deliver(
            newEvent('session.created', {
                object: 'session',
                id: newId('session'),
                user_id: event.data.id,
            }),
        );
        await server.deliver(
            newEvent('userx.updated', { ...event.data, email: 'other@example.com' }),
        );
        assert.deepEqual(server.userRow(event.data), before);
    });
});

describe('a deleted user', () => {
    const server = sharedServer({ handlers: NO_HANDLERS });

    test('is gone', async () => {
        const event = userCreated();
        await server.deliver(event);
        await server.deliver(userDeleted(event.data));
        assert.equal(server.userRow(event.data), undefined);
    });

    test('is gone also when the deletion says no more than its id', async () => {
        const event = userCreated();
        await server.deliver(event);
        await server.deliver(newEvent('user.deleted', { object: 'user', id: event.data.id }));
        assert.equal(server.userRow(event.data), undefined);
    });

    test('is not brought back by a late update, whatever its time', async () => {
        const event = userCreated();
        await server.deliver(event);
        await server.deliver(userDeleted(event.data));
        await server.deliver(userUpdated(event.data));
        await server.deliver(userUpdated(event.data, { updated_at: '2099-01-01T00:00:00.000Z' }));
        await server.deliver(newEvent('user.created', event.data));
        assert.equal(server.userRow(event.data), undefined);
    });

    test('that had never been seen is not made by what comes late', async () => {
        const user = newUser();
        await server.deliver(newEvent('user.deleted', { id: user.id }));
        await server.deliver(newEvent('user.created', user));
        await server.deliver(userUpdated(user));
        assert.equal(server.userRow(user), undefined);
    });

    test('stays deleted over a restart', async () => {
        const event = userCreated();
        await server.deliver(event);
        await server.deliver(userDeleted(event.data));
        await server.restart();
        await server.deliver(userUpdated(event.data));
        assert.equal(server.userRow(event.data), undefined);
    });

    test('leaves nothing personal in the events, not even in those that come later', async () => {
        const user = newUser({ email: 'secret.person@example.com' });
        const events = [
            newEvent('user.created', user),
            userUpdated(user),
            newEvent('session.created', {
                object: 'session',
                id: newId('session'),
                user_id: user.id,
                ip_address: '198.51.100.77',
            }),
            userDeleted(user),
            userUpdated(user, { first_name: 'Late' }),
        ];
        for (const event of events) await server.deliver(event);
        for (const event of events) {
            const row = server.eventRow(event);
            assert.equal(row.user_id, user.id);
            assert.ok(!row.payload?.length, `the payload of ${row.event} is erased`);
        }
        assert.equal(
            server.row(
                `SELECT count(*) FROM workos_events WHERE CAST(payload AS TEXT) LIKE '%secret.person%'`,
            ),
            0,
        );
    });
});

describe('which of two versions wins', () => {
    const server = sharedServer({ handlers: NO_HANDLERS });

    /** Deliver two updates of a new user in both orders; the name of `right` must remain. */
    async function assertWins(right, wrong) {
        for (const order of [
            [wrong, right],
            [right, wrong],
        ]) {
            const id = newId('user');
            for (const { data, ...envelope } of order)
                await server.deliver(
                    newEvent('user.updated', newUser({ id, ...data }), {
                        ...envelope,
                        id: `${envelope.id}${id}`,
                    }),
                );
            assert.equal(server.userRow(id).first_name, right.data.first_name);
        }
    }
    const version = (first_name, updated_at, id, created_at = isoTime()) => ({
        id: `event_${id}_`,
        created_at,
        data: { first_name, updated_at },
    });

    test('the later updated_at', () =>
        assertWins(
            version('new', '2026-01-01T00:00:00.001Z', 'A'),
            version('old', '2026-01-01T00:00:00.000Z', 'B'),
        ));

    test('the later updated_at, though its event is older', () =>
        assertWins(
            version('new', '2026-01-01T00:00:00.001Z', 'A', '2026-01-01T00:00:00.000Z'),
            version('old', '2026-01-01T00:00:00.000Z', 'B', '2026-01-02T00:00:00.000Z'),
        ));

    test('of the same updated_at the later event id', () =>
        assertWins(
            version('new', '2026-01-01T00:00:00.000Z', '01K2'),
            version('old', '2026-01-01T00:00:00.000Z', '01K1'),
        ));

    for (const [later, earlier] of [
        ['2026-01-01T00:00:00.5Z', '2026-01-01T00:00:00Z'],
        ['2026-01-01T00:00:00.123456Z', '2026-01-01T00:00:00.123Z'],
        ['2026-01-01 00:00:01.000', '2026-01-01T00:00:00.000Z'],
        ['2026-01-01T00:00:01Z', '2026-01-01 00:00:00.999'],
        ['2026-01-01T00:00:00+00:00', '2026-01-01T00:30:00+01:00'],
        ['2026-01-01T00:00:00-01:00', '2026-01-01T00:30:00.000Z'],
    ]) {
        // The ids favour the wrong one, so that nothing but the time decides.
        test(`times are moments, not texts: ${later} is after ${earlier}`, () =>
            assertWins(version('new', later, 'A'), version('old', earlier, 'B')));
    }

    test('the same moment, written differently: the later event id', () =>
        assertWins(
            version('new', '2026-01-01T01:00:00+01:00', 'B'),
            version('old', '2026-01-01T00:00:00.000Z', 'A'),
        ));
});

describe('any history ends in the same state', () => {
    const server = sharedServer({ handlers: NO_HANDLERS });

    /** A user's life: versions v0, v1, v2, maybe two of the same time, maybe a deletion. */
    function history({ deleted, tie }) {
        const user = newUser({ first_name: 'v0' });
        const created = newEvent('user.created', user);
        const first = userUpdated(user, { first_name: 'v1' });
        const second = tie
            ? newEvent('user.updated', { ...first.data, first_name: 'v2' })
            : userUpdated(first.data, { first_name: 'v2' });
        return {
            user,
            events: [created, first, second, ...(deleted ? [userDeleted(second.data)] : [])],
            deleted,
            last: second,
        };
    }

    for (const deleted of [true, false])
        for (const tie of [true, false])
            test(`every order of created, updated, updated${deleted ? ', deleted' : ''}, each delivered 1 to 3 times${tie ? '; the updates at the same time' : ''}`, async (t) => {
                const random = randomness(t);
                const orders = permutations(deleted ? [0, 1, 2, 3] : [0, 1, 2]);
                const histories = Array.from({ length: load(4, 1) }, () => orders)
                    .flat()
                    .map((order) => {
                        const life = history({ deleted, tie });
                        // Each event first comes where the order says, its repetitions anywhere.
                        const deliveries = order.map((i) => life.events[i]);
                        for (const event of life.events)
                            for (let more = random.below(3); more > 0; more--)
                                deliveries.splice(random.below(deliveries.length + 1), 0, event);
                        return { ...life, deliveries };
                    });
                const client = server.newClient({ connections: 16 });

                await inParallel(16, histories, async ({ deliveries }) => {
                    for (const event of deliveries) await server.deliver(event, { client });
                });

                for (const { user, events, last, deliveries } of histories) {
                    const told = deliveries
                        .map((event) => `${event.event} ${event.data.first_name}`)
                        .join(', ');
                    const row = server.userRow(user);
                    if (deleted) {
                        assert.equal(row, undefined, told);
                    } else {
                        assert.equal(row?.first_name, 'v2', told);
                        assert.equal(row.updated_at, last.data.updated_at, told);
                        assert.deepEqual(JSON.parse(row.raw), last.data, told);
                    }
                    for (const event of events)
                        assert.equal(
                            server.row('SELECT count(*) FROM workos_events WHERE id = ?', event.id),
                            1,
                            told,
                        );
                }
            });

    test('losses do not matter: any subset that has the last word gives the last state', async (t) => {
        const random = randomness(t);
        for (let i = 0; i < load(40, 10); i++) {
            const life = history({ deleted: random.below(2) === 0, tie: false });
            const final = life.events.at(-1);
            const some = life.events.slice(0, -1).filter(() => random.below(2) === 0);
            for (const event of random.shuffle([...some, final])) await server.deliver(event);
            assert.equal(server.userRow(life.user)?.first_name, life.deleted ? undefined : 'v2');
        }
    });

    test('all at once: the deliveries of one user race over many connections', async (t) => {
        const random = randomness(t);
        const client = server.newClient({ connections: 16 });
        for (let i = 0; i < load(10, 3); i++) {
            const user = newUser({ first_name: 'v0' });
            const events = [newEvent('user.created', user)];
            for (let v = 1; v <= 15; v++)
                events.push(userUpdated(events.at(-1).data, { first_name: `v${v}` }));
            await inParallel(16, random.shuffle([...events, ...events]), (event) =>
                server.deliver(event, { client }),
            );
            assert.equal(server.userRow(user).first_name, 'v15');
        }
    });
});
