// SPDX-License-Identifier: MIT
// What the tests of authkit.routes have in common: scripts with routes, requests, and what errors
// look like.

import assert from 'node:assert/strict';

import { startServer } from './server.js';
import { newEvent, newId } from './workos.js';

/** A script of these routes, with a table to write to. */
export const withRoutes = (routes, { top = '', columns = '' } = {}) => `
local authkit = require "authkit"
authkit.schema {
  notes = { columns = { key = "text", value = "text?", ${columns} }, indexes = { { "key" } } },
  singles = { columns = { key = "text" }, indexes = { { "key", unique = true } } },
}
authkit.events {
  ["test.run"] = function(ctx, event) ctx.db.insert("notes", { key = event.id, value = "event" }) end,
}
authkit.actions {
  user_registration = function(ctx, action, response) return response.allow() end,
}
${top}
authkit.routes {
${routes}
}`;

export const startRoutes = (t, routes, { top, columns, ...options } = {}) =>
    startServer(t, { handlers: withRoutes(routes, { top, columns }), ...options });

export const ask = (server, target, { method = 'GET', ...options } = {}) =>
    server.client.request(method, target, options);

export const post = (server, target, body = '{}', options = {}) =>
    ask(server, target, {
        method: 'POST',
        body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
        ...options,
    });

/** An event that writes a note. */
export const newRun = () => newEvent('test.run', { object: 'test', id: newId('test') });

export const keysOf = (server) =>
    server.rows('SELECT key FROM notes ORDER BY _id').map((row) => row.key);

export function assertError(answer, status, code) {
    assert.equal(answer.status, status, `${answer.status} ${answer.text}`);
    assert.equal(answer.headers['content-type'], 'application/json');
    const { error } = answer.json();
    assert.equal(error.code, code);
    assert.match(error.message, /./);
    return error;
}

/** A function failed: a number for the log, and nothing else to see. Returns the log's line. */
export async function assertFailed(server, answer, reason) {
    const error = assertError(answer, 500, 'route_failed');
    assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'request_id']);
    assert.match(error.request_id, /^[0-9a-f]{8,}$/);
    assert.equal(answer.headers['x-request-id'], error.request_id);
    for (const word of ['handlers', '.lua', 'secret', 'stack', 'traceback', 'notes'])
        assert.ok(!answer.text.includes(word), answer.text);
    const line = await server.waitForLog(error.request_id);
    assert.equal(line.level, 'error');
    if (reason) assert.match(line.error, reason);
    return line;
}

/** Routes that write and read notes. */
export const NOTES = `
["POST /notes"] = function(ctx, request)
    local body = request.json()
    return 201, { id = ctx.db.insert("notes", { key = body.key, value = body.value }) }
end,
["GET /notes/:key"] = function(ctx, request)
    local note = ctx.db.query("notes"):where("key", request.params.key):first()
    if not note then return 404, { error = "none" } end
    return note
end,
["GET /count"] = function(ctx, request) return { count = ctx.db.query("notes"):count() } end,
["GET /version"] = function(ctx, request) return "1" end,
["PUT /notes/:key"] = function(ctx, request)
    local note = ctx.db.query("notes"):where("key", request.params.key):unique()
    ctx.db.patch("notes", note._id, { value = request.json().value })
    return ctx.db.get("notes", note._id)
end,
["DELETE /notes/:key"] = function(ctx, request)
    for note in ctx.db.query("notes"):where("key", request.params.key):each() do
        ctx.db.delete("notes", note._id)
    end
    return 204, nil
end,
`;
