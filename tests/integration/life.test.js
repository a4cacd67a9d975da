// SPDX-License-Identifier: MIT
// From start to end: health, logs, files, addresses, certificates, and going away politely.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';

import {
    atEnd,
    describe,
    describeLogic,
    inParallel,
    load,
    patience,
    sleep,
    test,
    testLogic,
    until,
} from './lib/harness.js';
import { Server, newFolder, newServer, runCommand, startServer } from './lib/server.js';
import { Client, RawConnection } from './lib/http.js';
import { scrape } from './lib/prometheus.js';
import { WEBHOOK_SECRET, userCreated } from './lib/workos.js';

describe('SIGTERM', () => {
    for (const signal of ['SIGTERM', 'SIGINT']) {
        test(`${signal} under load: it drains, ends with 0 within 5 s, and what it acknowledged is there`, async (t) => {
            const server = await startServer(t);
            const client = server.newClient({ connections: 32 });
            const acknowledged = [];
            let over = false;
            const senders = Array.from({ length: 32 }, async () => {
                while (!over) {
                    const event = userCreated();
                    try {
                        const answer = await server.post(event, { client });
                        assert.ok([200, 503].includes(answer.status), answer.text);
                        if (answer.status === 200) acknowledged.push(event);
                    } catch (error) {
                        if (error instanceof assert.AssertionError) throw error;
                        return; // it has gone
                    }
                }
            });
            await until('an acknowledged event', () => acknowledged.length > 0);
            await sleep(patience(300));
            const started = Date.now();
            server.signal(signal);
            const { code, signal: killer } = await server.ended;
            over = true;
            const [stopping] = server.lines.filter(({ msg }) => msg === 'stopping');
            assert.equal(stopping.signal, signal);
            await Promise.all(senders);
            assert.deepEqual({ code, killer }, { code: 0, killer: null });
            assert.ok(Date.now() - started < patience(5000), `${Date.now() - started} ms`);

            const wal = `${server.database}-wal`;
            assert.ok(
                !fs.existsSync(wal) || fs.statSync(wal).size === 0,
                'the log is checkpointed into the file',
            );
            const ids = new Set(server.rows('SELECT id FROM workos_events').map((row) => row.id));
            for (const event of acknowledged)
                assert.ok(ids.has(event.id), `the acknowledged ${event.id} is there`);
            assert.equal(server.count('todo_lists'), ids.size);
        });
    }

    test('is not held up by idle, half-sent and trickling connections', async (t) => {
        const server = await startServer(t);
        const connections = await inParallel(30, Array.from({ length: 60 }), () =>
            RawConnection.open(server.url),
        );
        connections
            .slice(0, 20)
            .forEach((connection) =>
                connection.send(
                    'POST /workos/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc',
                ),
            );
        connections.slice(20, 40).forEach((connection) => connection.send('POST /workos/webh'));
        await server.deliver(userCreated());
        await server.stop(); // asserts exit code and time
        connections.forEach((connection) => connection.close());
    });

    test('lets the request that runs finish: its answer is 200', async (t) => {
        const server = await startServer(t, {
            handlers: `require "authkit".events { ["user.created"] = function(ctx, event)
                print("in the middle")
                local stop = ctx.now() + 600
                while ctx.now() < stop do end
            end }`,
        });
        const answer = server.post(userCreated());
        await server.waitForLog('in the middle');
        server.signal('SIGTERM');
        assert.equal((await answer).status, 200);
        await server.stop();
    });

    test('during an endless loop still ends in time', async (t) => {
        const server = await startServer(t, {
            handlers:
                'require "authkit".events { ["user.created"] = function() print("in the loop") while true do end end }',
        });
        const answer = server.post(userCreated()).catch(() => null);
        await server.waitForLog('in the loop');
        await server.stop();
        await answer;
    });

    test('right at the start, before it listens, is obeyed too', async (t) => {
        for (const delay of [0, 5, 10, 20]) {
            const server = newServer(t);
            const starting = server.start().catch(() => {});
            await sleep(delay);
            server.signal('SIGTERM');
            const { code, signal } = await server.ended;
            await starting;
            assert.ok(code === 0 || signal === 'SIGTERM', `${code} ${signal}`);
            assert.deepEqual(server.stray, []);
        }
    });

    test('and started again on the same database it goes on', async (t) => {
        const server = await startServer(t);
        for (let i = 0; i < 3; i++) {
            await server.deliver(userCreated());
            await server.restart();
        }
        assert.equal(server.count('todo_lists'), 3);
    });
});

describe('a database that is deleted, or replaced, while it is in use', () => {
    for (const [name, lose] of [
        ['deleted', (db) => fs.rmSync(db)],
        ['replaced', (db) => (fs.renameSync(db, `${db}.old`), fs.writeFileSync(db, ''))],
    ])
        test(`${name}: the server says so, and ends with 1`, async (t) => {
            const server = await startServer(t);
            await server.deliver(userCreated());
            lose(server.database);
            await server.waitForLog(
                'the database failed; stopping',
                'was deleted, or another file put in its place',
            );
            assert.deepEqual(await server.ended, { code: 1, signal: null });
            // Symptom: it named a SIGTERM, which nobody had sent.
            const [stopping] = server.lines.filter(({ msg }) => msg === 'stopping');
            assert.equal(stopping.why, 'the database failed');
            assert.equal(stopping.signal, undefined);
        });

    // Symptom: whatever came was acknowledged, and lost when the server was killed.
    for (const suffix of ['-wal', '-shm'])
        for (const [name, lose] of [
            ['deleted', (file) => fs.rmSync(file)],
            ['replaced', (file) => (fs.renameSync(file, `${file}.old`), fs.writeFileSync(file, ''))],
        ])
            testLogic(`${name}, its ${suffix}: the same, and what was acknowledged is there`, async (t) => {
                const server = await startServer(t);
                await server.deliver(userCreated());
                lose(server.database + suffix);
                const event = userCreated();
                await server.deliver(event);
                await server.waitForLog(
                    'the database failed; stopping',
                    `authkitd.db${suffix}' was deleted, or another file put in its place`,
                );
                assert.deepEqual(await server.ended, { code: 1, signal: null });
                await server.start();
                assert.equal(server.count('workos_events'), 2);
                assert.equal(server.row('PRAGMA integrity_check'), 'ok');
            });

    test('just before a SIGTERM: that is no good end either', async (t) => {
        const server = await startServer(t);
        await server.deliver(userCreated());
        fs.rmSync(server.database);
        server.signal('SIGTERM');
        assert.deepEqual(await server.ended, { code: 1, signal: null });
        await server.waitForLog('was deleted, or another file put in its place');
    });
});

describe('health', () => {
    test('/healthz is 200 on both listeners; it takes GET and HEAD', async (t) => {
        const server = await startServer(t);
        const admin = new Client(server.adminUrl);
        atEnd(t, () => admin.close());
        for (const client of [server.client, admin]) {
            assert.equal((await client.request('GET', '/healthz')).status, 200);
            assert.equal((await client.request('HEAD', '/healthz')).status, 200);
            assert.equal((await client.request('GET', '/healthz?verbose=1')).status, 200);
        }
    });

    test('webhooks are not taken on the admin listener, nor its own paths on the public one', async (t) => {
        const server = await startServer(t);
        const admin = new Client(server.adminUrl);
        atEnd(t, () => admin.close());
        assert.equal((await server.post(userCreated(), { client: admin })).status, 404);
        for (const path of ['/readyz', '/metrics', '/reload', '/'])
            assert.equal((await server.client.request('GET', path)).status, 404);
        assert.equal(server.count('workos_events'), 0);
    });
});

describeLogic('the log', () => {
    async function traffic(server) {
        await server.deliver(userCreated());
        await server.post(userCreated(), { secret: 'wrong' });
        await server.post('nonsense');
        await server.post(
            userCreated({ first_name: 'Eve\n2026-01-01T00:00:00.000Z ERROR forged' }),
        );
        await server.reload();
        await server.reload('error("x\\ny")');
        await server.stop();
    }

    test('in JSON: every line is an object with time, level and msg', async (t) => {
        const server = await startServer(t, { args: ['--log-level', 'debug'] });
        await traffic(server);
        assert.deepEqual(server.stray, []);
        for (const line of server.lines) {
            assert.match(line.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
            assert.ok(['debug', 'info', 'warn', 'error'].includes(line.level), line.text);
            assert.equal(typeof line.msg, 'string');
        }
    });

    test('as text: every line is time, level, message and fields', async (t) => {
        const server = await startServer(t, { args: ['--log-level', 'debug'], format: 'text' });
        await traffic(server);
        assert.deepEqual(server.stray, []);
        for (const line of server.lines)
            assert.match(
                line.text,
                /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARN|ERROR) +\S/,
            );
        assert.equal(server.lines.filter((line) => line.msg.startsWith('forged')).length, 0);
    });

    test('tells a wrong secret from a clock that is off', async (t) => {
        const server = await startServer(t, { args: ['--log-level', 'debug'] });
        const said = async (options) => {
            const before = server.lines.length;
            assert.equal((await server.post(userCreated(), options)).status, 401);
            return await until('a line about the refusal', () => server.lines.slice(before)[0]);
        };
        const clock = await said({ time: Date.now() - 3_600_000 });
        assert.equal(clock.level, 'warn');
        assert.ok(
            Object.values(clock).some(
                (value) =>
                    typeof value === 'number' && Math.abs(Math.abs(value) - 3_600_000) < 5000,
            ),
            'says by how much',
        );
        const secret = await said({ secret: 'wrong' });
        assert.notEqual(secret.msg, clock.msg);
    });

    test('says nothing below --log-level', async (t) => {
        const server = await startServer(t, {
            handlers:
                'require "authkit".events { ["user.created"] = function(ctx) ctx.log.info("quiet") ctx.log.debug("quieter") ctx.log.warn("heard") end }',
        });
        await server.deliver(userCreated());
        await server.waitForLog('heard');
        assert.equal(server.log('quieter').length, 0);
        assert.equal(server.log('quiet').length, 1);
    });
});

describeLogic('files', () => {
    test('the database is for its owner only, with all that belongs to it; the lock lies beside it', async (t) => {
        const server = await startServer(t);
        await server.deliver(userCreated());
        const files = fs
            .readdirSync(server.folder)
            .filter((file) => file.startsWith('authkitd.db'));
        assert.ok(files.includes('authkitd.db'));
        assert.ok(files.includes('authkitd.db.lock'), `${files}`);
        for (const file of files.filter((name) => !name.endsWith('.lock')))
            assert.equal(fs.statSync(path.join(server.folder, file)).mode & 0o777, 0o600, file);
        await server.stop();
        await server.start(); // the lock file that stayed is no obstacle
    });

    test('a database in a folder that is not there: exit 1, the path named', async () => {
        const server = new Server();
        server.database = path.join(server.folder, 'absent', 'authkitd.db');
        await assert.rejects(() => server.start(), /ended at its start/);
        const said = [...server.lines.map((line) => line.text), ...server.stray].join('\n');
        assert.match(said, /absent/);
    });

    test('a file that is no database: exit 1, the file named and left as it is', async () => {
        const server = new Server();
        fs.writeFileSync(server.database, 'Dear diary, '.repeat(1000));
        await assert.rejects(() => server.start(), /ended at its start/);
        const said = [...server.lines.map((line) => line.text), ...server.stray].join('\n');
        assert.match(said, /authkitd\.db/);
        assert.equal(fs.readFileSync(server.database, 'utf8'), 'Dear diary, '.repeat(1000));
    });
});

describeLogic('addresses', () => {
    test('IPv6: [::1]:0', async (t) => {
        const server = await startServer(t, { listen: '[::1]:0' });
        assert.match(server.url, /^http:\/\/\[::1\]:\d+$/);
        await server.deliver(userCreated());
    });

    test('all addresses: 0.0.0.0:0', async (t) => {
        const server = await startServer(t, { listen: '0.0.0.0:0' });
        const client = new Client(`http://127.0.0.1:${new URL(server.url).port}`);
        atEnd(t, () => client.close());
        await server.deliver(userCreated(), { client });
    });
});

const GOOD_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
const WEAK_KEY = ['-newkey', 'rsa:1024'];

/** A self-signed certificate of that name, by openssl. */
function makeCertificate(folder, name, key = GOOD_KEY) {
    execFileSync(
        'openssl',
        [
            'req',
            '-x509',
            ...key,
            '-nodes',
            '-days',
            '2',
            '-subj',
            `/CN=${name}`,
            '-addext',
            'subjectAltName=IP:127.0.0.1,IP:::1',
            '-keyout',
            path.join(folder, 'key.pem'),
            '-out',
            path.join(folder, 'cert.pem'),
        ],
        { stdio: 'pipe' },
    );
}

/** The same certificate, but of yesterday. */
function expireCertificate(folder) {
    const args = 'x509 -in cert.pem -signkey key.pem -days -1 -out expired.pem'.split(' ');

    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
    fs.renameSync(path.join(folder, 'expired.pem'), path.join(folder, 'cert.pem'));
}

/** A self-signed certificate that was valid from so many seconds ago on, and will be for so many. */
function makeAgedCertificate(folder, agoSeconds, leftSeconds) {
    const time = (seconds) =>
        new Date(Date.now() + seconds * 1000).toISOString().replace(/[-:T]|\.\d+/g, '');
    const run = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });

    fs.writeFileSync(path.join(folder, 'index.txt'), '');
    fs.writeFileSync(
        path.join(folder, 'ca.cnf'),
        `[ca]
default_ca = aged
[aged]
database = ./index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
`,
    );
    run('req', '-new', '-key', 'key.pem', '-subj', '/CN=aged.example.com', '-out', 'aged.csr');
    run(
        ...['ca', '-batch', '-selfsign', '-notext', '-config', 'ca.cnf', '-keyfile', 'key.pem'],
        ...['-in', 'aged.csr', '-out', 'cert.pem'],
        ...['-startdate', time(-agoSeconds), '-enddate', time(leftSeconds)],
    );
}

describe('TLS', () => {
    const certificateName = (url, options = {}) =>
        new Promise((resolve, reject) => {
            const { hostname, port } = new URL(url);
            const socket = tls.connect(
                {
                    host: hostname.replace(/[[\]]/g, ''),
                    port,
                    rejectUnauthorized: false,
                    ...options,
                },
                () => {
                    resolve({
                        name: socket.getPeerCertificate().subject.CN,
                        protocol: socket.getProtocol(),
                    });
                    socket.destroy();
                },
            );
            socket.on('error', reject);
        });

    const tlsServer = (t, options = {}) => {
        const folder = newFolder();
        makeCertificate(folder, 'first.example.com');
        return startServer(t, {
            args: [
                '--tls-cert',
                path.join(folder, 'cert.pem'),
                '--tls-key',
                path.join(folder, 'key.pem'),
            ],
            ...options,
        }).then((server) => Object.assign(server, { certificates: folder }));
    };

    test('serves https, over IPv4 and IPv6, TLS 1.2 and 1.3, with connections kept alive', async (t) => {
        for (const listen of ['127.0.0.1:0', '[::1]:0']) {
            const server = await tlsServer(t, { listen });
            assert.match(server.url, /^https:/);
            const client = server.newClient({ connections: 8, rejectUnauthorized: false });
            await inParallel(8, Array.from({ length: load(100, 30) }), () =>
                server.deliver(userCreated(), { client }),
            );
            assert.equal(server.count('workos_users'), load(100, 30));
            for (const version of ['TLSv1.2', 'TLSv1.3'])
                assert.equal(
                    (
                        await certificateName(server.url, {
                            minVersion: version,
                            maxVersion: version,
                        })
                    ).protocol,
                    version,
                );
        }
    });

    test('reads the certificate again on SIGHUP, under load, no answer but 200', async (t) => {
        const server = await tlsServer(t);
        const client = server.newClient({ connections: 4, rejectUnauthorized: false });
        let over = false;
        const senders = Array.from({ length: 4 }, async () => {
            while (!over) await server.deliver(userCreated(), { client });
        });
        assert.equal((await certificateName(server.url)).name, 'first.example.com');
        for (const name of ['second.example.com', 'third.example.com']) {
            makeCertificate(server.certificates, name);
            await server.reload();
            assert.equal((await certificateName(server.url)).name, name);
        }
        over = true;
        await Promise.all(senders);
    });

    test('keeps the old certificate when the new one is broken, and says so', async (t) => {
        const server = await tlsServer(t);
        fs.writeFileSync(path.join(server.certificates, 'cert.pem'), 'no certificate');
        const { code, stdout, stderr } = await runCommand(['reload', '--db', server.database]);
        assert.equal(code, 1, stdout);
        assert.match(stdout, /^script loaded$/m);
        assert.match(stdout, /^warning: certificate refused; .*cert\.pem/m);
        assert.match(stderr, /^authkitd: the certificate was refused, the old one goes on$/m);
        await server.waitForLog('cert.pem');
        assert.equal((await certificateName(server.url)).name, 'first.example.com');
        const { last_load } = await (await fetch(`${server.adminUrl}/api/script`)).json();
        assert.match(last_load.text, /^warning: certificate refused; .*cert\.pem/m);
    });

    test('and says so beside what is wrong with the script', async (t) => {
        const server = await tlsServer(t);
        fs.writeFileSync(path.join(server.certificates, 'cert.pem'), 'no certificate');
        fs.writeFileSync(server.handlersFile, 'not Lua');
        const { code, stderr } = await runCommand(['reload', '--db', server.database]);
        assert.equal(code, 1, stderr);
        assert.match(stderr, /handlers\.lua:1: .*near/);
        assert.match(stderr, /certificate refused; the old one goes on: .*cert\.pem/);
        // Symptom: what was said of the script named the certificate, also when that had been mended.
        const { last_load } = await (await fetch(`${server.adminUrl}/api/script`)).json();
        assert.match(last_load.text, /handlers\.lua:1: .*near/);
        assert.doesNotMatch(last_load.text, /cert\.pem/);
    });

    // Symptom: check, start and reload took it; then every handshake failed, and the log was silent.
    testLogic('refuses a certificate that OpenSSL gives to nobody: check, and a reload', async (t) => {
        const server = await tlsServer(t);
        const files = ['cert.pem', 'key.pem'].map((name) => path.join(server.certificates, name));
        makeCertificate(server.certificates, 'weak.example.com', WEAK_KEY);
        const check = await runCommand([
            ...['check', '--handlers', server.handlersFile],
            ...['--tls-cert', files[0], '--tls-key', files[1]],
        ]);
        assert.equal(check.code, 1, check.output);
        assert.match(check.output, /cert\.pem': ee key too small/);
        const { code, stdout } = await runCommand(['reload', '--db', server.database]);
        assert.equal(code, 1, stdout);
        assert.equal((await certificateName(server.url)).name, 'first.example.com');
    });

    // Symptom: only the log and who called for the reload were told.
    testLogic('tells of a refused certificate in /readyz and /metrics, until one is taken', async (t) => {
        const server = await tlsServer(t);
        const warnings = async () =>
            (await (await fetch(`${server.adminUrl}/readyz`)).json()).warnings;
        const isRefused = async () =>
            (await scrape(server)).value('authkitd_certificate_refused');

        assert.deepEqual([await warnings(), await isRefused()], [[], 0]);
        fs.writeFileSync(path.join(server.certificates, 'cert.pem'), 'no certificate');
        await runCommand(['reload', '--db', server.database]);
        const [warning, ...others] = await warnings();
        assert.match(warning, /^the certificate that was read at 20.* was refused; .*cert\.pem/);
        assert.deepEqual(others, []);
        assert.equal(await isRefused(), 1);
        makeCertificate(server.certificates, 'second.example.com');
        const { code, stdout } = await runCommand(['reload', '--db', server.database]);
        assert.equal(code, 0, stdout);
        assert.deepEqual([await warnings(), await isRefused()], [[], 0]);
    });

    testLogic('tells in /readyz and /metrics when a certificate ends, or has', async (t) => {
        const DAY = 86400;
        const server = await tlsServer(t);

        for (const [ago, left, expected] of [
            [83 * DAY, 8 * DAY, null],
            [83 * DAY, 6 * DAY, /^the certificate expires at 20.*authkitd reload$/],
            [1 * DAY, 2 * DAY, null], // one that lives for days
            [3 * DAY, DAY / 2, /^the certificate expires at 20/],
            [3 * DAY, -DAY, /^the certificate expired at 20.*authkitd reload$/],
            [-DAY, 2 * DAY, /^the certificate isn't valid before 20/],
        ]) {
            const what = `${ago} ${left}`;
            makeAgedCertificate(server.certificates, ago, left);
            const { code, stdout } = await runCommand(['reload', '--db', server.database]);
            assert.equal(code, 0, stdout);
            const { warnings } = await (await fetch(`${server.adminUrl}/readyz`)).json();
            assert.equal(warnings.length, expected ? 1 : 0, what);
            if (expected) assert.match(warnings[0], expected, what);
            const end = (await scrape(server)).value(
                'authkitd_certificate_expires_timestamp_seconds',
            );
            assert.ok(Math.abs(end - (Date.now() / 1000 + left)) < patience(60), what);
        }
    });

    // Symptom: it was taken in silence, and every caller turned away.
    testLogic('warns of a certificate that has expired: the log, check and reload', async (t) => {
        const server = await tlsServer(t);
        const certificate = path.join(server.certificates, 'cert.pem');
        const key = path.join(server.certificates, 'key.pem');
        const said = /the certificate in '.*cert\.pem' expired on 20\d\d-\d\d-\d\d at /;
        const warnings = () => server.log('certificate').filter(({ level }) => level === 'warn');

        assert.deepEqual(warnings(), []);
        makeCertificate(server.certificates, 'old.example.com');
        expireCertificate(server.certificates);
        const { code, stdout } = await runCommand(['reload', '--db', server.database]);
        assert.equal(code, 0, stdout);
        assert.match(stdout, said);
        assert.equal((await certificateName(server.url)).name, 'old.example.com');
        await server.restart();
        assert.equal(warnings().length, 2);
        for (const { what } of warnings()) assert.match(what, said);

        const files = ['--handlers', server.handlersFile, '--tls-cert', certificate];
        const check = await runCommand(['check', ...files, '--tls-key', key]);
        assert.equal(check.code, 0, check.output);
        assert.match(check.stdout, /^warning +the certificate in '.*' expired on /m);
    });

    testLogic('authkitd send says what is missing: https, or --insecure', async (t) => {
        const server = await tlsServer(t);
        const { host } = new URL(server.url);
        const send = (...args) =>
            runCommand(['send', 'user.created', ...args], {
                env: { WORKOS_WEBHOOK_SECRET: WEBHOOK_SECRET },
            });
        const plain = await send('--listen', host);
        assert.equal(plain.code, 1);
        assert.match(plain.stderr, /--tls-cert/);
        const strict = await send('--url', `https://${host}/workos/webhook`);
        assert.equal(strict.code, 1);
        assert.match(strict.stderr, /--insecure/);
        const lax = await send('--url', `https://${host}/workos/webhook`, '--insecure');
        assert.equal(lax.code, 0, lax.output);
    });

    test('does not answer plain HTTP, and lives on after nonsense', async (t) => {
        const server = await tlsServer(t);
        const raw = await server.openRaw();
        raw.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
        const answer = await raw.response(1000);
        assert.notEqual(answer?.status, 200);
        raw.close();
        const client = server.newClient({ rejectUnauthorized: false });
        await server.deliver(userCreated(), { client });
    });

    test('a slow or silent handshake stops nobody', async (t) => {
        const server = await tlsServer(t);
        const silent = await inParallel(50, Array.from({ length: 100 }), () => server.openRaw());
        silent.slice(50).forEach((connection) => connection.send(Buffer.from('160301', 'hex')));
        const client = server.newClient({ connections: 4, rejectUnauthorized: false });
        const started = Date.now();
        await inParallel(4, Array.from({ length: 40 }), () =>
            server.deliver(userCreated(), { client }),
        );
        assert.ok(Date.now() - started < patience(4000), `${Date.now() - started} ms`);
        silent.forEach((connection) => connection.close());
    });

    testLogic('a certificate without its key, or a file that is not there: exit with a word about it', async () => {
        const folder = newFolder();
        makeCertificate(folder, 'x');
        for (const [args, pattern] of [
            [['--tls-cert', path.join(folder, 'cert.pem')], /tls-key/],
            [
                [
                    '--tls-cert',
                    path.join(folder, 'absent.pem'),
                    '--tls-key',
                    path.join(folder, 'key.pem'),
                ],
                /absent\.pem/,
            ],
            [
                [
                    '--tls-cert',
                    path.join(folder, 'cert.pem'),
                    '--tls-key',
                    path.join(folder, 'cert.pem'),
                ],
                /cert\.pem/,
            ],
        ]) {
            const server = new Server({ args });
            await assert.rejects(() => server.start(), /ended at its start/);
            assert.match(
                [...server.lines.map((line) => line.text), ...server.stray].join('\n'),
                pattern,
            );
        }
    });
});
