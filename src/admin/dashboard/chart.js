// SPDX-License-Identifier: MIT
// A small chart of the last five minutes: lines over time, from zero.

import { el, number, svg } from './dom.js';

const [WIDTH, HEIGHT] = [300, 100];
const WINDOW_MS = 5 * 60_000;

/** A round number that is not below it. */
function ceiling(highest) {
    if (!(highest > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(highest));
    return [1, 2, 5, 10].find((n) => n * power >= highest) * power;
}

const known = (points) => points.filter(([, y]) => y !== null);
const last = (points) => points.at(-1)?.[1] ?? null;

/** The line, with a gap where nothing is known; and what lies below it. */
function paths(points, place) {
    const lines = [];
    let run = [];
    const end = () => {
        if (run.length > 0) lines.push(run);
        run = [];
    };
    for (const [x, y] of points) {
        if (y === null) end();
        else run.push(place(x, y));
    }
    end();
    const join = (line) => line.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L');
    return {
        // A single point is a line of no length, which the round ends make a dot.
        line: lines.map((line) => `M${join(line.length > 1 ? line : [line[0], line[0]])}`).join(''),
        area: lines
            .filter((line) => line.length > 1)
            .map(
                (line) =>
                    `M${line[0][0].toFixed(1)},${HEIGHT}L${join(line)}L${line.at(-1)[0].toFixed(1)},${HEIGHT}Z`,
            )
            .join(''),
    };
}

/**
 * A figure that draw(series) brings up to date; series: [{ name, points: [[at, y or null]…] }]. The
 * first one is the one that the large number is of.
 */
export function chart({ title, unit, none }) {
    const figures = el('p', { class: 'chart-now' });
    const highest = el('span', { class: 'chart-high' });
    const drawing = svg('svg', {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: 'none',
        role: 'img',
    });
    const note = el('p', { class: 'chart-note' });
    const node = el(
        'figure',
        { class: 'panel chart' },
        el('figcaption', null, title),
        figures,
        el('div', { class: 'chart-area' }, highest, drawing),
        el(
            'p',
            { class: 'chart-axis', 'aria-hidden': 'true' },
            el('span', null, '5 min ago'),
            el('span', null, 'now'),
        ),
        note,
    );
    let current = [];
    let pointed = null; // the moment that the pointer is at

    /** What the pointer shows of a series, or its newest value. */
    function valueOf({ points }) {
        if (pointed === null) return last(points);
        const there = known(points);
        if (there.length === 0) return null;
        const [at, y] = there.reduce((best, point) =>
            Math.abs(point[0] - pointed) < Math.abs(best[0] - pointed) ? point : best,
        );
        return Math.abs(at - pointed) < 15_000 ? y : null;
    }

    function showFigures() {
        figures.replaceChildren(
            ...current.map((series, i) => {
                const y = valueOf(series);
                return el(
                    'span',
                    { class: `series-${i}` },
                    el('strong', null, number(y)),
                    y === null ? '' : ` ${unit}`,
                    el('small', null, series.name),
                );
            }),
        );
    }

    function draw(series) {
        const now = Date.now();
        const ys = series.flatMap(({ points }) => known(points).map(([, y]) => y));
        const top = ceiling(Math.max(0, ...ys));
        const place = (x, y) => [
            WIDTH * (1 - (now - x) / WINDOW_MS),
            HEIGHT - (y / top) * (HEIGHT - 4) - 1,
        ];

        current = series;
        drawing.replaceChildren(
            ...(ys.length > 0 ? [0.25, 0.5, 0.75] : []).map((y) =>
                svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: HEIGHT * y, y2: HEIGHT * y }),
            ),
            ...series.flatMap(({ points }, i) => {
                const { line, area } = paths(points, place);
                return [
                    i === 0 && svg('path', { class: `area series-${i}`, d: area }),
                    svg('path', { class: `line series-${i}`, d: line }),
                ].filter(Boolean);
            }),
        );
        highest.textContent = ys.length > 0 ? `${number(top)} ${unit}` : '';
        note.textContent = ys.length > 0 ? '' : none();
        note.hidden = ys.length > 0;
        drawing.setAttribute(
            'aria-label',
            ys.length === 0
                ? `${title}: ${none()}`
                : `${title}, the last five minutes: ${series.map((one) => `${one.name} now ${number(last(one.points))} ${unit}`).join(', ')}; at most ${number(Math.max(...ys))} ${unit}`,
        );
        showFigures();
    }

    drawing.addEventListener('pointermove', (event) => {
        const box = drawing.getBoundingClientRect();
        pointed = Date.now() - WINDOW_MS * (1 - (event.clientX - box.left) / box.width);
        showFigures();
    });
    drawing.addEventListener('pointerleave', () => {
        pointed = null;
        showFigures();
    });
    return { node, draw };
}
