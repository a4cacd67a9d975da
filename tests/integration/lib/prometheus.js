// SPDX-License-Identifier: MIT
// Prometheus's text format, read strictly: what a scraper might forgive is an error here.
// https://prometheus.io/docs/instrumenting/exposition_formats/

import assert from 'node:assert/strict';

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = String.raw`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"`;
const VALUE = String.raw`[+-]Inf|NaN|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?`;
const SAMPLE = new RegExp(String.raw`^(${NAME})(?:\{(${LABEL}(?:,${LABEL})*)\})? (${VALUE})$`);

function readLabels(text) {
    const labels = {};

    for (const [, name, value] of (text ?? '').matchAll(new RegExp(LABEL, 'g'))) {
        assert.ok(!(name in labels), `the label ${name} is there twice`);
        labels[name] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    }
    return labels;
}

/** To which metric a sample belongs: that of a histogram has three names more. */
function familyOf(families, name) {
    if (families.has(name)) return families.get(name);
    const family = families.get(name.replace(/_(bucket|sum|count)$/, ''));
    return family?.type === 'histogram' ? family : undefined;
}

function checkHistogram(family) {
    const groups = new Map();

    for (const { name, labels, value } of family.samples) {
        const { le, ...others } = labels;
        const key = JSON.stringify(others);
        const group = groups.get(key) ?? { buckets: [] };
        if (name.endsWith('_bucket')) group.buckets.push([le === '+Inf' ? Infinity : Number(le), value]);
        else group[name.slice(family.name.length + 1)] = value;
        groups.set(key, group);
    }
    for (const [key, { buckets, sum, count }] of groups) {
        assert.ok(buckets.length > 1, `${family.name}${key} has buckets`);
        for (let i = 1; i < buckets.length; i++) {
            assert.ok(buckets[i - 1][0] < buckets[i][0], `${family.name}: bounds ascend`);
            assert.ok(buckets[i - 1][1] <= buckets[i][1], `${family.name}: counts don't fall`);
        }
        assert.equal(buckets.at(-1)[0], Infinity);
        assert.equal(buckets.at(-1)[1], count);
        assert.equal(typeof sum, 'number');
    }
}

/** All metrics: a Map of name -> { name, type, help, samples: [{ name, labels, value }] }. */
export function readMetrics(text) {
    const families = new Map();
    const seen = new Set();
    let current;

    assert.ok(text.endsWith('\n'), 'the last line ends, too');
    for (const line of text.slice(0, -1).split('\n')) {
        const [, keyword, name, rest] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
        if (keyword === 'HELP') {
            assert.match(name, new RegExp(`^${NAME}$`));
            assert.ok(!families.has(name), `${name} is described twice`);
            assert.doesNotMatch(rest, /\\(?![\\n])/);
            current = { name, help: rest, samples: [] };
            families.set(name, current);
        } else if (keyword === 'TYPE') {
            assert.equal(current?.name, name, 'the type follows the help');
            assert.equal(current.type, undefined);
            assert.match(rest, /^(counter|gauge|histogram)$/);
            current.type = rest;
            if (rest === 'counter') assert.match(name, /_total$/, 'a counter by its name');
        } else {
            const match = SAMPLE.exec(line);
            assert.ok(match, `not a sample: ${line}`);
            const [, sample, labelText] = match;
            const value = match.at(-1);
            const family = familyOf(families, sample);
            assert.equal(family, current, `${sample} stands with its metric`);
            assert.ok(family.type, `${sample} has a type`);
            const labels = readLabels(labelText);
            const key = sample + JSON.stringify(Object.entries(labels).sort());
            assert.ok(!seen.has(key), `${line} is there twice`);
            seen.add(key);
            family.samples.push({
                name: sample,
                labels,
                value: value === '+Inf' ? Infinity : Number(value),
            });
        }
    }
    for (const family of families.values()) {
        if (family.type === 'histogram') checkHistogram(family);
        if (family.type === 'counter')
            for (const { value } of family.samples) assert.ok(value >= 0);
    }
    return families;
}

/** What /metrics of a server says now: { text, families, value(name, labels) }. */
export async function scrape(server) {
    const answer = await fetch(`${server.adminUrl}/metrics`);
    const text = await answer.text();

    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    const families = readMetrics(text);
    return {
        text,
        families,
        /** The sum of all samples of that name that have these labels; 0 when there are none. */
        value(name, labels = {}) {
            const family = familyOf(families, name);
            assert.ok(family, `there is no metric ${name}`);
            return family.samples
                .filter(
                    (sample) =>
                        sample.name === name &&
                        Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
                )
                .reduce((sum, sample) => sum + sample.value, 0);
        },
    };
}
