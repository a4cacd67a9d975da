// SPDX-License-Identifier: MIT
// Two ways to talk HTTP: a well-behaved client with kept connections, and a bare socket for
// everything that a well-behaved client would never send.

import http from 'node:http';
import https from 'node:https';
import net from 'node:net';

/** A client that keeps up to `connections` connections alive. */
export class Client {
    constructor(url, { connections = 8, ...options } = {}) {
        this.url = new URL(url);
        this.transport = this.url.protocol === 'https:' ? https : http;
        this.agent = new this.transport.Agent({
            keepAlive: true,
            maxSockets: connections,
            maxFreeSockets: connections,
            scheduling: 'fifo',
            ...options,
        });
    }

    /** Returns { status, headers, text, json() }; rejects when the connection breaks. */
    request(method, path, { headers = {}, body, timeout = 30_000 } = {}) {
        return new Promise((resolve, reject) => {
            const request = this.transport.request({
                agent: this.agent,
                method,
                hostname: this.url.hostname.replace(/^\[|\]$/g, ''),
                port: this.url.port,
                path,
                headers: {
                    ...(body === undefined
                        ? {}
                        : {
                              'Content-Type': 'application/json',
                              'Content-Length': Buffer.byteLength(body),
                          }),
                    ...headers,
                },
            });
            const timer = setTimeout(
                () => request.destroy(new Error(`${method} ${path}: no answer in ${timeout} ms`)),
                timeout,
            );

            request.on('error', (error) => {
                clearTimeout(timer);
                reject(error);
            });
            request.on('response', (response) => {
                const chunks = [];

                response.on('data', (chunk) => chunks.push(chunk));
                response.on('error', reject);
                response.on('end', () => {
                    clearTimeout(timer);
                    const text = Buffer.concat(chunks).toString();
                    resolve({
                        status: response.statusCode,
                        headers: response.headers,
                        text,
                        json: () => JSON.parse(text),
                    });
                });
            });
            request.end(body);
        });
    }

    close() {
        this.agent.destroy();
    }
}

/** A connection of bytes. */
export class RawConnection {
    static open(url, { timeout = 60_000 } = {}) {
        const { hostname, port } = new URL(url);
        const connection = new RawConnection();

        return new Promise((resolve, reject) => {
            connection.socket = net.connect(Number(port), hostname.replace(/^\[|\]$/g, ''));
            connection.socket.setNoDelay(true);
            connection.socket.setTimeout(timeout, () => connection.socket.destroy());
            connection.socket.once('connect', () => resolve(connection));
            connection.socket.once('error', reject);
            connection.socket.on('data', (chunk) => {
                connection.received = Buffer.concat([connection.received, chunk]);
                connection.#changed();
            });
            // An abortive close is a close too: what matters is what had been received before.
            connection.socket.on('error', () => {});
            connection.socket.on('end', () => {
                connection.closed = true;
                connection.#changed();
            });
            connection.socket.on('close', () => {
                connection.closed = true;
                connection.#changed();
            });
        });
    }

    received = Buffer.alloc(0);
    closed = false;
    #waiting = [];

    #changed() {
        for (const wake of this.#waiting.splice(0)) wake();
    }

    send(...parts) {
        for (const part of parts) this.socket.write(part);
    }

    /** Wait until something arrives or the peer closes; false when neither happens in time. */
    async #more(deadline) {
        const left = deadline - Date.now();
        if (this.closed || left <= 0) return false;
        return await new Promise((resolve) => {
            const timer = setTimeout(() => resolve(false), left);
            this.#waiting.push(() => {
                clearTimeout(timer);
                resolve(true);
            });
        });
    }

    /**
     * The next response, { status, headers, text }, or null when the peer closed (or said nothing)
     * before there was one.
     */
    async response(ms = 10_000) {
        const deadline = Date.now() + ms;

        for (;;) {
            const end = this.received.indexOf('\r\n\r\n');
            if (end >= 0) {
                const [first, ...lines] = this.received
                    .subarray(0, end)
                    .toString('latin1')
                    .split('\r\n');
                const headers = Object.fromEntries(
                    lines.map((line) => {
                        const colon = line.indexOf(':');
                        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
                    }),
                );
                const status = Number(/^HTTP\/1\.[01] (\d{3}) /.exec(first + ' ')?.[1]);
                const length = status === 100 ? 0 : Number(headers['content-length'] ?? 0);
                const total = end + 4 + length;
                if (this.received.length >= total) {
                    const text = this.received.subarray(end + 4, total).toString();
                    this.received = this.received.subarray(total);
                    return { status, headers, text };
                }
            }
            if (!(await this.#more(deadline))) return null;
        }
    }

    /** True once the peer has closed, false when it hasn't in time. */
    async isClosedWithin(ms) {
        const deadline = Date.now() + ms;
        while (!this.closed) if (!(await this.#more(deadline))) return this.closed;
        return true;
    }

    close() {
        this.socket.destroy();
    }
}
