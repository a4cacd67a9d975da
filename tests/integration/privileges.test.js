// SPDX-License-Identifier: MIT
// What the process gives up at its start, seen from outside.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

import { describe, test } from './lib/harness.js';
import { newServer, startServer } from './lib/server.js';
import { userCreated } from './lib/workos.js';

const isRoot = process.getuid() === 0;
const asRoot = isRoot ? test : (name) => test(`${name} (not run: it takes root)`, () => {});
const NOBODY = 65534;

const CHOWN = 1n << 0n;
const DAC_OVERRIDE = 1n << 1n;
const NET_BIND_SERVICE = 1n << 10n;

/** The fields of a /proc/…/status. */
const statusOf = (file) =>
    Object.fromEntries(
        fs
            .readFileSync(file, 'utf8')
            .split('\n')
            .filter((line) => line.includes(':'))
            .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
    );

/** What a test's own root may do at all: in a container that isn't everything. */
const mine = () => BigInt(`0x${statusOf('/proc/self/status').CapPrm}`);

/** Every thread of the server has exactly these. */
function assertCapabilities(server, wanted) {
    const tasks = `/proc/${server.child.pid}/task`;

    for (const thread of fs.readdirSync(tasks)) {
        const status = statusOf(`${tasks}/${thread}/status`);
        const hex = wanted.toString(16).padStart(16, '0');
        assert.equal(status.CapEff, hex, `effective, of ${status.Name}`);
        assert.equal(status.CapPrm, hex, `permitted, of ${status.Name}`);
        for (const set of ['CapInh', 'CapAmb'])
            assert.equal(BigInt(`0x${status[set]}`), 0n, `${set} of ${status.Name}`);
        assert.equal(status.NoNewPrivs, '1', `of ${status.Name}`);
    }
}

async function freeLowPort() {
    for (let port = 1023; port > 600; port--) {
        const listener = net.createServer().listen(port, '127.0.0.1');
        const [error] = await Promise.race([
            once(listener, 'listening').then(() => []),
            once(listener, 'error'),
        ]).catch((failure) => [failure]);
        if (error) continue;
        listener.close();
        await once(listener, 'close');
        return port;
    }
    throw new Error('no port below 1024 is free');
}

describe('a server', () => {
    test('gains no privileges, and leaves no core', async (t) => {
        const server = await startServer(t);
        const proc = `/proc/${server.child.pid}`;
        assert.equal(statusOf(`${proc}/status`).NoNewPrivs, '1');
        assert.match(fs.readFileSync(`${proc}/limits`, 'utf8'), /^Max core file size +0 +0 /m);
        // What isn't dumpable belongs to root, whoever runs it.
        assert.equal(fs.statSync(`${proc}/environ`).uid, 0);
    });

    asRoot('of root keeps what it needs to read files again, on all its threads', async (t) => {
        const server = await startServer(t);
        await server.deliver(userCreated());
        assertCapabilities(server, mine() & (CHOWN | DAC_OVERRIDE));
        assert.equal(BigInt(`0x${statusOf(`/proc/${server.child.pid}/status`).CapBnd}`), 0n);
    });

    asRoot('of root on a low port keeps that one, too', async (t) => {
        const server = await startServer(t, { listen: `127.0.0.1:${await freeLowPort()}` });
        await server.deliver(userCreated());
        assertCapabilities(server, mine() & (CHOWN | DAC_OVERRIDE | NET_BIND_SERVICE));
    });

    asRoot('of root reads the script of another user again', async (t) => {
        const server = await startServer(t);
        const script = 'require "authkit".events {} print("read again")';
        fs.chownSync(server.folder, NOBODY, NOBODY);
        fs.chmodSync(server.folder, 0o700);
        fs.writeFileSync(server.handlersFile, script);
        fs.chownSync(server.handlersFile, NOBODY, NOBODY);
        fs.chmodSync(server.handlersFile, 0o600);
        assert.equal((await server.reload()).outcome, 'loaded');
        await server.waitForLog('read again');
    });

    asRoot('of root gives the files beside a database to its owner', async (t) => {
        const server = newServer(t);
        fs.writeFileSync(server.database, '', { mode: 0o600 });
        fs.chownSync(server.database, NOBODY, NOBODY);
        await server.start();
        await server.deliver(userCreated());
        for (const end of ['', '-wal', '-shm']) {
            const { uid, mode } = fs.statSync(`${server.database}${end}`);
            assert.deepEqual({ end, uid, mode: mode & 0o777 }, { end, uid: NOBODY, mode: 0o600 });
        }
    });

    asRoot('of another user has none, needs none and complains of nothing', async (t) => {
        const server = await startServer(t, { uid: NOBODY });
        await server.deliver(userCreated());
        assert.equal((await server.reload()).outcome, 'loaded');
        assertCapabilities(server, 0n);
        assert.deepEqual(
            server.lines.filter((line) => line.level === 'warn').map((line) => line.text),
            [],
        );
        for (const file of fs.readdirSync(server.folder).filter((name) => name.startsWith('authkitd.db')))
            assert.equal(fs.statSync(path.join(server.folder, file)).mode & 0o777, 0o600, file);
    });
});
