// SPDX-License-Identifier: MIT
// The servers that are compared, each in a process of its own with a database of its own, and the load
// that is put on them. Databases are in build/bench, on the disk that the checkout is on.

import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';

import { ACTION_SECRET, WEBHOOK_SECRET } from '../integration/lib/workos.js';

const root = path.resolve(import.meta.dirname, '../..');
const peers = path.join(import.meta.dirname, 'peers');
const sql = path.join(peers, 'peer.sql');
const run = promisify(execFile);

export const release = path.join(root, 'build/release');
export const folder = path.join(root, 'build/bench');
export const handlers = path.join(import.meta.dirname, 'handlers.lua');
const goPeer = path.join(folder, 'peer_go');

const PEER_THREADS = '256'; // as many as there are connections at most: civetweb needs one for each
const START_LIMIT_MS = 120_000;

export const servers = {
    authkitd: {
        title: 'authkitd',
        command: (port, db, options = {}) => [
            path.join(release, 'authkitd'),
            'serve',
            ...['--handlers', options.handlers ?? handlers, '--db', db],
            ...['--listen', `127.0.0.1:${port}`, '--admin-listen', 'off'],
        ],
    },
    node: {
        title: 'Node, official SDK, node:sqlite',
        command: (port, db) => [
            process.execPath,
            '--disable-warning=ExperimentalWarning',
            path.join(peers, 'node_sdk.js'),
            port,
            db,
            sql,
        ],
    },
    go: {
        title: 'Go, group commit',
        isMissing: () => !fs.existsSync(goPeer),
        command: (port, db) => [goPeer, port, db, sql],
    },
    path: {
        title: 'limit: bare C, group commit',
        command: (port, db) => [path.join(release, 'bench_peer_path'), port, PEER_THREADS, db, sql],
    },
    http: {
        title: 'limit: HTTP and signature only',
        keepsNothing: true,
        command: (port) => [path.join(release, 'bench_peer_http'), port, PEER_THREADS],
    },
};

export const available = () => Object.keys(servers).filter((key) => !servers[key].isMissing?.());

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return String(port);
}

/** Nothing of the caller's that would configure a server. */
const environment = (variables) => ({
    PATH: process.env.PATH,
    WORKOS_WEBHOOK_SECRET: WEBHOOK_SECRET,
    WORKOS_ACTION_SECRET: ACTION_SECRET,
    ...variables,
});

/** An empty folder for a database; what was in it is gone. */
export function newFolder(name) {
    const made = path.join(folder, 'run', name);
    fs.rmSync(made, { recursive: true, force: true });
    fs.mkdirSync(made, { recursive: true });
    return made;
}

const TICKS = Number(execFileSync('getconf', ['CLK_TCK']).toString());

const running = new Set();
process.on('exit', () => running.forEach((server) => server.child.kill('SIGKILL')));
for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => process.exit(130));

export class Server {
    /** options: db (a file that is there already), handlers, env, cpu (the only one it may use) */
    static async start(key, options = {}) {
        const server = new Server();
        const db = options.db ?? path.join(newFolder(key), 'bench.db');
        const port = await freePort();
        const [program, ...args] = servers[key].command(port, db, options);
        const pinned = options.cpu === undefined ? [] : ['taskset', '-c', String(options.cpu)];
        const [first, ...rest] = [...pinned, program, ...args];

        Object.assign(server, { key, port, db, cpu: options.cpu });
        server.child = spawn(first, rest, {
            env: environment(options.env),
            stdio: ['ignore', 'ignore', 'pipe'],
        });
        server.said = '';
        server.child.stderr.on('data', (text) => (server.said = (server.said + text).slice(-2000)));
        running.add(server);
        server.ended = once(server.child, 'close').then(() => running.delete(server));
        await server.#listens();
        return server;
    }

    async #listens() {
        const limit = Date.now() + START_LIMIT_MS;
        while (Date.now() < limit && this.child.exitCode === null) {
            const answer = await fetch(`http://127.0.0.1:${this.port}/healthz`).catch(() => null);
            if (answer?.status === 200) return;
            await sleep(20);
        }
        this.child.kill('SIGKILL');
        throw new Error(`${this.key} did not start: ${this.said}`);
    }

    get url() {
        return `http://127.0.0.1:${this.port}`;
    }

    /** A figure of /proc/PID/status, in KiB. */
    status(name) {
        const text = fs.readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
        return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)[1]);
    }

    /** Seconds of the processor, the process's own and the kernel's for it. */
    cpuSeconds() {
        const text = fs.readFileSync(`/proc/${this.child.pid}/stat`, 'utf8');
        const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
        return (Number(fields[11]) + Number(fields[12])) / TICKS;
    }

    /** Put load on it; the figures of load.c, the processor's time for an answer, the memory's peak. */
    async load(kind, connections, options = {}) {
        const { pinned = [], ...others } = options;
        const args = Object.entries({ kind, connections, port: this.port, ...others }).flatMap(
            ([name, value]) => [`--${name}`, String(value)],
        );
        const load = [path.join(release, 'bench_load'), ...args];
        const [program, ...rest] = [...pinned, ...load];

        fs.writeFileSync(`/proc/${this.child.pid}/clear_refs`, '5'); // the peak counts from here
        const before = this.cpuSeconds();
        const { stdout } = await run(program, rest);
        const result = JSON.parse(stdout);
        result.cpu_us = ((this.cpuSeconds() - before) * 1e6) / result.answers;
        result.peak_mib = this.status('VmHWM') / 1024;
        return result;
    }

    async stop() {
        this.child.kill('SIGTERM');
        await this.ended;
    }
}

/** Milliseconds from exec to the first 200 of /healthz. */
export async function timeStart(key, options = {}) {
    const db = options.db ?? path.join(newFolder(key), 'bench.db');
    const port = await freePort();
    const { stdout } = await run(
        path.join(release, 'bench_start'),
        [port, '/healthz', ...servers[key].command(port, db, options)],
        { env: environment(options.env) },
    );
    return Number(stdout);
}
