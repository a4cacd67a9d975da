// SPDX-License-Identifier: MIT
// How long 64 honest senders wait for their answers, undisturbed and among 1,000 idle and 1,000
// trickling connections. Rounds take turns, so that what else the machine does hits both alike.
//
// usage: node tests/bench/crowd.js AUTHKITD        (scripts/bench does that)

import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

import { RawConnection } from '../integration/lib/http.js';
import { WEBHOOK_SECRET, signature, userCreated } from '../integration/lib/workos.js';

const ROUNDS = 7;
const SENDERS = 64;
const REQUESTS = 4000; // a round
const EACH = 1000; // idle, and as many trickling

const HANDLERS = `
local authkit = require "authkit"
authkit.schema { lists = { columns = { name = "text", user_id = "text" } } }
authkit.events {
  ["user.created"] = function(ctx, event)
    ctx.db.insert("lists", { name = event.data.first_name, user_id = event.data.id })
  end,
}`;

/** The crowd, in a process of its own: its sockets shall not slow down who takes the time. */
async function beCrowd(port) {
    const connect = async () => {
        const socket = net.connect(port, '127.0.0.1').on('error', () => {});
        await once(socket, 'connect');
        return socket;
    };
    const head = 'POST /workos/webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Padding: ';
    const trickling = [];
    let sent = 0;

    for (let i = 0; i < EACH; i++) {
        await connect();
        trickling.push(await connect());
    }
    setInterval(() => {
        const byte = head[sent++] ?? 'x';
        for (const socket of trickling) if (socket.writable) socket.write(byte);
    }, 1000);
    process.send('ready');
}

async function startServer(binary) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'authkitd-bench-'));
    fs.writeFileSync(path.join(folder, 'handlers.lua'), HANDLERS);
    const child = spawn(
        path.resolve(binary),
        ['serve', '--listen', '127.0.0.1:0', '--admin-listen', 'off', '--log-format', 'json'],
        {
            cwd: folder,
            env: { PATH: process.env.PATH, WORKOS_WEBHOOK_SECRET: WEBHOOK_SECRET },
            stdio: ['ignore', 'ignore', 'pipe'],
        },
    );
    process.on('exit', () => {
        child.kill('SIGKILL');
        fs.rmSync(folder, { recursive: true, force: true });
    });
    for await (const line of readline.createInterface(child.stderr)) {
        const { msg, url } = JSON.parse(line);
        if (msg === 'listening') {
            child.stderr.resume();
            return url;
        }
    }
    throw new Error('the server did not start');
}

async function signedRequest() {
    const body = JSON.stringify(userCreated());
    return (
        'POST /workos/webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n' +
        `Content-Length: ${Buffer.byteLength(body)}\r\n` +
        `WorkOS-Signature: ${await signature(body)}\r\n\r\n${body}`
    );
}

/** The times of all answers of a round, in ms: { p50, p99 }. */
async function measure(url) {
    const requests = [];
    const times = [];

    for (let i = 0; i < REQUESTS; i++) requests.push(await signedRequest());
    await Promise.all(
        Array.from({ length: SENDERS }, async () => {
            const connection = await RawConnection.open(url);
            for (let text; (text = requests.pop()); ) {
                const start = performance.now();
                connection.send(text);
                const answer = await connection.response(60_000);
                if (answer?.status !== 200) throw new Error(`not taken: ${answer?.text}`);
                times.push(performance.now() - start);
            }
            connection.close();
        }),
    );
    times.sort((a, b) => a - b);
    const at = (share) => times[Math.floor(times.length * share)];
    return { p50: at(0.5), p99: at(0.99) };
}

async function measureAmongCrowd(url) {
    const crowd = fork(import.meta.filename, ['--crowd', new URL(url).port]);
    await once(crowd, 'message');
    const result = await measure(url);
    crowd.kill('SIGKILL');
    await once(crowd, 'close');
    return result;
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const ms = (number) => `${number.toFixed(2)} ms`.padStart(10);

async function bench(binary) {
    const url = await startServer(binary);
    const alone = [];
    const crowded = [];

    await measure(url); // warm
    console.log(`${SENDERS} senders; undisturbed, and among ${EACH} idle + ${EACH} trickling`);
    for (let round = 0; round < ROUNDS; round++) {
        alone.push(await measure(url));
        crowded.push(await measureAmongCrowd(url));
    }
    for (const name of ['p50', 'p99']) {
        const [a, b] = [alone, crowded].map((rounds) => median(rounds.map((round) => round[name])));
        const worst = Math.max(...crowded.map((round) => round[name]));
        console.log(
            `${name}  ${ms(a)}  ${ms(b)}   x ${(b / a).toFixed(2)}   (worst round ${ms(worst).trim()})`,
        );
    }
    process.exit(0);
}

if (process.argv[2] === '--crowd') await beCrowd(Number(process.argv[3]));
else await bench(process.argv[2]);
