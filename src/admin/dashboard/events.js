// SPDX-License-Identifier: MIT
// Events: the feed as they come, what has failed, and one with all that is known of it.

import { get, isAbsent, path, post, query } from './api.js';
import {
    action,
    bytes,
    code,
    duration,
    el,
    empty,
    facts,
    isolated,
    number,
    pill,
    renew,
    say,
    syncList,
    time,
} from './dom.js';

const TYPES = [
    'user.created',
    'user.updated',
    'user.deleted',
    'user.*',
    'session.created',
    'session.*',
    'organization.created',
    'organization.*',
    'organization_membership.created',
    'organization_membership.*',
    'invitation.*',
    'authentication.*',
];

export async function retry(body) {
    try {
        const { put_back, problems } = await post('/retry', body);
        if (problems) say(problems.trim(), true);
        else
            say(
                put_back === 0
                    ? 'There was nothing to retry.'
                    : `Put back to work: ${number(put_back)} event${put_back === 1 ? '' : 's'}.`,
            );
    } catch (error) {
        say(`Not put back: ${error.message}`, true);
    }
}

const canRetry = ({ status, is_erased }) =>
    status === 'failed' || (status === 'dead' && !is_erased);
const firstLine = (text) => text.split('\n', 1)[0];

/** user: whose events they all are, so that it needn't be said. */
function rowOf(event, { user, withRetry, refresh }) {
    const about = [event.user_id, event.object_id].find((id) => id && id !== user);
    return el(
        'li',
        { class: `row event ${event.status}` },
        el(
            'a',
            { href: path`#/events/${event.id}` },
            pill(event.status),
            el('span', { class: 'type' }, isolated(event.type)),
            el('span', { class: 'about faint' }, about ? isolated(about) : ''),
            el('span', { class: 'when' }, time(event.received_at)),
            event.error && el('span', { class: 'error-line' }, isolated(firstLine(event.error))),
        ),
        withRetry &&
            canRetry(event) &&
            action(
                'Retry',
                async () => {
                    await retry({ ids: [event.id] });
                    await refresh();
                },
                { 'aria-label': `Retry ${event.type} ${event.id}` },
            ),
    );
}

/**
 * A list of events that keeps itself up to date at its top and grows at its bottom when asked to.
 * nothing(): what stands there when there is none.
 */
export function eventList({ status, type, user }, { nothing, withRetry = false }) {
    const list = el('ul', { class: 'rows', 'aria-label': 'Events' });
    const foot = el('div', { class: 'foot' });
    const note = el('div');
    const node = el('div', null, note, list, foot);
    let events = []; // the newest first
    let next = null; // where the list ends, or null: it has all of them
    let last = 0; // up to where it is complete
    let pages = 1; // so many are shown

    const ask = (after) => get(`/api/events${query({ status, type, user, after })}`);

    function show() {
        syncList(
            list,
            events,
            ({ seq }) => seq,
            (event) => rowOf(event, { user, withRetry, refresh }),
        );
        renew(note, [events.length > 0, next !== null], ([any, more]) =>
            any
                ? null
                : more
                  ? el('p', { class: 'faint' }, 'None among the latest events.')
                  : nothing(),
        );
        renew(
            foot,
            next !== null,
            (more) =>
                more && action(events.length ? 'Show more' : 'Look further back', lookFurther),
        );
    }

    /** What the top page is of is as it says; what lies behind stays, unless there would be a gap. */
    function merge(page) {
        const from = page.next ?? 0;
        const hasGap = from > last + 1;
        if (hasGap || from <= (next ?? 0)) {
            events = page.events;
            next = page.next;
            pages = 1;
        } else {
            events = [...page.events, ...events.filter(({ seq }) => seq < from)];
        }
        last = page.last_seq;
    }

    /** Events leave a status wherever in the list they are, so all that is shown is asked for. */
    async function readAgain() {
        const wanted = pages;
        let page = await ask();
        const read = [...page.events];
        for (let i = 1; i < wanted && page.next !== null; i++) {
            page = await ask(page.next);
            read.push(...page.events);
        }
        if (pages !== wanted) return; // somebody has looked further meanwhile
        events = read;
        next = page.next;
    }

    async function refresh() {
        if (status && status !== 'done') await readAgain();
        else merge(await ask());
        show();
    }

    async function lookFurther() {
        try {
            for (let asked = 0; asked < 10 && next !== null; asked++) {
                const after = next;
                const page = await ask(after);
                if (next !== after) continue; // the list ends elsewhere meanwhile
                events = [...events, ...page.events];
                next = page.next;
                pages++;
                if (page.events.length > 0) break;
            }
        } catch (error) {
            say(error.message, true);
        }
        show();
    }

    return { node, refresh };
}

// ---- the feed ----

export function eventsView({ status, type }) {
    const choose = (changes) => {
        location.hash = `#/events${query({ status, type, ...changes })}`;
    };
    const list = eventList(
        { status, type },
        {
            nothing: () =>
                status || type
                    ? empty(
                          'No event is like that.',
                          'A type may end with a star: `user.*` is every event of users.',
                      )
                    : empty(
                          'Nothing has arrived yet.',
                          'Send a sample: `authkitd send user.created`. Or tell WorkOS where this server is: `authkitd setup https://your.host`.',
                      ),
        },
    );
    const statusBox = el(
        'select',
        { id: 'status', onchange: (event) => choose({ status: event.target.value }) },
        ['', 'done', 'failed', 'waiting', 'dead', 'expected'].map((one) =>
            el('option', { value: one, selected: one === (status ?? '') }, one || 'any'),
        ),
    );
    const typeBox = el('input', {
        id: 'type',
        type: 'search',
        list: 'types',
        placeholder: 'any, or user.*',
        value: type ?? '',
        spellcheck: 'false',
        autocapitalize: 'off',
    });
    const form = el(
        'form',
        {
            class: 'filters',
            role: 'search',
            onsubmit: (event) => {
                event.preventDefault();
                choose({ type: typeBox.value.trim() });
            },
        },
        el('label', null, 'Status ', statusBox),
        el('label', null, 'Type ', typeBox),
        el(
            'datalist',
            { id: 'types' },
            TYPES.map((one) => el('option', { value: one })),
        ),
        el('button', null, 'Show'),
    );
    typeBox.addEventListener('change', () => form.requestSubmit());
    return {
        title: 'Events',
        node: el('div', null, el('h1', { tabindex: -1 }, 'Events'), form, list.node),
        refresh: list.refresh,
    };
}

// ---- problems ----

const EXPLAINED = {
    failed: 'Their function raised an error. They run again by themselves, less and less often, and at once when a new script is loaded.',
    dead: 'They failed too often, or took the process down. They run again when you retry them.',
    waiting:
        'They stand behind an earlier event of the same object, which has failed: they run when that one is done.',
};
const NOTHING = {
    failed: () => empty('Nothing has failed.', 'Everything that arrived has run, or is about to.'),
    dead: () => empty('Nothing is dead.', 'An event is given up after 20 attempts; there is none.'),
    waiting: () => empty('Nothing waits.', 'No event stands behind one that failed.'),
};

/** Asks once more, in its own place. */
function retryAll(refresh) {
    const holder = el('span', { class: 'confirm' });
    const start = action('Retry all …', () => {
        holder.replaceChildren(
            'Run every failed and dead event again? ',
            action(
                'Retry all',
                async () => {
                    await retry({ all: true });
                    holder.replaceChildren(start);
                    start.focus();
                    await refresh();
                },
                { class: 'primary' },
            ),
            ' ',
            action('Cancel', () => {
                holder.replaceChildren(start);
                start.focus();
            }),
        );
        holder.querySelector('button').focus();
    });
    holder.append(start);
    return holder;
}

export function problemsView({ status = 'failed' }, shared) {
    if (!EXPLAINED[status]) status = 'failed';
    const list = eventList({ status }, { withRetry: true, nothing: NOTHING[status] });
    const tabs = el('nav', { class: 'tabs', 'aria-label': 'Kinds of problems' });
    return {
        title: 'Problems',
        node: el(
            'div',
            null,
            el(
                'div',
                { class: 'heading' },
                el('h1', { tabindex: -1 }, 'Problems'),
                retryAll(list.refresh),
            ),
            tabs,
            el('p', { class: 'faint' }, EXPLAINED[status]),
            list.node,
        ),
        async refresh() {
            await list.refresh();
            renew(tabs, shared.overview?.events, (counts) =>
                Object.keys(EXPLAINED).map((one) =>
                    el(
                        'a',
                        {
                            href: `#/problems?status=${one}`,
                            'aria-current': one === status ? 'page' : null,
                        },
                        one[0].toUpperCase() + one.slice(1),
                        counts && el('span', { class: 'count' }, number(counts[one])),
                    ),
                ),
            );
        },
    };
}

// ---- one event ----

/** JSON with line ends and indents. Only white space changes: numbers and texts stay as they came. */
export function indent(json) {
    const out = [];
    let depth = 0;
    const line = () => out.push(`\n${'  '.repeat(depth)}`);
    for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/gs)) {
        if (token === '}' || token === ']') {
            depth--;
            if (out.at(-1) !== '{' && out.at(-1) !== '[') line();
            out.push(token);
        } else if (token === '{' || token === '[') {
            if (out.at(-1) === '{' || out.at(-1) === '[') line();
            out.push(token);
            depth++;
        } else if (token === ',') {
            out.push(token);
            line();
        } else if (token === ':') {
            out.push(': ');
        } else {
            if (out.at(-1) === '{' || out.at(-1) === '[') line();
            out.push(token);
        }
    }
    return out.join('');
}

function payloadOf(event) {
    if (event.payload === null)
        return el(
            'p',
            { class: 'faint' },
            'It is not kept any more: its user was deleted, or it is older than --retention.',
        );
    const isWhole = event.payload_bytes <= new TextEncoder().encode(event.payload).length;
    return [
        code(isWhole ? indent(event.payload) : event.payload, { 'aria-label': 'Payload' }),
        isWhole
            ? null
            : el(
                  'p',
                  { class: 'faint' },
                  `It has ${bytes(event.payload_bytes)}; this is how it begins. All of it: authkitd events --json.`,
              ),
    ];
}

const isToRun = ({ status, next_attempt_at }) => next_attempt_at || status === 'dead';

/** now: the server's, whose clock the time is by. */
function showNextTry(cell, { next_attempt_at, is_erased }, now) {
    if (is_erased) return renew(cell, 'erased', () => 'never: its user was deleted');
    if (!next_attempt_at) return renew(cell, null, () => 'when you retry it');
    const ms = next_attempt_at - now;
    const wait = ms > 0 ? ` (in ${duration(ms)})` : ' (due now)';
    renew(cell, [next_attempt_at, wait], () => [time(next_attempt_at), wait]);
}

/** nextTry: the cell for it, which showNextTry fills. */
const whole = (event, nextTry, refresh) => [
    el(
        'div',
        { class: 'heading' },
        el('h1', { tabindex: -1 }, isolated(event.type)),
        pill(event.status),
        canRetry(event) &&
            action(
                'Retry',
                async () => {
                    await retry({ ids: [event.id] });
                    await refresh();
                },
                { class: 'primary' },
            ),
    ),
    facts([
        ['Id', isolated(event.id, { class: 'mono' })],
        ['Object', event.object_id && isolated(event.object_id, { class: 'mono' })],
        [
            'User',
            event.user_id &&
                el(
                    'a',
                    { href: path`#/users/${event.user_id}`, class: 'mono' },
                    isolated(event.user_id),
                ),
        ],
        ['Created', time(event.created_at)],
        ['Received', time(event.received_at)],
        ['Attempts', number(event.attempts)],
        ['Next attempt', isToRun(event) ? nextTry : null],
    ]),
    event.error &&
        el(
            'section',
            null,
            el('h2', null, 'Error'),
            code(event.error, { class: 'error', 'aria-label': 'Error and traceback' }),
        ),
    el('section', null, el('h2', null, 'Payload'), payloadOf(event)),
];

export function eventView({ id }, shared) {
    const body = el('div', null, el('h1', { tabindex: -1 }, 'Event'));
    const node = el(
        'div',
        null,
        el('p', { class: 'back' }, el('a', { href: '#/events' }, '← Events')),
        body,
    );
    const nextTry = el('span');
    async function refresh() {
        try {
            const { event } = await get(path`/api/events/${id}`);
            renew(body, event, () => whole(event, nextTry, refresh));
            showNextTry(nextTry, event, shared.overview.now);
        } catch (error) {
            if (!isAbsent(error)) throw error;
            renew(body, error.message, (message) => empty('There is no such event.', message));
        }
    }
    return { title: 'Event', section: 'events', node, refresh };
}
