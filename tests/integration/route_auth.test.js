// SPDX-License-Identifier: MIT
// Who calls a route: ctx.auth, with good tokens, bad ones and none.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { describe, inParallel, load, test } from './lib/harness.js';
import {
    NOTES,
    ask,
    assertError,
    assertFailed,
    post,
    startRoutes,
    withRoutes,
} from './lib/routes.js';
import { sharedServer } from './lib/server.js';
import { KeyServer, bearer, newKey, seconds, signToken, whoIs } from './lib/tokens.js';
import {
    newEvent,
    newId,
    newMembership,
    newOrganization,
    userCreated,
    userDeleted,
} from './lib/workos.js';

const key = newKey();
const keys = await new KeyServer([key]).listen();
after(() => keys.close());

describe('ctx.auth', () => {
    const server = sharedServer({
        env: keys.env,
        handlers: withRoutes(
            `
            ["GET /who"] = function(ctx)
                local user = ctx.auth.user()
                return { id = user and user.id, email = user and user.email, user_id = ctx.auth.user_id,
                         claims = ctx.auth.claims, metadata = user and user.metadata }
            end,
            ["GET /mine"] = function(ctx) return ctx.auth.require().id end,
            ["POST /mine"] = function(ctx)
                ctx.db.insert("notes", { key = "lost" })
                local user = ctx.auth.require()
                ctx.db.insert("notes", { key = user.id })
                return user.id
            end,
            ["GET /admin"] = function(ctx) return ctx.auth.require_role("admin").id end,
            ["GET /staff"] = function(ctx) return ctx.auth.require_role("admin", "support").id end,
            ["GET /write"] = function(ctx) return ctx.auth.require_permission("todos:write").id end,
            ["GET /both"] = function(ctx) return ctx.auth.require_permission("todos:read", "todos:write").id end,
            ["GET /organization"] = function(ctx)
                ctx.auth.require()
                local organization = ctx.auth.organization()
                return { name = organization and organization.name, id = ctx.auth.claims.org_id }
            end,
            ["GET /forge"] = function(ctx)
                ctx.auth.require()
                ctx.auth.claims.role = "admin"
                ctx.auth.claims.permissions = { "todos:write" }
                pcall(function() ctx.auth.claims = { role = "admin" } end)
                pcall(function() ctx.auth.user = function() return { id = "forged" } end end)
                local admin = pcall(ctx.auth.require_role, "admin")
                local writer = pcall(ctx.auth.require_permission, "todos:write")
                return { admin = admin, writer = writer }
            end,
            ["GET /caught"] = function(ctx)
                local ok, refusal = pcall(ctx.auth.require)
                return { ok = ok, text = not ok and tostring(refusal) or nil }
            end,
            ["GET /raised"] = function(ctx)
                local ok, refusal = pcall(ctx.auth.require)
                if not ok then error(refusal) end
                return "in"
            end,
            ["GET /misuse"] = function(ctx) return ctx.auth.require_role() end,
            ["GET /leak"] = function(ctx)
                local before = leaked and leaked.sub
                leaked = ctx.auth.claims
                return { before = before, now = ctx.auth.claims and ctx.auth.claims.sub }
            end,
            `,
            {
                top: `authkit.events { ["test.auth"] = function(ctx, event)
                    local ok, message = pcall(function() return ctx.auth.user() end)
                    ctx.db.insert("notes", { key = "auth", value = tostring(ok) .. tostring(message) })
                end }`,
            },
        ),
    });
    const tokenOf = (user, claims, options) => signToken(key, { sub: user.id, ...claims }, options);
    const as = (user, target, claims) =>
        ask(server, target, { headers: bearer(tokenOf(user, claims)) });
    const addUser = async (fields) => {
        const event = userCreated(fields);
        await server.deliver(event);
        return event.data;
    };

    test('says who it is, or nobody', async () => {
        const user = await addUser({ metadata: { plan: 'team' } });
        const known = (
            await as(user, '/who', { role: 'admin', deep: { x: [1, { y: true }] } })
        ).json();
        assert.equal(known.id, user.id);
        assert.equal(known.email, user.email);
        assert.equal(known.user_id, user.id);
        assert.equal(known.claims.role, 'admin');
        assert.deepEqual(known.claims.deep, { x: [1, { y: true }] });
        assert.ok(Number.isInteger(known.claims.exp));

        const nobody = [
            {},
            bearer('x'),
            bearer(tokenOf(user, { exp: seconds() - 1000 })),
            bearer(signToken(newKey({ kid: key.kid }), { sub: user.id })),
            { Authorization: 'Basic x' },
        ];
        for (const headers of nobody) {
            const answer = await ask(server, '/who', { headers });
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual(answer.json(), []);
        }
        // A good token of a user who isn't here: there are claims and no row.
        const stranger = { id: newId('user') };
        const answer = (await as(stranger, '/who')).json();
        assert.deepEqual(
            [answer.id, answer.user_id, answer.claims.sub],
            [undefined, stranger.id, stranger.id],
        );
    });

    test('require: 401 that says why', async () => {
        const user = await addUser();
        assert.equal((await as(user, '/mine')).text, user.id);
        for (const [headers, code, challenge] of [
            [{}, 'token_missing', 'Bearer'],
            [{ Authorization: 'Basic x' }, 'token_missing', 'Bearer'],
            [bearer('x'), 'token_invalid', 'Bearer error="invalid_token"'],
            [bearer(tokenOf(user, { exp: 1 })), 'token_expired', 'Bearer error="invalid_token"'],
            [
                bearer(tokenOf(user, { nbf: seconds() + 1000 })),
                'token_not_yet_valid',
                'Bearer error="invalid_token"',
            ],
            [
                bearer(tokenOf({ id: newId('user') })),
                'user_not_found',
                'Bearer error="invalid_token"',
            ],
        ])
            for (const [method, target] of [
                ['GET', '/mine'],
                ['POST', '/mine'],
                ['GET', '/admin'],
                ['GET', '/write'],
                ['GET', '/raised'],
            ]) {
                const answer = await ask(server, target, {
                    method,
                    headers,
                    body: method === 'POST' ? '{}' : undefined,
                });
                assertError(answer, 401, code);
                assert.equal(answer.headers['www-authenticate'], challenge);
                assert.equal(answer.headers['cache-control'], 'no-store');
            }
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'lost'"), 0);
        assert.equal(
            (
                await ask(server, '/mine', {
                    method: 'POST',
                    body: '{}',
                    headers: bearer(tokenOf(user)),
                })
            ).text,
            user.id,
        );
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'lost'"), 1);

        const deleted = await addUser();
        const token = bearer(tokenOf(deleted));
        assert.equal((await ask(server, '/mine', { headers: token })).status, 200);
        await server.deliver(userDeleted(deleted));
        assertError(await ask(server, '/mine', { headers: token }), 401, 'user_not_found');
    });

    test('require_role and require_permission: 403 when it is not enough', async () => {
        const user = await addUser();
        const allowed = async (target, claims) => {
            const answer = await as(user, target, claims);
            if (answer.status === 200) return answer.text === user.id;
            assertError(
                answer,
                403,
                /write|both/.test(target) ? 'permission_required' : 'role_required',
            );
            assert.equal(answer.headers['www-authenticate'], undefined);
            return false;
        };
        assert.ok(await allowed('/admin', { role: 'admin' }));
        assert.ok(await allowed('/admin', { roles: ['member', 'admin'] }));
        assert.ok(await allowed('/admin', { role: 'member', roles: ['admin'] }));
        assert.ok(await allowed('/staff', { role: 'support' }));
        for (const claims of [
            {},
            { role: 'member' },
            { role: 'Admin' },
            { role: 'administrator' },
            { roles: [] },
            { role: null },
            { role: true },
            { role: { admin: true } },
            { permissions: ['admin'] },
            { role: 'admin,member' },
        ])
            assert.ok(!(await allowed('/admin', claims)), JSON.stringify(claims));

        assert.ok(await allowed('/write', { permissions: ['todos:read', 'todos:write'] }));
        assert.ok(await allowed('/both', { permissions: ['todos:write', 'todos:read'] }));
        for (const claims of [
            {},
            { permissions: [] },
            { permissions: ['todos:writer'] },
            { permissions: { 'todos:write': true } },
            { permissions: [['todos:write']] },
            { role: 'todos:write' },
        ])
            assert.ok(!(await allowed('/write', claims)), JSON.stringify(claims));
        assert.ok(!(await allowed('/both', { permissions: ['todos:write'] })));
        await assertFailed(server, await as(user, '/misuse', { role: 'admin' }), /require_role/);
    });

    test('organization: that of the session', async () => {
        const user = await addUser();
        const organization = newOrganization({ name: 'Analytical Engines' });
        await server.deliver(newEvent('organization.created', organization));
        await server.deliver(
            newEvent(
                'organization_membership.created',
                newMembership({ user_id: user.id, organization_id: organization.id }),
            ),
        );
        const answer = await as(user, '/organization', { org_id: organization.id });
        assert.deepEqual(answer.json(), { name: 'Analytical Engines', id: organization.id });
        assert.deepEqual((await as(user, '/organization')).json(), []);
        const unknown = newId('org');
        assert.deepEqual((await as(user, '/organization', { org_id: unknown })).json(), {
            id: unknown,
        });
        assert.equal((await as(user, '/organization', { org_id: 7 })).status, 200);
    });

    test('can neither be forged nor kept by a script', async () => {
        const user = await addUser();
        assert.deepEqual((await as(user, '/forge', { role: 'member' })).json(), {
            admin: false,
            writer: false,
        });
        const caught = (await ask(server, '/caught')).json();
        assert.equal(caught.ok, false);
        assert.match(caught.text, /401 token_missing/);
        const other = await addUser();
        await inParallel(8, Array(load(400, 60)).fill(), async (_, i) => {
            const caller = i % 2 ? user : other;
            assert.equal((await as(caller, '/leak')).json().now, caller.id);
            assert.equal((await ask(server, '/leak')).json().now, undefined);
            assert.equal((await as(caller, '/mine')).text, caller.id);
        });
        const event = newEvent('test.auth', { object: 'test', id: newId('test') });
        await server.deliver(event);
        assert.match(server.row("SELECT value FROM notes WHERE key = 'auth'"), /^false.*routes/);
    });

    test('takes no token while the server knows no client id, and says so', async (t) => {
        const off = await startRoutes(
            t,
            '["GET /mine"] = function(ctx) return ctx.auth.require().id end, ["GET /open"] = function(ctx) return ctx.auth.user() == nil end,',
        );
        const answer = await ask(off, '/mine', { headers: bearer(tokenOf({ id: 'x' })) });
        assertError(answer, 503, 'tokens_off');
        assert.match(answer.headers['retry-after'], /^\d+$/);
        assert.equal((await ask(off, '/open')).text, 'true');
        assert.equal((await whoIs(off, 'x')).status, 503);
    });

    test('lets pages of allowed origins ask for each route what it takes', async (t) => {
        const origin = 'https://app.example.com';
        const open = await startRoutes(t, NOTES, { args: ['--cors-origin', origin] });
        const preflight = (target, headers = {}) =>
            ask(open, target, {
                method: 'OPTIONS',
                headers: {
                    Origin: origin,
                    'Access-Control-Request-Method': 'PUT',
                    'Access-Control-Request-Headers': 'authorization,content-type',
                    ...headers,
                },
            });
        const asked = await preflight('/notes/x');
        assert.equal(asked.status, 204);
        assert.equal(asked.headers['access-control-allow-origin'], origin);
        for (const method of ['GET', 'PUT', 'DELETE'])
            assert.match(
                asked.headers['access-control-allow-methods'],
                new RegExp(`\\b${method}\\b`),
            );
        assert.match(asked.headers['access-control-allow-headers'], /authorization/);
        assert.match(asked.headers['access-control-allow-headers'], /content-type/);
        assert.equal(
            (await preflight('/notes/x', { Origin: 'https://evil.example' })).headers[
                'access-control-allow-origin'
            ],
            undefined,
        );
        const posted = await post(open, '/notes', { key: 'x' }, { headers: { Origin: origin } });
        assert.equal(posted.headers['access-control-allow-origin'], origin);
        const failed = await post(open, '/notes', { key: 7 }, { headers: { Origin: origin } });
        assert.equal(failed.status, 500);
        assert.equal(failed.headers['access-control-allow-origin'], origin);
        assert.match(failed.headers['access-control-expose-headers'], /X-Request-ID/i);
    });
});
