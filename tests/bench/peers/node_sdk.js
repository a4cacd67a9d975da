// SPDX-License-Identifier: MIT
// What most people would write first: Node's http, WorkOS's official SDK and node:sqlite, one
// transaction a request. The same durable work as every peer: verify, deduplicate by event id, put the
// user, add a todo list for a new one, COMMIT, 200.
//
// What it doesn't do, and authkitd does: keep the payload; isolate a handler's failure; hold events of
// one user in order; tombstones; erase; survive a full disk.
//
// usage: node node_sdk.js PORT DATABASE SQL

import fs from 'node:fs';
import http from 'node:http';
import { DatabaseSync } from 'node:sqlite';

import { ACTION_SECRET, WEBHOOK_SECRET, sdk } from '../../integration/lib/workos.js';

const [port, database, sql] = process.argv.slice(2);
const db = new DatabaseSync(database);
db.exec(fs.readFileSync(sql, 'utf8'));
const [begin, commit, rollback] = ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK'].map((text) =>
    db.prepare(text),
);
const addEvent = db.prepare(
    'INSERT INTO events (id, event, received_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
);
const putUser = db.prepare(
    `INSERT INTO users (id, email, first_name, last_name, external_id, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET email = excluded.email, first_name = excluded.first_name,
     last_name = excluded.last_name, external_id = excluded.external_id,
     updated_at = excluded.updated_at WHERE excluded.updated_at >= updated_at`,
);
const addList = db.prepare('INSERT INTO todo_lists (name, user_id) VALUES (?, ?)');

function store({ id, event, data }) {
    begin.run();
    try {
        if (addEvent.run(id, event, Date.now()).changes > 0) {
            putUser.run(
                data.id,
                data.email,
                data.firstName,
                data.lastName,
                data.externalId,
                data.createdAt,
                data.updatedAt,
            );
            if (event === 'user.created') addList.run(`${data.firstName}'s Todo List`, data.id);
        }
        commit.run();
    } catch (error) {
        rollback.run();
        throw error;
    }
}

async function takeWebhook(payload, sigHeader) {
    store(await sdk.webhooks.constructEvent({ payload, sigHeader, secret: WEBHOOK_SECRET }));
    return { received: true };
}

async function decideAction(payload, sigHeader) {
    const action = await sdk.actions.constructAction({ payload, sigHeader, secret: ACTION_SECRET });
    const refused = action.userData.email.endsWith('@gmail.com');
    return await sdk.actions.signResponse(
        { type: 'user_registration', verdict: refused ? 'Deny' : 'Allow' },
        ACTION_SECRET,
    );
}

function answer(response, status, value) {
    const text = JSON.stringify(value);
    response.writeHead(status, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(text),
    });
    response.end(text);
}

async function serve(request, response) {
    if (request.url === '/healthz') return answer(response, 200, { ok: true });
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const take = { '/workos/webhook': takeWebhook, '/workos/action': decideAction }[request.url];
    if (!take) return answer(response, 404, { error: 'not found' });
    try {
        const payload = Buffer.concat(chunks).toString();
        answer(response, 200, await take(payload, request.headers['workos-signature']));
    } catch (error) {
        answer(response, error.name === 'SignatureVerificationException' ? 401 : 500, {
            error: error.message,
        });
    }
}

http.createServer({ keepAliveTimeout: 60_000 }, serve).listen(Number(port), '127.0.0.1', 1024);
process.on('SIGTERM', () => process.exit(0));
