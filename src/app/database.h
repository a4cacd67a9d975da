/* SPDX-License-Identifier: MIT */
/*
 * database - the file of --db, looked at before it is opened for good.
 *
 * A file that a newer authkitd has made, or another program, is refused before anything is written to
 * it: opening it for writing would already make a WAL file of it.
 *
 * Threads    main, with no other connection to the file in this process.
 * Errors     those of store/db.h, the file named; ERR_INVALID says what to do.
 */
#ifndef APP_DATABASE_H
#define APP_DATABASE_H

#include "base/err.h"
#include "store/db.h"

#include <stdint.h>

/* Is it there (ERR_ABSENT), and one that we can work with? out_version: 0 when it is empty. */
int database_check(const char *path, int64_t *out_version, struct err *err) MUST_CHECK;

/* For a command that writes, with the lock held. Absent, empty or older is fine: then it must call
 * tables_migrate. */
int database_open_writer(struct db **out, const char *path, struct err *err) MUST_CHECK;

/* For a command that only looks. An older file is refused unless out_version isn't NULL; an empty one
 * always. */
int database_open_reader(struct db **out, const char *path, int64_t *out_version, struct err *err)
    MUST_CHECK;

#endif
