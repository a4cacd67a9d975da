// SPDX-License-Identifier: MIT
// The page: which section is shown, and that it stays up to date while somebody looks.

import { get, getText, post, Refused, Unreachable } from './api.js';
import { configurationView } from './configuration.js';
import { el, empty, number } from './dom.js';
import { eventsView, eventView, problemsView } from './events.js';
import { addSample } from './metrics.js';
import { overviewView } from './overview.js';
import { scriptView } from './script.js';
import { usersView, userView } from './users.js';

const EVERY_MS = 2000;

const views = {
    '': overviewView,
    users: usersView,
    events: eventsView,
    problems: problemsView,
    script: scriptView,
    configuration: configurationView,
};
const ones = { users: userView, events: eventView }; // with an id

const main = document.getElementById('main');
const banner = document.getElementById('banner');
const live = document.getElementById('live');
const shared = { overview: null }; // what every section may look at
let view = null;
let refreshedAt = 0;
let isLive = true;
let timer;

// ---- where we are ----

/** "#/users/user_1?search=x" */
function readAddress() {
    const [way, parameters = ''] = location.hash.replace(/^#\/?/, '').split('?', 2);
    const [section, ...rest] = way.split('/');
    let id = rest.join('/');
    try {
        id = decodeURIComponent(id);
    } catch {
        // then it is as it stands
    }
    return { section, id, parameters: Object.fromEntries(new URLSearchParams(parameters)) };
}

function makeView({ section, id, parameters }) {
    if (id && Object.hasOwn(ones, section)) return ones[section]({ id }, shared);
    if (!id && Object.hasOwn(views, section)) return views[section](parameters, shared);
    return {
        title: 'Not found',
        node: el(
            'div',
            null,
            el('h1', { tabindex: -1 }, 'Not found'),
            empty('There is nothing at this address.'),
        ),
        refresh: async () => {},
    };
}

function show(isFirst) {
    const address = readAddress();
    view = makeView(address);
    refreshedAt = 0;
    document.title = `${view.title} · authkitd`;
    for (const link of document.querySelectorAll('header nav a')) {
        const is = link.hash.replace(/^#\/?/, '') === (view.section ?? address.section);
        if (is) link.setAttribute('aria-current', 'page');
        else link.removeAttribute('aria-current');
        if (is) link.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    }
    main.replaceChildren(view.node);
    if (!isFirst) {
        (view.focus ?? main.querySelector('h1') ?? main).focus({ preventScroll: true });
        scrollTo(0, 0);
    }
    tick();
}

// ---- staying up to date ----

function showState() {
    const { overview } = shared;
    const count = overview.events.failed + overview.events.dead;
    const badge = document.getElementById('problem-count');
    badge.hidden = count === 0;
    badge.textContent = number(count);
    document.getElementById('version').textContent = overview.version;
    document.getElementById('sign-out').hidden = !overview.has_token;
}

function complain(error) {
    if (error instanceof Unreachable)
        banner.textContent = 'authkitd can’t be reached. Trying again …';
    else if (error instanceof Refused) banner.textContent = error.message;
    else {
        banner.textContent = 'Something in this page has failed; the browser’s console says what.';
        console.error(error);
    }
    banner.hidden = false;
}

async function refresh() {
    const shown = view;
    const [overview, text] = await Promise.all([get('/api/overview'), getText('/metrics')]);
    shared.overview = overview;
    addSample(text, overview);
    showState();
    if (Date.now() - refreshedAt >= (shown.every ?? 0)) {
        await shown.refresh();
        if (shown === view) refreshedAt = Date.now();
    }
}

let isRunning = false;

/** Now, and then every so often while the page is seen and live. */
async function tick() {
    clearTimeout(timer);
    if (isRunning) {
        timer = setTimeout(tick, 50);
        return;
    }
    isRunning = true;
    try {
        await refresh();
        banner.hidden = true;
    } catch (error) {
        complain(error);
    }
    isRunning = false;
    schedule();
}

function schedule() {
    clearTimeout(timer);
    if (isLive && !document.hidden) timer = setTimeout(tick, EVERY_MS);
}

document.addEventListener('visibilitychange', () => {
    if (document.hidden) clearTimeout(timer);
    else if (isLive) tick();
});

live.addEventListener('click', () => {
    isLive = !isLive;
    live.setAttribute('aria-pressed', String(isLive));
    document.getElementById('live-text').textContent = isLive ? 'Live' : 'Paused';
    if (isLive) tick();
    else clearTimeout(timer);
});

document.getElementById('sign-out').addEventListener('click', async () => {
    await post('/sign-out').catch(complain);
    location.reload();
});

document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    main.focus();
});

addEventListener('hashchange', () => show(false));
banner.hidden = true;
show(true);
