// SPDX-License-Identifier: MIT
// WorkOS's side of the wire: its objects and events, signed by its official SDK.

import { WorkOS } from '@workos-inc/node';

export const WEBHOOK_SECRET = 'whsec_0FWAiVGkEfGBqqsJH4aNAGBJ4';
export const ACTION_SECRET = 'actsec_9fTq2LmVbXcRzYhKsWnDpEgUj';

export const sdk = new WorkOS('sk_test_integration', { clientId: 'client_integration' });

/** The value of the WorkOS-Signature header. The time is in milliseconds, as WorkOS sends it. */
export async function signature(body, { secret = WEBHOOK_SECRET, time = Date.now() } = {}) {
    const digest = await sdk.webhooks.computeSignature(String(time), body, secret);
    return `t=${time}, v1=${digest}`;
}

const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const inBase32 = (number, digits) => {
    let text = '';
    for (let n = BigInt(number); digits > 0; digits--, n /= 32n)
        text = CROCKFORD[Number(n % 32n)] + text;
    return text;
};

const run = BigInt(Math.floor(Math.random() * 2 ** 40));
let made = 0n;

/** An id as WorkOS makes them, "user_01K…"; a later one sorts behind an earlier one. */
export function newId(prefix) {
    made += 1n;
    return `${prefix}_${inBase32(Date.now(), 10)}${inBase32(made, 8)}${inBase32(run, 8)}`;
}

/** A moment as the API writes it. */
export const isoTime = (ms = Date.now()) => new Date(ms).toISOString();

export function newUser(fields = {}) {
    const id = fields.id ?? newId('user');
    const now = isoTime();

    return {
        object: 'user',
        id,
        email: `${id.toLowerCase()}@example.com`,
        email_verified: true,
        name: 'Ada Lovelace',
        first_name: 'Ada',
        last_name: 'Lovelace',
        profile_picture_url: 'https://workoscdn.com/images/v1/ada.png',
        last_sign_in_at: '2026-01-12T20:17:47.677Z',
        external_id: `ext_${id}`,
        locale: 'en-GB',
        metadata: { plan: 'team', seats: '12' },
        created_at: now,
        updated_at: now,
        ...fields,
    };
}

/** The envelope of a webhook: these members, in this order. */
export function newEvent(type, data, fields = {}) {
    return {
        id: newId('event'),
        data,
        event: type,
        context: {
            client_id: 'client_01JZ',
            actor: { id: 'admin_1', source: 'dashboard', name: null },
        },
        created_at: isoTime(),
        ...fields,
    };
}

export const userCreated = (fields = {}, envelope = {}) =>
    newEvent('user.created', newUser(fields), envelope);

/** The user's next version, a second later unless told otherwise. */
export function userUpdated(user, fields = {}, envelope = {}) {
    const updated_at = isoTime(Date.parse(user.updated_at) + 1000);
    return newEvent('user.updated', { ...user, updated_at, ...fields }, envelope);
}

export const userDeleted = (user, envelope = {}) => newEvent('user.deleted', { ...user }, envelope);

export function newOrganization(fields = {}) {
    const id = fields.id ?? newId('org');
    const now = isoTime();

    return {
        object: 'organization',
        id,
        name: 'Foo Corp',
        allow_profiles_outside_organization: false,
        domains: [
            {
                object: 'organization_domain',
                id: newId('org_domain'),
                domain: 'foo-corp.com',
                organization_id: id,
                state: 'verified',
                verification_strategy: 'dns',
                verification_prefix: 'superapp-domain-verification-z3kjny',
                created_at: now,
                updated_at: now,
            },
        ],
        stripe_customer_id: 'cus_R9qWAGMQ6nGE7V',
        external_id: `ext_${id}`,
        metadata: { tier: 'diamond' },
        created_at: now,
        updated_at: now,
        ...fields,
    };
}

export function newMembership(fields = {}) {
    const now = isoTime();

    return {
        object: 'organization_membership',
        id: newId('om'),
        user_id: newId('user'),
        organization_id: newId('org'),
        organization_name: 'Foo Corp',
        role: { slug: 'admin' },
        roles: [{ slug: 'admin' }, { slug: 'billing' }],
        status: 'active',
        directory_managed: false,
        custom_attributes: { department: 'Engineering' },
        created_at: now,
        updated_at: now,
        ...fields,
    };
}

export function newInvitation(fields = {}) {
    const id = fields.id ?? newId('invitation');
    const now = isoTime();

    return {
        object: 'invitation',
        id,
        email: `${id.toLowerCase()}@example.com`,
        state: 'pending',
        accepted_at: null,
        revoked_at: null,
        expires_at: isoTime(Date.parse(now) + 7 * 86_400_000),
        organization_id: newId('org'),
        inviter_user_id: newId('user'),
        accepted_user_id: null,
        role_slug: 'member',
        created_at: now,
        updated_at: now,
        ...fields,
    };
}

/** The object's next version, a second later. */
export function changed(type, object, fields = {}) {
    const updated_at = isoTime(Date.parse(object.updated_at) + 1000);
    return newEvent(type, { ...object, updated_at, ...fields });
}

export const sessionCreated = (fields = {}) =>
    newEvent('session.created', {
        object: 'session',
        id: newId('session'),
        user_id: newId('user'),
        ip_address: '203.0.113.7',
        user_agent: 'Mozilla/5.0',
        status: 'active',
        created_at: isoTime(),
        updated_at: isoTime(),
        ...fields,
    });

export function registrationAction(userData = {}, fields = {}) {
    return {
        id: newId('user_registration_action'),
        object: 'user_registration_action_context',
        user_data: {
            object: 'user_data',
            email: 'grace@example.com',
            name: 'Grace Hopper',
            first_name: 'Grace',
            last_name: 'Hopper',
            ...userData,
        },
        ip_address: '203.0.113.7',
        user_agent: 'Mozilla/5.0',
        device_fingerprint: 'df_1',
        ...fields,
    };
}

export function authenticationAction(user = {}, fields = {}) {
    return {
        id: newId('authentication_action'),
        object: 'authentication_action_context',
        user: newUser(user),
        ip_address: '203.0.113.7',
        user_agent: 'Mozilla/5.0',
        issuer: 'https://api.workos.com',
        ...fields,
    };
}
