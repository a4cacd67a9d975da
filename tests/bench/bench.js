// SPDX-License-Identifier: MIT
// Runs parts of the benchmarks, prints one table and writes it as JSON.
//
// usage: node tests/bench/bench.js PART… [OPTION…]        (scripts/bench does that)

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

import * as parts from './parts.js';
import { printReport, summarize } from './report.js';
import { available, folder, release, servers } from './servers.js';

const NAMES = ['webhooks', 'actions', 'routes', 'start', 'growth'];
const WITH_PEERS = ['webhooks', 'actions', 'start'];
const DEFAULTS = { rounds: '3', seconds: '2' };
const QUICK = { rounds: '1', seconds: '0.7' };

function readArguments() {
    const { values, positionals } = parseArgs({
        allowPositionals: true,
        options: {
            rounds: { type: 'string' },
            seconds: { type: 'string' },
            quick: { type: 'boolean', default: false },
            full: { type: 'boolean', default: false },
            'growth-max': { type: 'string', default: '100000' },
            json: { type: 'string', default: path.join(folder, 'results.json') },
        },
    });
    const given = { ...(values.quick ? QUICK : DEFAULTS), ...values };
    const options = {
        rounds: Number(given.rounds),
        seconds: Number(given.seconds),
        growthMax: Number(values['growth-max']),
        full: values.full,
        json: path.resolve(values.json),
        cores: os.availableParallelism(),
        connections: values.quick ? [1, 64] : undefined,
    };
    if (!(options.rounds >= 1 && options.seconds > 0 && options.growthMax >= 1))
        throw new Error('--rounds, --seconds and --growth-max want a number above 0');
    const unknown = positionals.find((name) => !NAMES.includes(name));
    if (unknown || positionals.length === 0)
        throw new Error(`${unknown ?? 'nothing'} is no part; there are: ${NAMES.join(', ')}`);
    return { options, names: positionals };
}

/**
 * The file for all figures: opened before anything is measured, so that minutes aren't lost for a typing
 * error. What is in it stays until write.
 */
function openResults(file) {
    const isNew = !fs.existsSync(file);
    const fd = fs.openSync(file, fs.constants.O_WRONLY | fs.constants.O_CREAT, 0o644);
    let written = false;

    process.on('exit', () => {
        if (isNew && !written) fs.rmSync(file, { force: true });
    });
    return (text) => {
        if (fs.fstatSync(fd).isFile()) fs.ftruncateSync(fd, 0);
        fs.writeFileSync(fd, text);
        fs.closeSync(fd);
        written = true;
    };
}

/** Instructions and allocations an event, as scripts/bench guard has counted and CI holds them. */
function fromGuard() {
    const file = path.join(import.meta.dirname, 'guard.json');
    const mine = JSON.parse(fs.readFileSync(file, 'utf8'))[os.arch()];
    return mine && { from: 'tests/bench/guard.json', ...mine };
}

const facts = (options) => ({
    date: new Date().toISOString(),
    cpu: os.cpus()[0].model.trim(),
    cores: options.cores,
    kernel: os.release(),
    node: process.version,
    load_before: os.loadavg()[0].toFixed(2),
    rounds: options.rounds,
    seconds: options.seconds,
    guard: fromGuard(),
    binary_bytes: fs.statSync(path.join(release, 'authkitd')).size,
});

async function main() {
    const { options, names } = readArguments();
    fs.mkdirSync(folder, { recursive: true });
    const writeResults = openResults(options.json);
    const about = facts(options);
    const records = [];

    if (names.some((name) => WITH_PEERS.includes(name)))
        for (const key of Object.keys(servers))
            if (!available().includes(key)) console.error(`${servers[key].title}: not here, left out`);
    for (const name of names) records.push(...(await parts[name](options)));
    if (records.length === 0) throw new Error('nothing was measured');
    const summary = summarize(records);

    console.log('');
    printReport(summary, about);
    writeResults(`${JSON.stringify({ ...about, summary, records }, null, 1)}\n`);
    console.log(`\nAll figures: ${options.json}`);
    if (records.some((record) => record.wrong > 0)) throw new Error('there were wrong answers');
}

main().then(
    () => process.exit(0),
    (error) => {
        console.error(`bench: ${error.message}`);
        process.exit(1);
    },
);
