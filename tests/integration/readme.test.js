// SPDX-License-Identifier: MIT
// Every Lua example of the README is run: whole scripts are loaded; what begins with "-- in a
// function" is run as the function of an event, and what begins with "authkit.routes {" is asked by
// pages with tokens, both on the tables that the README declares.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { describe, test } from './lib/harness.js';
import { startServer } from './lib/server.js';
import { bearer, startKeyServer } from './lib/tokens.js';
import { newEvent, newId, newMembership, newOrganization, userCreated } from './lib/workos.js';

const readme = fs.readFileSync(path.join(import.meta.dirname, '../../README.md'), 'utf8');
const examples = [...readme.matchAll(/^```lua\n([\s\S]*?)^```$/gm)].map((match) => match[1]);
const functions = examples.filter((text) => text.startsWith('-- in a function'));
const routes = examples.filter((text) => text.startsWith('authkit.routes {'));
const scripts = examples.filter((text) => text.includes('require "authkit"'));
const tables = scripts.find((text) => text.includes('auth_id') && !text.includes('authkit.events'));

const titleOf = (text) => text.slice(0, text.indexOf('\n')).replace('-- in a function: ', '');

describe('the README', () => {
    test('has examples of three kinds, and no fourth', () => {
        assert.ok(functions.length >= 6 && scripts.length >= 2 && tables && routes.length >= 2);
        assert.equal(functions.length + scripts.length + routes.length, examples.length);
    });

    for (const [i, text] of scripts.entries()) {
        test(`script ${i + 1} loads`, async (t) => {
            const server = await startServer(t, { handlers: text });
            assert.ok(server);
        });
    }

    for (const text of functions) {
        test(`example: ${titleOf(text)}`, async (t) => {
            const server = await startServer(t, {
                handlers: `${tables}\nauthkit.events { ["test.run"] = function(ctx, event)\n${text}\nend }`,
            });
            const event = newEvent('test.run', { object: 'test', id: newId('test') });
            await server.deliver(event);
            const row = server.eventRow(event);
            assert.equal(row.status, 'done', row.last_error);
        });
    }

    test('routes: a page keeps its lists', async (t) => {
        const { server, as } = await startSite(t);
        const ada = await as(), eve = await as();

        const made = await ada('POST', '/lists', { name: 'Groceries' });
        assert.equal(made.status, 201, made.text);
        const { _id } = made.json();
        assert.equal(made.headers.location, `/lists/${_id}`);
        assert.equal((await ada('POST', '/lists', { name: 'Groceries' })).status, 409);
        for (const body of [{}, { name: '' }, { name: 5 }, [], null, 5, 'name'])
            assert.equal((await ada('POST', '/lists', body)).status, 422, JSON.stringify(body));

        const due = (body) => ada('PATCH', `/lists/${_id}`, body).then((answer) => answer.json().due);
        assert.equal(await due({ due: 1.5 }), 1.5);
        assert.equal(await due({}), 1.5, 'what is absent stays');
        assert.equal(await due({ due: null }), undefined, 'null clears');
        assert.equal((await ada('PATCH', `/lists/${_id}`, { due: 'soon' })).status, 422);
        assert.equal((await ada('PATCH', `/lists/${_id}`, null)).status, 422);

        assert.equal((await eve('PATCH', `/lists/${_id}`, { due: 1 })).status, 404);
        assert.equal((await eve('DELETE', `/lists/${_id}`)).status, 404);
        assert.deepEqual((await eve('GET', '/lists')).json(), []);
        const [list] = (await ada('GET', '/lists')).json();
        assert.deepEqual([list.name, list._id], ['Groceries', _id]);
        for (const id of ['x', '1.5', '999', '%20'])
            assert.equal((await ada('DELETE', `/lists/${id}`)).status, 404, id);
        assert.equal((await ada('DELETE', `/lists/${_id}`)).status, 204);
        assert.equal(server.count('todo_lists'), 0);

        const anybody = await server.client.request('GET', '/lists');
        assert.equal(anybody.status, 401);
        assert.equal(anybody.json().error.code, 'token_missing');
    });

    test('routes: the members of an organization, and HTML', async (t) => {
        const { server, as } = await startSite(t);
        const organization = newOrganization();
        const claims = { org_id: organization.id, permissions: ['members:read'] };
        const members = [];

        await server.deliver(newEvent('organization.created', organization));
        for (let i = 0; i < 60; i++) {
            const member = newMembership({ organization_id: organization.id });
            members.push(member.user_id);
            await server.deliver(newEvent('organization_membership.created', member));
        }
        const ada = await as(claims);
        const first = (await ada('GET', '/members')).json();
        assert.equal(first.members.length, 50);
        assert.equal(first.members[0].role, 'admin');
        const rest = (await ada('GET', `/members?after=${encodeURIComponent(first.after)}`)).json();
        assert.equal(rest.after, undefined);
        assert.deepEqual(
            [...first.members, ...rest.members].map((member) => member.user_id).sort(),
            members.sort(),
        );
        assert.equal((await (await as({ org_id: organization.id }))('GET', '/members')).status, 403);
        const homeless = await as({ permissions: ['members:read'] });
        assert.deepEqual((await homeless('GET', '/members')).json(), {
            error: 'choose an organization first',
        });

        const started = await server.client.request('GET', '/start');
        assert.deepEqual([started.status, started.headers.location], [302, '/']);
        assert.deepEqual(started.headers['set-cookie'], ['seen=1; Path=/', 'theme=dark; Path=/']);
        const page = await server.client.request('GET', '/');
        assert.equal(page.headers['content-type'], 'text/html; charset=utf-8');
        assert.equal(page.text, '<h1>0 lists</h1>');
    });
});

/** A server of the README's tables and routes; as(claims): a new user, who asks with a token of these. */
async function startSite(t) {
    const keys = await startKeyServer(t);
    const server = await startServer(t, { handlers: [tables, ...routes].join('\n'), env: keys.env });
    const as = async (claims) => {
        const event = userCreated();
        await server.deliver(event);
        const headers = bearer(keys.sign({ sub: event.data.id, ...claims }));
        return (method, target, body) =>
            server.client.request(method, target, {
                headers,
                body: body === undefined ? undefined : JSON.stringify(body),
            });
    };
    return { server, as };
}
