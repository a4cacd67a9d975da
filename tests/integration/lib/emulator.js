// SPDX-License-Identifier: MIT
// WorkOS's own emulator, from its command line tool.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

import { adopt, atEnd, patience, until } from './harness.js';
import { cleanEnvironment, newFolder } from './server.js';

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
