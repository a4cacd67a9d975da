// SPDX-License-Identifier: MIT
// Every Lua example of the README is run: whole scripts are loaded, those that begin with
// "authkit." with the line that all of them begin with, and what begins with "-- in a function" is run as
// the function of an event, on the tables that the README declares.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { describe, test } from './lib/harness.js';
import { startServer } from './lib/server.js';
import { newEvent, newId } from './lib/workos.js';

const readme = fs.readFileSync(path.join(import.meta.dirname, '../../README.md'), 'utf8');
const examples = [...readme.matchAll(/^```lua\n([\s\S]*?)^```$/gm)]
    .map((match) => match[1])
    .map((text) =>
        text.startsWith('authkit.') ? `local authkit = require "authkit"\n${text}` : text,
    );
const functions = examples.filter((text) => text.startsWith('-- in a function'));
const scripts = examples.filter((text) => text.includes('require "authkit"'));
const tables = scripts.find((text) => text.includes('auth_id') && !text.includes('authkit.events'));

const titleOf = (text) => text.slice(0, text.indexOf('\n')).replace('-- in a function: ', '');

describe('the README', () => {
    test('has examples of both kinds, and no third', () => {
        assert.ok(functions.length >= 6 && scripts.length >= 2 && tables);
        assert.equal(functions.length + scripts.length, examples.length);
    });

    for (const [i, text] of scripts.entries()) {
        test(`script ${i + 1} loads`, async (t) => {
            const server = await startServer(t, { handlers: text });
            assert.ok(server);
        });
    }

    for (const text of functions) {
        test(`example: ${titleOf(text)}`, async (t) => {
            const server = await startServer(t, {
                handlers: `${tables}\nauthkit.events { ["test.run"] = function(ctx, event)\n${text}\nend }`,
            });
            const event = newEvent('test.run', { object: 'test', id: newId('test') });
            await server.deliver(event);
            const row = server.eventRow(event);
            assert.equal(row.status, 'done', row.last_error);
        });
    }
});
