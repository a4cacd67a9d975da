// SPDX-License-Identifier: MIT
// What the charts show: /metrics, looked at again and again. A metric that isn't there is no trouble:
// what needs it is null.

const WINDOW_MS = 5 * 60_000; // that much is kept
const QUANTILE_MS = 30_000; // and a quantile is one of so long

/** Prometheus's text as { name: [{ labels, value }] }. */
export function parse(text) {
    const metrics = Object.create(null);
    for (const line of text.split('\n')) {
        const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
        if (!match) continue;
        const labels = Object.create(null);
        for (const [, name, value] of (match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
            labels[name] = value;
        (metrics[match[1]] ??= []).push({
            labels,
            value: match[3] === '+Inf' ? Infinity : Number(match[3]),
        });
    }
    return metrics;
}

export const samples = []; // { at, metrics, overview }, the oldest first

export function addSample(text, overview) {
    const at = Date.now();
    samples.push({ at, metrics: parse(text), overview });
    while (samples[0].at < at - WINDOW_MS - 10_000) samples.shift();
}

/** The sum of those whose labels fit; null when there is no such metric. */
export function sum({ metrics }, name, fits = () => true) {
    const rows = metrics[name];
    return rows
        ? rows.filter(({ labels }) => fits(labels)).reduce((all, { value }) => all + value, 0)
        : null;
}

export const value = (sample, name) => sample?.metrics[name]?.[0]?.value ?? null;

/** By how much a counter grows in a second, between two samples; null when it can't be said. */
function rate(before, after, count) {
    const [a, b] = [count(before), count(after)];
    if (a === null || b === null || b < a || after.at <= before.at) return null;
    return ((b - a) * 1000) / (after.at - before.at);
}

/** [[at, rate]…] of a counter. */
export const rates = (count) =>
    samples.slice(1).map((sample, i) => [sample.at, rate(samples[i], sample, count)]);

/** [[at, value]…] of a gauge. */
export const values = (of) => samples.map((sample) => [sample.at, of(sample)]);

function buckets({ metrics }, name) {
    const rows = metrics[`${name}_bucket`];
    if (!rows) return null;
    const counts = new Map();
    for (const { labels, value } of rows) {
        const le = labels.le === '+Inf' ? Infinity : Number(labels.le);
        counts.set(le, (counts.get(le) ?? 0) + value);
    }
    return [...counts].sort(([a], [b]) => a - b);
}

/** The quantile of what a histogram got between two samples, in its unit; null when that was nothing. */
function quantileBetween(before, after, name, q) {
    const [a, b] = [buckets(before, name), buckets(after, name)];
    if (!a || !b || a.length !== b.length) return null;
    const grown = b.map(([le, count], i) => [le, count - a[i][1]]);
    const total = grown.at(-1)?.[1] ?? 0;
    if (!(total > 0)) return null;
    const rank = q * total;
    let [low, below] = [0, 0];
    for (const [le, count] of grown) {
        if (count >= rank) {
            if (le === Infinity) return low;
            return low + (le - low) * (count > below ? (rank - below) / (count - below) : 1);
        }
        [low, below] = [le, count];
    }
    return low;
}

/** [[at, quantile]…] of a histogram, each of the half minute before it. */
export const quantiles = (name, q) =>
    samples.map((sample, i) => {
        const before =
            samples.findLast(({ at }, j) => j < i && at <= sample.at - QUANTILE_MS) ?? samples[0];
        return [sample.at, before === sample ? null : quantileBetween(before, sample, name, q)];
    });

export const hasMetric = (name) => samples.at(-1)?.metrics[name] !== undefined;
