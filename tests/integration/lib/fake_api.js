// SPDX-License-Identifier: MIT
// WorkOS's API as a test wants it: a small HTTP server with users, organizations, memberships,
// invitations, the feed of events and the webhook endpoints, which misbehaves on demand.
//
//     const api = await startFakeApi(t);
//     const server = await startServer(t, { env: api.env });
//
// State. api.users, .organizations, .memberships and .invitations are Maps of id -> object. Their
// add(fields), update(id, fields) and remove(id) also append the event that WorkOS would send to
// api.events, and return it in the form of a webhook, so that a test can deliver it or not:
//
//     const event = api.users.add({ email: 'ada@example.com' });     // event.data is the user
//     await server.deliver(api.users.update(event.data.id, { first_name: 'Ada' }));
//     api.users.remove(event.data.id, { trimmed: true });            // data: object and id alone
//
// Their last argument says how it happens: silent (no event in the feed), trimmed, and what else the
// event shall have (id, created_at, context). api.emit(type, data, how) appends any other event;
// how.before places it in front of an event that is already there, as one that becomes visible late.
//
// Time. Everything is stamped with api.now(). With { start: '2026-01-12T20:17:47.000Z' } that is a
// clock of the test's own: a second passes with every change, api.advance(ms) lets more pass, and
// ids are counted (user_00000000000000000000000001). Without, it is the real time and ids are new.
//
// The API. GET of /user_management/users, /organizations, /user_management/organization_memberships
// (organization_id or user_id is needed, as by the official SDK's types; api.membershipsNeedFilter),
// /user_management/invitations, each also with /{id}; limit, after, before, order. GET /events with
// events=a,b or events[]=a&events[]=b. GET and POST /webhook_endpoints, PATCH and DELETE of
// /webhook_endpoints/{id}. What WorkOS doesn't document is a property, see the constructor.
// api.routes has further answers: api.routes.set('GET /sso/jwks/x', (request) => ({ body: {} })).
//
// Faults. api.fail(where, fault, times) makes the next requests go wrong; where is the beginning of
// a path, a RegExp on 'METHOD /path?query', or a function of the request. See faults below.
//
//     api.fail('/events', faults.rateLimited(1), 2);
//     api.fail('/user_management/users', faults.cut());
//     api.before('/user_management/users', () => api.users.remove(id));   // between two pages
//
// api.requests is the log: { method, path, query, userAgent, authorization, body, status, at } each.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';

import { CreateWebhookEndpointEvents } from '@workos-inc/node';

import { atEnd, until } from './harness.js';
import { isoTime, newId, newUser } from './workos.js';

const DAY_MS = 24 * 60 * 60 * 1000;

/** What can go wrong with an answer. Unless said otherwise, the answer would have been a good one. */
export const faults = {
    /** Any status, with a body that is text or becomes JSON. */
    status: (status, body = { message: http.STATUS_CODES[status] }, headers = {}) => ({
        status,
        body,
        headers,
    }),

    /** 429. Retry-After: seconds, a Date, text as it is, or none. */
    rateLimited: (retryAfter, body = { message: 'Too many requests' }) => ({
        status: 429,
        body,
        headers:
            retryAfter === undefined
                ? {}
                : {
                      'Retry-After':
                          retryAfter instanceof Date
                              ? retryAfter.toUTCString()
                              : String(retryAfter),
                  },
    }),

    /** The body is a JSON string, as WorkOS's rate limiter is known to answer. */
    bareString: (status = 429, text = 'Ratelimited') => ({
        status,
        text: JSON.stringify(text),
    }),

    /** What a proxy in front of WorkOS answers. */
    html: (status = 502) => ({
        status,
        type: 'text/html',
        text: `<html><head><title>${status}</title></head><body><h1>${status}</h1></body></html>\n`,
    }),

    /** 200, but cut JSON, or the text that is given. */
    invalidJson: (text = '{"object":"list","data":[{"object":"us') => ({ text }),

    /** The body comes a byte at a time. */
    slow: (msPerByte = 1000) => ({ msPerByte }),

    /** The connection ends in the middle of the body. */
    cut: () => ({ cut: true }),

    /** The connection ends before any answer. */
    reset: () => ({ reset: true }),

    /** No answer, ever. */
    silent: () => ({ silent: true }),

    /** Content-Length is that much more (the connection ends early) or less (bytes are left over). */
    wrongLength: (by) => ({ lengthBy: by }),

    /** The answer is a good one, with an unknown member of so many bytes. */
    huge: (bytes) => ({ padding: bytes }),

    /** The answer comes so much later. */
    delay: (ms) => ({ delayMs: ms }),

    /** A page has at most so many objects, whatever was asked for. */
    pageSize: (size) => ({ pageSize: size }),
};

/** An answer that isn't 200; thrown by what makes answers. */
class Refusal extends Error {
    constructor(status, body) {
        super(body.message);
        this.answer = { status, body };
    }
}

const invalid = (field, code, message = 'Validation failed') =>
    new Refusal(422, { message, code: 'unprocessable_entity', errors: [{ field, code }] });

/** Oldest first; of one moment, by id. */
const byAge = (a, b) =>
    a.created_at < b.created_at || (a.created_at === b.created_at && a.id < b.id) ? -1 : 1;

/** Where `item` is, or would be, in a list that is sorted by age. */
function position(list, item) {
    let low = 0;
    let high = list.length;

    while (low < high) {
        const middle = (low + high) >> 1;
        if (byAge(list[middle], item) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

/** Objects of one kind: a Map of id -> object whose changes are told by events. */
class Collection extends Map {
    #api;
    #kind;
    #make;
    #sorted;
    #places = new Map(); // of everything that was ever here: a cursor outlives its object

    constructor(api, kind, make) {
        super();
        this.#api = api;
        this.#kind = kind;
        this.#make = make;
    }

    set(id, object) {
        this.#sorted = undefined;
        this.#places.set(id, { id, created_at: object.created_at });
        return super.set(id, object);
    }

    delete(id) {
        this.#sorted = undefined;
        return super.delete(id);
    }

    /** All objects, oldest first. */
    sorted() {
        this.#sorted ??= [...this.values()].sort(byAge);
        return this.#sorted;
    }

    place(id) {
        return this.#places.get(id);
    }

    add(fields = {}, how = {}) {
        this.#api.tick();
        const object = this.#make(fields);
        this.set(object.id, object);
        return this.#api.emit(`${this.#kind}.created`, object, how);
    }

    /** Many at once, without events: users that were there before. Returns the objects. */
    addExisting(count, fields = () => ({})) {
        return Array.from(
            { length: count },
            (_, i) => this.add(fields(i), { silent: true }).data,
        );
    }

    /** The type is kind.updated, unless how.type says otherwise (invitation.accepted). */
    update(id, fields = {}, { type = `${this.#kind}.updated`, ...how } = {}) {
        const old = this.get(id);
        assert.ok(old, `there is no ${this.#kind} ${id}`);
        this.#api.tick();
        const updated_at = isoTime(Math.max(this.#api.now(), Date.parse(old.updated_at) + 1));
        const object = { ...old, updated_at, ...fields };
        this.set(id, object);
        return this.#api.emit(type, object, how);
    }

    remove(id, { trimmed = false, ...how } = {}) {
        const object = this.get(id);
        assert.ok(object, `there is no ${this.#kind} ${id}`);
        this.#api.tick();
        this.delete(id);
        return this.#api.emit(
            `${this.#kind}.deleted`,
            trimmed ? { object: object.object, id } : object,
            how,
        );
    }
}

export class FakeApi {
    #server;
    #faults = [];
    #hooks = [];
    #clock;
    #counted = 0;
    #eventRecords = new Map(); // id -> { event, recordedAt }

    constructor({ key = 'sk_test_fake_api', start, tls } = {}) {
        this.key = key;
        this.isTls = tls !== undefined;
        this.#clock = start === undefined ? undefined : Date.parse(start);

        this.events = []; // in the feed's order; as webhooks, without "object"
        this.endpoints = new Map();
        this.requests = [];
        this.routes = new Map();

        // What nobody has written down, or what depends on the account.
        this.holdBackMs = 0; // so long a new event isn't in the feed yet
        this.retentionDays = 90; // older events are gone
        this.daysPerRequest = Infinity; // of events in one answer, counted from its beginning
        // /events with a cursor that it doesn't know: the status, or 'ignored', as if there were none.
        this.unknownCursor = 404;
        // A list with a cursor whose object is gone: it goes on from where that was, or a status.
        this.deletedCursor = 'position';
        this.maxPageSize = 100;
        this.membershipsNeedFilter = true;
        this.webhookTypes = new Set(Object.values(CreateWebhookEndpointEvents));
        this.hidesSecrets = false; // but for POST: whsec_12****, as the emulator does
        // The 422 of /webhook_endpoints for types that it doesn't know.
        this.unknownTypes = (refused) => ({
            message: 'Validation failed',
            code: 'unprocessable_entity',
            errors: refused.map(({ type, index }) => ({
                field: `events.${index}`,
                code: 'invalid_event',
                message: `'${type}' is not a valid webhook event`,
            })),
        });

        this.users = new Collection(this, 'user', (fields) => ({
            ...newUser({ ...this.#identity('user', fields), ...fields }),
        }));
        this.organizations = new Collection(this, 'organization', (fields) => ({
            object: 'organization',
            ...this.#identity('org', fields),
            name: 'Acme',
            allow_profiles_outside_organization: false,
            domains: [],
            stripe_customer_id: null,
            external_id: null,
            metadata: {},
            ...fields,
        }));
        this.memberships = new Collection(this, 'organization_membership', (fields) => ({
            object: 'organization_membership',
            ...this.#identity('om', fields),
            user_id: this.#id('user'),
            organization_id: this.#id('org'),
            organization_name: this.organizations.get(fields.organization_id)?.name ?? 'Acme',
            role: { slug: 'member' },
            roles: [{ slug: 'member' }],
            status: 'active',
            directory_managed: false,
            custom_attributes: {},
            ...fields,
        }));
        this.invitations = new Collection(this, 'invitation', (fields) => ({
            object: 'invitation',
            ...this.#identity('invitation', fields),
            email: 'invited@example.com',
            state: 'pending',
            accepted_at: null,
            revoked_at: null,
            expires_at: isoTime(this.now() + 7 * DAY_MS),
            organization_id: null,
            inviter_user_id: null,
            accepted_user_id: null,
            role_slug: null,
            token: 'Z1uX3RbwcIl5fIGJJJCXXisdI',
            accept_invitation_url: 'https://example.com/invite?token=Z1uX3RbwcIl5fIGJJJCXXisdI',
            ...fields,
        }));
        this.#server = tls
            ? https.createServer(tls, (request, response) => this.#take(request, response))
            : http.createServer((request, response) => this.#take(request, response));
    }

    async listen() {
        this.#server.listen(0, '127.0.0.1');
        await once(this.#server, 'listening');
        this.port = this.#server.address().port;
        this.url = `${this.isTls ? 'https' : 'http'}://127.0.0.1:${this.port}`;
        return this;
    }

    /** From now on nobody listens there; start() again with listen(). */
    async close() {
        const closed = new Promise((resolve) => this.#server.close(resolve));
        this.#server.closeAllConnections();
        await closed;
    }

    /** The variables with which authkitd finds this API. */
    get env() {
        return {
            WORKOS_API_KEY: this.key,
            WORKOS_API_HOSTNAME: '127.0.0.1',
            WORKOS_API_PORT: String(this.port),
            WORKOS_API_HTTPS: String(this.isTls),
        };
    }

    // ----------------------------------------------------------------------------- time and ids

    now() {
        return this.#clock ?? Date.now();
    }

    /** Let time pass; only with a clock of one's own. */
    advance(ms) {
        assert.notEqual(this.#clock, undefined, 'the clock is real: startFakeApi(t, { start })');
        this.#clock += ms;
    }

    tick() {
        if (this.#clock !== undefined) this.#clock += 1000;
    }

    #id(prefix) {
        if (this.#clock === undefined) return newId(prefix);
        this.#counted += 1;
        return `${prefix}_${String(this.#counted).padStart(26, '0')}`;
    }

    #identity(prefix, fields) {
        const created_at = fields.created_at ?? isoTime(this.now());
        return {
            id: fields.id ?? this.#id(prefix),
            created_at,
            updated_at: fields.updated_at ?? created_at,
        };
    }

    // ----------------------------------------------------------------------------- events

    /**
     * Append an event to the feed, and return it as its webhook would be. how: id, created_at,
     * context; silent: it isn't in the feed; before: the id of the event in front of which it stands.
     */
    emit(type, data, { silent = false, before, ...fields } = {}) {
        const event = {
            id: this.#id('event'),
            data: structuredClone(data),
            event: type,
            context: { client_id: 'client_01JZ' },
            created_at: isoTime(this.now()),
            ...fields,
        };

        if (silent) return event;
        const at =
            before === undefined
                ? this.events.length
                : this.events.findIndex((other) => other.id === before);
        assert.ok(at >= 0, `there is no event ${before}`);
        this.events.splice(at, 0, event);
        this.#eventRecords.set(event.id, { event, recordedAt: this.now() });
        return event;
    }

    /** Events that the feed shows now, in its order. */
    visibleEvents() {
        const oldest = this.now() - this.retentionDays * DAY_MS;
        return this.events.filter(
            (event) =>
                Date.parse(event.created_at) >= oldest &&
                this.now() - (this.#eventRecords.get(event.id)?.recordedAt ?? 0) >= this.holdBackMs,
        );
    }

    #listEvents({ query, limit }) {
        const types = [
            ...query.getAll('events').flatMap((list) => list.split(',')),
            ...query.getAll('events[]'),
        ].filter((type) => type !== '');
        const [after, before, start, end] = ['after', 'before', 'range_start', 'range_end'].map(
            (name) => query.get(name) ?? undefined,
        );

        if (types.length === 0)
            throw new Refusal(422, {
                message: 'Validation failed',
                errors: [{ code: 'required', field: 'events' }],
            });
        if (after !== undefined && start !== undefined)
            throw new Refusal(400, {
                message: 'after and range_start are mutually exclusive',
                code: 'invalid_request',
            });
        for (const [name, text] of Object.entries({ range_start: start, range_end: end }))
            if (text !== undefined && Number.isNaN(Date.parse(text)))
                throw invalid(name, 'invalid_date');

        let events = this.visibleEvents();
        const cursorAt = (id) => {
            const at = events.findIndex((event) => event.id === id);
            if (at < 0 && this.unknownCursor !== 'ignored')
                throw new Refusal(this.unknownCursor, {
                    message: `Event not found: '${id}'.`,
                    code: 'not_found',
                });
            return at;
        };
        const begin = after === undefined ? 0 : cursorAt(after) + 1;
        const stop = before === undefined ? -1 : cursorAt(before);
        events = events.slice(begin, stop < 0 ? undefined : stop);
        if (start !== undefined)
            events = events.filter((event) => Date.parse(event.created_at) >= Date.parse(start));
        if (end !== undefined)
            events = events.filter((event) => Date.parse(event.created_at) < Date.parse(end));
        if (events.length > 0) {
            const last =
                Date.parse(start ?? events[0].created_at) + this.daysPerRequest * DAY_MS;
            events = events.filter((event) => !(Date.parse(event.created_at) >= last));
        }
        events = events.filter((event) => types.includes(event.event));
        const page = events.slice(0, limit);
        return {
            body: {
                object: 'list',
                data: page.map((event) => ({ object: 'event', ...event })),
                list_metadata: { after: events.length > limit ? page.at(-1).id : null },
            },
        };
    }

    // ----------------------------------------------------------------------------- lists

    #list(all, placeOf, { query, limit }, filter = () => true) {
        const order = query.get('order') ?? 'normal';
        if (!['asc', 'desc', 'normal'].includes(order)) throw invalid('order', 'invalid');
        // "normal" is newest first, where after leads to newer objects and before to older ones.
        const [after, before] =
            order === 'normal'
                ? [query.get('before'), query.get('after')]
                : [query.get('after'), query.get('before')];
        const ascending = order === 'asc';
        const edge = (id, isLow = true) => {
            const place = placeOf(id);
            const isGone = place && all[position(all, place)]?.id !== id;
            if (!place || (isGone && this.deletedCursor !== 'position'))
                throw new Refusal(place ? this.deletedCursor : 422, {
                    message: `Invalid cursor: '${id}'.`,
                    code: 'invalid_cursor',
                });
            // low is behind the cursor's object, high in front of it.
            return position(all, place) + (isLow && !isGone ? 1 : 0);
        };
        let low = 0;
        let high = all.length;

        const [lower, upper] = ascending ? [after, before] : [before, after];
        if (lower !== null) low = edge(lower);
        if (upper !== null) high = edge(upper, false);
        const found = all.slice(low, Math.max(low, high)).filter(filter);
        if (!ascending) found.reverse();
        // Towards "before", the page is the one next to the cursor.
        const isBackwards = before !== null && after === null;
        const page = isBackwards ? found.slice(-limit) : found.slice(0, limit);
        const isMore = found.length > limit;
        const first = page[0]?.id ?? null;
        const last = page.at(-1)?.id ?? null;
        const hasNext = isBackwards ? true : isMore;
        const hasPrevious = isBackwards ? isMore : after !== null;
        const metadata = { before: hasPrevious ? first : null, after: hasNext ? last : null };

        return {
            body: {
                object: 'list',
                data: page,
                list_metadata:
                    order === 'normal'
                        ? { before: metadata.after, after: metadata.before }
                        : metadata,
            },
        };
    }

    #listOf(collection, request, filters = []) {
        const wanted = filters.filter((name) => request.query.has(name));
        return this.#list(collection.sorted(), (id) => collection.place(id), request, (object) =>
            wanted.every((name) => object[name] === request.query.get(name)),
        );
    }

    #listUsers(request) {
        const organization = request.query.get('organization_id');
        const members = new Set(
            [...this.memberships.values()]
                .filter((membership) => membership.organization_id === organization)
                .map((membership) => membership.user_id),
        );
        const email = request.query.get('email');
        return this.#list(
            this.users.sorted(),
            (id) => this.users.place(id),
            request,
            (user) =>
                (organization === null || members.has(user.id)) &&
                (email === null || user.email === email),
        );
    }

    #listMemberships(request) {
        if (
            this.membershipsNeedFilter &&
            !request.query.has('organization_id') &&
            !request.query.has('user_id')
        )
            throw new Refusal(422, {
                message: 'Either user_id or organization_id is required.',
                code: 'unprocessable_entity',
            });
        return this.#listOf(this.memberships, request, ['organization_id', 'user_id']);
    }

    // ----------------------------------------------------------------------------- endpoints

    #shownEndpoint(endpoint) {
        const secret = this.hidesSecrets ? `${endpoint.secret.slice(0, 8)}****` : endpoint.secret;
        return { ...endpoint, secret };
    }

    #checkEndpoint({ endpoint_url, events, status }, id) {
        if (endpoint_url !== undefined) {
            if (!/^https?:\/\/./.test(endpoint_url)) throw invalid('endpoint_url', 'invalid_url');
            for (const other of this.endpoints.values())
                if (other.endpoint_url === endpoint_url && other.id !== id)
                    throw new Refusal(409, {
                        message: 'A Webhook Endpoint with the same endpoint URL already exists.',
                        code: 'webhook_endpoint_already_exists',
                    });
        }
        if (status !== undefined && !['enabled', 'disabled'].includes(status))
            throw invalid('status', 'invalid');
        if (events === undefined) return;
        if (!Array.isArray(events) || events.length === 0) throw invalid('events', 'required');
        const refused = events
            .map((type, index) => ({ type, index }))
            .filter(({ type }) => !this.webhookTypes.has(type));
        if (refused.length > 0) throw new Refusal(422, this.unknownTypes(refused));
    }

    /** As if it had been made in the dashboard. */
    addEndpoint(fields) {
        this.tick();
        const now = isoTime(this.now());
        const endpoint = {
            object: 'webhook_endpoint',
            id: this.#id('we'),
            endpoint_url: 'https://example.com/webhooks',
            secret: `whsec_${this.#id('x').slice(2, 27)}`,
            status: 'enabled',
            events: ['user.created'],
            created_at: now,
            updated_at: now,
            ...fields,
        };
        this.endpoints.set(endpoint.id, endpoint);
        return endpoint;
    }

    #createEndpoint({ json }) {
        if (json.endpoint_url === undefined) throw invalid('endpoint_url', 'required');
        if (json.events === undefined) throw invalid('events', 'required');
        this.#checkEndpoint(json);
        const { endpoint_url, events } = json;
        return { status: 201, body: this.addEndpoint({ endpoint_url, events }) };
    }

    #changeEndpoint({ method, path, json }) {
        const id = path.slice('/webhook_endpoints/'.length);
        const endpoint = this.endpoints.get(id);

        if (!endpoint)
            throw new Refusal(404, {
                message: `Webhook Endpoint not found: '${id}'.`,
                code: 'entity_not_found',
            });
        if (method === 'DELETE') {
            this.endpoints.delete(id);
            return { status: 204 };
        }
        this.#checkEndpoint(json, id);
        for (const name of ['endpoint_url', 'events', 'status'])
            if (json[name] !== undefined) endpoint[name] = json[name];
        this.tick();
        endpoint.updated_at = isoTime(this.now());
        return { body: this.#shownEndpoint(endpoint) };
    }

    #listEndpoints(request) {
        const all = [...this.endpoints.values()].sort(byAge);
        const answer = this.#list(all, (id) => this.endpoints.get(id), request);
        answer.body.data = answer.body.data.map((endpoint) => this.#shownEndpoint(endpoint));
        return answer;
    }

    // ----------------------------------------------------------------------------- answers

    #limit(query, pageSize) {
        const text = query.get('limit') ?? '10';
        const limit = Number(text);
        if (!/^\d+$/.test(text) || limit < 1 || limit > 100)
            throw invalid('limit', 'invalid', 'limit must be between 1 and 100');
        return Math.min(limit, this.maxPageSize, pageSize ?? Infinity);
    }

    #answer(request, fault) {
        const { method, path, query } = request;
        const lists = {
            '/user_management/users': [this.users, () => this.#listUsers(request)],
            '/organizations': [this.organizations, () => this.#listOf(this.organizations, request)],
            '/user_management/organization_memberships': [
                this.memberships,
                () => this.#listMemberships(request),
            ],
            '/user_management/invitations': [
                this.invitations,
                () => this.#listOf(this.invitations, request, ['email', 'organization_id']),
            ],
        };

        if (request.authorization !== `Bearer ${this.key}`)
            throw new Refusal(401, {
                message: 'Could not authorize the request. Maybe your API key is invalid?',
                code: 'unauthorized',
            });
        const route = this.routes.get(`${method} ${path}`);
        if (route) return route(request);
        request.limit = this.#limit(query, fault?.pageSize);
        if (method === 'GET') {
            if (path === '/events') return this.#listEvents(request);
            if (path === '/webhook_endpoints') return this.#listEndpoints(request);
            if (lists[path]) return lists[path][1]();
            const at = path.lastIndexOf('/');
            const id = decodeURIComponent(path.slice(at + 1));
            const object = lists[path.slice(0, at)]?.[0].get(id);
            if (object) return { body: object };
            if (lists[path.slice(0, at)])
                throw new Refusal(404, {
                    message: `Not found: '${id}'.`,
                    code: 'entity_not_found',
                    entity_id: id,
                });
        }
        const call = `${method} ${path}`;
        if (call === 'POST /webhook_endpoints') return this.#createEndpoint(request);
        if (/^(PATCH|DELETE) \/webhook_endpoints\/[^/]+$/.test(call))
            return this.#changeEndpoint(request);
        throw new Refusal(404, { message: 'Not Found', error: 'Not Found' });
    }

    /** Make the next requests to `where` go wrong, after the faults that are there already. */
    fail(where, fault, times = 1) {
        this.#faults.push({ where, what: fault, times });
    }

    /** All goes well again. */
    heal() {
        this.#faults = [];
    }

    /** Do something (and wait for it) in front of the next answers to requests there. */
    before(where, action, times = 1) {
        this.#hooks.push({ where, what: action, times });
    }

    #next(list, request) {
        const entry = list.find(({ where, times }) => {
            if (times <= 0) return false;
            if (typeof where === 'function') return where(request);
            if (where instanceof RegExp) return where.test(`${request.method} ${request.target}`);
            return request.path.startsWith(where);
        });
        if (entry) entry.times -= 1;
        return entry?.what;
    }

    /** The requests of the log to paths that begin so. */
    requestsTo(path, method) {
        return this.requests.filter(
            (request) =>
                request.path.startsWith(path) && (!method || request.method === method),
        );
    }

    async waitForRequests(path, count = 1) {
        await until(`${count} requests to ${path}`, () => this.requestsTo(path).length >= count);
        return this.requestsTo(path);
    }

    async #take(message, response) {
        const url = new URL(message.url, 'http://x');
        const chunks = [];

        message.on('error', () => {});
        response.on('error', () => {});
        for await (const chunk of message) chunks.push(chunk);
        const body = Buffer.concat(chunks).toString();
        const request = {
            method: message.method,
            target: message.url,
            path: url.pathname,
            query: url.searchParams,
            headers: message.headers,
            userAgent: message.headers['user-agent'],
            authorization: message.headers.authorization,
            body,
            socket: message.socket,
            at: this.now(),
        };
        this.requests.push(request);
        const fault = this.#next(this.#faults, request);
        await this.#next(this.#hooks, request)?.(request);
        let answer;

        try {
            request.json = body === '' ? {} : JSON.parse(body);
            answer = this.#answer(request, fault);
        } catch (error) {
            if (error instanceof Refusal) answer = error.answer;
            else if (error instanceof SyntaxError)
                answer = { status: 400, body: { message: 'Problems parsing JSON' } };
            else answer = { status: 500, body: { message: String(error.stack) } };
        }
        await this.#send(request, response, answer, fault ?? {}).catch(() => {});
    }

    async #send(request, response, answer, fault) {
        const status = fault.status ?? answer.status ?? 200;
        let content = fault.body ?? answer.body;
        if (fault.padding && typeof content === 'object')
            content = { padding: 'x'.repeat(fault.padding), ...content };
        const text =
            fault.text ??
            (typeof content === 'string'
                ? content
                : content === undefined
                  ? ''
                  : JSON.stringify(content));
        const bytes = Buffer.from(text);

        request.status = fault.silent || fault.reset ? 0 : status;
        if (fault.silent) return;
        if (fault.delayMs) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
        if (fault.reset) return request.socket.destroy();
        response.writeHead(status, {
            'X-Request-ID': this.#requestId(),
            ...(status === 204
                ? {}
                : {
                      'Content-Type': fault.type ?? 'application/json; charset=utf-8',
                      'Content-Length': bytes.length + (fault.lengthBy ?? 0),
                  }),
            ...(answer.headers ?? {}),
            ...(fault.headers ?? {}),
        });
        if (fault.msPerByte) {
            response.flushHeaders();
            for (const byte of bytes) {
                if (response.destroyed) return;
                response.write(Buffer.of(byte));
                await new Promise((resolve) => setTimeout(resolve, fault.msPerByte).unref());
            }
            response.end();
        } else if (fault.cut || fault.lengthBy > 0) {
            response.write(fault.cut ? bytes.subarray(0, bytes.length >> 1) : bytes, () =>
                request.socket.destroySoon(),
            );
        } else {
            response.end(bytes);
        }
    }

    #requestId() {
        return `req_${String(this.requests.length).padStart(6, '0')}`;
    }
}

/**
 * A fake API for one test; it is gone when the test ends. options: key, start (a clock of its own,
 * see above), tls ({ key, cert }).
 */
export async function startFakeApi(t, options = {}) {
    const api = await new FakeApi(options).listen();
    atEnd(t, () => api.close());
    return api;
}
