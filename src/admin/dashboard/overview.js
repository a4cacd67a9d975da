// SPDX-License-Identifier: MIT
// How it does: rate, latency and queue, what has failed, and whether anything is missing.

import { get, Refused } from './api.js';
import { chart } from './chart.js';
import { bytes, duration, el, empty, facts, number, renew, time } from './dom.js';
import { hasMetric, quantiles, rates, samples, sum, value, values } from './metrics.js';

const inMs = (points) => points.map(([at, s]) => [at, s === null ? null : s * 1000]);

/** Without the metric what arrived is known by its number. */
function eventRates() {
    if (!hasMetric('authkitd_events_total'))
        return [{ name: 'arrived', points: rates(({ overview }) => overview.events.last_seq) }];
    const count = (fits) => rates((sample) => sum(sample, 'authkitd_events_total', fits));
    return [
        { name: 'events', points: count(({ outcome }) => outcome !== 'duplicate') },
        {
            name: 'failed',
            points: count(({ outcome }) => outcome === 'failed' || outcome === 'dead'),
        },
    ];
}

const latencies = () => [
    { name: 'functions, 95 %', points: inMs(quantiles('authkitd_function_seconds', 0.95)) },
    { name: 'commit, 95 %', points: inMs(quantiles('authkitd_commit_seconds', 0.95)) },
];

const queue = () => [
    { name: 'waiting', points: values((sample) => sum(sample, 'authkitd_queue_jobs')) },
];

const without = (metric, words) => () =>
    samples.length < 2
        ? 'Collecting …'
        : hasMetric(metric)
          ? words
          : `This server doesn’t tell (${metric}).`;

function tile(name, count, max, status, help, page = 'problems') {
    return el(
        'a',
        {
            class: `tile ${count > 0 ? status : ''}`,
            href: `#/${page}?status=${status}`,
            title: help,
        },
        el('span', { class: 'tile-name' }, name),
        el('strong', null, count >= max ? `${number(max)}+` : number(count)),
    );
}

const tiles = ({ events, count_max }) => [
    tile(
        'Failed',
        events.failed,
        count_max,
        'failed',
        'Their function raised; they run again by themselves',
    ),
    tile(
        'Waiting',
        events.waiting,
        count_max,
        'waiting',
        'Behind an earlier event of the same object',
    ),
    tile('Dead', events.dead, count_max, 'dead', 'Given up; they run when you retry them'),
    // No problem, but with --ordered the one place where it is to be seen that the Events API lags behind.
    events.expected > 0 &&
        tile(
            'Expected',
            events.expected,
            count_max,
            'expected',
            'Their webhook came; the Events API is to bring them in their turn',
            'events',
        ),
];

function health(overview, sample, ready) {
    const age = value(sample, 'authkitd_poll_age_seconds');
    const memory = value(sample, 'process_resident_memory_bytes');
    const database = value(sample, 'authkitd_database_bytes');
    const wal = value(sample, 'authkitd_wal_bytes');
    return facts([
        [
            'State',
            ready.status === 'ready' ? 'ready' : el('span', { class: 'bad-text' }, 'in trouble'),
        ],
        [
            'Up for',
            [
                duration(overview.now - overview.started_at),
                ' ',
                el('small', null, 'since ', time(overview.started_at)),
            ],
        ],
        [
            'Last event',
            overview.events.last_received_at ? time(overview.events.last_received_at) : 'none yet',
        ],
        [
            'Events API',
            age === null
                ? overview.endpoints.api
                    ? 'not read (--poll off)'
                    : 'not read: WORKOS_API_KEY isn’t set'
                : `read ${duration(age * 1000)} ago${value(sample, 'authkitd_poll_failing') ? ', and failing' : ''}`,
        ],
        ['Memory', memory === null ? null : bytes(memory)],
        [
            'Database',
            database === null
                ? null
                : bytes(database) + (wal === null ? '' : ` + ${bytes(wal)} WAL`),
        ],
        ['Version', `authkitd ${overview.version}`],
    ]);
}

function missing({ endpoints }) {
    const rows = [
        [endpoints.webhook, 'Webhooks are off', 'WORKOS_WEBHOOK_SECRET'],
        [endpoints.action, 'Actions are off', 'WORKOS_ACTION_SECRET'],
        [endpoints.tokens, 'Access tokens aren’t taken', 'WORKOS_CLIENT_ID'],
        [endpoints.api, 'Missed events aren’t fetched', 'WORKOS_API_KEY'],
    ].filter(([is]) => !is);
    if (rows.length === 0) return null;
    return el(
        'section',
        { class: 'panel' },
        el('h2', null, 'Not set up'),
        el(
            'ul',
            { class: 'plain' },
            rows.map(([, what, variable]) =>
                el('li', null, `${what}: set `, el('code', null, variable)),
            ),
        ),
    );
}

const welcome = () =>
    empty(
        'Nothing has arrived yet.',
        'Tell WorkOS where this server is: `authkitd setup https://your.host` makes the webhook endpoint, or the dashboard of WorkOS does.',
        'To try a function: `authkitd send user.created`. To load the users that you have already: `authkitd backfill`.',
    );

/** What /readyz has to say, in its own words. */
async function readiness() {
    try {
        return await get('/readyz');
    } catch (error) {
        if (!(error instanceof Refused)) throw error;
        return { problems: [error.message], ...error.value };
    }
}

/** Nothing when all is well. */
const complaints = ({ problems = [], warnings = [] }) => [
    problems.map((text) => el('p', { class: 'notice bad' }, text)),
    warnings.map((text) => el('p', { class: 'notice' }, text)),
];

export function overviewView(_parameters, shared) {
    const charts = [
        [chart({ title: 'Events', unit: '/s', none: () => 'Collecting …' }), eventRates],
        [
            chart({
                title: 'Latency',
                unit: 'ms',
                none: without(
                    'authkitd_function_seconds_bucket',
                    'Nothing has run in these minutes.',
                ),
            }),
            latencies,
        ],
        [
            chart({
                title: 'Queue',
                unit: 'jobs',
                none: without('authkitd_queue_jobs', 'Nothing is known yet.'),
            }),
            queue,
        ],
    ];
    const parts = {
        complaints: el('div'),
        hello: el('div'),
        tiles: el('div', { class: 'tiles' }),
        health: el('div'),
        missing: el('div'),
    };
    const node = el(
        'div',
        null,
        el('h1', { tabindex: -1 }, 'Overview'),
        parts.complaints,
        parts.hello,
        parts.tiles,
        el(
            'div',
            { class: 'charts' },
            charts.map(([{ node: figure }]) => figure),
        ),
        el(
            'div',
            { class: 'columns' },
            el('section', { class: 'panel' }, el('h2', null, 'Server'), parts.health),
            parts.missing,
        ),
    );
    return {
        title: 'Overview',
        node,
        async refresh() {
            const ready = await readiness();
            const { overview } = shared;
            if (!overview) return;
            renew(parts.complaints, [ready.problems, ready.warnings], () =>
                complaints(ready).flat(),
            );
            renew(parts.hello, overview.events.last_seq === 0, (isNew) =>
                isNew ? welcome() : null,
            );
            renew(
                parts.tiles,
                [
                    overview.events.failed,
                    overview.events.waiting,
                    overview.events.dead,
                    overview.events.expected,
                ],
                () => tiles(overview),
            );
            renew(parts.missing, overview.endpoints, () => missing(overview));
            parts.health.replaceChildren(health(overview, samples.at(-1), ready));
            for (const [{ draw }, series] of charts) draw(series());
        },
    };
}
