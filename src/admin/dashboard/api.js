// SPDX-License-Identifier: MIT
// The server, asked. Whoever isn't signed in any more gets the page to sign in with.

export class Refused extends Error {
    constructor(status, message, value) {
        super(message);
        this.status = status;
        this.value = value; // the whole answer
    }
}

export class Unreachable extends Error {}

/** Whether there is none, or can't be by that id; not that it couldn't be looked for just now. */
export const isAbsent = (error) =>
    error instanceof Refused && (error.status === 404 || error.status === 400);

async function call(path, options) {
    let answer;
    let text;
    try {
        answer = await fetch(path, {
            ...options,
            signal: AbortSignal.timeout(options?.method ? 600_000 : 10_000),
        });
        text = await answer.text();
    } catch (error) {
        throw new Unreachable('authkitd can’t be reached', { cause: error });
    }
    if (answer.status === 401) {
        location.reload();
        return new Promise(() => {});
    }
    return { answer, text };
}

function read({ answer, text }) {
    let value = {};
    try {
        value = JSON.parse(text);
    } catch {
        // What isn't JSON has no words of its own.
    }
    if (!answer.ok)
        throw new Refused(
            answer.status,
            value.error?.message ?? `the server answered ${answer.status}`,
            value,
        );
    return value;
}

/** path`/api/users/${id}`: what is put in is encoded. */
export const path = (texts, ...values) =>
    texts.reduce((all, text, i) => all + encodeURIComponent(values[i - 1]) + text);

/** Parameters without a value are left out. */
export function query(parameters) {
    const given = Object.entries(parameters).filter(
        ([, value]) => value !== undefined && value !== null && value !== '',
    );
    return given.length ? `?${new URLSearchParams(given)}` : '';
}

export const get = async (where) => read(await call(where));

export const getText = async (where) => {
    const { answer, text } = await call(where);
    return answer.ok ? text : '';
};

export const post = async (where, body) =>
    read(
        await call(where, {
            method: 'POST',
            headers: { 'Authkitd-Admin': '1', 'Content-Type': 'application/json' },
            body: body === undefined ? undefined : JSON.stringify(body),
        }),
    );
