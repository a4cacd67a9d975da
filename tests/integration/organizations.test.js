// SPDX-License-Identifier: MIT
// workos_organizations, workos_organization_memberships and workos_invitations: what the official
// SDK sees in an event stands in the row, and scripts read it there.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { describe, permutations, test } from './lib/harness.js';
import { sharedServer, startServer } from './lib/server.js';
import {
    WEBHOOK_SECRET,
    changed,
    newEvent,
    newId,
    newInvitation,
    newMembership,
    newOrganization,
    newUser,
    sdk,
    signature,
    userCreated,
} from './lib/workos.js';

const NO_HANDLERS = 'local authkit = require "authkit"';

const TABLES = {
    organization: {
        table: 'workos_organizations',
        create: newOrganization,
        columns: [
            'id',
            'name',
            'external_id',
            'stripe_customer_id',
            'allow_profiles_outside_organization',
            'domains',
            'metadata',
            'created_at',
            'updated_at',
        ],
    },
    organization_membership: {
        table: 'workos_organization_memberships',
        create: newMembership,
        columns: [
            'id',
            'user_id',
            'organization_id',
            'role',
            'roles',
            'status',
            'directory_managed',
            'custom_attributes',
            'created_at',
            'updated_at',
        ],
    },
    invitation: {
        table: 'workos_invitations',
        create: newInvitation,
        columns: [
            'id',
            'email',
            'state',
            'organization_id',
            'inviter_user_id',
            'accepted_at',
            'revoked_at',
            'expires_at',
            'created_at',
            'updated_at',
        ],
    },
};

const kinds = Object.keys(TABLES);

/** The object's row without the mirror's own bookkeeping, or undefined. */
function rowOf(server, { object, id }) {
    const row = server.rows(`SELECT * FROM ${TABLES[object].table} WHERE id = ?`, id)[0];
    return row && Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith('_')));
}

/** The event's data as the SDK hands it to an application: the API's names in camel case. */
async function seenBySdk(event) {
    const payload = JSON.stringify(event);
    const { data } = await sdk.webhooks.constructEvent({
        payload: JSON.parse(payload),
        sigHeader: await signature(payload),
        secret: WEBHOOK_SECRET,
    });
    return data;
}

const camelCase = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const snakeCase = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** An SDK's value as a column holds it. */
function asColumn(name, value) {
    if (value === undefined || value === null) return null;
    if (name === 'role') return value.slug;
    if (typeof value === 'boolean') return Number(value);
    return value;
}

const JSON_COLUMNS = ['domains', 'metadata', 'roles', 'custom_attributes'];

/** What the SDK made of a JSON value, with the API's names again. */
const withApiNames = (value) =>
    Array.isArray(value)
        ? value.map(withApiNames)
        : value && typeof value === 'object'
          ? Object.fromEntries(
                Object.entries(value).map(([name, inner]) => [
                    snakeCase(name),
                    withApiNames(inner),
                ]),
            )
          : value;

describe('rows of organizations, memberships and invitations', () => {
    const server = sharedServer({ handlers: NO_HANDLERS });

    for (const kind of kinds) {
        const { table, create, columns } = TABLES[kind];

        test(`${table} has the columns and values that the SDK sees`, async () => {
            const event = newEvent(`${kind}.created`, create());
            const seen = await seenBySdk(event);
            await server.deliver(event);
            const { raw, ...row } = rowOf(server, event.data);
            assert.deepEqual(Object.keys(row).sort(), columns.toSorted());
            for (const name of columns) {
                const wanted = asColumn(name, seen[camelCase(name)]);
                if (JSON_COLUMNS.includes(name))
                    assert.deepEqual(JSON.parse(row[name]), withApiNames(wanted), name);
                else assert.deepEqual(row[name], wanted, name);
            }
            assert.deepEqual(JSON.parse(raw), event.data);
        });

        test(`${table}: null is NULL, and so is what is missing; unknown members are in raw`, async () => {
            const bare = { object: kind, id: newId(kind), updated_at: null, novel: { of: [1] } };
            await server.deliver(newEvent(`${kind}.created`, bare));
            const { raw, id, ...row } = rowOf(server, bare);
            assert.equal(id, bare.id);
            assert.deepEqual(JSON.parse(raw), bare);
            for (const [name, value] of Object.entries(row))
                assert.equal(value, name === 'metadata' ? '{}' : null, name);
        });

        test(`${table}: an update of an unknown object inserts it`, async () => {
            const event = changed(`${kind}.updated`, create());
            await server.deliver(event);
            assert.equal(rowOf(server, event.data).updated_at, event.data.updated_at);
        });

        test(`${table}: every order of two changes and a deletion ends without a row, for good`, async () => {
            for (const trimmed of [false, true])
                for (const order of permutations([0, 1, 2])) {
                    const object = create();
                    const gone = trimmed ? { object: kind, id: object.id } : object;
                    const events = [
                        newEvent(`${kind}.created`, object),
                        changed(`${kind}.updated`, object),
                        newEvent(`${kind}.deleted`, gone),
                    ];
                    for (const i of order) await server.deliver(events[i]);
                    assert.equal(rowOf(server, object), undefined, `${order} ${trimmed}`);
                }
        });
    }

    test('the later version wins in every table, whichever comes first', async () => {
        for (const kind of kinds) {
            const object = TABLES[kind].create();
            const created = newEvent(`${kind}.created`, object);
            const updated = changed(`${kind}.updated`, object);
            for (const event of [updated, created]) await server.deliver(event);
            assert.deepEqual(JSON.parse(rowOf(server, object).raw), updated.data);
        }
    });

    test('booleans are 1, 0 or NULL', async () => {
        for (const [value, wanted] of [
            [true, 1],
            [false, 0],
            [null, null],
        ]) {
            const organization = newOrganization({ allow_profiles_outside_organization: value });
            const membership = newMembership({ directory_managed: value });
            await server.deliver(newEvent('organization.created', organization));
            await server.deliver(newEvent('organization_membership.created', membership));
            const { allow_profiles_outside_organization } = rowOf(server, organization);
            assert.equal(allow_profiles_outside_organization, wanted);
            assert.equal(rowOf(server, membership).directory_managed, wanted);
        }
    });

    test('role is the slug, and follows its changes', async () => {
        const membership = newMembership({ role: { slug: 'member' }, roles: [{ slug: 'member' }] });
        await server.deliver(newEvent('organization_membership.created', membership));
        assert.equal(rowOf(server, membership).role, 'member');
        const promoted = { role: { slug: 'admin' }, roles: [{ slug: 'admin' }] };
        await server.deliver(changed('organization_membership.updated', membership, promoted));
        const row = rowOf(server, membership);
        assert.equal(row.role, 'admin');
        assert.deepEqual(JSON.parse(row.roles), promoted.roles);
    });

    test("an invitation's state follows accepted, revoked and resent", async () => {
        for (const [type, fields] of [
            ['accepted', { state: 'accepted', accepted_at: '2026-02-01T10:00:00.000Z' }],
            ['revoked', { state: 'revoked', revoked_at: '2026-02-01T10:00:00.000Z' }],
            ['resent', { expires_at: '2026-03-01T10:00:00.000Z' }],
        ]) {
            const invitation = newInvitation();
            await server.deliver(newEvent('invitation.created', invitation));
            await server.deliver(changed(`invitation.${type}`, invitation, fields));
            const row = rowOf(server, invitation);
            for (const [name, value] of Object.entries(fields)) assert.equal(row[name], value);
        }
    });

    test('events of other objects with a like name touch nothing', async () => {
        const organization = newOrganization();
        await server.deliver(newEvent('organization.created', organization));
        const before = rowOf(server, organization);
        for (const type of ['organization_domain.deleted', 'organization_role.deleted'])
            await server.deliver(newEvent(type, { object: 'other', id: organization.id }));
        assert.deepEqual(rowOf(server, organization), before);
    });

    test('are found by what one asks for through an index', () => {
        for (const [table, column] of [
            ['workos_organizations', 'id'],
            ['workos_organizations', 'external_id'],
            ['workos_organization_memberships', 'id'],
            ['workos_organization_memberships', 'user_id'],
            ['workos_organization_memberships', 'organization_id'],
            ['workos_invitations', 'id'],
        ]) {
            const sql = `EXPLAIN QUERY PLAN SELECT * FROM ${table} WHERE ${column} = ?`;
            assert.match(server.rows(sql, 'x')[0].detail, /^SEARCH .*INDEX/, `${table} ${column}`);
        }
    });
});

describe('secrets', () => {
    const SECRET = 'Z1uX3RbwcIl5fIGJJJCXXisdI';

    test('of invitations and domains are nowhere on disk: not in raw, not in payload, not in the WAL', async (t) => {
        const server = await startServer(t, { handlers: NO_HANDLERS });
        const invitation = newInvitation({
            token: `${SECRET}_1`,
            accept_invitation_url: `https://your-app.com/invite?invitation_token=${SECRET}_2`,
        });
        const organization = newOrganization();
        organization.domains[0].verification_token = `${SECRET}_3`;
        const events = [
            newEvent('invitation.created', invitation),
            newEvent('organization.created', organization),
            newEvent('organization_domain.created', {
                ...organization.domains[0],
                verification_token: `${SECRET}_4`,
            }),
        ];
        for (const event of events) await server.deliver(event);

        // All else is kept.
        assert.deepEqual(JSON.parse(rowOf(server, invitation).raw), {
            ...invitation,
            token: null,
            accept_invitation_url: null,
        });
        assert.equal(rowOf(server, invitation).email, invitation.email);
        assert.equal(
            JSON.parse(rowOf(server, organization).domains)[0].domain,
            organization.domains[0].domain,
        );
        for (const event of events)
            assert.equal(JSON.parse(server.eventRow(event).payload).data.id, event.data.id);

        const assertNowhere = () => {
            for (const file of fs.readdirSync(server.folder))
                assert.ok(
                    !fs.readFileSync(`${server.folder}/${file}`).includes(SECRET),
                    `${file} has a secret in it`,
                );
        };
        assertNowhere();
        await server.stop();
        assertNowhere();
        assert.ok(!server.lines.some((line) => line.text.includes(SECRET)), 'nor in the log');
    });

    test('with escapes in their names and texts are found, too', async (t) => {
        const server = await startServer(t, { handlers: NO_HANDLERS });
        const invitation = newInvitation({ token: SECRET });
        const body = JSON.stringify(newEvent('invitation.created', invitation)).replace(
            `"token":"${SECRET}"`,
            `"to\\u006ben" : "\\u005a${SECRET}", "token":{"of":["${SECRET}"]}`,
        );
        await server.deliver(body);
        const payload = server.row('SELECT payload FROM workos_events');
        for (const text of [payload, rowOf(server, invitation).raw])
            assert.ok(!text.includes(SECRET), text);
    });
});

describe('from Lua', () => {
    test('rows are read and joined, with booleans and JSON as Lua has them', async (t) => {
        const server = await startServer(t, {
            handlers: `
                local authkit = require "authkit"
                authkit.schema { notes = { columns = { what = "text", value = "json" } } }
                local function note(ctx, what, value) ctx.db.insert("notes", { what = what, value = value }) end
                authkit.events {
                  ["organization_membership.created"] = function(ctx, event)
                    local membership = ctx.db.query("workos_organization_memberships")
                      :where("user_id", event.data.user_id):unique()
                    local organization = ctx.db.query("workos_organizations")
                      :where("id", membership.organization_id):unique()
                    assert(membership.directory_managed == false)
                    assert(organization.allow_profiles_outside_organization == true)
                    note(ctx, "membership", { role = membership.role, second = membership.roles[2].slug,
                      department = membership.custom_attributes.department })
                    note(ctx, "organization", { domain = organization.domains[1].domain, tier = organization.metadata.tier,
                      name = organization.raw.name })
                    note(ctx, "joined", ctx.db.sql([[
                      SELECT u.email, o.name, m.role, m.directory_managed, i.state
                        FROM workos_organization_memberships m
                        JOIN workos_users u ON u.id = m.user_id
                        JOIN workos_organizations o ON o.id = m.organization_id
                        LEFT JOIN workos_invitations i ON i.organization_id = o.id AND i.email = u.email
                       WHERE m.id = ?]], event.data.id))
                  end,
                }`,
        });
        const user = newUser();
        const organization = newOrganization({ allow_profiles_outside_organization: true });
        const invitation = newInvitation({ organization_id: organization.id, email: user.email });
        const membership = newMembership({ user_id: user.id, organization_id: organization.id });
        for (const [type, object] of [
            ['user.created', user],
            ['organization.created', organization],
            ['invitation.created', invitation],
        ])
            await server.deliver(newEvent(type, object));
        const event = newEvent('organization_membership.created', membership);
        await server.deliver(event);
        assert.equal(server.eventRow(event).last_error, null);
        const noted = Object.fromEntries(
            server.rows('SELECT what, value FROM notes').map((row) => [
                row.what,
                JSON.parse(row.value),
            ]),
        );
        assert.deepEqual(noted, {
            membership: { role: 'admin', second: 'billing', department: 'Engineering' },
            organization: {
                domain: organization.domains[0].domain,
                tier: 'diamond',
                name: organization.name,
            },
            joined: [
                {
                    email: user.email,
                    name: organization.name,
                    role: 'admin',
                    directory_managed: false,
                    state: 'pending',
                },
            ],
        });
    });

    test('nothing of it can be written, by no function and by no SQL', async (t) => {
        const server = await startServer(t, {
            handlers: `
                local authkit = require "authkit"
                authkit.events {
                  ["user.created"] = function(ctx, event)
                    for _, name in ipairs { ${kinds.map((kind) => `"${TABLES[kind].table}"`).join(', ')}, "workos_users" } do
                      local id = ctx.db.query(name):first().id
                      for what, attempt in pairs {
                        insert = function() ctx.db.insert(name, { id = "x" }) end,
                        patch = function() ctx.db.patch(name, id, { updated_at = "x" }) end,
                        replace = function() ctx.db.replace(name, id, { id = "x" }) end,
                        upsert = function() ctx.db.upsert(name, { "id" }, { id = id, updated_at = "x" }) end,
                        delete = function() ctx.db.delete(name, id) end,
                        sql_insert = function() ctx.db.sql("INSERT INTO " .. name .. " (id) VALUES ('x')") end,
                        sql_update = function() ctx.db.sql("UPDATE " .. name .. " SET updated_at = 'x'") end,
                        sql_delete = function() ctx.db.sql("DELETE FROM " .. name) end,
                        sql_drop = function() ctx.db.sql("DROP TABLE " .. name) end,
                      } do
                        local ok, message = pcall(attempt)
                        assert(not ok, name .. ": " .. what .. " went well")
                        assert(what == "sql_drop" or tostring(message):find("workos_"), what .. ": " .. tostring(message))
                      end
                    end
                  end,
                }`,
        });
        const objects = kinds.map((kind) => TABLES[kind].create());
        for (const object of objects)
            await server.deliver(newEvent(`${object.object}.created`, object));
        const event = userCreated();
        await server.deliver(event);
        assert.equal(server.eventRow(event).last_error, null);
        for (const object of objects)
            assert.deepEqual(JSON.parse(rowOf(server, object).raw), object);
    });

    test('a script may not declare tables of these names', async (t) => {
        const server = await startServer(t, { handlers: NO_HANDLERS });
        for (const kind of kinds) {
            const line = await server.reload(
                `require "authkit".schema { ${TABLES[kind].table} = { columns = { x = "text" } } }`,
            );
            assert.equal(line.outcome, 'refused', line.text);
        }
    });
});
