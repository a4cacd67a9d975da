// SPDX-License-Identifier: MIT
// What a supervisor hears: systemd's notify protocol, over a real socket.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

import { adopt, atEnd, describe, test, until } from './lib/harness.js';
import { newFolder, newServer, runCommand, writeFile } from './lib/server.js';
import { userCreated } from './lib/workos.js';

// Node has no datagram sockets of the local kind, so perl listens (Debian's perl-base is always
// there) and passes each message on as a line of hexadecimal digits.
const LISTENER = String.raw`
use Socket;
$| = 1;
my $name = $ARGV[0];
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
$name =~ s/^\@/\0/;
bind($socket, pack("S a*", AF_UNIX, $name)) or die "bind: $!";
print "bound\n";
while (defined recv($socket, my $message, 65536, 0)) { print unpack("H*", $message), "\n"; }
`;

/** A supervisor: its socket's name for NOTIFY_SOCKET, and all that it has heard. */
async function supervise(t, name = path.join(newFolder(), 'notify')) {
    const child = adopt(
        spawn('perl', ['-e', LISTENER, name], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    const heard = [];
    let bound = false;
    let rest = '';

    atEnd(t, async () => {
        child.kill();
        await once(child, 'close');
    });
    child.stdout.setEncoding('utf8').on('data', (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        for (const line of lines)
            if (line === 'bound') bound = true;
            else
                heard.push(
                    Object.fromEntries(
                        Buffer.from(line, 'hex')
                            .toString()
                            .split('\n')
                            .map((pair) => [
                                pair.slice(0, pair.indexOf('=')),
                                pair.slice(pair.indexOf('=') + 1),
                            ]),
                    ),
                );
    });
    await until('the supervisor to listen', () => bound);
    return {
        name,
        heard,
        /** The first message with that key, of those after the first `from`. */
        hears: (key, from = 0) =>
            until(`${key} among ${JSON.stringify(heard)}`, () =>
                heard.slice(from).find((message) => key in message),
            ),
        states: () =>
            heard
                .map((message) => Object.keys(message)[0])
                .filter((key) => key !== 'WATCHDOG')
                .join(' '),
    };
}

const supervised = (t, supervisor, { env = {}, ...options } = {}) =>
    newServer(t, { env: { NOTIFY_SOCKET: supervisor.name, ...env }, ...options });

describe('a supervisor', () => {
    for (const kind of ['path', 'abstract socket'])
        test(`hears of the whole life, over a ${kind}`, async (t) => {
            const supervisor = await supervise(
                t,
                kind === 'path' ? undefined : `@authkitd-test-${process.pid}`,
            );
            const server = supervised(t, supervisor);
            await server.start();
            const ready = await supervisor.hears('READY');
            assert.deepEqual(ready, { READY: '1', STATUS: `serving ${server.url}` });

            assert.equal((await server.reload()).outcome, 'loaded');
            await until('the end of the reload', () => supervisor.heard.length >= 3);
            const [reloading, reloaded] = supervisor.heard.slice(1);
            assert.equal(reloading.RELOADING, '1');
            // The clock that it is of began with the machine, for node and server alike.
            const now = process.hrtime.bigint() / 1000n;
            const age = now - BigInt(reloading.MONOTONIC_USEC);
            assert.ok(age >= 0n && age < 60_000_000n, `${age} us`);
            assert.equal(reloaded.READY, '1');
            assert.match(reloaded.STATUS, /^serving; script loaded at 2/);

            await server.stop();
            await supervisor.hears('STOPPING');
            assert.equal(supervisor.states(), 'READY RELOADING READY STOPPING');
        });

    test('hears READY only once requests are answered', async (t) => {
        const supervisor = await supervise(t);
        const server = supervised(t, supervisor, {
            // Long enough to be caught, had it been told too early.
            handlers: `for i = 1, 3e7 do end
                require "authkit".events { ["user.created"] = function() end }`,
        });
        const starting = server.start();
        await supervisor.hears('READY');
        await starting;
        await server.deliver(userCreated());
        assert.equal(supervisor.states(), 'READY');
    });

    test('hears why a script was refused, in one line, and that the server goes on', async (t) => {
        const supervisor = await supervise(t);
        const server = supervised(t, supervisor);
        await server.start();
        assert.equal((await server.reload('error("first\\nsecond")')).outcome, 'refused');
        await supervisor.hears('RELOADING');
        await until('the end of the reload', () => supervisor.heard.length >= 3);
        const { READY, STATUS } = supervisor.heard[2];
        assert.equal(READY, '1');
        assert.match(
            STATUS,
            /^script refused; the old one goes on: .*handlers\.lua:1: first second/,
        );
        await server.deliver(userCreated());
    });

    test('hears of reloads by command, too', async (t) => {
        const supervisor = await supervise(t);
        const server = supervised(t, supervisor);
        await server.start();
        // The command itself is nobody that a supervisor waits for.
        const { code } = await runCommand(['reload', '--db', server.database], {
            env: { NOTIFY_SOCKET: supervisor.name },
        });
        assert.equal(code, 0);
        await until('the end of the reload', () => supervisor.heard.length >= 3);
        assert.equal(supervisor.states(), 'READY RELOADING READY');
    });

    test('with a watchdog gets a sign of life at least every half of its time', async (t) => {
        const supervisor = await supervise(t);
        const server = supervised(t, supervisor, { env: { WATCHDOG_USEC: '200000' } });
        await server.start();
        const started = Date.now();
        await until(
            'ten signs of life',
            () => supervisor.heard.filter((message) => 'WATCHDOG' in message).length >= 10,
        );
        const took = Date.now() - started;
        assert.ok(took >= 500, `not more often than needed: 10 in ${took} ms`);
        // The variables are the server's alone: not one that says so is left to be inherited.
        assert.equal(supervisor.states(), 'READY');
    });

    test('gets signs of life while a script loops at its loading', async (t) => {
        const supervisor = await supervise(t);
        const server = supervised(t, supervisor, { env: { WATCHDOG_USEC: '200000' } });
        await server.start();
        writeFile(server.handlersFile, 'print("in the loop") while true do end');
        server.signal('SIGHUP');
        await server.waitForLog('in the loop');
        const before = supervisor.heard.length;
        await until(
            'five signs of life',
            () =>
                supervisor.heard.slice(before).filter((message) => 'WATCHDOG' in message).length >=
                5,
        );
        assert.equal(supervisor.states(), 'READY RELOADING');
    });

    test('gets none when the watchdog is for another process', async (t) => {
        const supervisor = await supervise(t);
        const server = supervised(t, supervisor, {
            env: { WATCHDOG_USEC: '20000', WATCHDOG_PID: '1' },
        });
        await server.start();
        await server.reload();
        await server.stop();
        await supervisor.hears('STOPPING');
        assert.equal(supervisor.heard.filter((message) => 'WATCHDOG' in message).length, 0);
    });
});

describe('without a supervisor that listens', () => {
    test('a socket that is not there stops nobody; a warning says so', async (t) => {
        const server = newServer(t, { env: { NOTIFY_SOCKET: path.join(newFolder(), 'absent') } });
        await server.start();
        assert.equal((await server.waitForLog("the supervisor can't be told")).level, 'warn');
        await server.deliver(userCreated());
    });

    test('nonsense in NOTIFY_SOCKET, too', async (t) => {
        const server = newServer(t, { env: { NOTIFY_SOCKET: 'nonsense', WATCHDOG_USEC: '1' } });
        await server.start();
        await server.waitForLog('NOTIFY_SOCKET');
        await server.deliver(userCreated());
    });
});
