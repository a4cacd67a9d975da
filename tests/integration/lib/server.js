// SPDX-License-Identifier: MIT
// The built server, run as an operator would: in a folder of its own, on ports of its own, with a
// handlers.lua of its own. Every way in which it may misbehave at its end is checked by stop().

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';

import { Client, RawConnection } from './http.js';
import { changeRows, readRows } from './database.js';
import { ACTION_SECRET, WEBHOOK_SECRET, signature } from './workos.js';
import { adopt, atEnd, patience, sanitizer, until } from './harness.js';

export const binary = path.resolve(
    process.env.AUTHKITD_BIN ??
        path.join(import.meta.dirname, '../../../build', sanitizer || 'release', 'authkitd'),
);

/** What the seed's documentation shows: an app's own todo lists, made for every new user. */
export const TODO_HANDLERS = `
local authkit = require "authkit"

authkit.schema {
  todo_lists = {
    columns = { name = "text", user_id = "text" },
    indexes = { { "user_id" } },
  },
}

authkit.events {
  ["user.created"] = function(ctx, event)
    ctx.db.insert("todo_lists", {
      name = (event.data.first_name or "My") .. "'s Todo List",
      user_id = event.data.id,
    })
  end,
}
`;

export const SECRETS = {
    WORKOS_WEBHOOK_SECRET: WEBHOOK_SECRET,
    WORKOS_ACTION_SECRET: ACTION_SECRET,
};

/** An environment without anything of the caller's that would configure the server. */
export function cleanEnvironment(variables = {}) {
    const inherited = Object.fromEntries(
        Object.entries(process.env).filter(([name]) => !/^(AUTHKITD|WORKOS)_/.test(name)),
    );
    return {
        ...inherited,
        ASAN_OPTIONS: process.env.ASAN_OPTIONS ?? 'detect_leaks=1:halt_on_error=1:exitcode=99',
        UBSAN_OPTIONS: process.env.UBSAN_OPTIONS ?? 'print_stacktrace=1:halt_on_error=1',
        TSAN_OPTIONS:
            process.env.TSAN_OPTIONS ?? 'halt_on_error=0:exitcode=66:second_deadlock_stack=1',
        ...variables,
    };
}

/** A folder that goes when the tests of this file are over. */
export function newFolder() {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'authkitd-test-'));
    folders.push(folder);
    return folder;
}

const folders = [];

process.on('exit', () => {
    for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
});

/** Write as an editor should: nobody ever sees half a file. */
export function writeFile(file, text) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(`${file}.new`, text);
    fs.renameSync(`${file}.new`, file);
}

/** Run a command to its end: { code, signal, stdout, stderr, output (both), ms }. */
export async function runCommand(
    args,
    { env = {}, cwd = newFolder(), input = '', timeout = patience(20_000) } = {},
) {
    const started = Date.now();
    const child = adopt(spawn(binary, args, { cwd, env: cleanEnvironment(env), stdio: 'pipe' }));
    let stdout = '';
    let stderr = '';

    child.stdout.setEncoding('utf8').on('data', (text) => {
        stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
        stderr += text;
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const timer = setTimeout(() => child.kill('SIGKILL'), timeout);
    const [code, signal] = await once(child, 'close');
    clearTimeout(timer);
    assert.doesNotMatch(stderr, SANITIZER_REPORT, 'the sanitizer has something to say');
    assert.notEqual(
        signal,
        'SIGKILL',
        `authkitd ${args.join(' ')} was still running after ${timeout} ms\n${stdout}${stderr}`,
    );
    return { code, signal, stdout, stderr, output: stdout + stderr, ms: Date.now() - started };
}

const SANITIZER_REPORT =
    /(Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer|\.[ch]:\d+:\d+: runtime error:/;
// Of a process that is killed while the sanitizer looks for leaks at its end: that one's helper outlives it for
// a moment and misses its threads. No word of ours.
const KILLED_LEAK_CHECK = /^==\d+==Unable to get registers from thread \d+\.$/;
const LOG_TAIL_LINES = 40;

export class Server {
    /**
     * handlers  the text of handlers.lua
     * modules   { 'lib/x.lua': text }, files beside it
     * args      further options of serve
     * env       environment variables; the secrets are set unless they are given here
     * uid       run it as that user, who gets the folder and a copy of the binary in it
     */
    constructor({
        handlers = TODO_HANDLERS,
        modules = {},
        args = [],
        env = {},
        format = 'json',
        listen = '127.0.0.1:0',
        uid,
    } = {}) {
        this.folder = newFolder();
        this.handlersFile = path.join(this.folder, 'handlers.lua');
        this.database = path.join(this.folder, 'authkitd.db');
        this.args = args;
        this.env = { ...SECRETS, ...env };
        this.format = format;
        this.listen = listen;
        this.uid = uid;
        this.program = binary;
        this.lines = []; // parsed log lines, of all runs
        this.stray = []; // what a run wrote to standard error that isn't a log line
        this.stdout = '';
        this.clients = [];
        writeFile(this.handlersFile, handlers);
        for (const [file, text] of Object.entries(modules))
            writeFile(path.join(this.folder, file), text);
        if (uid !== undefined) {
            this.program = path.join(this.folder, 'authkitd');
            fs.copyFileSync(binary, this.program);
            for (const file of ['.', ...fs.readdirSync(this.folder)])
                fs.chownSync(path.join(this.folder, file), uid, uid);
        }
    }

    get isRunning() {
        return this.child !== undefined;
    }

    /** Start it (again, on the same database) and wait until it listens. */
    async start() {
        assert.ok(!this.isRunning, 'it runs already');
        const child = adopt(
            spawn(
                this.program,
                [
                    'serve',
                    '--handlers',
                    this.handlersFile,
                    '--db',
                    this.database,
                    '--listen',
                    this.listen,
                    '--admin-listen',
                    '127.0.0.1:0',
                    '--log-format',
                    this.format,
                    ...this.args,
                ],
                {
                    cwd: this.folder,
                    env: cleanEnvironment(this.env),
                    stdio: ['ignore', 'pipe', 'pipe'],
                    uid: this.uid,
                    gid: this.uid,
                },
            ),
        );
        const firstLine = this.lines.length;
        let rest = '';

        this.child = child;
        child.stdout.setEncoding('utf8').on('data', (text) => {
            this.stdout += text;
        });
        child.stderr.setEncoding('utf8').on('data', (text) => {
            const lines = (rest + text).split('\n');
            rest = lines.pop();
            lines.forEach((line) => this.#take(line));
        });
        this.ended = once(child, 'close').then(([code, signal]) => {
            if (rest !== '') this.#take(rest);
            if (signal === 'SIGKILL')
                this.stray = this.stray.filter((line) => !KILLED_LEAK_CHECK.test(line));
            if (this.child === child) this.child = undefined;
            return { code, signal };
        });

        const isWithoutAdmin = /--admin-listen off\b/.test(this.args.join(' '));
        const said = (message) => this.lines.slice(firstLine).find((line) => line.msg === message);
        await until(
            'the server to listen',
            () => {
                if (!this.isRunning) return true;
                return said('listening') && (isWithoutAdmin || said('admin listening'));
            },
            patience(15_000),
        ).catch((error) => {
            error.message += this.logTail();
            throw error;
        });
        if (!this.isRunning) throw new Error(`the server ended at its start${this.logTail()}`);
        this.url = said('listening').url;
        this.adminUrl = said('admin listening')?.url;
        this.closeClients();
        this.client = this.newClient();
        return this;
    }

    #take(line) {
        if (this.format === 'text') {
            const [, level, msg, fields] =
                /^\S+Z (DEBUG|INFO|WARN|ERROR) +(.*?)(?:  (\w+=.*))?$/.exec(line) ?? [];
            if (!msg) return this.stray.push(line);
            const url = /url=(\S+)/.exec(fields ?? '')?.[1];
            return this.lines.push({ level: level.toLowerCase(), msg, fields, url, text: line });
        }
        try {
            this.lines.push({ ...JSON.parse(line), text: line });
        } catch {
            this.stray.push(line);
        }
    }

    newClient(options) {
        const client = new Client(this.url, options);
        this.clients.push(client);
        return client;
    }

    closeClients() {
        for (const client of this.clients.splice(0)) client.close();
    }

    openRaw(options) {
        return RawConnection.open(this.url, options);
    }

    /** Send a signed webhook. The body is an event, or text or bytes as they are. */
    async post(
        body,
        {
            path = '/workos/webhook',
            client = this.client,
            headers = {},
            secret = WEBHOOK_SECRET,
            time,
            timeout,
        } = {},
    ) {
        const bytes =
            typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
        return await client.request('POST', path, {
            body: bytes,
            timeout,
            headers: { 'WorkOS-Signature': await signature(bytes, { secret, time }), ...headers },
        });
    }

    /** Send a webhook that must be taken. */
    async deliver(body, options) {
        const answer = await this.post(body, options);
        assert.equal(answer.status, 200, `not taken: ${answer.text}`);
        assert.equal(answer.text, '{"received":true}');
        return answer;
    }

    act(body, options) {
        return this.post(body, { path: '/workos/action', secret: ACTION_SECRET, ...options });
    }

    rows(sql, ...parameters) {
        return readRows(this.database, sql, parameters);
    }

    /** The only row of a SELECT; its value alone when it has one column. */
    row(sql, ...parameters) {
        const rows = this.rows(sql, ...parameters);
        assert.equal(
            rows.length,
            1,
            `${rows.length} rows for: ${sql} ${JSON.stringify(parameters)}`,
        );
        const values = Object.values(rows[0]);
        return values.length === 1 ? values[0] : rows[0];
    }

    /** Change what the database holds; returns how many rows. See changeRows. */
    change(sql, ...parameters) {
        return changeRows(this.database, sql, parameters);
    }

    count(table) {
        return this.row(`SELECT count(*) FROM ${table}`);
    }

    eventRow(event) {
        return this.row('SELECT * FROM workos_events WHERE id = ?', event.id ?? event);
    }

    userRow(user) {
        return this.rows('SELECT * FROM workos_users WHERE id = ?', user.id ?? user)[0];
    }

    log(message) {
        return this.lines.filter((line) => line.msg === message);
    }

    /** Wait for a log line that contains all these texts, and return it. */
    waitForLog(...texts) {
        return until(`a log line with ${texts.join(', ')}`, () =>
            this.lines.find((line) => texts.every((text) => line.text.includes(text))),
        );
    }

    logTail() {
        const tail = [...this.lines.slice(-LOG_TAIL_LINES).map((line) => line.text), ...this.stray];
        return `\n--- the server's last words ---\n${tail.join('\n')}\n`;
    }

    showLogTail(t) {
        for (const line of this.logTail().split('\n')) t.diagnostic(line);
    }

    signal(name) {
        this.child.kill(name);
    }

    /**
     * Have the script (and the certificates) read again; with a text, write that to handlers.lua
     * first. Returns the log line that says how it went; its outcome is 'loaded' or 'refused'.
     */
    async reload(handlers) {
        const outcomes = () =>
            this.lines.filter((line) => /^script (loaded|refused)\b/.test(line.msg));
        const before = outcomes().length;

        if (handlers !== undefined) writeFile(this.handlersFile, handlers);
        this.signal('SIGHUP');
        const line = await until('the script to be loaded or refused', () => outcomes()[before]);
        return { ...line, outcome: /^script (\w+)/.exec(line.msg)[1] };
    }

    residentBytes(field = 'VmRSS') {
        const status = fs.readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
        return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)[1]) * 1024;
    }

    /** kill -9, and wait until it is gone. */
    async kill() {
        this.signal('SIGKILL');
        await this.ended;
        this.closeClients();
    }

    async restart() {
        await this.stop();
        return await this.start();
    }

    /** SIGTERM: it must end by itself, soon, cleanly, and without a word of a sanitizer. */
    async stop() {
        if (!this.isRunning) return;
        const started = Date.now();
        const timer = setTimeout(() => this.isRunning && this.signal('SIGKILL'), patience(15_000));

        this.signal('SIGTERM');
        const { code, signal } = await this.ended;
        clearTimeout(timer);
        this.closeClients();
        const took = Date.now() - started;
        assert.deepEqual(this.stray, [], 'everything on standard error is a log line');
        assert.deepEqual(
            { code, signal },
            { code: 0, signal: null },
            `how it ended${this.logTail()}`,
        );
        assert.ok(took < patience(5000), `it took ${took} ms to end`);
    }

    /** stop(), unless the test has killed it; also looks for what a killed one had said. */
    async finish() {
        await this.stop();
        assert.deepEqual(this.stray, [], 'everything on standard error is a log line');
    }
}

/** A server for one test, not started yet; it is stopped when the test ends, its log shown if that failed. */
export function newServer(t, options) {
    const server = new Server(options);

    atEnd(t, async () => {
        try {
            await server.finish();
        } finally {
            if (!t.passed) server.showLogTail(t);
        }
    });
    return server;
}

export const startServer = (t, options) => newServer(t, options).start();

/** A server for all tests of a describe(), running while they do. */
export function sharedServer(options) {
    const server = new Server(options);

    before(() => server.start());
    after(() => server.finish());
    afterEach((t) => {
        if (!t.passed) server.showLogTail(t);
    });
    return server;
}
