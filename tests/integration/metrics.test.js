// SPDX-License-Identifier: MIT
// What an operator sees: /metrics for Prometheus, /readyz in words, a log that tells and doesn't flood,
// and the dashboard and alert rules that are made of it.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

import { parse as parseYaml } from 'yaml';

import { faults, startFakeApi } from './lib/fake_api.js';
import { describe, describeLogic, inParallel, load, patience, test, until } from './lib/harness.js';
import { readMetrics, scrape } from './lib/prometheus.js';
import { newFolder, newServer, sharedServer, startServer, writeFile } from './lib/server.js';
import { newEvent, newUser, registrationAction, userCreated, userUpdated } from './lib/workos.js';

const scripts = path.join(import.meta.dirname, '../../scripts');

const HANDLERS = `
local authkit = require "authkit"
authkit.schema { notes = { columns = { text = "text" } } }
local function note(ctx, event)
  if event.data.first_name == "bad" then error("no good: " .. event.data.email) end
  ctx.db.insert("notes", { text = event.id })
end
authkit.events { ["user.created"] = note, ["user.updated"] = note }
authkit.actions {
  user_registration = function(ctx, action, response)
    local email = action.user_data.email
    if email:find("^bad@") then error("no verdict") end
    if email:find("@gmail%.com$") then return response.deny("no") end
    return response.allow()
  end,
}
authkit.routes {
  ["GET /notes"] = function(ctx, request)
    ctx.auth.require()
    return { notes = 1 }
  end,
  ["POST /notes"] = function(ctx, request)
    ctx.db.insert("notes", { text = "x" })
    return 201, {}
  end,
  ["GET /bad"] = function() error("bad route") end,
}`;
// Without a function for user.created.
const FEWER_HANDLERS = HANDLERS.replace('["user.created"] = note, ', '');

/** Keys of WorkOS's kind, in a file, and tokens that are signed with them. */
class Tokens {
    constructor() {
        this.file = path.join(newFolder(), 'jwks.json');
        this.pair = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
    }

    write() {
        const key = this.pair.publicKey.export({ format: 'jwk' });
        writeFile(
            this.file,
            JSON.stringify({ keys: [{ ...key, kid: 'key_1', alg: 'RS256', use: 'sig' }] }),
        );
    }

    get env() {
        return { WORKOS_CLIENT_ID: 'client_1', AUTHKITD_JWKS_URL: `file:${this.file}` };
    }

    make(claims = {}) {
        const now = Math.floor(Date.now() / 1000);
        const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
        const text = [
            { alg: 'RS256', kid: 'key_1' },
            {
                iss: 'https://api.workos.com',
                sub: 'user_01SECRETSUBJECT',
                sid: 'session_1',
                client_id: 'client_1',
                iat: now,
                exp: now + 300,
                ...claims,
            },
        ]
            .map(encode)
            .join('.');
        return `${text}.${crypto.sign('sha256', text, this.pair.privateKey).toString('base64url')}`;
    }
}

async function ready(server) {
    const answer = await fetch(`${server.adminUrl}/readyz`);
    return { http: answer.status, ...(await answer.json()) };
}

async function reload(server, handlers) {
    writeFile(server.handlersFile, handlers);
    const answer = await fetch(`${server.adminUrl}/reload`, {
        method: 'POST',
        headers: { 'Authkitd-Admin': '1' },
    });
    return { status: answer.status, ...(await answer.json()) };
}

const bad = (fields = {}) => userCreated({ first_name: 'bad', ...fields });

describe('/metrics', () => {
    const tokens = new Tokens();
    tokens.write();
    const server = sharedServer({ handlers: HANDLERS, env: tokens.env });
    const get = (path, token) =>
        server.client.request('GET', path, {
            headers: token ? { Authorization: `Bearer ${token}` } : {},
        });

    test('counts what becomes of events, by type', async () => {
        const good = userCreated();
        const failing = bad();
        const events = (metrics, type, outcome) =>
            metrics.value('authkitd_events_total', { type, outcome });

        await server.deliver(good);
        await server.deliver(good);
        await server.deliver(failing);
        await server.deliver(userUpdated(failing.data)); // waits behind it
        await server.deliver(newEvent('session.created', { object: 'session', id: 'session_1' }));
        const metrics = await scrape(server);
        assert.equal(events(metrics, 'user.created', 'done'), 1);
        assert.equal(events(metrics, 'user.created', 'duplicate'), 1);
        assert.equal(events(metrics, 'user.created', 'failed'), 1);
        assert.equal(events(metrics, 'user.updated', 'waiting'), 1);
        assert.equal(events(metrics, 'session.created', 'done'), 1);
        assert.equal(metrics.value('authkitd_events_total'), 5);
        assert.equal(metrics.value('authkitd_function_seconds_count', { kind: 'event' }), 2);
    });

    test('shows events that are not done, and users, a few seconds later at most', async () => {
        const statuses = (metrics, status) => metrics.value('authkitd_events', { status });

        await until(
            'the events to be counted again',
            async () => statuses(await scrape(server), 'failed') === 1,
            patience(15_000),
        );
        const metrics = await scrape(server);
        assert.equal(statuses(metrics, 'waiting'), 1);
        assert.equal(statuses(metrics, 'dead'), 0);
        assert.equal(typeof metrics.value('authkitd_users'), 'number');
    });

    test('counts loads of the script, and the events that they make dead', async () => {
        const loads = (metrics, outcome) => metrics.value('authkitd_reloads_total', { outcome });
        const before = await scrape(server);

        assert.equal(loads(before, 'good') + loads(before, 'refused'), 0);
        assert.equal((await reload(server, 'this is no Lua')).status, 422);
        const refused = await scrape(server);
        assert.equal(loads(refused, 'refused'), 1);
        assert.equal(refused.value('authkitd_reload_refused'), 1);
        assert.equal((await reload(server, FEWER_HANDLERS)).status, 200);
        await until(
            'the failed event to be dead',
            async () =>
                (await scrape(server)).value('authkitd_events_total', { outcome: 'dead' }) === 1,
        );
        assert.equal((await reload(server, HANDLERS)).status, 200);
        const after = await scrape(server);
        assert.equal(loads(after, 'good'), 2);
        assert.equal(after.value('authkitd_reload_refused'), 0);
        const age = Date.now() / 1000 - after.value('authkitd_script_loaded_timestamp_seconds');
        assert.ok(age > -2 && age < 60, `loaded ${age} s ago`);
        assert.ok(after.value('authkitd_script_memory_bytes') > 10_000);
    });

    test('counts actions by verdict', async () => {
        const verdicts = (metrics, verdict) =>
            metrics.value('authkitd_actions_total', { action: 'user_registration', verdict });

        for (const email of ['ada@example.com', 'ada@gmail.com', 'bad@example.com'])
            await server.act(registrationAction({ email }));
        const metrics = await scrape(server);
        assert.equal(verdicts(metrics, 'allow'), 1);
        assert.equal(verdicts(metrics, 'deny'), 1);
        assert.equal(verdicts(metrics, 'error'), 1);
        assert.equal(metrics.value('authkitd_function_seconds_count', { kind: 'action' }), 3);
    });

    test('counts routes by method and status, and tokens', async () => {
        const now = Math.floor(Date.now() / 1000);
        const statuses = (metrics, method, status) =>
            metrics.value('authkitd_routes_total', { method, status });
        const outcomes = (metrics, outcome) => metrics.value('authkitd_tokens_total', { outcome });
        const user = newUser();

        await server.deliver(userCreated(user));
        assert.equal((await get('/notes', tokens.make({ sub: user.id }))).status, 200);
        assert.equal((await get('/notes')).status, 401);
        assert.equal((await get('/notes', 'no.token.this')).status, 401);
        assert.equal((await get('/notes', tokens.make({ exp: now - 600 }))).status, 401);
        assert.equal((await get('/workos/user', tokens.make())).status, 404);
        assert.equal((await get('/bad')).status, 500);
        assert.equal((await get('/nothing/here')).status, 404); // nobody's: not counted
        const body = '{}';
        assert.equal((await server.client.request('POST', '/notes', { body })).status, 201);
        const metrics = await scrape(server);
        assert.equal(statuses(metrics, 'GET', '200'), 1);
        assert.equal(statuses(metrics, 'GET', '401'), 3);
        assert.equal(statuses(metrics, 'GET', '404'), 1);
        assert.equal(statuses(metrics, 'GET', '500'), 1);
        assert.equal(statuses(metrics, 'POST', '201'), 1);
        assert.equal(outcomes(metrics, 'ok'), 2);
        assert.equal(outcomes(metrics, 'missing'), 3);
        assert.equal(outcomes(metrics, 'invalid'), 1);
        assert.equal(outcomes(metrics, 'expired'), 1);
        assert.equal(outcomes(metrics, 'unavailable'), 0);
        assert.equal(metrics.value('authkitd_function_seconds_count', { kind: 'route' }), 6);
    });

    test('counts answers by status, whatever was wrong with the request', async () => {
        const statuses = (metrics, status) =>
            metrics.value('authkitd_http_requests_total', { status });
        const before = await scrape(server);

        assert.equal((await server.post(userCreated(), { secret: 'wrong' })).status, 401);
        assert.equal((await get('/nothing/here')).status, 404);
        const raw = await server.openRaw();
        raw.send('GET / HTTP/1.1\r\n\r\n'); // no Host
        await until(
            'it to be refused',
            async () => statuses(await scrape(server), '400') === statuses(before, '400') + 1,
        );
        const after = await scrape(server);
        assert.equal(statuses(after, '401'), statuses(before, '401') + 1);
        assert.equal(statuses(after, '404'), statuses(before, '404') + 1);
        assert.ok(after.value('authkitd_http_connections') >= 1);
    });

    test('measures the disk, the queue and the process', async () => {
        const before = await scrape(server);

        await server.deliver(userCreated());
        const metrics = await scrape(server);
        const grown = (name) => metrics.value(name) - before.value(name);
        assert.equal(grown('authkitd_commit_seconds_count'), 1);
        assert.ok(grown('authkitd_commit_seconds_sum') > 0);
        assert.ok(grown('authkitd_batch_jobs_count') >= 1);
        assert.ok(grown('authkitd_batch_jobs_sum') >= 1);
        assert.equal(metrics.value('authkitd_queue_jobs', { priority: 'normal' }), 0);
        assert.equal(metrics.value('authkitd_queue_jobs', { priority: 'urgent' }), 0);
        assert.equal(metrics.value('authkitd_disk_full'), 0);
        assert.ok(metrics.value('authkitd_database_bytes') >= 4096);
        assert.ok(metrics.value('authkitd_wal_bytes') >= 0);
        assert.ok(metrics.value('process_resident_memory_bytes') > 1_000_000);
        assert.ok(metrics.value('process_cpu_seconds_total') > 0);
        assert.ok(metrics.value('process_open_fds') > 5);
        assert.ok(metrics.value('process_max_fds') >= metrics.value('process_open_fds'));
        const age = Date.now() / 1000 - metrics.value('process_start_time_seconds');
        assert.ok(age > 0 && age < 600, `started ${age} s ago`);
        assert.equal(metrics.value('authkitd_up'), 1);
    });

    test('has nothing of a person, and no secret, in it', async () => {
        const { text, families } = await scrape(server);

        assert.doesNotMatch(text, /@|(user|event|session)_0|SECRET|whsec|actsec|eyJ/);
        const labels = new Set(
            [...families.values()].flatMap(({ samples }) =>
                samples.flatMap((sample) => Object.keys(sample.labels)),
            ),
        );
        assert.deepEqual([...labels].sort(), [
            'action',
            'kind',
            'le',
            'method',
            'outcome',
            'priority',
            'sqlite',
            'status',
            'type',
            'verdict',
            'version',
        ]);
    });

    test('there is an end of types that are shown', async () => {
        await inParallel(
            8,
            Array.from({ length: 300 }, (_, i) => newEvent(`many.${i}`, { id: `many_${i}` })),
            (event) => server.deliver(event),
        );
        const metrics = await scrape(server);
        const types = new Set(
            metrics.families
                .get('authkitd_events_total')
                .samples.map(({ labels: { type } }) => type),
        );
        assert.equal(types.size, 257);
        assert.ok(metrics.value('authkitd_events_total', { type: 'other' }) >= 40);
    });
});

describeLogic('/metrics without the rest', () => {
    test('of what is off there is nothing', async (t) => {
        const server = await startServer(t, {});
        const { families } = await scrape(server);

        for (const name of ['authkitd_tokens_total', 'authkitd_keys_failing', 'authkitd_poll_failing'])
            assert.ok(!families.has(name), name);
    });

    test('with an API key it tells of the readings', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, { handlers: HANDLERS, env: api.env });

        await until('the first reading', () => api.requests.some(({ path }) => path === '/events'));
        const metrics = await scrape(server);
        assert.ok(metrics.value('authkitd_poll_age_seconds') < 60);
        assert.equal(metrics.value('authkitd_poll_failing'), 0);
    });
});

describe('/readyz', () => {
    test('is ok when all is well', async (t) => {
        const server = await startServer(t, {});

        assert.deepEqual(await ready(server), {
            http: 200,
            status: 'ready',
            problems: [],
            warnings: [],
            poll: null,
        });
    });

    test('warns of a script that was refused, until one is taken', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });

        await reload(server, 'this is no Lua');
        const state = await ready(server);
        assert.equal(state.http, 200);
        assert.equal(state.status, 'ready');
        assert.equal(state.warnings.length, 1);
        assert.match(
            state.warnings[0],
            /^the load of the script at 20\S+Z was refused; the one of 20\S+Z goes on: .*handlers\.lua/,
        );
        await reload(server, HANDLERS);
        assert.deepEqual((await ready(server)).warnings, []);
    });

    test('warns of dead events', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });

        await server.deliver(bad());
        await reload(server, FEWER_HANDLERS);
        await until(
            'the dead event',
            async () => (await ready(server)).warnings[0]?.startsWith('1 event is dead'),
            patience(15_000),
        );
        assert.equal((await ready(server)).http, 200);
    });

    test('is in trouble while tokens cannot be checked, and not for longer', async (t) => {
        const tokens = new Tokens();
        const server = await startServer(t, { handlers: HANDLERS, env: tokens.env });

        await until('the trouble', async () => (await ready(server)).http === 503);
        const state = await ready(server);
        assert.equal(state.status, 'trouble');
        assert.match(state.problems[0], /^access tokens can't be checked, .*jwks\.json/);
        assert.deepEqual(state.error, { code: 'keys_unavailable', message: state.problems[0] });
        assert.equal((await scrape(server)).value('authkitd_keys_failing'), 1);
        tokens.write();
        await until('the keys', async () => (await ready(server)).http === 200, patience(20_000));
        assert.equal((await scrape(server)).value('authkitd_keys_failing'), 0);
    });

    test('warns of an Events API that cannot be read', async (t) => {
        const api = await startFakeApi(t);
        const server = await newServer(t, {
            handlers: HANDLERS,
            env: api.env,
            args: ['--poll', '1'],
        });

        api.fail('/events', faults.status(401, { message: 'Unauthorized' }), 1000);
        await server.start();
        await until('the warning', async () => (await ready(server)).warnings.length === 1);
        const state = await ready(server);
        assert.match(state.warnings[0], /^the last reading of the Events API failed: .*401/);
        assert.equal(state.poll.failing, true);
        assert.equal(state.http, 200);
    });
});

describe('the log', () => {
    test('tells at the start what there is', async (t) => {
        const server = await startServer(t, {
            handlers: HANDLERS,
            env: { WORKOS_ACTION_SECRET: '' },
        });
        const one = (message) => {
            const lines = server.log(message);
            assert.equal(lines.length, 1, message);
            return lines[0];
        };

        await server.deliver(userCreated());
        assert.match(one('authkitd starting').version, /^\d+\.\d+\.\d+/);
        const database = one('database');
        assert.equal(database.file, fs.realpathSync(server.database));
        assert.equal(database.users, 0);
        assert.ok(database.bytes > 0 && database.version > 0);
        assert.match(one('script loaded').events, /user\.created/);
        assert.equal(one('endpoint').name, 'webhook');
        assert.deepEqual(
            server.log('endpoint is off').map(({ name, why, set }) => [name, why, set]),
            [
                ['action', 'it has no secret', 'WORKOS_ACTION_SECRET'],
                ['user', 'no access tokens are taken', 'WORKOS_CLIENT_ID'],
            ],
        );
        assert.equal(one('the Events API is not read').set, 'WORKOS_API_KEY');
        await server.restart();
        assert.equal(server.log('database')[1].users, 1);
    });

    test('has a line for each event at debug, and none at info', async (t) => {
        for (const level of ['debug', 'info']) {
            const server = await startServer(t, {
                handlers: HANDLERS,
                args: ['--log-level', level],
            });
            const event = userCreated();
            const failing = bad();

            for (const one of [event, event, failing]) await server.deliver(one);
            if (level === 'info') {
                await server.waitForLog('event function failed');
                const lines = server.lines.filter(({ id }) => [event.id, failing.id].includes(id));
                assert.deepEqual(
                    lines.map(({ msg }) => msg),
                    ['event function failed'],
                );
                continue;
            }
            await until('the last line', () => server.log('event received').length === 2);
            const [received] = server.log('event received');
            assert.equal(received.event, 'user.created');
            assert.equal(received.outcome, 'done');
            assert.ok(received.ms >= 0 && received.function_us > 0);
            assert.equal(server.log('event is known already')[0].outcome, 'duplicate');
            assert.equal(server.log('event received')[1].outcome, 'failed');
        }
    });

    test('is not flooded by one error, and says how much it left out', async (t) => {
        const count = load(10_000, 500);
        const server = await startServer(t, { handlers: HANDLERS });
        const client = server.newClient({ connections: 32 });
        const events = Array.from({ length: count }, (_, i) => bad({ email: `a${i}@example.com` }));

        await inParallel(32, events, (event) => server.deliver(event, { client }));
        await server.deliver(userUpdated(newUser({ first_name: 'bad' }))); // another kind? the same place
        await server.stop(); // which tells what is left to tell
        const failures = server.log('event function failed');
        assert.ok(failures.length >= 5 && failures.length <= 20, `${failures.length} lines`);
        assert.match(failures[0].error, /no good: a\d+@example\.com\nstack traceback:/);
        const told = server
            .log('more of the same, left out of the log')
            .filter(({ what }) => what === 'event function failed')
            .reduce((sum, line) => sum + line.count, 0);
        // On a slow machine some have failed again meanwhile.
        assert.equal(failures.length + told, server.row('SELECT sum(attempts) FROM workos_events'));
        assert.ok(server.lines.length < 100, `${server.lines.length} lines in all`);
    });

    test('a failing route has a line for each request_id, not always the traceback', async (t) => {
        const server = await startServer(t, { handlers: HANDLERS });

        for (let i = 0; i < 20; i++) await server.client.request('GET', '/bad');
        await until('all lines', () => server.log('route failed').length === 20);
        const lines = server.log('route failed');
        assert.equal(new Set(lines.map((line) => line.request_id)).size, 20);
        assert.match(lines[0].error, /bad route\nstack traceback:/);
        assert.ok(lines.every(({ error }) => error.includes('bad route')));
        assert.ok(lines.filter(({ error }) => error.includes('traceback')).length <= 10);
    });

    test('with --ordered new events are no news', async (t) => {
        const api = await startFakeApi(t);
        const server = await startServer(t, {
            handlers: HANDLERS,
            env: api.env,
            args: ['--ordered', '--poll', '1'],
        });

        assert.equal(server.log('the Events API is read')[0].ordered, 'yes');
        await until('the first reading', () => api.requests.some(({ path }) => path === '/events'));
        api.users.add();
        await until('the event', () => server.count('workos_events') === 1);
        assert.deepEqual(server.log('events that no webhook had brought'), []);
    });
});

describeLogic('what is made of the metrics', () => {
    const server = sharedServer({
        handlers: HANDLERS,
        env: { WORKOS_CLIENT_ID: 'client_1', AUTHKITD_JWKS_URL: 'file:/nowhere' },
    });
    const dashboard = JSON.parse(
        fs.readFileSync(path.join(scripts, 'grafana-dashboard.json'), 'utf8'),
    );
    const rules = parseYaml(fs.readFileSync(path.join(scripts, 'alert-rules.yml'), 'utf8'));
    const alerts = rules.groups.flatMap((group) => group.rules);
    const targets = dashboard.panels.flatMap((panel) => panel.targets ?? []);

    /** Names of metrics, and label="value" pairs of each, that an expression uses. */
    function usesOf(expression) {
        const uses = [];
        const bare = expression.replace(/"[^"]*"/g, '""');

        for (const [, name] of bare.matchAll(/\b((?:authkitd|process)_\w+)/g)) uses.push(name);
        return uses;
    }

    /** Each series that an expression looks for: its metric, and one value of each label that is asked for. */
    function seriesOf(expression) {
        const series = [];

        for (const [, name, text] of expression.matchAll(/\b(authkitd_\w+)\{([^}]*)\}/g)) {
            let combinations = [{}];
            for (const [, label, , values] of text.matchAll(/(\w+)(=~?)"([^"]*)"/g))
                combinations = combinations.flatMap((one) =>
                    values.split('|').map((value) => ({ ...one, [label]: value })),
                );
            series.push(...combinations.map((labels) => ({ name, labels })));
        }
        return series;
    }

    // With an API key there are two more, and with a certificate.
    const POLL = ['authkitd_poll_age_seconds', 'authkitd_poll_failing'];
    const CERTIFICATE = [
        'authkitd_certificate_expires_timestamp_seconds',
        'authkitd_certificate_refused',
    ];

    async function knownNames() {
        const { families } = await scrape(server);
        return new Set([
            ...POLL,
            ...CERTIFICATE,
            ...[...families.values()].flatMap(({ name, type }) =>
                type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
            ),
        ]);
    }

    test('every name in the dashboard and in the rules is one of ours', async () => {
        const known = await knownNames();
        const expressions = [...targets, ...alerts].map(({ expr }) => expr);

        assert.ok(expressions.length > 40);
        for (const expression of expressions) {
            const uses = usesOf(expression);
            assert.ok(uses.length > 0, expression);
            for (const name of uses) assert.ok(known.has(name), `${name} in ${expression}`);
        }
    });

    // Symptom: no alert for the first failure, since its series wasn't there before: increase() sees a counter
    // from its second reading on.
    test('every series that a rule looks for is there before anything has happened', async () => {
        const series = alerts.flatMap(({ expr }) => seriesOf(expr));

        assert.ok(series.length >= 9, JSON.stringify(series));
        for (const { name, labels } of series)
            await until(`${name} ${JSON.stringify(labels)}`, async () => {
                const { families } = await scrape(server);
                return families
                    .get(name)
                    ?.samples.some((sample) =>
                        Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
                    );
            });
        const { families } = await scrape(server);
        const actions = families.get('authkitd_actions_total').samples;
        for (const action of ['user_registration', 'authentication'])
            for (const verdict of ['error', 'no_function'])
                assert.ok(
                    actions.some(
                        ({ labels, value }) =>
                            labels.action === action && labels.verdict === verdict && value === 0,
                    ),
                    `${action} ${verdict}`,
                );
    });

    // Symptom: of a small app, where every sign-in failed and one came each ten minutes, no alert told.
    test('a rule about failures that are counted finds them though they are minutes apart', () => {
        const counting = alerts.filter(({ expr }) => /authkitd_\w+_total\b/.test(expr));

        assert.ok(counting.length >= 4);
        for (const { alert, expr, for: wait } of counting) {
            const uses = [...expr.matchAll(/_total(?:\{[^}]*\})?(?:\[(\w+)\])?/g)];
            const ranges = uses.map(([, range]) => range);
            assert.ok(ranges.every((range) => range === '30m'), `${alert}: ${expr}`);
            assert.match(wait ?? '0m', /^[01]m$/, alert);
        }
    });

    test('every metric of ours has its panel', async () => {
        const shown = new Set(targets.flatMap(({ expr }) => usesOf(expr)));
        const { families } = await scrape(server);

        for (const { name, type } of families.values()) {
            const names = type === 'histogram' ? [`${name}_bucket`] : [name];
            assert.ok(names.some((one) => shown.has(one)), name);
        }
        for (const name of [...POLL, ...CERTIFICATE]) assert.ok(shown.has(name), name);
    });

    test('the dashboard can be imported: a variable for the source, panels that do not overlap', () => {
        const ids = dashboard.panels.map(({ id }) => id);
        const cells = new Set();

        assert.equal(dashboard.templating.list[0].type, 'datasource');
        assert.equal(new Set(ids).size, ids.length);
        for (const panel of dashboard.panels) {
            const { x, y, w, h } = panel.gridPos;
            if (panel.type !== 'row')
                for (const source of [panel.datasource, ...panel.targets.map((one) => one.datasource)])
                    assert.deepEqual(source, { type: 'prometheus', uid: '${datasource}' });
            for (let column = x; column < x + w; column++)
                for (let line = y; line < y + h; line++) {
                    assert.ok(column < 24 && !cells.has(`${column},${line}`), panel.title);
                    cells.add(`${column},${line}`);
                }
        }
    });

    test('every rule has a name of its own, a severity and a sentence of what to do', () => {
        assert.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
        for (const { alert, labels, annotations, expr, ...rest } of alerts) {
            assert.match(alert, /^Authkitd[A-Z]\w+$/);
            assert.match(labels.severity, /^(critical|warning)$/, alert);
            assert.ok(annotations.summary && annotations.description.endsWith('.'), alert);
            assert.match(rest.for ?? '0s', /^\d+[smh]$/, alert);
            assert.ok(expr);
        }
    });

    test('promtool finds nothing wrong with the rules and the metrics', async (t) => {
        if (spawnSync('promtool', ['--version']).error) return t.skip('there is no promtool');
        execFileSync('promtool', ['check', 'rules', path.join(scripts, 'alert-rules.yml')]);
        const { text } = await scrape(server);
        execFileSync('promtool', ['check', 'metrics'], { input: text });
    });

    test('promtool: one failure each ten minutes is told after the first, until half an hour is over', async (t) => {
        if (spawnSync('promtool', ['--version']).error) return t.skip('there is no promtool');
        const folder = newFolder();
        const failing = '0x20 1x39 2x39 3x200'; // a reading each 15 s: it fails after 5, 15 and 25 minutes
        const series = (name, labels) => ({
            series: `${name}{instance="a",${labels}}`,
            values: failing,
        });
        const alertsAt = (alertname, minutes, ...labels) => ({
            alertname,
            eval_time: `${minutes}m`,
            exp_alerts: labels.map((one) => {
                const { annotations, labels: own } = alerts.find(({ alert }) => alert === alertname);
                const filled = (text) =>
                    text.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_, key) => one[key]);
                return {
                    exp_labels: { ...own, ...one },
                    exp_annotations: {
                        summary: filled(annotations.summary),
                        description: filled(annotations.description),
                    },
                };
            }),
        });
        const cases = [
            ['AuthkitdActionErrors', { instance: 'a', action: 'authentication' }],
            ['AuthkitdActionWithoutFunction', { instance: 'a', action: 'authentication' }],
            ['AuthkitdTokensUnavailable', { instance: 'a' }],
            ['AuthkitdServerErrors', { instance: 'a' }],
        ];
        const action = (verdict) =>
            series('authkitd_actions_total', `action="authentication",verdict="${verdict}"`);
        writeFile(
            path.join(folder, 'test.yml'),
            JSON.stringify({
                rule_files: [path.join(scripts, 'alert-rules.yml')],
                evaluation_interval: '15s',
                tests: [
                    {
                        interval: '15s',
                        input_series: [
                            action('error'),
                            action('no_function'),
                            series('authkitd_tokens_total', 'outcome="unavailable"'),
                            series('authkitd_http_requests_total', 'status="500"'),
                        ],
                        alert_rule_test: cases.flatMap(([name, labels]) => [
                            alertsAt(name, 4),
                            ...[7, 14, 24, 50].map((minutes) => alertsAt(name, minutes, labels)),
                            alertsAt(name, 60),
                        ]),
                    },
                ],
            }),
        );
        const { status, stdout, stderr } = spawnSync(
            'promtool',
            ['test', 'rules', path.join(folder, 'test.yml')],
            { encoding: 'utf8' },
        );
        assert.equal(status, 0, stdout + stderr);
    });
});

describeLogic('the parser of this test', () => {
    test('finds what is wrong', () => {
        const head = '# HELP a_total x\n# TYPE a_total counter\n';

        readMetrics(`${head}a_total 1\n`);
        for (const text of [
            'a 1\n',
            `${head}a_total 1`,
            `${head}a_total{x="1} 1\n`,
            `${head}a_total{x="1",x="2"} 1\n`,
            `${head}a_total 1\na_total 1\n`,
            `${head}a_total 0x1\n`,
            `${head}${head}`,
            '# TYPE a_total counter\na_total 1\n',
            '# HELP a x\n# TYPE a counter\n',
            '# HELP h x\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
        ])
            assert.throws(() => readMetrics(text), undefined, text);
    });
});
