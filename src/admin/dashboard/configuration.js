// SPDX-License-Identifier: MIT
// What the server was started with. Secrets are only set or not set here.

import { get } from './api.js';
import { el, isolated, renew } from './dom.js';

function valueOf({ secret, set, value, default: fallback }) {
    if (secret) return el('span', { class: set ? '' : 'faint' }, set ? 'set' : 'not set');
    if (value === null) return el('span', { class: 'faint' }, 'not set');
    const isUsual = value === fallback;
    return el('span', { class: isUsual ? 'mono faint' : 'mono' }, isolated(value));
}

const row = (option) =>
    el(
        'tr',
        null,
        el(
            'th',
            { scope: 'row' },
            el('span', { class: 'mono' }, option.name),
            option.variable && option.variable !== option.name
                ? el('small', { class: 'mono faint' }, option.variable)
                : null,
        ),
        el('td', { class: 'value' }, valueOf(option)),
        el(
            'td',
            { class: 'help faint' },
            option.help,
            option.default && !option.secret ? ` [${option.default}]` : '',
        ),
    );

export function configurationView() {
    const body = el('tbody');
    return {
        title: 'Configuration',
        every: 30_000,
        node: el(
            'div',
            null,
            el('h1', { tabindex: -1 }, 'Configuration'),
            el(
                'p',
                { class: 'faint' },
                'As the server was started with it. To change it, change its options, environment or env file, and start it again.',
            ),
            el(
                'table',
                { class: 'options' },
                el(
                    'thead',
                    null,
                    el(
                        'tr',
                        null,
                        ['Option', 'Value', 'What it is'].map((name) =>
                            el('th', { scope: 'col' }, name),
                        ),
                    ),
                ),
                body,
            ),
        ),
        async refresh() {
            renew(body, await get('/api/config'), ({ options }) => options.map(row));
        },
    };
}
