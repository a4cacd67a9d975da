// SPDX-License-Identifier: MIT
// What every test file needs: tests that cannot hang, loads that fit the build, waiting without
// sleeping blindly, and randomness that can be repeated.

import nodeTest, { after, describe as nodeDescribe } from 'node:test';

/** '' for a release build, else 'asan' or 'tsan': everything takes 5 to 20 times as long then. */
export const sanitizer = process.env.AUTHKITD_SANITIZER ?? '';

/** The size of a load: the second number under a sanitizer. */
export const load = (release, sanitized) => (sanitizer ? sanitized : release);

/** A limit in milliseconds that a slow build may take longer for. */
export const patience = (ms) => (sanitizer ? ms * 4 : ms);

const timeout = patience(60_000);

export const test = (name, fn) => nodeTest(name, { timeout }, fn);
export const describe = (name, fn) => nodeDescribe(name, { timeout: timeout * 2 }, fn);

/** For tests that wait for each other's clocks: all tests of the suite run at the same time. */
export const describeTogether = (name, fn) =>
    nodeDescribe(name, { timeout: timeout * 2, concurrency: true }, fn);

/**
 * Logic: no threads cross in it that don't in other tests, too, so that ThreadSanitizer, which makes it slow, has
 * nothing to find. AddressSanitizer sees it.
 */
export const testLogic = sanitizer === 'tsan' ? nodeTest.skip : test;
export const describeLogic = sanitizer === 'tsan' ? nodeDescribe.skip : describe;

/** What is tested is that it takes no time from others: only a build that is as fast as the users' can tell. */
export const testInRelease = sanitizer ? nodeTest.skip : test;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const endings = new WeakMap();

/**
 * Do something when the test ends, whatever comes of it. Unlike those of t.after(), all actions are
 * done also when one fails, the latest first.
 */
export function atEnd(t, action) {
    const actions = endings.get(t) ?? [];

    actions.push(action);
    if (actions.length > 1) return;
    endings.set(t, actions);
    t.after(async () => {
        const failures = [];
        for (const end of actions.reverse())
            await Promise.resolve()
                .then(end)
                .catch((error) => failures.push(error));
        if (failures.length > 0) throw failures[0];
    });
}

const children = new Set();

/** No program that a test has started outlives its test file: one that did would hang the run. */
export function adopt(child) {
    children.add(child);
    child.once('close', () => children.delete(child));
    return child;
}

const killChildren = () => children.forEach((child) => child.kill('SIGKILL'));

after(killChildren);
process.on('exit', killChildren);

/** Ask until the answer is truthy, and return it. Says what it waited for when it takes too long. */
export async function until(what, ask, ms = patience(10_000)) {
    const deadline = Date.now() + ms;
    let failure;

    for (;;) {
        try {
            const answer = await ask();
            if (answer) return answer;
            failure = undefined;
        } catch (error) {
            failure = error;
        }
        if (Date.now() > deadline)
            throw new Error(`waited ${ms} ms in vain for ${what}`, { cause: failure });
        await sleep(20);
    }
}

/** Run work(item) for every item, at most `width` at the same time; results in the items' order. */
export async function inParallel(width, items, work) {
    const results = new Array(items.length);
    let next = 0;

    async function lane() {
        while (next < items.length) {
            const i = next++;
            results[i] = await work(items[i], i);
        }
    }
    await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
    return results;
}

/**
 * Random numbers that come again with the same seed. The seed is told in the test's output; set
 * AUTHKITD_SEED to repeat a run.
 */
export function randomness(t) {
    const seed = Number(process.env.AUTHKITD_SEED ?? Math.floor(Math.random() * 2 ** 32)) >>> 0;
    let state = seed;

    t.diagnostic(`AUTHKITD_SEED=${seed}`);

    // mulberry32
    const fraction = () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let x = state;
        x = Math.imul(x ^ (x >>> 15), x | 1);
        x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
        return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
    };
    const below = (n) => Math.floor(fraction() * n);
    const shuffle = (list) => {
        const shuffled = [...list];
        for (let i = shuffled.length - 1; i > 0; i--) {
            const j = below(i + 1);
            [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
        }
        return shuffled;
    };
    return { seed, fraction, below, shuffle };
}

/** All orders of a short list. */
export function permutations(list) {
    if (list.length <= 1) return [list];
    return list.flatMap((first, i) =>
        permutations(list.filter((_, j) => j !== i)).map((rest) => [first, ...rest]),
    );
}
