/* SPDX-License-Identifier: MIT */
/*
 * readers - places from which the database is read: a read-only connection and a Lua state each.
 *
 * GET routes change nothing, so they need not queue for the writer. Whoever has one to answer takes a
 * place, runs the function on a snapshot of the database, and gives the place back:
 *
 *     readers_take --> readers_begin  [ function ]  readers_end --> readers_give_back
 *
 * There are as many places as processors, made when they are first needed; a thread gets the one it had
 * last, if that is idle. Only when somebody has waited READERS_GROW_MS, since functions are slow, more are
 * made, up to READERS_MAX; those beyond the usual number go when nobody waits for them. Where it is the
 * processors that they wait for, and not the disk, more places would only mean that all are slower, and the
 * writer, too: then there are twice as many as processors, and some more each time that nothing comes back for
 * half a second, or longer the more there are: a quick one isn't to wait for many slow ones. Who comes may go
 * before those who wait, who must wake up first; but not before one who has waited READERS_FAIR_MS. While
 * READERS_CROWD wait, whoever else comes waits only READERS_CROWDED_WAIT_MS: the threads that wait are those
 * that all requests come in with.
 *
 * A new script reaches the places before their next use. A snapshot may be of the new schema a moment
 * before the script is swapped: whoever got an error asks readers_is_outdated, which waits for a swap
 * that is about to be (while its COMMIT runs, and READERS_WAIT_MS at most), and runs the function of
 * the new script instead.
 *
 * A snapshot keeps the write-ahead log from being begun anew, and where slow functions overlap without
 * end, so that there is one at every moment, it grows without end. So whoever has answered asks now and
 * then whether that is so (readers_wal_is_stuck), and if it is makes a pause: no snapshot begins until those
 * that are running have ended, and the writer has emptied the log.
 *
 * Threads    any, several at once; a reader belongs to the thread that took it. readers_installing,
 *            _installed: writer. readers_new, _free: main.
 * Ownership  readers keep twins of the script (script.h) and connections of their own.
 * Errors     ERR_BUSY: no place in time; ERR_ABSENT: no script is installed; those of
 *            store/ otherwise.
 */
#ifndef ROUTES_READERS_H
#define ROUTES_READERS_H

#include "base/err.h"
#include "script/script.h"
#include "store/db.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    READERS_MAX = 32,
    READERS_GROW_MS = 20,
    READERS_FAIR_MS = 15,
    READERS_WAIT_MS = 2000,
    READERS_CROWD = 64,
    READERS_CROWDED_WAIT_MS = 100,

    READERS_WAL_MAX = 32 * 1024 * 1024, /* several times what it is when it is begun anew */
    READERS_LOOK_MS = 1000,             /* between two looks at the log */
    READERS_PAUSE_MS = 1500,            /* snapshots have so long to end */
    READERS_MOMENT_MS = 300,            /* then the writer has so long for the log */
    READERS_PAUSES_APART_MS = 5000,
};

struct readers;

struct reader {
    struct db *db;
    struct script *script;
    struct stmt *user; /* current_user.c's; NULL until it is needed */

    /* the pool's own */
    struct readers *readers;
    struct stmt *begin, *end;
    uint64_t edition;      /* of the script */
    pthread_t user_thread; /* whoever took it last */
    struct reader *next;
};

int readers_new(struct readers **out, const char *db_path, struct err *err) MUST_CHECK;
void readers_free(struct readers *readers); /* every place is back; NULL is fine */

/* As many places at most, whatever is waited for; before anybody takes one. Tests need to know. */
void readers_fix_limit(struct readers *readers, size_t most);

void readers_installing(struct readers *readers);
void readers_installed(struct readers *readers, const struct script *script); /* NULL: no swap */

int readers_take(struct readers *readers, struct reader **out, struct err *err) MUST_CHECK;
void readers_give_back(struct readers *readers, struct reader *reader);

int readers_begin(struct reader *reader, struct err *err) MUST_CHECK;
void readers_end(struct reader *reader);

/* Looks at most once in READERS_LOOK_MS, and says so to one caller in READERS_PAUSES_APART_MS. */
bool readers_wal_is_stuck(struct readers *readers);

/* From here on no snapshot begins; returns when those that there are have ended, or READERS_PAUSE_MS have
 * passed. READERS_MOMENT_MS later snapshots begin again, whatever has become of the log. For who was told
 * that it is stuck, and has no place. */
void readers_pause(struct readers *readers);

/* Whether another script has been installed since the reader was taken. */
bool readers_is_outdated(struct readers *readers, const struct reader *reader);

/*
 * The script as it is installed, to be asked about its routes only (it may be asked by many at once).
 * NULL when there is none. To be put back.
 */
struct edition;
struct edition *readers_edition(struct readers *readers, const struct script **out_script);
void readers_put_edition(struct edition *edition); /* NULL is fine */

#endif
