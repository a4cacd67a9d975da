-- What every peer's database is: WAL, a COMMIT is on disk, and the same three tables.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -6000;

CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY,
    event TEXT NOT NULL,
    received_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY,
    email TEXT,
    first_name TEXT,
    last_name TEXT,
    external_id TEXT,
    created_at TEXT,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS todo_lists (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    user_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS todo_lists_user_id ON todo_lists (user_id);
