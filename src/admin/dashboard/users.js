// SPDX-License-Identifier: MIT
// Users: found by the beginning of an email or id, or by external id; and one with its events.

import { get, isAbsent, path, query } from './api.js';
import { action, code, el, empty, facts, isolated, renew, say, syncList, time } from './dom.js';
import { eventList, indent } from './events.js';

/** What a person is called. WorkOS may say "" as well as null where nothing is known. */
const calledOf = ({ name, first_name, last_name, email, id }) =>
    name || [first_name, last_name].filter(Boolean).join(' ') || email || id;

function rowOf(user) {
    return el(
        'li',
        { class: 'row user' },
        el(
            'a',
            { href: path`#/users/${user.id}` },
            el('span', { class: 'name' }, isolated(calledOf(user))),
            el('span', { class: 'email faint' }, user.email ? isolated(user.email) : ''),
            el('span', { class: 'id mono faint' }, isolated(user.id)),
            el('span', { class: 'when' }, time(user.updated_at)),
        ),
    );
}

const nobody = (search) =>
    search
        ? empty(
              'Nobody was found.',
              'Search for how an email or a user id begins, or for a whole external id. Names are not searched.',
          )
        : empty(
              'There are no users yet.',
              'They come with their next event. To load those that WorkOS has already: `authkitd backfill` (it needs `WORKOS_API_KEY`).',
          );

export function usersView({ search }) {
    const list = el('ul', { class: 'rows', 'aria-label': 'Users' });
    const note = el('div');
    const foot = el('div', { class: 'foot' });
    let pages = []; // each a list of users
    let next = null;
    const ask = (after) => get(`/api/users${query({ search, after })}`);

    function show() {
        const users = [...new Map(pages.flat().map((user) => [user.id, user])).values()];
        syncList(list, users, ({ id }) => id, rowOf);
        renew(note, users.length === 0, (isEmpty) => isEmpty && nobody(search));
        renew(
            foot,
            next,
            (after) =>
                after !== null &&
                action('Show more', async () => {
                    try {
                        const page = await ask(after);
                        pages.push(page.users);
                        next = page.next;
                    } catch (error) {
                        say(error.message, true);
                    }
                    show();
                }),
        );
    }

    const box = el('input', {
        id: 'search',
        type: 'search',
        value: search ?? '',
        placeholder: 'Email, user id, external id',
        spellcheck: 'false',
        autocapitalize: 'off',
        'aria-label': 'Search users',
    });
    const form = el(
        'form',
        {
            class: 'filters',
            role: 'search',
            onsubmit: (event) => {
                event.preventDefault();
                location.hash = `#/users${query({ search: box.value.trim() })}`;
            },
        },
        box,
        el('button', null, 'Search'),
    );
    return {
        title: 'Users',
        node: el('div', null, el('h1', { tabindex: -1 }, 'Users'), form, note, list, foot),
        focus: search === undefined ? null : box,
        async refresh() {
            if (pages.length > 1) return; // who reads on is left alone
            const page = await ask();
            pages = [page.users];
            next = page.next;
            show();
        },
    };
}

const yesNo = (is) => (is === null ? null : is ? 'yes' : 'no');

function factsOf(user) {
    return facts([
        ['Id', isolated(user.id, { class: 'mono' })],
        ['Email', user.email && isolated(user.email)],
        ['Email verified', yesNo(user.email_verified)],
        ['First name', user.first_name && isolated(user.first_name)],
        ['Last name', user.last_name && isolated(user.last_name)],
        ['External id', user.external_id && isolated(user.external_id, { class: 'mono' })],
        ['Locale', user.locale && isolated(user.locale)],
        [
            'Picture',
            user.profile_picture_url && isolated(user.profile_picture_url, { class: 'mono' }),
        ],
        ['Last sign-in', user.last_sign_in_at && time(user.last_sign_in_at)],
        ['Created', time(user.created_at)],
        ['Updated', time(user.updated_at)],
    ]);
}

const hasMembers = (value) =>
    value !== null && (typeof value === 'string' || Object.keys(value).length > 0);

const membershipsOf = (memberships) =>
    memberships.length > 0 &&
    el(
        'section',
        null,
        el('h2', null, 'Organizations'),
        el(
            'ul',
            { class: 'rows' },
            memberships.map((one) =>
                el(
                    'li',
                    { class: 'row membership' },
                    el(
                        'span',
                        { class: 'name' },
                        isolated(one.organization_name ?? one.organization_id ?? '–'),
                    ),
                    el(
                        'span',
                        { class: 'faint' },
                        isolated([one.role, one.status].filter(Boolean).join(', ')),
                    ),
                    el('span', { class: 'mono faint' }, isolated(one.organization_id ?? '')),
                ),
            ),
        ),
    );

function whole(id, { user, deleted_at, memberships }) {
    if (!user)
        return [
            el('h1', { tabindex: -1, class: 'mono' }, isolated(id)),
            deleted_at
                ? el(
                      'p',
                      null,
                      'This user was deleted, ',
                      time(deleted_at),
                      '. Nothing is kept of them but the id. Only events that are failed, waiting or ',
                      'expected keep what they brought until they are done or dead.',
                  )
                : el('p', null, 'This user isn’t in the mirror. There are events of them, though.'),
        ];
    return [
        el('h1', { tabindex: -1 }, isolated(calledOf(user))),
        factsOf(user),
        hasMembers(user.metadata) &&
            el(
                'section',
                null,
                el('h2', null, 'Metadata'),
                code(
                    indent(
                        typeof user.metadata === 'string'
                            ? user.metadata
                            : JSON.stringify(user.metadata),
                    ),
                    { 'aria-label': 'Metadata' },
                ),
            ),
        membershipsOf(memberships),
    ];
}

export function userView({ id }) {
    const body = el('div', null, el('h1', { tabindex: -1 }, 'User'));
    const events = eventList(
        { user: id },
        {
            nothing: () =>
                empty(
                    'No events.',
                    'The user came with a backfill, or their events are older than what is kept.',
                ),
        },
    );
    const below = el('section', { hidden: true }, el('h2', null, 'Events'), events.node);
    return {
        title: 'User',
        section: 'users',
        node: el(
            'div',
            null,
            el('p', { class: 'back' }, el('a', { href: '#/users' }, '← Users')),
            body,
            below,
        ),
        async refresh() {
            try {
                const all = await get(path`/api/users/${id}`);
                renew(body, all, () => whole(id, all));
                below.hidden = false;
                await events.refresh();
            } catch (error) {
                if (!isAbsent(error)) throw error;
                renew(body, error.message, (message) => empty('There is no such user.', message));
            }
        },
    };
}
