// SPDX-License-Identifier: MIT
// Runs test files, some at the same time: node run.js CONCURRENCY FILE…
//
// As `node --test` does, which sorts them by name, so that a long one may be alone at the end. Here
// the longest are first.

import path from 'node:path';
import { run } from 'node:test';
import { spec as Spec } from 'node:test/reporters';

/**
 * What takes longest, those that wait for clocks among those that compute. The order is all that depends on it;
 * but limits isn't to be beside routes: the endless loops of one make the other's events wait too long.
 */
const FIRST = [
    'dashboard_page',
    'backfill_interrupted',
    'routes',
    'poll',
    'tokens',
    'example',
    'watchdog',
    'crash',
    'backup',
    'backfill',
    'maintain',
    'reload',
    'retention',
    'metrics',
    'limits',
    'life',
    'script',
    'load',
    'heal',
];

const [concurrency, ...names] = process.argv.slice(2);
const rank = (name) => {
    const i = FIRST.indexOf(path.basename(name, '.test.js'));
    return i < 0 ? FIRST.length : i;
};
const files = names
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
    .map((name) => path.resolve(name));

run({ files, concurrency: Number(concurrency) })
    .on('test:fail', () => {
        process.exitCode = 1;
    })
    .compose(new Spec())
    .pipe(process.stdout);
