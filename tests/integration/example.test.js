// SPDX-License-Identifier: MIT
// The example app, used in a browser: WorkOS's emulator signs people in, authkitd has their lists,
// and the page shows and changes them.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

import { App } from '../example/app.js';
import { sharedBrowser } from './lib/browser.js';
import { addWebhookEndpoint, emulatorEnv, emulatorSdk, startEmulator } from './lib/emulator.js';
import { adopt, atEnd, describe, patience, test, until } from './lib/harness.js';
import { binary, cleanEnvironment, newFolder, startServer } from './lib/server.js';
import { newEvent } from './lib/workos.js';

const root = path.join(import.meta.dirname, '../..');
const handlers = fs.readFileSync(path.join(root, 'tests/example/handlers.lua'), 'utf8');
const browser = sharedBrowser();
const NAMES = { ada: ['Ada', 'Lovelace'], grace: ['Grace', 'Hopper'] };

/** The app at a port of its own. */
async function startApp(t, workos, authkitd) {
    const app = await new App({
        workos,
        authkitd,
        log: (what) => t.diagnostic(String(what)),
    }).listen(0);
    atEnd(t, () => app.close());
    return app;
}

/** The emulator, the app, authkitd, Ada and Grace. */
async function setUp(t) {
    const emulator = await startEmulator(t);
    const workos = emulatorSdk(emulator);
    const app = await startApp(t, workos, 'http://127.0.0.1:1');
    const server = await startServer(t, {
        handlers,
        env: emulatorEnv(emulator),
        args: ['--cors-origin', app.url],
    });
    app.authkitd = server.url;
    await addWebhookEndpoint(emulator, server);
    const users = {};
    for (const [name, [firstName, lastName]] of Object.entries(NAMES))
        users[name] = await workos.userManagement.createUser({
            email: `${name}@example.com`,
            firstName,
            lastName,
        });
    await until('the lists', () => server.count('todo_lists') === 2);
    return { emulator, workos, app, server, users };
}

async function signIn(page, app, email) {
    await page.goto(app.url);
    await page.getByLabel('Email').fill(email);
    await page.getByRole('button', { name: 'Sign in' }).click();
}

async function add(page, text) {
    await page.getByRole('textbox', { name: 'What is to be done?' }).fill(text);
    await page.getByRole('button', { name: 'Add' }).click();
    await itemOf(page, text).waitFor();
}

const itemOf = (page, text) => page.getByRole('listitem').filter({ hasText: text });
const boxOf = (page, text) => itemOf(page, text).getByRole('checkbox');
const listOf = (page, name) => page.getByRole('heading', { name: `${name}'s Todo List` });
const welcome = (page) => page.getByRole('button', { name: 'Sign in' });
const alert = (page) => page.getByRole('alert');
const texts = (page) => page.locator('li span').allTextContents();

/** The words in the alert, once they are there. */
async function problem(page) {
    await alert(page).waitFor();
    return await page.locator('#problem-text').textContent();
}

describe('the example app', () => {
    test('sign in, add, tick, reload, delete, sign out; and nobody sees the list of another', async (t) => {
        const { app, server, users } = await setUp(t);
        const page = await browser.newPage(t);

        await signIn(page, app, 'ada@example.com');
        await listOf(page, 'Ada').waitFor();
        await page.getByText('Ada Lovelace').waitFor();
        await page.getByText('ada@example.com').waitFor();
        await page.getByText('Nothing to do.').waitFor();
        assert.equal(page.url(), `${app.url}/`, 'neither code nor state stay in the address');

        await add(page, 'Write the notes');
        await add(page, '  Buy tea ');
        await add(page, '<b>bold</b> & "quoted" 😀');
        assert.deepEqual(await texts(page), [
            'Write the notes',
            'Buy tea',
            '<b>bold</b> & "quoted" 😀',
        ]);
        assert.equal(await page.locator('li b').count(), 0, "a stranger's text is text");
        await boxOf(page, 'Buy tea').check();
        await page.getByText('1 of 3 done').waitFor();
        await until('the tick to be here', () => server.row('SELECT sum(done) FROM todos') === 1);

        await page.reload();
        await itemOf(page, 'Write the notes').waitFor();
        assert.equal((await texts(page)).length, 3);
        assert.equal(await boxOf(page, 'Buy tea').isChecked(), true);
        assert.equal(await boxOf(page, 'Write the notes').isChecked(), false);
        assert.deepEqual(
            server.rows(
                'SELECT text, done FROM todos JOIN todo_lists AS l ON l._id = list_id WHERE user_id = ? ORDER BY todos._id',
                users.ada.id,
            ),
            [
                { text: 'Write the notes', done: 0 },
                { text: 'Buy tea', done: 1 },
                { text: '<b>bold</b> & "quoted" 😀', done: 0 },
            ],
        );

        const other = await browser.newPage(t);
        await signIn(other, app, 'grace@example.com');
        await listOf(other, 'Grace').waitFor();
        await other.getByText('Nothing to do.').waitFor();
        await add(other, 'Find the moth');
        await other.getByText('0 of 1 done').waitFor();

        await page.reload();
        await itemOf(page, 'Buy tea').waitFor();
        assert.equal((await texts(page)).length, 3);
        await itemOf(page, 'Write the notes').hover();
        await page.getByRole('button', { name: 'Delete “Write the notes”' }).click();
        await itemOf(page, 'Write the notes').waitFor({ state: 'detached' });
        await page.getByText('1 of 2 done').waitFor();
        assert.equal(server.count('todos'), 3);
        await boxOf(page, 'Buy tea').uncheck();
        await page.getByText('0 of 2 done').waitFor();

        await page.getByRole('button', { name: 'Sign out' }).click();
        await welcome(page).waitFor();
        assert.equal(await page.getByText('Buy tea').count(), 0);
        await page.reload();
        await welcome(page).waitFor();
        await other.reload();
        await itemOf(other, 'Find the moth').waitFor();
        assert.deepEqual([...page.said, ...other.said], []);
    });

    test('the access token is nowhere but in the page, and the app hands it to nobody else', async (t) => {
        const { app } = await setUp(t);
        const page = await browser.newPage(t);
        await signIn(page, app, 'ada@example.com');
        await listOf(page, 'Ada').waitFor();

        assert.deepEqual(
            await page.evaluate(() => [
                localStorage.length,
                sessionStorage.length,
                document.cookie,
                Object.keys(window).filter((name) => /token|session/i.test(name)),
            ]),
            [0, 0, '', ['sessionStorage']],
        );
        const cookies = await page.context().cookies(app.url);
        assert.deepEqual(
            cookies.map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite })),
            [{ name: 'example_session', httpOnly: true, sameSite: 'Lax' }],
        );
        const cookie = `example_session=${cookies[0].value}`;
        const ask = (where, headers) =>
            fetch(app.url + where, { method: 'POST', headers, redirect: 'manual' });
        assert.equal((await ask('/token', { cookie, origin: app.url })).status, 200);
        for (const headers of [
            { cookie },
            { cookie, origin: 'null' },
            { cookie, origin: 'http://evil.example' },
        ]) {
            assert.equal((await ask('/token', headers)).status, 403);
            assert.equal((await ask('/sign-out', headers)).status, 403);
        }
        assert.equal((await ask('/token', { origin: app.url })).status, 401);
        assert.equal((await ask('/token', { cookie, origin: app.url })).status, 200);

        // A script that got into the page would not run, nor could it call home.
        const ran = await page.evaluate(() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            return window.ran === true;
        });
        assert.equal(ran, false);
        assert.match(page.said.join(), /Content Security Policy/);
    });

    test('an answer of WorkOS that this browser did not ask for signs nobody in', async (t) => {
        const { app } = await setUp(t);
        const victim = await browser.newPage(t);
        // An attacker begins to sign in, and makes somebody else's browser end it.
        const begun = await fetch(`${app.url}/sign-in?email=ada%40example.com`, {
            redirect: 'manual',
        });
        const answer = await fetch(begun.headers.get('location'), { redirect: 'manual' });

        assert.match(answer.headers.get('location'), /\/callback\?code=/);
        await victim.goto(answer.headers.get('location'));
        assert.match(await problem(victim), /began in another browser/);
        await victim.goto(`${app.url}/callback?code=x&state=y`);
        assert.match(await problem(victim), /began in another browser/);
        assert.equal(victim.url(), `${app.url}/`);
        await victim.reload();
        await welcome(victim).waitFor();
        assert.equal(await alert(victim).count(), 0);
        assert.equal(app.sessions.size, 0);
    });

    test('a token that authkitd refuses is replaced, and when there is no better one, one signs in again', async (t) => {
        const { app } = await setUp(t);
        const page = await browser.newPage(t);
        await signIn(page, app, 'ada@example.com');
        await listOf(page, 'Ada').waitFor();
        const session = () => [...app.sessions.values()][0];

        // A token that is no good here, but WorkOS gives another one: nobody notices.
        const good = session().accessToken;
        session().accessToken = good.replace(/.{8}$/, 'AAAAAAAA');
        await page.reload();
        await listOf(page, 'Ada').waitFor();
        assert.notEqual(session().accessToken, good);
        await add(page, 'Buy tea');

        // It ends soon: it is replaced before.
        const used = session().refreshToken;
        session().endsAt = Date.now() + 1000;
        await page.reload();
        await itemOf(page, 'Buy tea').waitFor();
        assert.notEqual(session().refreshToken, used);

        // Two at the same time share the new one, for a refresh token is good for one use.
        const second = await page.context().newPage();
        session().endsAt = 0;
        await Promise.all([page.reload(), second.goto(app.url)]);
        await itemOf(page, 'Buy tea').waitFor();
        await itemOf(second, 'Buy tea').waitFor();
        assert.equal(app.sessions.size, 1);
        await second.close();

        // WorkOS has no better one, in the middle of something.
        session().accessToken = 'broken';
        session().refreshToken = 'broken';
        await page.reload();
        await welcome(page).waitFor();
        assert.match(await problem(page), /session has ended/);
        assert.equal(await page.getByText('Buy tea').count(), 0);
        assert.equal(app.sessions.size, 0);

        // Signing in again works as ever. What is refused again and again ends as well.
        await signIn(page, app, 'ada@example.com');
        await itemOf(page, 'Buy tea').waitFor();
        await page.route(/\/token/, (route) =>
            route.fulfill({
                json: {
                    access_token: 'broken',
                    ends_at: Date.now() + 3_600_000,
                    authkitd: app.authkitd,
                },
            }),
        );
        await page.reload();
        await welcome(page).waitFor();
        assert.match(await problem(page), /session has ended/);
        await page.unroute(/\/token/);
        assert.deepEqual(page.said, []);
    });

    test('what goes wrong is said in words, and nothing that was typed is lost', async (t) => {
        const { app, server } = await setUp(t);
        const page = await browser.newPage(t);
        await signIn(page, app, 'nobody@example.com');
        assert.match(await problem(page), /nobody with this address/);
        await signIn(page, app, 'ada@example.com');
        await listOf(page, 'Ada').waitFor();
        await add(page, 'Buy tea');

        // Another tab has deleted it.
        const second = await page.context().newPage();
        await second.goto(app.url);
        await itemOf(second, 'Buy tea').waitFor();
        await itemOf(second, 'Buy tea').hover();
        await second.getByRole('button', { name: 'Delete “Buy tea”' }).click();
        await second.getByText('Nothing to do.').waitFor();
        await second.close();
        await boxOf(page, 'Buy tea').click();
        assert.match(await problem(page), /is gone/);
        assert.equal(await boxOf(page, 'Buy tea').isChecked(), false);
        await itemOf(page, 'Buy tea').hover();
        await page.getByRole('button', { name: 'Delete “Buy tea”' }).click();
        await page.getByText('Nothing to do.').waitFor();

        // A function that fails: the number in the page is the one in the log.
        await server.reload(
            handlers.replace('return 201, ', 'error("the secret of the script") return 201, '),
        );
        const text = page.getByRole('textbox', { name: 'What is to be done?' });
        await text.fill('Buy milk');
        await text.press('Enter');
        const words = await problem(page);
        const id = /\(request (\S+)\)$/.exec(words)?.[1];
        assert.ok(id, words);
        assert.doesNotMatch(words, /secret of the script/);
        await server.waitForLog(id, 'the secret of the script');
        assert.equal(await text.inputValue(), 'Buy milk');
        await server.reload(handlers);
        await text.press('Enter');
        await itemOf(page, 'Buy milk').waitFor();
        assert.equal(await alert(page).count(), 0);

        // authkitd is away for a while.
        await server.stop();
        await text.fill('Buy bread');
        await text.press('Enter');
        assert.match(await problem(page), /authkitd can’t be reached.*127\.0\.0\.1/);
        assert.equal(await text.inputValue(), 'Buy bread');
        await page.reload();
        assert.match(await problem(page), /authkitd can’t be reached/);
        server.listen = new URL(server.url).host;
        await server.start();
        await page.getByRole('button', { name: 'Try again' }).click();
        await itemOf(page, 'Buy milk').waitFor();
    });

    test('who signs up and is here before the webhook waits for it', async (t) => {
        const { emulator, app, server, workos } = await setUp(t);
        const { url } = server;
        await server.stop(); // so that the emulator's webhook is lost
        const { id } = await workos.userManagement.createUser({
            email: 'joan@example.com',
            firstName: 'Joan',
        });
        server.listen = new URL(url).host;
        await server.start();
        const page = await browser.newPage(t);
        await signIn(page, app, 'joan@example.com');
        await page.getByText('Your list is on its way').waitFor();

        const answer = await fetch(`${emulator.url}/user_management/users/${id}`, {
            headers: { Authorization: `Bearer ${emulator.apiKey}` },
        });
        await server.deliver(newEvent('user.created', await answer.json()));
        await listOf(page, 'Joan').waitFor();
        await add(page, 'Break the code');
        assert.deepEqual(page.said, []);
    });

    test('another origin than those of --cors-origin gets nothing', async (t) => {
        const { app, workos, server } = await setUp(t);
        const stranger = await startApp(t, workos, server.url);
        const page = await browser.newPage(t);

        await signIn(page, stranger, 'ada@example.com');
        const words = await problem(page);
        assert.match(words, /authkitd can’t be reached/);
        assert.ok(words.includes(`--cors-origin ${stranger.url}`), words);
        assert.match(page.said.join(), /CORS/);
        await signIn(page, app, 'ada@example.com');
        await listOf(page, 'Ada').waitFor();

        // Every name of the app leads to the one that authkitd knows.
        await page.goto(app.url.replace('localhost', '127.0.0.1'));
        await listOf(page, 'Ada').waitFor();
        assert.equal(page.url(), `${app.url}/`);
    });

    test('it is fit for the eye: light, dark, a phone, the keyboard', async (t) => {
        const { app } = await setUp(t);
        const folder = process.env.AUTHKITD_SCREENSHOTS ?? newFolder();
        const looks = {
            light: { colorScheme: 'light' },
            dark: { colorScheme: 'dark' },
            phone: {
                viewport: { width: 320, height: 640 },
                isMobile: true,
                hasTouch: true,
                deviceScaleFactor: 2,
            },
        };
        const long = `Answer Mr Babbage, ${'whose letter was long, '.repeat(6)}${'x'.repeat(120)}`;

        for (const [name, look] of Object.entries(looks)) {
            const page = await browser.newPage(t, look);
            const shoot = (what) =>
                page.screenshot({ path: path.join(folder, `${name}-${what}.png`) });
            await page.goto(app.url);
            await welcome(page).waitFor();
            await shoot('welcome');
            await signIn(page, app, 'ada@example.com');
            await listOf(page, 'Ada').waitFor();
            if (name === 'light') {
                await shoot('empty');
                for (const text of ['Write the notes', 'Buy tea', long]) await add(page, text);
                await boxOf(page, 'Buy tea').check();
            }
            await page.getByText('1 of 3 done').waitFor();
            await shoot('list');
            assert.ok(
                await page.evaluate(() => document.body.scrollWidth <= window.innerWidth),
                `${name}: nothing sticks out to the right`,
            );
            if (name === 'dark') assert.ok((await brightness(page)) < 60);
            if (name === 'light') assert.ok((await brightness(page)) > 200);
            // With a finger there is no hovering: what can be tapped is there, and large enough.
            if (name === 'phone') {
                await boxOf(page, 'Buy tea').tap();
                await page.getByText('0 of 3 done').waitFor();
                await page.getByRole('button', { name: 'Delete “Buy tea”' }).tap();
                await page.getByText('0 of 2 done').waitFor();
            }
        }

        const page = await browser.newPage(t);
        await page.goto(app.url);
        await welcome(page).waitFor();
        await page.keyboard.type('grace@example.com');
        await page.keyboard.press('Enter');
        await listOf(page, 'Grace').waitFor();
        await page.keyboard.press('Tab'); // sign out
        await page.keyboard.press('Tab');
        for (const text of ['One', 'Two']) {
            await page.keyboard.type(text);
            await page.keyboard.press('Enter');
            await itemOf(page, text).waitFor();
            await page.waitForFunction(() => document.activeElement.value === '');
        }
        await page.keyboard.press('Tab'); // add
        await page.keyboard.press('Tab');
        await page.keyboard.press('Space');
        await page.getByText('1 of 2 done').waitFor();
        await page.keyboard.press('Tab');
        await page.keyboard.press('Enter');
        await itemOf(page, 'One').waitFor({ state: 'detached' });
        await page.keyboard.press('Enter'); // the next one's
        await page.getByText('Nothing to do.').waitFor();
        await page.keyboard.type('Three');
        await page.keyboard.press('Enter');
        await itemOf(page, 'Three').waitFor();
    });
});

/** How bright the page's ground is, 0 to 255. */
const brightness = (page) =>
    page.evaluate(() => {
        const canvas = document.createElement('canvas').getContext('2d');
        canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data[1];
    });

/** A port with three free ones behind it, as far as one can know. */
async function freePorts() {
    const tryListen = async (port) => {
        const listener = net.createServer().listen(port, '127.0.0.1');
        await Promise.race([once(listener, 'listening'), once(listener, 'error')]);
        return listener;
    };
    for (;;) {
        const port = 20_000 + Math.floor(Math.random() * 10_000);
        const listeners = await Promise.all([0, 1, 2, 3].map((i) => tryListen(port + i)));
        const allFree = listeners.every((listener) => listener.listening);
        for (const listener of listeners) listener.close();
        if (allFree) return port;
    }
}

describe('scripts/example', () => {
    test('starts all that is needed, and Ctrl-C ends it', async (t) => {
        const port = await freePorts();
        const folder = newFolder();
        const child = adopt(
            spawn(path.join(root, 'scripts/example'), [String(port)], {
                env: cleanEnvironment({ AUTHKITD_BIN: binary, TMPDIR: folder }),
                stdio: ['ignore', 'pipe', 'pipe'],
            }),
        );
        let output = '';
        for (const stream of [child.stdout, child.stderr])
            stream.setEncoding('utf8').on('data', (text) => {
                output += text;
            });
        const ended = once(child, 'close');
        let code;
        ended.then(([exitCode]) => {
            code = exitCode;
        });
        await until(
            'the app to be there',
            () => {
                assert.equal(code, undefined, output);
                return output.includes('Ctrl-C');
            },
            patience(30_000),
        );

        const page = await browser.newPage(t);
        await signIn(page, { url: `http://localhost:${port}` }, 'grace@example.com');
        await listOf(page, 'Grace').waitFor();
        await add(page, 'Find the moth');
        child.kill('SIGINT');
        await ended;
        assert.equal(code, 0, output);
        assert.deepEqual(fs.readdirSync(folder), [], 'it has tidied up');
        for (const i of [0, 1, 2, 3])
            await assert.rejects(fetch(`http://localhost:${port + i}/`), 'nobody listens any more');
    });
});
