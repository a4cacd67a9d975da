// SPDX-License-Identifier: MIT
// Who calls: access tokens, good and bad ones, the keys that they are signed with, and GET
// /workos/user, from this origin and from others.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';

import {
    describe,
    describeTogether,
    inParallel,
    load,
    patience,
    sleep,
    test,
    until,
} from './lib/harness.js';
import { newFolder, runCommand, sharedServer, startServer, writeFile } from './lib/server.js';
import {
    CLIENT_ID,
    ISSUER,
    KeyServer,
    assemble,
    base64url,
    bearer,
    hmacWith,
    newClaims,
    newKey,
    seconds,
    signToken,
    signer,
    startKeyServer,
    whoIs,
} from './lib/tokens.js';
import { newId, userCreated, userDeleted, userUpdated } from './lib/workos.js';

const PAUSE_MS = 5000; // between two readings of the keys

/** 401, with nothing in it but what any caller may know. */
function assertRefused(answer, code = 'token_invalid') {
    assert.equal(answer.status, 401, `${answer.status} ${answer.text}`);
    const { error, ...more } = answer.json();
    assert.deepEqual(more, {});
    assert.deepEqual(Object.keys(error), ['code', 'message']);
    assert.equal(error.code, code);
    assert.match(error.message, /./);
    assert.equal(
        answer.headers['www-authenticate'],
        code === 'token_missing' ? 'Bearer' : 'Bearer error="invalid_token"',
    );
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.equal(answer.headers['cache-control'], 'no-store');
}

function assertIs(answer, user) {
    assert.equal(answer.status, 200, `${answer.status} ${answer.text}`);
    assert.equal(answer.json().id, user.id ?? user);
}

async function addUser(server, fields) {
    const event = userCreated(fields);
    await server.deliver(event);
    return event.data;
}

// ------------------------------------------------------------------------------- good and bad ones

const USER = 'user_01JZTHEUSER';
const key = newKey();
const second = newKey();
const elliptic = newKey({ type: 'ec' });
const stray = newKey();
let strays = 0;

/** One that nobody knows, as good as new: to make one takes a tenth of a second, and some tests need hundreds. */
const unknownKey = () => ({ ...stray, kid: `stray_${++strays}` });

const keys = await new KeyServer([key, second, elliptic]).listen();
const strangers = await new KeyServer([newKey({ kid: 'strange' })]).listen();

after(() => Promise.all([keys.close(), strangers.close()]));

const sign = (claims, options) => signToken(key, { sub: USER, ...claims }, options);
const withHeader = (header) => sign({}, { header });
const good = { alg: 'RS256', typ: 'JWT', kid: key.kid };
const claims = (more) => newClaims({ sub: USER, ...more });
const signed = (header, body) => assemble(header, body, signer(key));
const parts = () => sign().split('.');
const pem = (form) => key.publicKey.export({ type: form, format: 'pem' });

/** The claims of a good token changed, and the signature left as it was. */
function tampered(change) {
    const [header, body, signature] = parts();
    const changed = { ...JSON.parse(Buffer.from(body, 'base64url').toString()), ...change };
    return [header, base64url(JSON.stringify(changed)), signature].join('.');
}

/** The last character has bits that are in no byte: the same signature, spelled differently. */
function respelled() {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const token = sign();
    return token.slice(0, -1) + alphabet[alphabet.indexOf(token.at(-1)) ^ 1];
}

/** A token whose length is about that, by a claim of no meaning. */
const ofLength = (length) => sign({ padding: 'x'.repeat(Math.floor((length - 800) * 0.75)) });

const GOOD = {
    'as WorkOS makes it': () => sign(),
    'with all that WorkOS may put in': () =>
        sign({
            org_id: 'org_1',
            role: 'admin',
            roles: ['admin'],
            permissions: ['todos:write'],
            entitlements: [],
            feature_flags: ['new'],
            act: { sub: 'support@example.com' },
            auth_time: seconds(),
            email: 'ada@example.com',
            name: 'Ada Löwe 😀',
        }),
    'without the claims that it need not have': () =>
        sign({ client_id: undefined, sid: undefined, jti: undefined, iat: undefined }),
    'by the second key': () => signToken(second, { sub: USER }),
    'with the other issuers of WorkOS': () => sign({ iss: `${ISSUER}/` }),
    "with the issuer of the app's own": () =>
        sign({ iss: `${ISSUER}/user_management/${CLIENT_ID}` }),
    'with our audience': () => sign({ aud: CLIENT_ID }),
    'with our audience among others': () => sign({ aud: ['x', CLIENT_ID] }),
    'expired, not longer ago than clocks differ': () =>
        sign({ exp: Math.ceil(Date.now() / 1000) - 59 }),
    'issued in the future, as far as clocks differ': () => sign({ iat: seconds() + 59 }),
    'good in the future, as far as clocks differ': () => sign({ nbf: seconds() + 59 }),
    'with an nbf of long ago': () => sign({ nbf: 0 }),
    'with a date that has a fraction': () => sign({ exp: seconds() + 100.5 }),
    'with a date in another notation': () =>
        signed(
            good,
            JSON.stringify(claims()).replace(/"exp":\d+/, `"exp":${(seconds() + 100) / 1e3}e3`),
        ),
    'without a typ': () => withHeader({ typ: undefined }),
    'with the typ of access tokens': () => withHeader({ typ: 'at+jwt' }),
    'with claims in another layout': () => signed(good, JSON.stringify(claims(), null, '\t')),
    'with an escaped subject': () =>
        signed(good, JSON.stringify(claims()).replace(USER, `\\u0075${USER.slice(1)}`)),
    'with a header that names its own key, which nobody looks at': () =>
        withHeader({ jku: strangers.url, x5u: strangers.url, jwk: strangers.keys[0].jwk }),
    'of 8 KiB': () => ofLength(8192),
};

const BAD = {
    // The algorithm is ours to choose.
    'alg none': () => sign({}, { alg: 'none' }),
    'alg None': () => sign({}, { alg: 'None', by: 'none' }),
    'alg NONE': () => sign({}, { alg: 'NONE', by: 'none' }),
    'alg none with a good signature': () => sign({}, { alg: 'none', by: 'RS256' }),
    'no signature': () => parts().slice(0, 2).join('.') + '.',
    'no alg': () => withHeader({ alg: undefined }),
    'an alg that is a number': () => withHeader({ alg: 256 }),
    'an alg that is a list': () => withHeader({ alg: ['RS256'] }),
    'alg rs256': () => sign({}, { alg: 'rs256', by: 'RS256' }),
    'alg RS256 with a space': () => sign({}, { alg: 'RS256 ', by: 'RS256' }),
    'alg RS384': () => sign({}, { alg: 'RS384' }),
    'alg RS512': () => sign({}, { alg: 'RS512' }),
    'alg PS256': () => sign({}, { alg: 'PS256' }),
    'alg ES256, by a key of the set': () => signToken(elliptic, { sub: USER }, { alg: 'ES256' }),
    'RS256 by name, RS384 in truth': () => sign({}, { by: 'RS384' }),
    'RS256 by name, RS512 in truth': () => sign({}, { by: 'RS512' }),
    'RS256 by name, SHA-1 in truth': () => sign({}, { by: 'RS1' }),
    'RS256 by name, PS256 in truth': () => sign({}, { by: 'PS256' }),
    'RS256 by name, ES256 in truth': () =>
        assemble({ ...good, kid: elliptic.kid }, claims(), signer(elliptic, 'ES256')),
    ...Object.fromEntries(
        [
            ['the public key (SPKI, PEM)', () => pem('spki')],
            ['the public key (PKCS #1, PEM)', () => pem('pkcs1')],
            ['the public key without the last newline', () => pem('spki').trimEnd()],
            ['the public key (DER)', () => key.publicKey.export({ type: 'spki', format: 'der' })],
            ['the modulus', () => Buffer.from(key.jwk.n, 'base64url')],
            ['the modulus as text', () => key.jwk.n],
            ['the key as JSON', () => JSON.stringify(key.jwk)],
            ['nothing', () => ''],
        ].map(([name, secret]) => [
            `HS256 with ${name}`,
            () => assemble({ ...good, alg: 'HS256' }, claims(), hmacWith(secret())),
        ]),
    ),
    'RS256 by name, HS256 in truth': () => assemble(good, claims(), hmacWith(pem('spki'))),

    // The key is one of WorkOS's.
    'by a stranger, under the id of our key': () =>
        signToken(newKey({ kid: key.kid }), { sub: USER }),
    'by the other key, under the id of ours': () =>
        signToken({ ...second, kid: key.kid }, { sub: USER }),
    'of a key that nobody knows': () => signToken(newKey(), { sub: USER }),
    'by our key, under an unknown id': () => withHeader({ kid: 'unknown' }),
    'by our key, under no id': () => withHeader({ kid: undefined }),
    'under an empty id': () => withHeader({ kid: '' }),
    'under an id that is a number': () => withHeader({ kid: 1 }),
    'under an id that is null': () => withHeader({ kid: null }),
    'under an id of 10 kB': () => withHeader({ kid: 'k'.repeat(7000) }),
    'under an id that is a path': () => withHeader({ kid: '../../../../dev/null' }),
    'under an id that is SQL': () => withHeader({ kid: `x' UNION SELECT '${key.jwk.n}` }),
    'under an id with a NUL': () => withHeader({ kid: `${key.kid}\0` }),
    'under an id in capitals': () => withHeader({ kid: key.kid.toUpperCase() }),
    'with a key of its own in the header': () =>
        signToken(strangers.keys[0], { sub: USER }, { header: { jwk: strangers.keys[0].jwk } }),
    'with a key of its own in the header, under our id': () =>
        signToken(
            { ...strangers.keys[0], kid: key.kid },
            { sub: USER },
            { header: { jwk: { ...strangers.keys[0].jwk, kid: key.kid } } },
        ),
    'with an address of keys in the header': () =>
        signToken(
            strangers.keys[0],
            { sub: USER },
            { header: { jku: strangers.url, x5u: strangers.url } },
        ),
    'with an extension that must be understood': () => withHeader({ crit: ['b64'], b64: true }),

    // Every byte is signed.
    'with another subject': () => tampered({ sub: 'user_other' }),
    'with a longer life': () => tampered({ exp: seconds() + 1e6 }),
    'with the same claims in another layout': () => {
        const [header, body, signature] = parts();
        const text = Buffer.from(body, 'base64url').toString();
        return [header, base64url(`${text} `), signature].join('.');
    },
    'with another header': () =>
        [base64url(JSON.stringify({ ...good, x: 1 })), ...parts().slice(1)].join('.'),
    'with the signature of another': () =>
        [...parts().slice(0, 2), sign({ jti: 'x' }).split('.')[2]].join('.'),
    'with a signature cut short': () => sign().slice(0, -4),
    'with a longer signature': () => `${sign()}AAAA`,
    'with a signature of zeros': () =>
        [...parts().slice(0, 2), base64url(Buffer.alloc(256))].join('.'),
    'with a signature of one byte': () => [...parts().slice(0, 2), 'AQ'].join('.'),
    'with a signature of 3 kB': () =>
        [...parts().slice(0, 2), base64url(Buffer.alloc(3000, 7))].join('.'),
    'spelled differently': respelled,

    // The form.
    'one part': () => 'x',
    'one dot': () => parts().slice(0, 2).join('.'),
    'dots alone': () => '..',
    'four parts': () => `${sign()}.x`,
    'five parts, as if encrypted': () => `${parts().join('.')}.x.y`,
    'an empty header': () => ['', ...parts().slice(1)].join('.'),
    'empty claims': () => signed(good, ''),
    padding: () => `${sign()}==`,
    'padding in the middle': () => parts().join('=.'),
    'standard base64': () => {
        const [header, body] = parts();
        const text = `${header}.${body}`;
        const signature = signer(key)(text).toString('base64').replaceAll('=', '');
        return `${text}.${/[+/]/.test(signature) ? signature : `+${signature.slice(1)}`}`;
    },
    'a space in it': () => sign().replace('.', '. '),
    'a comma behind it': () => `${sign()},`,
    'two in one header': () => `${sign()} ${sign()}`,
    'quotes around it': () => `"${sign()}"`,
    'characters that base64 has not': () => sign().replace(/^.{10}/, 'é!$%&/()=?'.slice(0, 10)),
    'a length that base64 has not': () => signed(good, claims()).replace(/\.(\w)/, '.$1A'),
    'a header that is a list': () => signed([good], claims()),
    'a header that is a text': () => signed('"RS256"', claims()),
    'a header that is null': () => signed('null', claims()),
    'a header that is no JSON': () => signed('{"alg":"RS256"', claims()),
    'claims that are a list': () => signed(good, [claims()]),
    'claims that are a text': () => signed(good, '"x"'),
    'claims that are a number': () => signed(good, '1'),
    'claims that are null': () => signed(good, 'null'),
    'claims that are no JSON': () => signed(good, JSON.stringify(claims()).slice(0, -1)),
    'claims with something behind them': () => signed(good, `${JSON.stringify(claims())} x`),
    'claims that are no UTF-8': () => signed(good, Buffer.from([0x22, 0xff, 0xfe, 0x22])),
    'claims nested 5,000 deep': () => signed(good, `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`),
    'a gzip file': () => signed({ ...good, zip: 'DEF' }, Buffer.from([0x1f, 0x8b, 8, 0, 0])),

    // Whom it is for.
    'no issuer': () => sign({ iss: undefined }),
    'another issuer': () => sign({ iss: 'https://evil.example' }),
    'an issuer that begins like ours': () => sign({ iss: `${ISSUER}.evil.example` }),
    'an issuer that ends like ours': () => sign({ iss: `https://evil.example/${ISSUER}` }),
    'an issuer with two slashes': () => sign({ iss: `${ISSUER}//` }),
    'an issuer in capitals': () => sign({ iss: ISSUER.toUpperCase() }),
    'an issuer without TLS': () => sign({ iss: ISSUER.replace('https', 'http') }),
    'an issuer with another client': () => sign({ iss: `${ISSUER}/user_management/client_other` }),
    'an issuer that is a list': () => sign({ iss: [ISSUER] }),
    'an issuer with a comma': () => sign({ iss: `${ISSUER},${ISSUER}/` }),
    'an empty issuer': () => sign({ iss: '' }),
    'another audience': () => sign({ aud: 'client_other' }),
    'other audiences': () => sign({ aud: ['a', 'b'] }),
    'no audience in a list': () => sign({ aud: [] }),
    'an audience that is a number': () => sign({ aud: 1 }),
    'an audience that is null': () => sign({ aud: null }),
    'an audience that is an object': () => sign({ aud: { [CLIENT_ID]: CLIENT_ID } }),
    'another client': () => sign({ client_id: 'client_other' }),
    'a client that is a list': () => sign({ client_id: [CLIENT_ID] }),
    'a client that is null': () => sign({ client_id: null }),
    'no subject': () => sign({ sub: undefined }),
    'an empty subject': () => sign({ sub: '' }),
    'a subject that is a number': () => sign({ sub: 7 }),
    'a subject that is a list': () => sign({ sub: [USER] }),
    'a subject with a NUL': () => sign({ sub: `${USER}\0` }),
    'a subject of 5 kB': () => sign({ sub: 'u'.repeat(5000) }),

    // When.
    'no expiry': () => sign({ exp: undefined }),
    'an expiry that is a text': () => sign({ exp: String(seconds() + 100) }),
    'an expiry that is null': () => sign({ exp: null }),
    'an expiry that is true': () => sign({ exp: true }),
    'an expiry beyond all numbers': () =>
        signed(good, JSON.stringify(claims()).replace(/"exp":\d+/, '"exp":1e999')),
    'an nbf that is a text': () => sign({ nbf: '0' }),
    'an iat that is a list': () => sign({ iat: [] }),
};

const EXPIRED = {
    'for 61 seconds': () => sign({ exp: seconds() - 61 }),
    'for a year': () => sign({ exp: seconds() - 365 * 86_400 }),
    'since 1970': () => sign({ exp: 0 }),
    'before 1970': () => sign({ exp: -1 }),
    'in milliseconds by mistake, long ago': () => sign({ exp: -Date.now() }),
};

const EARLY = {
    'nbf is in 70 seconds': () => sign({ nbf: seconds() + 70 }),
    'nbf is next year': () => sign({ nbf: seconds() + 365 * 86_400 }),
    'nbf is in milliseconds by mistake': () => sign({ nbf: Date.now() }),
    'it is issued in 70 seconds': () => sign({ iat: seconds() + 70 }),
};

describe('an access token', () => {
    const server = sharedServer({ env: keys.env });

    test('says who calls', async () => {
        await server.deliver(userCreated({ id: USER }));
        for (const [name, make] of Object.entries(GOOD)) {
            const answer = await whoIs(server, make());
            assert.equal(answer.status, 200, `${name}: ${answer.status} ${answer.text}`);
            assert.equal(answer.json().id, USER, name);
        }
    });

    for (const [name, make] of Object.entries(BAD))
        test(`no good: ${name}`, async () => {
            assertRefused(await whoIs(server, make()));
        });

    for (const [name, make] of Object.entries(EXPIRED))
        test(`expired ${name}`, async () =>
            assertRefused(await whoIs(server, make()), 'token_expired'));

    for (const [name, make] of Object.entries(EARLY))
        test(`not yet: ${name}`, async () =>
            assertRefused(await whoIs(server, make()), 'token_not_yet_valid'));

    test('that expired but was never good is just no good', async () => {
        const past = { exp: seconds() - 1000 };
        assertRefused(await whoIs(server, tampered(past)));
        assertRefused(await whoIs(server, signToken(newKey({ kid: key.kid }), past)));
        assertRefused(await whoIs(server, sign({ ...past, iss: 'https://evil.example' })));
    });

    test('is what a forger learns nothing about: every refusal is the same', async () => {
        const answers = await inParallel(4, Object.values(BAD), (make) => whoIs(server, make()));
        assert.equal(new Set(answers.map((answer) => answer.text)).size, 1);
    });

    test('must come in one header, as a bearer', async () => {
        const ask = (headers, target = '/workos/user') =>
            server.client.request('GET', target, { headers });
        const token = sign();

        for (const scheme of ['Bearer', 'bearer', 'BEARER', 'Bearer   '])
            assertIs(await ask({ Authorization: `${scheme} ${token}` }), USER);
        for (const value of [
            undefined,
            '',
            'Bearer',
            'Bearer ',
            'Basic dXNlcjpwYXNz',
            `Token ${token}`,
            `Bearer:${token}`,
            `Bearer${token}`,
            token,
        ])
            assertRefused(
                await ask(value === undefined ? {} : { Authorization: value }),
                'token_missing',
            );
        for (const [headers, target] of [
            [{ Cookie: `access_token=${token}; wos-session=${token}` }],
            [{ 'X-Access-Token': token }],
            [{ 'Proxy-Authorization': `Bearer ${token}` }],
            [{}, `/workos/user?access_token=${token}`],
        ])
            assertRefused(await ask(headers, target), 'token_missing');
    });

    test('must not come twice, not even the same one', async () => {
        const token = sign();
        for (const [first, then] of [
            [`Bearer ${token}`, `Bearer ${token}`],
            [`Bearer ${token}`, 'Bearer x'],
            ['Bearer x', `Bearer ${token}`],
            [`Bearer ${token}`, 'Basic dXNlcjpwYXNz'],
        ]) {
            const raw = await server.openRaw();
            raw.send(
                `GET /workos/user HTTP/1.1\r\nHost: x\r\nAuthorization: ${first}\r\n` +
                    `authorization: ${then}\r\nConnection: close\r\n\r\n`,
            );
            assertRefused({ ...withJson(await raw.response()) });
            raw.close();
        }
    });

    test('may be of any bytes: nothing but 4xx comes of it', async () => {
        for (const value of [
            'Bearer \xff\xfe\xfd.\x80.\x81',
            `Bearer ${sign()}\xff`,
            `Bearer ${sign().replace('.', '\t.')}`,
            `Bearer ${'.'.repeat(10_000)}`,
            `Bearer ${'a.'.repeat(5_000)}`,
            `Bearer ${'eyJ'.repeat(4_000)}`,
        ]) {
            const raw = await server.openRaw();
            raw.send(
                Buffer.from(
                    `GET /workos/user HTTP/1.1\r\nHost: x\r\nAuthorization: ${value}\r\n\r\n`,
                    'latin1',
                ),
            );
            const answer = await raw.response();
            assert.ok(answer.status === 401 || answer.status === 400, `${answer.status}`);
            raw.close();
        }
        // What is larger than any request's headers may be isn't a question of tokens any more.
        for (const length of [20_000, 200_000]) {
            const raw = await server.openRaw();
            raw.send(
                `GET /workos/user HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${'x'.repeat(length)}\r\n\r\n`,
            );
            assert.equal((await raw.response()).status, 431);
            raw.close();
        }
        assertIs(await whoIs(server, sign()), USER);
    });

    test('is never in the log, and what our configuration does not take is', async (t) => {
        const own = await startServer(t, { env: keys.env, args: ['--log-level', 'debug'] });
        const tokens = [
            sign(),
            sign({}, { alg: 'none', by: 'RS256' }),
            sign({ iss: 'https://moved.example' }),
        ];
        for (const token of tokens) await whoIs(own, token);
        const line = await own.waitForLog('https://moved.example', '--issuer');
        assert.equal(line.level, 'warn');
        for (const { text } of own.lines)
            for (const token of tokens)
                assert.ok(!text.includes(token.split('.')[2].slice(0, 40)), text);
    });

    test('never makes the server call anybody but the place of its keys', () => {
        assert.equal(strangers.requests.length, 0);
    });
});

const withJson = (answer) => ({ ...answer, json: () => JSON.parse(answer.text) });

// ------------------------------------------------------------------------------------- for whom

/** A server with a user, and whether it takes a token of these claims. */
async function takesTokens(t, { args = [], env = {}, sign: by = keys } = {}) {
    const server = await startServer(t, { args, env: { ...keys.env, ...env } });
    const user = await addUser(server);
    return {
        server,
        user,
        taken: async (more, options) =>
            (await whoIs(server, by.sign({ sub: user.id, ...more }, options))).status === 200,
    };
}

describe('whom a token is for', () => {
    const formsOf = (origin) => [origin, `${origin}/`, `${origin}/user_management/${CLIENT_ID}`];

    test("the API's own origin counts beside WorkOS's, and is where the keys are", async (t) => {
        const port = String(keys.port);
        const before = keys.requests.length;
        const { taken } = await takesTokens(t, {
            env: {
                AUTHKITD_JWKS_URL: undefined,
                WORKOS_API_HOSTNAME: '127.0.0.1',
                WORKOS_API_PORT: port,
                WORKOS_API_HTTPS: 'false',
            },
        });
        const origin = `http://127.0.0.1:${port}`;

        for (const iss of [...formsOf(ISSUER), ...formsOf(origin)])
            assert.ok(await taken({ iss }), iss);
        for (const iss of [
            `http://127.0.0.1`,
            `https://127.0.0.1:${port}`,
            `http://localhost:${port}`,
            `${origin}//`,
            `${origin}/user_management/client_other`,
        ])
            assert.ok(!(await taken({ iss })), iss);
        assert.deepEqual(
            [...new Set(keys.requests.slice(before).map((request) => request.path))],
            [`/sso/jwks/${CLIENT_ID}`],
        );
    });

    test('a custom domain without a port', async (t) => {
        const { taken } = await takesTokens(t, {
            env: { WORKOS_API_HOSTNAME: 'auth.example.com' },
        });
        for (const iss of [...formsOf(ISSUER), ...formsOf('https://auth.example.com')])
            assert.ok(await taken({ iss }), iss);
        assert.ok(!(await taken({ iss: 'https://auth.example.com:443' })));
    });

    test('--issuer, several times, in place of the usual ones', async (t) => {
        const args = ['--issuer', 'https://one.example', '--issuer', 'https://two.example/x'];
        const { taken } = await takesTokens(t, { args });

        assert.ok(await taken({ iss: 'https://one.example' }));
        assert.ok(await taken({ iss: 'https://two.example/x' }));
        for (const iss of [
            ISSUER,
            'https://one.example/',
            'https://two.example',
            'https://one.example,https://two.example/x',
        ])
            assert.ok(!(await taken({ iss })), iss);
    });

    test('AUTHKITD_ISSUERS and AUTHKITD_AUDIENCES are lists', async (t) => {
        const { taken } = await takesTokens(t, {
            env: {
                AUTHKITD_ISSUERS: `https://one.example, ${ISSUER}`,
                AUTHKITD_AUDIENCES: 'https://api.example.com,mobile',
            },
        });
        assert.ok(await taken({ iss: 'https://one.example' }));
        assert.ok(await taken({ aud: 'mobile' }));
        assert.ok(await taken({ aud: ['x', 'https://api.example.com'] }));
        assert.ok(await taken({}), 'a token need not have an audience');
        assert.ok(!(await taken({ iss: `${ISSUER}/` })));
        assert.ok(!(await taken({ aud: CLIENT_ID })), "the client id isn't among them");
    });

    test('--audience', async (t) => {
        const { taken } = await takesTokens(t, { args: ['--audience', 'a', '--audience', 'b'] });
        assert.ok(await taken({ aud: 'a' }));
        assert.ok(await taken({ aud: ['b'] }));
        assert.ok(!(await taken({ aud: 'a,b' })));
        assert.ok(!(await taken({ aud: CLIENT_ID })));
    });

    test('without a client id no token is taken, and the answer says which variable to set', async (t) => {
        const server = await startServer(t);
        for (const token of [undefined, sign(), 'x']) {
            const answer = await whoIs(server, token);
            assert.equal(answer.status, 503, answer.text);
            assert.equal(answer.json().error.code, 'tokens_off');
            assert.match(answer.json().error.message, /WORKOS_CLIENT_ID/);
        }
    });

    for (const [what, args] of [
        ['an address of keys that is none', ['--jwks-url', 'keys.json']],
        ['an address of keys of another kind', ['--jwks-url', 'ftp://example.com/keys']],
        ['an origin that is none', ['--cors-origin', 'app.example.com']],
        ['an origin with a path', ['--cors-origin', 'https://app.example.com/app']],
        ['an origin with a slash', ['--cors-origin', 'https://app.example.com/']],
    ])
        test(`${what} is said at the start`, async () => {
            const env = { ...keys.env, AUTHKITD_JWKS_URL: undefined };
            const folder = newFolder();
            writeFile(path.join(folder, 'handlers.lua'), 'local authkit = require "authkit"');
            const { code, output } = await runCommand(
                ['serve', '--listen', '127.0.0.1:0', '--admin-listen', 'off', ...args],
                { cwd: folder, env: { ...env, WORKOS_WEBHOOK_SECRET: 'x' } },
            );
            assert.notEqual(code, 0, output);
            assert.ok(output.includes(args[0]) && output.includes(args[1]), output);
        });
});

// -------------------------------------------------------------------------------------- the keys

describeTogether('the keys', () => {
    test('are changed while it runs: the new one is taken, the old one as long as it is there', async (t) => {
        const [old, young] = [newKey(), newKey()];
        const place = await startKeyServer(t, [old]);
        const server = await startServer(t, { env: place.env });
        const user = await addUser(server);
        const isTaken = async (by) =>
            (await whoIs(server, signToken(by, { sub: user.id }))).status === 200;

        await until('the key', () => isTaken(old));
        assert.ok(!(await isTaken(young)));
        place.keys = [old, young];
        await until('the new key', () => isTaken(young), PAUSE_MS + patience(3000));
        assert.ok(await isTaken(old));

        place.keys = [young];
        // Whoever has a token of the old key doesn't make it look; an unknown one does.
        await until(
            'the old key to be gone',
            async () => {
                assert.ok(await isTaken(young));
                await isTaken(unknownKey());
                return !(await isTaken(old));
            },
            PAUSE_MS + patience(3000),
        );
        assert.ok(await isTaken(young));
        assert.ok(place.requests.length <= 5, `${place.requests.length} readings`);
    });

    test('an unknown key makes it look again at once, and a flood of them every five seconds at the most', async (t) => {
        const place = await startKeyServer(t);
        const server = await startServer(t, { env: place.env });
        const user = await addUser(server);
        const mine = place.sign({ sub: user.id });

        await until('the key', async () => (await whoIs(server, mine)).status === 200);
        assert.equal(place.requests.length, 1);
        await sleep(PAUSE_MS + 200);
        const started = Date.now();
        assertRefused(await whoIs(server, signToken(unknownKey())));
        assert.equal(place.requests.length, 2, 'it has looked before it said no');
        assert.ok(Date.now() - started < patience(2000));

        let asked = 0;
        const flood = inParallel(8, Array(load(3000, 300)).fill(), async () => {
            const answer = await whoIs(server, signToken(unknownKey()));
            assertRefused(answer);
            asked += 1;
        });
        while (Date.now() - started < PAUSE_MS - 1000) {
            const begun = Date.now();
            assertIs(await whoIs(server, mine), user);
            assert.ok(Date.now() - begun < patience(1500), 'who has a known key waits for nobody');
            await sleep(100);
        }
        assert.ok(place.requests.length === 2, `${place.requests.length} readings`);
        await flood;
        const took = Date.now() - started;
        t.diagnostic(
            `${asked} tokens of unknown keys in ${took} ms, ${place.requests.length} readings`,
        );
        assert.ok(place.requests.length <= 2 + Math.ceil(took / PAUSE_MS));
        for (let i = 1; i < place.requests.length; i++)
            assert.ok(place.requests[i].at - place.requests[i - 1].at > PAUSE_MS - 300);
    });

    test('are kept while nobody can be asked', async (t) => {
        const place = await startKeyServer(t);
        const server = await startServer(t, { env: place.env });
        const user = await addUser(server);
        const mine = () => place.sign({ sub: user.id });
        const ways = {
            'errors come': () => (place.answer = () => ({ status: 500, body: 'no' })),
            'nothing is found': () => (place.answer = () => ({ status: 404, body: {} })),
            'HTML comes': () => (place.answer = () => ({ body: '<html></html>' })),
            'an empty set comes': () => (place.answer = () => ({ body: { keys: [] } })),
            'no set comes': () => (place.answer = () => ({ body: [] })),
            'cut JSON comes': () => (place.answer = () => ({ body: '{"keys":[{"kty":"RSA"' })),
            'a set without a key that can be used comes': () =>
                (place.answer = () => ({ body: { keys: [elliptic.jwk] } })),
            'a megabyte comes': () => (place.answer = () => ({ body: 'x'.repeat(1_000_000) })),
            'it leads elsewhere': () =>
                (place.answer = () => ({ status: 302, headers: { Location: strangers.url } })),
        };

        await until('the key', async () => (await whoIs(server, mine())).status === 200);
        for (const [name, begin] of Object.entries(ways)) {
            begin();
            const before = place.requests.length;
            await until(
                `it to look again (${name})`,
                async () => {
                    assertRefused(await whoIs(server, signToken(unknownKey())));
                    return place.requests.length > before;
                },
                PAUSE_MS + patience(5000),
            );
            assertIs(await whoIs(server, mine()), user);
        }
        assert.equal(strangers.requests.length, 0);
    });

    test('are kept while the place is gone or hangs, and nobody with a known key waits', async (t) => {
        const place = await startKeyServer(t);
        const server = await startServer(t, { env: place.env });
        const user = await addUser(server);
        const mine = () => place.sign({ sub: user.id });
        const { port } = place;

        await until('the key', async () => (await whoIs(server, mine())).status === 200);
        place.hangs = true;
        await until(
            'it to look again',
            async () => {
                await whoIs(server, signToken(unknownKey()));
                return place.requests.length === 2;
            },
            PAUSE_MS + patience(5000),
        );
        const begun = Date.now();
        await inParallel(16, Array(64).fill(), async () =>
            assertIs(await whoIs(server, mine()), user),
        );
        assert.ok(Date.now() - begun < patience(1500), 'nobody waits');
        assertRefused(await whoIs(server, signToken(newKey())));

        // Those who have an unknown key may wait, however many they are; nobody else does for them.
        const crowd = server.newClient({ connections: 200 });
        const stray = signToken(newKey());
        let refused = 0;
        const waiting = inParallel(200, Array(400).fill(), async () => {
            const answer = await crowd.request('GET', '/workos/user', { headers: bearer(stray) });
            assertRefused(answer);
            refused += 1;
        });
        for (let i = 0; i < 20; i++) {
            const asked = Date.now();
            assertIs(await whoIs(server, mine()), user);
            await server.deliver(userCreated());
            assert.ok(Date.now() - asked < patience(1500), `${Date.now() - asked} ms`);
        }
        await waiting;
        assert.equal(refused, 400);

        await place.close();
        assertIs(await whoIs(server, mine()), user);
        assertRefused(await whoIs(server, signToken(newKey())));
        // Back with another key.
        place.hangs = false;
        place.keys = [newKey()];
        await place.listen(port);
        await until(
            'the new key',
            async () => (await whoIs(server, mine())).status === 200,
            3 * PAUSE_MS + patience(5000),
        );
        // It must end at once, also while it waits for an answer.
        place.hangs = true;
        await server.stop();
    });

    test('that were never there: 503, and it heals by itself', async (t) => {
        const place = await startKeyServer(t);
        const { port } = place;
        await place.close();
        const server = await startServer(t, { env: place.env });
        const user = await addUser(server);

        for (let i = 0; i < 3; i++) {
            const answer = await whoIs(server, place.sign({ sub: user.id }));
            assert.equal(answer.status, 503, answer.text);
            assert.equal(answer.json().error.code, 'keys_unavailable');
            assert.match(answer.headers['retry-after'], /^\d+$/);
        }
        // What needs no key is what it is.
        assertRefused(await whoIs(server, undefined), 'token_missing');
        assertRefused(await whoIs(server, 'x.y.z'));
        await server.waitForLog(place.url);

        await place.listen(port);
        await until(
            'the key',
            async () => (await whoIs(server, place.sign({ sub: user.id }))).status === 200,
            2 * PAUSE_MS + patience(5000),
        );
    });

    test('of other kinds in the set are passed over, and two may share an id', async (t) => {
        const [one, two] = [newKey({ kid: 'same' }), newKey({ kid: 'same' })];
        const third = newKey();
        const place = await startKeyServer(t, [
            { kty: 'oct', kid: 'symmetric', k: 'c2VjcmV0', alg: 'HS256' },
            elliptic,
            null,
            'junk',
            { ...newKey().jwk, kid: undefined },
            { ...newKey().jwk, n: '' },
            { ...newKey().jwk, n: '!!!' },
            { ...newKey().jwk, e: undefined },
            { ...newKey().jwk, kid: 'encrypts', use: 'enc' },
            { ...newKey({ kid: 'small', modulusLength: 1024 }).jwk },
            one,
            two,
            { ...third.jwk, use: undefined, alg: undefined, x5c: undefined },
        ]);
        const server = await startServer(t, { env: place.env });
        const user = await addUser(server);
        const isTaken = async (by) =>
            (await whoIs(server, signToken(by, { sub: user.id }))).status === 200;

        await until('the keys', () => isTaken(one));
        assert.ok(await isTaken(two));
        assert.ok(await isTaken(third));
        assertRefused(
            await whoIs(
                server,
                assemble(
                    { alg: 'HS256', kid: 'symmetric' },
                    newClaims({ sub: user.id }),
                    hmacWith('secret'),
                ),
            ),
        );
    });

    test('may be in a file', async (t) => {
        const [old, young] = [newKey(), newKey()];
        const file = path.join(newFolder(), 'keys.json');
        const set = (...of) => JSON.stringify({ keys: of.map(({ jwk }) => jwk) });
        const server = await startServer(t, {
            env: { WORKOS_CLIENT_ID: CLIENT_ID },
            args: ['--jwks-url', `file:${file}`],
        });
        const user = await addUser(server);
        const ask = (by) => whoIs(server, signToken(by, { sub: user.id }));

        assert.equal((await ask(old)).status, 503);
        writeFile(file, set(old));
        const wait = 2 * PAUSE_MS + patience(5000);
        await until('the key', async () => (await ask(old)).status === 200, wait);
        writeFile(file, set(old, young));
        await until('the new key', async () => (await ask(young)).status === 200, wait);
        assertIs(await ask(old), user);
        fs.rmSync(file);
        assertIs(await ask(old), user);
    });

    test('say who calls while a server is very young: the first request waits for them', async (t) => {
        const place = await startKeyServer(t);
        for (let round = 0; round < 5; round++) {
            const server = await startServer(t, { env: place.env });
            const user = await addUser(server);
            assertIs(await whoIs(server, place.sign({ sub: user.id })), user);
        }
    });
});

// ------------------------------------------------------------------------------- GET /workos/user

describe('GET /workos/user', () => {
    const server = sharedServer({ env: keys.env });
    const tokenOf = (user) => signToken(key, { sub: user.id });
    const ask = (method, user, headers) =>
        server.client.request(method, '/workos/user', {
            headers: { ...(user ? bearer(tokenOf(user)) : {}), ...headers },
        });

    test('is the row, as JSON: all that WorkOS says', async () => {
        const user = await addUser(server, {
            first_name: 'Ada "The" \\ Löwe 😀 \u2028',
            last_name: null,
            email_verified: false,
            metadata: { plan: 'team', nested: 'ü' },
        });
        const answer = await ask('GET', user);
        assert.equal(answer.status, 200);
        assert.equal(answer.headers['content-type'], 'application/json');
        const row = server.userRow(user);
        for (const name of ['raw', '_event_id', '_version_us']) delete row[name];
        assert.deepEqual(answer.json(), {
            ...row,
            email_verified: false,
            metadata: user.metadata,
        });
        assert.equal(answer.json().first_name, user.first_name);
        assert.equal(answer.json().last_name, null);
        assert.ok(!answer.text.includes('raw'));
    });

    test('follows the user, to the end', async () => {
        const event = userCreated({ first_name: 'Ada' });
        const token = tokenOf(event.data);
        const absent = await whoIs(server, token);
        assert.equal(absent.status, 404);
        assert.equal(absent.json().error.code, 'user_not_found');

        await server.deliver(event);
        assert.equal((await whoIs(server, token)).json().first_name, 'Ada');
        const updated = userUpdated(event.data, { first_name: 'Augusta' });
        await server.deliver(updated);
        assert.equal((await whoIs(server, token)).json().first_name, 'Augusta');
        await server.deliver(userDeleted(updated.data));
        const gone = await whoIs(server, token);
        assert.equal(gone.status, 404);
        assert.deepEqual(gone.json(), absent.json());
        assert.equal(gone.headers['www-authenticate'], undefined);
    });

    test('says when nothing has changed', async () => {
        const user = await addUser(server);
        const first = await ask('GET', user);
        const tag = first.headers.etag;
        assert.match(tag, /^(W\/)?"[^"]+"$/);
        assert.match(first.headers['cache-control'], /private/);
        assert.match(first.headers['cache-control'], /no-cache/);
        assert.equal((await ask('GET', user)).headers.etag, tag);

        for (const value of [tag, `W/${tag}`, `"other", ${tag}`, '*', `"a",${tag},"b"`]) {
            const same = await ask('GET', user, { 'If-None-Match': value });
            assert.equal(same.status, 304, value);
            assert.equal(same.text, '');
            assert.equal(same.headers.etag, tag);
            assert.equal(same.headers['content-length'], undefined);
            assert.equal(same.headers['content-type'], undefined);
        }
        for (const value of ['"other"', tag.slice(1, -1), tag.slice(0, -1), '', '"', 'W/'])
            assert.equal((await ask('GET', user, { 'If-None-Match': value })).status, 200, value);

        await server.deliver(userUpdated(user, { first_name: 'Augusta' }));
        const changed = await ask('GET', user, { 'If-None-Match': tag });
        assert.equal(changed.status, 200);
        assert.notEqual(changed.headers.etag, tag);
        assert.equal(changed.json().first_name, 'Augusta');
        // Nobody gets a 304 for what is not theirs.
        const other = await addUser(server);
        assert.equal(
            (await ask('GET', other, { 'If-None-Match': changed.headers.etag })).status,
            200,
        );
        assertRefused(
            await server.client.request('GET', '/workos/user', {
                headers: { 'If-None-Match': '*' },
            }),
            'token_missing',
        );
    });

    test('answers HEAD with the same, but for the body', async () => {
        const user = await addUser(server);
        const get = await ask('GET', user);
        const head = await ask('HEAD', user);
        assert.equal(head.status, 200);
        assert.equal(head.text, '');
        for (const name of ['content-type', 'content-length', 'etag', 'cache-control'])
            assert.equal(head.headers[name], get.headers[name], name);
        assert.equal((await ask('HEAD', user, { 'If-None-Match': get.headers.etag })).status, 304);
        const refused = await ask('HEAD');
        assert.equal(refused.status, 401);
        assert.equal(refused.headers['www-authenticate'], 'Bearer');
    });

    test('takes no other method, and no other path', async () => {
        const user = await addUser(server);
        for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
            const answer = await server.client.request(method, '/workos/user', {
                headers: bearer(tokenOf(user)),
                body: '{}',
            });
            assert.equal(answer.status, 405, method);
            assert.equal(answer.headers.allow, 'GET, HEAD, OPTIONS');
        }
        const options = await ask('OPTIONS', undefined);
        assert.equal(options.status, 204);
        assert.equal(options.headers.allow, 'GET, HEAD, OPTIONS');
        for (const target of [
            '/workos/user/',
            '/workos/users',
            '/workos/user%2F',
            '//workos/user',
            '/WORKOS/USER',
            '/workos//user',
        ])
            assert.equal(
                (await server.client.request('GET', target, { headers: bearer(tokenOf(user)) }))
                    .status,
                404,
                target,
            );
        assertIs(
            await server.client.request('GET', '/workos/user?x=1', {
                headers: bearer(tokenOf(user)),
            }),
            user,
        );
    });

    test('is each one’s own, however many ask at the same time', async (t) => {
        const users = await Promise.all(
            Array.from({ length: 20 }, (_, i) => addUser(server, { first_name: `N${i}` })),
        );
        const tokens = users.map(tokenOf);
        const count = load(4000, 400);
        const begun = Date.now();

        await inParallel(16, Array(count).fill(), async (_, i) => {
            const n = i % users.length;
            if (i % 7 === 0)
                return assertRefused(await whoIs(server, tokens[n].replace(/.{6}$/, 'AAAAAA')));
            const answer = await whoIs(server, tokens[n]);
            assertIs(answer, users[n]);
            assert.equal(answer.json().first_name, `N${n}`);
        });
        t.diagnostic(`${count} requests in ${Date.now() - begun} ms`);
    });

    test('stays what it is while a script is loaded', async () => {
        const user = await addUser(server);
        const token = tokenOf(user);
        let running = true;
        const traffic = inParallel(4, [1, 2, 3, 4], async () => {
            while (running) assertIs(await whoIs(server, token), user);
        });
        for (let i = 0; i < load(20, 5); i++) {
            const line = await server.reload(
                `local authkit = require "authkit"
                 authkit.schema { t${i} = { columns = { a = "text?" } } }`,
            );
            assert.equal(line.outcome, 'loaded', line.text);
        }
        running = false;
        await traffic;
    });
});

// -------------------------------------------------------------------------------- other origins

describe('pages of other origins', () => {
    const ORIGINS = ['https://app.example.com', 'http://localhost:3000'];
    const server = sharedServer({
        env: keys.env,
        args: ORIGINS.flatMap((origin) => ['--cors-origin', origin]),
    });
    const preflight = (origin, headers = {}, to = server) =>
        to.client.request('OPTIONS', '/workos/user', {
            headers: {
                Origin: origin,
                'Access-Control-Request-Method': 'GET',
                'Access-Control-Request-Headers': 'authorization',
                ...headers,
            },
        });
    const STRANGERS = [
        'https://evil.example',
        'http://app.example.com',
        'https://app.example.com:8443',
        'https://app.example.com.evil.example',
        'https://sub.app.example.com',
        'https://APP.example.com',
        'https://app.example.com/',
        'http://localhost:3001',
        'http://localhost',
        'null',
        '*',
        `${ORIGINS[0]},${ORIGINS[1]}`,
        `${ORIGINS[0]} ${ORIGINS[1]}`,
    ];
    const names = (headers) =>
        Object.keys(headers).filter((name) => name.startsWith('access-control-'));

    test('may ask and read when they are allowed', async () => {
        const user = await addUser(server);
        for (const origin of ORIGINS) {
            const asked = await preflight(origin);
            assert.equal(asked.status, 204, asked.text);
            assert.equal(asked.text, '');
            assert.equal(asked.headers['access-control-allow-origin'], origin);
            assert.match(asked.headers['access-control-allow-methods'], /\bGET\b/);
            assert.match(asked.headers['access-control-allow-headers'], /\bauthorization\b/i);
            assert.match(asked.headers['access-control-max-age'], /^\d+$/);
            assert.match(asked.headers.vary, /\bOrigin\b/);

            const answer = await whoIs(server, sign({ sub: user.id }), { Origin: origin });
            assertIs(answer, user);
            assert.equal(answer.headers['access-control-allow-origin'], origin);
            assert.match(answer.headers['access-control-expose-headers'], /\bETag\b/);
            assert.match(answer.headers.vary, /\bOrigin\b/);
            // Refusals can be read, too, or the page would not know what is wrong.
            for (const other of [
                await whoIs(server, undefined, { Origin: origin }),
                await whoIs(server, 'x', { Origin: origin }),
                await whoIs(server, sign({ sub: newId('user') }), { Origin: origin }),
                await whoIs(server, sign({ sub: user.id }), {
                    Origin: origin,
                    'If-None-Match': answer.headers.etag,
                }),
                await server.client.request('GET', '/nowhere', { headers: { Origin: origin } }),
                await server.client.request('POST', '/workos/user', {
                    headers: { Origin: origin },
                    body: '{}',
                }),
            ])
                assert.equal(
                    other.headers['access-control-allow-origin'],
                    origin,
                    `${other.status}`,
                );
        }
    });

    test('get nothing that their browser would let them read otherwise', async () => {
        const user = await addUser(server);
        for (const origin of STRANGERS) {
            const asked = await preflight(origin);
            assert.deepEqual(names(asked.headers), [], origin);
            assert.match(asked.headers.vary, /\bOrigin\b/);
            const answer = await whoIs(server, sign({ sub: user.id }), { Origin: origin });
            assert.deepEqual(names(answer.headers), [], origin);
            assert.match(answer.headers.vary, /\bOrigin\b/);
        }
        const own = await whoIs(server, sign({ sub: user.id }));
        assert.deepEqual(names(own.headers), []);
        assert.match(own.headers.vary, /\bOrigin\b/, 'a cache must not give this to a page');
    });

    test('are never allowed cookies, and WorkOS’s own endpoints are not for pages', async () => {
        const asked = await preflight(ORIGINS[0]);
        assert.equal(asked.headers['access-control-allow-credentials'], undefined);
        for (const target of ['/workos/webhook', '/workos/action']) {
            const answer = await server.client.request('OPTIONS', target, {
                headers: { Origin: ORIGINS[0], 'Access-Control-Request-Method': 'POST' },
            });
            assert.equal(answer.status, 405);
            assert.deepEqual(names(answer.headers), []);
        }
    });

    test('send headers that must not come back as they are', async () => {
        for (const value of ['x\ty', 'a'.repeat(5000), 'x, y; z', '\xff']) {
            const asked = await preflight(ORIGINS[0], { 'Access-Control-Request-Headers': value });
            assert.ok(asked.status === 204 || asked.status === 500 || asked.status === 400);
        }
        const asked = await preflight(ORIGINS[0]);
        assert.equal(asked.status, 204);
    });

    test('are nobody by default', async (t) => {
        const closed = await startServer(t, { env: keys.env });
        const user = await addUser(closed);
        for (const origin of [...ORIGINS, ...STRANGERS]) {
            assert.deepEqual(names((await preflight(origin, {}, closed)).headers), []);
            const answer = await whoIs(closed, sign({ sub: user.id }), { Origin: origin });
            assertIs(answer, user);
            assert.deepEqual(names(answer.headers), []);
        }
    });

    test('are all of them with *', async (t) => {
        const open = await startServer(t, { env: { ...keys.env, AUTHKITD_CORS_ORIGINS: '*' } });
        const user = await addUser(open);
        for (const origin of ['https://any.example', 'null']) {
            const asked = await preflight(origin, {}, open);
            assert.equal(asked.headers['access-control-allow-origin'], '*');
            const answer = await whoIs(open, sign({ sub: user.id }), { Origin: origin });
            assert.equal(answer.headers['access-control-allow-origin'], '*');
            assert.equal(answer.headers['access-control-allow-credentials'], undefined);
        }
    });
});
