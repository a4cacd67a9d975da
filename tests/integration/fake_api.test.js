// SPDX-License-Identifier: MIT
// The fake API is what WorkOS's official SDK expects of the real one: what the other tests build on.

import assert from 'node:assert/strict';

import { WorkOS } from '@workos-inc/node';

import { faults, startFakeApi } from './lib/fake_api.js';
import { describe, test } from './lib/harness.js';

const START = '2026-01-12T20:17:47.000Z';

async function setUp(t, options) {
    const api = await startFakeApi(t, options);
    const workos = new WorkOS(api.key, { apiHostname: '127.0.0.1', port: api.port, https: false });
    const get = async (path, headers = { Authorization: `Bearer ${api.key}` }) => {
        const answer = await fetch(`${api.url}${path}`, { headers });
        return { status: answer.status, headers: answer.headers, body: await answer.json() };
    };
    return { api, workos, get };
}

async function* pages(get, path) {
    for (let after = null; ; ) {
        const { body } = await get(after === null ? path : `${path}&after=${after}`);
        yield body.data;
        after = body.list_metadata.after;
        if (after === null) return;
    }
}

describe("the fake of WorkOS's API", () => {
    test('lists are paged in either order, and go on where a deleted object was', async (t) => {
        const { api, workos, get } = await setUp(t, { start: START });
        const ids = api.users.addExisting(25).map((user) => user.id);

        for (const order of ['asc', 'desc']) {
            const found = [];
            const path = `/user_management/users?limit=7&order=${order}`;
            for await (const page of pages(get, path)) found.push(...page.map(({ id }) => id));
            assert.deepEqual(found, order === 'asc' ? ids : [...ids].reverse());
        }
        const listed = await workos.userManagement.listUsers({ limit: 100, order: 'asc' });
        assert.deepEqual(
            listed.data.map((user) => user.id),
            ids,
        );
        const back = await get(
            `/user_management/users?limit=3&order=asc&before=${listed.data[10].id}`,
        );
        assert.deepEqual(
            back.body.data.map((user) => user.id),
            ids.slice(7, 10),
        );

        api.users.remove(ids[6]);
        const next = await get(`/user_management/users?limit=2&order=asc&after=${ids[6]}`);
        assert.deepEqual(
            next.body.data.map((user) => user.id),
            ids.slice(7, 9),
        );
        assert.equal((await get('/user_management/users?limit=101')).status, 422);
        assert.equal((await get(`/user_management/users/${ids[0]}`)).body.id, ids[0]);
        assert.equal((await get(`/user_management/users/${ids[6]}`)).status, 404);
    });

    test('changes come in the feed of events, in order', async (t) => {
        const { api, workos, get } = await setUp(t, { start: START });
        const created = api.users.add({ email: 'ada@example.com' });
        const updated = api.users.update(created.data.id, { first_name: 'Augusta' });
        const organization = api.organizations.add();
        api.users.add({}, { silent: true });
        const deleted = api.users.remove(created.data.id, { trimmed: true });
        const late = api.emit('session.created', { id: 'session_1' }, { before: updated.id });

        assert.deepEqual(deleted.data, { object: 'user', id: created.data.id });
        assert.ok(updated.data.updated_at > created.data.updated_at);
        assert.equal(created.id, 'event_00000000000000000000000002');
        const types = ['user.created', 'user.updated', 'user.deleted', 'organization.created'];
        const listed = await workos.events.listEvents({ events: [...types, 'session.created'] });
        assert.deepEqual(
            listed.data.map((event) => event.id),
            [created.id, late.id, updated.id, organization.id, deleted.id],
        );
        const page = await get(
            `/events?events[]=user.updated&events[]=user.deleted&limit=1&after=${created.id}`,
        );
        assert.deepEqual(page.body, {
            object: 'list',
            data: [{ object: 'event', ...updated }],
            list_metadata: { after: updated.id },
        });
        assert.equal((await get('/events')).status, 422);
        assert.equal((await get('/events?events=user.created&after=event_0')).status, 404);
        assert.equal(
            (await get(`/events?events=user.created&after=${created.id}&range_start=${START}`))
                .status,
            400,
        );

        api.holdBackMs = 5000;
        const seen = async () => (await get('/events?events=user.deleted')).body.data.length;
        assert.equal(await seen(), 0);
        api.advance(5000);
        assert.equal(await seen(), 1);
        api.advance(91 * 24 * 60 * 60 * 1000);
        assert.equal(await seen(), 0);
    });

    test('webhook endpoints are created, changed and deleted through the SDK', async (t) => {
        const { api, workos } = await setUp(t);
        const made = await workos.webhooks.createWebhookEndpoint({
            endpointUrl: 'https://example.com/hook',
            events: ['user.created'],
        });

        assert.match(made.secret, /^whsec_\w{25}$/);
        const again = { endpointUrl: 'https://example.com/hook', events: ['user.deleted'] };
        await assert.rejects(workos.webhooks.createWebhookEndpoint(again), { status: 409 });
        await assert.rejects(
            workos.webhooks.createWebhookEndpoint({
                endpointUrl: 'https://example.com/other',
                events: ['user.created', 'vault.data.read'],
            }),
            { status: 422 },
        );
        const changed = await workos.webhooks.updateWebhookEndpoint({
            id: made.id,
            status: 'disabled',
            events: ['user.updated'],
        });
        assert.equal(changed.status, 'disabled');
        assert.deepEqual(api.endpoints.get(made.id).events, ['user.updated']);
        assert.equal((await workos.webhooks.listWebhookEndpoints()).data.length, 1);
        await workos.webhooks.deleteWebhookEndpoint({ id: made.id });
        assert.equal(api.endpoints.size, 0);
        assert.deepEqual(
            api.requests.map(({ method, status }) => `${method} ${status}`),
            ['POST 201', 'POST 409', 'POST 422', 'PATCH 200', 'GET 200', 'DELETE 204'],
        );
    });

    test('goes wrong as it is told to', async (t) => {
        const { api, get } = await setUp(t);
        const where = '/organizations';
        api.organizations.addExisting(20);

        assert.equal((await get(where, {})).status, 401);
        api.fail(where, faults.rateLimited(2), 2);
        api.fail(/^GET .*limit=5/, faults.pageSize(2));
        api.fail('/events', faults.status(500));
        for (let i = 0; i < 2; i++) {
            const refused = await get(where);
            assert.equal(refused.status, 429);
            assert.equal(refused.headers.get('Retry-After'), '2');
        }
        assert.equal((await get(`${where}?limit=5`)).body.data.length, 2);
        assert.equal((await get(`${where}?limit=5`)).body.data.length, 5);
        api.fail(where, faults.bareString());
        assert.equal((await get(where)).body, 'Ratelimited');
        api.fail(where, faults.huge(1000));
        assert.equal((await get(where)).body.padding.length, 1000);
        api.fail(where, faults.slow(1));
        assert.equal((await get(`${where}?limit=1`)).body.data.length, 1);
        for (const fault of [faults.cut(), faults.reset(), faults.wrongLength(10)]) {
            api.fail(where, fault);
            await assert.rejects(get(where));
        }
        for (const fault of [faults.html(), faults.invalidJson(), faults.wrongLength(-10)]) {
            api.fail(where, fault);
            await assert.rejects(get(where), SyntaxError);
        }
        api.fail(where, faults.silent());
        const signal = AbortSignal.timeout(200);
        const headers = { Authorization: `Bearer ${api.key}` };
        await assert.rejects(fetch(`${api.url}${where}`, { headers, signal }));
        api.before(where, () => api.organizations.add({ name: 'Late' }));
        assert.equal((await get(where)).body.data[0].name, 'Late');
        api.heal();
        assert.equal((await get('/events?events=user.created')).status, 200);
    });
});
