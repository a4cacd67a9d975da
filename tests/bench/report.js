// SPDX-License-Identifier: MIT
// Medians of the rounds, the table, and the measured ratios beside what is aimed at.

import { servers } from './servers.js';

export const median = (numbers) => {
    const sorted = numbers.toSorted((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

const WORST = new Set(['starved', 'wrong', 'closed']); // of these the worst round counts

/** One record for each part, server, kind and number of connections: medians of its rounds. */
export function summarize(records) {
    const groups = Map.groupBy(
        records,
        ({ part, server, kind, connections }) => `${part}|${server}|${kind}|${connections ?? ''}`,
    );
    return [...groups.values()].map((rounds) => {
        const { part, server, kind, connections } = rounds[0];
        const summary = { part, server, kind, connections, rounds: rounds.length };
        for (const name of Object.keys(rounds[0])) {
            if (name in summary || name === 'round' || typeof rounds[0][name] !== 'number') continue;
            const values = rounds.map((round) => round[name]);
            summary[name] = WORST.has(name) ? Math.max(...values) : median(values);
        }
        return summary;
    });
}

// ---- the table ------------------------------------------------------------------------------------

const thousands = (number) => Math.round(number).toLocaleString('en-US');
const short = (ms) => (ms < 10 ? ms.toFixed(1) : ms.toFixed(0));

function cell(record) {
    if (!record) return '';
    const starved = record.starved ? `, ${record.starved} starved` : '';
    const wrong = record.wrong ? `, ${record.wrong} wrong` : '';
    return `${thousands(record.rate)} (${short(record.p99_ms)})${starved}${wrong}`;
}

const KINDS = {
    new: 'webhooks, new users',
    update: 'webhooks, updates',
    duplicate: 'webhooks, duplicates',
    action: 'actions',
    get: 'routes, GET one row',
    'get+token': 'routes, GET with a token',
    post: 'routes, POST one row',
};

function print(rows) {
    const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => [...row[i]].length)));
    for (const row of rows)
        console.log(
            row
                .map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i])))
                .join('  ')
                .trimEnd(),
        );
}

function loadRows(summary, connections) {
    const rows = [
        ['requests a second (p99 in ms) at', ...connections.map(String), 'CPU µs', 'MiB', 'p50, p99.9'],
    ];
    for (const [kind, title] of Object.entries(KINDS)) {
        const own = summary.filter((record) => record.kind === kind && record.part !== 'growth');
        for (const key of Object.keys(servers)) {
            const mine = own.filter((record) => record.server === key);
            const at = (n) => mine.find((record) => record.connections === n);
            const main = at(64) ?? mine[0];
            if (!main) continue;
            rows.push([
                `${title}: ${servers[key].title}`,
                ...connections.map((n) => cell(at(n))),
                main.cpu_us.toFixed(0),
                main.peak_mib.toFixed(1),
                `${short(main.p50_ms)}, ${short(main.p999_ms)}`,
            ]);
        }
    }
    return rows.length > 1 ? rows : [];
}

function factRows(summary, facts) {
    const rows = [['', 'start ms', 'idle MiB', 'binary MiB']];
    const of = (key, kind) =>
        summary.find((r) => r.server === key && r.kind === kind && r.part !== 'growth');
    for (const key of Object.keys(servers)) {
        const started = of(key, 'start')?.start_ms;
        const idle = of(key, 'idle')?.rss_mib;
        if (started === undefined && idle === undefined) continue;
        rows.push([
            servers[key].title,
            started?.toFixed(1) ?? '',
            idle?.toFixed(1) ?? '',
            key === 'authkitd' ? (facts.binary_bytes / 2 ** 20).toFixed(1) : '',
        ]);
    }
    return rows.length > 1 ? rows : [];
}

/** Not of this run: what scripts/bench guard has written down. */
function guardRows({ guard }) {
    if (!guard) return [];
    const names = Object.keys(guard.parts);
    return [
        [`for one event, from ${guard.from}`, ...names],
        ...['instructions', 'allocations'].map((unit) => [
            unit,
            ...names.map((name) => guard.parts[name][unit].toLocaleString('en-US')),
        ]),
    ];
}

const versions = ({ guard }) =>
    Object.entries(guard.made_with)
        .map(([name, version]) => (name === 'compiler' ? version : `${name} ${version}`))
        .join(', ')
        .replace('glibc glibc', 'glibc');

function growthRows(summary) {
    const kinds = ['new', 'update', 'duplicate', 'new, 50'];
    const own = summary.filter((record) => record.part === 'growth');
    const rows = [['users in the file', ...kinds, 'start ms', 'idle MiB', 'peak MiB']];
    for (const name of new Set(own.map((record) => record.server))) {
        const of = (kind) => own.find((record) => record.server === name && record.kind === kind);
        rows.push([
            name,
            ...kinds.map((kind) => cell(of(kind))),
            of('start').start_ms.toFixed(1),
            of('start').rss_mib.toFixed(1),
            Math.max(...kinds.map((kind) => of(kind)?.peak_mib ?? 0)).toFixed(1),
        ]);
    }
    return rows.length > 1 ? rows : [];
}

// ---- what is aimed at -----------------------------------------------------------------------------

/** The figures of a summary by name; undefined when they weren't measured. */
function finder(summary) {
    const find = (server, kind, connections, part) =>
        summary.find(
            (r) =>
                r.server === server &&
                r.kind === kind &&
                (connections === undefined || r.connections === connections) &&
                (part ? r.part === part : r.part !== 'growth'),
        );
    const ratio = (a, b) => (a === undefined || b === undefined ? undefined : a / b);
    return { find, ratio };
}

/** [what, measured, at least, better, unit]: where more is worse, 'at least' is the larger one. */
function targets(summary) {
    const { find, ratio } = finder(summary);
    const rate = (server, kind, connections = 64, part) =>
        find(server, kind, connections, part)?.rate;
    const of = (server, kind, connections, name) => find(server, kind, connections)?.[name];
    const biggest = ['2 M', '100 k'].find((name) => find(name, 'new', 64, 'growth'));
    const grown = biggest && ratio(rate(biggest, 'new', 64, 'growth'), rate('1 k', 'new', 64, 'growth'));

    return [
        ['webhooks at 64, against Node with the SDK', ratio(rate('authkitd', 'new'), rate('node', 'new')), 12, 17, '×'],
        ['webhooks at 64, against Go with group commit', ratio(rate('authkitd', 'new'), rate('go', 'new')), 1.25, 1.7, '×'],
        ['webhooks at 64, against bare C', ratio(rate('authkitd', 'new'), rate('path', 'new')), 0.8, 1.1, '×'],
        ['256 connections: starved', of('authkitd', 'new', 256, 'starved'), 0, 0, ''],
        ['256 connections: p99 against bare C', ratio(of('authkitd', 'new', 256, 'p99_ms'), of('path', 'new', 256, 'p99_ms')), 1.1, 0.8, '×'],
        ['one connection: p50 against bare C', ratio(of('authkitd', 'new', 1, 'p50_ms'), of('path', 'new', 1, 'p50_ms')), 1.1, 1.0, '×'],
        ['actions at 64, against webhooks', ratio(rate('authkitd', 'action'), rate('authkitd', 'new')), 1.5, 2.5, '×'],
        ['actions at 64, against Go', ratio(rate('authkitd', 'action'), rate('go', 'action')), 1.2, 1.7, '×'],
        ['GET routes, 2 cores against 1', ratio(rate('authkitd', 'get, 2 cores'), rate('authkitd', 'get, 1 core')), 1.7, 1.9, '×'],
        ['memory idle', of('authkitd', 'idle', undefined, 'rss_mib'), 12, 8, 'MiB'],
        ['memory under load at 64', of('authkitd', 'new', 64, 'peak_mib'), 20, 14, 'MiB'],
        ['exec to first 200, empty database', of('authkitd', 'start', undefined, 'start_ms'), 25, 15, 'ms'],
        ['exec to first 200, 2 M users', find('2 M', 'start', undefined, 'growth')?.start_ms, 30, 18, 'ms'],
        [`throughput with ${biggest ?? 'many'} users in the file, against 1 k`, grown, 0.8, 0.9, '×'],
    ].filter(([, measured]) => measured !== undefined);
}

const judge = (measured, least, better) => {
    const reaches = (bound) => (better < least || bound === 0 ? measured <= bound : measured >= bound);
    return reaches(better) ? 'better' : reaches(least) ? 'reached' : 'BELOW';
};

function targetRows(summary) {
    const rows = targets(summary).map(([what, measured, least, better, unit]) => [
        what,
        `${measured.toFixed(2)} ${unit}`,
        `${least} ${unit}`,
        `${better} ${unit}`,
        judge(measured, least, better),
    ]);
    return rows.length > 0 ? [['aimed at', 'measured', 'at least', 'better', ''], ...rows] : [];
}

export function printReport(summary, facts) {
    const connections = [
        ...new Set(summary.filter((r) => r.part !== 'growth' && r.connections).map((r) => r.connections)),
    ].sort((a, b) => a - b);
    const tables = [
        loadRows(summary, connections),
        factRows(summary, facts),
        guardRows(facts),
        growthRows(summary),
        targetRows(summary),
    ].filter((rows) => rows.length > 0);

    console.log(`${facts.cpu}, ${facts.cores} cores, Linux ${facts.kernel}; load before: ${facts.load_before}`);
    console.log(`medians of ${facts.rounds} interleaved rounds of ${facts.seconds} s; CPU, MiB and p50 at 64 connections`);
    for (const rows of tables) {
        console.log('');
        print(rows);
        if (rows[0][0].includes(facts.guard?.from)) console.log(`made with ${versions(facts)}`);
    }
}
