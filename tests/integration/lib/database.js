// SPDX-License-Identifier: MIT
// Looks into the server's database while it runs. The server alone may write and checkpoint, so
// connections from here are read-only and short.

const { emitWarning } = process;
process.emitWarning = (warning, ...rest) =>
    String(warning).includes('SQLite is an experimental feature')
        ? undefined
        : emitWarning.call(process, warning, ...rest);
export const { DatabaseSync } = await import('node:sqlite');

/** All rows of a SELECT, as plain objects. With bigints, integers come as BigInt. */
export function readRows(file, sql, parameters = [], { bigints = false } = {}) {
    const database = new DatabaseSync(file, { readOnly: true, timeout: 5000 });

    try {
        const statement = database.prepare(sql);
        statement.setReadBigInts(bigints);
        return statement.all(...parameters).map((row) => ({ ...row }));
    } finally {
        database.close();
    }
}

/**
 * Change a database behind its server's back. Meant for one that rests; beside a running server only
 * for what can't be brought about otherwise, and then this connection never checkpoints.
 */
export function changeRows(file, sql, parameters = []) {
    const database = new DatabaseSync(file, { timeout: 5000 });

    try {
        database.exec('PRAGMA wal_autocheckpoint = 0');
        return database.prepare(sql).run(...parameters).changes;
    } finally {
        database.close();
    }
}

/** Make a database that rests larger: events that are done, each with some 8 KB of payload. */
export function fillDatabase(file, mebibytes) {
    const database = new DatabaseSync(file, { timeout: 5000 });

    try {
        database.exec('PRAGMA secure_delete = ON; PRAGMA synchronous = OFF');
        database
            .prepare(
                `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
                INSERT INTO workos_events (id, event, object_id, received_at, status, attempts, payload, _created_us)
                SELECT 'event_filling_' || i, 'session.created', 'session_filling_' || i, 0, 'done', 0,
                    hex(randomblob(4000)), 0 FROM n`,
            )
            .run(mebibytes * 128);
    } finally {
        database.close();
    }
}
