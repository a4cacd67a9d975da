/* SPDX-License-Identifier: MIT */
/*
 * err - what went wrong, in words, carried by the caller.
 *
 * A fallible function returns 0 or a negative ERR_* and fills the caller's struct err. The lowest
 * level that knows words the error, in one line that names the thing at fault; levels above may
 * put something before it (err_prefix) and never replace it. Rooms return errors; app/ and thread
 * mains log them, once.
 *
 * Threads    any: a struct err belongs to whoever declared it.
 * Ownership  fixed size, nothing to release.
 * Limits     text is cut at ERR_TEXT_MAX - 1 bytes, on a character boundary.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/compiler.h"

enum err_code {
    ERR_NOMEM = -1,    /* memory ran out */
    ERR_IO = -2,       /* a file or socket failed */
    ERR_BUSY = -3,     /* a bounded queue is full, or somebody else holds it: try again later */
    ERR_FULL = -4,     /* the disk is full: try again when there is room */
    ERR_FATAL = -5,    /* the storage can't be trusted any more: stop the process */
    ERR_INVALID = -6,  /* the input is wrong; the text says where */
    ERR_CONFLICT = -7, /* a database constraint refused the row */
    ERR_LIMIT = -8,    /* a budget of time or memory is used up */
    ERR_SCRIPT = -9,   /* a script's function raised an error */
    ERR_CLOSED = -10,  /* it is stopping, or has stopped */
    ERR_ABSENT = -11,  /* what was asked for isn't there */
};

enum { ERR_TEXT_MAX = 2048 };

struct err {
    int code; /* 0 or an ERR_* */
    char text[ERR_TEXT_MAX];
};

/* Fill err (which may be NULL) and return code, so that callers can "return err_set(…)". */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same, with ": <strerror(errno)>" at the end. */
int err_errno(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put words before the text that is there already; returns err->code. */
int err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
