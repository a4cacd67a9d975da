// SPDX-License-Identifier: MIT
// The first minutes: init, check and send --list, what is said when something is missing, and that
// the commands that init prints lead to a running server. Completion, too.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import { describe, test } from './lib/harness.js';
import {
    SECRETS,
    binary,
    cleanEnvironment,
    newFolder,
    newServer,
    runCommand,
    writeFile,
} from './lib/server.js';

const project = path.resolve(import.meta.dirname, '../..');
const example = fs.readFileSync(path.join(project, 'handlers.lua.example'), 'utf8');
const read = (...names) => fs.readFileSync(path.join(...names), 'utf8');
const mode = (...names) => fs.statSync(path.join(...names)).mode & 0o777;

/** The env file of init, with values put behind the '=' of the variables. */
function fillIn(file, values) {
    let text = read(file);
    for (const [variable, value] of Object.entries(values)) {
        assert.match(text, new RegExp(`^${variable}=$`, 'm'));
        text = text.replace(new RegExp(`^${variable}=$`, 'm'), `${variable}=${value}`);
    }
    writeFile(file, text);
}

describe('init', () => {
    test('writes the example and an env file that only its owner can read', async () => {
        const cwd = newFolder();
        const { code, stdout, stderr } = await runCommand(['init'], { cwd });
        assert.equal(code, 0, stderr);
        assert.deepEqual(fs.readdirSync(cwd).sort(), ['authkitd.env', 'handlers.lua']);
        assert.equal(read(cwd, 'handlers.lua'), example);
        assert.equal(mode(cwd, 'authkitd.env'), 0o600);
        assert.match(stdout, /^wrote handlers\.lua: /m);
        assert.match(stdout, /^wrote authkitd\.env: /m);
    });

    test('the env file has every setting of serve, each with a sentence', async () => {
        const cwd = newFolder();
        await runCommand(['init'], { cwd });
        const text = read(cwd, 'authkitd.env');
        const { stdout: help } = await runCommand(['serve', '--help']);
        const variables = new Set(help.match(/\b(AUTHKITD|WORKOS)_[A-Z_]+\b/g));
        for (const variable of variables) {
            if (variable.endsWith('_FILE')) continue;
            assert.match(
                text,
                new RegExp(`^# [^\\n]+\\.\\n#?${variable}=`, 'm'),
                `nothing, or no sentence, on ${variable}`,
            );
        }
        // What is shown as the default is none: taking a '#' away changes nothing.
        fs.writeFileSync(path.join(cwd, 'all.env'), text.replaceAll(/^#([A-Z_]+=)/gm, '$1'));
        const { code, output } = await runCommand(['check', '--env-file', 'all.env'], {
            cwd,
            env: SECRETS,
        });
        assert.equal(code, 0, output);
    });

    // Symptom: "Time an event's function may take." and a 1000: of what?
    test('the env file tells units, keeps words as they are typed, and says how a list is written', async () => {
        const cwd = newFolder();
        await runCommand(['init'], { cwd });
        const text = read(cwd, 'authkitd.env');
        for (const [variable, sentence] of [
            ['AUTHKITD_HANDLER_TIMEOUT', "MS: time an event's function may take."],
            ['AUTHKITD_RETENTION', 'DAYS: payloads of done events are kept so long.'],
            ['AUTHKITD_MAX_BODY', 'BYTES: largest request body.'],
            ['AUTHKITD_LOG_LEVEL', 'LEVEL: debug, info, warn or error.'],
            ['AUTHKITD_LOG_FORMAT', 'text|json: form of the log lines, on standard error.'],
            ['WORKOS_API_HTTPS', 'true|false: ask it by HTTPS; false for plain HTTP, as the emulator has it.'],
        ])
            assert.ok(text.includes(`\n# ${sentence}\n#${variable}=`), `${variable}: ${sentence}`);
        assert.match(text, /^# SECONDS: how often .*\n#AUTHKITD_POLL=/m);
        assert.match(text, /^# true\|false: take events .*\n#AUTHKITD_ORDERED=false$/m);
        assert.doesNotMatch(text, /repeat/);
        for (const variable of ['AUTHKITD_ISSUERS', 'AUTHKITD_AUDIENCES', 'AUTHKITD_CORS_ORIGINS'])
            assert.match(text, new RegExp(`several by commas .*\\n#${variable}=`), variable);
        // As an option it can be given several times, too.
        const { stdout: help } = await runCommand(['serve', '--help']);
        assert.match(help, /^ {2}--issuer URL .*several by commas .*\(or repeat --issuer\)$/m);
    });

    test('its commands lead to a server that takes an event', async (t) => {
        const cwd = newFolder();
        const folder = 'my app';
        const { stdout } = await runCommand(['init', folder], { cwd });
        const commands = stdout.slice(stdout.indexOf('Next:\n') + 6);
        assert.match(commands, /^ {2}cd 'my app'$/m);
        assert.match(commands, /check --env-file authkitd\.env/);
        assert.match(commands, /serve --env-file authkitd\.env/);
        assert.ok(commands.includes(binary), 'calls the program as it was called');

        fillIn(path.join(cwd, folder, 'authkitd.env'), SECRETS);
        // As a person would paste them, but for the last, which stays: the server is started below.
        const pasted = commands.replace(/^.*serve --env-file.*$/m, '');
        const shell = spawnSync('bash', ['-ec', pasted], {
            cwd,
            env: cleanEnvironment({ EDITOR: 'true' }),
            encoding: 'utf8',
        });
        assert.equal(shell.status, 0, shell.stdout + shell.stderr);
        assert.match(shell.stdout, /^result +fine$/m);

        const server = newServer(t, {
            handlers: read(cwd, folder, 'handlers.lua'),
            env: { WORKOS_WEBHOOK_SECRET: undefined, WORKOS_ACTION_SECRET: undefined },
            args: ['--env-file', path.join(cwd, folder, 'authkitd.env')],
        });
        await server.start();
        const sent = await runCommand(['send', 'user.created', '--env-file', 'authkitd.env'], {
            cwd: path.join(cwd, folder),
            env: { AUTHKITD_LISTEN: new URL(server.url).host },
        });
        assert.equal(sent.code, 0, sent.output);
        assert.equal(server.count('todo_lists'), 1);
    });

    test('makes the folder, its parents too', async () => {
        const cwd = newFolder();
        const { code, output } = await runCommand(['init', 'a/b//c/'], { cwd });
        assert.equal(code, 0, output);
        assert.equal(read(cwd, 'a/b/c/handlers.lua'), example);
        assert.match(output, /^ {2}cd a\/b\/\/c\/$/m);
    });

    // Symptom: after init as root with the umask 077 the service's user couldn't read its script.
    for (const mask of ['077', '022', '0'])
        test(`modes don't depend on the umask: ${mask}`, async () => {
            const folder = newFolder();
            const script = `umask ${mask}; exec "$0" init a/b`;
            const run = spawnSync('bash', ['-c', script, binary], { cwd: folder });
            assert.equal(run.status, 0, String(run.stderr));
            const modeOf = (name) => fs.statSync(path.join(folder, name)).mode & 0o7777;
            assert.deepEqual(
                ['a', 'a/b', 'a/b/handlers.lua', 'a/b/authkitd.env'].map(modeOf),
                [0o755, 0o755, 0o644, 0o600],
            );
        });

    test('a file that is there stays as it is: exit 1, named; the other one is written', async () => {
        const cwd = newFolder();
        writeFile(path.join(cwd, 'handlers.lua'), 'mine');
        const first = await runCommand(['init'], { cwd });
        assert.equal(first.code, 1, first.output);
        assert.match(first.stderr, /handlers\.lua is there already/);
        assert.doesNotMatch(first.stderr, /authkitd\.env/);
        assert.doesNotMatch(first.stdout, /Next/);
        assert.equal(read(cwd, 'handlers.lua'), 'mine');

        writeFile(path.join(cwd, 'authkitd.env'), 'mine, too');
        const second = await runCommand(['init'], { cwd });
        assert.equal(second.code, 1, second.output);
        assert.match(second.stderr, /authkitd\.env is there already/);
        assert.equal(read(cwd, 'authkitd.env'), 'mine, too');
    });

    test('a link that leads nowhere is not followed', async () => {
        const cwd = newFolder();
        fs.symlinkSync('/nowhere/handlers.lua', path.join(cwd, 'handlers.lua'));
        const { code, stderr } = await runCommand(['init'], { cwd });
        assert.equal(code, 1);
        assert.match(stderr, /handlers\.lua is there already/);
    });

    for (const [what, folder, wanted] of [
        ['a file where the folder should be', 'file', /'file' is no folder/],
        ['a file on the way to it', 'file/in/it', /cannot make the folder 'file\/in'.*directory/],
        ['a folder that nobody can write to', '/proc/authkitd', /cannot make the folder '\/proc/],
        ['a folder that nobody can write in', '/proc', /cannot write '\/proc\/handlers\.lua'/],
        ['a name that is too long', 'x'.repeat(300), /cannot make the folder 'xxx/],
    ]) {
        test(`${what}: exit 1, and the reason`, async () => {
            const cwd = newFolder();
            writeFile(path.join(cwd, 'file'), '');
            const { code, stderr, stdout } = await runCommand(['init', folder], { cwd });
            assert.equal(code, 1, stderr);
            assert.match(stderr, wanted);
            assert.doesNotMatch(stdout, /Next/);
        });
    }

    for (const args of [[''], ['x'.repeat(5000)], ['a', 'b'], ['--env-file', 'x'], ['--db', 'x']]) {
        test(`wrong usage: init ${args.join(' ').slice(0, 20)}`, async () => {
            const cwd = newFolder();
            const { code, output } = await runCommand(['init', ...args], { cwd });
            assert.equal(code, 2, output);
            assert.deepEqual(fs.readdirSync(cwd), []);
        });
    }

    test('its help shows no options', async () => {
        const { code, stdout } = await runCommand(['init', '--help']);
        assert.equal(code, 0);
        assert.match(stdout, /^usage: authkitd init \[FOLDER\]\n/);
        assert.doesNotMatch(stdout, /--env-file/);
    });
});

describe('what is missing', () => {
    test('serve without a secret leads to init', async () => {
        const { code, stderr } = await runCommand(['serve']);
        assert.equal(code, 1);
        assert.match(stderr, /there is nothing to serve/);
        assert.match(stderr, /authkitd init writes authkitd\.env/);
    });

    test('serve without a secret beside an env file says that it has to be named', async () => {
        const cwd = newFolder();
        await runCommand(['init'], { cwd });
        const { stderr } = await runCommand(['serve'], { cwd });
        assert.match(stderr, /authkitd serve --env-file authkitd\.env/);
        const { code, stderr: filled } = await runCommand(['serve', '--env-file', 'authkitd.env'], {
            cwd,
        });
        assert.equal(code, 1);
        assert.match(filled, /fill one of them in in authkitd\.env/);
    });

    for (const command of ['serve', 'check'])
        test(`${command} without a script leads to init`, async () => {
            const { code, output } = await runCommand([command], { env: SECRETS });
            assert.equal(code, 1, output);
            assert.match(output, /no script 'handlers\.lua': authkitd init writes one/);
        });
});

describe('check', () => {
    const check = (handlers, { env = SECRETS, args = [] } = {}) => {
        const cwd = newFolder();
        writeFile(path.join(cwd, 'handlers.lua'), `local authkit = require "authkit"\n${handlers}`);
        return runCommand(['check', ...args], { cwd, env });
    };
    const event = (type) => `authkit.events { ["${type}"] = function() end }`;

    test('says which endpoint is on, and where; which is off, and why', async () => {
        const { WORKOS_ACTION_SECRET: _, ...env } = SECRETS;
        const { code, stdout } = await check('', { env, args: ['--listen', '127.0.0.1:81'] });
        assert.equal(code, 0);
        assert.match(stdout, /^endpoint +webhook is on: \/workos\/webhook at 127\.0\.0\.1:81$/m);
        assert.match(stdout, /^endpoint +action is off .*503.*: set WORKOS_ACTION_SECRET$/m);
        assert.match(stdout, /^api +off: without WORKOS_API_KEY/m);
        assert.match(stdout, /^events +none/m);
        assert.match(stdout, /^next +authkitd serve +# /m);
        assert.match(stdout, /^next +authkitd send user\.created +# /m);
    });

    test('with an API key it says that missed events are read, or are not', async () => {
        const env = { ...SECRETS, WORKOS_API_KEY: 'sk_test' };
        const on = await check('', { env, args: ['--poll', '90'] });
        assert.match(on.stdout, /^api +WORKOS_API_KEY is set; missed events are read every 90 s$/m);
        assert.match(on.stdout, /^next +authkitd setup https:/m);
        const off = await check('', { env, args: ['--poll', 'off'] });
        assert.match(off.stdout, /^api +WORKOS_API_KEY is set; --poll is off/m);
    });

    for (const [type, wanted] of [
        ['user.delted', /^warning +user\.delted .*did you mean user\.deleted\?$/m],
        ['brand.new', /^warning +brand\.new is no event type that is known here/m],
        ['vault.dek.read', /^warning +vault\.dek\.read .*Events API alone/m],
    ])
        test(`a function for ${type}: a warning, no refusal`, async () => {
            const { code, stdout } = await check(event(type));
            assert.equal(code, 0, stdout);
            assert.match(stdout, wanted);
            assert.match(stdout, /^result +fine$/m);
        });

    test('a function for a type that is known: no warning', async () => {
        const { stdout } = await check(
            event('dsync.group.user_added') + '\nauthkit.actions { authentication = print }',
        );
        assert.doesNotMatch(stdout, /^warning/m);
    });

    test('functions that nothing can call, and an endpoint that calls none', async () => {
        const { WORKOS_WEBHOOK_SECRET: _, ...env } = SECRETS;
        const { stdout } = await check(event('user.created'), { env });
        assert.match(stdout, /^warning .*event functions, but WORKOS_WEBHOOK_SECRET isn't set$/m);
        assert.match(stdout, /^warning .*no action function: WorkOS gets 404$/m);
        assert.match(stdout, /^next +authkitd send user_registration /m);
    });

    test('without a secret it is fine still, and says what comes first', async () => {
        const { code, stdout } = await check('', { env: {} });
        assert.equal(code, 0);
        assert.match(stdout, /^warning +serve refuses to start/m);
        // Symptom: "result fine", of what doesn't start.
        assert.match(stdout, /^result +fine, but serve doesn't start before a secret is set$/m);
        assert.match(stdout, /^next +authkitd init writes authkitd\.env/m);
    });

    test('a problem is the result, and no next step follows it', async () => {
        const { code, stdout } = await check('x = = 1');
        assert.equal(code, 1);
        assert.match(stdout, /^result +not fine/m);
        assert.doesNotMatch(stdout, /^next/m);
    });
});

describe('send --list', () => {
    test('tells types and actions in groups, needs no secret and sends nothing', async () => {
        const { code, stdout, stderr } = await runCommand(['send', '--list']);
        assert.equal(code, 0, stderr);
        for (const group of ['users', 'sessions', 'organizations', 'memberships', 'invitations'])
            assert.match(stdout, new RegExp(`^${group}$`, 'm'));
        assert.match(stdout, /^ {2}user\.created +\w/m);
        assert.match(stdout, /^ {2}user_registration +\w/m);
        assert.match(stdout, /Any other type works as well/);
    });

    test('send without a type leads to it', async () => {
        const { code, stderr } = await runCommand(['send'], { env: SECRETS });
        assert.equal(code, 2);
        assert.match(stderr, /authkitd send --list/);
    });
});

describe('completion', () => {
    /** What bash would offer for the last word. */
    function offered(...words) {
        const script = execFileSync(binary, ['completion', 'bash'], { encoding: 'utf8' });
        const cwd = newFolder();
        writeFile(path.join(cwd, 'a file'), '');
        fs.mkdirSync(path.join(cwd, 'folder'));
        const text = execFileSync(
            'bash',
            [
                '-c',
                `${script}\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _authkitd
                 printf '%s\\n' "\${COMPREPLY[@]}"`,
                'bash',
                'authkitd',
                ...words,
            ],
            { cwd, encoding: 'utf8' },
        );
        return text.split('\n').filter(Boolean).sort();
    }

    for (const [words, wanted] of [
        [['re'], ['reconcile', 'reload', 'retry']],
        [['--hel'], ['--help']],
        [['--lis'], ['--listen']],
        [['serve', '--log-'], ['--log-format', '--log-level']],
        [['send', 'user.'], ['user.created', 'user.deleted', 'user.updated']],
        [['send', 'user_'], ['user_registration']],
        [['send', '--li'], ['--list', '--listen']],
        [['events', '--status', 'd'], ['dead', 'done']],
        [['events', '--status', '=', 'd'], ['dead', 'done']],
        [['events', '--type', 'session.'], ['session.created', 'session.revoked']],
        [['serve', '--handlers', ''], ['a file', 'folder']],
        [['serve', '--env-file', '=', 'a'], ['a file']],
        [['serve', '--listen', ''], []],
        [['init', ''], ['folder']],
        [['init', '-'], ['--help']],
        [['completion', ''], ['bash', 'fish', 'zsh']],
        // Symptom: backup completed no file, retry completed the word "ID…", help and its commands were unknown.
        [['backup', './a'], ['./a file']],
        [['backup', '-'], ['--db', '--env-file', '--force', '--help']],
        [['retry', 'I'], []],
        [['retry', ''], ['--all']],
        [['setup', 'h'], []],
        [['h'], ['help']],
        [['help', 'ev'], ['events']],
        [['help', 'h'], ['help']],
    ])
        test(`bash: ${words.join(' ')}`, () => {
            assert.deepEqual(offered(...words), wanted);
        });

    test('bash offers every command of the help', async () => {
        const { stdout } = await runCommand(['--help']);
        const commands = [...stdout.matchAll(/^ {2}([a-z]+) +\w/gm)].map((match) => match[1]);
        assert.ok(commands.length >= 12);
        assert.deepEqual(offered(''), commands.sort());
    });

    test('zsh and fish have theirs', async () => {
        const zsh = await runCommand(['completion', 'zsh']);
        assert.match(zsh.stdout, /^#compdef authkitd\n/);
        const fish = await runCommand(['completion', 'fish']);
        assert.match(fish.stdout, /^complete -c authkitd .* -l log-level -x -a 'debug info /m);
        for (const { code } of [zsh, fish]) assert.equal(code, 0);
        const ofFish = (command) =>
            fish.stdout
                .match(new RegExp(`^.*subcommand_from ${command}' -[aF].*$`, 'gm'))
                .map((line) => line.replace(/^.*?' /, ''));
        assert.deepEqual(ofFish('retry'), ["-a '--all'"]);
        assert.deepEqual(ofFish('backup'), ['-F']);
        assert.deepEqual(ofFish('init'), ["-a '(__fish_complete_directories)'"]);
        assert.match(ofFish('help')[0], /^-a 'init serve .* help'$/);
        for (const { stdout } of [zsh, fish]) assert.ok(!stdout.includes('ID…'));
    });

    for (const args of [[], ['tcsh']])
        test(`wrong usage: completion ${args.join(' ')}`, async () => {
            const { code, stderr, stdout } = await runCommand(['completion', ...args]);
            assert.equal(code, 2);
            assert.match(stderr, /bash, zsh or fish/);
            assert.equal(stdout, '');
        });
});
