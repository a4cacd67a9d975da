// SPDX-License-Identifier: MIT
// Access tokens as WorkOS makes them, and as it never would; and a server of the keys that they are
// signed with, which misbehaves on demand.
//
//     const keys = await startKeyServer(t);
//     const server = await startServer(t, { env: keys.env });
//     const token = keys.sign({ sub: user.id });

import { constants, createHmac, generateKeyPairSync, sign as signBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

import { atEnd, until } from './harness.js';
import { newId } from './workos.js';

export const CLIENT_ID = 'client_01JZTOKENS';
export const ISSUER = 'https://api.workos.com';

export const base64url = (data) => Buffer.from(data).toString('base64url');
const isRaw = (value) => typeof value === 'string' || Buffer.isBuffer(value);
const partOf = (value) => base64url(isRaw(value) ? value : JSON.stringify(value));

/** A time as a token has it: in seconds, the whole one before or at the given moment. */
export const seconds = (ms = Date.now()) => Math.floor(ms / 1000);

let made = 0;

/** A key pair with an id: { kid, privateKey, publicKey, jwk }. type: 'rsa', 'ec' … */
export function newKey({ kid = `key_${++made}`, type = 'rsa', ...options } = {}) {
    const defaults = { rsa: { modulusLength: 2048 }, ec: { namedCurve: 'P-256' } };
    const { privateKey, publicKey } = generateKeyPairSync(type, { ...defaults[type], ...options });
    const jwk = {
        ...publicKey.export({ format: 'jwk' }),
        kid,
        use: 'sig',
        alg: type === 'rsa' ? 'RS256' : 'ES256',
        x5c: ['MIIB'], // WorkOS sends a certificate, too; nobody needs it
        'x5t#S256': 'Zm9v',
    };
    return { kid, privateKey, publicKey, jwk };
}

const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };

/** text -> signature, by the name of the algorithm. */
const algorithms = {
    RS256: (key) => (text) => signBytes('RSA-SHA256', text, key.privateKey),
    RS384: (key) => (text) => signBytes('RSA-SHA384', text, key.privateKey),
    RS512: (key) => (text) => signBytes('RSA-SHA512', text, key.privateKey),
    RS1: (key) => (text) => signBytes('RSA-SHA1', text, key.privateKey),
    PS256: (key) => (text) => signBytes('RSA-SHA256', text, { key: key.privateKey, ...pss }),
    ES256: (key) => (text) =>
        signBytes('SHA256', text, { key: key.privateKey, dsaEncoding: 'ieee-p1363' }),
    none: () => () => Buffer.alloc(0),
};

/** What a symmetric algorithm would take for its secret. */
export const hmacWith = (secret) => (text) => createHmac('sha256', secret).update(text).digest();

/** What signs a text with that key. */
export const signer = (key, alg = 'RS256') => algorithms[alg](key);

/** Header and claims, objects or texts as they are, signed by a function of text -> signature. */
export function assemble(header, claims, signature) {
    const text = `${partOf(header)}.${partOf(claims)}`;
    return `${text}.${base64url(signature(text))}`;
}

/** The claims of a good token; undefined takes one away. */
export function newClaims(claims = {}) {
    const now = seconds();
    return {
        iss: ISSUER,
        sub: 'user_nobody',
        sid: newId('session'),
        jti: newId('jti'),
        iat: now,
        exp: now + 300,
        client_id: CLIENT_ID,
        ...claims,
    };
}

/** A token of these claims; by: the algorithm that really signs it. */
export function signToken(key, claims = {}, { header = {}, alg = 'RS256', by = alg } = {}) {
    return assemble(
        { alg, typ: 'JWT', kid: key.kid, ...header },
        newClaims(claims),
        signer(key, by),
    );
}

/** GET of the key set. keys, and what goes wrong: see the constructor. */
export class KeyServer {
    #server;

    constructor(keys, host = '127.0.0.1') {
        this.keys = keys;
        this.host = host;
        this.answer = undefined; // (request) -> { status, body (text or object), headers }
        this.hangs = false; // who asks meanwhile never gets an answer
        this.requests = []; // { path, at }
        this.#server = http.createServer((request, response) => this.#take(request, response));
    }

    async listen(port = 0) {
        this.#server.listen(port, this.host);
        await once(this.#server, 'listening');
        this.port = this.#server.address().port;
        return this;
    }

    /** Nobody is there any more; listen(port) brings it back. */
    async close() {
        if (!this.#server.listening) return;
        const closed = once(this.#server, 'close');
        this.#server.close();
        this.#server.closeAllConnections();
        await closed;
    }

    get url() {
        return `http://${this.host}:${this.port}/sso/jwks/${CLIENT_ID}`;
    }

    /** The variables with which authkitd takes these keys, and all else as if they were WorkOS's. */
    get env() {
        return { WORKOS_CLIENT_ID: CLIENT_ID, AUTHKITD_JWKS_URL: this.url };
    }

    get set() {
        return { keys: this.keys.map((key) => key?.jwk ?? key) };
    }

    /** By the first key, unless told otherwise. */
    sign(claims, { key = this.keys[0], ...options } = {}) {
        return signToken(key, claims, options);
    }

    async waitForRequests(count) {
        await until(`${count} requests for the keys`, () => this.requests.length >= count);
    }

    #take(request, response) {
        this.requests.push({ path: request.url, at: Date.now(), headers: request.headers });
        if (this.hangs) return;
        const { status = 200, body = this.set, headers = {} } = this.answer?.(request) ?? {};
        response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
        response.end(isRaw(body) ? body : JSON.stringify(body));
    }
}

let keyServers = 0;

/** Nobody else listens there, so that a port that was given up can be taken again. */
function ownLoopbackAddress() {
    keyServers += 1;
    return `127.${1 + (process.pid % 250)}.${(process.pid >> 8) % 250}.${1 + (keyServers % 250)}`;
}

/** A server of keys (one, when none is given) for one test. */
export async function startKeyServer(t, keys = [newKey()]) {
    const server = await new KeyServer(keys, ownLoopbackAddress()).listen();
    atEnd(t, () => server.close());
    return server;
}

export const bearer = (token) => ({ Authorization: `Bearer ${token}` });

/** GET /workos/user with that token. */
export const whoIs = (server, token, headers = {}) =>
    server.client.request('GET', '/workos/user', {
        headers: { ...(token === undefined ? {} : bearer(token)), ...headers },
    });
