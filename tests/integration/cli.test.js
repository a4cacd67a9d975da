// SPDX-License-Identifier: MIT
// The command line: what it says, what it refuses, where settings come from, and what it keeps quiet.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';

import { adopt, atEnd, describe, test, until } from './lib/harness.js';
import {
    SECRETS,
    TODO_HANDLERS,
    binary,
    cleanEnvironment,
    newFolder,
    newServer,
    runCommand,
    sharedServer,
    startServer,
    writeFile,
} from './lib/server.js';
import {
    ACTION_SECRET,
    WEBHOOK_SECRET,
    registrationAction,
    sdk,
    userCreated,
} from './lib/workos.js';

/** A folder with a handlers.lua, as the place to run a command in. */
function folderWith(handlers = TODO_HANDLERS, files = {}) {
    const folder = newFolder();
    writeFile(path.join(folder, 'handlers.lua'), handlers);
    for (const [file, text] of Object.entries(files)) writeFile(path.join(folder, file), text);
    return folder;
}

/** What a program prints, on whichever output. */
async function runProgram(program, args, cwd, options = {}) {
    const child = adopt(
        spawn(program, args, {
            cwd,
            env: cleanEnvironment(),
            stdio: ['ignore', 'pipe', 'pipe'],
            ...options,
        }),
    );
    let output = '';
    for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => (output += text));
    await once(child, 'close');
    return output;
}

/** A port that nobody listens on (any more). */
async function unusedPort() {
    const listener = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => listener.once('listening', resolve));
    const { port } = listener.address();
    await new Promise((resolve) => listener.close(resolve));
    return port;
}

/** Somebody who answers everything with {}. asked: the paths, as they come. */
async function startPeer(t) {
    const asked = [];
    const peer = http.createServer((request, response) => {
        asked.push(request.url);
        response.end('{}');
    });

    await new Promise((resolve) => peer.listen(0, '127.0.0.1', resolve));
    atEnd(t, () => peer.close());
    return { url: `http://127.0.0.1:${peer.address().port}`, asked };
}

/** The environment that points a command at a running server. */
const pointingAt = (server) => ({
    ...SECRETS,
    AUTHKITD_LISTEN: new URL(server.url).host,
    AUTHKITD_DB: server.database,
});

describe('help and usage', () => {
    test('version prints its name and a version', async () => {
        const { code, stdout } = await runCommand(['version']);
        assert.equal(code, 0);
        assert.match(stdout, /authkitd.*\d+\.\d+/);
    });

    test('--help names every command and exits 0', async () => {
        const { code, stdout } = await runCommand(['--help']);
        assert.equal(code, 0);
        for (const command of ['serve', 'check', 'send', 'reload', 'version'])
            assert.match(stdout, new RegExp(`\\b${command}\\b`));
    });

    test('help of a command is what its --help says', async () => {
        const [help, same] = await Promise.all([
            runCommand(['help', 'events']),
            runCommand(['events', '--help']),
        ]);
        assert.equal(help.code, 0);
        assert.equal(help.stdout, same.stdout);
        const ofHelp = await runCommand(['help', 'help']);
        assert.equal(ofHelp.code, 0, ofHelp.stderr);
        assert.match(ofHelp.stdout, /^usage: authkitd help \[COMMAND\]\n/);
        assert.equal((await runCommand(['help', '--help'])).stdout, ofHelp.stdout);
        const general = await runCommand(['help']);
        assert.equal(general.stdout, (await runCommand(['--help'])).stdout);
    });

    test('--help shows the options of serve with their environment variables', async () => {
        const [general, serve] = await Promise.all([
            runCommand(['--help']),
            runCommand(['serve', '--help']),
        ]);
        const text = general.stdout + serve.stdout;
        for (const word of [
            '--handlers',
            '--db',
            '--listen',
            '--admin-listen',
            '--env-file',
            '--log-format',
            'AUTHKITD_HANDLERS',
            'AUTHKITD_DB',
            'AUTHKITD_LISTEN',
            'WORKOS_WEBHOOK_SECRET',
            'WORKOS_ACTION_SECRET',
        ])
            assert.ok(text.includes(word), `--help says nothing of ${word}`);
    });

    for (const [what, args, hint] of [
        ['an unknown command', ['frobnicate'], /frobnicate/],
        ['help of an unknown command', ['help', 'frobnicate'], /frobnicate/],
        ['an unknown option', ['serve', '--frobnicate'], /--frobnicate/],
        ['an option without its value', ['serve', '--db'], /--db/],
        ['a stray argument', ['serve', 'stray-argument'], /stray-argument/],
    ]) {
        test(`${what} is wrong usage: exit 2, named, with a hint`, async () => {
            const { code, stderr } = await runCommand(args, { env: SECRETS });
            assert.equal(code, 2, stderr);
            assert.match(stderr, hint);
            assert.match(stderr, /--help/);
        });
    }

    test('output that a full disk loses: exit 1, and why', async () => {
        const folder = folderWith();
        for (const args of [['--help'], ['completion', 'bash'], ['send', '--list'], ['init', 'x']]) {
            const child = adopt(
                spawn(binary, args, {
                    cwd: folder,
                    env: cleanEnvironment(),
                    stdio: ['ignore', fs.openSync('/dev/full', 'w'), 'pipe'],
                }),
            );
            let stderr = '';
            child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
            const [code] = await once(child, 'close');
            assert.equal(code, 1, args.join(' '));
            assert.match(stderr, /standard output isn't whole: (No space left on device|is the disk full\?)/);
        }
        assert.ok(fs.existsSync(path.join(folder, 'x', 'handlers.lua')));
    });

    // Symptom: the next file that was opened took the place of standard output, and got what was printed.
    test('a reader who has had enough, or no standard output at all, is no failure', async (t) => {
        const server = await startServer(t);
        await server.stop();
        const settings = `--db ${server.database} --handlers ${server.handlersFile}`;
        const commands = ['version', `check ${settings}`, `events --db ${server.database}`, 'init new'];
        const closed = commands.map((command) => `"$0" ${command} >&-; echo $?;`).join(' ');
        const script = `trap "" PIPE; "$0" completion bash | head -n 1; echo \${PIPESTATUS[0]}; ${closed}`;
        assert.match(
            await runProgram('bash', ['-c', script, binary], newFolder()),
            /^# Made by.*\n0\n0\n0\n0\n0\n$/,
        );
    });

    test('the hint leads to the help of the command', async () => {
        const { stderr } = await runCommand(['events', '--frobnicate']);
        assert.match(stderr, /^try authkitd events --help$/m);
    });

    test('send without a type is wrong usage: exit 2, and an example of one', async () => {
        const { code, stderr } = await runCommand(['send'], { env: SECRETS });
        assert.equal(code, 2, stderr);
        assert.match(stderr, /user\.created/);
    });

    for (const [name, variable, value] of [
        ['--max-body', 'AUTHKITD_MAX_BODY', 'lots'],
        ['--max-body', 'AUTHKITD_MAX_BODY', '-1'],
        ['--max-body', 'AUTHKITD_MAX_BODY', '99999999999999999999'],
        ['--handler-timeout', 'AUTHKITD_HANDLER_TIMEOUT', '0'],
        ['--action-timeout', 'AUTHKITD_ACTION_TIMEOUT', '12x'],
        ['--handler-memory', 'AUTHKITD_HANDLER_MEMORY', 'one'],
        ['--log-format', 'AUTHKITD_LOG_FORMAT', 'xml'],
        ['--log-level', 'AUTHKITD_LOG_LEVEL', 'loud'],
        ['--action-on-error', 'AUTHKITD_ACTION_ON_ERROR', 'maybe'],
        ['--listen', 'AUTHKITD_LISTEN', '127.0.0.1:http'],
        ['--listen', 'AUTHKITD_LISTEN', '127.0.0.1:65536'],
        ['--webhook-path', 'AUTHKITD_WEBHOOK_PATH', 'no-slash'],
    ]) {
        test(`a bad value is wrong usage and names where it came from: ${name} ${value}`, async () => {
            const cwd = folderWith();
            const option = await runCommand(['serve', name, value], { env: SECRETS, cwd });
            assert.equal(option.code, 2, option.stderr);
            assert.ok(option.stderr.includes(name), `names ${name}: ${option.stderr}`);
            assert.ok(option.stderr.includes(value), `quotes ${value}: ${option.stderr}`);

            const environment = await runCommand(['serve'], {
                env: { ...SECRETS, [variable]: value },
                cwd,
            });
            assert.equal(environment.code, 2, environment.stderr);
            assert.ok(
                environment.stderr.includes(variable),
                `names ${variable}: ${environment.stderr}`,
            );
        });
    }
});

describe('--env-file', () => {
    // Where a value came from is seen by which bad value is complained about.
    const check = (folder, args, env) =>
        runCommand(['check', ...args], { cwd: folder, env: { ...SECRETS, ...env } });

    test('the file beats the default, the environment the file, an option the environment', async () => {
        const folder = folderWith('broken in default(', {
            'in-file.lua': 'broken in file(',
            'in-environment.lua': 'broken in environment(',
            'in-option.lua': 'broken in option(',
            'settings.env': 'AUTHKITD_HANDLERS=in-file.lua\n',
        });
        const file = ['--env-file', 'settings.env'];
        const env = { AUTHKITD_HANDLERS: 'in-environment.lua' };

        assert.match((await check(folder, [], {})).output, /handlers\.lua:1/);
        assert.match((await check(folder, file, {})).output, /in-file\.lua:1/);
        assert.match((await check(folder, file, env)).output, /in-environment\.lua:1/);
        assert.match(
            (await check(folder, [...file, '--handlers', 'in-option.lua'], env)).output,
            /in-option\.lua:1/,
        );
    });

    test('secrets may stand in it, also quoted; comments and empty lines may too', async (t) => {
        const server = newServer(t, {
            env: { WORKOS_WEBHOOK_SECRET: undefined, WORKOS_ACTION_SECRET: undefined },
            args: ['--env-file', 'settings.env'],
        });
        writeFile(
            path.join(server.folder, 'settings.env'),
            `# what WorkOS's dashboard shows\n\nWORKOS_WEBHOOK_SECRET=${WEBHOOK_SECRET}\n` +
                `WORKOS_ACTION_SECRET="${ACTION_SECRET}"\n`,
        );
        await server.start();
        await server.deliver(userCreated());
        assert.notEqual((await server.act(registrationAction())).status, 401);
    });

    test('a line that is no KEY=value is refused with file and line', async () => {
        const folder = folderWith(undefined, {
            'settings.env': '# fine\nAUTHKITD_LOG_LEVEL=debug\nthis is no setting\n',
        });
        const { code, output } = await check(folder, ['--env-file', 'settings.env'], {});
        assert.notEqual(code, 0);
        assert.match(output, /settings\.env:3/);
    });

    test('all that is wrong with it is told at once', async () => {
        const folder = folderWith(undefined, {
            'settings.env': 'no setting\nAUTHKITD_LOG_LEVEL=loud\nnor this\nAUTHKITD_POLL=soon\n',
        });
        const { code, output } = await check(folder, ['--env-file', 'settings.env'], {});
        assert.notEqual(code, 0);
        for (const line of [1, 2, 3, 4]) assert.match(output, new RegExp(`settings\\.env:${line}: `));
    });

    test('a bad value in it is refused with file and line', async () => {
        const folder = folderWith(undefined, { 'settings.env': '\n\nAUTHKITD_LOG_LEVEL=loud\n' });
        const { code, output } = await check(folder, ['--env-file', 'settings.env'], {});
        assert.notEqual(code, 0);
        assert.match(output, /settings\.env:3/);
        assert.match(output, /AUTHKITD_LOG_LEVEL/);
    });

    test('it may be a pipe that somebody writes into; one that nobody does is refused', async () => {
        const folder = folderWith();
        const shell = (script) => runProgram('bash', ['-c', script, binary], folder);

        for (const script of [
            '"$0" check --env-file <(sleep 0.3; echo AUTHKITD_LOG_LEVEL=loud)',
            'echo AUTHKITD_LOG_LEVEL=loud | "$0" check --env-file /dev/stdin',
        ])
            assert.match(await shell(script), /\/dev\/\S+:1: AUTHKITD_LOG_LEVEL: 'loud' won't do/);
        assert.match(
            await shell('WORKOS_API_KEY_FILE=<(printf "a b") "$0" check'),
            /WORKOS_API_KEY_FILE: this value won't do/,
        );
        // Symptom: it hung, and said nothing.
        assert.match(
            await shell('mkfifo pipe; "$0" check --env-file pipe'),
            /--env-file: 'pipe' is a pipe that nobody writes into/,
        );
        assert.match(await shell('"$0" check --env-file /dev/zero'), /too large: 16\.0 MiB at most/);
    });

    test('a file that is not there is refused by name', async () => {
        const { code, output } = await check(folderWith(), ['--env-file', 'absent.env'], {});
        assert.notEqual(code, 0);
        assert.match(output, /absent\.env/);
    });
});

describe('serve', () => {
    test('without any secret it exits 1 and says which variables to set', async () => {
        const cwd = folderWith();
        const { code, output } = await runCommand(
            ['serve', '--listen', '127.0.0.1:0', '--admin-listen', 'off'],
            { cwd },
        );
        assert.equal(code, 1, output);
        assert.match(output, /WORKOS_WEBHOOK_SECRET/);
        assert.match(output, /WORKOS_ACTION_SECRET/);
    });

    test('handlers that are not there: exit 1, the file named', async () => {
        const { code, output } = await runCommand(
            ['serve', '--listen', '127.0.0.1:0', '--handlers', 'absent.lua'],
            { env: SECRETS },
        );
        assert.equal(code, 1, output);
        assert.match(output, /absent\.lua/);
    });

    test('broken handlers: exit 1, file and line named', async () => {
        const cwd = folderWith('local authkit = require "authkit"\n\nauthkit.events {{{\n');
        const { code, output } = await runCommand(
            ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0'],
            { env: SECRETS, cwd },
        );
        assert.equal(code, 1, output);
        assert.match(output, /handlers\.lua:[34]/);
    });

    test('a port that is taken: exit 1, the address named', async (t) => {
        const server = await startServer(t);
        const address = new URL(server.url).host;
        const { code, output } = await runCommand(
            ['serve', '--listen', address, '--admin-listen', 'off'],
            { env: SECRETS, cwd: folderWith() },
        );
        assert.equal(code, 1, output);
        assert.ok(output.includes(address), output);
    });

    test('a second server on the same database is refused with exit 1, the first goes on', async (t) => {
        const server = await startServer(t);
        const { code, output } = await runCommand(
            [
                'serve',
                '--db',
                server.database,
                '--handlers',
                server.handlersFile,
                '--listen',
                '127.0.0.1:0',
                '--admin-listen',
                '127.0.0.1:0',
            ],
            { env: SECRETS },
        );
        assert.equal(code, 1, output);
        assert.ok(
            output.includes(String(server.child.pid)),
            `names the pid that holds it: ${output}`,
        );
        await server.deliver(userCreated());
    });

    test('a secret may come from a file, WORKOS_WEBHOOK_SECRET_FILE, with or without a final newline', async (t) => {
        for (const ending of ['', '\n']) {
            const folder = newFolder();
            writeFile(path.join(folder, 'secret'), `whsec_from_a_file${ending}`);
            const server = newServer(t, {
                env: {
                    WORKOS_WEBHOOK_SECRET: undefined,
                    WORKOS_WEBHOOK_SECRET_FILE: path.join(folder, 'secret'),
                },
            });
            await server.start();
            assert.equal(
                (await server.post(userCreated(), { secret: 'whsec_from_a_file' })).status,
                200,
            );
            assert.equal((await server.post(userCreated())).status, 401);
            await server.stop();
        }
    });

    test('--admin-listen off: no admin listener, and the server serves', async (t) => {
        const server = newServer(t);
        // start() waits for the admin listener, so this one is started by hand.
        const child = adopt(
            spawn(
                binary,
                [
                    'serve',
                    '--handlers',
                    server.handlersFile,
                    '--db',
                    server.database,
                    '--listen',
                    '127.0.0.1:0',
                    '--admin-listen',
                    'off',
                    '--log-format',
                    'json',
                ],
                { env: cleanEnvironment(SECRETS), stdio: ['ignore', 'ignore', 'pipe'] },
            ),
        );
        let log = '';
        child.stderr.setEncoding('utf8').on('data', (text) => {
            log += text;
        });
        atEnd(t, () => child.kill('SIGKILL'));

        const url = await until(
            'the server to listen',
            () => /"msg":"listening".*?"url":"([^"]+)"/.exec(log)?.[1],
        );
        server.url = url;
        server.client = server.newClient();
        await server.deliver(userCreated());
        assert.doesNotMatch(log, /admin listening/);
        server.closeClients();
    });
});

describe('check', () => {
    const check = (cwd, args = []) => runCommand(['check', ...args], { cwd, env: SECRETS });

    test('good handlers: exit 0', async () => {
        const { code, output } = await check(folderWith());
        assert.equal(code, 0, output);
    });

    test('it changes nothing: no database appears', async () => {
        const folder = folderWith();
        await check(folder);
        assert.deepEqual(fs.readdirSync(folder), ['handlers.lua']);
    });

    /** What check and serve say of a database there, as a user who isn't root. */
    async function sayAsAnybody(database) {
        const folder = folderWith();
        fs.chmodSync(folder, 0o755);
        fs.chmodSync(path.join(folder, 'handlers.lua'), 0o644);
        const user = process.getuid() === 0 ? { uid: 65534, gid: 65534 } : {};
        const says = {};
        for (const command of ['check', 'serve --listen 127.0.0.1:0 --admin-listen off'])
            says[command.slice(0, 5)] = await runProgram(
                binary,
                [...command.split(' '), '--db', database],
                folder,
                { env: { ...cleanEnvironment(), ...SECRETS }, ...user },
            );
        return says;
    }

    // Symptom: it found all fine where serve couldn't start.
    test('a folder that this user cannot write in: check and serve say so', async () => {
        const folder = newFolder();
        fs.chmodSync(folder, 0o555);
        const says = await sayAsAnybody(path.join(folder, 'authkitd.db'));
        for (const text of Object.values(says))
            assert.match(text, /this user \(uid \d+\) can't make files in the folder '.*': Permission/);
        assert.match(says.check, /^result +not fine/m);
    });

    test('a database that this user can only read: check and serve say so', async (t) => {
        const server = newServer(t);
        await server.start();
        await server.stop();
        fs.chmodSync(server.folder, 0o777);
        fs.chmodSync(server.database, 0o444);
        fs.rmSync(`${server.database}.lock`);
        const says = await sayAsAnybody(server.database);
        assert.match(says.check, /this user \(uid \d+\) can't write to '.*authkitd\.db': Permission/);
        assert.match(says.check, /^result +not fine/m);
        assert.match(says.serve, /the file can't be written/);
    });

    test('a link to a database that is not there: check, serve and events say so, and leave nothing', async () => {
        const folder = folderWith();
        fs.symlinkSync('vol/a.db', path.join(folder, 'authkitd.db'));
        for (const [command, code] of [['check', 1], ['events', 1], ['serve', 1], ['reconcile', 1]]) {
            const run = await runCommand([command], {
                cwd: folder,
                env: { ...SECRETS, WORKOS_API_KEY: command === 'reconcile' ? 'sk_x' : '' },
            });
            assert.equal(run.code, code, run.output);
            assert.match(run.output, /'authkitd\.db' is a link to 'vol\/a\.db', which isn't there/);
            assert.doesNotMatch(run.output, /serve makes it/);
        }
        assert.deepEqual(fs.readdirSync(folder).sort(), ['authkitd.db', 'handlers.lua']);
    });

    test('routes are listed beside the rest', async () => {
        const folder = folderWith(
            'require "authkit".routes { ["GET /b/:id"] = print, ["DELETE /b/:id"] = print }\n',
        );
        const { code, output } = await check(folder);
        assert.equal(code, 0, output);
        assert.match(output, /^routes +DELETE \/b\/:id, GET \/b\/:id$/m);
        assert.match((await check(folderWith())).output, /^routes +none$/m);
    });

    for (const [what, handlers, where] of [
        [
            'two routes for the same requests',
            'local authkit = require "authkit"\nauthkit.routes { ["GET /:a"] = print, ["GET /:b"] = print }\n',
            /handlers\.lua:2: .*take the same requests/,
        ],
        ['a syntax error', 'local authkit = require "authkit"\nlocal x = = 1\n', /handlers\.lua:2/],
        [
            'an error while loading',
            'local authkit = require "authkit"\n\nerror("not today")\n',
            /handlers\.lua:3.*not today/s,
        ],
        [
            'a module that is not there',
            'local authkit = require "authkit"\nlocal x = require "lib.absent"\n',
            /lib.absent/,
        ],
        [
            'a handler that is no function',
            'local authkit = require "authkit"\nauthkit.events { ["user.created"] = 5 }\n',
            /user\.created/,
        ],
        [
            'an unknown column type',
            'local authkit = require "authkit"\nauthkit.schema { t = { columns = { a = "strnig" } } }\n',
            /strnig/,
        ],
        [
            'a table name that is taken',
            'local authkit = require "authkit"\nauthkit.schema { workos_things = { columns = { a = "text" } } }\n',
            /workos_things/,
        ],
        [
            'a column name that is taken',
            'local authkit = require "authkit"\nauthkit.schema { t = { columns = { _id = "text" } } }\n',
            /_id/,
        ],
        [
            'an index on a column that is not there',
            'local authkit = require "authkit"\nauthkit.schema { t = { columns = { a = "text" }, indexes = { { "b" } } } }\n',
            /\bb\b/,
        ],
        [
            'an unknown action',
            'local authkit = require "authkit"\nauthkit.actions { user_registratoin = function() end }\n',
            /user_registratoin/,
        ],
    ]) {
        test(`${what}: exit 1, and says where or what`, async () => {
            const { code, output } = await check(folderWith(handlers));
            assert.equal(code, 1, output);
            assert.match(output, where);
        });
    }

    test('it tells every problem, not only the first: bad handlers and bad configuration', async () => {
        const cwd = folderWith('local x = = 1\n');
        const { code, output } = await runCommand(['check'], { cwd }); // and no secrets
        assert.equal(code, 1, output);
        assert.match(output, /handlers\.lua:1/);
        assert.match(output, /WORKOS_WEBHOOK_SECRET/);
    });

    test('a certificate that serve would refuse: exit 1, the file named', async () => {
        const cwd = folderWith(undefined, { 'cert.pem': 'no certificate' });
        const args = ['--tls-cert', 'cert.pem', '--tls-key', 'absent.pem'];
        const { code, output } = await check(cwd, args);
        assert.equal(code, 1, output);
        assert.match(output, /cert\.pem/);
    });

    test('how WorkOS is called: a host name that is a URL, a key with a line break, a secret in UTF-16', async () => {
        const cwd = folderWith(undefined, { secret: Buffer.from('whsec_1\n', 'utf16le') });
        const env = {
            WORKOS_API_HOSTNAME: 'https://api.workos.com',
            WORKOS_API_KEY: 'sk_test_1\nX-Other: 1',
            WORKOS_WEBHOOK_SECRET_FILE: 'secret',
        };
        const { code, output } = await runCommand(['check'], { cwd, env });
        assert.notEqual(code, 0, output);
        assert.match(output, /WORKOS_API_HOSTNAME: 'https:\/\/api\.workos\.com' .* a host name without/);
        assert.match(output, /WORKOS_API_KEY: this value .* without blanks, line breaks/);
        assert.match(output, /WORKOS_WEBHOOK_SECRET_FILE: 'secret' isn't text: .*UTF-16/);
        assert.ok(!output.includes('sk_test_1'));
    });

    test('access tokens: from where their keys come, or what to set', async () => {
        const off = await check(folderWith());
        assert.match(off.output, /tokens +are off: set WORKOS_CLIENT_ID/);
        const on = await runCommand(['check', '--audience', 'api://x', '--cors-origin', '*'], {
            cwd: folderWith(),
            env: { ...SECRETS, WORKOS_CLIENT_ID: 'client_1' },
        });
        assert.equal(on.code, 0, on.output);
        assert.match(on.output, /with the keys of https:\/\/api\.workos\.com\/sso\/jwks\/client_1\n/);
        assert.match(on.output, /issuer +https:\/\/api\.workos\.com\/user_management\/client_1\n/);
        assert.match(on.output, /audience +api:\/\/x\n/);
        assert.match(on.output, /cors +\*\n/);
    });

    test('a file of keys that serve could not use: exit 1, the file and the fault named', async () => {
        const cwd = folderWith(undefined, { 'keys.json': '{"keys":[{"kty":"EC"}]}' });
        const { code, output } = await check(cwd, ['--jwks-url', `file://${cwd}/keys.json`]);
        assert.equal(code, 1, output);
        assert.match(output, /--jwks-url: file:.*keys\.json: none of its keys can be used/);
    });

    test('a database whose folder is not there: exit 1, since serve could not make it', async () => {
        const { code, output } = await check(folderWith(), ['--db', 'absent/authkitd.db']);
        assert.equal(code, 1, output);
        assert.match(output, /--db: .*absent\/authkitd\.db/);
    });

    // Symptom: it told of the value alone, and of the rest when that was mended, one after the other.
    test('a wrong value, a broken script and a folder that is not there: all told at once, exit 2', async () => {
        const cwd = folderWith('nonsense');
        const args = ['--max-body', '0', '--db', 'absent/authkitd.db'];
        const { code, stdout, output } = await check(cwd, args);
        assert.equal(code, 2, output);
        assert.match(output, /--max-body: '0' won't do/);
        assert.match(output, /handlers\.lua:1:/);
        assert.match(output, /--db: the folder of 'absent\/authkitd\.db' isn't there/);
        assert.match(stdout, /^result +not fine/m);
        assert.doesNotMatch(stdout, /^next/m);
        const broken = await check(cwd, ['--db', 'absent/authkitd.db']);
        assert.equal(broken.code, 1, broken.output);
        assert.match(broken.output, /handlers\.lua:1:/);
        assert.match(broken.output, /isn't there/);
        const alone = await check(folderWith(), ['--max-body', '0']);
        assert.equal(alone.code, 2, alone.output);
        assert.match(alone.stdout, /^schema /m);
        assert.match(alone.stdout, /^result +not fine/m);
        const slip = await check(cwd, ['--handlerz', 'x.lua']); // what was meant can't be known
        assert.equal(slip.code, 2, slip.output);
        assert.doesNotMatch(slip.output, /handlers\.lua:1:/);
    });

    test('wrong values of all kinds leave nothing that check stumbles over', async () => {
        const { code, output } = await runCommand(
            ['check', '--listen', 'x', '--admin-listen', 'y', '--jwks-url', 'z', '--tls-cert', 'c'],
            {
                cwd: folderWith(),
                env: { WORKOS_API_KEY: 'no key', WORKOS_CLIENT_ID: '?', WORKOS_WEBHOOK_SECRET: ',' },
            },
        );
        assert.equal(code, 2, output);
        assert.doesNotMatch(output, /is off|isn't set/);
    });

    test('it works beside a running server', async (t) => {
        const server = await startServer(t);
        const { code, output } = await runCommand(
            ['check', '--handlers', server.handlersFile, '--db', server.database],
            { env: SECRETS },
        );
        assert.equal(code, 0, output);
        await server.deliver(userCreated());
    });
});

describe('send', () => {
    const server = sharedServer({
        handlers: `${TODO_HANDLERS}
            authkit.actions {
              user_registration = function(ctx, action, response) return response.deny("Not on Mondays") end,
              authentication = function(ctx, action, response) return response.allow() end,
            }`,
    });
    const send = (args, env = pointingAt(server)) => runCommand(['send', ...args], { env });

    test('a sample user.created arrives and becomes rows', async () => {
        const before = server.count('todo_lists');
        const { code, stdout, output } = await send(['user.created']);
        assert.equal(code, 0, output);
        const { id } = server.row(
            "SELECT id, event FROM workos_events WHERE event = 'user.created'",
        );
        assert.ok(stdout.includes(id), `says what it sent: ${stdout}`);
        assert.ok(stdout.includes(server.url), `and where to: ${stdout}`);
        assert.match(stdout, /200/);
        assert.equal(server.count('todo_lists'), before + 1);
    });

    test('samples of the other types arrive', async () => {
        for (const type of ['user.updated', 'user.deleted', 'session.created']) {
            const { code, output } = await send([type]);
            assert.equal(code, 0, output);
            assert.equal(server.row('SELECT count(*) FROM workos_events WHERE event = ?', type), 1);
        }
    });

    test('each sample is an event of its own', async () => {
        const before = server.count('workos_events');
        await send(['user.created']);
        await send(['user.created']);
        assert.equal(server.count('workos_events'), before + 2);
    });

    test('--data FILE sends what is in the file, byte for byte', async () => {
        const folder = newFolder();
        const event = userCreated({ first_name: 'Grace' });
        const text = JSON.stringify(event, null, 4) + '\n';
        fs.writeFileSync(path.join(folder, 'event.json'), text);
        const { code, output } = await send([
            'user.created',
            '--data',
            path.join(folder, 'event.json'),
        ]);
        assert.equal(code, 0, output);
        assert.equal(server.userRow(event.data).first_name, 'Grace');
        assert.equal(
            server.row('SELECT CAST(payload AS TEXT) FROM workos_events WHERE id = ?', event.id),
            text,
        );
    });

    // Symptom: the file's ids were sent, and its event or action whatever was asked for.
    test('--data with ids: they are sent; with another type: exit 2, both named', async () => {
        const file = path.join(newFolder(), 'event.json');
        fs.writeFileSync(file, JSON.stringify(userCreated()));
        const ids = ['--id', 'event_given', '--object-id', 'user_given'];
        const { code, output } = await send(['user.created', '--data', file, ...ids]);
        assert.equal(code, 0, output);
        assert.equal(
            server.row("SELECT object_id FROM workos_events WHERE id = 'event_given'"),
            'user_given',
        );
        const other = await send(['user.updated', '--data', file]);
        assert.equal(other.code, 2, other.output);
        assert.match(other.stderr, /user\.created.*user\.updated/);

        fs.writeFileSync(file, JSON.stringify(registrationAction()));
        const action = await send(['authentication', '--data', file]);
        assert.equal(action.code, 2, action.output);
        assert.match(action.stderr, /user_registration.*authentication/);
        const twice = await send(['authentication', ...ids]);
        assert.equal(twice.code, 2, twice.output);
    });

    test('a long --url arrives whole', async (t) => {
        const { url, asked } = await startPeer(t);
        const way = `/hook?tenant=${'x'.repeat(5000)}`;
        const { code, output } = await runCommand(
            ['send', 'user.created', '--url', url + way],
            { env: SECRETS },
        );
        assert.equal(code, 0, output);
        assert.deepEqual(asked, [way]);
    });

    // Symptom: it was posted to /, and a 404 came.
    test('a --url without a path gets that of the endpoint', async (t) => {
        const { url, asked } = await startPeer(t);
        for (const args of [
            ['user.created', '--url', url],
            ['user.created', '--url', `${url}/`, '--webhook-path', '/hook'],
            ['user_registration', '--url', `${url}?x=1`],
            ['user.created', '--url', `${url}/a?x=1`],
        ])
            assert.equal((await send(args)).code, 0);
        assert.deepEqual(asked, ['/workos/webhook', '/hook', '/workos/action?x=1', '/a?x=1']);
    });

    // Symptom: both ended with 1, as when no server answers.
    test('a word that is no type, or a --url that is none: exit 2, and says which', async () => {
        for (const [args, said] of [
            [['nope'], /'nope' isn't an event type/],
            [['user.created', '--url', 'x'], /--url: 'x' can't be used: expected http:/],
        ]) {
            const { code, output } = await send(args);
            assert.equal(code, 2, output);
            assert.match(output, said);
        }
    });

    test('--data with a file that is not there: exit 1, the file named', async () => {
        const { code, output } = await send(['user.created', '--data', '/nowhere/event.json']);
        assert.equal(code, 1, output);
        assert.match(output, /\/nowhere\/event\.json/);
    });

    test('to a server that is not there: exit 1, with the address and a hint', async () => {
        const address = `127.0.0.1:${await unusedPort()}`;
        const { code, output } = await send(['user.created'], {
            ...SECRETS,
            AUTHKITD_LISTEN: address,
            AUTHKITD_DB: path.join(newFolder(), 'none.db'),
        });
        assert.equal(code, 1, output);
        assert.ok(output.includes(address), output);
        assert.match(output, /running|serve/);
    });

    // Symptom: "is the server running? Start it with authkitd serve", though something was there.
    test('to something that is there and is not authkitd: the hint is about that', async (t) => {
        const peer = net.createServer((socket) => {
            socket.on('error', () => {});
            socket.once('data', () => socket.end('nonsense\r\n\r\n'));
        });
        await new Promise((resolve) => peer.listen(0, '127.0.0.1', resolve));
        atEnd(t, () => peer.close());
        const host = `127.0.0.1:${peer.address().port}`;
        for (const [args, said] of [
            [['--url', `http://${host}`], /not HTTP\n.*something listens there: is it authkitd/],
            [['--url', `https://${host}`], /TLS handshake failed\n.*plain HTTP\? .*--url/],
            [['--listen', host, '--tls-cert', 'x'], /TLS handshake failed\n.*leave out --tls-cert/],
        ]) {
            const { code, output } = await send(['user.created', ...args]);
            assert.equal(code, 1, output);
            assert.match(output, said);
            assert.doesNotMatch(output, /authkitd serve/);
        }
    });

    // Symptom: "sent  to http://…".
    test('what has no id is named by its type', async () => {
        const { output } = await runCommand(['send', 'authentication', '--data', '-'], {
            env: pointingAt(server),
            input: '{"object":"authentication_action_context"}',
        });
        assert.match(output, /^sent authentication to http:/m);
    });

    test('with a secret that the server does not have: exit 1, and says 401', async () => {
        const { code, output } = await send(['user.created'], {
            ...pointingAt(server),
            WORKOS_WEBHOOK_SECRET: 'whsec_wrong',
        });
        assert.equal(code, 1, output);
        assert.match(output, /401/);
    });

    test('without a secret: exit 1, and names the variable', async () => {
        const { WORKOS_WEBHOOK_SECRET: _, ...env } = pointingAt(server);
        const { code, output } = await send(['user.created'], env);
        assert.equal(code, 1, output);
        assert.match(output, /WORKOS_WEBHOOK_SECRET/);
    });

    test('action samples print the verdict', async () => {
        const registration = await send(['user_registration']);
        assert.equal(registration.code, 0, registration.output);
        assert.match(registration.stdout, /Deny/);
        assert.match(registration.stdout, /Not on Mondays/);

        const authentication = await send(['authentication']);
        assert.equal(authentication.code, 0, authentication.output);
        assert.match(authentication.stdout, /Allow/);
    });
});

describe('reload', () => {
    test('with no server running: exit 1, and says so', async () => {
        const { code, output } = await runCommand(
            ['reload', '--db', path.join(newFolder(), 'none.db')],
            { env: SECRETS },
        );
        assert.equal(code, 1, output);
        assert.match(output, /no server|not running|none\.db/i);
    });
});

describe('secrets', () => {
    test('are never in the output, the log (also at debug level) or the database', async (t) => {
        const server = await startServer(t, { args: ['--log-level', 'debug'] });
        const event = userCreated();
        const body = JSON.stringify(event);
        const time = Date.now();
        const digest = await sdk.webhooks.computeSignature(String(time), body, WEBHOOK_SECRET);
        const headers = { 'WorkOS-Signature': `t=${time}, v1=${digest}` };

        await server.deliver(body, { headers });
        await server.post(userCreated(), { secret: 'wrong' });
        await server.act(registrationAction());
        await server.act('{}');
        const sent = await runCommand(['send', 'user.created', '--log-level', 'debug'], {
            env: pointingAt(server),
        });
        const checked = await runCommand(['check', '--handlers', server.handlersFile], {
            env: SECRETS,
        });
        await server.reload();
        await server.stop();

        const log =
            server.lines.map((line) => line.text).join('\n') +
            server.stdout +
            sent.output +
            checked.output;
        const files = fs
            .readdirSync(server.folder)
            .map((file) => fs.readFileSync(path.join(server.folder, file), 'latin1'))
            .join('\n');
        assert.match(log, new RegExp(event.id), 'at debug level the log says which events came');
        for (const secret of [WEBHOOK_SECRET, ACTION_SECRET, digest]) {
            assert.ok(!log.includes(secret), 'a secret is in the log');
            assert.ok(!files.includes(secret), 'a secret is in a file');
        }
    });
});
