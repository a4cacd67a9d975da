// SPDX-License-Identifier: MIT
// The dashboard's page, used in a browser as an operator would.

import assert from 'node:assert/strict';
import path from 'node:path';

import { sharedBrowser } from './lib/browser.js';
import { fillDatabase } from './lib/database.js';
import { atEnd, describe, patience, test, until } from './lib/harness.js';
import { newFolder, runCommand, startServer, writeFile } from './lib/server.js';
import {
    newEvent,
    newMembership,
    newOrganization,
    sessionCreated,
    userCreated,
    userUpdated,
} from './lib/workos.js';

const browser = sharedBrowser();
const TOKEN = 'a-token-that-nobody-can-guess-4f2c9';
const BROKEN = `
local authkit = require "authkit"
local function greet(user)
  return "Hello, " .. user.first_name.first
end
authkit.events {
  ["user.created"] = function(ctx, event)
    if event.data.email:find("^fail") then print(greet(event.data) .. "!") end
  end,
  ["user.updated"] = function() end,
}
authkit.actions { user_registration = function(ctx, action, response) return response.allow() end }
authkit.routes { ["GET /todos"] = function() return {} end }
`;
const MENDED = BROKEN.replace('user.first_name.first', 'user.first_name');

const HOSTILE = [
    '<img src=x onerror="alert(1)">',
    '"><script>alert(2)</script>',
    '\u202Egnp.exe',
    'שלום עולם',
    "javascript:alert('3')",
    'x'.repeat(10_240),
];

/** A page at the dashboard. Whatever a browser has to say against it, or a dialog, fails the test. */
async function open(t, server, { hash = '#/', ...options } = {}) {
    const page = await browser.newPage(t, { viewport: { width: 1200, height: 800 }, ...options });
    const requests = [];
    page.on('dialog', (dialog) => page.said.push(`a dialog: ${dialog.message()}`));
    page.on('request', (request) => requests.push(request.url()));
    atEnd(t, () => {
        assert.deepEqual(page.said, [], 'what the browser has to say');
        const elsewhere = requests.filter(
            (url) => !url.startsWith(`${server.adminUrl}/`) && url !== 'about:blank',
        );
        assert.deepEqual(elsewhere, [], 'it calls nobody else');
    });
    await page.goto(`${server.adminUrl}/${hash}`);
    return page;
}

const section = (page, name) =>
    page.getByRole('navigation', { name: 'Sections' }).getByRole('link', { name });
const heading = (page, name) => page.getByRole('heading', { level: 1, name });
const events = (page) => page.getByRole('list', { name: 'Events' }).getByRole('listitem');
const users = (page) => page.getByRole('list', { name: 'Users' }).getByRole('listitem');
const said = (page) => page.getByRole('status');

async function search(page, text) {
    await page.getByRole('searchbox').fill(text);
    await page.keyboard.press('Enter');
}

describe('the dashboard in a browser: users, events, and what strangers write', () => {
    test('sign in; find a user; see an event fail, mend the script, retry it; sign out', async (t) => {
        const server = await startServer(t, {
            handlers: BROKEN,
            env: { AUTHKITD_ADMIN_TOKEN: TOKEN },
        });
        const ada = userCreated({ email: 'ada@example.com', name: 'Ada Lovelace' });
        for (const event of [
            ada,
            userCreated({ email: 'grace@example.com', name: 'Grace Hopper' }),
            userUpdated(ada.data, { locale: 'fr-FR' }),
        ])
            await server.deliver(event);
        const page = await open(t, server, { hash: '#/users' });

        const token = page.getByLabel('Admin token');
        await token.fill('wrong');
        await page.keyboard.press('Enter');
        await page.getByText('That is not the token.').waitFor();
        assert.equal(await token.evaluate((box) => document.activeElement === box), true);
        await token.fill(TOKEN);
        await page.getByRole('button', { name: 'Sign in' }).click();
        await heading(page, 'Users').waitFor(); // where one wanted to go
        assert.equal(
            await page.evaluate(
                () => document.cookie + localStorage.length + sessionStorage.length,
            ),
            '00',
            'scripts see no cookie',
        );

        await until('both users', async () => (await users(page).count()) === 2);
        await search(page, 'ADA@');
        await until('Ada alone', async () => (await users(page).count()) === 1);
        await page.getByRole('link', { name: 'Ada Lovelace' }).click();
        await heading(page, 'Ada Lovelace').waitFor();
        await page.getByText('fr-FR').waitFor();
        assert.deepEqual(await events(page).locator('.type').allTextContents(), [
            'user.updated',
            'user.created',
        ]);
        await page.goBack();
        assert.equal(await page.getByRole('searchbox').inputValue(), 'ADA@');

        // It fails while somebody looks.
        await section(page, 'Events').click();
        await until('three events', async () => (await events(page).count()) === 3);
        const failing = userCreated({ email: 'fail@example.com', first_name: 'Eve' });
        await server.deliver(failing);
        await events(page).filter({ hasText: 'failed' }).waitFor();
        assert.equal(await events(page).count(), 4);
        assert.match(
            await events(page).first().textContent(),
            /faileduser\.created.*handlers\.lua:4: attempt to concatenate a nil value/,
        );
        await until(
            'the badge',
            async () => (await page.locator('#problem-count').textContent()) === '1',
        );

        await section(page, /Problems/).click();
        await until('the problem alone', async () => (await events(page).count()) === 1);
        await events(page).getByRole('link').click();
        await heading(page, 'user.created').waitFor();
        assert.match(
            await page.getByLabel('Error and traceback').textContent(),
            /handlers\.lua:4: .*\nstack traceback:\n.*handlers\.lua:/s,
        );
        assert.deepEqual(JSON.parse(await page.getByLabel('Payload').textContent()), failing);

        // A retry with the same script fails again, and says so.
        await page.getByRole('button', { name: 'Retry' }).click();
        await said(page).getByText('Put back to work: 1 event.').waitFor();

        // A script that is worse is refused; a better one is loaded, and what failed runs.
        writeFile(server.handlersFile, 'authkit.events {');
        await section(page, 'Script').click();
        await page.getByText('The file was changed after the last load.').waitFor();
        await page.getByRole('button', { name: 'Reload' }).click();
        await page.getByText('The last load was refused').waitFor();
        assert.match(await page.getByLabel('What is wrong').textContent(), /handlers\.lua:1:/);
        assert.deepEqual(await page.locator('.names li').allTextContents(), [
            'user.created',
            'user.updated',
            'user_registration',
            'GET /todos',
        ]);
        server.change(
            "UPDATE workos_events SET status = 'dead', next_attempt_at = NULL WHERE id = ?",
            failing.id,
        );
        writeFile(server.handlersFile, MENDED);
        await page.getByText('The file was changed after the last load.').waitFor();
        await page.getByRole('button', { name: 'Reload' }).click();
        await said(page).getByText('The script was loaded.').waitFor();
        await page.getByText('The last load was refused').waitFor({ state: 'detached' });

        await section(page, /Problems/).click();
        await page.getByText('Nothing has failed.').waitFor();
        await page.getByRole('link', { name: /Dead/ }).click();
        await page.getByRole('button', { name: /Retry user\.created/ }).click();
        await said(page).getByText('Put back to work: 1 event.').waitFor();
        await until('it to be done', () => server.eventRow(failing).status === 'done');
        await page.getByText('Nothing is dead.').waitFor();
        await until('no badge', async () => !(await page.locator('#problem-count').isVisible()));

        await page.getByRole('button', { name: 'Sign out' }).click();
        await token.waitFor();
        await page.goto(`${server.adminUrl}/#/configuration`);
        await token.waitFor();
    });

    test('retry all asks first, and one can think better of it', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const failing = Array.from({ length: 3 }, (_, i) =>
            userCreated({ email: `fail${i}@example.com` }),
        );
        for (const event of failing) await server.deliver(event);
        const page = await open(t, server, { hash: '#/problems' });
        await until('them', async () => (await events(page).count()) === 3);
        await page.getByRole('button', { name: 'Retry all' }).click();
        await page.getByRole('button', { name: 'Cancel' }).click();
        await page.getByRole('button', { name: 'Retry all …' }).click();
        await page.getByRole('button', { name: 'Retry all', exact: true }).click();
        await said(page).getByText('Put back to work: 3 events.').waitFor();
        writeFile(server.handlersFile, MENDED);
        assert.equal((await server.reload()).outcome, 'loaded');
        await page.getByText('Nothing has failed.').waitFor();
    });

    // Symptom: behind the first page rows stayed failed, with their button, when they had long been done.
    test('what is mended leaves the problems, behind the first page too', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        for (let i = 0; i < 120; i++)
            await server.deliver(userCreated({ email: `fail${i}@example.com` }));
        const page = await open(t, server, { hash: '#/problems' });
        const more = page.getByRole('button', { name: 'Show more' });
        await until('a page', async () => (await events(page).count()) === 50);
        await more.click();
        await until('two pages', async () => (await events(page).count()) === 100);
        await more.click();
        await until('all', async () => (await events(page).count()) === 120);
        await server.deliver(userCreated({ email: 'fail@example.com' }));
        await until('one more', async () => (await events(page).count()) === 121);
        server.change(
            "UPDATE workos_events SET status = 'done', next_attempt_at = NULL WHERE _seq <= 30",
        );
        await until('the oldest to leave', async () => (await events(page).count()) === 91);
        assert.equal(await more.count(), 0);
    });

    // Symptom: "in 8 s" stood still, and was by the browser's clock.
    test('the time to the next attempt runs, by the server’s clock', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const failing = userCreated({ email: 'fail@example.com' });
        await server.deliver(failing);
        server.change(
            'UPDATE workos_events SET next_attempt_at = ? WHERE id = ?',
            Date.now() + 59_000,
            failing.id,
        );
        const page = await open(t, server);
        await page.clock.setFixedTime(Date.now() + 3600_000);
        await page.goto(`${server.adminUrl}/#/events/${failing.id}`);
        const wait = page.getByText(/\(in \d+ s\)/);
        const before = await wait.textContent();
        await until('it to run', async () => (await wait.textContent()) !== before);
    });

    test('who has neither name nor email is called by the id', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const nobody = userCreated({ email: '', name: null, first_name: '', last_name: null });
        await server.deliver(nobody);
        const page = await open(t, server, { hash: '#/users' });
        await until('the row', async () => (await users(page).count()) === 1);
        assert.equal(await users(page).locator('.name').textContent(), nobody.data.id);
        await users(page).getByRole('link').click();
        await heading(page, nobody.data.id).waitFor();
    });

    test('nothing in a stranger’s name does anything', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const made = [];
        for (const [i, name] of HOSTILE.entries()) {
            const event = userCreated({
                name,
                first_name: name,
                last_name: name,
                email: `fail${i}+${name.slice(0, 60)}@example.com`,
                external_id: name.slice(0, 100),
                locale: name.slice(0, 100),
                profile_picture_url: name,
                metadata: { [name.slice(0, 40)]: name.slice(0, 500) },
            });
            made.push(event);
            await server.deliver(event);
        }
        const organization = newOrganization({ name: HOSTILE[0] });
        await server.deliver(newEvent('organization.created', organization));
        await server.deliver(
            newEvent(
                'organization_membership.created',
                newMembership({
                    user_id: made[0].data.id,
                    organization_id: organization.id,
                    role: { slug: HOSTILE[1] + HOSTILE[2] },
                }),
            ),
        );
        await server.deliver(newEvent('connection.activated', { id: HOSTILE[1] }));
        await server.reload(`error([[${HOSTILE[0]}]])`);
        const page = await open(t, server);

        for (const hash of [
            '#/users',
            '#/events',
            '#/problems',
            '#/script',
            ...made.flatMap(({ id, data }) => [`#/users/${data.id}`, `#/events/${id}`]),
            `#/users?search=${encodeURIComponent(HOSTILE[0])}`,
            `#/events?type=${encodeURIComponent(HOSTILE[1])}`,
            `#/events/${encodeURIComponent(HOSTILE[0])}`,
            `#/${HOSTILE[0]}`,
        ]) {
            await page.goto(`${server.adminUrl}/${hash}`);
            await page.waitForFunction(
                () => !document.querySelector('main')?.textContent.match(/^(User|Event)$/),
            );
            await page.waitForTimeout(150);
            const strange = await page.evaluate(() => ({
                elements: document.querySelectorAll(
                    'main img, main script, main iframe, main [onerror]',
                ).length,
                links: [...document.querySelectorAll('main a')].filter(
                    (link) => !link.getAttribute('href').startsWith('#/'),
                ).length,
                width: Math.max(0, document.documentElement.scrollWidth - innerWidth),
                banner: document.getElementById('banner').hidden
                    ? ''
                    : document.getElementById('banner').textContent,
            }));
            assert.deepEqual(
                strange,
                { elements: 0, links: 0, width: 0, banner: '' },
                hash.slice(0, 80),
            );
        }
        await page.goto(`${server.adminUrl}/#/users`);
        await page.getByText(HOSTILE[0]).first().waitFor();
        await page.getByText('\\u202egnp.exe', { exact: true }).waitFor(); // it turns nothing round
        await page.goto(`${server.adminUrl}/#/users/${made[0].data.id}`);
        await page.getByText(HOSTILE[0]).first().waitFor();
        await page.getByText(`${HOSTILE[1]}\\u202egnp.exe, active`).waitFor();

        // Were there a way in, nothing would run, and no text become elements.
        const tried = await page.evaluate(() => {
            const outcomes = [];
            const script = document.createElement('script');
            try {
                script.textContent = 'window.ran = true';
                document.body.append(script);
            } catch (error) {
                outcomes.push(error.name);
            }
            try {
                document.body.innerHTML = '<img src=x onerror="window.ran = true">';
            } catch (error) {
                outcomes.push(error.name);
            }
            return [...outcomes, window.ran === true];
        });
        assert.deepEqual(tried, ['TypeError', 'TypeError', false]);
        page.said.splice(0); // it has told of these
    });
});

describe('the dashboard in a browser: what comes while one looks, and what was long ago', () => {
    test('it goes on by itself, pauses when told to or not looked at, and comes back when the server does', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const page = await open(t, server, { hash: '#/events' });
        await page.getByText('Nothing has arrived yet.').waitFor();
        await server.deliver(userCreated());
        await until('an event', async () => (await events(page).count()) === 1);

        let requests = 0;
        page.on('request', () => requests++);
        await page.getByRole('button', { name: 'Live' }).click();
        await page.getByRole('button', { name: 'Paused' }).waitFor();
        await page.waitForTimeout(300);
        requests = 0;
        await server.deliver(userCreated());
        await page.waitForTimeout(2500);
        assert.equal(requests, 0, 'paused');
        await page.getByRole('button', { name: 'Paused' }).click();
        await until('the next one', async () => (await events(page).count()) === 2);

        const hide = (hidden) =>
            page.evaluate((value) => {
                Object.defineProperty(document, 'hidden', { value, configurable: true });
                document.dispatchEvent(new Event('visibilitychange'));
            }, hidden);
        await hide(true);
        await page.waitForTimeout(300);
        requests = 0;
        await page.waitForTimeout(2500);
        assert.equal(requests, 0, 'not looked at');
        await server.deliver(userCreated());
        await hide(false);
        await until('a third', async () => (await events(page).count()) === 3);

        const address = new URL(server.adminUrl).host;
        await server.stop();
        await page
            .getByText('authkitd can’t be reached. Trying again')
            .waitFor({ timeout: patience(10_000) });
        server.args = ['--admin-listen', address];
        await server.start();
        await page.getByText('authkitd can’t be reached').waitFor({ state: 'hidden' });
        await server.deliver(userCreated());
        await until('a fourth', async () => (await events(page).count()) === 4);
    });

    test('lists go on at their end, and filters are in the address', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        for (let i = 0; i < 120; i++)
            await server.deliver(
                userCreated({ email: `user${String(i).padStart(3, '0')}@example.com` }),
            );
        await server.deliver(sessionCreated());
        const page = await open(t, server, { hash: '#/events' });
        const more = page.getByRole('button', { name: 'Show more' });
        await until('a page', async () => (await events(page).count()) === 50);
        await more.click();
        await until('two pages', async () => (await events(page).count()) === 100);
        await server.deliver(sessionCreated());
        await until('one more at the top', async () => (await events(page).count()) === 101);
        await more.click();
        await until('all', async () => (await events(page).count()) === 122);
        await more.waitFor({ state: 'detached' });
        assert.equal(
            new Set(
                await events(page)
                    .locator('a')
                    .evaluateAll((links) => links.map((link) => link.href)),
            ).size,
            122,
        );

        await page.getByLabel('Type').fill('session.*');
        await page.getByRole('button', { name: 'Show' }).click();
        await until('two', async () => (await events(page).count()) === 2);
        assert.match(page.url(), /#\/events\?type=session\.\*$/);
        await page.getByLabel('Status').selectOption('failed');
        await page.getByText('No event is like that.').waitFor();
        await page.goBack();
        await until('two', async () => (await events(page).count()) === 2);

        await page.goto(`${server.adminUrl}/#/users?search=user`);
        await until('a page', async () => (await users(page).count()) === 50);
        await more.click();
        await until('two pages', async () => (await users(page).count()) === 100);
        await more.click();
        await until('all', async () => (await users(page).count()) === 120);
        await search(page, 'nobody');
        await page.getByText('Nobody was found.').waitFor();
        assert.equal(
            await page.getByRole('searchbox').evaluate((box) => document.activeElement === box),
            true,
        );
    });

    // Symptom: what was found far back was gone with the next refresh.
    test('what is found far back stays', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        await server.deliver(userCreated());
        await server.stop();
        fillDatabase(server.database, 45); // more events than a page looks through
        await server.start();
        const page = await open(t, server, { hash: '#/events?type=user.created' });
        await page.getByText('None among the latest events.').waitFor();
        await page.getByRole('button', { name: 'Look further back' }).click();
        await until('the first', async () => (await events(page).count()) === 1);
        for (let count = 2; count < 4; count++) {
            const answer = page.waitForResponse((response) => response.url().includes('/api/events'));
            await answer; // one refresh without, and one with something new
            assert.equal(await events(page).count(), count - 1);
            await server.deliver(userCreated());
            await until('one more', async () => (await events(page).count()) === count);
        }
        assert.equal(await page.getByRole('button', { name: 'Show more' }).count(), 0);
    });
});

describe('the dashboard in a browser: how it looks', () => {
    test('charts show what is known, and say what is not', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const page = await open(t, server);
        let events = 0;
        let served;
        await page.route('**/metrics', (route) =>
            route.fulfill({
                contentType: 'text/plain',
                body: (served = `# HELP authkitd_up x\nauthkitd_up 1\n${
                    events < 0
                        ? ''
                        : `
authkitd_events_total{type="user.created",outcome="done"} ${(events += 20)}
authkitd_events_total{type="a\\"b\\\\c",outcome="failed"} 0
authkitd_function_seconds_bucket{kind="event",le="0.001"} ${events / 2}
authkitd_function_seconds_bucket{kind="event",le="0.002"} ${events}
authkitd_function_seconds_bucket{kind="event",le="+Inf"} ${events}
authkitd_queue_jobs{priority="urgent"} 1
authkitd_queue_jobs{priority="normal"} 6
process_resident_memory_bytes 52428800
`
                }`),
            }),
        );
        const chart = (name) => page.getByRole('figure').filter({ hasText: name });
        const label = (name) => chart(name).getByRole('img').getAttribute('aria-label');
        await until(
            'a rate',
            async () =>
                /events now (8\.\d|9\.\d|10|11) \/s, failed now 0 \/s/.test(await label('Events')),
            patience(20_000),
        );
        assert.match(await label('Queue'), /waiting now 7 jobs; at most 7 jobs/);
        await page.getByText('50 MiB').waitFor();
        assert.match(served, /authkitd_queue/);
        // A server that tells less.
        events = -1;
        await until('fewer', async () =>
            /This server doesn’t tell \(authkitd_queue_jobs\)|at most 7/.test(await label('Queue')),
        );
        await page.unroute('**/metrics');
        await page.reload();
        await until(
            'the rest',
            async () =>
                /^Events, the last five minutes: arrived now 0/.test(await label('Events')) ||
                /events now 0/.test(await label('Events')),
            patience(20_000),
        );
    });

    test('it is fit for the eye, a phone, the keyboard', async (t) => {
        const folder = process.env.AUTHKITD_SCREENSHOTS ?? newFolder();
        const server = await startServer(t, {
            handlers: BROKEN,
            env: { AUTHKITD_ADMIN_TOKEN: TOKEN },
        });
        const ada = userCreated({ email: 'ada@example.com' });
        const failing = userCreated({ email: 'fail@example.com', first_name: 'Eve' });
        for (const event of [
            ada,
            userCreated({ name: HOSTILE[5] }),
            failing,
            sessionCreated({ user_id: ada.data.id }),
        ])
            await server.deliver(event);
        const looks = {
            light: { colorScheme: 'light' },
            dark: { colorScheme: 'dark' },
            phone: {
                viewport: { width: 360, height: 740 },
                isMobile: true,
                hasTouch: true,
                deviceScaleFactor: 2,
            },
        };
        const places = {
            overview: '#/',
            users: '#/users',
            user: `#/users/${ada.data.id}`,
            events: '#/events',
            event: `#/events/${failing.id}`,
            problems: '#/problems',
            script: '#/script',
            configuration: '#/configuration',
        };
        for (const [name, look] of Object.entries(looks)) {
            const page = await open(t, server, look);
            await page.getByLabel('Admin token').waitFor();
            await page.screenshot({ path: path.join(folder, `${name}-sign-in.png`) });
            await page.getByLabel('Admin token').fill(TOKEN);
            await page.keyboard.press('Enter');
            await heading(page, 'Overview').waitFor();
            for (const [what, hash] of Object.entries(places)) {
                await page.goto(`${server.adminUrl}/${hash}`);
                await page.waitForTimeout(400);
                await page.screenshot({
                    path: path.join(folder, `${name}-${what}.png`),
                    fullPage: true,
                });
                assert.ok(
                    await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
                    `${name} ${what}: nothing sticks out to the right`,
                );
                assert.equal(await page.getByRole('heading', { level: 1 }).count(), 1, what);
            }
            const ground = await page.evaluate(() =>
                Number(/\d+/.exec(getComputedStyle(document.documentElement).backgroundColor)),
            );
            assert.ok(name === 'dark' ? ground < 60 : ground > 200, `${name}: ${ground}`);
        }

        const page = await open(t, server);
        await page.getByLabel('Admin token').waitFor();
        await page.keyboard.type(TOKEN);
        await page.keyboard.press('Enter');
        await heading(page, 'Overview').waitFor();
        await page.keyboard.press('Tab');
        assert.equal(
            await page.evaluate(() => document.activeElement.textContent),
            'Skip to the content',
        );
        for (const name of ['Overview', 'Users', 'Events']) {
            await page.keyboard.press('Tab');
            assert.equal(await page.evaluate(() => document.activeElement.textContent), name);
        }
        await page.keyboard.press('Enter');
        await heading(page, 'Events').waitFor();
        assert.equal(
            await page.evaluate(() => document.activeElement.textContent),
            'Events',
            'who listens hears where they are',
        );
        assert.equal(await section(page, 'Events').getAttribute('aria-current'), 'page');
        await until('the list', async () => (await events(page).count()) === 4);
        for (let i = 0; i < 4; i++) await page.keyboard.press('Tab'); // status, type, show, the first event
        await server.deliver(sessionCreated());
        await until('one more', async () => (await events(page).count()) === 5);
        assert.match(
            await page.evaluate(() => document.activeElement.textContent),
            /session\.created/,
            'what comes takes no focus away',
        );
        await page.keyboard.press('Enter');
        await heading(page, 'session.created').waitFor();
        assert.match(
            await page.locator('dd time').first().getAttribute('title'),
            /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
        );
    });
});

describe('the focus, when a button was pressed by the keyboard,', () => {
    const focused = (page) =>
        page.evaluate(() => {
            const { tagName, textContent } = document.activeElement;
            return `${tagName} ${textContent}`;
        });
    const isOn = (page, what) =>
        until(`the focus to be on ${what}`, async () => {
            assert.equal(await focused(page), what);
            return true;
        });

    /** Press it, and wait until it has done its work. */
    async function press(page, button, work) {
        await button.focus();
        const answered = page.waitForResponse((response) => response.url().includes(work));
        await page.keyboard.press('Enter');
        await answered;
    }

    test('stays on Retry, and is on the heading when there is none any more', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const failing = userCreated({ email: 'fail@example.com' });
        await server.deliver(failing);
        const attempts = () => server.eventRow(failing).next_attempt_at;
        for (const place of [`#/events/${failing.id}`, '#/problems']) {
            const page = await open(t, server, { hash: place });
            const retry = page.getByRole('button', { name: /^Retry(?! all)/ });
            const before = attempts();
            await press(page, retry, '/retry');
            await until('it to have failed again', () => attempts() > before);
            await page.waitForResponse((response) => response.url().includes('/api/events'));
            await isOn(page, 'BUTTON Retry');
        }
        const page = await open(t, server, { hash: '#/problems' });
        await page.getByRole('button', { name: /^Retry(?! all)/ }).focus();
        writeFile(server.handlersFile, MENDED);
        assert.equal((await server.reload()).outcome, 'loaded');
        await isOn(page, 'H1 Problems');
    });

    test('stays on Reload', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        const page = await open(t, server, { hash: '#/script' });
        await press(page, page.getByRole('button', { name: 'Reload' }), '/reload');
        await said(page).getByText('The script was loaded.').waitFor();
        await isOn(page, 'BUTTON Reload');
    });

    test('stays on Show more, and is on the heading when that has shown all', async (t) => {
        const server = await startServer(t, { handlers: BROKEN });
        for (let i = 0; i < 120; i++) await server.deliver(userCreated());
        for (const [hash, list, title] of [
            ['#/users', users, 'Users'],
            ['#/events', events, 'Events'],
        ]) {
            const page = await open(t, server, { hash });
            await page.getByRole('button', { name: 'Show more' }).focus();
            await page.keyboard.press('Enter');
            await until('two pages', async () => (await list(page).count()) === 100);
            await isOn(page, 'BUTTON Show more');
            await page.keyboard.press('Enter');
            await until('all', async () => (await list(page).count()) === 120);
            await isOn(page, `H1 ${title}`);
        }
    });
});

test('the overview says in words what is wrong', async (t) => {
    const server = await startServer(t, { handlers: BROKEN });
    const page = await open(t, server);
    await page.getByText('ready', { exact: true }).waitFor();
    assert.equal(await page.locator('.notice').count(), 0);
    const event = userCreated();
    await server.deliver(event);
    server.change("UPDATE workos_events SET status = 'dead' WHERE id = ?", event.id);
    assert.equal((await server.reload('not Lua')).outcome, 'refused');
    await until('two warnings', async () => (await page.locator('.notice').count()) === 2);
    assert.match((await page.locator('.notice').allTextContents()).join(), /dead.*|handlers\.lua/);
    assert.equal(await page.locator('.tile.expected').count(), 0);
    server.change("UPDATE workos_events SET status = 'expected' WHERE id = ?", event.id);
    await page.getByRole('link', { name: 'Expected 1' }).click();
    await heading(page, 'Events').waitFor();
    await page.locator('.pill.expected').waitFor();
    await section(page, 'Overview').click();
    await page.route('**/readyz', (route) =>
        route.fulfill({
            status: 503,
            json: { status: 'trouble', problems: ['the disk is <b>full</b>'], warnings: [] },
        }),
    );
    await page.getByText('the disk is <b>full</b>').waitFor();
    await page.getByText('in trouble').waitFor();
});

test('a user or event that can’t be read just now isn’t said to be missing', async (t) => {
    const server = await startServer(t, { handlers: BROKEN });
    const event = userCreated();
    await server.deliver(event);
    const page = await open(t, server);
    for (const [hash, path] of [
        [`#/users/${event.data.id}`, '**/api/users/*'],
        [`#/events/${event.id}`, '**/api/events/*'],
    ]) {
        await page.route(path, (route) =>
            route.fulfill({ status: 503, json: { error: { message: 'that took too long' } } }),
        );
        await page.goto(`${server.adminUrl}/${hash}`);
        await page.getByRole('alert').getByText('that took too long').waitFor();
        assert.equal(await page.getByText('There is no such').count(), 0);
        await page.unroute(path);
        await page.getByText(event.data.email).or(page.getByText(event.id)).first().waitFor();
        await page.getByRole('alert').waitFor({ state: 'hidden' });
    }
    await page.goto(`${server.adminUrl}/#/events/event_none`);
    await page.getByText('There is no such event.').waitFor();
    page.said.splice(0); // of the 503s and the 404
});

test('the page of a server that is new says what to do', async (t) => {
    const server = await startServer(t, { handlers: 'require "authkit"' });
    const page = await open(t, server);
    await page.getByText('authkitd send user.created').waitFor();
    await section(page, 'Users').click();
    await page.getByText('authkitd backfill').waitFor();
    await section(page, 'Events').click();
    await page.getByText('Nothing has arrived yet.').waitFor();
    await section(page, /Problems/).click();
    await page.getByText('Nothing has failed.').waitFor();
    await section(page, 'Script').click();
    await page.getByText('The script has no functions.').waitFor();
    const sent = await runCommand(
        ['send', 'user.created', '--url', `${server.url}/workos/webhook`],
        { env: { WORKOS_WEBHOOK_SECRET: server.env.WORKOS_WEBHOOK_SECRET } },
    );
    assert.equal(sent.code, 0, sent.output);
    await section(page, 'Overview').click();
    await page.getByText('Nothing has arrived yet.').waitFor({ state: 'detached' });
});
