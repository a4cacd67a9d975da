// SPDX-License-Identifier: MIT
// Accidents in handlers.lua: a function that never ends or eats all memory fails alone. Everybody
// else is answered meanwhile, the server goes on, and its memory stays within its limit.

import assert from 'node:assert/strict';
import { afterEach } from 'node:test';

import { describe, describeLogic, patience, sanitizer, test, until } from './lib/harness.js';
import { sharedServer, startServer } from './lib/server.js';
import { newEvent, newId, registrationAction, userCreated } from './lib/workos.js';

const MEBIBYTE = 1024 * 1024;
const TIMEOUT_MS = 200;
const MEMORY = 32 * MEBIBYTE;

// Each is the body of a function that must be stopped. `why` is what the error must speak of.
const ACCIDENTS = {
    'an endless loop': { lua: 'while true do end', why: /200 ms/ },
    'an endless loop that does something': {
        lua: 'local i = 0 repeat i = i + 1; local s = tostring(i) until false',
        why: /200 ms/,
    },
    'an endless loop of gotos': { lua: '::again:: goto again', why: /200 ms/ },
    'an endless pcall loop': {
        lua: 'while true do pcall(function() while true do end end) end',
        why: /200 ms/,
    },
    'nested pcalls that swallow the error': {
        lua: 'local function f() pcall(f) while true do end end f()',
        why: /200 ms|stack overflow|memory/,
    },
    // The message handler of an error that a hook raised runs with hooks off, too.
    'an endless xpcall whose message handler loops too': {
        lua: 'while true do xpcall(function() while true do end end, function() while true do end end) end',
        why: /200 ms/,
    },
    'an endless loop in a coroutine': {
        lua: 'coroutine.wrap(function() while true do end end)()',
        why: /200 ms/,
    },
    'coroutines without end': {
        lua: 'while true do local co = coroutine.create(function() while true do coroutine.yield() end end) coroutine.resume(co) coroutine.resume(co) end',
        why: /200 ms|memory/,
    },
    'a loop in a coroutine that pcall guards': {
        lua: 'while true do pcall(coroutine.wrap(function() pcall(function() while true do end end) while true do end end)) end',
        why: /200 ms/,
    },
    'an endless loop in __close': {
        lua: 'do local x <close> = setmetatable({}, { __close = function() while true do end end }) end',
        why: /200 ms/,
    },
    'an endless loop in __close after an error': {
        lua: 'do local x <close> = setmetatable({}, { __close = function() while true do end end }) error("first") end',
        why: /200 ms/,
    },
    // Lua runs these two with its hooks off when it was a hook that ended the coroutine.
    'an endless loop in __close of a coroutine.wrap that was stopped': {
        lua: 'coroutine.wrap(function() local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end end)()',
        why: /200 ms/,
    },
    'an endless loop in __close of a stopped coroutine that is closed': {
        lua: 'local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end end) coroutine.resume(co) coroutine.close(co)',
        why: /200 ms/,
    },
    'an endless loop in __index': {
        lua: 'local x = setmetatable({}, { __index = function() while true do end end }) return x.y',
        why: /200 ms/,
    },
    'a loop of __index functions': {
        lua: 'local x = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) return x[1]',
        why: /200 ms|stack overflow/,
    },
    'an endless loop in a gsub callback': {
        lua: '("aaa"):gsub("a", function() while true do end end)',
        why: /200 ms/,
    },
    'an endless loop in a comparison of sort': {
        lua: 'table.sort({ 3, 2, 1, 5, 4 }, function(a, b) while true do end end)',
        why: /200 ms/,
    },
    'an endless loop in __tostring of an error': {
        lua: 'error(setmetatable({}, { __tostring = function() while true do end end }))',
        why: /200 ms/,
    },
    'an endless loop of queries': {
        lua: 'while true do ctx.db.query("marks"):all() end',
        why: /200 ms/,
    },
    'an endless loop of guarded inserts': {
        lua: 'while true do pcall(ctx.db.insert, "marks", { mark = "x" }) end',
        why: /200 ms|memory/,
    },
    'a string that doubles': {
        lua: 'local s = "x" while true do s = s .. s end',
        why: /memory|MiB/,
        takesTime: true, // on a busy machine, which shall not meet the other limit first
    },
    'string.rep of a gigabyte': {
        lua: 'return ("x"):rep(1 << 30)',
        why: /memory|MiB/,
        takesTime: true,
    },
    'string.rep beyond any size': {
        lua: 'return ("x"):rep(1 << 62)',
        why: /memory|MiB|too large|resulting string/,
    },
    'a table that grows': {
        lua: 'local t = {} for i = 1, math.huge do t[i] = { i } end',
        why: /memory|MiB|200 ms/,
    },
    'a memory bomb in a pcall loop': {
        lua: 'local keep = {} while true do pcall(function() for i = 1, math.huge do keep[#keep + 1] = ("x"):rep(1000) .. i end end) end',
        why: /memory|MiB|200 ms/,
    },
    'a memory bomb in a coroutine': {
        lua: 'coroutine.wrap(function() local s = "x" while true do s = s .. s end end)()',
        why: /memory|MiB/,
        takesTime: true,
    },
    'table.concat of too much': {
        lua: 'local t = {} for i = 1, 100 do t[i] = ("x"):rep(100000) end while true do t = { table.concat(t), table.concat(t) } end',
        why: /memory|MiB/,
        takesTime: true,
    },
    'string.format of too much': {
        lua: 'local s = "%s" while true do s = s:format(("x"):rep(1 << 20)) .. "%s" end',
        why: /memory|MiB|200 ms/,
    },
    'deep recursion': {
        lua: 'local function f() return 1 + f() end return f()',
        why: /stack overflow|memory|200 ms/,
    },
    'endless tail calls': { lua: 'local function f() return f() end return f()', why: /200 ms/ },
    'deep recursion through C': {
        lua: 'local function f(s) return (s:gsub(".", f)) end f("x")',
        why: /overflow|200 ms|memory/,
    },
    'deep recursion of __index tables': {
        lua: 'local t = {} for i = 1, 3000 do t = setmetatable({}, { __index = t }) end return t.x .. ""',
        why: /loop|concatenate|overflow/,
    },
    'an error that is a table': { lua: 'error({ code = 7 })', why: /./ },
    'an error that is nil': { lua: 'error()', why: /./ },
    'an error that is false': { lua: 'error(false)', why: /./ },
    'an error that is a number': { lua: 'error(42, 0)', why: /42/ },
    'an error that is a function': { lua: 'error(print)', why: /./ },
    'an error that cannot be told: __tostring raises': {
        lua: 'error(setmetatable({}, { __tostring = function() error("no") end }))',
        why: /./,
    },
    'an error that is told wrongly: __tostring is error itself': {
        lua: 'error(setmetatable({}, { __tostring = error }))',
        why: /./,
    },
    'an error told by a table that is no string': {
        lua: 'error(setmetatable({}, { __tostring = function() return {} end }))',
        why: /./,
    },
    'an error of a megabyte': {
        lua: 'error(("x"):rep(1 << 20))',
        why: /x{50}/,
        takesTime: true,
    },
    'an error with bytes that are no text': { lua: 'error("\\0\\xff\\xfe\\27[31m\\n")', why: /./ },
    'an error that __name hides': {
        lua: 'error(setmetatable({}, { __name = ("x"):rep(1 << 16) }))',
        why: /./,
    },
    'a yield outside of a coroutine': { lua: 'coroutine.yield(1)', why: /yield/ },
    'a coroutine that closes itself': {
        lua: 'local co co = coroutine.wrap(function() coroutine.close(coroutine.running()) end) co() error("as usual")',
        why: /./,
    },
    'an insert of a giant': {
        lua: 'ctx.db.insert("marks", { mark = ("x"):rep(20 << 20) .. ("y"):rep(20 << 20) })',
        why: /memory|MiB/,
        takesTime: true,
    },
    'deeply nested json': {
        lua: 'local t = {} for i = 1, 100000 do t = { t } end authkit.json.encode(t)',
        why: /./,
    },
    'deeply nested json to read': {
        lua: 'assert(authkit.json.decode(("["):rep(100000) .. ("]"):rep(100000)))',
        why: /./,
    },
};

const names = Object.keys(ACCIDENTS);

const handlers = `
local authkit = require "authkit"
authkit.schema { marks = { columns = { mark = "text" } } }
local accidents = {
${names.map((name) => `  [ [[${name}]] ] = function(ctx) ${ACCIDENTS[name].lua} end,`).join('\n')}
}
authkit.events {
  ["test.accident"] = function(ctx, event)
    ctx.db.insert("marks", { mark = event.id })
    accidents[event.data.which](ctx)
  end,
  ["test.fine"] = function(ctx, event) ctx.db.insert("marks", { mark = event.id }) end,
}
authkit.actions {
  user_registration = function(ctx, action, response)
    local accident = accidents[action.user_data.first_name]
    if accident then accident(ctx) end
    return response.allow()
  end,
}`;

const settings = {
    handlers,
    args: [
        '--handler-timeout',
        String(TIMEOUT_MS),
        '--action-timeout',
        String(TIMEOUT_MS),
        '--handler-memory',
        String(MEMORY),
    ],
};

const accident = (which) => newEvent('test.accident', { object: 'test', id: newId('test'), which });
const fine = () => newEvent('test.fine', { object: 'test', id: newId('test') });

/** A server that is replaced when a test failed, so that one accident doesn't hide the others. */
function replaceableServer(options) {
    const server = sharedServer(options);

    afterEach(async (t) => {
        if (!t.passed) {
            if (server.isRunning) await server.kill();
            await server.start();
        }
    });
    return server;
}

describeLogic('an event function', () => {
    const quick = replaceableServer(settings);
    const patient = replaceableServer({
        ...settings,
        args: settings.args.with(1, '20000'),
    });
    // Long enough for every limit, short enough to end the suite when one doesn't hold.
    const timeout = patience(5000);

    for (const name of names) {
        test(`with ${name}: failed alone, the others are answered meanwhile`, async () => {
            const server = ACCIDENTS[name].takesTime ? patient : quick;
            const bad = accident(name);
            const good = [fine(), userCreated(), fine()];
            const started = Date.now();

            // The bad one first, the good ones and a look at the health while it runs.
            const answers = [
                server.deliver(bad, { timeout }),
                ...good.map((event) => server.deliver(event, { timeout })),
            ];
            assert.equal((await server.client.request('GET', '/healthz')).status, 200);
            await Promise.all(answers);
            const took = Date.now() - started;

            const row = server.eventRow(bad);
            assert.equal(row.status, 'failed');
            assert.match(row.last_error, ACCIDENTS[name].why);
            assert.equal(
                server.row('SELECT count(*) FROM marks WHERE mark = ?', bad.id),
                0,
                'its rows are undone',
            );
            for (const event of good)
                assert.equal(
                    server.eventRow(event).status,
                    'done',
                    `${server.eventRow(event).last_error}`,
                );
            assert.ok(took < patience(2500), `the others waited for ${took} ms`);
        });
    }

    test('accidents have left the server as it was: same process, memory within its limit', async () => {
        const server = quick;
        for (let i = 0; i < 5; i++) await server.deliver(accident('a table that grows'));
        await server.deliver(fine());
        assert.ok(server.isRunning);
        if (!sanitizer) {
            const peak = server.residentBytes('VmHWM');
            assert.ok(
                peak < 2 * MEMORY + 64 * MEBIBYTE,
                `at most ${Math.round(peak / MEBIBYTE)} MiB were in use`,
            );
            const now = server.residentBytes();
            assert.ok(now < MEMORY + 48 * MEBIBYTE, `${Math.round(now / MEBIBYTE)} MiB are in use`);
        }
    });
});

describeLogic('an action function', () => {
    const quick = replaceableServer(settings);
    // With 200 ms, what takes 2 s in C is for the watchdog: it ends the server.
    const patient = replaceableServer({ ...settings, args: settings.args.with(3, '20000') });
    const timeout = patience(5000);

    for (const name of names) {
        test(`with ${name}: 500, and the next action is decided`, async () => {
            const server = ACCIDENTS[name].takesTime ? patient : quick;
            const bad = server.act(registrationAction({ first_name: name }), { timeout });
            const [answer, event, healthy] = await Promise.all([
                bad,
                server.post(fine(), { timeout }),
                server.client.request('GET', '/healthz'),
            ]);
            assert.equal(answer.status, 500, answer.text);
            assert.ok(answer.json().error.code);
            assert.doesNotMatch(
                answer.text,
                /handlers\.lua|stack|traceback/,
                'shows nothing of the script',
            );
            assert.equal(event.status, 200);
            assert.equal(healthy.status, 200);
            const next = await server.act(registrationAction());
            assert.equal(next.json().payload?.verdict, 'Allow', next.text);
        });
    }
});

describe('many accidents at once', () => {
    const server = replaceableServer({ ...settings, args: settings.args.with(1, '100') });

    // Where they take longer than a sender waits, those at the end are answered before their function has run.
    test('twenty endless loops and twenty good events: all answered', async () => {
        const client = server.newClient({ connections: 40 });
        const bad = Array.from({ length: 20 }, () => accident('an endless loop'));
        const good = Array.from({ length: 20 }, () => fine());
        await Promise.all([...bad, ...good].map((event) => server.deliver(event, { client })));
        const noneWaits = (events) =>
            events.every((event) => server.eventRow(event).status !== 'waiting');
        await until('every function has run', () => noneWaits([...bad, ...good]));
        for (const event of bad) assert.equal(server.eventRow(event).status, 'failed');
        for (const event of good) assert.equal(server.eventRow(event).status, 'done');
    });
});

// As deep as Lua lets a function call C, and there the longest expression that SQLite takes: what that needs of
// a stack. Which thread's it is depends on what else comes, so it is done often.
const DEEP = `
local authkit = require "authkit"
local ways = {
  gsub = function(down) string.gsub("x", "x", down) end,
  sort = function(down) table.sort({ 1, 2 }, function(a, b) down() return a < b end) end,
  format = function(down)
    string.format("%s", setmetatable({}, { __tostring = function() down() return "" end }))
  end,
}
local function nest(way, depth, f)
  if depth == 0 then return f() end
  local done = false
  ways[way](function()
    if not done then nest(way, depth - 1, f) end
    done = true
  end)
end
local function deepest(ctx, way)
  local sql = "SELECT _id" .. ("+_id"):rep(980) .. " FROM t WHERE _id" .. (" OR _id"):rep(980)
  for depth = 200, 1, -1 do
    if pcall(nest, way, depth, function() ctx.db.sql(sql) end) then return depth end
  end
end
local function all(ctx)
  local depths = {}
  for way in pairs(ways) do depths[way] = deepest(ctx, way) end
  return depths
end
authkit.schema { t = { columns = { depths = "json" } } }
authkit.events { ["test.run"] = function(ctx) ctx.db.insert("t", { depths = all(ctx) }) end }
authkit.routes { ["GET /deep"] = all, ["POST /deep"] = all }
`;

describeLogic('many slow GETs at once', () => {
    /** Of which two at a time are answered in so many turns that a limit by the clock would end them. */
    const COUNT = 24;
    const LIMIT_MS = 2000;
    const ONE_MS = 250;

    const ask = async (server, turns) => {
        const begun = performance.now();
        const response = await fetch(`${server.url}/slow?turns=${turns}`);
        await response.arrayBuffer();
        return { status: response.status, ms: performance.now() - begun };
    };

    /** How many turns of its loop take ONE_MS here. */
    async function turnsOfOne(server) {
        let turns = 1_000_000;

        for (;;) {
            const { status, ms } = await ask(server, turns);
            assert.equal(status, 200);
            if (ms >= ONE_MS / 4) return Math.round((turns * ONE_MS) / ms);
            turns *= 2;
        }
    }

    // Symptom: all of them ran at the same time, each with a part of a processor, and all hit the limit: no answer
    // but 500, with a log that blamed the script.
    test('are answered one after the other, or told to come again', async (t) => {
        const server = await startServer(t, {
            args: ['--handler-timeout', String(LIMIT_MS)],
            handlers: `
local authkit = require "authkit"
authkit.routes { ["GET /slow"] = function(_, request)
  local sum = 0
  for i = 1, tonumber(request.query.turns) do sum = sum + i % 7 end
  return { sum = sum }
end }`,
        });
        const turns = await turnsOfOne(server);
        const answers = await Promise.all(Array.from({ length: COUNT }, () => ask(server, turns)));
        const statuses = answers.map(({ status }) => status);
        assert.deepEqual(
            statuses.filter((status) => status !== 200 && status !== 503),
            [],
            server.logTail(),
        );
        assert.ok(statuses.filter((status) => status === 200).length >= 4, statuses.join());
    });
});

describeLogic('functions that nest as deep as they can', () => {
    const server = replaceableServer({ handlers: DEEP, args: ['--handler-timeout', '10000'] });
    const assertDeep = (depths) => {
        for (const way of ['gsub', 'sort', 'format'])
            assert.ok(depths[way] > 50, `${way}: ${depths[way]}`);
    };
    const ask = async (method) =>
        (
            await fetch(`${server.url}/deep`, {
                method,
                body: method === 'POST' ? '' : undefined,
            })
        ).json();

    test('have a stack that is large enough, on every thread', async () => {
        for (let i = 0; i < 12; i++) {
            const event = newEvent('test.run', { object: 'test', id: newId('test') });
            await server.deliver(event);
            assert.equal(server.eventRow(event).status, 'done', server.eventRow(event).last_error);
        }
        for (const { depths } of server.rows('SELECT depths FROM t'))
            assertDeep(JSON.parse(depths));
        for (const method of ['GET', 'POST', 'GET', 'POST']) assertDeep(await ask(method));
    });
});

describeLogic('accidents while loading', () => {
    const server = replaceableServer({
        ...settings,
        handlers: 'local authkit = require "authkit"',
    });

    for (const [what, handlers] of [
        [
            'an endless loop that pcall guards',
            'while true do pcall(function() while true do end end) end',
        ],
        ['a memory bomb', 'local s = "x" while true do s = s .. s end'],
        ['deep recursion', 'local function f() return 1 + f() end f()'],
        ['an error that is nil', 'error()'],
        ['an error that cannot be told', 'error(setmetatable({}, { __tostring = error }))'],
        ['deep nesting', `local x = ${'{'.repeat(500)}${'}'.repeat(500)}`],
    ]) {
        test(`${what}: the script is refused, the old one runs on`, async () => {
            const line = await server.reload(handlers);
            assert.equal(line.outcome, 'refused', line.text);
            await server.deliver(userCreated());
        });
    }
});
