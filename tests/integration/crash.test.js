// SPDX-License-Identifier: MIT
// kill -9 at any moment: what was acknowledged is there, once, with all its rows; what was not is
// there wholly or not at all; and nobody is accused.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { describe, load, patience, randomness, sleep, test, until } from './lib/harness.js';
import { Client } from './lib/http.js';
import { newServer, startServer, writeFile } from './lib/server.js';
import { newEvent, userCreated, userDeleted, userUpdated } from './lib/workos.js';

const KILLS = load(110, 24); // or as many as the machine makes in this time, but a third at least
const STORM_MS = patience(25_000);
const LANES = 16;
const ITEMS = 3; // rows of every event, behind where it may fail
const LAST_VERSION = 1_000_000; // what this one doesn't heal is not to be healed
const NEVER_BEFORE = 40; // events that only the last version heals

// Each is what is wrong with a script that must be refused.
const FAULTS = [
    { text: 'local x = = 1' },
    { text: 'error("broken on purpose")' },
    { text: 'local authkit = require "authkit" authkit.events { ["user.created"] = 5 }' },
    { schema: 'counters = { columns = { object_id = "integer", n = "integer" } },' },
    { schema: 'items = { columns = { event_id = "text", missing = "text" } },' },
];

/**
 * handlers.lua, as its author changes it from version to version: columns and tables are added, and
 * a table is made anew each time. An event fails until its heals_at has come.
 */
function script(version, { text = '', schema = '' } = {}) {
    const grown = version % 150;
    const names = (count, prefix) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
    const columns = names(grown, 'c').map((name) => `${name} = "text?"`);
    const tables = names(Math.floor(grown / 3), 't').map(
        (name) => `${name} = { columns = { x = "text?" }, indexes = { { "x" } } },`,
    );

    return `
local authkit = require "authkit"
local VERSION = ${version}
authkit.schema {
  visits = { columns = { event_id = "text", object_id = "text" }, indexes = { { "event_id" } } },
  counters = { columns = { object_id = "text", n = "integer" }, indexes = { { "object_id", unique = true } } },
  items = { columns = { event_id = "text", n = "integer", padding = "text?" }, indexes = { { "event_id" } } },
  rebuilt = { columns = { event_id = { type = "text", default = "${version}" } } },
  grown = { columns = { event_id = "text", ${columns.join(', ')} } },
  ${tables.join('\n  ')}
  ${schema}
}
local function run(ctx, event)
  local data = event.data
  ctx.db.insert("visits", { event_id = event.id, object_id = data.id })
  local counter = ctx.db.query("counters"):where("object_id", data.id):unique()
  if counter then
    ctx.db.patch("counters", counter._id, { n = counter.n + 1 })
  else
    ctx.db.insert("counters", { object_id = data.id, n = 1 })
  end
  if VERSION < data.heals_at then error("healed by version " .. data.heals_at .. ", not by " .. VERSION) end
  for n = 1, ${ITEMS} do
    ctx.db.insert("items", { event_id = event.id, n = n, padding = n == 2 and data.padding or nil })
  end
  if data.marked then
    ctx.db.insert("rebuilt", { event_id = event.id })
    ctx.db.insert("grown", { event_id = event.id })
  end
end
authkit.events { ["user.created"] = run, ["user.updated"] = run, ["user.deleted"] = run }
${text}`;
}

/** WorkOS and the script's author, as long as the storm lasts. */
class Storm {
    version = 1; // the newest script's
    goodVersion = 1; // the newest that isn't broken
    never = 0; // events that only LAST_VERSION heals
    sent = new Map(); // by id: the event
    acknowledged = new Set(); // ids
    lives = Array.from({ length: LANES }, () => undefined); // a user for each lane
    reloads = { loaded: 0, refused: 0, signals: 0 };
    walBytes = 0;

    constructor(server, random) {
        this.server = server;
        this.random = random;
    }

    #chance(percent) {
        return this.random.below(100) < percent;
    }

    #healsAt() {
        if (this.#chance(85)) return 0;
        if (this.never < NEVER_BEFORE && this.#chance(10)) {
            this.never++;
            return LAST_VERSION;
        }
        return this.version + 1 + this.random.below(15);
    }

    /** What becomes of the lane's user next; a new one when there is none. */
    #nextEvent(lane) {
        const user = this.lives[lane];
        const fields = {
            heals_at: this.#healsAt(),
            padding: 'x'.repeat(this.#chance(3) ? 20_000 + this.random.below(40_000) : 10),
            marked: this.#chance(5),
        };
        let event;

        if (!user || this.#chance(15)) event = userCreated(fields);
        else if (this.#chance(10)) event = userDeleted({ ...user, ...fields });
        else event = userUpdated(user, fields);
        this.lives[lane] = event.event === 'user.deleted' ? undefined : event.data;
        this.sent.set(event.id, event);
        return event;
    }

    /** Send until the server is gone. `life.isOver` says that it may go. */
    async #send(lane, life, client) {
        while (!life.isOver) {
            // Now and then WorkOS tries again what had no answer.
            const old = this.#chance(5) && this.unacknowledged().at(-1);
            const event = old || this.#nextEvent(lane);
            try {
                const answer = await this.server.post(event, { client, timeout: patience(10_000) });
                if (answer.status === 200) this.acknowledged.add(event.id);
                else assert.ok(life.isOver, `${answer.status} while it runs: ${answer.text}`);
            } catch (error) {
                if (error instanceof assert.AssertionError) throw error;
                assert.ok(life.isOver, `a request broke while the server ran: ${error}`);
                return;
            }
        }
    }

    async #reload(life, admin) {
        const fault = this.#chance(30) && FAULTS[this.random.below(FAULTS.length)];

        this.version++;
        if (!fault) this.goodVersion = this.version;
        writeFile(this.server.handlersFile, script(this.version, fault || {}));
        if (this.#chance(50)) {
            if (this.server.isRunning) this.server.signal('SIGHUP');
            this.reloads.signals++;
            return;
        }
        const answer = await admin
            .request('POST', '/reload', { headers: { 'Authkitd-Admin': '1' } })
            .catch((error) => {
                assert.ok(life.isOver, `a reload broke while the server ran: ${error}`);
            });
        if (!answer || life.isOver) return;
        assert.equal(answer.status, fault ? 422 : 200, answer.text);
        this.reloads[fault ? 'refused' : 'loaded']++;
    }

    async #keepReloading(life) {
        const admin = new Client(this.server.adminUrl);

        while (!life.isOver) {
            await this.#reload(life, admin);
            await sleep(this.random.below(patience(10)));
        }
        admin.close();
    }

    /** Everybody is at it; the function returned waits for all of them after the end. */
    #begin(life) {
        const client = this.server.newClient({ connections: LANES });
        const all = [
            ...this.lives.map((_, lane) => this.#send(lane, life, client)),
            this.#keepReloading(life),
        ];
        // A failure ends the life of all the others; who awaits it comes later.
        for (const one of all) one.catch(() => (life.isOver = true));
        return () => Promise.all(all);
    }

    async #kill() {
        if (this.server.isRunning) this.server.signal('SIGKILL');
        await this.server.ended;
        this.server.closeClients();
        const wal = `${this.server.database}-wal`;
        if (fs.existsSync(wal)) this.walBytes = Math.max(this.walBytes, fs.statSync(wal).size);
    }

    async killAtStart() {
        writeFile(this.server.handlersFile, script(this.goodVersion));
        const starting = this.server.start().catch(() => {});
        await sleep(this.random.below(patience(30)));
        await this.#kill();
        await starting;
    }

    async killAtWork({ stopFirst, thoroughly }) {
        const life = { isOver: false };

        await this.start();
        this.look({ thoroughly });
        const everybody = this.#begin(life);
        await sleep(this.random.below(patience(150)));
        life.isOver = true;
        if (stopFirst) {
            this.server.signal('SIGTERM');
            await sleep(this.random.below(patience(20)));
        }
        await this.#kill();
        await everybody();
    }

    async start() {
        writeFile(this.server.handlersFile, script(this.goodVersion));
        await this.server.start();
    }

    /** What the schemas among FAULTS are refused for are rows: there must be some before any of them comes. */
    async putFirst() {
        const event = userCreated({ heals_at: 0, padding: 'x', marked: false });

        await this.start();
        this.sent.set(event.id, event);
        await this.server.deliver(event);
        this.acknowledged.add(event.id);
        await this.#kill();
    }

    /** What holds at every moment, in one snapshot. */
    look({ thoroughly }) {
        const { server } = this;
        const check = thoroughly ? 'integrity_check' : 'quick_check';

        assert.equal(server.row(`PRAGMA ${check}`), 'ok');
        const { done, dead, suspects, ...counts } = server.row(`
            SELECT (SELECT count(*) FROM workos_events WHERE status = 'done') AS done,
                   (SELECT count(*) FROM workos_events WHERE status = 'dead') AS dead,
                   (SELECT count(*) FROM authkitd_suspects) AS suspects,
                   (SELECT count(*) FROM visits) AS visits,
                   (SELECT ifnull(sum(n), 0) FROM counters) AS counted,
                   (SELECT count(*) FROM items) AS items`);
        assert.deepEqual({ dead, suspects }, { dead: 0, suspects: 0 }, 'a kill accuses nobody');
        assert.deepEqual(
            counts,
            { visits: done, counted: done, items: ITEMS * done },
            'an event and what its function wrote are there together',
        );
    }

    unacknowledged() {
        return [...this.sent.values()].filter(({ id }) => !this.acknowledged.has(id));
    }
}

/** Every event by itself, and every user, once nothing is failed or waiting any more. */
function assertAccounts(server, sent, acknowledged) {
    const by = (key, rows) => Map.groupBy(rows, (row) => row[key]);
    const events = server.rows(`
        SELECT _seq, id, event, object_id, status, last_error, payload IS NULL AS erased
          FROM workos_events ORDER BY _seq`);
    const there = by('id', events);
    const visits = by('event_id', server.rows('SELECT _id, event_id FROM visits'));
    const items = by('event_id', server.rows('SELECT event_id, n FROM items ORDER BY n'));
    const rebuilt = by('event_id', server.rows('SELECT event_id FROM rebuilt'));
    const grown = by('event_id', server.rows('SELECT event_id FROM grown'));
    const users = by('id', server.rows('SELECT id, updated_at, raw FROM workos_users'));
    const told = (event) => `${event.event} ${event.id}`;

    for (const id of acknowledged) assert.ok(there.has(id), `the acknowledged ${id} is there`);
    for (const { id } of events) assert.ok(sent.has(id), `${id} was sent`);
    for (const event of sent.values()) {
        const count = there.get(event.id)?.length ?? 0;
        assert.ok(count <= 1, `${told(event)} is there once`);
        assert.equal(visits.get(event.id)?.length ?? 0, count, `${told(event)} has run once`);
        assert.deepEqual(
            (items.get(event.id) ?? []).map(({ n }) => n),
            count ? [1, 2, 3] : [],
            `${told(event)} is there with all its rows, or not at all`,
        );
        for (const rows of [rebuilt, grown])
            assert.equal(rows.get(event.id)?.length ?? 0, event.data.marked ? count : 0);
        if (count) {
            const { status, last_error } = there.get(event.id)[0];
            assert.deepEqual({ status, last_error }, { status: 'done', last_error: null });
        }
    }
    for (const [user, line] of by('object_id', events)) {
        const ran = line.map(({ id }) => visits.get(id)[0]._id);
        assert.deepEqual(
            ran,
            ran.toSorted((a, b) => a - b),
            `the events of ${user} ran in order of arrival`,
        );
        const versions = line.map(({ id }) => sent.get(id));
        const isDeleted = versions.some(({ event }) => event === 'user.deleted');
        const last = versions
            .filter(({ event }) => event !== 'user.deleted')
            .reduce((a, b) => (a.data.updated_at > b.data.updated_at ? a : b), versions[0]);
        const rows = users.get(user) ?? [];
        assert.deepEqual(
            rows.map(({ raw }) => JSON.parse(raw)),
            isDeleted ? [] : [last.data],
            `the mirror has the last version of ${user}`,
        );
        for (const { id, erased } of line)
            assert.equal(erased, Number(isDeleted), `what is kept of ${id}`);
    }
}

/** Nobody has left a note that accuses an event (the watchdog's is zeros when there is none). */
function assertNoNote(server) {
    const file = `${server.database}.watchdog`;

    if (fs.existsSync(file)) assert.ok(fs.readFileSync(file).every((byte) => byte === 0));
}

describe('kill -9', () => {
    test('at random: at work, at the start, at the stop, during reloads and retries', async (t) => {
        const random = randomness(t);
        const server = newServer(t, { handlers: script(1) });
        const storm = new Storm(server, random);

        const began = Date.now();
        const hasTime = () => Date.now() - began < STORM_MS;
        let kills = 0;

        await storm.putFirst();
        while (kills < KILLS && (kills < KILLS / 3 || hasTime())) {
            kills++;
            const kind = random.below(8);
            if (kind < 2) await storm.killAtStart();
            else await storm.killAtWork({ stopFirst: kind === 2, thoroughly: kills % 10 === 0 });
            assertNoNote(server);
        }

        await storm.start();
        assert.equal((await server.reload(script(LAST_VERSION))).outcome, 'loaded');
        const isSettled = () =>
            server.row("SELECT count(*) FROM workos_events WHERE status <> 'done'") === 0;
        await until('what had failed to heal', isSettled, patience(20_000));
        storm.look({ thoroughly: true });
        const { sent, acknowledged, reloads } = storm;
        const unacknowledged = storm.unacknowledged();
        t.diagnostic(
            `${kills} kills, ${acknowledged.size} acknowledged, ${unacknowledged.length} unanswered, ` +
                `${JSON.stringify(reloads)}, WAL up to ${storm.walBytes >> 10} KiB`,
        );
        assert.ok(acknowledged.size > kills); // else it has hardly ever been at work
        assertAccounts(server, sent, acknowledged);

        // WorkOS delivers what was not acknowledged again, and more than that.
        for (const event of random.shuffle([...unacknowledged, ...unacknowledged]))
            await server.deliver(event);
        await until('all of it to be done', isSettled);
        assertAccounts(server, sent, sent.keys());
        assert.equal(server.count('workos_events'), sent.size);
    });

    test('in the middle of a function leaves nothing of it, and the event may come again', async (t) => {
        const server = await startServer(t, {
            handlers: `
                local authkit = require "authkit"
                authkit.schema { marks = { columns = { mark = "text" } } }
                authkit.events { ["user.created"] = function(ctx, event)
                  ctx.db.insert("marks", { mark = event.id })
                  if event.data.first_name == "slow" then
                    print("in the middle")
                    local stop = ctx.now() + 700
                    while ctx.now() < stop do end
                  end
                end }`,
        });
        const event = userCreated({ first_name: 'slow' });
        const request = server.post(event).catch(() => 'broken');
        await server.waitForLog('in the middle');
        await server.kill();
        assert.equal(await request, 'broken');
        await server.start();
        assert.equal(server.count('workos_events'), 0);
        assert.equal(server.count('marks'), 0);
        await server.deliver(event);
        assert.equal(server.count('workos_events'), 1);
    });
});
