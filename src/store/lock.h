/* SPDX-License-Identifier: MIT */
/*
 * lock - one server owns a database.
 *
 * The lock is an flock(2) on "<database>.lock". It goes with the process, however that ends; the
 * file stays. The database's name may be relative, or a symbolic link. The file's text tells who
 * holds it, so that commands find the server that runs:
 *     pid=1234
 *     admin=127.0.0.1:9090
 * A second flock is on the database itself, for that file can be removed, and the database have two
 * names; SQLite's locks are of another kind (fcntl), and don't notice.
 *
 * Threads    main.
 * Ownership  lock_release unlocks and frees; it never removes the file. No connection to the database may
 *            be open any more: closing a file takes away all fcntl locks that the process has on it.
 * Errors     ERR_BUSY names the holder's pid. ERR_IO names the file.
 */
#ifndef STORE_LOCK_H
#define STORE_LOCK_H

#include "base/err.h"

enum { LOCK_ADMIN_MAX = 128 };

struct lock;

struct lock_holder {
    long pid;
    char admin[LOCK_ADMIN_MAX]; /* the admin listener's address; "" when there is none (yet) */
};

int lock_acquire(struct lock **out, const char *db_path, struct err *err) MUST_CHECK;

/* Could this user acquire it, were it free? Takes and makes nothing. */
int lock_check(const char *db_path, struct err *err) MUST_CHECK;

/* Lock the database itself, when it wasn't there yet at lock_acquire. */
int lock_database(struct lock *lock, const char *db_path, struct err *err) MUST_CHECK;

/* Write the admin address into the file, once it is known. */
int lock_describe(struct lock *lock, const char *admin, struct err *err) MUST_CHECK;
void lock_release(struct lock *lock); /* NULL is fine */

/* Who holds it now; pid is 0 while the holder hasn't yet said. ERR_ABSENT when nobody does. Takes
 * nothing: a server that starts at this moment isn't disturbed. */
int lock_peek(const char *db_path, struct lock_holder *out, struct err *err) MUST_CHECK;

#endif
