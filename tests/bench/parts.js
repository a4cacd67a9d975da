// SPDX-License-Identifier: MIT
// What is measured. Every part goes through its servers in rounds, each round beginning with another
// one, so that what else the machine does hits all alike; report.js makes medians of the rounds.
//
// A part returns records: { part, server, kind, connections, round, … the figures of load.c }.

import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import {
    Server,
    available,
    folder,
    handlers,
    newFolder,
    release,
    servers,
    sleep,
    timeStart,
} from './servers.js';

export const CONNECTIONS = [1, 16, 64, 256];
const USERS = 5000; // there before updates and duplicates are measured
const WARM_S = 0.3;

const rotated = (list, by) => list.map((_, i) => list[(i + by) % list.length]);

let seeds = 0;
/** Six characters that no run has used before in this database. */
const newSeed = () => `R${String(seeds++).padStart(5, '0')}`;

function say(record) {
    const { server, kind, connections, rate, p99_ms, wrong, first_wrong, starved } = record;
    const faults = [
        wrong > 0 && `${wrong} wrong answers: ${first_wrong}`,
        starved > 0 && `${starved} connections starved`,
    ].filter(Boolean);
    console.error(
        `  ${server.padEnd(9)} ${kind.padEnd(10)} ${String(connections).padStart(3)} connections ` +
            `${rate.toFixed(0).padStart(7)} /s   p99 ${p99_ms.toFixed(2)} ms  ${faults.join('; ')}`,
    );
}

/** Calls measure(server key, round) in interleaved rounds; measure returns its records. */
async function interleave(options, part, keys, measure) {
    const records = [];
    for (let round = 0; round < options.rounds; round++) {
        for (const key of rotated(keys, round)) {
            console.error(`${part}, round ${round + 1} of ${options.rounds}: ${key}`);
            for (const record of await measure(key, round)) {
                const full = { part, server: key, round, ...record };
                if (full.rate !== undefined) say(full);
                records.push(full);
            }
        }
    }
    return records;
}

const timed = (options) => ({ seconds: options.seconds, warm: WARM_S });
const connectionsOf = (options) => options.connections ?? CONNECTIONS;

export async function webhooks(options) {
    return interleave(options, 'webhooks', available(), async (key) => {
        const records = [];
        const server = await Server.start(key);
        const users = newSeed();

        await sleep(1000); // what was only needed for the start is given back
        records.push({ kind: 'idle', rss_mib: server.status('VmRSS') / 1024 });
        await server.load('new', 64, { seed: users, count: USERS });
        for (const connections of connectionsOf(options)) {
            records.push(
                await server.load('new', connections, { seed: newSeed(), ...timed(options) }),
            );
            if (servers[key].keepsNothing) continue;
            for (const kind of ['update', 'duplicate'])
                records.push(
                    await server.load(kind, connections, {
                        seed: users,
                        users: USERS,
                        ...timed(options),
                    }),
                );
        }
        await server.stop();
        return records;
    });
}

export async function actions(options) {
    return interleave(options, 'actions', available(), async (key) => {
        const records = [];
        const server = await Server.start(key);

        await server.load('action', 64, { count: 2000, seed: newSeed() });
        for (const connections of connectionsOf(options))
            records.push(
                await server.load('action', connections, { seed: newSeed(), ...timed(options) }),
            );
        await server.stop();
        return records;
    });
}

// ---- routes ---------------------------------------------------------------------------------------

const ROUTES = `
authkit.routes {
   ["GET /lists"] = function(ctx, request)
      return ctx.db.query("todo_lists"):where("user_id", request.query.user):all()
   end,
   ["GET /mine"] = function(ctx, request)
      local user = ctx.auth.require()
      return ctx.db.query("todo_lists"):where("user_id", user.id):all()
   end,
   ["POST /lists"] = function(ctx, request)
      local list = request.json()
      return { id = ctx.db.insert("todo_lists", { name = list.name, user_id = list.user }) }
   end,
}
`;

const CLIENT_ID = 'client_bench';
const ISSUER = 'https://api.workos.com/user_management/client_bench';

/** A key pair, its public half as a key set in a file, and a token of the user's that lasts a day. */
function makeToken(directory, userId) {
    const { publicKey, privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
    const now = Math.floor(Date.now() / 1000);
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = [
        encode({ alg: 'RS256', typ: 'JWT', kid: 'bench' }),
        encode({ iss: ISSUER, sub: userId, sid: 'session_1', iat: now, exp: now + 86_400 }),
    ].join('.');
    const signature = crypto.sign('sha256', Buffer.from(signed), privateKey).toString('base64url');
    const key = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', alg: 'RS256', use: 'sig' };
    const file = path.join(directory, 'jwks.json');

    fs.writeFileSync(file, JSON.stringify({ keys: [key] }));
    return { file, token: `${signed}.${signature}` };
}

async function startWithRoutes(cpu) {
    const directory = newFolder('authkitd');
    const script = path.join(directory, 'handlers.lua');
    const seed = newSeed();
    const user = `user_01K5${seed}${'0'.repeat(16)}`;
    const { file, token } = makeToken(directory, user);

    fs.writeFileSync(script, fs.readFileSync(handlers, 'utf8') + ROUTES);
    const server = await Server.start('authkitd', {
        db: path.join(directory, 'bench.db'),
        handlers: script,
        cpu,
        env: {
            WORKOS_CLIENT_ID: CLIENT_ID,
            AUTHKITD_ISSUERS: ISSUER,
            AUTHKITD_JWKS_URL: `file:${file}`,
        },
    });
    await server.load('new', 64, { seed, count: USERS });
    return { server, user, token };
}

const asked = async (server, where, headers = {}) =>
    (await fetch(`${server.url}${where}`, { headers })).status;

/** One processor for both, or two: how much faster the same work is with the second one. */
async function scaling(options, where, expect) {
    const records = [];
    for (const cpus of ['0', '0,1']) {
        const { server, user } = await startWithRoutes(cpus);
        const record = await server.load('get', 64, {
            path: where(user),
            expect,
            pinned: ['taskset', '-c', cpus],
            ...timed(options),
        });
        records.push({ ...record, kind: cpus === '0' ? 'get, 1 core' : 'get, 2 cores' });
        await server.stop();
    }
    return records;
}

export async function routes(options) {
    const lists = (user) => `/lists?user=${user}`;
    const expect = "Ada's Todo List";
    const { server, user, token } = await startWithRoutes();
    const serves = (await asked(server, lists(user))) === 200;
    const knowsTokens = (await asked(server, '/mine', { Authorization: `Bearer ${token}` })) === 200;

    await server.stop();
    if (!serves) {
        console.error('routes: this binary serves none: nothing to measure');
        return [];
    }
    if (!knowsTokens) console.error('routes: this binary takes no tokens: measured without');
    return interleave(options, 'routes', ['authkitd'], async () => {
        const records = [];
        const one = await startWithRoutes();
        const body = JSON.stringify({ name: 'a list', user: one.user });

        for (const connections of connectionsOf(options)) {
            const load = (kind, more) =>
                one.server.load(kind, connections, { ...more, ...timed(options) });
            records.push(await load('get', { path: lists(one.user), expect }));
            if (knowsTokens)
                records.push({
                    ...(await load('get', { path: '/mine', expect, token: one.token })),
                    kind: 'get+token',
                });
            // POST under another user, so that what GET reads stays one row.
            const other = body.replace(one.user, `${one.user}x`);
            records.push(await load('post', { path: '/lists', expect: '"id":', body: other }));
        }
        await one.server.stop();
        if (options.cores > 1) records.push(...(await scaling(options, lists, expect)));
        return records;
    });
}

// ---- start ----------------------------------------------------------------------------------------

export async function start(options) {
    const more = { ...options, rounds: Math.max(options.rounds, 5) }; // it takes no time
    return interleave(more, 'start', available(), async (key) => [
        { kind: 'start', start_ms: await timeStart(key) },
    ]);
}

// ---- growth ---------------------------------------------------------------------------------------

const SIZES = [
    { name: '1 k', users: 1e3, events: 5e3 },
    { name: '100 k', users: 1e5, events: 1e6 },
    { name: '2 M', users: 2e6, events: 1e7 },
];
const BYTES_AN_EVENT = 1200; // with its share of a user, indexes, and what a run adds
const SEED = 'GROWTH';

const FIFTY = `
authkit.events {
   ["user.created"] = function(ctx, event)
      local id = ctx.db.insert("todo_lists", { name = "List", user_id = event.data.id })
      for i = 1, 24 do
         local list = ctx.db.query("todo_lists"):where("user_id", event.data.id):first()
         ctx.db.patch("todo_lists", list._id, { name = "List " .. i })
      end
      ctx.db.get("todo_lists", id)
   end,
}
`;

const freeBytes = (where) => {
    const { bavail, bsize } = fs.statfsSync(where);
    return bavail * bsize;
};

const gigabytes = (bytes) => `${(bytes / 1e9).toPrecision(2)} GB`;

/** A file with so many users and events in it; made once, and kept from run to run. */
async function fill(size) {
    const directory = path.join(folder, 'growth');
    const db = path.join(directory, `${size.users}-${size.events}.db`);

    fs.mkdirSync(directory, { recursive: true });
    if (fs.existsSync(`${db}.filled`)) return db;
    const needed = size.events * BYTES_AN_EVENT;
    if (freeBytes(directory) < needed) {
        console.error(
            `growth: ${size.name} users want ${gigabytes(needed)} on the disk of ` +
                `${directory}, and there is less: left out`,
        );
        return null;
    }
    for (const end of ['', '-wal', '-shm', '.lock', '.watchdog'])
        fs.rmSync(`${db}${end}`, { force: true });
    const server = await Server.start('authkitd', { db });
    await server.stop();
    console.error(`growth: filling a file with ${size.name} users and ${size.events} events`);
    execFileSync(
        path.join(release, 'bench_fill'),
        [db, SEED, String(size.users), String(size.events)],
        { stdio: ['ignore', 'inherit', 'inherit'] },
    );
    fs.writeFileSync(`${db}.filled`, '');
    return db;
}

/** Small files are measured on a copy, so that they stay small. */
function workingCopy(db, size) {
    if (size.users > 1e5) return db;
    const copy = path.join(newFolder('growth'), 'bench.db');
    fs.copyFileSync(db, copy);
    return copy;
}

async function measureSize(options, size, db, script) {
    const records = [];
    const used = workingCopy(db, size);
    const start_ms = await timeStart('authkitd', { db: used });
    const server = await Server.start('authkitd', { db: used });
    const load = (kind, more) => server.load(kind, 64, { ...more, ...timed(options) });
    const fresh = () => `${Date.now().toString(36).toUpperCase().slice(-6)}`;

    await sleep(1000);
    records.push({ kind: 'start', start_ms, rss_mib: server.status('VmRSS') / 1024 });
    records.push(await load('new', { seed: fresh() }));
    records.push(await load('update', { seed: SEED, users: size.users }));
    records.push(await load('duplicate', { seed: SEED, users: size.users }));
    await server.stop();
    const busy = await Server.start('authkitd', { db: used, handlers: script });
    const fifty = await busy.load('new', 64, { seed: fresh(), ...timed(options) });
    records.push({ ...fifty, kind: 'new, 50' });
    await busy.stop();
    return records;
}

export async function growth(options) {
    const sizes = SIZES.filter((size) => options.full || size.users <= options.growthMax);
    const script = path.join(newFolder('fifty'), 'handlers.lua');
    const text = fs.readFileSync(handlers, 'utf8');
    const files = new Map();

    // The function for user.created in the place of the one that is there.
    fs.writeFileSync(script, text.slice(0, text.indexOf('authkit.events')) + FIFTY);
    for (const size of sizes) {
        const db = await fill(size);
        if (db) files.set(size, db);
    }
    const keys = [...files.keys()].map((size) => size.name);
    if (keys.length === 0) throw new Error('growth: there is no file to measure with');
    const records = await interleave(options, 'growth', keys, (name) => {
        const size = sizes.find((one) => one.name === name);
        return measureSize(options, size, files.get(size), script);
    });
    const kept = path.join(folder, 'growth');
    const bytes = fs.readdirSync(kept).map((name) => fs.statSync(path.join(kept, name)).size);
    console.error(
        `growth: the files stay for the next time, ${gigabytes(bytes.reduce((a, b) => a + b, 0))}; ` +
            `to be rid of them: rm -r ${path.relative(process.cwd(), kept)}`,
    );
    return records;
}
