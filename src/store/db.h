/* SPDX-License-Identifier: MIT */
/*
 * db - a connection to the database file, and statements on it. The only room that knows SQLite.
 *
 * The writer's connection: WAL with synchronous=FULL, so that a COMMIT that returned is on disk; it
 * alone checkpoints (SQLite before 3.51.3 can corrupt a WAL when two connections do), and only when
 * it is asked to or closed. A reader's: read-only, never checkpoints.
 *
 * What is deleted is gone: overwritten in its page (secure_delete), with every stray copy when the
 * page goes into the file (wipe.h), and in the WAL once that is emptied (db_scrub_wal).
 *
 * Threads    a connection and its statements belong to one thread at a time.
 * Ownership  statements are freed by stmt_free, or with their connection by db_close (which frees
 *            the ones that are left). Text and blobs from stmt_text live until the statement's
 *            next step or reset. Texts that are bound are not copied.
 * Errors     the text is SQLite's own, the statement or the file named where it helps; of a damaged file it
 *            also says what to do. Codes:
 *              ERR_CONFLICT  a constraint refused a row ("UNIQUE constraint failed: t.c")
 *              ERR_FULL      the disk (or the file's size limit, or a quota) is full
 *              ERR_FATAL     I/O error, fsync failed, file corrupt or not a database
 *              ERR_BUSY      somebody else holds the lock
 *              ERR_LIMIT     the interrupt callback ended it, or it wanted more memory than
 *                            memory_limit allows; like NOMEM, that ends a transaction
 *              ERR_NOMEM     memory ran out
 *              ERR_INVALID   everything else: the SQL is wrong; also a write on a reader
 *            FULL, FATAL and NOMEM are also kept as the connection's trouble (db_trouble), since
 *            SQLite may have rolled back the whole transaction by then and whoever asked may not
 *            be whom it concerns.
 * Limits     a text, a blob and a row: 64 MiB. "x" is a name, never a string.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct stmt;

enum db_mode {
    DB_WRITER,
    DB_READER,
    DB_TARGET, /* of copy.h: a new file that nobody else knows, filled without a single sync */
};

/* DB_WRITER creates the file (mode 0600) when it isn't there; the others never do (ERR_ABSENT).
 * ERR_IO: it can't be opened, or isn't a file; ERR_FATAL: it isn't a database, or is corrupt;
 * ERR_INVALID: there is a WAL beside it that isn't its own (a file was put in another's place). */
int db_open(struct db **out, const char *path, enum db_mode mode, struct err *err) MUST_CHECK;
void db_close(struct db *db); /* NULL is fine */

/* What stands in the file's header, with nothing made beside the file, as db_open must. All 0 where that
 * doesn't tell: it is empty or no database, or a WAL is there, which may say something else. */
struct db_header {
    int64_t user_version, application_id;
};
int db_peek(const char *path, struct db_header *out, struct err *err) MUST_CHECK;

/* One or more statements without parameters or results. */
int db_exec(struct db *db, const char *sql, struct err *err) MUST_CHECK;

/* The number in the only row of a SELECT or PRAGMA; 0 when there is no row. */
int db_read_int(struct db *db, const char *sql, int64_t *out, struct err *err) MUST_CHECK;

bool db_in_transaction(const struct db *db);

/* Rows changed since the connection was opened; unchanged means that nothing was written. */
int64_t db_total_changes(const struct db *db);
int64_t db_last_insert_rowid(const struct db *db);

/*
 * Another number whenever rows may have become others than this connection's own statements have made
 * them: a rollback, to a savepoint as well, or somebody else's commit. What is remembered of the rows
 * holds while this stays the same.
 */
uint64_t db_undo_mark(const struct db *db);

/* True while rows refer to rows that aren't there and the check was put off (DEFERRABLE): COMMIT
 * would fail. */
bool db_has_broken_references(const struct db *db);

/*
 * While held, the open transaction is its owner's: SQL that would begin or end one, or attach a
 * file, is refused (ERR_INVALID). And SQLite itself ends a transaction on some errors (an
 * interrupted INSERT, INSERT OR ROLLBACK): then that error is kept as the trouble, whatever its
 * code, and answers every later statement, which would otherwise run and commit on its own.
 */
void db_hold_transaction(struct db *db, bool held);

/* A DB_READER that reads again and again: it keeps its lock on the WAL in between (lease.h), until
 * db_end_kept_locks, which whoever has read calls before he waits for anything. */
void db_keep_locks(struct db *db);
void db_end_kept_locks(void); /* of all connections; any thread */

/* 0, or the code of the first FULL, FATAL or NOMEM (or what db_hold_transaction says) since
 * db_clear_trouble. */
int db_trouble(const struct db *db);
const char *db_trouble_text(const struct db *db);
void db_clear_trouble(struct db *db);

/* While set, SQLite asks now and then during a long statement; true ends it with ERR_LIMIT.
 * fn NULL: never. */
void db_set_interrupt(struct db *db, bool (*fn)(void *arg), void *arg);

/* ERR_FATAL: the file, or its -wal or -shm, was deleted or replaced: what this connection reads nobody writes any
 * more. Three stat(2); not for a target. */
int db_check_place(struct db *db, struct err *err) MUST_CHECK;

/* Move the WAL into the file and empty it. Writer only, outside a transaction; ERR_BUSY, without
 * waiting, when a reader is in the way. ERR_FATAL, here and below, also when the file, or its -wal or -shm,
 * isn't in its place any more: what is written to it is lost. */
int db_checkpoint(struct db *db, struct err *err) MUST_CHECK;

/* The same between two transactions of a busy writer: does nothing until the WAL has grown by some
 * megabytes, leaves it its size, and waits for readers (0.1 s at most) only when it grows on. */
int db_checkpoint_due(struct db *db, struct err *err) MUST_CHECK;

/*
 * What a person wanted to have erased must leave the WAL, too, where former versions of pages stay
 * until it is emptied. After this the next db_checkpoint_due empties it: at once, or as soon as a
 * second has passed since it last did; and tries again every second while readers are in the way.
 * Nearly free: call it in the transaction that erases. A WAL that was found at db_open is emptied
 * like that, too.
 */
void db_scrub_wal(struct db *db);

/* Pages in the WAL since it was last emptied or begun anew. Never 0 before the first db_checkpoint,
 * since a crash may have left some. */
int64_t db_wal_pages(const struct db *db);

/* Whether db_checkpoint_due has something to do, now or when a while has passed. */
bool db_wants_checkpoint(const struct db *db);

/* Give cached pages back to the system; they are read again when needed. */
void db_shrink(struct db *db);

const char *db_library_version(void);

/*
 * Prepare the first statement of sql, to be used often. It is an error when anything but white
 * space or a comment follows it.
 */
int stmt_new(struct stmt **out, struct db *db, const char *sql, struct err *err) MUST_CHECK;
void stmt_free(struct stmt *stmt); /* NULL is fine */

/*
 * The same for SQL that a script wrote: it may read everything, and change the rows of the tables
 * that may_write answers true for. No schema, transactions, PRAGMA or ATTACH; ERR_INVALID says
 * what it tried. The rules hold whenever SQLite prepares the statement anew, too.
 */
int stmt_new_guarded(struct stmt **out, struct db *db, const char *sql,
                     bool (*may_write)(const char *table), struct err *err) MUST_CHECK;

/* Reset whatever has given a row and was then left standing: it would be in the way of COMMIT. */
void db_reset_statements(struct db *db);

/*
 * Have that statement run before the next one that writes, whoever's that is (and before any db_exec): a
 * savepoint that is made only when there will be something to undo. first NULL: no more. Answers whether
 * the statement that was set before still waits; if it doesn't, it has run.
 */
bool db_before_writing(struct db *db, struct stmt *first);

/* Parameters are numbered from 1. Binding fails only for lack of memory or a wrong number, which
 * the next stmt_step reports. */
void stmt_bind_null(struct stmt *stmt, int index);
void stmt_bind_int(struct stmt *stmt, int index, int64_t value);
void stmt_bind_real(struct stmt *stmt, int index, double value);
/* text NULL binds NULL. The bytes must stay until the statement is reset (by itself or by you). */
void stmt_bind_text(struct stmt *stmt, int index, const char *text, size_t len);
void stmt_bind_str(struct stmt *stmt, int index, const char *text);

/* 1 with a row, 0 at the end, or an error. At the end and after an error it is reset: parameters
 * are NULL again. */
int stmt_step(struct stmt *stmt, struct err *err) MUST_CHECK;
/* Run to the end, ignoring rows; reset. */
int stmt_run(struct stmt *stmt, struct err *err) MUST_CHECK;
void stmt_reset(struct stmt *stmt); /* bound values are dropped too */

enum stmt_type { STMT_NULL, STMT_INT, STMT_REAL, STMT_TEXT, STMT_BLOB };

int stmt_column_count(const struct stmt *stmt);
const char *stmt_column_name(struct stmt *stmt, int column); /* columns count from 0 */
enum stmt_type stmt_column_type(struct stmt *stmt, int column);
int64_t stmt_int(struct stmt *stmt, int column);
double stmt_real(struct stmt *stmt, int column);
/* NULL for NULL; out_len may be NULL. */
const char *stmt_text(struct stmt *stmt, int column, size_t *out_len);
/* "" for NULL: of a column that has none, except in a damaged file. */
const char *stmt_str(struct stmt *stmt, int column);
int stmt_param_count(const struct stmt *stmt);

/* The type that the column was declared with, NULL for what is no column of a table. */
const char *stmt_column_declared(struct stmt *stmt, int column);
bool stmt_is_readonly(const struct stmt *stmt);

#endif
