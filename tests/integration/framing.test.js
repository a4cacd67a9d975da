// SPDX-License-Identifier: MIT
// What a proxy, a broken client or somebody who means harm may send: how requests are framed, and
// that the slow and the silent take nothing from the others.

import assert from 'node:assert/strict';

import {
    describe,
    describeTogether,
    inParallel,
    load,
    patience,
    sleep,
    test,
} from './lib/harness.js';
import { sharedServer } from './lib/server.js';
import { signature, userCreated } from './lib/workos.js';

const HOST = 'Host: app.example.com';

/** The bytes of a request from its lines. */
const lines = (...list) => list.join('\r\n') + '\r\n\r\n';

/** A signed webhook as raw bytes; `framing` are the header lines that say how long the body is. */
async function rawWebhook(event, framing) {
    const body = JSON.stringify(event);
    const length = Buffer.byteLength(body);
    const head = lines(
        'POST /workos/webhook HTTP/1.1',
        HOST,
        `WorkOS-Signature: ${await signature(body)}`,
        'Content-Type: application/json',
        ...(framing?.(length) ?? [`Content-Length: ${length}`]),
    );
    return { head, body };
}

const chunked = (body) => `${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n0\r\n\r\n`;

const stored = (server, event) =>
    server.row('SELECT count(*) FROM workos_events WHERE id = ?', event.id);

describe('a request whose length is in doubt is refused, and its connection closed', () => {
    const server = sharedServer();

    for (const [what, framing, statuses] of [
        ['no Content-Length', () => [], [411]],
        [
            'two different Content-Lengths',
            (n) => [`Content-Length: ${n}`, `Content-Length: ${n - 5}`],
            [400],
        ],
        [
            'the same Content-Length twice',
            (n) => [`Content-Length: ${n}`, `content-length: ${n}`],
            [400],
        ],
        ['a list as Content-Length', (n) => [`Content-Length: ${n}, ${n}`], [400]],
        ['a signed Content-Length', (n) => [`Content-Length: +${n}`], [400]],
        ['a negative Content-Length', (n) => [`Content-Length: -${n}`], [400]],
        ['a Content-Length with letters', (n) => [`Content-Length: ${n}abc`], [400]],
        ['a hexadecimal Content-Length', (n) => [`Content-Length: 0x${n.toString(16)}`], [400]],
        ['an empty Content-Length', () => ['Content-Length:'], [400, 411]],
        ['a Content-Length with a fraction', (n) => [`Content-Length: ${n}.0`], [400]],
        [
            'a Content-Length beyond every integer',
            () => ['Content-Length: 99999999999999999999'],
            [400, 413],
        ],
        [
            'a Content-Length of 2^64 and what there is',
            (n) => [`Content-Length: ${2n ** 64n + BigInt(n)}`],
            [400, 413],
        ],
        ['a Content-Length above the limit', () => ['Content-Length: 2000000'], [413]],
        [
            'Content-Length and Transfer-Encoding',
            (n) => [`Content-Length: ${n}`, 'Transfer-Encoding: chunked'],
            [400, 411, 501],
        ],
        [
            'Transfer-Encoding before Content-Length',
            (n) => ['Transfer-Encoding: chunked', `Content-Length: ${n}`],
            [400, 411, 501],
        ],
        [
            'Transfer-Encoding: identity beside a length',
            (n) => [`Content-Length: ${n}`, 'Transfer-Encoding: identity'],
            [400, 411, 501],
        ],
        [
            'a Content-Length behind 70 other headers',
            (n) => [
                ...Array.from({ length: 70 }, (_, i) => `X-Filler-${i}: ${i}`),
                `Content-Length: ${n}`,
            ],
            [400, 431],
        ],
        ['a list with a blank behind it as Content-Length', (n) => [`Content-Length: ${n}, ${n} `], [400]],
        [
            'two Content-Lengths, one with a blank behind it',
            (n) => [`Content-Length: ${n} `, `Content-Length: ${n}`],
            [400],
        ],
        [
            'a Transfer-Encoding with a blank behind it, and a length',
            (n) => ['Transfer-Encoding: chunked ', `Content-Length: ${n} `],
            [400],
        ],
        ['a space before the colon, and one behind', (n) => [`Content-Length : ${n} `], [400, 411]],
        ['a space before the colon', (n) => [`Content-Length : ${n}`], [400, 411]],
        ['a Content-Length on a folded line', (n) => [`Content-Length:\r\n ${n}`], [400, 411]],
    ]) {
        test(`${what}: ${statuses.join(' or ')}`, async () => {
            const event = userCreated();
            const { head, body } = await rawWebhook(event, framing);
            const connection = await server.openRaw();
            connection.send(head + body);
            const answer = await connection.response();
            assert.ok(answer, 'it is answered, not just cut off');
            assert.ok(statuses.includes(answer.status), `${answer.status} ${answer.text}`);
            assert.ok(await connection.isClosedWithin(patience(5000)), 'the connection is closed');
            assert.equal(
                connection.received.toString(),
                '',
                'the body is not taken for another request',
            );
            assert.equal(stored(server, event), 0);
        });
    }

    test('a chunked body is refused', async () => {
        const event = userCreated();
        const { head, body } = await rawWebhook(event, () => ['Transfer-Encoding: chunked']);
        const connection = await server.openRaw();
        connection.send(head + chunked(body));
        const answer = await connection.response();
        assert.ok([400, 411, 501].includes(answer?.status), `${answer?.status}`);
        assert.ok(await connection.isClosedWithin(patience(5000)));
        assert.equal(stored(server, event), 0);
    });

    test('a request smuggled behind two lengths is not served', async () => {
        const smuggled = userCreated();
        const inner = await rawWebhook(smuggled);
        const connection = await server.openRaw();
        connection.send(
            lines(
                'POST /workos/webhook HTTP/1.1',
                HOST,
                'Content-Length: 5',
                'Transfer-Encoding: chunked',
            ) +
                '0\r\n\r\n' +
                inner.head +
                inner.body,
        );
        await connection.isClosedWithin(patience(5000));
        await sleep(100);
        assert.equal(stored(server, smuggled), 0);
        assert.doesNotMatch(connection.received.toString(), /200 OK/);
    });

    test('70 headers before nothing unusual: refused with 400 or 431, no header is silently dropped', async () => {
        const connection = await server.openRaw();
        connection.send(
            lines(
                'GET /healthz HTTP/1.1',
                HOST,
                ...Array.from({ length: 70 }, (_, i) => `X-Filler-${i}: ${i}`),
            ),
        );
        const answer = await connection.response();
        assert.ok([400, 431].includes(answer?.status), `${answer?.status}`);
    });

    test('50 headers are fine', async () => {
        const event = userCreated();
        const { head, body } = await rawWebhook(event, (n) => [
            ...Array.from({ length: 50 }, (_, i) => `X-Filler-${i}: ${i}`),
            `Content-Length: ${n}`,
        ]);
        const connection = await server.openRaw();
        connection.send(head + body);
        assert.equal((await connection.response())?.status, 200);
        connection.close();
    });
});

describe('nonsense', () => {
    const server = sharedServer();

    for (const [what, bytes] of [
        ['garbage', Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7919) % 256))],
        ['a TLS greeting', Buffer.from('16030100f8010000f40303', 'hex')],
        ['no version', 'GET /healthz\r\n\r\n'],
        ['an unknown version', lines('GET /healthz HTTP/9.9', HOST)],
        ['an unknown method', lines('BREW /healthz HTTP/1.1', HOST)],
        ['a lower-case method', lines('get /healthz HTTP/1.1', HOST)],
        ['a header without a colon', lines('GET /healthz HTTP/1.1', HOST, 'no colon here')],
        ['an empty header name', lines('GET /healthz HTTP/1.1', HOST, ': value')],
        ['a NUL in a header', lines('GET /healthz HTTP/1.1', HOST, 'X-Null: a\0b')],
        ['a NUL in the path', lines('GET /heal\0thz HTTP/1.1', HOST)],
        ['a request line without end', `GET /${'x'.repeat(100_000)}`],
        ['a header without end', `GET /healthz HTTP/1.1\r\n${HOST}\r\nX: ${'x'.repeat(100_000)}`],
        ['only line breaks', '\r\n'.repeat(2000)],
        [
            'an absolute address of another host',
            lines('GET http://elsewhere.example/healthz HTTP/1.1', HOST),
        ],
        ['CONNECT', lines('CONNECT example.com:443 HTTP/1.1', HOST)],
        ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ]) {
        test(`${what} harms nobody`, async () => {
            const connection = await server.openRaw();
            connection.send(bytes);
            const answer = await connection.response(500);
            if (answer !== null)
                assert.ok(
                    answer.status < 500 || answer.status === 501 || answer.status === 505,
                    `${answer.status}`,
                );
            connection.close();
            await server.deliver(userCreated());
        });
    }

    // Symptom: 400, "the request is not well-formed" (RFC 9110, 9.1: 501 for a method that isn't known).
    for (const [line, status] of [
        ['BREW /healthz HTTP/1.1', 501],
        ['TRACE /healthz HTTP/1.0', 501],
        ['get /healthz HTTP/1.1', 501],
        ['BR(W /healthz HTTP/1.1', 400],
        ['BREW /healthz 1.1', 400],
        ['BREW /healthz', 400],
    ])
        test(`${line}: ${status}, and the connection is closed`, async () => {
            const connection = await server.openRaw();
            connection.send(lines(line, HOST, 'Content-Length: 2') + 'GET');
            const answer = await connection.response();
            assert.equal(answer?.status, status, answer?.text);
            assert.ok(await connection.isClosedWithin(patience(5000)));
            assert.equal(connection.received.toString(), '');
            connection.close();
        });

    test('clients that go away in the middle of anything leave no trace', async () => {
        const { head, body } = await rawWebhook(userCreated());
        const bytes = head + body;
        const before = server.count('workos_events');
        for (const part of [
            1,
            20,
            head.length - 2,
            head.length,
            head.length + 10,
            bytes.length - 1,
        ]) {
            const connection = await server.openRaw();
            connection.send(bytes.slice(0, part));
            await sleep(10);
            connection.close();
        }
        await server.deliver(userCreated());
        assert.equal(server.count('workos_events'), before + 1);
    });

    test('a client that goes away before its answer does not undo what it sent', async () => {
        const event = userCreated();
        const { head, body } = await rawWebhook(event);
        const connection = await server.openRaw();
        connection.socket.end(head + body);
        await connection.isClosedWithin(patience(5000));
        await server.deliver(userCreated());
        assert.ok([0, 1].includes(stored(server, event)));
        assert.equal(server.count('todo_lists'), server.count('workos_users'));
    });
});

describe('a connection', () => {
    const server = sharedServer();

    test('is kept alive for the next request, many times', async () => {
        const connection = await server.openRaw();
        for (let i = 0; i < 50; i++) {
            const { head, body } = await rawWebhook(userCreated());
            connection.send(head + body);
            assert.equal((await connection.response())?.status, 200, `request ${i}`);
        }
        assert.equal(connection.closed, false);
        connection.close();
    });

    test('is kept after refusals that leave its framing certain: 401, 404, 405', async () => {
        const connection = await server.openRaw();
        connection.send(lines('POST /workos/webhook HTTP/1.1', HOST, 'Content-Length: 2') + '{}');
        assert.equal((await connection.response())?.status, 401);
        connection.send(lines('POST /nowhere HTTP/1.1', HOST, 'Content-Length: 2') + '{}');
        assert.equal((await connection.response())?.status, 404);
        connection.send(lines('GET /workos/webhook HTTP/1.1', HOST));
        assert.equal((await connection.response())?.status, 405);
        const { head, body } = await rawWebhook(userCreated());
        connection.send(head + body);
        assert.equal((await connection.response())?.status, 200);
        connection.close();
    });

    test('is closed when the client asks: Connection: close, and HTTP/1.0', async () => {
        for (const [version, ...extra] of [['1.1', 'Connection: close'], ['1.0']]) {
            const connection = await server.openRaw();
            connection.send(lines(`GET /healthz HTTP/${version}`, HOST, ...extra));
            assert.equal((await connection.response())?.status, 200);
            assert.ok(await connection.isClosedWithin(patience(5000)));
        }
    });

    test('carries pipelined requests: all are answered, in order', async () => {
        const events = Array.from({ length: 5 }, () => userCreated());
        const requests = await Promise.all(events.map((event) => rawWebhook(event)));
        const connection = await server.openRaw();
        connection.send(
            requests.map(({ head, body }) => head + body).join('') +
                lines('GET /nowhere HTTP/1.1', HOST),
        );
        for (const event of events) {
            assert.equal((await connection.response())?.status, 200);
            assert.equal(stored(server, event), 1);
        }
        assert.equal((await connection.response())?.status, 404);
        connection.close();
    });

    test('may deliver a request in pieces, cut anywhere', async () => {
        const event = userCreated({ first_name: '😀' });
        const { head, body } = await rawWebhook(event);
        const bytes = Buffer.from(head + body);
        const connection = await server.openRaw();
        for (let at = 0; at < bytes.length; at += 61) {
            connection.send(bytes.subarray(at, at + 61));
            await sleep(1);
        }
        assert.equal((await connection.response())?.status, 200);
        assert.equal(stored(server, event), 1);
        connection.close();
    });

    test('may be polite first: Expect: 100-continue', async () => {
        const event = userCreated();
        const { head, body } = await rawWebhook(event, (n) => [
            `Content-Length: ${n}`,
            'Expect: 100-continue',
        ]);
        const connection = await server.openRaw();
        connection.send(head);
        // As curl does: wait a second for the go-ahead, then send anyway.
        const first = await connection.response(1000);
        if (first) assert.equal(first.status, 100);
        connection.send(body);
        assert.equal((await connection.response())?.status, 200);
        assert.equal(stored(server, event), 1);
        connection.close();
    });

    // Symptom: 400 for the length, 417 for the expectation (RFC 9112, 5.1: they belong to no value).
    test('may have blanks behind the values of headers', async () => {
        const event = userCreated();
        const { head, body } = await rawWebhook(event, (n) => [
            `Content-Length: ${n} `,
            'Expect: 100-continue  ',
            'X-Empty:  ',
        ]);
        const connection = await server.openRaw();
        connection.send(head);
        const first = await connection.response(1000);
        if (first) assert.equal(first.status, 100);
        connection.send(body + lines('GET /healthz HTTP/1.1', `${HOST} `));
        assert.equal((await connection.response())?.status, 200);
        assert.equal((await connection.response())?.status, 200);
        assert.equal(stored(server, event), 1);
        connection.close();
    });

    test('may ask for /healthz with an empty line before (as old clients do)', async () => {
        const connection = await server.openRaw();
        connection.send('\r\n' + lines('GET /healthz HTTP/1.1', HOST));
        const answer = await connection.response(2000);
        assert.ok(answer === null || [200, 400].includes(answer.status), `${answer?.status}`);
        connection.close();
    });

    test('a bare CR or LF as a line end is never half understood', async () => {
        for (const ending of ['\n', '\r']) {
            const event = userCreated();
            const { head, body } = await rawWebhook(event);
            const connection = await server.openRaw();
            connection.send(head.replaceAll('\r\n', ending) + body);
            const answer = await connection.response(500);
            assert.ok(
                answer === null || answer.status === 400 || answer.status === 200,
                `${answer?.status}`,
            );
            connection.close();
        }
        await server.deliver(userCreated());
    });
});

describeTogether('the slow and the silent', () => {
    const server = sharedServer();
    const CUT_OFF_WITHIN = 45_000;

    /** Honest requests while others are slow: each must be quick. */
    async function honestRequests(count) {
        const client = server.newClient({ connections: 4 });
        let slowest = 0;
        await inParallel(4, Array.from({ length: count }), async () => {
            const started = Date.now();
            await server.deliver(userCreated(), { client });
            slowest = Math.max(slowest, Date.now() - started);
        });
        assert.ok(slowest < patience(2000), `an honest request took ${slowest} ms`);
    }

    for (const [what, prepare] of [
        ['header', (head) => [head.slice(0, 40), head.slice(40)]],
        ['body', (head, body) => [head + body.slice(0, 10), body.slice(10)]],
    ]) {
        test(`a ${what} that trickles in, a byte now and then, is cut off`, async () => {
            const event = userCreated({ padding: 'x'.repeat(2000) });
            const { head, body } = await rawWebhook(event);
            const [first, rest] = prepare(head + (what === 'header' ? 'x'.repeat(2000) : ''), body);
            const connection = await server.openRaw();
            const started = Date.now();
            connection.send(first);
            for (let i = 0; !connection.closed && Date.now() - started < CUT_OFF_WITHIN; i++) {
                connection.send(rest[i % (rest.length - 1)].replace(/[\r\n]/, 'x'));
                await sleep(100);
            }
            assert.ok(connection.closed, `not cut off after ${Date.now() - started} ms`);
            assert.equal(stored(server, event), 0);
        });
    }

    test('a body that never comes is cut off', async () => {
        const { head } = await rawWebhook(userCreated());
        const connection = await server.openRaw();
        connection.send(head);
        assert.ok(await connection.isClosedWithin(CUT_OFF_WITHIN));
    });

    test('300 idle connections, 100 half-sent requests and 20 trickles: the honest are served', async () => {
        const { head, body } = await rawWebhook(userCreated());
        const open = (count) =>
            inParallel(50, Array.from({ length: count }), () => server.openRaw());
        const idle = await open(load(300, 300));
        const halfSent = await open(100);
        const trickling = await open(20);

        halfSent.forEach((connection, i) => connection.send(i % 2 ? head : head.slice(0, 50)));
        trickling.forEach((connection) => connection.send(head));
        const dripping = setInterval(
            () => trickling.forEach((connection) => !connection.closed && connection.send('x')),
            50,
        );
        try {
            await honestRequests(load(400, 100));
            assert.equal((await server.client.request('GET', '/healthz')).status, 200);
        } finally {
            clearInterval(dripping);
        }

        // An idle connection is still good for a request, if the server hasn't closed it.
        const survivor = idle.find((connection) => !connection.closed);
        if (survivor) {
            survivor.send(head + body);
            assert.equal((await survivor.response())?.status, 200);
        }
        [...idle, ...halfSent, ...trickling].forEach((connection) => connection.close());
    });

    test('a client that does not read its answers stops nobody', async () => {
        const connection = await server.openRaw();
        const { head, body } = await rawWebhook(userCreated());
        connection.socket.pause();
        for (let i = 0; i < 2000; i++) connection.send(head + body);
        await honestRequests(load(200, 50));
        connection.close();
    });

    test('more connections than threads: all that have something to say are heard', async () => {
        const client = server.newClient({ connections: 200 });
        await inParallel(200, Array.from({ length: load(2000, 400) }), () =>
            server.deliver(userCreated(), { client }),
        );
    });
});
