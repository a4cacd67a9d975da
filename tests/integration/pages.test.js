// SPDX-License-Identifier: MIT
// What the pages of an app rely on, as browsers send their requests: an ETag that stays while nothing
// changes, errors that CORS doesn't hide, requests without a body, and null that clears a value.

import assert from 'node:assert/strict';

import { describe, inParallel, load, test } from './lib/harness.js';
import { startServer } from './lib/server.js';

const ORIGIN = 'https://app.example.com';
const BODY_MAX = 4096;

const HANDLERS = `
local authkit = require "authkit"
authkit.schema {
  notes = { columns = { title = "text", due = "integer?", done = "boolean?", extra = "json?", text = "text?" } },
}
authkit.routes {
  ["GET /notes"] = function(ctx) return ctx.db.query("notes"):all() end,
  ["POST /notes"] = function(ctx, request) return 201, ctx.db.insert("notes", request.json()) end,
  ["PATCH /notes/:id"] = function(ctx, request)
    local id = math.tointeger(request.params.id)
    ctx.db.patch("notes", id, request.body == "" and { done = true } or request.json(authkit.null))
    return ctx.db.get("notes", id)
  end,
  ["DELETE /notes/:id"] = function(ctx, request) ctx.db.delete("notes", math.tointeger(request.params.id)) end,
}`;

const start = (t) =>
    startServer(t, {
        handlers: HANDLERS,
        args: ['--cors-origin', ORIGIN, '--max-body', String(BODY_MAX)],
    });

const NOTE = { title: 'a', due: 2 ** 53, extra: { z: 1, a: { y: [], b: null } }, text: 'é' };

const post = (server, body, headers = {}) =>
    server.client.request('POST', '/notes', { body: JSON.stringify(body), headers });

describe('pages of an app', () => {
    test('an ETag stays while nothing changes, whoever answers and whatever is reloaded', async (t) => {
        const server = await start(t);
        const tags = new Set();
        const look = async () => {
            const answer = await fetch(`${server.url}/notes`);
            tags.add(answer.headers.get('etag'));
            return await answer.text();
        };

        await post(server, NOTE);
        const text = await look();
        await inParallel(20, Array.from({ length: load(400, 100) }), look);
        await server.reload();
        assert.equal(await look(), text);
        await server.restart();
        assert.equal(await look(), text);
        assert.equal(tags.size, 1, [...tags].join());

        const [tag] = tags;
        const again = { headers: { 'If-None-Match': tag } };
        assert.equal((await server.client.request('GET', '/notes', again)).status, 304);
        const raw = await server.openRaw();
        raw.send(
            `GET /notes HTTP/1.1\r\nHost: x\r\nIf-None-Match: "a"\r\nIf-None-Match: ${tag}\r\n\r\n`,
        );
        assert.equal((await raw.response()).status, 304);
        raw.close();
        await post(server, NOTE);
        assert.equal((await server.client.request('GET', '/notes', again)).status, 200);
    });

    test('a page sees why it is refused, also before anybody has looked at its request', async (t) => {
        const server = await start(t);
        const cases = [
            [`Content-Length: ${BODY_MAX + 1}`, 413],
            ['Transfer-Encoding: chunked', 411],
            ['X-Nothing: 1', 411],
        ];

        for (const origin of [ORIGIN, 'https://other.example.com'])
            for (const [header, status] of cases) {
                const raw = await server.openRaw();
                raw.send(
                    `POST /notes HTTP/1.1\r\nHost: x\r\nOrigin: ${origin}\r\n${header}\r\n\r\n`,
                );
                const answer = await raw.response();
                assert.equal(answer.status, status, header);
                assert.equal(answer.headers.vary, 'Origin', header);
                assert.equal(
                    answer.headers['access-control-allow-origin'],
                    origin === ORIGIN ? ORIGIN : undefined,
                    header,
                );
                raw.close();
            }
    });

    test('PATCH and DELETE come without a body and its length', async (t) => {
        const server = await start(t);
        const { text } = await post(server, NOTE);
        const raw = await server.openRaw();

        raw.send(`PATCH /notes/${text} HTTP/1.1\r\nHost: x\r\n\r\n`);
        assert.equal(JSON.parse((await raw.response()).text).done, true);
        raw.send(`DELETE /notes/${text} HTTP/1.1\r\nHost: x\r\n\r\n`);
        assert.equal((await raw.response()).status, 204);
        raw.close();
        assert.equal(server.count('notes'), 0);
    });

    test('null clears, and what is absent stays', async (t) => {
        const server = await start(t);
        const { text } = await post(server, NOTE);
        const patch = async (body) =>
            (await server.client.request('PATCH', `/notes/${text}`, { body })).json();

        assert.deepEqual(Object.keys(await patch('{"due":null,"done":false}')), [
            '_creation_time',
            '_id',
            'done',
            'extra',
            'text',
            'title',
        ]);
        const kept = await patch('{"extra":{"a":null,"b":[null,1]}}');
        assert.deepEqual(kept.extra.b, [null, 1]);
        assert.equal(kept.text, NOTE.text);
        assert.deepEqual((await patch('{"extra":null,"text":null}')).extra, undefined);
    });
});
