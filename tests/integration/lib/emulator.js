// SPDX-License-Identifier: MIT
// WorkOS's own emulator, from its command line tool.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

import { WorkOS } from '@workos-inc/node';

import { adopt, atEnd, patience, until } from './harness.js';
import { cleanEnvironment, newFolder } from './server.js';
import { WEBHOOK_SECRET } from './workos.js';

export const CLIENT_ID = 'client_emulated';

/** The variables with which authkitd finds the emulator. */
export const emulatorEnv = (emulator) => ({
    WORKOS_CLIENT_ID: CLIENT_ID,
    WORKOS_API_HOSTNAME: 'localhost',
    WORKOS_API_PORT: String(emulator.port),
    WORKOS_API_HTTPS: 'false',
});

/** The official SDK, talking to the emulator. */
export const emulatorSdk = (emulator) =>
    new WorkOS(emulator.apiKey, {
        clientId: CLIENT_ID,
        apiHostname: 'localhost',
        port: emulator.port,
        https: false,
    });

/** Have the emulator send these events (all, when none is named) to the server, signed. */
export async function addWebhookEndpoint(emulator, server, events = []) {
    const answer = await fetch(`${emulator.url}/webhook_endpoints`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${emulator.apiKey}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({
            endpoint_url: `${server.url}/workos/webhook`,
            secret: WEBHOOK_SECRET,
            events,
        }),
    });
    assert.equal(answer.status, 201);
}

/** Sign a user in as an app does: to the authorization page, and from there with a code. */
export async function signIn(workos, email) {
    const redirectUri = 'http://localhost:1/callback';
    const url = workos.userManagement.getAuthorizationUrl({
        provider: 'authkit',
        redirectUri,
        loginHint: email,
        state: 'the state',
    });
    const answer = await fetch(url, { redirect: 'manual' });
    const back = new URL(answer.headers.get('location'));

    assert.equal(back.origin + back.pathname, redirectUri);
    assert.equal(back.searchParams.get('state'), 'the state');
    return await workos.userManagement.authenticateWithCode({
        code: back.searchParams.get('code'),
    });
}

/** `workos emulate`, as a developer starts it; { url, port, apiKey }. */
export async function startEmulator(t) {
    const folder = newFolder();
    const program = path.join(import.meta.dirname, '../node_modules/workos/dist/bin.js');
    // HOME: it must neither find nor leave anything in the developer's own.
    const child = adopt(
        spawn(process.execPath, [program, 'emulate', '--port', '0', '--json'], {
            cwd: folder,
            env: cleanEnvironment({ HOME: folder, WORKOS_TELEMETRY: 'false', NO_COLOR: '1' }),
            stdio: ['ignore', 'pipe', 'pipe'],
        }),
    );
    let output = '';
    let running = true;

    child.stdout.setEncoding('utf8').on('data', (text) => {
        output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
        output += text;
    });
    const ended = once(child, 'close').then(() => {
        running = false;
    });
    atEnd(t, async () => {
        child.kill('SIGKILL');
        await ended;
    });
    const line = await until(
        'the emulator to be ready',
        () => {
            assert.ok(running || output.includes('"url"'), `the emulator ended: ${output}`);
            return /^\{.*"url".*\}$/m.exec(output)?.[0];
        },
        patience(20_000),
    );
    const emulator = JSON.parse(line);
    await until('the emulator to be healthy', async () => (await fetch(emulator.health)).ok);
    return emulator;
}
