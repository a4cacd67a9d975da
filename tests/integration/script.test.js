// SPDX-License-Identifier: MIT
// handlers.lua as a user writes it: the database, the log, the users, what an event looks like, how
// errors are told, what the sandbox keeps out, and how the tables follow the script.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { atEnd, describe, test } from './lib/harness.js';
import { sharedServer, startServer } from './lib/server.js';
import { isoTime, newEvent, newId, newUser, sessionCreated, userCreated } from './lib/workos.js';

/** A script with a table of findings: note(ctx, key, value) writes one. */
const withNotes = (text, columns = '') => `
local authkit = require "authkit"
authkit.schema {
  notes = { columns = { key = "text", value = "text?" } },
  ${columns}
}
local function note(ctx, key, value)
  ctx.db.insert("notes", { key = key, value = value ~= nil and tostring(value) or nil })
end
${text}
`;

const noteOf = (server, key) => server.row('SELECT value FROM notes WHERE key = ?', key);

/** Run a piece of Lua as the handler of one event, on a server that takes it from the event. */
async function runLua(t, body, { columns, data = {}, modules, args, top = '' } = {}) {
    const server = await startServer(t, {
        handlers: withNotes(
            `${top}\nauthkit.events { ["test.run"] = function(ctx, event)\n${body}\nend }`,
            columns,
        ),
        modules,
        args,
    });
    const event = newEvent('test.run', { object: 'test', id: newId('test'), ...data });
    await server.deliver(event);
    return { server, event, row: server.eventRow(event), note: (key) => noteOf(server, key) };
}

/** The same, and the handler must end well. */
async function runsWell(t, body, options) {
    const run = await runLua(t, body, options);
    assert.equal(run.row.status, 'done', `${run.row.last_error}`);
    return run;
}

const ITEMS = `
  items = {
    columns = { name = "text", size = "integer?", weight = "real?", fresh = "boolean?", extra = "json?" },
    indexes = { { "name", unique = true }, { "size", "weight" } },
  },`;

describe('ctx.db', () => {
    test('insert returns the _id, get gives the row back with every type', (t) =>
        runsWell(
            t,
            `
        local before = ctx.now()
        local id = ctx.db.insert("items", { name = "a", size = 7, weight = 1.5, fresh = true,
                                            extra = { list = { 1, 2, { deep = "x" } }, flag = false } })
        assert(math.type(id) == "integer", "id is " .. tostring(math.type(id)))
        local row = ctx.db.get("items", id)
        assert(row._id == id and row.name == "a")
        assert(row.size == 7 and math.type(row.size) == "integer")
        assert(row.weight == 1.5 and math.type(row.weight) == "float")
        assert(row.fresh == true)
        assert(row.extra.list[3].deep == "x" and row.extra.flag == false and row.extra.list[1] == 1)
        assert(math.type(row._creation_time) == "integer")
        assert(row._creation_time >= before - 1000 and row._creation_time <= ctx.now() + 1000)
    `,
            { columns: ITEMS },
        ));

    test('values are in the file as plain SQL would put them', async (t) => {
        const { server } = await runsWell(
            t,
            `
            ctx.db.insert("items", { name = "a", size = 9007199254740993, weight = 2, fresh = false, extra = { a = 1 } })
        `,
            { columns: ITEMS },
        );
        const row = server.row(
            'SELECT name, CAST(size AS TEXT) AS size, weight, typeof(weight) AS type, fresh, extra, _id, _creation_time FROM items',
        );
        assert.equal(row.name, 'a');
        assert.equal(row.size, '9007199254740993');
        assert.deepEqual([row.weight, row.type], [2, 'real']);
        assert.equal(row.fresh, 0);
        assert.deepEqual(JSON.parse(row.extra), { a: 1 });
        assert.equal(row._id, 1);
        assert.ok(Math.abs(row._creation_time - Date.now()) < 60_000);
    });

    test('a missing row is nil; nil and missing columns are NULL and come back as nil', (t) =>
        runsWell(
            t,
            `
        assert(ctx.db.get("items", 12345) == nil)
        local id = ctx.db.insert("items", { name = "a" })
        local row = ctx.db.get("items", id)
        assert(row.size == nil and row.fresh == nil and row.extra == nil)
        local keys = 0
        for _ in pairs(row) do keys = keys + 1 end
        assert(keys == 3, "name, _id, _creation_time, and no nulls: " .. keys)
    `,
            { columns: ITEMS },
        ));

    test('strings are kept as they are: empty, long, emoji, quotes', (t) =>
        runsWell(
            t,
            `
        for i, text in ipairs { "", "\\u{1F600}", "it's \\"quoted\\" -- ; %", ("x"):rep(100000) } do
          local id = ctx.db.insert("notes", { key = "k" .. i, value = text })
          assert(ctx.db.get("notes", id).value == text, "text " .. i)
          assert(ctx.db.query("notes"):where("value", text):unique()._id == id, "where " .. i)
        end
    `,
        ));

    test('patch changes the given columns and leaves the others', (t) =>
        runsWell(
            t,
            `
        local id = ctx.db.insert("items", { name = "a", size = 1, weight = 1.5 })
        ctx.db.patch("items", id, { size = 2 })
        local row = ctx.db.get("items", id)
        assert(row.size == 2 and row.name == "a" and row.weight == 1.5)
        ctx.db.patch("items", id, { size = authkit.null })
        assert(ctx.db.get("items", id).size == nil, "authkit.null sets NULL")
        ctx.db.patch("items", id, {})
        assert(ctx.db.get("items", id).name == "a")
    `,
            { columns: ITEMS },
        ));

    test('delete removes the row', (t) =>
        runsWell(
            t,
            `
        local id = ctx.db.insert("items", { name = "a" })
        local other = ctx.db.insert("items", { name = "b" })
        ctx.db.delete("items", id)
        assert(ctx.db.get("items", id) == nil)
        assert(ctx.db.get("items", other).name == "b")
    `,
            { columns: ITEMS },
        ));

    test('query: where, first, unique, all, order_by, limit', (t) =>
        runsWell(
            t,
            `
        for i = 1, 10 do ctx.db.insert("items", { name = "n" .. i, size = i % 3, weight = i / 2, fresh = i > 5 }) end
        local q = function() return ctx.db.query("items") end
        assert(#q():all() == 10)
        assert(#q():where("size", 1):all() == 4)
        assert(#q():where("size", 1):where("fresh", true):all() == 2)
        assert(q():where("name", "n3"):unique().weight == 1.5)
        assert(q():where("name", "nobody"):unique() == nil)
        assert(q():where("name", "nobody"):first() == nil)
        assert(#q():where("name", "nobody"):all() == 0)
        assert(q():order_by("weight"):first().name == "n1")
        assert(q():order_by("weight", "desc"):first().name == "n10")
        local three = q():order_by("weight", "desc"):limit(3):all()
        assert(#three == 3 and three[1].name == "n10" and three[3].name == "n8")
        assert(#q():limit(0):all() == 0)
        local ordered = q():order_by("size"):order_by("weight", "desc"):all()
        assert(ordered[1].name == "n9" and ordered[10].name == "n2", ordered[1].name .. " " .. ordered[10].name)
    `,
            { columns: ITEMS },
        ));

    test('query: operators and tables of conditions', (t) =>
        runsWell(
            t,
            `
        for i = 1, 10 do ctx.db.insert("items", { name = "n" .. i, size = i, fresh = i > 5 }) end
        local q = function() return ctx.db.query("items") end
        assert(#q():where("size", ">", 7):all() == 3)
        assert(#q():where("size", ">=", 7):all() == 4)
        assert(#q():where("size", "<", 3):all() == 2)
        assert(#q():where("size", "<=", 3):all() == 3)
        assert(q():where("size", "=", 3):unique().name == "n3")
        assert(#q():where { fresh = true, size = 9 }:all() == 1)
    `,
            { columns: ITEMS },
        ));

    test('query: unique refuses to choose among several', async (t) => {
        const { row } = await runLua(
            t,
            `
            ctx.db.insert("items", { name = "a", size = 1 })
            ctx.db.insert("items", { name = "b", size = 1 })
            ctx.db.query("items"):where("size", 1):unique()
        `,
            { columns: ITEMS },
        );
        assert.equal(row.status, 'failed');
        assert.match(row.last_error, /items/);
    });

    test('query: a value is a value, never SQL', (t) =>
        runsWell(
            t,
            `
        ctx.db.insert("items", { name = "a" })
        for _, text in ipairs { "' OR 1=1 --", "a' --", "%", "*" } do
          assert(ctx.db.query("items"):where("name", text):first() == nil, text)
        end
        assert(not pcall(function() return ctx.db.query("items"):where("name = 'a' OR 1", 1):all() end))
        assert(not pcall(function() return ctx.db.query("items"):order_by("name; DROP TABLE items"):all() end))
        assert(not pcall(function() return ctx.db.query("items"):order_by("name", "desc; DROP TABLE items"):all() end))
        assert(not pcall(function() return ctx.db.query("items"):limit("1; DROP TABLE items"):all() end))
        assert(not pcall(function() return ctx.db.query("items; DROP TABLE items"):all() end))
        assert(#ctx.db.query("items"):all() == 1)
    `,
            { columns: ITEMS },
        ));

    test('a unique index is held, and pcall catches the violation', (t) =>
        runsWell(
            t,
            `
        ctx.db.insert("items", { name = "a" })
        local ok, message = pcall(ctx.db.insert, "items", { name = "a" })
        assert(not ok and tostring(message):find("name"), tostring(message))
        ctx.db.insert("items", { name = "b" })
        assert(#ctx.db.query("items"):all() == 2)
    `,
            { columns: ITEMS },
        ));

    test('rows of the mirror can be read, not written', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`
                authkit.events {
                  ["user.created"] = function(ctx, event)
                    local row = ctx.db.query("workos_users"):where("id", event.data.id):unique()
                    note(ctx, "read", row.email)
                    for _, attempt in ipairs {
                      function() ctx.db.insert("workos_users", { id = "user_x", email = "x" }) end,
                      function() ctx.db.patch("workos_users", event.data.id, { email = "x" }) end,
                      function() ctx.db.delete("workos_users", event.data.id) end,
                      function() ctx.db.insert("workos_events", { id = "event_x" }) end,
                      function() ctx.db.delete("workos_events", event.id) end,
                    } do
                      local ok, message = pcall(attempt)
                      assert(not ok and tostring(message):find("workos_"), tostring(message))
                    end
                    note(ctx, "held", "yes")
                  end,
                }`),
        });
        const event = userCreated();
        await server.deliver(event);
        assert.equal(server.eventRow(event).last_error, null);
        assert.equal(noteOf(server, 'read'), event.data.email);
        assert.equal(noteOf(server, 'held'), 'yes');
        assert.equal(server.userRow(event.data).email, event.data.email);
    });

    test("a script's own table may be called users", async (t) => {
        const server = await startServer(t, {
            handlers: `
                local authkit = require "authkit"
                authkit.schema { users = { columns = { auth_id = "text", email = "text", name = "text?" }, indexes = { { "auth_id", unique = true } } } }
                authkit.events {
                  ["user.created"] = function(ctx, event)
                    ctx.db.insert("users", { auth_id = event.data.id, email = event.data.email, name = event.data.first_name })
                  end,
                  ["user.updated"] = function(ctx, event)
                    local user = ctx.db.query("users"):where("auth_id", event.data.id):unique()
                    if not user then return ctx.log.warn("user not found", { id = event.data.id }) end
                    ctx.db.patch("users", user._id, { email = event.data.email })
                  end,
                  ["user.deleted"] = function(ctx, event)
                    local user = ctx.db.query("users"):where("auth_id", event.data.id):unique()
                    if user then ctx.db.delete("users", user._id) end
                  end,
                }`,
        });
        const user = newUser({ first_name: null });
        await server.deliver(newEvent('user.created', user));
        await server.deliver(
            newEvent('user.updated', {
                ...user,
                email: 'new@example.com',
                updated_at: isoTime(Date.now() + 1000),
            }),
        );
        assert.deepEqual(server.row('SELECT auth_id, email, name FROM users'), {
            auth_id: user.id,
            email: 'new@example.com',
            name: null,
        });
        await server.deliver(newEvent('user.deleted', { id: user.id }));
        assert.equal(server.count('users'), 0);
        const stranger = newUser();
        await server.deliver(newEvent('user.updated', stranger));
        const line = await server.waitForLog('user not found');
        assert.equal(line.level, 'warn');
        assert.equal(line.id, stranger.id);
    });
});

describe('a mistake in ctx.db', () => {
    const MISTAKES = {
        'an unknown table': ['ctx.db.insert("itmes", { name = "a" })', [/itmes/, /items/]],
        'an unknown table in get': ['ctx.db.get("itmes", 1)', [/itmes/, /items/]],
        'an unknown table in a query': ['ctx.db.query("itmes"):all()', [/itmes/, /items/]],
        'an unknown column': ['ctx.db.insert("items", { naem = "a" })', [/naem/, /name/]],
        'an unknown column in patch': [
            'ctx.db.patch("items", 1, { naem = "a" })',
            [/naem/, /name/],
        ],
        'an unknown column in where': [
            'ctx.db.query("items"):where("naem", "a"):all()',
            [/naem/, /name/],
        ],
        'an unknown column in order_by': [
            'ctx.db.query("items"):order_by("naem"):all()',
            [/naem/, /name/],
        ],
        'a wrong type': ['ctx.db.insert("items", { name = 5 })', [/name/, /text|string/]],
        'a text for an integer': [
            'ctx.db.insert("items", { name = "a", size = "big" })',
            [/size/, /integer/],
        ],
        'a fraction for an integer': [
            'ctx.db.insert("items", { name = "a", size = 1.5 })',
            [/size/, /integer/],
        ],
        'a number for a boolean': [
            'ctx.db.insert("items", { name = "a", fresh = 1 })',
            [/fresh/, /boolean/],
        ],
        'a function as a value': [
            'ctx.db.insert("items", { name = "a", extra = { f = print } })',
            [/extra/],
        ],
        'a text with a NUL in it, which SQL texts cannot hold': [
            'ctx.db.insert("items", { name = "a\\0b" })',
            [/name/, /NUL/],
        ],
        'a missing value': ['ctx.db.insert("items", { size = 1 })', [/name/]],
        'null where there must be a value': [
            'ctx.db.insert("items", { name = authkit.null })',
            [/name/],
        ],
        'patching a row that is not there': [
            'ctx.db.patch("items", 999, { name = "a" })',
            [/items/, /999/],
        ],
        'setting _id': ['ctx.db.insert("items", { name = "a", _id = 5 })', [/_id/]],
        'no table of values': ['ctx.db.insert("items")', [/insert/]],
        'a table that loops, as json': [
            'local x = {}; x.x = x; ctx.db.insert("items", { name = "a", extra = x })',
            [/extra/],
        ],
    };
    const server = sharedServer({
        handlers: withNotes(
            `
            local mistakes = {
              ${Object.entries(MISTAKES)
                  .map(([what, [code]]) => `["${what}"] = function(ctx) ${code} end,`)
                  .join('\n')}
            }
            authkit.events { ["test.run"] = function(ctx, event) mistakes[event.data.which](ctx) end }`,
            ITEMS,
        ),
    });

    for (const [what, [, patterns]] of Object.entries(MISTAKES)) {
        test(`${what}: an error that names it`, async () => {
            const event = newEvent('test.run', { id: newId('test'), which: what });
            await server.deliver(event);
            const row = server.eventRow(event);
            assert.equal(row.status, 'failed');
            assert.match(row.last_error, /handlers\.lua:\d+/);
            for (const pattern of patterns) assert.match(row.last_error, pattern);
            assert.equal(server.count('items'), 0);
        });
    }
});

describe('the log', () => {
    test('print and ctx.log reach it, with level and fields', async (t) => {
        const { server } = await runsWell(
            t,
            `
            print("hello", event.data.id, 5, nil, true)
            ctx.log.debug("at debug", { n = 1 })
            ctx.log.info("at info", { n = 2, word = "a b" })
            ctx.log.warn("at warn")
            ctx.log.error("at error", { nested = { a = 1 } })
        `,
            { args: ['--log-level', 'debug'], data: { id: 'test_7' } },
        );
        const hello = await server.waitForLog('hello', 'test_7', 'true');
        assert.equal(hello.level, 'info');
        for (const level of ['debug', 'info', 'warn', 'error'])
            assert.equal((await server.waitForLog(`at ${level}`)).level, level);
        const { n, word } = server.log('at info')[0];
        assert.deepEqual({ n, word }, { n: 2, word: 'a b' });
    });

    test('says nothing below its level', async (t) => {
        const { server } = await runsWell(
            t,
            'ctx.log.debug("too quiet") ctx.log.info("loud enough")',
        );
        await server.waitForLog('loud enough');
        assert.equal(server.log('too quiet').length, 0);
    });

    // Symptom: what stood behind a NUL was missing, and nothing told of it.
    test('shows a NUL as \\0, and what stands behind it', async (t) => {
        const { server } = await runsWell(
            t,
            'print("a\\0b", "c") ctx.log.info("d\\0e\\0", { ["f\\0g"] = "h\\0i" })',
        );
        await server.waitForLog('a\\\\0b\\tc');
        assert.equal(server.log('d\\0e\\0')[0]['f\\0g'], 'h\0i');
    });

    test('cannot be forged: line breaks, control characters and invalid UTF-8 stay inside their line', async (t) => {
        const { server } = await runsWell(
            t,
            `
            print('x\\n{"level":"error","msg":"forged"}')
            ctx.log.info('y\\r\\n\\27[31m\\0', { ["k\\n"] = "v\\nw", bad = "\\xff\\xfe" })
            ctx.log.info(("z"):rep(1000000))
        `,
        );
        await server.deliver(newEvent('other', { id: 'x' }));
        await server.stop(); // which checks that every line is JSON
        assert.equal(server.log('forged').length, 0);
    });
});

describe('ctx.users', () => {
    test('get, get_by_email and get_by_external_id give the row, with types of Lua, or nil', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`
                authkit.events { ["test.run"] = function(ctx, event)
                  local by_id = ctx.users.get(event.data.user_id)
                  local by_email = ctx.users.get_by_email(event.data.email)
                  local by_external_id = ctx.users.get_by_external_id(event.data.external_id)
                  for _, user in ipairs { by_id, by_email, by_external_id } do
                    assert(user.id == event.data.user_id)
                    assert(user.email_verified == true)
                    assert(user.last_name == nil)
                    assert(user.metadata.plan == "team", "metadata is a table")
                  end
                  assert(by_id and by_email and by_external_id)
                  assert(ctx.users.get("user_nobody") == nil)
                  assert(ctx.users.get_by_email("nobody@example.com") == nil)
                  assert(ctx.users.get_by_external_id("nothing") == nil)
                end }`),
        });
        const { data } = userCreated({ last_name: null });
        await server.deliver(newEvent('user.created', data));
        const event = newEvent('test.run', {
            id: 'x',
            user_id: data.id,
            email: data.email,
            external_id: data.external_id,
        });
        await server.deliver(event);
        assert.equal(server.eventRow(event).last_error, null);
    });

    test('a handler sees the mirror as its event left it: the new user is there, the deleted one is not', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`
                authkit.events {
                  ["user.created"] = function(ctx, event) note(ctx, "created", ctx.users.get(event.data.id).email) end,
                  ["user.updated"] = function(ctx, event) note(ctx, "updated", ctx.users.get(event.data.id).email) end,
                  ["user.deleted"] = function(ctx, event) note(ctx, "deleted", ctx.users.get(event.data.id)) end,
                }`),
        });
        const user = newUser({ email: 'one@example.com' });
        await server.deliver(newEvent('user.created', user));
        await server.deliver(
            newEvent('user.updated', {
                ...user,
                email: 'two@example.com',
                updated_at: isoTime(Date.now() + 1000),
            }),
        );
        await server.deliver(newEvent('user.deleted', user));
        assert.equal(noteOf(server, 'created'), 'one@example.com');
        assert.equal(noteOf(server, 'updated'), 'two@example.com');
        assert.equal(noteOf(server, 'deleted'), null);
    });
});

describe('an event in Lua', () => {
    test('has id, event, created_at, data and context', async (t) => {
        const { event, note } = await runsWell(
            t,
            `
            for _, key in ipairs { "id", "event", "created_at" } do note(ctx, key, event[key]) end
            note(ctx, "data", event.data.id)
            note(ctx, "context", event.context.actor.source)
            note(ctx, "nobody", event.context.actor.name)
        `,
        );
        assert.equal(note('id'), event.id);
        assert.equal(note('event'), 'test.run');
        assert.equal(note('created_at'), event.created_at);
        assert.equal(note('data'), event.data.id);
        assert.equal(note('context'), 'dashboard');
        assert.equal(note('nobody'), null);
    });

    test('null is nil, in objects', (t) =>
        runsWell(
            t,
            `
        assert(event.data.nothing == nil)
        assert((event.data.nothing or "My") == "My")
        for key in pairs(event.data) do assert(key ~= "nothing") end
    `,
            { data: { nothing: null } },
        ));

    test('whole numbers are integers, also beyond 2^53; fractions are floats', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`authkit.events { ["test.run"] = function(ctx, event)
                for i, n in ipairs(event.data.numbers) do note(ctx, "n" .. i, math.type(n) .. " " .. tostring(n)) end
                note(ctx, "sum", event.data.numbers[3] + 1)
            end }`),
        });
        const event = newEvent('test.run', { id: 'x', numbers: 'NUMBERS' });
        await server.deliver(
            JSON.stringify(event).replace(
                '"NUMBERS"',
                '[1,-7,9007199254740993,9223372036854775807,-9223372036854775808,1.5,1755000000123,0]',
            ),
        );
        assert.equal(server.eventRow(event).last_error, null);
        const notes = Array.from({ length: 8 }, (_, i) => noteOf(server, `n${i + 1}`));
        assert.deepEqual(notes, [
            'integer 1',
            'integer -7',
            'integer 9007199254740993',
            'integer 9223372036854775807',
            'integer -9223372036854775808',
            'float 1.5',
            'integer 1755000000123',
            'integer 0',
        ]);
        assert.equal(noteOf(server, 'sum'), '9007199254740994');
    });

    test('numbers too large for an integer are floats, and never fail the event', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`authkit.events { ["test.run"] = function(ctx, event)
                for i, n in ipairs(event.data.numbers) do note(ctx, "n" .. i, math.type(n)) end
            end }`),
        });
        const event = newEvent('test.run', { id: 'x', numbers: 'NUMBERS' });
        await server.deliver(
            JSON.stringify(event).replace('"NUMBERS"', '[12345678901234567890,1e400,-1e400,1e20]'),
        );
        assert.equal(server.eventRow(event).last_error, null);
        assert.deepEqual(
            server.rows('SELECT value FROM notes').map((row) => row.value),
            ['float', 'float', 'float', 'float'],
        );
    });

    test('strings are UTF-8 bytes; lists and objects are tables', (t) =>
        runsWell(
            t,
            `
        assert(event.data.name == "Zo\\u{EB} \\u{1F600}", event.data.name)
        assert(#event.data.list == 3 and event.data.list[2] == "b")
        assert(next(event.data.empty) == nil and next(event.data.nothing_in) == nil)
        assert(event.data.yes == true and event.data.no == false)
        assert(event.data[""] == "empty key")
    `,
            {
                data: {
                    name: 'Zoë 😀',
                    list: ['a', 'b', 'c'],
                    empty: [],
                    nothing_in: {},
                    yes: true,
                    no: false,
                    '': 'empty key',
                },
            },
        ));

    test('authkit.json decodes as events are decoded, and encodes integers exactly', (t) =>
        runsWell(
            t,
            `
        local v = authkit.json.decode('{"n":9007199254740993,"x":null,"a":[1,2]}')
        assert(math.type(v.n) == "integer" and v.n == 9007199254740993 and v.x == nil and #v.a == 2)
        assert(authkit.json.encode(9007199254740993) == "9007199254740993")
        assert(authkit.json.encode("a/b\\n") == '"a/b\\\\n"', authkit.json.encode("a/b\\n"))
        local ok, value = pcall(authkit.json.decode, "{")
        assert(not ok or value == nil)
    `,
        ));

    test('of one handler cannot be changed for the next: each gets its own tables', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`authkit.events { ["test.run"] = function(ctx, event)
                note(ctx, event.id, tostring(event.data.seen) .. tostring(ctx.seen))
                event.data.seen = true
                pcall(function() ctx.seen = true end)
            end }`),
        });
        for (let i = 0; i < 3; i++) {
            const event = newEvent('test.run', { id: 'x' });
            await server.deliver(event);
            assert.equal(noteOf(server, event.id), 'nilnil');
        }
    });
});

describe('an error in a handler', () => {
    const server = sharedServer({
        handlers: withNotes(`
            local function deep(event) error("cannot stand " .. event.data.id) end
            authkit.events {
              ["user.created"] = function(ctx, event)
                note(ctx, event.data.id, "written before the error")
                if event.data.first_name == "Mallory" then deep(event) end
              end,
              ["user.updated"] = function(ctx, event) local x = nil; return x.field end,
              ["session.created"] = function(ctx, event) note(ctx, event.data.id, "fine") end,
            }`),
    });

    test('is answered 200: the event is kept as failed, with the error, its file and line, and a traceback', async () => {
        const event = userCreated({ first_name: 'Mallory' });
        await server.deliver(event);
        const row = server.eventRow(event);
        assert.equal(row.status, 'failed');
        assert.match(row.last_error, /handlers\.lua:\d+: cannot stand user_/);
        assert.match(row.last_error, /traceback/);
        assert.equal(row.attempts, 1);
        assert.equal(
            Buffer.from(
                server.row(
                    'SELECT CAST(payload AS BLOB) FROM workos_events WHERE id = ?',
                    event.id,
                ),
            ).toString(),
            JSON.stringify(event),
        );
    });

    test("is logged with the event's id", async () => {
        const event = userCreated({ first_name: 'Mallory' });
        await server.deliver(event);
        const line = await server.waitForLog(event.id, 'cannot stand');
        assert.ok(['warn', 'error'].includes(line.level));
    });

    test('undoes what the function wrote, and nothing else: the user row is there', async () => {
        const event = userCreated({ first_name: 'Mallory' });
        await server.deliver(event);
        assert.equal(server.row('SELECT count(*) FROM notes WHERE key = ?', event.data.id), 0);
        assert.equal(server.userRow(event.data).first_name, 'Mallory');
    });

    test('of Lua itself names the line too', async () => {
        const event = newEvent('user.updated', newUser());
        await server.deliver(event);
        assert.match(server.eventRow(event).last_error, /handlers\.lua:\d+: attempt to index/);
    });

    test('does not reach other events, not even of the same batch', async () => {
        const events = Array.from({ length: 40 }, (_, i) =>
            userCreated({ first_name: i % 2 ? 'Mallory' : 'Ada' }),
        );
        await Promise.all([...events, sessionCreated()].map((event) => server.deliver(event)));
        for (const [i, event] of events.entries()) {
            assert.equal(server.eventRow(event).status, i % 2 ? 'failed' : 'done');
            assert.equal(
                server.row('SELECT count(*) FROM notes WHERE key = ?', event.data.id),
                i % 2 ? 0 : 1,
            );
        }
    });

    test('of a failed event, delivered again by WorkOS, stays one event', async () => {
        const event = userCreated({ first_name: 'Mallory' });
        await server.deliver(event);
        await server.deliver(event);
        assert.equal(server.row('SELECT count(*) FROM workos_events WHERE id = ?', event.id), 1);
    });
});

describe('require', () => {
    test('loads modules beside the script, also in folders, once', async (t) => {
        const { note } = await runsWell(
            t,
            `
            note(ctx, "greeting", greet("Ada"))
            note(ctx, "deep", require("lib.deep").value)
            note(ctx, "same", require("greetings").greet == greet)
        `,
            {
                top: 'local greet = require("greetings").greet',
                modules: {
                    'greetings.lua':
                        'local M = {}\nfunction M.greet(name) return "Hello, " .. name end\nreturn M\n',
                    'lib/deep.lua': 'return { value = require("greetings").greet("from below") }\n',
                },
            },
        );
        assert.equal(note('greeting'), 'Hello, Ada');
        assert.equal(note('deep'), 'Hello, from below');
        assert.equal(note('same'), 'true');
    });

    test("an error in a module names the module's file and line", async (t) => {
        const { row } = await runLua(t, 'broken.go()', {
            top: 'local broken = require "broken"',
            modules: {
                'broken.lua':
                    'local M = {}\n\nfunction M.go()\n  error("in the module")\nend\nreturn M\n',
            },
        });
        assert.match(row.last_error, /broken\.lua:4: in the module/);
    });

    test("finds nothing outside the script's folder", async (t) => {
        const outside = `outside_${process.pid}`;
        fs.writeFileSync(path.join('/tmp', `${outside}.lua`), 'return 1');
        atEnd(t, () => fs.rmSync(path.join('/tmp', `${outside}.lua`)));
        await runsWell(
            t,
            `
            for _, name in ipairs { "..${outside}", "../${outside}", "/tmp/${outside}", "cjson", "socket", "lfs" } do
              assert(not pcall(require, name), name)
            end
        `,
        );
    });
});

describe('the sandbox', () => {
    test('has the harmless libraries', (t) =>
        runsWell(
            t,
            `
        for _, name in ipairs { "string", "table", "math", "utf8", "coroutine", "os" } do
          assert(type(_G[name]) == "table", name)
        end
        assert(type(os.time()) == "number" and type(os.date()) == "string" and type(os.clock()) == "number")
        assert(("x"):rep(3) == "xxx" and select("#", table.unpack { 1, 2 }) == 2)
        assert(pcall(error) == false and type(ctx.now()) == "number")
        local co = coroutine.wrap(function() coroutine.yield(1) end)
        assert(co() == 1)
    `,
        ));

    test('has nothing that reaches out, blocks or breaks the walls', (t) =>
        runsWell(
            t,
            `
        for _, name in ipairs { "io", "debug", "dofile", "loadfile" } do
          assert(_G[name] == nil, name)
        end
        for _, name in ipairs { "execute", "exit", "remove", "rename", "tmpname", "getenv", "setlocale" } do
          assert(os[name] == nil, "os." .. name)
        end
        assert(string.dump == nil, "string.dump")
        assert(type(package) ~= "table" or package.loadlib == nil, "package.loadlib")
        for _, name in ipairs { "io", "debug", "ffi", "package" } do
          local ok, found = pcall(require, name)
          assert(not ok or type(found) ~= "table" or not (found.loadlib or found.open or found.getinfo), "require " .. name)
        end
    `,
        ));

    test('does not load bytecode', (t) =>
        runsWell(
            t,
            `
        if load then
          for _, mode in ipairs { "b", "bt", "t" } do
            local ok, made = pcall(load, "\\27Lua" .. ("\\0"):rep(50), "x", mode)
            assert(not ok or made == nil, mode)
          end
          local ok, made = pcall(load, "\\27Lua" .. ("\\0"):rep(50))
          assert(not ok or made == nil, "mode left out")
        end
    `,
        ));

    test('refuses __gc', (t) =>
        runsWell(
            t,
            `
        local ok, message = pcall(setmetatable, {}, { __gc = function() end })
        assert(not ok and tostring(message):find("__gc"), tostring(message))
    `,
        ));

    test('keeps the standard libraries read-only', (t) =>
        runsWell(
            t,
            `
        local tries = {
          function() string.rep = nil end,
          function() string.extra = 1 end,
          function() rawset(string, "rep", nil) end,
          function() table.insert = print end,
          function() math.pi = 3 end,
          function() os.time = nil end,
          function() getmetatable("").__index = {} end,
          function() authkit.events = nil end,
          function() table.insert(string, "x") end,
        }
        for i, try in ipairs(tries) do pcall(try) end
        assert(("x"):rep(2) == "xx" and string.rep and not string.extra and table.insert ~= print)
        assert(math.pi > 3 and os.time() and string[1] == nil)
        assert(type(authkit.events) == "function")
    `,
        ));

    test('globals of a script live until its reload', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(
                'counter = 0\nauthkit.events { ["test.run"] = function(ctx, event) counter = counter + 1; note(ctx, event.id, counter) end }',
            ),
        });
        const count = async () => {
            const event = newEvent('test.run', { id: newId('test') });
            await server.deliver(event);
            return noteOf(server, event.id);
        };
        assert.equal(await count(), '1');
        assert.equal(await count(), '2');
        assert.equal((await server.reload()).outcome, 'loaded');
        assert.equal(await count(), '1');
    });

    test('registering is for loading: a handler that registers is told off, or it has no effect', async (t) => {
        const { server } = await runLua(
            t,
            'authkit.events { ["late.one"] = function(ctx) note(ctx, "late", "ran") end }',
        );
        await server.deliver(newEvent('late.one', { id: 'x' }));
        assert.equal(server.row("SELECT count(*) FROM notes WHERE key = 'late'"), 0);
    });

    test('what a handler keeps of ctx is of no use to the next one', async (t) => {
        const server = await startServer(t, {
            handlers: withNotes(`
                local kept
                authkit.events {
                  ["test.keep"] = function(ctx, event) kept = ctx.db.query("notes") end,
                  ["test.use"] = function(ctx, event) pcall(function() return kept:all() end) note(ctx, "still", "alive") end,
                }`),
        });
        await server.deliver(newEvent('test.keep', { id: 'a' }));
        await server.deliver(newEvent('test.use', { id: 'b' }));
        assert.equal(noteOf(server, 'still'), 'alive');
    });
});

describe('authkit.schema', () => {
    const script = (tables, handler = '') => `
        local authkit = require "authkit"
        authkit.schema { ${tables} }
        authkit.events { ["test.run"] = function(ctx, event) ${handler} end }`;
    const columnsOf = (server, table) =>
        server.rows(`PRAGMA table_info(${table})`).map((column) => column.name);

    test('makes tables with _id and _creation_time, and the indexes', async (t) => {
        const server = await startServer(t, {
            handlers: script(
                'things = { columns = { a = "text", b = "integer?" }, indexes = { { "a", unique = true }, { "b", "a" } } }',
            ),
        });
        assert.deepEqual(columnsOf(server, 'things').sort(), ['_creation_time', '_id', 'a', 'b']);
        const indexes = server.rows('PRAGMA index_list(things)');
        assert.equal(indexes.length, 2);
        assert.deepEqual(indexes.map((index) => index.unique).sort(), [0, 1]);
    });

    test('on reload: new tables, new nullable columns and new indexes come, the data stays', async (t) => {
        const server = await startServer(t, {
            handlers: script(
                'things = { columns = { a = "text" } }',
                'ctx.db.insert("things", { a = event.data.id })',
            ),
        });
        await server.deliver(newEvent('test.run', { id: 'one' }));
        const line = await server.reload(
            script(
                'things = { columns = { a = "text", b = "integer?" }, indexes = { { "a", unique = true } } }, others = { columns = { x = "json?" } }',
                'ctx.db.insert("things", { a = event.data.id, b = 2 }) ctx.db.insert("others", { x = { 1 } })',
            ),
        );
        assert.equal(line.outcome, 'loaded', line.text);
        await server.deliver(newEvent('test.run', { id: 'two' }));
        assert.deepEqual(server.rows('SELECT a, b FROM things ORDER BY _id'), [
            { a: 'one', b: null },
            { a: 'two', b: 2 },
        ]);
        assert.equal(server.count('others'), 1);

        await server.restart();
        assert.equal(server.count('things'), 2);
        const duplicate = newEvent('test.run', { id: 'two' });
        await server.deliver(duplicate);
        assert.equal(server.eventRow(duplicate).status, 'failed');
        assert.match(server.eventRow(duplicate).last_error, /things/);
    });

    test('a table that the script no longer declares keeps its data', async (t) => {
        const server = await startServer(t, {
            handlers: script(
                'things = { columns = { a = "text" } }',
                'ctx.db.insert("things", { a = "kept" })',
            ),
        });
        await server.deliver(newEvent('test.run', { id: 'one' }));
        await server.reload(script(''));
        assert.equal(server.row('SELECT a FROM things'), 'kept');
        await server.reload(script('things = { columns = { a = "text" } }'));
        assert.equal(server.row('SELECT a FROM things'), 'kept');
    });

    for (const [what, change, patterns] of [
        [
            'a column that must have a value, in a table with rows',
            'things = { columns = { a = "text", b = "integer?", c = "text" } }',
            [/things/, /\bc\b/],
        ],
        [
            'another type of a column',
            'things = { columns = { a = "integer", b = "integer?" } }',
            [/things/, /\ba\b/],
        ],
        [
            'a column that may no longer be nil, though it is',
            'things = { columns = { a = "text", b = "integer" } }',
            [/things/, /\bb\b/],
        ],
        [
            'a unique index on what is not unique',
            'things = { columns = { a = "text", b = "integer?" }, indexes = { { "a", unique = true } } }',
            [/things/, /\ba\b/],
        ],
    ]) {
        test(`a change that would lose data is refused, named, and the old script goes on: ${what}`, async (t) => {
            const good = script(
                'things = { columns = { a = "text", b = "integer?" } }',
                'ctx.db.insert("things", { a = "x" })',
            );
            const server = await startServer(t, { handlers: good });
            await server.deliver(newEvent('test.run', { id: 'one' }));
            await server.deliver(newEvent('test.run', { id: 'two' }));

            const line = await server.reload(
                script(change + ', extra_table = { columns = { a = "text" } }'),
            );
            assert.equal(line.outcome, 'refused', line.text);
            for (const pattern of patterns) assert.match(line.text, pattern);
            assert.equal(
                server.rows("SELECT 1 FROM sqlite_schema WHERE name = 'extra_table'").length,
                0,
                'not even the harmless half',
            );

            await server.deliver(newEvent('test.run', { id: 'three' }));
            assert.equal(server.count('things'), 3);

            // And a server that starts with it says the same.
            await server.stop();
            await assert.rejects(() => server.start());
            const last = [
                ...server.lines.slice(-3).map((said) => said.text),
                ...server.stray.splice(0),
            ].join('\n');
            for (const pattern of patterns) assert.match(last, pattern);
        });
    }

    for (const [what, tables, pattern] of [
        ['workos_ names', 'workos_mine = { columns = { a = "text" } }', /workos_mine/],
        ['authkitd_ names', 'authkitd_mine = { columns = { a = "text" } }', /authkitd_mine/],
        ['sqlite_ names', 'sqlite_mine = { columns = { a = "text" } }', /sqlite_mine/],
        ['names with an underscore first', '_mine = { columns = { a = "text" } }', /_mine/],
        [
            'names that are no names',
            '["a; DROP TABLE workos_users"] = { columns = { a = "text" } }',
            /DROP TABLE/,
        ],
        ['a table without columns', 'mine = {}', /mine/],
        ['an unknown type', 'mine = { columns = { a = "varchar" } }', /varchar/],
        [
            'an option that there is not',
            'mine = { columns = { a = "text" }, indices = { { "a" } } }',
            /indices/,
        ],
    ]) {
        test(`${what} are refused`, async (t) => {
            const server = await startServer(t, { handlers: script('') });
            const line = await server.reload(script(tables));
            assert.equal(line.outcome, 'refused', line.text);
            assert.match(line.text, pattern);
        });
    }

    test('SQL words and odd letters are fine as names', async (t) => {
        const server = await startServer(t, {
            handlers: script(
                '["order"] = { columns = { ["select"] = "text", ["group"] = "integer?" }, indexes = { { "group" } } }',
                'local id = ctx.db.insert("order", { select = "x", group = 1 }) ctx.db.patch("order", id, { group = 2 }) ' +
                    'assert(ctx.db.query("order"):where("group", 2):order_by("select"):unique().select == "x")',
            ),
        });
        const event = newEvent('test.run', { id: 'one' });
        await server.deliver(event);
        assert.equal(server.eventRow(event).last_error, null);
    });

    test('the example that comes with the project works', async (t) => {
        const example = path.join(import.meta.dirname, '../../handlers.lua.example');
        const server = await startServer(t, { handlers: fs.readFileSync(example, 'utf8') });
        const nobody = newUser({
            name: null,
            first_name: null,
            last_name: null,
            external_id: null,
            locale: null,
            profile_picture_url: null,
        });
        const events = [
            newEvent('user.created', nobody),
            newEvent('user.updated', {
                ...nobody,
                email: 'other@example.com',
                updated_at: isoTime(Date.now() + 1000),
            }),
            sessionCreated({ user_id: nobody.id }),
        ];
        for (const event of events) {
            await server.deliver(event);
            assert.equal(server.eventRow(event).last_error, null);
        }
        assert.equal(server.count('todo_lists'), 1);
        const deleted = newEvent('user.deleted', { object: 'user', id: nobody.id });
        await server.deliver(deleted);
        assert.equal(server.eventRow(deleted).status, 'done');
    });
});

describe('a function that ends the transaction by itself', () => {
    // INSERT OR ROLLBACK takes the whole transaction with it: the event was refused for ever.
    test('is recorded as failed, and the user is there', async (t) => {
        const server = await startServer(t, {
            handlers: `
                local authkit = require "authkit"
                authkit.schema { t = { columns = { a = "text" }, indexes = { { "a", unique = true } } } }
                authkit.events { ["user.created"] = function(ctx, event)
                  ctx.db.sql("INSERT INTO t (_creation_time, a) VALUES (1, 'x')")
                  ctx.db.sql("INSERT OR ROLLBACK INTO t (_creation_time, a) VALUES (1, 'x')")
                end }`,
        });
        const event = userCreated();
        await server.deliver(event);
        assert.equal(server.eventRow(event).status, 'failed');
        assert.match(server.eventRow(event).last_error, /UNIQUE constraint failed: t\.a/);
        assert.equal(server.count('workos_users'), 1);
        assert.equal(server.count('t'), 0);
    });
});
