// SPDX-License-Identifier: MIT
// Whether an event still costs what guard.json says: instructions, counted by callgrind, and blocks of
// memory, counted by bench_guard itself. No clock has a part in it, so it holds on a busy machine, too.
//
// usage: node tests/bench/guard.js [--update] [--keep FOLDER]        (scripts/bench guard does that)

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

const root = path.resolve(import.meta.dirname, '../..');
const program = path.join(root, 'build/release/bench_guard');
const file = path.join(import.meta.dirname, 'guard.json');
const MARGIN_PERCENT = 3; // two runs differ by 1 % at most
// With another compiler or libraries than the numbers were made with, many instructions have moved: then only
// what is grossly dearer is an error. Allocations are as many as ever.
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

/** Major and minor: what a security update brings leaves the numbers as they are. */
const lineage = (version) =>
    version
        ?.replace(/\(.*\)/, '') // the distribution's own number of its package of the compiler
        .replace(/(\d+\.\d+).*/, '$1');

const othersOf = (made, now) =>
    Object.keys(now).filter((name) => lineage(now[name]) !== lineage(made?.[name]));

function findProgram(name) {
    const found = (process.env.PATH ?? '')
        .split(':')
        .map((folder) => path.join(folder, name))
        .find((candidate) => fs.existsSync(candidate));
    if (!found) throw new Error(`${name} isn't installed; scripts/setup --tests does that`);
    return found;
}

/**
 * callgrind_annotate takes calls that were going on when a part began for costs of the caller, and would
 * show hardly anything else.
 */
const readable = (dump, total) =>
    dump
        .replace(/^(calls=0 .*\n\S+) \d+$/gm, '$1 0')
        .replace(/^summary: \d+$/m, `summary: ${total}`);

const dumpOf = (folder, part) => path.join(folder, `callgrind.${part}`);

function runProgram(folder, out) {
    try {
        return execFileSync(
            findProgram('valgrind'),
            [
                ...['-q', '--tool=callgrind', `--callgrind-out-file=${out}`],
                ...[program, folder, path.join(import.meta.dirname, 'handlers.lua')],
            ],
            // Nothing of the caller's: the more there is, the further down begins the stack, whose
            // addresses Lua takes for its hashes.
            { env: PLAIN, stdio: ['ignore', 'pipe', 'inherit'] },
        ).toString();
    } catch (error) {
        if (error.status === undefined) throw error;
        throw new Error(`bench_guard failed (${error.signal ?? `exit code ${error.status}`})`);
    }
}

const forOne = ({ events, instructions, allocations }) => ({
    instructions: Math.round(instructions / events),
    allocations: Number((allocations / events).toFixed(2)),
});

/** { part: { instructions, allocations } }, each for one event; keep: a folder for the dumps, or none. */
function count(keep) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'authkitd-guard-'));
    const out = path.join(folder, 'callgrind');
    const sums = {};

    try {
        // The nth dump is of the nth line; its "totals" line has the instructions. Of a part with several
        // dumps, alike but for the hashes of strings, the last one is kept.
        runProgram(folder, out)
            .trim()
            .split('\n')
            .forEach((line, i) => {
                const [name, events, allocations] = line.split(' ');
                const dump = fs.readFileSync(`${out}.${i + 1}`, 'utf8');
                if (!dump.includes(`Client Request: ${name}\n`))
                    throw new Error(`callgrind's dump ${i + 1} isn't of "${name}"`);
                const total = Number(/^totals: (\d+)/m.exec(dump)[1]);
                const sum = (sums[name] ??= { events: 0, instructions: 0, allocations: 0 });
                sum.events += Number(events);
                sum.instructions += total;
                sum.allocations += Number(allocations);
                if (keep) fs.writeFileSync(dumpOf(keep, name), readable(dump, total));
            });
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
    return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, forOne(sum)]));
}

const percent = (now, then) => ((now - then) / then) * 100;
const signed = (number) => `${number >= 0 ? '+' : ''}${number.toFixed(1)} %`;

/** '!': an error; '~': would be one with the compiler and libraries of the numbers; ' ': holds. */
function judge(now, then, margin) {
    if (then === undefined) return ' '; // has nothing to hold yet: --update gives it a number
    if (now === undefined) return '!';
    const change = Math.abs(percent(now, then));
    if (change > margin) return '!';
    return change > MARGIN_PERCENT ? '~' : ' ';
}

/** Prints a line for each figure; those that moved too far, as { part, unit }. */
function compare(counted, expected, margins) {
    const moved = [];
    for (const part of new Set([...Object.keys(counted), ...Object.keys(expected)])) {
        for (const unit of ['instructions', 'allocations']) {
            const now = counted[part]?.[unit];
            const then = expected[part]?.[unit];
            const mark = judge(now, then, margins[unit]);
            console.log(
                `${mark} ${part.padEnd(10)} ${unit.padEnd(13)}` +
                    `${String(now ?? 'gone').padStart(9)}   was ${String(then ?? 'not there').padStart(9)}` +
                    (now === undefined || then === undefined ? '' : `   ${signed(percent(now, then))}`),
            );
            if (mark === '!') moved.push({ part, unit });
        }
    }
    return moved;
}

/** Which margins hold, said before they are needed. */
function marginsFor(made, now) {
    const others = othersOf(made, now);
    const instructions = others.length === 0 ? MARGIN_PERCENT : FOREIGN_MARGIN_PERCENT;

    for (const name of others)
        console.log(`${name} is "${now[name]}" here; the numbers were made with "${made?.[name]}".`);
    if (others.length > 0)
        console.log(
            `So up to ${instructions} % in instructions are no error, instead of ${MARGIN_PERCENT} % ` +
                `(what is beyond those is marked with ~); in allocations it remains ${MARGIN_PERCENT} %.`,
        );
    return { instructions, allocations: MARGIN_PERCENT };
}

const quoted = (text) => (/[^\w./-]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : text);

function tellHowToRead(keep, parts) {
    console.log(`
What callgrind counted is in ${keep}; the most expensive functions of a part:`);
    for (const part of parts)
        console.log(`    callgrind_annotate --auto=no --threshold=90 ${quoted(dumpOf(keep, part))}`);
    console.log(`--tree=caller shows who calls them, of malloc, too. The same from a checkout of the commit before
shows what has changed.`);
}

function explain(moved, margins, keep) {
    const names = moved.map(({ part, unit }) => `${part}: ${unit}`).join('; ');
    console.error(`
What an event costs has moved by more than ${margins.instructions} % in instructions, or ${margins.allocations} % in allocations: ${names}.`);
    if (!keep)
        console.error(`If that isn't meant, callgrind says where it comes from; this keeps what it counted, and says how to read it:
    scripts/bench guard --keep FOLDER`);
    console.error(`If it is meant (or better than before), write it down, and say in the commit why:
    scripts/bench guard --update`);
}

function readArguments() {
    const { values } = parseArgs({
        options: { update: { type: 'boolean', default: false }, keep: { type: 'string' } },
    });
    const keep = values.keep && path.resolve(values.keep);
    if (keep) fs.mkdirSync(keep, { recursive: true });
    return { update: values.update, keep };
}

function main() {
    const { update, keep } = readArguments();
    const all = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
    const expected = all[os.arch()];
    const now = madeWith();

    if (!update && !keep && !expected) {
        console.log(`guard.json has no numbers for ${os.arch()}: nothing to compare with`);
        return 0;
    }
    const margins = marginsFor(expected?.made_with ?? now, now);
    const counted = count(keep);
    const moved = compare(counted, expected?.parts ?? {}, margins);
    if (keep) {
        const parts = new Set(moved.map(({ part }) => part).filter((part) => counted[part]));
        tellHowToRead(keep, parts.size > 0 ? parts : Object.keys(counted));
    }
    if (update) {
        all[os.arch()] = { made_with: now, parts: counted };
        fs.writeFileSync(file, `${JSON.stringify(all, null, 4)}\n`);
        console.log(`written to ${path.relative(process.cwd(), file)}`);
        return 0;
    }
    if (moved.length > 0) explain(moved, margins, keep);
    return moved.length > 0 ? 1 : 0;
}

try {
    process.exitCode = main();
} catch (error) {
    console.error(`guard: ${error.message}`);
    process.exitCode = 1;
}
