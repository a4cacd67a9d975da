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

function readArguments() {
    const { values, positionals } = parseArgs({
        allowPositionals: true,
        options: {
            rounds: { type: 'string', default: '3' },
            seconds: { type: 'string', default: '2' },
            quick: { type: 'boolean', default: false },
            full: { type: 'boolean', default: false },
            'growth-max': { type: 'string', default: '100000' },
            json: { type: 'string', default: path.join(folder, 'results.json') },
        },
    });
    const options = {
        rounds: Number(values.rounds),
        seconds: Number(values.seconds),
        growthMax: Number(values['growth-max']),
        full: values.full,
        json: values.json,
        cores: os.availableParallelism(),
    };
    if (values.quick) Object.assign(options, { rounds: 1, seconds: 0.7, connections: [1, 64] });
    if (!(options.rounds >= 1 && options.seconds > 0 && options.growthMax >= 1))
        throw new Error('--rounds, --seconds and --growth-max want a number above 0');
    const unknown = positionals.find((name) => !NAMES.includes(name));
    if (unknown || positionals.length === 0)
        throw new Error(`${unknown ?? 'nothing'} is no part; there are: ${NAMES.join(', ')}`);
    return { options, names: positionals };
}

/** Instructions and allocations an event, as scripts/bench guard has counted and CI holds them. */
function counted() {
    const file = path.join(import.meta.dirname, 'guard.json');
    return JSON.parse(fs.readFileSync(file, 'utf8'))[os.arch()]?.parts;
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
    counted: counted(),
    binary_bytes: fs.statSync(path.join(release, 'authkitd')).size,
});

async function main() {
    const { options, names } = readArguments();
    const about = facts(options);
    const records = [];

    fs.mkdirSync(folder, { recursive: true });
    for (const key of Object.keys(servers))
        if (!available().includes(key)) console.error(`${servers[key].title}: not here, left out`);
    for (const name of names) records.push(...(await parts[name](options)));
    const summary = summarize(records);

    fs.writeFileSync(options.json, `${JSON.stringify({ ...about, summary, records }, null, 1)}\n`);
    fs.rmSync(path.join(folder, 'run'), { recursive: true, force: true });
    console.log('');
    printReport(summary, about);
    console.log(`\nAll figures: ${path.relative(process.cwd(), options.json)}`);
    if (records.some((record) => record.wrong > 0)) throw new Error('there were wrong answers');
}

main().then(
    () => process.exit(0),
    (error) => {
        console.error(`bench: ${error.message}`);
        process.exit(1);
    },
);
