// SPDX-License-Identifier: MIT
// A todo list: an app as you would write one, with authkitd beside it.
//
//     scripts/example                    starts WorkOS's emulator, authkitd and this; prints the address
//
// or with the variables of main() below, against WorkOS itself. Who does what:
//
//     this app   serves the page, and signs people in with WorkOS's SDK. The refresh token stays here;
//                the page gets the access token, for a few minutes' use.
//     authkitd   has the users and their todo lists. The page calls it directly, from another origin,
//                with the access token: routes are in handlers.lua, --cors-origin names this app.
//     the page   index.html. It keeps the access token in a variable: not in a cookie, not in the
//                browser's storage, where a script of somebody else would find it later.
//
// What a request from another site could do here: nothing. A browser sends the cookie along only
// from this site, what changes something must come from this origin, and nothing may frame the page.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { WorkOS } from '@workos-inc/node';

const SIGN_IN_SECONDS = 600; // so long a sign-in may take
const FRESH_MS = 60_000; // a token that ends sooner than that is replaced first
const MAX_SIGN_INS = 10_000; // begun and not finished, of everybody

const page = fs.readFileSync(path.join(import.meta.dirname, 'index.html'), 'utf8');

/** The page's own style and script may run, known by their hashes, and nothing else. */
function hashOf(tag) {
    const content = new RegExp(`<${tag}[^>]*>([^]*?)</${tag}>`).exec(page)[1];
    return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
}

const hashes = { style: hashOf('style'), script: hashOf('script') };

const randomName = () => randomBytes(32).toString('base64url');

/** What a token says. It came from WorkOS over our own connection: there is nothing to check. */
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());

function cookieOf(request, name) {
    for (const pair of (request.headers.cookie ?? '').split(';')) {
        const [key, value] = pair.trim().split('=');
        if (key === name) return value;
    }
}

function send(response, status, body, headers = {}) {
    response.writeHead(status, {
        'Cache-Control': 'no-store',
        'Content-Type': 'application/json; charset=utf-8',
        'Referrer-Policy': 'same-origin',
        'X-Content-Type-Options': 'nosniff',
        ...headers,
    });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

const redirect = (response, location, headers = {}) =>
    send(response, 303, '', { Location: location, ...headers });

export class App {
    /**
     * workos    the SDK, with an API key and the client id
     * authkitd  where the browser reaches authkitd
     * url       where the browser reaches this, when there is something in between (a proxy, say)
     * log       is told what goes wrong
     */
    constructor({ workos, authkitd, url, log = console.error }) {
        this.workos = workos;
        this.authkitd = authkitd;
        this.url = url;
        this.log = log;
        // Of a grown-up app, these would be in a database: here everybody is signed out by a restart.
        this.signIns = new Map(); // state -> { verifier, endsAt }
        this.sessions = new Map(); // the cookie's value -> { accessToken, refreshToken }
        this.server = http.createServer((request, response) => {
            this.#answer(request, response).catch((error) => {
                this.log(error);
                if (!response.headersSent)
                    send(response, 500, { error: { message: 'The app has a bug.' } });
            });
        });
    }

    async listen(port) {
        this.server.listen(port, '127.0.0.1');
        await once(this.server, 'listening');
        this.url ??= `http://localhost:${this.server.address().port}`;
        return this;
    }

    async close() {
        const closed = once(this.server, 'close');
        this.server.close();
        this.server.closeAllConnections();
        await closed;
    }

    async #answer(request, response) {
        const target = new URL(request.url, 'http://x');
        const query = target.searchParams;

        if (request.headers.host !== new URL(this.url).host) return redirect(response, this.url); // by another name it would have another origin
        switch (`${request.method} ${target.pathname}`) {
            case 'GET /':
                return this.#sendPage(response);
            case 'GET /sign-in':
                return await this.#beginSignIn(response, query.get('email'));
            case 'GET /callback':
                return await this.#endSignIn(request, response, query);
            case 'POST /token':
                return await this.#sendToken(request, response, query.has('refused'));
            case 'POST /sign-out':
                return this.#signOut(request, response);
            default:
                return send(response, 404, { error: { message: 'There is nothing here.' } });
        }
    }

    #sendPage(response) {
        // A form may lead to WorkOS, since signing in and out is a redirect there.
        const policy = [
            "default-src 'none'",
            `script-src ${hashes.script}`,
            `style-src ${hashes.style}`,
            `connect-src 'self' ${new URL(this.authkitd).origin}`,
            `form-action 'self' ${new URL(this.workos.baseURL).origin}`,
            'img-src data:',
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ];
        send(response, 200, page, {
            'Content-Type': 'text/html; charset=utf-8',
            'Content-Security-Policy': policy.join('; '),
        });
    }

    #cookie(name, value, attributes) {
        const secure = this.url.startsWith('https:') ? '; Secure' : '';
        return `${name}=${value}; HttpOnly; SameSite=Lax${secure}; ${attributes}`;
    }

    // ---- signing in -------------------------------------------------------------------------------

    /** To WorkOS, with a state that only this browser can bring back. */
    async #beginSignIn(response, email) {
        const { url, state, codeVerifier } =
            await this.workos.userManagement.getAuthorizationUrlWithPKCE({
                provider: 'authkit',
                redirectUri: `${this.url}/callback`,
                loginHint: email || undefined,
            });
        const now = Date.now();

        for (const [old, { endsAt }] of this.signIns) {
            if (endsAt > now && this.signIns.size < MAX_SIGN_INS) break; // the oldest come first
            this.signIns.delete(old);
        }
        this.signIns.set(state, { verifier: codeVerifier, endsAt: now + SIGN_IN_SECONDS * 1000 });
        redirect(response, url, {
            'Set-Cookie': this.#cookie(
                'example_sign_in',
                state,
                `Path=/callback; Max-Age=${SIGN_IN_SECONDS}`,
            ),
        });
    }

    /** From WorkOS, with a code that the SDK turns into tokens. */
    async #endSignIn(request, response, query) {
        const state = query.get('state');
        const begun = this.signIns.get(state);
        const done = this.#cookie('example_sign_in', '', 'Path=/callback; Max-Age=0');
        const fail = (code) =>
            redirect(response, `/?error=${encodeURIComponent(code)}`, { 'Set-Cookie': done });

        if (!begun || begun.endsAt < Date.now() || cookieOf(request, 'example_sign_in') !== state)
            return fail('sign_in_expired');
        this.signIns.delete(state);
        if (!query.get('code')) return fail(query.get('error') ?? 'sign_in_failed');
        let tokens;
        try {
            tokens = await this.workos.userManagement.authenticateWithCode({
                code: query.get('code'),
                codeVerifier: begun.verifier,
            });
        } catch (error) {
            this.log(`signing in failed: ${error.message}`);
            return fail('sign_in_failed');
        }
        const name = randomName();
        this.#keep(name, tokens);
        redirect(response, '/', {
            'Set-Cookie': [done, this.#cookie('example_session', name, 'Path=/')],
        });
    }

    #keep(name, { accessToken, refreshToken }) {
        const session = { accessToken, refreshToken, endsAt: claimsOf(accessToken).exp * 1000 };
        this.sessions.set(name, session);
        return session;
    }

    // ---- being signed in --------------------------------------------------------------------------

    /** A request that changes something must come from our own page: browsers say where from. */
    #isOurs(request) {
        return request.headers.origin === this.url;
    }

    /** The page's access token, a new one if the old one ends soon or authkitd has refused it. */
    async #sendToken(request, response, wasRefused) {
        const name = cookieOf(request, 'example_session');
        let session = this.sessions.get(name);

        if (!this.#isOurs(request))
            return send(response, 403, { error: { message: 'Only the page may ask for that.' } });
        if (!session)
            return send(response, 401, { error: { code: 'signed_out', message: 'Sign in.' } });
        if (wasRefused || session.endsAt < Date.now() + FRESH_MS) {
            try {
                session = await this.#refresh(name, session);
            } catch (error) {
                return this.#refuseRefresh(response, name, error);
            }
        }
        send(response, 200, {
            access_token: session.accessToken,
            ends_at: session.endsAt,
            authkitd: this.authkitd,
        });
    }

    /** A refresh token is good for one use: two tabs that want a new access token share one call. */
    async #refresh(name, session) {
        session.refreshing ??= this.workos.userManagement
            .authenticateWithRefreshToken({ refreshToken: session.refreshToken })
            .then((tokens) => this.#keep(name, tokens))
            .finally(() => {
                session.refreshing = undefined;
            });
        return await session.refreshing;
    }

    #refuseRefresh(response, name, error) {
        this.log(`refreshing failed: ${error.message}`);
        // With 400 WorkOS says that the session is over. All else may pass, and the session stays.
        if (error.status === 400) {
            this.sessions.delete(name);
            return send(
                response,
                401,
                { error: { code: 'session_ended', message: 'Your session has ended.' } },
                { 'Set-Cookie': this.#cookie('example_session', '', 'Path=/; Max-Age=0') },
            );
        }
        send(response, 502, { error: { message: 'WorkOS can’t be reached. Try again soon.' } });
    }

    /** Here at once, then at WorkOS, which sends the browser back to us. */
    #signOut(request, response) {
        const name = cookieOf(request, 'example_session');
        const session = this.sessions.get(name);

        if (!this.#isOurs(request))
            return send(response, 403, { error: { message: 'Only the page may sign you out.' } });
        this.sessions.delete(name);
        const location = session
            ? this.workos.userManagement.getLogoutUrl({
                  sessionId: claimsOf(session.accessToken).sid,
                  returnTo: this.url,
              })
            : '/';
        redirect(response, location, {
            'Set-Cookie': this.#cookie('example_session', '', 'Path=/; Max-Age=0'),
        });
    }
}

/** The SDK for WorkOS itself, or for the emulator, by the variables that authkitd reads, too. */
export const newWorkOS = (env) =>
    new WorkOS(env.WORKOS_API_KEY, {
        clientId: env.WORKOS_CLIENT_ID,
        apiHostname: env.WORKOS_API_HOSTNAME ?? 'api.workos.com',
        port: env.WORKOS_API_PORT ? Number(env.WORKOS_API_PORT) : undefined,
        https: env.WORKOS_API_HTTPS !== 'false',
    });

async function main(env) {
    for (const name of ['WORKOS_API_KEY', 'WORKOS_CLIENT_ID', 'AUTHKITD_URL'])
        if (!env[name]) throw new Error(`${name} must be set; scripts/example sets everything`);
    const app = new App({
        workos: newWorkOS(env),
        authkitd: env.AUTHKITD_URL,
        url: env.EXAMPLE_URL,
    });
    await app.listen(Number(env.EXAMPLE_PORT ?? 3000));
    console.log(`listening at ${app.url}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href)
    await main(process.env).catch((error) => {
        console.error(`example: ${error.message}`);
        process.exitCode = 1;
    });
