/* SPDX-License-Identifier: MIT */
/*
 * verify - is a database sound? Each problem in words.
 *
 *     file     what SQLite itself finds: damaged pages, indexes that don't fit their tables
 *     rules    rows that refer to rows that aren't there, and what authkitd sees to: no event that
 *              nothing will ever run, no deleted user who is still there, or whose texts are
 *
 * Each question is a read of its own, so that no snapshot is held for longer than the longest takes:
 * a server may be running. The rules hold between any two transactions.
 *
 * Threads    that of the connection.
 * Errors     those of store/db.h, when there is no telling. ERR_LIMIT: the interrupt callback ended it.
 *            What can't be read since the file is damaged is a problem, not an error.
 * Limits     of each kind VERIFY_SHOWN_MAX problems are told, and how many more there are.
 */
#ifndef WORKOS_VERIFY_H
#define WORKOS_VERIFY_H

#include "base/err.h"
#include "store/db.h"

#include <stdint.h>

enum { VERIFY_SHOWN_MAX = 10 };

/* One problem: a line of text. It may have ids in it, which strangers chose. */
typedef void verify_tell_fn(void *arg, const char *problem);

/* out_problems: how many there are, told or not. */
int verify_file(struct db *db, verify_tell_fn *tell, void *arg, int64_t *out_problems,
                struct err *err) MUST_CHECK;

/* version: the file's. Of an older one only the references are looked at. */
int verify_rules(struct db *db, int64_t version, verify_tell_fn *tell, void *arg,
                 int64_t *out_problems, struct err *err) MUST_CHECK;

/* What is in it, for people. */
struct verify_counts {
    int64_t users, events;
};
int verify_count(struct db *db, struct verify_counts *out, struct err *err) MUST_CHECK;

#endif
