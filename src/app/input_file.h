/* SPDX-License-Identifier: MIT */
/*
 * input_file - a file of settings, or of a secret, read whole.
 *
 * It may be a pipe: --env-file <(decrypt secrets), /dev/stdin. One that somebody writes into is waited for, for
 * however long a passphrase takes; one that nobody does is refused after two seconds, for nobody may ever come.
 *
 * Threads    main.
 * Ownership  the bytes are appended to a buffer of the caller's, whose ceiling is the most that is read. They
 *            may be secrets, also after an error: the caller wipes them.
 * Errors     ERR_IO, ERR_INVALID (too large, or nobody writes into it) name the file.
 */
#ifndef APP_INPUT_FILE_H
#define APP_INPUT_FILE_H

#include "base/buf.h"
#include "base/err.h"

int input_file_read(const char *path, struct buf *out, struct err *err) MUST_CHECK;

#endif
