// SPDX-License-Identifier: MIT
// Elements, and how things are written. Names, emails and errors are strangers' text: whatever is
// shown becomes a text node or an attribute's value, and nothing is ever parsed as HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, properties, children) {
    for (const [name, value] of Object.entries(properties ?? {})) {
        if (value === undefined || value === null || value === false) continue;
        if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
        else node.setAttribute(name, value === true ? '' : value);
    }
    node.append(
        ...children
            .flat()
            .filter((child) => child !== null && child !== undefined && child !== false),
    );
    return node;
}

/** el('a', { href, onclick }, 'text', node, [more]) */
export const el = (tag, properties, ...children) =>
    fill(document.createElement(tag), properties, children);

export const svg = (tag, properties, ...children) =>
    fill(document.createElementNS(SVG, tag), properties, children);

const TURNING = /[\u202A-\u202E\u2066-\u2069]/g;
const escaped = (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, '0')}`;

/** Characters that turn text round are shown as what they are: a stranger could make one text look like another. */
export const plain = (text) => text.replace(TURNING, escaped);

/** A text with a writing direction of its own, so that one that runs the other way leaves alone what is beside it. */
export const isolated = (text, properties) => el('bdi', properties, plain(text));

/** A longer text, as it is written. */
export const code = (text, properties) =>
    el('pre', { tabindex: 0, dir: 'ltr', ...properties }, plain(text));

const labelOf = (node) => node.getAttribute('aria-label') ?? node.textContent;

/** Change what is in the node. Focus that was on what has gone comes to what is called so now, or to the heading. */
function keepFocus(node, change) {
    const focused = node.contains(document.activeElement) ? document.activeElement : null;
    change();
    if (!focused || focused.isConnected) return;
    const successor = [...node.querySelectorAll(focused.tagName)].find(
        (one) => labelOf(one) === labelOf(focused),
    );
    (successor ?? document.querySelector('main h1'))?.focus({ preventScroll: true });
}

/** Bring a list to the items, and touch only what has changed: focus and selection stay. */
export const syncList = (list, items, keyOf, make) =>
    keepFocus(list, () => bring(list, items, keyOf, make));

function bring(list, items, keyOf, make) {
    const known = (list.known ??= new Map());
    const wanted = new Set(items.map(keyOf));
    const isFirst = known.size === 0;
    for (const [key, { node }] of known) {
        if (wanted.has(key)) continue;
        node.remove();
        known.delete(key);
    }
    let before = null;
    for (const item of items) {
        const key = keyOf(item);
        const json = JSON.stringify(item);
        let entry = known.get(key);
        if (entry?.json !== json) {
            const node = make(item);
            if (!entry && !isFirst) node.classList.add('fresh');
            entry?.node.replaceWith(node);
            entry = { node, json };
            known.set(key, entry);
        }
        const place = before ? before.nextSibling : list.firstChild;
        if (place !== entry.node) list.insertBefore(entry.node, place);
        before = entry.node;
    }
}

/** Replace what is in the node, unless it is made of the same data as last time. */
export function renew(node, data, make) {
    const json = JSON.stringify(data);
    if (node.json === json) return;
    node.json = json;
    keepFocus(node, () => node.replaceChildren(...[make(data)].flat().filter(Boolean)));
}

// ---- times and numbers ----

const sameDay = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const otherDay = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

const toDate = (when) => {
    const date = new Date(when);
    return Number.isNaN(date.getTime()) ? null : date;
};

/** Local time; the exact one, in UTC, is its title. when: ms, or as WorkOS writes it. */
export function time(when, { isLong = false } = {}) {
    const date = when ? toDate(when) : null;
    if (!date) return el('span', { class: 'faint' }, when ? String(when) : '–');
    const isToday = date.toDateString() === new Date().toDateString();
    const text = (isLong ? full : isToday ? sameDay : otherDay).format(date);
    return el('time', { datetime: date.toISOString(), title: date.toISOString() }, text);
}

export function duration(ms) {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    const days = Math.floor(s / 86400);
    return `${days} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function number(value) {
    if (value === null || value === undefined) return '–';
    if (value !== 0 && Math.abs(value) < 10) return String(Number(value.toPrecision(2)));
    return Math.round(value).toLocaleString();
}

export function bytes(value) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
    return `${unit ? value.toFixed(value < 10 ? 1 : 0) : value} ${units[unit]}`;
}

// ---- pieces that several sections have ----

export const pill = (status) => el('span', { class: `pill ${status}` }, status);

/** Why there is nothing, and what to do next. Texts in `backticks` are code. */
export const empty = (title, ...paragraphs) =>
    el(
        'div',
        { class: 'empty' },
        el('p', { class: 'empty-title' }, title),
        paragraphs.map((text) => el('p', null, withCode(text))),
    );

const withCode = (text) =>
    text.split('`').map((part, i) => (i % 2 ? el('code', null, part) : part));

/** [[name, value]…]; those without a value are left out. */
export const facts = (rows) =>
    el(
        'dl',
        { class: 'facts' },
        rows
            .filter(([, value]) => value !== null && value !== undefined && value !== '')
            .map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value))),
    );

/** A button that can't be pressed again while it works. It isn't `disabled`: that would take the focus away. */
export function action(text, work, properties) {
    const button = el('button', { type: 'button', ...properties }, text);
    button.addEventListener('click', async () => {
        if (button.hasAttribute('aria-disabled')) return;
        button.setAttribute('aria-disabled', 'true');
        try {
            await work(button);
        } finally {
            button.removeAttribute('aria-disabled');
        }
    });
    return button;
}

/** Tell everybody, those who listen too. */
export function say(text, isBad = false) {
    const said = document.getElementById('said');
    said.replaceChildren(el('p', { class: isBad ? 'bad' : '' }, text));
    clearTimeout(say.timer);
    say.timer = setTimeout(() => said.replaceChildren(), 8000);
}
