// SPDX-License-Identifier: MIT
// A browser without a screen: Debian's Chromium, driven by Playwright.

import fs from 'node:fs';
import { after, before } from 'node:test';

import { chromium } from 'playwright-core';

import { atEnd, patience } from './harness.js';
import { cleanEnvironment, newFolder } from './server.js';

const PROGRAMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** It calls nobody but those whom a page calls, and works as root and where /dev/shm is small. */
const FLAGS = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-breakpad',
];

async function launch() {
    const executablePath = PROGRAMS.find((program) => fs.existsSync(program));
    if (!executablePath) throw new Error('there is no Chromium: scripts/setup --tests installs it');
    const home = newFolder();
    return await chromium.launch({
        executablePath,
        args: FLAGS,
        env: cleanEnvironment({ HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home }),
        timeout: patience(60_000), // the first time, all of it has to come from the disk
    });
}

/** A browser with a profile of its own, empty, for all tests of the file; users are kept apart. */
export function sharedBrowser() {
    const shared = {
        /**
         * A page of somebody who has never been here. page.said is what went wrong in it: errors of
         * its script, and what the browser had to say against it, but for answers that weren't 200.
         */
        async newPage(t, options = {}) {
            const context = await shared.browser.newContext({
                viewport: { width: 1000, height: 720 },
                ...options,
            });
            atEnd(t, () => context.close());
            context.setDefaultTimeout(patience(15_000));
            const page = await context.newPage();
            page.said = [];
            page.on('pageerror', (error) => page.said.push(error.message));
            page.on('console', (message) => {
                const text = message.text();
                if (message.type() === 'error' && !text.startsWith('Failed to load resource'))
                    page.said.push(text);
            });
            return page;
        },
    };

    before(async () => {
        shared.browser = await launch();
    });
    after(() => shared.browser?.close());
    return shared;
}
