// SPDX-License-Identifier: MIT
// Whether an event still costs what guard.json says: instructions, counted by callgrind, and blocks of
// memory, counted by bench_guard itself. No clock has a part in it, so it holds on a busy machine, too.
//
// usage: node tests/bench/guard.js [--update]        (scripts/bench guard does that)

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const program = path.join(root, 'build/release/bench_guard');
const file = path.join(import.meta.dirname, 'guard.json');
const MARGIN_PERCENT = 3; // two runs differ by 2 % at most
// With another compiler or libraries than the numbers were made with, much else has moved: then only what
// is grossly dearer is an error.
const FOREIGN_MARGIN_PERCENT = 15;

// Libraries choose their code by the processor; here all take the plainest, so that every machine
// counts the same.
const PLAIN = {
    OPENSSL_ia32cap: '0x6000000:0x0',
    GLIBC_TUNABLES:
        'glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-ERMS,-FSRM,-SSE4_2,-SSE4_1,' +
        '-SSSE3,-BMI1,-BMI2,-LZCNT,-MOVBE,-RTM,-AVX_Fast_Unaligned_Load',
};

const firstLine = (command, ...args) => {
    try {
        return execFileSync(command, args, { stdio: ['ignore', 'pipe', 'ignore'] })
            .toString()
            .split('\n')[0];
    } catch {
        return 'unknown';
    }
};

/** What else moves the numbers: told beside them, so that a difference is no riddle. */
const madeWith = () => ({
    compiler: firstLine('cc', '--version'),
    sqlite: firstLine('pkg-config', '--modversion', 'sqlite3'),
    openssl: firstLine('pkg-config', '--modversion', 'libcrypto'),
    lua: firstLine('pkg-config', '--modversion', 'lua5.4'),
    glibc: firstLine('getconf', 'GNU_LIBC_VERSION'),
});

/** { part: { instructions, allocations } }, each for one event. */
function count() {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'authkitd-guard-'));
    const out = path.join(folder, 'callgrind');
    const parts = {};

    try {
        const printed = execFileSync(
            'valgrind',
            [
                ...['-q', '--tool=callgrind', `--callgrind-out-file=${out}`],
                ...[program, folder, path.join(import.meta.dirname, 'handlers.lua')],
            ],
            { env: { PATH: process.env.PATH, ...PLAIN }, stdio: ['ignore', 'pipe', 'inherit'] },
        ).toString();
        // The nth dump is of the nth part; its "totals" line has the instructions.
        printed
            .trim()
            .split('\n')
            .forEach((line, i) => {
                const [name, events, allocations] = line.split(' ');
                const dump = fs.readFileSync(`${out}.${i + 1}`, 'utf8');
                if (!dump.includes(`Client Request: ${name}\n`))
                    throw new Error(`callgrind's dump ${i + 1} isn't of "${name}"`);
                const total = Number(/^totals: (\d+)/m.exec(dump)[1]);
                parts[name] = {
                    instructions: Math.round(total / events),
                    allocations: Number((allocations / events).toFixed(1)),
                };
            });
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
    return parts;
}

const percent = (now, then) => ((now - then) / then) * 100;
const signed = (number) => `${number >= 0 ? '+' : ''}${number.toFixed(1)} %`;

function compare(counted, expected, margin) {
    const moved = [];
    for (const part of new Set([...Object.keys(counted), ...Object.keys(expected)])) {
        for (const unit of ['instructions', 'allocations']) {
            const now = counted[part]?.[unit];
            const then = expected[part]?.[unit];
            const change = now !== undefined && then !== undefined ? percent(now, then) : NaN;
            // A part that has no number yet has nothing to hold: --update gives it one.
            const holds =
                then === undefined || Math.abs(change) <= margin || Math.abs(now - then) < 1;
            console.log(
                `${holds ? '  ' : '! '}${part.padEnd(10)} ${unit.padEnd(13)}` +
                    `${String(now ?? 'gone').padStart(9)}   was ${String(then ?? 'not there').padStart(9)}` +
                    (Number.isNaN(change) ? '' : `   ${signed(change)}`),
            );
            if (!holds) moved.push(`${part}: ${unit}`);
        }
    }
    return moved;
}

const othersOf = (made, now) => Object.keys(now).filter((name) => now[name] !== made?.[name]);

function explain(moved, margin) {
    console.error(`
What an event costs has moved by more than ${margin} %: ${moved.join('; ')}.
If that isn't meant, callgrind says where it comes from:
    valgrind --tool=callgrind build/release/bench_guard FOLDER tests/bench/handlers.lua
If it is meant (or better than before), write it down, and say in the commit why:
    scripts/bench guard --update`);
}

function main() {
    const all = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
    const arch = os.arch();
    const now = madeWith();

    if (!process.argv.includes('--update') && !all[arch]) {
        console.log(`guard.json has no numbers for ${arch}: nothing to compare with`);
        return 0;
    }
    const made = all[arch]?.made_with;
    const others = othersOf(made, now);
    const margin = others.length === 0 ? MARGIN_PERCENT : FOREIGN_MARGIN_PERCENT;
    const counted = count();
    const moved = compare(counted, all[arch]?.parts ?? {}, margin);
    for (const name of others)
        console.log(`Note: ${name} is "${now[name]}" here; it was "${made?.[name]}".`);
    if (process.argv.includes('--update')) {
        all[arch] = { made_with: now, parts: counted };
        fs.writeFileSync(file, `${JSON.stringify(all, null, 4)}\n`);
        console.log(`written to ${path.relative(process.cwd(), file)}`);
        return 0;
    }
    if (moved.length > 0) explain(moved, margin);
    return moved.length > 0 ? 1 : 0;
}

process.exitCode = main();
