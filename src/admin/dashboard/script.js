// SPDX-License-Identifier: MIT
// The script that runs: its functions, and how the last load went.

import { get, post, query } from './api.js';
import { action, code, el, empty, facts, isolated, renew, say, time } from './dom.js';

async function reload() {
    try {
        await post('/reload');
        say('The script was loaded.');
    } catch (error) {
        say(
            error.status === 422
                ? 'The script was refused; the old one goes on.'
                : `Not loaded: ${error.message}`,
            true,
        );
    }
}

const names = (title, list, none, link) =>
    el(
        'section',
        { class: 'panel' },
        el('h2', null, title, el('span', { class: 'count' }, String(list.length))),
        list.length > 0
            ? el(
                  'ul',
                  { class: 'names mono' },
                  list.map((name) =>
                      el(
                          'li',
                          null,
                          link ? el('a', { href: link(name) }, isolated(name)) : isolated(name),
                      ),
                  ),
              )
            : el('p', { class: 'faint' }, none),
    );

function outcome({ last_load: { outcome: how, text } }) {
    if (how === 'refused')
        return el(
            'section',
            { class: 'notice bad' },
            el('h2', null, 'The last load was refused'),
            el('p', null, 'The script from before goes on. What is wrong:'),
            code(text, { class: 'error', 'aria-label': 'What is wrong' }),
        );
    return text
        ? el(
              'section',
              null,
              el('h2', null, 'What the last load changed'),
              code(text, { 'aria-label': 'Changes' }),
          )
        : null;
}

const whole = (script) => [
    script.changed_on_disk &&
        el(
            'p',
            { class: 'notice' },
            'The file was changed after the last load. Reload to have it run.',
        ),
    outcome(script),
    facts([
        ['File', isolated(script.file, { class: 'mono' })],
        ['Runs since', time(script.loaded_at)],
        ['Last load', [time(script.last_load.at), `, ${script.last_load.outcome}`]],
    ]),
    script.events.length + script.actions.length + script.routes.length === 0 &&
        empty(
            'The script has no functions.',
            'Users are mirrored all the same. Add one: `authkit.events { ["user.created"] = function(ctx, event) … end }`, then reload.',
        ),
    el(
        'div',
        { class: 'columns' },
        names('Event functions', script.events, 'None.', (type) => `#/events${query({ type })}`),
        names('Action functions', script.actions, 'None: WorkOS’s actions are answered with 404.'),
        names('Routes', script.routes, 'None.'),
    ),
];

export function scriptView() {
    const body = el('div');
    const refresh = async () => renew(body, await get('/api/script'), whole);
    return {
        title: 'Script',
        node: el(
            'div',
            null,
            el(
                'div',
                { class: 'heading' },
                el('h1', { tabindex: -1 }, 'Script'),
                action(
                    'Reload',
                    async () => {
                        await reload();
                        await refresh();
                    },
                    { class: 'primary' },
                ),
            ),
            body,
        ),
        refresh,
    };
}
